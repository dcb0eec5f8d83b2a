"""The store of a project that was moved or copied names its own artifacts: ``python -m serving.registry.relocation``.

MLflow keeps the absolute path of every artifact. Left as they are, a moved project would write into a folder that is
gone, and a copy into that of the original.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import mlflow

from data.cli.config import CommandConfig, run_command
from data.cli.console import info
from data.storage.urls import sqlite_path
from serving.registry.errors import StoreError, damaged_store
from serving.registry.sqlite_store import connect, damage_of

_ARTIFACTS = "mlruns"
_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),
)
"""Where MLflow 3.17 keeps paths of artifacts."""


def relocate(database: Path) -> list[Path]:
    """Make a store name the artifacts next to it, where it names those of its former folder; all or none.

    A folder is a former one if every experiment whose artifacts it holds has artifacts next to the store too. A store
    whose artifacts were always elsewhere does not change, and neither do the files of both folders.

    Parameters
    ----------
    database : pathlib.Path
        The SQLite file.

    Returns
    -------
    list of pathlib.Path
        The former folders of artifacts.

    Raises
    ------
    StoreError
        If the store cannot be rewritten.
    """
    if not database.is_file():
        return []
    if problem := damage_of(database):
        raise StoreError(damaged_store(database, problem))
    here = database.resolve().parent / _ARTIFACTS
    try:
        with closing(connect(database)) as connection:
            former = list(_former(connection, here))
            if former:
                connection.execute("BEGIN IMMEDIATE")
                for folder in former:
                    _rewrite(connection, folder, here)
                connection.execute("COMMIT")
    except sqlite3.Error as error:
        if not isinstance(error, sqlite3.OperationalError):
            raise StoreError(damaged_store(database, f"a damaged file ({error})")) from error
        message = (
            f"expected to write the paths of the artifacts in {here} to {database}; it cannot be written ({error}). "
            "Stop the processes that use it, make it writable, and run: python -m serving.registry.relocation"
        )
        raise StoreError(message) from error
    return former


def relocate_and_report(database: Path) -> None:
    """Make a store name the artifacts next to it, and print where it did not."""
    for folder in relocate(database):
        info(
            "Moved:",
            f"artifacts were expected in {folder}; this project is in {database.parent} now, and its store names the "
            "artifacts there",
        )


def _former(connection: sqlite3.Connection, here: Path) -> Iterator[Path]:
    """Folders of artifacts that a store names, and that are next to it now."""
    if ("experiments",) not in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        return
    places: dict[Path, list[Path]] = {}
    for (location,) in connection.execute("SELECT artifact_location FROM experiments"):
        path = Path(str(location).removeprefix("file://"))
        if path.is_absolute() and _ARTIFACTS in path.parts:
            last = len(path.parts) - 1 - path.parts[::-1].index(_ARTIFACTS)
            folder = Path(*path.parts[: last + 1])
            places.setdefault(folder, []).append(path.relative_to(folder))
    for folder, rest in places.items():
        moved = [path for path in rest if (here / path).is_dir()]
        only_there = [path for path in rest if (folder / path).is_dir() and path not in moved]
        if folder.resolve() != here and moved and not only_there:
            yield folder


def _rewrite(connection: sqlite3.Connection, former: Path, here: Path) -> None:
    for table, column in _COLUMNS:
        for before, now in ((str(former), str(here)), (f"file://{former}", f"file://{here}")):
            connection.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",  # noqa: S608
                (f"{now}/", len(before) + 2, len(before) + 1, f"{before}/"),
            )


class RelocationConfig(CommandConfig):
    """Make the SQLite store of a project that was moved, renamed or copied name the artifacts next to it."""


def run(config: RelocationConfig) -> None:
    """Rewrite the store in use, and print the result.

    Raises
    ------
    StoreError
        If the store is not a SQLite file, or cannot be rewritten.
    """
    del config
    database = sqlite_path(mlflow.get_tracking_uri())
    if database is None or not database.is_file():
        message = f"expected a store in a SQLite file; found {mlflow.get_tracking_uri()}, which needs no relocation"
        raise StoreError(message)
    relocate_and_report(database)
    info("Artifacts:", f"{database} names those in its own folder", style="")


if __name__ == "__main__":
    run_command(RelocationConfig, run)
