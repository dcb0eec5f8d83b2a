"""Streamlit's own page with the style sheet of the pages, and with links to the parts of Streamlit that they need."""

from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monitor.ui.front_end import preloads

STYLE = Path(__file__).with_name("pages.css")
_END = b"</body>"


class StyledIndex:
    """ASGI middleware that puts the style sheet and `preloads` into every HTML page that Streamlit sends.

    An element of a page with the style would be shown after the elements that it moves.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond as the app does; HTML, which is small, is sent when it is complete."""
        if scope["type"] != "http" or scope["method"] != "GET":
            await self.app(scope, receive, send)
            return
        # HTML that is compressed or not sent again cannot be completed.
        unneeded = {b"accept-encoding", b"if-none-match", b"if-modified-since"} if _is_page(scope["path"]) else set()
        scope = {**scope, "headers": [(name, value) for name, value in scope["headers"] if name not in unneeded]}
        start: Message | None = None
        body = b""

        async def complete(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                if not headers.get("content-type", "").startswith("text/html"):
                    await send(message)
                    return
                start = message
            elif start is None or message["type"] != "http.response.body":
                await send(message)
            else:
                body += message.get("body", b"")
                if not message.get("more_body"):
                    added = preloads() + b"<style>" + STYLE.read_bytes() + b"</style>"
                    body = body.replace(_END, added + _END, 1)
                    headers = MutableHeaders(raw=start["headers"])
                    headers["content-length"] = str(len(body))
                    del headers["etag"], headers["last-modified"]
                    await send(start)
                    await send({"type": "http.response.body", "body": body})

        await self.app(scope, receive, complete)


def _is_page(path: str) -> bool:
    return not path.startswith(("/static/", "/_stcore/", "/media/")) and Path(path).suffix in {"", ".html"}
