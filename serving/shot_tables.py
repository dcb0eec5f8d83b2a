"""Tables of shots as a scoring server takes them."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from data.datasets import current
from data.errors import TableError
from data.schema import (
    COLUMN,
    FEATURES,
    FORMER_IN_TRAINING,
    IN_TRAINING,
    MODEL_VERSION,
    PREDICTION,
    PROBABILITY,
    RAW_COLUMN_NAMES,
    REASON,
    SHOT_ID,
    feature_column,
)
from data.storage.shot_reader import ShotReader
from data.validation import rejection_reason

ADDED_COLUMNS = (PREDICTION, PROBABILITY, MODEL_VERSION, IN_TRAINING, FORMER_IN_TRAINING, REASON)
"""Columns of a scored table and of its rejects that the input's own do not replace."""

_INTEGERS_END = 2.0**63
_MAX_REASONS_SHOWN = 5


def open_shots(path: Path, *, name: str = "") -> ShotReader:
    """Open a table of shots to score. Other columns pass through, but for those that scoring adds.

    Raises
    ------
    TableError
        If the table cannot be read, lacks features, or has a column twice.
    """
    return ShotReader(path, required=FEATURES, dropped=ADDED_COLUMNS, name=name)


def features_of(piece: pa.Table) -> tuple[npt.NDArray[np.float64], dict[int, str]]:
    """The features as doubles, and what is wrong with the rows whose cells are no numbers.

    Parameters
    ----------
    piece : pyarrow.Table
        With the features, by their own or their raw names.

    Returns
    -------
    values : ndarray of float64, shape (n, 6)
        NaN where a cell is null or no number.
    problems : dict of int to str
        By row.
    """
    values = np.empty((len(piece), len(FEATURES)))
    problems: dict[int, str] = {}
    for place, name in enumerate(FEATURES):
        column = piece.column(name if name in piece.column_names else RAW_COLUMN_NAMES[name])
        try:
            values[:, place] = column.cast(pa.float64()).to_numpy()
        except (pa.ArrowException, ValueError):
            cells = column.to_pandas()
            numbers = pd.to_numeric(cells, errors="coerce")
            values[:, place] = numbers
            for row in np.flatnonzero(numbers.isna() & cells.notna()).tolist():
                problems.setdefault(row, _problem(name, repr(cells.iloc[row])))
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
    """The numbers of the shots, where every row has a whole one."""
    if SHOT_ID not in piece.column_names:
        return None
    try:
        ids = piece.column(SHOT_ID).cast(pa.int64())
    except pa.ArrowException:
        return None
    return None if ids.null_count else ids.to_numpy()


def typed(piece: pa.Table, start: int) -> pa.Table:
    """Strings of a CSV file converted to the types of the schema, for a Parquet file; invalid features are null.

    Parameters
    ----------
    piece : pyarrow.Table
    start : int
        Row of the file with which it starts.

    Raises
    ------
    TableError
        If a string is not a number where the schema expects one; the endpoint reports those of the features.
    """
    table, problems = typed_with_problems(piece)
    if problems:
        row = min(problems)
        message = (
            f"row {start + row}, {problems[row]}. Correct it, or write a .csv file, in which texts stay as they are."
        )
        raise TableError(message)
    return table


def typed_with_problems(piece: pa.Table) -> tuple[pa.Table, dict[int, str]]:
    """Strings of a CSV file converted to the types of the schema, and what is wrong with the rows that do not fit.

    Parameters
    ----------
    piece : pyarrow.Table

    Returns
    -------
    table : pyarrow.Table
        A text that is no number is null.
    problems : dict of int to str
        By row; `features_of` and `problems_of` check the features.
    """
    problems: dict[int, str] = {}
    for place, name in enumerate(piece.column_names):
        if name not in {*COLUMN, *FEATURES}:
            continue
        column = feature_column(name)
        is_feature = name in {*FEATURES, *RAW_COLUMN_NAMES.values()}
        if column.kind == "string" or not pa.types.is_string(piece.schema.field(name).type):
            continue
        cells = piece.column(name).to_pandas()
        numbers: pd.Series[float] = pd.Series(numbers_of(piece.column(name)))
        if not is_feature:
            is_whole = (numbers % 1 == 0) & (numbers.abs() < _INTEGERS_END)
            wrong = cells.notna() & (numbers.isna() | (~is_whole & (column.kind == "integer")))
            for row in np.flatnonzero(wrong).tolist():
                problems.setdefault(row, rejection_reason(current().column(name), cells.iloc[row]))
            numbers = numbers.mask(wrong)
        values = pa.array(numbers, from_pandas=True)
        is_integer = column.kind == "integer" and not is_feature
        piece = piece.set_column(place, name, values.cast(pa.int64()) if is_integer else values)
    return piece, problems


def problems_of(values: npt.NDArray[np.float64]) -> dict[int, str]:
    """What is wrong with rows by the schema, by row.

    Parameters
    ----------
    values : ndarray of float64, shape (n, 6)

    Examples
    --------
    >>> problems_of(np.array([[33.9, -118.2, 1, 11, 0, 10], [33.9, -118.2, 1, 1, 0, 10]]))
    {0: 'column period: found 11, expected an integer from 1 to 10'}
    """
    found: dict[int, str] = {}
    for place, name in enumerate(FEATURES):
        column, cells = feature_column(name), values[:, place]
        wrong = ~((cells >= float(column.minimum or 0)) & (cells <= float(column.maximum or 0)))
        if column.kind == "integer":
            wrong |= cells % 1 != 0
        for row in np.flatnonzero(wrong).tolist():
            shown = "null" if np.isnan(cells[row]) else format(cells[row], ".10g")
            found.setdefault(row, _problem(name, shown))
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
            return f"{table}: no row was scored: the table has no rows. Give a table with at least one shot."
        lines = [
            f"  {count:,} row(s): {self._examples[kind]}"
            for kind, count in self._counts.most_common(_MAX_REASONS_SHOWN)
        ]
        total = self._counts.total()
        head = f"{table}: no row was scored, and nothing was written: all {total:,} rows violate the schema:"
        return "\n".join([head, *lines, "Fix the table, and run the command again."])


def _problem(name: str, shown: str) -> str:
    return f"column {name}: found {shown}, expected {feature_column(name).constraint_text}"
