from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.acquisition.raw_tables import FILES
from data.engines.duckdb import duckdb_engine
from data.engines.engine import POSITION, Output
from data.errors import EngineError
from data.preparation.contract import PreparationParams
from data.preparation.manifest import TABLES
from data.schema import SHOT_ID, THREE_POINTS, TWO_POINTS
from data.storage.files import DiskFullError, translate_disk_full
from data.storage.tables import TableReader
from tests.raw import prepare_locally

ROWS = 3_000_000


@pytest.fixture
def ids(tmp_path: Path) -> TableReader:
    """A table whose sort does not fit into a small memory."""
    path = tmp_path / "ids.parquet"
    numbers = np.random.default_rng(0).permutation(ROWS)
    pq.write_table(pa.table({SHOT_ID: numbers, "other": numbers[::-1]}), path, row_group_size=100_000)
    return TableReader(path)


@pytest.fixture
def spill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a DuckDB with little memory."""
    folder = tmp_path / "spill"
    folder.mkdir()
    monkeypatch.setenv("KOBE_DUCKDB_MEMORY_LIMIT", "60MB")
    monkeypatch.setenv("KOBE_DUCKDB_THREADS", "1")
    monkeypatch.setenv("KOBE_DUCKDB_TEMPORARY_FOLDER", str(folder))
    return folder


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != ".held"]


def test_what_does_not_fit_into_memory_is_on_disk_until_the_end(spill: Path, ids: TableReader) -> None:
    with duckdb_engine(ids.path.parent) as engine:
        found = engine.batches(engine.read(ids).order_by(SHOT_ID))
        first = next(iter(found))
        assert files(spill)
        assert first.column(SHOT_ID)[:3].to_pylist() == [0, 1, 2]
        del found
    assert list(spill.iterdir()) == []


def test_a_disk_that_is_full_of_what_does_not_fit_into_memory_is_reported(spill: Path, ids: TableReader) -> None:
    output = Output("sorted", pa.schema([(SHOT_ID, pa.int64()), ("other", pa.int64())]), ROWS)
    with duckdb_engine(spill) as engine:
        engine.connection.raw_sql("SET max_temp_directory_size = '1MB'")
        query = engine.read(ids).order_by(SHOT_ID)
        with (
            pytest.raises(DiskFullError, match=r"The disk of .*spill is full.*Free some space"),
            translate_disk_full(ids.path.parent),
        ):
            engine.write(query, [output], ids.path.parent)
    assert list(spill.iterdir()) == []
    assert [path.name for path in ids.path.parent.iterdir() if path.suffix == ".parquet"] == ["ids.parquet"]


def test_too_little_memory_is_reported_with_the_setting(
    spill: Path, ids: TableReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOBE_DUCKDB_MEMORY_LIMIT", "1MB")
    with duckdb_engine(spill) as engine:
        query = engine.read(ids).order_by("other").limit(1_000_000).order_by(SHOT_ID).limit(500_000)
        with pytest.raises(EngineError, match="Set KOBE_DUCKDB_MEMORY_LIMIT higher, such as 4GB"):
            engine.rows(query)


def test_what_a_killed_process_left_is_removed(spill: Path) -> None:
    left = spill / f".duckdb.{'0' * 32}.partial"
    left.mkdir()
    (left / ".held").touch()
    (left / "duckdb_temp_storage.tmp").touch()
    with duckdb_engine(spill):
        assert not left.exists()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("MEMORY_LIMIT", "much", "KOBE_DUCKDB_MEMORY_LIMIT: expected a size such as 1GB; found 'much'"),
        ("THREADS", "0", r"KOBE_DUCKDB_THREADS: expected .* 1; found '0'"),
        ("TEMPORARY_FOLDER", "/nowhere", "KOBE_DUCKDB_TEMPORARY_FOLDER: expected an existing folder; found '?/nowhere"),
    ],
)
def test_an_invalid_setting_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(f"KOBE_DUCKDB_{name}", value)
    with pytest.raises(EngineError, match=words), duckdb_engine(tmp_path):
        pass


def test_parts_are_read_in_the_order_of_their_names_whatever_these_are(tmp_path: Path) -> None:
    folder = tmp_path / "a [b]*.parquet"
    folder.mkdir()
    for number, name in enumerate(["1?.parquet", "2[0-9].parquet", "3*'.parquet", "4%20.parquet"]):
        pq.write_table(pa.table({SHOT_ID: [10 * number + 1, 10 * number]}), folder / name)
    (folder / "2[0-9].parquet").unlink()
    pq.write_table(pa.table({SHOT_ID: [11.0, 10.0], "only": ["x", None]}), folder / "2[0-9].parquet")
    with duckdb_engine(tmp_path) as engine:
        found = engine.rows(engine.read(TableReader(folder)).order_by(POSITION))
    assert [row[SHOT_ID] for row in found] == [1, 0, 11, 10, 21, 20, 31, 30]
    assert [row["only"] for row in found] == [None, None, "x", None, None, None, None, None]
    assert [row[POSITION] for row in found] == list(range(8))


def test_the_settings_change_no_result(shots: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, points in zip(FILES, (TWO_POINTS, THREE_POINTS), strict=True):
        shots[shots["shot_type"] == points].to_parquet(tmp_path / name, index=False, row_group_size=500)
    contents = []
    for threads in (1, 4):
        monkeypatch.setenv("KOBE_DUCKDB_THREADS", str(threads))
        prepare_locally(tmp_path, tmp_path / str(threads), PreparationParams())
        contents.append([(tmp_path / str(threads) / f"{name}.parquet").read_bytes() for name in TABLES])
    assert contents[0] == contents[1]


def test_a_long_query_prints_no_progress_bar_of_duckdb(tmp_path: Path) -> None:
    with duckdb_engine(tmp_path) as engine:
        assert not engine.connection.raw_sql("SELECT current_setting('enable_progress_bar')").fetchone()[0]


@pytest.mark.parametrize("kind", ["float64", "float32"])
def test_nan_is_null_although_the_statistics_of_a_file_exclude_it(tmp_path: Path, kind: str) -> None:
    values = np.array([1.5, np.nan, np.inf, -np.inf]).astype(kind)
    pq.write_table(pa.table({SHOT_ID: [1, 2, 3, 4], "lat": values}), tmp_path / "shots.parquet")
    with duckdb_engine(tmp_path) as engine:
        known = engine.read(TableReader(tmp_path / "shots.parquet")).drop_null("lat").drop(POSITION)
        assert engine.rows(known) == [
            {SHOT_ID: 1, "lat": 1.5},
            {SHOT_ID: 3, "lat": np.inf},
            {SHOT_ID: 4, "lat": -np.inf},
        ]
