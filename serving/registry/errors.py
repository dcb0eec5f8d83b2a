"""Errors of the registry and of its store, and the translation of what MLflow raises into them."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from data.errors import FileError, KobeShotError, is_of_file_system
from data.storage.urls import sqlite_path

_SQL = re.compile(r"\[SQL:|\(Background on this error")
_DAMAGED = ("file is not a database", "disk image is malformed")


class RegistryError(KobeShotError):
    """The registry holds no version to use, or a version that may not be used."""


class ConcurrentPromotionError(RegistryError):
    """Another process has changed the champion since this process read it."""


class StoreError(KobeShotError):
    """The tracking store or the registry failed at a request."""


@contextlib.contextmanager
def translate_store_errors() -> Iterator[None]:
    """Name the store in the errors that MLflow and its database raise.

    Raises
    ------
    StoreError
        In place of what MLflow or its database raises.
    FileError
        In place of an error of the file system.
    """
    try:
        yield
    except (OSError, MlflowException, SQLAlchemyError) as error:
        if is_of_file_system(error) and not _concerns_store(error):
            raise FileError.of(error) from error
        # The SQL, and the link to SQLAlchemy's documentation, are of no use to a reader of the message.
        reason = " ".join(_SQL.split(str(error))[0].split())
        message = f"{type(error).__name__}: {reason} (tracking store {mlflow.get_tracking_uri()})"
        if any(sign in reason for sign in _DAMAGED):
            message = damaged_store(mlflow.get_tracking_uri(), f"a damaged file ({reason})")
        if isinstance(error, MlflowException) and error.error_code == "PERMISSION_DENIED":
            account = os.environ.get("MLFLOW_TRACKING_USERNAME", "in use")
            message += f". The account {account} lacks the permission: use another one, or contact the server's admin"
        raise StoreError(message) from error


def damaged_store(place: object, found: str) -> str:
    """The message about a store whose file is not a sound database."""
    return (
        f"Expected the database of an MLflow store at {place}; found {found}. Restore it from a copy, or move it away "
        "to start with an empty store."
    )


def _concerns_store(error: OSError) -> bool:
    """Whether the file of the tracking store, or a folder above it, cannot be used."""
    store = sqlite_path(mlflow.get_tracking_uri())
    return store is not None and error.filename is not None and Path(error.filename) in {store, *store.parents}
