"""PyCaret tunes models; the result is a plain scikit-learn pipeline.

The only module that needs PyCaret. It imports it late: the import takes seconds.
"""

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from data.errors import KobeShotError
from data.schema import FEATURES, TARGET
from monitor.metrics.binary import METRICS
from monitor.store.candidates import BASE_RATE

BEST = "best"

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
        Takes an array of shape (n, 6) in the order of ``FEATURES``; ``predict_proba`` gives P(missed), P(made).
    hyperparameters : dict
        Of the estimator, without those that are None.
    cross_validated : dict of str to tuple of float
        Mean and standard deviation over the folds of each metric.
    """

    id: str
    name: str
    pipeline: Pipeline
    hyperparameters: dict[str, object]
    cross_validated: dict[str, tuple[float, float]]


class Tuner:
    """Trains candidates on the training rows, all on the same folds.

    Parameters
    ----------
    train : pandas.DataFrame
        The six features and ``shot_made_flag``; no other rows are used.
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

    Raises
    ------
    TrainingError
        If a class has fewer rows than there are folds.
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
    ) -> None:
        self._features = train[list(FEATURES)].to_numpy(dtype=np.float64)
        self._labels = train[TARGET].to_numpy(dtype=np.float64)
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
                f"cv_folds: expected at most as many as made and as missed labels that models are compared on; found "
                f"{cv_folds}, {int(compared.sum()):,} made and {int(len(compared) - compared.sum()):,} missed."
            )
            raise TrainingError(message)
        self._folds = StratifiedKFold(cv_folds, shuffle=True, random_state=session_id)
        self._n_iter = n_iter
        self._criterion = criterion
        with _quiet():
            self.experiment = _pycaret_experiment(train, self._folds, session_id)

    def prior(self) -> Candidate:
        """The base-rate baseline: the same P(made) for every shot."""
        return self._candidate(BASE_RATE, "Base rate", make_pipeline(DummyClassifier(strategy="prior")))

    def tune(self, model_id: str) -> Candidate:
        """Tune one of PyCaret's classifiers.

        Parameters
        ----------
        model_id : str
            A key of ``MODEL_NAMES``.

        Raises
        ------
        TrainingError
            If the rows have sample weights and the model takes none.
        """
        if self._weights is not None and model_id in WITHOUT_WEIGHTS:
            name = MODEL_NAMES[model_id]
            message = f"models: {model_id} ({name}) takes no sample weights; omit it, or give weighting=uniform."
            raise TrainingError(message)
        has_probabilities = model_id not in _WITHOUT_PROBABILITIES
        optimize = _PYCARET_METRIC[self._criterion] if has_probabilities else "Accuracy"
        with _quiet():
            created = self.experiment.create_model(model_id, verbose=False)
            tuned = self.experiment.tune_model(
                created,
                optimize=optimize,
                n_iter=self._n_iter,
                custom_grid=_GRIDS.get(model_id),
                verbose=False,
                choose_better=True,
            )
        estimator = clone(tuned)
        if not has_probabilities:
            estimator = CalibratedClassifierCV(estimator, method="sigmoid", cv=self._folds)
        return self._candidate(model_id, MODEL_NAMES[model_id], make_pipeline(StandardScaler(), estimator))

    def ids(self, models: str) -> list[str]:
        """Ids of the models that a parameter names, ``best`` resolved to the winner of ``compare_models``."""
        named = models.split(",")
        ids = [model_id for model_id in named if model_id != BEST]
        if BEST in named and (winner := self.best_id()) not in ids:
            ids.append(winner)
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
            self._fit(pipeline, np.arange(len(self._labels)))
        hyperparameters = {key: value for key, value in pipeline[-1].get_params().items() if value is not None}
        return Candidate(model_id, name, pipeline, hyperparameters, scores)

    def _fit(self, pipeline: Pipeline, rows: npt.NDArray[np.int_]) -> Pipeline:
        weights = {} if self._weights is None else {f"{pipeline.steps[-1][0]}__sample_weight": self._weights[rows]}
        return pipeline.fit(self._features[rows], self._labels[rows], **weights)

    def _cross_validate(self, pipeline: Pipeline) -> dict[str, tuple[float, float]]:
        scores: dict[str, list[float]] = {metric: [] for metric in METRICS}
        # In every fold there are made and missed rows to compare on.
        strata = self._labels + 2 * self._compared_on
        for fit_rows, score_rows in self._folds.split(self._features, strata):
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


def _pycaret_experiment(train: pd.DataFrame, folds: StratifiedKFold, session_id: int) -> Any:  # noqa: ANN401 PyCaret has no types
    os.environ.setdefault("PYCARET_CUSTOM_LOGGING_PATH", os.devnull)
    import lightgbm  # noqa: PLC0415 takes seconds

    # PyCaret imports yellowbrick, which sets a style of its own for all of matplotlib: fonts that few machines have.
    with mpl.rc_context():
        from pycaret.classification import ClassificationExperiment  # noqa: PLC0415

    # LightGBM writes to standard output unless it has a logger, which `_quiet` can silence.
    lightgbm.register_logger(logging.getLogger("lightgbm"))
    experiment = ClassificationExperiment()
    experiment.setup(
        train,
        target=TARGET,
        # PyCaret needs a hold-out; the test rows stay unseen, and its results on these rows are not used.
        test_data=train.head(len(train) // 10),
        index=False,
        normalize=True,
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
