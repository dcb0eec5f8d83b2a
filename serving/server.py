"""The operated door: serve the champion, keep it served, and change to the next champion without losing a request.

``python -m serving.server`` (``make serve``) binds the port, imports everything once and forks its workers from there,
so a worker that dies is replaced within about a second while its callers wait in the queue of its socket.
When the registry names another champion, every worker loads it beside the old one, and all change over in the
same moment: the number of the version that answers lies in memory that they share. A version that cannot be loaded
changes nothing.
"""

import contextlib
import errno
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Annotated, Literal

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from pydantic import Field

from data.addresses import sqlite_address
from data.command import CommandConfig, run_command
from data.console import complain, say
from data.errors import KobeShotError
from data.files import INFERENCE_LOG
from serving import inference_log, registry
from serving.scoring_model import OUTPUT_VARIABLE, output_from_environment
from serving.served_version import Source
from serving.store import plain_store
from serving.worker import Forget, Load, Loaded, Worker

_POLL_SECONDS = 1.0
_LOAD_SECONDS = 120.0
_STOP_SECONDS = 90.0
_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS = 0.05, 10.0
_MOST_ATTEMPTS = 5
_BACKLOG = 2048
_LAST_PORT = 65_535
_FIGURES = "kobe_shot_figures_"

_fork = multiprocessing.get_context("fork")


class ServerError(KobeShotError):
    """The server could not be started."""


class _WorkerDiedError(ServerError):
    def __init__(self) -> None:
        super().__init__("A worker died while it loaded the model; its reason, if it had one, stands above.")


class _CannotLoadError(ServerError):
    pass


class ServerConfig(CommandConfig):
    """Serve the champion of the registry over REST, restart what dies, and follow the registry to the next champion."""

    host: str = Field(default="127.0.0.1", description="address to listen on; 0.0.0.0 for every network")
    port: Annotated[int, Field(ge=0, le=_LAST_PORT)] = Field(
        default=5001, description="port to listen on; 0 takes a free one"
    )
    workers: Annotated[int, Field(ge=1, le=64)] = Field(default=2, description="processes that answer")
    output: Literal["records", "label", "probability", "probabilities"] | None = Field(
        default=None,
        description=f"form of predictions where a request asks for none; empty takes ${OUTPUT_VARIABLE}, else records",
    )


@dataclass
class _Seat:
    """A place for a worker, taken anew whenever the worker in it dies."""

    process: multiprocessing.process.BaseProcess
    connection: Connection
    loaded: bool = False
    failures: int = 0
    restart_at: float | None = None

    def listen(self) -> None:
        """Hear whether the worker has said that it can answer."""
        with contextlib.suppress(EOFError, OSError):
            while self.connection.poll():
                word = self.connection.recv()
                self.loaded = self.loaded or (isinstance(word, Loaded) and not word.problem)


class Supervisor:
    """Holds the sockets and the workers.

    Parameters
    ----------
    config : ServerConfig
    """

    def __init__(self, config: ServerConfig) -> None:
        self._listeners = _listen(config.host, config.port, config.workers)
        self._current = _fork.Value("q", 0, lock=False)
        self._seats: list[_Seat] = []
        self._refused: set[str] = set()
        self._attempts: Counter[str] = Counter()
        self._stopping = False
        self._told = ""
        port = self._listeners[0].getsockname()[1]
        self.address = f"http://{f'[{config.host}]' if ':' in config.host else config.host}:{port}"

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
        with registry.store_errors_told():
            self._source = _source(registry.require_champion())
        self._current.value = int(self._source.version)
        try:
            for listener in self._listeners:
                self._seats.append(self._start(listener))
            self._wait_until_loaded(self._source)
            if not self._stopping:
                seconds = time.monotonic() - started
                say(
                    f"Serving {registry.model()} version {self._source.version} at {self.address}",
                    f"({len(self._seats)} workers, ready after {seconds:.1f} s; Ctrl-C ends)",
                )
            while not self._stopping:
                self._watch()
                self._follow()
        finally:
            self._end()

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _start(self, listener: socket.socket) -> _Seat:
        ours, theirs = _fork.Pipe()
        process = _fork.Process(target=self._work, args=(listener, ours, theirs, os.getpid()), name="worker")
        process.start()
        theirs.close()
        return _Seat(process, ours)

    def _work(self, listener: socket.socket, ours: Connection, connection: Connection, supervisor: int) -> None:
        for end in (ours, *(seat.connection for seat in self._seats)):
            end.close()
        for other in self._listeners:
            if other is not listener:
                other.close()
        code = Worker(listener, connection, self._current, supervisor).run(self._source)
        # What Python would do at exit was set up by the supervisor and is the supervisor's to do.
        sys.stderr.flush()
        os._exit(code)

    def _watch(self) -> None:
        """Wait a while for deaths, and replace who died."""
        alive = [seat.process.sentinel for seat in self._seats if seat.restart_at is None]
        restarts = [seat.restart_at for seat in self._seats if seat.restart_at is not None]
        wait(alive, timeout=max(0.0, min([_POLL_SECONDS, *(moment - time.monotonic() for moment in restarts)])))
        for place, seat in enumerate(self._seats):
            if self._stopping or seat.process.is_alive():
                continue
            if seat.restart_at is None:
                self._bury(seat)
            if seat.restart_at is not None and seat.restart_at <= time.monotonic():
                seat.connection.close()
                self._seats[place] = self._start(self._listeners[place])
                self._seats[place].failures = seat.failures

    def _bury(self, seat: _Seat) -> None:
        seat.process.join()
        # Who had been able to answer is replaced at once; who never was must not use up the machine.
        seat.listen()
        seat.failures = 0 if seat.loaded else seat.failures + 1
        delay = min(_LONGEST_DELAY_SECONDS, _FIRST_DELAY_SECONDS * 2**seat.failures) if seat.failures else 0.0
        seat.restart_at = time.monotonic() + delay
        complain(f"Worker {seat.process.pid} died", f"(exit code {seat.process.exitcode}); another takes its place.")

    def _follow(self) -> None:
        """Change to the champion of the registry if it is another one and can be served."""
        try:
            champion = registry.require_champion()
            number = registry.number(champion)
            if number == self._source.version or number in self._refused:
                return
            if not all(seat.process.is_alive() for seat in self._seats):
                return
            source = _source(champion)
            self._send(Load(source))
            self._wait_until_loaded(source)
        except _CannotLoadError as error:
            self._refused.add(number)
            complain(f"Version {self._source.version} goes on answering:", error)
        except _WorkerDiedError:
            # Killed by somebody, perhaps: it is replaced and the version is tried again, but not for ever.
            self._attempts[number] += 1
            if self._attempts[number] >= _MOST_ATTEMPTS:
                self._refused.add(number)
                complain(f"Version {number} cannot be served:", f"workers died {_MOST_ATTEMPTS} times while loading it")
        except Exception as error:  # noqa: BLE001 whatever the registry has, requests go on being answered
            self._tell(f"{type(error).__name__}: {error}")
        else:
            self._told = ""
            if not self._stopping:
                self._change_to(source)

    def _change_to(self, source: Source) -> None:
        before, self._source = self._source, source
        self._current.value = int(source.version)
        say(f"Serving version {source.version}", f"(before: version {before.version})")
        # Whoever was being answered by the old version still holds it.
        with contextlib.suppress(_WorkerDiedError):
            self._send(Forget(before.version))

    def _send(self, word: Load | Forget) -> None:
        try:
            for seat in self._seats:
                seat.connection.send(word)
        except OSError as error:
            raise _WorkerDiedError from error

    def _tell(self, problem: str) -> None:
        """Say what keeps the next champion away, and again only when it is something else."""
        if problem != self._told:
            self._told = problem
            complain(f"Version {self._source.version} goes on answering:", problem)

    def _wait_until_loaded(self, source: Source) -> None:
        """Wait for every worker.

        Raises
        ------
        _CannotLoadError
            If one of them says so.
        ServerError
            If one of them has not loaded it within two minutes.
        _WorkerDiedError
            If one of them dies before.
        """
        waiting = {seat.connection: seat for seat in self._seats}
        deadline = time.monotonic() + _LOAD_SECONDS
        while waiting and not self._stopping:
            for ready in wait([*waiting], timeout=_POLL_SECONDS):
                try:
                    word = waiting[ready].connection.recv()  # type: ignore[index]
                except (EOFError, OSError) as error:
                    raise _WorkerDiedError from error
                if isinstance(word, Loaded) and word.version == source.version:
                    if word.problem:
                        message = f"Version {source.version} of {registry.model()} cannot be served: {word.problem}"
                        raise _CannotLoadError(message)
                    waiting.pop(ready).loaded = True  # type: ignore[call-overload]
            if time.monotonic() > deadline:
                message = f"A worker has not loaded version {source.version} within {_LOAD_SECONDS:.0f} s."
                raise ServerError(message)

    def _end(self) -> None:
        # First, so that whoever calls from now on is refused at once and does not wait for nothing.
        for listener in self._listeners:
            listener.close()
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
        If there is no champion or it cannot be loaded, the port is taken, or the inference log's address is wrong.
    """
    _set_inference_log()
    _set_output(config.output)
    with plain_store(), _figures():
        supervisor = Supervisor(config)
        supervisor.run()
    say("Stopped.")


def _listen(host: str, port: int, count: int) -> list[socket.socket]:
    """A socket per worker on one port; the kernel shares callers out among them.

    They stay open here, so whoever calls while a worker is being replaced waits in its queue.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # Taken by somebody else, a port is refused only to a socket that does not share.
        with socket.create_server((host, port), family=family) as probe:
            port = probe.getsockname()[1]
        return [
            socket.create_server((host, port), family=family, backlog=_BACKLOG, reuse_port=True) for _ in range(count)
        ]
    except OSError as error:
        message = f"Cannot listen on {host}:{port}: {error.strerror or error}."
        if error.errno == errno.EADDRINUSE:
            message += f" Choose another: make serve PORT={port + 1 if port < _LAST_PORT else port - 1}"
        raise ServerError(message) from error


def _source(version: ModelVersion) -> Source:
    number = registry.number(version)
    folder = mlflow.artifacts.download_artifacts(f"models:/{registry.model()}/{number}")
    promotions = registry.promotions(version)
    return Source(
        version=number,
        folder=folder,
        run_id=str(version.run_id or ""),
        promoted=str(promotions[-1]["when"]) if promotions else "",
        since=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _set_inference_log() -> None:
    """Log to a SQLite file of the project unless the user says otherwise; refuse an address that cannot be one."""
    name = inference_log.ADDRESS_VARIABLE
    address = os.environ.setdefault(name, sqlite_address(INFERENCE_LOG))
    if address in {"", "off"}:
        return
    try:
        inference_log.check_address(address)
    except ValueError as error:
        raise ServerError(str(error)) from error


def _set_output(output: str | None) -> None:
    """Let every worker answer in this form where a request asks for none; refuse a wrong one of the environment."""
    if output:
        os.environ[OUTPUT_VARIABLE] = output
    try:
        output_from_environment()
    except MlflowException as error:
        raise ServerError(error.message) from error


@contextlib.contextmanager
def _figures() -> Iterator[None]:
    """A folder for the workers' figures, before prometheus_client is imported."""
    for left in Path(tempfile.gettempdir()).glob(f"{_FIGURES}*"):
        if not Path(f"/proc/{left.name.removeprefix(_FIGURES).partition('_')[0]}").exists():
            shutil.rmtree(left, ignore_errors=True)
    folder = tempfile.mkdtemp(prefix=f"{_FIGURES}{os.getpid()}_")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    run_command(ServerConfig, serve)
