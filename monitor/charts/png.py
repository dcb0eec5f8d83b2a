"""Figures as PNG."""

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def png(figure: Figure, dots_per_inch: float | None = None) -> bytes:
    """Convert a figure to PNG, in its own resolution or another.

    The pixels are those of ``Figure.savefig``, which draws a figure twice: it lays it out first.
    """
    if dots_per_inch is not None:
        figure.set_dpi(dots_per_inch)
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    return file.getvalue()
