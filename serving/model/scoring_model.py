"""The model that is served, as MLflow "models from code".

MLflow copies this file into the logged model and runs it there, so it imports nothing of this project. Names and
ranges of the schema are in an artifact of the model, which ``serving/model/packaging.py`` writes, and a copy of
``serving/inference_log/inference_log.py`` is next to this file.
"""

import asyncio
import contextvars
import functools
import gc
import importlib
import importlib.util
import io
import json
import os
import re
import reprlib
import sys
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd
import sklearn
import skops.io
import yaml
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from mlflow.pyfunc import PythonModel, PythonModelContext
from mlflow.types import DataType

_MAX_CASES_SHOWN = 10
_ROWS_AT_ONCE = 50_000
_FEW_ROWS = 32
"""So many rows cost less in plain Python than in NumPy and scikit-learn."""
_COMPILED_TOLERANCE = 1e-9
_MAX_INLINE_BYTES = 32 << 10
_MAX_CHARACTERS_SHOWN = 2_000
_VALUE_LENGTH_SHOWN = 40
_MAX_COLUMNS_SHOWN = 20
OUTPUTS = ("records", "label", "probability", "probabilities")
"""Forms of a prediction; the first is the default."""
OUTPUT_VARIABLE = "KOBE_SHOT_OUTPUT"
"""Environment variable with the form of predictions for requests without one."""
COMPILED_VARIABLE = "KOBE_SHOT_COMPILED"
"""Environment variable that, set to ``off``, lets the pipeline itself score every row."""
_FLAVOR = "mlflow.pyfunc.loaders.code_model"
"""How MLflow calls models from code."""
_MEDIA_TYPES = {"application/json", "text/csv", "application/vnd.apache.parquet"}
_EVALUATOR = "mlflow.models.evaluation.evaluators.classifier"
_SEPARATORS = re.compile(r"[\s_.\-/]+")
_repr = reprlib.Repr()
# A cell may be millions of characters, or lists, long.
_repr.maxstring = _repr.maxother = _repr.maxlong = 3 * _VALUE_LENGTH_SHOWN
STORED_TYPES = {
    "DefaultDictNode": {"collections.defaultdict"},
    "DictNode": {"builtins.dict"},
    "JsonNode": {"builtins.str"},
    "ListNode": {"builtins.list"},
    "LossNode": {"sklearn._loss._loss.CyHalfBinomialLoss", "sklearn.linear_model._sgd_fast.Hinge"},
    "DTypeNode": {"numpy.dtype"},
    "NdArrayNode": {"numpy.float64", "numpy.int64", "numpy.uint64", "numpy.ndarray"},
    "ObjectNode": {
        "lightgbm.basic.Booster",
        "lightgbm.sklearn.LGBMClassifier",
        "sklearn._loss.link.Interval",
        "sklearn._loss.link.LogitLink",
        "sklearn._loss.loss.HalfBinomialLoss",
        "sklearn.calibration.CalibratedClassifierCV",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.compose._column_transformer.ColumnTransformer",
        "sklearn.discriminant_analysis.LinearDiscriminantAnalysis",
        "sklearn.discriminant_analysis.QuadraticDiscriminantAnalysis",
        "sklearn.dummy.DummyClassifier",
        "sklearn.ensemble._forest.ExtraTreesClassifier",
        "sklearn.ensemble._forest.RandomForestClassifier",
        "sklearn.ensemble._gb.GradientBoostingClassifier",
        "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
        "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingClassifier",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.ensemble._weight_boosting.AdaBoostClassifier",
        "sklearn.gaussian_process._gpc.GaussianProcessClassifier",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.gaussian_process.kernels.ConstantKernel",
        "sklearn.gaussian_process.kernels.Product",
        "sklearn.gaussian_process.kernels.RBF",
        "sklearn.impute._base.MissingIndicator",
        "sklearn.impute._base.SimpleImputer",
        "sklearn.linear_model._logistic.LogisticRegression",
        "sklearn.linear_model._ridge.RidgeClassifier",
        "sklearn.linear_model._stochastic_gradient.SGDClassifier",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.metrics._dist_metrics.ManhattanDistance64",
        "sklearn.model_selection._split.StratifiedKFold",
        "sklearn.naive_bayes.GaussianNB",
        "sklearn.neighbors._classification.KNeighborsClassifier",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neural_network._multilayer_perceptron.MLPClassifier",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.pipeline.Pipeline",
        "sklearn.preprocessing._data.StandardScaler",
        "sklearn.preprocessing._encoders.OneHotEncoder",
        "sklearn.preprocessing._encoders.OrdinalEncoder",
        "sklearn.preprocessing._function_transformer.FunctionTransformer",
        "sklearn.preprocessing._label.LabelBinarizer",
        "sklearn.preprocessing._label.LabelEncoder",
        "sklearn.svm._classes.SVC",
        "sklearn.tree._classes.DecisionTreeClassifier",
        "sklearn.tree._classes.DecisionTreeRegressor",
        "sklearn.tree._classes.ExtraTreeClassifier",
    },
    "RandomStateNode": {"numpy.random.mtrand.RandomState"},
    "SliceNode": {"builtins.slice"},
    "TreeNode": {"sklearn.tree._tree.Tree"},
    "TupleNode": {"builtins.tuple"},
    "TypeNode": {
        *("builtins.bool", "builtins.float", "builtins.int", "builtins.str"),
        *("collections.OrderedDict", "numpy.float64", "numpy.int64"),
    },
}
"""Types that a stored pipeline may contain, by the way in which skops constructs them.

They are the types of the models that a training offers. No other type is loaded, even if the configuration of the
artifact lists it or skops trusts it. The list contains neither functions nor methods.
"""
DATE_PARTS = ("year", "month", "day_of_week", "days")
"""The columns of a date in the input of a pipeline."""
_DATE_LENGTH = len("2000-10-31")
_EPOCH = date(1970, 1, 1).toordinal()
_origin = contextvars.ContextVar("origin", default="")
"""The origin of the current request in MLflow's server."""


def folded(name: str) -> str:
    """A name without case and separators, as `data.datasets.description.folded` has it."""
    return _SEPARATORS.sub("", name.casefold())


class Columns(NamedTuple):
    """Names of the features in a table.

    Attributes
    ----------
    names : list of str
        The features, in the order of the signature.
    aliases : mapping of str to str
        Feature by each of its other names.
    identifier : str
        Column that is parsed with them if a table has it, or empty.
    texts : frozenset of str
        The features whose cells are strings: categories and dates.
    optional : frozenset of str
        The features that a table may lack; all of their cells are null then.
    spellings : mapping of str to str
        Feature by the folded form of each name under which it is found if its exact names are missing.

    Examples
    --------
    >>> columns = Columns(["lat", "lng"], {"lon": "lng"})
    >>> columns.places(["lon", "loc_x", "lat"])
    [2, 0]
    >>> columns._replace(spellings={"lat": "lat", "longitude": "lng"}).places(["LAT", "Longitude"])
    [0, 1]
    >>> columns._replace(optional=frozenset(["lng"])).places(["lat"])
    [0, -1]
    """

    names: list[str]
    aliases: Mapping[str, str]
    identifier: str = ""
    texts: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    spellings: Mapping[str, str] = MappingProxyType({})

    def places(self, columns: Sequence[object]) -> list[int]:
        """Position of each feature, -1 for an optional one that is missing; other columns are ignored.

        A feature whose exact names are missing is found under another spelling, as in tables: without case, spaces,
        dashes, dots and underscores.

        Parameters
        ----------
        columns : sequence
            Names of the columns of a table.

        Raises
        ------
        mlflow.exceptions.MlflowException
            INVALID_PARAMETER_VALUE (HTTP 400) if a feature is missing, or exists more than once under any of its names.
        """
        found: dict[object, list[int]] = {name: [] for name in self.names}
        identified = 0
        for place, column in enumerate(columns):
            name = self.aliases.get(column, column)  # type: ignore[call-overload]
            if name in found:
                found[name].append(place)
            elif self.identifier and name == self.identifier:
                identified += 1
        if len(columns) > sum(map(len, found.values())) and not all(found.values()):
            self._add_spelled(columns, found)
        if self.optional:
            for name in self.optional:
                found[name] = found[name] or [-1]
        if identified < 2 and all(len(places) == 1 for places in found.values()):  # noqa: PLR2004
            return [place for (place,) in found.values()]
        message = f"No row was scored. {self._problem(columns, found, identified)}"
        raise MlflowException.invalid_parameter_value(message)

    def _add_spelled(self, columns: Sequence[object], found: Mapping[object, list[int]]) -> None:
        missing = {name for name, places in found.items() if not places}
        for place, column in enumerate(columns):
            if isinstance(column, str) and (name := self.spellings.get(folded(column))) in missing:
                found[name].append(place)

    def _problem(self, columns: Sequence[object], found: Mapping[object, list[int]], identified: int) -> str:
        called = ", ".join(f"{name} may be called {alias}" for alias, name in self.aliases.items())
        expected = f"expected {self.names}{f' ({called})' if called else ''}"
        if columns and not any(isinstance(column, str) for column in columns):
            example = f'{{"dataframe_split": {{"columns": {json.dumps(self.names)}, "data": [[…]]}}}}'
            return f"The columns have no names: {expected}, found rows by position. Send {example}"
        problems = []
        for name, places in found.items():
            under = list(dict.fromkeys(columns[place] for place in places if place >= 0))
            if len(under) > 1:
                problems.append(f"ambiguous columns {under}, which are names of one feature: send one of them")
            elif len(places) > 1:
                problems.append(f"column {name!r} found {len(places)} times")
        if identified > 1:
            problems.append(f"column {self.identifier!r} found {identified} times")
        missing = [name for name, places in found.items() if not places]
        if missing:
            shown = [_shown(column) for column in columns[:_MAX_COLUMNS_SHOWN]]
            problems.append(f"missing columns {missing}, found [{', '.join(shown)}]")
        return f"{'; '.join(problems)}; {expected}"


class Encoder:
    """Converts the features of a table to the numbers that a pipeline takes.

    A category becomes its place among the categories of the version; one that the version has not seen, the next
    number, which the pipeline scores as it scores rare ones. A date becomes year, month, day of the week (0 is Monday)
    and days since 1970-01-01. Numbers and booleans stay; a null is NaN.

    Parameters
    ----------
    features : sequence of mapping
        As in the configuration of a `ScoringModel`.

    Examples
    --------
    >>> zone = {"name": "zone", "kind": "category", "categories": ["left", "right"], "nullable": True}
    >>> encoder = Encoder([zone, {"name": "feet"}])
    >>> table = pd.DataFrame({"feet": [3, 24, 1], "zone": ["right", "center", None]})
    >>> encoder.inputs(table).tolist()
    [[1.0, 3.0], [2.0, 24.0], [nan, 1.0]]
    """

    def __init__(self, features: Sequence[Mapping[str, Any]]) -> None:
        self.names: list[str] = [feature["name"] for feature in features]
        self.kinds: list[str] = [feature.get("kind", "float") for feature in features]
        self._codes = {
            place: {category: float(code) for code, category in enumerate(feature["categories"])}
            for place, feature in enumerate(features)
            if self.kinds[place] in {"category", "string"}
        }
        self._allowed = {feature["name"]: feature.get("allowed", "") for feature in features}
        self._refusing = {place for place in self._codes if features[place].get("unseen") == "reject"}
        self._dates = [place for place, kind in enumerate(self.kinds) if kind == "date"]
        self.has_dates = bool(self._dates)
        self._optional = {feature["name"] for feature in features if feature.get("nullable")}
        self.texts = frozenset(self.names[place] for place in (*self._codes, *self._dates))

    @property
    def input_names(self) -> list[str]:
        """Names of the columns of `expand`."""
        parts = {"date": [f"_{part}" for part in DATE_PARTS]}
        pairs = zip(self.names, self.kinds, strict=True)
        return [f"{name}{part}" for name, kind in pairs for part in parts.get(kind, [""])]

    @property
    def category_inputs(self) -> dict[int, int]:
        """Number of categories by the place of each of their columns in `expand`."""
        return {
            place + (len(DATE_PARTS) - 1) * sum(date < place for date in self._dates): len(codes)
            for place, codes in self._codes.items()
        }

    def inputs(self, table: pd.DataFrame) -> npt.NDArray[np.float64]:
        """The input of a pipeline for a table of the features; nothing is checked but dates."""
        return self.expand(self.encode(*self.read(table))[0])

    def read(self, table: pd.DataFrame) -> tuple[npt.NDArray[np.float64], dict[int, list[str]]]:
        """Values and texts of a table as the parsers of bodies give them; see `encode`.

        Raises
        ------
        KeyError
            If the table lacks a feature that is never null.
        TypeError, ValueError
            If a cell that is to be a number is none.
        """
        if not self.texts and not self._optional:
            return table[self.names].to_numpy(dtype=np.float64), {}
        values = np.full((len(table), len(self.names)), np.nan)
        texts: dict[int, list[str]] = {}
        for place, name in enumerate(self.names):
            if name in self.texts:
                texts[place] = []
            if name in self._optional and name not in table:
                continue
            if name in self.texts:
                codes, found = pd.factorize(table[name])
                values[:, place] = np.where(codes < 0, np.nan, codes)
                texts[place] = [text_of(cell) for cell in found]
            else:
                values[:, place] = table[name].to_numpy(dtype=np.float64, na_value=np.nan)
        return values, texts

    def encode(
        self, values: npt.NDArray[np.float64], texts: Mapping[int, Sequence[str]]
    ) -> tuple[npt.NDArray[np.float64], dict[str, int]]:
        """Replace the places of strings by the numbers of categories, and by days.

        Parameters
        ----------
        values : ndarray of float64, shape (n, features)
            The numbers; in a column of strings the place of each cell in its list of `texts`. NaN where one is null.
        texts : mapping of int to sequence of str
            The strings of each such column, by its place.

        Returns
        -------
        encoded : ndarray of float64, shape (n, features)
        unseen : dict of str to int
            Rows whose category the version does not know, by feature.

        Raises
        ------
        mlflow.exceptions.MlflowException
            INVALID_PARAMETER_VALUE (HTTP 400) if a string is no date, or a category that the version refuses.
        """
        if not texts:
            return values, {}
        if 0 < len(values) <= _FEW_ROWS and (few := self._encode_few(values, texts)):
            return few
        encoded, unseen = values.copy(), {}
        wrong: list[tuple[int, str, object]] = []
        for place, found in texts.items():
            codes = self._codes.get(place)
            numbers = np.array(
                [*(_days(text) if codes is None else codes.get(text, len(codes)) for text in found), np.nan]
            )
            places = np.nan_to_num(values[:, place], nan=len(found)).astype(np.intp)
            encoded[:, place] = numbers[places]
            is_wrong = np.isnan(numbers[:-1]) if codes is None else numbers[:-1] == len(codes)
            if is_wrong.any():
                rows = np.flatnonzero(np.append(is_wrong, False)[places])
                if codes is None or place in self._refusing:
                    wrong += [(row, self.names[place], found[places[row]]) for row in rows.tolist()]
                else:
                    unseen[self.names[place]] = len(rows)
        if wrong:
            raise wrong_cells(sorted(wrong)[:_MAX_CASES_SHOWN], len(wrong), self._allowed)
        return encoded, unseen

    def _encode_few(
        self, values: npt.NDArray[np.float64], texts: Mapping[int, Sequence[str]]
    ) -> tuple[npt.NDArray[np.float64], dict[str, int]] | None:
        """As `encode` has it; None if a string is wrong."""
        rows: list[list[float]] = values.tolist()
        unseen: dict[str, int] = {}
        for place, found in texts.items():
            codes = self._codes.get(place)
            for row in rows:
                # Only NaN differs from itself.
                if (cell := row[place]) != cell:
                    continue
                text = found[int(cell)]
                number = _days(text) if codes is None else codes.get(text)
                if number is None and codes is not None and place not in self._refusing:
                    number = len(codes)
                    unseen[self.names[place]] = unseen.get(self.names[place], 0) + 1
                if number is None or number != number:  # noqa: PLR0124
                    return None
                row[place] = number
        return np.array(rows, dtype=np.float64), unseen

    def shown(self, place: int, number: float) -> object:
        """A wrong encoded value, for a message."""
        return _date_of(number) if place in self._dates and np.isfinite(number) else number

    def expand(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The input of a pipeline for encoded values, in which a date has a column for each of its parts."""
        if not self._dates:
            return values
        parts = [
            _date_parts(values[:, place]) if place in self._dates else values[:, place : place + 1]
            for place in range(values.shape[1])
        ]
        return np.hstack(parts)


class ScoringModel(PythonModel):
    """Validates every row against the schema, then scores all rows in NumPy.

    The artifact ``config`` is a JSON object: ``features``, a list in the order of the signature of ``{"name",
    "aliases", "table_names", "kind", "minimum", "maximum", "whole", "nullable", "categories", "unseen", "allowed"}``;
    ``threshold``, the default of the parameter; ``target``, the name of the label; and, if the pipeline is compiled,
    ``compiled``: rows and their probabilities.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Load pipeline and ranges; inside ``mlflow models serve``, also set up the inference log and the server."""
        config = json.loads(Path(context.artifacts["config"]).read_bytes())
        features = config["features"]
        self.features = features
        self.encoder = Encoder(features)
        self.names = self.encoder.names
        self.nullable = np.array([feature["nullable"] for feature in features])
        self.columns = Columns(
            self.names,
            {alias: feature["name"] for feature in features for alias in feature["aliases"]},
            texts=self.encoder.texts,
            optional=frozenset(feature["name"] for feature in features if feature["nullable"]),
            spellings={
                folded(name): feature["name"]
                for feature in features
                for name in (*feature.get("table_names", ()), *feature["aliases"], feature["name"])
            },
        )
        self.allowed = [feature["allowed"] for feature in features]
        # Within them, because nothing infinite is scored.
        ends = np.finfo(np.float64)
        self.minimum = np.array(
            [ends.min if feature["minimum"] is None else feature["minimum"] for feature in features]
        )
        self.maximum = np.array(
            [ends.max if feature["maximum"] is None else feature["maximum"] for feature in features]
        )
        self.whole = np.array([feature["whole"] for feature in features])
        self._whole_places = np.flatnonzero(self.whole)
        ranges = (self.minimum, self.maximum, self.whole, self.nullable)
        self._constraints = [*zip(*(one.tolist() for one in ranges), strict=True)]
        self.threshold = config["threshold"]
        self.target = config["target"]
        self.output = OUTPUTS[0]
        self.pipeline = load_pipeline(Path(context.artifacts["pipeline"]).read_bytes())
        self.dataset = Path(context.artifacts["dataset"]).read_text(encoding="utf-8")
        self.compiled = self._compiled(context, config.get("compiled"))
        self.recorder = None
        _take_integers_and_aliases(self.columns)
        if "mlflow.pyfunc.scoring_server.app" in sys.modules or "mlserver" in sys.modules:
            self.output = output_from_environment()
        if "mlflow.pyfunc.scoring_server.app" in sys.modules:
            self.version = _version(Path(context.artifacts["pipeline"]).parents[1])
            # The registry records every file of the model, and no compiled ones.
            sys.dont_write_bytecode = True
            self.log = importlib.import_module("inference_log")
            most = importlib.import_module("server_limits").limits()
            may_keep = self.log.LogLimits(most.log_bytes, most.spool_bytes)
            self.recorder = self.log.recorder_from_environment(self.names, may_keep, texts=self.columns.texts)
            _improve_the_server(self)
            importlib.import_module("bounded_http").limit_servers(most)

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
            ``OUTPUTS``. Without it, ``mlflow.models.evaluate`` gets labels, and all others the default.

        Returns
        -------
        pandas.DataFrame or numpy.ndarray
            The label (int64, 0 or 1) and ``probability`` (float64, P(made)) with the index of `model_input`;
            or for another ``output`` an array, as returned by `shaped`.

        Raises
        ------
        mlflow.exceptions.MlflowException
            INVALID_PARAMETER_VALUE (HTTP 400) if any row is outside the schema; none is scored then.
        """
        requested = params or {}
        output = requested.get("output")
        if output is None:
            output = "label" if _is_evaluated() else self.output
        check_output(output)
        values, texts = self._values(model_input)
        made, probability = self.score_and_record(values, requested.get("threshold", self.threshold), texts)
        if output == OUTPUTS[0]:
            return pd.DataFrame({self.target: made, "probability": probability}, index=model_input.index)
        return shaped(made, probability, output)

    def score_and_record(
        self, values: npt.NDArray[np.float64], threshold: float, texts: Mapping[int, Sequence[str]]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Encode and score rows, and append them to the inference log if this process has one."""
        made, probability = self.score(self.encoder.encode(values, texts)[0], threshold)
        if self.recorder:
            name, now, origin = uuid.uuid4().hex, time.time(), _origin.get() or self.log.TRAFFIC
            request = self.log.Request(name, self.version, values, made, probability, None, now, origin, texts)
            self.recorder.append(request)
        return made, probability

    def score(
        self, values: npt.NDArray[np.float64], threshold: float
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Label and probability of each row, in order.

        Parameters
        ----------
        values : ndarray of float64, shape (n, features)
            The features in the order of ``names``, encoded; NaN where a value is null.
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
        few = self._score_few(values, self.compiled) if self.compiled and len(values) <= _FEW_ROWS else None
        if few is not None:
            return np.array([one >= threshold for one in few], dtype=np.int64), np.array(few, dtype=np.float64)
        probability = self._probability(self.encoder.expand(self._checked(values)))
        return (probability >= threshold).astype(np.int64), probability

    def _score_few(
        self, values: npt.NDArray[np.float64], compiled: Callable[[Sequence[float]], float]
    ) -> list[float] | None:
        """P(made) of few rows by the compiled form; None if a value is not plainly allowed, or the form has none."""
        rows: list[list[float]] = values.tolist()
        for row in rows:
            for value, (least, most, is_whole, is_nullable) in zip(row, self._constraints, strict=True):
                if not least <= value <= most:
                    if not (is_nullable and value != value):  # noqa: PLR0124 only NaN differs from itself
                        return None
                elif is_whole and value % 1:
                    return None
        if self.encoder.has_dates:
            rows = self.encoder.expand(values).tolist()
        try:
            return [compiled(row) for row in rows]
        except (ValueError, OverflowError):
            # The pipeline itself scores the row, or raises its error.
            return None

    def _probability(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        # Every value is within its range, so scikit-learn need not check for infinity, a third of the time of a row.
        # In parts, because the intermediate results of a pipeline are several times as large as a long table.
        with sklearn.config_context(assume_finite=True):
            parts = [
                self.pipeline.predict_proba(values[start : start + _ROWS_AT_ONCE])[:, 1]
                for start in range(0, len(values), _ROWS_AT_ONCE)
            ]
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0), *parts])

    def _compiled(
        self, context: PythonModelContext, verified: Mapping[str, Any] | None
    ) -> Callable[[Sequence[float]], float] | None:
        """The compiled form of the pipeline, made of it by the code that is logged with the model; None without.

        Raises
        ------
        mlflow.exceptions.MlflowException
            If it does not have the probabilities of the form that was verified when the model was packaged.
        """
        if not verified or os.environ.get(COMPILED_VARIABLE) == "off":
            return None
        code = _import_package(Path(context.artifacts["pipeline"]).parents[1] / "code" / "compiled_pipeline")
        compiled: Callable[[Sequence[float]], float] = code.CompiledPipeline(self.pipeline, self.encoder.input_names)
        for row, probability in zip(verified["rows"], verified["probability"], strict=True):
            found = compiled(row)
            if not abs(found - probability) <= _COMPILED_TOLERANCE:
                message = (
                    f"The compiled form of the pipeline is not the one that was verified when the model was packaged: "
                    f"expected {probability} for the row {row}, found {found}. The model was not loaded. Train and "
                    f"register another version, or set {COMPILED_VARIABLE}=off to serve the pipeline itself."
                )
                raise MlflowException(message)
        return compiled

    def _values(self, table: pd.DataFrame) -> tuple[npt.NDArray[np.float64], dict[int, list[str]]]:
        table = with_doubles(table, self.columns)
        try:
            return self.encoder.read(table)
        except (TypeError, ValueError) as error:
            names = [name for name in self.names if name not in self.columns.texts]
            message = f"expected numbers in the columns {names}: {error}"
            raise MlflowException.invalid_parameter_value(message) from error

    def _checked(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The values, if all are allowed; what only float32 puts outside a range becomes its end."""
        inside = (values >= self.minimum) & (values <= self.maximum)
        if inside.all() and all((np.floor(values[:, place]) == values[:, place]).all() for place in self._whole_places):
            return values
        inside |= self.nullable & np.isnan(values)
        for ends in (self.minimum, self.maximum):
            # float32 rounds nothing that is inside to any other value that is outside.
            with np.errstate(over="ignore"):
                is_end = ~inside & np.isfinite(values) & (values == ends.astype(np.float32))
            values, inside = np.where(is_end, ends, values), inside | is_end
        is_fraction = self.whole & (np.nan_to_num(np.where(inside, values, 0)) % 1 != 0)
        wrong = np.flatnonzero(~inside | is_fraction)
        if not len(wrong):
            return values
        count = len(self.names)
        cells = [
            (place // count, self.names[place % count], self.encoder.shown(place % count, float(values.flat[place])))
            for place in wrong[:_MAX_CASES_SHOWN].tolist()
        ]
        raise wrong_cells(cells, len(wrong), dict(zip(self.names, self.allowed, strict=True)))


def _days(text: str) -> float:
    """Days from 1970-01-01 to an ISO date, whatever time follows it; NaN for another string.

    Examples
    --------
    >>> _days("1970-01-02"), _days("2000-10-31 20:30"), _days("soon")
    (1.0, 11261.0, nan)
    """
    try:
        day = date.fromisoformat(text[:_DATE_LENGTH])
    except ValueError:
        return float("nan")
    is_date = len(text) == _DATE_LENGTH or text[_DATE_LENGTH : _DATE_LENGTH + 1] in {"T", " "}
    return float(day.toordinal() - _EPOCH) if is_date else float("nan")


def _date_of(days: float) -> str:
    return date.fromordinal(int(days) + _EPOCH).isoformat()


def _date_parts(days: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The columns `DATE_PARTS` of days since 1970-01-01.

    Examples
    --------
    >>> _date_parts(np.array([11261.0, np.nan])).tolist()
    [[2000.0, 10.0, 1.0, 11261.0], [nan, nan, nan, nan]]
    """
    is_null = np.isnan(days)
    dates = np.where(is_null, 0, days).astype(np.int64).astype("datetime64[D]")
    months = dates.astype("datetime64[M]").astype(np.int64)
    parts = np.column_stack([1970 + months // 12, months % 12 + 1, (days + 3) % 7, days])
    parts[is_null] = np.nan
    return parts


def text_of(cell: object) -> str:
    """A cell of a table as the string that names its category or date.

    Examples
    --------
    >>> text_of("2PT"), text_of(2.0), text_of(pd.Timestamp("2000-10-31"))
    ('2PT', '2', '2000-10-31')
    """
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        return str(int(cell))
    return cell.isoformat()[:_DATE_LENGTH] if isinstance(cell, date) else str(cell)


def load_pipeline(content: bytes) -> Any:  # noqa: ANN401 scikit-learn publishes no types
    """Load the pipeline in the bytes of a skops file.

    Raises
    ------
    ValueError
        If it contains a type that ``STORED_TYPES`` does not list; nothing is constructed then.
    """
    unnamed = unnamed_types(content)
    if unnamed:
        message = (
            f"expected a pipeline of the types that serving/model/scoring_model.py names; found {', '.join(unnamed)}. "
            "Nothing of it was made."
        )
        raise ValueError(message)
    # skops requires only the names of types that it does not trust by default.
    return skops.io.loads(content, trusted=sorted(set().union(*STORED_TYPES.values())))


def unnamed_types(content: bytes) -> list[str]:
    """Types in the bytes of a skops file that ``STORED_TYPES`` does not list, sorted. Nothing is constructed.

    Raises
    ------
    ValueError
        If they are not a skops file.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as stored:
            made = set(_made_types(json.loads(stored.read("schema.json"))))
    except (zipfile.BadZipFile, KeyError, RecursionError) as error:
        message = f"expected a pipeline as skops stores it; found other bytes ({type(error).__name__}: {error})"
        raise ValueError(message) from error
    return sorted(name if way == "ObjectNode" else f"{name} ({way})" for way, name in made if not _is_named(way, name))


def _made_types(found: object) -> Iterator[tuple[str, str]]:
    """Constructor and type of everything that a part of a skops file describes."""
    parts = found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()
    if isinstance(found, dict) and "__loader__" in found:
        yield str(found["__loader__"]), f"{found.get('__module__')}.{found.get('__class__')}"
    for part in parts:
        yield from _made_types(part)


def _is_named(way: str, name: str) -> bool:
    return name in STORED_TYPES.get(way, ())


def _import_package(folder: Path) -> Any:  # noqa: ANN401 a module that this file cannot import by name
    """Import a package of the model's code that no other model in this process gets."""
    name = f"{folder.name}_{uuid.uuid4().hex}"
    spec: Any = importlib.util.spec_from_file_location(name, folder / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    # The registry records every file of the model, and no compiled ones.
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
        for imported in [one for one in sys.modules if one.partition(".")[0] == name]:
            del sys.modules[imported]
    return module


def check_threshold(threshold: object) -> None:
    """Reject an invalid threshold.

    Raises
    ------
    mlflow.exceptions.MlflowException
        INVALID_PARAMETER_VALUE (HTTP 400) if it is not a float from 0 to 1.
    """
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        message = f"threshold: expected a float from 0 to 1, found {_shown(threshold)}"
        raise MlflowException.invalid_parameter_value(message)


def check_output(output: object) -> None:
    """Reject an unknown form of a prediction.

    Raises
    ------
    mlflow.exceptions.MlflowException
        INVALID_PARAMETER_VALUE (HTTP 400) if it is not one of ``OUTPUTS``.
    """
    if output not in OUTPUTS:
        message = f"output: expected one of {', '.join(OUTPUTS)}; found {_shown(output)}"
        raise MlflowException.invalid_parameter_value(message)


def output_from_environment() -> str:
    """The form of predictions for requests without one: that of the environment, or ``records``.

    Raises
    ------
    mlflow.exceptions.MlflowException
        If the environment has a value that is not in ``OUTPUTS``.
    """
    output = os.environ.get(OUTPUT_VARIABLE) or OUTPUTS[0]
    if output not in OUTPUTS:
        message = f"{OUTPUT_VARIABLE}: expected one of {', '.join(OUTPUTS)}; found {_shown(output)}"
        raise MlflowException.invalid_parameter_value(message)
    return output


def shaped(made: npt.NDArray[np.int64], probability: npt.NDArray[np.float64], output: str) -> npt.NDArray[Any]:
    """Predictions as stock models return them.

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


def wrong_cells(cells: Sequence[tuple[int, str, object]], count: int, allowed: Mapping[str, str]) -> MlflowException:
    """The error that names wrong cells: INVALID_PARAMETER_VALUE (HTTP 400).

    Parameters
    ----------
    cells : sequence of (int, str, object)
        Row, counted from 0, column and value of the first of them.
    count : int
        Number of wrong cells.
    allowed : mapping of str to str
        Constraint of each column, for the message.
    """
    shown = [
        f"row {row}, column {column}: found {_shown(value)}, expected {allowed[column]}"
        for row, column, value in cells[:_MAX_CASES_SHOWN]
    ]
    if count > len(shown):
        shown.append(f"and {count - len(shown):,} more")
    return MlflowException.invalid_parameter_value("No row was scored. " + "; ".join(shown))


def read_body(  # noqa: PLR0913 two are modules that this file cannot import by one name
    body: bytes,
    content_type: str,
    columns: Columns,
    allowed: Mapping[str, str],
    *,
    parser: Any,  # noqa: ANN401
    limits: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    """Parse a body to a table of numbers, or to a payload for MLflow's own parsers; see ``serving/model/body_parser``.

    Parameters
    ----------
    body : bytes
    content_type : str
        Media type of JSON, CSV or Parquet, without parameters.
    columns : Columns
        Columns to parse.
    allowed : mapping of str to str
        Constraint of each feature, for the message.
    parser : module
        Module ``body_parser``, of the project or of the model's code.
    limits : Limits
        Limits of the module ``server_limits``.

    Raises
    ------
    mlflow.exceptions.MlflowException
        A 4xx, without stack trace, if the body is not a table of the features.
    """
    try:
        return parser.read_body(body, content_type, columns, limits)
    except parser.WrongCellsError as error:
        raise wrong_cells(error.cells, error.count, allowed) from error


def checked_params(params: object) -> tuple[float | None, str | None]:
    """Threshold and output of a request, each None if not set.

    Raises
    ------
    mlflow.exceptions.MlflowException
        INVALID_PARAMETER_VALUE (HTTP 400) if one is invalid.
    """
    if params is None:
        return None, None
    if not isinstance(params, dict):
        message = f"params: expected an object, found a {type(params).__name__}: {_shown(params)}"
        raise MlflowException.invalid_parameter_value(message)
    if "threshold" in params:
        check_threshold(params["threshold"])
    if params.get("output") is not None:
        check_output(params["output"])
    return params.get("threshold"), params.get("output")


def predictions_json(
    made: npt.NDArray[np.int64],
    probability: npt.NDArray[np.float64],
    output: str = OUTPUTS[0],
    target: str = "shot_made_flag",
) -> bytes:
    """The response body of MLflow's server for scored rows.

    Examples
    --------
    >>> predictions_json(np.array([0]), np.array([0.25]))
    b'{"predictions":[{"shot_made_flag":0,"probability":0.25}]}'
    >>> predictions_json(np.array([0]), np.array([0.25]), "probabilities")
    b'{"predictions":[[0.75,0.25]]}'
    """
    if len(made) <= _ROWS_AT_ONCE:
        return b'{"predictions":%b}' % _predictions_json(made, probability, output, target)
    rows = [slice(start, start + _ROWS_AT_ONCE) for start in range(0, len(made), _ROWS_AT_ONCE)]
    parts = [_predictions_json(made[part], probability[part], output, target)[1:-1] for part in rows]
    return b'{"predictions":[%b]}' % b",".join(parts)


def _predictions_json(
    made: npt.NDArray[np.int64], probability: npt.NDArray[np.float64], output: str, target: str
) -> bytes:
    if output != OUTPUTS[0]:
        return orjson.dumps(shaped(made, probability, output).tolist())
    pairs = zip(made.tolist(), probability.tolist(), strict=True)
    return orjson.dumps([{target: label, "probability": value} for label, value in pairs])


def strip_stack_trace(error: MlflowException) -> MlflowException:
    """The same error without a stack trace, shortened for a reader."""
    error.json_kwargs.pop("stack_trace", None)
    if len(error.message) > _MAX_CHARACTERS_SHOWN:
        half = _MAX_CHARACTERS_SHOWN // 2
        error.message = f"{error.message[:half]} … {error.message[-half:]}"
    return error


def unreadable(error: Exception) -> MlflowException:
    """The error of the response if a parser fails in an unexpected way."""
    return MlflowException(f"The body could not be read as a table: {type(error).__name__}.", BAD_REQUEST)


def _improve_the_server(model: ScoringModel) -> None:
    """Replace MLflow's parsers for the usual bodies: faster, and with precise errors.

    MLflow 3.17 converts a body to a pandas table three times, cell by cell, which takes half of the time of a short
    request. If its parsers fail, it responds with 500 (no content type, JSON that nests too deep, names of columns that
    are lists), or with a stack trace that contains the server's paths (malformed CSV and Parquet). MLflow still parses
    an unusual body.
    """
    server: Any = importlib.import_module("mlflow.pyfunc.scoring_server")
    handle: Callable[..., Any] = server.invocations
    parser: Any = importlib.import_module("body_parser")
    limits = importlib.import_module("server_limits").limits()
    allowed = dict(zip(model.names, model.allowed, strict=True))

    def read(data: bytes, content_type: str) -> Any:  # noqa: ANN401 as `read_body`; None if it is of no known type
        _check_origin(model.log)
        media_type = _media_type(content_type)
        if not media_type:
            return None
        return read_body(data, media_type, model.columns, allowed, parser=parser, limits=limits)

    def respond(table: Any) -> bytes:  # noqa: ANN401 see above
        threshold, output = checked_params(table.params)
        scored = model.score_and_record(table.values, model.threshold if threshold is None else threshold, table.texts)
        return predictions_json(*scored, output or model.output, model.target)

    def respond_to_short(data: bytes, content_type: str) -> bytes | None:
        table = read(data, content_type)
        return None if table is None or isinstance(table, parser.OddPayload) else respond(table)

    @functools.wraps(handle)
    def invocations(data: bytes, content_type: str | None, *others: Any) -> Any:  # noqa: ANN401 MLflow's own types
        kind = content_type or ""
        table = read(data, kind)
        if table is None:
            # MLflow rejects it before it reads the body.
            return handle(b"", kind, *others)
        if isinstance(table, parser.OddPayload):
            try:
                return handle(table.payload, _media_type(kind), *others)
            except MlflowException as error:
                raise strip_stack_trace(error) from error
            except Exception as error:
                raise unreadable(error) from error
        return server.InvocationsResponse(respond(table), 200, server.CONTENT_TYPE_JSON)

    server.invocations = invocations
    _improve_the_handler(server, model.log.ORIGIN_HEADER, respond_to_short)
    # Otherwise a long table lets the collector walk all that MLflow has imported, while others wait.
    gc.collect()
    gc.freeze()


def _check_origin(log: Any) -> None:  # noqa: ANN401 a module that this file cannot import by name
    try:
        _origin.set(log.checked_origin(_origin.get()))
    except ValueError as error:
        raise MlflowException.invalid_parameter_value(str(error)) from error


def _media_type(content_type: str) -> str:
    """The media type of JSON, CSV or Parquet, as MLflow recognizes it; empty for another type."""
    kind, *parameters = (part.strip() for part in content_type.split(";"))
    is_utf8 = all(parameter.lower() == "charset=utf-8" for parameter in parameters)
    return kind if is_utf8 and kind in _MEDIA_TYPES else ""


def _take_integers_and_aliases(columns: Columns) -> None:
    """Make MLflow's validation of a table accept integers for doubles, and the other names of the features.

    Before a model gets a table, MLflow 3.17 drops the columns that its signature does not name and rejects int64 for a
    double. No other signature is better: one of type ``Any`` is validated cell by cell (60,000 rows/s instead of
    2,000,000), rejects every CSV body and, with ``lon`` as an optional column, a Spark UDF without arguments. So this
    step converts a table for this model to the signature. MLflow then validates it as any other table.
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
        # A model of another flavor with the same columns, or with others optional or of other types, is not of this
        # project.
        is_ours = known and flavor in {None, _FLAVOR} and set(input_schema.optional_input_names()) == known.optional
        if known and is_ours and input_schema.input_types() == _types_of(known):
            table = _frame_of(pf_input)
            pf_input = pf_input if table is None else with_doubles(table, known)
        return check(pf_input, input_schema, flavor)

    marked: Any = enforce_schema
    marked.check_of_mlflow, marked.models = check, models
    pyfunc._enforce_schema = enforce_schema  # noqa: SLF001 there is no other place


def _types_of(columns: Columns) -> list[DataType]:
    return [DataType.string if name in columns.texts else DataType.double for name in columns.names]


def _frame_of(given: object) -> pd.DataFrame | None:
    """Convert an input that a pyfunc accepts to a data frame, as MLflow does; None for any other input."""
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
    """A table with the features by their own names, integers as doubles, and categories and dates as strings.

    Raises
    ------
    mlflow.exceptions.MlflowException
        INVALID_PARAMETER_VALUE (HTTP 400) if a feature is missing or ambiguous.
    """
    places = columns.places(list(table.columns))
    called = {table.columns[place]: name for place, name in zip(places, columns.names, strict=True) if place >= 0}
    if list(called) != [*called.values()]:
        table = table.rename(columns=called)
    names = called.values()
    if not columns.texts and all(table[name].dtype == np.float64 for name in names):
        return table
    converted = {name: (_as_texts if name in columns.texts else _as_doubles)(table[name]) for name in names}
    return table.assign(**converted)


def _as_texts(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Convert a column to strings, None where a cell is null."""
    codes, found = pd.factorize(column)
    texts = np.array([*map(text_of, found), None], dtype=object)
    return pd.Series(texts[codes], index=column.index, dtype=object)


def _as_doubles(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Convert a column of numbers to doubles; any other column is unchanged, and MLflow rejects it."""
    kind = column.dtype
    if not (pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_bool_dtype(kind) or kind.kind == "O"):
        return column
    try:
        return pd.to_numeric(column).astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        return column


def _is_evaluated() -> bool:
    """Whether ``mlflow.models.evaluate`` evaluates a classifier, for which it requires one label per row."""
    frame = sys._getframe() if _EVALUATOR in sys.modules else None  # noqa: SLF001 MLflow offers no other way
    while frame and frame.f_globals.get("__name__") != _EVALUATOR:
        frame = frame.f_back
    return frame is not None


def _improve_the_handler(server: Any, header: str, respond_to_short: Callable[[bytes, str], bytes | None]) -> None:  # noqa: ANN401 MLflow's module
    """Set `_origin` from the header of a request; MLflow passes on only body and content type.

    Short bodies are handled at once, without a thread. Long tables are parsed one at a time, so that their total cost
    is bounded too.

    MLflow wraps its handler with this function when it creates the application, after it has loaded the model.

    Parameters
    ----------
    server : module
        ``mlflow.pyfunc.scoring_server``.
    header : str
        Name of the header.
    respond_to_short : callable
        Maps body and content type to a response, or to None if MLflow's handler must respond.
    """
    wrap: Callable[..., Any] = server._async_catch_mlflow_exception  # noqa: SLF001 there is no other place
    response: Any = importlib.import_module("starlette.responses").Response
    long_tables = asyncio.Lock()

    def wrapping(handler: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(handler)
        async def respond(request: Any) -> Any:  # noqa: ANN401 Starlette's types
            headers = request.headers
            _origin.set(headers.get(header, ""))
            content_type = headers.get("content-type", "")
            # MLflow reads the body again and gets the received bytes.
            body = await request.body()
            if len(body) > _MAX_INLINE_BYTES or "parquet" in content_type:
                # One long table at a time, in none of the threads that short bodies need.
                async with long_tables:
                    return await handler(request)
            content = respond_to_short(body, content_type)
            if content is None:
                return await handler(request)
            return response(content, media_type=server.CONTENT_TYPE_JSON)

        wrapped: Callable[..., Any] = wrap(respond)
        return wrapped

    server._async_catch_mlflow_exception = wrapping  # noqa: SLF001


def _version(folder: Path) -> str:
    """Number of the registered version, which MLflow writes next to a model of the registry."""
    try:
        meta = yaml.safe_load((folder / "registered_model_meta").read_text(encoding="utf-8"))
        return str(meta["model_version"])
    except (OSError, KeyError, TypeError):
        return "unregistered"


def _shown(value: object) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "null"
    if isinstance(value, float):
        return format(value, ".10g")
    text = _repr.repr(value)
    return text if len(text) <= _VALUE_LENGTH_SHOWN else f"{text[:_VALUE_LENGTH_SHOWN]}…"


set_model(ScoringModel())
