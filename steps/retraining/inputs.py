"""The champion and the scored rows that a retraining decision uses."""

import sys
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import pandas as pd

from data import datasets
from data.datasets import current
from data.schema import IN_TRAINING, MODEL_VERSION
from data.storage.locations import local_table
from monitor.health.baseline import baseline as reference_data
from monitor.health.evaluation import Evaluation, ServingState
from monitor.health.overlap import marked
from monitor.store import tables
from monitor.store.labels import flag_training_rows, is_training_row, sort_by_time
from monitor.store.model_store import current_store
from monitor.store.records import ModelVersion
from monitor.store.tables import TIME
from serving.inference_log import reader
from steps.retraining.training_set import TrainingSetError
from steps.shared.current_data import APPLICATION, LOG, read_application, read_table


@dataclass(frozen=True)
class DecisionInputs:
    """The champion and the scored rows that a decision uses."""

    champion: ModelVersion
    rows: pd.DataFrame
    name: str
    now: datetime

    @cached_property
    def labels(self) -> pd.DataFrame:
        """Labeled rows, each shot once, with a mask of those that the champion was trained on."""
        rows = self.rows[self.rows[current().target.name].notna()]
        if current().id.name in rows:
            rows = rows[rows[current().id.name].isna() | ~rows[current().id.name].duplicated()]
        return rows.assign(**{IN_TRAINING: is_training_row(current_store(), rows, self.champion.version)})


def read_inputs(  # noqa: PLR0913 a source, and how much of it
    champion: ModelVersion, current: str, log_url: str, now: datetime, *, max_labels: int, recent_rows: int
) -> DecisionInputs:
    """Read the scored rows up to a time.

    Parameters
    ----------
    champion : ModelVersion
    current : str
        ``application``, ``log``, or path of a table.
    log_url : str
        Of the inference log; empty is the default.
    now : datetime
        Time of the decision, with a zone: rows after it are excluded.
    max_labels, recent_rows : int
        Latest labels and latest rows that are read from the log.

    Raises
    ------
    TableError, LogError, LabelTimeError
        If the rows are missing or damaged, or have no time.
    TrainingSetError
        If the champion was trained on synthetic shots and the rows are real, or the reverse.
    """
    if current == LOG:
        table, name = _read_log(log_url, champion.version, max_labels, recent_rows), "log"
    else:
        table, name = _read_table(current, champion)
    rows = sort_by_time(table, name)
    return DecisionInputs(champion, rows[rows[TIME] <= now.replace(tzinfo=None)], name, now)


def _read_log(log_url: str, version: str, max_labels: int, recent_rows: int) -> pd.DataFrame:
    engine = reader.open_log(reader.log_url(log_url))
    found = reader.read_latest(engine, labeled=max_labels, rows=recent_rows, version=version)
    if found.empty:
        message = f"the inference log holds no row; score some {current().rows} first"
        raise reader.LogError(message)
    return flag_training_rows(current_store(), found)


def _read_table(current: str, champion: ModelVersion) -> tuple[pd.DataFrame, str]:
    """The scored rows of a table, and their name."""
    if current != APPLICATION:
        with local_table(current) as path:
            found = read_table(path, sys.maxsize, champion.version)
    else:
        found = read_application(sys.maxsize)
        kinds = [
            "synthetic" if each.synthetic else "real" for each in (tables.last_batch_scoring(current_store()), champion)
        ]
        if kinds[0] != kinds[1]:
            what = f"{kinds[0]} {datasets.current().rows}"
            message = (
                f"aplicacao last scored {what}, champion version {champion.version} was trained on "
                f"{kinds[1]} ones: their labels cannot retrain it. Run main with the source that it was trained on."
            )
            raise TrainingSetError(message)
    return found.table, found.name


def evaluate(inputs: DecisionInputs) -> Evaluation | None:
    """The evaluation of the rows that the champion scored; None where there are none."""
    rows = inputs.rows
    if MODEL_VERSION in rows and rows[MODEL_VERSION].notna().any():
        rows = rows[rows[MODEL_VERSION] == int(inputs.champion.version)]
    if rows.empty:
        return None
    baseline = reference_data(current_store(), inputs.champion.version)
    return Evaluation(
        baseline,
        marked(rows.reset_index(drop=True), baseline),
        ServingState(inputs.now, current_store().champion()),
        inputs.name,
    )
