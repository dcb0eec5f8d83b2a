"""Entry point ``retreino``: decide whether to retrain, and if so train a challenger and promote it if it is better."""

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import RunTag
from mlflow.entities.model_registry import ModelVersion
from rich.table import Table

from data.cli.console import console, info
from data.schema import IN_TRAINING, MODEL_VERSION, SHOT_ID, TARGET
from monitor.health.baseline import baseline as reference_data
from monitor.health.evaluation import Evaluation, ServingState
from monitor.health.overlap import marked
from monitor.retraining import decision_log
from monitor.retraining.policy import Decision, decide
from monitor.store import run_names, tables
from monitor.store import tags as store_tags
from monitor.store.labels import flag_training_rows, is_training_row, sort_by_time
from monitor.store.model_store import current_store
from monitor.store.records import FAILED, INTERRUPTED, NOTHING_TO_DO, PENDING, PROMOTED, REJECTED, RetrainingDecision
from monitor.store.tables import TIME
from monitor.store.tags import OUTCOME, OUTCOME_REASON
from serving import registry
from serving.inference_log import reader
from steps.aquisicao import print_synthetic_warning
from steps.monitoramento import APPLICATION, LOG, MonitoramentoConfig, parse_timestamp, read_current
from steps.retraining.config import RetreinoConfig
from steps.retraining.training_set import ORIGIN, RETRAINING_RUN, TrainingSetError, build_training_set
from steps.shared.command import run_command
from steps.shared.tracking import Metrics, Record, Tags, Text, at_work_elsewhere, log_records, step_run
from steps.training.promotion import PromotionOutcome, promote_if_better
from steps.treinamento import settlement_records, train_and_register

RUN_NAME = run_names.RETRAINING

_MAX_TAG_LENGTH = 5_000


@dataclass(frozen=True)
class RetrainingResult:
    """A decision, its number, and its outcome.

    Attributes
    ----------
    number : int
    decision : Decision
    outcome : str
        See `monitor.retraining.decision_log`.
    settled : Settled or None
        The outcome of the promotion; None where no challenger was trained.
    """

    number: int
    decision: Decision
    outcome: str
    promotion: PromotionOutcome | None = None


@dataclass(frozen=True)
class _Inputs:
    """The champion and the scored rows that a decision uses."""

    champion: ModelVersion
    rows: pd.DataFrame
    name: str
    now: datetime

    @property
    def version(self) -> str:
        return registry.number(self.champion)

    @cached_property
    def labels(self) -> pd.DataFrame:
        """Labeled rows, each shot once, with a mask of those that the champion was trained on."""
        rows = self.rows[self.rows[TARGET].notna()]
        if SHOT_ID in rows:
            rows = rows[rows[SHOT_ID].isna() | ~rows[SHOT_ID].duplicated()]
        return rows.assign(**{IN_TRAINING: is_training_row(current_store(), rows, self.version)})


def run(config: RetreinoConfig) -> RetrainingResult:
    """Decide and act, in a run of its own."""
    with step_run(RUN_NAME, config) as active:
        registry.reconcile()
        resolve_interrupted(active.info.run_id)
        champion = registry.require_champion()
        log_records([Tags({name: champion.tags.get(name, "unknown") for name in ORIGIN})])
        print_synthetic_warning(synthetic=champion.tags.get("synthetic") == "true")
        inputs = _read_inputs(config, champion)
        log = current_store().decisions()
        with console.status("deciding"):
            decision = decide(
                _evaluation(inputs),
                inputs.labels,
                config.policy,
                log=log,
                now=inputs.now,
                source=config.source,
                forced=config.mode == "force",
            )
        number = 1 + max((entry.number for entry in log), default=0)
        acts = decision.retrain and config.mode != "dry_run"
        log_records(_decision_records(decision, number, inputs, config, acts=acts))
        _show(decision, number, inputs)
        if not acts:
            if config.mode == "dry_run":
                info("Dry run:", "nothing was changed")
            return RetrainingResult(number, decision, NOTHING_TO_DO)
        with _log_failure(active.info.run_id):
            promotion = _retrain(config, inputs, active.info.run_id)
        outcome = PROMOTED if promotion.promoted else REJECTED
        info("Outcome:", f"{outcome}, {promotion.note}", style="bold")
    return RetrainingResult(number, decision, outcome, promotion)


def resolve_interrupted(own_run: str = "") -> None:
    """Log the outcome of decisions whose process was killed."""
    for entry in current_store().decisions():
        if entry.outcome == PENDING and entry.run_id != own_run and not at_work_elsewhere(entry.run_id):
            _tag(entry.run_id, _aftermath(entry))


def _aftermath(entry: RetrainingDecision) -> dict[str, str]:
    found = registry.version_tagged(RETRAINING_RUN, entry.run_id)
    if found is None:
        return {OUTCOME: INTERRUPTED, OUTCOME_REASON: "its process ended before a challenger was registered"}
    version = {store_tags.MODEL_VERSION: registry.number(found)}
    if registry.was_champion(registry.number(found)):
        return {**version, OUTCOME: PROMOTED, OUTCOME_REASON: found.tags.get("gate_reason", "")}
    if found.tags.get("gate") == "refused":
        reason = found.tags.get("gate_reason", "")
        registry.archive(registry.number(found), reason)
        return {**version, OUTCOME: REJECTED, OUTCOME_REASON: reason}
    reason = "its process ended before the challenger was promoted"
    registry.archive(registry.number(found), reason)
    return {**version, OUTCOME: INTERRUPTED, OUTCOME_REASON: reason}


def _tag(run_id: str, tags: dict[str, str]) -> None:
    """Write tags in one request."""
    MlflowClient().log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])


def _read_inputs(config: RetreinoConfig, champion: ModelVersion) -> _Inputs:
    given = parse_timestamp(config.now, datetime.now(UTC).replace(tzinfo=None))
    now = given.replace(tzinfo=UTC) if given else datetime.now(UTC)
    table, name = _rows(config, champion)
    rows = sort_by_time(table, name)
    return _Inputs(champion, rows[rows[TIME] <= now.replace(tzinfo=None)], name, now)


def _rows(config: RetreinoConfig, champion: ModelVersion) -> tuple[pd.DataFrame, str]:
    """The scored rows and their name."""
    if config.current == LOG:
        engine = reader.open_log(reader.log_url(config.log))
        found = reader.read_latest(
            engine,
            labelled=config.max_labels,
            rows=config.policy.recent_rows,
            version=registry.number(champion),
        )
        if found.empty:
            message = "the inference log holds no row; score some shots first"
            raise reader.LogError(message)
        return flag_training_rows(current_store(), found), "log"
    every = MonitoramentoConfig(current=config.current, max_rows=sys.maxsize)
    current = read_current(every, registry.number(champion))
    if config.current == APPLICATION:
        kinds = [
            "synthetic" if synthetic else "real"
            for synthetic in (
                tables.last_batch_scoring(current_store()).synthetic,
                champion.tags.get("synthetic") == "true",
            )
        ]
        if kinds[0] != kinds[1]:
            message = (
                f"aplicacao last scored {kinds[0]} shots, champion version {registry.number(champion)} was trained on "
                f"{kinds[1]} ones: their labels cannot retrain it. Run main with the source that it was trained on."
            )
            raise TrainingSetError(message)
    return current.table, current.name


def _evaluation(inputs: _Inputs) -> Evaluation | None:
    rows = inputs.rows
    if MODEL_VERSION in rows and rows[MODEL_VERSION].notna().any():
        rows = rows[rows[MODEL_VERSION] == int(inputs.version)]
    if rows.empty:
        return None
    baseline = reference_data(current_store(), inputs.version)
    return Evaluation(
        baseline,
        marked(rows.reset_index(drop=True), baseline),
        ServingState(inputs.now, current_store().champion()),
        inputs.name,
    )


def _decision_records(
    decision: Decision, number: int, inputs: _Inputs, config: RetreinoConfig, *, acts: bool
) -> Iterator[Record]:
    arrived = decision.arrived
    yield Metrics({"labels": float(arrived.labels), "new_labels": float(arrived.new_labels)})
    for step, window in enumerate(decision.windows):
        figures = {"window_log_loss": window.log_loss, "window_f1_score": window.f1_score, "window_skill": window.skill}
        yield Metrics({name: value for name, value in figures.items() if value is not None}, step)
    yield Text(decision_log.RECORD, json.dumps(decision.record(), indent=2) + "\n")
    nothing = "dry run" if decision.retrain else "no retraining is needed"
    # In one request: a record of the decision log is complete or missing.
    yield Tags(
        {
            store_tags.DECISION_MODEL: registry.model(),
            store_tags.DECISION_MODEL_CREATED: registry.created(),
            store_tags.NUMBER: str(number),
            store_tags.DECIDED_AT: inputs.now.isoformat(timespec="seconds"),
            store_tags.DECISION: decision.decision,
            store_tags.TRIGGER: decision.trigger,
            store_tags.MODE: config.mode,
            store_tags.REASONS: "\n".join(decision.reasons)[:_MAX_TAG_LENGTH],
            store_tags.CHAMPION: inputs.version,
            store_tags.SOURCE: config.source,
            store_tags.LABELS: str(arrived.labels),
            store_tags.NEW_LABELS: str(arrived.new_labels),
            store_tags.LABELS_UNTIL: arrived.until.isoformat() if arrived.until else "",
            OUTCOME: PENDING if acts else NOTHING_TO_DO,
            OUTCOME_REASON: "" if acts else nothing,
        }
    )


@contextmanager
def _log_failure(run_id: str) -> Iterator[None]:
    """Log the failure of a retraining as the outcome of its decision."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, Exception):
            outcome, reason = FAILED, f"{type(error).__name__}: {error}"[:_MAX_TAG_LENGTH]
        else:
            outcome, reason = INTERRUPTED, "it was stopped before its end"
        version = registry.version_tagged(RETRAINING_RUN, run_id)
        left = {store_tags.MODEL_VERSION: registry.number(version)} if version else {}
        if version and registry.alias_state().champion != registry.number(version):
            registry.archive(registry.number(version), reason)
        _tag(run_id, {**left, OUTCOME: outcome, OUTCOME_REASON: reason})
        raise


def _retrain(config: RetreinoConfig, inputs: _Inputs, run_id: str) -> PromotionOutcome:
    with registry.rollback_on_failure(), tempfile.TemporaryDirectory() as folder:
        training_data = build_training_set(inputs.labels, inputs.champion, config, Path(folder), run_id)
        labels = len(training_data.train) if training_data.compared_on is None else int(training_data.compared_on.sum())
        info(
            "Challenger:",
            f"trains on the dev rows and {labels:,} labels, evaluated on {len(training_data.test):,} later ones",
        )
        with step_run(run_names.TRAINING, config.training):
            contender, _ = train_and_register(config.training, training_data)
            promotion = promote_if_better(
                contender,
                training_data.test,
                seed=config.session_id,
                against=inputs.version,
                max_log_loss=config.max_log_loss,
                min_improvement=config.min_improvement,
            )
            log_records(settlement_records(promotion))
        log_records(_outcome_records(promotion, contender.version))
    return promotion


def _outcome_records(promotion: PromotionOutcome, version: str) -> Iterator[Record]:
    yield Metrics({f"gate_{name}": value for name, value in promotion.gate_result.metrics().items()})
    yield Tags(
        {
            store_tags.MODEL_VERSION: version,
            OUTCOME: PROMOTED if promotion.promoted else REJECTED,
            OUTCOME_REASON: (promotion.gate_result.reason if promotion.promoted else promotion.note)[:_MAX_TAG_LENGTH],
        }
    )


def _show(decision: Decision, number: int, inputs: _Inputs) -> None:
    if decision.windows:
        table = Table("labeled window", "rows", "log_loss", "f1_score", "skill score", "breaches")
        for window in decision.windows:
            figures = [f"{value:.4f}" if value is not None else "-" for value in (window.f1_score, window.skill)]
            span = f"{window.start[:10]} to {window.end[:10]}"
            breaches = "; ".join(window.violations) or "-"
            table.add_row(span, f"{window.rows:,}", f"{window.log_loss:.4f}", *figures, breaches)
        console.print(table)
    arrived = decision.arrived
    info(
        "Evaluated",
        f"{len(inputs.rows):,} rows ({inputs.name}), {arrived.labels:,} labeled, {arrived.new_labels:,} of them new; "
        f"champion version {inputs.version}",
    )
    trigger = f" ({decision.trigger})" if decision.trigger else ""
    style = "bold red" if decision.retrain else "bold green"
    info(f"Decision {number}:", f"{decision.decision}{trigger}", style=style)
    for reason in decision.reasons:
        info("  ", reason, style="")


if __name__ == "__main__":
    run_command(RetreinoConfig, run, exclusive="retreino")
