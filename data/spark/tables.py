"""Reading and writing of Parquet tables of any size with Spark; the counterpart of `data.storage.tables`.

PySpark is an optional dependency (extra ``spark``), so functions import it where they use it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from data.errors import TableError
from data.spark.session import translate_errors
from data.storage.dataset_reader import DatasetReader
from data.storage.files import atomic_write, parquet_files, remove_path
from data.storage.staging import staging
from data.storage.tables import TableReader, table_writer

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_ROWS_PER_CHUNK = 131_072
_FRACTIONS = ("double", "float")


def read(
    session: "SparkSession", path: Path, columns: Sequence[str] | None = None, *, position: str = ""
) -> "DataFrame":
    """Read a Parquet file, or a folder of Parquet files as one table.

    Parameters
    ----------
    session : pyspark.sql.SparkSession
        See `data.spark.session.session`.
    path : pathlib.Path
        Path that is valid on every worker.
    columns : sequence of str, optional
        Columns to read; names that the table lacks are ignored.
    position : str
        Name of a column to add: the number of the row in the table, from 0.

    Returns
    -------
    pyspark.sql.DataFrame
        A column that a part lacks is null for its rows, and a column of another type is cast, as in
        `data.storage.tables.TableReader`. NaN becomes null.

    Raises
    ------
    TableError
        If the table is not Parquet, a part cannot be read, or the schemas of its parts are incompatible. Every part is
        opened before the first job.
    SparkError
        If Spark does not support the type of a column.
    """
    if path.suffix.lower() == ".csv" and not path.is_dir():
        message = f"{path}: expected a Parquet file, or a folder of them, with engine=spark; found CSV."
        raise TableError(message)
    table = TableReader(path, columns)
    with translate_errors():
        frames = [
            _read_files(session, files, _first_rows(table) if position else {}, position)
            for files in _by_schema(table).values()
        ]
        union = reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), frames)
        types = dict(union.dtypes)
        # A column without values has no type, which Parquet requires.
        return union.selectExpr(
            *[
                quote_identifier(name) + " :: STRING" * (types[name] == "void") + f" AS {quote_identifier(name)}"
                for name in types
            ]
        ).select([quote_identifier(name) for name in [*table.schema.names, *[position] * bool(position)]])


@contextmanager
def stored_table(reader: DatasetReader, folder: Path) -> Iterator[Path]:
    """The Parquet files that Spark reads as a reader does: those of the table, or a copy that is removed at the end.

    Parameters
    ----------
    reader : data.storage.dataset_reader.DatasetReader
    folder : pathlib.Path
        Folder of the copy, which every worker sees.
    """
    if reader.is_stored and not reader.respells():
        yield reader.path
        return
    folder.mkdir(parents=True, exist_ok=True)
    with staging(folder, reader.path.name) as copy:
        with table_writer(copy / "table.parquet", reader.schema) as writer:
            for chunk in reader.chunks(_ROWS_PER_CHUNK):
                writer.write(chunk)
        yield copy / "table.parquet"


def write(frame: "DataFrame", target: Path) -> int:
    """Write a table atomically as a folder of Parquet files.

    Parameters
    ----------
    frame : pyspark.sql.DataFrame
        Each partition becomes a part; an empty table has one part with its columns.
    target : pathlib.Path
        Path that is valid on every worker.

    Returns
    -------
    int
        Number of rows written.

    Raises
    ------
    SparkError
        If the job fails; `target` is unchanged.
    """
    with atomic_write(target) as partial:
        return write_into(frame, partial)


def write_into(frame: "DataFrame", folder: Path) -> int:
    """Write a table into a new folder, which contains only parts; see `write`."""
    remove_path(folder)
    with translate_errors():
        frame.write.parquet(_url(folder))
    for number, part in enumerate(parquet_files(folder)):
        part.rename(folder / f"part-{number:05d}.parquet")
    for path in folder.iterdir():
        if path.suffix != ".parquet":
            remove_path(path)
    return sum(pq.read_metadata(part).num_rows for part in parquet_files(folder))


def quote_identifier(name: str) -> str:
    """Quote the name of a column for SQL.

    Examples
    --------
    >>> quote_identifier("shot distance")
    '`shot distance`'
    """
    return "`" + name.replace("`", "``") + "`"


def _by_schema(table: TableReader) -> dict[tuple[tuple[str, str], ...], list[Path]]:
    """Group the files of a table by their columns and types."""
    files: dict[tuple[tuple[str, str], ...], list[Path]] = {}
    for file in table.files:
        fields = [(field.name, str(field.type)) for field in pq.read_schema(file) if field.name in table.schema.names]
        files.setdefault(tuple(fields), []).append(file)
    return files


def _read_files(
    session: "SparkSession", files: Sequence[Path], first_rows: Mapping[str, int], position: str
) -> "DataFrame":
    """Read files of one schema as a table, with timestamps in microseconds and NaN as null."""
    # Spark treats a path as a glob pattern unless this internal option is off.
    frame = session.read.option("__globPaths__", "false").parquet(*map(_url, files))
    arrow_schema = pq.read_schema(files[0])
    columns = []
    for name, dtype in frame.dtypes:
        column = quote_identifier(name)
        arrow = arrow_schema.field(name).type
        if pa.types.is_timestamp(arrow) and arrow.unit == "ns":
            column = f"timestamp_micros({column} DIV 1000) AS {column}"
        elif dtype in _FRACTIONS:
            column = f"nanvl({column}, NULL) AS {column}"
        columns.append(column)
    if not position:
        return frame.selectExpr(*columns)
    from pyspark.sql import functions as sql  # noqa: PLC0415 an extra

    # url_decode makes a space of a plus sign.
    url = sql.url_decode(sql.replace("_metadata.file_path", sql.lit("+"), sql.lit("%2B")))
    file = sql.regexp_replace(url, "^file:/+", "/")
    first_row = sql.element_at(sql.create_map(*[sql.lit(each) for pair in first_rows.items() for each in pair]), file)
    return frame.select(*map(sql.expr, columns), (first_row + sql.col("_metadata.row_index")).alias(position))


def _first_rows(table: TableReader) -> dict[str, int]:
    """The number of the first row of each file."""
    counts = [pq.read_metadata(file).num_rows for file in table.files]
    return dict(zip((str(file.resolve()) for file in table.files), accumulate([0, *counts]), strict=False))


def _url(path: Path) -> str:
    # Hadoop does not decode percent-encoding.
    return f"file://{path.resolve()}"
