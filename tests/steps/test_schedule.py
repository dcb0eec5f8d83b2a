"""The schedule, over steps that are small scripts of a test."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from data.paths import ROOT
from data.schema import FEATURES
from serving.inference_log.inference_log import create_engine, create_tables, tables
from steps.schedule import check_schedule
from tests import fork_server
from tests.project import completed, copy_files, end_group, environment, is_running, ok, run, wait_until

WRITES_ITS_NUMBER = "import os, pathlib, time\npathlib.Path('at_work').write_text(str(os.getpid()))\ntime.sleep(600)\n"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A folder with the schedule, and steps that succeed at once."""
    paths = [
        *(ROOT / "data").rglob("*.py"),
        *(ROOT / "data").rglob("*.toml"),
        *(ROOT / "serving").rglob("*.py"),
        ROOT / "steps" / "schedule.py",
    ]
    copy_files((str(path.relative_to(ROOT)) for path in paths), tmp_path)
    for step in ("monitoramento", "retreino"):
        write_step(tmp_path, step, "import sys\nprint(sys.argv[1:])\n")
    return tmp_path


def write_step(bundle: Path, name: str, text: str) -> None:
    (bundle / "steps" / f"{name}.py").write_text(text)


@contextmanager
def scheduled(
    bundle: Path, schedule: str, current: str = "application", options: tuple[str, ...] = ()
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the scheduler until the block ends; its output goes to the file ``output``."""
    with (bundle / "output").open("wb") as output:
        process = fork_server.start(
            [sys.executable, "-m", "steps.schedule", "--schedule", schedule, "--current", current, *options],
            cwd=bundle,
            env=settings(bundle),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        end_group(process)


def settings(bundle: Path) -> dict[str, str]:
    return environment() | {"TMPDIR": str(bundle), "PYTHONUNBUFFERED": "1"}


def status(bundle: Path) -> "subprocess.CompletedProcess[str]":
    return run([sys.executable, "-m", "steps.schedule", "--status"], cwd=bundle, env=settings(bundle))


def output_of(bundle: Path) -> str:
    return (bundle / "output").read_text()


def test_an_empty_inference_log_is_not_a_failure(bundle: Path) -> None:
    with scheduled(bundle, "1s", "log"):
        wait_until(lambda: output_of(bundle).count("Next at") >= 2, "two runs")
        assert "No rows yet: the inference log is empty" in output_of(bundle)
        assert "--current" not in output_of(bundle)
        assert "last success: 2" in ok(status(bundle))


def test_it_runs_monitoring_and_retraining_repeatedly_until_sigterm(bundle: Path) -> None:
    with scheduled(bundle, "1s") as process:
        wait_until(lambda: output_of(bundle).count("Next at") >= 2, "two runs")
        assert output_of(bundle).count("['--current', 'application']") >= 4
        assert "last success: 2" in ok(status(bundle))
        process.send_signal(signal.SIGTERM)
        assert completed(process).returncode == 0
    assert "The scheduler is not running: it ended at 2" in status(bundle).stderr


def test_old_rows_are_deleted_from_the_inference_log_after_each_run_by_default(bundle: Path) -> None:
    engine = create_engine(f"sqlite:///{bundle / 'inference_log.db'}")
    create_tables(engine, tables(FEATURES)[0])
    engine.dispose()
    with scheduled(bundle, "1s", options=("--keep_days", "7")):
        wait_until(lambda: "0 rows older than 7 days" in output_of(bundle), "old rows to be removed")
        assert output_of(bundle).count("['--current', 'application']") >= 2
    with scheduled(bundle, "1s", options=("--no-retention",)):
        wait_until(lambda: output_of(bundle).count("Next at") >= 2, "two runs")
        assert "older than" not in output_of(bundle)


def test_what_the_last_run_came_to_is_known_after_a_restart(bundle: Path) -> None:
    write_step(bundle, "monitoramento", "raise SystemExit(7)\n")
    with scheduled(bundle, "1h") as process:
        wait_until(lambda: "Next at" in output_of(bundle), "a run that fails")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    with scheduled(bundle, "0 0 1 jan *"):
        wait_until(
            lambda: "next at" in output_of(bundle) and "ended at" not in status(bundle).stderr, "the second schedule"
        )
        message = status(bundle)
    assert message.returncode == 1
    assert "monitoramento ended with exit code 7" in message.stderr.replace("\n", " ")


def test_a_disk_that_is_full_does_not_end_the_schedule(bundle: Path) -> None:
    # The heartbeat cannot be written, also not by root, because a folder has its name.
    with scheduled(bundle, "1s"):
        wait_until(lambda: status(bundle).returncode == 0, "the schedule to be kept")
        (bundle / "data" / "processed" / ".schedule.json").unlink(missing_ok=True)
        shutil.rmtree(bundle / "data" / "processed")
        (bundle / "data" / "processed").write_bytes(b"")
        wait_until(lambda: "the scheduler continues" in output_of(bundle), "the write error to be printed")
        message = output_of(bundle).count("Next at")
        wait_until(lambda: output_of(bundle).count("Next at") > message + 1, "further runs")
        (bundle / "data" / "processed").unlink()
        wait_until(lambda: status(bundle).returncode == 0, "the schedule to be heard of again")


def test_a_failed_step_is_reported_and_stops_neither_the_other_step_nor_the_scheduler(bundle: Path) -> None:
    write_step(bundle, "monitoramento", "raise SystemExit(7)\n")
    with scheduled(bundle, "1s"):
        wait_until(lambda: output_of(bundle).count("['--current', 'application']") >= 2, "two decisions")
        assert "steps.monitoramento failed (exit code 7); the scheduler continues." in output_of(bundle)
        message = status(bundle)
        assert message.returncode == 1
        assert "monitoramento ended with exit code 7; the last success was never" in message.stderr.replace("\n", " ")
        write_step(bundle, "monitoramento", "")
        wait_until(lambda: status(bundle).returncode == 0, "a run that succeeds")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_step_that_is_running_ends_with_the_schedule(bundle: Path, number: signal.Signals) -> None:
    write_step(bundle, "retreino", WRITES_ITS_NUMBER)
    with scheduled(bundle, "1h") as process:
        wait_until(lambda: (bundle / "at_work").exists() and (bundle / "at_work").read_text(), "the step to start")
        process.send_signal(number)
        assert completed(process).returncode == (0 if number == signal.SIGTERM else -signal.SIGKILL)
        wait_until(lambda: not is_running(int((bundle / "at_work").read_text())), "the step to end")
    assert "failed" not in output_of(bundle)


def test_a_cron_expression_waits_for_its_time(bundle: Path) -> None:
    with scheduled(bundle, "0 0 1 jan *"):
        wait_until(lambda: "next at" in output_of(bundle) and status(bundle).returncode == 0, "the schedule to be kept")
        assert "-01-01T00:00:00+00:00" in output_of(bundle)
        assert "last success: none yet" in ok(status(bundle))


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("0 6 * * 1", "weekdays by name"),
        ("0 66 * * *", "maximum value"),
        ("0 0 30 2 *", "never fires"),
        ("0 0 13 * fri", "a day of the month or a weekday"),
        ("0 0 * * fri-mon", "weeks from mon to sun"),
        ("soon", "cron expression"),
        ("0s", "a second or more"),
        ("3600", "duration"),
        ("", "cron expression"),
    ],
)
def test_a_wrong_schedule_is_refused_with_what_is_expected(schedule: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_schedule(schedule)


def test_a_folder_has_one_schedule(bundle: Path) -> None:
    with scheduled(bundle, "1h"):
        wait_until(lambda: status(bundle).returncode == 0, "the schedule to be kept")
        command = [sys.executable, "-m", "steps.schedule", "--schedule", "1h"]
        second = run(command, cwd=bundle, env=settings(bundle))
        assert second.returncode == 1
        assert "the scheduler of this folder" in second.stderr
        assert status(bundle).returncode == 0


def test_the_scheduler_refuses_an_inference_log_that_is_off(bundle: Path) -> None:
    off = settings(bundle) | {"KOBE_INFERENCE_LOG": "off"}
    command = [sys.executable, "-m", "steps.schedule"]
    refused = run(command, cwd=bundle, env=off)
    assert refused.returncode == 1
    assert "KOBE_INFERENCE_LOG=off" in refused.stderr


def test_a_damaged_heartbeat_is_reported(bundle: Path) -> None:
    with scheduled(bundle, "1h"):
        wait_until(lambda: status(bundle).returncode == 0, "the schedule to be kept")
    # A running scheduler writes the next one over it.
    (bundle / "data" / "processed" / ".schedule.json").write_text("{}")
    assert "Start it again" in status(bundle).stderr.replace("\n", " ")
