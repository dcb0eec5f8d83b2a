"""Figures for the artifacts of runs."""

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from data.schema import TARGET
from monitor.charts import static


@pytest.fixture(scope="module")
def table(shots: pd.DataFrame) -> pd.DataFrame:
    return shots.rename(columns={"lon": "lng"}).dropna(subset=[TARGET]).reset_index(drop=True)


def drawn(figure: Figure) -> int:
    """Size of the PNG in bytes."""
    file = io.BytesIO()
    figure.savefig(file)
    return len(file.getvalue())


def test_figures_of_shots_can_be_drawn(table: pd.DataFrame) -> None:
    for draw in (static.histograms, static.shot_map, static.rate_by_zone, static.rate_by_distance):
        assert drawn(draw(table)) > 5_000


def test_missing_values_can_be_drawn_if_there_are_none(table: pd.DataFrame) -> None:
    assert drawn(static.missing_values(table, "none")) > 1_000
    assert drawn(static.missing_values(table.assign(lat=np.nan), "some")) > 1_000


def test_shots_from_the_backcourt_are_counted(table: pd.DataFrame) -> None:
    figure = static.prediction_map(table, np.full(len(table), 0.4), "P(made)")
    far = int(((34.0443 - table["lat"]) * 100 > 41.75).sum())
    assert far > 0
    assert any(f"{far:,} shots" in text.get_text() for text in figure.axes[0].texts)


def roc(labels: static.Floats, probability: static.Floats, title: str) -> Figure:
    return static.roc(labels, {"model": probability}, title)


@pytest.mark.parametrize("draw", [roc, static.precision_recall, static.calibration])
def test_figures_of_constant_predictions_can_be_drawn(table: pd.DataFrame, draw: object) -> None:
    assert callable(draw)
    labels = table[TARGET].to_numpy()
    assert drawn(draw(labels, np.full(len(labels), 0.4), "constant")) > 5_000


def test_a_confusion_matrix_of_one_class_shows_both_classes() -> None:
    figure = static.confusion_matrices(np.zeros(5), {"one class": np.zeros(5)}, 0.5)
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["missed", "made"]
