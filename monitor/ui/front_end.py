"""Streamlit's files for the browser: the page names those that it will need, and they are sent without a wait."""

import json
import mimetypes
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit.file_util import get_static_dir

_FOLDER = Path(get_static_dir())
_PAGE = "index.html"
FIRST = (
    "../lib/src/components/widgets/ButtonGroup/ButtonGroup.tsx",
    "../node_modules/rehype-raw/index.js",
    "../lib/src/components/elements/PageLink/PageLink.tsx",
    "../lib/src/components/elements/Metric/Metric.tsx",
    "../lib/src/components/widgets/BidiComponent/BidiComponent.tsx",
    "../lib/src/components/widgets/Button/Button.tsx",
    "../lib/src/components/widgets/DownloadButton/DownloadButton.tsx",
)
"""Parts of Streamlit that the first page shows, by their names in its manifest.

Not plotly: the browser would compile its 5 MB before it shows anything.
"""
_IMMUTABLE = {"cache-control": "public, immutable, max-age=31536000"}


@cache
def preloads(parts: Sequence[str] = FIRST) -> bytes:
    """Links by which the browser loads and compiles parts of Streamlit before a page shows them; HTML.

    Without them it requests each part when a page first shows it, while the server is busy with that page.
    """
    manifest = json.loads((_FOLDER / "manifest.json").read_text(encoding="utf-8"))
    needed = dict.fromkeys(name for part in parts if part in manifest for name in _imported(manifest, part))
    at_once = set(_imported(manifest, _PAGE))
    links = (
        f'<link rel="modulepreload" crossorigin href="./{manifest[name]["file"]}">'
        for name in needed
        if name not in at_once
    )
    return "".join(links).encode()


def _imported(manifest: dict[str, dict[str, list[str]]], part: str) -> Iterator[str]:
    """A part and all that it imports, each once."""
    found, open_ = {part}, [part]
    while open_:
        name = open_.pop(0)
        yield name
        new = [each for each in manifest[name].get("imports", []) if each not in found]
        found.update(new)
        open_.extend(new)


class FrontEnd:
    """ASGI middleware that sends Streamlit's files whose names contain a digest of what is in them.

    Streamlit reads them in threads, in many small steps, which wait for the script of a page to let go of the
    interpreter: in the first second of a visit they arrive late. Here a file is read and sent in one step.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.files = {
            f"/{path.relative_to(_FOLDER).as_posix()}": path
            for path in (_FOLDER / "static").rglob("*")
            if path.is_file()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond with the file; to any other request as the app does."""
        path = self.files.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "GET" else None
        if path is None or any(name in {b"range", b"if-none-match"} for name, _ in scope["headers"]):
            await self.app(scope, receive, send)
            return
        kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
        await Response(path.read_bytes(), headers=_IMMUTABLE, media_type=kind)(scope, receive, send)
