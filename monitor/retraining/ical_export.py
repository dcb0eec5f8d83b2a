"""Export of the scheduled monitoring runs as an iCalendar file (RFC 5545)."""

from collections.abc import Iterator
from datetime import datetime

from monitor.retraining.calendar import Cadence, NextMonitoringRun

COMMANDS = ("mlflow run . -e monitoramento", "mlflow run . -e retreino")
"""Commands of a scheduled run."""

_RULE = {
    Cadence.DAY: "FREQ=DAILY",
    Cadence.WEEK: "FREQ=WEEKLY",
    Cadence.FORTNIGHT: "FREQ=WEEKLY;INTERVAL=2",
    Cadence.MONTH: "FREQ=MONTHLY",
}
_OCTETS = 75
_IN_EVERY_MONTH = 28


def written(scheduled: NextMonitoringRun, *, name: str, uid: str, now: datetime) -> bytes:
    """Write the scheduled runs as an iCalendar file (RFC 5545) with one recurring all-day event.

    Parameters
    ----------
    scheduled : NextMonitoringRun
    name : str
        Name of the registered model.
    uid : str
        Stable per schedule, so that importing a second file replaces the first.
    now : datetime
        In UTC.
    """
    description = "\n".join(["Run monitoring and the retraining policy:", *COMMANDS])
    lines = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//kobe_shot//monitor//EN",
        "BEGIN:VEVENT",
        f"UID:{uid}",
        f"DTSTAMP:{now:%Y%m%dT%H%M%SZ}",
        f"DTSTART;VALUE=DATE:{next(scheduled.days):%Y%m%d}",
        f"RRULE:{_rule(scheduled)}",
        f"SUMMARY:{_escaped(f'Monitor {name}')}",
        f"DESCRIPTION:{_escaped(description)}",
        "TRANSP:TRANSPARENT",
        "END:VEVENT",
        "END:VCALENDAR",
    ]
    return b"".join(b"\r\n ".join(_folded(line)) + b"\r\n" for line in lines)


def _rule(scheduled: NextMonitoringRun) -> str:
    if scheduled.cadence is not Cadence.MONTH or scheduled.counted_from.day <= _IN_EVERY_MONTH:
        return _RULE[scheduled.cadence]
    # A rule by day would skip months without that day; BYSETPOS=-1 selects the last of these days in each month.
    possible = ",".join(str(day) for day in range(_IN_EVERY_MONTH, scheduled.counted_from.day + 1))
    return f"{_RULE[scheduled.cadence]};BYMONTHDAY={possible};BYSETPOS=-1"


def _escaped(text: str) -> str:
    for sign in "\\;,":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("\n", "\\n")


def _folded(line: str) -> Iterator[bytes]:
    part, limit = b"", _OCTETS
    for sign in line:
        octets = sign.encode()
        if len(part) + len(octets) > limit:
            yield part
            # The space at the start of a continuation line is one of its octets.
            part, limit = b"", _OCTETS - 1
        part += octets
    yield part
