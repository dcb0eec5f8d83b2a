"""P(made) of tables by a version of the registered model, loaded into this process, without a server."""

import hashlib
from functools import lru_cache
from typing import Any

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd

from data.datasets import Dataset, current, default, from_json
from data.errors import KobeShotError
from data.schema import MODEL_VERSION, PREDICTION, PROBABILITY
from serving import registry
from serving.model import model_files
from serving.model.packaging import feature_constraints

PREDICTIONS_SHA256, ROUNDED_PREDICTIONS_SHA256 = "predictions_sha256", "predictions_rounded_sha256"
"""Tags of a version: `prediction_hash` of its predictions at registration, exact and to nine decimals."""
ROUNDED_DECIMALS = 9

_VERSIONS_KEPT = 4
_PROBES = 512


class ScoredError(KobeShotError):
    """A version cannot be loaded."""


def predict(table: pd.DataFrame, version: str) -> pd.DataFrame:
    """Score a table with a version.

    Parameters
    ----------
    table : pandas.DataFrame
        The features of the version, within their ranges.
    version : str
        Number of the version.

    Returns
    -------
    pandas.DataFrame
        The table with ``prediction`` (int64), ``probability`` (float64) and ``model_version`` (Int64).

    Raises
    ------
    ScoredError
        If the version cannot be loaded, or rejects a row.
    """
    model = load_model(version)
    try:
        made, probability = model.score(encoded(model, table), model.threshold)
    except mlflow.MlflowException as error:
        message = f"version {version} of {registry.model()} rejects a row: {error.message}"
        raise ScoredError(message) from error
    versions = pd.array([int(version)] * len(table), dtype="Int64")
    return table.assign(**{PREDICTION: made, PROBABILITY: probability, MODEL_VERSION: versions})


def dataset_of(version: str) -> Dataset:
    """The description that a version was trained with, with its categories; of a former version that of the brief.

    The rows of an endpoint that does not return its version have the description of this process.

    Raises
    ------
    ScoredError
        If the version cannot be loaded.
    """
    return _dataset_of(load_model(version)) if version.isdecimal() else current()


def threshold_of(version: str) -> float:
    """P(made) from which a version predicts that a shot is made.

    Raises
    ------
    ScoredError
        If the version cannot be loaded.
    """
    return float(load_model(version).threshold)


def load_model(version: str) -> Any:  # noqa: ANN401 MLflow publishes no types
    """Load the model of a version, an instance of the class in ``serving/model/scoring_model.py``.

    Raises
    ------
    ScoredError
        If it cannot be loaded.
    """
    # A registered model that was created again has versions with equal numbers from other runs.
    return _model(registry.uri(version), registry.run_of(version))


def prediction_hash(uri: str, decimals: int | None = None) -> str:
    """SHA-256 of the labels and P(made) that a model predicts for the same 512 shots.

    Parameters
    ----------
    uri : str
        For example ``models:/kobe_shot/3``.
    decimals : int, optional
        Round P(made) to so many decimals, in which machines of different kinds agree; None does not round.

    Raises
    ------
    ScoredError
        If the model cannot be loaded.
    """
    model = _load(uri)
    made, probability = model.score(_probes(_dataset_of(model)), model.threshold)
    kept = probability if decimals is None else np.round(probability, decimals)
    parts = [np.asarray(values, dtype="<f8").tobytes() for values in (made, kept)]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _dataset_of(model: Any) -> Dataset:  # noqa: ANN401
    text = getattr(model, "dataset", "")
    return from_json(text) if text else default()


def encoded(model: Any, table: pd.DataFrame) -> Any:  # noqa: ANN401 an instance of a version's own class
    """The features of a table as `load_model`'s model scores them: doubles, categories by their codes."""
    encoder = getattr(model, "encoder", None)
    if encoder is None:
        return table[list(model.names)].to_numpy(dtype=np.float64)
    return encoder.encode(*encoder.read(table))[0]


def _probes(dataset: Dataset) -> npt.NDArray[np.float64]:
    """The same 512 encoded rows within the ranges of a dataset, shape (512, features)."""
    stream = np.random.default_rng(0)
    drawn = []
    for feature in feature_constraints(dataset):
        low, high = feature["minimum"], feature["maximum"]
        values = stream.uniform(low or 0.0, high if high is not None else (low or 0.0) + 1, _PROBES)
        drawn.append(np.round(values) if feature["whole"] else values)
    return np.column_stack(drawn)


@lru_cache(maxsize=_VERSIONS_KEPT)
def _model(uri: str, _run: str) -> Any:  # noqa: ANN401 MLflow publishes no types
    return _load(uri)


def _load(uri: str) -> Any:  # noqa: ANN401
    try:
        return model_files.load(uri).unwrap_python_model()
    except KobeShotError as error:
        message = f"{uri} cannot be loaded: {error}"
        raise ScoredError(message) from error
    except Exception as error:  # a model contains code, which may raise any error
        message = f"{uri} cannot be loaded: {type(error).__name__}: {error}"
        raise ScoredError(message) from error
