"""The next looks as a file for a person's own calendar (iCalendar, RFC 5545)."""

from collections.abc import Iterator
from datetime import datetime

from monitor.retraining.calendar import Cadence, NextMonitoringRun

COMMANDS = ("mlflow run . -e monitoramento", "mlflow run . -e retreino")
"""What a look is."""

_RULE = {
    Cadence.DAY: "FREQ=DAILY",
    Cadence.WEEK: "FREQ=WEEKLY",
    Cadence.FORTNIGHT: "FREQ=WEEKLY;INTERVAL=2",
    Cadence.MONTH: "FREQ=MONTHLY",
}
_OCTETS = 75
_IN_EVERY_MONTH = 28


def written(look: NextMonitoringRun, *, name: str, uid: str, now: datetime) -> bytes:
    """The next looks as an iCalendar file (RFC 5545) of one event that repeats, each for a whole day.

    Parameters
    ----------
    look : NextLook
    name : str
        Of the model.
    uid : str
        The same for the same loop, so that a second file takes the place of the first.
    now : datetime
        In UTC.
    """
    description = "\n".join(["Look, and let the loop decide:", *COMMANDS])
    lines = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//kobe_shot//monitor//EN",
        "BEGIN:VEVENT",
        f"UID:{uid}",
        f"DTSTAMP:{now:%Y%m%dT%H%M%SZ}",
        f"DTSTART;VALUE=DATE:{next(look.days):%Y%m%d}",
        f"RRULE:{_rule(look)}",
        f"SUMMARY:{_escaped(f'Look at {name}')}",
        f"DESCRIPTION:{_escaped(description)}",
        "TRANSP:TRANSPARENT",
        "END:VEVENT",
        "END:VCALENDAR",
    ]
    return b"".join(b"\r\n ".join(_folded(line)) + b"\r\n" for line in lines)


def _rule(look: NextMonitoringRun) -> str:
    if look.rhythm is not Cadence.MONTH or look.counted_from.day <= _IN_EVERY_MONTH:
        return _RULE[look.rhythm]
    # Months that lack the day would be left out: of these days, the last that a month has is meant.
    possible = ",".join(str(day) for day in range(_IN_EVERY_MONTH, look.counted_from.day + 1))
    return f"{_RULE[look.rhythm]};BYMONTHDAY={possible};BYSETPOS=-1"


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
            # The space at the start of a line that goes on is one of its octets.
            part, limit = b"", _OCTETS - 1
        part += octets
    yield part
