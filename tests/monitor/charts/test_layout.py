"""Charts of the app."""

import base64
import io
import json
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.colors
import plotly.graph_objects as go
import pytest
from PIL import Image, ImageColor
from sklearn.metrics import average_precision_score, roc_auc_score

from data import court
from data.simulation import synthetic
from monitor.charts import court as court_charts
from monitor.charts import monitoring, performance
from monitor.charts.layout import SEQUENTIAL, DrawnOnce
from monitor.charts.palette import CURRENT, MADE, MISSED, REFERENCE, STATUS, TRAINING
from monitor.metrics import rates

Floats = npt.NDArray[np.float64]
NOTHING = np.empty(0)
TIMES = pd.date_range("2026-01-01", periods=4, freq="D")


@pytest.fixture(scope="module")
def shots() -> pd.DataFrame:
    table = synthetic.shots(6_000, seed=3).rename(columns={"lon": "lng"})
    probability = synthetic.true_probability(table)
    return table.assign(probability=probability, prediction=(probability >= 0.5).astype(int))


@pytest.fixture(scope="module")
def curves(shots: pd.DataFrame) -> dict[str, tuple[Floats, Floats]]:
    pair = shots["shot_made_flag"].to_numpy(), shots["probability"].to_numpy()
    return {"train": (pair[0][:3_000], pair[1][:3_000]), "prod": (pair[0][3_000:], pair[1][3_000:])}


def image_of(figure: go.Figure) -> Floats:
    """The colors of the pixels that shots are drawn on, shape (n, 3)."""
    [drawn] = figure.layout.images
    content = base64.b64decode(drawn.source.removeprefix("data:image/png;base64,"))
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGBA"), dtype=float)
    return pixels[pixels[..., 3] > 0][:, :3]


def shots_drawn(figure: go.Figure) -> float:
    """The number of shots that are drawn."""
    [squares] = (trace for trace in figure.data if trace.type == "heatmap")
    return float(np.nansum(np.asarray(squares.z, dtype=float)))


def texts(figure: go.Figure) -> str:
    """Every annotation of a figure."""
    return "; ".join(annotation.text for annotation in figure.layout.annotations)


def legend(figure: go.Figure) -> list[str]:
    """The names that a figure shows in its legend."""
    return [trace.name for trace in figure.data if trace.showlegend is not False]


def metric_rows(names: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"metric": names, "sample": "test", "value": 0.5, "low": 0.4, "high": 0.6})


def threshold_rows(values: list[float], threshold: list[float]) -> pd.DataFrame:
    names = [f"feature {place}" for place in range(len(values))]
    return pd.DataFrame({"feature": names, "statistic": "PSI", "value": values, "threshold": threshold, "unit": "feet"})


def monitoring_rows() -> pd.DataFrame:
    status = [*STATUS, "healthy"]
    return pd.DataFrame({"time": TIMES, "status": status, "alerts": [0, 1, 4, 0], "reasons": ["", "one", "four", ""]})


def pair_rows(actual: float) -> pd.DataFrame:
    known = {"actual": actual, "actual_low": actual - 0.1, "actual_high": actual + 0.1}
    return pd.DataFrame([{"metric": "log_loss", "estimate": 0.6, "low": 0.5, "high": 0.7, **known}])


def run_rows() -> pd.DataFrame:
    return pd.DataFrame(
        {"time": TIMES, "run": list("abcd"), "version": [1, 2, 3, 4], "log_loss": [0.6, 0.7, np.nan, 0.6]}
    )


EMPTY: dict[str, Callable[[pd.DataFrame], go.Figure]] = {
    "result": lambda shots: court_charts.shots_on_court(shots, "result"),
    "prediction": lambda shots: court_charts.shots_on_court(shots, "prediction"),
    "probability": lambda shots: court_charts.shots_on_court(shots, "probability"),
    "residual": lambda shots: court_charts.shots_on_court(shots, "residual"),
    "hexagons": lambda shots: court_charts.hexagons_on_court(rates.hexagons(shots), "rate"),
    "density": court_charts.density_on_court,
    "distributions": lambda _: monitoring.distributions({"train": NOTHING}, "feet", integer_bins=True),
    "no distributions": lambda _: monitoring.distributions({}, "feet", integer_bins=False),
    "boxes": lambda _: monitoring.boxes({"train": np.array([np.nan])}, "feet"),
    "confusion": lambda _: performance.confusion(NOTHING, NOTHING, "none"),
    "roc": lambda _: performance.roc({"train": (NOTHING, NOTHING)}, "none"),
    "precision_recall": lambda _: performance.precision_recall({}, "none"),
    "calibration": lambda _: performance.calibration({"train": (NOTHING, NOTHING)}, "none"),
    "probability_histogram": lambda _: performance.probability_histogram(NOTHING, NOTHING, 0.5, "none"),
    "metric_intervals": lambda _: performance.metric_intervals(metric_rows([]), "none"),
    "rates": lambda shots: performance.rates(rates.rates_by_group(shots, shots["period"]), "period", "none"),
    "interval_pair": lambda _: monitoring.interval_pair(pair_rows(0.5).iloc[:0], "none"),
    "thresholds": lambda _: monitoring.thresholds(threshold_rows([], []), "none"),
    "status_history": lambda _: monitoring.status_history(monitoring_rows().iloc[:0]),
    "trend": lambda _: monitoring.trend(run_rows().iloc[:0], ["log_loss"], "none"),
}


@pytest.mark.parametrize("name", EMPTY)
def test_a_chart_without_data_shows_no_rows(name: str, shots: pd.DataFrame) -> None:
    figure = EMPTY[name](shots.iloc[:0])
    assert "no rows" in texts(figure)
    json.loads(figure.to_json())


@pytest.mark.parametrize("color", ["result", "prediction", "probability", "residual"])
def test_shots_from_the_backcourt_are_counted_not_drawn(color: str, shots: pd.DataFrame) -> None:
    draw: Callable[..., go.Figure] = court_charts.shots_on_court
    rows = shots if color != "residual" else shots[shots["shot_made_flag"].notna()]
    far = int((court.to_feet(rows["lat"], rows["lng"])[1] > court.MID_COURT_Y).sum())
    figure = draw(shots, color)
    assert far > 1
    assert f"{far} shots from the backcourt not drawn" in texts(figure)
    assert shots_drawn(figure) == len(rows) - far


def test_hexagons_and_densities_count_the_shots_that_they_do_not_draw(shots: pd.DataFrame) -> None:
    cells = rates.hexagons(shots)
    far = int(cells.loc[cells["y"] > court.MID_COURT_Y, "shots"].sum())
    assert f"{far} shots from the backcourt" in texts(court_charts.hexagons_on_court(cells, "rate"))
    assert "from the backcourt" in texts(court_charts.density_on_court(shots))


def test_many_shots_are_thinned_and_the_chart_notes_it(shots: pd.DataFrame) -> None:
    figure = court_charts.shots_on_court(pd.concat([shots] * 9), "result")
    assert shots_drawn(figure) == 50_000
    assert "50,000 of 53," in texts(figure)


def test_shots_without_a_position_are_counted(shots: pd.DataFrame) -> None:
    nowhere = shots.head(100).assign(lng=np.nan, shot_distance=np.nan)
    assert "100 without a position" in texts(court_charts.shots_on_court(nowhere, "result"))


def test_made_missed_and_unlabeled_shots_are_distinguished(shots: pd.DataFrame) -> None:
    few = shots.head(500)
    words = [name.split(" (")[0] for name in legend(court_charts.shots_on_court(few, "result"))]
    assert words == ["no label", "missed", "made"]
    words = [name.split(" (")[0] for name in legend(court_charts.shots_on_court(few, "prediction"))]
    assert words == ["predicted missed", "predicted made"]


def test_only_labeled_shots_have_residuals(shots: pd.DataFrame) -> None:
    few = shots.head(1_000)
    few = few[few["shot_distance"] < 30]
    labeled = few[few["shot_made_flag"].notna()]
    assert shots_drawn(court_charts.shots_on_court(few, "residual")) == len(labeled)


@pytest.mark.parametrize(
    ("color", "drawn"),
    [
        ("result", [MISSED, MADE]),
        ("prediction", [MADE]),
        ("probability", plotly.colors.sample_colorscale(SEQUENTIAL, [0.0, 1.0])),
        ("residual", plotly.colors.sample_colorscale(court_charts.DIVERGING, [0.0, 1.0])),
    ],
)
def test_a_shot_has_the_color_of_its_value(color: str, drawn: list[str]) -> None:
    latitude, longitude = court.to_degrees([-10.0, 10.0], [5.0, 5.0])
    table = pd.DataFrame(
        {"lat": latitude, "lng": longitude, "shot_distance": 11.0, "shot_made_flag": [0.0, 1.0], "prediction": 1,
         "probability": [0.1, 0.9] if color == "probability" else [1.0, 0.0]}
    )  # fmt: skip
    draw: Callable[..., go.Figure] = court_charts.shots_on_court
    figure = draw(table, color)
    assert {tuple(pixel) for pixel in image_of(figure)} == {ImageColor.getrgb(each) for each in drawn}
    [placed] = figure.layout.images
    assert (placed.x, placed.x + placed.sizex, placed.y - placed.sizey, placed.y) == (
        *figure.layout.xaxis.range,
        *figure.layout.yaxis.range,
    )


def test_a_square_of_the_court_counts_its_shots_on_hover() -> None:
    latitude, longitude = court.to_degrees([1.0, 1.0, 1.0, 11.0], [0.75, 0.75, 0.75, 10.75])
    table = pd.DataFrame(
        {"lat": latitude, "lng": longitude, "shot_distance": 1.0, "shot_made_flag": [1.0, 0.0, np.nan, 1.0],
         "prediction": 1, "probability": [0.5, 0.6, 0.7, 0.25]}
    )  # fmt: skip
    [squares] = (trace for trace in court_charts.shots_on_court(table, "result").data if trace.type == "heatmap")
    shown = {text for row in squares.text for text in row if text}
    assert shown == {
        "3 shots, mean P(made) 60.0%<br>1 of 2 labeled made",
        "1 shot, mean P(made) 25.0%<br>1 of 1 labeled made",
    }
    along, across = np.argwhere(np.asarray(squares.z, dtype=float) == 3)[0]
    assert (squares.x0 + across * squares.dx, squares.y0 + along * squares.dy) == (1.0, 0.75)


@pytest.mark.parametrize("value", ["rate", "expected", "difference", "shots"])
def test_hexagons_can_be_drawn_with_and_without_labels(value: str, shots: pd.DataFrame) -> None:
    draw: Callable[..., go.Figure] = court_charts.hexagons_on_court
    for table in (shots, shots.assign(shot_made_flag=np.nan)):
        cells = rates.hexagons(table)
        figure = draw(cells, value, "hexagons")
        assert len(figure.data[-1].hovertext) == (cells["y"] <= court.MID_COURT_Y).sum()
    assert "FG% unknown% (95% CI unknown% to unknown%)" in figure.data[-1].hovertext[0]


def test_a_hexagon_grows_with_its_shots() -> None:
    latitude, longitude = court.to_degrees([0.0, *[10.0] * 50], [0.0, *[10.0] * 50])
    table = pd.DataFrame({"lat": latitude, "lng": longitude, "shot_made_flag": [1.0, *[0.0] * 50], "probability": 0.5})
    widths = [
        np.nanmax(trace.x) - np.nanmin(trace.x)
        for trace in court_charts.hexagons_on_court(rates.hexagons(table), "rate").data
        if trace.fill
    ]
    assert max(widths) > 2 * min(widths)
    assert max(widths) <= 2.0


def test_two_densities_can_be_compared(shots: pd.DataFrame) -> None:
    few, many = (
        next(trace.marker for trace in court_charts.density_on_court(table).data if trace.marker.colorbar.title.text)
        for table in (shots.head(50), shots)
    )
    assert (few.cmin, few.cmax) == (many.cmin, many.cmax)


def test_every_foot_of_the_half_court_can_be_selected(shots: pd.DataFrame) -> None:
    scored = pd.DataFrame({"x": [1.0], "y": [2.0], "probability": [0.4]})
    figure = court_charts.pick_on_court(shots, (3.0, 4.0), scored)
    [grid] = (trace for trace in figure.data if trace.mode == "text")
    places = set(zip(grid.x, grid.y, strict=True))
    assert {(x, y) for x in range(-25, 26) for y in range(-5, 42)} <= places
    assert grid.hovertemplate
    assert grid.text is None
    assert figure.layout.clickmode == "event+select"
    for trace in figure.data:
        if trace.mode == "markers":
            assert trace.hoverinfo != "skip"
            opacity = 1 if trace.marker.opacity is None else trace.marker.opacity
            assert trace.selected.marker.opacity == trace.unselected.marker.opacity == opacity


def test_every_color_of_the_chart_for_selecting_a_location_has_a_legend(shots: pd.DataFrame) -> None:
    scored = pd.DataFrame({"x": [1.0], "y": [2.0], "probability": [0.4]})

    def bars(figure: go.Figure) -> dict[str, object]:
        shown = [trace.marker for trace in figure.data if trace.marker.showscale is not False]
        return {m.colorbar.title.text: m.colorscale for m in shown if m.colorbar.title.text}

    def named(figure: go.Figure) -> list[str]:
        return [trace.name for trace in figure.data if trace.showlegend]

    picked = court_charts.pick_on_court(shots, (3.0, 4.0), None)
    assert list(bars(picked)) == ["share of all prepared shots"]
    assert named(picked) == ["shot in the form"]
    both = court_charts.pick_on_court(shots, (3.0, 4.0), scored)
    assert len(set(map(str, bars(both).values()))) == 2
    assert list(bars(both)) == ["share of all prepared shots", "P(made) of scored shots"]
    assert named(both) == ["scored shots", "shot in the form"]
    assert not bars(court_charts.pick_on_court(shots.iloc[:0], (3.0, 4.0), None))


def test_a_location_can_be_selected_without_earlier_shots(shots: pd.DataFrame) -> None:
    assert court_charts.pick_on_court(shots.iloc[:0], None, None).data


def test_the_court_is_drawn_to_scale() -> None:
    figure = court_charts.court_figure("court")
    assert (figure.layout.yaxis.scaleanchor, figure.layout.yaxis.scaleratio) == ("x", 1)
    assert (figure.layout.xaxis.range, figure.layout.yaxis.range) == ((-26, 26), (-6.25, 42.75))


@pytest.mark.parametrize("integer_bins", [True, False])
def test_distributions_of_degenerate_samples_can_be_drawn(*, integer_bins: bool) -> None:
    degenerate = {
        "constant": np.full(9, 34.0),
        "one": np.array([33.0]),
        "none": NOTHING,
        "gaps": np.array([np.nan, 34.5]),
    }
    for samples in (degenerate, {"constant": np.zeros(3)}, {"far": np.array([0.0, 1e9])}):
        for trace in monitoring.distributions(samples, "feet", integer_bins=integer_bins).data:
            assert np.sum(trace.y) == pytest.approx(100)
            assert len(trace.x) < 300


def test_every_integer_has_a_bin() -> None:
    trace = monitoring.distributions({"train": np.array([1.0, 1.0, 2.0, 4.0])}, "period", integer_bins=True).data[0]
    assert dict(zip(trace.x, trace.y, strict=True)) == {0: 0, 1: 50, 2: 25, 3: 0, 4: 25, 5: 0}


def test_samples_keep_their_colors() -> None:
    samples = {"prod": np.arange(9.0), "test": np.arange(9.0), "train": np.arange(9.0)}
    drawn = monitoring.distributions(samples, "feet", integer_bins=True).data
    assert [trace.line.color for trace in drawn] == [CURRENT, REFERENCE, TRAINING]


def test_box_plots_send_five_numbers_and_no_rows() -> None:
    figure = monitoring.boxes({"train": np.array([*range(101), 1_000.0, np.nan])}, "feet")
    box = figure.data[0]
    assert (box.median[0], box.lowerfence[0], box.upperfence[0]) == (50.5, 0, 100)
    assert box.x is None


def test_a_confusion_matrix_counts_every_labeled_shot() -> None:
    labels, predicted = np.array([0, 1, 1, 1, 1, np.nan]), np.array([0, 0, 0, 1, 1, 1.0])
    heat = performance.confusion(labels, predicted, "confusion").data[0]
    assert heat.z.tolist() == [[1, 0], [2, 2]]
    assert heat.text[1][1] == "2<br>40.0%"
    assert performance.confusion(np.zeros(5), np.zeros(5), "one class").data[0].z.tolist() == [[5, 0], [0, 0]]


@pytest.mark.parametrize("draw", [performance.roc, performance.precision_recall])
def test_curves_are_thinned_and_named_with_their_area(
    draw: Callable[..., go.Figure], curves: dict[str, tuple[Floats, Floats]]
) -> None:
    figure = draw(curves, "curves")
    score = roc_auc_score if draw is performance.roc else average_precision_score
    for name, trace in zip(curves, figure.data, strict=False):
        labels, probability = curves[name]
        known = ~np.isnan(labels)
        assert trace.name.endswith(f" {score(labels[known], probability[known]):.3f}")
        assert 10 < len(trace.x) <= 300


@pytest.mark.parametrize("draw", [performance.roc, performance.precision_recall])
def test_a_curve_of_one_class_names_the_missing_class(draw: Callable[..., go.Figure]) -> None:
    figure = draw({"prod": (np.ones(5), np.full(5, 0.4))}, "one class")
    assert "requires both classes" in figure.data[0].name


def test_calibration_has_ten_bins_of_equally_many_labeled_shots() -> None:
    probability = np.random.default_rng(0).uniform(0.2, 0.7, 1_000)
    labels = np.where(np.arange(1_000) < 400, np.nan, (probability > 0.5).astype(float))
    drawn = performance.calibration({"train": (labels, probability)}, "calibration").data[0]
    assert drawn.customdata.ravel().tolist() == [60] * 10
    assert (drawn.y[0], drawn.y[-1]) == (0, 100)


def test_a_constant_probability_is_calibrated_in_one_bin() -> None:
    drawn = performance.calibration({"prod": (np.array([0.0, 1.0, 1.0]), np.full(3, 0.4))}, "constant").data[0]
    assert list(drawn.x) == pytest.approx([40])
    assert list(drawn.y) == pytest.approx([200 / 3])


def test_the_histogram_counts_unlabeled_shots_separately(shots: pd.DataFrame) -> None:
    labels = shots["shot_made_flag"].to_numpy()
    figure = performance.probability_histogram(shots["probability"].to_numpy(), labels, 0.45, "P(made)")
    assert [trace.y.sum() for trace in figure.data] == [
        (labels == 0).sum(),
        (labels == 1).sum(),
        np.isnan(labels).sum(),
    ]
    assert "threshold 0.45" in texts(figure)


def test_every_metric_has_its_own_scale() -> None:
    figure = performance.metric_intervals(metric_rows(["log_loss", "f1_score", "brier", "recall"]), "metrics")
    assert len({trace.xaxis for trace in figure.data}) == 4
    assert legend(figure) == ["test"]


def test_a_metric_without_an_interval_is_still_drawn() -> None:
    rows = metric_rows(["log_loss"]).assign(low=np.nan, high=np.nan)
    trace = performance.metric_intervals(rows, "metrics").data[0]
    assert trace.x[0] == 0.5
    assert trace.customdata.tolist() == [["unknown", "unknown"]]


def test_actual_and_expected_rates_are_in_the_given_order(shots: pd.DataFrame) -> None:
    zones = court.zones(*court.to_feet(shots["lat"], shots["lng"])).basic
    rows = rates.rates_by_group(shots, pd.Series(pd.Categorical(zones, categories=sorted(set(zones))[::-1])))
    made, expected = performance.rates(rows, "zone", "rates").data
    assert list(made.x) == list(expected.x) == rows["group"].tolist()
    assert list(made.y) == pytest.approx((rows["rate"] * 100).tolist())


@pytest.mark.parametrize("actual", [0.55, np.nan])
def test_an_estimate_is_drawn_with_and_without_labels(actual: float) -> None:
    figure = monitoring.interval_pair(pair_rows(actual), "pair")
    assert figure.layout.xaxis.range[0] < 0.5
    assert figure.layout.xaxis.range[1] > 0.7
    assert legend(figure) == ["estimated", "actual"]


def test_statistics_above_their_threshold_have_their_own_color() -> None:
    below, above, _ = monitoring.thresholds(threshold_rows([0.1, 0.3], [0.2, 0.2]), "thresholds").data
    assert (list(below.y), below.marker.color) == (["feature 0, PSI"], REFERENCE)
    assert (list(above.y), above.marker.color) == (["feature 1, PSI"], CURRENT)


def test_ratios_over_a_wide_range_have_a_logarithmic_scale() -> None:
    assert monitoring.thresholds(threshold_rows([0.1, 0.3], [0.2, 0.2]), "near").layout.xaxis.type is None
    far = monitoring.thresholds(threshold_rows([0.001, 0.0, 0.9], [0.2, 0.2, 0.2]), "far")
    assert far.layout.xaxis.type == "log"
    assert min(far.data[0].x) > 0


def test_a_statistic_that_could_not_be_computed_is_counted_in_the_subtitle() -> None:
    figure = monitoring.thresholds(threshold_rows([0.1, np.nan, 0.1], [0.2, 0.2, 0.0]), "thresholds")
    assert figure.layout.title.subtitle.text == "2 without a value or a threshold not drawn"
    assert list(figure.data[-1].text) == ["0.1 feet", "unknown", "0.1 feet"]
    none = monitoring.thresholds(threshold_rows([np.nan], [0.2]), "thresholds")
    assert none.layout.title.subtitle.text == "1 without a value or a threshold not drawn"


def test_every_status_is_in_the_legend() -> None:
    figure = monitoring.status_history(monitoring_rows())
    assert legend(figure) == list(STATUS)
    assert [trace.marker.color for trace in figure.data[1:]] == list(STATUS.values())


def test_the_chart_of_one_run_has_no_axis_of_milliseconds() -> None:
    one, one_trend = monitoring_rows().iloc[:1], run_rows().iloc[:1]
    for figure in (monitoring.status_history(one), monitoring.trend(one_trend, ["log_loss"], "trend")):
        first, last = figure.layout.xaxis.range
        assert pd.Timestamp(last) - pd.Timestamp(first) >= pd.Timedelta(minutes=30)
    assert monitoring.status_history(monitoring_rows()).layout.xaxis.range is None


def test_a_trend_ignores_metrics_that_no_run_has() -> None:
    figure = monitoring.trend(run_rows().assign(brier=np.nan), ["log_loss", "brier", "recall"], "trend")
    assert legend(figure) == ["log_loss"]


def test_every_chart_follows_the_theme_of_the_page(shots: pd.DataFrame) -> None:
    for figure in (court_charts.density_on_court(shots), monitoring.status_history(monitoring_rows())):
        assert figure.layout.paper_bgcolor is None
        assert figure.layout.plot_bgcolor is None
        assert figure.layout.font.color is None


def test_a_figure_for_the_browser_has_nothing_that_makes_plotly_draw_a_copy_of_it_again(shots: pd.DataFrame) -> None:
    labels, predicted = (shots[name].to_numpy(dtype=float) for name in ("shot_made_flag", "prediction"))
    drawn = DrawnOnce(performance.confusion(labels, predicted, "matrix")).to_dict()
    assert "template" not in drawn["layout"]
    assert drawn["layout"]["datarevision"] == 1
    assert not isinstance(drawn["data"][0]["z"], dict)


def test_a_figure_for_the_browser_keeps_what_its_chart_sets_on_each_of_its_axes() -> None:
    figure = monitoring.distributions({"test": np.arange(9.0)}, "feet", integer_bins=True)
    layout = DrawnOnce(figure.update_yaxes(gridcolor="red", automargin=False)).to_dict()["layout"]
    assert (layout["yaxis"]["gridcolor"], layout["yaxis"]["automargin"]) == ("red", False)
    assert (layout["xaxis"]["automargin"], layout["xaxis"]["title"]["text"]) == (True, "feet")
    assert layout["xaxis"]["title"]["font"]["size"] > layout["font"]["size"]
    several = DrawnOnce(performance.metric_intervals(metric_rows(["a", "b"]), "two")).to_dict()["layout"]
    assert several["xaxis"]["gridcolor"] == several["xaxis2"]["gridcolor"] == layout["xaxis"]["gridcolor"]


@pytest.mark.parametrize(("base_rate", "filled_to"), [(0.65, [[0.65, 0.66, 0.70, 0.65]]), (0.75, [])])
def test_the_loss_over_time_is_filled_only_where_it_exceeds_the_base_rate(
    base_rate: float, filled_to: list[list[float]]
) -> None:
    rows = pd.DataFrame({"time": TIMES, "log_loss": [0.60, 0.66, 0.70, 0.60], "base_rate": base_rate})
    rows = rows.assign(low=rows["log_loss"] - 0.01, high=rows["log_loss"] + 0.01, rows=200)
    figure = monitoring.rolling_loss(rows, reference=0.6, threshold=0.7)
    filled = [trace for trace in figure.data if trace.name == "worse than the base rate"]
    assert [list(trace.y[:4]) for trace in filled] == filled_to
    # And back along the base rate.
    assert all(list(trace.y[4:]) == [*[base_rate] * 4, None] for trace in filled)
    assert legend(figure).count("worse than the base rate") == len(filled_to)


def test_the_loss_over_time_is_interrupted_where_no_rows_were_labeled_for_long() -> None:
    days = [*range(0, 50, 5), *range(300, 350, 5)]
    rows = pd.DataFrame({"time": TIMES[0] + pd.to_timedelta(days, unit="D"), "log_loss": 0.6, "base_rate": 0.5})
    rows = rows.assign(low=0.59, high=0.61, rows=200)
    for when, parts in ((rows, 2), (rows[:10], 1)):
        figure = monitoring.rolling_loss(when, reference=None, threshold=None)
        line = next(trace for trace in figure.data if trace.name == "log loss")
        assert int(np.isnan(np.asarray(line.y, dtype=float)).sum()) == parts
        band = next(trace for trace in figure.data if trace.name == "95% CI")
        assert list(band.y).count(None) == parts
