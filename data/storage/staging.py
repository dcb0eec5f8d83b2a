"""Hidden folders for what is not whole yet, each of one writer, which are removed when that writer is dead."""

import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_HELD = ".held"
_NAME = re.compile(r"\..*\.[0-9a-f]{32}\.partial", re.DOTALL)
_NAME_SHOWN = 50


@contextmanager
def staging(parent: Path, name: str) -> Iterator[Path]:
    """A new hidden folder that no other writer uses, and that nobody removes before this process has ended.

    Parameters
    ----------
    parent : pathlib.Path
        Folder that is there, on the disk where what is staged is to go.
    name : str
        What is staged, for a person who finds the folder.

    Yields
    ------
    pathlib.Path
        The folder. It is removed at the end, with all that is still in it.
    """
    folder, held = _new(parent, name)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def clear_leftovers(parent: Path) -> None:
    """Remove the folders of `staging` below `parent` whose writers are dead.

    A writer holds a lock in its folder, which the operating system frees when it dies. What is not known to be such a
    folder stays, and so does one that cannot be locked.
    """
    for place, folders, _ in os.walk(parent):
        staged = [name for name in folders if _NAME.fullmatch(name)]
        folders[:] = [name for name in folders if name not in staged]
        for name in staged:
            _clear(Path(place) / name)


def _new(parent: Path, name: str) -> tuple[Path, int]:
    while True:
        folder = parent / f".{name[:_NAME_SHOWN]}.{uuid.uuid4().hex}.partial"
        folder.mkdir()
        # Another process may take a folder that is not held yet for a leftover: the next one has another name.
        with suppress(FileNotFoundError):
            held = _open(folder)
            if _is_ours(folder, held):
                return folder, held
            os.close(held)


def _is_ours(folder: Path, held: int) -> bool:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # A disk without locks. Nobody can take the folder for a leftover there, since nobody can lock it.
        return True
    try:
        return os.path.samestat(os.fstat(held), (folder / _HELD).stat())
    except FileNotFoundError:
        return False


def _clear(folder: Path) -> None:
    # The folder of another user, or one that has just gone, is none of ours.
    with suppress(OSError):
        if not (folder / _HELD).exists():
            # Its writer died, or is, between making it and holding it: it goes only if it is empty.
            folder.rmdir()
            return
        held = _open(folder)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        finally:
            os.close(held)


def _open(folder: Path) -> int:
    # For writing, which locks on a network's disk need.
    return os.open(folder / _HELD, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
