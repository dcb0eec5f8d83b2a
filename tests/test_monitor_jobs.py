"""Steps of the project as processes that a page sets going."""

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from data.files import ROOT
from monitor import jobs
from monitor.jobs import JobError, run_step
from tests.project import runs, wait_until


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose steps are small scripts of a test."""
    (tmp_path / "serving").mkdir()
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / "__init__.py").touch()
    (tmp_path / "serving" / "guard.py").write_bytes((ROOT / "serving" / "guard.py").read_bytes())
    monkeypatch.setattr(jobs, "ROOT", tmp_path)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    yield tmp_path
    mlflow.set_tracking_uri(before)


def write_step(bundle: Path, text: str) -> None:
    (bundle / "steps" / "treinamento.py").write_text(text)


def test_a_step_runs_in_the_project_against_this_store_and_is_heard_line_by_line(bundle: Path) -> None:
    write_step(
        bundle,
        "import os, sys\nprint(os.getcwd())\nprint(sys.argv[1:])\nprint(os.environ['MLFLOW_TRACKING_URI'])\n"
        "print('a word of error', file=sys.stderr)\nsys.exit(3)\n",
    )
    lines: list[str] = []
    assert run_step("treinamento", ["--cv-folds", "2; echo no shell"], on_line=lines.append) == 3
    expected = [str(bundle), "['--cv-folds', '2; echo no shell']", mlflow.get_tracking_uri(), "a word of error"]
    assert sorted(lines) == sorted(expected)


def test_a_real_step_runs_with_the_environment_of_this_process() -> None:
    lines: list[str] = []
    assert run_step("treinamento", ["--help"], on_line=lines.append) == 0
    assert "cv_folds" in "\n".join(lines)


@pytest.mark.parametrize("name", ["retreino", "reverter"])
def test_the_steps_of_the_loop_may_be_run(bundle: Path, name: str) -> None:
    (bundle / "steps" / f"{name}.py").write_text("import sys\nprint(sys.argv[1:])\n")
    lines: list[str] = []
    assert run_step(name, ["--reason=it misses; $(layups)"], on_line=lines.append) == 0
    assert lines == ["['--reason=it misses; $(layups)']"]


@pytest.mark.parametrize("name", ["main", "../serving/server", "treinamento; true", ""])
def test_a_page_may_only_run_the_steps_that_are_named(name: str) -> None:
    with pytest.raises(JobError, match="Expected one of the steps treinamento"):
        run_step(name, on_line=print)


def test_a_step_and_its_children_end_when_the_page_is_left(bundle: Path) -> None:
    write_step(
        bundle,
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(os.getpid(), child.pid, flush=True)\ntime.sleep(600)\n",
    )
    started: list[int] = []

    def leave(line: str) -> None:
        started.extend(map(int, line.split()))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_step("treinamento", on_line=leave)
    assert len(started) == 2
    wait_until(lambda: not any(runs(number) for number in started), "the step to end")


def test_a_step_that_is_ended_may_still_say_goodbye(bundle: Path) -> None:
    write_step(
        bundle,
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        "try:\n    print('ready', flush=True)\n    time.sleep(600)\n"
        "finally:\n    print('tidying up' * 9_999, flush=True)\n    pathlib.Path('tidied').touch()\n",
    )

    def leave(_line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_step("treinamento", on_line=leave)
    assert (bundle / "tidied").exists()
