"""Waits that follow progress instead of the clock."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench import patience
from bench.patience import Patience, wait_until, work_of_children
from tests.project import completed, run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that a test moves."""
    moment = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: moment[0])
    return moment


@contextmanager
def started(script: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_what_moves_is_waited_for_beyond_any_limit_of_the_clock(clock: list[float]) -> None:
    limit = Patience("rows", lambda: int(clock[0]) // 100)
    for second in range(0, 1_700, 10):
        clock[0] = second
        limit.check()


def test_what_stands_still_is_given_up_and_named(clock: list[float]) -> None:
    limit = Patience("the last row", lambda: min(clock[0], 50))
    clock[0] = 50
    limit.check()
    clock[0] = 169
    limit.check()
    clock[0] = 171
    with pytest.raises(TimeoutError, match="waited for the last row: nothing moved for 120 s"):
        limit.check()


def test_what_moves_for_ever_is_given_up_in_the_end(clock: list[float]) -> None:
    limit = Patience("the end", lambda: clock[0])
    for second in range(0, 1_800, 10):
        clock[0] = second
        limit.check()
    clock[0] = 1_801
    with pytest.raises(TimeoutError, match="waited 1800 s for the end"):
        limit.check()


def test_a_process_that_computes_is_progress_and_one_that_sleeps_is_none(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    works = [0.0]
    monkeypatch.setattr(patience, "work_of_children", lambda: works[0])
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


def test_work_is_the_cpu_time_of_what_was_started() -> None:
    before = work_of_children()
    script = "import time\nwhile time.process_time() < 0.5: pass\nprint('worked', flush=True)\ntime.sleep(600)"
    with started(script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "worked\n"
        assert work_of_children() - before > 0.4


def test_a_condition_that_holds_ends_the_wait_at_once() -> None:
    answers = iter([False, False, True])
    wait_until(lambda: next(answers), "the third answer")


def test_a_command_that_says_more_than_a_pipe_holds_is_run_to_its_end() -> None:
    done = run([sys.executable, "-c", "import sys; print('x' * 999_999); sys.exit('a word of error')"])
    assert (done.returncode, len(done.stdout), done.stderr) == (1, 1_000_000, "a word of error\n")


def test_a_process_that_hangs_is_killed_and_named(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    honest = patience.Patience.check

    def late(limit: Patience) -> None:
        clock[0] += 200
        honest(limit)

    monkeypatch.setattr(patience.Patience, "check", late)
    with started("import time; time.sleep(600)") as process:
        with pytest.raises(TimeoutError, match=r"the end of .*sleep\(600\)"):
            completed(process)
        process.wait()
        assert process.returncode == -9
