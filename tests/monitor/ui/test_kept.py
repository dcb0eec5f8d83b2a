"""Results that take long are shown while newer ones are computed."""

import threading
from collections.abc import Callable

import pytest

from monitor.ui import kept
from tests.project import wait_until


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """What `time.monotonic` returns."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(kept, "time", found)
    return found


def taking(clock: Clock, seconds: float, value: str) -> Callable[[], str]:
    """A computation of a length."""

    def compute() -> str:
        clock.now += seconds
        return value

    return compute


def new() -> "kept.Kept[str]":
    return kept.Kept(fresh=60, quick=0.5, oldest=900, size=2)


def fails() -> str:
    message = "no store"
    raise OSError(message)


def test_a_result_is_computed_once_while_it_is_current(clock: Clock) -> None:
    results = new()
    assert results.get("log", taking(clock, 3, "first")) == "first"
    clock.now += 50
    assert results.get("log", fails) == "first"
    assert results.get("other", taking(clock, 0, "another")) == "another"


def test_an_old_result_that_took_long_is_shown_until_the_newer_one_is_there(clock: Clock) -> None:
    results, may_end = new(), threading.Event()
    results.get("log", taking(clock, 3, "first"))
    clock.now += 100
    assert results.age("log") > 60

    def slow() -> str:
        may_end.wait(30)
        return "second"

    assert results.get("log", fails, slow) == "first"
    assert results.get("log", fails, fails) == "first"
    may_end.set()
    wait_until(lambda: results.age("log") == 0, "the newer result")
    assert results.get("log", fails) == "second"


@pytest.mark.parametrize(("took", "age"), [(0.1, 61), (3, 1_000)])
def test_a_quick_result_and_a_very_old_one_are_computed_before_they_are_shown(
    clock: Clock, took: float, age: float
) -> None:
    results = new()
    results.get("log", taking(clock, took, "first"))
    clock.now += age
    assert results.get("log", taking(clock, 0, "second"), fails) == "second"


def test_an_error_is_not_kept_and_the_next_visitor_sees_it(clock: Clock) -> None:
    results = new()
    with pytest.raises(OSError, match="no store"):
        results.get("log", fails)
    results.get("log", taking(clock, 3, "first"))
    clock.now += 100
    assert results.get("log", fails) == "first"
    wait_until(lambda: results.age("log") == 0, "the end of the thread")
    with pytest.raises(OSError, match="no store"):
        results.get("log", fails)


def test_the_results_requested_last_are_kept(clock: Clock) -> None:
    results = new()
    for name in ("a", "b", "a", "c"):
        results.get(name, taking(clock, 0, name))
    assert results.get("a", fails) == "a"
    assert results.get("b", taking(clock, 0, "computed again")) == "computed again"


def test_nothing_is_kept_after_clear(clock: Clock) -> None:
    results = new()
    results.get("log", taking(clock, 3, "first"))
    results.clear()
    assert results.get("log", taking(clock, 3, "second")) == "second"
