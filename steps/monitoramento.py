"""Entry point ``monitoramento``: look at scored shots, with labels and without, and come to a verdict."""

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
from monitor.store import commands, runs, tables
from monitor.store.labels import flag_training_rows
from monitor.store.listings import served
from serving import registry
from serving.batch.in_process import predict
from serving.inference_log import reader
from serving.inference_log.inference_log import ADDRESS_VARIABLE, ORIGINS, TRAFFIC
from steps import aplicacao
from steps.aplicacao import AplicacaoConfig, check_endpoint
from steps.aquisicao import print_synthetic_warning
from steps.shared.command import run_command
from steps.shared.engine_config import EngineConfig
from steps.shared.tracking import Dataset, Metrics, Record, Tags, Text, log_records, step_run

RUN_NAME = runs.MONITORING
APPLICATION, LOG = runs.OF_APPLICATION, runs.OF_LOG
ALARM_EXIT_CODE = 3
"""What the command ends with when the verdict is as bad as ``fail_on`` says, or worse."""

_TABLE_KINDS = (".parquet", ".csv")
_MOST_TAG_LENGTH = 5_000
_MOST_ROUNDED = 1e-4
"""P(made) may have been rounded where it was written as text."""
_MARK = {Status.FINE: "✓", Status.FINDING: "▲", Status.ERROR: "✗", Status.NOT_APPLICABLE: "·"}
_STYLE = {Verdict.HEALTHY: "bold green", Verdict.WATCH: "bold yellow", Verdict.RETRAIN: "bold red"}


def check_current(current: str) -> str:
    """Refuse what is neither a name nor a table.

    Raises
    ------
    ValueError
        Says what is expected.
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


def check_moment(text: str) -> str:
    """Refuse what is neither a moment nor an age.

    Raises
    ------
    ValueError
        Says what is expected.
    """
    parse_timestamp(text, reader.now())
    return text


def parse_timestamp(text: str, now: datetime) -> datetime | None:
    """The moment that a text means, UTC without a zone; None for an empty one.

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
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    except (AttributeError, OverflowError, ValueError) as error:  # pandas takes "nat" for an age that is not known
        message = f"expected an age such as 24h or 7d, or a moment such as 2026-11-22T08:00 (UTC); found {text!r}"
        raise ValueError(message) from error


def check_log(address: str) -> str:
    """Refuse an address with a password: it would be kept in the run.

    Raises
    ------
    ValueError
        Says so without repeating the secret.
    """
    with suppress(sql.exc.ArgumentError):
        url = sql.make_url(address)
        if url.password or any("pass" in key or "secret" in key or "token" in key for key in map(str.lower, url.query)):
            message = f"expected an address without a password, which the run would keep; give it in {ADDRESS_VARIABLE}"
            raise ValueError(message)
    return address


class MonitoramentoConfig(EngineConfig):
    """Compare scored shots with what the champion was tested on; log every figure, a verdict and a report."""

    current: Annotated[str, AfterValidator(check_current)] = Field(
        default=APPLICATION,
        description=f"{APPLICATION} (the last table that aplicacao scored), {LOG} (the inference log), "
        f"{TRAIN}, {TEST}, or a .parquet or .csv table of shots, or a folder of Parquet parts",
    )
    reference: Literal["base_test", "base_train"] = Field(
        default="base_test", description="the labelled rows that current ones are compared with"
    )
    since: Annotated[str, AfterValidator(check_moment)] = Field(
        default="", description="begin of the window of the log: an age (24h, 7d) or a moment in UTC; empty is open"
    )
    until: Annotated[str, AfterValidator(check_moment)] = Field(
        default="", description="end of the window of the log, as since; empty is now"
    )
    log: Annotated[str, AfterValidator(check_log)] = Field(
        default="", description="SQLAlchemy address of the log; empty takes $KOBE_INFERENCE_LOG, else inference_log.db"
    )
    origin: Literal["traffic", "what_if", "upload", "probe", "all"] = Field(
        default="traffic", description="which requests of the log: those of the operation (traffic), or others"
    )
    max_rows: int = Field(
        default=100_000,
        ge=1,
        description="rows that are looked at one by one; of more, evenly spread ones are, but drift is of all rows of "
        "a table, and labels are the newest of the log, as many at most",
    )
    rescore: Literal["never", "if_needed"] = Field(
        default="never",
        description=f"if_needed, with current={APPLICATION}: score prod again first if another version than the "
        "champion scored it last, so that the verdict is about the champion",
    )
    endpoint: Annotated[str, AfterValidator(check_endpoint)] = Field(
        default="", description="address of the server to look after; empty looks after none"
    )
    fail_on: Literal["never", "watch", "retrain"] = Field(
        default="never",
        validation_alias=AliasChoices("fail_on", "fail-on"),
        description=f"verdict from which the command ends with exit code {ALARM_EXIT_CODE}",
    )

    @model_validator(mode="after")
    def check_engine_of_current(self) -> Self:
        """Refuse Spark for the log, which is a database, and for CSV."""
        if self.current == LOG and self.engine == "spark":
            message = (
                f"expected engine=local with current={LOG}; the log is a database, not a table that Spark reads in "
                "parts: write the rows that you mean to a Parquet file and give that"
            )
            raise ValueError(message)
        path = Path(self.current)
        if self.engine == "spark" and path.suffix == ".csv" and not path.is_dir():
            message = f"expected Parquet for current with engine=spark; found {path.name}. Use engine=local"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def check_rescore(self) -> Self:
        """Refuse to score again what is not prod."""
        if self.rescore != "never" and self.current != APPLICATION:
            message = f"expected rescore with current={APPLICATION} only; found current={self.current}"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def check_window(self) -> Self:
        """Refuse a window, or an address, of a log that is not looked at, and a window that ends before it begins."""
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
    """A look and what was found."""

    look: Evaluation
    health: HealthReport
    record: dict[str, Any]


@dataclass(frozen=True)
class Current:
    """Scored shots, the file and the run that they are from where there are any, and what they are called.

    ``rows`` is how many there are, if ``table`` holds evenly spread ones only. ``in_memory`` says that what a version
    answered stands nowhere but in ``table``. ``labels`` holds the rows with a label where ``table`` holds only some.
    ``left_out`` counts the rows of other versions, by version, where ``table`` was read without them.
    """

    table: pd.DataFrame
    path: Path | None
    name: str
    rows: int
    application_run: str = ""
    in_memory: bool = False
    labels: pd.DataFrame | None = None
    left_out: Mapping[str, int] | None = None


def run(config: MonitoramentoConfig) -> MonitoringResult:
    """Look, in a run of its own."""
    config.check()
    if config.rescore == "if_needed":
        _rescore()
    with step_run(RUN_NAME, config):
        chosen = registry.require_champion()
        registry.tell_problems()
        version, synthetic = registry.number(chosen), chosen.tags.get("synthetic") == "true"
        log_records([Tags({name: chosen.tags.get(name, "unknown") for name in ("data_source", "synthetic")})])
        print_synthetic_warning(synthetic=synthetic)
        source = config.current if config.current in {APPLICATION, LOG} else "table"
        log_records([Tags({runs.SOURCE: source, runs.REFERENCE: config.reference})])
        current = read_current(config, version)
        judged = of_version(current.table, version)
        if current.left_out:
            judged = judged._replace(left_out=dict(current.left_out))
        baseline = reference_data(judged.version, config.reference)
        address = config.endpoint
        live = ServingState(datetime.now(UTC), runs.champion(), address, served(address) if address else None)
        counts = _counted(config, current, baseline)
        labels = None if current.labels is None else marked(judged.of(current.labels), baseline)
        look = Evaluation(baseline, marked(judged.table, baseline), live, current.name, counts, judged.left_out, labels)
        with console.status("looking"):
            health = run_checks(look, CHECKS)
            found = to_dict(look, health)
        monitored = MonitoringResult(look, health, found)
        reference = tables.prepared_table(config.reference, judged.version)
        log_records(_records(monitored, current, reference, synthetic=synthetic))
        _show(monitored)
    return monitored


def _rescore() -> None:
    """Score prod with the champion, in a run of its own, unless it was scored by it last."""
    champion = registry.number(registry.require_champion())
    found = runs.last_application()
    if found is None or found.tags.get("model_version") != champion:
        aplicacao.run(AplicacaoConfig(mode="batch"))


def read_current(config: MonitoramentoConfig, version: str) -> Current:
    """The scored shots that a configuration names.

    Parameters
    ----------
    config : MonitoramentoConfig
        Only ``current``, ``max_rows`` and the window of the log are looked at.
    version : str
        The champion: whose rows of the log are read if it scored any, and who scores a table without answers.

    Raises
    ------
    TableError, LogError
        If they are missing or damaged, or too many to be scored here.
    """
    if config.current == LOG:
        found = _logged(config, version)
    elif config.current == APPLICATION:
        run_id = tables.application_run().run_id
        path = tables.application_table(run_id)
        table, rows = tables.read_sample(path, config.max_rows)
        found = Current(table, path, "prod", rows, run_id)
    else:
        path = tables.prepared_table(config.current) if config.current in {TRAIN, TEST} else Path(config.current)
        found = _of_table(path, config.max_rows, version)
    labels = None if found.labels is None else flag_training_rows(found.labels)
    return replace(found, table=flag_training_rows(found.table), labels=labels)


def _of_table(path: Path, max_rows: int, version: str) -> Current:
    table, rows = tables.read_sample(path, max_rows)
    if PROBABILITY in table:
        _check_scores(table, path, version)
        return Current(table, path, path.stem, rows)
    if rows > max_rows:
        message = (
            f"{display_path(path)}: expected a column {PROBABILITY} in a table of more than {max_rows:,} rows; found "
            f"{rows:,} rows without answers. Score it first: mlflow run . -e aplicacao -P mode=batch -P table={path} "
            "-P out=scored.parquet"
        )
        raise tables.TableError(message)
    return Current(predict(table, version), path, path.stem, rows, in_memory=True)


def _check_scores(table: pd.DataFrame, path: Path, version: str) -> None:
    """Refuse P(made) of which nobody knows whose it is: it would be compared with what the champion answers.

    Raises
    ------
    TableError
        If the table does not say which version scored it, and the champion answers something else.
    """
    if MODEL_VERSION in table and table[MODEL_VERSION].notna().any():
        return
    again = predict(table.drop(columns=MODEL_VERSION, errors="ignore"), version)[PROBABILITY]
    other = int((~np.isclose(table[PROBABILITY], again, rtol=0, atol=_MOST_ROUNDED)).sum())
    if other:
        message = (
            f"{display_path(path)}: expected a column {MODEL_VERSION}, or predictions of champion version {version}; "
            f"found neither: {other:,} of {len(table):,} rows have another {PROBABILITY}. Leave out {PROBABILITY}, and "
            "the champion scores the rows"
        )
        raise tables.TableError(message)


def _counted(config: MonitoramentoConfig, current: Current, baseline: ReferenceData) -> TableSketch | None:
    """Counts of all rows, where drift is not computed from the table in memory."""
    spark = config.engine == "spark"
    # The rows of other versions are left out of what is counted too.
    told = MODEL_VERSION in current.table and bool(current.table[MODEL_VERSION].notna().any())
    version = baseline.version if told and not current.in_memory else ""
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
    ends = [moment.isoformat(sep=" ", timespec="minutes") for moment in (table["time"].min(), table["time"].max())]
    name = f"log, {ends[0]} to {ends[1]}" + (f", {config.origin}" if config.origin != TRAFFIC else "")
    if rows <= config.max_rows:
        return Current(table, None, name, rows, left_out=counted)
    labels = reader.read_labelled(engine, since, until, max_rows=config.max_rows, origins=origins, version=version)
    name = f"{name}, {len(table):,} of {rows:,} rows"
    return Current(table, None, name, len(table), labels=labels, left_out=counted)


def _records(monitored: MonitoringResult, current: Current, reference: Path, *, synthetic: bool) -> Iterator[Record]:
    health = monitored.health
    yield Tags({"verdict": str(health.verdict), "reasons": "\n".join(health.reasons)[:_MOST_TAG_LENGTH]})
    yield Tags({f"check_{outcome.code}": str(outcome.status) for outcome in health.outcomes})
    yield Tags({runs.APPLICATION_RUN: current.application_run, "current": current.name})
    yield Tags({"model_version": monitored.look.version or "unknown"})
    yield Metrics(flatten_metrics(monitored.record))
    if current.path:
        yield Dataset(current.path, current.table, "current", sha256(current.path))
    yield Dataset(reference, monitored.look.baseline.table, "reference", sha256(reference))
    yield Text(runs.RECORD, json.dumps(monitored.record, indent=2) + "\n")
    yield Text(runs.REPORT, report(monitored.look, monitored.record, synthetic=synthetic))


def _show(monitored: MonitoringResult) -> None:
    health, look = monitored.health, monitored.look
    _show_metrics(monitored.record)
    table = Table("", "check", "outcome", "in words")
    for outcome in health.outcomes:
        asks = f", {outcome.severity}" if outcome.severity else ""
        table.add_row(
            _MARK[outcome.status], f"{outcome.code} {outcome.title}", f"{outcome.status}{asks}", outcome.words
        )
    console.print(table)
    subject = Subject.of(look)
    info("Looked at:", subject.words)
    if look.live.champion and not subject.is_about(look.live.champion.version):
        info("Not the champion:", f"that is version {look.live.champion.version}", style="bold yellow")
    info("Verdict:", health.verdict, style=_STYLE[health.verdict])
    for reason in health.reasons:
        info("  ", reason, style="")
    page = f", or {commands.app()}" if commands.at_hand() else ""
    info("Report:", f"report.html of run Monitoramento ({commands.runs_page()}){page}", style="")


def _show_metrics(found: dict[str, Any]) -> None:
    sides = {side: found["metrics"][side] for side in ("reference", "current") if found["metrics"][side]}
    table = Table("metric", *(f"{found[side]['name']}, {sides[side]['rows']:,} labelled rows" for side in sides))
    for name in METRICS:
        intervals = [measured["metrics"].get(name) for measured in sides.values()]
        table.add_row(name, *(_told(interval) if interval else "not defined" for interval in intervals))
    console.print(table)


def _told(interval: dict[str, float | None]) -> str:
    if interval["low"] is None or interval["high"] is None:
        return f"{interval['value']:.4f}"
    return f"{interval['value']:.4f} (95 %: {interval['low']:.4f} to {interval['high']:.4f})"


def run_for_scheduler(config: MonitoramentoConfig) -> None:
    """Look, and end the process with exit code 3 if the verdict is as bad as ``fail_on`` or worse."""
    verdict = run(config).health.verdict
    if config.fail_on != "never" and verdict.is_at_least(Verdict(config.fail_on)):
        sys.exit(ALARM_EXIT_CODE)


if __name__ == "__main__":
    run_command(MonitoramentoConfig, run_for_scheduler)
