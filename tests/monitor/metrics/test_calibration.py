"""The app, the plots and the metric have the same calibration bins."""

import numpy as np
import numpy.typing as npt
import pytest

from monitor.charts import performance, static
from monitor.metrics.binary import evaluate
from monitor.metrics.calibration import calibration_curve
from monitor.metrics.rates import wilson

Floats = npt.NDArray[np.float64]


def tree(rows: list[int]) -> tuple[Floats, Floats]:
    """Labels and P(made) of a tree, by the rows of each leaf; about half of the shots are made."""
    made = np.repeat(np.linspace(0.2, 0.8, len(rows)), rows)
    return (np.arange(len(made)) % 2).astype(float), made


def forest(rows: int) -> tuple[Floats, Floats]:
    stream = np.random.default_rng(0)
    made = np.round(stream.beta(4, 5, rows), 2)
    return (stream.random(rows) < made).astype(float), made


SAMPLES = {
    "seven leaves, the highest of them large": tree([40, 60, 180, 120, 90, 200, 310]),
    "a small highest leaf": tree([300, 300, 250, 130, 20]),
    "one leaf": tree([50]),
    "many values, some of them equal": forest(1_000),
    "fewer rows than bins": forest(4),
}


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_app_the_plots_and_the_metric_have_the_same_bins(sample: str) -> None:
    labels, made = SAMPLES[sample]
    bins = calibration_curve(labels, made)
    drawn = performance.calibration({"test": (labels, made)}, "calibration").data[0]
    line = next(each for each in static.calibration(labels, made, "c").axes[0].lines if each.get_label() == "model")
    for mean, share in ((np.asarray(drawn.x) / 100, np.asarray(drawn.y) / 100), line.get_data()):
        assert np.asarray(mean) == pytest.approx(bins["predicted"].to_numpy())
        assert np.asarray(share) == pytest.approx(bins["made"].to_numpy())
    gap = (bins["predicted"] - bins["made"]).abs() @ bins["rows"] / len(labels)
    assert evaluate(labels, made)["calibration_error"] == pytest.approx(gap)


@pytest.mark.parametrize("rows", [[40, 60, 180, 120, 90, 200, 310], [300, 300, 250, 130, 20], [5] * 10])
def test_each_leaf_of_a_tree_of_up_to_ten_is_a_bin(rows: list[int]) -> None:
    labels, made = tree(rows)
    bins = calibration_curve(labels, made)
    assert bins["rows"].tolist() == rows
    assert bins["predicted"].tolist() == pytest.approx(np.unique(made).tolist())
    expected = np.column_stack(wilson(bins["made"] * bins["rows"], bins["rows"]))
    assert bins[["low", "high"]].to_numpy() == pytest.approx(expected)


def test_equal_probabilities_are_never_in_two_bins() -> None:
    labels, made = forest(2_000)
    bins = calibration_curve(labels, made)
    ends = np.cumsum(bins["rows"].to_numpy()).astype(int)[:-1]
    ordered = np.sort(made)
    assert len(bins) == 10
    assert (ordered[ends - 1] < ordered[ends]).all()
