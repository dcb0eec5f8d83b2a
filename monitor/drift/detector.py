"""Drift between current rows and a reference, with thresholds from the reference's own sampling noise.

Per column of numbers: the Kolmogorov-Smirnov statistic, the population stability index (PSI) on bins of the reference,
and the Wasserstein distance in the column's unit. Per column of categories: the Jensen-Shannon distance and the PSI,
with rare categories pooled; the rates of nulls and of unknown categories have tests of their own. For the whole table:
the ROC AUC of a domain classifier that discriminates reference rows from current rows, and the out-of-support rate.
Dates move on: their shift is reported and is no alarm.

Resampling the reference sets the thresholds. A thousand draws of both a reference and a batch of the current size give
the null distribution of every statistic. A batch without drift exceeds any threshold with probability ``ALPHA``
(single-step max-T of Westfall and Young, Resampling-Based Multiple Testing, 1993). The draws include the sampling noise
of the reference, which dominates when a large batch is compared with a small reference. Where rows have groups, such as
games, whole groups are drawn, since rows of a group are not independent.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from data.datasets import Dataset
from data.groups import Groups
from monitor.drift.domain_classifier import DomainClassifier, Side, fit_domain_classifier
from monitor.drift.encoding import Encoding
from monitor.drift.sketches import Bins, DistinctCount, Histogram, Sample, TableSketch, group_hashes
from monitor.drift.statistics import DriftThresholds, Reference, ReferenceCategories, ReferenceColumn
from monitor.metrics.binary import resample, sample_counts

Floats = npt.NDArray[np.float64]

ALPHA = 0.05
"""Nominal false-positive rate: probability of any drift alarm on a batch without drift."""
SAMPLES = 1_000
MODERATE_PSI, LARGE_PSI = 0.1, 0.25
"""Thresholds of a moderate and a large PSI: N. Siddiqi, Credit Risk Scorecards (2006)."""

# Together they give ALPHA on new rows, as `make bench-monitor` measures: the tests overlap, and the out-of-support rate
# is discrete.
_STATISTICS_ALPHA, _SUPPORT_ALPHA, _CLASSIFIER_ALPHA = 0.045, 0.005, 0.005
_RATES_ALPHA = 0.005
# As `make bench-groups` measures it: the variance between a few hundred groups is itself uncertain.
_GROUPED_ALPHA = 0.03
_DISTANCE = "wasserstein"
_MAX_SUMMED = 100_000
_RATES = 4_096


@dataclass(frozen=True)
class Statistic:
    """One drift statistic of one column.

    Attributes
    ----------
    feature : str
        Name of the column.
    name : str
        ``ks``, ``psi`` or ``wasserstein``; of categories ``js`` (Jensen-Shannon distance) or ``psi``.
    value, threshold : float
        The statistic and its threshold, in `unit`.
    p_value : float
        Share of batches without drift with a value at least as large; not corrected for multiple tests. The threshold
        is corrected.
    unit : str
        Unit of the value and the threshold.
    is_expected : bool
        Whether a shift is expected, as of a date, and therefore no drift.
    """

    feature: str
    name: str
    value: float
    threshold: float
    p_value: float
    unit: str
    is_expected: bool = False

    @property
    def shifted(self) -> bool:
        """Whether the value is above its threshold."""
        return self.value > self.threshold

    @property
    def drifted(self) -> bool:
        """Whether the value is above its threshold, and no shift is expected."""
        return self.shifted and not self.is_expected


@dataclass(frozen=True)
class RateTest:
    """The rate of nulls, or of unknown categories, in one feature.

    Attributes
    ----------
    feature : str
    rows : int
        Rows with a null, or with an unknown category.
    rate, reference_rate, threshold : float
        Rate of the current rows, rate of the reference, and threshold.
    p_value : float
        Share of batches without drift with a rate at least as high.
    categories : mapping of str to int
        Rows of each unknown category, the most frequent first.
    """

    feature: str
    rows: int
    rate: float
    reference_rate: float
    threshold: float
    p_value: float
    categories: Mapping[str, int]

    @property
    def drifted(self) -> bool:
        """Whether the rate is above its threshold."""
        return self.rate > self.threshold


@dataclass(frozen=True)
class DriftResult:
    """Drift of current rows against a reference.

    Attributes
    ----------
    rows, reference_rows : int
        Rows on either side.
    statistics : tuple of Statistic
        Statistics of each feature, and of P(made) where both tables have it. A column without values has none.
    mean_difference : dict of str to float
        Mean of the current rows minus the mean of the reference, in the column's unit; of numbers and dates.
    out_of_support_rate, out_of_support_threshold, out_of_support_p_value : float
        Share of the current rows that are out of support, its threshold, and the share of batches without drift with a
        rate at least as high.
    classifier : DomainClassifier or None
        None where either side has too few rows or groups.
    nulls, unseen : tuple of RateTest
        Rates of nulls in nullable features, and of unknown categories in categorical features.
    features : tuple of str
        Names of the features.
    groups, reference_groups : int or None
        Groups on either side; None where rows are independent.
    """

    rows: int
    reference_rows: int
    statistics: tuple[Statistic, ...]
    mean_difference: dict[str, float]
    out_of_support_rate: float
    out_of_support_threshold: float
    out_of_support_p_value: float
    classifier: DomainClassifier | None
    nulls: tuple[RateTest, ...] = ()
    unseen: tuple[RateTest, ...] = ()
    features: tuple[str, ...] = ()
    groups: int | None = None
    reference_groups: int | None = None

    @property
    def drifted_features(self) -> list[str]:
        """Features with a statistic above its threshold, except dates."""
        return [name for name in self.features if self.has_drifted(name)]

    @property
    def moved_dates(self) -> list[Statistic]:
        """The Wasserstein distance of each date that has shifted."""
        return [found for found in self.statistics if found.is_expected and found.shifted and found.name == _DISTANCE]

    def of_column(self, column: str) -> dict[str, Statistic]:
        """Return the statistics of one column by their name."""
        return {found.name: found for found in self.statistics if found.feature == column}

    def times_threshold(self, column: str) -> float:
        """The largest ratio of a statistic of one column to its threshold."""
        found = self.of_column(column).values()
        return max((float(each.value / each.threshold) for each in found if each.threshold), default=0.0)

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
        rates = any(found.drifted for found in (*self.nulls, *self.unseen))
        return discriminates or self.is_out_of_support or rates or any(found.drifted for found in self.statistics)


class DriftDetector:
    """Detects drift against a table of reference rows.

    Parameters
    ----------
    table : pandas.DataFrame
        The features of reference rows that the model was not trained on, with ``probability`` to compare predictions,
        and with their groups, where rows of a group are not independent.
    out_of_support : ndarray of bool, shape (n,)
        Which of them are out of support.
    dataset : Dataset
    known : mapping of str to sequence of str, optional
        Categories of the training rows by feature; by default those of `table`.
    samples, seed : int
        Number of draws for the thresholds, and their seed.

    Raises
    ------
    ValueError
        If there are fewer than two rows or a value is not finite.

    Attributes
    ----------
    encoding : Encoding
        The compared columns.
    bins : dict of str to Bins
        Bins of each column, for tables that do not fit in memory; see `monitor.drift.sketches.Sketcher`.
    """

    def __init__(  # noqa: PLR0913 the last three have defaults
        self,
        table: pd.DataFrame,
        out_of_support: npt.NDArray[np.bool_],
        dataset: Dataset,
        *,
        known: Mapping[str, Sequence[str]] | None = None,
        samples: int = SAMPLES,
        seed: int = 0,
    ) -> None:
        self.encoding = Encoding.of(dataset, table, known)
        self.names = self.encoding.names
        self._values = self.encoding.encode(table)
        if len(self._values) < 2:  # noqa: PLR2004
            message = f"expected two or more rows in the reference; found {len(self._values)}"
            raise ValueError(message)
        self._columns: list[Reference] = [
            (ReferenceCategories if name in self.encoding.categories else ReferenceColumn)(name, values)
            for name, values in zip(self.names, self._values.T, strict=True)
        ]
        self._out_of_support, self._samples, self._seed = out_of_support, samples, seed
        self._group_hashes = group_hashes(table, dataset, _row_numbers(table))
        self._groups = None if self._group_hashes is None else Groups.of(self._group_hashes)
        self.bins = {column.name: Bins.of(column.name, column.values, self.encoding) for column in self._columns}
        self._means = {
            name: Histogram.each(self._values[:, index], self.bins[name]).mean for index, name in enumerate(self.names)
        }
        self._thresholds_of: dict[tuple[int, int | None], DriftThresholds] = {}

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
        values = self.encoding.encode(table)
        columns = {name: Histogram.each(values[:, index], self.bins[name]) for index, name in enumerate(self.names)}
        features = values[:, : len(self.encoding.features)]
        groups = group_hashes(table, self.encoding.dataset, _row_numbers(table))
        sketch = TableSketch(
            len(table),
            columns,
            int(out_of_support.sum()),
            Sample(np.empty(0, np.uint64), features[:0]),
            {name: dict(found) for name, found in self.encoding.unseen(table).items()},
            None if groups is None else DistinctCount.of(groups),
        )
        return self._compared(sketch, Side(features, groups))

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
        return self._compared(sketch, Side(sketch.sample.features, sketch.sample.groups))

    def _compared(self, sketch: TableSketch, current: Side) -> DriftResult:
        rate, _, threshold, p_value = self._rate(
            sketch.out_of_support, sketch.rows, self._out_of_support, _SUPPORT_ALPHA
        )
        numbers = [name for name in self.names if name not in self.encoding.categories]
        return DriftResult(
            rows=sketch.rows,
            reference_rows=len(self._values),
            statistics=tuple(self._statistics(sketch)),
            mean_difference={
                name: sketch.columns[name].mean - self._means[name]
                for name in numbers
                if len(sketch.columns[name].rows)
            },
            out_of_support_rate=rate,
            out_of_support_threshold=threshold,
            out_of_support_p_value=p_value,
            classifier=self._classifier(current),
            nulls=tuple(self._nulls(sketch)),
            unseen=tuple(self._unseen(sketch)),
            features=self.encoding.dataset.feature_names,
            groups=self._groups_in(sketch),
            reference_groups=self._groups.count if self._groups else None,
        )

    def _classifier(self, current: Side) -> DomainClassifier | None:
        """Discriminate by all features except dates."""
        names = [column.name for column in self.encoding.features]
        kept = [place for place, name in enumerate(names) if not self.encoding.is_date(name)]
        if not kept:
            return None
        categorical = [index for index, place in enumerate(kept) if names[place] in self.encoding.categories]
        reference = Side(self._values[:, kept], self._group_hashes)
        return fit_domain_classifier(
            reference, Side(current.features[:, kept], current.groups), _CLASSIFIER_ALPHA, self._seed, categorical
        )

    def _nulls(self, sketch: TableSketch) -> Iterator[RateTest]:
        names = [column.name for column in self.encoding.features if column.nullable]
        for name in names:
            marks = np.isnan(self._values[:, self.names.index(name)])
            count = sketch.rows - int(sketch.columns[name].rows.sum())
            yield RateTest(name, count, *self._rate(count, sketch.rows, marks, self._rates_alpha), {})

    def _unseen(self, sketch: TableSketch) -> Iterator[RateTest]:
        for name, known in self.encoding.categories.items():
            marks = self._values[:, self.names.index(name)] == len(known)
            counted = sketch.columns[name]
            count = counted.count(len(known))
            named = dict(sorted(sketch.unseen.get(name, {}).items(), key=lambda each: (-each[1], each[0])))
            yield RateTest(name, count, *self._rate(count, sketch.rows, marks, self._rates_alpha), named)

    @property
    def _rates_alpha(self) -> float:
        tests = sum(column.nullable for column in self.encoding.features) + len(self.encoding.categories)
        return _RATES_ALPHA / max(tests, 1)

    def _rate(
        self, count: int, rows: int, of_reference: npt.NDArray[np.bool_], alpha: float
    ) -> tuple[float, float, float, float]:
        """Test a rate; return it with the rate of the reference, the threshold and the p-value."""
        effect = self._groups.design_effect(of_reference.astype(float)) if self._groups else 1.0
        effective = max(1, round(rows / effect))
        # The Jeffreys posterior covers the uncertainty of the reference rate; the reference may lack rare rows.
        marked, others = of_reference.sum() / effect, (~of_reference).sum() / effect
        null = OutOfSupportCount(effective, marked + 0.5, others + 0.5)
        return (
            count / rows,
            float(of_reference.mean()),
            null.threshold(alpha) / effective,
            null.p_value(round(count * effective / rows)),
        )

    def _statistics(self, sketch: TableSketch) -> Iterator[Statistic]:
        thresholds = self._thresholds(sketch.rows, self._groups_in(sketch))
        for column in self._columns:
            counted = sketch.columns[column.name]
            if not len(counted.rows) or not len(column.values):
                continue
            is_date = self.encoding.is_date(column.name)
            for name, value in column.compare(counted.values, counted.rows).items():
                unit = self.encoding.unit(column.name) if name == _DISTANCE else ""
                key = (column.name, name)
                threshold, p_value = thresholds.threshold[key], thresholds.p_value(key, value)
                yield Statistic(*key, value, threshold, p_value, unit, is_date)

    def _groups_in(self, sketch: TableSketch) -> int | None:
        """Number of groups in a batch; if they are unknown, they are as large as those of the reference."""
        if self._groups is None:
            return None
        if sketch.groups is not None:
            return sketch.groups.value
        return max(1, round(sketch.rows * self._groups.count / len(self._values)))

    def _thresholds(self, rows: int, groups: int | None) -> DriftThresholds:
        if (rows, groups) not in self._thresholds_of:
            drawn = self._draw(rows, groups)
            dates = {key for key in drawn if self.encoding.is_date(key[0])}
            alpha = _STATISTICS_ALPHA if groups is None else _GROUPED_ALPHA
            self._thresholds_of[rows, groups] = DriftThresholds(drawn, alpha, dates)
        return self._thresholds_of[rows, groups]

    def _draw(self, rows: int, groups: int | None) -> dict[tuple[str, str], Floats]:
        stream = np.random.default_rng(self._seed)
        parts: dict[tuple[str, str], list[Floats]] = {}
        for count in sample_counts(self._samples, len(self._values)):
            for column, current, reference in self._drawn(rows, groups, count, stream):
                for name, values in column.distances(current, reference).items():
                    parts.setdefault((column.name, name), []).append(values)
        return {key: np.concatenate(values) for key, values in parts.items()}

    def _drawn(
        self, rows: int, groups: int | None, count: int, stream: np.random.Generator
    ) -> Iterator[tuple[Reference, Floats, Floats]]:
        """Draw batches and references; yield each column with its counts in them, of shape (count, k)."""
        columns = [column for column in self._columns if len(column.values)]
        if self._groups is None or groups is None:
            ones = np.ones(len(self._values))
            # Each column multiplies them by a sparse matrix, which takes the draws of a row together.
            current, reference = (np.asfortranarray(resample(ones, size, count, stream)) for size in (rows, len(ones)))
            for column in columns:
                yield column, column.count_draws(current), column.count_draws(reference)
            return
        # The population of games is drawn from its posterior given the reference (D. B. Rubin, The Bayesian Bootstrap,
        # Annals of Statistics 9, 1981), and the batch from that population: few groups of the reference leave the
        # variance of the batch uncertain as well, which draws from the reference itself would not show.
        population = stream.dirichlet(np.ones(self._groups.count), count)
        current = stream.multinomial(groups, population).astype(np.float64)
        # A batch may hold only some rows of each group, as a systematic sample does.
        kept = rows * self._groups.count / (groups * len(self._values))
        thinned = None
        if kept < 1:
            thinned = stream.binomial(current[:, self._groups.code].astype(np.int64), kept).astype(np.float64)
        for column in columns:
            of_group = column.count_groups(self._groups)
            counted = np.asarray(current @ of_group) if thinned is None else column.count_draws(thinned)
            held = np.asarray(of_group.sum(axis=0))
            yield column, counted, np.repeat(held, count, axis=0)


def _row_numbers(table: pd.DataFrame) -> npt.NDArray[np.uint64]:
    return np.arange(len(table), dtype=np.uint64)


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
