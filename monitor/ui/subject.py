"""What the figures of a page are about; where that is not the champion, the button that makes a verdict about it."""

import mlflow
import streamlit as st

from monitor.health.checks import MOST_OWN
from monitor.health.subject import Subject
from monitor.store.runs import Champion
from monitor.ui import cache, jobs, running_jobs, widgets

_STEP = "monitoramento"


def show(subject: Subject) -> None:
    """Say what the figures of the page are about, and that it is not the champion where it is not."""
    st.caption(widgets.plain(subject.words))
    if subject.own > MOST_OWN * subject.looked_at:
        st.warning(
            f"**{subject.own:,} of these rows are known to {subject.who} already**: it was trained on them, or they "
            f"are rows of {widgets.plain(subject.reference)} itself. Drift and estimates are shown and not "
            f"judged: they "
            "say nothing of new rows.",
            icon=":material/content_copy:",
        )
    champion = cache.champion(mlflow.get_tracking_uri())
    if champion and not subject.is_about(champion.version):
        another_version(subject, champion)


def another_version(subject: Subject, champion: Champion) -> None:
    """Say that figures are about another version than the champion, with the button that makes a verdict about it."""
    since = f", since {champion.since:%Y-%m-%d %H:%M} UTC" if champion.since else ""
    st.warning(
        f"**These figures are about {subject.who}.** The champion is version {champion.version}{since}.",
        icon=":material/swap_horiz:",
    )
    new_verdict(champion)


def new_verdict(champion: Champion) -> None:
    """The button that makes a verdict about the champion, or what that takes where no button can."""
    if widgets.source() == widgets.LOG:
        st.caption(
            f"Rows of the inference log that version {champion.version} scored are judged as soon as there are any: "
            "send it requests, and monitor again."
        )
        return
    problem = st.empty()
    label = f"Score prod with version {champion.version} and monitor it"
    busy = jobs.KINDS[_STEP] in running_jobs.running()
    arguments = [*running_jobs.monitoring(), "--rescore", "if_needed"]
    if st.button(label, icon=":material/refresh:", type="primary", disabled=busy, key="subject_new_verdict") and (
        running_jobs.start(_STEP, arguments, problem)
    ):
        st.rerun()
