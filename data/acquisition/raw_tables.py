"""The two raw tables: chunked reading, validation, split by shot type, and the mark of synthetic shots.

Each table is a Parquet file or a folder of Parquet files, see `data.storage.tables`. No table is held in memory as a
whole.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.acquisition.duplicate_ids import IdSet, Ints
from data.acquisition.plausibility import PlausibilityCheck
from data.cli.console import warn
from data.errors import FileError, SchemaError, SourceError, TableError
from data.schema import COLUMN, RAW_COLUMN_NAMES, SHOT_ID, THREE_POINTS, TWO_POINTS, VALIDATED_COLUMNS
from data.simulation.synthetic import SIMULATION
from data.storage.column_names import is_index
from data.storage.files import parquet_files
from data.storage.regular_files import open_native
from data.storage.shot_reader import ShotReader, chart_hint
from data.storage.tables import ATTRIBUTES, TableReader, TableWriter, arrow_schema, table_writer
from data.validation import FailureSummary, check_columns, check_raw, failure_cases, raw_schema, reasons

DEV_FILE = "dataset_kobe_dev.parquet"
PROD_FILE = "dataset_kobe_prod.parquet"
FILES = (DEV_FILE, PROD_FILE)

CHUNK_ROWS = 131_072
"""Rows of a chunk, which are read and validated together."""
MAX_COUNTED = 1_000_000
"""Maximum number of rows that violate the schema; validation stops at the next one."""

_POINTS = {DEV_FILE: TWO_POINTS, PROD_FILE: THREE_POINTS}
_CHUNKS_BETWEEN_RELEASES = 16
_INDEX = "__index_level_"

_PLAUSIBILITY_ROWS = 100_000
_NUMBERS = {"integer": pa.int64(), "double": pa.float64()}


class RawTable:
    """A raw table with the names of `data.schema`.

    Parameters
    ----------
    path : pathlib.Path
        A Parquet file, or a folder of Parquet files.
    columns : sequence of str, optional
        Names of ``COLUMNS`` to read; names that the table lacks are ignored.
    also_required : sequence of str
        See `check_columns`.

    Attributes
    ----------
    name : str
        Name of the table in messages.
    rows : int
    schema : pyarrow.Schema
        Schema of the columns that are read, in the order of the file.

    Raises
    ------
    SourceError
        If a file is damaged, or there are no rows.
    SchemaError
        If a column is missing or duplicate.
    """

    def __init__(self, path: Path, columns: Sequence[str] | None = None, *, also_required: Sequence[str] = ()) -> None:
        self.name = path.name
        self._path = path
        with _translate_table_errors(path):
            whole = TableReader(path)
            names = [name for name in whole.schema.names if not name.startswith(_INDEX)]
            self.rows = whole.rows or 0
            raw_names = {name: raw for name, raw in RAW_COLUMN_NAMES.items() if raw not in names}
            if not self.rows or not names:
                message = f"{path.name} holds no rows; expected shots."
                raise SourceError(message)
            check_columns([raw_names.get(name, name) for name in names], path.name, also_required=also_required)
            wanted = [name for name in names if columns is None or raw_names.get(name, name) in columns]
            self._reader = TableReader(path, wanted)
        self._names = [raw_names.get(name, name) for name in self._reader.schema.names]
        self.schema = pa.schema(
            [field.with_name(name) for field, name in zip(self._reader.schema, self._names, strict=True)]
        )

    def iter_chunks(self) -> Iterator[pa.Table]:
        """Iterate over the table, ``CHUNK_ROWS`` rows at a time.

        Raises
        ------
        SourceError
            If a file is damaged.
        """
        with _translate_table_errors(self._path):
            for number, chunk in enumerate(self._reader.chunks(CHUNK_ROWS), start=1):
                yield chunk.rename_columns(self._names)
                if number % _CHUNKS_BETWEEN_RELEASES == 0:
                    # The system's allocator keeps the gaps that chunks leave, and their number grows.
                    pa.default_memory_pool().release_unused()


class RowValidator:
    """Validates the rows of one table, a chunk at a time; a context manager.

    Parameters
    ----------
    name : str
        Name of the table in messages.
    folder : pathlib.Path
        Folder for the values of ``shot_id``, if they do not fit in memory.
    also_required : sequence of str
        See `data.validation.raw_schema`.
    max_rejected_rows : int
        Maximum number of rows that violate the schema, including `before`.

    Attributes
    ----------
    before : int
        Rows of another table that violated the schema.
    rejected : int
        Rows of this table that violated the schema.
    shot_ids : IdSet
        Ids of the valid rows.
    """

    def __init__(
        self, name: str, folder: Path, *, also_required: Sequence[str] = (), max_rejected_rows: int = 0
    ) -> None:
        self.before = 0
        self.shot_ids = IdSet(folder)
        self._name, self._also_required, self._max_rejected_rows = name, also_required, max_rejected_rows
        self._schema = raw_schema(also_required=also_required, unique=False)
        self._failures = FailureSummary(name)
        self._rows = 0
        self._only_chunk: pd.DataFrame | None = None

    @property
    def rejected(self) -> int:
        """Number of rows that violated the schema."""
        return self._failures.rows

    @property
    def allowed(self) -> bool:
        """Whether at most the allowed number of rows violated the schema."""
        return not self.rejected or self.before + self.rejected <= self._max_rejected_rows

    def __enter__(self) -> Self:
        """The check."""
        self.shot_ids.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the temporary files."""
        self.shot_ids.__exit__(kind, error, trace)

    def validate_chunk(self, chunk: pd.DataFrame) -> "pd.Series[str]":
        """Validate the next chunk.

        Parameters
        ----------
        chunk : pandas.DataFrame, index 0 to n - 1
            The columns of ``VALIDATED_COLUMNS`` that the table has.

        Returns
        -------
        pandas.Series of str
            Reason of each row that violates the schema, by its place in the chunk.

        Raises
        ------
        SchemaError
            If a violation does not belong to a row, or more rows violate the schema than are counted.
        """
        found = failure_cases(chunk[[name for name in VALIDATED_COLUMNS if name in chunk]], self._schema, self._name)
        why = reasons(found)
        kept = chunk if why.empty else chunk.drop(index=why.index)
        self.shot_ids.add(to_integers(kept[SHOT_ID]))
        self._failures.add(found, self._rows)
        self._only_chunk = None if self._rows else chunk
        self._rows += len(chunk)
        if self.rejected > max(MAX_COUNTED, self._max_rejected_rows):
            raise self._failures.error(max_rejected_rows=self._max_rejected_rows, complete=False)
        return why

    def finalize(self) -> None:
        """Raise unless the table is valid.

        Raises
        ------
        SchemaError
            If too many rows violate the schema, or two valid rows have the same ``shot_id``.
        """
        duplicates = self.shot_ids.duplicates()
        if (duplicates or not self.allowed) and self._only_chunk is not None and not self._max_rejected_rows:
            # A table of one chunk is validated again as a whole, to report the rows with a duplicate shot_id.
            check_raw(self._only_chunk, self._name, also_required=self._also_required)
        if not self.allowed:
            raise self._failures.error(max_rejected_rows=self._max_rejected_rows)
        if duplicates:
            message = (
                f"{self._name}: {duplicates.count:,} shot_id found twice or more, {duplicates}; expected each only "
                "once. "
                "Fix or remove them."
            )
            raise SchemaError(message)


def to_integers(column: "pd.Series[float]") -> Ints:
    """Convert a validated column to int64, whatever its type."""
    return np.asarray(pd.to_numeric(column).astype("int64"))


def validate_pair(folder: Path) -> None:
    """Validate both tables of a folder, and that no shot is in both: the test would leak into the training.

    Raises
    ------
    SourceError
        If a file is damaged, a table has no rows, or both tables share a ``shot_id``.
    SchemaError
        If a table violates the schema.
    """
    with ExitStack() as stack:
        validators = [stack.enter_context(RowValidator(name, folder)) for name in FILES]
        for name, validator in zip(FILES, validators, strict=True):
            for chunk in RawTable(folder / name, VALIDATED_COLUMNS).iter_chunks():
                validator.validate_chunk(chunk.to_pandas())
            validator.finalize()
        validate_disjoint(*validators)


def validate_disjoint(dev: RowValidator, prod: RowValidator) -> None:
    """Raise if two tables share a ``shot_id``.

    Raises
    ------
    SourceError
        States how many, with examples.
    """
    common = dev.shot_ids.intersection(prod.shot_ids)
    if common:
        message = (
            f"{DEV_FILE} and {PROD_FILE} share {common.count:,} shot_id ({common}); expected none, "
            "or the model would be trained on shots that it is evaluated on."
        )
        raise SourceError(message)


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

    def validate(self, validator: RowValidator) -> None:
        """Validate all rows, and report labels that cannot be read.

        Raises
        ------
        SourceError, SchemaError
            If the table violates the schema, or has no rows.
        """
        rows, plausibility = 0, PlausibilityCheck(self.name)
        for chunk in self.chunks():
            table = chunk.to_pandas()
            validator.validate_chunk(table)
            plausibility.add(table)
            rows += len(chunk)
        if not rows:
            message = f"{self.name} holds no rows; expected shots."
            raise SourceError(message)
        validator.finalize()
        plausibility.finish()
        warn(self._reader.warning)

    def write(self, folder: Path, files: Mapping[str, str | None]) -> None:
        """Write the valid table, or its rows of a ``shot_type`` each, as files."""
        with ExitStack() as stack:
            writers = {file: stack.enter_context(table_writer(folder / file, self.schema)) for file in files}
            for chunk in self.chunks():
                for file, writer in writers.items():
                    points = files[file]
                    part = chunk if points is None else chunk.filter(pc.equal(chunk.column("shot_type"), points))
                    writer.write(part.cast(self.schema))


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
    table = SourceTable(path, name or path.name, also_required=["shot_type"])
    with RowValidator(table.name, folder, also_required=["shot_type"]) as validator:
        table.validate(validator)
    table.write(folder, _POINTS)
    for file, points in _POINTS.items():
        if not TableReader(folder / file).rows:
            message = (
                f"{table.name} holds no rows with shot_type {points!r}; expected both {TWO_POINTS!r} and "
                f"{THREE_POINTS!r}."
            )
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
    table = SourceTable(path, name)
    with RowValidator(name, path.parent) as validator:
        table.validate(validator)
    table.write(path.parent, {path.name: None})


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


def write_split(chunks: Iterator[pd.DataFrame], folder: Path) -> None:
    """Write chunks of one table, all with the same types, as the two raw tables.

    Parameters
    ----------
    chunks : iterator of pandas.DataFrame
        Chunks with ``shot_type``. The files keep the ``attrs`` of the first chunk.
    folder : pathlib.Path
        Where they go.
    """
    writers: dict[str, TableWriter] = {}
    with ExitStack() as stack:
        schema = None
        for chunk in chunks:
            if schema is None:
                schema = arrow_schema(chunk)
                writers = {file: stack.enter_context(table_writer(folder / file, schema)) for file in FILES}
            for file, writer in writers.items():
                part = chunk[chunk["shot_type"] == _POINTS[file]]
                writer.write(pa.Table.from_pandas(part, schema=schema, preserve_index=False))


def attributes(path: Path) -> bytes:
    """Read pandas' ``attrs`` from a Parquet file or the first part of a folder; empty without attrs.

    Raises
    ------
    SourceError
        If the file is damaged.
    """
    file = next(iter(parquet_files(path)), path) if path.is_dir() else path
    with _translate_errors(file), open_native(file) as opened:
        metadata = pq.read_schema(opened).metadata or {}
    return bytes(metadata.get(ATTRIBUTES, b""))


def simulation(folder: Path) -> str | None:
    """Read size and seed of the simulation from the files of a folder; None if the shots are not synthetic.

    The simulation writes a mark into the metadata of Parquet files, which copies keep. A CSV file has no metadata.
    """
    for name in FILES:
        found = json.loads(attributes(folder / name) or b"{}")
        if SIMULATION in found:
            return str(found[SIMULATION])
    return None


@contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except FileError as error:
        raise SourceError(str(error)) from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise SourceError(_damaged(path, error)) from error


@contextmanager
def _translate_reader_errors() -> Iterator[None]:
    try:
        yield
    except TableError as error:
        raise SourceError(str(error)) from error


@contextmanager
def _translate_table_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except TableError as error:
        if path.is_dir() or error.__cause__ is None or isinstance(error.__cause__, FileError):
            raise SourceError(str(error)) from error
        raise SourceError(_damaged(path, error.__cause__)) from error


def _damaged(path: Path, error: BaseException) -> str:
    return f"{path.name} is not a complete Parquet file: it is truncated or has another format ({_first_line(error)})."


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
