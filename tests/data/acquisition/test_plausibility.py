"""Mistakes across columns: an error where most rows show them, a warning where a few do."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data import court
from data.acquisition import sources
from data.acquisition.plausibility import PlausibilityCheck
from data.acquisition.raw_tables import FILES
from data.errors import SchemaError
from data.schema import TARGET, THREE_POINTS, TWO_POINTS


def found(table: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> str:
    """The warnings about a table."""
    check = PlausibilityCheck("shots.csv")
    for start in range(0, len(table), 1_000):
        check.add(table.iloc[start : start + 1_000])
    check.finish()
    return " ".join(capsys.readouterr().out.split())


def at_a_tenth(table: pd.DataFrame) -> pd.DataFrame:
    x, y = court.to_feet(table["lat"], table["lon"])
    latitude, longitude = court.to_degrees(x / 10, y / 10)
    return table.assign(lat=latitude, lon=longitude)


def test_the_public_files_are_plausible(real_raw: dict[str, pd.DataFrame], capsys: pytest.CaptureFixture[str]) -> None:
    for table in (*real_raw.values(), pd.concat(real_raw.values())):
        assert found(table, capsys) == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (at_a_tenth, "LOC_X and LOC_Y are in feet, and tenths of a foot are expected"),
        (lambda table: table.assign(shot_distance=(0.3048 * table["shot_distance"]).round(1)), "is in meters"),
        (lambda table: table.assign(shot_distance=10 * table["shot_distance"]), "is in tenths of a foot; feet are"),
        (lambda table: table.assign(lat=33.9), "Expected shot_distance in feet"),
        (
            lambda table: table.assign(
                shot_type=table["shot_type"].map({TWO_POINTS: THREE_POINTS, THREE_POINTS: TWO_POINTS})
            ),
            r"shot_type and (the position \(lat, lon\)|shot_zone_basic) contradict each other",
        ),
        (lambda table: table.assign(**{TARGET: 1}), "context_measure_simple='FGA'"),
    ],
)
def test_a_mistake_of_most_rows_is_an_error(shots: pd.DataFrame, change: object, words: str, tmp_path: Path) -> None:
    assert callable(change)
    wrong = change(shots)
    wrong.to_csv(tmp_path / "shots.csv", index=False)
    with pytest.raises(SchemaError, match=words):
        sources.acquire(str(tmp_path / "shots.csv"), rows=100, seed=1, raw=tmp_path / "raw")
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, points in zip(FILES, (TWO_POINTS, THREE_POINTS), strict=True):
        wrong[wrong["shot_type"] == points].to_parquet(folder / name, index=False)
    with pytest.raises(SchemaError, match=words):
        sources.acquire(str(folder), rows=100, seed=1, raw=tmp_path / "raw")


def test_a_zone_that_contradicts_the_type_is_an_error(shots: pd.DataFrame) -> None:
    check = PlausibilityCheck("shots.csv")
    check.add(shots.assign(shot_zone_basic=np.where(shots["shot_type"] == TWO_POINTS, "Left Corner 3", "Mid-Range")))
    with pytest.raises(SchemaError, match="shot_type and shot_zone_basic contradict each other"):
        check.finish()


def test_a_few_rows_are_a_warning(shots: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    table = shots.copy()
    table.loc[:8, "shot_distance"] += 9
    printed = found(table, capsys)
    assert "shot_distance and the position (lat, lon) contradict each other in 9 of 6,000 row(s)" in printed


def test_cells_that_are_missing_or_no_numbers_are_not_checked(capsys: pytest.CaptureFixture[str]) -> None:
    table = pd.DataFrame({"lat": ["north", None], "lon": [None, -118.2], "shot_distance": [3, 4], TARGET: [None, "x"]})
    assert found(table, capsys) == ""
