import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from monitor.metrics import METRICS, evaluate, log_loss_by_row


def draw(rows: int = 500, seed: int = 0) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    generator = np.random.default_rng(seed)
    probability = generator.uniform(0.1, 0.9, rows)
    return (generator.random(rows) < probability).astype(float), probability


def test_metrics_are_those_of_scikit_learn() -> None:
    labels, probability = draw()
    predicted = probability >= 0.5
    assert evaluate(labels, probability) == pytest.approx(
        {
            "log_loss": sklearn_metrics.log_loss(labels, probability),
            "brier": sklearn_metrics.brier_score_loss(labels, probability),
            "roc_auc": sklearn_metrics.roc_auc_score(labels, probability),
            "f1_score": sklearn_metrics.f1_score(labels, predicted),
            "accuracy": sklearn_metrics.accuracy_score(labels, predicted),
            "precision": sklearn_metrics.precision_score(labels, predicted),
            "recall": sklearn_metrics.recall_score(labels, predicted),
        },
        abs=1e-12,
    )


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=50))
def test_every_metric_is_finite_for_every_probability(rows: list[tuple[bool, float]]) -> None:
    labels, probability = np.array(rows, dtype=float).T
    assert np.isfinite(list(evaluate(labels, probability).values())).all()


def test_the_threshold_is_the_probability_from_which_a_shot_is_predicted_made() -> None:
    assert evaluate([1, 0], [0.3, 0.2], threshold=0.3)["accuracy"] == 1
    assert evaluate([1, 0], [0.3, 0.2], threshold=0.31)["recall"] == 0


def test_f1_is_zero_when_no_row_is_predicted_made() -> None:
    assert evaluate([1, 0], [0.4, 0.3])["f1_score"] == 0


def test_roc_auc_is_left_out_where_only_one_result_is_there() -> None:
    assert "roc_auc" not in evaluate([1, 1], [0.4, 0.3])


@pytest.mark.parametrize(
    ("labels", "probability"),
    [([], []), ([1], [0.5, 0.5]), ([np.nan], [0.5]), ([2], [0.5]), ([1], [np.nan]), ([1], [1.1]), ([1], [-0.1])],
)
def test_wrong_input_is_refused(labels: list[float], probability: list[float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        evaluate(labels, probability)


def test_a_certain_mistake_costs_much_but_not_infinitely_much() -> None:
    assert 30 < log_loss_by_row([1], [0.0])[0] < 40


def test_better_knows_the_direction_of_each_metric() -> None:
    assert METRICS["log_loss"].better(0.6, 0.7)
    assert METRICS["roc_auc"].better(0.7, 0.6)
