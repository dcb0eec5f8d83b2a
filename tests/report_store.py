"""A tracking store with every run of a ``main`` that the report reads, made without a training."""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Run
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from data.schema import FEATURES, MODEL_VERSION, TARGET
from monitor.charts import static
from monitor.health.checks import CHECKS
from monitor.health.record import flatten_metrics, to_dict
from monitor.health.status import run_checks
from monitor.metrics.binary import evaluate
from monitor.metrics.intervals import evaluate_with_intervals
from monitor.store import tags as store_tags
from serving import registry
from serving.model.packaging import save_pipeline
from tests.evaluations import TRAINING_ROWS, batch, evaluation, population
from tests.versions import PASSED

ORIGIN = {"data_source": "public", "synthetic": "false"}
STEPS = ("Aquisicao", "PreparacaoDados", "Treinamento", "PipelineAplicacao", "Monitoramento")

_NAMES = {"prior": "Base rate", "lr": "Logistic Regression", "dt": "Decision Tree"}
_RAW = {"sha256_dataset_kobe_dev": "d" * 64, "sha256_dataset_kobe_prod": "e" * 64}
_PROD_ROWS = 400


@cache
def found() -> dict[str, Any]:
    """The record of a monitoring run of shots like the training rows."""
    monitored = evaluation(batch(_PROD_ROWS))
    return to_dict(monitored, run_checks(monitored, CHECKS))


def candidates() -> dict[str, Pipeline]:
    """The models by id, fitted, the base-rate baseline first."""
    rows = population().head(TRAINING_ROWS // 2)
    made = {
        "prior": make_pipeline(DummyClassifier(strategy="prior")),
        "lr": make_pipeline(StandardScaler(), LogisticRegression()),
        "dt": make_pipeline(StandardScaler(), DecisionTreeClassifier(max_depth=3, random_state=0)),
    }
    return {name: model.fit(rows[list(FEATURES)].to_numpy(), rows[TARGET]) for name, model in made.items()}


def fill(folder: Path, *, nested: bool = True, without: tuple[str, ...] = (), origin: dict[str, str] = ORIGIN) -> str:
    """Log the runs of a ``main`` into the active store; return the id of the run of ``main``, empty without one.

    Parameters
    ----------
    folder : pathlib.Path
        Where files are written before they are logged.
    nested : bool
        Whether the runs are nested under a ``main``.
    without : tuple of str
        Steps without a run.
    origin : dict of str to str
        Tags of every run.
    """
    if not nested:
        _fill(folder, without, origin)
        return ""
    with mlflow.start_run(run_name="main", tags=origin) as main:
        mlflow.log_params({"source": "auto", "test_size": "0.2", "endpoint": "''"})
        _fill(folder, without, origin)
    return str(main.info.run_id)


def run_named(name: str) -> Run:
    """The newest run of a name."""
    experiments = [experiment.experiment_id for experiment in MlflowClient().search_experiments()]
    return MlflowClient().search_runs(experiments, f"attributes.run_name = '{name}'")[0]


def _fill(folder: Path, without: tuple[str, ...], origin: dict[str, str]) -> None:
    rows = population().head(TRAINING_ROWS // 2)[[*FEATURES, TARGET]]
    tables = {"data_filtered": rows, "base_train": rows.iloc[:1_600], "base_test": rows.iloc[1_600:]}
    tables["base_prod"] = batch(_PROD_ROWS)[[*FEATURES, TARGET]]
    digests = {f"sha256_{name}": _digest(_written(folder, name, table)) for name, table in tables.items()}
    if "Aquisicao" not in without:
        with mlflow.start_run(run_name="Aquisicao", nested=True, tags={**origin, **_RAW}):
            mlflow.log_params({"source": "auto", "synthetic_rows": "30697", "synthetic_seed": "42"})
            mlflow.log_metrics({"rows_dataset_kobe_dev": 2_100, "rows_dataset_kobe_prod": _PROD_ROWS})
    if "PreparacaoDados" not in without:
        with mlflow.start_run(run_name="PreparacaoDados", nested=True, tags=origin):
            _log_preparation(folder, tables, digests)
    with mlflow.start_run(run_name="Treinamento", nested=True, tags=origin) as training:
        version = _log_training(folder, tables["base_test"], digests, training, origin)
    if "PipelineAplicacao" in without:
        return
    tags = {**origin, "model_version": version, store_tags.PREDICTIONS: "predictions_prod.parquet"}
    with mlflow.start_run(run_name="PipelineAplicacao", nested=True, tags=tags) as application:
        _log_application(folder, version)
    if "Monitoramento" not in without:
        monitored = found()
        scored = {store_tags.BATCH_SCORING_RUN: application.info.run_id, "current": "prod", "model_version": version}
        checks = {f"check_{check['code']}": check["status"] for check in monitored["checks"]}
        health = {store_tags.HEALTH: monitored["status"], store_tags.REASONS: "\n".join(monitored["reasons"])}
        tags = {**origin, **scored, **checks, **health, "source": "application", "reference": "base_test"}
        with mlflow.start_run(run_name="Monitoramento", nested=True, tags=tags):
            mlflow.log_params({"current": "application", "reference": "base_test"})
            mlflow.log_metrics(flatten_metrics(monitored))
            mlflow.log_text(json.dumps(monitored), "monitoring.json")


def _log_preparation(folder: Path, tables: dict[str, pd.DataFrame], digests: dict[str, str]) -> None:
    mlflow.log_params({"test_size": "0.2", "seed": "42", "engine": "local", "features": ",".join(FEATURES), **digests})
    mlflow.log_metrics({f"rows_{name}": float(len(table)) for name, table in tables.items()})
    mlflow.log_metrics({f"share_made_{name}": float(table[TARGET].mean()) for name, table in tables.items()})
    dropped = {"dropped_dev_rows": 100.0, "dropped_dev_missing_shot_made_flag": 100.0, "dropped_prod_rows": 0.0}
    mlflow.log_metrics({**dropped, "rows_base_prod_unlabeled": 0.0})
    for name in tables:
        mlflow.log_artifact(str(folder / f"{name}.parquet"), "tables")
    mlflow.log_figure(static.shot_map(tables["base_test"]), f"{store_tags.PLOTS}/shot_map.png")


def _log_training(
    folder: Path, test: pd.DataFrame, digests: dict[str, str], training: Run, origin: dict[str, str]
) -> str:
    searched = {"models": "lr,dt", "cv_folds": "5", "n_iter": "10", "session_id": "42", "criterion": "log_loss"}
    mlflow.log_params(
        {**searched, **{f"sha256_{name}": digests[f"sha256_{name}"] for name in ("base_train", "base_test")}}
    )
    for model_id, pipeline in candidates().items():
        made = pipeline.predict_proba(test[list(FEATURES)].to_numpy())[:, 1]
        name = f"{model_id}: {_NAMES[model_id]}"
        with mlflow.start_run(run_name=name, nested=True, tags={**origin, "model_id": model_id}):
            measured = evaluate(test[TARGET], made)
            if model_id == "dt":
                MlflowClient().log_batch(
                    training.info.run_id, [Metric(name, value, 0, 0) for name, value in measured.items()]
                )
            mlflow.log_metrics({**measured, **{f"cv_{metric}_mean": value for metric, value in measured.items()}})
            mlflow.log_metrics({f"cv_{metric}_std": 0.003 for metric in measured})
            for metric, interval in evaluate_with_intervals(test[TARGET], made, samples=50).intervals().items():
                mlflow.log_metrics({f"{metric}_low": interval.low, f"{metric}_high": interval.high})
            mlflow.log_params({"strategy" if model_id == "prior" else "random_state": "42"})
            save_pipeline(pipeline, folder / "model.skops")
            mlflow.log_artifact(str(folder / "model.skops"), "candidate")
    tags = {
        **digests,
        **_RAW,
        **origin,
        "model_id": "dt",
        "threshold": "0.5",
        "git_commit": "abc123",
        "git_dirty": "false",
    }
    client, model = MlflowClient(), registry.model()
    if not client.search_registered_models(filter_string=f"name = '{model}'"):
        client.create_registered_model(model)
    version = registry.number(client.create_model_version(model, "/nowhere", training.info.run_id, tags))
    registry.record_gate_result(version, PASSED)
    registry.promote(version, "for a test")
    mlflow.set_tags(
        {
            "model_version": version,
            store_tags.SELECTED_MODEL: "dt",
            "gate": "passed",
            "gate_reason": "significantly better",
        }
    )
    mlflow.set_tag("promotion_note", "passed the gate and became champion and Production")
    return version


def _log_application(folder: Path, version: str) -> None:
    scored = batch(_PROD_ROWS).assign(**{MODEL_VERSION: int(version)})
    _written(folder, "predictions_prod", scored)
    mlflow.log_params({"mode": "rest", "engine": "local", "endpoint": ""})
    mlflow.log_metrics(
        {**evaluate(scored[TARGET], scored["probability"]), "base_rate_log_loss": 0.69, "rows_rejected": 0}
    )
    counts = {"rows_scored": _PROD_ROWS, "rows_labeled": _PROD_ROWS, "rows_unlabeled": 0}
    mlflow.log_metrics({**counts, "share_predicted_made": float(scored["prediction"].mean())})
    mlflow.log_artifact(str(folder / "predictions_prod.parquet"), "tables")


def _written(folder: Path, name: str, table: pd.DataFrame) -> Path:
    path = folder / f"{name}.parquet"
    table.to_parquet(path, index=False)
    return path


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
