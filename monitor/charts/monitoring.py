"""Charts of samples, limits, estimates and looks, drawn with plotly for the app."""

import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.colors
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from monitor.charts.layout import BINS, Floats, base_figure, colours, empty_figure, format_values, layout
from monitor.charts.palette import CHALLENGER, CURRENT, LINES, MADE, MISSED, NEUTRAL, REFERENCE, TRAINING, VERDICT

_MOST_WHOLE_BINS = 200
_LOG_SCALE_FROM = 30
_HOVER_WIDTH = 70


def densities(samples: Mapping[str, Floats], unit: str, *, whole: bool, title: str = "") -> go.Figure:
    """Share of the rows of each sample over common bins.

    Parameters
    ----------
    samples : mapping of str to ndarray of float, shape (n_i,)
        Values by the name of the sample; missing ones are left out.
    unit : str
        Name of the axis: the feature and its unit.
    whole : bool
        One bin per whole number, for values that are counted.
    title : str
        Heading.
    """
    figure = base_figure(title, x=unit, y="rows, %")
    finite = {name: _finite(values) for name, values in samples.items()}
    together = np.concatenate([*finite.values(), np.empty(0)])
    if not together.size:
        return empty_figure(figure)
    edges = _edges(together, whole=whole)
    width = edges[1] - edges[0]
    middles = np.concatenate([[edges[0] - width / 2], (edges[:-1] + edges[1:]) / 2, [edges[-1] + width / 2]])
    for (name, values), colour in zip(finite.items(), colours(finite), strict=True):
        if not values.size:
            continue
        share = np.histogram(values, edges)[0] / values.size * 100
        figure.add_scatter(
            x=middles,
            y=np.concatenate([[0], share, [0]]),
            name=f"{name} ({values.size:,})",
            mode="lines",
            line={"shape": "hvh", "color": colour, "width": 2},
            fill="tozeroy",
            fillcolor=_faded(colour),
            hovertemplate="%{x:.6~g}: %{y:.2f} % of rows<extra>" + name + "</extra>",
        )
    figure.update_yaxes(rangemode="tozero")
    return figure


def boxes(samples: Mapping[str, Floats], unit: str, title: str = "") -> go.Figure:
    """Boxes from quartile to quartile, whiskers to the last value within 1.5 box widths (Tukey).

    Parameters
    ----------
    samples : mapping of str to ndarray of float, shape (n_i,)
        Values by the name of the sample; missing ones are left out. Only the five numbers reach the browser.
    unit : str
        Name of the axis: the feature and its unit.
    title : str
        Heading.
    """
    finite = {name: values for name, given in samples.items() if (values := _finite(given)).size}
    figure = base_figure(title, x=unit, height=90 + 60 * max(len(finite), 2), legend_rows=0)
    if not finite:
        return empty_figure(figure)
    for (name, values), colour in zip(finite.items(), colours(finite), strict=True):
        low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
        reach = 1.5 * (high - low)
        within = values[(values >= low - reach) & (values <= high + reach)]
        figure.add_box(
            y=[name],
            q1=[low],
            median=[median],
            q3=[high],
            lowerfence=[within.min()],
            upperfence=[within.max()],
            orientation="h",
            name=name,
            width=0.5,
            line={"color": colour, "width": 2},
            fillcolor=_faded(colour),
        )
    figure.update_xaxes(hoverformat=".6~g", showgrid=True)
    figure.update_yaxes(autorange="reversed")
    return figure


def interval_pair(rows: pd.DataFrame, title: str) -> go.Figure:
    """What was estimated without labels, and what the labels said once they came; every metric has its own scale.

    Parameters
    ----------
    rows : pandas.DataFrame
        Columns ``metric``, str; ``estimate``, ``low``, ``high``, ``realised``, ``realised_low`` and ``realised_high``,
        float, in the unit of the metric; the realised ones NaN where there is no label yet.
    title : str
        Heading.
    """
    if rows.empty:
        return empty_figure(base_figure(title))
    height = 76 + 76 * len(rows)
    figure = make_subplots(len(rows), 1, vertical_spacing=40 / height if len(rows) > 1 else 0)
    figure.update_layout(layout(title, height, legend_rows=1))
    for place, (_, row) in enumerate(rows.iterrows(), start=1):
        for name, value, low, high, symbol, colour, level in (
            ("estimate without labels", "estimate", "low", "high", "circle", NEUTRAL, 0.3),
            ("realised", "realised", "realised_low", "realised_high", "diamond", CURRENT, -0.3),
        ):
            shared = {"legendgroup": name, "row": place, "col": 1}
            figure.add_scatter(
                x=[row[low], row[high]],
                y=[level, level],
                mode="lines",
                line={"color": _faded(colour, 0.45), "width": 9},
                hoverinfo="skip",
                showlegend=False,
                **shared,
            )
            figure.add_scatter(
                x=[row[value]],
                y=[level],
                name=name,
                mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 12},
                hovertemplate=f"{row['metric']} %{{x:.4f}}<br>95%: "
                f"{' to '.join(format_values(row[[low, high]], '{:.4f}'))}<extra>{name}</extra>",
                showlegend=place == 1,
                **shared,
            )
        known = _finite(row[["estimate", "low", "high", "realised", "realised_low", "realised_high"]])
        reach = 0.08 * (np.ptp(known) or 1) if known.size else 1
        figure.update_xaxes(
            range=[known.min(initial=np.inf) - reach, known.max(initial=-np.inf) + reach] if known.size else None,
            row=place,
            col=1,
        )
        figure.update_yaxes(tickvals=[0], ticktext=[row["metric"]], row=place, col=1)
    figure.update_xaxes(nticks=7, tickformat=".4~f", showgrid=True, automargin=True)
    figure.update_yaxes(range=[-0.8, 0.8], showgrid=False, zeroline=False, automargin=True)
    return figure


def limits(rows: pd.DataFrame, title: str) -> go.Figure:
    """How far each statistic is from its limit, which is at 1.

    Parameters
    ----------
    rows : pandas.DataFrame
        Columns ``feature``, ``statistic`` and ``unit``, str; ``value`` and ``limit``, float, in that unit.
    title : str
        Heading.
    """
    figure = base_figure(title, x="share of the limit (1 = limit)", height=130 + 24 * max(len(rows), 4), legend_rows=2)
    ratio = (rows["value"] / rows["limit"].where(rows["limit"] > 0)).to_numpy(dtype=float)
    known = np.isfinite(ratio)
    if not known.all():
        figure.update_layout(
            title={"subtitle": {"text": f"{int((~known).sum())} without a value or a limit not drawn"}}
        )
    if not known.any():
        return empty_figure(figure)
    positive = ratio[known & (ratio > 0)]
    low, high = min(positive.min(initial=1), 1), max(positive.max(initial=1), 1)
    on_log = high / low > _LOG_SCALE_FROM
    names = rows["feature"] + ", " + rows["statistic"]
    texts = format_values(rows["value"], "{:.3g}")
    units = rows["unit"].fillna("").where(rows["value"].notna(), "")
    hover = np.column_stack([texts, format_values(rows["limit"], "{:.3g}"), units])
    for name, which, colour in (
        ("within the limit", known & (ratio <= 1), REFERENCE),
        ("beyond the limit", known & (ratio > 1), CURRENT),
    ):
        if which.any():
            figure.add_bar(
                x=np.maximum(ratio[which], low / 2) if on_log else ratio[which],
                y=names[which],
                customdata=hover[which],
                orientation="h",
                name=name,
                marker={"color": colour},
                hovertemplate="%{y}<br>%{customdata[0]} %{customdata[2]}, limit %{customdata[1]} %{customdata[2]}"
                "<extra></extra>",
            )
    figure.add_vline(x=1, line={"color": LINES, "dash": "dash", "width": 2})
    figure.update_layout(bargap=0.3, barmode="overlay")
    ends = np.array([low / 2 if on_log else 0, high])
    if on_log:
        ends = np.log10(ends)
    # A quarter of the width is left for the values.
    ends[1] += np.ptp(ends) / 3
    figure.update_xaxes(range=ends, **({"type": "log", "dtick": 1} if on_log else {}))
    figure.add_scatter(
        x=np.full(len(rows), 10 ** ends[1] if on_log else ends[1]),
        y=names,
        text=[f"{value} {unit}".strip() for value, _, unit in hover],
        mode="text",
        textposition="middle left",
        hoverinfo="skip",
        showlegend=False,
    )
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=list(names)[::-1], showgrid=False)
    return figure


def status_history(rows: pd.DataFrame) -> go.Figure:
    """The looks at the model in operation, each with its verdict and how much it found.

    Parameters
    ----------
    rows : pandas.DataFrame
        Columns ``time``, datetime64; ``verdict``, one of the keys of `monitor.charts.palette.VERDICT`; ``findings``,
        int; ``reasons``, str.
    """
    figure = base_figure(x="time of the look", y="findings", height=260)
    if rows.empty:
        return empty_figure(figure)
    ordered = rows.sort_values("time")
    figure.add_scatter(
        x=ordered["time"],
        y=ordered["findings"],
        mode="lines",
        line={"color": LINES, "width": 1},
        hoverinfo="skip",
        showlegend=False,
    )
    for verdict, colour in VERDICT.items():
        own = ordered[ordered["verdict"] == verdict]
        if len(own):
            figure.add_scatter(
                x=own["time"],
                y=own["findings"],
                text=[
                    "<br>".join(textwrap.wrap(reasons, _HOVER_WIDTH))
                    for reasons in own["reasons"].fillna("").astype(str)
                ],
                name=verdict,
                mode="markers",
                marker={"color": colour, "size": 13},
                hovertemplate="%{x|%Y-%m-%d %H:%M}, %{y} findings<br>%{text}<extra>" + verdict + "</extra>",
            )
    highest = max(int(rows["findings"].max()), 1)
    figure.update_yaxes(range=[-0.08 * highest, 1.12 * highest], tickformat="d", nticks=min(highest, 6) + 1)
    return figure


def trend(rows: pd.DataFrame, metrics: Sequence[str], title: str) -> go.Figure:
    """Metrics of run after run.

    Parameters
    ----------
    rows : pandas.DataFrame
        Columns ``time``, datetime64; ``run`` and ``version``, what to call the run and the model; one column per
        metric, float, NaN where a run has none.
    metrics : sequence of str
        Which columns to draw; those that are not there are left out.
    title : str
        Heading.
    """
    figure = base_figure(title, x="time of the run", y="metric")
    drawn = [metric for metric in metrics if metric in rows and rows[metric].notna().any()]
    if not drawn:
        return empty_figure(figure)
    ordered = rows.sort_values("time")
    for metric, colour in zip(drawn, cycle((MISSED, MADE, TRAINING, CURRENT, CHALLENGER, REFERENCE)), strict=False):
        figure.add_scatter(
            x=ordered["time"],
            y=ordered[metric],
            customdata=ordered[["run", "version"]].astype(str),
            name=metric,
            mode="lines+markers",
            line={"color": colour, "width": 2},
            marker={"size": 8},
            hovertemplate="%{y:.4f}, %{x|%Y-%m-%d %H:%M}<br>run %{customdata[0]}, version %{customdata[1]}<extra>"
            + metric
            + "</extra>",
        )
    figure.update_yaxes(tickformat=".3~f")
    return figure


def _finite(values: npt.ArrayLike) -> Floats:
    numbers = np.asarray(values, dtype=float)
    finite: Floats = numbers[np.isfinite(numbers)]
    return finite


def _edges(values: Floats, *, whole: bool) -> Floats:
    low, high = float(values.min()), float(values.max())
    if whole:
        step = np.ceil((high - low + 1) / _MOST_WHOLE_BINS)
        return np.asarray(np.arange(np.floor(low) - 0.5, high + step, step), dtype=float)
    if low == high:
        reach = abs(low) * 0.01 or 0.5
        low, high = low - reach, high + reach
    return np.asarray(np.linspace(low, high, BINS + 1), dtype=float)


def _faded(colour: str, opacity: float = 0.15) -> str:
    return f"rgba{(*plotly.colors.hex_to_rgb(colour), opacity)}"
