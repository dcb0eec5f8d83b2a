"""The two raw tables: their files, columns, and the mark of synthetic shots.

Each table is a Parquet file or a folder of Parquet files, see `data.storage.tables`. No table is held in memory as a
whole.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data.datasets import Dataset, current
from data.datasets import default as default_dataset
from data.errors import FileError, SourceError, TableError
from data.simulation.synthetic import SIMULATION
from data.storage.files import parquet_files
from data.storage.regular_files import open_native
from data.storage.tables import ATTRIBUTES, TableReader, TableWriter, arrow_schema, table_writer
from data.validation import check_columns

FILES = default_dataset().raw_tables
"""Raw tables of the default dataset: of development and of production."""
DEV_FILE, PROD_FILE = FILES

CHUNK_ROWS = 131_072
"""Rows of a chunk, which are read together."""

_CHUNKS_BETWEEN_RELEASES = 16
_INDEX = "__index_level_"


class RawTable:
    """A raw table with the raw names of the description.

    Parameters
    ----------
    path : pathlib.Path
        A Parquet file, or a folder of Parquet files.
    columns : sequence of str, optional
        Raw names of columns to read; names that the table lacks are ignored.
    also_required : sequence of str
        See `check_columns`.
    name : str
        Name of the table in messages; by default that of the file.
    dataset : Dataset, optional
        By default that of this process.

    Attributes
    ----------
    name : str
        Name of the table in messages.
    dataset : Dataset
    rows : int
    schema : pyarrow.Schema
        Schema of the columns that are read, in the order of the file.
    reader : data.storage.tables.TableReader
        The columns that are read, with their names in the file.

    Raises
    ------
    SourceError
        If a file is damaged, or there are no rows.
    SchemaError
        If a column is missing or duplicate.
    """

    def __init__(
        self,
        path: Path,
        columns: Sequence[str] | None = None,
        *,
        also_required: Sequence[str] = (),
        name: str = "",
        dataset: Dataset | None = None,
    ) -> None:
        self.name = name or path.name
        self.dataset = dataset or current()
        self._path = path
        with _translate_table_errors(path):
            whole = TableReader(path)
            names = [name for name in whole.schema.names if not name.startswith(_INDEX)]
            self.rows = whole.rows or 0
            raw_names = {
                column.name: column.raw_name for column in self.dataset.columns if column.raw_name not in names
            }
            if not self.rows or not names:
                message = f"{self.name} holds no rows; expected {self.dataset.rows}."
                raise SourceError(message)
            check_columns(
                [raw_names.get(name, name) for name in names],
                self.name,
                also_required=also_required,
                dataset=self.dataset,
            )
            wanted = [name for name in names if columns is None or raw_names.get(name, name) in columns]
            self.reader = TableReader(path, wanted)
        self._names = [raw_names.get(name, name) for name in self.reader.schema.names]
        self.schema = pa.schema(
            [field.with_name(name) for field, name in zip(self.reader.schema, self._names, strict=True)]
        )

    def iter_chunks(self) -> Iterator[pa.Table]:
        """Iterate over the table, ``CHUNK_ROWS`` rows at a time.

        Raises
        ------
        SourceError
            If a file is damaged.
        """
        with _translate_table_errors(self._path):
            for number, chunk in enumerate(self.reader.chunks(CHUNK_ROWS), start=1):
                yield chunk.rename_columns(self._names)
                if number % _CHUNKS_BETWEEN_RELEASES == 0:
                    # The system's allocator keeps the gaps that chunks leave, and their number grows.
                    pa.default_memory_pool().release_unused()


def write_split(chunks: Iterator[pd.DataFrame], folder: Path, dataset: Dataset | None = None) -> None:
    """Write chunks of one table, all with the same types, as the two raw tables.

    Parameters
    ----------
    chunks : iterator of pandas.DataFrame
        The files keep the ``attrs`` of the first chunk.
    folder : pathlib.Path
        Where they go.
    dataset : Dataset, optional
        Both parts are selected by values of a column; by default that of this process.
    """
    dataset = dataset or current()
    parts = dict(zip(dataset.raw_tables, (dataset.development, dataset.production), strict=True))
    writers: dict[str, TableWriter] = {}
    with ExitStack() as stack:
        schema = None
        for chunk in chunks:
            if schema is None:
                schema = arrow_schema(chunk)
                writers = {file: stack.enter_context(table_writer(folder / file, schema)) for file in parts}
            for file, writer in writers.items():
                part = chunk[chunk[parts[file].column].isin(parts[file].values)]
                writer.write(pa.Table.from_pandas(part, schema=schema, preserve_index=False))


def write_whole_chunks(chunks: Iterator[pd.DataFrame], path: Path) -> None:
    """Write chunks of one table, all with the same types, as a Parquet table, with the ``attrs`` of the first one."""
    with ExitStack() as stack:
        writer = None
        for chunk in chunks:
            if writer is None:
                writer = stack.enter_context(table_writer(path, arrow_schema(chunk)))
            writer.write(pa.Table.from_pandas(chunk, schema=writer.schema, preserve_index=False))


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


def simulation(folder: Path, dataset: Dataset | None = None) -> str | None:
    """Read size and seed of the simulation from the files of a folder; None if the shots are not synthetic.

    The simulation writes a mark into the metadata of Parquet files, which copies keep. A CSV file has no metadata.
    """
    for name in (dataset or current()).raw_tables:
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
