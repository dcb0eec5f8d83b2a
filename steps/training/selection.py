"""Tune candidates, select the best by cross-validation, log them and register the selected one."""

import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import mlflow
from rich.table import Table

from data.cli.console import console, detail, info
from data.groups import groups_of
from data.preparation.manifest import TEST, TRAIN, prepared_path
from data.storage.files import sha256
from monitor.charts import static
from monitor.metrics.binary import METRICS, THRESHOLD, evaluate
from monitor.metrics.intervals import evaluate_with_intervals
from monitor.reports.model_card import card as model_card
from monitor.store import tags as store_tags
from monitor.store.candidates import BASE_RATE, CANDIDATE_FILE, CANDIDATE_FOLDER
from serving import registry
from serving.batch.in_process import PREDICTIONS_SHA256, ROUNDED_DECIMALS, ROUNDED_PREDICTIONS_SHA256, prediction_hash
from serving.model.compilation import COMPILED, DETAILS
from serving.model.packaging import DATASET_FILE, log_scoring_model, predict_probability, save_pipeline
from steps.shared.tracking import (
    Artifact,
    Dataset,
    FigureRecord,
    Metrics,
    Params,
    Record,
    Tags,
    Text,
    git_state,
    log_records,
    nested_run,
)
from steps.training.config import TrainingConfig, models_of
from steps.training.model_card import Logged, card_of, plots
from steps.training.promotion import Challenger
from steps.training.training_set import TrainingData
from steps.training.tuning import BEST, Candidate, Tuner, select_best

_EXAMPLE_ROWS = 5

_MAX_RESAMPLED = 100_000
"""Test rows up to which bootstrap intervals are computed."""


@dataclass(frozen=True)
class ModelSelection:
    """The selected candidate, all candidates, and the justification.

    Attributes
    ----------
    selected : Candidate
        The best by the cross-validated selection metric.
    candidates : tuple of Candidate
        All of them, the base-rate baseline first.
    test_metrics : dict of str to dict of str to float
        Metrics on the test rows by the candidate's id; the selection does not use them.
    justification : str
        A paragraph and a table, as Markdown.
    """

    selected: Candidate
    candidates: tuple[Candidate, ...]
    test_metrics: dict[str, dict[str, float]]
    justification: str

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the selected candidate on the test rows."""
        return self.test_metrics[self.selected.id]

    @property
    def prior(self) -> Candidate:
        """The base-rate baseline."""
        return next(candidate for candidate in self.candidates if candidate.id == BASE_RATE)


def train_and_register(config: TrainingConfig, training_data: TrainingData) -> tuple[Challenger, ModelSelection]:
    """Train, select and register within the active run; nothing is compared or promoted."""
    log_records(_inputs(training_data))
    candidates = tuple(_train_all(training_data, config))
    selection = _select(candidates, training_data, config)
    _show(selection, config.criterion)
    log_records(_records(selection))
    active = mlflow.active_run()
    version = _register(selection, training_data, config, active.info.run_id if active else "")
    log_records([Tags({store_tags.MODEL_VERSION: version})])
    return Challenger(version, training_data, selection.selected.pipeline, selection.prior.pipeline), selection


def _inputs(training_data: TrainingData) -> Iterator[Record]:
    yield training_data.origin
    yield Params({f"sha256_{name}": training_data.tags[f"sha256_{name}"] for name in training_data.files})
    target = training_data.dataset.target.name
    for name, table, context in ((TRAIN, training_data.train, "training"), (TEST, training_data.test, "testing")):
        yield Dataset(training_data.files[name], table, context, training_data.tags[f"sha256_{name}"], target)
    for name, path in training_data.files.items():
        if path != prepared_path(name):
            yield Artifact(path)


def tuner_of(training_data: TrainingData, config: TrainingConfig) -> Tuner:
    """The tuner of a training set."""
    return Tuner(
        training_data.train,
        weights=training_data.weights,
        compared_on=training_data.compared_on,
        cv_folds=config.cv_folds,
        n_iter=config.n_iter,
        session_id=config.session_id,
        criterion=config.criterion,
        dataset=training_data.dataset,
        groups=training_data.groups,
        max_tuning_rows=config.max_tuning_rows,
    )


def _train_all(training_data: TrainingData, config: TrainingConfig) -> Iterator[Candidate]:
    info("Training", f"on {len(training_data.train):,} rows; loading PyCaret")
    tuner = tuner_of(training_data, config)
    if tuner.is_sampled:
        info("  sample:", f"the search uses {config.max_tuning_rows:,} rows; each selected setting is fitted on all")
    yield _log_candidate(tuner.prior(), training_data, config)
    models = models_of(config.models, training_data.dataset)
    if BEST in models.split(","):
        info("  compare_models:", "every fast classifier of PyCaret; this takes minutes")
    with console.status("selecting the models to tune"):
        ids = tuner.ids(models)
    for model_id in ids:
        candidate = _tune(tuner, model_id, config)
        curve = tuner.learning_curve(candidate) if tuner.is_sampled else {}
        yield _log_candidate(candidate, training_data, config, curve)


def _tune(tuner: Tuner, model_id: str, config: TrainingConfig) -> Candidate:
    started = time.perf_counter()
    work = f"{config.n_iter} configurations × {config.cv_folds} folds"
    with console.status(f"{model_id}: {work}"):
        candidate = tuner.tune(model_id)
    score = f"{config.criterion} {cross_validated(candidate, config.criterion)}"
    info(f"  {model_id}:", f"{work} in {time.perf_counter() - started:.1f} s, cross-validated {score}")
    return candidate


def _log_candidate(
    candidate: Candidate, training_data: TrainingData, config: TrainingConfig, curve: Mapping[int, float] | None = None
) -> Candidate:
    with nested_run(f"{candidate.id}: {candidate.name}"):
        log_records([training_data.origin])
        log_records(_candidate_records(candidate, training_data, config))
        for rows, value in (curve or {}).items():
            mlflow.log_metric(f"{store_tags.LEARNING_CURVE}_{config.criterion}", value, step=rows)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / CANDIDATE_FILE
            save_pipeline(candidate.pipeline, path)
            log_records([Tags({store_tags.CANDIDATE_SHA256: sha256(path)}), Artifact(path, CANDIDATE_FOLDER)])
    return candidate


def _candidate_records(candidate: Candidate, training_data: TrainingData, config: TrainingConfig) -> Iterator[Record]:
    test, dataset = training_data.test, training_data.dataset
    yield Tags({store_tags.MODEL_ID: candidate.id, store_tags.SELECTION_METRIC: config.criterion})
    yield Params(candidate.hyperparameters)
    for name, (mean, deviation) in candidate.cross_validated.items():
        yield Metrics({f"cv_{name}_mean": mean, f"cv_{name}_std": deviation})
    labels = test[dataset.target.name].to_numpy(dtype=float)
    made = predict_probability(candidate.pipeline, test, dataset)
    yield Metrics(evaluate(labels, made))
    if len(test) <= _MAX_RESAMPLED:
        measured = evaluate_with_intervals(labels, made, groups=groups_of(test, dataset))
        for name, interval in measured.intervals().items():
            yield Metrics({f"{name}_low": interval.low, f"{name}_high": interval.high})
    title = f"{candidate.name}, {len(test):,} test rows"
    yield FigureRecord("confusion_matrix", static.confusion_matrices(labels, {title: made}, THRESHOLD))
    yield FigureRecord("roc", static.roc(labels, {candidate.name: made}, title))
    yield FigureRecord("precision_recall", static.precision_recall(labels, made, title))
    yield FigureRecord("calibration", static.calibration(labels, made, title))
    if {"lat", "lng"} <= {*dataset.feature_names}:
        yield FigureRecord("prediction_map", static.prediction_map(test, made, f"P(made) by {title}"))


def _evaluate(candidate: Candidate, training_data: TrainingData) -> dict[str, float]:
    test, dataset = training_data.test, training_data.dataset
    labels = test[dataset.target.name].to_numpy(dtype=float)
    return evaluate(labels, predict_probability(candidate.pipeline, test, dataset))


def _select(candidates: tuple[Candidate, ...], training_data: TrainingData, config: TrainingConfig) -> ModelSelection:
    selected = select_best([candidate for candidate in candidates if candidate.id != BASE_RATE], config.criterion)
    test_metrics = {candidate.id: _evaluate(candidate, training_data) for candidate in candidates}
    justification = _justify(selected, candidates, test_metrics, config.criterion)
    return ModelSelection(selected, candidates, test_metrics, justification)


def _justify(
    selected: Candidate, candidates: Sequence[Candidate], test_metrics: dict[str, dict[str, float]], criterion: str
) -> str:
    direction = "highest" if METRICS[criterion].greater_is_better else "lowest"
    words = (
        f"**{selected.name}** (`{selected.id}`) was selected: its cross-validated {criterion} on the "
        f"training rows, {cross_validated(selected, criterion)}, is the {direction} of the tuned models. "
        "The selection does not use the test rows."
    )
    if select_best(candidates, criterion) is not selected:
        words += f" The base-rate baseline is not worse: by {criterion}, no tuned model has skill."
    header = f"| model | cross-validated {criterion} | " + " | ".join(f"test {name}" for name in METRICS) + " |"
    lines = [header, "|---" * (len(METRICS) + 2) + "|"]
    for candidate in candidates:
        name = f"**{candidate.name}**" if candidate is selected else candidate.name
        cells = [name, cross_validated(candidate, criterion), *_cells(test_metrics[candidate.id], METRICS)]
        lines.append(f"| {' | '.join(cells)} |")
    return words + "\n\n" + "\n".join(lines) + "\n"


def _show(selection: ModelSelection, criterion: str) -> None:
    shown = ("log_loss", "f1_score", "roc_auc")
    table = Table("model", f"cross-validated {criterion}", *(f"test {name}" for name in shown))
    for candidate in selection.candidates:
        name = f"{candidate.name} (selected)" if candidate is selection.selected else candidate.name
        table.add_row(name, cross_validated(candidate, criterion), *_cells(selection.test_metrics[candidate.id], shown))
    detail(table)


def cross_validated(candidate: Candidate, criterion: str) -> str:
    """Mean and standard deviation of a metric over the folds, formatted."""
    mean, deviation = candidate.cross_validated[criterion]
    return f"{mean:.4f} ± {deviation:.4f}"


def _cells(metrics: dict[str, float], names: Iterable[str]) -> list[str]:
    # Without a row that is predicted positive there is no precision, which scikit-learn's convention makes 0.
    none_predicted = metrics.get("recall") == 0 and metrics.get("specificity") == 1
    defined = {name: value for name, value in metrics.items() if name != "precision" or not none_predicted}
    # What rounds to -0.0000 is 0.
    return [f"{round(defined[name], 4) + 0.0:.4f}" if name in defined else "undefined" for name in names]


def _records(selection: ModelSelection) -> Iterator[Record]:
    yield Tags({store_tags.SELECTED_MODEL: selection.selected.id})
    yield Text("justification.md", selection.justification)
    yield Metrics(selection.metrics)


def _register(selection: ModelSelection, training_data: TrainingData, config: TrainingConfig, run_id: str) -> str:
    selected = selection.selected
    dataset = training_data.dataset
    example = training_data.train[list(dataset.feature_names)].head(_EXAMPLE_ROWS)
    log_records([Text(DATASET_FILE, dataset.to_json())])
    info = log_scoring_model(
        selected.pipeline, example, threshold=THRESHOLD, metadata={"model_id": selected.id}, dataset=dataset
    )
    tags = {
        **training_data.tags,
        **git_state(),
        **{f"test_{name}": f"{value:.6f}" for name, value in selection.metrics.items()},
        **{
            f"cv_{name}": f"{mean:.6f} ± {deviation:.6f}"
            for name, (mean, deviation) in selected.cross_validated.items()
        },
        store_tags.DATASET: dataset.name,
        store_tags.MODEL_ID: selected.id,
        store_tags.SELECTION_METRIC: config.criterion,
        "threshold": str(THRESHOLD),
        **{name: info.metadata[name] for name in (COMPILED, DETAILS)},
        PREDICTIONS_SHA256: prediction_hash(info.model_uri),
        ROUNDED_PREDICTIONS_SHA256: prediction_hash(info.model_uri, ROUNDED_DECIMALS),
    }
    card = card_of(
        selection.selected,
        selection.prior,
        selection.justification,
        training_data=training_data,
        training=config.model_dump(),
        logged=Logged(info.model_uri, run_id, tags),
    )
    # Wherever a kill comes, run and version have a complete card, at worst one without the version's number.
    log_records([Text(model_card.FILE, model_card.render(card))])
    log_records(plots(selected, training_data))
    version = registry.register(info.model_uri, run_id, tags, model_card.description(card))
    numbered = replace(card, version=version, uri=registry.uri(version))
    registry.describe(version, model_card.description(numbered))
    log_records([Text(model_card.FILE, model_card.render(numbered))])
    return version
