"""Multivariate drift: the ROC AUC of a classifier that discriminates reference rows from current rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.utils.fixes import threadpool_limits

from data.groups import Groups

Floats = npt.NDArray[np.float64]

MIN_ROWS = 50
"""Rows that the classifier needs on each side."""

FOLDS = 5
"""Folds of the cross-validation, and groups that the classifier needs on each side where rows have groups."""

_MAX_ROWS = 4_000
_FOLD_CORRELATION = 1.5
"""Variance of the sum over folds, relative to the sum of their variances, as `make bench-monitor` measures it.

It is 1 for independent folds, and 2 for a classifier that is linear in the rows."""
_MAX_CATEGORIES = 200
"""Numbers of categories that the classifier takes; scikit-learn's takes 255. Greater ones are pooled."""


class Side(NamedTuple):
    """Rows of the reference, or current rows.

    Attributes
    ----------
    features : ndarray of float64, shape (n, features)
        Numbers of categories, the most frequent first, for categorical features; NaN is a null.
    groups : ndarray of uint64, shape (n,), or None
        Group of each row, where rows of a group are not independent.
    """

    features: Floats
    groups: npt.NDArray[np.uint64] | None = None


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


def fit_domain_classifier(
    reference: Side, current: Side, alpha: float, seed: int = 0, categorical: Sequence[int] = ()
) -> DomainClassifier | None:
    """Cross-validate a classifier that discriminates reference rows from current rows.

    Without drift, held-out rows are exchangeable for any fitted classifier, so the null distribution of a fold's ROC
    AUC is Mann and Whitney's (Lopez-Paz and Oquab, Revisiting Classifier Two-Sample Tests, ICLR 2017). Rows that occur
    on both sides are not exchangeable: each copy trains the classifier on the wrong label, and the ROC AUC falls below
    0.5. Rows of a group are in one fold, and the variance is multiplied by the design effect of how the rows of a side
    are placed among those of the other (N. A. Obuchowski, Biometrics 53, 1997).

    Parameters
    ----------
    reference, current : Side
        At most 4,000 rows of each side are used.
    alpha : float
        Probability that a classifier at chance level exceeds the threshold.
    seed : int
        Seed of the sampling and of the folds.
    categorical : sequence of int
        Columns that are numbers of categories.

    Returns
    -------
    DomainClassifier or None
        None where either side has fewer than 50 rows, or fewer groups than folds.
    """
    stream = np.random.default_rng(seed)
    sides = [_subsample(side, _MAX_ROWS, stream) for side in (reference, current)]
    if min(len(side.features) for side in sides) < MIN_ROWS:
        return None
    rows = np.concatenate([side.features for side in sides])
    for column in categorical:
        rows[:, column] = np.minimum(rows[:, column], _MAX_CATEGORIES)
    is_current = np.repeat([0, 1], [len(side.features) for side in sides])
    groups = _groups(sides)
    if groups is not None and min(len(np.unique(groups[is_current == side])) for side in (0, 1)) < FOLDS:
        return None
    folds = (StratifiedKFold if groups is None else StratifiedGroupKFold)(FOLDS, shuffle=True, random_state=seed)
    score, placed = np.empty(len(rows)), np.zeros(len(rows))
    areas, variances = [], []
    for train, test in folds.split(rows, is_current, groups):
        if len(np.unique(is_current[test])) < len(sides):
            # A few large groups leave a fold without rows of a side.
            return None
        model = HistGradientBoostingClassifier(
            max_iter=20, max_leaf_nodes=8, min_samples_leaf=20, learning_rate=0.2, early_stopping=False,
            class_weight="balanced", categorical_features=list(categorical) or None, random_state=seed,
        )  # fmt: skip
        # On a busy machine, contention between threads makes the fit a hundred times slower; one thread takes 0.1 s.
        with threadpool_limits(1, user_api="openmp"):
            model.fit(rows[train], is_current[train])
            score[test] = model.predict_proba(rows[test])[:, 1]
        areas.append(roc_auc_score(is_current[test], score[test]))
        variances.append(_mann_whitney_variance(score[test], is_current[test]))
        placed[test] = _placements(score[test], is_current[test])
    # Folds that are similar at random raise each other's ROC AUC.
    area, deviation = float(np.mean(areas)), float(np.sqrt(_FOLD_CORRELATION * np.sum(variances)) / FOLDS)
    null = stats.norm
    if groups is not None:
        effect, degrees = _design_effect(placed, is_current, groups)
        deviation, null = deviation * effect**0.5, stats.t(degrees)
    p_value = float(null.sf((area - 0.5) / deviation)) if deviation else 1.0
    threshold = 0.5 + deviation * float(null.isf(alpha))
    return DomainClassifier(area, threshold, p_value, is_current, score)


def _groups(sides: Sequence[Side]) -> npt.NDArray[np.int64] | None:
    """Number the groups of both sides; a group that is on both sides has two numbers."""
    if any(side.groups is None for side in sides):
        return None
    found = [Groups.of(side.groups) for side in sides if side.groups is not None]
    numbered: npt.NDArray[np.int64] = np.concatenate([found[0].code, found[1].code + found[0].count])
    return numbered


def _placements(score: Floats, is_current: npt.NDArray[np.int64]) -> Floats:
    """Share of the rows of the other side with a lower score, for each row; less the mean of its side."""
    placed = np.empty(len(score))
    for side in (0, 1):
        own, other = score[is_current == side], np.sort(score[is_current != side])
        found = (np.searchsorted(other, own) + np.searchsorted(other, own, side="right")) / (2 * len(other))
        placed[is_current == side] = found - found.mean()
    return placed


def _design_effect(
    placed: Floats, is_current: npt.NDArray[np.int64], groups: npt.NDArray[np.int64]
) -> tuple[float, int]:
    """Design effect of the ROC AUC of grouped rows, and its degrees of freedom.

    The variance of each side is divided by its number of rows, so that the smaller side has the greater weight.
    """
    effects, counts = [], []
    for side in (0, 1):
        found = Groups.of(groups[is_current == side])
        # The mean of each fold is estimated.
        lost = (found.count - 1) / max(found.count - FOLDS, 1)
        effects.append(found.design_effect(placed[is_current == side]) * lost)
        counts.append(found.count)
    rows = np.bincount(is_current, minlength=2)
    return float((effects[0] * rows[1] + effects[1] * rows[0]) / rows.sum()), max(min(counts) - FOLDS, 1)


def _mann_whitney_variance(score: Floats, is_current: npt.NDArray[np.int64]) -> float:
    """Variance of the ROC AUC of uninformative scores, with ties."""
    ones = int(is_current.sum())
    zeros, rows = len(score) - ones, len(score)
    _, ties = np.unique(score, return_counts=True)
    tied = float((ties**3 - ties).sum()) / (rows * (rows - 1))
    return float((rows + 1 - tied) / (12 * ones * zeros))


def _subsample(side: Side, max_rows: int, stream: np.random.Generator) -> Side:
    if len(side.features) <= max_rows:
        return side
    selected = stream.choice(len(side.features), max_rows, replace=False)
    return Side(side.features[selected], None if side.groups is None else side.groups[selected])
