"""The console that all commands write to."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console, RenderableType
from rich.text import Text

from data.masking import masked

_WIDTH_WITHOUT_TERMINAL = 120
_brief: ContextVar[bool] = ContextVar("brief", default=False)


def _console(*, stderr: bool) -> Console:
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(
        stderr=stderr,
        width=None if terminal else _WIDTH_WITHOUT_TERMINAL,
        highlight=False,
        markup=False,
        soft_wrap=not terminal,
    )


console = _console(stderr=False)
"""Console on standard output; plain text of a fixed width if that is a file or a pipe."""

_errors = _console(stderr=True)


def format_message(head: str, text: object = "", *, style: str = "bold") -> Text:
    """Format a styled head and a plain text, without markup and with secrets masked."""
    return Text.assemble((masked(head), style), " " if text else "", masked(text))


def info(head: str, text: object = "", *, style: str = "bold") -> None:
    """Print a styled head and a plain text."""
    console.print(format_message(head, text, style=style))


def warn(text: str) -> None:
    """Print a warning; nothing if it is empty."""
    if text:
        info("Warning:", text, style="bold yellow")


def detail(what: RenderableType) -> None:
    """Print a detail, unless `brief` is active."""
    if not _brief.get():
        console.print(what)


@contextmanager
def brief() -> Iterator[None]:
    """Suppress details until the block ends, because a summary follows."""
    token = _brief.set(True)
    try:
        yield
    finally:
        _brief.reset(token)


@contextmanager
def suppress_output() -> Iterator[None]:
    """Suppress all output but errors until the block ends."""
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before


def error(head: str, text: object = "") -> None:
    """Print an error to standard error, with secrets masked."""
    _errors.print(Text.assemble((masked(head), "bold red"), " " if text else "", masked(text)))
