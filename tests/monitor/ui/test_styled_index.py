"""The style sheet of the pages comes with Streamlit's own page, so that no element moves when it arrives."""

import asyncio

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message

from monitor.ui.styled_index import STYLE, StyledIndex

HTML = "<html><head></head><body>page</body></html>"


async def page(request: Request) -> Response:
    assert "if-none-match" not in request.headers
    return HTMLResponse(HTML, headers={"etag": "of the page without the style"})


async def text(_request: Request) -> Response:
    return PlainTextResponse(HTML)


async def script(_request: Request) -> Response:
    return FileResponse(STYLE)


APP = Starlette(
    routes=[Route("/why", page), Route("/_stcore/health", text), Route("/static/pages.css", script)],
    middleware=[Middleware(StyledIndex)],
)


def get(path: str) -> tuple[dict[bytes, bytes], bytes]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"if-none-match", b"1"), (b"accept-encoding", b"gzip")]
    scope: dict[str, object] = {"type": "http", "method": "GET", "path": path, "headers": headers, "query_string": b""}
    scope["asgi"] = {"version": "3.0", "spec_version": "2.4"}
    asyncio.run(APP(scope, receive, send))
    return dict(sent[0]["headers"]), b"".join(message.get("body", b"") for message in sent[1:])


def test_a_page_has_the_style_sheet_in_it_and_no_validator_of_another_body() -> None:
    headers, body = get("/why")
    assert STYLE.read_bytes() in body
    assert headers[b"content-length"] == str(len(body)).encode()
    assert b"etag" not in headers


@pytest.mark.parametrize(
    ("path", "expected"), [("/_stcore/health", HTML.encode()), ("/static/pages.css", STYLE.read_bytes())]
)
def test_what_is_no_page_is_sent_as_it_is(path: str, expected: bytes) -> None:
    assert get(path)[1] == expected
