"""Whether the tracking store responds: probed before a command needs it, and while a long command runs.

MLflow's client retries requests to an unreachable server for four minutes, and to a database for longer. A person and a
supervisor need to know within seconds. ``make`` runs ``python -m serving.registry.reachability``.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

import mlflow
import requests
import sqlalchemy as sql
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from data.cli import console
from data.cli.config import CommandConfig, run_command
from data.storage.urls import sqlite_path
from serving.registry.errors import StoreError
from serving.registry.sqlite_store import damage_of

RESPONSE_SECONDS = 5.0
"""How long the store may take to respond."""

_RETRIES, _TIMEOUT = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"
_SHORT = {_RETRIES: "0", _TIMEOUT: "8"}
_AT_WORK = {_RETRIES: "2", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "3"}
"""A refused connection is retried for 7 s. The timeout of a request does not change: an upload must not be cut off."""
_WATCH_SECONDS = 3.0
_PROBED = "/api/2.0/mlflow/experiments/search"
_LONGEST_REASON = 300
_OWN: dict[str, str] = {}
"""Environment variables that this module has set."""
_FOUND: dict[str, tuple[float, str]] = {}
_DATABASES = {"postgresql", "mysql", "mssql"}


def require_reachable(seconds: float = RESPONSE_SECONDS, *, remembered: float = 0.0) -> None:
    """Return if tracking store and registry respond; a file of this machine does, unless it is damaged.

    Parameters
    ----------
    seconds : float
        How long each may take; ``$MLFLOW_HTTP_REQUEST_TIMEOUT`` can raise it.
    remembered : float
        Seconds for which the last result is reused.

    Raises
    ------
    StoreError
        With what was expected, what was found, and what to do.
    """
    for uri, variable in _uris().items():
        probed, problem = _FOUND.get(uri, (0.0, ""))
        if not probed or time.monotonic() - probed > remembered:
            problem = _problem(uri, max(seconds, _requested_timeout()))
            _FOUND[uri] = time.monotonic(), problem
        if problem:
            what = "an MLflow tracking server" if uri.startswith("http") else "the database of an MLflow store"
            advice = f"Start it, or set {variable} to one that responds."
            if sqlite_path(uri) is not None:
                advice = "Restore it from a copy, or move it away to start with an empty store."
            message = f"Expected {what} at {uri}; found {problem}. {advice}"
            raise StoreError(message)


def hurry() -> None:
    """Let MLflow's requests of this process end within seconds, unless the environment sets their timeout."""
    _set_own(_SHORT)


@contextmanager
def watched(every: float = _WATCH_SECONDS, timeout: float = RESPONSE_SECONDS) -> Iterator[None]:
    """Report within seconds that a store becomes unreachable during long work, and let the work end soon after.

    A refused connection is retried for a few seconds. A request without a response waits as usual, with a message on
    standard error; requests that start after that time out within seconds. Timeouts of the environment are kept.

    Parameters
    ----------
    every : float
        Seconds between two probes of the store.
    timeout : float
        Seconds that a response may take.

    Raises
    ------
    StoreError
        In place of an error of the work, if the store does not respond.
    """
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(ended, every, timeout), daemon=True)
    _set_own(_AT_WORK)
    if is_remote():
        watch.start()
    try:
        yield
    except (MlflowException, requests.RequestException, StoreError):
        require_reachable(timeout)
        raise
    finally:
        ended.set()
        _unset_own({*_AT_WORK, *_SHORT})


def _watch(ended: threading.Event, every: float, timeout: float) -> None:
    """Report when the store becomes unreachable and when it responds again; long outages shorten new requests."""
    away = 0
    while not ended.wait(every):
        try:
            require_reachable(timeout)
        except StoreError as error:
            if ended.is_set():
                return
            away += 1
            if away == 1:
                console.error("Waiting:", f"{error} This continues if it responds soon, and else ends.")
            else:
                _set_own(_SHORT)
        else:
            if away:
                console.error("Continuing:", "the tracking store responds again.")
                _unset_own(_SHORT)
                _set_own(_AT_WORK)
            away = 0


def _set_own(values: Mapping[str, str]) -> None:
    for name, value in values.items():
        if name not in os.environ or name in _own():
            os.environ[name] = _OWN[name] = value


def _unset_own(names: Iterable[str]) -> None:
    for name in _own() & set(names):
        del os.environ[name], _OWN[name]


def _own() -> set[str]:
    """Variables that this module has set, and that are unchanged since."""
    return {name for name, value in _OWN.items() if os.environ.get(name) == value}


def _uris() -> dict[str, str]:
    """The URIs of tracking store and registry, and the environment variable that sets each."""
    uris = {mlflow.get_tracking_uri(): "MLFLOW_TRACKING_URI"}
    uris.setdefault(mlflow.get_registry_uri(), "MLFLOW_REGISTRY_URI")
    return uris


def is_remote() -> bool:
    """Whether tracking store or registry is a server or a database server, not a file of this machine."""
    schemes = {urlsplit(uri).scheme.partition("+")[0] for uri in _uris()}
    return not schemes.isdisjoint({"http", "https", *_DATABASES})


@contextmanager
def patience() -> Iterator[None]:
    """Restore MLflow's usual timeouts within the block, and for the processes that it starts."""
    hurried = {name: os.environ.pop(name) for name in _own()}
    try:
        yield
    finally:
        os.environ.update(hurried)


def patient_environment() -> dict[str, str]:
    """The environment without the timeouts that `hurry` has set, for a process that does long work."""
    return {name: value for name, value in os.environ.items() if name not in _own()}


def _requested_timeout() -> float:
    """The timeout of a request that the environment sets, in seconds, else 0."""
    given = os.environ.get(_TIMEOUT, "")
    return float(given) if given.isdecimal() and _TIMEOUT not in _own() else 0.0


def _problem(uri: str, seconds: float) -> str:
    """Why a URI does not respond; empty where it responds."""
    scheme = urlsplit(uri).scheme
    if scheme in {"http", "https"}:
        return _within(seconds, lambda: _probe_server(uri, seconds))
    if scheme.partition("+")[0] in _DATABASES:
        return _within(seconds, lambda: _probe_database(uri))
    if path := sqlite_path(uri):
        return damage_of(path)
    return ""


def _within(seconds: float, probe: Callable[[], str]) -> str:
    """The result of a probe. The timeouts of sockets are per packet, and a DNS lookup has none."""
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(probe()), daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else f"no response within {seconds:.0f} s"


def _probe_server(uri: str, seconds: float) -> str:
    try:
        response = http_request(
            get_default_host_creds(uri),
            _PROBED,
            "POST",
            json={"max_results": 1},
            max_retries=0,
            retry_codes=(),
            raise_on_status=False,
            timeout=seconds,
        )
    except (MlflowException, requests.RequestException, OSError) as error:
        return _reason(error, seconds)
    # The request that follows reports a missing permission.
    if response.status_code in {401, 403, 429}:
        return ""
    try:
        body = response.json()
    except ValueError:
        body = None
    if response.ok and isinstance(body, dict):
        return ""
    detail = body.get("message", "") if isinstance(body, dict) else ""
    status = f"the response {response.status_code} {response.reason}".rstrip()
    if detail:
        return f"{status}: {str(detail)[:_LONGEST_REASON].strip().rstrip('.')}"
    return status if response.status_code >= requests.codes.server_error else f"{status}, not one of MLflow"


def _reason(error: BaseException, seconds: float) -> str:
    """Why no response came, from the error that caused those of the libraries."""
    chain: list[BaseException] = []
    below: BaseException | None = error
    while below is not None and below not in chain:
        chain.append(below)
        below = below.__cause__ or below.__context__
    names = {type(one).__name__ for one in chain}
    if names & {"ConnectTimeout", "ReadTimeout", "ConnectTimeoutError", "ReadTimeoutError", "TimeoutError"}:
        return f"no response within {seconds:.0f} s"
    if names & {"NameResolutionError", "gaierror"}:
        return "no machine of that name"
    if "ConnectionRefusedError" in names:
        return "no server that listens there (connection refused)"
    return f"{type(error).__name__}: {str(error)[:_LONGEST_REASON].strip().rstrip('.')}"


def _probe_database(uri: str) -> str:
    try:
        engine = sql.create_engine(uri, poolclass=sql.NullPool)
        with engine.connect() as connection:
            connection.execute(sql.select(1))
    except ValueError:
        # The library repeats the port in its message, which may be a password.
        return "a URL that cannot be parsed; a port is a number"
    except (sql.exc.SQLAlchemyError, ImportError, OSError) as error:
        below = error.orig if isinstance(error, sql.exc.DBAPIError) and error.orig else error
        return f"{type(below).__name__}: {' '.join(str(below).split())[:_LONGEST_REASON].rstrip('.')}"
    return ""


def _probe(_: CommandConfig) -> None:
    require_reachable()


if __name__ == "__main__":
    run_command(CommandConfig, _probe)
