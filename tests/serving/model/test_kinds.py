"""Features of every kind, from the training rows to the response and the inference log."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel
from sqlalchemy import text

from data.datasets import Column, Dataset
from serving.inference_log.inference_log import InferenceLogWriter, Request, create_engine
from serving.model import body_parser
from serving.model.packaging import encoder_of, log_scoring_model, predict_probability, with_categories
from serving.model.scoring_model import read_body
from serving.server.loaded_model import LoadedModel, ModelSource
from serving.server.openapi import description
from serving.server_limits import limits
from steps.training.pipelines import Inputs, gradient_boosting, with_preprocessing, without_functions

CONTENT_TYPES = {"json": body_parser.JSON, "csv": body_parser.CSV, "parquet": body_parser.PARQUET}
DATASET = Dataset(
    name="visits",
    columns=(
        Column(name="age", role="feature", kind="float", minimum=0, maximum=120.1, nullable=True),
        Column(name="clinic", role="feature", kind="category"),
        Column(name="ward", role="feature", kind="category", categories=("a", "b"), unseen="reject"),
        Column(name="urgent", role="feature", kind="boolean"),
        Column(name="day", role="feature", kind="date", raw_name="date", nullable=True),
        Column(name="back", role="target", kind="integer"),
    ),
)
ROW = {"age": 40.5, "clinic": "north", "ward": "a", "urgent": True, "day": "2024-02-29"}


def rows(count: int) -> pd.DataFrame:
    """Visits with nulls; the label is 1 for the north in January, March and so on."""
    stream = np.random.default_rng(0)
    days = pd.Series(pd.Timestamp("2024-01-01") + pd.to_timedelta(stream.integers(0, 300, count), unit="D"))
    table = pd.DataFrame(
        {
            "age": stream.uniform(0, 120, count),
            "clinic": stream.choice(["north", "south", "NA"], count),
            "ward": stream.choice(["a", "b"], count),
            "urgent": stream.integers(0, 2, count).astype(float),
            "day": days.dt.strftime("%Y-%m-%d"),
        }
    )
    table["back"] = ((table.clinic == "north") & (days.dt.month % 2 == 1)).astype(int)
    table.loc[::7, "age"] = np.nan
    table.loc[::11, "day"] = None
    return table


def logged_model(path: Path, dataset: Dataset) -> Path:
    """Train on the rows, and log the model in a store in the folder."""
    table, inputs = rows(400), Inputs.of(dataset)
    model = gradient_boosting(inputs, 1).set_params(max_iter=40, min_samples_leaf=5, l2_regularization=0)
    pipeline = with_preprocessing("hgbc", model, inputs).fit(encoder_of(dataset).inputs(table), table["back"])
    expected = predict_probability(without_functions(pipeline), table, dataset)
    assert np.abs(expected - table["back"]).mean() < 0.1
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{path / 'mlflow.db'}")
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("model", artifact_location=str(path / "artifacts")))
    example = table[list(dataset.feature_names)].head(3)
    with mlflow.start_run():
        info = log_scoring_model(pipeline, example, threshold=0.5, metadata={}, dataset=dataset)
    found = Path(mlflow.artifacts.download_artifacts(info.model_uri))
    mlflow.set_tracking_uri(before)
    return found


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return with_categories(DATASET, rows(400))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> Path:
    """Folder of a logged model."""
    return logged_model(tmp_path_factory.mktemp("kinds"), dataset)


@pytest.fixture(scope="module")
def pyfunc(folder: Path) -> PyFuncModel:
    return mlflow.pyfunc.load_model(str(folder))


@pytest.fixture(scope="module")
def served(folder: Path) -> LoadedModel:
    """The version as the production server has it."""
    return LoadedModel(ModelSource("1", str(folder), "", "", ""))


def body(table: pd.DataFrame, form: str) -> bytes:
    """A table as the body of a request."""
    if form == "json":
        columns = [[None if pd.isna(cell) else cell for cell in table[name].tolist()] for name in table]
        data = [list(cells) for cells in zip(*columns, strict=True)]
        return json.dumps({"dataframe_split": {"columns": [*table], "data": data}}).encode()
    if form == "csv":
        return table.to_csv(index=False).encode()
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def by_production(served: LoadedModel, content: bytes, form: str) -> tuple[Any, dict[str, int]]:
    """P(positive) and unknown categories of a body at the production server."""
    request = served.parser.parse(content, CONTENT_TYPES[form])
    values, unseen = served.encode(request)
    return served.score(values, request.threshold)[1], dict(unseen)


def by_mlflow(pyfunc: PyFuncModel, content: bytes, form: str) -> Any:  # noqa: ANN401 an array of floats
    """P(positive) of a body at MLflow's server, which runs this model's own parsers."""
    model = pyfunc.unwrap_python_model()
    allowed = dict(zip(model.names, model.allowed, strict=True))
    table = read_body(content, CONTENT_TYPES[form], model.columns, allowed, parser=body_parser, limits=limits())
    return model.score(model.encoder.encode(table.values, table.texts)[0], 0.5)[1]


@pytest.mark.parametrize("form", CONTENT_TYPES)
def test_a_body_of_any_type_has_the_probabilities_of_the_table(
    pyfunc: PyFuncModel, served: LoadedModel, dataset: Dataset, form: str
) -> None:
    table = rows(60)[list(dataset.feature_names)]
    expected = pyfunc.predict(table)["probability"].to_numpy()
    assert len(set(expected)) > 5
    np.testing.assert_allclose(by_production(served, body(table, form), form)[0], expected, atol=1e-9)
    np.testing.assert_allclose(by_mlflow(pyfunc, body(table, form), form), expected, atol=1e-9)


def test_the_signature_has_strings_doubles_and_optional_features(pyfunc: PyFuncModel) -> None:
    schema = pyfunc.metadata.get_input_schema()
    types = [str(kind).rpartition(".")[2] for kind in schema.input_types()]
    assert types == ["double", "string", "string", "double", "string"]
    assert schema.optional_input_names() == ["age", "day"]
    assert list(pyfunc.predict(pd.DataFrame([ROW]))) == ["back", "probability"]


def test_a_category_that_no_training_row_has_is_scored_and_counted(served: LoadedModel) -> None:
    table = pd.DataFrame([ROW, {**ROW, "clinic": "Ö-west"}, {**ROW, "clinic": "east"}])
    made, unseen = by_production(served, body(table, "json"), "json")
    assert unseen == {"clinic": 2}
    assert made[1] == made[2]
    assert np.isfinite(made).all()


WRONG: dict[str, tuple[dict[str, object], str]] = {
    "null": ({"clinic": None}, "row 1, column clinic: found null, expected a string such as "),
    "refused": ({"ward": "c"}, "row 1, column ward: found 'c', expected one of 'a', 'b'"),
    "no date": ({"day": "soon"}, "row 1, column day: found 'soon', expected a date such as 2013-10-29, or null"),
    "no day": ({"day": "2024-02-30"}, "row 1, column day: found '2024-02-30', expected a date"),
    "list": ({"clinic": ["north"]}, "row 1, column clinic: found ['north'], expected a string"),
    "text": ({"age": "old"}, "row 1, column age: found 'old', expected a float from 0 to 120.1, or null"),
    "range": ({"age": 121.0}, "row 1, column age: found 121, expected a float from 0 to 120.1, or null"),
    "no boolean": ({"urgent": 2}, "row 1, column urgent: found 2, expected true or false"),
    "NUL": ({"clinic": "a\0b"}, "row 1, column clinic: found 'a\\x00b'"),
    "long": ({"clinic": "a" * 201}, "row 1, column clinic: found "),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_cell_is_named_with_row_column_value_and_what_is_allowed(
    pyfunc: PyFuncModel, served: LoadedModel, case: str
) -> None:
    changes, message = WRONG[case]
    content = json.dumps({"dataframe_records": [ROW, {**ROW, **changes}]}).encode()
    for score in (lambda: by_production(served, content, "json"), lambda: by_mlflow(pyfunc, content, "json")):
        with pytest.raises(MlflowException) as raised:
            score()
        assert raised.value.get_http_status_code() == 400
        assert message in str(raised.value)
        assert "No row was scored" in str(raised.value)


def test_an_optional_feature_that_is_missing_is_null(served: LoadedModel) -> None:
    whole = {**ROW, "age": None, "day": None}
    part = {name: value for name, value in ROW.items() if name not in {"age", "day"}}
    for form in CONTENT_TYPES:
        expected, found = (by_production(served, body(pd.DataFrame([row]), form), form)[0] for row in (whole, part))
        assert found == expected
    with pytest.raises(MlflowException, match="missing columns \\['clinic'\\]"):
        by_production(served, b'{"inputs": [{"ward": "a", "urgent": 1}]}', "json")


def test_an_optional_feature_in_another_spelling_is_not_null(served: LoadedModel) -> None:
    spelled = {"Age": ROW["age"], "Clinic": ROW["clinic"], "WARD": ROW["ward"], "urgent": True, "Date": ROW["day"]}
    for form in CONTENT_TYPES:
        expected, found = (by_production(served, body(pd.DataFrame([row]), form), form)[0] for row in (ROW, spelled))
        assert found == expected


def test_a_further_name_of_a_date_is_taken_and_a_date_in_parquet_may_be_a_date(served: LoadedModel) -> None:
    expected = by_production(served, body(pd.DataFrame([ROW]), "json"), "json")[0]
    renamed = pd.DataFrame([{**{k: v for k, v in ROW.items() if k != "day"}, "date": pd.Timestamp(str(ROW["day"]))}])
    assert by_production(served, body(renamed, "parquet"), "parquet")[0] == expected
    categories = pd.DataFrame([ROW]).astype({"clinic": "category", "ward": "category"})
    assert by_production(served, body(categories, "parquet"), "parquet")[0] == expected


def test_a_category_called_na_is_none_of_the_nulls_of_csv(served: LoadedModel, dataset: Dataset) -> None:
    assert set(dataset.column("clinic").categories) == {"north", "south", "NA"}
    content = b"age,clinic,ward,urgent,day\nNA,NA,a,true,\n"
    expected = by_production(
        served, body(pd.DataFrame([{**ROW, "age": None, "clinic": "NA", "day": None}]), "json"), "json"
    )
    assert by_production(served, content, "csv") == (expected[0], {})
    with pytest.raises(MlflowException, match="column clinic: found null"):
        by_production(served, content.replace(b"NA,NA", b"NA,"), "csv")


@pytest.mark.parametrize("end", [120.1, 0.0])
def test_the_end_of_a_range_as_float32_is_the_end(pyfunc: PyFuncModel, served: LoadedModel, end: float) -> None:
    table = pd.DataFrame([{**ROW, "age": end}])
    rounded = table.astype({"age": np.float32})
    scores: tuple[Callable[[bytes], Any], ...] = (
        lambda content: by_production(served, content, "parquet")[0],
        lambda content: by_mlflow(pyfunc, content, "parquet"),
    )
    for score in scores:
        assert score(body(rounded, "parquet")) == score(body(table, "parquet"))
        with pytest.raises(MlflowException, match="column age: found "):
            score(body(table.assign(age=np.nextafter(end, end * 2 - 1)), "parquet"))


def test_the_log_has_strings_and_nulls_of_each_row(served: LoadedModel, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    table = pd.DataFrame([ROW, {**ROW, "clinic": "east", "age": None, "day": None}])
    request = served.parser.parse(body(table, "json"), body_parser.JSON)
    made, probability = served.score(served.encode(request)[0], 0.5)
    writer = InferenceLogWriter(url, served.names, texts=served.texts)
    writer.append(Request("r", "1", request.values, made, probability, None, 0.0, texts=request.texts))
    assert not writer.close()
    with create_engine(url).connect() as connection:
        found = connection.execute(text("SELECT age, clinic, ward, urgent, day FROM inference ORDER BY row")).all()
    assert [tuple(row) for row in found] == [
        (40.5, "north", "a", 1.0, "2024-02-29"),
        (None, "east", "a", 1.0, None),
    ]


def test_the_description_of_the_server_is_that_of_the_version(served: LoadedModel, dataset: Dataset) -> None:
    assert served.dataset == dataset
    schemas = json.loads(served.openapi)["components"]["schemas"]
    assert schemas["ward"]["anyOf"] == [{"enum": ["a", "b"]}]
    assert schemas["Row"]["required"] == ["clinic", "ward", "urgent"]
    assert json.loads(served.openapi) == description(dataset)
    features = {feature["name"]: feature for feature in served.features}
    assert features["clinic"]["categories"] == list(dataset.column("clinic").categories)
    assert features["age"]["nullable"] is True


def test_a_table_without_a_feature_is_an_error_and_never_a_column_of_nulls(dataset: Dataset) -> None:
    encoder, table = encoder_of(dataset), rows(5)
    assert np.isnan(encoder.inputs(table.drop(columns=["age"]))[:, 0]).all()
    for name in ("clinic", "urgent"):
        with pytest.raises(KeyError, match=name):
            encoder.inputs(table.drop(columns=[name]))


def test_numbers_alone_may_be_optional_too() -> None:
    columns = (Column(name="x", role="feature", kind="float", nullable=True), DATASET.target)
    found = encoder_of(Dataset(name="numbers", columns=columns)).inputs(pd.DataFrame(index=range(2)))
    assert np.isnan(found).tolist() == [[True], [True]]
