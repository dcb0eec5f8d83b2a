import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

from data.paths import ROOT
from serving import registry
from serving.model.manifest import RECORDED_FROM
from serving.registry import CHALLENGER, MODEL, ConcurrentPromotionError, RegistryError, lock
from serving.registry.versions import FORMER_TAGS
from tests import fork_server
from tests.project import environment
from tests.versions import GOOD, REJECTED, Killed, LoggedModels, kill_at, promote_versions, register_without_files

Register = Callable[..., str]

pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture
def version() -> Register:
    """A function that registers one more version."""
    return register_without_files


def aliases_and_stages() -> tuple[str | None, str | None, dict[str, str]]:
    stages = {registry.number(v): v.current_stage for v in MlflowClient().search_model_versions(f"name='{MODEL}'")}
    now = registry.alias_state()
    return now.champion, now.previous_champion, stages


def test_a_registered_version_is_not_promoted(store_with_models: LoggedModels) -> None:
    number = store_with_models.register(GOOD, data_source="public")
    found = MlflowClient().get_model_version(MODEL, number)
    assert (found.tags["data_source"], found.description) == ("public", "for a test")
    logged = store_with_models.models[GOOD]
    assert found.run_id == registry.run_of(number) == logged.run_id
    assert found.source == logged.uri
    registry.describe(number, "two-point shots")
    assert MlflowClient().get_model_version(MODEL, number).description == "two-point shots"
    assert registry.champion() is None
    with pytest.raises(RegistryError, match="no champion yet"):
        registry.require_champion()


def test_the_registered_model_has_its_description_and_the_first_version_with_recorded_files(
    store_with_models: LoggedModels,
) -> None:
    first, _ = (store_with_models.register(GOOD) for _ in range(2))
    found = MlflowClient().get_registered_model(MODEL)
    assert (found.description, found.tags[RECORDED_FROM]) == ("P(made) of a shot of Kobe Bryant.", first)


def test_versions_are_listed_by_number(version: Register) -> None:
    numbers = [version(None) for _ in range(11)]
    assert registry.versions() == numbers
    with pytest.raises(RegistryError, match=f"no version 12; expected one of {', '.join(numbers)}"):
        registry.rollback_target("12")


def test_where_nothing_is_registered_there_is_no_champion_and_no_problem() -> None:
    registry.reconcile()
    assert registry.champion_history() == []
    assert registry.alias_state() == registry.AliasState(None, None, frozenset())
    assert not registry.was_champion("1")
    assert (registry.versions(), registry.tags_of("1"), registry.run_of("1")) == ([], {}, "")


def test_a_server_with_accounts_that_denies_what_does_not_exist_has_no_champion(
    version: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> None:
        message = "denied"
        raise MlflowException(message, PERMISSION_DENIED)

    monkeypatch.setattr(MlflowClient, "get_model_version_by_alias", denied)
    assert registry.champion() is None
    version(None)
    with pytest.raises(MlflowException, match="denied"):
        registry.champion()


@pytest.mark.parametrize("name", ["two/parts", " space", "space ", "..", "x" * 201])
def test_a_name_that_no_registered_model_can_have_is_rejected(name: str) -> None:
    with registry.use_model_name(name), pytest.raises(RegistryError, match="expected the name of a registered model"):
        registry.model()


def test_champion_and_production_move_together_and_the_previous_champion_is_kept(version: Register) -> None:
    for number in (1, 2, 3):
        registry.promote(version(), "better")
        assert registry.number(registry.require_champion()) == str(number)
    assert aliases_and_stages() == ("3", "2", {"1": "Archived", "2": "Archived", "3": "Production"})


def test_a_version_that_did_not_pass_the_gate_changes_nothing(version: Register) -> None:
    registry.promote(version(), "better")
    rejected = version(REJECTED)
    with pytest.raises(RegistryError, match="did not pass the gate"):
        registry.promote(rejected, "newest")
    assert aliases_and_stages() == ("1", None, {"1": "Production", "2": "None"})
    assert MlflowClient().get_model_version(MODEL, rejected).tags["gate"] == "rejected"


def test_a_version_without_a_gate_result_is_not_promoted(version: Register) -> None:
    with pytest.raises(RegistryError, match=r"did not pass the gate .*: the gate has not evaluated it"):
        registry.promote(version(None), "newest")


def test_promoting_the_champion_again_keeps_the_previous_one(version: Register) -> None:
    registry.promote(version(), "better")
    second = version()
    registry.promote(second, "better")
    registry.promote(second, "better")
    assert aliases_and_stages()[:2] == ("2", "1")


def test_each_promotion_is_appended_to_the_version_with_who_when_where_and_why(version: Register) -> None:
    first = version()
    registry.promote(first, "better")
    registry.promote(version(), "better")
    registry.promote(first, "better after all")
    found = MlflowClient().get_model_version(MODEL, first)
    history = registry.promotions(found)
    assert [(entry["instead_of"], entry["why"]) for entry in history] == [(None, "better"), ("2", "better after all")]
    assert all(entry["who"] and entry["when"] and entry["where"] for entry in history)
    assert float(found.tags["gate_loss"]) == 0.67


def test_a_user_without_a_name_can_promote(version: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_name() -> str:
        raise KeyError

    monkeypatch.setattr("getpass.getuser", no_name)
    registry.promote(version(), "better")
    assert registry.promotions(registry.require_champion())[0]["who"] == f"uid {os.getuid()}"


def test_the_stage_follows_the_alias_after_a_kill_between_the_two(version: Register) -> None:
    registry.promote(version(), "better")
    MlflowClient().set_registered_model_alias(MODEL, "champion", version())
    registry.reconcile()
    assert aliases_and_stages()[2] == {"1": "Archived", "2": "Production"}


def test_production_holds_the_champion_alone(version: Register) -> None:
    registry.promote(version(), "better")
    with pytest.warns(FutureWarning):
        MlflowClient().transition_model_version_stage(MODEL, version(), "Production")
    registry.reconcile()
    assert aliases_and_stages()[2] == {"1": "Production", "2": "Archived"}


def test_an_alias_on_a_version_that_did_not_pass_does_not_bring_it_into_production(version: Register) -> None:
    registry.promote(version(), "better")
    MlflowClient().set_registered_model_alias(MODEL, "champion", version(REJECTED))
    registry.reconcile()
    assert aliases_and_stages()[2] == {"1": "Production", "2": "None"}
    with pytest.raises(RegistryError, match="has not passed the gate"):
        registry.require_champion()


def fail_after(*promoted: str) -> None:
    with registry.rollback_on_failure():
        for number in promoted:
            registry.promote(number, "better")
        message = "it cannot be served"
        raise OSError(message)


def test_a_promotion_is_revoked_when_a_later_step_fails(version: Register) -> None:
    registry.promote(version(), "better")
    registry.promote(version(), "better")
    third = version()
    with pytest.raises(OSError, match="cannot be served"):
        fail_after(third)
    assert aliases_and_stages() == ("2", "1", {"1": "Archived", "2": "Production", "3": "Archived"})
    assert "it cannot be served" in MlflowClient().get_model_version(MODEL, third).tags["revoked"]


def test_the_reason_of_a_promotion_that_0_1_0_revoked_is_still_read(version: Register) -> None:
    number = version(taken_back="it could not be served")
    MlflowClient().set_model_version_tag(MODEL, number, "gate", "taken back")
    with pytest.raises(RegistryError, match="is not promoted: it could not be served"):
        registry.promote(number, "newest")


@pytest.mark.parametrize(("name", "former"), FORMER_TAGS.items())
def test_tags_of_a_version_of_0_1_0_are_read_by_the_names_of_today(name: str, former: str) -> None:
    assert registry.read_tag({former: "before"}, name) == "before"
    assert registry.read_tag({former: "before", name: "today"}, name) == "today"
    assert registry.read_tag({}, name) == registry.read_tag({former: "before"}, "gate") == ""


def test_the_very_first_promotion_is_revoked_too(version: Register) -> None:
    with pytest.raises(OSError, match="cannot be served"):
        fail_after(version())
    assert aliases_and_stages() == (None, None, {"1": "Archived"})


def test_production_is_restored_where_no_alias_named_it(version: Register) -> None:
    registry.promote(version(), "better")
    MlflowClient().delete_registered_model_alias(MODEL, "champion")
    with pytest.raises(OSError, match="cannot be served"):
        fail_after(version())
    assert aliases_and_stages() == (None, None, {"1": "Production", "2": "Archived"})


@pytest.mark.parametrize("calls", range(1, 5))
def test_a_kill_while_a_promotion_is_revoked_leaves_no_version_in_production_that_cannot_be_served(
    version: Register, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    before, first = registry.alias_state(), version()
    registry.promote(first, "better")
    left = iter(range(calls))

    def killed_after(method: str) -> Callable[..., object]:
        original = getattr(MlflowClient, method)

        def call(*arguments: object, **options: object) -> object:
            if next(left, None) is None:
                raise SystemExit
            return original(*arguments, **options)

        return call

    for method in ("set_model_version_tag", "delete_registered_model_alias", "transition_model_version_stage"):
        monkeypatch.setattr(MlflowClient, method, killed_after(method))
    with contextlib.suppress(SystemExit):
        registry.revoke(registry.require_champion(), "it cannot be served", restore=before)
    monkeypatch.undo()
    registry.reconcile()
    assert aliases_and_stages()[2] == {"1": "Archived"}


def test_nothing_that_did_not_pass_the_gate_stays_in_production(version: Register) -> None:
    with pytest.warns(FutureWarning):
        MlflowClient().transition_model_version_stage(MODEL, version(REJECTED), "Production")
    registry.reconcile()
    assert aliases_and_stages()[2] == {"1": "Archived"}


def test_a_failure_does_not_revoke_what_another_process_promoted(
    version: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.promote(version(), "better")
    second = version()

    def elsewhere() -> None:
        with registry.rollback_on_failure():
            monkeypatch.setattr("os.getpid", lambda: -1)
            registry.promote(second, "better")
            monkeypatch.undo()
            raise OSError

    with pytest.raises(OSError):  # noqa: PT011 raised just above
        elsewhere()
    assert aliases_and_stages()[0] == "2"


def test_without_a_failure_no_promotion_is_revoked(version: Register) -> None:
    with registry.rollback_on_failure():
        registry.promote(version(), "better")
    assert aliases_and_stages()[0] == "1"


def aliases() -> dict[str, str]:
    found = MlflowClient().get_registered_model(registry.model()).aliases
    return {alias: str(number) for alias, number in found.items()}


def challenged(name: str, **details: str) -> Sequence[str]:
    """Numbers of the versions whose history has an entry with these details."""
    versions = MlflowClient().search_model_versions(f"name='{name}'")
    return sorted(
        registry.number(version)
        for version in versions
        for entry in registry.promotions(version)
        if details.items() <= entry.items()
    )


def test_rolling_back_makes_the_previous_champion_champion_and_production_again() -> None:
    promote_versions(2)
    assert registry.roll_back("it misses layups") == "1"
    assert aliases_and_stages() == ("1", None, {"1": "Production", "2": "Archived"})
    last = registry.promotions(registry.require_champion())[-1]
    assert (last["why"], last["instead_of"], last["kind"]) == ("it misses layups", "2", "roll back")


def test_rolling_back_again_restores_the_champion_before_until_there_is_none() -> None:
    promote_versions(3)
    assert registry.roll_back("it misses layups") == "2"
    assert aliases_and_stages() == ("2", "1", {"1": "Archived", "2": "Production", "3": "Archived"})
    assert registry.roll_back("it misses dunks") == "1"
    assert aliases_and_stages()[:2] == ("1", None)
    with pytest.raises(RegistryError, match="no previous champion to restore"):
        registry.roll_back("it misses everything")
    assert aliases_and_stages() == ("1", None, {"1": "Production", "2": "Archived", "3": "Archived"})


def test_a_later_rollback_skips_a_version_that_was_rolled_back_from(version: Register) -> None:
    promote_versions(3)
    registry.roll_back("it misses layups")
    registry.promote(version(), "better")
    assert registry.champion_history() == ["1", "2", "4"]
    assert aliases_and_stages()[:2] == ("4", "2")
    assert registry.roll_back("so does this") == "2"


def test_a_version_that_was_rolled_back_from_can_be_promoted_again() -> None:
    promote_versions(2)
    registry.roll_back("to inspect it")
    registry.promote("2", "it was not its fault")
    assert aliases_and_stages() == ("2", "1", {"1": "Archived", "2": "Production"})
    assert registry.roll_back("it was") == "1"


def test_a_named_version_is_restored_and_all_later_promotions_are_undone(version: Register) -> None:
    promote_versions(4)
    assert registry.roll_back("all later ones miss layups", "2") == "2"
    assert aliases_and_stages()[:2] == ("2", "1")
    assert aliases_and_stages()[2] == {"1": "Archived", "2": "Production", "3": "Archived", "4": "Archived"}
    registry.promote(version(), "better")
    assert registry.champion_history() == ["1", "2", "5"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("9", "has no version 9; expected one of 1, 2, 3"),
        ("2", "Version 2 of kobe_shot is the champion already"),
        ("3", "Version 3 of kobe_shot did not pass the gate"),
    ],
)
def test_a_named_version_that_may_not_be_restored_is_rejected_with_a_message(
    version: Register, number: str, words: str
) -> None:
    promote_versions(2)
    version(REJECTED)
    before = aliases_and_stages()
    for refused in (registry.rollback_target, lambda target: registry.roll_back("a wish", target)):
        with pytest.raises(RegistryError, match=words):
            refused(number)
    assert aliases_and_stages() == before
    assert challenged(MODEL, kind="roll back") == []


def test_the_target_of_a_rollback_is_known_without_rolling_back() -> None:
    promote_versions(2)
    before = aliases_and_stages()
    assert registry.rollback_target() == "1"
    assert aliases_and_stages() == before


def test_without_a_previous_champion_nothing_is_rolled_back() -> None:
    with pytest.raises(RegistryError, match="no previous champion"):
        registry.roll_back("a wish")
    promote_versions(1)
    with pytest.raises(RegistryError, match="no previous champion"):
        registry.roll_back("a wish")
    assert aliases_and_stages() == ("1", None, {"1": "Production"})


def test_a_previous_champion_that_lost_its_gate_result_is_skipped() -> None:
    promote_versions(3)
    registry.record_gate_result("2", REJECTED)
    assert registry.champion_history() == ["1", "3"]
    registry.reconcile()
    assert aliases_and_stages()[1] == "1"
    assert registry.roll_back("a wish") == "1"
    assert aliases_and_stages() == ("1", None, {"1": "Production", "2": "Archived", "3": "Archived"})


def test_where_no_other_champion_has_passed_the_gate_there_is_no_rollback() -> None:
    promote_versions(2)
    registry.record_gate_result("1", REJECTED)
    with pytest.raises(RegistryError, match="no previous champion"):
        registry.roll_back("a wish")
    with pytest.raises(RegistryError, match="did not pass the gate"):
        registry.roll_back("a wish", "1")
    assert aliases_and_stages()[0] == "2"


def test_what_was_rolled_back_from_stays_undone_when_the_restored_version_loses_its_gate_result() -> None:
    promote_versions(3)
    registry.roll_back("3 misses layups")
    registry.record_gate_result("2", REJECTED)
    assert registry.roll_back("2 was no better") == "1"


def test_a_manual_alias_does_not_roll_back_to_the_champion_itself() -> None:
    promote_versions(1)
    MlflowClient().set_registered_model_alias(MODEL, "previous_champion", "1")
    with pytest.raises(RegistryError, match="no previous champion"):
        registry.roll_back("a wish")
    registry.reconcile()
    assert aliases_and_stages()[1] is None
    assert len(registry.promotions(registry.require_champion())) == 1


def test_a_manually_set_champion_is_the_last_in_the_history(version: Register) -> None:
    promote_versions(2)
    MlflowClient().set_registered_model_alias(MODEL, "champion", version())
    registry.reconcile()
    assert aliases_and_stages() == ("3", "2", {"1": "Archived", "2": "Archived", "3": "Production"})
    assert registry.roll_back("whoever did that") == "2"
    assert aliases_and_stages()[:2] == ("2", "1")


def test_a_manual_rollback_undoes_all_later_promotions(version: Register) -> None:
    promote_versions(3)
    MlflowClient().set_registered_model_alias(MODEL, "champion", "1")
    registry.reconcile()
    assert aliases_and_stages() == ("1", None, {"1": "Production", "2": "Archived", "3": "Archived"})
    registry.promote(version(), "better")
    assert registry.rollback_target() == "1"


def test_a_version_was_champion_if_only_for_a_time(version: Register) -> None:
    promote_versions(2)
    version()
    assert [registry.was_champion(number) for number in "123"] == [True, True, False]
    registry.roll_back("it misses layups")
    assert registry.was_champion("2")
    assert not registry.was_champion("9")


# Two processes at once


def test_a_version_that_was_compared_with_another_champion_is_not_promoted(version: Register) -> None:
    promote_versions(2)
    late = version()
    before, aliases_before = aliases_and_stages(), aliases()
    with pytest.raises(
        ConcurrentPromotionError, match=r"Version 3 of kobe_shot was compared with .*version 1; .* now version 2"
    ):
        registry.promote(late, "better", instead_of="1")
    assert (aliases_and_stages(), aliases()) == (before, aliases_before)
    assert registry.promotions(MlflowClient().get_model_version(MODEL, late)) == []
    registry.promote(late, "better", instead_of="2")
    assert aliases_and_stages()[:2] == ("3", "2")


def test_a_version_that_was_compared_with_a_champion_that_is_gone_is_not_promoted(version: Register) -> None:
    promote_versions(1)
    late = version()
    MlflowClient().delete_registered_model_alias(MODEL, "champion")
    with pytest.raises(ConcurrentPromotionError, match="the champion is now none"):
        registry.promote(late, "better", instead_of="1")
    assert registry.champion() is None


def test_a_version_that_was_compared_with_no_champion_does_not_replace_one(version: Register) -> None:
    late = version()
    registry.promote(version(), "it was quicker", instead_of="")
    with pytest.raises(ConcurrentPromotionError, match=r"compared with champion none; the champion is now version 2"):
        registry.promote(late, "better", instead_of="")
    assert aliases_and_stages() == ("2", None, {"1": "None", "2": "Production"})


# Challengers that come to nothing


def test_a_version_that_is_put_away_keeps_the_reason_and_changes_nothing_else(version: Register) -> None:
    promote_versions(1)
    rejected = version(REJECTED)
    MlflowClient().set_registered_model_alias(MODEL, CHALLENGER, rejected)
    registry.archive(rejected, "worse on every row")
    assert aliases_and_stages() == ("1", None, {"1": "Production", "2": "Archived"})
    assert registry.tags_of(rejected)["archive_reason"] == "worse on every row"
    assert aliases() == {"champion": "1"}


def test_archiving_a_version_does_not_affect_another_challenger(version: Register) -> None:
    promote_versions(1)
    first, second = version(REJECTED), version()
    MlflowClient().set_registered_model_alias(MODEL, CHALLENGER, second)
    registry.archive(first, "x" * 10_000)
    assert aliases() == {"champion": "1", CHALLENGER: second}


def test_the_champion_is_not_a_challenger(version: Register) -> None:
    for number in ("1", "2"):
        registry.promote(version(), "better")
        assert CHALLENGER not in aliases()
        assert aliases()["champion"] == number


WHOLE_PROMOTION = ["alias", "tag", "alias", "stage", "stage", "alias", "no alias"]
"""Challenger, history, champion, Production, Archived, previous champion, challenger."""


def test_a_promotion_makes_the_changes_between_which_the_next_tests_kill(
    version: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote_versions(2)
    third = version()
    made = kill_at(monkeypatch, 99)
    registry.promote(third, "better")
    assert made == WHOLE_PROMOTION


@pytest.mark.parametrize("place", range(len(WHOLE_PROMOTION)))
def test_a_promotion_that_was_killed_anywhere_is_completed_or_undone(
    version: Register, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    promote_versions(2)
    third = version()
    with monkeypatch.context() as patch:
        kill_at(patch, place)
        with pytest.raises(Killed):
            registry.promote(third, "better")
    registry.reconcile()
    champion, previous, before = ("3", "2", "1") if place > 2 else ("2", "1", None)
    assert aliases_and_stages()[:2] == (champion, previous)
    assert [number for number, stage in aliases_and_stages()[2].items() if stage == "Production"] == [champion]
    assert aliases().get(CHALLENGER) != champion
    assert registry.roll_back("a wish") == previous
    assert aliases_and_stages()[1] == before


@pytest.mark.parametrize("place", range(len(WHOLE_PROMOTION)))
def test_a_version_whose_promotion_was_killed_before_it_was_champion_is_not_a_rollback_target(
    version: Register, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    promote_versions(2)
    third = version()
    with monkeypatch.context() as patch:
        kill_at(patch, place)
        with pytest.raises(Killed):
            registry.promote(third, "better")
    registry.reconcile()
    was_champion = str(registry.alias_state().champion)
    assert registry.was_champion(third) is (was_champion == third)
    registry.promote(version(), "better")
    assert registry.was_champion(third) is (was_champion == third)
    assert aliases_and_stages()[:2] == ("4", was_champion)
    assert registry.rollback_target() == was_champion


@pytest.mark.parametrize("place", range(5))
def test_a_rollback_that_was_killed_anywhere_is_completed_or_undone(
    monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    promote_versions(3)
    with monkeypatch.context() as patch:
        made = kill_at(patch, place)
        with pytest.raises(Killed):
            registry.roll_back("it misses layups")
    registry.reconcile()
    champion, previous = ("2", "1") if "alias" in made else ("3", "2")
    assert aliases_and_stages()[:2] == (champion, previous)
    assert [number for number, stage in aliases_and_stages()[2].items() if stage == "Production"] == [champion]


@pytest.mark.parametrize("place", range(3))
def test_archiving_a_version_that_was_killed_anywhere_can_be_repeated(
    version: Register, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    promote_versions(1)
    rejected = version(REJECTED)
    MlflowClient().set_registered_model_alias(MODEL, CHALLENGER, rejected)
    with monkeypatch.context() as patch:
        kill_at(patch, place)
        with pytest.raises(Killed):
            registry.archive(rejected, "worse")
    registry.archive(rejected, "worse")
    assert aliases_and_stages() == ("1", None, {"1": "Production", "2": "Archived"})
    assert aliases() == {"champion": "1"}


# More than one registered model


def test_changes_of_another_registered_model_do_not_affect_the_first(version: Register) -> None:
    promote_versions(2)
    before, aliases_before = aliases_and_stages(), aliases()
    with registry.use_model_name("another"):
        assert registry.model() == "another"
        assert registry.champion() is None
        registry.promote(version(), "better")
        registry.promote(version(), "better")
        registry.roll_back("a wish")
        registry.reconcile()
        assert (registry.alias_state().champion, aliases()) == ("1", {"champion": "1"})
    assert registry.model() == MODEL
    assert (aliases_and_stages(), aliases()) == (before, aliases_before)
    assert challenged(MODEL, kind="roll back") == []
    assert challenged("another", kind="roll back") == ["1"]


def test_the_other_model_is_unset_when_the_work_fails_or_is_nested(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        with registry.use_model_name("another"), registry.use_model_name("a third"):
            assert registry.model() == "a third"
            raise KeyError

    for before in (None, "mine"):
        if before:
            monkeypatch.setenv("KOBE_SHOT_MODEL", before)
        with pytest.raises(KeyError):
            fail()
        assert registry.model() == (before or MODEL)
        assert os.environ.get("KOBE_SHOT_MODEL") == before


def test_a_registered_model_that_was_created_again_is_another_one(version: Register) -> None:
    with registry.use_model_name("another"):
        version()
    assert registry.created() == ""
    version()
    before = registry.created()
    assert before.isdecimal()
    version()
    assert registry.created() == before
    MlflowClient().delete_registered_model(MODEL)
    assert registry.created() == ""


# One change at a time


def elsewhere(code: str, folder: Path) -> "subprocess.Popen[str]":
    """Another process, in another folder, that uses this store."""
    head = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nimport mlflow\nfrom serving import registry\n"
    store = f"mlflow.set_tracking_uri({mlflow.get_tracking_uri()!r})\n"
    return fork_server.start_code(
        head + store + code, cwd=folder, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def holder(tmp_path: Path) -> "Iterator[subprocess.Popen[str]]":
    """Another process that holds the lock of this registry until it is killed."""
    with elsewhere(
        "with registry.change_lock():\n    print('in', flush=True)\n    sys.stdin.read()", tmp_path
    ) as process:
        assert line_of(process) == "in"
        yield process
        process.kill()


def test_every_change_of_the_registry_waits_for_another_process_and_ends_with_a_message(
    version: Register, monkeypatch: pytest.MonkeyPatch, holder: "subprocess.Popen[str]"
) -> None:
    changes: list[Callable[[], object]] = [
        lambda: registry.promote("2", "better"),
        lambda: registry.roll_back("a wish", "1"),
        lambda: registry.record_gate_result("2", REJECTED),
        lambda: registry.archive("2", "not needed"),
        registry.reconcile,
    ]
    with registry.use_model_name("another"):
        promote_versions(1)
    monkeypatch.setattr(lock, "WAIT_SECONDS", 0.01)
    words = f"a change of kobe_shot, by process {holder.pid} .*, after a wait of 0.01 s"
    for change in changes:
        with pytest.raises(RegistryError, match=words):
            change()
    assert registry.champion() is None
    holder.kill()
    holder.wait()
    promote_versions(1)
    version()
    for change in changes:
        change()
    assert aliases_and_stages() == ("1", None, {"1": "Production", "2": "Archived"})


def test_a_change_within_a_change_is_one(version: Register) -> None:
    with registry.change_lock():
        registry.promote(version(), "better")
        with pytest.raises(RegistryError):
            registry.promote(version(REJECTED), "worse")
        registry.promote(version(), "better")
    assert aliases_and_stages()[:2] == ("3", "1")


def test_of_processes_that_promote_at_once_in_the_place_of_one_champion_one_does(
    version: Register, tmp_path: Path
) -> None:
    promote_versions(1)
    code = (
        "print('ready', flush=True)\nversion = sys.stdin.readline().strip()\n"
        "try:\n    registry.promote(version, 'better', instead_of='1')\n    print('promoted', flush=True)\n"
        "except registry.ConcurrentPromotionError as error:\n    print(error, flush=True)"
    )
    with contextlib.ExitStack() as stack:
        processes = {version(): stack.enter_context(elsewhere(code, tmp_path)) for _ in range(2)}
        assert [line_of(process) for process in processes.values()] == ["ready"] * 2
        for number, process in processes.items():
            assert process.stdin is not None
            process.stdin.write(f"{number}\n")
            process.stdin.flush()
        found = {number: line_of(process) for number, process in processes.items()}
    (winner,) = (number for number, line in found.items() if line == "promoted")
    expected = f"was compared with champion version 1; the champion is now version {winner}."
    assert all(line.endswith(expected) for number, line in found.items() if number != winner)
    assert aliases_and_stages()[:2] == (winner, "1")
    assert [number for number, stage in aliases_and_stages()[2].items() if stage == "Production"] == [winner]


def test_a_rollback_from_a_champion_that_another_command_has_replaced_changes_nothing() -> None:
    promote_versions(3)
    registry.roll_back("the first of two", instead_of="3")
    before = aliases_and_stages()
    words = r"champion of kobe_shot was version 3 .* it is now version 2\. Nothing was changed\. .*make history"
    with pytest.raises(ConcurrentPromotionError, match=words):
        registry.roll_back("the second of two", instead_of="3")
    assert aliases_and_stages() == before


@pytest.mark.parametrize("there", ["3", None])
def test_a_champion_that_another_machine_makes_meanwhile_stays(
    version: Register, monkeypatch: pytest.MonkeyPatch, there: str | None
) -> None:
    promote_versions(1)
    mine, _ = version(), version()
    original = MlflowClient.set_model_version_tag

    def set_tag(client: MlflowClient, name: str, number: str, key: str, value: str) -> None:
        original(client, name, number, key, value)
        if there:
            client.set_registered_model_alias(MODEL, "champion", there)
        else:
            client.delete_registered_model_alias(MODEL, "champion")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_model_version_tag", set_tag)
        with pytest.raises(ConcurrentPromotionError, match=f"has made version {there or 'none'} champion meanwhile"):
            registry.promote(mine, "better", instead_of="1")
    assert aliases_and_stages()[0] == there
    assert not registry.was_champion(mine)
    assert registry.promotions(MlflowClient().get_model_version(MODEL, mine)) == []


# Manual changes


def test_without_manual_changes_there_is_no_problem(version: Register) -> None:
    assert registry.alias_problems() == []
    version()
    assert registry.alias_problems() == []
    promote_versions(2)
    registry.roll_back("a wish")
    assert registry.alias_problems() == []


@pytest.mark.parametrize("before", [0, 1])
def test_an_alias_on_a_version_that_did_not_pass_the_gate_is_reported_with_the_remedy(
    version: Register, capsys: pytest.CaptureFixture[str], before: int
) -> None:
    promote_versions(before)
    number = version(REJECTED)
    MlflowClient().set_registered_model_alias(MODEL, "champion", number)
    (problem,) = registry.alias_problems()
    assert f"names version {number}, which has not passed the gate (worse): it was set by hand" in problem
    assert ("Restore version 1: make roll-back" if before else "Train another: mlflow run . -e treinamento") in problem
    registry.reconcile()
    assert "which has not passed the gate" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(RegistryError, match="which has not passed the gate"):
        registry.require_champion()
    if before:
        assert registry.roll_back("the remedy") == "1"
        assert registry.alias_problems() == []


def test_a_stage_that_was_moved_alone_is_reported_and_follows_the_alias_again(
    version: Register, capsys: pytest.CaptureFixture[str]
) -> None:
    promote_versions(1)
    with pytest.warns(FutureWarning):
        MlflowClient().transition_model_version_stage(MODEL, version(), "Production", archive_existing_versions=True)
    (problem,) = registry.alias_problems()
    assert problem.startswith("The stage Production holds version 2, and the alias champion names version 1: ")
    assert "`mlflow models serve` uses the stage" in problem
    registry.reconcile()
    assert "The stage Production holds version 2" in " ".join(capsys.readouterr().out.split())
    assert registry.alias_problems() == []
    assert aliases_and_stages()[2] == {"1": "Production", "2": "Archived"}


def test_a_champion_that_is_not_in_production_is_reported() -> None:
    promote_versions(1)
    with pytest.warns(FutureWarning):
        MlflowClient().transition_model_version_stage(MODEL, "1", "Archived")
    (problem,) = registry.alias_problems()
    assert problem.startswith("The stage Production holds version none, and the alias champion names version 1: ")


def test_a_missing_alias_is_reported_with_the_version_that_is_in_production() -> None:
    promote_versions(2)
    MlflowClient().delete_registered_model_alias(MODEL, "champion")
    (problem,) = registry.alias_problems()
    assert problem.endswith("Restore the alias: mlflow run . -e reverter -P version=2")
    assert registry.roll_back("the remedy", "2", instead_of="") == "2"
    assert registry.alias_problems() == []


@pytest.mark.parametrize("removed", ["alias", "version"])
def test_a_champion_that_was_removed_by_hand_is_not_reported_as_never_promoted(removed: str) -> None:
    promote_versions(2)
    if removed == "alias":
        MlflowClient().delete_registered_model_alias(MODEL, registry.CHAMPION)
    else:
        MlflowClient().delete_model_version(MODEL, "2")
    restored = "2" if removed == "alias" else "1"
    words = rf"has no champion: a person has removed the alias champion.*Restore version {restored}: .* reverter"
    with pytest.raises(RegistryError, match=words):
        registry.require_champion()
    (problem,) = registry.alias_problems()
    assert f"version {restored}" in problem
    assert registry.roll_back("removed") == restored
    assert registry.alias_problems() == []
