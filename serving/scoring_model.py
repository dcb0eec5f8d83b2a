"""The model that is served, as MLflow "models from code".

MLflow copies this file into the logged model and runs it there, so it imports nothing of this project: what it must
know of the schema (names, ranges) travels as the model's configuration, written by ``serving/packaging.py``, and
``serving/inference_log.py`` as a copy beside it.
"""

import functools
import importlib
import io
import json
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import skops.io
import yaml
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from mlflow.pyfunc import PythonModel, PythonModelContext

_MOST_CASES_SHOWN = 10
_MOST_CHARACTERS_SHOWN = 2_000
_VALUE_LENGTH_SHOWN = 40
_MOST_COLUMNS = 200
_MOST_ROWS = 2_000_000
NO_ROWS: tuple[list[Any], list[Sequence[object]]] = ([], [])
"""What `table_of` gives for ``{"dataframe_records": []}``, of which MLflow asks for columns."""
_TABLE_KEYS = ("dataframe_split", "dataframe_records", "inputs", "instances")
_LANGUAGE_MODEL_KEYS = {"messages", "prompt", "input"}
"""Keys by which MLflow takes a body for one of a language model; it ignores all others beside a table."""


class ScoringModel(PythonModel):
    """Checks every row by the schema, then scores all of them in NumPy.

    The model's configuration holds ``features``, a list in the order of the signature of ``{"name", "minimum",
    "maximum", "whole", "allowed"}``, ``threshold``, the default of the parameter, and ``trusted_types``, the types that
    skops may load.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Load the pipeline and the ranges; inside ``mlflow models serve``, also see to the log and the server."""
        features = context.model_config["features"]
        self.names = [feature["name"] for feature in features]
        self.allowed = [feature["allowed"] for feature in features]
        self.minimum = np.array([feature["minimum"] for feature in features])
        self.maximum = np.array([feature["maximum"] for feature in features])
        self.whole = np.array([feature["whole"] for feature in features])
        self.threshold = context.model_config["threshold"]
        self.pipeline = skops.io.load(context.artifacts["pipeline"], trusted=context.model_config["trusted_types"])
        self.recorder = None
        if "mlflow.pyfunc.scoring_server.app" in sys.modules:
            self.version = _version(Path(context.artifacts["pipeline"]).parents[1])
            self.log = importlib.import_module("inference_log")
            self.recorder = self.log.recorder_from_environment(self.names)
            _improve_the_server(self)

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 MLflow passes it
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Label and probability of each row, in order.

        Parameters
        ----------
        context : PythonModelContext
            Not used after loading.
        model_input : pandas.DataFrame
            The features as doubles; other columns are ignored.
        params : dict, optional
            ``threshold``, the P(made) from which a shot is predicted to be made, from 0 to 1.

        Returns
        -------
        pandas.DataFrame
            ``shot_made_flag`` (int64, 0 or 1) and ``probability`` (float64, P(made)).

        Raises
        ------
        mlflow.exceptions.MlflowException
            INVALID_PARAMETER_VALUE (HTTP 400) if any row is outside the schema; none is scored then.
        """
        values = self._values(model_input)
        made, probability = self.score_and_record(values, (params or {}).get("threshold", self.threshold))
        return pd.DataFrame({"shot_made_flag": made, "probability": probability})

    def score_and_record(
        self, values: npt.NDArray[np.float64], threshold: float
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """`score`, and an entry in the inference log where this process keeps one."""
        made, probability = self.score(values, threshold)
        if self.recorder:
            self.recorder.record(
                self.log.Request(uuid.uuid4().hex, self.version, values, made, probability, None, time.time())
            )
        return made, probability

    def score(
        self, values: npt.NDArray[np.float64], threshold: float
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Label and probability of each row, in order.

        Parameters
        ----------
        values : ndarray of float64, shape (n, 6)
            The features in the order of ``names``; NaN where a value is null.
        threshold : float
            P(made) from which a shot is predicted to be made, from 0 to 1.

        Returns
        -------
        made : ndarray of int64, shape (n,)
        probability : ndarray of float64, shape (n,)

        Raises
        ------
        mlflow.exceptions.MlflowException
            INVALID_PARAMETER_VALUE (HTTP 400) if the threshold or any value is outside its range.
        """
        check_threshold(threshold)
        self._check(values)
        probability = self.pipeline.predict_proba(values)[:, 1] if len(values) else np.empty(0)
        return (probability >= threshold).astype(np.int64), probability

    def _values(self, table: pd.DataFrame) -> npt.NDArray[np.float64]:
        missing = [name for name in self.names if name not in table]
        if missing:
            message = f"missing columns {missing}: expected {self.names}, found {list(table.columns)}"
            raise MlflowException.invalid_parameter_value(message)
        try:
            return table[self.names].to_numpy(dtype=np.float64)
        except (TypeError, ValueError) as error:
            message = f"expected numbers in the columns {self.names}: {error}"
            raise MlflowException.invalid_parameter_value(message) from error

    def _check(self, values: npt.NDArray[np.float64]) -> None:
        inside = (values >= self.minimum) & (values <= self.maximum)
        if inside.all() and not (values[:, self.whole] % 1).any():
            return
        fits = inside & (~self.whole | (np.where(inside, values, 0) % 1 == 0))
        cells = [(row, self.names[column], values[row, column]) for row, column in np.argwhere(~fits).tolist()]
        refuse(cells, dict(zip(self.names, self.allowed, strict=True)))


def check_threshold(threshold: object) -> None:
    """Refuse what is no threshold.

    Raises
    ------
    mlflow.exceptions.MlflowException
        INVALID_PARAMETER_VALUE (HTTP 400) if it is not a number from 0 to 1.
    """
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        message = f"threshold: expected a number from 0 to 1, found {_shown(threshold)}"
        raise MlflowException.invalid_parameter_value(message)


def refuse(cells: Sequence[tuple[int, str, object]], allowed: Mapping[str, str]) -> None:
    """Name wrong cells, if there are any.

    Parameters
    ----------
    cells : sequence of (int, str, object)
        Row, counted from 0, column and value of each.
    allowed : mapping of str to str
        What is expected of each column, in words.

    Raises
    ------
    mlflow.exceptions.MlflowException
        INVALID_PARAMETER_VALUE (HTTP 400).
    """
    if not cells:
        return
    shown = [
        f"row {row}, column {column}: found {_shown(value)}, expected {allowed[column]}"
        for row, column, value in cells[:_MOST_CASES_SHOWN]
    ]
    if len(cells) > _MOST_CASES_SHOWN:
        shown.append(f"and {len(cells) - _MOST_CASES_SHOWN:,} more")
    raise MlflowException.invalid_parameter_value("No row was scored. " + "; ".join(shown))


def refuse_what_is_no_number(
    columns: Sequence[object], rows: Sequence[Sequence[object]], allowed: Mapping[str, str]
) -> None:
    """Name the cells that are neither a number nor null; nothing is said unless all features are among the columns.

    Raises
    ------
    mlflow.exceptions.MlflowException
        INVALID_PARAMETER_VALUE (HTTP 400) if there are such cells.
    """
    if not set(allowed) <= set(columns):
        return
    places = {name: columns.index(name) for name in allowed}
    refuse(
        [
            (number, name, row[place])
            for number, row in enumerate(rows)
            for name, place in places.items()
            if not _is_number(row[place])
        ],
        allowed,
    )


class Usual(NamedTuple):
    """A table as it came.

    Attributes
    ----------
    columns : list of str
    cells : ndarray of float64, shape (n, len(columns))
        NaN where a cell is null.
    threshold : float or None
        The parameter of the request, if it has one.
    """

    columns: list[str]
    cells: npt.NDArray[np.float64]
    threshold: float | None


def table_of(payload: object) -> tuple[list[str], list[Sequence[object]]] | None:
    """Columns and rows of a JSON body in one of its usual forms.

    Parameters
    ----------
    payload : object
        The decoded body.

    Returns
    -------
    (list of str, list of sequences) or None
        None if the body has another form, or is no table. A key that a record lacks gives None in its row.

    Raises
    ------
    mlflow.exceptions.MlflowException
        BAD_REQUEST (HTTP 400) if there are too many columns, or the rows of a split table are no list, of which pandas
        makes a table of its own, mostly an empty one.

    Examples
    --------
    >>> table_of({"dataframe_split": {"columns": ["lat", "lng"], "data": [[33.9, -118.2]]}})
    (['lat', 'lng'], [[33.9, -118.2]])
    >>> table_of({"inputs": [{"lat": 33.9}, {"lng": -118.2}]})
    (['lat', 'lng'], [(33.9, None), (None, -118.2)])
    >>> table_of({"inputs": {"lat": [33.9, 34.0]}})
    (['lat'], [(33.9,), (34.0,)])
    """
    if not isinstance(payload, dict) or payload.keys() & _LANGUAGE_MODEL_KEYS:
        return None
    if len(found := [key for key in _TABLE_KEYS if key in payload]) != 1:
        return None
    table = payload[found[0]]
    columns: Any
    rows: Any
    if isinstance(table, list) and all(isinstance(record, dict) for record in table):
        columns = list(dict.fromkeys(name for record in table for name in record))
        if len(columns) > _MOST_COLUMNS:
            message = f"expected at most {_MOST_COLUMNS} columns, found {len(columns):,}"
            raise MlflowException(message, BAD_REQUEST)
        return columns, [tuple(record.get(name) for name in columns) for record in table]
    if not isinstance(table, dict):
        return None
    if found == ["dataframe_split"]:
        columns, rows = table.get("columns"), table.get("data")
        if not isinstance(rows, list):
            message = f"dataframe_split: expected data, a list of rows; found {_shown(rows)}"
            raise MlflowException(message, BAD_REQUEST)
    elif all(isinstance(column, list) for column in table.values()) and len(set(map(len, table.values()))) == 1:
        columns, rows = list(table), list(zip(*table.values(), strict=True))
    else:
        return None
    fits = (
        isinstance(columns, list)
        and all(isinstance(name, str) for name in columns)
        and isinstance(rows, list)
        and all(isinstance(row, list | tuple) and len(row) == len(columns) for row in rows)
    )
    return (columns, rows) if fits else None


def read_usual(body: bytes, content_type: str) -> Usual | None:
    """A table of numbers in one of the usual forms, straight from its bytes.

    Parameters
    ----------
    body : bytes
    content_type : str
        ``application/json`` or ``application/vnd.apache.parquet``.

    Returns
    -------
    Usual or None
        None if the body is anything else: then MLflow's own parsers say what it is, or what is wrong with it.
    """
    if content_type == "application/json":
        return _read_usual_json(body)
    return _read_usual_parquet(body) if content_type == "application/vnd.apache.parquet" else None


def _read_usual_json(body: bytes) -> Usual | None:
    try:
        payload = orjson.loads(body)
        table = table_of(payload)
        params = payload.get("params") if table else None
        if table == NO_ROWS:
            _check_params(params)
        if table is None or not table[0] or not _is_usual(params):
            return None
        columns, rows = table
        values = np.array(rows, dtype=np.float64) if rows else np.empty((0, len(columns)))
    except (TypeError, ValueError, OverflowError):
        return None
    if values.shape != (len(rows), len(columns)):
        return None
    return Usual(columns, values, (params or {}).get("threshold"))


def _read_usual_parquet(body: bytes) -> Usual | None:
    try:
        file = pq.ParquetFile(pa.BufferReader(body))
        rows = file.metadata.num_rows
    except Exception:  # noqa: BLE001 a broken file fails in many ways; MLflow's parser says which
        return None
    if rows > _MOST_ROWS:
        message = f"expected at most {_MOST_ROWS:,} rows in a request, found {rows:,}; send the table in parts"
        raise MlflowException(message, BAD_REQUEST)
    try:
        table = file.read(use_threads=False)
        index = (table.schema.pandas_metadata or {}).get("index_columns", [])
        columns = [name for name in table.column_names if name not in index]
        kinds = [table.schema.field(name).type for name in columns]
        if not all(
            pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind) for kind in kinds
        ):
            return None
        values = np.empty((len(table), len(columns)))
        for place, name in enumerate(columns):
            values[:, place] = table.column(name).cast(pa.float64()).to_numpy()
    except Exception:  # noqa: BLE001 a broken file fails in many ways; MLflow's parser says which
        return None
    return Usual(columns, values, None)


def _check_params(params: object) -> None:
    """Refuse parameters that MLflow does not come to look at, as it asks for columns first."""
    if params is not None and not isinstance(params, dict):
        message = f"params: expected an object, found {_shown(params)}"
        raise MlflowException.invalid_parameter_value(message)
    if params and "threshold" in params:
        check_threshold(params["threshold"])


def _is_usual(params: object) -> bool:
    return params is None or (isinstance(params, dict) and type(params.get("threshold", 0.5)) in {int, float})


def answer_json(made: npt.NDArray[np.int64], probability: npt.NDArray[np.float64]) -> bytes:
    """What MLflow's server answers to rows that were scored.

    Examples
    --------
    >>> answer_json(np.array([0]), np.array([0.25]))
    b'{"predictions":[{"shot_made_flag":0,"probability":0.25}]}'
    """
    pairs = zip(made.tolist(), probability.tolist(), strict=True)
    return orjson.dumps({"predictions": [{"shot_made_flag": label, "probability": value} for label, value in pairs]})


def read_table(body: bytes, content_type: str) -> tuple[list[Any], list[Sequence[object]]] | None:
    """Columns and rows of a body, cells as they came, to tell what is wrong with them.

    Returns
    -------
    (list, list of sequences) or None
        None if the body cannot be read as a table.
    """
    try:
        if "json" in content_type:
            return table_of(json.loads(body))
        source = io.BytesIO(body)
        frame = pd.read_csv(source, dtype=str) if "csv" in content_type else pd.read_parquet(source)
    except Exception:  # noqa: BLE001 whatever a parser raises, MLflow's own message stands
        return None
    cells = frame.astype(object)
    return list(frame.columns), cells.where(frame.notna(), None).to_numpy().tolist()


def without_trace(error: MlflowException) -> MlflowException:
    """The same error without a stack trace, and not longer than a person reads."""
    error.json_kwargs.pop("stack_trace", None)
    if len(error.message) > _MOST_CHARACTERS_SHOWN:
        half = _MOST_CHARACTERS_SHOWN // 2
        error.message = f"{error.message[:half]} … {error.message[-half:]}"
    return error


def unreadable(error: Exception) -> MlflowException:
    """The error that is answered where a parser failed in a way of its own."""
    return MlflowException(f"The body could not be read as a table: {type(error).__name__}.", BAD_REQUEST)


def _improve_the_server(model: ScoringModel) -> None:
    """Let MLflow's server answer the usual bodies at once, and in words what its parsers fail on.

    On the way to the model, MLflow 3.17 makes a table of the body, one of pandas, cell by cell, three times: half of
    the time of a short request. Where its parsers fail it answers 500 (no content type, JSON that nests too deep, names
    of columns that are lists), or a stack trace with the server's paths (malformed CSV and Parquet). Every body that is
    not usual still goes MLflow's way.
    """
    server: Any = importlib.import_module("mlflow.pyfunc.scoring_server")
    answer: Callable[..., Any] = server.invocations

    @functools.wraps(answer)
    def invocations(data: bytes, content_type: str | None, *others: Any) -> Any:  # noqa: ANN401 MLflow's own types
        kind = content_type or ""
        usual = read_usual(data, kind)
        if usual and set(model.names) <= set(usual.columns) and len(set(usual.columns)) == len(usual.columns):
            values = usual.cells[:, [usual.columns.index(name) for name in model.names]]
            threshold = model.threshold if usual.threshold is None else usual.threshold
            text = answer_json(*model.score_and_record(values, threshold)).decode()
            return server.InvocationsResponse(text, 200, server.CONTENT_TYPE_JSON)
        try:
            return answer(data, kind, *others)
        except MlflowException as error:
            table = read_table(data, kind)
            if table == NO_ROWS:
                return server.InvocationsResponse('{"predictions": []}', 200, server.CONTENT_TYPE_JSON)
            if table:
                refuse_what_is_no_number(*table, dict(zip(model.names, model.allowed, strict=True)))
            raise without_trace(error) from error
        except Exception as error:
            raise unreadable(error) from error

    server.invocations = invocations


def _version(folder: Path) -> str:
    """Number of the registered version, which MLflow writes beside a model that it takes from the registry."""
    try:
        meta = yaml.safe_load((folder / "registered_model_meta").read_text(encoding="utf-8"))
        return str(meta["model_version"])
    except (OSError, KeyError, TypeError):
        return "unregistered"


def _is_number(value: object) -> bool:
    try:
        return value is None or (np.ndim(value) == 0 and float(value) is not None)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return False


def _shown(value: object) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "null"
    if isinstance(value, float):
        return format(value, ".10g")
    text = repr(value)
    return text if len(text) <= _VALUE_LENGTH_SHOWN else f"{text[:_VALUE_LENGTH_SHOWN]}…"


set_model(ScoringModel())
