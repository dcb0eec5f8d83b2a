"""The trust court as an image, with matplotlib: for reports, model cards, runs and the README."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import RegularPolygon

from data import court
from monitor.charts import trust_court as drawing
from monitor.charts.palette import DIVERGING, INK, LINES, NEUTRAL
from monitor.charts.trust_court import TrustCourt
from monitor.metrics.names import metric_name

FADED = 0.38
"""Opacity of a hexagon whose difference is not statistically significant."""
_SIZE = (11.0, 7.6)
_HALO = [patheffects.withStroke(linewidth=3, foreground="white")]


def image(found: TrustCourt, title: str, subtitle: str = "") -> Figure:
    """Draw a trust court, with legends of size, color, fading and hatching.

    Parameters
    ----------
    found : TrustCourt
    title, subtitle : str
        Above the court: what is shown, and its cause in a sentence.
    """
    figure = Figure(figsize=_SIZE, facecolor="white")
    axes = figure.add_axes((0.0, 0.085, 1.0, 0.80))
    axes.set(
        xlim=(-drawing.WIDTH / 2, drawing.WIDTH / 2), ylim=(drawing.BOTTOM, drawing.TOP), aspect="equal",
        xticks=[], yticks=[],
    )  # fmt: skip
    axes.spines[:].set_visible(False)
    _draw_court(axes)
    _draw_cells(axes, found)
    _draw_zones(axes, found.zones)
    figure.text(0.02, 0.965, _plain(title), fontsize=17, fontweight="bold", color=INK, va="center")
    figure.text(0.02, 0.918, _plain(subtitle), fontsize=11.5, color=NEUTRAL, va="center")
    _draw_legends(figure, found)
    return figure


def _draw_court(axes: Axes) -> None:
    strokes = [np.column_stack(line) for line in court.court_lines()]
    axes.add_collection(LineCollection(strokes, colors="#B6BCC6", linewidths=1.3, zorder=1, capstyle="round"))
    outlines = [np.column_stack(line) for line in drawing.zone_lines()]
    axes.add_collection(LineCollection(outlines, colors=LINES, linewidths=0.8, linestyles=(0, (3, 3)), zorder=4))


def _draw_cells(axes: Axes, found: TrustCourt) -> None:
    cells = found.cells
    if cells.empty:
        axes.text(0, 14, "no shots", ha="center", color=NEUTRAL, fontsize=13)
        return
    corner = np.column_stack(drawing.hexagon(found.radius * 0.96))
    centers = cells[["x", "y"]].to_numpy()
    size = cells["size"].to_numpy()
    shapes = centers[:, None, :] + size[:, None, None] * corner
    level, opacity = cells["level"].to_numpy(), np.where(cells["significant"], 1.0, FADED)
    known = level >= 0
    colors = [DIVERGING[each] for each in level[known]]
    if known.any():
        axes.add_collection(
            PolyCollection(shapes[known], facecolors=colors, alpha=opacity[known], linewidths=0, zorder=2)
        )
    axes.add_collection(
        PolyCollection(
            shapes,
            facecolors="none",
            edgecolors=np.where(known, "#6B7280", LINES),
            linewidths=0.45,
            alpha=0.7,
            zorder=2,
        )
    )
    hatched = cells["hatched"].to_numpy()
    strong = cells["significant"].to_numpy() & np.isin(level, (0, len(DIVERGING) - 1))
    for selected, style in (
        (hatched & ~strong, {"colors": INK, "linewidths": 0.55, "alpha": 0.55}),
        (hatched & strong, {"colors": "white", "linewidths": 0.8, "alpha": 0.9}),
    ):
        strokes = [
            (centers[place] + size[place] * np.array(line)).tolist()
            for place in np.flatnonzero(selected)
            for line in drawing.hatching(found.radius * 0.9)
        ]
        axes.add_collection(LineCollection(strokes, **style, zorder=3))


def _draw_zones(axes: Axes, zones: pd.DataFrame) -> None:
    place: dict[str, Any] = {"ha": "center", "va": "center", "zorder": 5, "path_effects": _HALO, "color": INK}
    for zone in zones[zones["is_labeled"] & zones["x"].notna()].to_dict("records"):
        x, y, rate = zone["x"], zone["y"], metric_name("rate")
        axes.text(x, y + 0.55, rate.format(zone["rate"]), fontsize=13, fontweight="bold", **place)
        text = f"of {zone['labeled']:,}, expected {rate.format(zone['expected'])}"
        axes.text(x, y - 0.95, text, fontsize=8, **place)


def _draw_legends(figure: Figure, found: TrustCourt) -> None:
    axes = figure.add_axes((0.0, 0.0, 1.0, 0.085))
    axes.set(xlim=(0, 110), ylim=(0, 8.5), aspect="equal", xticks=[], yticks=[])
    axes.axis("off")
    text: dict[str, Any] = {"va": "center", "fontsize": 9, "color": INK}
    axes.text(2.2, 6.2, "FG% minus expected, percentage points", **text)
    for place, color in enumerate(DIVERGING):
        axes.add_patch(RegularPolygon((4 + place * 7, 3.4), 6, radius=1.3, facecolor=color, edgecolor=LINES, lw=0.5))
    for place, edge in enumerate(drawing.CLASS_EDGES):
        axes.text(7.5 + place * 7, 1.0, f"{edge * 100:+.0f}", ha="center", **{**text, "fontsize": 8})
    axes.text(43, 6.2, "shots", **text)
    for place, size in enumerate((drawing.MIN_SIZE, 0.66, 1.0)):
        shape = RegularPolygon((43.6 + place * 2.8, 3.4), 6, radius=1.4 * size, facecolor="none", edgecolor=INK, lw=0.8)
        axes.add_patch(shape)
    axes.text(51.2, 3.4, "few to many", **text)
    axes.add_patch(
        RegularPolygon((67.4, 6.2), 6, radius=1.3, facecolor=DIVERGING[0], alpha=FADED, edgecolor=LINES, lw=0.5)
    )
    axes.text(69.8, 6.2, "faded: may be chance", **text)
    axes.add_patch(RegularPolygon((67.4, 2.6), 6, radius=1.3, facecolor="none", edgecolor=LINES, lw=0.7))
    lines = [(np.array([67.4, 2.6]) + np.array(line)).tolist() for line in drawing.hatching(1.2)]
    axes.add_collection(LineCollection(lines, colors=INK, linewidths=0.7))
    note = f" · {found.not_drawn:,} farther shots not drawn" if found.not_drawn else ""
    axes.text(69.8, 2.6, f"hatched: no training shots there{note}", **text)


def _plain(text: str) -> str:
    """Text that matplotlib does not take for a formula."""
    return text.replace("$", r"\$")
