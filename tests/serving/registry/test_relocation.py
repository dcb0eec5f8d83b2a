"""A store that was moved, renamed or copied with its project."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from data.storage.urls import sqlite_url
from serving.registry.relocation import relocate


@pytest.fixture
def project(tmp_path: Path, empty_database: Path) -> Iterator[Path]:
    """A project with a store that holds a run with an artifact, a logged model and a version of it."""
    folder = tmp_path / "before"
    folder.mkdir()
    shutil.copy(empty_database, folder / "mlflow.db")
    _use(folder)
    with contextlib.chdir(folder):
        mlflow.create_experiment("tests", artifact_location=str(folder / "mlruns" / "1"))
        mlflow.set_experiment("tests")
        with mlflow.start_run() as run:
            mlflow.log_text("kept", "kept.txt")
        client = MlflowClient()
        client.create_registered_model("kobe_shot")
        client.create_model_version("kobe_shot", f"{run.info.artifact_uri}/model", run.info.run_id)
    yield folder
    mlflow.set_tracking_uri(None)


def _use(folder: Path) -> None:
    mlflow.set_tracking_uri(sqlite_url(folder / "mlflow.db"))


def _kept(folder: Path) -> str:
    """What the run of the store of a folder keeps, after a new run that keeps something there too."""
    _use(folder)
    (run,) = MlflowClient().search_runs(["1"])
    with mlflow.start_run(experiment_id="1"):
        mlflow.log_text("new", "new.txt")
    assert len(list(folder.rglob("new.txt"))) == 1
    assert str(folder) in MlflowClient().get_model_version("kobe_shot", "1").source
    # MLflow itself remembers, within a process, where the artifacts of a run were.
    return (Path(run.info.artifact_uri) / "kept.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["after", "Área de Trabalho", "100% (1) #2", "before2"])
def test_a_project_that_was_moved_reads_and_writes_where_it_is(project: Path, tmp_path: Path, name: str) -> None:
    project.rename(tmp_path / name)
    assert relocate(tmp_path / name / "mlflow.db") == [project / "mlruns"]
    assert _kept(tmp_path / name) == "kept"
    assert not project.exists()
    assert relocate(tmp_path / name / "mlflow.db") == []


def test_a_copy_never_writes_into_the_folder_of_the_original(project: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    files = sorted(project.rglob("*"))
    database = (project / "mlflow.db").read_bytes()
    relocate(copy / "mlflow.db")
    assert _kept(copy) == "kept"
    assert sorted(project.rglob("*")) == files
    assert (project / "mlflow.db").read_bytes() == database


def test_a_store_whose_artifacts_are_elsewhere_on_purpose_stays_as_it_is(project: Path, tmp_path: Path) -> None:
    alone = tmp_path / "stores"
    alone.mkdir()
    shutil.copy(project / "mlflow.db", alone)
    assert relocate(alone / "mlflow.db") == []
    (alone / "mlruns").mkdir()
    assert relocate(alone / "mlflow.db") == []


def test_where_no_store_is_there_is_nothing_to_move(tmp_path: Path) -> None:
    assert relocate(tmp_path / "mlflow.db") == []
