"""Which rows of a source are development and which are production, as described."""

from functools import reduce
from operator import or_

import ibis
import ibis.expr.types as ir

from data.acquisition.raw_shots import RawShots
from data.datasets import Column, Dataset, Rows
from data.engines.engine import Engine
from data.engines.hashing import HASH, with_hash
from data.engines.ranks import smallest_with_rows
from data.errors import SchemaError
from data.rules import value_of, whole

IS_DEVELOPMENT, IS_PRODUCTION = "__is_development", "__is_production"

_SEED = 0
_TIME, _ID = "__time", "__id"
_DEFAULT = Rows(share=0.2)


def selecting_columns(dataset: Dataset) -> list[str]:
    """Names in raw tables of the columns that select development and production, and are never null therefore."""
    parts = [dataset.development, dataset.production]
    names = [dataset.column(part.column).raw_name for part in parts if part.column]
    by_time = _production(dataset).share is not None and dataset.time is not None
    return list(dict.fromkeys([*names, *([dataset.time.raw_name] if by_time and dataset.time else [])]))


def with_parts(shots: RawShots) -> ir.Table:
    """Add the boolean columns ``IS_DEVELOPMENT`` and ``IS_PRODUCTION`` to the rows of a source.

    Raises
    ------
    SchemaError
        If a row is in both parts.
    """
    engine, table, dataset = shots.engine, shots.table, shots.dataset
    production, development = _production(dataset), dataset.development
    if production.share is not None:
        table = _with_last(engine, table, dataset, production.share * shots.rows)
    elif production.is_given:
        table = table.mutate(**{IS_PRODUCTION: _selected(table, dataset, production)})
    if development.is_given:
        selected = _selected(table, dataset, development)
        if production.share is not None:
            selected &= ~table[IS_PRODUCTION]
        table = table.mutate(**{IS_DEVELOPMENT: selected})
    else:
        table = table.mutate(**{IS_DEVELOPMENT: ~table[IS_PRODUCTION]})
    if not production.is_given:
        table = table.mutate(**{IS_PRODUCTION: ~table[IS_DEVELOPMENT]})
    if production.column and development.column:
        both = table.filter(table[IS_DEVELOPMENT] & table[IS_PRODUCTION])
        [found] = engine.rows(both.aggregate(rows=both.count()))
        if found["rows"]:
            message = (
                f"{shots.name}: expected rows that are development ({development.text}) or production "
                f"({production.text}); found {found['rows']:,} that are both. Change the description of {dataset.name}."
            )
            raise SchemaError(message)
    return table


def part_texts(dataset: Dataset) -> tuple[str, str]:
    """Describe the rows of development and of production."""
    production, development = _production(dataset), dataset.development
    shared = "" if production.share is None else " by time" if dataset.time else " at random"
    rest = "the other rows"
    return development.text or rest, f"{production.text}{shared}" or rest


def _production(dataset: Dataset) -> Rows:
    """Production as described; without any description of both parts, the last fifth."""
    if dataset.production.is_given or dataset.development.is_given:
        return dataset.production
    return _DEFAULT


def _with_last(engine: Engine, table: ir.Table, dataset: Dataset, rows: float) -> ir.Table:
    """Mark the last rows by time as production, rows of one time together; random rows without a time."""
    if dataset.time is not None:
        table = table.mutate(**{_TIME: _comparable(dataset.time, table[dataset.time.raw_name])})
        first = smallest_with_rows(engine, table, _TIME, rows, latest=True)
        return table.mutate(**{IS_PRODUCTION: table[_TIME] >= first}).drop(_TIME)
    table = with_hash(table.mutate(**{_ID: whole(table[dataset.id.raw_name])}), _ID, _SEED)
    last = smallest_with_rows(engine, table, HASH, rows)
    return table.mutate(**{IS_PRODUCTION: table[HASH] <= last}).drop(_ID, HASH)


def _selected(table: ir.Table, dataset: Dataset, rows: Rows) -> ir.BooleanColumn:
    column = dataset.column(rows.column)
    value = _comparable(column, table[column.raw_name])
    conditions = [value == _constant(column, each) for each in rows.values]
    found = reduce(or_, conditions) if conditions else ibis.literal(value=True)
    if rows.since is not None:
        found &= value >= _constant(column, rows.since)
    if rows.until is not None:
        found &= value < _constant(column, rows.until)
    return found.fill_null(ibis.literal(value=False))


def _comparable(column: Column, value: ir.Column) -> ir.Column:
    return whole(value) if column.kind in {"integer", "boolean"} else value_of(column, value)


def _constant(column: Column, value: object) -> object:
    """A value of the description as the column holds it."""
    if not column.is_numeric:
        return str(value)
    return int(value) if isinstance(value, bool) else value
