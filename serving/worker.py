"""A process that answers requests of the operated door, forked by the supervisor in `serving.server`."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from typing import Any

import uvicorn

from serving.app import Door
from serving.inference_log import recorder_from_environment
from serving.metrics import Metrics
from serving.served_version import ServedVersion, Source

_POLL_SECONDS = 0.5
_FINISH_SECONDS = 20


@dataclass(frozen=True)
class Load:
    """The supervisor's word that a version is to be loaded."""

    source: Source


@dataclass(frozen=True)
class Forget:
    """The supervisor's word that a version answers no more."""

    version: str


@dataclass(frozen=True)
class Loaded:
    """A worker's answer to `Load`; `problem` is empty where it is ready to answer."""

    version: str
    problem: str = ""


class _Server(uvicorn.Server):
    """Uvicorn without signal handlers of its own: the supervisor says when to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Worker:
    """Loads the versions that the supervisor names and answers with the one that is current.

    Parameters
    ----------
    listener : socket.socket
        Its own; the kernel shares callers out among those of all workers.
    connection : Connection
        To the supervisor: takes `Load` and `Forget`, gives `Loaded`.
    current : Synchronized
        Number of the version that answers, in memory that all workers share.
    supervisor : int
        Number of its process; a worker does not outlive it.
    """

    def __init__(
        self, listener: socket.socket, connection: Connection, current: "Synchronized[int]", supervisor: int
    ) -> None:
        self._listener, self._connection, self._current = listener, connection, current
        self._supervisor = supervisor
        self._versions: dict[int, ServedVersion] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def run(self, first: Source) -> int:
        """Answer until the supervisor ends this process, or is gone; the exit code."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        problem, recorder = self._load(first), None
        if not problem:
            try:
                recorder = recorder_from_environment(self._versions[int(first.version)].names)
            except (OSError, ValueError) as error:
                problem = f"the inference log cannot be kept: {error}"
        self._tell(Loaded(first.version, problem))
        if problem:
            return 1
        door = Door(self._versions, lambda: self._current.value, recorder, Metrics())
        config = uvicorn.Config(
            door,
            loop="uvloop",
            http="httptools",
            lifespan="off",
            ws="none",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_FINISH_SECONDS,
        )
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(self._serve(_Server(config)))
        door.close()
        left = recorder.close() if recorder else ""
        if left:
            sys.stderr.write(f"inference log: {left}\n")
        return 0

    async def _serve(self, server: uvicorn.Server) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, lambda: setattr(server, "should_exit", True))
        loop.add_reader(self._connection.fileno(), self._obey)
        self._keep(asyncio.create_task(_end_with(self._supervisor, server)))
        await server.serve(sockets=[self._listener])

    def _obey(self) -> None:
        try:
            word = self._connection.recv()
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(self._connection.fileno())
            return
        if isinstance(word, Load):
            self._keep(asyncio.create_task(asyncio.to_thread(self._load_and_tell, word.source)))
        elif isinstance(word, Forget):
            self._versions.pop(int(word.version), None)

    def _load_and_tell(self, source: Source) -> None:
        self._tell(Loaded(source.version, self._load(source)))

    def _load(self, source: Source) -> str:
        """What is wrong with the version, or nothing."""
        try:
            self._versions[int(source.version)] = ServedVersion(source)
        except Exception as error:  # noqa: BLE001 whatever is wrong with a version, the one before goes on answering
            return f"{type(error).__name__}: {error}"
        return ""

    def _tell(self, word: Loaded) -> None:
        with contextlib.suppress(OSError):
            self._connection.send(word)

    def _keep(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _end_with(supervisor: int, server: uvicorn.Server) -> None:
    while os.getppid() == supervisor:  # noqa: ASYNC110 no event tells of a supervisor's death
        await asyncio.sleep(_POLL_SECONDS)
    server.should_exit = True
