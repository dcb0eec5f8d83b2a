"""Temporary folders of a process: removed when it ends, or by the next process if it was killed."""

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data.storage.locks import open_private


def user_folder() -> Path | None:
    """Return this user's private folder in the temporary folder; None if another user owns that name."""
    base = Path(tempfile.gettempdir()) / _name()
    with contextlib.suppress(FileExistsError):
        base.mkdir(mode=0o700)
    found = base.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        return None
    base.chmod(0o700)
    return base


def _name() -> str:
    return f"kobe_shot_{os.getuid()}"


@contextmanager
def scratch(name: str) -> Iterator[Path]:
    """Create a private folder and remove it when the block ends.

    Folders of the same name whose processes were killed are removed. The process that creates a folder locks it
    together with its forks, until the last of them ends.

    Parameters
    ----------
    name : str
        Purpose of the folder, such as ``copies``.
    """
    base = _user_folder_or_new()
    with _locked(base / ".lock"):
        for leftover in base.glob(f"{name}-*"):
            descriptor = _lock_folder(leftover)
            if descriptor is not None:
                shutil.rmtree(leftover, ignore_errors=True)
                os.close(descriptor)
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=base))
        descriptor = _lock_folder(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


def _user_folder_or_new() -> Path:
    """Return this user's private folder, or a new one if another user owns that name."""
    return user_folder() or Path(tempfile.mkdtemp(prefix=f"{_name()}_"))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = open_private(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _lock_folder(folder: Path) -> int | None:
    """Lock a folder while the descriptor is open; None if another process holds the lock, or the folder is gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
