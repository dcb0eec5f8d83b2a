"""Labels before the temporal hold-out are scored by what would have been trained at the time."""

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sklearn.tree import DecisionTreeClassifier

from data.schema import FEATURES, TARGET
from steps.retraining.rolling_origins import score_earlier
from steps.training.config import TrainingConfig
from steps.training.training_set import TrainingData
from steps.training.tuning import Candidate, Tuner
from tests.evaluations import population

COLUMNS = [*FEATURES, TARGET]
DEV = 400
CONFIG = TrainingConfig(models="lr,dt", cv_folds=2, n_iter=1)


def origins(labels: npt.NDArray[np.float64] | None = None) -> list[TrainingData]:
    """Three origins, each with 100 labels to compare on and 100 training labels more than the one before it."""
    table = population().head(DEV + 400)[COLUMNS].astype({TARGET: "int64"}).reset_index(drop=True)
    if labels is not None:
        table[TARGET] = labels.astype("int64")
    found = []
    for number in (100, 200, 300):
        train, test = table.head(DEV + number), table.iloc[DEV + number : DEV + number + 100].reset_index(drop=True)
        arrived = np.arange(len(train)) >= DEV
        found.append(TrainingData(train, test, {}, {}, np.where(arrived, 4.0, 1.0), arrived))
    return found


def test_each_label_is_scored_by_a_model_that_does_not_know_it_nor_any_later_one() -> None:
    expected = score_earlier(origins(), CONFIG)
    assert expected is not None
    assert expected.rows[COLUMNS].equals(pd.concat([each.test for each in origins()], ignore_index=True))
    labels = population().head(DEV + 400)[TARGET].to_numpy()
    other = np.where(np.arange(len(labels)) < DEV + 200, labels, 1 - labels)
    found = score_earlier(origins(other), CONFIG)
    assert found is not None
    np.testing.assert_array_equal(found.challenger[:200], expected.challenger[:200])
    np.testing.assert_array_equal(found.base_rate[:200], expected.base_rate[:200])
    assert not np.allclose(found.challenger[200:], expected.challenger[200:])


def test_hyperparameters_are_tuned_at_the_first_origin_and_a_model_is_selected_at_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tuned: list[int] = []
    tune = Tuner.tune

    def counted(tuner: Tuner, model_id: str) -> Candidate:
        tuned.append(len(tuner._labels))  # noqa: SLF001 which rows it was tuned on
        return tune(tuner, model_id)

    monkeypatch.setattr(Tuner, "tune", counted)
    found = score_earlier(origins(), CONFIG)
    assert found is not None
    assert tuned == [DEV + 100] * 2
    assert len(set(found.base_rate)) == 3
    assert all(len(set(of_origin)) == 1 for of_origin in found.base_rate.reshape(3, 100))


def test_a_refitted_candidate_has_the_hyperparameters_of_the_tuned_one_and_other_training_rows() -> None:
    first, second = (
        Tuner(
            each.train,
            weights=each.weights,
            compared_on=each.compared_on,
            cv_folds=2,
            n_iter=2,
            session_id=0,
            criterion="log_loss",
        )
        for each in origins()[:2]
    )
    tuned = first.tune("dt")
    again = second.refit(tuned)
    assert (again.id, again.name, again.hyperparameters) == (tuned.id, tuned.name, tuned.hyperparameters)
    models = [candidate.pipeline[-1] for candidate in (tuned, again)]
    assert all(isinstance(model, DecisionTreeClassifier) for model in models)
    weight = [model.tree_.weighted_n_node_samples[0] for model in models]
    assert weight == [DEV + 4 * 100, DEV + 4 * 200]


def test_without_an_earlier_origin_there_is_nothing_to_score() -> None:
    assert score_earlier([], CONFIG) is None
