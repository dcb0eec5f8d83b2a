from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.acquisition import sources
from data.acquisition.raw_tables import FILES
from data.cli.config import parse_args
from data.errors import KobeShotError, SchemaError, SourceError, TableError
from data.nba_charts import chart as shot_chart
from data.nba_charts import simulated as synthetic_chart
from data.nba_charts.chart import ConversionResult, ShotChartConfig
from data.nba_charts.column_mapping import EXCLUDED_GAME_TYPES, MAPPING, REQUIRED_COLUMNS
from data.nba_charts.simulated import SyntheticChartConfig, as_chart
from data.paths import ROOT
from data.schema import COLUMN, THREE_POINTS
from data.simulation import synthetic
from data.simulation.players import GUARD
from tests.raw import assert_same, check_raw

PAGE = (ROOT / "docs" / "bring-your-own-data.md").read_text()
NAME = "guard rows=800 seed=7"


@pytest.fixture(scope="module")
def guard() -> pd.DataFrame:
    """Synthetic shots of the guard."""
    return next(synthetic_chart.blocks(800, seed=7))


@pytest.fixture
def chart(guard: pd.DataFrame) -> pd.DataFrame:
    """Their chart, without the synthetic mark."""
    made = as_chart(guard, NAME).assign(GRID_TYPE="Shot Chart Detail")
    made.attrs.clear()
    return made


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out" / "shots.parquet"


def write(chart: pd.DataFrame, path: Path) -> Path:
    chart.to_csv(path, index=False) if path.suffix == ".csv" else chart.to_parquet(path, index=False)
    return path


def mapped(chart: pd.DataFrame, out: Path, name: str = "chart.csv") -> pd.DataFrame:
    shot_chart.convert_charts([write(chart, out.parent.parent / name)], out)
    return pd.read_parquet(out)


@pytest.mark.parametrize("name", ["chart.csv", "chart.parquet"])
def test_a_converted_chart_contains_the_shots_of_the_simulation(
    guard: pd.DataFrame, chart: pd.DataFrame, out: Path, name: str
) -> None:
    shots = mapped(chart, out, name)
    check_raw(shots, "mapped", also_required=["shot_type"])
    same = [column for column in shots if column != "matchup"]
    pd.testing.assert_frame_equal(shots[same], guard[same], check_dtype=False)
    away = guard["matchup"].str.contains("@")
    assert shots["matchup"][away].equals(guard["matchup"][away])
    assert shots["matchup"][~away].tolist() == [f"{game[-3:]} @ {game[:3]}" for game in guard["matchup"][~away]]


def test_a_chart_of_the_public_shots_is_converted_to_the_public_files(
    real_raw: dict[str, pd.DataFrame], out: Path
) -> None:
    public = pd.concat(real_raw.values(), ignore_index=True)
    columns = {raw.chart[0]: public[raw.name] for raw in MAPPING if raw.name in public and raw.how == "unchanged"}
    days = public["game_date"].str.replace("-", "")
    shots = mapped(pd.DataFrame(columns).assign(GAME_ID=public["game_id"], GAME_DATE=days), out)
    same = [column for column in shots if column != "shot_id"]
    assert {"lat", "lon", "playoffs", "season", "game_date", "game_id"} <= set(same)
    pd.testing.assert_frame_equal(shots[same], public[same], check_dtype=False)


def test_leading_zeros_lower_case_names_and_other_columns_have_no_effect(chart: pd.DataFrame, out: Path) -> None:
    expected = mapped(chart, out)
    other = chart.assign(GAME_ID=chart["GAME_ID"].astype(int), NOTE="x").rename(columns=str.lower)
    assert_same(mapped(other.reset_index(names=""), out, "other.csv"), expected)
    dashed = chart["GAME_DATE"].str.replace(r"(....)(..)(..)", r"\1-\2-\3", regex=True)
    assert_same(mapped(chart.assign(GAME_DATE=dashed), out, "dashed.csv"), expected)


def test_the_game_id_gives_the_season_and_the_playoffs(chart: pd.DataFrame, out: Path) -> None:
    games = ["0029600001", "0049900405", "0020000001", "0042400405", "0052100101", "0062300001"]
    shots = mapped(chart.head(6).assign(GAME_ID=games), out)
    assert shots["season"].tolist() == ["1996-97", "1999-00", "2000-01", "2024-25", "2021-22", "2023-24"]
    assert shots["playoffs"].tolist() == [0, 1, 0, 1, 0, 0]
    assert shots["shot_id"].tolist()[1] == 499004050000 + chart["GAME_EVENT_ID"][1]


def test_shots_of_preseason_and_all_star_games_are_excluded_and_counted(
    chart: pd.DataFrame, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    games = [f"00{1 + 2 * (row == 0)}1500001" if row < 5 else game for row, game in enumerate(chart["GAME_ID"])]
    path = write(chart.assign(GAME_ID=games, GAME_EVENT_ID=range(800)), out.parent.parent / "chart.csv")
    shot_chart.run(ShotChartConfig(charts=[str(path)], out=out))
    assert len(pd.read_parquet(out)) == 795
    assert "Excluded 4 preseason shots\nExcluded 1 all-star shots\n" in capsys.readouterr().out


def test_missing_values_stay_missing(chart: pd.DataFrame, out: Path) -> None:
    gaps = chart.astype({"SHOT_MADE_FLAG": object, "LOC_X": object})
    gaps.loc[3, ["SHOT_MADE_FLAG", "LOC_X", "GAME_DATE"]] = None
    shots = mapped(gaps.drop(columns=["ACTION_TYPE", "HTM"]), out)
    missing = ["lon", "loc_x", "shot_made_flag", "game_date"]
    assert shots.columns[shots.isna().any()].tolist() == missing
    assert shots[missing].isna().sum().tolist() == [1, 1, 1, 1]
    assert not {"action_type", "matchup"} & set(shots)


def test_charts_of_several_files_and_folders_become_one_table(chart: pd.DataFrame, out: Path, tmp_path: Path) -> None:
    expected = mapped(chart, out)
    (tmp_path / "seasons").mkdir()
    write(chart.iloc[:300], tmp_path / "seasons" / "1.csv")
    write(chart.iloc[300:500].drop(columns="ACTION_TYPE"), tmp_path / "seasons" / "2.parquet")
    (tmp_path / "seasons" / "notes.txt").touch()
    last = write(chart.iloc[500:], tmp_path / "last.csv")
    config = parse_args(ShotChartConfig, [str(tmp_path / "seasons"), str(last), "--out", str(out)])
    shot_chart.run(config)
    expected.loc[300:499, "action_type"] = None
    assert_same(pd.read_parquet(out), expected)


def test_a_chart_of_many_chunks_is_converted_like_one_chunk(
    chart: pd.DataFrame, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = mapped(chart, out)
    monkeypatch.setattr(shot_chart, "CHUNK_ROWS", 70)
    assert_same(mapped(chart, out), expected)
    with pytest.raises(SchemaError, match=r"row 703, column period: found '?11"):
        mapped(chart.assign(PERIOD=np.where(chart.index == 703, 11, 1)), out)
    with pytest.raises(SchemaError, match=r"row 703, column GAME_DATE: found 'May'"):
        mapped(chart.assign(GAME_DATE=np.where(chart.index == 703, "May", "20151028")), out)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("GAME_ID", "1022000001", "row 5, column GAME_ID: found '1022000001', expected an NBA game such as 0021500001"),
        ("GAME_ID", "", "row 5, column GAME_ID: found None, expected an NBA game"),
        ("GAME_EVENT_ID", "7.5", "row 5, column GAME_EVENT_ID: found '7.5', expected an integer from 0 to 9,999"),
        ("GAME_DATE", "20151332", "row 5, column GAME_DATE: found '20151332', expected a date such as 20151028"),
        ("PERIOD", "0", "row 5, column period: found .*, expected an integer from 1 to 10"),
        ("MINUTES_REMAINING", "13", "row 5, column minutes_remaining: found .*, expected a float from 0 to 12"),
        ("LOC_X", "-300", "row 5, column loc_x: found .*, expected an integer from -250 to 250"),
        ("LOC_Y", "far", "row 5, column loc_y: found 'far', expected an integer from -53 to 888"),
        ("SHOT_DISTANCE", "95", "row 5, column shot_distance: found .*, expected a float from 0 to 94"),
        ("SHOT_TYPE", "Free Throw", "row 5, column shot_type: found 'Free Throw', expected one of '2PT Field Goal'"),
        ("SHOT_TYPE", "", "row 5, column shot_type: found"),
    ],
)
def test_an_invalid_value_raises_with_its_row_and_the_old_table_stays(
    chart: pd.DataFrame, out: Path, column: str, value: str, message: str
) -> None:
    mapped(chart, out)
    before = out.read_bytes()
    wrong = chart.astype({column: object})
    wrong.loc[5, column] = value
    with pytest.raises(SchemaError, match=message):
        mapped(wrong, out)
    assert out.read_bytes() == before
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_a_label_that_cannot_be_read_is_null_and_counted(
    chart: pd.DataFrame, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = chart["SHOT_MADE_FLAG"].map({1: "Made", 0: "missed"}).astype(object)
    labels[5] = 2
    mapped(chart.assign(SHOT_MADE_FLAG=labels), out)
    found = pd.read_parquet(out)["shot_made_flag"]
    assert found.isna().tolist() == [row == 5 for row in range(len(chart))]
    assert found.drop(index=5).tolist() == chart["SHOT_MADE_FLAG"].drop(index=5).tolist()
    assert "1 value(s) of shot_made_flag" in " ".join(capsys.readouterr().out.split())


def test_a_duplicate_shot_is_rejected(chart: pd.DataFrame, out: Path, tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"row 800, column shot_id: found \d+"):
        mapped(pd.concat([chart, chart.tail(1)]), out)
    both = [write(chart, tmp_path / "1.csv"), write(chart.tail(2), tmp_path / "2.csv")]
    with pytest.raises(SchemaError, match=r"^2 shots are in more than one chart, with the shot_id such as \d+, \d+"):
        shot_chart.convert_charts(both, out)
    assert not out.exists()


@pytest.mark.parametrize("column", REQUIRED_COLUMNS)
def test_a_missing_column_raises_with_the_expected_and_found_columns(
    chart: pd.DataFrame, out: Path, column: str
) -> None:
    with pytest.raises(SchemaError, match=rf"chart\.csv: column {column} missing\. .* at least GAME_ID.* found GRID_T"):
        mapped(chart.drop(columns=column), out)


def test_a_duplicate_column_is_rejected(chart: pd.DataFrame, out: Path) -> None:
    with pytest.raises(SchemaError, match="column PERIOD found twice"):
        mapped(chart.assign(period=1), out)


def test_a_table_that_needs_no_mapping_is_rejected_with_advice(shots: pd.DataFrame, out: Path) -> None:
    with pytest.raises(SchemaError, match="needs no mapping: make main SOURCE="):
        mapped(shots, out)


@pytest.mark.parametrize("text", ["", "GAME_ID\n", '"unclosed', "PK\x03\x04"])
def test_a_file_that_is_not_a_chart_is_rejected_by_name(out: Path, tmp_path: Path, text: str) -> None:
    for path in (tmp_path / "chart.csv", tmp_path / "chart.parquet"):
        path.write_text(text)
        with pytest.raises((SchemaError, TableError, SourceError), match=path.name):
            shot_chart.convert_charts([path], out)
    assert not out.exists()


def test_an_empty_chart_is_rejected(chart: pd.DataFrame, out: Path) -> None:
    with pytest.raises(SourceError, match=r"chart\.csv: no rows to map; expected shots"):
        mapped(chart.head(0), out)


def test_charts_of_excluded_games_only_are_rejected_with_their_counts(chart: pd.DataFrame, out: Path) -> None:
    games = ["0011500001", "0011500001", "0031500001"]
    with pytest.raises(SourceError, match=r"but 2 preseason, 1 all-star shots, which are excluded because their games"):
        mapped(chart.head(3).assign(GAME_ID=games), out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("charts", "out"),
    [
        ("dd/chart.parquet", "dd/chart.parquet"),
        ("dd/chart.parquet", "dd/../link/chart.parquet"),
        ("dd", "dd/shots.parquet"),
        ("dd.parquet/chart.parquet", "dd.parquet"),
    ],
)
def test_no_chart_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], charts: str, out: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("dd", "dd.parquet"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "chart.parquet").touch()
    (tmp_path / "link").symlink_to("dd")
    with pytest.raises(SystemExit) as caught:
        parse_args(ShotChartConfig, [charts, "--out", out])
    assert caught.value.code == 2
    assert "expected out outside of the folder of charts" in capsys.readouterr().err


def test_an_output_folder_that_is_not_writable_raises_before_a_chart_is_read(tmp_path: Path) -> None:
    chart = tmp_path / "chart.csv"
    chart.write_text("no chart")
    for out in (chart / "out.parquet", chart / "below" / "out.parquet"):
        config = ShotChartConfig.model_construct(charts=[str(tmp_path / "chart.csv")], out=out)
        with pytest.raises(KobeShotError, match=r"expected a writable folder; .*chart\.csv"):
            shot_chart.run(config)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.csv", "--out", "a.parquet"], "'nowhere.csv', no such file"),
        (["chart.txt", "--out", "a.parquet"], "'chart.txt', another file"),
        (["empty", "--out", "a.parquet"], "'empty', a folder without any"),
        (["chart.csv", "--out", "a.csv"], "expected a name that ends in .parquet"),
        (["--out", "a.parquet"], "required: CHARTS"),
    ],
)
def test_invalid_parameters_raise_before_any_work(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "chart.txt").touch()
    (tmp_path / "chart.csv").touch()
    with pytest.raises(SystemExit) as caught:
        parse_args(ShotChartConfig, arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "a.parquet").exists()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_synthetic_shots_are_marked_after_the_conversion_and_as_a_source(
    tmp_path: Path, chart: pd.DataFrame, out: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    real, simulated = write(chart, tmp_path / "0.csv"), tmp_path / f"1{suffix}"
    synthetic_chart.run(SyntheticChartConfig(rows=500, seed=3, out=simulated))
    assert shot_chart.convert_charts([real], out) == ConversionResult(
        shots=shot_chart.convert_charts([real], out).shots
    )
    assert not sources.acquire(str(out), rows=1, seed=1, raw=tmp_path / "raw").is_synthetic
    shot_chart.run(ShotChartConfig(charts=[str(simulated)], out=out))
    assert "SYNTHETIC DATA: these shots are synthetic (guard rows=500 seed=3)" in capsys.readouterr().out
    found = sources.acquire(str(out), rows=1, seed=1, raw=tmp_path / "raw")
    assert (found.kind, found.location) == ("synthetic", "guard rows=500 seed=3")
    shots = pd.concat([pd.read_parquet(tmp_path / "raw" / name) for name in FILES]).sort_values(
        "shot_id", ignore_index=True
    )
    pd.testing.assert_frame_equal(
        shots, pd.read_parquet(out).sort_values("shot_id", ignore_index=True), check_dtype=False
    )


def test_one_synthetic_row_among_real_ones_marks_the_whole_table(
    chart: pd.DataFrame, out: Path, tmp_path: Path
) -> None:
    first, last = chart.head(400), chart.tail(400)
    mixed = last.assign(GRID_TYPE=[*last["GRID_TYPE"][1:], f"Simulated Shot Chart Detail: {NAME}"])
    files = [write(first, tmp_path / "1.csv"), write(mixed, tmp_path / "2.csv")]
    assert shot_chart.convert_charts(files, out).simulation == NAME
    assert pd.read_parquet(out).attrs == {"simulation": NAME}


def test_the_mark_of_a_parquet_chart_does_not_depend_on_its_grid_type(chart: pd.DataFrame, out: Path) -> None:
    chart.attrs["simulation"] = NAME
    assert mapped(chart, out, "chart.parquet").attrs == {"simulation": NAME}


def test_the_guard_takes_more_threes_and_makes_them_with_the_true_probability() -> None:
    table = pd.concat(synthetic_chart.blocks(70_000, seed=3), ignore_index=True)
    check_raw(table, "guard")
    assert (table["shot_type"] == THREE_POINTS).mean() == pytest.approx(0.52, abs=0.01)
    true_p: pd.Series[float] = pd.Series(synthetic.true_probability(table, GUARD))
    for _, band in table.groupby(pd.cut(table["shot_distance"], [-1, 0, 4, 12, 20, 23, 26, 30, 94]), observed=True):
        expected = true_p[band.index]
        error = np.sqrt((expected * (1 - expected)).sum()) / len(band)
        assert abs(band["shot_made_flag"].mean() - expected.mean()) < 4 * error


def test_the_same_seed_writes_the_same_chart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, seed in (("1.csv", 3), ("2.csv", 3), ("3.csv", 4)):
        synthetic_chart.run(SyntheticChartConfig(rows=300, seed=seed, out=tmp_path / name))
    first, second, other = ((tmp_path / f"{number}.csv").read_bytes() for number in (1, 2, 3))
    assert first == second
    assert first != other
    assert "log loss of the true probabilities: 0." in capsys.readouterr().out


def test_the_page_lists_the_mapping_the_ranges_and_the_game_types_of_the_code() -> None:
    for column in MAPPING:
        row = f"| `{column.name}` | {', '.join(f'`{name}`' for name in column.chart)} | {column.how} |"
        assert row in PAGE
    assert f"needs {', '.join(f'`{name}`' for name in REQUIRED_COLUMNS)}" in " ".join(PAGE.split())
    ranges = PAGE.partition("## Ranges")[2]
    chart_name = {column.name: column.chart[0] for column in MAPPING if column.how == "unchanged"}
    for name, shot in COLUMN.items():
        if name in chart_name and (shot.minimum is not None or shot.categories):
            assert f"| `{chart_name[name]}` | {shot.description} | {shot.constraint_text} | {shot.unit} |" in ranges
    for kind, name in EXCLUDED_GAME_TYPES.items():
        assert f"| `00{kind}` | {name} | excluded |" in PAGE
