"""The language of the pages: English, or what a gettext catalog of `locale` translates."""

import ast
import calendar
import re
from functools import cache, lru_cache
from pathlib import Path

import streamlit as st

from data.datasets import Dataset, current, worded, worded_in_portuguese
from monitor import portuguese
from monitor.health.checks import ALL_CHECKS

ENGLISH = "en"
LANGUAGES = {ENGLISH: "English", "pt": "Português"}
"""Languages of the pages by the value in the URL."""
LANGUAGE = "lang"
"""Widget key and query parameter of the language."""

_MONTHS = (
    *("janeiro", "fevereiro", "março", "abril", "maio", "junho"),
    *("julho", "agosto", "setembro", "outubro", "novembro", "dezembro"),
)
_LOCALE = Path(__file__).parent / "locale"
_CATALOGS = {"pt": _LOCALE / "pt_BR" / "LC_MESSAGES" / "monitor.po"}

_NUMBER = r"[-+\d.,:%]+"
_NUMBER_NAMES = (
    "auc batches count delay distance done drifted error features feet high hours intercept labeled labels large low "
    "moderate needed new number own place promotions rest rows runs score share shown slope threshold trainings value "
    "version"
)
_NUMBERS = frozenset(_NUMBER_NAMES.split())
"""Names of values in messages that are numbers."""

_DATES = {
    "pt": {
        **dict(
            zip(
                ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
                ("segunda-feira", "terça-feira", "quarta-feira", "quinta-feira", "sexta-feira", "sábado", "domingo"),
                strict=True,
            )
        ),
        **dict(zip(calendar.month_name[1:], _MONTHS, strict=True)),
        **{short: month[:3] for short, month in zip(calendar.month_abbr[1:], _MONTHS, strict=True)},
    }
}
_LONG_DATE = re.compile(rf"(\S+-feira|sábado|domingo) (\d+) ({'|'.join(_MONTHS)}) (\d{{4}})")
_DATE_WORD = re.compile(rf"\b(?:{'|'.join(sorted(_DATES['pt'], key=len, reverse=True))})\b")


def read(path: Path) -> dict[str, str]:
    """Read the messages of a ``.po`` file; comments, contexts and plural forms are not used here."""
    found: dict[str, str] = {}
    parts: dict[str, str] = {}
    kind = ""
    for line in [*path.read_text(encoding="utf-8").splitlines(), 'msgid ""']:
        keyword, _space, rest = line.partition(" ")
        if keyword in {"msgid", "msgstr"}:
            if keyword == "msgid" and parts.get("msgid"):
                found[parts["msgid"]] = parts.get("msgstr", "")
            if keyword == "msgid":
                parts = {}
            kind, line = keyword, rest  # noqa: PLW2901 the string of the keyword
        if kind and line.startswith('"'):
            parts[kind] = parts.get(kind, "") + str(ast.literal_eval(line))
    return found


def localized(text: str) -> str:
    """A sentence with its days and months in the language of this visitor."""
    words = _DATES.get(language())
    if not words:
        return text
    return _LONG_DATE.sub(r"\1, \2 de \3 de \4", _DATE_WORD.sub(lambda found: words[found.group()], text))


def language() -> str:
    """The language of this visitor."""
    selected = str(st.session_state.get(LANGUAGE) or ENGLISH)
    return selected if selected in LANGUAGES else ENGLISH


def _(message: str) -> str:
    """A message in the language of this visitor and the words of the dataset."""
    selected = language()
    if selected == ENGLISH:
        return worded(message)
    known = _messages(selected).get(message)
    return worded_in_portuguese(known) if known else sentence(worded(message))


class _Translated(str):
    """A sentence that is in the language of the visitor already: its numbers are not English ones."""

    __slots__ = ()


def sentence(text: str) -> str:
    """A sentence that holds its values, in the language of this visitor; one that no catalog has stays as it is.

    It is in the words of the dataset: a page wrote it, or a run holds it.
    """
    selected = language()
    if selected == ENGLISH or isinstance(text, _Translated):
        return text
    return _Translated(localized(portuguese.numbers(_translated(text, selected, current()))))


@lru_cache(maxsize=1_000)
def _translated(text: str, language: str, dataset: Dataset) -> str:
    for pattern, template in _sentences(language, dataset):
        if found := pattern.fullmatch(text):
            values = {name: _translated(value, language, dataset) for name, value in found.groupdict().items()}
            return template.format(**values)
    known = portuguese.sentence(text)
    return text if known is None else worded_in_portuguese(known, dataset)


@lru_cache(maxsize=4)
def _sentences(language: str, dataset: Dataset) -> list[tuple[re.Pattern[str], str]]:
    """Patterns of the messages in the words of a dataset, the longest first, and their translations as templates."""
    found = []
    for message, translation in sorted(_messages(language).items(), key=lambda each: -len(each[0])):
        if translation:
            # Every other part is the name of a value.
            parts = re.split(r"\{(\w+)\}", worded(message, dataset))
            seen: set[str] = set()
            pattern = "".join(_value(part, seen) if place % 2 else re.escape(part) for place, part in enumerate(parts))
            found.append((re.compile(pattern, re.DOTALL), worded_in_portuguese(translation, dataset)))
    return found


def _value(name: str, seen: set[str]) -> str:
    """Pattern of a value of a message; a name that occurs again stands for the same value."""
    if name in seen:
        return f"(?P={name})"
    seen.add(name)
    return f"(?P<{name}>{_NUMBER if name in _NUMBERS else '.+?'})"


@cache
def _messages(language: str) -> dict[str, str]:
    """The translations of a catalog, read without a compiled copy of it, and the titles of checks."""
    titles = {check.title: portuguese.CHECKS[check.code][0] for check in ALL_CHECKS}
    return read(_CATALOGS[language]) | titles
