"""Download of the two raw files over https, with limits on time, size and redirects, progress bar and checksums."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import requests
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from urllib3.exceptions import HTTPError

from data.acquisition.raw_tables import FILES
from data.acquisition.redirects import MAX_REDIRECTS, masked_url, next_url
from data.cli.console import console, info
from data.errors import SourceError
from data.storage.files import sha256

SUMS_FILE = "SHA256SUMS"
MAX_SUMS_BYTES = 64 * 2**10
"""Maximum size of a list of checksums, bytes."""
MAX_SOURCE_BYTES = 20 * 2**30
"""Default maximum size of a source, bytes."""

DOWNLOAD_SECONDS = 120.0
"""Maximum duration of a download."""

_CONNECT_SECONDS, _READ_SECONDS = 5, 15
_CHUNK_BYTES = 1 << 16
# A compressed body may unpack to any size, so the server is to send the files uncompressed.
_HEADERS = {"Accept-Encoding": "identity"}
_REDIRECTS = {301, 302, 303, 307, 308}


class UnreachableError(SourceError):
    """A URL gave no response."""


def download(
    base: str,
    folder: Path,
    expected: Mapping[str, str] | None = None,
    *,
    files: Sequence[str] = FILES,
    max_bytes: int = MAX_SOURCE_BYTES,
) -> dict[str, list[str]]:
    """Download the files below a URL into a folder.

    Parameters
    ----------
    base : str
        ``https://`` URL of the folder that contains the files.
    folder : pathlib.Path
        Target folder.
    expected : mapping of str to str, optional
        SHA-256 by file name. None reads the file ``SHA256SUMS`` below the same URL, if there is one.
    files : sequence of str
        Names of the files.
    max_bytes : int
        Maximum size of the files together, bytes.

    Returns
    -------
    dict of str to list of str
        By file, the URLs of its redirects, with secrets masked.

    Raises
    ------
    UnreachableError
        If the URL does not deliver the files within two minutes.
    SourceError
        If a checksum is wrong, a file is too large, or a redirect is not allowed; see `data.acquisition.redirects`.
    """
    base = base.rstrip("/")
    info("Downloading", f"{' and '.join(files)} from {base}")
    work = _Download(base, folder, expected, max_bytes, files)
    # A socket's timeout is per packet. The deadline also stops a server that sends one byte at a time.
    thread = threading.Thread(target=work.run, daemon=True)
    thread.start()
    thread.join(DOWNLOAD_SECONDS)
    if thread.is_alive():
        work.stop()
        message = f"{base} took longer than {DOWNLOAD_SECONDS:g} s."
        raise UnreachableError(message)
    if work.error is not None:
        raise work.error
    verify_checksums(folder, work.expected, files)
    return {name: hops for name, hops in work.hops.items() if hops}


def verify_checksums(folder: Path, expected: Mapping[str, str], files: Sequence[str] = FILES) -> None:
    """Compare the files of a folder with their checksums. A file without a checksum is skipped.

    Raises
    ------
    SourceError
        Names the file whose checksum is wrong.
    """
    for name in files:
        wanted = expected.get(name)
        if wanted and (found := sha256(folder / name)) != wanted:
            message = f"{name}: wrong checksum; expected sha256 {wanted}, found {found}."
            raise SourceError(message)


def parse_checksums(content: bytes, files: Sequence[str] = FILES) -> dict[str, str]:
    """Parse checksums by file name from the output of ``sha256sum``.

    Raises
    ------
    SourceError
        If the list names none of the files.

    Examples
    --------
    >>> parse_checksums(b"3A17  ./dataset_kobe_dev.parquet")
    {'dataset_kobe_dev.parquet': '3a17'}
    """
    pairs = (line.split(maxsplit=1) for line in content.decode(errors="replace").splitlines() if line.strip())
    sums = {PurePosixPath(pair[1].strip().lstrip("*")).name: pair[0].lower() for pair in pairs if len(pair) > 1}
    if not sums.keys() & set(files):
        message = f"{SUMS_FILE} names neither {' nor '.join(files)}. Write it with sha256sum, or remove it."
        raise SourceError(message)
    return sums


@dataclass
class _Download:
    """The download of the files, in its own thread.

    Attributes
    ----------
    expected : mapping of str to str
        SHA-256 by file name.
    hops : dict of str to list of str
        URLs of the redirects of each file.
    error : Exception, optional
        The exception that ended the download.
    """

    base: str
    folder: Path
    given: Mapping[str, str] | None
    left: int
    files: Sequence[str] = FILES
    expected: Mapping[str, str] = field(default_factory=dict)
    hops: dict[str, list[str]] = field(default_factory=dict)
    error: Exception | None = None
    _canceled: threading.Event = field(default_factory=threading.Event)
    _response: requests.Response | None = None

    def run(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        try:
            with (
                requests.Session() as session,
                Progress(*columns, console=console, disable=not console.is_terminal) as progress,
            ):
                self.expected = self._download_sums(session) if self.given is None else self.given
                for name in self.files:
                    self._download_file(session, name, progress)
        except Exception as error:  # noqa: BLE001 re-raised by the waiting thread
            self.error = error

    def stop(self) -> None:
        """Stop the download without waiting for its thread."""
        self._canceled.set()
        # A response that is complete, or has not started, has no connection to shut down.
        with suppress(ValueError, RuntimeError, OSError):
            if self._response is not None:
                self._response.raw.shutdown()

    def _download_sums(self, session: requests.Session) -> dict[str, str]:
        with self._response_of(session, SUMS_FILE) as response:
            if response.status_code == requests.codes.not_found:
                return {}
            _require_file(response, "a file, or 404")
            content = b""
            for chunk in self._chunks(response):
                content += chunk
                require_size(SUMS_FILE, len(content), MAX_SUMS_BYTES)
        return parse_checksums(content, self.files)

    def _download_file(self, session: requests.Session, name: str, progress: Progress) -> None:
        with self._response_of(session, name) as response:
            _require_file(response, "a file")
            content_length = response.headers.get("Content-Length", "")
            size = int(content_length) if content_length.isascii() and content_length.isdecimal() else None
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
    def _response_of(self, session: requests.Session, name: str) -> Iterator[requests.Response]:
        """Follow the redirects of a file and yield the final response."""
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
                url = next_url(start, url, response.headers.get("Location", ""))
                hops.append(masked_url(url))

    def _get(self, session: requests.Session, url: str) -> requests.Response:
        try:
            self._response = session.get(
                url, headers=_HEADERS, stream=True, allow_redirects=False, timeout=(_CONNECT_SECONDS, _READ_SECONDS)
            )
        except (requests.RequestException, HTTPError, ValueError) as error:
            message = f"{masked_url(url)} did not respond ({type(error).__name__})."
            raise UnreachableError(message) from error
        return self._response

    def _chunks(self, response: requests.Response) -> Iterator[bytes]:
        try:
            while chunk := response.raw.read(_CHUNK_BYTES, decode_content=False):
                if self._canceled.is_set():
                    return
                yield chunk
        except (OSError, HTTPError, ValueError) as error:
            message = f"{masked_url(response.url)} closed the connection ({type(error).__name__})."
            raise UnreachableError(message) from error


def _require_file(response: requests.Response, expected: str) -> None:
    url = masked_url(response.url)
    if response.status_code != requests.codes.ok:
        message = f"{url} responded {response.status_code} {response.reason}; expected {expected}."
        raise UnreachableError(message)
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding.strip().lower() != "identity":
        message = f"{url} responded in the encoding {encoding!r}; expected the file without encoding."
        raise SourceError(message)


def require_size(name: str, found: int, limit: int) -> None:
    """Raise if a size exceeds its maximum.

    Raises
    ------
    SourceError
        States the maximum and the parameter that raises it.
    """
    if found > limit:
        advice = "" if limit == MAX_SUMS_BYTES else " A larger source needs a larger max_source_bytes."
        message = f"{name}: expected at most {limit:,} bytes; found more.{advice}"
        raise SourceError(message)
