from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data import datasets
from data.errors import TableError
from data.preparation import manifest
from data.preparation.manifest import IDS, TRAIN
from data.schema import FEATURES, IN_TRAINING, MODEL_VERSION, SHOT_ID, TARGET
from data.storage.files import sha256, write_parquet
from monitor.store import labels as arrivals
from monitor.store import tags
from monitor.store.labels import ArrivalError, flag_training_rows, is_training_row, sort_by_time
from monitor.store.model_store import current_store
from monitor.store.tables import TIME
from serving import registry
from tests.evaluations import population
from tests.versions import register_without_files

CLICKS = """
[dataset]
name = "clicks"
[columns.at]
role = "time"
kind = "integer"
[columns.x]
role = "feature"
kind = "integer"
[columns.y]
role = "target"
kind = "boolean"
"""

# In the order of their time


def test_rows_are_put_in_the_order_in_which_they_were_scored() -> None:
    table = pd.DataFrame({"shot": [1, 2, 3], "time": pd.to_datetime(["2026-11-03", "2026-11-01", "2026-11-02"])})
    found = sort_by_time(table, "mine")
    assert found["shot"].tolist() == [2, 3, 1]
    assert found.index.tolist() == [0, 1, 2]
    assert table["shot"].tolist() == [1, 2, 3]


def test_rows_without_a_time_are_put_in_the_order_of_their_games() -> None:
    found = sort_by_time(pd.DataFrame({"shot": [1, 2], "game_date": ["2000-10-31", "1996-11-03"]}), "mine")
    assert found["shot"].tolist() == [2, 1]
    assert found[TIME].tolist() == [pd.Timestamp("1996-11-03"), pd.Timestamp("2000-10-31")]


def test_when_a_row_was_scored_goes_before_when_it_was_played() -> None:
    table = pd.DataFrame(
        {"shot": [1, 2], "time": ["2026-11-02T10:00", "2026-11-01T23:59:59.5"], "game_date": ["1996-11-03"] * 2}
    )
    assert sort_by_time(table, "mine")["shot"].tolist() == [2, 1]


def test_rows_of_one_time_keep_their_order() -> None:
    days = np.repeat(["2000-01-03", "2000-01-02", "2000-01-01"], 40)
    found = sort_by_time(pd.DataFrame({"shot": range(120), "game_date": days}), "mine")
    assert found["shot"].tolist() == [*range(80, 120), *range(40, 80), *range(40)]


def test_days_with_a_zone_are_in_utc_and_without_one() -> None:
    found = sort_by_time(
        pd.DataFrame({"game_date": ["2000-10-31T22:00:00-03:00", "2000-10-31T00:00:00-03:00"]}), "mine"
    )
    assert found[TIME].tolist() == [pd.Timestamp("2000-10-31 03:00"), pd.Timestamp("2000-11-01 01:00")]


def test_a_table_without_any_time_is_reported() -> None:
    with pytest.raises(ArrivalError, match=r"mine: expected a column time or game_date, which puts labels in the"):
        sort_by_time(pd.DataFrame({"shot": [1]}), "mine")


@pytest.mark.parametrize("value", ["yesterday", None, "", "31.10.2000"])
def test_a_row_without_a_time_is_reported_with_what_it_has(value: str | None) -> None:
    table = pd.DataFrame({"game_date": ["2000-10-31", value]})
    with pytest.raises(
        ArrivalError, match=r"mine: expected a date such as 2000-10-31 in game_date of every row; found "
    ):
        sort_by_time(table, "mine")


# What a version was trained on


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of prepared tables, with nothing in it."""
    monkeypatch.setattr(manifest, "PROCESSED", tmp_path / "processed")
    arrivals._labels_of.cache_clear()  # noqa: SLF001
    return tmp_path / "processed"


def shots(first: int, count: int) -> pd.DataFrame:
    """Labeled shots without duplicates."""
    table = population().iloc[first : first + count][[*FEATURES, TARGET]].reset_index(drop=True)
    return table.assign(minutes_remaining=np.linspace(0, 12, count) + first / 1e6)


DEV = shots(0, 30)
LABELS = shots(100, 20).assign(**{TIME: pd.date_range("2026-11-01", periods=20, freq="s")})


def register_retrained(folder: Path, labels: pd.DataFrame = LABELS) -> str:
    """A version that was trained on dev rows and then on labels, with the columns that identify them."""
    columns = [*FEATURES, TARGET]
    every = pd.concat([DEV[columns], labels], ignore_index=True)
    tables = {
        TRAIN: every[columns].astype({TARGET: "int64"}),
        IDS[TRAIN]: every.reindex(columns=[SHOT_ID, TIME]).astype({SHOT_ID: "Int64", TIME: "datetime64[us]"}),
    }
    for name, table in tables.items():
        write_parquet(table, folder / f"{name}.parquet")
    digests = {f"sha256_{name}": sha256(folder / f"{name}.parquet") for name in tables}
    return register_without_files(
        **digests, **{tags.LABELS_UNTIL: "2026-11-01T00:00:00", tags.TRAINING_LABELS: str(len(labels))}
    )


@pytest.mark.usefixtures("store")
def test_the_labels_that_a_version_of_continuous_training_was_trained_on_are_known_by_their_time_and_values(
    folder: Path,
) -> None:
    version = register_retrained(folder)
    later = shots(200, 10).assign(**{TIME: LABELS[TIME].iloc[:10].to_numpy()})
    table = pd.concat([later, LABELS.sample(frac=1, random_state=0), later], ignore_index=True)
    expected = [False] * 10 + [True] * 20 + [False] * 10
    assert is_training_row(current_store(), table, version).tolist() == expected
    assert (
        is_training_row(current_store(), table.assign(shot_id=1)[[TARGET, TIME, *reversed(FEATURES)]], version).tolist()
        == expected
    )
    # The same values another time are another shot.
    assert not is_training_row(current_store(), table.assign(**{TIME: pd.Timestamp("2030-01-01")}), version).any()
    assert not is_training_row(current_store(), table.drop(columns=TIME), version).any()


@pytest.mark.usefixtures("store")
def test_labels_that_have_a_number_are_known_by_it(folder: Path) -> None:
    numbered = LABELS.assign(**{SHOT_ID: range(20)})
    version = register_retrained(folder, numbered)
    assert is_training_row(current_store(), numbered, version).all()
    # A shot from the same spot is another shot.
    assert not is_training_row(current_store(), numbered.assign(**{SHOT_ID: range(20, 40)}), version).any()
    assert not is_training_row(current_store(), numbered.assign(**{TARGET: float("nan")}), version).any()
    assert is_training_row(current_store(), LABELS, version).all()
    blank = numbered.assign(**{SHOT_ID: pd.array([*range(10), *[None] * 10], dtype="Int64")})
    assert is_training_row(current_store(), blank, version).tolist() == [True] * 10 + [False] * 10


@pytest.mark.usefixtures("store")
def test_labels_without_a_number_are_known_by_time_and_values_whatever_the_table_has(folder: Path) -> None:
    version = register_retrained(folder)
    assert is_training_row(current_store(), LABELS.assign(**{SHOT_ID: range(20)}), version).all()


@pytest.mark.usefixtures("store")
def test_dev_rows_unknown_labels_and_other_results_are_not_among_them(folder: Path) -> None:
    version = register_retrained(folder)
    assert not is_training_row(current_store(), DEV, version).any()
    assert not is_training_row(current_store(), LABELS.assign(**{TARGET: float("nan")}), version).any()
    assert not is_training_row(current_store(), LABELS.assign(**{TARGET: 1 - LABELS[TARGET]}), version).any()


@pytest.mark.usefixtures("store")
def test_a_version_that_was_trained_on_dev_rows_alone_has_no_training_labels(folder: Path) -> None:
    write_parquet(DEV, folder / f"{TRAIN}.parquet")
    version = register_without_files(**{f"sha256_{TRAIN}": sha256(folder / f"{TRAIN}.parquet")})
    assert not is_training_row(current_store(), pd.concat([DEV, LABELS]), version).any()


@pytest.mark.usefixtures("store")
def test_a_version_whose_training_rows_are_gone_is_reported(folder: Path) -> None:
    version = register_retrained(folder)
    (folder / f"{TRAIN}.parquet").unlink()
    with pytest.raises(TableError, match="no run holds it"):
        is_training_row(current_store(), LABELS, version)


@pytest.mark.usefixtures("store")
def test_each_row_is_compared_with_the_labels_of_the_version_that_scored_it(folder: Path) -> None:
    of_dev, of_loop = register_without_files(), register_retrained(folder)
    versions = pd.array([int(of_dev)] * 5 + [int(of_loop)] * 5 + [None] * 10, dtype="Int64")
    found = flag_training_rows(current_store(), LABELS.assign(**{MODEL_VERSION: versions}))
    assert found[IN_TRAINING].tolist() == [False] * 5 + [True] * 5 + [False] * 10
    assert found[IN_TRAINING].dtype == bool


@pytest.mark.usefixtures("store")
def test_a_table_without_training_rows_is_unchanged(folder: Path) -> None:
    version = int(register_retrained(folder))
    for table in (
        LABELS,
        DEV.assign(**{MODEL_VERSION: version}),
        LABELS.assign(**{MODEL_VERSION: int(register_without_files())}),
    ):
        pd.testing.assert_frame_equal(flag_training_rows(current_store(), table), table)


@pytest.mark.usefixtures("store", "folder")
def test_rows_that_were_scored_by_a_version_that_this_registry_does_not_know_are_kept() -> None:
    register_without_files()
    table = LABELS.assign(**{MODEL_VERSION: pd.array([1] * 10 + [99] * 10, dtype="Int64")})
    pd.testing.assert_frame_equal(flag_training_rows(current_store(), table), table)


@pytest.mark.usefixtures("store")
def test_versions_of_one_number_of_two_registered_models_are_not_mixed_up(folder: Path) -> None:
    version = register_retrained(folder)
    with registry.use_model_name("another"):
        assert register_without_files() == version
        assert not is_training_row(current_store(), LABELS, version).any()
    assert is_training_row(current_store(), LABELS, version).all()


@pytest.mark.parametrize("unit", [1 / 86_400, 1, 1_000, 1_000_000_000])
def test_a_time_in_numbers_may_count_in_any_unit(tmp_path: Path, unit: float) -> None:
    path = tmp_path / "clicks.toml"
    path.write_text(CLICKS, encoding="utf-8")
    table = pd.DataFrame({"at": [1_704_153_600 * unit, 1_704_067_200 * unit], "x": [2, 1]})
    with datasets.use(str(path)):
        found = sort_by_time(table, "clicks")
        assert found["x"].tolist() == [1, 2]
        assert found["time"].dt.date.map(str).tolist() == ["2024-01-01", "2024-01-02"]
        with pytest.raises(ArrivalError, match="expected a number in at of every row; found 'soon'"):
            sort_by_time(table.assign(at=["1", "soon"]), "clicks")
