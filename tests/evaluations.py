"""Evaluations of synthetic shots whose true probability is known."""

from datetime import UTC, datetime
from functools import cache

import numpy as np
import pandas as pd

from data.datasets import default
from data.schema import FEATURES, PREDICTION, PROBABILITY, TARGET
from data.simulation import synthetic
from monitor.health.baseline import ReferenceData
from monitor.health.evaluation import Evaluation, ServingState
from monitor.store.records import ModelVersion, Promotion

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
NO_CHAMPION = ServingState(NOW, None)
CHAMPION = ModelVersion(
    version="7",
    model_id="lr",
    promotions=(Promotion(when=datetime(2026, 11, 1, tzinfo=UTC)),),
    gate_reason="passed",
    synthetic=True,
)

TRAINING_ROWS, REFERENCE_ROWS = 4_000, 3_000


@cache
def population() -> pd.DataFrame:
    """Independent shots, with their true probability as P(made) and labels drawn from it."""
    shots = synthetic.shots(40_000, seed=11).rename(columns={"lon": "lng"})
    shots.attrs.clear()
    # Shots of a game follow each other; these do not.
    table = shots[list(FEATURES)].astype(float).sample(frac=1, random_state=0, ignore_index=True)
    made = synthetic.true_probability(table)
    labels = np.random.default_rng(1234).random(len(table)) < made
    return table.assign(**{TARGET: labels.astype(float), PREDICTION: (made >= 0.5).astype(np.int64), PROBABILITY: made})


@cache
def reference_data() -> ReferenceData:
    """What batches of the same population are compared with."""
    rows = population().iloc[TRAINING_ROWS : TRAINING_ROWS + REFERENCE_ROWS]
    return ReferenceData(population().head(TRAINING_ROWS), rows, default(), name="base_test")


def batch(rows: int, seed: int = 1) -> pd.DataFrame:
    """Shots of the same population that are neither in the training rows nor in the reference."""
    fresh = population().iloc[TRAINING_ROWS + REFERENCE_ROWS :]
    return fresh.sample(rows, random_state=seed, ignore_index=True)


def with_accuracy(rows: int, accuracy: float, *, distance: float = 0.1) -> pd.DataFrame:
    """Shots with a given accuracy; P(made) is `distance` from 0.5, as often below it as above.

    Accuracy, F1, ROC AUC, precision, sensitivity and specificity all equal `accuracy`, so a test sets by how much
    each is worse. With `distance` = accuracy - 0.5 the predictions are calibrated.
    """
    half = rows // 2
    hits = round(half * accuracy)
    above = np.repeat([1.0, 0.0], [hits, half - hits])
    return batch(rows).assign(
        **{
            TARGET: np.concatenate([above, 1 - above]),
            PREDICTION: np.repeat([1, 0], half),
            PROBABILITY: np.repeat([0.5 + distance, 0.5 - distance], half),
        }
    )


@cache
def sixty_percent_accurate() -> ReferenceData:
    """A calibrated reference with an accuracy of 60%."""
    return ReferenceData(population().head(TRAINING_ROWS), with_accuracy(4_000, 0.6), default(), name="base_test")


def evaluation(
    table: pd.DataFrame, live: ServingState = NO_CHAMPION, *, against: ReferenceData | None = None, name: str = "prod"
) -> Evaluation:
    """The evaluation of a batch."""
    return Evaluation(against or reference_data(), table, live, name)
