"""Tables on disk of any size, read and written a piece at a time.

A table is a Parquet file, a CSV file, or a folder of Parquet files that are taken as one, in the order of their names.
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
from data.storage.regular_files import kind_found, open_native, open_regular

PART_ROWS = 2_000_000
"""Rows of a part of a written table; one of more rows is a folder."""

ATTRIBUTES = b"PANDAS_ATTRS"
"""Key of a Parquet file's metadata where pandas keeps ``DataFrame.attrs``."""

_KINDS = (".parquet", ".csv")
_READ_BYTES = 1 << 20
_LONGEST_HEADER = 1 << 20
_SAMPLE_PIECES = 20
_SAMPLE_ROWS = 65_536


class TableError(KobeShotError):
    """A file is no table, or cannot become one."""


class TableReader:
    """A Parquet or CSV file, or a folder of Parquet files.

    Parameters
    ----------
    path : pathlib.Path
    columns : sequence of str, optional
        Only these are read, those of them that the table has.

    Attributes
    ----------
    schema : pyarrow.Schema
        Of every piece, whichever part it is from: a column that a part lacks is null there, and one that is of another
        type there is cast.
    rows : int or None
        Known for Parquet.

    Raises
    ------
    TableError
        If the file is not there, cannot be read, or its parts differ so much that they are not one table.
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
                found = kind_found(path)
                problem = "there is none" if found == "nothing" else f"found {found}"
                message = f"{path}: expected a Parquet or CSV file, or a folder of Parquet files; {problem}."
                raise TableError(message)
        looked = [_look(file) for file in self.files]
        try:
            schemas = [schema for schema, _ in looked]
            schema = pa.unify_schemas(schemas, promote_options="permissive") if schemas[1:] else schemas[0]
        except pa.ArrowException as error:
            message = f"{path}: expected parts with the same columns; {error}."
            raise TableError(message) from error
        counts = [rows for _, rows in looked]
        self.rows = None if None in counts else sum(rows for rows in counts if rows is not None)
        self.schema = pa.schema([field for field in schema if columns is None or field.name in columns])

    def chunks(self, rows: int) -> Iterator[pa.Table]:
        """The table in pieces of `rows` rows, the last one shorter.

        Raises
        ------
        TableError
            If a piece cannot be read.
        """
        return _rechunked(self._batches(rows), rows)

    def whole(self) -> pd.DataFrame:
        """The whole table in memory.

        Raises
        ------
        TableError
            If a piece cannot be read.
        """
        return pd.DataFrame(pa.Table.from_batches(self._batches(_SAMPLE_ROWS), self.schema).to_pandas())

    def sample(self, rows: int) -> pd.DataFrame:
        """The whole table if it has no more than `rows` rows, else about as many from all over it.

        Of a Parquet table every k-th row of row groups that lie evenly apart, of a CSV file every k-th row of all.

        Raises
        ------
        TableError
            If a piece cannot be read.
        """
        if self.rows is None:
            return self._sample_of_csv(rows)
        if self.rows <= rows:
            return pd.DataFrame(pa.Table.from_batches(self._batches(rows), self.schema).to_pandas())
        groups = [
            (file, group, metadata.row_group(group).num_rows)
            for file in self.files
            for metadata in [_metadata(file)]
            for group in range(metadata.num_row_groups)
        ]
        # Small groups are read in such a number that they hold the rows.
        most = max(_SAMPLE_PIECES, -(-rows * len(groups) // self.rows))
        places = np.unique(np.linspace(0, len(groups) - 1, min(most, len(groups))).astype(int))
        chosen = [groups[place] for place in places]
        step = max(1, -(-sum(size for *_, size in chosen) // rows))
        pieces, first = [], 0
        for file, group, _ in chosen:
            with _told_of(file), _parquet(file) as opened:
                batches = opened.iter_batches(_SAMPLE_ROWS, row_groups=[group], columns=self._columns_in(opened))
                for batch in batches:
                    piece = self._cast(pa.Table.from_batches([batch]))
                    pieces.append(piece.take(np.arange(-first % step, len(piece), step)))
                    first += len(piece)
        return pd.DataFrame(pa.concat_tables(pieces).to_pandas())

    def _sample_of_csv(self, rows: int) -> pd.DataFrame:
        total = sum(len(piece) for piece in self.chunks(_SAMPLE_ROWS))
        step, first, pieces = max(1, -(-total // rows)), 0, [self.schema.empty_table()]
        for piece in self.chunks(_SAMPLE_ROWS):
            pieces.append(piece.take(np.arange(-first % step, len(piece), step)))
            first += len(piece)
        return pd.DataFrame(pa.concat_tables(pieces).to_pandas())

    def _batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        for file in self.files:
            with _told_of(file):
                if file.suffix.lower() == ".csv":
                    yield from self._csv(file)
                    continue
                with _parquet(file) as opened:
                    for batch in opened.iter_batches(batch_size=rows, columns=self._columns_in(opened)):
                        yield from self._cast(pa.Table.from_batches([batch])).to_batches()

    def _csv(self, file: Path) -> Iterator[pa.RecordBatch]:
        if not len(self.schema) or not file.stat().st_size:
            return
        kinds = pa_csv.ConvertOptions(
            column_types=dict(zip(self.schema.names, self.schema.types, strict=True)),
            include_columns=self.schema.names,
            strings_can_be_null=True,
            null_values=[""],
        )
        parsing = pa_csv.ParseOptions(newlines_in_values=True)
        # Closed by whoever stops reading: else its thread is still reading when the process ends, which aborts it.
        with (
            open_regular(file) as text,
            pa_csv.open_csv(text, convert_options=kinds, parse_options=parsing) as opened,
        ):
            yield from opened

    def _columns_in(self, opened: pq.ParquetFile) -> list[str]:
        return [name for name in self.schema.names if name in opened.schema_arrow.names]

    def _cast(self, piece: pa.Table) -> pa.Table:
        if piece.schema.equals(self.schema):
            return piece
        columns = [
            piece.column(field.name).cast(field.type)
            if field.name in piece.column_names
            else pa.nulls(len(piece), field.type)
            for field in self.schema
        ]
        return pa.table(columns, schema=self.schema)


class TableWriter:
    """Writes a Parquet or CSV file, or a folder of Parquet files, a piece at a time; see `table_writer`.

    Parameters
    ----------
    path : pathlib.Path
        A file for CSV, else a folder that is not there yet.
    schema : pyarrow.Schema
    kind : str
        ``.parquet`` or ``.csv``.
    """

    def __init__(self, path: Path, schema: pa.Schema, kind: str) -> None:
        self.rows = 0
        self.files: list[Path] = []
        self._path, self.schema, self._kind = path, schema, kind
        self._room = 0
        self._writer: pq.ParquetWriter | pa_csv.CSVWriter | None = None

    def write(self, piece: pa.Table) -> None:
        """Append rows."""
        while len(piece):
            writer = self._writer if self._writer and self._room else self._next_part()
            head = piece.slice(0, self._room)
            writer.write_table(head)
            self._room -= len(head)
            self.rows += len(head)
            piece = piece.slice(len(head))

    def __enter__(self) -> Self:
        """The writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file; a table without rows has its columns all the same."""
        if error is None:
            (self._writer or self._next_part()).close()
        elif self._writer is not None:
            # What failed to be written may fail to be finished, and the first failure is the one to tell.
            with suppress(OSError, pa.ArrowException):
                self._writer.close()

    def _next_part(self) -> pq.ParquetWriter | pa_csv.CSVWriter:
        if self._writer is not None:
            self._writer.close()
        if self._kind == ".csv":
            self._room = np.iinfo(np.int64).max
            options = pa_csv.WriteOptions(quoting_style="needed")
            self.files.append(self._path)
            self._writer = pa_csv.CSVWriter(self._path, self.schema, write_options=options)
            return self._writer
        self._room = PART_ROWS
        self._path.mkdir(exist_ok=True)
        self.files.append(self._path / f"part-{len(self.files):05d}.parquet")
        self._writer = pq.ParquetWriter(self.files[-1], self.schema)
        return self._writer


@contextmanager
def table_writer(target: Path, schema: pa.Schema) -> Iterator[TableWriter]:
    """Write a table beside its target and rename it on success.

    Parameters
    ----------
    target : pathlib.Path
        ``.parquet`` or ``.csv``. A Parquet table of more than ``PART_ROWS`` rows becomes a folder of that name.
    schema : pyarrow.Schema

    Raises
    ------
    TableError
        If the name is of another kind.
    """
    kind = file_format(target)
    with atomic_write(target) as partial:
        with TableWriter(partial, schema, kind) as writer:
            yield writer
        if kind == ".parquet" and len(writer.files) == 1:
            aside = partial.with_name(f".one{partial.name}")
            writer.files[0].replace(aside)
            partial.rmdir()
            aside.replace(partial)


def arrow_schema(table: pd.DataFrame) -> pa.Schema:
    """The Arrow schema of a table as pandas writes it to Parquet, with its ``attrs``."""
    schema = pa.Table.from_pandas(table, preserve_index=False).schema
    marks = {ATTRIBUTES: json.dumps(table.attrs).encode()} if table.attrs else {}
    # Texts of which the first piece has none may follow.
    fields = [field.with_type(pa.string()) if pa.types.is_null(field.type) else field for field in schema]
    return pa.schema(fields, {**(schema.metadata or {}), **marks})


def file_format(path: Path) -> str:
    """The kind of a table by its name, ``.parquet`` or ``.csv``.

    Raises
    ------
    TableError
        If it says neither.
    """
    if path.suffix.lower() not in _KINDS:
        message = f"{path}: expected a name that ends in {' or '.join(_KINDS)}."
        raise TableError(message)
    return path.suffix.lower()


def validate_table_path(path: Path) -> Path:
    """Refuse a name that says neither Parquet nor CSV, unless it is that of a folder.

    Raises
    ------
    ValueError
        Which a configuration turns into a message.
    """
    return path if path.is_dir() else check_kind(path)


def check_kind(path: Path) -> Path:
    """Refuse a name that says neither Parquet nor CSV.

    Raises
    ------
    ValueError
        Which a configuration turns into a message.
    """
    try:
        file_format(path)
    except TableError as error:
        raise ValueError(str(error)) from error
    return path


def _look(file: Path) -> tuple[pa.Schema, int | None]:
    with _told_of(file):
        if file.suffix.lower() == ".csv":
            with open_regular(file) as text:
                header = text.readline(_LONGEST_HEADER)
            if len(header) == _LONGEST_HEADER:
                message = f"{file}: expected a header line of less than {_LONGEST_HEADER:,} bytes; found a longer one."
                raise TableError(message)
            names = pa_csv.read_csv(pa.BufferReader(header or b"\n")).column_names
            # Texts stay as they stand, and a cell that is no number is told by row, which Arrow's parser does not do.
            return pa.schema([(name, pa.string()) for name in names]), None
        with _parquet(file) as table:
            plain = [
                pa.field(field.name, field.type.value_type if pa.types.is_dictionary(field.type) else field.type)
                for field in table.schema_arrow
            ]
            return pa.schema(plain), table.metadata.num_rows


@contextmanager
def _parquet(file: Path) -> Iterator[pq.ParquetFile]:
    # Without a buffer a whole column of a row group is read at once, however large that is.
    with open_native(file) as source, pq.ParquetFile(source, buffer_size=_READ_BYTES) as opened:
        yield opened


def _metadata(file: Path) -> pq.FileMetaData:
    with _told_of(file), _parquet(file) as opened:
        return opened.metadata


@contextmanager
def _told_of(file: Path) -> Iterator[None]:
    try:
        yield
    except FileError as error:
        raise TableError(str(error)) from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        message = (
            f"{file}: expected a whole {file.suffix[1:]} table; it cannot be read ({reason}). "
            "Get this file again, or take it away."
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
