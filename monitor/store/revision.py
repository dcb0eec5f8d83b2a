"""What changes whenever a store is written to: what was read from it is current as long as this stays the same."""

import os
import time
from collections.abc import Hashable
from pathlib import Path

import mlflow

from data.storage.urls import sqlite_path
from monitor.store.model_store import ModelStore

SECONDS = 5
"""How long what was read from a store that is no file is taken for current."""
# https://www.sqlite.org/fileformat.html: SQLite counts the transactions here.
_COUNTER = slice(24, 28)


def revision(store: ModelStore) -> tuple[Hashable, ...]:
    """The revision of the tracking store and of the registry: of SQLite its files, of others a time of `SECONDS`."""
    return tuple(_revision(uri) for uri in dict.fromkeys((store.uri, mlflow.get_registry_uri())))


def _revision(uri: str) -> Hashable:
    path = sqlite_path(uri)
    if path is None:
        return time.monotonic() // SECONDS
    return tuple(_written(file) for file in (path, path.with_name(f"{path.name}-wal")))


def _written(file: Path) -> Hashable:
    try:
        with file.open("rb") as opened:
            found = os.fstat(opened.fileno())
            # Two transactions within a tick of the clock have the same time.
            return found.st_ino, found.st_size, found.st_mtime_ns, opened.read(_COUNTER.stop)[_COUNTER]
    except OSError:
        return None
