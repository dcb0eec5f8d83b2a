"""Whatever connections a client opens, others are served, and the server lets go of what comes to nothing."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import requests
from sklearn.pipeline import Pipeline

from tests.attacks.strict import LIMITS, connect, drip, narrow, rest_of, sockets_of, status_of
from tests.attacks.support import MEGABYTE, Server, Watched, some_slow
from tests.project import Checkout, records, shot, wait_until

BODY = json.dumps(records(shot())).encode()
HEAD = b"POST /invocations HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
PING = b"GET /ping HTTP/1.1\r\nHost: here\r\n\r\n"
MANY = 700


@pytest.fixture(scope="module", params=["production", "mlflow"])
def strict(request: pytest.FixtureRequest, served_checkout: tuple[Checkout, Pipeline]) -> Iterator[Server]:
    """Each server in turn, with few descriptors and seconds."""
    with narrow(request.param, served_checkout[0], LIMITS) as server:
        yield server


HALVES = {
    "half a head": b"POST /invocations HTTP/1.1\r\nHost: here\r\nContent-",
    "nothing": b"",
    "half a body": HEAD + b"Content-Length: 1000\r\n\r\n" + BODY[:50],
    "half a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nffff\r\n" + BODY[:50],
    "a request and half of the next": PING + b"GET /ping HT",
}


@pytest.mark.parametrize("case", some_slow(HALVES, ("half a head", "half a body")))
def test_more_half_open_connections_than_descriptors_keep_no_client_from_a_response(strict: Server, case: str) -> None:
    before = sockets_of(strict)
    with ExitStack() as opened, Watched(strict) as seen:
        for _ in range(MANY):
            opened.enter_context(connect(strict, HALVES[case]))
        for path in ("/ping", "/health"):
            assert requests.get(f"{strict.url}{path}", timeout=10).status_code == 200
        wait_until(lambda: sockets_of(strict) <= before + 3, "the half-open connections to be closed")
    seen.assert_bounded(growth=60 * MEGABYTE)


def test_a_head_that_comes_byte_by_byte_ends_with_408(strict: Server) -> None:
    with connect(strict, b"GET /ping HTTP/1.1\r\nHost: here\r\n") as connection:
        response = drip(connection, b"X")
        assert status_of(response) == 408
        assert b"did not arrive within 2 s" in response + rest_of(connection)


LONG = {
    "one header": b"GET /ping HTTP/1.1\r\nHost: here\r\nX-Long: " + b"x" * 2_000_000 + b"\r\n\r\n",
    "a name without end": b"GET /ping HTTP/1.1\r\nHost: here\r\n" + b"x" * 2_000_000,
    "many headers": b"GET /ping HTTP/1.1\r\nHost: here\r\n" + b"X: y\r\n" * 5_000 + b"\r\n",
    "a path": b"GET /" + b"x" * 2_000_000 + b" HTTP/1.1\r\nHost: here\r\n\r\n",
    "just above": b"GET /ping HTTP/1.1\r\nHost: here\r\nX-Long: " + b"x" * 32_800 + b"\r\n\r\n",
}


@pytest.mark.parametrize("sent", LONG.values(), ids=LONG)
def test_a_long_head_is_refused(strict: Server, sent: bytes) -> None:
    with Watched(strict) as seen, connect(strict, sent) as connection:
        assert status_of(rest_of(connection)) == 431
    seen.assert_bounded(growth=30 * MEGABYTE)


WRONG = {
    "no Host": (b"", 400),
    "two Hosts": (b"Host: here\r\nHost: there\r\n", 400),
    "the same Host twice": (b"Host: here\r\nHost: here\r\n", 400),
    "a length of 10^12": (b"Host: here\r\nContent-Length: 1000000000000\r\n", 413),
    "a length of 10^30": (b"Host: here\r\nContent-Length: 1" + b"0" * 30 + b"\r\n", 400),
    "a negative length": (b"Host: here\r\nContent-Length: -1\r\n", 400),
    "a length as text": (b"Host: here\r\nContent-Length: ten\r\n", 400),
    "an empty length": (b"Host: here\r\nContent-Length:\r\n", 400),
    "a length in hex": (b"Host: here\r\nContent-Length: 0x10\r\n", 400),
    "two lengths": (b"Host: here\r\nContent-Length: 10\r\nContent-Length: 11\r\n", 400),
    "two lengths in one": (b"Host: here\r\nContent-Length: 10, 11\r\n", 400),
    "a length and chunks": (b"Host: here\r\nContent-Length: 10\r\nTransfer-Encoding: chunked\r\n", 400),
    "chunks and a length": (b"Host: here\r\nTransfer-Encoding: chunked\r\nContent-Length: 10\r\n", 400),
    "another coding at the end": (b"Host: here\r\nTransfer-Encoding: chunked, gzip\r\n", 400),
}


@pytest.mark.parametrize("path", [b"POST /invocations", b"GET /ping", b"POST /nowhere"])
@pytest.mark.parametrize("case", WRONG)
def test_a_head_that_no_request_has_is_refused_before_a_body_is_read(strict: Server, case: str, path: bytes) -> None:
    headers, status = WRONG[case]
    with connect(strict, path + b" HTTP/1.1\r\nContent-Type: application/json\r\n" + headers + b"\r\n") as connection:
        response = rest_of(connection)
    assert status_of(response) == status, response
    assert b"connection: close" in response.lower()


def test_a_body_is_refused_before_the_client_sends_it(strict: Server) -> None:
    head = HEAD + b"Expect: 100-continue\r\nContent-Length: 1000000000000\r\n\r\n"
    with connect(strict, head) as connection:
        assert status_of(rest_of(connection)) == 413


@pytest.mark.parametrize("old", [b"", b"Host: here\r\n"], ids=["without Host", "with Host"])
def test_clients_of_http_1_0_get_responses(strict: Server, old: bytes) -> None:
    sent = WHOLE.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"Host: here\r\n", old)
    with connect(strict, sent) as connection:
        response = rest_of(connection)
    assert status_of(response) == 200
    assert b"predictions" in response


def test_a_client_that_expects_100_continue_before_a_body_gets_it(strict: Server) -> None:
    head = HEAD + b"Connection: close\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    with connect(strict, head) as connection:
        assert status_of(connection.recv(1000)) == 100
        connection.sendall(BODY)
        response = rest_of(connection)
    assert status_of(response) == 200
    assert b"predictions" in response


def test_head_gets_a_response_without_a_body_and_the_connection_is_kept(strict: Server) -> None:
    sent = b"HEAD /nowhere HTTP/1.1\r\nHost: here\r\n\r\n" + PING.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with connect(strict, sent) as connection:
        response = rest_of(connection)
    assert response.count(b"HTTP/1.1 ") == 2
    assert response.split(b"HTTP/1.1 ")[2].startswith(b"200")


def test_chunks_are_read_as_one_body(strict: Server) -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (1, BODY[place : place + 1]) for place in range(len(BODY)))
    head = HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connect(strict, head + chunks + b"0\r\nX-Trailer: y\r\n\r\n") as connection:
        response = rest_of(connection)
    assert status_of(response) == 200
    assert b"predictions" in response


def test_a_few_requests_at_once_on_a_connection_get_responses_in_order(strict: Server) -> None:
    last = WHOLE.replace(b"Host: here", b"Host: here\r\nConnection: close")
    with connect(strict, (PING + WHOLE) * 4 + last) as connection:
        response = rest_of(connection)
    assert response.count(b"HTTP/1.1 200") == 9
    assert response.count(b"predictions") == 5


@pytest.mark.parametrize("one", [PING, WHOLE, HEAD + b"Content-Length: 1000000\r\n\r\n" + BODY], ids=range(3))
def test_a_flood_of_requests_on_a_connection_ends_it(strict: Server, one: bytes) -> None:
    with Watched(strict) as seen, ExitStack() as opened:
        for _ in range(20):
            connection = opened.enter_context(socket.create_connection(strict.place, timeout=30))
            with pytest.raises(ConnectionError):  # noqa: PT012 the kernel's buffers take some of it
                for _ in range(1000):
                    connection.sendall(one * 500)
    seen.assert_bounded(growth=60 * MEGABYTE)


def test_an_idle_connection_is_closed(strict: Server) -> None:
    with connect(strict, PING) as connection:
        assert status_of(rest_of(connection)) == 200
