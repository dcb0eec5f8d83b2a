"""Promotion rates of challengers that are worse than, equal to and better than the champion: ``make bench-loop``.

Uses the tables of this folder (run ``make main`` first), or another source. Challengers are trained and tested as in
``retreino``, on training labels and a temporal hold-out. The better model is known by construction, so every rate has a
goal.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import AfterValidator, Field
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from bench.trials import met, processes, run_trials, share
from data.acquisition.provenance import Provenance
from data.acquisition.sources import acquire, validate_source
from data.cli.config import CommandConfig, run_command
from data.cli.console import console, info
from data.datasets import default
from data.engines.duckdb import duckdb_engine
from data.errors import KobeShotError
from data.preparation.contract import PreparationParams
from data.preparation.manifest import PROD, TEST, TRAIN, read_manifest, read_prepared
from data.preparation.prepare import prepare
from data.schema import FEATURES, TARGET
from data.simulation import synthetic
from monitor.retraining.policy import rolling_origins, split_by_time
from monitor.retraining.promotion_test import MIN_ROWS, evaluate_challenger
from monitor.store.labels import sort_by_time
from monitor.store.tables import TIME
from steps.retraining.config import RetrainingConfig
from steps.retraining.training_set import label_weights
from steps.shared.data_origin import print_synthetic_warning

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int_]

_HOLDOUT_SIZE = 0.5
_CHALLENGERS = 4
_ROWS = (500, 1_000, 2_700)
_TREE_DEPTH, _TREE_IMPURITY, _TREE_LEAF, _TREE_SPLIT = 3, 0.0005, 3, 9
_NOISE = 0.2


class PromotionBenchError(KobeShotError):
    """The tables have too few rows for the benchmark."""


class PromotionBenchConfig(CommandConfig):
    """Measure the promotion rates of worse, equal and better challengers."""

    seeds: int = Field(default=100, ge=1, description="trials of each case, each with its own samples and models")
    rows: tuple[Annotated[int, Field(ge=MIN_ROWS)], ...] = Field(
        default=_ROWS, description="sizes of the samples of hold-out rows"
    )
    source: Annotated[str, AfterValidator(lambda source: validate_source(source) if source else source)] = Field(
        default="", description="source of raw files, as in aquisicao; empty uses the tables of preparacao"
    )


@dataclass(frozen=True)
class Case:
    """A kind of challenger.

    Attributes
    ----------
    name : str
    description : str
        Training data of the challenger and the champion.
    min_share, max_share : float
        Goal for the share of promoted challengers.
    """

    name: str
    description: str
    min_share: float
    max_share: float

    @property
    def goal(self) -> str:
        """Describe the goal."""
        if self.min_share:
            return f"at least {self.min_share:.0%}"
        return f"at most {self.max_share:.0%}" if self.max_share else "never"


WORSE = Case(
    "worse: shuffled labels", "the challenger is trained on shuffled labels, the champion on the true labels", 0, 0
)
RESAMPLED = Case("equal: twins", "both are trained on bootstrap samples of the same rows", 0, 0.05)
NOISY = Case("equal: noise", f"both predict the same P(made) with normal noise of {_NOISE:g} on its log-odds", 0, 0.05)
BETTER = Case(
    "better: new labels",
    "the challenger is trained on dev rows and training labels, the champion is the tree of dev",
    0.95,
    1,
)
RECOVERED = Case(
    "better: true labels",
    "the challenger is trained on dev rows, the champion on the same rows with shuffled labels",
    0.95,
    1,
)
UNCHANGED = Case(
    "equal: nothing changed",
    f"the labels are dev rows in random order; at most {_CHALLENGERS} challengers, each trained, compared and followed "
    "by the next as in retreino; promoted is one of them",
    0,
    0.05,
)
CASES = (WORSE, RESAMPLED, NOISY, UNCHANGED, BETTER, RECOVERED)


class Trial(NamedTuple):
    """Result of the promotion test of one challenger.

    Attributes
    ----------
    rows : int
        Number of rows of the comparison; of the labels where the comparisons are from several origins.
    difference : float
        Difference of the mean log losses, challenger minus champion.
    failed : tuple of str
        Names of the failed criteria; empty if the challenger was promoted.
    """

    rows: int
    difference: float
    failed: tuple[str, ...]


@dataclass(frozen=True)
class TrainingSet:
    """A training set.

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
        """Create the training set of a table, with weights of 1 by default."""
        each = np.ones(len(table)) if weights is None else weights
        return cls(table[list(FEATURES)].to_numpy(dtype=float), table[TARGET].to_numpy(dtype=float), each)

    def table(self) -> pd.DataFrame:
        """Convert to a table of the features and the label."""
        return pd.DataFrame(self.features, columns=list(FEATURES)).assign(**{TARGET: self.labels})

    @property
    def base_rate(self) -> float:
        """P(made) of the base-rate baseline."""
        return float(np.average(self.labels, weights=self.weights))

    def shuffled(self, stream: np.random.Generator) -> "TrainingSet":
        """Permute the labels."""
        return TrainingSet(self.features, stream.permutation(self.labels), self.weights)

    def resampled(self, stream: np.random.Generator) -> "TrainingSet":
        """Draw a bootstrap sample."""
        rows = stream.integers(len(self.labels), size=len(self.labels))
        return TrainingSet(self.features[rows], self.labels[rows], self.weights[rows])


@dataclass(frozen=True)
class BenchData:
    """Training sets and hold-out rows, and the predictions of models that are the same in every trial.

    Attributes
    ----------
    development, with_labels : TrainingSet
        Dev rows; dev rows and the training labels of prod, with the sample weights of ``retreino``.
    test, holdout : pandas.DataFrame
        Dev test rows and the temporal hold-out of prod; no model is trained on them.
    tree, regression : ndarray of float64, shape (n,)
        P(made) of the hold-out rows by dev's tree, and by a logistic regression on `with_labels`.
    recovered : ndarray of float64, shape (m,)
        P(made) of the test rows by a logistic regression on `development`.
    """

    development: TrainingSet
    with_labels: TrainingSet
    test: pd.DataFrame
    holdout: pd.DataFrame
    tree: Floats
    regression: Floats
    recovered: Floats

    @classmethod
    def of(cls, development: pd.DataFrame, test: pd.DataFrame, prod: pd.DataFrame) -> Self:
        """Split the labels of prod by time and fit the models that are the same in every trial.

        Raises
        ------
        ArrivalError
            If prod has no dates.
        LoopBenchError
            If prod has too few labels.
        """
        loop = RetrainingConfig()
        labels = sort_by_time(prod[prod[TARGET].notna()], PROD).tail(loop.max_labels)
        to_train, holdout = split_by_time(labels, _HOLDOUT_SIZE)
        if min(len(to_train), len(holdout)) < MIN_ROWS:
            message = (
                f"expected {MIN_ROWS} training labels of prod and {MIN_ROWS} hold-out labels; "
                f"found {len(to_train):,} and {len(holdout):,}"
            )
            raise PromotionBenchError(message)
        columns = [*FEATURES, TARGET]
        _, weights = label_weights(len(development), len(to_train), loop.weighting)
        dev_only = TrainingSet.of(development)
        both = TrainingSet.of(pd.concat([development[columns], to_train[columns]], ignore_index=True), weights)
        return cls(
            dev_only,
            both,
            test.reset_index(drop=True),
            holdout.reset_index(drop=True),
            made(fitted(tree(), dev_only), holdout),
            made(fitted(regression(), both), holdout),
            made(fitted(regression(), dev_only), test),
        )


def regression() -> Pipeline:
    """Logistic regression as ``models=lr`` trains it."""
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000))


def tree() -> Pipeline:
    """The decision tree that ``main`` selects on the public files."""
    estimator = DecisionTreeClassifier(
        max_depth=_TREE_DEPTH,
        min_impurity_decrease=_TREE_IMPURITY,
        min_samples_leaf=_TREE_LEAF,
        min_samples_split=_TREE_SPLIT,
        random_state=42,
    )
    return make_pipeline(StandardScaler(), estimator)


def fitted(pipeline: Pipeline, training_set: TrainingSet) -> Pipeline:
    """Fit a pipeline on a training set."""
    weights = {f"{pipeline.steps[-1][0]}__sample_weight": training_set.weights}
    return pipeline.fit(training_set.features, training_set.labels, **weights)


def made(pipeline: Pipeline, rows: pd.DataFrame) -> Floats:
    """Predict P(made) of rows."""
    return np.asarray(pipeline.predict_proba(rows[list(FEATURES)].to_numpy(dtype=float))[:, 1])


def noisy(probability: Floats, stream: np.random.Generator) -> Floats:
    """Add normal noise to the log-odds of P(made).

    Examples
    --------
    >>> noisy(np.array([0.5, 0.5]), np.random.default_rng(0)).round(3).tolist()
    [0.506, 0.493]
    """
    odds = probability / (1 - probability) * np.exp(stream.normal(0, _NOISE, len(probability)))
    shifted: Floats = odds / (1 + odds)
    return shifted


def trials(seed: int, data: BenchData, rows: Sequence[int]) -> list[tuple[Case, Trial]]:
    """Run every case once with each sample size.

    Parameters
    ----------
    seed : int
        Seed of the samples, permutations and noise.
    data : BenchData
    rows : sequence of int
        Sizes of the samples of hold-out rows: without replacement for equal models, otherwise with replacement.
    """
    stream = np.random.default_rng(seed)
    return [
        *_on_holdout(seed, stream, data, rows),
        *_on_test_rows(seed, stream, data),
        *_on_rolling_origins(seed, stream, data),
    ]


def _on_holdout(
    seed: int, stream: np.random.Generator, data: BenchData, rows: Sequence[int]
) -> Iterator[tuple[Case, Trial]]:
    holdout, prior = data.holdout, data.with_labels.base_rate
    shuffled = made(fitted(regression(), data.with_labels.shuffled(stream)), holdout)
    twins = [made(fitted(regression(), data.with_labels.resampled(stream)), holdout) for _ in range(2)]
    noise = [noisy(data.regression, stream) for _ in range(2)]
    for number in rows:
        # A duplicate row would count the random advantage of one of two equal models twice.
        sampled = stream.choice(len(holdout), number, replace=False)
        yield RESAMPLED, _run_test(holdout, sampled, twins[0], twins[1], prior, seed)
        yield NOISY, _run_test(holdout, sampled, noise[0], noise[1], prior, seed)
        drawn = stream.integers(len(holdout), size=number)
        yield WORSE, _run_test(holdout, drawn, shuffled, data.regression, prior, seed)
        yield BETTER, _run_test(holdout, drawn, data.regression, data.tree, prior, seed)


def _on_test_rows(seed: int, stream: np.random.Generator, data: BenchData) -> Iterator[tuple[Case, Trial]]:
    shuffled = made(fitted(regression(), data.development.shuffled(stream)), data.test)
    drawn = stream.integers(len(data.test), size=len(data.test))
    yield RECOVERED, _run_test(data.test, drawn, data.recovered, shuffled, data.development.base_rate, seed)


def _on_rolling_origins(seed: int, stream: np.random.Generator, data: BenchData) -> Iterator[tuple[Case, Trial]]:
    config = RetrainingConfig()
    model = (tree, regression)[seed % 2]
    rows = data.development.table().iloc[stream.permutation(len(data.development.labels))].reset_index(drop=True)
    # Each challenger needs twice as many new labels as the one before it.
    decisions = [config.min_new_labels * (2 ** (number + 1) - 1) for number in range(_CHALLENGERS)]
    labels, development = rows.head(decisions[-1]), rows.tail(-decisions[-1])
    labels = labels.assign(**{TIME: pd.date_range("2000-01-01", periods=len(labels), freq="min")})
    champion = made(fitted(model(), TrainingSet.of(development)), labels)
    for number in decisions:
        origins = rolling_origins(labels.head(number), config.holdout_size, config.n_origins, TARGET)
        challenger, base_rate = [], []
        for origin in origins:
            _, weights = label_weights(len(development), len(origin.train), config.weighting)
            training_set = TrainingSet.of(pd.concat([development, origin.train], ignore_index=True), weights)
            challenger.append(made(fitted(model(), training_set), origin.test))
            base_rate.append(np.full(len(origin.test), training_set.base_rate))
        compared = pd.concat([origin.test for origin in origins])
        trial = _run_test(
            compared,
            np.arange(len(compared)),
            np.concatenate(challenger),
            champion[compared.index],
            np.concatenate(base_rate),
            seed,
            held_out=np.arange(len(compared)) >= len(compared) - len(origins[-1].test),
        )
        if not trial.failed:
            break
    yield UNCHANGED, trial._replace(rows=len(labels))


def _run_test(  # noqa: PLR0913, PLR0917 rows, three models and a seed
    table: pd.DataFrame,
    drawn: Ints,
    challenger: Floats,
    champion: Floats,
    prior: float | Floats,
    seed: int,
    held_out: npt.NDArray[np.bool_] | None = None,
) -> Trial:
    rows = table.iloc[drawn].reset_index(drop=True)
    found = evaluate_challenger(
        rows,
        challenger[drawn],
        champion[drawn],
        np.broadcast_to(prior, len(rows)),
        dataset=default(),
        champion_name="the champion",
        held_out=held_out,
        seed=seed,
    )
    own = () if held_out is None or held_out.all() else ("temporal hold-out",)
    rules = ("champion", "minimum improvement", "both classes", "maximum", "base rate", "constant", *own)
    kinds = (*rules, *("slice" for _ in found.criteria[len(rules) :]))
    failed = {kind for kind, each in zip(kinds, found.criteria, strict=True) if not each.passed}
    return Trial(len(rows), found.criteria[0].difference.value, tuple(sorted(failed)))


def run(config: PromotionBenchConfig) -> None:
    """Measure and print."""
    data, provenance = _load(config.source)
    print_synthetic_warning(synthetic=provenance.is_synthetic)
    info("Shots:", f"{provenance.kind}, {provenance.location}")
    development, both = (len(training_set.labels) for training_set in (data.development, data.with_labels))
    info("Trained on:", f"{development:,} dev rows and {both - development:,} training labels of prod")
    info(
        "Tested on:",
        f"samples of {len(data.holdout):,} hold-out labels of prod, and of {len(data.test):,} dev test rows",
    )
    numbers = [number for number in config.rows if number <= len(data.holdout)]
    if not numbers:
        message = f"expected rows of at most {len(data.holdout):,}, the hold-out labels; found {config.rows}"
        raise PromotionBenchError(message)
    for number in set(config.rows) - set(numbers):
        info("Skipped:", f"{number:,} rows, which exceed the hold-out labels", style="bold yellow")
    with processes() as pool:
        found = run_trials(pool, partial(trials, data=data, rows=numbers), range(config.seeds), "seeds")
    _print([trial for each in found for trial in each], config.seeds)


def _load(source: str) -> tuple[BenchData, Provenance]:
    if not source:
        manifest = read_manifest()
        return BenchData.of(*(read_prepared(manifest, name) for name in (TRAIN, TEST, PROD))), manifest.provenance
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder)
        provenance = acquire(source, rows=synthetic.PUBLIC_ROWS, seed=PreparationParams().seed, raw=raw)
        with duckdb_engine(raw) as engine:
            prepare(engine, raw, raw, PreparationParams())
        tables = [pd.read_parquet(raw / f"{name}.parquet") for name in (TRAIN, TEST, PROD)]
    return BenchData.of(*tables), provenance


def _print(found: Sequence[tuple[Case, Trial]], seeds: int) -> None:
    table = Table("challenger", "rows", f"promoted of {seeds:,}", "goal", "difference", "rejected by")
    for case in CASES:
        of_case = [trial for each, trial in found if each == case]
        for rows in sorted({trial.rows for trial in of_case}):
            table.add_row(case.name, f"{rows:,}", *_cells(case, [trial for trial in of_case if trial.rows == rows]))
    console.print(table)
    for case in CASES:
        info(f"{case.name}:", case.description)
    info("Difference:", "of log losses, challenger minus champion, mean ± standard deviation over the trials")
    info(
        "Rejected by:",
        "champion (improvement not statistically significant), minimum improvement, maximum, base rate or a slice; "
        "several criteria may reject one challenger",
    )


def _cells(case: Case, found: Sequence[Trial]) -> Iterator[str]:
    promoted = sum(not trial.failed for trial in found)
    against = Counter(name for trial in found for name in trial.failed)
    differences = [trial.difference for trial in found]
    yield f"{promoted:,}, {share(promoted, len(found), '.0%')}"
    yield f"{case.goal}: {met(promoted / len(found), case.min_share, case.max_share)}"
    yield f"{np.mean(differences):+.4f} ± {np.std(differences):.4f}"
    yield ", ".join(f"{name} {count:,}" for name, count in against.most_common()) or "-"


if __name__ == "__main__":
    run_command(PromotionBenchConfig, run)
