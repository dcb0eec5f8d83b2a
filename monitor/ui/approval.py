"""Versions that wait for the approval of a person: why they passed the gate, and the decision, with a confirmation."""

from datetime import datetime

import streamlit as st

from monitor.retraining import calendar
from monitor.store.model_store import ModelStore
from monitor.store.records import ModelVersion
from monitor.ui import cache, decision_log, jobs, running_jobs, widgets
from monitor.ui.text import _, sentence
from serving import registry

_ROUND = "approval_round"


def notice(store: ModelStore) -> bool:
    """Show which versions wait, with a link to where a person decides; return whether one does."""
    waiting = _waiting(store)
    for version in waiting:
        st.info(
            sentence(f"Version {version.version} passed the gate and waits for the approval of a person."),
            icon=":material/how_to_reg:",
        )
        widgets.link("champions", _("Approve or reject it"), icon=":material/how_to_reg:")
    return bool(waiting)


def show(store: ModelStore, champion: ModelVersion | None) -> bool:
    """Render the versions that wait, newest first, start the decision of a visitor, and return whether one waits."""
    waiting = _waiting(store)
    for version in waiting:
        with st.container(border=True, key=f"approval_{version.version}"):
            _show_version(version, champion.version if champion else "")
    return bool(waiting)


def _waiting(store: ModelStore) -> list[ModelVersion]:
    return [version for version in cache.versions_of(store) if version.awaits_approval]


def _show_version(version: ModelVersion, champion: str) -> None:
    st.markdown(
        f"#### :material/how_to_reg: {sentence(f'Version {version.version} waits for the approval of a person')}"
    )
    held = registry.approval_of(version.tags)
    compared_with = held.get("instead_of", "")
    is_outdated = compared_with != champion
    since = calendar.format_datetime(datetime.fromisoformat(held["requested"])) if "requested" in held else ""
    st.caption(
        sentence(
            f"{widgets.model_label(version.model_id)}, waiting since {since}. Champion and Production are unchanged."
        )
    )
    st.markdown(widgets.plain(sentence(f"{version.gate_reason}.")))
    _show_evidence(version, compared_with)
    if is_outdated:
        st.warning(
            sentence(
                f"It was compared with champion {compared_with or 'none'}; the champion is now {champion or 'none'}. "
                "It cannot be approved: reject it, and train another."
            ),
            icon=":material/update:",
        )
    _decide(version.version, can_approve=not is_outdated)


def _show_evidence(version: ModelVersion, compared_with: str) -> None:
    found = {name: float(version.tags[f"gate_{name}"]) for name in ("loss", "reference_loss", "low", "high")}
    against, reference = _("against the base rate"), _("Log loss of the base rate")
    if compared_with:
        against = sentence(f"against champion v{compared_with}")
        reference = sentence(f"Log loss of champion v{compared_with}")
    columns = st.columns(3)
    widgets.metric_card(
        columns[0], "log_loss", found["loss"], found["reference_loss"], label=_("Log loss of the challenger"),
        compared_with=against,
    )  # fmt: skip
    widgets.card(columns[1], reference, f"{found['reference_loss']:.4f}")
    widgets.card(
        columns[2], _("95% interval of the difference"), f"[{found['low']:+.4f}, {found['high']:+.4f}]",
        _("below zero: the challenger is better"),
    )  # fmt: skip
    test = cache.promotion_test_of(version.run_id)
    if test:
        with st.expander(_("All criteria of the promotion test"), icon=":material/rule:"):
            decision_log.show_promotion_test(test, f"approval_{version.version}")


def _decide(version: str, *, can_approve: bool) -> None:
    problem = st.empty()
    key = f"{version}_{st.session_state.get(_ROUND, 0)}"
    name, reason = st.columns(2)
    who = name.text_input(_("Your name"), value=running_jobs.visitor_name(), key=f"approval_who_{key}", max_chars=200)
    why = reason.text_input(
        _("Reason"), placeholder=_("why it is approved or rejected"), key=f"approval_why_{key}", max_chars=1_000
    )
    busy = running_jobs.running().get(jobs.KINDS["aprovar"])
    with st.container(horizontal=True, vertical_alignment="center"):
        confirmed = st.checkbox(_("Confirm"), key=f"approval_confirm_{key}")
        ready = confirmed and bool(who.strip()) and bool(why.strip()) and busy is None
        approves = st.button(
            _("Approve"), type="primary", icon=":material/check:", disabled=not (ready and can_approve),
            key=f"approval_approve_{key}",
        )  # fmt: skip
        rejects = st.button(_("Reject"), icon=":material/block:", disabled=not ready, key=f"approval_reject_{key}")
        st.caption(_("A confirmation, your name and a reason are required. Both are kept with the version."))
    if not (approves or rejects):
        return
    # One argument each, because a name or a reason may start with a dash.
    arguments = [f"--version={version}", f"--decision={'approve' if approves else 'reject'}"]
    if running_jobs.start("aprovar", [*arguments, f"--reason={why.strip()}", f"--by={who.strip()}"], problem):
        # New widget keys clear the confirmation.
        st.session_state[_ROUND] = st.session_state.get(_ROUND, 0) + 1
        st.rerun()
