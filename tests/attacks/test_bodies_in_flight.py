"""Bodies on their way: bounded together and each, whatever a client declares about them or omits."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
import requests
from sklearn.pipeline import Pipeline

from serving.server_limits import Limits
from tests.attacks.strict import LIMITS, connect, drip, narrow, rest_of, sockets_of, status_of
from tests.attacks.support import CSV, MEGABYTE, Server, Watched
from tests.project import Checkout, records, shot, wait_until

HEAD = b"POST /invocations HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
SHORT = json.dumps(records(shot())).encode()
PART = b" " * (1 << 20)
FLIGHT = Limits().bytes_in_flight
IN_FLIGHT = {
    "KOBE_LIMIT_BODY_BYTES": "20000000",
    "KOBE_LIMIT_JSON_BYTES": "20000000",
    "KOBE_LIMIT_BYTES_IN_FLIGHT": "40000000",
}


@pytest.fixture(scope="module", params=["production", "mlflow"])
def strict(request: pytest.FixtureRequest, served_checkout: tuple[Checkout, Pipeline]) -> Iterator[Server]:
    """Each server in turn, with room for 40 MB of bodies."""
    with narrow(request.param, served_checkout[0], LIMITS | IN_FLIGHT) as server:
        yield server


def concurrency(server: Server, figure: str = "bytes_in_flight") -> float:
    """The metrics of the production server."""
    lines = requests.get(f"{server.url}/metrics", timeout=30).text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"kobe_{figure} "))


WAYS = {
    "with a length": lambda size: (b"Content-Length: %d\r\n\r\n" % size, b""),
    "in chunks": lambda size: (b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % size, b""),
}


@pytest.mark.parametrize("way", WAYS)
def test_sixty_unfinished_bodies_of_30_mb_stay_within_the_bytes_in_flight(server: Server, way: str) -> None:
    """Sent without what a client may omit, they took 1.9 GB."""
    head, _ = WAYS[way](30 << 20)
    responses = []
    with Watched(server) as seen, ExitStack() as opened:
        for _ in range(60):
            connection = opened.enter_context(connect(server, HEAD + head))
            with suppress(ConnectionError):
                for _ in range(29):
                    connection.sendall(PART)
            responses.append(connection)
        refused = 0
        for connection in responses:
            connection.settimeout(0.01)
            with suppress(TimeoutError):
                response = rest_of(connection)
                # 503 where there was no room; 408 where a body stalled while another needed the room.
                assert status_of(response) in {0, 408, 503}
                assert status_of(response) != 503 or b"retry-after" in response
                refused += 1
    assert refused >= 60 - FLIGHT // (29 << 20) - 1
    seen.assert_bounded(growth=FLIGHT + 150 * MEGABYTE)


@pytest.mark.parametrize("kind", [b"application/json", b"text/csv", b"application/vnd.apache.parquet"])
def test_a_body_in_chunks_without_end_is_refused_at_the_limit(strict: Server, kind: bytes) -> None:
    head = HEAD.replace(b"application/json", kind) + b"Transfer-Encoding: chunked\r\n\r\n"
    with Watched(strict) as seen, connect(strict, head) as connection:
        with suppress(ConnectionError):
            for _ in range(200):
                connection.sendall(b"%x\r\n%s\r\n" % (len(PART), PART))
        response = rest_of(connection)
    assert status_of(response) == 413
    assert b"at most 20,000,000 bytes" in response
    seen.assert_bounded(growth=80 * MEGABYTE)


OTHERS = {
    "an extension of a chunk": b"5;" + b"x" * 5_000_000,
    "a trailer": b"1\r\n{\r\n0\r\nX-Trailer: " + b"x" * 5_000_000,
    "many trailers": b"1\r\n{\r\n0\r\n" + b"X-Trailer: y\r\n" * 400_000,
}


@pytest.mark.parametrize("sent", OTHERS.values(), ids=OTHERS)
def test_what_is_between_chunks_or_after_them_has_a_limit(strict: Server, sent: bytes) -> None:
    with Watched(strict) as seen, connect(strict, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + sent) as connection:
        assert status_of(rest_of(connection)) == 400
    seen.assert_bounded(growth=30 * MEGABYTE)


def test_a_body_longer_than_the_limit_is_refused_by_its_length(strict: Server) -> None:
    with Watched(strict) as seen:
        response = strict.send(b" " * 21_000_000)
    assert response.status == 413
    assert response.is_harmless()
    seen.assert_bounded(growth=30 * MEGABYTE)


@pytest.mark.parametrize("length", [1000, 1_000_000])
def test_a_body_that_drips_ends_with_408(strict: Server, length: int) -> None:
    with connect(strict, HEAD + b"Content-Length: %d\r\n\r\n" % length) as connection:
        response = drip(connection, b" ")
        assert status_of(response) == 408
        assert b"did not arrive within 3 s" in response + rest_of(connection)


def test_bodies_of_clients_that_are_gone_are_not_held(strict: Server) -> None:
    with Watched(strict) as seen:
        for _ in range(30):
            with connect(strict, HEAD + b"Content-Length: 15000000\r\n\r\n" + PART * 10):
                pass
        # All of them together would not have found room.
        wait_until(lambda: strict.send(b" " * 19_000_000 + SHORT).status == 200, "room for a long body")
    if strict.name == "production":
        assert concurrency(strict, "bodies_in_flight") == 0
        # Until what was abandoned is freed, at most half a second later, it is counted.
        wait_until(lambda: concurrency(strict) == 0, "the bytes to be freed")
    # Held at once they are 300 MB; three copies of what may be in flight and the long body are 140.
    seen.assert_bounded(growth=140 * MEGABYTE)


def test_a_long_body_takes_the_room_of_those_that_have_stalled(strict: Server) -> None:
    head = HEAD + b"Content-Length: 19000000\r\n\r\n"
    with connect(strict, head + PART * 18), connect(strict, head + PART * 18):
        assert strict.send(SHORT).status == 200
        assert strict.send(b" " * 15_000_000 + SHORT).status == 503
        wait_until(lambda: strict.send(b" " * 15_000_000 + SHORT).status == 200, "room for a long body")


def test_a_client_that_reads_no_response_is_let_go(strict: Server) -> None:
    rows = b"lat,lng,minutes_remaining,period,playoffs,shot_distance\n" + b"34,-118.2,1,1,0,10\n" * 120_000
    head = HEAD.replace(b"application/json", CSV.encode()) + b"Content-Length: %d\r\n\r\n" % len(rows)
    before = sockets_of(strict)
    with ExitStack() as opened:
        for _ in range(4):
            connection = opened.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(strict.place)
            connection.sendall(head + rows)
        wait_until(lambda: sockets_of(strict) <= before, "the connections to be closed")
    assert strict.send(rows, CSV).status == 200
    if strict.name == "production":
        # A body is counted until its request has ended, just after the client has read the response.
        wait_until(lambda: concurrency(strict) == 0, "the bytes to be freed")


def test_limits_and_what_was_refused_are_in_the_metrics(strict: Server) -> None:
    if strict.name != "production":
        pytest.skip("the MLflow scoring server has no metrics")
    with connect(strict, HEAD + b"Content-Length: 30000000\r\n\r\n") as connection:
        assert status_of(rest_of(connection)) == 413
    text = requests.get(f"{strict.url}/metrics", timeout=30).text
    assert "kobe_limit_body_bytes 2e+07" in text
    assert "kobe_limit_bytes_in_flight 4e+07" in text
    assert 'kobe_requests_refused_total{limit="body_bytes"}' in text
    assert 0 < concurrency(strict, "limit_connections") < 256
    assert concurrency(strict, "open_connections") >= 1


def test_a_limit_that_is_none_ends_the_start_with_a_message(
    served_checkout: tuple[Checkout, Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOBE_LIMIT_BODY_BYTES", "much")
    found = served_checkout[0].command("python", "-m", "serving.server", "--port", "0")
    assert found.returncode == 1
    assert "KOBE_LIMIT_BODY_BYTES: expected an integer above 0, found 'much'" in found.stderr
