"""Calendar of continuous training: past and upcoming events, and the next scheduled run; all dates in UTC."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from itertools import count, takewhile

import pandas as pd

from monitor.retraining import decision_log
from monitor.store import records
from monitor.store.records import MonitoringRun, RetrainingDecision

MONITORING, DECISION, PROMOTION, ROLL_BACK = "monitoring run", "decision", "promotion", "roll back"
DUE, TRAINING, STALE = "scheduled run", "earliest training", "champion stale"
KINDS = (MONITORING, DECISION, PROMOTION, ROLL_BACK, DUE, TRAINING, STALE)
"""Kinds of events: four past, three upcoming."""


class Cadence(StrEnum):
    """Interval between scheduled monitoring runs."""

    DAY = "day"
    WEEK = "week"
    FORTNIGHT = "two weeks"
    MONTH = "month"


_STEPS = {Cadence.DAY: (1, 0), Cadence.WEEK: (7, 0), Cadence.FORTNIGHT: (14, 0), Cadence.MONTH: (0, 1)}
"""Days and months."""


@dataclass(frozen=True)
class CalendarEvent:
    """An event in the calendar.

    Attributes
    ----------
    day : date
    kind : str
        One of ``KINDS``.
    description : str
    """

    day: date
    kind: str
    description: str


@dataclass(frozen=True)
class NextMonitoringRun:
    """Date of the next scheduled monitoring run.

    Attributes
    ----------
    cadence : Cadence
    last : date or None
        Date of the latest run; None before the first run.
    today : date
    """

    cadence: Cadence
    last: date | None
    today: date

    @property
    def due(self) -> date:
        """Date of the next scheduled run; it may be in the past."""
        return later(self.last, self.cadence) if self.last else self.today

    @property
    def overdue(self) -> bool:
        """Whether that date is in the past."""
        return self.due < self.today

    @property
    def counted_from(self) -> date:
        """Start date of the schedule: the latest run, or today without a run or when one is overdue."""
        return self.last if self.last and not self.overdue else self.today

    @property
    def days(self) -> Iterator[date]:
        """Dates of the next runs, without end; an overdue or first run is scheduled for today."""
        first = 1 if self.last and not self.overdue else 0
        return (later(self.counted_from, self.cadence, times) for times in count(first))

    @property
    def description(self) -> str:
        """The date, with its reason."""
        every = f"one run every {self.cadence}"
        if self.last is None:
            return f"Next scheduled run: today, {format_date(self.today)} (no monitoring run yet; then {every})."
        why = f"({every}; the latest was on {format_date(self.last)})"
        if self.overdue:
            return f"Overdue since {format_date(self.due)} {why}."
        return f"Next scheduled run: {'today, ' if self.due == self.today else ''}{format_date(self.due)} {why}."


def later(day: date, cadence: Cadence, times: int = 1) -> date:
    """Add intervals to a date; a month that is too short ends on its last day.

    Examples
    --------
    >>> later(date(2028, 1, 31), Cadence.MONTH), later(date(2028, 1, 31), Cadence.MONTH, 2)
    (datetime.date(2028, 2, 29), datetime.date(2028, 3, 31))
    """
    days, months = _STEPS[cadence]
    return (pd.Timestamp(day) + pd.DateOffset(days=days * times, months=months * times)).date()


def next_monitoring_run(
    monitoring_runs: Sequence[MonitoringRun], log: Sequence[RetrainingDecision], cadence: Cadence, now: datetime
) -> NextMonitoringRun:
    """Compute the next scheduled monitoring run.

    Parameters
    ----------
    monitoring_runs : sequence of MonitoringRun
        Monitoring runs; runs without a health status do not count.
    log : sequence of RetrainingDecision
        Decisions in mode ``auto`` count as monitoring runs.
    cadence : Cadence
    now : datetime
        In UTC.
    """
    times = [run.started for run in monitoring_runs if run.health]
    times += [decision.decided_at for decision in log if decision.mode == "auto"]
    return NextMonitoringRun(cadence, max(times).date() if times else None, now.date())


def next_training(log: Sequence[RetrainingDecision], cooldown: timedelta) -> datetime | None:
    """Return the earliest time of the next training; None before the first training."""
    last = decision_log.last_trained(log)
    return last.decided_at + cooldown if last else None


def milestones(training: datetime | None, stale: datetime | None, now: datetime) -> list[str]:
    """Describe the upcoming events other than monitoring runs.

    Parameters
    ----------
    training, stale : datetime or None
        Earliest next training, and time at which the champion becomes stale; None where there is none.
    now : datetime
        In UTC.
    """
    if training is None:
        sentences = ["Earliest next training: now (no challenger has been trained yet)."]
    elif training <= now:
        sentences = [f"Earliest next training: now (the cooldown ended on {format_datetime(training)})."]
    else:
        sentences = [f"Earliest next training: {format_datetime(training)}, when the cooldown ends."]
    if stale:
        day = format_date(stale.date())
        sentences.append(
            f"The champion has been stale since {day}." if stale <= now else f"The champion is stale from {day} on."
        )
    return sentences


def past_events(
    monitoring_runs: Sequence[MonitoringRun], log: Sequence[RetrainingDecision], promotions: pd.DataFrame
) -> list[CalendarEvent]:
    """Return the past events, earliest first.

    Parameters
    ----------
    monitoring_runs : sequence of MonitoringRun
        Monitoring runs, including failed ones.
    log : sequence of RetrainingDecision
    promotions : pandas.DataFrame
        ``when``, ``version``, ``kind`` and ``why``, as returned by `monitor.store.listings.promotions_table`.
    """
    dated = [(run.started, MONITORING, _describe_run(run)) for run in monitoring_runs]
    dated += [(decision.decided_at, DECISION, describe_decision(decision, dated=False)) for decision in log]
    columns = (promotions[name] for name in ("when", "version", "kind", "why"))
    for when, version, kind, why in zip(*columns, strict=True):
        back = kind == ROLL_BACK
        became = "was restored as champion" if back else "became champion"
        dated.append((when.to_pydatetime(), ROLL_BACK if back else PROMOTION, f"Version {version} {became}: {why}"))
    ordered = sorted(dated, key=lambda entry: entry[0])
    return [CalendarEvent(when.date(), kind, f"{when:%H:%M} {text}") for when, kind, text in ordered]


def upcoming_events(
    run: NextMonitoringRun, until: date, *, training: datetime | None = None, stale: datetime | None = None
) -> list[CalendarEvent]:
    """Return the upcoming events up to and including a date.

    Parameters
    ----------
    run : NextMonitoringRun
    until : date
    training : datetime, optional
        Earliest next training; omitted when its date is in the past.
    stale : datetime, optional
        Time at which the champion becomes stale; included also when it is in the past.
    """
    found = [
        CalendarEvent(day, DUE, "Scheduled monitoring run.") for day in takewhile(lambda day: day <= until, run.days)
    ]
    if run.overdue:
        found.insert(0, CalendarEvent(run.due, DUE, "Missed scheduled monitoring run."))
    if training and run.today <= training.date() <= until:
        found.append(CalendarEvent(training.date(), TRAINING, f"Earliest next training: {training:%H:%M}."))
    if stale and stale.date() <= until:
        found.append(CalendarEvent(stale.date(), STALE, "The champion becomes stale."))
    return found


def acted(decision: RetrainingDecision) -> bool:
    """Whether a decision has an effect: it is to retrain, and not a dry run."""
    return decision.decision == records.RETRAIN and decision.mode != "dry_run"


def describe_decision(decision: RetrainingDecision, *, dated: bool = True, with_outcome: bool = True) -> str:
    """Describe a decision and its outcome.

    Parameters
    ----------
    decision : RetrainingDecision
    dated, with_outcome : bool
        Include the date, and what came of the decision.
    """
    when = f", {format_datetime(decision.decided_at)}" if dated else ""
    why = f" ({decision.trigger})" if decision.trigger else ""
    text = f"Decision {decision.number}{when}: {decision.decision}{why}."
    if decision.decision == records.NO_ACTION or not with_outcome:
        return text
    if not acted(decision):
        return f"{text} Dry run, no action."
    came = {records.PENDING: "In progress", records.NOTHING_TO_DO: "No action"}
    version = f": version {decision.challenger}" if decision.challenger else ""
    return f"{text} {came.get(decision.outcome, decision.outcome.capitalize())}{version}."


def format_datetime(when: datetime) -> str:
    """Format a date and time in UTC, short.

    Examples
    --------
    >>> format_datetime(datetime(2026, 11, 2, 9, 30))
    '2 Nov 2026 09:30 UTC'
    """
    return f"{when.day} {when:%b %Y %H:%M} UTC"


def format_time_of_label(when: datetime) -> str:
    """Format the time of a label: without a time of day where the table has dates only.

    Examples
    --------
    >>> format_time_of_label(datetime(2016, 4, 13)), format_time_of_label(datetime(2026, 11, 2, 9, 30))
    ('13 Apr 2016', '2 Nov 2026 09:30 UTC')
    """
    return f"{when.day} {when:%b %Y}" if when.time() == time() else format_datetime(when)


def format_date(day: date) -> str:
    """Format a date, in full.

    Examples
    --------
    >>> format_date(date(2026, 11, 29))
    'Sunday 29 November 2026'
    """
    return f"{day:%A} {day.day} {day:%B %Y}"


def month_of(day: date, later_by: int = 0) -> date:
    """Return the first day of a date's month, shifted by some months.

    Examples
    --------
    >>> month_of(date(2026, 11, 29)), month_of(date(2026, 11, 29), -11)
    (datetime.date(2026, 11, 1), datetime.date(2025, 12, 1))
    """
    return later(day.replace(day=1), Cadence.MONTH, later_by)


def _describe_run(run: MonitoringRun) -> str:
    at = run.current or run.source
    return f"Monitoring run on {at}: {run.health or 'no status'}."
