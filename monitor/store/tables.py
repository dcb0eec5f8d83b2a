"""The tables that the monitor looks at: from the runs that made them, so that it works wherever the runs are."""

import contextlib
from pathlib import Path

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from data.errors import KobeShotError
from data.preparation.manifest import IDS, PREDICTIONS, TRAIN, prepared_path
from data.schema import SHOT_ID
from data.storage.files import display_path, sha256
from data.storage.tables import TableError as StoredTableError
from monitor import scored_tables
from monitor.scored_tables import SampledTable
from monitor.store import listings
from monitor.store import runs as operation
from monitor.store.copies import copies
from serving import registry

TIME = scored_tables.TIME
DEVELOPMENT = "sha256_development"
"""Tag of a version that has learned from labels too: SHA-256 of the dev rows that it has learned from."""

_RUNS_TRIED = 10


class TableError(KobeShotError):
    """A table that the monitor needs is missing or damaged."""


def prepared_table(name: str, version: str = "") -> Path:
    """File of a prepared table that a version was trained or tested on.

    Parameters
    ----------
    name : str
        ``base_train`` or ``base_test``.
    version : str
        Number of the version; empty for the champion.

    Returns
    -------
    pathlib.Path
        In ``data/processed`` if that still holds the version's, else an artifact of the run that wrote it.

    Raises
    ------
    RegistryError
        If there is no champion.
    TableError
        If no run holds the table.
    """
    number = version or registry.number(registry.require_champion())
    return table_of(name, registry.tags_of(number).get(f"sha256_{name}", ""), number)


def development_table() -> Path:
    """File of the dev rows that the champion has learned from, without the labelled rows that came later.

    Raises
    ------
    RegistryError
        If there is no champion.
    TableError
        If no run holds the table.
    """
    champion = registry.require_champion()
    digest = champion.tags.get(DEVELOPMENT) or champion.tags.get(f"sha256_{TRAIN}", "")
    return table_of(TRAIN, digest, registry.number(champion))


def table_of(name: str, digest: str, version: str) -> Path:
    """File of a prepared table by its SHA-256.

    Parameters
    ----------
    name, digest, version : str
        Of the table, its SHA-256, and the version that it belongs to, for the message.

    Raises
    ------
    TableError
        If no run holds the table.
    """
    local = prepared_path(name)
    if local.exists() and sha256(local) == digest:
        return local
    again = "Prepare and train again: make main"
    # Those that a preparation wrote, or a training on labels that had arrived.
    held = f"params.sha256_{name} = '{digest}'"
    for step in (operation.PREPARATION, operation.TRAINING) if digest.isalnum() else ():
        for run in operation.find_runs(step, held, most=_RUNS_TRIED):
            with contextlib.suppress(TableError):
                return _of_run(_run(run.run_id, again), f"{name}.parquet", again)
    message = (
        f"{display_path(local)} is not the table that version {version} was made with, and no run holds it. {again}"
    )
    raise TableError(message)


def identified(table: pd.DataFrame, name: str, version: str, digest: str = "") -> pd.DataFrame:
    """A table that a version was trained or tested on, with the ``shot_id`` (Int64) of its rows.

    Parameters
    ----------
    table : pandas.DataFrame
        All of its rows, in their order.
    name : str
        ``base_train`` or ``base_test``.
    version : str
        Number of the version.
    digest : str
        SHA-256 of the table; empty for the one that the version names.

    Returns
    -------
    pandas.DataFrame
        With ``shot_id``, and ``time`` where the rows are labels that had arrived; as it came where no run says which
        shots they are: a preparation of 0.1.0 did not keep it.
    """
    found = _ids_of(name, version, digest)
    if found is None or len(found) != len(table):
        return table
    return table.assign(**{str(column): found[column].set_axis(table.index) for column in found})


def _ids_of(name: str, version: str, digest: str) -> pd.DataFrame | None:
    tags, param = registry.tags_of(version), f"sha256_{IDS[name]}"
    of_ids = "" if digest else tags.get(param, "")
    digest = digest or tags.get(f"sha256_{name}", "")
    if not of_ids and digest.isalnum():
        # The same table may have been prepared again since, by a preparation that keeps them.
        held = f"params.sha256_{name} = '{digest}' and params.{param} LIKE '%'"
        steps = (operation.PREPARATION, operation.TRAINING)
        known = (run for step in steps for run in operation.find_runs(step, held, most=1))
        of_ids = next((listings.details(run.run_id).params[param] for run in known), "")
    if not of_ids:
        return None
    try:
        return pd.read_parquet(table_of(IDS[name], of_ids, version)).astype({SHOT_ID: "Int64"})
    except TableError:
        return None


def application_run() -> operation.RunInfo:
    """The last run that scored the prod table for the registered model; not one that scored a table given to it.

    Raises
    ------
    TableError
        If there is none.
    """
    run = operation.last_application()
    if run is None:
        message = f"no run has scored the prod table yet with {registry.model()}. Score it: mlflow run . -e aplicacao"
        raise TableError(message)
    return run


def application_table(run_id: str) -> Path:
    """Where the table is that a run scored: a file, or a folder of the parts of a large one.

    Raises
    ------
    TableError
        If the run does not hold it any more, or it was not kept with the run and has changed since.
    """
    again = "Score it again: mlflow run . -e aplicacao"
    run = _run(run_id, again)
    return _of_run(run, run.data.tags.get(operation.ANSWERS, PREDICTIONS.name), again)


def read_scored(path: Path) -> pd.DataFrame:
    """A table of shots as a look takes it: features and label as float64, and what a version answered if it is there.

    Parameters
    ----------
    path : pathlib.Path
        ``.parquet`` or ``.csv``, or a folder of Parquet files; ``lon`` is taken for ``lng``, a missing
        ``shot_made_flag`` for unknown labels.

    Raises
    ------
    TableError
        If it cannot be read, has no rows, lacks a feature, or holds something else than numbers within their ranges.
    """
    return read_sample(path, None).table


def read_sample(path: Path, max_rows: int | None) -> SampledTable:
    """A table of shots as `read_scored` has it if it is not too large, else evenly spread rows of it.

    Parameters
    ----------
    path : pathlib.Path
        See `read_scored`.
    max_rows : int or None
        How many rows are not too many; None for any number.

    Raises
    ------
    TableError
        See `read_scored`; of rows that are not read nothing is known.
    """
    try:
        return scored_tables.read(path, max_rows)
    except StoredTableError as error:
        raise TableError(str(error)) from error


def artifact(run_id: str, path: str) -> Path:
    """An artifact of a run as a local file.

    Raises
    ------
    TableError
        If the run does not hold it any more.
    """
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
    try:
        root = MlflowClient().get_run(run_id).info.artifact_uri
        # `mlflow.artifacts` copies what a run holds to a new folder each time, also where it is a local file.
        repository = get_artifact_repository(root)
        if isinstance(repository, LocalArtifactRepository):
            local = Path(repository.download_artifacts(path))
        else:
            local = copies().get(run_id, path, repository.download_artifacts)
    except (mlflow.MlflowException, OSError) as error:
        message = f"run {run_id} does not hold {path} ({type(error).__name__}: {error}). Run its step again."
        raise TableError(message) from error
    if not local.exists():
        message = f"run {run_id} does not hold {path} below {root}. Run its step again."
        raise TableError(message)
    return local


def _run(run_id: str, again: str) -> Run:
    try:
        return MlflowClient().get_run(run_id)
    except mlflow.MlflowException as error:
        message = f"there is no run {run_id} ({error}). {again}"
        raise TableError(message) from error


def _of_run(run: Run, file: str, again: str) -> Path:
    """A table that a run wrote: its copy, or where it wrote it if that was too large to be copied.

    Parameters
    ----------
    run : mlflow.entities.Run
    file, again : str
        Name of the table, and how to get it where it is lost, for the message.

    Raises
    ------
    TableError
        If the run does not hold it any more, or it was not copied and has changed since.
    """
    # As `steps.shared.tracking.Artifact` has them.
    name = Path(file).stem
    left, expected = run.data.tags.get(f"table_{name}"), {**run.data.params, **run.data.tags}.get(f"sha256_{name}")
    if left is None:
        return artifact(run.info.run_id, f"tables/{file}")
    path = Path(left)
    if path.exists() and sha256(path) == expected:
        return path
    found = "another table" if path.exists() else "none"
    message = (
        f"run {run.info.run_id} left the table that it wrote at {path}, too large for a copy; expected it there, "
        f"found {found}. {again}"
    )
    raise TableError(message)
