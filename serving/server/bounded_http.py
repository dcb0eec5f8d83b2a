"""uvicorn's HTTP protocol with limits: connections, request heads, bodies on their way, unread responses.

uvicorn limits none of them by itself. Here one `Limiter` per process counts what its connections hold, rejects what is
above ``serving/server_limits.py`` before it is kept, and checks twice a second for connections that are late: no
request has a timer of its own. A body of at most 32 KiB is not counted, so short requests are served while long
bodies hold all that the limits allow.

Both servers use it, the MLflow scoring server by `limit_servers`. MLflow runs a copy of this file with the served
model, so it imports nothing of this project.
"""

import asyncio
import functools
import gc
import json
import logging
import resource
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Generator, MutableMapping, MutableSequence
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

if TYPE_CHECKING:
    from serving.server_limits import Limits

SMALL_BODY_BYTES = 32 << 10
"""A body of at most so many bytes is not counted among those in flight."""
SHARED_FIGURES = 3
"""How many numbers each process writes into the memory that the processes of a server share."""
_BYTES, _BODIES, _CONNECTIONS = range(SHARED_FIGURES)
# Phases of a connection: no request; a part of a head; a part of a body; a whole request without its response; refused.
_IDLE, _HEAD, _BODY, _WORK, _REFUSED = range(5)
_SWEEP_SECONDS = 0.5
_LINGER_SECONDS = 3.0
_STALLED_SECONDS = 5.0
_SLOW_READER_SECONDS = 2.0
_LOG_SECONDS = 10.0
_OTHER_DESCRIPTORS = 64
_MIN_CONNECTIONS = 8
_SHARE_CLOSED = 16
_RETRY_AFTER = 2
_BUSY = "TEMPORARILY_UNAVAILABLE"

_logger = logging.getLogger("uvicorn.error")
_silent = logging.getLogger("uvicorn.error.silent")
_silent.disabled = True
_Message = MutableMapping[str, Any]


class _Body:
    """A body that is, or may become, longer than a small one.

    Attributes
    ----------
    counted : int
        Bytes of it among those in flight.
    moved_at : float
        When bytes of it came last.
    is_abandoned : bool
        Whether it ended early while the application was reading it.
    """

    __slots__ = ("counted", "has_turn", "is_abandoned", "moved_at")

    def __init__(self) -> None:
        self.counted, self.moved_at, self.has_turn, self.is_abandoned = 0, 0.0, False, False


class Limiter:
    """Counts what the connections of this process hold, and refuses more than the limits.

    Parameters
    ----------
    limits : Limits
    shared : mutable sequence of int, optional
        `SHARED_FIGURES` numbers for each process of the server, in memory that they share: bytes and bodies in flight
        are those of all. Without it, they are those of this process.
    place : int
        Which of the processes this is.
    count_refused : callable, optional
        Gets the name of the limit whenever something is refused for it.
    is_direct : bool
        Whether the application handles a request with a short body as soon as it is whole, without a task of its own;
        for a callable that does not use the current task.
    """

    def __init__(
        self,
        limits: "Limits",
        shared: MutableSequence[int] | None = None,
        place: int = 0,
        count_refused: Callable[[str], object] = lambda _limit: None,
        *,
        is_direct: bool = False,
    ) -> None:
        self.limits, self._count_refused, self.is_direct = limits, count_refused, is_direct
        self._shared: MutableSequence[int] = [0] * SHARED_FIGURES if shared is None else shared
        self._own = place * SHARED_FIGURES
        for figure in range(SHARED_FIGURES):
            self._shared[self._own + figure] = 0
        self.connections: set[BoundedProtocol] = set()
        self.now = time.monotonic()
        self._unlogged: Counter[str] = Counter()
        self._logged_at = self.now
        self._turn = asyncio.Lock()
        # Bytes of bodies that ended early: until the application has found out, and then until they are freed.
        self._ending = self._garbage = 0

    @property
    def bytes_in_flight(self) -> int:
        """Bytes that all processes of the server hold."""
        return sum(self._shared[_BYTES::SHARED_FIGURES])

    @property
    def bodies_in_flight(self) -> int:
        """Long bodies that all processes of the server hold."""
        return sum(self._shared[_BODIES::SHARED_FIGURES])

    @property
    def open_connections(self) -> int:
        """Connections that all processes of the server hold."""
        return sum(self._shared[_CONNECTIONS::SHARED_FIGURES])

    def install(self, config: uvicorn.Config) -> None:
        """Let a server that is about to listen keep to the limits; in its event loop.

        Raises
        ------
        OSError
            If this process may not open enough descriptors.
        """
        self.most_connections = _room_for(self.limits.connections)
        self.app = config.loaded_app
        config.http_protocol_class = type("BoundedProtocol", (BoundedProtocol,), {"limiter": self})
        # Neither server has a web socket, and a connection that becomes one is not seen here any more.
        config.ws_protocol_class = None
        config.timeout_keep_alive = self.limits.idle_seconds  # type: ignore[assignment]
        # What is loaded stays: the collections of what is abandoned need not read it.
        gc.freeze()
        self._loop = asyncio.get_running_loop()
        self._sweep()

    def admit(self, connection: "BoundedProtocol") -> None:
        """Take a connection, and close others for it where there are too many: never one whose request is in work.

        They are the oldest of the kind that most connections are: many that send half a head take the place of each
        other, and not that of a client that is silent between two requests, nor of one that has just come.
        """
        self.connections.add(connection)
        self._shared[self._own + _CONNECTIONS] = len(self.connections)
        if len(self.connections) <= self.most_connections:
            return
        kinds: defaultdict[object, list[BoundedProtocol]] = defaultdict(list)
        for other in self.connections:
            if other.phase != _WORK:
                kinds[other.kind()].append(other)
        if kinds:
            most: list[BoundedProtocol] = max(kinds.values(), key=len)
            waiting = sorted(most, key=lambda other: other.since)
            for other in waiting[: max(1, len(waiting) // _SHARE_CLOSED)]:
                other.drop("connections")

    def forget(self, connection: "BoundedProtocol") -> None:
        """Let go of a connection that is closed."""
        self.connections.discard(connection)
        self._shared[self._own + _CONNECTIONS] = len(self.connections)

    def exceeded(self, size: int, *, is_new: bool) -> str:
        """The limit that so many more bytes of a body exceed; empty if there is room, or if room could be made."""
        while True:
            over = self.bytes_in_flight - self._ending + size - self.limits.bytes_in_flight
            if 0 < over <= self._garbage:
                self._free_garbage()
                continue
            if over > 0:
                limit = "bytes_in_flight"
            elif is_new and self.bodies_in_flight >= self.limits.bodies_in_flight:
                limit = "bodies_in_flight"
            else:
                return ""
            if not self._refuse_stalled():
                return limit

    def take(self, body: _Body, size: int) -> str:
        """Count more bytes of a body; the limit that they exceed, or empty."""
        body.moved_at = self.now
        limit = self.exceeded(size, is_new=not body.counted)
        if not limit:
            self._shared[self._own + _BODIES] += not body.counted
            body.counted += size
            self.add_bytes(size)
        return limit

    def abandon(self, body: _Body) -> None:
        """Count a body that ends early no more; its bytes are counted until they are freed."""
        if body.counted:
            body.is_abandoned = True
            self._ending += body.counted
            self._shared[self._own + _BODIES] -= 1

    def release(self, body: _Body) -> None:
        """Count a body that the application is done with no more; a second time does nothing."""
        if body.is_abandoned:
            # Where Starlette reads, a traceback holds the bytes in a cycle.
            self._ending -= body.counted
            self._garbage += body.counted
        elif body.counted:
            self.add_bytes(-body.counted)
            self._shared[self._own + _BODIES] -= 1
        body.counted, body.is_abandoned = 0, False

    def _free_garbage(self) -> None:
        gc.collect()
        self.add_bytes(-self._garbage)
        self._garbage = 0

    def add_bytes(self, size: int) -> None:
        """Count bytes that this process holds, or less than nothing for those that it does not hold any more."""
        self._shared[self._own + _BYTES] += size

    async def run(self, body: _Body, scope: _Message, receive: Any, send: Any) -> None:  # noqa: ANN401 ASGI's
        """Let the application handle a request with a long body; one such body is in work at a time."""

        async def receive_in_turn() -> _Message:
            message: _Message = await receive()
            if body.counted and not body.has_turn and message["type"] == "http.request" and not message["more_body"]:
                await self._turn.acquire()
                body.has_turn = True
            return message

        try:
            await self.app(scope, receive_in_turn, send)
        finally:
            if body.has_turn:
                self._turn.release()
            self.release(body)

    def note(self, limit: str) -> None:
        """Count something that was refused for a limit."""
        self._count_refused(limit)
        self._unlogged[limit] += 1

    def spare(self, reader: "BoundedProtocol") -> None:
        """Close the connection of a client that reads nothing of its response, where the bytes are needed."""
        if self.bytes_in_flight <= self.limits.bytes_in_flight:
            return
        slow = [
            other
            for other in self.connections
            if other is not reader and other.unread and self.now - other.read_at > _SLOW_READER_SECONDS
        ]
        if slow:
            min(slow, key=lambda other: other.read_at).drop("response_seconds")

    def _refuse_stalled(self) -> bool:
        """Make room: refuse the body that has been without new bytes for longest, if that is long."""
        stalled = [
            other
            for other in self.connections
            if other.phase == _BODY
            and other.body
            and other.body.counted
            and self.now - other.body.moved_at > _STALLED_SECONDS
        ]
        if not stalled:
            return False
        min(stalled, key=lambda other: other.body.moved_at if other.body else 0.0).refuse_late_body()
        return True

    def _sweep(self) -> None:
        self.now = time.monotonic()
        try:
            for connection in list(self.connections):
                connection.check(self.now)
            if self._garbage:
                self._free_garbage()
            if self._unlogged and self.now - self._logged_at > _LOG_SECONDS:
                counts = ", ".join(f"{count:,} for {limit}" for limit, count in self._unlogged.most_common())
                _logger.warning("Refused or closed for the limits of this server: %s", counts)
                self._unlogged.clear()
                self._logged_at = self.now
        finally:
            self._loop.call_later(_SWEEP_SECONDS, self._sweep)


class BoundedProtocol(HttpToolsProtocol):
    """A connection that keeps to the limits.

    Attributes
    ----------
    phase : int
        Of the request that came last.
    since : float
        When this phase started.
    body : _Body or None
        Of the request that came last, if it may be a long one.
    unread : int
        Bytes of responses that wait for the client.
    read_at : float
        When the client last read some of them.
    """

    limiter: Limiter

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 uvicorn's
        super().__init__(*arguments, **named)
        self.phase, self.since = _IDLE, time.monotonic()
        self.body: _Body | None = None
        self.unread, self.read_at = 0, 0.0
        self._received = 0
        # Bytes that came for no body: of a head, between chunks, after a request.
        self._others = 0
        # Whether the request that came last waits for one before it.
        self._is_queued = False
        # The request that came last, if its application starts when its body is whole; one of those that come at once,
        # so that many do not block the others.
        self._unstarted: tuple[RequestResponseCycle, Any] | None = None
        self._may_be_direct = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Admit the connection."""
        super().connection_made(transport)
        self.limiter.admit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End; an incomplete body is released at once."""
        self.limiter.forget(self)
        self._note_unread(0)
        if self.phase != _REFUSED:
            self._end_request()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, and check the bytes outside of bodies."""
        phase = self.phase
        if phase == _REFUSED:
            return
        if phase == _IDLE:
            self._become(_HEAD)
            self._others = 0
        before = self._received
        self._others += len(data)
        self._may_be_direct = self.limiter.is_direct
        super().data_received(data)
        if self._others <= self.limiter.limits.head_bytes:
            if self.phase == _HEAD and len(self.headers or ()) > self.limiter.limits.headers:
                self._refuse_head()
        elif self.phase == _HEAD:
            self._refuse_head()
        elif self.phase == _BODY and self._received == before:
            text = "The body has more bytes between its chunks, or after them, than in them."
            self.refuse(HTTPStatus.BAD_REQUEST, "head_bytes", text)
        elif self.phase == _WORK and phase == _WORK:
            self.drop("pipelined")

    def on_headers_complete(self) -> None:
        """Refuse a request by its head."""
        if self.phase == _REFUSED:
            return
        self._is_queued = self.cycle is not None and not self.cycle.response_complete
        headers = dict(self.headers)
        hosts = int(b"host" in headers)
        if len(headers) != len(self.headers):
            hosts = sum(name == b"host" for name, _ in self.headers)
        if len(self.pipeline) >= self.limiter.limits.pipelined:
            self.drop("pipelined")
        elif self._has_long_head():
            self._refuse_head()
        elif hosts != 1 and (hosts or self.parser.get_http_version() == "1.1"):
            self.refuse(HTTPStatus.BAD_REQUEST, "host", f"Expected one Host header; found {hosts}.")
        else:
            self._expect_body(int(headers.get(b"content-length", b"0")), in_chunks=b"transfer-encoding" in headers)

    def _has_long_head(self) -> bool:
        limits = self.limiter.limits
        if len(self.headers) > limits.headers:
            return True
        if self._others <= limits.head_bytes:
            return False
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > limits.head_bytes

    def _expect_body(self, length: int, *, in_chunks: bool) -> None:
        self.app, self.body = self.limiter.app, None
        if length > self.limiter.limits.body_bytes:
            self._refuse_long_body()
            return
        if length > SMALL_BODY_BYTES or in_chunks:
            limit = self.limiter.exceeded(length, is_new=True) if length else ""
            if limit:
                self._refuse_for_now(limit)
                return
            self.body = _Body()
            self.app = functools.partial(self.limiter.run, self.body)
        self._others = self._received = 0
        self._become(_BODY)
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:  # noqa: ANN401 uvicorn's
        is_short = self.phase == _BODY and not self.body and not self._is_queued and not self.expect_100_continue
        if self._may_be_direct and is_short:
            self._unstarted, self._may_be_direct = (cycle, app), False
        else:
            super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        """Count a part of a body before it is kept."""
        if self.phase == _REFUSED:
            return
        self._received += len(body)
        self._others = 0
        if self.body and self._received > SMALL_BODY_BYTES:
            if self._received > self.limiter.limits.body_bytes:
                self._refuse_long_body()
                return
            if not self.cycle.response_complete:
                exceeded = self.limiter.take(self.body, self._received - self.body.counted)
                if exceeded:
                    self._refuse_for_now(exceeded)
                    return
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole."""
        if self.phase != _REFUSED:
            self._become(_IDLE if self.cycle.response_complete else _WORK)
            self._others = 0
            super().on_message_complete()
            if self._unstarted:
                cycle, app = self._unstarted
                self._unstarted = None
                self._start_at_once(cycle.run_asgi(app))

    def _start_at_once(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine as far as it does not wait, and its rest in a task."""
        try:
            awaited = coroutine.send(None)
        except StopIteration:
            return
        task = self.loop.create_task(_finish(coroutine, awaited))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def on_response_complete(self) -> None:
        """A response is complete, perhaps before the body of its request."""
        if self.phase == _WORK and not self.pipeline:
            # As uvicorn has it, but without a timer for each request: `check` closes what stays without another one.
            self.server_state.total_requests += 1
            if not self.transport.is_closing():
                self.flow.resume_reading()
        else:
            super().on_response_complete()
        self._is_queued = bool(self.pipeline)
        if self.phase == _WORK and self.cycle.response_complete:
            self._become(_HEAD if self._others else _IDLE)

    def pause_writing(self) -> None:
        """More of a response waits for the client than the kernel takes."""
        super().pause_writing()
        self.read_at = self.limiter.now
        self._note_unread(self.transport.get_write_buffer_size())
        self.limiter.spare(self)

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        self._note_unread(0)
        if self.phase == _IDLE:
            # It is idle from now on: what is left of its response is in time.
            self._become(_IDLE)

    def shutdown(self) -> None:
        """The server ends."""
        if self.phase == _REFUSED:
            self.transport.abort()
        else:
            super().shutdown()

    def check(self, now: float) -> None:
        """Refuse, or close, what is late."""
        limits = self.limiter.limits
        late = now - self.since
        if self.unread:
            unread = self.transport.get_write_buffer_size()
            if unread < self.unread:
                self._note_unread(unread)
                self.read_at = now
            elif now - self.read_at > limits.response_seconds:
                self.drop("response_seconds")
                return
            self.limiter.spare(self)
        if self.phase == _IDLE and late > limits.idle_seconds and not self.unread:
            # Closed already, where it still is here a while later: its client reads nothing.
            (self.transport.abort if late > limits.response_seconds else self.transport.close)()
        elif self.phase == _HEAD and late > limits.head_seconds:
            text = f"The request line and the headers did not arrive within {limits.head_seconds:g} s."
            self.refuse(HTTPStatus.REQUEST_TIMEOUT, "head_seconds", text)
        elif self.phase == _BODY and late > limits.body_seconds:
            self.refuse_late_body()
        elif late > _LINGER_SECONDS and self.phase == _REFUSED:
            self.transport.abort()

    def kind(self) -> object:
        """What it is among connections that wait: by phase, by whether it had a request before, with a long body."""
        return self.phase, self.cycle is None, bool(self.body and self.body.counted)

    def refuse(self, status: HTTPStatus, limit: str, message: str) -> None:
        """Respond with an error and close; what the client still sends is discarded for some seconds.

        Closed at once, the connection would be reset, and a client that is sending would not see the response.
        """
        if self.phase == _REFUSED or self.transport.is_closing():
            return
        if self._is_queued or (self.phase == _BODY and self.cycle.response_started):
            # The client would take it for the response to another request.
            self.drop(limit)
            return
        self.limiter.note(limit)
        self.transport.write(_error(status, message))
        self._end_request()
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.flow.resume_reading()
        else:
            self.transport.close()

    def refuse_late_body(self) -> None:
        """Refuse a body that does not arrive."""
        text = f"The body did not arrive within {self.limiter.limits.body_seconds:g} s, or stalled while others waited."
        self.refuse(HTTPStatus.REQUEST_TIMEOUT, "body_seconds", text)

    def drop(self, limit: str) -> None:
        """Close without a response."""
        if self.phase != _REFUSED:
            self.limiter.note(limit)
            self._end_request()
        self.limiter.forget(self)
        self.transport.abort()

    def _become(self, phase: int) -> None:
        self.phase, self.since = phase, time.monotonic()

    def _note_unread(self, size: int) -> None:
        self.limiter.add_bytes(size - self.unread)
        self.unread = size

    def _end_request(self) -> None:
        """Let the application, if it waits for a body, find that the client is gone, and let go of what it holds."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.phase == _BODY:
                # Errors of the application about a body that ends early are not of interest.
                self.cycle.logger = _silent
        # An app that was never called holds nothing; one that was releases its body when it is done with it.
        for _, app in self.pipeline:
            if isinstance(app, functools.partial):
                self.limiter.release(app.args[0])
        if self.body and self.phase == _BODY:
            self.limiter.abandon(self.body)
        self.pipeline.clear()
        self._unstarted = None
        self._become(_REFUSED)

    def _refuse_head(self) -> None:
        limits = self.limiter.limits
        text = (
            f"Expected at most {limits.head_bytes:,} bytes of request line and headers, and {limits.headers} headers."
        )
        self.refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head_bytes", text)

    def _refuse_long_body(self) -> None:
        most = self.limiter.limits.body_bytes
        text = f"Expected a body of at most {most:,} bytes; send the table in parts (python -m serving.client)."
        self.refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_bytes", text)

    def _refuse_for_now(self, limit: str) -> None:
        text = f"Other bodies are in work, and there is no room for this one ({limit}); send it again."
        self.refuse(HTTPStatus.SERVICE_UNAVAILABLE, limit, text)


class _Started:
    """The rest of a coroutine that has been started and waits for something."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], awaited: object) -> None:
        self._coroutine, self._awaited = coroutine, awaited

    def __await__(self) -> Generator[Any, Any, None]:
        awaited, step = self._awaited, self._coroutine.send
        while True:
            try:
                sent = yield awaited
            except BaseException as error:  # noqa: BLE001 the coroutine handles it
                sent, step = error, self._coroutine.throw
            else:
                step = self._coroutine.send
            try:
                awaited = step(sent)
            except StopIteration:
                return


async def _finish(coroutine: Coroutine[Any, Any, None], awaited: object) -> None:
    await _Started(coroutine, awaited)


def limit_servers(limits: "Limits") -> None:
    """Let every server that uvicorn starts in this process from now on keep to the limits."""
    start = uvicorn.Server.startup

    @functools.wraps(start)
    async def startup(server: uvicorn.Server, sockets: Any = None) -> None:  # noqa: ANN401 uvicorn's
        Limiter(limits).install(server.config)
        await start(server, sockets)

    uvicorn.Server.startup = startup  # type: ignore[assignment,method-assign]


def _room_for(connections: int) -> int:
    """How many connections this process can have open, with descriptors left for files.

    Raises
    ------
    OSError
        If the limit of descriptors leaves room for next to none.
    """
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return connections
    used = len(list(Path("/dev/fd").iterdir()))
    room = allowed - used - _OTHER_DESCRIPTORS
    if room < _MIN_CONNECTIONS:
        expected = used + _OTHER_DESCRIPTORS + _MIN_CONNECTIONS
        message = f"Expected a limit of at least {expected} open files (ulimit -n), found {allowed}; raise it."
        raise OSError(message)
    return min(connections, room)


def _error(status: HTTPStatus, message: str) -> bytes:
    code = _BUSY if status == HTTPStatus.SERVICE_UNAVAILABLE else "BAD_REQUEST"
    body = json.dumps({"error_code": code, "message": message}).encode()
    head = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "connection: close",
        *([f"retry-after: {_RETRY_AFTER}"] if status == HTTPStatus.SERVICE_UNAVAILABLE else []),
    ]
    return "\r\n".join([*head, "", ""]).encode() + body
