"""The plots that the report draws from the metrics and tables of its runs."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from data.schema import FEATURES
from monitor.charts import static
from monitor.charts.palette import CURRENT, MADE, MISSED, NEUTRAL, REFERENCE
from monitor.reports import split_sensitivity
from monitor.reports.split_sensitivity import DOUBLE, HALF, UNSTRATIFIED, USED

SPLITS = {
    USED: "como a original",
    HALF: "metade do teste",
    DOUBLE: "dobro do teste",
    UNSTRATIFIED: "sem estratificar",
}
"""Kinds of splits, with their labels."""

_DOTS_PER_INCH = 130
_MEASURES = {"log_loss": "log loss", "f1_score": "F1", split_sensitivity.SHARE: "proporção de cestas no teste"}
_BRAZILIAN = FuncFormatter(lambda value, _: f"{value:g}".replace(".", ","))
_COLORS = (MISSED, MADE, REFERENCE, CURRENT)


def png(figure: Figure) -> bytes:
    """Convert a figure to PNG."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DOTS_PER_INCH)
    return file.getvalue()


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
        axes.set_yticks(range(len(kinds)), [SPLITS[kind] for kind in kinds] if measure == "log_loss" else [])
        axes.set(xlabel=title, ylim=(len(kinds) - 0.5, -0.5))
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
    figure = static.densities(samples, FEATURES)
    for axes in figure.axes:
        axes.set_ylabel("registros, %")
        if not axes.has_data():
            axes.set_axis_off()
    return figure
