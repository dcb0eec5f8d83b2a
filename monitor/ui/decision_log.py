"""Retraining decisions: the last one, a table of all, and the details of a selected one."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pandas as pd
import streamlit as st

from data.errors import TableError
from monitor.retraining import calendar, decision_log
from monitor.store import records
from monitor.store.model_store import ModelStore
from monitor.store.records import RetrainingDecision
from monitor.ui import cache, widgets
from monitor.ui.text import _, sentence

_BADGES: dict[str, tuple[str, Literal["gray", "blue", "green", "orange", "red", "violet"]]] = {
    records.PENDING: (":material/hourglass_top:", "blue"),
    records.AWAITING: (":material/how_to_reg:", "orange"),
    records.PROMOTED: (":material/trophy:", "green"),
    records.REJECTED: (":material/block:", "orange"),
    records.INTERRUPTED: (":material/power_off:", "violet"),
    records.FAILED: (":material/error:", "red"),
    records.NOTHING_TO_DO: (":material/check:", "gray"),
}
_FIRED = {True: "▲ fired", False: "✓ did not fire"}
_MET = {True: "✓ met", False: "✗ not met"}
_UNKNOWN = "· unknown"
_WHEN = "YYYY-MM-DD HH:mm"
_ROW, _HEADER, _MAX_ROWS = 35, 38, 10


def show_last(decision: RetrainingDecision) -> None:
    """Show the last decision, its reasons and its outcome."""
    with st.container(border=True, height="stretch"):
        st.markdown(f"#### {widgets.plain(sentence(calendar.describe_decision(decision)))}")
        with st.container(horizontal=True):
            is_waiting = decision.decision == records.NO_ACTION
            st.badge(
                _(decision.decision),
                icon=":material/hourglass_empty:" if is_waiting else ":material/model_training:",
                color="gray" if is_waiting else "orange",
            )
            if decision.trigger:
                st.badge(sentence(decision.trigger), icon=":material/sensors:", color="blue")
            if calendar.acted(decision):
                icon, color = _BADGES.get(decision.outcome, (":material/help:", "gray"))
                st.badge(_(decision.outcome), icon=icon, color=color)
            if decision.mode != "auto":
                st.badge(_(decision.mode.replace("_", " ")), icon=":material/touch_app:", color="violet")
        _show_reasons(decision)


def show_all(log: Sequence[RetrainingDecision], store: ModelStore, key: str) -> None:
    """Show the table of decisions, newest first, and the details of the selected one.

    Parameters
    ----------
    log : sequence of RetrainingDecision
        Newest first; not empty.
    store : ModelStore
    key : str
        Widget key, unique on the page.
    """
    st.dataframe(
        _table(log),
        hide_index=True,
        placeholder="-",
        height=_HEADER + _ROW * min(len(log), _MAX_ROWS),
        column_config={
            "number": st.column_config.NumberColumn(_("Number"), pinned=True, format="%d"),
            "decided_at": st.column_config.DatetimeColumn(_("Time (UTC)"), format=_WHEN, timezone="UTC"),
            "decision": _("Decision"),
            "outcome": _("Outcome"),
            "reasons": st.column_config.TextColumn(_("Reasons"), width="large"),
            "champion": _("Champion"),
            "challenger": _("Challenger"),
            "labels": st.column_config.NumberColumn(_("Labels"), format="localized"),
            "new_labels": st.column_config.NumberColumn(_("New labels"), format="localized"),
            "mode": _("Mode"),
        },
    )
    by_run = {decision.run_id: decision for decision in log}
    run_id = st.selectbox(
        _("Show a decision"),
        list(by_run),
        format_func=lambda run_id: sentence(calendar.describe_decision(by_run[run_id])),
        key=key,
    )
    _show(by_run[run_id], store)


def _table(log: Sequence[RetrainingDecision]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "number": [decision.number for decision in log],
            "decided_at": pd.to_datetime([decision.decided_at for decision in log], utc=True),
            "decision": [
                f"{_(decision.decision)} ({sentence(decision.trigger)})" if decision.trigger else _(decision.decision)
                for decision in log
            ],
            "outcome": [_(decision.outcome) if calendar.acted(decision) else None for decision in log],
            "champion": [decision.champion or None for decision in log],
            "challenger": [decision.challenger or None for decision in log],
            "reasons": ["; ".join(map(sentence, decision.reasons)) for decision in log],
            "labels": [decision.labels for decision in log],
            "new_labels": [decision.new_labels for decision in log],
            "mode": [_(decision.mode.replace("_", " ")) for decision in log],
        }
    )


def _show(decision: RetrainingDecision, store: ModelStore) -> None:
    with st.container(border=True):
        st.markdown(f"**{widgets.plain(sentence(calendar.describe_decision(decision)))}**")
        _show_reasons(decision)
        try:
            record = cache.decision(store, decision.run_id)
        except TableError as error:
            st.error(str(error), icon=":material/error:")
            return
        _show_details(record)
        st.caption(sentence(f"Artifact {decision_log.RECORD} of run {decision.run_id} holds all details."))


def _show_reasons(decision: RetrainingDecision) -> None:
    st.markdown(
        "\n".join(f"- {widgets.plain(sentence(reason))}" for reason in decision.reasons) or _("No reason is logged.")
    )
    if calendar.acted(decision) and decision.outcome_reason:
        st.markdown(f"{_('Outcome')}: {widgets.plain(sentence(decision.outcome_reason))}.".replace("..", "."))
    until = f" until {calendar.format_datetime(decision.labels_until)}" if decision.labels_until else ""
    champion = f"version {decision.champion}" if decision.champion else "none"
    challenger = f" · challenger version {decision.challenger}" if decision.challenger else ""
    st.caption(
        sentence(
            f"Champion {champion}{challenger} · {decision.labels:,} labeled rows{until}, "
            f"{decision.new_labels:,} of them in no training set yet"
        )
    )


def _show_details(record: Mapping[str, Any]) -> None:
    triggers = [
        {
            "trigger": each.get("name"),
            "kind": each.get("kind"),
            "status": _status(_FIRED, each.get("fired")),
            "summary": each.get("summary"),
            "details": _text(each.get("details")),
        }
        for each in _listed(record, "triggers")
    ]
    preconditions = [
        {"precondition": each.get("name"), "status": _status(_MET, each.get("met")), "summary": each.get("summary")}
        for each in _listed(record, "preconditions")
    ]
    windows = [
        {
            "from": _text(each.get("start")).replace("T", " "),
            "to": _text(each.get("end")).replace("T", " "),
            "labeled rows": each.get("rows"),
            "log loss": each.get("log_loss"),
            "F1": each.get("f1_score"),
            "skill score": each.get("skill"),
            "breaches": _text(each.get("breaches")) or "none",
        }
        for each in _listed(record, "windows")
    ]
    promotion_test = record.get("promotion_test")
    _show_table("Triggers", triggers)
    _show_table("Preconditions of a training", preconditions)
    _show_table("Windows of labeled rows that the champion scored, oldest first", windows)
    if isinstance(promotion_test, dict):
        show_promotion_test(promotion_test)
    if not (triggers or preconditions or windows or promotion_test):
        st.info(sentence(f"{decision_log.RECORD} of this decision holds no details."), icon=":material/info:")


def show_promotion_test(promotion_test: Mapping[str, Any]) -> None:
    """Show the criteria of a promotion test, and whether they are met."""
    passed = _status({True: "passed", False: "failed"}, promotion_test.get("passed"))
    criteria = [
        {
            "criterion": each.get("name"),
            "rows": each.get("rows"),
            "challenger's log loss": each.get("log_loss"),
            "baseline's log loss": each.get("reference_log_loss"),
            "difference": each.get("difference"),
            "95% CI, low": each.get("low"),
            "95% CI, high": each.get("high"),
            "result": each.get("result"),
            "summary": each.get("summary"),
        }
        for each in _listed(promotion_test, "criteria")
    ]
    reason = widgets.plain(sentence(promotion_test.get("reason") or "No reason is logged."))
    st.markdown(sentence(f"**Promotion test on the temporal hold-out: {passed}.** {reason}"))
    _show_table("", criteria)


def _show_table(title: str, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    if title:
        st.markdown(f"**{_(title)}**")
    translated = [
        {_(name): sentence(value) if isinstance(value, str) else value for name, value in row.items()} for row in rows
    ]
    table = pd.DataFrame(translated).convert_dtypes()
    floats = {str(name): st.column_config.NumberColumn(format="%.4f") for name in table.select_dtypes("Float64")}
    st.dataframe(table, hide_index=True, height=_HEADER + _ROW * len(table), placeholder="-", column_config={**floats})


def _listed(record: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = record.get(key)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _status(labels: Mapping[bool, str], value: object) -> str:
    return labels[value] if isinstance(value, bool) else _UNKNOWN


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    if isinstance(value, list):
        return "; ".join(map(str, value))
    return "" if value is None else str(value)
