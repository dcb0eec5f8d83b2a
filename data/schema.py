"""The columns of a shot, derived from the default dataset ``data/datasets/kobe.toml``, and names that scoring adds.

New code takes a `data.datasets.Dataset` instead of the constants of columns.
"""

from data import datasets

_DATASET = datasets.default()

COLUMN = {column.raw_name: column for column in _DATASET.columns}
"""The columns by their names in raw tables."""

TWO_POINTS, THREE_POINTS = COLUMN["shot_type"].categories

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


def feature_column(name: str) -> datasets.Column:
    """Return the column of a feature or the target by its name in the model.

    Examples
    --------
    >>> feature_column("lng").raw_name
    'lon'
    """
    return _DATASET.column(name)
