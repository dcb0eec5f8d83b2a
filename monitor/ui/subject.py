"""The rows and the model version that a page describes, and a button that evaluates the champion if it is another."""

from dataclasses import replace
from datetime import datetime

import streamlit as st

from monitor.health.checks import MAX_OWN
from monitor.health.subject import Subject
from monitor.retraining import calendar
from monitor.store.model_store import current_store
from monitor.store.records import ModelVersion
from monitor.ui import cache, jobs, running_jobs, widgets
from monitor.ui.text import sentence

_STEP = "monitoramento"


def show(subject: Subject) -> None:
    """Show which rows and version the page describes, with a warning if that version is not the champion."""
    st.caption(widgets.plain(description(subject)))
    if subject.own > MAX_OWN * subject.evaluated:
        st.warning(
            sentence(
                f"**{subject.own:,} of these rows are not new to {subject.version_name}**: they are training rows "
                f"or rows of {widgets.plain(subject.reference)}. Drift and estimates are shown but not evaluated, "
                "because they do not describe new rows."
            ),
            icon=":material/content_copy:",
        )
    champion = cache.champion(current_store())
    if champion and not subject.is_about(champion.version):
        another_version(subject, champion)


def description(subject: Subject, evaluated: datetime | None = None) -> str:
    """The scope of a page, and when it was evaluated, in the language of this visitor; without the names of files."""
    names = {"base_test": "the test set", "prod": "the production set"}
    readable = replace(
        subject,
        source=names.get(subject.source, subject.source),
        reference=names.get(subject.reference, subject.reference),
    )
    when = [f"Evaluated at {calendar.format_datetime(evaluated)}."] if evaluated else []
    return " ".join(map(sentence, [*readable.sentences, *when]))


def another_version(subject: Subject, champion: ModelVersion) -> None:
    """Warn that a page describes another version than the champion, and offer to evaluate the champion."""
    since = f", since {calendar.format_datetime(champion.promoted_at)}" if champion.promoted_at else ""
    st.warning(
        sentence(f"**This page describes {subject.version_name}.** The champion is version {champion.version}{since}."),
        icon=":material/swap_horiz:",
    )
    offer_evaluation(champion)


def offer_evaluation(champion: ModelVersion) -> None:
    """Offer to evaluate the champion, or explain how where no button can do it."""
    if widgets.source() == widgets.LOG:
        st.caption(
            sentence(
                f"The inference log holds no row that version {champion.version} scored. Send requests to it, then "
                "re-run monitoring."
            )
        )
        return
    problem = st.empty()
    label = sentence(f"Score the production set with version {champion.version} and evaluate it")
    busy = jobs.KINDS[_STEP] in running_jobs.running()
    arguments = [*running_jobs.monitoring(), "--rescore", "if_needed"]
    if st.button(label, icon=":material/refresh:", type="primary", disabled=busy, key="subject_evaluate") and (
        running_jobs.start(_STEP, arguments, problem)
    ):
        st.rerun()
