"""The production server as an operator meets it: started, killed, followed, stopped."""

import itertools
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest
import requests
from sklearn.pipeline import Pipeline

from data.cli.config import parse_args
from data.schema import FEATURES
from serving.model import manifest
from serving.server import registry_watch
from serving.server.supervisor import ServerConfig
from tests.project import (
    Checkout,
    ProductionServer,
    completed,
    copy_project,
    free_port,
    is_running,
    ok,
    publish,
    records,
    responds,
    run_production_server,
    shot,
    wait_until,
)


@pytest.fixture(scope="module")
def champion_checkout(tmp_path_factory: pytest.TempPathFactory, published: Checkout) -> Checkout:
    """A checkout with a small champion, for servers that are started one after the other."""
    return published.copy(tmp_path_factory.mktemp("champion") / "checkout")


@pytest.fixture(scope="module")
def following(
    tmp_path_factory: pytest.TempPathFactory, published: Checkout
) -> Iterator[tuple[Checkout, ProductionServer]]:
    """A checkout with a small champion, and its running server, which follows what the tests promote."""
    checkout = published.copy(tmp_path_factory.mktemp("following") / "checkout")
    with run_production_server(checkout) as server:
        yield checkout, server


def version_after(checkout: Checkout) -> str:
    """The number that the next version gets."""
    return str(max(int(version.version) for version in checkout.client().search_model_versions()) + 1)


def send_shot(url: str, *, path: str = "/invocations", **options: Any) -> requests.Response:  # noqa: ANN401
    return requests.post(f"{url}{path}", json=records(shot()), timeout=30, **options)


def test_what_is_served_is_described(production_server: ProductionServer) -> None:
    described = requests.get(f"{production_server.url}/model", timeout=5).json()
    assert (described["name"], described["version"], described["threshold"]) == ("kobe_shot", "1", 0.5)
    assert [feature["name"] for feature in described["features"]] == list(FEATURES)
    assert described["features"][3]["allowed"] == "an integer from 1 to 10"
    assert described["since"] >= described["promoted"]
    assert "double" in described["signature"]["inputs"]
    assert described["compiled"] is True
    assert "largest difference" in described["compiled_details"]


def test_health_and_version_are_those_of_mlflow(production_server: ProductionServer) -> None:
    for path, text in (("/ping", "\n"), ("/health", "\n"), ("/version", mlflow.__version__)):
        response = requests.get(f"{production_server.url}{path}", timeout=5)
        assert (response.status_code, response.text) == (200, text)


def test_a_response_names_its_request_and_the_version(production_server: ProductionServer) -> None:
    given = send_shot(production_server.url, headers={"X-Request-ID": "game-7.shot-3"}).headers
    assert (given["X-Request-ID"], given["X-Model-Version"]) == ("game-7.shot-3", "1")
    made = {
        send_shot(production_server.url, headers={"X-Request-ID": wrong}).headers["X-Request-ID"]
        for wrong in ("", "a b", "x" * 999)
    }
    assert len(made) == 3
    assert all(len(name) == 32 for name in made)


@pytest.mark.parametrize(
    ("method", "path", "status", "word"),
    [
        ("GET", "/invocations", 405, "POST"),
        ("DELETE", "/invocations", 405, "POST"),
        ("POST", "/ping", 405, "GET"),
        ("GET", "/", 404, "/invocations"),
        ("GET", "/../../etc/passwd", 404, "/invocations"),
    ],
)
def test_other_requests_get_a_list_of_paths(
    production_server: ProductionServer, method: str, path: str, status: int, word: str
) -> None:
    response = requests.request(method, f"{production_server.url}{path}", timeout=5)
    assert response.status_code == status
    assert word in response.json()["message"]


def test_a_body_that_is_too_long_is_refused_before_it_is_sent(production_server: ProductionServer) -> None:
    host, _, port = production_server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(
            b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nContent-Length: 99999999999\r\n\r\n"
        )
        assert b"413" in connection.recv(100)


def test_a_client_that_goes_away_harms_no_other(production_server: ProductionServer) -> None:
    host, _, port = production_server.url.removeprefix("http://").partition(":")
    for _ in range(20):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(
                b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nContent-Length: 999\r\n\r\nlat"
            )
    assert send_shot(production_server.url).status_code == 200


def test_figures_for_prometheus_are_summed_over_the_workers(production_server: ProductionServer) -> None:
    def scored() -> float:
        lines = requests.get(f"{production_server.url}/metrics", timeout=5).text.splitlines()
        values = [line.split()[-1] for line in lines if line.startswith('kobe_rows_scored_total{model_version="1"}')]
        return float(values[0]) if values else 0.0

    before = scored()
    for _ in range(10):
        assert send_shot(production_server.url).ok
    wait_until(lambda: scored() >= before + 10, "ten rows to be counted")


def test_without_a_champion_nothing_is_served(tmp_path: Path) -> None:
    result = copy_project(tmp_path).command("python", "-m", "serving.server", "--port", str(free_port()))
    assert result.returncode == 1
    assert "has no champion yet" in result.stderr
    assert "mlflow run . -e treinamento" in result.stderr


def test_a_port_that_is_taken_is_reported_with_another(champion_checkout: Checkout) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = champion_checkout.command("python", "-m", "serving.server", "--port", str(port))
    assert result.returncode == 1
    assert f"make serve PORT={port + 1}" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--workers", "0"], "greater than or equal to 1"),
        (["--port", "99999"], "less than or equal to 65535"),
        (["--color", "red"], "color"),
    ],
)
def test_a_wrong_option_is_refused(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_args(ServerConfig, arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err.replace("\n", " ")


def test_a_url_that_cannot_be_a_log_is_refused_before_serving(served_checkout: tuple[Checkout, Pipeline]) -> None:
    checkout, _ = served_checkout
    wrong = checkout.command("python", "-m", "serving.server", "--port", "0", KOBE_INFERENCE_LOG="nonsense")
    assert wrong.returncode == 1
    assert "expected a SQLAlchemy URL" in wrong.stderr


def test_a_log_that_cannot_be_kept_is_reported_before_serving(served_checkout: tuple[Checkout, Pipeline]) -> None:
    checkout, _ = served_checkout
    log = "sqlite:////dev/null/log.db"
    wrong = checkout.command("python", "-m", "serving.server", "--port", "0", KOBE_INFERENCE_LOG=log)
    assert wrong.returncode == 1
    assert "the inference log cannot be kept" in wrong.stderr


def test_a_crashed_worker_is_replaced_while_clients_wait(champion_checkout: Checkout) -> None:
    with run_production_server(champion_checkout, workers=1) as server:
        (worker,) = server.workers()
        worker.kill()
        wait_until(lambda: not is_running(worker.pid), "the worker to die")
        assert send_shot(server.url).status_code == 200
        assert [one.pid for one in server.workers()] != [worker.pid]
        assert "it is replaced" in server.output.read_text()


def test_a_machine_without_room_for_a_process_costs_no_other_worker(
    champion_checkout: Checkout, tmp_path: Path
) -> None:
    checkout, full = Checkout(shutil.copytree(champion_checkout.folder, tmp_path / "checkout")), tmp_path / "full"
    with (checkout.folder / "serving" / "__init__.py").open("a") as code:
        code.write(
            f"""
import os, pathlib
fork = os.fork
def fork_if_there_is_room():
    if pathlib.Path({str(full)!r}).exists():
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return fork()
os.fork = fork_if_there_is_room
"""
        )
    with run_production_server(checkout) as server:
        wait_until(lambda: "Serving" in server.output.read_text(), "every worker to be ready")
        workers = server.workers()
        full.touch()
        for child in psutil.Process(server.process.pid).children():
            if child != workers[0]:
                child.kill()
        wait_until(lambda: "A worker cannot be started" in server.output.read_text(), "the server to report it")
        wait_until(lambda: responds(server.url), "the other worker to respond")
        full.unlink()
        wait_until(lambda: len(server.workers()) == len(workers), "a worker in every place")
        wait_until(lambda: registry_watch.NAME in names_of_children(server), "the registry to be read")
        assert send_shot(server.url).status_code == 200
        assert server.stop() == 0


def names_of_children(server: ProductionServer) -> list[str]:
    return [child.name() for child in psutil.Process(server.process.pid).children()]


def test_workers_do_not_outlive_a_killed_supervisor(champion_checkout: Checkout) -> None:
    with run_production_server(champion_checkout) as server:
        workers = [worker.pid for worker in server.workers()]
        server.process.kill()
        server.process.wait()
        wait_until(lambda: not any(map(is_running, workers)), "the workers to end")
        assert not responds(server.url)


def test_it_stops_cleanly_and_completes_what_it_has_started(champion_checkout: Checkout) -> None:
    body = json.dumps(records(shot())).encode()
    with run_production_server(champion_checkout) as server:
        wait_until(lambda: "Serving" in server.output.read_text(), "every worker to be ready")
        workers = [worker.pid for worker in server.workers()]
        host, _, port = server.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            head = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
            connection.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\n" + head.encode())
            assert b"100 Continue" in connection.recv(1_000)
            server.process.send_signal(signal.SIGINT)
            wait_until(lambda: not responds(server.url), "the server to stop taking requests")
            connection.sendall(body)
            assert b"200 OK" in connection.recv(1_000)
        assert completed(server.process).returncode == 0
        assert not any(map(is_running, workers))
        assert "Stopped." in server.output.read_text()


@contextmanager
def senders(url: str, count: int) -> Iterator[list[list[tuple[int, str, float]]]]:
    """Clients that send one shot after the other; status, version and probability of each response, by client."""
    found: list[list[tuple[int, str, float]]] = [[] for _ in range(count)]
    done = threading.Event()

    def send(mine: list[tuple[int, str, float]]) -> None:
        with requests.Session() as session:
            while not done.is_set():
                try:
                    response = session.post(f"{url}/invocations", json=records(shot()), timeout=30)
                except requests.RequestException as error:
                    mine.append((0, type(error).__name__, 0.0))
                    continue
                version = response.headers.get("X-Model-Version", "")
                mine.append((response.status_code, version, response.json()["predictions"][0]["probability"]))

    threads = [threading.Thread(target=send, args=(mine,)) for mine in found]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_a_promotion_reaches_eight_clients_without_a_lost_request(
    following: tuple[Checkout, ProductionServer], shots: pd.DataFrame
) -> None:
    checkout, server = following
    served, new = send_shot(server.url).headers["X-Model-Version"], version_after(checkout)
    with senders(server.url, 8) as found:
        wait_until(lambda: all(len(mine) > 20 for mine in found), "responses of the first version")
        publish(checkout, shots, strength=1e-4)
        wait_until(lambda: all(mine[-1][1] == new for mine in found), "responses of the second version")
        mark = [len(mine) for mine in found]
        wait_until(
            lambda: all(len(mine) > first + 20 for mine, first in zip(found, mark, strict=True)), "more responses"
        )
    for mine in found:
        assert {status for status, _, _ in mine} == {200}
        assert [version for version, _ in itertools.groupby(version for _, version, _ in mine)] == [served, new]
        # Each version has one prediction for the shot, and it is not the other's.
        assert len({(version, probability) for _, version, probability in mine}) == 2
        assert len({probability for _, _, probability in mine}) == 2
    print(f"{sum(map(len, found))} requests of 8 clients, none failed")  # noqa: T201


def test_a_version_that_cannot_be_loaded_changes_nothing(
    following: tuple[Checkout, ProductionServer], shots: pd.DataFrame, tmp_path: Path
) -> None:
    checkout, server = following
    served, broken = send_shot(server.url).headers["X-Model-Version"], version_after(checkout)
    publish_broken(checkout, shots, tmp_path / "hidden")
    refusal = f"version {broken} of kobe_shot"
    reason = "not those that were registered (missing: artifacts/pipeline.skops)"

    def is_refused() -> bool:
        _, named, words = " ".join(server.output.read_text().split()).partition(refusal)
        return bool(named) and reason in words

    wait_until(is_refused, "the server to refuse the version")
    assert send_shot(server.url).headers["X-Model-Version"] == served
    next_one = version_after(checkout)
    publish(checkout, shots, strength=0.5)
    wait_until(lambda: send_shot(server.url).headers["X-Model-Version"] == next_one, "the version after it")


def test_a_version_that_one_worker_refuses_is_unloaded_in_the_others(
    following: tuple[Checkout, ProductionServer], shots: pd.DataFrame, tmp_path: Path
) -> None:
    checkout, server = following
    served, refused = send_shot(server.url).headers["X-Model-Version"], version_after(checkout)
    loaded, unloaded = (tmp_path / name for name in ("loaded", "unloaded"))
    before = set((checkout.folder / "mlruns").rglob("scoring_model.py"))

    def let_one_worker_load_it() -> None:
        (new,) = set((checkout.folder / "mlruns").rglob("scoring_model.py")) - before
        code = f"""
class Loaded:
    def __del__(self):
        Path({str(unloaded)!r}).touch()
def marked():
    model = ScoringModel()
    model.mark = Loaded()
    # As it may happen while this worker still loads what the other has refused; it leaves a cycle of references.
    (Path(__file__).parent / "input_example.json").unlink()
    return model
Path({str(loaded)!r}).touch(exist_ok=False)
set_model(marked())
"""
        new.write_text(new.read_text() + code)
        for name, value in manifest.tags_of(manifest.manifest_of(new.parent)).items():
            checkout.client().set_model_version_tag("kobe_shot", refused, name, value)

    publish(checkout, shots, strength=0.5, meanwhile=let_one_worker_load_it)
    refusal = f"Version {refused} of kobe_shot cannot be served"
    wait_until(lambda: refusal in server.output.read_text(), "the refusal")
    assert loaded.exists()
    assert send_shot(server.url).headers["X-Model-Version"] == served
    next_one = version_after(checkout)
    publish(checkout, shots, strength=0.4)
    wait_until(lambda: send_shot(server.url).headers["X-Model-Version"] == next_one, "the version after it")
    wait_until(lambda: send_shot(server.url).ok and unloaded.exists(), "the refused version to be unloaded")


def publish_broken(checkout: Checkout, shots: pd.DataFrame, hidden: Path) -> None:
    """Promote a version whose pipeline is gone before the server can see it."""
    before = set((checkout.folder / "mlruns").rglob("pipeline.skops"))

    def hide() -> None:
        (new,) = set((checkout.folder / "mlruns").rglob("pipeline.skops")) - before
        shutil.move(new, hidden)

    publish(checkout, shots, meanwhile=hide)


def test_a_version_that_did_not_pass_the_gate_is_not_served(
    following: tuple[Checkout, ProductionServer], shots: pd.DataFrame
) -> None:
    checkout, server = following
    new = version_after(checkout)
    publish(checkout, shots, strength=0.5)
    wait_until(lambda: send_shot(server.url).headers["X-Model-Version"] == new, "the second version")
    client = checkout.client()
    client.set_model_version_tag("kobe_shot", "1", "gate", "rejected")
    client.set_registered_model_alias("kobe_shot", "champion", "1")
    wait_until(lambda: "has not passed the gate" in server.output.read_text(), "the server to report it")
    assert send_shot(server.url).headers["X-Model-Version"] == new


@pytest.mark.slow
def test_workers_killed_under_a_client_cost_no_row(
    champion_checkout: Checkout, shots: pd.DataFrame, pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    rows, kills = pytestconfig.getoption("--rows"), pytestconfig.getoption("--kills")
    table = shots.rename(columns={"lon": "lng"})[list(FEATURES)].astype(float)
    table = table.sample(rows, replace=True, random_state=0).reset_index(drop=True).assign(shot_id=np.arange(rows))
    table.to_parquet(tmp_path / "table.parquet", index=False)
    seed = random.SystemRandom().randrange(2**32)
    delays = random.Random(seed)  # noqa: S311 nothing secret
    with run_production_server(champion_checkout) as server:
        command = ["python", "-m", "serving.client", str(tmp_path / "table.parquet"), "--endpoint", server.url]
        chunk = ["--batch_size", "1000"]
        started = time.monotonic()
        ok(champion_checkout.command(*command, *chunk, "--out", str(tmp_path / "undisturbed.parquet")))
        seconds = time.monotonic() - started
        client = champion_checkout.start(*command, *chunk, "--out", str(tmp_path / "disturbed.parquet"))
        killed = 0
        while killed < kills:
            with suppress(subprocess.TimeoutExpired):
                client.wait(delays.uniform(0, max(0.05, 0.7 * seconds / kills)))
                # The client was faster than the kills; it scores another time.
                assert client.returncode == 0
                client = champion_checkout.start(*command, *chunk, "--out", str(tmp_path / "disturbed.parquet"))
            wait_until(server.workers, "a worker to kill")
            for worker in server.workers()[: delays.choice([1, 2])]:
                os.kill(worker.pid, signal.SIGKILL)
            killed += 1
        assert completed(client).returncode == 0, f"seed {seed}"
        assert server.output.read_text().count("it is replaced") >= kills
    undisturbed, disturbed = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("undisturbed", "disturbed"))
    pd.testing.assert_frame_equal(
        disturbed.sort_values("shot_id", ignore_index=True),
        undisturbed.sort_values("shot_id", ignore_index=True),
        check_exact=True,
    )
    print(f"{killed} kills of workers under {rows} rows, seed {seed}")  # noqa: T201


def test_every_scored_row_is_in_the_log_after_a_clean_stop(
    champion_checkout: Checkout, tmp_path: Path, shots: pd.DataFrame
) -> None:
    table = shots.rename(columns={"lon": "lng"})[[*FEATURES, "shot_id"]]
    table.to_parquet(tmp_path / "table.parquet", index=False)
    with run_production_server(champion_checkout, inference_log=f"sqlite:///{tmp_path / 'inference_log.db'}") as server:
        assert send_shot(server.url, headers={"X-Request-ID": "mine"}).ok
        assert requests.post(f"{server.url}/invocations", json=records(shot(lat=0)), timeout=5).status_code == 400
        command = ["python", "-m", "serving.client", str(tmp_path / "table.parquet"), "--endpoint", server.url]
        ok(champion_checkout.command(*command, "--batch_size", "500", "--out", str(tmp_path / "out.parquet")))
        assert server.stop() == 0
    with closing(sqlite3.connect(tmp_path / "inference_log.db")) as connection:
        logged = pd.read_sql("select * from inference", connection)
    assert len(logged) == len(table) + 1
    (mine,) = logged[logged["request_id"] == "mine"].to_dict("records")
    assert {name: mine[name] for name in FEATURES} == shot()
    assert mine["model_version"] == "1"
    out = pd.read_parquet(tmp_path / "out.parquet").set_index("shot_id")
    by_shot = logged.dropna(subset="shot_id").set_index("shot_id").loc[out.index]
    np.testing.assert_array_equal(by_shot["probability"], out["probability"])
    np.testing.assert_array_equal(by_shot["prediction"], out["prediction"])
    assert not list((tmp_path / "inference_log.db.spool").iterdir())


def test_a_server_that_logs_nothing_starts_no_process_for_it(champion_checkout: Checkout) -> None:
    before = {path: path.stat().st_mtime_ns for path in champion_checkout.folder.rglob("inference_log.db*")}
    with run_production_server(champion_checkout, inference_log="off") as server:
        assert send_shot(server.url).ok
        assert [child for worker in server.workers() for child in worker.children()] == []
        assert server.stop() == 0
    assert {path: path.stat().st_mtime_ns for path in champion_checkout.folder.rglob("inference_log.db*")} == before
