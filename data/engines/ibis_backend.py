"""Engine of any Ibis backend: its rows come to this process as Arrow batches, which writes them."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
from data.storage.tables import TableReader, table_writer

BATCH_ROWS = 131_072
"""Rows that come together from the backend."""

_GROUP_ROWS = 262_144
_BATCHES_AHEAD = 3
"""Batches that are computed while those before are written."""


class IbisEngine(Engine):
    """An Ibis backend.

    Parameters
    ----------
    connection : ibis.BaseBackend
    """

    def __init__(self, connection: Any) -> None:  # noqa: ANN401 Ibis has no types
        self.connection = connection

    def read(self, table: TableReader) -> ir.Table:
        """Open a table of Parquet files, null for NaN; its rows are numbered in the order of the ids."""
        with self.translate_errors():
            found = self.connection.read_parquet([str(file) for file in table.files])
            known = {
                name: found[name].isnan().ifelse(None, found[name])
                for name, type_ in found.schema().items()
                if type_.is_floating()
            }
            return found.mutate(**known, **{POSITION: ibis.row_number().over(order_by=found[current().id.raw_name])})

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
        wanted = {name for output in outputs for name in (*output.schema.names, output.where) if name}
        query = self.ordered(query.select(POSITION, *sorted(wanted)))
        with ExitStack() as stack, self.translate_errors():
            writers = [stack.enter_context(_OutputWriter(output, folder)) for output in outputs]
            writing = deque[tuple[int, list[Future[None]]]]()
            for batch in self.batches(query):
                table = pa.Table.from_batches([batch])
                writing.append((len(table), [writer.start(writer.write, table) for writer in writers]))
                if len(writing) > _BATCHES_AHEAD:
                    on_progress(_finished(*writing.popleft()))
            for rows, futures in writing:
                on_progress(_finished(rows, futures))
            _finished(0, [writer.start(writer.finish) for writer in writers])
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


def _finished(rows: int, futures: Iterable[Future[None]]) -> int:
    for future in futures:
        future.result()
    return rows


class _OutputWriter(ExitStack):
    """Writes the rows of one output in row groups of one size, in a thread of its own."""

    def __init__(self, output: Output, folder: Path) -> None:
        super().__init__()
        self.output, self.rows = output, 0
        self._file = self.enter_context(ExitStack())
        self._writer = self._file.enter_context(table_writer(folder / f"{output.name}.parquet", output.schema))
        self.start = self.enter_context(ThreadPoolExecutor(1)).submit
        self._held = output.schema.empty_table()

    def write(self, table: pa.Table) -> None:
        rows = table.select(self.output.schema.names)
        if self.output.where:
            rows = rows.filter(table.column(self.output.where))
        self.rows += len(rows)
        self._held = pa.concat_tables([self._held, rows.cast(self.output.schema)])
        while len(self._held) >= _GROUP_ROWS:
            self._write(_GROUP_ROWS)

    def finish(self) -> None:
        """Write the rest, and wait until it is on the disk, as the other outputs do meanwhile."""
        self._write(len(self._held))
        self._file.close()

    def _write(self, rows: int) -> None:
        self._writer.write(self._held.slice(0, rows))
        self._held = self._held.slice(rows)
