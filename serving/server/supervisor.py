"""The production server: serve the champion, keep it served, and change to the next champion without losing a request.

``python -m serving.server`` (``make serve``) binds the port, imports everything once and forks its workers from there,
so a crashed worker is replaced within about a second while its clients wait in the queue of its socket.
When the registry names another champion, every worker loads it next to the current one, and all switch atomically: the
number of the current version is in memory that they share. A version that cannot be loaded changes nothing. The
registry is polled by a process of its own (`serving.server.registry_watch`), so that nothing here
waits for it: while it is away, the version that was fetched last is served from its copy.
"""

import contextlib
import errno
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Annotated, Literal

from mlflow.exceptions import MlflowException
from mlflow.utils.requirements_utils import _init_packages_to_modules_map
from pydantic import Field

from data.cli.config import CommandConfig
from data.cli.console import info
from data.cli.logs import log_to_stderr
from data.datasets import log_file
from data.errors import KobeShotError
from data.storage.scratch import scratch
from data.storage.urls import sqlite_url
from serving import registry
from serving.inference_log import inference_log
from serving.model.scoring_model import OUTPUT_VARIABLE, output_from_environment
from serving.registry import reachability
from serving.registry.store import plain_store
from serving.server.bounded_http import SHARED_FIGURES
from serving.server.loaded_model import ModelSource
from serving.server.registry_watch import Fetching, Found, RegistryWatch, Trouble, Word
from serving.server.worker import LoadModel, ModelLoaded, Shared, UnloadModel, Worker
from serving.server_limits import limits

_POLL_SECONDS = 0.5
_FIRST_RESPONSE_SECONDS = 7.0
_LOAD_SECONDS = 120.0
_STOP_SECONDS = 6.0
_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS = 0.05, 10.0
_NO_ROOM_SECONDS = 1.0
_MAX_ATTEMPTS = 5
_BACKLOG = 2048
_LAST_PORT = 65_535

_fork = multiprocessing.get_context("fork")
_logger = logging.getLogger("kobe_shot.server")


class ServerStartError(KobeShotError):
    """The server could not be started."""


class ServerConfig(CommandConfig):
    """Serve the champion of the registry over REST, restart crashed workers, and reload on promotion."""

    host: str = Field(default="127.0.0.1", description="IP address to listen on; 0.0.0.0 for every network")
    port: Annotated[int, Field(ge=0, le=_LAST_PORT)] = Field(
        default=5001, description="port to listen on; 0 takes a free one"
    )
    workers: Annotated[int, Field(ge=1, le=64)] = Field(default=2, description="worker processes")
    output: Literal["records", "label", "probability", "probabilities"] | None = Field(
        default=None,
        description=f"form of predictions where a request names none; empty takes ${OUTPUT_VARIABLE}, else records",
    )


@dataclass
class _Seat:
    """A slot for a worker, filled again whenever the worker in it crashes."""

    process: multiprocessing.process.BaseProcess
    connection: Connection
    loaded: set[ModelSource] = field(default_factory=set)
    failures: int = 0
    restart_at: float | None = None

    def words(self) -> Iterator[ModelLoaded]:
        """The messages of the worker since the last call."""
        with contextlib.suppress(EOFError, OSError):
            while self.connection.poll():
                word = self.connection.recv()
                if isinstance(word, ModelLoaded):
                    if not word.problem:
                        self.loaded.add(word.source)
                    yield word

    def send(self, word: LoadModel | UnloadModel) -> None:
        """Send a message to the worker; a crashed one is replaced."""
        with contextlib.suppress(OSError):
            self.connection.send(word)


@dataclass
class _Coming:
    """The next version, which the workers load."""

    source: ModelSource
    deadline: float


class Supervisor:
    """Holds the sockets and the workers.

    Parameters
    ----------
    config : ServerConfig
    folder : pathlib.Path
        Where the files of the served versions are kept.
    """

    def __init__(self, config: ServerConfig, folder: Path) -> None:
        self._folder = folder
        self._listeners = _listen(config.host, config.port, config.workers)
        current = _fork.Value("q", 0, lock=False)
        missing = _fork.Array("d", [time.monotonic()] * config.workers, lock=False)
        self._shared = Shared(current, missing, _fork.Array("q", SHARED_FIGURES * config.workers, lock=False))
        self._seats: list[_Seat] = []
        self._coming: _Coming | None = None
        self._refused: set[str] = set()
        self._attempts: Counter[str] = Counter()
        self._stopping = False
        self._away_since: float | None = None
        self._reported = ""
        port = self._listeners[0].getsockname()[1]
        self.url = f"http://{f'[{config.host}]' if ':' in config.host else config.host}:{port}"

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises
        ------
        KobeShotError
            If there is no champion, or it cannot be loaded.
        """
        started = time.monotonic()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self._watch = RegistryWatch(self._folder, self._release)
        try:
            # MLflow scans all packages when it loads a model: once, here, and not in every worker.
            _init_packages_to_modules_map()
            self._first()
            while not self._stopping and self._coming:
                self._turn(first=True)
            if not self._stopping:
                seconds = time.monotonic() - started
                info(
                    f"Serving {registry.model()} version {self._source.version} at {self.url}",
                    f"({len(self._seats)} workers, ready after {seconds:.1f} s; Ctrl-C ends)",
                )
            while not self._stopping:
                self._turn()
        finally:
            self._end()

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _first(self) -> None:
        """Wait for the first champion and start the workers.

        Raises
        ------
        ServerStartError
            If there is none, or the registry does not respond within seconds.
        """
        deadline = time.monotonic() + _FIRST_RESPONSE_SECONDS if reachability.is_remote() else None
        while not self._stopping:
            wait([self._watch.connection], timeout=_POLL_SECONDS)
            for word in self._watch.words():
                if isinstance(word, Trouble):
                    raise ServerStartError(word.words)
                if isinstance(word, Fetching):
                    deadline = None
                if isinstance(word, Found):
                    self._source = word.source
                    self._shared.current.value = int(word.source.version)
                    for place in range(len(self._listeners)):
                        self._seats.append(self._start(place))
                    self._coming = _Coming(self._source, time.monotonic() + _LOAD_SECONDS)
                    return
            if deadline is not None and time.monotonic() > deadline:
                message = (
                    f"Expected the registry to name the champion of {registry.model()}; found no response within "
                    f"{_FIRST_RESPONSE_SECONDS:.0f} s. Check the tracking server, and start again."
                )
                raise ServerStartError(message)

    def _release(self) -> None:
        """Close, in the process that polls the registry, what belongs to the supervisor and its workers."""
        for listener in self._listeners:
            listener.close()
        for seat in self._seats:
            seat.connection.close()

    def _start(self, place: int) -> _Seat:
        ours, theirs = _fork.Pipe()
        process = _fork.Process(target=self._work, args=(place, ours, theirs, os.getpid()), name="worker")
        process.start()
        theirs.close()
        return _Seat(process, ours)

    def _work(self, place: int, ours: Connection, connection: Connection, supervisor: int) -> None:
        for end in (ours, self._watch.connection, *(seat.connection for seat in self._seats)):
            end.close()
        for other in self._listeners:
            if other is not self._listeners[place]:
                other.close()
        code = Worker(self._listeners[place], connection, self._shared, place, supervisor).run(self._source)
        # What Python would do at exit was set up by the supervisor and is the supervisor's to do.
        sys.stderr.flush()
        os._exit(code)

    def _turn(self, *, first: bool = False) -> None:
        """Wait a while for whatever happens, and see to it.

        Raises
        ------
        ServerStartError
            If it is the `first` version that cannot be served.
        """
        now = time.monotonic()
        restarts = [seat.restart_at - now for seat in self._seats if seat.restart_at is not None]
        alive = [seat for seat in self._seats if seat.restart_at is None]
        # The first champion is loaded before the next is heard of.
        heard: list[Connection | int] = [] if first else [self._watch.connection]
        heard += [seat.connection for seat in alive]
        heard += [seat.process.sentinel for seat in alive]
        wait(heard, timeout=max(0.0, min([_POLL_SECONDS, *restarts])))
        for place in range(len(self._seats)):
            self._see_to(place, first=first)
        for word in [] if first else self._watch.words():
            self._hear(word)
        if self._coming and not self._stopping:
            self._try_to_change(first=first)

    def _see_to(self, place: int, *, first: bool) -> None:
        """Handle the messages of a worker, and replace it if it has crashed."""
        seat = self._seats[place]
        for word in seat.words():
            version = word.source.version
            if version == self._source.version and not word.problem:
                self._shared.missing[place] = 0.0
            elif word.problem and self._coming and word.source == self._coming.source:
                self._refuse(f"Version {version} of {registry.model()} cannot be served: {word.problem}", first=first)
            elif word.problem:
                _logger.error("A worker cannot serve version %s: %s", version, word.problem)
        if self._stopping or seat.process.is_alive():
            return
        if seat.restart_at is None:
            self._bury(place, first=first)
        if seat.restart_at is not None and seat.restart_at <= time.monotonic():
            self._replace(place)

    def _replace(self, place: int) -> None:
        seat = self._seats[place]
        try:
            successor = self._start(place)
        except OSError as error:
            # No process or memory is left on this machine: the other workers go on, and it may pass.
            seat.restart_at = time.monotonic() + _NO_ROOM_SECONDS
            _logger.warning("A worker cannot be started: %s; it is tried again in %.0f s.", error, _NO_ROOM_SECONDS)
            return
        seat.connection.close()
        self._seats[place] = successor
        successor.failures = seat.failures
        if self._coming:
            successor.send(LoadModel(self._coming.source))

    def _bury(self, place: int, *, first: bool) -> None:
        seat = self._seats[place]
        seat.process.join()
        self._shared.missing[place] = self._shared.missing[place] or time.monotonic()
        if first:
            message = "A worker crashed while it loaded the model; its error, if any, is above."
            raise ServerStartError(message)
        # A worker that had served is replaced at once; one that never did must not use up the machine.
        seat.failures = 0 if seat.loaded else seat.failures + 1
        delay = min(_LONGEST_DELAY_SECONDS, _FIRST_DELAY_SECONDS * 2**seat.failures) if seat.failures else 0.0
        seat.restart_at = time.monotonic() + delay
        _logger.error("Worker %s crashed (exit code %s); it is replaced.", seat.process.pid, seat.process.exitcode)
        if self._coming and seat.loaded and self._coming.source not in seat.loaded:
            # Perhaps it was killed: its replacement retries the version, but not forever.
            number = self._coming.source.version
            self._attempts[number] += 1
            if self._attempts[number] >= _MAX_ATTEMPTS:
                self._refuse(
                    f"Version {number} cannot be served: workers crashed {_MAX_ATTEMPTS} times while loading it"
                )
        is_damaged = bool(seat.failures) or not Path(self._source.folder).exists()
        if is_damaged and self._watch.fetch_again():
            _logger.error(
                "The files of the served version are gone from this machine or damaged: they are fetched again."
            )

    def _hear(self, word: Word) -> None:
        """Handle a message of the process that polls the registry."""
        if isinstance(word, Trouble) and word.away:
            if self._away_since is None:
                self._away_since = time.monotonic()
                _logger.error(
                    "The registry does not respond: %s. Version %s keeps serving; a promotion takes effect when it "
                    "responds again.",
                    word.words.rstrip("."),
                    self._source.version,
                )
            return
        if self._away_since is not None:
            seconds = time.monotonic() - self._away_since
            self._away_since = None
            _logger.info("The registry responds again after %.0f s", seconds)
        if isinstance(word, Trouble):
            if word.words != self._reported:
                _logger.error("Version %s keeps serving: %s", self._source.version, word.words)
            self._reported = word.words
            return
        if not isinstance(word, Fetching):
            # Files that are refused are fetched, and refused, again and again.
            self._reported = ""
        if isinstance(word, Found):
            self._found(word.source)

    def _found(self, source: ModelSource) -> None:
        if self._coming:
            self._give_up(self._coming.source)
        if source.version == self._source.version:
            # Champion again, or fetched again: the workers have it; those that come later load the newer copy.
            self._drop(self._source)
            self._source = source
        elif source.version in self._refused:
            self._drop(source)
        else:
            self._coming = _Coming(source, time.monotonic() + _LOAD_SECONDS)
            for seat in self._seats:
                seat.send(LoadModel(source))

    def _try_to_change(self, *, first: bool) -> None:
        """Change to the coming version if every worker has loaded it."""
        assert self._coming is not None  # noqa: S101 checked before the call
        source = self._coming.source
        if all(seat.restart_at is None and source in seat.loaded for seat in self._seats):
            self._coming = None
            if not first:
                self._change_to(source)
        elif time.monotonic() > self._coming.deadline:
            reason = f"a worker has not loaded it within {_LOAD_SECONDS:.0f} s"
            self._refuse(f"Version {source.version} of {registry.model()} cannot be served: {reason}", first=first)

    def _change_to(self, source: ModelSource) -> None:
        before, self._source = self._source, source
        self._shared.current.value = int(source.version)
        _logger.info("Serving version %s (before: version %s)", source.version, before.version)
        # Requests in progress still hold the old version.
        self._give_up(before)

    def _refuse(self, reason: str, *, first: bool = False) -> None:
        """Leave the coming version; those who have loaded it forget it."""
        if first:
            raise ServerStartError(reason)
        assert self._coming is not None  # noqa: S101 checked before the call
        self._refused.add(self._coming.source.version)
        self._give_up(self._coming.source)
        _logger.error("Version %s keeps serving: %s", self._source.version, reason)

    def _give_up(self, source: ModelSource) -> None:
        """Let every worker forget a version, and remove its files."""
        if self._coming and self._coming.source is source:
            self._coming = None
        for seat in self._seats:
            seat.loaded.discard(source)
            seat.send(UnloadModel(source.version))
        self._drop(source)

    def _drop(self, source: ModelSource) -> None:
        """Remove the files of a version, which lie in a folder of their own below this server's."""
        place = Path(source.folder).relative_to(self._folder).parts[0]
        shutil.rmtree(self._folder / place, ignore_errors=True)

    def _end(self) -> None:
        # First, so that whoever calls from now on is refused at once and does not wait for nothing.
        for listener in self._listeners:
            listener.close()
        self._watch.end()
        for seat in self._seats:
            seat.process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for seat in self._seats:
            seat.process.join(max(0.0, deadline - time.monotonic()))
            if seat.process.is_alive():
                seat.process.kill()
                seat.process.join()


def serve(config: ServerConfig) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises
    ------
    KobeShotError
        If there is no champion or it cannot be loaded, the port is taken, or the inference log's URL is wrong.
    """
    log_to_stderr()
    registry.model()
    _set_inference_log()
    _set_output(config.output)
    _check_limits()
    with plain_store(), scratch("server") as folder:
        # Before prometheus_client is imported: where the workers put their figures.
        figures, models = folder / "figures", folder / "models"
        figures.mkdir()
        models.mkdir()
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(figures)
        Supervisor(config, models).run()
    info("Stopped.")


def _listen(host: str, port: int, count: int) -> list[socket.socket]:
    """A socket per worker on one port; the kernel distributes connections among them.

    They stay open here, so whoever calls while a worker is being replaced waits in its queue.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # In use by another process, a port is refused only to a socket that does not share.
        with socket.create_server((host, port), family=family) as probe:
            port = probe.getsockname()[1]
        return [
            socket.create_server((host, port), family=family, backlog=_BACKLOG, reuse_port=True) for _ in range(count)
        ]
    except OSError as error:
        message = f"Cannot listen on {host}:{port}: {error.strerror or error}."
        if error.errno == errno.EADDRINUSE:
            message += f" Use another: make serve PORT={port + 1 if port < _LAST_PORT else port - 1}"
        raise ServerStartError(message) from error


def _set_inference_log() -> None:
    """Log to a SQLite file of the project unless the user names another log; reject an invalid URL."""
    name = inference_log.URL_VARIABLE
    url = os.environ.setdefault(name, sqlite_url(log_file()))
    if url in {"", "off"}:
        return
    try:
        inference_log.check_url(url)
        limits()
    except ValueError as error:
        raise ServerStartError(str(error)) from error


def _set_output(output: str | None) -> None:
    """Set the form of predictions where a request names none; reject a wrong one of the environment."""
    if output:
        os.environ[OUTPUT_VARIABLE] = output
    try:
        output_from_environment()
    except MlflowException as error:
        raise ServerStartError(error.message) from error


def _check_limits() -> None:
    """Refuse limits of the environment that are none, before anything is started."""
    try:
        limits()
    except ValueError as error:
        raise ServerStartError(str(error)) from error
