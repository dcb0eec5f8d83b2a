import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.acquisition.raw_tables import DEV_FILE, PROD_FILE
from data.engines import spark as spark_engine
from data.engines.hashing import hashed
from data.engines.spark import SparkEngine
from data.errors import EngineError, SchemaError, SourceError, TableError
from data.preparation import prepare as preparation
from data.preparation import split
from data.preparation.contract import PreparationParams, PreparationResult
from data.preparation.manifest import FILTERED, IDS, PROD, TEST, TRAIN
from data.schema import FEATURES, SHOT_ID, TARGET, THREE_POINTS, TWO_POINTS
from data.spark import tables as spark_tables
from data.spark.session import SparkError, collect_rows
from data.spark.tables import read, write
from data.storage.files import parquet_files
from data.storage.tables import TableReader
from tests.raw import assert_same, prepare_locally
from tests.spark import needs_java, small_session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = needs_java

Change = Callable[[pd.DataFrame], None]

TABLES = (FILTERED, TRAIN, TEST, PROD)
PLAN = PreparationParams(test_size=0.3, seed=7)


@pytest.fixture
def spark() -> "SparkSession":
    return small_session()


@pytest.fixture(scope="session")
def pair(shots: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Both raw tables, with missing values."""
    table = shots.copy()
    table.loc[table.index % 97 == 0, "lat"] = np.nan
    table.loc[table.index % 89 == 0, ["lat", "shot_distance"]] = np.nan
    table.loc[table.index % 5 == 0, TARGET] = np.nan
    return {
        file: table[table["shot_type"] == points].reset_index(drop=True)
        for file, points in ((DEV_FILE, TWO_POINTS), (PROD_FILE, THREE_POINTS))
    }


@pytest.fixture
def raw(tmp_path: Path, pair: dict[str, pd.DataFrame]) -> Path:
    return written(pair, tmp_path / "raw")


def written(tables: dict[str, pd.DataFrame], folder: Path) -> Path:
    folder.mkdir()
    for file, table in tables.items():
        table.to_parquet(folder / file, index=False)
    return folder


@pytest.fixture(scope="module")
def prepared_once(
    tmp_path_factory: pytest.TempPathFactory, pair: dict[str, pd.DataFrame]
) -> tuple[PreparationResult, Path]:
    """The preparation of the raw tables on Spark, and its read-only folder."""
    folder = tmp_path_factory.mktemp("made")
    out = folder / "out"
    return prepare(small_session(), written(pair, folder / "raw"), out, PLAN), out


def rewrite(raw: Path, file: str, change: Change) -> None:
    """Apply a change to a raw table."""
    table = pd.read_parquet(raw / file)
    change(table)
    table.to_parquet(raw / file, index=False)


def prepare(session: "SparkSession", raw: Path, out: Path, plan: PreparationParams) -> PreparationResult:
    """Prepare on Spark."""
    return preparation.prepare(SparkEngine(session), raw, out, plan)


def sorted_rows(path: Path) -> pd.DataFrame:
    table = pd.read_parquet(path)
    return table.sort_values(list(table.columns), ignore_index=True)


def files_in(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir()) if out.exists() else []


def test_the_rows_their_order_and_the_counts_of_every_table_match_the_local_engine(
    prepared_once: tuple[PreparationResult, Path], raw: Path, tmp_path: Path
) -> None:
    prepared, out = prepared_once
    local = tmp_path / "local"
    assert prepared == prepare_locally(raw, local, PLAN)
    assert prepared.dropped["dropped_dev_missing_shot_distance"] > 0
    assert prepared.dropped["dropped_prod_rows"] > 0
    for name in (*TABLES, *IDS.values()):
        ours, theirs = (pd.read_parquet(folder / f"{name}.parquet") for folder in (out, local))
        assert_same(ours, theirs)
    for name in TABLES:
        assert len(pd.read_parquet(out / f"{name}.parquet")) == prepared.rows[name]


def test_the_real_rows_match_the_local_engine(
    spark: "SparkSession", real_raw: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    raw = written({f"{name}.parquet": table for name, table in real_raw.items()}, tmp_path / "raw")
    plan = PreparationParams()
    prepared = prepare(spark, raw, tmp_path / "out", plan)
    assert prepared == prepare_locally(raw, tmp_path / "local", plan)
    for name in (*TABLES, *IDS.values()):
        ours, theirs = (pd.read_parquet(tmp_path / folder / f"{name}.parquet") for folder in ("out", "local"))
        assert_same(ours, theirs)
    classes = {0: 20_285 - prepared.made[FILTERED], 1: prepared.made[FILTERED]}
    tested = split.test_rows_per_class(classes, plan.test_size, plan.seed)
    assert (prepared.rows[TEST], prepared.made[TEST]) == (sum(tested.values()), tested[1])
    assert prepared.rows == {FILTERED: 20_285, TRAIN: 16_228, TEST: 4_057, PROD: 6_426}


def test_the_test_rows_have_the_smallest_hashes_of_their_class(
    prepared_once: tuple[PreparationResult, Path], pair: dict[str, pd.DataFrame]
) -> None:
    rows = pair[DEV_FILE].rename(columns={"lon": "lng"}).dropna(subset=[*FEATURES, TARGET])
    rows = rows.assign(hash=hashed(rows[SHOT_ID].to_numpy(), PLAN.seed)).sort_values("hash")
    sizes = split.test_rows_per_class(rows[TARGET].astype(int).value_counts().to_dict(), PLAN.test_size, PLAN.seed)
    expected = pd.concat([rows[rows[TARGET] == flag].head(size) for flag, size in sizes.items()])
    expected = expected[[*FEATURES, TARGET]].astype(float).sort_values([*FEATURES, TARGET], ignore_index=True)
    found = sorted_rows(prepared_once[1] / f"{TEST}.parquet").astype(float)
    assert_same(found, expected)


def test_the_split_depends_only_on_the_seed(
    spark: "SparkSession",
    prepared_once: tuple[PreparationResult, Path],
    raw: Path,
    pair: dict[str, pd.DataFrame],
    tmp_path: Path,
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file, table in pair.items():
        (other / file).mkdir()
        mixed = table.sample(frac=1, random_state=5)
        for number in range(7):
            mixed.iloc[number::7].to_parquet(other / file / f"part-{number}.parquet", index=False)
    prepare(spark, other, tmp_path / "other_out", PLAN)
    prepare(spark, raw, tmp_path / "seed_out", replace(PLAN, seed=8))
    outs = (prepared_once[1], tmp_path / "other_out", tmp_path / "seed_out")
    first, same, differs = (sorted_rows(out / f"{TEST}.parquet") for out in outs)
    assert_same(first, same)
    assert len(first) == len(differs)
    assert not first.equals(differs)


def test_tables_have_plain_types_and_contain_only_parts(prepared_once: tuple[PreparationResult, Path]) -> None:
    out = prepared_once[1]
    assert files_in(out) == sorted(f"{name}.parquet" for name in (*TABLES, *IDS.values()))
    for name in TABLES:
        folder = out / f"{name}.parquet"
        assert sorted(folder.iterdir()) == parquet_files(folder)
        schema = TableReader(folder).schema
        texts = {"game_date": pa.string()}
        whole = {SHOT_ID: pa.int64()} | ({} if name == PROD else {TARGET: pa.int64()})
        assert {field.name: field.type for field in schema} == {
            column: (texts | whole).get(column, pa.float64()) for column in schema.names
        }


def test_rejects_have_the_reasons_of_the_local_engine(spark: "SparkSession", raw: Path, tmp_path: Path) -> None:
    def break_dev(table: pd.DataFrame) -> None:
        table["period"] = table["period"].astype(float)
        table["loc_x"] = table["loc_x"].astype(float)
        table["minutes_remaining"] = table["minutes_remaining"].astype(float)
        table["game_id"] = table["game_id"].astype(float)
        table["shot_id"] = table["shot_id"].astype(float)
        table["seconds_remaining"] = table["seconds_remaining"].astype(str)
        table["mine"] = np.arange(len(table))
        for row, (column, value) in enumerate(
            [
                ("lat", 33.1567),
                ("lat", 0.1 + 0.2),
                ("lat", -0.0),
                ("lat", np.inf),
                ("lat", 1e300),
                ("lat", 1.23456789012e-7),
                ("lat", 12_345_678_901.5),
                ("lat", 1e10),
                ("lat", 1_234_567_890.0),
                ("lat", 0.0001),
                ("lon", -np.inf),
                ("minutes_remaining", 12.000001),
                ("minutes_remaining", -1.0),
                ("period", 11.0),
                ("period", 2.5),
                ("loc_x", -251.0),
                ("game_id", 20_000_012.25),
                ("game_id", np.inf),
                ("playoffs", 2),
                ("shot_distance", 95),
                ("shot_made_flag", 0.5),
                ("shot_made_flag", -1.0),
                ("shot_type", "4PT Field Goal"),
                ("shot_type", "it's"),
                ("shot_type", ""),
                ("shot_id", np.nan),
                ("shot_id", 1.5),
                ("seconds_remaining", "60"),
                ("seconds_remaining", "soon"),
                ("seconds_remaining", "1d"),
                ("seconds_remaining", ""),
                ("seconds_remaining", "-1"),
                ("seconds_remaining", "5.5"),
            ]
        ):
            table[column] = table[column].where(table.index != row * 3, value)
        # Of two violations the first is the reason; missing values and other number formats are valid.
        table.loc[200, ["shot_type", "lat"]] = ["4PT Field Goal", 1.0]
        table.loc[201, ["season", "shot_type"]] = None
        table.loc[202, "seconds_remaining"] = "5.0"
        table.loc[203, "seconds_remaining"] = "1e1"

    def break_prod(table: pd.DataFrame) -> None:
        table.loc[17, "lon"] = 118.2

    rewrite(raw, DEV_FILE, break_dev)
    rewrite(raw, PROD_FILE, break_prod)
    plan = replace(PLAN, max_rejected_rows=100)
    prepared = prepare(spark, raw, tmp_path / "out", plan)
    assert prepared == prepare_locally(raw, tmp_path / "local", plan)
    assert prepared.rejected == {DEV_FILE: 34, PROD_FILE: 1}
    for name in ("rejects_dev", "rejects_prod"):
        ours, theirs = (pd.read_parquet(tmp_path / folder / f"{name}.parquet") for folder in ("out", "local"))
        assert_same(ours, theirs)
    for name in TABLES:
        ours, theirs = (pd.read_parquet(tmp_path / folder / f"{name}.parquet") for folder in ("out", "local"))
        assert_same(ours, theirs)


def test_too_many_rejects_raise_with_the_first_reasons(spark: "SparkSession", raw: Path, tmp_path: Path) -> None:
    def break_some(table: pd.DataFrame) -> None:
        table.loc[20:31, "period"] = 11

    rewrite(raw, DEV_FILE, break_some)
    with pytest.raises(SchemaError) as caught:
        prepare(spark, raw, tmp_path / "out", PLAN)
    head, *lines = str(caught.value).splitlines()
    assert head == f"{DEV_FILE} violates the schema in 12 row(s). Fix or remove them:"
    assert lines == [
        *[f"  row {row}, column period: found 11, expected an integer from 1 to 10" for row in range(20, 30)],
        "  and 2 more",
    ]
    assert files_in(tmp_path / "out") == []


def test_max_rejected_rows_applies_to_both_tables_and_the_message_names_it(
    spark: "SparkSession", raw: Path, tmp_path: Path
) -> None:
    def break_two(table: pd.DataFrame) -> None:
        table.loc[:1, "period"] = 0

    for file in (DEV_FILE, PROD_FILE):
        rewrite(raw, file, break_two)
    with pytest.raises(SchemaError, match=r"more than max_rejected_rows=3 allows in both raw tables.*higher") as caught:
        prepare(spark, raw, tmp_path / "out", replace(PLAN, max_rejected_rows=3))
    assert f"{DEV_FILE} and {PROD_FILE} violate the schema in 4 row(s)" in str(caught.value)
    assert files_in(tmp_path / "out") == []
    assert prepare(spark, raw, tmp_path / "out", replace(PLAN, max_rejected_rows=4)).rejected == {
        DEV_FILE: 2,
        PROD_FILE: 2,
    }
    assert {"rejects_dev.parquet", "rejects_prod.parquet"} <= set(files_in(tmp_path / "out"))


def test_the_rejects_of_a_previous_preparation_are_removed(spark: "SparkSession", raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "rejects_dev.parquet").write_bytes(b"old")
    prepare(spark, raw, out, PLAN)
    assert files_in(out) == sorted(f"{name}.parquet" for name in (*TABLES, *IDS.values()))


def test_a_duplicate_shot_is_rejected(spark: "SparkSession", raw: Path, tmp_path: Path) -> None:
    def double(table: pd.DataFrame) -> None:
        table.loc[1:3, SHOT_ID] = table.loc[0, SHOT_ID]

    first = int(pd.read_parquet(raw / PROD_FILE)[SHOT_ID].iloc[0])
    rewrite(raw, PROD_FILE, double)
    with pytest.raises(SchemaError, match=f"^{PROD_FILE}: 1 shot_id found twice or more, such as {first}; expected"):
        prepare(spark, raw, tmp_path / "out", PLAN)
    assert files_in(tmp_path / "out") == []


def test_a_shot_in_both_tables_is_rejected(
    spark: "SparkSession", raw: Path, pair: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    ids = pair[DEV_FILE][SHOT_ID].iloc[:7].to_list()

    def share(table: pd.DataFrame) -> None:
        table.loc[:6, SHOT_ID] = ids

    rewrite(raw, PROD_FILE, share)
    with pytest.raises(SourceError) as caught:
        prepare(spark, raw, tmp_path / "out", PLAN)
    examples = ", ".join(map(str, sorted(ids)[:5]))
    assert f"{DEV_FILE} and {PROD_FILE} share 7 shot_id (such as {examples}); expected none" in str(caught.value)


def test_parts_with_other_types_and_names_are_one_table(
    spark: "SparkSession", prepared_once: tuple[PreparationResult, Path], pair: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    table = pair[DEV_FILE]
    folder = tmp_path / "other" / DEV_FILE
    folder.mkdir(parents=True)
    pair[PROD_FILE].rename(columns={"lon": "lng"}).drop(columns="game_date").to_parquet(tmp_path / "other" / PROD_FILE)
    narrow = table.iloc[:1000].astype({"period": "int8", SHOT_ID: "int32", "season": "category"})
    narrow.to_parquet(folder / "1.parquet", index=False)
    middle = table.iloc[1000:2000].astype({"period": "float64", "playoffs": "int32"}).drop(columns=["team_name"])
    middle[list(reversed(middle.columns))].to_parquet(folder / "2 [b]%20.parquet", index=False)
    table.iloc[2000:].assign(extra="x", empty=None).to_parquet(folder / "3.parquet")
    prepare(spark, tmp_path / "other", tmp_path / "other_out", PLAN)
    for name in (TRAIN, TEST):
        pd.testing.assert_frame_equal(
            sorted_rows(prepared_once[1] / f"{name}.parquet"), sorted_rows(tmp_path / "other_out" / f"{name}.parquet")
        )
    expected = pd.read_parquet(prepared_once[1] / f"{PROD}.parquet").drop(columns="game_date")
    pd.testing.assert_frame_equal(
        sorted_rows(tmp_path / "other_out" / f"{PROD}.parquet"),
        expected.sort_values(list(expected.columns), ignore_index=True),
    )


def test_a_part_that_cannot_be_read_is_named(
    spark: "SparkSession", pair: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    (raw / DEV_FILE).mkdir(parents=True)
    pair[PROD_FILE].to_parquet(raw / PROD_FILE)
    pair[DEV_FILE].to_parquet(raw / DEV_FILE / "1.parquet")
    (raw / DEV_FILE / "2.parquet").write_bytes((raw / DEV_FILE / "1.parquet").read_bytes()[:5_000])
    with pytest.raises(SourceError, match=r"2\.parquet: expected a complete parquet table; it cannot be read"):
        prepare(spark, raw, tmp_path / "out", PLAN)
    with pytest.raises(TableError, match=r"2\.parquet: expected a complete parquet table; it cannot be read"):
        read(spark, raw / DEV_FILE)


def test_a_missing_column_and_an_empty_table_raise(spark: "SparkSession", raw: Path, tmp_path: Path) -> None:
    pd.read_parquet(raw / PROD_FILE).head(0).to_parquet(raw / PROD_FILE)
    with pytest.raises(SourceError, match=f"{PROD_FILE} holds no rows; expected shots"):
        prepare(spark, raw, tmp_path / "out", PLAN)
    pd.read_parquet(raw / DEV_FILE).drop(columns=["period", "lat"]).to_parquet(raw / DEV_FILE)
    with pytest.raises(SchemaError, match=f"{DEV_FILE}: columns lat, period missing. Expected at least"):
        prepare(spark, raw, tmp_path / "out", PLAN)


def test_a_table_without_both_classes_is_not_split(spark: "SparkSession", raw: Path, tmp_path: Path) -> None:
    def miss_all(table: pd.DataFrame) -> None:
        table[TARGET] = 0

    rewrite(raw, DEV_FILE, miss_all)
    with pytest.raises(SchemaError, match=r" 0 .*made: too few to split with test_size 0\.3"):
        prepare(spark, raw, tmp_path / "out", PLAN)
    assert files_in(tmp_path / "out") == []


def test_a_part_that_fails_during_the_job_leaves_the_old_tables(
    spark: "SparkSession", prepared_once: tuple[PreparationResult, Path], raw: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(prepared_once[1], tmp_path / "out")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    whole = (raw / PROD_FILE).read_bytes()
    # The footer, at the end of the file, is unchanged.
    (raw / PROD_FILE).write_bytes(whole[:4] + bytes(len(whole) // 2) + whole[4 + len(whole) // 2 :])
    with pytest.raises(SparkError, match=r"^Spark job failed: "):
        prepare(spark, raw, out, PLAN)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_failed_write_after_others_leaves_the_old_tables(
    spark: "SparkSession",
    prepared_once: tuple[PreparationResult, Path],
    raw: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = shutil.copytree(prepared_once[1], tmp_path / "out")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    write_into = spark_tables.write_into
    monkeypatch.setattr(
        spark_engine,
        "write_into",
        lambda frame, folder: write_into(
            frame.selectExpr("raise_error('full')") if PROD in folder.name else frame, folder
        ),
    )
    with pytest.raises(SparkError, match="full"):
        prepare(spark, raw, out, replace(PLAN, seed=8))
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_raw_files_that_change_during_the_run_raise(
    spark: "SparkSession", raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_into = spark_tables.write_into
    monkeypatch.setattr(spark_engine, "write_into", lambda frame, folder: write_into(frame.limit(5), folder))
    with pytest.raises(
        EngineError,
        match=r"data_filtered has 5 rows; expected [\d,]+, .*changed during the run\. Run the command again",
    ):
        prepare(spark, raw, tmp_path / "out", PLAN)
    assert files_in(tmp_path / "out") == []


def test_names_and_types_of_any_kind_are_read_and_nan_is_null(spark: "SparkSession", tmp_path: Path) -> None:
    path = tmp_path / "a b%20{x}.parquet"
    pq.write_table(
        pa.table(
            {
                "a.b `c`": [1.5, float("nan")],
                "A": ["x", "y"],
                "a": [1, 2],
                "day": pa.array([946_684_800_000_000_123, None], pa.timestamp("ns")),
                "nothing": pa.nulls(2),
                "code": pa.array(["p", "q"]).dictionary_encode(),
            }
        ),
        path,
    )
    frame = read(spark, path)
    rows = collect_rows(
        frame.selectExpr("`a.b ``c``` AS first", "A", "a", "CAST(day AS STRING) AS day", "nothing", "code")
    )
    assert rows == [
        {"first": 1.5, "A": "x", "a": 1, "day": "2000-01-01 00:00:00", "nothing": None, "code": "p"},
        {"first": None, "A": "y", "a": 2, "day": None, "nothing": None, "code": "q"},
    ]
    assert read(spark, path, ["code", "a", "other"]).columns == ["a", "code"]
    assert write(frame, tmp_path / "copy.parquet") == 2


def test_csv_is_rejected(spark: "SparkSession", tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a\n1\n", encoding="utf-8")
    with pytest.raises(TableError, match=r"expected a Parquet file, or a folder of them, with engine=spark; found CSV"):
        read(spark, tmp_path / "table.csv")


def test_an_empty_table_is_one_part_with_its_columns(spark: "SparkSession", tmp_path: Path) -> None:
    target = tmp_path / "none.parquet"
    assert write(spark.range(10, numPartitions=3).where("id > 10"), target) == 0
    assert [path.name for path in target.iterdir()] == ["part-00000.parquet"]
    assert pd.read_parquet(target).dtypes.to_dict() == {"id": np.dtype("int64")}


def test_a_failed_write_leaves_the_old_table(spark: "SparkSession", tmp_path: Path) -> None:
    target = tmp_path / "table.parquet"
    write(spark.range(3), target)
    with pytest.raises(SparkError, match=r"^Spark job failed: .*DIVIDE_BY_ZERO"):
        write(spark.range(9, numPartitions=3).selectExpr("1 DIV (id - 8) AS id"), target)
    assert files_in(tmp_path) == ["table.parquet"]
    assert len(pd.read_parquet(target)) == 3
