"""Raw tables on an engine: their rows are validated, and counted, without holding them in memory."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import and_, or_
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from data.acquisition.raw_tables import RawTable
from data.datasets import Column, Dataset, current, default
from data.engines.duckdb import duckdb_engine
from data.engines.engine import POSITION, Engine
from data.errors import SchemaError, SourceError
from data.rules import is_valid, reason, value_of, violations, whole
from data.schema import REASON
from data.storage.tables import without_null_types
from data.validation import MAX_SHOWN, Violations, violation_error, violation_text

_LABELS = (0, 1)
_MAX_IDS_SHOWN = 5
_IS_VALID, _IS_COMPLETE = "__is_valid", "__is_complete"
_TABLE, _BEFORE, _TABLE_BEFORE = "__table", "__before", "__table_before"


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
    dataset : Dataset
        What the table is.
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
    dataset: Dataset
    needed: Sequence[str] = ()
    also_required: Sequence[str] = ()

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """Number of rows that are rejected, complete and incomplete, by what they miss, and by label."""
        checked = self.table.select(**self._model_columns(self.table), **{_IS_VALID: self._is_valid()})
        rows = checked.filter(checked[_IS_VALID])
        rows = rows.mutate(**{_IS_COMPLETE: self._is_complete(rows)})
        found = self.engine.rows(
            rows.group_by(_IS_COMPLETE, self.dataset.target.name).aggregate(
                _rows=rows.count(), **{f"missing_{name}": rows[name].count() for name in self.needed}
            )
        )
        complete = Counter({each[self.dataset.target.name]: each["_rows"] for each in found if each[_IS_COMPLETE]})
        valid = sum(each["_rows"] for each in found)
        return {
            "rejected": self.rows - valid,
            "complete": complete.total(),
            "incomplete": valid - complete.total(),
            **{name: valid - sum(each[name] for each in found) for name in (f"missing_{name}" for name in self.needed)},
            **{f"label_{label}": complete[label] for label in _LABELS},
        }

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
        """The valid rows with all needed columns: ``POSITION``, id, time, group, and the columns of the model."""
        rows, dataset = self.valid(), self.dataset
        others = {
            column.name: _label_of(column, rows[column.raw_name])
            for column in (dataset.time, dataset.group)
            if column is not None and column.raw_name in rows.columns
        }
        ids = {dataset.id.name: whole(rows[dataset.id.raw_name])}
        rows = rows.select(POSITION, **ids, **others, **self._model_columns(rows))
        return rows.filter(self._is_complete(rows))

    def rejects(self) -> ir.Table:
        """The rows that violate the schema, with the reason."""
        return self.table.mutate(**{REASON: reason(self.table, self.dataset)}).filter(~self._is_valid())

    @property
    def rejects_schema(self) -> pa.Schema:
        """The raw columns, and the reason."""
        kept = [field for field in self.schema if field.name != REASON]
        return pa.schema([*kept, pa.field(REASON, pa.string())])

    def violations(self) -> Violations:
        """The number of violations and the first ones, for an error message."""
        broken = {column: f"__broken_{column.raw_name}" for column in self._violations()}
        marked = self.table.mutate(**{broken[column]: each for column, each in self._violations().items()})
        rows = marked.filter(reduce(or_, (marked[mark] for mark in broken.values())))
        rows = rows.select(POSITION, *(column.raw_name for column in broken), *broken.values())
        first = [
            violation_text(column, row[column.raw_name], row[POSITION])
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
        return violations(self.table, self.dataset, self.also_required)

    def _is_valid(self) -> ir.BooleanColumn:
        return is_valid(self.table, self.dataset, self.also_required)

    def _is_complete(self, table: ir.Table) -> ir.BooleanColumn:
        return reduce(and_, (table[name].notnull() for name in self.needed), ibis.literal(value=True))

    def _model_columns(self, table: ir.Table) -> dict[str, ir.Column]:
        """The features and the label as in prepared tables, null where they are missing."""
        columns = (*self.dataset.features, self.dataset.target)
        return {column.name: value_of(column, table[column.raw_name]) for column in columns}


def _label_of(column: Column, value: ir.Column) -> ir.Column:
    """A time or a group: an integer, a double, or a string."""
    return whole(value) if column.kind in {"integer", "boolean"} else value_of(column, value)


def open_raw(
    engine: Engine, raw: RawTable, needed: Sequence[str] = (), *, also_required: Sequence[str] = ()
) -> RawShots:
    """Open a raw table on an engine; see `RawShots`."""
    found = engine.read(raw.reader)
    names = zip(raw.schema.names, raw.reader.schema.names, strict=True)
    renamed = {name: stored for name, stored in names if name != stored}
    table = found.rename(renamed) if renamed else found
    return RawShots(
        raw.name, engine, raw.rows, table, without_null_types(raw.schema), raw.dataset, needed, also_required
    )


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
    """Ids that valid rows share.

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
    """Find the ids that valid rows of tables share, first those within a table."""
    engine, name = tables[0].engine, tables[0].dataset.id.name
    ids = ibis.union(*[_ids(table, place) for place, table in enumerate(tables)])
    # The order puts equal ids one after the other.
    parts = [ids[name] % engine.partitions] * (engine.partitions > 1)
    window = ibis.window(group_by=parts, order_by=[ids[name], ids[_TABLE]])
    pairs = ids.mutate(**{_BEFORE: ids[name].lag().over(window), _TABLE_BEFORE: ids[_TABLE].lag().over(window)})
    pairs = pairs.filter(pairs[name] == pairs[_BEFORE])
    counted = pairs.group_by(_TABLE_BEFORE, _TABLE).aggregate(count=pairs[name].nunique())
    found = []
    for row in engine.rows(counted):
        places = (row[_TABLE_BEFORE], row[_TABLE])
        same = pairs.filter((pairs[_TABLE_BEFORE] == places[0]) & (pairs[_TABLE] == places[1]))
        examples = engine.rows(same.select(name).distinct().order_by(name).limit(_MAX_IDS_SHOWN))
        found.append(SharedIds(places, row["count"], [example[name] for example in examples]))
    return sorted(found, key=lambda shared: (shared.tables[0] != shared.tables[1], shared.tables))


def check_ids(*tables: RawShots) -> None:
    """Raise if valid rows of one or two tables share an id.

    Raises
    ------
    SchemaError
        If two rows of a table have the same one.
    SourceError
        If the two raw tables share one: the test would leak into the training.
    """
    id_column = tables[0].dataset.id
    id_name = id_column.raw_name
    for shared in shared_ids(*tables):
        first, second = (tables[place] for place in shared.tables)
        if first is second:
            rows = first.valid()
            rows = rows.filter(whole(rows[id_name]).isin(shared.examples)).select(POSITION, id_name)
            lines = [
                violation_text(id_column, row[id_name], row[POSITION])
                for row in first.engine.rows(rows.order_by(POSITION).limit(MAX_SHOWN))
            ]
            message = (
                f"{first.name}: {shared.count:,} {id_name} found twice or more, {shared}; expected each only once. Fix "
                "or remove them:"
            )
            if first.dataset != default():
                lines.append(f"If {id_name} does not identify a row, give it the role group or pass_through.")
            raise SchemaError("\n  ".join([message, *lines]))
        message = (
            f"{first.name} and {second.name} share {shared.count:,} {id_name} ({shared}); expected none, or the model "
            f"would be trained on {first.dataset.rows} that it is evaluated on."
        )
        raise SourceError(message)


def _ids(table: RawShots, place: int) -> ir.Table:
    rows = table.valid()
    return rows.select(**{_TABLE: ibis.literal(place), table.dataset.id.name: whole(rows[table.dataset.id.raw_name])})


def validate_pair(folder: Path, dataset: Dataset | None = None) -> None:
    """Validate both raw tables of a folder, and that no row is in both.

    Raises
    ------
    SourceError
        If a file is damaged, a table has no rows, or both tables share an id.
    SchemaError
        If a table violates the schema.
    """
    with duckdb_engine(folder) as engine:
        described = dataset or current()
        tables = [open_raw(engine, RawTable(folder / name, dataset=described)) for name in described.raw_tables]
        check_violations(tables)
        check_ids(*tables)
