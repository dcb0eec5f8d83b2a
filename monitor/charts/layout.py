"""Layout, color scales and sample colors of all charts of the app.

No chart sets a background or a font color, so that the theme of the page applies. A chart without data shows "no rows".
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import cycle

import numpy as np
import numpy.typing as npt
import plotly.colors
import plotly.graph_objects as go

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


def base_figure(title: str = "", *, x: str = "", y: str = "", height: int = 340, legend_rows: int = 1) -> go.Figure:
    """An empty chart with a title, axis titles, and space for a legend on top."""
    figure = go.Figure(layout=layout(title, height, legend_rows))
    figure.update_xaxes(title=x or None, automargin=True)
    figure.update_yaxes(title=y or None, automargin=True)
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
        "margin": {"l": 8, "r": 8, "t": 14 + 30 * bool(title) + 22 * legend_rows, "b": 8},
        "legend": _LEGEND,
        "showlegend": legend_rows > 0,
        "hovermode": "closest",
    }


def colors(names: Iterable[str]) -> Iterator[str]:
    """A color for each sample; train and test have the same color in every chart."""
    others = cycle(_OTHERS)
    return (_SAMPLE.get(name) or next(others) for name in names)
