"""Entry point ``monitoramento``: evaluate scored shots, with and without labels, and report a status."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AliasChoices, Field, model_validator
from rich.table import Table

from data.cli.console import console, info, warn
from data.preparation.manifest import PROD, TEST, TRAIN, prepared_path
from data.schema import MODEL_VERSION
from data.spark.session import session
from data.storage.files import sha256
from data.storage.locations import display_location, is_url, local_table, validate_location
from monitor import alerts
from monitor.drift import spark as spark_sketches
from monitor.drift.sketches import TableSketch
from monitor.health.baseline import ReferenceData
from monitor.health.baseline import baseline as reference_data
from monitor.health.checks import checks_of
from monitor.health.evaluation import Evaluation, ServingState, rows_of_version
from monitor.health.overlap import marked
from monitor.health.record import flatten_metrics, to_dict
from monitor.health.status import CheckStatus, HealthReport, HealthStatus, run_checks
from monitor.health.subject import Subject
from monitor.metrics.binary import METRICS
from monitor.reports.monitoring.report import report
from monitor.scored_tables import pieces, sketched
from monitor.store import commands, records, run_names, tables, tags
from monitor.store.model_store import current_store
from monitor.store.records import MonitoringRun
from serving import registry
from serving.client.probe import endpoint_info
from serving.inference_log import reader
from serving.inference_log.inference_log import TRAFFIC
from steps.scoring.config import BatchScoringConfig
from steps.scoring.scoring import score
from steps.shared.command import run_command
from steps.shared.current_data import APPLICATION, LOG, CurrentData, read_application, read_log, read_table
from steps.shared.data_origin import origin_tags, print_synthetic_warning
from steps.shared.engine_config import EngineConfig
from steps.shared.tracking import Dataset, Metrics, Record, Tags, Text, log_records, step_run
from steps.shared.validators import parse_timestamp, validate_endpoint, validate_log_url, validate_timestamp

RUN_NAME = run_names.MONITORING
ALARM_EXIT_CODE = 3
"""Exit code of the command if the status is as bad as ``fail_on``, or worse."""

_MARK = {
    CheckStatus.PASSED: "✓",
    CheckStatus.WARNING: "▲",
    CheckStatus.FAILED: "▲",
    CheckStatus.ERROR: "✗",
    CheckStatus.SKIPPED: "·",
}
_STYLE = {HealthStatus.HEALTHY: "bold green", HealthStatus.WARNING: "bold yellow", HealthStatus.RETRAIN: "bold red"}


def check_current(current: str) -> str:
    """Refuse anything but a known name or a table; a ValueError has what was expected."""
    if current in {APPLICATION, LOG, TRAIN, TEST}:
        return current
    try:
        return validate_location(current or "nothing")
    except ValueError as error:
        message = (
            f"expected {APPLICATION}, {LOG}, {TRAIN}, {TEST}, or a .parquet or .csv file, or another table; found "
            f"{display_location(current)!r}: {error}"
        )
        raise ValueError(message) from error


class MonitoramentoConfig(EngineConfig):
    """Compare scored rows with the champion's test rows; log every metric, a status and a report."""

    current: Annotated[str, AfterValidator(check_current)] = Field(
        default=APPLICATION,
        description=f"{APPLICATION} (the latest table that aplicacao scored), {LOG} (the inference log), "
        f"{TRAIN}, {TEST}, or a table of rows: a file, a folder or a table of a database",
    )
    reference: Literal["base_test", "base_train"] = Field(
        default="base_test", description="the labeled rows that the current rows are compared with"
    )
    since: Annotated[str, AfterValidator(validate_timestamp)] = Field(
        default="", description="start of the window of the log: an age (24h, 7d) or a timestamp in UTC; empty is open"
    )
    until: Annotated[str, AfterValidator(validate_timestamp)] = Field(
        default="", description="end of the window of the log, as since; empty is now"
    )
    log: Annotated[str, AfterValidator(validate_log_url)] = Field(
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
    endpoint: Annotated[str, AfterValidator(validate_endpoint)] = Field(
        default="", description="URL of the server whose health is checked; empty checks none"
    )
    fail_on: Literal["never", "warning", "retrain"] = Field(
        default="never",
        validation_alias=AliasChoices("fail_on", "fail-on"),
        description=f"status from which the command ends with exit code {ALARM_EXIT_CODE}",
    )

    @model_validator(mode="after")
    def check_engine_of_current(self) -> Self:
        """Refuse Spark for the log, which is a database."""
        if self.current == LOG and self.engine == "spark":
            message = (
                f"expected engine=local with current={LOG}; the log is a database, not a table that Spark reads in "
                "parts: write the rows to a Parquet file and pass that"
            )
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


def run(config: MonitoramentoConfig) -> MonitoringResult:
    """Evaluate, in a run of its own."""
    config.check()
    if config.rescore == "if_needed":
        _rescore()
    with step_run(RUN_NAME, config), ExitStack() as stack:
        champion = current_store().require_champion()
        registry.report_problems()
        log_records([origin_tags(champion.tags)])
        print_synthetic_warning(synthetic=champion.synthetic)
        source = config.current if config.current in {APPLICATION, LOG} else "table"
        log_records([Tags({tags.SOURCE: source, tags.REFERENCE: config.reference})])
        given = display_location(config.current)
        if config.current not in {APPLICATION, LOG, TRAIN, TEST}:
            path = stack.enter_context(local_table(config.current))
            config = config.model_copy(update={"current": str(path)})
        current = _read_current(config, champion.version)
        judged = rows_of_version(current.table, champion.version)
        if current.excluded:
            judged = judged._replace(excluded=dict(current.excluded))
        baseline = reference_data(current_store(), judged.version, config.reference)
        url = config.endpoint
        live = ServingState(datetime.now(UTC), current_store().champion(), url, endpoint_info(url) if url else None)
        counts = _counted(config, current, baseline)
        labels = None if current.labels is None else marked(judged.of(current.labels), baseline)
        evaluation = Evaluation(
            baseline, marked(judged.table, baseline), live, current.name, counts, judged.excluded, labels
        )
        with console.status("evaluating"):
            health = run_checks(evaluation, checks_of(evaluation.dataset))
            found = to_dict(evaluation, health)
        monitored = MonitoringResult(evaluation, health, found)
        history = _history(source)
        reference = tables.prepared_table(current_store(), config.reference, judged.version)
        log_records(_records(monitored, current, reference, given, history, synthetic=champion.synthetic))
        _show(monitored)
        _alert(monitored, history[0].health if history else "")
    return monitored


def _rescore() -> None:
    """Score prod with the champion, in a run of its own, unless it was scored by it last."""
    champion = registry.champion_number()
    found = current_store().last_batch_scoring_run()
    if found is None or found.model_version != champion:
        score(BatchScoringConfig(mode="batch"))


def _read_current(config: MonitoramentoConfig, version: str) -> CurrentData:
    """The scored shots that a configuration names; see `steps.shared.current_data`."""
    if config.current == LOG:
        now = reader.now()
        since, until = parse_timestamp(config.since, now), parse_timestamp(config.until, now)
        return read_log(config.log, since, until, origin=config.origin, max_rows=config.max_rows, version=version)
    if config.current == APPLICATION:
        return read_application(config.max_rows)
    is_prepared = config.current in {TRAIN, TEST}
    path = tables.prepared_table(current_store(), config.current) if is_prepared else Path(config.current)
    return read_table(path, config.max_rows, version)


def _counted(config: MonitoramentoConfig, current: CurrentData, baseline: ReferenceData) -> TableSketch | None:
    """Counts of all rows, where drift is not computed from the table in memory."""
    spark = config.engine == "spark"
    # The rows of other versions are not counted either.
    has_version = MODEL_VERSION in current.table and bool(current.table[MODEL_VERSION].notna().any())
    version = baseline.version if has_version and not current.in_memory else ""
    if current.path is None or not (spark or current.rows > len(current.table)):
        return None
    if not spark:
        with console.status(f"counting {current.rows:,} rows"):
            return baseline.sketcher.sketch_all(pieces(current.path, baseline.dataset, version))
    active = session(config.master)
    with console.status(f"counting {current.rows:,} rows by Spark"):
        if not current.in_memory:
            copies = prepared_path(PROD).parent
            return spark_sketches.sketch(active, current.path, baseline.sketcher, version, copies)
        held = current.table[[name for name in sketched(baseline.dataset) if name in current.table]]
        return spark_sketches.sketch_frame(active.createDataFrame(held), baseline.sketcher, current.path)


def _records(  # noqa: PLR0913 what a run holds
    monitored: MonitoringResult,
    current: CurrentData,
    reference: Path,
    given: str,
    history: Sequence[MonitoringRun],
    *,
    synthetic: bool,
) -> Iterator[Record]:
    health = monitored.health
    yield Tags({tags.HEALTH: str(health.status), tags.REASONS: "\n".join(health.reasons)[: records.MAX_TAG_LENGTH]})
    yield Tags({f"check_{result.code}": str(result.status) for result in health.results})
    yield Tags({tags.BATCH_SCORING_RUN: current.application_run, tags.CURRENT: current.name})
    yield Tags({tags.MODEL_VERSION: monitored.evaluation.version or "unknown"})
    yield Metrics(flatten_metrics(monitored.record))
    if current.path:
        source = given if is_url(given) else ""
        yield Dataset(current.path, current.table, "current", sha256(current.path), source=source)
    yield Dataset(reference, monitored.evaluation.baseline.table, "reference", sha256(reference))
    yield Text(records.MONITORING_RECORD, json.dumps(monitored.record, indent=2) + "\n")
    found = report(monitored.evaluation, monitored.record, synthetic=synthetic, history=history)
    yield Text(records.MONITORING_REPORT, found)


def _history(source: str) -> list[MonitoringRun]:
    """Earlier monitoring runs of the same data source that have a status, newest first."""
    return [run for run in current_store().monitoring_runs(source) if run.health]


def _alert(monitored: MonitoringResult, before: str) -> None:
    """Send an alert if the status has changed; a problem of its delivery is a warning."""
    try:
        settings = alerts.read_settings()
        alert = alerts.alert_of(monitored.record, before, settings)
        deliveries = alerts.deliver(alert, settings) if alert and settings.is_on else []
    except alerts.AlertError as error:
        warn(str(error))
        return
    for delivery in deliveries:
        if delivery.problem:
            warn(f"The alert was not delivered by {delivery.channel}: {delivery.problem}.")
        else:
            info("Alert:", f"delivered by {delivery.channel}")


def _show(monitored: MonitoringResult) -> None:
    health, evaluation = monitored.health, monitored.evaluation
    _show_metrics(monitored.record)
    table = Table("", "check", "result", "summary")
    for result in health.results:
        table.add_row(_MARK[result.status], f"{result.code} {result.title}", str(result.status), result.message)
    console.print(table)
    subject = Subject.of(evaluation)
    info("Evaluated:", subject.description)
    if evaluation.live.champion and not subject.is_about(evaluation.live.champion.version):
        info("Not the champion:", f"the champion is version {evaluation.live.champion.version}", style="bold yellow")
    info("Status:", health.status, style=_STYLE[health.status])
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
    status = run(config).health.status
    if config.fail_on != "never" and status.is_at_least(HealthStatus[config.fail_on.upper()]):
        sys.exit(ALARM_EXIT_CODE)


if __name__ == "__main__":
    run_command(MonitoramentoConfig, run_for_scheduler)
