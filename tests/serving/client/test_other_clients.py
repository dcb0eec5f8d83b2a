"""Clients of other projects that solve the same brief, and MLflow's own commands, as they are written."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import requests
from sklearn.pipeline import Pipeline

from data.schema import FEATURES
from serving.client.cli import score
from tests.project import Checkout, ok, run_mlflow_server, run_production_server

RAW = ["lat", "lon", *FEATURES[2:]]


@pytest.fixture(scope="module")
def rows(shots: pd.DataFrame) -> pd.DataFrame:
    """Shots as the public file has them, the index of a filtered table, integers where they are whole."""
    some = shots[shots["period"] > 1].head(50)
    whole = dict.fromkeys(("minutes_remaining", "period", "playoffs", "shot_distance"), "int64")
    return some.astype(whole)


@pytest.fixture(scope="module")
def expected(rows: pd.DataFrame, served_checkout: tuple[Checkout, Pipeline]) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """P(made) of `rows` by the estimator."""
    probability: np.ndarray[Any, np.dtype[np.float64]] = served_checkout[1].predict_proba(
        rows[RAW].to_numpy(dtype=float)
    )
    return probability[:, 1]


@pytest.fixture(scope="module", params=["mlflow", "production"])
def label_server(request: pytest.FixtureRequest, served_checkout: tuple[Checkout, Pipeline]) -> Iterator[str]:
    """Each server, started to return labels."""
    if request.param == "mlflow":
        with run_mlflow_server(served_checkout[0], KOBE_SHOT_OUTPUT="label") as url:
            yield url
    else:
        with run_production_server(served_checkout[0], "--output", "label", workers=1) as server:
            yield server.url


def post(url: str, body: object) -> Any:  # noqa: ANN401
    response = requests.post(f"{url}/invocations", json=body, timeout=30)
    assert response.status_code == 200, response.text
    return response.json()["predictions"]


def sent(rows: pd.DataFrame) -> dict[str, object]:
    """Bodies of public clients, by what they do."""
    table = rows[RAW]
    return {
        "a split with the index of pandas": {"dataframe_split": json.loads(table.to_json(orient="split"))},
        "to_dict": {"dataframe_split": table.to_dict(orient="split")},
        "columns by name": {"inputs": table.to_dict(orient="list")},
        "records": {"dataframe_records": table.to_dict(orient="records")},
        "instances": {"instances": table.to_dict(orient="records")},
        "the label next to the features": {
            "dataframe_split": rows[[*RAW, "loc_x"]].assign(shot_made_flag=1).to_dict(orient="split")
        },
        "all columns, texts among them": {"dataframe_split": json.loads(rows.to_json(orient="split"))},
    }


def test_public_clients_get_responses(server_url: str, rows: pd.DataFrame, expected: "np.ndarray[Any, Any]") -> None:
    for name, body in sent(rows).items():
        response = pd.DataFrame(post(server_url, body))
        np.testing.assert_allclose(response["probability"], expected, rtol=0, atol=1e-9, err_msg=name)


def test_clients_that_read_labels_get_labels(
    label_server: str, rows: pd.DataFrame, expected: "np.ndarray[Any, Any]"
) -> None:
    for name, body in sent(rows).items():
        predictions = post(label_server, body)
        shown = ["Acertou" if prediction == 1 else "Errou" for prediction in predictions]
        assert shown == ["Acertou" if value >= 0.5 else "Errou" for value in expected], name


def test_a_client_may_request_for_another_form_than_the_servers(
    label_server: str, rows: pd.DataFrame, expected: "np.ndarray[Any, Any]"
) -> None:
    body = {"dataframe_split": rows[RAW].to_dict(orient="split")}
    pairs = post(label_server, body | {"params": {"output": "probabilities"}})
    np.testing.assert_allclose([pair[1] for pair in pairs], expected, rtol=0, atol=1e-9)
    rounded = [round(value) for value in post(label_server, body | {"params": {"output": "probability"}})]
    assert rounded == [int(value > 0.5) for value in expected]
    assert post(label_server, body | {"params": {"output": "records"}})[0].keys() == {"shot_made_flag", "probability"}


def test_our_client_gets_both_from_a_server_of_labels(
    label_server: str, rows: pd.DataFrame, expected: "np.ndarray[Any, Any]"
) -> None:
    response = score(rows, label_server)
    np.testing.assert_allclose(response["probability"], expected, rtol=0, atol=1e-9)


def test_a_body_of_mlflow_1_is_refused_with_what_to_send(server_url: str, rows: pd.DataFrame) -> None:
    response = requests.post(f"{server_url}/invocations", json=rows[RAW].to_dict("split", index=False), timeout=30)
    assert response.status_code == 400
    assert "dataframe_split" in response.json()["message"]


def test_five_thousand_rows_get_responses(server_url: str, rows: pd.DataFrame) -> None:
    table = pd.concat([rows[RAW]] * 109, ignore_index=True)
    for body in ({"inputs": table.to_dict("list")}, {"dataframe_records": table.to_dict("records")}):
        assert len(post(server_url, body)) == 5_450


def test_a_server_refuses_to_start_with_a_form_that_there_is_none_of(
    served_checkout: tuple[Checkout, Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-m", "serving.server", "--port", "0"]
    refused = served_checkout[0].command(*command, "--output", "labels")
    assert refused.returncode == 2
    assert "'probabilities'" in refused.stdout + refused.stderr
    monkeypatch.setenv("KOBE_SHOT_OUTPUT", "labels")
    refused = served_checkout[0].command(*command)
    assert refused.returncode == 1
    assert "KOBE_SHOT_OUTPUT: expected one of records" in " ".join((refused.stdout + refused.stderr).split())


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_mlflows_command_predicts_integers(
    served_checkout: tuple[Checkout, Pipeline],
    rows: pd.DataFrame,
    expected: "np.ndarray[Any, Any]",
    tmp_path: Path,
    kind: str,
) -> None:
    file, out = tmp_path / f"shots.{kind}", tmp_path / "out.json"
    if kind == "csv":
        rows[RAW].to_csv(file, index=False)
    else:
        body = {"dataframe_split": rows[RAW].to_dict("split"), "params": {"output": "probability"}}
        file.write_text(json.dumps(body))
    command = ["mlflow", "models", "predict", "-m", "models:/kobe_shot/Production", "--env-manager", "local"]
    ok(served_checkout[0].command(*command, "-i", str(file), "-t", kind, "-o", str(out)))
    predictions = json.loads(out.read_text())["predictions"]
    found = [one["probability"] for one in predictions] if kind == "csv" else predictions
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
