import threading

import pytest
from mlflow import MlflowClient

from serving import registry
from serving.registry import ConcurrentPromotionError, RegistryError
from tests.versions import PASSED, Killed, kill_at, promote_versions, register_without_files

pytestmark = pytest.mark.usefixtures("store")


def requested(instead_of: str = "1") -> str:
    """A version that waits for approval; its number."""
    version = register_without_files(None)
    registry.request_approval(version, PASSED, instead_of=instead_of)
    return version


def stage(version: str) -> str:
    return str(MlflowClient().get_model_version(registry.model(), version).current_stage)


def waiting() -> list[str]:
    return [registry.number(version) for version in registry.awaiting_approval()]


def test_a_version_that_waits_changes_neither_champion_nor_production_and_has_its_evidence() -> None:
    promote_versions(1)
    before = registry.alias_state()
    version = requested()
    assert (registry.alias_state(), waiting()) == (before, [version])
    tags = registry.tags_of(version)
    assert (tags["gate"], tags["gate_reason"]) == ("awaiting approval", "better")
    assert float(tags["gate_loss"]) == PASSED.loss
    assert registry.approval_of(tags)["instead_of"] == "1"
    assert str(MlflowClient().get_registered_model(registry.model()).aliases["challenger"]) == version


@pytest.mark.parametrize("champions", [0, 1])
def test_an_approved_version_is_champion_and_its_history_records_who_and_why(champions: int) -> None:
    promote_versions(champions)
    version = requested("1" if champions else "")
    registry.approve(version, "checked by slice", who="Ana")
    assert (registry.alias_state().champion, stage(version), waiting()) == (version, "Production", [])
    (entry,) = registry.promotions(registry.require_champion())
    assert (entry["who"], entry["why"], entry["instead_of"]) == (
        "Ana", "better; approved by Ana: checked by slice", "1" if champions else None,
    )  # fmt: skip
    held = registry.approval_of(registry.tags_of(version))
    assert (held["decision"], held["who"], held["why"]) == ("approved", "Ana", "checked by slice")


def test_a_rejected_version_is_archived_with_who_and_why_and_no_rollback_restores_it() -> None:
    promote_versions(1)
    version = requested()
    registry.reject(version, "it misses layups", who="Ana")
    assert (registry.alias_state().champion, stage(version), stage("1")) == ("1", "Archived", "Production")
    tags = registry.tags_of(version)
    assert tags["gate"] == "rejected"
    assert tags["gate_reason"] == "rejected by Ana: it misses layups; it had passed the gate: better"
    with pytest.raises(RegistryError, match="rejected by Ana"):
        registry.rollback_target(version)


def test_nothing_but_an_approval_promotes_a_version_that_waits() -> None:
    promote_versions(1)
    version = requested()
    with pytest.raises(
        RegistryError, match=r"waits for the approval of a person: mlflow run \. -e aprovar -P version=2"
    ):
        registry.promote(version, "anyway")
    with pytest.raises(RegistryError, match="waits for the approval"):
        registry.roll_back("anyway", version)
    assert (registry.alias_state().champion, waiting()) == ("1", [version])


def test_a_newer_version_takes_the_place_of_one_that_waits() -> None:
    promote_versions(1)
    older, newer = requested(), requested()
    assert (waiting(), stage(older)) == ([newer], "Archived")
    with pytest.raises(
        RegistryError, match=f"version {newer} took its place before a person decided. Waiting: {newer}"
    ):
        registry.approve(older, "late")


def test_a_promotion_without_approval_takes_the_place_of_one_that_waits() -> None:
    promote_versions(1)
    version, other = requested(), register_without_files()
    registry.promote(other, "better")
    assert (waiting(), stage(version), registry.alias_state().champion) == ([], "Archived", other)


def test_a_version_that_was_compared_with_another_champion_is_not_approved_but_can_be_rejected() -> None:
    promote_versions(2)
    version = requested("2")
    registry.roll_back("it misses layups")
    with pytest.raises(
        ConcurrentPromotionError, match="compared with champion version 2; the champion is now version 1"
    ):
        registry.approve(version, "checked")
    assert (registry.alias_state().champion, waiting()) == ("1", [version])
    registry.reject(version, "outdated")
    assert waiting() == []


def test_a_version_compared_with_a_former_champion_does_not_wait() -> None:
    promote_versions(2)
    with pytest.raises(ConcurrentPromotionError):
        requested("1")
    assert waiting() == []


def test_what_does_not_wait_is_reported_with_what_became_of_it() -> None:
    promote_versions(1)
    with pytest.raises(RegistryError, match="one version of kobe_shot that waits for approval; found none"):
        registry.require_awaiting()
    with pytest.raises(
        RegistryError, match="it is the champion; it passed the gate, and its promotion needed no approval"
    ):
        registry.require_awaiting("1")
    version = requested()
    assert registry.number(registry.require_awaiting()) == version
    registry.approve(version, "checked", who="Ana")
    for decide in (registry.approve, registry.reject):
        with pytest.raises(RegistryError, match=r"it is the champion; it was approved by Ana on .* UTC: checked"):
            decide(version, "again")
    assert registry.alias_state().champion == version


def test_a_deleted_version_cannot_be_approved() -> None:
    promote_versions(1)
    version = requested()
    MlflowClient().delete_model_version(registry.model(), version)
    with pytest.raises(
        RegistryError, match=f"has no version {version}: it was deleted, or never registered. Waiting: none"
    ):
        registry.approve(version, "checked")


def test_of_two_people_who_decide_at_once_one_does() -> None:
    promote_versions(1)
    version, problems = requested(), []

    def decide(who: str) -> None:
        try:
            registry.approve(version, "checked", who=who)
        except RegistryError as error:
            problems.append(str(error))

    people = [threading.Thread(target=decide, args=(who,)) for who in ("Ana", "Rui")]
    for person in people:
        person.start()
    for person in people:
        person.join()
    (entry,) = registry.promotions(registry.require_champion())
    (problem,) = problems
    assert f"it was approved by {entry['who']}" in problem


@pytest.mark.parametrize("place", range(9))
def test_an_approval_that_was_killed_anywhere_leaves_a_usable_champion(
    monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    promote_versions(1)
    version = requested()
    with monkeypatch.context() as patch:
        made = kill_at(patch, place)
        try:
            registry.approve(version, "checked", who="Ana")
        except Killed:
            assert len(made) == place
    registry.reconcile()
    state = registry.alias_state()
    assert state.champion in {"1", version}
    assert state.production == {state.champion}
