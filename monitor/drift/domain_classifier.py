"""Multivariate drift: the ROC AUC of a classifier that discriminates reference rows from current rows."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.utils.fixes import threadpool_limits

Floats = npt.NDArray[np.float64]

MIN_ROWS = 50
"""Rows that the classifier needs on each side."""

_MAX_ROWS = 4_000
_FOLDS = 5


@dataclass(frozen=True)
class DomainClassifier:
    """Result of a domain classifier.

    Attributes
    ----------
    auc, threshold : float
        Mean ROC AUC over five held-out folds (0.5 is chance level), and its threshold.
    p_value : float
        p-value under the null hypothesis of chance level (Mann-Whitney).
    is_current : ndarray of int64, shape (n,)
        1 for the current rows that were scored, 0 for the reference rows.
    score : ndarray of float64, shape (n,)
        Predicted probability that a held-out row is a current row.
    """

    auc: float
    threshold: float
    p_value: float
    is_current: npt.NDArray[np.int64]
    score: Floats

    @property
    def drifted(self) -> bool:
        """Whether the ROC AUC is above its threshold."""
        return self.auc > self.threshold


def fit_domain_classifier(reference: Floats, current: Floats, alpha: float, seed: int = 0) -> DomainClassifier | None:
    """Cross-validate a classifier that discriminates reference rows from current rows.

    Without drift, held-out rows are exchangeable for any fitted classifier, so the null distribution of a fold's ROC
    AUC is Mann and Whitney's (Lopez-Paz and Oquab, Revisiting Classifier Two-Sample Tests, ICLR 2017). Rows that occur
    on both sides are not exchangeable: each copy trains the classifier on the wrong label, and the ROC AUC falls below
    0.5.

    Parameters
    ----------
    reference, current : ndarray of float64, shape (n, features) and (m, features)
        At most 4,000 rows of each side are used.
    alpha : float
        Probability that a classifier at chance level exceeds the threshold.
    seed : int
        Seed of the sampling and of the folds.

    Returns
    -------
    DomainClassifier or None
        None where either side has fewer than 50 rows.
    """
    stream = np.random.default_rng(seed)
    sides = [_subsample(side, _MAX_ROWS, stream) for side in (reference, current)]
    if min(map(len, sides)) < MIN_ROWS:
        return None
    rows = np.concatenate(sides)
    is_current = np.repeat([0, 1], [len(side) for side in sides])
    score = np.empty(len(rows))
    areas, variances = [], []
    for train, test in StratifiedKFold(_FOLDS, shuffle=True, random_state=seed).split(rows, is_current):
        model = HistGradientBoostingClassifier(
            max_iter=20, max_leaf_nodes=8, min_samples_leaf=20, learning_rate=0.2, early_stopping=False,
            class_weight="balanced", random_state=seed,
        )  # fmt: skip
        # On a busy machine, contention between threads makes the fit a hundred times slower; one thread takes 0.1 s.
        with threadpool_limits(1, user_api="openmp"):
            model.fit(rows[train], is_current[train])
            score[test] = model.predict_proba(rows[test])[:, 1]
        areas.append(roc_auc_score(is_current[test], score[test]))
        variances.append(_mann_whitney_variance(score[test], is_current[test]))
    # Folds that are similar at random raise each other's ROC AUC: the variance of the sum is at most twice the sum of
    # the variances, which a classifier that is linear in the rows attains.
    area, deviation = float(np.mean(areas)), float(np.sqrt(2 * np.sum(variances)) / _FOLDS)
    p_value = float(stats.norm.sf((area - 0.5) / deviation)) if deviation else 1.0
    threshold = 0.5 + deviation * float(stats.norm.isf(alpha))
    return DomainClassifier(area, threshold, p_value, is_current, score)


def _mann_whitney_variance(score: Floats, is_current: npt.NDArray[np.int64]) -> float:
    """Variance of the ROC AUC of uninformative scores, with ties."""
    ones = int(is_current.sum())
    zeros, rows = len(score) - ones, len(score)
    _, ties = np.unique(score, return_counts=True)
    tied = float((ties**3 - ties).sum()) / (rows * (rows - 1))
    return float((rows + 1 - tied) / (12 * ones * zeros))


def _subsample(rows: Floats, max_rows: int, stream: np.random.Generator) -> Floats:
    return rows if len(rows) <= max_rows else rows[stream.choice(len(rows), max_rows, replace=False)]
