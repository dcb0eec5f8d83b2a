"""How much the choice of the test rows matters: the same models, trained and tested on other splits of the rows.

Their hyperparameters were tuned on the training rows of the used split, which most of the other splits test on: the
figures tell how much a split matters, and may be optimistic about the models.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline

from data.schema import FEATURES, TARGET
from monitor.metrics.binary import METRICS, THRESHOLD

COLUMNS = ("split", "stratified", "test_size", "seed", "model_id", "share_made_test", "log_loss", "f1_score", "roc_auc")
"""Of the table of a study."""
MEASURES = ("log_loss", "f1_score", "roc_auc")
SHARE = "share_made_test"
USED, HALF, DOUBLE, UNSTRATIFIED = "used", "half", "double", "unstratified"
"""Kinds of splits: as the models' own, with a smaller and a larger test, and drawn without regard to the classes."""
STATISTICS = ("mean", "std", "min", "max")
MOST_ROWS = 50_000
"""Rows of the table that are split; of a larger one a sample is enough to see a spread."""

_LARGEST_TEST = 0.5


@dataclass(frozen=True)
class SplitScheme:
    """How rows are split."""

    name: str
    test_size: float
    stratified: bool = True


def ways(test_size: float) -> tuple[SplitScheme, ...]:
    """The kinds of splits of a study, the used one first; double the test is left out where it is more than half.

    Examples
    --------
    >>> [(way.name, way.test_size) for way in ways(0.2)]
    [('used', 0.2), ('half', 0.1), ('double', 0.4), ('unstratified', 0.2)]
    """
    double = (SplitScheme(DOUBLE, 2 * test_size),) if 2 * test_size <= _LARGEST_TEST else ()
    return (
        SplitScheme(USED, test_size),
        SplitScheme(HALF, test_size / 2),
        *double,
        SplitScheme(UNSTRATIFIED, test_size, stratified=False),
    )


def count_fits(test_size: float, seeds: int, models: int) -> int:
    """How many models a study fits."""
    return len(ways(test_size)) * seeds * models


def study(
    table: pd.DataFrame,
    models: Mapping[str, Pipeline],
    *,
    test_size: float,
    seeds: Sequence[int],
    advance: Callable[[int], None] = lambda _: None,
) -> pd.DataFrame:
    """Train and test models with their hyperparameters on other splits.

    Parameters
    ----------
    table : pandas.DataFrame
        The features and ``shot_made_flag``, no nulls.
    models : mapping of str to sklearn.pipeline.Pipeline
        By id; they are cloned, so that nothing of what they have learned is left.
    test_size : float
        Share of the rows that the models' own test has.
    seeds : sequence of int
        One split of each kind for each.
    advance : callable
        Called with 1 after each fit.

    Returns
    -------
    pandas.DataFrame
        ``COLUMNS``, a row for each kind of split, seed and model.
    """
    values, labels = table[list(FEATURES)].to_numpy(dtype=np.float64), table[TARGET].to_numpy(dtype=np.float64)
    found: list[dict[str, object]] = []
    for way in ways(test_size):
        for seed in seeds:
            train, test = train_test_split(
                np.arange(len(labels)),
                test_size=way.test_size,
                random_state=seed,
                stratify=labels if way.stratified else None,
            )
            described = {"split": way.name, "stratified": way.stratified, "test_size": way.test_size, "seed": seed}
            for model_id, model in models.items():
                made = clone(model).fit(values[train], labels[train]).predict_proba(values[test])[:, 1]
                measured = {name: METRICS[name].compute(labels[test], made, THRESHOLD) for name in MEASURES}
                found.append({**described, "model_id": model_id, SHARE: labels[test].mean(), **measured})
                advance(1)
    return pd.DataFrame(found, columns=list(COLUMNS))


def metric_name(split: str, model_id: str, measure: str, statistic: str) -> str:
    """Name of a figure of `summary`.

    Examples
    --------
    >>> metric_name(USED, "lr", "log_loss", "mean"), metric_name(HALF, "lr", "log_loss", "std")
    ('resplit_lr_log_loss_mean', 'resplit_half_lr_log_loss_std')
    """
    kind = [] if split == USED else [split]
    return "_".join(["resplit", *kind, *([model_id] if model_id else []), measure, statistic])


def summary(studied: pd.DataFrame) -> dict[str, float]:
    """Mean, standard deviation, minimum and maximum over the seeds, by kind of split and model.

    The share of made test rows is the same for all models. The deviation of a single seed is not defined and left out.
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
    """Figures of the used kind of split, one after the other: place of the seed, and each model's by name."""
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
