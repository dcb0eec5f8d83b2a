"""How far a batch of shots is from a reference, and how far one of its size would be by chance.

Per column: the Kolmogorov-Smirnov statistic, the population stability index (PSI) on bins that the reference fixes, and
the Wasserstein distance in the column's unit. For the whole table: the area under the ROC curve of a classifier that
tells reference rows from current ones, and the share of rows outside the training support.

The limits come from the reference itself. Both the reference and a batch of the current size are drawn from it a
thousand times, and the limits are such that a batch without drift passes any of them with probability ``ALPHA``
(single-step max-T of Westfall and Young, Resampling-Based Multiple Testing, 1993). That the reference is a sample too
is in the draws: beside a large batch a small reference is the greater part of the noise.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.utils.fixes import threadpool_limits

from data.schema import FEATURES, PROBABILITY, feature_column
from monitor.metrics import resample

Floats = npt.NDArray[np.float64]

ALPHA = 0.05
"""Probability of any drift alarm on a batch that has not drifted."""
SAMPLES = 1_000
PSI_BINS = 10
MODERATE_PSI, LARGE_PSI = 0.1, 0.25
"""From where a PSI is called moderate and large: N. Siddiqi, Credit Risk Scorecards (2006)."""
STATISTICS = ("ks", "psi", "wasserstein")

# Bonferroni's shares of ALPHA.
_FEATURES_ALPHA, _PREDICTIONS_ALPHA, _OUTSIDE_ALPHA, _CLASSIFIER_ALPHA = 0.03, 0.01, 0.005, 0.005
FEWEST_CLASSIFIED = 50
"""Rows that the domain classifier needs on either side."""
_CLASSIFIER_ROWS = 4_000
_FOLDS = 5
_SAMPLES_AT_ONCE = 100


@dataclass(frozen=True)
class Statistic:
    """One distance of one column.

    Attributes
    ----------
    feature : str
        Column.
    name : str
        ``ks``, ``psi`` or ``wasserstein``.
    value, limit : float
        The distance, and the one that is passed only when something has drifted; in `unit`.
    p_value : float
        Share of batches without drift that are as far away; not corrected, the limit is.
    unit : str
        Of value and limit.
    """

    feature: str
    name: str
    value: float
    limit: float
    p_value: float
    unit: str

    @property
    def drifted(self) -> bool:
        """Whether the value is beyond its limit."""
        return self.value > self.limit


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


@dataclass(frozen=True)
class Drift:
    """How far current rows are from the reference.

    Attributes
    ----------
    rows, reference_rows : int
        How many were compared.
    statistics : tuple of Statistic
        Of each feature, and of P(made) where both tables have it.
    mean_difference : dict of str to float
        Mean of the current rows minus that of the reference, in the column's unit.
    outside, outside_limit, outside_p_value : float
        Share of the current rows outside the training support, its limit, and the share of batches without drift that
        have as many outside.
    classifier : DomainClassifier or None
        None where there are fewer than 50 rows on a side.
    """

    rows: int
    reference_rows: int
    statistics: tuple[Statistic, ...]
    mean_difference: dict[str, float]
    outside: float
    outside_limit: float
    outside_p_value: float
    classifier: DomainClassifier | None

    @property
    def drifted_features(self) -> list[str]:
        """Features of which a distance is beyond its limit."""
        return [name for name in FEATURES if self.has_drifted(name)]

    def statistic(self, column: str, name: str) -> Statistic:
        """One distance of one column."""
        return next(found for found in self.statistics if (found.feature, found.name) == (column, name))

    def has_drifted(self, column: str) -> bool:
        """Whether a distance of a column is beyond its limit."""
        return any(found.drifted for found in self.statistics if found.feature == column)

    @property
    def is_outside(self) -> bool:
        """Whether more rows lie outside the training support than chance explains."""
        return self.outside > self.outside_limit

    @property
    def alarm(self) -> bool:
        """Whether anything is beyond its limit; of batches without drift a share of ``ALPHA``."""
        told = self.classifier is not None and self.classifier.drifted
        return told or self.is_outside or any(found.drifted for found in self.statistics)


class _Column:
    """A column of the reference: its different values, and which of them each row has."""

    def __init__(self, name: str, values: Floats) -> None:
        self.name = name
        self.values, self.code = np.unique(values, return_inverse=True)
        self.counts = np.bincount(self.code, minlength=len(self.values)).astype(float)
        self.order = np.argsort(self.code, kind="stable")
        self.starts = np.concatenate([[0], np.cumsum(self.counts)[:-1]]).astype(int)
        self.sorted = np.sort(values)
        # Edges are values of the reference: between two of them there may be a bin that holds none.
        edges = np.unique(np.quantile(values, np.linspace(0, 1, PSI_BINS + 1)[1:-1], method="higher"))
        self.edges = edges[edges > self.values[0]]
        self.bin_starts = np.searchsorted(np.digitize(self.values, self.edges), np.arange(len(self.edges) + 1))

    def counted(self, drawn: Floats) -> Floats:
        """Rows of each value, shape (r, k), from how often each row was drawn, shape (r, rows)."""
        counted: Floats = np.add.reduceat(drawn[:, self.order], self.starts, axis=1)
        return counted

    def distances(self, current: Floats, reference: Floats) -> dict[str, Floats]:
        """The statistics of samples that hold values of the reference only, each of shape (r,)."""
        shares = [counts / counts.sum(axis=1, keepdims=True) for counts in (current, reference)]
        apart = np.abs(np.cumsum(shares[0] - shares[1], axis=1))
        return {
            "ks": apart.max(axis=1),
            "psi": _psi(*(np.add.reduceat(counts, self.bin_starts, axis=1) for counts in (current, reference))),
            "wasserstein": apart[:, :-1] @ np.diff(self.values),
        }

    def compare(self, values: Floats) -> dict[str, float]:
        """The statistics of a sample of any values."""
        counts = [
            np.bincount(np.digitize(each, self.edges), minlength=len(self.edges) + 1) for each in (values, self.sorted)
        ]
        return {
            "ks": float(stats.ks_2samp(values, self.sorted, method="asymp").statistic),
            "psi": float(_psi(counts[0][None].astype(float), counts[1][None].astype(float))[0]),
            "wasserstein": float(stats.wasserstein_distance(values, self.sorted)),
        }


class Limits:
    """The limits of batches of one size, any of which is passed with probability `alpha` by a batch without drift.

    A statistic's limit lies a common multiple of the way from its median to its 95 % quantile beyond its median; the
    multiple is such that one in ``1 / alpha`` of the draws passes any limit (single-step max-T). The PSI, a squared
    distance, is compared by its root.

    Parameters
    ----------
    drawn : dict of (str, str) to ndarray of float64, shape (r,)
        By column and statistic: its value in each of r batches without drift.
    alpha : float

    Attributes
    ----------
    limit : dict of (str, str) to float
        By column and statistic.
    """

    def __init__(self, drawn: dict[tuple[str, str], Floats], alpha: float) -> None:
        self._drawn = {key: np.sort(values) for key, values in drawn.items()}
        roots = np.sqrt(np.array(list(drawn.values()))) if drawn else np.empty((0, 1))
        for place, (_, name) in enumerate(drawn):
            if name != "psi":
                roots[place] **= 2
        middle, high = np.quantile(roots, [0.5, 0.95], axis=1)
        # A statistic that hardly ever moves has no scale of its own; nothing that was drawn passes its limit.
        moves = high > middle
        scale = np.where(moves, high - middle, np.inf)
        multiple = np.quantile(((roots - middle[:, None]) / scale[:, None]).max(axis=0), 1 - alpha)
        limits = np.where(moves, middle + multiple * np.where(moves, scale, 0), roots.max(axis=1))
        self.limit = {
            key: float(value**2 if key[1] == "psi" else value) for key, value in zip(drawn, limits, strict=True)
        }

    def p_value(self, key: tuple[str, str], value: float) -> float:
        """Share of batches without drift that are as far away, the batch in question counted."""
        drawn = self._drawn[key]
        return float((len(drawn) - np.searchsorted(drawn, value, side="left") + 1) / (len(drawn) + 1))


class Reference:
    """What current rows are compared with.

    Parameters
    ----------
    features : pandas.DataFrame
        The features of reference rows.
    outside : ndarray of bool, shape (n,)
        Which of them lie outside the training support.
    probability : array_like of float, shape (m,), or None
        P(made) of rows that the model has not learned from; they need not be the same rows. None leaves P(made) out.
    samples, seed : int
        Number of draws behind the limits, and their seed.

    Raises
    ------
    ValueError
        If there are fewer than two rows or a value is not finite.
    """

    def __init__(
        self,
        features: pd.DataFrame,
        outside: npt.NDArray[np.bool_],
        probability: npt.ArrayLike | None = None,
        *,
        samples: int = SAMPLES,
        seed: int = 0,
    ) -> None:
        self._samples, self._seed = samples, seed
        self._features = finite(features, FEATURES)
        self._outside = outside
        families = [_Family(self._features, FEATURES, _FEATURES_ALPHA)]
        if probability is not None:
            column = finite(pd.DataFrame({PROBABILITY: np.asarray(probability, dtype=float)}), (PROBABILITY,))
            families.append(_Family(column, (PROBABILITY,), _PREDICTIONS_ALPHA))
        self._families = families

    def compare(self, table: pd.DataFrame, outside: npt.NDArray[np.bool_]) -> Drift:
        """How far current rows are away.

        Parameters
        ----------
        table : pandas.DataFrame
            The features, and ``probability`` where the reference has it.
        outside : ndarray of bool, shape (n,)
            Which of its rows lie outside the training support.

        Raises
        ------
        ValueError
            If there are no rows, a column is missing or a value is not finite.
        """
        if table.empty:
            message = "expected one or more current rows; found none"
            raise ValueError(message)
        found: list[Statistic] = []
        difference: dict[str, float] = {}
        for family in self._families:
            values = finite(table, family.names)
            found.extend(family.compare(values, self._samples, self._seed))
            difference |= family.difference(values)
        # The rate outside is known no better than its Jeffreys posterior; rare rows may be absent from the reference.
        strange, familiar = int(self._outside.sum()), int((~self._outside).sum())
        expected = stats.betabinom(len(table), strange + 0.5, familiar + 0.5)
        return Drift(
            rows=len(table),
            reference_rows=len(self._features),
            statistics=tuple(found),
            mean_difference=difference,
            outside=float(np.mean(outside)),
            outside_limit=float(expected.isf(_OUTSIDE_ALPHA) / len(table)),
            outside_p_value=float(expected.sf(outside.sum() - 1)),
            classifier=tell_apart(self._features, finite(table, FEATURES), seed=self._seed),
        )


class _Family:
    """Columns whose statistics share one probability of an alarm."""

    def __init__(self, values: Floats, names: Sequence[str], alpha: float) -> None:
        if len(values) < 2:  # noqa: PLR2004
            message = f"expected two or more rows in the reference; found {len(values)}"
            raise ValueError(message)
        self.names = tuple(names)
        self._means = values.mean(axis=0)
        self._rows = len(values)
        self._columns = [_Column(name, values[:, place]) for place, name in enumerate(names)]
        self._alpha = alpha
        self._limits: dict[int, Limits] = {}

    def compare(self, values: Floats, samples: int, seed: int) -> Iterator[Statistic]:
        limits = self._limits_of(len(values), samples, seed)
        for place, column in enumerate(self._columns):
            for name, value in column.compare(values[:, place]).items():
                unit = unit_of(column.name) if name == "wasserstein" else ""
                key = (column.name, name)
                yield Statistic(*key, value, limits.limit[key], limits.p_value(key, value), unit)

    def difference(self, values: Floats) -> dict[str, float]:
        return dict(zip(self.names, (values.mean(axis=0) - self._means).tolist(), strict=True))

    def _limits_of(self, rows: int, samples: int, seed: int) -> Limits:
        if rows not in self._limits:
            self._limits[rows] = Limits(self._draw(rows, samples, seed), self._alpha)
        return self._limits[rows]

    def _draw(self, rows: int, samples: int, seed: int) -> dict[tuple[str, str], Floats]:
        stream = np.random.default_rng(seed)
        ones = np.ones(self._rows)
        parts: dict[tuple[str, str], list[Floats]] = {}
        for start in range(0, samples, _SAMPLES_AT_ONCE):
            count = min(_SAMPLES_AT_ONCE, samples - start)
            current, reference = (resample(ones, size, count, stream) for size in (rows, self._rows))
            for column in self._columns:
                for name, values in column.distances(column.counted(current), column.counted(reference)).items():
                    parts.setdefault((column.name, name), []).append(values)
        return {key: np.concatenate(values) for key, values in parts.items()}


def tell_apart(reference: Floats, current: Floats, *, seed: int = 0) -> DomainClassifier | None:
    """Let a classifier tell reference rows from current ones, each held-out fold taught by the other folds.

    Held-out rows are exchangeable if nothing has drifted, whatever the classifier learned, so the null distribution of
    a fold's area is Mann and Whitney's (Lopez-Paz and Oquab, Revisiting Classifier Two-Sample Tests, ICLR 2017).

    Parameters
    ----------
    reference, current : ndarray of float64, shape (n, features) and (m, features)
        At most 4,000 rows of each are taken.
    seed : int
        Of the choice of rows and of the folds.

    Returns
    -------
    DomainClassifier or None
        None where a side has fewer than 50 rows.
    """
    stream = np.random.default_rng(seed)
    sides = [_at_most(side, _CLASSIFIER_ROWS, stream) for side in (reference, current)]
    if min(map(len, sides)) < FEWEST_CLASSIFIED:
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
    limit = 0.5 + deviation * float(stats.norm.isf(_CLASSIFIER_ALPHA))
    return DomainClassifier(area, limit, p_value, is_current, score)


def unit_of(column: str) -> str:
    """Unit of a column, empty where it has none."""
    return "" if column == PROBABILITY else feature_column(column).unit


def _psi(current: Floats, reference: Floats) -> Floats:
    """Population stability index of counts of shape (r, bins); half a row more in each bin, so that none is empty."""
    shares = [
        (counts + 0.5) / (counts.sum(axis=1, keepdims=True) + counts.shape[1] / 2) for counts in (current, reference)
    ]
    psi: Floats = ((shares[0] - shares[1]) * np.log(shares[0] / shares[1])).sum(axis=1)
    return psi


def _mann_whitney_variance(score: Floats, is_current: npt.NDArray[np.int64]) -> float:
    """Variance of the area under the ROC curve of scores that say nothing, with ties."""
    ones = int(is_current.sum())
    zeros, rows = len(score) - ones, len(score)
    _, ties = np.unique(score, return_counts=True)
    tied = float((ties**3 - ties).sum()) / (rows * (rows - 1))
    return float((rows + 1 - tied) / (12 * ones * zeros))


def _at_most(rows: Floats, most: int, stream: np.random.Generator) -> Floats:
    return rows if len(rows) <= most else rows[stream.choice(len(rows), most, replace=False)]


def finite(table: pd.DataFrame, names: Sequence[str]) -> Floats:
    """Columns of a table as numbers, shape (n, columns).

    Raises
    ------
    ValueError
        If a column is missing or a value is not finite.
    """
    missing = [name for name in names if name not in table]
    if missing:
        message = f"expected the columns {', '.join(names)}; missing {', '.join(missing)}"
        raise ValueError(message)
    values = table[list(names)].to_numpy(dtype=float)
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        message = f"row {row}, column {names[column]}: expected a finite number; found {values[row, column]}"
        raise ValueError(message)
    return values
