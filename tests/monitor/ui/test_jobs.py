"""Steps as jobs that go on after the page and the app are closed."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import mlflow
import psutil
import pytest

from data.paths import ROOT
from monitor.ui import jobs
from monitor.ui.jobs import Job, JobError, JobRunningError
from tests.project import completed, is_running, wait_until

WAITS_FOR_FILE = "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.02)\nprint('went')\n"
CLEANS_UP = (
    "import os, pathlib, signal, sys, time\n"
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
    "try:\n    print(os.getpid(), flush=True)\n    time.sleep(600)\n"
    "finally:\n    print('cleaning up' * 9_999, flush=True)\n    pathlib.Path('cleaned_up').touch()\n"
)


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose steps are small scripts; its jobs are stopped at teardown."""
    (tmp_path / "serving" / "server").mkdir(parents=True)
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / "__init__.py").touch()
    (tmp_path / "serving" / "server" / "process_guard.py").write_bytes(
        (ROOT / "serving" / "server" / "process_guard.py").read_bytes()
    )
    monkeypatch.setattr(jobs, "ROOT", tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    yield tmp_path
    for job in jobs.latest():
        jobs.stop(job)
    wait_until(lambda: not any(job.running for job in jobs.latest()), "the jobs to end")
    mlflow.set_tracking_uri(before)


def write_step(bundle: Path, text: str, name: str = "treinamento") -> None:
    (bundle / "steps" / f"{name}.py").write_text(text)


def state(job: Job) -> Job:
    return next(found for found in jobs.latest() if found.kind == job.kind)


def ended(job: Job) -> Job:
    wait_until(lambda: not state(job).running, "the job to end")
    return state(job)


def test_a_step_runs_in_the_project_with_this_store_and_its_output_is_stored(bundle: Path) -> None:
    write_step(
        bundle,
        "import os, sys\nprint(os.getcwd())\nprint(sys.argv[1:])\nprint(os.environ['MLFLOW_TRACKING_URI'])\n"
        "print('an error message', file=sys.stderr)\nsys.exit(3)\n",
    )
    job = ended(jobs.start("treinamento", ["--reason=2; $(echo no shell)"], by="Ana", champion="7"))
    assert (job.code, job.by, job.champion, job.stopped) == (3, "Ana", "7", False)
    assert job.ended is not None
    assert job.ended > job.started
    expected = [str(bundle), "['--reason=2; $(echo no shell)']", mlflow.get_tracking_uri(), "an error message"]
    assert sorted(jobs.output(job).splitlines()) == sorted(expected)


def test_a_real_step_runs_with_the_environment_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    job = ended(jobs.start("treinamento", ["--help"], by="Ana"))
    assert job.code == 0
    assert "cv_folds" in jobs.output(job)


@pytest.mark.parametrize("name", ["main", "../serving/server", "treinamento; true", ""])
def test_a_page_can_start_only_the_listed_steps(name: str) -> None:
    with pytest.raises(JobError, match="Expected one of the steps treinamento"):
        jobs.start(name, by="Ana")


def test_a_job_goes_on_after_the_app_is_killed(bundle: Path) -> None:
    write_step(bundle, WAITS_FOR_FILE)
    app = (
        "import pathlib, sys, tempfile, time\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "import mlflow\nfrom monitor.ui import jobs\n"
        f"jobs.ROOT = pathlib.Path({str(bundle)!r})\ntempfile.tempdir = {str(bundle)!r}\n"
        f"mlflow.set_tracking_uri({mlflow.get_tracking_uri()!r})\n"
        "jobs.start('treinamento', by='Ana')\nprint('started', flush=True)\ntime.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", app], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.kill()
        completed(process)
    [job] = jobs.latest()
    assert (job.running, job.by) == (True, "Ana")
    (bundle / "go").touch()
    assert ended(job).code == 0
    assert jobs.output(job) == "went"


def test_a_job_has_its_own_session(bundle: Path) -> None:
    write_step(bundle, "import os\nprint(os.getsid(0))\n")
    job = ended(jobs.start("treinamento", by="Ana"))
    assert int(jobs.output(job)) != os.getsid(0)


def test_one_job_of_a_kind_runs_and_a_second_visitor_sees_its_start_and_its_user(bundle: Path) -> None:
    write_step(bundle, WAITS_FOR_FILE)
    write_step(bundle, "print('decided')\n", "retreino")
    write_step(bundle, "print('compared')\n", "monitoramento")
    first = jobs.start("treinamento", by="Ana")
    with pytest.raises(JobRunningError, match=rf"A training job is already running, since {first.started:%Y}.* by Ana"):
        jobs.start("retreino", by="Ben")
    assert ended(jobs.start("monitoramento", by="Ben")).code == 0
    (bundle / "go").touch()
    assert ended(first).code == 0
    assert ended(jobs.start("retreino", by="Ben")).step == "retreino"


def test_of_simultaneous_starts_one_succeeds(bundle: Path) -> None:
    write_step(bundle, WAITS_FOR_FILE)
    barrier = Barrier(8)

    def start(number: int) -> bool:
        barrier.wait()
        try:
            jobs.start("treinamento", by=str(number))
        except JobRunningError:
            return False
        return True

    with ThreadPoolExecutor(8) as visitors:
        assert sum(visitors.map(start, range(8))) == 1
    (bundle / "go").touch()
    ended(jobs.latest()[0])


def test_a_stopped_job_terminates_its_child_processes_and_can_clean_up(bundle: Path) -> None:
    write_step(bundle, CLEANS_UP)
    job = jobs.start("treinamento", by="Ana")
    wait_until(lambda: jobs.output(job).strip().isdecimal(), "the step to start")
    number = int(jobs.output(job))
    jobs.stop(job)
    found = ended(job)
    assert found.stopped
    assert found.code != 0
    assert (bundle / "cleaned_up").exists()
    assert not is_running(number)
    jobs.stop(job)


def test_stopping_an_ended_job_does_not_stop_its_successor(bundle: Path) -> None:
    write_step(bundle, "print('done')\n")
    first = ended(jobs.start("treinamento", by="Ana"))
    write_step(bundle, WAITS_FOR_FILE)
    second = jobs.start("treinamento", by="Ben")
    jobs.stop(first)
    assert jobs.output(first) == ""
    (bundle / "go").touch()
    assert (ended(second).code, ended(second).stopped) == (0, False)


def test_a_job_whose_process_is_killed_has_ended_and_another_can_start(bundle: Path) -> None:
    write_step(bundle, "import os, time\nprint(os.getppid(), os.getpid(), flush=True)\ntime.sleep(600)\n")
    job = jobs.start("treinamento", by="Ana")
    wait_until(lambda: len(jobs.output(job).split()) == 2, "the step to start")
    guard, step = map(int, jobs.output(job).split())
    os.kill(psutil.Process(guard).ppid(), signal.SIGKILL)
    found = ended(job)
    assert (found.running, found.code, found.ended) == (False, None, None)
    wait_until(lambda: not is_running(step), "the step to end with it")
    write_step(bundle, "print('done')\n")
    assert ended(jobs.start("treinamento", by="Ben")).code == 0


def test_only_the_last_part_of_the_output_is_stored(bundle: Path) -> None:
    write_step(bundle, "for n in range(300_000): print('line', n)\nprint('x' * 3_000_000)\nprint('the last line')\n")
    job = ended(jobs.start("treinamento", by="Ana"))
    assert jobs.output(job).endswith("the last line")
    assert sum(path.stat().st_size for path in bundle.rglob("output")) < 1_000_000
    assert len(jobs.output(job)) <= 2**16


def test_jobs_of_another_store_are_other_jobs(bundle: Path) -> None:
    write_step(bundle, WAITS_FOR_FILE)
    jobs.start("treinamento", by="Ana")
    here = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{bundle / 'other.db'}")
    try:
        assert jobs.latest() == []
    finally:
        mlflow.set_tracking_uri(here)
    (bundle / "go").touch()


def test_an_unwritable_folder_of_jobs_is_an_error(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(bundle / "nowhere"))
    with pytest.raises(JobError, match=r"cannot be stored in .*nowhere.* set TMPDIR"):
        jobs.start("treinamento", by="Ana")


def test_a_damaged_state_of_a_job_is_an_error(bundle: Path) -> None:
    write_step(bundle, "print('done')\n")
    ended(jobs.start("treinamento", by="Ana"))
    next(bundle.rglob("job.json")).write_text("{}")
    with pytest.raises(JobError, match=r"cannot be read.*Remove that folder"):
        jobs.latest()
    next(bundle.rglob("job.json")).unlink()
