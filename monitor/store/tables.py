"""The tables that the monitor reads: from the runs that wrote them, so that it works wherever the runs are."""

import contextlib
from pathlib import Path

import pandas as pd
from mlflow.exceptions import MlflowException

from data.datasets import current, for_dataset
from data.errors import TableError
from data.preparation.manifest import IDS, PREDICTIONS, TRAIN, prepared_path
from data.storage.files import display_path, sha256
from monitor import scored_tables
from monitor.store import run_names, tags
from monitor.store.model_store import ModelStore
from monitor.store.records import BatchScoringRun, RunInfo
from serving import registry

TIME = scored_tables.TIME

_RUNS_TRIED = 10


def prepared_table(store: ModelStore, name: str, version: str = "") -> Path:
    """File of a prepared table that a version was trained or tested on.

    Parameters
    ----------
    store : ModelStore
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
    number = version or registry.champion_number()
    found = store.version(number)
    return find_table(store, name, found.sha256(name) if found else "", number)


def development_table(store: ModelStore) -> Path:
    """File of the dev rows that the champion was trained on, without the labels that came later.

    Raises
    ------
    RegistryError
        If there is no champion.
    TableError
        If no run holds the table.
    """
    number = registry.champion_number()
    found = store.version(number)
    return find_table(store, TRAIN, found.development_sha256 if found else "", number)


def find_table(store: ModelStore, name: str, digest: str, version: str) -> Path:
    """File of a prepared table by its SHA-256.

    Parameters
    ----------
    store : ModelStore
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
    again = f"Prepare and train again: {for_dataset('make main')}"
    # Those that a preparation wrote, or a training on delayed labels.
    held = f"params.{tags.sha256_of(name)} = '{digest}'"
    for step in (run_names.PREPARATION, run_names.TRAINING) if digest.isalnum() else ():
        for run in store.find_runs(step, held, _RUNS_TRIED):
            with contextlib.suppress(TableError):
                return table_of_run(store, run, f"{name}.parquet", again)
    message = (
        f"{display_path(local)} is not the table that version {version} was made with, and no run holds it. {again}"
    )
    raise TableError(message)


def identified(store: ModelStore, table: pd.DataFrame, name: str, version: str, digest: str = "") -> pd.DataFrame:
    """A table that a version was trained or tested on, with the id (Int64) and the group of its rows.

    Parameters
    ----------
    store : ModelStore
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
        With the id, the group where the description names one, and ``time`` where the rows are delayed labels;
        unchanged where no run holds which rows they are: a preparation of 0.1.0 did not keep it.
    """
    found = _ids_of(store, name, version, digest)
    if found is None or len(found) != len(table):
        return table
    return table.assign(**{str(column): found[column].set_axis(table.index) for column in found})


def _ids_of(store: ModelStore, name: str, version: str, digest: str) -> pd.DataFrame | None:
    of_version, param = store.version(version), tags.sha256_of(IDS[name])
    of_ids = of_version.sha256(IDS[name]) if of_version and not digest else ""
    digest = digest or (of_version.sha256(name) if of_version else "")
    if not of_ids and digest.isalnum():
        # The same table may have been prepared again since, by a preparation that keeps them.
        held = f"params.{tags.sha256_of(name)} = '{digest}' and params.{param} LIKE '%'"
        steps = (run_names.PREPARATION, run_names.TRAINING)
        of_ids = next((run.params[param] for step in steps for run in store.find_runs(step, held, 1)), "")
    if not of_ids:
        return None
    try:
        table = pd.read_parquet(find_table(store, IDS[name], of_ids, version))
    except TableError:
        return None
    integers = [
        column for column in table if column == current().id.name or pd.api.types.is_integer_dtype(table[column])
    ]
    return table.astype(dict.fromkeys(integers, "Int64"))


def last_batch_scoring(store: ModelStore) -> BatchScoringRun:
    """The last run that scored the prod table for the registered model, not a table that was given to it.

    Raises
    ------
    TableError
        If there is none.
    """
    return require_scored(store, store.last_batch_scoring_run())


def require_scored(store: ModelStore, run: BatchScoringRun | None) -> BatchScoringRun:
    """A batch-scoring run.

    Raises
    ------
    TableError
        If there is none.
    """
    if run is None:
        advice = f"Score it: {for_dataset('mlflow run . -e aplicacao')}"
        message = f"no run has scored the prod table yet with {store.model_name}. {advice}"
        raise TableError(message)
    return run


def scored_table(store: ModelStore, run_id: str) -> Path:
    """Where the table is that a run scored: a file, or a folder of the parts of a large one.

    Raises
    ------
    TableError
        If the run does not hold it any more, or it was not kept with the run and has changed since.
    """
    try:
        run = store.batch_scoring_run(run_id)
    except MlflowException as error:
        message = f"there is no run {run_id} ({error}). {_score_again()}"
        raise TableError(message) from error
    return table_of_run(store, run, run.predictions or PREDICTIONS.name, _score_again())


def table_of_run(store: ModelStore, run: RunInfo, file: str, again: str) -> Path:
    """A table that a run wrote: its copy, or where it wrote it if that was too large to be copied.

    Parameters
    ----------
    store : ModelStore
    run : RunInfo
    file, again : str
        Name of the table, and how to get it where it is lost, for the message.

    Raises
    ------
    TableError
        If the run does not hold it any more, or it was not copied and has changed since.
    """
    # As `steps.shared.tracking.Artifact` has them.
    name = Path(file).stem
    location, expected = run.tags.get(tags.location_of(name)), (run.params | run.tags).get(tags.sha256_of(name))
    if location is None:
        return store.artifact(run.run_id, f"tables/{file}")
    path = Path(location)
    if path.exists() and sha256(path) == expected:
        return path
    found = "another table" if path.exists() else "none"
    message = (
        f"run {run.run_id} wrote the table to {path}, too large for a copy; expected it there, found {found}. {again}"
    )
    raise TableError(message)


def _score_again() -> str:
    return f"Score it again: {for_dataset('mlflow run . -e aplicacao')}"
