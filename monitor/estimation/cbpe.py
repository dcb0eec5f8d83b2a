"""Confidence-based performance estimation (CBPE): metrics of rows without labels.

Calibrated probabilities determine the expected confusion matrix, and with it the expected metrics, without labels.
Source: J. Białek, W. Kuberski, N. Perrakis and A. Bifet,
Estimating Model Performance Under Covariate Shift Without Labels, arXiv:2401.08348, and NannyML's documentation of
CBPE. Calibration is Cox's recalibration, a logistic regression of the labels on the log-odds (D. R. Cox, Biometrika
45, 1958); the intervals include the uncertainty of its coefficients. Where rows have groups, such as games, the rows of
a group share a random effect on these coefficients, whose covariance is estimated on the reference: in a game more
shots may go in than in another, or they may be harder to predict.

Two conditions invalidate the estimate. After concept drift, the calibrated P(made) is wrong, and only labels reveal it;
``tests/monitor/estimation/test_cbpe.py`` demonstrates the error. Out of support, calibration is unknown: the estimate
excludes out-of-support rows and reports their number.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from data.datasets import current
from data.groups import Groups
from monitor.metrics.binary import THRESHOLD, Floats, ScoreCounts, compute_metrics, sample_counts
from monitor.metrics.intervals import CONFIDENCE, SAMPLES, Interval, percentile_interval

ESTIMATED = ("log_loss", "accuracy", "f1_score", "roc_auc")
"""The estimated metrics."""
MIN_ROWS = 30
"""Supported rows that an estimate needs."""
MAX_OUT_OF_SUPPORT = 0.05
"""Maximum out-of-support rate; above it, the estimate for the whole table is withheld."""

_MIN_PER_CLASS = 5
_EXTREME = 1e-6


class EstimateError(ValueError):
    """The reference has too few labels of a class to fit the calibration."""


@dataclass(frozen=True)
class Calibration:
    """Cox recalibration on the reference: log-odds of the rate = intercept + slope × log-odds of P(made).

    Attributes
    ----------
    coefficients : ndarray of float64, shape (2,)
        Intercept and slope; 0 and 1 for a calibrated model.
    covariance : ndarray of float64, shape (2, 2)
        Covariance of the estimated coefficients; of grouped rows, that of clusters.
    group_covariance : ndarray of float64, shape (2, 2)
        Covariance of the random effect of a group on the coefficients; 0 where rows are independent.
    """

    coefficients: Floats
    covariance: Floats
    group_covariance: Floats = field(default_factory=lambda: np.zeros((2, 2)))

    @classmethod
    def of(
        cls, labels: npt.ArrayLike, probability: npt.ArrayLike, groups: npt.ArrayLike | None = None
    ) -> "Calibration":
        """Fit the calibration to labeled rows that the model was not trained on.

        Parameters
        ----------
        labels : array_like of float, shape (n,)
            1 made, 0 missed.
        probability : array_like of float, shape (n,)
            P(made).
        groups : array_like, shape (n,), or None
            Group of each row, where rows of a group are not independent.

        Raises
        ------
        EstimateError
            If either label has fewer than five rows.
        """
        y = np.asarray(labels, dtype=float)
        odds = _log_odds(np.asarray(probability, dtype=float))
        made = int(y.sum())
        if min(made, len(y) - made) < _MIN_PER_CLASS:
            words = current()
            message = (
                f"expected {_MIN_PER_CLASS} or more {words.positive} and {words.negative} {words.rows} in the "
                f"reference; found {made} {words.positive}, {len(y) - made} {words.negative}"
            )
            raise EstimateError(message)
        if np.ptp(odds) == 0:
            # A constant model has an intercept only.
            rate = y.mean()
            covariance = np.array([[1 / (len(y) * rate * (1 - rate)), 0.0], [0.0, 0.0]])
            return cls(np.array([np.log(rate / (1 - rate)) - odds[0], 1.0]), covariance)
        model = LogisticRegression(penalty=None).fit(odds[:, None], y)
        fitted = model.predict_proba(odds[:, None])[:, 1]
        design = np.column_stack([np.ones(len(odds)), odds])
        weight = fitted * (1 - fitted)
        information = design.T @ (design * weight[:, None])
        coefficients, covariance = np.array([model.intercept_[0], model.coef_[0, 0]]), np.linalg.inv(information)
        members = None if groups is None else Groups.of(groups)
        if members is None or members.count <= design.shape[1]:
            return cls(coefficients, covariance)
        residuals = y - fitted
        scores = np.column_stack([members.totals(residuals * column) for column in design.T])
        meat = scores.T @ scores * members.count / (members.count - 1)
        products = (members.totals(weight * left * right) for left in design.T for right in design.T)
        of_groups = np.stack(list(products), axis=1).reshape(-1, 2, 2)
        return cls(coefficients, covariance @ meat @ covariance, _group_covariance(scores, of_groups))

    def rate(self, probability: npt.ArrayLike, coefficients: Floats | None = None) -> Floats:
        """Return the calibrated probability of each P(made).

        Parameters
        ----------
        probability : array_like of float, shape (k,)
        coefficients : ndarray of float64, shape (r, 2), or None
            Coefficients in place of the estimated ones.

        Returns
        -------
        ndarray of float64, shape (k,) or (r, k)
        """
        odds = _log_odds(np.asarray(probability, dtype=float))
        used = self.coefficients if coefficients is None else coefficients
        rate: Floats = 1 / (1 + np.exp(-(used[..., :1] + used[..., 1:] * odds)))
        return rate


@dataclass(frozen=True)
class Estimate:
    """Estimated metrics of rows without labels.

    Attributes
    ----------
    rows, supported : int
        All rows, and the supported rows; the estimate covers the latter only.
    intervals : dict of str to Interval
        Each metric of ``ESTIMATED`` with the prediction interval of its actual value; empty where there are too few
        supported rows.
    unavailable_reason : str
        Why the estimate for the whole table is withheld; empty where it is available.
    """

    rows: int
    supported: int
    intervals: dict[str, Interval]
    unavailable_reason: str

    @property
    def out_of_support(self) -> int:
        """Out-of-support rows."""
        return self.rows - self.supported


def estimate_performance(  # noqa: PLR0913 the last four have defaults
    calibration: Calibration,
    probability: npt.ArrayLike,
    out_of_support: npt.NDArray[np.bool_],
    *,
    groups: npt.ArrayLike | None = None,
    threshold: float = THRESHOLD,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Estimate:
    """Estimate the metrics of rows without labels.

    Parameters
    ----------
    calibration : Calibration
        Calibration on the reference.
    probability : array_like of float, shape (n,)
        P(made) of the rows.
    out_of_support : ndarray of bool, shape (n,)
        Which rows are out of support.
    groups : array_like, shape (n,), or None
        Group of each row, where rows of a group are not independent.
    threshold : float
        Decision threshold.
    samples, seed : int
        Number of sets of labels drawn for the intervals, and seed of the draws.

    Examples
    --------
    >>> stream = np.random.default_rng(0)
    >>> made = stream.uniform(0.2, 0.8, 5_000)
    >>> calibration = Calibration.of(stream.random(5_000) < made, made)
    >>> found = estimate_performance(calibration, made[:1_000], np.zeros(1_000, dtype=bool))
    >>> abs(found.intervals["accuracy"].value - 0.65) < 0.02
    True
    """
    made = np.asarray(probability, dtype=float)[~out_of_support]
    rows, supported = len(out_of_support), len(made)
    if supported < MIN_ROWS:
        few = f"{supported:,} of {rows:,} rows are in support; an estimate needs {MIN_ROWS}"
        return Estimate(rows, supported, {}, few)
    unavailable_reason = ""
    if rows - supported > MAX_OUT_OF_SUPPORT * rows:
        unavailable_reason = (
            f"{rows - supported:,} of {rows:,} rows ({1 - supported / rows:.0%}) are out of support: "
            "their performance cannot be estimated without labels"
        )
    members = None if groups is None else Groups.of(np.asarray(groups)[~out_of_support])
    draws = _Draws(threshold, samples, seed, members if calibration.group_covariance.any() else None)
    return Estimate(rows, supported, _estimate(calibration, made, draws), unavailable_reason)


class _Draws(NamedTuple):
    """How labels are drawn; `groups` share a random effect."""

    threshold: float
    samples: int
    seed: int
    groups: Groups | None


def _estimate(calibration: Calibration, made: Floats, draws: _Draws) -> dict[str, Interval]:
    threshold, samples, seed, groups = draws
    values, place, counts = np.unique(made, return_inverse=True, return_counts=True)
    cell = sparse.csr_matrix((np.ones(len(made)), (np.arange(len(made)), place)), (len(made), len(values)))
    rate = calibration.rate(values)
    estimated = compute_metrics(
        ScoreCounts(values, counts.astype(float), (counts * rate)[None], (counts * (1 - rate))[None]), threshold
    )
    stream = np.random.default_rng(seed)
    parts: list[dict[str, Floats]] = []
    for size in sample_counts(samples, len(values) if groups is None else len(made)):
        coefficients = stream.multivariate_normal(calibration.coefficients, calibration.covariance, size)
        if groups is None:
            drawn = stream.binomial(counts, calibration.rate(values, coefficients)).astype(float)
        else:
            effects = stream.multivariate_normal(np.zeros(2), calibration.group_covariance, (size, groups.count))
            of_rows = effects[:, groups.code, 0] + effects[:, groups.code, 1] * _log_odds(made)
            rates = calibration.rate(made, coefficients)
            # The calibrated rates are means over groups, which effects on the rates keep.
            rates += rates * (1 - rates) * of_rows
            drawn = np.asarray((stream.random(rates.shape) < rates).astype(float) @ cell)
        parts.append(compute_metrics(ScoreCounts(values, counts.astype(float), drawn, counts - drawn), threshold))
    drawn_metrics = {name: np.concatenate([part[name] for part in parts]) for name in ESTIMATED}
    return {
        name: Interval(float(estimated[name][0]), *percentile_interval(drawn_metrics[name], CONFIDENCE))
        for name in ESTIMATED
    }


def _group_covariance(scores: Floats, information: Floats) -> Floats:
    """Covariance of the random effect of a group, from its scores, shape (g, 2), and information, shape (g, 2, 2).

    The products of a group's scores have the mean I + I D I, where I is its information and D the covariance.
    """
    excess = np.einsum("gi,gj->ij", scores, scores) - information.sum(axis=0)
    weights = np.einsum("gij,gkl->ikjl", information, information).reshape(4, 4)
    found = np.linalg.lstsq(weights, excess.ravel(), rcond=None)[0].reshape(2, 2)
    variances, axes = np.linalg.eigh((found + found.T) / 2)
    kept: Floats = (axes * np.maximum(variances, 0)) @ axes.T
    return kept


def _log_odds(probability: Floats) -> Floats:
    kept = np.clip(probability, _EXTREME, 1 - _EXTREME)
    odds: Floats = np.log(kept / (1 - kept))
    return odds
