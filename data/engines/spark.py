"""Spark as an engine: it computes the SQL that Ibis compiles, and writes folders of parts.

PySpark is an optional dependency (extra ``spark``), so functions import it where they use it.
"""

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ibis
import ibis.expr.types as ir

from data.cli.progress import ProgressCallback
from data.engines.engine import POSITION, Engine, Output
from data.spark.session import collect_rows, translate_errors
from data.spark.tables import quote_identifier, read, write_into
from data.storage.tables import PART_ROWS, TableReader

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


class SparkEngine(Engine):
    """Spark.

    Parameters
    ----------
    session : pyspark.sql.SparkSession
        See `data.spark.session.session`.
    """

    partitions = 64

    def __init__(self, session: "SparkSession") -> None:
        self._session = session
        self._connection = ibis.pyspark.connect(session)

    def read(self, table: TableReader) -> ir.Table:
        """Open a table of Parquet files, whose path is valid on every worker."""
        return self.table(read(self._session, table.path, table.schema.names, position=POSITION))

    def table(self, frame: "DataFrame") -> ir.Table:
        """The rows of a data frame, for expressions."""
        name = f"kobe_shot_{uuid.uuid4().hex}"
        with translate_errors():
            frame.createTempView(name)
            return self._connection.table(name)

    def rows(self, query: ir.Table) -> list[dict[str, Any]]:
        """Compute a small result."""
        return collect_rows(self.frame(query))

    def write(
        self,
        query: ir.Table,
        outputs: Sequence[Output],
        folder: Path,
        on_progress: ProgressCallback = lambda _rows: None,
    ) -> dict[str, int]:
        """Write the rows of a query, each table as a folder of parts."""
        del on_progress
        frame = self.frame(query)
        written = {}
        for output in outputs:
            with translate_errors():
                rows = frame.where(quote_identifier(output.where)) if output.where else frame
                parts = -(-output.rows // PART_ROWS)
                rows = rows.repartitionByRange(parts, POSITION) if parts > 1 else rows.repartition(1)
                rows = rows.sortWithinPartitions(POSITION).select(
                    [quote_identifier(name) for name in output.schema.names]
                )
            written[output.name] = write_into(rows, folder / f"{output.name}.parquet")
        return written

    def frame(self, query: ir.Table) -> "DataFrame":
        """The data frame that computes a query."""
        with translate_errors():
            return self._session.sql(self._connection.compile(query))
