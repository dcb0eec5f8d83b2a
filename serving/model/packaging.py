"""Log a fitted scikit-learn pipeline as an MLflow model that predicts label and probability."""

import hashlib
import logging
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
import skops.io
from mlflow import MlflowClient
from mlflow.environment_variables import MLFLOW_UV_AUTO_DETECT
from mlflow.models import ModelSignature
from mlflow.models.model import ModelInfo
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from sklearn.pipeline import Pipeline

from data.errors import KobeShotError
from data.paths import ROOT
from data.schema import FEATURES, PROBABILITY, RAW_COLUMN_NAMES, TARGET, feature_column
from data.storage.files import sha256
from serving.model import manifest, model_files, scoring_model
from serving.model.compilation import compile_verified
from serving.model.requirements import model_requirements

_SCORING_MODEL = ROOT / "serving" / "model" / "scoring_model.py"
_CODE_FILES = [
    ROOT / "serving" / name
    for name in (
        "inference_log/inference_log.py",
        "server_limits.py",
        "server/bounded_http.py",
        "model/body_parser",
        "model/compiled_pipeline",
    )
]
"""Modules that are copied into the model. They import nothing of this project."""


class PackagingError(KobeShotError):
    """A model cannot be stored without pickle, or the stored files differ."""


def signature(threshold: float) -> ModelSignature:
    """The signature: six doubles; label and probability; ``threshold`` and ``output`` as parameters of a request.

    ``output`` has no default here, so that a model detects whether a form was requested: a server has its own
    default.
    """
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.double, name) for name in FEATURES]),
        outputs=Schema([ColSpec(DataType.long, TARGET), ColSpec(DataType.double, PROBABILITY)]),
        params=ParamSchema(
            [ParamSpec("threshold", DataType.double, threshold), ParamSpec("output", DataType.string, None)]
        ),
    )


def feature_constraints() -> list[dict[str, Any]]:
    """Constraints of each feature for the served model, derived from the schema."""
    columns = [feature_column(name) for name in FEATURES]
    return [
        {
            "name": name,
            "aliases": [RAW_COLUMN_NAMES[name]] if name in RAW_COLUMN_NAMES else [],
            "minimum": column.minimum,
            "maximum": column.maximum,
            "whole": column.kind == "integer",
            "allowed": column.constraint_text,
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
        Fitted on an array of the features in the order of ``FEATURES``; column 1 of ``predict_proba`` is P(made).
    example : pandas.DataFrame
        A few rows of the features, doubles.
    threshold : float
        Default P(made) from which a shot is predicted to be made.
    metadata : mapping of str to str
        Stored in the model's MLmodel file.

    Returns
    -------
    mlflow.models.model.ModelInfo

    Raises
    ------
    PackagingError
        If the pipeline contains types that are not listed, MLflow dropped the signature, or the artifact store holds
        other files than were written.
    """
    # MLflow would add the whole lock of this project to the model, with PyCaret and Streamlit.
    MLFLOW_UV_AUTO_DETECT.set(False)
    # MLflow logs in every training that it validates the example.
    logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)
    features = feature_constraints()
    compilation = compile_verified(pipeline, features)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.skops"
        save_pipeline(pipeline, path)
        _require_named_types(path)
        with _without_compiling():
            info = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(_SCORING_MODEL),
                code_paths=[str(path) for path in _CODE_FILES],
                artifacts={"pipeline": str(path)},
                model_config={"features": features, "threshold": threshold, "compiled": compilation.samples},
                signature=signature(threshold),
                input_example=example,
                pip_requirements=model_requirements(pipeline),
                metadata={**metadata, **compilation.tags},
            )
        # MLflow may drop a signature silently: https://github.com/mlflow/mlflow/issues/25593
        if info.signature is None or info.signature.inputs.input_names() != list(FEATURES):
            message = f"MLflow logged {info.model_uri} without its signature; it was not registered. Train again."
            raise PackagingError(message)
        written = {
            "artifacts/pipeline.skops": path,
            "scoring_model.py": _SCORING_MODEL,
            **_code_files(),
        }
        _note_files(info, {name: sha256(file) for name, file in written.items()})
    return info


@contextmanager
def _without_compiling() -> Iterator[None]:
    """Write no compiled files: MLflow runs the model in the folder that it stores."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def save_pipeline(pipeline: Pipeline, path: Path) -> None:
    """Write a pipeline with skops, without pickle."""
    skops.io.dump(pipeline, path)


def load_pipeline(path: Path, digest: str = "") -> Pipeline:
    """Read a pipeline that `save_pipeline` wrote.

    Parameters
    ----------
    path : pathlib.Path
    digest : str
        Expected SHA-256 of the file; empty if it is unknown.

    Raises
    ------
    PackagingError
        If the file differs.
    ValueError
        If it is not a pipeline, or contains types that are not listed.
    """
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if digest and found != digest:
        message = (
            f"{path} is not the pipeline that its run has written: expected SHA-256 {digest}, found {found}. "
            "It was not loaded. Restore the file from a copy, or train again: mlflow run . -e treinamento"
        )
        raise PackagingError(message)
    return scoring_model.load_pipeline(content)


def predict_probability(pipeline: Pipeline, table: pd.DataFrame) -> npt.NDArray[np.float64]:
    """P(made) of the rows of a table with the features, shape (n,)."""
    return np.asarray(pipeline.predict_proba(table[list(FEATURES)].to_numpy(dtype=np.float64))[:, 1])


def _code_files() -> dict[str, Path]:
    """Paths of the modules that are copied into the model; MLflow puts each under its own name into one folder."""
    return {
        f"code/{file.relative_to(path.parent)}": file
        for path in _CODE_FILES
        for file in (path.rglob("*.py") if path.is_dir() else [path])
    }


def _require_named_types(path: Path) -> None:
    unnamed = scoring_model.unnamed_types(path.read_bytes())
    if unnamed:
        message = (
            f"The model holds types that are not served: {', '.join(unnamed)}. Expected those that STORED_TYPES "
            "names in serving/model/scoring_model.py; select another model, or name them there if they run no code."
        )
        raise PackagingError(message)


def _note_files(info: ModelInfo, written: Mapping[str, str]) -> None:
    """Record the SHA-256 of each file of a logged model on it, after a comparison with the files that were written."""
    _, found = model_files.found_in_store(info.model_uri)
    wrong = [name for name, digest in written.items() if found.get(name) != digest]
    if wrong:
        message = (
            f"The artifact store does not hold what was written to it: {', '.join(wrong)} of {info.model_uri}. "
            "The model was not registered. Find out who else writes there, and train again."
        )
        raise PackagingError(message)
    MlflowClient().set_logged_model_tags(info.model_id, manifest.tags_of(found))
