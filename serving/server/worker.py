"""A process that serves requests of the production server, forked by the supervisor in `serving.server.supervisor`."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator, MutableSequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import uvicorn

from serving.inference_log import inference_log
from serving.server.app import ScoringApp
from serving.server.bounded_http import Limiter
from serving.server.loaded_model import LoadedModel, ModelSource
from serving.server.metrics import ServerMetrics
from serving.server_limits import limits

_logger = logging.getLogger("kobe_shot.server")
_POLL_SECONDS = 0.5
_FINISH_SECONDS = 4
_STOP_SECONDS = 5.0
_MISSING_SECONDS = 3.0


@dataclass(frozen=True)
class LoadModel:
    """The supervisor's message that a version is to be loaded."""

    source: ModelSource


@dataclass(frozen=True)
class UnloadModel:
    """The supervisor's message that a version is not served any more."""

    version: str


@dataclass(frozen=True)
class ModelLoaded:
    """A worker's reply to `LoadModel`; `problem` is empty where it is ready to serve."""

    source: ModelSource
    problem: str = ""


@dataclass(frozen=True)
class Shared:
    """Memory that the supervisor and all workers share.

    Attributes
    ----------
    current : Synchronized
        Number of the current version.
    missing : sequence of float
        Since when each slot has no ready worker, 0 where it has one.
    held : mutable sequence of int
        What each worker holds of bodies and connections, for `Limiter`.
    """

    current: "Synchronized[int]"
    missing: MutableSequence[float]
    held: MutableSequence[int]


class _Server(uvicorn.Server):
    """Uvicorn without signal handlers of its own, as the supervisor decides when to stop, and with limits."""

    def __init__(self, config: uvicorn.Config, limiter: Limiter) -> None:
        super().__init__(config)
        self._limiter = limiter

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._limiter.install(self.config)
        await super().startup(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Worker:
    """Loads the versions that the supervisor names and serves the current one.

    Parameters
    ----------
    listener : socket.socket
        Its own; the kernel distributes connections among those of all workers.
    connection : Connection
        To the supervisor: takes `LoadModel` and `UnloadModel`, gives `ModelLoaded`.
    shared : Shared
    place : int
        Which of the workers this is.
    supervisor : int
        Number of its process; a worker does not outlive it.
    """

    def __init__(
        self, listener: socket.socket, connection: Connection, shared: Shared, place: int, supervisor: int
    ) -> None:
        self._listener, self._connection, self._shared = listener, connection, shared
        self._place, self._supervisor = place, supervisor
        self._versions: dict[int, LoadedModel] = {}
        self._loading: set[ModelSource] = set()
        # MLflow keeps the model that a file of code sets in a global of the process until it is returned.
        self._one_at_a_time = asyncio.Lock()
        self._stop_at = 0.0
        self._tasks: set[asyncio.Task[Any]] = set()

    def run(self, first: ModelSource) -> int:
        """Serve until the supervisor ends this process, or is gone; the exit code."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with contextlib.suppress(OSError):
            Path("/proc/self/comm").write_text("kobe_worker", encoding="ascii")
        found, recorder, metrics = _load(first), None, ServerMetrics()
        problem = found if isinstance(found, str) else ""
        if not isinstance(found, str):
            self._versions[int(first.version)] = found
            try:
                may_keep = inference_log.LogLimits(limits().log_bytes, limits().spool_bytes)
                recorder = inference_log.recorder_from_environment(
                    found.names, may_keep, metrics.count_dropped, texts=found.texts
                )
            except (OSError, ValueError) as error:
                problem = f"the inference log cannot be kept: {error}"
        self._send(ModelLoaded(first, problem))
        if problem:
            return 1
        if recorder:
            metrics.watch(recorder)
        # Else a long table lets the collector walk, and copy, all that the workers share with the supervisor.
        gc.collect()
        gc.freeze()
        limiter = Limiter(limits(), self._shared.held, self._place, metrics.count_refused, is_direct=True)
        metrics.show(limiter)
        app = ScoringApp(self._versions, lambda: self._shared.current.value, recorder, metrics, self._health)
        config = uvicorn.Config(
            app,
            loop="uvloop",
            http="httptools",
            lifespan="off",
            ws="none",
            log_config=None,
            log_level="warning",
            access_log=False,
            # The client behind a proxy is not resolved.
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=_FINISH_SECONDS,
        )
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(self._serve(_Server(config, limiter)))
        app.close()
        left = recorder.close(max(1.0, self._stop_at - time.monotonic())) if recorder else ""
        if left:
            _logger.warning("inference log: %s", left)
        return 0

    async def _serve(self, server: uvicorn.Server) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._end, server)
        loop.add_reader(self._connection.fileno(), self._obey)
        self._keep(asyncio.create_task(self._end_with_supervisor(server)))
        await server.serve(sockets=[self._listener])

    def _obey(self) -> None:
        try:
            word = self._connection.recv()
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(self._connection.fileno())
            return
        if isinstance(word, LoadModel):
            self._loading.add(word.source)
            self._keep(asyncio.create_task(self._load_next(word.source)))
        elif isinstance(word, UnloadModel):
            # One that is still being loaded is not kept when it is.
            self._loading = {source for source in self._loading if source.version != word.version}
            self._versions.pop(int(word.version), None)
            gc.collect()

    async def _load_next(self, source: ModelSource) -> None:
        async with self._one_at_a_time:
            found = await asyncio.to_thread(_load, source) if source in self._loading else ""
        if source not in self._loading:
            # An error while its files were being removed keeps a model in a cycle of references.
            del found
            gc.collect()
            return
        self._loading.discard(source)
        if isinstance(found, str):
            self._send(ModelLoaded(source, found))
        else:
            self._versions[int(source.version)] = found
            self._send(ModelLoaded(source))

    def _health(self) -> str:
        """What is wrong with the whole server, or nothing; a worker is replaced within a second or two."""
        now = time.monotonic()
        missing = [now - since for since in self._shared.missing if since and now - since > _MISSING_SECONDS]
        if not missing:
            return ""
        return f"{len(missing)} of {len(self._shared.missing)} workers are missing, one for {max(missing):.0f} s"

    def _end(self, server: uvicorn.Server) -> None:
        self._stop_at = time.monotonic() + _STOP_SECONDS
        server.should_exit = True

    async def _end_with_supervisor(self, server: uvicorn.Server) -> None:
        while os.getppid() == self._supervisor:  # noqa: ASYNC110 no event signals a supervisor's death
            await asyncio.sleep(_POLL_SECONDS)
        self._end(server)

    def _send(self, word: ModelLoaded) -> None:
        with contextlib.suppress(OSError):
            self._connection.send(word)

    def _keep(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _load(source: ModelSource) -> LoadedModel | str:
    """The version, or what is wrong with it."""
    try:
        return LoadedModel(source)
    except Exception as error:  # noqa: BLE001 whatever is wrong with a version, the one before keeps serving
        return f"{type(error).__name__}: {error}"
