from pathlib import Path

import ibis
import pandas as pd
import pytest

from data.acquisition.raw_tables import FILES
from data.engines.choice import check_engine, check_name, open_engine
from data.engines.duckdb import DuckDBEngine
from data.engines.ibis_backend import IbisEngine
from data.errors import EngineError
from data.preparation.contract import PreparationParams
from data.preparation.manifest import IDS, TABLES
from data.preparation.prepare import prepare
from data.schema import SHOT_ID, THREE_POINTS, TWO_POINTS
from tests.raw import prepare_locally


@pytest.mark.parametrize("name", ["local", "spark", "duckdb://", "databricks://host/path", "bigquery://project/data"])
def test_an_engine_is_known_by_its_name(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "duckdb", "nothing://host", "https://host"])
def test_an_unknown_engine_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match=r"expected local, spark, or a URL .*bigquery.*snowflake.*; found"):
        check_name(name)


def test_a_url_with_a_password_is_refused_without_repeating_it() -> None:
    with pytest.raises(ValueError, match="without a password") as caught:
        check_name("postgres://me:hunter2@host/shots")
    assert "hunter2" not in str(caught.value)


def test_a_missing_driver_is_reported_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        def __getattr__(self, name: str) -> object:
            raise ImportError(name)

    monkeypatch.setattr("data.engines.choice.ibis", Missing())
    with pytest.raises(EngineError, match=r"pip install 'ibis-framework\[trino\]==[\d.]+'"):
        check_engine("trino://host/shots")


def test_a_driver_that_a_backend_imports_when_it_connects_is_reported_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(_: str) -> object:
        raise ModuleNotFoundError("No module named 'driver'")  # noqa: EM101, TRY003 as Python words it

    monkeypatch.setattr("data.engines.choice.ibis.connect", connect)
    words = r"pip install 'ibis-framework\[duckdb\]==[\d.]+'"
    with pytest.raises(EngineError, match=words), open_engine("duckdb://", "", tmp_path):
        pass


def test_the_url_of_a_spark_master_is_refused_with_the_parameter_it_belongs_to() -> None:
    with pytest.raises(ValueError, match="Use engine=spark, master=spark://host:7077"):
        check_name("spark://host:7077")


def test_a_url_that_does_not_connect_is_reported(tmp_path: Path) -> None:
    url = f"duckdb://{tmp_path}/no/such/file.duckdb"
    with pytest.raises(EngineError, match=r"engine=duckdb://.* does not connect"), open_engine(url, "", tmp_path):
        pass


def test_any_backend_prepares_the_tables_of_the_local_engine(
    shots: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, points in zip(FILES, (TWO_POINTS, THREE_POINTS), strict=True):
        shots[shots["shot_type"] == points].sort_values(SHOT_ID).to_parquet(tmp_path / name, index=False)
    expected = prepare_locally(tmp_path, tmp_path / "local", PreparationParams())
    with open_engine("duckdb://", "", tmp_path) as engine:
        assert prepare(engine, tmp_path, tmp_path / "url", PreparationParams()) == expected
    # Ibis calls DuckDB by a name for batches that it no longer has.
    monkeypatch.setattr(IbisEngine, "batches", DuckDBEngine.batches)
    assert prepare(IbisEngine(ibis.duckdb.connect()), tmp_path, tmp_path / "backend", PreparationParams()) == expected
    for name in (*TABLES, *IDS.values()):
        tables = [pd.read_parquet(tmp_path / folder / f"{name}.parquet") for folder in ("local", "url", "backend")]
        for table in tables[1:]:
            pd.testing.assert_frame_equal(table, tables[0])
