"""Validation of raw tables against the schema: column names, reasons of rejection and error messages.

The rules for values are in `data.rules`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd

from data.datasets import Column, Dataset, current, default
from data.datasets.description import ROW_ID
from data.errors import SchemaError

DATE, DAY = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ].*)?$", len("2013-10-29")
"""Pattern of a date with or without a time, on every engine, and the length of its day."""

MAX_SHOWN = 10
"""Maximum number of violations that a message lists."""


def check_columns(
    names: Sequence[object], name: str, *, also_required: Iterable[str] = (), dataset: Dataset | None = None
) -> None:
    """Validate the column names of a raw table.

    Parameters
    ----------
    names : sequence
        Column names of the table.
    name : str
        Name of the table in messages.
    also_required : iterable of str
        Names in raw tables of additional columns.
    dataset : Dataset, optional
        By default that of this process.

    Raises
    ------
    SchemaError
        If a column is missing or duplicate.
    """
    dataset = dataset or current()
    required = [column.raw_name for column in dataset.required]
    missing = [column for column in (*required, *also_required) if column not in names]
    if missing:
        message = (
            f"{name}: column{'s' * (len(missing) > 1)} {', '.join(missing)} missing. "
            f"Expected at least {', '.join(name for name in required if name != ROW_ID)}; found "
            f"{', '.join(str(name) for name in names if name != ROW_ID) or 'no columns'}."
        )
        if dataset != default():
            message += " Give a table with it, or its name there as raw_name in the description."
        raise SchemaError(message)
    duplicates = sorted({str(column) for column in names if list(names).count(column) > 1})
    if duplicates:
        message = f"{name}: column{'s' * (len(duplicates) > 1)} {', '.join(duplicates)} found twice; expected once."
        raise SchemaError(message)


def is_date(text: str) -> bool:
    """Whether a string is a date, with or without a time.

    Examples
    --------
    >>> [is_date(text) for text in ("2024-02-29", "2024-02-29 10:30", "2023-02-29", "soon")]
    [True, True, False, False]
    """
    if not re.fullmatch(DATE, text):
        return False
    try:
        date.fromisoformat(text[:DAY])
    except ValueError:
        return False
    return True


def rejection_reason(column: Column, value: object) -> str:
    """Describe why a row is rejected, with the same text on both engines.

    Parameters
    ----------
    column : Column
    value : object
        Numbers are formatted with up to ten significant digits, strings in single quotation marks, and missing values,
        including NaN, as ``null``.

    Examples
    --------
    >>> from data.datasets import default
    >>> rejection_reason(default().column("period"), 11.0)
    'column period: found 11, expected an integer from 1 to 10'
    >>> rejection_reason(default().column("lon"), "west")
    "column lon: found 'west', expected a float from -118.5198 to -118.0198"
    >>> rejection_reason(default().column("shot_id"), float("nan"))
    'column shot_id: found null, expected an integer'
    """
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
        shown = "null"
    elif isinstance(value, (int, float, np.number)):
        shown = format(float(value), ".10g")
    else:
        shown = f"'{value}'"
    return f"column {column.raw_name}: found {shown}, expected {column.constraint_text}"


@dataclass(frozen=True)
class Violations:
    """Violations of the schema in one table.

    Attributes
    ----------
    name : str
        Name of the table in messages.
    rows, cells : int
        Number of rows and of values that violate the schema.
    first : list of str
        The first ones, at most ``MAX_SHOWN``, see `violation_text`.
    """

    name: str
    rows: int
    cells: int
    first: list[str]


def violation_text(column: Column, value: object, row: int) -> str:
    """Describe a value that violates the schema, for an error message."""
    shown = "null" if value is None or value != value else repr(value)  # noqa: PLR0124 NaN
    return f"row {row}, column {column.raw_name}: found {shown}, expected {expected(column)}"


def expected(column: Column) -> str:
    """Describe the allowed values of a column of a whole table."""
    return column.constraint_text + (", each only once" if column.role == "id" else "")


def violation_error(tables: Sequence[Violations], max_rejected_rows: int = 0) -> SchemaError:
    """Create the error that lists the violations of one or both raw tables.

    Parameters
    ----------
    tables : sequence of Violations
        Of tables with violations.
    max_rejected_rows : int
        Number of rows of both raw tables that were allowed to violate the schema.
    """
    names = " and ".join(table.name for table in tables)
    rows, cells = sum(table.rows for table in tables), sum(table.cells for table in tables)
    head = f"{names} violate{'s' * (len(tables) == 1)} the schema in {rows:,} row(s)"
    advice = ". Fix or remove them:"
    if max_rejected_rows:
        advice = (
            f", more than max_rejected_rows={max_rejected_rows} allows in both raw tables. Fix or remove them, or set "
            "a higher max_rejected_rows:"
        )
    lines = [f"{table.name}, " * (len(tables) > 1) + text for table in tables for text in table.first][:MAX_SHOWN]
    more = [f"and {cells - len(lines):,} more"] if cells > len(lines) else []
    return SchemaError("\n  ".join([head + advice, *lines, *more]))
