"""Images of the app and of MLflow's pages for the report, taken with Chromium, and a request to the served model."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import mlflow
import requests

from data.paths import ROOT
from monitor.reports import chromium
from monitor.reports.pipeline.facts import Chain, Exchange
from monitor.store import tags
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
MLFLOW_COLUMNS = (
    ("attributes", "Duration"),
    ("attributes", "Models"),
    ("metrics", "test_log_loss"),
    ("metrics", "prod_log_loss"),
    ("tags", tags.HEALTH),
)
"""Columns of MLflow's table of runs."""

_APP_WIDTH = 1_120
_MAX_APP_HEIGHT = 1_500
"""Of an image that is printed on a page of A4; the rest of a longer page is in the app."""
_APP_READY = (
    'document.querySelector(\'[data-testid="stMain"] h1, [data-testid="stMain"] h2, [data-testid="stMetric"]\')'
    ' && !document.querySelector(\'[data-testid="stStatusWidget"], [data-testid="stSkeleton"]\')'
)
_APP_HEIGHT = (
    f"Math.min({_MAX_APP_HEIGHT}, Math.max("
    "...Array.from(document.querySelectorAll('[data-testid=\"stMainBlockContainer\"]'), e => e.scrollHeight)))"
)
_MLFLOW_READY = "document.querySelectorAll('[role=\"row\"], tr').length > 2"
VERSION_READY = "document.body.innerText.includes('Description')"
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


def set_mlflow_view(page: chromium.Browser, url: str, experiment_id: str, expanded: Iterable[str]) -> None:
    """Make MLflow's pages show the runs and metrics of a pipeline, by the local storage of the browser.

    Parameters
    ----------
    page : Browser
    url : str
        Of MLflow's UI.
    experiment_id : str
    expanded : iterable of str
        Ids of the runs whose nested runs are shown.
    """
    view = {
        "selectedColumns": [f"{kind}.`{column}`" for kind, column in MLFLOW_COLUMNS],
        "runsExpanded": dict.fromkeys(expanded, True),
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
    }
    entries = {
        "mlflow.workflowType_v1": json.dumps("machine_learning"),
        "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
        "mlflow.assistant.panelOpen_v1": "false",
        f'MLflowLocalStorage-1.1-ExperimentPage-["{experiment_id}"]-ReactComponentState': json.dumps(view),
    }
    # A page of the same origin without scripts of the UI, which would overwrite the view.
    page.open(f"{url}/health", "true")
    for key, value in entries.items():
        page.evaluate(f"localStorage.setItem({json.dumps(key)}, {json.dumps(value)})")


def images(store: ModelStore, experiment_id: str, chain: Chain) -> Iterator[tuple[str, bytes]]:
    """Take the image of each page of the app, and of MLflow's pages of runs and of the trained version.

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
        with ExitStack() as servers:
            served = servers.enter_context(subprocesses.run_production_server()) if store.champion() else ""
            url = servers.enter_context(app(served))
            for name, path in APP.items():
                page.open(f"{url}/{path}?lang=pt", _APP_READY, width=_APP_WIDTH)
                yield name, page.image(width=_APP_WIDTH, height=_APP_HEIGHT)
        if _is_remote():
            # A tracking server has accounts, and its pages are not public.
            return
        with mlflow_ui() as url:
            set_mlflow_view(page, url, experiment_id, (chain.main.run_id, chain.training.run_id))
            page.open(f"{url}/#/experiments/{experiment_id}/runs", _MLFLOW_READY)
            yield RUNS, page.image()
            page.open(f"{url}/#/models/{store.model_name}/versions/{chain.trained.number}", VERSION_READY)
            yield REGISTRY, page.image()


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
def app(served: str = "") -> Iterator[str]:
    """Run the app, with the URL of a scoring server, until the block ends; yield its URL."""
    port = subprocesses.free_port()
    options = ["--server.port", str(port), "--server.headless", "true"]
    command = ["streamlit", "run", str(ROOT / "monitor" / "app.py"), *options, "--browser.gatherUsageStats", "false"]
    environment = {"STREAMLIT_SERVER_ADDRESS": subprocesses.HOST, **({"KOBE_ENDPOINT": served} if served else {})}
    with subprocesses.running(command, port, environment, ready="/_stcore/health") as url:
        yield url


@contextmanager
def mlflow_ui() -> Iterator[str]:
    """Run MLflow's UI until the block ends; yield its URL."""
    port = subprocesses.free_port()
    command = ["mlflow", "ui", "--host", subprocesses.HOST, "--port", str(port), "--workers", "1"]
    store = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_BACKEND_STORE_URI": mlflow.get_tracking_uri()}
    with subprocesses.running(command, port, store, ready="/health") as url:
        yield url


def _is_remote() -> bool:
    return str(mlflow.get_tracking_uri()).startswith("http")
