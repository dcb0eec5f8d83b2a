"""Start a scoring server in a process of its own, wait until it responds, and stop it whatever happens."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import mlflow
import requests

from data.datasets import current
from data.errors import KobeShotError
from data.paths import ROOT
from serving.client.http import session_for
from serving.inference_log.inference_log import URL_VARIABLE

HOST = "127.0.0.1"

_READY_SECONDS = 120
_STOP_SECONDS = 15
_POLL_SECONDS = 0.1
_PING_SECONDS = 5
_LOG_LINES_SHOWN = 15


class ServerError(KobeShotError):
    """A scoring server did not start, or does not respond."""


@contextmanager
def run_mlflow_server(model_uri: str) -> Iterator[str]:
    """Serve a model with MLflow's own server on a free port of this machine.

    Parameters
    ----------
    model_uri : str
        For example ``models:/kobe_shot/3``.

    Yields
    ------
    str
        URL of the server, for example ``http://127.0.0.1:49152``, once it responds.

    Raises
    ------
    ServerError
        If it ends or does not respond within two minutes; the end of its log is in the message.
    """
    port = free_port()
    command = ["mlflow", "models", "serve", "--model-uri", model_uri, "--host", HOST, "--port", str(port)]
    with running([*command, "--env-manager", "local"], port) as url:
        yield url


@contextmanager
def run_production_server(*, workers: int = 1) -> Iterator[str]:
    """Serve the champion, and the next champions, on a free port of this machine, without an inference log.

    Yields
    ------
    str
        URL of the server once it responds.

    Raises
    ------
    ServerError
        If it ends or does not respond within two minutes; the end of its log is in the message.
    """
    port = free_port()
    command = ["serving.server", "--host", HOST, "--port", str(port), "--workers", str(workers)]
    with running(command, port, {URL_VARIABLE: "off"}) as url:
        yield url


@contextmanager
def running(
    command: list[str], port: int, environment: Mapping[str, str] | None = None, *, ready: str = "/ping"
) -> Iterator[str]:
    """Run a module that serves on a port of this machine, until the block ends.

    Parameters
    ----------
    command : list of str
        The module and its arguments.
    port : int
    environment : mapping of str to str, optional
        Variables in addition to those of this process.
    ready : str
        Path that responds with success once the server is ready.

    Yields
    ------
    str
        URL of the server once it responds.

    Raises
    ------
    ServerError
        If it ends or does not respond within two minutes; the end of its log is in the message.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "serving" / "server" / "process_guard.py"), sys.executable, "-m", *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**_environment(), **(environment or {})},
        )
        try:
            url = f"http://{HOST}:{port}"
            _wait_until_ready(f"{url}{ready}", process, log.fileno())
            yield url
        finally:
            _stop(process)


def check_alive(url: str) -> None:
    """Return if a server responds at a URL.

    Raises
    ------
    ServerError
        If ``/ping`` does not respond with 200 within seconds.
    """
    try:
        with session_for(url) as session:
            status = session.get(f"{url}/ping", timeout=_PING_SECONDS).status_code
    except requests.RequestException as error:
        message = (
            f"No scoring server responds at {url} ({type(error).__name__}). "
            f"Start one (mlflow models serve -m models:/{current().registered_model}/Production), "
            "or leave endpoint empty."
        )
        raise ServerError(message) from error
    if status != requests.codes.ok:
        message = f"{url}/ping responded with {status}; expected 200 from an MLflow scoring server."
        raise ServerError(message)


def _environment() -> dict[str, str]:
    # MLflow runs `uvicorn` from PATH, which lacks it where the environment is not activated.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()}


def free_port() -> int:
    """A port of this machine that nothing listens to."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]", log: int) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    with session_for(url) as session:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                message = f"The scoring server ended with exit code {process.returncode}:\n{_tail(log)}"
                raise ServerError(message)
            if _responds(session, url):
                return
            time.sleep(_POLL_SECONDS)
    message = f"The scoring server did not respond within {_READY_SECONDS} s:\n{_tail(log)}"
    raise ServerError(message)


def _responds(session: requests.Session, url: str) -> bool:
    try:
        return session.get(url, timeout=1).ok
    except requests.RequestException:
        return False


def _tail(log: int) -> str:
    text = os.pread(log, 1 << 20, 0).decode(errors="replace")
    return "\n".join(text.splitlines()[-_LOG_LINES_SHOWN:])


def _stop(process: "subprocess.Popen[bytes]") -> None:
    if process.stdin:
        process.stdin.close()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
