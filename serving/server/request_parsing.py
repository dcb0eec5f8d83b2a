"""Bytes of a request → a table of doubles, and scores → bytes, as the production server has them.

Bodies are read by ``serving/body_parser``, as on the MLflow scoring server, so that a body means the same at both.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd
import pyarrow as pa
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel, _validate_prediction_input, scoring_server

from data.schema import PROBABILITY, TARGET
from serving.model import body_parser
from serving.model.body_parser import CSV, JSON, PARQUET
from serving.model.scoring_model import (
    Columns,
    checked_params,
    output_from_environment,
    read_body,
    strip_stack_trace,
    unreadable,
)
from serving.server_limits import limits

__all__ = ["ARROW", "CSV", "JSON", "PARQUET", "RequestParser", "ScoringRequest", "error_json", "predictions_arrow"]

ARROW = "application/vnd.apache.arrow.stream"

DEFAULT_THRESHOLD = 0.5
_LARGEST_WHOLE = 2.0**53


class ScoringRequest(NamedTuple):
    """A parsed request.

    Attributes
    ----------
    values : ndarray of float64, shape (n, features)
        The features in the order of the signature; of a string its place in `texts`. NaN where a cell is null.
    threshold : float
    shot_id : ndarray of int64, shape (n,), or None
        What the client calls the shots.
    output : str
        Form of the predictions.
    ignored : list
        Columns that were passed over.
    texts : mapping of int to sequence of str
        The strings of each feature of strings, by its place.
    """

    values: npt.NDArray[np.float64]
    threshold: float
    shot_id: npt.NDArray[np.int64] | None
    output: str
    ignored: Sequence[object] = ()
    texts: Mapping[int, Sequence[str]] = body_parser.NO_TEXTS


class RequestParser:
    """Reads bodies for one model.

    Parameters
    ----------
    pyfunc : mlflow.pyfunc.PyFuncModel
        With its signature.
    allowed : mapping of str to str
        What is expected of each feature, in the order of the signature.
    columns : Columns
        The names of the features, and of the identifier.
    read : callable, optional
        Values and texts of a table; for a model that takes strings.
    """

    def __init__(
        self,
        pyfunc: PyFuncModel,
        allowed: Mapping[str, str],
        columns: Columns,
        read: Callable[[pd.DataFrame], tuple[npt.NDArray[np.float64], Mapping[int, Sequence[str]]]] | None = None,
    ) -> None:
        self._metadata, self._allowed, self._read = pyfunc.metadata, allowed, read
        self._schema = pyfunc.metadata.get_input_schema()
        self._params = pyfunc.metadata.get_params_schema()
        self._names = list(allowed)
        self.columns = columns
        defaults = {param.name: param.default for param in self._params} if self._params else {}
        self.threshold = float(defaults.get("threshold", DEFAULT_THRESHOLD))
        self.output = output_from_environment()
        self._limits = limits()

    def parse(self, body: bytes, content_type: str) -> ScoringRequest:
        """The shots in a body.

        Parameters
        ----------
        body : bytes
        content_type : str
            ``JSON``, ``CSV`` or ``PARQUET``.

        Raises
        ------
        mlflow.exceptions.MlflowException
            A 4xx, without stack trace, if the body holds no table of the features.
        """
        table = read_body(body, content_type, self.columns, self._allowed, parser=body_parser, limits=self._limits)
        if isinstance(table, body_parser.OddPayload):
            return self._parse_with_mlflow(table.payload)
        threshold, output = checked_params(table.params)
        return ScoringRequest(
            table.values,
            self.threshold if threshold is None else threshold,
            None if table.ids is None else _whole(table.ids, self.columns.identifier),
            output or self.output,
            table.ignored,
            table.texts,
        )

    def _parse_with_mlflow(self, payload: dict[str, Any]) -> ScoringRequest:
        try:
            parsed = scoring_server._parse_json_data(payload, self._metadata, self._schema)  # noqa: SLF001 one protocol
            frame, params = _validate_prediction_input(parsed.data, parsed.params, self._schema, self._params)
            texts: Mapping[int, Sequence[str]] = body_parser.NO_TEXTS
            if self._read:
                values, texts = self._read(frame)
            else:
                values = frame[self._names].to_numpy(dtype=np.float64)
        except MlflowException as error:
            raise strip_stack_trace(error) from error
        except Exception as error:
            raise unreadable(error) from error
        threshold, output = checked_params(params)
        threshold = self.threshold if threshold is None else threshold
        return ScoringRequest(values, threshold, None, output or self.output, texts=texts)


def predictions_arrow(made: npt.NDArray[np.int64], probability: npt.NDArray[np.float64], target: str = TARGET) -> bytes:
    """The same as an Arrow stream, for a client that accepts ``application/vnd.apache.arrow.stream``."""
    batch = pa.record_batch({target: made, PROBABILITY: probability})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return bytes(sink.getvalue())


def error_json(error_code: str, message: str) -> bytes:
    """An error in the format of MLflow's server."""
    return orjson.dumps({"error_code": error_code, "message": message.encode(errors="replace").decode()})


def _whole(ids: npt.NDArray[np.float64], name: str) -> npt.NDArray[np.int64]:
    wrong = np.flatnonzero(~(np.abs(ids) < _LARGEST_WHOLE) | (ids % 1 != 0))
    if len(wrong):
        found = "no number" if np.isnan(ids[wrong[0]]) else format(ids[wrong[0]], ".10g")
        message = f"No row was scored. row {wrong[0]}, column {name}: found {found}, expected an integer"
        raise MlflowException.invalid_parameter_value(message)
    return ids.astype(np.int64)
