"""Scored rows in the order of their time, and what of them a version has learned from."""

from collections.abc import Collection
from functools import lru_cache

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd

from data.errors import KobeShotError
from data.preparation.manifest import IDS, TRAIN
from data.schema import FEATURES, GAME_DATE, IN_TRAINING, MODEL_VERSION, SHOT_ID, TARGET
from monitor.store.tables import TIME, identified, table_of
from serving import registry

LEARNED_UNTIL = "learned_until"
LABELS_LEARNED = "labels_learned"
"""Tags of a version that was trained on labels that had arrived: time of the newest of them, ISO 8601, and how many.

They are the last rows of its training table.
"""

_VERSIONS_KEPT = 4
_KINDS = {**dict.fromkeys((*FEATURES, TARGET), "float64"), TIME: "datetime64[us]"}


class ArrivalError(KobeShotError):
    """Rows that cannot be put in the order of their time."""


def sort_by_time(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """A table in the order in which its rows came, the oldest first.

    Parameters
    ----------
    table : pandas.DataFrame
        Holds ``time`` (when a row was scored), or ``game_date``.
    name : str
        What to call it in a message.

    Returns
    -------
    pandas.DataFrame
        With ``time`` (datetime64, UTC without a zone), and a new index. Rows of one time keep their order.

    Raises
    ------
    ArrivalError
        If there is neither column, or a value in it is no date.
    """
    column = TIME if TIME in table else GAME_DATE
    if column not in table:
        message = f"{name}: expected a column {TIME} or {GAME_DATE}, which puts labels in the order of their time"
        raise ArrivalError(message)
    times = pd.to_datetime(table[column], format="ISO8601", errors="coerce", utc=True).dt.tz_localize(None)
    if times.isna().any():
        found = table[column][times.isna()].iloc[0]
        message = f"{name}: expected a date such as 2000-10-31 in {column} of every row; found {found!r}"
        raise ArrivalError(message)
    return table.assign(**{TIME: times}).sort_values(TIME, kind="stable", ignore_index=True)


def is_training_row(table: pd.DataFrame, version: str) -> npt.NDArray[np.bool_]:
    """Which rows are among the labels that a version has learned from, shape (n,).

    They are known as `join_key` says; where it says nothing, none is. Dev rows do not count: what is in operation is
    compared with the labels that arrived.

    Raises
    ------
    TableError
        If no run holds the version's training rows any more.
    """
    learned = training_labels(version)
    return np.zeros(len(table), dtype=bool) if learned is None else is_among(table, learned)


def training_labels(version: str) -> pd.DataFrame | None:
    """The delayed labels that a version was trained on, or None; see `is_training_row`."""
    tags = registry.tags_of(version)
    if LEARNED_UNTIL not in tags:
        return None
    digests = tags[f"sha256_{TRAIN}"], tags.get(f"sha256_{IDS[TRAIN]}", "")
    return _labels_of(version, digests, int(tags[LABELS_LEARNED]), mlflow.get_tracking_uri())


def join_key(columns: Collection[str], learned: pd.DataFrame) -> list[str]:
    """The columns by which rows of a table are known among the labels that a version has learned from.

    They are ``shot_id``, or where a label has none the time and the values; no column where a side has neither. The
    values alone are none: different shots share them, at the hoop most of all.

    Parameters
    ----------
    columns : collection of str
        Of the table.
    learned : pandas.DataFrame
        Of `training_labels`.
    """
    for keys in ([SHOT_ID], [TIME, *FEATURES, TARGET]):
        if set(keys) <= {*columns} & {*learned.columns} and bool(learned[keys].notna().all(axis=None)):
            return keys
    return []


def is_among(table: pd.DataFrame, learned: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Which rows have a label and are among those that `training_labels` gives, shape (n,)."""
    keys = join_key(table.columns, learned)
    if not keys:
        return np.zeros(len(table), dtype=bool)
    if keys == [SHOT_ID]:
        return np.asarray(table[SHOT_ID].isin(learned[SHOT_ID]) & table[TARGET].notna())
    ours, theirs = (pd.MultiIndex.from_frame(each[keys].astype(_KINDS)) for each in (table, learned))
    return np.asarray(ours.isin(theirs) & table[TARGET].notna())


def flag_training_rows(table: pd.DataFrame) -> pd.DataFrame:
    """A scored table with ``learned`` (bool), where one of its versions has learned from labels that had arrived."""
    if MODEL_VERSION not in table:
        return table
    learned = np.zeros(len(table), dtype=bool)
    for version in table[MODEL_VERSION].dropna().unique():
        by_version = (table[MODEL_VERSION] == version).fillna(value=False).to_numpy(dtype=bool)
        learned[by_version] = is_training_row(table[by_version], str(version))
    return table.assign(**{IN_TRAINING: learned}) if learned.any() else table


@lru_cache(maxsize=_VERSIONS_KEPT)
def _labels_of(version: str, sha256: tuple[str, str], labels: int, _store: str) -> pd.DataFrame:
    return identified(pd.read_parquet(table_of(TRAIN, sha256[0], version)), TRAIN, version).tail(labels)
