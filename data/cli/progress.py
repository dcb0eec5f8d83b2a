"""Progress bars for long work, shown on a terminal only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data.cli.console import console

ProgressCallback = Callable[[int], None]
"""Called with the number of rows that were processed since the last call."""


@contextmanager
def progress_bar(what: str, rows: int) -> Iterator[ProgressCallback]:
    """Show a progress bar over rows until the block ends.

    Parameters
    ----------
    what : str
        Description of the work.
    rows : int
        Total number of rows.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=rows)
        yield lambda done: bar.advance(task, done)
