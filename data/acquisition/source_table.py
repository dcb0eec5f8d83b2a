"""One table of shots as a source: with the names and types of the raw tables, validated, and split by ``shot_type``."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from data.acquisition.plausibility import PlausibilityCheck
from data.acquisition.raw_shots import RawShots, check_ids, check_violations, open_raw
from data.acquisition.raw_tables import CHUNK_ROWS, POINTS, RawTable, attributes
from data.cli.console import warn
from data.engines.duckdb import duckdb_engine
from data.engines.engine import Engine, Output
from data.errors import SchemaError, SourceError, TableError
from data.schema import COLUMN, RAW_COLUMN_NAMES
from data.storage.column_names import is_index
from data.storage.files import remove_path
from data.storage.shot_reader import ShotReader, chart_hint
from data.storage.staging import staging
from data.storage.tables import ATTRIBUTES, table_writer
from data.validation import check_columns

_PLAUSIBILITY_ROWS = 100_000
_NUMBERS = {"integer": pa.int64(), "double": pa.float64()}


class SourceTable:
    """A table that a person hands in as a source, with the names and types of the raw tables.

    Parameters
    ----------
    path : pathlib.Path
        See `data.storage.shot_reader.ShotReader`.
    name : str
        Name of the table in messages.
    also_required : sequence of str
        See `check_columns`.

    Raises
    ------
    SourceError
        If the table cannot be read.
    SchemaError
        If a column is missing or duplicate.
    """

    def __init__(self, path: Path, name: str, *, also_required: Sequence[str] = ()) -> None:
        self.name = name
        with _translate_reader_errors():
            self._reader = ShotReader(path, name=name)
        names = [column for column in self._reader.schema.names if not is_index(column)]
        self._names = {column: _raw_name(column, names) for column in names}
        try:
            check_columns(list(self._names.values()), name, also_required=also_required)
        except SchemaError as error:
            message = f"{error}{chart_hint(names, str(path))}"
            raise SchemaError(message) from error
        # pandas' attributes hold the mark of synthetic shots.
        marks = attributes(path) if self._reader.formats == {"parquet"} else b""
        fields = [pa.field(self._names[column], _stored_type(self._reader.schema.field(column))) for column in names]
        self.schema = pa.schema(fields, {ATTRIBUTES: marks} if marks else None)

    def chunks(self) -> Iterator[pa.Table]:
        """Iterate over the table; a column with a cell that is no number stays as strings.

        Raises
        ------
        SourceError
            If a part is damaged.
        """
        with _translate_reader_errors():
            for chunk in self._reader.chunks(CHUNK_ROWS):
                columns = [
                    _typed(chunk.column(name), field.type) for name, field in zip(self._names, self.schema, strict=True)
                ]
                yield pa.table(columns, names=list(self._names.values()))

    def write(self, target: Path) -> None:
        """Write the table as a Parquet table."""
        write_whole(self.chunks, self.schema, target)

    def warn(self) -> None:
        """Check the rows of a valid table across columns, and report labels that cannot be read.

        Raises
        ------
        SchemaError
            If most rows contradict themselves.
        """
        plausibility = PlausibilityCheck(self.name)
        for chunk in self.chunks():
            plausibility.add(chunk.to_pandas())
        plausibility.finish()
        warn(self._reader.warning)


def split_table(path: Path, folder: Path, name: str = "") -> None:
    """Split one table by ``shot_type`` into the two raw tables.

    Parameters
    ----------
    path : pathlib.Path
        See `SourceTable`.
    folder : pathlib.Path
        Where they go.
    name : str
        Name of the table in messages; that of the file by default.

    Raises
    ------
    SourceError, SchemaError
        If the table cannot be read, violates the schema, or lacks one of the two shot types.
    """
    source = SourceTable(path, name or path.name, also_required=["shot_type"])
    with staging(folder, "whole") as stage, duckdb_engine(stage) as engine:
        source.write(stage / "whole.parquet")
        table = open_valid(engine, stage / "whole.parquet", source.name, also_required=["shot_type"])
        source.warn()
        shots = table.table.mutate(**{file: table.table["shot_type"] == points for file, points in POINTS.items()})
        names = {file: file.removesuffix(".parquet") for file in POINTS}
        written = engine.write(shots, [Output(names[file], source.schema, table.rows, file) for file in POINTS], folder)
    for file, points in POINTS.items():
        if not written[names[file]]:
            expected = " and ".join(map(repr, POINTS.values()))
            message = f"{source.name} holds no rows with shot_type {points!r}; expected both {expected}."
            raise SourceError(message)


def convert_table(path: Path, name: str) -> None:
    """Check a raw table across columns; rewrite it in place if its names or types are not those of the raw tables.

    Raises
    ------
    SourceError, SchemaError
        If the table cannot be read, or violates the schema.
    """
    with _translate_reader_errors():
        reader = ShotReader(path, name=name)
        if reader.is_stored:
            plausibility = PlausibilityCheck(name)
            plausibility.add(reader.systematic_sample(_PLAUSIBILITY_ROWS))
            plausibility.finish()
            return
    source = SourceTable(path, name)
    with staging(path.parent, path.name) as stage, duckdb_engine(stage) as engine:
        source.write(stage / path.name)
        open_valid(engine, stage / path.name, name)
        source.warn()
        remove_path(path)
        (stage / path.name).replace(path)


def write_whole(chunks: Callable[[], Iterator[pa.Table]], schema: pa.Schema, target: Path) -> None:
    """Write the chunks of a table as a Parquet table; columns that do not have the type of the schema are strings.

    Parameters
    ----------
    chunks : callable
        Starts a new iteration over the chunks.
    schema : pyarrow.Schema
    target : pathlib.Path
    """
    other = {field.name for chunk in chunks() for field in schema if chunk.schema.field(field.name).type != field.type}
    fields = [field.with_type(pa.string()) if field.name in other else field for field in schema]
    with table_writer(target, pa.schema(fields, schema.metadata)) as writer:
        for chunk in chunks():
            writer.write(chunk.cast(writer.schema))


def open_valid(engine: Engine, path: Path, name: str, *, also_required: Sequence[str] = ()) -> RawShots:
    """Open a table of Parquet files, and validate it.

    Raises
    ------
    SchemaError
        If a row violates the schema, or two have the same ``shot_id``.
    SourceError
        If it has no rows.
    """
    table = open_raw(engine, RawTable(path, name=name, also_required=also_required), also_required=also_required)
    check_violations([table])
    check_ids(table)
    return table


def _raw_name(name: str, names: Sequence[str]) -> str:
    raw = RAW_COLUMN_NAMES.get(name, name)
    return name if raw in names else raw


def _stored_type(field: pa.Field) -> pa.DataType:
    kind = COLUMN[field.name].kind if field.name in COLUMN else ""
    kind = "double" if field.name in RAW_COLUMN_NAMES else kind
    is_string = field.type == pa.string()
    return _NUMBERS.get(kind, field.type) if is_string else pa.string() if pa.types.is_null(field.type) else field.type


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
