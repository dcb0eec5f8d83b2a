"""Score one chunk of a table: the prediction of each row, or the reason why it is rejected."""

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data.datasets import Dataset, current
from data.schema import MODEL_VERSION, PREDICTION, PROBABILITY, REASON
from serving.client.endpoint import Predictions, RejectedRowsError
from serving.shot_tables import Cells, features_of, problems_of, shot_ids_of, time_problems_of, typed_with_problems

Integers = npt.NDArray[np.int64]

_MAX_REJECTED_ALONE = 50
_SCHEMA = pa.schema(
    [(PREDICTION, pa.int64()), (PROBABILITY, pa.float64()), (MODEL_VERSION, pa.int64()), (REASON, pa.string())]
)


class Scorer(Protocol):
    """Scores rows: a `serving.client.endpoint.ScoringClient` or a `LocalScorer`. Threads share it."""

    def score(self, values: Cells, *, shot_id: Integers | None = None, request_id: str = "") -> Predictions:
        """Return label and probability of each row, or raise `RejectedRowsError`."""

    def cancel(self) -> None:
        """Cancel the requests that wait."""


class Chunk(NamedTuple):
    """Consecutive rows of a table, and the number of the first one, from 0."""

    start: int
    table: pa.Table


def score_chunk(
    chunk: Chunk, scorer: Scorer, request_id: str = "", *, is_typed: bool = False, dataset: Dataset | None = None
) -> pa.Table:
    """Score the rows of a chunk.

    A row is rejected if it violates the schema, or if the scorer rejects it alone.

    Parameters
    ----------
    chunk : Chunk
    scorer : Scorer
    request_id : str
        For the inference log.
    is_typed : bool
        Whether a row is rejected too if a cell of another column cannot be converted to the type of the schema.
    dataset : Dataset, optional
        What the rows are; by default the dataset of this process.

    Returns
    -------
    pyarrow.Table
        ``prediction``, ``probability``, ``model_version`` and ``reason`` of each row. A rejected row has only a reason;
        the version is null if the scorer does not return it.

    Raises
    ------
    RejectedRowsError
        If the scorer rejects every row that it gets.
    ScoringError
        If it does not respond.
    """
    rows = _Rows(chunk.table, scorer, request_id, is_typed=is_typed, dataset=dataset or current())
    rows.score()
    return rows.predictions()


class _Rows:
    def __init__(self, table: pa.Table, scorer: Scorer, request_id: str, *, is_typed: bool, dataset: Dataset) -> None:
        self._scorer, self._request_id, self._dataset = scorer, request_id, dataset
        self._values, self._problems = features_of(table, dataset)
        self._ids = shot_ids_of(table)
        others = typed_with_problems(table, dataset)[1] if is_typed else {}
        self._reasons = {**time_problems_of(table, dataset), **others, **self._problems}
        count = len(self._values)
        self._label, self._probability = np.zeros(count, dtype=np.int64), np.full(count, np.nan)
        self._version = np.zeros(count, dtype=np.int64)
        self._rejected_alone = 0
        self._first_error: RejectedRowsError | None = None

    def score(self) -> None:
        rows = np.arange(len(self._values))
        # Most chunks have no wrong row, and the scorer checks them anyway.
        if self._reasons or (len(rows) and self._try(rows)):
            self._reasons = {**self._reasons, **problems_of(self._values, self._dataset), **self._problems}
            self._halve(np.setdiff1d(rows, list(self._reasons)))

    def predictions(self) -> pa.Table:
        unknown = self._version == 0
        if not self._reasons:
            columns = [pa.array(self._label), pa.array(self._probability), pa.nulls(len(unknown), pa.string())]
        else:
            reasons = pa.array([self._reasons.get(row) for row in range(len(unknown))], type=pa.string())
            rejected = reasons.is_valid().to_numpy(zero_copy_only=False)
            columns = [pa.array(self._label, mask=rejected), pa.array(self._probability, mask=rejected), reasons]
        columns.insert(2, pa.array(self._version, mask=unknown))
        return pa.table(columns, schema=_SCHEMA)

    def _try(self, rows: Integers) -> RejectedRowsError | None:
        """Score rows; the error if the scorer rejects them."""
        values, ids, request_id = self._values, self._ids, self._request_id
        places: slice | Integers = slice(None)
        if len(rows) < len(values):
            places = rows
            values, ids = values[rows], None if ids is None else ids[rows]
            request_id += f"-{rows[0]}-{len(rows)}" if request_id else ""
        try:
            label, probability, version = self._scorer.score(values, shot_id=ids, request_id=request_id)
        except RejectedRowsError as error:
            return error
        self._label[places], self._probability[places], self._version[places] = label, probability, version or 0
        return None

    def _halve(self, rows: Integers) -> None:
        """Score rows, and find those that only the scorer rejects."""
        error = self._try(rows) if len(rows) else None
        if error is None:
            return
        self._first_error = self._first_error or error
        if len(rows) > 1:
            for half in np.array_split(rows, 2):
                self._halve(half)
            return
        self._reasons[int(rows[0])] = error.reason
        self._rejected_alone += 1
        if self._rejected_alone >= _MAX_REJECTED_ALONE and np.isnan(self._probability).all():
            message = f"The scorer rejects rows that the schema allows, one after the other: {self._first_error}"
            raise RejectedRowsError(message, self._first_error.reason) from error
