"""Error rates of what the monitor and the gate state: false alarms, and intervals that miss the true value.

References and batches are disjoint samples of the same labeled shots: rows, or whole groups where the description names
a group. Nothing differs between them, so every alarm is a false one. Samples for the coverage of intervals are drawn
with replacement, so that the true value is that of all shots. P(made) is cross-validated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import optimize
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import GroupKFold, KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from data.datasets import Dataset
from data.groups import Groups, groups_of, percentile_confidence
from data.schema import PREDICTION, PROBABILITY
from data.storage.dataset_reader import DatasetReader
from monitor.drift.detector import ALPHA
from monitor.drift.training_support import Support
from monitor.estimation.cbpe import ESTIMATED
from monitor.health import checks
from monitor.health.baseline import ReferenceData
from monitor.health.evaluation import Evaluation, ServingState
from monitor.health.status import CheckStatus, run_checks
from monitor.metrics.binary import THRESHOLD, evaluate, log_loss_by_row
from monitor.metrics.calibration import calibration_curve
from monitor.metrics.intervals import (
    CONFIDENCE,
    evaluate_with_intervals,
    metrics_by_slice,
    percentile_interval,
    relative_degradation,
)
from monitor.metrics.rates import exceeds, wilson
from monitor.metrics.rolling import rolling_loss
from monitor.scored_tables import validate_scored_table
from serving.registry.gate import PairedComparison, paired_bootstrap

Floats = npt.NDArray[np.float64]
Outcome = Mapping[str, float]
"""Share of the alarms that were raised, or of the intervals that hold the true value, by what was measured."""

_FOLDS = 5
TRAINING_SHARE = 0.4
_DECIMALS = 3


class Goal(NamedTuple):
    """A nominal rate or coverage, and the limits of what may be measured."""

    nominal: float
    low: float
    high: float


def rate(nominal: float) -> Goal:
    """Goal of a test of this level."""
    return Goal(nominal, 0.7 * nominal, 1.3 * nominal)


def at_most(nominal: float) -> Goal:
    """Goal of an alarm that also requires a minimum effect, or whose level is an upper bound."""
    return Goal(nominal, 0, 1.3 * nominal)


COVERAGE = Goal(CONFIDENCE, 0.93, 0.97)
CALIBRATION_ERROR = "calibration_error"
COVERAGE_OF = {CALIBRATION_ERROR: Goal(CONFIDENCE, 0.93, 1)}
"""Goals of intervals that differ: that of the calibration error is extended to its value, which noise raises."""

DRIFT, CLASSIFIER, CALIBRATION = (
    "drift: any alarm of K201 to K206",
    "domain classifier (K203): p-value below 5%",
    "calibration (K105): error above that of 95% of the batches",
)
DEGRADED, ESTIMATE, RETRAIN = (
    "degradation (K101, K102, K104): any is significant",
    "estimated performance (K301): any alarm",
    "retraining recommended: any check failed",
)
EQUAL, WORSE = "gate: two models of equal loss differ", "base rate (K103): significantly below the true skill score"
UNSUPPORTED = "out of support (K204): significantly more than the limit, which is the true share"
ALARMS = {
    DRIFT: rate(ALPHA),
    CLASSIFIER: rate(0.05),
    CALIBRATION: rate(0.05),
    EQUAL: rate(1 - CONFIDENCE),
    WORSE: rate((1 - CONFIDENCE) / 2),
    UNSUPPORTED: at_most(1 - CONFIDENCE),
    DEGRADED: at_most(1 - CONFIDENCE),
    ESTIMATE: at_most(1 - CONFIDENCE),
    RETRAIN: at_most(1 - CONFIDENCE),
}
"""What may raise an alarm, with its goal."""


@dataclass(frozen=True)
class Population:
    """Labeled rows that references and batches are drawn from.

    Attributes
    ----------
    dataset : Dataset
    training, table : pandas.DataFrame
        Rows that give the training support, and the other ones, of other groups.
    units : tuple of ndarray of int64
        Rows of each group of `table`; a row each where the dataset has no groups.
    """

    dataset: Dataset
    training: pd.DataFrame
    table: pd.DataFrame
    units: tuple[npt.NDArray[np.int64], ...]

    @cached_property
    def out_of_support(self) -> npt.NDArray[np.bool_]:
        """Which rows of `table` are out of support."""
        return Support.of(self.training, self.dataset).out_of_support(self.table)

    @cached_property
    def at_the_limit(self) -> Floats:
        """Probability to draw each group, so that the expected share out of support is the limit of K204.

        The probabilities are tilted exponentially.
        """
        rows = np.array(list(map(len, self.units)))
        marked = np.array([self.out_of_support[unit].sum() for unit in self.units])
        limit, shares = self.dataset.monitoring.max_out_of_support, marked / rows

        def tilted(tilt: float) -> Floats:
            weights = np.exp(tilt * (shares - shares.max()))
            return np.asarray(weights / weights.sum())

        return tilted(optimize.brentq(lambda tilt: tilted(tilt) @ (marked - limit * rows), -100, 100))

    @classmethod
    def of(
        cls, table: pd.DataFrame, dataset: Dataset, seed: int, training_share: float = TRAINING_SHARE
    ) -> "Population":
        """Divide scored shots into those of the training support, a share of the groups, and those drawn from."""
        groups = groups_of(table, dataset)
        code = np.arange(len(table)) if groups is None else Groups.of(groups).code
        names = np.random.default_rng(seed).permutation(code.max() + 1)
        is_training = np.isin(code, names[: int(training_share * len(names))])
        code, rest = code[~is_training], table[~is_training].reset_index(drop=True)
        order = np.argsort(code, kind="stable")
        units = np.split(order, np.flatnonzero(np.diff(code[order])) + 1)
        return cls(dataset, table[is_training].reset_index(drop=True), rest, tuple(units))

    def take(self, units: npt.NDArray[np.int64]) -> pd.DataFrame:
        """Return the rows of groups; a group that is drawn twice is two groups."""
        rows = [self.units[unit] for unit in units]
        found: pd.DataFrame = self.table.iloc[np.concatenate(rows)].reset_index(drop=True)
        if self.dataset.group is not None:
            found[self.dataset.group.name] = np.repeat(np.arange(len(rows)), list(map(len, rows)))
        return found


def labeled_shots(source: str, dataset: Dataset) -> pd.DataFrame:
    """Labeled rows of all Parquet files of a folder, with P(made) by models that were trained on other rows or groups.

    Of a dataset that selects development rows by a value, such as two-point shots, only those.
    """
    path = Path(source)
    raw = DatasetReader(path, dataset=dataset).whole()
    raw = raw.rename(columns={column.raw_name: column.name for column in dataset.features})
    table = validate_scored_table(raw, path, dataset)
    if dataset.development.values:  # noqa: PD011 of the description
        table = table[table[dataset.development.column].isin(dataset.development.values)]
    table = table[table[dataset.target.name].notna()].reset_index(drop=True)
    categories, numbers = [[column.name for column in kind] for kind in (dataset.categorical, dataset.numeric)]
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    model = make_pipeline(
        make_column_transformer((encoder, categories), remainder="passthrough"),
        HistGradientBoostingClassifier(
            max_iter=60, max_leaf_nodes=15, learning_rate=0.08, min_samples_leaf=40,
            categorical_features=list(range(len(categories))), random_state=0,
        ),
    )  # fmt: skip
    groups = groups_of(table, dataset)
    predicted = cross_val_predict(
        model,
        table[[*categories, *numbers]],
        table[dataset.target.name],
        groups=groups,
        cv=KFold(_FOLDS, shuffle=True, random_state=0) if groups is None else GroupKFold(_FOLDS),
        method="predict_proba",
    )[:, 1]
    # Rounding leaves fewer distinct values, which makes the bootstrap faster.
    probability = predicted.round(_DECIMALS)
    return table.assign(**{PROBABILITY: probability, PREDICTION: (probability >= THRESHOLD).astype(np.int64)})


def alarms(seed: Sequence[int], population: Population, reference_units: int, units: int) -> Outcome:
    """Alarms of a batch against a reference, and whether estimates and degradations hold their true values."""
    drawn = np.random.default_rng(seed).permutation(len(population.units))
    reference, batch = (
        population.take(part) for part in (drawn[:reference_units], drawn[reference_units : reference_units + units])
    )
    baseline = ReferenceData(population.training, reference, population.dataset)
    evaluation = Evaluation(baseline, batch, ServingState(datetime.now(UTC), None))
    results = run_checks(evaluation, checks.checks_of(population.dataset)).results
    classifier, current = evaluation.drift.classifier, evaluation.performance
    degradations = {
        name: relative_degradation(current, baseline.performance, name)
        for name in checks.COMPARED
        if name in current.metrics and baseline.performance.metrics.get(name)
    }
    joint = (
        relative_degradation(current, baseline.performance, name, checks.COMPARISON_CONFIDENCE) for name in degradations
    )
    error, actual = current.metrics["calibration_error"], evaluation.actual_performance
    estimated = evaluation.estimate.intervals if actual else {}
    return {
        DRIFT: evaluation.drift.alarm,
        **({} if classifier is None else {CLASSIFIER: classifier.p_value < ALARMS[CLASSIFIER].nominal}),
        CALIBRATION: bool(np.mean(checks.null_calibration_errors(evaluation) >= error) < ALARMS[CALIBRATION].nominal),
        DEGRADED: any(found.low > 0 for found in joint),
        ESTIMATE: any(found.code == "K301" and found.is_alarm for found in results),
        RETRAIN: any(found.status == CheckStatus.FAILED for found in results),
        **{f"degradation of {name}": found.low <= 0 <= found.high for name, found in degradations.items()},
        **{
            f"estimated {name}": estimated[name].low <= actual.metrics[name] <= estimated[name].high
            for name in ESTIMATED
            if actual and name in estimated
        },
    }


def coverage(seed: Sequence[int], population: Population, units: int) -> Outcome:
    """Whether the intervals of a sample hold the values of all shots."""
    dataset, every = population.dataset, population.table
    sample = population.take(np.random.default_rng(seed).integers(len(population.units), size=units))
    target, groups = dataset.target.name, groups_of(sample, dataset)
    true = evaluate(every[target], every[PROBABILITY])
    performance = evaluate_with_intervals(sample[target], sample[PROBABILITY], groups=groups, seed=seed[-1])
    found = performance.intervals()
    plausible = percentile_interval(
        performance.samples[CALIBRATION_ERROR], percentile_confidence(CONFIDENCE, performance.groups)
    )
    time = pd.Series(pd.date_range("2000-01-01", periods=len(sample)))
    rolling = rolling_loss(sample[target], sample[PROBABILITY], time, groups)
    sliced = metrics_by_slice(sample, dataset).merge(
        metrics_by_slice(every, dataset, samples=2), on=["slice", "value"], suffixes=("", "_true")
    )
    low, high = wilson(sliced["rows"] * sliced["rate"], sliced["rows"])
    curve = calibration_curve(sample[target].to_numpy(dtype=float), sample[PROBABILITY].to_numpy())
    ends = np.sort(sample[PROBABILITY])[curve["rows"].cumsum().astype(int) - 1]
    bins = np.searchsorted(ends[:-1], every[PROBABILITY])
    compared = equal_models(every, sample, target, groups, seed[-1])
    return {
        EQUAL: compared.better or compared.worse,
        UNSUPPORTED: _exceeds_the_limit(seed, population, units),
        WORSE: found["log_loss_skill"].high < true["log_loss_skill"],
        **{name: each.low <= true[name] <= each.high for name, each in found.items()},
        "calibration_error, not extended": plausible[0] <= true[CALIBRATION_ERROR] <= plausible[1],
        **({} if rolling is None else {"log loss over time": _held(rolling, true["log_loss"])}),
        "log loss by slice": _held(
            sliced[["log_loss_low", "log_loss_high"]].set_axis(["low", "high"], axis=1), sliced["log_loss_true"]
        ),
        "FG% by slice": _held(pd.DataFrame({"low": low, "high": high}), sliced["rate_true"]),
        "FG% of the calibration curve": _held(curve, every.groupby(bins)[target].mean().reindex(curve.index)),
    }


def _exceeds_the_limit(seed: Sequence[int], population: Population, units: int) -> bool:
    """Whether K204 finds that a batch whose expected share out of support is the limit exceeds it."""
    drawn = np.random.default_rng(seed).choice(len(population.units), units, p=population.at_the_limit)
    rows = [population.units[unit] for unit in drawn]
    marked = population.out_of_support[np.concatenate(rows)].astype(float)
    effect = Groups.of(np.repeat(np.arange(units), list(map(len, rows)))).design_effect(marked)
    return exceeds(float(marked.mean()), population.dataset.monitoring.max_out_of_support, len(marked) / effect)


def equal_models(
    every: pd.DataFrame, sample: pd.DataFrame, target: str, groups: "pd.Series[int] | None", seed: int
) -> PairedComparison:
    """Compare the model with the base rate, whose losses are raised or lowered so that both are equal on all shots."""
    rate_of_all = float(every[target].mean())
    model, constant = (
        [log_loss_by_row(table[target], made) for table, made in ((every, of_every), (sample, of_sample))]
        for of_every, of_sample in (
            (every[PROBABILITY], sample[PROBABILITY]),
            (np.full(len(every), rate_of_all), np.full(len(sample), rate_of_all)),
        )
    )
    return paired_bootstrap(model[1], constant[1] + model[0].mean() - constant[0].mean(), seed=seed, groups=groups)


def _held(intervals: pd.DataFrame, true: "pd.Series[float] | float") -> float:
    """Share of the intervals that hold their true values; those without ends are excluded."""
    held = (intervals["low"] <= true) & (true <= intervals["high"])
    return float(held[intervals["low"].notna()].mean())


def estimated_share(outcomes: Sequence[Outcome], name: str) -> tuple[float, float]:
    """Mean of an outcome over the trials that have it, and its standard error."""
    values = np.array([each[name] for each in outcomes if name in each], dtype=float)
    values = values[~np.isnan(values)]
    return float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)
