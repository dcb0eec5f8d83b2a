"""The page as Streamlit runs it; it reads the store of the working directory."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from data.files import ROOT
from tests.project import Checkout


def page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    return AppTest.from_file(str(ROOT / "monitor" / "app.py"), default_timeout=60).run()


def test_without_a_champion_the_page_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = page(tmp_path, monkeypatch)
    assert not shown.exception
    assert shown.code[0].value == "make main"


def test_the_page_shows_champion_figures_and_that_shots_are_simulated(
    synthetic_main: tuple[Checkout, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout, _ = synthetic_main
    shown = page(checkout.folder, monkeypatch)
    assert not shown.exception
    assert "simulated" in shown.warning[0].value
    assert shown.metric[0].value == "version 1"
    figures = shown.dataframe[0].value.set_index("metric")["prod (labelled rows)"]
    logged = checkout.run("PipelineAplicacao").data.metrics
    assert figures.to_dict() == pytest.approx({name: logged[name] for name in figures.index})
