"""Overview: the monitoring status of the champion, its reasons, and the checks."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import streamlit as st

from data.errors import TableError
from monitor.charts import monitoring
from monitor.health.checks import NEW_ROWS
from monitor.health.status import CheckStatus
from monitor.health.subject import Subject
from monitor.metrics.binary import METRICS
from monitor.store.model_store import OF_BATCH_SCORING, OF_LOG, ModelStore, current_store
from monitor.store.records import BatchScoringRun, ModelVersion, MonitoringRun
from monitor.ui import cache, jobs, running_jobs, subject, widgets
from serving.inference_log import reader

_COLOR = {"healthy": "green", "warning": "orange", "retraining recommended": "red"}
_ICON = {
    "healthy": ":material/check_circle:",
    "warning": ":material/visibility:",
    "retraining recommended": ":material/model_training:",
}
_CONCLUSION = {
    "healthy": "Yes: every check passed or was skipped.",
    "warning": "With caution: some checks failed.",
    "retraining recommended": "No: retraining is recommended.",
}
_CARDS = (("log_loss_skill", "Skill score", "{:+.1%}"), ("roc_auc", "ROC AUC", "{:.3f}"))
_RUNS_SHOWN = 8
_FRESH = timedelta(days=1)


def show() -> None:
    """Render the page."""
    st.title("Can the model be trusted today?")
    with widgets.errors_shown():
        store = current_store()
        champion = cache.champion(store)
        source = OF_LOG if widgets.source() == widgets.LOG else OF_BATCH_SCORING
        attempts = cache.monitoring_runs(store, source)
        batch_run = cache.last_batch_scoring(store)
    if champion is None:
        widgets.show_prerequisite(
            "No version of kobe_shot has passed the quality gate yet. Train, register and serve one:", "make main"
        )
        return
    if champion.synthetic:
        widgets.synthetic_warning()
    completed = [run for run in attempts if run.health]
    # After a rollback the newest run evaluated the revoked version, and an older one the champion.
    of_champion = (run for run in completed if run.model_version == champion.version)
    latest = next(of_champion, completed[0] if completed else None)
    try:
        found = cache.record(latest.run_id) if latest else None
    except TableError as error:
        st.error(str(error), icon=":material/error:")
        found = None
    offered = False
    if latest and found:
        offered = _show_status(found, latest, champion)
        offered = _show_age(latest, completed[0], batch_run, champion, offered=offered)
    else:
        option = "" if source == OF_BATCH_SCORING else f" -P current={source}"
        widgets.show_prerequisite(
            f"There is no monitoring run of this data source yet ({widgets.source()}). Start one:",
            f"mlflow run . -e monitoramento{option}",
        )
    if attempts and attempts[0].status == "FAILED" and not attempts[0].health:
        when = f"{attempts[0].started:%Y-%m-%d %H:%M}"
        st.error(
            f"The last monitoring run, at {when} UTC, failed. The current status is unknown.", icon=":material/error:"
        )
    # The button that scores and evaluates replaces the one that only evaluates.
    _offer_monitoring(offered=offered and source == OF_BATCH_SCORING)
    _show_metrics(champion, found)
    if found:
        _show_checks(found)
    _show_history(completed)
    _show_runs(store)


def _show_age(
    run: MonitoringRun,
    newest: MonitoringRun,
    batch_run: BatchScoringRun | None,
    champion: ModelVersion,
    *,
    offered: bool,
) -> bool:
    """Warn if the monitoring run is out of date, and return whether a new evaluation has been offered."""
    age = datetime.now(UTC) - run.started
    if newest.run_id != run.run_id:
        st.caption(
            f"The newest monitoring run, at {newest.started:%Y-%m-%d %H:%M} UTC, evaluated version "
            f"{newest.model_version or 'unknown'}: {newest.health}."
        )
    if run.source == OF_BATCH_SCORING:
        if batch_run and batch_run.run_id != run.batch_scoring_run:
            by = batch_run.model_version or "unknown"
            if by == champion.version or offered:
                st.warning(
                    "The production set has been scored again since this monitoring run. Re-run monitoring.",
                    icon=":material/update:",
                )
                return offered
            st.warning(
                f"Since this monitoring run, version {by}, which is not the champion, has scored the production set.",
                icon=":material/update:",
            )
            subject.offer_evaluation(champion)
            return True
    elif age > _FRESH:
        st.warning(
            f"This monitoring run is {age.total_seconds() / 3600:.0f} hours old. Re-run monitoring.",
            icon=":material/update:",
        )
    return offered


def _show_status(found: dict[str, Any], run: MonitoringRun, champion: ModelVersion) -> bool:
    """Show the status and its reasons, and return whether an evaluation of the champion has been offered."""
    status, about = found["status"], Subject.of_record(found)
    is_champion = about.is_about(champion.version)
    if not is_champion:
        subject.another_version(about, champion)
    elif about.champion != champion.version:
        st.warning(
            f"This monitoring run evaluated version {champion.version} while version {about.champion} was champion. "
            f"Its checks of the champion describe version {about.champion}.",
            icon=":material/swap_horiz:",
        )
        subject.offer_evaluation(champion)
    with st.container(border=True):
        color = _COLOR[status] if is_champion else "gray"
        st.markdown(f"## :{color}[{_ICON[status]} {status}]: version {about.version or 'unknown'}")
        unknown = f"Unknown: version {champion.version} has not been evaluated yet."
        st.markdown(f"**{_conclusion(found) if is_champion else unknown}**")
        st.markdown("\n".join(f"- {widgets.plain(reason)}" for reason in found["reasons"]))
        st.caption(widgets.plain(f"{about.description} Evaluated at {run.started:%Y-%m-%d %H:%M} UTC."))
    return {about.version, about.champion} != {champion.version}


def _conclusion(found: dict[str, Any]) -> str:
    own_rows = any(check["code"] == NEW_ROWS and check["status"] == CheckStatus.WARNING for check in found["checks"])
    return "Unknown: these rows are not new to the model." if own_rows else _CONCLUSION[found["status"]]


def _offer_monitoring(*, offered: bool) -> None:
    kind = jobs.KINDS["monitoramento"]
    problem = st.empty()
    busy = kind in running_jobs.running()
    label = f"Re-run monitoring: {widgets.source()}"
    requested = not offered and st.button(label, icon=":material/refresh:", disabled=busy)
    if requested and running_jobs.start("monitoramento", running_jobs.monitoring(), problem):
        st.rerun()
    running_jobs.show([kind])


def _show_metrics(champion: ModelVersion, found: dict[str, Any] | None) -> None:
    columns = st.columns(5)
    since = f"{champion.model_id}, since {champion.promoted_at:%Y-%m-%d}" if champion.promoted_at else champion.model_id
    widgets.card(columns[0], "Champion", f"v{champion.version}", since)
    served = cache.served(widgets.endpoint())
    if served is None:
        widgets.card(columns[1], "Served version", "none", "start a server: make serve")
    else:
        note = "the champion" if served.version == champion.version else "not the champion, or unknown"
        widgets.card(columns[1], "Served version", f"v{served.version}" if served.version else "unknown", note)
    current = (found or {}).get("metrics", {}).get("current")
    if not found or not current:
        test = champion.test_metrics.get("log_loss")
        label = f"Test log loss of v{champion.version}"
        widgets.card(columns[2], label, "unknown" if test is None else f"{test:.4f}")
        if found:
            widgets.card(columns[3], f"New labeled rows of v{Subject.of_record(found).version}", "0")
        return
    version = f"v{Subject.of_record(found).version}"
    reference = (found["metrics"]["reference"] or {}).get("metrics", {})
    meaning = f"{METRICS['log_loss'].meaning}; with its 95% confidence interval"
    interval = _format_interval(current["metrics"]["log_loss"], "{:.3f}")
    widgets.card(
        columns[2],
        f"Log loss of {version}",
        f"{current['metrics']['log_loss']['value']:.4f}",
        interval,
        meaning=meaning,
    )
    for column, (metric, label, form) in zip(columns[3:], _CARDS, strict=True):
        if metric in current["metrics"]:
            note = f"test {form.format(reference[metric]['value'])}" if metric in reference else ""
            value = form.format(current["metrics"][metric]["value"])
            widgets.card(column, f"{label} of {version}", value, note, meaning=METRICS[metric].meaning)
        else:
            widgets.card(column, f"{label} of {version}", "not defined", meaning=METRICS[metric].meaning)
    if current.get("base_rate"):
        st.caption(f"On {widgets.plain(found['current']['name'])} {version} is {current['base_rate']}.")


def _format_interval(interval: dict[str, float | None], form: str) -> str:
    if interval["low"] is None or interval["high"] is None:
        return "too few rows for an interval"
    return f"[{form.format(interval['low'])}, {form.format(interval['high'])}]"


def _show_checks(found: dict[str, Any]) -> None:
    st.subheader(f"Checks of version {Subject.of_record(found).version or 'unknown'}")
    marks = {"passed": "✓", "warning": "▲", "failed": "▲", "error": "✗", "skipped": "·"}
    rows = [
        {
            "code": check["code"],
            "check": check["title"],
            "result": f"{marks[check['status']]} {check['status']}",
            "summary": check["message"],
            "details": check["details"],
        }
        for check in found["checks"]
    ]
    # Unlike a data frame, a table wraps long sentences.
    st.table([{name: widgets.plain(value) for name, value in row.items()} for row in rows])


def _show_history(monitoring_runs: list[MonitoringRun]) -> None:
    left, right = st.columns([3, 2])
    with left:
        st.subheader("Alert history")
        rows = pd.DataFrame(
            {
                "time": pd.to_datetime([run.started for run in monitoring_runs], utc=True),
                "status": [run.health for run in monitoring_runs],
                "alerts": [int(run.metrics.get("alarms", 0)) for run in monitoring_runs],
                "reasons": [
                    f"version {run.model_version or 'unknown'}: {'; '.join(run.reasons)}" for run in monitoring_runs
                ],
            }
        )
        widgets.base_figure(monitoring.status_history(rows), "status_history")
    with right:
        st.subheader("Inference log, all versions")
        try:
            log = cache.logged(reader.log_url())
        except reader.LogError as error:
            st.info(str(error), icon=":material/info:")
            return
        columns = st.columns(2)
        widgets.card(columns[0], "Scored rows", f"{log.rows:,}")
        widgets.card(
            columns[1], "Labeled", f"{log.labeled / log.rows:.1%}" if log.rows else "unknown", f"{log.labeled:,}"
        )
        if log.last:
            st.caption(f"Newest row: {log.last:%Y-%m-%d %H:%M:%S} UTC, scored by version {log.last_version}.")


def _show_runs(store: ModelStore) -> None:
    st.subheader("Latest runs")
    with widgets.errors_shown():
        table = cache.last_runs(store)
    if table.empty:
        st.info("There is no run yet.", icon=":material/info:")
        return
    shown = table[["name", "status", "start", "seconds", "version", "data_source"]].head(_RUNS_SHOWN)
    st.dataframe(
        shown,
        hide_index=True,
        column_config={
            "start": st.column_config.DatetimeColumn("start, UTC", format="YYYY-MM-DD HH:mm"),
            "seconds": st.column_config.NumberColumn("duration, s", format="%.1f"),
        },
    )


if __name__ == "__main__":
    show()
