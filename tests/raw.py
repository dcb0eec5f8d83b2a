"""Raw tables in tests: their validation, and their preparation with DuckDB."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data.acquisition.raw_shots import check_ids, check_violations, open_raw
from data.acquisition.raw_tables import RawTable
from data.engines.duckdb import duckdb_engine
from data.engines.engine import POSITION
from data.preparation import prepare as preparation
from data.preparation.contract import PreparationParams, PreparationResult
from data.schema import REASON


def store(table: pd.DataFrame, path: Path) -> None:
    """Write a table to a Parquet file; strings among the numbers of a column make it strings."""
    arrays = []
    for place in range(table.shape[1]):
        column = table.iloc[:, place].infer_objects()
        is_mixed = pd.api.types.infer_dtype(column, skipna=True).startswith("mixed")
        arrays.append(pa.array(column.astype(str).where(column.notna(), None) if is_mixed else column))
    pq.write_table(pa.table(arrays, names=[str(name) for name in table]), path)


def assert_same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Assert as pandas does, which takes seconds for the texts of a large table, one by one, even if all are equal."""
    if not found.equals(expected):
        pd.testing.assert_frame_equal(found, expected)


def check_raw(table: pd.DataFrame, name: str, *, also_required: Sequence[str] = ()) -> None:
    """Raise unless a table is valid."""
    with tempfile.TemporaryDirectory() as folder:
        store(table, Path(folder) / "table.parquet")
        with duckdb_engine(Path(folder)) as engine:
            raw = RawTable(Path(folder) / "table.parquet", name=name, also_required=also_required)
            shots = open_raw(engine, raw, also_required=also_required)
            check_violations([shots])
            check_ids(shots)


def reasons_of(table: pd.DataFrame) -> dict[int, str]:
    """The reasons of the rows that violate the schema, by row."""
    with tempfile.TemporaryDirectory() as folder, duckdb_engine(Path(folder)) as engine:
        store(table, Path(folder) / "table.parquet")
        rejects = open_raw(engine, RawTable(Path(folder) / "table.parquet")).rejects()
        return {row[POSITION]: row[REASON] for row in engine.rows(rejects.select(POSITION, REASON).order_by(POSITION))}


def prepare_locally(
    raw: Path, out: Path, params: PreparationParams, on_progress: Callable[[int], None] = lambda _rows: None
) -> PreparationResult:
    """Prepare with DuckDB."""
    out.mkdir(exist_ok=True)
    with duckdb_engine(out) as engine:
        return preparation.prepare(engine, raw, out, params, on_progress)
