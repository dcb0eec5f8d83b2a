"""Hard labels as probabilities, and PyCaret's ``prediction_score``: each gives a log loss with a fingerprint."""

import numpy as np
import numpy.typing as npt
import pytest
import skops.io
from mlflow.entities import Run
from sklearn.metrics import log_loss

from data.schema import FEATURES
from monitor.metrics.binary import evaluate
from tests.project import REAL, Checkout


def wrong_log_losses(labels: npt.NDArray[np.float64], probability: npt.NDArray[np.float64]) -> dict[str, float]:
    predicted = (probability >= 0.5).astype(float)
    score_of_the_predicted_label = np.where(predicted == 1, probability, 1 - probability)
    return {
        "hard labels": float(log_loss(labels, predicted)),
        "prediction_score": float(log_loss(labels, score_of_the_predicted_label)),
    }


def champion_on_test(checkout: Checkout) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Labels of base_test and the champion's P(made), computed by the estimator itself."""
    version = checkout.production()
    assert version is not None
    name = version.source.removeprefix("models:/")
    model = next(path for path in (checkout.folder / "mlruns").rglob("pipeline.skops") if name in path.parts)
    pipeline = skops.io.load(model, trusted=skops.io.get_untrusted_types(file=model))
    test = checkout.table("base_test")
    return test["shot_made_flag"].to_numpy(float), pipeline.predict_proba(test[list(FEATURES)].to_numpy())[:, 1]


def assert_right(run: Run, labels: npt.NDArray[np.float64], probability: npt.NDArray[np.float64]) -> None:
    logged = run.data.metrics["log_loss"]
    assert logged == pytest.approx(log_loss(labels, probability), abs=1e-9)
    for name, wrong in wrong_log_losses(labels, probability).items():
        assert abs(logged - wrong) > 0.005, f"the logged log loss is that of {name}"


def test_training_logs_the_log_loss_of_p_made(synthetic_main: tuple[Checkout, str]) -> None:
    checkout, _ = synthetic_main
    assert_right(checkout.run("Treinamento"), *champion_on_test(checkout))


def test_application_logs_the_log_loss_of_p_made(synthetic_main: tuple[Checkout, str]) -> None:
    checkout, _ = synthetic_main
    labeled = checkout.table("predictions_prod").dropna(subset=["shot_made_flag"])
    run = checkout.run("PipelineAplicacao")
    assert_right(run, labeled["shot_made_flag"].to_numpy(), labeled["probability"].to_numpy())


@pytest.mark.skipif(not REAL.is_dir(), reason="the real files are not here")
def test_on_the_real_files_logistic_regression_is_where_it_belongs(real_main: tuple[Checkout, str]) -> None:
    checkout, _ = real_main
    logged = checkout.run("lr: Logistic Regression").data.metrics
    assert 0.676 <= logged["log_loss"] <= 0.680
    assert logged["roc_auc"] == pytest.approx(0.595, abs=0.005)


def test_both_wrong_ones_are_distinguished_from_the_right_one() -> None:
    generator = np.random.default_rng(0)
    probability = generator.uniform(0.3, 0.65, 4_000)
    labels = (generator.random(4_000) < probability).astype(float)
    right, wrong = evaluate(labels, probability)["log_loss"], wrong_log_losses(labels, probability)
    assert 0.6 < right < 0.69
    assert wrong["hard labels"] > 10
    assert wrong["prediction_score"] > right + 0.02
