"""Figures as PNG."""

import io

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from monitor.charts.png import png


def figure() -> Figure:
    made = Figure(figsize=(3, 2), layout="constrained")
    axes = made.subplots()
    axes.plot([0, 1], [1, 0], label="a line")
    axes.set(title="A title", xlabel="a label")
    made.legend(loc="outside upper right")
    return made


@pytest.mark.parametrize("dots_per_inch", [None, 130])
def test_the_pixels_are_those_of_savefig(dots_per_inch: int | None) -> None:
    file = io.BytesIO()
    figure().savefig(file, format="png", dpi=dots_per_inch or "figure")
    file.seek(0)
    found = matplotlib.image.imread(io.BytesIO(png(figure(), dots_per_inch)))
    assert np.array_equal(found, matplotlib.image.imread(file))


def test_a_figure_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    original = Figure.draw

    def draw(self: Figure, *arguments: object) -> None:
        drawn.append(self)
        original(self, *arguments)

    monkeypatch.setattr(Figure, "draw", draw)
    made = figure()
    png(made)
    assert drawn == [made]
