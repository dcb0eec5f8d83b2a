import json
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

pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture
def version(shots: pd.DataFrame) -> Callable[[], str]:
    """A function that registers one more version."""
    table = shots.rename(columns={"lon": "lng"})[list(FEATURES)].astype(float)
    pipeline = make_pipeline(LogisticRegression()).fit(table.to_numpy(), np.arange(len(table)) % 2)

    def register() -> str:
        with mlflow.start_run() as run:
            info = log_scoring_model(pipeline, table.head(2), threshold=0.5, metadata={})
        return str(registry.register(info.model_uri, run.info.run_id, {"synthetic": "true"}, "why").version)

    return register


def standing() -> tuple[str | None, str | None, dict[str, str]]:
    stages = {registry.number(v): v.current_stage for v in MlflowClient().search_model_versions(f"name='{MODEL}'")}
    now = registry.standing()
    return now.champion, now.previous_champion, stages


def test_a_registered_version_is_not_promoted(version: Callable[[], str]) -> None:
    version()
    assert registry.champion() is None
    with pytest.raises(RegistryError, match="no champion yet"):
        registry.require_champion()


def test_champion_and_production_move_together_and_the_last_one_is_remembered(version: Callable[[], str]) -> None:
    for number in (1, 2, 3):
        registry.promote(version(), PASSED)
        assert registry.number(registry.require_champion()) == str(number)
    assert standing() == ("3", "2", {"1": "Archived", "2": "Archived", "3": "Production"})


def test_a_version_that_did_not_pass_the_gate_changes_nothing(version: Callable[[], str]) -> None:
    registry.promote(version(), PASSED)
    refused = version()
    with pytest.raises(RegistryError, match="did not pass the gate"):
        registry.promote(refused, REFUSED)
    assert standing() == ("1", None, {"1": "Production", "2": "None"})
    assert MlflowClient().get_model_version(MODEL, refused).tags["gate"] == "refused"


def test_promoting_the_champion_again_keeps_the_previous_one(version: Callable[[], str]) -> None:
    registry.promote(version(), PASSED)
    second = version()
    registry.promote(second, PASSED)
    registry.promote(second, PASSED)
    assert standing()[:2] == ("2", "1")


def test_each_promotion_is_appended_to_the_version_with_who_when_why_and_figures(version: Callable[[], str]) -> None:
    first = version()
    registry.promote(first, PASSED)
    registry.promote(version(), PASSED)
    registry.promote(first, PASSED)
    history = json.loads(MlflowClient().get_model_version(MODEL, first).tags["promotions"])
    assert [entry["instead_of"] for entry in history] == [None, "2"]
    assert all(entry["who"] and entry["when"] and entry["why"] == "better" for entry in history)
    assert history[0]["figures"]["loss"] == 0.67


def test_the_stage_follows_the_alias_after_a_kill_between_the_two(version: Callable[[], str]) -> None:
    registry.promote(version(), PASSED)
    second = version()
    MlflowClient().set_registered_model_alias(MODEL, "champion", second)
    registry.reconcile()
    assert standing()[2] == {"1": "Archived", "2": "Production"}


def test_restore_undoes_a_promotion(version: Callable[[], str]) -> None:
    registry.promote(version(), PASSED)
    registry.promote(version(), PASSED)
    before = standing()
    now = registry.standing()
    third = version()
    registry.promote(third, PASSED)
    registry.restore(now, "it cannot be served")
    champion, previous, stages = standing()
    assert (champion, previous) == before[:2]
    assert stages == {"1": "Archived", "2": "Production", "3": "Archived"}
    assert MlflowClient().get_model_version(MODEL, third).tags["taken_back"] == "it cannot be served"


def test_restore_undoes_the_very_first_promotion(version: Callable[[], str]) -> None:
    before = registry.standing()
    registry.promote(version(), PASSED)
    registry.restore(before, "it cannot be served")
    assert standing() == (None, None, {"1": "Archived"})
