"""False-positive rate and power of drift detection, and coverage of performance estimation: ``make bench-monitor``.

Uses the shots and the champion of this folder (run ``make main`` first), and synthetic shots with a known P(made) for
the estimates. Drift and concept drift are known by construction, so every result has a goal.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field
from rich.progress import track
from rich.table import Table

from data import court
from data.cli.config import CommandConfig, run_command
from data.cli.console import console, info
from data.datasets import default
from data.preparation.manifest import TEST, TRAIN, read_manifest, read_prepared
from data.schema import PROBABILITY
from data.simulation import synthetic
from monitor.drift.detector import ALPHA, DriftDetector, DriftResult
from monitor.drift.training_support import Support
from monitor.estimation.cbpe import ESTIMATED, Calibration, estimate_performance
from monitor.metrics.binary import evaluate
from monitor.metrics.intervals import CONFIDENCE
from monitor.metrics.rates import wilson
from serving import registry
from serving.batch.in_process import predict

Floats = npt.NDArray[np.float64]
Part = Literal["alarms", "power", "estimate"]
Result = TypeVar("Result")

OUT_OF_SUPPORT = "out_of_support"
"""Name of the column that marks out-of-support rows."""
KINDS = ("features", "out of support", "P(made)", "classifier")
"""Sources of an alert."""

_RESAMPLED_ROWS = (100, 250, 500)
_FRESH_ROWS = (100, 500, 2_000, 6_000)
_FEET = (0.5, 1.0, 2.0)
_GOAL_FEET = 2.0
_BATCH_ROWS = 500
_REFERENCE_ROWS = 4_057
_CONCEPT_SHIFT = -0.5
_MIN_POWER = 0.95
_MIN_COVERAGE, _MAX_COVERAGE = 0.93, 0.97
_PROCESSES = 2
_CHUNK_TRIALS = 10


class MonitorBenchConfig(CommandConfig):
    """Measure false-positive rate and power of drift detection, and the coverage of the estimates."""

    batches: int = Field(default=1_000, ge=1, description="batches of each size sampled from the reference itself")
    fresh_trials: int = Field(default=300, ge=1, description="trials of each size, each with its own reference")
    power_batches: int = Field(default=200, ge=1, description="batches of shots shifted away from the hoop")
    estimate_batches: int = Field(default=500, ge=1, description="batches whose metrics are estimated")
    seed: int = Field(default=0, ge=0, description="seed of every sample")
    parts: tuple[Part, ...] = Field(default=("alarms", "power", "estimate"), description="what to measure")


class Alert(NamedTuple):
    """Source of an alert.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    statistic : str
        The column and its statistic, or the kind if it has only one.
    """

    kind: str
    statistic: str


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


def without_overlap(table: pd.DataFrame, sizes: Sequence[int], stream: np.random.Generator) -> tuple[pd.DataFrame, ...]:
    """Sample disjoint tables of the given sizes."""
    drawn = stream.choice(len(table), sum(sizes), replace=False)
    return tuple(table.take(rows) for rows in np.split(drawn, np.cumsum(sizes)[:-1]))


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


def alerts(drift: DriftResult) -> tuple[Alert, ...]:
    """List every statistic above its threshold."""
    found = [
        Alert("P(made)" if statistic.feature == PROBABILITY else "features", f"{statistic.feature} {statistic.name}")
        for statistic in drift.statistics
        if statistic.drifted
    ]
    if drift.is_out_of_support:
        found.append(Alert("out of support", "out of support"))
    if drift.classifier is not None and drift.classifier.drifted:
        found.append(Alert("classifier", "classifier"))
    return tuple(found)


def resampled_alerts(
    seed: Sequence[int], reference: DriftDetector, rows: int, table: pd.DataFrame
) -> tuple[Alert, ...]:
    """Alerts of a batch that is sampled with replacement from a table."""
    batch = with_replacement(table, rows, np.random.default_rng(seed))
    return alerts(reference.compare(batch, batch[OUT_OF_SUPPORT].to_numpy()))


def fresh_alerts(seed: Sequence[int], rows: int, reference_rows: int, table: pd.DataFrame) -> tuple[Alert, ...]:
    """Alerts of a batch against a reference, two disjoint samples of the same table."""
    first, batch = without_overlap(table, (reference_rows, rows), np.random.default_rng(seed))
    reference = DriftDetector(first, first[OUT_OF_SUPPORT].to_numpy(), default(), seed=seed[-1])
    return alerts(reference.compare(batch, batch[OUT_OF_SUPPORT].to_numpy()))


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
    # Two processes with one thread each are faster than two with shared threads.
    os.environ["OMP_NUM_THREADS"] = "1"
    # A fork after the use of OpenMP deadlocks.
    with ProcessPoolExecutor(_PROCESSES, mp_context=get_context("spawn")) as pool:
        if {"alarms", "power"} & set(config.parts):
            _measure_drift(config, pool)
        if "estimate" in config.parts:
            _measure_estimates(config, pool)


def _measure_drift(config: MonitorBenchConfig, pool: ProcessPoolExecutor) -> None:
    version = registry.number(registry.require_champion())
    manifest = read_manifest()
    train, test = (read_prepared(manifest, name) for name in (TRAIN, TEST))
    support = Support.of(train, default())
    info("Scoring", f"{len(train) + len(test):,} shots of dev with version {version}")
    train, test = (_with_model(table, support, version) for table in (train, test))
    reference = DriftDetector(test, test[OUT_OF_SUPPORT].to_numpy(), default(), seed=config.seed)
    if "alarms" in config.parts:
        _measure_resampled(config, pool, reference, test)
        _measure_fresh(config, pool, pd.concat([train, test], ignore_index=True), len(test))
    if "power" in config.parts:
        for which, keep_hoop in (("all of them", False), ("except those at the hoop", True)):
            tables = {feet: farther(test, feet, keep_hoop=keep_hoop) for feet in _FEET}
            shifted_ = {feet: _with_model(table, support, version) for feet, table in tables.items()}
            _measure_power(config, pool, reference, shifted_, which)
        at_the_hoop = np.hypot(*court.to_feet(test["lat"], test["lng"])) == 0
        console.print(
            f"{at_the_hoop.mean():.0%} of the test shots are exactly at the hoop. Any shift removes this point mass "
            "of the reference, so only the second table measures small shifts."
        )


def _with_model(table: pd.DataFrame, support: Support, version: str) -> pd.DataFrame:
    return predict(table, version).assign(**{OUT_OF_SUPPORT: support.out_of_support(table)})


def _measure_resampled(
    config: MonitorBenchConfig, pool: ProcessPoolExecutor, reference: DriftDetector, test: pd.DataFrame
) -> None:
    found = {}
    for rows in _RESAMPLED_ROWS:
        # Compute the thresholds of this size once, for all batches.
        resampled_alerts([config.seed], reference, rows, test)
        trial = partial(resampled_alerts, reference=reference, rows=rows, table=test)
        found[rows] = _run_trials(pool, trial, (config.seed, 1, rows), config.batches, f"batches of {rows:,}")
    _print_alerts(f"False positives, batches sampled from the reference ({len(test):,} rows) itself", found)
    console.print(
        "The rate falls as batches grow relative to the reference: the thresholds include the sampling error of the "
        "reference, which batches sampled from the reference do not have."
    )


def _measure_fresh(
    config: MonitorBenchConfig, pool: ProcessPoolExecutor, table: pd.DataFrame, reference_rows: int
) -> None:
    found = {}
    for rows in _FRESH_ROWS:
        trial = partial(fresh_alerts, rows=rows, reference_rows=reference_rows, table=table)
        found[rows] = _run_trials(
            pool, trial, (config.seed, 2, rows), config.fresh_trials, f"fresh references and batches of {rows:,}"
        )
    _print_alerts(
        f"False positives, each batch against a fresh reference of {reference_rows:,} rows, both from all of dev", found
    )


def _measure_power(
    config: MonitorBenchConfig,
    pool: ProcessPoolExecutor,
    reference: DriftDetector,
    shifted_: dict[float, pd.DataFrame],
    which: str,
) -> None:
    found = {}
    for feet, table in shifted_.items():
        resampled_alerts([config.seed], reference, _BATCH_ROWS, table)
        trial = partial(resampled_alerts, reference=reference, rows=_BATCH_ROWS, table=table)
        what = f"batches shifted {feet:g} ft, {which}"
        found[feet] = _run_trials(pool, trial, (config.seed, 3, int(10 * feet)), config.power_batches, what)
    counts = {feet: Counter(alert for raised in outcomes for alert in raised) for feet, outcomes in found.items()}
    alert_counts = {feet: len(list(filter(None, outcomes))) for feet, outcomes in found.items()}
    shown = Table("alert", *(f"{feet:g} ft" for feet in found))
    shown.add_row("any", *(_share(count, config.power_batches) for count in alert_counts.values()), style="bold")
    for name, _ in sum(counts.values(), Counter()).most_common():
        shown.add_row(name.statistic, *(f"{count[name] / config.power_batches:.1%}" for count in counts.values()))
    _head(f"Power: batches of {_BATCH_ROWS:,} test shots shifted away from the hoop, {which}")
    console.print(shown)
    power = alert_counts[_GOAL_FEET] / config.power_batches
    console.print(
        f"alert rate at {_GOAL_FEET:g} feet: {power:.1%}, goal at least {_MIN_POWER:.0%}: {_met(power, _MIN_POWER, 1)}"
    )


def _measure_estimates(config: MonitorBenchConfig, pool: ProcessPoolExecutor) -> None:
    true_p = synthetic.true_probability(synthetic.shots(synthetic.BLOCK_ROWS, config.seed))
    trial = partial(covered, true_p=true_p)
    found = _run_trials(pool, trial, (config.seed, 4), config.estimate_batches, "estimates")
    table = Table("metric", "interval coverage", "goal", "after concept drift")
    for name in ESTIMATED:
        true, wrong = (sum(getattr(each, labels)[name] for each in found) for labels in ("true", "shifted"))
        table.add_row(
            name,
            _share(true, len(found)),
            _met(true / len(found), _MIN_COVERAGE, _MAX_COVERAGE),
            _share(wrong, len(found)),
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


def _run_trials(
    pool: ProcessPoolExecutor,
    trial: Callable[[Sequence[int]], Result],
    seed: Sequence[int],
    trials: int,
    what: str,
) -> list[Result]:
    seeds: Iterable[Sequence[int]] = [(*seed, number) for number in range(trials)]
    outcomes = pool.map(trial, seeds, chunksize=_CHUNK_TRIALS)
    try:
        return list(track(outcomes, f"{trials:,} {what}", total=trials, console=console))
    except BaseException:
        # Cancel the pending trials when the benchmark is interrupted.
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def _print_alerts(head: str, found: dict[int, list[tuple[Alert, ...]]]) -> None:
    low_goal, high_goal = 0.5 * ALPHA, 1.5 * ALPHA
    table = Table("rows of a batch", "trials", "alerts", f"goal {low_goal:.1%} to {high_goal:.1%}", *KINDS)
    for rows, outcomes in found.items():
        alert_counts = len(list(filter(None, outcomes)))
        kinds = Counter(kind for outcome in outcomes for kind in {alert.kind for alert in outcome})
        table.add_row(
            f"{rows:,}",
            f"{len(outcomes):,}",
            _share(alert_counts, len(outcomes)),
            _met(alert_counts / len(outcomes), low_goal, high_goal),
            *(f"{kinds[kind] / len(outcomes):.1%}" for kind in KINDS),
        )
    _head(f"{head}; nominal {ALPHA:.0%}")
    console.print(table)


def _head(text: str) -> None:
    console.print()
    info(text)


def _met(value: float, low_goal: float, high_goal: float) -> str:
    return "met" if low_goal <= value <= high_goal else "NOT met"


def _share(part: int, whole: int) -> str:
    low, high = wilson([part], [whole])
    return f"{part / whole:.1%} [{low[0]:.1%}, {high[0]:.1%}]"


if __name__ == "__main__":
    run_command(MonitorBenchConfig, run)
