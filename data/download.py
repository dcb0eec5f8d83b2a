"""The two raw files over https: with time limits, progress and checksums."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import requests
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from data.console import console, say
from data.errors import SourceError
from data.files import sha256
from data.raw_tables import FILES

SUMS_FILE = "SHA256SUMS"

_CONNECT_SECONDS, _READ_SECONDS, _DOWNLOAD_SECONDS = 5, 15, 120
_CHUNK_BYTES = 1 << 16


class UnreachableError(SourceError):
    """An address did not answer."""


def download(base: str, folder: Path, expected: Mapping[str, str] | None = None) -> None:
    """Download both files below an address into a folder.

    Parameters
    ----------
    base : str
        ``https://`` address of the folder that holds the files.
    folder : pathlib.Path
        Where they go.
    expected : mapping of str to str, optional
        SHA-256 by file name; where None, those of the file ``SHA256SUMS`` beside them, if there is one.

    Raises
    ------
    UnreachableError
        If the address does not answer, or not with the files, within two minutes.
    SourceError
        If a checksum is wrong.
    """
    base = base.rstrip("/")
    say("Downloading", f"{' and '.join(FILES)} from {base}")
    deadline = time.monotonic() + _DOWNLOAD_SECONDS
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with (
        requests.Session() as session,
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
    ):
        if expected is None:
            expected = _download_sums(session, base)
        for name in FILES:
            _download_file(session, f"{base}/{name}", folder / name, progress, deadline)
    check_sums(folder, expected)


def check_sums(folder: Path, expected: Mapping[str, str]) -> None:
    """Compare both files of a folder with their checksums; a file without one is not checked.

    Raises
    ------
    SourceError
        Names the file whose checksum is wrong.
    """
    for name in FILES:
        wanted = expected.get(name)
        if wanted and (found := sha256(folder / name)) != wanted:
            message = f"{name}: wrong checksum; expected sha256 {wanted}, found {found}."
            raise SourceError(message)


def parse_sums(content: bytes) -> dict[str, str]:
    """Checksums by file name, from what ``sha256sum`` writes.

    Raises
    ------
    SourceError
        If it names neither of the two files: an unread list must not pass for a check.

    Examples
    --------
    >>> parse_sums(b"3A17  ./dataset_kobe_dev.parquet")
    {'dataset_kobe_dev.parquet': '3a17'}
    """
    pairs = (line.split(maxsplit=1) for line in content.decode(errors="replace").splitlines() if line.strip())
    sums = {PurePosixPath(pair[1].strip().lstrip("*")).name: pair[0].lower() for pair in pairs if len(pair) > 1}
    if not sums.keys() & set(FILES):
        message = f"{SUMS_FILE} names neither {' nor '.join(FILES)}. Write it with sha256sum, or remove it."
        raise SourceError(message)
    return sums


def _download_sums(session: requests.Session, base: str) -> dict[str, str]:
    with _answer(session, f"{base}/{SUMS_FILE}") as response:
        if response.status_code == requests.codes.not_found:
            return {}
        return parse_sums(_content(response))


def _download_file(session: requests.Session, url: str, target: Path, progress: Progress, deadline: float) -> None:
    with _answer(session, url) as response, target.open("wb") as file:
        size = response.headers.get("Content-Length")
        task = progress.add_task(target.name, total=int(size) if size else None)
        for chunk in _chunks(response):
            file.write(chunk)
            progress.advance(task, len(chunk))
            if time.monotonic() > deadline:
                message = f"{url} took longer than {_DOWNLOAD_SECONDS} s."
                raise UnreachableError(message)


@contextmanager
def _answer(session: requests.Session, url: str) -> Iterator[requests.Response]:
    try:
        response = session.get(url, stream=True, timeout=(_CONNECT_SECONDS, _READ_SECONDS))
    except requests.RequestException as error:
        message = f"{url} does not answer ({type(error).__name__})."
        raise UnreachableError(message) from error
    with response:
        if not response.ok and not url.endswith(SUMS_FILE):
            message = f"{url} answered {response.status_code} {response.reason}; expected a file."
            raise UnreachableError(message)
        yield response


def _content(response: requests.Response) -> bytes:
    if not response.ok:
        message = f"{response.url} answered {response.status_code} {response.reason}; expected a file, or 404."
        raise UnreachableError(message)
    return b"".join(_chunks(response))


def _chunks(response: requests.Response) -> Iterator[bytes]:
    try:
        yield from response.iter_content(_CHUNK_BYTES)
    except requests.RequestException as error:
        message = f"{response.url} broke off ({type(error).__name__})."
        raise UnreachableError(message) from error
