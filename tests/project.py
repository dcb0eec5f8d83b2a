"""The project as a user has it: a copy of its files in an empty folder, driven by its real commands."""

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import cache_from_source
from pathlib import Path
from typing import AnyStr

import mlflow
import pandas as pd
import psutil
import requests
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from bench import patience
from data.paths import ROOT
from data.schema import FEATURES
from serving import registry
from serving.batch.in_process import PREDICTIONS_SHA256, prediction_hash
from serving.model.packaging import log_scoring_model
from serving.registry.gate import GateResult
from serving.registry.relocation import relocate
from serving.server import registry_watch
from tests import fork_server

REAL = ROOT.parent / "shared" / "data" / "raw"
"""The real files, where this workplace has them."""

FAST = ("-P", "synthetic_rows=20000", "-P", "n_iter=1", "-P", "cv_folds=2", "-P", "n_resplits=1")
"""Parameters that keep a training on synthetic shots short."""

PAGE_SECONDS = 600
"""Limit for Streamlit's AppTest, which only takes one in seconds: far more than a page takes on a busy machine."""


@dataclass(frozen=True)
class Checkout:
    """A copy of the project in a folder of its own, with its own tracking store."""

    folder: Path

    def copy(self, target: Path) -> "Checkout":
        """A copy whose store names the artifacts of the copy; `target` does not exist yet."""
        shutil.copytree(self.folder, target)
        relocate(target / "mlflow.db")
        return Checkout(target)

    def command(self, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in the folder, in the activated environment, with more environment variables."""
        return run(arguments, cwd=self.folder, env=environment() | variables)

    def start(self, *arguments: str, **variables: str) -> "subprocess.Popen[bytes]":
        """Start a command in the folder, in a process group of its own, with more environment variables."""
        return fork_server.start(
            arguments,
            cwd=self.folder,
            env=environment() | variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def step(self, name: str, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run ``python -m steps.NAME``, with more environment variables."""
        return self.command(sys.executable, "-m", f"steps.{name}", *arguments, **variables)

    def mlflow_run(self, entry_point: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run ``mlflow run . -e NAME --env-manager local``."""
        return self.command("mlflow", "run", ".", "-e", entry_point, "--env-manager", "local", *arguments)

    def client(self) -> MlflowClient:
        """Client of this folder's store."""
        return MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")

    def runs(self) -> list[Run]:
        """Every run of the experiment kobe_shot, newest first."""
        experiment = self.client().get_experiment_by_name("kobe_shot")
        return list(self.client().search_runs([experiment.experiment_id]))

    def run(self, name: str) -> Run:
        """The newest run of a name."""
        return next(run for run in self.runs() if run.info.run_name == name)

    def artifacts(self, run: Run) -> set[str]:
        """Paths of a run's artifacts."""
        base = Path(run.info.artifact_uri)
        return {str(path.relative_to(base)) for path in base.rglob("*") if path.is_file()}

    def production(self) -> ModelVersion | None:
        """The version in Production."""
        versions = self.client().search_model_versions("name = 'kobe_shot'")
        return next((version for version in versions if version.current_stage == "Production"), None)

    def table(self, name: str) -> pd.DataFrame:
        """A processed table."""
        return pd.read_parquet(self.folder / "data" / "processed" / f"{name}.parquet")


def copy_project(target: Path, database: Path | None = None) -> Checkout:
    """Copy the files that git knows or would add, and what Python has compiled of them.

    With the `database` of an empty store, the first command does not make one, which takes seconds.
    """
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    copy_files(filter(None, listed.split("\0")), target)
    if database is not None:
        shutil.copy(database, target / "mlflow.db")
        with closing(sqlite3.connect(target / "mlflow.db")) as connection, connection:
            connection.execute("UPDATE experiments SET artifact_location = ?", [str(target / "mlruns" / "0")])
    return Checkout(target)


def copy_files(names: Iterable[str], target: Path) -> None:
    """Copy files of the project, and what Python has compiled of them."""
    for name in names:
        compiled = [cache_from_source(name)] if name.endswith(".py") else []
        for each in (name, *compiled):
            if (ROOT / each).is_file():
                (target / each).parent.mkdir(parents=True, exist_ok=True)
                # Compiled code is valid for the time of its source.
                shutil.copy2(ROOT / each, target / each)


def environment() -> dict[str, str]:
    """The environment of a user who has activated .venv and set nothing else."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PYTEST_"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
    return {**kept, "PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true"}


@contextmanager
def run_mlflow_server(
    checkout: Checkout, model: str = "models:/kobe_shot/Production", **variables: str
) -> Iterator[str]:
    """Run ``mlflow models serve -m MODEL`` until the block ends; its URL."""
    port = free_port()
    command = ["mlflow", "models", "serve", "-m", model, "--port", str(port), "--env-manager", "local"]
    process = checkout.start(*command, **variables)
    try:
        wait_until(lambda: responds(f"http://127.0.0.1:{port}"), f"{' '.join(command)} to respond")
        yield f"http://127.0.0.1:{port}"
    finally:
        end_group(process)


@dataclass
class ProductionServer:
    """A running ``python -m serving.server``."""

    url: str
    process: "subprocess.Popen[bytes]"
    output: Path

    def workers(self) -> list[psutil.Process]:
        """The worker processes, without those that write the inference log and the one that polls the registry."""
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if child.status() != "zombie" and child.name() != registry_watch.NAME]

    def stop(self) -> int:
        """End it as Ctrl-C does; the exit code."""
        self.process.send_signal(2)
        return completed(self.process).returncode


@contextmanager
def run_production_server(
    checkout: Checkout,
    *options: str,
    workers: int = 2,
    inference_log: str | None = None,
    tracking: str = "",
    is_forked: bool = True,
) -> Iterator[ProductionServer]:
    """Run ``python -m serving.server`` until the block ends, with the checkout's own store or the one at `tracking`.

    One that is not forked has the memory of its own imports alone.
    """
    settings = {} if inference_log is None else {"KOBE_INFERENCE_LOG": inference_log}
    settings |= {"MLFLOW_TRACKING_URI": tracking} if tracking else {}
    port = free_port()
    output = checkout.folder / f"server-{port}.log"
    with output.open("wb") as log:
        process = (fork_server.start if is_forked else fork_server.start_interpreter)(
            [sys.executable, "-m", "serving.server", "--port", str(port), "--workers", str(workers), *options],
            cwd=checkout.folder,
            env=environment() | settings,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    server = ProductionServer(f"http://127.0.0.1:{port}", process, output)
    try:
        wait_until(lambda: responds(server.url) or process.poll() is not None, "the server to respond")
        assert process.poll() is None, output.read_text()
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            completed(process)


def publish(
    checkout: Checkout,
    shots: pd.DataFrame,
    *,
    strength: float = 1.0,
    meanwhile: Callable[[], object] | None = None,
    tracking: str = "",
) -> Pipeline:
    """Log, register and promote a small model in a checkout's own store, or the one at `tracking`; its pipeline.

    `meanwhile` is called before the promotion, which a server sees at once.
    """
    table, pipeline = _features(shots), small_pipeline(shots, strength=strength)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(tracking or f"sqlite:///{checkout.folder / 'mlflow.db'}")
    try:
        name = "published"
        if mlflow.get_experiment_by_name(name) is None:
            own = None if tracking else str(checkout.folder / "mlruns" / name)
            mlflow.create_experiment(name, artifact_location=own)
        mlflow.set_experiment(name)
        with mlflow.start_run() as run:
            info = log_scoring_model(pipeline, table.head(3), threshold=0.5, metadata={})
        tags = {"synthetic": "true", PREDICTIONS_SHA256: prediction_hash(info.model_uri)}
        version = registry.register(info.model_uri, run.info.run_id, tags, "for a test")
        registry.record_gate_result(version, GateResult(1_000, 0.67, 0.69, -0.03, -0.01, passed=True, reason="better"))
        if meanwhile:
            meanwhile()
        registry.promote(version, "for a test")
    finally:
        mlflow.set_tracking_uri(before)
    return pipeline


def small_pipeline(shots: pd.DataFrame, *, strength: float = 1.0) -> Pipeline:
    """The model that `publish` publishes."""
    made = shots["shot_made_flag"].fillna(0).to_numpy()
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength)).fit(_features(shots).to_numpy(), made)


def _features(shots: pd.DataFrame) -> pd.DataFrame:
    return shots.rename(columns={"lon": "lng"})[list(FEATURES)].astype(float)


def is_running(number: int) -> bool:
    """Whether a process is running."""
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end_group(process: "subprocess.Popen[bytes]", number: int = 15) -> None:
    """Signal a process and all its children, and wait for it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    completed(process)


def responds(url: str) -> bool:
    """Whether a scoring server responds there."""
    try:
        return requests.get(f"{url}/ping", timeout=2).ok
    except requests.RequestException:
        return False


def wait_until(condition: object, what: str, *, progress: Callable[[], object] = lambda: None) -> None:
    """Wait for a condition, a function without arguments, while the test's processes work; see `bench.patience`."""
    assert callable(condition)
    patience.wait_until(condition, what, progress=progress)


def run(
    command: Sequence[str], *, cwd: Path = ROOT, env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, by default in the activated environment, for as long as it works."""
    process = fork_server.start(
        command,
        cwd=cwd,
        env=environment() if env is None else env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return completed(process)


def completed(process: "subprocess.Popen[AnyStr]") -> "subprocess.CompletedProcess[AnyStr]":
    """Wait for the end of a process for as long as it works, reading what it pipes; it is killed where it does not."""
    limit = patience.Patience(f"the end of {process.args!r}")
    while True:
        try:
            output, errors = process.communicate(timeout=1)
        except subprocess.TimeoutExpired:
            try:
                limit.check()
            except TimeoutError:
                process.kill()
                raise
        else:
            return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def free_port() -> int:
    """A port that no process listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ok(result: "subprocess.CompletedProcess[str]") -> str:
    """The output of a command that must have succeeded."""
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def shot(**changes: object) -> dict[str, object]:
    """One valid shot, with changes."""
    return {
        "lat": 33.9723,
        "lng": -118.1028,
        "minutes_remaining": 10,
        "period": 1,
        "playoffs": 0,
        "shot_distance": 18,
    } | changes


def records(*shots: dict[str, object]) -> dict[str, Sequence[dict[str, object]]]:
    """A JSON body of shots."""
    return {"dataframe_records": shots}
