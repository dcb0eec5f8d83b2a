"""False-positive rates of the alarms, coverage of the intervals, and power of drift detection: ``make bench-monitor``.

The part ``rates`` uses the raw files of each dataset. The others use the shots and the champion of this folder (run
``make main`` first), and synthetic shots with a known P(made). Drift and concept drift are known by construction, so
every result has a goal.
"""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field
from rich.table import Table

from bench import error_rates
from bench.trials import met, processes, run_trials, seeds, share
from data import court
from data.cli.config import CommandConfig, run_command
from data.cli.console import console, info
from data.datasets import default, load
from data.preparation.manifest import TEST, TRAIN, read_manifest, read_prepared
from data.simulation import synthetic
from monitor.drift.detector import DriftDetector
from monitor.drift.training_support import Support
from monitor.estimation.cbpe import ESTIMATED, Calibration, estimate_performance
from monitor.metrics.binary import evaluate
from monitor.metrics.intervals import CONFIDENCE
from serving import registry
from serving.batch.in_process import predict

Floats = npt.NDArray[np.float64]
Part = Literal["rates", "power", "estimate"]

OUT_OF_SUPPORT = "out_of_support"
"""Name of the column that marks out-of-support rows."""

_BATCHES = {False: (4_057, (100, 2_000)), True: (300, (25, 100))}
"""Rows of a reference and of batches, or groups where the dataset has them."""
_FEET = (0.5, 1.0, 2.0)
_GOAL_FEET = 2.0
_BATCH_ROWS = 500
_REFERENCE_ROWS = 4_057
_CONCEPT_SHIFT = -0.5
_MIN_POWER = 0.95
_MIN_COVERAGE, _MAX_COVERAGE = 0.93, 0.97


class MonitorBenchConfig(CommandConfig):
    """Measure false-positive rates and power of the alarms, and the coverage of the intervals."""

    source: str = Field(default="data/raw", description="folder of the raw files")
    datasets: tuple[str, ...] = Field(default=("kobe", "kobe_full"), description="datasets whose rates are measured")
    alarm_trials: int = Field(default=600, ge=2, description="references and batches of each size")
    coverage_trials: int = Field(default=1_000, ge=2, description="samples of each size")
    power_batches: int = Field(default=200, ge=1, description="batches of shots shifted away from the hoop")
    estimate_batches: int = Field(default=500, ge=1, description="batches whose metrics are estimated")
    seed: int = Field(default=0, ge=0, description="seed of every sample")
    parts: tuple[Part, ...] = Field(default=("rates", "power", "estimate"), description="what to measure")


@dataclass(frozen=True)
class Covered:
    """Whether the metrics of a batch lie in their estimated intervals, by metric.

    Attributes
    ----------
    true, shifted : dict of str to bool
        For labels that follow P(made), and after concept drift.
    """

    true: dict[str, bool]
    shifted: dict[str, bool]


def farther(table: pd.DataFrame, feet: float, *, keep_hoop: bool = False) -> pd.DataFrame:
    """Shift shots away from the hoop, in the direction of their position.

    Parameters
    ----------
    table : pandas.DataFrame
        ``lat``, ``lng`` and ``shot_distance`` among its columns.
    feet : float
        Distance of the shift.
    keep_hoop : bool
        Keep shots at the hoop at their position; otherwise they are shifted along the court.

    Returns
    -------
    pandas.DataFrame
        Positions in tenths of a foot and distances in whole feet, as in the public files.

    Examples
    --------
    >>> shifted_ = farther(pd.DataFrame({"lat": [34.0443, 34.0143], "lng": -118.2698, "shot_distance": [0.0, 3.0]}), 2)
    >>> shifted_["lat"].tolist(), shifted_["shot_distance"].tolist()
    ([34.0243, 33.9943], [2.0, 5.0])
    """
    # Degrees are decimal fractions: without rounding, 19 feet become 18.99999999 and lose a foot.
    x, y = (values.round(6) for values in court.to_feet(table["lat"], table["lng"]))
    distance = np.hypot(x, y)
    away = distance > 0
    across = np.divide(x, distance, out=np.zeros(len(table)), where=away)
    along = np.divide(y, distance, out=np.ones(len(table)), where=away)
    step = np.where(away, feet, 0) if keep_hoop else np.full(len(table), feet)
    latitude, longitude = court.to_degrees((x + step * across).round(1), (y + step * along).round(1))
    return table.assign(
        lat=latitude.round(4), lng=longitude.round(4), shot_distance=np.floor((distance + step).round(6))
    )


def with_replacement(table: pd.DataFrame, rows: int, stream: np.random.Generator) -> pd.DataFrame:
    """Sample rows of a table with replacement."""
    return table.iloc[stream.integers(len(table), size=rows)]


def shifted(probability: Floats, log_odds: float) -> Floats:
    """Add a constant to the log-odds of P(made).

    Examples
    --------
    >>> shifted(np.array([0.5]), -0.5).round(3).tolist()
    [0.378]
    """
    odds = probability / (1 - probability) * np.exp(log_odds)
    shifted_: Floats = odds / (1 + odds)
    return shifted_


def alerts(seed: Sequence[int], reference: DriftDetector, rows: int, table: pd.DataFrame) -> tuple[str, ...]:
    """Every statistic above its threshold, of a batch that is sampled with replacement from a table."""
    batch = with_replacement(table, rows, np.random.default_rng(seed))
    drift = reference.compare(batch, batch[OUT_OF_SUPPORT].to_numpy())
    found = [f"{statistic.feature} {statistic.name}" for statistic in drift.statistics if statistic.drifted]
    if drift.is_out_of_support:
        found.append("out of support")
    if drift.classifier is not None and drift.classifier.drifted:
        found.append("classifier")
    return tuple(found)


def covered(seed: Sequence[int], true_p: Floats) -> Covered:
    """Whether the metrics of a synthetic batch lie in the intervals that are estimated from its P(made).

    Parameters
    ----------
    seed : sequence of int
    true_p : ndarray of float64, shape (n,)
        True P(made) of the shots that batch and reference are sampled from.
    """
    stream = np.random.default_rng(seed)
    known, unknown = np.split(stream.choice(true_p, _REFERENCE_ROWS + _BATCH_ROWS, replace=False), [_REFERENCE_ROWS])
    calibration = Calibration.of(stream.random(len(known)) < known, known)
    found = estimate_performance(calibration, unknown, np.zeros(len(unknown), dtype=bool), seed=seed[-1]).intervals

    def coverage(is_made: Floats) -> dict[str, bool]:
        actual = evaluate(stream.random(len(is_made)) < is_made, unknown)
        return {name: found[name].low <= actual[name] <= found[name].high for name in ESTIMATED}

    return Covered(coverage(unknown), coverage(shifted(unknown, _CONCEPT_SHIFT)))


def run(config: MonitorBenchConfig) -> None:
    """Measure and print."""
    with processes() as pool:
        if "rates" in config.parts:
            for name in config.datasets:
                _measure_rates(config, pool, name)
        if "power" in config.parts:
            _measure_shifts(config, pool)
        if "estimate" in config.parts:
            _measure_estimates(config, pool)


def _measure_shifts(config: MonitorBenchConfig, pool: ProcessPoolExecutor) -> None:
    version = registry.number(registry.require_champion())
    manifest = read_manifest()
    train, test = (read_prepared(manifest, name) for name in (TRAIN, TEST))
    support = Support.of(train, default())
    info("Scoring", f"{len(test):,} test shots with version {version}")
    test = _with_model(test, support, version)
    reference = DriftDetector(test, test[OUT_OF_SUPPORT].to_numpy(), default(), seed=config.seed)
    for which, keep_hoop in (("all of them", False), ("except those at the hoop", True)):
        tables = {feet: farther(test, feet, keep_hoop=keep_hoop) for feet in _FEET}
        shifted_ = {feet: _with_model(table, support, version) for feet, table in tables.items()}
        _measure_power(config, pool, reference, shifted_, which)
    at_the_hoop = np.hypot(*court.to_feet(test["lat"], test["lng"])) == 0
    console.print(
        f"{at_the_hoop.mean():.0%} of the test shots are exactly at the hoop. Any shift removes this point mass of the "
        "reference, so only the second table measures small shifts."
    )


def _with_model(table: pd.DataFrame, support: Support, version: str) -> pd.DataFrame:
    return predict(table, version).assign(**{OUT_OF_SUPPORT: support.out_of_support(table)})


def _measure_rates(config: MonitorBenchConfig, pool: ProcessPoolExecutor, name: str) -> None:
    dataset = load(name)
    population = error_rates.Population.of(error_rates.labeled_shots(config.source, dataset), dataset, config.seed)
    grouped = dataset.group is not None
    reference, sizes = _BATCHES[grouped]
    units = "groups" if grouped else dataset.rows
    found: dict[int, list[error_rates.Outcome]] = {}
    for size in sizes:
        trial = partial(error_rates.alarms, population=population, reference_units=reference, units=size)
        sample = partial(error_rates.coverage, population=population, units=size)
        what = f"{name}, {size:,} {units}"
        found[size] = [
            *run_trials(
                pool,
                trial,
                seeds(config.seed, 1, size, trials=config.alarm_trials),
                f"alarms: {what}",
            ),
            *run_trials(
                pool,
                sample,
                seeds(config.seed, 2, size, trials=config.coverage_trials),
                f"coverage: {what}",
            ),
        ]
    _head(f"{name}: references of {reference:,} {units}; measured ± standard error")
    table = Table("", "nominal", "goal", *(column for size in sizes for column in (f"{size:,} {units}", "goal")))
    goals = error_rates.ALARMS | error_rates.COVERAGE_OF
    names = [*error_rates.ALARMS, *dict.fromkeys(name for each in found[sizes[0]] for name in each)]
    for measured in dict.fromkeys(names):
        goal = goals.get(measured, error_rates.COVERAGE)
        shares = [error_rates.estimated_share(found[size], measured) for size in sizes]
        table.add_row(
            measured,
            f"{goal.nominal:.1%}",
            f"{goal.low:.1%} to {goal.high:.1%}",
            *(text for share in shares for text in (f"{share[0]:.1%} ± {share[1]:.1%}", _judged(*share, goal))),
        )
    console.print(table)


def _measure_power(
    config: MonitorBenchConfig,
    pool: ProcessPoolExecutor,
    reference: DriftDetector,
    shifted_: dict[float, pd.DataFrame],
    which: str,
) -> None:
    found = {}
    for feet, table in shifted_.items():
        alerts([config.seed], reference, _BATCH_ROWS, table)
        trial = partial(alerts, reference=reference, rows=_BATCH_ROWS, table=table)
        what = f"batches shifted {feet:g} ft, {which}"
        found[feet] = run_trials(
            pool,
            trial,
            seeds(config.seed, 3, int(10 * feet), trials=config.power_batches),
            what,
        )
    counts = {feet: Counter(alert for raised in outcomes for alert in raised) for feet, outcomes in found.items()}
    alert_counts = {feet: len(list(filter(None, outcomes))) for feet, outcomes in found.items()}
    shown = Table("alert", *(f"{feet:g} ft" for feet in found))
    shown.add_row("any", *(share(count, config.power_batches) for count in alert_counts.values()), style="bold")
    for name, _ in sum(counts.values(), Counter()).most_common():
        shown.add_row(name, *(f"{count[name] / config.power_batches:.1%}" for count in counts.values()))
    _head(f"Power: batches of {_BATCH_ROWS:,} test shots shifted away from the hoop, {which}")
    console.print(shown)
    power = alert_counts[_GOAL_FEET] / config.power_batches
    console.print(
        f"alert rate at {_GOAL_FEET:g} feet: {power:.1%}, goal at least {_MIN_POWER:.0%}: {met(power, _MIN_POWER, 1)}"
    )


def _measure_estimates(config: MonitorBenchConfig, pool: ProcessPoolExecutor) -> None:
    true_p = synthetic.true_probability(synthetic.shots(synthetic.BLOCK_ROWS, config.seed))
    trial = partial(covered, true_p=true_p)
    found = run_trials(pool, trial, seeds(config.seed, 4, trials=config.estimate_batches), "estimates")
    table = Table("metric", "interval coverage", "goal", "after concept drift")
    for name in ESTIMATED:
        true, wrong = (sum(getattr(each, labels)[name] for each in found) for labels in ("true", "shifted"))
        table.add_row(
            name,
            share(true, len(found)),
            met(true / len(found), _MIN_COVERAGE, _MAX_COVERAGE),
            share(wrong, len(found)),
        )
    _head(
        f"Estimates: {len(found):,} batches of {_BATCH_ROWS:,} synthetic shots, each with a reference of "
        f"{_REFERENCE_ROWS:,}; nominal {CONFIDENCE:.0%}, goal {_MIN_COVERAGE:.0%} to {_MAX_COVERAGE:.0%}"
    )
    console.print(table)
    console.print(
        f"Concept drift: labels drawn with {-_CONCEPT_SHIFT:g} lower log-odds than P(made). The features do not "
        "change, so the estimate does not change and is wrong; only ground truth detects concept drift."
    )


def _head(text: str) -> None:
    console.print()
    info(text)


def _judged(share: float, error: float, goal: error_rates.Goal) -> str:
    """Whether a goal is met; one that is nearer than two standard errors is possibly met."""
    if goal.low <= share <= goal.high:
        return "met"
    return "possibly" if goal.low - 2 * error <= share <= goal.high + 2 * error else "NOT met"


if __name__ == "__main__":
    run_command(MonitorBenchConfig, run)
