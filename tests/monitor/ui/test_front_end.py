"""The browser loads what the first page shows before the page is computed, and its files do not wait for pages."""

import json
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from streamlit.file_util import get_static_dir

from monitor.ui.front_end import FIRST, FrontEnd, preloads
from tests.asgi import get

FOLDER = Path(get_static_dir())
MANIFEST = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
METRIC = MANIFEST[next(part for part in FIRST if part.endswith("Metric.tsx"))]


async def app(_request: Request) -> Response:
    return PlainTextResponse("of the app")


APP = Starlette(routes=[Route("/{path:path}", app)], middleware=[Middleware(FrontEnd)])


@pytest.mark.parametrize("part", FIRST)
def test_the_installed_streamlit_has_every_part_of_the_first_page(part: str) -> None:
    assert f'href="./{MANIFEST[part]["file"]}"' in preloads().decode()


def test_a_part_is_linked_with_what_it_imports_unless_the_page_links_it_itself() -> None:
    links, own = preloads().decode(), (FOLDER / "index.html").read_text(encoding="utf-8")
    for name in METRIC["imports"]:
        file = MANIFEST[name]["file"]
        assert (file in links) != (file in own)


def test_a_streamlit_without_a_part_is_served_without_its_link() -> None:
    assert preloads(("no such part",)) == b""


def test_a_file_is_sent_whole_and_is_kept_by_the_browser() -> None:
    headers, body = get(APP, f"/{METRIC['file']}")
    assert body == (FOLDER / METRIC["file"]).read_bytes()
    assert b"javascript" in headers[b"content-type"]
    assert b"immutable" in headers[b"cache-control"]


@pytest.mark.parametrize("path", ["/", "/static/js/no-such-file.js", "/static/js/../../index.html", "/index.html"])
def test_all_else_is_left_to_the_app(path: str) -> None:
    assert get(APP, path)[1] == b"of the app"


def test_a_part_of_a_file_is_left_to_the_app() -> None:
    assert get(APP, f"/{METRIC['file']}", [(b"range", b"bytes=0-9")])[1] == b"of the app"
