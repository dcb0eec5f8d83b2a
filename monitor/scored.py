"""P(made) of tables by a version of the registered model, loaded into this process; no server is asked."""

from functools import lru_cache
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd

from data.errors import KobeShotError
from data.schema import FEATURES, MODEL_VERSION, PREDICTION, PROBABILITY
from serving import registry

_VERSIONS_KEPT = 4


class ScoredError(KobeShotError):
    """A version cannot be loaded."""


def scored(table: pd.DataFrame, version: str) -> pd.DataFrame:
    """A table with what a version answers.

    Parameters
    ----------
    table : pandas.DataFrame
        The features, within the ranges of the schema.
    version : str
        Number of the version.

    Returns
    -------
    pandas.DataFrame
        The table with ``prediction`` (int64), ``probability`` (float64) and ``model_version`` (Int64).

    Raises
    ------
    ScoredError
        If the version cannot be loaded, or refuses a row.
    """
    model = _model(version, mlflow.get_tracking_uri())
    try:
        made, probability = model.score(table[list(FEATURES)].to_numpy(dtype=np.float64), model.threshold)
    except mlflow.MlflowException as error:
        message = f"version {version} of {registry.MODEL} refuses a row: {error.message}"
        raise ScoredError(message) from error
    versions = pd.array([int(version)] * len(table), dtype="Int64")
    return table.assign(**{PREDICTION: made, PROBABILITY: probability, MODEL_VERSION: versions})


def threshold_of(version: str) -> float:
    """P(made) from which a version predicts that a shot is made.

    Raises
    ------
    ScoredError
        If the version cannot be loaded.
    """
    return float(_model(version, mlflow.get_tracking_uri()).threshold)


@lru_cache(maxsize=_VERSIONS_KEPT)
def _model(version: str, _store: str) -> Any:  # noqa: ANN401 MLflow publishes no types
    uri = f"models:/{registry.MODEL}/{version}"
    try:
        return mlflow.pyfunc.load_model(uri).unwrap_python_model()
    except Exception as error:  # a model is files and code, and a broken one fails in many ways
        message = f"{uri} cannot be loaded: {type(error).__name__}: {error}"
        raise ScoredError(message) from error
