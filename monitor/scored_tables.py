"""Reading of scored tables for monitoring: whole, as a systematic sample, or chunk by chunk."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from data.cli.console import warn
from data.datasets import Column, Dataset, for_dataset
from data.errors import TableError
from data.schema import FORMER_IN_TRAINING, IN_TRAINING, MODEL_VERSION, PREDICTION, PROBABILITY
from data.storage.dataset_reader import DatasetReader, chart_hint, read_labels
from data.storage.files import display_path

TIME = "time"
"""Column with the time at which a row was scored."""
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


def sketched(dataset: Dataset) -> tuple[str, ...]:
    """Columns for drift sketches, by all of their names: the features, P(made), the id and the group."""
    group = [dataset.group] if dataset.group else []
    columns = (*dataset.features, dataset.id, *group)
    return tuple(dict.fromkeys([*(name for column in columns for name in column.names), PROBABILITY]))


def read_scored(path: Path, dataset: Dataset) -> pd.DataFrame:
    """A table of rows for the monitor: features and label as float64, with predictions if it has any.

    Parameters
    ----------
    path : pathlib.Path
        ``.parquet`` or ``.csv``, or a folder of Parquet files; other names of a column are taken for its name, and a
        missing target for unknown labels.
    dataset : Dataset
        Description of the version that scored the table.

    Raises
    ------
    TableError
        If it cannot be read, has no rows, lacks a feature, or holds anything but numbers within their ranges.
    """
    return read_sample(path, None, dataset).table


def read_sample(path: Path, max_rows: int | None, dataset: Dataset) -> SampledTable:
    """A table as `read_scored` has it, or about `max_rows` of its rows, a systematic sample; None reads all.

    Raises
    ------
    TableError
        See `read_scored`; rows outside the sample are not checked.
    """
    with _translate_errors(path, dataset):
        table, rows = _read(path, max_rows, dataset)
    return SampledTable(validate_scored_table(table, path, dataset), rows)


def pieces(path: Path, dataset: Dataset, version: str = "") -> Iterator[pd.DataFrame]:
    """Iterate over all rows of a scored table in chunks, with the columns for drift, validated as in `read_scored`.

    Parameters
    ----------
    path : pathlib.Path
    dataset : Dataset
    version : str
        Yield only the rows that this version scored.

    Raises
    ------
    TableError
        See `read_scored`; raised at the invalid chunk.
    """
    columns = sketched(dataset)
    with _translate_errors(path, dataset):
        reader = DatasetReader(path, (*columns, MODEL_VERSION) if version else columns, dataset=dataset)
        chunks = reader.chunks(CHUNK_ROWS)
    while True:
        with _translate_errors(path, dataset):
            chunk = next(chunks, None)
        if chunk is None:
            return
        piece = validate_scored_table(chunk.to_pandas(), path, dataset)
        if version:
            piece = piece[(piece[MODEL_VERSION] == int(version)).fillna(value=False)]
        if len(piece):
            yield piece


def validate_scored_table(table: pd.DataFrame, path: Path, dataset: Dataset) -> pd.DataFrame:
    """Validate a scored table or a chunk, and convert its types.

    Parameters
    ----------
    table : pandas.DataFrame
    path : pathlib.Path
        Path for error messages.
    dataset : Dataset
        Description of the version that scored the table.

    Raises
    ------
    TableError
        See `read_scored`.
    """
    table = _renamed(table, dataset)
    if IN_TRAINING not in table and FORMER_IN_TRAINING in table:
        table = table.rename(columns={FORMER_IN_TRAINING: IN_TRAINING})
    names, target = dataset.feature_names, dataset.target.name
    missing = [name for name in names if name not in table]
    if missing or table.empty:
        found = ", ".join(map(str, table.columns)) or "no columns"
        wanted = f"expected rows with the columns {', '.join(names)}"
        hint = chart_hint(table.columns, display_path(path), dataset)
        if not hint and missing and len(table):
            again = for_dataset("mlflow run . -e main")
            hint = f" Missing: {', '.join(missing)}. If the description has changed since, train again: {again}"
        message = f"{display_path(path)}: {wanted}; found {len(table):,} with {found}{hint and '.'}{hint}"
        raise TableError(message)
    if target not in table:
        table = table.assign(**{target: float("nan")})
    held = [*(column.name for column in dataset.numeric), target, PROBABILITY]
    numbers = [name for name in held if name in table]
    try:
        table = table.astype(dict.fromkeys(numbers, "float64"))
    except (TypeError, ValueError) as error:
        message = f"{display_path(path)}: expected numbers in the columns {', '.join(numbers)}; {error}"
        raise TableError(message) from error
    strings = [column.name for column in dataset.features if not column.is_numeric]
    table = table.assign(**{name: _as_strings(table[name]) for name in strings})
    table = _as_the_log_has_them(table, path, dataset)
    if problem := _invalid_value(table, dataset):
        message = f"{display_path(path)}: {problem}"
        raise TableError(message)
    return table


def _read(path: Path, max_rows: int | None, dataset: Dataset) -> tuple[pd.DataFrame, int]:
    reader = DatasetReader(path, dataset=dataset)
    table = reader.whole() if max_rows is None else reader.systematic_sample(max(max_rows, 1))
    warn(reader.warning)
    return table, len(table) if reader.rows is None else reader.rows


@contextlib.contextmanager
def _translate_errors(path: Path, dataset: Dataset) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, TableError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".splitlines()[:1])
        message = f"{display_path(path)} cannot be read: expected a Parquet or CSV table of {dataset.rows}; {reason}"
        raise TableError(message) from error


def _renamed(table: pd.DataFrame, dataset: Dataset) -> pd.DataFrame:
    """Give each column of the dataset its name, where the table has another of its names."""
    names = {
        other: column.name
        for column in dataset.columns
        if column.name not in table
        for other in [next((each for each in column.names if each in table), None)]
        if other is not None
    }
    return table.rename(columns=names) if names else table


def _as_strings(values: "pd.Series[Any]") -> "pd.Series[Any]":
    """Convert categories, strings and dates to strings; a null stays one."""
    null = values.isna()
    if isinstance(values.dtype, np.dtype) and values.dtype.kind == "M":
        values = values.dt.strftime("%Y-%m-%d")
    return values.astype(object).where(null, values.astype(str)).where(~null, None)


def _as_the_log_has_them(table: pd.DataFrame, path: Path, dataset: Dataset) -> pd.DataFrame:
    """Convert version and time, whose types CSV does not store, to the types of the inference log."""
    try:
        if IN_TRAINING in table:
            # In CSV it is a string, spelled as a label is.
            flags = read_labels(pa.array(table[IN_TRAINING], from_pandas=True))[0]
            table = table.assign(**{IN_TRAINING: flags.fill_null(0).to_numpy() == 1})
        strings = [name for name in (dataset.id.name, PREDICTION) if name in table and table[name].dtype == object]
        table = table.assign(**{name: pd.to_numeric(table[name]) for name in strings})
        if MODEL_VERSION in table:
            table = table.astype({MODEL_VERSION: "float64"}).astype({MODEL_VERSION: "Int64"})
        if TIME in table:
            table = table.assign(**{TIME: pd.to_datetime(table[TIME], format="ISO8601", utc=True).dt.tz_localize(None)})
    except (TypeError, ValueError) as error:
        message = f"{display_path(path)}: expected numbers in {MODEL_VERSION} and timestamps in {TIME}; {error}"
        raise TableError(message) from error
    return table


def _invalid_value(table: pd.DataFrame, dataset: Dataset) -> str:
    """Describe an invalid value; empty where there is none."""
    predicted = [PROBABILITY] if PROBABILITY in table else []
    required = [*(column.name for column in dataset.features if not column.nullable), *predicted]
    empty = table[required].isna().any(axis=1)
    if empty.any():
        what = "a number" if len(dataset.numeric) == len(dataset.features) else "a value"
        return f"expected {what} in each of {', '.join(required)}; {empty.sum():,} rows have a missing value"
    of_columns: dict[str, Column | None] = {column.name: column for column in dataset.numeric}
    for name, column in (dict.fromkeys(predicted) | of_columns).items():
        values = table[name]
        low, high = column.limits if column else (0.0, 1.0)
        invalid = (values < (-np.inf if low is None else low)) | (values > (np.inf if high is None else high))
        if invalid.any():
            allowed = f"{column.constraint_text} in" if column else f"P({dataset.positive}) from 0 to 1 in"
            return f"expected {allowed} {name}; found {values[invalid].iloc[0]:.8g}"
    labels = table[dataset.target.name]
    invalid = ~labels.isin([0, 1]) & labels.notna()
    if invalid.any():
        return f"expected 0, 1 or null in {dataset.target.name}; found {labels[invalid].iloc[0]:g}"
    return ""
