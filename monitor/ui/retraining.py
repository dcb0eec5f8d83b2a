"""Loop: what was decided about the champion and why, when the next look is due, and the buttons that act on it."""

import uuid
from datetime import UTC, datetime
from typing import Any

import mlflow
import streamlit as st

from monitor.charts import retraining
from monitor.health.checks import STALE_AFTER
from monitor.retraining import backtest, calendar, ical_export
from monitor.retraining.calendar import Cadence, CalendarEvent
from monitor.retraining.decision_log import DecisionRecord
from monitor.retraining.policy import RetrainingPolicy
from monitor.store import runs
from monitor.store.runs import Champion, RunInfo
from monitor.store.tables import TableError
from monitor.ui import actions, cache, decision_log, running_jobs, widgets
from serving import registry

_FIRST_RUN, _FIRST_DECISION, _FIRST_REPLAY = "make main", "mlflow run . -e retreino", "mlflow run . -e operacao"
_RHYTHM, _MONTH = "loop_rhythm_kept", "loop_month"


def show() -> None:
    """Draw the page."""
    left, right = st.columns([5, 1], vertical_alignment="bottom")
    left.title("Loop")
    if right.button("Refresh", icon=":material/refresh:", width="stretch"):
        running_jobs.forget()
        st.cache_data.clear()
    st.caption("When the champion is looked at, what is decided about it, why, and what came of it; all times are UTC.")
    running_jobs.show()
    store = mlflow.get_tracking_uri()
    with widgets.format_values():
        champion, looks = cache.champion(store), _looks(store)
    if champion is None:
        widgets.show_prerequisite(
            "No version of kobe_shot has passed the gate yet. Train, register and apply one:", _FIRST_RUN
        )
    try:
        log = cache.decided(store)
    except TableError as error:
        st.error(str(error), icon=":material/error:")
    else:
        _show_now(log, looks, champion)
    draw = {
        "Decisions": _show_decisions,
        "Calendar": _show_calendar,
        "Replayed operation": _show_replays,
        "Retrain and roll back": _show_actions,
    }
    widgets.tabs(draw, store, "loop_tab")


def _looks(store: str) -> list[RunInfo]:
    return [*cache.looks(store, runs.OF_APPLICATION), *cache.looks(store, runs.OF_LOG)]


def _show_now(log: list[DecisionRecord], looks: list[RunInfo], champion: Champion | None) -> None:
    if not log:
        widgets.show_prerequisite("Nothing has been decided yet. Let the loop look, and decide:", _FIRST_DECISION)
        return
    left, right = st.columns([3, 1])
    with left:
        decision_log.show_last(log[0])
    look = calendar.next_look(looks, log, _rhythm(), datetime.now(UTC))
    if champion:
        since = f"since {calendar.format_datetime(champion.since)}" if champion.since else ""
        widgets.card(right, "Champion", f"v{champion.version}", since)
    due = f"{look.due.day} {look.due:%b %Y}"
    widgets.card(
        right, "Next look", "overdue" if look.overdue else due, f"since {due}" if look.overdue else f"{look.due:%A}"
    )


def _show_decisions(store: str) -> None:
    log, promotions = cache.decided(store), cache.promotions(store)
    if log or len(promotions):
        widgets.base_figure(retraining.timeline(log, promotions), "timeline")
    if log:
        decision_log.show_all(log, store, "loop_opened")


def _show_calendar(store: str) -> None:
    now = datetime.now(UTC)
    looks, log, champion = _looks(store), cache.decided(store), cache.champion(store)
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    rhythms = [str(rhythm) for rhythm in Cadence]
    chosen = right.selectbox("A look every", rhythms, index=rhythms.index(_rhythm()), key="loop_rhythm")
    # What a widget holds is forgotten while it is not drawn.
    st.session_state[_RHYTHM] = chosen
    look = calendar.next_look(looks, log, _rhythm(), now)
    right.download_button(
        "Add to calendar (.ics)",
        ical_export.written(look, name=registry.model(), uid=_uid(store), now=now),
        f"{registry.model()}_looks.ics",
        "text/calendar",
        icon=":material/event:",
        on_click="ignore",
        width="stretch",
    )
    training = calendar.next_training(log, RetrainingPolicy().cooldown)
    stale = champion.since + STALE_AFTER if champion and champion.since else None
    with left:
        if look.overdue:
            st.warning(f"**{look.words}**", icon=":material/event_busy:")
        else:
            st.info(f"**{look.words}**", icon=":material/event_upcoming:")
        st.markdown("  \n".join(calendar.milestones(training, stale, now)))
    first = calendar.month_of(now.date(), _month())
    until = calendar.weeks(first)[-1][-1]
    entries = calendar.past_events(looks, log, cache.promotions(store))
    entries += calendar.upcoming_events(look, until, training=training, stale=stale)
    _turn_pages()
    widgets.base_figure(retraining.month(first, entries, now.date()), "month")
    _list([entry for entry in entries if calendar.month_of(entry.day) == first])


def _turn_pages() -> None:
    with st.container(horizontal=True, horizontal_alignment="right"):
        for label, icon, to in (
            ("Month before", ":material/chevron_left:", _month() - 1),
            ("This month", ":material/today:", 0),
            ("Month after", ":material/chevron_right:", _month() + 1),
        ):
            st.button(label, icon=icon, on_click=_turn_to, args=(to,))


def _turn_to(month: int) -> None:
    st.session_state[_MONTH] = month


def _month() -> int:
    return int(st.session_state.get(_MONTH, 0))


def _rhythm() -> Cadence:
    return Cadence(st.session_state.get(_RHYTHM, Cadence.WEEK))


def _uid(store: str) -> str:
    return f"{uuid.uuid5(uuid.NAMESPACE_URL, f'{store}#{registry.model()}')}@kobe-shot"


def _list(entries: list[CalendarEvent]) -> None:
    if not entries:
        st.caption("Nothing stands in this month.")
        return
    rows = [
        {"day": entry.day, "what": entry.kind, "in words": entry.words}
        for entry in sorted(entries, key=lambda entry: entry.day)
    ]
    st.dataframe(rows, hide_index=True, column_config={"day": st.column_config.DateColumn("day", format="ddd, D MMM")})


def _show_replays(store: str) -> None:
    actions.offer_replay()
    found = {run.run_id: run for run in cache.replays(store)}
    if not found:
        widgets.show_prerequisite("No operation has been replayed yet.", _FIRST_REPLAY)
        return
    run_id = st.selectbox(
        "Replay", list(found), format_func=lambda run_id: calendar.format_datetime(found[run_id].started),
        key="loop_replay",
    )  # fmt: skip
    try:
        _show_replay(cache.replayed(store, run_id))
    except TableError as error:
        st.error(str(error), icon=":material/error:")
    log = cache.decided(store, run_id)
    st.subheader("Decisions of this replay")
    if log:
        decision_log.show_all(log, store, "loop_replay_opened")
    else:
        st.caption("This replay has kept no decision.")


def _show_replay(record: dict[str, Any]) -> None:
    batches = record["batches"]
    days = f", from {batches[0]['since']} to {batches[-1]['until']}" if batches else ""
    st.caption(
        f"{record['source']}: {len(batches):,} batches of {record['batch_size']:,} rows{days}; batches until labels "
        f"arrive: {record['label_delay']:,}. Loss is log loss, in nats, of each row by the model of its time."
    )
    for column, (strategy, name) in zip(st.columns(3), backtest.STRATEGIES.items(), strict=True):
        found = record["figures"][strategy]
        note = f"trainings: {found['trainings']:,}, promotions: {found['promotions']:,}"
        widgets.card(column, name.capitalize(), f"{found['log_loss']:.4f}", note)
    widgets.base_figure(retraining.replayed(record), "replay")
    with st.expander("Every batch", icon=":material/table_rows:"):
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


def _show_actions(store: str) -> None:
    del store
    actions.show()


if __name__ == "__main__":
    show()
