"""Parquet tables of any size as Spark reads and writes them; the counterpart of `data.storage.tables`.

PySpark is an extra of this project (``spark``), and is imported only where it is used.
"""

from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from data.spark.session import translate_errors
from data.storage.files import atomic_write, parquet_files, remove_path
from data.storage.tables import TableError, TableReader

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_FRACTIONS = ("double", "float")


def read(session: "SparkSession", path: Path, columns: Sequence[str] | None = None) -> "DataFrame":
    """Read a Parquet file, or a folder of Parquet files that are taken as one table.

    Parameters
    ----------
    session : pyspark.sql.SparkSession
        See `data.spark.session.session`.
    path : pathlib.Path
        On a disk that every worker sees under this name.
    columns : sequence of str, optional
        Only these are read, those of them that the table has.

    Returns
    -------
    pyspark.sql.DataFrame
        A column that a part lacks is null there, and one that is of another type there is cast, as in
        `data.storage.tables.TableReader`. A NaN is null.

    Raises
    ------
    TableError
        If the table is not Parquet, a part of it cannot be read, or its parts are not one table. Every part is opened
        before the first job.
    SparkError
        If a column is of a type that Spark has no name for.
    """
    if path.suffix.lower() == ".csv" and not path.is_dir():
        message = f"{path}: expected a Parquet file, or a folder of them, with engine=spark; found CSV."
        raise TableError(message)
    table = TableReader(path, columns)
    with translate_errors():
        alike = [_plain(session, files) for files in _by_schema(table).values()]
        joined = reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), alike)
        kinds = dict(joined.dtypes)
        # A column without a value in any part has no type either, and Parquet wants one.
        return joined.selectExpr(
            *[
                quote_identifier(name) + " :: STRING" * (kinds[name] == "void") + f" AS {quote_identifier(name)}"
                for name in kinds
            ]
        ).select([quote_identifier(name) for name in table.schema.names])


def write(frame: "DataFrame", target: Path) -> int:
    """Write a table as a folder of Parquet files, beside its target, and rename it on success.

    Parameters
    ----------
    frame : pyspark.sql.DataFrame
        Each of its partitions becomes a part; a table without rows has one part with its columns.
    target : pathlib.Path
        On a disk that every worker sees under this name.

    Returns
    -------
    int
        Rows that were written.

    Raises
    ------
    SparkError
        If the job fails; what was at `target` is there as it was.
    """
    with atomic_write(target) as partial:
        return write_into(frame, partial)


def write_into(frame: "DataFrame", folder: Path) -> int:
    """Write a table into a folder that is not there yet, and is no table to anybody before it is renamed; see `write`.

    The folder holds nothing but parts.
    """
    remove_path(folder)
    with translate_errors():
        frame.write.parquet(_address(folder))
    for number, part in enumerate(parquet_files(folder)):
        part.rename(folder / f"part-{number:05d}.parquet")
    for path in folder.iterdir():
        if path.suffix != ".parquet":
            remove_path(path)
    return sum(pq.read_metadata(part).num_rows for part in parquet_files(folder))


def quote_identifier(name: str) -> str:
    """The name of a column as it stands in SQL.

    Examples
    --------
    >>> quote_identifier("shot distance")
    '`shot distance`'
    """
    return "`" + name.replace("`", "``") + "`"


def _by_schema(table: TableReader) -> dict[tuple[tuple[str, str], ...], list[Path]]:
    """The files of a table by what they hold of its columns, and as what."""
    files: dict[tuple[tuple[str, str], ...], list[Path]] = {}
    for file in table.files:
        held = [(field.name, str(field.type)) for field in pq.read_schema(file) if field.name in table.schema.names]
        files.setdefault(tuple(held), []).append(file)
    return files


def _plain(session: "SparkSession", files: Sequence[Path]) -> "DataFrame":
    """Files of one schema as a table: times are times to the microsecond, and a NaN is null."""
    # Spark takes a path for a pattern, unless this option of its own code says otherwise.
    frame = session.read.option("__globPaths__", "false").parquet(*map(_address, files))
    stored = pq.read_schema(files[0])
    plain = []
    for name, kind in frame.dtypes:
        column = quote_identifier(name)
        arrow = stored.field(name).type
        if pa.types.is_timestamp(arrow) and arrow.unit == "ns":
            column = f"timestamp_micros({column} DIV 1000) AS {column}"
        elif kind in _FRACTIONS:
            column = f"nanvl({column}, NULL) AS {column}"
        plain.append(column)
    return frame.selectExpr(*plain)


def _address(path: Path) -> str:
    # As it stands: Hadoop takes no percent-encoding.
    return f"file://{path.resolve()}"
