"""Chromium without a window, through its debugging pipe: images of pages, and pages as PDF."""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from data.errors import KobeShotError

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
"""Names of the program, the first on PATH is used."""

_TIMEOUT_SECONDS = 60.0
_POLL_SECONDS = 0.25
_STABLE_POLLS = 4
_READ_BYTES = 1 << 20
_MAX_HEIGHT = 2_600
_A4_INCHES = {"paperWidth": 8.27, "paperHeight": 11.69}
_MARGIN_INCHES = 0.6
_FOOTER = (
    '<div style="font-size:8px;width:100%;text-align:center;color:#5c6470">'
    '<span class="title"></span> · <span class="pageNumber"></span>/<span class="totalPages"></span></div>'
)


_EXECUTE = """\
import os, sys
reads, writes = (os.dup(int(number)) for number in sys.argv[1:3])
high = [os.dup2(number, 100 + place) for place, number in enumerate((reads, writes))]
for place, number in enumerate(high):
    os.dup2(number, 3 + place)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Chromium reads commands from descriptor 3 and writes to descriptor 4."""


class BrowserError(KobeShotError):
    """Chromium did not start, or did not respond."""


def program() -> str | None:
    """Path of Chromium; None where it is not installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@dataclass
class Browser:
    """A page of a running Chromium."""

    writes: int
    reads: int
    session: str = ""
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _left: bytes = b""

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Call a method of the DevTools protocol.

        Raises
        ------
        BrowserError
            If it fails, or Chromium ends or does not respond within a minute.
        """
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        try:
            os.write(self.writes, json.dumps(message).encode() + b"\0")
        except BrokenPipeError as error:
            raise _ended(method) from error
        while (found := self._message(method)).get("id") != number:
            pass
        if "error" in found:
            problem = f"Chromium: {method} failed: {found['error'].get('message')}"
            raise BrowserError(problem)
        result: dict[str, Any] = found["result"]
        return result

    def _message(self, method: str) -> dict[str, Any]:
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while b"\0" not in self._left:
            ready, _, _ = select.select([self.reads], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                problem = f"Chromium did not respond to {method} within {_TIMEOUT_SECONDS:.0f} s"
                raise BrowserError(problem)
            received = os.read(self.reads, _READ_BYTES)
            if not received:
                raise _ended(method)
            self._left += received
        first, _, self._left = self._left.partition(b"\0")
        found: dict[str, Any] = json.loads(first)
        return found

    def open(self, url: str, ready: str, *, width: int = 1_280, height: int = 900) -> None:
        """Open a page and wait until it is complete.

        Parameters
        ----------
        url : str
        ready : str
            JavaScript expression that is true when the page is complete. The page is also waited for until its text
            no longer changes; a page that does not become complete within a minute is used as it is.
        width, height : int
            Of the window, pixels.
        """
        self._resize(width, height)
        self.call("Page.navigate", url=url)
        deadline, before, stable = time.monotonic() + _TIMEOUT_SECONDS, None, 0
        while stable < _STABLE_POLLS and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            found = self.evaluate(f"[Boolean({ready}), document.body ? document.body.innerText : '']")
            complete, text = found or (False, "")
            stable = stable + 1 if complete and text == before else 0
            before = text

    def evaluate(self, expression: str) -> Any:  # noqa: ANN401 a JSON value
        """Evaluate JavaScript in the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def image(self, *, width: int = 1_280, height: str = "document.documentElement.scrollHeight") -> bytes:
        """The page as PNG, as high as a JavaScript expression for its height, up to a limit."""
        high = int(min(max(float(self.evaluate(height) or 0), 600), _MAX_HEIGHT))
        self._resize(width, high)
        time.sleep(2 * _POLL_SECONDS)
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def pdf(self) -> bytes:
        """The page as PDF in A4, with page numbers."""
        margins = {f"margin{side}": _MARGIN_INCHES for side in ("Top", "Bottom", "Left", "Right")}
        found = self.call(
            "Page.printToPDF",
            printBackground=True,
            displayHeaderFooter=True,
            headerTemplate="<div></div>",
            footerTemplate=_FOOTER,
            generateTaggedPDF=True,
            generateDocumentOutline=True,
            **_A4_INCHES,
            **margins,
        )
        return base64.b64decode(found["data"])

    def _resize(self, width: int, height: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)


@contextmanager
def browser() -> Iterator[Browser]:
    """Start Chromium with an empty profile, and stop it whatever happens.

    Raises
    ------
    BrowserError
        If it is not installed, or does not start.
    """
    path = program()
    if path is None:
        message = f"Chromium was not found on PATH (tried: {', '.join(NAMES)})"
        raise BrowserError(message)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = [
            *("--headless=new", "--remote-debugging-pipe", f"--user-data-dir={profile}", "--no-first-run"),
            *("--hide-scrollbars", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"),
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
        ]
        to_read, to_write = os.pipe()
        reads, writes = os.pipe()
        try:
            process = subprocess.Popen(
                [sys.executable, "-c", _EXECUTE, str(to_read), str(writes), path, *options, "about:blank"],
                pass_fds=(to_read, writes),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            os.close(to_read)
            os.close(writes)
        try:
            page = Browser(to_write, reads)
            target = page.call("Target.createTarget", url="about:blank")["targetId"]
            page.session = page.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            page.call("Page.enable")
            yield page
        finally:
            os.close(to_write)
            os.close(reads)
            _stop(process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _ended(method: str) -> BrowserError:
    return BrowserError(f"Chromium ended before it responded to {method}")
