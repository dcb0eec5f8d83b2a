from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.schema import THREE_POINTS, TWO_POINTS
from data.simulation import synthetic
from tests.raw import assert_same, check_raw


@pytest.fixture(scope="module")
def many() -> pd.DataFrame:
    return synthetic.shots(150_000, seed=3)


def test_columns_and_types_match_the_public_files(shots: pd.DataFrame, real_raw: dict[str, pd.DataFrame]) -> None:
    for table in real_raw.values():
        assert list(shots.dtypes.items()) == list(table.dtypes.items())


def test_the_first_rows_of_a_seed_do_not_depend_on_the_number_of_rows(many: pd.DataFrame) -> None:
    assert_same(synthetic.shots(70_000, seed=3), many.head(70_000))


def test_another_seed_gives_other_shots(shots: pd.DataFrame) -> None:
    assert not synthetic.shots(6_000, seed=2)["loc_x"].equals(shots["loc_x"])


def test_chunks_contain_every_row_once() -> None:
    sizes = [len(block) for block in synthetic.iter_chunks(70_000, seed=3)]
    assert sum(sizes) == 70_000
    assert max(sizes) == synthetic.BLOCK_ROWS


def test_shots_are_valid_and_have_unique_ids(many: pd.DataFrame) -> None:
    check_raw(many, "synthetic")


def test_results_follow_the_true_probability_in_every_band_of_distance(many: pd.DataFrame) -> None:
    labeled = many[many["shot_made_flag"].notna()]
    true_p: pd.Series[float] = pd.Series(synthetic.true_probability(labeled), index=labeled.index)
    bands = pd.cut(labeled["shot_distance"], [-1, 0, 4, 8, 12, 16, 20, 23, 26, 30, 94])
    for _, band in labeled.groupby(bands, observed=True):
        expected = true_p[band.index]
        error = np.sqrt((expected * (1 - expected)).sum()) / len(band)
        assert abs(band["shot_made_flag"].mean() - expected.mean()) < 4 * error


def test_shares_and_field_goal_percentages_are_close_to_the_real_ones(
    many: pd.DataFrame, real_raw: dict[str, pd.DataFrame]
) -> None:
    for points, real in zip((TWO_POINTS, THREE_POINTS), real_raw.values(), strict=True):
        ours = many[many["shot_type"] == points]
        assert ours["shot_made_flag"].mean() == pytest.approx(real["shot_made_flag"].mean(), abs=0.02)
        assert ours["shot_made_flag"].isna().mean() == pytest.approx(real["shot_made_flag"].isna().mean(), abs=0.02)
        assert ours["shot_distance"].mean() == pytest.approx(real["shot_distance"].mean(), abs=0.7)
        assert ours["shot_distance"].std() == pytest.approx(real["shot_distance"].std(), abs=1.2)
        zones = ours["shot_zone_basic"].value_counts(normalize=True).to_dict()
        for zone, share in real["shot_zone_basic"].value_counts(normalize=True).items():
            assert zones.get(zone, 0) == pytest.approx(share, abs=0.04)


@pytest.mark.parametrize("rows", [0, -5])
def test_less_than_one_row_is_rejected(rows: int) -> None:
    with pytest.raises(ValueError, match="expected 1 or more"):
        synthetic.shots(rows, seed=1)


@pytest.mark.parametrize("name", ["shots.parquet", "shots.csv", "shots"])
def test_the_generator_writes_the_same_shots_to_a_file_or_a_folder(
    many: pd.DataFrame, tmp_path: Path, name: str
) -> None:
    out = tmp_path / name
    synthetic.run(synthetic.SyntheticConfig(rows=70_000, seed=3, out=out))
    assert out.is_dir() == (name == "shots")
    found = pd.read_csv(out) if name.endswith(".csv") else pd.read_parquet(out)
    assert_same(found, many.head(70_000))


def test_a_block_does_not_depend_on_previous_blocks(many: pd.DataFrame) -> None:
    second = many.iloc[synthetic.BLOCK_ROWS : 2 * synthetic.BLOCK_ROWS].reset_index(drop=True)
    assert_same(synthetic.block(3, 1), second)


def test_the_generator_rejects_other_file_formats(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a name that ends in"):
        synthetic.SyntheticConfig(rows=10, seed=3, out=tmp_path / "shots.xlsx")
