"""The rules of the schema for the values of raw tables, as Ibis expressions, which any engine computes."""

import math
from collections.abc import Iterable
from functools import reduce
from operator import or_

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import numpy as np

from data.datasets import Column, Dataset
from data.validation import DATE, DAY

_NUMBER = "^[+-]?(nan|inf|infinity|([0-9]+[.]?[0-9]*|[.][0-9]+)(e[+-]?[0-9]+)?)$"
_FALSE = ibis.literal(value=False)


def violations(table: ir.Table, dataset: Dataset, also_required: Iterable[str] = ()) -> dict[Column, ir.BooleanColumn]:
    """Whether each row violates the description, by column, in its order.

    Parameters
    ----------
    table : ibis.Table
        Raw rows.
    dataset : Dataset
    also_required : iterable of str
        Names in raw tables of additional columns that must not contain nulls.

    Returns
    -------
    dict of Column to ibis.BooleanColumn
        Never null. Columns that the table lacks, or whose values cannot violate the schema, are not in it.
    """
    found = _violations(table, dataset, also_required)
    return {column: broken.fill_null(_FALSE) for column, broken in found.items()}


def _violations(table: ir.Table, dataset: Dataset, also_required: Iterable[str]) -> dict[Column, ir.BooleanColumn]:
    """As `violations`; null where a value is missing that may be missing."""
    found = {}
    for column in dataset.columns:
        if column.raw_name not in table.columns:
            continue
        value = _spelled(column, table[column.raw_name])
        needed = column.role == "id" or column.raw_name in also_required
        is_number = column.is_numeric or column.role == "target"
        conditions = _number_violations(column, value, needed=needed) if is_number else []
        if not is_number and needed:
            conditions.append(value.isnull())
        if column.kind == "date" and (column.role in {"feature", "time"} or needed):
            conditions.append(~_is_date(value.cast("string")))
        if column.allowed and not is_number:
            conditions.append(~value.cast("string").isin(column.allowed))
        if conditions:
            found[column] = reduce(or_, conditions)
    return found


def is_valid(table: ir.Table, dataset: Dataset, also_required: Iterable[str] = ()) -> ir.BooleanColumn:
    """Whether each row of a raw table satisfies the description; see `violations`."""
    return ~reduce(or_, _violations(table, dataset, also_required).values()).fill_null(_FALSE)


def reason(table: ir.Table, dataset: Dataset) -> ir.StringColumn:
    """Why each row of a raw table is rejected: its first violation, as in `rejection_reason`; null for a valid row."""
    texts = [
        broken.ifelse(
            ibis.literal(f"column {column.raw_name}: found ")
            + _shown(column, table[column.raw_name])
            + ibis.literal(f", expected {column.constraint_text}"),
            None,
        )
        for column, broken in violations(table, dataset).items()
    ]
    return ibis.coalesce(*texts)


def value_of(column: Column, value: ir.Column) -> ir.Column:
    """A raw value as it is in prepared tables: a double or a string; null if it is missing."""
    if column.is_numeric or column.role == "target":
        return number(column, _spelled(column, value))
    if column.kind == "date":
        return day(value)
    return value.cast("string")


def _spelled(column: Column, value: ir.Column) -> ir.Column:
    """A raw value; of a boolean that is read by a pattern, 1 or 0."""
    if not column.true_pattern or not value.type().is_string():
        return value
    is_true = value.re_search(column.true_pattern) | (value.strip() == "1")
    return is_true.cast("int64").cast("string")


def day(dates: ir.Column) -> ir.StringColumn:
    """Dates as strings; of timestamps, the day in UTC."""
    if dates.type().is_temporal():
        return dates.cast("date").cast("string")
    texts = dates.cast("string")
    return _is_date(texts).ifelse(texts.substr(0, DAY), texts)


def _is_date(texts: ir.StringColumn) -> ir.BooleanColumn:
    """Whether strings are dates; the pattern is slow, so it is searched only where a day is not all of the string."""
    is_day = _is_day(texts) & (texts.length() == DAY)
    return ibis.cases((is_day, True), else_=texts.re_search(DATE) & _is_day(texts.substr(0, DAY)))


def _is_day(texts: ir.StringColumn) -> ir.BooleanColumn:
    # Engines also read the year 0.
    return (texts == texts.try_cast("date").cast("string").fill_null("")) & (texts >= "0001")


def number(column: Column, value: ir.Column) -> ir.FloatingColumn:
    """A raw value as a double; null if it is not a number.

    The ends of a range are rounded in a float32 column, so its values are rounded into the range.
    """
    found = _double(value)
    if value.type().is_string():
        found = found.isnan().ifelse(None, found)
    ends = {np.float32(end).item(): end for end in column.limits if end is not None}
    if value.type() == dt.float32 and ends:
        found = found.cases(*ends.items(), else_=found)
    return found


def whole(value: ir.Column) -> ir.IntegerColumn:
    """A raw value as a bigint; null if it is not a number, or too large."""
    if value.type().is_integer() or value.type().is_boolean():
        return value.cast("int64")
    exact = [value.try_cast("int64")] if value.type().is_string() else []
    return ibis.coalesce(*exact, _double(value).try_cast("int64"))


def _number_violations(column: Column, value: ir.Column, *, needed: bool) -> list[ir.BooleanColumn]:
    is_integer = value.type().is_integer()
    found = value if is_integer else number(column, value)
    conditions = [found.isnull()] if needed else []
    if not value.type().is_numeric():
        conditions.append(value.notnull() & _double(value).isnull())
    low, high = column.limits
    if low is not None:
        conditions.append(found < (math.ceil(low) if is_integer else low))
    if high is not None:
        conditions.append(found > (math.floor(high) if is_integer else high))
    if is_integer:
        return conditions
    if column.kind != "float":
        conditions.append(~(found % 1 == 0))
    elif None in {low, high}:
        conditions.append(found.isinf())
    if column.role == "id":
        conditions.append(whole(value).isnull())
    return conditions


def _double(value: ir.Column) -> ir.FloatingColumn:
    """A raw value as a double, which is NaN for such a string; null if it is not a number."""
    kind = value.type()
    if kind.is_numeric() or kind.is_boolean():
        return value.cast("float64")
    if kind.is_string():
        # Engines parse different strings as numbers, such as 1d.
        text = value.strip().lower()
        return text.re_search(_NUMBER).ifelse(text, None).try_cast("float64")
    return ibis.null("float64")


def _shown(column: Column, value: ir.Column) -> ir.StringColumn:
    """The text of a value, like format(value, ".10g") in Python; strings are quoted."""
    text = ibis.literal("'") + value.cast("string") + ibis.literal("'")
    if not column.is_numeric and column.role != "target" and not value.type().is_numeric():
        return text.fill_null("null")
    double = _double(value)
    # Java writes Infinity, and zeros at the end of the fraction.
    general = _printf("%.10g", double).replace("Infinity", "inf")
    mantissa, exponent = general.re_replace("e.*$", ""), general.re_replace("^[^e]*", "")
    short = mantissa.contains(".").ifelse(mantissa.re_replace("[.]?0*$", ""), mantissa) + exponent
    is_null = value.isnull() | double.isnan().fill_null(_FALSE)
    return ibis.cases((is_null, "null"), (double.isnull(), text), else_=short)


@ibis.udf.scalar.builtin(name="printf")  # type: ignore[untyped-decorator] # Ibis has no types
def _printf(template: str, value: float) -> str:  # type: ignore[empty-body] # of the engine
    """C's function of that name, which DuckDB and Spark have."""
