"""What a fitted pipeline gives its estimator: each column by name, and how it was scaled."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from data.datasets import Dataset
from serving.model.packaging import encoder_of

_RARE = "infrequent_sklearn"


class ModelInputs(NamedTuple):
    """The columns that an estimator is fitted on.

    Attributes
    ----------
    names : tuple of str
        A feature, ``channel: web`` of a category, ``weight: nulo`` of the column that is 1 where a number is null.
    mean, scale : ndarray of float64
        A value of the estimator times `scale` plus `mean` is one in the unit of the feature.
    """

    names: tuple[str, ...]
    mean: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]


def of(model: Pipeline, dataset: Dataset) -> ModelInputs:
    """The columns of a pipeline of `steps.training.pipelines`, by the description that it was trained with."""
    names = encoder_of(dataset).input_names
    parts = list(_parts(model[0] if len(model) > 1 else None, names, dataset))
    found = [name for part, _ in parts for name in part]
    means = [np.zeros(len(part)) if scaler is None else scaler.mean_ for part, scaler in parts]
    scales = [np.ones(len(part)) if scaler is None else scaler.scale_ for part, scaler in parts]
    return ModelInputs(tuple(found), np.concatenate(means), np.concatenate(scales))


def _parts(
    transformer: Any,  # noqa: ANN401 scikit-learn has no types
    names: list[str],
    dataset: Dataset,
) -> Iterator[tuple[list[str], StandardScaler | None]]:
    """Names and scaler of each part of the columns."""
    if not isinstance(transformer, ColumnTransformer):
        yield names, transformer if isinstance(transformer, StandardScaler) else None
        return
    for _, part, columns in transformer.transformers_:
        own = [names[place] for place in columns]
        if isinstance(part, OneHotEncoder):
            yield [name for place, name in enumerate(own) for name in _categories(part, place, name, dataset)], None
        elif isinstance(part, Pipeline):
            yield own + [f"{own[place]}: nulo" for place in part[0].indicator_.features_], part[-1]
        else:
            yield own, part if isinstance(part, StandardScaler) else None


def _categories(encoder: OneHotEncoder, place: int, name: str, dataset: Dataset) -> Iterator[str]:
    """Names of the columns of one categorical feature."""
    known = dataset.column(name).categories
    prefix = f"{place}_"
    for column in encoder.get_feature_names_out([str(each) for each in range(encoder.n_features_in_)]):
        if column.startswith(prefix):
            value = column.removeprefix(prefix)
            yield f"{name}: {_category(value, known)}"


def _category(value: str, known: tuple[str, ...]) -> str:
    if value == _RARE:
        return "outras"
    if value == "nan":
        return "nulo"
    code = int(float(value))
    return known[code] if code < len(known) else "desconhecida"
