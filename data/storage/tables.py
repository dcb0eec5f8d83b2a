"""Reading and writing of tables of any size on disk, in chunks.

`TableReader` reads every table, those that a person hands in through `data.storage.dataset_reader.DatasetReader`.
`table_writer` writes a Parquet file, a CSV file, or a folder of Parquet files.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq

from data.datasets import current
from data.errors import FileError, TableError
from data.storage import csv_text
from data.storage.content import Content, content_of, open_text
from data.storage.files import FOLDERS, atomic_write, table_files
from data.storage.regular_files import found_file_type, open_native

PART_ROWS = 2_000_000
"""Maximum number of rows of a part; a larger table is written as a folder."""

ATTRIBUTES = b"PANDAS_ATTRS"
"""Key of a Parquet file's metadata where pandas keeps ``DataFrame.attrs``."""

_FORMATS = (".parquet", ".csv")
_READ_BYTES = 1 << 20
_LONG_ROW = "straddling object"
"""What Arrow calls a row of CSV or JSON that is longer than a block."""
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_SAMPLE_GROUPS = 20
_SAMPLE_ROWS = 65_536


class TableReader:
    """A table of a person or of this project: a file, or a folder of files that are concatenated by name.

    A file is Parquet, Arrow (Feather), JSON lines or CSV, by its content; CSV may be in a gzip or zip file. The columns
    of a folder include those in the names of its subfolders, such as ``period=1``.

    Parameters
    ----------
    path : pathlib.Path
    columns : sequence of str, optional
        Columns to read; names that the table lacks are ignored.
    name : str
        Name of the table in messages; its path by default.

    Attributes
    ----------
    schema : pyarrow.Schema
        Schema of every chunk. A column that a part lacks is null for its rows, and a column of another type is cast.
        Columns of CSV files are strings, so that an invalid number is reported by row.
    rows : int or None
        Number of rows; None for a format other than Parquet until a sample was read.

    Raises
    ------
    TableError
        If the file does not exist or cannot be read, or the schemas of its parts are incompatible.
    """

    def __init__(self, path: Path, columns: Sequence[str] | None = None, *, name: str = "") -> None:
        self.path, self.name = path, name or str(path)
        with self._translate_errors():
            self.files = _files(path)
            self._parts = [self._open(file) for file in self.files]
            schemas = [part.schema for part in self._parts]
            try:
                schema = pa.unify_schemas(schemas, promote_options="permissive") if schemas[1:] else schemas[0]
            except pa.ArrowException as error:
                message = f"{path}: expected parts with the same columns; {error}."
                raise TableError(message) from error
        self.formats = {part.content for part in self._parts}
        counts = [part.rows for part in self._parts]
        self.rows = None if None in counts else sum(rows for rows in counts if rows is not None)
        self.names = schema.names
        self.schema = pa.schema([field for field in schema if columns is None or field.name in columns])

    def chunks(self, rows: int) -> Iterator[pa.Table]:
        """Iterate over the table in chunks of `rows` rows; the last chunk may be shorter.

        Raises
        ------
        TableError
            If a chunk cannot be read.
        """
        return _rechunked(self._batches(rows), rows)

    def whole(self) -> pd.DataFrame:
        """Read the whole table into memory.

        Raises
        ------
        TableError
            If a chunk cannot be read.
        """
        return pd.DataFrame(self.table().to_pandas())

    def table(self) -> pa.Table:
        """Read the whole table into memory, as Arrow; see `whole`."""
        return pa.Table.from_batches(self._batches(_SAMPLE_ROWS), self.schema)

    def systematic_sample(self, rows: int) -> pd.DataFrame:
        """Read a systematic sample as a data frame; see `sampled_table`."""
        return pd.DataFrame(self.sampled_table(rows).to_pandas())

    def sampled_table(self, rows: int) -> pa.Table:
        """Read a systematic sample of about `rows` rows, or the whole table if it is not larger.

        The sample is every k-th row: of evenly spaced row groups for a Parquet table, of the whole table for others.

        Raises
        ------
        TableError
            If a chunk cannot be read.
        """
        if self.rows is None or self.formats != {"parquet"}:
            self.rows = sum(len(batch) for batch in self._batches(_SAMPLE_ROWS))
            return self._every(max(1, -(-self.rows // rows)), self._batches(_SAMPLE_ROWS))
        if self.rows <= rows:
            return self.table()
        groups = [
            (part, group, metadata.row_group(group).num_rows)
            for part in self._parts
            for metadata in [_metadata(part.file)]
            for group in range(metadata.num_row_groups)
        ]
        # Enough groups are read to contain the requested rows.
        max_groups = max(_SAMPLE_GROUPS, -(-rows * len(groups) // self.rows))
        indices = np.unique(np.linspace(0, len(groups) - 1, min(max_groups, len(groups))).astype(int))
        selected = [groups[place] for place in indices]
        step = max(1, -(-sum(size for *_, size in selected) // rows))
        return self._every(
            step, (batch for part, group, _ in selected for batch in self._part_batches(part, _SAMPLE_ROWS, [group]))
        )

    def _every(self, step: int, batches: Iterator[pa.RecordBatch]) -> pa.Table:
        chunks_, first = [self.schema.empty_table()], 0
        for batch in batches:
            chunks_.append(pa.Table.from_batches([batch.take(np.arange(-first % step, len(batch), step))]))
            first += len(batch)
        return pa.concat_tables(chunks_)

    def _names(self, names: list[str]) -> list[str]:
        """The names of columns, by the names in a file."""
        return names

    def _type(self, name: str, found: pa.DataType) -> pa.DataType:
        """The type of a column, by its type in a file."""
        del name
        return found.value_type if pa.types.is_dictionary(found) else found

    def _converted(self, name: str, column: pa.Array, target: pa.DataType) -> pa.Array:
        """A column of a file in the type of the table."""
        del name
        return column.cast(target)

    def _open(self, file: Path) -> "_Part":
        with self._translate_errors(file):
            return self._part(file)

    def _part(self, file: Path) -> "_Part":
        content = content_of(file)
        if content in {"text", "json"} and file.suffix.lower() == ".parquet":
            message = (
                f"{file}: expected a complete parquet table; it cannot be read: found text. Rename it if it is CSV."
            )
            raise TableError(message)
        text = csv_text.inspect(file) if content == "text" else None
        rows = None
        if text is not None:
            found = pa.schema([(name, pa.string()) for name in text.names])
        elif content == "parquet":
            with _parquet(file) as opened:
                found, rows = opened.schema_arrow, opened.metadata.num_rows
        elif content in {"sqlite", "duckdb"}:
            message = (
                f"{file}: expected a table; found a database. Give the name of one of its tables: {file}?table=NAME"
            )
            raise TableError(message)
        else:
            with _stream(file, content) as batches:
                found = batches.schema
        folders = _partitions(self.path, file) if self.path.is_dir() else {}
        constants = {name: _scalar(value) for name, value in folders.items() if name not in found.names}
        names = self._names([*found.names, *constants])
        types = [*found.types, *(constant.type for constant in constants.values())]
        fields = [pa.field(name, self._type(name, type_)) for name, type_ in zip(names, types, strict=True)]
        return _Part(file, content, found, pa.schema(fields), rows, list(constants.values()), text)

    def _batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        for part in self._parts:
            yield from self._part_batches(part, rows)

    def _part_batches(self, part: "_Part", rows: int, row_groups: list[int] | None = None) -> Iterator[pa.RecordBatch]:
        places = [place for place, name in enumerate(part.schema.names) if name in self.schema.names]
        stored = [place for place in places if place < len(part.stored)]
        constants = [place for place in places if place >= len(part.stored)]
        with self._translate_errors(part.file):
            for batch in part.batches(stored, rows, row_groups):
                values = [pa.repeat(part.constants[place - len(part.stored)], len(batch)) for place in constants]
                names = [part.schema.names[place] for place in (*stored, *constants)]
                columns = dict(zip(names, [*batch.columns, *values], strict=True))
                yield pa.record_batch([self._column(columns, field, len(batch)) for field in self.schema], self.schema)

    def _column(self, columns: Mapping[str, pa.Array], field: pa.Field, rows: int) -> pa.Array:
        if field.name not in columns:
            return pa.nulls(rows, field.type)
        column = columns[field.name]
        is_same = column.type == field.type and not self._converts(field.name)
        return column if is_same else self._converted(field.name, column, field.type)

    def _converts(self, name: str) -> bool:
        """Whether the values of a column are converted even if their type stays."""
        del name
        return False

    @contextmanager
    def _translate_errors(self, file: Path | None = None) -> Iterator[None]:
        try:
            yield
        except TableError as error:
            raise TableError(str(error).replace(str(self.path), self.name)) from error.__cause__
        except FileError as error:
            raise TableError(str(error).replace(str(self.path), self.name)) from error
        except (pa.ArrowException, OSError, UnicodeDecodeError, ValueError) as error:
            path = file or self.path
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            kind = path.suffix[1:].lower() if path.suffix.lower() in _FORMATS else "Parquet or CSV"
            name = str(path).replace(str(self.path), self.name)
            message = (
                f"{name}: expected a complete {kind} table; it cannot be read ({reason}). Replace or remove the file."
            )
            if _LONG_ROW in reason:
                message = (
                    f"{name}: expected rows of less than {csv_text.MAX_ROW_BYTES:,} bytes; found a longer one. Remove "
                    "it, or close its quotation mark, without which all that follows is one cell."
                )
            raise TableError(message) from error


class _Part(NamedTuple):
    """A file of a table, with the names and types that the table gives its columns."""

    file: Path
    content: Content
    stored: pa.Schema
    schema: pa.Schema
    rows: int | None
    constants: list[pa.Scalar]
    text: csv_text.CsvText | None

    def batches(self, places: Sequence[int], rows: int, row_groups: list[int] | None) -> Iterator[pa.RecordBatch]:
        """Iterate over columns, by their place in the file."""
        if self.text is not None:
            yield from csv_text.batches(self.file, self.text, places)
            return
        if self.content != "parquet":
            with _stream(self.file, self.content) as batches:
                for batch in batches:
                    yield batch.select(list(places))
            return
        names = [self.stored.names[place] for place in places]
        is_unique = len(set(self.stored.names)) == len(self.stored)
        with _parquet(self.file) as opened:
            groups = list(range(opened.num_row_groups)) if row_groups is None else row_groups
            for batch in opened.iter_batches(rows, row_groups=groups, columns=names if is_unique else None):
                yield batch.select(names if is_unique else list(places))


class TableWriter:
    """Writes a Parquet or CSV file, or a folder of Parquet files, in chunks; see `table_writer`.

    Parameters
    ----------
    path : pathlib.Path
        A file for CSV, a new folder for Parquet.
    schema : pyarrow.Schema
    file_format_ : str
        ``.parquet`` or ``.csv``.
    """

    def __init__(self, path: Path, schema: pa.Schema, file_format_: str) -> None:
        self.rows = 0
        self.files: list[Path] = []
        self._path, self.schema, self._format = path, schema, file_format_
        self._remaining = 0
        self._writer: pq.ParquetWriter | pa_csv.CSVWriter | None = None

    def write(self, chunk: pa.Table) -> None:
        """Append rows."""
        while len(chunk):
            writer = self._writer if self._writer and self._remaining else self._next_part()
            head = chunk.slice(0, self._remaining)
            writer.write_table(head)
            self._remaining -= len(head)
            self.rows += len(head)
            chunk = chunk.slice(len(head))

    def __enter__(self) -> Self:
        """The writer."""
        return self

    def __exit__(
        self, file_format_: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file; an empty table has its columns."""
        if error is None:
            (self._writer or self._next_part()).close()
        elif self._writer is not None:
            # Closing may fail after a failed write; the first exception is the one to raise.
            with suppress(OSError, pa.ArrowException):
                self._writer.close()

    def _next_part(self) -> pq.ParquetWriter | pa_csv.CSVWriter:
        if self._writer is not None:
            self._writer.close()
        if self._format == ".csv":
            self._remaining = np.iinfo(np.int64).max
            options = pa_csv.WriteOptions(quoting_style="needed")
            self.files.append(self._path)
            self._writer = pa_csv.CSVWriter(self._path, self.schema, write_options=options)
            return self._writer
        self._remaining = PART_ROWS
        self._path.mkdir(exist_ok=True)
        self.files.append(self._path / f"part-{len(self.files):05d}.parquet")
        self._writer = pq.ParquetWriter(self.files[-1], self.schema, **parquet_options(self.schema))
        return self._writer


def parquet_options(schema: pa.Schema) -> dict[str, Any]:
    """Return the options of the Parquet writer: ids as differences, as a dictionary of them is slow and large."""
    own = {current().id.name, current().id.raw_name}
    ids = [field.name for field in schema if field.name in own and pa.types.is_integer(field.type)]
    return {
        "use_dictionary": [name for name in schema.names if name not in ids],
        "column_encoding": dict.fromkeys(ids, "DELTA_BINARY_PACKED"),
    }


@contextmanager
def table_writer(target: Path, schema: pa.Schema) -> Iterator[TableWriter]:
    """Write a table atomically.

    Parameters
    ----------
    target : pathlib.Path
        ``.parquet`` or ``.csv``. A Parquet table of more than ``PART_ROWS`` rows becomes a folder of that name.
    schema : pyarrow.Schema

    Raises
    ------
    TableError
        If the file format is not supported.
    """
    file_format_ = file_format(target)
    with atomic_write(target) as partial:
        with TableWriter(partial, schema, file_format_) as writer:
            yield writer
        if file_format_ == ".parquet" and len(writer.files) == 1:
            aside = partial.with_name(f".one{partial.name}")
            writer.files[0].replace(aside)
            partial.rmdir()
            aside.replace(partial)


def arrow_schema(table: pd.DataFrame) -> pa.Schema:
    """Return the Arrow schema of a table as pandas writes it to Parquet, with its ``attrs``."""
    schema = pa.Table.from_pandas(table, preserve_index=False).schema
    marks = {ATTRIBUTES: json.dumps(table.attrs).encode()} if table.attrs else {}
    # A column of nulls may have strings in later chunks.
    return without_null_types(schema).with_metadata({**(schema.metadata or {}), **marks})


def without_null_types(schema: pa.Schema) -> pa.Schema:
    """Return a schema with strings in place of columns that hold nothing but nulls."""
    return pa.schema(
        [field.with_type(pa.string()) if pa.types.is_null(field.type) else field for field in schema], schema.metadata
    )


def file_format(path: Path) -> str:
    """Return the file format of a path, ``.parquet`` or ``.csv``.

    Raises
    ------
    TableError
        If it is neither.
    """
    if path.suffix.lower() not in _FORMATS:
        message = f"{path}: expected a name that ends in {' or '.join(_FORMATS)}."
        raise TableError(message)
    return path.suffix.lower()


def validate_table_path(path: Path) -> Path:
    """Raise unless a path exists, or is that of a Parquet or CSV file; the content of a file is its format.

    Raises
    ------
    ValueError
        pydantic reports it as an invalid parameter.
    """
    return path if path.exists() else validate_file_format(path)


def validate_file_format(path: Path) -> Path:
    """Raise unless a path is a Parquet or CSV file.

    Raises
    ------
    ValueError
        pydantic reports it as an invalid parameter.
    """
    try:
        file_format(path)
    except TableError as error:
        raise ValueError(str(error)) from error
    return path


def _files(path: Path) -> list[Path]:
    """The files of a table: the file, or those of one format in a folder and its subfolders."""
    if not path.is_dir():
        if not path.is_file():
            message = (
                f"{path}: expected a Parquet or CSV file, or a folder of Parquet files; found {found_file_type(path)}."
            )
            raise TableError(message)
        return [path]
    formats = {kind: table_files(path, suffixes) for kind, suffixes in FOLDERS.items()}
    found = {kind: files for kind, files in formats.items() if files}
    if not found:
        message = f"{path}: expected a folder of Parquet files; found none in it."
        raise TableError(message)
    if len(found) > 1:
        examples = ", ".join(files[0].name for files in found.values())
        message = f"{path}: expected a folder of files of one format; found {examples}. Move the others elsewhere."
        raise TableError(message)
    return next(iter(found.values()))


def _partitions(folder: Path, file: Path) -> dict[str, str | None]:
    """The columns in the names of the subfolders of a file, such as ``period=1``."""
    pairs = (part.partition("=") for part in file.relative_to(folder).parts[:-1])
    found = {unquote(name): unquote(value) for name, equals, value in pairs if equals and name}
    return {name: None if value == _NULL_PARTITION else value for name, value in found.items()}


def _scalar(value: str | None) -> pa.Scalar:
    """The value of a column in the name of a folder; an integer if it is written as one."""
    is_integer = value is not None and value.lstrip("-").isdecimal() and str(int(value)) == value
    return pa.scalar(int(value), pa.int64()) if is_integer and value else pa.scalar(value, pa.string())


@contextmanager
def _stream(file: Path, content: Content) -> Iterator[Any]:
    """Open a file of Arrow batches or of JSON lines; iterable, with a schema."""
    if content == "json":
        options = pa_json.ReadOptions(block_size=csv_text.MAX_ROW_BYTES)
        with open_text(file) as text, pa_json.open_json(text, read_options=options) as lines:
            yield lines
        return
    with open_native(file) as source:
        if content == "arrow_stream":
            with pa.ipc.open_stream(source) as stream:
                yield stream
            return
        with pa.ipc.open_file(source) as opened:
            yield _ArrowFile(opened)


class _ArrowFile:
    """The batches of an Arrow file."""

    def __init__(self, opened: pa.RecordBatchFileReader) -> None:
        self._opened, self.schema = opened, opened.schema

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return (self._opened.get_batch(number) for number in range(self._opened.num_record_batches))


@contextmanager
def _parquet(file: Path) -> Iterator[pq.ParquetFile]:
    # Without a buffer, Arrow reads a whole column of a row group at once.
    with open_native(file) as source, pq.ParquetFile(source, buffer_size=_READ_BYTES) as opened:
        yield opened


def _metadata(file: Path) -> pq.FileMetaData:
    with _parquet(file) as opened:
        return opened.metadata


def _rechunked(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    count = 0
    for batch in batches:
        held.append(pa.Table.from_batches([batch]))
        count += len(batch)
        while count >= rows:
            table = pa.concat_tables(held)
            yield table.slice(0, rows)
            held, count = [table.slice(rows)], count - rows
    if count:
        yield pa.concat_tables(held)
