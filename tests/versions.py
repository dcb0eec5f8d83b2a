"""Versions of the registered model, made without a training."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from data.schema import FEATURES, TARGET
from data.storage.urls import sqlite_path
from serving import registry
from serving.model.packaging import log_scoring_model
from serving.registry.gate import GateResult
from tests.evaluations import TRAINING_ROWS, population

PASSED = GateResult(1_000, 0.67, 0.69, -0.03, -0.01, passed=True, reason="better")
REJECTED = GateResult(1_000, 0.70, 0.69, 0.0, 0.02, passed=False, reason="worse")

GOOD, SAME, BAD = "good", "same", "bad"
"""Logged models: a good one, one with the same predictions, and one that was trained on the opposite labels."""


@dataclass(frozen=True)
class LoggedModel:
    """A logged model, its run, and the pipeline that is in it."""

    uri: str
    run_id: str
    pipeline: Pipeline


@dataclass(frozen=True)
class LoggedModels:
    """A tracking store with logged models, by name."""

    database: Path
    models: dict[str, LoggedModel]

    def register(self, name: str, result: GateResult | None = PASSED, /, **tags: str) -> str:
        """Register one as a version in the active store, which is a copy of this one; its number."""
        model = self.models[name]
        number = registry.register(model.uri, model.run_id, tags, "for a test")
        if result:
            registry.record_gate_result(number, result)
        return number


def register_without_files(result: GateResult | None = PASSED, /, **tags: str) -> str:
    """Register a version that has no files, which is enough for the registry and takes no time; its number."""
    client, name = MlflowClient(), registry.model()
    if not client.search_registered_models(filter_string=f"name = '{name}'"):
        client.create_registered_model(name)
    number = registry.number(client.create_model_version(name, "/nowhere", tags=tags))
    if result:
        registry.record_gate_result(number, result)
    return number


def as_kwargs(tags: dict[str, str]) -> dict[str, Any]:
    """Tags by names that are constants, as keyword arguments of a function that has others too."""
    return dict(tags)


def promote_versions(count: int) -> None:
    """Register and promote so many versions without files, one after the other.

    An empty registry gets the rows that the first such call wrote: a promotion takes MLflow a hundred queries.
    """
    with closing(sqlite3.connect(sqlite_path(mlflow.get_tracking_uri()) or "")) as database:
        is_empty = not _registry_rows(database)
        key = (registry.model(), count)
        if is_empty and key in _promoted:
            with database:
                for table, rows in _promoted[key]:
                    marks = ", ".join("?" * len(rows[0]))
                    database.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)  # noqa: S608 constants
            return
        for _ in range(count):
            registry.promote(register_without_files(), "better")
        if is_empty:
            _promoted[key] = _registry_rows(database)


_REGISTRY_TABLES = (
    *("registered_models", "registered_model_tags", "registered_model_aliases"),
    *("model_versions", "model_version_tags"),
)
_promoted: dict[tuple[str, int], list[tuple[str, list[Any]]]] = {}


def _registry_rows(database: sqlite3.Connection) -> list[tuple[str, list[Any]]]:
    found = [(table, database.execute(f"SELECT * FROM {table}").fetchall()) for table in _REGISTRY_TABLES]  # noqa: S608
    return [(table, rows) for table, rows in found if rows]


class Killed(BaseException):
    """The process ends here."""


_CHANGES = {
    "set_registered_model_alias": "alias",
    "delete_registered_model_alias": "no alias",
    "set_model_version_tag": "tag",
    "transition_model_version_stage": "stage",
}


def kill_at(monkeypatch: pytest.MonkeyPatch, place: int) -> list[str]:
    """Let the process end in place of a change of the registry, counted from 0; the changes that were made before."""
    made: list[str] = []

    def killed(method: str) -> Callable[..., object]:
        original = getattr(MlflowClient, method)

        def call(*arguments: object, **options: object) -> object:
            if len(made) == place:
                raise Killed
            made.append(_CHANGES[method])
            return original(*arguments, **options)

        return call

    for method in _CHANGES:
        monkeypatch.setattr(MlflowClient, method, killed(method))
    return made


def fit_pipeline(*, opposite: bool = False) -> Pipeline:
    """A logistic regression of the training rows of `population`, or of their opposite labels."""
    rows = population().head(TRAINING_ROWS)
    labels = rows[TARGET].to_numpy()
    model = make_pipeline(StandardScaler(), LogisticRegression())
    return model.fit(rows[list(FEATURES)].to_numpy(), 1 - labels if opposite else labels)


def fit_base_rate() -> Pipeline:
    """The base-rate baseline of the same rows."""
    rows = population().head(TRAINING_ROWS)
    return make_pipeline(DummyClassifier(strategy="prior")).fit(rows[list(FEATURES)].to_numpy(), rows[TARGET])


def _pipelines() -> dict[str, Pipeline]:
    return {GOOD: fit_pipeline(), SAME: fit_pipeline(), BAD: fit_pipeline(opposite=True)}


def log_models() -> None:
    """Log the models that `Stock` is about into the active experiment."""
    example = population()[list(FEATURES)].head(3).astype(np.float64)
    for name, pipeline in _pipelines().items():
        with mlflow.start_run(run_name=name):
            log_scoring_model(pipeline, example, threshold=0.5, metadata={})


def find_logged_models(database: Path) -> dict[str, LoggedModel]:
    """The models that `log_models` has logged into the experiment stock of a store, by name."""
    client, pipelines = MlflowClient(f"sqlite:///{database}"), _pipelines()
    experiment = client.get_experiment_by_name("stock").experiment_id
    of_run = {model.source_run_id: model.model_uri for model in client.search_logged_models([experiment])}
    found = {run.info.run_name: run.info.run_id for run in client.search_runs([experiment])}
    return {name: LoggedModel(of_run[found[name]], found[name], pipelines[name]) for name in pipelines}
