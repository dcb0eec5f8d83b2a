"""Calibration curve: mean P(made) and FG% in the bins of the calibration error, for every chart and table."""

import pandas as pd

from monitor.metrics.binary import Floats, ScoreCounts, calibration_bins
from monitor.metrics.rates import wilson


def calibration_curve(labels: Floats, probability: Floats) -> pd.DataFrame:
    """Compute the calibration curve on the bins of `monitor.metrics.binary.calibration_bins`.

    Parameters
    ----------
    labels : ndarray of float, shape (n,)
        1 made, 0 missed; no nulls.
    probability : ndarray of float, shape (n,)
        P(made).

    Returns
    -------
    pandas.DataFrame
        One row per bin: ``rows``, ``predicted`` (mean P(made)), ``made`` (FG%), and ``low`` and ``high``, the 95%
        Wilson interval of FG%. The mean absolute gap between ``predicted`` and ``made``, weighted by ``rows``, is the
        calibration error.

    Examples
    --------
    >>> import numpy as np
    >>> found = calibration_curve(np.array([1.0, 0.0, 1.0]), np.array([0.4, 0.4, 0.6]))
    >>> found[["rows", "predicted", "made"]].to_numpy().tolist()
    [[2.0, 0.4, 0.5], [1.0, 0.6, 1.0]]
    """
    tally = ScoreCounts.of(labels, probability)
    of_value = pd.DataFrame({"rows": tally.rows, "predicted": tally.rows * tally.probability, "made": tally.made[0]})
    bins = of_value.groupby(calibration_bins(tally)).sum()
    low, high = wilson(bins["made"], bins["rows"])
    shares = bins.assign(predicted=bins["predicted"] / bins["rows"], made=bins["made"] / bins["rows"])
    return shares.assign(low=low, high=high).reset_index(drop=True)
