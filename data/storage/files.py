"""Hashes, sizes, atomic writes and removal of files and of folders of Parquet files."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import pandas as pd

from data.errors import KobeShotError
from data.storage.regular_files import open_regular
from data.storage.staging import staging

FOLDERS = {
    "Parquet": (".parquet",),
    "Arrow": (".arrow", ".feather", ".ipc"),
    "CSV": (".csv", ".tsv", ".csv.gz", ".tsv.gz"),
}
"""Names of the files that a folder of each format consists of, in any case."""


def sha256(path: Path) -> str:
    """SHA-256 of a file, or of the hashes of a table's parts, in hexadecimal; with the columns in names of folders."""
    if path.is_dir():
        parts = [
            " ".join([sha256(part), *(name for name in part.relative_to(path).parts[:-1] if "=" in name)])
            for part in parts_of(path)
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parquet_files(folder: Path) -> list[Path]:
    """List the Parquet files of a folder and its subfolders by name, without hidden files.

    As in Spark, a name that starts with a dot or an underscore is hidden.
    """
    return table_files(folder, (".parquet",))


def parts_of(folder: Path) -> list[Path]:
    """List the Parquet files of a folder, or, without any, its files of another format that is read."""
    return parquet_files(folder) or [file for suffixes in FOLDERS.values() for file in table_files(folder, suffixes)]


def table_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """List the files with one of some suffixes, in any case; see `parquet_files`."""
    return sorted(path for path in _files(folder) if path.name.lower().endswith(suffixes))


def _files(folder: Path) -> Iterator[Path]:
    """Iterate over the files of a folder that are not hidden, including links, also broken ones."""
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        yield from (Path(parent) / name for name in names if not name.startswith((".", "_")))


def size_bytes(path: Path) -> int:
    """Size of a file or of the parts of a table, bytes."""
    return sum(part.stat().st_size for part in parts_of(path)) if path.is_dir() else path.stat().st_size


def display_path(path: Path) -> str:
    """Format a path for messages: relative to the working directory if it lies below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Write a file or a folder to a temporary name and rename it to its target on success.

    A killed process leaves the old file or the new one, never a partial one. If one of both is a folder, it may leave
    neither, between two renames. Concurrent writers do not interfere; the last one to finish wins.

    Yields
    ------
    pathlib.Path
        Path to write to: the name of the target, in a hidden folder next to it.

    Raises
    ------
    KobeShotError
        If the target is a folder that contains files that are not part of a table.
    """
    others = [path for path in _files(target) if path.suffix.lower() != ".parquet"] if target.is_dir() else []
    if others:
        message = (
            f"{display_path(target)}: expected a new name, or a table to replace; found one with other files, such "
            f"as {others[0].name}. Use another name."
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
            _rename(partial, target, old)
        except BaseException:
            # A target that another writer created meanwhile stays.
            if old.exists() and not target.exists():
                with suppress(OSError):
                    old.rename(target)
            raise


def _rename(partial: Path, target: Path, old: Path) -> None:
    """Rename to the target; a folder cannot replace a folder, so the old one is moved away first."""
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
    """Remove a file, or a folder with its content, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class DiskFullError(KobeShotError):
    """The disk is full."""

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Create the error for the disk of a folder."""
        return cls(
            f"The disk of {display_path(folder)} is full. No partial table is kept, and existing tables are unchanged. "
            "Free some space, and run the command again."
        )


@contextmanager
def translate_disk_full(folder: Path) -> Iterator[None]:
    """Translate exceptions of a full disk below a folder.

    Raises
    ------
    DiskFullError
        In place of the exception of the operating system or Arrow.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT} and os.strerror(errno.ENOSPC) not in str(error):
            raise
        raise DiskFullError.of(folder) from error


def write_parquet(table: pd.DataFrame, target: Path) -> None:
    """Write a table atomically, without its index."""
    with atomic_write(target) as partial:
        table.to_parquet(partial, index=False)


def write_text(text: str, target: Path) -> None:
    """Write a text file atomically, in UTF-8."""
    with atomic_write(target) as partial:
        partial.write_text(text, encoding="utf-8")
