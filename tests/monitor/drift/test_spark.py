"""The sketch of Spark is that of this process, for any partitions."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.datasets import default
from data.errors import TableError
from data.schema import FEATURES, PROBABILITY, SHOT_ID
from monitor.drift import spark as spark_sketches
from monitor.drift.detector import DriftDetector
from monitor.drift.sketches import Sketcher, TableSketch
from monitor.drift.training_support import Support
from monitor.scored_tables import pieces
from tests.evaluations import population, reference_data
from tests.orders import DATASET, orders
from tests.spark import needs_java, small_session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


pytestmark = needs_java


@pytest.fixture(scope="module")
def spark() -> "SparkSession":
    return small_session()


@pytest.fixture(scope="module")
def reference() -> DriftDetector:
    return DriftDetector(
        reference_data().table, reference_data().support.out_of_support(reference_data().table), default(), samples=100
    )


@pytest.fixture(scope="module")
def sketcher(reference: DriftDetector) -> Sketcher:
    return Sketcher(reference.encoding, reference.bins, reference_data().support)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Rows with more distinct probabilities than a sketch counts one by one. Some rows are out of support."""
    stream = np.random.default_rng(0)
    rows = population().sample(90_000, replace=True, random_state=0, ignore_index=True)
    rows.loc[rows.index % 100 == 7, "lat"] = 33.2
    return rows.assign(**{PROBABILITY: stream.beta(8, 9, 90_000), SHOT_ID: stream.permutation(90_000)})


def write(table: pd.DataFrame, folder: Path, ends: tuple[int, ...]) -> Path:
    folder.mkdir()
    for first, last in zip((0, *ends), (*ends, len(table)), strict=True):
        table.iloc[first:last].to_parquet(folder / f"part-{first:06d}.parquet", index=False)
    return folder


def check_same(one: TableSketch, other: TableSketch) -> None:
    assert (one.rows, one.out_of_support) == (other.rows, other.out_of_support)
    for name, counted in one.columns.items():
        assert counted.is_binned == other.columns[name].is_binned
        np.testing.assert_array_equal(counted.rows, other.columns[name].rows)
        np.testing.assert_allclose(counted.values, other.columns[name].values, rtol=1e-13)
    np.testing.assert_array_equal(one.sample.hashes, other.sample.hashes)
    np.testing.assert_array_equal(one.sample.features, other.sample.features)


@pytest.mark.parametrize("ends", [(), (10, 30_000, 61_234)], ids=["one part", "four parts"])
def test_sketches_and_drift_of_both_engines_are_the_same(
    sketcher: Sketcher, reference: DriftDetector, table: pd.DataFrame, tmp_path: Path, ends: tuple[int, ...]
) -> None:
    spark = small_session()
    path = write(table, tmp_path / "parts of a table", ends)
    here, there = sketcher.sketch_all(pieces(path, default())), spark_sketches.sketch(spark, path, sketcher)
    assert here.columns[PROBABILITY].is_binned
    assert not here.columns["lat"].is_binned
    check_same(there, here)
    one, other = reference.compare_sketch(here), reference.compare_sketch(there)
    assert [each.value for each in one.statistics] == pytest.approx([each.value for each in other.statistics], abs=1e-9)
    assert [each.drifted for each in one.statistics] == [each.drifted for each in other.statistics]
    assert one.classifier is not None
    assert other.classifier is not None
    assert one.classifier.auc == other.classifier.auc
    whole = reference.compare(table, reference_data().support.out_of_support(table))
    assert [each.value for each in one.statistics] == pytest.approx([each.value for each in whole.statistics], abs=1e-7)


def test_rows_without_a_shot_id_are_identified_by_their_position_in_the_parts(
    spark: "SparkSession", sketcher: Sketcher, table: pd.DataFrame, tmp_path: Path
) -> None:
    path = write(table.drop(columns=SHOT_ID).head(20_000), tmp_path / "parts", (4_000, 4_001))
    check_same(spark_sketches.sketch(spark, path, sketcher), sketcher.sketch_all(pieces(path, default())))


def test_columns_of_other_types_and_names_have_the_same_sketch(
    spark: "SparkSession", sketcher: Sketcher, table: pd.DataFrame, tmp_path: Path
) -> None:
    few = table.head(3_000).rename(columns={"lng": "lon"})
    folder = write(few.head(1_000), tmp_path / "parts", ())
    other = pa.Table.from_pandas(few.tail(2_000), preserve_index=False)
    for name, kind in {"period": pa.int32(), "playoffs": pa.int64(), SHOT_ID: pa.int32()}.items():
        place = other.schema.get_field_index(name)
        other = other.set_column(place, name, other.column(name).cast(kind))
    pq.write_table(other, folder / "part-1.parquet")
    check_same(spark_sketches.sketch(spark, folder, sketcher), sketcher.sketch_all(pieces(folder, default())))


def test_a_table_that_spark_does_not_read_is_converted_and_the_copy_removed(
    spark: "SparkSession", sketcher: Sketcher, table: pd.DataFrame, tmp_path: Path
) -> None:
    few, path, folder = table.head(2_000), tmp_path / "scored.csv", tmp_path / "copies"
    few.rename(columns={"shot_distance": "Shot Distance", "lng": "longitude"}).to_csv(path, sep=";", index=False)
    check_same(spark_sketches.sketch(spark, path, sketcher, folder=folder), sketcher.sketch(few))
    assert not list(folder.iterdir())


def test_a_table_in_memory_has_the_sketch_of_one_on_disk(
    spark: "SparkSession", sketcher: Sketcher, table: pd.DataFrame
) -> None:
    few = table.head(2_000)[[*FEATURES, PROBABILITY, SHOT_ID]]
    check_same(spark_sketches.sketch_frame(spark.createDataFrame(few), sketcher, Path("mine")), sketcher.sketch(few))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"period": np.nan}, "expected a number in each of .*; 1 rows have a missing value"),
        ({"lat": 10.0}, "expected a float from 33.1568 to 34.0968 in lat; found 10"),
        ({PROBABILITY: 1.5}, r"expected P\(made\) from 0 to 1 in probability; found 1\.5"),
    ],
)
def test_both_engines_report_an_invalid_row_with_the_same_message(
    sketcher: Sketcher, table: pd.DataFrame, tmp_path: Path, changes: dict[str, float], message: str
) -> None:
    spark = small_session()
    wrong = table.head(500).copy()
    wrong.loc[321, list(changes)] = list(changes.values())
    path = write(wrong, tmp_path / "parts", (200,))
    with pytest.raises(TableError, match=f"parts: {message}"):
        spark_sketches.sketch(spark, path, sketcher)
    with pytest.raises(TableError, match=f"parts: {message}"):
        sketcher.sketch_all(pieces(path, default()))


def test_tables_without_rows_predictions_or_columns_are_an_error(
    spark: "SparkSession", sketcher: Sketcher, table: pd.DataFrame, tmp_path: Path
) -> None:
    cases = {
        "empty": (table.head(0), "expected rows with the columns lat"),
        "narrow": (table.head(9)[["lat", PROBABILITY]], "expected rows with the columns lat.*found 9 with lat"),
        "without predictions": (table.head(9).drop(columns=PROBABILITY), "missing probability"),
    }
    for name, (rows, message) in cases.items():
        with pytest.raises(TableError, match=message):
            spark_sketches.sketch(spark, write(rows, tmp_path / name, ()), sketcher)
    with pytest.raises(TableError, match="expected a Parquet or CSV file, or a folder of Parquet files; found nothing"):
        spark_sketches.sketch(spark, tmp_path / "absent.parquet", sketcher)


def test_real_shots_have_the_same_drift_on_both_engines(
    spark: "SparkSession", real_raw: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    dev, prod = (
        real_raw[f"dataset_kobe_{name}"].rename(columns={"lon": "lng"}).dropna(subset=list(FEATURES))
        for name in ("dev", "prod")
    )
    scored = [
        rows[[*FEATURES, SHOT_ID]].assign(**{PROBABILITY: 1 / (1 + np.exp(0.1 + 0.03 * rows["shot_distance"]))})
        for rows in (dev.head(4_000), prod)
    ]
    support = Support.of(dev.tail(16_000), default())
    reference = DriftDetector(scored[0], support.out_of_support(scored[0]), default(), samples=50)
    path = tmp_path / "prod.parquet"
    scored[1].to_parquet(path, index=False)
    whole = reference.compare(scored[1], support.out_of_support(scored[1]))
    there = reference.compare_sketch(
        spark_sketches.sketch(spark, path, Sketcher(reference.encoding, reference.bins, support))
    )
    assert (there.rows, there.out_of_support_rate) == (whole.rows, whole.out_of_support_rate)
    for one, other in zip(whole.statistics, there.statistics, strict=True):
        assert one.value == pytest.approx(other.value, abs=1e-9)
        assert (one.threshold, one.drifted) == (other.threshold, other.drifted)
    assert there.mean_difference == pytest.approx(whole.mean_difference, abs=1e-9)


def test_columns_of_any_kind_and_groups_have_the_same_drift_on_both_engines(
    spark: "SparkSession", tmp_path: Path
) -> None:
    support = Support.of(orders(2_000, seed=1), DATASET)
    rows = orders(1_000, seed=2, per_customer=5)
    reference = DriftDetector(rows, support.out_of_support(rows), DATASET, known=support.categories, samples=50)
    current = orders(900, seed=3, per_customer=9)
    current.loc[::30, "channel"] = "app"
    sketcher = Sketcher(reference.encoding, reference.bins, support)
    there = reference.compare_sketch(
        spark_sketches.sketch(spark, write(current, tmp_path / "parts", (100, 420)), sketcher)
    )
    here = reference.compare_sketch(sketcher.sketch_all([current]))
    assert there.statistics == here.statistics
    assert (there.nulls, there.unseen, there.groups) == (here.nulls, here.unseen, 100)
    assert {each.feature: each.categories for each in there.unseen}["channel"] == {"app": 30}
    assert there.classifier is not None
    assert here.classifier is not None
    assert there.classifier.auc == pytest.approx(here.classifier.auc)
