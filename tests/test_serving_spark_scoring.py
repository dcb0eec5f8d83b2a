from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.schema import FEATURES, LEARNED, SHOT_ID, TARGET
from data.tables import TableError
from monitor.metrics import TallyBuilder
from serving.batch import Batch, InProcess, Scored, score_table
from serving.endpoint import ScoringError
from serving.spark_scoring import Learned
from serving.spark_scoring import score_table as score_with_spark
from tests.spark import needs_java, small_session
from tests.test_serving_batch import shots
from tests.versions import GOOD, Stock

# PySpark leaves the sockets of what it collects to the garbage collector.
pytestmark = [
    needs_java,
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

VERSION = 3


@pytest.fixture(scope="module", autouse=True)
def uri(stock: Stock) -> Iterator[str]:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{stock.database}")
    yield stock.models[GOOD].uri
    mlflow.set_tracking_uri(before)


def spark(
    uri: str, batch: Batch, most_distinct: int = 2**20, learned: Learned | None = None
) -> tuple[Scored, TallyBuilder]:
    scored, counted = score_with_spark(
        small_session(), batch, uri, VERSION, most_distinct=most_distinct, learned=learned
    )
    tally = TallyBuilder()
    tally.add_counted(*counted)
    return scored, tally


def local(uri: str, batch: Batch) -> tuple[Scored, TallyBuilder]:
    tally = TallyBuilder()
    model = mlflow.pyfunc.load_model(uri).unwrap_python_model()
    return score_table(batch, InProcess(model, VERSION), count=tally.add), tally


def in_parts(table: pd.DataFrame, folder: Path) -> Path:
    folder.mkdir()
    for number in range(3):
        part = pa.Table.from_pandas(table.iloc[number::3], preserve_index=False).replace_schema_metadata()
        pq.write_table(part, folder / f"{number}.parquet")
    return folder


def by_id(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path).sort_values(SHOT_ID, ignore_index=True)


@pytest.mark.parametrize("most_distinct", [2**20, 10])
def test_spark_gives_the_rows_the_columns_and_the_metrics_of_the_local_engine(
    tmp_path: Path, uri: str, most_distinct: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.metrics.MOST_DISTINCT", most_distinct)
    wrong = shots().rename(columns={"lng": "lon"})
    wrong.loc[10, "period"], wrong.loc[20, "lat"], wrong.loc[30, TARGET] = 2.5, np.nan, 3
    table = in_parts(wrong, tmp_path / "shots.parquet")
    ours, its = (Batch(table, tmp_path / name, 3) for name in ("local.parquet", "spark.parquet"))
    here, there = local(uri, ours), spark(uri, its, most_distinct)
    assert there[0] == here[0]
    assert there[0].rejected == 3
    pd.testing.assert_frame_equal(by_id(its.out), by_id(ours.out), check_exact=False, rtol=0, atol=1e-9)
    pd.testing.assert_frame_equal(by_id(its.rejects), by_id(ours.rejects))
    assert there[1].evaluate() == pytest.approx(here[1].evaluate(), abs=1e-9)
    assert there[1].rows == here[1].rows


def test_rows_that_the_version_has_learned_from_are_marked_and_not_counted(tmp_path: Path, uri: str) -> None:
    table = shots()
    path = in_parts(table, tmp_path / "shots.parquet")
    known = table[table[TARGET].notna()].head(100)
    for name, columns in (("by_id", [SHOT_ID]), ("by_values", [*FEATURES, TARGET])):
        out = tmp_path / f"{name}.parquet"
        scored, tally = spark(uri, Batch(path, out), learned=Learned(pd.concat([known, known]), columns))
        assert scored.learned == 100
        assert scored.rows == len(table)
        assert tally.rows == table[TARGET].notna().sum() - 100
        assert by_id(out)[LEARNED].tolist() == table[SHOT_ID].isin(known[SHOT_ID]).tolist()


def test_one_row_too_many_ends_the_run_and_leaves_the_old_output(tmp_path: Path, uri: str) -> None:
    table = in_parts(shots().assign(period=[11.0] * 12 + [1.0] * 4_988), tmp_path / "shots.parquet")
    (tmp_path / "out.parquet").write_bytes(b"old")
    with pytest.raises(ScoringError) as caught:
        spark(uri, Batch(table, tmp_path / "out.parquet", 11))
    assert "12 row(s) break the schema, and 11 may" in str(caught.value)
    assert "shot_id" in str(caught.value)
    assert str(caught.value).count("column period: found 11, expected a whole number from 1 to 10") == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet", "shots.parquet"]
    assert (tmp_path / "out.parquet").read_bytes() == b"old"


def test_a_part_that_cannot_be_read_is_named(tmp_path: Path, uri: str) -> None:
    table = in_parts(shots(), tmp_path / "shots.parquet")
    (table / "1.parquet").write_bytes((table / "1.parquet").read_bytes()[:-50])
    with pytest.raises(TableError, match=r"1\.parquet"):
        spark(uri, Batch(table, tmp_path / "out.parquet"))
    assert [path.name for path in tmp_path.iterdir()] == ["shots.parquet"]


def test_a_table_without_labels_is_scored_and_nothing_is_counted(tmp_path: Path, uri: str) -> None:
    table = in_parts(shots().drop(columns=TARGET), tmp_path / "shots.parquet")
    scored, tally = spark(uri, Batch(table, tmp_path / "out.parquet"))
    assert (scored.rows, tally.rows) == (5_000, 0)
