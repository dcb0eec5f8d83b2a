"""Games of the shots, or other groups of rows: which are on both sides of a split."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.datasets import Dataset, current

_GAME, _DATE = "game_id", "game_date"


def group_columns(dataset: Dataset) -> tuple[str, str]:
    """Columns of the raw tables with the group and the time of a row; by default the game of a shot and its date."""
    group, time = dataset.group, dataset.time
    return group.raw_name if group else _GAME, time.raw_name if time else _DATE


@dataclass(frozen=True)
class Games:
    """The game and the date of each row of a table, each of shape (n,)."""

    game: npt.NDArray[np.int_]
    date: npt.NDArray[np.datetime64]


def games(shot_ids: "Sequence[object] | pd.Series[Any]", raw: pd.DataFrame) -> Games | None:
    """Find the game and the date of shots in the raw table; None if it has no games, or a shot is not in it.

    Parameters
    ----------
    shot_ids : array_like, shape (n,)
        ``shot_id`` of the rows.
    raw : pandas.DataFrame
        Id, group and time of the raw rows.
    """
    dataset = current()
    key, (game, date) = dataset.id.raw_name, group_columns(dataset)
    if not {key, game, date} <= set(raw.columns):
        return None
    known = raw[[key, game, date]].dropna().drop_duplicates(key).set_index(key)
    found = known.reindex(pd.Index(pd.Series(shot_ids).to_numpy()))
    # A number that orders the rows counts as days.
    is_number = dataset.time is not None and dataset.time.is_numeric
    dates = pd.to_datetime(found[date], errors="coerce", unit="D" if is_number else None)
    if found[game].isna().any() or dates.isna().any():
        return None
    return Games(pd.factorize(found[game])[0], dates.to_numpy())


def shared_games(game: npt.NDArray[np.int_], is_test: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Count the games of a split, and those with rows on both sides.

    Examples
    --------
    >>> found = shared_games(np.array([1, 1, 2, 3]), np.array([False, True, False, True]))
    >>> found["games"], found["games_on_both_sides"], found["test_rows_in_shared_games"]
    (3.0, 1.0, 0.5)
    """
    train, test = set(game[~is_test]), set(game[is_test])
    both = train & test
    shared = float(np.isin(game[is_test], list(both)).mean()) if is_test.any() else float("nan")
    return {
        "games": float(len(train | test)),
        "games_on_both_sides": float(len(both)),
        "test_rows_in_shared_games": shared,
    }
