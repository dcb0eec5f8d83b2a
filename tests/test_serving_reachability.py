"""A tracking store that is away is told within seconds, in words, whatever keeps it away."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import mlflow
import pytest
from streamlit.testing.v1 import AppTest

from data.files import ROOT
from serving import reachability
from serving.registry import StoreError
from tests.networks import answering, black_hole, full_queue, no_machine, nothing

SERVERS = {
    "refused": (nothing, "connection refused"),
    "silent": (black_hole, "no answer within"),
    "full": (full_queue, "no answer within"),
    "unknown": (no_machine, "no machine of that name"),
    "failing": (answering(500, b"<html>trace</html>"), "the answer 500"),
    "away behind a proxy": (answering(503, b"<html>nginx</html>"), "the answer 503"),
    "without its database": (
        answering(503, b'{"error_code": "TEMPORARILY_UNAVAILABLE", "message": "no database"}', "application/json"),
        "no database",
    ),
    "something else": (answering(200, b"<html>a page</html>"), "not one of MLflow"),
    "something without such a path": (answering(404, b"none"), "not one of MLflow"),
}
Network = Callable[[], AbstractContextManager[str]]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A store that is asked for a second only."""
    before = mlflow.get_tracking_uri()
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "2")
    yield
    mlflow.set_tracking_uri(before)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(("network", "words"), SERVERS.values(), ids=SERVERS)
def test_a_tracking_server_that_is_away_is_told_with_its_address_and_what_to_do(network: Network, words: str) -> None:
    with network() as place:
        mlflow.set_tracking_uri(f"http://u:secret@{place}")
        with pytest.raises(StoreError) as told:
            reachability.require_answer(1.0)
    assert words in str(told.value)
    assert f"http://u:***@{place}" in str(told.value)
    assert "MLFLOW_TRACKING_URI" in str(told.value)
    assert "html" not in str(told.value)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("network", [nothing, black_hole, no_machine])
def test_a_database_that_is_away_is_told(network: Network) -> None:
    with network() as place:
        mlflow.set_tracking_uri(f"postgresql+psycopg://u:secret@{place}/mlflow")
        with pytest.raises(StoreError, match="database of an MLflow store") as told:
            reachability.require_answer(3.0)
    assert "secret" not in str(told.value)


@pytest.mark.usefixtures("store")
def test_a_file_of_this_machine_is_always_there() -> None:
    reachability.require_answer(0.0)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("status", [401, 403])
def test_who_is_not_let_in_is_told_by_the_server_itself(status: int) -> None:
    with answering(status, b"You are not authenticated")() as place:
        mlflow.set_tracking_uri(f"http://{place}")
        reachability.require_answer(1.0)


@pytest.mark.usefixtures("short")
def test_what_was_found_is_believed_for_a_while_where_a_page_asks_often() -> None:
    with answering(200, b"{}", "application/json")() as place:
        mlflow.set_tracking_uri(f"http://{place}")
        reachability.require_answer(1.0)
    reachability.require_answer(1.0, remembered=3600)
    with pytest.raises(StoreError):
        reachability.require_answer(1.0)


def test_what_the_environment_says_of_requests_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT")
    reachability.hurry()
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "3"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "8"
    with reachability.patience():
        assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "3"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "8"
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in reachability.patient_environment()


PAGES = ("overview", "court", "performance", "drift", "without_labels", "loop", "operation")


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("page", PAGES)
def test_every_page_says_that_the_server_is_away(page: str) -> None:
    with black_hole() as place:
        mlflow.set_tracking_uri(f"http://u:secret@{place}")
        shown = AppTest.from_file(str(ROOT / "monitor" / "screens" / f"{page}.py"), default_timeout=60).run()
    assert not shown.exception
    (error,) = shown.error
    assert f"http://u:***@{place}" in error.value.replace("\\", "")
    assert "no answer within" in error.value
