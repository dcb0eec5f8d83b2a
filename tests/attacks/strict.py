"""Servers whose limits are so narrow that a test meets them within seconds."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import psutil

from tests import fork_server
from tests.attacks.support import Server
from tests.project import Checkout, run_mlflow_server, run_production_server, wait_until

DESCRIPTORS = 256
LIMITS = {
    "KOBE_LIMIT_HEAD_SECONDS": "2",
    "KOBE_LIMIT_BODY_SECONDS": "3",
    "KOBE_LIMIT_RESPONSE_SECONDS": "3",
}


@contextmanager
def narrow(name: str, checkout: Checkout, variables: Mapping[str, str]) -> Iterator[Server]:
    """Run a server with environment variables, and as after ``ulimit -n 256``."""
    before = {variable: os.environ.get(variable) for variable in variables}
    os.environ.update(variables)
    try:
        is_production = name == "production"
        start = (
            run_production_server(checkout, workers=1, is_forked=False)
            if is_production
            else run_mlflow_server(checkout)
        )
        with fork_server.descriptors(DESCRIPTORS):
            running = start.__enter__()
    finally:
        for variable, value in before.items():
            os.environ.pop(variable) if value is None else os.environ.update({variable: value})
    try:
        yield Server(name, running if isinstance(running, str) else running.url)
    finally:
        start.__exit__(None, None, None)


def connect(server: Server, sent: bytes = b"") -> socket.socket:
    """A connection on which something was sent."""
    connection = socket.create_connection(server.place, timeout=30)
    with suppress(ConnectionError):
        connection.sendall(sent)
    return connection


def drip(connection: socket.socket, byte: bytes) -> bytes:
    """Send a byte five times a second until the server responses or closes; what it has sent by then."""
    connection.settimeout(0.2)
    response = b""

    def sent() -> bool:
        nonlocal response
        try:
            connection.sendall(byte)
            response += connection.recv(1000)
        except TimeoutError:
            return False
        except ConnectionError:
            pass
        return True

    wait_until(sent, "a response to a request that comes byte by byte")
    return response


def rest_of(connection: socket.socket) -> bytes:
    """All that a server sends until it closes."""
    parts = []
    with suppress(ConnectionError):
        while part := connection.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


def status_of(response: bytes) -> int:
    """Status of the first response in what a server sent; 0 where there is none."""
    return int(response[9:12]) if response.startswith(b"HTTP/1.") else 0


def sockets_of(server: Server) -> int:
    """How many connections the server holds, of clients that are still there or gone."""
    return sum(
        connection.status != psutil.CONN_LISTEN
        for process in server.processes()
        for connection in process.net_connections("tcp")
        if connection.laddr and connection.laddr.port == server.place[1]
    )
