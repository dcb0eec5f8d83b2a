import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from data.files import ROOT
from data.schema import FEATURES, feature_column
from serving.packaging import PackagingError, log_scoring_model
from tests.project import shot


@pytest.fixture(scope="module")
def table(shots: pd.DataFrame) -> pd.DataFrame:
    return shots.rename(columns={"lon": "lng"})[list(FEATURES)].astype(float)


@pytest.fixture(scope="module")
def pipeline(shots: pd.DataFrame, table: pd.DataFrame) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(
        table.to_numpy(), shots["shot_made_flag"].fillna(0).to_numpy()
    )


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory, pipeline: Pipeline, table: pd.DataFrame) -> Path:
    """Folder of a logged model."""
    folder = tmp_path_factory.mktemp("model")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("model", artifact_location=str(folder / "artifacts")))
    with mlflow.start_run():
        info = log_scoring_model(pipeline, table.head(3), threshold=0.5, metadata={"model_id": "lr"})
    path = Path(mlflow.artifacts.download_artifacts(info.model_uri))
    mlflow.set_tracking_uri(before)
    return path


@pytest.fixture(scope="module")
def model(logged: Path) -> PyFuncModel:
    return mlflow.pyfunc.load_model(str(logged))


def one(**changes: object) -> pd.DataFrame:
    return pd.DataFrame([shot(**changes)]).astype(float)


def test_answers_are_those_of_the_estimator_in_order(
    model: PyFuncModel, pipeline: Pipeline, table: pd.DataFrame
) -> None:
    answer = model.predict(table)
    expected = pipeline.predict_proba(table.to_numpy())[:, 1]
    np.testing.assert_allclose(answer["probability"], expected, atol=1e-12)
    np.testing.assert_array_equal(answer["shot_made_flag"], expected >= 0.5)
    assert list(answer) == ["shot_made_flag", "probability"]


def test_columns_are_found_by_name(model: PyFuncModel, table: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(model.predict(table[sorted(FEATURES, reverse=True)]), model.predict(table))


def test_no_rows_give_an_empty_answer(model: PyFuncModel, table: pd.DataFrame) -> None:
    assert model.predict(table.head(0)).shape == (0, 2)


def test_the_threshold_is_a_parameter_of_the_request(model: PyFuncModel, table: pd.DataFrame) -> None:
    answer = model.predict(table, params={"threshold": 0.42})
    np.testing.assert_array_equal(answer["shot_made_flag"], answer["probability"] >= 0.42)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_that_is_no_probability_is_refused(model: PyFuncModel, threshold: float) -> None:
    with pytest.raises(MlflowException, match="threshold: expected a number from 0 to 1") as caught:
        model.predict(one(), params={"threshold": threshold})
    assert caught.value.get_http_status_code() == 400


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    name=st.sampled_from(FEATURES),
    value=st.one_of(st.just(float("nan")), st.just(float("inf")), st.just(float("-inf")), st.floats(200, 1e300)),
)
def test_a_value_outside_the_schema_is_named_and_nothing_is_scored(model: PyFuncModel, name: str, value: float) -> None:
    rows = pd.concat([one(), one(**{name: value})], ignore_index=True)
    with pytest.raises(MlflowException) as caught:
        model.predict(rows)
    message = caught.value.message
    assert caught.value.get_http_status_code() == 400
    assert "No row was scored" in message
    assert f"row 1, column {name}: found" in message
    assert feature_column(name).allowed in message


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_every_shot_inside_the_schema_gets_a_probability(model: PyFuncModel, data: st.DataObject) -> None:
    values = {}
    for name in FEATURES:
        column = feature_column(name)
        assert column.minimum is not None
        assert column.maximum is not None
        if column.kind == "integer":
            values[name] = float(data.draw(st.integers(int(column.minimum), int(column.maximum))))
        else:
            values[name] = data.draw(st.floats(column.minimum, column.maximum))
    answer = model.predict(one(**values))
    assert 0 <= answer["probability"][0] <= 1


@pytest.mark.parametrize("name", ["period", "playoffs"])
def test_half_a_period_is_refused(model: PyFuncModel, name: str) -> None:
    with pytest.raises(MlflowException, match=rf"column {name}: found 0?\.?[0-9.]*5, expected a whole number"):
        model.predict(one(**{name: 0.5 if name == "playoffs" else 1.5}))


def test_a_missing_column_is_named(model: PyFuncModel) -> None:
    with pytest.raises(MlflowException, match="shot_distance"):
        model.predict(one().drop(columns="shot_distance"))


def test_the_signature_is_six_doubles(model: PyFuncModel) -> None:
    inputs = model.metadata.get_input_schema()
    assert inputs.input_names() == list(FEATURES)
    assert {column.name for column in inputs.input_types()} == {"double"}


def test_the_model_holds_no_pickle_and_nothing_of_this_project(logged: Path) -> None:
    suffixes = {path.suffix for path in logged.rglob("*") if path.is_file()}
    assert not suffixes & {".pkl", ".pickle", ".joblib", ".cloudpickle"}
    assert "data" not in {path.name for path in logged.iterdir()}
    assert "pycaret" not in (logged / "requirements.txt").read_text()


def test_the_model_does_not_carry_the_projects_whole_lock(logged: Path) -> None:
    assert not (logged / "uv.lock").exists()


def test_requirements_are_few_pinned_and_constrained_to_what_they_need_of_the_lock(logged: Path) -> None:
    asked = [line for line in (logged / "requirements.txt").read_text().splitlines() if not line.startswith("-c")]
    assert all("==" in line for line in asked)
    assert {line.partition("==")[0] for line in asked} == {
        *("mlflow", "numpy", "orjson", "pandas", "pyarrow", "pyyaml", "scikit-learn", "skops"),
        *("sqlalchemy", "psycopg", "psycopg-binary", "uvloop", "httptools"),
    }
    locked = set((ROOT / "requirements.txt").read_text().splitlines())
    constraints = set((logged / "constraints.txt").read_text().splitlines())
    assert constraints <= locked
    names = {line.partition("==")[0] for line in constraints}
    assert names >= {"starlette", "uvicorn", "alembic", "joblib", "scipy"}
    assert not names & {"pycaret", "streamlit", "lightgbm", "plotly"}


def test_the_ranges_travel_with_the_model(logged: Path) -> None:
    features = yaml.safe_load((logged / "MLmodel").read_text())["flavors"]["python_function"]["config"]["features"]
    assert [feature["name"] for feature in features] == list(FEATURES)


@pytest.mark.usefixtures("store")
def test_a_pipeline_that_would_need_pickle_is_refused(table: pd.DataFrame) -> None:
    code = FunctionTransformer(json.dumps)
    with mlflow.start_run(), pytest.raises(PackagingError, match="cannot be stored without pickle"):
        log_scoring_model(Pipeline([("code", code)]), table.head(2), threshold=0.5, metadata={})
