"""Regular files that a person names: opened without waiting, and read to the end that they had when they were opened.

A FIFO would be waited for, a device such as ``/dev/zero`` has no end, and a file that another process still writes is
not whole. What is opened is what was looked at: the kind is asked of the open file, not of its name.
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
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class _State(NamedTuple):
    """What shows that a file is written to."""

    size: int
    changed: int


class _Whole(io.RawIOBase):
    """A regular file as it was when it was opened; one that has changed when its end is reached is an error."""

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
                f"{self._path}: expected a file that nobody writes to; it changed while it was read. Wait until it is "
                "whole, and run this again."
            )
            raise FileError(message)


def open_regular(path: Path) -> io.BufferedReader:
    """A regular file, to be read as it is now.

    Raises
    ------
    FileError
        If it is something else than a file, or the system does not open it; while it is read, if it changes meanwhile.
    """
    return io.BufferedReader(_Whole(path), _BUFFER_BYTES)


@contextmanager
def open_native(path: Path) -> Iterator[pa.NativeFile]:
    """A regular file as Arrow reads it by itself.

    Raises
    ------
    FileError
        If it is something else than a file, or the system does not open it.
    """
    descriptor = _open(path)
    try:
        # By its descriptor: the name may mean another file by now.
        opened = pa.OSFile(f"/dev/fd/{descriptor}")
    finally:
        os.close(descriptor)
    with opened:
        yield opened


def regular_size(path: Path) -> int:
    """Bytes of a regular file.

    Raises
    ------
    FileError
        If it is something else than a file, or the system does not open it.
    """
    descriptor = _open(path)
    try:
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def copy_regular(source: Path, target: Path) -> None:
    """Copy a file.

    Raises
    ------
    FileError
        If `source` is something else than a file, changes while it is copied, or the system does not open it.
    """
    with open_regular(source) as file, target.open("wb") as copy:
        while block := file.read(_BUFFER_BYTES):
            copy.write(block)


def kind_found(path: Path) -> str:
    """What there is of this name, in words.

    Examples
    --------
    >>> kind_found(Path("/dev/null")), kind_found(Path("/")), kind_found(Path("/nowhere"))
    ('a device', 'a folder', 'nothing')
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "a link that leads nowhere" if path.is_symlink() else "nothing"
    except OSError as error:
        return error.strerror or type(error).__name__
    return _kind(mode)


def _open(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise FileError(_not_regular(path, kind_found(path))) from error
        raise FileError.of(error, path) from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise FileError(_not_regular(path, _kind(mode)))
    return descriptor


def _kind(mode: int) -> str:
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "a file")


def _not_regular(path: Path, kind: str) -> str:
    return f"{path}: expected a regular file; found {kind}. Name a file that holds the table."


def _state(descriptor: int) -> _State:
    found = os.fstat(descriptor)
    return _State(found.st_size, found.st_mtime_ns)
