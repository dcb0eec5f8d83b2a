"""Charts of distributions, drift thresholds, estimates and monitoring runs, with plotly for the app."""

import textwrap
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import cycle

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.colors
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from monitor.charts.layout import BINS, Floats, base_figure, colors, empty_figure, format_values, layout
from monitor.charts.palette import (
    CHALLENGER,
    CURRENT,
    LINES,
    MADE,
    MISSED,
    NEUTRAL,
    REFERENCE,
    RETRAIN,
    STATUS,
    TRAINING,
)
from monitor.store.records import MonitoringRun

_MAX_INTEGER_BINS = 200
_LOG_SCALE_FROM = 30
_HOVER_WIDTH = 70
_LONG_PAUSE = 0.1
"""Part of the whole time without a window from which on a line is interrupted."""
_SHORTEST_AXIS = timedelta(hours=1)


def distributions(samples: Mapping[str, Floats], unit: str, *, integer_bins: bool, title: str = "") -> go.Figure:
    """Share of the rows of each sample per bin, with the same bins for all samples.

    Parameters
    ----------
    samples : mapping of str to ndarray of float, shape (n_i,)
        Values by sample; missing values are excluded.
    unit : str
        Axis title: the feature and its unit.
    integer_bins : bool
        One bin per integer.
    """
    figure = base_figure(title, x=unit, y="rows, %")
    finite = {name: _finite(values) for name, values in samples.items()}
    together = np.concatenate([*finite.values(), np.empty(0)])
    if not together.size:
        return empty_figure(figure)
    edges = _edges(together, integer_bins=integer_bins)
    width = edges[1] - edges[0]
    centers = np.concatenate([[edges[0] - width / 2], (edges[:-1] + edges[1:]) / 2, [edges[-1] + width / 2]])
    for (name, values), color in zip(finite.items(), colors(finite), strict=True):
        if not values.size:
            continue
        share = np.histogram(values, edges)[0] / values.size * 100
        figure.add_scatter(
            x=centers,
            y=np.concatenate([[0], share, [0]]),
            name=f"{name} ({values.size:,})",
            mode="lines",
            line={"shape": "hvh", "color": color, "width": 2},
            fill="tozeroy",
            fillcolor=_faded(color),
            hovertemplate="%{x:.6~g}: %{y:.2f}% of rows<extra>" + name + "</extra>",
        )
    figure.update_yaxes(rangemode="tozero")
    return figure


def boxes(samples: Mapping[str, Floats], unit: str, title: str = "") -> go.Figure:
    """Box plots with whiskers at the last value within 1.5 interquartile ranges (Tukey).

    Parameters
    ----------
    samples : mapping of str to ndarray of float, shape (n_i,)
        Values by sample; missing values are excluded. Only the five-number summaries are sent to the browser.
    unit : str
        Axis title: the feature and its unit.
    """
    finite = {name: values for name, given in samples.items() if (values := _finite(given)).size}
    figure = base_figure(title, x=unit, height=90 + 60 * max(len(finite), 2), legend_rows=0)
    if not finite:
        return empty_figure(figure)
    for (name, values), color in zip(finite.items(), colors(finite), strict=True):
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
            line={"color": color, "width": 2},
            fillcolor=_faded(color),
        )
    figure.update_xaxes(hoverformat=".6~g", showgrid=True)
    figure.update_yaxes(autorange="reversed")
    return figure


def interval_pair(rows: pd.DataFrame, title: str) -> go.Figure:
    """Estimated and actual metrics with intervals; every metric has its own scale.

    Parameters
    ----------
    rows : pandas.DataFrame
        Columns ``metric``, str; ``estimate``, ``low``, ``high``, ``actual``, ``actual_low`` and ``actual_high``,
        float, in the unit of the metric; the actual ones are NaN without labels.
    """
    if rows.empty:
        return empty_figure(base_figure(title))
    height = 76 + 76 * len(rows)
    figure = make_subplots(len(rows), 1, vertical_spacing=40 / height if len(rows) > 1 else 0)
    figure.update_layout(layout(title, height, legend_rows=1), margin_l=63)
    for position, (_, row) in enumerate(rows.iterrows(), start=1):
        for name, value, low, high, symbol, color, level in (
            ("estimated", "estimate", "low", "high", "circle", NEUTRAL, 0.3),
            ("actual", "actual", "actual_low", "actual_high", "diamond", CURRENT, -0.3),
        ):
            shared = {"legendgroup": name, "row": position, "col": 1}
            figure.add_scatter(
                x=[row[low], row[high]],
                y=[level, level],
                mode="lines",
                line={"color": _faded(color, 0.45), "width": 9},
                hoverinfo="skip",
                showlegend=False,
                **shared,
            )
            figure.add_scatter(
                x=[row[value]],
                y=[level],
                name=name,
                mode="markers",
                marker={"color": color, "symbol": symbol, "size": 12},
                hovertemplate=f"{row['metric']} %{{x:.4f}}<br>95% CI "
                f"{' to '.join(format_values(row[[low, high]], '{:.4f}'))}<extra>{name}</extra>",
                showlegend=position == 1,
                **shared,
            )
        known = _finite(row[["estimate", "low", "high", "actual", "actual_low", "actual_high"]])
        reach = 0.08 * (np.ptp(known) or 1) if known.size else 1
        figure.update_xaxes(
            range=[known.min(initial=np.inf) - reach, known.max(initial=-np.inf) + reach] if known.size else None,
            row=position,
            col=1,
        )
        figure.update_yaxes(tickvals=[0], ticktext=[row["metric"]], row=position, col=1)
    figure.update_xaxes(nticks=7, tickformat=".4~f", showgrid=True, automargin=True)
    figure.update_yaxes(range=[-0.8, 0.8], showgrid=False, zeroline=False, automargin=True)
    return figure


def thresholds(rows: pd.DataFrame, title: str) -> go.Figure:
    """Ratio of each drift statistic to its threshold.

    Parameters
    ----------
    rows : pandas.DataFrame
        Columns ``feature``, ``statistic`` and ``unit``, str; ``value`` and ``threshold``, float, in that unit.
    """
    figure = base_figure(title, x="value / threshold", height=130 + 24 * max(len(rows), 4), legend_rows=2)
    ratio = (rows["value"] / rows["threshold"].where(rows["threshold"] > 0)).to_numpy(dtype=float)
    known = np.isfinite(ratio)
    if not known.all():
        figure.update_layout(
            title={"subtitle": {"text": f"{int((~known).sum())} without a value or a threshold not drawn"}}
        )
    if not known.any():
        return empty_figure(figure)
    positive = ratio[known & (ratio > 0)]
    low, high = min(positive.min(initial=1), 1), max(positive.max(initial=1), 1)
    on_log = high / low > _LOG_SCALE_FROM
    names = rows["feature"] + ", " + rows["statistic"]
    texts = format_values(rows["value"], "{:.3g}")
    units = rows["unit"].fillna("").where(rows["value"].notna(), "")
    hover = np.column_stack([texts, format_values(rows["threshold"], "{:.3g}"), units])
    for name, which, color in (
        ("below the threshold", known & (ratio <= 1), REFERENCE),
        ("above the threshold", known & (ratio > 1), CURRENT),
    ):
        if which.any():
            figure.add_bar(
                x=np.maximum(ratio[which], low / 2) if on_log else ratio[which],
                y=names[which],
                customdata=hover[which],
                orientation="h",
                name=name,
                marker={"color": color},
                hovertemplate="%{y}<br>%{customdata[0]} %{customdata[2]}, threshold %{customdata[1]} %{customdata[2]}"
                "<extra></extra>",
            )
    figure.add_vline(x=1, line={"color": LINES, "dash": "dash", "width": 2})
    figure.update_layout(bargap=0.3, barmode="overlay")
    ends = np.array([low / 2 if on_log else 0, high])
    if on_log:
        ends = np.log10(ends)
    # A quarter of the width is for the values.
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


def history_rows(runs: Sequence[MonitoringRun]) -> pd.DataFrame:
    """Monitoring runs as `status_history` draws them."""
    return pd.DataFrame(
        {
            "time": pd.to_datetime([run.started for run in runs], utc=True),
            "status": [run.health for run in runs],
            "alerts": [int(run.metrics.get("alarms", 0)) for run in runs],
            "reasons": [f"version {run.model_version or 'unknown'}: {'; '.join(run.reasons)}" for run in runs],
        }
    )


def status_history(rows: pd.DataFrame) -> go.Figure:
    """Monitoring runs with their status and number of alerts.

    Parameters
    ----------
    rows : pandas.DataFrame
        Columns ``time``, datetime64; ``status``, one of the keys of `monitor.charts.palette.STATUS`; ``alerts``, int;
        ``reasons``, str.
    """
    figure = base_figure(x="time of the monitoring run", y="alerts", height=260)
    if rows.empty:
        return empty_figure(figure)
    ordered = rows.sort_values("time")
    figure.add_scatter(
        x=ordered["time"],
        y=ordered["alerts"],
        mode="lines",
        line={"color": LINES, "width": 1},
        hoverinfo="skip",
        showlegend=False,
    )
    for status, color in STATUS.items():
        own = ordered[ordered["status"] == status]
        if len(own):
            figure.add_scatter(
                x=own["time"],
                y=own["alerts"],
                text=[
                    "<br>".join(textwrap.wrap(reasons, _HOVER_WIDTH))
                    for reasons in own["reasons"].fillna("").astype(str)
                ],
                name=status,
                mode="markers",
                marker={"color": color, "size": 13},
                hovertemplate="%{x|%Y-%m-%d %H:%M}, %{y} alerts<br>%{text}<extra>" + status + "</extra>",
            )
    _widen_time_axis(figure, ordered["time"])
    highest = max(int(rows["alerts"].max()), 1)
    figure.update_yaxes(range=[-0.08 * highest, 1.12 * highest], tickformat="d", nticks=min(highest, 6) + 1)
    return figure


ROLLING_WORDS = (
    "log loss", "95% CI", "threshold", "test set", "base rate of the same rows", "worse than the base rate",
    "promotion",
)  # fmt: skip
"""What `rolling_loss` names, in the order of its legend."""


def rolling_loss(  # noqa: PLR0913 what the loss is compared with
    rows: pd.DataFrame,
    *,
    reference: float | None,
    threshold: float | None,
    promotions: Sequence[tuple[datetime, str]] = (),
    words: Mapping[str, str] | None = None,
    title: str = "",
    x: str = "",
) -> go.Figure:
    """Log loss of a moving window over time, with the base-rate loss, a threshold and promotions.

    The lines are interrupted where no rows were labeled for long.
    The area between the two losses is filled where the model is worse than the base rate.

    Parameters
    ----------
    rows : pandas.DataFrame
        As returned by `monitor.metrics.rolling.rolling_loss`.
    reference, threshold : float or None
        Log loss on the test set, and the one above which a window breaches.
    promotions : sequence of (datetime, str)
        Time and version.
    words : mapping of str to str, optional
        Translations of ``ROLLING_WORDS``.
    title, x : str
        Of the chart, and of its axis of times.
    """
    named = dict(zip(ROLLING_WORDS, ROLLING_WORDS, strict=True)) | dict(words or {})
    figure = base_figure(title, x=x, height=300)
    if rows.empty:
        return empty_figure(figure)
    worse = rows["log_loss"] > rows["base_rate"]
    parts = _without_pauses(rows.assign(worse=rows["log_loss"].where(worse, rows["base_rate"])))

    def add_area(name: str, high: str, low: str, color: str) -> None:
        figure.add_scatter(
            x=[time for part in parts for time in (*part["time"], *part["time"][::-1], None)],
            y=[value for part in parts for value in (*part[high], *part[low][::-1], None)],
            fill="toself",
            fillcolor=color,
            mode="lines",
            line={"width": 0},
            hoverinfo="skip",
            name=named[name],
        )

    def add_line(name: str, column: str, style: Mapping[str, object]) -> None:
        # A row without a value interrupts the line.
        drawn = pd.concat([each for part in parts for each in (part, part.tail(1).assign(**{column: np.nan}))])
        figure.add_scatter(
            x=drawn["time"],
            y=drawn[column],
            customdata=drawn[["rows"]],
            name=named[name],
            mode="lines",
            line=style,
            hovertemplate="%{x|%Y-%m-%d}: %{y:.4f} (%{customdata[0]:,})<extra>" + named[name] + "</extra>",
        )

    add_area("95% CI", "high", "low", _faded(CURRENT, 0.18))
    add_line("base rate of the same rows", "base_rate", {"color": NEUTRAL, "width": 2, "dash": "dot"})
    if worse.any():
        add_area("worse than the base rate", "worse", "base_rate", _faded(RETRAIN, 0.3))
    add_line("log loss", "log_loss", {"color": CURRENT, "width": 3})
    for name, value, dash in (("threshold", threshold, "dash"), ("test set", reference, "solid")):
        if value is not None:
            figure.add_scatter(
                x=[rows["time"].iloc[0], rows["time"].iloc[-1]],
                y=[value, value],
                name=f"{named[name]} ({value:.4f})",
                mode="lines",
                line={"color": REFERENCE if name == "test set" else LINES, "dash": dash, "width": 1.5},
                hoverinfo="skip",
            )
    for time, label in promotions:
        figure.add_vline(x=time, line={"color": MISSED, "width": 1.5})
        figure.add_annotation(
            x=time, y=1, yref="paper", yanchor="top", xanchor="left", text=f"▾ {label}", showarrow=False,
            hovertext=named["promotion"],
        )  # fmt: skip
    figure.update_yaxes(tickformat=".3~f")
    return figure


def _without_pauses(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """Rows in order of time, in parts with no long pause: a tenth of the whole time, and much longer than is usual."""
    steps = rows["time"].diff()
    pauses = (steps > _LONG_PAUSE * (rows["time"].iloc[-1] - rows["time"].iloc[0])) & (steps > 10 * steps.median())
    return [part for _, part in rows.groupby(pauses.cumsum())]


def traffic(rows: pd.DataFrame, names: Mapping[str, str], title: str) -> go.Figure:
    """Lines of a table over time.

    Parameters
    ----------
    rows : pandas.DataFrame
        ``time``, and the columns to draw.
    names : mapping of str to str
        How each column is shown.
    title : str
    """
    figure = base_figure(title, height=240)
    for (column, name), color in zip(names.items(), (MISSED, MADE, CURRENT), strict=False):
        figure.add_scatter(
            x=rows["time"], y=rows[column], name=name, mode="lines+markers", line={"color": color, "width": 2},
            marker={"size": 4}, hovertemplate="%{x|%H:%M:%S}: %{y:.2f}<extra>" + name + "</extra>",
        )  # fmt: skip
    figure.update_yaxes(rangemode="tozero")
    return figure


def trend(rows: pd.DataFrame, metrics: Sequence[str], title: str) -> go.Figure:
    """Metrics of runs over time.

    Parameters
    ----------
    rows : pandas.DataFrame
        Columns ``time``, datetime64; ``run`` and ``version``, names of the run and the model version; one column per
        metric, float, NaN if a run has none.
    metrics : sequence of str
        Columns to draw; missing ones are ignored.
    """
    drawn = [metric for metric in metrics if metric in rows and rows[metric].notna().any()]
    figure = base_figure(title, x="time of the run", y=drawn[0] if len(drawn) == 1 else "metric")
    if not drawn:
        return empty_figure(figure)
    ordered = rows.sort_values("time")
    for metric, color in zip(drawn, cycle((MISSED, MADE, TRAINING, CURRENT, CHALLENGER, REFERENCE)), strict=False):
        figure.add_scatter(
            x=ordered["time"],
            y=ordered[metric],
            customdata=ordered[["run", "version"]].astype(str),
            name=metric,
            mode="lines+markers",
            line={"color": color, "width": 2},
            marker={"size": 8},
            hovertemplate="%{y:.4f}, %{x|%Y-%m-%d %H:%M}<br>run %{customdata[0]}, version %{customdata[1]}<extra>"
            + metric
            + "</extra>",
        )
    figure.update_yaxes(tickformat=".3~f")
    _widen_time_axis(figure, ordered["time"])
    return figure


def _widen_time_axis(figure: go.Figure, times: "pd.Series[pd.Timestamp]") -> None:
    """Make an axis of times at least an hour long: that of one run would have ticks of fractions of a millisecond."""
    first, last = times.iloc[0], times.iloc[-1]
    # Ticks of two lines.
    figure.update_layout(margin={"b": 78})
    if last - first < _SHORTEST_AXIS:
        middle = first + (last - first) / 2
        figure.update_xaxes(range=[middle - _SHORTEST_AXIS / 2, middle + _SHORTEST_AXIS / 2])


def _finite(values: npt.ArrayLike) -> Floats:
    numbers = np.asarray(values, dtype=float)
    finite: Floats = numbers[np.isfinite(numbers)]
    return finite


def _edges(values: Floats, *, integer_bins: bool) -> Floats:
    low, high = float(values.min()), float(values.max())
    if integer_bins:
        step = np.ceil((high - low + 1) / _MAX_INTEGER_BINS)
        return np.asarray(np.arange(np.floor(low) - 0.5, high + step, step), dtype=float)
    if low == high:
        reach = abs(low) * 0.01 or 0.5
        low, high = low - reach, high + reach
    return np.asarray(np.linspace(low, high, BINS + 1), dtype=float)


def _faded(color: str, opacity: float = 0.15) -> str:
    return f"rgba{(*plotly.colors.hex_to_rgb(color), opacity)}"
