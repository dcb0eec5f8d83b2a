"""The operation page as Streamlit runs it."""

from pathlib import Path

import mlflow
import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from data.files import ROOT
from monitor import jobs
from serving import registry
from tests.project import Checkout, Operated, publish

NOWHERE = "http://127.0.0.1:1"


def page(address: str = NOWHERE) -> AppTest:
    st.cache_data.clear()
    test = AppTest.from_file(str(ROOT / "monitor" / "screens" / "operation.py"), default_timeout=60)
    test.session_state["endpoint"] = address
    return test.run()


def button(test: AppTest, label: str) -> AppTest:
    return next(found for found in test.button if found.label == label).click().run()


def sure(test: AppTest, what: str) -> AppTest:
    return next(found for found in test.checkbox if f"operation_sure_{what}" in str(found.key)).check().run()


def metrics(test: AppTest) -> dict[str, str]:
    return {found.label: found.value for found in test.metric}


def words(test: AppTest) -> str:
    return " ".join(found.value for found in (*test.markdown, *test.caption))


@pytest.fixture
def two_champions(store: str, shots: pd.DataFrame) -> None:
    """A store in which version 2 has followed version 1."""
    checkout = Checkout(Path(store.removeprefix("sqlite:///")).parent)
    publish(checkout, shots)
    publish(checkout, shots)


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose steps are small scripts of a test."""
    folder = tmp_path / "bundle"
    (folder / "serving").mkdir(parents=True)
    (folder / "steps").mkdir()
    (folder / "serving" / "guard.py").write_bytes((ROOT / "serving" / "guard.py").read_bytes())
    monkeypatch.setattr(jobs, "ROOT", folder)
    return folder / "steps"


@pytest.mark.usefixtures("store")
def test_an_empty_store_says_how_to_fill_it() -> None:
    shown = page()
    assert not shown.exception
    assert not shown.error
    assert {found.value for found in shown.code} == {"make main"}
    assert len(shown.info) == 4


def test_a_broken_store_is_told_in_words(store: str) -> None:
    broken = Path(store.removeprefix("sqlite:///")).with_name("broken.db")
    broken.write_bytes(b"this is no database" * 99)
    mlflow.set_tracking_uri(f"sqlite:///{broken}")
    shown = page()
    assert not shown.exception
    assert "broken.db" in shown.error[0].value


@pytest.mark.usefixtures("two_champions")
def test_champion_production_and_previous_champion_are_shown_and_a_server_that_is_down() -> None:
    shown = page()
    assert not shown.exception
    found = metrics(shown)
    assert (found["Champion"], found["Production"], found["Previous champion"]) == ("v2", "v2", "v1")
    assert "does not answer" in words(shown)
    assert "make serve" in words(shown)
    versions, promotions = shown.dataframe[0].value, shown.dataframe[1].value
    assert versions["version"].tolist() == [2, 1]
    assert versions["aliases"].tolist() == [["champion"], ["previous_champion"]]
    assert promotions["why"].tolist() == ["for a test"] * 2


@pytest.mark.usefixtures("two_champions")
def test_a_server_of_another_version_than_the_champion_is_shown_as_such(operated_door: Operated) -> None:
    assert "version 1, not the champion" in words(page(operated_door.address))


@pytest.mark.usefixtures("two_champions")
def test_a_server_of_the_champion_is_shown_as_such(operated_door: Operated) -> None:
    registry.roll_back("a look")
    assert "version 1, the champion" in words(page(operated_door.address))


def test_mlflows_own_server_does_not_say_its_version(two_champions: None, front_door: str) -> None:
    del two_champions
    assert "does not say which version" in words(page(front_door))


@pytest.mark.usefixtures("two_champions")
def test_rolling_back_asks_first_and_then_shows_the_champion_of_before() -> None:
    shown = page()
    assert next(found for found in shown.button if found.label == "Roll back").disabled
    shown.text_input[0].set_value("it misses layups")
    shown = sure(shown, "roll back")
    shown = button(shown, "Roll back")
    assert not shown.exception
    assert shown.success[0].value == "Rolled back from version 2: the champion is now version 1."
    assert metrics(shown)["Champion"] == "v1"
    assert "rolled back: it misses layups" in shown.dataframe[1].value["why"].tolist()
    assert not any(found.value for found in shown.checkbox)


def test_where_there_is_nothing_to_roll_back_to_it_is_told(store: str, shots: pd.DataFrame) -> None:
    publish(Checkout(Path(store.removeprefix("sqlite:///")).parent), shots)
    shown = page()
    shown.text_input[0].set_value("a wish")
    shown = button(sure(shown, "roll back"), "Roll back")
    assert not shown.exception
    assert "no previous champion" in shown.error[0].value
    assert metrics(shown)["Champion"] == "v1"


@pytest.mark.usefixtures("two_champions")
@pytest.mark.parametrize(
    ("label", "what", "name"),
    [
        ("Retrain", "retrain", "treinamento"),
        ("Apply again", "apply", "aplicacao"),
        ("Look again", "look", "monitoramento"),
    ],
)
def test_a_step_runs_once_it_is_confirmed_and_its_output_and_end_are_shown(
    steps: Path, label: str, what: str, name: str
) -> None:
    (steps / f"{name}.py").write_text("print('at work')\n")
    shown = page()
    assert next(found for found in shown.button if found.label == label).disabled
    shown = button(sure(shown, what), label)
    assert not shown.exception
    assert f"`steps.{name}` ended with exit code 0" in shown.success[0].value
    assert "the champion is still version 2" in shown.success[0].value
    assert shown.code[0].value == "at work"


@pytest.mark.usefixtures("two_champions")
def test_a_step_that_fails_is_an_error_with_its_output(steps: Path) -> None:
    (steps / "treinamento.py").write_text("import sys\nsys.exit('no prepared table')\n")
    shown = button(sure(page(), "retrain"), "Retrain")
    assert not shown.exception
    assert "ended with exit code 1" in shown.error[0].value
    assert "no prepared table" in shown.code[0].value


@pytest.mark.usefixtures("two_champions")
def test_a_new_champion_is_named_when_a_training_ends(steps: Path) -> None:
    lines = ["import sys", f"sys.path.insert(0, {str(ROOT)!r})", "from serving import registry"]
    (steps / "treinamento.py").write_text("\n".join([*lines, "registry.promote('1', 'better')"]))
    shown = button(sure(page(), "retrain"), "Retrain")
    assert "the champion is now version 1" in shown.success[0].value
    assert metrics(shown)["Champion"] == "v1"


def test_runs_of_a_real_main_are_listed_filtered_and_shown_with_their_files(
    store: str, synthetic_main: tuple[Checkout, str]
) -> None:
    del store
    checkout, _ = synthetic_main
    mlflow.set_tracking_uri(f"sqlite:///{checkout.folder / 'mlflow.db'}")
    shown = page()
    assert not shown.exception
    assert "simulated" in shown.warning[0].value
    shown.multiselect[0].set_value(["PipelineAplicacao"]).run()
    listed = shown.dataframe[2].value
    logged = checkout.run("PipelineAplicacao")
    assert listed["run_id"].tolist() == [logged.info.run_id]
    assert listed["log_loss"].tolist() == [logged.data.metrics["log_loss"]]
    details = shown.dataframe[4].value.set_index("name")["value"]
    assert details.to_dict() == pytest.approx(logged.data.metrics)
    assert {found.label for found in shown.download_button} == checkout.artifacts(logged)
    assert len(shown.image) == 1
    assert len(shown.get("plotly_chart")) == 1
