"""A caller that costs next to nothing, so that what is measured is the server."""

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
class Sent:
    """Seconds of each answer, and from the first request to the last answer."""

    each: Sequence[float]
    all: float

    def quantile(self, share: float) -> float:
        """Seconds within which a share of the answers came."""
        ordered = sorted(self.each)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Caller:
    """One connection that is kept open.

    Parameters
    ----------
    address : str
        Address and path, such as ``http://127.0.0.1:5001/invocations``.
    body : bytes
        Sent in every request.
    content_type : str
    """

    def __init__(self, address: str, body: bytes, content_type: str) -> None:
        place = urlsplit(address)
        self._socket = socket.create_connection((place.hostname or "", place.port or 80), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = _request(address, body, content_type)

    def call(self) -> bytes:
        """Send the request; the body of the answer.

        Raises
        ------
        SystemExit
            If the status is not 200: a benchmark of errors is worth nothing.
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


def call_repeatedly(caller: Caller, times: int) -> Sent:
    """One request after the other."""
    each = []
    begun = time.perf_counter()
    for _ in range(times):
        started = time.perf_counter()
        caller.call()
        each.append(time.perf_counter() - started)
    return Sent(each, time.perf_counter() - begun)


def call_from_many(address: str, body: bytes, content_type: str, *, callers: int, times: int) -> Sent:
    """The same number of requests from each of several callers at a time, each over a connection of its own.

    The callers share an event loop, which costs a tenth of what threads would: on two cores, callers that work hard
    would measure themselves.
    """
    return uvloop.run(_call_from_many(urlsplit(address), _request(address, body, content_type), callers, times))


async def _call_from_many(place: SplitResult, request: bytes, callers: int, times: int) -> Sent:
    loop = asyncio.get_running_loop()
    each: list[float] = []
    made = [
        await loop.create_connection(lambda: _Connection(request, times, each), place.hostname or "", place.port or 80)
        for _ in range(callers)
    ]
    begun = time.perf_counter()
    for _, connection in made:
        connection.send()
    await asyncio.gather(*(connection.done for _, connection in made))
    seconds = time.perf_counter() - begun
    for transport, _ in made:
        transport.close()
    return Sent(each, seconds)


class _Connection(asyncio.Protocol):
    """Sends a request as soon as the one before is answered."""

    def __init__(self, request: bytes, times: int, each: list[float]) -> None:
        self._request, self._left, self._each = request, times, each
        self._data, self._length = b"", 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport: Any = transport

    def send(self) -> None:
        """Send the next request."""
        self._left -= 1
        self._started = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Take part of an answer."""
        self._data += data
        if not self._length and (end := self._data.find(b"\r\n\r\n")) >= 0:
            self._length = end + 4 + _content_length(self._data[:end])
        if not self._length or len(self._data) < self._length:
            return
        self._each.append(time.perf_counter() - self._started)
        self._data, self._length = b"", 0
        if self._left:
            self.send()
        elif not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        """Say that the server has closed the connection."""
        if not self.done.done():
            self.done.set_exception(error or ConnectionResetError("the server closed the connection"))


def _request(address: str, body: bytes, content_type: str) -> bytes:
    place = urlsplit(address)
    head = (
        f"POST {place.path} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _content_length(head: bytes) -> int:
    lines = head.lower().split(b"\r\n")
    if b" 200 " not in lines[0] + b" ":
        message = f"the server answered {head.decode()}"
        raise SystemExit(message)
    return next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
