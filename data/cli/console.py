"""The one console that steps write to."""

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
"""Where people read along; plain text of a fixed width when standard output is a file or a pipe."""

_errors = _console(stderr=True)


def told(head: str, text: object = "", *, style: str = "bold") -> Text:
    """A styled head and a plain text, neither read as markup, without secrets."""
    return Text.assemble((masked(head), style), " " if text else "", masked(text))


def info(head: str, text: object = "", *, style: str = "bold") -> None:
    """Write a styled head and a plain text."""
    console.print(told(head, text, style=style))


def detail(what: RenderableType) -> None:
    """Write what a summary leaves out, unless one follows; see `brief`."""
    if not _brief.get():
        console.print(what)


@contextmanager
def brief() -> Iterator[None]:
    """Leave out details until the block ends: a summary follows."""
    token = _brief.set(True)
    try:
        yield
    finally:
        _brief.reset(token)


@contextmanager
def suppress_output() -> Iterator[None]:
    """Write nothing but errors until the block ends, which another step is the detail of."""
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before


def error(head: str, text: object = "") -> None:
    """Write what went wrong to standard error, without secrets."""
    _errors.print(Text.assemble((masked(head), "bold red"), " " if text else "", masked(text)))
