"""Continuous training on a schedule: ``python -m steps.schedule`` monitors the inference log and decides repeatedly.

Each time it runs the commands ``steps.monitoramento`` and ``steps.retreino``, and then
``serving.inference_log.retention``, which removes old rows from the log. A failure is printed, and
stops neither the other command nor the scheduler. SIGTERM ends the scheduler and the running step: a decision that is
not finished becomes *interrupted*, as after a kill.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import pandas as pd
from apscheduler.schedulers.background import BackgroundScheduler  # type: ignore[import-untyped]
from apscheduler.triggers.base import BaseTrigger  # type: ignore[import-untyped]
from apscheduler.triggers.cron import CronTrigger  # type: ignore[import-untyped]
from apscheduler.triggers.interval import IntervalTrigger  # type: ignore[import-untyped]
from pydantic import AfterValidator, Field

from data.cli.config import CommandConfig, run_command
from data.cli.console import info
from data.cli.durations import validate_duration
from data.cli.logs import log_to_stderr
from data.errors import KobeShotError
from data.paths import PROCESSED, ROOT
from data.storage.files import write_text
from data.storage.locks import single_instance
from serving import registry
from serving.inference_log import reader
from serving.inference_log.inference_log import URL_VARIABLE

HEARTBEAT = PROCESSED / ".schedule.json"
"""Heartbeat of the scheduler of this folder: in a folder that a container keeps, and not in ``/tmp``."""

_logger = logging.getLogger("kobe_shot.schedule")
_POLL_SECONDS = 0.5
_PULSE = timedelta(seconds=30)
_DEAD = timedelta(minutes=5)
_CRON_FIELDS = 5


class ScheduleError(KobeShotError):
    """The scheduler is not running."""


def check_schedule(text: str) -> str:
    """Refuse anything but a cron expression or a duration; a ValueError has what was expected.

    Examples
    --------
    >>> check_schedule("17 6 * * mon")
    '17 6 * * mon'
    >>> check_schedule("12h")
    '12h'
    """
    if len(text.split()) != _CRON_FIELDS:
        try:
            span = pd.Timedelta(validate_duration(text))
        except ValueError as error:
            message = f"expected a cron expression such as '17 6 * * *', or a duration such as 12h; found {text!r}"
            raise ValueError(message) from error
        if span < pd.Timedelta(seconds=1):
            message = f"expected a duration of a second or more; found {text!r}"
            raise ValueError(message)
        return text
    *_, day, _, weekday = text.split()
    if any(map(str.isdigit, weekday)):
        # APScheduler's week starts on Monday, cron's on Sunday.
        message = f"expected weekdays by name, such as mon or mon-fri, a week that starts on Monday; found {text!r}"
        raise ValueError(message)
    if day != "*" and weekday != "*":
        # cron matches either, APScheduler both.
        message = f"expected a day of the month or a weekday, and * for the other; found {text!r}"
        raise ValueError(message)
    try:
        trigger = CronTrigger.from_crontab(text, timezone=UTC)
    except ValueError as error:
        message = f"expected a cron expression such as '17 6 * * *', weeks from mon to sun; found {text!r}: {error}"
        raise ValueError(message) from error
    if trigger.get_next_fire_time(None, datetime.now(UTC)) is None:
        message = f"expected a cron expression with a next time; found {text!r}, which never fires"
        raise ValueError(message)
    return text


class ScheduledConfig(CommandConfig):
    """Monitor scored rows and decide whether to retrain, on a schedule, until SIGTERM."""

    schedule: Annotated[str, AfterValidator(check_schedule)] = Field(
        default="17 6 * * *",
        description="cron expression in UTC, weekdays by name; or a duration such as 12h, the first time at once",
    )
    current: Literal["log", "application"] = Field(
        default="log",
        description="source of the scored rows: the inference log, or the latest table that aplicacao scored",
    )
    retention: bool = Field(
        default=True,
        description="then remove old rows from the inference log: python -m serving.inference_log.retention",
    )
    keep_days: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="age that rows of the inference log are removed at; empty takes $KOBE_LIMIT_LOG_DAYS"
    )
    status: bool = Field(
        default=False, description="only print whether the scheduler of this folder is running; exit code 1 if not"
    )


@dataclass(frozen=True)
class Heartbeat:
    """State of a scheduler, all times in UTC and ISO 8601.

    Attributes
    ----------
    alive : str
        Time of this heartbeat.
    next_due : str
        Time of the next run.
    last_run, last_success : str
        Time of the latest run, and of the latest without a failure; empty where there is none.
    failures : dict of str to int
        Exit codes of the failed steps of the latest run.
    ended : str
        Time of its end; empty while it runs. The results of the latest run survive a restart.
    """

    alive: str
    next_due: str
    last_run: str
    last_success: str
    failures: dict[str, int]
    ended: str = ""

    def problem(self, now: datetime) -> str:
        """Why the scheduler is not running well; empty where it is.

        Examples
        --------
        >>> noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
        >>> heartbeat = Heartbeat(noon.isoformat(), next_due="", last_run="", last_success="", failures={})
        >>> heartbeat.problem(noon)
        ''
        >>> heartbeat.problem(noon + timedelta(hours=1))
        'its last heartbeat was at 2026-01-01T12:00:00+00:00'
        """
        if self.ended:
            return f"it ended at {self.ended}; the last success was {self.last_success or 'never'}"
        if now - datetime.fromisoformat(self.alive) > _DEAD:
            return f"its last heartbeat was at {self.alive}"
        if self.failures:
            failed = ", ".join(f"{step} ended with exit code {code}" for step, code in self.failures.items())
            return f"the run of {self.last_run} failed: {failed}; the last success was {self.last_success or 'never'}"
        return ""


class Schedule:
    """Runs the steps on a schedule."""

    def __init__(self, config: ScheduledConfig) -> None:
        self._config = config
        self._scheduler = BackgroundScheduler(timezone=UTC)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False
        before = _last_heartbeat()
        self._last_run, self._last_success = (before.last_run, before.last_success) if before else ("", "")
        self._failures = before.failures if before else {}
        self._is_silent = False

    def run(self) -> None:
        """Run until SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        trigger = _trigger(self._config.schedule)
        at_once = {"next_run_time": datetime.now(UTC)} if isinstance(trigger, IntervalTrigger) else {}
        job = self._scheduler.add_job(
            self._run_and_report, trigger, id="loop", coalesce=True, max_instances=1, misfire_grace_time=None, **at_once
        )
        self._scheduler.start()
        info("Schedule:", f"{self._config.schedule}; next at {_format(job.next_run_time)}")
        beaten = datetime.min.replace(tzinfo=UTC)
        try:
            while not self._stopping:
                if datetime.now(UTC) - beaten > _PULSE:
                    self._beat()
                    beaten = datetime.now(UTC)
                time.sleep(_POLL_SECONDS)
        finally:
            self._end_step()
            self._beat(ended=_format(datetime.now(UTC)))
            self._scheduler.shutdown()
        info("Stopped.")

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _run_and_report(self) -> None:
        started = _format(datetime.now(UTC))
        try:
            self._run_steps()
        except (OSError, KobeShotError) as error:
            _logger.warning("The steps could not run: %s", error)
            self._done(started, {"scheduled": 1})

    def _run_steps(self) -> None:
        started = _format(datetime.now(UTC))
        if self._config.current == "log" and not _has_log(with_rows=True):
            _logger.info("No rows yet: the inference log is empty")
            self._done(started, {})
            return
        steps = self._steps()
        failures = {step: code for step, command in steps.items() if (code := self._run_step(command))}
        if self._stopping:
            return
        for step, code in failures.items():
            _logger.error("%s failed (exit code %s); the scheduler continues.", steps[step][0], code)
        self._done(started, failures)

    def _done(self, started: str, failures: dict[str, int]) -> None:
        self._last_run, self._failures = started, failures
        if not failures:
            self._last_success = started
        self._beat()
        _logger.info("Next at %s", _format(self._scheduler.get_job("loop").next_run_time))

    def _steps(self) -> dict[str, list[str]]:
        """The commands of a run, by step."""
        source = ["--current", self._config.current]
        steps = {step: [f"steps.{step}", *source] for step in ("monitoramento", "retreino")}
        if self._config.retention and os.environ.get(URL_VARIABLE) != "off" and _has_log():
            keep = [] if self._config.keep_days is None else ["--keep_days", str(self._config.keep_days)]
            steps["retention"] = ["serving.inference_log.retention", *keep]
        return steps

    def _run_step(self, step: list[str]) -> int:
        """Run a step under a process guard, which ends it when this process ends; its exit code."""
        guard = str(ROOT / "serving" / "server" / "process_guard.py")
        command = [sys.executable, guard, sys.executable, "-m", *step]
        with self._lock:
            if self._stopping:
                return 0
            self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE)
        with self._process as process:
            return process.wait()

    def _end_step(self) -> None:
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                self._process.terminate()

    def _beat(self, *, ended: str = "") -> None:
        """Write the heartbeat; a full disk, or another write error, ends nothing."""
        job = self._scheduler.get_job("loop")
        heartbeat = Heartbeat(
            alive=_format(datetime.now(UTC)),
            next_due=_format(job.next_run_time),
            last_run=self._last_run,
            last_success=self._last_success,
            failures=self._failures,
            ended=ended,
        )
        with self._lock:
            try:
                write_text(json.dumps(asdict(heartbeat)), HEARTBEAT)
            except OSError as error:
                if not self._is_silent:
                    _logger.warning("%s cannot be written: %s; the scheduler continues.", HEARTBEAT, error)
                self._is_silent = True
            else:
                self._is_silent = False


def _last_heartbeat() -> Heartbeat | None:
    """The latest heartbeat in this folder; None where there is none, or one of another version."""
    try:
        return Heartbeat(**json.loads(HEARTBEAT.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError):
        return None


def run(config: ScheduledConfig) -> None:
    """Run the scheduler, or print whether it is running.

    Raises
    ------
    ScheduleError
        If only the status is requested and the scheduler is not running, or if there is no log to read.
    AlreadyRunningError
        If another process runs it.
    """
    registry.model()
    if not config.status:
        if config.current == "log" and os.environ.get(URL_VARIABLE) == "off":
            message = (
                f"expected an inference log to monitor; found {URL_VARIABLE}=off. Set its URL, or give "
                "--current application"
            )
            raise ScheduleError(message)
        PROCESSED.mkdir(parents=True, exist_ok=True)
        with single_instance("the scheduler of this folder", str(ROOT), folder=PROCESSED):
            log_to_stderr()
            Schedule(config).run()
        return
    heartbeat = _last_heartbeat()
    if heartbeat is None:
        message = "No scheduler has been started in this folder. Start one: python -m steps.schedule"
        if HEARTBEAT.exists():
            message = f"{HEARTBEAT} is not the heartbeat of a scheduler of this version. Start it again"
        raise ScheduleError(message)
    if problem := heartbeat.problem(datetime.now(UTC)):
        message = f"The scheduler is not running: {problem}."
        raise ScheduleError(message)
    info(
        "The scheduler is running;",
        f"last success: {heartbeat.last_success or 'none yet'}; next at {heartbeat.next_due}",
    )


def _has_log(*, with_rows: bool = False) -> bool:
    """Whether there is an inference log, or one with rows; the commands report one that cannot be read."""
    try:
        log = reader.open_log(reader.log_url())
        return not with_rows or reader.window(log).rows > 0
    except reader.NoLogError:
        return False
    except reader.LogError:
        return True


def _trigger(schedule: str) -> BaseTrigger:
    if len(schedule.split()) == _CRON_FIELDS:
        return CronTrigger.from_crontab(schedule, timezone=UTC)
    return IntervalTrigger(seconds=pd.Timedelta(schedule).total_seconds(), timezone=UTC)


def _format(time: datetime) -> str:
    return time.isoformat(timespec="seconds")


if __name__ == "__main__":
    run_command(ScheduledConfig, run)
