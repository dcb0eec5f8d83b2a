"""What every entry point shares: it is a command, and the only writer of ``data/``."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, TypeVar

import mlflow
import pyarrow as pa
from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine
from pydantic import AfterValidator, Field, model_validator

from data import datasets
from data.cli import config as command
from data.cli.console import info
from data.datasets import Dataset, load
from data.datasets.current import load_cached
from data.datasets.loader import DEFAULT
from data.errors import DatasetError
from data.paths import DATA, PROCESSED
from data.storage.locks import restrict_permissions, single_instance, writer_lock
from data.storage.urls import sqlite_path, sqlite_url
from serving import registry
from serving.registry import reachability, translate_store_errors
from serving.registry.store import plain_store


def validate_dataset(dataset: str) -> str:
    """Refuse what is no valid description of a dataset; a ValueError has what was expected."""
    try:
        load(dataset)
    except DatasetError as error:
        raise ValueError(str(error)) from error
    return dataset


class StepConfig(command.CommandConfig):
    """Parameters of a step."""

    dataset: Annotated[str, AfterValidator(validate_dataset)] = Field(
        default=DEFAULT,
        description="what the table is: the name of a description in data/datasets, or the path of a TOML file; names "
        "the experiment, the registered model and the folders",
    )

    @model_validator(mode="before")
    @classmethod
    def take_dataset_of_process(cls, values: Any) -> Any:  # noqa: ANN401 before validation it may be anything
        """Take the dataset of the process that starts a step, such as the app or the scheduler, if none is given."""
        return {"dataset": datasets.current_name(), **values} if isinstance(values, dict) else values

    @property
    def description(self) -> Dataset:
        """The description of the dataset."""
        return load_cached(self.dataset)


_REGISTRY = "MLFLOW_REGISTRY_URI"
_LOOP_WAIT_SECONDS = 60.0

Config = TypeVar("Config", bound=StepConfig)


def part(config_class: type[Config], config: StepConfig) -> Config:
    """The parameters of one step, from those of a command that runs several."""
    return config_class(**{name: getattr(config, name) for name in config_class.model_fields})


def run_command(config_class: type[Config], run: Callable[[Config], object], *, exclusive: str = "") -> None:
    """Parse the command line, run a step as the only writer of ``data/``, and end the process if it fails.

    Exit codes are those of `data.cli.config.run_command`. An outage of the tracking server is reported within
    seconds; see `serving.registry.reachability`.

    Parameters
    ----------
    config_class : type
        Of the step's parameters.
    run : callable
        The step.
    exclusive : str
        Name of a command that one process at a time may run per registered model: another one waits for a minute and
        ends with exit code 1.
    """

    def run_alone(config: Config) -> None:
        # Arrow's own allocator keeps tens of megabytes of what it has freed; `main` shares the machine with a server.
        pa.set_memory_pool(pa.system_memory_pool())
        with datasets.use(config.dataset):
            run_in_store(config)

    def run_in_store(config: Config) -> None:
        registry.model()
        with plain_store(), _single_instance_of(exclusive), translate_store_errors():
            reachability.require_reachable()
            # Containers share the folder of processed tables, and not its parent.
            data_lock = writer_lock(folder=DATA, lock_folder=PROCESSED, on_wait=info)
            with reachability.watched(), data_lock, _registry_known():
                _make_store()
                run(config)

    command.run_command(config_class, run_alone)


def at_once(run: Callable[[Config], object]) -> Callable[[Config], None]:
    """A step that changes the registry alone: it writes nothing to ``data/``, so it waits for no other step."""

    def run_at_once(config: Config) -> None:
        with datasets.use(config.dataset), translate_store_errors():
            reachability.require_reachable()
            run(config)

    return run_at_once


@contextmanager
def _registry_known() -> Iterator[None]:
    """Set the registry's URI: otherwise MLflow uses a Spark session, even a stopped one, to end a run."""
    before = os.environ.get(_REGISTRY)
    mlflow.set_registry_uri(mlflow.get_registry_uri())
    try:
        yield
    finally:
        mlflow.set_registry_uri(None)
        os.environ.pop(_REGISTRY, None)
        if before is not None:
            os.environ[_REGISTRY] = before


@contextmanager
def _single_instance_of(exclusive: str) -> Iterator[None]:
    if not exclusive:
        yield
        return
    with single_instance(exclusive, f"{registry.store_name()} {registry.model()}", wait_seconds=_LOOP_WAIT_SECONDS):
        yield


def _make_store() -> None:
    """Create a missing SQLite store in a temporary folder, and move it to its path.

    If it is killed while it creates the tables, MLflow leaves an unusable file.
    """
    target = sqlite_path(registry.store_name())
    if target is None or target.exists() or not target.parent.is_dir():
        return
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        made = Path(folder) / target.name
        engine = create_sqlalchemy_engine(sqlite_url(made))
        _initialize_tables(engine)
        engine.dispose()
        restrict_permissions(made)
        with suppress(OSError):
            os.link(made, target)
