import numpy as np
import pandas as pd
import pytest
from scipy import stats

from monitor.metrics.rolling import mean_interval, rolling_loss


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
