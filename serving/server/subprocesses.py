"""Start a scoring server in a process of its own, wait until it answers, and stop it whatever happens."""

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

from data.errors import KobeShotError
from data.paths import ROOT
from serving.client.http import session_for
from serving.inference_log.inference_log import ADDRESS_VARIABLE

HOST = "127.0.0.1"

_READY_SECONDS = 120
_STOP_SECONDS = 15
_POLL_SECONDS = 0.1
_LOG_LINES_SHOWN = 15


class ServerError(KobeShotError):
    """A scoring server did not start, or does not answer."""


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
        Address of the server, for example ``http://127.0.0.1:49152``, once it answers.

    Raises
    ------
    ServerError
        If it ends or does not answer within two minutes; the end of its log is in the message.
    """
    port = free_port()
    command = ["mlflow", "models", "serve", "--model-uri", model_uri, "--host", HOST, "--port", str(port)]
    with _running([*command, "--env-manager", "local"], port) as address:
        yield address


@contextmanager
def run_production_server(*, workers: int = 1) -> Iterator[str]:
    """Serve the champion, and the next champions, on a free port of this machine, without an inference log.

    Yields
    ------
    str
        Address of the server once it answers.

    Raises
    ------
    ServerError
        If it ends or does not answer within two minutes; the end of its log is in the message.
    """
    port = free_port()
    command = ["serving.server", "--host", HOST, "--port", str(port), "--workers", str(workers)]
    with _running(command, port, {ADDRESS_VARIABLE: "off"}) as address:
        yield address


@contextmanager
def _running(command: list[str], port: int, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "serving" / "server" / "process_guard.py"), sys.executable, "-m", *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**_environment(), **(environment or {})},
        )
        try:
            address = f"http://{HOST}:{port}"
            _wait_until_ready(address, process, log.fileno())
            yield address
        finally:
            _stop(process)


def check_alive(address: str, *, seconds: float = 5) -> None:
    """Say clearly when nothing answers at an address.

    Raises
    ------
    ServerError
        If ``/ping`` does not answer 200 within `seconds`.
    """
    try:
        with session_for(address) as session:
            status = session.get(f"{address}/ping", timeout=seconds).status_code
    except requests.RequestException as error:
        message = (
            f"No scoring server answers at {address} ({type(error).__name__}). "
            "Start one (mlflow models serve -m models:/kobe_shot/Production), or leave endpoint empty."
        )
        raise ServerError(message) from error
    if status != requests.codes.ok:
        message = f"{address}/ping answered {status}; expected 200 from an MLflow scoring server."
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


def _wait_until_ready(address: str, process: "subprocess.Popen[bytes]", log: int) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    with session_for(address) as session:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                message = f"The scoring server ended with exit code {process.returncode}:\n{_tail(log)}"
                raise ServerError(message)
            if _answers(session, address):
                return
            time.sleep(_POLL_SECONDS)
    message = f"The scoring server did not answer within {_READY_SECONDS} s:\n{_tail(log)}"
    raise ServerError(message)


def _answers(session: requests.Session, address: str) -> bool:
    try:
        return session.get(f"{address}/ping", timeout=1).ok
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
