"""The loop page as Streamlit runs it."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
import pytest
import streamlit as st
from mlflow import MlflowClient
from streamlit.testing.v1 import AppTest

from data.paths import ROOT
from monitor.retraining import decision_log
from monitor.ui import jobs, widgets
from serving import registry
from serving.registry.gate import GateResult
from tests.operation_store import (
    decision_record,
    fill_store,
    log_decision,
    log_look,
    log_replay,
    replay_record,
    shots,
    using_store,
)
from tests.project import PAGE_SECONDS, wait_until

ACTIONS, CALENDAR, REPLAYED = "Retrain and roll back", "Calendar", "Replayed operation"
LABELS = {
    "auto": "Decide, and retrain if it is time",
    "dry_run": "Only say what would be done",
    "force": "Retrain now",
    "": "Train anew on the prepared tables",
}
OUTCOMES = ("pending", "promoted", "refused", "interrupted", "failed", "nothing to do")


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    """Nothing is kept of another test."""
    st.cache_data.clear()
    yield
    st.cache_data.clear()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Database, to be copied, of a store with four versions: 1 and 2 were champions, 3 passed, 4 did not."""
    folder = tmp_path_factory.mktemp("filled")
    with using_store(folder / "mlflow.db", folder / "artifacts"):
        fill_store(folder, shots(1_500, 1), shots(600, 2))
        first = MlflowClient().get_model_version(registry.model(), "1")
        for passed in (True, True, False):
            version = registry.register(first.source, first.run_id, {"model_id": "sg", "test_log_loss": "0.65"}, "")
            registry.record_gate_result(version, GateResult(passed, "a test", 0.67, 0.69, -0.03, -0.01))
        registry.promote("2", "for a test")
    return folder / "mlflow.db"


@pytest.fixture
def champions(filled: Path, tmp_path: Path) -> Iterator[None]:
    """A store of its own with those versions."""
    shutil.copy(filled, tmp_path / "mlflow.db")
    with using_store(tmp_path / "mlflow.db"):
        yield


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose steps say what they were asked for, and nothing else; jobs are ended with it."""
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
    test = AppTest.from_file(str(ROOT / "monitor" / "ui" / "retraining.py"), default_timeout=PAGE_SECONDS)
    for key, value in {"loop_tab": tab, **state}.items():
        test.session_state[key] = value
    return test.run()


def button(test: AppTest, label: str) -> AppTest:
    return next(found for found in test.button if found.label == label).click().run()


def done(test: AppTest, label: str) -> AppTest:
    """Click on a button that starts a job, and look at the page when the job has ended."""
    test = button(test, label)
    assert not test.exception
    wait_until(lambda: not any(job.running for job in jobs.latest()), "the job to end")
    st.cache_data.clear()
    return test.run()


def enabled(test: AppTest, label: str) -> bool:
    return not next(found for found in test.button if found.label == label).disabled


def sure(test: AppTest, what: str) -> AppTest:
    return next(found for found in test.checkbox if f"sure_{what}_" in str(found.key)).check().run()


def retraining(mode: str, **state: object) -> AppTest:
    return page(ACTIONS, **state).radio(key="actions_retraining").set_value(LABELS[mode]).run()


def rolling_back(reason: str = "", version: str = "") -> AppTest:
    shown = page(ACTIONS)
    if version:
        shown.selectbox(key="actions_version_0").set_value(version)
    return shown.text_input(key="actions_reason_0").set_value(reason).run()


def asked(shown: AppTest) -> list[str]:
    """Parameters that the step was run with."""
    return list(json.loads(shown.code[0].value))


def words(shown: AppTest) -> str:
    parts_shown = (shown.info, shown.error, shown.warning, shown.markdown, shown.caption, shown.code, shown.title)
    return "\n".join(str(element.value) for elements in parts_shown for element in elements)


def metrics(shown: AppTest) -> dict[str, str]:
    return {found.label: found.value for found in shown.metric}


def ago(**span: float) -> datetime:
    return datetime.now(UTC) - timedelta(**span)


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("tab", "command"),
    [
        ("Decisions", "mlflow run . -e retreino"),
        (CALENDAR, "make main"),
        (REPLAYED, "mlflow run . -e operacao"),
        (ACTIONS, "make main"),
    ],
)
def test_an_empty_store_says_how_to_fill_it(tab: str, command: str) -> None:
    shown = page(tab)
    assert not shown.exception
    assert not shown.error
    assert command in words(shown)


@pytest.mark.parametrize("tab", ["Decisions", CALENDAR, REPLAYED, ACTIONS])
def test_a_broken_store_is_told_in_words(store: str, tab: str) -> None:
    broken = Path(store.removeprefix("sqlite:///")).with_name("broken.db")
    broken.write_bytes(b"this is no database" * 99)
    mlflow.set_tracking_uri(f"sqlite:///{broken}")
    shown = page(tab)
    assert not shown.exception
    assert "broken.db" in shown.error[0].value


@pytest.mark.usefixtures("champions")
def test_a_champion_without_decisions_is_shown_with_the_command_that_decides() -> None:
    shown = page()
    assert not shown.exception
    assert "Nothing has been decided yet" in words(shown)
    assert "mlflow run . -e retreino" in words(shown)
    assert len(shown.get("plotly_chart")) == 1


@pytest.mark.usefixtures("champions")
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_the_last_decision_is_told_with_its_reasons_and_what_came_of_it(outcome: str) -> None:
    log_decision(1)
    log_decision(
        2, "retrain", reasons=["log loss rose by 21%", "support is *thin*"],
        trigger="reactive", outcome=outcome, outcome_reason="a long story", model_version="4",
        record=decision_record(challenge=True),
    )  # fmt: skip
    shown = page()
    assert not shown.exception
    assert not shown.error
    said = words(shown)
    assert "Decision 2, 22 Nov 2026 10:00: retrain (reactive)." in said
    assert "- log loss rose by 21%\n- support is \\*thin\\*" in said
    assert "What came of it: a long story." in said
    assert "challenger version 4" in said
    assert metrics(shown)["Champion"] == "v2"


@pytest.mark.usefixtures("champions")
def test_decisions_are_listed_newest_first_with_their_reasons() -> None:
    for number, outcome in enumerate(OUTCOMES, start=1):
        log_decision(number, "retrain", when=ago(days=30 - number), outcome=outcome, model_version=str(number))
    log_decision(7, reasons=["nothing asks", "for a new model"], when=ago(days=1))
    log_decision(8, "retrain", mode="dry_run", when=ago(hours=1))
    shown = page()
    assert not shown.exception
    table = shown.dataframe[0].value
    assert table["number"].tolist() == [8, 7, 6, 5, 4, 3, 2, 1]
    assert table["outcome"].tolist() == [None, None, *reversed(OUTCOMES)]
    assert table["reasons"].tolist()[1] == "nothing asks; for a new model"
    assert table["mode"].tolist()[0] == "dry run"


@pytest.mark.usefixtures("champions")
def test_a_decision_that_is_opened_shows_every_figure_behind_it() -> None:
    opened = log_decision(1, "retrain", outcome="promoted", record=decision_record(challenge=True))
    log_decision(2, record=decision_record())
    shown = page(loop_opened=opened)
    assert not shown.exception
    assert not shown.error
    signals, guards, windows, comparisons = (found.value for found in shown.dataframe[1:])
    assert signals["says"].tolist() == ["▲ asks for a new model", "· cannot be told", "✓ does not"]
    assert guards["holds"].tolist() == ["✓ holds", "✗ does not hold"]
    assert windows["violations"].tolist() == ["none", "log loss rose by 21%, from 0.660 to 0.800"]
    assert windows["log loss"].tolist() == [0.66, 0.8]
    assert comparisons["difference"].tolist() == [-0.024]
    assert "The challenger on later rows: passed.** better on later rows" in words(shown)


@pytest.mark.usefixtures("champions")
@pytest.mark.parametrize(
    ("challenge", "expected"),
    [
        (json.dumps(decision_record(challenge=True)["challenge"]), "The challenger on later rows: passed"),
        ('{"rows": ', "cannot be read"),
        (None, "holds every figure"),
    ],
)
def test_what_a_challenger_showed_is_read_from_its_training(challenge: str | None, expected: str) -> None:
    run_id = log_decision(1, "retrain", record=decision_record())
    with mlflow.start_run(run_id), mlflow.start_run(run_name="Treinamento", nested=True):
        if challenge:
            mlflow.log_text(challenge, "challenge.json")
    shown = page()
    assert not shown.exception
    assert not shown.error
    assert expected in words(shown)
    assert len(shown.dataframe) == 4 + ("passed" in expected)


@pytest.mark.usefixtures("champions")
@pytest.mark.parametrize("record", [None, '{"signals": [', "[]"], ids=["missing", "cut short", "a list"])
def test_a_damaged_record_of_a_decision_is_told_and_its_reasons_are_shown_all_the_same(record: str | None) -> None:
    log_decision(1, reasons=["nothing asks for a new model"], record=record)
    shown = page()
    assert not shown.exception
    assert decision_log.RECORD in shown.error[0].value
    assert "- nothing asks for a new model" in words(shown)


@pytest.mark.usefixtures("champions")
@pytest.mark.parametrize(
    "record",
    [
        {},
        {"signals": None, "guards": "all", "windows": 3, "challenge": []},
        {"signals": [1, None], "guards": [], "windows": {}, "challenge": None},
    ],
)
def test_a_record_without_figures_says_so(record: dict[str, object]) -> None:
    log_decision(1, record=record)
    shown = page()
    assert not shown.exception
    assert "holds no figures" in words(shown)


@pytest.mark.usefixtures("champions")
@pytest.mark.parametrize(
    "record",
    [
        {"signals": [{}], "guards": [{}], "windows": [{}], "challenge": {}},
        {"signals": [{"name": 1, "fired": "maybe", "words": None, "figures": {"rows": 3}}]},
        {
            "windows": [{"start": 3, "log_loss": "high", "violations": "many"}],
            "challenge": {"comparisons": [{}]},
        },
    ],
)
def test_a_record_of_odd_figures_is_shown_as_it_is(record: dict[str, object]) -> None:
    log_decision(1, record=record)
    assert not page().exception


@pytest.mark.usefixtures("champions")
def test_a_decision_whose_tags_are_damaged_is_told_and_the_buttons_stay() -> None:
    log_decision(1, moment="yesterday")
    shown = page(ACTIONS)
    assert not shown.exception
    assert "yesterday" in shown.error[0].value
    assert any(found.label == "Roll back" for found in shown.button)


@pytest.mark.usefixtures("champions")
def test_the_calendar_says_when_the_next_look_is_due_and_what_stands_in_the_month() -> None:
    log_look(ago(hours=2))
    decided = ago(hours=1)
    log_decision(1, when=decided)
    shown = page(CALENDAR)
    assert not shown.exception
    due = decided + timedelta(days=7)
    assert f"{due.day} {due:%B %Y} (a look every week" in words(shown)
    assert {"look", "decision", "promotion"} <= set(shown.dataframe[0].value["what"])
    assert "Earliest next training: now" in words(shown)
    assert "The champion is stale from" in words(shown)


@pytest.mark.usefixtures("champions")
def test_a_look_that_is_overdue_is_a_warning() -> None:
    log_decision(1, when=ago(days=20))
    shown = page(CALENDAR)
    assert not shown.exception
    assert "Overdue since" in shown.warning[0].value
    assert metrics(shown)["Next look"] == "overdue"


@pytest.mark.usefixtures("champions")
def test_the_rhythm_is_kept_where_its_field_is_not_drawn() -> None:
    log_decision(1, when=ago(days=20))
    shown = page(CALENDAR)
    shown.selectbox(key="loop_rhythm").set_value("month").run()
    assert not shown.warning
    shown.session_state["loop_tab"] = "Decisions"
    assert metrics(shown.run())["Next look"] != "overdue"
    shown.session_state["loop_tab"] = CALENDAR
    assert shown.run().selectbox(key="loop_rhythm").value == "month"


@pytest.mark.usefixtures("champions")
def test_months_can_be_turned_to_and_back() -> None:
    log_look(ago(hours=1))
    shown = page(CALENDAR)
    this = set(shown.dataframe[0].value["what"])
    assert "look" in this
    shown = button(button(shown, "Month before"), "Month before")
    assert not shown.exception
    assert "Nothing stands in this month" in words(shown)
    shown = button(shown, "This month")
    assert set(shown.dataframe[0].value["what"]) == this
    assert set(button(shown, "Month after").dataframe[0].value["what"]) == {"look due"}


@pytest.mark.usefixtures("champions")
def test_the_next_looks_can_be_taken_to_a_calendar() -> None:
    log_decision(1)
    assert [found.label for found in page(CALENDAR).download_button] == ["Add to calendar (.ics)"]


@pytest.mark.usefixtures("champions")
def test_a_replay_is_drawn_with_its_figures_and_its_decisions() -> None:
    log_decision(1, reasons=["of the real operation"])
    run_id = log_replay(replay_record())
    with registry.use_model_name("kobe_shot_replay"):
        log_decision(1, reasons=["of the replay"], replay=run_id, record=decision_record())
        log_decision(2, reasons=["of another replay"], replay="another")
    shown = page(REPLAYED)
    assert not shown.exception
    assert not shown.error
    found = metrics(shown)
    assert (found["With the loop"], found["Never retrained"]) == ("0.6340", "0.6530")
    assert found["Retrained after every batch"] == "0.6330"
    assert "6 batches of 500 rows" in words(shown)
    assert len(shown.get("plotly_chart")) == 1
    assert shown.dataframe[1].value["reasons"].tolist() == ["of the replay"]


@pytest.mark.usefixtures("champions")
@pytest.mark.parametrize(
    "record",
    [
        None,
        '{"format": 1, "bat',
        "[]",
        json.dumps({**replay_record(), "format": 2}),
        json.dumps({**replay_record(), "figures": {}}),
        json.dumps({**replay_record(), "batches": [{"number": 1}]}),
        json.dumps({**replay_record(), "marks": [{"batch": 1, "kind": "party", "words": ""}]}),
    ],
    ids=["missing", "cut short", "a list", "another format", "no figures", "half a batch", "an unknown mark"],
)
def test_a_damaged_replay_is_told_with_the_command_that_makes_another(record: str | None) -> None:
    log_replay(record)
    shown = page(REPLAYED)
    assert not shown.exception
    assert "replay.json" in shown.error[0].value
    assert "This replay has kept no decision" in words(shown)


@pytest.mark.usefixtures("champions")
def test_a_replay_of_no_batches_is_told() -> None:
    log_replay({**replay_record(), "batches": [], "marks": []})
    shown = page(REPLAYED)
    assert not shown.exception
    assert "0 batches" in words(shown)


@pytest.mark.usefixtures("champions")
@pytest.mark.parametrize(
    ("mode", "source", "current"), [("auto", widgets.PROD, "application"), ("force", widgets.LOG, "log")]
)
def test_retraining_looks_at_what_the_sidebar_says_once_it_is_confirmed(
    steps: Path, mode: str, source: str, current: str
) -> None:
    assert steps
    shown = retraining(mode, source=source)
    assert not enabled(shown, "Retrain")
    shown = done(sure(shown, "retrain"), "Retrain")
    assert not shown.exception
    assert "`steps.retreino` ended with exit code 0" in shown.success[0].value
    assert "the champion is still version 2" in shown.success[0].value
    assert asked(shown) == ["--mode", mode, "--current", current]
    assert not any(found.value for found in shown.checkbox)


@pytest.mark.usefixtures("champions")
def test_a_dry_run_needs_no_confirmation(steps: Path) -> None:
    assert steps
    shown = done(retraining("dry_run"), "Say what would be done")
    assert not shown.exception
    assert asked(shown) == ["--mode", "dry_run", "--current", "application"]


@pytest.mark.usefixtures("champions")
@pytest.mark.parametrize(
    ("label", "what", "name", "arguments"),
    [
        ("Retrain", "retrain", "treinamento", []),
        ("Apply again", "apply", "aplicacao", []),
        ("Look again", "look", "monitoramento", ["--current", "application", "--endpoint", "http://127.0.0.1:5001"]),
    ],
)
def test_the_other_steps_run_once_they_are_confirmed(
    steps: Path, label: str, what: str, name: str, arguments: list[str]
) -> None:
    assert steps
    shown = retraining("")
    assert not enabled(shown, label)
    shown = done(sure(shown, what), label)
    assert not shown.exception
    assert f"`steps.{name}` ended with exit code 0" in shown.success[0].value
    assert asked(shown) == arguments


@pytest.mark.usefixtures("champions")
def test_a_step_that_fails_is_an_error_with_its_output(steps: Path) -> None:
    (steps / "retreino.py").write_text("import sys\nsys.exit('no labels have arrived')\n")
    shown = done(sure(retraining("auto"), "retrain"), "Retrain")
    assert not shown.exception
    assert "ended with exit code 1" in shown.error[0].value
    assert "no labels have arrived" in shown.code[0].value


@pytest.mark.usefixtures("champions")
def test_the_new_champion_is_named_when_a_retraining_ends(steps: Path) -> None:
    log_decision(1)
    lines = ["import sys", f"sys.path.insert(0, {str(ROOT)!r})", "from serving import registry"]
    (steps / "retreino.py").write_text("\n".join([*lines, "registry.promote('3', 'better')"]))
    shown = done(sure(retraining("auto"), "retrain"), "Retrain")
    assert "the champion is now version 3" in shown.success[0].value
    assert metrics(shown)["Champion"] == "v3"


@pytest.mark.usefixtures("champions")
def test_a_roll_back_needs_a_reason_and_to_be_confirmed(steps: Path) -> None:
    assert steps
    assert not enabled(rolling_back("it misses layups"), "Roll back")
    assert not enabled(sure(rolling_back(), "roll back"), "Roll back")
    assert not enabled(sure(rolling_back("   "), "roll back"), "Roll back")
    assert enabled(sure(rolling_back("it misses layups"), "roll back"), "Roll back")


@pytest.mark.usefixtures("champions")
@pytest.mark.parametrize(("version", "expected"), [("", "1"), ("3", "3")])
def test_a_roll_back_goes_to_the_previous_champion_or_to_the_version_that_is_chosen(
    steps: Path, version: str, expected: str
) -> None:
    assert steps
    shown = done(sure(rolling_back("--it; misses $(layups)", version), "roll back"), "Roll back")
    assert not shown.exception
    assert "`steps.reverter` ended with exit code 0" in shown.success[0].value
    assert asked(shown) == ["--reason=--it; misses $(layups)", f"--version={expected}"]
    assert shown.text_input(key="actions_reason_1").value == ""


@pytest.mark.usefixtures("champions")
def test_only_versions_that_passed_the_gate_and_are_not_champion_may_come_back() -> None:
    offered = page(ACTIONS).selectbox(key="actions_version_0").options
    assert [found.partition(" (")[0] for found in offered] == ["the previous champion, version 1", "version 3"]


@pytest.mark.usefixtures("champions")
def test_the_champion_of_before_is_shown_once_it_is_back(steps: Path) -> None:
    log_decision(1)
    lines = ["import sys", f"sys.path.insert(0, {str(ROOT)!r})", "from serving import registry"]
    (steps / "reverter.py").write_text("\n".join([*lines, "registry.roll_back('it misses layups', '1')"]))
    shown = done(sure(rolling_back("it misses layups"), "roll back"), "Roll back")
    assert "the champion is now version 1" in shown.success[0].value
    assert metrics(shown)["Champion"] == "v1"


def test_where_there_is_nothing_to_roll_back_to_it_is_told(champions: None) -> None:
    del champions
    for version in ("1", "3"):
        MlflowClient().set_model_version_tag(registry.model(), version, "gate", "refused")
    shown = page(ACTIONS)
    assert not shown.exception
    assert "nothing to go back to" in words(shown)
    assert not any(found.label == "Roll back" for found in shown.button)


@pytest.mark.usefixtures("champions")
def test_what_the_last_work_came_to_is_forgotten_on_refresh(steps: Path) -> None:
    assert steps
    shown = done(retraining("dry_run"), "Say what would be done")
    assert shown.success
    assert not button(shown, "Refresh").success


@pytest.mark.usefixtures("champions", "steps")
def test_an_operation_is_replayed_once_it_is_confirmed() -> None:
    shown = page(REPLAYED)
    assert not enabled(shown, "Replay an operation")
    shown = done(sure(shown, "replay"), "Replay an operation")
    assert "Policy backtest: `steps.operacao` ended with exit code 0" in shown.success[0].value
    assert asked(shown) == []


WAITS = "import pathlib, time\nprint('at it', flush=True)\nwhile not pathlib.Path('go').exists(): time.sleep(0.02)\n"


def started(shown: AppTest) -> AppTest:
    """The page once the training that it has started has said something."""
    wait_until(lambda: jobs.output(jobs.latest()[0]), "the step to start")
    return shown.run()


@pytest.mark.usefixtures("champions")
def test_a_training_goes_on_when_its_page_is_left_and_every_visitor_sees_it_and_its_end(steps: Path) -> None:
    (steps / "retreino.py").write_text(WAITS)
    started(button(sure(retraining("auto"), "retrain"), "Retrain"))
    second = page(ACTIONS)
    assert not second.exception
    assert "**Training** has been running for" in words(second)
    # The name that AppTest gives every visitor.
    assert "started by test@example.com" in words(second)
    assert second.code[0].value == "at it"
    assert "Already running since" in words(second)
    assert not enabled(sure(second, "retrain"), "Retrain")
    assert enabled(sure(second, "look"), "Look again")
    (steps.parent / "go").touch()
    wait_until(lambda: not jobs.latest()[0].running, "the training to end")
    for shown in (second.run(), page()):
        assert not shown.exception
        assert "`steps.retreino` ended with exit code 0" in shown.success[0].value
        assert "has been running" not in words(shown)
    assert enabled(sure(page(ACTIONS), "retrain"), "Retrain")


@pytest.mark.usefixtures("champions")
def test_a_visitor_who_is_a_moment_late_is_told_that_it_is_running(
    steps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (steps / "retreino.py").write_text(WAITS)
    shown = sure(retraining("auto"), "retrain")
    started(button(sure(retraining("auto"), "retrain"), "Retrain"))
    with monkeypatch.context() as late:
        late.setattr(jobs, "latest", list)
        shown = button(shown, "Retrain")
    assert not shown.exception
    assert "A training job is already running, since" in shown.error[0].value


@pytest.mark.usefixtures("champions")
def test_a_training_is_stopped_from_the_page_and_said_to_be(steps: Path) -> None:
    (steps / "retreino.py").write_text(WAITS)
    shown = started(button(sure(retraining("auto"), "retrain"), "Retrain"))
    shown = button(shown, "Stop")
    wait_until(lambda: not jobs.latest()[0].running, "the training to end")
    shown = shown.run()
    assert not shown.exception
    assert "`steps.retreino` was stopped after" in shown.warning[0].value


@pytest.mark.usefixtures("champions", "steps")
def test_a_server_that_a_visitor_typed_is_not_in_what_everybody_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(widgets.ENDPOINT_VARIABLE, "127.0.0.1:5002")
    shown = retraining("", endpoint="http://127.0.0.1:9")
    shown = done(sure(shown, "look"), "Look again")
    assert asked(shown) == ["--current", "application", "--endpoint", "http://127.0.0.1:5002"]


@pytest.mark.usefixtures("champions", "steps")
def test_a_folder_of_jobs_that_is_damaged_is_told_on_the_page() -> None:
    done(retraining("dry_run"), "Say what would be done")
    kept = next(Path(tempfile.gettempdir()).rglob("job.json"))
    kept.write_text("{}")
    shown = page()
    assert not shown.exception
    assert "Remove that folder" in shown.error[0].value
    kept.unlink()
