"""Whether the tracking store answers, asked before anybody waits for it, and during long work.

MLflow's client asks a server that is away again for four minutes, and a database for longer; a person and a supervisor
want to know within seconds. ``python -m serving.registry.reachability`` asks, for ``make``.
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
from serving.registry import StoreError
from serving.registry.sqlite_store import damage_of

ANSWER_SECONDS = 5.0
"""How long the store may take to answer."""

_RETRIES, _TIMEOUT = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"
_SHORT = {_RETRIES: "0", _TIMEOUT: "8"}
_AT_WORK = {_RETRIES: "2", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "3"}
"""A refused connection is tried for 7 s. How long an answer may take stays as it is: an upload must not be cut."""
_WATCH_SECONDS = 3.0
_ASKED = "/api/2.0/mlflow/experiments/search"
_LONGEST_REASON = 300
_OWN: dict[str, str] = {}
"""What this module has set in the environment."""
_FOUND: dict[str, tuple[float, str]] = {}
_DATABASES = {"postgresql", "mysql", "mssql"}


def require_answer(seconds: float = ANSWER_SECONDS, *, remembered: float = 0.0) -> None:
    """Return if tracking store and registry answer; a file of this machine does, unless it is damaged.

    Parameters
    ----------
    seconds : float
        How long each may take; more where ``$MLFLOW_HTTP_REQUEST_TIMEOUT`` says so.
    remembered : float
        Seconds for which what was found last is believed.

    Raises
    ------
    StoreError
        Says what was expected where, what was found, and what to do.
    """
    for address, variable in _addresses().items():
        asked, problem = _FOUND.get(address, (0.0, ""))
        if not asked or time.monotonic() - asked > remembered:
            problem = _problem(address, max(seconds, _asked_for()))
            _FOUND[address] = time.monotonic(), problem
        if problem:
            what = "an MLflow tracking server" if address.startswith("http") else "the database of an MLflow store"
            advice = f"Start it, or set {variable} to one that answers."
            if sqlite_path(address) is not None:
                advice = "Put a copy of it back, or move it away to begin anew with an empty store."
            message = f"Expected {what} at {address}; found {problem}. {advice}"
            raise StoreError(message)


def hurry() -> None:
    """Let MLflow's requests of this process end within seconds, unless the environment says how long they may take."""
    _set_own(_SHORT)


@contextmanager
def watched(every: float = _WATCH_SECONDS, answer: float = ANSWER_SECONDS) -> Iterator[None]:
    """Say within seconds that a store which was there goes away during long work, and let the work end soon after.

    A connection that is refused is tried for a few seconds. An answer that does not come is waited for as usual, and
    standard error says so; requests that begin after that get seconds. What the environment says of requests is kept.

    Parameters
    ----------
    every : float
        Seconds between two questions to the store.
    answer : float
        Seconds that an answer may take.

    Raises
    ------
    StoreError
        In place of an error of the work, if the store does not answer.
    """
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(ended, every, answer), daemon=True)
    _set_own(_AT_WORK)
    if is_remote():
        watch.start()
    try:
        yield
    except (MlflowException, requests.RequestException, StoreError):
        require_answer(answer)
        raise
    finally:
        ended.set()
        _unset_own({*_AT_WORK, *_SHORT})


def _watch(ended: threading.Event, every: float, answer: float) -> None:
    """Say when the store goes away and when it is back; requests that begin while it is away for long are short."""
    away = 0
    while not ended.wait(every):
        try:
            require_answer(answer)
        except StoreError as error:
            if ended.is_set():
                return
            away += 1
            if away == 1:
                console.error("Waiting:", f"{error} This goes on if it answers again soon, and else ends.")
            else:
                _set_own(_SHORT)
        else:
            if away:
                console.error("Going on:", "the tracking store answers again.")
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
    """Variables that this module has set, and that nothing has changed since."""
    return {name for name, value in _OWN.items() if os.environ.get(name) == value}


def _addresses() -> dict[str, str]:
    """The addresses of tracking store and registry, and the variable that each is set by."""
    addresses = {mlflow.get_tracking_uri(): "MLFLOW_TRACKING_URI"}
    addresses.setdefault(mlflow.get_registry_uri(), "MLFLOW_REGISTRY_URI")
    return addresses


def is_remote() -> bool:
    """Whether tracking store or registry is a server or a database of one, and no file of this machine."""
    schemes = {urlsplit(address).scheme.partition("+")[0] for address in _addresses()}
    return not schemes.isdisjoint({"http", "https", *_DATABASES})


@contextmanager
def patience() -> Iterator[None]:
    """Let long work within the block, and the processes that it starts, take MLflow's usual time again."""
    hurried = {name: os.environ.pop(name) for name in _own()}
    try:
        yield
    finally:
        os.environ.update(hurried)


def patient_environment() -> dict[str, str]:
    """The environment without what `hurry` has set, for a process that does long work."""
    return {name: value for name, value in os.environ.items() if name not in _own()}


def _asked_for() -> float:
    """Seconds that the user gives a request, 0 where the environment says nothing."""
    given = os.environ.get(_TIMEOUT, "")
    return float(given) if given.isdecimal() and _TIMEOUT not in _own() else 0.0


def _problem(address: str, seconds: float) -> str:
    """What keeps an address from answering, in words; empty where it answers."""
    scheme = urlsplit(address).scheme
    if scheme in {"http", "https"}:
        return _within(seconds, lambda: _ask_server(address, seconds))
    if scheme.partition("+")[0] in _DATABASES:
        return _within(seconds, lambda: _ask_database(address))
    if path := sqlite_path(address):
        return damage_of(path)
    return ""


def _within(seconds: float, ask: Callable[[], str]) -> str:
    """What a question found. The limits of sockets are per packet, and there is none for a name that is looked up."""
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(ask()), daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else f"no answer within {seconds:.0f} s"


def _ask_server(address: str, seconds: float) -> str:
    try:
        answer = http_request(
            get_default_host_creds(address),
            _ASKED,
            "POST",
            json={"max_results": 1},
            max_retries=0,
            retry_codes=(),
            raise_on_status=False,
            timeout=seconds,
        )
    except (MlflowException, requests.RequestException, OSError) as error:
        return _reason(error, seconds)
    # Who may not read is told so by what it then asks for.
    if answer.status_code in {401, 403, 429}:
        return ""
    try:
        body = answer.json()
    except ValueError:
        body = None
    if answer.ok and isinstance(body, dict):
        return ""
    told = body.get("message", "") if isinstance(body, dict) else ""
    status = f"the answer {answer.status_code} {answer.reason}".rstrip()
    if told:
        return f"{status}: {str(told)[:_LONGEST_REASON].strip().rstrip('.')}"
    return status if answer.status_code >= requests.codes.server_error else f"{status}, which is not one of MLflow"


def _reason(error: BaseException, seconds: float) -> str:
    """Why no answer came, from the error that lies below those of the libraries."""
    chain: list[BaseException] = []
    below: BaseException | None = error
    while below is not None and below not in chain:
        chain.append(below)
        below = below.__cause__ or below.__context__
    names = {type(one).__name__ for one in chain}
    if names & {"ConnectTimeout", "ReadTimeout", "ConnectTimeoutError", "ReadTimeoutError", "TimeoutError"}:
        return f"no answer within {seconds:.0f} s"
    if names & {"NameResolutionError", "gaierror"}:
        return "no machine of that name"
    if "ConnectionRefusedError" in names:
        return "nothing that listens there (connection refused)"
    return f"{type(error).__name__}: {str(error)[:_LONGEST_REASON].strip().rstrip('.')}"


def _ask_database(address: str) -> str:
    try:
        engine = sql.create_engine(address, poolclass=sql.NullPool)
        with engine.connect() as connection:
            connection.execute(sql.select(1))
    except ValueError:
        # The library repeats what it takes for a port, which may be a password.
        return "an address that cannot be read; a port is a number"
    except (sql.exc.SQLAlchemyError, ImportError, OSError) as error:
        below = error.orig if isinstance(error, sql.exc.DBAPIError) and error.orig else error
        return f"{type(below).__name__}: {' '.join(str(below).split())[:_LONGEST_REASON].rstrip('.')}"
    return ""


def _ask(_: CommandConfig) -> None:
    require_answer()


if __name__ == "__main__":
    run_command(CommandConfig, _ask)
