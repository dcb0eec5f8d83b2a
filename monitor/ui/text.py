"""The language of the pages: English, or what a gettext catalog of `locale` translates."""

import ast
import calendar
import gettext
import re
from functools import cache
from pathlib import Path

import streamlit as st

from data.datasets import worded, worded_in_portuguese

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
_DATE_WORD = re.compile(rf"\b(?:{'|'.join(sorted(_DATES['pt'], key=len, reverse=True))})\b")


class Catalog(gettext.NullTranslations):
    """The translations of a ``.po`` file, read without a compiled copy of it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.messages = read(path)

    def gettext(self, message: str) -> str:
        """The translation, or the message itself where there is none."""
        return self.messages.get(message) or message


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
    return _DATE_WORD.sub(lambda found: words[found.group()], text) if words else text


def language() -> str:
    """The language of this visitor."""
    selected = str(st.session_state.get(LANGUAGE) or ENGLISH)
    return selected if selected in LANGUAGES else ENGLISH


def _(message: str) -> str:
    """A message in the language of this visitor and the words of the dataset."""
    selected = language()
    return worded(message) if selected == ENGLISH else worded_in_portuguese(_catalog(selected).gettext(message))


@cache
def _catalog(name: str) -> Catalog:
    return Catalog(_CATALOGS[name])
