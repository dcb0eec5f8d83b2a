"""Waiting for processes for as long as they work: a limit on standing still, not on the time that it takes."""

import time
from collections.abc import Callable
from contextlib import suppress

import psutil

STALLED_SECONDS = 120.0
"""How long nothing may move."""
LONGEST_SECONDS = 1_800.0
"""How long a wait may take at most, whatever moves."""

_LEAST_WORK_SECONDS = 5.0
_MEASURED_EVERY_SECONDS = 2.0
_POLL_SECONDS = 0.05


class Patience:
    """Lasts as long as what is waited for makes progress.

    Progress is five seconds of CPU time of the processes that this one has started, directly or not, or another value
    of `progress`. On a busy machine work takes longer, and waits last longer with it; a server that waits for requests,
    or a process that hangs, works for less than that in two minutes.

    Parameters
    ----------
    what : str
        What is waited for.
    progress : callable, optional
        What has been done so far, as any value that changes with it.
    """

    def __init__(
        self,
        what: str,
        progress: Callable[[], object] = lambda: None,
    ) -> None:
        self._what, self._progress = what, progress
        self._started = self._moved = self._measured = time.monotonic()
        self._work, self._done = work_of_children(), progress()

    def check(self) -> None:
        """Go on waiting, or not.

        Raises
        ------
        TimeoutError
            When nothing has moved for ``STALLED_SECONDS``, or ``LONGEST_SECONDS`` have passed.
        """
        now = time.monotonic()
        if now - self._measured >= _MEASURED_EVERY_SECONDS:
            self._measured = now
            work, done = work_of_children(), self._progress()
            # Work falls when a process ends, which is progress too.
            if abs(work - self._work) >= _LEAST_WORK_SECONDS or done != self._done:
                self._moved, self._work, self._done = now, work, done
        if now - self._moved > STALLED_SECONDS:
            message = f"waited for {self._what}: nothing moved for {STALLED_SECONDS:.0f} s"
            raise TimeoutError(message)
        if now - self._started > LONGEST_SECONDS:
            message = f"waited {LONGEST_SECONDS:.0f} s for {self._what}"
            raise TimeoutError(message)


def wait_until(
    condition: Callable[[], object],
    what: str,
    *,
    progress: Callable[[], object] = lambda: None,
) -> None:
    """Wait for a condition, for as long as there is progress.

    Raises
    ------
    TimeoutError
        See `Patience`.
    """
    patience = Patience(what, progress)
    while not condition():
        patience.check()
        time.sleep(_POLL_SECONDS)


def work_of_children() -> float:
    """Seconds of CPU time of the living processes that this one has started, directly or not."""
    seconds = 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            taken = process.cpu_times()
            seconds += taken.user + taken.system
    return seconds
