"""A tracking store with tables, a champion, a scored table, decisions and a policy backtest, made without training."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from data.schema import FEATURES, MODEL_VERSION, PREDICTION, PROBABILITY, SHOT_ID, TARGET
from data.simulation import synthetic
from monitor.retraining import backtest, decision_log
from monitor.store import records, run_names
from monitor.store import tags as store_tags
from monitor.store.model_store import OF_BATCH_SCORING
from serving import registry
from serving.model.packaging import log_scoring_model, save_pipeline
from serving.registry.gate import GateResult


@contextmanager
def using_store(database: Path, artifacts: Path | None = None) -> Iterator[None]:
    """Track in a SQLite file; with `artifacts`, in a new experiment that keeps its files there."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{database}")
    try:
        if artifacts:
            mlflow.create_experiment("operation", artifact_location=str(artifacts))
        mlflow.set_experiment("operation")
        yield
    finally:
        mlflow.set_tracking_uri(before)


def shots(rows: int, seed: int) -> pd.DataFrame:
    """Shots as the prepared tables hold them, all labeled."""
    raw = _simulated(rows, seed)
    table = raw[[SHOT_ID, *FEATURES]].astype(dict.fromkeys(FEATURES, "float64"))
    made = np.random.default_rng(seed).random(rows) < synthetic.true_probability(raw)
    table.attrs.clear()
    return table.assign(**{TARGET: made.astype("float64")})


@cache
def _simulated(rows: int, seed: int) -> pd.DataFrame:
    return synthetic.shots(rows, seed).rename(columns={"lon": "lng"})


def fit_champion(train: pd.DataFrame) -> Pipeline:
    """The model that `fill_store` logs."""
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(train[list(FEATURES)].to_numpy(), train[TARGET])


def fill_store(folder: Path, train: pd.DataFrame, test: pd.DataFrame) -> Pipeline:
    """Log prepared tables and a champion into the active store, as preparacao and treinamento do; return its pipeline.

    Parameters
    ----------
    folder : pathlib.Path
        Where files are written before they are logged.
    train, test : pandas.DataFrame
        The champion is trained on the first.
    """
    pipeline = fit_champion(train)
    tables = {"base_train": train, "base_test": test}
    digests = {}
    with mlflow.start_run(run_name="PreparacaoDados", tags={"data_source": "synthetic", "synthetic": "true"}):
        for name, table in tables.items():
            path = folder / f"{name}.parquet"
            table.drop(columns=SHOT_ID).to_parquet(path, index=False)
            digests[f"sha256_{name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
            mlflow.log_artifact(str(path), "tables")
        mlflow.log_params(digests)
    origin = {"data_source": "synthetic", "synthetic": "true"}
    with mlflow.start_run(run_name="Treinamento", tags=origin) as run:
        with mlflow.start_run(run_name="lr: Logistic Regression", nested=True, tags={**origin, "model_id": "lr"}):
            save_pipeline(pipeline, folder / "model.skops")
            mlflow.log_artifact(str(folder / "model.skops"), "candidate")
        info = log_scoring_model(pipeline, train[list(FEATURES)].head(3), threshold=0.5, metadata={})
    tags = {**digests, **origin, "model_id": "lr", "test_log_loss": "0.67"}
    version = registry.register(info.model_uri, run.info.run_id, tags, "for a test")
    registry.record_gate_result(version, GateResult(1_000, 0.67, 0.69, -0.03, -0.01, passed=True, reason="better"))
    registry.promote(version, "for a test")
    return pipeline


def apply(folder: Path, table: pd.DataFrame, pipeline: Pipeline, version: str = "1") -> Path:
    """Log a scored table into the active store, as aplicacao does; return the file that the store keeps."""
    made = pipeline.predict_proba(table[list(FEATURES)].to_numpy())[:, 1]
    scored = table.assign(
        **{
            PREDICTION: (made >= 0.5).astype("int64"),
            PROBABILITY: made,
            MODEL_VERSION: pd.array([int(version)] * len(table), dtype="Int64"),
        }
    )
    path = folder / "predictions_prod.parquet"
    scored.to_parquet(path, index=False)
    tags = {"data_source": "synthetic", "synthetic": "true", "model_version": version}
    with mlflow.start_run(run_name="PipelineAplicacao", tags=tags) as run:
        mlflow.log_artifact(str(path), "tables")
    return Path(MlflowClient().get_run(run.info.run_id).info.artifact_uri) / "tables" / path.name


BACKTEST_MODEL = "kobe_shot_backtest"
DECIDED = datetime(2026, 11, 22, 10, tzinfo=UTC)


def decision_record(*, tested: bool = False) -> dict[str, object]:
    """The record of a decision, as retreino logs it; where a challenger was tested, with its promotion test."""
    criterion = {
        "name": "champion version 1, all rows",
        "rows": 500,
        "log_loss": 0.628,
        "reference_log_loss": 0.652,
        "difference": -0.024,
        "low": -0.031,
        "high": -0.017,
        "result": "passed",
        "summary": "log loss 0.6280 against 0.6520",
    }
    return {
        "triggers": [
            {"name": "Labeled windows", "kind": "reactive", "fired": True, "summary": "2 of 3 breach", "details": ""},
            {"name": "Trend of log loss", "kind": "predictive", "fired": None, "summary": "2 windows", "details": ""},
            {"name": "K301 Support", "kind": "predictive", "fired": False, "summary": "inside", "details": "3%"},
        ],
        "preconditions": [
            {"name": "New labels", "met": True, "summary": "500 are new, 300 are needed"},
            {"name": "Cooldown", "met": False, "summary": "0.5 days of 1"},
        ],
        "windows": [
            {
                "start": "2026-11-01T10:00:00",
                "end": "2026-11-08T10:00:00",
                "rows": 200,
                "log_loss": 0.66,
                "f1_score": None,
                "skill": -0.04,
                "breaches": [],
            },
            {
                "start": "2026-11-08T10:00:00",
                "end": "2026-11-15T10:00:00",
                "rows": 200,
                "log_loss": 0.80,
                "f1_score": 0.31,
                "skill": -0.21,
                "breaches": ["log loss rose by 21%, from 0.660 to 0.800"],
            },
        ],
        "promotion_test": {"rows": 500, "passed": True, "reason": "better on the hold-out", "criteria": [criterion]}
        if tested
        else None,
    }


def log_decision(
    number: int,
    decision: str = records.NO_ACTION,
    *,
    when: datetime = DECIDED,
    reasons: Sequence[str] = ("no trigger fires",),
    record: dict[str, object] | str | None = None,
    **tags: str,
) -> str:
    """Log a decision into the active store, as retreino does; return its run.

    Parameters
    ----------
    number : int
    decision : str
        ``no action`` or ``retrain``.
    when : datetime
    reasons : sequence of str
    record : dict or str, optional
        Content of ``decision.json``; a string is logged unchanged. Without a record the run has no such file.
    **tags : str
        Tags by the names of `monitor.store.tags`. They replace the tags of a decision without an outcome.
    """
    given = {
        "data_source": "synthetic",
        store_tags.DECISION_MODEL: registry.model(),
        store_tags.DECISION_MODEL_CREATED: registry.created(),
        store_tags.NUMBER: str(number),
        store_tags.DECIDED_AT: when.isoformat(timespec="seconds"),
        store_tags.DECISION: decision,
        store_tags.TRIGGER: "",
        store_tags.MODE: "auto",
        store_tags.REASONS: "\n".join(reasons),
        store_tags.OUTCOME: records.NOTHING_TO_DO,
        store_tags.OUTCOME_REASON: "",
        store_tags.CHAMPION: "1",
        store_tags.LABELS: "1500",
        store_tags.NEW_LABELS: "500",
        store_tags.LABELS_UNTIL: "2026-11-20T00:00:00",
        **tags,
    }
    with mlflow.start_run(run_name=run_names.RETRAINING, tags=given) as run:
        if record is not None:
            text = record if isinstance(record, str) else json.dumps(record)
            mlflow.log_text(text, decision_log.RECORD)
    return str(run.info.run_id)


def log_monitoring_run(when: datetime, health: str = "healthy", source: str = OF_BATCH_SCORING) -> str:
    """Log a past monitoring run into the active store; without a status, a run that failed."""
    tags = {
        "data_source": "synthetic",
        "mlflow.runName": run_names.MONITORING,
        store_tags.SOURCE: source,
        store_tags.REFERENCE: "base_test",
        "current": "prod" if source == OF_BATCH_SCORING else source,
        **({store_tags.HEALTH: health} if health else {}),
    }
    client = MlflowClient()
    experiment = client.get_experiment_by_name("operation") or client.get_experiment_by_name("tests")
    started = int(when.timestamp() * 1_000)
    run = client.create_run(experiment.experiment_id, started, tags, run_names.MONITORING)
    client.set_terminated(run.info.run_id, "FINISHED" if health else "FAILED", started + 5_000)
    return str(run.info.run_id)


def backtest_record(batches: int = 6) -> dict[str, Any]:
    """The record of a policy backtest, as operacao logs it."""
    return {
        "format": backtest.FORMAT,
        "source": "prod, in the order of game_date",
        "batch_size": 500,
        "label_delay": 1,
        "batches": [
            {
                "number": number,
                "since": f"{1996 + number}-11-06",
                "until": f"{1997 + number}-02-01",
                "rows": 500,
                "labeled": 400 if number > 1 else 0,
                "version": str(1 + number // 3),
                "status": "healthy" if number % 3 else "retraining recommended",
                "policy": 0.65 - 0.004 * number if number > 1 else None,
                "never": 0.655 if number > 1 else None,
                "always": 0.645 - 0.003 * number if number > 1 else None,
            }
            for number in range(1, batches + 1)
        ],
        "events": [
            {"batch": 2, "kind": "alarm", "summary": "status retraining recommended"},
            {"batch": 3, "kind": "training", "summary": "decision 3 trained version 2"},
            {"batch": 3, "kind": "promotion", "summary": "version 2 is better on the hold-out"},
            {"batch": 5, "kind": "training", "summary": "decision 5 trained version 3"},
            {"batch": 5, "kind": "rejection", "summary": "version 3 is not better"},
        ],
        "strategies": {
            "policy": {"log_loss": 0.634, "trainings": 2, "promotions": 1},
            "never": {"log_loss": 0.653, "trainings": 0, "promotions": 0},
            "always": {"log_loss": 0.633, "trainings": 6, "promotions": 6},
        },
    }


def log_backtest(record: dict[str, object] | str | None) -> str:
    """Log a policy backtest into the active store and return its run. Without a record the run has no such file."""
    tags = {"data_source": "synthetic", store_tags.DECISION_MODEL: BACKTEST_MODEL}
    with mlflow.start_run(run_name=run_names.BACKTEST, tags=tags) as run:
        if record is not None:
            mlflow.log_text(record if isinstance(record, str) else json.dumps(record), backtest.FILE)
    return str(run.info.run_id)
