"""What drift needs of a table: small whatever the table's size, and those of two pieces merge into those of both.

How a table is cut into pieces, and in which order they are merged, makes no difference. So one machine counts a table
chunk by chunk, many machines count a part each, and both come to the same.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.preparation.split import Hashes, hashes
from data.schema import FEATURES, PROBABILITY, SHOT_ID, feature_column
from monitor.drift.training_support import Support

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MOST_VALUES = 2**16
"""Different values of a column up to which each is counted by itself."""
CELLS = 2**16
"""Equal parts of a column's range, in which more values than that are counted."""
MOST_SAMPLED = 4_000
"""Rows that are kept for the classifier."""

_PLACE = ("lat", "lng", "shot_distance")
_MOST_PLACES = 2**17
_ID_SEED, _POSITION_SEED = 0, 1


@dataclass(frozen=True)
class Bins:
    """Where the values of a column are told apart if there are too many to count each by itself.

    Attributes
    ----------
    minimum, maximum : float
        Range of the column, which is cut into ``CELLS`` equal cells.
    marks : ndarray of float64, shape (k,)
        Values that must be told apart from all others, because the reference has them: between two of them the
        distribution of the reference does not move, so that of other values only their number and mean matter.
    """

    minimum: float
    maximum: float
    marks: Floats

    @classmethod
    def of(cls, column: str, marks: Floats) -> "Bins":
        """The cells of a feature, or of P(made)."""
        if column == PROBABILITY:
            return cls(0.0, 1.0, marks)
        known = feature_column(column)
        return cls(known.minimum or 0.0, known.maximum or 0.0, marks)

    @cached_property
    def edges(self) -> Floats:
        """Values between which the cells lie, each a cell of its own, ascending."""
        return np.union1d(np.linspace(self.minimum, self.maximum, CELLS + 1), self.marks)

    def gathered(self, values: Floats, rows: Integers) -> tuple[Floats, Integers]:
        """The mean value and the rows of each cell that has any, by the values and the rows of each.

        Parameters
        ----------
        values : ndarray of float64, shape (n,)
        rows : ndarray of int64, shape (n,)

        Returns
        -------
        values : ndarray of float64, shape (c,)
            Ascending; a mean is in its cell.
        rows : ndarray of int64, shape (c,)
        """
        edges = self.edges
        place = np.searchsorted(edges, values)
        code = place + np.searchsorted(edges, values, side="right")
        _, first, cell = np.unique(code, return_index=True, return_inverse=True)
        total = np.bincount(cell, weights=rows)
        mean = np.bincount(cell, weights=rows * values) / total
        # A mean may be rounded to an edge, or beyond it.
        ends = np.concatenate([[-np.inf], edges, [np.inf]])
        low, high = np.nextafter(ends[place[first]], np.inf), np.nextafter(ends[place[first] + 1], -np.inf)
        inside = code[first] % 2 == 0
        return np.where(inside, np.clip(mean, low, high), values[first]), total.astype(np.int64)


@dataclass(frozen=True)
class Histogram:
    """How many rows have each value of a column.

    Attributes
    ----------
    cells : Cells
    values : ndarray of float64, shape (k,)
        Ascending; where there were more than ``MOST_VALUES``, the mean of each cell.
    rows : ndarray of int64, shape (k,)
    in_cells : bool
        Whether they are of cells.
    """

    cells: Bins
    values: Floats
    rows: Integers
    in_cells: bool = False

    @classmethod
    def each(cls, values: Floats, cells: Bins) -> "Histogram":
        """Each value by itself, however many there are."""
        different, rows = np.unique(values, return_counts=True)
        return cls(cells, different, rows.astype(np.int64))

    @classmethod
    def of(cls, values: Floats, cells: Bins) -> "Histogram":
        """Each value by itself, or by its cell if there are too many."""
        return _bounded(cls.each(values, cells))

    @property
    def mean(self) -> float:
        """Mean of the rows."""
        return float(self.values @ self.rows / self.rows.sum())

    def merged(self, other: "Histogram") -> "Histogram":
        """Of both."""
        values = np.concatenate([self.values, other.values])  # noqa: PD011 of an array
        rows = np.concatenate([self.rows, other.rows])
        if self.in_cells or other.in_cells:
            return Histogram(self.cells, *self.cells.gathered(values, rows), in_cells=True)
        different, place = np.unique(values, return_inverse=True)
        total = np.bincount(place, weights=rows, minlength=len(different)).astype(np.int64)
        return _bounded(Histogram(self.cells, different, total))


@dataclass(frozen=True)
class Sample:
    """Those ``MOST_SAMPLED`` rows of a table that have the smallest hashes.

    The hash is that of ``shot_id``, else of the row's position. Of rows of the same shot one is kept: what teaches the
    classifier must not be what it is asked.

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
        """The rows that are kept of some."""
        different = np.unique(found)[:MOST_SAMPLED]
        if not len(different):
            return cls(found, features)
        few = np.flatnonzero(found <= different[-1])
        # Of two rows of the same shot it must not matter which came first.
        order = few[np.lexsort((*features[few].T[::-1], found[few]))]
        first = order[np.flatnonzero(np.diff(found[order], prepend=~found[order][:1]))]
        return cls(found[first], features[first])

    def merged(self, other: "Sample") -> "Sample":
        """Of both."""
        return Sample.of(np.concatenate([self.hashes, other.hashes]), np.concatenate([self.features, other.features]))


@dataclass(frozen=True)
class TableSketch:
    """What drift needs of a table.

    Attributes
    ----------
    rows : int
    columns : dict of str to Counted
        Of each feature and P(made).
    outside : int
        Rows outside the training support.
    sample : Sample
        Rows for the classifier.
    """

    rows: int
    columns: dict[str, Histogram]
    outside: int
    sample: Sample

    def merged(self, other: "TableSketch") -> "TableSketch":
        """Of both."""
        return TableSketch(
            self.rows + other.rows,
            {name: counted.merged(other.columns[name]) for name, counted in self.columns.items()},
            self.outside + other.outside,
            self.sample.merged(other.sample),
        )


class Sketcher:
    """How the rows of a table are counted; goes to wherever they are.

    Parameters
    ----------
    cells : mapping of str to Cells
        By column: the features and P(made), as `monitor.drift.detector.DriftDetector` has them.
    support : Support
        Where the training shots are.
    """

    def __init__(self, cells: Mapping[str, Bins], support: Support) -> None:
        self.cells, self.support = dict(cells), support
        self._far: dict[tuple[float, float, float], bool] = {}

    def count(self, table: pd.DataFrame, positions: Integers | int = 0) -> TableSketch:
        """Count rows.

        Parameters
        ----------
        table : pandas.DataFrame
            The columns, and ``shot_id`` where it is known.
        positions : int or ndarray of int64, shape (n,)
            Where the rows stand in the table that they are a piece of, or where the first of them does.

        Raises
        ------
        ValueError
            If a column is missing or a value is not finite.
        """
        names = tuple(self.cells)
        values = finite(table, names)
        where = positions if isinstance(positions, np.ndarray) else np.arange(positions, positions + len(table))
        features = values[:, [names.index(name) for name in FEATURES]]
        return TableSketch(
            len(table),
            {name: Histogram.of(values[:, place], self.cells[name]) for place, name in enumerate(names)},
            int(self._outside(table).sum()),
            Sample.of(_hashes(table, where), features),
        )

    def count_all(self, tables: Iterable[pd.DataFrame]) -> TableSketch:
        """Count the pieces of a table in their order.

        Raises
        ------
        ValueError
            If there are none; see also `count`.
        """
        pieces = self._counted(tables)
        first = next(pieces, None)
        if first is None:
            message = "expected one or more pieces of a table; found none"
            raise ValueError(message)
        return reduce(TableSketch.merged, pieces, first)

    def _counted(self, tables: Iterable[pd.DataFrame]) -> Iterator[TableSketch]:
        first = 0
        for table in tables:
            yield self.count(table, first)
            first += len(table)

    def _outside(self, table: pd.DataFrame) -> npt.NDArray[np.bool_]:
        """As `Support.outside`, but each place of all pieces is asked for once, as long as they are not too many."""
        strange = np.zeros(len(table), dtype=bool)
        for name, known in self.support.known.items():
            strange |= ~table[name].isin(known).to_numpy()
        code, places = _places(table)
        keys = list(zip(*(places[name].tolist() for name in _PLACE), strict=True))
        unknown = np.array([key not in self._far for key in keys], dtype=bool)
        if len(self._far) + unknown.sum() > _MOST_PLACES:
            self._far.clear()
            unknown[:] = True
        asked = places[unknown].assign(**{name: known[0] for name, known in self.support.known.items()})
        far = self.support.outside(asked).tolist()
        self._far.update(zip((key for key, new in zip(keys, unknown, strict=True) if new), far, strict=True))
        found: npt.NDArray[np.bool_] = strange | np.array([self._far[key] for key in keys], dtype=bool)[code]
        return found


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


def _bounded(counted: Histogram) -> Histogram:
    if len(counted.values) <= MOST_VALUES:
        return counted
    return Histogram(counted.cells, *counted.cells.gathered(counted.values, counted.rows), in_cells=True)


def _hashes(table: pd.DataFrame, positions: Integers) -> Hashes:
    found = hashes(positions, _POSITION_SEED)
    if SHOT_ID not in table:
        return found
    shot_ids = pd.to_numeric(table[SHOT_ID], errors="coerce")
    known = shot_ids.notna().to_numpy()
    found[known] = hashes(shot_ids[known].to_numpy(dtype=np.int64), _ID_SEED)
    return found


def _places(table: pd.DataFrame) -> tuple[Integers, pd.DataFrame]:
    """Of each row, which of the different places it has, and those places."""
    code = np.zeros(len(table), dtype=np.int64)
    for name in _PLACE:
        each, different = pd.factorize(table[name])
        code, _ = pd.factorize(code * len(different) + each)
    first = np.empty(code.max(initial=-1) + 1, dtype=np.int64)
    first[code[::-1]] = np.arange(len(code))[::-1]
    return code, table[list(_PLACE)].iloc[first]
