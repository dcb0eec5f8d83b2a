"""Log loss over time: of a window of labeled rows that moves along, with the base-rate loss of the same rows."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from data.groups import Groups
from monitor.metrics.binary import log_loss_by_row

Floats = npt.NDArray[np.float64]

MIN_WINDOW, MAX_WINDOW = 100, 2_000
"""Labeled rows of a window: a twentieth of them, within these limits."""
_POINTS = 120
_UPPER = 0.975


def rolling_loss(
    labels: "pd.Series[float]",
    probability: "pd.Series[float]",
    time: "pd.Series[pd.Timestamp]",
    groups: "pd.Series[Any] | None" = None,
) -> pd.DataFrame | None:
    """Compute the log loss of a moving window of labeled rows, in order of time.

    Parameters
    ----------
    labels, probability : pandas.Series
        1 or 0, and P(made), of each labeled row.
    time : pandas.Series of datetime64
        Rows without a time are excluded.
    groups : pandas.Series or None
        Group of each row, where rows of a group are not independent.

    Returns
    -------
    pandas.DataFrame or None
        One row per window: ``time`` of its last row, ``log_loss``, ``low`` and ``high`` (95% interval), ``base_rate``
        (log loss of the base rate of the window), ``rows``. None where there are fewer than
        ``MIN_WINDOW`` rows, or all have the same time.
    """
    known = time.notna().to_numpy()
    order = np.argsort(time[known].to_numpy(), kind="stable")
    when = time[known].to_numpy()[order]
    if len(when) < MIN_WINDOW or when[0] == when[-1]:
        return None
    true = labels.to_numpy(dtype=float)[known][order]
    loss = log_loss_by_row(true, probability.to_numpy(dtype=float)[known][order])
    window = int(np.clip(len(when) // 20, MIN_WINDOW, MAX_WINDOW))
    ends = np.unique(np.linspace(window, len(when), min(_POINTS, len(when) - window + 1)).round().astype(np.int64))
    mean, rate = _mean(loss, ends, window), _mean(true, ends, window)
    code = None if groups is None else Groups.of(groups[known]).code[order]
    windows = [slice(end - window, end) for end in ends]
    low, high = zip(*(mean_interval(loss[rows], None if code is None else code[rows]) for rows in windows), strict=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        base = -np.where(rate > 0, rate * np.log(rate), 0) - np.where(rate < 1, (1 - rate) * np.log(1 - rate), 0)
    return pd.DataFrame(
        {
            "time": when[ends - 1], "log_loss": mean, "low": low, "high": high, "base_rate": base, "rows": window,
        }
    )  # fmt: skip


def mean_interval(values: Floats, groups: npt.ArrayLike | None = None) -> tuple[float, float]:
    """The 95% interval of the mean of many values, with the variance of clusters where rows have groups.

    The quantile is that of Student's distribution with one degree of freedom fewer than there are groups (A. C. Cameron
    and D. L. Miller, A Practitioner's Guide to Cluster-Robust Inference, Journal of Human Resources 50, 2015). A single
    group shows nothing about others: the ends are NaN.

    Examples
    --------
    >>> low, high = mean_interval(np.array([0.9, 1.1] * 50))
    >>> round(low, 2), round(high, 2)
    (0.98, 1.02)
    """
    mean, rows = float(np.mean(values)), len(values)
    members = Groups(np.arange(rows), rows) if groups is None else Groups.of(groups)
    if members.count < 2:  # noqa: PLR2004
        return float("nan"), float("nan")
    free = members.count - 1
    variance = float((members.totals(values - mean) ** 2).sum()) * members.count / free
    reach = float(special.stdtrit(free, _UPPER)) * variance**0.5 / rows
    return mean - reach, mean + reach


def _mean(values: Floats, ends: npt.NDArray[np.int64], window: int) -> Floats:
    total = np.concatenate([[0.0], np.cumsum(values)])
    mean: Floats = (total[ends] - total[ends - window]) / window
    return mean
