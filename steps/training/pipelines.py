"""The pipelines of the candidates: how each model takes numbers, categories and nulls.

The input of a pipeline is what `serving.model.packaging.encoder_of` gives: a category is its number, a null is NaN.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler

from data.datasets import Dataset
from serving.model.packaging import encoder_of

HGBC = "hgbc"
OWN_MODELS = {HGBC: "Histogram Gradient Boosting"}
"""Models that PyCaret tunes and does not name, by id."""

MIN_CATEGORY_ROWS = 20
"""Training rows below which a category is rare: models with one column for each category treat all rare ones alike, and
those that no training row has with them."""
_MAX_CATEGORIES = 250
"""scikit-learn's histogram gradient boosting takes at most 255 categories of a feature."""

_SPACE: dict[str, list[float | int]] = {
    "learning_rate": [0.04, 0.05, 0.06],
    "max_iter": [90, 110, 130],
    "max_leaf_nodes": [12, 16, 20],
    "min_samples_leaf": [10, 20, 30],
    "l2_regularization": [0.0, 1.0, 3.0],
    "max_features": [0.3, 0.4],
}


@dataclass(frozen=True)
class Inputs:
    """The columns of a pipeline's input.

    Attributes
    ----------
    names : tuple of str
    categories : dict of int to int
        Number of categories of each feature that has them, by its column.
    has_nulls : bool
        Whether numbers may be null.
    """

    names: tuple[str, ...]
    categories: dict[int, int]
    has_nulls: bool

    @classmethod
    def of(cls, dataset: Dataset) -> "Inputs":
        """The columns for a dataset with its categories."""
        encoder = encoder_of(dataset)
        has_nulls = any(column.nullable and not column.is_categorical for column in dataset.features)
        return cls(tuple(encoder.input_names), encoder.category_inputs, has_nulls)

    @property
    def are_plain(self) -> bool:
        """Whether all are numbers without nulls."""
        return not self.categories and not self.has_nulls

    @property
    def numbers(self) -> list[int]:
        """The columns that are no categories."""
        return [place for place in range(len(self.names)) if place not in self.categories]

    @property
    def large(self) -> list[int]:
        """Columns of more categories than a histogram takes."""
        return [place for place, count in self.categories.items() if count > _MAX_CATEGORIES]


def gradient_boosting(inputs: Inputs, seed: int) -> HistGradientBoostingClassifier:
    """An untuned `HGBC`, which takes categories and nulls itself."""
    # In the order of the columns that `with_preprocessing` gives it.
    order = [*inputs.large, *(place for place in range(len(inputs.names)) if place not in inputs.large)]
    categorical = [number for number, place in enumerate(order) if place in inputs.categories]
    return HistGradientBoostingClassifier(
        learning_rate=0.05,
        max_iter=110,
        max_leaf_nodes=16,
        min_samples_leaf=20,
        max_features=0.3,
        early_stopping=False,
        categorical_features=categorical or None,
        random_state=seed,
    )


def search_space() -> dict[str, list[float | int]]:
    """The settings of `HGBC` that the random search draws from."""
    return {name: list(values) for name, values in _SPACE.items()}


def preprocessing(model_id: str, inputs: Inputs) -> Any:  # noqa: ANN401 scikit-learn has no types
    """The transformer in front of a model, not fitted; None if there is none."""
    if model_id == HGBC:
        return _frequent_categories(inputs) if inputs.large else None
    if inputs.are_plain:
        return StandardScaler()
    numbers = StandardScaler()
    if inputs.has_nulls:
        numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    one_hot = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=MIN_CATEGORY_ROWS, sparse_output=False)
    parts = [("numbers", numbers, inputs.numbers), ("categories", one_hot, [*inputs.categories])]
    return ColumnTransformer([part for part in parts if part[2]], sparse_threshold=0)


def with_preprocessing(model_id: str, estimator: Any, inputs: Inputs) -> Pipeline:  # noqa: ANN401
    """A pipeline of a model that takes the input of a dataset."""
    transformer = preprocessing(model_id, inputs)
    return make_pipeline(estimator) if transformer is None else make_pipeline(transformer, estimator)


def without_functions(pipeline: Pipeline) -> Pipeline:
    """The same fitted pipeline without what scikit-learn keeps for another fit: a function, and a random generator.

    A stored pipeline holds no functions, so that loading one runs no code; see ``STORED_TYPES``.
    """
    model = pipeline[-1]
    if isinstance(model, HistGradientBoostingClassifier):
        model.__dict__.pop("_feature_subsample_rng", None)
        # It only checks that the numbers are numbers.
        encoder = getattr(model, "_preprocessor", None)
        for _, transformer, _ in [] if encoder is None else encoder.transformers_ + encoder.transformers:
            if isinstance(transformer, FunctionTransformer):
                transformer.set_params(func=None)
    return pipeline


def _frequent_categories(inputs: Inputs) -> ColumnTransformer:
    encoder = OrdinalEncoder(
        max_categories=_MAX_CATEGORIES,
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,
        encoded_missing_value=np.nan,
    )
    others = [place for place in range(len(inputs.names)) if place not in inputs.large]
    return ColumnTransformer([("large", encoder, inputs.large), ("others", "passthrough", others)])
