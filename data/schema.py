"""The one description of a shot: name, type, unit, range and meaning of each column.

Everything that checks or describes a shot is derived from ``COLUMNS``: the pandera schema below, the MLflow signature
(``serving/packaging.py``), the ranges that the served model enforces (``serving/scoring_model.py``), and the tables of
the documentation.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

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

RAW_NAME = {"lng": "lon"}
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
LEARNED = "learned"
"""Whether that version had learned from the row, in tables of predictions: its label then says nothing of it."""

_MOST_CASES_SHOWN = 10


def feature_column(name: str) -> Column:
    """The description of a model input (or the target) by its name in the model.

    Examples
    --------
    >>> feature_column("lng").name
    'lon'
    """
    return COLUMN[RAW_NAME.get(name, name)]


def raw_schema(*, also_required: Iterable[str] = ()) -> pa.DataFrameSchema:
    """Pandera schema of a raw table.

    Parameters
    ----------
    also_required : iterable of str
        Columns that this caller needs, with a value in each row, beside those that are always required.

    Returns
    -------
    pandera.DataFrameSchema
        Numbers are coerced to float64 before they are checked, so that integers that arrive as doubles pass.
    """
    needed = set(also_required)
    return pa.DataFrameSchema(
        {column.name: _pandera_column(column, needed=column.name in needed) for column in COLUMNS}, strict=False
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
    required = [column.name for column in COLUMNS if column.required]
    missing = [column for column in (*required, *also_required) if column not in table.columns]
    if missing:
        message = (
            f"{name}: column{'s' * (len(missing) > 1)} {', '.join(missing)} missing. "
            f"Expected at least {', '.join(required)}; found {', '.join(map(str, table.columns)) or 'no columns'}."
        )
        raise SchemaError(message)
    doubled = sorted(table.columns[table.columns.duplicated()])
    if doubled:
        message = f"{name}: column{'s' * (len(doubled) > 1)} {', '.join(doubled)} found twice; expected once."
        raise SchemaError(message)
    try:
        raw_schema(also_required=also_required).validate(table.reset_index(drop=True), lazy=True)
    except SchemaErrors as error:
        raise SchemaError(_describe(error.failure_cases, name)) from error


def _pandera_column(column: Column, *, needed: bool) -> pa.Column:
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
        unique=column.unique,
        required=column.required or needed,
    )


def _is_whole(values: "pd.Series[float]") -> "pd.Series[bool]":
    return values % 1 == 0


def _describe(cases: pd.DataFrame, name: str) -> str:
    rows = cases[cases["index"].notna() & cases["column"].isin(list(COLUMN))]
    rows = rows.drop_duplicates(["column", "index"]).sort_values("index")
    if rows.empty:
        return f"{name} breaks the schema: {'; '.join(cases['check'].astype(str).unique())}."
    lines = [
        f"  row {int(index)}, column {column}: found {value!r}, expected {_expected(COLUMN[column])}"
        for index, column, value in rows[["index", "column", "failure_case"]]
        .head(_MOST_CASES_SHOWN)
        .itertuples(index=False)
    ]
    if len(rows) > _MOST_CASES_SHOWN:
        lines.append(f"  and {len(rows) - _MOST_CASES_SHOWN:,} more")
    head = f"{name} breaks the schema in {rows['index'].nunique():,} row(s). Mend or remove them:"
    return "\n".join([head, *lines])


def _expected(column: Column) -> str:
    return column.allowed + (", each only once" if column.unique else "")
