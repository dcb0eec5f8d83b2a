"""The store of a folder whose name has characters that URIs encode."""

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import mlflow
import pytest
import sqlalchemy as sql

from data.storage.urls import sqlite_path, sqlite_url
from serving.inference_log.inference_log import create_engine, spool_dir
from serving.registry import StoreError
from serving.registry.store import plain_store
from steps.preparacao import PreparacaoConfig
from steps.shared.command import run_command

NAMES = ["kobe shot", "Área de Trabalho", "#2", "100% (1) #2", "a(b)&c+d'e", "why?", "50%25", "a@b;c=d"]


@pytest.fixture(params=NAMES[:-2])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder of such a name as the current one, and MLflow's default store."""
    folder = tmp_path / str(request.param) / "kobe shot"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    mlflow.set_tracking_uri(None)
    yield folder
    mlflow.set_tracking_uri(None)


@pytest.mark.parametrize("name", NAMES)
def test_a_uri_is_parsed_as_the_path_that_it_was_made_of(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "log.db"
    uri = sqlite_url(path)
    assert sqlite_path(uri) == path
    assert sql.make_url(uri).database == str(path)
    assert spool_dir(uri) == path.with_name("log.db.spool")


@pytest.mark.parametrize("name", NAMES)
def test_an_inference_log_is_written_into_the_named_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    engine = create_engine(sqlite_url(tmp_path / name / "log.db"))
    with engine.begin() as connection:
        connection.execute(sql.text("CREATE TABLE kept (row INTEGER)"))
    engine.dispose()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name / "log.db").exists()


def test_a_step_makes_the_store_in_its_folder_and_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["preparacao"])
    monkeypatch.setattr("steps.shared.command.writer_lock", lambda **_: nullcontext())
    logged: list[str] = []

    def work(_: object) -> None:
        mlflow.set_experiment("tests")
        with mlflow.start_run() as run:
            mlflow.log_text("kept", "kept.txt")
            logged.append(run.info.run_id)
        assert mlflow.artifacts.load_text(f"runs:/{logged[0]}/kept.txt") == "kept"

    # As `mlflow run` has, which opens the store before the step starts.
    stray = Path(mlflow.get_tracking_uri().removeprefix("sqlite:///")).parent
    stray.mkdir(parents=True, exist_ok=True)
    run_command(PreparacaoConfig, work)
    assert {path.name for path in folder.iterdir()} == {"mlflow.db", "mlruns"}
    assert len(list(folder.rglob(f"{logged[0]}/artifacts/kept.txt"))) == 1
    assert list(tmp_path.iterdir()) == [folder.parent]
    assert list(folder.parent.iterdir()) == [folder]


def test_a_name_that_mlflow_decodes_is_rejected_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a%20b").mkdir()
    monkeypatch.chdir(tmp_path / "a%20b")
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: sqlite_url(Path.cwd() / "mlflow.db"))
    with pytest.raises(StoreError, match=r"found .*a%20b\. Rename the folder"), plain_store():
        pytest.fail("worked")
