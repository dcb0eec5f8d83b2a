"""Charts of what a model answers beside what is true, drawn with plotly for the app."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from sklearn import metrics

from monitor.charts.layout import (
    BINS,
    SEQUENTIAL,
    Curves,
    Floats,
    base_figure,
    colours,
    empty_figure,
    format_values,
    layout,
)
from monitor.charts.palette import LINES, MADE, MISSED, NEUTRAL
from monitor.metrics.calibration import calibration_curve

_MOST_POINTS = 300
_METRICS_IN_A_ROW = 3


def confusion(labels: Floats, predicted: Floats, title: str) -> go.Figure:
    """Counts and shares of missed and made against predicted missed and made.

    Parameters
    ----------
    labels : ndarray of float, shape (n,)
        1 made, 0 missed; rows with NaN are left out.
    predicted : ndarray of float, shape (n,)
        1 made, 0 missed.
    title : str
        Heading.
    """
    truth, answer = _labelled(labels, predicted)
    figure = base_figure(title, x="predicted", y="true", legend_rows=0)
    if not truth.size:
        return empty_figure(figure)
    counts = np.bincount((truth * 2 + answer).astype(np.int64), minlength=4).reshape(2, 2)
    words = ["missed", "made"]
    figure.add_heatmap(
        z=counts,
        x=words,
        y=words,
        text=[[f"{count:,}<br>{count / truth.size:.1%}" for count in row] for row in counts],
        texttemplate="%{text}",
        textfont={"size": 16, "color": "white"},
        colorscale=SEQUENTIAL,
        zmin=0,
        # White is read on the darker half of the scale only.
        zmax=counts.max() * 2.5,
        showscale=False,
        xgap=3,
        ygap=3,
        hovertemplate="true %{y}, predicted %{x}: %{z:,} shots<extra></extra>",
    )
    figure.update_xaxes(showgrid=False, type="category")
    figure.update_yaxes(showgrid=False, type="category", autorange="reversed")
    return figure


def roc(
    curves: Curves, title: str, *, axes: tuple[str, str] = ("missed shots called made, %", "made shots called made, %")
) -> go.Figure:
    """Receiver operating characteristic by sample, with its AUC; a sample of one class has none and says so."""

    def curve(truth: Floats, made: Floats) -> tuple[Floats, Floats, float]:
        false, true, _ = metrics.roc_curve(truth, made)
        return false, true, float(metrics.roc_auc_score(truth, made))

    figure = _curves(curves, curve, "AUC", _square(title, *axes))
    return _diagonal(figure, 0, 100) if figure.data else figure


def precision_recall(curves: Curves, title: str) -> go.Figure:
    """Precision against recall by sample, with its average precision (AP) and, dotted, its share of made shots."""

    def curve(truth: Floats, made: Floats) -> tuple[Floats, Floats, float]:
        precision, recall, _ = metrics.precision_recall_curve(truth, made)
        return recall, precision, float(metrics.average_precision_score(truth, made))

    figure = _curves(curves, curve, "AP", _square(title, "recall, % of made shots", "precision, % of called made"))
    for trace in list(figure.data):
        truth, _ = _labelled(*curves[trace.meta])
        if trace.x.size and truth.size:
            figure.add_hline(y=truth.mean() * 100, line={"color": trace.line.color, "dash": "dot", "width": 1.5})
    return figure


def calibration(curves: Curves, title: str) -> go.Figure:
    """Share made against mean P(made) in the bins of the calibration error, with 95 % Wilson intervals."""
    figure = _square(title, "mean P(made), %", "shots made, %")
    ends = []
    for (name, pair), colour in zip(curves.items(), colours(curves), strict=True):
        truth, made = _labelled(*pair)
        if not truth.size:
            continue
        bins = calibration_curve(truth, made)
        ends += [*bins["low"], *bins["high"], *bins["predicted"]]
        figure.add_scatter(
            x=bins["predicted"] * 100,
            y=bins["made"] * 100,
            error_y=_error(bins["made"] * 100, bins["low"] * 100, bins["high"] * 100, colour),
            customdata=bins[["rows"]],
            name=name,
            mode="lines+markers",
            line={"color": colour, "width": 2},
            marker={"size": 8},
            hovertemplate="P(made) %{x:.1f} %, made %{y:.1f} %<br>%{customdata[0]:,} shots<extra>" + name + "</extra>",
        )
    if not ends:
        return empty_figure(figure)
    low, high = np.floor(min(ends) * 20) * 5, np.ceil(max(ends) * 20) * 5
    figure.update_xaxes(range=[low, high])
    figure.update_yaxes(range=[low, high])
    return _diagonal(figure, low, high)


def probability_histogram(probability: Floats, labels: Floats, threshold: float, title: str) -> go.Figure:
    """P(made) of missed, made and unlabelled shots, stacked, with the threshold of the prediction.

    Parameters
    ----------
    probability : ndarray of float, shape (n,)
        P(made), from 0 to 1.
    labels : ndarray of float, shape (n,)
        1 made, 0 missed, NaN not known.
    threshold : float
        P(made) from which a shot is predicted to be made.
    title : str
        Heading.
    """
    figure = base_figure(title, x="P(made)", y="shots", height=360, legend_rows=2)
    made, truth = np.asarray(probability, dtype=float), np.asarray(labels, dtype=float)
    if not np.isfinite(made).any():
        return empty_figure(figure)
    edges = np.linspace(0, 1, BINS + 1)
    highest = np.histogram(made, edges)[0].max()
    for name, rows, colour in (
        ("missed", truth == 0, MISSED),
        ("made", truth == 1, MADE),
        ("no label", np.isnan(truth), NEUTRAL),
    ):
        if rows.any():
            figure.add_bar(
                x=(edges[:-1] + edges[1:]) / 2,
                y=np.histogram(made[rows], edges)[0],
                width=edges[1],
                name=f"{name} ({rows.sum():,})",
                marker={"color": colour, "line": {"width": 0}},
                hovertemplate="P(made) %{x:.2f}: %{y:,} shots<extra>" + name + "</extra>",
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
    """Each metric of each sample as a dot with its interval; every metric has its own scale.

    Parameters
    ----------
    rows : pandas.DataFrame
        Columns ``metric`` and ``sample``, str; ``value``, ``low`` and ``high``, float, in the unit of the metric.
    title : str
        Heading.
    """
    names, samples = list(rows["metric"].unique()), list(rows["sample"].unique())
    if not names:
        return empty_figure(base_figure(title))
    down = -(-len(names) // _METRICS_IN_A_ROW)
    columns = min(len(names), _METRICS_IN_A_ROW)
    height = 80 + down * (64 + 22 * len(samples))
    figure = make_subplots(down, columns, subplot_titles=names, horizontal_spacing=0.06, vertical_spacing=72 / height)
    figure.update_layout(layout(title, height, legend_rows=1))
    figure.update_layout(margin={"t": 94 if title else 64}, legend={"y": 1 + 30 / height})
    for (sample, own), colour in zip(rows.groupby("sample", sort=False), colours(samples), strict=True):
        for place, metric in enumerate(names):
            dot = own[own["metric"] == metric]
            figure.add_scatter(
                x=dot["value"],
                y=dot["sample"],
                error_x=_error(dot["value"], dot["low"], dot["high"], colour),
                customdata=np.column_stack([format_values(dot["low"], "{:.4f}"), format_values(dot["high"], "{:.4f}")]),
                name=str(sample),
                legendgroup=str(sample),
                showlegend=place == 0,
                mode="markers",
                marker={"color": colour, "size": 10},
                hovertemplate=f"{metric} %{{x:.4f}}<br>95 %: %{{customdata[0]}} to %{{customdata[1]}}"
                f"<extra>{sample}</extra>",
                row=place // columns + 1,
                col=place % columns + 1,
            )
    figure.update_annotations(font_size=13)
    figure.update_xaxes(nticks=4, tickangle=0, tickformat=".3~f", showgrid=True, automargin=True)
    order = {"categoryorder": "array", "categoryarray": samples[::-1]}
    figure.update_yaxes(showticklabels=False, range=[-0.6, len(samples) - 0.4], type="category", **order)
    return figure


def rates(rows: pd.DataFrame, by: str, title: str) -> go.Figure:
    """Share of made shots by group with its interval, beside the share that the model expected.

    Parameters
    ----------
    rows : pandas.DataFrame
        Columns ``group``, in the order in which to show them; ``shots``, int; ``rate``, ``low``, ``high`` and
        ``expected``, shares from 0 to 1, as of `monitor.metrics.rates.rates_by_group`.
    by : str
        Name of the axis of groups, with its unit.
    title : str
        Heading.
    """
    figure = base_figure(title, x=by, y="shots made, %")
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
        name="made",
        marker={"color": MADE},
        hovertemplate="%{x}: %{y:.1f} % made<br>95 %: %{customdata[1]} to %{customdata[2]} %"
        "<br>%{customdata[0]} shots<extra></extra>",
    )
    figure.add_scatter(
        x=groups,
        y=percent["expected"],
        name="expected, mean P(made)",
        mode="markers",
        marker={"color": MISSED, "symbol": "diamond", "size": 10},
        hovertemplate="%{x}: %{y:.1f} % expected<extra></extra>",
    )
    figure.update_xaxes(type="category")
    figure.update_yaxes(rangemode="tozero")
    return figure


def _labelled(labels: npt.ArrayLike, answers: npt.ArrayLike) -> tuple[Floats, Floats]:
    truth, answer = np.asarray(labels, dtype=float), np.asarray(answers, dtype=float)
    known = np.isfinite(truth) & np.isfinite(answer)
    return truth[known], answer[known]


def _error(
    value: "pd.Series[float]", low: "pd.Series[float]", high: "pd.Series[float]", colour: str
) -> dict[str, object]:
    return {"type": "data", "array": high - value, "arrayminus": value - low, "color": colour, "thickness": 1.5}


def _curves(
    curves: Curves, curve: Callable[[Floats, Floats], tuple[Floats, Floats, float]], area: str, figure: go.Figure
) -> go.Figure:
    for (name, pair), colour in zip(curves.items(), colours(curves), strict=True):
        truth, made = _labelled(*pair)
        if not truth.size:
            continue
        x, y, told_area = np.empty(0), np.empty(0), f"{area} needs both classes"
        if truth.min() != truth.max():
            x, y, size = curve(truth, made)
            told_area = f"{area} {size:.3f}"
        kept = np.unique(np.linspace(0, max(x.size - 1, 0), min(x.size, _MOST_POINTS)).round().astype(np.int64))
        figure.add_scatter(
            x=x[kept] * 100,
            y=y[kept] * 100,
            name=f"{name}, {told_area}",
            meta=name,
            mode="lines",
            line={"color": colour, "width": 2},
            hovertemplate="%{x:.1f} %, %{y:.1f} %<extra>" + name + "</extra>",
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
