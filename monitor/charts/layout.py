"""Layout, color scales and sample colors of all charts of the app.

No chart sets a background or a color of text, so that the style sheet of the page applies. A chart without data shows
"no rows".
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import cycle
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.colors
import plotly.graph_objects as go
from plotly.basedatatypes import BaseFigure

from monitor.charts.palette import CHALLENGER, CURRENT, MADE, MISSED, NEUTRAL, REFERENCE, TRAINING

Floats = npt.NDArray[np.float64]
Colors = list[list[float | str]]
Curves = Mapping[str, tuple[Floats, Floats]]
"""Labels (1, 0 or NaN) and P(made), each of shape (n,), by sample."""
_LEGEND = {
    "orientation": "h",
    "traceorder": "normal",
    "x": 0,
    "xanchor": "left",
    "y": 1.02,
    "yanchor": "bottom",
    "title": None,
}
_GRID = "rgba(128, 132, 149, 0.22)"
"""Lines of axes, on a light and on a dark page."""
_FONT = {"family": '"Source Sans", sans-serif', "size": 12}
_AXIS = {"gridcolor": _GRID, "zerolinecolor": _GRID, "automargin": True}
_AXES = {
    "x": {**_AXIS, "showgrid": False, "zeroline": False, "title": {"standoff": 20, "font": {"size": 14}}},
    "y": {**_AXIS, "title": {"standoff": 24, "font": {"size": 14}}},
}
_THEME = {
    "font": _FONT,
    "hoverlabel": {"font": _FONT},
    "paper_bgcolor": "rgba(0, 0, 0, 0)",
    "plot_bgcolor": "rgba(0, 0, 0, 0)",
    "margin": {"pad": 8},
    # A constant: plotly compares data by it, not by identity.
    "datarevision": 1,
}
_SAMPLE = {"train": TRAINING, "test": REFERENCE}
_OTHERS = (CURRENT, CHALLENGER, MISSED, MADE, NEUTRAL)
BINS = 40


def _sequential() -> Colors:
    # The ends of Viridis have too little contrast on a dark or a light page.
    stops = np.linspace(0, 1, 9)
    return [
        [float(stop), color]
        for stop, color in zip(stops, plotly.colors.sample_colorscale("Viridis", 0.18 + stops * 0.77), strict=True)
    ]


SEQUENTIAL = _sequential()
"""Color scale of P(made), shares and counts: Viridis, safe for people with color blindness."""


class DrawnOnce(BaseFigure):  # type: ignore[misc] # plotly has no types
    """A figure that Streamlit's front end draws once.

    The front end copies a figure after it has drawn it. Plotly draws a copy again if it has a template, or encoded
    arrays, or no revision of its data: the theme is part of the layout here, and arrays are lists.

    Parameters
    ----------
    figure : plotly.graph_objects.Figure
    """

    def __init__(self, figure: go.Figure) -> None:
        layout = figure.layout.to_plotly_json()
        layout.pop("template", None)
        axes = {name: _AXES[name[0]] for name in ("xaxis", "yaxis", *layout) if name[1:].startswith("axis")}
        self._drawn = {
            "data": [trace.to_plotly_json() for trace in figure.data],
            "layout": _with_defaults(layout, {**_THEME, **axes}),
        }

    def to_dict(self) -> dict[str, Any]:
        """The figure with the theme of the app, as plotly reads it."""
        return self._drawn


def _with_defaults(given: dict[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values, and those of the defaults that are not given."""
    found = {**defaults, **given}
    for name, value in defaults.items():
        if isinstance(value, Mapping):
            own = given.get(name) or {}
            found[name] = _with_defaults({"text": own} if isinstance(own, str) else own, value)
    return found


def base_figure(title: str = "", *, x: str = "", y: str = "", height: int = 340, legend_rows: int = 1) -> go.Figure:
    """An empty chart with a title, axis titles, and space for a legend on top."""
    figure = go.Figure(layout=layout(title, height, legend_rows))
    figure.update_xaxes(title=x or None, automargin=True)
    figure.update_yaxes(title=y or None, automargin=True)
    # Room for usual ticks and titles: plotly draws a chart again where it has to widen a margin.
    figure.update_layout(margin={"l": 75 if y else 41, "b": 63 if x else 33})
    return figure


def empty_figure(figure: go.Figure) -> go.Figure:
    """The same figure with the text "no rows" in the center."""
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.add_annotation(text="no rows", x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False)
    return figure


def format_values(values: Iterable[float], form: str) -> list[str]:
    """Format numbers as strings; a missing number is "unknown".

    Examples
    --------
    >>> format_values([0.4, float("nan")], "{:.0%}")
    ['40%', 'unknown']
    """
    return ["unknown" if np.isnan(value) else form.format(value) for value in values]


def layout(title: str, height: int, legend_rows: int) -> dict[str, object]:
    """Layout of a chart: title, height in pixels, and number of legend rows."""
    heading = {"text": title, "x": 0, "xanchor": "left", "y": 1, "yanchor": "top", "yref": "container", "pad": {"t": 8}}
    return {
        "title": heading,
        "height": height,
        "margin": {
            "l": 41,
            "r": 16,
            "t": 14 + 30 * bool(title) + max(22 * legend_rows, 30 * bool(legend_rows)),
            "b": 33,
        },
        "legend": _LEGEND,
        "showlegend": legend_rows > 0,
        "hovermode": "closest",
    }


def colors(names: Iterable[str]) -> Iterator[str]:
    """A color for each sample; train and test have the same color in every chart."""
    others = cycle(_OTHERS)
    return (_SAMPLE.get(name) or next(others) for name in names)
