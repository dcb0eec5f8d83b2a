import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.metrics import log_loss

from data import synthetic
from data.schema import FEATURES, TARGET
from serving import packaging
from steps.candidates import MODEL_NAMES, Candidate, TrainingError, Tuner, choose


@pytest.fixture(scope="module")
def train() -> pd.DataFrame:
    table = synthetic.shots(900, seed=5).rename(columns={"lon": "lng"}).dropna(subset=[TARGET])
    return table[[*FEATURES, TARGET]].astype(float).reset_index(drop=True)


@pytest.fixture(scope="module")
def tuner(train: pd.DataFrame) -> Tuner:
    return Tuner(train, cv_folds=2, n_iter=1, session_id=1, criterion="log_loss")


def test_the_ids_are_those_of_pycaret(tuner: Tuner) -> None:
    assert set(tuner.experiment.models().index) - {"dummy"} == set(MODEL_NAMES)


@pytest.mark.parametrize("model_id", MODEL_NAMES)
def test_every_classifier_becomes_a_plain_pipeline_that_is_stored_without_pickle(
    tuner: Tuner, train: pd.DataFrame, model_id: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    candidate = tuner.tune(model_id)
    made = candidate.pipeline.predict_proba(train[list(FEATURES)].to_numpy())[:, 1]
    assert ((made >= 0) & (made <= 1)).all()
    path = tmp_path_factory.mktemp(model_id) / "pipeline.skops"
    skops.io.dump(candidate.pipeline, path)
    trusted = packaging.trusted_types(path)
    assert not [name for name in trusted if "pycaret" in name]
    again = skops.io.load(path, trusted=trusted).predict_proba(train[list(FEATURES)].to_numpy())[:, 1]
    np.testing.assert_array_equal(again, made)


@pytest.mark.parametrize("criterion", ["brier", "roc_auc", "f1_score", "accuracy", "precision", "recall"])
def test_tuning_can_optimise_every_metric(train: pd.DataFrame, criterion: str) -> None:
    candidate = Tuner(train, cv_folds=2, n_iter=1, session_id=1, criterion=criterion).tune("lr")
    mean, deviation = candidate.cross_validated[criterion]
    assert np.isfinite([mean, deviation]).all()


def test_the_class_prior_gives_every_shot_the_same_probability(tuner: Tuner, train: pd.DataFrame) -> None:
    prior = tuner.prior()
    made = prior.pipeline.predict_proba(train[list(FEATURES)].to_numpy())[:, 1]
    assert set(made) == {train[TARGET].mean()}
    assert prior.cross_validated["log_loss"][0] == pytest.approx(log_loss(train[TARGET], made), abs=0.005)


def test_tuning_twice_gives_the_same_model(train: pd.DataFrame) -> None:
    first, second = (
        Tuner(train, cv_folds=2, n_iter=3, session_id=1, criterion="log_loss").tune("dt") for _ in range(2)
    )
    assert first.hyperparameters == second.hyperparameters
    assert first.cross_validated == second.cross_validated


def test_the_winner_of_compare_models_is_found(tuner: Tuner, monkeypatch: pytest.MonkeyPatch) -> None:
    compare = tuner.experiment.compare_models
    monkeypatch.setattr(
        tuner.experiment,
        "compare_models",
        lambda *, exclude, **options: compare(include=["nb", "lda"], **options) if "svm" in exclude else None,
    )
    assert tuner.best_id() in {"nb", "lda"}


def test_more_folds_than_rows_of_a_result_are_refused(train: pd.DataFrame) -> None:
    few = pd.concat([train[train[TARGET] == 0].head(40), train[train[TARGET] == 1].head(3)])
    with pytest.raises(TrainingError, match="cv_folds: expected at most 3"):
        Tuner(few, cv_folds=5, n_iter=1, session_id=1, criterion="log_loss")


def candidate(name: str, **scores: float) -> Candidate:
    return Candidate(name, name, None, {}, {metric: (mean, 0.01) for metric, mean in scores.items()})


def test_the_choice_follows_the_direction_of_the_criterion() -> None:
    both = [candidate("a", log_loss=0.68, roc_auc=0.60), candidate("b", log_loss=0.67, roc_auc=0.59)]
    assert choose(both, "log_loss").id == "b"
    assert choose(both, "roc_auc").id == "a"
