"""What the training rows of a model are like, and what its test rows say of it."""

from dataclasses import dataclass

import pandas as pd

from data import court
from data.schema import FEATURES, PROBABILITY, TARGET
from monitor.drift.training_support import Support
from monitor.metrics import base_rate
from monitor.metrics.binary import THRESHOLD, Floats
from monitor.metrics.calibration import calibration_curve
from monitor.metrics.intervals import Performance, evaluate_with_intervals, metrics_by_slice

MOST_MEASURED = 100_000
"""Test rows up to which each is measured; of more, a sample."""

_USUAL = 0.99


@dataclass(frozen=True)
class TestEvaluation:
    """What the training rows are like, and what the test rows say of a model beside the class prior.

    Attributes
    ----------
    train_rows, test_rows : int
    train_rate, test_rate : float
        Share made.
    seen : dict of str to tuple of float
        Least and greatest value of each feature in the training rows.
    usual_distance : float
        Distance within which 99 % of the training shots were taken, feet.
    threes : int
        Training rows that were taken from beyond the three-point arc.
    outside : float
        Share of the test rows that lie outside the training support; NaN where that is not defined.
    model, prior : Performance
        On the test rows that were measured.
    prior_probability : float
        P(made) that the class prior gives to every shot.
    predicted_made : int
        Test rows whose P(made) reaches the threshold.
    slices, prior_slices : pandas.DataFrame
        See `monitor.metrics.intervals.metrics_by_slice`.
    calibration : pandas.DataFrame
        See `monitor.metrics.calibration.calibration_curve`.
    """

    train_rows: int
    test_rows: int
    train_rate: float
    test_rate: float
    seen: dict[str, tuple[float, float]]
    usual_distance: float
    threes: int
    outside: float
    model: Performance
    prior: Performance
    prior_probability: float
    predicted_made: int
    slices: pd.DataFrame
    prior_slices: pd.DataFrame
    calibration: pd.DataFrame

    @property
    def compared(self) -> base_rate.Comparison | None:
        """How the model compares with the base rate of the test rows."""
        return base_rate.compare(self.model)


def evaluate_on_test(train: pd.DataFrame, test: pd.DataFrame, made: Floats, prior: Floats) -> TestEvaluation:
    """Measure a model on its test rows, and look where its training rows are.

    Parameters
    ----------
    train, test : pandas.DataFrame
        The features and ``shot_made_flag``, all labelled.
    made, prior : ndarray of float64, shape (n,)
        P(made) of the test rows by the model and by the class prior.
    """
    rows = pd.DataFrame(test[[*FEATURES, TARGET]]).assign(**{PROBABILITY: made, "prior": prior})
    if len(rows) > MOST_MEASURED:
        rows = rows.sample(MOST_MEASURED, random_state=0)
    labels, answers = rows[TARGET].to_numpy(dtype=float), rows[PROBABILITY].to_numpy()
    outside = float(Support.of(train).out_of_support(rows).mean()) if len(train) > 1 else float("nan")
    return TestEvaluation(
        train_rows=len(train),
        test_rows=len(test),
        train_rate=float(train[TARGET].mean()),
        test_rate=float(test[TARGET].mean()),
        seen={name: (float(train[name].min()), float(train[name].max())) for name in FEATURES},
        usual_distance=float(train["shot_distance"].quantile(_USUAL)),
        threes=int(court.is_three_pointer(*court.to_feet(train["lat"], train["lng"])).sum()),
        outside=outside,
        model=evaluate_with_intervals(labels, answers),
        prior=evaluate_with_intervals(labels, rows["prior"]),
        prior_probability=float(prior.mean()),
        predicted_made=int((answers >= THRESHOLD).sum()),
        slices=metrics_by_slice(rows),
        prior_slices=metrics_by_slice(rows.assign(**{PROBABILITY: rows["prior"]})),
        calibration=calibration_curve(labels, answers),
    )
