"""A caller that costs next to nothing, so that what is measured is the server."""

import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

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
        head = (
            f"POST {place.path} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: {content_type}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self._request = head.encode() + body

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
        lines = head.lower().split(b"\r\n")
        if b" 200 " not in lines[0] + b" ":
            message = f"the server answered {head.decode()} {body[:500].decode(errors='replace')}"
            raise SystemExit(message)
        length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
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


def call_from_many(callers: Sequence[Caller], times: int) -> Sent:
    """The same number of requests from each of several callers at a time."""
    each: list[float] = []
    barrier = threading.Barrier(len(callers) + 1)

    def run(caller: Caller) -> None:
        barrier.wait()
        each.extend(call_repeatedly(caller, times).each)

    threads = [threading.Thread(target=run, args=(caller,)) for caller in callers]
    for thread in threads:
        thread.start()
    barrier.wait()
    begun = time.perf_counter()
    for thread in threads:
        thread.join()
    return Sent(each, time.perf_counter() - begun)
