"""Both servers conform to the published description: schemathesis runs all of its checks."""

import json
from typing import Any

import pytest
import requests
import schemathesis.openapi
from jsonschema_rs import Draft202012Validator
from sklearn.pipeline import Pipeline

from data.schema import FEATURES
from serving.server.openapi import description
from tests.project import Checkout, ProductionServer, ok, records, shot
from tests.serving.server.test_both_servers import BAD, FORMS, JSON, NO_ROWS, OTHER_FORMS, SPLIT, UNREADABLE
from tools.openapi import PUBLISHED, render

SHARED = ("/invocations", "/ping", "/health", "/version")
"""Paths of the front server."""


def schemathesis_run(checkout: Checkout, url: str, *options: str) -> str:
    """What ``schemathesis run`` prints about a server that has no failure."""
    command = ["schemathesis", "run", str(PUBLISHED), "--url", url, "--checks", "all", "--no-color", *options]
    return ok(checkout.command(*command, "--seed", "1", "--generation-database", "none"))


def test_the_production_server_does_what_is_published(
    production_server: ProductionServer, served_checkout: tuple[Checkout, Pipeline]
) -> None:
    output = schemathesis_run(served_checkout[0], production_server.url, "--max-examples", "40")
    assert "Selected: 7/7" in output
    assert "Tested: 7" in output


def test_the_mlflow_server_does_what_is_published_of_it(
    mlflow_server_url: str, served_checkout: tuple[Checkout, Pipeline]
) -> None:
    paths = [option for path in SHARED for option in ("--include-path", path)]
    # It ignores every shot_id, which the description, and the production server, refuse where it is no integer.
    options = ["--exclude-checks", "negative_data_rejection", "--max-examples", "20"]
    assert "Tested: 4" in schemathesis_run(served_checkout[0], mlflow_server_url, *paths, *options)


def test_the_published_file_is_generated_from_the_code() -> None:
    assert PUBLISHED.read_text(encoding="utf-8") == render(), "run: python -m tools.openapi"


def test_the_production_server_serves_the_published_description(production_server: ProductionServer) -> None:
    served = requests.get(f"{production_server.url}/openapi.json", timeout=5)
    assert served.headers["Content-Type"] == JSON
    assert served.json() == description()


def test_the_description_is_valid_openapi() -> None:
    schemathesis.openapi.from_dict(description()).validate()


def is_valid(body: object) -> bool:
    """Whether a JSON body is one of those that the description promises an response."""
    components = description()["components"]
    return Draft202012Validator({"$ref": "#/components/schemas/Table", "components": components}).is_valid(body)


DESCRIBED: dict[str, object] = {
    **{name: body for name, (body, kind) in NO_ROWS.items() if kind == JSON and name != "inputs"},
    "records": records(shot(), shot(period=10)),
    "split": {"dataframe_split": SPLIT},
    "identified": {"inputs": [shot(shot_id=7), shot(shot_id="8")]},
    "numbers in quotes": {"instances": [shot(lat="33.97", period="4", shot_distance="18.0")]},
    "booleans": records(shot(playoffs=True, minutes_remaining=False)),
    "a parameter": records(shot()) | {"params": {"threshold": 0.4, "temperature": 1}},
    "lon": records({"lon": -118.1} | {name: value for name, value in shot().items() if name != "lng"}),
    "other columns": records(shot(team_name="Lakers", loc_x=3)),
    **{f"the form {form}": records(shot()) | {"params": {"output": form}} for form in FORMS},
    "further keys": {"dataframe_split": SPLIT | {"index": [1, 2, 3], "source": "x"}, "comment": "x"},
}


@pytest.mark.parametrize("case", DESCRIBED)
def test_what_is_described_gets_a_response(server_url: str, case: str) -> None:
    assert is_valid(DESCRIBED[case])
    response = requests.post(f"{server_url}/invocations", json=DESCRIBED[case], timeout=30)
    assert response.status_code == 200, response.text


REFUSED = {
    name: body
    for name, (body, kind, *_) in {**BAD, **UNREADABLE}.items()
    if kind == JSON and not isinstance(body, str | bytes)
} | {name: body for name, (body, _) in OTHER_FORMS.items()}


def has_no_json(value: Any) -> bool:  # noqa: ANN401
    """Whether a body holds a number that JSON does not have, which no schema covers."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize("case", [name for name, body in REFUSED.items() if not has_no_json(body)])
def test_what_both_servers_refuse_is_not_described(case: str) -> None:
    assert not is_valid(REFUSED[case])


@pytest.mark.parametrize("data", [{}, None, "", {name: [] for name in FEATURES}], ids=str)
def test_a_split_table_whose_rows_are_no_list_is_refused(server_url: str, data: object) -> None:
    response = requests.post(f"{server_url}/invocations", json={"dataframe_split": SPLIT | {"data": data}}, timeout=30)
    assert response.status_code == 400
    assert "a list of rows" in response.json()["message"]


def test_a_row_has_one_prediction_whatever_its_index_and_the_keys_next_to_it(server_url: str) -> None:
    body = {"dataframe_split": SPLIT | {"index": [1, 2, 3]}, "comment": "x"}
    response = requests.post(f"{server_url}/invocations", json=body, timeout=30)
    assert len(response.json()["predictions"]) == 1


@pytest.mark.parametrize("params", [{"threshold": 2}, {"threshold": None}, [1]], ids=str)
@pytest.mark.parametrize("form", ["dataframe_records", "instances"])
def test_wrong_parameters_are_refused_where_there_are_no_rows(server_url: str, form: str, params: object) -> None:
    response = requests.post(f"{server_url}/invocations", json={form: [], "params": params}, timeout=30)
    assert response.status_code == 400
    assert "expected" in response.json()["message"]


@pytest.mark.parametrize("key", ["messages", "prompt", "input"])
@pytest.mark.parametrize("rows", [[], [shot()]], ids=["no rows", "a row"])
def test_a_body_of_a_language_model_is_refused(server_url: str, key: str, rows: list[dict[str, object]]) -> None:
    response = requests.post(f"{server_url}/invocations", json={"dataframe_records": rows, key: 1}, timeout=30)
    assert response.status_code == 400
