"""Bytes of a request → a table of doubles, and scores → bytes, without a detour for the usual bodies.

JSON in one of the usual forms, and Parquet of numbers, go straight to NumPy; all else goes through the parsers of
MLflow's own scoring server, so that a body means the same at both doors.
"""

import io
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd
import pyarrow as pa
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel, _validate_prediction_input, scoring_server

from data.schema import PROBABILITY, SHOT_ID, TARGET
from serving.scoring_model import (
    NO_ROWS,
    Usual,
    check_threshold,
    read_table,
    read_usual,
    refuse_what_is_no_number,
    unreadable,
    without_trace,
)

JSON, CSV, PARQUET = (
    scoring_server.CONTENT_TYPE_JSON,
    scoring_server.CONTENT_TYPE_CSV,
    scoring_server.CONTENT_TYPE_PARQUET,
)
ARROW = "application/vnd.apache.arrow.stream"

DEFAULT_THRESHOLD = 0.5
_LARGEST_WHOLE = 2.0**53


class Shots(NamedTuple):
    """What a request asks for.

    Attributes
    ----------
    values : ndarray of float64, shape (n, 6)
        The features in the order of the signature.
    threshold : float
    shot_id : ndarray of int64, shape (n,), or None
        What the caller calls the shots.
    """

    values: npt.NDArray[np.float64]
    threshold: float
    shot_id: npt.NDArray[np.int64] | None


class Reader:
    """Reads bodies for one model.

    Parameters
    ----------
    pyfunc : mlflow.pyfunc.PyFuncModel
        With its signature.
    allowed : mapping of str to str
        What is expected of each feature, in words, in the order of the signature.
    """

    def __init__(self, pyfunc: PyFuncModel, allowed: Mapping[str, str]) -> None:
        self._metadata, self._allowed = pyfunc.metadata, allowed
        self._schema = pyfunc.metadata.get_input_schema()
        self._params = pyfunc.metadata.get_params_schema()
        self._names = list(allowed)
        self.threshold = float(self._params.params[0].default) if self._params else DEFAULT_THRESHOLD

    def read(self, body: bytes, content_type: str) -> Shots:
        """The shots in a body.

        Parameters
        ----------
        body : bytes
        content_type : str
            ``JSON``, ``CSV`` or ``PARQUET``.

        Raises
        ------
        mlflow.exceptions.MlflowException
            A 4xx in words, without stack trace, if the body holds no table of the six features.
        """
        usual = read_usual(body, content_type)
        try:
            return self._shots(usual) if usual else self._read_with_mlflow(body, content_type)
        except MlflowException as error:
            table = read_table(body, content_type)
            if table == NO_ROWS:
                return Shots(np.empty((0, len(self._names))), self.threshold, None)
            if table:
                refuse_what_is_no_number(*table, self._allowed)
            raise without_trace(error) from error

    def _shots(self, usual: Usual) -> Shots:
        columns, values, threshold = usual
        self._check_columns(columns)
        ids = _whole(values[:, columns.index(SHOT_ID)]) if SHOT_ID in columns else None
        features = values if columns == self._names else values[:, [columns.index(name) for name in self._names]]
        return Shots(features, self.threshold if threshold is None else threshold, ids)

    def _read_with_mlflow(self, body: bytes, content_type: str) -> Shots:
        try:
            data, params = self._parse(body, content_type)
            table = pd.DataFrame(data) if isinstance(data, list) and all(isinstance(r, dict) for r in data) else data
            names = list(table) if isinstance(table, pd.DataFrame | dict) else None
            if names is not None:
                self._check_columns(names)
            ids = table[SHOT_ID] if names and SHOT_ID in names else None
            frame, params = _validate_prediction_input(data, params, self._schema, self._params)
            values = frame[self._names].to_numpy(dtype=np.float64)
            shot_id = None if ids is None else _whole(_numbers(ids))
        except MlflowException:
            raise
        except Exception as error:
            raise unreadable(error) from error
        threshold = (params or {}).get("threshold", self.threshold)
        check_threshold(threshold)
        return Shots(values, threshold, shot_id)

    def _parse(self, body: bytes, content_type: str) -> tuple[Any, dict[str, Any] | None]:
        if content_type == JSON:
            parsed = scoring_server._parse_json_data(body, self._metadata, self._schema)  # noqa: SLF001 one protocol
            return parsed.data, parsed.params
        if content_type == PARQUET:
            return scoring_server.parse_parquet_input(pa.BufferReader(body)), None
        return scoring_server.parse_csv_input(io.StringIO(body.decode()), schema=self._schema), None

    def _check_columns(self, columns: list[Any]) -> None:
        problems = {
            "missing": [name for name in self._names if name not in columns],
            "unknown": [name for name in columns if name not in self._names and name != SHOT_ID],
            "doubled": sorted({str(name) for name in columns if columns.count(name) > 1}),
        }
        found = "; ".join(f"{problem} columns {names[:20]}" for problem, names in problems.items() if names)
        if found:
            message = f"No row was scored. {found}: expected {self._names}, and {SHOT_ID} if you like."
            raise MlflowException.invalid_parameter_value(message)


def answer_arrow(made: npt.NDArray[np.int64], probability: npt.NDArray[np.float64]) -> bytes:
    """The same as an Arrow stream, for a caller that accepts ``application/vnd.apache.arrow.stream``."""
    batch = pa.record_batch({TARGET: made, PROBABILITY: probability})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return bytes(sink.getvalue())


def error_json(error_code: str, message: str) -> bytes:
    """An error as MLflow's server answers it."""
    return orjson.dumps({"error_code": error_code, "message": message.encode(errors="replace").decode()})


def _numbers(cells: Iterable[object]) -> npt.NDArray[np.float64]:
    """Cells as doubles, NaN where they are no numbers; MLflow wraps some of them in arrays of one element."""
    plain = [cell.item() if isinstance(cell, np.ndarray) and cell.size == 1 else cell for cell in cells]
    return pd.to_numeric(pd.Series(plain, dtype=object), errors="coerce").to_numpy(dtype=np.float64)


def _whole(ids: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    wrong = np.flatnonzero(~(np.abs(ids) < _LARGEST_WHOLE) | (ids % 1 != 0))
    if len(wrong):
        found = "no number" if np.isnan(ids[wrong[0]]) else format(ids[wrong[0]], ".10g")
        message = f"No row was scored. row {wrong[0]}, column {SHOT_ID}: found {found}, expected a whole number"
        raise MlflowException.invalid_parameter_value(message)
    return ids.astype(np.int64)
