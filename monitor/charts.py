"""Charts of samples, predictions and verdicts, drawn with plotly for the app.

No chart sets a background or a font colour, so the theme of the page decides. A chart of nothing says "no rows".
"""

import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import cycle

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.colors
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from sklearn import metrics

from data.schema import PROBABILITY, TARGET
from monitor import hexagons
from monitor.palette import CHALLENGER, CURRENT, LINES, MADE, MISSED, NEUTRAL, REFERENCE, TRAINING, VERDICT

Floats = npt.NDArray[np.float64]
Colours = list[list[float | str]]
Curves = Mapping[str, tuple[Floats, Floats]]
"""Labels (1, 0 or NaN) and P(made), each of shape (n,), by the name of the sample."""

_LEGEND = {
    "orientation": "h",
    "traceorder": "normal",
    "x": 0,
    "xanchor": "left",
    "y": 1.02,
    "yanchor": "bottom",
    "title": None,
}

_SAMPLE = {"train": TRAINING, "test": REFERENCE}
_OTHERS = (CURRENT, CHALLENGER, MISSED, MADE, NEUTRAL)
_BINS = 40
_MOST_WHOLE_BINS = 200
_MOST_POINTS = 300
_CALIBRATION_BINS = 10
_METRICS_IN_A_ROW = 3
_LOG_SCALE_FROM = 30
_HOVER_WIDTH = 70


def _sequential() -> Colours:
    # The ends of Viridis are too dark for a dark page and too light for a light one.
    stops = np.linspace(0, 1, 9)
    return [
        [float(stop), colour]
        for stop, colour in zip(stops, plotly.colors.sample_colorscale("Viridis", 0.18 + stops * 0.77), strict=True)
    ]


SEQUENTIAL = _sequential()
"""Of P(made), shares and counts: Viridis, safe for colour-blind people."""


def chart(title: str = "", *, x: str = "", y: str = "", height: int = 340, legend_rows: int = 1) -> go.Figure:
    """An empty chart with its title, the names of its axes, and room for a legend on top."""
    figure = go.Figure(layout=_layout(title, height, legend_rows))
    figure.update_xaxes(title=x or None, automargin=True)
    figure.update_yaxes(title=y or None, automargin=True)
    return figure


def without_rows(figure: go.Figure) -> go.Figure:
    """The same figure, saying "no rows" in its middle."""
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.add_annotation(text="no rows", x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False)
    return figure


def told(values: Iterable[float], form: str) -> list[str]:
    """Numbers as texts; a missing one is "unknown".

    Examples
    --------
    >>> told([0.4, float("nan")], "{:.0%}")
    ['40%', 'unknown']
    """
    return ["unknown" if np.isnan(value) else form.format(value) for value in values]


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
    figure = chart(title, x=unit, y="rows, %")
    finite = {name: _finite(values) for name, values in samples.items()}
    together = np.concatenate([*finite.values(), np.empty(0)])
    if not together.size:
        return without_rows(figure)
    edges = _edges(together, whole=whole)
    width = edges[1] - edges[0]
    middles = np.concatenate([[edges[0] - width / 2], (edges[:-1] + edges[1:]) / 2, [edges[-1] + width / 2]])
    for (name, values), colour in zip(finite.items(), _colours(finite), strict=True):
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
    figure = chart(title, x=unit, height=90 + 60 * max(len(finite), 2), legend_rows=0)
    if not finite:
        return without_rows(figure)
    for (name, values), colour in zip(finite.items(), _colours(finite), strict=True):
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
    figure = chart(title, x="predicted", y="true", legend_rows=0)
    if not truth.size:
        return without_rows(figure)
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


def roc(curves: Curves, title: str) -> go.Figure:
    """Receiver operating characteristic by sample, with its AUC; a sample of one class has none and says so."""

    def curve(truth: Floats, made: Floats) -> tuple[Floats, Floats, float]:
        false, true, _ = metrics.roc_curve(truth, made)
        return false, true, float(metrics.roc_auc_score(truth, made))

    figure = _curves(curves, curve, "AUC", _square(title, "missed shots called made, %", "made shots called made, %"))
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
    """Share made against mean P(made), in ten bins of equally many shots, with 95 % Wilson intervals."""
    figure = _square(title, "mean P(made), %", "shots made, %")
    ends = []
    for (name, pair), colour in zip(curves.items(), _colours(curves), strict=True):
        truth, made = _labelled(*pair)
        if not truth.size:
            continue
        edges = np.unique(np.quantile(made, np.linspace(0, 1, _CALIBRATION_BINS + 1)))
        bins = hexagons.rates(
            pd.DataFrame({TARGET: truth, PROBABILITY: made}), np.searchsorted(edges[1:-1], made, side="right")
        )
        ends += [*bins["low"], *bins["high"], *bins["expected"]]
        figure.add_scatter(
            x=bins["expected"] * 100,
            y=bins["rate"] * 100,
            error_y=_error(bins["rate"] * 100, bins["low"] * 100, bins["high"] * 100, colour),
            customdata=bins[["shots"]],
            name=name,
            mode="lines+markers",
            line={"color": colour, "width": 2},
            marker={"size": 8},
            hovertemplate="P(made) %{x:.1f} %, made %{y:.1f} %<br>%{customdata[0]:,} shots<extra>" + name + "</extra>",
        )
    if not ends:
        return without_rows(figure)
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
    figure = chart(title, x="P(made)", y="shots", height=360, legend_rows=2)
    made, truth = np.asarray(probability, dtype=float), np.asarray(labels, dtype=float)
    if not np.isfinite(made).any():
        return without_rows(figure)
    edges = np.linspace(0, 1, _BINS + 1)
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
        return without_rows(chart(title))
    down = -(-len(names) // _METRICS_IN_A_ROW)
    columns = min(len(names), _METRICS_IN_A_ROW)
    height = 80 + down * (64 + 22 * len(samples))
    figure = make_subplots(down, columns, subplot_titles=names, horizontal_spacing=0.06, vertical_spacing=72 / height)
    figure.update_layout(_layout(title, height, legend_rows=1))
    figure.update_layout(margin={"t": 94 if title else 64}, legend={"y": 1 + 30 / height})
    for (sample, own), colour in zip(rows.groupby("sample", sort=False), _colours(samples), strict=True):
        for place, metric in enumerate(names):
            dot = own[own["metric"] == metric]
            figure.add_scatter(
                x=dot["value"],
                y=dot["sample"],
                error_x=_error(dot["value"], dot["low"], dot["high"], colour),
                customdata=np.column_stack([told(dot["low"], "{:.4f}"), told(dot["high"], "{:.4f}")]),
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
        ``expected``, shares from 0 to 1, as of `monitor.hexagons.rates`.
    by : str
        Name of the axis of groups, with its unit.
    title : str
        Heading.
    """
    figure = chart(title, x=by, y="shots made, %")
    if rows.empty:
        return without_rows(figure)
    groups, percent = rows["group"].astype(str), rows[["rate", "low", "high", "expected"]] * 100
    figure.add_bar(
        x=groups,
        y=percent["rate"],
        error_y=_error(percent["rate"], percent["low"], percent["high"], NEUTRAL),
        customdata=np.column_stack(
            [rows["shots"].map("{:,}".format), *(told(percent[end], "{:.1f}") for end in ("low", "high"))]
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
        return without_rows(chart(title))
    height = 76 + 76 * len(rows)
    figure = make_subplots(len(rows), 1, vertical_spacing=40 / height if len(rows) > 1 else 0)
    figure.update_layout(_layout(title, height, legend_rows=1))
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
                hovertemplate=f"{row['metric']} %{{x:.4f}}<br>95 %: {' to '.join(told(row[[low, high]], '{:.4f}'))}"
                f"<extra>{name}</extra>",
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
    figure = chart(title, x="share of the limit (1 = limit)", height=130 + 24 * max(len(rows), 4), legend_rows=2)
    ratio = (rows["value"] / rows["limit"].where(rows["limit"] > 0)).to_numpy(dtype=float)
    known = np.isfinite(ratio)
    if not known.all():
        figure.update_layout(
            title={"subtitle": {"text": f"{int((~known).sum())} without a value or a limit not drawn"}}
        )
    if not known.any():
        return without_rows(figure)
    positive = ratio[known & (ratio > 0)]
    low, high = min(positive.min(initial=1), 1), max(positive.max(initial=1), 1)
    on_log = high / low > _LOG_SCALE_FROM
    names = rows["feature"] + ", " + rows["statistic"]
    texts = told(rows["value"], "{:.3g}")
    units = rows["unit"].fillna("").where(rows["value"].notna(), "")
    hover = np.column_stack([texts, told(rows["limit"], "{:.3g}"), units])
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


def verdicts(rows: pd.DataFrame) -> go.Figure:
    """The looks at the model in operation, each with its verdict and how much it found.

    Parameters
    ----------
    rows : pandas.DataFrame
        Columns ``time``, datetime64; ``verdict``, one of the keys of `monitor.palette.VERDICT`; ``findings``, int;
        ``reasons``, str.
    """
    figure = chart(x="time of the look", y="findings", height=260)
    if rows.empty:
        return without_rows(figure)
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
    figure = chart(title, x="time of the run", y="metric")
    drawn = [metric for metric in metrics if metric in rows and rows[metric].notna().any()]
    if not drawn:
        return without_rows(figure)
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


def _layout(title: str, height: int, legend_rows: int) -> dict[str, object]:
    heading = {"text": title, "x": 0, "xanchor": "left", "y": 1, "yanchor": "top", "yref": "container", "pad": {"t": 8}}
    return {
        "title": heading,
        "height": height,
        "margin": {"l": 8, "r": 8, "t": 14 + 30 * bool(title) + 22 * legend_rows, "b": 8},
        "legend": _LEGEND,
        "showlegend": legend_rows > 0,
        "hovermode": "closest",
    }


def _finite(values: npt.ArrayLike) -> Floats:
    numbers = np.asarray(values, dtype=float)
    finite: Floats = numbers[np.isfinite(numbers)]
    return finite


def _labelled(labels: npt.ArrayLike, answers: npt.ArrayLike) -> tuple[Floats, Floats]:
    truth, answer = np.asarray(labels, dtype=float), np.asarray(answers, dtype=float)
    known = np.isfinite(truth) & np.isfinite(answer)
    return truth[known], answer[known]


def _edges(values: Floats, *, whole: bool) -> Floats:
    low, high = float(values.min()), float(values.max())
    if whole:
        step = np.ceil((high - low + 1) / _MOST_WHOLE_BINS)
        return np.asarray(np.arange(np.floor(low) - 0.5, high + step, step), dtype=float)
    if low == high:
        reach = abs(low) * 0.01 or 0.5
        low, high = low - reach, high + reach
    return np.asarray(np.linspace(low, high, _BINS + 1), dtype=float)


def _colours(names: Iterable[str]) -> Iterator[str]:
    others = cycle(_OTHERS)
    return (_SAMPLE.get(name) or next(others) for name in names)


def _faded(colour: str, opacity: float = 0.15) -> str:
    return f"rgba{(*plotly.colors.hex_to_rgb(colour), opacity)}"


def _error(
    value: "pd.Series[float]", low: "pd.Series[float]", high: "pd.Series[float]", colour: str
) -> dict[str, object]:
    return {"type": "data", "array": high - value, "arrayminus": value - low, "color": colour, "thickness": 1.5}


def _curves(
    curves: Curves, curve: Callable[[Floats, Floats], tuple[Floats, Floats, float]], area: str, figure: go.Figure
) -> go.Figure:
    for (name, pair), colour in zip(curves.items(), _colours(curves), strict=True):
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
        return without_rows(figure)
    figure.update_xaxes(range=[0, 100])
    figure.update_yaxes(range=[0, 101])
    return figure


def _square(title: str, x: str, y: str) -> go.Figure:
    return chart(title, x=x, y=y, height=400, legend_rows=2)


def _diagonal(figure: go.Figure, low: float, high: float) -> go.Figure:
    ends, line = [low, high], {"color": LINES, "dash": "dot", "width": 2}
    return figure.add_scatter(x=ends, y=ends, mode="lines", line=line, hoverinfo="skip", showlegend=False)
