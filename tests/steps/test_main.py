"""What ``main`` changes when one of its steps fails: the steps are mocks, the registry is a real one."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from data.datasets import VARIABLE
from serving import registry
from steps import main
from steps.main import MainConfig
from steps.shared.tracking import Tags
from tests.versions import promote_versions, register_without_files

STEPS = ("aquisicao", "preparacao", "treinamento", "aplicacao", "monitoramento", "relatorio")


class StepError(Exception):
    """A step failed."""


def train(_config: object) -> SimpleNamespace:
    """Promote a new version, as a training does whose candidate is better."""
    version = register_without_files()
    registry.promote(version, "better")
    candidate = SimpleNamespace(id="lr")
    return SimpleNamespace(
        version=version, note="became champion", selection=SimpleNamespace(metrics={}, selected=candidate)
    )


@pytest.fixture
def failing(store_with_models: object, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Run ``main``, after another version became champion, with a step that fails."""
    del store_with_models
    promote_versions(1)
    monkeypatch.setattr(MainConfig, "check", lambda _: None)
    found = SimpleNamespace(metrics={}, version="2", rows=10, health=SimpleNamespace(status="healthy"))

    def fail(name: str) -> None:
        for step in STEPS:
            replacement: Callable[..., object] = train if step == "treinamento" else Mock(return_value=found)
            if step == name:
                replacement = Mock(side_effect=StepError(f"{step} failed"))
            monkeypatch.setattr(f"steps.{step}.run", replacement)
        monkeypatch.setattr("steps.retreino.run", Mock())
        monkeypatch.setattr("steps.main.data_tags", lambda _: Tags({}))
        with pytest.raises(StepError):
            main.run(MainConfig())

    return fail


@pytest.mark.parametrize("step", STEPS[:4])
def test_a_step_up_to_the_first_scoring_that_fails_leaves_the_champion(
    failing: Callable[[str], None], step: str
) -> None:
    before = registry.alias_state()
    failing(step)
    assert registry.alias_state() == before


@pytest.mark.parametrize("step", STEPS[4:])
def test_a_failure_of_monitoring_or_report_keeps_the_new_champion_and_prints_the_commands_to_run(
    failing: Callable[[str], None], step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (before,) = registry.champion_history()
    failing(step)
    now = registry.alias_state()
    assert now.champion not in {None, before}
    assert now.previous_champion == before
    assert now.production == {now.champion}
    message = " ".join(capsys.readouterr().out.split())
    assert f"Not undone: version {now.champion} was registered before this failed (became champion)" in message
    assert f"version {now.champion} is champion" in message
    assert "mlflow run . -e monitoramento" in message
    assert "mlflow run . -e relatorio" in message


@pytest.mark.usefixtures("store")
def test_a_dataset_without_times_has_no_decision_and_no_failed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "timeless.toml"
    path.write_text(
        '[dataset]\nname = "timeless"\n[columns.weight]\nrole = "feature"\nkind = "float"\n'
        '[columns.broken]\nrole = "target"\nkind = "boolean"\n'
    )
    monkeypatch.setenv(VARIABLE, str(path))
    decided = Mock()
    monkeypatch.setattr("steps.retreino.run", decided)
    main._decide(str(path))  # noqa: SLF001 all of main takes a minute
    decided.assert_not_called()
    assert "Not decided: whether to retrain (timeless has no column of role 'time'" in capsys.readouterr().out
