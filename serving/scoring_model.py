"""The model that is served, as MLflow "models from code".

MLflow copies this file into the logged model and runs it there, so it imports nothing of this project: what it must
know of the schema (names, ranges) travels as the model's configuration, written by ``serving/packaging.py``, and
``serving/inference_log.py`` as a copy beside it.
"""

import contextvars
import csv
import functools
import importlib
import io
import json
import os
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
from mlflow.types import DataType

_MOST_CASES_SHOWN = 10
_MOST_CHARACTERS_SHOWN = 2_000
_VALUE_LENGTH_SHOWN = 40
_MOST_COLUMNS = 200
_MOST_COLUMNS_SHOWN = 20
_MOST_HEADER_BYTES = 100_000
_MOST_ROWS = 2_000_000
OUTPUTS = ("records", "label", "probability", "probabilities")
"""Forms of a prediction; the first is the default."""
OUTPUT_VARIABLE = "KOBE_SHOT_OUTPUT"
"""Environment variable that names the form in which a server answers requests that ask for none."""
_FLAVOR = "mlflow.pyfunc.loaders.code_model"
"""How MLflow calls models from code."""
_EVALUATOR = "mlflow.models.evaluation.evaluators.classifier"
NO_ROWS: tuple[list[Any], list[Sequence[object]]] = ([], [])
"""What `table_of` gives for ``{"dataframe_records": []}``, of which MLflow asks for columns."""
_TABLE_KEYS = ("dataframe_split", "dataframe_records", "inputs", "instances")
_LANGUAGE_MODEL_KEYS = {"messages", "prompt", "input"}
"""Keys by which MLflow takes a body for one of a language model; it ignores all others beside a table."""
_origin = contextvars.ContextVar("origin", default="")
"""Where the request that is being answered says that it comes from, in MLflow's server."""


class Columns(NamedTuple):
    """What a table calls the features.

    Attributes
    ----------
    names : list of str
        The features, in the order of the signature.
    aliases : mapping of str to str
        Feature by each of its other names.
    identifier : str
        Column that a reader takes beside them where a table has it, or empty.

    Examples
    --------
    >>> columns = Columns(["lat", "lng"], {"lon": "lng"})
    >>> columns.places(["lon", "loc_x", "lat"])
    [2, 0]
    """

    names: list[str]
    aliases: Mapping[str, str]
    identifier: str = ""

    def places(self, columns: Sequence[object]) -> list[int]:
        """Where each feature is; columns that are none of them are passed over.

        Parameters
        ----------
        columns : sequence
            Names of the columns of a table.

        Raises
        ------
        mlflow.exceptions.MlflowException
            INVALID_PARAMETER_VALUE (HTTP 400) if a feature is missing, or there more than once, under one name or two.
        """
        found: dict[object, list[int]] = {name: [] for name in self.names}
        identified = 0
        for place, column in enumerate(columns):
            name = self.aliases.get(column, column)  # type: ignore[call-overload]
            if name in found:
                found[name].append(place)
            elif self.identifier and name == self.identifier:
                identified += 1
        if identified < 2 and all(len(places) == 1 for places in found.values()):  # noqa: PLR2004
            return [place for (place,) in found.values()]
        message = f"No row was scored. {self._problem(columns, found, identified)}"
        raise MlflowException.invalid_parameter_value(message)

    def _problem(self, columns: Sequence[object], found: Mapping[object, list[int]], identified: int) -> str:
        called = ", ".join(f"{name} may be called {alias}" for alias, name in self.aliases.items())
        expected = f"expected {self.names}{f' ({called})' if called else ''}"
        if columns and not any(isinstance(column, str) for column in columns):
            example = f'{{"dataframe_split": {{"columns": {json.dumps(self.names)}, "data": [[…]]}}}}'
            return f"The columns have no names: {expected}, found rows by position. Send {example}"
        problems = []
        for name, places in found.items():
            under = list(dict.fromkeys(columns[place] for place in places))
            if len(under) > 1:
                problems.append(f"ambiguous columns {under}, which are names of one feature: send one of them")
            elif len(places) > 1:
                problems.append(f"column {name!r} found {len(places)} times")
        if identified > 1:
            problems.append(f"column {self.identifier!r} found {identified} times")
        missing = [name for name, places in found.items() if not places]
        if missing:
            shown = [_shown(column) for column in columns[:_MOST_COLUMNS_SHOWN]]
            problems.append(f"missing columns {missing}, found [{', '.join(shown)}]")
        return f"{'; '.join(problems)}; {expected}"


class ScoringModel(PythonModel):
    """Checks every row by the schema, then scores all of them in NumPy.

    The model's configuration holds ``features``, a list in the order of the signature of ``{"name", "aliases",
    "minimum", "maximum", "whole", "allowed"}``, ``threshold``, the default of the parameter, and ``trusted_types``, the
    types that skops may load.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Load the pipeline and the ranges; inside ``mlflow models serve``, also see to the log and the server."""
        features = context.model_config["features"]
        self.names = [feature["name"] for feature in features]
        self.columns = Columns(
            self.names, {alias: feature["name"] for feature in features for alias in feature["aliases"]}
        )
        self.allowed = [feature["allowed"] for feature in features]
        self.minimum = np.array([feature["minimum"] for feature in features])
        self.maximum = np.array([feature["maximum"] for feature in features])
        self.whole = np.array([feature["whole"] for feature in features])
        self.threshold = context.model_config["threshold"]
        self.output = OUTPUTS[0]
        self.pipeline = skops.io.load(context.artifacts["pipeline"], trusted=context.model_config["trusted_types"])
        self.recorder = None
        _take_integers_and_aliases(self.columns)
        if "mlflow.pyfunc.scoring_server.app" in sys.modules or "mlserver" in sys.modules:
            self.output = output_from_environment()
        if "mlflow.pyfunc.scoring_server.app" in sys.modules:
            self.version = _version(Path(context.artifacts["pipeline"]).parents[1])
            self.log = importlib.import_module("inference_log")
            most = importlib.import_module("server_limits").limits()
            may_keep = self.log.Limits(most.log_bytes, most.spool_bytes)
            self.recorder = self.log.recorder_from_environment(self.names, may_keep)
            _improve_the_server(self)

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 MLflow passes it
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> "pd.DataFrame | npt.NDArray[Any]":
        """Predictions for each row, in order.

        Parameters
        ----------
        context : PythonModelContext
            Not used after loading.
        model_input : pandas.DataFrame
            The features as numbers; other columns are ignored.
        params : dict, optional
            ``threshold``, the P(made) from which a shot is predicted to be made, from 0 to 1, and ``output``, one of
            ``OUTPUTS``. Where it is not given, ``mlflow.models.evaluate`` gets labels and everybody else the default.

        Returns
        -------
        pandas.DataFrame or numpy.ndarray
            ``shot_made_flag`` (int64, 0 or 1) and ``probability`` (float64, P(made)) with the index of `model_input`;
            or for another ``output`` an array, as `shaped` has it.

        Raises
        ------
        mlflow.exceptions.MlflowException
            INVALID_PARAMETER_VALUE (HTTP 400) if any row is outside the schema; none is scored then.
        """
        asked = params or {}
        output = asked.get("output")
        if output is None:
            output = "label" if _is_evaluated() else self.output
        check_output(output)
        values = self._values(model_input)
        made, probability = self.score_and_record(values, asked.get("threshold", self.threshold))
        if output == OUTPUTS[0]:
            return pd.DataFrame({"shot_made_flag": made, "probability": probability}, index=model_input.index)
        return shaped(made, probability, output)

    def score_and_record(
        self, values: npt.NDArray[np.float64], threshold: float
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """`score`, and an entry in the inference log where this process keeps one."""
        made, probability = self.score(values, threshold)
        if self.recorder:
            name, now, origin = uuid.uuid4().hex, time.time(), _origin.get() or self.log.TRAFFIC
            self.recorder.record(self.log.Request(name, self.version, values, made, probability, None, now, origin))
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
        table = with_doubles(table, self.columns)
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


def check_output(output: object) -> None:
    """Refuse what is no form of a prediction.

    Raises
    ------
    mlflow.exceptions.MlflowException
        INVALID_PARAMETER_VALUE (HTTP 400) if it is not one of ``OUTPUTS``.
    """
    if output not in OUTPUTS:
        message = f"output: expected one of {', '.join(OUTPUTS)}; found {_shown(output)}"
        raise MlflowException.invalid_parameter_value(message)


def output_from_environment() -> str:
    """The form in which this process answers requests that ask for none, ``records`` unless the environment names one.

    Raises
    ------
    mlflow.exceptions.MlflowException
        If the environment names another than those of ``OUTPUTS``.
    """
    output = os.environ.get(OUTPUT_VARIABLE) or OUTPUTS[0]
    if output not in OUTPUTS:
        message = f"{OUTPUT_VARIABLE}: expected one of {', '.join(OUTPUTS)}; found {_shown(output)}"
        raise MlflowException.invalid_parameter_value(message)
    return output


def shaped(made: npt.NDArray[np.int64], probability: npt.NDArray[np.float64], output: str) -> npt.NDArray[Any]:
    """Predictions as stock models give them.

    Parameters
    ----------
    made : ndarray of int64, shape (n,)
    probability : ndarray of float64, shape (n,)
        P(made).
    output : str
        ``label``, ``probability``, or ``probabilities`` for scikit-learn's ``predict_proba``: P(missed) and P(made).

    Examples
    --------
    >>> shaped(np.array([0]), np.array([0.25]), "probabilities").tolist()
    [[0.75, 0.25]]
    """
    if output == "label":
        return made
    return probability if output == "probability" else np.column_stack([1 - probability, probability])


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


def refuse_what_is_no_number(rows: Sequence[Sequence[object]], allowed: Mapping[str, str]) -> None:
    """Name the cells that are neither a number nor null.

    Parameters
    ----------
    rows : sequence of sequences
        The features of each row, in the order of `allowed`.
    allowed : mapping of str to str
        What is expected of each feature, in words.

    Raises
    ------
    mlflow.exceptions.MlflowException
        INVALID_PARAMETER_VALUE (HTTP 400) if there are such cells.
    """
    refuse(
        [
            (number, name, cell)
            for number, row in enumerate(rows)
            for name, cell in zip(allowed, row, strict=True)
            if not _is_number(cell)
        ],
        allowed,
    )


class Usual(NamedTuple):
    """A table as it came.

    Attributes
    ----------
    values : ndarray of float64, shape (n, 6)
        The features in the order of the signature; NaN where a cell is null.
    ids : ndarray of float64, shape (n,), or None
        The identifier, if it was asked for and the table has it.
    ignored : list of str
        Columns that were passed over.
    threshold : float or None
    output : str or None
        The parameters of the request, if it has them.
    """

    values: npt.NDArray[np.float64]
    ids: npt.NDArray[np.float64] | None = None
    ignored: Sequence[object] = ()
    threshold: float | None = None
    output: str | None = None


def table_of(payload: object) -> tuple[list[Any], list[Sequence[object]]] | None:
    """Columns and rows of a JSON body in one of its usual forms.

    Parameters
    ----------
    payload : object
        The decoded body.

    Returns
    -------
    (list of str, list of sequences) or None
        None if the body has another form, or is no table. A key that a record lacks gives None in its row. Columns
        without names are numbered.

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
    >>> table_of({"inputs": [[33.9, -118.2]]})
    ([0, 1], [[33.9, -118.2]])
    """
    if not isinstance(payload, dict) or payload.keys() & _LANGUAGE_MODEL_KEYS:
        return None
    if len(found := [key for key in _TABLE_KEYS if key in payload]) != 1:
        return None
    key, table = found[0], payload[found[0]]
    parse = {"dataframe_split": _split, "dataframe_records": _records}.get(key, _tensor)
    columns, rows = parse(table)
    fits = (
        isinstance(columns, list)
        and all(isinstance(name, str | int) for name in columns)
        and all(isinstance(row, list | tuple) and len(row) == len(columns) for row in rows)
    )
    return (columns, rows) if fits else None


def _split(table: object) -> tuple[Any, Any]:
    """Columns and rows of ``dataframe_split``; columns that are None if it is none."""
    if not isinstance(table, dict):
        return None, None
    columns, rows = table.get("columns"), table.get("data")
    if not isinstance(rows, list):
        message = f"dataframe_split: expected data, a list of rows; found {_shown(rows)}"
        raise MlflowException(message, BAD_REQUEST)
    if columns is None and rows and isinstance(rows[0], list):
        return [*range(len(rows[0]))], rows
    return columns, rows


def _records(table: object) -> tuple[Any, Any]:
    """Columns and rows of a list of records; columns that are None if it is none."""
    if not isinstance(table, list) or not all(isinstance(record, dict) for record in table):
        return None, None
    columns = list(dict.fromkeys(name for record in table for name in record))
    if len(columns) > _MOST_COLUMNS:
        message = f"expected at most {_MOST_COLUMNS} columns, found {len(columns):,}"
        raise MlflowException(message, BAD_REQUEST)
    return columns, [tuple(record.get(name) for name in columns) for record in table]


def _tensor(table: object) -> tuple[Any, Any]:
    """Columns and rows of ``inputs`` or ``instances``: records, columns, a row, or rows by position, then numbered."""
    if isinstance(table, list) and table and not any(isinstance(row, dict) for row in table):
        rows = table if all(isinstance(row, list) for row in table) else [table]
        return [*range(len(rows[0]))], rows
    if not isinstance(table, dict):
        return _records(table)
    if not any(isinstance(column, list | dict) for column in table.values()):
        return [*table], [[*table.values()]]
    if all(isinstance(column, list) for column in table.values()) and len(set(map(len, table.values()))) == 1:
        return [*table], [*zip(*table.values(), strict=True)]
    return None, None


def read_usual(body: bytes, content_type: str, columns: Columns) -> Usual | None:
    """A table of numbers in one of the usual forms, straight from its bytes.

    Parameters
    ----------
    body : bytes
    content_type : str
        ``application/json`` or ``application/vnd.apache.parquet``.
    columns : Columns
        What is read of it.

    Returns
    -------
    Usual or None
        None if the body is anything else: then MLflow's own parsers say what it is, or what is wrong with it.
    """
    if content_type == "application/json":
        return _read_usual_json(body, columns)
    return _read_usual_parquet(body, columns) if content_type == "application/vnd.apache.parquet" else None


def _read_usual_json(body: bytes, columns: Columns) -> Usual | None:
    try:
        payload = orjson.loads(body)
        table = table_of(payload)
        params = payload.get("params") if table else None
        if table == NO_ROWS:
            _check_params(params)
        if table is None or not table[0] or not _is_usual(params):
            return None
        names, rows = table
        ids, ignored = None, []
        if names != columns.names:
            try:
                places = columns.places(names)
            except MlflowException:
                return None
            if columns.identifier and columns.identifier in names:
                place = names.index(columns.identifier)
                ids = np.array([row[place] for row in rows], dtype=np.float64)
            ignored = others(names, places, columns)
            rows = [[row[place] for place in places] for row in rows]
        values = np.array(rows, dtype=np.float64) if rows else np.empty((0, len(columns.names)))
    except (TypeError, ValueError, OverflowError):
        return None
    if values.shape != (len(rows), len(columns.names)) or (ids is not None and ids.shape != (len(rows),)):
        return None
    asked = params or {}
    return Usual(values, ids, ignored, asked.get("threshold"), asked.get("output"))


def _read_usual_parquet(body: bytes, columns: Columns) -> Usual | None:
    try:
        file = pq.ParquetFile(pa.BufferReader(body))
        rows = file.metadata.num_rows
    except Exception:  # noqa: BLE001 a broken file fails in many ways; MLflow's parser says which
        return None
    if rows > _MOST_ROWS:
        message = f"expected at most {_MOST_ROWS:,} rows in a request, found {rows:,}; send the table in parts"
        raise MlflowException(message, BAD_REQUEST)
    try:
        schema = file.schema_arrow
        index = (schema.pandas_metadata or {}).get("index_columns", [])
        names = [name for name in schema.names if name not in index]
        places = columns.places(names)
        wanted = [names[place] for place in places]
        identified = bool(columns.identifier) and columns.identifier in names
        table = file.read(columns=[*wanted, *([columns.identifier] if identified else [])], use_threads=False)
        if not all(
            pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)
            for kind in table.schema.types
        ):
            return None
        values = np.empty((len(table), len(wanted)))
        for place, name in enumerate(wanted):
            values[:, place] = _doubles(table.column(name))
        ids = _doubles(table.column(columns.identifier)) if identified else None
    except Exception:  # noqa: BLE001 a broken file fails in many ways; MLflow's parser says which
        return None
    return Usual(values, ids, others(names, places, columns))


def _doubles(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    values: npt.NDArray[np.float64] = column.cast(pa.float64()).to_numpy()
    return values


def others(names: Sequence[object], places: Sequence[int], columns: Columns) -> list[object]:
    """Columns that are neither features, which `places` names, nor the identifier."""
    taken = set(places)
    return [name for place, name in enumerate(names) if place not in taken and name != columns.identifier]


def _check_params(params: object) -> None:
    """Refuse parameters that MLflow does not come to look at, as it asks for columns first."""
    if params is not None and not isinstance(params, dict):
        message = f"params: expected an object, found {_shown(params)}"
        raise MlflowException.invalid_parameter_value(message)
    if params and "threshold" in params:
        check_threshold(params["threshold"])
    if params and params.get("output") is not None:
        check_output(params["output"])


def _is_usual(params: object) -> bool:
    return params is None or (
        isinstance(params, dict)
        and type(params.get("threshold", 0.5)) in {int, float}
        and params.get("output") in {None, *OUTPUTS}
    )


def answer_json(made: npt.NDArray[np.int64], probability: npt.NDArray[np.float64], output: str = OUTPUTS[0]) -> bytes:
    """What MLflow's server answers to rows that were scored.

    Examples
    --------
    >>> answer_json(np.array([0]), np.array([0.25]))
    b'{"predictions":[{"shot_made_flag":0,"probability":0.25}]}'
    >>> answer_json(np.array([0]), np.array([0.25]), "probabilities")
    b'{"predictions":[[0.75,0.25]]}'
    """
    if output != OUTPUTS[0]:
        return orjson.dumps({"predictions": shaped(made, probability, output).tolist()})
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


def check_header(body: bytes, columns: Columns) -> None:
    """Refuse a CSV table in which a feature stands twice, of which pandas makes two columns.

    Raises
    ------
    mlflow.exceptions.MlflowException
        INVALID_PARAMETER_VALUE (HTTP 400).
    """
    line = body[:_MOST_HEADER_BYTES].decode(errors="replace").partition("\n")[0]
    try:
        names = next(csv.reader([line.rstrip("\r")]), [])
    except csv.Error:
        return
    if len([name for name in names if name in columns.names or name in columns.aliases]) > len(columns.names):
        columns.places(names)


def explained(
    error: MlflowException,
    table: tuple[list[Any], list[Sequence[object]]] | None,
    columns: Columns,
    allowed: Mapping[str, str],
) -> MlflowException:
    """What is answered instead of an error of MLflow: one that names columns and cells, if they are what is wrong.

    Parameters
    ----------
    error : mlflow.exceptions.MlflowException
    table : (list, list of sequences) or None
        The refused table, as `read_table` gives it.
    columns : Columns
    allowed : mapping of str to str
        What is expected of each feature, in words.
    """
    if table is not None:
        names, rows = table
        try:
            places = columns.places(names)
            refuse_what_is_no_number([[row[place] for place in places] for row in rows], allowed)
        except MlflowException as better:
            return better
    return without_trace(error)


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
    _keep_the_origin(server, model.log.ORIGIN_HEADER)
    answer: Callable[..., Any] = server.invocations

    @functools.wraps(answer)
    def invocations(data: bytes, content_type: str | None, *others: Any) -> Any:  # noqa: ANN401 MLflow's own types
        kind = content_type or ""
        try:
            _origin.set(model.log.checked_origin(_origin.get()))
        except ValueError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        usual = read_usual(data, kind, model.columns)
        if usual:
            threshold = model.threshold if usual.threshold is None else usual.threshold
            scored = model.score_and_record(usual.values, threshold)
            text = answer_json(*scored, usual.output or model.output).decode()
            return server.InvocationsResponse(text, 200, server.CONTENT_TYPE_JSON)
        if "csv" in kind:
            check_header(data, model.columns)
        try:
            return answer(data, kind, *others)
        except MlflowException as error:
            table = read_table(data, kind)
            if table == NO_ROWS:
                return server.InvocationsResponse('{"predictions": []}', 200, server.CONTENT_TYPE_JSON)
            allowed = dict(zip(model.names, model.allowed, strict=True))
            raise explained(error, table, model.columns, allowed) from error
        except Exception as error:
            raise unreadable(error) from error

    server.invocations = invocations


def _take_integers_and_aliases(columns: Columns) -> None:
    """Let MLflow's check of a table take integers for doubles, and the other names of the features.

    Before a model sees a table, MLflow 3.17 drops the columns that its signature does not name and refuses int64 for a
    double. No signature does better: one of type ``Any`` is checked cell by cell (60,000 rows/s instead of 2,000,000),
    refuses every CSV body and, with ``lon`` as an optional column, a Spark UDF without arguments. So a table for this
    model is made what the signature says, and then checked by MLflow as every other table is.
    """
    pyfunc: Any = importlib.import_module("mlflow.pyfunc")
    current = getattr(pyfunc, "_enforce_schema", None)
    if current is None:
        return
    check: Callable[..., Any] = getattr(current, "check_of_mlflow", current)
    models: dict[tuple[str, ...], Columns] = {**getattr(current, "models", {}), tuple(columns.names): columns}

    @functools.wraps(check)
    def enforce_schema(pf_input: Any, input_schema: Any, flavor: str | None = None) -> Any:  # noqa: ANN401 MLflow's own
        known = models.get(tuple(input_schema.input_names())) if input_schema.has_input_names() else None
        # A model of another flavor with the same six columns, or one that can do without some, is not of this project.
        is_ours = flavor in {None, _FLAVOR} and not input_schema.optional_input_names()
        if known and is_ours and set(input_schema.input_types()) == {DataType.double}:
            table = _frame_of(pf_input)
            pf_input = pf_input if table is None else with_doubles(table, known)
        return check(pf_input, input_schema, flavor)

    marked: Any = enforce_schema
    marked.check_of_mlflow, marked.models = check, models
    pyfunc._enforce_schema = enforce_schema  # noqa: SLF001 there is no other place


def _frame_of(given: object) -> pd.DataFrame | None:
    """A table in one of the forms that a pyfunc takes, as MLflow makes a frame of it; None if it is none of them."""
    if isinstance(given, pd.DataFrame):
        return given
    if not isinstance(given, dict | list | np.ndarray):
        return None
    is_row = isinstance(given, dict) and all(np.ndim(value) == 0 for value in given.values())
    try:
        return pd.DataFrame([given] if is_row else given)
    except (TypeError, ValueError):
        return None


def with_doubles(table: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """A table with the features by their own names, and as doubles where they are whole numbers.

    Raises
    ------
    mlflow.exceptions.MlflowException
        INVALID_PARAMETER_VALUE (HTTP 400) if a feature is missing or ambiguous.
    """
    places = columns.places(list(table.columns))
    called = {table.columns[place]: name for place, name in zip(places, columns.names, strict=True)}
    if list(called) != [*called.values()]:
        table = table.rename(columns=called)
    if all(table[name].dtype == np.float64 for name in columns.names):
        return table
    return table.assign(**{name: _as_doubles(table[name]) for name in columns.names})


def _as_doubles(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """A column of numbers of any kind as doubles; of something else, as it is, for MLflow to refuse."""
    kind = column.dtype
    if not (pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_bool_dtype(kind) or kind.kind == "O"):
        return column
    try:
        return pd.to_numeric(column).astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        return column


def _is_evaluated() -> bool:
    """Whether ``mlflow.models.evaluate`` asks as for a classifier: it takes one label per row and no table."""
    frame = sys._getframe() if _EVALUATOR in sys.modules else None  # noqa: SLF001 MLflow tells it in no other way
    while frame and frame.f_globals.get("__name__") != _EVALUATOR:
        frame = frame.f_back
    return frame is not None


def _keep_the_origin(server: Any, header: str) -> None:  # noqa: ANN401 MLflow's module
    """Let `_origin` be what the header of a request says, of which MLflow passes on only body and content type.

    MLflow wraps its handler by this function, when it makes the application after it has loaded the model.
    """
    wrap: Callable[..., Any] = server._async_catch_mlflow_exception  # noqa: SLF001 there is no other place

    def wrapping(handler: Callable[..., Any]) -> Callable[..., Any]:
        wrapped = wrap(handler)

        @functools.wraps(wrapped)
        async def answer(request: Any) -> Any:  # noqa: ANN401 Starlette's types
            _origin.set(request.headers.get(header, ""))
            return await wrapped(request)

        return answer

    server._async_catch_mlflow_exception = wrapping  # noqa: SLF001


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
