"""Today: which version predicts, whether it is healthy, why not, since when, and what happens next."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from data.datasets import current
from data.errors import KobeShotError, TableError
from monitor.charts import monitoring
from monitor.health.cause import Cause, cause, expected_and_actual
from monitor.health.checks import NEW_ROWS
from monitor.health.difference import difference
from monitor.health.status import CheckStatus
from monitor.health.subject import Subject
from monitor.metrics.names import column_name, metric_name
from monitor.retraining import calendar
from monitor.retraining.outlook import outlook, runner_up
from monitor.retraining.policy import RetrainingPolicy
from monitor.store.model_store import OF_BATCH_SCORING, OF_LOG, ModelStore, current_store
from monitor.store.records import BatchScoringRun, ModelVersion, MonitoringRun
from monitor.ui import approval, cache, drift_rows, jobs, running_jobs, spot, subject, trust_court, url_state, widgets
from monitor.ui.text import _, localized, sentence

_FRESH = timedelta(days=1)
_SEASON = "season"
_ROWS = 8
# A gap between expected and actual FG% that is shown as worse, in either direction.
_MISCALIBRATED = 0.03
_DETAILS = {"labels": "Labels and metrics in detail", "inputs": "Inputs and drift in detail"}


class _State(NamedTuple):
    """What the store holds about the champion on the selected data source."""

    store: ModelStore
    champion: ModelVersion
    attempts: list[MonitoringRun]
    completed: list[MonitoringRun]
    latest: MonitoringRun | None
    found: dict[str, Any] | None
    batch_run: BatchScoringRun | None


def show() -> None:
    """Render the page."""
    with widgets.errors_shown():
        state = _state()
        waits = approval.notice(current_store())
    if state is None:
        st.title(_("Can the model be trusted today?"))
        if not waits:
            widgets.show_prerequisite(
                _("No version of kobe_shot has passed the quality gate yet. Train, register and serve one:"),
                "make main",
            )
        return
    if state.champion.synthetic:
        widgets.synthetic_warning()
    offered = _show_headline(state)
    _show_problems(state)
    running_jobs.show([jobs.KINDS["monitoramento"]])
    left, right = st.columns([2, 1], gap="medium")
    # First what is there at once.
    with right:
        later = _reserve_runner_up(state)
        _show_cards(state)
        _offer_monitoring(state, offered=offered)
    with left:
        # A click, or a season, runs the court again and not the page.
        st.fragment(_show_evidence)()
    _show_loss(state)
    _show_runner_up(state, later)


def _state() -> _State | None:
    store = current_store()
    champion = cache.champion(store)
    source = OF_LOG if widgets.source() == widgets.LOG else OF_BATCH_SCORING
    attempts, batch_run = cache.monitoring_runs(store, source), cache.last_batch_scoring(store)
    if champion is None:
        return None
    completed = [run for run in attempts if run.health]
    # After a rollback the newest run evaluated the revoked version, and an older one the champion.
    of_champion = (run for run in completed if run.model_version == champion.version)
    latest = next(of_champion, completed[0] if completed else None)
    try:
        found = cache.record(latest.run_id) if latest else None
    except TableError as error:
        st.error(str(error), icon=":material/error:")
        found = None
    return _State(store, champion, attempts, completed, latest, found, batch_run)


def _show_headline(state: _State) -> bool:
    """Show status and cause, and what happens next; return whether an evaluation of the champion has been offered."""
    if state.latest is None or state.found is None:
        st.title(_("Can the model be trusted today?"))
        _show_no_run(state)
        return False
    about = Subject.of_record(state.found)
    is_champion = about.is_about(state.champion.version)
    why = cause(state.found)
    status = _status(state.found) if is_champion else "unknown"
    left, right = st.columns([2, 1], gap="medium")
    with left:
        facts = localized(" · ".join(_facts(state, about)))
        st.container(key="status").markdown(
            f'{widgets.chip(status)}<span class="facts">{facts}</span>', unsafe_allow_html=True
        )
        with st.container(key="headline"):
            st.title(widgets.plain(_unbroken(_sentence(state, why, is_champion=is_champion))))
        if is_champion and status != "unknown":
            # The training rows of a retrained version include labels of production.
            is_divided = widgets.source() == widgets.BATCH and state.champion.labels_until is None
            found = difference(state.found, current() if is_divided else None)
            st.markdown(widgets.plain(" ".join(each.text(_) for each in found)))
        st.caption(widgets.plain(f"{current().title}. {subject.description(about, state.latest.started)}"))
    with right:
        _show_next(state)
    return _warn_of_versions(state, about)


def _status(found: dict[str, Any]) -> str:
    own_rows = any(check["code"] == NEW_ROWS and check["status"] == CheckStatus.WARNING for check in found["checks"])
    return "unknown" if own_rows else str(found["status"])


def _sentence(state: _State, why: Cause, *, is_champion: bool) -> str:
    if not is_champion:
        return _("Version {version} has not been evaluated yet.").format(version=state.champion.version)
    return why.sentence.text(_)


def _unbroken(text: str) -> str:
    """The text without a line break before the number of a version."""
    return re.sub(r"(vers\w+) (?=\d)", "\\1\N{NO-BREAK SPACE}", text)


def _facts(state: _State, about: Subject) -> list[str]:
    champion = state.champion
    model = f" ({widgets.model_label(champion.model_id)})" if champion.model_id else ""
    facts = [f"**{_('Version')} {champion.version}**{widgets.plain(model)}"]
    if about.is_about(champion.version) and state.latest:
        first, runs = _since(state.completed, state.latest)
        since = _("in this status since {when} ({runs} runs)") if runs > 1 else _("in this status since {when}")
        if sum(run.model_version == champion.version for run in state.completed) == 1:
            since = _("since its first evaluation, {when}")
        facts.append(since.format(when=calendar.format_datetime(first), runs=runs))
    return facts


def _since(completed: Sequence[MonitoringRun], latest: MonitoringRun) -> tuple[datetime, int]:
    """When the version got its present status, and how many runs in a row found it."""
    first, runs = latest.started, 0
    for run in completed:
        if run.started > latest.started or run.model_version != latest.model_version:
            continue
        if run.health != latest.health:
            break
        first, runs = run.started, runs + 1
    return first, runs


def _show_next(state: _State) -> None:
    try:
        log = cache.decisions(state.store)
    except TableError:
        log = []
    now = datetime.now(UTC)
    runs = [*cache.monitoring_runs(state.store, OF_BATCH_SCORING), *cache.monitoring_runs(state.store, OF_LOG)]
    following = calendar.next_monitoring_run(runs, log, calendar.Cadence.WEEK, now)
    about = Subject.of_record(state.found) if state.found else None
    is_champion = about is None or about.is_about(state.champion.version)
    has_times = widgets.source() == widgets.LOG or current().time is not None
    expected = outlook(
        state.found if is_champion else None, log, RetrainingPolicy(), following, now, has_times=has_times
    )
    with st.container(key="next_happens"):
        st.markdown(_paragraph(_("What happens next"), localized(expected.text(_))))
    widgets.link("champions", _("Retrain, approve or roll back"), icon=":material/arrow_forward:")


def _has_runner_up(state: _State) -> bool:
    about = Subject.of_record(state.found) if state.found else None
    return about is not None and bool(about.labeled) and about.is_about(state.champion.version)


def _reserve_runner_up(state: _State) -> DeltaGenerator:
    """The place of the runner-up, which is compared once the court is there."""
    if not _has_runner_up(state):
        return st.empty()
    later = st.container(key="next_runner_up").empty()
    later.markdown(_paragraph(_("The runner-up"), _("is being compared on these labels …")))
    return later


def _show_runner_up(state: _State, where: DeltaGenerator) -> None:
    if not _has_runner_up(state):
        return
    try:
        found = runner_up(cache.runners())
    except KobeShotError:
        found = None
    if found is None:
        where.empty()
    else:
        where.markdown(_paragraph(_("The runner-up"), found.text(_)))


def _paragraph(heading: str, text: str) -> str:
    # Without HTML, whose part of Streamlit arrives after the first elements and would move them.
    return f"**{heading}**\n\n{widgets.plain(text[:1].upper() + text[1:])}"


def _show_no_run(state: _State) -> None:
    source = OF_LOG if widgets.source() == widgets.LOG else OF_BATCH_SCORING
    option = "" if source == OF_BATCH_SCORING else f" -P current={source}"
    shown = _(widgets.SOURCES[widgets.source()])
    widgets.show_prerequisite(
        _("There is no monitoring run of this data source yet ({source}). Start one:").format(source=shown),
        f"mlflow run . -e monitoramento{option}",
    )
    del state


def _warn_of_versions(state: _State, about: Subject) -> bool:
    champion = state.champion
    if not about.is_about(champion.version):
        subject.another_version(about, champion)
    elif about.champion != champion.version:
        st.warning(
            sentence(
                f"This monitoring run evaluated version {champion.version} while version {about.champion} was "
                f"champion. Its checks of the champion describe version {about.champion}."
            ),
            icon=":material/swap_horiz:",
        )
        subject.offer_evaluation(champion)
    offered = {about.version, about.champion} != {champion.version}
    return _warn_of_age(state, offered=offered)


def _warn_of_age(state: _State, *, offered: bool) -> bool:
    """Warn if the monitoring run is out of date, and return whether a new evaluation has been offered."""
    run, newest, batch_run = state.latest, state.completed[0], state.batch_run
    if run is None:
        return offered
    age = datetime.now(UTC) - run.started
    if newest.run_id != run.run_id:
        st.caption(
            sentence(
                f"The newest monitoring run, at {newest.started:%Y-%m-%d %H:%M} UTC, evaluated version "
                f"{newest.model_version or 'unknown'}: {newest.health}."
            )
        )
    if run.source == OF_BATCH_SCORING:
        if batch_run and batch_run.run_id != run.batch_scoring_run:
            by = batch_run.model_version or "unknown"
            if by == state.champion.version or offered:
                st.warning(
                    _("The production set has been scored again since this monitoring run. Re-run monitoring."),
                    icon=":material/update:",
                )
                return offered
            st.warning(
                sentence(
                    f"Since this monitoring run, version {by}, which is not the champion, has scored the production "
                    "set."
                ),
                icon=":material/update:",
            )
            subject.offer_evaluation(state.champion)
            return True
    elif age > _FRESH:
        st.warning(
            sentence(f"This monitoring run is {age.total_seconds() / 3600:.0f} hours old. Re-run monitoring."),
            icon=":material/update:",
        )
    return offered


def _show_evidence() -> None:
    """Show the trust court, or the drifted features of a dataset without one."""
    try:
        shown = cache.current()
    except KobeShotError as error:
        st.info(widgets.plain(str(error)), icon=":material/info:")
        return
    if not cache.has_court(shown.evaluation):
        drift_rows.show(shown.evaluation, key="today_drift", limit=_ROWS)
        return
    season = url_state.read(_SEASON)
    with st.container(key="today_court_box"):
        frame, clicked = trust_court.show(
            cache.courts(shown), key="today_court", marks=cache.promotion_marks(), frame=season, spot=spot.last()
        )
    url_state.write(_SEASON, frame, trust_court.ALL)
    spot.show(shown.evaluation, clicked)


def _show_cards(state: _State) -> None:
    found = state.found
    if found is None:
        loss = state.champion.test_metrics.get("log_loss")
        widgets.metric_card(st.container(key="card_1"), "log_loss", loss, label=_("Log loss on the test set"))
        return
    current, reference = (found["metrics"].get(side) or {} for side in ("current", "reference"))
    # The log loss of two samples with other base rates does not compare; the skill score does.
    value, before = (_value(side, "log_loss_skill") for side in (current, reference))
    loss = _value(current, "log_loss")
    if loss is not None:
        widgets.metric_card(
            st.container(key="card_2"), "log_loss_skill", value, before, label=_("Log loss against the base rate"),
            shown=_better(value), changed=_("was {skill} on the test set").format(skill=_better(before)),
        )  # fmt: skip
        interval = _interval(current["metrics"]["log_loss"], "log_loss")
        _note("labels", f"{_('Log loss')} {metric_name('log_loss').format(loss)}, {interval}")
    else:
        widgets.card(st.container(key="card_3"), _("New labeled rows"), f"{found['current']['labeled']:,}")
        _note("labels", _("Metrics need labels of new rows."))
    expected = expected_and_actual(found)
    if expected:
        rate = metric_name("rate")
        widgets.metric_card(
            st.container(key="card_4"), "rate", expected[1], expected[0], label=_("Goes in"),
            compared_with=_("against the expected {rate}").format(rate=rate.format(expected[0])),
            worse=abs(expected[1] - expected[0]) > _MISCALIBRATED or None,
        )  # fmt: skip
    drift = found.get("drift")
    if drift:
        widgets.metric_card(
            st.container(key="card_5"), "out_of_support_rate", drift["out_of_support_rate"],
            drift["out_of_support_threshold"], label=_("Out of support: unlike all training shots"),
            changed=_over(drift["out_of_support_rate"], drift["out_of_support_threshold"]),
        )  # fmt: skip
        features = {row["feature"] for row in drift["statistics"]} - {"probability"}
        _note(
            "inputs",
            _("{count} of {features} features have drifted").format(
                count=len(drift["drifted"]), features=len(features)
            ),
        )


def _better(skill: float | None) -> str:
    """A skill score as better or worse."""
    if skill is None:
        return _("not defined")
    share = metric_name("log_loss_skill").format(abs(skill))
    return (_("{share} better") if skill >= 0 else _("{share} worse")).format(share=share)


def _over(rate: float, threshold: float) -> str:
    text = _("above the threshold of {value}") if rate > threshold else _("not above the threshold of {value}")
    return text.format(value=metric_name("out_of_support_rate").format(threshold))


def _note(section: str, *texts: str | None) -> None:
    st.caption(widgets.plain("; ".join(sentence(text) for text in texts if text)))
    widgets.link("why", _(_DETAILS[section]), icon=":material/arrow_forward:", section=section)


def _value(side: dict[str, Any], name: str) -> float | None:
    value: float | None = (side.get("metrics") or {}).get(name, {}).get("value")
    return value


def _interval(interval: dict[str, float | None], name: str) -> str:
    if interval["low"] is None or interval["high"] is None:
        return _("too few rows for an interval")
    metric = metric_name(name)
    ends = {end: metric.format(interval[end]) for end in ("low", "high")}
    return _("95% CI {low} to {high}").format(**ends)


def _show_problems(state: _State) -> None:
    if state.attempts and state.attempts[0].status == "FAILED" and not state.attempts[0].health:
        when = f"{state.attempts[0].started:%Y-%m-%d %H:%M}"
        st.error(
            sentence(f"The last monitoring run, at {when} UTC, failed. The current status is unknown."),
            icon=":material/error:",
        )


def _offer_monitoring(state: _State, *, offered: bool) -> None:
    kind = jobs.KINDS["monitoramento"]
    problem = st.empty()
    busy = kind in running_jobs.running()
    label = _("Re-run monitoring")
    source = OF_LOG if widgets.source() == widgets.LOG else OF_BATCH_SCORING
    with st.container(horizontal=True, vertical_alignment="center"):
        # The button that scores and evaluates replaces the one that only evaluates.
        replaced = offered and source == OF_BATCH_SCORING
        requested = not replaced and st.button(label, icon=":material/refresh:", disabled=busy)
        if state.latest and state.found:
            _offer_downloads(state.latest)
    if requested and running_jobs.start("monitoramento", running_jobs.monitoring(), problem):
        st.rerun()


def _offer_downloads(run: MonitoringRun) -> None:
    for name, label in (("report.html", _("Report")), ("monitoring.json", _("Results as JSON"))):
        st.download_button(
            label, widgets.artifact(run.run_id, name), name, icon=":material/download:", on_click="ignore",
            key=f"today_{name}",
        )  # fmt: skip


def _show_loss(state: _State) -> None:
    try:
        rows = cache.rolling_loss()
    except KobeShotError:
        return
    if rows is None:
        return
    found = state.found or {}
    reference = _value((found.get("metrics") or {}).get("reference") or {}, "log_loss")
    share = RetrainingPolicy().degradation_threshold
    threshold = reference * (1 + share) if reference else None
    # A threshold that no window comes near would leave little of the height to the loss.
    near = threshold is not None and rows["high"].max() >= threshold
    figure = monitoring.rolling_loss(
        rows, reference=reference, threshold=threshold if near else None, promotions=cache.promotion_times(rows),
        words={name: _(name) for name in monitoring.ROLLING_WORDS},
        title=_("Log loss over time, in windows of {rows} labeled shots").format(rows=f"{rows['rows'].iloc[0]:,}"),
        x=_axis(),
    )  # fmt: skip
    widgets.base_figure(lambda: figure, "rolling_loss")
    if threshold is not None:
        above, windows = int((rows["log_loss"] > threshold).sum()), len(rows)
        st.caption(
            _(
                "By its log loss, a window is degraded above {threshold}, {share} over the test set: "
                "{above} of {windows} here. The retraining policy also checks the F1 score and the base rate: "
                "see Champions."
            ).format(
                threshold=sentence(metric_name("log_loss").format(threshold)), share=f"{share:.0%}", above=above,
                windows=windows,
            )
        )  # fmt: skip


def _axis() -> str:
    """What the time is by which labeled rows are ordered."""
    time = current().time
    if widgets.source() == widgets.LOG or time is None:
        return _("time of scoring, UTC")
    return _("{column} in the table, not the time of scoring").format(column=_(column_name(time.name)))


if __name__ == "__main__":
    show()
