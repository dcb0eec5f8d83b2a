"""The schema of a shot: name, type, unit, range and meaning of each column.

All validation and documentation of shots is derived from ``COLUMNS``: the pandera schema (``data/validation.py``), the
MLflow signature (``serving/model/packaging.py``), the constraints of the served model
(``serving/model/scoring_model.py``), and the tables of the documentation.
"""

from dataclasses import dataclass
from typing import Literal


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
IN_TRAINING, FORMER_IN_TRAINING = "in_training", "learned"
"""Whether the row was a training row of that version, in tables of predictions, and the name of this column in those
of 0.1.0; monitoring excludes its label."""
REASON = "reason"
"""Name of the rejection reason in tables of rejects."""


def feature_column(name: str) -> Column:
    """Return the column of a feature or the target by its name in the model.

    Examples
    --------
    >>> feature_column("lng").name
    'lon'
    """
    return COLUMN[RAW_COLUMN_NAMES.get(name, name)]
