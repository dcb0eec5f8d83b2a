"""What ``main`` leaves when one of its steps fails: the steps are stand-ins, the registry is a real one."""

from collections.abc import Callable
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from serving import registry
from steps import main
from steps.main import MainConfig
from steps.shared.tracking import Tags
from tests.versions import bare, crowned

STEPS = ("aquisicao", "preparacao", "treinamento", "aplicacao", "monitoramento", "relatorio")


class StepError(Exception):
    """A step failed."""


def train(_config: object) -> SimpleNamespace:
    """Promote a new version, as a training does that found a better one."""
    version = bare()
    registry.promote(version, "better")
    candidate = SimpleNamespace(id="lr")
    return SimpleNamespace(
        version=version, note="became champion", choice=SimpleNamespace(metrics={}, chosen=candidate)
    )


@pytest.fixture
def failing(stocked: object, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Run ``main``, after another version became champion, with a step that fails."""
    del stocked
    crowned(1)
    monkeypatch.setattr(MainConfig, "check", lambda _: None)
    found = SimpleNamespace(metrics={}, version="2", rows=10, health=SimpleNamespace(verdict="healthy"))

    def fail(name: str) -> None:
        for step in STEPS:
            stand_in: Callable[..., object] = train if step == "treinamento" else Mock(return_value=found)
            if step == name:
                stand_in = Mock(side_effect=StepError(f"{step} failed"))
            monkeypatch.setattr(f"steps.{step}.run", stand_in)
        monkeypatch.setattr("steps.aquisicao.data_tags", lambda _: Tags({}))
        with pytest.raises(StepError):
            main.run(MainConfig())

    return fail


@pytest.mark.parametrize("step", STEPS[:4])
def test_a_step_up_to_the_first_scoring_that_fails_leaves_the_champion(
    failing: Callable[[str], None], step: str
) -> None:
    before = registry.standing()
    failing(step)
    assert registry.standing() == before


@pytest.mark.parametrize("step", STEPS[4:])
def test_monitoring_and_report_that_fail_leave_the_new_champion_and_say_what_is_true_and_left_to_do(
    failing: Callable[[str], None], step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (before,) = registry.champion_history()
    failing(step)
    now = registry.standing()
    assert now.champion not in {None, before}
    assert now.previous_champion == before
    assert now.production == {now.champion}
    told = " ".join(capsys.readouterr().out.split())
    assert f"Not undone: version {now.champion} was registered before this failed (became champion)" in told
    assert f"version {now.champion} is champion" in told
    assert "mlflow run . -e monitoramento" in told
    assert "mlflow run . -e relatorio" in told
