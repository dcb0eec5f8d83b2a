"""The pages, run by Streamlit, over stores in every state."""

import asyncio
import gc
import importlib
import json
import shutil
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sql
import streamlit as st
from sklearn.pipeline import Pipeline
from streamlit.testing.v1 import AppTest

from data.datasets import default
from data.paths import ROOT
from data.schema import FEATURES, TARGET
from monitor import scored_tables
from monitor.drift.detector import DriftDetector
from monitor.health.baseline import baseline as reference_data
from monitor.health.checks import CHECKS
from monitor.health.evaluation import Evaluation, ServingState, rows_of_version
from monitor.health.record import to_dict
from monitor.health.status import run_checks
from monitor.store import tables as tables_of_the_monitor
from monitor.store import tags as tags_of_runs
from monitor.store.model_store import ModelStore, current_store
from monitor.ui import ahead, cache, jobs, today, widgets
from serving import registry
from serving.inference_log import reader
from serving.inference_log.inference_log import create_engine, tables
from tests.operation_store import apply, fill_store, fit_champion, shots, using_store
from tests.project import PAGE_SECONDS, free_port, wait_until

EVALUATING = ("today", "court", "labels", "inputs", "estimate", "errors")
ALL = (*EVALUATING, "checks", "champions", "playground", "system")
SECTIONS = {
    **{name: ("why", {"section": name}) for name in ("labels", "inputs", "estimate", "errors", "checks")},
    "playground": ("court", {"view": "playground"}),
}
"""Views that are no pages of their own."""


@pytest.fixture(autouse=True)
def nothing_listens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No server, no inference log, and an empty cache."""
    monkeypatch.setenv(widgets.ENDPOINT_VARIABLE, f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("KOBE_INFERENCE_LOG", f"sqlite:///{tmp_path / 'log.db'}")
    cache.clear()
    st.cache_resource.clear()
    yield
    cache.clear()
    st.cache_resource.clear()


@pytest.fixture
def operated_store(operated_database: Path, tmp_path: Path) -> Iterator[tuple[Path, Pipeline]]:
    """A store with a champion: its folder, and the pipeline of the champion."""
    shutil.copy(operated_database, tmp_path / "mlflow.db")
    with using_store(tmp_path / "mlflow.db"):
        yield tmp_path, fit_champion(shots(1_500, 1))


def page(name: str, **state: object) -> AppTest:
    file, given = SECTIONS.get(name, (name, {}))
    app = AppTest.from_file(str(ROOT / "monitor" / "ui" / f"{file}.py"), default_timeout=PAGE_SECONDS)
    for key, value in {**given, **state}.items():
        app.session_state[key] = value
    return app.run()


def texts(shown: AppTest) -> str:
    parts_shown = (shown.info, shown.error, shown.warning, shown.markdown, shown.caption, shown.code, shown.title)
    return "\n".join(str(element.value) for elements in parts_shown for element in elements)


@pytest.mark.parametrize("name", ALL)
def test_an_empty_store_shows_the_command_that_fills_it(name: str, store: str) -> None:
    assert store
    shown = page(name)
    assert not shown.exception
    if name != "playground":
        assert "make main" in texts(shown)


@pytest.mark.parametrize("damage", ["truncated", "not a database"])
@pytest.mark.parametrize("name", ["today", "inputs", "system"])
def test_a_damaged_store_is_an_error_message(name: str, damage: str, operated_store: tuple[Path, Pipeline]) -> None:
    database = operated_store[0] / "mlflow.db"
    whole = database.read_bytes()
    database.write_bytes(whole[: len(whole) // 4] if damage == "truncated" else b"not a database" * 100)
    shown = page(name)
    assert not shown.exception
    assert ("found a truncated file" if damage == "truncated" else "found a damaged file") in texts(shown)
    assert "SQL:" not in texts(shown)


def test_the_app_starts_with_a_damaged_store_and_logs_an_error(
    operated_store: tuple[Path, Pipeline], capsys: pytest.CaptureFixture[str]
) -> None:
    (operated_store[0] / "mlflow.db").write_bytes(b"not a database" * 100)
    started = importlib.import_module("monitor.app")

    async def start() -> None:
        async with started.ready(started.app):
            pass

    asyncio.run(start())
    assert "found a damaged file" in " ".join(capsys.readouterr().err.split())


def test_the_garbage_collection_after_each_run_does_not_examine_the_libraries(store: str) -> None:
    assert store
    started = importlib.import_module("monitor.app")

    async def tracked_while_ready() -> int:
        async with started.ready(started.app):
            return len(gc.get_objects())

    before = len(gc.get_objects())
    try:
        assert asyncio.run(tracked_while_ready()) < before / 10
    finally:
        gc.unfreeze()


# Pages of one state are opened in one test: as in the app, they share the evaluation, which takes a second.


def test_a_champion_without_batch_scoring_shows_the_command_that_starts_it(
    operated_store: tuple[Path, Pipeline],
) -> None:
    assert operated_store
    for name in EVALUATING:
        shown = page(name)
        assert not shown.exception, name
        expected = "mlflow run . -e monitoramento" if name == "today" else "mlflow run . -e aplicacao"
        assert expected in texts(shown), name


def test_a_scored_table_is_shown_if_the_server_is_down(operated_store: tuple[Path, Pipeline]) -> None:
    folder, pipeline = operated_store
    apply(folder, shots(400, 3), pipeline)
    for name in ALL:
        shown = page(name)
        assert not shown.exception, name
        assert not [error for error in shown.error if "The estimate is withheld" not in error.value], name
        if name == "system":
            assert "make serve" in texts(shown) + str([metric.proto for metric in shown.metric]), name


def test_a_damaged_table_is_an_error_message(operated_store: tuple[Path, Pipeline]) -> None:
    folder, pipeline = operated_store
    apply(folder, shots(400, 3), pipeline).write_bytes(b"PAR1 not a table")
    for name in EVALUATING[1:]:
        shown = page(name)
        assert not shown.exception, name
        assert "cannot be read" in texts(shown), name


@pytest.mark.parametrize("rows", [1, 300], ids=["one row", "300 rows"])
def test_an_unlabeled_batch_of_any_size_is_shown(rows: int, operated_store: tuple[Path, Pipeline]) -> None:
    folder, pipeline = operated_store
    apply(folder, shots(rows, 4).assign(**{TARGET: np.nan}), pipeline)
    for name in EVALUATING:
        shown = page(name)
        assert not shown.exception, name
        if name == "labels":
            assert "There is no labeled row yet" in texts(shown)


def test_one_labeled_row_is_shown(operated_store: tuple[Path, Pipeline]) -> None:
    folder, pipeline = operated_store
    apply(folder, shots(1, 5), pipeline)
    for name in EVALUATING:
        assert not page(name).exception, name


TABS = {
    "labels": ("Metrics", "Curves and calibration", "Slices", "Recall, specificity and precision", "Candidate models"),
    "inputs": ("Drifted features", "Distributions", "Statistics and thresholds", "Domain classifier", "Shot locations"),
}
TAB_KEYS = {"labels": "performance_tab", "inputs": "drift_tab"}


def test_every_tab_of_a_page_is_drawn(operated_store: tuple[Path, Pipeline]) -> None:
    folder, pipeline = operated_store
    apply(folder, shots(400, 3), pipeline)
    for name, tabs in TABS.items():
        for tab in tabs:
            shown = page(name, **{TAB_KEYS[name]: tab})
            assert not shown.exception, tab
            assert not shown.error, tab


def test_every_view_of_the_court_is_drawn(operated_store: tuple[Path, Pipeline]) -> None:
    folder, pipeline = operated_store
    apply(folder, shots(400, 3), pipeline)
    for view in ("trust", "twins", "shots", "rates", "playground"):
        shown = page("court", view=view)
        assert not shown.exception, view
        assert not shown.error, view


def test_rows_without_a_court_show_their_drifted_features_first(
    operated_store: tuple[Path, Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, pipeline = operated_store
    apply(folder, shots(400, 3), pipeline)
    monitor_production_set()
    monkeypatch.setattr(cache, "has_court", lambda _evaluation: False)
    shown = page("today")
    assert not shown.exception
    assert not shown.error
    drawn = " ".join(str(element.proto.body) for element in shown.get("html"))
    assert "Shot distance" in drawn
    assert drawn.count("data:image/svg+xml;base64,") == len(FEATURES) + 1


def test_a_season_restricts_the_evidence(
    operated_store: tuple[Path, Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, pipeline = operated_store
    table = shots(400, 3)
    apply(folder, table, pipeline)
    seasons = np.where(np.arange(400) < 150, "1999-00", "2000-01")
    monkeypatch.setattr(
        "monitor.store.shots.with_season", lambda _store, rows: rows.assign(season=seasons[: len(rows)])
    )
    shown = page("labels", season="1999-00")
    assert not shown.exception
    assert "Version 1 on the production set: 150 rows" in texts(shown)


def test_the_distribution_of_every_column_is_drawn(operated_store: tuple[Path, Pipeline]) -> None:
    folder, pipeline = operated_store
    apply(folder, shots(400, 3), pipeline)
    for column in (*FEATURES, "probability"):
        assert not page("inputs", drift_column=column, drift_tab="Distributions").exception, column


def test_a_systematic_sample_of_the_inference_log_is_shown(
    operated_store: tuple[Path, Pipeline], tmp_path: Path
) -> None:
    _, pipeline = operated_store
    fill_log(tmp_path / "log.db", pipeline, 12_000)
    for name in EVALUATING:
        shown = page(name, source=widgets.LOG)
        assert not shown.exception, name
        assert not shown.error, name
    assert "of 12,000 rows" in texts(page("inputs", source=widgets.LOG))


def test_what_the_pages_show_first_is_computed_before_they_are_opened(
    operated_store: tuple[Path, Pipeline], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, pipeline = operated_store
    fill_log(tmp_path / "log.db", pipeline, 300)
    prepared, prepare = threading.Event(), cache.prepare_log
    rendered: list[bool] = []

    def prepare_and_record() -> None:
        prepare()
        prepared.set()

    with monkeypatch.context() as recorded:
        recorded.setattr(cache, "prepare_log", prepare_and_record)
        recorded.setattr(today, "show", lambda: rendered.append(True))
        with ahead.working():
            assert rendered, "the first page"
            assert prepared.wait(PAGE_SECONDS)
    monkeypatch.setattr(DriftDetector, "compare", None)
    monkeypatch.setattr(reader, "read", None)
    monkeypatch.setattr(scored_tables, "read_sample", None)
    monkeypatch.setattr(cache, "trust_court", None)
    for name, source in (("today", widgets.BATCH), *((name, widgets.LOG) for name in ("today", "inputs", "estimate"))):
        shown = page(name, source=source)
        assert not shown.exception, (name, source)
        assert not shown.error, (name, source)


def test_the_evidence_of_a_scored_table_is_computed_before_it_is_opened(
    operated_store: tuple[Path, Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, pipeline = operated_store
    apply(folder, shots(400, 3), pipeline)
    cache.prepare_evidence()
    monkeypatch.setattr(DriftDetector, "compare", None)
    assert not page("inputs").exception


def test_what_a_store_holds_is_read_again_once_it_is_written_to_and_only_then(
    operated_store: tuple[Path, Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert operated_store
    store, client = current_store(), mlflow.MlflowClient()
    assert cache.versions_of(store)[0].gate_reason != "of another person"
    with monkeypatch.context() as unread:
        unread.setattr(ModelStore, "versions", None)
        assert cache.versions_of(store)
    client.set_model_version_tag(registry.model(), registry.champion_number(), "gate_reason", "of another person")
    assert cache.versions_of(store)[0].gate_reason == "of another person"


def test_a_missing_log_shows_the_command_that_starts_a_server(operated_store: tuple[Path, Pipeline]) -> None:
    assert operated_store
    shown = page("inputs", source=widgets.LOG)
    assert not shown.exception
    assert "make serve" in texts(shown)


def test_an_empty_time_window_of_the_log_is_an_error(operated_store: tuple[Path, Pipeline], tmp_path: Path) -> None:
    _, pipeline = operated_store
    fill_log(tmp_path / "log.db", pipeline, 100, age=pd.Timedelta("2h"))
    shown = page("inputs", source=widgets.LOG, window="1 hour")
    assert not shown.exception
    assert "no row in this time window" in texts(shown)


def test_filters_of_the_shot_chart_select_their_shots(operated_store: tuple[Path, Pipeline]) -> None:
    folder, pipeline = operated_store
    table = shots(400, 3)
    apply(folder, table, pipeline)
    shown = page("court", shot_chart_period=["1"], shot_chart_result=["made"])
    kept = int(((table["period"] == 1) & (table[TARGET] == 1)).sum())
    assert f"{kept:,} of 400 shots" in texts(shown)


def fill_log(path: Path, pipeline: Pipeline, rows: int, age: pd.Timedelta | None = None, version: str = "1") -> None:
    log, _ = tables(FEATURES)
    engine: sql.Engine = create_engine(f"sqlite:///{path}")
    log.metadata.create_all(engine)
    table = shots(rows, 6)
    made = pipeline.predict_proba(table[list(FEATURES)].to_numpy())[:, 1]
    entries = table[[*FEATURES, TARGET]].assign(
        time=reader.now() - (age or pd.Timedelta(0)).to_pytimedelta(),
        request_id=f"test {version}", row=range(rows), model_version=version,
        prediction=(made >= 0.5).astype(int), probability=made,
    )  # fmt: skip
    with engine.begin() as connection:
        entries.to_sql(log.name, connection, if_exists="append", index=False)


def test_the_entry_point_draws_the_first_page_as_a_plain_script_too(operated_store: tuple[Path, Pipeline]) -> None:
    assert operated_store
    shown = AppTest.from_file(str(ROOT / "monitor" / "app.py"), default_timeout=PAGE_SECONDS).run()
    assert not shown.exception
    assert shown.title[0].value == "Can the model be trusted today?"


def app(endpoint: str = "") -> AppTest:
    """The whole app, with a URL typed into the bar."""
    shown = AppTest.from_file(str(ROOT / "monitor" / "app.py"), default_timeout=PAGE_SECONDS).run()
    return shown.text_input(key="endpoint_typed").set_value(endpoint).run() if endpoint else shown


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("ftp://127.0.0.1:5051", "ftp"),
        ("http://127.0.0.1:99999", "99999"),
        ("http://", "expected"),
        ("http://ana:secret@127.0.0.1:5051", "credentials"),
        ("not a URL", "expected"),
    ],
)
@pytest.mark.usefixtures("operated_store")
def test_an_invalid_url_is_an_error_and_the_pages_keep_the_previous_one(typed: str, expected: str) -> None:
    shown = app("http://127.0.0.1:5052")
    shown = shown.text_input(key="endpoint_typed").set_value(typed).run()
    assert not shown.exception
    message = shown.error[0].value
    assert expected.lower() in message.lower()
    assert "secret" not in message
    assert "The pages keep using http://127.0.0.1:5052" in message.replace("  \n", " ")
    assert shown.title[0].value == "Can the model be trusted today?"
    assert shown.session_state["endpoint"] == "http://127.0.0.1:5052"


@pytest.mark.usefixtures("operated_store")
def test_a_host_with_a_port_is_a_valid_url() -> None:
    shown = app("127.0.0.1:5051")
    assert not shown.exception
    assert not shown.error
    assert shown.title[0].value == "Can the model be trusted today?"
    assert shown.session_state["endpoint"] == "http://127.0.0.1:5051"


@pytest.mark.usefixtures("operated_store")
def test_a_typed_url_is_not_shared_with_other_visitors() -> None:
    first, second = app("http://127.0.0.1:5051"), app()
    assert first.session_state["endpoint"] != second.session_state["endpoint"]


@pytest.mark.usefixtures("operated_store")
def test_an_app_started_with_an_invalid_url_shows_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(widgets.ENDPOINT_VARIABLE, "ftp://127.0.0.1")
    shown = app()
    assert not shown.exception
    assert any(widgets.ENDPOINT_VARIABLE in error.value for error in shown.error)


@pytest.mark.usefixtures("operated_store")
def test_a_monitoring_run_of_the_first_page_checks_the_configured_server_not_the_typed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "steps").mkdir()
    (tmp_path / "serving" / "server").mkdir(parents=True)
    shutil.copy(ROOT / "serving" / "server" / "process_guard.py", tmp_path / "serving" / "server")
    (tmp_path / "steps" / "monitoramento.py").write_text("import json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    monkeypatch.setattr(jobs, "ROOT", tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv(widgets.ENDPOINT_VARIABLE, "http://127.0.0.1:5003")
    shown = page("today", endpoint="http://127.0.0.1:9")
    next(found for found in shown.button if found.label.startswith("Re-run monitoring")).click().run()
    wait_until(lambda: not jobs.latest()[0].running, "the monitoring run to end")
    assert json.loads(jobs.output(jobs.latest()[0])) == [
        *("--current", "application"),
        *("--endpoint", "http://127.0.0.1:5003"),
    ]
    shown = shown.run()
    assert not shown.exception
    assert "Monitoring: `steps.monitoramento` ended with exit code 0" in shown.success[0].value


def log_monitoring(tags: dict[str, str], record: str | None = None, status: str = "FINISHED") -> None:
    every = {"data_source": "synthetic", "source": "application", "reference": "base_test", "current": "prod", **tags}
    run = mlflow.start_run(run_name="Monitoramento", tags=every)
    if record is not None:
        mlflow.log_text(record, "monitoring.json")
    mlflow.end_run(status)
    assert run.info.run_id


@pytest.mark.parametrize("record", ['{"format": 1, "ver', '{"format": 1}', "[]"])
def test_a_damaged_record_of_a_monitoring_run_is_an_error(record: str, operated_store: tuple[Path, Pipeline]) -> None:
    assert operated_store
    log_monitoring({tags_of_runs.HEALTH: "healthy"}, record)
    shown = page("today")
    assert not shown.exception
    assert "Re-run monitoring." in texts(shown)
    assert "every check passed" not in texts(shown)


def test_a_failed_monitoring_run_is_an_error(operated_store: tuple[Path, Pipeline]) -> None:
    assert operated_store
    log_monitoring({}, status="FAILED")
    assert "failed. The current status is unknown." in texts(page("today"))


def test_a_monitoring_run_of_a_given_table_is_not_shown_for_the_production_set(
    operated_store: tuple[Path, Pipeline],
) -> None:
    assert operated_store
    log_monitoring({"source": "table", tags_of_runs.HEALTH: "healthy"}, "{}")
    assert "There is no monitoring run of this data source yet" in texts(page("today"))


@pytest.mark.parametrize("rows", [1, 2, 40])
@pytest.mark.parametrize("labels", ["labeled", "unlabeled"])
def test_the_record_of_an_evaluation_of_few_rows_is_shown(
    rows: int, labels: str, operated_store: tuple[Path, Pipeline]
) -> None:
    folder, pipeline = operated_store
    table = shots(rows, 7)
    apply(folder, table if labels == "labeled" else table.assign(**{TARGET: np.nan}), pipeline)
    current = scored_tables.read_scored(
        tables_of_the_monitor.scored_table(
            current_store(), tables_of_the_monitor.last_batch_scoring(current_store()).run_id
        ),
        default(),
    )
    evaluation = Evaluation(
        reference_data(current_store(), "1"),
        current,
        ServingState(datetime.now(UTC), current_store().champion()),
        "prod",
    )
    log_monitoring({tags_of_runs.HEALTH: "warning"}, json.dumps(to_dict(evaluation, run_checks(evaluation, CHECKS))))
    shown = page("today")
    assert not shown.exception
    assert not shown.error
    labeled = rows if labels == "labeled" else 0
    description = (
        f"Version 1 on the production set: {rows:,} rows, {labeled:,} of them labeled; compared with the test set"
    )
    assert description in texts(shown)


def test_the_first_page_of_a_sample_names_the_rows_of_every_result(
    operated_store: tuple[Path, Pipeline],
) -> None:
    folder, pipeline = operated_store
    apply(folder, shots(400, 7), pipeline)
    current = scored_tables.read_scored(
        tables_of_the_monitor.scored_table(
            current_store(), tables_of_the_monitor.last_batch_scoring(current_store()).run_id
        ),
        default(),
    )
    evaluation = Evaluation(
        reference_data(current_store(), "1"),
        current,
        ServingState(datetime.now(UTC), current_store().champion()),
        "prod",
    )
    found = to_dict(evaluation, run_checks(evaluation, CHECKS))
    found["current"] = {"name": "prod", "rows": 1_000_000, "sampled": 400, "labeled": 400}
    log_monitoring({tags_of_runs.HEALTH: "warning"}, json.dumps(found))
    description = "Version 1 on the production set: a systematic sample of 400 of 1,000,000 rows, 400 of them labeled"
    assert "Drift covers all rows" in texts(page("today"))
    assert description in texts(page("today"))


def promote_second_version(folder: Path) -> None:
    """Make a second version the champion, with tables of its own, as a retraining does."""
    fill_store(folder, shots(1_500, 11), shots(500, 12))


def monitor_production_set() -> None:
    """Log a monitoring run of the latest scored table, as monitoramento does."""
    champion = current_store().champion()
    assert champion
    run_id = tables_of_the_monitor.last_batch_scoring(current_store()).run_id
    current = scored_tables.read_scored(tables_of_the_monitor.scored_table(current_store(), run_id), default())
    judged = rows_of_version(current, champion.version)
    evaluation = Evaluation(
        reference_data(current_store(), judged.version), judged.table, ServingState(datetime.now(UTC), champion), "prod"
    )
    health = run_checks(evaluation, CHECKS)
    tags = {
        tags_of_runs.HEALTH: str(health.status),
        tags_of_runs.BATCH_SCORING_RUN: run_id,
        "model_version": evaluation.version,
    }
    log_monitoring(tags, json.dumps(to_dict(evaluation, health)))


def test_after_a_promotion_the_status_names_the_evaluated_version(
    operated_store: tuple[Path, Pipeline],
) -> None:
    folder, pipeline = operated_store
    apply(folder, shots(400, 7), pipeline)
    monitor_production_set()
    assert "Version 1 on the production set" in texts(page("today"))
    assert "This page describes" not in texts(page("today"))
    promote_second_version(folder)
    cache.clear()
    shown = page("today")
    assert not shown.exception
    assert "**This page describes version 1.** The champion is version 2" in texts(shown)
    assert "Version 2 has not been evaluated yet" in texts(shown)
    assert "every check passed" not in texts(shown)
    assert "Version 1 on the production set: 400 rows" in texts(shown)
    assert "Score the production set with version 2 and evaluate it" in [button.label for button in shown.button]


def test_after_a_rollback_the_latest_status_of_the_champion_is_shown_and_the_newer_run_named(
    operated_store: tuple[Path, Pipeline],
) -> None:
    folder, pipeline = operated_store
    apply(folder, shots(400, 7), pipeline)
    monitor_production_set()
    promote_second_version(folder)
    apply(folder, shots(300, 8), pipeline, version="2")
    monitor_production_set()
    registry.roll_back("a test", "1")
    cache.clear()
    shown = page("today")
    assert not shown.exception
    assert "Version 1 on the production set: 400 rows" in texts(shown)
    assert "This page describes" not in texts(shown)
    assert "evaluated version 2" in texts(shown)
    assert "version 2, which is not the champion, has scored the production set" in texts(shown)
    offered = [button.label for button in shown.button]
    assert "Score the production set with version 1 and evaluate it" in offered
    assert not [label for label in offered if label.startswith("Re-run monitoring")]


def test_after_a_promotion_every_page_names_the_version_that_it_describes(
    operated_store: tuple[Path, Pipeline],
) -> None:
    folder, pipeline = operated_store
    apply(folder, shots(400, 7), pipeline)
    promote_second_version(folder)
    description = (
        "Version 1 on the production set: 400 rows, 400 of them labeled; compared with the test set, scored by the same"
    )
    for name in EVALUATING[1:]:
        shown = page(name)
        assert not shown.exception, name
        assert description in texts(shown), name
        assert "**This page describes version 1.** The champion is version 2" in texts(shown), name


def test_rows_are_compared_with_the_reference_data_of_the_version_that_scored_them(
    operated_store: tuple[Path, Pipeline],
) -> None:
    folder, pipeline = operated_store
    apply(folder, shots(400, 7), pipeline)
    promote_second_version(folder)
    first, second = reference_data(current_store(), "1"), reference_data(current_store(), "2")
    assert (len(first.table), len(second.table)) == (600, 500)
    assert (first.version, second.version) == ("1", "2")
    monitor_production_set()
    found = current_store().monitoring_runs("application")[0]
    assert found.tags["model_version"] == "1"
    logged = json.loads(current_store().artifact(found.run_id, "monitoring.json").read_text(encoding="utf-8"))
    assert (logged["version"], logged["champion"], logged["reference"]["rows"]) == ("1", "2", 600)
    assert logged["status"] != "healthy"


def test_of_a_log_of_two_versions_the_rows_of_the_champion_are_shown_and_the_others_counted(
    operated_store: tuple[Path, Pipeline], tmp_path: Path
) -> None:
    folder, pipeline = operated_store
    promote_second_version(folder)
    fill_log(tmp_path / "log.db", pipeline, 300)
    fill_log(tmp_path / "log.db", pipeline, 200, version="2")
    shown = texts(page("inputs", source=widgets.LOG))
    assert "Version 2 on log: 200 rows" in shown
    assert "Excluded, because other versions scored them: 300 by version 1." in shown


def test_after_a_promotion_all_rows_of_the_champion_are_read_from_a_sampled_log(
    operated_store: tuple[Path, Pipeline], tmp_path: Path
) -> None:
    folder, pipeline = operated_store
    promote_second_version(folder)
    fill_log(tmp_path / "log.db", pipeline, 12_000)
    fill_log(tmp_path / "log.db", pipeline, 150, version="2")
    shown = texts(page("inputs", source=widgets.LOG))
    assert "Version 2 on log: 150 rows, 150 of them labeled" in shown
    assert "Excluded, because other versions scored them: 12,000 by version 1." in shown


def test_rows_of_the_reference_are_excluded_from_the_metrics(operated_store: tuple[Path, Pipeline]) -> None:
    folder, pipeline = operated_store
    apply(folder, shots(600, 2), pipeline)
    shown = page("labels")
    assert not shown.exception
    assert "600 labeled rows are excluded: they are rows of the test set." in texts(shown)


def test_a_given_table_of_aplicacao_is_not_shown_as_the_production_set(operated_store: tuple[Path, Pipeline]) -> None:
    folder, pipeline = operated_store
    apply(folder, shots(300, 7), pipeline)
    run_id = tables_of_the_monitor.last_batch_scoring(current_store()).run_id
    log_monitoring({tags_of_runs.HEALTH: "healthy", tags_of_runs.BATCH_SCORING_RUN: run_id}, "{}")
    given = {"data_source": "table", "synthetic": "unknown", "table": "/somewhere/mine.parquet"}
    with mlflow.start_run(run_name="PipelineAplicacao", tags=given):
        pass
    for name in EVALUATING:
        shown = page(name)
        assert not shown.exception
        assert "does not hold tables/" not in texts(shown)
        assert "has been scored again" not in texts(shown)


def test_drift_of_rows_of_the_reference_is_shown_and_not_evaluated(operated_store: tuple[Path, Pipeline]) -> None:
    folder, pipeline = operated_store
    apply(folder, shots(600, 2), pipeline)
    cards = {metric.label: metric.value for metric in page("inputs").metric}
    assert (cards["Drift"], cards["P(made)"]) == ("not evaluated", "not evaluated")
