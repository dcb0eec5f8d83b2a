"""Tables as a scoring server takes them, by the dataset of this process."""

from collections import Counter
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from data.datasets import Column, Dataset, current
from data.schema import (
    FORMER_IN_TRAINING,
    IN_TRAINING,
    MODEL_VERSION,
    PREDICTION,
    PROBABILITY,
    REASON,
)
from data.storage.dataset_reader import DatasetReader
from data.validation import is_date, rejection_reason

Cells = npt.NDArray[Any]
"""Features: doubles, or objects where some are strings; see `features_of`."""

ADDED_COLUMNS = (PREDICTION, PROBABILITY, MODEL_VERSION, IN_TRAINING, FORMER_IN_TRAINING, REASON)
"""Columns of a scored table and of its rejects that the input's own do not replace."""

_INTEGERS_END = 2.0**63
_FIRST_DAY = date.min.toordinal() - date(1970, 1, 1).toordinal()
"""Arrow also reads the year 0."""
_MAX_REASONS_SHOWN = 5


def open_shots(path: Path, *, name: str = "", dataset: Dataset | None = None) -> DatasetReader:
    """Open a table to score, by default with the dataset of this process.

    Other columns pass through, but for those that scoring adds.

    Raises
    ------
    TableError
        If the table cannot be read, lacks features, or has a column twice.
    """
    dataset = dataset or current()
    return DatasetReader(path, required=dataset.feature_names, dropped=ADDED_COLUMNS, name=name, dataset=dataset)


def features_of(piece: pa.Table, dataset: Dataset | None = None) -> tuple[Cells, dict[int, str]]:
    """The features, and what is wrong with the rows whose cells are no numbers where numbers are expected.

    Parameters
    ----------
    piece : pyarrow.Table
        With the features, by their own or their raw names.
    dataset : Dataset, optional
        By default that of this process.

    Returns
    -------
    values : ndarray of float64 or object, shape (n, features)
        NaN where a cell is null or no number. With categories or dates an array of objects, in which these are
        strings, or None.
    problems : dict of int to str
        By row.
    """
    features = (dataset or current()).features
    is_numeric = all(feature.is_numeric for feature in features)
    # A column is contiguous: it is filled and checked several times as fast.
    values: Cells = np.empty((len(piece), len(features)), dtype=np.float64 if is_numeric else np.object_, order="F")
    problems: dict[int, str] = {}
    for place, feature in enumerate(features):
        name = feature.name
        column = piece.column(name if name in piece.column_names else feature.raw_name)
        if not feature.is_numeric:
            values[:, place] = column.cast(pa.string()).to_pandas().replace({np.nan: None}).to_numpy(dtype=object)
            continue
        try:
            values[:, place] = column.cast(pa.float64()).to_numpy()
        except (pa.ArrowException, ValueError):
            cells = column.to_pandas()
            numbers = pd.to_numeric(cells, errors="coerce")
            values[:, place] = numbers
            for row in np.flatnonzero(numbers.isna() & cells.notna()).tolist():
                problems.setdefault(row, _problem(feature, repr(cells.iloc[row])))
    return values, problems


def numbers_of(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """The cells of a column as doubles, NaN where one is null or no number.

    Examples
    --------
    >>> numbers_of(pa.chunked_array([["1.5", "far", None]])).tolist()
    [1.5, nan, nan]
    """
    try:
        # Exact, which that of pandas is not.
        numbers: npt.NDArray[np.float64] = column.cast(pa.float64()).to_numpy()
    except (pa.ArrowException, ValueError):
        numbers = pd.to_numeric(column.to_pandas(), errors="coerce").to_numpy(dtype=np.float64)
    return numbers


def shot_ids_of(piece: pa.Table) -> npt.NDArray[np.int64] | None:
    """The ids of the rows, where every row has an integer."""
    names = [name for name in (current().id.name, current().id.raw_name) if name in piece.column_names]
    if not names:
        return None
    try:
        ids = piece.column(names[0]).cast(pa.int64())
    except pa.ArrowException:
        return None
    return None if ids.null_count else ids.to_numpy()


def typed_with_problems(piece: pa.Table, dataset: Dataset | None = None) -> tuple[pa.Table, dict[int, str]]:
    """Strings of a CSV file converted to the types of the schema, and what is wrong with the rows that do not fit.

    Parameters
    ----------
    piece : pyarrow.Table
    dataset : Dataset, optional
        By default that of this process.

    Returns
    -------
    table : pyarrow.Table
        A text that is no number is null.
    problems : dict of int to str
        By row; `features_of` and `problems_of` check the features.
    """
    problems: dict[int, str] = {}
    dataset = dataset or current()
    for place, name in enumerate(piece.column_names):
        column = dataset.by_name.get(name)
        if column is None or not (column.is_numeric or column.role == "target"):
            continue
        is_feature = column.role == "feature"
        if not pa.types.is_string(piece.schema.field(name).type):
            continue
        cells = piece.column(name).to_pandas()
        numbers: pd.Series[float] = pd.Series(numbers_of(piece.column(name)))
        if not is_feature:
            is_whole = (numbers % 1 == 0) & (numbers.abs() < _INTEGERS_END)
            wrong = cells.notna() & (numbers.isna() | (~is_whole & (column.kind != "float")))
            for row in np.flatnonzero(wrong).tolist():
                problems.setdefault(row, rejection_reason(column, cells.iloc[row]))
            numbers = numbers.mask(wrong)
        values = pa.array(numbers, from_pandas=True)
        is_integer = column.kind != "float" and not is_feature
        piece = piece.set_column(place, name, values.cast(pa.int64()) if is_integer else values)
    return piece, problems


def time_problems_of(piece: pa.Table, dataset: Dataset) -> dict[int, str]:
    """What is wrong with the dates of the rows, by row, as in acquisition; a missing one is allowed.

    Parameters
    ----------
    piece : pyarrow.Table
        Of `open_shots`, which reads the dates that can only mean one day.
    dataset : Dataset

    Examples
    --------
    >>> time_problems_of(pa.table({"game_date": ["2013-10-29", "03/04/2013", None]}), current())
    {1: "column game_date: found '03/04/2013', expected a date such as 2013-10-29"}
    """
    time = dataset.time
    names = [name for name in (time.name, time.raw_name) if name in piece.column_names] if time else []
    if not time or time.kind != "date" or not names:
        return {}
    if _are_days(piece.column(names[0])):
        return {}
    cells = piece.column(names[0]).combine_chunks().dictionary_encode()
    wrong = [place for place, text in enumerate(cells.dictionary.to_pylist()) if not is_date(text)]
    rows = np.flatnonzero(np.isin(cells.indices.fill_null(-1), wrong)).tolist()
    return {row: rejection_reason(time, cells[row].as_py()) for row in rows}


def _are_days(cells: pa.ChunkedArray) -> bool:
    """Whether each cell is a day for `is_date`, or null, read by Arrow without the interpreter."""
    try:
        first = pc.min(cells.cast(pa.date32()).cast(pa.int32())).as_py()
    except pa.ArrowException:
        return False
    return first is None or first >= _FIRST_DAY


def problems_of(values: Cells, dataset: Dataset | None = None) -> dict[int, str]:
    """What is wrong with rows by the description, by row.

    Parameters
    ----------
    values : ndarray of float64 or object, shape (n, features)
        Of `features_of`.
    dataset : Dataset, optional
        By default that of this process.

    Examples
    --------
    >>> problems_of(np.array([[33.9, -118.2, 1, 11, 0, 10], [33.9, -118.2, 1, 1, 0, 10]]))
    {0: 'column period: found 11, expected an integer from 1 to 10'}
    """
    found: dict[int, str] = {}
    for place, column in enumerate((dataset or current()).features):
        cells = values[:, place]
        if not column.is_numeric:
            for row, cell in enumerate(cells.tolist()):
                if not _is_text_of(column, cell):
                    found.setdefault(row, _problem(column, "null" if cell is None else repr(cell)))
            continue
        numbers = cells.astype(np.float64)
        low, high = (np.inf * sign if end is None else end for end, sign in zip(column.limits, (-1, 1), strict=True))
        wrong = ~((numbers >= low) & (numbers <= high)) | np.isinf(numbers)
        if column.kind != "float":
            wrong |= numbers % 1 != 0
        if column.nullable:
            wrong &= ~np.isnan(numbers)
        for row in np.flatnonzero(wrong).tolist():
            shown = "null" if np.isnan(numbers[row]) else format(numbers[row], ".10g")
            found.setdefault(row, _problem(column, shown))
    return found


class ReasonCounts:
    """Counts the reasons of rejected rows, for the message where no row is left."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def add(self, reasons: Iterable[str]) -> None:
        """Count the reasons of some rows."""
        for reason in reasons:
            # Rows of one reason differ in what was found.
            kind = reason.partition(": found ")[0]
            self._counts[kind] += 1
            self._examples.setdefault(kind, reason)

    def message(self, table: object) -> str:
        """Describe a table without a scored row; nothing is known of an empty one."""
        if not self._counts:
            return f"{table}: no row was scored: the table has no rows. Give a table with at least one {current().row}."
        lines = [
            f"  {count:,} row(s): {self._examples[kind]}"
            for kind, count in self._counts.most_common(_MAX_REASONS_SHOWN)
        ]
        total = self._counts.total()
        head = f"{table}: no row was scored, and nothing was written: all {total:,} rows violate the schema:"
        return "\n".join([head, *lines, "Fix the table, and run the command again."])


def _is_text_of(column: Column, cell: Any) -> bool:  # noqa: ANN401 a cell of an array of objects
    if cell is None:
        return column.nullable
    if column.kind == "date":
        return is_date(cell)
    return not column.allowed or cell in column.allowed


def _problem(column: Column, shown: str) -> str:
    return f"column {column.name}: found {shown}, expected {column.constraint_text}"
