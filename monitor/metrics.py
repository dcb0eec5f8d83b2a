"""Metrics of a binary classifier, all computed from P(made).

Hard labels and PyCaret's ``prediction_score`` (the probability of the *predicted* label) are not P(made); a log loss of
either is wrong, and ``tests/test_two_wrong_log_losses.py`` knows their fingerprints.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn import metrics

Floats = npt.NDArray[np.float64]

THRESHOLD = 0.5
"""Default P(made) from which a shot is predicted to be made."""


@dataclass(frozen=True)
class Metric:
    """One metric: how it is computed from labels and P(made), and which way is better."""

    name: str
    compute: Callable[[Floats, Floats, float], float]
    greater_is_better: bool
    needs_both_classes: bool = False

    def better(self, first: float, second: float) -> bool:
        """Whether `first` is better than `second`."""
        return first > second if self.greater_is_better else first < second


def _of_labels(function: Callable[..., float], **options: float) -> Callable[[Floats, Floats, float], float]:
    return lambda labels, probability, threshold: float(function(labels, probability >= threshold, **options))


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("log_loss", lambda labels, probability, _: float(log_loss_by_row(labels, probability).mean()), False),
        Metric("brier", lambda labels, probability, _: float(np.mean((probability - labels) ** 2)), False),
        Metric("roc_auc", lambda labels, probability, _: float(metrics.roc_auc_score(labels, probability)), True, True),
        Metric("f1_score", _of_labels(metrics.f1_score, zero_division=0.0), True),
        Metric("accuracy", _of_labels(metrics.accuracy_score), True),
        Metric("precision", _of_labels(metrics.precision_score, zero_division=0.0), True),
        Metric("recall", _of_labels(metrics.recall_score, zero_division=0.0), True),
    )
}
"""Every metric by its name, in the order in which they are shown."""


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
    smallest = np.finfo(float).eps
    made = np.clip(np.asarray(probability, dtype=float), smallest, 1 - smallest)
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
        Metrics that need both classes (ROC AUC) are left out when only one is there. Precision and F1 are 0 when no row
        is predicted to be made.

    Raises
    ------
    ValueError
        If shapes differ, there are no rows, labels are not 0 or 1, or probabilities are not from 0 to 1.

    Examples
    --------
    >>> evaluate([1, 0, 1, 0], [0.9, 0.2, 0.6, 0.4])["accuracy"]
    1.0
    """
    truth, made = np.asarray(labels, dtype=float), np.asarray(probability, dtype=float)
    if truth.ndim != 1 or truth.shape != made.shape or truth.size == 0:
        message = f"expected labels and probabilities of one shape (n,), n > 0; found {truth.shape} and {made.shape}"
        raise ValueError(message)
    if not np.isin(truth, (0, 1)).all():
        message = "expected labels that are 0 or 1; leave unlabelled rows out first"
        raise ValueError(message)
    if not ((made >= 0) & (made <= 1)).all():
        message = "expected P(made) from 0 to 1 in every row"
        raise ValueError(message)
    one_class = truth.min() == truth.max()
    return {
        name: metric.compute(truth, made, threshold)
        for name, metric in METRICS.items()
        if not (one_class and metric.needs_both_classes)
    }
