"""Retraining decisions: the last one, a table of all, and the details of a selected one."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pandas as pd
import streamlit as st

from data.errors import TableError
from monitor.metrics.names import metric_name, readable
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
_MAX_ROWS = 10


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


def show_all(log: Sequence[RetrainingDecision], store: ModelStore, key: str, *, shown_above: str = "") -> None:
    """Show the table of the newest decisions, and the details of the selected one.

    Parameters
    ----------
    log : sequence of RetrainingDecision
        Newest first; not empty.
    store : ModelStore
    key : str
        Widget key, unique on the page.
    shown_above : str
        Run of a decision whose reasons are on the page already.
    """
    widgets.text_table([_row(decision) for decision in log[:_MAX_ROWS]], key)
    widgets.download_table(_table(log), "decisions", f"{key}_download")
    by_run = {decision.run_id: decision for decision in log}
    run_id = st.selectbox(
        _("Show a decision"),
        list(by_run),
        # A browser keeps the text of an option that it shows, and an outcome may change.
        format_func=lambda run_id: sentence(calendar.describe_decision(by_run[run_id], with_outcome=False)),
        key=key,
    )
    _show(by_run[run_id], store, is_shown_above=run_id == shown_above)


def _row(decision: RetrainingDecision) -> dict[str, str]:
    trigger = f" ({sentence(decision.trigger)})" if decision.trigger else ""
    mode = "" if decision.mode == "auto" else decision.mode.replace("_", " ")
    new = f"{decision.new_labels:,} {_('new')}"
    return {
        _("Number"): str(decision.number),
        _("Time (UTC)"): f"{decision.decided_at:%Y-%m-%d %H:%M}",
        _("Decision"): f"{_(decision.decision)}{trigger}\n{mode}",
        _("Outcome"): _(decision.outcome) if calendar.acted(decision) else "-",
        _("Champion"): decision.champion or "-",
        _("Challenger"): decision.challenger or "-",
        _("Reasons"): "\n".join(readable(reason, _) for reason in decision.reasons),
        _("Labels"): f"{decision.labels:,}\n{new}",
    }


def _table(log: Sequence[RetrainingDecision]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "number": decision.number,
            "decided_at": decision.decided_at,
            "decision": decision.decision,
            "trigger": decision.trigger,
            "mode": decision.mode,
            "outcome": decision.outcome,
            "champion": decision.champion,
            "challenger": decision.challenger,
            "reasons": "; ".join(decision.reasons),
            "labels": decision.labels,
            "new_labels": decision.new_labels,
        }
        for decision in log
    )


def _show(decision: RetrainingDecision, store: ModelStore, *, is_shown_above: bool) -> None:
    with st.container(border=True):
        if not is_shown_above:
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
        "\n".join(f"- {widgets.plain(sentence(readable(reason, _)))}" for reason in decision.reasons)
        or _("No reason is logged.")
    )
    if calendar.acted(decision) and decision.outcome_reason:
        st.markdown(f"{_('Outcome')}: {widgets.plain(sentence(decision.outcome_reason))}.".replace("..", "."))
    until = f" until {calendar.format_time_of_label(decision.labels_until)}" if decision.labels_until else ""
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
            "trigger": _text(each.get("name")),
            "kind": _text(each.get("kind")),
            "status": _status(_FIRED, each.get("fired")),
            "summary": _with_details(each.get("summary"), each.get("details")),
        }
        for each in _listed(record, "triggers")
    ]
    preconditions = [
        {
            "precondition": _text(each.get("name")),
            "status": _status(_MET, each.get("met")),
            "summary": readable(_text(each.get("summary")), _),
        }
        for each in _listed(record, "preconditions")
    ]
    windows = [
        {
            "from": _time(each.get("start")),
            "to": _time(each.get("end")),
            "labeled rows": _number(each.get("rows")),
            "log loss": _metric("log_loss", each.get("log_loss")),
            "F1": _metric("f1_score", each.get("f1_score")),
            "skill score": _metric("log_loss_skill", each.get("skill")),
            "breaches": readable(_text(each.get("breaches")), _) or "none",
        }
        for each in _listed(record, "windows")
    ]
    promotion_test = record.get("promotion_test")
    _show_table("Triggers", triggers, (23, 10, 13, 54), "triggers")
    if triggers:
        st.caption(
            _(
                "The checks among the triggers evaluate only the latest rows that the champion scored (parameter "
                "recent_rows, by default 2,000). Today evaluates all rows, so its numbers may differ."
            )
        )
    _show_table("Preconditions of a training", preconditions, (33, 13, 54), "preconditions")
    title = "Windows of labeled rows that the champion scored, oldest first"
    _show_table(title, windows, (11, 11, 10, 9, 8, 9, 42), "windows")
    if isinstance(promotion_test, dict):
        show_promotion_test(promotion_test, "decision")
    if not (triggers or preconditions or windows or promotion_test):
        st.info(sentence(f"{decision_log.RECORD} of this decision holds no details."), icon=":material/info:")


def show_promotion_test(promotion_test: Mapping[str, Any], key: str) -> None:
    """Show the criteria of a promotion test, and whether they are met; the key is unique on the page."""
    passed = _status({True: "passed", False: "failed"}, promotion_test.get("passed"))
    criteria = [
        {
            "criterion": readable(_text(each.get("name")), _),
            "rows": _number(each.get("rows")),
            "challenger's log loss": _metric("log_loss", each.get("log_loss")),
            "baseline's log loss": _metric("log_loss", each.get("reference_log_loss")),
            "difference": _difference(each),
            "result": _text(each.get("result")),
            "summary": readable(_text(each.get("summary")), _),
        }
        for each in _listed(promotion_test, "criteria")
    ]
    reason = widgets.plain(sentence(promotion_test.get("reason") or "No reason is logged."))
    st.markdown(sentence(f"**Promotion test: {passed}.** {reason}"))
    _show_table("", criteria, (19, 7, 10, 10, 15, 9, 30), f"criteria_{key}")


def _show_table(title: str, rows: list[dict[str, str]], widths: Sequence[int], key: str) -> None:
    if not rows:
        return
    if title:
        st.markdown(f"**{_(title)}**")
    translated = [{_(name): value or "-" for name, value in row.items()} for row in rows]
    widgets.text_table(translated, key, widths)


def _with_details(summary: object, details: object) -> str:
    return "\n".join(filter(None, (readable(_text(summary), _), readable(_text(details), _))))


def _difference(criterion: Mapping[str, Any]) -> str:
    """The difference of the log losses, and below it its interval."""
    name, ends = metric_name("log_loss"), [criterion.get(end) for end in ("low", "high")]
    value = criterion.get("difference")
    if not isinstance(value, float):
        return ""
    interval = ", ".join(name.format(end, signed=True) for end in ends if isinstance(end, float))
    return f"{name.format(value, signed=True)}\n[{interval}]"


def _metric(name: str, value: object) -> str:
    return metric_name(name).format(value) if isinstance(value, int | float) else ""


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else _text(value)


def _time(value: object) -> str:
    """A time to the minute; without a time of day where the table has dates only."""
    return _text(value).removesuffix("T00:00:00").replace("T", " ")[:16]


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
