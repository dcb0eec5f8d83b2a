"""How far a batch of shots is from a reference, and how far one of its size would be by chance.

Per column: the Kolmogorov-Smirnov statistic, the population stability index (PSI) on bins that the reference fixes, and
the Wasserstein distance in the column's unit. For the whole table: the area under the ROC curve of a classifier that
tells reference rows from current ones, and the share of rows outside the training support.

The limits come from the reference itself. Both the reference and a batch of the current size are drawn from it a
thousand times, and the limits are such that a batch without drift passes any of them with probability ``ALPHA``
(single-step max-T of Westfall and Young, Resampling-Based Multiple Testing, 1993). That the reference is a sample too
is in the draws: beside a large batch a small reference is the greater part of the noise.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from data.schema import FEATURES, PROBABILITY, feature_column
from monitor.drift.domain_classifier import DomainClassifier, fit_domain_classifier
from monitor.drift.sketches import Bins, Histogram, Sample, TableSketch, finite
from monitor.drift.statistics import Column, DriftThresholds
from monitor.metrics.binary import resample

Floats = npt.NDArray[np.float64]

ALPHA = 0.05
"""Probability of any drift alarm on a batch that has not drifted."""
SAMPLES = 1_000
MODERATE_PSI, LARGE_PSI = 0.1, 0.25
"""From where a PSI is called moderate and large: N. Siddiqi, Credit Risk Scorecards (2006)."""

# Together they come to ALPHA on fresh rows, as `make bench-monitor` measures: they overlap, the share outside moves in
# steps, and the limit of the classifier is on the safe side.
_STATISTICS_ALPHA, _OUTSIDE_ALPHA, _CLASSIFIER_ALPHA = 0.055, 0.005, 0.005
_SAMPLES_AT_ONCE = 100
_MOST_SUMMED = 100_000
_RATES = 4_096


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
class DriftResult:
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


class DriftDetector:
    """What current rows are compared with.

    Parameters
    ----------
    table : pandas.DataFrame
        The features of reference rows, and their ``probability`` where predictions are compared too: rows that the
        model has not learned from.
    outside : ndarray of bool, shape (n,)
        Which of them lie outside the training support.
    samples, seed : int
        Number of draws behind the limits, and their seed.

    Raises
    ------
    ValueError
        If there are fewer than two rows or a value is not finite.

    Attributes
    ----------
    names : tuple of str
        The columns that are compared.
    cells : dict of str to Cells
        By column, how a table that is too large to hold is counted; see `monitor.drift.sketches.Sketcher`.
    """

    def __init__(
        self, table: pd.DataFrame, outside: npt.NDArray[np.bool_], *, samples: int = SAMPLES, seed: int = 0
    ) -> None:
        self.names = (*FEATURES, *([PROBABILITY] if PROBABILITY in table else []))
        self._values = finite(table, self.names)
        if len(self._values) < 2:  # noqa: PLR2004
            message = f"expected two or more rows in the reference; found {len(self._values)}"
            raise ValueError(message)
        self._columns = [Column(name, self._values[:, place]) for place, name in enumerate(self.names)]
        self._outside, self._samples, self._seed = outside, samples, seed
        self.cells = {column.name: Bins.of(column.name, column.values) for column in self._columns}
        self._means = {
            name: Histogram.each(self._values[:, place], self.cells[name]).mean for place, name in enumerate(self.names)
        }
        self._limits: dict[int, DriftThresholds] = {}

    def compare(self, table: pd.DataFrame, outside: npt.NDArray[np.bool_]) -> DriftResult:
        """How far current rows are away.

        Parameters
        ----------
        table : pandas.DataFrame
            The columns of the reference.
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
        values = finite(table, self.names)
        columns = {name: Histogram.each(values[:, place], self.cells[name]) for place, name in enumerate(self.names)}
        features = values[:, : len(FEATURES)]
        nothing = Sample(np.empty(0, np.uint64), features[:0])
        return self._compared(TableSketch(len(table), columns, int(outside.sum()), nothing), features)

    def compare_counts(self, counts: TableSketch) -> DriftResult:
        """How far rows that were counted are away; as `compare`, but the classifier is taught their sample.

        Raises
        ------
        ValueError
            If there are no rows, or a column is missing.
        """
        missing = [name for name in self.names if name not in counts.columns]
        if missing or not counts.rows:
            message = f"expected one or more rows with {', '.join(self.names)}; found {counts.rows:,} without {missing}"
            raise ValueError(message)
        return self._compared(counts, counts.sample.features)

    def _compared(self, counts: TableSketch, features: Floats) -> DriftResult:
        # The rate outside is known no better than its Jeffreys posterior; rare rows may be absent from the reference.
        strange, familiar = int(self._outside.sum()), int((~self._outside).sum())
        expected = _Strange(counts.rows, strange + 0.5, familiar + 0.5)
        reference = self._values[:, : len(FEATURES)]
        return DriftResult(
            rows=counts.rows,
            reference_rows=len(self._values),
            statistics=tuple(self._statistics(counts)),
            mean_difference={name: counts.columns[name].mean - self._means[name] for name in self.names},
            outside=counts.outside / counts.rows,
            outside_limit=expected.limit(_OUTSIDE_ALPHA) / counts.rows,
            outside_p_value=expected.chance(counts.outside),
            classifier=fit_domain_classifier(reference, features, _CLASSIFIER_ALPHA, self._seed),
        )

    def _statistics(self, counts: TableSketch) -> Iterator[Statistic]:
        limits = self._limits_of(counts.rows)
        for column in self._columns:
            counted = counts.columns[column.name]
            for name, value in column.compare(counted.values, counted.rows).items():
                unit = unit_of(column.name) if name == "wasserstein" else ""
                key = (column.name, name)
                yield Statistic(*key, value, limits.limit[key], limits.p_value(key, value), unit)

    def _limits_of(self, rows: int) -> DriftThresholds:
        if rows not in self._limits:
            self._limits[rows] = DriftThresholds(self._draw(rows), _STATISTICS_ALPHA)
        return self._limits[rows]

    def _draw(self, rows: int) -> dict[tuple[str, str], Floats]:
        stream = np.random.default_rng(self._seed)
        ones = np.ones(len(self._values))
        parts: dict[tuple[str, str], list[Floats]] = {}
        for start in range(0, self._samples, _SAMPLES_AT_ONCE):
            count = min(_SAMPLES_AT_ONCE, self._samples - start)
            current, reference = (resample(ones, size, count, stream) for size in (rows, len(ones)))
            for column in self._columns:
                for name, values in column.distances(column.counted(current), column.counted(reference)).items():
                    parts.setdefault((column.name, name), []).append(values)
        return {key: np.concatenate(values) for key, values in parts.items()}


def unit_of(column: str) -> str:
    """Unit of a column, empty where it has none."""
    return "" if column == PROBABILITY else feature_column(column).unit


class _Strange:
    """How many of some rows lie outside, if the rate is only known to follow a beta distribution: beta-binomial.

    SciPy adds it up row by row; of many rows it is the mean over equally likely rates.
    """

    def __init__(self, rows: int, first: float, second: float) -> None:
        self._rows, self._few = rows, stats.betabinom(rows, first, second) if rows <= _MOST_SUMMED else None
        self._rates = stats.beta(first, second).ppf((np.arange(_RATES) + 0.5) / _RATES)

    def chance(self, count: int) -> float:
        """Probability of so many or more."""
        if self._few is not None:
            return float(self._few.sf(count - 1))
        return float(stats.binom.sf(count - 1, self._rows, self._rates).mean())

    def limit(self, alpha: float) -> float:
        """The smallest number that is passed with probability `alpha` or less."""
        if self._few is not None:
            return float(self._few.isf(alpha))
        low, high = -1, self._rows
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.chance(middle + 1) <= alpha else (middle, high)
        return float(high)
