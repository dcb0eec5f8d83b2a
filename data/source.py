"""Raw files: from a folder, one table split by ``shot_type``, a web address, the public repository, or the simulator.

`acquire` puts two checked Parquet files and ``source.json`` into ``data/raw``. Everything is staged beside its target
and checked there first: a source that is refused leaves ``data/raw`` as it was.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import pandas as pd
import pyarrow as pa
import requests
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from data import synthetic
from data.console import console, say
from data.errors import SchemaError, SourceError
from data.files import RAW, sha256, shown, write_parquet, write_text
from data.schema import THREE_POINTS, TWO_POINTS, check_raw

DEV_FILE = "dataset_kobe_dev.parquet"
PROD_FILE = "dataset_kobe_prod.parquet"
FILES = (DEV_FILE, PROD_FILE)

PUBLIC_ADDRESS = "https://raw.githubusercontent.com/tciodaro/eng_ml/main/data"
PUBLIC_SHA256 = {
    DEV_FILE: "3a177adbf7e4ef40cb770940a3aa52ee4880372352d4cf676a94a2d274a36b07",
    PROD_FILE: "98e4a0c2ed17d350f84fd356bfdcce9b707e931ec37909999489a3d36cf9d05e",
}
"""The files of the public repository as they were when this project was made."""

Kind = Literal["public", "folder", "table", "address", "synthetic", "unknown"]

_RECORD = "source.json"
_SUMS = "SHA256SUMS"
_CONNECT_SECONDS, _READ_SECONDS, _DOWNLOAD_SECONDS = 5, 15, 120
_CHUNK_BYTES = 1 << 16
_NOT_FOUND = 404


class UnreachableError(SourceError):
    """An address did not answer."""


@dataclass(frozen=True)
class Provenance:
    """Where the files of ``data/raw`` come from.

    Attributes
    ----------
    kind : str
        One of `Kind`; ``public`` means that the bytes are those of the public files.
    address : str
        Folder, file or web address, or the seed and size of the simulation; no credentials.
    sha256 : dict of str to str
        SHA-256 of each file by its name.
    """

    kind: Kind
    address: str
    sha256: dict[str, str] = field(default_factory=dict)

    @property
    def is_synthetic(self) -> bool:
        """Whether the shots were simulated."""
        return self.kind == "synthetic"


def check_source(source: str) -> str:
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
    if source in {"auto", "synthetic"} or source.startswith("https://"):
        return source
    path = Path(source).expanduser()
    expected = "auto, synthetic, an https:// address, a folder with the two Parquet files, or one CSV or Parquet file"
    if not path.exists():
        message = (
            f"expected {expected}; found {source!r}, and there is no such file or folder (looked at {path.absolute()})"
        )
        raise ValueError(message)
    if path.is_dir():
        missing = [name for name in FILES if not (path / name).is_file()]
        if missing:
            message = f"expected a folder that holds {' and '.join(FILES)}; {source!r} lacks {' and '.join(missing)}"
            raise ValueError(message)
    elif path.suffix.lower() not in {".csv", ".parquet"}:
        message = f"expected {expected}; found the file {source!r}"
        raise ValueError(message)
    return source


def acquire(source: str, *, rows: int, seed: int, raw: Path = RAW, public_address: str = PUBLIC_ADDRESS) -> Provenance:
    """Fill ``data/raw`` with checked files.

    Parameters
    ----------
    source : str
        See `check_source`. ``auto`` keeps valid files that are there, else downloads the public ones, else, when they
        cannot be reached, simulates.
    rows, seed : int
        Size and seed of a simulation.
    raw : pathlib.Path
        Where the files go.
    public_address : str
        Where ``auto`` downloads from.

    Returns
    -------
    Provenance
        What is in `raw` now.

    Raises
    ------
    SourceError, SchemaError
        Names the file that is refused and why; `raw` stays as it was.
    """
    raw.mkdir(parents=True, exist_ok=True)
    if source == "auto":
        return _acquire_automatically(raw, public_address, rows, seed)
    with _staging(raw) as stage:
        return _commit(_fill(stage, source, rows, seed), stage, raw)


def read_provenance(raw: Path = RAW) -> Provenance:
    """What `acquire` recorded about the files of `raw`.

    Raises
    ------
    SourceError
        If files are missing, or are not those that were acquired.
    """
    missing = [name for name in FILES if not (raw / name).is_file()]
    if missing:
        message = f"{shown(raw)} lacks {' and '.join(missing)}. Fill it first: mlflow run . -e aquisicao"
        raise SourceError(message)
    return _existing(raw)


def _acquire_automatically(raw: Path, public_address: str, rows: int, seed: int) -> Provenance:
    kept = None
    if all((raw / name).is_file() for name in FILES):
        try:
            kept = _existing(raw)
            for name in FILES:
                read_checked(raw / name)
        except (SourceError, SchemaError) as error:
            say(f"{shown(raw)} is refused:", error, style="yellow")
            kept = None
    if kept and not kept.is_synthetic:
        return kept
    with _staging(raw) as stage:
        try:
            _download(public_address, stage, PUBLIC_SHA256)
            found = Provenance("public", public_address)
        except UnreachableError as error:
            say("The public files cannot be reached:", error, style="yellow")
            if kept:
                return kept
            found = _fill(stage, "synthetic", rows, seed)
        if kept is None:
            _set_aside(raw)
        return _commit(found, stage, raw)


def _fill(stage: Path, source: str, rows: int, seed: int) -> Provenance:
    if source == "synthetic":
        _split(synthetic.shots(rows, seed), "the simulation", stage)
        return Provenance("synthetic", f"rows={rows} seed={seed}")
    if source.startswith("https://"):
        _download(source, stage, None)
        return Provenance("address", _without_credentials(source))
    path = Path(source).expanduser().resolve()
    if path.is_dir():
        _copy(path, stage)
        return Provenance("folder", str(path))
    _split(_read_table(path), path.name, stage)
    return Provenance("table", str(path))


def _commit(found: Provenance, stage: Path, raw: Path) -> Provenance:
    hashes = {name: sha256(stage / name) for name in FILES}
    if hashes == PUBLIC_SHA256:
        found = Provenance("public", found.address)
    found = Provenance(found.kind, found.address, hashes)
    # The record goes first: a kill between the renames leaves hashes that do not match, which the next run notices.
    write_text(json.dumps(asdict(found), indent=2) + "\n", raw / _RECORD)
    for name in FILES:
        (stage / name).replace(raw / name)
    return found


def _existing(raw: Path) -> Provenance:
    hashes = {name: sha256(raw / name) for name in FILES}
    if hashes == PUBLIC_SHA256:
        return Provenance("public", PUBLIC_ADDRESS, hashes)
    record = raw / _RECORD
    if not record.is_file():
        return Provenance("unknown", str(raw), hashes)
    try:
        recorded = Provenance(**json.loads(record.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        message = f"{shown(record)} cannot be read ({error}). Delete it, or acquire the files again."
        raise SourceError(message) from error
    changed = [name for name in FILES if hashes[name] != recorded.sha256.get(name)]
    if changed:
        message = (
            f"{' and '.join(changed)} in {shown(raw)}: wrong checksum; expected what was acquired from "
            f"{recorded.address}. Acquire again, or delete {_RECORD} if the new files are meant."
        )
        raise SourceError(message)
    return recorded


def read_checked(path: Path) -> pd.DataFrame:
    """Read a raw Parquet file and check it against the schema.

    Raises
    ------
    SourceError
        If the file is not whole, or has no rows.
    SchemaError
        If the table breaks the schema.
    """
    table = _read_parquet(path)
    if table.empty:
        message = f"{path.name} holds no rows; expected shots."
        raise SourceError(message)
    check_raw(table, path.name)
    return table


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (pa.ArrowException, OSError) as error:
        message = (
            f"{path.name} is not a whole Parquet file: it is truncated or of another format ({_first_line(error)})."
        )
        raise SourceError(message) from error


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        message = f"{path.name} is not a CSV file in UTF-8 with one header line ({_first_line(error)})."
        raise SourceError(message) from error


def _read_table(path: Path) -> pd.DataFrame:
    table = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
    return table.rename(columns={"lng": "lon"}) if "lon" not in table else table


def _split(table: pd.DataFrame, name: str, stage: Path) -> None:
    check_raw(table, name, also_required=["shot_type"])
    for file, points in ((DEV_FILE, TWO_POINTS), (PROD_FILE, THREE_POINTS)):
        part = table[table["shot_type"] == points]
        if part.empty:
            message = (
                f"{name} holds no rows with shot_type {points!r}; expected both {TWO_POINTS!r} and {THREE_POINTS!r}."
            )
            raise SourceError(message)
        write_parquet(part.reset_index(drop=True), stage / file)


def _copy(folder: Path, stage: Path) -> None:
    sums = folder / _SUMS
    expected = _parse_sums(sums.read_text(encoding="utf-8")) if sums.is_file() else {}
    for name in FILES:
        shutil.copyfile(folder / name, stage / name)
        _check_file(stage / name, expected)


def _download(base: str, stage: Path, expected: Mapping[str, str] | None) -> None:
    base = base.rstrip("/")
    say("Downloading", f"{' and '.join(FILES)} from {_without_credentials(base)}")
    deadline = time.monotonic() + _DOWNLOAD_SECONDS
    with requests.Session() as session:
        if expected is None:
            expected = _download_sums(session, base)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            for name in FILES:
                _download_file(session, f"{base}/{name}", stage / name, progress, deadline)
    for name in FILES:
        _check_file(stage / name, expected)


def _download_sums(session: requests.Session, base: str) -> dict[str, str]:
    with _answer(session, f"{base}/{_SUMS}") as response:
        return {} if response.status_code == _NOT_FOUND else _parse_sums(response.text)


def _download_file(session: requests.Session, url: str, target: Path, progress: Progress, deadline: float) -> None:
    with _answer(session, url) as response, target.open("wb") as file:
        if not response.ok:
            message = f"{_without_credentials(url)} answered {response.status_code} {response.reason}; expected a file."
            raise UnreachableError(message)
        size = response.headers.get("Content-Length")
        task = progress.add_task(target.name, total=int(size) if size else None)
        try:
            for chunk in response.iter_content(_CHUNK_BYTES):
                file.write(chunk)
                progress.advance(task, len(chunk))
                if time.monotonic() > deadline:
                    message = f"{_without_credentials(url)} took longer than {_DOWNLOAD_SECONDS} s."
                    raise UnreachableError(message)
        except requests.RequestException as error:
            message = f"{_without_credentials(url)} broke off ({type(error).__name__})."
            raise UnreachableError(message) from error


@contextmanager
def _answer(session: requests.Session, url: str) -> Iterator[requests.Response]:
    try:
        response = session.get(url, stream=True, timeout=(_CONNECT_SECONDS, _READ_SECONDS))
    except requests.RequestException as error:
        message = f"{_without_credentials(url)} does not answer ({type(error).__name__})."
        raise UnreachableError(message) from error
    with response:
        yield response


def _check_file(path: Path, expected: Mapping[str, str]) -> None:
    wanted = expected.get(path.name)
    if wanted and (found := sha256(path)) != wanted:
        message = f"{path.name}: wrong checksum; expected sha256 {wanted}, found {found}."
        raise SourceError(message)
    read_checked(path)


def _parse_sums(text: str) -> dict[str, str]:
    pairs = (line.split(maxsplit=1) for line in text.splitlines() if line.strip())
    return {pair[1].lstrip("*").strip(): pair[0].lower() for pair in pairs if len(pair) > 1}


def _set_aside(raw: Path) -> None:
    for name in FILES:
        path = raw / name
        if path.is_file():
            aside = path.with_name(f"{name}.refused")
            path.replace(aside)
            say("Kept the old file as", shown(aside), style="yellow")


@contextmanager
def _staging(raw: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=raw, prefix=".", suffix=".partial") as folder:
        yield Path(folder)


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
