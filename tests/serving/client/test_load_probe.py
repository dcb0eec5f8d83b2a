import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Event, Thread

import pytest

from serving.client.load_probe import LoadProbe
from tests.project import free_port, shot, wait_until

ENOUGH = 3
"""Requests after which a test ends."""
RESPONSE = {"predictions": [{"shot_made_flag": 1, "probability": 0.6}]}
SHOT = {name: float(str(value)) for name, value in shot().items()}


class Endpoint:
    """A server that returns one response to every request, and counts them."""

    def __init__(self, status: int, body: bytes) -> None:
        self.sent: list[dict[str, object]] = []
        self.enough = Event()
        server_url = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                server_url.sent.append({"path": self.path, "body": json.loads(self.rfile.read(length))})
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                if len(server_url.sent) == ENOUGH:
                    server_url.enough.set()

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)


@contextmanager
def server_url(status: int = 200, body: bytes = json.dumps(RESPONSE).encode()) -> Iterator[Endpoint]:
    """A running server."""
    found = Endpoint(status, body)
    thread = Thread(target=found.server.serve_forever, daemon=True)
    thread.start()
    yield found
    found.server.shutdown()
    found.server.server_close()
    thread.join()


def called(found: Endpoint) -> LoadProbe:
    """A client that has sent enough requests and has ended."""
    with LoadProbe(f"http://127.0.0.1:{found.server.server_port}", SHOT) as calls:
        wait_until(found.enough.is_set, "requests")
    return calls


def test_every_response_is_counted_and_none_is_lost() -> None:
    with server_url() as found:
        calls = called(found)
        assert calls.failed == 0
        assert calls.succeeded == len(found.sent) >= ENOUGH
    assert found.sent[0] == {"path": "/invocations", "body": {"dataframe_records": [SHOT]}}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, json.dumps(RESPONSE).encode()),
        (200, b"no score"),
        (200, b'{"predictions": []}'),
        (200, b"{}"),
        (200, b"1"),
    ],
)
def test_what_is_no_score_is_lost_and_not_requested_again(status: int, body: bytes) -> None:
    with server_url(status, body) as found:
        calls = called(found)
        assert calls.succeeded == 0
        assert calls.failed == len(found.sent) >= ENOUGH


def test_where_nothing_responses_every_request_is_lost() -> None:
    failed = Event()

    class Counting(LoadProbe):
        """Signals when enough has failed."""

        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if name == "failed" and value == ENOUGH:
                failed.set()

    with Counting(f"http://127.0.0.1:{free_port()}", SHOT) as calls:
        wait_until(failed.is_set, "requests that are failed")
    assert calls.succeeded == 0
    assert calls.failed >= ENOUGH
