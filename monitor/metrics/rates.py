"""FG% by court location and by group: actual, predicted by the model, and the interval of the actual FG%."""

from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from data import court
from data.datasets import current
from data.schema import PROBABILITY

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]

SIZE = "size_feet"
"""Key of ``DataFrame.attrs`` with the size of the hexagons of a table."""
SIZE_FEET = 2.0

_TWO_SIDED_95, _ONE_SIDED = NormalDist().inv_cdf(0.975), 0.05


def hexagons(shots: pd.DataFrame, *, size_feet: float = SIZE_FEET, fewest: int = 1) -> pd.DataFrame:
    """Compute the FG% of each hexagon of a grid over the court; one hexagon is centered on the hoop, corners point up.

    Parameters
    ----------
    shots : pandas.DataFrame
        ``lat`` and ``lng`` in degrees, ``shot_made_flag`` (1, 0 or NaN) and ``probability``, P(made). Rows without a
        position are excluded.
    size_feet : float
        Distance between the centers of adjacent hexagons, feet.
    min_shots : int
        Hexagons with fewer shots are excluded.

    Returns
    -------
    pandas.DataFrame
        One row per hexagon with ``x`` and ``y`` of its center in feet from the hoop, and the columns of
        `rates_by_group`. ``attrs["size_feet"]`` keeps `size_feet`.

    Raises
    ------
    ValueError
        If `size_feet` is not more than 0.

    Examples
    --------
    >>> at_the_hoop = {"lat": 34.0443, "lng": -118.2698, "shot_made_flag": [1.0, 0.0], "probability": [0.6, 0.5]}
    >>> hexagons(pd.DataFrame(at_the_hoop))[["x", "y", "shots", "rate", "difference"]].round(2).to_numpy().tolist()
    [[0.0, 0.0, 2.0, 0.5, -0.05]]
    """
    placed, centers, place = _places(shots, size_feet)
    table = _rates(shots.loc[placed, current().target.name], shots.loc[placed, PROBABILITY], place, len(centers))
    table.insert(0, "x", centers[:, 0])
    table.insert(1, "y", centers[:, 1])
    table = table[table["shots"] >= fewest].reset_index(drop=True)
    table.attrs[SIZE] = size_feet
    return table


def counts(shots: pd.DataFrame, *, size_feet: float = SIZE_FEET) -> pd.DataFrame:
    """Count the shots in each hexagon: the columns ``x``, ``y`` and ``shots`` of `hexagons`.

    Parameters
    ----------
    shots : pandas.DataFrame
        ``lat`` and ``lng``, degrees; other columns are ignored.
    size_feet : float
        See `hexagons`.

    Raises
    ------
    ValueError
        If `size_feet` is not more than 0.
    """
    _, centers, place = _places(shots, size_feet)
    table = pd.DataFrame({"x": centers[:, 0], "y": centers[:, 1], "shots": _count(place, len(centers))})
    table.attrs[SIZE] = size_feet
    return table


def rates_by_group(shots: pd.DataFrame, groups: "pd.Series[Any] | npt.NDArray[Any]") -> pd.DataFrame:
    """Compute the FG% of groups of shots.

    Parameters
    ----------
    shots : pandas.DataFrame
        ``shot_made_flag`` (1, 0 or NaN) and ``probability``, P(made).
    groups : Series or ndarray, shape (n,)
        Group of each row, by position. Rows without a group are excluded.

    Returns
    -------
    pandas.DataFrame
        One row per non-empty group, in the order of the categories if `groups` is categorical, else sorted. Columns:
        ``group``; ``shots``, ``labeled`` and ``made``, int64; ``rate``, the FG% of the labeled rows; ``predicted``,
        their mean P(made); ``difference``, rate minus predicted; ``low`` and ``high``, the 95% Wilson interval of the
        rate. The last five are NaN where no row is labeled.

    Examples
    --------
    >>> shots = pd.DataFrame({"shot_made_flag": [1.0, 0.0, np.nan], "probability": [0.6, 0.4, 0.5]})
    >>> found = rates_by_group(shots, np.array(["near", "near", "far"]))
    >>> found[["group", "shots", "labeled", "rate"]].to_numpy().tolist()
    [['far', 1, 0, nan], ['near', 2, 2, 0.5]]
    """
    categories = pd.Categorical(pd.Series(groups))
    member = np.asarray(categories.codes, dtype=np.int64)
    grouped = member >= 0
    table = _rates(
        shots.loc[grouped, current().target.name],
        shots.loc[grouped, PROBABILITY],
        member[grouped],
        len(categories.categories),
    )
    table.insert(0, "group", categories.categories.to_numpy())
    return table[table["shots"] > 0].reset_index(drop=True)


def wilson(made: npt.ArrayLike, shots: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Compute the 95% Wilson interval of a proportion (E. B. Wilson, JASA 22, 1927).

    Parameters
    ----------
    made, shots : array_like of int, shape (n,)
        Successes and trials.

    Returns
    -------
    low, high : ndarray of float64, shape (n,)
        Ends of the interval, NaN where there is no shot.

    Examples
    --------
    >>> low, high = wilson([5, 0], [10, 0])
    >>> low.round(3).tolist(), high.round(3).tolist()
    ([0.237, nan], [0.763, nan])
    """
    successes, trials = np.asarray(made, dtype=float), np.asarray(shots, dtype=float)
    trials = np.where(trials > 0, trials, np.nan)
    share, spread = successes / trials, _TWO_SIDED_95**2 / trials
    middle = (share + spread / 2) / (1 + spread)
    reach = np.sqrt(spread * share * (1 - share) + spread**2 / 4) / (1 + spread)
    return np.clip(middle - reach, 0, 1), np.clip(middle + reach, 0, 1)


def exceeds(share: float, limit: float, rows: float) -> bool:
    """Whether a share of rows is significantly above a limit, by a one-sided binomial test at 5%.

    Parameters
    ----------
    share, limit : float
    rows : float
        Independent rows, which for rows in groups are fewer (`data.groups.Groups.design_effect`).

    Examples
    --------
    >>> exceeds(0.15, 0.1, 100), exceeds(0.16, 0.1, 100)
    (False, True)
    """
    trials = max(1, round(rows))
    return bool(stats.binomtest(round(share * trials), trials, limit, alternative="greater").pvalue < _ONE_SIDED)


def _places(shots: pd.DataFrame, size_feet: float) -> tuple[npt.NDArray[np.bool_], Floats, Numbers]:
    if not size_feet > 0:
        message = f"size_feet: expected more than 0, found {size_feet}"
        raise ValueError(message)
    x, y = court.to_feet(shots["lat"], shots["lng"])
    placed = np.isfinite(x) & np.isfinite(y)
    return placed, *hexagon_places(x[placed], y[placed], size_feet)


def hexagon_places(x: Floats, y: Floats, size_feet: float = SIZE_FEET) -> tuple[Floats, Numbers]:
    """Assign positions, in feet from the hoop, to hexagons.

    Returns
    -------
    centers : ndarray of float64, shape (k, 2)
        Of each hexagon that holds a position.
    place : ndarray of int64, shape (n,)
        Hexagon of each position.
    """
    # A hexagonal grid is two rectangular grids, the second shifted by half a step; a point is in the hexagon whose
    # center is the nearest of the two candidates. Integers count half steps, so that equal centers compare equal.
    step = np.array([size_feet, size_feet * np.sqrt(3)])
    scaled = np.column_stack([x, y]) / step
    even, odd = np.rint(scaled), np.floor(scaled) + 0.5
    near_even = (((scaled - even) * step) ** 2).sum(axis=1) <= (((scaled - odd) * step) ** 2).sum(axis=1)
    nearest = (np.where(near_even[:, None], even, odd) * 2).astype(np.int64)
    found, place = np.unique(nearest, axis=0, return_inverse=True)
    return found * step / 2, np.asarray(place, dtype=np.int64).ravel()


def _count(member: Numbers, groups: int) -> Numbers:
    return np.bincount(member, minlength=groups).astype(np.int64)


def _rates(labels: "pd.Series[float]", probability: "pd.Series[float]", member: Numbers, groups: int) -> pd.DataFrame:
    targets, expected = labels.to_numpy(dtype=float), probability.to_numpy(dtype=float)
    known = ~np.isnan(targets)
    labeled = _count(member[known], groups)
    made = _count(member[known & (targets == 1)], groups)
    divisor = np.where(labeled > 0, labeled, np.nan)
    mean = np.bincount(member[known], weights=expected[known], minlength=groups) / divisor
    rate = made / divisor
    low, high = wilson(made, labeled)
    return pd.DataFrame(
        {
            "shots": _count(member, groups),
            "labeled": labeled,
            "made": made,
            "rate": rate,
            "expected": mean,
            "difference": rate - mean,
            "low": low,
            "high": high,
        }
    )
