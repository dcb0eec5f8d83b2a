"""Sources of raw files: a folder, one table split by ``shot_type``, a URL, the public repository, or the simulation.

`acquire` writes two validated tables, each a Parquet file or a folder of Parquet files, and ``source.json`` to
``data/raw``. All files are staged and validated first, so an invalid source leaves ``data/raw`` unchanged.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
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
    PUBLIC_SHA256,
    PUBLIC_URL,
    IncompleteAcquisitionError,
    Provenance,
    install_files,
    read_provenance,
)
from data.acquisition.raw_shots import validate_pair
from data.acquisition.raw_tables import FILES, RawTable, write_split
from data.acquisition.source_table import convert_table, split_table
from data.cli.console import info
from data.cli.progress import progress_bar
from data.errors import FileError, SchemaError, SourceError, TableError
from data.paths import RAW
from data.simulation import synthetic
from data.storage import csv_text
from data.storage.column_names import is_known
from data.storage.content import content_of
from data.storage.files import display_path, parquet_files, parts_of, sha256, translate_disk_full
from data.storage.locations import display_location, is_url, local_table, validate_location
from data.storage.regular_files import copy_regular, found_file_type, open_regular, regular_size
from data.storage.staging import staging

_EXPECTED = (
    "auto, synthetic, an https:// URL, a folder with the two Parquet files, one CSV or Parquet file, "
    "one folder of Parquet files, or a table of a database (postgresql://user@host/database?table=shots)"
)
_MAX_PORT = 65_535
_HOST = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")


def validate_source(source: str) -> str:
    """Validate a source before any work.

    Parameters
    ----------
    source : str
        ``auto``, ``synthetic``, an ``https://`` URL, a folder, a file, or a table of a database.

    Returns
    -------
    str
        The unchanged source.

    Raises
    ------
    ValueError
        If the source is none of these, or the folder or file does not exist.
    """
    if source in {"auto", "synthetic"}:
        return source
    if source.startswith("https://"):
        return validate_url(source)
    if is_url(source):
        return validate_location(source)
    try:
        path = Path(source).expanduser()
        exists, is_folder = path.exists(), path.is_dir()
        missing = [name for name in FILES if is_folder and not (path / name).exists()]
        is_table = len(missing) == len(FILES) and is_folder and bool(parts_of(path))
    except (OSError, RuntimeError) as error:
        message = f"expected {_EXPECTED}; found {source!r} ({error})"
        raise ValueError(message) from error
    if not exists:
        message = f"expected {_EXPECTED}; found {source!r}, no such file or folder ({path.absolute()})"
        raise ValueError(message)
    if missing and not is_table:
        message = f"expected a folder that contains {' and '.join(FILES)}; {source!r} lacks {' and '.join(missing)}"
        raise ValueError(message)
    if not is_folder and not path.is_file():
        message = f"expected {_EXPECTED}; found {source!r}, which is {found_file_type(path)}"
        raise ValueError(message)
    if not is_folder and path.suffix.lower() not in {".csv", ".parquet"}:
        _validate_content(path)
    return source


def _validate_content(path: Path) -> None:
    """Raise unless a file of any name contains a table."""
    try:
        is_shots = content_of(path) != "text" or any(map(is_known, csv_text.inspect(path).names))
    except (TableError, FileError) as error:
        raise ValueError(str(error)) from error
    if not is_shots:
        message = f"expected {_EXPECTED}; found the file {str(path)!r}"
        raise ValueError(message)


def validate_url(url: str, example: str = "https://example.org/folder") -> str:
    """Validate a web URL without user, password and query, which runs would store.

    Parameters
    ----------
    url : str
    example : str
        A valid URL for the message.

    Raises
    ------
    ValueError
        If the URL is invalid. The message repeats no secret.
    """
    if "@" in url or "?" in url or "#" in url:
        message = (
            f"expected a URL without user, password, query or fragment, such as {example}; found one with them. "
            "Store credentials in ~/.netrc. `mlflow run` logs its parameters, so delete its run"
        )
        raise ValueError(message)
    scheme, separator, _ = url.partition("://")
    if not separator or scheme.lower() not in {"http", "https"}:
        found = f"{scheme}://" if separator else repr(url)
        message = f"expected a URL that starts with http:// or https://, such as {example}; found {found}"
        raise ValueError(message)
    host = _host(url, example)
    if not host:
        message = f"expected a URL with a host, such as {example}; found none after {scheme}://"
        raise ValueError(message)
    if not _is_valid_host(host):
        message = f"expected a URL with a valid host, such as {example}; found the host {host!r}"
        raise ValueError(message)
    return url


def _host(url: str, example: str) -> str:
    try:
        found = urlsplit(url)
    except ValueError as error:
        message = f"expected a URL such as {example}; found an invalid one ({error})"
        raise ValueError(message) from error
    _, colon, port = found.netloc.rpartition("]")[2].partition(":")
    is_number = port.isascii() and port.isdecimal()
    if colon and not (is_number and 1 <= int(port) <= _MAX_PORT):
        # A port that is not an integer may be a password without its @, so it is not repeated.
        message = (
            f"expected a URL with a port from 1 to {_MAX_PORT}, such as {example}; "
            f"found {port if is_number else 'no integer'}"
        )
        raise ValueError(message)
    return found.hostname or ""


def _is_valid_host(host: str) -> bool:
    if ":" in host:
        # Within brackets: `urlsplit` parsed it as an IPv6 address.
        return True
    try:
        return bool(_HOST.fullmatch(host.encode("idna").decode("ascii")))
    except UnicodeError:
        return False


def acquire(  # noqa: PLR0913 the parameters of a source
    source: str,
    *,
    rows: int,
    seed: int,
    raw: Path = RAW,
    public_url: str = PUBLIC_URL,
    max_bytes: int = MAX_SOURCE_BYTES,
) -> Provenance:
    """Fill ``data/raw`` with validated files.

    Parameters
    ----------
    source : str
        See `validate_source`. ``auto`` keeps existing valid files, otherwise downloads the public ones, and simulates
        if these cannot be reached.
    rows, seed : int
        Size and seed of a simulation.
    raw : pathlib.Path
        Target folder.
    public_url : str
        URL that ``auto`` downloads from.
    max_bytes : int
        Maximum size of a source, bytes.

    Returns
    -------
    Provenance
        Provenance of the files in `raw`.

    Raises
    ------
    SourceError, SchemaError
        If a file is invalid; `raw` is unchanged.
    DiskFullError
        If the disk is full; `raw` is unchanged.
    """
    raw.mkdir(parents=True, exist_ok=True)
    with translate_disk_full(raw):
        if source == "auto":
            return _acquire_automatically(raw, public_url, rows, seed, max_bytes)
        with staging(raw, raw.name) as stage:
            filled = _fill(stage, source, rows, seed, max_bytes)
            validate_pair(stage)
            return install_files(filled, stage, raw)


def _acquire_automatically(raw: Path, public_url: str, rows: int, seed: int, max_bytes: int) -> Provenance:
    existing = _existing(raw)
    if existing and not existing.is_synthetic:
        return existing
    with staging(raw, raw.name) as stage:
        try:
            redirects = download(public_url, stage, PUBLIC_SHA256, max_bytes=max_bytes)
            filled = Provenance("public", public_url, redirects=redirects)
        except UnreachableError as error:
            info("The public files cannot be reached:", error, style="yellow")
            if existing and existing.location == synthetic.name(rows, seed):
                return existing
            filled = _fill(stage, "synthetic", rows, seed, max_bytes)
        validate_pair(stage)
        if existing is None:
            _rename_invalid(raw)
        return install_files(filled, stage, raw)


def _existing(raw: Path) -> Provenance | None:
    present = [name for name in FILES if (raw / name).exists()]
    if len(present) < len(FILES):
        if present:
            info(f"{display_path(raw)} contains only", present[0], style="yellow")
        return None
    try:
        validate_pair(raw)
    except (SourceError, SchemaError) as error:
        info(f"{display_path(raw)} is invalid:", error, style="yellow")
        return None
    try:
        return read_provenance(raw)
    except IncompleteAcquisitionError as error:
        info(f"{display_path(raw)} is invalid:", error, style="yellow")
        return None


def _fill(stage: Path, source: str, rows: int, seed: int, max_bytes: int) -> Provenance:
    if source == "synthetic":
        with progress_bar("simulating", rows) as advance:
            write_split(synthetic.marked(rows, seed, advance), stage)
        return Provenance("synthetic", synthetic.name(rows, seed))
    if source.startswith("https://"):
        return Provenance("url", source, redirects=download(source, stage, max_bytes=max_bytes))
    path = Path(source).expanduser().absolute()
    if path.is_dir() and all((path / name).exists() for name in FILES):
        _require_size(path, [path / name for name in FILES], max_bytes)
        for name in FILES:
            if (path / name).is_dir():
                # Opening the table reports an unreadable part by its original path.
                RawTable(path / name)
        for name in FILES:
            _copy(path / name, stage / name)
        if SUMS_FILE in {each.name for each in path.iterdir()}:
            verify_checksums(stage, parse_checksums(_read_checksums(path / SUMS_FILE)))
        for name in FILES:
            convert_table(stage / name, name)
        return Provenance("folder", str(path))
    location = source if is_url(source) else str(path)
    if not is_url(source):
        _require_size(path, [path], max_bytes)
    with _translate_table_errors(), local_table(location, max_bytes=max_bytes) as table:
        split_table(table, stage, display_location(location) if is_url(source) else path.name)
    return Provenance("table", display_location(location))


@contextmanager
def _translate_table_errors() -> Iterator[None]:
    try:
        yield
    except TableError as error:
        raise SourceError(str(error)) from error


def _require_size(source: Path, tables: list[Path], max_bytes: int) -> None:
    """Raise unless all files are regular files within the maximum size."""
    try:
        sizes = [regular_size(file) for table in tables for file in (parts_of(table) if table.is_dir() else [table])]
    except FileError as error:
        raise SourceError(str(error)) from error
    require_size(str(source), sum(sizes), max_bytes)


def _read_checksums(path: Path) -> bytes:
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


def _rename_invalid(raw: Path) -> None:
    for name in FILES:
        path = raw / name
        if path.exists() and sha256(path) != PUBLIC_SHA256[name]:
            numbers = (number for number in range(1, 1_000_000) if not (raw / f"{name}.refused-{number}").exists())
            renamed = raw / f"{name}.refused-{next(numbers)}"
            path.replace(renamed)
            info("Renamed the invalid file to", display_path(renamed), style="yellow")
