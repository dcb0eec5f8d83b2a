"""Log a fitted scikit-learn pipeline as an MLflow model that predicts label and probability."""

import hashlib
import json
import logging
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
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

from data.datasets import Column, Dataset, default, for_dataset
from data.errors import KobeShotError
from data.paths import ROOT
from data.schema import PROBABILITY
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


DATASET_FILE = "dataset.json"
"""Name of the description of the dataset in a model and in the run of its training."""
CONFIG_FILE = "scoring_config.json"
"""Name of the configuration of `serving.model.scoring_model.ScoringModel` in a model."""
_MAX_CATEGORIES_SHOWN = 10


class PackagingError(KobeShotError):
    """A model cannot be stored without pickle, or the stored files differ."""


def signature(threshold: float, dataset: Dataset | None = None) -> ModelSignature:
    """The signature: the features; label and probability; ``threshold`` and ``output`` as parameters of a request.

    Numbers and booleans are doubles, categories and dates strings; a feature that may be null is optional. ``output``
    has no default here, so that a model detects whether a form was requested: a server has its own default.
    """
    dataset = dataset or default()
    inputs = [ColSpec(_type_of(column), column.name, required=not column.nullable) for column in dataset.features]
    return ModelSignature(
        inputs=Schema(inputs),
        outputs=Schema([ColSpec(DataType.long, dataset.target.name), ColSpec(DataType.double, PROBABILITY)]),
        params=ParamSchema(
            [ParamSpec("threshold", DataType.double, threshold), ParamSpec("output", DataType.string, None)]
        ),
    )


def _type_of(column: Column) -> DataType:
    return DataType.double if column.is_numeric else DataType.string


def feature_constraints(dataset: Dataset | None = None) -> list[dict[str, Any]]:
    """Constraints of each feature for the served model, derived from the description.

    The categories of a feature that names none are those that `with_categories` has found.
    """
    return [_constraints(column) for column in (dataset or default()).features]


def _constraints(column: Column) -> dict[str, Any]:
    minimum, maximum = column.limits
    found = {
        "name": column.name,
        "aliases": [column.request_name] if column.request_name != column.name else [],
        "table_names": [] if column.true_pattern else list(column.aliases),
        "kind": column.kind,
        "minimum": minimum,
        "maximum": maximum,
        "whole": column.kind != "float",
        "nullable": column.nullable,
        "allowed": f"{column.constraint_text}{', or null' if column.nullable else ''}",
    }
    if column.is_categorical:
        found |= {"categories": list(column.categories), "unseen": column.unseen}
        # The number after those of the categories is that of one that the version has not seen.
        found |= {"minimum": 0, "maximum": len(column.categories), "allowed": _allowed_categories(column)}
    return found


def _input_constraints(features: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Constraints of the columns of a pipeline's input, in which a date is several."""
    for feature in features:
        if feature["kind"] != "date":
            yield feature
            continue
        for part in scoring_model.DATE_PARTS:
            yield {"name": f"{feature['name']}_{part}", "whole": True, "nullable": feature["nullable"]}


def _allowed_categories(column: Column) -> str:
    shown = ", ".join(map(repr, column.categories[:_MAX_CATEGORIES_SHOWN]))
    more = len(column.categories) > _MAX_CATEGORIES_SHOWN
    noun = "one of" if column.unseen == "reject" else "a string such as"
    rest = f", … ({len(column.categories)} categories)" if more else ""
    return f"{noun} {shown}{rest}{', or null' if column.nullable else ''}" if column.categories else "a string"


def with_categories(dataset: Dataset, table: pd.DataFrame) -> Dataset:
    """The description with the categories of a table, the most frequent ones first, where it names none.

    Examples
    --------
    >>> column = Column(name="zone", role="feature", kind="category")
    >>> table = pd.DataFrame({"zone": ["left", "right", "right", None]})
    >>> with_categories(default().model_copy(update={"columns": (column,)}), table).features[0].categories
    ('right', 'left')
    """

    def completed(column: Column) -> Column:
        if column.role != "feature" or not column.is_categorical or column.categories:
            return column
        counts = table[column.name].dropna().map(scoring_model.text_of).value_counts()
        # Equal counts in the order of their names, so that a training is repeatable.
        found = sorted(counts.index, key=lambda name: (-counts[name], name))
        return column.model_copy(update={"categories": tuple(found)})

    return dataset.model_copy(update={"columns": tuple(map(completed, dataset.columns))})


def encoder_of(dataset: Dataset | None = None) -> scoring_model.Encoder:
    """What converts tables of a dataset to the input of its pipelines."""
    return scoring_model.Encoder(feature_constraints(dataset))


def log_scoring_model(
    pipeline: Pipeline,
    example: pd.DataFrame,
    *,
    threshold: float,
    metadata: Mapping[str, str],
    dataset: Dataset | None = None,
) -> ModelInfo:
    """Log a pipeline to the active run as the model that is served.

    Parameters
    ----------
    pipeline : sklearn.pipeline.Pipeline
        Fitted on the output of `encoder_of`; column 1 of ``predict_proba`` is P(made).
    example : pandas.DataFrame
        A few rows of the features: doubles and strings.
    threshold : float
        Default P(made) from which a shot is predicted to be made.
    metadata : mapping of str to str
        Stored in the model's MLmodel file.
    dataset : Dataset, optional
        The description of the features, with their categories; by default the dataset of the brief.

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
    dataset = dataset or default()
    features = feature_constraints(dataset)
    compilation = compile_verified(pipeline, [*_input_constraints(features)])
    # MLflow would log a `model_config` as parameters of the run too, cut and with a warning.
    config = {
        "features": features,
        "threshold": threshold,
        "target": dataset.target.name,
        "compiled": compilation.samples,
    }
    with tempfile.TemporaryDirectory() as folder:
        path, description, scoring = (Path(folder) / name for name in ("pipeline.skops", DATASET_FILE, CONFIG_FILE))
        save_pipeline(pipeline, path)
        description.write_text(dataset.to_json(), encoding="utf-8")
        scoring.write_text(json.dumps(config, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        _require_named_types(path)
        with _without_compiling():
            info = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(_SCORING_MODEL),
                code_paths=[str(path) for path in _CODE_FILES],
                artifacts={"pipeline": str(path), "dataset": str(description), "config": str(scoring)},
                signature=signature(threshold, dataset),
                input_example=example,
                pip_requirements=model_requirements(pipeline),
                metadata={**metadata, **compilation.tags},
            )
        # MLflow may drop a signature silently: https://github.com/mlflow/mlflow/issues/25593
        if info.signature is None or info.signature.inputs.input_names() != list(dataset.feature_names):
            message = f"MLflow logged {info.model_uri} without its signature; it was not registered. Train again."
            raise PackagingError(message)
        written = {
            "artifacts/pipeline.skops": path,
            f"artifacts/{DATASET_FILE}": description,
            f"artifacts/{CONFIG_FILE}": scoring,
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
            "It was not loaded. Restore the file from a copy, or train again: "
            f"{for_dataset('mlflow run . -e treinamento')}"
        )
        raise PackagingError(message)
    return scoring_model.load_pipeline(content)


def predict_probability(
    pipeline: Pipeline, table: pd.DataFrame, dataset: Dataset | None = None
) -> npt.NDArray[np.float64]:
    """P(made) of the rows of a table with the features of a dataset, shape (n,)."""
    return np.asarray(pipeline.predict_proba(encoder_of(dataset).inputs(table))[:, 1])


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
