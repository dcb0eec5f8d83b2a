"""Waits last while there is progress."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench import patience
from bench.patience import Patience, descendants_cpu_seconds, wait_until
from tests.project import completed, run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that the test sets."""
    time = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: time[0])
    return time


@contextmanager
def started(script: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_wait_lasts_while_there_is_progress(clock: list[float]) -> None:
    limit = Patience("rows", lambda: int(clock[0]) // 100)
    for second in range(0, 1_700, 10):
        clock[0] = second
        limit.check()


def test_a_stalled_wait_raises_with_its_description(clock: list[float]) -> None:
    limit = Patience("the last row", lambda: min(clock[0], 50))
    clock[0] = 50
    limit.check()
    clock[0] = 169
    limit.check()
    clock[0] = 171
    with pytest.raises(TimeoutError, match="waited for the last row: no progress for 120 s"):
        limit.check()


def test_a_wait_that_progresses_forever_raises_in_the_end(clock: list[float]) -> None:
    limit = Patience("the end", lambda: clock[0])
    for second in range(0, 1_800, 10):
        clock[0] = second
        limit.check()
    clock[0] = 1_801
    with pytest.raises(TimeoutError, match="waited 1800 s for the end"):
        limit.check()


def test_cpu_time_is_progress_and_sleep_is_not(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    works = [0.0]
    monkeypatch.setattr(patience, "descendants_cpu_seconds", lambda: works[0])
    limit = Patience("a process")
    for second in range(0, 600, 10):
        clock[0], works[0] = second, second / 10
        limit.check()
    for second in range(600, 700, 10):
        clock[0], works[0] = second, 60 + second / 1_000
        limit.check()
    clock[0] = 730
    with pytest.raises(TimeoutError):
        limit.check()


def test_work_is_the_cpu_time_of_descendants() -> None:
    before = descendants_cpu_seconds()
    script = "import time\nwhile time.process_time() < 0.5: pass\nprint('worked', flush=True)\ntime.sleep(600)"
    with started(script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "worked\n"
        assert descendants_cpu_seconds() - before > 0.4


def test_a_wait_ends_as_soon_as_its_condition_is_met() -> None:
    results = iter([False, False, True])
    wait_until(lambda: next(results), "the third result")


def test_a_command_with_more_output_than_a_pipe_buffer_finishes() -> None:
    done = run([sys.executable, "-c", "import sys; print('x' * 999_999); sys.exit('an error')"])
    assert (done.returncode, len(done.stdout), done.stderr) == (1, 1_000_000, "an error\n")


def test_a_hanging_process_is_killed_and_named(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    original = patience.Patience.check

    def late(limit: Patience) -> None:
        clock[0] += 200
        original(limit)

    monkeypatch.setattr(patience.Patience, "check", late)
    with started("import time; time.sleep(600)") as process:
        with pytest.raises(TimeoutError, match=r"the end of .*sleep\(600\)"):
            completed(process)
        process.wait()
        assert process.returncode == -9
