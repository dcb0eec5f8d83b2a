import numpy as np
import pandas as pd
import pytest
from scipy import stats

from data.datasets import default, load
from data.groups import Groups, groups_of, percentile_confidence


def test_a_row_without_a_group_is_a_group_of_its_own() -> None:
    found = Groups.of(pd.Series(["a", None, "b", "a", None]).to_numpy())
    assert found.code.tolist() == [0, 2, 1, 0, 3]
    assert found.totals().tolist() == [2, 1, 1, 1]


def test_whole_groups_are_drawn() -> None:
    found = Groups.of([1, 1, 1, 2]).draw(5, 400, np.random.default_rng(0))
    assert found.shape == (400, 2)
    assert set(found.sum(axis=1)) == {5}
    assert found[:, 0].mean() == pytest.approx(2.5, abs=0.2)


@pytest.mark.parametrize(
    ("copies", "noise", "low", "high"), [(1, 0.0, 1, 1.01), (10, 0.0, 9.5, 10.5), (10, 9.0, 1, 1.3)]
)
def test_the_design_effect_is_the_number_of_equal_rows(copies: int, noise: float, low: float, high: float) -> None:
    stream = np.random.default_rng(0)
    values = np.repeat(stream.normal(size=2_000), copies) + noise * stream.normal(size=2_000 * copies)
    assert low <= Groups.of(np.arange(2_000 * copies) // copies).design_effect(values) <= high


def test_groups_are_those_that_the_description_names() -> None:
    table = pd.DataFrame({"game_id": [1, 1, 2]})
    found = groups_of(table, load("kobe_full"))
    assert found is not None
    assert found.tolist() == [1, 1, 2]
    assert groups_of(table, default()) is None
    assert groups_of(table[[]], load("kobe_full")) is None


@pytest.mark.parametrize("groups", [6, 25, 300])
@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_the_percentiles_of_few_groups_are_as_far_apart_as_students(groups: int, confidence: float) -> None:
    used = percentile_confidence(confidence, groups)
    assert stats.norm.ppf((1 + used) / 2) == pytest.approx(stats.t.ppf((1 + confidence) / 2, groups - 1))
    assert percentile_confidence(confidence, None) == confidence
