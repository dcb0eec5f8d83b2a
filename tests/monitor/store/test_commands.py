"""Commands in messages: only those that exist and reach the store in use."""

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from data import datasets
from data.paths import ROOT
from data.storage.urls import sqlite_url
from monitor.store import commands


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The tracking URI as it was, after each test."""
    yield
    mlflow.set_tracking_uri(None)


def test_a_description_in_the_folder_of_the_project_is_named_without_the_path_of_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = ROOT / "data" / "datasets" / "template.toml"
    monkeypatch.setenv(datasets.VARIABLE, str(path))
    assert "dataset=data/datasets/template.toml" in commands.command("main")
    assert str(ROOT) not in commands.app()


def test_with_the_store_in_the_folder_of_the_project_its_makefile_is_named() -> None:
    mlflow.set_tracking_uri(sqlite_url(ROOT / "mlflow.db"))
    assert commands.at_hand()
    assert commands.runs_page() == "make ui"


def test_run_from_another_folder_its_own_mlflow_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "my runs"
    folder.mkdir()
    mlflow.set_tracking_uri(sqlite_url(folder / "mlflow.db"))
    assert not commands.at_hand()
    assert commands.runs_page() == f"cd '{folder}' && mlflow ui"


def test_a_project_that_was_fetched_into_a_temporary_folder_has_no_makefile_to_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow.set_tracking_uri("http://tracking:5000")
    assert commands.at_hand()
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(commands, "ROOT", tmp_path / "tmpa1b2c3")
    assert not commands.at_hand()
    assert commands.runs_page() == "mlflow ui"
