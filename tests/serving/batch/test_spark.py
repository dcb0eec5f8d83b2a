from collections.abc import Iterator
from functools import partial
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.errors import TableError
from data.schema import FEATURES, IN_TRAINING, SHOT_ID, TARGET
from monitor.metrics.binary import StreamingCounts
from monitor.store.labels import is_among
from serving.batch.local import BatchJob, BatchResult, LocalScorer, score_table
from serving.batch.spark import TrainingLabels
from serving.batch.spark import score_table as score_with_spark
from serving.client.endpoint import ScoringError
from serving.model.packaging import with_categories
from tests.serving.batch.test_local import shots
from tests.serving.model import test_kinds as kinds
from tests.spark import needs_java, small_session
from tests.versions import GOOD, LoggedModels

pytestmark = needs_java

VERSION = 3


@pytest.fixture(scope="module", autouse=True)
def uri(logged_models: LoggedModels) -> Iterator[str]:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{logged_models.database}")
    yield logged_models.models[GOOD].uri
    mlflow.set_tracking_uri(before)


def spark(
    uri: str, batch: BatchJob, most_distinct: int = 2**20, in_training: TrainingLabels | None = None
) -> tuple[BatchResult, StreamingCounts]:
    scored, counted = score_with_spark(
        small_session(), batch, uri, VERSION, most_distinct=most_distinct, in_training=in_training
    )
    tally = StreamingCounts()
    tally.add_counted(*counted)
    return scored, tally


def local(uri: str, batch: BatchJob, in_training: pd.DataFrame | None = None) -> tuple[BatchResult, StreamingCounts]:
    tally = StreamingCounts()
    model = mlflow.pyfunc.load_model(uri).unwrap_python_model()
    is_in_training = None if in_training is None else partial(is_among, labels=in_training)
    scorer = LocalScorer(model, VERSION, batch.dataset)
    return score_table(
        batch, scorer, version=VERSION, training_mask_of=lambda _version: is_in_training, count=tally.add
    ), tally


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
    monkeypatch.setattr("monitor.metrics.binary.MAX_DISTINCT", most_distinct)
    wrong = shots().rename(columns={"lng": "lon"}).assign(game_date="2013-10-29")
    wrong.loc[[10, 40, 50], "game_date"] = ["soon", "03/04/2013", None]
    wrong.loc[10, "period"], wrong.loc[20, "lat"], wrong.loc[30, TARGET] = 2.5, np.nan, 3
    table = in_parts(wrong, tmp_path / "shots.parquet")
    ours, its = (BatchJob(table, tmp_path / name, 3) for name in ("local.parquet", "spark.parquet"))
    here, there = local(uri, ours), spark(uri, its, most_distinct)
    assert there[0] == here[0]
    assert there[0].rejected == 3
    assert by_id(its.out).set_index(SHOT_ID)[TARGET].isna()[30]
    pd.testing.assert_frame_equal(by_id(its.out), by_id(ours.out), check_exact=False, rtol=0, atol=1e-9)
    pd.testing.assert_frame_equal(by_id(its.rejects), by_id(ours.rejects))
    assert there[1].evaluate() == pytest.approx(here[1].evaluate(), abs=1e-9)
    assert there[1].rows == here[1].rows


def test_the_real_shots_have_equal_rows_probabilities_and_metrics_on_both_engines(
    tmp_path: Path, uri: str, real_raw: dict[str, pd.DataFrame]
) -> None:
    table = tmp_path / "prod.parquet"
    real_raw["dataset_kobe_prod"].to_parquet(table, index=False)
    ours, its = (BatchJob(table, tmp_path / name) for name in ("local.parquet", "spark.parquet"))
    here, there = local(uri, ours), spark(uri, its)
    assert there[0] == here[0]
    pd.testing.assert_frame_equal(by_id(its.out), by_id(ours.out), check_exact=False, rtol=0, atol=1e-9)
    assert there[1].evaluate() == pytest.approx(here[1].evaluate(), abs=1e-6)


def test_features_of_every_kind_have_equal_rows_probabilities_and_reasons_on_both_engines(tmp_path: Path) -> None:
    dataset = with_categories(kinds.DATASET, kinds.rows(400))
    model = str(kinds.logged_model(tmp_path, dataset))
    table = kinds.rows(60).rename(columns={"day": "date"}).assign(row_id=range(60), note="it's passed through")
    table.loc[1, "clinic"] = "never seen"
    table.loc[2, "date"] = "2024-03-01 10:30"
    wrong = [("ward", "c"), ("ward", None), ("date", "2024-02-30"), ("date", "soon"), ("urgent", 2.0), ("age", np.inf)]
    for row, (name, value) in enumerate(wrong, 10):
        table.loc[row, name] = value
    path = in_parts(table, tmp_path / "visits.parquet")
    names = ("local.parquet", "spark.parquet")
    ours, its = (BatchJob(path, tmp_path / name, len(wrong), dataset=dataset) for name in names)
    here, there = local(model, ours), spark(model, its)
    assert there[0] == here[0]
    assert there[0].rejected == len(wrong)
    made, expected = (pd.read_parquet(job.out).sort_values("row_id", ignore_index=True) for job in (its, ours))
    assert made["note"].unique().tolist() == ["it's passed through"]
    pd.testing.assert_frame_equal(made, expected, check_exact=False, rtol=0, atol=1e-9)
    reasons, of_local = (pd.read_parquet(job.rejects).sort_values("row_id", ignore_index=True) for job in (its, ours))
    pd.testing.assert_frame_equal(reasons, of_local)
    assert reasons["reason"].str.extract(r"column (\w+)")[0].tolist() == [
        name.replace("date", "day") for name, _ in wrong
    ]
    assert there[1].evaluate() == pytest.approx(here[1].evaluate(), abs=1e-9)


def test_rows_that_the_version_was_trained_on_are_marked_and_not_counted(tmp_path: Path, uri: str) -> None:
    table = shots()
    path = in_parts(table, tmp_path / "shots.parquet")
    known = table[table[TARGET].notna()].head(100)
    for name, columns in (("by_id", [SHOT_ID]), ("by_values", [*FEATURES, TARGET])):
        out = tmp_path / f"{name}.parquet"
        scored, tally = spark(uri, BatchJob(path, out), in_training=TrainingLabels(pd.concat([known, known]), columns))
        assert scored.in_training == 100
        assert scored.rows == len(table)
        assert tally.rows == table[TARGET].notna().sum() - 100
        assert by_id(out)[IN_TRAINING].tolist() == table[SHOT_ID].isin(known[SHOT_ID]).tolist()


@pytest.mark.parametrize("rows", [0, 60])
@pytest.mark.parametrize("without", [[], [TARGET]])
def test_the_mark_of_training_rows_is_there_whatever_the_table_holds_as_with_the_local_engine(
    tmp_path: Path, uri: str, rows: int, without: list[str]
) -> None:
    known = shots(60).dropna(subset=TARGET).head(10)
    table = in_parts(shots(rows).drop(columns=without), tmp_path / "shots.parquet")
    ours, its = (BatchJob(table, tmp_path / name) for name in ("local.parquet", "spark.parquet"))
    here, there = local(uri, ours, known), spark(uri, its, in_training=TrainingLabels(known, [SHOT_ID]))
    assert there[0] == here[0]
    assert there[0].versions == (VERSION,)
    assert there[0].in_training == (10 if rows and not without else 0)
    pd.testing.assert_frame_equal(by_id(its.out), by_id(ours.out), check_exact=False, rtol=0, atol=1e-9)
    assert IN_TRAINING in by_id(its.out)


def test_labels_that_are_texts_are_read_as_with_the_local_engine(tmp_path: Path, uri: str) -> None:
    wrong = shots(60).assign(game_id="abc", **{TARGET: ["yes", "nan", "0", "late", None, "1.0"] * 10})
    table = in_parts(wrong, tmp_path / "shots.parquet")
    ours, its = (BatchJob(table, tmp_path / name, 20) for name in ("local.parquet", "spark.parquet"))
    here, there = local(uri, ours), spark(uri, its)
    assert there[0] == here[0]
    assert there[0].rejected == 0
    pd.testing.assert_frame_equal(by_id(its.out), by_id(ours.out), check_exact=False, rtol=0, atol=1e-9)
    assert there[1].rows == here[1].rows == 30


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        ("game_date", ["29.10.2013", "Nov 3, 2000", "2013-02-30", None]),
        ("shot_distance", ["12", "7,5", "far", "1e1"]),
    ],
)
def test_texts_in_other_spellings_are_read_as_with_the_local_engine(
    tmp_path: Path, uri: str, column: str, texts: list[str]
) -> None:
    table = in_parts(shots(60).assign(**{column: texts * 15}), tmp_path / "shots.parquet")
    ours, its = (BatchJob(table, tmp_path / name, 30) for name in ("local.parquet", "spark.parquet"))
    assert spark(uri, its)[0] == local(uri, ours)[0]
    pd.testing.assert_frame_equal(by_id(its.out), by_id(ours.out), check_exact=False, rtol=0, atol=1e-9)
    pd.testing.assert_frame_equal(by_id(its.rejects), by_id(ours.rejects))


def test_one_row_too_many_ends_the_run_and_leaves_the_old_output(tmp_path: Path, uri: str) -> None:
    table = in_parts(shots().assign(period=[11.0] * 12 + [1.0] * 4_988), tmp_path / "shots.parquet")
    (tmp_path / "out.parquet").write_bytes(b"old")
    batch = BatchJob(table, tmp_path / "out.parquet", 11)
    with pytest.raises(ScoringError) as caught:
        spark(uri, batch)
    assert "12 row(s) violate the schema, and 11 may" in str(caught.value)
    with pytest.raises(ScoringError) as here:
        local(uri, batch)
    assert str(here.value).removeprefix("At least ") == str(caught.value)
    assert str(caught.value).count("column period: found 11, expected an integer from 1 to 10") == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet", "shots.parquet"]
    assert (tmp_path / "out.parquet").read_bytes() == b"old"


def test_a_part_that_cannot_be_read_is_named(tmp_path: Path, uri: str) -> None:
    table = in_parts(shots(), tmp_path / "shots.parquet")
    (table / "1.parquet").write_bytes((table / "1.parquet").read_bytes()[:-50])
    with pytest.raises(TableError, match=r"1\.parquet"):
        spark(uri, BatchJob(table, tmp_path / "out.parquet"))
    assert [path.name for path in tmp_path.iterdir()] == ["shots.parquet"]


def test_a_table_without_labels_is_scored_and_nothing_is_counted(tmp_path: Path, uri: str) -> None:
    table = in_parts(shots().drop(columns=TARGET), tmp_path / "shots.parquet")
    scored, tally = spark(uri, BatchJob(table, tmp_path / "out.parquet"))
    assert (scored.rows, tally.rows) == (5_000, 0)


@pytest.fixture
def integers() -> pd.DataFrame:
    table = shots(40).rename(columns={"lon": "lng"})[list(FEATURES)]
    return table.astype({"period": "int64", "minutes_remaining": "int32", "shot_distance": "int64", "playoffs": bool})


UDF_COLUMNS: dict[str, list[str]] = {
    "those of the signature": [],
    "by position": list(FEATURES),
    "a struct": ["struct(lat, lng, minutes_remaining, period, playoffs, shot_distance)"],
    "a struct with lon and others": [
        "struct(team, lng AS lon, lat, minutes_remaining, period, playoffs, shot_distance)"
    ],
}


@pytest.mark.parametrize("way", UDF_COLUMNS)
def test_a_udf_takes_integers_and_booleans(uri: str, integers: pd.DataFrame, way: str) -> None:
    session = small_session()
    predict = mlflow.pyfunc.spark_udf(session, uri, env_manager="local")
    session.udf.register("predict", predict.__wrapped__)
    frame = session.createDataFrame(integers.assign(team="LAL"))
    columns = UDF_COLUMNS[way]
    responses = (
        frame.withColumn("scored", predict())
        if not columns
        else frame.selectExpr(f"predict({', '.join(columns)}) AS scored")
    )
    found = responses.select("scored.*").toPandas()
    expected = mlflow.pyfunc.load_model(uri).predict(integers.astype(float))
    # Spark's few rows are scored by the compiled form, whose linear models add in another order.
    np.testing.assert_allclose(found["probability"], expected["probability"], rtol=0, atol=1e-15)


def test_a_udf_gives_the_form_that_is_requested(uri: str, integers: pd.DataFrame) -> None:
    session = small_session()
    predict = mlflow.pyfunc.spark_udf(session, uri, env_manager="local", result_type="long", params={"output": "label"})
    found = session.createDataFrame(integers).select(predict(*FEATURES).alias("label")).toPandas()["label"]
    expected = mlflow.pyfunc.load_model(uri).predict(integers)["shot_made_flag"]
    np.testing.assert_array_equal(found, expected)
