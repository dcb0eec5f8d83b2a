import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import matplotlib as mpl
import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient

from data.paths import ROOT
from data.storage.files import sha256
from serving import registry
from steps.preparacao import PreparacaoConfig
from steps.shared.tracking import (
    EXPERIMENT,
    Artifact,
    Dataset,
    Metrics,
    Params,
    Tags,
    at_work_elsewhere,
    git_state,
    log_records,
    nested_run,
    step_run,
)

CONFIG = PreparacaoConfig()


@pytest.fixture
def client(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowClient]:
    """An empty store of this project's own."""
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{shutil.copy(empty_database, tmp_path / 'mlflow.db')}")
    yield MlflowClient()
    mlflow.set_tracking_uri(None)


@pytest.mark.parametrize("name", [str(ROOT), f"file://{ROOT}", f"file://{ROOT.parent}#{ROOT.name}"])
def test_a_launcher_is_known_by_every_name_that_mlflow_gives_a_project(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    killed = client.create_run("0", tags={"mlflow.source.name": name})
    run_id = launched(client, monkeypatch)
    with step_run("PreparacaoDados", CONFIG) as run:
        assert run.info.run_id == run_id
    assert client.get_run(killed.info.run_id).info.status == "KILLED"


def launched(client: MlflowClient, monkeypatch: pytest.MonkeyPatch, experiment_id: str = "0") -> str:
    """Do what ``mlflow run`` does before it starts the entry point; the id of its run."""
    run_id = str(client.create_run(experiment_id, tags={"mlflow.source.name": str(ROOT)}).info.run_id)
    client.log_param(run_id, "test_size", "0.20")
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment_id)
    return run_id


def test_a_step_alone_runs_in_the_experiment_of_the_project(client: MlflowClient) -> None:
    with step_run("PreparacaoDados", CONFIG) as run:
        assert client.get_experiment(run.info.experiment_id).name == EXPERIMENT
    assert client.get_run(run.info.run_id).info.status == "FINISHED"
    params = client.get_run(run.info.run_id).data.params
    assert params == {name: str(value) for name, value in CONFIG.model_dump().items()}
    assert params["test_size"] == "0.2"


def test_the_run_that_mlflow_run_made_becomes_the_run_of_the_step(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = launched(client, monkeypatch)
    with step_run("PreparacaoDados", CONFIG) as run:
        assert run.info.run_id == run_id
    found = client.get_run(run_id)
    assert found.info.run_name == "PreparacaoDados"
    assert client.get_experiment(found.info.experiment_id).name == EXPERIMENT
    assert found.data.params["test_size"] == "0.20"


@pytest.mark.parametrize("name", ["mine", "retrain-kobe-1", "wise-2", "Wise owl"])
def test_a_run_that_a_person_has_named_keeps_its_name_and_holds_that_of_the_step(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    run_id = launched(client, monkeypatch)
    client.set_tag(run_id, "mlflow.runName", name)
    with step_run("PreparacaoDados", CONFIG) as run:
        assert client.get_run(run.info.run_id).info.run_name == "PreparacaoDados"
    assert client.get_run(run_id).info.run_name == name
    assert client.get_run(run.info.run_id).data.tags["mlflow.parentRunId"] == run_id
    assert client.get_run(run.info.run_id).info.status == "FINISHED"


def test_figures_of_a_step_are_drawn_in_matplotlibs_own_style_whatever_a_library_has_set(client: MlflowClient) -> None:
    del client
    with mpl.rc_context({"font.sans-serif": ["Arial"], "font.family": ["sans-serif"], "axes.grid": True}):
        with step_run("PreparacaoDados", CONFIG):
            assert mpl.rcParams["font.sans-serif"][0] == "DejaVu Sans"
            assert not mpl.rcParams["axes.grid"]
        assert mpl.rcParams["axes.grid"]


def test_every_later_command_finds_the_same_experiment(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    launched(client, monkeypatch)
    with step_run("first", CONFIG) as first:
        pass
    with step_run("second", CONFIG) as second:
        pass
    assert first.info.experiment_id == second.info.experiment_id
    assert [experiment.name for experiment in client.search_experiments()] == [EXPERIMENT]


def test_a_command_that_was_mistyped_first_does_not_part_the_runs_that_follow(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched(client, monkeypatch)
    run_id = launched(client, monkeypatch)
    with step_run("PreparacaoDados", CONFIG) as run:
        assert run.info.run_id == run_id
    assert [experiment.name for experiment in client.search_experiments()] == [EXPERIMENT]


def test_an_experiment_that_the_user_names_is_kept(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = client.create_experiment("mine")
    run_id = launched(client, monkeypatch, mine)
    with step_run("PreparacaoDados", CONFIG) as run:
        assert run.info.run_id == run_id
        assert run.info.experiment_id == mine


def test_the_default_experiment_of_another_project_keeps_its_name_and_points_to_the_run(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.create_run("0")
    launcher = launched(client, monkeypatch)
    with step_run("PreparacaoDados", CONFIG) as run:
        assert client.get_experiment(run.info.experiment_id).name == EXPERIMENT
    assert client.get_experiment("0").name == "Default"
    assert run.info.run_id in client.get_run(launcher).data.tags["mlflow.note.content"]


def test_a_step_within_another_is_nested(client: MlflowClient) -> None:
    with step_run("main", CONFIG) as main, step_run("PreparacaoDados", CONFIG) as step:
        pass
    assert client.get_run(step.info.run_id).data.tags["mlflow.parentRunId"] == main.info.run_id


def test_a_failed_step_leaves_its_run_and_the_run_above_failed(client: MlflowClient) -> None:
    def fail() -> None:
        with step_run("main", CONFIG), step_run("PreparacaoDados", CONFIG):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert [run.info.status for run in client.search_runs([experiment.experiment_id])] == ["FAILED", "FAILED"]


def test_what_a_killed_process_left_running_is_marked_killed(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = client.create_experiment(EXPERIMENT)
    place = f"{socket.gethostname()}:{ROOT}"
    dead = [
        client.create_run(experiment, tags={"kobe_shot.workspace": place}),
        client.create_run(experiment, tags={"mlflow.source.name": str(ROOT)}),
    ]
    alive = [
        client.create_run(experiment, tags={"kobe_shot.workspace": f"another-machine:{ROOT}"}),
        client.create_run(experiment, tags={"mlflow.source.name": "elsewhere"}),
    ]
    own = launched(client, monkeypatch, experiment)
    with step_run("PreparacaoDados", CONFIG) as run:
        assert run.info.run_id == own
    assert {client.get_run(run.info.run_id).info.status for run in dead} == {"KILLED"}
    assert {client.get_run(run.info.run_id).info.status for run in alive} == {"RUNNING"}


def test_a_run_of_another_process_that_lives_is_not_marked_killed(client: MlflowClient) -> None:
    experiment = client.create_experiment(EXPERIMENT)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        tags = {"kobe_shot.workspace": f"{socket.gethostname()}:{ROOT}", "kobe_shot.process": str(process.pid)}
        run_id = client.create_run(experiment, tags=tags).info.run_id
        with step_run("Reverter", CONFIG):
            assert client.get_run(run_id).info.status == "RUNNING"
        process.kill()
    with step_run("Reverter", CONFIG):
        assert client.get_run(run_id).info.status == "KILLED"


@pytest.mark.parametrize("process", ["", "nonsense", "-1", str(2**22 + 1), "1.0"])
def test_a_run_whose_process_is_not_known_is_taken_for_dead(client: MlflowClient, process: str) -> None:
    experiment = client.create_experiment(EXPERIMENT)
    tags = {"kobe_shot.workspace": f"{socket.gethostname()}:{ROOT}", "kobe_shot.process": process}
    run_id = client.create_run(experiment, tags=tags).info.run_id
    with step_run("Reverter", CONFIG):
        assert client.get_run(run_id).info.status == "KILLED"


def test_what_an_earlier_process_of_the_same_number_left_running_is_marked_killed(client: MlflowClient) -> None:
    experiment = client.create_experiment(EXPERIMENT)
    tags = {"kobe_shot.workspace": f"{socket.gethostname()}:{ROOT}", "kobe_shot.process": str(os.getpid())}
    run_id = client.create_run(experiment, tags=tags).info.run_id
    with step_run("Reverter", CONFIG):
        assert client.get_run(run_id).info.status == "KILLED"


def test_a_process_of_another_user_is_alive_too(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def not_ours(_number: int, _signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", not_ours)
    experiment = client.create_experiment(EXPERIMENT)
    tags = {"kobe_shot.workspace": f"{socket.gethostname()}:{ROOT}", "kobe_shot.process": "99"}
    run_id = client.create_run(experiment, tags=tags).info.run_id
    with step_run("Reverter", CONFIG):
        assert client.get_run(run_id).info.status == "RUNNING"


@pytest.mark.parametrize(
    ("host", "hours", "ended", "at_work"),
    [
        ("another-machine", 1, False, True),
        ("another-machine", 7, False, False),
        ("another-machine", 1, True, False),
        (socket.gethostname(), 1, False, False),
    ],
)
def test_another_machine_may_be_at_a_run_for_hours_and_not_for_ever(
    client: MlflowClient, host: str, hours: int, *, ended: bool, at_work: bool
) -> None:
    started = int((datetime.now(UTC) - timedelta(hours=hours)).timestamp() * 1_000)
    run_id = client.create_run("0", started, tags={"kobe_shot.workspace": f"{host}:/elsewhere"}).info.run_id
    if ended:
        client.set_terminated(run_id, "FAILED")
    assert at_work_elsewhere(run_id) is at_work


def test_every_run_has_a_tag_of_its_registered_model(client: MlflowClient) -> None:
    with (
        step_run("main", CONFIG) as main,
        registry.use_model_name("kobe_shot_backtest"),
        step_run("Treinamento", CONFIG) as step,
    ):
        pass
    about = [client.get_run(run.info.run_id).data.tags["kobe_shot.registered_model"] for run in (main, step)]
    assert about == ["kobe_shot", "kobe_shot_backtest"]


def test_every_run_carries_its_process(client: MlflowClient) -> None:
    with step_run("main", CONFIG) as main, step_run("PreparacaoDados", CONFIG) as step, nested_run("lr") as candidate:
        pass
    for run in (main, step, candidate):
        assert client.get_run(run.info.run_id).data.tags["kobe_shot.process"] == str(os.getpid())


def test_a_figure_of_a_series_keeps_its_place(client: MlflowClient) -> None:
    with step_run("Operacao", CONFIG) as run:
        log_records(Metrics({"log_loss": loss}, step) for step, loss in enumerate((0.67, 0.65)))
    history = client.get_metric_history(run.info.run_id, "log_loss")
    assert {entry.step: entry.value for entry in history} == {0: 0.67, 1: 0.65}


def test_every_run_carries_its_workspace(client: MlflowClient) -> None:
    with step_run("main", CONFIG) as main, step_run("PreparacaoDados", CONFIG) as step, nested_run("lr") as candidate:
        pass
    for run in (main, step, candidate):
        assert client.get_run(run.info.run_id).data.tags["kobe_shot.workspace"].endswith(str(ROOT))


def test_records_are_written_to_the_active_run(client: MlflowClient) -> None:
    with step_run("PreparacaoDados", CONFIG) as run:
        log_records([Params({"features": "lat"}), Metrics({"rows": 3.0}), Tags({"synthetic": "true"})])
    data = client.get_run(run.info.run_id).data
    assert (data.params["features"], data.metrics["rows"], data.tags["synthetic"]) == ("lat", 3.0, "true")


def test_a_large_table_is_not_copied_into_its_run_but_named_with_its_digest(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steps.shared.tracking.MAX_COPIED_BYTES", 10)
    table, path = pd.DataFrame({"lat": [33.9, 34.0]}), tmp_path / "base_prod.parquet"
    table.to_parquet(path)
    with step_run("PreparacaoDados", CONFIG) as run:
        log_records([Artifact(path), Dataset(path, table.head(1), "prepared", sha256(path))])
    found = client.get_run(run.info.run_id)
    assert found.data.tags["table_base_prod"] == str(path)
    assert found.data.tags["sha256_base_prod"] == sha256(path)
    assert client.list_artifacts(run.info.run_id) == []
    recorded = found.inputs.dataset_inputs[0].dataset
    assert (recorded.name, recorded.digest, recorded.profile) == ("base_prod", sha256(path)[:36], None)
    assert "lat" in recorded.schema


def test_a_table_in_parts_is_kept_as_its_parts(client: MlflowClient, tmp_path: Path) -> None:
    folder = tmp_path / "base_prod.parquet"
    folder.mkdir()
    pd.DataFrame({"lat": [33.9]}).to_parquet(folder / "part-00000.parquet")
    with step_run("PreparacaoDados", CONFIG) as run:
        log_records([Artifact(folder)])
    kept = client.list_artifacts(run.info.run_id, "tables/base_prod.parquet")
    assert [artifact.path for artifact in kept] == ["tables/base_prod.parquet/part-00000.parquet"]


def test_the_commit_is_logged_where_there_is_one() -> None:
    state = git_state()
    if (ROOT / ".git").exists() and not os.environ.get("GIT_DIR"):
        assert len(state["git_commit"]) == 40
        assert state["git_dirty"] in {"true", "false"}


def test_no_parameter_and_no_tag_of_a_run_holds_a_password(client: MlflowClient) -> None:
    with step_run("PreparacaoDados", CONFIG) as run:
        log_records([Params({"place": "https://u:secret@h/x", "rows": 3}), Tags({"from": "postgresql://u:secret@h/d"})])
    kept = client.get_run(run.info.run_id).data
    assert (kept.params["place"], kept.params["rows"]) == ("https://u:***@h/x", "3")
    assert kept.tags["from"] == "postgresql://u:***@h/d"
