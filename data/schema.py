"""The columns of a shot, derived from the default dataset ``data/datasets/kobe.toml``, and names that scoring adds.

New code takes a `data.datasets.Dataset` instead of the constants of columns.
"""

from dataclasses import dataclass
from typing import Literal

from data import datasets

_KINDS: dict[datasets.Kind, Literal["double", "integer", "string"]] = {
    "float": "double",
    "integer": "integer",
    "boolean": "integer",
    "category": "string",
    "string": "string",
    "date": "string",
}


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


def _column(column: datasets.Column) -> Column:
    return Column(
        column.raw_name,
        _KINDS[column.kind],
        column.description,
        column.unit,
        _end(column.minimum),
        _end(column.maximum),
        nullable=column.role != "id",
        required=column.role in {"feature", "target", "id"},
        unique=column.role == "id",
        choices=column.categories,
    )


def _end(end: float | None) -> float | None:
    return int(end) if end is not None and end.is_integer() else end


_DATASET = datasets.default()

COLUMNS: tuple[Column, ...] = tuple(map(_column, _DATASET.columns))
COLUMN: dict[str, Column] = {column.name: column for column in COLUMNS}

TWO_POINTS, THREE_POINTS = COLUMN["shot_type"].choices

RAW_COLUMN_NAMES = {column.name: column.raw_name for column in _DATASET.columns if column.name != column.raw_name}
"""Raw names of the model's columns, where they differ."""

FEATURES: tuple[str, ...] = _DATASET.feature_names
"""The model's features, in the order of its signature; all are doubles."""

TARGET = _DATASET.target.name
SHOT_ID = _DATASET.id.name
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
