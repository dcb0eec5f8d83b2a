"""Raw files: from a folder, one table split by ``shot_type``, a web address, the public repository, or the simulator.

`acquire` puts two checked tables, each a Parquet file or a folder of Parquet files, and ``source.json`` into
``data/raw``. Everything is staged beside its target and checked there first: a source that is refused leaves
``data/raw`` as it was.
"""

import re
from pathlib import Path
from urllib.parse import urlsplit

from data.acquisition.download import (
    MAX_SOURCE_BYTES,
    MAX_SUMS_BYTES,
    SUMS_FILE,
    UnreachableError,
    download,
    parse_checksums,
    require_size,
    verify_checksums,
)
from data.acquisition.provenance import (
    PUBLIC_ADDRESS,
    PUBLIC_SHA256,
    IncompleteAcquisitionError,
    Provenance,
    install_files,
    read_provenance,
)
from data.acquisition.raw_tables import FILES, RawTable, split_table, validate_pair, write_split
from data.cli.console import info
from data.cli.progress import progress_bar
from data.errors import FileError, SchemaError, SourceError
from data.paths import RAW
from data.simulation import synthetic
from data.storage.files import display_path, parquet_files, sha256, translate_disk_full
from data.storage.regular_files import copy_regular, kind_found, open_regular, regular_size
from data.storage.staging import staging

_EXPECTED = (
    "auto, synthetic, an https:// address, a folder with the two Parquet files, one CSV or Parquet file, "
    "or one folder of Parquet files"
)
_HIGHEST_PORT = 65_535
_HOST = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")
_PART_PATTERNS = ("*.parquet", "*=*/**/*.parquet")
"""Where a folder that is one table has its parts: in itself, or in folders of partitions."""


def validate_source(source: str) -> str:
    """Say at once whether a source can be meant at all, before any work.

    Parameters
    ----------
    source : str
        ``auto``, ``synthetic``, an ``https://`` address, a folder, or a CSV or Parquet file.

    Returns
    -------
    str
        The same source.

    Raises
    ------
    ValueError
        If it is none of these, or the folder or file is not there.
    """
    if source in {"auto", "synthetic"}:
        return source
    if source.startswith("https://"):
        return validate_url(source)
    if "://" in source:
        message = f"expected {_EXPECTED}; found an address of {source.partition('://')[0]}://"
        raise ValueError(message)
    try:
        path = Path(source).expanduser()
        exists, is_folder = path.exists(), path.is_dir()
        missing = [name for name in FILES if is_folder and not (path / name).exists()]
        is_table = (
            len(missing) == len(FILES)
            and is_folder
            and any(found for pattern in _PART_PATTERNS for found in path.glob(pattern))
        )
    except (OSError, RuntimeError) as error:
        message = f"expected {_EXPECTED}; found {source!r} ({error})"
        raise ValueError(message) from error
    if not exists:
        message = f"expected {_EXPECTED}; found {source!r}, and there is no such file or folder ({path.absolute()})"
        raise ValueError(message)
    if missing and not is_table:
        message = f"expected a folder that holds {' and '.join(FILES)}; {source!r} lacks {' and '.join(missing)}"
        raise ValueError(message)
    if not is_folder and path.suffix.lower() not in {".csv", ".parquet"}:
        message = f"expected {_EXPECTED}; found the file {source!r}"
        raise ValueError(message)
    if not is_folder and not path.is_file():
        message = f"expected {_EXPECTED}; found {source!r}, which is {kind_found(path)}"
        raise ValueError(message)
    return source


def validate_url(address: str, example: str = "https://example.org/folder") -> str:
    """Refuse what is no address of the web, and one with a user, a password or a query: it would be kept in runs.

    Parameters
    ----------
    address : str
    example : str
        What a message names as an address that can be.

    Raises
    ------
    ValueError
        What is wrong with it, without repeating a secret.
    """
    if "@" in address or "?" in address or "#" in address:
        message = (
            f"expected an address without user, password, query or fragment, such as {example}; found one with such. "
            "Credentials belong into ~/.netrc, which is read; `mlflow run` keeps what it is given, so delete its run"
        )
        raise ValueError(message)
    scheme, separator, _ = address.partition("://")
    if not separator or scheme.lower() not in {"http", "https"}:
        found = f"{scheme}://" if separator else repr(address)
        message = f"expected an address that starts with http:// or https://, such as {example}; found {found}"
        raise ValueError(message)
    host = _host(address, example)
    if not host:
        message = f"expected an address with a host, such as {example}; found none after {scheme}://"
        raise ValueError(message)
    if not _can_be_a_host(host):
        message = f"expected an address with a host that can be, such as {example}; found the host {host!r}"
        raise ValueError(message)
    return address


def _host(address: str, example: str) -> str:
    try:
        found = urlsplit(address)
    except ValueError as error:
        message = f"expected an address such as {example}; found one that cannot be read ({error})"
        raise ValueError(message) from error
    _, colon, port = found.netloc.rpartition("]")[2].partition(":")
    is_number = port.isascii() and port.isdecimal()
    if colon and not (is_number and 1 <= int(port) <= _HIGHEST_PORT):
        # What is no number may be a password whose @ was forgotten: it is not repeated.
        message = (
            f"expected an address with a port from 1 to {_HIGHEST_PORT}, such as {example}; "
            f"found {port if is_number else 'what is no number'}"
        )
        raise ValueError(message)
    return found.hostname or ""


def _can_be_a_host(host: str) -> bool:
    if ":" in host:
        # Within brackets: `urlsplit` has read it as an IPv6 address.
        return True
    try:
        return bool(_HOST.fullmatch(host.encode("idna").decode("ascii")))
    except UnicodeError:
        return False


def acquire(  # noqa: PLR0913 what a source is made of
    source: str,
    *,
    rows: int,
    seed: int,
    raw: Path = RAW,
    public_address: str = PUBLIC_ADDRESS,
    max_bytes: int = MAX_SOURCE_BYTES,
) -> Provenance:
    """Fill ``data/raw`` with checked files.

    Parameters
    ----------
    source : str
        See `validate_source`. ``auto`` keeps valid files that are there, else downloads the public ones, else, when
        they cannot be reached, simulates.
    rows, seed : int
        Size and seed of a simulation.
    raw : pathlib.Path
        Where the files go.
    public_address : str
        Where ``auto`` downloads from.
    max_bytes : int
        Bytes that a source may have in all.

    Returns
    -------
    Provenance
        What is in `raw` now.

    Raises
    ------
    SourceError, SchemaError
        Names the file that is refused and why; `raw` stays as it was.
    DiskFullError
        If there is no room; `raw` stays as it was.
    """
    raw.mkdir(parents=True, exist_ok=True)
    with translate_disk_full(raw):
        if source == "auto":
            return _acquire_automatically(raw, public_address, rows, seed, max_bytes)
        with staging(raw, raw.name) as stage:
            filled = _fill(stage, source, rows, seed, max_bytes)
            validate_pair(stage)
            return install_files(filled, stage, raw)


def _acquire_automatically(raw: Path, public_address: str, rows: int, seed: int, max_bytes: int) -> Provenance:
    kept = _kept(raw)
    if kept and not kept.is_synthetic:
        return kept
    with staging(raw, raw.name) as stage:
        try:
            redirects = download(public_address, stage, PUBLIC_SHA256, max_bytes=max_bytes)
            filled = Provenance("public", public_address, redirects=redirects)
        except UnreachableError as error:
            info("The public files cannot be reached:", error, style="yellow")
            if kept and kept.address == synthetic.name(rows, seed):
                return kept
            filled = _fill(stage, "synthetic", rows, seed, max_bytes)
        validate_pair(stage)
        if kept is None:
            _set_aside(raw)
        return install_files(filled, stage, raw)


def _kept(raw: Path) -> Provenance | None:
    present = [name for name in FILES if (raw / name).exists()]
    if len(present) < len(FILES):
        if present:
            info(f"{display_path(raw)} holds only", present[0], style="yellow")
        return None
    try:
        validate_pair(raw)
    except (SourceError, SchemaError) as error:
        info(f"{display_path(raw)} is refused:", error, style="yellow")
        return None
    try:
        return read_provenance(raw)
    except IncompleteAcquisitionError as error:
        info(f"{display_path(raw)} is refused:", error, style="yellow")
        return None


def _fill(stage: Path, source: str, rows: int, seed: int, max_bytes: int) -> Provenance:
    if source == "synthetic":
        with progress_bar("simulating", rows) as advance:
            write_split(synthetic.marked(rows, seed, advance), stage)
        return Provenance("synthetic", synthetic.name(rows, seed))
    if source.startswith("https://"):
        return Provenance("address", source, redirects=download(source, stage, max_bytes=max_bytes))
    path = Path(source).expanduser().absolute()
    if path.is_dir() and all((path / name).exists() for name in FILES):
        _require_size(path, [path / name for name in FILES], max_bytes)
        for name in FILES:
            if (path / name).is_dir():
                # A part that cannot be read is named as it is called there.
                RawTable(path / name)
        for name in FILES:
            _copy(path / name, stage / name)
        if SUMS_FILE in {each.name for each in path.iterdir()}:
            verify_checksums(stage, parse_checksums(_sums(path / SUMS_FILE)))
        return Provenance("folder", str(path))
    _require_size(path, [path], max_bytes)
    split_table(path, stage)
    return Provenance("table", str(path))


def _require_size(source: Path, tables: list[Path], limit: int) -> None:
    """Refuse what is no regular file, and a source whose files are too large together."""
    try:
        sizes = [
            regular_size(file) for table in tables for file in (parquet_files(table) if table.is_dir() else [table])
        ]
    except FileError as error:
        raise SourceError(str(error)) from error
    require_size(str(source), sum(sizes), limit)


def _sums(path: Path) -> bytes:
    with open_regular(path) as file:
        content = file.read(MAX_SUMS_BYTES + 1)
    require_size(SUMS_FILE, len(content), MAX_SUMS_BYTES)
    return content


def _copy(source: Path, target: Path) -> None:
    if not source.is_dir():
        copy_regular(source, target)
        return
    target.mkdir()
    for part in parquet_files(source):
        copied = target / part.relative_to(source)
        copied.parent.mkdir(parents=True, exist_ok=True)
        copy_regular(part, copied)


def _set_aside(raw: Path) -> None:
    for name in FILES:
        path = raw / name
        if path.exists() and sha256(path) != PUBLIC_SHA256[name]:
            numbers = (number for number in range(1, 1_000_000) if not (raw / f"{name}.refused-{number}").exists())
            aside = raw / f"{name}.refused-{next(numbers)}"
            path.replace(aside)
            info("Kept the old file as", display_path(aside), style="yellow")
