"""Figures of shots and predictions, with matplotlib, for the artifacts of runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from sklearn.metrics import ConfusionMatrixDisplay, PrecisionRecallDisplay, RocCurveDisplay

from data import court
from data.datasets import Dataset, current, worded
from data.schema import PROBABILITY
from monitor.charts import palette
from monitor.charts.palette import CURRENT, MADE, MISSED, NEUTRAL, REFERENCE
from monitor.metrics.calibration import calibration_curve
from monitor.metrics.rates import wilson
from monitor.retraining.backtest import ALARM, PROMOTION, REJECTION, STRATEGIES, TRAINING, running_mean

Floats = npt.NDArray[np.float64]

_SCALE = LinearSegmentedColormap.from_list("missed_made", [MISSED, "#F4F4F2", MADE])
_COLORS = (MISSED, MADE, REFERENCE, CURRENT)
_COURT_SIZE = (6.4, 6.4)
_CHART_SIZE = (5.6, 4.4)
_MIN_SHOTS = 10
_MAX_BARS = 60
_MAX_CATEGORIES, _NAME = 20, 18
_COLUMNS = 3
_EVENT_MARKERS = {ALARM: ("x", 0.02), TRAINING: ("o", 0.07), PROMOTION: ("^", 0.12), REJECTION: ("v", 0.12)}
"""Markers of the events of a policy backtest: symbol, and offset above the lines."""


def missing_values(raw: pd.DataFrame, title: str) -> Figure:
    """Bar chart of the share of missing values, of the columns that have any."""
    share = raw.isna().mean().mul(100)
    share = share[share > 0].sort_values()
    figure, axes = _chart()
    if share.empty:
        axes.text(0.5, 0.5, "no missing values", ha="center", va="center", transform=axes.transAxes, color=NEUTRAL)
        axes.set_axis_off()
    else:
        bars = axes.barh(share.index, share, color=MISSED, height=0.5)
        axes.bar_label(bars, fmt="%.1f%%", padding=4)
        axes.set(xlabel="missing values, %", xlim=(0, max(share.max() * 1.25, 1)), ylim=(-1, len(share)))
    axes.set_title(title, loc="left")
    return figure


def histograms(table: pd.DataFrame, dataset: Dataset | None = None) -> Figure:
    """One histogram per feature, stacked by class.

    Parameters
    ----------
    table : pandas.DataFrame
        The features and the label, labeled rows only.
    dataset : Dataset, optional
        By default that of this process.
    """
    dataset = dataset or current()
    target = dataset.target.name
    rows = -(-len(dataset.features) // _COLUMNS)
    figure = Figure(figsize=(10.5, 3 * rows), layout="constrained")
    grid = list(figure.subplots(rows, _COLUMNS, squeeze=False).flat)
    legend = None
    for axes, column in zip(grid, dataset.features, strict=False):
        cells = table[column.name]
        values = [cells[table[target] == label] for label in (0, 1)]
        labels = [dataset.negative, dataset.positive]
        if column.is_numeric:
            _stacked(axes, values, labels)
        else:
            counts = [_counts(each, column.kind) for each in values]
            _stacked_bars(axes, counts, labels)
        axes.set(xlabel=f"{column.name}, {column.unit}" if column.unit else column.name, ylabel=dataset.rows)
        axes.spines[["top", "right"]].set_visible(False)
        legend = axes.get_legend_handles_labels()
    for axes in grid[len(dataset.features) :]:
        axes.set_axis_off()
    if legend:
        figure.legend(*legend, loc="outside upper right", ncols=2, frameon=False)
    figure.suptitle(f"{dataset.rows.capitalize()} by feature and class", x=0.01, ha="left")
    return figure


def _stacked(axes: Axes, values: list["pd.Series[float]"], labels: list[str]) -> None:
    numbers = pd.concat(values).dropna()
    span = numbers.max() - numbers.min() if len(numbers) else 0
    is_discrete = numbers.nunique() <= _MAX_BARS and span <= _MAX_BARS
    bins = np.arange(numbers.min() - 0.5, numbers.max() + 1.5) if is_discrete and len(numbers) else 30
    cells = [each.dropna() for each in values]
    axes.hist(cells, bins=bins, stacked=True, color=[MISSED, MADE], label=labels)
    axes.ticklabel_format(axis="x", useOffset=False)
    axes.locator_params(axis="x", nbins=6, integer=is_discrete)


def _counts(cells: "pd.Series[str]", kind: str) -> "pd.Series[int]":
    """Rows by category; by year for dates."""
    return (cells.str[:4] if kind == "date" else cells).fillna("null").value_counts()


def _stacked_bars(axes: Axes, counts: list["pd.Series[int]"], labels: list[str]) -> None:
    total = counts[0].add(counts[1], fill_value=0).sort_values(ascending=False)
    shown = total.index[:_MAX_CATEGORIES]
    left = np.zeros(len(shown))
    for each, color, label in zip(counts, (MISSED, MADE), labels, strict=True):
        size = each.reindex(shown, fill_value=0).to_numpy(dtype=float)
        axes.bar(range(len(shown)), size, bottom=left, color=color, label=label)
        left += size
    axes.set_xticks(range(len(shown)), [str(name)[:_NAME] for name in shown], rotation=60, ha="right", fontsize=7)


def densities(samples: dict[str, pd.DataFrame], columns: Sequence[str], dataset: Dataset | None = None) -> Figure:
    """Distribution of each column by sample.

    Parameters
    ----------
    samples : dict of str to pandas.DataFrame
        Training, reference and current rows, in that order, by name.
    columns : sequence of str
        Columns to draw. A sample without a column is not in the plot of that column.
    dataset : Dataset, optional
        By default that of this process.
    """
    dataset = dataset or current()
    rows = -(-len(columns) // 4)
    figure = Figure(figsize=(13, 2.9 * rows), layout="constrained")
    grid = figure.subplots(rows, 4, squeeze=False).flat
    colors = dict(zip(samples, (palette.TRAINING, REFERENCE, CURRENT), strict=False))
    for name, axes in zip(columns, grid, strict=False):
        held = {label: table[name].dropna() for label, table in samples.items() if name in table}
        values = {label: each.to_numpy(dtype=float) for label, each in _numbers(held).items()}
        pooled = np.concatenate([*values.values(), np.zeros(0)])
        if not len(pooled):
            continue
        is_discrete = len(np.unique(pooled)) <= _MAX_BARS
        bins = np.arange(pooled.min() - 0.5, pooled.max() + 1.5) if is_discrete and name != PROBABILITY else 40
        edges = np.histogram_bin_edges(pooled, bins)
        for label, sample in values.items():
            share = np.histogram(sample, edges)[0] / max(len(sample), 1) * 100
            axes.stairs(share, edges, color=colors[label], label=label, linewidth=1.6)
        unit = "" if name == PROBABILITY else dataset.column(name).unit
        axes.set(xlabel=f"{name}, {unit}" if unit else name, ylabel="rows, %")
        if is_discrete and (names := _values(held)):
            axes.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=8)
        else:
            axes.ticklabel_format(axis="x", useOffset=False)
            axes.locator_params(axis="x", nbins=5)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in list(grid):
        axes.set_axis_off()
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=3, frameon=False)
    return figure


def shot_map(table: pd.DataFrame) -> Figure:
    """Shots on the court by class."""
    figure, axes = _half_court("Shots by class")
    target = current().target.name
    x, y = _places(table)
    jitter = np.random.default_rng(0).uniform(-0.25, 0.25, (2, len(table)))
    for label, color, name in ((0, MISSED, "missed"), (1, MADE, "made")):
        rows = (table[target] == label).to_numpy()
        axes.scatter(
            x[rows] + jitter[0, rows],
            y[rows] + jitter[1, rows],
            s=3,
            color=color,
            alpha=0.5,
            linewidths=0,
            label=f"{name} ({rows.sum():,})",
            rasterized=True,
        )
    axes.legend(loc="upper right", markerscale=4, framealpha=0.9)
    return figure


def rate_by_zone(table: pd.DataFrame) -> Figure:
    """FG% by zone, with the number of shots and 95% confidence intervals."""
    x, y = _places(table)
    return _rates(table[current().target.name], court.zones(x, y).basic, "FG% by zone", horizontal=True)


def rate_by_distance(table: pd.DataFrame) -> Figure:
    """FG% by distance in feet, with 95% confidence intervals."""
    place = current().court
    distance = table[place.distance].to_numpy() if place and place.distance else np.hypot(*_places(table))
    return _rates(table[current().target.name], np.floor(distance), "FG% by distance", horizontal=False)


def prediction_map(table: pd.DataFrame, probability: npt.ArrayLike, title: str) -> Figure:
    """Mean P(made) on the court, in hexagons of about two feet.

    Parameters
    ----------
    table : pandas.DataFrame
        The place of each shot.
    probability : array_like of float, shape (n,)
        P(made) of each shot.
    """
    figure, axes = _half_court(title)
    x, y = _places(table)
    values = np.asarray(probability, dtype=float)
    hexagons = axes.hexbin(
        x, y, C=values, reduce_C_function=np.mean, gridsize=(26, 14), extent=(-25, 25, -5.25, 41.75), cmap=_SCALE,
        vmin=0.2, vmax=0.7, mincnt=1, linewidths=0.3, edgecolors="white", zorder=1,
    )  # fmt: skip
    figure.colorbar(hexagons, ax=axes, shrink=0.6, label="P(made)", extend="both")
    far = int((y > court.MID_COURT_Y).sum())
    if far:
        note = f"{far:,} shots from the backcourt not drawn"
        axes.text(0, 0, note, ha="left", va="top", fontsize=8, color=NEUTRAL, transform=axes.transAxes)
    return figure


def confusion_matrices(labels: Floats, predicted: Mapping[str, Floats], threshold: float) -> Figure:
    """Confusion matrix of each model, by its name, on the same rows; see `roc`."""
    figure = Figure(figsize=(_CHART_SIZE[0] * len(predicted), _CHART_SIZE[1]), layout="constrained")
    for axes, (name, probability) in zip(
        figure.subplots(1, len(predicted), squeeze=False).flat, predicted.items(), strict=True
    ):
        display = ConfusionMatrixDisplay.from_predictions(
            labels,
            (probability >= threshold).astype(float),
            labels=[0, 1],
            display_labels=[current().negative, current().positive],
            cmap="Blues",
            colorbar=False,
            values_format="d",
            ax=axes,
        )
        for text in display.text_.flat:
            text.set_text(f"{int(text.get_text()):,} {current().rows}")
        axes.set_title(name, loc="left")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
    return figure


def roc(labels: Floats, predicted: Mapping[str, Floats], title: str) -> Figure:
    """ROC curve of each model on the same rows.

    Parameters
    ----------
    labels : ndarray of float64, shape (n,)
    predicted : mapping of str to ndarray of float64, shape (n,)
        P(made) by the name of the model, which the legend shows; at most four.
    title : str
    """
    figure, axes = _chart()
    axes.plot([0, 1], [0, 1], color=NEUTRAL, linestyle=":", label="chance")
    for color, (name, probability) in zip(_COLORS, predicted.items(), strict=False):
        RocCurveDisplay.from_predictions(labels, probability, ax=axes, name=name, color=color)
    axes.set_title(title, loc="left")
    return figure


def precision_recall(labels: Floats, probability: Floats, title: str) -> Figure:
    """Precision-recall curve."""
    figure, axes = _chart()
    PrecisionRecallDisplay.from_predictions(labels, probability, ax=axes, color=MISSED, plot_chance_level=True)
    axes.set_title(title, loc="left")
    return figure


def calibration(labels: Floats, probability: Floats, title: str) -> Figure:
    """Reliability diagram in the bins of the calibration error, over the histogram of P(made)."""
    figure, axes = _chart()
    bins = calibration_curve(labels, probability)
    axes.plot([0, 1], [0, 1], color=NEUTRAL, linestyle=":", label="perfectly calibrated")
    axes.plot(bins["predicted"], bins["made"], color=MISSED, marker="o", label="model")
    axes.set(xlabel=worded("mean P(made)"), ylabel=current().rate, xlim=(0, 1), ylim=(0, 1), aspect="auto")
    axes.legend(loc="upper left", frameon=False)
    counts = axes.twinx()
    counts.hist(probability, bins=np.linspace(0, 1, 41), color=NEUTRAL, alpha=0.3)
    counts.set_yticks([])
    counts.set_ylim(top=counts.get_ylim()[1] * 4)
    counts.spines[:].set_visible(False)
    axes.set_title(title, loc="left")
    return figure


def policy_backtest(record: Mapping[str, Any]) -> Figure:
    """Log loss by batch and strategy of a policy backtest, with its events.

    Parameters
    ----------
    record : mapping
        Record of a policy backtest, as written by `monitor.retraining.backtest`.
    """
    figure = Figure(figsize=(11, 7), layout="constrained")
    by_batch, prequential = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    batches = record["batches"]
    places = [batch["number"] for batch in batches]
    for name, label in STRATEGIES.items():
        color = palette.STRATEGY[name]
        found = record["strategies"][name]
        legend = f"{label}: {found['log_loss']:.4f}, trainings: {found['trainings']}"
        losses = [float("nan") if batch[name] is None else batch[name] for batch in batches]
        by_batch.plot(places, losses, color=color, marker="o", markersize=4, label=legend)
        means = [float("nan") if mean is None else mean for mean in running_mean(batches, name)]
        prequential.plot(places, means, color=color)
    top = by_batch.get_ylim()[1]
    for kind, (marker, height) in _EVENT_MARKERS.items():
        marked = [event["batch"] for event in record["events"] if event["kind"] == kind]
        offset = (by_batch.get_ylim()[1] - by_batch.get_ylim()[0]) * height
        by_batch.scatter(marked, [top + offset] * len(marked), marker=marker, color="black", s=36, label=kind)
    for event in record["events"]:
        if event["kind"] == PROMOTION:
            for axes in (by_batch, prequential):
                axes.axvline(event["batch"] + 0.5, color=NEUTRAL, linestyle=":", linewidth=1)
    by_batch.set(
        ylabel="log loss of the batch", title=f"Policy backtest, {record['batch_size']:,} {current().rows} a batch"
    )
    figure.legend(*by_batch.get_legend_handles_labels(), fontsize=8, ncols=4, loc="outside lower center")
    prequential.set(ylabel="prequential log loss", xlabel="batch, and the month of its last game")
    prequential.set_xticks(places, [f"{batch['number']}\n{batch['until'][:7]}" for batch in batches], fontsize=8)
    return figure


def _places(table: pd.DataFrame) -> tuple[Floats, Floats]:
    """Feet from the hoop across and along the court."""
    place = current().court
    if place is None:
        message = f"the dataset {current().name} has no court"
        raise ValueError(message)
    if place.unit == "degrees":
        return court.to_feet(table[place.y], table[place.x])
    feet = 10 if place.unit == "tenths of a foot" else 1
    x, y = (table[name].to_numpy(dtype=float) for name in (place.x, place.y))
    return x / feet, y / feet


def _numbers(held: Mapping[str, "pd.Series[Any]"]) -> dict[str, "pd.Series[float]"]:
    """Categories and dates as the ranks of their values, which are the same for all samples."""
    ranks = {value: float(rank) for rank, value in enumerate(_values(held))}
    if not ranks:
        return dict(held)
    return {label: pd.Series(each.astype(str).map(ranks), dtype=float) for label, each in held.items()}


def _values(held: Mapping[str, "pd.Series[Any]"]) -> list[str]:
    """Categories and dates in order; empty for numbers."""
    if all(pd.api.types.is_numeric_dtype(each) for each in held.values()):
        return []
    return sorted(set[str]().union(*(each.astype(str) for each in held.values())))


def _rates(results: "pd.Series[float]", by: npt.NDArray[np.generic], title: str, *, horizontal: bool) -> Figure:
    rates = results.groupby(by).agg(["mean", "size", "sum"])
    is_small = rates["size"] < _MIN_SHOTS
    rates, excluded = rates[~is_small], int(rates.loc[is_small, "size"].sum())
    if horizontal:
        rates = rates.sort_values("mean")
    share = rates["mean"].to_numpy() * 100
    error = np.abs(np.vstack(wilson(rates["sum"], rates["size"])) * 100 - share)
    figure, axes = _chart()
    if horizontal:
        bars = axes.barh(rates.index.astype(str), share, xerr=error, color=MADE, ecolor=NEUTRAL, height=0.6)
        axes.bar_label(bars, [f"{size:,} shots" for size in rates["size"]], label_type="center", fontsize=8)
        axes.set(xlabel="FG%", xlim=(0, 100))
    else:
        axes.errorbar(rates.index, share, error, color=MADE, ecolor=NEUTRAL, marker="o", markersize=4)
        axes.set(xlabel="distance from the hoop, feet", ylabel="FG%", ylim=(0, 100))
    axes.set_title(title, loc="left")
    if excluded:
        note = f"groups with fewer than {_MIN_SHOTS} shots not drawn ({excluded} shots)"
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
