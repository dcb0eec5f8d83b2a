"""Drift between a batch of shots and a reference, with thresholds from the reference's own sampling noise.

Per column: the Kolmogorov-Smirnov statistic, the population stability index (PSI) on bins of the reference, and the
Wasserstein distance in the column's unit. For the whole table: the ROC AUC of a domain classifier that discriminates
reference rows from current rows, and the out-of-support rate.

Resampling the reference sets the thresholds. A thousand draws of both a reference and a batch of the current size give
the null distribution of every statistic. A batch without drift exceeds any threshold with probability ``ALPHA``
(single-step max-T of Westfall and Young, Resampling-Based Multiple Testing, 1993). The draws include the sampling noise
of the reference, which dominates when a large batch is compared with a small reference.
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
from monitor.drift.statistics import DriftThresholds, ReferenceColumn
from monitor.metrics.binary import resample

Floats = npt.NDArray[np.float64]

ALPHA = 0.05
"""Nominal false-positive rate: probability of any drift alarm on a batch without drift."""
SAMPLES = 1_000
MODERATE_PSI, LARGE_PSI = 0.1, 0.25
"""Thresholds of a moderate and a large PSI: N. Siddiqi, Credit Risk Scorecards (2006)."""

# Together they give ALPHA on new rows, as `make bench-monitor` measures: the tests overlap, the out-of-support rate is
# discrete, and the threshold of the domain classifier is conservative.
_STATISTICS_ALPHA, _SUPPORT_ALPHA, _CLASSIFIER_ALPHA = 0.055, 0.005, 0.005
_SAMPLES_AT_ONCE = 100
_MAX_SUMMED = 100_000
_RATES = 4_096


@dataclass(frozen=True)
class Statistic:
    """One drift statistic of one column.

    Attributes
    ----------
    feature : str
        ReferenceColumn.
    name : str
        ``ks``, ``psi`` or ``wasserstein``.
    value, threshold : float
        The statistic and its threshold, in `unit`.
    p_value : float
        Share of batches without drift with a value at least as large; not corrected for multiple tests. The threshold
        is corrected.
    unit : str
        Unit of the value and the threshold.
    """

    feature: str
    name: str
    value: float
    threshold: float
    p_value: float
    unit: str

    @property
    def drifted(self) -> bool:
        """Whether the value is above its threshold."""
        return self.value > self.threshold


@dataclass(frozen=True)
class DriftResult:
    """Drift of current rows against a reference.

    Attributes
    ----------
    rows, reference_rows : int
        Rows on either side.
    statistics : tuple of Statistic
        Statistics of each feature, and of P(made) where both tables have it.
    mean_difference : dict of str to float
        Mean of the current rows minus the mean of the reference, in the column's unit.
    out_of_support_rate, out_of_support_threshold, out_of_support_p_value : float
        Share of the current rows that are out of support, its threshold, and the share of batches without drift with a
        rate at least as high.
    classifier : DomainClassifier or None
        None where either side has fewer than 50 rows.
    """

    rows: int
    reference_rows: int
    statistics: tuple[Statistic, ...]
    mean_difference: dict[str, float]
    out_of_support_rate: float
    out_of_support_threshold: float
    out_of_support_p_value: float
    classifier: DomainClassifier | None

    @property
    def drifted_features(self) -> list[str]:
        """Features with a statistic above its threshold."""
        return [name for name in FEATURES if self.has_drifted(name)]

    def statistic(self, column: str, name: str) -> Statistic:
        """Return one statistic of one column."""
        return next(found for found in self.statistics if (found.feature, found.name) == (column, name))

    def has_drifted(self, column: str) -> bool:
        """Whether a statistic of a column is above its threshold."""
        return any(found.drifted for found in self.statistics if found.feature == column)

    @property
    def is_out_of_support(self) -> bool:
        """Whether the out-of-support rate is above its threshold."""
        return self.out_of_support_rate > self.out_of_support_threshold

    @property
    def alarm(self) -> bool:
        """Whether anything is above its threshold; true for a share ``ALPHA`` of batches without drift."""
        discriminates = self.classifier is not None and self.classifier.drifted
        return discriminates or self.is_out_of_support or any(found.drifted for found in self.statistics)


class DriftDetector:
    """Detects drift against a table of reference rows.

    Parameters
    ----------
    table : pandas.DataFrame
        The features of reference rows that the model was not trained on, with ``probability`` to compare predictions.
    out_of_support : ndarray of bool, shape (n,)
        Which of them are out of support.
    samples, seed : int
        Number of draws for the thresholds, and their seed.

    Raises
    ------
    ValueError
        If there are fewer than two rows or a value is not finite.

    Attributes
    ----------
    names : tuple of str
        The compared columns.
    bins : dict of str to Bins
        Bins of each column, for tables that do not fit in memory; see `monitor.drift.sketches.Sketcher`.
    """

    def __init__(
        self, table: pd.DataFrame, out_of_support: npt.NDArray[np.bool_], *, samples: int = SAMPLES, seed: int = 0
    ) -> None:
        self.names = (*FEATURES, *([PROBABILITY] if PROBABILITY in table else []))
        self._values = finite(table, self.names)
        if len(self._values) < 2:  # noqa: PLR2004
            message = f"expected two or more rows in the reference; found {len(self._values)}"
            raise ValueError(message)
        self._columns = [ReferenceColumn(name, self._values[:, index]) for index, name in enumerate(self.names)]
        self._out_of_support, self._samples, self._seed = out_of_support, samples, seed
        self.bins = {column.name: Bins.of(column.name, column.values) for column in self._columns}
        self._means = {
            name: Histogram.each(self._values[:, index], self.bins[name]).mean for index, name in enumerate(self.names)
        }
        self._thresholds_of: dict[int, DriftThresholds] = {}

    def compare(self, table: pd.DataFrame, out_of_support: npt.NDArray[np.bool_]) -> DriftResult:
        """Compare current rows with the reference.

        Parameters
        ----------
        table : pandas.DataFrame
            The columns of the reference.
        out_of_support : ndarray of bool, shape (n,)
            Which of its rows are out of support.

        Raises
        ------
        ValueError
            If there are no rows, a column is missing or a value is not finite.
        """
        if table.empty:
            message = "expected one or more current rows; found none"
            raise ValueError(message)
        values = finite(table, self.names)
        columns = {name: Histogram.each(values[:, index], self.bins[name]) for index, name in enumerate(self.names)}
        features = values[:, : len(FEATURES)]
        no_sample = Sample(np.empty(0, np.uint64), features[:0])
        return self._compared(TableSketch(len(table), columns, int(out_of_support.sum()), no_sample), features)

    def compare_sketch(self, sketch: TableSketch) -> DriftResult:
        """Compare a sketch of the current rows, as `compare` does; the domain classifier is trained on its sample.

        Raises
        ------
        ValueError
            If there are no rows, or a column is missing.
        """
        missing = [name for name in self.names if name not in sketch.columns]
        if missing or not sketch.rows:
            message = f"expected one or more rows with {', '.join(self.names)}; found {sketch.rows:,} without {missing}"
            raise ValueError(message)
        return self._compared(sketch, sketch.sample.features)

    def _compared(self, sketch: TableSketch, features: Floats) -> DriftResult:
        # The Jeffreys posterior covers the uncertainty of the reference rate; the reference may lack rare rows.
        out_of_support, inside = int(self._out_of_support.sum()), int((~self._out_of_support).sum())
        null = OutOfSupportCount(sketch.rows, out_of_support + 0.5, inside + 0.5)
        reference = self._values[:, : len(FEATURES)]
        return DriftResult(
            rows=sketch.rows,
            reference_rows=len(self._values),
            statistics=tuple(self._statistics(sketch)),
            mean_difference={name: sketch.columns[name].mean - self._means[name] for name in self.names},
            out_of_support_rate=sketch.out_of_support / sketch.rows,
            out_of_support_threshold=null.threshold(_SUPPORT_ALPHA) / sketch.rows,
            out_of_support_p_value=null.p_value(sketch.out_of_support),
            classifier=fit_domain_classifier(reference, features, _CLASSIFIER_ALPHA, self._seed),
        )

    def _statistics(self, sketch: TableSketch) -> Iterator[Statistic]:
        thresholds = self._thresholds(sketch.rows)
        for column in self._columns:
            counted = sketch.columns[column.name]
            for name, value in column.compare(counted.values, counted.rows).items():
                unit = unit_of(column.name) if name == "wasserstein" else ""
                key = (column.name, name)
                yield Statistic(*key, value, thresholds.threshold[key], thresholds.p_value(key, value), unit)

    def _thresholds(self, rows: int) -> DriftThresholds:
        if rows not in self._thresholds_of:
            self._thresholds_of[rows] = DriftThresholds(self._draw(rows), _STATISTICS_ALPHA)
        return self._thresholds_of[rows]

    def _draw(self, rows: int) -> dict[tuple[str, str], Floats]:
        stream = np.random.default_rng(self._seed)
        ones = np.ones(len(self._values))
        parts: dict[tuple[str, str], list[Floats]] = {}
        for start in range(0, self._samples, _SAMPLES_AT_ONCE):
            count = min(_SAMPLES_AT_ONCE, self._samples - start)
            current, reference = (resample(ones, size, count, stream) for size in (rows, len(ones)))
            for column in self._columns:
                for name, values in column.distances(
                    column.count_draws(current), column.count_draws(reference)
                ).items():
                    parts.setdefault((column.name, name), []).append(values)
        return {key: np.concatenate(values) for key, values in parts.items()}


def unit_of(column: str) -> str:
    """Return the unit of a column; empty where it has none."""
    return "" if column == PROBABILITY else feature_column(column).unit


class OutOfSupportCount:
    """Null distribution of the number of out-of-support rows: beta-binomial.

    SciPy sums it row by row; for many rows, it is the mean over equally likely rates.
    """

    def __init__(self, rows: int, first: float, second: float) -> None:
        self._rows, self._few = rows, stats.betabinom(rows, first, second) if rows <= _MAX_SUMMED else None
        self._rates = stats.beta(first, second).ppf((np.arange(_RATES) + 0.5) / _RATES)

    def p_value(self, count: int) -> float:
        """Return the probability of this count or a higher one."""
        if self._few is not None:
            return float(self._few.sf(count - 1))
        return float(stats.binom.sf(count - 1, self._rows, self._rates).mean())

    def threshold(self, alpha: float) -> float:
        """Return the smallest count that is exceeded with probability `alpha` or less."""
        if self._few is not None:
            return float(self._few.isf(alpha))
        low, high = -1, self._rows
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.p_value(middle + 1) <= alpha else (middle, high)
        return float(high)
