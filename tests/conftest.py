"""Fixtures that several tests share."""

import contextlib
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.store.db import utils as mlflow_database
from mlflow.store.db.db_types import SQLITE
from mlflow.store.model_registry import sqlalchemy_store as registry_store
from mlflow.store.tracking import sqlalchemy_store as tracking_store
from sklearn.pipeline import Pipeline
from sqlalchemy import Engine, event
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from streamlit.components.v2 import manifest_scanner

from data.simulation import synthetic
from tests import fork_server
from tests.preparation import once
from tests.project import (
    FAST,
    REAL,
    Checkout,
    ProductionServer,
    copy_project,
    ok,
    publish,
    run_mlflow_server,
    run_production_server,
    small_pipeline,
)
from tests.spark import needs_java
from tests.versions import LoggedModels, find_logged_models, log_models

_SERVERS = {"mlflow_server_url", "production_server", "server_url", "server", "servers", "mlflow_scoring_server"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add options for more slow trials than CI can afford."""
    parser.addoption("--kills", type=int, default=1, help="how often main, or a server's worker, is killed")
    parser.addoption("--bodies", type=int, default=1_000, help="how many generated bodies each server is sent")
    parser.addoption("--outage", type=float, default=20, help="seconds that tracking server and database are away")
    parser.addoption("--rows", type=int, default=200_000, help="rows of the table under which workers are killed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run modules that share Spark or a server after each other: one worker starts it, not each."""
    ranks: dict[Path, int] = {}
    for item in items:
        ranks[item.path] = min(ranks.get(item.path, 2), _rank(item))
    items.sort(key=lambda item: ranks[item.path])


def _rank(item: pytest.Item) -> int:
    if needs_java.mark in item.iter_markers("skipif"):
        return 0
    return 1 if _SERVERS.intersection(getattr(item, "fixturenames", ())) else 2


def pytest_collection_finish() -> None:
    """Spare the garbage collector what lives until the end, and an eighth of the CPU time of tests of a store."""
    fork_server.collect_less()


@pytest.fixture(scope="session", autouse=True)
def _state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A state folder of the tests: locks and spools are not those of whoever runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _searches_once() -> Iterator[None]:
    """Streamlit searches all packages for components at each page, MLflow its migrations for the last at each store."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in (
            (manifest_scanner, "scan_component_manifests"),
            (mlflow_database, "_get_latest_schema_revision"),
        ):
            patch.setattr(module, name, cache(getattr(module, name)))
        yield


@pytest.fixture(scope="session", autouse=True)
def _few_statements() -> Iterator[None]:
    """MLflow's SQLite stores take less than half the CPU time, as they do what repeats once.

    SQLAlchemy compiles each statement once for all stores of a process: it finds a compiled one by its dialect. Each
    store makes one, and all are equal here. A connection is configured when it is made, not for each of MLflow's
    sessions. No change of the registry is preceded by a search for a prompt of that name: there are none.
    """
    compiled: dict[Any, Any] = {}
    create, make_sessions = mlflow_database.create_sqlalchemy_engine, mlflow_database._get_managed_session_maker  # noqa: SLF001

    def create_engine(uri: str) -> Engine:
        engine: Engine = create(uri)
        if isinstance(engine.dialect, SQLiteDialect_pysqlite):
            engine.update_execution_options(compiled_cache=compiled)
            event.listen(engine, "connect", _configure)
        return engine

    def make_plain_sessions(maker: object, kind: str) -> object:
        return make_sessions(maker, "" if kind == SQLITE else kind)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SQLiteDialect_pysqlite, "__eq__", lambda one, other: type(one) is type(other))
        patch.setattr(SQLiteDialect_pysqlite, "__hash__", lambda one: hash(type(one)))
        patch.setattr(mlflow_database, "create_sqlalchemy_engine", create_engine)
        for module in (mlflow_database, registry_store):
            patch.setattr(module, "_get_managed_session_maker", make_plain_sessions)
        patch.setattr(MlflowClient, "_raise_if_prompt", lambda _client, _name: None)
        yield


def _configure(connection: sqlite3.Connection, _record: object) -> None:
    """Configure a connection as MLflow's sessions do; the disk need not keep what a test writes."""
    # A damaged file is an error of the first query, as without this; MLflow waits 100 s for one that cannot be opened.
    with contextlib.suppress(sqlite3.DatabaseError):
        for setting in ("foreign_keys = ON", "busy_timeout = 20000", "case_sensitive_like = true", "synchronous = OFF"):
            connection.execute(f"PRAGMA {setting}")


@pytest.fixture(scope="session")
def shots() -> pd.DataFrame:
    """Raw two-point and three-point shots that have no mark of synthetic data."""
    table = synthetic.shots(6_000, seed=1)
    table.attrs.clear()
    return table


@pytest.fixture(scope="session")
def real_raw() -> dict[str, pd.DataFrame]:
    """The real raw tables."""
    if not REAL.is_dir():
        pytest.skip(f"the real files are not at {REAL}")
    return {path.stem: pd.read_parquet(path) for path in sorted(REAL.glob("*.parquet"))}


@pytest.fixture(scope="module", autouse=True)
def closed_stores() -> Iterator[None]:
    """Close the files of tracking stores after each module, as MLflow keeps those of every test open."""
    yield
    for kept in (tracking_store.SqlAlchemyStore, registry_store.SqlAlchemyStore):
        for engine in kept._engine_map.values():  # noqa: SLF001 no public API
            engine.dispose()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with MLflow's tables, which MLflow takes seconds to make; tests copy it."""

    def make(folder: Path) -> None:
        # MLflow puts the default experiment's artifacts below the working directory.
        with contextlib.chdir(folder):
            MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_experiments()

    return once(tmp_path_factory, "empty", make) / "mlflow.db"


@pytest.fixture
def store(tmp_path: Path, empty_database: Path) -> Iterator[str]:
    """An empty tracking store and registry, used until the test ends."""
    before = mlflow.get_tracking_uri()
    uri = f"sqlite:///{shutil.copy(empty_database, tmp_path / 'mlflow.db')}"
    mlflow.set_tracking_uri(uri)
    mlflow.create_experiment("tests", artifact_location=str(tmp_path / "artifacts"))
    mlflow.set_experiment("tests")
    yield uri
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="session")
def logged_models(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> LoggedModels:
    """A tracking store with logged models of known performance; none is registered."""

    def make(folder: Path) -> None:
        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(f"sqlite:///{shutil.copy(empty_database, folder / 'mlflow.db')}")
        mlflow.create_experiment("stock", artifact_location=str(folder / "artifacts"))
        mlflow.set_experiment("stock")
        log_models()
        mlflow.set_tracking_uri(before)

    database = once(tmp_path_factory, "stock", make) / "mlflow.db"
    return LoggedModels(database, find_logged_models(database))


@pytest.fixture
def store_with_models(tmp_path: Path, logged_models: LoggedModels) -> Iterator[LoggedModels]:
    """A store that holds `stock` and an experiment of the test, used until the test ends."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{shutil.copy(logged_models.database, tmp_path / 'stocked.db')}")
    mlflow.create_experiment("tests", artifact_location=str(tmp_path / "artifacts"))
    mlflow.set_experiment("tests")
    yield logged_models
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory, shots: pd.DataFrame, empty_database: Path) -> Checkout:
    """A checkout with a small champion; tests copy it."""

    def make(folder: Path) -> None:
        publish(copy_project(folder, empty_database), shots)

    return Checkout(once(tmp_path_factory, "published", make))


@pytest.fixture(scope="session")
def served_checkout(
    tmp_path_factory: pytest.TempPathFactory, published: Checkout, shots: pd.DataFrame
) -> tuple[Checkout, Pipeline]:
    """A checkout with a small champion, and the champion's pipeline."""
    return published.copy(tmp_path_factory.mktemp("served") / "copy"), small_pipeline(shots)


@pytest.fixture(scope="session")
def mlflow_server_url(served_checkout: tuple[Checkout, Pipeline]) -> Iterator[str]:
    """URL of a running ``mlflow models serve``."""
    with run_mlflow_server(served_checkout[0]) as url:
        yield url


@pytest.fixture(scope="session")
def production_server(served_checkout: tuple[Checkout, Pipeline]) -> Iterator[ProductionServer]:
    """A running ``python -m serving.server``."""
    with run_production_server(served_checkout[0], is_forked=False) as server:
        yield server


@pytest.fixture(params=["mlflow", "production"])
def server_url(request: pytest.FixtureRequest) -> str:
    """URL of each server in turn."""
    if request.param == "mlflow":
        return str(request.getfixturevalue("mlflow_server_url"))
    return str(request.getfixturevalue("production_server").url)


def _after_main(
    factory: pytest.TempPathFactory,
    database: Path,
    name: str,
    run_main: Callable[[Checkout], "subprocess.CompletedProcess[str]"],
) -> tuple[Checkout, str]:
    def make(folder: Path) -> None:
        printed = ok(run_main(copy_project(folder, database)))
        folder.with_suffix(".printed").write_text(printed, encoding="utf-8")

    folder = once(factory, name, make)
    return Checkout(folder), folder.with_suffix(".printed").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def real_main(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> tuple[Checkout, str]:
    """A checkout after ``main`` on the real files, and what it printed; tests copy what they change."""
    if not REAL.is_dir():
        pytest.skip(f"the real files are not at {REAL}")
    return _after_main(
        tmp_path_factory, empty_database, "real", lambda checkout: checkout.step("main", "--source", str(REAL))
    )


@pytest.fixture(scope="session")
def synthetic_main(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> tuple[Checkout, str]:
    """The same of ``mlflow run . -e main``, short and on synthetic shots."""
    return _after_main(
        tmp_path_factory,
        empty_database,
        "synthetic",
        lambda checkout: checkout.mlflow_run("main", "-P", "source=synthetic", *FAST),
    )
