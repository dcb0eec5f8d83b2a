"""A tracking store that is away is told within seconds, in words, whatever keeps it away."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from streamlit.testing.v1 import AppTest

from data.paths import ROOT
from serving.registry import StoreError, reachability
from tests.networks import FaultyProxy, black_hole, closed_port, full_queue, responding_with, unknown_host
from tests.project import wait_until

SERVERS = {
    "refused": (closed_port, "connection refused"),
    "silent": (black_hole, "no answer within"),
    "full": (full_queue, "no answer within"),
    "unknown": (unknown_host, "no machine of that name"),
    "failing": (responding_with(500, b"<html>trace</html>"), "the answer 500"),
    "away behind a proxy": (responding_with(503, b"<html>nginx</html>"), "the answer 503"),
    "without its database": (
        responding_with(
            503, b'{"error_code": "TEMPORARILY_UNAVAILABLE", "message": "no database"}', "application/json"
        ),
        "no database",
    ),
    "something else": (responding_with(200, b"<html>a page</html>"), "not one of MLflow"),
    "something without such a path": (responding_with(404, b"none"), "not one of MLflow"),
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
@pytest.mark.parametrize("network", [closed_port, black_hole, unknown_host])
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
    with responding_with(status, b"You are not authenticated")() as place:
        mlflow.set_tracking_uri(f"http://{place}")
        reachability.require_answer(1.0)


@pytest.mark.usefixtures("short")
def test_what_was_found_is_believed_for_a_while_where_a_page_asks_often() -> None:
    with responding_with(200, b"{}", "application/json")() as place:
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


PAGES = ("overview", "court", "performance", "drift", "without_labels", "retraining", "operation")


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("page", PAGES)
def test_every_page_says_that_the_server_is_away(page: str) -> None:
    with black_hole() as place:
        mlflow.set_tracking_uri(f"http://u:secret@{place}")
        shown = AppTest.from_file(str(ROOT / "monitor" / "ui" / f"{page}.py"), default_timeout=60).run()
    assert not shown.exception
    (error,) = shown.error
    assert f"http://u:***@{place}" in error.value.replace("\\", "")
    assert "no answer within" in error.value


# A store that goes away while a step works

REQUESTS = ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT")


@pytest.fixture
def at_work(short: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """The line to a tracking server, which can be cut; nothing waits between two tries."""
    del short
    for name in REQUESTS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
    with (
        responding_with(200, b"{}", "application/json")() as place,
        closing(FaultyProxy(int(f"{place}".split(":")[1]))) as line,
    ):
        mlflow.set_tracking_uri(line.url)
        yield line


def asked_within() -> tuple[str | None, ...]:
    """How often MLflow's requests are tried, and how long each may take; None is MLflow's own."""
    return tuple(os.environ.get(name) for name in REQUESTS)


def test_work_whose_server_goes_away_ends_with_words(at_work: FaultyProxy) -> None:
    at_work.refuse()
    words = f"Expected an MLflow tracking server at {at_work.url}; found"
    with pytest.raises(StoreError, match=words), reachability.watched():
        MlflowClient().search_experiments()


def test_an_error_of_the_work_stays_what_it_is_where_the_server_answers(at_work: FaultyProxy) -> None:
    del at_work
    error = MlflowException("not for you")
    with pytest.raises(MlflowException, match="not for you"), reachability.watched():
        raise error


def test_a_server_that_falls_silent_during_work_is_told_and_so_is_its_return(
    at_work: FaultyProxy, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []

    def says(words: str) -> bool:
        told.append(capsys.readouterr().err)
        return words in " ".join("".join(told).split())

    with reachability.watched(0.05, 0.3):
        assert asked_within() == ("2", None)
        at_work.silence()
        wait_until(
            lambda: says(f"Waiting: Expected an MLflow tracking server at {at_work.url}; found no answer"), "words"
        )
        wait_until(lambda: asked_within() == ("0", "8"), "short requests")
        at_work.open()
        wait_until(lambda: says("Going on: the tracking store answers again."), "words")
        wait_until(lambda: asked_within() == ("2", None), "usual requests")
    assert asked_within() == (None, None)
    assert "".join(told).count("Waiting:") == 1


@pytest.mark.usefixtures("at_work")
def test_what_the_environment_says_of_requests_holds_during_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    with reachability.watched():
        assert asked_within() == ("5", None)
    assert asked_within() == ("5", None)
