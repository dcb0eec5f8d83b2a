"""Reading and writing of tables of any size on disk, in chunks.

A table is a Parquet file, a CSV file, or a folder of Parquet files, whose parts are concatenated by name.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from data.errors import FileError, KobeShotError
from data.storage.files import atomic_write, parquet_files
from data.storage.regular_files import found_file_type, open_native, open_regular

PART_ROWS = 2_000_000
"""Maximum number of rows of a part; a larger table is written as a folder."""

ATTRIBUTES = b"PANDAS_ATTRS"
"""Key of a Parquet file's metadata where pandas keeps ``DataFrame.attrs``."""

_FORMATS = (".parquet", ".csv")
_READ_BYTES = 1 << 20
_MAX_HEADER_BYTES = 1 << 20
_SAMPLE_GROUPS = 20
_SAMPLE_ROWS = 65_536


class TableError(KobeShotError):
    """A table, or another artifact, is missing or damaged, or a table cannot be written."""


class TableReader:
    """A Parquet or CSV file, or a folder of Parquet files.

    Parameters
    ----------
    path : pathlib.Path
    columns : sequence of str, optional
        Columns to read; names that the table lacks are ignored.

    Attributes
    ----------
    schema : pyarrow.Schema
        Schema of every chunk. A column that a part lacks is null for its rows, and a column of another type is cast.
    rows : int or None
        Number of rows of a Parquet table; None for CSV.

    Raises
    ------
    TableError
        If the file does not exist or cannot be read, or the schemas of its parts are incompatible.
    """

    def __init__(self, path: Path, columns: Sequence[str] | None = None) -> None:
        self.path = path
        if path.is_dir():
            self.files = parquet_files(path)
            if not self.files:
                message = f"{path}: expected a folder of Parquet files; found none in it."
                raise TableError(message)
        else:
            file_format(path)
            self.files = [path]
            if not path.is_file():
                found = found_file_type(path)
                problem = f"found {found}"
                message = f"{path}: expected a Parquet or CSV file, or a folder of Parquet files; {problem}."
                raise TableError(message)
        inspected = [_inspect(file) for file in self.files]
        try:
            schemas = [schema for schema, _ in inspected]
            schema = pa.unify_schemas(schemas, promote_options="permissive") if schemas[1:] else schemas[0]
        except pa.ArrowException as error:
            message = f"{path}: expected parts with the same columns; {error}."
            raise TableError(message) from error
        counts = [rows for _, rows in inspected]
        self.rows = None if None in counts else sum(rows for rows in counts if rows is not None)
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
        return pd.DataFrame(pa.Table.from_batches(self._batches(_SAMPLE_ROWS), self.schema).to_pandas())

    def systematic_sample(self, rows: int) -> pd.DataFrame:
        """Read a systematic sample of about `rows` rows, or the whole table if it is not larger.

        The sample is every k-th row: of evenly spaced row groups for a Parquet table, of the whole file for CSV.

        Raises
        ------
        TableError
            If a chunk cannot be read.
        """
        if self.rows is None:
            return self._sample_csv(rows)
        if self.rows <= rows:
            return pd.DataFrame(pa.Table.from_batches(self._batches(rows), self.schema).to_pandas())
        groups = [
            (file, group, metadata.row_group(group).num_rows)
            for file in self.files
            for metadata in [_metadata(file)]
            for group in range(metadata.num_row_groups)
        ]
        # Enough groups are read to contain the requested rows.
        max_groups = max(_SAMPLE_GROUPS, -(-rows * len(groups) // self.rows))
        indices = np.unique(np.linspace(0, len(groups) - 1, min(max_groups, len(groups))).astype(int))
        selected = [groups[place] for place in indices]
        step = max(1, -(-sum(size for *_, size in selected) // rows))
        chunks_, first = [], 0
        for file, group, _ in selected:
            with _translate_errors(file), _parquet(file) as opened:
                batches = opened.iter_batches(_SAMPLE_ROWS, row_groups=[group], columns=self._columns_in(opened))
                for batch in batches:
                    chunk = self._cast(pa.Table.from_batches([batch]))
                    chunks_.append(chunk.take(np.arange(-first % step, len(chunk), step)))
                    first += len(chunk)
        return pd.DataFrame(pa.concat_tables(chunks_).to_pandas())

    def _sample_csv(self, rows: int) -> pd.DataFrame:
        total = sum(len(chunk) for chunk in self.chunks(_SAMPLE_ROWS))
        step, first, chunks_ = max(1, -(-total // rows)), 0, [self.schema.empty_table()]
        for chunk in self.chunks(_SAMPLE_ROWS):
            chunks_.append(chunk.take(np.arange(-first % step, len(chunk), step)))
            first += len(chunk)
        return pd.DataFrame(pa.concat_tables(chunks_).to_pandas())

    def _batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        for file in self.files:
            with _translate_errors(file):
                if file.suffix.lower() == ".csv":
                    yield from self._csv(file)
                    continue
                with _parquet(file) as opened:
                    for batch in opened.iter_batches(batch_size=rows, columns=self._columns_in(opened)):
                        yield from self._cast(pa.Table.from_batches([batch])).to_batches()

    def _csv(self, file: Path) -> Iterator[pa.RecordBatch]:
        if not len(self.schema) or not file.stat().st_size:
            return
        convert_options = pa_csv.ConvertOptions(
            column_types=dict(zip(self.schema.names, self.schema.types, strict=True)),
            include_columns=self.schema.names,
            strings_can_be_null=True,
            null_values=[""],
        )
        parsing = pa_csv.ParseOptions(newlines_in_values=True)
        # Closed explicitly: a reader thread that is active when the process ends aborts the process.
        with (
            open_regular(file) as text,
            pa_csv.open_csv(text, convert_options=convert_options, parse_options=parsing) as opened,
        ):
            yield from opened

    def _columns_in(self, opened: pq.ParquetFile) -> list[str]:
        return [name for name in self.schema.names if name in opened.schema_arrow.names]

    def _cast(self, chunk: pa.Table) -> pa.Table:
        if chunk.schema.equals(self.schema):
            return chunk
        columns = [
            chunk.column(field.name).cast(field.type)
            if field.name in chunk.column_names
            else pa.nulls(len(chunk), field.type)
            for field in self.schema
        ]
        return pa.table(columns, schema=self.schema)


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
        self._writer = pq.ParquetWriter(self.files[-1], self.schema)
        return self._writer


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
    fields = [field.with_type(pa.string()) if pa.types.is_null(field.type) else field for field in schema]
    return pa.schema(fields, {**(schema.metadata or {}), **marks})


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
    """Raise unless a path is a Parquet file, a CSV file or a folder.

    Raises
    ------
    ValueError
        pydantic reports it as an invalid parameter.
    """
    return path if path.is_dir() else validate_file_format(path)


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


def _inspect(file: Path) -> tuple[pa.Schema, int | None]:
    with _translate_errors(file):
        if file.suffix.lower() == ".csv":
            with open_regular(file) as text:
                header = text.readline(_MAX_HEADER_BYTES)
            if len(header) == _MAX_HEADER_BYTES:
                message = (
                    f"{file}: expected a header line of less than {_MAX_HEADER_BYTES:,} bytes; found a longer one."
                )
                raise TableError(message)
            names = pa_csv.read_csv(pa.BufferReader(header or b"\n")).column_names
            # Values stay strings, so that an invalid number is reported by row, which Arrow's parser does not do.
            return pa.schema([(name, pa.string()) for name in names]), None
        with _parquet(file) as table:
            fields = [
                pa.field(field.name, field.type.value_type if pa.types.is_dictionary(field.type) else field.type)
                for field in table.schema_arrow
            ]
            return pa.schema(fields), table.metadata.num_rows


@contextmanager
def _parquet(file: Path) -> Iterator[pq.ParquetFile]:
    # Without a buffer, Arrow reads a whole column of a row group at once.
    with open_native(file) as source, pq.ParquetFile(source, buffer_size=_READ_BYTES) as opened:
        yield opened


def _metadata(file: Path) -> pq.FileMetaData:
    with _translate_errors(file), _parquet(file) as opened:
        return opened.metadata


@contextmanager
def _translate_errors(file: Path) -> Iterator[None]:
    try:
        yield
    except FileError as error:
        raise TableError(str(error)) from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        message = (
            f"{file}: expected a complete {file.suffix[1:]} table; it cannot be read ({reason}). Replace or remove "
            "the file."
        )
        raise TableError(message) from error


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
