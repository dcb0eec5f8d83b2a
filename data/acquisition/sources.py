"""Sources of raw files: a folder, one table that is split, a URL, the source of the dataset, or the simulation.

`acquire` writes two validated tables, each a Parquet file or a folder of Parquet files, and ``source.json`` to
``data/raw``. All files are staged and validated first, so an invalid source leaves ``data/raw`` unchanged.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
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
    IncompleteAcquisitionError,
    Provenance,
    install_files,
    read_provenance,
)
from data.acquisition.raw_shots import validate_pair
from data.acquisition.raw_tables import RawTable, write_split, write_whole_chunks
from data.acquisition.source_table import convert_table, split_table
from data.cli.console import info
from data.cli.progress import progress_bar
from data.datasets import Dataset, current, default, raw_folder
from data.errors import FileError, SchemaError, SourceError, TableError
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


def validate_source(source: str, dataset: Dataset | None = None) -> str:
    """Validate a source before any work.

    Parameters
    ----------
    source : str
        ``auto``, ``synthetic``, an ``https://`` URL, a folder, a file, or a table of a database.
    dataset : Dataset, optional
        By default that of this process.

    Returns
    -------
    str
        The unchanged source.

    Raises
    ------
    ValueError
        If the source is none of these, or the folder or file does not exist.
    """
    dataset = dataset or current()
    files = dataset.raw_tables
    if source in {"auto", "synthetic"}:
        if source == "synthetic" and not is_simulated(dataset):
            raise ValueError(_no_simulation(dataset))
        return source
    if source.startswith("https://"):
        return validate_url(source)
    if is_url(source):
        return validate_location(source)
    try:
        path = Path(source).expanduser()
        # The path of an empty text is the folder of this process.
        exists, is_folder = bool(source) and path.exists(), path.is_dir()
        missing = [name for name in files if is_folder and not (path / name).exists()]
        is_table = len(missing) == len(files) and is_folder and bool(parts_of(path))
    except (OSError, RuntimeError) as error:
        message = f"expected {_EXPECTED}; found {source!r} ({error})"
        raise ValueError(message) from error
    if not exists:
        message = f"expected {_EXPECTED}; found {source!r}, no such file or folder ({path.absolute()})"
        raise ValueError(message)
    if missing and not is_table:
        message = f"expected a folder that contains {' and '.join(files)}; {source!r} lacks {' and '.join(missing)}"
        raise ValueError(message)
    if not is_folder and not path.is_file():
        message = f"expected {_EXPECTED}; found {source!r}, which is {found_file_type(path)}"
        raise ValueError(message)
    if not is_folder and path.suffix.lower() not in {".csv", ".parquet"}:
        _validate_content(path, dataset)
    return source


def is_simulated(dataset: Dataset) -> bool:
    """Whether the simulation of shots has the columns of a dataset."""
    return {column.raw_name for column in dataset.required} <= set(synthetic.COLUMNS)


def _no_simulation(dataset: Dataset) -> str:
    missing = [column.raw_name for column in dataset.required if column.raw_name not in synthetic.COLUMNS]
    return (
        f"expected another source than the simulation, which has no {', '.join(missing[:10])} of the dataset "
        f"{dataset.name}; it simulates shots. Give a table: source=FILE"
    )


def _validate_content(path: Path, dataset: Dataset) -> None:
    """Raise unless a file of any name contains a table."""
    try:
        is_shots = content_of(path) != "text" or any(is_known(name, dataset) for name in csv_text.inspect(path).names)
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
    raw: Path | None = None,
    public_url: str = "",
    max_bytes: int = MAX_SOURCE_BYTES,
    dataset: Dataset | None = None,
) -> Provenance:
    """Fill ``data/raw`` with validated files.

    Parameters
    ----------
    source : str
        See `validate_source`. ``auto`` keeps existing valid files, otherwise downloads those of the dataset, and
        simulates if these cannot be reached.
    rows, seed : int
        Size and seed of a simulation.
    raw : pathlib.Path, optional
        Target folder; by default that of the dataset.
    public_url : str
        URL that ``auto`` downloads from; empty for that of the dataset.
    max_bytes : int
        Maximum size of a source, bytes.
    dataset : Dataset, optional
        By default that of this process.

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
    dataset = dataset or current()
    raw = raw or raw_folder(dataset)
    raw.mkdir(parents=True, exist_ok=True)
    fill = _Filling(dataset, rows, seed, max_bytes)
    with translate_disk_full(raw):
        if source == "auto":
            return _acquire_automatically(raw, public_url, fill)
        with staging(raw, raw.name) as stage:
            filled = _fill(stage, source, fill)
            validate_pair(stage, dataset)
            return install_files(filled, stage, raw, dataset)


@dataclass(frozen=True)
class _Filling:
    """What a folder is filled with; see `acquire`."""

    dataset: Dataset
    rows: int
    seed: int
    max_bytes: int


def _acquire_automatically(raw: Path, public_url: str, fill: _Filling) -> Provenance:
    dataset = fill.dataset
    existing = _existing(raw, dataset)
    if existing and not existing.is_synthetic:
        return existing
    if dataset.source is None:
        message = (
            f"expected a source: {display_path(raw)} holds no valid tables of the dataset {dataset.name}, whose "
            "description names no [source]. Give the table: -P source=TABLE"
        )
        raise SourceError(message)
    url = public_url or dataset.source.url
    with staging(raw, raw.name) as stage:
        try:
            filled = Provenance("public", url, redirects=_download(url, stage, fill, _checksums(dataset)))
        except UnreachableError as error:
            info("The public files cannot be reached:", error, style="yellow")
            if existing and existing.location == synthetic.name(fill.rows, fill.seed):
                return existing
            if not is_simulated(dataset):
                raise
            filled = _fill(stage, "synthetic", fill)
        validate_pair(stage, dataset)
        if existing is None:
            _rename_invalid(raw, dataset)
        return install_files(filled, stage, raw, dataset)


def _checksums(dataset: Dataset) -> dict[str, str]:
    """Checksums of the files of the source of a dataset, by name."""
    if dataset.source is None or dataset.source == default().source:
        return dict(PUBLIC_SHA256)
    return {file.name: file.sha256 for file in dataset.source.files}


def _download(
    url: str, stage: Path, fill: _Filling, checksums: Mapping[str, str] | None = None
) -> dict[str, list[str]]:
    """Download the raw tables, or the parts of one table, which is split."""
    dataset = fill.dataset
    files = [file.name for file in dataset.source.files] if dataset.source else list(dataset.raw_tables)
    if set(dataset.raw_tables) <= set(files):
        return download(url, stage, checksums, files=dataset.raw_tables, max_bytes=fill.max_bytes)
    with staging(stage, "parts") as parts:
        redirects = download(url, parts, checksums, files=files, max_bytes=fill.max_bytes)
        split_table(parts, stage, url, dataset)
    return redirects


def _existing(raw: Path, dataset: Dataset) -> Provenance | None:
    files = dataset.raw_tables
    present = [name for name in files if (raw / name).exists()]
    if len(present) < len(files):
        if present:
            info(f"{display_path(raw)} contains only", present[0], style="yellow")
        return None
    try:
        validate_pair(raw, dataset)
    except (SourceError, SchemaError) as error:
        info(f"{display_path(raw)} is invalid:", error, style="yellow")
        return None
    try:
        return read_provenance(raw, dataset)
    except IncompleteAcquisitionError as error:
        info(f"{display_path(raw)} is invalid:", error, style="yellow")
        return None


def _simulate(stage: Path, fill: _Filling) -> None:
    dataset = fill.dataset
    if not is_simulated(dataset):
        raise SourceError(_no_simulation(dataset))
    with progress_bar("simulating", fill.rows) as advance:
        chunks = synthetic.marked(fill.rows, fill.seed, advance)
        if dataset.development.values and dataset.production.values:
            write_split(chunks, stage, dataset)
            return
        with staging(stage, "whole") as folder:
            write_whole_chunks(chunks, folder / "whole.parquet")
            split_table(folder / "whole.parquet", stage, "the simulation", dataset)


def _fill(stage: Path, source: str, fill: _Filling) -> Provenance:
    dataset, max_bytes = fill.dataset, fill.max_bytes
    files = dataset.raw_tables
    if source == "synthetic":
        _simulate(stage, fill)
        return Provenance("synthetic", synthetic.name(fill.rows, fill.seed))
    if source.startswith("https://"):
        return Provenance("url", source, redirects=_download(source, stage, fill))
    path = Path(source).expanduser().absolute()
    if path.is_dir() and all((path / name).exists() for name in files):
        _require_size(path, [path / name for name in files], max_bytes)
        for name in files:
            if (path / name).is_dir():
                # Opening the table reports an unreadable part by its original path.
                RawTable(path / name, dataset=dataset)
        for name in files:
            _copy(path / name, stage / name)
        if SUMS_FILE in {each.name for each in path.iterdir()}:
            verify_checksums(stage, parse_checksums(_read_checksums(path / SUMS_FILE), files), files)
        rows = 0
        for name in files:
            rows += convert_table(stage / name, name, dataset, rows)
        return Provenance("folder", str(path))
    location = source if is_url(source) else str(path)
    if not is_url(source):
        _require_size(path, [path], max_bytes)
    with _translate_table_errors(), local_table(location, max_bytes=max_bytes) as table:
        split_table(table, stage, display_location(location) if is_url(source) else path.name, dataset)
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


def _rename_invalid(raw: Path, dataset: Dataset) -> None:
    known = _checksums(dataset)
    for name in dataset.raw_tables:
        path = raw / name
        if path.exists() and sha256(path) != known.get(name):
            numbers = (number for number in range(1, 1_000_000) if not (raw / f"{name}.refused-{number}").exists())
            renamed = raw / f"{name}.refused-{next(numbers)}"
            path.replace(renamed)
            info("Renamed the invalid file to", display_path(renamed), style="yellow")
