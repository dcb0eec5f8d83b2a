"""An unreachable tracking store is reported within seconds, whatever the cause."""

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
    "silent": (black_hole, "no response within"),
    "full": (full_queue, "no response within"),
    "unknown": (unknown_host, "no machine of that name"),
    "failing": (responding_with(500, b"<html>trace</html>"), "the response 500"),
    "away behind a proxy": (responding_with(503, b"<html>nginx</html>"), "the response 503"),
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
    """A store that is probed for a second only."""
    before = mlflow.get_tracking_uri()
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "2")
    yield
    mlflow.set_tracking_uri(before)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(("network", "words"), SERVERS.values(), ids=SERVERS)
def test_an_unreachable_tracking_server_is_reported_with_its_url_and_the_remedy(network: Network, words: str) -> None:
    with network() as place:
        mlflow.set_tracking_uri(f"http://u:secret@{place}")
        with pytest.raises(StoreError) as raised:
            reachability.require_reachable(1.0)
    assert words in str(raised.value)
    assert f"http://u:***@{place}" in str(raised.value)
    assert "MLFLOW_TRACKING_URI" in str(raised.value)
    assert "html" not in str(raised.value)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("network", [closed_port, black_hole, unknown_host])
def test_an_unreachable_database_is_reported(network: Network) -> None:
    with network() as place:
        mlflow.set_tracking_uri(f"postgresql+psycopg://u:secret@{place}/mlflow")
        with pytest.raises(StoreError, match="database of an MLflow store") as raised:
            reachability.require_reachable(3.0)
    assert "secret" not in str(raised.value)


@pytest.mark.usefixtures("store")
def test_a_file_of_this_machine_is_always_reachable() -> None:
    reachability.require_reachable(0.0)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("status", [401, 403])
def test_a_missing_permission_is_left_to_the_server_to_report(status: int) -> None:
    with responding_with(status, b"You are not authenticated")() as place:
        mlflow.set_tracking_uri(f"http://{place}")
        reachability.require_reachable(1.0)


@pytest.mark.usefixtures("short")
def test_the_last_result_is_reused_for_a_while_where_a_page_probes_often() -> None:
    with responding_with(200, b"{}", "application/json")() as place:
        mlflow.set_tracking_uri(f"http://{place}")
        reachability.require_reachable(1.0)
    reachability.require_reachable(1.0, remembered=3600)
    with pytest.raises(StoreError):
        reachability.require_reachable(1.0)


def test_timeouts_of_the_environment_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
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


PAGES = (
    "today",
    "court",
    "why",
    "champions",
    "system",
)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("page", PAGES)
def test_every_page_shows_that_the_server_is_unreachable(page: str) -> None:
    with black_hole() as place:
        mlflow.set_tracking_uri(f"http://u:secret@{place}")
        shown = AppTest.from_file(str(ROOT / "monitor" / "ui" / f"{page}.py"), default_timeout=60).run()
    assert not shown.exception
    (error,) = shown.error
    assert f"http://u:***@{place}" in error.value.replace("\\", "")
    assert "no response within" in error.value


# A store that becomes unreachable while a step runs

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


def request_limits() -> tuple[str | None, ...]:
    """Retries and timeout of MLflow's requests; None is MLflow's own."""
    return tuple(os.environ.get(name) for name in REQUESTS)


def test_work_whose_server_becomes_unreachable_ends_with_a_message(at_work: FaultyProxy) -> None:
    at_work.refuse()
    words = f"Expected an MLflow tracking server at {at_work.url}; found"
    with pytest.raises(StoreError, match=words), reachability.watched():
        MlflowClient().search_experiments()


def test_an_error_of_the_work_is_unchanged_where_the_server_responds(at_work: FaultyProxy) -> None:
    del at_work
    error = MlflowException("not for you")
    with pytest.raises(MlflowException, match="not for you"), reachability.watched():
        raise error


def test_a_server_that_falls_silent_during_work_is_reported_and_so_is_its_return(
    at_work: FaultyProxy, capsys: pytest.CaptureFixture[str]
) -> None:
    output: list[str] = []

    def shows(words: str) -> bool:
        output.append(capsys.readouterr().err)
        return words in " ".join("".join(output).split())

    with reachability.watched(0.05, 0.3):
        assert request_limits() == ("2", None)
        at_work.silence()
        wait_until(
            lambda: shows(f"Waiting: Expected an MLflow tracking server at {at_work.url}; found no response"), "words"
        )
        wait_until(lambda: request_limits() == ("0", "8"), "short requests")
        at_work.open()
        wait_until(lambda: shows("Continuing: the tracking store responds again."), "words")
        wait_until(lambda: request_limits() == ("2", None), "usual requests")
    assert request_limits() == (None, None)
    assert "".join(output).count("Waiting:") == 1


@pytest.mark.usefixtures("at_work")
def test_timeouts_of_the_environment_are_kept_during_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    with reachability.watched():
        assert request_limits() == ("5", None)
    assert request_limits() == ("5", None)
