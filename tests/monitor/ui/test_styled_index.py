"""The style sheet and links to parts come with Streamlit's own page, before the elements that need them."""

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from monitor.ui.front_end import preloads
from monitor.ui.styled_index import STYLE, StyledIndex
from tests.asgi import get

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


HEADERS = [(b"if-none-match", b"1"), (b"accept-encoding", b"gzip")]


def test_a_page_has_the_style_sheet_and_the_links_in_it_and_no_validator_of_another_body() -> None:
    headers, body = get(APP, "/why", HEADERS)
    assert STYLE.read_bytes() in body
    assert preloads() in body
    assert headers[b"content-length"] == str(len(body)).encode()
    assert b"etag" not in headers


@pytest.mark.parametrize(
    ("path", "expected"), [("/_stcore/health", HTML.encode()), ("/static/pages.css", STYLE.read_bytes())]
)
def test_what_is_no_page_is_sent_as_it_is(path: str, expected: bytes) -> None:
    assert get(APP, path, HEADERS)[1] == expected
