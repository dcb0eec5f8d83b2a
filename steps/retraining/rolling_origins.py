"""Out-of-sample predictions of the labels before the temporal hold-out, by what would have been trained at the time."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from steps.training.config import TrainingConfig, models_of
from steps.training.promotion import EarlierRows
from steps.training.selection import tuner_of
from steps.training.training_set import TrainingData
from steps.training.tuning import Candidate, select_best


def score_earlier(earlier: Sequence[TrainingData], config: TrainingConfig) -> EarlierRows | None:
    """Train and select a model at each origin and score the test rows of that origin.

    Hyperparameters are tuned at the first origin, where no label to compare on is known yet; at the later ones the
    candidates are fitted and selected again.

    Parameters
    ----------
    earlier : sequence of TrainingData
        By time, the oldest first.
    config : TrainingConfig

    Returns
    -------
    EarlierRows or None
        None without an origin.
    """
    candidates: list[Candidate] = []
    challenger, base_rate = [], []
    for training_data in earlier:
        tuner = tuner_of(training_data, config)
        if candidates:
            candidates = [tuner.refit(candidate) for candidate in candidates]
        else:
            ids = tuner.ids(models_of(config.models, training_data.dataset))
            candidates = [tuner.tune(model_id) for model_id in ids]
        selected = select_best(candidates, config.criterion)
        challenger.append(selected.probability(training_data.test))
        base_rate.append(tuner.prior().probability(training_data.test))
    if not challenger:
        return None
    rows = pd.concat([training_data.test for training_data in earlier], ignore_index=True)
    return EarlierRows(rows, np.concatenate(challenger), np.concatenate(base_rate))
