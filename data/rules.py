"""The rules of the schema for the values of raw tables, as Ibis expressions, which any engine computes."""

from collections.abc import Iterable
from functools import reduce
from operator import or_

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import numpy as np

from data.schema import COLUMN, COLUMNS, Column

_NUMBER = "^[+-]?(nan|inf|infinity|([0-9]+[.]?[0-9]*|[.][0-9]+)(e[+-]?[0-9]+)?)$"
_FALSE = ibis.literal(value=False)


def violations(table: ir.Table, also_required: Iterable[str] = ()) -> dict[Column, ir.BooleanColumn]:
    """Whether each row violates the schema, by column, in the order of the schema.

    Parameters
    ----------
    table : ibis.Table
        Raw shots.
    also_required : iterable of str
        Additional columns that must not contain nulls.

    Returns
    -------
    dict of Column to ibis.BooleanColumn
        Never null. Columns that the table lacks, or whose values cannot violate the schema, are not in it.
    """
    found = {}
    for column in COLUMNS:
        if column.name not in table.columns:
            continue
        value = table[column.name]
        needed = not column.nullable or column.name in also_required
        conditions = _number_violations(column, value, needed=needed) if column.kind != "string" else []
        if column.kind == "string" and needed:
            conditions.append(value.isnull())
        if column.choices:
            conditions.append(~value.cast("string").isin(column.choices))
        if conditions:
            found[column] = reduce(or_, conditions).fill_null(_FALSE)
    return found


def is_valid(table: ir.Table, also_required: Iterable[str] = ()) -> ir.BooleanColumn:
    """Whether each row of a raw table satisfies the schema; see `violations`."""
    return ~reduce(or_, violations(table, also_required).values())


def reason(table: ir.Table) -> ir.StringColumn:
    """Why each row of a raw table is rejected: its first violation, as in `rejection_reason`; null for a valid row."""
    texts = [
        broken.ifelse(
            ibis.literal(f"column {column.name}: found ")
            + _shown(column, table[column.name])
            + ibis.literal(f", expected {column.constraint_text}"),
            None,
        )
        for column, broken in violations(table).items()
    ]
    return ibis.coalesce(*texts)


def number(name: str, value: ir.Column) -> ir.FloatingColumn:
    """A raw value as a double; null if it is NaN or not a number.

    The ends of a range are rounded in a float32 column, so its values are rounded into the range.
    """
    found = _double(value)
    if not value.type().is_integer():
        found = found.isnan().ifelse(None, found)
    low, high = COLUMN[name].minimum, COLUMN[name].maximum
    if value.type() == dt.float32 and low is not None and high is not None:
        ends = {np.float32(end).item(): end for end in (low, high)}
        found = found.cases(*ends.items(), else_=found)
    return found


def whole(value: ir.Column) -> ir.IntegerColumn:
    """A raw value as a bigint; null if it is not a number, or too large."""
    if value.type().is_integer() or value.type().is_boolean():
        return value.cast("int64")
    exact = [value.try_cast("int64")] if value.type().is_string() else []
    return ibis.coalesce(*exact, _double(value).try_cast("int64"))


def _number_violations(column: Column, value: ir.Column, *, needed: bool) -> list[ir.BooleanColumn]:
    found = number(column.name, value)
    conditions = [found.isnull()] if needed else []
    if not value.type().is_numeric():
        conditions.append(value.notnull() & _double(value).isnull())
    if column.minimum is not None and column.maximum is not None:
        in_range = value if value.type().is_integer() else found
        conditions.append(~in_range.between(column.minimum, column.maximum))
    if column.kind == "integer" and not value.type().is_integer():
        conditions.append(~(found % 1 == 0))
    if column.unique:
        conditions.append(whole(value).isnull())
    return conditions


def _double(value: ir.Column) -> ir.FloatingColumn:
    """A raw value as a double, which may be NaN; null if it is not a number."""
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
    if column.kind == "string" and not value.type().is_numeric():
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
