"""Jobs: steps that a page starts as processes, which go on when the page or the app is closed.

One job of a kind runs at a time. Its output and its exit code are kept in a folder per kind. Every visitor sees them,
also after a restart of the app.
"""

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import mlflow

from data.errors import KobeShotError
from data.paths import ROOT
from data.storage.files import write_text
from data.storage.locks import open_private, try_lock
from serving import registry
from serving.registry import reachability

KINDS = {
    "treinamento": "training",
    "retreino": "training",
    "aplicacao": "batch scoring",
    "monitoramento": "monitoring",
    "reverter": "rollback",
    "aprovar": "approval",
    "operacao": "policy backtest",
}
"""The steps that a page may start, and the kind of each. One job of a kind runs at a time."""

_RUNNER = Path(__file__).with_name("job_runner.py")
_SHOWN_BYTES, _SHOWN_LINES = 64 * 2**10, 400


class JobError(KobeShotError):
    """A job cannot be started, stopped or read."""


class JobRunningError(JobError):
    """Another job of the kind is running."""


@dataclass(frozen=True)
class Job:
    """A step that a page started.

    Attributes
    ----------
    job_id : str
        Unique.
    kind, step : str
        One of the values of `KINDS`, and one of its keys.
    arguments : tuple of str
        Parameters of the step.
    by : str
        The visitor who started it.
    started : datetime
        In UTC.
    champion : str
        Version that was champion when it started; empty for none.
    running : bool
    ended : datetime or None
        In UTC; None while it runs, and if its process was killed.
    code : int or None
        Exit code; None if `ended` is None.
    stopped : bool
        Whether a visitor stopped it.
    """

    job_id: str
    kind: str
    step: str
    arguments: tuple[str, ...]
    by: str
    started: datetime
    champion: str = ""
    running: bool = False
    ended: datetime | None = None
    code: int | None = None
    stopped: bool = False

    @property
    def origin(self) -> str:
        """When and by whom it was started."""
        return f"since {self.started:%Y-%m-%d %H:%M:%S} UTC, started by {self.by}"


def start(step: str, arguments: Sequence[str] = (), *, by: str, champion: str = "") -> Job:
    """Run ``python -m steps.STEP`` in the project's folder, with the tracking store of this process.

    The job goes on when this process exits.

    Parameters
    ----------
    step : str
        One of `KINDS`.
    arguments : sequence of str
        Parameters of the step.
    by : str
        The visitor who starts it.
    champion : str
        Current champion version.

    Raises
    ------
    JobRunningError
        If another job of its kind is running.
    JobError
        If `step` is not one of `KINDS`, or its output cannot be stored.
    """
    if step not in KINDS:
        message = f"Expected one of the steps {', '.join(KINDS)}; found {step!r}."
        raise JobError(message)
    kind = KINDS[step]
    job = Job(uuid.uuid4().hex, kind, step, tuple(arguments), by, datetime.now(UTC), champion, running=True)
    with _folder_of(kind) as folder, _opened(folder / "lock") as lock:
        if not try_lock(lock.fileno()):
            found = _read(folder, kind)
            message = f"A {kind} job is already running" + (f", {found.origin}." if found else ".")
            raise JobRunningError(message)
        for name in ("result.json", "output", "pid"):
            (folder / name).unlink(missing_ok=True)
        kept = {**asdict(job), "started": job.started.isoformat()}
        write_text(json.dumps(kept), folder / "job.json")
        write_text(str(_run(job, folder, lock)), folder / "pid")
    return job


def latest() -> list[Job]:
    """The last job of each kind, newest first."""
    found = []
    for kind in sorted(set(KINDS.values())):
        if not _place(kind).exists():
            continue
        with _folder_of(kind) as folder, _opened(folder / "lock") as lock:
            job = _read(folder, kind, running=not try_lock(lock.fileno()))
        if job:
            found.append(job)
    return sorted(found, key=lambda job: job.started, reverse=True)


def output(job: Job) -> str:
    """The last lines of the output of a job; empty if another job of its kind has started since."""
    with _folder_of(job.kind) as folder:
        found = _read(folder, job.kind)
        if found is None or found.job_id != job.job_id:
            return ""
        with suppress(FileNotFoundError), (folder / "output").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _SHOWN_BYTES))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-_SHOWN_LINES:])
    return ""


def stop(job: Job) -> None:
    """Terminate a running job and its child processes; do nothing if it has ended.

    Raises
    ------
    JobError
        If its process cannot be signaled.
    """
    with _folder_of(job.kind) as folder, _opened(folder / "lock") as lock:
        found = _read(folder, job.kind, running=not try_lock(lock.fileno()))
        if found is None or found.job_id != job.job_id or not found.running:
            return
        try:
            # The job holds the lock, so the PID is still the PID of the job.
            os.kill(int((folder / "pid").read_text(encoding="utf-8")), signal.SIGTERM)
        except (OSError, ValueError) as error:
            message = f"The {job.kind} job cannot be stopped ({error})."
            raise JobError(message) from error


def _run(job: Job, folder: Path, lock: TextIO) -> int:
    """Start the process of a job, which inherits the lock; return its PID."""
    guard = str(ROOT / "serving" / "server" / "process_guard.py")
    step = [sys.executable, "-m", f"steps.{job.step}", *job.arguments]
    process = subprocess.Popen(
        [sys.executable, str(_RUNNER), str(folder), job.job_id, sys.executable, guard, *step],
        cwd=ROOT,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[lock.fileno()],
        start_new_session=True,
    )
    threading.Thread(target=process.wait, daemon=True).start()
    return process.pid


def _read(folder: Path, kind: str, *, running: bool = True) -> Job | None:
    try:
        kept: dict[str, Any] = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        kept |= {"started": datetime.fromisoformat(kept["started"]), "arguments": tuple(kept["arguments"])}
        if not running:
            kept |= {"running": False, **_result(folder, kept["job_id"])}
        return Job(**kept)
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError) as error:
        message = f"The state of the last {kind} job in {folder} cannot be read ({error}). Remove that folder."
        raise JobError(message) from error


def _result(folder: Path, job_id: str) -> dict[str, Any]:
    try:
        found = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    if found.pop("job") != job_id:
        return {}
    return {**found, "ended": datetime.fromisoformat(found["ended"])}


@contextmanager
def _folder_of(kind: str) -> Iterator[Path]:
    """Folder of the jobs of a kind, locked for this process.

    Raises
    ------
    JobError
        If the folder cannot be created, locked, read or written.
    """
    folder = _place(kind)
    try:
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        if folder.parent.stat(follow_symlinks=False).st_uid != os.getuid() or folder.parent.is_symlink():
            message = f"{folder.parent} belongs to another user, so no job is stored there. Remove it, or set TMPDIR."
            raise JobError(message)
        folder.parent.chmod(0o700)
        folder.mkdir(exist_ok=True)
        with _opened(folder / "in_use") as in_use:
            fcntl.flock(in_use, fcntl.LOCK_EX)
            yield folder
    except OSError as error:
        message = f"The state of {kind} jobs cannot be stored in {folder} ({error}). Free disk space, or set TMPDIR."
        raise JobError(message) from error


def _place(kind: str) -> Path:
    key = f"{ROOT}\n{mlflow.get_tracking_uri()}\n{registry.model()}"
    name = f"kobe_shot_{os.getuid()}_{hashlib.sha256(key.encode()).hexdigest()[:16]}.jobs"
    return Path(tempfile.gettempdir()) / name / kind.replace(" ", "_")


def _opened(path: Path) -> TextIO:
    return os.fdopen(open_private(path), "r+", encoding="utf-8")


def _environment() -> dict[str, str]:
    return {
        **reachability.patient_environment(),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(),
        "MLFLOW_REGISTRY_URI": mlflow.get_registry_uri(),
        "PYTHONUNBUFFERED": "1",
    }
