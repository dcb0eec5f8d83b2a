"""Score a table of any size into a file, so that a run that is killed can be continued and every row is there once.

A folder ``OUT.progress`` next to the output holds the predictions of each chunk, one file per chunk, renamed into place
when complete. A later run scores only the missing chunks. When no chunk is missing, table and predictions are joined by
position into the output, which is renamed into place, and the folder is removed.
"""

import contextlib
import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from data.cli.console import warn
from data.errors import KobeShotError
from data.schema import MODEL_VERSION, PREDICTION, PROBABILITY, REASON
from data.storage.dataset_reader import DatasetReader
from data.storage.files import sha256, write_text
from data.storage.tables import file_format, table_writer
from serving.client.endpoint import (
    IN_FLIGHT,
    ROWS_PER_REQUEST,
    RejectedRowsError,
    ScoringClient,
    ScoringError,
    map_concurrently,
)
from serving.shot_tables import ReasonCounts, features_of, open_shots, problems_of, shot_ids_of, typed

_MAX_PROBLEMS_SHOWN = 10
_MAX_REJECTED_ALONE = 50
_SCHEMA = pa.schema(
    [
        (PREDICTION, pa.int64()),
        (PROBABILITY, pa.float64()),
        (MODEL_VERSION, pa.int64()),
        ("reason", pa.string()),
    ]
)


class ScoringJobError(KobeShotError):
    """The job cannot be started or continued as requested."""


class NoRowError(ScoringError):
    """All rows of the table were refused."""


@dataclass(frozen=True)
class ScoringJob:
    """What is to be scored and where the predictions go.

    Attributes
    ----------
    table, out : pathlib.Path
    rejects : pathlib.Path or None
        Where refused rows go; None: a refused row ends the job.
    batch_size, at_once : int
        Size of a chunk, and how many are under way at a time.
    name : str
        Of the table in messages and in what is kept; its path by default.
    """

    table: Path
    out: Path
    rejects: Path | None = None
    batch_size: int = ROWS_PER_REQUEST
    at_once: int = IN_FLIGHT
    name: str = ""


class ScoringSummary(NamedTuple):
    """Rows of the output, rows that were refused, and rows whose predictions an earlier run had left."""

    scored: int
    rejected: int
    continued: int


class _Chunk(NamedTuple):
    start: int
    piece: pa.Table


def run_job(
    job: ScoringJob,
    endpoint: ScoringClient,
    *,
    on_start: Callable[[int | None], None] = lambda _rows: None,
    on_progress: Callable[[int], None] = lambda _rows: None,
) -> ScoringSummary:
    """Score a table, or go on where an earlier run was killed.

    Parameters
    ----------
    job : Job
    endpoint : Endpoint
    on_start : callable
        Called with the number of rows, None if it is not known.
    on_progress : callable
        Called with the number of rows after each chunk.

    Raises
    ------
    ScoringError
        If the endpoint does not respond, or refuses rows and ``job.rejects`` is None; what was scored is kept.
    TableError, ScoringJobError
        If the table cannot be read, or what an earlier run left belongs to another table.
    """
    reader = open_shots(job.table, name=job.name)
    endpoint.probe()
    on_start(reader.rows)
    with _Progress(job, reader.files) as progress:
        continued = 0

        def missing() -> Iterator[_Chunk]:
            nonlocal continued
            for chunk in _chunks(reader, job.batch_size):
                if progress.has(chunk.start):
                    continued += len(chunk.piece)
                    on_progress(len(chunk.piece))
                else:
                    yield chunk

        def score(chunk: _Chunk) -> int:
            progress.keep(chunk.start, _score_chunk(chunk, job, endpoint, progress.run))
            return len(chunk.piece)

        for _, rows in map_concurrently(score, missing(), job.at_once, endpoint.cancel):
            on_progress(rows)
        try:
            scored, rejected = _join(job, reader, progress)
        except NoRowError:
            # The table is to be fixed, and then it is another one.
            progress.remove()
            raise
        progress.remove()
    warn(reader.warning)
    return ScoringSummary(scored, rejected, continued)


def _chunks(reader: DatasetReader, rows: int) -> Iterator[_Chunk]:
    start = 0
    for piece in reader.chunks(rows):
        yield _Chunk(start, piece)
        start += len(piece)


class _ChunkScorer:
    """Scores one chunk, whichever of its rows the endpoint rejects."""

    def __init__(self, chunk: _Chunk, endpoint: ScoringClient, run: str) -> None:
        self._endpoint, self._name = endpoint, f"{run}-{chunk.start}"
        self._values, self.reasons = features_of(chunk.piece)
        self._ids = shot_ids_of(chunk.piece)
        count = len(self._values)
        self._label, self._probability = np.zeros(count, dtype=np.int64), np.full(count, np.nan)
        self._version = np.zeros(count, dtype=np.int64)
        self._refused_alone = 0

    def score_all(self) -> None:
        """Score all rows in one request.

        Raises
        ------
        RejectedRowsError
            If any row is refused.
        """
        if self.reasons:
            message = "cells that are no numbers"
            raise RejectedRowsError(message, message)
        self._score(np.arange(len(self._values)))

    def blame(self) -> dict[int, str]:
        """What is wrong with rows by the schema."""
        self.reasons = {**problems_of(self._values), **self.reasons}
        return self.reasons

    def score_valid(self) -> None:
        """Score the rows that fit the schema, and record those that the endpoint rejects all the same."""
        self._halve(np.setdiff1d(np.arange(len(self._values)), list(self.blame())))

    def predictions(self) -> pa.Table:
        """The predictions, null and with a reason where a row was refused."""
        reasons = pa.array([self.reasons.get(row) for row in range(len(self._values))], type=pa.string())
        refused = reasons.is_valid().to_numpy(zero_copy_only=False)
        columns = [
            pa.array(self._label, mask=refused),
            pa.array(self._probability, mask=refused),
            pa.array(self._version, mask=self._version == 0),
            reasons,
        ]
        return pa.table(columns, schema=_SCHEMA)

    def _halve(self, rows: npt.NDArray[np.int64]) -> None:
        if not len(rows):
            return
        try:
            self._score(rows)
        except RejectedRowsError as error:
            if len(rows) == 1:
                self._refuse_alone(int(rows[0]), error)
                return
            for half in np.array_split(rows, 2):
                self._halve(half)

    def _refuse_alone(self, row: int, error: RejectedRowsError) -> None:
        self.reasons[row] = error.reason
        self._refused_alone += 1
        if self._refused_alone >= _MAX_REJECTED_ALONE and np.isnan(self._probability).all():
            message = f"The endpoint refuses rows that the schema allows, one after the other: {error}"
            raise ScoringError(message) from error

    def _score(self, rows: npt.NDArray[np.int64]) -> None:
        name = self._name if len(rows) == len(self._values) else f"{self._name}-{rows[0]}-{len(rows)}"
        ids = None if self._ids is None else self._ids[rows]
        predictions = self._endpoint.score(self._values[rows], shot_id=ids, request_id=name)
        self._label[rows], self._probability[rows] = predictions.label, predictions.probability
        self._version[rows] = predictions.version or 0


def _score_chunk(chunk: _Chunk, job: ScoringJob, endpoint: ScoringClient, run: str) -> pa.Table:
    if file_format(job.out) == ".parquet":
        # What cannot be written is better known before it is scored.
        typed(chunk.piece, chunk.start)
    scorer = _ChunkScorer(chunk, endpoint, run)
    try:
        scorer.score_all()
    except RejectedRowsError as error:
        if job.rejects is None:
            raise _refusal(chunk.start, scorer.blame(), error.reason) from error
        scorer.score_valid()
    return scorer.predictions()


def _refusal(start: int, reasons: dict[int, str], reason: str) -> ScoringError:
    shown = [f"row {start + row}, {reasons[row]}" for row in sorted(reasons)[:_MAX_PROBLEMS_SHOWN]]
    if len(reasons) > _MAX_PROBLEMS_SHOWN:
        shown.append(f"and {len(reasons) - _MAX_PROBLEMS_SHOWN:,} more rows")
    text = "; ".join(shown) or f"in the request that starts with row {start}: {reason}"
    message = (
        f"Rows were refused (counted from 0): {text}. Correct them, or let --rejects FILE take them and score the "
        "others; what was scored so far is kept."
    )
    return ScoringError(message)


def _join(job: ScoringJob, reader: DatasetReader, progress: "_Progress") -> tuple[int, int]:
    """Table and predictions by position → the output and the rejects."""
    scored = rejected = 0
    counts = ReasonCounts()
    to_parquet = file_format(job.out) == ".parquet"
    with contextlib.ExitStack() as files:
        out = rejects = None
        for chunk in _with_empty(_chunks(reader, job.batch_size), reader.schema):
            predictions = progress.read(chunk.start, len(chunk.piece))
            good = predictions.column("reason").is_null()
            if job.rejects is None and pc.any(pc.invert(good)).as_py():
                reasons = predictions.column("reason").to_pylist()
                raise _refusal(chunk.start, {row: reason for row, reason in enumerate(reasons) if reason}, "")
            piece = chunk.piece.filter(good)
            piece = typed(piece, chunk.start) if to_parquet else piece
            for name in (PREDICTION, PROBABILITY, MODEL_VERSION):
                piece = piece.append_column(name, predictions.column(name).filter(good))
            if out is None:
                out = files.enter_context(table_writer(job.out, piece.schema))
            out.write(piece)
            scored += len(piece)
            if job.rejects:
                bad = _rejected(chunk, predictions)
                counts.add(bad.column(REASON).to_pylist())
                rejects = rejects or files.enter_context(table_writer(job.rejects, bad.schema))
                rejects.write(bad)
                rejected += len(bad)
        if rejected and not scored:
            raise NoRowError(counts.message(reader.name))
    return scored, rejected


def _with_empty(chunks: Iterator[_Chunk], schema: pa.Schema) -> Iterator[_Chunk]:
    """The chunks, or one without rows where there are none: an empty table has an empty result."""
    first = next(chunks, None)
    yield first or _Chunk(0, schema.empty_table())
    yield from chunks


def _rejected(chunk: _Chunk, predictions: pa.Table) -> pa.Table:
    bad = predictions.column("reason").is_valid()
    rows = pa.chunked_array([pa.array(np.arange(chunk.start, chunk.start + len(chunk.piece)))])
    table = chunk.piece.filter(bad)
    table = table.drop_columns(["row"] if "row" in table.column_names else []).add_column(0, "row", rows.filter(bad))
    return table.append_column("reason", predictions.column("reason").filter(bad))


class _Progress(contextlib.AbstractContextManager["_Progress"]):
    """The folder of predictions next to the output, held by one process at a time."""

    def __init__(self, job: ScoringJob, files: Sequence[Path]) -> None:
        self._files = files
        self._folder = job.out.with_name(f"{job.out.name}.progress")
        self._job = job
        self.run = uuid.uuid4().hex

    def __enter__(self) -> Self:
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        # Whoever can open it could hold it.
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._held = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._held)
            message = f"Another run is writing {self._job.out}; wait for it, or name another output."
            raise ScoringJobError(message) from error
        try:
            self._continue_or_start()
        except BaseException:
            os.close(self._held)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._held)

    def _continue_or_start(self) -> None:
        table = self._job.table
        states = [file.stat() for file in self._files]
        wanted = {
            "table": self._job.name or str(table.resolve()),
            "bytes": sum(state.st_size for state in states),
            "modified": sha256(table) if self._job.name else max(state.st_mtime_ns for state in states),
            "batch_size": self._job.batch_size,
        }
        manifest = self._folder / "job.json"
        if not manifest.exists():
            # Predictions without a manifest remain from a killed removal, of an unknown table.
            for path in self._folder.glob("*.arrow"):
                path.unlink()
            write_text(json.dumps({**wanted, "run": self.run}), manifest)
            return
        found = json.loads(manifest.read_text(encoding="utf-8"))
        self.run = found.pop("run")
        changed = [name for name, value in wanted.items() if found.get(name) != value]
        if changed:
            message = (
                f"{self._folder} holds predictions of a run that differs in {', '.join(changed)}: expected "
                f"{ {name: found.get(name) for name in changed} }, found { {name: wanted[name] for name in changed} }. "
                "Run it with the same arguments again, or remove that folder to start again."
            )
            raise ScoringJobError(message)

    def has(self, start: int) -> bool:
        """Whether the chunk that starts with a row has been scored, and the predictions can be read."""
        try:
            return bool(pa.ipc.open_file(pa.memory_map(str(self._path(start)))).num_record_batches)
        except (OSError, pa.ArrowException):
            return False

    def keep(self, start: int, predictions: pa.Table) -> None:
        """Keep the predictions to a chunk."""
        target = self._path(start)
        partial = target.with_suffix(".partial")
        with pa.OSFile(str(partial), "wb") as file, pa.ipc.new_file(file, predictions.schema) as writer:
            writer.write_table(predictions)
        partial.replace(target)

    def read(self, start: int, rows: int) -> pa.Table:
        """The predictions to a chunk.

        Raises
        ------
        ScoringJobError
            If they are not as many as its rows.
        """
        if not rows:
            return _SCHEMA.empty_table()
        predictions = pa.ipc.open_file(self._path(start)).read_all()
        if len(predictions) != rows:
            message = (
                f"{self._path(start)}: expected {rows} predictions, found {len(predictions)}. Remove {self._folder}."
            )
            raise ScoringJobError(message)
        return predictions

    def remove(self) -> None:
        """Remove the folder; the output is whole."""
        shutil.rmtree(self._folder)

    def _path(self, start: int) -> Path:
        return self._folder / f"{start:012d}.arrow"
