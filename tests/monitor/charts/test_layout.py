import json
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from data import court
from data.simulation import synthetic
from monitor.charts import court as court_charts
from monitor.charts import monitoring, performance
from monitor.charts.palette import CURRENT, REFERENCE, TRAINING, VERDICT
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


def texts(figure: go.Figure) -> str:
    """Every annotation of a figure."""
    return "; ".join(annotation.text for annotation in figure.layout.annotations)


def legend(figure: go.Figure) -> list[str]:
    """The names that a figure shows in its legend."""
    return [trace.name for trace in figure.data if trace.showlegend is not False]


def metric_rows(names: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"metric": names, "sample": "test", "value": 0.5, "low": 0.4, "high": 0.6})


def limit_rows(values: list[float], limit: list[float]) -> pd.DataFrame:
    names = [f"feature {place}" for place in range(len(values))]
    return pd.DataFrame({"feature": names, "statistic": "PSI", "value": values, "limit": limit, "unit": "feet"})


def recent_rows() -> pd.DataFrame:
    words = ["healthy", "watch", "retrain", "healthy"]
    return pd.DataFrame({"time": TIMES, "verdict": words, "findings": [0, 1, 4, 0], "reasons": ["", "one", "four", ""]})


def pair_rows(realised: float) -> pd.DataFrame:
    known = {"realised": realised, "realised_low": realised - 0.1, "realised_high": realised + 0.1}
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
    "densities": lambda _: monitoring.densities({"train": NOTHING}, "feet", whole=True),
    "no densities": lambda _: monitoring.densities({}, "feet", whole=False),
    "boxes": lambda _: monitoring.boxes({"train": np.array([np.nan])}, "feet"),
    "confusion": lambda _: performance.confusion(NOTHING, NOTHING, "none"),
    "roc": lambda _: performance.roc({"train": (NOTHING, NOTHING)}, "none"),
    "precision_recall": lambda _: performance.precision_recall({}, "none"),
    "calibration": lambda _: performance.calibration({"train": (NOTHING, NOTHING)}, "none"),
    "probability_histogram": lambda _: performance.probability_histogram(NOTHING, NOTHING, 0.5, "none"),
    "metric_intervals": lambda _: performance.metric_intervals(metric_rows([]), "none"),
    "rates": lambda shots: performance.rates(rates.rates_by_group(shots, shots["period"]), "period", "none"),
    "interval_pair": lambda _: monitoring.interval_pair(pair_rows(0.5).iloc[:0], "none"),
    "limits": lambda _: monitoring.limits(limit_rows([], []), "none"),
    "verdicts": lambda _: monitoring.status_history(recent_rows().iloc[:0]),
    "trend": lambda _: monitoring.trend(run_rows().iloc[:0], ["log_loss"], "none"),
}


@pytest.mark.parametrize("name", EMPTY)
def test_a_chart_of_nothing_says_that_there_are_no_rows(name: str, shots: pd.DataFrame) -> None:
    figure = EMPTY[name](shots.iloc[:0])
    assert "no rows" in texts(figure)
    json.loads(figure.to_json())


@pytest.mark.parametrize("colour", ["result", "prediction", "probability", "residual"])
def test_shots_from_beyond_mid_court_are_counted_not_drawn(colour: str, shots: pd.DataFrame) -> None:
    draw: Callable[..., go.Figure] = court_charts.shots_on_court
    rows = shots if colour != "residual" else shots[shots["shot_made_flag"].notna()]
    beyond = int((court.to_feet(rows["lat"], rows["lng"])[1] > court.MID_COURT_Y).sum())
    figure = draw(shots, colour)
    assert beyond > 1
    assert f"{beyond} shots from beyond mid-court not drawn" in texts(figure)
    assert max(np.nanmax(trace.y) for trace in figure.data) <= court.MID_COURT_Y + 0.25


def test_hexagons_and_densities_count_the_shots_that_they_do_not_draw(shots: pd.DataFrame) -> None:
    cells = rates.hexagons(shots)
    beyond = int(cells.loc[cells["y"] > court.MID_COURT_Y, "shots"].sum())
    assert f"{beyond} shots from beyond" in texts(court_charts.hexagons_on_court(cells, "rate"))
    assert "from beyond mid-court" in texts(court_charts.density_on_court(shots))


def test_many_shots_are_thinned_and_the_chart_says_so(shots: pd.DataFrame) -> None:
    figure = court_charts.shots_on_court(pd.concat([shots, shots]), "result")
    assert sum(len(trace.x) for trace in figure.data if trace.mode == "markers") == 4_000
    assert "4,000 of 11," in texts(figure)


def test_shots_without_a_position_are_counted(shots: pd.DataFrame) -> None:
    nowhere = shots.head(100).assign(lng=np.nan, shot_distance=np.nan)
    assert "100 without a position" in texts(court_charts.shots_on_court(nowhere, "result"))


def test_made_missed_and_unlabelled_shots_are_told_apart(shots: pd.DataFrame) -> None:
    few = shots.head(500)
    words = [name.split(" (")[0] for name in legend(court_charts.shots_on_court(few, "result"))]
    assert words == ["no label", "missed", "made"]
    words = [name.split(" (")[0] for name in legend(court_charts.shots_on_court(few, "prediction"))]
    assert words == ["predicted missed", "predicted made"]


def test_residuals_are_those_of_labelled_shots_only(shots: pd.DataFrame) -> None:
    few = shots.head(1_000)
    few = few[few["shot_distance"] < 30]
    residuals = court_charts.shots_on_court(few, "residual").data[-1].marker.color
    expected = (few["shot_made_flag"] - few["probability"]).dropna()
    assert sorted(residuals) == pytest.approx(sorted(expected))


@pytest.mark.parametrize("value", ["rate", "expected", "difference", "shots"])
def test_hexagons_can_be_drawn_with_and_without_labels(value: str, shots: pd.DataFrame) -> None:
    draw: Callable[..., go.Figure] = court_charts.hexagons_on_court
    for table in (shots, shots.assign(shot_made_flag=np.nan)):
        cells = rates.hexagons(table)
        figure = draw(cells, value, "hexagons")
        assert len(figure.data[-1].text) == (cells["y"] <= court.MID_COURT_Y).sum()
    assert "made unknown % (95 %: unknown to unknown %)" in figure.data[-1].text[0]


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
    few, many = (court_charts.density_on_court(table).data[-1].marker for table in (shots.head(50), shots))
    assert (few.cmin, few.cmax) == (many.cmin, many.cmax)


def test_every_foot_of_the_half_court_can_be_picked(shots: pd.DataFrame) -> None:
    scored = pd.DataFrame({"x": [1.0], "y": [2.0], "probability": [0.4]})
    figure = court_charts.pick_on_court(shots, (3.0, 4.0), scored)
    places = {(x, y) for trace in figure.data if trace.mode == "markers" for x, y in zip(trace.x, trace.y, strict=True)}
    assert {(x, y) for x in range(-25, 26) for y in range(-5, 42)} <= places
    assert figure.layout.clickmode == "event+select"
    for trace in figure.data:
        if trace.mode == "markers":
            assert trace.hoverinfo != "skip"
            look = 1 if trace.marker.opacity is None else trace.marker.opacity
            assert trace.selected.marker.opacity == trace.unselected.marker.opacity == look


def test_all_that_is_drawn_where_a_place_is_picked_is_named_by_its_own_colors(shots: pd.DataFrame) -> None:
    scored = pd.DataFrame({"x": [1.0], "y": [2.0], "probability": [0.4]})

    def bars(figure: go.Figure) -> dict[str, object]:
        shown = [trace.marker for trace in figure.data if trace.marker.showscale is not False]
        return {m.colorbar.title.text: m.colorscale for m in shown if m.colorbar.title.text}

    def named(figure: go.Figure) -> list[str]:
        return [trace.name for trace in figure.data if trace.showlegend]

    picked = court_charts.pick_on_court(shots, (3.0, 4.0), None)
    assert list(bars(picked)) == ["share of all prepared shots"]
    assert named(picked) == ["your shot, as the form holds it"]
    both = court_charts.pick_on_court(shots, (3.0, 4.0), scored)
    assert len(set(map(str, bars(both).values()))) == 2
    assert list(bars(both)) == ["share of all prepared shots", "P(made) of scored shots"]
    assert named(both) == ["scored before", "your shot, as the form holds it"]
    assert not bars(court_charts.pick_on_court(shots.iloc[:0], (3.0, 4.0), None))


def test_a_place_can_be_picked_where_there_is_no_history(shots: pd.DataFrame) -> None:
    assert court_charts.pick_on_court(shots.iloc[:0], None, None).data


def test_the_court_is_drawn_to_scale() -> None:
    figure = court_charts.court_figure("court")
    assert (figure.layout.yaxis.scaleanchor, figure.layout.yaxis.scaleratio) == ("x", 1)
    assert (figure.layout.xaxis.range, figure.layout.yaxis.range) == ((-26, 26), (-6.25, 42.75))


@pytest.mark.parametrize("whole", [True, False])
def test_densities_of_awkward_samples_can_be_drawn(*, whole: bool) -> None:
    awkward = {"constant": np.full(9, 34.0), "one": np.array([33.0]), "none": NOTHING, "gaps": np.array([np.nan, 34.5])}
    for samples in (awkward, {"constant": np.zeros(3)}, {"far": np.array([0.0, 1e9])}):
        for trace in monitoring.densities(samples, "feet", whole=whole).data:
            assert np.sum(trace.y) == pytest.approx(100)
            assert len(trace.x) < 300


def test_whole_numbers_have_a_bin_each() -> None:
    trace = monitoring.densities({"train": np.array([1.0, 1.0, 2.0, 4.0])}, "period", whole=True).data[0]
    assert dict(zip(trace.x, trace.y, strict=True)) == {0: 0, 1: 50, 2: 25, 3: 0, 4: 25, 5: 0}


def test_samples_keep_their_colours() -> None:
    samples = {"prod": np.arange(9.0), "test": np.arange(9.0), "train": np.arange(9.0)}
    drawn = monitoring.densities(samples, "feet", whole=True).data
    assert [trace.line.color for trace in drawn] == [CURRENT, REFERENCE, TRAINING]


def test_boxes_send_five_numbers_and_no_rows() -> None:
    figure = monitoring.boxes({"train": np.array([*range(101), 1_000.0, np.nan])}, "feet")
    box = figure.data[0]
    assert (box.median[0], box.lowerfence[0], box.upperfence[0]) == (50.5, 0, 100)
    assert box.x is None


def test_a_confusion_matrix_counts_every_labelled_shot() -> None:
    labels, predicted = np.array([0, 1, 1, 1, 1, np.nan]), np.array([0, 0, 0, 1, 1, 1.0])
    heat = performance.confusion(labels, predicted, "confusion").data[0]
    assert heat.z.tolist() == [[1, 0], [2, 2]]
    assert heat.text[1][1] == "2<br>40.0%"
    assert performance.confusion(np.zeros(5), np.zeros(5), "one class").data[0].z.tolist() == [[5, 0], [0, 0]]


@pytest.mark.parametrize("draw", [performance.roc, performance.precision_recall])
def test_curves_are_thinned_and_tell_their_area(
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
def test_a_curve_of_one_class_says_what_it_lacks(draw: Callable[..., go.Figure]) -> None:
    figure = draw({"prod": (np.ones(5), np.full(5, 0.4))}, "one class")
    assert "needs both classes" in figure.data[0].name


def test_calibration_has_ten_bins_of_equally_many_labelled_shots() -> None:
    probability = np.random.default_rng(0).uniform(0.2, 0.7, 1_000)
    labels = np.where(np.arange(1_000) < 400, np.nan, (probability > 0.5).astype(float))
    drawn = performance.calibration({"train": (labels, probability)}, "calibration").data[0]
    assert drawn.customdata.ravel().tolist() == [60] * 10
    assert (drawn.y[0], drawn.y[-1]) == (0, 100)


def test_a_constant_probability_is_calibrated_in_one_bin() -> None:
    drawn = performance.calibration({"prod": (np.array([0.0, 1.0, 1.0]), np.full(3, 0.4))}, "constant").data[0]
    assert list(drawn.x) == pytest.approx([40])
    assert list(drawn.y) == pytest.approx([200 / 3])


def test_the_histogram_counts_unlabelled_shots_apart(shots: pd.DataFrame) -> None:
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


def test_rates_are_beside_what_was_expected_in_the_given_order(shots: pd.DataFrame) -> None:
    zones = court.zones(*court.to_feet(shots["lat"], shots["lng"])).basic
    rows = rates.rates_by_group(shots, pd.Series(pd.Categorical(zones, categories=sorted(set(zones))[::-1])))
    made, expected = performance.rates(rows, "zone", "rates").data
    assert list(made.x) == list(expected.x) == rows["group"].tolist()
    assert list(made.y) == pytest.approx((rows["rate"] * 100).tolist())


@pytest.mark.parametrize("realised", [0.55, np.nan])
def test_an_estimate_is_drawn_before_and_after_its_labels_came(realised: float) -> None:
    figure = monitoring.interval_pair(pair_rows(realised), "pair")
    assert figure.layout.xaxis.range[0] < 0.5
    assert figure.layout.xaxis.range[1] > 0.7
    assert legend(figure) == ["estimate without labels", "realised"]


def test_statistics_beyond_their_limit_stand_out() -> None:
    within, beyond, _ = monitoring.limits(limit_rows([0.1, 0.3], [0.2, 0.2]), "limits").data
    assert (list(within.y), within.marker.color) == (["feature 0, PSI"], REFERENCE)
    assert (list(beyond.y), beyond.marker.color) == (["feature 1, PSI"], CURRENT)


def test_limits_that_are_far_apart_have_a_logarithmic_scale() -> None:
    assert monitoring.limits(limit_rows([0.1, 0.3], [0.2, 0.2]), "near").layout.xaxis.type is None
    far = monitoring.limits(limit_rows([0.001, 0.0, 0.9], [0.2, 0.2, 0.2]), "far")
    assert far.layout.xaxis.type == "log"
    assert min(far.data[0].x) > 0


def test_a_statistic_that_could_not_be_computed_is_never_left_out_silently() -> None:
    figure = monitoring.limits(limit_rows([0.1, np.nan, 0.1], [0.2, 0.2, 0.0]), "limits")
    assert figure.layout.title.subtitle.text == "2 without a value or a limit not drawn"
    assert list(figure.data[-1].text) == ["0.1 feet", "unknown", "0.1 feet"]
    none = monitoring.limits(limit_rows([np.nan], [0.2]), "limits")
    assert none.layout.title.subtitle.text == "1 without a value or a limit not drawn"


def test_verdicts_are_shown_with_their_words() -> None:
    figure = monitoring.status_history(recent_rows())
    assert legend(figure) == list(VERDICT)
    assert [trace.marker.color for trace in figure.data[1:]] == list(VERDICT.values())


def test_a_trend_leaves_out_metrics_that_no_run_has() -> None:
    figure = monitoring.trend(run_rows().assign(brier=np.nan), ["log_loss", "brier", "recall"], "trend")
    assert legend(figure) == ["log_loss"]


def test_no_chart_decides_for_a_light_or_a_dark_page(shots: pd.DataFrame) -> None:
    for figure in (court_charts.density_on_court(shots), monitoring.status_history(recent_rows())):
        assert figure.layout.paper_bgcolor is None
        assert figure.layout.plot_bgcolor is None
        assert figure.layout.font.color is None
