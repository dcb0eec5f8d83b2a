"""Charts of the pages are made once."""

from uuid import uuid4

import plotly.graph_objects as go
import pytest

from monitor.ui import cache, text, widgets


class Drawing:
    """Counts the charts that are made."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> go.Figure:
        """A bar."""
        self.made += 1
        return go.Figure(go.Bar(x=["made"], y=[1.0]), layout={"title": {"text": "Shots"}})


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """The charts that the browser is sent."""
    sent: list[dict[str, object]] = []
    monkeypatch.setattr(
        "streamlit.delta_generator.DeltaGenerator.plotly_chart",
        lambda _self, figure, **_: sent.append(figure.to_dict()),
    )
    monkeypatch.setattr("streamlit.plotly_chart", lambda figure, **_: sent.append(figure.to_dict()))
    return sent


def test_a_chart_of_the_same_rows_is_made_once_in_each_language(
    shown: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, rows = Drawing(), str(uuid4())
    for _ in range(3):
        widgets.base_figure(draw, "shots", of=rows)
    assert draw.made == 1
    assert shown[0] == shown[1] == shown[2]
    widgets.base_figure(draw, "shots", of=f"other {rows}")
    widgets.base_figure(draw, "shots of another place", of=rows)
    assert draw.made == 3
    monkeypatch.setattr(text, "language", lambda: "pt")
    widgets.base_figure(draw, "shots", of=rows)
    assert draw.made == 4
    cache.clear()
    widgets.base_figure(draw, "shots", of=rows)
    assert draw.made == 5


def test_a_chart_with_unknown_inputs_is_made_each_time(
    shown: list[dict[str, object]],
) -> None:
    draw = Drawing()
    for _ in range(2):
        widgets.base_figure(draw, "shots")
    assert draw.made == len(shown) == 2
