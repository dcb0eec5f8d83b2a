"""Reading of scored tables for monitoring: whole, as a systematic sample, or chunk by chunk."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa

from data.cli.console import warn
from data.errors import TableError
from data.schema import (
    FEATURES,
    FORMER_IN_TRAINING,
    IN_TRAINING,
    MODEL_VERSION,
    PREDICTION,
    PROBABILITY,
    RAW_COLUMN_NAMES,
    SHOT_ID,
    TARGET,
    feature_column,
)
from data.storage.files import display_path
from data.storage.shot_reader import ShotReader, chart_hint, read_labels

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
        chunks = ShotReader(path, (*SKETCHED, MODEL_VERSION) if version else SKETCHED).chunks(CHUNK_ROWS)
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
        hint = chart_hint(table.columns, display_path(path))
        message = f"{display_path(path)}: {wanted}; found {len(table):,} with {found}{hint and '.'}{hint}"
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
    reader = ShotReader(path)
    table = reader.whole() if max_rows is None else reader.systematic_sample(max(max_rows, 1))
    warn(reader.warning)
    return table, len(table) if reader.rows is None else reader.rows


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
            # In CSV it is a string, spelled as a label is.
            flags = read_labels(pa.array(table[IN_TRAINING], from_pandas=True))[0]
            table = table.assign(**{IN_TRAINING: flags.fill_null(0).to_numpy() == 1})
        strings = [name for name in (SHOT_ID, PREDICTION) if name in table and table[name].dtype == object]
        table = table.assign(**{name: pd.to_numeric(table[name]) for name in strings})
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
