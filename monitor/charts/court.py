"""Shots and field-goal percentages on a half court drawn to scale, with plotly for the app."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.colors
import plotly.graph_objects as go
from PIL import Image, ImageColor

from data import court
from data.schema import PREDICTION, PROBABILITY, TARGET
from monitor.charts.layout import SEQUENTIAL, Colors, base_figure, format_values
from monitor.charts.palette import CURRENT, LINES, MADE, MISSED, NEUTRAL
from monitor.metrics import rates

Floats = npt.NDArray[np.float64]

DIVERGING: Colors = [[0.0, MISSED], [0.5, LINES], [1.0, MADE]]
"""Color scale of residuals and differences: below, at and above the expected value."""

_X, _Y = (-26.0, 26.0), (-6.25, 42.75)
_MAX_SHOTS = 50_000
_CLASSES = 16
_MIN_SIZE, _FULL_SIZE_QUANTILE = 0.3, 0.9
_DENSITY_FEET = 1.5
_SQUARE_FEET = 2.0
_PIXELS_PER_FOOT, _DOT_PIXELS = 24, 4
_HISTORY: Colors = [
    [float(part), f"rgba(107, 114, 128, {0.1 + 0.85 * part:.3f})"] for part in np.linspace(0, 1, _CLASSES)
]
"""Color scale of the shot density behind scored shots: a gray of some opacity, because colors are P(made)."""
_LEFT_BAR, _RIGHT_BAR = ({"len": 0.42, "x": position} for position in (0.25, 0.75))
# Fixed range, so that maps are comparable. Nearly every P(made) is in it.
_RATE = (0.2, 0.7)
_RATE_TICKS = {"tickvals": [0.2, 0.3, 0.4, 0.5, 0.6, 0.7], "tickformat": ".0%"}
_SHARE = (-2.0, 1.0)
_SHARE_TICKS = {"tickvals": [-2, -1, 0, 1], "ticktext": ["0.01%", "0.1%", "1%", "10%"]}


@dataclass(frozen=True)
class _Scale:
    """Values, shape (n,), and their color scale."""

    values: Floats
    colors: Colors
    ends: tuple[float, float]
    name: str
    ticks: Mapping[str, object]

    @property
    def bar(self) -> dict[str, object]:
        return {
            **self.ticks,
            "title": {"text": self.name, "side": "top"},
            "orientation": "h",
            "thickness": 10,
            "len": 0.5,
            "x": 0.5,
            "y": 1.09,
            # With yanchor="bottom" the color bar hides the title of the figure (plotly.js 3).
            "yanchor": "middle",
            "ypad": 0,
            "outlinewidth": 0,
        }

    @property
    def marker(self) -> dict[str, object]:
        low, high = self.ends
        return {"color": self.values, "colorscale": self.colors, "cmin": low, "cmax": high, "colorbar": self.bar}

    def classes(self) -> tuple[npt.NDArray[np.int64], list[str]]:
        """Class of each value, starting at 0, and the color of each class."""
        part = (self.values - self.ends[0]) / (self.ends[1] - self.ends[0])
        level = np.rint(np.clip(np.nan_to_num(part), 0, 1) * (_CLASSES - 1)).astype(np.int64)
        colors = [str(color) for _, color in self.colors]
        if len(colors) != _CLASSES:
            colors = plotly.colors.sample_colorscale(self.colors, np.linspace(0, 1, _CLASSES))
        # A hexagon without labeled shots has no value and is gray.
        return np.where(np.isnan(part), _CLASSES, level), [*colors, NEUTRAL]


def court_figure(title: str = "") -> go.Figure:
    """An empty half court, drawn to scale: x and y in feet from the hoop."""
    figure = _court(title)
    return _add_lines(figure)


def shots_on_court(
    shots: pd.DataFrame, color: Literal["result", "prediction", "probability", "residual"], title: str = ""
) -> go.Figure:
    """Shots at their locations, at most 50,000 of them.

    Parameters
    ----------
    shots : pandas.DataFrame
        ``lat`` and ``lng`` in degrees, ``shot_distance`` in feet, ``shot_made_flag`` (1, 0 or NaN), ``prediction``
        (1 or 0) and ``probability``, P(made).
    color : {"result", "prediction", "probability", "residual"}
        Value shown as color: the label, the predicted label, P(made), or ``shot_made_flag`` minus P(made). Only
        labeled shots have a residual.
    """
    figure = court_figure(title)
    if color == "residual":
        shots = shots[shots[TARGET].notna()]
    if shots.empty:
        return _without_rows(figure)
    drawn, x, y = _drawn(figure, shots)
    labels, probability = drawn[TARGET].to_numpy(dtype=float), drawn[PROBABILITY].to_numpy(dtype=float)
    if color in {"result", "prediction"}:
        result = np.select([labels == 0, labels == 1], [1, 2], 0)
        level = result if color == "result" else np.where(drawn[PREDICTION] == 1, 2, 1)
        colors = [NEUTRAL, MISSED, MADE]
        for number, word in enumerate(("no label", "missed", "made")):
            if count := int((level == number).sum()):
                name = f"{'predicted ' * (color == 'prediction')}{word} ({count:,})"
                figure.add_scatter(x=[None], y=[None], mode="markers", marker={"color": colors[number]}, name=name)
    else:
        if color == "probability":
            scale = _Scale(probability, SEQUENTIAL, _RATE, "P(made)", _RATE_TICKS)
        else:
            ticks = {"tickvals": [-1, -0.5, 0, 0.5, 1], "ticktext": ["-1", "-0.5", "0", "+0.5", "+1"]}
            scale = _Scale(labels - probability, DIVERGING, (-1, 1), "label (1 or 0) minus P(made)", ticks)
        level, colors = scale.classes()
        _add_bar(figure, scale, {})
    _add_dots(figure, x, y, level, colors)
    return _add_hover_of_squares(figure, x, y, labels, probability)


def hexagons_on_court(
    cells: pd.DataFrame, value: Literal["rate", "expected", "difference", "shots"], title: str = ""
) -> go.Figure:
    """Values by location, as in NBA shot charts: area is the number of shots, color is the value.

    Parameters
    ----------
    cells : pandas.DataFrame
        As returned by `monitor.metrics.rates.hexagons`.
    value : {"rate", "expected", "difference", "shots"}
        Value shown as color: FG%, mean P(made), FG% minus mean P(made), or the number of shots. For the last, all
        hexagons have full size.
    """
    figure = _court(title)
    if cells.empty:
        return _without_rows(_add_lines(figure))
    drawn = _on_court(figure, cells)
    shots = drawn["shots"].to_numpy(dtype=float)
    if value == "shots":
        size, top = np.ones(len(drawn)), max(shots.max(initial=1), 10.0)
        decades = np.arange(np.ceil(np.log10(top)) + 1)
        ticks = {"tickvals": decades, "ticktext": [f"{10**decade:,.0f}" for decade in decades]}
        scale = _Scale(np.log10(shots), SEQUENTIAL, (0.0, float(np.log10(top))), "shots", ticks)
    else:
        busy = np.quantile(shots, _FULL_SIZE_QUANTILE) if len(shots) else 1
        size = np.clip(np.sqrt(shots / busy), _MIN_SIZE, 1)
        values = drawn[value].to_numpy(dtype=float)
        if value == "difference":
            ticks = {"tickvals": [-0.2, -0.1, 0, 0.1, 0.2], "ticktext": ["-20", "-10", "0", "+10", "+20"]}
            scale = _Scale(values, DIVERGING, (-0.2, 0.2), "FG% minus expected, percentage points", ticks)
        else:
            name = "FG%" if value == "rate" else "mean P(made)"
            scale = _Scale(values, SEQUENTIAL, _RATE, name, _RATE_TICKS)
    _add_hexagons(figure, drawn, size, scale)
    _add_lines(figure)
    _add_hover(figure, drawn, scale, _rate_texts(drawn))
    return figure


def density_on_court(shots: pd.DataFrame, title: str = "") -> go.Figure:
    """Density of shot locations: share of all shots per hexagon, on a fixed logarithmic scale.

    Parameters
    ----------
    shots : pandas.DataFrame
        ``lat`` and ``lng``, degrees.
    """
    figure = _court(title)
    cells = rates.counts(shots, size_feet=_DENSITY_FEET)
    if cells.empty:
        return _without_rows(_add_lines(figure))
    drawn = _on_court(figure, cells)
    scale = _density(drawn, len(shots))
    _add_hexagons(figure, drawn, np.ones(len(drawn)), scale)
    _add_lines(figure)
    share = drawn["shots"] / len(shots)
    hover = [f"{count:,} shots, {part:.2%} of all" for count, part in zip(drawn["shots"], share, strict=True)]
    _add_hover(figure, drawn, scale, hover)
    return figure


def pick_on_court(history: pd.DataFrame, picked: tuple[float, float] | None, scored: pd.DataFrame | None) -> go.Figure:
    """A court on which a click selects a location, to the nearest foot.

    Parameters
    ----------
    history : pandas.DataFrame
        ``lat`` and ``lng`` in degrees of earlier shots, drawn in gray.
    picked : tuple of float or None
        The selected location, x and y in feet from the hoop.
    scored : pandas.DataFrame or None
        Scored shots: ``x`` and ``y`` in feet from the hoop, ``probability``, P(made).

    Notes
    -----
    The coordinates of every clickable point are feet, so ``event.selection.points[0]["x"]`` is always in feet.
    """
    figure = _court("")
    # The color bars are above the court, the legend is below it.
    figure.update_layout(legend={"y": -0.05, "yanchor": "top", "orientation": "h"}, margin={"b": 50})
    cells = rates.counts(history, size_feet=_DENSITY_FEET)
    drawn = _on_court(figure, cells)
    if len(drawn):
        density = replace(_density(drawn, len(history)), colors=_HISTORY, name="share of all prepared shots")
        _add_hexagons(figure, drawn, np.ones(len(drawn)), density)
        _add_bar(figure, density, _LEFT_BAR)
    _add_lines(figure)
    across, along = np.meshgrid(
        np.arange(-court.SIDELINE_X, court.SIDELINE_X + 1), np.arange(np.ceil(court.BASELINE_Y), court.MID_COURT_Y)
    )
    x, y = across.ravel(), along.ravel()
    figure.add_scatter(
        x=x,
        y=y,
        customdata=np.hypot(x, y),
        # Texts without a text are no elements of the page, but can be clicked on.
        mode="text",
        hovertemplate="%{x:.0f} feet across, %{y:.0f} along<br>%{customdata:.1f} feet from the hoop<extra></extra>",
        showlegend=False,
    )
    if scored is not None and len(scored):
        probability = scored[PROBABILITY].to_numpy(dtype=float)
        scale = _Scale(probability, SEQUENTIAL, _RATE, "P(made) of scored shots", _RATE_TICKS)
        _add_bar(figure, scale, _RIGHT_BAR)
        figure.add_scatter(
            x=scored["x"],
            y=scored["y"],
            text=format_values(scored[PROBABILITY], "P(made) {:.1%}"),
            mode="markers",
            marker={
                **scale.marker,
                "showscale": False,
                "colorbar": None,
                "size": 12,
                "line": {"color": NEUTRAL, "width": 1},
            },
            selected={"marker": {"opacity": 1}},
            unselected={"marker": {"opacity": 1}},
            hovertemplate="%{text}<br>%{x:.0f} feet across, %{y:.0f} along<extra>scored shot</extra>",
            name="scored shots",
            showlegend=True,
        )
    if picked is not None:
        figure.add_scatter(
            x=[picked[0]],
            y=[picked[1]],
            mode="markers",
            marker={"symbol": "star", "size": 20, "color": CURRENT, "line": {"color": "white", "width": 1}},
            selected={"marker": {"opacity": 1}},
            unselected={"marker": {"opacity": 1}},
            hovertemplate="shot in the form: %{x:.0f} feet across, %{y:.0f} along<extra></extra>",
            name="shot in the form",
            showlegend=True,
        )
    figure.update_layout(clickmode="event+select", dragmode=False)
    return figure


def _court(title: str) -> go.Figure:
    figure = base_figure(title, height=480)
    # The same margins with a legend or a color bar, so that courts in one row are aligned.
    figure.update_layout(
        margin={"l": 8, "r": 8, "t": 80 + 30 * bool(title), "b": 26},
        legend={"x": 0.5, "xanchor": "center", "y": 1.0, "itemsizing": "constant"},
    )
    hidden = {"visible": False, "fixedrange": True, "constrain": "domain"}
    figure.update_xaxes(range=_X, **hidden)
    figure.update_yaxes(range=_Y, scaleanchor="x", scaleratio=1, constraintoward="top", **hidden)
    return figure


def _add_lines(figure: go.Figure) -> go.Figure:
    gap = np.array([np.nan])
    x, y = (np.concatenate([part for line in court.court_lines() for part in (line[axis], gap)]) for axis in (0, 1))
    line = {"color": LINES, "width": 1.5}
    return figure.add_scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False)


def _without_rows(figure: go.Figure) -> go.Figure:
    return figure.add_annotation(text="no rows", x=0, y=22, showarrow=False)


def _note(figure: go.Figure, notes: list[str]) -> None:
    if notes:
        figure.add_annotation(
            text=", ".join(notes),
            x=0,
            y=_Y[0],
            yanchor="top",
            font={"size": 11},
            showarrow=False,
        )


def _not_drawn(count: int) -> list[str]:
    return [f"{count:,} shot{'s' * (count != 1)} from the backcourt not drawn"] if count else []


def _drawn(figure: go.Figure, shots: pd.DataFrame) -> tuple[pd.DataFrame, Floats, Floats]:
    x, y = court.to_feet(shots["lat"], shots["lng"])
    on_court = np.flatnonzero((y <= court.MID_COURT_Y) & ~np.isnan(x))
    kept = on_court[np.linspace(0, on_court.size - 1, min(on_court.size, _MAX_SHOTS)).round().astype(np.int64)]
    notes = [f"{kept.size:,} of {on_court.size:,} shots drawn"] if kept.size < on_court.size else []
    no_position = int(np.isnan(x + y).sum())
    notes += _not_drawn(int((y > court.MID_COURT_Y).sum()))
    notes += [f"{no_position:,} without a position"] if no_position else []
    _note(figure, notes)
    # Jitter, because positions are rounded to tenths of a foot and many are the position of the hoop.
    jitter = np.random.default_rng(0).uniform(-0.25, 0.25, (2, kept.size))
    return shots.iloc[kept], x[kept] + jitter[0], y[kept] + jitter[1]


def _on_court(figure: go.Figure, cells: pd.DataFrame) -> pd.DataFrame:
    far = cells["y"] > court.MID_COURT_Y
    _note(figure, _not_drawn(int(cells.loc[far, "shots"].sum())))
    return cells[~far]


def _add_dots(figure: go.Figure, x: Floats, y: Floats, level: npt.NDArray[np.int64], colors: list[str]) -> None:
    """Add shots, whose colors are numbered, as an image: as points, each would be an element of the page."""
    width, height = (int((high - low) * _PIXELS_PER_FOOT) for low, high in (_X, _Y))
    image = np.zeros((height, width), dtype=np.uint8)
    reach = np.arange(-_DOT_PIXELS, _DOT_PIXELS + 1)
    down, right = (part[np.hypot(*np.meshgrid(reach, reach)) <= _DOT_PIXELS] for part in np.meshgrid(reach, reach))
    rows = ((_Y[1] - y) * _PIXELS_PER_FOOT).astype(int)[:, None] + down
    columns = ((x - _X[0]) * _PIXELS_PER_FOOT).astype(int)[:, None] + right
    image[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)] = level[:, None] + 1
    drawn, file = Image.fromarray(image), io.BytesIO()
    drawn.putpalette([part for color in ["white", *colors] for part in ImageColor.getrgb(color)[:3]])
    drawn.save(file, "PNG", transparency=0)
    figure.add_layout_image(
        source=f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}", xref="x", yref="y", x=_X[0],
        y=_Y[1], sizex=_X[1] - _X[0], sizey=_Y[1] - _Y[0], sizing="stretch", opacity=0.8, layer="below",
    )  # fmt: skip


def _add_hover_of_squares(figure: go.Figure, x: Floats, y: Floats, labels: Floats, probability: Floats) -> go.Figure:
    """Add what the shots of each square have in common, as an image without color: one element of the page for all."""
    ends = (_X, _Y)
    across, along = (
        np.clip((values - low) // _SQUARE_FEET, 0, (high - low) // _SQUARE_FEET).astype(int)
        for values, (low, high) in zip((x, y), ends, strict=True)
    )
    shots = pd.DataFrame({"along": along, "across": across, "label": labels, "probability": probability})
    counts = np.full([int((high - low) // _SQUARE_FEET) + 1 for low, high in reversed(ends)], np.nan)
    texts = np.full(counts.shape, "", dtype=object)
    for place, own in shots.groupby(["along", "across"]).agg(["count", "sum"]).iterrows():
        count, labeled, made = (
            int(own[each]) for each in (("probability", "count"), ("label", "count"), ("label", "sum"))
        )
        counts[place] = count
        expected = own["probability", "sum"] / count
        texts[place] = (
            f"{count:,} shot{'s' * (count != 1)}, mean P(made) {expected:.1%}<br>{made:,} of {labeled:,} labeled made"
        )
    return figure.add_heatmap(
        x0=_X[0] + _SQUARE_FEET / 2,
        dx=_SQUARE_FEET,
        y0=_Y[0] + _SQUARE_FEET / 2,
        dy=_SQUARE_FEET,
        z=counts,
        text=texts,
        opacity=0,
        showscale=False,
        showlegend=False,
        hoverongaps=False,
        hovertemplate="%{text}<extra></extra>",
    )


def _density(cells: pd.DataFrame, shots: int) -> _Scale:
    share = np.log10(cells["shots"].to_numpy(dtype=float) * 100 / max(shots, 1))
    return _Scale(share, SEQUENTIAL, _SHARE, "share of all shots", _SHARE_TICKS)


def _add_hexagons(figure: go.Figure, cells: pd.DataFrame, size: Floats, scale: _Scale) -> None:
    level, colors = scale.classes()
    # Six corners, the first one repeated, and a gap before the next hexagon.
    angle = np.append(np.pi / 2 + np.arange(7) * np.pi / 3, np.nan)
    radius = size[:, None] * cells.attrs.get(rates.SIZE, rates.SIZE_FEET) / np.sqrt(3) * 0.97
    x = cells["x"].to_numpy()[:, None] + radius * np.cos(angle)
    y = cells["y"].to_numpy()[:, None] + radius * np.sin(angle)
    for found in np.unique(level):
        figure.add_scatter(
            x=x[level == found].ravel(),
            y=y[level == found].ravel(),
            mode="lines",
            line={"width": 0},
            fill="toself",
            fillcolor=colors[found],
            hoverinfo="skip",
            showlegend=False,
        )


def _add_bar(figure: go.Figure, scale: _Scale, position: Mapping[str, float]) -> None:
    """Add the color bar of a scale above the court; it belongs to a trace without points."""
    marker = {**scale.marker, "color": [scale.ends[0]], "colorbar": {**scale.bar, **position}, "opacity": 0}
    shown = {"marker": {"opacity": 0}}
    figure.add_scatter(
        x=[None], y=[None], mode="markers", marker=marker, selected=shown, unselected=shown, hoverinfo="none",
        showlegend=False,
    )  # fmt: skip


def _add_hover(figure: go.Figure, cells: pd.DataFrame, scale: _Scale, texts: list[str]) -> None:
    _add_bar(figure, scale, {})
    # A filled hexagon can only show the name of its trace on hover. Texts without a text are no elements of the page.
    figure.add_scatter(
        x=cells["x"],
        y=cells["y"],
        hovertext=texts,
        mode="text",
        hovertemplate="%{hovertext}<extra></extra>",
        showlegend=False,
    )


def _rate_texts(cells: pd.DataFrame) -> list[str]:
    percent = {name: format_values(cells[name] * 100, "{:.1f}") for name in ("rate", "low", "high", "expected")}
    differences = format_values(cells["difference"] * 100, "{:+.1f}")
    return [
        f"{shots:,} shots<br>FG% {rate}% (95% CI {low}% to {high}%)<br>"
        f"expected {expected}%<br>difference {difference} percentage points"
        for shots, rate, low, high, expected, difference in zip(
            cells["shots"], *percent.values(), differences, strict=True
        )
    ]
