"""Safe reading of the regular files that a user names: without blocking, and up to their size at opening.

A FIFO blocks, a device such as ``/dev/zero`` has no end, and a file that another process is writing is incomplete. The
file type is that of the open descriptor, not of the path, which may change in between.
"""

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from data.errors import FileError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BUFFER_BYTES = 1 << 20
_FILE_TYPES = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class _State(NamedTuple):
    """Size and modification time, which change when a file is written to."""

    size: int
    changed: int


class _StableFile(io.RawIOBase):
    """A regular file that raises at its end if it changed since it was opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = io.FileIO(_open(path), closefd=True)
        self._before = _state(self._file.fileno())
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        target = memoryview(buffer)[: self._before.size - self._read]
        count = self._file.readinto(target) or 0
        self._read += count
        if not count and memoryview(buffer):
            self._check()
        return count

    def close(self) -> None:
        self._file.close()
        super().close()

    def _check(self) -> None:
        if _state(self._file.fileno()) != self._before or self._read != self._before.size:
            message = (
                f"{self._path}: expected a file that no process writes to; it changed while it was read. Wait until "
                "it is complete, and run the command again."
            )
            raise FileError(message)


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file for reading.

    Raises
    ------
    FileError
        If the path is not a regular file or cannot be opened, or, during reading, if the file changes.
    """
    return io.BufferedReader(_StableFile(path), _BUFFER_BYTES)


@contextmanager
def open_native(path: Path) -> Iterator[pa.NativeFile]:
    """Open a regular file for Arrow.

    Raises
    ------
    FileError
        If the path is not a regular file, or cannot be opened.
    """
    descriptor = _open(path)
    try:
        # Opened by descriptor, because the path may refer to another file by now.
        opened = pa.OSFile(f"/dev/fd/{descriptor}")
    finally:
        os.close(descriptor)
    with opened:
        yield opened


def regular_size(path: Path) -> int:
    """Size of a regular file, bytes.

    Raises
    ------
    FileError
        If the path is not a regular file, or cannot be opened.
    """
    descriptor = _open(path)
    try:
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def copy_regular(source: Path, target: Path) -> None:
    """Copy a regular file.

    Raises
    ------
    FileError
        If `source` is not a regular file, changes during the copy, or cannot be opened.
    """
    with open_regular(source) as file, target.open("wb") as copy:
        while block := file.read(_BUFFER_BYTES):
            copy.write(block)


def found_file_type(path: Path) -> str:
    """Describe the file type at a path.

    Examples
    --------
    >>> found_file_type(Path("/dev/null")), found_file_type(Path("/")), found_file_type(Path("/nowhere"))
    ('a device', 'a folder', 'nothing')
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "a broken link" if path.is_symlink() else "nothing"
    except OSError as error:
        return error.strerror or type(error).__name__
    return _file_type(mode)


def _open(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise FileError(_not_regular(path, found_file_type(path))) from error
        raise FileError.of(error, path) from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise FileError(_not_regular(path, _file_type(mode)))
    return descriptor


def _file_type(mode: int) -> str:
    return next((name for is_kind, name in _FILE_TYPES if is_kind(mode)), "a file")


def _not_regular(path: Path, kind: str) -> str:
    return f"{path}: expected a regular file; found {kind}. Name a file that contains the table."


def _state(descriptor: int) -> _State:
    found = os.fstat(descriptor)
    return _State(found.st_size, found.st_mtime_ns)
