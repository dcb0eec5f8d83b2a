"""Networks that fail: what a client sees during an outage of a server."""

import http.server
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress

from tests.project import free_port


@contextmanager
def black_hole() -> Iterator[str]:
    """Host and port of a server that accepts connections and never responds."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def full_queue() -> Iterator[str]:
    """Host and port of a server that accepts no connections: its queue is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0), backlog=0)))
        for _ in range(8):
            waiting = stack.enter_context(closing(socket.socket()))
            waiting.setblocking(False)
            with suppress(BlockingIOError):
                waiting.connect(listener.getsockname())
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def closed_port() -> Iterator[str]:
    """Host and port that no process listens on."""
    yield f"127.0.0.1:{free_port()}"


@contextmanager
def unknown_host() -> Iterator[str]:
    """Host and port of a machine that cannot exist (RFC 6761)."""
    yield "tracking.invalid:5000"


def responding_with(status: int, body: bytes, content_type: str = "text/html") -> Callable[[], "ExitStack"]:
    """A server with one response to every request; enters to its host and port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815 the name is the library's

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    @contextmanager
    def served() -> Iterator[str]:
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            try:
                yield f"127.0.0.1:{server.server_address[1]}"
            finally:
                server.shutdown()
                thread.join()

    return served  # type: ignore[return-value]


class FaultyProxy:
    """A proxy to a server that passes everything on, refuses connections, or is silent."""

    def __init__(self, port: int) -> None:
        self._to, self._listener = port, socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._mode = "open"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._take)
        self._thread.start()

    def open(self) -> None:
        """Let everything through, again."""
        self._mode = "open"

    def refuse(self) -> None:
        """End every connection at once."""
        self._mode = "refuse"

    def silence(self) -> None:
        """Take connections, and let nothing through."""
        self._mode = "silent"

    def close(self) -> None:
        """End it."""
        self._ended.set()
        self._thread.join()
        self._listener.close()

    def _take(self) -> None:
        held: list[socket.socket] = []
        pairs: dict[socket.socket, socket.socket] = {}
        while not self._ended.is_set():
            if self._mode != "open":
                held += pairs if self._mode == "silent" else []
                for one in pairs if self._mode == "refuse" else ():
                    one.close()
                pairs = {}
            for ready in select.select([self._listener, *pairs], [], [], 0.05)[0]:
                if ready is self._listener:
                    client, _ = self._listener.accept()
                    if self._mode == "silent":
                        held.append(client)
                        continue
                    if self._mode == "refuse":
                        client.close()
                        continue
                    server = socket.create_connection(("127.0.0.1", self._to))
                    pairs |= {client: server, server: client}
                elif ready in pairs:
                    self._pass_on(ready, pairs)
        for one in [*held, *pairs]:
            one.close()

    @staticmethod
    def _pass_on(ready: socket.socket, pairs: dict[socket.socket, socket.socket]) -> None:
        other, data = pairs[ready], b""
        with suppress(OSError):
            data = ready.recv(1 << 16)
            other.sendall(data)
        if not data:
            for one in (ready, other):
                one.close()
                del pairs[one]
