import contextlib
import os
from collections.abc import Callable

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from data.schema import FEATURES
from serving import registry
from serving.gate import Verdict
from serving.packaging import log_scoring_model
from serving.registry import MODEL, RegistryError

PASSED = Verdict(True, "better", 0.67, 0.69, -0.03, -0.01)
REFUSED = Verdict(False, "worse", 0.70, 0.69, 0.0, 0.02)

Register = Callable[..., str]

pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture
def version(shots: pd.DataFrame) -> Register:
    """A function that registers one more version."""
    table = shots.rename(columns={"lon": "lng"})[list(FEATURES)].astype(float)
    pipeline = make_pipeline(LogisticRegression()).fit(table.to_numpy(), np.arange(len(table)) % 2)

    def register(verdict: Verdict = PASSED) -> str:
        with mlflow.start_run() as run:
            info = log_scoring_model(pipeline, table.head(2), threshold=0.5, metadata={})
        number = registry.register(info.model_uri, run.info.run_id, {"synthetic": "true"}, "why")
        registry.judge(number, verdict)
        return number

    return register


def standing() -> tuple[str | None, str | None, dict[str, str]]:
    stages = {registry.number(v): v.current_stage for v in MlflowClient().search_model_versions(f"name='{MODEL}'")}
    now = registry.standing()
    return now.champion, now.previous_champion, stages


def test_a_registered_version_is_not_promoted(version: Register) -> None:
    version()
    assert registry.champion() is None
    with pytest.raises(RegistryError, match="no champion yet"):
        registry.require_champion()


def test_champion_and_production_move_together_and_the_last_one_is_remembered(version: Register) -> None:
    for number in (1, 2, 3):
        registry.promote(version(), "better")
        assert registry.number(registry.require_champion()) == str(number)
    assert standing() == ("3", "2", {"1": "Archived", "2": "Archived", "3": "Production"})


def test_a_version_that_did_not_pass_the_gate_changes_nothing(version: Register) -> None:
    registry.promote(version(), "better")
    refused = version(REFUSED)
    with pytest.raises(RegistryError, match="did not pass the gate"):
        registry.promote(refused, "newest")
    assert standing() == ("1", None, {"1": "Production", "2": "None"})
    assert MlflowClient().get_model_version(MODEL, refused).tags["gate"] == "refused"


def test_a_version_that_was_never_judged_is_not_promoted(version: Register) -> None:
    number = version()
    MlflowClient().delete_model_version_tag(MODEL, number, "gate")
    with pytest.raises(RegistryError, match="did not pass the gate"):
        registry.promote(number, "newest")


def test_promoting_the_champion_again_keeps_the_previous_one(version: Register) -> None:
    registry.promote(version(), "better")
    second = version()
    registry.promote(second, "better")
    registry.promote(second, "better")
    assert standing()[:2] == ("2", "1")


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
    def nobody() -> str:
        raise KeyError

    monkeypatch.setattr("getpass.getuser", nobody)
    registry.promote(version(), "better")
    assert registry.promotions(registry.require_champion())[0]["who"] == f"uid {os.getuid()}"


def test_the_stage_follows_the_alias_after_a_kill_between_the_two(version: Register) -> None:
    registry.promote(version(), "better")
    MlflowClient().set_registered_model_alias(MODEL, "champion", version())
    registry.reconcile()
    assert standing()[2] == {"1": "Archived", "2": "Production"}


def test_production_holds_the_champion_alone(version: Register) -> None:
    registry.promote(version(), "better")
    with pytest.warns(FutureWarning):
        MlflowClient().transition_model_version_stage(MODEL, version(), "Production")
    registry.reconcile()
    assert standing()[2] == {"1": "Production", "2": "Archived"}


def test_an_alias_on_a_version_that_did_not_pass_does_not_bring_it_into_production(version: Register) -> None:
    registry.promote(version(), "better")
    MlflowClient().set_registered_model_alias(MODEL, "champion", version(REFUSED))
    registry.reconcile()
    assert standing()[2] == {"1": "Production", "2": "None"}
    with pytest.raises(RegistryError, match="has not passed the gate"):
        registry.require_champion()


def fail_after(*promoted: str) -> None:
    with registry.taken_back_on_failure():
        for number in promoted:
            registry.promote(number, "better")
        message = "it cannot be served"
        raise OSError(message)


def test_a_promotion_is_taken_back_when_what_follows_fails(version: Register) -> None:
    registry.promote(version(), "better")
    registry.promote(version(), "better")
    third = version()
    with pytest.raises(OSError, match="cannot be served"):
        fail_after(third)
    assert standing() == ("2", "1", {"1": "Archived", "2": "Production", "3": "Archived"})
    assert "it cannot be served" in MlflowClient().get_model_version(MODEL, third).tags["taken_back"]


def test_the_very_first_promotion_is_taken_back_too(version: Register) -> None:
    with pytest.raises(OSError, match="cannot be served"):
        fail_after(version())
    assert standing() == (None, None, {"1": "Archived"})


def test_production_is_put_back_where_no_alias_named_it(version: Register) -> None:
    registry.promote(version(), "better")
    MlflowClient().delete_registered_model_alias(MODEL, "champion")
    with pytest.raises(OSError, match="cannot be served"):
        fail_after(version())
    assert standing() == (None, None, {"1": "Production", "2": "Archived"})


@pytest.mark.parametrize("calls", range(1, 5))
def test_a_kill_while_a_promotion_is_taken_back_leaves_nothing_in_production_that_cannot_be_served(
    version: Register, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    before, first = registry.standing(), version()
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
        registry._restore(before, registry.require_champion(), "it cannot be served")  # noqa: SLF001 killed inside
    monkeypatch.undo()
    registry.reconcile()
    assert standing()[2] == {"1": "Archived"}


def test_nothing_that_did_not_pass_the_gate_stays_in_production(version: Register) -> None:
    with pytest.warns(FutureWarning):
        MlflowClient().transition_model_version_stage(MODEL, version(REFUSED), "Production")
    registry.reconcile()
    assert standing()[2] == {"1": "Archived"}


def test_a_failure_does_not_take_back_what_another_process_promoted(
    version: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.promote(version(), "better")
    second = version()

    def elsewhere() -> None:
        with registry.taken_back_on_failure():
            monkeypatch.setattr("os.getpid", lambda: -1)
            registry.promote(second, "better")
            monkeypatch.undo()
            raise OSError

    with pytest.raises(OSError):  # noqa: PT011 raised just above
        elsewhere()
    assert standing()[0] == "2"


def test_without_a_failure_nothing_is_taken_back(version: Register) -> None:
    with registry.taken_back_on_failure():
        registry.promote(version(), "better")
    assert standing()[0] == "1"


def test_rolling_back_makes_the_previous_champion_champion_and_production_again(version: Register) -> None:
    registry.promote(version(), "better")
    registry.promote(version(), "better")
    assert registry.roll_back("it misses layups") == "1"
    assert standing() == ("1", "2", {"1": "Production", "2": "Archived"})
    last = registry.promotions(registry.require_champion())[-1]
    assert (last["why"], last["instead_of"]) == ("rolled back: it misses layups", "2")


def test_rolling_back_twice_ends_where_it_began(version: Register) -> None:
    registry.promote(version(), "better")
    registry.promote(version(), "better")
    registry.roll_back("a look at it")
    assert registry.roll_back("seen enough") == "2"
    assert standing() == ("2", "1", {"1": "Archived", "2": "Production"})


def test_without_a_previous_champion_nothing_is_rolled_back(version: Register) -> None:
    with pytest.raises(RegistryError, match="no previous champion"):
        registry.roll_back("a wish")
    registry.promote(version(), "better")
    with pytest.raises(RegistryError, match="no previous champion"):
        registry.roll_back("a wish")
    assert standing() == ("1", None, {"1": "Production"})


def test_a_previous_champion_that_lost_its_pass_does_not_come_back(version: Register) -> None:
    first = version()
    registry.promote(first, "better")
    registry.promote(version(), "better")
    registry.judge(first, REFUSED)
    with pytest.raises(RegistryError, match="did not pass the gate"):
        registry.roll_back("a wish")
    assert standing() == ("2", "1", {"1": "Archived", "2": "Production"})


def test_an_alias_that_was_moved_by_hand_does_not_roll_back_to_the_champion_itself(version: Register) -> None:
    only = version()
    registry.promote(only, "better")
    MlflowClient().set_registered_model_alias(MODEL, "previous_champion", only)
    with pytest.raises(RegistryError, match="there is no other"):
        registry.roll_back("a wish")
    assert len(registry.promotions(registry.require_champion())) == 1
