"""The plots that the report draws from the metrics and tables of its runs."""

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from sklearn.inspection import permutation_importance
from sklearn.pipeline import Pipeline
from sklearn.tree import DecisionTreeClassifier, plot_tree

from data.datasets import Dataset, current, default, worded_in_portuguese
from monitor.charts import static
from monitor.charts.palette import CURRENT, MADE, MISSED, NEUTRAL, REFERENCE
from monitor.reports import split_sensitivity
from monitor.reports.pipeline import model_inputs
from monitor.reports.split_sensitivity import DOUBLE, GAME, HALF, ROWS, TIME, UNSTRATIFIED, USED
from serving.model.packaging import encoder_of

SPLITS = {
    USED: "como a original",
    HALF: "metade do teste",
    DOUBLE: "dobro do teste",
    UNSTRATIFIED: "sem estratificar",
    GAME: "por jogo",
    ROWS: "por registro",
    TIME: "por tempo",
}
"""Kinds of splits, with their labels."""

_MEASURES = {"log_loss": "log loss", "f1_score": "F1", split_sensitivity.SHARE: "proporção de cestas no teste"}
_BRAZILIAN = FuncFormatter(lambda value, _: f"{value:g}".replace(".", ","))
_COLORS = (MISSED, MADE, REFERENCE, CURRENT)


def split_label(kind: str) -> str:
    """Label of a kind of splits: games are groups without a court, and a test by time is not drawn again."""
    dataset = current()
    if kind == USED and dataset.test.strategy == "time":
        return "sorteada"
    return SPLITS[kind] if kind != GAME or dataset.court is not None else "por grupo"


def resplits(studied: pd.DataFrame) -> Figure:
    """Plot the metrics of each model on each split, and the positive rate of the test rows, by kind of split.

    Parameters
    ----------
    studied : pandas.DataFrame
        Result of `monitor.reports.split_sensitivity.study`.
    """
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    kinds = [kind for kind in SPLITS if kind in set(studied["split"])]
    models = list(dict.fromkeys(studied["model_id"]))
    for axes, (measure, title) in zip(figure.subplots(1, len(_MEASURES)), _MEASURES.items(), strict=True):
        of_split = measure == split_sensitivity.SHARE
        for place, model in enumerate(models[:1] if of_split else models):
            offset = 0.0 if of_split else (place - (len(models) - 1) / 2) * 0.22
            for row, kind in enumerate(kinds):
                values = studied[(studied["split"] == kind) & (studied["model_id"] == model)][measure]
                heights = row + offset + np.linspace(-0.06, 0.06, len(values))
                color = NEUTRAL if of_split else _COLORS[place % len(_COLORS)]
                label = None if row or of_split else model
                axes.scatter(values, heights, s=20, color=color, alpha=0.75, linewidths=0, label=label)
        axes.set_yticks(range(len(kinds)), [split_label(kind) for kind in kinds] if measure == "log_loss" else [])
        axes.set(xlabel=worded_in_portuguese(title), ylim=(len(kinds) - 0.5, -0.5))
        axes.locator_params(axis="x", nbins=5)
        axes.xaxis.set_major_formatter(_BRAZILIAN)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), frameon=False)
    figure.suptitle("Cada ponto é uma divisão com outra semente", x=0.01, ha="left", fontsize=11)
    return figure


def drift(statistics: Sequence[Mapping[str, Any]]) -> Figure:
    """Plot the distance of each feature as a multiple of its threshold, by statistic.

    Parameters
    ----------
    statistics : sequence of mapping
        ``feature``, ``statistic``, ``value`` and ``threshold``.
    """
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    axes = figure.subplots()
    features = list(dict.fromkeys(str(row["feature"]) for row in statistics))
    for place, name in enumerate(("psi", "ks")):
        times = {
            str(row["feature"]): row["value"] / row["threshold"]
            for row in statistics
            if row["statistic"] == name and row["threshold"] and row["value"]
        }
        rows = [features.index(feature) + (place - 0.5) * 0.36 for feature in times]
        axes.barh(rows, list(times.values()), height=0.34, color=_COLORS[place], label=name.upper())
    axes.axvline(1, color=NEUTRAL, linestyle=":", linewidth=1.5, label="limite")
    axes.set_yticks(range(len(features)), features)
    axes.set(xscale="log", xlabel="múltiplo do limite (escala logarítmica)", ylim=(len(features) - 0.4, -0.6))
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_formatter(_BRAZILIAN)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=3, frameon=False)
    return figure


def distributions(samples: dict[str, pd.DataFrame]) -> Figure:
    """Plot the share of rows by value of each feature.

    Parameters
    ----------
    samples : dict of str to pandas.DataFrame
        Training, test and production rows, by their labels.
    """
    figure = static.densities(samples, current().feature_names)
    for axes in figure.axes:
        axes.set_ylabel("registros, %")
        if not axes.has_data():
            axes.set_axis_off()
    return figure


def _outcomes() -> list[str]:
    """The outcomes 0 and 1 in Portuguese, or in the words of another dataset."""
    dataset = current()
    return ["erro", "cesta"] if dataset.rows == default().rows else [dataset.negative, dataset.positive]


def is_tree(model: Pipeline) -> bool:
    """Whether a model is a decision tree."""
    return isinstance(model[-1], DecisionTreeClassifier)


def tree(model: Pipeline, dataset: Dataset, depth: int = 3) -> Figure:
    """Draw the first levels of a decision tree, see `is_tree`, in the units of the features."""
    drawn, inputs = copy.deepcopy(model[-1]), model_inputs.of(model, dataset)
    nodes = drawn.tree_
    splits = np.flatnonzero(nodes.feature >= 0)
    features = nodes.feature[splits]
    # The tree splits standardized values.
    nodes.threshold[splits] = nodes.threshold[splits] * inputs.scale[features] + inputs.mean[features]
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    # scikit-learn measures the boxes with a renderer.
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    boxes = plot_tree(
        drawn, max_depth=depth, feature_names=list(inputs.names), class_names=_outcomes(),
        impurity=False, proportion=True, rounded=True, filled=True, precision=2, fontsize=7, ax=axes,
    )  # fmt: skip
    for box in boxes:
        box.set_text(_node_text(box.get_text()))
    return _titled(figure, "Primeiros níveis da árvore")


def _node_text(text: str) -> str:
    """The text of a box in Portuguese; a short one, since the boxes of a level are close to each other."""
    text = re.sub(r"samples = ([\d.]+%)", r"\1 dos registros", text).replace("class =", "predição:")
    text = re.sub(
        r"value = \[[\d.]+, ([\d.]+)\]", lambda found: f"{worded_in_portuguese('cestas')}: {float(found[1]):.0%}", text
    )
    return re.sub(r"(?<=\d)\.(?=\d)", ",", text).replace("<=", "≤").replace("True", "sim").replace("False", "não")


def importances(model: Pipeline, table: pd.DataFrame, dataset: Dataset) -> Figure:
    """Plot the permutation importance of each feature: the increase of the log loss when its values are shuffled.

    Parameters
    ----------
    model : sklearn.pipeline.Pipeline
    table : pandas.DataFrame
        The features and the target of test rows.
    dataset : Dataset
        The description of the version, with its categories.
    """
    encoder = encoder_of(dataset)
    names = encoder.input_names
    found = permutation_importance(
        model, encoder.inputs(table), table[dataset.target.name].to_numpy(dtype=float),
        scoring="neg_log_loss", n_repeats=5, random_state=0,
    )  # fmt: skip
    order = np.argsort(found.importances_mean)
    figure = Figure(figsize=(8, max(3.0, 0.3 * len(names))), layout="constrained")
    axes = figure.subplots()
    axes.barh(
        [names[place] for place in order], found.importances_mean[order], xerr=found.importances_std[order],
        color=MISSED, ecolor=NEUTRAL, height=0.6,
    )  # fmt: skip
    axes.set(xlabel="aumento da log loss no teste quando a variável é embaralhada")
    axes.xaxis.set_major_formatter(_BRAZILIAN)
    axes.spines[["top", "right"]].set_visible(False)
    return _titled(figure, "Importância por permutação")


def _titled(figure: Figure, title: str) -> Figure:
    axes = figure.axes[0]
    axes.spines[["top", "right"]].set_visible(False)
    if axes.xaxis.get_major_formatter().__class__.__name__ == "ScalarFormatter":
        axes.xaxis.set_major_formatter(_BRAZILIAN)
        axes.yaxis.set_major_formatter(_BRAZILIAN)
    axes.set_title(title, loc="left")
    return figure
