import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from data import court
from data.simulation import synthetic
from monitor.metrics import rates

RATES = ["shots", "labeled", "made", "rate", "expected", "difference", "low", "high"]


@pytest.fixture(scope="module")
def shots() -> pd.DataFrame:
    table = synthetic.shots(3_000, seed=5).rename(columns={"lon": "lng"})
    return table.assign(probability=synthetic.true_probability(table))


def at(x: list[float], y: list[float]) -> pd.DataFrame:
    latitude, longitude = court.to_degrees(x, y)
    return pd.DataFrame({"lat": latitude, "lng": longitude, "shot_made_flag": 1.0, "probability": 0.5})


def test_every_shot_is_in_one_hexagon(shots: pd.DataFrame) -> None:
    cells = rates.hexagons(shots)
    assert cells["shots"].sum() == len(shots)
    assert cells["labeled"].sum() == shots["shot_made_flag"].notna().sum()
    assert cells["made"].sum() == shots["shot_made_flag"].sum()
    assert not cells.duplicated(["x", "y"]).any()
    assert rates.counts(shots).equals(cells[["x", "y", "shots"]])
    assert cells.attrs == rates.counts(shots).attrs == {rates.SIZE: rates.SIZE_FEET}


@given(x=st.floats(-25, 25), y=st.floats(-5, 41), size=st.floats(0.5, 5))
def test_a_shot_is_in_the_hexagon_with_the_nearest_center(x: float, y: float, size: float) -> None:
    found = rates.counts(at([x], [y]), size_feet=size).iloc[0]
    distance = np.hypot(found["x"] - x, found["y"] - y)
    assert distance <= size / np.sqrt(3) + 1e-6
    angle = np.arange(6) * np.pi / 3
    neighbors = np.hypot(found["x"] + size * np.cos(angle) - x, found["y"] + size * np.sin(angle) - y)
    assert distance <= neighbors.min() + 1e-6


def test_each_of_many_shots_is_in_its_nearest_hexagon() -> None:
    position = np.random.default_rng(0).uniform(-20, 20, (500, 2))
    centers, place = rates.hexagon_places(position[:, 0], position[:, 1], 2.0)
    assert np.hypot(*(centers[place] - position).T).max() <= 2 / np.sqrt(3) + 1e-9


def test_pointy_topped_hexagons_adjoin_in_rows() -> None:
    cells = rates.counts(at([0, 2, 1], [0, 0, 1.7]), size_feet=2)
    assert sorted(zip(cells["x"], cells["y"].round(2), strict=True)) == [(0, 0), (1, 1.73), (2, 0)]


def test_shots_without_a_position_are_in_no_hexagon(shots: pd.DataFrame) -> None:
    nowhere = shots.assign(lat=shots["lat"].where(shots.index >= 10))
    assert rates.hexagons(nowhere)["shots"].sum() == len(shots) - 10


def test_hexagons_of_few_shots_are_excluded(shots: pd.DataFrame) -> None:
    cells = rates.hexagons(shots, fewest=5)
    assert 0 < len(cells) < len(rates.hexagons(shots))
    assert cells.columns.tolist() == rates.hexagons(shots).columns.tolist() == ["x", "y", *RATES]
    assert cells["shots"].min() == 5


def test_a_hexagon_without_a_size_is_an_error(shots: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="size_feet: expected more than 0, found 0"):
        rates.hexagons(shots, size_feet=0)


def test_hexagons_and_groups_of_no_shots_are_empty_tables(shots: pd.DataFrame) -> None:
    assert rates.hexagons(shots.iloc[:0]).empty
    assert rates.counts(shots.iloc[:0]).empty
    assert rates.rates_by_group(shots.iloc[:0], np.array([])).empty


def test_unlabeled_shots_are_counted_but_are_in_no_rate() -> None:
    table = pd.DataFrame({"shot_made_flag": [1, 0, np.nan, np.nan], "probability": [0.5, 0.3, 0.9, 0.9]})
    some, none = rates.rates_by_group(table, np.array(["a", "a", "a", "b"])).to_dict("records")
    assert [some[name] for name in ("shots", "labeled", "made")] == [3, 2, 1]
    assert [some[name] for name in ("rate", "expected", "difference")] == pytest.approx([0.5, 0.4, 0.1])
    assert np.isnan([none[name] for name in ("rate", "expected", "difference", "low", "high")]).all()


def test_groups_keep_the_order_of_their_categories_and_others_are_sorted(shots: pd.DataFrame) -> None:
    names = np.where(shots["period"] > 2, "late", "early")
    ordered: pd.Series[str] = pd.Series(pd.Categorical(names, categories=["late", "never", "early"]))
    assert rates.rates_by_group(shots, ordered)["group"].tolist() == ["late", "early"]
    found = rates.rates_by_group(shots, names)
    assert found["group"].tolist() == ["early", "late"]
    assert found.columns.tolist() == ["group", *RATES]


def test_groups_belong_to_rows_by_position_whatever_the_index(shots: pd.DataFrame) -> None:
    groups = np.where(shots["playoffs"] == 1, "playoffs", "season")
    plain = rates.rates_by_group(shots, groups)
    assert plain["labeled"].sum() == shots["shot_made_flag"].notna().sum()
    assert rates.rates_by_group(shots.set_index(shots.index[::-1]), pd.Series(groups)).equals(plain)


def test_rows_without_a_group_are_excluded(shots: pd.DataFrame) -> None:
    groups = shots["period"].where(shots["period"] != 2).astype(float)
    assert rates.rates_by_group(shots, groups)["shots"].sum() == (shots["period"] != 2).sum()


@pytest.mark.parametrize(("made", "of"), [(0, 5), (5, 5), (3, 10), (400, 1_000)])
def test_the_interval_is_that_of_wilson(made: int, of: int) -> None:
    expected = stats.binomtest(made, of).proportion_ci(method="wilson")
    low, high = rates.wilson([made], [of])
    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high), abs=1e-12)
