"""One table as a source: with the names and types of the raw tables, validated, and split into both raw tables."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from data.acquisition.plausibility import PlausibilityCheck
from data.acquisition.raw_shots import RawShots, check_ids, check_violations, open_raw
from data.acquisition.raw_tables import CHUNK_ROWS, RawTable, attributes
from data.acquisition.selection import IS_DEVELOPMENT, IS_PRODUCTION, part_texts, selecting_columns, with_parts
from data.cli.console import info, warn
from data.datasets import Dataset, current
from data.datasets.description import ROW_ID
from data.engines.duckdb import duckdb_engine
from data.engines.engine import Engine, Output
from data.errors import SchemaError, SourceError, TableError
from data.storage.column_names import is_index
from data.storage.dataset_reader import DatasetReader, chart_hint
from data.storage.files import remove_path
from data.storage.staging import staging
from data.storage.tables import ATTRIBUTES, table_writer
from data.validation import check_columns

_PLAUSIBILITY_ROWS = 100_000
_MAX_UNREADABLE_LABELS = 0.01
_NUMBERS = {"integer": pa.int64(), "boolean": pa.int64(), "float": pa.float64()}


class SourceTable:
    """A table that a person hands in as a source, with the names and types of the raw tables.

    Parameters
    ----------
    path : pathlib.Path
        See `data.storage.dataset_reader.DatasetReader`.
    name : str
        Name of the table in messages.
    also_required : sequence of str
        See `check_columns`.
    dataset : Dataset, optional
        By default that of this process. If none of its columns is the id of a row, the rows are numbered.
    first_id : int
        Number of the first row.

    Attributes
    ----------
    rows : int
        Number of rows that were read last.

    Raises
    ------
    SourceError
        If the table cannot be read.
    SchemaError
        If a column is missing or duplicate.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        *,
        also_required: Sequence[str] = (),
        dataset: Dataset | None = None,
        first_id: int = 0,
    ) -> None:
        self.name, self.dataset, self.rows = name, dataset or current(), 0
        with _translate_reader_errors():
            self._reader = DatasetReader(path, name=name, dataset=self.dataset)
        names = [column for column in self._reader.schema.names if not is_index(column)]
        self._names = {column: self._raw_name(column, names) for column in names}
        self._first_id, self._plausibility = first_id, PlausibilityCheck(name, self.dataset)
        numbered = [ROW_ID] if self.dataset.id.name == ROW_ID and ROW_ID not in names else []
        self._is_numbered = bool(numbered)
        try:
            found = [*self._names.values(), *numbered]
            check_columns(found, name, also_required=also_required, dataset=self.dataset)
        except SchemaError as error:
            message = f"{error}{chart_hint(names, str(path), self.dataset)}"
            raise SchemaError(message) from error
        # pandas' attributes hold the mark of synthetic shots.
        marks = attributes(path) if self._reader.formats == {"parquet"} else b""
        kept = self._reader.schema
        fields = [pa.field(self._names[each], self._stored_type(kept.field(each))) for each in names]
        fields += [pa.field(each, pa.int64()) for each in numbered]
        self.schema = pa.schema(fields, {ATTRIBUTES: marks} if marks else None)

    def _raw_name(self, name: str, names: Sequence[str]) -> str:
        column = self.dataset.by_name.get(name)
        return name if column is None or column.raw_name in names else column.raw_name

    def _stored_type(self, field: pa.Field) -> pa.DataType:
        column = self.dataset.by_name.get(field.name)
        if pa.types.is_null(field.type):
            return pa.string()
        return _NUMBERS.get(column.kind, field.type) if column and field.type == pa.string() else field.type

    def chunks(self) -> Iterator[pa.Table]:
        """Iterate over the table; a column with a cell that is no number stays as strings.

        Raises
        ------
        SourceError
            If a part is damaged.
        """
        self.rows = 0
        with _translate_reader_errors():
            for chunk in self._reader.chunks(CHUNK_ROWS):
                fields = zip(self._names, self.schema, strict=False)
                columns = [_typed(chunk.column(name), field.type) for name, field in fields]
                if self._is_numbered:
                    first = self._first_id + self.rows
                    columns.append(pa.array(range(first, first + len(chunk)), pa.int64()))
                self.rows += len(chunk)
                yield pa.table(columns, names=self.schema.names)

    def write(self, target: Path) -> None:
        """Write the table as a Parquet table, and check its rows across columns."""
        write_whole(self._checked_chunks, self.schema, target)

    def open_valid(self, engine: Engine, path: Path, *, also_required: Sequence[str] = ()) -> RawShots:
        """Open and validate what `write` wrote; see `open_valid`."""
        try:
            return open_valid(engine, path, self.name, also_required=also_required, dataset=self.dataset)
        except SchemaError as error:
            message = "\n".join(filter(None, [str(error), self._plausibility.hint()]))
            raise SchemaError(message) from error

    def warn(self) -> None:
        """Report rows of a valid table that contradict themselves, and labels that cannot be read.

        Raises
        ------
        SchemaError
            If most rows contradict themselves.
        SourceError
            If the target has more than two values.
        """
        with _translate_reader_errors():
            self._reader.require_labels(self.rows, _MAX_UNREADABLE_LABELS)
        self._plausibility.finish()
        warn(self._reader.warning)

    def _checked_chunks(self) -> Iterator[pa.Table]:
        self._plausibility = PlausibilityCheck(self.name, self.dataset)
        for chunk in self.chunks():
            self._plausibility.add(chunk.to_pandas())
            yield chunk


def split_table(path: Path, folder: Path, name: str = "", dataset: Dataset | None = None) -> None:
    """Split one table into the raw tables of development and of production, as described.

    Parameters
    ----------
    path : pathlib.Path
        See `SourceTable`.
    folder : pathlib.Path
        Where they go.
    name : str
        Name of the table in messages; that of the file by default.
    dataset : Dataset, optional
        By default that of this process.

    Raises
    ------
    SourceError, SchemaError
        If the table cannot be read, violates the schema, or has no rows of one of both parts.
    """
    dataset = dataset or current()
    needed = selecting_columns(dataset)
    source = SourceTable(path, name or path.name, also_required=needed, dataset=dataset)
    with staging(folder, "whole") as stage, duckdb_engine(stage) as engine:
        source.write(stage / "whole.parquet")
        table = source.open_valid(engine, stage / "whole.parquet", also_required=needed)
        source.warn()
        parts = [file.removesuffix(".parquet") for file in dataset.raw_tables]
        marks = dict(zip(parts, (IS_DEVELOPMENT, IS_PRODUCTION), strict=True))
        outputs = [Output(part, source.schema, table.rows, mark) for part, mark in marks.items()]
        written = engine.write(with_parts(table), outputs, folder)
    texts = part_texts(dataset)
    for part, text in zip(parts, texts, strict=True):
        if not written[part]:
            message = f"{source.name} holds no rows with {text}; expected both {' and '.join(texts)}."
            raise SourceError(message)
    if left := table.rows - sum(written.values()):
        info("Excluded", f"{left:,} rows that are neither {texts[0]} nor {texts[1]}")


def convert_table(path: Path, name: str, dataset: Dataset | None = None, first_id: int = 0) -> int:
    """Check a raw table across columns; rewrite it in place if its names or types are not those of the raw tables.

    Parameters
    ----------
    path : pathlib.Path
    name : str
        Name of the table in messages.
    dataset : Dataset, optional
        By default that of this process.
    first_id : int
        Number of the first row, where the rows are numbered.

    Returns
    -------
    int
        Number of rows that were numbered.

    Raises
    ------
    SourceError, SchemaError
        If the table cannot be read, or violates the schema.
    """
    dataset = dataset or current()
    with _translate_reader_errors():
        reader = DatasetReader(path, name=name, dataset=dataset)
        if reader.is_stored and dataset.id.raw_name in reader.names:
            plausibility = PlausibilityCheck(name, dataset)
            plausibility.add(reader.systematic_sample(_PLAUSIBILITY_ROWS))
            plausibility.finish()
            return 0
    source = SourceTable(path, name, dataset=dataset, first_id=first_id)
    with staging(path.parent, path.name) as stage, duckdb_engine(stage) as engine:
        source.write(stage / path.name)
        source.open_valid(engine, stage / path.name)
        source.warn()
        remove_path(path)
        (stage / path.name).replace(path)
    return source.rows


def write_whole(chunks: Callable[[], Iterator[pa.Table]], schema: pa.Schema, target: Path) -> None:
    """Write the chunks of a table as a Parquet table; columns that do not have the type of the schema are strings.

    Parameters
    ----------
    chunks : callable
        Starts a new iteration over the chunks.
    schema : pyarrow.Schema
    target : pathlib.Path
    """
    if other := _write_typed(chunks(), schema, target):
        strings = [field.with_type(pa.string()) if field.name in other else field for field in schema]
        _write_typed(chunks(), pa.schema(strings, schema.metadata), target)


def _write_typed(chunks: Iterator[pa.Table], schema: pa.Schema, target: Path) -> set[str]:
    """Write chunks, unless some columns do not have the type of the schema; return their names."""
    typed = {field.name: field.type for field in schema if field.type != pa.string()}
    other: set[str] = set()
    with table_writer(target, schema) as writer:
        for chunk in chunks:
            other |= {name for name, type_ in typed.items() if chunk.schema.field(name).type != type_}
            if not other:
                writer.write(chunk.cast(schema))
    return other


def open_valid(
    engine: Engine, path: Path, name: str, *, also_required: Sequence[str] = (), dataset: Dataset | None = None
) -> RawShots:
    """Open a table of Parquet files, and validate it.

    Raises
    ------
    SchemaError
        If a row violates the schema, or two have the same id.
    SourceError
        If it has no rows.
    """
    raw = RawTable(path, name=name, also_required=also_required, dataset=dataset)
    table = open_raw(engine, raw, also_required=also_required)
    check_violations([table])
    check_ids(table)
    return table


def _typed(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    if column.type == target:
        return column
    try:
        return (column.cast(pa.float64()) if column.type == pa.string() else column).cast(target)
    except pa.ArrowException:
        return column


@contextmanager
def _translate_reader_errors() -> Iterator[None]:
    try:
        yield
    except TableError as error:
        raise SourceError(str(error)) from error
