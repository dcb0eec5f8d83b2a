"""The page System, run by Streamlit, and the versions on the page Champions."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from data.paths import ROOT
from monitor.metrics.names import metric_name
from monitor.ui import cache
from serving import registry
from tests.project import PAGE_SECONDS, Checkout, ProductionServer, publish
from tests.text_tables import text_tables

NOWHERE = "http://127.0.0.1:1"


def page(url: str = NOWHERE, tab: str = "Traffic") -> AppTest:
    cache.clear()
    test = AppTest.from_file(str(ROOT / "monitor" / "ui" / "system.py"), default_timeout=PAGE_SECONDS)
    test.session_state["endpoint"] = url
    test.session_state["system_tab"] = tab
    return test.run()


def versions_page() -> AppTest:
    cache.clear()
    test = AppTest.from_file(str(ROOT / "monitor" / "ui" / "champions.py"), default_timeout=PAGE_SECONDS)
    test.session_state["retraining_tab"] = "Versions"
    return test.run()


def metrics(test: AppTest) -> dict[str, str]:
    return {found.label: found.value for found in test.metric}


def texts(test: AppTest) -> str:
    return " ".join(found.value for found in (*test.markdown, *test.caption))


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory, empty_database: Path, shots: pd.DataFrame) -> Path:
    """Database of a store with the champions 1 and 2, to be copied."""
    folder = tmp_path_factory.mktemp("promoted")
    database = Path(shutil.copy(empty_database, folder / "mlflow.db"))
    for _ in range(2):
        publish(Checkout(folder), shots)
    return database


@pytest.fixture
def two_champions(promoted: Path, tmp_path: Path) -> Iterator[None]:
    """A store in which version 2 has replaced version 1 as champion."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{shutil.copy(promoted, tmp_path / 'two_champions.db')}")
    yield
    mlflow.set_tracking_uri(before)


@pytest.mark.usefixtures("store")
def test_an_empty_store_shows_the_command_that_fills_it() -> None:
    for tab in ("Traffic", "Runs", "Compare runs", "Trends", "Settings"):
        shown = page(tab=tab)
        assert not shown.exception
        assert not shown.error
        assert {found.value for found in shown.code} == {"make main"}


def test_a_damaged_store_is_an_error_message(store: str) -> None:
    broken = Path(store.removeprefix("sqlite:///")).with_name("broken.db")
    broken.write_bytes(b"this is not a database" * 99)
    mlflow.set_tracking_uri(f"sqlite:///{broken}")
    shown = page()
    assert not shown.exception
    assert "broken.db" in shown.error[0].value


@pytest.mark.usefixtures("store")
def test_the_url_of_the_server_is_shown_without_its_password() -> None:
    shown = page("http://u:secret@127.0.0.1:1")
    assert not shown.exception
    assert "http://u:***@127.0.0.1:1" in texts(shown)
    assert "secret" not in texts(shown)


@pytest.mark.usefixtures("two_champions")
def test_champion_production_and_previous_champion_are_shown_if_the_server_is_down() -> None:
    shown = page()
    assert not shown.exception
    found = metrics(shown)
    assert (found["Champion and Production"], found["Previous champion"]) == ("v2", "v1")
    assert "does not respond" in texts(shown)
    assert "make serve" in texts(shown)
    listed = versions_page()
    versions, promotions = text_tables(listed)
    assert versions["Version"].tolist() == ["2", "1"]
    assert versions["Stage and aliases"].tolist() == ["Production, champion", "Archived, previous_champion"]
    assert promotions["Reason"].tolist() == ["for a test"] * 2


@pytest.mark.usefixtures("two_champions")
def test_a_server_of_another_version_than_the_champion_is_marked(production_server: ProductionServer) -> None:
    assert "version 1, not the champion" in texts(page(production_server.url))


@pytest.mark.usefixtures("two_champions")
def test_a_server_of_the_champion_is_marked(production_server: ProductionServer) -> None:
    registry.roll_back("for a test")
    assert "version 1, the champion" in texts(page(production_server.url))


def test_the_version_of_an_mlflow_server_is_unknown(two_champions: None, mlflow_server_url: str) -> None:
    del two_champions
    assert "version unknown" in texts(page(mlflow_server_url))


@pytest.mark.usefixtures("two_champions")
def test_promotions_and_rollbacks_are_distinguished() -> None:
    registry.roll_back("it misses layups")
    promotions = text_tables(versions_page())[1]
    assert promotions["Kind"].tolist() == ["roll back", "promotion", "promotion"]
    assert promotions["Reason"].tolist()[0] == "it misses layups"


def test_runs_of_main_are_listed_filtered_and_shown_with_their_artifacts(
    store: str, synthetic_main: tuple[Checkout, str]
) -> None:
    del store
    checkout, _ = synthetic_main
    mlflow.set_tracking_uri(f"sqlite:///{checkout.folder / 'mlflow.db'}")
    shown = page(tab="Runs")
    assert not shown.exception
    assert "synthetic" in shown.warning[0].value
    shown.multiselect[0].set_value(["PipelineAplicacao"]).run()
    listed = shown.dataframe[0].value
    logged = checkout.run("PipelineAplicacao")
    assert listed["run_id"].tolist() == [logged.info.run_id]
    assert listed["log_loss"].tolist() == [logged.data.metrics["log_loss"]]
    details = shown.dataframe[2].value.set_index("name")["value"]
    named = {metric_name(name).label: value for name, value in logged.data.metrics.items()}
    assert details.to_dict() == pytest.approx(named)
    assert {found.label for found in shown.download_button} == checkout.artifacts(logged)
    assert len(shown.image) == 1
    assert len(page(tab="Trends").get("plotly_chart")) == 1
    training = checkout.run("Treinamento").info.run_id
    candidates = {run.info.run_id for run in checkout.runs() if run.data.tags.get("mlflow.parentRunId") == training}
    assert set(page(tab="Compare runs").multiselect[0].value) < candidates
