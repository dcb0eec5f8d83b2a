from pathlib import Path

import pytest
from mlflow import MlflowClient

from data.cli.config import parse_args
from monitor.store import tags as store_tags
from monitor.store.model_store import current_store
from monitor.store.records import AWAITING, INTERRUPTED, PENDING, PROMOTED, REJECTED, RETRAIN
from monitor.store.tags import OUTCOME
from serving import registry
from serving.batch.in_process import PREDICTIONS_SHA256, prediction_hash
from serving.registry import RegistryError
from steps import aprovar
from steps.aprovar import ApprovalResult, AprovarConfig
from steps.retraining.interrupted import resolve_interrupted
from tests.operation_store import log_decision
from tests.versions import BAD, GOOD, PASSED, LoggedModels, as_kwargs, promote_versions, register_without_files


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a new experiment would keep its artifacts."""
    monkeypatch.chdir(tmp_path)


def waiting(store_with_models: LoggedModels, **tags: str) -> str:
    """A good version that waits to replace a bad champion; its number."""
    registry.promote(store_with_models.register(BAD), "the only one")
    version = store_with_models.register(GOOD, None, data_source="public", synthetic="false", **tags)
    registry.request_approval(version, PASSED, instead_of="1")
    return version


def test_an_approved_version_becomes_champion_and_the_runs_record_it(
    store_with_models: LoggedModels, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = store_with_models.models[GOOD].uri
    version = waiting(store_with_models, **{PREDICTIONS_SHA256: prediction_hash(uri)})
    found = aprovar.run(AprovarConfig(reason="checked by slice", by="Ana"))
    assert found == ApprovalResult("1", version, approved=True)
    assert registry.alias_state().champion == version
    assert registry.promotions(registry.require_champion())[-1]["who"] == "Ana"
    run = current_store().last_run("Aprovar")
    assert run is not None
    assert (run.tags["champion"], run.tags["model_version"], run.tags["reason"]) == ("1", version, "checked by slice")
    training = current_store().run(store_with_models.models[GOOD].run_id)
    assert training.tags[store_tags.GATE] == "passed"
    assert training.tags[store_tags.PROMOTION_NOTE] == "approved, and became champion and Production"
    assert f"Approved version {version} of kobe_shot; champion before: 1" in " ".join(capsys.readouterr().out.split())


def test_a_rejected_version_is_archived_and_production_stays(store_with_models: LoggedModels) -> None:
    version = waiting(store_with_models)
    assert aprovar.run(AprovarConfig(version=version, decision="reject", reason="it misses layups")).approved is False
    assert registry.alias_state().champion == "1"
    assert registry.tags_of(version)["gate"] == "rejected"
    training = current_store().run(store_with_models.models[GOOD].run_id)
    assert training.tags[store_tags.PROMOTION_NOTE] == "rejected by a person"


def test_a_version_whose_predictions_have_changed_is_not_approved(store_with_models: LoggedModels) -> None:
    version = waiting(store_with_models, **{PREDICTIONS_SHA256: prediction_hash(store_with_models.models[BAD].uri)})
    with pytest.raises(RegistryError, match=r"differ from those at its registration: .* Nothing was changed"):
        aprovar.run(AprovarConfig())
    assert registry.alias_state().champion == "1"
    assert [registry.number(each) for each in registry.awaiting_approval()] == [version]


@pytest.mark.parametrize(("version", "words"), [("", "found none"), ("1", "does not wait"), ("7", "has no version 7")])
@pytest.mark.usefixtures("store")
def test_what_does_not_wait_is_reported_and_nothing_changes(version: str, words: str) -> None:
    promote_versions(1)
    before = registry.alias_state()
    with pytest.raises(RegistryError, match=words):
        aprovar.run(AprovarConfig(version=version))
    assert registry.alias_state() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--version", "newest"], "expected the number of a version"),
        (["--reason", " "], "expected a reason"),
        (["--decision", "maybe"], "'approve' or 'reject'"),
    ],
)
def test_a_wrong_parameter_is_reported_and_nothing_is_done(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_args(AprovarConfig, arguments)
    assert caught.value.code == 2
    assert words in " ".join(capsys.readouterr().err.split())


# The decision that trained it


def decided(outcome: str) -> str:
    """A version that waits, of a decision with an outcome; its number."""
    promote_versions(1)
    run_id = log_decision(1, RETRAIN, **as_kwargs({OUTCOME: outcome}))
    version = register_without_files(None, **{store_tags.RETRAINING_RUN: run_id})
    registry.request_approval(version, PASSED, instead_of="1")
    return version


def outcome() -> tuple[str, str, str]:
    found = current_store().decisions()[0]
    return found.outcome, found.challenger, found.outcome_reason


@pytest.mark.usefixtures("store")
def test_a_decision_that_was_killed_while_its_challenger_waits_goes_on_waiting() -> None:
    version = decided(PENDING)
    resolve_interrupted()
    assert outcome() == (AWAITING, version, "better")
    assert [registry.number(each) for each in registry.awaiting_approval()] == [version]
    assert current_store().decisions()[0].trained


@pytest.mark.usefixtures("store")
def test_the_decision_log_records_an_approval_with_who_and_why() -> None:
    version = decided(AWAITING)
    registry.approve(version, "checked", who="Ana")
    resolve_interrupted()
    assert outcome() == (PROMOTED, version, "better; approved by Ana: checked")


@pytest.mark.usefixtures("store")
def test_the_decision_log_records_a_rejection_with_who_and_why() -> None:
    version = decided(AWAITING)
    aprovar.run(AprovarConfig(decision="reject", reason="it misses layups", by="Ana"))
    assert outcome() == (REJECTED, version, "rejected by Ana: it misses layups; it had passed the gate: better")


@pytest.mark.usefixtures("store")
def test_the_decision_of_a_version_that_was_deleted_while_it_waited_was_interrupted() -> None:
    version = decided(AWAITING)
    MlflowClient().delete_model_version(registry.model(), version)
    resolve_interrupted()
    assert outcome()[0] == INTERRUPTED
    assert outcome()[2].endswith("was deleted before a person decided")
