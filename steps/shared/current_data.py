"""The scored shots that monitoring and retraining evaluate: the latest batch scoring, a table, or the inference log."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from data.datasets import for_dataset
from data.errors import TableError
from data.schema import MODEL_VERSION, PROBABILITY
from data.storage.files import display_path
from monitor import scored_tables
from monitor.health.evaluation import version_to_evaluate
from monitor.store import tables
from monitor.store.labels import flag_training_rows
from monitor.store.model_store import OF_BATCH_SCORING, OF_LOG, current_store
from serving.batch.in_process import dataset_of, predict
from serving.inference_log import reader
from serving.inference_log.inference_log import ORIGINS, TRAFFIC

APPLICATION, LOG = OF_BATCH_SCORING, OF_LOG

_MAX_ROUNDING = 1e-4
"""Tolerance for P(made) that was rounded when it was written as text."""


@dataclass(frozen=True)
class CurrentData:
    """Scored shots, their name, and their file and run where there are any.

    ``rows`` counts all of them, also where ``table`` is a sample. With ``in_memory`` the predictions are only
    in ``table``, not in a file. ``labels`` holds the labeled rows where ``table`` holds only some of them.
    ``excluded`` counts the rows of other versions, by version, where ``table`` was read without them.
    """

    table: pd.DataFrame
    path: Path | None
    name: str
    rows: int
    application_run: str = ""
    in_memory: bool = False
    labels: pd.DataFrame | None = None
    excluded: Mapping[str, int] | None = None


def read_application(max_rows: int) -> CurrentData:
    """The table of the latest batch scoring of prod, or a systematic sample of `max_rows` rows.

    Raises
    ------
    TableError
        If it is missing or damaged.
    """
    store = current_store()
    run = tables.last_batch_scoring(store)
    path = tables.scored_table(store, run.run_id)
    table, rows = scored_tables.read_sample(path, max_rows, dataset_of(run.model_version))
    return _flagged(CurrentData(table, path, "prod", rows, run.run_id))


def read_table(path: Path, max_rows: int, version: str) -> CurrentData:
    """A table of scored shots, or a systematic sample of `max_rows` rows; the champion scores one without predictions.

    Parameters
    ----------
    path : pathlib.Path
    max_rows : int
    version : str
        The champion.

    Raises
    ------
    TableError
        If it is missing or damaged, too large to score in this process, or its predictions are of an unknown version.
    """
    return _flagged(_read_table(path, max_rows, version))


def read_log(  # noqa: PLR0913 a window, and how much of it
    url: str, since: datetime | None, until: datetime | None, *, origin: str, max_rows: int, version: str
) -> CurrentData:
    """The rows of a window of the inference log.

    Parameters
    ----------
    url : str
        Of the log; see `serving.inference_log.reader.log_url`.
    since, until : datetime, optional
        UTC without a zone; open without.
    origin : str
        Of the requests; or all.
    max_rows : int
        Of more rows, a systematic sample and the latest labels.
    version : str
        The champion: its rows are read if it scored any.

    Raises
    ------
    LogError
        If the log is missing or damaged, or holds no such row.
    """
    return _flagged(_read_log(url, since, until, origin, max_rows, version))


def _flagged(found: CurrentData) -> CurrentData:
    labels = None if found.labels is None else flag_training_rows(current_store(), found.labels)
    return replace(found, table=flag_training_rows(current_store(), found.table), labels=labels)


def _read_table(path: Path, max_rows: int, version: str) -> CurrentData:
    table, rows = scored_tables.read_sample(path, max_rows, dataset_of(version))
    if PROBABILITY in table:
        _check_scores(table, path, version)
        return CurrentData(table, path, path.stem, rows)
    if rows > max_rows:
        message = (
            f"{display_path(path)}: expected a column {PROBABILITY} in a table of more than {max_rows:,} rows; found "
            f"{rows:,} rows without predictions. Score it: {for_dataset('mlflow run . -e aplicacao')} "
            f"-P mode=batch -P table={path} -P out=scored.parquet"
        )
        raise TableError(message)
    return CurrentData(predict(table, version), path, path.stem, rows, in_memory=True)


def _check_scores(table: pd.DataFrame, path: Path, version: str) -> None:
    """Refuse P(made) of an unknown version: it would be evaluated as the champion's.

    Raises
    ------
    TableError
        If the table has no model_version, and the champion's predictions differ.
    """
    if MODEL_VERSION in table and table[MODEL_VERSION].notna().any():
        return
    again = predict(table.drop(columns=MODEL_VERSION, errors="ignore"), version)[PROBABILITY]
    other = int((~np.isclose(table[PROBABILITY], again, rtol=0, atol=_MAX_ROUNDING)).sum())
    if other:
        message = (
            f"{display_path(path)}: expected a column {MODEL_VERSION}, or predictions of champion version {version}; "
            f"found neither: {other:,} of {len(table):,} rows have another {PROBABILITY}. Drop {PROBABILITY}, and "
            "the champion scores the rows"
        )
        raise TableError(message)


def _read_log(  # noqa: PLR0913, PLR0917 see `read_log`
    url: str, since: datetime | None, until: datetime | None, origin: str, max_rows: int, champion: str
) -> CurrentData:
    engine = reader.open_log(reader.log_url(url))
    origins = ORIGINS if origin == "all" else (origin,)
    counted = reader.versions(engine, since, until, origins=origins)
    if not counted:
        message = (
            f"the inference log holds no row of origin {origin} in this window; give another since, until or "
            "origin, or score something"
        )
        raise reader.LogError(message)
    version = version_to_evaluate(counted, champion)
    # Of a sample of all rows only a few would be those of a version that has just been promoted.
    table = reader.read(engine, since, until, max_rows=max_rows, origins=origins, version=version)
    rows = counted.pop(version)
    ends = [
        timestamp.isoformat(sep=" ", timespec="minutes") for timestamp in (table["time"].min(), table["time"].max())
    ]
    name = f"log, {ends[0]} to {ends[1]}" + (f", {origin}" if origin != TRAFFIC else "")
    if rows <= max_rows:
        return CurrentData(table, None, name, rows, excluded=counted)
    labels = reader.read_labeled(engine, since, until, max_rows=max_rows, origins=origins, version=version)
    name = f"{name}, {len(table):,} of {rows:,} rows"
    return CurrentData(table, None, name, len(table), labels=labels, excluded=counted)
