"""Metrics of a binary classifier, all computed from P(made).

Hard labels and PyCaret's ``prediction_score`` (the probability of the *predicted* label) are not P(made); a log loss of
either is wrong, and ``tests/test_two_wrong_log_losses.py`` knows their fingerprints.

Every metric here depends on the rows only through how many were made and missed at each P(made). So one function
computes it for the labels that were seen, for a thousand bootstrap samples of them, and for labels that were never
seen but are expected (``monitor/estimate.py``).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

THRESHOLD = 0.5
"""Default P(made) from which a shot is predicted to be made."""
CALIBRATION_BINS = 10


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes
    ----------
    name : str
        Its name in runs and tables.
    greater_is_better : bool
        Which way is better.
    meaning : str
        What it says, in words.
    needs_both_classes : bool
        Whether it is undefined when all rows have the same label.
    """

    name: str
    greater_is_better: bool
    meaning: str
    needs_both_classes: bool = False

    def better(self, first: float, second: float) -> bool:
        """Whether `first` is better than `second`."""
        return first > second if self.greater_is_better else first < second

    def compute(self, labels: npt.ArrayLike, probability: npt.ArrayLike, threshold: float = THRESHOLD) -> float:
        """Its value for some rows; NaN where it is undefined."""
        return float(figures(Tally.of(labels, probability), threshold)[self.name][0])


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("log_loss", False, "mean surprise, in nats"),
        Metric("brier", False, "mean squared error of P(made)"),
        Metric("roc_auc", True, "chance that a made shot has a greater P(made) than a missed one", True),
        Metric("f1_score", True, "harmonic mean of precision and recall"),
        Metric("accuracy", True, "share of shots predicted right"),
        Metric("precision", True, "share made of those predicted made"),
        Metric("recall", True, "share of made shots predicted made (sensitivity)"),
        Metric("specificity", True, "share of missed shots predicted missed"),
        Metric("calibration_error", False, f"mean gap of P(made) and the rate, in {CALIBRATION_BINS} equal bins"),
        Metric("log_loss_skill", True, "share of the class prior's log loss that the model saves", True),
        Metric("brier_skill", True, "share of the class prior's Brier score that the model saves", True),
    )
}
"""Every metric by its name, in the order in which they are shown.

The class prior of the skills is the rate of the same rows: a constant that one could have known in hindsight only.
Calibration error: Naeini, Cooper and Hauskrecht, AAAI 2015, with bins of equal size.
"""


@dataclass(frozen=True)
class Tally:
    """How many shots were made and missed at each P(made).

    Attributes
    ----------
    probability : ndarray of float64, shape (k,)
        The different values of P(made), ascending.
    rows : ndarray of float64, shape (k,)
        Rows with that value.
    made : ndarray of float64, shape (r, k)
        How many of them were made, in each of r samples.
    missed : ndarray of float64, shape (r, k)
        How many were missed.
    """

    probability: Floats
    rows: Floats
    made: Floats
    missed: Floats

    @classmethod
    def of(cls, labels: npt.ArrayLike, probability: npt.ArrayLike) -> "Tally":
        """The tally of labelled rows, as one sample.

        Raises
        ------
        ValueError
            If shapes differ, there are no rows, labels are not 0 or 1, or probabilities are not from 0 to 1.
        """
        truth, values = np.asarray(labels, dtype=float), np.asarray(probability, dtype=float)
        _check(truth, values)
        different, place = np.unique(values, return_inverse=True)
        rows = np.bincount(place, minlength=len(different)).astype(float)
        made = np.bincount(place, weights=truth, minlength=len(different)).astype(np.float64)
        return cls(different, rows, made.reshape(1, -1), (rows - made).reshape(1, -1))

    def resampled(self, samples: int, stream: np.random.Generator, *, rows: int | None = None) -> "Tally":
        """Bootstrap samples of the rows of the first sample.

        Parameters
        ----------
        samples : int
            How many.
        stream : numpy.random.Generator
            Where the draws come from.
        rows : int or None
            Size of each; None for that of the first sample.
        """
        size = int(self.rows.sum()) if rows is None else rows
        drawn = resample(np.concatenate([self.made[0], self.missed[0]]), size, samples, stream)
        made, missed = np.split(drawn, 2, axis=1)
        return Tally(self.probability, self.rows, made, missed)


def resample(counts: Floats, rows: int, samples: int, stream: np.random.Generator) -> Floats:
    """Draw rows with replacement from rows that are counted by cell.

    Parameters
    ----------
    counts : ndarray of float64, shape (k,)
        Rows of each cell.
    rows : int
        How many to draw for each sample.
    samples : int
        How many samples.
    stream : numpy.random.Generator

    Returns
    -------
    ndarray of float64, shape (samples, k)
        Drawn rows of each cell.
    """
    drawn: Floats
    if rows > len(counts):
        drawn = stream.multinomial(rows, counts / counts.sum(), size=samples).astype(float)
        return drawn
    # Few rows of many cells: to draw the rows is faster than to draw every cell's number.
    cells = np.repeat(np.arange(len(counts)), counts.astype(int))
    place = cells[stream.integers(len(cells), size=(samples, rows))] + np.arange(samples)[:, None] * len(counts)
    drawn = np.bincount(place.ravel(), minlength=samples * len(counts)).reshape(samples, -1).astype(float)
    return drawn


def log_loss_by_row(labels: npt.ArrayLike, probability: npt.ArrayLike) -> Floats:
    """Log loss of each row, in nats.

    Parameters
    ----------
    labels : array_like of float, shape (n,)
        1 made, 0 missed.
    probability : array_like of float, shape (n,)
        P(made).

    Returns
    -------
    ndarray of float64, shape (n,)
        ``-log P(what happened)``, with P kept from 0 and 1 by the resolution of float64, as scikit-learn does.

    Examples
    --------
    >>> log_loss_by_row([1, 0], [0.5, 0.5]).round(4).tolist()
    [0.6931, 0.6931]
    """
    truth = np.asarray(labels, dtype=float)
    made = _clipped(np.asarray(probability, dtype=float))
    losses: Floats = -np.log(np.where(truth == 1, made, 1 - made))
    return losses


def evaluate(labels: npt.ArrayLike, probability: npt.ArrayLike, *, threshold: float = THRESHOLD) -> dict[str, float]:
    """Every metric of ``METRICS``.

    Parameters
    ----------
    labels : array_like of float, shape (n,)
        1 made, 0 missed; no nulls.
    probability : array_like of float, shape (n,)
        P(made), from 0 to 1.
    threshold : float
        P(made) from which a shot is predicted to be made.

    Returns
    -------
    dict of str to float
        Metrics that need both classes are left out when only one is there. Precision, recall, specificity and F1 are 0
        where they divide by zero, as scikit-learn has it.

    Raises
    ------
    ValueError
        If shapes differ, there are no rows, labels are not 0 or 1, or probabilities are not from 0 to 1.

    Examples
    --------
    >>> evaluate([1, 0, 1, 0], [0.9, 0.2, 0.6, 0.4])["accuracy"]
    1.0
    """
    values = {name: float(value[0]) for name, value in figures(Tally.of(labels, probability), threshold).items()}
    return {name: value for name, value in values.items() if not np.isnan(value)}


def figures(tally: Tally, threshold: float = THRESHOLD) -> dict[str, Floats]:
    """Every metric of ``METRICS``, for each sample of a tally.

    Returns
    -------
    dict of str to ndarray of float64, shape (r,)
        NaN where a metric needs both classes and a sample has only one.
    """
    probability, made, missed = tally.probability, tally.made, tally.missed
    positives, negatives = made.sum(axis=1), missed.sum(axis=1)
    rows = positives + negatives
    clipped = _clipped(probability)
    log_loss = -(made @ np.log(clipped) + missed @ np.log(1 - clipped)) / rows
    brier = (made @ (1 - probability) ** 2 + missed @ probability**2) / rows
    predicted = probability >= threshold
    hits, false_alarms = made[:, predicted].sum(axis=1), missed[:, predicted].sum(axis=1)
    rate = positives / rows
    certain = (rate == 0) | (rate == 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        prior_log_loss = -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
        log_loss_skill = np.where(certain, np.nan, 1 - log_loss / prior_log_loss)
        brier_skill = np.where(certain, np.nan, 1 - brier / (rate * (1 - rate)))
    return {
        "log_loss": log_loss,
        "brier": brier,
        "roc_auc": _roc_auc(made, missed, positives, negatives),
        "f1_score": _share(2 * hits, 2 * hits + false_alarms + positives - hits),
        "accuracy": (hits + negatives - false_alarms) / rows,
        "precision": _share(hits, hits + false_alarms),
        "recall": _share(hits, positives),
        "specificity": _share(negatives - false_alarms, negatives),
        "calibration_error": _calibration_error(tally, rows),
        "log_loss_skill": log_loss_skill,
        "brier_skill": brier_skill,
    }


def _roc_auc(made: Floats, missed: Floats, positives: Floats, negatives: Floats) -> Floats:
    """Share of pairs of a made and a missed shot in which the made one has the greater P(made), ties as one half."""
    below = np.cumsum(missed, axis=1) - missed / 2
    pairs = positives * negatives
    wins = np.einsum("rk,rk->r", made, below)
    return np.divide(wins, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def _calibration_error(tally: Tally, rows: Floats) -> Floats:
    # Values of P(made) stay together, so a tree with few leaves has fewer bins.
    ends = np.cumsum(tally.rows)
    bins = np.minimum(((ends - tally.rows / 2) / ends[-1] * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    starts = np.flatnonzero(np.diff(bins, prepend=-1))
    gap = tally.made - (tally.made + tally.missed) * tally.probability
    error: Floats = np.abs(np.add.reduceat(gap, starts, axis=1)).sum(axis=1) / rows
    return error


def _share(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)


def _clipped(probability: Floats) -> Floats:
    smallest = np.finfo(float).eps
    return np.clip(probability, smallest, 1 - smallest)


def _check(truth: Floats, made: Floats) -> None:
    if truth.ndim != 1 or truth.shape != made.shape or truth.size == 0:
        message = f"expected labels and probabilities of one shape (n,), n > 0; found {truth.shape} and {made.shape}"
        raise ValueError(message)
    if not np.isin(truth, (0, 1)).all():
        message = "expected labels that are 0 or 1; leave unlabelled rows out first"
        raise ValueError(message)
    if not ((made >= 0) & (made <= 1)).all():
        message = "expected P(made) from 0 to 1 in every row"
        raise ValueError(message)
