import errno
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.model_selection import train_test_split

from data.acquisition.raw_tables import DEV_FILE, FILES, PROD_FILE
from data.datasets import Column, Dataset, Test
from data.engines.duckdb import duckdb_engine
from data.engines.hashing import hashed
from data.errors import SchemaError, SourceError
from data.paths import ROOT
from data.preparation.contract import PreparationParams
from data.preparation.manifest import FILTERED, IDS, TABLES, TEST, TRAIN
from data.preparation.prepare import prepare as prepare_with
from data.preparation.prepare import progress_total
from data.schema import FEATURES, TARGET, THREE_POINTS, TWO_POINTS
from data.storage.files import DiskFullError, sha256
from data.storage.tables import TableWriter, parquet_options
from tests.raw import assert_same
from tests.raw import prepare_locally as prepare

Pair = tuple[pd.DataFrame, pd.DataFrame]


@pytest.fixture
def pair(shots: pd.DataFrame) -> Pair:
    """The two raw tables."""
    dev, prod = (shots[shots["shot_type"] == points].reset_index(drop=True) for points in (TWO_POINTS, THREE_POINTS))
    return dev, prod


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """An empty folder for them."""
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An empty folder for the prepared tables."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of a size that splits small tables."""
    monkeypatch.setattr("data.engines.duckdb.BATCH_ROWS", 700)


def write_pair(pair: Pair, raw: Path) -> None:
    for table, name in zip(pair, FILES, strict=True):
        table.to_parquet(raw / name, index=False)


def write_parts(table: pd.DataFrame, folder: Path, parts: int = 3) -> None:
    folder.mkdir()
    for number, rows in enumerate(np.array_split(np.arange(len(table)), parts)):
        table.iloc[rows].to_parquet(folder / f"part-{number}.parquet", index=False)


def tables(out: Path) -> dict[str, pd.DataFrame]:
    return {name: pd.read_parquet(out / f"{name}.parquet") for name in TABLES}


def in_memory(pair: Pair, test_size: float = 0.2, seed: int = 42) -> dict[str, pd.DataFrame]:
    """Prepare with plain pandas, and the class sizes of scikit-learn."""
    columns = [*FEATURES, TARGET]
    dev, prod = (table.rename(columns={"lon": "lng"}) for table in pair)
    complete = dev.dropna(subset=columns).reset_index(drop=True)
    filtered = complete[columns].astype(float).astype({TARGET: "int64"})
    _, tested = train_test_split(filtered[TARGET], test_size=test_size, random_state=seed, stratify=filtered[TARGET])
    hashes = pd.Series(hashed(complete["shot_id"].to_numpy(dtype="int64"), seed))
    in_test = hashes.groupby(filtered[TARGET]).rank() <= filtered[TARGET].map(tested.value_counts())
    train, test = filtered[~in_test], filtered[in_test]
    scorable = (
        prod.dropna(subset=list(FEATURES))
        .astype({**dict.fromkeys(columns, "float64"), "game_date": "string"})
        .astype({"game_date": "object"})
    )
    parts = (filtered, train, test, scorable[["shot_id", "game_date", *columns]])
    return {name: part.reset_index(drop=True) for name, part in zip(TABLES, parts, strict=True)}


@pytest.mark.parametrize(("test_size", "seed"), [(0.2, 42), (0.5, 1)])
@pytest.mark.usefixtures("small_chunks")
def test_a_streamed_preparation_is_bit_identical_to_pandas(
    pair: Pair, raw: Path, out: Path, test_size: float, seed: int
) -> None:
    write_pair(pair, raw)
    prepare(raw, out, PreparationParams(test_size, seed))
    for name, expected in in_memory(pair, test_size, seed).items():
        options = parquet_options(pa.Schema.from_pandas(expected, preserve_index=False))
        expected.to_parquet(out / "expected.parquet", index=False, **options)
        assert (out / f"{name}.parquet").read_bytes() == (out / "expected.parquet").read_bytes()


@pytest.mark.usefixtures("small_chunks")
def test_counts_match_the_tables(pair: Pair, raw: Path, out: Path) -> None:
    dev, prod = pair
    write_pair((dev.assign(lat=dev["lat"].mask(dev.index < 3)), prod), raw)
    done: list[int] = []
    prepared = prepare(raw, out, PreparationParams(), done.append)
    for name, table in tables(out).items():
        assert prepared.rows[name] == len(table)
        assert prepared.labeled[name] == table[TARGET].notna().sum()
        assert prepared.made[name] == table[TARGET].sum()
    assert prepared.dropped["dropped_dev_missing_lat"] == 3
    assert sum(done) == progress_total(raw)


def test_nan_in_the_raw_files_is_a_missing_value(pair: Pair, raw: Path, out: Path) -> None:
    write_pair(pair, raw)
    expected = prepare(raw, out, PreparationParams())
    for name in FILES:
        table = pq.read_table(raw / name)
        for place, field in enumerate(table.schema):
            if pa.types.is_floating(field.type):
                table = table.set_column(place, field, table.column(place).fill_null(np.nan))
        pq.write_table(table, raw / name)
    assert prepare(raw, out, PreparationParams()) == expected
    for name, table in tables(out).items():
        assert_same(table, in_memory(pair)[name])


def test_synthetic_shots_stay_marked(pair: Pair, raw: Path, out: Path) -> None:
    for table in pair:
        table.attrs["simulation"] = "rows=1 seed=1"
    write_pair(pair, raw)
    prepare(raw, out, PreparationParams())
    assert all(table.attrs == pair[0].attrs for table in tables(out).values())


# Tables in parts


@pytest.mark.usefixtures("small_chunks")
def test_folders_of_parts_with_different_types_are_one_table(pair: Pair, raw: Path, out: Path, tmp_path: Path) -> None:
    write_pair(pair, raw)
    parted = tmp_path / "parted"
    parted.mkdir()
    for table, name in zip(pair, FILES, strict=True):
        write_parts(table, parted / name)
        second = parted / name / "part-1.parquet"
        kinds = {"period": "float64", "shot_id": "float64", "shot_distance": "int8", "shot_made_flag": "float32"}
        pd.read_parquet(second).astype(kinds).to_parquet(second, index=False)
    assert prepare(parted, parted, PreparationParams()) == prepare(raw, out, PreparationParams())
    for name in TABLES:
        assert sha256(parted / f"{name}.parquet") == sha256(out / f"{name}.parquet")


@pytest.mark.usefixtures("small_chunks")
def test_a_large_table_is_written_in_parts(pair: Pair, raw: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.storage.tables.PART_ROWS", 1_000)
    write_pair(pair, raw)
    prepare(raw, out, PreparationParams())
    assert len(list((out / f"{FILTERED}.parquet").iterdir())) == 4
    for name, expected in in_memory(pair).items():
        assert_same(pd.read_parquet(out / f"{name}.parquet"), expected)


def test_a_damaged_part_is_named(pair: Pair, raw: Path, out: Path) -> None:
    write_pair(pair, raw)
    (raw / DEV_FILE).unlink()
    write_parts(pair[0], raw / DEV_FILE)
    with_violations = raw / DEV_FILE / "part-1.parquet"
    with_violations.write_bytes(with_violations.read_bytes()[:-100])
    with pytest.raises(SourceError, match=r"part-1\.parquet.*cannot be read"):
        prepare(raw, out, PreparationParams())
    assert list(out.iterdir()) == []


# The split


def with_unique_rows(pair: Pair) -> Pair:
    """Make the minutes of dev rows unique."""
    dev, prod = pair
    return dev.assign(minutes_remaining=np.linspace(0, 12, len(dev))), prod


def test_the_split_does_not_depend_on_the_order_of_rows(pair: Pair, raw: Path, out: Path) -> None:
    dev, prod = with_unique_rows(pair)
    sides = []
    for order in (dev, dev.sample(frac=1, random_state=1)):
        write_pair((order, prod), raw)
        prepare(raw, out, PreparationParams(seed=7))
        sides.append(set(tables(out)[TEST]["minutes_remaining"]))
    assert sides[0] == sides[1]
    prepare(raw, out, PreparationParams(seed=8))
    assert set(tables(out)[TEST]["minutes_remaining"]) != sides[0]


def test_ids_whose_hashes_are_not_where_they_are_expected_are_split_too(pair: Pair, raw: Path, out: Path) -> None:
    dev, prod = with_unique_rows(pair)
    candidates = np.arange(10**6, 2 * 10**6)
    low = candidates[hashed(candidates, 42) < -(2**62)][: len(dev)]
    pair = dev.assign(shot_id=low), prod
    write_pair(pair, raw)
    prepare(raw, out, PreparationParams())
    for name, expected in in_memory(pair).items():
        assert_same(pd.read_parquet(out / f"{name}.parquet"), expected)


# Rows that violate the schema


def with_violations(pair: Pair) -> Pair:
    """Make dev rows 2 and 1,500 and prod row 1 invalid."""
    dev, prod = (table.astype({"lat": object, "period": float}) for table in pair)
    dev.loc[2, "period"] = 99.0
    dev.loc[1_500, ["lat", "period"]] = [0.0, 2.5]
    prod.loc[1, "shot_distance"] = 400
    return dev.astype({"lat": float}), prod.astype({"lat": float})


@pytest.mark.usefixtures("small_chunks")
def test_rows_that_violate_the_schema_go_to_a_table_of_rejects_with_the_reason(
    pair: Pair, raw: Path, out: Path
) -> None:
    dev, prod = with_violations(pair)
    write_pair((dev, prod), raw)
    prepared = prepare(raw, out, PreparationParams(max_rejected_rows=3))
    assert prepared.rejected == {DEV_FILE: 2, PROD_FILE: 1}
    rejects = pd.read_parquet(out / "rejects_dev.parquet")
    assert rejects["reason"].tolist() == [
        "column period: found 99, expected an integer from 1 to 10",
        "column lat: found 0, expected a float from 33.1568 to 34.0968",
    ]
    came = dev.loc[[2, 1_500]].reset_index(drop=True)
    pd.testing.assert_frame_equal(rejects.drop(columns="reason"), came, check_dtype=False)
    rest = (dev.drop(index=[2, 1_500]), prod.drop(index=1))
    for name, expected in in_memory(rest).items():
        assert_same(pd.read_parquet(out / f"{name}.parquet"), expected)


def test_without_rejects_there_is_no_table_of_rejects(pair: Pair, raw: Path, out: Path) -> None:
    write_pair(pair, raw)
    assert sum(prepare(raw, out, PreparationParams(max_rejected_rows=3)).rejected.values()) == 0
    assert sorted(path.stem for path in out.iterdir()) == sorted([*TABLES, *IDS.values()])


@pytest.mark.usefixtures("small_chunks")
def test_the_ids_of_train_and_test_are_in_the_order_of_their_rows(pair: Pair, raw: Path, out: Path) -> None:
    dev, prod = pair
    dev = dev.assign(shot_id=np.random.default_rng(0).permutation(len(dev)) + 10**12)
    write_pair((dev.assign(lat=dev["lat"].mask(dev.index < 3)), prod), raw)
    prepare(raw, out, PreparationParams())
    known = dev.rename(columns={"lon": "lng"}).set_index("shot_id")
    ids = {name: pd.read_parquet(out / f"{table}.parquet") for name, table in IDS.items()}
    for name, found in ids.items():
        assert found.dtypes.to_dict() == {"shot_id": np.dtype("int64")}
        rows = pd.read_parquet(out / f"{name}.parquet")
        assert list(rows) == [*FEATURES, TARGET]
        expected = known.loc[found["shot_id"], [*FEATURES, TARGET]].astype(float).to_numpy()
        assert (rows.astype(float).to_numpy() == expected).all()
    assert not set(ids[TRAIN]["shot_id"]) & set(ids[TEST]["shot_id"])
    assert sum(map(len, ids.values())) == len(pd.read_parquet(out / f"{FILTERED}.parquet"))


@pytest.mark.usefixtures("small_chunks")
def test_strings_among_numbers_are_rejected_and_hide_no_other_violation(pair: Pair, raw: Path, out: Path) -> None:
    dev, prod = pair
    longitude = dev["lon"].astype(str)
    longitude[3], longitude[4] = "west", "0"
    write_pair((dev.assign(lon=longitude), prod), raw)
    prepare(raw, out, PreparationParams(max_rejected_rows=2))
    assert pd.read_parquet(out / "rejects_dev.parquet")["reason"].tolist() == [
        "column lon: found 'west', expected a float from -118.5198 to -118.0198",
        "column lon: found 0, expected a float from -118.5198 to -118.0198",
    ]


def test_a_missing_shot_id_is_a_reason(pair: Pair, raw: Path, out: Path) -> None:
    dev, prod = pair
    write_pair((dev.assign(shot_id=dev["shot_id"].mask(dev.index == 5)), prod), raw)
    prepare(raw, out, PreparationParams(max_rejected_rows=1))
    reasons = pd.read_parquet(out / "rejects_dev.parquet")["reason"].tolist()
    assert reasons == ["column shot_id: found null, expected an integer"]


@pytest.mark.usefixtures("small_chunks")
def test_too_many_rejects_of_both_tables_raise_with_the_first_rows(pair: Pair, raw: Path, out: Path) -> None:
    write_pair(with_violations(pair), raw)
    with pytest.raises(
        SchemaError, match=r"(?s)2 row\(s\).*max_rejected_rows=1 .*row 2, column period.*row 1500"
    ) as caught:
        prepare(raw, out, PreparationParams(max_rejected_rows=1))
    assert DEV_FILE in str(caught.value)
    with pytest.raises(SchemaError, match=rf"(?s){PROD_FILE}.*max_rejected_rows=2 .*row 1, column shot_distance"):
        prepare(raw, out, PreparationParams(max_rejected_rows=2))
    assert list(out.iterdir()) == []


def test_without_allowed_rejects_the_first_table_with_violations_raises(pair: Pair, raw: Path, out: Path) -> None:
    write_pair(with_violations(pair), raw)
    with pytest.raises(
        SchemaError, match=rf"^{DEV_FILE} violates the schema in 2 row\(s\)\. Fix or remove them"
    ) as caught:
        prepare(raw, out, PreparationParams())
    assert str(caught.value).splitlines()[1:] == [
        "  row 2, column period: found 99.0, expected an integer from 1 to 10",
        "  row 1500, column lat: found 0.0, expected a float from 33.1568 to 34.0968",
        "  row 1500, column period: found 2.5, expected an integer from 1 to 10",
    ]


# Duplicate shots


@pytest.mark.parametrize("max_rejected_rows", [0, 5])
@pytest.mark.usefixtures("small_chunks")
def test_a_shot_in_two_parts_is_rejected(pair: Pair, raw: Path, out: Path, max_rejected_rows: int) -> None:
    dev, prod = pair
    twice = pd.concat([dev, dev.iloc[[10]]], ignore_index=True)
    write_pair((twice, prod), raw)
    (raw / DEV_FILE).unlink()
    write_parts(twice, raw / DEV_FILE)
    with pytest.raises(SchemaError, match=rf"1 shot_id found twice or more, such as {dev['shot_id'][10]};"):
        prepare(raw, out, PreparationParams(max_rejected_rows=max_rejected_rows))
    assert list(out.iterdir()) == []


def test_a_duplicate_shot_in_a_small_table_raises_with_its_row(pair: Pair, raw: Path, out: Path) -> None:
    dev, prod = pair
    write_pair((pd.concat([dev.head(20), dev.iloc[[3]]]), prod), raw)
    with pytest.raises(SchemaError, match=r"row 20, column shot_id: found .*each only once"):
        prepare(raw, out, PreparationParams())


@pytest.mark.usefixtures("small_chunks")
def test_a_shot_in_both_tables_is_rejected(pair: Pair, raw: Path, out: Path) -> None:
    dev, prod = pair
    write_pair((dev, pd.concat([prod, dev.iloc[[7]]])), raw)
    with pytest.raises(SourceError, match=rf"share 1 shot_id \(such as {dev['shot_id'][7]}\)"):
        prepare(raw, out, PreparationParams())
    assert list(out.iterdir()) == []


# Full disk and memory


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), OSError("Error writing: No space left on device")])
def test_a_full_disk_raises_and_leaves_nothing(
    pair: Pair, raw: Path, out: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    write_pair(pair, raw)

    def write(_writer: TableWriter, _piece: pa.Table) -> None:
        raise error

    monkeypatch.setattr(TableWriter, "write", write)
    with pytest.raises(DiskFullError, match=r"is full.*Free some space"):
        prepare(raw, out, PreparationParams())
    assert list(out.iterdir()) == []


# VmHWM starts at zero in each program; ru_maxrss would start at the peak of the parent process.
_MEASURED = """
import json, re, sys
from pathlib import Path
from data.engines.duckdb import duckdb_engine
from data.preparation.contract import PreparationParams
from data.preparation.prepare import prepare
folder = Path(sys.argv[1])
with duckdb_engine(folder) as engine:
    prepared = prepare(engine, folder, folder, PreparationParams())
kibibytes = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
print(json.dumps([prepared.rows["data_filtered"], int(kibibytes)]))
"""


def grow(table: pa.Table, folder: Path, times: int, first: int) -> None:
    """Write many copies of a table, each with its own shot_id."""
    folder.mkdir()
    place = table.schema.get_field_index("shot_id")
    for number in range(times):
        numbers = pa.array(np.arange(len(table)) + first + number * len(table))
        pq.write_table(table.set_column(place, "shot_id", numbers), folder / f"part-{number:03d}.parquet")


def peak(pair: Pair, folder: Path, times: int) -> tuple[int, int]:
    """Filtered rows, and peak memory of their preparation, bytes."""
    folder.mkdir()
    for table, name, first in zip(pair, FILES, (0, 10**9), strict=True):
        # Unread string columns would only make the files larger.
        arrow = pa.Table.from_pandas(table.select_dtypes("number").assign(game_date=table["game_date"]))
        grow(pa.concat_tables([arrow] * 20), folder / name, times, first)
    error = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(folder)], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    rows, kibibytes = json.loads(error)
    return rows, kibibytes * 1_024


@pytest.mark.slow
def test_memory_does_not_grow_with_the_table(pair: Pair, tmp_path: Path) -> None:
    # Below two million rows the buffers of DuckDB and Arrow are still growing.
    few_rows, low = peak(pair, tmp_path / "few", 28)
    many_rows, high = peak(pair, tmp_path / "many", 84)
    assert many_rows == 3 * few_rows
    assert high - low < 100e6
    assert high < 1e9


def test_a_test_of_whole_groups_has_the_rows_of_each_table_in_the_order_of_the_file(raw: Path, out: Path) -> None:
    dataset = Dataset(
        name="visits",
        columns=(
            Column(name="visit", role="id", kind="integer"),
            Column(name="patient", role="group", kind="integer"),
            Column(name="age", role="feature", kind="float"),
            Column(name="back", role="target", kind="integer"),
        ),
        test=Test(strategy="group"),
    )
    rows, stream = 20_000, np.random.default_rng(0)
    visits = pd.DataFrame({"visit": stream.permutation(rows), "patient": stream.integers(0, rows // 20, rows)})
    visits = visits.assign(age=stream.uniform(0, 90, rows), back=stream.integers(0, 2, rows))
    for table, name in zip((visits, visits.assign(visit=visits["visit"] + rows)), dataset.raw_tables, strict=True):
        table.to_parquet(raw / name, index=False)
    with duckdb_engine(out) as engine:
        prepare_with(engine, raw, out, PreparationParams(), dataset=dataset)
    for name in (TRAIN, TEST):
        found = pd.read_parquet(out / f"{IDS[name]}.parquet")["visit"]
        assert found.tolist() == visits["visit"][visits["visit"].isin(found)].tolist()
