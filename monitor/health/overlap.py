"""Overlap of current rows with the training and reference rows of a model.

Metrics of overlapping rows do not measure performance on new rows: reference rows compared with themselves give equal
metrics.

``shot_id`` identifies rows where both tables have it. Otherwise the features identify them, although single rows are
ambiguous: many shots at the hoop share their features. Among rows that are absent from one table, few match the other
table at random; the rate of random matches is measured on rows that are in neither.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.datasets import Dataset
from data.preparation.identity import is_among
from data.schema import IN_TRAINING
from monitor.health.baseline import ReferenceData
from monitor.health.evaluation import IN_REFERENCE

MIN_ABSENT = 30
"""Rows absent from the other table that are needed to detect overlap by features."""
MAX_CHANCE_OVERLAP = 0.5
"""Overlap, estimated from features alone, above which a table is considered to overlap."""

_DECIMALS = 4

Rows = npt.NDArray[np.uint64]
Marks = npt.NDArray[np.bool_]


def marked(table: pd.DataFrame, baseline: ReferenceData) -> pd.DataFrame:
    """Flag current rows with ``in_reference`` and ``in_training`` (bool), where any row overlaps.

    Parameters
    ----------
    table : pandas.DataFrame
        The features, and where it is known the id.
    baseline : ReferenceData
        Reference data of the version that scored them.
    """
    dataset = baseline.dataset
    here, reference, training = (_hashes(each, dataset) for each in (table, baseline.known, baseline.training))
    in_reference, in_training = (_by_id(table, own, dataset) for own in (baseline.known, baseline.training))
    marks = {
        IN_REFERENCE: _by_features(here, reference, training) if in_reference is None else in_reference,
        IN_TRAINING: _by_features(here, training, reference) if in_training is None else in_training,
    }
    if IN_TRAINING in table:
        marks[IN_TRAINING] |= table[IN_TRAINING].to_numpy(dtype=bool)
    return table.assign(**{name: found for name, found in marks.items() if found.any()})


def _by_id(table: pd.DataFrame, own: pd.DataFrame, dataset: Dataset) -> Marks | None:
    """Flag the rows of a table that are rows of `own`, by id; None where no id is in both."""
    if dataset.id.name not in table or dataset.id.name not in own:
        return None
    found = is_among(_without_labels(table, dataset), _without_labels(own, dataset), dataset)
    return found if found.any() else None


def _by_features(here: Rows, held: Rows, other: Rows) -> Marks:
    """Flag the rows of a table that are in `held`; `other` has rows that are in neither, if the table is new."""
    found = np.isin(here, held)
    random_share = _share(other[::2], held, other[1::2])[0]
    share, rows = _share(here, held, other)
    estimated = (share - random_share) / (1 - random_share) if random_share < 1 else 0.0
    is_own = rows >= MIN_ABSENT and estimated > MAX_CHANCE_OVERLAP
    return found if is_own else np.zeros(len(here), dtype=bool)


def _share(rows: Rows, is_among: Rows, but_not: Rows) -> tuple[float, int]:
    """Which share of the rows that are not in `but_not` is in `is_among`, and of how many."""
    absent = rows[~np.isin(rows, but_not)]
    return (float(np.isin(absent, is_among).mean()), len(absent)) if len(absent) else (0.0, 0)


def _without_labels(table: pd.DataFrame, dataset: Dataset) -> pd.DataFrame:
    """Rows without labels, so that labeled and unlabeled copies match."""
    return table[[*dataset.feature_names, dataset.id.name]].assign(**{dataset.target.name: 0.0})


def _hashes(table: pd.DataFrame, dataset: Dataset) -> Rows:
    names = [column.name for column in dataset.numeric]
    # Rounding keeps rows equal after a conversion to float32 or text.
    values = table[names].astype("float64").round(_DECIMALS) + 0.0
    if len(names) < len(dataset.features):
        strings = table[[column.name for column in dataset.features if not column.is_numeric]]
        values = values.join(strings.astype(object).where(strings.notna(), "").astype(str))
    return pd.util.hash_pandas_object(values, index=False).to_numpy()
