"""Validation of raw tables against the schema: column names, values and reasons of rejection."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from data.errors import SchemaError
from data.schema import COLUMN, COLUMNS, Column

_MAX_CASES_SHOWN = 10


def raw_schema(*, also_required: Iterable[str] = (), unique: bool = True) -> pa.DataFrameSchema:
    """Build the pandera schema of a raw table.

    Parameters
    ----------
    also_required : iterable of str
        Additional required columns, which must not contain nulls.
    unique : bool
        Whether to check the uniqueness of values, which needs the whole table.

    Returns
    -------
    pandera.DataFrameSchema
        Numbers are coerced to float64 before the checks, so integers that are stored as doubles pass.
    """
    needed = set(also_required)
    return pa.DataFrameSchema(
        {
            column.name: _pandera_column(column, needed=column.name in needed, unique=unique and column.unique)
            for column in COLUMNS
        },
        strict=False,
    )


def check_raw(table: pd.DataFrame, name: str, *, also_required: Iterable[str] = ()) -> None:
    """Validate a raw table against the schema.

    Parameters
    ----------
    table : pandas.DataFrame
        Raw shots.
    name : str
        Name of the table in messages, usually its file name.
    also_required : iterable of str
        See `raw_schema`.

    Raises
    ------
    SchemaError
        If columns are missing, or values violate the schema. The message lists the rows, columns, values and allowed
        values.
    """
    check_columns(list(table.columns), name, also_required=also_required)
    try:
        raw_schema(also_required=also_required).validate(table.reset_index(drop=True), lazy=True)
    except SchemaErrors as error:
        failures = FailureSummary(name)
        failures.add(error.failure_cases)
        if not failures.rows:
            raise SchemaError(_failed_checks(error.failure_cases, name)) from error
        raise failures.error() from error


def check_columns(names: Sequence[object], name: str, *, also_required: Iterable[str] = ()) -> None:
    """Validate the column names of a raw table.

    Parameters
    ----------
    names : sequence
        Column names of the table.
    name : str
        Name of the table in messages.
    also_required : iterable of str
        See `raw_schema`.

    Raises
    ------
    SchemaError
        If a column is missing or duplicate.
    """
    required = [column.name for column in COLUMNS if column.required]
    missing = [column for column in (*required, *also_required) if column not in names]
    if missing:
        message = (
            f"{name}: column{'s' * (len(missing) > 1)} {', '.join(missing)} missing. "
            f"Expected at least {', '.join(required)}; found {', '.join(map(str, names)) or 'no columns'}."
        )
        raise SchemaError(message)
    duplicates = sorted({str(column) for column in names if list(names).count(column) > 1})
    if duplicates:
        message = f"{name}: column{'s' * (len(duplicates) > 1)} {', '.join(duplicates)} found twice; expected once."
        raise SchemaError(message)


def failure_cases(chunk: pd.DataFrame, schema: pa.DataFrameSchema, name: str) -> pd.DataFrame:
    """Find every value in a chunk of a raw table that violates the schema.

    Parameters
    ----------
    chunk : pandas.DataFrame, index 0 to n - 1
        With the columns of ``VALIDATED_COLUMNS`` that the table has.
    schema : pandera.DataFrameSchema
        Of `raw_schema`, without the check for unique values.
    name : str
        Name of the table in messages.

    Returns
    -------
    pandas.DataFrame
        Columns index, column and failure_case (the value), unique by row and column, sorted by row and by the order of
        ``COLUMNS``.

    Raises
    ------
    SchemaError
        If a violation does not belong to a row.
    """
    found: list[pd.DataFrame] = []
    while True:
        try:
            schema.validate(chunk, lazy=True)
        except SchemaErrors as error:
            reported = error.failure_cases
        else:
            break
        rows = reported[reported["index"].notna() & reported["column"].isin(list(COLUMN))]
        if rows.empty:
            raise SchemaError(_failed_checks(reported, name))
        found.append(rows[["index", "column", "failure_case"]])
        # pandera skips the other checks of a column with values that are not numbers. These values are removed, and the
        # chunk is validated again.
        not_numeric = rows[rows["check"].astype(str).str.startswith("coerce_dtype")]
        if not_numeric.empty:
            break
        chunk = chunk.copy()
        for column, at in not_numeric.groupby("column"):
            numbers = chunk[str(column)].astype(object)
            numbers[at["index"].astype(int)] = np.nan
            chunk[str(column)] = pd.to_numeric(numbers)
    if not found:
        return pd.DataFrame({"index": [], "column": [], "failure_case": []})
    all_cases = pd.concat(found, ignore_index=True).drop_duplicates(["column", "index"])
    order = all_cases["column"].map({column.name: place for place, column in enumerate(COLUMNS)})
    all_cases = all_cases.assign(index=all_cases["index"].astype("int64"), order=order).sort_values(["index", "order"])
    return all_cases.drop(columns="order").reset_index(drop=True)


def reasons(found: pd.DataFrame) -> "pd.Series[str]":
    """Describe the first violation of each row.

    Parameters
    ----------
    found : pandas.DataFrame
        Of `failure_cases`.

    Returns
    -------
    pandas.Series of str
        See `rejection_reason`; by row.
    """
    first = found.drop_duplicates("index")
    texts = [
        rejection_reason(COLUMN[column], value)
        for column, value in first[["column", "failure_case"]].itertuples(index=False, name=None)
    ]
    return pd.Series(texts, index=first["index"].astype("int64"), dtype=object)


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
    >>> rejection_reason(COLUMN["period"], 11.0)
    'column period: found 11, expected an integer from 1 to 10'
    >>> rejection_reason(COLUMN["lon"], "west")
    "column lon: found 'west', expected a float from -118.5198 to -118.0198"
    >>> rejection_reason(COLUMN["shot_id"], float("nan"))
    'column shot_id: found null, expected an integer'
    """
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
        shown = "null"
    elif isinstance(value, (int, float, np.number)):
        shown = format(float(value), ".10g")
    else:
        shown = f"'{value}'"
    return f"column {column.name}: found {shown}, expected {column.constraint_text}"


class FailureSummary:
    """Counts the violations of a table and keeps the first ones for the error message.

    Parameters
    ----------
    name : str
        What to call the table in the message.

    Attributes
    ----------
    rows, values : int
        Number of rows and of values that violate the schema.
    """

    def __init__(self, name: str) -> None:
        self.name, self.rows, self.values = name, 0, 0
        self._lines: list[str] = []

    def add(self, found: pd.DataFrame, first_row: int = 0) -> None:
        """Add the violations of a chunk.

        Parameters
        ----------
        found : pandas.DataFrame
            Columns index, column and failure_case.
        first_row : int
            Row of the table that the chunk starts with.
        """
        rows = found[found["index"].notna() & found["column"].isin(list(COLUMN))]
        rows = rows.drop_duplicates(["column", "index"]).sort_values("index")
        self.rows += rows["index"].nunique()
        self.values += len(rows)
        self._lines += [
            f"  row {first_row + int(index)}, column {column}: found {value!r}, expected {_expected(COLUMN[column])}"
            for index, column, value in rows[["index", "column", "failure_case"]]
            .head(_MAX_CASES_SHOWN - len(self._lines))
            .itertuples(index=False)
        ]

    def error(self, *, max_rejected_rows: int = 0, complete: bool = True) -> SchemaError:
        """Create the error that lists the violations.

        Parameters
        ----------
        max_rejected_rows : int
            Number of rows that were allowed to violate the schema.
        complete : bool
            Whether the whole table was validated.
        """
        rows = f"{'' if complete else 'at least '}{self.rows:,} row(s)"
        head = f"{self.name} violates the schema in {rows}. Fix or remove them:"
        if max_rejected_rows:
            head = (
                f"{self.name} violates the schema in {rows}, more than max_rejected_rows={max_rejected_rows} "
                "allows in both raw tables. Fix or remove them, or set a higher max_rejected_rows:"
            )
        more = self.values - len(self._lines)
        return SchemaError("\n".join([head, *self._lines, *([f"  and {more:,} more"] if more else [])]))


def _pandera_column(column: Column, *, needed: bool, unique: bool) -> pa.Column:
    checks = []
    if column.minimum is not None and column.maximum is not None:
        checks.append(pa.Check.in_range(column.minimum, column.maximum))
    if column.kind == "integer":
        checks.append(pa.Check(_is_integer, name="whole"))
    if column.choices:
        checks.append(pa.Check.isin(column.choices))
    return pa.Column(
        None if column.kind == "string" else float,
        checks,
        coerce=column.kind != "string",
        nullable=column.nullable and not needed,
        unique=unique,
        required=column.required or needed,
    )


def _is_integer(values: "pd.Series[float]") -> "pd.Series[bool]":
    return values % 1 == 0


def _failed_checks(found: pd.DataFrame, name: str) -> str:
    return f"{name} violates the schema: {'; '.join(found['check'].astype(str).unique())}."


def _expected(column: Column) -> str:
    return column.constraint_text + (", each only once" if column.unique else "")
