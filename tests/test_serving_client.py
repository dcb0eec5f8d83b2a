"""Against a small HTTP server that misbehaves as told; the real server is met in the end-to-end tests."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest

from data.schema import FEATURES
from serving import client
from serving.client import ScoringError, score
from serving.mlflow_server import ServerError, check_alive
from tests.project import free_port

Answer = tuple[int, object]


@dataclass
class Endpoint:
    """What the server was sent, and what it is to answer."""

    address: str = ""
    answer: Callable[[list[list[float]]], Answer] = lambda rows: (200, right(rows))
    requests: list[list[list[float]]] = field(default_factory=list)


def right(rows: list[list[float]]) -> object:
    """Predictions that can be traced to their rows: the probability is the distance in hundredths."""
    return {"predictions": [{"shot_made_flag": int(row[5] > 50), "probability": row[5] / 100} for row in rows]}


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    told = Endpoint()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            rows = body["dataframe_split"]["data"]
            assert body["dataframe_split"]["columns"] == list(FEATURES)
            told.requests.append(rows)
            status, answer = told.answer(rows)
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


def test_answers_come_back_in_order_under_the_index_of_the_table(endpoint: Endpoint) -> None:
    shots = table(2 * client.ROWS_PER_REQUEST + 17).sample(frac=1, random_state=0)
    answers = score(shots, endpoint.address)
    pd.testing.assert_index_equal(answers.index, shots.index)
    np.testing.assert_allclose(answers["probability"], shots["shot_distance"] / 100)
    assert len(endpoint.requests) == 3


def test_progress_counts_every_row(endpoint: Endpoint) -> None:
    counted: list[int] = []
    score(table(client.ROWS_PER_REQUEST + 5), endpoint.address, on_progress=counted.append)
    assert sum(counted) == client.ROWS_PER_REQUEST + 5


def test_no_rows_need_no_request(endpoint: Endpoint) -> None:
    assert score(table(0), endpoint.address).shape == (0, 2)
    assert endpoint.requests == []


def test_integers_are_sent_as_doubles(endpoint: Endpoint) -> None:
    score(table(1).astype({"shot_distance": "int64"}), endpoint.address)
    assert all(isinstance(value, float) for value in endpoint.requests[0][0])


def test_a_server_that_is_busy_is_asked_again(endpoint: Endpoint) -> None:
    endpoint.answer = lambda rows: (200, right(rows)) if len(endpoint.requests) > 2 else (503, "busy")
    assert len(score(table(3), endpoint.address)) == 3
    assert len(endpoint.requests) == 3


def test_a_server_that_stays_broken_ends_in_a_message(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RETRIES", client.RETRIES.new(total=1, backoff_factor=0))
    endpoint.answer = lambda _rows: (503, "busy")
    with pytest.raises(ScoringError, match="does not answer"):
        score(table(3), endpoint.address)


def test_refused_rows_are_told_with_the_servers_message_and_not_sent_again(endpoint: Endpoint) -> None:
    endpoint.answer = lambda _rows: (400, {"error_code": "X", "message": "echo \nError: row 1, column lat: found null"})
    with pytest.raises(ScoringError, match=r"status 400.*row 1, column lat: found null"):
        score(table(3), endpoint.address)
    assert len(endpoint.requests) == 1


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
def test_what_is_no_answer_per_row_is_refused(endpoint: Endpoint, answer: object) -> None:
    endpoint.answer = lambda _rows: (200, answer)
    with pytest.raises(ScoringError, match="with 3 entries"):
        score(table(3), endpoint.address)


def test_a_null_feature_is_refused_before_it_is_sent(endpoint: Endpoint) -> None:
    with pytest.raises(ScoringError, match="null or infinite"):
        score(table(3).assign(lat=np.nan), endpoint.address)
    assert endpoint.requests == []


def test_a_server_that_is_not_there_is_told_with_the_command_that_starts_one() -> None:
    with pytest.raises(ServerError, match="mlflow models serve -m models:/kobe_shot/Production"):
        check_alive(f"http://127.0.0.1:{free_port()}")
