"""Decisions of the loop on a page: the last one, a table of all, and one of them with every figure behind it."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pandas as pd
import streamlit as st

from monitor.retraining import calendar, decision_log
from monitor.retraining.decision_log import DecisionRecord
from monitor.store.tables import TableError
from monitor.ui import cache, widgets

_BADGES: dict[str, tuple[str, Literal["gray", "blue", "green", "orange", "red", "violet"]]] = {
    decision_log.PENDING: (":material/hourglass_top:", "blue"),
    decision_log.PROMOTED: (":material/trophy:", "green"),
    decision_log.REFUSED: (":material/block:", "orange"),
    decision_log.INTERRUPTED: (":material/power_off:", "violet"),
    decision_log.FAILED: (":material/error:", "red"),
    decision_log.NOTHING: (":material/check:", "gray"),
}
_FIRED = {True: "▲ asks for a new model", False: "✓ does not"}
_HOLDS = {True: "✓ holds", False: "✗ does not hold"}
_UNKNOWN = "· cannot be told"
_WHEN = "YYYY-MM-DD HH:mm"
_ROW, _HEADER, _MOST_ROWS = 35, 38, 10


def show_last(decision: DecisionRecord) -> None:
    """Say what was decided last, why, and what came of it."""
    with st.container(border=True, height="stretch"):
        st.markdown(f"#### {widgets.plain(calendar.describe_decision(decision))}")
        with st.container(horizontal=True):
            waits = decision.decision == decision_log.WAIT
            st.badge(
                decision.decision,
                icon=":material/hourglass_empty:" if waits else ":material/model_training:",
                color="gray" if waits else "orange",
            )
            if decision.trigger:
                st.badge(decision.trigger, icon=":material/sensors:", color="blue")
            if calendar.acted(decision):
                icon, colour = _BADGES.get(decision.outcome, (":material/help:", "gray"))
                st.badge(decision.outcome, icon=icon, color=colour)
            if decision.mode != "auto":
                st.badge(decision.mode.replace("_", " "), icon=":material/touch_app:", color="violet")
        _show_reasons(decision)


def show_all(log: Sequence[DecisionRecord], store: str, key: str) -> None:
    """Draw the table of decisions, newest first, and the one that is opened.

    Parameters
    ----------
    log : sequence of LoggedDecision
        Newest first, at least one.
    store : str
        Tracking store that holds them.
    key : str
        Apart for each log on a page.
    """
    st.dataframe(
        _table(log),
        hide_index=True,
        placeholder="-",
        height=_HEADER + _ROW * min(len(log), _MOST_ROWS),
        column_config={
            "number": st.column_config.NumberColumn("Decision", pinned=True, format="%d"),
            "moment": st.column_config.DatetimeColumn("When (UTC)", format=_WHEN, timezone="UTC"),
            "decision": "Decided",
            "outcome": "What came of it",
            "reasons": st.column_config.TextColumn("Why", width="large"),
            "champion": "Champion",
            "challenger": "Challenger",
            "labels": st.column_config.NumberColumn("Labels", format="localized"),
            "new_labels": st.column_config.NumberColumn("of them new", format="localized"),
            "mode": "Mode",
        },
    )
    by_run = {decision.run_id: decision for decision in log}
    run_id = st.selectbox(
        "Open a decision", list(by_run), format_func=lambda run_id: calendar.describe_decision(by_run[run_id]), key=key
    )
    _show(by_run[run_id], store)


def _table(log: Sequence[DecisionRecord]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "number": [decision.number for decision in log],
            "moment": pd.to_datetime([decision.moment for decision in log], utc=True),
            "decision": [
                f"{decision.decision} ({decision.trigger})" if decision.trigger else decision.decision
                for decision in log
            ],
            "outcome": [decision.outcome if calendar.acted(decision) else None for decision in log],
            "champion": [decision.champion or None for decision in log],
            "challenger": [decision.challenger or None for decision in log],
            "reasons": ["; ".join(decision.reasons) for decision in log],
            "labels": [decision.labels for decision in log],
            "new_labels": [decision.new_labels for decision in log],
            "mode": [decision.mode.replace("_", " ") for decision in log],
        }
    )


def _show(decision: DecisionRecord, store: str) -> None:
    with st.container(border=True):
        st.markdown(f"**{widgets.plain(calendar.describe_decision(decision))}**")
        _show_reasons(decision)
        try:
            record = cache.decision(store, decision.run_id)
        except TableError as error:
            st.error(str(error), icon=":material/error:")
            return
        _show_figures(record)
        st.caption(f"Run {decision.run_id}, of which {decision_log.RECORD} holds every figure.")


def _show_reasons(decision: DecisionRecord) -> None:
    st.markdown("\n".join(f"- {widgets.plain(reason)}" for reason in decision.reasons) or "No reason is written down.")
    if calendar.acted(decision) and decision.outcome_reason:
        st.markdown(f"What came of it: {widgets.plain(decision.outcome_reason)}.".replace("..", "."))
    until = f" until {calendar.format_datetime(decision.labels_until)}" if decision.labels_until else ""
    champion = f"version {decision.champion}" if decision.champion else "none"
    challenger = f" · challenger version {decision.challenger}" if decision.challenger else ""
    st.caption(
        f"Champion {champion}{challenger} · {decision.labels:,} labelled rows{until}, "
        f"{decision.new_labels:,} of them new to any training"
    )


def _show_figures(record: Mapping[str, Any]) -> None:
    signals = [
        {
            "signal": each.get("name"),
            "kind": each.get("kind"),
            "says": _word(_FIRED, each.get("fired")),
            "in words": each.get("words"),
            "figures": _text(each.get("figures")),
        }
        for each in _listed(record, "signals")
    ]
    guards = [
        {"guard": each.get("name"), "holds": _word(_HOLDS, each.get("holds")), "in words": each.get("words")}
        for each in _listed(record, "guards")
    ]
    windows = [
        {
            "from": _text(each.get("start")).replace("T", " "),
            "to": _text(each.get("end")).replace("T", " "),
            "labelled rows": each.get("rows"),
            "log loss": each.get("log_loss"),
            "F1": each.get("f1_score"),
            "skill": each.get("skill"),
            "violations": _text(each.get("violations")) or "none",
        }
        for each in _listed(record, "windows")
    ]
    challenge = record.get("challenge")
    _show_table("Signals", signals)
    _show_table("Guards: what must hold before a model is trained", guards)
    _show_table("Windows of labelled rows that the champion scored, oldest first", windows)
    if isinstance(challenge, dict):
        _show_challenge(challenge)
    if not (signals or guards or windows or challenge):
        st.info(f"{decision_log.RECORD} of this decision holds no figures.", icon=":material/info:")


def _show_challenge(challenge: Mapping[str, Any]) -> None:
    passed = _word({True: "passed", False: "did not pass"}, challenge.get("passed"))
    comparisons = [
        {
            "compared with": each.get("name"),
            "rows": each.get("rows"),
            "challenger's log loss": each.get("log_loss"),
            "the other's": each.get("reference_log_loss"),
            "difference": each.get("difference"),
            "95 % from": each.get("low"),
            "to": each.get("high"),
            "verdict": each.get("verdict"),
            "in words": each.get("words"),
        }
        for each in _listed(challenge, "comparisons")
    ]
    st.markdown(
        f"**The challenger on later rows: {passed}.** {widgets.plain(challenge.get('reason') or 'No reason is kept.')}"
    )
    _show_table("", comparisons)


def _show_table(title: str, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    if title:
        st.markdown(f"**{title}**")
    table = pd.DataFrame(rows).convert_dtypes()
    floats = {str(name): st.column_config.NumberColumn(format="%.4f") for name in table.select_dtypes("Float64")}
    st.dataframe(table, hide_index=True, height=_HEADER + _ROW * len(table), placeholder="-", column_config={**floats})


def _listed(record: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = record.get(key)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _word(words: Mapping[bool, str], value: object) -> str:
    return words[value] if isinstance(value, bool) else _UNKNOWN


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {figure}" for name, figure in value.items())
    if isinstance(value, list):
        return "; ".join(map(str, value))
    return "" if value is None else str(value)
