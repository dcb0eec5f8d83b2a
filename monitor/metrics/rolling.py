"""Log loss over time: of a window of labeled rows that moves along, with the base-rate loss of the same rows."""

from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pandas as pd

from monitor.metrics.binary import log_loss_by_row

Floats = npt.NDArray[np.float64]

MIN_WINDOW, MAX_WINDOW = 100, 2_000
"""Labeled rows of a window: a twentieth of them, within these limits."""
_POINTS = 120
_TWO_SIDED_95 = NormalDist().inv_cdf(0.975)


def rolling_loss(
    labels: "pd.Series[float]", probability: "pd.Series[float]", time: "pd.Series[pd.Timestamp]"
) -> pd.DataFrame | None:
    """Compute the log loss of a moving window of labeled rows, in order of time.

    Parameters
    ----------
    labels, probability : pandas.Series
        1 or 0, and P(made), of each labeled row.
    time : pandas.Series of datetime64
        Rows without a time are excluded.

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
    spread = np.sqrt(np.maximum(_mean(loss**2, ends, window) - mean**2, 0) / window) * _TWO_SIDED_95
    with np.errstate(divide="ignore", invalid="ignore"):
        base = -np.where(rate > 0, rate * np.log(rate), 0) - np.where(rate < 1, (1 - rate) * np.log(1 - rate), 0)
    return pd.DataFrame(
        {
            "time": when[ends - 1], "log_loss": mean, "low": mean - spread, "high": mean + spread, "base_rate": base,
            "rows": window,
        }
    )  # fmt: skip


def mean_interval(values: Floats) -> tuple[float, float]:
    """The 95% interval of the mean of many independent values.

    Examples
    --------
    >>> low, high = mean_interval(np.array([0.9, 1.1] * 50))
    >>> round(low, 2), round(high, 2)
    (0.98, 1.02)
    """
    reach = _TWO_SIDED_95 * float(np.std(values)) / np.sqrt(len(values))
    return float(np.mean(values) - reach), float(np.mean(values) + reach)


def _mean(values: Floats, ends: npt.NDArray[np.int64], window: int) -> Floats:
    total = np.concatenate([[0.0], np.cumsum(values)])
    mean: Floats = (total[ends] - total[ends - window]) / window
    return mean
