"""Mergeable sketches of a table for drift detection, of bounded size whatever the size of the table.

Neither the partitioning of the table nor the order of merges changes the result. One machine sketches a table chunk by
chunk, several machines sketch a partition each, and both produce the same sketch.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.schema import FEATURES, PROBABILITY, SHOT_ID, feature_column
from monitor.drift.training_support import Support
from monitor.drift.xxhash import Hashes, hashes

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MAX_VALUES = 2**16
"""Maximum number of distinct values of a column that are counted exactly."""
N_BINS = 2**16
"""Number of equal bins of a column's range, used above that maximum."""
MAX_SAMPLED = 4_000
"""Rows in the sample for the domain classifier."""

_LOCATION = ("lat", "lng", "shot_distance")
_MAX_LOCATIONS = 2**17
_ID_SEED, _POSITION_SEED = 0, 1


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
    def of(cls, column: str, marks: Floats) -> "Bins":
        """Return the bins of a feature, or of P(made)."""
        if column == PROBABILITY:
            return cls(0.0, 1.0, marks)
        known = feature_column(column)
        return cls(known.minimum or 0.0, known.maximum or 0.0, marks)

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
    """Counts of the values of a column.

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
        """Count every distinct value exactly."""
        distinct, rows = np.unique(values, return_counts=True)
        return cls(bins, distinct, rows.astype(np.int64))

    @classmethod
    def of(cls, values: Floats, bins: Bins) -> "Histogram":
        """Count every distinct value exactly, or by bin if there are too many."""
        return _bounded(cls.each(values, bins))

    @property
    def mean(self) -> float:
        """Mean over the rows."""
        return float(self.values @ self.rows / self.rows.sum())

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
    """

    hashes: Hashes
    features: Floats

    @classmethod
    def of(cls, found: Hashes, features: Floats) -> "Sample":
        """Sample from hashed rows."""
        distinct = np.unique(found)[:MAX_SAMPLED]
        if not len(distinct):
            return cls(found, features)
        few = np.flatnonzero(found <= distinct[-1])
        # The order of two rows of the same shot must not matter.
        order = few[np.lexsort((*features[few].T[::-1], found[few]))]
        first = order[np.flatnonzero(np.diff(found[order], prepend=~found[order][:1]))]
        return cls(found[first], features[first])

    def merge(self, other: "Sample") -> "Sample":
        """Return the sum of both."""
        return Sample.of(np.concatenate([self.hashes, other.hashes]), np.concatenate([self.features, other.features]))


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
    """

    rows: int
    columns: dict[str, Histogram]
    out_of_support: int
    sample: Sample

    def merge(self, other: "TableSketch") -> "TableSketch":
        """Return the sum of both."""
        return TableSketch(
            self.rows + other.rows,
            {name: histogram.merge(other.columns[name]) for name, histogram in self.columns.items()},
            self.out_of_support + other.out_of_support,
            self.sample.merge(other.sample),
        )


class Sketcher:
    """Sketches tables; workers receive a copy.

    Parameters
    ----------
    bins : mapping of str to Bins
        By column: the features and P(made), as `monitor.drift.detector.DriftDetector` has them.
    support : Support
        Where the training shots are.
    """

    def __init__(self, bins: Mapping[str, Bins], support: Support) -> None:
        self.bins, self.support = dict(bins), support
        self._far: dict[tuple[float, float, float], bool] = {}

    def sketch(self, table: pd.DataFrame, positions: Integers | int = 0) -> TableSketch:
        """Sketch a table or a chunk.

        Parameters
        ----------
        table : pandas.DataFrame
            The columns, and ``shot_id`` where it is known.
        positions : int or ndarray of int64, shape (n,)
            Positions of the rows in the whole table, or the position of the first.

        Raises
        ------
        ValueError
            If a column is missing or a value is not finite.
        """
        names = tuple(self.bins)
        values = finite(table, names)
        where = positions if isinstance(positions, np.ndarray) else np.arange(positions, positions + len(table))
        features = values[:, [names.index(name) for name in FEATURES]]
        return TableSketch(
            len(table),
            {name: Histogram.of(values[:, index], self.bins[name]) for index, name in enumerate(names)},
            int(self._out_of_support(table).sum()),
            Sample.of(_hashes(table, where), features),
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
        unseen = np.zeros(len(table), dtype=bool)
        for name, known in self.support.known.items():
            unseen |= ~table[name].isin(known).to_numpy()
        code, locations = _locations(table)
        keys = list(zip(*(locations[name].tolist() for name in _LOCATION), strict=True))
        unknown = np.array([key not in self._far for key in keys], dtype=bool)
        if len(self._far) + unknown.sum() > _MAX_LOCATIONS:
            self._far.clear()
            unknown[:] = True
        queried = locations[unknown].assign(**{name: known[0] for name, known in self.support.known.items()})
        far = self.support.out_of_support(queried).tolist()
        self._far.update(zip((key for key, new in zip(keys, unknown, strict=True) if new), far, strict=True))
        found: npt.NDArray[np.bool_] = unseen | np.array([self._far[key] for key in keys], dtype=bool)[code]
        return found


def finite(table: pd.DataFrame, names: Sequence[str]) -> Floats:
    """Return columns of a table as floats, shape (n, columns).

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


def _bounded(histogram: Histogram) -> Histogram:
    if len(histogram.values) <= MAX_VALUES:
        return histogram
    return Histogram(histogram.bins, *histogram.bins.rebin(histogram.values, histogram.rows), is_binned=True)


def _hashes(table: pd.DataFrame, positions: Integers) -> Hashes:
    found = hashes(positions, _POSITION_SEED)
    if SHOT_ID not in table:
        return found
    shot_ids = pd.to_numeric(table[SHOT_ID], errors="coerce")
    known = shot_ids.notna().to_numpy()
    found[known] = hashes(shot_ids[known].to_numpy(dtype=np.int64), _ID_SEED)
    return found


def _locations(table: pd.DataFrame) -> tuple[Integers, pd.DataFrame]:
    """Return the code of each row's location, and the distinct locations."""
    code = np.zeros(len(table), dtype=np.int64)
    for name in _LOCATION:
        each, distinct = pd.factorize(table[name])
        code, _ = pd.factorize(code * len(distinct) + each)
    first = np.empty(code.max(initial=-1) + 1, dtype=np.int64)
    first[code[::-1]] = np.arange(len(code))[::-1]
    return code, table[list(_LOCATION)].iloc[first]
