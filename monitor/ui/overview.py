"""Overview: whether the model can be trusted today, and if not, why."""

from datetime import UTC, datetime, timedelta
from typing import Any

import mlflow
import pandas as pd
import streamlit as st

from monitor.charts import monitoring
from monitor.health.checks import NEW_ROWS
from monitor.health.subject import Subject
from monitor.metrics.binary import METRICS
from monitor.store import runs
from monitor.store.runs import Champion, RunInfo
from monitor.store.tables import TableError
from monitor.ui import cache, jobs, running_jobs, subject, widgets
from serving.inference_log import reader

_COLOUR = {"healthy": "green", "watch": "orange", "retrain": "red"}
_ICON = {"healthy": ":material/check_circle:", "watch": ":material/visibility:", "retrain": ":material/model_training:"}
_ANSWER = {
    "healthy": "Yes, it can be trusted.",
    "watch": "Mostly. Somebody should look at this:",
    "retrain": "No. It needs another model:",
}
_CARDS = (("log_loss_skill", "Skill", "{:+.1%}"), ("roc_auc", "ROC AUC", "{:.3f}"))
_RUNS_SHOWN = 8
_FRESH = timedelta(days=1)


def show() -> None:
    """Draw the page."""
    st.title("Can the model be trusted today?")
    store = mlflow.get_tracking_uri()
    with widgets.format_values():
        champion = cache.champion(store)
        source = runs.OF_LOG if widgets.source() == widgets.LOG else runs.OF_APPLICATION
        attempts = cache.looks(store, source)
        application = cache.last_application(store)
    if champion is None:
        widgets.show_prerequisite(
            "No version of kobe_shot has passed the gate yet. Acquire, train, register and apply one:", "make main"
        )
        return
    if champion.synthetic:
        widgets.simulated()
    looks = [run for run in attempts if "verdict" in run.tags]
    # After a rollback the newest verdict is about the version that was taken back: an older one is about the champion.
    of_champion = (run for run in looks if run.tags.get("model_version") == champion.version)
    latest = next(of_champion, looks[0] if looks else None)
    try:
        found = cache.record(latest.run_id) if latest else None
    except TableError as error:
        st.error(str(error), icon=":material/error:")
        found = None
    offered = False
    if latest and found:
        offered = _show_verdict(found, latest, champion)
        offered = _show_age(latest, looks[0], application, champion, offered=offered)
    else:
        what = "" if source == runs.OF_APPLICATION else f" -P current={source}"
        widgets.show_prerequisite(
            f"Nobody has looked at {widgets.source()} yet. Do it:", f"mlflow run . -e monitoramento{what}"
        )
    if attempts and attempts[0].status == "FAILED" and "verdict" not in attempts[0].tags:
        when = f"{attempts[0].started:%Y-%m-%d %H:%M}"
        st.error(f"The last look, at {when} UTC, failed: nothing is known since.", icon=":material/error:")
    # One button that does all that it takes is enough.
    _look_again(offered=offered and source == runs.OF_APPLICATION)
    _show_operation(champion, found)
    if found:
        _show_checks(found)
    _show_history(looks)
    _show_runs(store)


def _show_age(run: RunInfo, newest: RunInfo, application: RunInfo | None, champion: Champion, *, offered: bool) -> bool:
    """Say when a verdict is not about what is there now; whether the button of a new one has been drawn."""
    age = datetime.now(UTC) - run.started
    if newest.run_id != run.run_id:
        st.caption(
            f"The newest look, at {newest.started:%Y-%m-%d %H:%M} UTC, was at version "
            f"{newest.tags.get('model_version', 'unknown')}: {newest.tags['verdict']}."
        )
    if run.tags[runs.SOURCE] == runs.OF_APPLICATION:
        if application and application.run_id != run.tags.get(runs.APPLICATION_RUN):
            by = application.tags.get("model_version", "unknown")
            if by == champion.version or offered:
                st.warning(
                    "The prod table has been applied again since this look. Look again.", icon=":material/update:"
                )
                return offered
            st.warning(
                f"The prod table has been applied since this look by version {by}, which is not the champion.",
                icon=":material/update:",
            )
            subject.new_verdict(champion)
            return True
    elif age > _FRESH:
        st.warning(f"This look is {age.total_seconds() / 3600:.0f} hours old. Look again.", icon=":material/update:")
    return offered


def _show_verdict(found: dict[str, Any], run: RunInfo, champion: Champion) -> bool:
    """Draw a verdict; whether the button of a new one stands beside it, as it is not about the champion as such."""
    verdict, about = found["verdict"], Subject.of_record(found)
    is_champion = about.is_about(champion.version)
    if not is_champion:
        subject.another_version(about, champion)
    elif about.champion != champion.version:
        st.warning(
            f"This look was at version {champion.version} while version {about.champion} was champion: what it says of "
            "the champion is about that one.",
            icon=":material/swap_horiz:",
        )
        subject.new_verdict(champion)
    with st.container(border=True):
        colour = _COLOUR[verdict] if is_champion else "gray"
        st.markdown(f"## :{colour}[{_ICON[verdict]} {verdict}]: version {about.version or 'unknown'}")
        answer = (
            _answer(found) if is_champion else f"Nobody knows yet whether version {champion.version} can be trusted."
        )
        st.markdown(f"**{answer}**")
        st.markdown("\n".join(f"- {widgets.plain(reason)}" for reason in found["reasons"]))
        st.caption(widgets.plain(f"{about.words} Looked at {run.started:%Y-%m-%d %H:%M} UTC."))
    return {about.version, about.champion} != {champion.version}


def _answer(found: dict[str, Any]) -> str:
    own_rows = any(check["code"] == NEW_ROWS and check["status"] == "finding" for check in found["checks"])
    return "Nobody knows: the model knows these rows already." if own_rows else _ANSWER[found["verdict"]]


def _look_again(*, offered: bool) -> None:
    kind = jobs.KINDS["monitoramento"]
    problem = st.empty()
    busy = kind in running_jobs.running()
    label = f"Look again at {widgets.source()}"
    asked = not offered and st.button(label, icon=":material/refresh:", disabled=busy)
    if asked and running_jobs.start("monitoramento", running_jobs.monitoring(), problem):
        st.rerun()
    running_jobs.show([kind])


def _show_operation(champion: Champion, found: dict[str, Any] | None) -> None:
    columns = st.columns(5)
    since = f"{champion.model_id}, since {champion.since:%Y-%m-%d}" if champion.since else champion.model_id
    widgets.card(columns[0], "Champion", f"v{champion.version}", since)
    served = cache.served(widgets.endpoint())
    if served is None:
        widgets.card(columns[1], "Served", "nothing", "start it: make serve")
    else:
        right = "the champion" if served.version == champion.version else "not known to be the champion"
        widgets.card(columns[1], "Served", f"v{served.version}" if served.version else "unknown", right)
    current = (found or {}).get("metrics", {}).get("current")
    if not found or not current:
        test = champion.test_metrics.get("log_loss")
        label = f"Test log loss of v{champion.version}, nats"
        widgets.card(columns[2], label, "unknown" if test is None else f"{test:.4f}")
        if found:
            widgets.card(columns[3], f"Labelled rows of v{Subject.of_record(found).version}", "none", "that count")
        return
    version = f"v{Subject.of_record(found).version}"
    reference = (found["metrics"]["reference"] or {}).get("metrics", {})
    told = _ends(current["metrics"]["log_loss"], "{:.3f}")
    widgets.card(columns[2], f"Log loss of {version}, nats", f"{current['metrics']['log_loss']['value']:.4f}", told)
    for column, (metric, label, form) in zip(columns[3:], _CARDS, strict=True):
        if metric in current["metrics"]:
            note = f"test {form.format(reference[metric]['value'])}" if metric in reference else ""
            value = form.format(current["metrics"][metric]["value"])
            widgets.card(column, f"{label} of {version}", value, note, meaning=METRICS[metric].meaning)
        else:
            widgets.card(column, f"{label} of {version}", "not defined", meaning=METRICS[metric].meaning)
    if current.get("base_rate"):
        st.caption(f"On {widgets.plain(found['current']['name'])} {version} is {current['base_rate']}.")


def _ends(interval: dict[str, float | None], form: str) -> str:
    if interval["low"] is None or interval["high"] is None:
        return "too few rows for an interval"
    return f"95 %: {form.format(interval['low'])} to {form.format(interval['high'])}"


def _show_checks(found: dict[str, Any]) -> None:
    st.subheader(f"What was checked of version {Subject.of_record(found).version or 'unknown'}")
    marks = {"fine": "✓ fine", "finding": "▲ finding", "error": "✗ error", "not applicable": "· not applicable"}
    rows = [
        {
            "code": check["code"],
            "check": check["title"],
            "outcome": marks[check["status"]] + (f", {check['severity']}" if check["severity"] else ""),
            "in words": check["words"],
            "figures": check["figures"],
        }
        for check in found["checks"]
    ]
    # Cells of a data frame show the begin of a sentence only.
    st.table([{name: widgets.plain(value) for name, value in row.items()} for row in rows])


def _show_history(looks: list[RunInfo]) -> None:
    left, right = st.columns([3, 2])
    with left:
        st.subheader("Alarms over time")
        rows = pd.DataFrame(
            {
                "time": pd.to_datetime([run.started for run in looks], utc=True),
                "verdict": [run.tags["verdict"] for run in looks],
                "findings": [int(run.metrics.get("alarms", 0)) for run in looks],
                "reasons": [
                    f"version {run.tags.get('model_version', 'unknown')}: {run.tags.get('reasons', '')}"
                    for run in looks
                ],
            }
        )
        widgets.base_figure(monitoring.status_history(rows), "verdicts")
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
            columns[1], "Labelled", f"{log.labelled / log.rows:.1%}" if log.rows else "none", f"{log.labelled:,}"
        )
        if log.last:
            st.caption(f"Last row at {log.last:%Y-%m-%d %H:%M:%S} UTC by version {log.last_version}.")


def _show_runs(store: str) -> None:
    st.subheader("Last runs")
    with widgets.format_values():
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
