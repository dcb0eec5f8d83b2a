"""The only place in ``steps/`` that writes to MLflow tracking.

Steps yield what is to be logged as small records; `log_records` logs them. `step_run` opens the run of a step: alone,
nested under ``main``, or in the run that ``mlflow run`` made for it.
"""

import os
import re
import socket
import subprocess
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import matplotlib.style
import mlflow
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Run, RunStatus, ViewType
from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR
from mlflow.utils import name_utils
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE, MLFLOW_SOURCE_NAME

from data import datasets
from data.masking import masked
from data.paths import ROOT
from data.storage.files import sha256, size_bytes
from data.storage.urls import project_path
from monitor.charts.png import png
from monitor.store import tags as store_tags
from serving import registry
from steps.shared.command import StepConfig

EXPERIMENT = registry.MODEL
"""Experiment of the default dataset; that of another one has the name of its registered model."""
MAX_COPIED_BYTES = 256 * 2**20
"""Maximum size of a table that is copied into the run; of a larger one the run logs path and SHA-256."""

_TYPICAL_ROWS = 1_000
_DEFAULT_EXPERIMENT_ID, _DEFAULT_EXPERIMENT = "0", "Default"
_LONGEST_WORK = timedelta(hours=6)
_REMOTE = re.compile(
    r"(?:(?:https?|ssh|git)://)?(?:[^@/\s]+@)?(?P<host>[\w-]+(?:\.[\w-]+)+)(?::\d+(?=/))?[:/]"
    r"(?P<path>[\w./~-]+?)(?:\.git)?/?"
)
"""A git remote with a host: its URL, or the short form of SSH."""


@dataclass(frozen=True)
class Params:
    """Parameters of the active run."""

    values: Mapping[str, object]


@dataclass(frozen=True)
class Metrics:
    """Metrics of the active run; with `step`, one of a series."""

    values: Mapping[str, float]
    step: int | None = None


@dataclass(frozen=True)
class Tags:
    """Tags of the active run."""

    values: Mapping[str, str]


@dataclass(frozen=True)
class FigureRecord:
    """A plot, logged as PNG in the folder ``plots``."""

    name: str
    figure: Figure


@dataclass(frozen=True)
class Text:
    """A text artifact."""

    file: str
    text: str


@dataclass(frozen=True)
class Artifact:
    """A file, or a table in parts, in a folder of the run.

    A file larger than ``MAX_COPIED_BYTES`` is not copied: the run has its path and SHA-256 as tags ``table_NAME`` and
    ``sha256_NAME``.
    """

    path: Path
    folder: str = "tables"


@dataclass(frozen=True)
class Dataset:
    """A table that a run read or wrote, as a dataset input with the SHA-256 of its file as digest.

    Its source is the path of the file, unless `source` names where the file is a copy from.

    For a table larger than ``MAX_COPIED_BYTES``, `table` may be a sample; the run has no profile of it then.
    """

    path: Path
    table: pd.DataFrame
    context: str
    sha256: str
    targets: str | None = field(default=None)
    source: str = ""


Record = Params | Metrics | Tags | FigureRecord | Text | Artifact | Dataset


def log_records(records: Iterable[Record]) -> None:
    """Log records to the active run, in order; secrets in parameters and tags are masked."""
    for record in records:
        match record:
            case Params(values):
                _log_params(values)
            case Metrics(values, step):
                mlflow.log_metrics(dict(values), step=step)
            case Tags(values):
                mlflow.set_tags({name: masked(value) for name, value in values.items()})
            case FigureRecord(name, figure):
                with tempfile.TemporaryDirectory() as folder:
                    plot = Path(folder) / f"{name}.png"
                    plot.write_bytes(png(figure))
                    mlflow.log_artifact(str(plot), store_tags.PLOTS)
            case Text(file, text):
                mlflow.log_text(text, file)
            case Artifact(path, folder) if size_bytes(path) <= MAX_COPIED_BYTES:
                mlflow.log_artifact(str(path), folder)
            case Artifact(path):
                mlflow.set_tags({f"table_{path.stem}": str(path.resolve()), f"sha256_{path.stem}": sha256(path)})
            case Dataset():
                _log_dataset(record)


@contextmanager
def step_run(name: str, config: StepConfig) -> Iterator[Run]:
    """Open the run of a step, with its configuration as parameters.

    It is nested under the active run, if there is one (a step within ``main``). The outermost run is that of
    ``mlflow run``, if it is in this project's experiment, else a new run there. If a person named that run
    (``--run-name``), the step's run is nested under it, because steps are found by their names. A run of this folder
    that a killed process left ``RUNNING`` is marked ``KILLED``.

    Parameters
    ----------
    name : str
        Name of the run.
    config : StepConfig
        Logged as parameters.
    """
    outermost = mlflow.active_run() is None
    with _own_style(), _start_outermost(name) if outermost else nested_run(name) as run:
        _log_params(config.model_dump())
        yield run


@contextmanager
def _own_style() -> Iterator[None]:
    """Use the default style and font of matplotlib, regardless of the settings of libraries and machines."""
    with matplotlib.rc_context():
        matplotlib.style.use("default")
        yield


def experiment() -> str:
    """Name of the experiment of this process."""
    return datasets.current().registered_model


def at_work_elsewhere(run_id: str) -> bool:
    """Whether another machine may still process a run: it is running, for less than `_LONGEST_WORK`."""
    run = MlflowClient().get_run(run_id)
    host = run.data.tags.get(store_tags.WORKSPACE, "").partition(":")[0]
    age = datetime.now(UTC) - datetime.fromtimestamp(run.info.start_time / 1_000, UTC)
    return bool(run.info.status == "RUNNING" and host != socket.gethostname() and age < _LONGEST_WORK)


def nested_run(name: str) -> mlflow.ActiveRun:
    """Open a run under the active one, as a context manager."""
    return mlflow.start_run(run_name=name, nested=True, tags=_own_tags())


def git_state() -> dict[str, str]:
    """Git commit of the code and whether files differ from it, as tags."""
    commit, status = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    return {
        store_tags.GIT_COMMIT: commit or "unknown",
        store_tags.GIT_DIRTY: "unknown" if status is None else str(bool(status)).lower(),
    }


def repository_url() -> str:
    """URL of the repository as a browser opens it, without credentials; empty without a remote that has one."""
    return public_url(_git("remote", "get-url", "origin") or "")


def git_user() -> str:
    """Name of the person whose git this is; empty if it is not set."""
    return _git("config", "user.name") or ""


def public_url(remote: str) -> str:
    """Convert the URL of a git remote to one that a browser opens; empty if it is a path.

    Examples
    --------
    >>> public_url("https://ana:secret@github.com/ana/kobe.git"), public_url("git@github.com:ana/kobe.git")
    ('https://github.com/ana/kobe', 'https://github.com/ana/kobe')
    >>> public_url("/home/ana/kobe")
    ''
    """
    found = _REMOTE.fullmatch(remote)
    return f"https://{found['host']}/{found['path']}" if found else ""


def _start_outermost(name: str) -> mlflow.ActiveRun:
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
    launcher_id = os.environ.pop("MLFLOW_RUN_ID", None)
    launcher_experiment = os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
    client = MlflowClient()
    if launcher_experiment in {None, _DEFAULT_EXPERIMENT_ID}:
        experiment_id = _project_experiment(client, launcher_id)
    else:
        experiment_id = str(launcher_experiment)
    mlflow.set_experiment(experiment_id=experiment_id)
    _mark_killed(client, experiment_id, launcher_id)
    if launcher_id and client.get_run(launcher_id).info.experiment_id == experiment_id:
        if not _was_named(client.get_run(launcher_id)):
            client.update_run(launcher_id, name=name)
            return mlflow.start_run(run_id=launcher_id, tags=_own_tags())
        for tag, value in {
            store_tags.LAUNCHER_OF: name,
            store_tags.WORKSPACE: _workspace(),
            store_tags.PROCESS: str(os.getpid()),
        }.items():
            client.set_tag(launcher_id, tag, value)
        return mlflow.start_run(run_name=name, parent_run_id=launcher_id, tags=_own_tags())
    run = mlflow.start_run(run_name=name, tags=_own_tags())
    if launcher_id:
        note = f"`mlflow run` opened this run; the work is in run {run.info.run_id} of experiment {experiment()}."
        client.set_tag(launcher_id, MLFLOW_RUN_NOTE, note)
    return run


def _was_named(launcher: Run) -> bool:
    """Whether a person named the run of ``mlflow run`` with ``--run-name``; otherwise MLflow generates a name."""
    predicate, _, rest = str(launcher.info.run_name).partition("-")
    noun, _, number = rest.partition("-")
    is_made_up = (
        predicate in {word.lower() for word in name_utils._GENERATOR_PREDICATES}  # noqa: SLF001 no other way to know
        and noun in {word.lower() for word in name_utils._GENERATOR_NOUNS}  # noqa: SLF001
        and number.isdecimal()
    )
    return not is_made_up


def _project_experiment(client: MlflowClient, launcher_id: str | None) -> str:
    """Id of the experiment, which is created if it does not exist.

    ``mlflow run`` without ``--experiment-name`` creates its run in the experiment with id 0. In a new store that only
    this project uses, that experiment is renamed to the project's, so that commands need no experiment name.
    """
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or experiment()
    found = client.get_experiment_by_name(name)
    if found:
        return str(found.experiment_id)
    default = client.get_experiment_by_name(_DEFAULT_EXPERIMENT)
    own_store = mlflow.get_tracking_uri().startswith("sqlite:")
    if own_store and default and default.experiment_id == _DEFAULT_EXPERIMENT_ID:
        ours = {ROOT, *([_opened_for(client.get_run(launcher_id))] if launcher_id else [])}
        runs = client.search_runs([_DEFAULT_EXPERIMENT_ID], run_view_type=ViewType.ALL)
        if all(_opened_for(run) in ours for run in runs):
            client.rename_experiment(_DEFAULT_EXPERIMENT_ID, name)
            return _DEFAULT_EXPERIMENT_ID
    return str(client.create_experiment(name))


def _mark_killed(client: MlflowClient, experiment_id: str, own_id: str | None) -> None:
    # Steps that write to this folder run one at a time (`writer_lock`), so a running one here is dead unless
    # its process lives: a step's run, or one that `mlflow run` opened for a step that did not start.
    for run in client.search_runs([experiment_id], "attributes.status = 'RUNNING'"):
        workspace = run.data.tags.get(store_tags.WORKSPACE)
        ours = workspace == _workspace() if workspace else _opened_for(run) == ROOT
        if ours and run.info.run_id != own_id and not _lives(run.data.tags.get(store_tags.PROCESS, "")):
            client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.KILLED))


def _opened_for(run: Run) -> Path:
    """Folder of the project that ``mlflow run``, or another source, opened a run for."""
    return project_path(run.data.tags.get(MLFLOW_SOURCE_NAME, ""))


def _own_tags() -> dict[str, str]:
    return {
        store_tags.WORKSPACE: _workspace(),
        store_tags.PROCESS: str(os.getpid()),
        store_tags.REGISTERED_MODEL: registry.model(),
    }


def _lives(process: str) -> bool:
    """Whether another process of this machine is running."""
    if not process.isdecimal() or int(process) == os.getpid():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _workspace() -> str:
    return f"{socket.gethostname()}:{ROOT}"


def _log_params(values: Mapping[str, object]) -> None:
    active = mlflow.active_run()
    # `mlflow run` has logged its parameters, and MLflow refuses to log one again with another value.
    logged = MlflowClient().get_run(active.info.run_id).data.params if active else {}
    mlflow.log_params({name: _kept(value) for name, value in values.items() if name not in logged})


def _kept(value: object) -> object:
    return masked(value) if isinstance(value, str) else value


def _log_dataset(record: Dataset) -> None:
    with warnings.catch_warnings():
        # MLflow warns of integer columns and of its own two readers of a local path; neither applies here.
        warnings.simplefilter("ignore", UserWarning)
        dataset = mlflow.data.from_pandas(
            record.table,
            # MLflow does not resolve the URL of a database.
            source=CodeDatasetSource({"location": masked(record.source)}) if record.source else str(record.path),
            targets=record.targets,
            name=record.path.stem,
            digest=record.sha256[:36],
        )
        # MLflow infers the types from every value, in Python.
        dataset.schema = mlflow.data.from_pandas(_typical_rows(record.table)).schema
        if size_bytes(record.path) > MAX_COPIED_BYTES:
            dataset = MetaDataset(dataset.source, name=dataset.name, digest=dataset.digest, schema=dataset.schema)
        mlflow.log_input(dataset, context=record.context, tags={"sha256": record.sha256})


def _typical_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The first rows, and the first null of each column: they have the schema of the table."""
    first_nulls = table.isna().to_numpy().argmax(axis=0) if len(table) else np.empty(0, dtype=int)
    return table.iloc[np.union1d(np.arange(min(len(table), _TYPICAL_ROWS)), first_nulls)]


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()
