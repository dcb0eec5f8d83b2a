"""The playground of the page Court, run by Streamlit, with real servers."""

import io
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from sklearn.pipeline import Pipeline
from streamlit.testing.v1 import AppTest

from data.paths import ROOT
from data.preparation import manifest
from data.schema import FEATURES, feature_column
from monitor.ui import cache, scoring
from serving.inference_log import reader
from serving.inference_log.inference_log import TRAFFIC, UPLOAD, WHAT_IF
from tests.project import PAGE_SECONDS, Checkout, ProductionServer, free_port, shot, wait_until

Page = Callable[[str], AppTest]


@pytest.fixture
def processed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for prepared tables."""
    cache.clear()
    monkeypatch.setattr(manifest, "PROCESSED", tmp_path)
    return tmp_path


@pytest.fixture
def page(processed: Path) -> Page:
    """A function that opens the page with a server."""
    del processed

    def opened(url: str) -> AppTest:
        test = AppTest.from_file(str(ROOT / "monitor" / "ui" / "court.py"), default_timeout=PAGE_SECONDS)
        test.session_state["endpoint"] = url
        test.session_state["view"] = "playground"
        return test.run()

    return opened


def button(test: AppTest, label: str) -> AppTest:
    return next(found for found in test.button if found.label == label).click().run()


def metrics(test: AppTest) -> dict[str, str]:
    return {found.label: found.value for found in test.metric}


def upload(test: AppTest, name: str, content: bytes) -> AppTest:
    test.file_uploader[0].upload(name, content, "application/octet-stream").run()
    return button(test, "Score the file")


def csv(**changes: object) -> bytes:
    return bytes(pd.DataFrame([shot(), shot(shot_distance=1)]).assign(**changes).to_csv(index=False).encode())


def test_the_form_has_a_field_with_its_range_for_each_feature(page: Page) -> None:
    shown = page("http://127.0.0.1:1")
    assert not shown.exception
    assert not shown.error
    for name in FEATURES:
        if name == "playoffs":
            assert shown.selectbox(key="playground_playoffs").options == ["0: no", "1: yes"]
            continue
        assert feature_column(name).constraint_text in shown.number_input(key=f"playground_{name}").help
    assert shown.number_input(key="playground_period").step == 1


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("period", 11, "Period: found 11, expected an integer from 1 to 10"),
        ("period", 2.5, "Period: found 2.5, expected an integer from 1 to 10"),
        ("minutes_remaining", -1, "Minutes remaining: found -1, expected a float from 0 to 12"),
        ("shot_distance", 1_000, "found 1000, expected a float from 0 to 94"),
        ("shot_distance", None, "found nothing, expected a float from 0 to 94"),
        ("lat", 40.5, "Latitude (degrees): found 40.5, expected a float from"),
        ("lng", 0, "Longitude (degrees): found 0, expected a float from"),
    ],
)
def test_a_value_out_of_range_is_an_error_below_its_field_and_nothing_is_sent(
    page: Page, production_server: ProductionServer, name: str, value: float | None, message: str
) -> None:
    shown = button(page(production_server.url), "Score")
    assert metrics(shown)
    shown.number_input(key=f"playground_{name}").set_value(value).run()
    assert not shown.exception
    assert message in shown.error[0].value
    assert shown.number_input(key=f"playground_{name}").value == value
    assert next(found for found in shown.button if found.label == "Score").disabled
    assert not metrics(shown)


def test_the_prediction_of_one_shot_is_not_shown_with_another(page: Page, production_server: ProductionServer) -> None:
    shown = button(page(production_server.url), "Score")
    assert "P(made)" in metrics(shown)
    shown.number_input(key="playground_period").set_value(4).run()
    assert not metrics(shown)
    assert any("This shot has not been scored yet" in found.value for found in shown.markdown)
    shown.number_input(key="playground_period").set_value(1).run()
    assert "P(made)" in metrics(shown)
    shown.session_state["endpoint"] = "http://127.0.0.1:1"
    assert not metrics(shown.run())


def test_the_error_of_one_shot_is_not_shown_with_another(page: Page) -> None:
    shown = button(page(f"http://127.0.0.1:{free_port()}"), "Score")
    assert shown.error
    shown.number_input(key="playground_period").set_value(4).run()
    assert not shown.error


def test_a_distance_that_contradicts_the_location_is_a_warning_and_can_be_corrected(page: Page) -> None:
    shown = page("http://127.0.0.1:1")
    (down,) = shown.warning
    assert "does not respond" in down.value
    shown.number_input(key="playground_shot_distance").set_value(3.0).run()
    assert "18.2 feet from the hoop, but the distance is 3, which is 15.2 feet too short" in shown.warning[1].value
    shown = button(shown, "Set the distance to 18 feet")
    assert not shown.exception
    assert len(shown.warning) == 1
    assert shown.number_input(key="playground_shot_distance").value == 18
    shown.number_input(key="playground_lat").set_value(33.8).run()
    assert "feet too short" in shown.warning[1].value


def test_a_rounded_distance_matches_its_location(page: Page) -> None:
    shown = page("http://127.0.0.1:1")
    for distance in (18.0, 18.2, 19.0):
        shown.number_input(key="playground_shot_distance").set_value(distance).run()
        assert not any("the distance is" in warning.value for warning in shown.warning)


def test_the_result_of_one_file_is_not_shown_with_another(page: Page, production_server: ProductionServer) -> None:
    shown = upload(page(production_server.url), "mine.csv", csv())
    assert metrics(shown)["Rows"] == "2"
    shown.file_uploader[0].upload("another.csv", csv(period=2), "text/csv").run()
    assert "Rows" not in metrics(shown)


def test_a_scored_shot_shows_the_prediction_of_the_server(
    page: Page, production_server: ProductionServer, served_checkout: tuple[Checkout, Pipeline]
) -> None:
    shown = page(production_server.url)
    shown.number_input(key="playground_shot_distance").set_value(2.0)
    shown.selectbox(key="playground_playoffs").set_value(1)
    shown = button(shown, "Score")
    assert not shown.exception
    sent = shot(shot_distance=2, playoffs=1)
    made = served_checkout[1].predict_proba([[sent[name] for name in FEATURES]])[0, 1]
    assert metrics(shown) == {"Prediction": "Made" if made >= 0.5 else "Missed", "P(made)": f"{made:.1%}"}
    assert "version 1" in " ".join(found.value for found in shown.markdown)
    assert '"playoffs": 1.0' in shown.code[-1].value
    assert shown.code[-1].value.startswith(f"curl {production_server.url}/invocations")
    assert len(shown.json) == 2


def test_requests_of_the_page_are_not_logged_as_traffic(
    page: Page, production_server: ProductionServer, served_checkout: tuple[Checkout, Pipeline]
) -> None:
    url = f"sqlite:///{served_checkout[0].folder / 'inference_log.db'}"

    def logged(origin: str) -> list[float]:
        try:
            found = reader.read(reader.open_log(url), max_rows=10_000, origins=[origin])
            return list(found["shot_distance"])
        except reader.NoLogError:
            return []

    shown = page(production_server.url)
    shown.number_input(key="playground_shot_distance").set_value(18.25)
    button(shown, "Score")
    upload(shown, "mine.csv", csv(shot_distance=18.375))
    wait_until(lambda: 18.25 in logged(WHAT_IF) and 18.375 in logged(UPLOAD), "the rows to be logged")
    assert not {18.25, 18.375} & set(logged(TRAFFIC))


def test_predictions_are_listed_newest_first_until_they_are_cleared(
    page: Page, production_server: ProductionServer
) -> None:
    shown = button(page(production_server.url), "Score")
    shown.number_input(key="playground_period").set_value(4)
    shown = button(shown, "Score")
    assert shown.dataframe[0].value["period"].tolist() == [4, 1]
    shown = button(shown, "Clear")
    assert not shown.dataframe
    assert not shown.exception


def test_the_error_of_a_server_that_is_down_holds_its_url_and_the_commands_that_start_one(page: Page) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    shown = button(page(url), "Score")
    assert not shown.exception
    for expected in (url, "make serve", "mlflow models serve -m models:/kobe_shot/Production", "set its URL under"):
        assert expected in shown.error[0].value
    assert not shown.metric


def test_an_invalid_url_is_an_error_without_a_traceback(page: Page) -> None:
    shown = button(page("foo"), "Score")
    assert not shown.exception
    assert "'foo'" in shown.error[0].value


def test_the_error_of_a_rejected_shot_is_the_message_of_the_server(
    page: Page, production_server: ProductionServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpatched = scoring.score_shot
    monkeypatch.setattr(scoring, "score_shot", lambda shot, url: unpatched({**shot, "period": 11.0}, url))
    shown = button(page(production_server.url), "Score")
    assert "column period: found 11, expected an integer from 1 to 10" in shown.error[0].value


def test_without_prepared_shots_the_page_shows_the_command_that_prepares_them(page: Page) -> None:
    assert page("http://127.0.0.1:1").code[0].value == "make main"


def test_unreadable_prepared_shots_are_an_error(page: Page, processed: Path) -> None:
    (processed / "data_filtered.parquet").write_bytes(b"PAR1 cut")
    shown = page("http://127.0.0.1:1")
    assert not shown.exception
    assert "data_filtered.parquet" in shown.error[0].value


def test_a_file_is_scored_and_its_metrics_are_shown(page: Page, production_server: ProductionServer) -> None:
    content = csv(shot_made_flag=[1, 0], mood=["good", "bad"]).replace(b"lng", b"lon")
    shown = upload(page(production_server.url), "mine.csv", content)
    assert not shown.exception
    assert not shown.error
    found = metrics(shown)
    assert (found["Rows"], found["Version"]) == ("2", "1")
    assert float(found["log loss"]) > 0
    assert "mood" in shown.info[-1].value
    assert shown.dataframe[0].value["mood"].tolist() == ["good", "bad"]


def test_the_result_of_a_file_stays_when_a_shot_is_scored(page: Page, production_server: ProductionServer) -> None:
    shown = upload(page(production_server.url), "mine.csv", csv())
    shown = button(shown, "Score")
    assert metrics(shown)["Rows"] == "2"
    assert any("No row has a label" in found.value for found in shown.info)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("mine.parquet", b"not a table", "it cannot be read"),
        ("mine.csv", b"lat,lng\n34,-118\n", "missing: minutes_remaining"),
        ("mine.csv", csv().splitlines()[0] + b"\n", "has no rows"),
        ("mine.csv", csv(period="first"), "found 'first'"),
    ],
)
def test_an_invalid_file_is_an_error(page: Page, name: str, content: bytes, message: str) -> None:
    shown = upload(page("http://127.0.0.1:1"), name, content)
    assert not shown.exception
    assert message in shown.error[0].value


def test_the_error_of_a_file_holds_the_command_that_starts_a_server(page: Page) -> None:
    shown = upload(page(f"http://127.0.0.1:{free_port()}"), "mine.csv", csv())
    assert not shown.exception
    assert "make serve" in shown.error[0].value


def test_the_production_set_is_scored_once_it_is_prepared(
    page: Page, production_server: ProductionServer, processed: Path
) -> None:
    shown = button(page(production_server.url), "Score the production set")
    assert "make main" in shown.error[0].value
    pd.read_csv(io.BytesIO(csv(shot_made_flag=[1, None]))).to_parquet(processed / "base_prod.parquet")
    shown = button(shown, "Score the production set")
    assert not shown.error
    assert metrics(shown)["Rows"] == "2"
    assert any("1 rows without a label" in found.value for found in shown.caption)
