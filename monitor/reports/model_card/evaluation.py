"""Evaluation of a model on its test rows, with a summary of its training rows, for the model card."""

import math
from dataclasses import dataclass

import pandas as pd

from data import court
from data.datasets import Dataset
from data.groups import groups_of
from data.schema import PROBABILITY
from monitor.drift.training_support import Support
from monitor.metrics import base_rate
from monitor.metrics.binary import THRESHOLD, Floats
from monitor.metrics.calibration import calibration_curve
from monitor.metrics.intervals import Performance, evaluate_with_intervals, metrics_by_slice

MAX_TEST_ROWS = 100_000
"""Largest test set that is evaluated whole; a larger one is sampled."""

_USUAL_QUANTILE = 0.99


@dataclass(frozen=True)
class TestEvaluation:
    """Summary of the training rows, and metrics of a model and of the base-rate baseline on the test rows.

    Attributes
    ----------
    train_rows, test_rows : int
        Row counts.
    train_rate, test_rate : float
        Positive rates.
    feature_ranges : dict of str to tuple of float
        Minimum and maximum of each numeric feature in the training rows.
    usual_distance : float
        The 99th percentile of the distance of the training shots, feet; NaN without a court.
    threes : int
        Training shots from outside the three-point arc; 0 without a court.
    out_of_support_rate : float
        Share of the test rows that are out of support; NaN where it is not defined.
    model, prior : Performance
        Metrics on the evaluated test rows.
    prior_probability : float
        P(made) that the base-rate baseline predicts for every shot.
    predicted_made : int
        Evaluated test rows whose P(made) reaches the threshold.
    slices, prior_slices : pandas.DataFrame
        See `monitor.metrics.intervals.metrics_by_slice`.
    calibration : pandas.DataFrame
        See `monitor.metrics.calibration.calibration_curve`.
    """

    train_rows: int
    test_rows: int
    train_rate: float
    test_rate: float
    feature_ranges: dict[str, tuple[float, float]]
    usual_distance: float
    threes: int
    out_of_support_rate: float
    model: Performance
    prior: Performance
    prior_probability: float
    predicted_made: int
    slices: pd.DataFrame
    prior_slices: pd.DataFrame
    calibration: pd.DataFrame

    @property
    def compared(self) -> base_rate.Comparison | None:
        """Comparison of the model with the base-rate baseline of the test rows."""
        return base_rate.compare(self.model)


def evaluate_on_test(
    train: pd.DataFrame, test: pd.DataFrame, predicted: Floats, prior: Floats, dataset: Dataset
) -> TestEvaluation:
    """Evaluate a model on its test rows, and summarize its training rows.

    Parameters
    ----------
    train, test : pandas.DataFrame
        The features and ``shot_made_flag``, all labeled.
    predicted, prior : ndarray of float64, shape (n,)
        P(made) of the test rows, predicted by the model and by the base-rate baseline.
    dataset : Dataset
    """
    group = [dataset.group.name] if dataset.group and dataset.group.name in test else []
    kept = test[[*dataset.feature_names, dataset.target.name, *group]]
    rows = pd.DataFrame(kept).assign(**{PROBABILITY: predicted, "prior": prior})
    if len(rows) > MAX_TEST_ROWS:
        rows = rows.sample(MAX_TEST_ROWS, random_state=0)
    target, groups = dataset.target.name, groups_of(rows, dataset)
    labels, predictions = rows[target].to_numpy(dtype=float), rows[PROBABILITY].to_numpy()
    support = Support.of(train, dataset) if len(train) > 1 else None
    place = dataset.court
    return TestEvaluation(
        train_rows=len(train),
        test_rows=len(test),
        train_rate=float(train[target].mean()),
        test_rate=float(test[target].mean()),
        feature_ranges={
            column.name: (float(train[column.name].min()), float(train[column.name].max()))
            for column in dataset.numeric
        },
        usual_distance=float(train[place.distance].quantile(_USUAL_QUANTILE)) if place and place.distance else math.nan,
        threes=int(court.is_three_pointer(*court.positions(train, place)).sum()) if place else 0,
        out_of_support_rate=float(support.out_of_support(rows).mean()) if support else math.nan,
        model=evaluate_with_intervals(labels, predictions, groups=groups),
        prior=evaluate_with_intervals(labels, rows["prior"], groups=groups),
        prior_probability=float(prior.mean()),
        predicted_made=int((predictions >= THRESHOLD).sum()),
        slices=metrics_by_slice(rows, dataset),
        prior_slices=metrics_by_slice(rows.assign(**{PROBABILITY: rows["prior"]}), dataset),
        calibration=calibration_curve(labels, predictions),
    )
