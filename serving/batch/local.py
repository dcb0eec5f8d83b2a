"""Score a table of any size in one pass and bounded memory: read, check, score, count and write at the same time.

A row that is rejected is written to a table of rejects with its number and reason, up to a limit. Output and rejects
are written to temporary files and renamed at the end: a run that fails, or is killed, changes nothing. With a
checkpoint, the next run scores only the chunks that a killed one has not.
"""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from mlflow.exceptions import MlflowException

from data.cli.console import warn
from data.datasets import Dataset, current
from data.schema import IN_TRAINING, MODEL_VERSION, PREDICTION, PROBABILITY, REASON
from data.storage.dataset_reader import DatasetReader
from data.storage.files import remove_path, translate_disk_full
from data.storage.tables import file_format, table_writer
from serving.batch.checkpoint import Checkpoint
from serving.batch.chunks import Chunk, Scorer, score_chunk
from serving.batch.in_process import encoded
from serving.client.endpoint import Predictions, RejectedRowsError, ScoringError, map_concurrently
from serving.shot_tables import Cells, ReasonCounts, numbers_of, open_shots, typed_with_problems

Labels = npt.NDArray[np.float64]
TrainingRowMask = Callable[[pd.DataFrame], npt.NDArray[np.bool_]]
"""Mask of the training rows of a version in a table with the features, the label and, where known, ``shot_id``."""

ROWS_PER_CHUNK = 131_072
"""Rows that are scored at a time by a model in this process; larger chunks are not faster."""
CHUNKS_AT_ONCE = 2
MORE_REJECTS = "set a higher max_rejected_rows"
"""What to do about too many rejected rows."""

ROW = "row"
"""Column of rejects: number of the row in the table, from 0."""

_MAX_PROBLEMS_SHOWN = 10


class NoRowError(ScoringError):
    """All rows of a table are rejected."""


class LocalScorer:
    """A version of the registered model that is loaded into this process.

    Parameters
    ----------
    model : object
        Model of ``serving/model/scoring_model.py``, as returned by ``unwrap_python_model``.
    version : int
        Number of the version.
    dataset : Dataset, optional
        What the rows are; by default the dataset of this process.
    """

    def __init__(self, model: Any, version: int, dataset: Dataset | None = None) -> None:  # noqa: ANN401 MLflow publishes no types
        self._model, self._version, self._dataset = model, version, dataset

    def score(
        self, values: Cells, *, shot_id: npt.NDArray[np.int64] | None = None, request_id: str = ""
    ) -> Predictions:
        """Return label and probability of each row.

        Parameters
        ----------
        values : ndarray of float64 or object, shape (n, features)
            The features of the dataset, in order; see `serving.shot_tables.features_of`.
        shot_id, request_id
            Not used, as nothing is logged.

        Raises
        ------
        RejectedRowsError
            If a row is outside the schema.
        """
        del shot_id, request_id
        try:
            if values.dtype == np.object_:
                values = encoded(
                    self._model, pd.DataFrame(values, columns=list((self._dataset or current()).feature_names))
                )
            made, probability = self._model.score(values, self._model.threshold)
        except MlflowException as error:
            raise RejectedRowsError(error.message, error.message) from error
        return Predictions(made, probability, self._version)

    def cancel(self) -> None:
        """Do nothing: a chunk is scored at once."""


@dataclass(frozen=True)
class BatchJob:
    """A table to score, the path of the predictions, and the number of rows that may be rejected.

    Attributes
    ----------
    table, out : pathlib.Path
    max_rejected_rows : int or None
        With more rejected rows the run fails, and nothing is written; None for any number.
    rows_per_chunk, at_once : int
        Rows of a chunk, and number of chunks that are scored at a time.
    name : str
        Of the table in messages; its path by default.
    rejects_path : pathlib.Path, optional
        Path of the rejected rows, `rejects` by default.
    is_resumable : bool
        Whether a `Checkpoint` keeps what is scored until the output is complete.
    advice : str
        What to do if more rows are rejected, besides fixing them.
    dataset : Dataset, optional
        What the rows are; by default the dataset of this process.
    """

    table: Path
    out: Path
    max_rejected_rows: int | None = 0
    rows_per_chunk: int = ROWS_PER_CHUNK
    at_once: int = CHUNKS_AT_ONCE
    name: str = ""
    rejects_path: Path | None = None
    is_resumable: bool = False
    advice: str = MORE_REJECTS
    dataset: Dataset | None = None

    @property
    def rejects(self) -> Path:
        """Path of the rejected rows.

        Examples
        --------
        >>> BatchJob(Path("shots.parquet"), Path("scored.parquet")).rejects.name
        'scored_rejects.parquet'
        """
        return self.rejects_path or rejects_of(self.out)


class BatchResult(NamedTuple):
    """Counts of a pass over a table.

    Attributes
    ----------
    rows : int
        Rows of the output.
    rejected : int
        Rows that are rejected.
    predicted_made : int
        Rows of the output that are predicted to be made.
    in_training : int
        Rows of the output with a label that their version was trained on.
    versions : tuple of int
        Versions that scored, in the order of their first rows; empty if the endpoint does not name them.
    continued : int
        Rows that an earlier, killed run has scored.
    """

    rows: int
    rejected: int
    predicted_made: int
    in_training: int
    versions: tuple[int, ...]
    continued: int = 0


class _Piece(NamedTuple):
    """A scored chunk: rows with their predictions and labels, and the rejected rows."""

    table: pa.Table
    label: Labels
    predictions: pa.Table
    in_training: npt.NDArray[np.bool_] | None
    rejects: pa.Table | None
    is_continued: bool


def rejects_of(out: Path) -> Path:
    """Path of the rejects of an output."""
    return out.with_name(f"{out.stem}_rejects{out.suffix}")


def score_table(  # noqa: PLR0913 what is done, with what, and the callbacks
    batch: BatchJob,
    scorer: Scorer,
    *,
    version: int | None = None,
    training_mask_of: Callable[[int], TrainingRowMask | None] = lambda _version: None,
    count: Callable[[Labels, npt.NDArray[np.float64]], None] = lambda _labels, _probability: None,
    on_progress: Callable[[int], None] = lambda _rows: None,
) -> BatchResult:
    """Score a table into a table: its own columns, the predictions, and ``in_training`` where rows can be in training.

    Parameters
    ----------
    batch : BatchJob
    scorer : Scorer
    version : int, optional
        Version that scores, if the scorer does not name it.
    training_mask_of : callable
        Maps a version to the mask of its training rows; None for a version that was trained on dev rows only.
    count : callable
        Called for each chunk with labels and P(made) of the labeled rows that the version was not trained on.
    on_progress : callable
        Called with the number of rows after each chunk.

    Raises
    ------
    TableError
        If the table cannot be read.
    ScoringError
        If too many rows are rejected, or all are, or the scorer does not respond.
    CheckpointError
        If the checkpoint belongs to another table or process.
    DiskFullError
        If the disk is full. After each of these errors an existing output is unchanged.
    """
    reader = open_shots(batch.table, name=batch.name, dataset=batch.dataset)
    # The output is renamed first: if that fails, the old rejects stay with the old output.
    with translate_disk_full(batch.out.parent), ExitStack() as kept, ExitStack() as rejects, ExitStack() as out:
        checkpoint = None
        if batch.is_resumable:
            checkpoint = kept.enter_context(
                Checkpoint(batch.out, batch.table, reader.files, batch.rows_per_chunk, batch.name)
            )
        work = _Work(batch, reader, scorer, checkpoint, version, training_mask_of)
        output = _Output(batch, out, rejects)
        for chunk, piece in map_concurrently(work, _chunks(reader, batch.rows_per_chunk), batch.at_once, scorer.cancel):
            counted = ~np.isnan(piece.label)
            if piece.in_training is not None:
                output.in_training += int((piece.in_training & counted).sum())
                counted &= ~piece.in_training
            count(piece.label[counted], piece.predictions.column(PROBABILITY).to_numpy()[counted])
            output.write(piece)
            on_progress(len(chunk.table))
        try:
            output.finish(reader.name)
        except NoRowError:
            # The fixed table is another one.
            if checkpoint:
                checkpoint.remove()
            raise
        out.close()
        rejects.close()
        if checkpoint:
            checkpoint.remove()
    warn(reader.warning)
    if not output.rejected:
        remove_path(batch.rejects)
    return BatchResult(
        output.rows,
        output.rejected,
        output.predicted_made,
        output.in_training,
        tuple(output.versions) if version is None else (version,),
        output.continued,
    )


class _Work:
    """What a thread does with a chunk."""

    def __init__(  # noqa: PLR0913, PLR0917 see `score_table`
        self,
        batch: BatchJob,
        reader: DatasetReader,
        scorer: Scorer,
        checkpoint: Checkpoint | None,
        version: int | None,
        training_mask_of: Callable[[int], TrainingRowMask | None],
    ) -> None:
        self._dataset = batch.dataset
        self._is_typed = reader.formats == {"text"} and file_format(batch.out) == ".parquet"
        self._scorer, self._checkpoint, self._version = scorer, checkpoint, version
        self._mask_of = _once(training_mask_of)
        self._run = checkpoint.run if checkpoint else uuid.uuid4().hex

    def __call__(self, chunk: Chunk) -> _Piece:
        predictions = self._checkpoint.read(chunk.start, len(chunk.table)) if self._checkpoint else None
        is_continued = predictions is not None
        if predictions is None:
            request_id = f"{self._run}-{chunk.start}"
            predictions = score_chunk(chunk, self._scorer, request_id, is_typed=self._is_typed, dataset=self._dataset)
            if self._checkpoint:
                self._checkpoint.keep(chunk.start, predictions)
        table, rejects, reasons = chunk.table, None, predictions.column(REASON)
        if reasons.null_count < len(reasons):
            fits = reasons.is_null()
            rejects = _rejects(chunk, reasons)
            table, predictions = table.filter(fits), predictions.filter(fits)
        label = labels_of(table, self._dataset)
        table = typed_with_problems(table, self._dataset)[0] if self._is_typed else table
        if self._version is not None:
            versions = pa.array(np.full(len(table), self._version, dtype=np.int64))
            predictions = predictions.set_column(2, MODEL_VERSION, versions)
        return _Piece(table, label, predictions, self._in_training(table, predictions), rejects, is_continued)

    def _in_training(self, table: pa.Table, predictions: pa.Table) -> npt.NDArray[np.bool_] | None:
        versions = predictions.column(MODEL_VERSION)
        found_versions = versions.unique().drop_null().to_pylist() if self._version is None else [self._version]
        masks = {version: self._mask_of(version) for version in found_versions}
        if not any(masks.values()):
            return None
        found = np.zeros(len(table), dtype=bool)
        for version, mask in masks.items():
            if mask:
                found |= _in_training(table, mask, self._dataset or current()) & pc.equal(versions, version).to_numpy()
        return found


class _Output:
    """The writers of output and rejects."""

    def __init__(self, batch: BatchJob, out_files: ExitStack, reject_files: ExitStack) -> None:
        self.rows = self.rejected = self.predicted_made = self.in_training = self.continued = 0
        self.versions: dict[int, None] = {}
        self._batch, self._out_files, self._reject_files = batch, out_files, reject_files
        self._first = pa.schema([(ROW, pa.int64()), (REASON, pa.string())]).empty_table()
        self._reasons = ReasonCounts()
        self._out: Any = None
        self._rejects: Any = None
        self._empty: _Piece | None = None
        self._has_training_column = False

    def write(self, piece: _Piece) -> None:
        """Append a piece. The first piece with rows opens the output and defines its columns."""
        if piece.is_continued:
            self.continued += len(piece.table) + len(piece.rejects or ())
        if len(piece.table):
            self._append(piece)
        elif self._out is None:
            self._empty = piece
        if piece.rejects is not None:
            self._reject(piece.rejects)

    def finish(self, table: str) -> None:
        """Write an empty output if no piece had rows; raise if all rows were rejected."""
        if self.rejected and not self.rows:
            raise NoRowError(self._reasons.message(table))
        if self._out is None and self._empty is not None:
            self._append(self._empty)

    def _append(self, piece: _Piece) -> None:
        if self._out is None:
            self._has_training_column = piece.in_training is not None
        table = self._with_predictions(piece)
        if self._out is None:
            self._out = self._out_files.enter_context(table_writer(self._batch.out, table.schema))
        self._out.write(table)
        self.rows += len(table)
        self.predicted_made += pc.sum(piece.predictions.column(PREDICTION)).as_py() or 0
        self.versions |= dict.fromkeys(piece.predictions.column(MODEL_VERSION).unique().drop_null().to_pylist())

    def _with_predictions(self, piece: _Piece) -> pa.Table:
        table = piece.table
        for name in (PREDICTION, PROBABILITY, MODEL_VERSION):
            table = table.append_column(name, piece.predictions.column(name))
        in_training = np.zeros(len(table), dtype=bool) if piece.in_training is None else piece.in_training
        if self._has_training_column:
            table = table.append_column(IN_TRAINING, pa.array(in_training))
        elif in_training.any():
            version = piece.predictions.column(MODEL_VERSION)[-1]
            message = (
                f"The endpoint switched to version {version} during the run, which was trained on some of the "
                f"rows. Nothing was written; run this again."
            )
            raise ScoringError(message)
        # The metadata of pandas describes the types of the input, not those of the output.
        return table.replace_schema_metadata(None)

    def _reject(self, rejects: pa.Table) -> None:
        self.rejected += len(rejects)
        self._reasons.add(rejects.column(REASON).to_pylist())
        self._first = pa.concat_tables([self._first, rejects.select([ROW, REASON]).slice(0, _MAX_PROBLEMS_SHOWN)])
        check_rejects(self.rejected, self._batch, self._first, complete=False)
        if self._rejects is None:
            self._rejects = self._reject_files.enter_context(table_writer(self._batch.rejects, rejects.schema))
        self._rejects.write(rejects)


def check_rejects(rejected: int, batch: BatchJob, rejects: pa.Table, *, complete: bool) -> None:
    """Raise if more rows are rejected than may be.

    Parameters
    ----------
    rejected : int
        Number of rejected rows.
    batch : BatchJob
    rejects : pyarrow.Table
        The first of them, see `with_reasons`.
    complete : bool
        Whether all rows were read.

    Raises
    ------
    ScoringError
        If so.
    """
    most = batch.max_rejected_rows
    if most is None or rejected <= most:
        return
    first = rejects.slice(0, _MAX_PROBLEMS_SHOWN).to_pylist()
    more = rejected - len(first)
    message = (
        f"{'' if complete else 'At least '}{rejected:,} row(s) violate the schema, and {most:,} may; nothing was "
        f"written. Fix or remove them (rows count from 0), or {batch.advice}:"
    )
    lines = [message, *(f"row {row[ROW]:,}, {row[REASON]}" for row in first), *[f"and {more:,} more"] * (more > 0)]
    raise ScoringError("\n  ".join(lines))


def _chunks(reader: DatasetReader, rows: int) -> Iterator[Chunk]:
    """The chunks of a table; an empty one has an empty chunk."""
    start = 0
    for piece in reader.chunks(rows):
        yield Chunk(start, piece)
        start += len(piece)
    if not start:
        yield Chunk(0, reader.schema.empty_table())


def _rejects(chunk: Chunk, reasons: pa.ChunkedArray) -> pa.Table:
    rows = pa.array(np.arange(chunk.start, chunk.start + len(chunk.table)))
    return with_reasons(chunk.table, rows, reasons).filter(reasons.is_valid())


def with_reasons(table: pa.Table, rows: pa.Array, reasons: pa.Array) -> pa.Table:
    """Rejected rows as they are written: their number, their own columns, and the reason."""
    own = table.drop_columns([name for name in (ROW, REASON) if name in table.column_names])
    return own.add_column(0, ROW, rows).append_column(REASON, reasons)


def labels_of(piece: pa.Table, dataset: Dataset | None = None) -> Labels:
    """The labels as doubles, NaN where there is none; by default those of the dataset of this process.

    Examples
    --------
    >>> labels_of(pa.table({"shot_made_flag": [1, None]})).tolist()
    [1.0, nan]
    """
    target = (dataset or current()).target
    name = target.name if target.name in piece.column_names else target.raw_name
    return numbers_of(piece.column(name)) if name in piece.column_names else np.full(len(piece), np.nan)


def _in_training(piece: pa.Table, is_in_training: TrainingRowMask, dataset: Dataset) -> npt.NDArray[np.bool_]:
    described = [*dataset.features, dataset.id, dataset.target]
    held = {
        column.name: (column, column.name if column.name in piece.column_names else column.raw_name)
        for column in described
        if {column.name, column.raw_name} & set(piece.column_names)
    }
    if dataset.target.name not in held:
        return np.zeros(len(piece), dtype=bool)
    # In a CSV file numbers are strings.
    is_number = {column.name: column.is_numeric or column.role == "target" for column in described}
    cells = {
        name: numbers_of(piece.column(stored)) if is_number[name] else piece.column(stored).to_pandas()
        for name, (_, stored) in held.items()
    }
    return is_in_training(pd.DataFrame(cells))


def _once(training_mask_of: Callable[[int], TrainingRowMask | None]) -> Callable[[int], TrainingRowMask | None]:
    """Compute the mask of each version once, for all threads."""
    known: dict[int, TrainingRowMask | None] = {}
    lock = threading.Lock()

    def mask_of(version: int) -> TrainingRowMask | None:
        with lock:
            if version not in known:
                known[version] = training_mask_of(version)
            return known[version]

    return mask_of
