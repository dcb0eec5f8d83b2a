"""Entry point ``retreino``: decide whether it is time for a new model, and if so train it and prove it better."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import RunTag
from mlflow.entities.model_registry import ModelVersion
from pydantic import AfterValidator, Field, model_validator
from rich.table import Table

from data.console import console, say
from data.errors import KobeShotError
from data.files import sha256, write_parquet
from data.prepared import TEST, TRAIN
from data.schema import FEATURES, LEARNED, MODEL_VERSION, SHOT_ID, TARGET
from monitor import decisions, operation, tables
from monitor.arrivals import LABELS_LEARNED, LEARNED_UNTIL, in_order, is_learned, with_learned
from monitor.challenge import LEAST_GAIN, MOST_LOG_LOSS
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
from monitor.retraining import FEWEST_LABELS, Decision, Policy, decide, split_by_time
from monitor.tables import TIME
from serving import log_reader, registry
from steps.aquisicao import remind
from steps.candidates import WITHOUT_WEIGHTS
from steps.command import part, run_command
from steps.lesson import Lesson
from steps.monitoramento import APPLICATION, LOG, MonitoramentoConfig, check_log, moment_of, read_current
from steps.promotion import Settled, settle
from steps.tracking import Metrics, Record, Tags, Text, at_work_elsewhere, step_run, write
from steps.treinamento import TreinamentoConfig, learn, settlement_records

RUN_NAME = decisions.RETRAINING
RETRAINING_RUN = "retraining_run"
"""Tag of a version: the run of ``retreino`` that it comes from."""

_MOST_TAG_LENGTH = 5_000
_MOST_DEVELOPMENT = 0.5
_MOST_WEIGHT = 5.0
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
    # Without a unit pandas takes nanoseconds.
    if pd.isna(span) or span < pd.Timedelta(0) or (span and not any(map(str.isalpha, text))):
        raise ValueError(message)
    return text


def check_now(text: str) -> str:
    """Refuse what is not a moment, and one that is still to come.

    Raises
    ------
    ValueError
        Says what is expected.
    """
    present = datetime.now(UTC).replace(tzinfo=None)
    moment = moment_of(text, present)
    if moment and moment > present:
        message = f"expected a moment that has passed; found {text!r}"
        raise ValueError(message)
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
    look_rows: int = Field(
        default=2_000, ge=100, description="scored rows, the latest ones, that predictive signals look at"
    )
    label_window: int = Field(default=20_000, ge=FEWEST_LABELS, description="labels, the latest ones, that are used")
    label_test_size: float = Field(
        default=0.5, gt=0, lt=1, description="share of the labels, the latest ones, that is kept for the comparison"
    )
    weighting: Literal["balanced", "uniform"] = Field(
        default="balanced",
        description="balanced lets labels that arrived weigh together as much as the dev rows, each at most as five of "
        "them, uniform all rows alike",
    )
    most_log_loss: float = Field(
        default=MOST_LOG_LOSS, gt=0, description="log loss in nats above which nothing is promoted; a coin has 0.6931"
    )
    least_gain: float = Field(
        default=LEAST_GAIN,
        ge=0,
        lt=1,
        description="share of the champion's log loss by which a challenger must be better",
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
            self.label_window,
            self.label_test_size,
            self.look_rows,
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
    def source(self) -> str:
        """Where the labels are; times of different places do not compare."""
        return self.current if self.current in {APPLICATION, LOG} else str(Path(self.current).resolve())

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

    @cached_property
    def labels(self) -> pd.DataFrame:
        """Labelled rows, each shot once, and whether the champion has learned from them."""
        rows = self.rows[self.rows[TARGET].notna()]
        if SHOT_ID in rows:
            rows = rows[rows[SHOT_ID].isna() | ~rows[SHOT_ID].duplicated()]
        return rows.assign(**{LEARNED: is_learned(rows, self.version)})


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
                source=config.source,
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
    for entry in decisions.decisions():
        if entry.outcome == PENDING and entry.run_id != own_run and not at_work_elsewhere(entry.run_id):
            _tag(entry.run_id, _aftermath(entry))


def _aftermath(entry: decisions.LoggedDecision) -> dict[str, str]:
    found = registry.version_tagged(RETRAINING_RUN, entry.run_id)
    if found is None:
        return {OUTCOME: INTERRUPTED, OUTCOME_REASON: "its process ended before a challenger was registered"}
    version = {decisions.CHALLENGER: registry.number(found)}
    if registry.was_champion(registry.number(found)):
        return {**version, OUTCOME: PROMOTED, OUTCOME_REASON: found.tags.get("gate_reason", "")}
    if found.tags.get("gate") == "refused":
        reason = found.tags.get("gate_reason", "")
        registry.archive(registry.number(found), reason)
        return {**version, OUTCOME: REFUSED, OUTCOME_REASON: reason}
    reason = "its process ended before the challenger was promoted"
    registry.archive(registry.number(found), reason)
    return {**version, OUTCOME: INTERRUPTED, OUTCOME_REASON: reason}


def _tag(run_id: str, tags: dict[str, str]) -> None:
    """Write tags all at once."""
    MlflowClient().log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])


def _scene(config: RetreinoConfig, champion: ModelVersion) -> _Scene:
    given = moment_of(config.now, datetime.now(UTC).replace(tzinfo=None))
    now = given.replace(tzinfo=UTC) if given else datetime.now(UTC)
    table, name = _rows(config, champion)
    rows = in_order(table, name)
    return _Scene(champion, rows[rows[TIME] <= now.replace(tzinfo=None)], name, now)


def _rows(config: RetreinoConfig, champion: ModelVersion) -> tuple[pd.DataFrame, str]:
    """The scored rows, and what they are called."""
    if config.current == LOG:
        engine = log_reader.open_log(log_reader.log_address(config.log))
        found = log_reader.read_newest(engine, labelled=config.label_window, rows=config.policy.look_rows)
        if found.empty:
            message = "the inference log holds no row; score something"
            raise log_reader.LogError(message)
        return with_learned(found), "log"
    current = read_current(MonitoramentoConfig(current=config.current), registry.number(champion))
    if config.current == APPLICATION:
        kinds = [
            "simulated" if synthetic else "real"
            for synthetic in (tables.application_run().synthetic, champion.tags.get("synthetic") == "true")
        ]
        if kinds[0] != kinds[1]:
            message = (
                f"aplicacao last scored {kinds[0]} shots, champion version {registry.number(champion)} learned from "
                f"{kinds[1]} ones: their labels teach it nothing. Run main with the source that it learned from."
            )
            raise LoopError(message)
    return current.table, current.name


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
            decisions.SOURCE: config.source,
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
        reason = f"{type(error).__name__}: {error}"[:_MOST_TAG_LENGTH]
        version = registry.version_tagged(RETRAINING_RUN, run_id)
        left = {decisions.CHALLENGER: registry.number(version)} if version else {}
        if version and registry.standing().champion != registry.number(version):
            registry.archive(registry.number(version), reason)
        _tag(run_id, {**left, OUTCOME: outcome, OUTCOME_REASON: reason})
        raise


def _act(config: RetreinoConfig, scene: _Scene, run_id: str) -> Settled:
    with registry.taken_back_on_failure(), tempfile.TemporaryDirectory() as folder:
        lesson = make_lesson(scene.labels, scene.champion, config, Path(folder), run_id)
        learned = len(lesson.train) if lesson.compared_on is None else int(lesson.compared_on.sum())
        say("Challenger:", f"learns from {learned:,} labels beside the dev rows, tested on {len(lesson.test):,} later")
        with step_run(operation.TRAINING, config.training):
            contender, _ = learn(config.training, lesson)
            settled = settle(
                contender,
                lesson.test,
                seed=config.session_id,
                against=scene.version,
                most_log_loss=config.most_log_loss,
                least_gain=config.least_gain,
            )
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
    older, later = split_by_time(labels.tail(config.label_window), config.label_test_size)
    if older.empty or later.empty:
        message = (
            f"expected older labels to learn from and later ones that the champion has not learned from; found "
            f"{len(older):,} and {len(later):,}. Wait for more labels, or give another label_test_size."
        )
        raise LoopError(message)
    development_file = tables.development_table()
    development = pd.read_parquet(development_file)
    columns = [*FEATURES, TARGET]
    _refuse_development(labels[columns], development[columns])
    named = [*columns, SHOT_ID] if SHOT_ID in older else columns
    train = pd.concat([development[columns], older[named]], ignore_index=True).astype({TARGET: "int64"})
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
    return Lesson(train[columns], test, files, tags, weights, arrived)


def _refuse_development(labels: pd.DataFrame, development: pd.DataFrame) -> None:
    """Refuse labels that are dev rows for the greater part: the champion has learned from those."""
    known = pd.MultiIndex.from_frame(development.astype(float))
    share = float(np.mean(pd.MultiIndex.from_frame(labels.astype(float)).isin(known)))
    if share > _MOST_DEVELOPMENT:
        message = (
            f"expected labels of shots in operation; {share:.0%} of these are dev rows, which the champion has learned "
            "from. Give the rows that were scored later."
        )
        raise LoopError(message)


def weigh(
    development: int, arrived: int, weighting: str
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64] | None]:
    """Which of so many dev rows and then so many labels that arrived are labels, and what each row weighs.

    Balanced, labels weigh together as much as the dev rows, but none more than five of them: a tree makes leaves of a
    few heavy rows.

    Examples
    --------
    >>> weigh(4, 2, "balanced")[1].tolist()
    [1.0, 1.0, 1.0, 1.0, 2.0, 2.0]
    """
    is_arrived = np.arange(development + arrived) >= development
    weight = min(development / arrived, _MOST_WEIGHT)
    return is_arrived, np.where(is_arrived, weight, 1.0) if weighting == "balanced" else None


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
