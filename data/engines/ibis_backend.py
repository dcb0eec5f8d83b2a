"""Engine of any Ibis backend: its rows come to this process as Arrow batches, which writes them."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from data.cli.progress import ProgressCallback
from data.datasets import current
from data.engines.engine import POSITION, Engine, Output
from data.errors import EngineError
from data.storage.tables import TableReader, TableWriter, table_writer

BATCH_ROWS = 131_072
"""Rows that come together from the backend."""

_GROUP_ROWS = 262_144


class IbisEngine(Engine):
    """An Ibis backend.

    Parameters
    ----------
    connection : ibis.BaseBackend
    """

    def __init__(self, connection: Any) -> None:  # noqa: ANN401 Ibis has no types
        self.connection = connection

    def read(self, table: TableReader) -> ir.Table:
        """Open a table of Parquet files; its rows are numbered in the order of the ids."""
        with self.translate_errors():
            found = self.connection.read_parquet([str(file) for file in table.files])
            return found.mutate(**{POSITION: ibis.row_number().over(order_by=found[current().id.raw_name])})

    def rows(self, query: ir.Table) -> list[dict[str, Any]]:
        """Compute a small result."""
        with self.translate_errors():
            return [row for batch in self.batches(query) for row in batch.to_pylist()]

    def write(
        self,
        query: ir.Table,
        outputs: Sequence[Output],
        folder: Path,
        on_progress: ProgressCallback = lambda _rows: None,
    ) -> dict[str, int]:
        """Write the rows of a query, each table as a file, or a folder of parts if it is large."""
        with ExitStack() as stack, self.translate_errors(), ThreadPoolExecutor(len(outputs)) as pool:
            wanted = {name for output in outputs for name in (*output.schema.names, output.where) if name}
            batches = self.batches(self.ordered(query.select(POSITION, *sorted(wanted))))
            writers = [stack.enter_context(_output_writer(output, folder)) for output in outputs]
            for batch in batches:
                table = pa.Table.from_batches([batch])
                for _ in pool.map(lambda writer, table=table: writer.write(table), writers):
                    pass
                on_progress(len(table))
        return {writer.output.name: writer.rows for writer in writers}

    def batches(self, query: ir.Table) -> pa.RecordBatchReader:
        """Start a query."""
        return self.connection.to_pyarrow_batches(query, chunk_size=BATCH_ROWS)

    def ordered(self, query: ir.Table) -> ir.Table:
        """Order the rows by ``POSITION``."""
        return query.order_by(POSITION)

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Translate exceptions of the backend."""
        try:
            yield
        except ibis.IbisError as error:
            message = f"A query of the {self.connection.name} engine failed: {error}"
            raise EngineError(message) from error


class _OutputWriter:
    """Writes the rows of one output in row groups of one size."""

    def __init__(self, output: Output, writer: TableWriter) -> None:
        self.output, self.rows = output, 0
        self._writer = writer
        self._held: list[pa.Table] = []

    def write(self, table: pa.Table) -> None:
        rows = table.select(self._writer.schema.names)
        if self.output.where:
            rows = rows.filter(table.column(self.output.where))
        rows = rows.cast(self._writer.schema)
        self.rows += len(rows)
        self._held.append(rows)
        if sum(map(len, self._held)) >= _GROUP_ROWS:
            self.flush(_GROUP_ROWS)

    def flush(self, multiple: int = 1) -> None:
        held = pa.concat_tables(self._held) if self._held else None
        if held is None:
            return
        rows = len(held) - len(held) % multiple
        for first in range(0, rows, _GROUP_ROWS):
            self._writer.write(held.slice(first, min(_GROUP_ROWS, rows - first)).combine_chunks())
        self._held = [held.slice(rows)]


@contextmanager
def _output_writer(output: Output, folder: Path) -> Iterator[_OutputWriter]:
    with table_writer(folder / f"{output.name}.parquet", output.schema) as writer:
        found = _OutputWriter(output, writer)
        yield found
        found.flush()
