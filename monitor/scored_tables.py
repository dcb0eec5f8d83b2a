"""Reading of scored tables for monitoring: whole, as a systematic sample, or chunk by chunk."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa

from data.schema import (
    FEATURES,
    FORMER_IN_TRAINING,
    IN_TRAINING,
    MODEL_VERSION,
    PROBABILITY,
    RAW_COLUMN_NAMES,
    SHOT_ID,
    TARGET,
    feature_column,
)
from data.storage.files import display_path
from data.storage.regular_files import open_regular
from data.storage.tables import TableError, TableReader

TIME = "time"
"""Column with the time at which a row was scored."""
SKETCHED = (*FEATURES, *RAW_COLUMN_NAMES.values(), PROBABILITY, SHOT_ID)
"""Columns for drift sketches, with their raw names."""
CHUNK_ROWS = 2**16
"""Rows of a large table that are in memory at a time."""


class SampledTable(NamedTuple):
    """A table, or a systematic sample of it.

    Attributes
    ----------
    table : pandas.DataFrame
        All rows, or a systematic sample.
    rows : int
        Rows of the whole table.
    """

    table: pd.DataFrame
    rows: int


def read(path: Path, max_rows: int | None) -> SampledTable:
    """Read a table of shots; see `monitor.store.tables.read_sample`.

    Raises
    ------
    TableError
        See `monitor.store.tables.read_scored`.
    """
    with _translate_errors(path):
        table, rows = _read(path, max_rows)
    return SampledTable(validate_scored_table(table, path), rows)


def pieces(path: Path, version: str = "") -> Iterator[pd.DataFrame]:
    """Iterate over all rows of a scored table in chunks, with the columns for drift, validated as in `read_scored`.

    Parameters
    ----------
    path : pathlib.Path
    version : str
        Yield only the rows that this version scored.

    Raises
    ------
    TableError
        See `read_scored`; raised at the invalid chunk.
    """
    with _translate_errors(path):
        chunks = TableReader(path, (*SKETCHED, MODEL_VERSION) if version else SKETCHED).chunks(CHUNK_ROWS)
    while True:
        with _translate_errors(path):
            chunk = next(chunks, None)
        if chunk is None:
            return
        piece = validate_scored_table(chunk.to_pandas(), path)
        if version:
            piece = piece[(piece[MODEL_VERSION] == int(version)).fillna(value=False)]
        if len(piece):
            yield piece


def validate_scored_table(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Validate a scored table or a chunk, and convert its types.

    Parameters
    ----------
    table : pandas.DataFrame
    path : pathlib.Path
        Path for error messages.

    Raises
    ------
    TableError
        See `monitor.store.tables.read_scored`.
    """
    if "lng" not in table and "lon" in table:
        table = table.rename(columns={"lon": "lng"})
    if IN_TRAINING not in table and FORMER_IN_TRAINING in table:
        table = table.rename(columns={FORMER_IN_TRAINING: IN_TRAINING})
    missing = [name for name in FEATURES if name not in table]
    if missing or table.empty:
        found = ", ".join(map(str, table.columns)) or "no columns"
        wanted = f"expected rows with the columns {', '.join(FEATURES)}"
        message = f"{display_path(path)}: {wanted}; found {len(table):,} with {found}"
        raise TableError(message)
    if TARGET not in table:
        table = table.assign(**{TARGET: float("nan")})
    numbers = [name for name in (*FEATURES, TARGET, PROBABILITY) if name in table]
    try:
        table = table.astype(dict.fromkeys(numbers, "float64"))
    except (TypeError, ValueError) as error:
        message = f"{display_path(path)}: expected numbers in the columns {', '.join(numbers)}; {error}"
        raise TableError(message) from error
    table = _as_the_log_has_them(table, path)
    if problem := _invalid_value(table):
        message = f"{display_path(path)}: {problem}"
        raise TableError(message)
    return table


def _read(path: Path, max_rows: int | None) -> tuple[pd.DataFrame, int]:
    if path.is_dir():
        reader = TableReader(path)
        rows = reader.rows or 0
        return reader.systematic_sample(max(rows, 1) if max_rows is None else max_rows), rows
    if path.suffix == ".csv":
        with open_regular(path) as text:
            table = pd.read_csv(text, nrows=None if max_rows is None else max_rows + 1)
        if max_rows is None or len(table) <= max_rows:
            return table, len(table)
        rows = sum(len(chunk) for chunk in TableReader(path).chunks(CHUNK_ROWS))
        # Parsing the sample as CSV gives it the same types as a small table.
        return pd.read_csv(io.StringIO(TableReader(path).systematic_sample(max_rows).to_csv(index=False))), rows
    rows = TableReader(path).rows or 0
    if max_rows is None or rows <= max_rows:
        return pd.read_parquet(path), rows
    return TableReader(path).systematic_sample(max_rows), rows


@contextlib.contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, TableError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".splitlines()[:1])
        message = f"{display_path(path)} cannot be read: expected a Parquet or CSV table of shots; {reason}"
        raise TableError(message) from error


def _as_the_log_has_them(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Convert version and time, whose types CSV does not store, to the types of the inference log."""
    try:
        if IN_TRAINING in table:
            table = table.assign(**{IN_TRAINING: table[IN_TRAINING].fillna(value=False).astype(bool)})
        if MODEL_VERSION in table:
            table = table.astype({MODEL_VERSION: "float64"}).astype({MODEL_VERSION: "Int64"})
        if TIME in table:
            table = table.assign(**{TIME: pd.to_datetime(table[TIME], format="ISO8601", utc=True).dt.tz_localize(None)})
    except (TypeError, ValueError) as error:
        message = f"{display_path(path)}: expected numbers in {MODEL_VERSION} and timestamps in {TIME}; {error}"
        raise TableError(message) from error
    return table


def _invalid_value(table: pd.DataFrame) -> str:
    """Describe an invalid value; empty where there is none."""
    predicted = [PROBABILITY] if PROBABILITY in table else []
    required = [*FEATURES, *predicted]
    empty = table[required].isna().any(axis=1)
    if empty.any():
        return f"expected a number in each of {', '.join(required)}; {empty.sum():,} rows have a missing value"
    for name in (*predicted, *FEATURES):
        values = table[name]
        column = None if name == PROBABILITY else feature_column(name)
        low, high = (column.minimum, column.maximum) if column else (0.0, 1.0)
        invalid = (values < low) | (values > high)
        if invalid.any():
            allowed = f"{column.constraint_text} in" if column else "P(made) from 0 to 1 in"
            return f"expected {allowed} {name}; found {values[invalid].iloc[0]:.8g}"
    labels = table[TARGET]
    invalid = ~labels.isin([0, 1]) & labels.notna()
    if invalid.any():
        return f"expected 0, 1 or null in {TARGET}; found {labels[invalid].iloc[0]:g}"
    return ""
