import numpy as np
import pytest

from bench.error_rates import ALARMS, Population, alarms, coverage, estimated_share
from monitor.health import checks
from tests.orders import DATASET, orders


@pytest.fixture(scope="module")
def population() -> Population:
    return Population.of(orders(2_400, per_customer=4), DATASET, seed=0)


def test_groups_are_drawn_whole_and_each_draw_is_a_group_of_its_own(population: Population) -> None:
    assert not set(population.training["customer"]) & set(population.table["customer"])
    drawn = population.take(np.array([3, 3, 5]))
    assert drawn["customer"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert drawn["order_id"][:4].tolist() == drawn["order_id"][4:8].tolist() != drawn["order_id"][8:].tolist()


def test_a_trial_measures_every_alarm_and_interval(population: Population) -> None:
    raised, held = alarms((0, 1), population, 150, 100), coverage((0, 1), population, 100)
    assert set(ALARMS) <= {*raised, *held}
    assert {f"degradation of {name}" for name in checks.COMPARED} <= set(raised)
    assert {"estimated log_loss", "calibration_error", "log loss over time", "FG% by slice"} <= {*raised, *held}
    assert all(0 <= value <= 1 for value in (*raised.values(), *held.values()))


def test_a_batch_at_the_limit_of_support_is_drawn_so_that_its_expected_share_is_that_limit(
    population: Population,
) -> None:
    rows = np.array(list(map(len, population.units)))
    marked = np.array([population.out_of_support[unit].sum() for unit in population.units])
    probability = population.at_the_limit
    assert probability.sum() == pytest.approx(1)
    expected = population.dataset.monitoring.max_out_of_support
    assert (probability @ marked) / (probability @ rows) == pytest.approx(expected)


def test_the_share_has_the_standard_error_of_its_trials() -> None:
    share, error = estimated_share([{"a": 1.0}, {"a": 0.0}, {"b": 1.0}, {"a": float("nan")}], "a")
    assert share == 0.5
    assert error == pytest.approx(0.5)
