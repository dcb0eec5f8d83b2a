"""The one description of a shot: name, type, unit, range and meaning of each column.

Everything that checks or describes a shot is derived from ``COLUMNS``: the pandera schema below, the MLflow signature
(``serving/model/packaging.py``), the ranges that the served model enforces (``serving/model/scoring_model.py``), and
the tables of the documentation.
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
    """One column of a table of shots.

    Attributes
    ----------
    name : str
        Name in the raw files.
    kind : {"double", "integer", "text"}
        Type of the values. A column of integers may arrive as doubles (``10.0``); its values must then be whole.
    meaning : str
        What it is, in words.
    unit : str
        Unit of the values, empty where there is none.
    minimum, maximum : float or None
        Allowed range, both ends included.
    nullable : bool
        Whether a value may be missing in a raw file.
    required : bool
        Whether this project needs the column; the others are carried along when they are there.
    unique : bool
        Whether each value may stand only once in a file.
    choices : tuple of str
        The allowed texts; empty for any.
    """

    name: str
    kind: Literal["double", "integer", "text"]
    meaning: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    nullable: bool = False
    required: bool = False
    unique: bool = False
    choices: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """The allowed values in words.

        Examples
        --------
        >>> COLUMN["period"].allowed
        'a whole number from 1 to 10'
        >>> COLUMN["shot_type"].allowed
        "one of '2PT Field Goal', '3PT Field Goal'"
        """
        if self.choices:
            return "one of " + ", ".join(repr(choice) for choice in self.choices)
        noun = {"integer": "a whole number", "double": "a number", "text": "a text"}[self.kind]
        if self.minimum is None or self.maximum is None:
            return noun
        return f"{noun} from {self.minimum:.8g} to {self.maximum:.8g}"


TWO_POINTS = "2PT Field Goal"
THREE_POINTS = "3PT Field Goal"

# The court is 94 by 50 feet and the hoop hangs 5.25 feet inside the baseline, so loc_y runs from -52.5 to 887.5 and
# loc_x from -250 to 250 tenths of a foot; lat = 34.0443 - loc_y/1000 and lon = -118.2698 + loc_x/1000.
COLUMNS: tuple[Column, ...] = (
    Column("action_type", "text", "how the shot was taken, in detail", nullable=True),
    Column("combined_shot_type", "text", "how the shot was taken", nullable=True),
    Column("game_event_id", "integer", "number of the event within the game", nullable=True),
    Column("game_id", "integer", "NBA's number of the game", nullable=True),
    Column("lat", "double", "position along the court", "degrees", 33.1568, 34.0968, nullable=True, required=True),
    Column("loc_x", "integer", "position across the court from the hoop", "tenths of a foot", -250, 250, nullable=True),
    Column("loc_y", "integer", "position along the court from the hoop", "tenths of a foot", -53, 888, nullable=True),
    Column("lon", "double", "position across the court", "degrees", -118.5198, -118.0198, nullable=True, required=True),
    Column("minutes_remaining", "double", "left in the period", "minutes", 0, 12, nullable=True, required=True),
    Column("period", "integer", "quarter, overtimes from 5", "", 1, 10, nullable=True, required=True),
    Column("playoffs", "integer", "1 in the playoffs, else 0", "", 0, 1, nullable=True, required=True),
    Column("season", "text", "season, as 2000-01", nullable=True),
    Column("seconds_remaining", "integer", "left in the minute", "seconds", 0, 59, nullable=True),
    Column("shot_distance", "double", "distance from the hoop", "feet", 0, 94, nullable=True, required=True),
    Column("shot_made_flag", "integer", "1 made, 0 missed, null unknown", "", 0, 1, nullable=True, required=True),
    Column("shot_type", "text", "points at stake", nullable=True, choices=(TWO_POINTS, THREE_POINTS)),
    Column("shot_zone_area", "text", "side of the court", nullable=True),
    Column("shot_zone_basic", "text", "zone of the court", nullable=True),
    Column("shot_zone_range", "text", "band of distance", nullable=True),
    Column("team_id", "integer", "NBA's number of the team", nullable=True),
    Column("team_name", "text", "name of the team", nullable=True),
    Column("game_date", "text", "day of the game, as 2000-10-31", nullable=True),
    Column("matchup", "text", "who played where, as LAL @ POR", nullable=True),
    Column("opponent", "text", "the other team, as POR", nullable=True),
    Column("shot_id", "integer", "number of the shot", required=True, unique=True),
)
COLUMN: dict[str, Column] = {column.name: column for column in COLUMNS}

VALIDATED_COLUMNS: tuple[str, ...] = tuple(
    column.name for column in COLUMNS if column.kind != "text" or column.choices or not column.nullable
)
"""Names of the columns whose values can break the schema, which any text or none in the others cannot."""

RAW_COLUMN_NAMES = {"lng": "lon"}
"""Names of the model's columns that the raw files spell differently."""

FEATURES: tuple[str, ...] = ("lat", "lng", "minutes_remaining", "period", "playoffs", "shot_distance")
"""The model's inputs, in the order of its signature; all are doubles."""

TARGET = "shot_made_flag"
SHOT_ID = "shot_id"
GAME_DATE = "game_date"
PROBABILITY = "probability"
"""Name of P(made) in answers and tables of predictions."""
PREDICTION = "prediction"
"""Name of the label that a model answered, in tables of predictions, where ``TARGET`` is the true one."""
MODEL_VERSION = "model_version"
"""Name of the version that answered, in tables of predictions."""
IN_TRAINING = "learned"
"""Whether that version had learned from the row, in tables of predictions: its label then says nothing of it."""
REASON = "reason"
"""Name of the column that says why a row was rejected, in tables of rejects."""

_MOST_CASES_SHOWN = 10


def feature_column(name: str) -> Column:
    """The description of a model input (or the target) by its name in the model.

    Examples
    --------
    >>> feature_column("lng").name
    'lon'
    """
    return COLUMN[RAW_COLUMN_NAMES.get(name, name)]


def raw_schema(*, also_required: Iterable[str] = (), unique: bool = True) -> pa.DataFrameSchema:
    """Pandera schema of a raw table.

    Parameters
    ----------
    also_required : iterable of str
        Columns that this caller needs, with a value in each row, beside those that are always required.
    unique : bool
        Whether values that may stand only once are looked for, which makes sense in a whole table only.

    Returns
    -------
    pandera.DataFrameSchema
        Numbers are coerced to float64 before they are checked, so that integers that arrive as doubles pass.
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
    """Refuse a raw table that breaks the schema.

    Parameters
    ----------
    table : pandas.DataFrame
        Raw shots.
    name : str
        What to call the table in the message, usually its file name.
    also_required : iterable of str
        See `raw_schema`.

    Raises
    ------
    SchemaError
        Names every missing column, or the rows, columns, values and allowed values that break the schema.
    """
    check_columns(list(table.columns), name, also_required=also_required)
    try:
        raw_schema(also_required=also_required).validate(table.reset_index(drop=True), lazy=True)
    except SchemaErrors as error:
        findings = FailureSummary(name)
        findings.add(error.failure_cases)
        if not findings.rows:
            raise SchemaError(_without_rows(error.failure_cases, name)) from error
        raise findings.error() from error


def check_columns(names: Sequence[object], name: str, *, also_required: Iterable[str] = ()) -> None:
    """Refuse a raw table that lacks a column or has one twice.

    Parameters
    ----------
    names : sequence
        Names of its columns.
    name : str
        What to call the table in the message.
    also_required : iterable of str
        See `raw_schema`.

    Raises
    ------
    SchemaError
        Names every such column.
    """
    required = [column.name for column in COLUMNS if column.required]
    missing = [column for column in (*required, *also_required) if column not in names]
    if missing:
        message = (
            f"{name}: column{'s' * (len(missing) > 1)} {', '.join(missing)} missing. "
            f"Expected at least {', '.join(required)}; found {', '.join(map(str, names)) or 'no columns'}."
        )
        raise SchemaError(message)
    doubled = sorted({str(column) for column in names if list(names).count(column) > 1})
    if doubled:
        message = f"{name}: column{'s' * (len(doubled) > 1)} {', '.join(doubled)} found twice; expected once."
        raise SchemaError(message)


def failure_cases(piece: pd.DataFrame, schema: pa.DataFrameSchema, name: str) -> pd.DataFrame:
    """Every value of a piece of a raw table that breaks the schema.

    Parameters
    ----------
    piece : pandas.DataFrame, index 0 to n - 1
        With the columns of ``VALIDATED_COLUMNS`` that the table has.
    schema : pandera.DataFrameSchema
        Of `raw_schema`, which looks for no doubled values.
    name : str
        What to call the table in a message.

    Returns
    -------
    pandas.DataFrame
        Columns index, column and failure_case (the value), each row and column once: by rows, and within a row by the
        order of ``COLUMNS``.

    Raises
    ------
    SchemaError
        If something is wrong that is not wrong with a row.
    """
    found: list[pd.DataFrame] = []
    while True:
        try:
            schema.validate(piece, lazy=True)
        except SchemaErrors as error:
            told = error.failure_cases
        else:
            break
        rows = told[told["index"].notna() & told["column"].isin(list(COLUMN))]
        if rows.empty:
            raise SchemaError(_without_rows(told, name))
        found.append(rows[["index", "column", "failure_case"]])
        # Of a column that holds what is no number, pandera checks nothing else: that is taken out, and the rest looked
        # at again.
        unread = rows[rows["check"].astype(str).str.startswith("coerce_dtype")]
        if unread.empty:
            break
        piece = piece.copy()
        for column, at in unread.groupby("column"):
            mended = piece[str(column)].astype(object)
            mended[at["index"].astype(int)] = np.nan
            piece[str(column)] = pd.to_numeric(mended)
    if not found:
        return pd.DataFrame({"index": [], "column": [], "failure_case": []})
    every = pd.concat(found, ignore_index=True).drop_duplicates(["column", "index"])
    order = every["column"].map({column.name: place for place, column in enumerate(COLUMNS)})
    every = every.assign(index=every["index"].astype("int64"), order=order).sort_values(["index", "order"])
    return every.drop(columns="order").reset_index(drop=True)


def reasons(found: pd.DataFrame) -> "pd.Series[str]":
    """Why each row breaks the schema: the first of its wrong values, in words.

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
    words = [
        rejection_reason(COLUMN[column], value)
        for column, value in first[["column", "failure_case"]].itertuples(index=False, name=None)
    ]
    return pd.Series(words, index=first["index"].astype("int64"), dtype=object)


def rejection_reason(column: Column, value: object) -> str:
    """Why a row is rejected, the same text whichever engine writes it.

    Parameters
    ----------
    column : Column
    value : object
        Numbers are written with up to ten significant digits, texts in single quotation marks, and what is missing
        (NaN too) as ``null``.

    Examples
    --------
    >>> rejection_reason(COLUMN["period"], 11.0)
    'column period: found 11, expected a whole number from 1 to 10'
    >>> rejection_reason(COLUMN["lon"], "west")
    "column lon: found 'west', expected a number from -118.5198 to -118.0198"
    >>> rejection_reason(COLUMN["shot_id"], float("nan"))
    'column shot_id: found null, expected a whole number'
    """
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
        shown = "null"
    elif isinstance(value, (int, float, np.number)):
        shown = format(float(value), ".10g")
    else:
        shown = f"'{value}'"
    return f"column {column.name}: found {shown}, expected {column.allowed}"


class FailureSummary:
    """What breaks the schema in a table, counted, and the first of it kept to be told.

    Parameters
    ----------
    name : str
        What to call the table in the message.

    Attributes
    ----------
    rows, values : int
        Rows and values that break the schema.
    """

    def __init__(self, name: str) -> None:
        self.name, self.rows, self.values = name, 0, 0
        self._lines: list[str] = []

    def add(self, found: pd.DataFrame, first_row: int = 0) -> None:
        """Add those of a piece.

        Parameters
        ----------
        found : pandas.DataFrame
            Columns index, column and failure_case.
        first_row : int
            Row of the table that the piece begins with.
        """
        rows = found[found["index"].notna() & found["column"].isin(list(COLUMN))]
        rows = rows.drop_duplicates(["column", "index"]).sort_values("index")
        self.rows += rows["index"].nunique()
        self.values += len(rows)
        self._lines += [
            f"  row {first_row + int(index)}, column {column}: found {value!r}, expected {_expected(COLUMN[column])}"
            for index, column, value in rows[["index", "column", "failure_case"]]
            .head(_MOST_CASES_SHOWN - len(self._lines))
            .itertuples(index=False)
        ]

    def error(self, *, max_rejected_rows: int = 0, complete: bool = True) -> SchemaError:
        """The error that tells them.

        Parameters
        ----------
        max_rejected_rows : int
            Rows that might have broken the schema.
        complete : bool
            Whether all of the table was looked at.
        """
        rows = f"{'' if complete else 'at least '}{self.rows:,} row(s)"
        head = f"{self.name} breaks the schema in {rows}. Mend or remove them:"
        if max_rejected_rows:
            head = (
                f"{self.name} violates the schema in {rows}, more than max_rejected_rows={max_rejected_rows} "
                "allows in both raw tables. Mend or remove them, or give a higher max_rejected_rows:"
            )
        more = self.values - len(self._lines)
        return SchemaError("\n".join([head, *self._lines, *([f"  and {more:,} more"] if more else [])]))


def _pandera_column(column: Column, *, needed: bool, unique: bool) -> pa.Column:
    checks = []
    if column.minimum is not None and column.maximum is not None:
        checks.append(pa.Check.in_range(column.minimum, column.maximum))
    if column.kind == "integer":
        checks.append(pa.Check(_is_whole, name="whole"))
    if column.choices:
        checks.append(pa.Check.isin(column.choices))
    return pa.Column(
        None if column.kind == "text" else float,
        checks,
        coerce=column.kind != "text",
        nullable=column.nullable and not needed,
        unique=unique,
        required=column.required or needed,
    )


def _is_whole(values: "pd.Series[float]") -> "pd.Series[bool]":
    return values % 1 == 0


def _without_rows(found: pd.DataFrame, name: str) -> str:
    return f"{name} breaks the schema: {'; '.join(found['check'].astype(str).unique())}."


def _expected(column: Column) -> str:
    return column.allowed + (", each only once" if column.unique else "")
