"""Folders for what a process needs while it lives: removed when it ends, and by the next one where it was killed."""

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


def own_folder() -> Path | None:
    """The folder in the temporary one that only this user can enter; None where somebody else has taken its name."""
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
    """A new folder that only this user can enter, until the block ends.

    What killed processes left of the same name is removed. A folder is held by the process that made it and by those
    that it forked; the operating system lets go of it when the last of them dies.

    Parameters
    ----------
    name : str
        What the folder is for, such as ``copies``.
    """
    base = _base()
    with _locked(base / ".lock"):
        for left in base.glob(f"{name}-*"):
            held = _hold(left)
            if held is not None:
                shutil.rmtree(left, ignore_errors=True)
                os.close(held)
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=base))
        held = _hold(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if held is not None:
            os.close(held)


def _base() -> Path:
    """The folder of this user in the temporary one; another one where somebody else has taken its name."""
    return own_folder() or Path(tempfile.mkdtemp(prefix=f"{_name()}_"))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = open_private(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _hold(folder: Path) -> int | None:
    """Lock a folder as long as the descriptor is open; None if another process does, or it is gone."""
    try:
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(held)
        return None
    return held
