"""Entry point ``monitoramento``: evaluate scored shots, with and without labels, and report a status."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import pandas as pd
import sqlalchemy as sql
from pydantic import AfterValidator, AliasChoices, Field, model_validator
from rich.table import Table

from data.cli.console import console, info
from data.preparation.manifest import TEST, TRAIN
from data.schema import MODEL_VERSION, PROBABILITY
from data.spark.session import session
from data.storage.files import display_path, sha256
from monitor.drift import spark as spark_counts
from monitor.drift.sketches import TableSketch
from monitor.health.baseline import ReferenceData
from monitor.health.baseline import baseline as reference_data
from monitor.health.checks import CHECKS
from monitor.health.evaluation import Evaluation, ServingState, judged_version, of_version
from monitor.health.overlap import marked
from monitor.health.record import flatten_metrics, to_dict
from monitor.health.subject import Subject
from monitor.health.verdict import HealthReport, Status, Verdict, run_checks
from monitor.metrics.binary import METRICS
from monitor.reports.monitoring.report import report
from monitor.scored_tables import COUNTED, pieces
from monitor.store import commands, records, run_names, tables, tags
from monitor.store.errors import TableError
from monitor.store.labels import flag_training_rows
from monitor.store.model_store import OF_BATCH_SCORING, OF_LOG, current_store
from serving import registry
from serving.batch.in_process import predict
from serving.client.probe import endpoint_info
from serving.inference_log import reader
from serving.inference_log.inference_log import ADDRESS_VARIABLE, ORIGINS, TRAFFIC
from steps import aplicacao
from steps.aplicacao import AplicacaoConfig, check_endpoint
from steps.aquisicao import print_synthetic_warning
from steps.shared.command import run_command
from steps.shared.engine_config import EngineConfig
from steps.shared.tracking import Dataset, Metrics, Record, Tags, Text, log_records, step_run

RUN_NAME = run_names.MONITORING
APPLICATION, LOG = OF_BATCH_SCORING, OF_LOG
ALARM_EXIT_CODE = 3
"""Exit code of the command if the status is as bad as ``fail_on``, or worse."""

_TABLE_KINDS = (".parquet", ".csv")
_MAX_TAG_LENGTH = 5_000
_MAX_ROUNDING = 1e-4
"""Tolerance for P(made) that was rounded when it was written as text."""
_MARK = {Status.FINE: "✓", Status.FINDING: "▲", Status.ERROR: "✗", Status.NOT_APPLICABLE: "·"}
_STYLE = {Verdict.HEALTHY: "bold green", Verdict.WATCH: "bold yellow", Verdict.RETRAIN: "bold red"}


def check_current(current: str) -> str:
    """Refuse anything but a known name or a table.

    Raises
    ------
    ValueError
        With what was expected.
    """
    if current in {APPLICATION, LOG, TRAIN, TEST}:
        return current
    if current and (Path(current).is_dir() or Path(current).suffix in _TABLE_KINDS):
        return current
    message = (
        f"expected {APPLICATION}, {LOG}, {TRAIN}, {TEST}, or a .parquet or .csv file, or a folder of Parquet files; "
        f"found {current!r}"
    )
    raise ValueError(message)


def check_timestamp(text: str) -> str:
    """Refuse anything but a timestamp or an age.

    Raises
    ------
    ValueError
        With what was expected.
    """
    parse_timestamp(text, reader.now())
    return text


def parse_timestamp(text: str, now: datetime) -> datetime | None:
    """The timestamp of a text, UTC without a zone; None for an empty one.

    Examples
    --------
    >>> parse_timestamp("24h", datetime(2026, 11, 22, 12)).isoformat()
    '2026-11-21T12:00:00'
    >>> parse_timestamp("2026-11-01", datetime(2026, 11, 22)).isoformat()
    '2026-11-01T00:00:00'
    """
    if not text:
        return None
    try:
        if text[-1].isalpha() and text[-1] != "Z":
            return now - pd.Timedelta(text).to_pytimedelta()
        timestamp = datetime.fromisoformat(text)
        return timestamp.astimezone(UTC).replace(tzinfo=None) if timestamp.tzinfo else timestamp
    except (AttributeError, OverflowError, ValueError) as error:  # pandas takes "nat" for an age that is not known
        message = f"expected an age such as 24h or 7d, or a timestamp such as 2026-11-22T08:00 (UTC); found {text!r}"
        raise ValueError(message) from error


def check_log(text: str) -> str:
    """Refuse a URL with a password: the run would log it.

    Raises
    ------
    ValueError
        Without the secret.
    """
    with suppress(sql.exc.ArgumentError):
        url = sql.make_url(text)
        if url.password or any("pass" in key or "secret" in key or "token" in key for key in map(str.lower, url.query)):
            message = f"expected a URL without a password, which the run would log; set it in {ADDRESS_VARIABLE}"
            raise ValueError(message)
    return text


class MonitoramentoConfig(EngineConfig):
    """Compare scored shots with the champion's test rows; log every metric, a status and a report."""

    current: Annotated[str, AfterValidator(check_current)] = Field(
        default=APPLICATION,
        description=f"{APPLICATION} (the latest table that aplicacao scored), {LOG} (the inference log), "
        f"{TRAIN}, {TEST}, or a .parquet or .csv table of shots, or a folder of Parquet parts",
    )
    reference: Literal["base_test", "base_train"] = Field(
        default="base_test", description="the labeled rows that the current rows are compared with"
    )
    since: Annotated[str, AfterValidator(check_timestamp)] = Field(
        default="", description="start of the window of the log: an age (24h, 7d) or a timestamp in UTC; empty is open"
    )
    until: Annotated[str, AfterValidator(check_timestamp)] = Field(
        default="", description="end of the window of the log, as since; empty is now"
    )
    log: Annotated[str, AfterValidator(check_log)] = Field(
        default="", description="SQLAlchemy URL of the log; empty takes $KOBE_INFERENCE_LOG, else inference_log.db"
    )
    origin: Literal["traffic", "what_if", "upload", "probe", "all"] = Field(
        default="traffic", description="origin of the requests of the log: production traffic, or another"
    )
    max_rows: int = Field(
        default=100_000,
        ge=1,
        description="rows that are evaluated; of a larger table a systematic sample is, but drift uses all rows of "
        "the table; of a larger log the latest labels are evaluated, at most as many",
    )
    rescore: Literal["never", "if_needed"] = Field(
        default="never",
        description=f"if_needed, with current={APPLICATION}: score prod again first if another version than the "
        "champion scored it last, so that the status is about the champion",
    )
    endpoint: Annotated[str, AfterValidator(check_endpoint)] = Field(
        default="", description="URL of the server whose health is checked; empty checks none"
    )
    fail_on: Literal["never", "watch", "retrain"] = Field(
        default="never",
        validation_alias=AliasChoices("fail_on", "fail-on"),
        description=f"status from which the command ends with exit code {ALARM_EXIT_CODE}",
    )

    @model_validator(mode="after")
    def check_engine_of_current(self) -> Self:
        """Refuse Spark for the log, which is a database, and for CSV."""
        if self.current == LOG and self.engine == "spark":
            message = (
                f"expected engine=local with current={LOG}; the log is a database, not a table that Spark reads in "
                "parts: write the rows to a Parquet file and pass that"
            )
            raise ValueError(message)
        path = Path(self.current)
        if self.engine == "spark" and path.suffix == ".csv" and not path.is_dir():
            message = f"expected Parquet for current with engine=spark; found {path.name}. Use engine=local"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def check_rescore(self) -> Self:
        """Refuse to score anything but prod again."""
        if self.rescore != "never" and self.current != APPLICATION:
            message = f"expected rescore with current={APPLICATION} only; found current={self.current}"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def check_window(self) -> Self:
        """Refuse a window or URL of a log that is not read, and a window that ends before it starts."""
        if self.current != LOG and (self.since or self.until or self.log or self.origin != TRAFFIC):
            message = f"expected since, until, origin and log with current={LOG} only; found current={self.current}"
            raise ValueError(message)
        now = reader.now()
        since, until = parse_timestamp(self.since, now), parse_timestamp(self.until, now)
        if since and until and until <= since:
            message = f"expected since before until; found {self.since} and {self.until}"
            raise ValueError(message)
        return self


@dataclass(frozen=True)
class MonitoringResult:
    """An evaluation and the results of its checks."""

    evaluation: Evaluation
    health: HealthReport
    record: dict[str, Any]


@dataclass(frozen=True)
class Current:
    """Scored shots, their name, and their file and run where there are any.

    ``rows`` counts all of them, also where ``table`` is a sample. With ``in_memory`` the predictions are only
    in ``table``, not in a file. ``labels`` holds the labeled rows where ``table`` holds only some of them.
    ``excluded`` counts the rows of other versions, by version, where ``table`` was read without them.
    """

    table: pd.DataFrame
    path: Path | None
    name: str
    rows: int
    application_run: str = ""
    in_memory: bool = False
    labels: pd.DataFrame | None = None
    excluded: Mapping[str, int] | None = None


def run(config: MonitoramentoConfig) -> MonitoringResult:
    """Evaluate, in a run of its own."""
    config.check()
    if config.rescore == "if_needed":
        _rescore()
    with step_run(RUN_NAME, config):
        champion = registry.require_champion()
        registry.report_problems()
        version, synthetic = registry.number(champion), champion.tags.get("synthetic") == "true"
        log_records([Tags({name: champion.tags.get(name, "unknown") for name in ("data_source", "synthetic")})])
        print_synthetic_warning(synthetic=synthetic)
        source = config.current if config.current in {APPLICATION, LOG} else "table"
        log_records([Tags({tags.SOURCE: source, tags.REFERENCE: config.reference})])
        current = read_current(config, version)
        judged = of_version(current.table, version)
        if current.excluded:
            judged = judged._replace(left_out=dict(current.excluded))
        baseline = reference_data(current_store(), judged.version, config.reference)
        url = config.endpoint
        live = ServingState(datetime.now(UTC), current_store().champion(), url, endpoint_info(url) if url else None)
        counts = _counted(config, current, baseline)
        labels = None if current.labels is None else marked(judged.of(current.labels), baseline)
        evaluation = Evaluation(
            baseline, marked(judged.table, baseline), live, current.name, counts, judged.left_out, labels
        )
        with console.status("evaluating"):
            health = run_checks(evaluation, CHECKS)
            found = to_dict(evaluation, health)
        monitored = MonitoringResult(evaluation, health, found)
        reference = tables.prepared_table(current_store(), config.reference, judged.version)
        log_records(_records(monitored, current, reference, synthetic=synthetic))
        _show(monitored)
    return monitored


def _rescore() -> None:
    """Score prod with the champion, in a run of its own, unless it was scored by it last."""
    champion = registry.number(registry.require_champion())
    found = current_store().last_batch_scoring_run()
    if found is None or found.model_version != champion:
        aplicacao.run(AplicacaoConfig(mode="batch"))


def read_current(config: MonitoramentoConfig, version: str) -> Current:
    """The scored shots that a configuration names.

    Parameters
    ----------
    config : MonitoramentoConfig
        Only ``current``, ``max_rows`` and the window of the log are used.
    version : str
        The champion: its rows of the log are read if it scored any, and it scores a table without predictions.

    Raises
    ------
    TableError, LogError
        If they are missing or damaged, or too many to score in this process.
    """
    if config.current == LOG:
        found = _logged(config, version)
    elif config.current == APPLICATION:
        run_id = tables.last_batch_scoring(current_store()).run_id
        path = tables.scored_table(current_store(), run_id)
        table, rows = tables.read_sample(path, config.max_rows)
        found = Current(table, path, "prod", rows, run_id)
    else:
        path = (
            tables.prepared_table(current_store(), config.current)
            if config.current in {TRAIN, TEST}
            else Path(config.current)
        )
        found = _of_table(path, config.max_rows, version)
    labels = None if found.labels is None else flag_training_rows(current_store(), found.labels)
    return replace(found, table=flag_training_rows(current_store(), found.table), labels=labels)


def _of_table(path: Path, max_rows: int, version: str) -> Current:
    table, rows = tables.read_sample(path, max_rows)
    if PROBABILITY in table:
        _check_scores(table, path, version)
        return Current(table, path, path.stem, rows)
    if rows > max_rows:
        message = (
            f"{display_path(path)}: expected a column {PROBABILITY} in a table of more than {max_rows:,} rows; found "
            f"{rows:,} rows without predictions. Score it: mlflow run . -e aplicacao -P mode=batch -P table={path} "
            "-P out=scored.parquet"
        )
        raise TableError(message)
    return Current(predict(table, version), path, path.stem, rows, in_memory=True)


def _check_scores(table: pd.DataFrame, path: Path, version: str) -> None:
    """Refuse P(made) of an unknown version: it would be evaluated as the champion's.

    Raises
    ------
    TableError
        If the table has no model_version, and the champion's predictions differ.
    """
    if MODEL_VERSION in table and table[MODEL_VERSION].notna().any():
        return
    again = predict(table.drop(columns=MODEL_VERSION, errors="ignore"), version)[PROBABILITY]
    other = int((~np.isclose(table[PROBABILITY], again, rtol=0, atol=_MAX_ROUNDING)).sum())
    if other:
        message = (
            f"{display_path(path)}: expected a column {MODEL_VERSION}, or predictions of champion version {version}; "
            f"found neither: {other:,} of {len(table):,} rows have another {PROBABILITY}. Drop {PROBABILITY}, and "
            "the champion scores the rows"
        )
        raise TableError(message)


def _counted(config: MonitoramentoConfig, current: Current, baseline: ReferenceData) -> TableSketch | None:
    """Counts of all rows, where drift is not computed from the table in memory."""
    spark = config.engine == "spark"
    # The rows of other versions are not counted either.
    has_version = MODEL_VERSION in current.table and bool(current.table[MODEL_VERSION].notna().any())
    version = baseline.version if has_version and not current.in_memory else ""
    if current.path is None or not (spark or current.rows > len(current.table)):
        return None
    if not spark:
        with console.status(f"counting {current.rows:,} rows"):
            return baseline.counting.count_all(pieces(current.path, version))
    active = session(config.master)
    with console.status(f"counting {current.rows:,} rows by Spark"):
        if not current.in_memory:
            return spark_counts.count(active, current.path, baseline.counting, version)
        held = current.table[[name for name in COUNTED if name in current.table]]
        return spark_counts.count_frame(active.createDataFrame(held), baseline.counting, current.path)


def _logged(config: MonitoramentoConfig, champion: str) -> Current:
    now = reader.now()
    since, until = parse_timestamp(config.since, now), parse_timestamp(config.until, now)
    engine = reader.open_log(reader.log_url(config.log))
    origins = ORIGINS if config.origin == "all" else (config.origin,)
    counted = reader.versions(engine, since, until, origins=origins)
    if not counted:
        message = (
            f"the inference log holds no row of origin {config.origin} in this window; give another since, until or "
            "origin, or score something"
        )
        raise reader.LogError(message)
    version = judged_version(counted, champion)
    # Of a sample of all rows only a few would be those of a version that has just been promoted.
    table = reader.read(engine, since, until, max_rows=config.max_rows, origins=origins, version=version)
    rows = counted.pop(version)
    ends = [
        timestamp.isoformat(sep=" ", timespec="minutes") for timestamp in (table["time"].min(), table["time"].max())
    ]
    name = f"log, {ends[0]} to {ends[1]}" + (f", {config.origin}" if config.origin != TRAFFIC else "")
    if rows <= config.max_rows:
        return Current(table, None, name, rows, excluded=counted)
    labels = reader.read_labelled(engine, since, until, max_rows=config.max_rows, origins=origins, version=version)
    name = f"{name}, {len(table):,} of {rows:,} rows"
    return Current(table, None, name, len(table), labels=labels, excluded=counted)


def _records(monitored: MonitoringResult, current: Current, reference: Path, *, synthetic: bool) -> Iterator[Record]:
    health = monitored.health
    yield Tags({tags.HEALTH: str(health.verdict), tags.REASONS: "\n".join(health.reasons)[:_MAX_TAG_LENGTH]})
    yield Tags({f"check_{outcome.code}": str(outcome.status) for outcome in health.outcomes})
    yield Tags({tags.BATCH_SCORING_RUN: current.application_run, tags.CURRENT: current.name})
    yield Tags({tags.MODEL_VERSION: monitored.evaluation.version or "unknown"})
    yield Metrics(flatten_metrics(monitored.record))
    if current.path:
        yield Dataset(current.path, current.table, "current", sha256(current.path))
    yield Dataset(reference, monitored.evaluation.baseline.table, "reference", sha256(reference))
    yield Text(records.MONITORING_RECORD, json.dumps(monitored.record, indent=2) + "\n")
    yield Text(records.MONITORING_REPORT, report(monitored.evaluation, monitored.record, synthetic=synthetic))


def _show(monitored: MonitoringResult) -> None:
    health, evaluation = monitored.health, monitored.evaluation
    _show_metrics(monitored.record)
    table = Table("", "check", "result", "summary")
    for outcome in health.outcomes:
        severity = f", {outcome.severity}" if outcome.severity else ""
        table.add_row(
            _MARK[outcome.status], f"{outcome.code} {outcome.title}", f"{outcome.status}{severity}", outcome.words
        )
    console.print(table)
    subject = Subject.of(evaluation)
    info("Evaluated:", subject.words)
    if evaluation.live.champion and not subject.is_about(evaluation.live.champion.version):
        info("Not the champion:", f"the champion is version {evaluation.live.champion.version}", style="bold yellow")
    info("Status:", health.verdict, style=_STYLE[health.verdict])
    for reason in health.reasons:
        info("  ", reason, style="")
    page = f", or {commands.app()}" if commands.at_hand() else ""
    info("Report:", f"report.html of run Monitoramento ({commands.runs_page()}){page}", style="")


def _show_metrics(found: dict[str, Any]) -> None:
    sides = {side: found["metrics"][side] for side in ("reference", "current") if found["metrics"][side]}
    table = Table("metric", *(f"{found[side]['name']}, {sides[side]['rows']:,} labeled rows" for side in sides))
    for name in METRICS:
        intervals = [measured["metrics"].get(name) for measured in sides.values()]
        table.add_row(name, *(_format_interval(interval) if interval else "not defined" for interval in intervals))
    console.print(table)


def _format_interval(interval: dict[str, float | None]) -> str:
    if interval["low"] is None or interval["high"] is None:
        return f"{interval['value']:.4f}"
    return f"{interval['value']:.4f} (95%: {interval['low']:.4f} to {interval['high']:.4f})"


def run_for_scheduler(config: MonitoramentoConfig) -> None:
    """Evaluate, and end the process with exit code 3 if the status is as bad as ``fail_on`` or worse."""
    verdict = run(config).health.verdict
    if config.fail_on != "never" and verdict.is_at_least(Verdict(config.fail_on)):
        sys.exit(ALARM_EXIT_CODE)


if __name__ == "__main__":
    run_command(MonitoramentoConfig, run_for_scheduler)
