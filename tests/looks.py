"""Looks at simulated shots of which the truth is known."""

from datetime import UTC, datetime
from functools import cache

import numpy as np
import pandas as pd

from data.schema import FEATURES, PREDICTION, PROBABILITY, TARGET
from data.simulation import synthetic
from monitor.health.baseline import ReferenceData
from monitor.health.evaluation import Evaluation, ServingState
from monitor.store.runs import Champion

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
NOBODY = ServingState(NOW, None)
CHAMPION = Champion("7", "lr", datetime(2026, 11, 1, tzinfo=UTC), "passed", True, {}, "")

TRAINING_ROWS, REFERENCE_ROWS = 4_000, 3_000


@cache
def population() -> pd.DataFrame:
    """Independent shots, scored by the truth itself and labelled by it."""
    shots = synthetic.shots(40_000, seed=11).rename(columns={"lon": "lng"})
    shots.attrs.clear()
    # Shots of a game follow each other; these do not.
    table = shots[list(FEATURES)].astype(float).sample(frac=1, random_state=0, ignore_index=True)
    made = synthetic.true_probability(table)
    labels = np.random.default_rng(1234).random(len(table)) < made
    return table.assign(**{TARGET: labels.astype(float), PREDICTION: (made >= 0.5).astype(np.int64), PROBABILITY: made})


@cache
def baseline() -> ReferenceData:
    """What batches of the same population are compared with."""
    rows = population().iloc[TRAINING_ROWS : TRAINING_ROWS + REFERENCE_ROWS]
    return ReferenceData(population().head(TRAINING_ROWS), rows, name="base_test")


def batch(rows: int, seed: int = 1) -> pd.DataFrame:
    """Shots of the same population that are neither in the training rows nor in the reference."""
    fresh = population().iloc[TRAINING_ROWS + REFERENCE_ROWS :]
    return fresh.sample(rows, random_state=seed, ignore_index=True)


def right(rows: int, share: float, *, away: float = 0.1) -> pd.DataFrame:
    """Shots of which a share was predicted right; P(made) is `away` from one half, as often below it as above.

    Accuracy, F1, ROC AUC, precision, sensitivity and specificity are all that share, so a test can say by how much
    each is worse. With `away` as share - 0.5 the answers are calibrated.
    """
    half = rows // 2
    hits = round(half * share)
    above = np.repeat([1.0, 0.0], [hits, half - hits])
    return batch(rows).assign(
        **{
            TARGET: np.concatenate([above, 1 - above]),
            PREDICTION: np.repeat([1, 0], half),
            PROBABILITY: np.repeat([0.5 + away, 0.5 - away], half),
        }
    )


@cache
def six_in_ten() -> ReferenceData:
    """A reference of which six in ten rows were predicted right, calibrated."""
    return ReferenceData(population().head(TRAINING_ROWS), right(4_000, 0.6), name="base_test")


def look(
    table: pd.DataFrame, live: ServingState = NOBODY, *, against: ReferenceData | None = None, name: str = "prod"
) -> Evaluation:
    """A look at a batch."""
    return Evaluation(against or baseline(), table, live, name)
