"""How well a classifier tells reference rows from current ones: a distance between whole tables."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.utils.fixes import threadpool_limits

Floats = npt.NDArray[np.float64]

FEWEST_ROWS = 50
"""Rows that the classifier needs on either side."""

_MOST_ROWS = 4_000
_FOLDS = 5


@dataclass(frozen=True)
class DomainClassifier:
    """How well a classifier tells reference rows from current ones.

    Attributes
    ----------
    auc, limit : float
        Mean area under the ROC curve over five held-out folds (0.5: it cannot tell), and its limit.
    p_value : float
        Of a classifier that cannot tell (Mann-Whitney).
    is_current : ndarray of int64, shape (n,)
        1 for the current rows that it was asked about, 0 for those of the reference.
    score : ndarray of float64, shape (n,)
        How current each of them looked to it when it was held out.
    """

    auc: float
    limit: float
    p_value: float
    is_current: npt.NDArray[np.int64]
    score: Floats

    @property
    def drifted(self) -> bool:
        """Whether it can tell, beyond chance."""
        return self.auc > self.limit


def fit_domain_classifier(reference: Floats, current: Floats, alpha: float, seed: int = 0) -> DomainClassifier | None:
    """Let a classifier tell reference rows from current ones, each held-out fold taught by the other folds.

    Held-out rows are exchangeable if nothing has drifted, whatever the classifier learned, so the null distribution of
    a fold's area is Mann and Whitney's (Lopez-Paz and Oquab, Revisiting Classifier Two-Sample Tests, ICLR 2017). Rows
    that stand on both sides are not exchangeable: their twins teach the wrong label, and the area falls below 0.5.

    Parameters
    ----------
    reference, current : ndarray of float64, shape (n, features) and (m, features)
        At most 4,000 rows of each are taken.
    alpha : float
        Probability that a classifier that cannot tell passes the limit.
    seed : int
        Of the choice of rows and of the folds.

    Returns
    -------
    DomainClassifier or None
        None where a side has fewer than 50 rows.
    """
    stream = np.random.default_rng(seed)
    sides = [_at_most(side, _MOST_ROWS, stream) for side in (reference, current)]
    if min(map(len, sides)) < FEWEST_ROWS:
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
        # Threads that wait for each other on a busy machine make it a hundred times slower; alone it needs 0.1 s.
        with threadpool_limits(1, user_api="openmp"):
            model.fit(rows[train], is_current[train])
            score[test] = model.predict_proba(rows[test])[:, 1]
        areas.append(roc_auc_score(is_current[test], score[test]))
        variances.append(_mann_whitney_variance(score[test], is_current[test]))
    # Two folds that are alike by chance raise each other's area: the variance of the sum is up to twice the sum of the
    # variances, which a classifier that is linear in the rows attains.
    area, deviation = float(np.mean(areas)), float(np.sqrt(2 * np.sum(variances)) / _FOLDS)
    p_value = float(stats.norm.sf((area - 0.5) / deviation)) if deviation else 1.0
    limit = 0.5 + deviation * float(stats.norm.isf(alpha))
    return DomainClassifier(area, limit, p_value, is_current, score)


def _mann_whitney_variance(score: Floats, is_current: npt.NDArray[np.int64]) -> float:
    """Variance of the area under the ROC curve of scores that say nothing, with ties."""
    ones = int(is_current.sum())
    zeros, rows = len(score) - ones, len(score)
    _, ties = np.unique(score, return_counts=True)
    tied = float((ties**3 - ties).sum()) / (rows * (rows - 1))
    return float((rows + 1 - tied) / (12 * ones * zeros))


def _at_most(rows: Floats, most: int, stream: np.random.Generator) -> Floats:
    return rows if len(rows) <= most else rows[stream.choice(len(rows), most, replace=False)]
