"""Scored rows in the order of their time, and what of them a version has learned from."""

import pandas as pd
from mlflow import MlflowClient

from data.errors import KobeShotError
from data.schema import GAME_DATE, LEARNED, MODEL_VERSION, TARGET
from monitor.tables import TIME
from serving import registry

LEARNED_UNTIL = "learned_until"
"""Tag of a version that was trained on labels that had arrived: time of the newest row among them, ISO 8601."""


class ArrivalError(KobeShotError):
    """Rows that cannot be put in the order of their time."""


def in_order(table: pd.DataFrame, name: str) -> pd.DataFrame:
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
    times = pd.to_datetime(table[column], format="ISO8601", errors="coerce")
    if times.isna().any():
        found = table[column][times.isna()].iloc[0]
        message = f"{name}: expected a date such as 2000-10-31 in {column} of every row; found {found!r}"
        raise ArrivalError(message)
    return table.assign(**{TIME: times}).sort_values(TIME, kind="stable", ignore_index=True)


def learned_until(version: str) -> pd.Timestamp | None:
    """Time of the newest labelled row that a version has learned from; None for one that learned from dev rows only."""
    found = MlflowClient().get_model_version(registry.model(), version).tags.get(LEARNED_UNTIL)
    return pd.Timestamp(found) if found else None


def with_learned(table: pd.DataFrame) -> pd.DataFrame:
    """A scored table with ``learned`` (bool), where one of its versions has learned from labels that had arrived."""
    if MODEL_VERSION not in table or not {TIME, GAME_DATE} & set(table.columns):
        return table
    ends = {version: learned_until(str(version)) for version in table[MODEL_VERSION].dropna().unique()}
    if not any(end is not None for end in ends.values()):
        return table
    times = pd.to_datetime(table[TIME if TIME in table else GAME_DATE], format="ISO8601", errors="coerce")
    newest = pd.to_datetime(table[MODEL_VERSION].map(ends))
    return table.assign(**{LEARNED: (times <= newest).fillna(value=False) & table[TARGET].notna()})
