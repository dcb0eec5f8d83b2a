"""Images of the app and of MLflow's pages for the report, taken with Chromium, and a request to the served model."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import mlflow
import requests

from data.paths import ROOT
from monitor.reports import chromium
from monitor.reports.pipeline.facts import Exchange
from monitor.store.model_store import ModelStore
from serving import registry
from serving.client.http import session_for
from serving.server import subprocesses

APP: Mapping[str, str] = {
    "painel_hoje.png": "",
    "painel_quadra.png": "court",
    "painel_por_que.png": "why",
    "painel_campeoes.png": "champions",
    "painel_sistema.png": "system",
}
"""Pages of the app, by the file of their image."""
RUNS, REGISTRY = "mlflow_execucoes.png", "mlflow_registro.png"
"""Images of MLflow's pages."""

_APP_READY = (
    'document.querySelector(\'[data-testid="stMain"] h1, [data-testid="stMain"] h2, [data-testid="stMetric"]\')'
    ' && !document.querySelector(\'[data-testid="stStatusWidget"], [data-testid="stSkeleton"]\')'
)
_APP_HEIGHT = (
    "Math.max(...Array.from(document.querySelectorAll('[data-testid=\"stMainBlockContainer\"]'), e => e.scrollHeight))"
)
_MLFLOW_READY = "document.querySelectorAll('[role=\"row\"], tr').length > 2"
_SECONDS = 30


def exchange(version: str, shot: Mapping[str, float]) -> Exchange:
    """Serve a version with MLflow's server, and request the prediction of a shot.

    Raises
    ------
    ServerError
        If the server does not start or does not respond.
    """
    body = {"dataframe_records": [dict(shot)]}
    with subprocesses.run_mlflow_server(registry.uri(version)) as url, session_for(url) as session:
        try:
            response = session.post(f"{url}/invocations", json=body, timeout=_SECONDS)
            response.raise_for_status()
            return Exchange(json.dumps(body), json.dumps(response.json()), live=True)
        except requests.RequestException as error:
            message = f"the served model did not respond to a request: {error}"
            raise subprocesses.ServerError(message) from error


def images(store: ModelStore, experiment_id: str) -> Iterator[tuple[str, bytes]]:
    """Take the image of each page of the app, and of MLflow's pages of runs and of the registered model.

    Yields
    ------
    tuple of str and bytes
        Name of the file, and PNG.

    Raises
    ------
    BrowserError, ServerError
        If Chromium, the app or MLflow's server does not start or does not respond.
    """
    with chromium.browser() as page:
        with _app() as url:
            for name, path in APP.items():
                page.open(f"{url}/{path}?lang=pt", _APP_READY)
                yield name, page.image(height=_APP_HEIGHT)
        if _is_remote():
            # A tracking server has accounts, and its pages are not public.
            return
        with _mlflow() as url:
            pages = {RUNS: f"#/experiments/{experiment_id}/runs", REGISTRY: f"#/models/{store.model_name}"}
            for name, path in pages.items():
                page.open(f"{url}/{path}", _MLFLOW_READY)
                yield name, page.image()


def pdf(html: Path) -> bytes:
    """Convert a page to PDF.

    Raises
    ------
    BrowserError
        If Chromium is not installed, does not start or does not respond.
    """
    with chromium.browser() as page:
        page.open(html.resolve().as_uri(), "document.readyState === 'complete'")
        return page.pdf()


@contextmanager
def _app() -> Iterator[str]:
    port = subprocesses.free_port()
    options = ["--server.port", str(port), "--server.headless", "true"]
    command = ["streamlit", "run", str(ROOT / "monitor" / "app.py"), *options, "--browser.gatherUsageStats", "false"]
    on_this_machine = {"STREAMLIT_SERVER_ADDRESS": subprocesses.HOST}
    with subprocesses.running(command, port, on_this_machine, ready="/_stcore/health") as url:
        yield url


@contextmanager
def _mlflow() -> Iterator[str]:
    port = subprocesses.free_port()
    command = ["mlflow", "ui", "--host", subprocesses.HOST, "--port", str(port), "--workers", "1"]
    store = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_BACKEND_STORE_URI": mlflow.get_tracking_uri()}
    with subprocesses.running(command, port, store, ready="/health") as url:
        yield url


def _is_remote() -> bool:
    return str(mlflow.get_tracking_uri()).startswith("http")
