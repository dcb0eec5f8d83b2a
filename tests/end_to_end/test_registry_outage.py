"""The production server during an outage of its registry: no request waits or fails, and it logs the outage once."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import mlflow
import pandas as pd
import psutil
import pytest
import requests

from deploy import first_model
from serving.client.load_probe import LoadProbe
from serving.registry import StoreError
from steps import reverter
from steps.reverter import ReverterConfig
from steps.shared.command import at_once
from tests import fork_server
from tests.networks import FaultyProxy, black_hole
from tests.project import (
    Checkout,
    ProductionServer,
    completed,
    end_group,
    environment,
    free_port,
    is_running,
    publish,
    records,
    run_production_server,
    shot,
    wait_until,
)


@pytest.fixture(scope="module")
def champion_checkout(tmp_path_factory: pytest.TempPathFactory, published: Checkout) -> Checkout:
    """A checkout with a small champion."""
    return published.copy(tmp_path_factory.mktemp("away") / "checkout")


@pytest.fixture(scope="module")
def tracking(champion_checkout: Checkout) -> Iterator[int]:
    """The port of a tracking server of the checkout's store."""
    port = free_port()
    command = ["mlflow", "server", "--port", str(port), "--workers", "1", "--backend-store-uri"]
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = fork_server.start(
        [*command, f"sqlite:///{champion_checkout.folder / 'mlflow.db'}"],
        cwd=champion_checkout.folder,
        env=environment() | settings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: _healthy(f"http://127.0.0.1:{port}"), "the tracking server to respond")
        yield port
    finally:
        end_group(server)


@pytest.fixture
def line(tracking: int) -> Iterator[FaultyProxy]:
    """A line to a tracking server, which can be cut."""
    with closing(FaultyProxy(tracking)) as line:
        yield line


def _healthy(url: str) -> bool:
    try:
        return requests.get(f"{url}/health", timeout=2).ok
    except requests.RequestException:
        return False


def ready(server: ProductionServer, count: int) -> bool:
    """Whether so many workers respond."""
    return len(server.workers()) == count and _healthy(server.url)


def _status(server: ProductionServer) -> int:
    try:
        return requests.get(f"{server.url}/health", timeout=1).status_code
    except requests.RequestException:
        return 0


@pytest.mark.parametrize("kind", [pytest.param("silent", marks=pytest.mark.slow), "refused"])
def test_a_registry_that_is_away_costs_no_worker_and_no_request_and_is_followed_when_it_is_back(
    champion_checkout: Checkout, shots: pd.DataFrame, line: FaultyProxy, kind: str
) -> None:
    with run_production_server(champion_checkout, tracking=line.url) as server:
        wait_until(lambda: "Serving" in server.output.read_text(), "every worker to be ready")
        with LoadProbe(server.url, {name: float(str(value)) for name, value in shot().items()}) as probe:
            line.silence() if kind == "silent" else line.refuse()
            wait_until(lambda: "registry does not respond" in server.output.read_text(), "the server to log it")
            first = server.workers()[0]
            # SIGTERM ends a worker after the requests that it has started.
            first.send_signal(signal.SIGTERM)
            wait_until(lambda: not is_running(first.pid), "the worker to end")
            wait_until(lambda: ready(server, 2), "another to take its place")
            succeeded = probe.succeeded
            wait_until(lambda: probe.succeeded > succeeded + 20, "more responses")
            assert server.output.read_text().count("registry does not respond") == 1
            line.open()
            wait_until(lambda: "responds again" in server.output.read_text(), "the server to log it")
            publish(champion_checkout, shots, strength=0.5)
            before = requests.get(f"{server.url}/model", timeout=5).json()["version"]
            wait_until(lambda: _version(server) != before, "the promotion to reach the workers")
        assert probe.failed == 0
        line.silence()
        server.process.terminate()
        assert completed(server.process).returncode == 0


def _version(server: ProductionServer) -> str:
    response = requests.post(f"{server.url}/invocations", json=records(shot()), timeout=10)
    return response.headers["X-Model-Version"]


def test_a_start_without_a_registry_ends_with_a_message(champion_checkout: Checkout) -> None:
    with black_hole() as place:
        command = ["python", "-m", "serving.server", "--port", str(free_port())]
        ended = champion_checkout.command(*command, MLFLOW_TRACKING_URI=f"http://u:secret@{place}")
    assert ended.returncode == 1
    assert f"http://u:***@{place}" in ended.stderr.replace("\n", "")
    assert "Traceback" not in ended.stderr
    assert "secret" not in ended.stdout + ended.stderr


@pytest.mark.parametrize("module", ["steps.preparacao", "monitor.retraining.history"])
def test_a_command_without_its_tracking_server_ends_with_a_message(champion_checkout: Checkout, module: str) -> None:
    with black_hole() as place:
        ended = champion_checkout.command("python", "-m", module, MLFLOW_TRACKING_URI=f"http://{place}")
    assert ended.returncode == 1
    assert "no response within" in ended.stderr.replace("\n", " ")
    assert "Traceback" not in ended.stderr


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Until the test ends, the tracking store of this process is a server that does not respond."""
    before = mlflow.get_tracking_uri()
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    with black_hole() as place:
        mlflow.set_tracking_uri(f"http://{place}")
        yield
    mlflow.set_tracking_uri(before)


@pytest.mark.usefixtures("away")
def test_a_rollback_without_its_tracking_server_ends_with_a_message() -> None:
    with pytest.raises(StoreError, match="no response within"):
        at_once(reverter.run)(ReverterConfig())


@pytest.mark.usefixtures("away")
def test_the_start_of_a_deployment_without_its_tracking_server_ends_with_a_message(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        first_model.main()
    assert ended.value.code == 1
    assert "no response within" in capsys.readouterr().err.replace("\n", " ")


def test_the_start_minds_sigterm_while_it_waits_for_a_registry(champion_checkout: Checkout, tmp_path: Path) -> None:
    with black_hole() as place, (tmp_path / "log").open("wb") as log:
        process = fork_server.start(
            [sys.executable, "-m", "serving.server", "--port", "0"],
            cwd=champion_checkout.folder,
            env=environment() | {"MLFLOW_TRACKING_URI": f"http://{place}", "MLFLOW_HTTP_REQUEST_TIMEOUT": "600"},
            stdout=log,
            stderr=log,
        )
        wait_until(lambda: _listens(process.pid), "the server to listen")
        process.terminate()
        assert completed(process).returncode in {0, 143}
    assert "Traceback" not in (tmp_path / "log").read_text()


def _listens(number: int) -> bool:
    return any(found.status == psutil.CONN_LISTEN for found in psutil.Process(number).net_connections("tcp"))


def test_a_worker_is_replaced_though_the_run_of_its_version_is_gone(
    champion_checkout: Checkout, tmp_path: Path
) -> None:
    with run_production_server(champion_checkout, workers=1) as server:
        models = champion_checkout.folder / "mlruns" / "published"
        hidden = models.rename(tmp_path / "hidden")
        try:
            (worker,) = server.workers()
            worker.kill()
            wait_until(lambda: not is_running(worker.pid), "the worker to die")
            assert requests.post(f"{server.url}/invocations", json=records(shot()), timeout=30).ok
        finally:
            hidden.rename(models)


def test_health_is_that_of_the_whole_server_and_a_version_whose_files_are_gone_is_fetched_again(
    champion_checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    with run_production_server(champion_checkout, workers=2) as server:
        wait_until(lambda: "Serving" in server.output.read_text(), "every worker to be ready")
        models = champion_checkout.folder / "mlruns" / "published"
        for damage in ("gone", "empty"):
            assert _status(server) == requests.codes.ok
            hidden = models.rename(tmp_path / "hidden")
            try:
                for copy in temporary.glob("kobe_shot_*/server-*/models/*"):
                    shutil.rmtree(copy)
                    if damage == "empty":
                        copy.mkdir()
                server.workers()[0].kill()
                wait_until(lambda: _status(server) == requests.codes.unavailable, "the other worker to report it")
            finally:
                hidden.rename(models)
            wait_until(lambda: all(_status(server) == requests.codes.ok for _ in range(8)), "a worker in its place")
    assert not list(temporary.glob("kobe_shot_*/server-*"))
