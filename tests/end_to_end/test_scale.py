"""Large tables, through the commands that a user types: both engines, a real cluster, and what goes wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.cluster import cluster
from data.acquisition.raw_tables import DEV_FILE, PROD_FILE
from data.preparation.manifest import FILTERED, PROD, TEST, TRAIN
from data.schema import FEATURES, PROBABILITY, SHOT_ID, TARGET, THREE_POINTS, TWO_POINTS
from data.simulation import synthetic
from tests.project import (
    FAST,
    REAL,
    Checkout,
    completed,
    copy_project,
    end_group,
    environment,
    ok,
    wait_until,
)
from tests.spark import needs_java

SPARK = ("--engine", "spark", "--master", "local[2]")
ENGINES = [
    pytest.param(("--mode", "batch"), id="batch"),
    pytest.param(SPARK, id="spark", marks=[needs_java, pytest.mark.slow]),
]
_PARTS = 24


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory, shots: pd.DataFrame, empty_database: Path) -> Checkout:
    """A checkout after ``main`` on raw tables in parts: the real ones, or simulated ones where those are not."""
    folder = tmp_path_factory.mktemp("applied")
    raw = folder / "raw"
    raw.mkdir()
    for name, points in ((DEV_FILE, TWO_POINTS), (PROD_FILE, THREE_POINTS)):
        table = pd.read_parquet(REAL / name) if REAL.is_dir() else shots[shots["shot_type"] == points]
        in_parts(table, raw / name, 3)
    checkout = copy_project(folder / "project", empty_database)
    printed = ok(checkout.mlflow_run("main", *FAST, "-P", f"source={raw}"))
    assert "main: done" in printed
    return checkout


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory, published: Checkout) -> Checkout:
    """A checkout with a champion, and nothing else."""
    return published.copy(tmp_path_factory.mktemp("scorer") / "checkout")


def make_table(rows: int, seed: int = 3) -> pd.DataFrame:
    """Shots as preparacao makes base_prod."""
    columns = [SHOT_ID, "game_date", "lat", "lon", *FEATURES[2:], TARGET]
    table = pd.concat([block[columns] for block in synthetic.iter_chunks(rows, seed)], ignore_index=True)
    return table.rename(columns={"lon": "lng"}).astype(dict.fromkeys([*FEATURES, TARGET], "float64"))


def in_parts(table: pd.DataFrame, folder: Path, parts: int = _PARTS) -> Path:
    """A folder of Parquet files that are one table."""
    folder.mkdir()
    for number, places in enumerate(np.array_split(np.arange(len(table)), parts)):
        table.iloc[places].to_parquet(folder / f"part-{number:05d}.parquet", index=False)
    return folder


def by_id(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path).sort_values(SHOT_ID, ignore_index=True)


def committed(out: Path) -> int:
    """Tasks of a running job that have committed their part of an output."""
    return len(list(out.parent.glob(f".{out.name}.*.partial/{out.name}/_temporary/0/task_*")))


def sorted_rows(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values(list(table.columns), ignore_index=True)


@pytest.mark.slow
@needs_java
def test_both_engines_prepare_the_same_rows_and_as_many_of_each_class(applied: Checkout) -> None:
    names = (FILTERED, TRAIN, TEST, PROD)
    ok(applied.step("preparacao"))
    local = {name: applied.table(name) for name in names}
    figures = applied.run("PreparacaoDados").data.metrics
    ok(applied.step("preparacao", *SPARK))
    spark = {name: applied.table(name) for name in names}
    for name in (FILTERED, PROD):
        pd.testing.assert_frame_equal(sorted_rows(local[name]), sorted_rows(spark[name]))
    for name in (TRAIN, TEST):
        assert local[name].dtypes.to_dict() == spark[name].dtypes.to_dict()
        assert local[name][TARGET].value_counts().to_dict() == spark[name][TARGET].value_counts().to_dict()
    both = pd.concat([spark[TRAIN], spark[TEST]])
    pd.testing.assert_frame_equal(sorted_rows(both), sorted_rows(spark[FILTERED]))
    found = applied.run("PreparacaoDados").data.metrics
    assert {name: value for name, value in found.items() if name.startswith(("rows", "dropped", "share"))} == {
        name: value for name, value in figures.items() if name.startswith(("rows", "dropped", "share"))
    }
    ok(applied.step("preparacao"))


@pytest.mark.slow
@needs_java
def test_every_scoring_mode_gives_the_same_predictions_and_metrics(applied: Checkout) -> None:
    ways = {"rest": (), "batch": ("--mode", "batch"), "spark": SPARK}
    tables, metrics = {}, {}
    for way, arguments in ways.items():
        ok(applied.step("aplicacao", *arguments))
        tables[way] = by_id(applied.folder / "data" / "processed" / "predictions_prod.parquet")
        metrics[way] = applied.run("PipelineAplicacao").data.metrics
    for way in ("batch", "spark"):
        found, expected = (tables[name].drop(columns=PROBABILITY) for name in (way, "rest"))
        pd.testing.assert_frame_equal(found, expected)
        assert np.abs(tables[way][PROBABILITY] - tables["rest"][PROBABILITY]).max() <= 1e-9
        assert {"log_loss", "roc_auc", "f1_score", "base_rate_log_loss"} <= metrics[way].keys()
        for name, value in metrics["rest"].items():
            if not name.startswith("scoring"):
                assert metrics[way][name] == pytest.approx(value, abs=1e-6), name


@pytest.mark.slow
@needs_java
def test_both_engines_compute_the_same_drift_and_status(applied: Checkout) -> None:
    found = {}
    for engine, arguments in {"local": (), "spark": SPARK}.items():
        ok(applied.step("monitoramento", *arguments))
        run = applied.run("Monitoramento")
        folder = Path(run.info.artifact_uri)
        found[engine] = json.loads((folder / "monitoring.json").read_text())
    assert found["spark"]["status"] == found["local"]["status"]
    one, other = (found[engine]["drift"] for engine in ("local", "spark"))
    assert one["out_of_support_rate"] == other["out_of_support_rate"]
    for first, second in zip(one["statistics"], other["statistics"], strict=True):
        assert (first["feature"], first["statistic"]) == (second["feature"], second["statistic"])
        assert first["value"] == pytest.approx(second["value"], abs=1e-9)
        assert first["threshold"] == pytest.approx(second["threshold"], abs=1e-9)
    assert one["classifier"]["auc"] == pytest.approx(other["classifier"]["auc"], abs=0.01)


@pytest.mark.slow
@needs_java
def test_a_cluster_that_loses_a_worker_half_way_scores_every_row_all_the_same(
    scorer: Checkout, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    rows = request.config.getoption("--rows")
    table = in_parts(make_table(rows), tmp_path / "shots.parquet")
    local, spark = tmp_path / "local.parquet", tmp_path / "spark.parquet"
    ok(scorer.step("aplicacao", "--mode", "batch", "--table", str(table), "--out", str(local)))
    # The configuration of the cluster, as its users would have it: many small tasks, so that there is a half-way.
    (tmp_path / "spark-defaults.conf").write_text(
        "spark.sql.files.openCostInBytes 0\n"
        f"spark.sql.files.maxPartitionBytes {max(1, sum(file.stat().st_size for file in table.iterdir()) // _PARTS)}\n"
    )
    with cluster(tmp_path / "cluster") as found:
        command = [
            *(sys.executable, "-m", "steps.aplicacao", "--engine", "spark", "--master", found.master),
            *("--table", str(table), "--out", str(spark)),
        ]
        with (tmp_path / "output").open("wb") as output:
            job = subprocess.Popen(
                command,
                cwd=scorer.folder,
                env=environment() | {"SPARK_CONF_DIR": str(tmp_path)},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            wait_until(
                lambda: committed(spark) >= _PARTS // 3 or job.poll() is not None,
                "a third of the tasks",
                progress=lambda: committed(spark),
            )
            assert job.poll() is None, (tmp_path / "output").read_text()
            found.kill(0)
            assert completed(job).returncode == 0, (tmp_path / "output").read_text()
        finally:
            if job.poll() is None:
                end_group(job, 9)
        assert found.alive() == 1
    pd.testing.assert_frame_equal(by_id(spark), by_id(local), check_exact=False, rtol=0, atol=1e-9)
    assert len(by_id(spark)) == rows


@pytest.mark.parametrize("engine", ENGINES)
def test_one_bad_row_goes_to_the_rejects_with_its_reason_and_the_others_are_scored(
    scorer: Checkout, tmp_path: Path, engine: tuple[str, ...]
) -> None:
    shots = make_table(9_000)
    shots.loc[7_000, "period"] = 11
    table, out = in_parts(shots, tmp_path / "shots.parquet", 3), tmp_path / "out.parquet"
    printed = ok(scorer.step("aplicacao", *engine, "--table", str(table), "--out", str(out)))
    assert "out_rejects.parquet" in printed
    assert len(pd.read_parquet(out)) == 8_999
    rejected = pd.read_parquet(tmp_path / "out_rejects.parquet")
    assert rejected["reason"].tolist() == ["column period: found 11, expected an integer from 1 to 10"]
    assert rejected[SHOT_ID].tolist() == [7_001]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_part_that_cannot_be_read_is_named_and_the_old_output_stays(
    scorer: Checkout, tmp_path: Path, engine: tuple[str, ...]
) -> None:
    table, out = in_parts(make_table(9_000), tmp_path / "shots.parquet", 3), tmp_path / "out.parquet"
    pq.write_table(pa.table({"old": [1]}), out)
    broken = table / "part-00001.parquet"
    broken.write_bytes(broken.read_bytes()[:-100])
    result = scorer.step("aplicacao", *engine, "--table", str(table), "--out", str(out))
    assert result.returncode == 1
    assert "part-00001.parquet" in result.stderr
    assert pd.read_parquet(out).columns.tolist() == ["old"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet", "shots.parquet"]


@pytest.mark.parametrize(
    ("master", "code", "words"),
    [
        ("spark:/nowhere", 2, "expected local, local[N]"),
        pytest.param("spark://127.0.0.1:1", 1, "No Spark master responds at spark://127.0.0.1:1", marks=needs_java),
    ],
)
def test_a_wrong_master_is_reported(scorer: Checkout, tmp_path: Path, master: str, code: int, words: str) -> None:
    table = in_parts(make_table(100), tmp_path / "shots.parquet", 1)
    files = ("--table", str(table), "--out", str(tmp_path / "out.parquet"))
    result = scorer.step("aplicacao", "--engine", "spark", "--master", master, *files)
    assert result.returncode == code
    assert words in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["shots.parquet"]


def test_missing_java_is_reported_before_anything_is_done(scorer: Checkout, tmp_path: Path) -> None:
    table = in_parts(make_table(100), tmp_path / "shots.parquet", 1)
    files = ("--table", str(table), "--out", str(tmp_path / "out.parquet"))
    result = scorer.step("aplicacao", "--engine", "spark", *files, JAVA_HOME=str(tmp_path), PATH=os.environ["PATH"])
    assert result.returncode == 1
    assert "engine=spark expects Java 17 or 21; found none" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_main_accepts_raw_files_in_parts_and_its_tables_are_scored_in_process_and_monitored(applied: Checkout) -> None:
    # As `mlflow run` passes on parameters that were not given.
    ok(applied.mlflow_run("aplicacao", "-P", "mode=batch"))
    assert "Status:" in ok(applied.mlflow_run("monitoramento"))
