"""The model server while what lies behind it is away: the tracking server, or the PostgreSQL of everything.

``python -m pytest tests/end_to_end/test_outage.py --outage 300 -s`` is away for five minutes, and prints figures.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pandas as pd
import psutil
import pytest
import requests

from data.paths import ROOT
from serving.client.load_probe import LoadProbe
from tests.end_to_end.test_deployment import Deployment, database
from tests.project import ProductionServer, completed, free_port, is_running, ok, publish, shot, wait_until
from tests.serving.inference_log.test_inference_log import POSTGRES

CLIENTS = 4
SERVICES = ("database", "tracking", "model", "monitor")


def responds_ok(url: str) -> bool:
    """Whether a GET gets a 2xx response."""
    try:
        return requests.get(url, timeout=2).ok
    except requests.RequestException:
        return False


class Tracking:
    """The tracking server, which can be stopped and started."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment, self._stack = deployment, ExitStack()

    def start(self) -> None:
        """Start it and wait until it responds."""
        self._stack.enter_context(self._deployment.started("tracking"))
        wait_until(lambda: responds_ok(f"{self._deployment.tracking}/health"), "the tracking server to respond")

    def stop(self) -> None:
        """Stop it."""
        self._stack.close()


class Database:
    """PostgreSQL, which can be stopped and started."""

    def __init__(self, process: "subprocess.Popen[bytes]", deployment: Deployment) -> None:
        self._process, self._ready = process, str(POSTGRES[-1].parent / "pg_isready")
        self._command = psutil.Process(process.pid).cmdline()
        self._port = str(deployment.ports["database"])

    def start(self) -> None:
        """Start it and wait until it responds."""
        user = "postgres" if os.getuid() == 0 else None
        self._process = subprocess.Popen(self._command, user=user, stderr=subprocess.DEVNULL, cwd="/")
        command = [self._ready, "-q", "-h", "127.0.0.1", "-p", self._port]
        wait_until(lambda: subprocess.run(command, check=False).returncode == 0, "PostgreSQL to respond")

    def stop(self) -> None:
        """Stop it as its fast shutdown does."""
        self._process.send_signal(signal.SIGINT)
        completed(self._process)


@contextmanager
def model_server(deployment: Deployment) -> Iterator[ProductionServer]:
    """The model's service."""
    with deployment.started("model") as process:
        wait_until(lambda: "ready after" in deployment.output("model") or process.poll() is not None, "the model")
        assert process.poll() is None, deployment.output("model")
        yield ProductionServer(deployment.model, process, deployment.folder / "model.log")


def with_secrets(folder: Path) -> Deployment:
    """The services of the compose file in a folder, with their secrets."""
    made = [str(ROOT / "deploy" / "make-secrets.sh"), str(folder / "secrets")]
    ok(subprocess.run(made, capture_output=True, text=True, check=False))
    return Deployment(folder, {name: free_port() for name in SERVICES}, {})


def seconds_until(condition: Callable[[], bool], what: str) -> float:
    """How long a condition took to come true."""
    started = time.monotonic()
    wait_until(condition, what)
    return time.monotonic() - started


@pytest.mark.slow
@pytest.mark.skipif(not POSTGRES, reason="PostgreSQL is not installed; .ci/run installs Debian's")
@pytest.mark.parametrize("away", ["tracking", "database"])
def test_an_outage_costs_no_request_and_a_promotion_after_it_reaches_the_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config, shots: pd.DataFrame, away: str
) -> None:
    deployment = with_secrets(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "kobe_shot")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", deployment.secret("kobe_shot_password"))
    with ExitStack() as stack:
        postgres = Database(stack.enter_context(database(deployment)), deployment)
        stack.callback(postgres.stop)
        tracking = Tracking(deployment)
        stack.callback(tracking.stop)
        tracking.start()
        behind = tracking if away == "tracking" else postgres
        ok(deployment.run("accounts", "--secrets", str(tmp_path / "secrets")))
        checkout = deployment.place("model")
        publish(checkout, shots, tracking=deployment.tracking)
        figures: dict[str, object] = {}
        with model_server(deployment) as server:
            features = {name: float(str(value)) for name, value in shot().items()}
            with ExitStack() as calling:
                probes = [calling.enter_context(LoadProbe(server.url, features)) for _ in range(CLIENTS)]
                started = time.monotonic()
                behind.stop()
                wait_until(lambda: "registry does not respond" in deployment.output("model"), "the server to log it")
                figures["logged after (s)"] = time.monotonic() - started
                failed_before = sum(probe.failed for probe in probes)
                killed = server.workers()[0]
                kept = server.workers()[1].pid
                killed.kill()
                figures["worker replaced after (s)"] = seconds_until(lambda: replaced(server, killed.pid), "another")
                assert kept in [worker.pid for worker in server.workers()]
                figures["requests in flight at the killed worker"] = (
                    sum(probe.failed for probe in probes) - failed_before
                )
                while time.monotonic() - started < pytestconfig.getoption("--outage"):
                    time.sleep(0.5)
                figures["away for (s)"] = time.monotonic() - started
                behind.start()
                back = "registry responds again"
                figures["logged recovery after (s)"] = seconds_until(
                    lambda: back in deployment.output("model"), "the log line"
                )
                publish(checkout, shots, strength=0.5, tracking=deployment.tracking)
                after = seconds_until(lambda: "Serving version 2" in deployment.output("model"), "the promotion")
                figures["promotion taken up after (s)"] = after
            figures["requests succeeded"] = sum(probe.succeeded for probe in probes)
            figures["requests failed"] = sum(probe.failed for probe in probes)
            assert deployment.output("model").count("registry does not respond") == 1
            behind.stop()
            wait_until(
                lambda: deployment.output("model").count("registry does not respond") == 2, "the server to log it"
            )
            server.process.terminate()
            figures["SIGTERM ends it after (s)"] = seconds_until(lambda: server.process.poll() is not None, "the end")
            assert completed(server.process).returncode == 0
            behind.start()
        print(away, {name: round(value, 2) if isinstance(value, float) else value for name, value in figures.items()})  # noqa: T201
        assert figures["requests failed"] == figures["requests in flight at the killed worker"]


def replaced(server: ProductionServer, killed: int) -> bool:
    """Whether every worker responds, and the killed one is replaced."""
    workers = server.workers()
    return not is_running(killed) and len(workers) == 2 and all(responds_ok(f"{server.url}/ping") for _ in range(8))
