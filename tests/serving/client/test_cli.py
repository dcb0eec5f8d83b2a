"""Against a small HTTP server that misbehaves as told; the real server is met in the end-to-end tests."""

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

Answer = tuple[int, object]


@dataclass
class Told:
    """What the server was sent, and what it is to answer."""

    address: str = ""
    answer: Callable[[list[list[float]]], Answer] = lambda rows: (200, right(rows))
    requests: list[list[list[float]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    params: list[object] = field(default_factory=list)
    takes_parquet: bool = True


def right(rows: list[list[float]]) -> object:
    """Predictions that can be traced to their rows: the probability is the distance in hundredths."""
    return {"predictions": [{"shot_made_flag": int(row[5] > 50), "probability": row[5] / 100} for row in rows]}


@pytest.fixture
def told() -> Iterator[Told]:
    told = Told()
    lock = threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(200 if self.path == "/ping" else 404, "")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers["Content-Type"] != "application/json":
                if not told.takes_parquet:
                    self._send(415, "This predictor only supports JSON.")
                    return
                table = pq.read_table(pa.BufferReader(body))
            else:
                payload = json.loads(body)
                told.params.append(payload.get("params"))
                split = payload["dataframe_split"]
                table = pa.table(list(zip(*split["data"], strict=True)), names=split["columns"])
            assert table.column_names == list(FEATURES)
            assert set(table.schema.types) == {pa.float64()}
            rows = table.to_pandas().to_numpy().tolist()
            with lock:
                told.requests.append(rows)
                told.headers.append(dict(self.headers))
                status, answer = told.answer(rows)
            self._send(status, answer)

        def _send(self, status: int, answer: object) -> None:
            text = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        told.address = f"http://127.0.0.1:{server.server_port}"
        yield told
        server.shutdown()


def table(rows: int) -> pd.DataFrame:
    columns = {name: np.zeros(rows) for name in FEATURES} | {"shot_distance": np.arange(rows) % 90.0}
    return pd.DataFrame({"shot_id": np.arange(rows), **columns})


@pytest.mark.parametrize("takes_parquet", [True, False], ids=["parquet", "json"])
def test_answers_come_back_in_order_under_the_index_of_the_table(told: Told, *, takes_parquet: bool) -> None:
    told.takes_parquet = takes_parquet
    shots = table(2 * ROWS_PER_REQUEST + 17).sample(frac=1, random_state=0)
    answers = score(shots, told.address)
    pd.testing.assert_index_equal(answers.index, shots.index)
    np.testing.assert_allclose(answers["probability"], shots["shot_distance"] / 100)
    assert answers["model_version"].isna().all()
    assert len(told.requests) == (3 if takes_parquet else 21)


def test_progress_counts_every_row(told: Told) -> None:
    counted: list[int] = []
    score(table(ROWS_PER_REQUEST + 5), told.address, on_progress=counted.append)
    assert sum(counted) == ROWS_PER_REQUEST + 5


def test_no_rows_need_no_request(told: Told) -> None:
    assert score(table(0), told.address).shape == (0, 3)
    assert told.requests == []


def test_integers_are_sent_as_doubles(told: Told) -> None:
    score(table(1).astype({"shot_distance": "int64"}), told.address)
    assert len(told.requests) == 1


def test_other_columns_are_not_sent(told: Told) -> None:
    assert len(score(table(1).assign(color="red", loc_x=3), told.address)) == 1


def test_the_longitude_may_be_called_lon_but_not_twice(told: Told) -> None:
    raw = table(3).rename(columns={"lng": "lon"})
    pd.testing.assert_frame_equal(score(raw, told.address), score(table(3), told.address))
    with pytest.raises(ScoringError, match=r"more than once \['lng'\]"):
        score(raw.assign(lng=0.0), told.address)


def test_a_server_whose_default_is_labels_is_asked_for_records(told: Told) -> None:
    def answer(rows: list[list[float]]) -> Answer:
        return 200, right(rows) if told.params else {"predictions": [0] * len(rows)}

    told.answer = answer
    shots = table(5)
    np.testing.assert_allclose(score(shots, told.address)["probability"], shots["shot_distance"] / 100)
    assert told.params == [{"output": "records"}]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (table(2).drop(columns="lat"), r"missing \['lat'\]"),
        (table(2).astype({"lat": object}).assign(lat="north"), "expected numbers"),
    ],
)
def test_a_table_that_is_none_of_shots_is_refused(told: Told, wrong: pd.DataFrame, words: str) -> None:
    with pytest.raises(ScoringError, match=words):
        score(wrong, told.address)
    assert told.requests == []


def test_a_server_that_is_not_there_is_not_waited_for_as_one_that_stops_in_between() -> None:
    started = time.monotonic()
    with pytest.raises(ScoringError, match="No scoring server answers"):
        score(table(1), f"http://127.0.0.1:{free_port()}", retry_timeout=1_000)
    assert time.monotonic() - started < 500


def test_a_failure_ends_requests_that_wait_for_another_attempt(told: Told) -> None:
    told.answer = lambda rows: (400, "no") if rows[0][5] == 0 else (503, "busy")
    wide = pd.concat([table(1)] * ROWS_PER_REQUEST + [table(2).tail(1)] * ROWS_PER_REQUEST)
    started = time.monotonic()
    with pytest.raises(RejectedRowsError):
        score(wide, told.address, retry_timeout=1_000)
    assert time.monotonic() - started < 500


def test_a_server_that_is_busy_is_asked_again(told: Told) -> None:
    told.answer = lambda rows: (200, right(rows)) if len(told.requests) > 2 else (503, "busy")
    assert len(score(table(3), told.address)) == 3
    assert len(told.requests) == 3


def test_a_server_that_stays_broken_ends_in_a_message(told: Told) -> None:
    told.answer = lambda _rows: (503, "busy")
    with pytest.raises(ScoringError, match=r"does not respond \(status 503\), retried for 0 s"):
        score(table(3), told.address, retry_timeout=0.5)
    assert len(told.requests) > 1


def test_a_server_that_fails_is_not_asked_again(told: Told) -> None:
    told.answer = lambda _rows: (500, "broken")
    with pytest.raises(ScoringError, match="status 500: broken"):
        score(table(3), told.address)
    assert len(told.requests) == 1


def test_refused_rows_are_told_with_the_servers_message_and_not_sent_again(told: Told) -> None:
    told.answer = lambda _rows: (400, {"error_code": "X", "message": "echo \nError: row 1, column lat: found null"})
    with pytest.raises(RejectedRowsError, match=r"status 400.*row 1, column lat: found null"):
        score(table(3), told.address)
    assert len(told.requests) == 1


@pytest.mark.parametrize(
    "answer",
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
def test_what_is_no_answer_per_row_is_refused(told: Told, answer: object) -> None:
    told.answer = lambda _rows: (200, answer)
    with pytest.raises(ScoringError, match="3 entries"):
        score(table(3), told.address)


def test_a_server_that_is_not_there_is_told_with_the_command_that_starts_one() -> None:
    with pytest.raises(ServerError, match="mlflow models serve -m models:/kobe_shot/Production"):
        check_alive(f"http://127.0.0.1:{free_port()}")
