"""Metrics with bootstrap intervals, overall and by slice, and relative degradation between two samples."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from data import court
from data.datasets import Column, Dataset, Slice
from data.groups import groups_of, percentile_confidence
from data.schema import PROBABILITY
from monitor.metrics.binary import (
    METRICS,
    THRESHOLD,
    Floats,
    ScoreCounts,
    calibration_gaps,
    compute_metrics,
    sample_counts,
)

CONFIDENCE = 0.95
SAMPLES = 1_000
"""Bootstrap samples behind each interval."""

_SHARES = ("accuracy", "precision", "recall", "specificity")
_F1 = "f1_score"
_MIN_ROWS = 2
"""Rows, or groups of rows, that an interval needs."""
_MAX_VALUES = 20
_HALVINGS = 30
_OTHER, _NULL = "other", "null"


@dataclass(frozen=True)
class Interval:
    """A value with its interval; the ends are NaN where there are too few rows."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Performance:
    """Metrics of a model on labeled rows, with bootstrap samples.

    Attributes
    ----------
    rows : int
        Labeled rows.
    rate : float
        Positive rate (FG%).
    counts : dict of str to int
        Rows that each metric depends on: the rows predicted made (precision), made (recall), missed (specificity), made
        or predicted made (F1); all rows otherwise.
    metrics : dict of str to float
        Every defined metric.
    samples : dict of str to ndarray of float64, shape (r,)
        The metrics of bootstrap samples of the rows, or of their groups; of the calibration error, see
        `plausible_calibration_errors`.
    groups : int or None
        Groups that the bootstrap draws; None where it draws rows.
    """

    rows: int
    rate: float
    counts: dict[str, int]
    metrics: dict[str, float]
    samples: dict[str, Floats]
    groups: int | None = None

    def interval(self, metric: str, confidence: float = CONFIDENCE) -> Interval:
        """Return a metric with its percentile interval (Efron and Tibshirani, 1993, chapter 13).

        The interval of few groups is wider, by `data.groups.percentile_confidence`. Where all rows of a proportion, or
        of F1, agree, the bootstrap has no variance and the interval is Wilson's; the rows of a group then count as one,
        since they may agree because of the group.
        """
        value = self.metrics[metric]
        low, high = percentile_interval(self.samples[metric], percentile_confidence(confidence, self.groups))
        if metric == "calibration_error":
            return Interval(value, min(low, value), max(high, value))
        if low == high and metric in (*_SHARES, _F1) and self.counts[metric]:
            trials = min(self.counts[metric], self.groups or self.counts[metric])
            # F1 is a function of the share of hits among the rows that are made or predicted made.
            share = stats.binomtest(round((value / (2 - value) if metric == _F1 else value) * trials), trials)
            found = share.proportion_ci(confidence, method="wilson")
            ends = [float(end) for end in (found.low, found.high)]
            return Interval(value, *(2 * end / (1 + end) if metric == _F1 else end for end in ends))
        return Interval(value, low, high)

    def intervals(self) -> dict[str, Interval]:
        """Return every defined metric with its interval."""
        return {metric: self.interval(metric) for metric in self.metrics}


def evaluate_with_intervals(  # noqa: PLR0913 the last four have defaults
    labels: npt.ArrayLike,
    probability: npt.ArrayLike,
    *,
    groups: npt.ArrayLike | None = None,
    threshold: float = THRESHOLD,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Performance:
    """Compute the metrics of labeled rows, with bootstrap intervals.

    Parameters
    ----------
    labels : array_like of float, shape (n,)
        1 made, 0 missed; no nulls.
    probability : array_like of float, shape (n,)
        P(made).
    groups : array_like, shape (n,), or None
        Group of each row, such as its game, where rows of a group are not independent: the bootstrap then draws whole
        groups (A. C. Davison and D. V. Hinkley, Bootstrap Methods and their Application, 1997, section 3.8).
    threshold : float
        Decision threshold.
    samples, seed : int
        Number of bootstrap samples, and seed of the draws.

    Raises
    ------
    ValueError
        See `monitor.metrics.binary.evaluate`.

    Examples
    --------
    >>> found = evaluate_with_intervals([1, 0, 1, 0] * 50, [0.9, 0.2, 0.6, 0.4] * 50).interval("log_loss")
    >>> found.low < found.value < found.high
    True
    """
    tally = ScoreCounts.of(labels, probability, groups)
    rows = int(tally.rows.sum())
    rate = float(tally.made.sum() / rows)
    seen = {name: float(value[0]) for name, value in compute_metrics(tally, threshold).items()}
    defined = {name: value for name, value in seen.items() if not np.isnan(value)}
    stream = np.random.default_rng(seed)
    parts = []
    gaps = calibration_gaps(tally)[0]
    for count in sample_counts(samples, len(tally.probability)):
        drawn = tally.resampled(count, stream)
        found = compute_metrics(drawn, threshold, base_rate=rate)
        parts.append(found | {"calibration_error": plausible_calibration_errors(gaps, calibration_gaps(drawn))})
    enough = (rows if tally.groups is None else tally.groups) >= _MIN_ROWS
    drawn_metrics = {
        name: np.concatenate([part[name] for part in parts]) if enough else np.full(samples, np.nan) for name in defined
    }
    counts = dict.fromkeys(defined, rows) | _counts(tally, threshold)
    return Performance(rows, rate, counts, defined, drawn_metrics, tally.groups)


def plausible_calibration_errors(gaps: Floats, drawn: Floats) -> Floats:
    """Calibration errors with which the noise of each bootstrap sample gives the measured calibration error.

    Noise alone has a calibration error, so the measured one is too high, and that of a bootstrap sample more so. Their
    quantiles are those of the interval that inverts a test of each true calibration error (Davison and Hinkley, 1997,
    section 5.2), where the true gaps are the measured ones times a factor.

    Parameters
    ----------
    gaps : ndarray of float64, shape (bins,)
        The measured gaps; see `monitor.metrics.binary.calibration_gaps`.
    drawn : ndarray of float64, shape (r, bins)
        Those of bootstrap samples.

    Returns
    -------
    ndarray of float64, shape (r,)
        0 where the noise alone is as large as the measured calibration error.

    Examples
    --------
    >>> gaps = np.array([0.04, -0.02])
    >>> plausible_calibration_errors(gaps, gaps + [[0.01, 0], [0.1, 0]]).round(3).tolist()
    [0.05, 0.0]
    """
    measured, noise = np.abs(gaps).sum(), drawn - gaps
    of_noise = np.abs(noise).sum(axis=1)
    if not measured:
        return np.zeros(len(drawn))
    # The calibration error is convex in the factor: from below the measured one it crosses it once.
    low, high = np.zeros(len(drawn)), 1 + of_noise / measured
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = np.abs(middle[:, None] * gaps + noise).sum(axis=1) >= measured
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.where(of_noise >= measured, 0.0, high * measured)


def _counts(tally: ScoreCounts, threshold: float) -> dict[str, int]:
    made, missed = tally.made[0], tally.missed[0]
    predicted = tally.probability >= threshold
    called = made[predicted].sum() + missed[predicted].sum()
    counts = {
        "precision": called,
        "recall": made.sum(),
        "specificity": missed.sum(),
        "f1_score": made.sum() + missed[predicted].sum(),
    }
    return {name: int(count) for name, count in counts.items()}


def relative_degradation(
    current: Performance, reference: Performance, metric: str, confidence: float = CONFIDENCE
) -> Interval:
    """Compute the degradation of a metric relative to its reference value.

    Negative values are improvements; NaN where the reference value is 0. The samples contain different rows and are
    resampled independently.

    Examples
    --------
    >>> bad = evaluate_with_intervals([1, 0] * 99, [0.4, 0.6] * 99)
    >>> good = evaluate_with_intervals([1, 0] * 99, [0.6, 0.4] * 99)
    >>> relative_degradation(bad, good, "log_loss").value.__round__(2)
    0.79
    """
    sign = -1 if METRICS[metric].greater_is_better else 1
    before, after = reference.interval(metric).value, current.interval(metric).value
    if not before:
        return Interval(float("nan"), float("nan"), float("nan"))
    # A sample in which both are 0, as F1 often is with few positive rows, is one without a degradation.
    compared = np.where(reference.samples[metric] == 0, 1.0, np.abs(reference.samples[metric]))
    groups = min((side.groups for side in (current, reference) if side.groups is not None), default=None)
    drawn = sign * (current.samples[metric] - reference.samples[metric]) / compared
    low, high = percentile_interval(drawn, percentile_confidence(confidence, groups))
    return Interval(sign * (after - before) / abs(before), low, high)


def slices(table: pd.DataFrame, dataset: Dataset) -> dict[str, "pd.Series[str]"]:
    """Name the slice of each row: by the slices of the dataset, and on a court by distance and zone.

    Parameters
    ----------
    table : pandas.DataFrame
        The features; a slice whose column is missing is excluded.
    dataset : Dataset

    Returns
    -------
    dict of str to pandas.Series of ordered category, shape (n,)
        Slice names by dimension.
    """
    named: dict[str, tuple[Sequence[str], Sequence[str]]] = {}
    place = dataset.court if dataset.court and {dataset.court.x, dataset.court.y} <= set(table.columns) else None
    zones = court.zones(*court.positions(table, place)) if place else None
    if zones:
        named["distance"] = (zones.range.tolist(), court.RANGES)
    for each in dataset.slices:
        if each.column in table:
            named[each.column] = _slice(table[each.column], dataset.column(each.column), each)
    if zones:
        named["zone"] = (zones.basic.tolist(), court.BASIC_ZONES)
    return {
        name: pd.Series(pd.Categorical(values, order, ordered=True), index=table.index, name=name)
        for name, (values, order) in named.items()
    }


def _slice(values: "pd.Series[Any]", column: Column, described: Slice) -> tuple[list[str], list[str]]:
    """Name the slice of each value; return the names in their order as well."""
    if column.kind == "date":
        years = pd.to_datetime(values, errors="coerce", format="ISO8601").dt.strftime("%Y").fillna(_NULL)
        return years.tolist(), sorted(years.unique())
    if not column.is_numeric:
        return _categories(values, column, described)
    numbers = values.astype(float)
    distinct = np.unique(numbers.dropna())
    if described.edges or len(distinct) > _MAX_VALUES or (distinct != np.rint(distinct)).any():
        return _bins(numbers, described)
    first = int(column.limits[0] or 0)
    labels = dict(enumerate(described.labels, first)) if described.labels else {}
    names = {number: labels.get(int(number), str(int(number))) for number in distinct}
    order = list(labels.values()) or [names[number] for number in distinct]
    return _with_null([_NULL if np.isnan(number) else names[number] for number in numbers], order)


def _categories(values: "pd.Series[Any]", column: Column, described: Slice) -> tuple[list[str], list[str]]:
    labels = dict(zip(column.categories, described.labels, strict=False))
    names = [_NULL if missing else str(value) for value, missing in zip(values, values.isna(), strict=True)]
    counts = Counter(name for name in names if name != _NULL)
    kept = [name for name in column.categories if name in counts] or [
        name for name, _ in sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    ]
    known = {name: labels.get(name, name) for name in kept[:_MAX_VALUES]}
    named = [_NULL if name == _NULL else known.get(name, _OTHER) for name in names]
    return _with_null(named, [*known.values(), *([_OTHER] if _OTHER in named else [])])


def _bins(numbers: "pd.Series[float]", described: Slice) -> tuple[list[str], list[str]]:
    edges = np.array(described.edges) if described.edges else np.unique(numbers.quantile([0.25, 0.5, 0.75]).dropna())
    ends = [f"{edge:g}" for edge in edges]
    names = [f"less than {ends[0]}", *(f"{low} to {high}" for low, high in pairwise(ends)), f"{ends[-1]} or more"]
    if len(described.labels) == len(names):
        names = list(described.labels)
    place = np.digitize(numbers.to_numpy(), edges)
    null = numbers.isna().tolist()
    return _with_null([_NULL if missing else names[each] for each, missing in zip(place, null, strict=True)], names)


def _with_null(named: list[str], order: list[str]) -> tuple[list[str], list[str]]:
    return named, [*order, *([_NULL] if _NULL in named else [])]


def metrics_by_slice(
    table: pd.DataFrame, dataset: Dataset, *, threshold: float = THRESHOLD, samples: int = 200, fewest: int = 30
) -> pd.DataFrame:
    """Compute the metrics of each slice of the labeled rows, with intervals.

    Parameters
    ----------
    table : pandas.DataFrame
        The features, the target and ``probability``, and the groups of rows that are not independent; rows without a
        label are excluded.
    dataset : Dataset
    threshold : float
        Decision threshold.
    samples : int
        Bootstrap samples for each interval.
    min_rows : int
        Labeled rows that a slice needs for metrics; a smaller slice has counts only.

    Returns
    -------
    pandas.DataFrame
        One row per slice: ``slice``, ``value``, ``rows``, ``rate``, ``mean_probability``, and for each metric its
        value, ``_low`` and ``_high``; NaN where a metric is not computed or not defined.
    """
    target = dataset.target.name
    labeled = table[table[target].notna()]
    found = []
    for name, values in slices(labeled, dataset).items():
        for value, rows in labeled.groupby(values, observed=True):
            entry: dict[str, object] = {
                "slice": name,
                "value": str(value),
                "rows": len(rows),
                "rate": rows[target].mean(),
                "mean_probability": rows[PROBABILITY].mean(),
            }
            if len(rows) >= fewest:
                measured = evaluate_with_intervals(
                    rows[target],
                    rows[PROBABILITY],
                    groups=groups_of(rows, dataset),
                    threshold=threshold,
                    samples=samples,
                )
                for metric, interval in measured.intervals().items():
                    entry |= {metric: interval.value, f"{metric}_low": interval.low, f"{metric}_high": interval.high}
            found.append(entry)
    return pd.DataFrame(found, columns=None if found else ["slice", "value", "rows", "rate", "mean_probability"])


def percentile_interval(samples: Floats, confidence: float) -> tuple[float, float]:
    """Return the ends of the percentile interval of samples, ignoring NaN; NaN where all samples are NaN.

    The probability outside each end is exact for any number of samples (Davison and Hinkley, 1997, section 5.2.1);
    interpolated percentiles of few samples are too close to each other.

    Examples
    --------
    >>> [round(end, 6) for end in percentile_interval(np.arange(1.0, 40), 0.9)]
    [2.0, 38.0]
    """
    if np.isnan(samples).all():
        return float("nan"), float("nan")
    low, high = np.nanquantile(samples, [(1 - confidence) / 2, (1 + confidence) / 2], method="weibull")
    return float(low), float(high)
