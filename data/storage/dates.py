"""Dates as people write them, read as ``2013-10-29`` where only one day can be meant."""

import datetime as dt
import re
from contextlib import suppress

import pyarrow as pa
import pyarrow.compute as pc

_ISO = r"^\s*(\d{4}-\d{2}-\d{2}([T ].*)?)?\s*$"
_YEAR_FIRST = re.compile(r"(\d{4})(?:(\d\d)(\d\d)|[/.-](\d\d?)[/.-](\d\d?))(?:[T ].*)?", re.DOTALL)
_YEAR_LAST = re.compile(r"(\d\d?)([/.-])(\d\d?)\2(\d{4})(?:[T ].*)?", re.DOTALL)
_WITH_WORDS = ("%b %d, %Y", "%B %d, %Y", "%a, %b %d, %Y", "%d %b %Y", "%d %B %Y", "%d-%b-%Y")
_MONTHS = 12


class DateReader:
    """Reads the dates of one column, chunk by chunk.

    ``28/11/2000`` shows that the column has the day first, ``11/28/2000`` that it has the month first. Until a value
    shows it, a date such as ``10/11/2000`` stays as it is, as does what is no date; with dots, the day is first.

    Examples
    --------
    >>> DateReader().read(pa.array(["20001031", "31/10/2000", "2/11/2000", "Nov 3, 2000", None])).to_pylist()
    ['2000-10-31', '2000-10-31', '2000-11-02', '2000-11-03', None]
    """

    def __init__(self) -> None:
        self._day_first: bool | None = None

    def read(self, column: pa.Array) -> pa.Array:
        """Return strings with the dates that can be read as ``2013-10-29``."""
        # Many rows have one day; the pattern is slow.
        encoded = column.dictionary_encode()
        if pc.all(pc.match_substring_regex(encoded.dictionary, _ISO)).as_py() is not False:
            return column
        texts = [text.strip() for text in encoded.dictionary.to_pylist()]
        for text in texts:
            self._find_order(text)
        return pa.array([self._iso(text) or text for text in texts], pa.string()).take(encoded.indices)

    def _find_order(self, text: str) -> None:
        found = _YEAR_LAST.fullmatch(text)
        if self._day_first is None and found and found[2] != ".":
            first, second = int(found[1]), int(found[3])
            if max(first, second) > _MONTHS >= min(first, second):
                self._day_first = first > second

    def _iso(self, text: str) -> str:
        with suppress(ValueError):
            if found := _YEAR_FIRST.fullmatch(text):
                year, *rest = (int(part) for part in found.groups() if part is not None)
                return dt.date(year, *rest).isoformat()
            if found := _YEAR_LAST.fullmatch(text):
                day_first = True if found[2] == "." else self._day_first
                day, month = (found[1], found[3]) if day_first else (found[3], found[1])
                return "" if day_first is None else dt.date(int(found[4]), int(month), int(day)).isoformat()
        for form in _WITH_WORDS:
            with suppress(ValueError):
                return dt.datetime.strptime(text, form).date().isoformat()  # noqa: DTZ007 a day has no zone
        return ""
