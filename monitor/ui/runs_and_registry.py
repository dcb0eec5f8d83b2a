"""Runs and registry: the served model, and all model versions and runs."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import mlflow
import pandas as pd
import streamlit as st

from data.errors import KobeShotError
from data.masking import masked
from monitor.charts.monitoring import trend
from monitor.metrics.binary import METRICS
from monitor.store import listings
from monitor.store.model_store import ModelStore, current_store
from monitor.store.records import ModelVersion, RunInfo
from monitor.ui import cache, widgets
from serving import registry
from serving.client.probe import EndpointInfo

_FIRST_RUN = "make main"
_WITH_TRENDS = ("PipelineAplicacao", "Treinamento", "Monitoramento")
_KEY_METRICS = ("log_loss", "brier", "roc_auc", "f1_score")
_KEPT_SECONDS = 30
_IMAGES = (".png", ".jpg", ".jpeg")
_WHEN = "YYYY-MM-DD HH:mm"


def show() -> None:
    """Render the page."""
    left, right = st.columns([5, 1], vertical_alignment="bottom")
    left.title("Runs and registry")
    if right.button("Refresh", icon=":material/refresh:", width="stretch"):
        st.cache_data.clear()
    st.caption(f"Tracking store and registry: {widgets.plain(masked(mlflow.get_tracking_uri()))}")
    try:
        widgets.require_store()
        _show_served()
        _show_tabs()
    except KobeShotError as error:
        st.error(f"The model registry or the tracking store does not respond. {error}", icon=":material/database_off:")


def _show_served() -> None:
    with registry.translate_store_errors():
        champion, aliases = current_store().champion(), registry.alias_state()
    if champion is None:
        widgets.show_prerequisite(
            "No version of kobe_shot has passed the quality gate yet. Train, register and serve one:", _FIRST_RUN
        )
    else:
        _show_champion(champion, aliases)
    _show_endpoint(champion)


def _show_champion(champion: ModelVersion, aliases: registry.AliasState) -> None:
    columns = st.columns(5)
    loss = champion.test_metrics.get("log_loss")
    previous = aliases.previous_champion
    columns[0].metric("Champion", f"v{champion.version}", border=True)
    columns[1].metric("Model", champion.model_id or "unknown", border=True)
    columns[2].metric("Test log loss", "unknown" if loss is None else f"{loss:.4f}", border=True)
    columns[3].metric("Production", _versions(sorted(aliases.production)), border=True)
    columns[4].metric("Previous champion", f"v{previous}" if previous else "none", border=True)
    st.markdown(
        f"**{registry.model()} version {champion.version}**, champion since {_format_datetime(champion.promoted_at)}. "
        f"Result of the quality gate: {champion.gate_reason or 'unknown'}."
    )
    if aliases.production != {champion.version}:
        st.warning(
            "The stage Production and the alias champion are not on the same version.", icon=":material/warning:"
        )
    if champion.synthetic:
        st.warning("The champion was trained on **synthetic** shots.", icon=":material/science:")
    with st.expander("Model card", icon=":material/verified:"):
        st.markdown(champion.description or "The version has no description.")


def _show_endpoint(champion: ModelVersion | None) -> None:
    url = widgets.endpoint()
    served = cache.served(url)
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**Scoring server** `{masked(url)}`")
            if served is None:
                st.badge("does not respond", icon=":material/cloud_off:", color="red")
            else:
                st.badge("responds", icon=":material/cloud_done:", color="green")
                _badge_version(served, champion)
        if served is None:
            st.caption(
                "Start a server with `make serve`, or with `mlflow models serve -m models:/kobe_shot/Production "
                "--env-manager local`, and set its URL in the sidebar."
            )
        else:
            logged = {True: "on", False: "off", None: "unknown"}
            since = f"Version loaded at {_format_datetime(served.since)} · " if served.since else ""
            st.caption(
                f"{since}MLflow {served.mlflow or 'version unknown'} · inference log: {logged[served.inference_log]}"
            )


def _badge_version(served: EndpointInfo, champion: ModelVersion | None) -> None:
    if served.version is None:
        st.badge("version unknown", icon=":material/help:", color="gray")
    elif champion and served.version == champion.version:
        st.badge(f"version {served.version}, the champion", icon=":material/trophy:", color="blue")
    else:
        st.badge(f"version {served.version}, not the champion", icon=":material/warning:", color="orange")


def _show_tabs() -> None:
    table = cache.last_runs(current_store())
    versions, listed, trends = st.tabs(["Versions", "Runs", "Trends"])
    with versions:
        _show_versions()
    with listed:
        _show_runs(table)
    with trends:
        _show_trends(table)


def _show_versions() -> None:
    store = current_store()
    versions, promotions = cache.versions(store), cache.promotions(store)
    if versions.empty:
        widgets.show_prerequisite("The registry holds no version of kobe_shot yet.", _FIRST_RUN)
        return
    st.dataframe(
        versions,
        hide_index=True,
        column_order=[name for name in listings.VERSION_COLUMNS if name != "run_id"],
        column_config={
            "version": st.column_config.NumberColumn("Version", pinned=True, format="%d"),
            "stage": "Stage",
            "aliases": st.column_config.ListColumn("Aliases"),
            "gate": "Gate",
            "gate_reason": st.column_config.TextColumn("Gate reason", width="medium"),
            "model": "Model",
            "test_log_loss": st.column_config.NumberColumn("Test log loss", format="%.4f"),
            "promotions": st.column_config.NumberColumn("Promotions", format="%d"),
            "created": st.column_config.DatetimeColumn("Registered (UTC)", format=_WHEN, timezone="UTC"),
            "data_source": "Data source",
        },
    )
    st.markdown("**Promotions and rollbacks**, newest first")
    st.dataframe(
        promotions,
        hide_index=True,
        placeholder="-",
        column_order=["when", "version", "kind", "instead_of", "who", "where", "why"],
        column_config={
            "when": st.column_config.DatetimeColumn("Time (UTC)", format=_WHEN, timezone="UTC"),
            "version": st.column_config.NumberColumn("Version", format="%d"),
            "kind": "Kind",
            "instead_of": "Previous champion",
            "who": "User",
            "where": "Host and process",
            "why": st.column_config.TextColumn("Reason", width="large"),
        },
    )


def _show_runs(table: pd.DataFrame) -> None:
    if table.empty:
        widgets.show_prerequisite("The tracking store holds no run of this project yet.", _FIRST_RUN)
        return
    first, second = st.columns([2, 1])
    names = first.multiselect("Run name", sorted(table["name"].unique()), placeholder="all names")
    statuses = second.multiselect("Status", sorted(table["status"].unique()), placeholder="any status")
    kept = table[table["name"].isin(names or table["name"]) & table["status"].isin(statuses or table["status"])]
    st.dataframe(
        kept.assign(status=kept["status"].str.lower()),
        hide_index=True,
        height=320,
        placeholder="-",
        column_order=[
            "start",
            "name",
            "status",
            "seconds",
            "version",
            *_KEY_METRICS,
            "data_source",
            "parent",
            "run_id",
        ],
        column_config=_run_columns(),
    )
    oldest = f"; only the newest {listings.MAX_RUNS:,} are listed" if len(table) >= listings.MAX_RUNS else ""
    st.caption(f"{len(kept):,} of {len(table):,} runs{oldest}. Metrics are those that the run itself logged.")
    if len(kept):
        _show_run(kept)


def _run_columns() -> dict[str, Any]:
    return {
        "start": st.column_config.DatetimeColumn("Start (UTC)", format=_WHEN, timezone="UTC"),
        "name": "Run",
        "status": "Status",
        "seconds": st.column_config.NumberColumn("Duration", format="%.1f s"),
        "version": "Version",
        "data_source": "Data",
        "parent": "Part of",
        "run_id": "Run id",
        **{name: st.column_config.NumberColumn(name.replace("_", " "), format="%.4f") for name in _KEY_METRICS},
    }


def _show_run(table: pd.DataFrame) -> None:
    started = table["start"].dt.strftime("%Y-%m-%d %H:%M:%S UTC")
    labels = dict(zip(table["run_id"].astype(str), table["name"] + ", " + started, strict=True))
    run_id = st.selectbox("Details of", list(labels), format_func=labels.__getitem__)
    found = _details(current_store(), run_id)
    kinds: dict[str, Mapping[str, object]] = {
        "Parameters": found.params,
        "Metrics": found.metrics,
        "Tags": found.tags,
    }
    for column, (title, values) in zip(st.columns(3), kinds.items(), strict=True):
        column.markdown(f"**{title}**")
        column.dataframe(
            pd.DataFrame({"name": list(values), "value": list(values.values())}),
            hide_index=True,
            placeholder="-",
            column_config={
                "name": "Name",
                "value": st.column_config.NumberColumn("Value", format="%.6g") if title == "Metrics" else "Value",
            },
        )
    _show_artifacts(run_id)


def _show_artifacts(run_id: str) -> None:
    paths = _artifacts(current_store(), run_id)
    st.markdown("**Artifacts**")
    if not paths:
        st.caption("This run has no artifacts.")
        return
    with st.container(horizontal=True):
        for path in paths:
            st.download_button(
                path,
                _download(run_id, path),
                path.rpartition("/")[2],
                icon=":material/download:",
                on_click="ignore",
                key=f"runs_artifact_{run_id}_{path}",
            )
    images = [path for path in paths if path.endswith(_IMAGES)]
    for start in range(0, len(images), 3):
        for column, path in zip(st.columns(3), images[start : start + 3], strict=False):
            column.image(_image(current_store(), run_id, path), caption=path, width="stretch")


def _download(run_id: str, path: str) -> Callable[[], bytes]:
    return lambda: current_store().download(run_id, path)


def _show_trends(table: pd.DataFrame) -> None:
    names = [name for name in _WITH_TRENDS if name in set(table["name"])]
    if not names:
        widgets.show_prerequisite("No run has logged metrics yet.", _FIRST_RUN)
        return
    left, right = st.columns([1, 2])
    name = left.selectbox("Runs", names)
    rows = listings.trend_rows(table, name)
    metrics = listings.metric_names(table[table["name"] == name])
    default = [metric for metric in (*METRICS, *metrics) if metric in metrics][:1]
    selected = right.multiselect("Metrics", metrics, default=default, key=f"runs_metrics_{name}")
    if not selected or rows.empty:
        st.info("Select at least one metric of a finished run.", icon=":material/show_chart:")
        return
    st.plotly_chart(trend(rows, selected, f"{name}, {len(rows):,} finished runs"), config={"displayModeBar": False})


def _format_datetime(when: datetime | None) -> str:
    return when.strftime("%Y-%m-%d %H:%M UTC") if when else "unknown"


def _versions(numbers: list[str]) -> str:
    return ", ".join(f"v{number}" for number in numbers) or "none"


@cache.cached(st.cache_data, ttl=_KEPT_SECONDS)
def _details(store: ModelStore, run_id: str) -> RunInfo:
    return listings.run_details(store, run_id)


@cache.cached(st.cache_data, ttl=_KEPT_SECONDS)
def _artifacts(store: ModelStore, run_id: str) -> list[str]:
    return store.artifacts(run_id)


@cache.cached(st.cache_data, max_entries=50)
def _image(store: ModelStore, run_id: str, path: str) -> bytes:
    return store.download(run_id, path)


if __name__ == "__main__":
    show()
