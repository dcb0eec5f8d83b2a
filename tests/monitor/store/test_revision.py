"""The revision of a store changes with each write to it, and not otherwise."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from monitor.store.model_store import ModelStore, current_store
from monitor.store.revision import revision
from tests.operation_store import using_store


@pytest.fixture
def written(tmp_path: Path, empty_database: Path) -> Iterator[ModelStore]:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    with using_store(tmp_path / "mlflow.db"):
        yield current_store()


def test_each_write_is_another_revision_and_reading_is_none(written: ModelStore) -> None:
    client, run = MlflowClient(), MlflowClient().create_run("0").info.run_id
    found = {revision(written)}
    for value in range(20):
        # Within a tick of the clock, and in the space of the last one.
        client.set_tag(run, "tag", str(value % 10))
        client.get_run(run)
        found.add(revision(written))
        assert revision(written) in found
    assert len(found) == 21


def test_a_database_that_another_replaces_is_another_revision(written: ModelStore, tmp_path: Path) -> None:
    database, before = tmp_path / "mlflow.db", revision(written)
    content = database.read_bytes()
    database.unlink()
    missing = revision(written)
    database.write_bytes(content)
    assert len({before, missing, revision(written)}) == 3


def test_what_a_server_holds_is_current_for_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    store = ModelStore(MlflowClient("http://127.0.0.1:1"), "kobe_shot")
    monkeypatch.setattr(mlflow, "get_registry_uri", lambda: "http://127.0.0.1:1")
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    first = revision(store)
    now = 104.9
    assert revision(store) == first
    now = 105.0
    assert revision(store) != first
