"""Files that are whole or not there: hashes, atomic writes and one writer at a time."""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pandas as pd

from data.errors import KobeShotError
from data.paths import PROCESSED, ROOT
from data.storage.locks import held
from data.storage.regular_files import open_regular
from data.storage.staging import clear_leftovers, staging


def sha256(path: Path) -> str:
    """SHA-256 of a file, or of those of the parts of a table in their order, in hexadecimal."""
    if path.is_dir():
        return hashlib.sha256("\n".join(sha256(part) for part in parquet_files(path)).encode()).hexdigest()
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parquet_files(folder: Path) -> list[Path]:
    """The Parquet files of a folder and its subfolders, in the order of their names; hidden ones are left out.

    As Spark has it, a name that begins with a dot or an underscore is hidden.
    """
    return sorted(path for path in _files(folder) if path.suffix.lower() == ".parquet")


def _files(folder: Path) -> Iterator[Path]:
    """Files of a folder that are not hidden, links among them, also those that lead nowhere."""
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        yield from (Path(place) / name for name in names if not name.startswith((".", "_")))


def size_bytes(path: Path) -> int:
    """Bytes of a file, or of the parts of a table."""
    return sum(part.stat().st_size for part in parquet_files(path)) if path.is_dir() else path.stat().st_size


def display_path(path: Path) -> str:
    """A path as a person wants to read it: relative to the working directory where it lies below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Write a file, or a folder, beside its target and rename it on success.

    A process that is killed leaves the old file, or the new one; never half of one. Where one of both is a folder, it
    may also leave neither, between two renames. Of several that write at once each writes its own, and the last one to
    end is what stays.

    Yields
    ------
    pathlib.Path
        Where to write: the name of the target, in a hidden folder beside it.

    Raises
    ------
    KobeShotError
        If the target is a folder that holds something else than a table.
    """
    others = [path for path in _files(target) if path.suffix.lower() != ".parquet"] if target.is_dir() else []
    if others:
        message = (
            f"{display_path(target)}: expected a new name, or a table to replace; found one with other files, such "
            f"as {others[0].name}. Choose another name."
        )
        raise KobeShotError(message)
    target.parent.mkdir(parents=True, exist_ok=True)
    with staging(target.parent, target.name) as folder:
        partial, old = folder / target.name, folder / ".old"
        yield partial
        for path in parquet_files(partial) if partial.is_dir() else [partial]:
            with path.open("rb") as file:
                os.fsync(file.fileno())
        try:
            _put(partial, target, old)
        except BaseException:
            # Whatever has come in its place meanwhile stays.
            if old.exists() and not target.exists():
                with suppress(OSError):
                    old.rename(target)
            raise


def _put(partial: Path, target: Path, old: Path) -> None:
    """Rename; a folder does not give way to another one, so it is moved aside first, whoever else does so just now."""
    while True:
        if target.is_dir() or (partial.is_dir() and target.exists()):
            remove_path(old)
            with suppress(FileNotFoundError):
                target.replace(old)
        try:
            partial.replace(target)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR}:
                raise
        else:
            return


def remove_path(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class DiskFullError(KobeShotError):
    """There is no room for what is to be written."""


@contextmanager
def translate_disk_full(folder: Path) -> Iterator[None]:
    """Say in words that the disk of a folder is full, where a write below it fails for that.

    Raises
    ------
    DiskFullError
        In place of the operating system's error, and of Arrow's.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT} and os.strerror(errno.ENOSPC) not in str(error):
            raise
        message = (
            f"The disk of {display_path(folder)} is full. Nothing half-written is kept, and earlier tables stay. "
            "Free some space, and run this again."
        )
        raise DiskFullError(message) from error


def write_parquet(table: pd.DataFrame, target: Path) -> None:
    """Write a table atomically, without its index."""
    with atomic_write(target) as partial:
        table.to_parquet(partial, index=False)


def write_text(text: str, target: Path) -> None:
    """Write a text file atomically, in UTF-8."""
    with atomic_write(target) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def writer_lock(
    folder: Path = ROOT / "data", *, limit_seconds: float = 600, on_wait: Callable[[str], None] = print
) -> Iterator[None]:
    """Let one process at a time write below `folder`, and clear what killed ones left half-written.

    What another process writes there without asking for this, such as a table of predictions, stays.

    Parameters
    ----------
    folder : pathlib.Path
        Guarded by the file ``.lock`` in it, that of ``data`` in ``data/processed``, which the operating system frees
        when its holder dies.
    limit_seconds : float
        How long to wait for another process.
    on_wait : callable
        Called once with a message when there is something to wait for.

    Raises
    ------
    BusyError
        When the other process is still at work after `limit_seconds`.
    KobeShotError
        If the lock is another account's, or a link.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Containers share this folder of data/, and not data/ itself.
    place = PROCESSED if folder == ROOT / "data" else folder
    place.mkdir(parents=True, exist_ok=True)
    with held(place / ".lock", f"writing to {display_path(folder)}", limit_seconds, on_wait):
        clear_leftovers(folder)
        yield
