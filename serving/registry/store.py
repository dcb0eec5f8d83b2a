"""The tracking store of this process by a URI that MLflow handles correctly."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import mlflow

from data.storage.locks import restrict_permissions
from data.storage.urls import is_percent_encoded, sqlite_path, sqlite_url
from serving.registry.errors import StoreError
from serving.registry.relocation import relocate_and_report
from serving.registry.sqlite_store import wait_for_locks


@contextmanager
def plain_store() -> Iterator[None]:
    """Use MLflow's own store in the current folder by a URI without percent-encoding until the block ends.

    MLflow percent-encodes its default URI. SQLAlchemy decodes it, but MLflow also makes a folder of the encoded name.
    Such a folder is removed; ``mlflow run`` makes one before a step starts. The store of a project that was moved or
    copied is relocated (`serving.registry.relocation`), and connections to it wait for locks.

    Raises
    ------
    StoreError
        If the path has what MLflow decodes as a character: it would search artifacts elsewhere.
    """
    wait_for_locks()
    before: str = mlflow.get_tracking_uri()
    was_set = mlflow.is_tracking_uri_set()
    path = sqlite_path(before)
    if path is not None:
        # MLflow makes it by the umask. SQLite gives its journals the mode of the database.
        restrict_permissions(path)
    if path is None or not path.is_absolute():
        yield
        return
    _remove_stray_folders(before, path)
    if is_percent_encoded(path):
        message = (
            f"expected a folder without a % before two hexadecimal digits in its name, which MLflow reads as one "
            f"encoded character; found {path.parent}. Rename the folder, and run this again. Nothing was done."
        )
        raise StoreError(message)
    if sqlite_url(path) != before:
        mlflow.set_tracking_uri(sqlite_url(path))
    relocate_and_report(path)
    try:
        yield
    finally:
        if sqlite_url(path) != before:
            mlflow.set_tracking_uri(before if was_set else None)
        _remove_stray_folders(sqlite_url(path), path)


def _remove_stray_folders(uri: str, meant: Path) -> None:
    """Remove the empty folders that MLflow made of an encoded URI."""
    stray = Path(uri.partition("///")[2]).parent
    with suppress(OSError):
        while not meant.is_relative_to(stray):
            stray.rmdir()
            stray = stray.parent
