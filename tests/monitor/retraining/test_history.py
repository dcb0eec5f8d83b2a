import pytest
from mlflow import MlflowClient

from data.cli.config import parse_args
from monitor.retraining import history
from monitor.retraining.history import HistoryConfig
from monitor.store import records, tags
from serving import registry
from tests.operation_store import log_decision
from tests.versions import REJECTED, as_kwargs, promote_versions, register_without_files

pytestmark = pytest.mark.usefixtures("store")


def shown(capsys: pytest.CaptureFixture[str], **options: object) -> str:
    history.run(HistoryConfig.model_validate(options))
    printed = capsys.readouterr().out
    return " ".join(printed.replace("│", " ").split())


def test_an_empty_store_is_reported_with_the_command_for_the_first_decision(capsys: pytest.CaptureFixture[str]) -> None:
    printed = shown(capsys)
    assert "kobe_shot: no version has been promoted yet" in printed
    assert "Decisions: none yet; make one with mlflow run . -e retreino" in printed


def test_champions_are_shown_newest_first_with_their_promotions_and_the_rollback_target(
    capsys: pytest.CaptureFixture[str],
) -> None:
    promote_versions(3)
    assert "Champion: version 3; rollback target: version 2" in shown(capsys)
    registry.roll_back("it misses layups")
    printed = shown(capsys)
    assert "Champion: version 2; rollback target: version 1" in printed
    first, last = printed.index("roll back 2 3"), printed.index("promotion 1 -")
    assert first < printed.index("promotion 3 2") < printed.index("promotion 2 1") < last
    assert "it misses layups" in printed
    registry.roll_back("it misses dunks")
    assert "Champion: version 1; rollback target: none" in shown(capsys)


def test_decisions_are_shown_newest_first_with_their_outcomes(capsys: pytest.CaptureFixture[str]) -> None:
    promote_versions(1)
    log_decision(1, reasons=("no trigger fires", "Labeled windows: no breach", "Trend: too few"))
    log_decision(
        2,
        records.RETRAIN,
        reasons=("two windows breach",),
        **as_kwargs(
            {
                tags.TRIGGER: "reactive",
                tags.OUTCOME: records.REJECTED,
                tags.OUTCOME_REASON: "worse in playoffs",
                tags.MODEL_VERSION: "2",
            }
        ),
    )
    printed = shown(capsys)
    assert printed.index("retrain (reactive) rejected 2 worse in playoffs") < printed.index("no action nothing to do")
    assert "no trigger fires; Labeled windows: no breach" in printed


def test_the_limit_bounds_the_entries_that_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    promote_versions(3)
    for number in (1, 2, 3):
        log_decision(number, reasons=(f"reason {number}",))
    printed = shown(capsys, limit=1)
    assert ("promotion 3 2" in printed, "promotion 2 1" in printed) == (True, False)
    assert ("reason 3" in printed, "reason 2" in printed) == (True, False)


def test_another_registered_model_has_another_history(capsys: pytest.CaptureFixture[str]) -> None:
    promote_versions(2)
    log_decision(1)
    with registry.use_model_name("kobe_shot_backtest"):
        promote_versions(1)
    printed = shown(capsys, model="kobe_shot_backtest")
    assert "kobe_shot_backtest: champions" in printed
    assert "Champion: version 1; rollback target: none" in printed
    assert "Decisions: none yet" in printed
    assert registry.model() == registry.MODEL
    with registry.use_model_name("kobe_shot_backtest"):
        assert "Champion: version 1;" in shown(capsys)


def test_a_history_whose_only_champion_no_longer_passes_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    promote_versions(1)
    registry.record_gate_result("1", REJECTED)
    MlflowClient().delete_registered_model_alias(registry.MODEL, "champion")
    registry.reconcile()
    assert "promotion 1 -" in shown(capsys)


def test_a_version_that_is_no_champion_any_more_is_not_called_one(capsys: pytest.CaptureFixture[str]) -> None:
    promote_versions(2)
    MlflowClient().delete_registered_model_alias(registry.MODEL, "champion")
    assert "Champion: version" not in shown(capsys)


def test_versions_that_never_became_champion_have_no_history(capsys: pytest.CaptureFixture[str]) -> None:
    register_without_files(REJECTED)
    assert "no version has been promoted yet" in shown(capsys)


@pytest.mark.parametrize("arguments", [["--limit", "0"], ["--limit", "1001"], ["--nonsense", "1"]])
def test_a_wrong_parameter_is_an_error(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        parse_args(HistoryConfig, arguments)
