"""Results that take long to compute: shown as they are while a newer one is computed in the background."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Result = TypeVar("Result")


@dataclass
class _Entry(Generic[Result]):
    """A result.

    Attributes
    ----------
    value : Result
    computed : float
        When its computation started, seconds of the monotonic clock.
    took : float
        How long it took, seconds.
    refreshing : bool
        Whether a newer one is being computed.
    """

    value: Result
    computed: float
    took: float
    refreshing: bool = False


class Kept(Generic[Result]):
    """The latest results of a function, by key.

    A result is current for `fresh` seconds. After that, one that was computed within `quick` seconds is computed again
    when it is requested. One that took longer is returned as it is, up to an age of `oldest` seconds, and a newer one
    is computed in a thread. An error is raised, or ends that thread, and is not kept.

    Parameters
    ----------
    fresh, quick, oldest : float
        Seconds.
    size : int
        Results that are kept; of more, those that were requested last.
    """

    def __init__(self, *, fresh: float, quick: float, oldest: float, size: int) -> None:
        self._fresh, self._quick, self._oldest, self._size = fresh, quick, oldest, size
        self._entries: OrderedDict[Hashable, _Entry[Result]] = OrderedDict()
        self._lock, self._computing = threading.Lock(), threading.Lock()

    def get(self, key: Hashable, compute: Callable[[], Result], refresh: Callable[[], Result] | None = None) -> Result:
        """The result of a key.

        Parameters
        ----------
        key : hashable
        compute : callable
        refresh : callable, optional
            Computes a newer result in the background, instead of `compute`.
        """
        found = self._usable(key, refresh or compute)
        if found is not None:
            return found.value
        with self._computing:
            # Another visitor may have waited for the same result.
            found = self._usable(key, refresh or compute)
            return found.value if found is not None else self._computed(key, compute)

    def age(self, key: Hashable) -> float:
        """Seconds since a result was computed; 0 if there is none."""
        with self._lock:
            found = self._entries.get(key)
            return time.monotonic() - found.computed if found else 0.0

    def clear(self) -> None:
        """Forget all results."""
        with self._lock:
            self._entries.clear()

    def _usable(self, key: Hashable, refresh: Callable[[], Result]) -> _Entry[Result] | None:
        with self._lock:
            found = self._entries.get(key)
            if found is None:
                return None
            age = time.monotonic() - found.computed
            if age > self._fresh and (found.took < self._quick or age > self._oldest):
                return None
            self._entries.move_to_end(key)
            if age > self._fresh and not found.refreshing:
                found.refreshing = True
                threading.Thread(target=self._refreshed, args=(key, refresh), daemon=True, name="refresh").start()
            return found

    def _refreshed(self, key: Hashable, refresh: Callable[[], Result]) -> None:
        try:
            self._computed(key, refresh)
        except Exception:  # noqa: BLE001 the next visitor computes it, and is shown the error
            with self._lock:
                self._entries.pop(key, None)

    def _computed(self, key: Hashable, compute: Callable[[], Result]) -> Result:
        started = time.monotonic()
        value = compute()
        entry = _Entry(value, started, time.monotonic() - started)
        with self._lock:
            self._entries[key] = entry
            self._entries.move_to_end(key)
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)
        return value
