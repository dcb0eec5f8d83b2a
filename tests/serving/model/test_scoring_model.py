import json
import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.pyfunc import PyFuncModel
from mlflow.types import ColSpec, DataType, Schema
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from data.datasets.description import folded
from data.paths import ROOT
from data.schema import FEATURES, feature_column
from serving.model import scoring_model
from serving.model.compilation import COMPILED, DETAILS
from serving.model.packaging import CONFIG_FILE, PackagingError, log_scoring_model
from serving.model.scoring_model import COMPILED_VARIABLE, OUTPUT_VARIABLE, Encoder, output_from_environment
from tests.project import shot

CONFIG = f"artifacts/{CONFIG_FILE}"


def config_of(model: Path) -> dict[str, Any]:
    """Configuration of a logged model."""
    found: dict[str, Any] = json.loads((model / CONFIG).read_text())
    return found


@pytest.fixture(scope="module")
def table(shots: pd.DataFrame) -> pd.DataFrame:
    return shots.rename(columns={"lon": "lng"})[list(FEATURES)].astype(float)


@pytest.fixture(scope="module")
def pipeline(shots: pd.DataFrame, table: pd.DataFrame) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(
        table.to_numpy(), shots["shot_made_flag"].fillna(0).to_numpy()
    )


@pytest.fixture(scope="module")
def logged(
    tmp_path_factory: pytest.TempPathFactory, empty_database: Path, pipeline: Pipeline, table: pd.DataFrame
) -> Path:
    """Folder of a logged model."""
    folder = tmp_path_factory.mktemp("model")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{shutil.copy(empty_database, folder / 'mlflow.db')}")
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


def test_predictions_are_those_of_the_estimator_in_order(
    model: PyFuncModel, pipeline: Pipeline, table: pd.DataFrame
) -> None:
    response = model.predict(table)
    expected = pipeline.predict_proba(table.to_numpy())[:, 1]
    np.testing.assert_allclose(response["probability"], expected, atol=1e-12)
    np.testing.assert_array_equal(response["shot_made_flag"], expected >= 0.5)
    assert list(response) == ["shot_made_flag", "probability"]


def test_columns_are_found_by_name(model: PyFuncModel, table: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(model.predict(table[sorted(FEATURES, reverse=True)]), model.predict(table))


INDEXES = {
    "strings": ["c", "a", "b"],
    "duplicates": [7, 7, 7],
    "backwards": [2, 1, 0],
    "levels": pd.MultiIndex.from_tuples([(1, "a"), (2, "a"), (1, "b")]),
    "times": pd.DatetimeIndex(["2016-01-03", "2016-01-01", "2016-01-02"]),
}


@pytest.mark.parametrize("case", INDEXES)
def test_predictions_have_the_index_of_the_table(model: PyFuncModel, table: pd.DataFrame, case: str) -> None:
    rows = table.head(3)
    expected = model.predict(rows)["probability"].to_numpy()
    moved = rows.set_axis(INDEXES[case], axis=0)
    response = model.predict(moved)
    pd.testing.assert_index_equal(response.index, moved.index)
    np.testing.assert_array_equal(response["probability"], expected)


def test_a_filtered_table_takes_its_predictions_as_a_column(model: PyFuncModel, table: pd.DataFrame) -> None:
    some = table[table["period"] > 1].copy()
    some["p"] = model.predict(some)["probability"]
    np.testing.assert_array_equal(some["p"], model.predict(some.reset_index(drop=True))["probability"])


WHOLE = pd.DataFrame([shot(lat=34, lng=-118.1), shot(lat=34, lng=-118.2, period=2, playoffs=1)])
KINDS: dict[str, object] = {
    "int64": WHOLE,
    "int32": WHOLE.astype({"period": "int32"}),
    "uint8": WHOLE.astype({"period": "uint8", "shot_distance": "uint64"}),
    "booleans": WHOLE.astype({"playoffs": bool}),
    "nullable": WHOLE.convert_dtypes(),
    "arrow": WHOLE.convert_dtypes(dtype_backend="pyarrow"),
    "objects": WHOLE.astype(object),
    "decimals": WHOLE.assign(lat=[Decimal(34), Decimal(34)]),
    "float32": WHOLE.astype({"period": "float32"}),
    "dict of lists": WHOLE.to_dict("list"),
    "dict of arrays": {name: column.to_numpy() for name, column in WHOLE.items()},
    "records": WHOLE.to_dict("records"),
}


@pytest.mark.parametrize("case", KINDS)
def test_numbers_of_every_kind_are_taken(model: PyFuncModel, case: str) -> None:
    pd.testing.assert_frame_equal(model.predict(KINDS[case]), model.predict(WHOLE.astype(float)))


def test_one_row_as_a_dict_of_numbers_is_taken(model: PyFuncModel) -> None:
    pd.testing.assert_frame_equal(model.predict(shot()), model.predict(one()))


@pytest.mark.parametrize("value", ["north", [1], pd.Timestamp("2016-01-01"), 1j], ids=str)
def test_what_is_no_number_is_refused(model: PyFuncModel, value: object) -> None:
    with pytest.raises(MlflowException, match="lat"):
        model.predict(WHOLE.assign(lat=pd.Series([value] * 2)))


def test_a_null_in_a_nullable_column_is_named(model: PyFuncModel) -> None:
    with pytest.raises(MlflowException, match="row 1, column period: found null"):
        model.predict(WHOLE.assign(period=pd.array([1, None], dtype="Int64")))


@given(st.text(max_size=20))
def test_names_in_requests_fold_as_names_in_tables(name: str) -> None:
    assert scoring_model.folded(name) == folded(name)


def test_both_names_of_the_longitude_are_taken_and_both_at_once_are_not(model: PyFuncModel) -> None:
    raw = WHOLE.rename(columns={"lng": "lon"})
    for named in (raw, raw.to_dict("list"), raw.assign(name="x", loc_x=1)):
        pd.testing.assert_frame_equal(model.predict(named), model.predict(WHOLE))
    with pytest.raises(MlflowException, match=r"ambiguous columns \['lng', 'lon'\]"):
        model.predict(WHOLE.assign(lon=WHOLE["lng"]))
    with pytest.raises(MlflowException, match=r"missing columns \['lng'\]"):
        model.predict(WHOLE.drop(columns="lng"))


def test_rows_by_position_are_refused_with_the_order_of_the_names(model: PyFuncModel) -> None:
    with pytest.raises(MlflowException, match="by position") as caught:
        model.predict(WHOLE.to_numpy())
    assert str(list(FEATURES)) in caught.value.message


def test_the_unwrapped_model_takes_the_same_tables(model: PyFuncModel) -> None:
    raw = WHOLE.rename(columns={"lng": "lon"}).set_axis(["a", "b"], axis=0)
    response = model.unwrap_python_model().predict(None, raw)
    np.testing.assert_array_equal(response["probability"], model.predict(WHOLE)["probability"])
    assert list(response.index) == ["a", "b"]


@pytest.mark.usefixtures("model")
def test_the_checks_of_other_models_are_mlflows_own(pipeline: Pipeline) -> None:
    wanted = ModelSignature(Schema([ColSpec(DataType.double, "lat"), ColSpec(DataType.double, "lon")]))
    flavors = {"python_function": {"loader_module": "mlflow.sklearn"}}
    other = PyFuncModel(Model(signature=wanted, flavors=flavors), pipeline)
    with pytest.raises(MlflowException, match="Can not safely convert int64 to float64"):
        other.predict(pd.DataFrame({"lat": [34], "lon": [5]}))
    with pytest.raises(MlflowException, match=r"missing inputs \['lon'\]"):
        other.predict(pd.DataFrame({"lat": [34.0], "lng": [5.0]}))


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(
    ("flavor", "required"), [("mlflow.sklearn", True), ("mlflow.pyfunc.model", False)], ids=["stock", "optional"]
)
def test_another_model_with_the_same_columns_is_checked_by_mlflow_alone(
    pipeline: Pipeline, flavor: str, *, required: bool
) -> None:
    wanted = ModelSignature(Schema([ColSpec(DataType.double, name, required=required) for name in FEATURES]))
    other = PyFuncModel(Model(signature=wanted, flavors={"python_function": {"loader_module": flavor}}), pipeline)
    with pytest.raises(MlflowException, match="Can not safely convert int64 to float64"):
        other.predict(WHOLE)


def test_predictions_come_in_the_form_that_is_requested(model: PyFuncModel, table: pd.DataFrame) -> None:
    response = model.predict(table)
    made, probability = response["shot_made_flag"].to_numpy(), response["probability"].to_numpy()
    pd.testing.assert_frame_equal(model.predict(table, params={"output": "records"}), response)
    np.testing.assert_array_equal(model.predict(table, params={"output": "label"}), made)
    np.testing.assert_array_equal(model.predict(table, params={"output": "probability"}), probability)
    pairs = model.predict(table, params={"output": "probabilities"})
    np.testing.assert_array_equal(pairs, np.column_stack([1 - probability, probability]))
    labels = model.predict(table, params={"output": "label", "threshold": 0.42})
    np.testing.assert_array_equal(labels, probability >= 0.42)


def test_a_form_that_there_is_none_of_is_refused(model: PyFuncModel) -> None:
    with pytest.raises(MlflowException, match="output: expected one of records, label, probability, probabilities"):
        model.predict(one(), params={"output": "labels"})


@pytest.mark.usefixtures("store")
def test_mlflow_evaluates_it_as_a_classifier(logged: Path, shots: pd.DataFrame, model: PyFuncModel) -> None:
    rows = shots[shots["shot_made_flag"].notna()].astype({"shot_made_flag": int})
    rows = rows[["lat", "lon", *FEATURES[2:], "shot_made_flag"]]
    result = mlflow.models.evaluate(str(logged), rows, targets="shot_made_flag", model_type="classifier")
    right = model.predict(rows)["shot_made_flag"].to_numpy() == rows["shot_made_flag"].to_numpy()
    assert result.metrics["accuracy_score"] == pytest.approx(right.mean())
    assert isinstance(model.predict(rows), pd.DataFrame), "only the evaluator gets labels"


def test_a_default_form_that_there_is_none_of_is_rejected_with_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    assert output_from_environment() == "records"
    monkeypatch.setenv(OUTPUT_VARIABLE, "probability")
    assert output_from_environment() == "probability"
    monkeypatch.setenv(OUTPUT_VARIABLE, "labels")
    with pytest.raises(MlflowException, match="KOBE_SHOT_OUTPUT: expected one of records, label"):
        output_from_environment()


def test_no_rows_give_an_empty_response(model: PyFuncModel, table: pd.DataFrame) -> None:
    assert model.predict(table.head(0)).shape == (0, 2)


def test_the_threshold_is_a_parameter_of_the_request(model: PyFuncModel, table: pd.DataFrame) -> None:
    response = model.predict(table, params={"threshold": 0.42})
    np.testing.assert_array_equal(response["shot_made_flag"], response["probability"] >= 0.42)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_that_is_no_probability_is_refused(model: PyFuncModel, threshold: float) -> None:
    with pytest.raises(MlflowException, match="threshold: expected a float from 0 to 1") as caught:
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
    assert feature_column(name).constraint_text in message


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_every_shot_inside_the_schema_gets_a_probability(model: PyFuncModel, data: st.DataObject) -> None:
    values = {}
    for name in FEATURES:
        column = feature_column(name)
        assert column.minimum is not None
        assert column.maximum is not None
        if column.kind != "float":
            values[name] = float(data.draw(st.integers(int(column.minimum), int(column.maximum))))
        else:
            values[name] = data.draw(st.floats(column.minimum, column.maximum))
    response = model.predict(one(**values))
    assert 0 <= response["probability"][0] <= 1


@pytest.mark.parametrize("name", ["period", "playoffs"])
def test_half_a_period_is_refused(model: PyFuncModel, name: str) -> None:
    with pytest.raises(MlflowException, match=rf"column {name}: found 0?\.?[0-9.]*5, expected an integer"):
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


def test_requirements_are_what_is_imported_pinned_and_nothing_else_is_constrained(logged: Path) -> None:
    sent = (logged / "requirements.txt").read_text().splitlines()
    assert all("==" in line for line in sent)
    assert {line.partition("==")[0] for line in sent} == {
        *("mlflow", "numpy", "orjson", "pandas", "pyarrow", "pyyaml", "scikit-learn", "scipy", "skops"),
        *("sqlalchemy", "psycopg", "psycopg-binary", "uvicorn", "uvloop", "httptools"),
    }
    assert not (logged / "constraints.txt").exists()
    locked = (ROOT / "requirements.txt").read_text()
    assert all(line in locked for line in sent)


def test_the_ranges_travel_with_the_model(logged: Path) -> None:
    assert [feature["name"] for feature in config_of(logged)["features"]] == list(FEATURES)


@pytest.mark.usefixtures("store")
def test_a_pipeline_that_would_need_pickle_is_refused(table: pd.DataFrame) -> None:
    code = FunctionTransformer(json.dumps)
    with mlflow.start_run(), pytest.raises(PackagingError, match=r"not served: json\.dumps \(FunctionNode\)\. "):
        log_scoring_model(Pipeline([("code", code)]), table.head(2), threshold=0.5, metadata={})


MIXED: list[dict[str, Any]] = [
    {"name": "zone", "kind": "category", "categories": ["left", "right", "center"], "unseen": "unknown"},
    {"name": "feet", "kind": "float"},
    {"name": "day", "kind": "date"},
    {"name": "side", "kind": "category", "categories": ["home", "away"], "unseen": "reject", "allowed": "a side"},
]


def mixed(rows: int, *, day: str = "2013-10-29", side: str = "away") -> pd.DataFrame:
    """A table of every kind, with nulls and an unseen category in each fourth row."""
    table = pd.DataFrame({"zone": ["right", "center", "up", None], "feet": [3.0, np.nan, 5.5, 7.0]})
    table["day"], table["side"] = ["2000-02-29", day, None, "1970-01-01"], ["home", side, None, "home"]
    return table.iloc[np.arange(rows) % 4]


def test_few_rows_are_encoded_as_many_are() -> None:
    encoder = Encoder(MIXED)
    many, unseen = encoder.encode(*encoder.read(mixed(400)))
    for rows in (1, 2, 4, 31, 32, 33):
        few, unseen_of_few = encoder.encode(*encoder.read(mixed(rows)))
        np.testing.assert_array_equal(few, many[:rows])
        assert unseen_of_few == ({"zone": sum(row % 4 == 2 for row in range(rows))} if rows > 2 else {})
    assert unseen == {"zone": 100}


@pytest.mark.parametrize(("column", "value"), [("day", "soon"), ("side", "both")])
def test_a_wrong_string_is_named_in_few_rows_as_in_many(column: str, value: str) -> None:
    encoder = Encoder(MIXED)
    for rows in (4, 40):
        with pytest.raises(MlflowException, match=f"row 1, column {column}: found '{value}'"):
            encoder.encode(*encoder.read(mixed(rows, **{column: value})))


@pytest.fixture
def copy(logged: Path, tmp_path: Path) -> Path:
    """A copy of the logged model, to change."""
    return Path(shutil.copytree(logged, tmp_path / "model"))


def test_the_metadata_record_that_the_pipeline_is_compiled_and_how_it_was_verified(model: PyFuncModel) -> None:
    assert model.metadata.metadata[COMPILED] == "true"
    assert "StandardScaler, LogisticRegression; largest difference" in model.metadata.metadata[DETAILS]


def test_single_rows_have_the_probability_of_the_pipeline(
    model: PyFuncModel, pipeline: Pipeline, table: pd.DataFrame
) -> None:
    rows = table.head(40)
    one_by_one = [model.predict(rows.iloc[[place]])["probability"].iloc[0] for place in range(len(rows))]
    expected = pipeline.predict_proba(rows.to_numpy())[:, 1]
    np.testing.assert_allclose(one_by_one, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(model.predict(rows)["probability"], expected, rtol=0, atol=1e-12)


def test_a_pipeline_without_compiled_form_is_served_and_the_metadata_have_the_reason(
    store: object, shots: pd.DataFrame, table: pd.DataFrame
) -> None:
    del store
    pipeline = make_pipeline(StandardScaler(), GaussianNB()).fit(table.to_numpy(), shots["shot_made_flag"].fillna(0))
    with mlflow.start_run() as run:
        info = log_scoring_model(pipeline, table.head(2), threshold=0.5, metadata={})
    assert MlflowClient().get_run(run.info.run_id).data.params == {}, "the configuration of the model is no parameter"
    assert info.metadata[COMPILED] == "false"
    assert info.metadata[DETAILS] == "GaussianNB has no compiled form"
    probability = mlflow.pyfunc.load_model(info.model_uri).predict(table.head(1))["probability"]
    np.testing.assert_array_equal(probability, pipeline.predict_proba(table.head(1).to_numpy())[:, 1])


def _other_samples(model: Path) -> None:
    config = config_of(model)
    config["compiled"]["probability"][0] += 1e-6
    (model / CONFIG).write_text(json.dumps(config))


def _other_code(model: Path) -> None:
    path = model / "code" / "compiled_pipeline" / "models.py"
    path.write_text(path.read_text().replace("float(expit(", "0.9 * float(expit("))


@pytest.mark.parametrize("change", [_other_samples, _other_code])
def test_a_compiled_form_that_is_not_the_verified_one_is_refused(
    copy: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    change(copy)
    with pytest.raises(MlflowException, match="not the one that was verified when the model was packaged"):
        mlflow.pyfunc.load_model(str(copy))
    monkeypatch.setenv(COMPILED_VARIABLE, "off")
    assert 0 < mlflow.pyfunc.load_model(str(copy)).predict(one())["probability"].iloc[0] < 1


def test_a_model_of_an_older_version_is_served_by_its_pipeline(copy: Path, model: PyFuncModel) -> None:
    config = config_of(copy)
    del config["compiled"]
    (copy / CONFIG).write_text(json.dumps(config))
    shutil.rmtree(copy / "code" / "compiled_pipeline")
    older = mlflow.pyfunc.load_model(str(copy))
    np.testing.assert_allclose(older.predict(one())["probability"], model.predict(one())["probability"], atol=1e-12)


def test_each_model_runs_its_own_code(copy: Path, table: pd.DataFrame, model: PyFuncModel) -> None:
    path = copy / "code" / "compiled_pipeline" / "__init__.py"
    path.write_text(f"{path.read_text()}\n\nCompiledPipeline.__call__ = lambda self, row: 2.0\n")
    config = config_of(copy)
    config["compiled"]["probability"] = [2.0] * len(config["compiled"]["rows"])
    (copy / CONFIG).write_text(json.dumps(config))
    other = mlflow.pyfunc.load_model(str(copy))
    assert other.predict(table.head(1))["probability"].tolist() == [2.0]
    assert model.predict(table.head(1))["probability"].iloc[0] < 1
    assert not [*(copy / "code").rglob("__pycache__")]
