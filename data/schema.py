"""The schema of a shot: name, type, unit, range and meaning of each column.

All validation and documentation of shots is derived from ``COLUMNS``: the pandera schema (``data/validation.py``), the
MLflow signature (``serving/model/packaging.py``), the constraints of the served model
(``serving/model/scoring_model.py``), and the tables of the documentation.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from data.errors import SchemaError


@dataclass(frozen=True)
class Column:
    """A column of a table of shots.

    Attributes
    ----------
    name : str
        Name in the raw files.
    kind : {"double", "integer", "string"}
        Type of the values. Integers may be stored as doubles without a fraction (``10.0``).
    meaning : str
        Description of the column.
    unit : str
        Unit of the values, empty where there is none.
    minimum, maximum : float or None
        Allowed range, inclusive.
    nullable : bool
        Whether a value may be missing in a raw file.
    required : bool
        Whether this project needs the column; optional columns are passed through.
    unique : bool
        Whether the values in a file must be unique.
    choices : tuple of str
        The allowed strings; empty for any.
    """

    name: str
    kind: Literal["double", "integer", "string"]
    meaning: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    nullable: bool = False
    required: bool = False
    unique: bool = False
    choices: tuple[str, ...] = ()

    @property
    def constraint_text(self) -> str:
        """Describe the allowed values.

        Examples
        --------
        >>> COLUMN["period"].constraint_text
        'an integer from 1 to 10'
        >>> COLUMN["shot_type"].constraint_text
        "one of '2PT Field Goal', '3PT Field Goal'"
        """
        if self.choices:
            return "one of " + ", ".join(repr(choice) for choice in self.choices)
        noun = {"integer": "an integer", "double": "a float", "string": "a string"}[self.kind]
        if self.minimum is None or self.maximum is None:
            return noun
        return f"{noun} from {self.minimum:.8g} to {self.maximum:.8g}"


TWO_POINTS = "2PT Field Goal"
THREE_POINTS = "3PT Field Goal"

# The court is 94 by 50 feet and the hoop is 5.25 feet inside the baseline, so loc_y runs from -52.5 to 887.5 and loc_x
# from -250 to 250 tenths of a foot; lat = 34.0443 - loc_y/1000 and lon = -118.2698 + loc_x/1000.
COLUMNS: tuple[Column, ...] = (
    Column("action_type", "string", "how the shot was taken, in detail", nullable=True),
    Column("combined_shot_type", "string", "how the shot was taken", nullable=True),
    Column("game_event_id", "integer", "number of the event within the game", nullable=True),
    Column("game_id", "integer", "NBA's id of the game", nullable=True),
    Column("lat", "double", "position along the court", "degrees", 33.1568, 34.0968, nullable=True, required=True),
    Column("loc_x", "integer", "position across the court from the hoop", "tenths of a foot", -250, 250, nullable=True),
    Column("loc_y", "integer", "position along the court from the hoop", "tenths of a foot", -53, 888, nullable=True),
    Column("lon", "double", "position across the court", "degrees", -118.5198, -118.0198, nullable=True, required=True),
    Column(
        "minutes_remaining",
        "double",
        "remaining in the period",
        "minutes",
        0,
        12,
        nullable=True,
        required=True,
    ),
    Column("period", "integer", "quarter, 5 and above for overtimes", "", 1, 10, nullable=True, required=True),
    Column("playoffs", "integer", "1 in the playoffs, otherwise 0", "", 0, 1, nullable=True, required=True),
    Column("season", "string", "season, such as 2000-01", nullable=True),
    Column("seconds_remaining", "integer", "remaining in the minute", "seconds", 0, 59, nullable=True),
    Column("shot_distance", "double", "distance from the hoop", "feet", 0, 94, nullable=True, required=True),
    Column("shot_made_flag", "integer", "1 made, 0 missed, null unknown", "", 0, 1, nullable=True, required=True),
    Column("shot_type", "string", "two-point or three-point shot", nullable=True, choices=(TWO_POINTS, THREE_POINTS)),
    Column("shot_zone_area", "string", "side of the court", nullable=True),
    Column("shot_zone_basic", "string", "zone of the court", nullable=True),
    Column("shot_zone_range", "string", "band of distance", nullable=True),
    Column("team_id", "integer", "NBA's id of the team", nullable=True),
    Column("team_name", "string", "name of the team", nullable=True),
    Column("game_date", "string", "date of the game, such as 2000-10-31", nullable=True),
    Column("matchup", "string", "teams and venue, such as LAL @ POR", nullable=True),
    Column("opponent", "string", "opposing team, such as POR", nullable=True),
    Column("shot_id", "integer", "id of the shot", required=True, unique=True),
)
COLUMN: dict[str, Column] = {column.name: column for column in COLUMNS}

VALIDATED_COLUMNS: tuple[str, ...] = tuple(
    column.name for column in COLUMNS if column.kind != "string" or column.choices or not column.nullable
)
"""Names of the columns whose values can violate the schema; the others are optional strings."""

RAW_COLUMN_NAMES = {"lng": "lon"}
"""Raw names of the model's columns, where they differ."""

FEATURES: tuple[str, ...] = ("lat", "lng", "minutes_remaining", "period", "playoffs", "shot_distance")
"""The model's features, in the order of its signature; all are doubles."""

TARGET = "shot_made_flag"
SHOT_ID = "shot_id"
GAME_DATE = "game_date"
PROBABILITY = "probability"
"""Name of P(made) in responses and tables of predictions."""
PREDICTION = "prediction"
"""Name of the predicted label in tables of predictions, where ``TARGET`` is the true label."""
MODEL_VERSION = "model_version"
"""Name of the model version in tables of predictions."""
IN_TRAINING = "learned"
"""Whether the row was a training row of that version, in tables of predictions; monitoring excludes its label."""
REASON = "reason"
"""Name of the rejection reason in tables of rejects."""

_MAX_CASES_SHOWN = 10


def feature_column(name: str) -> Column:
    """Return the column of a feature or the target by its name in the model.

    Examples
    --------
    >>> feature_column("lng").name
    'lon'
    """
    return COLUMN[RAW_COLUMN_NAMES.get(name, name)]


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
