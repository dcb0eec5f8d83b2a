"""Scored rows in the order of their time, and the labels among them that a version was trained on."""

from collections.abc import Collection
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.datasets import current
from data.errors import KobeShotError
from data.preparation.manifest import IDS, TRAIN
from data.schema import IN_TRAINING, MODEL_VERSION
from monitor.store.model_store import ModelStore
from monitor.store.tables import TIME, find_table, identified

_VERSIONS_KEPT = 4
_UNIT_ENDS = {"D": 1e5, "s": 9e9, "ms": 9e12, "us": 9e15, "ns": 9e18}
"""The largest numbers that count from 1970 in a unit."""


class ArrivalError(KobeShotError):
    """Rows that cannot be put in the order of their time."""


def sort_by_time(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """A table in the order of its rows' times, the oldest first.

    Parameters
    ----------
    table : pandas.DataFrame
        Holds ``time`` (when a row was scored), or the column of role ``time`` of the dataset of this process.
    name : str
        Its name in messages.

    Returns
    -------
    pandas.DataFrame
        With ``time`` (datetime64, UTC without a zone), and a new index. Rows of one time keep their order.

    Raises
    ------
    ArrivalError
        If there is neither column, or a value in it is no date.
    """
    own = current().time
    column = TIME if TIME in table or own is None else own.name
    if column not in table:
        either = f" or {own.name}" if own else ""
        advice = "" if own else f". Give the role time to a column of the description of {current().name}"
        message = f"{name}: expected a column {TIME}{either}, which puts labels in the order of their time{advice}"
        raise ArrivalError(message)
    if column != TIME and own is not None and own.is_numeric:
        times = _since_1970(pd.to_numeric(table[column], errors="coerce"))
    else:
        times = pd.to_datetime(table[column], format="ISO8601", errors="coerce", utc=True).dt.tz_localize(None)
    if times.isna().any():
        found = table[column][times.isna()].iloc[0]
        expected = "a number" if own is not None and own.is_numeric else "a date such as 2000-10-31"
        message = f"{name}: expected {expected} in {column} of every row; found {found!r}"
        raise ArrivalError(message)
    return table.assign(**{TIME: times}).sort_values(TIME, kind="stable", ignore_index=True)


def _since_1970(numbers: "pd.Series[float]") -> "pd.Series[pd.Timestamp]":
    """Numbers that order rows as timestamps: days, or the largest unit in which all of them are dates."""
    largest = numbers.abs().max()
    unit = next((unit for unit, end in _UNIT_ENDS.items() if not largest > end), "ns")
    return pd.to_datetime(numbers.where(numbers.abs() < _UNIT_ENDS["ns"]), unit=unit)


def is_training_row(store: ModelStore, table: pd.DataFrame, version: str) -> npt.NDArray[np.bool_]:
    """Which rows are among the labels that a version was trained on, shape (n,).

    They are known by `join_key`; where there is none, no row is. Dev rows do not count: rows in operation are compared
    with delayed labels only.

    Raises
    ------
    TableError
        If no run holds the version's training rows any more.
    """
    used = training_labels(store, version)
    return np.zeros(len(table), dtype=bool) if used is None else is_among(table, used)


def training_labels(store: ModelStore, version: str) -> pd.DataFrame | None:
    """The delayed labels that a version was trained on, None where there are none; see `is_training_row`."""
    found = store.version(version)
    if found is None or not found.training_labels:
        return None
    digests = found.sha256(TRAIN), found.sha256(IDS[TRAIN])
    return _labels_of(store, version, digests, found.training_labels)


def join_key(columns: Collection[str], labels: pd.DataFrame) -> list[str]:
    """The columns by which rows of a table are known among the labels that a version was trained on.

    They are the id, or where a label has none the time and the values; no column where a side has neither. The
    values alone are no key: different shots share them, at the hoop most of all.

    Parameters
    ----------
    columns : collection of str
        Of the table.
    labels : pandas.DataFrame
        Of `training_labels`.
    """
    dataset = current()
    for keys in ([dataset.id.name], [TIME, *dataset.feature_names, dataset.target.name]):
        if set(keys) <= {*columns} & {*labels.columns} and bool(labels[keys].notna().all(axis=None)):
            return keys
    return []


def is_among(table: pd.DataFrame, labels: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Which rows have a label and are among those that `training_labels` returns, shape (n,)."""
    keys = join_key(table.columns, labels)
    if not keys:
        return np.zeros(len(table), dtype=bool)
    dataset = current()
    has_label = table[dataset.target.name].notna()
    if keys == [dataset.id.name]:
        return np.asarray(table[keys[0]].isin(labels[keys[0]]) & has_label)
    numbers = [column.name for column in (*dataset.numeric, dataset.target)]
    kinds = {**dict.fromkeys(dataset.feature_names, "object"), **dict.fromkeys(numbers, "float64")}
    ours, theirs = (
        pd.MultiIndex.from_frame(each[keys].astype({**kinds, TIME: "datetime64[us]"})) for each in (table, labels)
    )
    return np.asarray(ours.isin(theirs) & has_label)


def flag_training_rows(store: ModelStore, table: pd.DataFrame) -> pd.DataFrame:
    """A scored table with `data.schema.IN_TRAINING` (bool), where one of its versions was trained on delayed labels."""
    if MODEL_VERSION not in table:
        return table
    used = np.zeros(len(table), dtype=bool)
    for version in table[MODEL_VERSION].dropna().unique():
        by_version = (table[MODEL_VERSION] == version).fillna(value=False).to_numpy(dtype=bool)
        used[by_version] = is_training_row(store, table[by_version], str(version))
    return table.assign(**{IN_TRAINING: used}) if used.any() else table


@lru_cache(maxsize=_VERSIONS_KEPT)
def _labels_of(store: ModelStore, version: str, sha256: tuple[str, str], labels: int) -> pd.DataFrame:
    # They are the last rows of its training table.
    table = pd.read_parquet(find_table(store, TRAIN, sha256[0], version))
    return identified(store, table, TRAIN, version).tail(labels)
