import numpy as np
import pytest
from mlflow import MlflowClient

from data.schema import FEATURES, PROBABILITY, feature_column
from serving import registry
from serving.batch import in_process
from serving.batch.in_process import ScoredError, prediction_hash
from serving.model import model_files
from tests.evaluations import population
from tests.versions import BAD, GOOD, SAME, LoggedModels


def url(version: str) -> str:
    return f"models:/{registry.model()}/{version}"


@pytest.fixture(autouse=True)
def _forget() -> None:
    in_process._model.cache_clear()  # noqa: SLF001 versions of one number and run in several copies of a store


# Predictions of a version are reproducible


def test_the_fingerprint_of_a_model_is_that_of_each_of_its_versions(store_with_models: LoggedModels) -> None:
    before = prediction_hash(store_with_models.models[GOOD].uri)
    assert len(before) == 64
    assert {prediction_hash(url(store_with_models.register(GOOD))) for _ in range(2)} == {before}


def test_models_with_equal_predictions_have_the_same_fingerprint(store_with_models: LoggedModels) -> None:
    assert store_with_models.models[SAME].uri != store_with_models.models[GOOD].uri
    assert prediction_hash(store_with_models.models[SAME].uri) == prediction_hash(store_with_models.models[GOOD].uri)


def test_models_with_other_predictions_have_other_fingerprints(store_with_models: LoggedModels) -> None:
    assert prediction_hash(store_with_models.models[BAD].uri) != prediction_hash(store_with_models.models[GOOD].uri)


class FixedModel:
    """A model with fixed predictions."""

    def __init__(self, shift: float = 0.0, threshold: float = 0.5) -> None:
        self.shift, self.threshold, self.sent = shift, threshold, np.empty((0, 0))

    def unwrap_python_model(self) -> "FixedModel":
        """As MLflow wraps it."""
        return self

    def score(self, values: "np.typing.NDArray[np.float64]", threshold: float) -> "tuple[object, object]":
        """Label and P(made)."""
        self.sent = values
        made = np.linspace(0.1, 0.9, len(values)) + self.shift
        return (made >= threshold).astype(np.int64), made


def of(monkeypatch: pytest.MonkeyPatch, model: FixedModel, decimals: int | None = None) -> str:
    monkeypatch.setattr(model_files, "load", lambda _uri: model)
    return prediction_hash("models:/any/1", decimals)


def test_the_last_bit_of_a_prediction_and_the_threshold_are_in_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    one = of(monkeypatch, FixedModel())
    assert of(monkeypatch, FixedModel()) == one
    assert of(monkeypatch, FixedModel(shift=float(np.finfo(float).eps))) != one
    assert of(monkeypatch, FixedModel(threshold=0.6)) != one


def test_rounded_a_fingerprint_is_that_of_machines_that_differ_in_the_last_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = of(monkeypatch, FixedModel(), 9)
    assert of(monkeypatch, FixedModel(shift=1e-15), 9) == one
    assert of(monkeypatch, FixedModel(shift=1e-8), 9) != one
    assert of(monkeypatch, FixedModel(threshold=0.6), 9) != one


def test_the_shots_of_the_fingerprint_are_always_the_same_and_within_the_schema(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = FixedModel(), FixedModel()
    of(monkeypatch, first)
    of(monkeypatch, second)
    np.testing.assert_array_equal(first.sent, second.sent)
    assert first.sent.shape == (512, len(FEATURES))
    for name, values in zip(FEATURES, first.sent.T, strict=True):
        column = feature_column(name)
        assert column.minimum is not None
        assert column.maximum is not None
        assert values.min() >= column.minimum
        assert values.max() <= column.maximum
        assert len(set(values)) > 1
        assert column.kind == "float" or not (values % 1).any()


def test_a_model_that_is_not_there_has_no_fingerprint(store_with_models: LoggedModels) -> None:
    store_with_models.register(GOOD)
    with pytest.raises(ScoredError, match="models:/kobe_shot/9 cannot be loaded"):
        prediction_hash(url("9"))


# What is kept of it


def expected(store_with_models: LoggedModels, name: str) -> "np.typing.NDArray[np.float64]":
    rows = population().head(50)[list(FEATURES)].to_numpy()
    return np.asarray(store_with_models.models[name].pipeline.predict_proba(rows)[:, 1])


def predictions_of(version: str) -> "np.typing.NDArray[np.float64]":
    return in_process.predict(population().head(50), version)[PROBABILITY].to_numpy()


def test_a_registered_model_that_was_made_anew_does_not_predict_as_the_old_one_did(
    store_with_models: LoggedModels,
) -> None:
    store_with_models.register(GOOD)
    np.testing.assert_allclose(predictions_of("1"), expected(store_with_models, GOOD))
    MlflowClient().delete_registered_model(registry.MODEL)
    store_with_models.register(BAD)
    np.testing.assert_allclose(predictions_of("1"), expected(store_with_models, BAD))


def test_versions_of_one_number_of_two_registered_models_are_not_mixed_up(store_with_models: LoggedModels) -> None:
    store_with_models.register(GOOD)
    with registry.use_model_name("another"):
        store_with_models.register(BAD)
        np.testing.assert_allclose(predictions_of("1"), expected(store_with_models, BAD))
    np.testing.assert_allclose(predictions_of("1"), expected(store_with_models, GOOD))


def test_a_version_is_loaded_once(store_with_models: LoggedModels, monkeypatch: pytest.MonkeyPatch) -> None:
    store_with_models.register(GOOD)
    predictions_of("1")
    monkeypatch.delattr(model_files, "load")
    np.testing.assert_allclose(predictions_of("1"), expected(store_with_models, GOOD))
