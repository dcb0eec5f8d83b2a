"""Charts of predictions against labels, with plotly for the app."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from sklearn import metrics

from data.datasets import worded
from monitor.charts.layout import (
    BINS,
    SEQUENTIAL,
    Curves,
    Floats,
    base_figure,
    colors,
    empty_figure,
    format_values,
    layout,
)
from monitor.charts.palette import CURRENT, LINES, MADE, MISSED, NEUTRAL, REFERENCE
from monitor.metrics.calibration import calibration_curve
from monitor.metrics.names import column_name

_MAX_POINTS = 300
_METRICS_IN_A_ROW = 3


def confusion(labels: Floats, predicted: Floats, title: str) -> go.Figure:
    """Confusion matrix with counts and shares.

    Parameters
    ----------
    labels : ndarray of float, shape (n,)
        1 made, 0 missed; rows with NaN are excluded.
    predicted : ndarray of float, shape (n,)
        1 made, 0 missed.
    """
    true, prediction = _labeled(labels, predicted)
    figure = base_figure(title, x="predicted", y="true", legend_rows=0)
    if not true.size:
        return empty_figure(figure)
    counts = np.bincount((true * 2 + prediction).astype(np.int64), minlength=4).reshape(2, 2)
    classes = [worded("missed"), worded("made")]
    figure.add_heatmap(
        z=counts,
        x=classes,
        y=classes,
        text=[[f"{count:,}<br>{count / true.size:.1%}" for count in row] for row in counts],
        texttemplate="%{text}",
        textfont={"size": 16, "color": "white"},
        colorscale=SEQUENTIAL,
        zmin=0,
        # White text is readable only on the darker half of the scale.
        zmax=counts.max() * 2.5,
        showscale=False,
        xgap=3,
        ygap=3,
        hovertemplate=worded("true %{y}, predicted %{x}: %{z:,} shots") + "<extra></extra>",
    )
    figure.update_layout(margin={"l": 94, "b": 70})
    figure.update_xaxes(showgrid=False, type="category")
    figure.update_yaxes(showgrid=False, type="category", autorange="reversed")
    return figure


def roc(
    curves: Curves, title: str, *, axes: tuple[str, str] = ("false-positive rate, %", "true-positive rate, %")
) -> go.Figure:
    """ROC curve and AUC by sample; both are undefined for a sample with one class."""

    def curve(labels: Floats, probability: Floats) -> tuple[Floats, Floats, float]:
        false_positive, true_positive, _ = metrics.roc_curve(labels, probability)
        return false_positive, true_positive, float(metrics.roc_auc_score(labels, probability))

    figure = _curves(curves, curve, "AUC", _square(title, *axes))
    return _diagonal(figure, 0, 100) if figure.data else figure


def precision_recall(curves: Curves, title: str) -> go.Figure:
    """Precision-recall curve and average precision (AP) by sample; the dotted line is the FG%, the chance level."""

    def curve(labels: Floats, probability: Floats) -> tuple[Floats, Floats, float]:
        precision, recall, _ = metrics.precision_recall_curve(labels, probability)
        return recall, precision, float(metrics.average_precision_score(labels, probability))

    figure = _curves(curves, curve, "AP", _square(title, "recall, %", "precision, %"))
    for trace in list(figure.data):
        labels, _ = _labeled(*curves[trace.meta])
        if trace.x.size and labels.size:
            figure.add_hline(y=labels.mean() * 100, line={"color": trace.line.color, "dash": "dot", "width": 1.5})
    return figure


def calibration(curves: Curves, title: str) -> go.Figure:
    """Reliability diagram: FG% by mean P(made), in the bins of the calibration error, with 95% Wilson intervals."""
    figure = _square(title, worded("mean P(made), %"), worded("FG%"))
    ends = []
    for (name, pair), color in zip(curves.items(), colors(curves), strict=True):
        labels, probability = _labeled(*pair)
        if not labels.size:
            continue
        bins = calibration_curve(labels, probability)
        ends += [*bins["low"], *bins["high"], *bins["predicted"]]
        figure.add_scatter(
            x=bins["predicted"] * 100,
            y=bins["made"] * 100,
            error_y=_error(bins["made"] * 100, bins["low"] * 100, bins["high"] * 100, color),
            customdata=bins[["rows"]],
            name=name,
            mode="lines+markers",
            line={"color": color, "width": 2},
            marker={"size": 8},
            hovertemplate=worded("P(made) %{x:.1f}%, FG% %{y:.1f}%<br>%{customdata[0]:,} shots")
            + f"<extra>{name}</extra>",
        )
    if not ends:
        return empty_figure(figure)
    low, high = np.floor(min(ends) * 20) * 5, np.ceil(max(ends) * 20) * 5
    figure.update_xaxes(range=[low, high])
    figure.update_yaxes(range=[low, high])
    return _diagonal(figure, low, high)


def probability_histogram(probability: Floats, labels: Floats, threshold: float, title: str) -> go.Figure:
    """Stacked histogram of P(made) by class, with the threshold of the predicted label.

    Parameters
    ----------
    probability : ndarray of float, shape (n,)
        P(made), from 0 to 1.
    labels : ndarray of float, shape (n,)
        1 made, 0 missed, NaN unknown.
    threshold : float
        Shots with P(made) of at least this value are predicted to be made.
    """
    figure = base_figure(title, x=worded("P(made)"), y=worded("shots"), height=360, legend_rows=2)
    values, classes = np.asarray(probability, dtype=float), np.asarray(labels, dtype=float)
    if not np.isfinite(values).any():
        return empty_figure(figure)
    edges = np.linspace(0, 1, BINS + 1)
    highest = np.histogram(values, edges)[0].max()
    for name, rows, color in (
        ("missed", classes == 0, MISSED),
        ("made", classes == 1, MADE),
        ("no label", np.isnan(classes), NEUTRAL),
    ):
        if rows.any():
            figure.add_bar(
                x=(edges[:-1] + edges[1:]) / 2,
                y=np.histogram(values[rows], edges)[0],
                width=edges[1],
                name=f"{worded(name)} ({rows.sum():,})",
                marker={"color": color, "line": {"width": 0}},
                hovertemplate=worded("P(made) %{x:.2f}: %{y:,} shots") + f"<extra>{worded(name)}</extra>",
            )
    figure.add_vline(
        x=threshold,
        line={"color": LINES, "dash": "dash", "width": 2},
        annotation={"text": f"threshold {threshold:.2f}", "yanchor": "top", "xanchor": "left"},
    )
    figure.update_layout(barmode="stack", bargap=0)
    figure.update_xaxes(range=[0, 1])
    figure.update_yaxes(range=[0, highest * 1.12])
    return figure


def metric_intervals(rows: pd.DataFrame, title: str) -> go.Figure:
    """Metrics by sample with intervals; every metric has its own scale.

    Parameters
    ----------
    rows : pandas.DataFrame
        Columns ``metric`` and ``sample``, str; ``value``, ``low`` and ``high``, float, in the unit of the metric.
    """
    names, samples = list(rows["metric"].unique()), list(rows["sample"].unique())
    if not names:
        return empty_figure(base_figure(title))
    down = -(-len(names) // _METRICS_IN_A_ROW)
    columns = min(len(names), _METRICS_IN_A_ROW)
    height = 80 + down * (64 + 22 * len(samples))
    figure = make_subplots(down, columns, subplot_titles=names, horizontal_spacing=0.06, vertical_spacing=72 / height)
    figure.update_layout(layout(title, height, legend_rows=1))
    figure.update_layout(margin={"l": 8, "t": 94 if title else 64}, legend={"y": 1 + 30 / height})
    for (sample, own), color in zip(rows.groupby("sample", sort=False), colors(samples), strict=True):
        for position, metric in enumerate(names):
            dot = own[own["metric"] == metric]
            figure.add_scatter(
                x=dot["value"],
                y=dot["sample"],
                error_x=_error(dot["value"], dot["low"], dot["high"], color),
                customdata=np.column_stack([format_values(dot["low"], "{:.4f}"), format_values(dot["high"], "{:.4f}")]),
                name=str(sample),
                legendgroup=str(sample),
                showlegend=position == 0,
                mode="markers",
                marker={"color": color, "size": 10},
                hovertemplate=f"{metric} %{{x:.4f}}<br>95% CI %{{customdata[0]}} to %{{customdata[1]}}"
                f"<extra>{sample}</extra>",
                row=position // columns + 1,
                col=position % columns + 1,
            )
    figure.update_annotations(font_size=13)
    figure.update_xaxes(nticks=4, tickangle=0, tickformat=".3~f", showgrid=True, automargin=True)
    order = {"categoryorder": "array", "categoryarray": samples[::-1]}
    figure.update_yaxes(showticklabels=False, range=[-0.6, len(samples) - 0.4], type="category", **order)
    return figure


def forest(
    rows: pd.DataFrame, metric: str, label: str, *, reference: pd.DataFrame | None = None, whole: float | None = None
) -> go.Figure:
    """Forest plot of a metric by slice, with 95% intervals, against the same slices of the test set.

    Parameters
    ----------
    rows, reference : pandas.DataFrame
        As returned by `monitor.metrics.intervals.metrics_by_slice`; slices without the metric are not drawn.
    metric : str
    label : str
        Axis title.
    whole : float, optional
        The metric on the whole test set, drawn as a line.
    """
    figure = base_figure("", x=label, height=120, legend_rows=1)
    if metric not in rows or rows[metric].notna().sum() == 0:
        return empty_figure(figure)
    drawn = rows[rows[metric].notna()]
    names = [f"{column_name(str(row.slice))}: {row.value} ({row.rows:,})" for row in drawn.itertuples()]
    figure.update_layout(height=90 + 30 * len(names))
    if reference is not None and metric in reference:
        before = drawn[["slice", "value"]].merge(reference, how="left", on=["slice", "value"])
        figure.add_scatter(
            x=before[metric],
            y=names,
            error_x=_error(before[metric], before[f"{metric}_low"], before[f"{metric}_high"], REFERENCE),
            name="test set",
            mode="markers",
            marker={"color": REFERENCE, "symbol": "square", "size": 9},
            hovertemplate="%{y}<br>%{x:.4f}<extra>test set</extra>",
        )
    figure.add_scatter(
        x=drawn[metric],
        y=names,
        error_x=_error(drawn[metric], drawn[f"{metric}_low"], drawn[f"{metric}_high"], CURRENT),
        name="current",
        mode="markers",
        marker={"color": CURRENT, "size": 10},
        hovertemplate="%{y}<br>%{x:.4f}<extra>current</extra>",
    )
    if whole is not None:
        figure.add_vline(x=whole, line={"color": LINES, "dash": "dash", "width": 1.5})
    order = {"categoryorder": "array", "categoryarray": names[::-1]}
    figure.update_yaxes(type="category", showgrid=True, **order)
    figure.update_xaxes(tickformat=".3~f", showgrid=True)
    return figure


def tied_groups(groups: pd.DataFrame, title: str) -> go.Figure:
    """FG% against P(made) of groups of rows with a similar P(made); the area of a marker is the rows of its group.

    Parameters
    ----------
    groups : pandas.DataFrame
        ``probability``, ``rate``, ``low``, ``high``, from 0 to 1; ``rows``, int; ``avoidable``, float.
    title : str
    """
    figure = _square(title, worded("P(made), %"), worded("FG%"))
    if groups.empty:
        return empty_figure(figure)
    percent = groups[["probability", "rate", "low", "high"]] * 100
    figure.add_scatter(
        x=percent["probability"],
        y=percent["rate"],
        error_y=_error(percent["rate"], percent["low"], percent["high"], CURRENT),
        customdata=groups[["rows", "avoidable"]],
        name="groups of rows",
        mode="markers",
        marker={
            "color": CURRENT,
            "opacity": 0.8,
            "size": np.sqrt(groups["rows"] / groups["rows"].max()) * 26 + 5,
        },
        hovertemplate=worded("P(made) %{x:.1f}%, FG% %{y:.1f}%")
        + "<br>%{customdata[0]:,} rows, avoidable loss %{customdata[1]:.1f}<extra></extra>",
    )
    ends = percent.to_numpy()
    low, high = np.floor(np.nanmin(ends) / 5) * 5, np.ceil(np.nanmax(ends) / 5) * 5
    return _diagonal(figure, low, high)


def rates(rows: pd.DataFrame, by: str, title: str) -> go.Figure:
    """FG% by group with its interval, and the mean P(made) of the group.

    Parameters
    ----------
    rows : pandas.DataFrame
        Columns ``group``, in display order; ``shots``, int; ``rate``, ``low``, ``high`` and ``expected``, from 0 to 1,
        as returned by `monitor.metrics.rates.rates_by_group`.
    by : str
        Axis title of the groups, with its unit.
    """
    figure = base_figure(title, x=by, y="FG%")
    if rows.empty:
        return empty_figure(figure)
    groups, percent = rows["group"].astype(str), rows[["rate", "low", "high", "expected"]] * 100
    figure.add_bar(
        x=groups,
        y=percent["rate"],
        error_y=_error(percent["rate"], percent["low"], percent["high"], NEUTRAL),
        customdata=np.column_stack(
            [rows["shots"].map("{:,}".format), *(format_values(percent[end], "{:.1f}") for end in ("low", "high"))]
        ),
        name="actual",
        marker={"color": MADE},
        hovertemplate="%{x}: FG% %{y:.1f}%<br>95% CI %{customdata[1]}% to %{customdata[2]}%"
        "<br>%{customdata[0]} shots<extra></extra>",
    )
    figure.add_scatter(
        x=groups,
        y=percent["expected"],
        name="expected",
        mode="markers",
        marker={"color": MISSED, "symbol": "diamond", "size": 10},
        hovertemplate="%{x}: expected FG% %{y:.1f}%<extra></extra>",
    )
    figure.update_xaxes(type="category")
    figure.update_yaxes(rangemode="tozero")
    return figure


def _labeled(labels: npt.ArrayLike, predictions: npt.ArrayLike) -> tuple[Floats, Floats]:
    true, predicted = np.asarray(labels, dtype=float), np.asarray(predictions, dtype=float)
    known = np.isfinite(true) & np.isfinite(predicted)
    return true[known], predicted[known]


def _error(
    value: "pd.Series[float]", low: "pd.Series[float]", high: "pd.Series[float]", color: str
) -> dict[str, object]:
    return {"type": "data", "array": high - value, "arrayminus": value - low, "color": color, "thickness": 1.5}


def _curves(
    curves: Curves, curve: Callable[[Floats, Floats], tuple[Floats, Floats, float]], area: str, figure: go.Figure
) -> go.Figure:
    for (name, pair), color in zip(curves.items(), colors(curves), strict=True):
        labels, probability = _labeled(*pair)
        if not labels.size:
            continue
        x, y, area_label = np.empty(0), np.empty(0), f"{area} requires both classes"
        if labels.min() != labels.max():
            x, y, size = curve(labels, probability)
            area_label = f"{area} {size:.3f}"
        kept = np.unique(np.linspace(0, max(x.size - 1, 0), min(x.size, _MAX_POINTS)).round().astype(np.int64))
        figure.add_scatter(
            x=x[kept] * 100,
            y=y[kept] * 100,
            name=f"{name}, {area_label}",
            meta=name,
            mode="lines",
            line={"color": color, "width": 2},
            hovertemplate="%{x:.1f}%, %{y:.1f}%<extra>" + name + "</extra>",
        )
    if not figure.data:
        return empty_figure(figure)
    figure.update_xaxes(range=[0, 100])
    figure.update_yaxes(range=[0, 101])
    return figure


def _square(title: str, x: str, y: str) -> go.Figure:
    return base_figure(title, x=x, y=y, height=400, legend_rows=2)


def _diagonal(figure: go.Figure, low: float, high: float) -> go.Figure:
    ends, line = [low, high], {"color": LINES, "dash": "dot", "width": 2}
    return figure.add_scatter(x=ends, y=ends, mode="lines", line=line, hoverinfo="skip", showlegend=False)
