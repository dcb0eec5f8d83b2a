"""An engine: reads a table, computes Ibis expressions on it, and writes the rows of the result as tables."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from data.cli.progress import ProgressCallback
from data.storage.tables import TableReader

# A column that is used several times is computed once, in a select of its own.
ibis.options.sql.fuse_selects = False

POSITION = "__position"
"""Name of the column of row numbers, from 0, that `Engine.read` adds."""


@dataclass(frozen=True)
class Output:
    """A table that `Engine.write` writes.

    Attributes
    ----------
    name : str
        Name of the file or folder, without ``.parquet``.
    schema : pyarrow.Schema
        Columns, and the types and metadata of the file; Spark writes its own types.
    rows : int
        Expected number of rows, by which Spark plans its parts.
    where : str
        Name of a boolean column: only its rows are written. Empty for all rows.
    """

    name: str
    schema: pa.Schema
    rows: int
    where: str = ""


class Engine(ABC):
    """Computes Ibis expressions.

    Attributes
    ----------
    partitions : int
        Parts that all rows are sorted in, where no order between the parts is needed.
    """

    partitions: int = 1

    @abstractmethod
    def read(self, table: TableReader) -> ir.Table:
        """Open a table of Parquet files, with the types of its schema, null for NaN, and ``POSITION``."""

    @abstractmethod
    def rows(self, query: ir.Table) -> list[dict[str, Any]]:
        """Compute a small result.

        Raises
        ------
        EngineError
            If the query fails.
        DiskFullError, OSError
            If the disk is full.
        """

    @abstractmethod
    def write(
        self,
        query: ir.Table,
        outputs: Sequence[Output],
        folder: Path,
        on_progress: ProgressCallback = lambda _rows: None,
    ) -> dict[str, int]:
        """Write the rows of a query in the order of its column ``POSITION``.

        Parameters
        ----------
        query : ibis.Table
        outputs : sequence of Output
        folder : pathlib.Path
        on_progress : callable
            Called with the number of written rows of the query.

        Returns
        -------
        dict of str to int
            Number of rows of each output.

        Raises
        ------
        EngineError
            If the query fails.
        DiskFullError, OSError
            If the disk is full.
        """
