"""The page Champions, run by Streamlit."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from streamlit.testing.v1 import AppTest

from data.paths import ROOT
from monitor.retraining import backtest, calendar, decision_log, promotion_test
from monitor.store import records, tags
from monitor.ui import cache, jobs, widgets
from serving import registry
from serving.registry.gate import GateResult
from tests.operation_store import (
    backtest_record,
    decision_record,
    log_backtest,
    log_decision,
    log_monitoring_run,
    using_store,
)
from tests.project import PAGE_SECONDS, wait_until
from tests.text_tables import text_tables

ACTIONS, CALENDAR, BACKTEST = "Retrain and roll back", "Calendar", "Policy backtest"
LABELS = {
    "auto": "Apply the retraining policy",
    "dry_run": "Dry run",
    "force": "Force retraining",
    "": "Train from scratch on the prepared tables",
}
OUTCOMES = (
    records.PENDING,
    records.AWAITING,
    records.PROMOTED,
    records.REJECTED,
    records.INTERRUPTED,
    records.FAILED,
    records.NOTHING_TO_DO,
)


@pytest.fixture(autouse=True)
def empty_cache() -> Iterator[None]:
    """An empty cache."""
    cache.clear()
    yield
    cache.clear()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, operated_database: Path) -> Path:
    """Database of a store, to be copied: versions 1 and 2 were champions, 3 passed the gate, 4 did not."""
    folder = tmp_path_factory.mktemp("filled")
    with using_store(Path(shutil.copy(operated_database, folder / "mlflow.db"))):
        first = MlflowClient().get_model_version(registry.model(), "1")
        for passed in (True, True, False):
            version = registry.register(first.source, first.run_id, {"model_id": "sg", "test_log_loss": "0.65"}, "")
            registry.record_gate_result(
                version, GateResult(1_000, 0.67, 0.69, -0.03, -0.01, passed=passed, reason="a test")
            )
        registry.promote("2", "for a test")
    return folder / "mlflow.db"


@pytest.fixture
def champions(filled: Path, tmp_path: Path) -> Iterator[None]:
    """A store with those versions."""
    shutil.copy(filled, tmp_path / "mlflow.db")
    with using_store(tmp_path / "mlflow.db"):
        yield


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose steps print their arguments; its jobs are stopped at teardown."""
    folder = tmp_path / "bundle"
    (folder / "serving" / "server").mkdir(parents=True)
    (folder / "steps").mkdir()
    (folder / "serving" / "server" / "process_guard.py").write_bytes(
        (ROOT / "serving" / "server" / "process_guard.py").read_bytes()
    )
    for name in jobs.KINDS:
        (folder / "steps" / f"{name}.py").write_text("import json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    monkeypatch.setattr(jobs, "ROOT", folder)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.delenv(widgets.ENDPOINT_VARIABLE, raising=False)
    yield folder / "steps"
    for job in jobs.latest():
        jobs.stop(job)
    wait_until(lambda: not any(job.running for job in jobs.latest()), "the jobs to end")


def page(tab: str = "Decisions", **state: object) -> AppTest:
    test = AppTest.from_file(str(ROOT / "monitor" / "ui" / "champions.py"), default_timeout=PAGE_SECONDS)
    for key, value in {"retraining_tab": tab, **state}.items():
        test.session_state[key] = value
    return test.run()


def button(test: AppTest, label: str) -> AppTest:
    return next(found for found in test.button if found.label == label).click().run()


def completed(test: AppTest, label: str) -> AppTest:
    """Click on a button that starts a job, and render the page when the job has ended."""
    test = button(test, label)
    assert not test.exception
    wait_until(lambda: not any(job.running for job in jobs.latest()), "the job to end")
    cache.clear()
    return test.run()


def enabled(test: AppTest, label: str) -> bool:
    return not next(found for found in test.button if found.label == label).disabled


def confirmed(test: AppTest, what: str) -> AppTest:
    return next(found for found in test.checkbox if f"confirm_{what}_" in str(found.key)).check().run()


def retraining(mode: str, **state: object) -> AppTest:
    return page(ACTIONS, **state).radio(key="actions_retraining").set_value(LABELS[mode]).run()


def rolling_back(reason: str = "", version: str = "") -> AppTest:
    shown = page(ACTIONS)
    if version:
        shown.selectbox(key="actions_version_0").set_value(version)
    return shown.text_input(key="actions_reason_0").set_value(reason).run()


def arguments_of(shown: AppTest) -> list[str]:
    """Parameters of the step."""
    return list(json.loads(shown.code[0].value))


def texts(shown: AppTest) -> str:
    parts_shown = (shown.info, shown.error, shown.warning, shown.markdown, shown.caption, shown.code, shown.title)
    return "\n".join(str(element.value) for elements in parts_shown for element in elements)


def metrics(shown: AppTest) -> dict[str, str]:
    return {found.label: found.value for found in shown.metric}


def ago(**duration: float) -> datetime:
    return datetime.now(UTC) - timedelta(**duration)


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("tab", "command"),
    [
        ("Decisions", "mlflow run . -e retreino"),
        (CALENDAR, "make main"),
        (BACKTEST, "mlflow run . -e operacao"),
        (ACTIONS, "make main"),
    ],
)
def test_an_empty_store_shows_the_command_that_fills_it(tab: str, command: str) -> None:
    shown = page(tab)
    assert not shown.exception
    assert not shown.error
    assert command in texts(shown)


@pytest.mark.parametrize("tab", ["Decisions", CALENDAR, BACKTEST, ACTIONS])
def test_a_damaged_store_is_an_error_message(store: str, tab: str) -> None:
    broken = Path(store.removeprefix("sqlite:///")).with_name("broken.db")
    broken.write_bytes(b"this is not a database" * 99)
    mlflow.set_tracking_uri(f"sqlite:///{broken}")
    shown = page(tab)
    assert not shown.exception
    assert "broken.db" in shown.error[0].value


@pytest.mark.usefixtures("champions")
def test_a_champion_without_decisions_is_shown_with_the_command_that_evaluates_the_policy() -> None:
    shown = page()
    assert not shown.exception
    assert "There is no retraining decision yet" in texts(shown)
    assert "mlflow run . -e retreino" in texts(shown)
    assert len(shown.get("plotly_chart")) == 1


@pytest.mark.usefixtures("champions")
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_the_last_decision_is_shown_with_its_reasons_and_outcome(outcome: str) -> None:
    log_decision(1)
    log_decision(
        2, "retrain", reasons=["log loss rose by 21%", "support is *thin*"],
        trigger="reactive", outcome=outcome, outcome_reason="a reason", model_version="4",
        record=decision_record(tested=True),
    )  # fmt: skip
    shown = page()
    assert not shown.exception
    assert not shown.error
    shown_texts = texts(shown)
    assert "Decision 2, 22 Nov 2026 10:00 UTC: retrain (reactive)." in shown_texts
    assert "- log loss rose by 21%\n- support is \\*thin\\*" in shown_texts
    assert "Outcome: a reason." in shown_texts
    assert "challenger version 4" in shown_texts
    assert metrics(shown)["Champion"] == "v2"


@pytest.mark.usefixtures("champions")
def test_decisions_are_listed_newest_first_with_their_reasons() -> None:
    for number, outcome in enumerate(OUTCOMES, start=1):
        log_decision(number, "retrain", when=ago(days=30 - number), outcome=outcome, model_version=str(number))
    log_decision(8, reasons=["no trigger fired", "enough labels"], when=ago(days=1))
    log_decision(9, "retrain", mode="dry_run", when=ago(hours=1))
    shown = page()
    assert not shown.exception
    table = text_tables(shown)[0]
    assert table["Number"].tolist() == ["9", "8", "7", "6", "5", "4", "3", "2", "1"]
    assert table["Outcome"].tolist() == ["-", "-", *reversed(OUTCOMES)]
    assert table["Reasons"].tolist()[1] == "no trigger fired | enough labels"
    assert table["Decision"].tolist()[0] == "retrain | dry run"


@pytest.mark.usefixtures("champions")
def test_a_selected_decision_shows_all_its_details() -> None:
    selected = log_decision(1, "retrain", outcome="promoted", record=decision_record(tested=True))
    log_decision(2, record=decision_record())
    shown = page(retraining_decision=selected)
    assert not shown.exception
    assert not shown.error
    triggers, preconditions, windows, criteria = text_tables(shown)[1:]
    assert triggers["status"].tolist() == ["▲ fired", "· unknown", "✓ did not fire"]
    assert preconditions["status"].tolist() == ["✓ met", "✗ not met"]
    assert windows["breaches"].tolist() == ["none", "log loss rose by 21%, from 0.660 to 0.800"]
    assert windows["log loss"].tolist() == ["0.6600", "0.8000"]
    assert criteria["difference"].tolist()[0].startswith("-0.0240 | [")
    assert "Promotion test: passed.** better on" in texts(shown)


@pytest.mark.usefixtures("champions")
@pytest.mark.parametrize(
    ("logged", "expected"),
    [
        (json.dumps(decision_record(tested=True)["promotion_test"]), "Promotion test: passed"),
        ('{"rows": ', "cannot be read"),
        (None, "holds all details"),
    ],
)
def test_the_promotion_test_is_read_from_the_training_run(logged: str | None, expected: str) -> None:
    run_id = log_decision(1, "retrain", record=decision_record())
    with mlflow.start_run(run_id), mlflow.start_run(run_name="Treinamento", nested=True):
        if logged:
            mlflow.log_text(logged, promotion_test.FILE)
    shown = page()
    assert not shown.exception
    assert not shown.error
    assert expected in texts(shown)
    assert len(text_tables(shown)) == 4 + ("passed" in expected)


@pytest.mark.usefixtures("champions")
@pytest.mark.parametrize("record", [None, '{"triggers": [', "[]"], ids=["missing", "truncated", "a list"])
def test_a_damaged_record_of_a_decision_is_an_error_and_its_reasons_are_shown(record: str | None) -> None:
    log_decision(1, reasons=["no trigger fired"], record=record)
    shown = page()
    assert not shown.exception
    assert decision_log.RECORD in shown.error[0].value
    assert "- no trigger fired" in texts(shown)


@pytest.mark.usefixtures("champions")
@pytest.mark.parametrize(
    "record",
    [
        {},
        {"triggers": None, "preconditions": "all", "windows": 3, "promotion_test": []},
        {"triggers": [1, None], "preconditions": [], "windows": {}, "promotion_test": None},
    ],
)
def test_a_record_without_details_is_an_info_message(record: dict[str, object]) -> None:
    log_decision(1, record=record)
    shown = page()
    assert not shown.exception
    assert "holds no details" in texts(shown)


@pytest.mark.usefixtures("champions")
@pytest.mark.parametrize(
    "record",
    [
        {"triggers": [{}], "preconditions": [{}], "windows": [{}], "promotion_test": {}},
        {"triggers": [{"name": 1, "fired": "maybe", "summary": None, "details": {"rows": 3}}]},
        {
            "windows": [{"start": 3, "log_loss": "high", "breaches": "many"}],
            "promotion_test": {"criteria": [{}]},
        },
    ],
)
def test_a_record_of_unexpected_types_is_shown_unchanged(record: dict[str, object]) -> None:
    log_decision(1, record=record)
    assert not page().exception


@pytest.mark.usefixtures("champions")
def test_a_decision_with_damaged_tags_is_an_error_and_the_actions_are_shown() -> None:
    log_decision(1, decided_at="yesterday")
    shown = page(ACTIONS)
    assert not shown.exception
    assert "yesterday" in shown.error[0].value
    assert any(found.label == "Roll back" for found in shown.button)


@pytest.mark.usefixtures("champions")
def test_the_calendar_shows_the_next_scheduled_run_and_the_events_of_the_month() -> None:
    log_monitoring_run(ago(hours=2))
    decided = ago(hours=1)
    log_decision(1, when=decided)
    shown = page(CALENDAR)
    assert not shown.exception
    due = decided + timedelta(days=7)
    assert f"{due.day} {due:%B %Y} " in texts(shown)
    assert {calendar.MONITORING, calendar.DECISION, calendar.PROMOTION} <= set(text_tables(shown)[0]["event"])
    assert "Earliest next training: now" in texts(shown)
    assert "The champion is stale from" in texts(shown)


@pytest.mark.usefixtures("champions")
def test_an_overdue_monitoring_run_is_a_warning() -> None:
    log_decision(1, when=ago(days=20))
    shown = page(CALENDAR)
    assert not shown.exception
    assert "Overdue since" in shown.warning[0].value
    assert metrics(shown)["Next scheduled run"] == "overdue"


@pytest.mark.usefixtures("champions")
def test_the_cadence_is_kept_while_its_widget_is_not_rendered() -> None:
    log_decision(1, when=ago(days=20))
    shown = page(CALENDAR)
    shown.selectbox(key="retraining_cadence").set_value("month").run()
    assert not shown.warning
    shown.session_state["retraining_tab"] = "Decisions"
    assert metrics(shown.run())["Next scheduled run"] != "overdue"
    shown.session_state["retraining_tab"] = CALENDAR
    assert shown.run().selectbox(key="retraining_cadence").value == "month"


@pytest.mark.usefixtures("champions")
def test_the_calendar_shows_other_months() -> None:
    log_monitoring_run(ago(hours=1))
    shown = page(CALENDAR)
    this = set(text_tables(shown)[0]["event"])
    assert calendar.MONITORING in this
    shown = button(button(shown, "Previous month"), "Previous month")
    assert not shown.exception
    assert "There is no event in this month" in texts(shown)
    shown = button(shown, "This month")
    assert set(text_tables(shown)[0]["event"]) == this
    assert set(text_tables(button(shown, "Next month"))[0]["event"]) == {calendar.DUE}


@pytest.mark.usefixtures("champions")
def test_the_next_monitoring_runs_can_be_exported_to_a_calendar() -> None:
    log_decision(1)
    assert [found.label for found in page(CALENDAR).download_button] == ["Add to calendar (.ics)"]


@pytest.mark.usefixtures("champions")
def test_a_policy_backtest_is_shown_with_its_results_and_its_decisions() -> None:
    log_decision(1, reasons=["of the champion"])
    run_id = log_backtest(backtest_record())
    with registry.use_model_name("kobe_shot_backtest"):
        log_decision(1, reasons=["of the backtest"], backtest=run_id, record=decision_record())
        log_decision(2, reasons=["of another backtest"], backtest="another")
    shown = page(BACKTEST)
    assert not shown.exception
    assert not shown.error
    found = metrics(shown)
    assert [found[name.capitalize()] for name in backtest.STRATEGIES.values()] == ["0.6340", "0.6530", "0.6330"]
    assert "6 batches of 500 rows" in texts(shown)
    assert len(shown.get("plotly_chart")) == 1
    assert text_tables(shown)[0]["Reasons"].tolist() == ["of the backtest"]


@pytest.mark.usefixtures("champions")
@pytest.mark.parametrize(
    "record",
    [
        None,
        '{"format": 2, "bat',
        "[]",
        json.dumps({**backtest_record(), "format": 3}),
        json.dumps({**backtest_record(), "strategies": {}}),
        json.dumps({**backtest_record(), "batches": [{"number": 1}]}),
        json.dumps({**backtest_record(), "events": [{"batch": 1, "kind": "party", "summary": ""}]}),
    ],
    ids=["missing", "truncated", "a list", "another format", "no results", "an incomplete batch", "an unknown event"],
)
def test_a_damaged_backtest_is_an_error_with_the_command_that_runs_another(record: str | None) -> None:
    log_backtest(record)
    shown = page(BACKTEST)
    assert not shown.exception
    assert backtest.FILE in shown.error[0].value
    assert "This backtest holds no decision" in texts(shown)


def of_0_1_0(record: object, keys: dict[str, str]) -> str:
    """A record by the keys of 0.1.0, as JSON."""
    return json.dumps(tags.current_record(record, {today: former for former, today in keys.items()}, {}))


@pytest.mark.usefixtures("champions")
def test_a_backtest_of_0_1_0_is_shown() -> None:
    log_backtest(of_0_1_0({**backtest_record(), "format": 1}, tags.FORMER_BACKTEST_KEYS))
    shown = page(BACKTEST)
    assert not shown.exception
    assert not shown.error
    assert list(metrics(shown).values())[-3:] == ["0.6340", "0.6530", "0.6330"]
    assert shown.dataframe[0].value["labeled"].tolist() == [0, *[400] * 5]


@pytest.mark.usefixtures("champions")
def test_a_decision_of_0_1_0_is_shown_with_its_promotion_test() -> None:
    run_id = log_decision(1, "retrain", record=of_0_1_0(decision_record(), tags.FORMER_DECISION_KEYS))
    with mlflow.start_run(run_id), mlflow.start_run(run_name="Treinamento", nested=True):
        logged = of_0_1_0(decision_record(tested=True)["promotion_test"], tags.FORMER_DECISION_KEYS)
        mlflow.log_text(logged, tags.former_path(promotion_test.FILE))
    shown = page()
    assert not shown.exception
    triggers, preconditions, windows, criteria = text_tables(shown)[1:]
    assert triggers["summary"].tolist() == ["2 of 3 breach", "2 windows", "inside | 3%"]
    assert preconditions["status"].tolist() == ["✓ met", "✗ not met"]
    assert windows["breaches"].tolist() == ["none", "log loss rose by 21%, from 0.660 to 0.800"]
    assert (criteria["result"].tolist(), criteria["rows"].tolist()) == (["passed"], ["500"])


@pytest.mark.usefixtures("champions")
def test_a_backtest_without_batches_is_shown() -> None:
    log_backtest({**backtest_record(), "batches": [], "events": []})
    shown = page(BACKTEST)
    assert not shown.exception
    assert "0 batches" in texts(shown)


@pytest.mark.usefixtures("champions")
@pytest.mark.parametrize(
    ("mode", "source", "current"), [("auto", widgets.BATCH, "application"), ("force", widgets.LOG, "log")]
)
def test_a_confirmed_retraining_uses_the_selected_data_source(
    steps: Path, mode: str, source: str, current: str
) -> None:
    assert steps
    shown = retraining(mode, source=source)
    assert not enabled(shown, "Retrain")
    shown = completed(confirmed(shown, "retrain"), "Retrain")
    assert not shown.exception
    assert "`steps.retreino` ended with exit code 0" in shown.success[0].value
    assert "The champion is still version 2" in shown.success[0].value
    assert arguments_of(shown) == ["--mode", mode, "--current", current]
    assert not any(found.value for found in shown.checkbox)


@pytest.mark.usefixtures("champions")
def test_a_dry_run_needs_no_confirmation(steps: Path) -> None:
    assert steps
    shown = completed(retraining("dry_run"), "Start the dry run")
    assert not shown.exception
    assert arguments_of(shown) == ["--mode", "dry_run", "--current", "application"]


@pytest.mark.usefixtures("champions")
@pytest.mark.parametrize(
    ("label", "what", "name", "arguments"),
    [
        ("Retrain", "retrain", "treinamento", []),
        ("Run batch scoring", "apply", "aplicacao", []),
        (
            "Re-run monitoring",
            "monitor",
            "monitoramento",
            ["--current", "application", "--endpoint", "http://127.0.0.1:5001"],
        ),
    ],
)
def test_the_other_steps_run_once_they_are_confirmed(
    steps: Path, label: str, what: str, name: str, arguments: list[str]
) -> None:
    assert steps
    shown = retraining("")
    assert not enabled(shown, label)
    shown = completed(confirmed(shown, what), label)
    assert not shown.exception
    assert f"`steps.{name}` ended with exit code 0" in shown.success[0].value
    assert arguments_of(shown) == arguments


@pytest.mark.usefixtures("champions")
def test_a_step_that_fails_is_an_error_with_its_output(steps: Path) -> None:
    (steps / "retreino.py").write_text("import sys\nsys.exit('there are no labels')\n")
    shown = completed(confirmed(retraining("auto"), "retrain"), "Retrain")
    assert not shown.exception
    assert "ended with exit code 1" in shown.error[0].value
    assert "there are no labels" in shown.code[0].value


@pytest.mark.usefixtures("champions")
def test_the_new_champion_is_named_when_a_retraining_ends(steps: Path) -> None:
    log_decision(1)
    lines = ["import sys", f"sys.path.insert(0, {str(ROOT)!r})", "from serving import registry"]
    (steps / "retreino.py").write_text("\n".join([*lines, "registry.promote('3', 'better')"]))
    shown = completed(confirmed(retraining("auto"), "retrain"), "Retrain")
    assert "The champion is now version 3" in shown.success[0].value
    assert metrics(shown)["Champion"] == "v3"


@pytest.mark.usefixtures("champions")
def test_a_rollback_requires_a_reason_and_a_confirmation(steps: Path) -> None:
    assert steps
    assert not enabled(rolling_back("it misses layups"), "Roll back")
    assert not enabled(confirmed(rolling_back(), "roll_back"), "Roll back")
    assert not enabled(confirmed(rolling_back("   "), "roll_back"), "Roll back")
    assert enabled(confirmed(rolling_back("it misses layups"), "roll_back"), "Roll back")


@pytest.mark.usefixtures("champions")
@pytest.mark.parametrize(("version", "expected"), [("", "1"), ("3", "3")])
def test_a_rollback_restores_the_previous_champion_or_the_selected_version(
    steps: Path, version: str, expected: str
) -> None:
    assert steps
    shown = completed(confirmed(rolling_back("--it; misses $(layups)", version), "roll_back"), "Roll back")
    assert not shown.exception
    assert "`steps.reverter` ended with exit code 0" in shown.success[0].value
    assert arguments_of(shown) == ["--reason=--it; misses $(layups)", f"--version={expected}"]
    assert shown.text_input(key="actions_reason_1").value == ""


@pytest.mark.usefixtures("champions")
def test_versions_and_promotions_are_shown_with_their_reasons() -> None:
    shown = page("Versions")
    assert not shown.exception
    versions, promotions = text_tables(shown)
    assert versions["Gate"].tolist() == ["rejected | a test", *["passed | a test"] * 2, versions["Gate"].tolist()[-1]]
    assert promotions["Previous champion"].tolist() == ["1", "-"]


@pytest.mark.usefixtures("champions")
def test_only_versions_that_passed_the_gate_and_are_not_champion_can_be_restored() -> None:
    offered = page(ACTIONS).selectbox(key="actions_version_0").options
    assert [found.partition(" (")[0] for found in offered] == ["the previous champion, version 1", "version 3"]


@pytest.mark.usefixtures("champions")
def test_the_restored_champion_is_shown(steps: Path) -> None:
    log_decision(1)
    lines = ["import sys", f"sys.path.insert(0, {str(ROOT)!r})", "from serving import registry"]
    (steps / "reverter.py").write_text("\n".join([*lines, "registry.roll_back('it misses layups', '1')"]))
    shown = completed(confirmed(rolling_back("it misses layups"), "roll_back"), "Roll back")
    assert "The champion is now version 1" in shown.success[0].value
    assert metrics(shown)["Champion"] == "v1"


def test_without_another_version_that_passed_no_rollback_is_offered(champions: None) -> None:
    del champions
    for version in ("1", "3"):
        MlflowClient().set_model_version_tag(registry.model(), version, "gate", "rejected")
    shown = page(ACTIONS)
    assert not shown.exception
    assert "No rollback is possible" in texts(shown)
    assert not any(found.label == "Roll back" for found in shown.button)


@pytest.mark.usefixtures("champions")
def test_refresh_hides_the_ended_jobs(steps: Path) -> None:
    assert steps
    shown = completed(retraining("dry_run"), "Start the dry run")
    assert shown.success
    assert not button(shown, "Refresh").success


@pytest.mark.usefixtures("champions", "steps")
def test_a_policy_backtest_runs_once_it_is_confirmed() -> None:
    shown = page(BACKTEST)
    assert not enabled(shown, "Run a policy backtest")
    shown = completed(confirmed(shown, "backtest"), "Run a policy backtest")
    assert "Policy backtest: `steps.operacao` ended with exit code 0" in shown.success[0].value
    assert arguments_of(shown) == []


WAITS = "import pathlib, time\nprint('running', flush=True)\nwhile not pathlib.Path('go').exists(): time.sleep(0.02)\n"


def started(shown: AppTest) -> AppTest:
    """The page once the training that it has started has written output."""
    wait_until(lambda: jobs.output(jobs.latest()[0]), "the step to start")
    return shown.run()


@pytest.mark.usefixtures("champions")
def test_a_training_goes_on_when_its_page_is_closed_and_every_visitor_sees_its_result(steps: Path) -> None:
    (steps / "retreino.py").write_text(WAITS)
    started(button(confirmed(retraining("auto"), "retrain"), "Retrain"))
    second = page(ACTIONS)
    assert not second.exception
    assert "**Training** has been running for" in texts(second)
    # The name that AppTest gives every visitor.
    assert "started by test@example.com" in texts(second)
    assert second.code[0].value == "running"
    assert "Already running since" in texts(second)
    assert not enabled(confirmed(second, "retrain"), "Retrain")
    assert enabled(confirmed(second, "monitor"), "Re-run monitoring")
    (steps.parent / "go").touch()
    wait_until(lambda: not jobs.latest()[0].running, "the training to end")
    for shown in (second.run(), page()):
        assert not shown.exception
        assert "`steps.retreino` ended with exit code 0" in shown.success[0].value
        assert "has been running" not in texts(shown)
    assert enabled(confirmed(page(ACTIONS), "retrain"), "Retrain")


@pytest.mark.usefixtures("champions")
def test_a_visitor_who_starts_a_running_job_gets_an_error(steps: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (steps / "retreino.py").write_text(WAITS)
    shown = confirmed(retraining("auto"), "retrain")
    started(button(confirmed(retraining("auto"), "retrain"), "Retrain"))
    with monkeypatch.context() as late:
        late.setattr(jobs, "latest", list)
        shown = button(shown, "Retrain")
    assert not shown.exception
    assert "A training job is already running, since" in shown.error[0].value


@pytest.mark.usefixtures("champions")
def test_a_training_can_be_stopped_from_the_page(steps: Path) -> None:
    (steps / "retreino.py").write_text(WAITS)
    shown = started(button(confirmed(retraining("auto"), "retrain"), "Retrain"))
    shown = button(shown, "Stop")
    wait_until(lambda: not jobs.latest()[0].running, "the training to end")
    shown = shown.run()
    assert not shown.exception
    assert "`steps.retreino` was stopped after" in shown.warning[0].value


@pytest.mark.usefixtures("champions", "steps")
def test_a_monitoring_run_does_not_check_the_server_that_a_visitor_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(widgets.ENDPOINT_VARIABLE, "127.0.0.1:5002")
    shown = retraining("", endpoint="http://127.0.0.1:9")
    shown = completed(confirmed(shown, "monitor"), "Re-run monitoring")
    assert arguments_of(shown) == ["--current", "application", "--endpoint", "http://127.0.0.1:5002"]


@pytest.mark.usefixtures("champions", "steps")
def test_a_damaged_folder_of_jobs_is_an_error() -> None:
    completed(retraining("dry_run"), "Start the dry run")
    state = next(Path(tempfile.gettempdir()).rglob("job.json"))
    state.write_text("{}")
    shown = page()
    assert not shown.exception
    assert "Remove that folder" in shown.error[0].value
    state.unlink()


@pytest.mark.usefixtures("champions")
def test_a_reason_is_shown_as_text_whatever_it_holds() -> None:
    registry.promote("3", "<img src=x onerror=alert(1)> | $a$ *b* `c`")
    shown = page("Versions")
    assert "<img" not in "".join(each.value for each in shown.markdown)
    assert text_tables(shown)[1]["Reason"].tolist()[0] == "<img src=x onerror=alert(1)> | $a$ *b* `c`"


# Approval by a person


def with_waiting_version(instead_of: str = "2") -> str:
    """Version 5 waits for approval; its number."""
    first = MlflowClient().get_model_version(registry.model(), "1")
    version = registry.register(first.source, first.run_id, {"model_id": "dt"}, "")
    result = GateResult(1_000, 0.62, 0.65, -0.04, -0.02, passed=True, reason="log loss 0.6200 against 0.6500")
    registry.request_approval(version, result, instead_of=instead_of)
    return version


def deciding(who: str = "Ana", why: str = "checked by slice") -> AppTest:
    shown = page()
    shown.text_input(key="approval_who_5_0").set_value(who)
    shown.text_input(key="approval_why_5_0").set_value(why)
    return shown.run()


@pytest.mark.usefixtures("champions")
def test_a_version_that_waits_is_shown_with_its_evidence() -> None:
    assert with_waiting_version() == "5"
    shown = page()
    assert not shown.exception
    assert "Version 5 waits for the approval of a person" in texts(shown)
    assert "log loss 0.6200 against 0.6500." in texts(shown)
    found = metrics(shown)
    assert (found["Log loss of the challenger"], found["Log loss of champion v2"]) == ("0.6200", "0.6500")
    assert found["95% interval of the difference"] == "[-0.0400, -0.0200]"
    assert metrics(page(ACTIONS))["Log loss of champion v2"] == "0.6500"
    offered = page(ACTIONS).selectbox(key="actions_version_0").options
    assert not any("version 5" in option for option in offered)


@pytest.mark.usefixtures("champions")
def test_a_decision_needs_a_name_a_reason_and_a_confirmation(steps: Path) -> None:
    assert steps
    with_waiting_version()
    assert not enabled(deciding(), "Approve")
    for who, why in (("", "better"), ("Ana", "  ")):
        shown = confirmed(deciding(who, why), "5")
        assert not enabled(shown, "Approve")
        assert not enabled(shown, "Reject")
    assert enabled(confirmed(deciding(), "5"), "Approve")


@pytest.mark.usefixtures("champions")
@pytest.mark.parametrize(("label", "decision"), [("Approve", "approve"), ("Reject", "reject")])
def test_a_decision_starts_the_step_with_who_and_why(steps: Path, label: str, decision: str) -> None:
    assert steps
    with_waiting_version()
    shown = completed(confirmed(deciding("--Ana", "--better; $(all)"), "5"), label)
    assert not shown.exception
    assert "`steps.aprovar` ended with exit code 0" in shown.success[0].value
    expected = ["--version=5", f"--decision={decision}", "--reason=--better; $(all)", "--by=--Ana"]
    assert arguments_of(shown) == expected
    assert not any(found.value for found in shown.checkbox)


@pytest.mark.usefixtures("champions", "steps")
def test_a_version_that_was_compared_with_another_champion_can_only_be_rejected() -> None:
    with_waiting_version()
    registry.roll_back("it misses layups", "1")
    shown = confirmed(deciding(), "5")
    assert "It was compared with champion 2; the champion is now 1." in texts(shown)
    assert (enabled(shown, "Approve"), enabled(shown, "Reject")) == (False, True)


@pytest.mark.usefixtures("champions")
def test_the_promotion_test_of_a_version_that_waits_is_shown_with_that_of_its_decision() -> None:
    run_id = log_decision(1, "retrain", outcome=records.AWAITING, record=decision_record(tested=True))
    first = MlflowClient().get_model_version(registry.model(), "1")
    with mlflow.start_run(run_id=first.run_id):
        mlflow.log_text(json.dumps(decision_record(tested=True)["promotion_test"]), promotion_test.FILE)
    assert run_id
    with_waiting_version()
    shown = page()
    assert not shown.exception
    assert texts(shown).count("Promotion test: passed") == 2
