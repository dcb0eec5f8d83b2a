"""Entry point ``aplicacao``: score the prod table over REST."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
from pydantic import AfterValidator, Field
from rich.progress import Progress

from data.console import console, say
from data.files import shown, write_parquet
from data.prepared import PREDICTIONS, PROD, read_manifest, read_prepared
from data.schema import LEARNED, MODEL_VERSION, PREDICTION, PROBABILITY, TARGET
from data.source import check_address
from monitor import pictures
from monitor.arrivals import with_learned
from monitor.metrics import evaluate
from serving import registry
from serving.client import score
from serving.endpoint import base_address
from serving.mlflow_server import check_alive, scoring_server
from steps.aquisicao import data_tags, remind
from steps.command import StepConfig, run_command
from steps.preparacao import dataset
from steps.tracking import Artifact, Metrics, Picture, Record, Tags, step_run, write

RUN_NAME = "PipelineAplicacao"
UNKNOWN_VERSION = "unknown: the endpoint does not say"


def check_endpoint(endpoint: str) -> str:
    """Refuse what is not an address.

    Raises
    ------
    ValueError
        If it is neither empty nor an http(s) address, or holds credentials or a query.
    """
    if not endpoint:
        return endpoint
    if urlsplit(endpoint).scheme not in {"http", "https"}:
        message = (
            f"expected nothing, or the address of a scoring server such as http://127.0.0.1:5001; found {endpoint!r}"
        )
        raise ValueError(message)
    return check_address(endpoint)


class AplicacaoConfig(StepConfig):
    """Score data/processed/base_prod.parquet with the champion over REST; compare with the labels that are known."""

    endpoint: Annotated[str, AfterValidator(check_endpoint)] = Field(
        default="",
        description="address of a scoring server; empty starts mlflow models serve for the champion and stops it after",
    )


@dataclass(frozen=True)
class Applied:
    """The scored prod table and what its labels say.

    ``predictions`` holds shot_id, game_date, the features, shot_made_flag (null where unknown), prediction, probability
    and model_version (null where a given endpoint does not say); ``learned`` where a version has learned from some of
    the rows: ``metrics`` are not about those, and ``labelled`` does not count them.
    """

    predictions: pd.DataFrame
    metrics: dict[str, float]
    rows: int
    labelled: int
    version: str | None
    path: Path


def run(config: AplicacaoConfig) -> Applied:
    """Apply, in a run of its own."""
    with step_run(RUN_NAME, config):
        manifest = read_manifest()
        remind(synthetic=manifest.provenance.is_synthetic)
        prod = read_prepared(manifest, PROD)
        write([data_tags(manifest.provenance), dataset(manifest, PROD, prod, "application")])
        with _endpoint(config.endpoint) as (address, version):
            predictions = _predict(prod, address, version)
        write_parquet(predictions, PREDICTIONS)
        applied = _compare(predictions)
        write(_records(applied))
        say("Scored", f"{applied.rows:,} rows, {applied.labelled:,} of them labelled: {shown(PREDICTIONS)}")
    return applied


@contextmanager
def _endpoint(endpoint: str) -> Iterator[tuple[str, str | None]]:
    if endpoint:
        address = base_address(endpoint)
        check_alive(address)
        yield address, None
        return
    registry.reconcile()
    version = registry.number(registry.require_champion())
    uri = f"models:/{registry.model()}/{version}"
    with console.status(f"starting mlflow models serve -m {uri}"), scoring_server(uri) as address:
        say("Serving", f"{uri} at {address}")
        yield address, version


def _predict(prod: pd.DataFrame, address: str, version: str | None) -> pd.DataFrame:
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("scoring", total=len(prod))
        answers = score(prod, address, on_progress=lambda rows: progress.advance(task, rows))
    versions = answers[MODEL_VERSION] if version is None else pd.array([int(version)] * len(prod), dtype="Int64")
    scored = prod.assign(**{PREDICTION: answers[TARGET], PROBABILITY: answers[PROBABILITY], MODEL_VERSION: versions})
    return with_learned(scored)


def _compare(predictions: pd.DataFrame) -> Applied:
    labelled = predictions[predictions[TARGET].notna()]
    if LEARNED in labelled:
        seen = int(labelled[LEARNED].sum())
        labelled = labelled[~labelled[LEARNED]]
        say("Left out", f"of the metrics: {seen:,} labelled rows that the version has learned from")
    metrics = evaluate(labelled[TARGET], labelled[PROBABILITY]) if len(labelled) else {}
    if metrics:
        prior = np.full(len(labelled), labelled[TARGET].mean())
        metrics["class_prior_log_loss"] = evaluate(labelled[TARGET], prior)["log_loss"]
    versions = ", ".join(str(version) for version in predictions[MODEL_VERSION].dropna().unique())
    return Applied(predictions, metrics, len(predictions), len(labelled), versions or None, PREDICTIONS)


def _records(applied: Applied) -> Iterator[Record]:
    yield Tags({"model_version": applied.version or UNKNOWN_VERSION})
    yield Metrics(
        {
            "rows_scored": float(applied.rows),
            "rows_labelled": float(applied.labelled),
            "rows_unlabelled": float(applied.rows - applied.labelled),
            "share_predicted_made": float(applied.predictions[PREDICTION].mean()) if applied.rows else 0.0,
        }
    )
    if applied.metrics:
        yield Metrics(applied.metrics)
    else:
        yield Tags({"label_metrics": "not applicable: no row has a label"})
    yield Artifact(applied.path)
    title = f"P(made) of {applied.rows:,} prod shots"
    yield Picture(
        "prediction_map", pictures.prediction_map(applied.predictions, applied.predictions[PROBABILITY], title)
    )


if __name__ == "__main__":
    run_command(AplicacaoConfig, run)
