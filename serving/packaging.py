"""A fitted scikit-learn pipeline → a logged MLflow model that answers label and probability."""

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import skops.io
from mlflow.environment_variables import MLFLOW_UV_AUTO_DETECT
from mlflow.models import ModelSignature
from mlflow.models.model import ModelInfo
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from sklearn.pipeline import Pipeline

from data.errors import KobeShotError
from data.files import ROOT
from data.schema import FEATURES, PROBABILITY, RAW_NAME, TARGET, feature_column
from serving.requirements import served_packages

_SCORING_MODEL = ROOT / "serving" / "scoring_model.py"
_BESIDE = [ROOT / "serving" / name for name in ("inference_log.py", "server_limits.py", "body_parser")]
"""What travels with the model: it imports nothing of this project."""
_TRUSTED_PACKAGES = ("sklearn", "numpy", "lightgbm")
_TRUSTED_TYPES = ("collections.OrderedDict", "collections.defaultdict")


class PackagingError(KobeShotError):
    """A model that cannot be stored without pickle."""


def signature(threshold: float) -> ModelSignature:
    """Six doubles in; label and probability out; ``threshold`` and ``output`` as parameters of the request.

    ``output`` has no default here, so that a model can tell whether a form was asked for: a server has a default of its
    own.
    """
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.double, name) for name in FEATURES]),
        outputs=Schema([ColSpec(DataType.long, TARGET), ColSpec(DataType.double, PROBABILITY)]),
        params=ParamSchema(
            [ParamSpec("threshold", DataType.double, threshold), ParamSpec("output", DataType.string, None)]
        ),
    )


def served_ranges() -> list[dict[str, Any]]:
    """What the served model checks of each feature, derived from the schema."""
    columns = [feature_column(name) for name in FEATURES]
    return [
        {
            "name": name,
            "aliases": [RAW_NAME[name]] if name in RAW_NAME else [],
            "minimum": column.minimum,
            "maximum": column.maximum,
            "whole": column.kind == "integer",
            "allowed": column.allowed,
        }
        for name, column in zip(FEATURES, columns, strict=True)
    ]


def log_scoring_model(
    pipeline: Pipeline, example: pd.DataFrame, *, threshold: float, metadata: Mapping[str, str]
) -> ModelInfo:
    """Log a pipeline to the active run as the model that is served.

    Parameters
    ----------
    pipeline : sklearn.pipeline.Pipeline
        Fitted on an array of the features in the order of ``FEATURES``; ``predict_proba`` gives P(made) second.
    example : pandas.DataFrame
        A few rows of the features, doubles.
    threshold : float
        Default P(made) from which a shot is predicted to be made.
    metadata : mapping of str to str
        Kept in the model's MLmodel file.

    Returns
    -------
    mlflow.models.model.ModelInfo

    Raises
    ------
    PackagingError
        If the pipeline holds types that skops cannot store safely, or MLflow dropped the signature.
    """
    # MLflow would put this project's whole lock into the model, PyCaret and Streamlit with it.
    MLFLOW_UV_AUTO_DETECT.set(False)
    # It says in every training that it validates the example.
    logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.skops"
        save_pipeline(pipeline, path)
        info = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(_SCORING_MODEL),
            code_paths=[str(path) for path in _BESIDE],
            artifacts={"pipeline": str(path)},
            model_config={
                "features": served_ranges(),
                "threshold": threshold,
                "trusted_types": trusted_types(path),
            },
            signature=signature(threshold),
            input_example=example,
            pip_requirements=served_packages(pipeline),
            metadata=dict(metadata),
        )
    # MLflow can drop a signature without a word: https://github.com/mlflow/mlflow/issues/25593
    if info.signature is None or info.signature.inputs.input_names() != list(FEATURES):
        message = f"MLflow logged {info.model_uri} without its signature; it was not registered. Train again."
        raise PackagingError(message)
    return info


def save_pipeline(pipeline: Pipeline, path: Path) -> None:
    """Write a pipeline as skops stores it, without pickle."""
    skops.io.dump(pipeline, path)


def load_pipeline(path: Path) -> Pipeline:
    """Read a pipeline that `save_pipeline` wrote.

    Raises
    ------
    PackagingError
        If it holds types that are not trusted.
    """
    return skops.io.load(path, trusted=trusted_types(path))


def trusted_types(path: Path) -> list[str]:
    """The types in a skops file that its reader must trust, beside those that skops trusts itself.

    Raises
    ------
    PackagingError
        If one of them is neither scikit-learn's, NumPy's, LightGBM's nor a plain container.
    """
    types = sorted(skops.io.get_untrusted_types(file=path))
    foreign = [name for name in types if name.partition(".")[0] not in _TRUSTED_PACKAGES and name not in _TRUSTED_TYPES]
    if foreign:
        message = (
            f"The model holds types that cannot be stored without pickle: {', '.join(foreign)}. "
            f"Expected types of {', '.join(_TRUSTED_PACKAGES)} only; choose another model."
        )
        raise PackagingError(message)
    return types
