"""Score a table over REST: ``python -m serving.client TABLE --out TABLE``, or `score` for a table in memory."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Self

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_settings import CliPositionalArg
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data.cli.config import CommandConfig
from data.cli.console import console, info
from data.datasets import current
from data.schema import MODEL_VERSION, PREDICTION, PROBABILITY
from data.storage.files import display_path
from data.storage.locations import display_location, is_url, local_table, validate_location
from data.storage.tables import validate_file_format
from serving.batch.local import BatchJob, BatchResult, score_table
from serving.client.endpoint import (
    IN_FLIGHT,
    RETRY_SECONDS,
    ROWS_PER_REQUEST,
    ScoringClient,
    ScoringError,
    base_url,
    map_concurrently,
)
from serving.inference_log.inference_log import TRAFFIC
from serving.shot_tables import ReasonCounts, open_shots, shot_ids_of


def score(
    table: pd.DataFrame,
    url: str,
    *,
    on_progress: Callable[[int], None] = lambda _rows: None,
    retry_timeout: float = RETRY_SECONDS,
    origin: str = TRAFFIC,
) -> pd.DataFrame:
    """Label and probability of each row from a scoring server.

    Parameters
    ----------
    table : pandas.DataFrame
        Holds the features; other columns are not sent, but for the id to a server that logs it.
    url : str
        Of the server, with or without ``/invocations``.
    on_progress : callable
        Called with the number of rows after each response.
    retry_timeout : float
        Seconds for which a server that does not respond is retried.
    origin : str
        Of `serving.inference_log.inference_log.ORIGINS`: what the rows are in the inference log.

    Returns
    -------
    pandas.DataFrame
        The label (int64), ``probability`` (float64) and ``model_version`` (Int64, null where the endpoint does not name
        it), with the index of `table`.

    Raises
    ------
    ScoringError
        If the table lacks a feature or has one twice, or the server does not respond after retries, refuses rows, or
        does not return one prediction per row.
    """
    dataset = current()
    raw_names = {column.name: column.raw_name for column in dataset.features if column.raw_name != column.name}
    features = table.rename(columns={raw: name for name, raw in raw_names.items() if raw in table.columns})
    expected = list(dataset.feature_names)
    wrong = [name for name in expected if list(features.columns).count(name) != 1]
    if wrong:
        names = ", ".join(f"{name} (or {raw_names[name]})" if name in raw_names else name for name in expected)
        message = (
            f"expected the columns {names}, each once; missing {[name for name in wrong if name not in features]}, "
            f"found more than once {[name for name in wrong if name in features]}"
        )
        raise ScoringError(message)
    endpoint = ScoringClient(url, retry_timeout=retry_timeout, origin=origin)
    endpoint.probe()
    try:
        numbers = {column.name: features[column.name].to_numpy(dtype=np.float64) for column in dataset.numeric}
    except (TypeError, ValueError) as error:
        message = f"expected numbers in the columns {', '.join(column.name for column in dataset.numeric)}: {error}"
        raise ScoringError(message) from error
    values = features.assign(**numbers)[expected].to_numpy(
        dtype=np.float64 if len(numbers) == len(expected) else np.object_, na_value=np.nan
    )
    named = [dataset.id.name] if dataset.id.name in table else []
    ids = shot_ids_of(pa.Table.from_pandas(table[named], preserve_index=False))
    labels, probability = np.empty(len(values), dtype=np.int64), np.empty(len(values))
    versions = pd.array([None] * len(values), dtype="Int64")

    def score_rows(rows: slice) -> None:
        predictions = endpoint.score(values[rows], shot_id=None if ids is None else ids[rows])
        labels[rows], probability[rows] = predictions.label, predictions.probability
        versions[rows] = predictions.version

    starts = range(0, len(values), ROWS_PER_REQUEST)
    chunks = [slice(start, min(start + ROWS_PER_REQUEST, len(values))) for start in starts]
    for rows, _ in map_concurrently(score_rows, chunks, IN_FLIGHT, endpoint.cancel):
        on_progress(rows.stop - rows.start)
    return pd.DataFrame(
        {dataset.target.name: labels, PROBABILITY: probability, MODEL_VERSION: versions}, index=table.index
    )


class ClientConfig(CommandConfig):
    """Score a table of any size over REST; killed and run again, it goes on where it was."""

    table: Annotated[CliPositionalArg[str], BeforeValidator(str), AfterValidator(validate_location)] = Field(
        description="the rows: a file of any format that is read, a folder of Parquet files, or a table of a database"
    )
    out: Annotated[Path, AfterValidator(validate_file_format)] = Field(
        description=f"the rows with {PREDICTION}, {PROBABILITY} and {MODEL_VERSION}, .parquet or .csv"
    )
    endpoint: Annotated[str, AfterValidator(base_url)] = Field(
        default="http://127.0.0.1:5001", description="URL of the scoring server"
    )
    rejects: Annotated[Path, AfterValidator(validate_file_format)] | None = Field(
        default=None, description="where refused rows go, with the reason; without it a refused row ends the run"
    )
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=ROWS_PER_REQUEST, description="rows sent at a time"
    )
    concurrency: Annotated[int, Field(ge=1, le=64)] = Field(
        default=IN_FLIGHT, description="requests under way at a time"
    )
    retry_timeout: Annotated[float, Field(ge=0, le=86_400)] = Field(
        default=RETRY_SECONDS, description="seconds for which a server that does not respond is retried"
    )

    @model_validator(mode="after")
    def check_files(self) -> Self:
        """Refuse to write a file over another one of the same run."""
        paths = [path.resolve() for path in (Path(self.table), self.out, self.rejects) if path]
        if len(set(paths)) < len(paths):
            table = display_location(self.table)
            message = f"expected three different files; found table {table}, out {self.out}, rejects {self.rejects}"
            raise ValueError(message)
        return self


def run(config: ClientConfig) -> None:
    """Score a table into a file.

    Raises
    ------
    ScoringError
        If no row was scored, among others; see `serving.batch.local.score_table`.
    """
    name = display_location(config.table) if is_url(config.table) else ""
    with local_table(config.table) as table:
        started = time.monotonic()
        done = run_job(job_of(config, table, name), config.endpoint, config.retry_timeout)
        if not done.rows:
            raise ScoringError(ReasonCounts().message(name or table))
        _show(config, done, time.monotonic() - started)


def job_of(config: ClientConfig, table: Path, name: str = "") -> BatchJob:
    """The job of a command for a table of local files."""
    return BatchJob(
        table,
        config.out,
        max_rejected_rows=None if config.rejects else 0,
        rows_per_chunk=config.batch_size,
        at_once=config.concurrency,
        name=name,
        rejects_path=config.rejects,
        is_resumable=True,
        advice="let --rejects FILE take them (what was scored is kept)",
    )


def run_job(job: BatchJob, url: str, retry_timeout: float = RETRY_SECONDS) -> BatchResult:
    """Score a table through an endpoint, with a progress bar; see `serving.batch.local.score_table`."""
    endpoint = ScoringClient(url, retry_timeout=retry_timeout)
    rows = open_shots(job.table, name=job.name).rows
    endpoint.probe()
    columns = (TextColumn("scoring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("scoring", total=rows)
        return score_table(job, endpoint, on_progress=lambda done: progress.advance(task, done))


def _show(config: ClientConfig, done: BatchResult, seconds: float) -> None:
    sent = done.rows + done.rejected - done.continued
    info(
        "Scored",
        f"{done.rows:,} rows: {display_path(config.out)} ({sent:,} in {seconds:.1f} s, {sent / seconds:,.0f}/s)",
    )
    if done.continued:
        info("Continued", f"{done.continued:,} rows were scored in an earlier run")
    if done.rejected and config.rejects:
        info("Rejected", f"{done.rejected:,} rows, with reasons: {display_path(config.rejects)}", style="bold yellow")
