"""Against a small HTTP server that misbehaves as instructed; the real server is met in the end-to-end tests."""

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.schema import FEATURES
from serving.client.cli import score
from serving.client.endpoint import ROWS_PER_REQUEST, RejectedRowsError, ScoringError
from serving.server.subprocesses import ServerError, check_alive
from tests.project import free_port

Response = tuple[int, object]


@dataclass
class Recorded:
    """What the server was sent, and what it is to response."""

    url: str = ""
    response: Callable[[list[list[float]]], Response] = lambda rows: (200, right(rows))
    requests: list[list[list[float]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    params: list[object] = field(default_factory=list)
    takes_parquet: bool = True


def right(rows: list[list[float]]) -> object:
    """Predictions that can be traced to their rows: the probability is the distance in hundredths."""
    return {"predictions": [{"shot_made_flag": int(row[5] > 50), "probability": row[5] / 100} for row in rows]}


@pytest.fixture
def raised() -> Iterator[Recorded]:
    raised = Recorded()
    lock = threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(200 if self.path == "/ping" else 404, "")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers["Content-Type"] != "application/json":
                if not raised.takes_parquet:
                    self._send(415, "This predictor only supports JSON.")
                    return
                table = pq.read_table(pa.BufferReader(body))
            else:
                payload = json.loads(body)
                raised.params.append(payload.get("params"))
                split = payload["dataframe_split"]
                table = pa.table(list(zip(*split["data"], strict=True)), names=split["columns"])
            assert table.column_names == list(FEATURES)
            assert set(table.schema.types) == {pa.float64()}
            rows = table.to_pandas().to_numpy().tolist()
            with lock:
                raised.requests.append(rows)
                raised.headers.append(dict(self.headers))
                status, response = raised.response(rows)
            self._send(status, response)

        def _send(self, status: int, response: object) -> None:
            text = response.encode() if isinstance(response, str) else json.dumps(response).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        raised.url = f"http://127.0.0.1:{server.server_port}"
        yield raised
        server.shutdown()


def table(rows: int) -> pd.DataFrame:
    columns = {name: np.zeros(rows) for name in FEATURES} | {"shot_distance": np.arange(rows) % 90.0}
    return pd.DataFrame({"shot_id": np.arange(rows), **columns})


@pytest.mark.parametrize("takes_parquet", [True, False], ids=["parquet", "json"])
def test_predictions_are_in_order_under_the_index_of_the_table(raised: Recorded, *, takes_parquet: bool) -> None:
    raised.takes_parquet = takes_parquet
    shots = table(2 * ROWS_PER_REQUEST + 17).sample(frac=1, random_state=0)
    responses = score(shots, raised.url)
    pd.testing.assert_index_equal(responses.index, shots.index)
    np.testing.assert_allclose(responses["probability"], shots["shot_distance"] / 100)
    assert responses["model_version"].isna().all()
    assert len(raised.requests) == (3 if takes_parquet else 21)


def test_progress_counts_every_row(raised: Recorded) -> None:
    counted: list[int] = []
    score(table(ROWS_PER_REQUEST + 5), raised.url, on_progress=counted.append)
    assert sum(counted) == ROWS_PER_REQUEST + 5


def test_no_rows_need_no_request(raised: Recorded) -> None:
    assert score(table(0), raised.url).shape == (0, 3)
    assert raised.requests == []


def test_integers_are_sent_as_doubles(raised: Recorded) -> None:
    score(table(1).astype({"shot_distance": "int64"}), raised.url)
    assert len(raised.requests) == 1


def test_other_columns_are_not_sent(raised: Recorded) -> None:
    assert len(score(table(1).assign(color="red", loc_x=3), raised.url)) == 1


def test_the_longitude_may_be_called_lon_but_not_twice(raised: Recorded) -> None:
    raw = table(3).rename(columns={"lng": "lon"})
    pd.testing.assert_frame_equal(score(raw, raised.url), score(table(3), raised.url))
    with pytest.raises(ScoringError, match=r"more than once \['lng'\]"):
        score(raw.assign(lng=0.0), raised.url)


def test_a_server_whose_default_is_labels_is_requested_for_records(raised: Recorded) -> None:
    def response(rows: list[list[float]]) -> Response:
        return 200, right(rows) if raised.params else {"predictions": [0] * len(rows)}

    raised.response = response
    shots = table(5)
    np.testing.assert_allclose(score(shots, raised.url)["probability"], shots["shot_distance"] / 100)
    assert raised.params == [{"output": "records"}]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (table(2).drop(columns="lat"), r"missing \['lat'\]"),
        (table(2).astype({"lat": object}).assign(lat="north"), "expected numbers"),
    ],
)
def test_a_table_that_is_none_of_shots_is_refused(raised: Recorded, wrong: pd.DataFrame, words: str) -> None:
    with pytest.raises(ScoringError, match=words):
        score(wrong, raised.url)
    assert raised.requests == []


def test_a_server_that_is_not_there_is_not_waited_for_as_one_that_stops_in_between() -> None:
    started = time.monotonic()
    with pytest.raises(ScoringError, match="No scoring server responds"):
        score(table(1), f"http://127.0.0.1:{free_port()}", retry_timeout=1_000)
    assert time.monotonic() - started < 500


def test_a_failure_ends_requests_that_wait_for_another_attempt(raised: Recorded) -> None:
    raised.response = lambda rows: (400, "no") if rows[0][5] == 0 else (503, "busy")
    wide = pd.concat([table(1)] * ROWS_PER_REQUEST + [table(2).tail(1)] * ROWS_PER_REQUEST)
    started = time.monotonic()
    with pytest.raises(RejectedRowsError):
        score(wide, raised.url, retry_timeout=1_000)
    assert time.monotonic() - started < 500


def test_a_server_that_is_busy_is_requested_again(raised: Recorded) -> None:
    raised.response = lambda rows: (200, right(rows)) if len(raised.requests) > 2 else (503, "busy")
    assert len(score(table(3), raised.url)) == 3
    assert len(raised.requests) == 3


def test_a_server_that_stays_broken_ends_in_a_message(raised: Recorded) -> None:
    raised.response = lambda _rows: (503, "busy")
    with pytest.raises(ScoringError, match=r"does not respond \(status 503\), retried for 0 s"):
        score(table(3), raised.url, retry_timeout=0.5)
    assert len(raised.requests) > 1


def test_a_server_that_fails_is_not_requested_again(raised: Recorded) -> None:
    raised.response = lambda _rows: (500, "broken")
    with pytest.raises(ScoringError, match=r"status 500 .*broken"):
        score(table(3), raised.url)
    assert len(raised.requests) == 1


def test_refused_rows_are_reported_with_the_servers_message_and_not_sent_again(raised: Recorded) -> None:
    raised.response = lambda _rows: (400, {"error_code": "X", "message": "echo \nError: row 1, column lat: found null"})
    with pytest.raises(RejectedRowsError, match=r"status 400.*row 1, column lat: found null"):
        score(table(3), raised.url)
    assert len(raised.requests) == 1


@pytest.mark.parametrize(
    "response",
    [
        "no JSON",
        {"predictions": [0.4, 0.4, 0.4]},
        {"predictions": [{"shot_made_flag": 0, "probability": 0.4}]},
        {"predictions": [{"shot_made_flag": 0, "probability": 1.4}] * 3},
        {"predictions": [{"shot_made_flag": 0, "probability": None}] * 3},
        {"predictions": [{"shot_made_flag": 7.9, "probability": 0.4}] * 3},
        [],
    ],
)
def test_what_is_no_response_per_row_is_refused(raised: Recorded, response: object) -> None:
    raised.response = lambda _rows: (200, response)
    with pytest.raises(ScoringError, match="3 entries"):
        score(table(3), raised.url)


def test_a_server_that_is_not_there_is_reported_with_the_command_that_starts_one() -> None:
    with pytest.raises(ServerError, match="mlflow models serve -m models:/kobe_shot/Production"):
        check_alive(f"http://127.0.0.1:{free_port()}")
