"""Score a table over REST, in this process or with Spark, and log predictions, counts and metrics."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pandas as pd

from data.cli.console import console, info
from data.cli.progress import progress_bar
from data.datasets import current
from data.preparation.manifest import PROD, prepared_path, read_manifest, require_prod_features, verified_path
from data.schema import PROBABILITY
from data.spark import session as spark
from data.storage.dataset_reader import DatasetReader
from data.storage.files import display_path, sha256
from data.storage.locations import display_location, is_url, local_table
from data.storage.output_paths import ensure_writable
from data.storage.tables import TableReader
from monitor.charts import static
from monitor.metrics.binary import MAX_DISTINCT, StreamingCounts
from monitor.store import labels, run_names, tags
from monitor.store.model_store import current_store
from monitor.store.tables import TIME
from serving import registry
from serving.batch.chunks import Scorer
from serving.batch.in_process import dataset_of, load_model
from serving.batch.local import BatchJob, BatchResult, LocalScorer, TrainingRowMask, score_table
from serving.client.endpoint import IN_FLIGHT, ROWS_PER_REQUEST, ScoringClient, ScoringError
from serving.model import model_files
from serving.server.subprocesses import check_alive, run_mlflow_server
from serving.shot_tables import ReasonCounts, open_shots
from steps.scoring.config import BatchScoringConfig
from steps.shared.data_origin import data_tags, prepared_dataset, print_synthetic_warning
from steps.shared.tracking import Artifact, Dataset, FigureRecord, Metrics, Record, Tags, log_records, step_run

RUN_NAME = run_names.BATCH_SCORING

UNKNOWN_VERSION = "unknown: the endpoint returns no version"

_SAMPLE_ROWS = 100_000


@dataclass(frozen=True)
class BatchScoringResult:
    """Counts and metrics of a scored table.

    The table at ``path`` holds the columns that were scored, prediction, probability and model_version (null if the
    endpoint does not return it), and a mask of training rows where the version was trained on delayed labels:
    ``metrics`` exclude those rows.

    Attributes
    ----------
    rows, labeled, in_training, rejected, predicted_made : int
        Rows of the table, those with a label, those of them that the version was trained on, those that violate the
        schema and are not in the table, and those that are predicted to be made.
    metrics : dict of str to float
    version : str or None
        That scored the rows; None if the endpoint does not return it.
    path : pathlib.Path
    rejects : pathlib.Path or None
        Table of the rows that violate the schema, if there are any.
    seconds : float
        From opening the table to writing the predictions.
    """

    rows: int
    labeled: int
    in_training: int
    rejected: int
    predicted_made: int
    metrics: dict[str, float]
    version: str | None
    path: Path
    rejects: Path | None
    seconds: float


def score(config: BatchScoringConfig) -> BatchScoringResult:
    """Score the table, in a run of its own."""
    with step_run(RUN_NAME, config), ExitStack() as stack:
        name = ""
        if config.table:
            name = display_location(config.table)
            given = {tags.GIVEN_TABLE: name if is_url(config.table) else str(config.source.resolve())}
            log_records([Tags({tags.DATA_SOURCE: "table", tags.SYNTHETIC: tags.UNKNOWN, **given})])
            path = stack.enter_context(local_table(config.table))
            config = config.model_copy(update={"table": str(path)})
        _check(config, name)
        log_records(_source_records(config, name))
        applied = _score(config, name)
        if not applied.rows:
            raise ScoringError(ReasonCounts().message(name or config.source))
        log_records(_records(applied))
        _show(applied)
    return applied


def _check(config: BatchScoringConfig, name: str) -> None:
    """Raise known failures before a large table is read."""
    if config.table:
        open_shots(config.source, name=name)
    else:
        read_manifest()
    if not config.endpoint:
        registry.require_champion()
    if not config.table:
        _require_features(with_champion=not config.endpoint)
    config.check()
    ensure_writable(config.target)


def _require_features(*, with_champion: bool) -> None:
    """Raise if the prepared table is not one of the description, or lacks a feature of the champion."""
    if not prepared_path(PROD).exists():
        return
    names = TableReader(prepared_path(PROD)).names
    require_prod_features(names, current(), f"the description of {current().name}")
    if with_champion:
        version = registry.champion_number()
        require_prod_features(names, dataset_of(version), f"champion version {version}")


def _source_records(config: BatchScoringConfig, name: str) -> Iterator[Record]:
    """The origin of the shots; the prepared table must be that of the manifest."""
    if config.table:
        digest, sample = sha256(config.source), _sample(config.source)
        source = name if is_url(name) else ""
        yield Tags({"sha256_table": digest})
        target = current().target.name
        yield Dataset(config.source, sample, "application", digest, target if target in sample else None, source)
        return
    manifest = read_manifest()
    print_synthetic_warning(synthetic=manifest.provenance.is_synthetic)
    path = verified_path(manifest, PROD)
    yield data_tags(manifest.provenance)
    yield prepared_dataset(manifest, PROD, _sample(path), "application")


def _sample(path: Path) -> pd.DataFrame:
    """A table, or a systematic sample of a large one."""
    return open_shots(path).systematic_sample(_SAMPLE_ROWS)


def _score(config: BatchScoringConfig, name: str) -> BatchScoringResult:
    batch = BatchJob(config.source, config.target, config.rows_rejected_at_most, name=name)
    tally = StreamingCounts()
    if config.over_rest:
        with _endpoint(config.endpoint) as (url, version):
            endpoint = ScoringClient(url)
            endpoint.probe()
            requests = replace(batch, rows_per_chunk=ROWS_PER_REQUEST, at_once=IN_FLIGHT)
            scored, seconds = _score_here(requests, endpoint, tally, version)
    else:
        version = _champion()
        dataset = dataset_of(version)
        batch = replace(batch, dataset=dataset)
        if config.engine == "spark":
            scored, seconds = _score_with_spark(batch, config.master, tally, version)
        else:
            info("Scoring", f"with {registry.uri(version)} in this process")
            scored, seconds = _score_here(
                batch, LocalScorer(load_model(version), int(version), dataset), tally, version
            )
    metrics = {}
    if tally.rows:
        metrics = {**tally.evaluate(), "base_rate_log_loss": tally.base_rate_log_loss()}
    versions = ", ".join(map(str, scored.versions))
    rejects = batch.rejects if scored.rejected else None
    return BatchScoringResult(
        scored.rows, tally.rows + scored.in_training, scored.in_training, scored.rejected, scored.predicted_made,
        metrics, versions or None, batch.out, rejects, seconds,
    )  # fmt: skip


@contextmanager
def _endpoint(endpoint: str) -> Iterator[tuple[str, str | None]]:
    if endpoint:
        check_alive(endpoint)
        yield endpoint, None
        return
    version = _champion()
    with (
        console.status(f"starting mlflow models serve -m {registry.uri(version)}"),
        model_files.private_copy(registry.uri(version)) as files,
        run_mlflow_server(str(files)) as url,
    ):
        info("Serving", f"{registry.uri(version)} at {url}")
        yield url, version


def _champion() -> str:
    registry.reconcile()
    return registry.champion_number()


def _score_here(
    batch: BatchJob, scorer: Scorer, tally: StreamingCounts, version: str | None
) -> tuple[BatchResult, float]:
    started = time.monotonic()
    rows = open_shots(batch.table, name=batch.name, dataset=batch.dataset).rows
    with progress_bar("scoring", rows or 0) as advance:
        scored = score_table(
            batch,
            scorer,
            version=None if version is None else int(version),
            training_mask_of=partial(_training_mask_of, batch.table),
            count=tally.add,
            on_progress=advance,
        )
    return scored, time.monotonic() - started


def _training_mask_of(table: Path, version: int) -> TrainingRowMask | None:
    training_labels = labels.training_labels(current_store(), str(version))
    if training_labels is None:
        return None
    _keys(table, training_labels)
    return partial(labels.is_among, labels=training_labels)


def _keys(table: Path, training_labels: pd.DataFrame) -> list[str]:
    """The columns that identify rows among those that a version was trained on; prints a note where there are none."""
    dataset = current()
    own = {column.raw_name: column.name for column in dataset.columns}
    names = [own.get(name, name) for name in DatasetReader(table).names if name != TIME]
    keys = labels.join_key(names, training_labels)
    if not keys:
        key = dataset.id.name
        lacks = "the labels that it was trained on have" if key in names else "the table has"
        info("Not known:", f"which of these rows the version was trained on; {lacks} no {key}", style="bold yellow")
    return keys


def _score_with_spark(batch: BatchJob, master: str, tally: StreamingCounts, version: str) -> tuple[BatchResult, float]:
    from serving.batch import spark as spark_scoring  # noqa: PLC0415 it needs an extra

    training_labels = labels.training_labels(current_store(), version)
    session = spark.session(master)
    started = time.monotonic()
    known = (
        None
        if training_labels is None
        else spark_scoring.TrainingLabels(training_labels, _keys(batch.table, training_labels))
    )
    with model_files.private_copy(registry.uri(version)) as files:
        scored, counted = spark_scoring.score_table(
            session, batch, str(files), int(version), most_distinct=MAX_DISTINCT, in_training=known
        )
    tally.add_counted(*counted)
    return scored, time.monotonic() - started


def _show(applied: BatchScoringResult) -> None:
    info("Scored", f"{applied.rows:,} rows, {applied.labeled:,} of them labeled: {display_path(applied.path)}")
    if applied.in_training:
        info("Excluded", f"from the metrics: {applied.in_training:,} labeled rows that the version was trained on")
    if applied.rejects:
        info(
            "Rejected",
            f"{applied.rejected:,} rows that violate the schema, with reasons: {display_path(applied.rejects)}",
            style="bold yellow",
        )


def _records(applied: BatchScoringResult) -> Iterator[Record]:
    yield Tags({tags.MODEL_VERSION: applied.version or UNKNOWN_VERSION, tags.PREDICTIONS: applied.path.name})
    yield Metrics(
        {
            "rows_scored": float(applied.rows),
            # Evaluated rows, excluded rows that the version was trained on, and unlabeled rows: all rows.
            "rows_labeled": float(applied.labeled - applied.in_training),
            "rows_in_training": float(applied.in_training),
            "rows_unlabeled": float(applied.rows - applied.labeled),
            "rows_rejected": float(applied.rejected),
            "share_predicted_made": applied.predicted_made / applied.rows if applied.rows else 0.0,
            "scoring_seconds": applied.seconds,
        }
    )
    if applied.metrics:
        yield Metrics(applied.metrics)
    else:
        training_labels = " that the version was not trained on" if applied.in_training else ""
        yield Tags({"label_metrics": f"not applicable: no row has a label{training_labels}"})
    yield Artifact(applied.path)
    if applied.rejects:
        yield Artifact(applied.rejects)
    dataset = current()
    if dataset.court is None:
        return
    places = [dataset.column(name) for name in (dataset.court.y, dataset.court.x)]
    columns = [*(name for place in places for name in (place.name, place.raw_name)), PROBABILITY]
    drawn = TableReader(applied.path, columns).systematic_sample(_SAMPLE_ROWS)
    drawn = drawn.rename(columns={place.raw_name: place.name for place in places if place.name not in drawn})
    if not {place.name for place in places} <= set(drawn):
        return
    title = f"P({dataset.positive}) of {applied.rows:,} {dataset.rows}"
    yield FigureRecord("prediction_map", static.prediction_map(drawn, drawn[PROBABILITY], title))
