from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from data.cli.config import parse_args
from serving import registry
from serving.batch.in_process import (
    PREDICTIONS_SHA256,
    ROUNDED_DECIMALS,
    ROUNDED_PREDICTIONS_SHA256,
    ScoredError,
    prediction_hash,
)
from serving.registry import RegistryError
from steps import reverter
from steps.reverter import ReverterConfig, RollbackResult
from steps.shared import verification
from tests.versions import BAD, GOOD, SAME, LoggedModels, register_without_files


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a new experiment would keep its artifacts."""
    monkeypatch.chdir(tmp_path)


def champions(store_with_models: LoggedModels, *names: str, known: bool = True) -> None:
    """Promote logged models one after the other, as a training registers them."""
    for name in names:
        uri = store_with_models.models[name].uri
        hashes = (
            {
                PREDICTIONS_SHA256: prediction_hash(uri),
                ROUNDED_PREDICTIONS_SHA256: prediction_hash(uri, ROUNDED_DECIMALS),
            }
            if known
            else {}
        )
        registry.promote(store_with_models.register(name, data_source="public", synthetic="false", **hashes), "better")


IDENTICAL = "bit-identical on 512 shots to those at registration"


def alias_state() -> tuple[str | None, str | None, dict[str, str]]:
    found = registry.alias_state()
    versions = MlflowClient().search_model_versions(f"name = '{registry.model()}'")
    return found.champion, found.previous_champion, {registry.number(each): each.current_stage for each in versions}


def reverted(**options: str) -> RollbackResult:
    return reverter.run(ReverterConfig(**options))


def newest_run() -> Run:
    client = MlflowClient()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(experiments, order_by=["attributes.start_time DESC"])[0]


def test_the_previous_champion_is_restored_with_identical_predictions(
    store_with_models: LoggedModels, capsys: pytest.CaptureFixture[str]
) -> None:
    champions(store_with_models, GOOD, BAD)
    assert reverted(reason="it misses layups") == RollbackResult("2", "1", IDENTICAL)
    assert alias_state() == ("1", None, {"1": "Production", "2": "Archived"})
    assert registry.promotions(registry.require_champion())[-1]["why"] == "it misses layups"
    printed = " ".join(capsys.readouterr().out.split())
    assert "Rolled back kobe_shot from version 2 to version 1" in printed
    assert f"Predictions: {IDENTICAL}" in printed


def test_the_run_has_tags_of_both_champions_and_the_reason(store_with_models: LoggedModels) -> None:
    champions(store_with_models, GOOD, BAD)
    reverted(reason="it misses layups")
    run = newest_run()
    assert (run.info.run_name, run.info.status) == ("Reverter", "FINISHED")
    tags = run.data.tags
    assert (tags["champion"], tags["model_version"], tags["reason"]) == ("2", "1", "it misses layups")
    assert (tags["data_source"], tags["synthetic"]) == ("public", "false")


def test_a_named_version_is_restored(store_with_models: LoggedModels) -> None:
    champions(store_with_models, GOOD, SAME, BAD)
    assert reverted(version="1") == RollbackResult("3", "1", IDENTICAL)
    assert alias_state() == ("1", None, {"1": "Production", "2": "Archived", "3": "Archived"})


def test_done_again_it_goes_one_champion_further_back_until_there_is_none(store_with_models: LoggedModels) -> None:
    champions(store_with_models, GOOD, SAME, BAD)
    assert [reverted().version, reverted().version] == ["2", "1"]
    with pytest.raises(RegistryError, match="no previous champion"):
        reverted()
    assert alias_state()[:2] == ("1", None)


def test_a_version_with_different_predictions_is_refused_and_nothing_changes(store_with_models: LoggedModels) -> None:
    champions(store_with_models, GOOD, BAD)
    other = store_with_models.models[BAD].uri
    for tag, decimals in ((PREDICTIONS_SHA256, None), (ROUNDED_PREDICTIONS_SHA256, ROUNDED_DECIMALS)):
        MlflowClient().set_model_version_tag(registry.MODEL, "1", tag, prediction_hash(other, decimals))
    before, history = alias_state(), registry.tags_of("1")
    with pytest.raises(RegistryError, match="The predictions of version 1 of kobe_shot differ from those at"):
        reverted()
    assert (alias_state(), registry.tags_of("1")) == (before, history)
    assert newest_run().info.status == "FAILED"


def test_a_version_that_cannot_be_loaded_is_refused_and_nothing_changes(store_with_models: LoggedModels) -> None:
    registry.promote(register_without_files(**{PREDICTIONS_SHA256: "0" * 64}), "before its files were lost")
    champions(store_with_models, GOOD)
    before = alias_state()
    with pytest.raises(ScoredError, match="models:/kobe_shot/1 cannot be loaded"):
        reverted()
    assert alias_state() == before


def test_a_version_without_a_prediction_hash_is_restored_with_a_note(
    store_with_models: LoggedModels, capsys: pytest.CaptureFixture[str]
) -> None:
    champions(store_with_models, GOOD, BAD, known=False)
    unknown = "the version has no hash of its predictions at registration"
    assert reverted() == RollbackResult("2", "1", unknown)
    assert alias_state()[0] == "1"
    assert unknown in " ".join(capsys.readouterr().out.split())


def test_a_version_whose_last_bits_another_kind_of_machine_computes_differently_is_restored_with_a_note(
    store_with_models: LoggedModels,
) -> None:
    champions(store_with_models, GOOD, BAD)
    MlflowClient().set_model_version_tag(registry.MODEL, "1", PREDICTIONS_SHA256, "of another kind of machine")
    assert "to 9 decimals (another machine)" in reverted().predictions
    assert alias_state()[0] == "1"


@pytest.mark.parametrize(
    ("version", "words"), [("9", "has no version 9"), ("2", "champion already"), ("", "no previous champion")]
)
def test_a_version_that_cannot_be_restored_is_reported_and_nothing_changes(
    store_with_models: LoggedModels, version: str, words: str
) -> None:
    champions(store_with_models, GOOD, BAD)
    if not version:
        registry.roll_back("a wish")
    before = alias_state()
    with pytest.raises(RegistryError, match=words):
        reverted(version=version)
    assert alias_state() == before


@pytest.mark.usefixtures("store")
def test_without_a_registered_version_an_error_is_raised() -> None:
    with pytest.raises(RegistryError, match="no previous champion to restore"):
        reverted()


def test_a_killed_promotion_is_reconciled_before_a_rollback(store_with_models: LoggedModels) -> None:
    champions(store_with_models, GOOD, SAME, BAD)
    # The alias moved, and the process ended before stage and previous champion did.
    client = MlflowClient()
    client.set_registered_model_alias(registry.MODEL, "champion", "2")
    client.set_registered_model_alias(registry.MODEL, "previous_champion", "2")
    assert reverted() == RollbackResult("2", "1", IDENTICAL)
    assert alias_state()[:2] == ("1", None)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--version", "newest"], "expected the number of a version, or nothing; found"),
        (["--version", "-1"], "expected the number of a version"),
        (["--reason", "  "], "expected a reason, which the history of the version keeps"),
        (["--nonsense", "1"], "nonsense"),
    ],
)
def test_a_wrong_parameter_is_reported_and_nothing_is_done(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_args(ReverterConfig, arguments)
    assert caught.value.code == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_reason_is_kept_without_the_spaces_around_it() -> None:
    assert parse_args(ReverterConfig, ["--reason", " it misses layups "]).reason == "it misses layups"


def test_a_rollback_changes_nothing_if_the_champion_changes_while_predictions_are_verified(
    store_with_models: LoggedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    champions(store_with_models, GOOD, SAME, BAD)

    def meanwhile(uri: str, decimals: int | None = None) -> str:
        monkeypatch.setattr(verification, "prediction_hash", prediction_hash)
        registry.roll_back("another command was quicker")
        return prediction_hash(uri, decimals)

    monkeypatch.setattr(verification, "prediction_hash", meanwhile)
    with pytest.raises(
        RegistryError, match=r"was version 3 when .*; another command has changed that, and it is now version 2"
    ):
        reverted()
    assert alias_state() == ("2", "1", {"1": "Archived", "2": "Production", "3": "Archived"})
