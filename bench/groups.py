"""Rows of one group, such as the shots of one game, are not independent: ``make bench-groups`` shows what that changes.

Compares intervals of metrics, the test of the gate and drift thresholds that draw rows with those that draw groups: on
the real shots of the public files, whose predictions are cross-validated by game, and on synthetic shots with a known
random effect of the game on the log-odds. Nothing differs between the compared samples, so every result has a goal.
"""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field
from rich.table import Table

from bench.error_rates import Population, equal_models, labeled_shots
from bench.trials import met, processes, run_trials, seeds, share
from data.cli.config import CommandConfig, run_command
from data.cli.console import console, info
from data.datasets import Dataset, load
from data.schema import PROBABILITY
from data.simulation import synthetic
from monitor.drift.detector import ALPHA, DriftDetector
from monitor.drift.training_support import Support
from monitor.metrics.binary import evaluate
from monitor.metrics.intervals import evaluate_with_intervals

Part = Literal["widths", "coverage", "gate", "drift"]

METRICS = ("log_loss", "brier", "roc_auc", "accuracy", "f1_score", "recall", "log_loss_skill")
EFFECTS = (0.0, 0.5, 1.0)
"""Standard deviations of the random effect of a synthetic game on the log-odds."""

_SAMPLES = 500
_SHOTS_PER_GAME = 16
_SYNTHETIC_GAMES = 20_000
_GAMES = 150
_REFERENCE_GAMES, _BATCH_GAMES = 300, (25, 100)
_MIN_COVERAGE, _MAX_COVERAGE = 0.93, 0.97
_MIN_RATE, _MAX_RATE = 0.7 * ALPHA, 1.3 * ALPHA
_DECIMALS = 3


class GroupsBenchConfig(CommandConfig):
    """Compare intervals, the gate and drift thresholds by row with those by group."""

    source: str = Field(default="data/raw", description="folder of Parquet files with the shots")
    described_by: str = Field(default="kobe_full", description="description of the table; it names a group")
    trials: int = Field(default=1_000, ge=1, description="samples of games for coverage and for the gate")
    drift_trials: int = Field(default=300, ge=1, description="references and batches of games for drift")
    row_trials: int = Field(default=30, ge=1, description="of them, those whose thresholds by row are computed too")
    seed: int = Field(default=0, ge=0, description="seed of every sample")
    parts: tuple[Part, ...] = Field(default=("widths", "coverage", "gate", "drift"), description="what to measure")


def synthetic_games(dataset: Dataset, effect: float, seed: int) -> Population:
    """Synthetic games with a random effect on the log-odds of the true P(made)."""
    stream = np.random.default_rng(seed)
    true_p = synthetic.true_probability(synthetic.shots(synthetic.BLOCK_ROWS, seed))
    probability = stream.choice(true_p, _SYNTHETIC_GAMES * _SHOTS_PER_GAME).round(_DECIMALS)
    game = np.repeat(np.arange(_SYNTHETIC_GAMES), _SHOTS_PER_GAME)
    odds = np.log(probability / (1 - probability)) + effect * stream.normal(size=_SYNTHETIC_GAMES)[game]
    labels = (stream.random(len(game)) < 1 / (1 + np.exp(-odds))).astype(float)
    table = pd.DataFrame({_group(dataset): game, dataset.target.name: labels, PROBABILITY: probability})
    return Population.of(table, dataset, seed, training_share=0)


def covered(seed: Sequence[int], games: Population) -> dict[tuple[str, str], bool]:
    """Whether the metrics of all games lie in the intervals of a sample of games, by metric and by what is drawn."""
    target, sample = games.dataset.target.name, _sample(seed, games)
    of_all = evaluate(games.table[target], games.table[PROBABILITY])
    found = {}
    for by, groups in (("row", None), ("game", sample[_group(games.dataset)])):
        measured = evaluate_with_intervals(
            sample[target], sample[PROBABILITY], groups=groups, samples=_SAMPLES, seed=seed[-1]
        )
        for metric in METRICS:
            interval = measured.interval(metric)
            found[metric, by] = interval.low <= of_all[metric] <= interval.high
    return found


def significant(seed: Sequence[int], games: Population) -> dict[str, bool]:
    """Whether two models of equal loss differ significantly on a sample of games, by what is drawn."""
    target, sample = games.dataset.target.name, _sample(seed, games)
    results = {
        by: equal_models(games.table, sample, target, groups, seed[-1])
        for by, groups in (("row", None), ("game", sample[_group(games.dataset)]))
    }
    return {by: found.better or found.worse for by, found in results.items()}


def alarms(seed: Sequence[int], batch_games: int, games: Population, row_trials: int) -> dict[str, bool]:
    """Whether a batch of games raises a drift alarm against a reference of other games, by what is drawn."""
    drawn = np.random.default_rng(seed).permutation(len(games.units))
    reference, batch = (
        np.concatenate([games.units[unit] for unit in part])
        for part in (drawn[:_REFERENCE_GAMES], drawn[_REFERENCE_GAMES : _REFERENCE_GAMES + batch_games])
    )
    known = Support.of(games.training, games.dataset).categories
    found: dict[str, bool] = {}
    for by, dropped in (("game", []), ("row", [_group(games.dataset)]))[: 1 + (seed[-1] < row_trials)]:
        held, outside = games.table.drop(columns=dropped), games.out_of_support
        detector = DriftDetector(held.iloc[reference], outside[reference], games.dataset, known=known, seed=seed[-1])
        result = detector.compare(held.iloc[batch], outside[batch])
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
    dataset = load(config.described_by)
    table = labeled_shots(config.source, dataset)
    games = {"real": Population.of(table, dataset, config.seed, training_share=0)}
    count = len(games["real"].units)
    info("Rows:", f"{len(table):,} labeled {dataset.rows} of {count:,} groups, predicted by cross-validation")
    if "widths" in config.parts:
        _show_widths(table, dataset)
    if {"coverage", "gate"} & set(config.parts):
        games |= {
            f"synthetic, game effect {effect:g}": synthetic_games(dataset, effect, config.seed) for effect in EFFECTS
        }
    with processes() as pool:
        for place, (name, each) in enumerate(games.items()):
            if "coverage" in config.parts:
                trials = seeds(config.seed, 1, place, trials=config.trials)
                _show_coverage(name, run_trials(pool, partial(covered, games=each), trials, name))
            if "gate" in config.parts:
                trials = seeds(config.seed, 2, place, trials=config.trials)
                found = run_trials(pool, partial(significant, games=each), trials, "gates")
                _show_rates(f"Gate, {name}: two models of equal loss differ significantly", found)
        if "drift" in config.parts:
            _measure_drift(config, pool, Population.of(table, dataset, config.seed))


def _measure_drift(config: GroupsBenchConfig, pool: ProcessPoolExecutor, games: Population) -> None:
    for number in _BATCH_GAMES:
        trial = partial(alarms, batch_games=number, games=games, row_trials=config.row_trials)
        trials = seeds(config.seed, 3, number, trials=config.drift_trials)
        found = run_trials(pool, trial, trials, f"batches of {number} games")
        _show_rates(f"Drift alarms, real: batches of {number} games, references of {_REFERENCE_GAMES} others", found)


def _sample(seed: Sequence[int], games: Population) -> pd.DataFrame:
    """Games drawn with replacement."""
    return games.take(np.random.default_rng(seed).integers(len(games.units), size=_GAMES))


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


def _show_coverage(name: str, trials: Sequence[dict[tuple[str, str], bool]]) -> None:
    shown = Table("metric", "by row", "by game", "goal, by game")
    for metric in METRICS:
        counts = [sum(trial[metric, by] for trial in trials) for by in ("row", "game")]
        goal = met(counts[1] / len(trials), _MIN_COVERAGE, _MAX_COVERAGE)
        shown.add_row(metric, *(share(count, len(trials)) for count in counts), goal)
    info(f"Coverage of 95% intervals of {_GAMES} games, {name}; goal {_MIN_COVERAGE:.0%} to {_MAX_COVERAGE:.0%}")
    console.print(shown)


def _show_rates(head: str, trials: Sequence[dict[str, bool]]) -> None:
    shown = Table("drawn", "trials", "rate", "goal, by game")
    for name in dict.fromkeys(name for trial in trials for name in trial):
        outcomes = [trial[name] for trial in trials if name in trial]
        goal = met(sum(outcomes) / len(outcomes), _MIN_RATE, _MAX_RATE) if name == "game" else ""
        shown.add_row(name, f"{len(outcomes):,}", share(sum(outcomes), len(outcomes)), goal)
    info(f"{head}; nominal {ALPHA:.0%}, goal {_MIN_RATE:.1%} to {_MAX_RATE:.1%}")
    console.print(shown)


def _group(dataset: Dataset) -> str:
    if dataset.group is None:
        message = f"described_by: expected a description that names a group; found {dataset.name}"
        raise ValueError(message)
    return dataset.group.name


if __name__ == "__main__":
    run_command(GroupsBenchConfig, run)
