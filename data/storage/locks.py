"""Locks that one process at a time holds, in files that no other account can open or lead elsewhere.

They are the operating system's (`fcntl.flock`), which frees them when their holder dies.
``serving/inference_log/inference_log.py`` locks folders of its own in the same way; MLflow runs it alone, so it cannot
import this.
"""

import errno
import fcntl
import hashlib
import math
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from data.errors import KobeShotError

WAIT_VARIABLE = "KOBE_LOCK_WAIT_SECONDS"
"""Environment variable: how long to wait for a process that holds a lock, whatever the lock is."""

_POLL_SECONDS = 0.2
_LONGEST_HOLDER = 1_000


class AlreadyRunningError(KobeShotError):
    """Another process does what only one may do at a time."""


def private_folder() -> Path:
    """The folder of this account for locks, which nobody else can enter, made if it is not there.

    It lies in the state folder (``$XDG_STATE_HOME``, else ``~/.local/state``): one place for a person's shell, cron and
    a service alike, where ``$XDG_RUNTIME_DIR`` is set for some of them only. That one is taken where the state folder
    cannot be made.

    Raises
    ------
    KobeShotError
        If another account has taken its name, or it cannot be made.
    """
    places = [Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")]
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        places.append(Path(runtime))
    problem = ""
    for place in places:
        folder = place / "kobe_shot" / "locks"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for each in (folder.parent, folder):
                _require_ours(each, each.lstat(), stat.S_ISDIR)
            if stat.S_IMODE(folder.stat().st_mode) & 0o077:
                folder.chmod(0o700)
        except OSError as error:
            problem = problem or f"{folder}: {error.strerror or error}"
            continue
        return folder
    message = (
        f"expected a folder for locks that only this account can enter; found {problem}. Set XDG_STATE_HOME to a "
        "folder of your own. Nothing was done."
    )
    raise KobeShotError(message)


def open_private(path: Path) -> int:
    """Open a file for a lock or a state, for this account alone, and make it where it is not there; its descriptor.

    Links are not followed. A file of this account that others can open is narrowed.

    Raises
    ------
    KobeShotError
        If another account owns what is there, or it is a link, or no file.
    OSError
        If it cannot be opened for another reason.
    """
    how = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, how, 0o600)
    except OSError as error:
        if error.errno not in {errno.ELOOP, errno.EACCES, errno.EISDIR, errno.ENXIO}:
            raise
        found = path.lstat()
        _require_ours(path, found, stat.S_ISREG)
        raise
    try:
        found = os.fstat(descriptor)
        _require_ours(path, found, stat.S_ISREG)
        if stat.S_IMODE(found.st_mode) & 0o077:
            os.fchmod(descriptor, 0o600)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def narrow(path: Path) -> None:
    """Let no other account read a file of this one, such as a database; what is another's, or no file, is left alone.

    The file is not opened: to close a database again would free the locks that this process holds on it.
    """
    with suppress(OSError):
        found = path.lstat()
        if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) & 0o077:
            path.chmod(0o600)


def _require_ours(path: Path, found: os.stat_result, is_kind: Callable[[int], bool]) -> None:
    if found.st_uid == os.geteuid() and is_kind(found.st_mode):
        return
    what = "a link" if stat.S_ISLNK(found.st_mode) else "another account's" if is_kind(found.st_mode) else "none"
    message = (
        f"expected {path}, where a lock is kept, to be a {'folder' if is_kind is stat.S_ISDIR else 'file'} of this "
        f"account (number {os.geteuid()}); found {what} (owner {found.st_uid}). Remove it, and run this again. "
        "Nothing was done."
    )
    raise KobeShotError(message)


def take(descriptor: int) -> bool:
    """Take a lock, if no other process holds it; it is held as long as the descriptor is open, here or in a child."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def held(path: Path, what: str, wait_seconds: float, on_wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lock of a file until the block ends.

    Parameters
    ----------
    path : pathlib.Path
    what : str
        What its holder is at, in words.
    wait_seconds : float
        How long to wait for another process, unless ``$KOBE_LOCK_WAIT_SECONDS`` says otherwise.
    on_wait : callable, optional
        Called once with a message when there is something to wait for.

    Raises
    ------
    BusyError
        If another process still holds it then: says which, and what to do.
    KobeShotError
        If the file is another account's, or a link.
    """
    descriptor = open_private(path)
    try:
        _wait_for(descriptor, what, _wait_seconds(wait_seconds), on_wait)
        holder = f"process {os.getpid()} in {Path.cwd()}, since {datetime.now(UTC).isoformat(timespec='seconds')}"
        # On a disk that is full nobody reads whose the lock is; it holds all the same.
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, holder.encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _wait_for(descriptor: int, what: str, seconds: float, on_wait: Callable[[str], None] | None) -> None:
    deadline = time.monotonic() + seconds
    while not take(descriptor):
        holder = os.pread(descriptor, _LONGEST_HOLDER, 0).decode(errors="replace").strip() or "another process"
        if time.monotonic() >= deadline:
            still = f", still after {seconds:g} s" if seconds else ""
            message = (
                f"Another process is at {what}: {holder}{still}. This one ends; nothing was done. Wait until it is "
                f"done, or end it, and run this again. {WAIT_VARIABLE} sets how long to wait."
            )
            raise AlreadyRunningError(message)
        if on_wait:
            on_wait(f"Another process is at {what}: {holder}; waiting for it to end.")
            on_wait = None
        time.sleep(_POLL_SECONDS)


def _wait_seconds(default: float) -> float:
    text = os.environ.get(WAIT_VARIABLE, "").strip()
    try:
        seconds = float(text) if text else default
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        message = f"{WAIT_VARIABLE}: expected a number of seconds; found {text[:40]!r}. Nothing was done."
        raise KobeShotError(message)
    return seconds


@contextmanager
def single_instance(what: str, key: str, *, folder: Path | None = None, wait_seconds: float = 0) -> Iterator[None]:
    """Let one process of this machine and account at a time do something, wherever its folder is.

    Parameters
    ----------
    what : str
        In words.
    key : str
        What it is done to; processes with different keys do not keep each other out.
    folder : pathlib.Path, optional
        Where the lock is; by default `private_folder`.
    wait_seconds : float
        See `held`.

    Raises
    ------
    BusyError, KobeShotError
        See `held`.
    """
    name = hashlib.sha256(f"{what}\n{key}".encode()).hexdigest()[:16]
    with held((folder or private_folder()) / f"kobe_shot_{os.geteuid()}_{name}.lock", what, wait_seconds):
        yield
