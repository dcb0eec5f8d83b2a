"""What the metrics of rows without labels must be, if P(made) still means what it meant on the reference.

Confidence-based performance estimation (CBPE): with calibrated probabilities the expected confusion, and with it the
expected metric, follows from the probabilities alone. Source: J. Białek, W. Kuberski, N. Perrakis and A. Bifet,
Estimating Model Performance Under Covariate Shift Without Labels, arXiv:2401.08348, and NannyML's documentation of
CBPE. Calibration is Cox's recalibration, a logistic regression of the labels on the log-odds (D. R. Cox, Biometrika
45, 1958), whose own uncertainty is part of the intervals.

Two things void the estimate. If the truth behind the same features changes (concept drift), calibrated P(made) is no
longer true, and no figure but labels can show it; ``tests/monitor/estimation/test_cbpe.py`` shows the estimate wrong.
And outside the training support nobody knows whether they are true: such rows are left out, and said to be.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from monitor.metrics.binary import THRESHOLD, Floats, ScoreCounts, compute_metrics
from monitor.metrics.intervals import CONFIDENCE, SAMPLES, Interval, percentile_interval

ESTIMATED = ("log_loss", "accuracy", "f1_score", "roc_auc")
"""The metrics that are estimated."""
FEWEST_ROWS = 30
"""Rows inside the training support that an estimate needs."""
MOST_OUTSIDE = 0.05
"""Share of rows outside the training support from which nothing is promised of the whole table."""

_FEWEST_OF_EACH_LABEL = 5
_EXTREME = 1e-6
_SAMPLES_AT_ONCE = 100


class EstimateError(ValueError):
    """The reference cannot tell what P(made) means."""


@dataclass(frozen=True)
class Calibration:
    """What P(made) meant on the reference: log-odds of the rate = intercept + slope × log-odds of P(made).

    Attributes
    ----------
    coefficients : ndarray of float64, shape (2,)
        Intercept and slope; 0 and 1 for a calibrated model.
    covariance : ndarray of float64, shape (2, 2)
        Of their estimates.
    """

    coefficients: Floats
    covariance: Floats

    @classmethod
    def of(cls, labels: npt.ArrayLike, probability: npt.ArrayLike) -> "Calibration":
        """Learn it from labelled rows that the model has not learned from.

        Parameters
        ----------
        labels : array_like of float, shape (n,)
            1 made, 0 missed.
        probability : array_like of float, shape (n,)
            P(made).

        Raises
        ------
        EstimateError
            If there are fewer than five rows of a label.
        """
        truth = np.asarray(labels, dtype=float)
        odds = _log_odds(np.asarray(probability, dtype=float))
        made = int(truth.sum())
        if min(made, len(truth) - made) < _FEWEST_OF_EACH_LABEL:
            message = (
                f"expected {_FEWEST_OF_EACH_LABEL} or more made and missed shots in the reference; found {made} made, "
                f"{len(truth) - made} missed"
            )
            raise EstimateError(message)
        if np.ptp(odds) == 0:
            # A constant model: only its level can be wrong.
            rate = truth.mean()
            covariance = np.array([[1 / (len(truth) * rate * (1 - rate)), 0.0], [0.0, 0.0]])
            return cls(np.array([np.log(rate / (1 - rate)) - odds[0], 1.0]), covariance)
        model = LogisticRegression(penalty=None).fit(odds[:, None], truth)
        fitted = model.predict_proba(odds[:, None])[:, 1]
        design = np.column_stack([np.ones(len(odds)), odds])
        information = design.T @ (design * (fitted * (1 - fitted))[:, None])
        return cls(np.array([model.intercept_[0], model.coef_[0, 0]]), np.linalg.inv(information))

    def rate(self, probability: npt.ArrayLike, coefficients: Floats | None = None) -> Floats:
        """The rate that P(made) stands for.

        Parameters
        ----------
        probability : array_like of float, shape (k,)
        coefficients : ndarray of float64, shape (r, 2), or None
            Other coefficients than the estimated ones.

        Returns
        -------
        ndarray of float64, shape (k,) or (r, k)
        """
        odds = _log_odds(np.asarray(probability, dtype=float))
        chosen = self.coefficients if coefficients is None else coefficients
        rate: Floats = 1 / (1 + np.exp(-(chosen[..., :1] + chosen[..., 1:] * odds)))
        return rate


@dataclass(frozen=True)
class Estimate:
    """Expected metrics of rows whose labels are not known.

    Attributes
    ----------
    rows, supported : int
        All rows, and those inside the training support; the figures are about the latter only.
    intervals : dict of str to Interval
        Each metric of ``ESTIMATED`` with the interval in which the one that the labels will show is expected; empty
        where there are too few supported rows.
    refused : str
        Why nothing is promised of the table as a whole; empty where something is.
    """

    rows: int
    supported: int
    intervals: dict[str, Interval]
    refused: str

    @property
    def outside(self) -> int:
        """Rows outside the training support."""
        return self.rows - self.supported


def estimate_performance(  # noqa: PLR0913 the last three have defaults that hold
    calibration: Calibration,
    probability: npt.ArrayLike,
    outside: npt.NDArray[np.bool_],
    *,
    threshold: float = THRESHOLD,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Estimate:
    """Expect the metrics of rows without labels.

    Parameters
    ----------
    calibration : Calibration
        What P(made) meant on the reference.
    probability : array_like of float, shape (n,)
        P(made) of the rows.
    outside : ndarray of bool, shape (n,)
        Which rows lie outside the training support.
    threshold : float
        P(made) from which a shot is predicted to be made.
    samples, seed : int
        Number of sets of labels that are drawn for the intervals, and the seed of the draws.

    Examples
    --------
    >>> stream = np.random.default_rng(0)
    >>> made = stream.uniform(0.2, 0.8, 5_000)
    >>> calibration = Calibration.of(stream.random(5_000) < made, made)
    >>> found = estimate_performance(calibration, made[:1_000], np.zeros(1_000, dtype=bool))
    >>> abs(found.intervals["accuracy"].value - 0.65) < 0.02
    True
    """
    made = np.asarray(probability, dtype=float)[~outside]
    rows, supported = len(outside), len(made)
    if supported < FEWEST_ROWS:
        few = f"{supported:,} of {rows:,} rows lie inside the training support; an estimate needs {FEWEST_ROWS}"
        return Estimate(rows, supported, {}, few)
    refused = ""
    if rows - supported > MOST_OUTSIDE * rows:
        refused = (
            f"{rows - supported:,} of {rows:,} rows ({1 - supported / rows:.0%}) lie outside the training support: "
            "nothing can be promised of them without labels"
        )
    return Estimate(rows, supported, _expect(calibration, made, threshold, samples, seed), refused)


def _expect(calibration: Calibration, made: Floats, threshold: float, samples: int, seed: int) -> dict[str, Interval]:
    values, counts = np.unique(made, return_counts=True)
    rate = calibration.rate(values)
    expected = compute_metrics(
        ScoreCounts(values, counts.astype(float), (counts * rate)[None], (counts * (1 - rate))[None]), threshold
    )
    stream = np.random.default_rng(seed)
    parts: list[dict[str, Floats]] = []
    for start in range(0, samples, _SAMPLES_AT_ONCE):
        size = min(_SAMPLES_AT_ONCE, samples - start)
        coefficients = stream.multivariate_normal(calibration.coefficients, calibration.covariance, size)
        drawn = stream.binomial(counts, calibration.rate(values, coefficients)).astype(float)
        parts.append(compute_metrics(ScoreCounts(values, counts.astype(float), drawn, counts - drawn), threshold))
    drawn_figures = {name: np.concatenate([part[name] for part in parts]) for name in ESTIMATED}
    return {
        name: Interval(float(expected[name][0]), *percentile_interval(drawn_figures[name], CONFIDENCE))
        for name in ESTIMATED
    }


def _log_odds(probability: Floats) -> Floats:
    kept = np.clip(probability, _EXTREME, 1 - _EXTREME)
    odds: Floats = np.log(kept / (1 - kept))
    return odds
