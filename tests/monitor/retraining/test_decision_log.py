from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from data.errors import TableError
from monitor.retraining import decision_log
from monitor.store import run_names
from monitor.store import tags as store_tags
from monitor.store.model_store import current_store
from monitor.store.records import FAILED, INTERRUPTED, NO_ACTION, NOTHING_TO_DO, PENDING, PROMOTED, REJECTED, RETRAIN
from monitor.store.tags import (
    BACKTEST,
    DECIDED_AT,
    DECISION_MODEL,
    LABELS_UNTIL,
    MODE,
    MODEL_VERSION,
    NEW_LABELS,
    NUMBER,
    OUTCOME,
    OUTCOME_REASON,
    TRIGGER,
)
from serving import registry
from serving.registry import StoreError
from tests.operation_store import log_backtest, log_decision
from tests.versions import as_kwargs, register_without_files

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)

pytestmark = pytest.mark.usefixtures("store")


def numbers(*, backtest: str = "") -> list[int]:
    return [entry.number for entry in current_store().decisions(backtest=backtest)]


def test_nothing_was_decided_in_an_empty_store() -> None:
    assert current_store().decisions() == []
    assert current_store().decisions(backtest="nosuchrun") == []
    assert current_store().backtests() == []


def test_a_decision_has_its_inputs_and_its_outcome() -> None:
    register_without_files()
    until = datetime(2026, 11, 20, 8, 30)  # noqa: DTZ001 UTC without a zone, as tables have it
    given = {
        TRIGGER: "reactive",
        MODE: "force",
        OUTCOME: PROMOTED,
        OUTCOME_REASON: "better with statistical significance",
        MODEL_VERSION: "2",
        NEW_LABELS: "321",
        LABELS_UNTIL: until.isoformat(),
    }
    run_id = log_decision(3, RETRAIN, when=NOON, reasons=("first", "second"), **as_kwargs(given))
    (found,) = current_store().decisions()
    assert (found.number, found.decided_at, found.decision, found.trigger) == (3, NOON, RETRAIN, "reactive")
    assert (found.mode, found.reasons) == ("force", ("first", "second"))
    assert (found.outcome, found.outcome_reason) == (PROMOTED, "better with statistical significance")
    assert (found.champion, found.challenger) == ("1", "2")
    assert (found.labels, found.new_labels, found.labels_until) == (1500, 321, until)
    assert (found.run_id, found.model) == (run_id, registry.MODEL)


def test_the_newest_decision_comes_first_whatever_its_time() -> None:
    register_without_files()
    for number in range(1, 13):
        log_decision(number, when=NOON - timedelta(days=number))
    assert numbers() == list(range(12, 0, -1))
    assert [entry.number for entry in current_store().decisions(limit=2)] == [12, 11]


def test_what_is_no_decision_is_none() -> None:
    register_without_files()
    log_decision(1)
    mine = {DECISION_MODEL: registry.MODEL, store_tags.DECISION_MODEL_CREATED: registry.created()}
    for name, tags in (
        ("Treinamento", {**mine, NUMBER: "2"}),
        (run_names.RETRAINING, mine),
        (run_names.RETRAINING, {}),
    ):
        with mlflow.start_run(run_name=name, tags=tags):
            pass
    assert numbers() == [1]


def test_a_decision_without_labels_knows_of_none() -> None:
    register_without_files()
    log_decision(1, **as_kwargs({LABELS_UNTIL: "", store_tags.LABELS: "0", NEW_LABELS: "0"}))
    (found,) = current_store().decisions()
    assert (found.labels, found.new_labels, found.labels_until) == (0, 0, None)


def test_a_registered_model_that_was_deleted_and_made_anew_has_decided_nothing_yet() -> None:
    register_without_files()
    log_decision(1, RETRAIN, **as_kwargs({OUTCOME: REJECTED}))
    log_decision(2)
    MlflowClient().delete_registered_model(registry.MODEL)
    assert numbers() == []
    register_without_files()
    assert numbers() == []
    log_decision(1)
    assert numbers() == [1]
    assert decision_log.last_trained(current_store().decisions()) is None


def test_every_registered_model_has_a_log_of_its_own() -> None:
    register_without_files()
    log_decision(1)
    with registry.use_model_name("another"):
        register_without_files()
        assert numbers() == []
        log_decision(1)
        log_decision(2)
        assert numbers() == [2, 1]
        assert {entry.model for entry in current_store().decisions()} == {"another"}
    assert numbers() == [1]


def test_the_decisions_of_a_backtest_are_found_by_its_run_only() -> None:
    register_without_files()
    log_decision(1)
    with registry.use_model_name("kobe_shot_backtest"):
        register_without_files()
        for backtest in ("first", "second"):
            for number in (1, 2):
                log_decision(number, **as_kwargs({BACKTEST: backtest}))
            MlflowClient().delete_registered_model("kobe_shot_backtest")
            register_without_files()
        log_decision(1)
    assert numbers() == [1]
    assert numbers(backtest="first") == numbers(backtest="second") == [2, 1]
    assert {entry.model for entry in current_store().decisions(backtest="first")} == {"kobe_shot_backtest"}
    assert numbers(backtest="third") == []


@pytest.mark.parametrize(
    ("outcome", "trained"),
    [
        (PROMOTED, True),
        (REJECTED, True),
        (PENDING, False),
        (INTERRUPTED, False),
        (FAILED, False),
        (NOTHING_TO_DO, False),
    ],
)
def test_a_challenger_was_trained_where_it_was_judged(outcome: str, *, trained: bool) -> None:
    register_without_files()
    log_decision(1, RETRAIN, **as_kwargs({OUTCOME: outcome}))
    log_decision(2, NO_ACTION)
    log = current_store().decisions()
    assert log[1].trained is trained
    last = decision_log.last_trained(log)
    assert (last.number if last else None) == (1 if trained else None)


def test_the_last_training_is_the_newest() -> None:
    register_without_files()
    for number, outcome in enumerate([PROMOTED, REJECTED, NOTHING_TO_DO, FAILED], 1):
        log_decision(number, RETRAIN, **as_kwargs({OUTCOME: outcome}))
    last = decision_log.last_trained(current_store().decisions())
    assert last is not None
    assert last.number == 2


def test_a_decision_whose_process_was_killed_is_pending() -> None:
    register_without_files()
    run_id = log_decision(1, RETRAIN)
    MlflowClient().delete_tag(run_id, OUTCOME)
    assert current_store().decisions()[0].outcome == PENDING


@pytest.mark.parametrize(("tag", "value"), [(NUMBER, "many"), (DECIDED_AT, "yesterday"), (LABELS_UNTIL, "soon")])
def test_an_entry_whose_tags_are_damaged_is_reported_with_its_run(tag: str, value: str) -> None:
    register_without_files()
    run_id = log_decision(1, **as_kwargs({tag: value}))
    with pytest.raises(TableError, match=rf"cannot be read .*Delete run {run_id}"):
        current_store().decisions()


def test_a_store_that_cannot_be_read_is_reported(store: str) -> None:
    broken = Path(store.removeprefix("sqlite:///")).with_name("broken.db")
    broken.write_bytes(b"this is no database" * 99)
    mlflow.set_tracking_uri(f"sqlite:///{broken}")
    with pytest.raises(StoreError, match="broken"):
        current_store().decisions()


# The record of a decision


def test_the_record_of_a_decision_is_read_as_it_was_written() -> None:
    register_without_files()
    run_id = log_decision(1, record={"decision": "no action", "windows": [{"log_loss": 0.66, "f1_score": None}]})
    assert decision_log.record(current_store(), run_id) == {
        "decision": "no action",
        "windows": [{"log_loss": 0.66, "f1_score": None}],
    }


@pytest.mark.parametrize("text", ["", "{", "[]", "1", '{"decision": "wa', "\x00"])
def test_a_damaged_record_is_reported_with_the_place_of_the_decision(text: str) -> None:
    register_without_files()
    run_id = log_decision(1, record=text)
    with pytest.raises(TableError, match=rf"decision\.json of run {run_id} cannot be read\. The decision itself"):
        decision_log.record(current_store(), run_id)
    assert numbers() == [1]


def test_a_record_that_is_no_text_is_reported() -> None:
    register_without_files()
    run_id = log_decision(1, record={})
    path = Path(MlflowClient().get_run(run_id).info.artifact_uri) / decision_log.RECORD
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(TableError, match="cannot be read"):
        decision_log.record(current_store(), run_id)


def test_a_missing_record_is_reported_with_the_run() -> None:
    register_without_files()
    run_id = log_decision(1)
    with pytest.raises(TableError, match=rf"run {run_id} does not hold decision\.json"):
        decision_log.record(current_store(), run_id)


# Policy backtests


def test_backtests_are_the_finished_ones_newest_first() -> None:
    first, second = (log_backtest({"format": 1}) for _ in range(2))
    with pytest.raises(KeyError), mlflow.start_run(run_name=run_names.BACKTEST):
        raise KeyError
    with mlflow.start_run(run_name="Treinamento"):
        pass
    assert [run.run_id for run in current_store().backtests()] == [second, first]
    assert [run.run_id for run in current_store().backtests(limit=1)] == [second]
