"""Entry point ``retreino``: decide whether it is time for a new model, and if so train it and prove it better."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from pydantic import AfterValidator, Field, model_validator
from rich.table import Table

from data.console import console, say
from data.errors import KobeShotError
from data.files import sha256, write_parquet
from data.prepared import TEST, TRAIN
from data.schema import FEATURES, MODEL_VERSION, TARGET
from monitor import decisions, operation, tables
from monitor.arrivals import LABELS_LEARNED, LEARNED_UNTIL, in_order, is_learned
from monitor.challenge import FEWEST_ROWS, MOST_LOG_LOSS
from monitor.decisions import (
    FAILED,
    INTERRUPTED,
    NOTHING,
    OUTCOME,
    OUTCOME_REASON,
    PENDING,
    PROMOTED,
    REFUSED,
)
from monitor.look import Live, Look, version_of
from monitor.retraining import FEWEST_LABELS, Decision, Policy, decide
from monitor.tables import TIME
from serving import registry
from steps.aquisicao import remind
from steps.candidates import WITHOUT_WEIGHTS
from steps.command import part, run_command
from steps.lesson import Lesson
from steps.monitoramento import APPLICATION, LOG, MonitoramentoConfig, check_log, moment_of, read_current
from steps.promotion import Settled, settle
from steps.tracking import Metrics, Record, Tags, Text, step_run, write
from steps.treinamento import TreinamentoConfig, learn, settlement_records

RUN_NAME = decisions.RETRAINING
RETRAINING_RUN = "retraining_run"
"""Tag of a version: the run of ``retreino`` that it comes from."""

_MOST_TAG_LENGTH = 5_000
_INHERITED = ("data_source", "synthetic")


class LoopError(KobeShotError):
    """What has arrived is not enough to learn from and to be tested on."""


def check_current(current: str) -> str:
    """Refuse what is neither a name nor a table.

    Raises
    ------
    ValueError
        Says what is expected.
    """
    if current in {APPLICATION, LOG} or Path(current).suffix in {".parquet", ".csv"}:
        return current
    message = f"expected {APPLICATION}, {LOG}, or a .parquet or .csv table of scored shots; found {current!r}"
    raise ValueError(message)


def check_span(text: str) -> str:
    """Refuse what is not a span of time.

    Raises
    ------
    ValueError
        Says what is expected.
    """
    message = f"expected a span of time such as 12h or 7d; found {text!r}"
    try:
        span = pd.Timedelta(text)
    except ValueError as error:
        raise ValueError(message) from error
    if pd.isna(span) or span < pd.Timedelta(0):
        raise ValueError(message)
    return text


def check_now(text: str) -> str:
    """Refuse what is not a moment.

    Raises
    ------
    ValueError
        Says what is expected.
    """
    moment_of(text, datetime.now(UTC).replace(tzinfo=None))
    return text


class LoopConfig(TreinamentoConfig):
    """When to retrain, on what, and what a challenger has to show."""

    window_rows: int = Field(default=200, ge=100, description="labelled rows in a window")
    windows: int = Field(default=3, ge=1, le=100, description="number of latest windows that are looked at")
    violations: int = Field(
        default=2, ge=1, le=100, description="how many of them must violate a limit, the latest among them"
    )
    limit: float = Field(
        default=0.15, gt=0, lt=10, description="relative rise of log loss or fall of F1 from which a window violates"
    )
    horizon: int = Field(default=3, ge=1, le=100, description="windows ahead within which a trend may reach the limit")
    minimum_new_labels: int = Field(
        default=300, ge=1, description="labels that no training has seen; doubled after each refused challenger"
    )
    cooldown: Annotated[str, AfterValidator(check_span)] = Field(
        default="1d", description="span of time between two trainings, such as 12h or 7d"
    )
    most_per_day: int = Field(default=2, ge=1, description="trainings within 24 hours")
    label_window: int = Field(default=20_000, ge=FEWEST_LABELS, description="labels, the latest ones, that are used")
    label_test_size: float = Field(
        default=0.5, gt=0, lt=1, description="share of the labels, the latest ones, that is kept for the comparison"
    )
    weighting: Literal["balanced", "uniform"] = Field(
        default="balanced",
        description="balanced lets labels that arrived weigh together as much as the dev rows, uniform all rows alike",
    )
    most_log_loss: float = Field(
        default=MOST_LOG_LOSS, gt=0, description="log loss in nats above which nothing is promoted; a coin has 0.6931"
    )

    @model_validator(mode="after")
    def check_loop(self) -> Self:
        """Refuse more violations than windows, and models that cannot weigh rows that are to be weighed."""
        if self.violations > self.windows:
            message = f"expected violations of at most windows ({self.windows}); found {self.violations}"
            raise ValueError(message)
        unweighable = [name for name in self.models.split(",") if name in WITHOUT_WEIGHTS]
        if self.weighting != "uniform" and unweighable:
            message = f"expected weighting=uniform with {', '.join(unweighable)}, which cannot weigh rows"
            raise ValueError(message)
        return self

    @property
    def policy(self) -> Policy:
        """When to retrain."""
        return Policy(
            self.window_rows,
            self.windows,
            self.violations,
            self.limit,
            self.horizon,
            self.minimum_new_labels,
            pd.Timedelta(self.cooldown).to_pytimedelta(),
            self.most_per_day,
        )

    @property
    def training(self) -> TreinamentoConfig:
        """The part that is treinamento's."""
        return part(TreinamentoConfig, self)


class RetreinoConfig(LoopConfig):
    """Decide whether it is time for a new model; if it is, train a challenger and promote it if it is better."""

    mode: Literal["auto", "dry_run", "force"] = Field(
        default="auto", description="auto decides and acts, dry_run only says what it would do, force retrains now"
    )
    current: Annotated[str, AfterValidator(check_current)] = Field(
        default=APPLICATION,
        description=f"where scored shots and their labels are: {APPLICATION} (the last table that aplicacao scored), "
        f"{LOG} (the inference log), or a .parquet or .csv table with game_date or time",
    )
    log: Annotated[str, AfterValidator(check_log)] = Field(
        default="", description="SQLAlchemy address of the log; empty takes $KOBE_INFERENCE_LOG, else inference_log.db"
    )
    now: Annotated[str, AfterValidator(check_now)] = Field(
        default="", description="moment of the decision in UTC, for a replay; empty is now"
    )

    @property
    def source_kind(self) -> str:
        """What kind of place the labels are at."""
        return self.current if self.current in {APPLICATION, LOG} else "table"

    @model_validator(mode="after")
    def check_source(self) -> Self:
        """Refuse the address of a log that is not read."""
        if self.log and self.current != LOG:
            message = f"expected log with current={LOG} only; found current={self.current}"
            raise ValueError(message)
        return self


@dataclass(frozen=True)
class Retrained:
    """A decision, its number, and what came of it.

    Attributes
    ----------
    number : int
    decision : Decision
    outcome : str
        See `monitor.decisions`.
    settled : Settled or None
        What became of the challenger; None where none was trained.
    """

    number: int
    decision: Decision
    outcome: str
    settled: Settled | None = None


@dataclass(frozen=True)
class _Scene:
    """What a decision is about."""

    champion: ModelVersion
    rows: pd.DataFrame
    name: str
    now: datetime

    @property
    def version(self) -> str:
        return registry.number(self.champion)

    @property
    def labels(self) -> pd.DataFrame:
        return self.rows[self.rows[TARGET].notna()]


def run(config: RetreinoConfig) -> Retrained:
    """Decide and act, in a run of its own."""
    with step_run(RUN_NAME, config) as active:
        registry.reconcile()
        settle_interrupted(active.info.run_id)
        champion = registry.require_champion()
        write([Tags({name: champion.tags.get(name, "unknown") for name in _INHERITED})])
        remind(synthetic=champion.tags.get("synthetic") == "true")
        scene = _scene(config, champion)
        log = decisions.decisions()
        with console.status("deciding"):
            decision = decide(
                _look(scene),
                scene.labels,
                config.policy,
                log=log,
                now=scene.now,
                source=config.source_kind,
                forced=config.mode == "force",
            )
        number = 1 + max((entry.number for entry in log), default=0)
        acts = decision.retrain and config.mode != "dry_run"
        write(_decision_records(decision, number, scene, config, acts=acts))
        _show(decision, number, scene)
        if not acts:
            if config.mode == "dry_run":
                say("Dry run:", "nothing was done")
            return Retrained(number, decision, NOTHING)
        with _outcome_told(active.info.run_id):
            settled = _act(config, scene, active.info.run_id)
        outcome = PROMOTED if settled.promoted else REFUSED
        say("Outcome:", f"{outcome}, {settled.note}", style="bold")
    return Retrained(number, decision, outcome, settled)


def settle_interrupted(own_run: str = "") -> None:
    """Write what came of decisions whose process was killed before it could."""
    client = MlflowClient()
    for entry in decisions.decisions():
        if entry.outcome == PENDING and entry.run_id != own_run:
            for name, value in _aftermath(entry).items():
                client.set_tag(entry.run_id, name, value)


def _aftermath(entry: decisions.LoggedDecision) -> dict[str, str]:
    found = registry.version_tagged(RETRAINING_RUN, entry.run_id)
    if found is None:
        return {OUTCOME: INTERRUPTED, OUTCOME_REASON: "its process ended before a challenger was registered"}
    version = {decisions.CHALLENGER: registry.number(found)}
    if registry.promotions(found):
        return {**version, OUTCOME: PROMOTED, OUTCOME_REASON: found.tags.get("gate_reason", "")}
    if found.tags.get("gate") == "refused":
        reason = found.tags.get("gate_reason", "")
        registry.archive(registry.number(found), reason)
        return {**version, OUTCOME: REFUSED, OUTCOME_REASON: reason}
    reason = "its process ended before the challenger was promoted"
    registry.archive(registry.number(found), reason)
    return {**version, OUTCOME: INTERRUPTED, OUTCOME_REASON: reason}


def _scene(config: RetreinoConfig, champion: ModelVersion) -> _Scene:
    version = registry.number(champion)
    current = read_current(MonitoramentoConfig(current=config.current, log=config.log), version)
    given = moment_of(config.now, datetime.now(UTC).replace(tzinfo=None))
    now = given.replace(tzinfo=UTC) if given else datetime.now(UTC)
    return _Scene(champion, in_order(current.table, current.name), current.name, now)


def _look(scene: _Scene) -> Look | None:
    rows = scene.rows
    if MODEL_VERSION in rows and rows[MODEL_VERSION].notna().any():
        rows = rows[rows[MODEL_VERSION] == int(scene.version)]
    if rows.empty:
        return None
    baseline = tables.baseline(version_of(rows, scene.version))
    return Look(baseline, rows.reset_index(drop=True), Live(scene.now, operation.champion()), scene.name)


def _decision_records(
    decision: Decision, number: int, scene: _Scene, config: RetreinoConfig, *, acts: bool
) -> Iterator[Record]:
    arrived = decision.arrived
    yield Metrics({"labels": float(arrived.labels), "new_labels": float(arrived.new_labels)})
    for step, window in enumerate(decision.windows):
        figures = {"window_log_loss": window.log_loss, "window_f1_score": window.f1_score, "window_skill": window.skill}
        yield Metrics({name: value for name, value in figures.items() if value is not None}, step)
    yield Text(decisions.RECORD, json.dumps(decision.record(), indent=2) + "\n")
    nothing = "dry run" if decision.retrain else "it is not time for a new model"
    # All at once: an entry of the log is there whole or not at all.
    yield Tags(
        {
            decisions.MODEL: registry.model(),
            decisions.CREATED: registry.created(),
            decisions.NUMBER: str(number),
            decisions.MOMENT: scene.now.isoformat(timespec="seconds"),
            decisions.DECISION: decision.decision,
            decisions.TRIGGER: decision.trigger,
            decisions.MODE: config.mode,
            decisions.REASONS: "\n".join(decision.reasons)[:_MOST_TAG_LENGTH],
            decisions.CHAMPION: scene.version,
            decisions.SOURCE: config.source_kind,
            decisions.LABELS: str(arrived.labels),
            decisions.NEW_LABELS: str(arrived.new_labels),
            decisions.LABELS_UNTIL: arrived.until.isoformat() if arrived.until else "",
            OUTCOME: PENDING if acts else NOTHING,
            OUTCOME_REASON: "" if acts else nothing,
        }
    )


@contextmanager
def _outcome_told(run_id: str) -> Iterator[None]:
    """Write on the decision that acting on it failed, where it does."""
    try:
        yield
    except BaseException as error:
        outcome = FAILED if isinstance(error, Exception) else INTERRUPTED
        client = MlflowClient()
        client.set_tag(run_id, OUTCOME, outcome)
        client.set_tag(run_id, OUTCOME_REASON, f"{type(error).__name__}: {error}"[:_MOST_TAG_LENGTH])
        raise


def _act(config: RetreinoConfig, scene: _Scene, run_id: str) -> Settled:
    with registry.taken_back_on_failure(), tempfile.TemporaryDirectory() as folder:
        lesson = make_lesson(scene.labels, scene.champion, config, Path(folder), run_id)
        learned = len(lesson.train) if lesson.compared_on is None else int(lesson.compared_on.sum())
        say("Challenger:", f"learns from {learned:,} labels beside the dev rows, tested on {len(lesson.test):,} later")
        with step_run(operation.TRAINING, config.training):
            contender, _ = learn(config.training, lesson)
            settled = settle(contender, lesson.test, seed=config.session_id, most_log_loss=config.most_log_loss)
            write(settlement_records(settled))
        write(_outcome_records(settled, contender.version))
    return settled


def make_lesson(labels: pd.DataFrame, champion: ModelVersion, config: LoopConfig, folder: Path, run_id: str) -> Lesson:
    """The dev rows that the champion learned from and the older labels to learn from, the later labels to be tested on.

    Parameters
    ----------
    labels : pandas.DataFrame
        Labelled rows in the order of ``time``.
    champion : ModelVersion
        Whose dev rows, and who must not have learned from the test rows either.
    config : LoopConfig
    folder : pathlib.Path
        Where the tables are written.
    run_id : str
        Run of the decision.

    Raises
    ------
    LoopError
        If there are too few labels on either side.
    """
    recent = labels.tail(config.label_window)
    older, later = split_by_time(recent, config.label_test_size)
    later = later[~is_learned(later, registry.number(champion))]
    if older.empty or len(later) < FEWEST_ROWS:
        message = (
            f"expected labels to learn from and {FEWEST_ROWS} later ones that the champion has not learned from; of "
            f"{len(recent):,} labels {len(older):,} can be learned from and {len(later):,} are such later ones. "
            "Rows of one time stay together. Wait for more labels, or give another label_test_size."
        )
        raise LoopError(message)
    development_file = tables.development_table()
    development = pd.read_parquet(development_file)
    columns = [*FEATURES, TARGET]
    train = pd.concat([development[columns], older[columns]], ignore_index=True).astype({TARGET: "int64"})
    test = later[columns].reset_index(drop=True).astype({TARGET: "int64"})
    files = {TRAIN: folder / f"{TRAIN}.parquet", TEST: folder / f"{TEST}.parquet"}
    for name, table in ((TRAIN, train), (TEST, test)):
        write_parquet(table, files[name])
    arrived, weights = weigh(len(development), len(older), config.weighting)
    kept = {name: value for name, value in champion.tags.items() if name.startswith("sha256_dataset_")}
    tags = {
        **{name: champion.tags[name] for name in _INHERITED if name in champion.tags},
        **kept,
        **{f"sha256_{name}": sha256(path) for name, path in files.items()},
        tables.DEVELOPMENT: sha256(development_file),
        LEARNED_UNTIL: older[TIME].iloc[-1].isoformat(),
        LABELS_LEARNED: str(len(older)),
        RETRAINING_RUN: run_id,
    }
    return Lesson(train, test, files, tags, weights, arrived)


def weigh(
    development: int, arrived: int, weighting: str
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64] | None]:
    """Which of so many dev rows and then so many labels that arrived are labels, and what each row weighs.

    Examples
    --------
    >>> weigh(4, 2, "balanced")[1].tolist()
    [1.0, 1.0, 1.0, 1.0, 2.0, 2.0]
    """
    is_arrived = np.arange(development + arrived) >= development
    return is_arrived, np.where(is_arrived, development / arrived, 1.0) if weighting == "balanced" else None


def split_by_time(labels: pd.DataFrame, test_size: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Older labels to learn from and later ones to be tested on; rows of one time stay together.

    Parameters
    ----------
    labels : pandas.DataFrame
        In the order of ``time``.
    test_size : float
        Share of the later ones.
    """
    if labels.empty:
        return labels, labels
    last_learned = labels[TIME].iloc[max(0, round(len(labels) * (1 - test_size)) - 1)]
    is_later = labels[TIME] > last_learned
    return labels[~is_later], labels[is_later]


def _outcome_records(settled: Settled, version: str) -> Iterator[Record]:
    yield Metrics({f"gate_{name}": value for name, value in settled.verdict.figures().items()})
    yield Tags(
        {
            decisions.CHALLENGER: version,
            OUTCOME: PROMOTED if settled.promoted else REFUSED,
            OUTCOME_REASON: (settled.verdict.reason if settled.promoted else settled.note)[:_MOST_TAG_LENGTH],
        }
    )


def _show(decision: Decision, number: int, scene: _Scene) -> None:
    if decision.windows:
        table = Table("labelled window", "rows", "log_loss", "f1_score", "skill", "violates")
        for window in decision.windows:
            figures = [f"{value:.4f}" if value is not None else "-" for value in (window.f1_score, window.skill)]
            span = f"{window.start[:10]} to {window.end[:10]}"
            told = "; ".join(window.violations) or "-"
            table.add_row(span, f"{window.rows:,}", f"{window.log_loss:.4f}", *figures, told)
        console.print(table)
    arrived = decision.arrived
    say(
        "Looked at",
        f"{len(scene.rows):,} rows ({scene.name}), {arrived.labels:,} labelled, {arrived.new_labels:,} of them new; "
        f"champion version {scene.version}",
    )
    trigger = f" ({decision.trigger})" if decision.trigger else ""
    style = "bold red" if decision.retrain else "bold green"
    say(f"Decision {number}:", f"{decision.decision}{trigger}", style=style)
    for reason in decision.reasons:
        say("  ", reason, style="")


if __name__ == "__main__":
    run_command(RetreinoConfig, run, loop="retreino")
