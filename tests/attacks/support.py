"""A server under attack: what its memory does meanwhile, what another client waits for, and whether it recovers."""

import http.client
import json
import os
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

import psutil
import pytest
import requests

from data.paths import ROOT
from tests.project import records, shot, wait_until

JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
MEGABYTE = 1_000_000
_SAMPLE_SECONDS = 0.05
_PAUSE_SECONDS = 0.02
_TIMEOUT_SECONDS = 60
_ENOUGH_CALLS = 20


class Response(NamedTuple):
    """The response of a server; status 0 where it closed the connection without one."""

    status: int
    text: str
    headers: Mapping[str, str]

    def is_harmless(self) -> bool:
        """Neither an error of the server, nor a stack trace or a path of it, nor longer than a person reads."""
        words = ("Traceback", "stack_trace", "site-packages", str(ROOT))
        return 400 <= self.status < 500 and len(self.text) < 5_000 and not any(word in self.text for word in words)


@dataclass(frozen=True)
class Server:
    """A running server of the tests.

    Attributes
    ----------
    name : str
        ``production`` or ``mlflow``.
    url : str
    """

    name: str
    url: str

    @property
    def place(self) -> tuple[str, int]:
        """Host and port, for a socket."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 80

    def processes(self) -> list[psutil.Process]:
        """Every process of the server: the tests start each in a session of its own, whatever it forks."""
        session = os.getsid(next(iter(self.listeners())))
        return [process for process in psutil.process_iter() if _session(process) == session]

    def listeners(self) -> set[int]:
        """Numbers of the processes that take connections."""
        port = self.place[1]
        listening = [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
        return {c.pid for c in listening if c.pid and c.laddr and c.laddr.port == port}

    def send(self, body: bytes, kind: str = JSON, **headers: str) -> Response:
        """Post a body to ``/invocations``; returns the response, also to a body that the server reads in part."""
        connection = http.client.HTTPConnection(*self.place, timeout=_TIMEOUT_SECONDS)
        try:
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request("POST", "/invocations", body, {"Content-Type": kind, **headers})
            response = connection.getresponse()
            return Response(response.status, response.read().decode(errors="replace"), dict(response.getheaders()))
        except (ConnectionError, http.client.HTTPException):
            return Response(0, "", {})
        finally:
            connection.close()

    def wait_until_recovered(self) -> None:
        """Wait until new clients are served as ever, each over a connection of its own.

        Raises
        ------
        TimeoutError
            If they are not, while nothing moves.
        """
        body = json.dumps(records(shot())).encode()
        for _ in range(4):  # The kernel shares clients out among the workers.
            wait_until(lambda: self.send(body).status == requests.codes.ok, f"{self.url} to respond again")


def _session(process: psutil.Process) -> int:
    with suppress(ProcessLookupError, PermissionError):
        return os.getsid(process.pid)
    return -1


def some_slow(cases: Iterable[str], quick: Collection[str]) -> list[Any]:
    """Parameters of a test; every run has only the quick ones."""
    return [pytest.param(case, marks=[] if case in quick else [pytest.mark.slow], id=case) for case in cases]


class MemoryMeter:
    """Reads by how much the resident memory of a server's processes grows, at the highest.

    RSS rather than PSS: the growth of RSS counts every page that a process has touched since, and costs microseconds
    to read, where PSS walks the page tables under the lock that the server needs for more memory. Pages that workers
    share are in the sum before and after. The kernel's own high-water mark of each process (``VmHWM``, set back at the
    start) catches peaks between samples, so `growth` errs upwards: it adds peaks that may come one after the other.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._before: dict[int, int] = {}
        self._sampled = 0
        self.growth = 0
        """Bytes."""

    def start(self) -> None:
        """Take the current memory of the processes as the baseline."""
        for process in self._server.processes():
            with suppress(OSError):
                Path(f"/proc/{process.pid}/clear_refs").write_text("5", encoding="ascii")
        self._before = _resident(self._server.processes())

    def sample(self) -> None:
        """Measure once."""
        now = _resident(self._server.processes())
        self._sampled = max(self._sampled, sum(now.values()) - sum(self._before.values()))

    def stop(self) -> None:
        """Compute `growth`."""
        self.sample()
        peaks = _peaks(self._server.processes())
        risen = sum(max(0, peak - self._before.get(number, 0)) for number, peak in peaks.items())
        self.growth = max(self._sampled, risen)


def _resident(processes: Sequence[psutil.Process]) -> dict[int, int]:
    found = {}
    for process in processes:
        with suppress(psutil.Error):
            found[process.pid] = process.memory_info().rss
    return found


def _peaks(processes: Sequence[psutil.Process]) -> dict[int, int]:
    found = {}
    for process in processes:
        with suppress(OSError):
            lines = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines()
            found[process.pid] = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)
    return found


@dataclass
class Watched:
    """Watches a server while it is entered: its memory, and another client that sends a shot every 20 ms.

    Attributes
    ----------
    server : Server
    seconds : list of float
        What each call of the other client took.
    failed : list of str
        The responses to its calls that were not 200.
    """

    server: Server
    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        """Start, once the other client has got a few responses."""
        self._stopped = threading.Event()
        self._meter = MemoryMeter(self.server)
        self._workers = self.server.listeners()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._call, self._measure)]
        self._meter.start()
        for thread in self._threads:
            thread.start()
        wait_until(lambda: self.seconds or self.failed, f"{self.server.url} to respond")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, once the other client has had its share of responses."""
        if error is None:
            wait_until(lambda: len(self.seconds) >= _ENOUGH_CALLS or self.failed, "the other client's responses")
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        self._meter.stop()

    @property
    def growth(self) -> int:
        """Bytes by which the server's processes grew, at the highest; see `MemoryMeter`."""
        return self._meter.growth

    @property
    def p99(self) -> float:
        """Seconds within which 99% of the other client's calls got a response; shown, not asserted."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]

    def assert_bounded(self, *, growth: int, p99: float = 1.0) -> None:
        """Memory within `growth` bytes, the other client served within `p99` seconds, recovery, no worker lost."""
        shown = (
            f"{self.server.name}: grew by {self.growth / MEGABYTE:.0f} MB, p99 {self.p99:.3f} s of {len(self.seconds)}"
        )
        print(shown)  # noqa: T201 pytest shows it where a test fails, or with -s
        assert not self.failed, f"{shown}; failed: {self.failed[:3]}"
        assert self.growth <= growth, f"{shown}; expected at most {growth / MEGABYTE:.0f} MB"
        assert self.p99 < p99, f"{shown}; expected less than {p99} s"
        self.server.wait_until_recovered()
        assert self.server.listeners() == self._workers, f"{shown}; a worker was lost"

    def _call(self) -> None:
        body = json.dumps(records(shot()))
        connection = http.client.HTTPConnection(*self.server.place, timeout=_TIMEOUT_SECONDS)
        while not self._stopped.wait(_PAUSE_SECONDS):
            started = time.perf_counter()
            try:
                try:
                    connection.request("POST", "/invocations", body, {"Content-Type": JSON})
                    response = connection.getresponse()
                except (BrokenPipeError, ConnectionResetError, http.client.RemoteDisconnected):
                    # A server may close a connection between two requests: a client opens another one, once.
                    connection.close()
                    connection.request("POST", "/invocations", body, {"Content-Type": JSON})
                    response = connection.getresponse()
                text = response.read()
                if response.status != requests.codes.ok:
                    self.failed.append(f"{response.status} {text[:200]!r}")
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))
                connection.close()
            self.seconds.append(time.perf_counter() - started)
        connection.close()

    def _measure(self) -> None:
        while not self._stopped.wait(_SAMPLE_SECONDS):
            self._meter.sample()
