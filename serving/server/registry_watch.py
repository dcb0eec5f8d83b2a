"""Polls the registry in a process of its own, so that the supervisor of the workers never waits for it.

The process reads the champion every second, and fetches the files of a new champion to a folder of this server. It is
forked before the first request, and is killed and forked again when it sends no message for too long.
"""

import contextlib
import logging
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion
from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR

from data.errors import KobeShotError
from serving import registry
from serving.model import model_files
from serving.model.manifest import ModelFilesError
from serving.registry import StoreError, reachability
from serving.server.loaded_model import ModelSource

NAME = "kobe_registry"
"""What the process is called in a list of processes."""

_POLL_SECONDS = 1.0
_AGAIN_SECONDS = 5.0
_SILENT_SECONDS = 9.0
_FETCH_SECONDS = 30.0
# A file does not go away, but a busy machine takes its time to make MLflow's tables in a new one.
_LOCAL_SECONDS = 120.0
_CRASHED_SECONDS = 0.5

_fork = get_context("fork")


@dataclass(frozen=True)
class Unchanged:
    """The champion is still the one that was found last."""


@dataclass(frozen=True)
class Fetching:
    """There is another champion, whose files are being fetched."""

    version: str


@dataclass(frozen=True)
class Found:
    """There is another champion, and its files are here."""

    source: ModelSource


@dataclass(frozen=True)
class Trouble:
    """The champion is not known, or cannot be fetched.

    Attributes
    ----------
    words : str
        What is wrong.
    away : bool
        Whether the registry does not respond.
    pause : float
        Seconds until the next try.
    """

    words: str
    away: bool = False
    pause: float = _POLL_SECONDS


Word = Unchanged | Fetching | Found | Trouble


class RegistryWatch:
    """The process, seen from the supervisor.

    Parameters
    ----------
    folder : pathlib.Path
        Where champions are fetched to.
    release : callable
        Closes, in the new process, what it inherits and must not hold.
    """

    def __init__(self, folder: Path, release: Callable[[], None]) -> None:
        self._folder, self._release = folder, release
        self._seen = ""
        self._start()

    @property
    def connection(self) -> Connection:
        """Becomes ready when there is a word."""
        return self._connection

    def words(self) -> Iterator[Word]:
        """The messages of the process since the last call; a crashed or silent process is replaced."""
        try:
            while self._connection.poll():
                word = self._connection.recv()
                self._heard(word)
                yield word
        except (EOFError, OSError):
            if time.monotonic() - self._started < _POLL_SECONDS:
                # One that cannot even start must not use up the machine.
                time.sleep(_CRASHED_SECONDS)
            self._restart()
            return
        limit = _FETCH_SECONDS if self._fetching else _SILENT_SECONDS if reachability.is_remote() else _LOCAL_SECONDS
        if time.monotonic() - self._since > limit and not self._grows():
            what = "the files of the champion do not come" if self._fetching else "no response"
            self._restart()
            yield Trouble(f"{what} within {limit:.0f} s", away=True)

    def fetch_again(self) -> bool:
        """Fetch the champion once more, as its files are gone or damaged; whether no fetch was under way."""
        if not self._seen:
            return False
        self._seen = ""
        self._restart()
        return True

    def end(self) -> None:
        """End the process, whatever it waits for."""
        if self._process.pid is not None:
            self._process.kill()
            self._process.join()
        self._connection.close()

    def _heard(self, word: Word) -> None:
        self._since, self._bytes = time.monotonic(), 0
        self._fetching = isinstance(word, Fetching)
        if isinstance(word, Found):
            self._seen = word.source.version

    def _grows(self) -> bool:
        """Whether more of the files has come since the last check: a large model over a slow line takes its time."""
        before, self._bytes = self._bytes, sum(file.stat().st_size for file in _files(self._folder))
        grows = self._fetching and self._bytes > before
        if grows:
            self._since = time.monotonic()
        return grows

    def _restart(self) -> None:
        self.end()
        self._start()

    def _start(self) -> None:
        self._connection, theirs = _fork.Pipe()
        self._process: BaseProcess = _fork.Process(target=self._work, args=(theirs,), name=NAME, daemon=True)
        # Where no process can be started, no process holds the other end: this counts as a crash, and is retried.
        with contextlib.suppress(OSError):
            self._process.start()
        theirs.close()
        self._since = self._started = time.monotonic()
        self._fetching, self._bytes = False, 0

    def _work(self, connection: Connection) -> None:
        self._connection.close()
        self._release()
        with contextlib.suppress(BaseException):
            _watch(connection, self._folder, self._seen)
        os._exit(0)


def _files(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from (path for path in folder.rglob("*") if path.is_file())


def _watch(connection: Connection, folder: Path, seen: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(NAME, encoding="ascii")
    threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
    # The supervisor logs each problem once.
    logging.disable(logging.CRITICAL)
    reachability.hurry()
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
    responded = False
    while True:
        word = _check(connection, folder, seen, responded=responded)
        if isinstance(word, Found):
            seen = word.source.version
        responded = not (isinstance(word, Trouble) and word.away)
        connection.send(word)
        time.sleep(word.pause if isinstance(word, Trouble) else _POLL_SECONDS)


def _end_with(connection: Connection) -> None:
    """End this process with the supervisor, which never sends a message."""
    with contextlib.suppress(EOFError, OSError):
        connection.recv()
    os._exit(0)


def _check(connection: Connection, folder: Path, seen: str, *, responded: bool) -> Word:
    try:
        if not responded:
            # MLflow itself would retry an unreachable database for long.
            reachability.require_reachable()
        with registry.translate_store_errors():
            champion = registry.require_champion()
            version = registry.number(champion)
            if version == seen:
                return Unchanged()
    except StoreError as error:
        return Trouble(str(error), away=True)
    except KobeShotError as error:
        return Trouble(str(error))
    except Exception as error:  # noqa: BLE001 whatever the registry has, the version before keeps serving
        return Trouble(f"{type(error).__name__}: {error}")
    connection.send(Fetching(version))
    try:
        with reachability.patience():
            return Found(_fetch(champion, folder))
    except Exception as error:  # noqa: BLE001 as above
        words = f"The files of version {version} cannot be fetched: {type(error).__name__}: {error}"
        if isinstance(error, ModelFilesError):
            words = str(error)
        return Trouble(words, pause=_AGAIN_SECONDS)


def _fetch(champion: ModelVersion, folder: Path) -> ModelSource:
    number = registry.number(champion)
    place = tempfile.mkdtemp(prefix=f"{number}-", dir=folder)
    try:
        # A copy also of local files: a crashed worker is replaced from it, whatever happens to the run.
        files = model_files.fetch(registry.uri(number), Path(place))
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    promotions = registry.promotions(champion)
    return ModelSource(
        version=number,
        folder=str(files),
        run_id=str(champion.run_id or ""),
        promoted=str(promotions[-1]["when"]) if promotions else "",
        loaded_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
