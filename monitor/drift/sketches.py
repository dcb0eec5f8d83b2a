"""Mergeable sketches of a table for drift detection, of bounded size whatever the size of the table.

Neither the partitioning of the table nor the order of merges changes the result. One machine sketches a table chunk by
chunk, several machines sketch a partition each, and both produce the same sketch.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, reduce

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.datasets import Dataset
from data.schema import PROBABILITY
from monitor.drift.encoding import Encoding
from monitor.drift.training_support import Space, Support

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

MAX_VALUES = 2**16
"""Maximum number of distinct values of a column that are counted exactly."""
N_BINS = 2**16
"""Number of equal bins of a column's range, used above that maximum."""
MAX_SAMPLED = 4_000
"""Rows in the sample for the domain classifier."""

MAX_GROUPS = 2**14
"""Number of groups that are counted exactly; above it, their number is estimated."""
MAX_NAMED = 1_000
"""Number of unknown categories of a feature that are counted by name."""

_MAX_LOCATIONS = 2**17
_ID_SEED, _POSITION_SEED, _GROUP_SEED = 0, 1, 2
_HASHES = 2.0**64


@dataclass(frozen=True)
class Bins:
    """Bin edges of a column with too many distinct values to count each exactly.

    Attributes
    ----------
    minimum, maximum : float
        Range of the column, which is divided into ``N_BINS`` equal bins.
    marks : ndarray of float64, shape (k,)
        Values of the reference; each is a bin of its own. Between two of them the reference distribution is
        constant, and only the count and the mean of other values matter.
    """

    minimum: float
    maximum: float
    marks: Floats

    @classmethod
    def of(cls, column: str, marks: Floats, encoding: Encoding) -> "Bins":
        """Return the bins of a feature, or of P(made); an open range ends at the marks."""
        if column == PROBABILITY:
            return cls(0.0, 1.0, marks)
        if column in encoding.categories:
            return cls(0.0, float(len(encoding.categories[column])), marks)
        low, high = encoding.dataset.column(column).limits
        ends = marks if len(marks) else np.zeros(1)
        return cls(float(ends[0]) if low is None else low, float(ends[-1]) if high is None else high, marks)

    @cached_property
    def edges(self) -> Floats:
        """Edges of the bins, ascending; each edge is also a bin of its own."""
        return np.union1d(np.linspace(self.minimum, self.maximum, N_BINS + 1), self.marks)

    def rebin(self, values: Floats, rows: Integers) -> tuple[Floats, Integers]:
        """Aggregate counted values into bins.

        Parameters
        ----------
        values : ndarray of float64, shape (n,)
        rows : ndarray of int64, shape (n,)

        Returns
        -------
        values : ndarray of float64, shape (c,)
            Mean of each non-empty bin, ascending; a mean lies in its bin.
        rows : ndarray of int64, shape (c,)
            Rows in each non-empty bin.
        """
        edges = self.edges
        index = np.searchsorted(edges, values)
        code = index + np.searchsorted(edges, values, side="right")
        _, first, bin_ = np.unique(code, return_index=True, return_inverse=True)
        total = np.bincount(bin_, weights=rows)
        mean = np.bincount(bin_, weights=rows * values) / total
        # Rounding may move a mean onto an edge or past it.
        ends = np.concatenate([[-np.inf], edges, [np.inf]])
        low, high = np.nextafter(ends[index[first]], np.inf), np.nextafter(ends[index[first] + 1], -np.inf)
        inside = code[first] % 2 == 0
        return np.where(inside, np.clip(mean, low, high), values[first]), total.astype(np.int64)


@dataclass(frozen=True)
class Histogram:
    """Counts of the values of a column; nulls are not among them.

    Attributes
    ----------
    bins : Bins
    values : ndarray of float64, shape (k,)
        Ascending; with more than ``MAX_VALUES`` distinct values, the mean of each bin.
    rows : ndarray of int64, shape (k,)
        Rows with each value.
    is_binned : bool
        Whether the values are bin means.
    """

    bins: Bins
    values: Floats
    rows: Integers
    is_binned: bool = False

    @classmethod
    def each(cls, values: Floats, bins: Bins) -> "Histogram":
        """Count every distinct value except NaN exactly."""
        distinct, rows = np.unique(values[~np.isnan(values)], return_counts=True)
        return cls(bins, distinct, rows.astype(np.int64))

    @classmethod
    def of(cls, values: Floats, bins: Bins) -> "Histogram":
        """Count every distinct value exactly, or by bin if there are too many."""
        return _bounded(cls.each(values, bins))

    @property
    def mean(self) -> float:
        """Mean over the rows; NaN where there are none."""
        return float(self.values @ self.rows / self.rows.sum()) if len(self.rows) else float("nan")

    def count(self, value: float) -> int:
        """Count the rows with a value."""
        return int(self.rows[self.values == value].sum())

    def merge(self, other: "Histogram") -> "Histogram":
        """Return the sum of both."""
        values = np.concatenate([self.values, other.values])  # noqa: PD011 of an array
        rows = np.concatenate([self.rows, other.rows])
        if self.is_binned or other.is_binned:
            return Histogram(self.bins, *self.bins.rebin(values, rows), is_binned=True)
        distinct, index = np.unique(values, return_inverse=True)
        total = np.bincount(index, weights=rows, minlength=len(distinct)).astype(np.int64)
        return _bounded(Histogram(self.bins, distinct, total))


@dataclass(frozen=True)
class Sample:
    """The ``MAX_SAMPLED`` rows of a table with the smallest hashes.

    The hash is that of ``shot_id``, or of the row's position where there is none. One row of each shot is kept, so that
    the classifier is not evaluated on rows that it was trained on.

    Attributes
    ----------
    hashes : ndarray of uint64, shape (s,)
        Ascending.
    features : ndarray of float64, shape (s, features)
        Encoded features.
    groups : ndarray of uint64, shape (s,), or None
        Hash of each row's group; None where rows are independent.
    """

    hashes: Hashes
    features: Floats
    groups: Hashes | None = None

    @classmethod
    def of(cls, found: Hashes, features: Floats, groups: Hashes | None = None) -> "Sample":
        """Sample from hashed rows."""
        distinct = np.unique(found)[:MAX_SAMPLED]
        if not len(distinct):
            return cls(found, features, groups)
        few = np.flatnonzero(found <= distinct[-1])
        # The order of two rows of the same shot must not matter.
        order = few[np.lexsort((*features[few].T[::-1], found[few]))]
        first = order[np.flatnonzero(np.diff(found[order], prepend=~found[order][:1]))]
        return cls(found[first], features[first], None if groups is None else groups[first])

    def merge(self, other: "Sample") -> "Sample":
        """Return the sum of both."""
        groups = None
        if self.groups is not None and other.groups is not None:
            groups = np.concatenate([self.groups, other.groups])
        return Sample.of(
            np.concatenate([self.hashes, other.hashes]), np.concatenate([self.features, other.features]), groups
        )


@dataclass(frozen=True)
class DistinctCount:
    """Number of distinct groups, from the smallest of their hashes.

    Attributes
    ----------
    hashes : ndarray of uint64, shape (k,)
        At most ``MAX_GROUPS``, ascending.
    """

    hashes: Hashes

    @classmethod
    def of(cls, found: Hashes) -> "DistinctCount":
        """Count hashed groups."""
        return cls(np.unique(found)[:MAX_GROUPS])

    def merge(self, other: "DistinctCount") -> "DistinctCount":
        """Return the count of the union of both."""
        return DistinctCount.of(np.concatenate([self.hashes, other.hashes]))

    @property
    def value(self) -> int:
        """The number: exact below ``MAX_GROUPS``, else estimated within 1% from the greatest hash.

        K. Beyer et al., On Synopses for Distinct-Value Estimation, SIGMOD 2007.
        """
        if len(self.hashes) < MAX_GROUPS:
            return len(self.hashes)
        return round((len(self.hashes) - 1) / (float(self.hashes[-1]) / _HASHES))


@dataclass(frozen=True)
class TableSketch:
    """Sketch of a table for drift detection.

    Attributes
    ----------
    rows : int
    columns : dict of str to Histogram
        Histograms of each feature and P(made).
    out_of_support : int
        Out-of-support rows.
    sample : Sample
        Rows for the domain classifier.
    unseen : dict of str to dict of str to int
        Rows of unknown categories by feature, for at most ``MAX_NAMED`` categories of each.
    groups : DistinctCount or None
        Number of groups; None where rows are independent, or their groups are unknown.
    """

    rows: int
    columns: dict[str, Histogram]
    out_of_support: int
    sample: Sample
    unseen: dict[str, dict[str, int]] = field(default_factory=dict)
    groups: DistinctCount | None = None

    def merge(self, other: "TableSketch") -> "TableSketch":
        """Return the sum of both."""
        return TableSketch(
            self.rows + other.rows,
            {name: histogram.merge(other.columns[name]) for name, histogram in self.columns.items()},
            self.out_of_support + other.out_of_support,
            self.sample.merge(other.sample),
            {name: _named(Counter(found) + Counter(other.unseen[name])) for name, found in self.unseen.items()},
            self.groups.merge(other.groups) if self.groups and other.groups else None,
        )


class Sketcher:
    """Sketches tables; workers receive a copy.

    Parameters
    ----------
    encoding : Encoding
        Encoding of the reference.
    bins : mapping of str to Bins
        By column: the features and P(made), as `monitor.drift.detector.DriftDetector` has them.
    support : Support
        Where the training rows are.
    """

    def __init__(self, encoding: Encoding, bins: Mapping[str, Bins], support: Support) -> None:
        self.encoding, self.bins, self.support = encoding, dict(bins), support
        self._far: list[dict[tuple[float, ...], bool]] = [{} for _ in support.spaces]

    def sketch(self, table: pd.DataFrame, positions: Integers | int = 0) -> TableSketch:
        """Sketch a table or a chunk.

        Parameters
        ----------
        table : pandas.DataFrame
            The columns, and the id and the group of each row where they are known.
        positions : int or ndarray of int64, shape (n,)
            Positions of the rows in the whole table, or the position of the first.

        Raises
        ------
        ValueError
            If a column is missing or a value is not finite.
        """
        names = self.encoding.names
        values = self.encoding.encode(table)
        where = positions if isinstance(positions, np.ndarray) else np.arange(positions, positions + len(table))
        found = self._hashes(table, where)
        groups = group_hashes(table, self.encoding.dataset, found)
        return TableSketch(
            len(table),
            {name: Histogram.of(values[:, index], self.bins[name]) for index, name in enumerate(names)},
            int(self._out_of_support(table).sum()),
            Sample.of(found, values[:, : len(self.encoding.features)], groups),
            {name: _named(rows) for name, rows in self.encoding.unseen(table).items()},
            None if groups is None else DistinctCount.of(groups),
        )

    def sketch_all(self, tables: Iterable[pd.DataFrame]) -> TableSketch:
        """Sketch the chunks of a table in order.

        Raises
        ------
        ValueError
            If there are no chunks; see also `sketch`.
        """
        chunks = self._sketches(tables)
        first = next(chunks, None)
        if first is None:
            message = "expected one or more chunks of a table; found none"
            raise ValueError(message)
        return reduce(TableSketch.merge, chunks, first)

    def _sketches(self, tables: Iterable[pd.DataFrame]) -> Iterator[TableSketch]:
        first = 0
        for table in tables:
            yield self.sketch(table, first)
            first += len(table)

    def _out_of_support(self, table: pd.DataFrame) -> npt.NDArray[np.bool_]:
        """As `Support.out_of_support`, but each location is queried once while their number stays bounded."""
        found = self.support.unseen(table)
        for space, known in zip(self.support.spaces, self._far, strict=True):
            found |= _is_far(space, known, table)
        return found

    def _hashes(self, table: pd.DataFrame, positions: Integers) -> Hashes:
        found = hashes(positions, _POSITION_SEED)
        name = self.encoding.dataset.id.name
        if name not in table:
            return found
        ids = pd.to_numeric(table[name], errors="coerce")
        known = ids.notna().to_numpy()
        found[known] = hashes(ids[known].to_numpy(dtype=np.int64), _ID_SEED)
        return found


def group_hashes(table: pd.DataFrame, dataset: Dataset, of_rows: Hashes) -> Hashes | None:
    """Return a hash of each row's group, shape (n,); None where the table or the dataset has no groups.

    A row whose group is null is a group of its own, and has the hash of the row.
    """
    if dataset.group is None or dataset.group.name not in table:
        return None
    values = table[dataset.group.name]
    numbers = pd.to_numeric(values, errors="coerce") if dataset.group.is_numeric else pd.Series(dtype=float)
    if len(numbers) == len(values) and numbers.notna().all() and (numbers == numbers.round()).all():
        return hashes(numbers.to_numpy(dtype=np.int64), _GROUP_SEED)
    found: Hashes = pd.util.hash_array(values.astype(str).to_numpy(dtype=object))
    null = values.isna().to_numpy()
    found[null] = of_rows[null]
    return found


def hashes(numbers: Integers, seed: int) -> Hashes:
    """A hash of each number, which is another one for each seed; the same on every machine."""
    key = pd.util.hash_array(np.array([seed]))
    found: Hashes = pd.util.hash_array(numbers.astype(np.int64).view(np.uint64) ^ key)
    return found


def _is_far(space: Space, known: dict[tuple[float, ...], bool], table: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Return which rows are far away in a space; `known` holds and receives the results by location."""
    code, locations = _locations(table, space.columns)
    keys = list(zip(*(locations[name].tolist() for name in space.columns), strict=True))
    unknown = np.array([key not in known for key in keys], dtype=bool)
    if len(known) + unknown.sum() > _MAX_LOCATIONS:
        known.clear()
        unknown[:] = True
    far = space.far(locations[unknown]).tolist()
    known.update(zip((key for key, new in zip(keys, unknown, strict=True) if new), far, strict=True))
    found: npt.NDArray[np.bool_] = np.array([known[key] for key in keys], dtype=bool)[code]
    return found


def _named(found: Mapping[str, int]) -> dict[str, int]:
    """Keep at most ``MAX_NAMED`` categories; the order of merges does not decide which."""
    if len(found) <= MAX_NAMED:
        return dict(found)
    names = np.array(list(found), dtype=object)
    kept = names[np.argsort(pd.util.hash_array(names), kind="stable")[:MAX_NAMED]]
    return {str(name): found[name] for name in kept}


def _bounded(histogram: Histogram) -> Histogram:
    if len(histogram.values) <= MAX_VALUES:
        return histogram
    return Histogram(histogram.bins, *histogram.bins.rebin(histogram.values, histogram.rows), is_binned=True)


def _locations(table: pd.DataFrame, columns: tuple[str, ...]) -> tuple[Integers, pd.DataFrame]:
    """Return the code of each row's location, and the distinct locations."""
    code = np.zeros(len(table), dtype=np.int64)
    for name in columns:
        each, distinct = pd.factorize(table[name], use_na_sentinel=False)
        code, _ = pd.factorize(code * len(distinct) + each)
    first = np.empty(code.max(initial=-1) + 1, dtype=np.int64)
    first[code[::-1]] = np.arange(len(code))[::-1]
    return code, table[list(columns)].iloc[first]
