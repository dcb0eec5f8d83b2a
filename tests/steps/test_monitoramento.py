"""The real command, on a copy of the project after a short ``main`` on synthetic shots."""

import hashlib
import json
import subprocess
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sql
from mlflow.entities import Run

from data.cli.config import parse_args
from data.schema import FEATURES, MODEL_VERSION, PROBABILITY, TARGET
from data.storage.files import sha256
from monitor.health.checks import CHECKS
from monitor.health.record import FORMAT, flatten_metrics
from monitor.health.status import HealthReport, HealthStatus
from monitor.metrics.binary import METRICS
from serving.inference_log import reader
from serving.inference_log.inference_log import TRAFFIC, create_engine, tables
from steps import monitoramento
from steps.monitoramento import MonitoramentoConfig, MonitoringResult
from steps.shared import current_data
from steps.shared.validators import parse_timestamp
from tests.project import Checkout, copy_project, ok
from tests.spark import needs_java

NOW = datetime(2026, 11, 22, 12)  # noqa: DTZ001 as the log writes it


@pytest.fixture(scope="module")
def checkout(synthetic_main: tuple[Checkout, str], tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A copy, so that other tests find theirs as ``main`` left it."""
    return synthetic_main[0].copy(tmp_path_factory.mktemp("monitored") / "copy")


def newest(checkout: Checkout) -> Run:
    return checkout.run("Monitoramento")


def record_of(run: Run) -> dict[str, object]:
    found = json.loads((Path(run.info.artifact_uri) / "monitoring.json").read_text(encoding="utf-8"))
    assert found["format"] == FORMAT
    return dict(found)


def inputs_of(run: Run) -> dict[str, tuple[str, str]]:
    """Name and SHA-256 of each dataset input by its context."""
    tags = [({tag.key: tag.value for tag in each.tags}, each.dataset.name) for each in run.inputs.dataset_inputs]
    return {each["mlflow.data.context"]: (name, each["sha256"]) for each, name in tags}


def printed(result: "subprocess.CompletedProcess[str]") -> str:
    return " ".join((result.stdout + result.stderr).replace("│", " ").split())


def fill(path: Path, rows: pd.DataFrame, *, every: timedelta) -> str:
    """Fill an inference log with rows, the last one scored now; its URL."""
    url = f"sqlite:///{path}"
    engine: sql.Engine = create_engine(url)
    log, _ = tables(FEATURES)
    log.metadata.create_all(engine)
    now = reader.now()
    entries = [
        {
            **{name: float(row[name]) for name in FEATURES},
            "time": now - every * (len(rows) - 1 - place),
            "request_id": f"request {place}",
            "row": 0,
            "model_version": "1",
            "prediction": int(row[PROBABILITY] >= 0.5),
            "probability": float(row[PROBABILITY]),
            "shot_made_flag": None if np.isnan(row[TARGET]) else int(row[TARGET]),
        }
        for place, row in enumerate(rows.to_dict("records"))
    ]
    if entries:
        with engine.begin() as connection:
            connection.execute(log.insert(), entries)
    engine.dispose()
    return url


@pytest.mark.usefixtures("store")
def test_every_label_of_a_window_of_the_log_is_read_though_a_sample_of_its_rows_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(current_data, "flag_training_rows", lambda _store, table: table)
    rows = pd.DataFrame({name: np.ones(1_000) for name in FEATURES}).assign(**{PROBABILITY: 0.4, TARGET: np.nan})
    rows.loc[::10, TARGET] = 1.0
    url = fill(tmp_path / "log.db", rows, every=timedelta(seconds=1))
    with (engine := create_engine(url)).begin() as connection:
        connection.exec_driver_sql("update inference set origin = 'upload' where id > 900")
    engine.dispose()
    found = current_data.read_log(url, None, None, origin=TRAFFIC, max_rows=100, version="1")
    assert 90 <= len(found.table) <= 110
    assert found.labels is not None
    assert len(found.labels) == 90
    assert found.name.endswith(f"{len(found.table)} of 900 rows")
    uploads = current_data.read_log(url, None, None, origin="upload", max_rows=100, version="1")
    assert (len(uploads.table), uploads.labels) == (100, None)


@pytest.mark.usefixtures("store")
def test_of_a_log_that_is_sampled_all_rows_of_the_champion_are_read_and_those_of_others_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(current_data, "flag_training_rows", lambda _store, table: table)
    rows = pd.DataFrame({name: np.ones(1_000) for name in FEATURES}).assign(**{PROBABILITY: 0.4, TARGET: 1.0})
    url = fill(tmp_path / "log.db", rows, every=timedelta(seconds=1))
    with (engine := create_engine(url)).begin() as connection:
        connection.exec_driver_sql("update inference set model_version = '2' where id > 920")
    engine.dispose()
    found = current_data.read_log(url, None, None, origin=TRAFFIC, max_rows=100, version="2")
    assert (found.table[MODEL_VERSION].tolist(), found.rows, found.excluded) == ([2] * 80, 80, {"1": 920})
    assert "80 of" not in found.name
    old = current_data.read_log(url, None, None, origin=TRAFFIC, max_rows=100, version="3")
    assert set(old.table[MODEL_VERSION]) == {1}
    assert old.excluded == {"2": 80}


# After main, which ends with a monitoring run on the table that was scored over REST


def test_main_ends_with_a_monitoring_run_that_recommends_retraining_after_a_shift_from_two_to_three_point_shots(
    synthetic_main: tuple[Checkout, str],
) -> None:
    checkout, shown = synthetic_main
    run = next(run for run in checkout.runs() if run.data.tags.get("current") == "prod")
    tags, found = run.data.tags, record_of(run)
    assert run.info.run_name == "Monitoramento"
    assert tags["mlflow.parentRunId"] == checkout.run("main").info.run_id
    in_main = checkout.run("main").data.tags["health_status"]
    assert tags["health_status"] == found["status"] == in_main == HealthStatus.RETRAIN
    assert (tags["model_version"], tags["synthetic"], tags["data_source"]) == ("1", "true", "synthetic")
    assert tags["reasons"].splitlines() == found["reasons"]
    statuses = {check.code: tags[f"check_{check.code}"] for check in CHECKS}
    assert {statuses[code] for code in ("K201", "K204")} == {"failed"}
    assert {statuses[code] for code in ("K202", "K203")} == {"warning"}
    assert statuses["K301"] == "skipped"
    assert "error" not in statuses.values()
    assert "Status: retraining recommended" in shown


def test_every_metric_is_logged_with_its_interval_and_with_the_record_and_the_report(
    synthetic_main: tuple[Checkout, str],
) -> None:
    checkout, _ = synthetic_main
    run = next(run for run in checkout.runs() if run.data.tags.get("current") == "prod")
    assert checkout.artifacts(run) == {"monitoring.json", "report.html"}
    metrics = run.data.metrics
    assert metrics == flatten_metrics(record_of(run))
    table = checkout.table("predictions_prod")
    assert (metrics["rows"], metrics["rows_labeled"]) == (len(table), table[TARGET].notna().sum())
    applied = checkout.run("PipelineAplicacao").data.metrics
    for name in METRICS:
        assert metrics[f"current_{name}"] == pytest.approx(applied[name])
        assert metrics[f"current_{name}_low"] <= metrics[f"current_{name}"] <= metrics[f"current_{name}_high"]
        assert metrics[f"reference_{name}"] == pytest.approx(checkout.run("Treinamento").data.metrics[name])
    assert metrics["psi_shot_distance"] > metrics["psi_shot_distance_threshold"] > 0
    report = (Path(run.info.artifact_uri) / "report.html").read_text(encoding="utf-8")
    assert "SIMULATED" in report
    assert "<script" not in report
    assert report.count("data:image/png;base64,") == 5


def test_the_tables_that_were_compared_are_inputs_of_the_run(synthetic_main: tuple[Checkout, str]) -> None:
    checkout, _ = synthetic_main
    run = next(run for run in checkout.runs() if run.data.tags.get("current") == "prod")
    production = checkout.production()
    assert production is not None
    scored_table = (checkout.folder / "data" / "processed" / "predictions_prod.parquet").read_bytes()
    inputs = inputs_of(run)
    assert inputs["reference"] == ("base_test", production.tags["sha256_base_test"])
    assert inputs["current"] == ("predictions_prod", hashlib.sha256(scored_table).hexdigest())


# The command alone


def test_test_rows_versus_training_rows_do_not_recommend_retraining_and_the_exit_code_is_0(
    checkout: Checkout,
) -> None:
    arguments = ["--current", "base_test", "--reference", "base_train", "--fail-on", "retrain"]
    shown = ok(checkout.step("monitoramento", *arguments))
    run = newest(checkout)
    assert run.data.tags["health_status"] in {"healthy", "warning"}, run.data.tags["reasons"]
    assert f"Status: {run.data.tags['health_status']}" in shown
    assert "SYNTHETIC DATA" in shown
    assert inputs_of(run)["reference"][0] == "base_train"
    assert inputs_of(run)["current"][0] == "base_test"
    assert run.data.params["fail_on"] == "retrain"
    assert run.data.tags["check_K301"] == "passed"


def test_a_status_as_bad_as_fail_on_gives_exit_code_3_and_is_logged(checkout: Checkout) -> None:
    result = checkout.step("monitoramento", "--fail_on", "retrain")
    assert result.returncode == 3, result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    assert "Status: retraining recommended" in result.stdout
    run = newest(checkout)
    assert (run.data.tags["health_status"], run.data.tags["current"], run.info.status) == (
        HealthStatus.RETRAIN,
        "prod",
        "FINISHED",
    )
    assert checkout.artifacts(run) == {"monitoring.json", "report.html"}


def test_a_given_table_without_labels_and_predictions_is_scored_by_the_champion(
    checkout: Checkout, tmp_path: Path
) -> None:
    table = checkout.table("base_test").drop(columns=TARGET).rename(columns={"lng": "lon"})
    path = tmp_path / "my <b> shots.csv"
    path.write_text(table.head(600).to_csv(index=False))
    ok(checkout.step("monitoramento", "--current", str(path)))
    run = newest(checkout)
    assert run.data.tags["current"] == "my <b> shots"
    assert run.data.tags["model_version"] == "1"
    assert {run.data.tags[f"check_{code}"] for code in ("K101", "K103", "K104", "K105")} == {"skipped"}
    assert run.data.tags["check_K106"] == "warning"
    metrics = run.data.metrics
    assert (metrics["rows"], metrics["rows_labeled"]) == (600, 0)
    assert "current_log_loss" not in metrics
    assert 0.5 < metrics["estimated_log_loss_low"] < metrics["estimated_log_loss_high"] < 0.75
    assert record_of(run)["metrics"]["current"] is None  # type: ignore[index]


def test_a_table_of_one_row_is_evaluated(checkout: Checkout, tmp_path: Path) -> None:
    path = tmp_path / "one.parquet"
    checkout.table("predictions_prod").dropna().head(1).to_parquet(path)
    shown = printed(checkout.step("monitoramento", "--current", str(path)))
    assert "Evaluated: Version 1 on one: 1 rows, 1 of them labeled; compared with base_test" in shown
    run = newest(checkout)
    assert run.data.metrics["rows"] == 1
    assert "error" not in {run.data.tags[f"check_{check.code}"] for check in CHECKS}
    assert "nan" not in shown


def test_predictions_of_an_unknown_version_are_refused(checkout: Checkout, tmp_path: Path) -> None:
    path = tmp_path / "mine.parquet"
    checkout.table("predictions_prod").head(200).drop(columns="model_version").assign(probability=0.3).to_parquet(path)
    result = checkout.step("monitoramento", "--current", str(path))
    assert result.returncode == 1
    assert "expected a column model_version, or predictions of champion version 1; found neither" in printed(result)
    assert "Traceback" not in result.stdout + result.stderr


def test_a_window_of_the_log_is_evaluated(checkout: Checkout, tmp_path: Path) -> None:
    rows = checkout.table("predictions_prod").head(400)
    url = fill(tmp_path / "log.db", rows, every=timedelta(hours=1))
    window = ["--since", "20d", "--until", "24h"]
    ok(checkout.step("monitoramento", "--current", "log", "--log", url, *window))
    run = newest(checkout)
    # The row of 24 hours ago is a little older when the command reads it.
    assert 375 <= run.data.metrics["rows"] <= 377
    assert run.data.tags["current"].startswith("log, 20")
    assert run.data.tags["model_version"] == "1"
    assert run.data.tags["check_K106"] == "passed"
    assert "current" not in inputs_of(run)
    assert run.data.params["log"] == url


# Large tables, and Spark


def parts_of(table: pd.DataFrame, folder: Path, copies: int = 3) -> Path:
    folder.mkdir()
    for number in range(copies):
        ids = table["shot_id"] + 100_000 * number
        table.assign(shot_id=ids).to_parquet(folder / f"part-{number:05d}.parquet", index=False)
    return folder


def test_of_a_folder_above_max_rows_drift_uses_all_rows_and_the_rest_a_sample_and_the_report_states_both(
    checkout: Checkout, tmp_path: Path
) -> None:
    table = checkout.table("predictions_prod")
    folder = parts_of(table, tmp_path / "season")
    shown = printed(checkout.step("monitoramento", "--current", str(folder), "--max_rows", "1000"))
    run, rows = newest(checkout), 3 * len(table)
    found = record_of(run)
    current = found["current"]
    assert isinstance(current, dict)
    assert (current["name"], current["rows"]) == ("season", rows)
    sampled = current["sampled"]
    assert 900 < sampled < 1_200
    assert current["labeled"] < sampled
    assert run.data.metrics == flatten_metrics(found)
    assert (run.data.metrics["rows"], run.data.metrics["rows_sampled"]) == (rows, sampled)
    message = f"Version 1 on season: a systematic sample of {sampled:,} of {rows:,} rows"
    assert f"Evaluated: {message}" in shown
    assert "Drift covers all rows; all other results cover the sample." in shown
    report = (Path(run.info.artifact_uri) / "report.html").read_text(encoding="utf-8")
    assert message in report
    assert "Drift covers all rows; all other results cover the sample." in report
    whole = next(run for run in checkout.runs() if run.data.tags.get("current") == "prod").data.metrics
    # The PSI adds half a row to each bin, so it differs between three tables and one.
    for name in ("ks_lat", "wasserstein_shot_distance", "mean_difference_probability", "out_of_support_rate"):
        assert run.data.metrics[name] == pytest.approx(whole[name], rel=1e-3)
    assert inputs_of(run)["current"] == ("season", sha256(folder))


def test_a_large_table_without_predictions_must_be_scored_first(checkout: Checkout, tmp_path: Path) -> None:
    path = tmp_path / "raw.parquet"
    checkout.table("base_test").to_parquet(path)
    result = checkout.step("monitoramento", "--current", str(path), "--max_rows", "100")
    assert result.returncode == 1
    shown = printed(result)
    assert "expected a column probability in a table of more than 100 rows" in shown
    assert "mode=batch" in shown
    assert "Traceback" not in shown


@pytest.mark.slow
@needs_java
def test_spark_computes_the_same_drift_and_status(checkout: Checkout) -> None:
    local_run = next(run for run in checkout.runs() if run.data.tags.get("current") == "prod")
    ok(checkout.step("monitoramento", "--engine", "spark", "--master", "local[2]"))
    run = newest(checkout)
    assert (run.data.params["engine"], run.data.params["master"]) == ("spark", "local[2]")
    assert run.data.tags["health_status"] == local_run.data.tags["health_status"]
    assert {name: value for name, value in run.data.tags.items() if name.startswith("check_")} == {
        name: value for name, value in local_run.data.tags.items() if name.startswith("check_")
    }
    message = {name for name in local_run.data.metrics if name.startswith("domain_classifier")}
    assert set(run.data.metrics) == set(local_run.data.metrics)
    for name in set(local_run.data.metrics) - message:
        assert run.data.metrics[name] == pytest.approx(local_run.data.metrics[name], abs=1e-9), name
    # It is trained on other rows: by their hash, not by their order, which Spark does not keep.
    assert run.data.metrics["domain_classifier_roc_auc"] == pytest.approx(
        local_run.data.metrics["domain_classifier_roc_auc"], abs=0.02
    )


# Messages


def test_wrong_parameters_are_reported_all_at_once_and_nothing_is_done(checkout: Checkout) -> None:
    runs = len(checkout.runs())
    wrong = ["--current", "yesterday", "--since", "soon", "--fail_on", "always", "--max_rows", "0"]
    result = checkout.step("monitoramento", *wrong)
    shown = printed(result)
    assert result.returncode == 2
    assert "current: expected application, log, base_train, base_test, or a .parquet or .csv file" in shown
    assert "found 'yesterday'" in shown
    assert (
        "since: expected an age such as 24h or 7d, or a timestamp such as 2026-11-22T08:00 (UTC); found 'soon'" in shown
    )
    assert "expected 'never', 'warning' or 'retrain'; found 'always'" in shown
    assert "max_rows" in shown
    assert "Nothing was done." in shown
    assert "Traceback" not in shown
    assert len(checkout.runs()) == runs


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--current", "log", "--log", "sqlite:////nowhere/log.db"], "expected an inference log at /nowhere/log.db"),
        (
            ["--current", "log", "--log", "LOG", "--since", "2h", "--until", "1h"],
            "holds no row of origin traffic in",
        ),
        (["--current", "CORRUPT"], "corrupt.parquet cannot be read: expected a Parquet or CSV table of shots"),
    ],
    ids=["no log", "an empty window", "a corrupt table"],
)
def test_data_that_cannot_be_evaluated_is_reported_without_a_traceback(
    checkout: Checkout, tmp_path: Path, arguments: list[str], words: str
) -> None:
    (tmp_path / "corrupt.parquet").write_bytes(b"PAR1 and no more")
    log = fill(tmp_path / "log.db", checkout.table("predictions_prod").head(3), every=timedelta(minutes=1))
    places = {"LOG": log, "CORRUPT": str(tmp_path / "corrupt.parquet")}
    result = checkout.step("monitoramento", *(places.get(argument, argument) for argument in arguments))
    assert result.returncode == 1, result.stdout + result.stderr
    assert words in printed(result)
    assert "Traceback" not in result.stdout + result.stderr
    assert newest(checkout).info.status == "FAILED"
    assert "health_status" not in newest(checkout).data.tags


def test_without_a_champion_the_message_names_the_command_to_run_first(tmp_path: Path, empty_database: Path) -> None:
    result = copy_project(tmp_path, empty_database).step("monitoramento")
    assert result.returncode == 1
    assert "kobe_shot has no champion yet" in printed(result)
    assert "mlflow run . -e treinamento" in printed(result)
    assert "Traceback" not in result.stdout + result.stderr


# Its parameters


def parsed(*arguments: str) -> MonitoramentoConfig:
    return parse_args(MonitoramentoConfig, arguments)


def test_parameters_have_defaults_that_work_after_main() -> None:
    config = parsed()
    assert (config.current, config.reference, config.fail_on) == ("application", "base_test", "never")
    assert (config.engine, config.master) == ("local", "")
    assert (config.since, config.until, config.log, config.endpoint, config.max_rows) == ("", "", "", "", 100_000)


@pytest.mark.parametrize("spelling", ["--fail_on", "--fail-on"])
def test_fail_on_may_be_spelled_with_either_dash(spelling: str) -> None:
    assert parsed(spelling, "warning").fail_on == "warning"


@pytest.mark.parametrize("current", ["application", "log", "base_train", "base_test", "x.csv", "/a/b.parquet", "tests"])
def test_every_kind_of_current_data_is_accepted(current: str) -> None:
    assert parsed("--current", current).current == current


@pytest.mark.parametrize(
    "arguments",
    [
        ("--current", "table.xlsx"),
        ("--current", "/a/folder/that/is/not/there"),
        ("--engine", "duckdb"),
        ("--master", "local[2]"),
        ("--current", ""),
        ("--reference", "base_prod"),
        ("--fail-on", "healthy"),
        ("--until", "tomorrow"),
        ("--since", "nat"),
        ("--since", "0001-01-01T00:00+14:00"),
        ("--since", "99999999d"),
        ("--endpoint", "127.0.0.1:99999"),
        ("--endpoint", "http://user:secret@127.0.0.1"),
        ("--max_rows", "many"),
        ("--log", "postgresql://user:secret@host/database"),
    ],
)
def test_an_invalid_parameter_gives_exit_code_2_and_a_message(
    arguments: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed(*arguments)
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert arguments[0].removeprefix("--") in message.replace("fail_on", "fail-on")
    assert "expected" in message
    assert "Nothing was done." in message
    assert "secret" not in message


def test_only_prod_is_scored_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert parsed().rescore == "never"
    assert parsed("--rescore", "if_needed").rescore == "if_needed"
    with pytest.raises(SystemExit, match=r"^2$"):
        parsed("--rescore", "if_needed", "--current", "log")
    assert "expected rescore with current=application only; found current=log" in capsys.readouterr().err


def test_spark_does_not_read_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        parsed("--engine", "spark", "--current", "log")
    message = " ".join(capsys.readouterr().err.split())
    assert "expected engine=local with current=log; the log is a database" in message


def test_spark_takes_a_table_of_any_format(tmp_path: Path) -> None:
    assert parsed("--engine", "spark", "--current", str(tmp_path / "shots.csv")).current.endswith("shots.csv")


def test_an_unknown_parameter_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        parsed("--curent", "log")
    assert "unrecognized arguments: --curent" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("24h", datetime(2026, 11, 21, 12)),  # noqa: DTZ001
        ("7d", datetime(2026, 11, 15, 12)),  # noqa: DTZ001
        ("90min", datetime(2026, 11, 22, 10, 30)),  # noqa: DTZ001
        ("2026-11-01", datetime(2026, 11, 1)),  # noqa: DTZ001
        ("2026-11-01T08:00", datetime(2026, 11, 1, 8)),  # noqa: DTZ001
        ("2026-11-01T08:00Z", datetime(2026, 11, 1, 8)),  # noqa: DTZ001
        ("2026-11-01T08:00-03:00", datetime(2026, 11, 1, 11)),  # noqa: DTZ001
    ],
)
def test_a_timestamp_is_an_age_or_a_time_in_utc(text: str, expected: datetime | None) -> None:
    assert parse_timestamp(text, NOW) == expected


@pytest.mark.parametrize(
    ("fail_on", "alarming"),
    [("never", set()), ("warning", {HealthStatus.WARNING, HealthStatus.RETRAIN}), ("retrain", {HealthStatus.RETRAIN})],
)
def test_the_exit_code_depends_on_the_status_and_fail_on(
    monkeypatch: pytest.MonkeyPatch, fail_on: str, alarming: set[HealthStatus]
) -> None:
    config = parsed("--fail_on", fail_on)
    for status in HealthStatus:
        monkeypatch.setattr(monitoramento, "run", partial(_monitored, status))
        if status in alarming:
            with pytest.raises(SystemExit, match=r"^3$"):
                monitoramento.run_for_scheduler(config)
        else:
            monitoramento.run_for_scheduler(config)


def _monitored(status: HealthStatus, _config: MonitoramentoConfig) -> MonitoringResult:
    return MonitoringResult(None, HealthReport(status, ()), {})  # type: ignore[arg-type]
