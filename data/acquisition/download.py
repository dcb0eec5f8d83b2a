"""The two raw files over https: with limits of time, size and redirects, with progress and checksums."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import requests
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from urllib3.exceptions import HTTPError

from data.acquisition.raw_tables import FILES
from data.acquisition.redirects import MAX_REDIRECTS, next_address, recorded
from data.cli.console import console, info
from data.errors import SourceError
from data.storage.files import sha256

SUMS_FILE = "SHA256SUMS"
MAX_SUMS_BYTES = 64 * 2**10
"""Bytes that a list of checksums may have."""
MAX_SOURCE_BYTES = 20 * 2**30
"""Bytes that a source may have in all, unless a parameter says otherwise."""

DOWNLOAD_SECONDS = 120.0
"""How long a download may take in all."""

_CONNECT_SECONDS, _READ_SECONDS = 5, 15
_CHUNK_BYTES = 1 << 16
# A body that is to be unpacked may have any size; what is sent is what is kept.
_HEADERS = {"Accept-Encoding": "identity"}
_REDIRECTS = {301, 302, 303, 307, 308}


class UnreachableError(SourceError):
    """An address did not answer."""


def download(
    base: str, folder: Path, expected: Mapping[str, str] | None = None, *, max_bytes: int = MAX_SOURCE_BYTES
) -> dict[str, list[str]]:
    """Download both files below an address into a folder.

    Parameters
    ----------
    base : str
        ``https://`` address of the folder that holds the files.
    folder : pathlib.Path
        Where they go.
    expected : mapping of str to str, optional
        SHA-256 by file name; where None, those of the file ``SHA256SUMS`` beside them, if there is one.
    max_bytes : int
        Bytes that both files may have together.

    Returns
    -------
    dict of str to list of str
        By file, the addresses that it was redirected to; secrets in them are masked.

    Raises
    ------
    UnreachableError
        If the address does not answer, or not with the files, within two minutes in all, however slowly it sends.
    SourceError
        If a checksum is wrong, a file is too large, or a redirect leads where none may; see
        `data.acquisition.redirects`.
    """
    base = base.rstrip("/")
    info("Downloading", f"{' and '.join(FILES)} from {base}")
    work = _Download(base, folder, expected, max_bytes)
    # The limits of sockets are per packet: a server that sends a byte now and then would have all the time there is.
    thread = threading.Thread(target=work.run, daemon=True)
    thread.start()
    thread.join(DOWNLOAD_SECONDS)
    if thread.is_alive():
        work.stop()
        message = f"{base} took longer than {DOWNLOAD_SECONDS:g} s."
        raise UnreachableError(message)
    if work.error is not None:
        raise work.error
    verify_checksums(folder, work.expected)
    return {name: hops for name, hops in work.hops.items() if hops}


def verify_checksums(folder: Path, expected: Mapping[str, str]) -> None:
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


def parse_checksums(content: bytes) -> dict[str, str]:
    """Checksums by file name, from what ``sha256sum`` writes.

    Raises
    ------
    SourceError
        If it names neither of the two files: an unread list must not pass for a check.

    Examples
    --------
    >>> parse_checksums(b"3A17  ./dataset_kobe_dev.parquet")
    {'dataset_kobe_dev.parquet': '3a17'}
    """
    pairs = (line.split(maxsplit=1) for line in content.decode(errors="replace").splitlines() if line.strip())
    sums = {PurePosixPath(pair[1].strip().lstrip("*")).name: pair[0].lower() for pair in pairs if len(pair) > 1}
    if not sums.keys() & set(FILES):
        message = f"{SUMS_FILE} names neither {' nor '.join(FILES)}. Write it with sha256sum, or remove it."
        raise SourceError(message)
    return sums


@dataclass
class _Download:
    """Both files, in a thread of its own.

    Attributes
    ----------
    expected : mapping of str to str
        SHA-256 by file name.
    hops : dict of str to list of str
        Addresses that each file was redirected to.
    error : Exception, optional
        What it ended with.
    """

    base: str
    folder: Path
    given: Mapping[str, str] | None
    left: int
    expected: Mapping[str, str] = field(default_factory=dict)
    hops: dict[str, list[str]] = field(default_factory=dict)
    error: Exception | None = None
    _stopped: threading.Event = field(default_factory=threading.Event)
    _response: requests.Response | None = None

    def run(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        try:
            with (
                requests.Session() as session,
                Progress(*columns, console=console, disable=not console.is_terminal) as progress,
            ):
                self.expected = self._download_sums(session) if self.given is None else self.given
                for name in FILES:
                    self._download_file(session, name, progress)
        except Exception as error:  # noqa: BLE001 raised by the thread that waits
            self.error = error

    def stop(self) -> None:
        """Let the thread end; nobody waits for it."""
        self._stopped.set()
        # An answer that is read to its end, or that has not begun, has nothing to shut down.
        with suppress(ValueError, RuntimeError, OSError):
            if self._response is not None:
                self._response.raw.shutdown()

    def _download_sums(self, session: requests.Session) -> dict[str, str]:
        with self._answer(session, SUMS_FILE) as response:
            if response.status_code == requests.codes.not_found:
                return {}
            _require_file(response, "a file, or 404")
            content = b""
            for chunk in self._chunks(response):
                content += chunk
                require_size(SUMS_FILE, len(content), MAX_SUMS_BYTES)
        return parse_checksums(content)

    def _download_file(self, session: requests.Session, name: str, progress: Progress) -> None:
        with self._answer(session, name) as response:
            _require_file(response, "a file")
            said = response.headers.get("Content-Length", "")
            size = int(said) if said.isascii() and said.isdecimal() else None
            require_size(name, size or 0, self.left)
            task = progress.add_task(name, total=size)
            received = 0
            with (self.folder / name).open("wb") as file:
                for chunk in self._chunks(response):
                    received += len(chunk)
                    require_size(name, received, self.left)
                    file.write(chunk)
                    progress.advance(task, len(chunk))
            self.left -= received

    @contextmanager
    def _answer(self, session: requests.Session, name: str) -> Iterator[requests.Response]:
        """The answer that redirects end at."""
        url = start = f"{self.base}/{name}"
        hops = self.hops.setdefault(name, [])
        while True:
            with self._get(session, url) as response:
                if response.status_code not in _REDIRECTS:
                    yield response
                    return
                if len(hops) == MAX_REDIRECTS:
                    message = f"{start} redirects more than {MAX_REDIRECTS} times; expected a file."
                    raise SourceError(message)
                url = next_address(start, url, response.headers.get("Location", ""))
                hops.append(recorded(url))

    def _get(self, session: requests.Session, url: str) -> requests.Response:
        try:
            self._response = session.get(
                url, headers=_HEADERS, stream=True, allow_redirects=False, timeout=(_CONNECT_SECONDS, _READ_SECONDS)
            )
        except (requests.RequestException, HTTPError, ValueError) as error:
            message = f"{recorded(url)} does not answer ({type(error).__name__})."
            raise UnreachableError(message) from error
        return self._response

    def _chunks(self, response: requests.Response) -> Iterator[bytes]:
        try:
            while chunk := response.raw.read(_CHUNK_BYTES, decode_content=False):
                if self._stopped.is_set():
                    return
                yield chunk
        except (OSError, HTTPError, ValueError) as error:
            message = f"{recorded(response.url)} broke off ({type(error).__name__})."
            raise UnreachableError(message) from error


def _require_file(response: requests.Response, expected: str) -> None:
    address = recorded(response.url)
    if response.status_code != requests.codes.ok:
        message = f"{address} answered {response.status_code} {response.reason}; expected {expected}."
        raise UnreachableError(message)
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding.strip().lower() != "identity":
        message = (
            f"{address} answered in the encoding {encoding!r}, which was not asked for; expected the file as it is."
        )
        raise SourceError(message)


def require_size(name: str, found: int, limit: int) -> None:
    """Refuse what is too large.

    Raises
    ------
    SourceError
        Says what the limit is, and which parameter moves it.
    """
    if found > limit:
        moved = "" if limit == MAX_SUMS_BYTES else " A larger source needs a larger max_source_bytes."
        message = f"{name}: expected at most {limit:,} bytes; found more.{moved}"
        raise SourceError(message)
