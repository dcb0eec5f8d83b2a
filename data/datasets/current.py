"""The dataset that a process works on: its registered model, experiment and folders are those of this dataset."""

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from data.datasets.description import Dataset
from data.datasets.loader import DEFAULT, default, find, load, names
from data.paths import INFERENCE_LOG, PROCESSED, RAW

VARIABLE = "KOBE_SHOT_DATASET"
"""Environment variable with the dataset of processes without a parameter ``dataset``: servers and the app."""


def current() -> Dataset:
    """The dataset of this process: that of the running command, else of ``$KOBE_SHOT_DATASET``, else the default.

    Raises
    ------
    DatasetError
        If the variable names none.
    """
    name = current_name()
    return default() if name == DEFAULT else load_cached(name)


def current_name() -> str:
    """Name or path of the dataset of this process, as `load` takes it."""
    return os.environ.get(VARIABLE) or DEFAULT


@contextmanager
def use(dataset: str) -> Iterator[None]:
    """Use a dataset until the block ends, in this process and in those that it starts.

    Parameters
    ----------
    dataset : str
        See `load`.

    Examples
    --------
    >>> with use("kobe_full"):
    ...     current().registered_model
    'kobe_shot_full'
    """
    path = find(dataset)
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = dataset if dataset in names() else str(path.absolute())
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        if before is not None:
            os.environ[VARIABLE] = before


def load_cached(dataset: str) -> Dataset:
    """As `load`; a file that has not changed is not read again."""
    path = find(dataset)
    return _load(dataset, path.stat().st_mtime_ns)


def raw_folder(dataset: Dataset | None = None, root: Path = RAW) -> Path:
    """Folder of the raw tables of a dataset, by default the current one."""
    return _folder(root, dataset or current())


def processed_folder(dataset: Dataset | None = None, root: Path = PROCESSED) -> Path:
    """Folder of the prepared tables of a dataset, by default the current one."""
    return _folder(root, dataset or current())


def log_file() -> Path:
    """The SQLite file that servers of the dataset of this process log to by default."""
    name = current().name
    return INFERENCE_LOG if name == DEFAULT else INFERENCE_LOG.with_stem(f"{INFERENCE_LOG.stem}_{name}")


def for_dataset(command: str) -> str:
    """A command as a person types it for the dataset of this process.

    Examples
    --------
    >>> for_dataset("mlflow run . -e aquisicao")
    'mlflow run . -e aquisicao'
    >>> with use("kobe_full"):
    ...     for_dataset("mlflow run . -e aquisicao"), for_dataset("make serve")
    ('mlflow run . -e aquisicao -P dataset=kobe_full', 'KOBE_SHOT_DATASET=kobe_full make serve')
    """
    name = current_name()
    if name == DEFAULT:
        return command
    if command.startswith("mlflow run"):
        return f"{command} -P {shlex.quote(f'dataset={name}')}"
    return f"{VARIABLE}={shlex.quote(name)} {command}"


def _folder(root: Path, dataset: Dataset) -> Path:
    """The default dataset is in the folder itself, as in the brief; another one is in a folder of its name."""
    return root if dataset.name == DEFAULT else root / dataset.name


@lru_cache(maxsize=16)
def _load(dataset: str, changed: int) -> Dataset:
    del changed
    return load(dataset)
