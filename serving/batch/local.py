"""Score a table of any size in one pass and bounded memory: read, check, score, count and write at the same time.

A row that violates the schema is written to a table of rejects with its reason, up to a limit. Output and rejects are
written to temporary files and renamed at the end: a run that fails, or is killed, changes nothing.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from mlflow.exceptions import MlflowException

from data.cli.console import warn
from data.datasets import current
from data.schema import (
    IN_TRAINING,
    MODEL_VERSION,
    PREDICTION,
    PROBABILITY,
    REASON,
)
from data.storage.dataset_reader import DatasetReader
from data.storage.files import remove_path, translate_disk_full
from data.storage.tables import file_format, table_writer
from serving.batch.in_process import encoded
from serving.client.endpoint import Predictions, RejectedRowsError, ScoringError, map_concurrently
from serving.shot_tables import (
    Cells,
    ReasonCounts,
    features_of,
    numbers_of,
    open_shots,
    problems_of,
    shot_ids_of,
    typed_with_problems,
)

Labels = npt.NDArray[np.float64]
TrainingRowMask = Callable[[pd.DataFrame], npt.NDArray[np.bool_]]
"""Mask of the training rows of a version in a table with the features, the label and, where known, ``shot_id``."""

ROWS_PER_CHUNK = 131_072
"""Rows that are scored at a time by a model in this process; larger chunks are not faster."""
CHUNKS_AT_ONCE = 2

_MAX_PROBLEMS_SHOWN = 10


class Scorer(Protocol):
    """Scores rows: a `serving.client.endpoint.ScoringClient` or a `LocalScorer`. Threads share it."""

    def score(
        self, values: Cells, *, shot_id: npt.NDArray[np.int64] | None = None, request_id: str = ""
    ) -> Predictions:
        """Return label and probability of each row, or raise `RejectedRowsError`."""

    def cancel(self) -> None:
        """Cancel the requests that wait."""


class LocalScorer:
    """A version of the registered model that is loaded into this process.

    Parameters
    ----------
    model : object
        Model of ``serving/model/scoring_model.py``, as returned by ``unwrap_python_model``.
    version : int
        Number of the version.
    """

    def __init__(self, model: Any, version: int) -> None:  # noqa: ANN401 MLflow publishes no types
        self._model, self._version = model, version

    def score(
        self, values: Cells, *, shot_id: npt.NDArray[np.int64] | None = None, request_id: str = ""
    ) -> Predictions:
        """Return label and probability of each row.

        Parameters
        ----------
        values : ndarray of float64 or object, shape (n, features)
            The features of the dataset of this process, in order; see `serving.shot_tables.features_of`.
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
                values = encoded(self._model, pd.DataFrame(values, columns=list(current().feature_names)))
            made, probability = self._model.score(values, self._model.threshold)
        except MlflowException as error:
            raise RejectedRowsError(error.message, error.message) from error
        return Predictions(made, probability, self._version)

    def cancel(self) -> None:
        """Do nothing: a chunk is scored at once."""


@dataclass(frozen=True)
class BatchJob:
    """A table to score, the path of the predictions, and the number of rows that may violate the schema.

    Attributes
    ----------
    table, out : pathlib.Path
    max_rejected_rows : int
        With more rejected rows the run fails, and nothing is written.
    rows_per_chunk, at_once : int
        Rows of a chunk, and number of chunks that are scored at a time.
    name : str
        Of the table in messages; its path by default.
    """

    table: Path
    out: Path
    max_rejected_rows: int = 0
    rows_per_chunk: int = ROWS_PER_CHUNK
    at_once: int = CHUNKS_AT_ONCE
    name: str = ""

    @property
    def rejects(self) -> Path:
        """Path of the rows that violate the schema.

        Examples
        --------
        >>> BatchJob(Path("shots.parquet"), Path("scored.parquet")).rejects.name
        'scored_rejects.parquet'
        """
        return rejects_of(self.out)


class BatchResult(NamedTuple):
    """Counts of a pass over a table.

    Attributes
    ----------
    rows : int
        Rows of the output.
    rejected : int
        Rows that violated the schema.
    predicted_made : int
        Rows of the output that are predicted to be made.
    in_training : int
        Rows of the output with a label that their version was trained on.
    versions : tuple of int
        Versions that scored, in the order of their first rows; empty if the endpoint does not name them.
    """

    rows: int
    rejected: int
    predicted_made: int
    in_training: int
    versions: tuple[int, ...]


class _Piece(NamedTuple):
    """A scored chunk: rows with their predictions and labels, and the rejected rows."""

    table: pa.Table
    label: Labels
    predictions: Predictions
    in_training: npt.NDArray[np.bool_] | None
    bad: pa.Table | None
    problems: list[str]


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
        If too many rows violate the schema, or all do, or the scorer does not respond.
    DiskFullError
        If the disk is full. After each of these errors an existing output is unchanged.
    """
    reader = open_shots(batch.table, name=batch.name)
    is_typed = reader.formats == {"text"} and file_format(batch.out) == ".parquet"
    work = partial(
        _score_piece, is_typed=is_typed, scorer=scorer, version=version, training_mask_of=_once(training_mask_of)
    )
    # The output is renamed first: if that fails, the old rejects stay with the old output.
    with translate_disk_full(batch.out.parent), ExitStack() as rejects, ExitStack() as out:
        output = _Output(batch, out, rejects)
        for chunk, piece in map_concurrently(work, _chunks(reader, batch.rows_per_chunk), batch.at_once, scorer.cancel):
            counted = ~np.isnan(piece.label)
            if piece.in_training is not None:
                output.in_training += int((piece.in_training & counted).sum())
                counted &= ~piece.in_training
            count(piece.label[counted], piece.predictions.probability[counted])
            output.write(piece)
            on_progress(len(chunk[1]))
        output.finish(reader.name)
    warn(reader.warning)
    if not output.rejected:
        remove_path(batch.rejects)
    return BatchResult(output.rows, output.rejected, output.predicted_made, output.in_training, tuple(output.versions))


class _Output:
    """The writers of output and rejects."""

    def __init__(self, batch: BatchJob, out_files: ExitStack, reject_files: ExitStack) -> None:
        self.rows = self.rejected = self.predicted_made = self.in_training = 0
        self.versions: dict[int, None] = {}
        self._batch, self._out_files, self._reject_files = batch, out_files, reject_files
        self._problems: list[str] = []
        self._reasons = ReasonCounts()
        self._out: Any = None
        self._rejects: Any = None
        self._empty: _Piece | None = None
        self._has_training_column = False

    def write(self, piece: _Piece) -> None:
        """Append a piece. The first piece with rows opens the output and defines its columns."""
        if len(piece.table):
            self._append(piece)
        elif self._out is None:
            self._empty = piece
        if piece.bad is not None:
            self._reject(piece.bad, piece.problems)

    def finish(self, table: str) -> None:
        """Write an empty output if no piece had rows; raise if all rows were rejected."""
        if self.rejected and not self.rows:
            raise ScoringError(self._reasons.message(table))
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
        self.predicted_made += int(piece.predictions.label.sum())
        if piece.predictions.version is not None:
            self.versions.setdefault(piece.predictions.version)

    def _with_predictions(self, piece: _Piece) -> pa.Table:
        label, probability, version = piece.predictions
        rows = len(piece.table)
        table = piece.table.append_column(PREDICTION, pa.array(label)).append_column(PROBABILITY, pa.array(probability))
        versions = pa.nulls(rows, pa.int64()) if version is None else pa.array(np.full(rows, version, dtype=np.int64))
        table = table.append_column(MODEL_VERSION, versions)
        in_training = np.zeros(rows, dtype=bool) if piece.in_training is None else piece.in_training
        if self._has_training_column:
            table = table.append_column(IN_TRAINING, pa.array(in_training))
        elif in_training.any():
            message = (
                f"The endpoint switched to version {version} during the run, which was trained on some of the "
                f"rows. Nothing was written; run this again."
            )
            raise ScoringError(message)
        # The metadata of pandas describes the types of the input, not those of the output.
        return table.replace_schema_metadata(None)

    def _reject(self, bad: pa.Table, problems: list[str]) -> None:
        self.rejected += len(bad)
        self._reasons.add(bad.column(REASON).to_pylist())
        self._problems += problems[: _MAX_PROBLEMS_SHOWN - len(self._problems)]
        if self.rejected > self._batch.max_rejected_rows:
            raise too_many_rejects_error(self.rejected, self._batch.max_rejected_rows, self._problems, complete=False)
        if self._rejects is None:
            self._rejects = self._reject_files.enter_context(table_writer(self._batch.rejects, bad.schema))
        self._rejects.write(bad)


def too_many_rejects_error(rejected: int, most: int, problems: list[str], *, complete: bool) -> ScoringError:
    """Create the error for too many rows that violate the schema.

    Parameters
    ----------
    rejected, most : int
        Number of rows that violate the schema, and the maximum.
    problems : list of str
        Row and reason of the first of them.
    complete : bool
        Whether all rows were read.
    """
    messages = problems[:_MAX_PROBLEMS_SHOWN]
    more = rejected - len(messages)
    listed = "\n".join(f"  {problem}" for problem in messages)
    message = (
        f"{'' if complete else 'At least '}{rejected:,} row(s) violate the schema, and {most:,} may "
        f"(max_rejected_rows); nothing was written. Fix or remove them (rows count from 0), or set a higher "
        f"max_rejected_rows:\n{listed}"
    )
    return ScoringError(message + (f"\n  and {more:,} more" if more > 0 else ""))


def _chunks(reader: DatasetReader, rows: int) -> Iterator[tuple[int, pa.Table]]:
    """Chunks with the number of their first row; an empty table has one empty chunk."""
    start = 0
    for piece in reader.chunks(rows):
        yield start, piece
        start += len(piece)
    if not start:
        yield 0, reader.schema.empty_table()


def _score_piece(
    chunk: tuple[int, pa.Table],
    *,
    is_typed: bool,
    scorer: Scorer,
    version: int | None,
    training_mask_of: Callable[[int], TrainingRowMask | None],
) -> _Piece:
    start, piece = chunk
    values, problems = features_of(piece)
    label = labels_of(piece)
    # What cannot be written is better known before it is scored.
    good, no_numbers = typed_with_problems(piece) if is_typed else (piece, {})
    bad: pa.Table | None = None
    messages: list[str] = []
    ids = shot_ids_of(piece)
    try:
        _refuse({**no_numbers, **problems})
        predictions = _score(scorer, values, ids)
    except RejectedRowsError:
        reasons = {**no_numbers, **problems_of(values), **problems}
        if not reasons:
            raise
        fits = np.ones(len(values), dtype=bool)
        fits[list(reasons)] = False
        order = sorted(reasons)
        messages = [f"row {start + row:,}, {reasons[row]}" for row in order[:_MAX_PROBLEMS_SHOWN]]
        bad = rejected_rows(piece, reasons)
        good, label = piece.filter(pa.array(fits)), label[fits]
        values = features_of(good)[0]
        good = typed_with_problems(good)[0] if is_typed else good
        predictions = _score(scorer, values, None if ids is None else ids[fits])
    if version is not None:
        predictions = predictions._replace(version=version)
    is_in_training = None if predictions.version is None else training_mask_of(predictions.version)
    in_training = None if is_in_training is None else _in_training(good, is_in_training)
    return _Piece(good, label, predictions, in_training, bad, messages)


def _refuse(problems: Mapping[int, str]) -> None:
    if problems:
        message = "invalid cells"
        raise RejectedRowsError(message, message)


def _score(scorer: Scorer, values: Cells, ids: npt.NDArray[np.int64] | None) -> Predictions:
    if not len(values):
        return Predictions(np.empty(0, dtype=np.int64), np.empty(0), None)
    return scorer.score(values, shot_id=ids)


def rejected_rows(piece: pa.Table, reasons: Mapping[int, str]) -> pa.Table:
    """Select rows that violate the schema, unchanged and in order, with a column for the reason.

    Parameters
    ----------
    piece : pyarrow.Table
    reasons : mapping of int to str
        Reason by row.
    """
    order = sorted(reasons)
    return piece.take(pa.array(order, pa.int64())).append_column(REASON, pa.array([reasons[row] for row in order]))


def labels_of(piece: pa.Table) -> Labels:
    """The labels as doubles, NaN where there is none.

    Examples
    --------
    >>> labels_of(pa.table({"shot_made_flag": [1, None]})).tolist()
    [1.0, nan]
    """
    target = current().target
    name = target.name if target.name in piece.column_names else target.raw_name
    return numbers_of(piece.column(name)) if name in piece.column_names else np.full(len(piece), np.nan)


def _in_training(piece: pa.Table, is_in_training: TrainingRowMask) -> npt.NDArray[np.bool_]:
    dataset = current()
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
