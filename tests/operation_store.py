"""A tracking store as an operation leaves it, made without training: tables, a champion, one scored table."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from data import synthetic
from data.schema import FEATURES, MODEL_VERSION, PREDICTION, PROBABILITY, SHOT_ID, TARGET
from serving import registry
from serving.gate import Verdict
from serving.packaging import log_scoring_model, save_pipeline


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
    """Shots as the prepared tables hold them, all labelled."""
    raw = synthetic.shots(rows, seed).rename(columns={"lon": "lng"})
    table = raw[[SHOT_ID, *FEATURES]].astype(dict.fromkeys(FEATURES, "float64"))
    made = np.random.default_rng(seed).random(rows) < synthetic.probability(raw)
    table.attrs.clear()
    return table.assign(**{TARGET: made.astype("float64")})


def fill_store(folder: Path, train: pd.DataFrame, test: pd.DataFrame) -> Pipeline:
    """Log prepared tables and a champion into the active store, as preparacao and treinamento do; its pipeline.

    Parameters
    ----------
    folder : pathlib.Path
        Where files are written before they are logged.
    train, test : pandas.DataFrame
        The champion learns from the first.
    """
    values, labels = train[list(FEATURES)].to_numpy(), train[TARGET].to_numpy()
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(values, labels)
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
    registry.judge(version, Verdict(True, "better", 0.67, 0.69, -0.03, -0.01))
    registry.promote(version, "for a test")
    return pipeline


def apply(folder: Path, table: pd.DataFrame, pipeline: Pipeline, version: str = "1") -> Path:
    """Log a scored table into the active store, as aplicacao does; the file that the store keeps."""
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
