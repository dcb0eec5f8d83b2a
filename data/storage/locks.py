"""Locks between processes, in files that only this account can open.

The operating system holds the locks (`fcntl.flock`) and releases them when their process ends.
``serving/inference_log/inference_log.py`` uses the same kind of lock; MLflow runs it alone, so it cannot import this
module.
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
from data.storage.files import display_path
from data.storage.staging import clear_leftovers

WAIT_VARIABLE = "KOBE_LOCK_WAIT_SECONDS"
"""Environment variable: how long to wait for any lock, in seconds."""

_POLL_SECONDS = 0.2
_MAX_HOLDER_BYTES = 1_000


class AlreadyRunningError(KobeShotError):
    """Another process is running the same operation."""


def private_folder() -> Path:
    """Return this account's private folder for locks, and create it if needed.

    The folder lies in the state folder (``$XDG_STATE_HOME``, else ``~/.local/state``), which is the same for shells,
    cron and services. ``$XDG_RUNTIME_DIR``, which some of them lack, is the fallback if the state folder cannot be
    created.

    Raises
    ------
    KobeShotError
        If the folder belongs to another account, or cannot be created.
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
                _require_own(each, each.lstat(), stat.S_ISDIR)
            if stat.S_IMODE(folder.stat().st_mode) & 0o077:
                folder.chmod(0o700)
        except OSError as error:
            problem = problem or f"{folder}: {error.strerror or error}"
            continue
        return folder
    message = (
        f"expected a folder for locks that only this account can enter; found {problem}. Set XDG_STATE_HOME to a "
        "folder that you own. Nothing was done."
    )
    raise KobeShotError(message)


def open_private(path: Path) -> int:
    """Open a private file for a lock or a state, and create it if needed; return its descriptor.

    Links are not followed. Permissions of other accounts are removed.

    Raises
    ------
    KobeShotError
        If the path belongs to another account, is a link, or is not a file.
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
        _require_own(path, found, stat.S_ISREG)
        raise
    try:
        found = os.fstat(descriptor)
        _require_own(path, found, stat.S_ISREG)
        if stat.S_IMODE(found.st_mode) & 0o077:
            os.fchmod(descriptor, 0o600)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def restrict_permissions(path: Path) -> None:
    """Remove other accounts' permissions from a file of this account, such as a database; other paths are unchanged.

    The file is not opened, because closing a database releases this process's locks on it.
    """
    with suppress(OSError):
        found = path.lstat()
        if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) & 0o077:
            path.chmod(0o600)


def _require_own(path: Path, found: os.stat_result, is_kind: Callable[[int], bool]) -> None:
    if found.st_uid == os.geteuid() and is_kind(found.st_mode):
        return
    what = "a link" if stat.S_ISLNK(found.st_mode) else "another account's" if is_kind(found.st_mode) else "none"
    message = (
        f"expected {path}, which stores a lock, to be a {'folder' if is_kind is stat.S_ISDIR else 'file'} of this "
        f"account (number {os.geteuid()}); found {what} (owner {found.st_uid}). Remove it, and run the command again. "
        "Nothing was done."
    )
    raise KobeShotError(message)


def try_lock(descriptor: int) -> bool:
    """Acquire a lock unless another process holds it; it lasts while the descriptor is open, also in a child."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def hold_lock(
    path: Path, what: str, wait_seconds: float, on_wait: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Hold the lock of a file until the block ends.

    Parameters
    ----------
    path : pathlib.Path
    what : str
        Description of the operation.
    wait_seconds : float
        How long to wait for another process; ``$KOBE_LOCK_WAIT_SECONDS`` overrides it.
    on_wait : callable, optional
        Called once with a message if another process holds the lock.

    Raises
    ------
    AlreadyRunningError
        If another process still holds the lock after the wait. The message names the process.
    KobeShotError
        If the file belongs to another account, or is a link.
    """
    descriptor = open_private(path)
    try:
        _wait_for(descriptor, what, _wait_seconds(wait_seconds), on_wait)
        holder = f"process {os.getpid()} in {Path.cwd()}, since {datetime.now(UTC).isoformat(timespec='seconds')}"
        # On a full disk the lock works without the name of its process.
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, holder.encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _wait_for(descriptor: int, what: str, seconds: float, on_wait: Callable[[str], None] | None) -> None:
    deadline = time.monotonic() + seconds
    while not try_lock(descriptor):
        holder = os.pread(descriptor, _MAX_HOLDER_BYTES, 0).decode(errors="replace").strip() or "another process"
        if time.monotonic() >= deadline:
            waited = f", after a wait of {seconds:g} s" if seconds else ""
            message = (
                f"Already running: {what}, by {holder}{waited}. Nothing was done. Wait until it ends, or stop it, and "
                f"run the command again. {WAIT_VARIABLE} sets how long to wait."
            )
            raise AlreadyRunningError(message)
        if on_wait:
            on_wait(f"Already running: {what}, by {holder}. Waiting for it to end.")
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
    """Allow one process per machine and account to run an operation, in whichever folder.

    Parameters
    ----------
    what : str
        Description of the operation.
    key : str
        Object of the operation; processes with different keys run concurrently.
    folder : pathlib.Path, optional
        Folder of the lock; by default `private_folder`.
    wait_seconds : float
        See `hold_lock`.

    Raises
    ------
    AlreadyRunningError, KobeShotError
        See `hold_lock`.
    """
    name = hashlib.sha256(f"{what}\n{key}".encode()).hexdigest()[:16]
    with hold_lock((folder or private_folder()) / f"kobe_shot_{os.geteuid()}_{name}.lock", what, wait_seconds):
        yield


@contextmanager
def writer_lock(
    folder: Path,
    *,
    lock_folder: Path | None = None,
    limit_seconds: float = 600,
    on_wait: Callable[[str], None] = print,
) -> Iterator[None]:
    """Allow one process at a time to write below a folder, and remove the partial files of killed processes.

    Files that another process writes there without this lock, such as a table of predictions, stay.

    Parameters
    ----------
    folder : pathlib.Path
        Folder to write to.
    lock_folder : pathlib.Path, optional
        Folder of the lock file ``.lock``; by default `folder`.
    limit_seconds : float
        How long to wait for another process.
    on_wait : callable
        Called once with a message if another process holds the lock.

    Raises
    ------
    AlreadyRunningError
        If another process still holds the lock after `limit_seconds`.
    KobeShotError
        If the lock file belongs to another account, or is a link.
    """
    lock = (lock_folder or folder) / ".lock"
    for parent in (folder, lock.parent):
        parent.mkdir(parents=True, exist_ok=True)
    with hold_lock(lock, f"writing to {display_path(folder)}", limit_seconds, on_wait):
        clear_leftovers(folder)
        yield
