"""Entry point ``retreino``: decide whether to retrain, and if so train a challenger and promote it if it is better."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.table import Table

from data.cli.console import console, info
from monitor.retraining import decision_log
from monitor.retraining.policy import Decision, decide
from monitor.store import run_names
from monitor.store import tags as store_tags
from monitor.store.model_store import current_store
from monitor.store.records import (
    FAILED,
    INTERRUPTED,
    MAX_TAG_LENGTH,
    NOTHING_TO_DO,
    PENDING,
    RetrainingDecision,
)
from monitor.store.tags import OUTCOME, OUTCOME_REASON
from serving import registry
from serving.batch.in_process import dataset_of
from steps.retraining.config import RetreinoConfig
from steps.retraining.inputs import DecisionInputs, evaluate, read_inputs
from steps.retraining.interrupted import resolve_interrupted
from steps.retraining.rolling_origins import score_earlier
from steps.retraining.training_set import build_training_sets
from steps.shared.command import run_command
from steps.shared.data_origin import origin_tags, print_synthetic_warning
from steps.shared.tracking import Metrics, Record, Tags, Text, log_records, step_run
from steps.shared.validators import parse_timestamp
from steps.training.promotion import PromotionOutcome, promote_if_better, promotion_records
from steps.training.selection import train_and_register

RUN_NAME = run_names.RETRAINING


@dataclass(frozen=True)
class RetrainingResult:
    """A decision, its number, and its outcome.

    Attributes
    ----------
    number : int
    decision : Decision
    outcome : str
        See `monitor.retraining.decision_log`.
    promotion : PromotionOutcome or None
        The outcome of the promotion; None where no challenger was trained.
    """

    number: int
    decision: Decision
    outcome: str
    promotion: PromotionOutcome | None = None


def run(config: RetreinoConfig) -> RetrainingResult:
    """Decide and act, in a run of its own."""
    with step_run(RUN_NAME, config) as active:
        registry.reconcile()
        resolve_interrupted(active.info.run_id)
        champion = current_store().require_champion()
        log_records([origin_tags(champion.tags)])
        print_synthetic_warning(synthetic=champion.synthetic)
        for version in map(registry.number, registry.awaiting_approval()):
            info("Waiting:", f"version {version}, for approval: {registry.approval_command(version)}")
        inputs = read_inputs(
            champion,
            config.current,
            config.log,
            _decision_time(config.as_of),
            max_labels=config.max_labels,
            recent_rows=config.recent_rows,
        )
        log = current_store().decisions()
        with console.status("deciding"):
            decision = decide(
                evaluate(inputs),
                inputs.labels,
                config.policy,
                dataset=dataset_of(champion.version),
                log=log,
                now=inputs.now,
                source=config.source,
                forced=config.mode == "force",
            )
        number = 1 + max((entry.number for entry in log), default=0)
        acts = decision.retrain and config.mode != "dry_run"
        log_records(_decision_records(decision, number, inputs, mode=config.mode, source=config.source, acts=acts))
        _show(decision, number, inputs)
        if not acts:
            if config.mode == "dry_run":
                info("Dry run:", "nothing was changed")
            return RetrainingResult(number, decision, NOTHING_TO_DO)
        with _log_failure(active.info.run_id):
            promotion = _retrain(config, inputs, active.info.run_id)
        info("Outcome:", f"{promotion.outcome}, {promotion.note}", style="bold")
    return RetrainingResult(number, decision, promotion.outcome, promotion)


def _decision_time(text: str) -> datetime:
    given = parse_timestamp(text, datetime.now(UTC).replace(tzinfo=None))
    return given.replace(tzinfo=UTC) if given else datetime.now(UTC)


def _decision_records(  # noqa: PLR0913 what the record holds
    decision: Decision, number: int, inputs: DecisionInputs, *, mode: str, source: str, acts: bool
) -> Iterator[Record]:
    counts = decision.label_counts
    yield Metrics({"labels": float(counts.labels), "new_labels": float(counts.new_labels)})
    for step, window in enumerate(decision.windows):
        figures = {"window_log_loss": window.log_loss, "window_f1_score": window.f1_score, "window_skill": window.skill}
        yield Metrics({name: value for name, value in figures.items() if value is not None}, step)
    yield Text(decision_log.RECORD, json.dumps(decision.to_dict(), indent=2) + "\n")
    nothing = "dry run" if decision.retrain else "no retraining is needed"
    # In one request: a record of the decision log is complete or missing.
    logged = RetrainingDecision(
        number=number,
        decided_at=inputs.now,
        decision=decision.decision,
        trigger=decision.trigger,
        mode=mode,
        reasons=decision.reasons,
        outcome=PENDING if acts else NOTHING_TO_DO,
        outcome_reason="" if acts else nothing,
        champion=inputs.champion.version,
        labels=counts.labels,
        new_labels=counts.new_labels,
        labels_until=counts.until,
        model=registry.model(),
        model_created=current_store().created(),
        source=source,
    )
    yield Tags(logged.to_tags())


@contextmanager
def _log_failure(run_id: str) -> Iterator[None]:
    """Log the failure of a retraining as the outcome of its decision."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, Exception):
            outcome, reason = FAILED, f"{type(error).__name__}: {error}"[:MAX_TAG_LENGTH]
        else:
            outcome, reason = INTERRUPTED, "it was stopped before its end"
        found = current_store().version_of_decision(run_id)
        left = {store_tags.MODEL_VERSION: found.version} if found else {}
        if found and registry.alias_state().champion != found.version:
            registry.archive(found.version, reason)
        current_store().set_tags(run_id, {**left, OUTCOME: outcome, OUTCOME_REASON: reason})
        raise


def _retrain(config: RetreinoConfig, inputs: DecisionInputs, run_id: str) -> PromotionOutcome:
    with registry.rollback_on_failure(), tempfile.TemporaryDirectory() as folder:
        training_data, earlier = build_training_sets(
            inputs.labels,
            inputs.champion,
            Path(folder),
            run_id,
            max_labels=config.max_labels,
            holdout_size=config.holdout_size,
            n_origins=config.n_origins,
            weighting=config.weighting,
        )
        labels = len(training_data.train) if training_data.compared_on is None else int(training_data.compared_on.sum())
        info(
            "Challenger:",
            f"trains on the dev rows and {labels:,} labels, evaluated on {len(training_data.test):,} later ones",
        )
        with console.status(f"scoring the labels before them from {len(earlier)} origins"):
            before = score_earlier(earlier, config.training)
        if before:
            info("  before them:", f"{len(before.rows):,} labels, each scored by a model of the labels before it")
        with step_run(run_names.TRAINING, config.training):
            challenger, _ = train_and_register(config.training, training_data)
            promotion = promote_if_better(
                challenger,
                training_data.test,
                seed=config.session_id,
                earlier=before,
                against=inputs.champion.version,
                approval=config.needs_approval,
                max_log_loss=config.max_log_loss,
                min_improvement=config.min_improvement,
            )
            log_records(promotion_records(promotion))
        log_records(_outcome_records(promotion, challenger.version))
    return promotion


def _outcome_records(promotion: PromotionOutcome, version: str) -> Iterator[Record]:
    yield Metrics({f"gate_{name}": value for name, value in promotion.gate_result.metrics().items()})
    yield Tags(
        {
            store_tags.MODEL_VERSION: version,
            OUTCOME: promotion.outcome,
            OUTCOME_REASON: (promotion.gate_result.reason if promotion.gate_result.passed else promotion.note)[
                :MAX_TAG_LENGTH
            ],
        }
    )


def _show(decision: Decision, number: int, inputs: DecisionInputs) -> None:
    if decision.windows:
        table = Table("labeled window", "rows", "log_loss", "f1_score", "skill score", "breaches")
        for window in decision.windows:
            figures = [f"{value:.4f}" if value is not None else "-" for value in (window.f1_score, window.skill)]
            span = f"{window.start[:10]} to {window.end[:10]}"
            breaches = "; ".join(window.breaches) or "-"
            table.add_row(span, f"{window.rows:,}", f"{window.log_loss:.4f}", *figures, breaches)
        console.print(table)
    counts = decision.label_counts
    info(
        "Evaluated",
        f"{len(inputs.rows):,} rows ({inputs.name}), {counts.labels:,} labeled, {counts.new_labels:,} of them new; "
        f"champion version {inputs.champion.version}",
    )
    trigger = f" ({decision.trigger})" if decision.trigger else ""
    style = "bold red" if decision.retrain else "bold green"
    info(f"Decision {number}:", f"{decision.decision}{trigger}", style=style)
    for reason in decision.reasons:
        info("  ", reason, style="")


if __name__ == "__main__":
    run_command(RetreinoConfig, run, exclusive="retreino")
