"""Waiting for processes while they make progress: a timeout on stalling, not on the total duration."""

import time
from collections.abc import Callable
from contextlib import suppress

import psutil

STALLED_SECONDS = 120.0
"""Maximum duration without progress."""
MAX_SECONDS = 1_800.0
"""Maximum duration of a wait."""

_MIN_WORK_SECONDS = 5.0
_MEASURE_INTERVAL_SECONDS = 2.0
_POLL_SECONDS = 0.05


class Patience:
    """A timeout that is extended while there is progress.

    Progress is five seconds of CPU time of this process's descendants, or a new value of `progress`. On a busy machine
    work takes longer, and so do waits. An idle server or a hanging process uses less CPU time in two minutes.

    Parameters
    ----------
    what : str
        Description of the awaited condition.
    progress : callable, optional
        Returns a value that changes with progress.
    """

    def __init__(
        self,
        what: str,
        progress: Callable[[], object] = lambda: None,
    ) -> None:
        self._what, self._progress = what, progress
        self._started = self._progressed = self._measured = time.monotonic()
        self._work, self._done = descendants_cpu_seconds(), progress()

    def check(self) -> None:
        """Raise if the wait is over.

        Raises
        ------
        TimeoutError
            If there was no progress for ``STALLED_SECONDS``, or ``MAX_SECONDS`` have passed.
        """
        now = time.monotonic()
        if now - self._measured >= _MEASURE_INTERVAL_SECONDS:
            self._measured = now
            work, done = descendants_cpu_seconds(), self._progress()
            # The sum decreases when a process ends, which is progress too.
            if abs(work - self._work) >= _MIN_WORK_SECONDS or done != self._done:
                self._progressed, self._work, self._done = now, work, done
        if now - self._progressed > STALLED_SECONDS:
            message = f"waited for {self._what}: no progress for {STALLED_SECONDS:.0f} s"
            raise TimeoutError(message)
        if now - self._started > MAX_SECONDS:
            message = f"waited {MAX_SECONDS:.0f} s for {self._what}"
            raise TimeoutError(message)


def wait_until(
    condition: Callable[[], object],
    what: str,
    *,
    progress: Callable[[], object] = lambda: None,
) -> None:
    """Wait for a condition while there is progress.

    Raises
    ------
    TimeoutError
        See `Patience`.
    """
    patience = Patience(what, progress)
    while not condition():
        patience.check()
        time.sleep(_POLL_SECONDS)


def descendants_cpu_seconds() -> float:
    """CPU time of the running descendants of this process, seconds."""
    seconds = 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            taken = process.cpu_times()
            seconds += taken.user + taken.system
    return seconds
