"""Random trials in parallel processes, and what is printed of them."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TypeVar

from rich.progress import track

from data.cli.console import console
from monitor.metrics.rates import wilson

Seed = TypeVar("Seed")
Result = TypeVar("Result")

_PROCESSES = 2
_TRIALS_AT_ONCE = 5


@contextmanager
def processes() -> Iterator[ProcessPoolExecutor]:
    """Processes for `run_trials`; trials that have not started are canceled if the benchmark is interrupted."""
    # Two processes with one thread each are faster than two with shared threads.
    os.environ["OMP_NUM_THREADS"] = "1"
    # A fork after the use of OpenMP deadlocks.
    with ProcessPoolExecutor(_PROCESSES, mp_context=get_context("spawn")) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def seeds(*first: int, trials: int) -> Iterator[tuple[int, ...]]:
    """The seeds of trials: each is the numbers of its measurement, and its own."""
    return ((*first, number) for number in range(trials))


def run_trials(
    pool: ProcessPoolExecutor, trial: Callable[[Seed], Result], of: Iterable[Seed], what: str
) -> list[Result]:
    """Run a trial for each seed, with a progress bar."""
    each = list(of)
    outcomes = pool.map(trial, each, chunksize=_TRIALS_AT_ONCE)
    return list(track(outcomes, f"{len(each):,} {what}", total=len(each), console=console))


def met(value: float, low_goal: float, high_goal: float) -> str:
    """Whether a goal is met."""
    return "met" if low_goal <= value <= high_goal else "NOT met"


def share(part: int, whole: int, form: str = ".1%") -> str:
    """Format a share with its 95% interval.

    Examples
    --------
    >>> share(5, 100)
    '5.0% [2.2%, 11.2%]'
    """
    low, high = wilson([part], [whole])
    return f"{part / whole:{form}} [{low[0]:{form}}, {high[0]:{form}}]"
