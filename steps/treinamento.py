"""Entry point ``treinamento``: train, choose on cross-validated figures, register, and promote what passes the gate."""

import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import AfterValidator, Field
from rich.table import Table

from data.cli.console import console, detail, told
from data.cli.console import info as say
from data.preparation.manifest import IDS, TEST, TRAIN, Manifest, prepared_path, read_ids, read_manifest, read_prepared
from data.schema import FEATURES, TARGET
from data.storage.files import sha256
from monitor.charts import static
from monitor.metrics.binary import METRICS, THRESHOLD, evaluate
from monitor.metrics.intervals import evaluate_with_intervals
from monitor.reports.model_card import card as model_card
from monitor.store import runs
from monitor.store.candidates import CANDIDATE_FILE, CANDIDATE_FOLDER, CANDIDATE_SHA256
from serving import registry
from serving.batch.in_process import ANSWERS, ROUNDED_ANSWERS, ROUNDED_DECIMALS, prediction_hash
from serving.model.packaging import log_scoring_model, save_pipeline
from steps.aquisicao import data_tags, print_synthetic_warning
from steps.shared.command import StepConfig, run_command
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
    step_run,
)
from steps.training.model_card import Logged, card_of
from steps.training.promotion import Challenger, PromotionOutcome, comparison_rows, promote_if_better
from steps.training.training_set import TrainingData
from steps.training.tuning import BEST, MODEL_NAMES, PRIOR, Candidate, Tuner, select_best

RUN_NAME = runs.TRAINING

_EXAMPLE_ROWS = 5
_MOST_RESAMPLED = 100_000
"""Test rows up to which the bootstrap's intervals are worth their time."""


def check_models(models: str) -> str:
    """Refuse unknown ids before any work.

    Raises
    ------
    ValueError
        Names the ids that are not known and those that are.
    """
    ids = [model_id.strip() for model_id in models.split(",")]
    known = [*MODEL_NAMES, BEST]
    unknown = [model_id for model_id in ids if model_id not in known]
    if unknown:
        found = ", ".join(map(repr, unknown))
        message = f"expected ids of PyCaret's classifiers, comma-separated ({', '.join(known)}); found {found}"
        raise ValueError(message)
    if len(set(ids)) < len(ids):
        message = f"expected each id once; found {models!r}"
        raise ValueError(message)
    return ",".join(ids)


class TreinamentoConfig(StepConfig):
    """Tune models with PyCaret on base_train, choose one on cross-validated figures, register it as kobe_shot."""

    models: Annotated[str, AfterValidator(check_models)] = Field(
        default="lr,dt",
        description="PyCaret's ids of the models to tune, comma-separated; best adds the winner of compare_models",
    )
    cv_folds: int = Field(default=5, ge=2, le=50, description="number of stratified folds of base_train")
    n_iter: int = Field(default=10, ge=1, le=1000, description="settings that the random search tries for each model")
    session_id: int = Field(default=42, ge=0, lt=2**31, description="seed of folds, search and models")
    criterion: Literal["log_loss", "brier", "roc_auc", "f1_score", "accuracy", "precision", "recall"] = Field(
        default="log_loss", description="metric that tuning optimises and that the choice is made by"
    )


@dataclass(frozen=True)
class ModelSelection:
    """The chosen candidate, those it was chosen from, and what is said of it.

    Attributes
    ----------
    chosen : Candidate
        The best by the cross-validated criterion.
    candidates : tuple of Candidate
        All of them, the class prior first.
    test_metrics : dict of str to dict of str to float
        Metrics on the test rows by the candidate's id; the choice did not see them.
    justification : str
        In words and a table, as Markdown.
    """

    chosen: Candidate
    candidates: tuple[Candidate, ...]
    test_metrics: dict[str, dict[str, float]]
    justification: str

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the chosen candidate on the test rows."""
        return self.test_metrics[self.chosen.id]

    @property
    def prior(self) -> Candidate:
        """The class prior."""
        return next(candidate for candidate in self.candidates if candidate.id == PRIOR)


@dataclass(frozen=True)
class Trained:
    """What a training ends with: the choice, its version in the registry, and what became of it, in words."""

    choice: ModelSelection
    version: str
    note: str


def run(config: TreinamentoConfig) -> Trained:
    """Train on the prepared tables, in a run with a nested run for each candidate; promote what is better."""
    with registry.rollback_on_failure(), step_run(RUN_NAME, config):
        registry.reconcile()
        lesson = _prepared(read_manifest())
        print_synthetic_warning(synthetic=lesson.is_synthetic)
        contender, choice = train_and_register(config, lesson)
        compared = comparison_rows(contender)
        if compared.note:
            say("Compared", compared.note)
            log_records([Tags({"comparison_note": compared.note})])
        settled = promote_if_better(contender, compared.rows, seed=config.session_id)
        log_records(settlement_records(settled))
        detail(told("Registered:", f"{registry.model()} version {contender.version}; {settled.note}"))
    why = f": {settled.verdict.reason}" if settled.promoted else ""
    return Trained(choice, contender.version, f"{settled.note}{why}")


def train_and_register(config: TreinamentoConfig, lesson: TrainingData) -> tuple[Challenger, ModelSelection]:
    """Train, choose and register within the active run; nothing is judged or promoted."""
    log_records(_inputs(lesson))
    candidates = tuple(_train_all(lesson, config))
    choice = _choose(candidates, lesson.test, config)
    _show(choice, config.criterion)
    log_records(_records(choice))
    active = mlflow.active_run()
    version = _register(choice, lesson, config, active.info.run_id if active else "")
    log_records([Tags({"model_version": version})])
    return Challenger(version, lesson, choice.chosen.pipeline, choice.prior.pipeline), choice


def settlement_records(settled: PromotionOutcome) -> Iterator[Record]:
    """What the gate said, for the run of the training."""
    yield Tags({"gate": "passed" if settled.verdict.passed else "refused", "gate_reason": settled.verdict.reason})
    yield Tags({"promotion_note": settled.note})
    yield Metrics({f"gate_{name}": value for name, value in settled.verdict.figures().items()})
    if settled.challenge:
        yield Text("challenge.json", json.dumps(settled.challenge.record(), indent=2) + "\n")


def _prepared(manifest: Manifest) -> TrainingData:
    raw = {name.partition(".")[0]: digest for name, digest in manifest.provenance.sha256.items()}
    hashes = {f"sha256_{name}": digest for name, digest in {**manifest.sha256, **raw}.items()}
    ids = {name: found for name in IDS if (found := read_ids(manifest, name)) is not None}
    return TrainingData(
        read_prepared(manifest, TRAIN),
        read_prepared(manifest, TEST),
        {name: prepared_path(name) for name in (TRAIN, TEST, *(IDS[name] for name in ids))},
        {**data_tags(manifest.provenance).values, **hashes},  # noqa: PD011 a field of Tags, not a Series
        shot_ids=ids,
    )


def _inputs(lesson: TrainingData) -> Iterator[Record]:
    yield lesson.origin
    yield Params({f"sha256_{name}": lesson.tags[f"sha256_{name}"] for name in lesson.files})
    for name, table, context in ((TRAIN, lesson.train, "training"), (TEST, lesson.test, "testing")):
        yield Dataset(lesson.files[name], table, context, lesson.tags[f"sha256_{name}"], TARGET)
    for name, path in lesson.files.items():
        if path != prepared_path(name):
            yield Artifact(path)


def _train_all(lesson: TrainingData, config: TreinamentoConfig) -> Iterator[Candidate]:
    say("Training", f"on {len(lesson.train):,} rows; loading PyCaret")
    tuner = Tuner(
        lesson.train,
        weights=lesson.weights,
        compared_on=lesson.compared_on,
        cv_folds=config.cv_folds,
        n_iter=config.n_iter,
        session_id=config.session_id,
        criterion=config.criterion,
    )
    yield _log_candidate(tuner.prior(), lesson, config)
    if BEST in config.models.split(","):
        say("  compare_models:", "every fast classifier of PyCaret; this takes minutes")
    with console.status("choosing what to tune"):
        ids = tuner.ids(config.models)
    for model_id in ids:
        yield _log_candidate(_tune(tuner, model_id, config), lesson, config)


def _tune(tuner: Tuner, model_id: str, config: TreinamentoConfig) -> Candidate:
    started = time.perf_counter()
    work = f"{config.n_iter} settings × {config.cv_folds} folds"
    with console.status(f"{model_id}: {work}"):
        candidate = tuner.tune(model_id)
    score = f"{config.criterion} {cross_validated(candidate, config.criterion)}"
    say(f"  {model_id}:", f"{work} in {time.perf_counter() - started:.1f} s, cross-validated {score}")
    return candidate


def _log_candidate(candidate: Candidate, lesson: TrainingData, config: TreinamentoConfig) -> Candidate:
    with nested_run(f"{candidate.id}: {candidate.name}"):
        log_records([lesson.origin])
        log_records(_candidate_records(candidate, lesson.test, config))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / CANDIDATE_FILE
            save_pipeline(candidate.pipeline, path)
            log_records([Tags({CANDIDATE_SHA256: sha256(path)}), Artifact(path, CANDIDATE_FOLDER)])
    return candidate


def _candidate_records(candidate: Candidate, test: pd.DataFrame, config: TreinamentoConfig) -> Iterator[Record]:
    yield Tags({"model_id": candidate.id, "criterion": config.criterion})
    yield Params(candidate.hyperparameters)
    for name, (mean, deviation) in candidate.cross_validated.items():
        yield Metrics({f"cv_{name}_mean": mean, f"cv_{name}_std": deviation})
    labels, made = test[TARGET].to_numpy(dtype=float), _probability(candidate, test)
    yield Metrics(_evaluate(candidate, test))
    if len(test) <= _MOST_RESAMPLED:
        for name, interval in evaluate_with_intervals(labels, made).intervals().items():
            yield Metrics({f"{name}_low": interval.low, f"{name}_high": interval.high})
    title = f"{candidate.name}, {len(test):,} test rows"
    yield FigureRecord("confusion_matrix", static.confusion_matrix(labels, (made >= THRESHOLD).astype(float), title))
    yield FigureRecord("roc", static.roc(labels, made, title))
    yield FigureRecord("precision_recall", static.precision_recall(labels, made, title))
    yield FigureRecord("calibration", static.calibration(labels, made, title))
    yield FigureRecord("prediction_map", static.prediction_map(test, made, f"P(made) by {title}"))


def _probability(candidate: Candidate, table: pd.DataFrame) -> npt.NDArray[np.float64]:
    return np.asarray(candidate.pipeline.predict_proba(table[list(FEATURES)].to_numpy(dtype=np.float64))[:, 1])


def _evaluate(candidate: Candidate, test: pd.DataFrame) -> dict[str, float]:
    return evaluate(test[TARGET], _probability(candidate, test))


def _choose(candidates: tuple[Candidate, ...], test: pd.DataFrame, config: TreinamentoConfig) -> ModelSelection:
    chosen = select_best([candidate for candidate in candidates if candidate.id != PRIOR], config.criterion)
    test_metrics = {candidate.id: _evaluate(candidate, test) for candidate in candidates}
    justification = _justify(chosen, candidates, test_metrics, config.criterion)
    return ModelSelection(chosen, candidates, test_metrics, justification)


def _justify(
    chosen: Candidate, candidates: Sequence[Candidate], test_metrics: dict[str, dict[str, float]], criterion: str
) -> str:
    direction = "highest" if METRICS[criterion].greater_is_better else "lowest"
    words = (
        f"**{chosen.name}** (`{chosen.id}`) was chosen: of the tuned models its cross-validated {criterion} on the "
        f"training rows, {cross_validated(chosen, criterion)}, is the {direction}. "
        "The test rows had no part in the choice."
    )
    if select_best(candidates, criterion) is not chosen:
        words += f" The class prior's is not worse: by {criterion}, no tuned model has learned anything."
    header = f"| model | cross-validated {criterion} | " + " | ".join(f"test {name}" for name in METRICS) + " |"
    lines = [header, "|---" * (len(METRICS) + 2) + "|"]
    for candidate in candidates:
        name = f"**{candidate.name}**" if candidate is chosen else candidate.name
        cells = [name, cross_validated(candidate, criterion), *_cells(test_metrics[candidate.id], METRICS)]
        lines.append(f"| {' | '.join(cells)} |")
    return words + "\n\n" + "\n".join(lines) + "\n"


def _show(choice: ModelSelection, criterion: str) -> None:
    shown = ("log_loss", "f1_score", "roc_auc")
    table = Table("model", f"cross-validated {criterion}", *(f"test {name}" for name in shown))
    for candidate in choice.candidates:
        name = f"{candidate.name} (chosen)" if candidate is choice.chosen else candidate.name
        table.add_row(name, cross_validated(candidate, criterion), *_cells(choice.test_metrics[candidate.id], shown))
    detail(table)


def cross_validated(candidate: Candidate, criterion: str) -> str:
    """Mean and standard deviation of a metric over the folds, as a person reads it."""
    mean, deviation = candidate.cross_validated[criterion]
    return f"{mean:.4f} ± {deviation:.4f}"


def _cells(metrics: dict[str, float], names: Iterable[str]) -> list[str]:
    # What rounds to -0.0000 is 0.
    return [f"{round(metrics[name], 4) + 0.0:.4f}" if name in metrics else "not defined" for name in names]


def _records(choice: ModelSelection) -> Iterator[Record]:
    yield Tags({"chosen_model": choice.chosen.id})
    yield Text("justification.md", choice.justification)
    yield Metrics(choice.metrics)


def _register(choice: ModelSelection, lesson: TrainingData, config: TreinamentoConfig, run_id: str) -> str:
    chosen = choice.chosen
    example = lesson.train[list(FEATURES)].head(_EXAMPLE_ROWS)
    info = log_scoring_model(chosen.pipeline, example, threshold=THRESHOLD, metadata={"model_id": chosen.id})
    tags = {
        **lesson.tags,
        **git_state(),
        **{f"test_{name}": f"{value:.6f}" for name, value in choice.metrics.items()},
        **{f"cv_{name}": f"{mean:.6f} ± {deviation:.6f}" for name, (mean, deviation) in chosen.cross_validated.items()},
        "model_id": chosen.id,
        "criterion": config.criterion,
        "threshold": str(THRESHOLD),
        ANSWERS: prediction_hash(info.model_uri),
        ROUNDED_ANSWERS: prediction_hash(info.model_uri, ROUNDED_DECIMALS),
    }
    card = card_of(
        choice.chosen,
        choice.prior,
        choice.justification,
        lesson=lesson,
        training=config.model_dump(),
        logged=Logged(info.model_uri, run_id, tags),
    )
    # Wherever a kill comes, run and version have a whole card, at worst one that does not know the version's number.
    log_records([Text(model_card.FILE, model_card.render(card))])
    version = registry.register(info.model_uri, run_id, tags, model_card.description(card))
    numbered = replace(card, version=version, uri=f"models:/{registry.model()}/{version}")
    registry.describe(version, model_card.description(numbered))
    log_records([Text(model_card.FILE, model_card.render(numbered))])
    return version


if __name__ == "__main__":
    run_command(TreinamentoConfig, run)
