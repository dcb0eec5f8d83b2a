"""The columns of the inference log by the names of a dataset; in the log, id and label have the same names for each."""

from typing import Any

from data.datasets import Dataset, current
from data.schema import MODEL_VERSION, PREDICTION, PROBABILITY
from serving.inference_log.inference_log import column_of, tables

ID, LABEL = "shot_id", "shot_made_flag"
"""Columns of the log for the id and the label of a row."""


def described_log(dataset: Dataset | None = None) -> Any:  # noqa: ANN401 SQLAlchemy is imported by the log only
    """The table of scored rows with the features of a dataset, by default that of this process."""
    dataset = dataset or current()
    texts = [feature.name for feature in dataset.features if not feature.is_numeric]
    log, _ = tables(dataset.feature_names, texts)
    return log


def log_columns(log: Any, dataset: Dataset | None = None) -> dict[str, Any]:  # noqa: ANN401 see above
    """Columns of the log by the names that they have in tables of the dataset."""
    dataset = dataset or current()
    return {
        "time": log.c.time,
        MODEL_VERSION: log.c.model_version,
        dataset.id.name: log.c[ID],
        **{name: log.c[column_of(name)] for name in dataset.feature_names},
        PREDICTION: log.c.prediction,
        PROBABILITY: log.c.probability,
        dataset.target.name: log.c[LABEL],
    }
