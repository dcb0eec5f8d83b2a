"""Which current rows are the model's own: rows that it was trained on, or the rows that current ones are compared with.

Such rows say nothing of how a model does on new ones: compared with themselves they give the same metrics.

Rows are known by ``shot_id`` where both tables have it. Elsewhere their features must do, and those tell little of one
row: at the hoop many shots share them. But of the rows that the one table does not hold, few are in the other by
chance; how few is counted on rows that are in neither.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.preparation.identity import is_among
from data.schema import FEATURES, IN_TRAINING, SHOT_ID, TARGET
from monitor.health.baseline import ReferenceData
from monitor.health.evaluation import IN_REFERENCE

FEWEST_TELLING = 30
"""Rows that the other table does not hold, which it takes to tell a table's own rows by their features."""
MOST_BY_CHANCE = 0.5
"""Share of own rows, estimated from features alone, above which a table is taken to hold own rows."""

_DECIMALS = 4

Rows = npt.NDArray[np.uint64]
Marks = npt.NDArray[np.bool_]


def marked(table: pd.DataFrame, baseline: ReferenceData) -> pd.DataFrame:
    """Current rows with ``in_reference`` and ``learned`` (bool), where any of them is one of the model's own.

    Parameters
    ----------
    table : pandas.DataFrame
        The features, and where it is known ``shot_id``.
    baseline : Baseline
        Of the version that scored them.
    """
    reference, training = _hashes(baseline.table), _hashes(baseline.training)
    here = _hashes(table)
    marks = {
        IN_REFERENCE: _own(table, here, baseline.table, reference, training),
        IN_TRAINING: _own(table, here, baseline.training, training, reference),
    }
    if IN_TRAINING in table:
        marks[IN_TRAINING] |= table[IN_TRAINING].to_numpy(dtype=bool)
    return table.assign(**{name: found for name, found in marks.items() if found.any()})


def _own(table: pd.DataFrame, here: Rows, own: pd.DataFrame, held: Rows, other: Rows) -> Marks:
    """Which rows of a table are rows of `own`; `other` are rows that are in neither, if the table is of new rows."""
    if SHOT_ID in table and SHOT_ID in own:
        by_id = is_among(_without_labels(table), _without_labels(own))
        if by_id.any():
            return by_id
    found = np.isin(here, held)
    by_chance = _share(other[::2], held, other[1::2])[0]
    share, rows = _share(here, held, other)
    estimated = (share - by_chance) / (1 - by_chance) if by_chance < 1 else 0.0
    is_own = rows >= FEWEST_TELLING and estimated > MOST_BY_CHANCE
    return found if is_own else np.zeros(len(table), dtype=bool)


def _share(rows: Rows, is_among: Rows, but_not: Rows) -> tuple[float, int]:
    """Which share of the rows that are not in `but_not` is in `is_among`, and of how many."""
    telling = rows[~np.isin(rows, but_not)]
    return (float(np.isin(telling, is_among).mean()), len(telling)) if len(telling) else (0.0, 0)


def _without_labels(table: pd.DataFrame) -> pd.DataFrame:
    """Shots that are the same whether or not their label is known."""
    return table[[*FEATURES, SHOT_ID]].assign(**{TARGET: 0.0})


def _hashes(table: pd.DataFrame) -> Rows:
    # A table that went through float32 or text is still the same.
    values = table[list(FEATURES)].astype("float64").round(_DECIMALS) + 0.0
    return pd.util.hash_pandas_object(values, index=False).to_numpy()
