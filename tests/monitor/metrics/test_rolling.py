import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import log_loss

from monitor.metrics.binary import log_loss_by_row
from monitor.metrics.rolling import MAX_WINDOW, MIN_WINDOW, mean_interval, rolling_loss


def test_the_interval_of_independent_values_is_students() -> None:
    values = np.random.default_rng(0).normal(size=40)
    expected = stats.t.interval(0.95, 39, values.mean(), stats.sem(values))
    assert mean_interval(values) == pytest.approx(expected)
    assert mean_interval(values, np.arange(40)) == pytest.approx(expected)


def test_equal_rows_of_a_group_are_no_further_evidence() -> None:
    values = np.random.default_rng(0).normal(size=40)
    assert mean_interval(np.repeat(values, 5), np.repeat(np.arange(40), 5)) == pytest.approx(mean_interval(values))


def test_a_single_group_has_no_interval() -> None:
    assert np.isnan(mean_interval(np.arange(9.0), np.zeros(9))).all()


def test_the_log_loss_of_a_window_of_games_covers_the_true_one_where_games_differ() -> None:
    true, game = -np.log([0.9, 0.3]).mean(), pd.Series(np.arange(1_000) // 20)
    labels, time = pd.Series(1.0, index=game.index), pd.Series(pd.date_range("2020", periods=1_000))
    covered: dict[str, list[float]] = {"rows": [], "games": []}
    for seed in range(60):
        # In half of the games every row has the greater loss.
        made = pd.Series(np.random.default_rng(seed).choice([0.9, 0.3], 50)[game])
        for by, groups in (("rows", None), ("games", game)):
            found = rolling_loss(labels, made, time, groups)
            assert found is not None
            covered[by].append(float(((found["low"] <= true) & (found["high"] >= true)).mean()))
    assert np.mean(covered["games"]) > 0.85
    assert np.mean(covered["rows"]) < 0.5


def test_without_enough_rows_or_different_times_there_is_no_rolling_loss() -> None:
    times = pd.Series(pd.date_range("2020", periods=150))
    labels, made = pd.Series(np.tile([0.0, 1.0], 75)), pd.Series(np.full(150, 0.5))
    found = rolling_loss(labels, made, times)
    assert found is not None
    assert found["log_loss"].tolist() == pytest.approx([np.log(2)] * len(found))
    assert rolling_loss(labels[:99], made[:99], times[:99]) is None
    assert rolling_loss(labels, made, pd.Series([times[0]] * 150)) is None


def test_each_window_has_the_loss_and_the_base_rate_of_its_rows_in_order_of_time() -> None:
    stream = np.random.default_rng(0)
    time = pd.Series(stream.permutation(pd.date_range("2020", periods=4_000).to_numpy()))
    rows = pd.DataFrame({"made": stream.uniform(0.1, 0.9, 4_000), "time": time.where(time.index >= 10)})
    rows["label"] = (stream.random(4_000) < rows["made"]).astype(float)
    found = rolling_loss(rows["label"], rows["made"], rows["time"])
    assert found is not None
    ordered = rows.dropna().sort_values("time")
    assert (len(found), found["rows"].unique().tolist()) == (120, [199])
    assert (found["time"].min(), found["time"].max()) == (ordered["time"].iloc[198], ordered["time"].max())
    for window in found.iloc[[0, 40, -1]].to_dict("records"):
        inside = ordered[ordered["time"] <= window["time"]].tail(199)
        label, made = inside["label"].to_numpy(), inside["made"].to_numpy()
        assert window["log_loss"] == pytest.approx(log_loss(label, made))
        assert window["base_rate"] == pytest.approx(log_loss(label, np.full(199, label.mean())))
        assert (window["low"], window["high"]) == pytest.approx(mean_interval(log_loss_by_row(label, made)))


@pytest.mark.parametrize(("rows", "window"), [(MIN_WINDOW, MIN_WINDOW), (60_000, MAX_WINDOW)])
def test_a_window_has_at_least_100_and_at_most_2_000_rows(rows: int, window: int) -> None:
    time = pd.Series(pd.date_range("2020", periods=rows, freq="min"))
    found = rolling_loss(pd.Series(np.ones(rows)), pd.Series(np.full(rows, 0.5)), time)
    assert found is not None
    assert found["rows"].unique().tolist() == [window]
    assert found["base_rate"].unique().tolist() == [0]
