"""Games of the shots: which are on both sides of a split."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.datasets import current

GAME, DATE = "game_id", "game_date"
"""Columns of the raw files with the game of a shot and its date."""


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
        ``shot_id``, ``game_id`` and ``game_date`` of the raw rows.
    """
    if not {current().id.name, GAME, DATE} <= set(raw.columns):
        return None
    known = (
        raw[[current().id.name, GAME, DATE]].dropna().drop_duplicates(current().id.name).set_index(current().id.name)
    )
    found = known.reindex(pd.Index(pd.Series(shot_ids).to_numpy()))
    dates = pd.to_datetime(found[DATE], errors="coerce")
    if found[GAME].isna().any() or dates.isna().any():
        return None
    return Games(pd.factorize(found[GAME])[0], dates.to_numpy())


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
