"""The tables that the monitor looks at: from the runs that made them, so that it works wherever the runs are."""

import contextlib
from pathlib import Path

import mlflow
import pandas as pd
import pyarrow as pa
from mlflow import MlflowClient
from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from data.errors import KobeShotError
from data.files import sha256, shown
from data.prepared import PREDICTIONS, TEST, TRAIN, prepared_path
from data.schema import FEATURES, LEARNED, MODEL_VERSION, PREDICTION, PROBABILITY, TARGET, feature_column
from monitor import operation
from monitor.look import COLUMNS, Baseline
from monitor.scored import scored, threshold_of
from serving import registry

TIME = "time"
"""When a row was scored, where a table says so."""
DEVELOPMENT = "sha256_development"
"""Tag of a version that has learned from labels too: SHA-256 of the dev rows that it has learned from."""

_RUNS_TRIED = 10


class TableError(KobeShotError):
    """A table that the monitor needs is missing or damaged."""


def prepared_table(name: str) -> Path:
    """File of a prepared table that the champion has learned from or was tested on.

    Parameters
    ----------
    name : str
        ``base_train`` or ``base_test``.

    Returns
    -------
    pathlib.Path
        In ``data/processed`` if that still holds the champion's, else an artifact of the run that wrote it.

    Raises
    ------
    RegistryError
        If there is no champion.
    TableError
        If no run holds the table.
    """
    champion = registry.require_champion()
    return table_of(name, champion.tags.get(f"sha256_{name}", ""), registry.number(champion))


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
    if local.is_file() and sha256(local) == digest:
        return local
    # Those that a preparation wrote, or a training on labels that had arrived.
    held = f"params.sha256_{name} = '{digest}'"
    for step in (operation.PREPARATION, operation.TRAINING) if digest.isalnum() else ():
        for run in operation.runs_named(step, held, most=_RUNS_TRIED):
            with contextlib.suppress(TableError):
                return artifact(run.run_id, f"tables/{name}.parquet")
    message = (
        f"{shown(local)} is not the table that version {version} was made with, and no "
        "run holds it. Prepare and train again: make main"
    )
    raise TableError(message)


def baseline(version: str, reference: str = TEST) -> Baseline:
    """What current rows are compared with: the champion's tables, scored by a version.

    Parameters
    ----------
    version : str
        Number of the version whose answers are looked at.
    reference : str
        ``base_test`` or ``base_train``.

    Raises
    ------
    RegistryError, TableError, ScoredError
        If there is no champion, a table is missing, or the version cannot be loaded.
    """
    training = read_scored(prepared_table(TRAIN))
    rows = training if reference == TRAIN else read_scored(prepared_table(reference))
    return Baseline(training, scored(rows, version), threshold=threshold_of(version), name=reference)


def application_run() -> operation.KnownRun:
    """The last run that scored the prod table over REST.

    Raises
    ------
    TableError
        If there is none.
    """
    run = operation.last_run(operation.APPLICATION)
    if run is None:
        message = "no run has scored the prod table yet. Score it: mlflow run . -e aplicacao"
        raise TableError(message)
    return run


def application_table(run_id: str) -> Path:
    """File of the table that a run scored.

    Raises
    ------
    TableError
        If the run does not hold it any more.
    """
    return artifact(run_id, f"tables/{PREDICTIONS.name}")


def read_scored(path: Path) -> pd.DataFrame:
    """A table of shots as a look takes it: features and label as float64, and what a version answered if it is there.

    Parameters
    ----------
    path : pathlib.Path
        ``.parquet`` or ``.csv``; ``lon`` is taken for ``lng``, a missing ``shot_made_flag`` for unknown labels.

    Raises
    ------
    TableError
        If it cannot be read, has no rows, lacks a feature, or holds something else than numbers within their ranges.
    """
    try:
        table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".splitlines()[:1])
        message = f"{shown(path)} cannot be read: expected a Parquet or CSV table of shots; {reason}"
        raise TableError(message) from error
    if "lng" not in table and "lon" in table:
        table = table.rename(columns={"lon": "lng"})
    missing = [name for name in FEATURES if name not in table]
    if missing or table.empty:
        found = ", ".join(map(str, table.columns)) or "no columns"
        wanted = f"expected rows with the columns {', '.join(FEATURES)}"
        message = f"{shown(path)}: {wanted}; found {len(table):,} with {found}"
        raise TableError(message)
    if TARGET not in table:
        table = table.assign(**{TARGET: float("nan")})
    numbers = [name for name in COLUMNS if name in table and name != PREDICTION]
    try:
        table = table.astype(dict.fromkeys(numbers, "float64"))
    except (TypeError, ValueError) as error:
        message = f"{shown(path)}: expected numbers in the columns {', '.join(numbers)}; {error}"
        raise TableError(message) from error
    table = _as_the_log_has_them(table, path)
    _check_values(table, path)
    return table


def _as_the_log_has_them(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Give version and time, which CSV does not keep, the types that they have in the inference log."""
    try:
        if LEARNED in table:
            table = table.assign(**{LEARNED: table[LEARNED].fillna(value=False).astype(bool)})
        if MODEL_VERSION in table:
            table = table.astype({MODEL_VERSION: "float64"}).astype({MODEL_VERSION: "Int64"})
        if TIME in table:
            table = table.assign(**{TIME: pd.to_datetime(table[TIME], format="ISO8601", utc=True).dt.tz_localize(None)})
    except (TypeError, ValueError) as error:
        message = f"{shown(path)}: expected numbers in {MODEL_VERSION} and moments in {TIME}; {error}"
        raise TableError(message) from error
    return table


def _check_values(table: pd.DataFrame, path: Path) -> None:
    asked = [*FEATURES, *([PROBABILITY] if PROBABILITY in table else [])]
    empty = table[asked].isna().any(axis=1)
    if empty.any():
        message = f"{shown(path)}: expected a number in each of {', '.join(asked)}; {empty.sum():,} rows lack one"
        raise TableError(message)
    wrong = ~table[TARGET].isin([0, 1]) & table[TARGET].notna()
    if wrong.any():
        message = f"{shown(path)}: expected 0, 1 or null in {TARGET}; found {table.loc[wrong, TARGET].iloc[0]:g}"
        raise TableError(message)
    if PROBABILITY in table and not (possible := table[PROBABILITY].between(0, 1)).all():
        value = table.loc[~possible, PROBABILITY].iloc[0]
        message = f"{shown(path)}: expected P(made) from 0 to 1 in {PROBABILITY}; found {value:g}"
        raise TableError(message)
    for name in FEATURES:
        column = feature_column(name)
        limits = column.minimum, column.maximum
        outside = (table[name] < limits[0]) | (table[name] > limits[1])
        if outside.any():
            value = table.loc[outside, name].iloc[0]
            message = f"{shown(path)}: expected {column.allowed} in {name}; found {value:.8g}"
            raise TableError(message)


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
        local = Path(get_artifact_repository(root).download_artifacts(path))
    except (mlflow.MlflowException, OSError) as error:
        message = f"run {run_id} does not hold {path} ({type(error).__name__}: {error}). Run its step again."
        raise TableError(message) from error
    if not local.is_file():
        message = f"run {run_id} does not hold {path} below {root}. Run its step again."
        raise TableError(message)
    return local
