"""A bar for work that takes long, where somebody looks on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data.cli.console import console

ProgressCallback = Callable[[int], None]
"""Called with the number of rows that are done since it was last called."""


@contextmanager
def progress_bar(what: str, rows: int) -> Iterator[ProgressCallback]:
    """Show how far work on rows has come, until the block ends.

    Parameters
    ----------
    what : str
        In words.
    rows : int
        How many there are in all.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task(what, total=rows)
        yield lambda done: shown.advance(task, done)
