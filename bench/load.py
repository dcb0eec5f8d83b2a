"""Clients with low overhead, so that a benchmark measures the server."""

import asyncio
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

import uvloop

_RECEIVE_BYTES = 1 << 18


@dataclass(frozen=True)
class Latencies:
    """Seconds of each response, and from the first request to the last response."""

    each: Sequence[float]
    all: float

    def quantile(self, share: float) -> float:
        """Quantile of the response times, seconds."""
        ordered = sorted(self.each)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Connection:
    """A client with one persistent connection.

    Parameters
    ----------
    url : str
        URL with path, such as ``http://127.0.0.1:5001/invocations``.
    body : bytes
        Body of every request.
    content_type : str
    """

    def __init__(self, url: str, body: bytes, content_type: str) -> None:
        place = urlsplit(url)
        self._socket = socket.create_connection((place.hostname or "", place.port or 80), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = _request(url, body, content_type)

    def request(self) -> bytes:
        """Send the request and return the body of the response.

        Raises
        ------
        SystemExit
            If the status is not 200.
        """
        self._socket.sendall(self._request)
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._receive()
        head, _, body = data.partition(b"\r\n\r\n")
        length = _content_length(head)
        parts, size = [body], len(body)
        while size < length:
            parts.append(self._receive())
            size += len(parts[-1])
        return b"".join(parts)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _receive(self) -> bytes:
        data = self._socket.recv(_RECEIVE_BYTES)
        if not data:
            message = "the server closed the connection"
            raise SystemExit(message)
        return data


def send_sequentially(client: Connection, times: int) -> Latencies:
    """Send requests one after the other."""
    each = []
    started = time.perf_counter()
    for _ in range(times):
        started = time.perf_counter()
        client.request()
        each.append(time.perf_counter() - started)
    return Latencies(each, time.perf_counter() - started)


def send_concurrently(url: str, body: bytes, content_type: str, *, clients: int, times: int) -> Latencies:
    """Send requests from several concurrent clients, each over its own connection.

    The clients share an event loop, which costs a tenth of threads. On two cores, expensive clients would measure
    themselves.
    """
    return uvloop.run(_send_concurrently(urlsplit(url), _request(url, body, content_type), clients, times))


async def _send_concurrently(place: SplitResult, request: bytes, clients: int, times: int) -> Latencies:
    loop = asyncio.get_running_loop()
    each: list[float] = []
    connections = [
        await loop.create_connection(lambda: _Protocol(request, times, each), place.hostname or "", place.port or 80)
        for _ in range(clients)
    ]
    started = time.perf_counter()
    for _, connection in connections:
        connection.send()
    await asyncio.gather(*(connection.done for _, connection in connections))
    seconds = time.perf_counter() - started
    for transport, _ in connections:
        transport.close()
    return Latencies(each, seconds)


class _Protocol(asyncio.Protocol):
    """Sends the next request after each response."""

    def __init__(self, request: bytes, times: int, each: list[float]) -> None:
        self._request, self._remaining, self._each = request, times, each
        self._data, self._length = b"", 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport: Any = transport

    def send(self) -> None:
        """Send the next request."""
        self._remaining -= 1
        self._started = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Receive a part of a response."""
        self._data += data
        if not self._length and (end := self._data.find(b"\r\n\r\n")) >= 0:
            self._length = end + 4 + _content_length(self._data[:end])
        if not self._length or len(self._data) < self._length:
            return
        self._each.append(time.perf_counter() - self._started)
        self._data, self._length = b"", 0
        if self._remaining:
            self.send()
        elif not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        """Raise if the server closed the connection."""
        if not self.done.done():
            self.done.set_exception(error or ConnectionResetError("the server closed the connection"))


def _request(url: str, body: bytes, content_type: str) -> bytes:
    place = urlsplit(url)
    head = (
        f"POST {place.path} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _content_length(head: bytes) -> int:
    lines = head.lower().split(b"\r\n")
    if b" 200 " not in lines[0] + b" ":
        message = f"the server responded {head.decode()}"
        raise SystemExit(message)
    return next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
