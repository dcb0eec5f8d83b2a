"""Metrics of a binary classifier, all computed from P(made).

Hard labels and PyCaret's ``prediction_score`` (the probability of the *predicted* label) are not P(made). A log loss of
either is wrong; ``tests/end_to_end/test_two_wrong_log_losses.py`` detects both values.

Every metric here depends only on the number of made and missed shots at each P(made). One function therefore computes
the metrics of observed labels, of a thousand bootstrap samples, and of the labels that are expected where none are
known (``monitor/estimation/cbpe.py``).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from data.groups import Groups

Floats = npt.NDArray[np.float64]

THRESHOLD = 0.5
"""Default decision threshold: a shot with this P(made) or more is predicted made."""
CALIBRATION_BINS = 10
MAX_DISTINCT = 2**20
"""Maximum number of distinct P(made) counted exactly; above it, [0, 1] is divided into this number of equal bins."""

_SAMPLES_AT_ONCE, _MAX_CELLS = 100, 2**22


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes
    ----------
    name : str
        Name in runs and tables.
    greater_is_better : bool
        Whether higher values are better.
    meaning : str
        Short definition.
    """

    name: str
    greater_is_better: bool
    meaning: str

    def better(self, first: float, second: float) -> bool:
        """Whether `first` is better than `second`."""
        return first > second if self.greater_is_better else first < second

    def compute(self, labels: npt.ArrayLike, probability: npt.ArrayLike, threshold: float = THRESHOLD) -> float:
        """Value of the metric; NaN where it is undefined."""
        return float(compute_metrics(ScoreCounts.of(labels, probability), threshold)[self.name][0])


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("log_loss", False, "mean negative log-likelihood"),
        Metric("brier", False, "mean squared error of P(made)"),
        Metric("roc_auc", True, "probability that a made shot has a higher P(made) than a missed one"),
        Metric("f1_score", True, "harmonic mean of precision and recall"),
        Metric("accuracy", True, "share of shots predicted correctly"),
        Metric("precision", True, "share of shots predicted made that were made"),
        Metric("recall", True, "made shots that are predicted made (sensitivity)"),
        Metric("specificity", True, "share of missed shots predicted missed"),
        Metric(
            "calibration_error", False, f"mean absolute gap between P(made) and FG%, in at most {CALIBRATION_BINS} bins"
        ),
        Metric("log_loss_skill", True, "1 - log loss / log loss of the base-rate baseline"),
        Metric("brier_skill", True, "1 - Brier score / Brier score of the base-rate baseline"),
    )
}
"""Every metric by name, in display order.

The base-rate baseline of the skill scores predicts the positive rate of the evaluated rows, which is known only in
hindsight. Calibration error: Naeini, Cooper and Hauskrecht, AAAI 2015, with bins of equal size.
"""


@dataclass(frozen=True)
class ScoreCounts:
    """Numbers of made and missed shots at each P(made).

    Attributes
    ----------
    probability : ndarray of float64, shape (k,)
        The distinct values of P(made), ascending.
    rows : ndarray of float64, shape (k,)
        Rows with each value.
    made : ndarray of float64, shape (r, k)
        Made shots with each value, in each of r samples.
    missed : ndarray of float64, shape (r, k)
        Missed shots with each value, in each sample.
    by_group : scipy.sparse.csr_matrix, shape (groups, 2 k), or None
        Made and missed shots of each group with each value, where rows of a group are not independent.
    """

    probability: Floats
    rows: Floats
    made: Floats
    missed: Floats
    by_group: sparse.csr_matrix | None = None

    @classmethod
    def of(
        cls, labels: npt.ArrayLike, probability: npt.ArrayLike, groups: npt.ArrayLike | None = None
    ) -> "ScoreCounts":
        """Count labeled rows, as one sample.

        Parameters
        ----------
        labels, probability : array_like of float, shape (n,)
        groups : array_like, shape (n,), or None
            Group of each row, if `resampled` draws groups instead of rows.

        Raises
        ------
        ValueError
            If shapes differ, there are no rows, labels are not 0 or 1, or probabilities are not from 0 to 1.
        """
        targets, values = np.asarray(labels, dtype=float), np.asarray(probability, dtype=float)
        _check(targets, values)
        different, place = np.unique(values, return_inverse=True)
        rows = np.bincount(place, minlength=len(different)).astype(float)
        made = np.bincount(place, weights=targets, minlength=len(different)).astype(np.float64)
        by_group = None
        if groups is not None:
            member = Groups.of(groups)
            cells = np.where(targets == 1, place, place + len(different))
            shape = (member.count, 2 * len(different))
            by_group = sparse.csr_matrix((np.ones(len(cells)), (member.code, cells)), shape)
        return cls(different, rows, made.reshape(1, -1), (rows - made).reshape(1, -1), by_group)

    @property
    def groups(self) -> int | None:
        """Number of groups; None where rows are independent."""
        return None if self.by_group is None else int(self.by_group.shape[0])

    def resampled(
        self, samples: int, stream: np.random.Generator, *, rows: int | None = None, groups: int | None = None
    ) -> "ScoreCounts":
        """Draw bootstrap samples of the rows of the first sample, or of its groups where it has groups.

        Parameters
        ----------
        samples : int
            Number of samples.
        stream : numpy.random.Generator
            Source of the draws.
        rows : int or None
            Rows in each sample; None for the size of the first sample.
        groups : int or None
            Groups in each sample; None for as many as hold `rows` on average, and without `rows` one fewer than there
            are, with which the variance of the samples is unbiased (Rao and Wu, JASA 83, 1988).
        """
        if self.by_group is not None:
            count = int(self.by_group.shape[0])
            drawn_groups = groups or count - 1
            if groups is None and rows is not None:
                drawn_groups = round(rows * count / self.rows.sum())
            members = Groups(np.empty(0, dtype=np.int64), count)
            drawn = np.asarray(members.draw(max(drawn_groups, 1), samples, stream) @ self.by_group)
            made, missed = np.split(drawn, 2, axis=1)
            return ScoreCounts(self.probability, self.rows, made, missed)
        size = int(self.rows.sum()) if rows is None else rows
        drawn = resample(np.concatenate([self.made[0], self.missed[0]]), size, samples, stream)
        made, missed = np.split(drawn, 2, axis=1)
        return ScoreCounts(self.probability, self.rows, made, missed)


class StreamingCounts:
    """Count labeled rows chunk by chunk, in bounded memory.

    Up to ``MAX_DISTINCT`` distinct values of P(made), the counts equal those of all rows at once. Above it, rows are
    counted by bin, and the mean P(made) of its rows represents a bin. A bin is 1e-6 wide, which changes the metrics by
    about 1e-9: log loss and Brier score through label variation within a bin, ROC AUC through the pairs within a bin.
    A bin edge lies at the default threshold, 0.5, so the confusion matrix stays exact. The calibration error changes by
    at most 1e-6, through the bins in which one of its own bins ends.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._pieces: list[tuple[Floats, Floats, Floats]] = []
        self._held = 0
        self._in_cells = False

    def add(self, labels: npt.ArrayLike, probability: npt.ArrayLike) -> None:
        """Add labeled rows; empty arrays are allowed.

        Raises
        ------
        ValueError
            If shapes differ, labels are not 0 or 1, or probabilities are not from 0 to 1.
        """
        targets, values = np.asarray(labels, dtype=np.float64), np.asarray(probability, dtype=np.float64)
        if targets.shape == values.shape == (0,):
            return
        _check(targets, values)
        # A table of hashes is faster than a sort.
        codes, distinct = pd.factorize(pd.Series(values))
        made: Floats = np.bincount(codes, weights=targets).astype(np.float64)
        self.add_counted(distinct.to_numpy(), made, np.bincount(codes) - made)

    def add_counted(self, probability: Floats, made: Floats, missed: Floats) -> None:
        """Add rows that are already counted by P(made), or by bin with the bin's mean P(made).

        Parameters
        ----------
        probability, made, missed : ndarray of float64, shape (k,)
            A value may occur more than once.
        """
        self.rows += int(made.sum() + missed.sum())
        self._pieces.append((probability, made.astype(np.float64), missed.astype(np.float64)))
        self._held += len(probability)
        if self._held > 2 * MAX_DISTINCT:
            self._merge()

    def tally(self) -> ScoreCounts:
        """Counts of all rows so far, as one sample.

        Raises
        ------
        ValueError
            If there are no rows.
        """
        if not self.rows:
            message = "expected labeled rows; found none"
            raise ValueError(message)
        self._merge()
        probability, made, missed = self._pieces[0]
        return ScoreCounts(probability, made + missed, made.reshape(1, -1), missed.reshape(1, -1))

    def evaluate(self, threshold: float = THRESHOLD) -> dict[str, float]:
        """Metrics of all rows so far, as `evaluate` computes them; raises as `score_counts` does."""
        return _defined(compute_metrics(self.tally(), threshold))

    def base_rate_log_loss(self) -> float:
        """Log loss of the base-rate baseline on the same rows; raises as `score_counts` does."""
        tally = self.tally()
        made, missed = tally.made.sum(axis=1), tally.missed.sum(axis=1)
        rows = made + missed
        constant = ScoreCounts(made / rows, rows, made.reshape(1, -1), missed.reshape(1, -1))
        return float(compute_metrics(constant)["log_loss"][0])

    def _merge(self) -> None:
        probability, made, missed = (np.concatenate(arrays) for arrays in zip(*self._pieces, strict=True))
        if not self._in_cells:
            probability, made, missed = _by_value(probability, made, missed)
            self._in_cells = len(probability) > MAX_DISTINCT
        if self._in_cells:
            probability, made, missed = _by_cell(probability, made, missed)
        self._pieces = [(probability, made, missed)]
        self._held = len(probability)


def _by_value(probability: Floats, made: Floats, missed: Floats) -> tuple[Floats, Floats, Floats]:
    order = np.argsort(probability, kind="stable")
    probability = probability[order]
    starts = np.flatnonzero(np.r_[True, probability[1:] != probability[:-1]])
    hits: Floats = np.add.reduceat(made[order], starts)
    misses: Floats = np.add.reduceat(missed[order], starts)
    return probability[starts], hits, misses


def _by_cell(probability: Floats, made: Floats, missed: Floats) -> tuple[Floats, Floats, Floats]:
    cell = np.minimum((probability * MAX_DISTINCT).astype(np.int64), MAX_DISTINCT - 1)
    rows = made + missed
    hits, misses, total, counted = (
        np.bincount(cell, weights=weights, minlength=MAX_DISTINCT)
        for weights in (made, missed, rows * probability, rows)
    )
    held = counted > 0
    mean: Floats = total[held] / counted[held]
    return mean, hits[held].astype(np.float64), misses[held].astype(np.float64)


def sample_counts(samples: int, cells: int) -> Iterator[int]:
    """Split samples into those that are drawn at a time.

    These are 100, or fewer where each has so many cells that 100 take over 32 MiB.

    Examples
    --------
    >>> list(sample_counts(250, 4_057)), list(sample_counts(3, 3_000_000))
    ([100, 100, 50], [1, 1, 1])
    """
    at_once = max(1, min(_SAMPLES_AT_ONCE, _MAX_CELLS // max(cells, 1)))
    for start in range(0, samples, at_once):
        yield min(at_once, samples - start)


def resample(counts: Floats, rows: int, samples: int, stream: np.random.Generator) -> Floats:
    """Draw rows with replacement from rows that are counted by bin.

    Parameters
    ----------
    counts : ndarray of float64, shape (k,)
        Rows in each bin.
    rows : int
        Rows to draw for each sample.
    samples : int
        Number of samples.
    stream : numpy.random.Generator

    Returns
    -------
    ndarray of float64, shape (samples, k)
        Drawn rows in each bin.
    """
    drawn: Floats
    if rows > len(counts):
        drawn = stream.multinomial(rows, counts / counts.sum(), size=samples).astype(float)
        return drawn
    # With few rows and many bins, drawing rows is faster than drawing the count of every bin.
    cells = np.repeat(np.arange(len(counts)), counts.astype(int))
    place = cells[stream.integers(len(cells), size=(samples, rows))] + np.arange(samples)[:, None] * len(counts)
    drawn = np.bincount(place.ravel(), minlength=samples * len(counts)).reshape(samples, -1).astype(float)
    return drawn


def log_loss_by_row(labels: npt.ArrayLike, probability: npt.ArrayLike) -> Floats:
    """Log loss of each row, with the natural logarithm.

    Parameters
    ----------
    labels : array_like of float, shape (n,)
        1 made, 0 missed.
    probability : array_like of float, shape (n,)
        P(made).

    Returns
    -------
    ndarray of float64, shape (n,)
        ``-log P(observed label)``, with P clipped by the resolution of float64, as in scikit-learn.

    Examples
    --------
    >>> log_loss_by_row([1, 0], [0.5, 0.5]).round(4).tolist()
    [0.6931, 0.6931]
    """
    targets = np.asarray(labels, dtype=float)
    made = _clipped(np.asarray(probability, dtype=float))
    losses: Floats = -np.log(np.where(targets == 1, made, 1 - made))
    return losses


def evaluate(labels: npt.ArrayLike, probability: npt.ArrayLike, *, threshold: float = THRESHOLD) -> dict[str, float]:
    """Compute every metric of ``METRICS``.

    Parameters
    ----------
    labels : array_like of float, shape (n,)
        1 made, 0 missed; no nulls.
    probability : array_like of float, shape (n,)
        P(made), from 0 to 1.
    threshold : float
        Decision threshold.

    Returns
    -------
    dict of str to float
        Metrics that need both classes are omitted when only one is present. Precision, recall, specificity and F1 are 0
        where they would divide by zero, as in scikit-learn.

    Raises
    ------
    ValueError
        If shapes differ, there are no rows, labels are not 0 or 1, or probabilities are not from 0 to 1.

    Examples
    --------
    >>> evaluate([1, 0, 1, 0], [0.9, 0.2, 0.6, 0.4])["accuracy"]
    1.0
    """
    return _defined(compute_metrics(ScoreCounts.of(labels, probability), threshold))


def _defined(computed: dict[str, Floats]) -> dict[str, float]:
    values = {name: float(value[0]) for name, value in computed.items()}
    return {name: value for name, value in values.items() if not np.isnan(value)}


def compute_metrics(
    tally: ScoreCounts, threshold: float = THRESHOLD, base_rate: float | None = None
) -> dict[str, Floats]:
    """Every metric of ``METRICS``, for each sample of a tally.

    Parameters
    ----------
    tally : Tally
    threshold : float
        Decision threshold.
    base_rate : float or None
        Prediction of the base-rate baseline; None for the positive rate of each sample. Bootstrap samples use the rate
        of the rows that they are drawn from, because the rate of a sample fits that sample best.

    Returns
    -------
    dict of str to ndarray of float64, shape (r,)
        NaN where a metric needs both classes and a sample has one.
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
    constant = rate if base_rate is None else np.full(len(rate), base_rate)
    certain = (constant == 0) | (constant == 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        prior_log_loss = -(rate * np.log(constant) + (1 - rate) * np.log(1 - constant))
        prior_brier = rate * (1 - constant) ** 2 + (1 - rate) * constant**2
        log_loss_skill = np.where(certain, np.nan, 1 - log_loss / prior_log_loss)
        brier_skill = np.where(certain, np.nan, 1 - brier / prior_brier)
    return {
        "log_loss": log_loss,
        "brier": brier,
        "roc_auc": _roc_auc(made, missed, positives, negatives),
        "f1_score": _share(2 * hits, 2 * hits + false_alarms + positives - hits),
        "accuracy": (hits + negatives - false_alarms) / rows,
        "precision": _share(hits, hits + false_alarms),
        "recall": _share(hits, positives),
        "specificity": _share(negatives - false_alarms, negatives),
        "calibration_error": np.abs(calibration_gaps(tally)).sum(axis=1),
        "log_loss_skill": log_loss_skill,
        "brier_skill": brier_skill,
    }


def _roc_auc(made: Floats, missed: Floats, positives: Floats, negatives: Floats) -> Floats:
    """Share of pairs of a made and a missed shot in which the made one has the higher P(made); ties count one half."""
    below = np.cumsum(missed, axis=1) - missed / 2
    pairs = positives * negatives
    wins = np.einsum("rk,rk->r", made, below)
    return np.divide(wins, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def calibration_bins(tally: ScoreCounts) -> npt.NDArray[np.int_]:
    """Bin of the calibration error for each value of P(made), shape (k,).

    Up to ``CALIBRATION_BINS`` distinct values, as from a tree with few leaves, each value is a bin. Otherwise bins hold
    about the same number of rows; rows with the same value share a bin, so there may be fewer bins.

    Examples
    --------
    >>> calibration_bins(ScoreCounts.of(np.array([1.0, 0.0, 1.0]), np.array([0.4, 0.4, 0.6])))
    array([0, 1])
    """
    if len(tally.rows) <= CALIBRATION_BINS:
        return np.arange(len(tally.rows))
    ends = np.cumsum(tally.rows)
    bins: npt.NDArray[np.int_] = np.minimum((ends - tally.rows / 2) / ends[-1] * CALIBRATION_BINS, CALIBRATION_BINS - 1)
    return bins.astype(np.int_)


def calibration_gaps(tally: ScoreCounts) -> Floats:
    """Made shots less expected ones in each bin of the calibration error, as a share of all rows, shape (r, bins)."""
    starts = np.flatnonzero(np.diff(calibration_bins(tally), prepend=-1))
    rows = tally.made + tally.missed
    gaps = np.add.reduceat(tally.made - rows * tally.probability, starts, axis=1)
    shares: Floats = gaps / rows.sum(axis=1, keepdims=True)
    return shares


def _share(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)


def _clipped(probability: Floats) -> Floats:
    smallest = np.finfo(float).eps
    return np.clip(probability, smallest, 1 - smallest)


def _check(targets: Floats, made: Floats) -> None:
    if targets.ndim != 1 or targets.shape != made.shape or targets.size == 0:
        message = f"expected labels and probabilities of one shape (n,), n > 0; found {targets.shape} and {made.shape}"
        raise ValueError(message)
    if not np.isin(targets, (0, 1)).all():
        message = "expected labels that are 0 or 1; exclude unlabeled rows first"
        raise ValueError(message)
    if not ((made >= 0) & (made <= 1)).all():
        message = "expected P(made) from 0 to 1 in every row"
        raise ValueError(message)
