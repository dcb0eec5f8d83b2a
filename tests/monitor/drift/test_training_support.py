import numpy as np
import pandas as pd
import pytest

from data.datasets import default
from data.schema import FEATURES, THREE_POINTS
from monitor.drift.training_support import Support


@pytest.fixture(scope="module")
def two_pointers(shots: pd.DataFrame) -> pd.DataFrame:
    return features(shots[shots["shot_type"] != THREE_POINTS])


@pytest.fixture(scope="module")
def support(two_pointers: pd.DataFrame) -> Support:
    return Support.of(two_pointers.head(3_500), default())


def features(table: pd.DataFrame) -> pd.DataFrame:
    return table.rename(columns={"lon": "lng"})[list(FEATURES)].astype(float)


def test_shots_like_the_training_rows_are_in_support(support: Support, two_pointers: pd.DataFrame) -> None:
    fresh = two_pointers.iloc[3_500:]
    assert len(fresh) > 1_000
    assert support.out_of_support(fresh).mean() < 0.01


def test_almost_all_training_rows_are_in_support(support: Support, two_pointers: pd.DataFrame) -> None:
    assert support.out_of_support(two_pointers.head(3_500)).mean() <= 0.001


def test_three_point_shots_are_out_of_support_of_two_point_shots(support: Support, shots: pd.DataFrame) -> None:
    far = features(shots[(shots["shot_type"] == THREE_POINTS) & (shots["shot_distance"] >= 25)])
    assert len(far) > 500
    assert support.out_of_support(far).mean() > 0.95


@pytest.mark.parametrize(
    ("feature", "value"), [("period", 9.0), ("minutes_remaining", 12.0), ("minutes_remaining", 5.5)]
)
def test_a_value_without_a_training_row_is_out_of_support(
    support: Support, two_pointers: pd.DataFrame, feature: str, value: float
) -> None:
    shot = two_pointers.head(1)
    assert not support.out_of_support(shot).any()
    assert support.out_of_support(shot.assign(**{feature: value})).all()


def test_playoffs_are_out_of_support_without_training_rows_of_playoffs(two_pointers: pd.DataFrame) -> None:
    support = Support.of(two_pointers[two_pointers["playoffs"] == 0], default())
    assert support.out_of_support(two_pointers[two_pointers["playoffs"] == 1]).all()


def test_a_distance_that_contradicts_its_position_is_out_of_support(
    support: Support, two_pointers: pd.DataFrame
) -> None:
    at_the_hoop = two_pointers[two_pointers["shot_distance"] == 0].head(1)
    assert not support.out_of_support(at_the_hoop).any()
    assert support.out_of_support(at_the_hoop.assign(shot_distance=20.0)).all()


def test_each_row_is_tested_by_itself_in_order(support: Support, two_pointers: pd.DataFrame) -> None:
    table = two_pointers.head(6).assign(period=[1.0, 9, 1, 9, 9, 1])
    assert support.out_of_support(table).tolist() == [False, True, False, True, True, False]
    assert support.out_of_support(table.iloc[::-1]).tolist() == [False, True, True, False, True, False]
    table = two_pointers.tail(40).assign(period=1.0)
    far = np.arange(40) % 3 == 0
    found = support.out_of_support(table.assign(shot_distance=table["shot_distance"] + 60 * far))
    assert (found == far).mean() > 0.9
    assert found[far].all()


def test_duplicate_rows_have_the_same_result(support: Support, two_pointers: pd.DataFrame) -> None:
    duplicated = pd.concat([two_pointers.tail(50)] * 2)
    found = support.out_of_support(duplicated)
    assert (found[:50] == found[50:]).all()


@pytest.mark.parametrize("rows", [2, 5, 30])
def test_tiny_training_tables_work(two_pointers: pd.DataFrame, rows: int) -> None:
    training = two_pointers.head(rows)
    found = Support.of(training, default()).out_of_support(training)
    assert found.shape == (rows,)
    assert found.mean() <= 0.5


def test_training_rows_of_a_single_position_support_that_position_only(two_pointers: pd.DataFrame) -> None:
    shot = two_pointers[two_pointers["shot_distance"] == 0].head(1)
    support = Support.of(pd.concat([shot] * 100), default())
    assert [space.max_distance for space in support.spaces] == [0]
    assert not support.out_of_support(shot).any()
    assert support.out_of_support(shot.assign(shot_distance=1.0)).all()


def test_many_rows_at_few_places_cost_a_search_for_each_place_and_have_the_distances_of_all_rows(
    two_pointers: pd.DataFrame,
) -> None:
    training = pd.concat([two_pointers.head(400), *[two_pointers.head(60)] * 15], ignore_index=True)
    (space,) = Support.of(training, default()).spaces
    assert space.rows.sum() == len(training)
    assert len(space.rows) == space.neighbors.n_samples_fit_ <= 400
    places = np.repeat(space.neighbors._fit_X, space.rows, axis=0)  # noqa: SLF001 the places of all rows
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    # The first of the sorted distances is that of the row to itself.
    expected = np.quantile(np.sort(distances, axis=1)[:, space.count], 0.999)
    assert space.max_distance == pytest.approx(expected, abs=1e-9)


def test_one_training_row_is_an_error(two_pointers: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="two or more training rows"):
        Support.of(two_pointers.head(1), default())


def test_an_empty_table_has_no_out_of_support_row(support: Support, two_pointers: pd.DataFrame) -> None:
    assert support.out_of_support(two_pointers.head(0)).shape == (0,)
