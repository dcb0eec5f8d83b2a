"""Tables on disk, read and written a piece at a time."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from data.errors import KobeShotError
from data.schema import COLUMN, FEATURES, RAW_NAME, SHOT_ID, feature_column

_KINDS = (".parquet", ".csv")


class TableError(KobeShotError):
    """A file is no table of shots, or cannot become one."""


class TableReader:
    """A Parquet or CSV file of shots.

    Parameters
    ----------
    path : pathlib.Path

    Attributes
    ----------
    rows : int or None
        Known for Parquet.

    Raises
    ------
    TableError
        If the file is not there, cannot be read, lacks features, or has columns that no shot has.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _kind(path)
        if not path.is_file():
            message = f"{path}: expected a Parquet or CSV file; found none."
            raise TableError(message)
        try:
            self.schema, self.rows = self._look()
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            message = f"{path}: expected a {path.suffix[1:]} table; it cannot be read ({error})."
            raise TableError(message) from error
        self._check_columns()

    def chunks(self, rows: int) -> Iterator[pa.Table]:
        """The table in pieces of `rows` rows, the last one shorter.

        Raises
        ------
        TableError
            If a piece cannot be read.
        """
        try:
            yield from _rechunked(self._batches(rows), rows)
        except (pa.ArrowException, OSError) as error:
            message = f"{self.path}: cannot be read to its end ({error})."
            raise TableError(message) from error

    def _look(self) -> tuple[pa.Schema, int | None]:
        if self.path.suffix == ".parquet":
            with pq.ParquetFile(self.path) as file:
                return file.schema_arrow, file.metadata.num_rows
        with self.path.open("rb") as file:
            header = file.readline()
        names = pa_csv.read_csv(pa.BufferReader(header or b"\n")).column_names
        # Texts stay as they stand, and a feature that is no number is told by row, which Arrow's parser does not do.
        return pa.schema([(name, pa.string()) for name in names]), None

    def _batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        if self.path.suffix == ".parquet":
            with pq.ParquetFile(self.path) as file:
                yield from file.iter_batches(batch_size=rows)
            return
        if len(self.schema) and self.path.stat().st_size > 0:
            kinds = pa_csv.ConvertOptions(
                column_types=dict(zip(self.schema.names, self.schema.types, strict=True)),
                strings_can_be_null=True,
                null_values=[""],
            )
            lines = pa_csv.ParseOptions(newlines_in_values=True)
            yield from pa_csv.open_csv(self.path, convert_options=kinds, parse_options=lines)

    def _check_columns(self) -> None:
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
                f"{self.path}: expected the columns {', '.join(FEATURES)}, and no columns but those of a shot "
                f"(data/schema.py names them); it {found}."
            )
            raise TableError(message)


class TableWriter(AbstractContextManager["TableWriter"]):
    """Writes a Parquet or CSV file a piece at a time; the kind is that of `like`, the place `path`."""

    def __init__(self, path: Path, schema: pa.Schema, like: Path) -> None:
        self._writer: pq.ParquetWriter | pa_csv.CSVWriter
        if _kind(like) == ".parquet":
            self._writer = pq.ParquetWriter(path, schema)
        else:
            self._writer = pa_csv.CSVWriter(path, schema, write_options=pa_csv.WriteOptions(quoting_style="needed"))

    def write(self, piece: pa.Table) -> None:
        """Append rows."""
        if len(piece):
            self._writer.write_table(piece)

    def __enter__(self) -> Self:
        """The writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file."""
        self._writer.close()


def check_kind(path: Path) -> Path:
    """Refuse a name that says neither Parquet nor CSV.

    Raises
    ------
    ValueError
        Which a configuration turns into a message.
    """
    try:
        _kind(path)
    except TableError as error:
        raise ValueError(str(error)) from error
    return path


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


def _rechunked(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    count = 0
    for batch in batches:
        held.append(pa.Table.from_batches([batch]))
        count += len(batch)
        while count >= rows:
            table = pa.concat_tables(held)
            yield table.slice(0, rows)
            held, count = [table.slice(rows)], count - rows
    if count:
        yield pa.concat_tables(held)


def _kind(path: Path) -> str:
    if path.suffix not in _KINDS:
        message = f"{path}: expected a name that ends in {' or '.join(_KINDS)}."
        raise TableError(message)
    return path.suffix
