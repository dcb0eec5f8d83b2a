import numpy as np
import pandas as pd
import pytest

from data.errors import SchemaError
from data.schema import FEATURES, THREE_POINTS, TWO_POINTS
from steps.preparacao import PreparacaoConfig, Prepared, prepare


@pytest.fixture
def raw(shots: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    dev, prod = (shots[shots["shot_type"] == points].reset_index(drop=True) for points in (TWO_POINTS, THREE_POINTS))
    return dev, prod


def split(raw: tuple[pd.DataFrame, pd.DataFrame], test_size: float = 0.2, seed: int = 42) -> Prepared:
    return prepare(*raw, PreparacaoConfig(test_size=test_size, seed=seed))


def test_the_real_files_give_the_known_sizes(real_raw: dict[str, pd.DataFrame]) -> None:
    prepared = split((real_raw["dataset_kobe_dev"], real_raw["dataset_kobe_prod"]))
    assert prepared.filtered.shape == (20_285, 7)
    assert (len(prepared.train), len(prepared.test)) == (16_228, 4_057)
    assert (len(prepared.prod), int(prepared.prod["shot_made_flag"].isna().sum())) == (6_426, 1_014)


def test_columns_are_the_six_features_and_the_label(raw: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    prepared = split(raw)
    for table in (prepared.filtered, prepared.train, prepared.test):
        assert list(table) == [*FEATURES, "shot_made_flag"]
        assert set(table[list(FEATURES)].dtypes) == {np.dtype("float64")}
        assert table.notna().all(axis=None)
    assert list(prepared.prod) == ["shot_id", "game_date", *FEATURES, "shot_made_flag"]


def test_every_filtered_row_is_in_train_or_test_and_none_in_both(raw: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    dev, prod = raw
    # Minutes, here unlike any other row's, tell the rows apart.
    dev = dev.assign(minutes_remaining=np.linspace(0, 12, len(dev)))
    prepared = split((dev, prod))
    train, test = set(prepared.train["minutes_remaining"]), set(prepared.test["minutes_remaining"])
    assert train.isdisjoint(test)
    assert train | test == set(prepared.filtered["minutes_remaining"])


@pytest.mark.parametrize("test_size", [0.1, 0.2, 0.5])
def test_both_parts_hold_the_same_share_of_made_shots(raw: tuple[pd.DataFrame, pd.DataFrame], test_size: float) -> None:
    prepared = split(raw, test_size)
    share = prepared.filtered["shot_made_flag"].mean()
    assert len(prepared.test) == pytest.approx(test_size * len(prepared.filtered), abs=1)
    assert prepared.train["shot_made_flag"].mean() == pytest.approx(share, abs=0.001)
    assert prepared.test["shot_made_flag"].mean() == pytest.approx(share, abs=0.002)


def test_the_split_depends_on_the_seed_alone(raw: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    pd.testing.assert_frame_equal(split(raw).test, split(raw).test)
    assert not split(raw, seed=1).test.equals(split(raw).test)


def test_prod_rows_never_reach_the_training_rows(raw: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    dev, prod = raw
    prepared = split((dev, prod.assign(shot_distance=94)))
    assert prepared.filtered["shot_distance"].max() < 94


def test_unlabelled_prod_rows_are_kept_with_a_null_label(raw: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    _, prod = raw
    prepared = split(raw)
    assert prepared.prod["shot_id"].tolist() == prod["shot_id"].tolist()
    assert prepared.prod["shot_made_flag"].isna().sum() == prod["shot_made_flag"].isna().sum() > 0


def test_dropped_rows_are_counted_by_reason(raw: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    dev, prod = raw
    dev, prod = dev.copy(), prod.astype({"period": float})
    dev.loc[:2, "lat"] = np.nan
    prod.loc[0, "period"] = np.nan
    prepared = split((dev, prod))
    assert prepared.dropped["dropped_dev_missing_lat"] == 3
    assert prepared.dropped["dropped_dev_missing_shot_made_flag"] == dev["shot_made_flag"].isna().sum()
    assert prepared.dropped["dropped_dev_rows"] == len(dev) - len(prepared.filtered)
    assert prepared.dropped["dropped_prod_rows"] == prepared.dropped["dropped_prod_missing_period"] == 1


def test_prod_rows_keep_the_day_of_their_game_where_the_raw_file_has_it(
    raw: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    dev, prod = raw
    days = split(raw).prod.set_index("shot_id")["game_date"]
    assert days.to_dict() == prod.set_index("shot_id")["game_date"].to_dict()
    without = split((dev.drop(columns="game_date"), prod.drop(columns="game_date"))).prod
    assert list(without) == ["shot_id", *FEATURES, "shot_made_flag"]
    assert len(without) == len(prod)


@pytest.mark.parametrize("labels", [np.nan, 1.0])
def test_too_few_labels_to_split_are_told(raw: tuple[pd.DataFrame, pd.DataFrame], labels: float) -> None:
    dev, prod = raw
    with pytest.raises(SchemaError, match="too few to split"):
        split((dev.assign(shot_made_flag=labels), prod)) if np.isnan(labels) else split(
            (dev.head(3).assign(shot_made_flag=[1.0, 1.0, 0.0]), prod)
        )
