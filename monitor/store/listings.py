"""Runs, versions and promotions of the registered model as tables, for the app and the command line.

Every function raises `serving.registry.StoreError` where the store fails.
"""

from typing import Any

import pandas as pd

from data.masking import masked
from monitor.store import tags
from monitor.store.model_store import ModelStore
from monitor.store.records import RunInfo
from serving import registry

RUN_COLUMNS = ("run_id", "name", "status", "start", "seconds", "version", "data_source", "synthetic", "parent")
"""Columns of `runs_table` that are no metrics."""

VERSION_COLUMNS = (
    *("version", "stage", "aliases", "gate", "gate_reason", "model", "test_log_loss", "promotions", "created"),
    *("data_source", "run_id"),
)
"""Columns of `versions_table`."""

MAX_RUNS = 1_000
"""Older runs are not shown."""

_OURS = (f"tags.{tags.DATA_SOURCE} LIKE '%'", f"tags.`{tags.WORKSPACE}` LIKE '%'")


@registry.translate_store_errors()
def runs_table(store: ModelStore) -> pd.DataFrame:
    """All runs about the registered model, newest first, at most ``MAX_RUNS``.

    Runs of other projects are not in it, nor those within a policy backtest, which is about a model of its own.

    Returns
    -------
    pandas.DataFrame
        ``RUN_COLUMNS`` (``start`` in UTC, ``parent`` the name of the run that it belongs to) and a column per metric.
        A run that failed before it knew where its shots come from has no ``data_source``.
    """
    found = {run.run_id: run for condition in _OURS for run in store.search_runs(condition, MAX_RUNS)}
    # A run without the tag is shown for every registered model.
    ours = [run for run in found.values() if run.tags.get(tags.REGISTERED_MODEL, store.model_name) == store.model_name]
    runs = sorted(ours, key=lambda run: run.started, reverse=True)[:MAX_RUNS]
    names = {run.run_id: run.name for run in runs}
    table = pd.DataFrame([_run_row(run, names) for run in runs])
    for name in RUN_COLUMNS:
        if name not in table:
            table[name] = pd.Series(dtype=object)
    return table[[*RUN_COLUMNS, *metric_names(table)]]


def metric_names(runs: pd.DataFrame) -> list[str]:
    """Columns of a table of runs that hold metrics and at least one value.

    Examples
    --------
    >>> metric_names(pd.DataFrame({"name": ["Treinamento"], "log_loss": [0.67], "f1_score": [None]}))
    ['log_loss']
    """
    return [name for name in runs.columns if name not in RUN_COLUMNS and runs[name].notna().any()]


def trend_rows(runs: pd.DataFrame, name: str) -> pd.DataFrame:
    """The finished runs of a name, oldest first, as `trend` draws them: time, run, version, metrics."""
    selected = runs[(runs["name"] == name) & (runs["status"] == "FINISHED")].sort_values("start")
    renamed = selected.rename(columns={"start": "time", "name": "run"})
    return renamed[["time", "run", "version", *metric_names(selected)]].reset_index(drop=True)


@registry.translate_store_errors()
def versions_table(store: ModelStore) -> pd.DataFrame:
    """All versions of the registered model, newest first.

    Returns
    -------
    pandas.DataFrame
        ``version`` (int), ``stage``, ``aliases`` (list of str), ``gate``, ``gate_reason``, ``model``,
        ``test_log_loss``, ``promotions`` (how often), ``created`` (UTC), ``data_source``, ``run_id``.
    """
    rows = [
        {
            "version": int(version.version),
            "stage": version.stage,
            "aliases": list(version.aliases),
            "gate": version.gate or "never judged",
            "gate_reason": version.gate_reason,
            "model": version.model_id,
            "test_log_loss": version.test_metrics.get("log_loss", float("nan")),
            "promotions": len(version.promotions),
            "created": version.created,
            "data_source": version.data_source,
            "run_id": version.run_id,
        }
        for version in store.versions()
    ]
    return pd.DataFrame(rows, columns=list(VERSION_COLUMNS))


@registry.translate_store_errors()
def promotions_table(store: ModelStore) -> pd.DataFrame:
    """Every promotion and rollback, newest first.

    Returns
    -------
    pandas.DataFrame
        ``when`` (UTC), ``kind`` (`serving.registry.PROMOTION` or `serving.registry.ROLL_BACK`), ``version`` (int),
        ``instead_of``, ``who``, ``where``, ``why``.
    """
    rows = [
        {**promotion.model_dump(), "version": int(version.version)}
        for version in store.versions()
        for promotion in version.promotions
    ]
    table = pd.DataFrame(rows, columns=["when", "kind", "version", "instead_of", "who", "where", "why"])
    return table.sort_values(["when", "version"], ascending=False, ignore_index=True)


@registry.translate_store_errors()
def run_details(store: ModelStore, run_id: str) -> RunInfo:
    """A run without MLflow's own tags, and with the secrets masked that its commands were given."""
    run = store.run(run_id)
    held = {name: masked(value) for name, value in run.tags.items() if not name.startswith("mlflow.")}
    return run.model_copy(update={"tags": held, "params": {name: masked(value) for name, value in run.params.items()}})


def _run_row(run: RunInfo, names: dict[str, str]) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "name": run.name,
        "status": run.status,
        "start": run.started,
        "seconds": (run.ended - run.started).total_seconds() if run.ended else None,
        "version": run.model_version or None,
        "data_source": run.data_source or None,
        "synthetic": run.synthetic,
        "parent": names.get(run.parent),
        **{name: value for name, value in run.metrics.items() if name not in RUN_COLUMNS},
    }
