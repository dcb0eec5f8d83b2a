import sqlite3
from contextlib import closing
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from data.cli.config import parse_args
from data.datasets import default
from data.errors import KobeShotError, StaleDataError, TableError
from data.preparation.manifest import PREDICTIONS, PROD, prepared_path
from data.schema import PROBABILITY, TARGET
from data.spark import session
from monitor.store import labels as arrivals
from monitor.store import tags
from monitor.store.model_store import current_store
from serving import registry
from serving.registry import RegistryError
from steps import aplicacao
from steps.aplicacao import AplicacaoConfig
from steps.scoring import scoring
from tests.serving.batch.test_local import shots
from tests.versions import GOOD, LoggedModels, promote_versions


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        parse_args(AplicacaoConfig, arguments)
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_without_parameters_the_prepared_prod_table_is_scored_over_rest() -> None:
    config = parse_args(AplicacaoConfig, [])
    assert (config.source, config.target) == (prepared_path(PROD), PREDICTIONS)
    assert config.over_rest


@pytest.mark.parametrize(
    ("arguments", "most"),
    [
        ([], 0),
        (["--max_rejected_rows", ""], 0),
        (["--mode", "batch"], 1_000),
        (["--engine", "spark"], 1_000),
        (["--max_rejected_rows", "7"], 7),
        (["--mode", "batch", "--max_rejected_rows", "0"], 0),
    ],
)
def test_large_jobs_reject_some_rows_that_violate_the_schema_and_continue(arguments: list[str], most: int) -> None:
    assert parse_args(AplicacaoConfig, arguments).rows_rejected_at_most == most


@pytest.mark.parametrize("way", [["--mode", "batch"], ["--engine", "spark"]])
def test_an_endpoint_is_refused_where_no_request_is_sent(way: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    message = refused([*way, "--endpoint", "http://127.0.0.1:5001"], capsys)
    assert "expected endpoint with mode=rest and engine=local only" in message
    assert "Omit endpoint" in message


@pytest.mark.parametrize("out", ["shots.parquet", "shots.parquet/out.parquet", "./x/../shots.parquet"])
def test_an_output_is_not_written_over_its_table(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "expected out and table to be different paths" in refused(["--table", "shots.parquet", "--out", out], capsys)


def test_the_rejects_are_not_written_over_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--table", "out_rejects.parquet", "--out", "out.parquet"]
    assert "expected out and table to be different paths" in refused(arguments, capsys)


def test_the_prepared_table_is_not_written_over(capsys: pytest.CaptureFixture[str]) -> None:
    assert "expected out and table to be different paths" in refused(["--out", str(prepared_path(PROD))], capsys)


def test_another_table_does_not_overwrite_the_predictions_of_prod(capsys: pytest.CaptureFixture[str]) -> None:
    assert "expected out with table, e.g. --out scored.parquet" in refused(["--table", "shots.parquet"], capsys)


def test_spark_reads_csv_and_writes_parquet_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        parse_args(AplicacaoConfig, ["--table", "a.csv", "--out", "b.parquet", "--engine", "spark"]).engine == "spark"
    )
    assert "expected Parquet for" in refused(["--out", "b.csv", "--engine", "spark"], capsys)


@pytest.mark.parametrize("name", ["table", "out"])
def test_a_name_of_another_kind_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "ends in .parquet or .csv" in refused([f"--{name}", "shots.json"], capsys)


# Runs


def config(folder: Path, **others: str) -> AplicacaoConfig:
    names = {"table": str(folder / "shots.parquet"), "out": str(folder / "out.parquet"), "mode": "batch"}
    return AplicacaoConfig.model_validate(names | others)


def test_a_single_file_is_scored_in_this_process(tmp_path: Path, store_with_models: LoggedModels) -> None:
    registry.promote(store_with_models.register(GOOD), "the only one")
    shots(50).to_parquet(tmp_path / "shots.parquet", index=False)
    applied = aplicacao.run(config(tmp_path))
    assert applied.rows == 50
    assert pd.read_parquet(tmp_path / "out.parquet")[PROBABILITY].notna().all()


@pytest.mark.parametrize("labels", [[1.0, 0.0] * 20 + [np.nan] * 10, [np.nan] * 50])
def test_every_row_counts_as_evaluated_in_training_or_unlabeled(
    tmp_path: Path,
    store_with_models: LoggedModels,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    labels: list[float],
) -> None:
    registry.promote(store_with_models.register(GOOD), "the only one")
    table = shots(50).assign(**{TARGET: labels})
    table.to_parquet(tmp_path / "shots.parquet", index=False)
    training_rows, labeled = table.head(15), sum(np.isfinite(labels))
    monkeypatch.setattr(arrivals, "training_labels", lambda _store, _version: training_rows)
    in_training = min(15, labeled)
    applied = aplicacao.run(config(tmp_path))
    assert (applied.rows, applied.labeled, applied.in_training) == (50, labeled, in_training)
    metrics = mlflow.last_active_run().data.metrics
    counts = {"rows_labeled": labeled - in_training, "rows_in_training": in_training, "rows_unlabeled": 50 - labeled}
    assert {name: metrics[name] for name in counts} == counts
    assert sum(counts.values()) == metrics["rows_scored"]
    message = " ".join(capsys.readouterr().out.split())
    assert f"Scored 50 rows, {labeled} of them labeled" in message
    assert ("Excluded from the metrics: 15 labeled rows that the version was trained on" in message) == bool(
        in_training
    )


def test_a_given_table_has_a_tag_of_its_own_and_is_not_prod(tmp_path: Path, store_with_models: LoggedModels) -> None:
    registry.promote(store_with_models.register(GOOD), "the only one")
    shots(50).to_parquet(tmp_path / "shots.parquet", index=False)
    aplicacao.run(config(tmp_path))
    assert mlflow.last_active_run().data.tags[tags.GIVEN_TABLE] == str(tmp_path / "shots.parquet")
    assert current_store().last_batch_scoring_run() is None


def test_a_table_of_a_database_is_scored_and_named_in_its_run(tmp_path: Path, store_with_models: LoggedModels) -> None:
    registry.promote(store_with_models.register(GOOD), "the only one")
    with closing(sqlite3.connect(tmp_path / "shots.db")) as connection:
        shots(50).to_sql("shots", connection, index=False)
    location = f"sqlite:///{tmp_path}/shots.db?table=shots"
    assert aplicacao.run(config(tmp_path, table=location)).rows == 50
    run = mlflow.get_run(mlflow.last_active_run().info.run_id)
    assert run.data.tags[tags.GIVEN_TABLE] == location
    assert location in run.inputs.dataset_inputs[0].dataset.source


@pytest.mark.parametrize("of", ["the description of kobe", "champion version 1"])
def test_a_prod_table_without_a_feature_of_the_description_or_the_champion_is_not_scored(
    tmp_path: Path, store_with_models: LoggedModels, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    registry.promote(store_with_models.register(GOOD), "the only one")
    prod, kobe = tmp_path / "base_prod.parquet", default()
    shots(50).drop(columns="period").to_parquet(prod, index=False)
    monkeypatch.setattr(scoring, "prepared_path", lambda _: prod)
    monkeypatch.setattr(scoring, "read_manifest", lambda: None)
    if of == "champion version 1":
        columns = tuple(column for column in kobe.columns if column.name != "period")
        described = kobe.model_copy(update={"columns": columns, "slices": ()})
        monkeypatch.setattr(scoring, "current", lambda: described)
    message = rf"with the features of {of}; found one without period: the description has changed since. Train again"
    with pytest.raises(StaleDataError, match=message):
        aplicacao.run(AplicacaoConfig(mode="batch", out=str(tmp_path / "out.parquet")))


@pytest.mark.parametrize("kept", [slice(-50), slice(100)])
def test_a_damaged_file_is_reported(tmp_path: Path, store: str, kept: slice) -> None:
    del store
    shots(50).to_parquet(tmp_path / "shots.parquet", index=False)
    (tmp_path / "shots.parquet").write_bytes((tmp_path / "shots.parquet").read_bytes()[kept])
    with pytest.raises(TableError, match=r"shots\.parquet: expected a complete parquet table"):
        aplicacao.run(config(tmp_path))


def test_a_file_with_a_whole_footer_and_damaged_rows_is_reported(tmp_path: Path, store: str) -> None:
    del store
    promote_versions(1)
    shots(5_000).to_parquet(tmp_path / "shots.parquet", index=False)
    broken = bytearray((tmp_path / "shots.parquet").read_bytes())
    broken[100:30_000] = bytes(29_900)
    (tmp_path / "shots.parquet").write_bytes(broken)
    with pytest.raises(TableError, match=r"shots\.parquet: expected a complete parquet table"):
        aplicacao.run(config(tmp_path))


def test_a_known_failure_is_raised_before_the_table_is_read(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    del store
    monkeypatch.setattr(scoring, "sha256", lambda _path: pytest.fail("the table was read"))
    shots(50).to_parquet(tmp_path / "shots.parquet", index=False)
    with pytest.raises(RegistryError, match="no champion"):
        aplicacao.run(config(tmp_path))
    promote_versions(1)
    (tmp_path / "file").touch()
    with pytest.raises(KobeShotError, match="expected a writable folder"):
        aplicacao.run(config(tmp_path, out=str(tmp_path / "file" / "out.parquet")))
    with pytest.raises(session.SparkError):
        aplicacao.run(config(tmp_path, mode="rest", engine="spark", master="spark://127.0.0.1:1"))
    shots(50).drop(columns="lat").to_parquet(tmp_path / "shots.parquet", index=False)
    with pytest.raises(TableError, match="missing: lat"):
        aplicacao.run(config(tmp_path))
