"""Why: the checks, and the evidence of each: labels, inputs, the estimate without labels, and errors."""

from typing import Any

import streamlit as st

from data.errors import TableError
from monitor.charts import monitoring
from monitor.health.cause import cause, section_of
from monitor.health.subject import Subject
from monitor.metrics.names import readable
from monitor.store.model_store import OF_BATCH_SCORING, OF_LOG, current_store
from monitor.store.records import MonitoringRun
from monitor.store.shots import SEASON, UNKNOWN
from monitor.ui import cache, errors, estimate, inputs, labels, subject, url_state, widgets
from monitor.ui.text import _

_SECTION = "section"
_CHECKS = "checks"
_SECTIONS = {
    _CHECKS: "Checks",
    "labels": "Labels",
    "inputs": "Inputs",
    "estimate": "Estimated performance",
    "errors": "Errors",
}
_DRAW = {"labels": labels.show, "inputs": inputs.show, "estimate": estimate.show, "errors": errors.show}
_MARKS = {"passed": "✓", "warning": "▲", "failed": "✗", "error": "?", "skipped": "·"}
_GROUPS = {
    "labels": "Labels: is it right?",
    "inputs": "Inputs: are the shots like those of the training?",
    "estimate": "Estimate: how good can it be without labels?",
    "serving": "Serving: is the champion served?",
}


def show() -> None:
    """Render the page."""
    url_state.restore(_SECTION, _SECTIONS, _CHECKS)
    # Half of the width each: in Portuguese the sections are wider than in English.
    left, right = st.columns(2, vertical_alignment="center")
    left.title(_("Why does it have this status?"))
    with right:
        st.segmented_control(
            _("Evidence"), list(_SECTIONS), format_func=lambda name: _(_SECTIONS[name]), key=_SECTION, required=True,
            label_visibility="collapsed",
        )  # fmt: skip
    section = url_state.remember(_SECTION, _CHECKS)
    with widgets.errors_shown():
        if section == _CHECKS:
            _show_checks()
            return
        shown = cache.of_season(cache.current(), _season())
        subject.show(shown.subject)
        _DRAW[section](shown)


def _season() -> str:
    """The season that is shown; empty for all, or where the seasons of the rows are not known."""
    known = [season for season in sorted(cache.current().evaluation.current[SEASON].unique()) if season != UNKNOWN]
    if not known:
        return ""
    url_state.restore(SEASON, ["", *known], "")
    st.selectbox(
        _("Season"), ["", *known], format_func=lambda season: season or _("All seasons"), key=SEASON, width=220,
        label_visibility="collapsed",
    )  # fmt: skip
    return url_state.remember(SEASON, "")


def _show_checks() -> None:
    if cache.champion(current_store()) is None:
        widgets.show_prerequisite(
            _("No version of kobe_shot has passed the quality gate yet. Train, register and serve one:"), "make main"
        )
        return
    run, found = _latest()
    if run is None or found is None:
        widgets.show_prerequisite(
            _("There is no monitoring run of this data source yet ({source}). Start one:").format(
                source=_(widgets.SOURCES[widgets.source()])
            ),
            "mlflow run . -e monitoramento" + (" -P current=log" if widgets.source() == widgets.LOG else ""),
        )
        return
    about = Subject.of_record(found)
    st.markdown(
        f"{widgets.chip(str(found['status']))} &nbsp; {widgets.plain(cause(found).sentence.text(_))}",
        unsafe_allow_html=True,
    )
    st.caption(widgets.plain(subject.description(about, run.started)))
    for group, title in _GROUPS.items():
        own = [check for check in found["checks"] if section_of(check["code"]) == group]
        if own:
            _show_group(group, title, own)
    _show_history()


def _show_group(group: str, title: str, checks: list[dict[str, str]]) -> None:
    with st.container(border=True):
        left, right = st.columns([4, 1], vertical_alignment="center")
        left.markdown(f"**{_(title)}**")
        with right:
            if group in _SECTIONS:
                widgets.link("why", _(_SECTIONS[group]), icon=":material/arrow_forward:", section=group)
            elif group == "serving":
                widgets.link("system", _("Traffic"), icon=":material/arrow_forward:")
        rows = [
            {
                _("check"): f"{check['code']} {_(check['title'])}",
                _("result"): f"{_MARKS[check['status']]} {_(check['status'])}",
                _("summary"): "\n".join(readable(check[name], _) for name in ("message", "details") if check[name]),
            }
            for check in checks
        ]
        widgets.text_table(rows, group, widths=(25, 12, 63))


def _latest() -> tuple[MonitoringRun | None, dict[str, Any] | None]:
    """The latest completed monitoring run about the champion, or about another version, and its record."""
    store = current_store()
    completed = [run for run in cache.monitoring_runs(store, _source()) if run.health]
    champion = cache.champion(store)
    of_champion = (run for run in completed if champion and run.model_version == champion.version)
    run = next(of_champion, completed[0] if completed else None)
    try:
        return run, cache.record(run.run_id) if run else None
    except TableError as error:
        st.error(str(error), icon=":material/error:")
        return None, None


def _show_history() -> None:
    runs = [run for run in cache.monitoring_runs(current_store(), _source()) if run.health]
    st.subheader(_("Alert history"))
    widgets.base_figure(lambda: monitoring.status_history(monitoring.history_rows(runs)), "status_history")


def _source() -> str:
    return OF_LOG if widgets.source() == widgets.LOG else OF_BATCH_SCORING


if __name__ == "__main__":
    show()
