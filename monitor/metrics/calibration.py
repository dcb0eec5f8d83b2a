"""P(made) beside the share made, in the bins of the calibration error: what every chart and table of it shows."""

import pandas as pd

from monitor.metrics.binary import Floats, ScoreCounts, calibration_bins
from monitor.metrics.rates import wilson


def calibration_curve(labels: Floats, probability: Floats) -> pd.DataFrame:
    """The bins of the calibration error; see `monitor.metrics.binary.calibration_bins`.

    Parameters
    ----------
    labels : ndarray of float, shape (n,)
        1 made, 0 missed; no nulls.
    probability : ndarray of float, shape (n,)
        P(made).

    Returns
    -------
    pandas.DataFrame
        A row per bin: ``rows``, ``predicted`` (mean P(made)), ``made`` (share), and ``low`` and ``high``, its 95 %
        Wilson interval. The mean of the gaps of ``predicted`` and ``made``, weighed by ``rows``, is the calibration
        error.

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
