"""Rows of one group, such as the shots of one game, are not independent: ``make bench-groups`` shows what that changes.

Compares intervals of metrics, the test of the gate and drift thresholds that draw rows with those that draw groups: on
the real shots of the public files, whose predictions are cross-validated by game, and on synthetic shots with a known
random effect of the game on the log-odds. Nothing differs between the compared samples, so every result has a goal.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field
from rich.progress import track
from rich.table import Table

from bench.error_rates import labeled_shots
from data.cli.config import CommandConfig, run_command
from data.cli.console import console, info
from data.datasets import Dataset, load
from data.groups import Groups
from data.schema import PROBABILITY
from data.simulation import synthetic
from monitor.drift.detector import ALPHA, DriftDetector
from monitor.drift.training_support import Support
from monitor.metrics.binary import evaluate, log_loss_by_row
from monitor.metrics.intervals import evaluate_with_intervals
from monitor.metrics.rates import wilson
from serving.registry.gate import paired_bootstrap

Floats = npt.NDArray[np.float64]
Part = Literal["widths", "coverage", "gate", "drift"]
Result = TypeVar("Result")

METRICS = ("log_loss", "brier", "roc_auc", "accuracy", "f1_score", "recall", "log_loss_skill")
EFFECTS = (0.0, 0.5, 1.0)
"""Standard deviations of the random effect of a synthetic game on the log-odds."""

_SAMPLES = 500
_SHOTS_PER_GAME = 16
_SYNTHETIC_GAMES = 20_000
_GAMES = 150
_TRAINING_GAMES, _REFERENCE_GAMES, _BATCH_GAMES = 700, 300, (25, 100)
_MIN_COVERAGE, _MAX_COVERAGE = 0.93, 0.97
_MIN_RATE, _MAX_RATE = 0.7 * ALPHA, 1.3 * ALPHA
_DECIMALS = 3
_PROCESSES = 2
_CHUNK_TRIALS = 5


class GroupsBenchConfig(CommandConfig):
    """Compare intervals, the gate and drift thresholds by row with those by group."""

    source: str = Field(default="data/raw", description="folder of Parquet files with the shots")
    described_by: str = Field(default="kobe_full", description="description of the table; it names a group")
    trials: int = Field(default=1_000, ge=1, description="samples of games for coverage and for the gate")
    drift_trials: int = Field(default=300, ge=1, description="references and batches of games for drift")
    row_trials: int = Field(default=30, ge=1, description="of them, those whose thresholds by row are computed too")
    seed: int = Field(default=0, ge=0, description="seed of every sample")
    parts: tuple[Part, ...] = Field(default=("widths", "coverage", "gate", "drift"), description="what to measure")


@dataclass(frozen=True)
class Games:
    """Labeled rows of games, and the rows of each game.

    Attributes
    ----------
    name : str
    labels, probability : ndarray of float64, shape (n,)
    rows : tuple of ndarray of int64
        Rows of each game.
    """

    name: str
    labels: Floats
    probability: Floats
    rows: tuple[npt.NDArray[np.int64], ...]

    @classmethod
    def of(cls, name: str, labels: Floats, probability: Floats, groups: npt.ArrayLike) -> "Games":
        """Collect the rows of each game."""
        code = Groups.of(groups).code
        order = np.argsort(code, kind="stable")
        rows = np.split(order, np.flatnonzero(np.diff(code[order])) + 1)
        # Rounding leaves fewer distinct values, which makes the bootstrap faster.
        return cls(name, labels, probability.round(_DECIMALS), tuple(rows))

    def drawn(self, games: int, stream: np.random.Generator) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
        """Draw games with replacement: labels, P(made), and the number of the draw of each row."""
        selected = [self.rows[number] for number in stream.integers(len(self.rows), size=games)]
        rows = np.concatenate(selected)
        return self.labels[rows], self.probability[rows], np.repeat(np.arange(games), list(map(len, selected)))


def synthetic_games(effect: float, seed: int) -> Games:
    """Synthetic games with a random effect on the log-odds of the true P(made)."""
    stream = np.random.default_rng(seed)
    true_p = synthetic.true_probability(synthetic.shots(synthetic.BLOCK_ROWS, seed))
    probability = stream.choice(true_p, _SYNTHETIC_GAMES * _SHOTS_PER_GAME).round(_DECIMALS)
    game = np.repeat(np.arange(_SYNTHETIC_GAMES), _SHOTS_PER_GAME)
    odds = np.log(probability / (1 - probability)) + effect * stream.normal(size=_SYNTHETIC_GAMES)[game]
    labels = (stream.random(len(game)) < 1 / (1 + np.exp(-odds))).astype(float)
    return Games.of(f"synthetic, game effect {effect:g}", labels, probability, game)


def covered(seed: Sequence[int], games: Games) -> dict[tuple[str, str], bool]:
    """Whether the metrics of all games lie in the intervals of a sample of games, by metric and by what is drawn."""
    labels, probability, drawn = games.drawn(_GAMES, np.random.default_rng(seed))
    population = evaluate(games.labels, games.probability)
    found = {}
    for by, groups in (("row", None), ("game", drawn)):
        measured = evaluate_with_intervals(labels, probability, groups=groups, samples=_SAMPLES, seed=seed[-1])
        for metric in METRICS:
            interval = measured.interval(metric)
            found[metric, by] = interval.low <= population[metric] <= interval.high
    return found


def significant(seed: Sequence[int], games: Games) -> dict[str, bool]:
    """Whether two models of equal loss differ significantly on a sample of games, by what is drawn."""
    base_rate = np.full(len(games.labels), games.labels.mean())
    losses = [log_loss_by_row(games.labels, each) for each in (games.probability, base_rate)]
    equal = losses[1] + (losses[0].mean() - losses[1].mean())
    stream = np.random.default_rng(seed)
    selected = [games.rows[number] for number in stream.integers(len(games.rows), size=_GAMES)]
    rows, drawn = np.concatenate(selected), np.repeat(np.arange(_GAMES), list(map(len, selected)))
    results = {
        by: paired_bootstrap(losses[0][rows], equal[rows], seed=seed[-1], groups=groups)
        for by, groups in (("row", None), ("game", drawn))
    }
    return {by: found.better or found.worse for by, found in results.items()}


@dataclass(frozen=True)
class Shots:
    """Scored shots that references and batches are drawn from.

    Attributes
    ----------
    table : pandas.DataFrame
    out_of_support : ndarray of bool, shape (n,)
        Rows that are out of support.
    support : Support
        That of the shots of other games.
    dataset : Dataset
    """

    table: pd.DataFrame
    out_of_support: npt.NDArray[np.bool_]
    support: Support
    dataset: Dataset


def alarms(seed: Sequence[int], batch_games: int, shots: Shots, row_trials: int) -> dict[str, bool]:
    """Whether a batch of games raises a drift alarm against a reference of other games, by what is drawn."""
    group, table = _group(shots.dataset), shots.table
    names = np.random.default_rng(seed).permutation(table[group].unique())
    parts = names[:_REFERENCE_GAMES], names[_REFERENCE_GAMES : _REFERENCE_GAMES + batch_games]
    reference, batch = (table[group].isin(part).to_numpy() for part in parts)
    found: dict[str, bool] = {}
    for by, dropped in (("game", []), ("row", [group]))[: 1 + (seed[-1] < row_trials)]:
        held = table.drop(columns=dropped)
        detector = DriftDetector(
            held[reference],
            shots.out_of_support[reference],
            shots.dataset,
            known=shots.support.categories,
            seed=seed[-1],
        )
        result = detector.compare(held[batch], shots.out_of_support[batch])
        found |= {
            by: result.alarm,
            f"{by}: features": bool(result.drifted_features),
            f"{by}: P(made)": result.has_drifted(PROBABILITY),
            f"{by}: rates": any(each.drifted for each in (*result.unseen, *result.nulls)) or result.is_out_of_support,
            f"{by}: classifier": result.classifier is not None and result.classifier.drifted,
        }
    return found


def run(config: GroupsBenchConfig) -> None:
    """Measure and print."""
    # Two processes with one thread each are faster than two with shared threads.
    os.environ["OMP_NUM_THREADS"] = "1"
    dataset = load(config.described_by)
    table = labeled_shots(config.source, dataset)
    target, group = dataset.target.name, _group(dataset)
    real = Games.of("real", table[target].to_numpy(), table[PROBABILITY].to_numpy(), table[group])
    info("Rows:", f"{len(table):,} labeled {dataset.rows} of {len(real.rows):,} groups, predicted by cross-validation")
    if "widths" in config.parts:
        _show_widths(table, dataset)
    # A fork after the use of OpenMP deadlocks.
    with ProcessPoolExecutor(_PROCESSES, mp_context=get_context("spawn")) as pool:
        for place, effect in enumerate((None, *EFFECTS)):
            if not {"coverage", "gate"} & set(config.parts):
                break
            games = real if effect is None else synthetic_games(effect, config.seed)
            if "coverage" in config.parts:
                trial = partial(covered, games=games)
                _show_coverage(games, _run(pool, trial, (config.seed, 1, place), config.trials, f"{games.name}"))
            if "gate" in config.parts:
                trials = _run(pool, partial(significant, games=games), (config.seed, 2, place), config.trials, "gates")
                _show_rates(f"Gate, {games.name}: two models of equal loss differ significantly", trials)
        if "drift" in config.parts:
            _measure_drift(config, pool, table, dataset)


def _measure_drift(config: GroupsBenchConfig, pool: ProcessPoolExecutor, table: pd.DataFrame, dataset: Dataset) -> None:
    group = _group(dataset)
    names = np.random.default_rng(config.seed).permutation(table[group].unique())
    training = table[group].isin(names[:_TRAINING_GAMES])
    support, rest = Support.of(table[training], dataset), table[~training].reset_index(drop=True)
    shots = Shots(rest, support.out_of_support(rest), support, dataset)
    for games in _BATCH_GAMES:
        trial = partial(alarms, batch_games=games, shots=shots, row_trials=config.row_trials)
        found = _run(pool, trial, (config.seed, 3, games), config.drift_trials, f"batches of {games} games")
        _show_rates(f"Drift alarms, real: batches of {games} games, references of {_REFERENCE_GAMES} others", found)


def _show_widths(table: pd.DataFrame, dataset: Dataset) -> None:
    labels, probability = table[dataset.target.name], table[PROBABILITY]
    by_row, by_group = (
        evaluate_with_intervals(labels, probability, groups=groups).intervals()
        for groups in (None, table[_group(dataset)])
    )
    shown = Table("metric", "value", "width by row", "width by group", "ratio")
    for metric in METRICS:
        widths = [found[metric].high - found[metric].low for found in (by_row, by_group)]
        row = (f"{by_row[metric].value:.4f}", *(f"{width:.4f}" for width in widths), f"{widths[1] / widths[0]:.2f}")
        shown.add_row(metric, *row)
    info("95% intervals of the metrics of all rows")
    console.print(shown)


def _show_coverage(games: Games, trials: Sequence[dict[tuple[str, str], bool]]) -> None:
    shown = Table("metric", "by row", "by game", "goal, by game")
    for metric in METRICS:
        counts = [sum(trial[metric, by] for trial in trials) for by in ("row", "game")]
        goal = _met(counts[1] / len(trials), _MIN_COVERAGE, _MAX_COVERAGE)
        shown.add_row(metric, *(_share(count, len(trials)) for count in counts), goal)
    info(f"Coverage of 95% intervals of {_GAMES} games, {games.name}; goal {_MIN_COVERAGE:.0%} to {_MAX_COVERAGE:.0%}")
    console.print(shown)


def _show_rates(head: str, trials: Sequence[dict[str, bool]]) -> None:
    shown = Table("drawn", "trials", "rate", "goal, by game")
    for name in dict.fromkeys(name for trial in trials for name in trial):
        outcomes = [trial[name] for trial in trials if name in trial]
        goal = _met(sum(outcomes) / len(outcomes), _MIN_RATE, _MAX_RATE) if name == "game" else ""
        shown.add_row(name, f"{len(outcomes):,}", _share(sum(outcomes), len(outcomes)), goal)
    info(f"{head}; nominal {ALPHA:.0%}, goal {_MIN_RATE:.1%} to {_MAX_RATE:.1%}")
    console.print(shown)


def _run(
    pool: ProcessPoolExecutor, trial: Callable[[Sequence[int]], Result], seed: Sequence[int], trials: int, what: str
) -> list[Result]:
    seeds = [(*seed, number) for number in range(trials)]
    outcomes = pool.map(trial, seeds, chunksize=_CHUNK_TRIALS)
    try:
        return list(track(outcomes, f"{trials:,} {what}", total=trials, console=console))
    except BaseException:
        # Cancel the pending trials when the benchmark is interrupted.
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def _group(dataset: Dataset) -> str:
    if dataset.group is None:
        message = f"described_by: expected a description that names a group; found {dataset.name}"
        raise ValueError(message)
    return dataset.group.name


def _met(value: float, low_goal: float, high_goal: float) -> str:
    return "met" if low_goal <= value <= high_goal else "NOT met"


def _share(part: int, whole: int) -> str:
    low, high = wilson([part], [whole])
    return f"{part / whole:.1%} [{low[0]:.1%}, {high[0]:.1%}]"


if __name__ == "__main__":
    run_command(GroupsBenchConfig, run)
