"""What stands in the loop's calendar, and when its next look is due: pure dates and words, all in UTC."""

import calendar
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from itertools import count, takewhile

import pandas as pd

from monitor.retraining import decision_log
from monitor.store import records
from monitor.store.records import MonitoringRun, RetrainingDecision

LOOK, DECISION, PROMOTION, ROLL_BACK = "look", "decision", "promotion", "roll back"
DUE, TRAINING, STALE = "look due", "earliest training", "champion stale"
KINDS = (LOOK, DECISION, PROMOTION, ROLL_BACK, DUE, TRAINING, STALE)
"""Of entries: four that have happened, three that are to come."""


class Cadence(StrEnum):
    """How often the loop is meant to look."""

    DAY = "day"
    WEEK = "week"
    FORTNIGHT = "two weeks"
    MONTH = "month"


_DAYS = {Cadence.DAY: 1, Cadence.WEEK: 7, Cadence.FORTNIGHT: 14}


@dataclass(frozen=True)
class CalendarEvent:
    """One entry of the calendar.

    Attributes
    ----------
    day : date
    kind : str
        One of ``KINDS``.
    words : str
    """

    day: date
    kind: str
    words: str


@dataclass(frozen=True)
class NextMonitoringRun:
    """When the next look is due.

    Attributes
    ----------
    rhythm : Rhythm
    last : date or None
        Day of the last look; None where nobody has looked yet.
    today : date
    """

    rhythm: Cadence
    last: date | None
    today: date

    @property
    def due(self) -> date:
        """The day by which somebody should have looked; it may have passed."""
        return later(self.last, self.rhythm) if self.last else self.today

    @property
    def overdue(self) -> bool:
        """Whether that day has passed."""
        return self.due < self.today

    @property
    def counted_from(self) -> date:
        """The last look; today, where there is none or the next one should have been."""
        return self.last if self.last and not self.overdue else self.today

    @property
    def days(self) -> Iterator[date]:
        """The days of the next looks, without end; one that is overdue, or the first of all, is for today."""
        first = 1 if self.last and not self.overdue else 0
        return (later(self.counted_from, self.rhythm, times) for times in count(first))

    @property
    def words(self) -> str:
        """When, and why then."""
        every = f"a look every {self.rhythm}"
        if self.last is None:
            return f"Next look: today, {format_date(self.today)} (nobody has looked yet; from then on {every})."
        why = f"({every}; the last one was on {format_date(self.last)})"
        if self.overdue:
            return f"Overdue since {format_date(self.due)} {why}."
        return f"Next look: {'today, ' if self.due == self.today else ''}{format_date(self.due)} {why}."


def later(day: date, rhythm: Cadence, times: int = 1) -> date:
    """The day that is some steps of a rhythm later; a month that is too short ends on its last day.

    Examples
    --------
    >>> later(date(2028, 1, 31), Cadence.MONTH), later(date(2028, 1, 31), Cadence.MONTH, 2)
    (datetime.date(2028, 2, 29), datetime.date(2028, 3, 31))
    """
    if rhythm is not Cadence.MONTH:
        return day + timedelta(days=_DAYS[rhythm] * times)
    first = month_of(day, times)
    return first.replace(day=min(day.day, calendar.monthrange(first.year, first.month)[1]))


def next_look(
    looks: Sequence[MonitoringRun], log: Sequence[RetrainingDecision], rhythm: Cadence, now: datetime
) -> NextMonitoringRun:
    """When the next look is due.

    Parameters
    ----------
    looks : sequence of MonitoringRun
        Monitorings; those that came to no verdict have not looked.
    log : sequence of RetrainingDecision
        Of these, those that were made without being asked for (mode ``auto``) count as looks.
    rhythm : Rhythm
    now : datetime
        In UTC.
    """
    moments = [look.started for look in looks if look.health]
    moments += [decision.decided_at for decision in log if decision.mode == "auto"]
    return NextMonitoringRun(rhythm, max(moments).date() if moments else None, now.date())


def next_training(log: Sequence[RetrainingDecision], cooldown: timedelta) -> datetime | None:
    """When a challenger may be trained again; None where none was trained yet."""
    last = decision_log.last_trained(log)
    return last.decided_at + cooldown if last else None


def milestones(training: datetime | None, stale: datetime | None, now: datetime) -> list[str]:
    """What is to come beside looks, in words.

    Parameters
    ----------
    training, stale : datetime or None
        When a challenger may be trained again, and when the champion is stale; None where there is none.
    now : datetime
        In UTC.
    """
    if training is None:
        words = ["Earliest next training: now (no challenger has been trained yet)."]
    elif training <= now:
        words = [f"Earliest next training: now (the cooldown ended on {format_datetime(training)})."]
    else:
        words = [f"Earliest next training: {format_datetime(training)}, when the cooldown ends."]
    if stale:
        day = format_date(stale.date())
        words.append(
            f"The champion has been stale since {day}." if stale <= now else f"The champion is stale from {day} on."
        )
    return words


def past_events(
    looks: Sequence[MonitoringRun], log: Sequence[RetrainingDecision], promotions: pd.DataFrame
) -> list[CalendarEvent]:
    """What has happened, as entries, oldest first.

    Parameters
    ----------
    looks : sequence of MonitoringRun
        Monitorings, also those that failed.
    log : sequence of RetrainingDecision
    promotions : pandas.DataFrame
        ``when``, ``version``, ``kind`` and ``why``, as `monitor.store.listings.promotions_table` has them.
    """
    dated = [(look.started, LOOK, _look_words(look)) for look in looks]
    dated += [(decision.decided_at, DECISION, describe_decision(decision, dated=False)) for decision in log]
    columns = (promotions[name] for name in ("when", "version", "kind", "why"))
    for when, version, kind, why in zip(*columns, strict=True):
        back = kind == ROLL_BACK
        became = "came back as champion" if back else "became champion"
        dated.append((when.to_pydatetime(), ROLL_BACK if back else PROMOTION, f"Version {version} {became}: {why}"))
    ordered = sorted(dated, key=lambda entry: entry[0])
    return [CalendarEvent(when.date(), kind, f"{when:%H:%M} {words}") for when, kind, words in ordered]


def upcoming_events(
    look: NextMonitoringRun, until: date, *, training: datetime | None = None, stale: datetime | None = None
) -> list[CalendarEvent]:
    """What is to come until a day, that day included, as entries.

    Parameters
    ----------
    look : NextLook
    until : date
    training : datetime, optional
        When a challenger may be trained again; not shown once its day has passed.
    stale : datetime, optional
        When the champion is stale; shown also when that has passed.
    """
    found = [CalendarEvent(day, DUE, "A look is due.") for day in takewhile(lambda day: day <= until, look.days)]
    if look.overdue:
        found.insert(0, CalendarEvent(look.due, DUE, "A look was due and did not come."))
    if training and look.today <= training.date() <= until:
        found.append(
            CalendarEvent(training.date(), TRAINING, f"From {training:%H:%M} on a challenger may be trained again.")
        )
    if stale and stale.date() <= until:
        found.append(CalendarEvent(stale.date(), STALE, "From here on the champion is stale."))
    return found


def acted(decision: RetrainingDecision) -> bool:
    """Whether something was to come of a decision: it said to retrain, and not only for the saying."""
    return decision.decision == records.RETRAIN and decision.mode != "dry_run"


def describe_decision(decision: RetrainingDecision, *, dated: bool = True) -> str:
    """A decision and what came of it.

    Parameters
    ----------
    decision : RetrainingDecision
    dated : bool
        Say when, too.
    """
    when = f", {format_datetime(decision.decided_at)}" if dated else ""
    why = f" ({decision.trigger})" if decision.trigger else ""
    said = f"Decision {decision.number}{when}: {decision.decision}{why}."
    if decision.decision == records.NO_ACTION:
        return said
    if not acted(decision):
        return f"{said} Only said, nothing was done."
    came = {records.PENDING: "Not ended yet", records.NOTHING_TO_DO: "Nothing was to do"}
    version = f": version {decision.challenger}" if decision.challenger else ""
    return f"{said} {came.get(decision.outcome, decision.outcome.capitalize())}{version}."


def format_datetime(when: datetime) -> str:
    """A moment, short.

    Examples
    --------
    >>> format_datetime(datetime(2026, 11, 2, 9, 30))
    '2 Nov 2026 09:30'
    """
    return f"{when.day} {when:%b %Y %H:%M}"


def format_date(day: date) -> str:
    """A day, in full.

    Examples
    --------
    >>> format_date(date(2026, 11, 29))
    'Sunday 29 November 2026'
    """
    return f"{day:%A} {day.day} {day:%B %Y}"


def month_of(day: date, later_by: int = 0) -> date:
    """First day of the month of a day, or of one so many months later.

    Examples
    --------
    >>> month_of(date(2026, 11, 29)), month_of(date(2026, 11, 29), -11)
    (datetime.date(2026, 11, 1), datetime.date(2025, 12, 1))
    """
    year, month = divmod(day.year * 12 + day.month - 1 + later_by, 12)
    return date(year, month + 1, 1)


def weeks(month: date) -> list[list[date]]:
    """The weeks that a month touches, each from Monday to Sunday."""
    return calendar.Calendar().monthdatescalendar(month.year, month.month)


def _look_words(look: MonitoringRun) -> str:
    at = look.current or look.source
    return f"Look at {at}: {look.health or 'it came to no verdict'}."
