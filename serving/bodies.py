"""Bytes of a request → a table of doubles, and scores → bytes, without a detour for the usual bodies.

JSON in one of the usual forms, and Parquet of numbers, go straight to NumPy; all else goes through the parsers of
MLflow's own scoring server, so that a body means the same at both doors.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd
import pyarrow as pa
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel, _validate_prediction_input, scoring_server

from data.schema import PROBABILITY, RAW_NAME, SHOT_ID, TARGET
from serving.scoring_model import (
    NO_ROWS,
    Columns,
    Usual,
    check_header,
    check_output,
    check_threshold,
    explained,
    others,
    output_from_environment,
    read_table,
    read_usual,
    unreadable,
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
    output : str
        Form of the predictions.
    ignored : list
        Columns that were passed over.
    """

    values: npt.NDArray[np.float64]
    threshold: float
    shot_id: npt.NDArray[np.int64] | None
    output: str
    ignored: Sequence[object] = ()


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
        self.columns = Columns(self._names, {raw: name for name, raw in RAW_NAME.items()}, SHOT_ID)
        defaults = {param.name: param.default for param in self._params} if self._params else {}
        self.threshold = float(defaults.get("threshold", DEFAULT_THRESHOLD))
        self.output = output_from_environment()

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
        usual = read_usual(body, content_type, self.columns)
        if usual:
            return self._shots(usual)
        if content_type == CSV:
            check_header(body, self.columns)
        try:
            return self._shots(self._read_with_mlflow(body, content_type))
        except MlflowException as error:
            table = read_table(body, content_type)
            if table == NO_ROWS:
                return Shots(np.empty((0, len(self._names))), self.threshold, None, self.output)
            raise explained(error, table, self.columns, self._allowed) from error

    def _shots(self, usual: Usual) -> Shots:
        return Shots(
            usual.values,
            self.threshold if usual.threshold is None else usual.threshold,
            None if usual.ids is None else _whole(usual.ids),
            usual.output or self.output,
            usual.ignored,
        )

    def _read_with_mlflow(self, body: bytes, content_type: str) -> Usual:
        try:
            data, params = self._parse(body, content_type)
            table = pd.DataFrame(data) if isinstance(data, list) and all(isinstance(r, dict) for r in data) else data
            output = params.get("output") if isinstance(params, dict) else None
            ids: npt.NDArray[np.float64] | None = None
            ignored: list[object] = []
            if isinstance(table, pd.DataFrame | dict):
                names = list(table)
                places = self.columns.places(names)
                ids = _numbers(table[SHOT_ID]) if SHOT_ID in names else None
                ignored = others(names, places, self.columns)
                data = {name: table[names[place]] for name, place in zip(self._names, places, strict=True)}
                data = pd.DataFrame(data) if isinstance(table, pd.DataFrame) else data
            frame, params = _validate_prediction_input(data, params, self._schema, self._params)
            values = frame[self._names].to_numpy(dtype=np.float64)
        except MlflowException:
            raise
        except Exception as error:
            raise unreadable(error) from error
        threshold = (params or {}).get("threshold", self.threshold)
        check_threshold(threshold)
        if output is not None:
            check_output(output)
        return Usual(values, ids, ignored, threshold, output)

    def _parse(self, body: bytes, content_type: str) -> tuple[Any, dict[str, Any] | None]:
        if content_type == JSON:
            parsed = scoring_server._parse_json_data(body, self._metadata, self._schema)  # noqa: SLF001 one protocol
            return parsed.data, parsed.params
        if content_type == PARQUET:
            return scoring_server.parse_parquet_input(pa.BufferReader(body)), None
        return scoring_server.parse_csv_input(io.StringIO(body.decode()), schema=self._schema), None


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
