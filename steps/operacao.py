"""Entry point ``operacao``: backtest the retraining policy versus never- and always-retrain.

It works on a registered model of its own, ``kobe_shot_backtest``, which each backtest recreates: the model served as
``kobe_shot`` does not change.
"""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import AfterValidator, Field
from rich.table import Table

from data.cli.console import console, info, suppress_output
from data.datasets import current
from data.errors import KobeShotError, SchemaError
from data.preparation.manifest import PROD, TRAIN, read_manifest, read_prepared
from data.schema import MODEL_VERSION, PREDICTION, PROBABILITY
from data.storage.files import write_parquet
from monitor.charts import static
from monitor.health.status import HealthStatus
from monitor.metrics.binary import log_loss_by_row
from monitor.retraining import backtest
from monitor.retraining.backtest import (
    ALARM,
    ALWAYS,
    NEVER,
    POLICY,
    PROMOTION,
    REJECTION,
    STRATEGIES,
    TRAINING,
    Batch,
    Event,
    PolicyBacktest,
    StrategyResult,
)
from monitor.retraining.policy import Origin
from monitor.store import commands, run_names, tags
from monitor.store.labels import sort_by_time
from monitor.store.model_store import current_store
from serving import registry
from serving.batch.in_process import predict
from serving.client.cli import score
from serving.client.load_probe import LoadProbe
from serving.client.probe import endpoint_info
from serving.server.subprocesses import run_production_server
from steps import aquisicao, preparacao, treinamento
from steps.aquisicao import AquisicaoConfig
from steps.monitoramento import MonitoramentoConfig
from steps.monitoramento import run as monitor
from steps.preparacao import PreparacaoConfig, SplitConfig
from steps.retraining.config import RetrainingConfig, RetreinoConfig
from steps.retraining.training_set import training_data
from steps.retreino import RetrainingResult
from steps.retreino import run as retrain
from steps.shared.command import part, run_command
from steps.shared.data_origin import data_tags, print_provenance
from steps.shared.tracking import FigureRecord, Metrics, Record, Tags, Text, log_records, step_run
from steps.training.config import TrainingConfig, models_of
from steps.training.selection import tuner_of
from steps.training.tuning import MODEL_NAMES, Candidate, select_best
from steps.treinamento import TreinamentoConfig

RUN_NAME = run_names.BACKTEST
SUFFIX = "_backtest"
_RELOAD_SECONDS = 60.0
_POLL_SECONDS = 0.1
_PLOT = Path(backtest.FILE).stem
_MAX_ROWS_MONITORED = 2_000
_MIN_BATCHES = 3


class BacktestError(KobeShotError):
    """A policy backtest that cannot run."""


def check_start(start: str) -> str:
    """Reject an unknown id with a ValueError that names the expected ones."""
    if start and start not in MODEL_NAMES:
        message = f"expected nothing, or one of {', '.join(MODEL_NAMES)}; found {start!r}"
        raise ValueError(message)
    return start


def decided_at(day: str, present: datetime) -> str:
    """Time of a decision about the games of a day in UTC: the end of that day, or now if it has not ended.

    Examples
    --------
    >>> decided_at("2016-04-13", datetime(2026, 11, 26, 18, 45))
    '2016-04-13T23:59'
    >>> decided_at("2026-11-26", datetime(2026, 11, 26, 18, 45))
    '2026-11-26T18:45'
    """
    return min(datetime.fromisoformat(f"{day}T23:59"), present).isoformat(timespec="minutes")


class OperacaoConfig(RetrainingConfig, SplitConfig, AquisicaoConfig):
    """Backtest the retraining policy: prod shots by game date, scored through a live endpoint, with delayed labels."""

    initial_model: Annotated[str, AfterValidator(check_start)] = Field(
        default="", description="PyCaret's id of the first champion, such as lr or dt; empty selects among models"
    )
    batch_size: int = Field(default=500, ge=50, description="shots per batch")
    label_delay: int = Field(default=1, ge=0, description="batches until the labels of a batch become available")


@dataclass
class _Operation:
    """A policy backtest in progress.

    Attributes
    ----------
    config : OperacaoConfig
    url : str
        URL of the live endpoint.
    folder : pathlib.Path
        Folder of the tables that the steps read.
    run_id : str
        Run of the backtest.
    """

    config: OperacaoConfig
    url: str
    folder: Path
    run_id: str
    scored: list[pd.DataFrame] = field(default_factory=list)
    statuses: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def process_batch(self, batch: pd.DataFrame) -> str:
        """Score a batch, reveal delayed labels, monitor, decide, and wait for a promotion; return a summary."""
        predictions = score(batch, self.url)
        made = {
            PREDICTION: predictions[current().target.name],
            PROBABILITY: predictions[PROBABILITY],
            MODEL_VERSION: predictions[MODEL_VERSION],
        }
        self.scored.append(batch.assign(**made))
        number, arrived = len(self.scored), self._arrived()
        with suppress_output():
            status = str(self._monitor(arrived))
            retrained = self._retrain(arrived, batch)
        self.statuses.append(status)
        self.events += _events(number, status, retrained)
        if retrained.promotion and retrained.promotion.promoted:
            self._wait_for(registry.champion_number())
        return f"status {status}; decision {retrained.number}: {_describe(retrained)}"

    def _arrived(self) -> pd.DataFrame:
        """All scored rows, with the labels that are available by now."""
        known = len(self.scored) - self.config.label_delay
        parts = [
            rows if place < known else rows.assign(**{current().target.name: float("nan")})
            for place, rows in enumerate(self.scored)
        ]
        return pd.concat(parts, ignore_index=True)

    def _monitor(self, arrived: pd.DataFrame) -> object:
        by_champion = arrived[MODEL_VERSION] == int(registry.champion_number())
        rows = arrived[by_champion] if by_champion.any() else arrived
        path = self.folder / "current.parquet"
        write_parquet(rows.tail(_MAX_ROWS_MONITORED), path)
        return monitor(MonitoramentoConfig(current=str(path), endpoint=self.url)).health.status

    def _retrain(self, arrived: pd.DataFrame, batch: pd.DataFrame) -> RetrainingResult:
        path = self.folder / "arrived.parquet"
        write_parquet(arrived, path)
        as_of = decided_at(str(batch[_time()].iloc[-1]), datetime.now(UTC).replace(tzinfo=None))
        retrained = retrain(
            RetreinoConfig(
                **part(RetrainingConfig, self.config).model_dump(), approval="none", current=str(path), as_of=as_of
            )
        )
        store = current_store()
        store.set_tags(store.decisions(limit=1)[0].run_id, {tags.BACKTEST: self.run_id})
        return retrained

    def _wait_for(self, version: str) -> None:
        """Wait until the endpoint serves a version.

        Raises
        ------
        BacktestError
            If it serves another version after a minute.
        """
        deadline = time.monotonic() + _RELOAD_SECONDS
        while True:
            found = endpoint_info(self.url)
            if found and found.version == version:
                return
            if time.monotonic() > deadline:
                message = f"{self.url} does not serve version {version} within {_RELOAD_SECONDS:.0f} s."
                raise BacktestError(message)
            time.sleep(_POLL_SECONDS)


def run(config: OperacaoConfig) -> PolicyBacktest:
    """Run the backtest in its own MLflow run."""
    with step_run(RUN_NAME, config) as active, registry.use_model_name(f"{registry.model()}{SUFFIX}"):
        log_records([Tags({tags.DECISION_MODEL: registry.model()})])
        provenance = aquisicao.run(part(AquisicaoConfig, config))
        log_records([data_tags(provenance)])
        with suppress_output():
            preparacao.run(PreparacaoConfig(test_size=config.test_size, seed=config.seed))
        batches = _batches(read_prepared(read_manifest(), PROD), config.batch_size)
        info(
            "Backtest on",
            f"{sum(map(len, batches)):,} {current().rows} in {len(batches)} batches, as {registry.model()}",
        )
        _start(config)
        with tempfile.TemporaryDirectory() as folder:
            operation, probe = _operate(config, batches, Path(folder), active.info.run_id)
        backtested = _compare(config, operation, str(provenance.location))
        log_records(_records(backtested, probe))
        _show(backtested, probe)
    if provenance.is_synthetic:
        print_provenance(provenance)
    return backtested


def _time() -> str:
    """Name of the column that orders the rows of the dataset of this process."""
    column = current().time
    return column.name if column else ""


def _first_row(batch: pd.DataFrame) -> dict[str, Any]:
    """The features of the first row, as a request has them."""
    row: dict[str, Any] = batch[list(current().feature_names)].iloc[0].to_dict()
    return {name: None if pd.isna(value) else value for name, value in row.items()}


def _batches(prod: pd.DataFrame, rows: int) -> list[pd.DataFrame]:
    day = current().time
    if day is None or day.name not in prod:
        named = f"{day.name}, a column" if day else "a column of role 'time',"
        message = f"A backtest sorts {current().rows} by {named} that the raw prod file does not have."
        raise SchemaError(message)
    ordered = sort_by_time(prod.sort_values(current().id.name), PROD)
    last, today = str(ordered[_time()].iloc[-1]), f"{datetime.now(UTC):%Y-%m-%d}"
    if last > today:
        message = (
            f"expected {current().rows} up to today, {today} UTC; found one of {last}. Each decision is dated at the "
            f"day of its last row: correct {_time()}, or drop these {current().rows}."
        )
        raise BacktestError(message)
    batches = [ordered.iloc[first : first + rows] for first in range(0, len(ordered), rows)]
    labeled = int(ordered[current().target.name].notna().sum())
    if len(batches) < _MIN_BATCHES or not labeled:
        message = (
            f"expected at least {_MIN_BATCHES} batches and some labels; found {len(ordered):,} prod shots, "
            f"{labeled:,} labeled, in batches of {rows:,}. Give a smaller batch_size, or another source."
        )
        raise BacktestError(message)
    return batches


def _start(config: OperacaoConfig) -> None:
    """Train the first champion on dev rows only, as ``main`` does, for a new registered model."""
    current_store().delete_model()
    training = part(TrainingConfig, config).model_copy(update={"models": config.initial_model or config.models})
    # The registered model of a backtest is its own, and no person waits for it.
    trained = treinamento.run(TreinamentoConfig(**training.model_dump(), approval="none"))
    if registry.champion() is None:
        message = f"There is no champion to start with: version {trained.version} was {trained.note}."
        raise registry.RegistryError(message)


def _operate(
    config: OperacaoConfig, batches: list[pd.DataFrame], folder: Path, run_id: str
) -> tuple[_Operation, LoadProbe]:
    columns = [current().id.name, _time(), *current().feature_names]
    group = current().group
    if group and group.name in batches[0]:
        # Folds, intervals and the gate of a retraining keep groups whole.
        columns.append(group.name)
    with (
        console.status("starting the endpoint"),
        run_production_server() as url,
        LoadProbe(url, _first_row(batches[0])) as probe,
    ):
        operation = _Operation(config, url, folder, run_id)
        for number, batch in enumerate(batches, 1):
            with console.status(f"batch {number} of {len(batches)}"):
                summary = operation.process_batch(batch[[*columns, current().target.name]])
            info(f"  batch {number}/{len(batches)}", f"to {batch[_time()].iloc[-1]}: {summary}", style="")
    return operation, probe


def _compare(config: OperacaoConfig, operation: _Operation, source: str) -> PolicyBacktest:
    """Compare with the same batches without retraining, and with a training after each batch."""
    tables = operation.scored
    everything = pd.concat(tables, ignore_index=True)
    never = np.split(predict(everything, "1")[PROBABILITY].to_numpy(), np.cumsum([len(rows) for rows in tables])[:-1])
    every, trainings = _retrained_always(config, tables, never[0])
    made = {POLICY: [rows[PROBABILITY].to_numpy() for rows in tables], NEVER: never, ALWAYS: every}
    batches = tuple(
        _batch(place, rows, {name: made[name][place] for name in STRATEGIES}, operation.statuses[place])
        for place, rows in enumerate(tables)
    )
    events = tuple(operation.events)
    counted = {kind: sum(event.kind == kind for event in events) for kind in (TRAINING, PROMOTION)}
    numbers = {POLICY: (counted[TRAINING], counted[PROMOTION]), NEVER: (0, 0), ALWAYS: (trainings, trainings)}
    strategies = {
        name: StrategyResult(
            log_loss=backtest.prequential(batches, name), trainings=numbers[name][0], promotions=numbers[name][1]
        )
        for name in STRATEGIES
    }
    return PolicyBacktest(
        source=source,
        batch_size=config.batch_size,
        label_delay=config.label_delay,
        batches=batches,
        events=events,
        strategies=strategies,
    )


def _retrained_always(
    config: OperacaoConfig, tables: list[pd.DataFrame], first: npt.NDArray[np.float64]
) -> tuple[list[npt.NDArray[np.float64]], int]:
    """P(made) of each batch by a model trained on all labels available before it, and the number of trainings."""
    development = read_prepared(read_manifest(), TRAIN)
    predictions, trainings = [first], 0
    model: Candidate | None = None
    for number in range(1, len(tables) + 1):
        arrived = pd.concat(tables[: max(0, number - config.label_delay)] or [tables[0].head(0)], ignore_index=True)
        labels = arrived[arrived[current().target.name].notna()]
        if len(labels) >= config.cv_folds:
            with console.status(f"for comparison: retraining after batch {number} of {len(tables)}"):
                model = _train(config, development, labels)
            trainings += 1
        if number < len(tables):
            rows = tables[number]
            predictions.append(model.probability(rows) if model else predict(rows, "1")[PROBABILITY].to_numpy())
    return predictions, trainings


def _train(config: OperacaoConfig, development: pd.DataFrame, labels: pd.DataFrame) -> Candidate:
    dataset = current()
    rows = training_data(development, Origin(labels, labels.head(0)), dataset, config.weighting)
    tuner = tuner_of(rows, config)
    ids = tuner.ids(models_of(config.models, dataset))
    return select_best([tuner.tune(model_id) for model_id in ids], config.criterion)


def _batch(place: int, rows: pd.DataFrame, made: dict[str, npt.NDArray[np.float64]], status: str) -> Batch:
    known = rows[current().target.name].notna().to_numpy()
    labels = rows.loc[known, current().target.name]
    losses = {
        name: float(log_loss_by_row(labels, predictions[known]).mean()) if len(labels) else None
        for name, predictions in made.items()
    }
    return Batch(
        number=place + 1,
        since=str(rows[_time()].iloc[0]),
        until=str(rows[_time()].iloc[-1]),
        rows=len(rows),
        labeled=len(labels),
        version=str(rows[MODEL_VERSION].iloc[0]),
        status=status,
        **losses,
    )


def _events(number: int, status: str, retrained: RetrainingResult) -> Iterator[Event]:
    if status == HealthStatus.RETRAIN:
        yield Event(batch=number, kind=ALARM, summary=f"status {status}")
    if retrained.promotion is None:
        return
    yield Event(batch=number, kind=TRAINING, summary=retrained.decision.reasons[0])
    kind = PROMOTION if retrained.promotion.promoted else REJECTION
    yield Event(batch=number, kind=kind, summary=retrained.promotion.gate_result.reason)


def _describe(retrained: RetrainingResult) -> str:
    if retrained.promotion is None:
        return f"{retrained.decision.decision}, {retrained.decision.reasons[0]}"
    status = retrained.promotion.gate_result
    return (
        f"{retrained.outcome} ({status.loss:.4f} against {status.reference_loss:.4f} on the same {status.rows:,} rows)"
    )


def _records(backtested: PolicyBacktest, probe: LoadProbe) -> Iterator[Record]:
    for name, strategy in backtested.strategies.items():
        yield Metrics({f"log_loss_{name}": strategy.log_loss, f"trainings_{name}": float(strategy.trainings)})
    yield Metrics({"requests": float(probe.succeeded), "requests_failed": float(probe.failed)})
    for batch in backtested.batches:
        found = {f"batch_log_loss_{name}": getattr(batch, name) for name in STRATEGIES}
        yield Metrics({name: loss for name, loss in found.items() if loss is not None}, batch.number)
    yield Text(backtest.FILE, backtested.model_dump_json(indent=2) + "\n")
    yield FigureRecord(_PLOT, static.policy_backtest(backtested.model_dump()))


def _show(backtested: PolicyBacktest, probe: LoadProbe) -> None:
    table = Table("strategy", "prequential log_loss", "trainings", "promotions", title="operacao: done")
    for name, words in STRATEGIES.items():
        strategy = backtested.strategies[name]
        table.add_row(words, f"{strategy.log_loss:.4f}", str(strategy.trainings), str(strategy.promotions))
    console.print(table)
    labeled = sum(batch.labeled for batch in backtested.batches)
    info("Measured", f"on {labeled:,} labeled {current().rows}, each scored by the champion at its time")
    info("Endpoint:", f"{probe.succeeded:,} further requests meanwhile, {probe.failed} failed")
    info(
        "Plot:",
        f"{tags.PLOTS}/{_PLOT}.png of run Operacao ({commands.runs_page()})"
        + (f", or page Champions of the app ({commands.make('monitor')})" if commands.at_hand() else ""),
        style="",
    )


if __name__ == "__main__":
    run_command(OperacaoConfig, run, exclusive="operacao")
