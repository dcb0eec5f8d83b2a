"""DuckDB in this process, with bounded memory: what does not fit is on disk, in a folder that is removed at the end."""

import math
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb
import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.backends.sql.datatypes import DuckDBType

from data.engines.engine import POSITION
from data.engines.ibis_backend import BATCH_ROWS, IbisEngine
from data.errors import EngineError
from data.storage.duckdb import NO_PROGRESS_BAR, PREFIX, duckdb_config, quote_identifier, quote_literal
from data.storage.files import DiskFullError
from data.storage.tables import TableReader, without_null_types

_FULL = ("No space left on device", "max_temp_directory_size", "Disk quota exceeded")


class DuckDBEngine(IbisEngine):
    """DuckDB; see `duckdb_engine`.

    Parameters
    ----------
    connection : ibis.BaseBackend
    folder : pathlib.Path
        Folder for what does not fit into memory.
    """

    def __init__(self, connection: Any, folder: Path) -> None:  # noqa: ANN401 Ibis has no types
        super().__init__(connection)
        connection.raw_sql(NO_PROGRESS_BAR)
        self._folder = folder

    def read(self, table: TableReader) -> ir.Table:
        """Open a table of Parquet files, null for NaN, with its rows in the order of the files."""
        schema = ibis.Schema.from_pyarrow(without_null_types(table.schema))
        name = f"shots_{uuid.uuid4().hex}"
        # In SQL, as Ibis changes the order of a union, and gives row_number a frame, which is computed in memory.
        parts = groupby(table.files, lambda file: _types(file, schema))
        rows = " UNION ALL ".join(_part(list(files), {name for name, _ in types}, schema) for types, files in parts)
        with self.translate_errors():
            known = self._without_nan(
                rows, [quote_identifier(name) for name, type_ in schema.items() if type_.is_floating()]
            )
            numbered = f"SELECT * {known}, row_number() OVER () - 1 AS {POSITION} FROM ({rows})"  # noqa: S608 quoted names
            self.connection.con.execute(f"CREATE TEMPORARY VIEW {name} AS {numbered}")
        return ibis.table({**schema, POSITION: "int64"}, name=name)

    def _without_nan(self, rows: str, columns: Sequence[str]) -> str:
        """Replace NaN by null in columns that contain it; for others, statistics of a file show which checks pass.

        DuckDB takes the statistics for the values when it looks for NaN, but they exclude NaN.
        """
        if not columns:
            return ""
        sums = ", ".join(f"sum({column})" for column in columns)
        values = self.connection.con.execute(f"SELECT {sums} FROM ({rows})").fetchone()  # noqa: S608 quoted names
        known = [
            f"CASE WHEN isfinite({column}) OR isinf({column}) THEN {column} END AS {column}"
            for column, value in zip(columns, values, strict=True)
            if value is not None and math.isnan(value)
        ]
        return f"REPLACE ({', '.join(known)})" * bool(known)

    def rows(self, query: ir.Table) -> list[dict[str, Any]]:
        """Compute a small result, which is not planned once more for batches."""
        with self.translate_errors():
            found = self.connection.con.execute(self.connection.compile(query))
            names = [name for name, *_ in found.description]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def batches(self, query: ir.Table) -> pa.RecordBatchReader:
        """Start a query; its batches are computed as they are read, in the order of the files."""
        return self.connection.con.sql(self.connection.compile(query)).to_arrow_reader(BATCH_ROWS)

    def ordered(self, query: ir.Table) -> ir.Table:
        """Return the query without the numbers: DuckDB keeps the order of rows, but for those of a window."""
        if query.op().find(ops.WindowFunction):
            query = query.order_by(POSITION)
        return query.drop(POSITION)

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Translate exceptions of DuckDB, also within Arrow.

        Raises
        ------
        DiskFullError
            If the disk is full of what does not fit into memory.
        EngineError
            If the query fails otherwise.
        """
        try:
            yield
        except (duckdb.Error, ibis.IbisError, pa.ArrowException, OSError) as error:
            text = str(error)
            if isinstance(error, OSError) and error.errno:
                raise
            if any(sign in text for sign in _FULL):
                # Arrow writes the tables, DuckDB what does not fit into memory.
                if "Error writing" in text:
                    raise
                raise DiskFullError.of(self._folder) from error
            advice = ""
            if isinstance(error, duckdb.OutOfMemoryException) or "Out of Memory" in text:
                advice = f" Set {PREFIX}MEMORY_LIMIT higher, such as 4GB, or {PREFIX}THREADS lower."
            message = f"A query of DuckDB failed: {(text.splitlines() or [type(error).__name__])[0]}.{advice}"
            raise EngineError(message) from error


@contextmanager
def duckdb_engine(folder: Path) -> Iterator[DuckDBEngine]:
    """Start DuckDB.

    Parameters
    ----------
    folder : pathlib.Path
        See `data.storage.duckdb.duckdb_config`.

    Raises
    ------
    EngineError
        If a setting is invalid.
    """
    from ibis.backends.duckdb import Backend  # noqa: PLC0415 a third of a second, which other commands do not wait for

    with duckdb_config(folder) as config:
        connection = Backend().connect(**config)
        try:
            yield DuckDBEngine(connection, Path(str(config["temp_directory"])).parent)
        finally:
            connection.disconnect()


def _types(file: Path, schema: ibis.Schema) -> list[tuple[str, str]]:
    return [(field.name, str(field.type)) for field in pq.read_schema(file) if field.name in schema]


def _part(files: Iterable[Path], names: Collection[str], schema: ibis.Schema) -> str:
    """Query of files with the same columns."""
    columns = [
        f"CAST({quote_identifier(name) if name in names else 'NULL'} AS {DuckDBType.to_string(kind)}) "
        f"AS {quote_identifier(name)}"
        for name, kind in schema.items()
    ]
    paths = ", ".join(quote_literal(_escape(str(file))) for file in files)
    return f"SELECT {', '.join(columns)} FROM read_parquet([{paths}], hive_partitioning = false)"  # noqa: S608 quoted


def _escape(path: str) -> str:
    """Escape the signs of DuckDB's patterns."""
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in path)
