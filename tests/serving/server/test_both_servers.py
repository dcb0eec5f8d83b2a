"""One contract, two servers: every test here runs against ``mlflow models serve`` and ``python -m serving.server``."""

import io
import json
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.pipeline import Pipeline

from bench.fuzz import Fuzzer
from data.paths import ROOT
from data.schema import FEATURES, feature_column
from serving.client.cli import score
from tests.project import Checkout, ProductionServer, records, responds, shot

JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
SPLIT: dict[str, Any] = {"columns": list(FEATURES), "data": [[shot()[name] for name in FEATURES]]}


def post(url: str, body: str | bytes | object, kind: str | None = JSON, **headers: str) -> requests.Response:
    data = body if isinstance(body, str | bytes) else json.dumps(body)
    with requests.Session() as session:
        session.trust_env = False
        request = requests.Request("POST", f"{url}/invocations", data=data, headers=headers).prepare()
        if kind is not None:
            request.headers["Content-Type"] = kind
        return session.send(request, timeout=60)


def probabilities(response: requests.Response) -> list[float]:
    assert response.status_code == 200, response.text
    return [response["probability"] for response in response.json()["predictions"]]


def parquet(table: pd.DataFrame) -> bytes:
    return table.to_parquet(index=False)


def frame(*shots: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame(list(shots or [shot()])).astype(float)


def features(shots: pd.DataFrame) -> pd.DataFrame:
    return shots.rename(columns={"lon": "lng"})[list(FEATURES)].astype(float).reset_index(drop=True)


WAYS: dict[str, Callable[[pd.DataFrame], tuple[str | bytes, str]]] = {
    "dataframe_split": lambda t: (json.dumps({"dataframe_split": t.to_dict("split", index=False)}), JSON),
    "split with index": lambda t: (json.dumps({"dataframe_split": t.to_dict("split")}), JSON),
    "dataframe_records": lambda t: (json.dumps({"dataframe_records": t.to_dict("records")}), JSON),
    "inputs by column": lambda t: (json.dumps({"inputs": t.to_dict("list")}), JSON),
    "inputs by row": lambda t: (json.dumps({"inputs": t.to_dict("records")}), JSON),
    "instances": lambda t: (json.dumps({"instances": t.to_dict("records")}), JSON),
    "csv": lambda t: (t.to_csv(index=False), CSV),
    "parquet": lambda t: (parquet(t), PARQUET),
    "parquet of 32 bits": lambda t: (parquet(t.astype({"period": "float32", "playoffs": "float32"})), PARQUET),
    "reordered": lambda t: (
        json.dumps({"dataframe_split": t[list(FEATURES)[::-1]].to_dict("split", index=False)}),
        JSON,
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_longitude_may_be_called_lon(server_url: str, shots: pd.DataFrame, way: str) -> None:
    table = features(shots).head(20)
    raw = table.rename(columns={"lng": "lon"})
    reordered = json.dumps({"dataframe_split": raw[raw.columns[::-1]].to_dict("split", index=False)})
    body = (reordered, JSON) if way == "reordered" else WAYS[way](raw)
    assert probabilities(post(server_url, *body)) == probabilities(post(server_url, *WAYS[way](table)))


@pytest.mark.parametrize("way", [way for way in WAYS if way != "reordered"])
def test_both_names_of_the_longitude_at_once_are_refused(server_url: str, shots: pd.DataFrame, way: str) -> None:
    table = features(shots).head(2)
    response = post(server_url, *WAYS[way](table.assign(lon=table["lng"])))
    assert response.status_code == 400
    assert "ambiguous columns ['lng', 'lon']" in response.json()["message"]
    assert_harmless(response)


SPELLINGS = {
    "lat": "LAT",
    "lng": "Longitude",
    "minutes_remaining": "Minutes Remaining",
    "shot_distance": "shotDistance",
}


@pytest.mark.parametrize("way", [way for way in WAYS if way != "reordered"])
def test_a_feature_is_found_under_any_spelling_of_its_name(server_url: str, shots: pd.DataFrame, way: str) -> None:
    table = features(shots).head(20)
    response = post(server_url, *WAYS[way](table.rename(columns=SPELLINGS)))
    assert probabilities(response) == probabilities(post(server_url, *WAYS[way](table)))
    assert "X-Ignored-Columns" not in response.headers


def test_an_exact_name_comes_before_other_spellings_which_are_refused_if_there_are_two(
    server_url: str, shots: pd.DataFrame
) -> None:
    table = features(shots).head(2)
    both = post(server_url, *WAYS["dataframe_records"](table.assign(LAT=0)))
    assert probabilities(both) == probabilities(post(server_url, *WAYS["dataframe_records"](table)))
    two = post(server_url, *WAYS["dataframe_records"](table.rename(columns={"lat": "LAT"}).assign(Lat=34)))
    assert two.status_code == 400
    assert "ambiguous columns ['LAT', 'Lat']" in two.json()["message"]


@pytest.mark.parametrize("way", [way for way in WAYS if way != "reordered"])
def test_other_columns_are_ignored(server_url: str, shots: pd.DataFrame, way: str) -> None:
    table = features(shots).head(20)
    wide = table.assign(loc_x=1, team_name="Los Angeles Lakers", shot_made_flag=1.0, when=None)
    response = post(server_url, *WAYS[way](wide))
    assert probabilities(response) == probabilities(post(server_url, *WAYS[way](table)))
    ignored = response.headers.get("X-Ignored-Columns", "loc_x, team_name, shot_made_flag, when")
    assert ignored == "loc_x, team_name, shot_made_flag, when"


def test_the_whole_public_table_gets_a_response(server_url: str, shots: pd.DataFrame) -> None:
    """All its columns, with texts, as ``to_json`` and ``to_parquet`` write them."""
    some = shots.head(30)
    expected = probabilities(post(server_url, parquet(features(some)), PARQUET))
    split = '{"dataframe_split": ' + some.to_json(orient="split") + "}"
    rows = '{"dataframe_records": ' + some.to_json(orient="records") + "}"
    for body, kind in ((split, JSON), (rows, JSON), (some.to_csv(index=False), CSV), (some.to_parquet(), PARQUET)):
        np.testing.assert_allclose(probabilities(post(server_url, body, kind)), expected, rtol=0, atol=1e-9)


POSITIONAL = [
    {"inputs": SPLIT["data"]},
    {"instances": SPLIT["data"]},
    {"inputs": SPLIT["data"][0]},
    {"dataframe_split": {"data": SPLIT["data"]}},
    {"dataframe_split": {"columns": list(range(6)), "data": SPLIT["data"]}},
]


@pytest.mark.parametrize("body", POSITIONAL, ids=str)
def test_rows_by_position_are_refused_with_the_order_of_the_names(server_url: str, body: object) -> None:
    response = post(server_url, body)
    assert response.status_code == 400
    assert str(list(FEATURES)) in response.json()["message"]
    assert "by position" in response.json()["message"]
    assert_harmless(response)


OTHER_FORMS = {
    "split of records": ({"dataframe_split": [shot()]}, "Dataframe split format must be a dictionary. Got list."),
    "empty split": ({"dataframe_split": []}, "Dataframe split format must be a dictionary. Got list."),
    "records by column": (
        {"dataframe_records": {name: [value] for name, value in shot().items()}},
        "Dataframe records format must be a list of records. Got dictionary.",
    ),
    "one record": (
        {"dataframe_records": shot()},
        "Dataframe records format must be a list of records. Got dictionary.",
    ),
}


@pytest.mark.parametrize("case", OTHER_FORMS)
def test_a_table_in_the_form_of_another_key_is_refused_in_mlflows_words(server_url: str, case: str) -> None:
    body, words = OTHER_FORMS[case]
    response = post(server_url, body)
    assert response.status_code == 400
    assert response.json()["error_code"] == "BAD_REQUEST"
    assert response.json()["message"] == f"Invalid input. {words}"


@pytest.mark.parametrize("path", ["/ping/", "/health/", "/version/", "/ping//"])
def test_a_slash_too_many_is_redirected(server_url: str, path: str) -> None:
    with requests.Session() as session:
        session.trust_env = False
        response = session.get(server_url + path, timeout=30, allow_redirects=False)
        assert response.status_code == 307
        assert response.headers["Location"].endswith(path.rstrip("/"))
        assert (
            session.get(server_url + path, timeout=30).text
            == session.get(server_url + path.rstrip("/"), timeout=30).text
        )


def test_a_request_to_invocations_with_a_slash_gets_a_response(server_url: str) -> None:
    with requests.Session() as session:
        session.trust_env = False
        response = session.post(f"{server_url}/invocations/?a=b", json=records(shot()), timeout=30)
        refused = session.post(f"{server_url}/invocations/", json=records(shot()), timeout=30, allow_redirects=False)
    assert len(probabilities(response)) == 1
    assert response.url == f"{server_url}/invocations?a=b"
    assert refused.status_code == 307


FORMS: dict[str, Callable[[dict[str, Any]], object]] = {
    "records": lambda one: one,
    "label": lambda one: one["shot_made_flag"],
    "probability": lambda one: one["probability"],
    "probabilities": lambda one: [1 - one["probability"], one["probability"]],
}


@pytest.mark.parametrize("output", FORMS)
@pytest.mark.parametrize("key", ["dataframe_records", "inputs"])
def test_predictions_come_in_the_form_that_is_requested(server_url: str, output: str, key: str) -> None:
    body = {key: [shot(), shot(period=2)]}
    usual = post(server_url, body).json()["predictions"]
    text = json.dumps(body | {"params": {"output": output}})
    # UTF-16 is left to MLflow's own parsers.
    for sent in (text, text.encode("utf-16")):
        assert post(server_url, sent).json()["predictions"] == [FORMS[output](one) for one in usual]


@pytest.mark.parametrize("params", [None, {}, {"output": None}, {"threshold": 0.5}], ids=str)
def test_without_a_form_predictions_are_records(server_url: str, params: object) -> None:
    assert post(server_url, records(shot()) | {"params": params}).json() == post(server_url, records(shot())).json()


def test_every_form_of_no_rows_is_an_empty_list(server_url: str) -> None:
    for output in FORMS:
        empty = {"dataframe_split": {"columns": list(FEATURES), "data": []}, "params": {"output": output}}
        assert post(server_url, empty).json() == {"predictions": []}


def test_the_arrow_stream_has_both_columns_whatever_the_form(production_server: ProductionServer) -> None:
    body = records(shot()) | {"params": {"output": "label"}}
    response = post(production_server.url, body, Accept="application/vnd.apache.arrow.stream")
    assert pa.ipc.open_stream(response.content).read_all().column_names == ["shot_made_flag", "probability"]


@pytest.mark.parametrize("way", WAYS)
def test_every_form_of_a_table_gets_the_estimators_predictions(
    server_url: str, served_checkout: tuple[Checkout, Pipeline], shots: pd.DataFrame, way: str
) -> None:
    table = features(shots).head(700)
    expected = served_checkout[1].predict_proba(table.to_numpy())[:, 1]
    body, kind = WAYS[way](table)
    response = post(server_url, body, kind)
    np.testing.assert_allclose(probabilities(response), expected, rtol=0, atol=1e-9)
    labels = [one["shot_made_flag"] for one in response.json()["predictions"]]
    assert labels == [int(value >= 0.5) for value in expected]


def test_the_client_gets_the_estimators_predictions(
    server_url: str, served_checkout: tuple[Checkout, Pipeline], shots: pd.DataFrame
) -> None:
    table = features(pd.concat([shots] * 4))
    expected = served_checkout[1].predict_proba(table.to_numpy())[:, 1]
    np.testing.assert_allclose(score(table, server_url)["probability"], expected, rtol=0, atol=1e-9)


def test_one_row_at_a_time_equals_all_at_once_in_any_order(server_url: str, shots: pd.DataFrame) -> None:
    table = features(shots).head(40)
    together = probabilities(post(server_url, *WAYS["dataframe_split"](table)))
    alone = [
        probabilities(post(server_url, *WAYS["dataframe_records"](table.iloc[[row]])))[0] for row in range(len(table))
    ]
    np.testing.assert_allclose(alone, together, rtol=0, atol=1e-12)
    order = np.random.default_rng(0).permutation(len(table))
    shuffled = probabilities(post(server_url, *WAYS["parquet"](table.iloc[order])))
    np.testing.assert_allclose(shuffled, np.array(together)[order], rtol=0, atol=1e-12)


VALID = {
    "integers": (records(shot(lat=34, lng=-118.2)), JSON),
    "numbers in quotes": (records(shot(lat="33.97")), JSON),
    "a boolean": (records(shot(playoffs=True)), JSON),
    "UTF-16": (json.dumps(records(shot())).encode("utf-16"), JSON),
    "a byte order mark": (b"\xef\xbb\xbf" + json.dumps(records(shot())).encode(), JSON),
    "a charset": (records(shot()), "application/json; charset=UTF-8"),
    "an unknown key next to the table": (records(shot()) | {"comment": "x"}, JSON),
    "an unknown parameter": (records(shot()) | {"params": {"temperature": 1}}, JSON),
    "params that are null": (records(shot()) | {"params": None}, JSON),
    "csv of integers": ("lat,lng,minutes_remaining,period,playoffs,shot_distance\n34,-118.1,1,1,0,10\n", CSV),
    "scalars by column": ({"inputs": shot()}, JSON),
    "scalars by column next to others": ({"inputs": shot(team_name="Lakers", shot_id=7)}, JSON),
    "the same key twice": (json.dumps(records(shot())).replace('"lat"', '"lat": 1, "lat"'), JSON),
    "parquet of texts": (parquet(frame().astype(str)), PARQUET),
}


@pytest.mark.parametrize("case", VALID)
def test_unusual_but_valid_bodies_get_responses(server_url: str, case: str) -> None:
    body, kind = VALID[case]
    assert 0 < probabilities(post(server_url, body, kind))[0] < 1


NO_ROWS = {
    "split": ({"dataframe_split": {"columns": list(FEATURES), "data": []}}, JSON),
    "records": ({"dataframe_records": []}, JSON),
    "inputs": ({"inputs": {name: [] for name in FEATURES}}, JSON),
    "csv": (",".join(FEATURES) + "\n", CSV),
    "parquet": (parquet(frame().iloc[:0]), PARQUET),
}


@pytest.mark.parametrize("case", NO_ROWS)
def test_no_rows_get_an_empty_response(server_url: str, case: str) -> None:
    assert post(server_url, *NO_ROWS[case]).json() == {"predictions": []}


def test_a_hundred_thousand_rows_get_responses(
    server_url: str, served_checkout: tuple[Checkout, Pipeline], shots: pd.DataFrame
) -> None:
    table = features(pd.concat([shots] * 17)).head(100_000)
    expected = served_checkout[1].predict_proba(table.to_numpy())[:, 1]
    np.testing.assert_allclose(probabilities(post(server_url, parquet(table), PARQUET)), expected, rtol=0, atol=1e-9)


def test_the_threshold_is_a_parameter_of_the_request(server_url: str) -> None:
    for threshold, label in ((0, 1), (1.0, 0)):
        response = post(server_url, records(shot()) | {"params": {"threshold": threshold}})
        assert response.json()["predictions"][0]["shot_made_flag"] == label


BAD: dict[str, tuple[object, str, list[str]]] = {
    "null": (records(shot(), shot(lat=None)), JSON, ["row 1", "column lat", "found null", "33.1568 to 34.0968"]),
    "NaN": (records(shot(lat=math.nan)), JSON, ["row 0", "lat", "found null"]),
    "infinity": (records(shot(lat=math.inf)), JSON, ["row 0", "lat", "found inf"]),
    "minus infinity": (records(shot(lat=-math.inf)), JSON, ["row 0", "lat", "found -inf"]),
    "too large for a double": (json.dumps(records(shot())).replace("33.9723", "1e999"), JSON, ["row 0", "lat", "inf"]),
    "huge integer": (records(shot(lat=10**400)), JSON, ["row 0", "lat", "found 1000", "33.1568"]),
    "out of range": (records(shot(period=99)), JSON, ["row 0", "period", "found 99", "an integer from 1 to 10"]),
    "not whole": (records(shot(period=1.5)), JSON, ["row 0", "period", "found 1.5", "an integer from 1 to 10"]),
    "text": (records(shot(), shot(lat="north")), JSON, ["row 1", "lat", "found 'north'", "33.1568 to 34.0968"]),
    "list": (records(shot(lat=[1])), JSON, ["row 0", "lat", "found [1]", "33.1568"]),
    "object": (records(shot(lat={"a": 1})), JSON, ["row 0", "lat", "found {'a': 1}"]),
    "boolean out of range": (records(shot(lat=True)), JSON, ["row 0", "lat", "found 1", "33.1568"]),
    "missing column": (records({k: v for k, v in shot().items() if k != "lat"}), JSON, ["lat"]),
    "missing in one row": (records(shot(), {k: v for k, v in shot().items() if k != "lat"}), JSON, ["row 1", "null"]),
    "no columns": ({"dataframe_split": {"data": [[1, 2]]}}, JSON, ["lat"]),
    "a column twice": (
        {"dataframe_split": {"columns": [*FEATURES, "lat"], "data": [[*SPLIT["data"][0], 33.9]]}},
        JSON,
        ["lat"],
    ),
    "a row too short": ({"dataframe_split": SPLIT | {"data": [SPLIT["data"][0], [33.9]]}}, JSON, ["row 1", "lng"]),
    "csv text": (frame(shot(), shot()).to_csv(index=False).replace("33.9723", "x", 1), CSV, ["row 0", "lat", "'x'"]),
    "csv null": (",".join(FEATURES) + "\n,,,,,\n", CSV, ["row 0", "lat", "null"]),
    "csv infinity": (frame(shot(lat=math.inf)).to_csv(index=False), CSV, ["row 0", "lat", "inf"]),
    "parquet null": (parquet(frame().assign(lat=np.nan)), PARQUET, ["row 0", "lat", "null"]),
    "parquet text": (parquet(frame().astype(object).assign(lat="x").astype({"lat": str})), PARQUET, ["lat", "'x'"]),
    "a column twice in csv": (
        frame().assign(again=34.0).to_csv(index=False).replace("again", "lat"),
        CSV,
        ["'lat' found 2 times"],
    ),
    "no form": (records(shot()) | {"params": {"output": "labels"}}, JSON, ["output", "'labels'", "probabilities"]),
    "a number as form": (records(shot()) | {"params": {"output": 1}}, JSON, ["output", "1"]),
    "a list as form": (records(shot()) | {"params": {"output": ["label"]}}, JSON, ["output", "label"]),
    "no form of no rows": ({"dataframe_records": [], "params": {"output": "x"}}, JSON, ["output", "'x'"]),
    "lon out of range": (records(shot(lng=None) | {"lon": 1}), JSON, ["ambiguous"]),
    "no number as threshold": (records(shot()) | {"params": {"threshold": "x"}}, JSON, ["threshold"]),
    "null as threshold": (records(shot()) | {"params": {"threshold": None}}, JSON, ["threshold", "null"]),
    "threshold out of range": (records(shot()) | {"params": {"threshold": 2}}, JSON, ["threshold", "2", "0 to 1"]),
    "params that are a list": (records(shot()) | {"params": [1]}, JSON, ["list"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_rows_are_refused_with_row_column_value_and_range(server_url: str, case: str) -> None:
    body, kind, words = BAD[case]
    response = post(server_url, body, kind)
    assert response.status_code == 400
    for word in words:
        assert word in response.json()["message"]
    assert_harmless(response)


UNREADABLE: dict[str, tuple[object, str | None]] = {
    "empty": ("", JSON),
    "cut off": (json.dumps(records(shot()))[:-20], JSON),
    "something behind": (json.dumps(records(shot())) + "}", JSON),
    "a list": ([shot()], JSON),
    "a number": (5, JSON),
    "null": (None, JSON),
    "no table": ({}, JSON),
    "two tables": ({"dataframe_split": SPLIT, **records(shot())}, JSON),
    "table is null": ({"dataframe_split": None}, JSON),
    "records are numbers": ({"dataframe_records": [1, 2]}, JSON),
    "columns are no names": ({"dataframe_split": {"columns": [1, None, {}, [], 2, 3], "data": SPLIT["data"]}}, JSON),
    "nested too deep": ("[" * 100_000, JSON),
    "a table that nests too deep": ('{"dataframe_records":' + "[" * 5_000 + "]" * 5_000 + "}", JSON),
    "a tensor": ({"inputs": SPLIT["data"]}, JSON),
    "nested columns": ({"inputs": {name: [[1]] for name in FEATURES}}, JSON),
    "a chat": ({"messages": []}, JSON),
    "not UTF-8": (b'{"\xff": 1}', JSON),
    "empty csv": ("", CSV),
    "ragged csv": (",".join(FEATURES) + "\n1,2,3,4,5,6\n1,2,3,4,5,6,7,8,9\n", CSV),
    "csv that is not UTF-8": (b"\xff\xfe\x00", CSV),
    "csv of zeros": (b"\x00" * 20, CSV),
    "empty parquet": (b"", PARQUET),
    "cut off parquet": (parquet(frame())[:300], PARQUET),
    "no parquet": (b"PAR1" * 40, PARQUET),
    "other parquet": (parquet(pd.DataFrame({"x": [1]})), PARQUET),
    "json declared as parquet": (records(shot()), PARQUET),
    "no content type": (records(shot()), None),
    "another content type": (records(shot()), "text/xml"),
    "another charset": (records(shot()), "application/json; charset=latin-1"),
    "another parameter": (records(shot()), "application/json; version=2"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_is_no_table_is_rejected_with_a_message(server_url: str, case: str) -> None:
    body, kind = UNREADABLE[case]
    response = post(server_url, body if body is not None else "null", kind)
    assert response.status_code in {400, 415}
    assert response.text.strip()
    assert_harmless(response)


def assert_harmless(response: requests.Response) -> None:
    """Neither a stack trace nor a path of the server, and nothing longer than a person reads."""
    assert response.status_code < 500
    for word in ("Traceback", "stack_trace", "site-packages", str(ROOT)):
        assert word not in response.text
    assert len(response.content) < 5_000


@pytest.mark.parametrize("kind", [JSON, CSV, PARQUET])
def test_twenty_megabytes_that_are_no_table_are_refused_briefly(server_url: str, kind: str) -> None:
    response = post(server_url, b"\x7b" * 20_000_000, kind)
    assert response.status_code in {400, 413}
    assert_harmless(response)


def test_as_many_shots_as_the_public_files_have_fit_in_one_body_of_json(server_url: str) -> None:
    row = json.dumps({**dict(zip(FEATURES, [33.9, -118.2, 1, 1, 0, 10], strict=True)), "shot_id": 1})
    body = f'{{"dataframe_records": [{", ".join([row] * 30_697)}]}}'
    assert len(probabilities(post(server_url, body))) == 30_697


cell = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.integers(), max_size=2),
    st.floats(33, 35),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=st.fixed_dictionaries(dict.fromkeys(FEATURES, cell)))
def test_any_cells_are_scored_or_refused_by_name(server_url: str, row: dict[str, object]) -> None:
    response = post(server_url, records(row))
    assert_harmless(response)
    if response.status_code == 200:
        assert 0 <= probabilities(response)[0] <= 1
        assert all(is_inside(name, value) for name, value in row.items())
    else:
        assert any(name in response.text for name in FEATURES)


def is_inside(name: str, value: Any) -> bool:  # noqa: ANN401
    column = feature_column(name)
    return bool(column.minimum <= float(value) <= column.maximum)  # type: ignore[operator]


valid_rows = st.lists(
    st.tuples(
        st.floats(33.1568, 34.0968),
        st.floats(-118.5198, -118.0198),
        st.floats(0, 12),
        st.integers(1, 10),
        st.integers(0, 1),
        st.floats(0, 94),
    ),
    min_size=1,
    max_size=20,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=valid_rows, way=st.sampled_from(["dataframe_split", "dataframe_records", "inputs by column", "parquet"]))
def test_every_valid_row_is_scored_as_the_estimator_does(
    server_url: str, served_checkout: tuple[Checkout, Pipeline], rows: list[tuple[float, ...]], way: str
) -> None:
    table = pd.DataFrame(rows, columns=list(FEATURES)).astype(float)
    expected = served_checkout[1].predict_proba(table.to_numpy())[:, 1]
    np.testing.assert_allclose(probabilities(post(server_url, *WAYS[way](table))), expected, rtol=0, atol=1e-9)


def broken_bodies(seed: int) -> Fuzzer:
    table = frame(shot(), shot(period=2), shot(lat=34.04))
    seeds = [way(table) for way in WAYS.values()] + [
        (body if isinstance(body, str | bytes) else json.dumps(body), kind)
        for body, kind in [*VALID.values(), *NO_ROWS.values(), *((b, k) for b, k, _ in BAD.values())]
    ]
    return Fuzzer(seed, seeds)


def test_a_fuzzer_gets_no_error_of_the_server_and_no_nan(
    server_url: str,
    pytestconfig: pytest.Config,
    record_property: Callable[[str, object], None],
) -> None:
    count, seed = pytestconfig.getoption("--bodies"), random.SystemRandom().randrange(2**32)
    fuzzer, statuses, memory = broken_bodies(seed), dict[int, int](), list[float]()
    with requests.Session() as session:
        session.trust_env = False
        for number in range(count):
            data, kind = fuzzer.body()
            request = requests.Request("POST", f"{server_url}/invocations", data=data).prepare()
            if kind is not None:
                request.headers["Content-Type"] = kind
            response = session.send(request, timeout=60)
            assert response.status_code < 500, f"seed {seed}, body {number}: {kind} {data[:300]!r}"
            statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
            if response.status_code == 200:
                for one in response.json()["predictions"]:
                    assert 0 <= one["probability"] <= 1, f"seed {seed}, body {number}: {kind} {data[:300]!r}"
            if number % max(1, count // 20) == 0:
                memory.append(megabytes_behind(server_url))
    assert responds(server_url)
    assert statuses.get(200, 0) > count / 50
    record_property("statuses", statuses)
    print(f"{server_url}: {count} bodies, seed {seed}: {statuses}; memory in MB: {[round(value) for value in memory]}")  # noqa: T201
    settled = memory[len(memory) // 4 :]
    assert max(settled) < 1.25 * settled[0] + 20, memory


def megabytes_behind(url: str) -> float:
    port = int(url.rpartition(":")[2])
    owners = {c.pid for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port and c.status == "LISTEN"}
    processes = {
        p.pid: p for owner in owners if owner for p in [psutil.Process(owner), *psutil.Process(owner).children()]
    }
    return sum(process.memory_info().rss for process in processes.values()) / 1e6


def test_integer_and_boolean_columns_in_parquet_are_taken(server_url: str) -> None:
    whole = frame().astype({"period": "int64", "playoffs": "bool", "minutes_remaining": "int32"})
    assert probabilities(post(server_url, parquet(whole), PARQUET)) == probabilities(
        post(server_url, parquet(frame()), PARQUET)
    )


def test_a_table_that_is_long_or_wide_to_an_extreme_is_refused(server_url: str) -> None:
    long = parquet(pd.DataFrame({name: np.zeros(500_001) for name in FEATURES}))
    assert "at most 500,000 rows" in post(server_url, long, PARQUET).json()["message"]
    wide = {"dataframe_records": [{str(number): 1} for number in range(1_000)]}
    assert "at most 200 columns" in post(server_url, wide).json()["message"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (records(shot(shot_id="a7")), JSON),
        ({"inputs": [shot(shot_id="a7")]}, JSON),
        (records(shot(shot_id=1.5)), JSON),
        (pd.DataFrame([shot(shot_id="a7")]).to_csv(index=False), CSV),
    ],
)
def test_the_production_server_rejects_a_shot_id_that_is_not_an_integer(
    production_server: ProductionServer, body: object, kind: str
) -> None:
    response = post(production_server.url, body, kind)
    assert response.status_code == 400
    assert "row 0, column shot_id" in response.json()["message"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (records(shot(color="red")), JSON),
        ({"inputs": [shot(color="red")]}, JSON),
        (records(shot(color="red")) | {"params": {"temperature": 1}}, JSON),
        ({"inputs": {name: [value] for name, value in shot(color=1).items()}}, JSON),
        (frame().assign(color=1).to_csv(index=False), CSV),
        (parquet(frame().assign(color=1)), PARQUET),
    ],
    ids=["records", "inputs by row", "with a parameter", "inputs", "csv", "parquet"],
)
def test_the_production_server_names_the_columns_it_ignores(
    production_server: ProductionServer, body: object, kind: str
) -> None:
    response = post(production_server.url, body, kind)
    assert probabilities(response) == probabilities(post(production_server.url, records(shot())))
    assert response.headers["X-Ignored-Columns"] == "color"


def test_names_of_ignored_columns_cannot_break_the_headers(production_server: ProductionServer) -> None:
    response = post(production_server.url, records(shot(**{"a\r\nSet-Cookie: x": 1, "é, 日本": 2, "l" * 500: 3})))
    assert response.status_code == 200
    assert "Set-Cookie" not in response.headers
    assert (
        response.headers["X-Ignored-Columns"] == f"a%0D%0ASet-Cookie%3A%20x, %C3%A9%2C%20%E6%97%A5%E6%9C%AC, {'l' * 40}"
    )


def test_an_identifier_that_is_duplicate_is_refused(production_server: ProductionServer) -> None:
    body = {"dataframe_split": {"columns": [*FEATURES, "shot_id", "shot_id"], "data": [[*SPLIT["data"][0], 1, 2]]}}
    response = post(production_server.url, body)
    assert response.status_code == 400
    assert "'shot_id' found 2 times" in response.json()["message"]


def test_the_production_server_returns_an_arrow_stream_where_that_is_accepted(
    production_server: ProductionServer,
) -> None:
    stream = "application/vnd.apache.arrow.stream"
    response = post(production_server.url, records(shot(), shot(period=2)), Accept=stream)
    assert response.headers["Content-Type"] == stream
    table = pa.ipc.open_stream(response.content).read_all()
    assert table.column("probability").to_pylist() == probabilities(
        post(production_server.url, records(shot(), shot(period=2)))
    )
    for refused in (f"{stream};q=0", f"application/json, {stream} ; q=0.0"):
        response = post(production_server.url, records(shot()), Accept=refused)
        assert response.headers["Content-Type"] == "application/json"


def test_a_parquet_file_with_the_index_of_pandas_gets_a_response(server_url: str) -> None:
    table = frame(shot(), shot(period=2), shot())
    table.index = pd.Index([7, 3, 9], name="number")
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(table), sink)
    assert len(probabilities(post(server_url, sink.getvalue(), PARQUET))) == 3
