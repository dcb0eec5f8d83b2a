"""The pictures that the report draws itself, from what its runs hold."""

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
    USED: "como a usada",
    HALF: "metade do teste",
    DOUBLE: "dobro do teste",
    UNSTRATIFIED: "sem estratificar",
}
"""Kinds of splits, in words."""

_DOTS_PER_INCH = 130
_MEASURES = {"log_loss": "log loss", "f1_score": "F1", split_sensitivity.SHARE: "proporção de cestas no teste"}
_BRAZILIAN = FuncFormatter(lambda value, _: f"{value:g}".replace(".", ","))
_COLOURS = (MISSED, MADE, REFERENCE, CURRENT)


def png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DOTS_PER_INCH)
    return file.getvalue()


def spread(studied: pd.DataFrame) -> Figure:
    """Each model's figures on each split, and the share of made test rows, by kind of split.

    Parameters
    ----------
    studied : pandas.DataFrame
        As `monitor.reports.split_sensitivity.study` makes it.
    """
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    kinds = [kind for kind in SPLITS if kind in set(studied["split"])]
    models = list(dict.fromkeys(studied["model_id"]))
    for axes, (measure, words) in zip(figure.subplots(1, len(_MEASURES)), _MEASURES.items(), strict=True):
        of_split = measure == split_sensitivity.SHARE
        for place, model in enumerate(models[:1] if of_split else models):
            offset = 0.0 if of_split else (place - (len(models) - 1) / 2) * 0.22
            for row, kind in enumerate(kinds):
                chosen = studied[(studied["split"] == kind) & (studied["model_id"] == model)][measure]
                heights = row + offset + np.linspace(-0.06, 0.06, len(chosen))
                colour = NEUTRAL if of_split else _COLOURS[place % len(_COLOURS)]
                label = None if row or of_split else model
                axes.scatter(chosen, heights, s=20, color=colour, alpha=0.75, linewidths=0, label=label)
        axes.set_yticks(range(len(kinds)), [SPLITS[kind] for kind in kinds] if measure == "log_loss" else [])
        axes.set(xlabel=words, ylim=(len(kinds) - 0.5, -0.5))
        axes.locator_params(axis="x", nbins=5)
        axes.xaxis.set_major_formatter(_BRAZILIAN)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), frameon=False)
    figure.suptitle("Cada ponto é uma divisão com outra semente", x=0.01, ha="left", fontsize=11)
    return figure


def drift(statistics: Sequence[Mapping[str, Any]]) -> Figure:
    """How many times its limit the distance of each column is, by statistic.

    Parameters
    ----------
    statistics : sequence of mapping
        ``feature``, ``statistic``, ``value`` and ``limit``.
    """
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    axes = figure.subplots()
    features = list(dict.fromkeys(str(row["feature"]) for row in statistics))
    for place, name in enumerate(("psi", "ks")):
        times = {
            str(row["feature"]): row["value"] / row["limit"]
            for row in statistics
            if row["statistic"] == name and row["limit"] and row["value"]
        }
        rows = [features.index(feature) + (place - 0.5) * 0.36 for feature in times]
        axes.barh(rows, list(times.values()), height=0.34, color=_COLOURS[place], label=name.upper())
    axes.axvline(1, color=NEUTRAL, linestyle=":", linewidth=1.5, label="limite")
    axes.set_yticks(range(len(features)), features)
    axes.set(xscale="log", xlabel="quantas vezes o limite (escala logarítmica)", ylim=(len(features) - 0.4, -0.6))
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_formatter(_BRAZILIAN)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=3, frameon=False)
    return figure


def distributions(samples: dict[str, pd.DataFrame]) -> Figure:
    """Share of rows by value of each feature.

    Parameters
    ----------
    samples : dict of str to pandas.DataFrame
        Training, test and production rows, by what they are called.
    """
    figure = static.densities(samples, FEATURES)
    for axes in figure.axes:
        axes.set_ylabel("linhas, %")
        if not axes.has_data():
            axes.set_axis_off()
    return figure
