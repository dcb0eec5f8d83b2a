"""The lock of the registry: one process of a machine changes it at a time."""

import contextlib
import threading
from collections.abc import Iterator

import mlflow

from data.storage.locks import AlreadyRunningError, single_instance
from data.storage.urls import sqlite_path, sqlite_url
from serving.registry.errors import RegistryError
from serving.registry.versions import model

WAIT_SECONDS = 60.0
"""How long a change waits for that of another process of this machine; a change takes a second."""

_held = threading.local()


def store_name() -> str:
    """The tracking store by a name that is the same in every folder."""
    uri: str = mlflow.get_tracking_uri()
    path = sqlite_path(uri)
    return sqlite_url(path.resolve()) if path else uri.replace("localhost", "127.0.0.1")


@contextlib.contextmanager
def change_lock() -> Iterator[None]:
    """Hold the lock of the registry until the block ends: other processes of this machine and user wait.

    A block within a block is part of the same change.

    Raises
    ------
    RegistryError
        If another process still changes the registry after a minute.
    """
    key, keys = f"{store_name()} {model()}", _held.__dict__.setdefault("keys", set())
    if key in keys:
        yield
        return
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(single_instance(f"a change of {model()}", key, wait_seconds=WAIT_SECONDS))
        except AlreadyRunningError as error:
            message = f"{error} Champion and Production are as that process leaves them. Run this again afterwards."
            raise RegistryError(message) from error
        keys.add(key)
        stack.callback(keys.discard, key)
        yield
