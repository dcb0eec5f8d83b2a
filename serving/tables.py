"""Tables of shots as a scoring server takes them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from data.schema import COLUMN, FEATURES, RAW_NAME, SHOT_ID, feature_column
from data.tables import TableError, TableReader


class ShotReader(TableReader):
    """A table that holds the features, and no columns but those of a shot.

    Raises
    ------
    TableError
        If the table cannot be read, lacks features, or has columns that no shot has.
    """

    def __init__(self, path: Path, columns: Sequence[str] | None = None) -> None:
        super().__init__(path, columns)
        names = self.schema.names
        known = {*COLUMN, *FEATURES}
        problems = {
            "lacks": [name for name in FEATURES if name not in names and RAW_NAME.get(name) not in names],
            "has unknown": [name for name in names if name not in known],
            "has twice": sorted({name for name in names if names.count(name) > 1}),
        }
        found = "; ".join(f"{problem} {', '.join(cases)}" for problem, cases in problems.items() if cases)
        if found:
            message = (
                f"{path}: expected the columns {', '.join(FEATURES)}, and no columns but those of a shot "
                f"(data/schema.py names them); it {found}."
            )
            raise TableError(message)


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
        column = piece.column(name if name in piece.column_names else RAW_NAME[name])
        try:
            values[:, place] = column.cast(pa.float64()).to_numpy()
        except (pa.ArrowException, ValueError):
            cells = column.to_pandas()
            numbers = pd.to_numeric(cells, errors="coerce")
            values[:, place] = numbers
            for row in np.flatnonzero(numbers.isna() & cells.notna()).tolist():
                problems.setdefault(row, _problem(name, repr(cells.iloc[row])))
    return values, problems


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
    """Texts of a CSV file as what the schema says that they are, for a Parquet file; features that are none are null.

    Parameters
    ----------
    piece : pyarrow.Table
    start : int
        Row of the file with which it begins.

    Raises
    ------
    TableError
        If a text is no number where the schema expects one, and it is no feature, of which the endpoint speaks.
    """
    for place, name in enumerate(piece.column_names):
        own = {raw: own for own, raw in RAW_NAME.items()}.get(name, name)
        kind = COLUMN[RAW_NAME.get(name, name)].kind
        if kind == "text" or not pa.types.is_string(piece.schema.field(name).type):
            continue
        cells = piece.column(name).to_pandas()
        numbers = pd.to_numeric(cells, errors="coerce").astype("float64")
        wrong = cells.notna() & (numbers.isna() | ((numbers % 1 != 0) & (kind == "integer")))
        if wrong.any() and own not in FEATURES:
            row = int(np.flatnonzero(wrong)[0])
            message = (
                f"row {start + row}, column {name}: found {cells.iloc[row]!r}, expected {COLUMN[name].allowed}. "
                "Correct it, or write a .csv file, in which texts stay as they are."
            )
            raise TableError(message)
        whole = kind == "integer" and own not in FEATURES
        values = pa.array(numbers, from_pandas=True)
        piece = piece.set_column(place, name, values.cast(pa.int64()) if whole else values)
    return piece


def problems_of(values: npt.NDArray[np.float64]) -> dict[int, str]:
    """What the schema says against rows, by row.

    Parameters
    ----------
    values : ndarray of float64, shape (n, 6)

    Examples
    --------
    >>> problems_of(np.array([[33.9, -118.2, 1, 11, 0, 10], [33.9, -118.2, 1, 1, 0, 10]]))
    {0: 'column period: found 11, expected a whole number from 1 to 10'}
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


def _problem(name: str, shown: str) -> str:
    return f"column {name}: found {shown}, expected {feature_column(name).allowed}"
