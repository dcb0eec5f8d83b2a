"""Formats of values in the report: escaped for Markdown, and numbers as in Brazil."""

import math
import re
from datetime import datetime

import jinja2
from markupsafe import Markup

from monitor.reports.pipeline.artifacts import thousands
from monitor.reports.pipeline.facts import Missing, Number, Text

_SPECIAL = re.compile(r"([\\`*_\[\]<>#|$~&])")
_FIRST = re.compile(r"^(\d+)([.)])(?=\s|$)|^([-+=:])")
_UNITS = ("B", "KiB", "MiB", "GiB")
_KIBI = 1024


def escaped(text: str) -> Markup:
    r"""Escape a text for Markdown, for a line and for a cell of a table.

    Examples
    --------
    >>> print(escaped("a | b\n<script>"))
    a \| b \<script\>
    """
    line = _SPECIAL.sub(r"\\\1", re.sub(r"\s+", " ", text))
    return Markup(_FIRST.sub(lambda found: f"{found[1]}\\{found[2]}" if found[1] else f"\\{found[3]}", line))  # noqa: S704


def formatted(value: object) -> Markup:
    """Format a value of a template: escape text, name a missing value, raise for an unformatted number."""
    if isinstance(value, Missing):
        what = escaped(" ".join(filter(None, [value.what, value.holder])))
        return Markup(f"**ausente**: {what}; para gerar: {code(value.command)}")  # noqa: S704
    if isinstance(value, Markup):
        return value
    if isinstance(value, str):
        return escaped(value)
    if isinstance(value, jinja2.Undefined):
        return Markup(str(value))  # noqa: S704 it raises
    message = f"expected text, or a number formatted by a filter; found {value!r} of type {type(value).__name__}"
    raise TypeError(message)


def strong(value: Text) -> Markup:
    """Format a text in bold, unless a part of it is bold already, as a missing value is."""
    text = formatted(value)
    return text if "**" in text else Markup(f"**{text}**")  # noqa: S704 it is escaped


def brazilian(text: str) -> str:
    """Swap the separators of an English number."""
    return text.translate(str.maketrans(",.", ".,"))


def decimal(value: Number | str | None, form: str, scale: float = 1.0, unit: str = "") -> Markup:
    """Format a number by a format specification; a missing number is named, and NaN is not defined."""
    if isinstance(value, Missing):
        return formatted(value)
    if isinstance(value, str):
        try:
            return decimal(float(value), form, scale, unit)
        except ValueError:
            return escaped(value)
    if value is None or math.isnan(value):
        return Markup("não definida")
    text = f"{value * scale:{form}}"
    # A small negative number that is rounded to zero has no sign.
    text = text.removeprefix("-") if not any(digit in text for digit in "123456789") else text
    return Markup(brazilian(text) + unit)  # noqa: S704 digits


def number(value: Number | str | None, digits: int = 4) -> Markup:
    """Format a number with decimals."""
    return decimal(value, f",.{digits}f")


def percent(value: Number | str | None, digits: int = 1) -> Markup:
    """Format a share as a percentage."""
    return decimal(value, f",.{digits}f", 100, "%")


def integer(value: Number | str | None) -> Markup:
    """Format a number without decimals."""
    return decimal(value, ",.0f")


def size(count: int | None) -> Markup:
    """Format a number of bytes."""
    if count is None:
        return Markup("—")
    amount, unit = float(count), 0
    while amount >= _KIBI and unit < len(_UNITS) - 1:
        amount, unit = amount / _KIBI, unit + 1
    return Markup(f"{thousands(count)} B" if unit == 0 else f"{brazilian(f'{amount:,.1f}')} {_UNITS[unit]}")  # noqa: S704


def timestamp(value: datetime) -> Markup:
    """Format a date and time."""
    return Markup(f"{value:%d/%m/%Y %H:%M}")  # noqa: S704


def code(text: Text) -> Markup:
    """Format a text as inline code."""
    if isinstance(text, Missing):
        return formatted(text)
    if not text or set(text) & set("`|\n\r$\\"):
        return escaped(text) or Markup("(vazio)")
    return Markup(f"`{text}`")  # noqa: S704 nothing in it ends the code


def commit(found: Text) -> Markup:
    """Format a git commit."""
    return Markup("desconhecido (a pasta não era um repositório git)") if found == "unknown" else code(found)
