"""System: the server's traffic, latency and errors, the inference log, the runs, and the settings."""

import io
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import mlflow
import pandas as pd
import streamlit as st
from PIL import Image

from data.errors import KobeShotError
from data.masking import masked
from data.paths import ROOT
from monitor.charts.monitoring import trend
from monitor.metrics.binary import METRICS
from monitor.metrics.names import KNOWN, metric_name
from monitor.store import listings
from monitor.store.model_store import ModelStore, current_store
from monitor.store.records import ModelVersion, RunInfo
from monitor.ui import cache, settings, traffic, widgets
from monitor.ui.text import _, sentence
from serving import registry
from serving.client.probe import EndpointInfo
from serving.inference_log import reader

_FIRST_RUN = "make main"
_TRAINING = "Treinamento"
_WITH_TRENDS = ("PipelineAplicacao", _TRAINING, "Monitoramento")
_KEY_METRICS = ("log_loss", "brier", "roc_auc", "f1_score")
_KEPT_SECONDS = 30
_MAX_COMPARED = 4
_IMAGES = (".png", ".jpg", ".jpeg")
_WHEN = "YYYY-MM-DD HH:mm"
_MAX_PIXELS = 1_440


def show() -> None:
    """Render the page."""
    left, right = st.columns([5, 1], vertical_alignment="center")
    left.title(_("System"))
    if right.button(_("Refresh"), icon=":material/refresh:", width="stretch"):
        cache.clear()
    store = masked(mlflow.get_tracking_uri()).replace(f"{ROOT}/", "")
    st.caption(f"{_('Tracking store and registry')}: {widgets.plain(store)}")
    try:
        widgets.require_store()
        _show_served()
        _show_tabs()
    except KobeShotError as error:
        st.error(
            f"{_('The model registry or the tracking store does not respond.')} {error}", icon=":material/database_off:"
        )


def _show_served() -> None:
    with registry.translate_store_errors():
        store = current_store()
        champion, aliases = cache.champion(store), cache.alias_state(store)
    if champion is None:
        widgets.show_prerequisite(
            _("No version of kobe_shot has passed the quality gate yet. Train, register and serve one:"), _FIRST_RUN
        )
    else:
        _show_champion(champion, aliases)
    _show_endpoint(champion)


def _show_champion(champion: ModelVersion, aliases: registry.AliasState) -> None:
    is_in_production = aliases.production == {champion.version}
    columns = st.container(key="system_cards").columns(4 if is_in_production else 5)
    loss = champion.test_metrics.get("log_loss")
    previous = aliases.previous_champion
    model = widgets.model_label(champion.model_id) if champion.model_id else _("unknown")
    title = _("Champion and Production") if is_in_production else _("Champion")
    columns[0].metric(title, f"v{champion.version}", border=True)
    columns[1].metric(_("Model"), model.capitalize(), border=True)
    columns[2].metric(
        _("Log loss on the test set"),
        _("unknown") if loss is None else metric_name("log_loss").format(loss),
        border=True,
        help=_(metric_name("log_loss").meaning),
    )
    columns[3].metric(_("Previous champion"), f"v{previous}" if previous else _("none"), border=True)
    if not is_in_production:
        columns[4].metric(_("Production"), _versions(sorted(aliases.production)), border=True)
    st.markdown(
        sentence(
            f"**{registry.model()} version {champion.version}**, champion since "
            f"{_format_datetime(champion.promoted_at)}. "
            f"Result of the quality gate: {champion.gate_reason or 'unknown'}."
        )
    )
    if not is_in_production:
        st.warning(
            _("The stage Production and the alias champion are not on the same version."), icon=":material/warning:"
        )
    if champion.synthetic:
        st.warning(_("The champion was trained on **synthetic** shots."), icon=":material/science:")
    with st.expander(_("Model card"), icon=":material/verified:"):
        st.markdown(champion.description or "The version has no description.")


def _show_endpoint(champion: ModelVersion | None) -> None:
    url = widgets.endpoint()
    served = cache.served(url)
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(sentence(f"**Scoring server** `{masked(url)}`"))
            if served is None:
                st.badge(_("does not respond"), icon=":material/cloud_off:", color="red")
            else:
                st.badge(_("responds"), icon=":material/cloud_done:", color="green")
                _badge_version(served, champion)
        if served is None:
            st.caption(widgets.how_to_serve())
        else:
            logged = {True: "on", False: "off", None: "unknown"}
            since = f"Version loaded at {_format_datetime(served.since)} · " if served.since else ""
            st.caption(
                sentence(
                    f"{since}MLflow {served.mlflow or 'version unknown'} · inference log: "
                    f"{logged[served.inference_log]}"
                )
            )


def _badge_version(served: EndpointInfo, champion: ModelVersion | None) -> None:
    if served.version is None:
        st.badge(_("version unknown"), icon=":material/help:", color="gray")
    elif champion and served.version == champion.version:
        st.badge(sentence(f"version {served.version}, the champion"), icon=":material/trophy:", color="blue")
    else:
        st.badge(sentence(f"version {served.version}, not the champion"), icon=":material/warning:", color="orange")


def _show_tabs() -> None:
    draw = {
        "Traffic": _show_traffic,
        "Runs": _show_runs,
        "Compare runs": _compare_runs,
        "Trends": _show_trends,
        "Settings": _show_settings,
    }
    widgets.tabs(draw, cache.last_runs(current_store()), "system_tab")


def _show_traffic(_table: pd.DataFrame) -> None:
    # That a server is down is written above.
    if cache.served(widgets.endpoint()) is not None:
        traffic.show(widgets.endpoint())
    st.subheader(_("Inference log, all versions"))
    try:
        log = cache.logged(reader.log_url())
    except reader.NoLogError:
        st.info(
            _("No row has been logged yet. The production server logs every scored row: make serve"),
            icon=":material/info:",
        )
        return
    except reader.LogError as error:
        st.info(str(error), icon=":material/info:")
        return
    columns = st.columns(3)
    widgets.card(columns[0], _("Scored rows"), f"{log.rows:,}")
    widgets.card(
        columns[1], _("Labeled"), f"{log.labeled / log.rows:.1%}" if log.rows else _("unknown"), f"{log.labeled:,}"
    )
    if log.last:
        widgets.card(columns[2], _("Newest row"), f"{log.last:%Y-%m-%d %H:%M:%S}", f"{_('version')} {log.last_version}")


def _show_settings(_table: pd.DataFrame) -> None:
    settings.show()


def _compare_runs(table: pd.DataFrame) -> None:
    """Show parameters and metrics of several runs in columns; rows with differences come first."""
    if table.empty:
        widgets.show_prerequisite(_("The tracking store holds no run of this project yet."), _FIRST_RUN)
        return
    labels = _run_labels(table)
    selected = st.multiselect(
        _("Runs"), list(labels), default=_first_compared(table), format_func=labels.__getitem__,
        max_selections=_MAX_COMPARED, key="system_compared",
    )  # fmt: skip
    if not selected:
        st.info(_("Select two runs or more."), icon=":material/compare_arrows:")
        return
    details = {run_id: _details(current_store(), run_id) for run_id in selected}
    for title, values in (
        (
            _("Metrics"),
            {
                run_id: {_(metric_name(key).label): _value(key, value) for key, value in run.metrics.items()}
                for run_id, run in details.items()
            },
        ),
        (_("Parameters"), {run_id: dict(run.params) for run_id, run in details.items()}),
    ):
        compared = pd.DataFrame({labels[run_id]: pd.Series(own, dtype=object) for run_id, own in values.items()})
        if compared.empty:
            continue
        differs = compared.apply(lambda row: len(set(map(str, row))) > 1, axis=1)
        compared.insert(0, _("differs"), differs.map({True: "≠", False: ""}))
        st.markdown(f"**{title}**: {int(differs.sum())} {_('of')} {len(compared)} {_('differ')}")
        ordered = compared.sort_values(_("differs"), ascending=False, kind="stable").rename_axis(_("name"))
        st.dataframe(ordered, placeholder="-")
        widgets.download_table(ordered.reset_index(), f"compared_{title.lower()}", f"system_compared_{title}")


def _value(key: str, value: float) -> str:
    """A metric of a run in its unit; a number without one, such as a count of rows, has no decimals if it has none."""
    return f"{value:,.0f}" if key not in KNOWN and value.is_integer() else metric_name(key).format(value)


def _first_compared(table: pd.DataFrame) -> list[str]:
    """The two newest runs of a step that logs metrics, else two candidates of a training, else the two newest runs."""
    steps = [table[table["name"] == name] for name in _WITH_TRENDS]
    rows = next(rows for rows in (*steps, table[table["parent"] == _TRAINING], table) if len(rows) > 1 or rows is table)
    return list(rows["run_id"].astype(str).head(2))


def _run_labels(table: pd.DataFrame) -> dict[str, str]:
    started = table["start"].dt.strftime("%Y-%m-%d %H:%M:%S UTC")
    return dict(zip(table["run_id"].astype(str), table["name"] + ", " + started, strict=True))


def _show_runs(table: pd.DataFrame) -> None:
    if table.empty:
        widgets.show_prerequisite(_("The tracking store holds no run of this project yet."), _FIRST_RUN)
        return
    first, second = st.columns([2, 1])
    names = first.multiselect(_("Run name"), sorted(table["name"].unique()), placeholder=_("all names"))
    statuses = second.multiselect(_("Status"), sorted(table["status"].unique()), placeholder=_("any status"))
    kept = table[table["name"].isin(names or table["name"]) & table["status"].isin(statuses or table["status"])]
    columns = _run_columns()
    st.dataframe(
        kept.assign(status=kept["status"].str.lower())[[name for name in columns if name in kept]],
        hide_index=True,
        height=320,
        placeholder="-",
        column_config=columns,
    )
    oldest = f"; only the newest {listings.MAX_RUNS:,} are listed" if len(table) >= listings.MAX_RUNS else ""
    st.caption(sentence(f"{len(kept):,} of {len(table):,} runs{oldest}. Metrics are those that the run itself logged."))
    if len(kept):
        _show_run(kept)


def _run_columns() -> dict[str, Any]:
    return {
        "start": st.column_config.DatetimeColumn(_("Start (UTC)"), format=_WHEN, timezone="UTC"),
        "name": st.column_config.TextColumn(_("Run"), width="medium"),
        "status": "Status",
        "seconds": st.column_config.NumberColumn(_("Duration"), format="%.1f s"),
        "version": "Version",
        **{name: st.column_config.NumberColumn(_(metric_name(name).label), format="%.4f") for name in _KEY_METRICS},
        "data_source": "Data",
        "parent": "Part of",
        "run_id": "Run id",
    }


def _show_run(table: pd.DataFrame) -> None:
    labels = _run_labels(table)
    run_id = st.selectbox(_("Details of"), list(labels), format_func=labels.__getitem__)
    found = _details(current_store(), run_id)
    kinds: dict[str, Mapping[str, object]] = {
        "Parameters": found.params,
        "Metrics": found.metrics,
        "Tags": found.tags,
    }
    for column, (title, values) in zip(st.columns([2, 2, 3]), kinds.items(), strict=True):
        column.markdown(f"**{title}**")
        column.dataframe(
            pd.DataFrame(
                {
                    "name": [_(metric_name(name).label) if title == "Metrics" else name for name in values],
                    "value": list(values.values()),
                }
            ),
            hide_index=True,
            placeholder="-",
            column_config={
                "name": "Name",
                "value": st.column_config.NumberColumn(_("Value"), format="%.6g") if title == "Metrics" else "Value",
            },
        )
    _show_artifacts(run_id)


def _show_artifacts(run_id: str) -> None:
    paths = _artifacts(current_store(), run_id)
    st.markdown(_("**Artifacts**"))
    if not paths:
        st.caption(_("This run has no artifacts."))
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
            column.image(_image(current_store(), run_id, path), caption=path, alt=path, width="stretch")


def _download(run_id: str, path: str) -> Callable[[], bytes]:
    return lambda: current_store().download(run_id, path)


def _show_trends(table: pd.DataFrame) -> None:
    names = [name for name in _WITH_TRENDS if name in set(table["name"])]
    if not names:
        widgets.show_prerequisite(_("No run has logged metrics yet."), _FIRST_RUN)
        return
    left, right = st.columns([1, 2])
    name = left.selectbox(_("Runs"), names)
    rows = listings.trend_rows(table, name)
    metrics = listings.metric_names(table[table["name"] == name])
    default = [metric for metric in (*METRICS, *metrics) if metric in metrics][:1]
    selected = right.multiselect(
        _("Metrics"), metrics, default=default, key=f"runs_metrics_{name}",
        format_func=lambda each: _(metric_name(each).label),
    )  # fmt: skip
    if not selected or rows.empty:
        st.info(_("Select at least one metric of a finished run."), icon=":material/show_chart:")
        return
    named = rows.rename(columns={each: _(metric_name(each).label) for each in selected})
    labels = [_(metric_name(each).label) for each in selected]
    title = f"{name}, {len(rows):,} finished run{'s' * (len(rows) != 1)}"
    widgets.base_figure(lambda: trend(named, labels, title), "trend")


def _format_datetime(when: datetime | None) -> str:
    return when.strftime("%Y-%m-%d %H:%M UTC") if when else "unknown"


def _versions(numbers: list[str]) -> str:
    return ", ".join(f"v{number}" for number in numbers) or "none"


@cache.until_written
def _details(store: ModelStore, run_id: str) -> RunInfo:
    return listings.run_details(store, run_id)


@cache.cached(st.cache_data, ttl=_KEPT_SECONDS)
def _artifacts(store: ModelStore, run_id: str) -> list[str]:
    return store.artifacts(run_id)


@cache.cached(st.cache_data, max_entries=50)
def _image(store: ModelStore, run_id: str, path: str) -> bytes:
    """An image of a run; a wide one is scaled once, which Streamlit does in each run of the page."""
    file = store.artifact(run_id, path)
    with Image.open(file) as image:
        if image.width <= _MAX_PIXELS:
            return file.read_bytes()
        image.thumbnail((_MAX_PIXELS, image.height))
        written = io.BytesIO()
        image.save(written, image.format)
    return written.getvalue()


if __name__ == "__main__":
    show()
