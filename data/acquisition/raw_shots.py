"""Raw tables on an engine: their rows are validated, and counted, without holding them in memory."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import and_, or_
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from data.acquisition.raw_tables import FILES, RawTable
from data.engines.duckdb import duckdb_engine
from data.engines.engine import POSITION, Engine
from data.errors import SchemaError, SourceError
from data.rules import is_valid, number, reason, violations, whole
from data.schema import COLUMN, FEATURES, GAME_DATE, RAW_COLUMN_NAMES, REASON, SHOT_ID, TARGET, Column
from data.storage.tables import without_null_types
from data.validation import MAX_SHOWN, Violations, violation_error, violation_text

_LABELS = (0, 1)
_MAX_IDS_SHOWN = 5


@dataclass(frozen=True)
class RawShots:
    """A raw table on an engine.

    Attributes
    ----------
    name : str
        Name of the table in messages.
    engine : data.engines.engine.Engine
    rows : int
        Number of rows.
    table : ibis.Table
        The raw columns, and ``POSITION``.
    schema : pyarrow.Schema
        Of the raw columns.
    needed : sequence of str
        Columns of the model that a complete row has.
    also_required : sequence of str
        See `data.validation.violations`.
    """

    name: str
    engine: Engine
    rows: int
    table: ir.Table
    schema: pa.Schema
    needed: Sequence[str] = ()
    also_required: Sequence[str] = ()

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """Number of rows that are rejected, complete and incomplete, by what they miss, and by label."""
        checked = self.table.select(**self._model_columns(self.table), is_valid=self._is_valid())
        complete = checked.is_valid & self._is_complete(checked)
        conditions = {
            "rejected": ~checked.is_valid,
            "complete": complete,
            "incomplete": checked.is_valid & ~complete,
            **{f"missing_{name}": checked.is_valid & checked[name].isnull() for name in self.needed},
            **{f"label_{label}": complete & (checked[TARGET] == label) for label in _LABELS},
        }
        return self._count(checked, conditions)

    @property
    def rejected(self) -> int:
        """Number of rows that violate the schema."""
        return self.counts["rejected"]

    @property
    def labels(self) -> dict[int, int]:
        """Number of complete rows by label."""
        return {label: self.counts[f"label_{label}"] for label in _LABELS}

    def valid(self) -> ir.Table:
        """The valid rows. Without rejected rows, none is validated again."""
        return self.table.filter(self._is_valid()) if self.rejected else self.table

    def complete(self) -> ir.Table:
        """The valid rows with all needed columns: the columns of the model, ``shot_id`` and ``POSITION``."""
        rows = self.valid()
        dates = {GAME_DATE: _day(rows[GAME_DATE])} if GAME_DATE in rows.columns else {}
        rows = rows.select(POSITION, **{SHOT_ID: whole(rows[SHOT_ID])}, **dates, **self._model_columns(rows))
        return rows.filter(self._is_complete(rows))

    def rejects(self) -> ir.Table:
        """The rows that violate the schema, with the reason."""
        return self.table.mutate(**{REASON: reason(self.table)}).filter(~self._is_valid())

    @property
    def rejects_schema(self) -> pa.Schema:
        """The raw columns, and the reason."""
        kept = [field for field in self.schema if field.name != REASON]
        return pa.schema([*kept, pa.field(REASON, pa.string())])

    def violations(self) -> Violations:
        """The number of violations and the first ones, for an error message."""
        broken = {column: f"broken_{column.name}" for column in self._violations()}
        marked = self.table.mutate(**{broken[column]: each for column, each in self._violations().items()})
        rows = marked.filter(reduce(or_, (marked[mark] for mark in broken.values())))
        rows = rows.select(POSITION, *(column.name for column in broken), *broken.values())
        first = [
            violation_text(column, row[column.name], row[POSITION])
            for row in self.engine.rows(rows.order_by(POSITION).limit(MAX_SHOWN))
            for column, mark in broken.items()
            if row[mark]
        ]
        values = self._count(marked, {mark: marked[mark] for mark in broken.values()})
        return Violations(self.name, self.rejected, sum(values.values()), first)

    def _count(self, table: ir.Table, conditions: Mapping[str, ir.BooleanColumn]) -> dict[str, int]:
        return self.engine.rows(
            table.aggregate(**{name: table.count(where=each) for name, each in conditions.items()})
        )[0]

    def _violations(self) -> dict[Column, ir.BooleanColumn]:
        return violations(self.table, self.also_required)

    def _is_valid(self) -> ir.BooleanColumn:
        return is_valid(self.table, self.also_required)

    def _is_complete(self, table: ir.Table) -> ir.BooleanColumn:
        return reduce(and_, (table[name].notnull() for name in self.needed), ibis.literal(value=True))

    @staticmethod
    def _model_columns(table: ir.Table) -> dict[str, ir.FloatingColumn]:
        """The features and the label as doubles, null where they are missing."""
        names = {name: RAW_COLUMN_NAMES.get(name, name) for name in (*FEATURES, TARGET)}
        return {name: number(raw, table[raw]) for name, raw in names.items()}


def _day(dates: ir.Column) -> ir.StringColumn:
    """Dates as strings; of timestamps, the day in UTC."""
    return (dates.cast("date") if dates.type().is_temporal() else dates).cast("string")


def open_raw(
    engine: Engine, raw: RawTable, needed: Sequence[str] = (), *, also_required: Sequence[str] = ()
) -> RawShots:
    """Open a raw table on an engine; see `RawShots`."""
    found = engine.read(raw.reader)
    names = zip(raw.schema.names, raw.reader.schema.names, strict=True)
    table = found.select(POSITION, **{name: found[stored] for name, stored in names})
    return RawShots(raw.name, engine, raw.rows, table, without_null_types(raw.schema), needed, also_required)


def check_violations(tables: Iterable[RawShots], max_rejected_rows: int = 0) -> None:
    """Raise if more rows of the tables violate the schema than are allowed.

    Raises
    ------
    SchemaError
        Lists the first violations of the tables so far.
    """
    found: list[RawShots] = []
    for table in tables:
        found += [table] if table.rejected else []
        if sum(each.rejected for each in found) > max_rejected_rows:
            raise violation_error([each.violations() for each in found], max_rejected_rows)


@dataclass(frozen=True)
class SharedIds:
    """Values of ``shot_id`` that valid rows share.

    Attributes
    ----------
    tables : tuple of int
        Places of the two tables; twice the same for duplicates within a table.
    count : int
        Number of distinct values.
    examples : list of int
        The smallest ones.
    """

    tables: tuple[int, int]
    count: int
    examples: list[int]

    def __str__(self) -> str:
        """List the examples."""
        return f"such as {', '.join(map(str, self.examples))}"


def shared_ids(*tables: RawShots) -> list[SharedIds]:
    """Find the values of ``shot_id`` that valid rows of tables share, first those within a table."""
    engine = tables[0].engine
    ids = ibis.union(*[_ids(table, place) for place, table in enumerate(tables)])
    # The order puts equal ids one after the other.
    parts = [ids[SHOT_ID] % engine.partitions] * (engine.partitions > 1)
    window = ibis.window(group_by=parts, order_by=[ids[SHOT_ID], ids.place])
    pairs = ids.mutate(before=ids[SHOT_ID].lag().over(window), place_before=ids.place.lag().over(window))
    pairs = pairs.filter(pairs[SHOT_ID] == pairs.before)
    counted = pairs.group_by("place_before", "place").aggregate(count=pairs[SHOT_ID].nunique())
    found = []
    for row in engine.rows(counted):
        same = pairs.filter((pairs.place_before == row["place_before"]) & (pairs.place == row["place"]))
        examples = engine.rows(same.select(SHOT_ID).distinct().order_by(SHOT_ID).limit(_MAX_IDS_SHOWN))
        places = (row["place_before"], row["place"])
        found.append(SharedIds(places, row["count"], [example[SHOT_ID] for example in examples]))
    return sorted(found, key=lambda shared: (shared.tables[0] != shared.tables[1], shared.tables))


def check_ids(*tables: RawShots) -> None:
    """Raise if valid rows of one or two tables share a ``shot_id``.

    Raises
    ------
    SchemaError
        If two rows of a table have the same one.
    SourceError
        If the two raw tables share one: the test would leak into the training.
    """
    for shared in shared_ids(*tables):
        first, second = (tables[place] for place in shared.tables)
        if first is second:
            rows = first.valid()
            rows = rows.filter(whole(rows[SHOT_ID]).isin(shared.examples)).select(POSITION, SHOT_ID)
            lines = [
                violation_text(COLUMN[SHOT_ID], row[SHOT_ID], row[POSITION])
                for row in first.engine.rows(rows.order_by(POSITION).limit(MAX_SHOWN))
            ]
            message = (
                f"{first.name}: {shared.count:,} shot_id found twice or more, {shared}; expected each only once. Fix "
                "or remove them:"
            )
            raise SchemaError("\n  ".join([message, *lines]))
        message = (
            f"{first.name} and {second.name} share {shared.count:,} shot_id ({shared}); expected none, or the model "
            "would be trained on shots that it is evaluated on."
        )
        raise SourceError(message)


def _ids(table: RawShots, place: int) -> ir.Table:
    rows = table.valid()
    return rows.select(place=ibis.literal(place), **{SHOT_ID: whole(rows[SHOT_ID])})


def validate_pair(folder: Path) -> None:
    """Validate both raw tables of a folder, and that no shot is in both.

    Raises
    ------
    SourceError
        If a file is damaged, a table has no rows, or both tables share a ``shot_id``.
    SchemaError
        If a table violates the schema.
    """
    with duckdb_engine(folder) as engine:
        tables = [open_raw(engine, RawTable(folder / name)) for name in FILES]
        check_violations(tables)
        check_ids(*tables)
