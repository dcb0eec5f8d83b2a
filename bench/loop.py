"""How often the gate promotes challengers that are worse, equal and clearly better: ``make bench-loop``.

Tables of this folder (run ``make main`` first), or of another source. Challengers are trained and judged as the loop
does it, on labels that arrived and on later ones, but who is better is known, so each figure has a right answer.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import AfterValidator, Field
from rich.progress import track
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from data.acquisition.provenance import Provenance
from data.acquisition.sources import acquire, validate_source
from data.cli.config import CommandConfig, run_command
from data.cli.console import console, info
from data.errors import KobeShotError
from data.preparation import local
from data.preparation.contract import PreparationParams
from data.preparation.manifest import PROD, TEST, TRAIN, read_manifest, read_prepared
from data.schema import FEATURES, TARGET
from data.simulation import synthetic
from monitor.metrics.rates import wilson
from monitor.retraining.policy import split_by_time
from monitor.retraining.promotion_test import FEWEST_ROWS, evaluate_challenger
from monitor.store.labels import sort_by_time
from steps.aquisicao import print_synthetic_warning
from steps.retraining.config import RetrainingConfig
from steps.retraining.training_set import label_weights

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int_]

_PROCESSES = 2
_SEEDS_AT_ONCE = 2
_ROWS = (500, 1_000, 2_700)
_TREE_DEPTH, _TREE_IMPURITY, _TREE_LEAF, _TREE_SPLIT = 3, 0.0005, 3, 9
_NOISE = 0.2


class LoopBenchError(KobeShotError):
    """The tables do not allow what is asked."""


class LoopBenchConfig(CommandConfig):
    """Measure how often worse, equal and better challengers are promoted."""

    seeds: int = Field(default=100, ge=1, description="trials of each case, each with draws and models of its own")
    rows: tuple[Annotated[int, Field(ge=FEWEST_ROWS)], ...] = Field(
        default=_ROWS, description="numbers of later rows that a comparison draws"
    )
    source: Annotated[str, AfterValidator(lambda source: validate_source(source) if source else source)] = Field(
        default="", description="source of raw files, as of aquisicao; empty takes the tables that preparacao wrote"
    )


@dataclass(frozen=True)
class Case:
    """A kind of challenger.

    Attributes
    ----------
    name : str
    words : str
        What the challenger and the champion have learned.
    least, most : float
        Share of the trials in which it should be promoted.
    """

    name: str
    words: str
    least: float
    most: float

    @property
    def goal(self) -> str:
        """In words."""
        if self.least:
            return f"at least {self.least:.0%}"
        return f"at most {self.most:.0%}" if self.most else "never"


WORSE = Case(
    "worse: shuffled labels", "the challenger learned from shuffled labels, the champion from the true ones", 0, 0
)
RESAMPLED = Case("equal: twins", "both learned from a bootstrap sample of the same rows", 0, 0.05)
NOISY = Case("equal: noise", f"both answer the same P(made) with normal noise of {_NOISE:g} on its log-odds", 0, 0.05)
BETTER = Case(
    "better: new labels", "the challenger learned from dev rows and older labels, the champion is dev's tree", 0.95, 1
)
RECOVERED = Case(
    "better: true labels",
    "the challenger learned from dev rows, the champion from the same with shuffled labels",
    0.95,
    1,
)
CASES = (WORSE, RESAMPLED, NOISY, BETTER, RECOVERED)


class Trial(NamedTuple):
    """What the gate said of one challenger.

    Attributes
    ----------
    rows : int
        That it was compared on.
    difference : float
        Of the mean log losses, challenger minus champion.
    failed : tuple of str
        Comparisons that spoke against it, in words; empty if it was promoted.
    """

    rows: int
    difference: float
    failed: tuple[str, ...]


@dataclass(frozen=True)
class Lesson:
    """Rows to learn from.

    Attributes
    ----------
    features : ndarray of float64, shape (n, 6)
    labels, weights : ndarray of float64, shape (n,)
    """

    features: Floats
    labels: Floats
    weights: Floats

    @classmethod
    def of(cls, table: pd.DataFrame, weights: Floats | None = None) -> Self:
        """The rows of a table, each of weight 1 if nothing else is said."""
        each = np.ones(len(table)) if weights is None else weights
        return cls(table[list(FEATURES)].to_numpy(dtype=float), table[TARGET].to_numpy(dtype=float), each)

    @property
    def rate(self) -> float:
        """P(made) of the class prior."""
        return float(np.average(self.labels, weights=self.weights))

    def shuffled(self, stream: np.random.Generator) -> "Lesson":
        """The same rows and labels, but no label with its own row."""
        return Lesson(self.features, stream.permutation(self.labels), self.weights)

    def resampled(self, stream: np.random.Generator) -> "Lesson":
        """As many rows, drawn with replacement."""
        rows = stream.integers(len(self.labels), size=len(self.labels))
        return Lesson(self.features[rows], self.labels[rows], self.weights[rows])


@dataclass(frozen=True)
class Ground:
    """What models learn from and are compared on, and the answers of those that are the same in every trial.

    Attributes
    ----------
    development, arrived : Lesson
        Dev rows; dev rows and the older labels of prod, weighed as the loop does.
    test, later : pandas.DataFrame
        Dev test rows, and the later labels of prod; nothing has learned from them.
    tree, regression : ndarray of float64, shape (n,)
        P(made) of the later rows by dev's tree, and by a logistic regression on `arrived`.
    recovered : ndarray of float64, shape (m,)
        P(made) of the test rows by a logistic regression on `development`.
    """

    development: Lesson
    arrived: Lesson
    test: pd.DataFrame
    later: pd.DataFrame
    tree: Floats
    regression: Floats
    recovered: Floats

    @classmethod
    def of(cls, development: pd.DataFrame, test: pd.DataFrame, prod: pd.DataFrame) -> Self:
        """Split prod's labels by time and fit what does not change.

        Raises
        ------
        ArrivalError
            If prod has no dates.
        LoopBenchError
            If prod has too few labels.
        """
        loop = RetrainingConfig()
        labels = sort_by_time(prod[prod[TARGET].notna()], PROD).tail(loop.max_labels)
        older, later = split_by_time(labels, loop.holdout_size)
        if min(len(older), len(later)) < FEWEST_ROWS:
            message = (
                f"expected {FEWEST_ROWS} labels of prod to learn from and {FEWEST_ROWS} later ones; "
                f"found {len(older):,} and {len(later):,}"
            )
            raise LoopBenchError(message)
        columns = [*FEATURES, TARGET]
        _, weights = label_weights(len(development), len(older), loop.weighting)
        alone = Lesson.of(development)
        both = Lesson.of(pd.concat([development[columns], older[columns]], ignore_index=True), weights)
        return cls(
            alone,
            both,
            test.reset_index(drop=True),
            later.reset_index(drop=True),
            made(fitted(tree(), alone), later),
            made(fitted(regression(), both), later),
            made(fitted(regression(), alone), test),
        )


def regression() -> Pipeline:
    """Logistic regression as ``models=lr`` trains it."""
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000))


def tree() -> Pipeline:
    """The decision tree that ``main`` chooses on the public files."""
    estimator = DecisionTreeClassifier(
        max_depth=_TREE_DEPTH,
        min_impurity_decrease=_TREE_IMPURITY,
        min_samples_leaf=_TREE_LEAF,
        min_samples_split=_TREE_SPLIT,
        random_state=42,
    )
    return make_pipeline(StandardScaler(), estimator)


def fitted(pipeline: Pipeline, lesson: Lesson) -> Pipeline:
    """A pipeline that has learned a lesson."""
    weights = {f"{pipeline.steps[-1][0]}__sample_weight": lesson.weights}
    return pipeline.fit(lesson.features, lesson.labels, **weights)


def made(pipeline: Pipeline, rows: pd.DataFrame) -> Floats:
    """P(made) of rows."""
    return np.asarray(pipeline.predict_proba(rows[list(FEATURES)].to_numpy(dtype=float))[:, 1])


def noisy(probability: Floats, stream: np.random.Generator) -> Floats:
    """P(made) with normal noise on its log-odds.

    Examples
    --------
    >>> noisy(np.array([0.5, 0.5]), np.random.default_rng(0)).round(3).tolist()
    [0.506, 0.493]
    """
    odds = probability / (1 - probability) * np.exp(stream.normal(0, _NOISE, len(probability)))
    moved: Floats = odds / (1 + odds)
    return moved


def trials(seed: int, ground: Ground, rows: Sequence[int]) -> list[tuple[Case, Trial]]:
    """Every case once on each number of rows.

    Parameters
    ----------
    seed : int
        Of the draws, the shuffles, the resamples and the noise.
    ground : Ground
    rows : sequence of int
        Numbers of later rows that are drawn: without replacement where models are equal, else with it.
    """
    stream = np.random.default_rng(seed)
    return [
        *_on_later_rows(seed, stream, ground, rows),
        *_on_test_rows(seed, stream, ground),
    ]


def _on_later_rows(
    seed: int, stream: np.random.Generator, ground: Ground, rows: Sequence[int]
) -> Iterator[tuple[Case, Trial]]:
    later, prior = ground.later, ground.arrived.rate
    shuffled = made(fitted(regression(), ground.arrived.shuffled(stream)), later)
    twins = [made(fitted(regression(), ground.arrived.resampled(stream)), later) for _ in range(2)]
    noise = [noisy(ground.regression, stream) for _ in range(2)]
    for number in rows:
        # A row that was drawn twice would bring the luck of one of two equal models, which lies in the row, twice.
        fresh = stream.choice(len(later), number, replace=False)
        yield RESAMPLED, _judged(later, fresh, twins[0], twins[1], prior, seed)
        yield NOISY, _judged(later, fresh, noise[0], noise[1], prior, seed)
        drawn = stream.integers(len(later), size=number)
        yield WORSE, _judged(later, drawn, shuffled, ground.regression, prior, seed)
        yield BETTER, _judged(later, drawn, ground.regression, ground.tree, prior, seed)


def _on_test_rows(seed: int, stream: np.random.Generator, ground: Ground) -> Iterator[tuple[Case, Trial]]:
    shuffled = made(fitted(regression(), ground.development.shuffled(stream)), ground.test)
    drawn = stream.integers(len(ground.test), size=len(ground.test))
    yield RECOVERED, _judged(ground.test, drawn, ground.recovered, shuffled, ground.development.rate, seed)


def _judged(  # noqa: PLR0913, PLR0917 rows, three models and a seed
    table: pd.DataFrame, drawn: Ints, challenger: Floats, champion: Floats, prior: float, seed: int
) -> Trial:
    rows = table.iloc[drawn].reset_index(drop=True)
    constant = np.full(len(rows), prior)
    found = evaluate_challenger(
        rows, challenger[drawn], champion[drawn], constant, champion_name="the champion", seed=seed
    )
    rules = ("champion", "least gain", "both results", "limit", "prior", "constant")
    kinds = (*rules, *("slice" for _ in found.comparisons[len(rules) :]))
    failed = {kind for kind, each in zip(kinds, found.comparisons, strict=True) if not each.passed}
    return Trial(len(rows), found.comparisons[0].difference.value, tuple(sorted(failed)))


def run(config: LoopBenchConfig) -> None:
    """Measure and print."""
    # Two processes of one thread each are faster than two that share their threads.
    os.environ["OMP_NUM_THREADS"] = "1"
    ground, provenance = _ground(config.source)
    print_synthetic_warning(synthetic=provenance.is_synthetic)
    info("Shots:", f"{provenance.kind}, {provenance.address}")
    development, both = (len(lesson.labels) for lesson in (ground.development, ground.arrived))
    info("Learned from:", f"{development:,} dev rows, and {both - development:,} older labels of prod")
    info(
        "Compared on:", f"rows of {len(ground.later):,} later labels of prod, and of {len(ground.test):,} dev test rows"
    )
    numbers = [number for number in config.rows if number <= len(ground.later)]
    if not numbers:
        message = f"expected rows of at most {len(ground.later):,}, the later labels; found {config.rows}"
        raise LoopBenchError(message)
    for number in set(config.rows) - set(numbers):
        info("Left out:", f"{number:,} rows, more than there are later labels", style="bold yellow")
    _show(_every(partial(trials, ground=ground, rows=numbers), config.seeds), config.seeds)


def _ground(source: str) -> tuple[Ground, Provenance]:
    if not source:
        manifest = read_manifest()
        return Ground.of(*(read_prepared(manifest, name) for name in (TRAIN, TEST, PROD))), manifest.provenance
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder)
        provenance = acquire(source, rows=synthetic.PUBLIC_ROWS, seed=PreparationParams().seed, raw=raw)
        local.prepare(raw, raw, PreparationParams())
        tables = [pd.read_parquet(raw / f"{name}.parquet") for name in (TRAIN, TEST, PROD)]
    return Ground.of(*tables), provenance


def _every(trial: Callable[[int], list[tuple[Case, Trial]]], seeds: int) -> list[tuple[Case, Trial]]:
    # A fork after OpenMP was used here would wait for its threads for ever.
    with ProcessPoolExecutor(_PROCESSES, mp_context=get_context("spawn")) as pool:
        outcomes = pool.map(trial, range(seeds), chunksize=_SEEDS_AT_ONCE)
        try:
            return [
                found for each in track(outcomes, f"{seeds:,} seeds", total=seeds, console=console) for found in each
            ]
        except BaseException:
            # Who stops the bench does not want to wait for the trials that have not begun.
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _show(found: Sequence[tuple[Case, Trial]], seeds: int) -> None:
    table = Table("challenger", "rows", f"promoted of {seeds:,}", "goal", "difference", "refused by")
    for case in CASES:
        of_case = [trial for each, trial in found if each == case]
        for rows in sorted({trial.rows for trial in of_case}):
            table.add_row(case.name, f"{rows:,}", *_cells(case, [trial for trial in of_case if trial.rows == rows]))
    console.print(table)
    for case in CASES:
        info(f"{case.name}:", case.words)
    info("Difference:", "of log losses, challenger minus champion, mean ± standard deviation over the trials")
    info(
        "Refused by:",
        "champion (not better beyond chance), least gain, limit, class prior or a slice; one may be refused by several",
    )


def _cells(case: Case, found: Sequence[Trial]) -> Iterator[str]:
    promoted = sum(not trial.failed for trial in found)
    low, high = wilson([promoted], [len(found)])
    against = Counter(name for trial in found for name in trial.failed)
    differences = [trial.difference for trial in found]
    yield f"{promoted:,} [{low[0]:.0%}, {high[0]:.0%}]"
    met = case.least <= promoted / len(found) <= case.most
    yield f"{case.goal}: {'met' if met else 'NOT met'}"
    yield f"{np.mean(differences):+.4f} ± {np.std(differences):.4f}"
    yield ", ".join(f"{name} {count:,}" for name, count in against.most_common()) or "-"


if __name__ == "__main__":
    run_command(LoopBenchConfig, run)
