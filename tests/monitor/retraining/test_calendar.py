"""The next scheduled monitoring run, and the events of the calendar."""

from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise

import pandas as pd
import pytest
from dateutil.rrule import rrulestr  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from monitor.retraining import calendar, ical_export
from monitor.retraining.calendar import (
    DECISION,
    DUE,
    MONITORING,
    PROMOTION,
    ROLL_BACK,
    STALE,
    TRAINING,
    Cadence,
    NextMonitoringRun,
)
from monitor.store.records import MonitoringRun, RetrainingDecision

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
TODAY = NOW.date()
WEEK, MONTH = Cadence.WEEK, Cadence.MONTH


def monitoring_run(when: datetime, health: str = "healthy") -> MonitoringRun:
    return MonitoringRun(run_id="r", started=when, current="prod", health=health)


def decision(  # noqa: PLR0913 what a test sets
    when: datetime,
    decided: str = "no action",
    *,
    mode: str = "auto",
    outcome: str = "nothing to do",
    challenger: str = "",
    trigger: str = "",
) -> RetrainingDecision:
    return RetrainingDecision(
        number=7,
        decided_at=when,
        decision=decided,
        trigger=trigger,
        mode=mode,
        reasons=("a reason",),
        outcome=outcome,
        champion="3",
        challenger=challenger,
        labels=500,
        new_labels=200,
        run_id="run",
        model="kobe_shot",
    )


def promotions(*rows: tuple[datetime, int, str, str]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["when", "version", "kind", "why"])
    return table.assign(when=pd.to_datetime(table["when"], utc=True))


def unfolded(file: bytes) -> dict[str, str]:
    """Lines of an iCalendar file by their names, as RFC 5545 reads them."""
    lines = file.replace(b"\r\n ", b"").decode().split("\r\n")
    return dict(line.split(":", 1) for line in lines if line)


def written(last: date | None, cadence: Cadence, *, today: date = TODAY, name: str = "kobe_shot") -> bytes:
    return ical_export.written(NextMonitoringRun(cadence, last, today), name=name, uid="1@kobe-shot", now=NOW)


@pytest.mark.parametrize(
    ("cadence", "day", "expected"),
    [
        (Cadence.DAY, date(2026, 12, 31), date(2027, 1, 1)),
        (Cadence.DAY, date(2028, 2, 28), date(2028, 2, 29)),
        (WEEK, date(2026, 12, 28), date(2027, 1, 4)),
        (WEEK, date(2027, 2, 25), date(2027, 3, 4)),
        (Cadence.FORTNIGHT, date(2028, 2, 20), date(2028, 3, 5)),
        (MONTH, date(2026, 12, 15), date(2027, 1, 15)),
        (MONTH, date(2027, 1, 31), date(2027, 2, 28)),
        (MONTH, date(2028, 1, 31), date(2028, 2, 29)),
        (MONTH, date(2026, 10, 31), date(2026, 11, 30)),
    ],
)
def test_a_cadence_crosses_the_ends_of_months_years_and_leap_days(cadence: Cadence, day: date, expected: date) -> None:
    assert calendar.later(day, cadence) == expected


def test_months_after_a_short_one_have_the_day_of_the_start_again() -> None:
    days = islice(NextMonitoringRun(MONTH, date(2027, 1, 31), date(2027, 2, 1)).days, 4)
    assert [(day.month, day.day) for day in days] == [(2, 28), (3, 31), (4, 30), (5, 31)]


def test_the_next_run_is_one_interval_after_the_latest() -> None:
    found = calendar.next_monitoring_run(
        [monitoring_run(NOW - timedelta(days=9)), monitoring_run(NOW - timedelta(days=2))], [], WEEK, NOW
    )
    assert (found.due, found.overdue) == (date(2026, 11, 27), False)
    assert found.description == (
        "Next scheduled run: Friday 27 November 2026 (one run every week; the latest was on Friday 20 November 2026)."
    )


def test_a_decision_of_the_policy_counts_as_a_monitoring_run_and_a_requested_one_does_not() -> None:
    runs = [monitoring_run(NOW - timedelta(days=6))]
    requested = [decision(NOW - timedelta(days=1), mode=mode) for mode in ("force", "dry_run")]
    assert calendar.next_monitoring_run(runs, requested, WEEK, NOW).last == date(2026, 11, 16)
    own = [*requested, decision(NOW - timedelta(days=2))]
    assert calendar.next_monitoring_run(runs, own, WEEK, NOW).last == date(2026, 11, 20)


def test_a_run_without_a_status_does_not_count() -> None:
    assert calendar.next_monitoring_run([monitoring_run(NOW, health="")], [], WEEK, NOW).last is None


def test_the_first_run_is_scheduled_for_today_and_not_overdue() -> None:
    found = calendar.next_monitoring_run([], [], WEEK, NOW)
    assert (found.due, found.overdue) == (TODAY, False)
    assert "no monitoring run yet" in found.description
    assert list(islice(found.days, 2)) == [TODAY, date(2026, 11, 29)]


def test_a_run_that_is_scheduled_for_today_is_not_overdue() -> None:
    found = NextMonitoringRun(WEEK, date(2026, 11, 15), TODAY)
    assert not found.overdue
    assert "today, Sunday 22 November 2026" in found.description


def test_an_overdue_run_is_described_and_the_schedule_continues_from_today() -> None:
    found = NextMonitoringRun(WEEK, date(2026, 11, 8), TODAY)
    assert found.overdue
    assert found.description.startswith("Overdue since Sunday 15 November 2026")
    assert list(islice(found.days, 2)) == [TODAY, date(2026, 11, 29)]
    entries = calendar.upcoming_events(found, TODAY)
    assert [(entry.day, entry.kind) for entry in entries] == [(date(2026, 11, 15), DUE), (TODAY, DUE)]
    assert "Missed" in entries[0].description


@given(
    st.dates(date(1900, 1, 1), date(2200, 1, 1)),
    st.integers(0, 100),
    st.sampled_from(list(Cadence)),
)
def test_days_of_scheduled_runs_are_sorted_and_not_in_the_past(last: date, age: int, cadence: Cadence) -> None:
    today = last + timedelta(days=age)
    days = list(islice(NextMonitoringRun(cadence, last, today).days, 5))
    assert days[0] >= today
    assert days == sorted(set(days))
    assert max(later - day for day, later in pairwise(days)) <= timedelta(days=31)


def test_past_events_are_described_with_their_time_earliest_first() -> None:
    found = calendar.past_events(
        [monitoring_run(NOW, "warning"), monitoring_run(NOW - timedelta(days=1), "")],
        [decision(NOW - timedelta(days=2), "retrain", outcome="promoted", challenger="4", trigger="reactive")],
        promotions(
            (NOW - timedelta(days=3), 3, "", "an old entry"),
            (NOW - timedelta(days=2, minutes=-5), 4, "promotion", "better"),
            (NOW + timedelta(minutes=5), 3, "roll back", "it misses layups"),
        ),
    )
    assert [(entry.day.day, entry.kind, entry.description) for entry in found] == [
        (19, PROMOTION, "10:00 Version 3 became champion: an old entry"),
        (20, DECISION, "10:00 Decision 7: retrain (reactive). Promoted: version 4."),
        (20, PROMOTION, "10:05 Version 4 became champion: better"),
        (21, MONITORING, "10:00 Monitoring run on prod: no status."),
        (22, MONITORING, "10:00 Monitoring run on prod: warning."),
        (22, ROLL_BACK, "10:05 Version 3 was restored as champion: it misses layups"),
    ]


def test_training_and_staleness_are_in_the_calendar_if_they_are_within_its_range() -> None:
    due = NextMonitoringRun(MONTH, TODAY, TODAY)
    soon, far = NOW + timedelta(days=1), NOW + timedelta(days=90)
    kinds = [entry.kind for entry in calendar.upcoming_events(due, date(2026, 11, 30), training=soon, stale=far)]
    assert kinds == [TRAINING]
    kinds = [
        entry.kind for entry in calendar.upcoming_events(due, far.date(), training=NOW - timedelta(days=1), stale=far)
    ]
    assert kinds == [DUE, DUE, STALE]


@pytest.mark.parametrize(
    ("training", "stale", "expected"),
    [
        (None, None, ["Earliest next training: now (no challenger has been trained yet)."]),
        (
            NOW - timedelta(hours=1),
            NOW - timedelta(days=1),
            [
                "Earliest next training: now (the cooldown ended on 22 Nov 2026 09:00 UTC).",
                "The champion has been stale since Saturday 21 November 2026.",
            ],
        ),
        (
            NOW + timedelta(hours=1),
            NOW + timedelta(days=1),
            [
                "Earliest next training: 22 Nov 2026 11:00 UTC, when the cooldown ends.",
                "The champion is stale from Monday 23 November 2026 on.",
            ],
        ),
    ],
)
def test_upcoming_events_are_described(training: datetime | None, stale: datetime | None, expected: list[str]) -> None:
    assert calendar.milestones(training, stale, NOW) == expected


def test_the_cooldown_runs_from_the_last_challenger_that_was_trained() -> None:
    log = [
        decision(NOW),
        decision(NOW - timedelta(days=1), "retrain", outcome="failed"),
        decision(NOW - timedelta(days=2), "retrain", outcome="rejected", challenger="4"),
        decision(NOW - timedelta(days=9), "retrain", outcome="promoted", challenger="3"),
    ]
    assert calendar.next_training(log, timedelta(days=1)) == NOW - timedelta(days=1)
    assert calendar.next_training(log[:2], timedelta(days=1)) is None


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (decision(NOW), "Decision 7, 22 Nov 2026 10:00 UTC: no action."),
        (
            decision(NOW, "retrain", mode="dry_run", trigger="reactive"),
            "Decision 7, 22 Nov 2026 10:00 UTC: retrain (reactive). Dry run, no action.",
        ),
        (decision(NOW, "retrain", outcome="pending"), "Decision 7, 22 Nov 2026 10:00 UTC: retrain. In progress."),
        (
            decision(NOW, "retrain", outcome="rejected", challenger="4", trigger="forced", mode="force"),
            "Decision 7, 22 Nov 2026 10:00 UTC: retrain (forced). Rejected: version 4.",
        ),
        (decision(NOW, "retrain", outcome="interrupted"), "Decision 7, 22 Nov 2026 10:00 UTC: retrain. Interrupted."),
    ],
)
def test_a_decision_is_described_with_its_outcome(entry: RetrainingDecision, expected: str) -> None:
    assert calendar.describe_decision(entry) == expected


@pytest.mark.parametrize(
    ("last", "cadence", "rule"),
    [
        (date(2026, 11, 21), Cadence.DAY, "FREQ=DAILY"),
        (date(2026, 11, 21), WEEK, "FREQ=WEEKLY"),
        (date(2026, 11, 21), Cadence.FORTNIGHT, "FREQ=WEEKLY;INTERVAL=2"),
        (date(2026, 11, 21), MONTH, "FREQ=MONTHLY"),
        (date(2026, 10, 31), MONTH, "FREQ=MONTHLY;BYMONTHDAY=28,29,30,31;BYSETPOS=-1"),
        (date(2026, 10, 29), MONTH, "FREQ=MONTHLY;BYMONTHDAY=28,29;BYSETPOS=-1"),
    ],
)
def test_the_rule_of_the_file_is_the_cadence(last: date, cadence: Cadence, rule: str) -> None:
    lines = unfolded(written(last, cadence))
    assert lines["RRULE"] == rule
    assert lines["DTSTART;VALUE=DATE"] == f"{calendar.later(last, cadence):%Y%m%d}"


@pytest.mark.parametrize("cadence", list(Cadence))
@pytest.mark.parametrize("last", [date(2026, 10, 31), date(2027, 1, 30), date(2028, 2, 29), date(2026, 11, 21)])
def test_another_reader_of_the_rule_finds_the_days_that_the_page_shows(last: date, cadence: Cadence) -> None:
    planned = list(islice(NextMonitoringRun(cadence, last, last).days, 14))
    rule = unfolded(written(last, cadence, today=last))["RRULE"]
    read = islice(rrulestr(rule, dtstart=datetime.combine(planned[0], datetime.min.time())), 14)
    assert [time.date() for time in read] == planned


def test_an_overdue_run_starts_today_in_the_file() -> None:
    assert unfolded(written(date(2026, 8, 31), MONTH))["DTSTART;VALUE=DATE"] == "20261122"
    assert unfolded(written(date(2026, 8, 31), MONTH))["RRULE"] == "FREQ=MONTHLY"


def test_the_file_is_one_event_with_all_that_rfc_5545_requires() -> None:
    lines = written(date(2026, 11, 21), WEEK).decode().split("\r\n")
    assert lines[:4] == ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//kobe_shot//monitor//EN", "BEGIN:VEVENT"]
    assert lines[-4:] == ["TRANSP:TRANSPARENT", "END:VEVENT", "END:VCALENDAR", ""]
    found = unfolded(written(date(2026, 11, 21), WEEK))
    assert (found["UID"], found["DTSTAMP"]) == ("1@kobe-shot", "20261122T100000Z")
    assert found["SUMMARY"] == "Monitor kobe_shot"
    for command in ("mlflow run . -e monitoramento", "mlflow run . -e retreino"):
        assert f"\\n{command}" in found["DESCRIPTION"]


@given(st.text(st.characters(exclude_categories=["C", "Z"]), max_size=400))
def test_long_lines_are_folded_within_75_octets_and_between_characters(name: str) -> None:
    file = written(date(2026, 11, 21), WEEK, name=name)
    assert b"\n" not in file.replace(b"\r\n", b"")
    lines = file.split(b"\r\n")
    assert max(map(len, lines)) <= 75
    for line in lines:
        line.decode()
    summary = unfolded(file)["SUMMARY"]
    plain = summary.replace("\\,", ",").replace("\\;", ";").replace("\\\\", "\\")
    assert "\\" in name or plain == f"Monitor {name}"
