"""The pages as Streamlit runs them, over stores in every state that an operation can be in."""

import asyncio
import importlib
import json
import shutil
import tempfile
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

from data.paths import ROOT
from data.schema import FEATURES, TARGET
from monitor.health.baseline import baseline as reference_data
from monitor.health.checks import CHECKS
from monitor.health.evaluation import Evaluation, ServingState, of_version
from monitor.health.record import to_dict
from monitor.health.verdict import run_checks
from monitor.store import runs
from monitor.store import tables as tables_of_the_monitor
from monitor.ui import jobs, widgets
from serving import registry
from serving.inference_log import reader
from serving.inference_log.inference_log import create_engine, tables
from tests.operation_store import apply, fill_store, shots, using_store
from tests.project import PAGE_SECONDS, free_port, wait_until

LOOKING = ("overview", "court", "performance", "drift", "without_labels")
ALL = (*LOOKING, "retraining", "simulator", "operation")


@pytest.fixture(autouse=True)
def nothing_listens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No server, no inference log, nothing remembered from another test."""
    monkeypatch.setenv(widgets.ENDPOINT_VARIABLE, f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("KOBE_INFERENCE_LOG", f"sqlite:///{tmp_path / 'log.db'}")
    st.cache_data.clear()
    st.cache_resource.clear()
    yield
    st.cache_data.clear()
    st.cache_resource.clear()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Pipeline]:
    """Database of a store with a champion, to be copied, and the champion's pipeline."""
    folder = tmp_path_factory.mktemp("filled")
    with using_store(folder / "mlflow.db", folder / "artifacts"):
        return folder / "mlflow.db", fill_store(folder, shots(1_500, 1), shots(600, 2))


@pytest.fixture
def operated_store(filled: tuple[Path, Pipeline], tmp_path: Path) -> Iterator[tuple[Path, Pipeline]]:
    """A store of its own with a champion; where files may be written, and the champion's pipeline."""
    shutil.copy(filled[0], tmp_path / "mlflow.db")
    with using_store(tmp_path / "mlflow.db"):
        yield tmp_path, filled[1]


def page(name: str, **state: object) -> AppTest:
    app = AppTest.from_file(str(ROOT / "monitor" / "ui" / f"{name}.py"), default_timeout=PAGE_SECONDS)
    for key, value in state.items():
        app.session_state[key] = value
    return app.run()


def words(shown: AppTest) -> str:
    parts_shown = (shown.info, shown.error, shown.warning, shown.markdown, shown.caption, shown.code, shown.title)
    return "\n".join(str(element.value) for elements in parts_shown for element in elements)


@pytest.mark.parametrize("name", ALL)
def test_an_empty_store_is_answered_with_the_command_that_fills_it(name: str, store: str) -> None:
    assert store
    shown = page(name)
    assert not shown.exception
    if name != "simulator":
        assert "make main" in words(shown)


@pytest.mark.parametrize("damage", ["cut off", "no database"])
@pytest.mark.parametrize("name", ["overview", "drift", "operation"])
def test_a_damaged_store_is_answered_in_plain_words(
    name: str, damage: str, operated_store: tuple[Path, Pipeline]
) -> None:
    database = operated_store[0] / "mlflow.db"
    whole = database.read_bytes()
    database.write_bytes(whole[: len(whole) // 4] if damage == "cut off" else b"no database at all" * 100)
    shown = page(name)
    assert not shown.exception
    assert ("found a truncated file" if damage == "cut off" else "found a damaged file") in words(shown)
    assert "SQL:" not in words(shown)


def test_the_app_starts_over_a_damaged_store_and_says_so(
    operated_store: tuple[Path, Pipeline], capsys: pytest.CaptureFixture[str]
) -> None:
    (operated_store[0] / "mlflow.db").write_bytes(b"no database at all" * 100)
    started = importlib.import_module("monitor.app")

    async def start() -> None:
        async with started.ready(started.app):
            pass

    asyncio.run(start())
    assert "found a damaged file" in " ".join(capsys.readouterr().err.split())


# Pages of one state are opened in one test: as in the app, they share the look that takes a second.


def test_a_champion_that_was_never_applied_is_answered_in_words(operated_store: tuple[Path, Pipeline]) -> None:
    assert operated_store
    for name in LOOKING:
        shown = page(name)
        assert not shown.exception, name
        expected = "mlflow run . -e monitoramento" if name == "overview" else "mlflow run . -e aplicacao"
        assert expected in words(shown), name


def test_a_scored_table_is_shown_and_the_server_that_is_down_is_told(operated_store: tuple[Path, Pipeline]) -> None:
    folder, pipeline = operated_store
    apply(folder, shots(400, 3), pipeline)
    for name in ALL:
        shown = page(name)
        assert not shown.exception, name
        assert not [error for error in shown.error if "Nothing is promised" not in error.value], name
        if name in {"overview", "operation"}:
            assert "make serve" in words(shown) + str([metric.proto for metric in shown.metric]), name


def test_a_corrupt_table_is_answered_in_words(operated_store: tuple[Path, Pipeline]) -> None:
    folder, pipeline = operated_store
    apply(folder, shots(400, 3), pipeline).write_bytes(b"PAR1 no table")
    for name in LOOKING[1:]:
        shown = page(name)
        assert not shown.exception, name
        assert "cannot be read" in words(shown), name


@pytest.mark.parametrize("rows", [1, 300], ids=["one row", "300 rows"])
def test_an_unlabelled_batch_of_any_size_is_shown(rows: int, operated_store: tuple[Path, Pipeline]) -> None:
    folder, pipeline = operated_store
    apply(folder, shots(rows, 4).assign(**{TARGET: np.nan}), pipeline)
    for name in LOOKING:
        shown = page(name)
        assert not shown.exception, name
        if name == "performance":
            assert "None of these rows has a label" in words(shown)


def test_one_labelled_row_is_shown(operated_store: tuple[Path, Pipeline]) -> None:
    folder, pipeline = operated_store
    apply(folder, shots(1, 5), pipeline)
    for name in LOOKING:
        assert not page(name).exception, name


TABS = {
    "court": ("Shots", "Real against predicted", "Zones", "Rates"),
    "performance": ("Metrics", "Curves and calibration", "Most confident errors", "Slices", "Both candidates"),
    "drift": ("Densities", "Statistics and limits", "Reference or current?", "On the court"),
}


def test_every_tab_of_a_page_is_drawn(operated_store: tuple[Path, Pipeline]) -> None:
    folder, pipeline = operated_store
    apply(folder, shots(400, 3), pipeline)
    for name, tabs in TABS.items():
        for tab in tabs:
            shown = page(name, **{f"{name}_tab": tab})
            assert not shown.exception, tab
            assert not shown.error, tab


def test_the_density_of_every_column_is_drawn(operated_store: tuple[Path, Pipeline]) -> None:
    folder, pipeline = operated_store
    apply(folder, shots(400, 3), pipeline)
    for column in (*FEATURES, "probability"):
        assert not page("drift", drift_column=column).exception, column


def test_rows_of_the_inference_log_are_shown_evenly_spread(
    operated_store: tuple[Path, Pipeline], tmp_path: Path
) -> None:
    _, pipeline = operated_store
    fill_log(tmp_path / "log.db", pipeline, 12_000)
    for name in LOOKING:
        shown = page(name, source=widgets.LOG)
        assert not shown.exception, name
        assert not shown.error, name
    assert "evenly spread of 12,000 rows" in words(page("drift", source=widgets.LOG))


def test_a_log_that_is_not_there_is_told(operated_store: tuple[Path, Pipeline]) -> None:
    assert operated_store
    shown = page("drift", source=widgets.LOG)
    assert not shown.exception
    assert "make serve" in words(shown)


def test_an_empty_window_of_the_log_is_told(operated_store: tuple[Path, Pipeline], tmp_path: Path) -> None:
    _, pipeline = operated_store
    fill_log(tmp_path / "log.db", pipeline, 100, age=pd.Timedelta("2h"))
    shown = page("drift", source=widgets.LOG, window="1 hour")
    assert not shown.exception
    assert "no row in this window" in words(shown)


def test_filters_of_the_court_keep_what_they_say(operated_store: tuple[Path, Pipeline]) -> None:
    folder, pipeline = operated_store
    table = shots(400, 3)
    apply(folder, table, pipeline)
    shown = page("court", court_period=["1"], court_result=["made"])
    kept = int(((table["period"] == 1) & (table[TARGET] == 1)).sum())
    assert f"{kept:,} of 400 shots" in words(shown)


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


def test_the_entry_point_draws_the_overview_as_a_plain_script_too(operated_store: tuple[Path, Pipeline]) -> None:
    assert operated_store
    shown = AppTest.from_file(str(ROOT / "monitor" / "app.py"), default_timeout=PAGE_SECONDS).run()
    assert not shown.exception
    assert shown.title[0].value == "Can the model be trusted today?"


def app(endpoint: str = "") -> AppTest:
    """The whole app, in a browser in which an address was typed into the sidebar."""
    shown = AppTest.from_file(str(ROOT / "monitor" / "app.py"), default_timeout=PAGE_SECONDS).run()
    return shown.text_input(key="endpoint_typed").set_value(endpoint).run() if endpoint else shown


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("ftp://127.0.0.1:5051", "ftp"),
        ("http://127.0.0.1:99999", "99999"),
        ("http://", "expected"),
        ("http://ana:secret@127.0.0.1:5051", "credentials"),
        ("not an address", "expected"),
    ],
)
@pytest.mark.usefixtures("operated_store")
def test_what_is_no_address_is_told_beside_its_field_and_the_pages_go_on_with_the_one_before(
    typed: str, expected: str
) -> None:
    shown = app("http://127.0.0.1:5052")
    shown = shown.text_input(key="endpoint_typed").set_value(typed).run()
    assert not shown.exception
    told = shown.sidebar.error[0].value
    assert expected.lower() in told.lower()
    assert "secret" not in told
    assert "The pages go on asking http://127.0.0.1:5052" in told
    assert shown.title[0].value == "Can the model be trusted today?"
    assert shown.session_state["endpoint"] == "http://127.0.0.1:5052"


@pytest.mark.usefixtures("operated_store")
def test_a_host_with_a_port_is_an_address_and_gives_a_page() -> None:
    shown = app("127.0.0.1:5051")
    assert not shown.exception
    assert not shown.sidebar.error
    assert shown.title[0].value == "Can the model be trusted today?"
    assert shown.session_state["endpoint"] == "http://127.0.0.1:5051"


@pytest.mark.usefixtures("operated_store")
def test_an_address_that_one_visitor_typed_is_not_that_of_another() -> None:
    first, second = app("http://127.0.0.1:5051"), app()
    assert first.session_state["endpoint"] != second.session_state["endpoint"]


@pytest.mark.usefixtures("operated_store")
def test_an_app_that_was_started_with_what_is_no_address_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(widgets.ENDPOINT_VARIABLE, "ftp://127.0.0.1")
    shown = app()
    assert not shown.exception
    assert any(widgets.ENDPOINT_VARIABLE in error.value for error in shown.error)


@pytest.mark.usefixtures("operated_store")
def test_a_look_from_the_overview_asks_the_configured_server_not_the_one_that_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "steps").mkdir()
    (tmp_path / "serving" / "server").mkdir(parents=True)
    shutil.copy(ROOT / "serving" / "server" / "process_guard.py", tmp_path / "serving" / "server")
    (tmp_path / "steps" / "monitoramento.py").write_text("import json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    monkeypatch.setattr(jobs, "ROOT", tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv(widgets.ENDPOINT_VARIABLE, "http://127.0.0.1:5003")
    shown = page("overview", endpoint="http://127.0.0.1:9")
    next(found for found in shown.button if found.label.startswith("Look again")).click().run()
    wait_until(lambda: not jobs.latest()[0].running, "the look to end")
    assert json.loads(jobs.output(jobs.latest()[0])) == [
        *("--current", "application"),
        *("--endpoint", "http://127.0.0.1:5003"),
    ]
    shown = shown.run()
    assert not shown.exception
    assert "Monitoring: `steps.monitoramento` ended with exit code 0" in shown.success[0].value


def looked(tags: dict[str, str], record: str | None = None, status: str = "FINISHED") -> None:
    every = {"data_source": "synthetic", "source": "application", "reference": "base_test", "current": "prod", **tags}
    run = mlflow.start_run(run_name="Monitoramento", tags=every)
    if record is not None:
        mlflow.log_text(record, "monitoring.json")
    mlflow.end_run(status)
    assert run.info.run_id


@pytest.mark.parametrize("record", ['{"format": 1, "ver', '{"format": 1}', "[]"])
def test_a_damaged_record_of_a_look_is_told(record: str, operated_store: tuple[Path, Pipeline]) -> None:
    assert operated_store
    looked({"verdict": "healthy"}, record)
    shown = page("overview")
    assert not shown.exception
    assert "Look again" in words(shown)
    assert "it can be trusted" not in words(shown)


def test_a_look_that_failed_is_not_passed_over_in_silence(operated_store: tuple[Path, Pipeline]) -> None:
    assert operated_store
    looked({}, status="FAILED")
    assert "failed: nothing is known since" in words(page("overview"))


def test_a_look_at_a_table_of_that_name_is_not_taken_for_one_at_prod(operated_store: tuple[Path, Pipeline]) -> None:
    assert operated_store
    looked({"source": "table", "verdict": "healthy"}, "{}")
    assert "Nobody has looked" in words(page("overview"))


@pytest.mark.parametrize("rows", [1, 2, 40])
@pytest.mark.parametrize("labels", ["labelled", "unlabelled"])
def test_the_record_of_a_real_look_at_few_rows_is_shown(
    rows: int, labels: str, operated_store: tuple[Path, Pipeline]
) -> None:
    folder, pipeline = operated_store
    table = shots(rows, 7)
    apply(folder, table if labels == "labelled" else table.assign(**{TARGET: np.nan}), pipeline)
    current = tables_of_the_monitor.read_scored(
        tables_of_the_monitor.application_table(tables_of_the_monitor.application_run().run_id)
    )
    look = Evaluation(reference_data("1"), current, ServingState(datetime.now(UTC), runs.champion()), "prod")
    looked({"verdict": "watch"}, json.dumps(to_dict(look, run_checks(look, CHECKS))))
    shown = page("overview")
    assert not shown.exception
    assert not shown.error
    labeled = rows if labels == "labelled" else 0
    rows_told = f"Version 1 on prod: {rows:,} rows, {labeled:,} of them labeled; compared with base\\_test"
    assert rows_told in words(shown)


def test_of_a_look_at_some_rows_it_is_said_what_is_of_them_and_what_of_all(
    operated_store: tuple[Path, Pipeline],
) -> None:
    folder, pipeline = operated_store
    apply(folder, shots(400, 7), pipeline)
    current = tables_of_the_monitor.read_scored(
        tables_of_the_monitor.application_table(tables_of_the_monitor.application_run().run_id)
    )
    look = Evaluation(reference_data("1"), current, ServingState(datetime.now(UTC), runs.champion()), "prod")
    found = to_dict(look, run_checks(look, CHECKS))
    found["current"] = {"name": "prod", "rows": 1_000_000, "sampled": 400, "labelled": 400}
    looked({"verdict": "watch"}, json.dumps(found))
    told = "Version 1 on prod: 400 evenly spread of 1,000,000 rows, 400 of them labeled; compared with base\\_test"
    assert "Drift is of all of them" in words(page("overview"))
    assert told in words(page("overview"))


def promote_another(folder: Path) -> None:
    """Make a second version the champion, with tables of its own, as a retraining does."""
    fill_store(folder, shots(1_500, 11), shots(500, 12))


def look_at_prod() -> None:
    """Log a monitoring of the table that was applied last, as monitoramento does."""
    champion = runs.champion()
    assert champion
    run_id = tables_of_the_monitor.application_run().run_id
    current = tables_of_the_monitor.read_scored(tables_of_the_monitor.application_table(run_id))
    judged = of_version(current, champion.version)
    look = Evaluation(reference_data(judged.version), judged.table, ServingState(datetime.now(UTC), champion), "prod")
    health = run_checks(look, CHECKS)
    tags = {"verdict": str(health.verdict), "application_run": run_id, "model_version": look.version}
    looked(tags, json.dumps(to_dict(look, health)))


def labels(shown: AppTest) -> list[str]:
    return [metric.label for metric in shown.metric]


def test_after_a_promotion_the_verdict_is_said_to_be_about_the_old_version(
    operated_store: tuple[Path, Pipeline],
) -> None:
    folder, pipeline = operated_store
    apply(folder, shots(400, 7), pipeline)
    look_at_prod()
    assert "version 1" in words(page("overview"))
    assert "These figures are about" not in words(page("overview"))
    promote_another(folder)
    st.cache_data.clear()
    shown = page("overview")
    assert not shown.exception
    assert "**These figures are about version 1.** The champion is version 2" in words(shown)
    assert "Nobody knows yet whether version 2 can be trusted" in words(shown)
    assert "Yes, it can be trusted" not in words(shown)
    assert {"Log loss of v1, nats", "Skill of v1", "ROC AUC of v1"} <= set(labels(shown))
    assert "Score prod with version 2 and monitor it" in [button.label for button in shown.button]


def test_after_a_rollback_the_newest_verdict_about_the_champion_is_shown_and_the_newer_one_said(
    operated_store: tuple[Path, Pipeline],
) -> None:
    folder, pipeline = operated_store
    apply(folder, shots(400, 7), pipeline)
    look_at_prod()
    promote_another(folder)
    apply(folder, shots(300, 8), pipeline, version="2")
    look_at_prod()
    registry.roll_back("a test", "1")
    st.cache_data.clear()
    shown = page("overview")
    assert not shown.exception
    assert "Version 1 on prod: 400 rows" in words(shown)
    assert "These figures are about" not in words(shown)
    assert "was at version 2" in words(shown)
    assert "applied since this look by version 2, which is not the champion" in words(shown)
    offered = [button.label for button in shown.button]
    assert "Score prod with version 1 and monitor it" in offered
    assert not [label for label in offered if label.startswith("Look again")]


def test_after_a_promotion_every_page_says_which_version_its_figures_are_about(
    operated_store: tuple[Path, Pipeline],
) -> None:
    folder, pipeline = operated_store
    apply(folder, shots(400, 7), pipeline)
    promote_another(folder)
    about = "Version 1 on prod: 400 rows, 400 of them labeled; compared with base\\_test, scored by the same"
    for name in LOOKING[1:]:
        shown = page(name)
        assert not shown.exception, name
        assert about in words(shown), name
        assert "**These figures are about version 1.** The champion is version 2" in words(shown), name


def test_rows_are_compared_with_the_tables_and_the_answers_of_the_version_that_scored_them(
    operated_store: tuple[Path, Pipeline],
) -> None:
    folder, pipeline = operated_store
    apply(folder, shots(400, 7), pipeline)
    promote_another(folder)
    first, second = reference_data("1"), reference_data("2")
    assert (len(first.table), len(second.table)) == (600, 500)
    assert (first.version, second.version) == ("1", "2")
    look_at_prod()
    found = runs.monitoring_runs("application")[0]
    assert found.tags["model_version"] == "1"
    kept = json.loads(tables_of_the_monitor.artifact(found.run_id, "monitoring.json").read_text(encoding="utf-8"))
    assert (kept["version"], kept["champion"], kept["reference"]["rows"]) == ("1", "2", 600)
    assert kept["verdict"] != "healthy"


def test_of_a_log_in_which_two_versions_answered_the_champions_rows_are_shown_and_the_others_counted(
    operated_store: tuple[Path, Pipeline], tmp_path: Path
) -> None:
    folder, pipeline = operated_store
    promote_another(folder)
    fill_log(tmp_path / "log.db", pipeline, 300)
    fill_log(tmp_path / "log.db", pipeline, 200, version="2")
    shown = words(page("drift", source=widgets.LOG))
    assert "Version 2 on log: 200 rows" in shown
    assert "Left out, because others scored them: 300 by version 1." in shown


def test_after_a_promotion_all_rows_of_the_champion_are_read_from_a_log_that_is_sampled(
    operated_store: tuple[Path, Pipeline], tmp_path: Path
) -> None:
    folder, pipeline = operated_store
    promote_another(folder)
    fill_log(tmp_path / "log.db", pipeline, 12_000)
    fill_log(tmp_path / "log.db", pipeline, 150, version="2")
    shown = words(page("drift", source=widgets.LOG))
    assert "Version 2 on log: 150 rows, 150 of them labeled" in shown
    assert "Left out, because others scored them: 12,000 by version 1." in shown


def test_rows_that_the_reference_holds_are_not_said_to_be_fine(operated_store: tuple[Path, Pipeline]) -> None:
    folder, pipeline = operated_store
    apply(folder, shots(600, 2), pipeline)
    shown = page("performance")
    assert not shown.exception
    assert "600 labeled rows do not count: they are rows of base\\_test itself." in words(shown)


def test_a_table_that_was_given_to_aplicacao_is_not_taken_for_prod(operated_store: tuple[Path, Pipeline]) -> None:
    folder, pipeline = operated_store
    apply(folder, shots(300, 7), pipeline)
    run_id = tables_of_the_monitor.application_run().run_id
    looked({"verdict": "healthy", "application_run": run_id}, "{}")
    given = {"data_source": "table", "synthetic": "unknown", "table": "/somewhere/mine.parquet"}
    with mlflow.start_run(run_name="PipelineAplicacao", tags=given):
        pass
    for name in LOOKING:
        shown = page(name)
        assert not shown.exception
        assert "does not hold tables/" not in words(shown)
        assert "has been applied again" not in words(shown)


def test_drift_of_rows_that_the_reference_holds_is_shown_and_not_judged(operated_store: tuple[Path, Pipeline]) -> None:
    folder, pipeline = operated_store
    apply(folder, shots(600, 2), pipeline)
    cards = {metric.label: metric.value for metric in page("drift").metric}
    assert (cards["Drift"], cards["P(made)"]) == ("not judged", "not judged")
