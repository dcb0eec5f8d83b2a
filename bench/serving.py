"""Latency and throughput of both servers, compared with alternatives: ``make bench-serving``.

Uses the champion's pipeline and the prod rows of this folder (run ``make main`` first). The servers run one after the
other. One-row requests use one persistent connection; 8 clients use 8. ``requests.post`` sends tables as JSON to the
alternatives; ``python -m serving.client`` sends them to this project's servers.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import requests
import skops.io
from rich.table import Table

from bench.load import Connection, send_concurrently, send_sequentially
from data import datasets
from data.cli.console import console, info
from data.paths import ROOT
from serving import registry
from serving.model import model_files
from serving.model.packaging import feature_constraints, signature
from serving.model.requirements import model_requirements
from serving.server.subprocesses import free_port

_CLIENTS = 8
_TABLE_ROWS = 1_000_000
_ROWS_PER_POST = 10_000
_READY_SECONDS = 120
_PAIRS = 30
_TABLE_PAIRS = 5
_BENCH_ENVIRONMENT = ROOT / ".venv-bench"
_JSON = "application/json"
_SAMPLE_SECONDS = 0.02
_MEBIBYTE = 2**20


@dataclass(frozen=True)
class Server:
    """A server to measure.

    Attributes
    ----------
    name : str
    command : list of str
        ``{port}`` is replaced by the port.
    path : str
        Path of the endpoint.
    key : str
        Key of the records in the JSON body; empty for a list.
    environment : mapping of str to str
    by_client : bool
        Whether this project's client sends the large table.
    root : pathlib.Path
        Checkout whose code runs.
    """

    name: str
    command: list[str]
    path: str = "/invocations"
    key: str = "dataframe_records"
    environment: Mapping[str, str] = field(default_factory=dict)
    by_client: bool = True
    root: Path = ROOT

    def body(self, rows: pd.DataFrame) -> bytes:
        """Build the JSON body for rows, as users of the server do."""
        # NaN is no JSON.
        rows = rows.astype(object).where(rows.notna(), None)
        records = rows.to_dict("records")
        if self.key == "dataframe_records" and len(rows) > 1:
            return json.dumps({"dataframe_split": rows.to_dict("split", index=False)}).encode()
        return json.dumps({self.key: records} if self.key else records).encode()


@dataclass(frozen=True)
class ServerResult:
    """Results of a server: seconds, requests per second, rows per second, mebibytes."""

    ready: float
    p50: float
    p99: float
    requests_per_second: float
    prod_seconds: float
    table_rows_per_second: float
    client_mebibytes: float


@dataclass(frozen=True)
class LogCost:
    """Ratios with the inference log to without: seconds of one row, requests per second, rows per second of a table."""

    p50: float
    requests_per_second: float
    table_rows_per_second: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2_000, help="one-row requests to each server")
    parser.add_argument("--rounds", type=int, default=3, help="how often each server is measured; the median counts")
    parser.add_argument("--pair", action="store_true", help="one row, FastAPI and production server in turns, only")
    parser.add_argument("--before", type=Path, help="compare with the servers of this other checkout, and nothing else")
    parser.add_argument("--dataset", default=datasets.current_name(), help="whose champion is served")
    options = parser.parse_args()
    with datasets.use(options.dataset):
        _measure_all(options)


def _measure_all(options: argparse.Namespace) -> None:
    if options.pair:
        _compare_one_row(options.requests)
        return
    if options.before:
        _compare_with(options.before.resolve(), options.requests)
        return
    if any(not column.is_numeric for column in datasets.current().features):
        message = "expected --pair or --before for a dataset with categories: a stock server takes only their codes."
        raise SystemExit(message)
    _build_bench_environment()
    with tempfile.TemporaryDirectory() as folder:
        servers = _servers(Path(folder))
        found: dict[str, list[ServerResult]] = {server.name: [] for server in servers}
        table = _long_table(Path(folder))
        for number in range(options.rounds):
            for server in servers:
                info(f"Round {number + 1}", server.name)
                found[server.name].append(_measure(server, table, Path(folder), options.requests))
        info("Pairs", "production server with and without inference log")
        log = _log_cost(servers[-1], table, Path(folder), options.requests)
    medians = {name: _median(results_) for name, results_ in found.items()}
    _print(medians)
    _print_goals(medians, log)
    _print_import_times()


def _servers(folder: Path) -> list[Server]:
    version = registry.number(registry.require_champion())
    model = model_files.load(f"models:/{registry.model()}/{version}").unwrap_python_model()
    pipeline, path = model.pipeline, folder / "pipeline.skops"
    skops.io.dump(pipeline, path)
    trusted = skops.io.get_untrusted_types(file=path)
    stock = folder / "stock"
    mlflow.sklearn.save_model(
        pipeline,
        stock,
        signature=signature(0.5),
        pip_requirements=model_requirements(pipeline),
        skops_trusted_types=trusted,
    )
    features = folder / "features.json"
    features.write_text(json.dumps(getattr(model, "features", None) or feature_constraints()), encoding="utf-8")
    alternatives = {"PIPELINE": str(path), "TRUSTED_TYPES": json.dumps(trusted), "FEATURES": str(features)}
    uri = f"models:/{registry.model()}/Production"
    serve = ["mlflow", "models", "serve", "--env-manager", "local", "--port", "{port}"]
    operated = [sys.executable, "-m", "serving.server", "--port", "{port}", "--workers"]
    log = {"KOBE_INFERENCE_LOG": f"sqlite:///{folder / 'inference_log.db'}"}
    fastapi = ["uvicorn", "bench.peers.fastapi_endpoint:app", "--port", "{port}", "--log-level", "warning"]
    bento = [
        str(_BENCH_ENVIRONMENT / "bin" / "bentoml"),
        "serve",
        "bench.peers.bentoml_service:Shots",
        "--port",
        "{port}",
    ]
    no_telemetry = {"BENTOML_DO_NOT_TRACK": "true", "BENTOML_HOME": str(folder / "bentoml")}
    return [
        Server("FastAPI by hand", fastapi, "/predict", "", alternatives, by_client=False),
        Server("BentoML", bento, "/predict", "shots", alternatives | no_telemetry, by_client=False),
        Server("mlflow models serve, stock flavor", [*serve, "-m", str(stock)], by_client=False),
        Server("MLflow server, 1 worker", [*serve, "-m", uri]),
        Server("MLflow server, 2 workers", [*serve, "-m", uri, "--workers", "2"]),
        Server("production server, 1 worker", [*operated, "1"], environment=log),
        Server("production server, 2 workers", [*operated, "2"], environment=log),
    ]


def _measure(server: Server, table: Path, folder: Path, count: int) -> ServerResult:
    prod = _features()
    with _running(server) as (url_, ready):
        url = f"{url_}{server.path}"
        one = server.body(prod.head(1))
        send_concurrently(url, one, _JSON, clients=_CLIENTS, times=50)
        connection = Connection(url, one, _JSON)
        sequential = send_sequentially(connection, count)
        connection.close()
        concurrent = send_concurrently(url, one, _JSON, clients=_CLIENTS, times=count // 2)
        connection = Connection(url, server.body(prod), _JSON)
        prod_seconds = send_sequentially(connection, 9).quantile(0.5)
        connection.close()
        if server.by_client:
            rows_per_second, mebibytes = _score_with_client(table, folder, url_)
        else:
            rows_per_second, mebibytes = _score_with_posts(table, url, server)
    return ServerResult(
        ready, sequential.quantile(0.5), sequential.quantile(0.99), len(concurrent.each) / concurrent.all, prod_seconds,
        rows_per_second, mebibytes,
    )  # fmt: skip


def _log_cost(server: Server, table: Path, folder: Path, count: int) -> LogCost:
    """Measure the cost of the inference log with alternating requests to two servers."""
    without = replace(server, environment={"KOBE_INFERENCE_LOG": "off"})
    one = server.body(_features().head(1))
    tables: dict[int, list[float]] = {0: [], 1: []}
    with _running(server) as (on, _), _running(without) as (off, _):
        ratios = _paired_ratios((on, off), one, count)
        for _ in range(_TABLE_PAIRS):
            for place, url_ in enumerate((on, off)):
                tables[place].append(_score_with_client(table, folder, url_)[0])
    return LogCost(*ratios, float(np.median(np.array(tables[0]) / np.array(tables[1]))))


def _paired_ratios(base_urls: tuple[str, str], body: bytes, count: int) -> tuple[float, float]:
    """Ratios of the first server to the second in seconds at p50 and requests per second: medians of pairs."""
    urls = [f"{url_}/invocations" for url_ in base_urls]
    results: dict[str, list[tuple[float, float]]] = {url: [] for url in urls}
    clients = [Connection(url, body, _JSON) for url in urls]
    for _ in range(_PAIRS):
        for connection, url in zip(clients, urls, strict=True):
            p50 = send_sequentially(connection, count // 10).quantile(0.5)
            concurrent = send_concurrently(url, body, _JSON, clients=_CLIENTS, times=count // 20)
            results[url].append((p50, len(concurrent.each) / concurrent.all))
    for connection in clients:
        connection.close()
    first, second = (np.array(results[url]) for url in urls)
    p50, rate = np.median(first / second, axis=0)
    return float(p50), float(rate)


def _compare_one_row(count: int) -> None:
    """Compare one row at the production server, with and without its log, with FastAPI by hand: all in turns."""
    rows = _features().head(1)
    with tempfile.TemporaryDirectory() as folder:
        servers = {server.name: server for server in _servers(Path(folder))}
        hand, logged = servers["FastAPI by hand"], servers["production server, 1 worker"]
        unlogged = replace(logged, environment={"KOBE_INFERENCE_LOG": "off"})
        names, shown = (hand.name, f"{logged.name}, log on", f"{logged.name}, log off"), (hand, logged, unlogged)
        with _running(hand) as (first, _), _running(logged) as (second, _), _running(unlogged) as (third, _):
            urls = (first, second, third)
            bodies = [(f"{url_}{server.path}", server.body(rows)) for server, url_ in zip(shown, urls, strict=True)]
            for url_, body in bodies:
                _median_seconds(url_, body, count // 10)
            before = np.array([_cpu_seconds(url_) for url_ in urls])
            seconds = np.array(
                [[_median_seconds(url_, body, count // 10) for url_, body in bodies] for _ in range(_PAIRS)]
            )
            cpu = (np.array([_cpu_seconds(url_) for url_ in urls]) - before) / (_PAIRS * (count // 10 + 1))
    table = Table("one row", "p50, ms", "of FastAPI by hand", "CPU, ms", "of FastAPI by hand")
    ratios, cpu_ratios = np.median(seconds / seconds[:, :1], axis=0), cpu / cpu[0]
    for place, name in enumerate(names):
        milliseconds = 1e3 * np.median(seconds[:, place])
        table.add_row(
            *(
                name,
                f"{milliseconds:.3f}",
                f"{ratios[place]:.3f}",
                f"{1e3 * cpu[place]:.3f}",
                f"{cpu_ratios[place]:.3f}",
            )
        )
    console.print(table)


def _median_seconds(url: str, body: bytes, times: int) -> float:
    """Seconds of one row at the median, on a new connection: a server closes one that waits for its turn too long."""
    client = Connection(url, body, _JSON)
    client.request()
    found = send_sequentially(client, times).quantile(0.5)
    client.close()
    return found


def _cpu_seconds(url_: str) -> float:
    """CPU time of a server and of what it has started; it does not depend on what else the machine does."""
    port = url_.rpartition(":")[2]
    (server,) = [child for child in psutil.Process().children() if port in child.cmdline()]
    return float(sum(sum(one.cpu_times()[:2]) for one in (server, *server.children(recursive=True))))


def _compare_with(before: Path, count: int) -> None:
    """Compare both servers of this checkout with those of another checkout, each with the champion of its own store."""
    rows = _features().head(1)
    table = Table("after / before", "1 row p50", f"requests/s, {_CLIENTS} clients")
    with tempfile.TemporaryDirectory() as folder:
        sides = [Path(folder) / "after", Path(folder) / "before"]
        for side in sides:
            side.mkdir()
        names = ("MLflow server, 1 worker", "production server, 2 workers")
        for new, old in zip(*(_servers(side) for side in sides), strict=True):
            if new.name in names:
                info("Pairs", f"{new.name}, here and in {before.name}")
                with _running(new) as (after, _), _running(replace(old, root=before)) as (other, _):
                    p50, rate = _paired_ratios((after, other), new.body(rows), count)
                table.add_row(new.name, f"{p50:.3f}", f"{rate:.3f}")
    console.print(table)


@contextlib.contextmanager
def _running(server: Server) -> Iterator[tuple[str, float]]:
    port = free_port()
    command = [word.replace("{port}", str(port)) for word in server.command]
    environment = {**os.environ, **server.environment, "PYTHONPATH": str(server.root)}
    started = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, cwd=server.root, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            url_ = f"http://127.0.0.1:{port}"
            while not _is_ready(url_, server.path):
                if process.poll() is not None or time.perf_counter() - started > _READY_SECONDS:
                    log.seek(0)
                    message = f"{' '.join(command)} does not respond:\n{log.read().decode()[-3000:]}"
                    raise SystemExit(message)
                time.sleep(0.02)
            yield url_, time.perf_counter() - started
        finally:
            children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            process.terminate()
            process.wait(120)
            psutil.wait_procs(children, timeout=120)


def _is_ready(url_: str, path: str) -> bool:
    """Whether the server is ready: it rejects an empty body."""
    try:
        status = requests.post(f"{url_}{path}", data=b"", headers={"Content-Type": _JSON}, timeout=5).status_code
    except requests.RequestException:
        return False
    return status in {400, 422}


def _prod() -> Path:
    return datasets.processed_folder() / "base_prod.parquet"


def _features() -> pd.DataFrame:
    """The features of the prod rows."""
    return pd.read_parquet(_prod())[list(datasets.current().feature_names)]


def _long_table(folder: Path) -> Path:
    prod = pd.read_parquet(_prod())
    rows = np.arange(_TABLE_ROWS) % len(prod)
    path = folder / "table.parquet"
    prod.iloc[rows].assign(**{datasets.current().id.name: np.arange(_TABLE_ROWS)}).to_parquet(path, index=False)
    return path


def _score_with_client(table: Path, folder: Path, url_: str) -> tuple[float, float]:
    out = folder / "out.parquet"
    command = [sys.executable, "-m", "serving.client", str(table), "--out", str(out), "--endpoint", url_]
    started = time.perf_counter()
    process = psutil.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            peak = max(peak, process.memory_info().rss)
        time.sleep(_SAMPLE_SECONDS)
    seconds = time.perf_counter() - started
    if process.returncode or pq.ParquetFile(out).metadata.num_rows != _TABLE_ROWS:
        message = f"the client failed: {process.stdout.read()}"
        raise SystemExit(message)
    return _TABLE_ROWS / seconds, peak / _MEBIBYTE


def _score_with_posts(table: Path, url: str, server: Server) -> tuple[float, float]:
    """Score a table in the common way: read it, post chunks as JSON, collect the responses."""
    started = time.perf_counter()
    rows = pd.read_parquet(table)[list(datasets.current().feature_names)]
    predictions: list[Any] = []
    for start in range(0, len(rows), _ROWS_PER_POST):
        body = server.body(rows.iloc[start : start + _ROWS_PER_POST])
        response = requests.post(url, data=body, headers={"Content-Type": _JSON}, timeout=120)
        response.raise_for_status()
        found = response.json()
        predictions.extend(found["predictions"] if isinstance(found, dict) else found)
    pa.table({"prediction": [str(one) for one in predictions]})
    return _TABLE_ROWS / (time.perf_counter() - started), float("nan")


def _median(results_: list[ServerResult]) -> ServerResult:
    fields = [list(vars(one).values()) for one in results_]
    return ServerResult(*(float(value) for value in np.median(np.array(fields), axis=0)))


def _print(medians: Mapping[str, ServerResult]) -> None:
    table = Table(
        *("", "ready, s", "1 row p50, ms", "p99, ms", f"requests/s, {_CLIENTS} clients"),
        *("6,426 rows, ms", "1,000,000 rows, rows/s"),
    )
    for name, found in medians.items():
        table.add_row(
            *(name, f"{found.ready:.1f}", f"{1e3 * found.p50:.2f}", f"{1e3 * found.p99:.2f}"),
            *(f"{found.requests_per_second:,.0f}", f"{1e3 * found.prod_seconds:.1f}"),
            f"{found.table_rows_per_second:,.0f}",
        )
    console.print(table)


def _print_goals(medians: Mapping[str, ServerResult], log: LogCost) -> None:
    hand, bento = medians["FastAPI by hand"], medians["BentoML"]
    stock = medians["mlflow models serve, stock flavor"]
    front, front_2 = medians["MLflow server, 1 worker"], medians["MLflow server, 2 workers"]
    one, two = medians["production server, 1 worker"], medians["production server, 2 workers"]
    per_row = "one row, seconds: {} vs. {}".format
    per_second = "requests/s: {} vs. {}".format
    by_million = "1,000,000 rows, rows/s: {} vs. {}".format
    goals = [
        (per_row("MLflow server", "FastAPI"), front.p50 / hand.p50, "at most 2"),
        (per_row("stock flavor", "FastAPI"), stock.p50 / hand.p50, ""),
        (per_row("production server", "FastAPI"), one.p50 / hand.p50, "at most 0.35"),
        (per_row("MLflow server", "BentoML"), front.p50 / bento.p50, "at most 1"),
        (per_row("production server", "BentoML"), one.p50 / bento.p50, "at most 1"),
        (per_row("production server", "itself without log"), log.p50, "at most 1.1"),
        (per_second("MLflow server", "BentoML"), _rate(front, bento), "at least 1"),
        (per_second("production server", "BentoML"), _rate(one, bento), "at least 1"),
        (per_second("MLflow server, two workers", "one"), _rate(front_2, front), "over 1"),
        (per_second("production server, two workers", "one"), _rate(two, one), "over 1"),
        (
            per_second("production server, two workers", "themselves without log"),
            log.requests_per_second,
            "at least 0.9",
        ),
        (by_million("client, production server", "posts, stock flavor"), _long_rate(two, stock), "at least 2.5"),
        (by_million("client, MLflow server", "posts, stock flavor"), _long_rate(front, stock), ""),
        (by_million("client, production server", "itself without log"), log.table_rows_per_second, "at least 0.9"),
    ]
    table = Table("goal", "measured", "wanted")
    for name, value, wanted in goals:
        table.add_row(name, f"{value:.2f}", wanted)
    table.add_row(
        "1,000,000 rows, client, production server, rows/s", f"{two.table_rows_per_second:,.0f}", "at least 250,000"
    )
    table.add_row("peak memory of the client, MiB", f"{two.client_mebibytes:.0f}", "under 476 (500 MB)")
    table.add_row("production server, seconds until the first response", f"{two.ready:.1f}", "at most 6")
    console.print(table)


def _rate(one: ServerResult, other: ServerResult) -> float:
    return one.requests_per_second / other.requests_per_second


def _long_rate(one: ServerResult, other: ServerResult) -> float:
    return one.table_rows_per_second / other.table_rows_per_second


def _print_import_times() -> None:
    """Print the import times before the first response."""
    table = Table("imports before the first response", "seconds")
    for name, code in {
        "mlflow models serve: its command line": "import mlflow.cli",
        "mlflow models serve: then its server, in a second process": "import mlflow.pyfunc.scoring_server, fastapi",
        "production server: everything, once": "import serving.server.supervisor",
    }.items():
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
        table.add_row(name, f"{time.perf_counter() - started:.1f}")
    console.print(table)


def _build_bench_environment() -> None:
    """Create the environment of BentoML from the lock file."""
    version = re.search(r'"bentoml==(.*)"', (ROOT / "pyproject.toml").read_text())
    if not (_BENCH_ENVIRONMENT / "bin" / "bentoml").exists():
        info("Building", f"{_BENCH_ENVIRONMENT.name} with BentoML {version[1] if version else ''}")
        subprocess.run(
            [shutil.which("uv") or "uv", "sync", "--frozen", "--quiet", "--only-group", "bench"],
            cwd=ROOT,
            env={**os.environ, "UV_PROJECT_ENVIRONMENT": str(_BENCH_ENVIRONMENT)},
            check=True,
        )


if __name__ == "__main__":
    main()
