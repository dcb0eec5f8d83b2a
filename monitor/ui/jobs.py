"""Steps of the project that a page starts as jobs: processes that go on when the page, or the app, is closed.

One job of a kind runs at a time. What it says and how it ended lies in a folder of its kind, for every visitor and for
an app that is started later.
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
from data.storage.locks import open_private, take
from serving import registry
from serving.registry import reachability

KINDS = {
    "treinamento": "training",
    "retreino": "training",
    "aplicacao": "batch scoring",
    "monitoramento": "monitoring",
    "reverter": "rollback",
    "operacao": "policy backtest",
}
"""The steps that a page may start, and of which kind each is: of one kind, one runs at a time."""

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
    job_id, kind, step : str
        Its own name, one of the values of `KINDS`, and one of the keys.
    arguments : tuple of str
        Parameters of the step.
    by : str
        Who started it, in words.
    started : datetime
        In UTC.
    champion : str
        Version that was champion when it started; empty for none.
    running : bool
    ended : datetime or None
        In UTC; None while it runs, and where its process was killed.
    code : int or None
        Exit code, None as `ended`.
    stopped : bool
        Whether somebody asked it to end.
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
    def words(self) -> str:
        """Since when it runs and who started it."""
        return f"since {self.started:%Y-%m-%d %H:%M:%S} UTC, started by {self.by}"


def start(step: str, arguments: Sequence[str] = (), *, by: str, champion: str = "") -> Job:
    """Run ``python -m steps.STEP`` in the project's folder, against the tracking store of this process.

    It goes on when this process ends.

    Parameters
    ----------
    step : str
        One of `KINDS`.
    arguments : sequence of str
        Parameters of the step.
    by : str
        Who starts it, in words.
    champion : str
        Version that is champion now.

    Raises
    ------
    JobRunningError
        If another of its kind is running.
    JobError
        If no page may start that step, or there is no place for what it says.
    """
    if step not in KINDS:
        message = f"Expected one of the steps {', '.join(KINDS)}; found {step!r}."
        raise JobError(message)
    kind = KINDS[step]
    job = Job(uuid.uuid4().hex, kind, step, tuple(arguments), by, datetime.now(UTC), champion, running=True)
    with _folder_of(kind) as folder, _opened(folder / "lock") as lock:
        if not take(lock.fileno()):
            found = _read(folder, kind)
            message = f"A {kind} job is already running" + (f", {found.words}." if found else ".")
            raise JobRunningError(message)
        for name in ("result.json", "output", "pid"):
            (folder / name).unlink(missing_ok=True)
        kept = {**asdict(job), "started": job.started.isoformat()}
        write_text(json.dumps(kept), folder / "job.json")
        write_text(str(_run(job, folder, lock)), folder / "pid")
    return job


def latest() -> list[Job]:
    """The last job of each kind, the newest first."""
    found = []
    for kind in sorted(set(KINDS.values())):
        if not _place(kind).exists():
            continue
        with _folder_of(kind) as folder, _opened(folder / "lock") as lock:
            job = _read(folder, kind, running=not take(lock.fileno()))
        if job:
            found.append(job)
    return sorted(found, key=lambda job: job.started, reverse=True)


def output(job: Job) -> str:
    """The last lines of what a job has said; empty if another has taken its place."""
    with _folder_of(job.kind) as folder:
        found = _read(folder, job.kind)
        if found is None or found.job_id != job.job_id:
            return ""
        with suppress(FileNotFoundError), (folder / "output").open("rb") as said:
            said.seek(max(0, said.seek(0, os.SEEK_END) - _SHOWN_BYTES))
            return "\n".join(said.read().decode(errors="replace").splitlines()[-_SHOWN_LINES:])
    return ""


def stop(job: Job) -> None:
    """Ask a running job to end, with all that it has started; nothing if it has ended.

    Raises
    ------
    JobError
        If it cannot be told to.
    """
    with _folder_of(job.kind) as folder, _opened(folder / "lock") as lock:
        found = _read(folder, job.kind, running=not take(lock.fileno()))
        if found is None or found.job_id != job.job_id or not found.running:
            return
        try:
            # The lock is held, so the number is still that of the process that holds it.
            os.kill(int((folder / "pid").read_text(encoding="utf-8")), signal.SIGTERM)
        except (OSError, ValueError) as error:
            message = f"The {job.kind} job cannot be told to end ({error})."
            raise JobError(message) from error


def _run(job: Job, folder: Path, lock: TextIO) -> int:
    """Start the process of a job, which holds the lock from now on; its number."""
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
        message = f"What is kept of the last {kind} job in {folder} cannot be read ({error}). Remove that folder."
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
    """Folder of the jobs of a kind; nobody else looks into it, or writes there, meanwhile.

    Raises
    ------
    JobError
        In place of the operating system's errors.
    """
    folder = _place(kind)
    try:
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        if folder.parent.stat(follow_symlinks=False).st_uid != os.getuid() or folder.parent.is_symlink():
            message = f"{folder.parent} belongs to somebody else: no job is kept there. Remove it, or set TMPDIR."
            raise JobError(message)
        folder.parent.chmod(0o700)
        folder.mkdir(exist_ok=True)
        with _opened(folder / "in_use") as in_use:
            fcntl.flock(in_use, fcntl.LOCK_EX)
            yield folder
    except OSError as error:
        message = f"The {kind} jobs cannot be kept in {folder} ({error}). Free some space there, or set TMPDIR."
        raise JobError(message) from error


def _place(kind: str) -> Path:
    about = f"{ROOT}\n{mlflow.get_tracking_uri()}\n{registry.model()}"
    name = f"kobe_shot_{os.getuid()}_{hashlib.sha256(about.encode()).hexdigest()[:16]}.jobs"
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
