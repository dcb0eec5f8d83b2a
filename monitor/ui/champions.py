"""Champions: versions and their decisions, approval and rollback, the policy backtest, and the schedule."""

import uuid
from collections.abc import Hashable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import streamlit as st

from data.errors import TableError
from monitor.charts import retraining
from monitor.health.checks import stale_after
from monitor.metrics.names import metric_name, readable
from monitor.retraining import backtest, calendar, ical_export
from monitor.retraining.calendar import Cadence, CalendarEvent
from monitor.retraining.policy import RetrainingPolicy
from monitor.store.model_store import OF_BATCH_SCORING, OF_LOG, ModelStore, current_store
from monitor.store.records import ModelVersion, MonitoringRun, RetrainingDecision
from monitor.ui import actions, approval, cache, decision_log, running_jobs, widgets
from monitor.ui.text import _, sentence
from serving import registry
from serving.batch.in_process import dataset_of

_FIRST_RUN, _FIRST_DECISION, _FIRST_BACKTEST = "make main", "mlflow run . -e retreino", "mlflow run . -e operacao"
_NO_CHAMPION = "No version of kobe_shot has passed the quality gate yet. Train, register and serve one:"
_CADENCE, _MONTH = "retraining_cadence_kept", "retraining_month"


def show() -> None:
    """Render the page."""
    left, right = st.columns([5, 1], vertical_alignment="center")
    left.title(_("Champions"))
    if right.button(_("Refresh"), icon=":material/refresh:", width="stretch"):
        running_jobs.dismiss()
        cache.clear()
    running_jobs.show()
    with widgets.errors_shown():
        store = current_store()
        champion, monitoring_runs = cache.champion(store), _monitoring_runs(store)
        waits = approval.show(store, champion)
    if champion is None and not waits:
        widgets.show_prerequisite(_(_NO_CHAMPION), _FIRST_RUN)
    try:
        log = cache.decisions(store)
    except TableError as error:
        st.error(str(error), icon=":material/error:")
    else:
        _show_now(log, monitoring_runs, champion)
    draw = {
        "Decisions": _show_decisions,
        "Versions": _show_versions,
        "Calendar": _show_calendar,
        "Policy backtest": _show_backtests,
        "Retrain and roll back": _show_actions,
    }
    widgets.tabs(draw, store, "retraining_tab")


def _monitoring_runs(store: ModelStore) -> list[MonitoringRun]:
    return [*cache.monitoring_runs(store, OF_BATCH_SCORING), *cache.monitoring_runs(store, OF_LOG)]


def _show_now(
    log: list[RetrainingDecision], monitoring_runs: list[MonitoringRun], champion: ModelVersion | None
) -> None:
    if not log:
        widgets.show_prerequisite(
            _("There is no retraining decision yet. Evaluate the retraining policy:"), _FIRST_DECISION
        )
        return
    left, right = st.columns([3, 1])
    with left:
        decision_log.show_last(log[0])
    following = calendar.next_monitoring_run(monitoring_runs, log, _cadence(), datetime.now(UTC))
    if champion:
        since = f"since {calendar.format_datetime(champion.promoted_at)}" if champion.promoted_at else ""
        widgets.card(right, _("Champion"), f"v{champion.version}", since)
    day = f"{following.due.day} {following.due:%b %Y}"
    value, note = ("overdue", f"since {day}") if following.overdue else (day, f"{following.due:%A}")
    widgets.card(right, _("Next scheduled run"), value, note)


def _show_decisions(store: ModelStore) -> None:
    log, promotions = cache.decisions(store), cache.promotions(store)
    if log or len(promotions):
        widgets.base_figure(lambda: retraining.swimlanes(log, promotions, cache.versions(store)), "timeline")
    if log:
        decision_log.show_all(log, store, "retraining_decision", shown_above=log[0].run_id)


def _show_versions(store: ModelStore) -> None:
    versions, promotions = cache.versions(store), cache.promotions(store)
    if versions.empty:
        widgets.show_prerequisite(_("The registry holds no version of kobe_shot yet."), _FIRST_RUN)
        return
    widgets.text_table([_version_row(row) for row in versions.to_dict("records")], "versions")
    widgets.download_table(versions, "versions", "champions_versions")
    st.markdown(f"**{_('Promotions and rollbacks, newest first')}**")
    rows = [
        {
            _("Time (UTC)"): f"{row.when:%Y-%m-%d %H:%M}",
            _("Version"): str(row.version),
            _("Kind"): _(str(row.kind)),
            _("Previous champion"): str(row.instead_of or "-"),
            _("User"): str(row.who or "-"),
            _("Reason"): str(row.why),
        }
        for row in promotions.itertuples()
    ]
    if rows:
        widgets.text_table(rows, "promotions", (14, 8, 10, 10, 14, 44))
        widgets.download_table(pd.DataFrame(promotions), "promotions", "champions_promotions")


def _version_row(row: Mapping[Hashable, Any]) -> dict[str, str]:
    names = ", ".join([*([row["stage"]] if row["stage"] != "None" else []), *row["aliases"]])
    loss, source = row["test_log_loss"], row["data_source"]
    return {
        _("Version"): str(row["version"]),
        _("Stage and aliases"): names or "-",
        _("Model"): widgets.model_label(str(row["model"])),
        _("Gate"): f"{_(str(row['gate']))}\n{readable(str(row['gate_reason']), _)}",
        _("Log loss on the test set"): metric_name("log_loss").format(loss) if loss == loss else "-",  # noqa: PLR0124
        _("Promotions"): str(row["promotions"]),
        _("Registered (UTC)"): f"{row['created']:%Y-%m-%d %H:%M}" if row["created"] == row["created"] else "-",
        _("Data source"): str(source or "-"),
    }


def _show_calendar(store: ModelStore) -> None:
    now = datetime.now(UTC)
    monitoring_runs, log, champion = _monitoring_runs(store), cache.decisions(store), cache.champion(store)
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    cadences = [str(cadence) for cadence in Cadence]
    selected = right.selectbox(
        _("Monitoring run every"), cadences, index=cadences.index(_cadence()), key="retraining_cadence"
    )
    # Streamlit drops the state of a widget that is not rendered.
    st.session_state[_CADENCE] = selected
    following = calendar.next_monitoring_run(monitoring_runs, log, _cadence(), now)
    right.download_button(
        _("Add to calendar (.ics)"),
        ical_export.written(following, name=registry.model(), uid=_uid(store), now=now),
        f"{registry.model()}_monitoring.ics",
        "text/calendar",
        icon=":material/event:",
        on_click="ignore",
        width="stretch",
    )
    training = calendar.next_training(log, RetrainingPolicy().cooldown)
    stale = None
    if champion and champion.promoted_at:
        stale = champion.promoted_at + stale_after(dataset_of(champion.version))
    with left:
        if following.overdue:
            st.warning(f"**{following.description}**", icon=":material/event_busy:")
        else:
            st.info(f"**{following.description}**", icon=":material/event_upcoming:")
        st.markdown("  \n".join(calendar.milestones(training, stale, now)))
    first = calendar.month_of(now.date(), _month())
    until = calendar.month_of(first, 1) - timedelta(days=1)
    events = calendar.past_events(monitoring_runs, log, cache.promotions(store))
    events += calendar.upcoming_events(following, until, training=training, stale=stale)
    _turn_pages()
    st.subheader(f"{first:%B %Y}")
    _list([event for event in events if calendar.month_of(event.day) == first])


def _turn_pages() -> None:
    with st.container(horizontal=True, horizontal_alignment="right"):
        for label, icon, to in (
            ("Previous month", ":material/chevron_left:", _month() - 1),
            ("This month", ":material/today:", 0),
            ("Next month", ":material/chevron_right:", _month() + 1),
        ):
            st.button(label, icon=icon, on_click=_turn_to, args=(to,))


def _turn_to(month: int) -> None:
    st.session_state[_MONTH] = month


def _month() -> int:
    return int(st.session_state.get(_MONTH, 0))


def _cadence() -> Cadence:
    return Cadence(st.session_state.get(_CADENCE, Cadence.WEEK))


def _uid(store: ModelStore) -> str:
    return f"{uuid.uuid5(uuid.NAMESPACE_URL, f'{store.uri}#{registry.model()}')}@kobe-shot"


def _list(events: list[CalendarEvent]) -> None:
    if not events:
        st.caption(_("There is no event in this month."))
        return
    rows = [
        {
            _("day"): f"{event.day:%a, %-d %b}",
            _("event"): _(str(event.kind)),
            _("description"): event.description,
        }
        for event in sorted(events, key=lambda event: event.day)
    ]
    widgets.text_table(rows, "events", (12, 20, 68))


def _show_backtests(store: ModelStore) -> None:
    actions.offer_backtest()
    found = {run.run_id: run for run in cache.backtests(store)}
    if not found:
        widgets.show_prerequisite(_("There is no policy backtest yet."), _FIRST_BACKTEST)
        return
    run_id = st.selectbox(
        _("Backtest"),
        list(found),
        format_func=lambda run_id: f"run on {calendar.format_datetime(found[run_id].started)}",
        key="retraining_backtest",
    )
    try:
        _show_backtest(cache.backtest_record(store, run_id))
    except TableError as error:
        st.error(str(error), icon=":material/error:")
    log = cache.decisions(store, run_id)
    st.subheader(_("Decisions of this backtest"))
    if log:
        decision_log.show_all(log, store, "retraining_backtest_decision")
    else:
        st.caption(_("This backtest holds no decision."))


def _show_backtest(record: dict[str, Any]) -> None:
    batches = record["batches"]
    days = f", from {batches[0]['since']} to {batches[-1]['until']}" if batches else ""
    st.caption(
        sentence(
            f"{record['source']}: {len(batches):,} batches of {record['batch_size']:,} rows{days}; label delay in "
            f"batches: {record['label_delay']:,}. Log loss: mean negative log-likelihood of the model of that time."
        )
    )
    for column, (strategy, name) in zip(st.columns(3), backtest.STRATEGIES.items(), strict=True):
        found = record["strategies"][strategy]
        note = f"trainings: {found['trainings']:,}, promotions: {found['promotions']:,}"
        widgets.card(column, name.capitalize(), f"{found['log_loss']:.4f}", note)
    widgets.base_figure(lambda: retraining.policy_backtest(record), "backtest")
    with st.expander(_("All batches"), icon=":material/table_rows:"):
        st.dataframe(
            batches,
            hide_index=True,
            placeholder="-",
            column_config={
                "number": "batch",
                **{
                    strategy: st.column_config.NumberColumn(name, format="%.4f")
                    for strategy, name in backtest.STRATEGIES.items()
                },
            },
        )


def _show_actions(store: ModelStore) -> None:
    del store
    actions.show()


if __name__ == "__main__":
    show()
