import numpy as np
import pandas as pd
import pytest

from data.schema import FEATURES, THREE_POINTS
from monitor.drift.training_support import Support


@pytest.fixture(scope="module")
def two_pointers(shots: pd.DataFrame) -> pd.DataFrame:
    return features(shots[shots["shot_type"] != THREE_POINTS])


@pytest.fixture(scope="module")
def support(two_pointers: pd.DataFrame) -> Support:
    return Support.of(two_pointers.head(3_500))


def features(table: pd.DataFrame) -> pd.DataFrame:
    return table.rename(columns={"lon": "lng"})[list(FEATURES)].astype(float)


def test_shots_like_those_of_training_are_inside(support: Support, two_pointers: pd.DataFrame) -> None:
    fresh = two_pointers.iloc[3_500:]
    assert len(fresh) > 1_000
    assert support.out_of_support(fresh).mean() < 0.01


def test_of_the_training_shots_themselves_hardly_any_is_outside(support: Support, two_pointers: pd.DataFrame) -> None:
    assert support.out_of_support(two_pointers.head(3_500)).mean() <= 0.001


def test_three_point_shots_are_outside_where_two_point_shots_were_learned(
    support: Support, shots: pd.DataFrame
) -> None:
    far = features(shots[(shots["shot_type"] == THREE_POINTS) & (shots["shot_distance"] >= 25)])
    assert len(far) > 500
    assert support.out_of_support(far).mean() > 0.95


@pytest.mark.parametrize(
    ("feature", "value"), [("period", 9.0), ("minutes_remaining", 12.0), ("minutes_remaining", 5.5)]
)
def test_a_value_that_training_never_had_is_outside(
    support: Support, two_pointers: pd.DataFrame, feature: str, value: float
) -> None:
    shot = two_pointers.head(1)
    assert not support.out_of_support(shot).any()
    assert support.out_of_support(shot.assign(**{feature: value})).all()


def test_playoffs_are_outside_where_training_had_none(two_pointers: pd.DataFrame) -> None:
    support = Support.of(two_pointers[two_pointers["playoffs"] == 0])
    assert support.out_of_support(two_pointers[two_pointers["playoffs"] == 1]).all()


def test_a_distance_that_contradicts_its_place_is_outside(support: Support, two_pointers: pd.DataFrame) -> None:
    at_the_hoop = two_pointers[two_pointers["shot_distance"] == 0].head(1)
    assert not support.out_of_support(at_the_hoop).any()
    assert support.out_of_support(at_the_hoop.assign(shot_distance=20.0)).all()


def test_each_row_is_answered_for_itself_in_order(support: Support, two_pointers: pd.DataFrame) -> None:
    table = two_pointers.head(6).assign(period=[1.0, 9, 1, 9, 9, 1])
    assert support.out_of_support(table).tolist() == [False, True, False, True, True, False]
    assert support.out_of_support(table.iloc[::-1]).tolist() == [False, True, True, False, True, False]
    table = two_pointers.tail(40).assign(period=1.0)
    far = np.arange(40) % 3 == 0
    found = support.out_of_support(table.assign(shot_distance=table["shot_distance"] + 60 * far))
    assert (found == far).mean() > 0.9
    assert found[far].all()


def test_rows_of_the_same_place_are_answered_alike(support: Support, two_pointers: pd.DataFrame) -> None:
    doubled = pd.concat([two_pointers.tail(50)] * 2)
    found = support.out_of_support(doubled)
    assert (found[:50] == found[50:]).all()


@pytest.mark.parametrize("rows", [2, 5, 30])
def test_tiny_training_tables_work(two_pointers: pd.DataFrame, rows: int) -> None:
    training = two_pointers.head(rows)
    found = Support.of(training).out_of_support(training)
    assert found.shape == (rows,)
    assert found.mean() <= 0.5


def test_training_shots_of_a_single_place_hold_that_place_only(two_pointers: pd.DataFrame) -> None:
    shot = two_pointers[two_pointers["shot_distance"] == 0].head(1)
    support = Support.of(pd.concat([shot] * 100))
    assert support.max_distance == 0
    assert not support.out_of_support(shot).any()
    assert support.out_of_support(shot.assign(shot_distance=1.0)).all()


def test_a_training_table_of_one_row_is_refused(two_pointers: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="two or more training rows"):
        Support.of(two_pointers.head(1))


def test_of_no_rows_none_is_outside(support: Support, two_pointers: pd.DataFrame) -> None:
    assert support.out_of_support(two_pointers.head(0)).shape == (0,)
