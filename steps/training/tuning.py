"""PyCaret tunes models; the result is a plain scikit-learn pipeline.

The only module that needs PyCaret. It imports it late: the import takes seconds.
"""

import gc
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import (
    BaseCrossValidator,
    PredefinedSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    train_test_split,
)
from sklearn.pipeline import Pipeline, make_pipeline

from data.datasets import Dataset, current, default
from data.errors import KobeShotError
from data.groups import Groups
from monitor.metrics.binary import METRICS
from monitor.store.candidates import BASE_RATE
from serving.model.packaging import encoder_of, predict_probability
from steps.training.pipelines import (
    HGBC,
    OWN_MODELS,
    Inputs,
    gradient_boosting,
    preprocessing,
    search_space,
    with_preprocessing,
    without_functions,
)

BEST = "best"
MAX_TUNING_ROWS = 100_000
_SHARES_OF_THE_SAMPLE = (8, 4, 2, 1)

MODEL_NAMES = {
    "lr": "Logistic Regression",
    "dt": "Decision Tree",
    "knn": "K Neighbors",
    "nb": "Naive Bayes",
    "svm": "SVM, linear kernel",
    "rbfsvm": "SVM, radial kernel",
    "gpc": "Gaussian Process",
    "mlp": "Multi-Layer Perceptron",
    "ridge": "Ridge Classifier",
    "rf": "Random Forest",
    "qda": "Quadratic Discriminant Analysis",
    "ada": "Ada Boost",
    "gbc": "Gradient Boosting",
    "lda": "Linear Discriminant Analysis",
    "et": "Extra Trees",
    "lightgbm": "Light Gradient Boosting Machine",
}
"""PyCaret's classifiers by id, in its own words; a test compares them with PyCaret's list."""

WITHOUT_WEIGHTS = ("knn", "mlp", "gpc", "lda", "qda")
"""Those that take no sample weights."""

# PyCaret's own grid has leaves of 2 to 6 rows. Their P(made) may be 0 or 1, and one such row that is wrong adds 36 to a
# sum of log losses in which others have 0.7. Most of its configurations are a tree without a split.
_GRIDS = {
    "dt": {
        "max_depth": list(range(2, 17)),
        "max_features": [1.0, "sqrt", "log2"],
        "min_samples_leaf": [20, 50, 100, 200, 400],
        "criterion": ["gini", "entropy"],
    }
}
"""Hyperparameters that the random search draws from, where they are not PyCaret's own."""

# PyCaret reports a log loss of 0.0 for models without probabilities, and would select them for it.
_WITHOUT_PROBABILITIES = ("svm", "ridge")
_PYCARET_METRIC = {
    "log_loss": "Log Loss",
    "brier": "Brier",
    "roc_auc": "AUC",
    "f1_score": "F1",
    "accuracy": "Accuracy",
    "precision": "Prec.",
    "recall": "Recall",
}


class TrainingError(KobeShotError):
    """The training rows are too few for the parameters."""


@dataclass(frozen=True)
class Candidate:
    """A tuned model, fitted on the training rows.

    Attributes
    ----------
    id : str
        PyCaret's id, or ``prior``.
    name : str
        For people.
    pipeline : sklearn.pipeline.Pipeline
        Takes what `serving.model.packaging.encoder_of` gives; ``predict_proba`` gives P(missed), P(made).
    hyperparameters : dict
        Of the estimator, without those that are None.
    cross_validated : dict of str to tuple of float
        Mean and standard deviation over the folds of each metric.
    dataset : Dataset
        The description of the features, with their categories.
    """

    id: str
    name: str
    pipeline: Pipeline
    hyperparameters: dict[str, object]
    cross_validated: dict[str, tuple[float, float]]
    dataset: Dataset = field(default_factory=default)

    def probability(self, table: pd.DataFrame) -> npt.NDArray[np.float64]:
        """P(made) of the rows of a table with the features, shape (n,)."""
        return predict_probability(self.pipeline, table, self.dataset)


class Tuner:
    """Trains candidates on the training rows, all on the same folds.

    Parameters
    ----------
    train : pandas.DataFrame
        The features and the label; no other rows are used.
    cv_folds : int
        Stratified, shuffled folds.
    n_iter : int
        Hyperparameter configurations of the random search, for each model.
    session_id : int
        Seed of folds, search and models.
    criterion : str
        Name of the metric that the search optimizes, from P(made).
    weights : ndarray of float64, shape (n,), optional
        Sample weight of each training row in the final fit; PyCaret's search uses no weights.
    compared_on : ndarray of bool, shape (n,), optional
        The rows of the cross-validated metrics; all of them without.
    dataset : Dataset, optional
        The description of the features, with their categories; by default the dataset of the brief.
    groups : ndarray, shape (n,), optional
        Group of each row: no group is in two folds.
    max_tuning_rows : int
        Rows above which the search and the cross-validation use a stratified sample of so many; the selected setting is
        fitted on all rows.

    Raises
    ------
    TrainingError
        If a class has fewer rows, or there are fewer groups, than there are folds.
    """

    def __init__(  # noqa: PLR0913 each is a keyword with a meaning of its own
        self,
        train: pd.DataFrame,
        *,
        cv_folds: int,
        n_iter: int,
        session_id: int,
        criterion: str,
        weights: npt.NDArray[np.float64] | None = None,
        compared_on: npt.NDArray[np.bool_] | None = None,
        dataset: Dataset | None = None,
        groups: npt.NDArray[Any] | None = None,
        max_tuning_rows: int = MAX_TUNING_ROWS,
    ) -> None:
        self._dataset = dataset = dataset or default()
        self._inputs, self._target = Inputs.of(dataset), dataset.target.name
        self._features = encoder_of(dataset).inputs(train)
        self._raw_labels = train[self._target].to_numpy()
        self._labels = self._raw_labels.astype(np.float64)
        rarest = int(min(self._labels.sum(), len(self._labels) - self._labels.sum()))
        if rarest < cv_folds:
            message = (
                f"cv_folds: expected at most {rarest}, the rows of the rarer class in base_train; found {cv_folds}."
            )
            raise TrainingError(message)
        self._weights = weights
        self._compared_on = np.ones(len(train), dtype=bool) if compared_on is None else compared_on
        compared = self._labels[self._compared_on]
        if min(compared.sum(), len(compared) - compared.sum()) < cv_folds:
            message = (
                f"cv_folds: expected at most as many as {current().positive} and as {current().negative} labels that "
                f"models are compared on; found {cv_folds}, {int(compared.sum()):,} {current().positive} and "
                f"{int(len(compared) - compared.sum()):,} {current().negative}."
            )
            raise TrainingError(message)
        self._sample = _stratified_sample(self._labels, self._compared_on, max_tuning_rows, session_id)
        self._folds: BaseCrossValidator = StratifiedKFold(cv_folds, shuffle=True, random_state=session_id)
        self._calibration_folds = StratifiedKFold(cv_folds, shuffle=True, random_state=session_id)
        if groups is not None:
            self._folds = _folds_of_groups(groups[self._sample], self._strata, cv_folds, session_id)
        self._n_iter = n_iter
        self._seed = session_id
        self._criterion = criterion
        self._experiments: dict[bool, Any] = {}

    @property
    def experiment(self) -> Any:  # noqa: ANN401 PyCaret has no types
        """PyCaret's experiment of the models that need preprocessing."""
        return self._experiment("lr")

    @property
    def is_sampled(self) -> bool:
        """Whether the search uses a sample of the rows."""
        return len(self._sample) < len(self._labels)

    @property
    def _strata(self) -> npt.NDArray[np.float64]:
        # In every fold there are made and missed rows to compare on.
        strata: npt.NDArray[np.float64] = (self._labels + 2 * self._compared_on)[self._sample]
        return strata

    def _experiment(self, model_id: str) -> Any:  # noqa: ANN401
        takes_categories = model_id == HGBC and not self._inputs.are_plain
        if takes_categories not in self._experiments:
            features, labels = self._features[self._sample], self._raw_labels[self._sample]
            columns = [*self._inputs.names]
            if not self._inputs.are_plain:
                # Fitted on all of these rows, without their labels: PyCaret tunes the estimator behind it.
                transformer = preprocessing(model_id, self._inputs)
                features = features if transformer is None else transformer.fit_transform(features)
                columns = [f"x{place}" for place in range(features.shape[1])]
            table = pd.DataFrame(features, columns=columns, copy=False).assign(**{self._target: labels})
            with _quiet():
                self._experiments[takes_categories] = _pycaret_experiment(
                    table, self._target, self._folds, self._seed, is_prepared=not self._inputs.are_plain
                )
        return self._experiments[takes_categories]

    def prior(self) -> Candidate:
        """The base-rate baseline: the same P(made) for every shot."""
        return self._candidate(BASE_RATE, "Base rate", make_pipeline(DummyClassifier(strategy="prior")))

    def tune(self, model_id: str) -> Candidate:
        """Tune one of PyCaret's classifiers.

        Parameters
        ----------
        model_id : str
            A key of ``MODEL_NAMES`` or ``OWN_MODELS``.

        Raises
        ------
        TrainingError
            If the rows have sample weights and the model takes none.
        """
        name = name_of(model_id)
        if self._weights is not None and model_id in WITHOUT_WEIGHTS:
            message = f"models: {model_id} ({name}) takes no sample weights; omit it, or give weighting=uniform."
            raise TrainingError(message)
        has_probabilities = model_id not in _WITHOUT_PROBABILITIES
        optimize = _PYCARET_METRIC[self._criterion] if has_probabilities else "Accuracy"
        experiment = self._experiment(model_id)
        with _quiet():
            untuned = gradient_boosting(self._inputs, self._seed) if model_id == HGBC else model_id
            created = experiment.create_model(untuned, verbose=False)
            tuned = experiment.tune_model(
                created,
                optimize=optimize,
                n_iter=self._n_iter,
                custom_grid=search_space() if model_id == HGBC else _GRIDS.get(model_id),
                verbose=False,
                choose_better=True,
            )
        estimator = clone(tuned)
        if not has_probabilities:
            estimator = CalibratedClassifierCV(estimator, method="sigmoid", cv=self._calibration_folds)
        return self._candidate(model_id, name, with_preprocessing(model_id, estimator, self._inputs))

    def refit(self, candidate: Candidate) -> Candidate:
        """Fit a candidate of other training rows on these, with the same hyperparameters; nothing is tuned."""
        estimator = clone(candidate.pipeline[-1])
        if candidate.id == HGBC:
            # Their places depend on the number of categories of each feature.
            places = gradient_boosting(self._inputs, self._seed).categorical_features
            estimator.set_params(categorical_features=places)
        return self._candidate(candidate.id, candidate.name, with_preprocessing(candidate.id, estimator, self._inputs))

    def ids(self, models: str) -> list[str]:
        """Ids of the models that a parameter names, ``best`` resolved to the winner of ``compare_models``."""
        named = models.split(",")
        ids = [model_id for model_id in named if model_id != BEST]
        if BEST in named and (winner := self.best_id()) not in ids:
            ids.append(winner)
        if BEST in named and not self._inputs.are_plain and HGBC not in ids:
            # PyCaret compares its own models only.
            ids.append(HGBC)
        return ids

    def best_id(self) -> str:
        """Id of the winner of PyCaret's ``compare_models`` by the criterion, among models with probabilities."""
        with _quiet():
            excluded = [] if self._weights is None else WITHOUT_WEIGHTS
            winner = self.experiment.compare_models(
                exclude=[*_WITHOUT_PROBABILITIES, *excluded, "dummy"],
                sort=_PYCARET_METRIC[self._criterion],
                verbose=False,
            )
            names = self.experiment.models(internal=True)["Class"]
        return str(names.index[[isinstance(winner, kind) for kind in names]][0])

    def _candidate(self, model_id: str, name: str, pipeline: Pipeline) -> Candidate:
        with _quiet():
            scores = self._cross_validate(pipeline)
            without_functions(self._fit(pipeline, np.arange(len(self._labels))))
        hyperparameters = {key: value for key, value in pipeline[-1].get_params().items() if value is not None}
        return Candidate(model_id, name, pipeline, hyperparameters, scores, self._dataset)

    def _fit(self, pipeline: Pipeline, rows: npt.NDArray[np.int_]) -> Pipeline:
        weights = {} if self._weights is None else {f"{pipeline.steps[-1][0]}__sample_weight": self._weights[rows]}
        return pipeline.fit(self._features[rows], self._labels[rows], **weights)

    def learning_curve(self, candidate: Candidate) -> dict[int, float]:
        """The criterion of a candidate on a fold of the sample, by the number of rows that it was fitted on.

        The numbers are shares of the sample, and all training rows but that fold.
        """
        fit_rows, score_rows = next(self._splits())
        others = np.setdiff1d(np.arange(len(self._labels)), score_rows)
        order = np.random.default_rng(self._seed).permutation(fit_rows)
        parts = [*(order[: len(order) // share] for share in _SHARES_OF_THE_SAMPLE), others]
        curve = {}
        with _quiet():
            for rows in parts:
                fitted = self._fit(clone(candidate.pipeline), np.sort(rows))
                made = fitted.predict_proba(self._features[score_rows])[:, 1]
                curve[len(rows)] = METRICS[self._criterion].compute(self._labels[score_rows], made, 0.5)
        return curve

    def _splits(self) -> Iterator[tuple[npt.NDArray[np.int_], npt.NDArray[np.int_]]]:
        """Rows to fit on and rows to score, of each fold."""
        for fit_rows, score_rows in self._folds.split(self._sample, self._strata):
            yield self._sample[fit_rows], self._sample[score_rows]

    def _cross_validate(self, pipeline: Pipeline) -> dict[str, tuple[float, float]]:
        scores: dict[str, list[float]] = {metric: [] for metric in METRICS}
        for fit_rows, score_rows in self._splits():
            fitted = self._fit(clone(pipeline), fit_rows)
            compared = score_rows[self._compared_on[score_rows]]
            made = fitted.predict_proba(self._features[compared])[:, 1]
            for name, metric in METRICS.items():
                scores[name].append(metric.compute(self._labels[compared], made, 0.5))
        return {name: (float(np.mean(values)), float(np.std(values, ddof=1))) for name, values in scores.items()}


def select_best(candidates: Sequence[Candidate], criterion: str) -> Candidate:
    """The candidate with the best cross-validated mean of a metric; the first of equals."""
    best = candidates[0]
    for candidate in candidates[1:]:
        if METRICS[criterion].better(candidate.cross_validated[criterion][0], best.cross_validated[criterion][0]):
            best = candidate
    return best


def name_of(model_id: str) -> str:
    """Name of a model, for people."""
    return MODEL_NAMES.get(model_id) or OWN_MODELS[model_id]


def _stratified_sample(
    labels: npt.NDArray[np.float64], compared_on: npt.NDArray[np.bool_], rows: int, seed: int
) -> npt.NDArray[np.int_]:
    """Rows of the search, in their order: all of them, or a sample with the same share of each class."""
    every = np.arange(len(labels))
    if len(labels) <= rows:
        return every
    strata = labels + 2 * compared_on
    sample, _ = train_test_split(every, train_size=rows, stratify=strata, random_state=seed)
    found: npt.NDArray[np.int_] = np.sort(sample)
    return found


def _folds_of_groups(
    groups: npt.NDArray[Any], strata: npt.NDArray[np.float64], folds: int, seed: int
) -> PredefinedSplit:
    """Folds in which no group is split, decided once, so that PyCaret and the cross-validation have the same."""
    if pd.isna(groups).any():
        groups = Groups.of(groups).code
    found = len(pd.unique(groups))
    if found < folds:
        message = f"cv_folds: expected at most {found:,}, the groups of base_train; found {folds}."
        raise TrainingError(message)
    fold = np.zeros(len(groups), dtype=int)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for number, (_, rows) in enumerate(splitter.split(groups, strata, groups)):
        fold[rows] = number
    return PredefinedSplit(fold)


def _pycaret_experiment(
    train: pd.DataFrame,
    target: str,
    folds: BaseCrossValidator,
    session_id: int,
    *,
    is_prepared: bool,
) -> Any:  # noqa: ANN401 PyCaret has no types
    experiment = _import_pycaret()()
    experiment.setup(
        train,
        target=target,
        # PyCaret needs a hold-out; the test rows stay unseen, and its results on these rows are not used.
        test_data=train.head(max(len(train) // 10, 1)),
        index=False,
        preprocess=not is_prepared,
        normalize=not is_prepared,
        imputation_type=None,
        fold_strategy=folds,
        session_id=session_id,
        n_jobs=1,
        memory=False,
        log_experiment=False,
        system_log=False,
        html=False,
        verbose=False,
    )
    # PyCaret's own AUC is from P(made) too; it has no log loss and no Brier score.
    for name in ("log_loss", "brier"):
        experiment.add_metric(
            name,
            _PYCARET_METRIC[name],
            _scorer(name),
            greater_is_better=METRICS[name].greater_is_better,
            target="pred_proba",
        )
    return experiment


@cache
def _import_pycaret() -> Any:  # noqa: ANN401
    """PyCaret's experiment of classifiers."""
    os.environ.setdefault("PYCARET_CUSTOM_LOGGING_PATH", os.devnull)
    import lightgbm  # noqa: PLC0415 takes seconds

    # PyCaret imports yellowbrick, which sets a style of its own for all of matplotlib: fonts that few machines have.
    with mpl.rc_context():
        from pycaret.classification import ClassificationExperiment  # noqa: PLC0415
        from pycaret.containers.models import classification as grids  # noqa: PLC0415
        from pycaret.internal.pycaret_experiment import supervised_experiment  # noqa: PLC0415

    # LightGBM writes to standard output unless it has a logger, which `_quiet` can silence.
    lightgbm.register_logger(logging.getLogger("lightgbm"))
    # PyCaret computes the grids of all its models eight times per experiment. It collects garbage five times per model,
    # each time through all that the libraries hold.
    grids.np_list_arange = cache(grids.np_list_arange)
    supervised_experiment.gc = SimpleNamespace(collect=partial(gc.collect, 1))
    return ClassificationExperiment


def _scorer(name: str) -> Callable[..., float]:
    def score(labels: npt.ArrayLike, probability: npt.ArrayLike, **_options: object) -> float:
        return METRICS[name].compute(np.asarray(labels, dtype=float), np.asarray(probability, dtype=float), 0.5)

    return score


@contextmanager
def _quiet() -> Iterator[None]:
    # PyCaret and its models warn of every configuration that does not converge; the metrics show the same.
    root_level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(root_level)
