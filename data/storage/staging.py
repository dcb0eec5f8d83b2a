"""Hidden folders for incomplete files. Each has one writer and is removed after its writer ends."""

import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LOCK_FILE = ".held"
_NAME = re.compile(r"\..*\.[0-9a-f]{32}\.partial", re.DOTALL)
_NAME_SHOWN = 50


@contextmanager
def staging(parent: Path, name: str) -> Iterator[Path]:
    """Create a hidden folder of this writer, which no other process removes while this process runs.

    Parameters
    ----------
    parent : pathlib.Path
        Existing folder, on the disk of the target.
    name : str
        Name of the staged content, visible in the folder's name.

    Yields
    ------
    pathlib.Path
        The folder. It is removed at the end, with its remaining content.
    """
    folder, descriptor = _new(parent, name)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def clear_leftovers(parent: Path) -> None:
    """Remove the folders of `staging` below `parent` whose writers ended.

    A writer holds a lock in its folder, which the operating system releases when the writer ends. Other folders stay,
    and so do folders that cannot be locked.
    """
    for root, folders, _ in os.walk(parent):
        staged = [name for name in folders if _NAME.fullmatch(name)]
        folders[:] = [name for name in folders if name not in staged]
        for name in staged:
            _clear(Path(root) / name)


def _new(parent: Path, name: str) -> tuple[Path, int]:
    while True:
        folder = parent / f".{name[:_NAME_SHOWN]}.{uuid.uuid4().hex}.partial"
        folder.mkdir()
        # Another process may remove a folder before it is locked as a leftover. Then a folder with a new name is
        # created.
        with suppress(FileNotFoundError):
            descriptor = _open(folder)
            if _lock_own(folder, descriptor):
                return folder, descriptor
            os.close(descriptor)


def _lock_own(folder: Path, descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # A disk without locks. No process removes the folder there, because none can lock it.
        return True
    try:
        return os.path.samestat(os.fstat(descriptor), (folder / _LOCK_FILE).stat())
    except FileNotFoundError:
        return False


def _clear(folder: Path) -> None:
    # Skip a folder of another user, and one that was just removed.
    with suppress(OSError):
        if not (folder / _LOCK_FILE).exists():
            # Its writer ended, or is, between creating and locking it: remove it only if it is empty.
            folder.rmdir()
            return
        descriptor = _open(folder)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        finally:
            os.close(descriptor)


def _open(folder: Path) -> int:
    # Network disks need write access for locks.
    return os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
