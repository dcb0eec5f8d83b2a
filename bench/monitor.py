"""How often the monitor's alarms are false, what they find, and whether its estimates hold: ``make bench-monitor``.

Shots and champion of this folder (run ``make main`` first); for the estimates simulated shots, of which the truth is
known. No drift, drift and concept drift are all made here, so each figure has a right answer beside it.
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
Outcome = TypeVar("Outcome")

OUTSIDE = "outside"
"""Name of the column that tells which rows lie outside the training support."""
KINDS = ("features", "outside", "P(made)", "classifier")
"""What an alarm can come from."""

_SAME_REFERENCE_ROWS = (100, 250, 500)
_FRESH_ROWS = (100, 500, 2_000, 6_000)
_FEET = (0.5, 1.0, 2.0)
_GOAL_FEET = 2.0
_BATCH_ROWS = 500
_REFERENCE_ROWS = 4_057
_CONCEPT_SHIFT = -0.5
_LEAST_POWER = 0.95
_LEAST_COVERAGE, _MOST_COVERAGE = 0.93, 0.97
_PROCESSES = 2
_TRIALS_AT_ONCE = 10


class MonitorBenchConfig(CommandConfig):
    """Measure false alarms and power of the drift alarm, and the coverage of the estimates."""

    batches: int = Field(default=1_000, ge=1, description="batches of each size drawn from the reference itself")
    fresh_trials: int = Field(default=300, ge=1, description="trials of each size with a reference of their own")
    power_batches: int = Field(default=200, ge=1, description="batches of shots moved away from the hoop")
    estimate_batches: int = Field(default=500, ge=1, description="batches whose metrics are estimated")
    seed: int = Field(default=0, ge=0, description="seed of every draw")
    parts: tuple[Part, ...] = Field(default=("alarms", "power", "estimate"), description="what to measure")


class Alarm(NamedTuple):
    """What raised an alarm.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    statistic : str
        The column and its statistic, or the kind where it has only one.
    """

    kind: str
    statistic: str


@dataclass(frozen=True)
class Covered:
    """Whether the metrics of a batch lie in their estimated intervals, by metric.

    Attributes
    ----------
    true, shifted : dict of str to bool
        For labels that P(made) tells the truth about, and after concept drift.
    """

    true: dict[str, bool]
    shifted: dict[str, bool]


def farther(table: pd.DataFrame, feet: float, *, hoop_stays: bool = False) -> pd.DataFrame:
    """The same shots, taken farther from the hoop, on the line from the hoop through where they were taken.

    Parameters
    ----------
    table : pandas.DataFrame
        ``lat``, ``lng`` and ``shot_distance`` among its columns.
    feet : float
        By how much.
    hoop_stays : bool
        Leave shots at the hoop itself where they are; else they move straight along the court.

    Returns
    -------
    pandas.DataFrame
        Positions in tenths of a foot and distances in whole feet, as in the public files.

    Examples
    --------
    >>> moved = farther(pd.DataFrame({"lat": [34.0443, 34.0143], "lng": -118.2698, "shot_distance": [0.0, 3.0]}), 2)
    >>> moved["lat"].tolist(), moved["shot_distance"].tolist()
    ([34.0243, 33.9943], [2.0, 5.0])
    """
    # Degrees are decimal fractions: without rounding 19 feet are 18.99999999 and lose a foot.
    x, y = (values.round(6) for values in court.to_feet(table["lat"], table["lng"]))
    distance = np.hypot(x, y)
    there = distance > 0
    across = np.divide(x, distance, out=np.zeros(len(table)), where=there)
    along = np.divide(y, distance, out=np.ones(len(table)), where=there)
    step = np.where(there, feet, 0) if hoop_stays else np.full(len(table), feet)
    latitude, longitude = court.to_degrees((x + step * across).round(1), (y + step * along).round(1))
    return table.assign(
        lat=latitude.round(4), lng=longitude.round(4), shot_distance=np.floor((distance + step).round(6))
    )


def with_replacement(table: pd.DataFrame, rows: int, stream: np.random.Generator) -> pd.DataFrame:
    """So many rows of a table, any of them as often as chance will have it."""
    return table.iloc[stream.integers(len(table), size=rows)]


def without_overlap(table: pd.DataFrame, sizes: Sequence[int], stream: np.random.Generator) -> tuple[pd.DataFrame, ...]:
    """Tables of the given sizes, no row in two of them."""
    drawn = stream.choice(len(table), sum(sizes), replace=False)
    return tuple(table.take(rows) for rows in np.split(drawn, np.cumsum(sizes)[:-1]))


def shifted(probability: Floats, log_odds: float) -> Floats:
    """P(made) with something added to its log-odds.

    Examples
    --------
    >>> shifted(np.array([0.5]), -0.5).round(3).tolist()
    [0.378]
    """
    odds = probability / (1 - probability) * np.exp(log_odds)
    moved: Floats = odds / (1 + odds)
    return moved


def raised(drift: DriftResult) -> tuple[Alarm, ...]:
    """Everything that is beyond its limit."""
    found = [
        Alarm("P(made)" if statistic.feature == PROBABILITY else "features", f"{statistic.feature} {statistic.name}")
        for statistic in drift.statistics
        if statistic.drifted
    ]
    if drift.is_outside:
        found.append(Alarm("outside", "outside"))
    if drift.classifier is not None and drift.classifier.drifted:
        found.append(Alarm("classifier", "classifier"))
    return tuple(found)


def drawn_alarms(seed: Sequence[int], reference: DriftDetector, rows: int, table: pd.DataFrame) -> tuple[Alarm, ...]:
    """The alarms of a batch that is drawn, with replacement, from a table."""
    batch = with_replacement(table, rows, np.random.default_rng(seed))
    return raised(reference.compare(batch, batch[OUTSIDE].to_numpy()))


def fresh_alarms(seed: Sequence[int], rows: int, reference_rows: int, table: pd.DataFrame) -> tuple[Alarm, ...]:
    """The alarms of a batch beside a reference that is drawn from the same table, no row in both."""
    first, batch = without_overlap(table, (reference_rows, rows), np.random.default_rng(seed))
    reference = DriftDetector(first, first[OUTSIDE].to_numpy(), seed=seed[-1])
    return raised(reference.compare(batch, batch[OUTSIDE].to_numpy()))


def covered(seed: Sequence[int], truth: Floats) -> Covered:
    """Whether the metrics of a simulated batch lie in the intervals that were estimated from its P(made).

    Parameters
    ----------
    seed : sequence of int
    truth : ndarray of float64, shape (n,)
        True P(made) of the shots from which batch and reference are drawn.
    """
    stream = np.random.default_rng(seed)
    known, unknown = np.split(stream.choice(truth, _REFERENCE_ROWS + _BATCH_ROWS, replace=False), [_REFERENCE_ROWS])
    calibration = Calibration.of(stream.random(len(known)) < known, known)
    found = estimate_performance(calibration, unknown, np.zeros(len(unknown), dtype=bool), seed=seed[-1]).intervals

    def inside(made: Floats) -> dict[str, bool]:
        realised = evaluate(stream.random(len(made)) < made, unknown)
        return {name: found[name].low <= realised[name] <= found[name].high for name in ESTIMATED}

    return Covered(inside(unknown), inside(shifted(unknown, _CONCEPT_SHIFT)))


def run(config: MonitorBenchConfig) -> None:
    """Measure and print."""
    # Two processes of one thread each are faster than two that share their threads.
    os.environ["OMP_NUM_THREADS"] = "1"
    # A fork after OpenMP was used here would wait for its threads for ever.
    with ProcessPoolExecutor(_PROCESSES, mp_context=get_context("spawn")) as pool:
        if {"alarms", "power"} & set(config.parts):
            _alarms(config, pool)
        if "estimate" in config.parts:
            _estimates(config, pool)


def _alarms(config: MonitorBenchConfig, pool: ProcessPoolExecutor) -> None:
    version = registry.number(registry.require_champion())
    manifest = read_manifest()
    train, test = (read_prepared(manifest, name) for name in (TRAIN, TEST))
    support = Support.of(train)
    info("Scoring", f"{len(train) + len(test):,} shots of dev with version {version}")
    train, test = (_with_model(table, support, version) for table in (train, test))
    reference = DriftDetector(test, test[OUTSIDE].to_numpy(), seed=config.seed)
    if "alarms" in config.parts:
        _alarms_of_the_reference(config, pool, reference, test)
        _fresh_alarms(config, pool, pd.concat([train, test], ignore_index=True), len(test))
    if "power" in config.parts:
        for which, hoop_stays in (("all of them", False), ("those at the hoop itself left there", True)):
            tables = {feet: farther(test, feet, hoop_stays=hoop_stays) for feet in _FEET}
            moved = {feet: _with_model(table, support, version) for feet, table in tables.items()}
            _power(config, pool, reference, moved, which)
        at_the_hoop = np.hypot(*court.to_feet(test["lat"], test["lng"])) == 0
        console.print(
            f"{at_the_hoop.mean():.0%} of the test shots are exactly at the hoop. However little they move, they leave "
            "a place where the reference has as many; only the second table tells of small moves."
        )


def _with_model(table: pd.DataFrame, support: Support, version: str) -> pd.DataFrame:
    return predict(table, version).assign(**{OUTSIDE: support.outside(table)})


def _alarms_of_the_reference(
    config: MonitorBenchConfig, pool: ProcessPoolExecutor, reference: DriftDetector, test: pd.DataFrame
) -> None:
    found = {}
    for rows in _SAME_REFERENCE_ROWS:
        # Computes the limits of this size once, for all batches.
        drawn_alarms([config.seed], reference, rows, test)
        trial = partial(drawn_alarms, reference=reference, rows=rows, table=test)
        found[rows] = _every(pool, trial, (config.seed, 1, rows), config.batches, f"batches of {rows:,}")
    _print_alarms(f"False alarms, batches drawn from the reference ({len(test):,} rows) itself", found)
    console.print(
        "The rate falls as batches grow beside the reference: the limits allow for the reference's own sampling error, "
        "which batches drawn from the reference itself do not have."
    )


def _fresh_alarms(
    config: MonitorBenchConfig, pool: ProcessPoolExecutor, table: pd.DataFrame, reference_rows: int
) -> None:
    found = {}
    for rows in _FRESH_ROWS:
        trial = partial(fresh_alarms, rows=rows, reference_rows=reference_rows, table=table)
        found[rows] = _every(
            pool, trial, (config.seed, 2, rows), config.fresh_trials, f"fresh references and batches of {rows:,}"
        )
    _print_alarms(
        f"False alarms, each batch beside a fresh reference of {reference_rows:,} rows, both from all of dev", found
    )


def _power(
    config: MonitorBenchConfig,
    pool: ProcessPoolExecutor,
    reference: DriftDetector,
    moved: dict[float, pd.DataFrame],
    which: str,
) -> None:
    found = {}
    for feet, table in moved.items():
        drawn_alarms([config.seed], reference, _BATCH_ROWS, table)
        trial = partial(drawn_alarms, reference=reference, rows=_BATCH_ROWS, table=table)
        what = f"batches moved {feet:g} ft, {which}"
        found[feet] = _every(pool, trial, (config.seed, 3, int(10 * feet)), config.power_batches, what)
    counts = {feet: Counter(name for alarms in outcomes for name in alarms) for feet, outcomes in found.items()}
    alarms = {feet: len(list(filter(None, outcomes))) for feet, outcomes in found.items()}
    shown = Table("alarm", *(f"{feet:g} ft" for feet in found))
    shown.add_row("any", *(_share(count, config.power_batches) for count in alarms.values()), style="bold")
    for name, _ in sum(counts.values(), Counter()).most_common():
        shown.add_row(name.statistic, *(f"{count[name] / config.power_batches:.1%}" for count in counts.values()))
    _head(f"Power: batches of {_BATCH_ROWS:,} test shots moved away from the hoop, {which}")
    console.print(shown)
    power = alarms[_GOAL_FEET] / config.power_batches
    console.print(
        f"alarm at {_GOAL_FEET:g} feet: {power:.1%}, goal at least {_LEAST_POWER:.0%}: {_met(power, _LEAST_POWER, 1)}"
    )


def _estimates(config: MonitorBenchConfig, pool: ProcessPoolExecutor) -> None:
    truth = synthetic.true_probability(synthetic.shots(synthetic.BLOCK_ROWS, config.seed))
    trial = partial(covered, truth=truth)
    found = _every(pool, trial, (config.seed, 4), config.estimate_batches, "estimates")
    table = Table("metric", "in the interval", "goal", "after concept drift")
    for name in ESTIMATED:
        true, wrong = (sum(getattr(each, labels)[name] for each in found) for labels in ("true", "shifted"))
        table.add_row(
            name,
            _share(true, len(found)),
            _met(true / len(found), _LEAST_COVERAGE, _MOST_COVERAGE),
            _share(wrong, len(found)),
        )
    _head(
        f"Estimates: {len(found):,} batches of {_BATCH_ROWS:,} simulated shots, each with a reference of "
        f"{_REFERENCE_ROWS:,}; nominal {CONFIDENCE:.0%}, goal {_LEAST_COVERAGE:.0%} to {_MOST_COVERAGE:.0%}"
    )
    console.print(table)
    console.print(
        f"Concept drift: labels drawn with {-_CONCEPT_SHIFT:g} less log-odds than P(made) says. Nothing in the "
        "features shows it, so the estimate stays what it was and is wrong; only labels can tell."
    )


def _every(
    pool: ProcessPoolExecutor,
    trial: Callable[[Sequence[int]], Outcome],
    seed: Sequence[int],
    trials: int,
    what: str,
) -> list[Outcome]:
    seeds: Iterable[Sequence[int]] = [(*seed, number) for number in range(trials)]
    outcomes = pool.map(trial, seeds, chunksize=_TRIALS_AT_ONCE)
    try:
        return list(track(outcomes, f"{trials:,} {what}", total=trials, console=console))
    except BaseException:
        # Who stops the bench does not want to wait for the trials that have not begun.
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def _print_alarms(head: str, found: dict[int, list[tuple[Alarm, ...]]]) -> None:
    least, most = 0.5 * ALPHA, 1.5 * ALPHA
    table = Table("rows of a batch", "trials", "alarms", f"goal {least:.1%} to {most:.1%}", *KINDS)
    for rows, outcomes in found.items():
        alarms = len(list(filter(None, outcomes)))
        kinds = Counter(kind for outcome in outcomes for kind in {alarm.kind for alarm in outcome})
        table.add_row(
            f"{rows:,}",
            f"{len(outcomes):,}",
            _share(alarms, len(outcomes)),
            _met(alarms / len(outcomes), least, most),
            *(f"{kinds[kind] / len(outcomes):.1%}" for kind in KINDS),
        )
    _head(f"{head}; nominal {ALPHA:.0%}")
    console.print(table)


def _head(text: str) -> None:
    console.print()
    info(text)


def _met(value: float, least: float, most: float) -> str:
    return "met" if least <= value <= most else "NOT met"


def _share(part: int, whole: int) -> str:
    low, high = wilson([part], [whole])
    return f"{part / whole:.1%} [{low[0]:.1%}, {high[0]:.1%}]"


if __name__ == "__main__":
    run_command(MonitorBenchConfig, run)
