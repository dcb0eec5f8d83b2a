"""What MLflow keeps of the operation as tables: runs, versions, promotions, artefacts; and what an endpoint says.

Reads only. Every function that asks MLflow raises `serving.registry.StoreError` where the store fails.
"""

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import requests
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR

from data.masking import masked
from serving import registry
from serving.client.endpoint import base_url
from serving.client.http import session_for

RUN_COLUMNS = ("run_id", "name", "status", "start", "seconds", "version", "data_source", "synthetic", "parent")
"""Columns of `runs_table` that are no metrics."""

VERSION_COLUMNS = (
    *("version", "stage", "aliases", "gate", "gate_reason", "model", "test_log_loss", "promotions", "created"),
    *("data_source", "run_id"),
)
"""Columns of `versions_table`."""

MODEL_TAG = "kobe_shot.registered_model"
"""Tag of a run: the registered model that it is about."""

MOST_RUNS = 1_000
"""Older runs are not shown."""

_OURS = ("tags.data_source LIKE '%'", "tags.`kobe_shot.workspace` LIKE '%'")
_VERSION = re.compile(r"\d+(\.\w+)+")
_PAGE = 500
_TIMEOUT_SECONDS = (1, 3)


@dataclass(frozen=True)
class RunDetails:
    """Parameters, metrics and tags of a run; MLflow's own tags are left out."""

    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]


@dataclass(frozen=True)
class EndpointInfo:
    """What answers at an address.

    Attributes
    ----------
    address : str
        Of the server, without ``/invocations``.
    version : str or None
        Number of the version that answers; None where the server does not say, as MLflow's own.
    since : datetime or None
        When the server took that version up, in UTC.
    mlflow : str
        Version of MLflow.
    inference_log : bool or None
        Whether scored rows are recorded; None where the server does not say.
    """

    address: str
    version: str | None
    since: datetime | None
    mlflow: str
    inference_log: bool | None


@registry.translate_store_errors()
def runs_table() -> pd.DataFrame:
    """All runs about the registered model, newest first, at most ``MOST_RUNS``.

    Runs of other projects do not count, nor do those within a replay, which is about a model of its own.

    Returns
    -------
    pandas.DataFrame
        ``RUN_COLUMNS`` (``start`` in UTC, ``parent`` the name of the run that it belongs to) and a column per metric.
        A run that failed before it knew where its shots come from has no ``data_source``.
    """
    client = MlflowClient()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = {run.info.run_id: run for what in _OURS for run in _search(client, experiments, what)}
    ours = [run for run in found.values() if run.data.tags.get(MODEL_TAG, registry.model()) == registry.model()]
    runs = sorted(ours, key=lambda run: int(run.info.start_time), reverse=True)[:MOST_RUNS]
    names = {run.info.run_id: str(run.info.run_name) for run in runs}
    table = pd.DataFrame([_run_row(run, names) for run in runs])
    for name in RUN_COLUMNS:
        if name not in table:
            table[name] = pd.Series(dtype=object)
    return table[[*RUN_COLUMNS, *metric_names(table)]]


def metric_names(runs: pd.DataFrame) -> list[str]:
    """Columns of a table of runs that hold metrics, of which at least one run has a value.

    Examples
    --------
    >>> metric_names(pd.DataFrame({"name": ["Treinamento"], "log_loss": [0.67], "f1_score": [None]}))
    ['log_loss']
    """
    return [name for name in runs.columns if name not in RUN_COLUMNS and runs[name].notna().any()]


def trend_rows(runs: pd.DataFrame, name: str) -> pd.DataFrame:
    """The finished runs of a name, oldest first, as `trend` draws them: time, run, version, metrics."""
    chosen = runs[(runs["name"] == name) & (runs["status"] == "FINISHED")].sort_values("start")
    renamed = chosen.rename(columns={"start": "time", "name": "run"})
    return renamed[["time", "run", "version", *metric_names(chosen)]].reset_index(drop=True)


@registry.translate_store_errors()
def versions_table() -> pd.DataFrame:
    """All versions of the registered model, newest first.

    Returns
    -------
    pandas.DataFrame
        ``version`` (int), ``stage``, ``aliases`` (list of str), ``gate``, ``gate_reason``, ``model``,
        ``test_log_loss``, ``promotions`` (how often), ``created`` (UTC), ``data_source``, ``run_id``.
    """
    aliases = _aliases()
    rows = [
        {
            "version": int(version.version),
            "stage": version.current_stage,
            "aliases": aliases.get(registry.number(version), []),
            "gate": version.tags.get("gate", "never judged"),
            "gate_reason": masked(version.tags.get("taken_back") or version.tags.get("gate_reason", "")),
            "model": version.tags.get("model_id", ""),
            "test_log_loss": float(version.tags.get("test_log_loss", "nan")),
            "promotions": len(registry.promotions(version)),
            "created": _time(version.creation_timestamp),
            "data_source": masked(version.tags.get("data_source", "")),
            "run_id": version.run_id,
        }
        for version in MlflowClient().search_model_versions(f"name = '{registry.model()}'")
    ]
    table = pd.DataFrame(rows, columns=list(VERSION_COLUMNS))
    return table.sort_values("version", ascending=False, ignore_index=True)


@registry.translate_store_errors()
def promotions_table() -> pd.DataFrame:
    """Every promotion and roll back, newest first.

    Returns
    -------
    pandas.DataFrame
        ``when`` (UTC), ``kind`` ("promotion" or "roll back"), ``version`` (int), ``instead_of``, ``who``, ``where``,
        ``why``.
    """
    rows = [
        {
            "kind": registry.PROMOTION,
            "version": int(version.version),
            **entry,
            "when": pd.Timestamp(str(entry["when"])),
            "why": masked(entry["why"]),
        }
        for version in MlflowClient().search_model_versions(f"name = '{registry.model()}'")
        for entry in registry.promotions(version)
    ]
    table = pd.DataFrame(rows, columns=["when", "kind", "version", "instead_of", "who", "where", "why"])
    return table.sort_values(["when", "version"], ascending=False, ignore_index=True)


@registry.translate_store_errors()
def details(run_id: str) -> RunDetails:
    """Parameters, metrics and tags of a run, without the secrets that its commands were given."""
    data = MlflowClient().get_run(run_id).data
    tags = {name: masked(value) for name, value in data.tags.items() if not name.startswith("mlflow.")}
    params = {name: masked(value) for name, value in data.params.items()}
    return RunDetails(params, dict(data.metrics), tags)


@registry.translate_store_errors()
def artifacts(run_id: str) -> list[str]:
    """Paths of a run's files, sorted."""
    return sorted(_files(MlflowClient(), run_id, None))


@registry.translate_store_errors()
def download(run_id: str, path: str) -> bytes:
    """The bytes of one file of a run."""
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
    with tempfile.TemporaryDirectory() as folder:
        local = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=path, dst_path=folder)
        return Path(local).read_bytes()


def served(address: str) -> EndpointInfo | None:
    """What answers at an address, or None where no scoring server does within seconds."""
    try:
        base = base_url(address)
        with session_for(base) as session:
            if not session.get(f"{base}/ping", timeout=_TIMEOUT_SECONDS).ok:
                return None
            version = session.get(f"{base}/version", timeout=_TIMEOUT_SECONDS)
            model = _json(session.get(f"{base}/model", timeout=_TIMEOUT_SECONDS))
    except (requests.RequestException, ValueError):
        return None
    if not version.ok or not _VERSION.fullmatch(version.text.strip()):
        # Something else answers there: every web server may have a page at /ping.
        return None
    logged = model.get("inference_log")
    return EndpointInfo(
        address=base,
        version=str(model["version"]) if "version" in model else None,
        since=_moment(model.get("since")),
        mlflow=version.text.strip(),
        inference_log=logged if isinstance(logged, bool) else None,
    )


def _search(client: MlflowClient, experiments: list[str], what: str) -> Iterator[Run]:
    token, count = None, 0
    while count < MOST_RUNS:
        page = client.search_runs(
            experiments, what, max_results=_PAGE, order_by=["attributes.start_time DESC"], page_token=token
        )
        yield from page
        token, count = page.token, count + len(page)
        if not token:
            return


def _run_row(run: Run, names: dict[str, str]) -> dict[str, Any]:
    info, tags = run.info, run.data.tags
    return {
        "run_id": info.run_id,
        "name": info.run_name,
        "status": info.status,
        "start": _time(info.start_time),
        "seconds": (info.end_time - info.start_time) / 1_000 if info.end_time else None,
        "version": tags.get("model_version") or tags.get("trained_version"),
        "data_source": tags.get("data_source"),
        "synthetic": tags.get("synthetic") == "true",
        "parent": names.get(tags.get("mlflow.parentRunId", "")),
        **{name: value for name, value in run.data.metrics.items() if name not in RUN_COLUMNS},
    }


def _aliases() -> dict[str, list[str]]:
    found = MlflowClient().search_registered_models(filter_string=f"name = '{registry.model()}'")
    named: dict[str, list[str]] = {}
    for alias, version in sorted(found[0].aliases.items()) if found else ():
        named.setdefault(str(version), []).append(alias)
    return named


def _files(client: MlflowClient, run_id: str, folder: str | None) -> Iterator[str]:
    for entry in client.list_artifacts(run_id, folder):
        if entry.is_dir:
            yield from _files(client, run_id, entry.path)
        else:
            yield entry.path


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1_000, UTC)


def _moment(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def _json(response: requests.Response) -> dict[str, Any]:
    try:
        found = response.json() if response.ok else {}
    except requests.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
