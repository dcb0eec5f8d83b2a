"""Entry point ``treinamento``: train, choose on cross-validated figures, register, and promote what passes the gate."""

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import AfterValidator, Field
from rich.table import Table

from data.console import console, say
from data.prepared import TEST, TRAIN, Manifest, read_manifest, read_prepared
from data.schema import FEATURES, TARGET
from monitor import pictures
from monitor.candidates import CANDIDATE_FILE, CANDIDATE_FOLDER
from monitor.metrics import METRICS, THRESHOLD, evaluate, log_loss_by_row
from serving import gate, registry
from serving.packaging import log_scoring_model, save_pipeline
from steps.aquisicao import data_tags, remind
from steps.candidates import BEST, MODEL_NAMES, PRIOR, Candidate, Tuner, choose
from steps.command import StepConfig, run_command
from steps.preparacao import dataset
from steps.tracking import (
    Artifact,
    Metrics,
    Params,
    Picture,
    Record,
    Tags,
    Text,
    nested_run,
    source_state,
    step_run,
    write,
)

RUN_NAME = "Treinamento"

_EXAMPLE_ROWS = 5


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
class Choice:
    """The chosen candidate, those it was chosen from, and what is said of it.

    Attributes
    ----------
    chosen : Candidate
        The best by the cross-validated criterion.
    candidates : tuple of Candidate
        All of them, the class prior first.
    test_metrics : dict of str to dict of str to float
        Metrics on base_test by the candidate's id; the choice did not see them.
    justification : str
        In words and a table, as Markdown.
    verdict : Verdict
        Of the gate: the chosen candidate against the class prior on base_test.
    """

    chosen: Candidate
    candidates: tuple[Candidate, ...]
    test_metrics: dict[str, dict[str, float]]
    justification: str
    verdict: gate.Verdict

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the chosen candidate on base_test."""
        return self.test_metrics[self.chosen.id]


@dataclass(frozen=True)
class Trained:
    """What a training ends with: the choice, its version in the registry, and what became of it, in words."""

    choice: Choice
    version: str
    note: str


def run(config: TreinamentoConfig) -> Trained:
    """Train, in a run of its own with a nested run for each candidate."""
    with registry.taken_back_on_failure(), step_run(RUN_NAME, config) as active:
        registry.reconcile()
        manifest = read_manifest()
        remind(synthetic=manifest.provenance.is_synthetic)
        train, test = read_prepared(manifest, TRAIN), read_prepared(manifest, TEST)
        write(_inputs(manifest, train, test))
        candidates = tuple(_train_all(train, test, config, data_tags(manifest.provenance)))
        choice = _choose(candidates, test, config)
        _show(choice, config.criterion)
        write(_records(choice))
        version = _register(choice, train, manifest, config, active.info.run_id)
        registry.judge(version, choice.verdict)
        note = _promote(version, choice.verdict, manifest)
        write([Tags({"model_version": version, "promotion_note": note})])
        say("Registered:", f"{registry.MODEL} version {version}; {note}")
    return Trained(choice, version, note)


def _inputs(manifest: Manifest, train: pd.DataFrame, test: pd.DataFrame) -> Iterator[Record]:
    yield data_tags(manifest.provenance)
    yield Params({f"sha256_{name}": manifest.sha256[name] for name in (TRAIN, TEST)})
    yield dataset(manifest, TRAIN, train, "training")
    yield dataset(manifest, TEST, test, "testing")


def _train_all(train: pd.DataFrame, test: pd.DataFrame, config: TreinamentoConfig, origin: Tags) -> Iterator[Candidate]:
    say("Training", f"on {len(train):,} rows; loading PyCaret")
    tuner = Tuner(
        train,
        cv_folds=config.cv_folds,
        n_iter=config.n_iter,
        session_id=config.session_id,
        criterion=config.criterion,
    )
    ids = [model_id for model_id in config.models.split(",") if model_id != BEST]
    yield _log_candidate(tuner.prior(), test, config, origin)
    for model_id in ids:
        yield _log_candidate(_tune(tuner, model_id, config), test, config, origin)
    if BEST in config.models.split(","):
        say("  compare_models:", "every fast classifier of PyCaret; this takes minutes")
        with console.status("compare_models"):
            winner = tuner.best_id()
        say("  compare_models:", f"the winner is {winner} ({MODEL_NAMES[winner]})")
        if winner not in ids:
            yield _log_candidate(_tune(tuner, winner, config), test, config, origin)


def _tune(tuner: Tuner, model_id: str, config: TreinamentoConfig) -> Candidate:
    started = time.perf_counter()
    work = f"{config.n_iter} settings × {config.cv_folds} folds"
    with console.status(f"{model_id}: {work}"):
        candidate = tuner.tune(model_id)
    score = f"{config.criterion} {_cross_validated(candidate, config.criterion)}"
    say(f"  {model_id}:", f"{work} in {time.perf_counter() - started:.1f} s, cross-validated {score}")
    return candidate


def _log_candidate(candidate: Candidate, test: pd.DataFrame, config: TreinamentoConfig, origin: Tags) -> Candidate:
    with nested_run(f"{candidate.id}: {candidate.name}"):
        write([origin])
        write(_candidate_records(candidate, test, config))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / CANDIDATE_FILE
            save_pipeline(candidate.pipeline, path)
            write([Artifact(path, CANDIDATE_FOLDER)])
    return candidate


def _candidate_records(candidate: Candidate, test: pd.DataFrame, config: TreinamentoConfig) -> Iterator[Record]:
    yield Tags({"model_id": candidate.id, "criterion": config.criterion})
    yield Params(candidate.hyperparameters)
    for name, (mean, deviation) in candidate.cross_validated.items():
        yield Metrics({f"cv_{name}_mean": mean, f"cv_{name}_std": deviation})
    yield Metrics(_evaluate(candidate, test))
    labels, made = test[TARGET].to_numpy(dtype=float), _probability(candidate, test)
    title = f"{candidate.name}, {len(test):,} test rows"
    yield Picture("confusion_matrix", pictures.confusion_matrix(labels, (made >= THRESHOLD).astype(float), title))
    yield Picture("roc", pictures.roc(labels, made, title))
    yield Picture("precision_recall", pictures.precision_recall(labels, made, title))
    yield Picture("calibration", pictures.calibration(labels, made, title))
    yield Picture("prediction_map", pictures.prediction_map(test, made, f"P(made) by {title}"))


def _probability(candidate: Candidate, table: pd.DataFrame) -> npt.NDArray[np.float64]:
    return np.asarray(candidate.pipeline.predict_proba(table[list(FEATURES)].to_numpy(dtype=np.float64))[:, 1])


def _evaluate(candidate: Candidate, test: pd.DataFrame) -> dict[str, float]:
    return evaluate(test[TARGET], _probability(candidate, test))


def _choose(candidates: tuple[Candidate, ...], test: pd.DataFrame, config: TreinamentoConfig) -> Choice:
    chosen = choose([candidate for candidate in candidates if candidate.id != PRIOR], config.criterion)
    prior = next(candidate for candidate in candidates if candidate.id == PRIOR)
    losses = [log_loss_by_row(test[TARGET], _probability(candidate, test)) for candidate in (chosen, prior)]
    verdict = gate.better_than(losses[0], losses[1], reference_name="the class prior", seed=config.session_id)
    test_metrics = {candidate.id: _evaluate(candidate, test) for candidate in candidates}
    justification = _justify(chosen, candidates, test_metrics, config.criterion)
    return Choice(chosen, candidates, test_metrics, justification, verdict)


def _justify(
    chosen: Candidate, candidates: Sequence[Candidate], test_metrics: dict[str, dict[str, float]], criterion: str
) -> str:
    direction = "highest" if METRICS[criterion].greater_is_better else "lowest"
    words = (
        f"**{chosen.name}** (`{chosen.id}`) was chosen: of the tuned models its cross-validated {criterion} on the "
        f"training rows, {_cross_validated(chosen, criterion)}, is the {direction}. "
        "The test rows had no part in the choice."
    )
    if choose(candidates, criterion) is not chosen:
        words += f" The class prior's is not worse: by {criterion}, no tuned model has learned anything."
    header = f"| model | cross-validated {criterion} | " + " | ".join(f"test {name}" for name in METRICS) + " |"
    lines = [header, "|---" * (len(METRICS) + 2) + "|"]
    for candidate in candidates:
        name = f"**{candidate.name}**" if candidate is chosen else candidate.name
        cells = [name, _cross_validated(candidate, criterion), *_cells(test_metrics[candidate.id], METRICS)]
        lines.append(f"| {' | '.join(cells)} |")
    return words + "\n\n" + "\n".join(lines) + "\n"


def _show(choice: Choice, criterion: str) -> None:
    shown = ("log_loss", "f1_score", "roc_auc")
    table = Table("model", f"cross-validated {criterion}", *(f"test {name}" for name in shown))
    for candidate in choice.candidates:
        name = f"{candidate.name} (chosen)" if candidate is choice.chosen else candidate.name
        table.add_row(name, _cross_validated(candidate, criterion), *_cells(choice.test_metrics[candidate.id], shown))
    console.print(table)


def _cross_validated(candidate: Candidate, criterion: str) -> str:
    mean, deviation = candidate.cross_validated[criterion]
    return f"{mean:.4f} ± {deviation:.4f}"


def _cells(metrics: dict[str, float], names: Iterable[str]) -> list[str]:
    return [f"{metrics[name]:.4f}" if name in metrics else "not defined" for name in names]


def _records(choice: Choice) -> Iterator[Record]:
    verdict = choice.verdict
    yield Tags({"chosen_model": choice.chosen.id})
    yield Tags({"gate": "passed" if verdict.passed else "refused", "gate_reason": verdict.reason})
    yield Text("justification.md", choice.justification)
    yield Metrics(choice.metrics)
    yield Metrics({f"gate_{name}": value for name, value in verdict.figures().items()})


def _register(choice: Choice, train: pd.DataFrame, manifest: Manifest, config: TreinamentoConfig, run_id: str) -> str:
    chosen = choice.chosen
    hashes = {**manifest.sha256, **{name.partition(".")[0]: sha for name, sha in manifest.provenance.sha256.items()}}
    tags = {
        **data_tags(manifest.provenance).values,  # noqa: PD011 a field of Tags, not a Series
        **source_state(),
        **{f"sha256_{name}": digest for name, digest in hashes.items()},
        **{f"test_{name}": f"{value:.6f}" for name, value in choice.metrics.items()},
        **{f"cv_{name}": f"{mean:.6f} ± {deviation:.6f}" for name, (mean, deviation) in chosen.cross_validated.items()},
        "model_id": chosen.id,
        "criterion": config.criterion,
        "threshold": str(THRESHOLD),
    }
    example = train[list(FEATURES)].head(_EXAMPLE_ROWS)
    info = log_scoring_model(chosen.pipeline, example, threshold=THRESHOLD, metadata={"model_id": chosen.id})
    return registry.register(info.model_uri, run_id, tags, choice.justification)


def _promote(version: str, verdict: gate.Verdict, manifest: Manifest) -> str:
    if not verdict.passed:
        return f"not promoted, it did not pass the gate: {verdict.reason}"
    current = registry.champion()
    if manifest.provenance.is_synthetic and current and current.tags.get("synthetic") == "false":
        return f"not promoted: it learned from synthetic shots, champion version {current.version} from real ones"
    registry.promote(version, verdict.reason)
    return "passed the gate and became champion and Production"


if __name__ == "__main__":
    run_command(TreinamentoConfig, run)
