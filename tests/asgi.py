"""Requests to an ASGI app, without a server."""

import asyncio
from collections.abc import Iterable

from starlette.types import ASGIApp, Message


def get(app: ASGIApp, path: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> tuple[dict[bytes, bytes], bytes]:
    """The headers and the body of a response."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, object] = {
        "type": "http", "method": "GET", "path": path, "headers": [*headers], "query_string": b"",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
    }  # fmt: skip

    async def request() -> None:
        await app(scope, receive, send)

    asyncio.run(request())
    return dict(sent[0]["headers"]), b"".join(message.get("body", b"") for message in sent[1:])
