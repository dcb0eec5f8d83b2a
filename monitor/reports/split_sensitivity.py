"""Sensitivity of the metrics to the split: the same models, trained and tested on other splits of the rows.

Their hyperparameters were tuned on the training rows of the original split, which contain most test rows of the other
splits. The results show the variation between splits and may be optimistic about the performance.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import clone
from sklearn.model_selection import GroupShuffleSplit, train_test_split
from sklearn.pipeline import Pipeline

from data.datasets import Dataset, current
from monitor.metrics.binary import METRICS, THRESHOLD
from monitor.reports.games import Games
from serving.model.packaging import encoder_of

COLUMNS = ("split", "stratified", "test_size", "seed", "model_id", "share_made_test", "log_loss", "f1_score", "roc_auc")
"""Columns of the result of `study`."""
MEASURES = ("log_loss", "f1_score", "roc_auc")
SHARE = "share_made_test"
USED, HALF, DOUBLE, UNSTRATIFIED = "used", "half", "double", "unstratified"
GAME, TIME, ROWS = "game", "time", "rows"
"""Kinds of splits: as the original one, with a smaller and a larger test set, without stratification, with whole groups
(games) on either side, with the latest rows as the test set, and of rows where the original one is of groups."""
STATISTICS = ("mean", "std", "min", "max")
MAX_ROWS = 50_000
"""Largest table that is split whole; a larger table is sampled."""

_LARGEST_TEST = 0.5


@dataclass(frozen=True)
class SplitScheme:
    """A kind of split."""

    name: str
    test_size: float
    stratified: bool = True
    by_group: bool = False


def split_schemes(test_size: float, *, has_games: bool = False, by_group: bool = False) -> tuple[SplitScheme, ...]:
    """List the kinds of splits, the original first; the doubled test set is excluded if it exceeds half of the rows.

    With games, the rows are also split by game and by time. If the original split is by group, so are the others, and
    the rows are also split as if they were independent.

    Examples
    --------
    >>> [(scheme.name, scheme.test_size) for scheme in split_schemes(0.2)]
    [('used', 0.2), ('half', 0.1), ('double', 0.4), ('unstratified', 0.2)]
    """
    sizes = {USED: test_size, HALF: test_size / 2, DOUBLE: 2 * test_size}
    schemes = [
        SplitScheme(name, size, stratified=not by_group, by_group=by_group)
        for name, size in sizes.items()
        if name != DOUBLE or size <= _LARGEST_TEST
    ]
    by_time = SplitScheme(TIME, test_size, stratified=False)
    if by_group:
        return (*schemes, SplitScheme(ROWS, test_size), by_time)
    schemes.append(SplitScheme(UNSTRATIFIED, test_size, stratified=False))
    of_games = SplitScheme(GAME, test_size, stratified=False, by_group=True)
    return (*schemes, of_games, by_time) if has_games else tuple(schemes)


def count_fits(test_size: float, seeds: int, models: int, *, has_games: bool = False, by_group: bool = False) -> int:
    """Count the fits of a study; there is one split by time."""
    schemes = split_schemes(test_size, has_games=has_games, by_group=by_group)
    return models * sum(1 if scheme.name == TIME else seeds for scheme in schemes)


def study(  # noqa: PLR0913 what is split, and how
    table: pd.DataFrame,
    models: Mapping[str, Pipeline],
    *,
    test_size: float,
    seeds: Sequence[int],
    games: Games | None = None,
    dataset: Dataset | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> pd.DataFrame:
    """Train and test models, with their hyperparameters, on other splits.

    Parameters
    ----------
    table : pandas.DataFrame
        The features and the label; no label is null.
    models : mapping of str to sklearn.pipeline.Pipeline
        Models by id; they are cloned, so that they are fitted from scratch.
    test_size : float
        Size of the test set of the original split, as a fraction of the rows.
    seeds : sequence of int
        Seeds of the splits: one split of each kind per seed, and one split by time.
    games : Games, optional
        Game, or another group, and date of each row, for the splits by group and by time. A dataset whose test is
        whole groups needs them.
    dataset : Dataset, optional
        The description that the models were trained with; by default that of this process.
    advance : callable
        Called with 1 after each fit.

    Returns
    -------
    pandas.DataFrame
        ``COLUMNS``, one row per kind of split, seed and model.
    """
    described = dataset or current()
    values = encoder_of(described).inputs(table)
    labels = table[described.target.name].to_numpy(dtype=np.float64)
    by_group = described.test.strategy == "group"
    results: list[dict[str, object]] = []
    for scheme in split_schemes(test_size, has_games=games is not None, by_group=by_group):
        for seed in seeds[:1] if scheme.name == TIME else seeds:
            train, test = _split(scheme, seed, labels, games)
            split = {"split": scheme.name, "stratified": scheme.stratified, "test_size": scheme.test_size, "seed": seed}
            for model_id, model in models.items():
                predicted = clone(model).fit(values[train], labels[train]).predict_proba(values[test])[:, 1]
                metrics = {name: METRICS[name].compute(labels[test], predicted, THRESHOLD) for name in MEASURES}
                results.append({**split, "model_id": model_id, SHARE: labels[test].mean(), **metrics})
                advance(1)
    return pd.DataFrame(results, columns=list(COLUMNS))


def _split(
    scheme: SplitScheme, seed: int, labels: npt.NDArray[np.float64], games: Games | None
) -> tuple[npt.NDArray[np.int_], npt.NDArray[np.int_]]:
    """Rows of the training and of the test set."""
    rows = np.arange(len(labels))
    if games is not None and scheme.by_group:
        splitter = GroupShuffleSplit(1, test_size=scheme.test_size, random_state=seed)
        train, test = next(splitter.split(rows, groups=games.game))
        return train, test
    if games is not None and scheme.name == TIME:
        # Rows of one day stay on one side.
        seconds = games.date.astype("datetime64[s]").astype(np.int64)
        is_later = seconds > np.quantile(seconds, 1 - scheme.test_size, method="lower")
        return rows[~is_later], rows[is_later]
    train, test = train_test_split(
        rows, test_size=scheme.test_size, random_state=seed, stratify=labels if scheme.stratified else None
    )
    return train, test


def metric_name(split: str, model_id: str, measure: str, statistic: str) -> str:
    """Name of a metric of `summary`.

    Examples
    --------
    >>> metric_name(USED, "lr", "log_loss", "mean"), metric_name(HALF, "lr", "log_loss", "std")
    ('resplit_lr_log_loss_mean', 'resplit_half_lr_log_loss_std')
    """
    kind = [] if split == USED else [split]
    return "_".join(["resplit", *kind, *([model_id] if model_id else []), measure, statistic])


def summary(studied: pd.DataFrame) -> dict[str, float]:
    """Compute mean, standard deviation, minimum and maximum over the seeds, by kind of split and model.

    The positive rate of the test rows is the same for all models. A single seed has no standard deviation.
    """
    found: dict[str, float] = {}
    for split, rows in studied.groupby("split", sort=False):
        shares = rows.drop_duplicates("seed")[SHARE]
        found |= {metric_name(str(split), "", SHARE, name): shares.agg(name) for name in STATISTICS}
        for model_id, of_model in rows.groupby("model_id", sort=False):
            for measure in MEASURES:
                for name in STATISTICS:
                    found[metric_name(str(split), str(model_id), measure, name)] = of_model[measure].agg(name)
    return {name: float(value) for name, value in found.items() if np.isfinite(value)}


def series(studied: pd.DataFrame) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield the metrics of the original kind of split, seed by seed: index of the seed, and metrics by name."""
    used = studied[studied["split"] == USED]
    for place, (_, rows) in enumerate(used.groupby("seed", sort=False)):
        yield (
            place,
            {
                f"split_{row['model_id']}_{measure}": float(row[measure])
                for row in rows.to_dict("records")
                for measure in MEASURES
            },
        )
