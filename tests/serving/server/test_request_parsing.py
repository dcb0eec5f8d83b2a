"""Bodies as the production server parses them, without a server."""

import json
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.pyfunc import PyFuncModel
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

from serving.model.scoring_model import OUTPUT_VARIABLE, Columns
from serving.server.request_parsing import CSV, JSON, RequestParser, error_json, predictions_arrow

ROWS = {"columns": ["b", "a", "id", "note"], "data": [[1.5, 2, 7, "x"], [None, 4, 9, "y"]]}
ALLOWED = {"a": "a number", "b": "a float from 0 to 2"}


def parser(threshold: float | None = 0.25, texts: str = "", **options: Any) -> RequestParser:  # noqa: ANN401 those of the parser
    """Parser of a model with the features a and b, and b may be null."""
    params = [ParamSpec("threshold", DataType.double, threshold), ParamSpec("output", DataType.string, None)]
    signature = ModelSignature(
        inputs=Schema([ColSpec(DataType.double, "a"), ColSpec(DataType.double, "b", required=False)]),
        params=None if threshold is None else ParamSchema(params),
    )
    pyfunc = cast("PyFuncModel", SimpleNamespace(metadata=Model(signature=signature)))
    columns = Columns(["a", "b"], {}, identifier="id", optional=frozenset({"b"}), texts=frozenset(texts))
    return RequestParser(pyfunc, ALLOWED, columns, **options)


def body(payload: object = None, **params: object) -> bytes:
    content = {"dataframe_split": payload or ROWS}
    return json.dumps(content | ({"params": params} if params else {})).encode()


def refused(content: bytes, **options: Any) -> MlflowException:  # noqa: ANN401 those of the parser
    with pytest.raises(MlflowException) as caught:
        parser(**options).parse(content, JSON)
    assert caught.value.get_http_status_code() == 400
    return caught.value


def test_a_request_has_the_features_in_the_order_of_the_model_and_the_identifiers() -> None:
    found = parser().parse(body(), JSON)
    np.testing.assert_array_equal(found.values, [[2, 1.5], [4, np.nan]])
    assert found.shot_id is not None
    assert (found.shot_id.tolist(), str(found.shot_id.dtype)) == ([7, 9], "int64")
    assert (list(found.ignored), dict(found.texts)) == (["note"], {})
    without = parser().parse(b"a,b\n1,2\n", CSV)
    assert (without.values.tolist(), without.shot_id, list(without.ignored)) == ([[1, 2]], None, [])  # noqa: PD011


def test_threshold_and_output_are_those_of_the_request_else_of_the_model_and_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = parser().parse(body(), JSON)
    assert (found.threshold, found.output) == (0.25, "records")
    assert parser(threshold=None).parse(body(), JSON).threshold == 0.5
    given = parser().parse(body(threshold=0, output="label"), JSON)
    assert (given.threshold, given.output) == (0, "label")
    monkeypatch.setenv(OUTPUT_VARIABLE, "probabilities")
    assert parser().parse(body(), JSON).output == "probabilities"
    assert parser().parse(body(output="label"), JSON).output == "label"


def test_a_payload_that_only_mlflow_reads_is_parsed_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = {"b": [1.5], "a": 2}
    found = parser().parse(json.dumps({"inputs": inputs}).encode(), JSON)
    assert (found.values.tolist(), str(found.values.dtype)) == ([[2, 1.5]], "float64")  # noqa: PD011
    assert (found.threshold, found.shot_id, found.output, dict(found.texts)) == (0.25, None, "records", {})
    assert parser(threshold=None).parse(json.dumps({"inputs": inputs}).encode(), JSON).threshold == 0.5
    params = {"threshold": 0, "output": "label"}
    given = parser().parse(json.dumps({"inputs": inputs, "params": params}).encode(), JSON)
    assert (given.threshold, given.output) == (0, "label")
    monkeypatch.setenv(OUTPUT_VARIABLE, "probabilities")
    assert parser().parse(json.dumps({"inputs": inputs}).encode(), JSON).output == "probabilities"


def test_a_model_that_takes_strings_reads_the_table_that_mlflow_has_parsed() -> None:
    def read(table: pd.DataFrame) -> tuple[Any, dict[int, list[str]]]:
        return table[["b"]].to_numpy(), {0: ["north"]}

    found = parser(read=read).parse(json.dumps({"inputs": {"a": 2.0, "b": [1.5]}}).encode(), JSON)
    assert (found.values.tolist(), found.texts) == ([[1.5]], {0: ["north"]})  # noqa: PD011


def test_a_payload_that_mlflow_refuses_too_is_refused_without_a_stack_trace() -> None:
    error = refused(json.dumps({"dataframe_records": {"a": 1}}).encode())
    assert error.message == "Invalid input. Dataframe records format must be a list of records. Got dictionary."
    assert "stack_trace" not in error.json_kwargs

    def read(table: pd.DataFrame) -> Any:  # noqa: ANN401 never returns
        return table["missing"]

    error = refused(json.dumps({"inputs": {"a": 2.0, "b": [1.5]}}).encode(), read=read)
    assert error.message == "The body could not be read as a table: KeyError."


@pytest.mark.parametrize(
    ("number", "shown"),
    [(2**53, "9.007199255e+15"), (-(2**53), "-9.007199255e+15"), (1.5, "1.5"), (None, "no number")],
)
def test_an_identifier_that_no_integer_holds_is_refused_with_its_row(number: float | None, shown: str) -> None:
    error = refused(body({"columns": ["a", "id"], "data": [[1, 2**53 - 1], [1, number]]}))
    assert error.error_code == "INVALID_PARAMETER_VALUE"
    assert error.message == f"No row was scored. row 1, column id: found {shown}, expected an integer"


def test_a_wrong_cell_is_refused_with_what_was_expected() -> None:
    assert (
        "row 0, column b: found 'x', expected a float from 0 to 2"
        in refused(body({"columns": ["a", "b"], "data": [[1, "x"]]})).message
    )


def test_the_arrow_stream_has_labels_and_probabilities() -> None:
    stream = predictions_arrow(np.array([0, 1]), np.array([0.25, 0.75]), "returned")
    assert pa.ipc.open_stream(stream).read_all().to_pydict() == {"returned": [0, 1], "probability": [0.25, 0.75]}
    assert pa.ipc.open_stream(predictions_arrow(np.array([1]), np.array([0.5]))).schema.names == [
        "shot_made_flag",
        "probability",
    ]


def test_strings_of_a_request_are_numbered_by_feature() -> None:
    found = parser(texts="b").parse(body({"columns": ["a", "b"], "data": [[1, "x"], [2, "y"]]}), JSON)
    assert {place: list(texts) for place, texts in found.texts.items()} == {1: ["x", "y"]}
    assert found.values.tolist() == [[1, 0], [2, 1]]  # noqa: PD011 not those of pandas


def test_an_error_has_the_form_of_mlflow_even_if_its_text_is_no_valid_unicode() -> None:
    assert json.loads(error_json("BAD_REQUEST", "expected \ud800 é")) == {
        "error_code": "BAD_REQUEST",
        "message": "expected ? é",
    }
