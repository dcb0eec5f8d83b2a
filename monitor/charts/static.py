"""Pictures of shots and of predictions, drawn with matplotlib for the runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from scipy import stats
from sklearn.metrics import ConfusionMatrixDisplay, PrecisionRecallDisplay, RocCurveDisplay

from data import court
from data.schema import FEATURES, PROBABILITY, TARGET, feature_column
from monitor.charts import palette
from monitor.charts.palette import CURRENT, MADE, MISSED, NEUTRAL, REFERENCE
from monitor.metrics.calibration import calibration_curve
from monitor.retraining.backtest import ALARM, PROMOTION, REFUSAL, STRATEGIES, TRAINING, running_mean

Floats = npt.NDArray[np.float64]

_SCALE = LinearSegmentedColormap.from_list("missed_made", [MISSED, "#F4F4F2", MADE])
_COURT_SIZE = (6.4, 6.4)
_CHART_SIZE = (5.6, 4.4)
_FEWEST_SHOTS = 10
_MOST_BARS = 60
_MARKS = {ALARM: ("x", 0.02), TRAINING: ("o", 0.07), PROMOTION: ("^", 0.12), REFUSAL: ("v", 0.12)}
"""Kinds of marks of a replay: their symbol, and how far above the lines they stand."""


def missing_values(raw: pd.DataFrame, title: str) -> Figure:
    """Bars of the share of missing values, for the columns that miss any."""
    share = raw.isna().mean().mul(100)
    share = share[share > 0].sort_values()
    figure, axes = _chart()
    if share.empty:
        axes.text(0.5, 0.5, "no value is missing", ha="center", va="center", transform=axes.transAxes, color=NEUTRAL)
        axes.set_axis_off()
    else:
        bars = axes.barh(share.index, share, color=MISSED, height=0.5)
        axes.bar_label(bars, fmt="%.1f %%", padding=4)
        axes.set(xlabel="rows without a value, %", xlim=(0, max(share.max() * 1.25, 1)), ylim=(-1, len(share)))
    axes.set_title(title, loc="left")
    return figure


def histograms(table: pd.DataFrame) -> Figure:
    """One histogram per feature, missed and made shots stacked.

    Parameters
    ----------
    table : pandas.DataFrame
        The features and ``shot_made_flag``, labelled rows only.
    """
    figure = Figure(figsize=(10.5, 6), layout="constrained")
    for axes, name in zip(figure.subplots(2, 3).flat, FEATURES, strict=True):
        column = feature_column(name)
        few = table[name].nunique() <= _MOST_BARS
        bins = np.arange(table[name].min() - 0.5, table[name].max() + 1.5) if few else 30
        values = [table.loc[table[TARGET] == label, name] for label in (0, 1)]
        axes.hist(values, bins=bins, stacked=True, color=[MISSED, MADE], label=["missed", "made"])
        axes.set(xlabel=f"{name}, {column.unit}" if column.unit else name, ylabel="shots")
        axes.ticklabel_format(axis="x", useOffset=False)
        axes.locator_params(axis="x", nbins=6, integer=few)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=2, frameon=False)
    figure.suptitle("Shots by feature and result", x=0.01, ha="left")
    return figure


def densities(samples: dict[str, pd.DataFrame], columns: Sequence[str]) -> Figure:
    """Share of rows by value of each column, the samples one over the other.

    Parameters
    ----------
    samples : dict of str to pandas.DataFrame
        Training, reference and current rows, in that order, by what they are called.
    columns : sequence of str
        Columns to draw; a sample that lacks one is left out of its picture.
    """
    rows = -(-len(columns) // 4)
    figure = Figure(figsize=(13, 2.9 * rows), layout="constrained")
    grid = figure.subplots(rows, 4, squeeze=False).flat
    colours = dict(zip(samples, (palette.TRAINING, REFERENCE, CURRENT), strict=False))
    for name, axes in zip(columns, grid, strict=False):
        values = {label: table[name].to_numpy(dtype=float) for label, table in samples.items() if name in table}
        every = np.concatenate(list(values.values()))
        few = len(np.unique(every)) <= _MOST_BARS
        bins = np.arange(every.min() - 0.5, every.max() + 1.5) if few and name != PROBABILITY else 40
        edges = np.histogram_bin_edges(every, bins)
        for label, sample in values.items():
            share = np.histogram(sample, edges)[0] / max(len(sample), 1) * 100
            axes.stairs(share, edges, color=colours[label], label=label, linewidth=1.6)
        unit = "" if name == PROBABILITY else feature_column(name).unit
        axes.set(xlabel=f"{name}, {unit}" if unit else name, ylabel="rows, %")
        axes.ticklabel_format(axis="x", useOffset=False)
        axes.locator_params(axis="x", nbins=5)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in list(grid):
        axes.set_axis_off()
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=3, frameon=False)
    return figure


def shot_map(table: pd.DataFrame) -> Figure:
    """Made and missed shots on the court."""
    figure, axes = _half_court("Shots by result")
    x, y = court.to_feet(table["lat"], table["lng"])
    jitter = np.random.default_rng(0).uniform(-0.25, 0.25, (2, len(table)))
    for label, colour, name in ((0, MISSED, "missed"), (1, MADE, "made")):
        rows = (table[TARGET] == label).to_numpy()
        axes.scatter(
            x[rows] + jitter[0, rows],
            y[rows] + jitter[1, rows],
            s=3,
            color=colour,
            alpha=0.5,
            linewidths=0,
            label=f"{name} ({rows.sum():,})",
            rasterized=True,
        )
    axes.legend(loc="upper right", markerscale=4, framealpha=0.9)
    return figure


def rate_by_zone(table: pd.DataFrame) -> Figure:
    """Share of made shots by zone, with the number of shots and the 95 % interval of a share."""
    x, y = court.to_feet(table["lat"], table["lng"])
    return _rates(table[TARGET], court.zones(x, y).basic, "Share made by zone", horizontal=True)


def rate_by_distance(table: pd.DataFrame) -> Figure:
    """Share of made shots by whole feet from the hoop, with the 95 % interval of a share."""
    return _rates(
        table[TARGET], np.floor(table["shot_distance"].to_numpy()), "Share made by distance", horizontal=False
    )


def prediction_map(table: pd.DataFrame, probability: npt.ArrayLike, title: str) -> Figure:
    """Mean P(made) on the court, in hexagons of about two feet.

    Parameters
    ----------
    table : pandas.DataFrame
        lat and lng of each shot, degrees.
    probability : array_like of float, shape (n,)
        P(made) of each shot.
    title : str
        Heading of the picture.
    """
    figure, axes = _half_court(title)
    x, y = court.to_feet(table["lat"], table["lng"])
    made = np.asarray(probability, dtype=float)
    hexagons = axes.hexbin(
        x, y, C=made, reduce_C_function=np.mean, gridsize=(26, 14), extent=(-25, 25, -5.25, 41.75), cmap=_SCALE,
        vmin=0.2, vmax=0.7, mincnt=1, linewidths=0.3, edgecolors="white", zorder=1,
    )  # fmt: skip
    figure.colorbar(hexagons, ax=axes, shrink=0.6, label="P(made)", extend="both")
    beyond = int((y > court.MID_COURT_Y).sum())
    if beyond:
        note = f"{beyond:,} shots from beyond mid-court not drawn"
        axes.text(0, 0, note, ha="left", va="top", fontsize=8, color=NEUTRAL, transform=axes.transAxes)
    return figure


def confusion_matrix(labels: Floats, predicted: Floats, title: str) -> Figure:
    """Counts of missed and made against predicted missed and made."""
    figure, axes = _chart()
    ConfusionMatrixDisplay.from_predictions(
        labels, predicted, labels=[0, 1], display_labels=["missed", "made"], cmap="Blues", colorbar=False, ax=axes
    )
    axes.set_title(title, loc="left")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return figure


def roc(labels: Floats, probability: Floats, title: str) -> Figure:
    """Receiver operating characteristic."""
    figure, axes = _chart()
    RocCurveDisplay.from_predictions(labels, probability, ax=axes, color=MISSED, plot_chance_level=True)
    axes.set_title(title, loc="left")
    return figure


def precision_recall(labels: Floats, probability: Floats, title: str) -> Figure:
    """Precision against recall."""
    figure, axes = _chart()
    PrecisionRecallDisplay.from_predictions(labels, probability, ax=axes, color=MISSED, plot_chance_level=True)
    axes.set_title(title, loc="left")
    return figure


def calibration(labels: Floats, probability: Floats, title: str) -> Figure:
    """Share made against P(made) in the bins of the calibration error, over the histogram of P(made)."""
    figure, axes = _chart()
    bins = calibration_curve(labels, probability)
    axes.plot([0, 1], [0, 1], color=NEUTRAL, linestyle=":", label="perfect")
    axes.plot(bins["predicted"], bins["made"], color=MISSED, marker="o", label="model")
    axes.set(xlabel="mean P(made)", ylabel="share made", xlim=(0, 1), ylim=(0, 1), aspect="auto")
    axes.legend(loc="upper left", frameon=False)
    counts = axes.twinx()
    counts.hist(probability, bins=np.linspace(0, 1, 41), color=NEUTRAL, alpha=0.3)
    counts.set_yticks([])
    counts.set_ylim(top=counts.get_ylim()[1] * 4)
    counts.spines[:].set_visible(False)
    axes.set_title(title, loc="left")
    return figure


def replayed(record: Mapping[str, Any]) -> Figure:
    """Loss over time of a replayed operation, with marks for alarms, trainings and promotions.

    Parameters
    ----------
    record : mapping
        As `monitor.retraining.backtest.Replay.record` makes it.
    """
    figure = Figure(figsize=(11, 7), layout="constrained")
    single, running = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    batches = record["batches"]
    places = [batch["number"] for batch in batches]
    for name, words in STRATEGIES.items():
        colour = palette.STRATEGY[name]
        found = record["figures"][name]
        label = f"{words}: {found['log_loss']:.4f}, trainings: {found['trainings']}"
        losses = [float("nan") if batch[name] is None else batch[name] for batch in batches]
        single.plot(places, losses, color=colour, marker="o", markersize=4, label=label)
        means = [float("nan") if mean is None else mean for mean in running_mean(batches, name)]
        running.plot(places, means, color=colour)
    top = single.get_ylim()[1]
    for kind, (marker, height) in _MARKS.items():
        marked = [mark["batch"] for mark in record["marks"] if mark["kind"] == kind]
        offset = (single.get_ylim()[1] - single.get_ylim()[0]) * height
        single.scatter(marked, [top + offset] * len(marked), marker=marker, color="black", s=36, label=kind)
    for mark in record["marks"]:
        if mark["kind"] == PROMOTION:
            for axes in (single, running):
                axes.axvline(mark["batch"] + 0.5, color=NEUTRAL, linestyle=":", linewidth=1)
    single.set(
        ylabel="log loss of the batch (nats)", title=f"A replayed operation, {record['batch_size']:,} shots a batch"
    )
    figure.legend(*single.get_legend_handles_labels(), fontsize=8, ncols=4, loc="outside lower center")
    running.set(ylabel="prequential log loss (nats)", xlabel="batch, ends on")
    running.set_xticks(places, [f"{batch['number']}\n{batch['until'][:7]}" for batch in batches], fontsize=8)
    return figure


def _rates(results: "pd.Series[float]", by: npt.NDArray[np.generic], title: str, *, horizontal: bool) -> Figure:
    rates = results.groupby(by).agg(["mean", "size", "sum"])
    few = rates["size"] < _FEWEST_SHOTS
    rates, left_out = rates[~few], int(rates.loc[few, "size"].sum())
    if horizontal:
        rates = rates.sort_values("mean")
    share = rates["mean"].to_numpy() * 100
    ends = [
        stats.binomtest(int(made), size).proportion_ci(method="wilson")
        for made, size in rates[["sum", "size"]].to_numpy(int)
    ]
    error = np.abs(np.array([[end.low * 100, end.high * 100] for end in ends]).reshape(-1, 2).T - share)
    figure, axes = _chart()
    if horizontal:
        bars = axes.barh(rates.index.astype(str), share, xerr=error, color=MADE, ecolor=NEUTRAL, height=0.6)
        axes.bar_label(bars, [f"{size:,} shots" for size in rates["size"]], label_type="center", fontsize=8)
        axes.set(xlabel="made, %", xlim=(0, 100))
    else:
        axes.errorbar(rates.index, share, error, color=MADE, ecolor=NEUTRAL, marker="o", markersize=4)
        axes.set(xlabel="distance from the hoop, feet", ylabel="made, %", ylim=(0, 100))
    axes.set_title(title, loc="left")
    if left_out:
        note = f"groups of fewer than {_FEWEST_SHOTS} shots left out ({left_out} shots)"
        axes.text(1, 1, note, ha="right", va="bottom", fontsize=7, color=NEUTRAL, transform=axes.transAxes)
    return figure


def _chart() -> tuple[Figure, Axes]:
    figure = Figure(figsize=_CHART_SIZE, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _half_court(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_COURT_SIZE, layout="constrained")
    axes = figure.subplots()
    strokes = [np.column_stack(line) for line in court.court_lines()]
    axes.add_collection(LineCollection(strokes, colors="#374151", linewidths=1.1, zorder=2))
    axes.set(xlim=(-26, 26), ylim=(-6.25, 42.75), aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title(title, loc="left")
    return figure, axes
