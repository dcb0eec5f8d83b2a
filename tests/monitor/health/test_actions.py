import pytest

from data.datasets import use
from monitor.health.actions import action
from monitor.health.checks import ALL_CHECKS


@pytest.mark.parametrize("code", [check.code for check in ALL_CHECKS])
def test_every_check_has_an_action(code: str) -> None:
    assert action(code)


def test_commands_of_actions_are_for_the_dataset() -> None:
    assert action("K103") == "Retrain, or roll back: mlflow run . -e retreino, mlflow run . -e reverter"
    with use("kobe_full"):
        assert action("K103") == (
            "Retrain, or roll back: mlflow run . -e retreino -P dataset=kobe_full, "
            "mlflow run . -e reverter -P dataset=kobe_full"
        )
        assert action("K404").endswith("-P rescore=if_needed -P dataset=kobe_full")
        assert action("K402") == "Start the server: KOBE_SHOT_DATASET=kobe_full make serve"
        assert "KOBE_SHOT_DATASET=kobe_full python -m serving.inference_log.ground_truth FILE" in action("K106")
