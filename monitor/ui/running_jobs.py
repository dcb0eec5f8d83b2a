"""Jobs on the pages: the running ones with their output, the ended ones with their exit code.

Jobs are shared by all pages and visitors: every visitor sees them and may stop them.
"""

from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from data.errors import KobeShotError
from monitor.store.model_store import OF_BATCH_SCORING, OF_LOG, current_store
from monitor.ui import cache, jobs, widgets
from monitor.ui.jobs import Job
from monitor.ui.text import _, sentence
from serving import registry

_DISMISSED = "jobs_dismissed"
_SHOWN_FOR = timedelta(days=1)
_EVERY_SECONDS = 2.0
_MAY_CHANGE_CHAMPION = ("training", "rollback", "approval")
_HEIGHT, _LINES_WHILE_RUNNING = 300, 12


def start(step: str, arguments: Sequence[str], problem: DeltaGenerator) -> bool:
    """Start a job, and return whether it started. If not, `problem` shows the error."""
    try:
        with registry.translate_store_errors():
            found = registry.champion()
        jobs.start(step, arguments, by=_visitor(), champion=registry.number(found) if found else "")
    except KobeShotError as error:
        problem.error(str(error), icon=":material/error:")
        return False
    return True


def running() -> dict[str, Job]:
    """Running jobs by kind; empty if they cannot be read, an error that `show` renders."""
    try:
        return {job.kind: job for job in jobs.latest() if job.running}
    except jobs.JobError:
        return {}


def monitoring() -> list[str]:
    """Parameters of a monitoring run of the selected data source.

    All visitors see its results, so it checks the configured server, not the one that this visitor typed.
    """
    of_log = widgets.source() == widgets.LOG
    arguments = ["--current", OF_LOG if of_log else OF_BATCH_SCORING]
    if of_log and (window := widgets.window()):
        arguments += ["--since", f"{int(window.total_seconds())}s"]
    return [*arguments, "--endpoint", widgets.configured_endpoint()]


def show(kinds: Collection[str] = ()) -> None:
    """Render the running jobs and the last ended ones, of all kinds or of the given ones."""
    try:
        found = [job for job in jobs.latest() if not kinds or job.kind in kinds]
    except jobs.JobError as error:
        st.error(str(error), icon=":material/error:")
        return
    active = [job for job in found if job.running]
    if active:
        st.fragment(_show_running, run_every=_EVERY_SECONDS)({job.job_id for job in active})
    hidden, now = st.session_state.get(_DISMISSED, set()), datetime.now(UTC)
    ended = [job for job in found if not job.running and job.job_id not in hidden]
    for place, job in enumerate(job for job in ended if now - (job.ended or job.started) < _SHOWN_FOR):
        _show_ended(job, newest=place == 0)


def dismiss() -> None:
    """Hide the ended jobs from this visitor."""
    with suppress(jobs.JobError):
        st.session_state[_DISMISSED] = {job.job_id for job in jobs.latest() if not job.running}


def _show_running(known: set[str]) -> None:
    active = [job for job in jobs.latest() if job.running]
    if known - {job.job_id for job in active}:
        # A job has ended, so the whole page is rendered again.
        cache.clear()
        st.rerun()
    for job in active:
        if job.job_id in known:
            _show_job(job)


def _show_job(job: Job) -> None:
    seconds = (datetime.now(UTC) - job.started).total_seconds()
    with st.container(border=True):
        left, right = st.columns([5, 1], vertical_alignment="center")
        left.markdown(
            ":material/hourglass_top: "
            + sentence(
                f"**{job.kind.capitalize()}** has been running for {seconds:,.0f} s, {job.origin} "
                f"(`steps.{job.step}`). It goes on when you leave this page."
            )
        )
        right.button(
            _("Stop"), icon=":material/stop_circle:", key=f"jobs_stop_{job.job_id}", on_click=_stop, args=(job,),
            width="stretch", help=_("Terminates the job. Its unfinished work is rolled back or marked as interrupted."),
        )  # fmt: skip
        lines = jobs.output(job).splitlines()[-_LINES_WHILE_RUNNING:]
        if lines:
            st.code("\n".join(lines), language=None)


def _stop(job: Job) -> None:
    jobs.stop(job)


def _show_ended(job: Job, *, newest: bool) -> None:
    parts = [sentence(f"{job.kind.capitalize()}: {_result(job)}"), sentence(_champion(job))]
    text = " ".join(filter(None, parts))
    draw, icon = (st.success, ":material/check_circle:") if job.code == 0 else (st.error, ":material/error:")
    if job.stopped and job.code != 0:
        draw, icon = st.warning, ":material/stop_circle:"
    if newest:
        draw(text, icon=icon)
    with st.expander(_("Log") if newest else text, icon=":material/terminal:"):
        st.code(jobs.output(job) or _("no output"), language=None, height=_HEIGHT)


def _result(job: Job) -> str:
    if job.code is None or job.ended is None:
        return f"`steps.{job.step}` was killed; it ran {job.origin}."
    seconds, when = (job.ended - job.started).total_seconds(), f"{job.ended:%Y-%m-%d %H:%M} UTC"
    if job.stopped and job.code != 0:
        return f"`steps.{job.step}` was stopped after {seconds:,.0f} s, at {when}."
    return f"`steps.{job.step}` ended with exit code {job.code} after {seconds:,.0f} s, at {when}."


def _champion(job: Job) -> str:
    """Which version is champion since, where a job may have changed it; empty of another job, and of a killed one."""
    if job.kind not in _MAY_CHANGE_CHAMPION or job.ended is None:
        return ""
    with widgets.errors_shown():
        found = cache.champion(current_store())
    if found is None:
        return "There is no champion."
    return f"The champion is {'still' if found.version == job.champion else 'now'} version {found.version}."


def visitor_name() -> str:
    """The name that the visitor has signed in with; empty if it is not known."""
    return str(getattr(st.user, "email", None) or getattr(st.user, "name", None) or "")


def _visitor() -> str:
    """The name of the visitor, or the IP address if the name is not known."""
    if name := visitor_name():
        return name
    ip_address = st.context.ip_address
    return f"a visitor from {ip_address}" if ip_address else "a visitor on this machine"
