"""The production server: the contract of MLflow's scoring server, and more, as a small ASGI application.

``POST /invocations`` returns what ``mlflow models serve`` returns for every valid request. In addition, this server
returns an Arrow stream where that is accepted, records every scored row in the inference log with its origin
(``X-Request-Origin``), and names the version that scored (``X-Model-Version``), the request (``X-Request-ID``, the
client's or a new one), and the columns that it ignored (``X-Ignored-Columns``).
``/ping``, ``/health`` and ``/version`` are MLflow's; ``/model`` describes what is served, ``/metrics`` is for
Prometheus, and ``/openapi.json`` describes all of this.
"""

import asyncio
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from urllib.parse import quote

import orjson
from mlflow.exceptions import MlflowException
from mlflow.version import VERSION

from serving.inference_log.inference_log import ORIGIN_HEADER, InferenceLogWriter, Request, checked_origin
from serving.model.scoring_model import predictions_json
from serving.server import request_parsing
from serving.server.loaded_model import LoadedModel
from serving.server.metrics import ServerMetrics

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_logger = logging.getLogger("kobe_shot.server")
_MAX_INLINE_BYTES = 32 << 10
_ROWS_RECORDED_AT_ONCE = 200
_MAX_IGNORED_SHOWN, _NAME_LENGTH_SHOWN = 40, 40
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/-]{1,128}", re.ASCII)
_REQUEST_ID_BYTES = 16
_JSON = b"application/json"
_ORIGIN = ORIGIN_HEADER.lower().encode()
# Named, and not with the quality 0, which means "not this".
_ACCEPTS_ARROW = re.compile(re.escape(request_parsing.ARROW.encode()) + rb"(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))")


class Response(NamedTuple):
    """What is sent back, and what was scored for it."""

    status: int
    body: bytes
    content_type: bytes = _JSON
    version: str = ""
    scored: Request | None = None
    allow: bytes = b""
    location: bytes = b""
    ignored: Sequence[object] = ()
    unseen: Mapping[str, int] | None = None


class ScoringApp:
    """ASGI application around the versions of one model.

    Parameters
    ----------
    versions : mapping of int to LoadedModel
        The loaded versions; may change while the application runs.
    current : callable
        Gives the number of the current version.
    recorder : Recorder or None
        Inference log.
    metrics : ServerMetrics
    problem : callable
        Gives what is wrong with the whole server, or an empty text.
    """

    def __init__(
        self,
        versions: Mapping[int, LoadedModel],
        current: Callable[[], int],
        recorder: InferenceLogWriter | None,
        metrics: ServerMetrics,
        problem: Callable[[], str],
    ) -> None:
        self._versions, self._current = versions, current
        self._recorder, self._metrics = recorder, metrics
        # One long table at a time next to the short ones: more would only share the same core.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="tables")
        # Its own thread, so that a long table is recorded before the next one is scored.
        self._recording = ThreadPoolExecutor(1, thread_name_prefix="inference log")
        self._problem = problem
        self._plain: dict[str, Callable[[], Response]] = {
            "/ping": lambda: Response(200, b"\n"),
            "/health": self._health,
            "/version": lambda: Response(200, VERSION.encode()),
            "/model": self._model,
            "/metrics": lambda: Response(200, metrics.text(), metrics.content_type),
            "/openapi.json": self._description,
        }

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return
        started = time.perf_counter()
        headers = dict(scope["headers"])
        request_id = headers.get(b"x-request-id", b"")
        if not _REQUEST_ID.fullmatch(request_id):
            request_id = os.urandom(_REQUEST_ID_BYTES).hex().encode()
        try:
            response = await self._respond(scope, headers, request_id.decode(), receive)
        except _ClientGoneError:
            return
        except Exception:
            _logger.exception("request %s:", request_id.decode())
            text = f"The server failed; its log names the reason under request {request_id.decode()}."
            response = Response(500, request_parsing.error_json("INTERNAL_ERROR", text))
        await send(
            {"type": "http.response.start", "status": response.status, "headers": _headers(response, request_id)}
        )
        await send({"type": "http.response.body", "body": response.body})
        # After the response is on its way.
        asyncio.get_running_loop().call_soon(self._count, scope["path"], response, time.perf_counter() - started)
        if response.scored and self._recorder:
            await self._record(self._recorder, response.scored)

    def _count(self, path: str, response: Response, seconds: float) -> None:
        self._metrics.count(path, response.status, seconds)
        if response.scored:
            self._metrics.count_rows(response.version, len(response.scored.values))
            if response.unseen:
                self._metrics.count_unseen(response.version, response.unseen)

    def close(self) -> None:
        """Finish what is being scored or recorded."""
        self._pool.shutdown()
        self._recording.shutdown()

    async def _respond(
        self, scope: Mapping[str, Any], headers: Mapping[bytes, bytes], request_id: str, receive: Receive
    ) -> Response:
        path, method = scope["path"], scope["method"]
        if path == "/invocations":
            if method != "POST":
                return _not_allowed(method, b"POST")
            return await self._invocations(headers, request_id, receive)
        if path not in self._plain:
            without = path.rstrip("/")
            if without in {"/invocations", *self._plain}:
                return _moved(without, scope.get("query_string", b""))
            paths = ", ".join(["POST /invocations", *self._plain])
            return _error(404, "ENDPOINT_NOT_FOUND", f"Found {path!r}; expected one of {paths}.")
        if method not in {"GET", "HEAD"}:
            return _not_allowed(method, b"GET, HEAD")
        return self._plain[path]()

    async def _invocations(self, headers: Mapping[bytes, bytes], request_id: str, receive: Receive) -> Response:
        content_type = _content_type(headers)
        if isinstance(content_type, Response):
            return content_type
        try:
            origin = checked_origin(headers.get(_ORIGIN, b"").decode("latin-1"))
        except ValueError as error:
            return _error(400, "INVALID_PARAMETER_VALUE", str(error))
        body = await _body(receive)
        version = self._versions[self._current()]
        requested = _Headers(request_id, origin, _ACCEPTS_ARROW.search(headers.get(b"accept", b"")) is not None)
        # A short Parquet file may hold a long table.
        if len(body) <= _MAX_INLINE_BYTES and content_type != request_parsing.PARQUET:
            return _score(version, body, content_type, requested)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, _score, version, body, content_type, requested)

    async def _record(self, recorder: InferenceLogWriter, scored: Request) -> None:
        if len(scored.values) <= _ROWS_RECORDED_AT_ONCE:
            recorder.append(scored)
        else:
            await asyncio.get_running_loop().run_in_executor(self._recording, recorder.append, scored)

    def _health(self) -> Response:
        problem = self._problem()
        return _error(503, "TEMPORARILY_UNAVAILABLE", problem) if problem else Response(200, b"\n")

    def _model(self) -> Response:
        version = self._versions[self._current()]
        described = {**version.describe(), "inference_log": self._recorder is not None}
        return Response(200, orjson.dumps(described), version=version.source.version)

    def _description(self) -> Response:
        version = self._versions[self._current()]
        return Response(200, version.openapi, version=version.source.version)


class _ClientGoneError(Exception):
    pass


class _Headers(NamedTuple):
    """What the headers of a request define."""

    request_id: str
    origin: str
    accepts_arrow: bool


def _score(version: LoadedModel, sent: bytes, content_type: str, requested: _Headers) -> Response:
    number = version.source.version
    try:
        shots = version.parser.parse(sent, content_type)
        values, unseen = version.encode(shots)
        made, probability = version.score(values, shots.threshold)
    except MlflowException as error:
        status = error.get_http_status_code()
        return Response(status, request_parsing.error_json(error.error_code, error.message), version=number)
    scored = Request(
        requested.request_id,
        number,
        shots.values,
        made,
        probability,
        shots.shot_id,
        time.time(),
        requested.origin,
        shots.texts,
    )
    if requested.accepts_arrow:
        body, kind = (
            request_parsing.predictions_arrow(made, probability, version.target),
            request_parsing.ARROW.encode(),
        )
    else:
        body, kind = predictions_json(made, probability, shots.output, version.target), _JSON
    return Response(200, body, kind, number, scored, ignored=shots.ignored, unseen=unseen)


def _content_type(headers: Mapping[bytes, bytes]) -> str | Response:
    given = headers.get(b"content-type", b"").decode("latin-1")
    if given == request_parsing.JSON and b"content-encoding" not in headers:
        return given
    kind, *parameters = (part.strip() for part in given.split(";"))
    kinds = (request_parsing.JSON, request_parsing.CSV, request_parsing.PARQUET)
    if kind.lower() not in kinds:
        return _error(415, "BAD_REQUEST", f"Content-Type: expected one of {', '.join(kinds)}; found {kind[:100]!r}.")
    for parameter in filter(None, parameters):
        name, _, value = parameter.partition("=")
        if name.strip().lower() != "charset" or value.strip().strip('"').lower() != "utf-8":
            text = f"Content-Type: expected no parameter but charset=utf-8; found {parameter[:100]!r}."
            return _error(415, "BAD_REQUEST", text)
    encoding = headers.get(b"content-encoding", b"identity")
    if encoding.lower() != b"identity":
        text = f"Content-Encoding: expected none; found {encoding[:100].decode('latin-1')!r}."
        return _error(415, "BAD_REQUEST", text)
    return kind.lower()


async def _body(receive: Receive) -> bytes:
    """The body of a request; how long it is, and how long it takes, `serving.server.bounded_http` has limited."""
    parts = []
    while True:
        message = await receive()
        parts.append(_part(message))
        if not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _part(message: Message) -> bytes:
    if message["type"] == "http.disconnect":
        raise _ClientGoneError
    return bytes(message.get("body", b""))


def _moved(path: str, query: bytes) -> Response:
    """The redirect of MLflow's server from a path with a trailing slash; a client repeats its request."""
    return Response(307, b"", location=path.encode() + (b"?" + query if query else b""))


def _not_allowed(method: str, allow: bytes) -> Response:
    body = request_parsing.error_json("BAD_REQUEST", f"Expected {allow.decode()}; found {method}.")
    return Response(405, body, allow=allow)


def _error(status: int, code: str, message: str) -> Response:
    return Response(status, request_parsing.error_json(code, message))


def _headers(response: Response, request_id: bytes) -> list[tuple[bytes, bytes]]:
    headers = [
        (b"content-type", response.content_type),
        (b"content-length", str(len(response.body)).encode()),
        (b"x-request-id", request_id),
    ]
    if response.version:
        headers.append((b"x-model-version", response.version.encode()))
    if response.allow:
        headers.append((b"allow", response.allow))
    if response.location:
        headers.append((b"location", response.location))
    if response.ignored:
        names = ", ".join(
            quote(str(name)[:_NAME_LENGTH_SHOWN], errors="replace") for name in response.ignored[:_MAX_IGNORED_SHOWN]
        )
        headers.append((b"x-ignored-columns", names.encode()))
    return headers
