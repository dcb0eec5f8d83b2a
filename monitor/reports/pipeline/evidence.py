"""What the report measures itself, from the tables and models of its runs: metrics of its own run."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from data import court
from data.datasets import Dataset, current
from data.groups import groups_of
from monitor.metrics.binary import log_loss_by_row
from monitor.reports.pipeline import model_inputs
from serving.model.packaging import predict_probability
from serving.registry import gate

_SEED = 0


def compare_candidates(
    test: pd.DataFrame, models: Mapping[str, Pipeline], selected: str, dataset: Dataset | None = None
) -> dict[str, float]:
    """Compare the selected model with each other one, by the paired bootstrap of the log losses on the test rows.

    Returns
    -------
    dict of str to float
        ``compared_MODEL``, the mean difference (below zero the selected model is better), with ``_low`` and ``_high``.
    """
    if selected not in models:
        return {}
    labels = test[current().target.name].to_numpy(dtype=float)
    losses = {
        name: log_loss_by_row(labels, predict_probability(model, test, dataset)) for name, model in models.items()
    }
    found: dict[str, float] = {}
    groups = groups_of(test, dataset or current())
    for name in models:
        if name != selected:
            pair = gate.paired_bootstrap(losses[selected], losses[name], seed=_SEED, groups=groups)
            found |= {
                f"compared_{name}": pair.value,
                f"compared_{name}_low": pair.low,
                f"compared_{name}_high": pair.high,
            }
    return found


def describe_base(name: str, table: pd.DataFrame) -> dict[str, float]:
    """Summarize a base: rows, positive rate; of shots, distance, and the share from outside the three-point arc.

    Parameters
    ----------
    name : str
        Prefix of the metrics, such as ``base_dev``.
    table : pandas.DataFrame
        The features and ``shot_made_flag``, which may be null.
    """
    dataset = current()
    found = {"rows": float(len(table)), "rate": float(table[dataset.target.name].mean())}
    place = dataset.court
    if place is not None and {place.x, place.y, place.distance} <= set(table):
        distance = table[place.distance].to_numpy(dtype=float)
        is_outside_the_arc = court.is_three_pointer(*court.positions(table, place))
        found |= {
            "distance_mean": float(distance.mean()),
            "distance_low": float(np.quantile(distance, 0.05)),
            "distance_high": float(np.quantile(distance, 0.95)),
            "three_rate": float(is_outside_the_arc.mean()),
        }
    return {f"{name}_{key}": value for key, value in found.items() if np.isfinite(value)}


def coefficients(model: Pipeline, dataset: Dataset) -> tuple[tuple[str, float], ...]:
    """Coefficients of a linear model on standardized features, the largest first; empty for another model."""
    found = getattr(model[-1], "coef_", None)
    inputs = model_inputs.of(model, dataset)
    if found is None or np.shape(found) != (1, len(inputs.names)):
        return ()
    pairs = zip(inputs.names, np.ravel(found).tolist(), strict=True)
    return tuple(sorted(pairs, key=lambda pair: -abs(pair[1])))
