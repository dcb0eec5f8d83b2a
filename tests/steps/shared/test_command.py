import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import Mock

import mlflow
import pytest
import yaml
from mlflow import MlflowClient

from data.cli.config import parse_args
from data.paths import ROOT
from serving import registry
from steps.aplicacao import AplicacaoConfig
from steps.aprovar import AprovarConfig
from steps.aquisicao import AquisicaoConfig
from steps.main import MainConfig
from steps.monitoramento import MonitoramentoConfig
from steps.operacao import OperacaoConfig
from steps.preparacao import PreparacaoConfig
from steps.relatorio import RelatorioConfig
from steps.retraining.config import RetreinoConfig
from steps.reverter import ReverterConfig
from steps.shared.command import StepConfig, part, run_command
from steps.training.config import TrainingConfig
from steps.treinamento import TreinamentoConfig
from tests.networks import responding_with

CONFIGS: dict[str, type[StepConfig]] = {
    "main": MainConfig,
    "aquisicao": AquisicaoConfig,
    "preparacao": PreparacaoConfig,
    "treinamento": TreinamentoConfig,
    "aplicacao": AplicacaoConfig,
    "monitoramento": MonitoramentoConfig,
    "relatorio": RelatorioConfig,
    "retreino": RetreinoConfig,
    "aprovar": AprovarConfig,
    "reverter": ReverterConfig,
    "operacao": OperacaoConfig,
}
PROJECT = yaml.safe_load((ROOT / "MLproject").read_text())


def test_mlproject_has_an_entry_point_for_each_step() -> None:
    assert PROJECT["name"] == "kobe_shot"
    assert set(PROJECT["entry_points"]) == set(CONFIGS)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_parameters_of_mlproject_are_those_of_the_configuration(name: str) -> None:
    entry, fields = PROJECT["entry_points"][name], CONFIGS[name].model_fields
    assert set(entry["parameters"]) == set(fields)
    for parameter, described in entry["parameters"].items():
        number = fields[parameter].annotation in {int, float}
        assert described["type"] == ("float" if number else "string")
        default = fields[parameter].default
        assert described["default"] == ("" if default is None else default)
        assert f"--{parameter} {{{parameter}}}" in entry["command"]
    assert entry["command"].startswith(f"python -m steps.{name} ")


@pytest.mark.parametrize("name", CONFIGS)
def test_help_describes_every_parameter(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [name])
    with pytest.raises(SystemExit) as caught:
        parse_args(CONFIGS[name], ["--help"])
    assert caught.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for parameter, field in CONFIGS[name].model_fields.items():
        assert f"--{parameter}" in shown
        assert field.description
        assert " ".join(field.description.split()) in shown


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("preparacao", ["--test_size", "1.5"], ["test_size", "expected less than 1", "found '1.5'"]),
        ("preparacao", ["--test_size", "0"], ["test_size", "expected greater than 0", "found '0'"]),
        ("preparacao", ["--test_size", "much"], ["test_size", "valid number", "found 'much'"]),
        ("preparacao", ["--seed", "-1"], ["seed", "greater than or equal to 0"]),
        (
            "treinamento",
            ["--models", "lr,xyz"],
            ["models", "expected auto, or ids of classifiers", "lightgbm", "'xyz'"],
        ),
        ("treinamento", ["--models", ""], ["models", "found ''"]),
        ("treinamento", ["--models", "lr,lr"], ["models", "each id once"]),
        ("treinamento", ["--cv_folds", "1"], ["cv_folds", "greater than or equal to 2"]),
        ("treinamento", ["--criterion", "luck"], ["criterion", "'log_loss'", "found 'luck'"]),
        ("aquisicao", ["--source", "/no/such/folder"], ["source", "no such file or folder", "/no/such/folder"]),
        ("aquisicao", ["--synthetic_rows", "3"], ["synthetic_rows", "greater than or equal to 100"]),
        ("aplicacao", ["--endpoint", "localhost"], ["endpoint", "http://127.0.0.1:5001", "'localhost'"]),
        ("aplicacao", ["--endpoint", "ftp://127.0.0.1"], ["endpoint", "http:// or https://", "found ftp://"]),
        ("monitoramento", ["--endpoint", "127.0.0.1:99999"], ["endpoint", "from 1 to 65535", "found 99999"]),
        ("aplicacao", ["--endpoint", "http://user:secret@127.0.0.1:5001"], ["endpoint", "netrc"]),
        ("aplicacao", ["--endpoint", "http://example..org:5001"], ["endpoint", "example..org"]),
        ("aquisicao", ["--source", "https://example..org/x"], ["source", "example..org"]),
        ("main", ["--test_size", "1.5", "--models", "xyz"], ["test_size", "models"]),
    ],
)
def test_a_wrong_parameter_is_reported_with_what_was_expected_and_found(
    name: str, arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_args(CONFIGS[name], arguments)
    assert caught.value.code == 2
    shown = capsys.readouterr().err
    for word in [*words, "Nothing was done", "--help"]:
        assert word in shown


def test_an_unknown_parameter_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_args(PreparacaoConfig, ["--tset_size", "0.2"])
    assert caught.value.code == 2
    assert "--tset_size" in capsys.readouterr().err


def test_environment_variables_change_no_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED", "7")
    monkeypatch.setenv("TEST_SIZE", "0.5")
    assert parse_args(PreparacaoConfig, []) == PreparacaoConfig(test_size=0.2, seed=42)


def test_spaces_between_model_ids_do_no_harm() -> None:
    assert parse_args(TrainingConfig, ["--models", "lr, dt"]).models == "lr,dt"


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        PreparacaoConfig().seed = 3


def test_a_step_gets_its_part_of_the_parameters_of_a_command_that_runs_several() -> None:
    both = parse_args(MainConfig, ["--test_size", "0.3", "--models", "dt"])
    assert part(PreparacaoConfig, both) == PreparacaoConfig(test_size=0.3)
    assert part(TrainingConfig, both) == TrainingConfig(models="dt")


# One loop at a time


@pytest.fixture
def command(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The command line of a step, with a store of its own, that leaves this project's files alone."""
    monkeypatch.setattr(sys, "argv", ["preparacao"])
    monkeypatch.setenv("KOBE_LOCK_WAIT_SECONDS", "0.3")
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr("steps.shared.command.writer_lock", lambda **_: nullcontext())
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: f"sqlite:///{tmp_path / 'mlflow.db'}")
    return tmp_path


def run_exclusively(work: Callable[[], object], name: str = "retreino") -> None:
    """Run a step that only one process may run at a time."""
    run_command(PreparacaoConfig, lambda _config: work(), exclusive=name)


@pytest.mark.usefixtures("command")
def test_a_second_process_waits_reports_that_one_is_already_running_and_fails(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        run_exclusively(lambda: run_exclusively(lambda: pytest.fail("two at once")))
    assert caught.value.code == 1
    printed = " ".join(capsys.readouterr().err.split())
    assert f"Already running: retreino, by process {os.getpid()} in {Path.cwd()}, since " in printed
    assert "after a wait of 0.3 s. Nothing was done. Wait until it ends, or stop it" in printed


def test_one_store_is_one_store_by_every_name(command: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(command)

    def by_another_name() -> None:
        monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "sqlite:///mlflow.db")
        run_exclusively(lambda: pytest.fail("two at once"))

    with pytest.raises(SystemExit) as caught:
        run_exclusively(by_another_name)
    assert caught.value.code == 1


@pytest.mark.usefixtures("command")
def test_other_commands_models_and_stores_run_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def others() -> None:
        run_exclusively(lambda: done.append("another loop"), "operacao")
        run_exclusively(lambda: done.append("no loop"), "")
        with registry.use_model_name("another"):
            run_exclusively(lambda: done.append("another model"))
        monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "sqlite:////elsewhere/mlflow.db")
        run_exclusively(lambda: done.append("another store"))
        with responding_with(200, b"{}", "application/json")() as place:
            monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: f"http://{place}")
            run_exclusively(lambda: done.append("a server"))

    run_exclusively(others)
    assert done == ["another loop", "no loop", "another model", "another store", "a server"]


@pytest.mark.usefixtures("command")
@pytest.mark.parametrize("name", ["a/b", "a:b", " a", "a\n", "ana's", "a?b", "a#1", "50%", "..", "x" * 201])
def test_a_name_that_no_registered_model_can_have_is_refused_before_any_work(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KOBE_SHOT_MODEL", name)
    with pytest.raises(SystemExit) as caught:
        run_exclusively(lambda: pytest.fail("worked"), "")
    assert caught.value.code == 1
    assert "KOBE_SHOT_MODEL: expected the name of a registered model" in " ".join(capsys.readouterr().err.split())


@pytest.mark.usefixtures("command")
def test_after_a_failure_the_next_process_runs() -> None:
    def fail() -> None:
        message = "no champion"
        raise registry.RegistryError(message)

    with pytest.raises(SystemExit) as caught:
        run_exclusively(fail)
    assert caught.value.code == 1
    done: list[str] = []
    run_exclusively(lambda: done.append("in"))
    assert done == ["in"]


# A store that is whole or not there


def test_a_store_is_made_where_there_is_none(command: Path) -> None:
    (command / "mlflow.db").unlink()
    found: list[str] = []
    run_exclusively(
        lambda: found.extend(each.name for each in MlflowClient(mlflow.get_tracking_uri()).search_experiments())
    )
    assert found == ["Default"]
    assert [path.name for path in command.iterdir()] == ["mlflow.db"]


def test_a_process_that_is_killed_while_it_makes_a_store_leaves_none(
    command: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (command / "mlflow.db").unlink()

    def killed(_engine: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("steps.shared.command._initialize_tables", killed)
        with pytest.raises(SystemExit):
            run_exclusively(lambda: pytest.fail("there is no store"))
    assert list(command.iterdir()) == []
    run_exclusively(lambda: None)
    assert (command / "mlflow.db").exists()


def test_a_file_that_is_no_store_is_unchanged_and_reported(command: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (command / "mlflow.db").write_bytes(b"whatever it is")
    with pytest.raises(SystemExit) as caught:
        run_exclusively(lambda: pytest.fail("worked"))
    assert caught.value.code == 1
    assert "found a damaged file" in " ".join(capsys.readouterr().err.split())
    assert (command / "mlflow.db").read_bytes() == b"whatever it is"


def test_of_two_that_make_a_store_at_once_both_use_the_first(command: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (command / "mlflow.db").unlink()
    monkeypatch.setattr(
        "steps.shared.command._initialize_tables", lambda _: (command / "mlflow.db").write_bytes(b"the first")
    )
    monkeypatch.setattr("steps.shared.command.create_sqlalchemy_engine", lambda _: Mock())
    run_exclusively(lambda: None)
    assert [path.name for path in command.iterdir()] == ["mlflow.db"]
    assert (command / "mlflow.db").read_bytes() == b"the first"


def test_an_invalid_description_ends_a_command_without_what_held_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.toml").write_text("[dataset]\nname = 'mine'\n[columns.x]\nrole = 'featrue'\nkind = 'float'\n")
    with pytest.raises(SystemExit) as caught:
        parse_args(PreparacaoConfig, ["--dataset", str(tmp_path / "mine.toml")])
    assert caught.value.code == 2
    assert "columns.x.role: expected 'feature'" in capsys.readouterr().err
    # DuckDB reports objects that live at the end of the process, on the screen; pydantic's error keeps them.
    assert caught.value.__context__ is None
