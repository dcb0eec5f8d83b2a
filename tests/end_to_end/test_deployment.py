"""What `deploy/compose.yaml` describes, started without containers: its commands, settings, secrets and scripts."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pytest
import requests
import yaml
from streamlit.testing.v1 import AppTest

from data.paths import ROOT
from monitor.ui import widgets
from tests.project import (
    PAGE_SECONDS,
    Checkout,
    completed,
    copy_project,
    end_group,
    environment,
    free_port,
    ok,
    records,
    run,
    shot,
    wait_until,
)
from tests.serving.inference_log.test_inference_log import POSTGRES, logged

PAGES = ("today", "court", "why", "champions", "system")
FAST = ("--synthetic_rows", "20000", "--models", "lr", "--n_iter", "1", "--cv_folds", "2")


@dataclass(frozen=True)
class Deployment:
    """The services of `compose.yaml` on this machine, in folders below one, with settings as of an `.env`."""

    folder: Path
    ports: Mapping[str, int]
    variables: Mapping[str, str]

    @property
    def tracking(self) -> str:
        """URL of the tracking server."""
        return f"http://127.0.0.1:{self.ports['tracking']}"

    @property
    def model(self) -> str:
        """URL of the model server."""
        return f"http://127.0.0.1:{self.ports['model']}"

    @property
    def monitor(self) -> str:
        """URL of the app."""
        return f"http://127.0.0.1:{self.ports['monitor']}"

    def secret(self, name: str) -> str:
        """Content of a secret's file."""
        return (self.folder / "secrets" / name).read_text()

    def place(self, service: str) -> Checkout:
        """A copy of the project of a service's own, as its container has one."""
        folder = self.folder / service
        return Checkout(folder) if folder.exists() else copy_project(folder)

    def settings(self, service: str) -> dict[str, str]:
        """What `compose.yaml` sets for a service, with the URLs and folders of this machine."""
        found = {name: self._here(str(value)) for name, value in _service(service)["environment"].items()}
        return environment() | found | {"TMPDIR": str(self.folder), "XDG_STATE_HOME": str(self.folder / "state")}

    def command(self, service: str, *more: str) -> list[str]:
        """The entry point of the image with the service's command."""
        command = [self._here(argument) for argument in _service(service)["command"]]
        return [*entry_point(), *command, *more]

    def run(self, service: str, *more: str, **changed: str) -> "subprocess.CompletedProcess[str]":
        """Run the command of a service that ends."""
        return self.run_as(service, self.command(service, *more), **changed)

    def run_as(self, service: str, command: list[str], **changed: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in the place of a service."""
        return run(command, cwd=self.place(service).folder, env=self.settings(service) | changed)

    @contextmanager
    def started(self, service: str) -> Iterator["subprocess.Popen[bytes]"]:
        """Run a service until the block ends; its output goes to SERVICE.log."""
        with (self.folder / f"{service}.log").open("wb") as log:
            process = subprocess.Popen(
                self.command(service),
                cwd=self.place(service).folder,
                env=self.settings(service),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            end_group(process)

    def output(self, service: str) -> str:
        """What a started service has printed so far."""
        return (self.folder / f"{service}.log").read_text()

    def healthy(self, service: str) -> bool:
        """Whether the health check of a service passes."""
        check = [self._here(argument) for argument in _service(service)["healthcheck"]["test"][1:]]
        return self.run_as(service, check).returncode == 0

    def _here(self, text: str) -> str:
        text = re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: self.variables.get(found[1], found[2]), text)
        for there, here in {
            "0.0.0.0": "127.0.0.1",  # noqa: S104 replaced, so that it is not
            "/run/secrets": str(self.folder / "secrets"),
            "/opt/kobe_shot": str(ROOT),
            "/var/lib/kobe_shot": str(self.folder),
            **{f"//{name}:{port}": f"//127.0.0.1:{self.ports[name]}" for name, port in _PORTS.items()},
            **{f"127.0.0.1:{port}": f"127.0.0.1:{self.ports[name]}" for name, port in _PORTS.items()},
            **{f"port={port}": f"port={self.ports[name]}" for name, port in _PORTS.items()},
        }.items():
            text = text.replace(there, here)
        exact = {"database": "127.0.0.1", str(_PORTS["database"]): str(self.ports["database"])}
        return exact.get(text, text)


_PORTS = {"database": 5432, "tracking": 5000, "model": 5001, "monitor": 8501}


def _service(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"][name])


def entry_point() -> list[str]:
    """Of the image."""
    found = re.search(r'^ENTRYPOINT \["python", (.*)\]$', (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE)
    assert found
    return [sys.executable, *re.findall(r'"([^"]+)"', found[1])]


@contextmanager
def database(deployment: Deployment) -> Iterator["subprocess.Popen[bytes]"]:
    """Debian's PostgreSQL with a password, and what `databases.sh` makes in it; its first process."""
    user = "postgres" if os.getuid() == 0 else None
    # PostgreSQL refuses to run as root, and pytest's own folders can be entered by their owner only.
    data = Path(tempfile.mkdtemp(prefix="kobe_shot_postgres_"))
    password = data / "password"
    password.write_text(deployment.secret("database_password"))
    if user:
        shutil.chown(data, user)
        shutil.chown(password, user)
    port = str(deployment.ports["database"])
    folder = POSTGRES[-1].parent
    initdb = [str(POSTGRES[-1]), "-D", str(data / "data"), "-A", "scram-sha-256", "-U", "postgres"]
    subprocess.run([*initdb, f"--pwfile={password}"], user=user, check=True, stdout=subprocess.DEVNULL, cwd="/")
    command = [str(folder / "postgres"), "-D", str(data / "data"), "-p", port, "-k", str(data), "-h", "127.0.0.1"]
    server = subprocess.Popen(command, user=user, stderr=subprocess.DEVNULL, cwd="/")
    try:
        ready = [str(folder / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", port]
        wait_until(lambda: subprocess.run(ready, check=False).returncode == 0, "PostgreSQL to respond")
        superuser = {"PGHOST": "127.0.0.1", "PGPORT": port, "PGUSER": "postgres"}
        secrets = {"SECRETS": str(deployment.folder / "secrets"), "PGPASSWORD": deployment.secret("database_password")}
        made = subprocess.run(
            [str(ROOT / "deploy" / "databases.sh")],
            env=environment() | superuser | secrets,
            capture_output=True,
            text=True,
            check=False,
        )
        ok(made)
        yield server
    finally:
        # The fast shutdown, which does not wait for pooled connections.
        server.send_signal(signal.SIGINT)
        completed(server)
        shutil.rmtree(data)


@contextmanager
def deployed(folder: Path, **variables: str) -> Iterator[Deployment]:
    """Database, tracking server and accounts, as `docker compose up` makes them before the first model."""
    deployment = Deployment(folder, {name: free_port() for name in _PORTS}, variables)
    made = subprocess.run(
        [str(ROOT / "deploy" / "make-secrets.sh"), str(folder / "secrets")], capture_output=True, text=True, check=False
    )
    ok(made)
    with database(deployment), deployment.started("tracking") as server:
        wait_until(
            lambda: _responds(f"{deployment.tracking}/health") or server.poll() is not None, "the tracking server"
        )
        assert server.poll() is None, deployment.output("tracking")
        for _ in range(2):
            ok(deployment.run("accounts", "--secrets", str(folder / "secrets")))
        yield deployment


def _responds(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).ok
    except requests.RequestException:
        return False


def log_of(deployment: Deployment) -> str:
    """URL of the inference log, in PostgreSQL."""
    password, port = deployment.secret("inference_log_password"), deployment.ports["database"]
    return f"postgresql+psycopg://inference_log:{password}@127.0.0.1:{port}/inference_log"


def requests_without_credentials(url: str) -> dict[str, int]:
    """Status codes of the tracking server for reads and writes, by request."""
    sent: dict[str, Callable[[], requests.Response]] = {
        "read runs": lambda: requests.post(f"{url}/api/2.0/mlflow/runs/search", json={}, timeout=10),
        "read experiments": lambda: requests.get(f"{url}/api/2.0/mlflow/experiments/search?max_results=1", timeout=10),
        "read versions": lambda: requests.get(f"{url}/api/2.0/mlflow/model-versions/search", timeout=10),
        "list artifacts": lambda: requests.get(f"{url}/api/2.0/mlflow-artifacts/artifacts?path=", timeout=10),
        "read an artifact": lambda: requests.get(f"{url}/api/2.0/mlflow-artifacts/artifacts/0/x", timeout=10),
        "write an artifact": lambda: requests.put(
            f"{url}/api/2.0/mlflow-artifacts/artifacts/0/x", data=b"x", timeout=10
        ),
        "write an experiment": lambda: requests.post(
            f"{url}/api/2.0/mlflow/experiments/create", json={"name": "x"}, timeout=10
        ),
        "write a user": lambda: requests.post(
            f"{url}/api/2.0/mlflow/users/create", json={"username": "x", "password": "long enough"}, timeout=10
        ),
        "open the pages": lambda: requests.get(f"{url}/", timeout=10),
    }
    return {name: send().status_code for name, send in sent.items()}


def writes_as(deployment: Deployment, account: str) -> int:
    """The status code for an account that sets a tag of the registered model."""
    return requests.post(
        f"{deployment.tracking}/api/2.0/mlflow/registered-models/set-tag",
        json={"name": "kobe_shot", "key": "a", "value": "b"},
        auth=(account, deployment.secret(f"{account}_password")),
        timeout=10,
    ).status_code


@pytest.mark.slow
@pytest.mark.skipif(not POSTGRES, reason="PostgreSQL is not installed; .ci/run installs Debian's")
def test_the_services_of_the_compose_file_work_together_without_containers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        deployment = stack.enter_context(deployed(tmp_path, KOBE_SOURCE="synthetic", KOBE_SCHEDULE="1h"))
        assert set(requests_without_credentials(deployment.tracking).values()) == {401}
        assert deployment.healthy("tracking")

        # The model server reports the missing champion and ends; Docker restarts it until there is one.
        waiting = deployment.run("model")
        assert waiting.returncode == 1
        assert "no champion" in waiting.stderr.replace("\n", " ")

        assert "main: done" in ok(deployment.run("first-model", *FAST))
        assert "nothing is trained" in ok(deployment.run("first-model"))
        left = {path.name for path in deployment.place("first-model").folder.iterdir()}
        assert not left & {"mlflow.db", "mlruns", "mlartifacts", "inference_log.db"}
        assert (tmp_path / "artifacts").is_dir()
        assert (writes_as(deployment, "kobe_shot"), writes_as(deployment, "kobe_shot_server")) == (200, 403)

        model = stack.enter_context(deployment.started("model"))
        wait_until(
            lambda: _responds(f"{deployment.model}/health") or model.poll() is not None, "the model server to respond"
        )
        assert model.poll() is None, deployment.output("model")
        response = requests.post(f"{deployment.model}/invocations", json=records(shot(), shot(period=2)), timeout=30)
        assert [set(row) for row in response.json()["predictions"]] == [{"shot_made_flag", "probability"}] * 2
        wait_until(lambda: len(logged(log_of(deployment))) == 2, "the rows to be logged in PostgreSQL")
        assert deployment.healthy("model")

        app = stack.enter_context(deployment.started("monitor"))
        wait_until(lambda: _responds(f"{deployment.monitor}/_stcore/health") or app.poll() is not None, "the monitor")
        assert deployment.healthy("monitor"), deployment.output("monitor")
        pages_show_the_server(deployment, monkeypatch)

        loop = stack.enter_context(deployment.started("scheduler"))
        wait_until(lambda: "Next at" in deployment.output("scheduler"), "the scheduler to have decided")
        assert "Decision 1: no action" in deployment.output("scheduler")
        assert deployment.healthy("scheduler"), deployment.output("scheduler")
        loop.terminate()
        assert completed(loop).returncode == 0
        assert not deployment.healthy("scheduler")

        end_group(model)
        wrong_passwords_are_reported(deployment, monkeypatch)
        everything = "".join(path.read_text(errors="replace") for path in tmp_path.glob("*.log"))
        assert not any(secret.read_text() in everything for secret in (tmp_path / "secrets").iterdir())


def pages_show_the_server(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every page of the app, as Streamlit runs it with the monitor's settings."""
    before = mlflow.get_tracking_uri()
    with monkeypatch.context() as patch:
        for name, value in deployment.settings("monitor").items():
            patch.setenv(name, value)
        patch.setenv("MLFLOW_TRACKING_PASSWORD", deployment.secret("kobe_shot_password"))
        patch.setenv("PGPASSWORD", deployment.secret("inference_log_password"))
        mlflow.set_tracking_uri(deployment.tracking)
        try:
            for name in PAGES:
                page = AppTest.from_file(str(ROOT / "monitor" / "ui" / f"{name}.py"), default_timeout=PAGE_SECONDS)
                page.run()
                assert not page.exception, name
                assert not [error for error in page.error if "estimate is withheld" not in error.value], name
            assert widgets.endpoint() == deployment.model
        finally:
            mlflow.set_tracking_uri(before)


def wrong_passwords_are_reported(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step, the model server and a page report that access is denied, without the password."""
    wrong = deployment.folder / "wrong"
    wrong.write_text("not-the-password")
    for service in ("first-model", "model"):
        result = deployment.run(service, MLFLOW_TRACKING_PASSWORD_FILE=str(wrong))
        assert result.returncode == 1, service
        assert "not authenticated" in result.stderr.replace("\n", " "), service
        assert "Traceback" not in result.stderr, service
        assert "not-the-password" not in result.stdout + result.stderr
    before = mlflow.get_tracking_uri()
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", "kobe_shot")
        patch.setenv("MLFLOW_TRACKING_PASSWORD", "not-the-password")
        mlflow.set_tracking_uri(deployment.tracking)
        try:
            page = AppTest.from_file(
                str(ROOT / "monitor" / "ui" / "runs_and_registry.py"), default_timeout=PAGE_SECONDS
            ).run()
        finally:
            mlflow.set_tracking_uri(before)
    assert not page.exception
    assert "not authenticated" in " ".join(error.value for error in page.error)
