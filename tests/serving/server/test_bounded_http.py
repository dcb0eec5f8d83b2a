"""What keeps connections within their limits costs a short request next to nothing."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from serving.server.bounded_http import Limiter
from serving.server_limits import Limits

REQUEST = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\n\r\n{}"
RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
REQUESTS = 50


async def response(_scope: Any, receive: Callable[..., Any], send: Callable[..., Any]) -> None:  # noqa: ANN401 ASGI's
    """Respond "ok" to a whole request."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.mark.parametrize("sent_together", [1, 5], ids=["one by one", "five at a time"])
def test_requests_on_a_connection_make_no_timers(sent_together: int) -> None:
    timers = asyncio.run(_timers_of_requests(sent_together))
    assert timers < REQUESTS / 10


def test_an_idle_connection_is_closed_after_its_response() -> None:
    assert asyncio.run(_rest_of_an_idle_connection()) == b""


async def _timers_of_requests(sent_together: int) -> int:
    loop = asyncio.get_running_loop()
    timers, make = 0, loop.call_later

    def call_later(*arguments: Any) -> asyncio.TimerHandle:  # noqa: ANN401 asyncio's
        nonlocal timers
        timers += 1
        return make(*arguments)

    loop.call_later = call_later  # type: ignore[assignment,method-assign]
    server, reader, writer = await _connected(Limits())
    for _ in range(REQUESTS // sent_together):
        writer.write(REQUEST * sent_together)
        assert await reader.readexactly(len(RESPONSE) * sent_together) == RESPONSE * sent_together
    writer.close()
    server.close()
    return timers


async def _rest_of_an_idle_connection() -> bytes:
    server, reader, writer = await _connected(Limits(idle_seconds=0.1))
    writer.write(REQUEST)
    await reader.readexactly(len(RESPONSE))
    rest = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    server.close()
    return rest


async def _connected(limits: Limits) -> tuple[asyncio.Server, asyncio.StreamReader, asyncio.StreamWriter]:
    """A server with limits in this event loop, and a connection to it."""
    config = uvicorn.Config(response, http="httptools", lifespan="off", log_level="warning", proxy_headers=False)
    config.load()
    Limiter(limits).install(config)
    state: Any = ServerState()
    protocol: Any = config.http_protocol_class
    server = await asyncio.get_running_loop().create_server(
        lambda: protocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    return server, *await asyncio.open_connection(*server.sockets[0].getsockname())
