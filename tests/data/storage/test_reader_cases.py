"""Tables as people have them, each read by every command alike, or refused by name."""

import gzip
import pickle
import sqlite3
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from data.acquisition import sources
from data.acquisition.raw_tables import FILES
from data.cli.config import parse_args
from data.datasets import default
from data.errors import KobeShotError
from data.nba_charts.chart import ShotChartConfig, chart_files, convert_charts
from data.nba_charts.chart import run as run_chart
from data.schema import FEATURES, RAW_COLUMN_NAMES, SHOT_ID, TARGET
from data.storage.locations import local_table, validate_location
from data.storage.scratch import user_folder
from monitor.scored_tables import read_sample
from monitor.ui.scoring import read_shots
from serving.batch.local import BatchJob, score_table
from serving.client.endpoint import Predictions
from serving.inference_log.ground_truth import read_labels
from serving.shot_tables import problems_of

Write = Callable[[pd.DataFrame, Path], Path | str]
Floats = npt.NDArray[np.float64]

ROWS = 40


def plain() -> pd.DataFrame:
    """Forty shots of both kinds; the first is at the sideline, where a float32 is outside of the range."""
    stream = np.random.default_rng(4)
    x, y = stream.integers(-240, 240, ROWS), stream.integers(-20, 250, ROWS)
    x[0], y[0] = 250, 30
    distance = np.floor(np.hypot(x, y) / 10).astype(int)
    return pd.DataFrame(
        {
            SHOT_ID: np.arange(1, ROWS + 1),
            "lat": np.round(34.0443 - y / 1_000, 4),
            "lon": np.round(-118.2698 + x / 1_000, 4),
            "minutes_remaining": stream.integers(0, 12, ROWS),
            "period": stream.integers(1, 5, ROWS),
            "playoffs": stream.integers(0, 2, ROWS),
            "shot_distance": distance,
            TARGET: stream.integers(0, 2, ROWS),
            "shot_type": np.where(distance > 22, "3PT Field Goal", "2PT Field Goal"),
            "season": "2000-01",
        }
    )


def long() -> pd.DataFrame:
    """Shots with a cell that is longer than a block of CSV or JSON."""
    return plain().assign(note=["x"] * (ROWS - 1) + ["x" * 3_000_000])


@pytest.fixture(autouse=True)
def _temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder for temporary files of this test alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))


# What people have


def csv(name: str = "shots.csv", encoding: str = "utf-8", **options: object) -> Write:
    def write(table: pd.DataFrame, folder: Path) -> Path:
        text = table.to_csv(index=False, **options)  # type: ignore[call-overload]
        (folder / name).write_bytes(text.encode(encoding))
        return folder / name

    return write


def text(change: Callable[[str], str], name: str = "shots.csv") -> Write:
    def write(table: pd.DataFrame, folder: Path) -> Path:
        (folder / name).write_text(change(table.to_csv(index=False)))
        return folder / name

    return write


def parquet(name: str = "shots.parquet", **options: object) -> Write:
    def write(table: pd.DataFrame, folder: Path) -> Path:
        table.to_parquet(folder / name, **{"index": False, **options})  # type: ignore[call-overload]
        return folder / name

    return write


def arrow(cast: Callable[[pa.Table], pa.Table], **options: object) -> Write:
    def write(table: pd.DataFrame, folder: Path) -> Path:
        pq.write_table(cast(pa.Table.from_pandas(table, preserve_index=False)), folder / "shots.parquet", **options)
        return folder / "shots.parquet"

    return write


def changed(change: Callable[[pd.DataFrame], pd.DataFrame], write: Write) -> Write:
    return lambda table, folder: write(change(table), folder)


def types(kinds: dict[str, pa.DataType]) -> Callable[[pa.Table], pa.Table]:
    def cast(table: pa.Table) -> pa.Table:
        fields = [pa.field(field.name, kinds.get(field.name, field.type)) for field in table.schema]
        return table.cast(pa.schema(fields))

    return cast


def dictionaries(table: pa.Table) -> pa.Table:
    for place, name in enumerate(table.column_names):
        table = table.set_column(place, name, table.column(name).dictionary_encode())
    return table


def packed(name: str, pack: Callable[[Path, bytes], None]) -> Write:
    def write(table: pd.DataFrame, folder: Path) -> Path:
        pack(folder / name, table.to_csv(index=False).encode())
        return folder / name

    return write


def zipped(path: Path, content: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__MACOSX/._shots.csv", b"x")
        archive.writestr("data/shots.csv", content)


def partitioned(*columns: str) -> Write:
    def write(table: pd.DataFrame, folder: Path) -> Path:
        pq.write_to_dataset(pa.Table.from_pandas(table, preserve_index=False), folder / "shots", list(columns))
        (folder / "shots" / "_SUCCESS").touch()
        (folder / "shots" / ".crc").write_bytes(b"no table")
        return folder / "shots"

    return write


def parts(write_part: Callable[[pd.DataFrame, Path], object], suffix: str) -> Write:
    def write(table: pd.DataFrame, folder: Path) -> Path:
        (folder / "shots").mkdir()
        for number in range(2):
            write_part(table.iloc[number::2], folder / "shots" / f"{number}{suffix}")
        return folder / "shots"

    return write


def other_part(part: pd.DataFrame, path: Path) -> None:
    """A part with its columns in another order, and doubles for integers in one of the two."""
    if path.stem == "1":
        part = part[part.columns[::-1]].astype({"period": "float64", SHOT_ID: "int32", "shot_distance": "float32"})
    part.to_parquet(path, index=False)


def sqlite(location: str) -> Write:
    def write(table: pd.DataFrame, folder: Path) -> str:
        with closing(sqlite3.connect(folder / "shots.db")) as connection:
            table.to_sql("shots", connection, index=False)
        return location.format(folder=folder)

    return write


def duck(table: pd.DataFrame, folder: Path) -> str:
    with duckdb.connect(str(folder / "shots.duckdb")) as connection:
        connection.register("given", table)
        connection.execute('CREATE TABLE "my shots" AS SELECT * FROM given')
        connection.execute("CREATE TABLE other AS SELECT 1 AS x")
    return f"{folder}/shots.duckdb?table=my shots"


def stream(table: pd.DataFrame, folder: Path) -> Path:
    given = pa.Table.from_pandas(table, preserve_index=False)
    with pa.OSFile(str(folder / "shots.arrows"), "wb") as file, pa.ipc.new_stream(file, given.schema) as writer:
        writer.write_table(given)
    return folder / "shots.arrows"


def feathered(table: pd.DataFrame, folder: Path) -> Path:
    feather.write_feather(table, str(folder / "shots.feather"))
    return folder / "shots.feather"


def labels(made: object, missed: object, write: Write) -> Write:
    return changed(
        lambda table: table.assign(**{TARGET: table[TARGET].map({1: made, 0: missed}).astype(object)}), write
    )


def renamed(names: Callable[[str], str]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda table: table.rename(columns=names)


def write_bytes(pack: Callable[[bytes], bytes]) -> Callable[[Path, bytes], None]:
    def write(path: Path, content: bytes) -> None:
        path.write_bytes(pack(content))

    return write


NAMES = {"lat": "Latitude", "lon": "LONGITUDE", "shot_distance": "Shot Distance", TARGET: "shot-made-flag"}
LEFT = {name: pa.float32() for name in ("lat", "lon", "minutes_remaining", "shot_distance")}
DECIMALS = {"lat": pa.decimal128(10, 4), "lon": pa.decimal128(10, 4), "shot_distance": pa.decimal128(21, 1)}
EVERY_INTEGER = ("minutes_remaining", "period", "playoffs", "shot_distance", TARGET)


def with_index(table: pd.DataFrame, folder: Path) -> Path:
    table.to_csv(folder / "shots.csv")
    return folder / "shots.csv"


def json_lines(table: pd.DataFrame, folder: Path) -> Path:
    table.to_json(folder / "shots.jsonl", orient="records", lines=True)
    return folder / "shots.jsonl"


READ: dict[str, Write] = {
    # The shared cases
    "plain csv": csv(),
    "01 pandas' index in csv": with_index,
    "01 pandas' index in parquet": changed(
        lambda table: table.sample(frac=1, random_state=1).sort_values(SHOT_ID), parquet(index=True)
    ),
    "01 columns of PyCaret": changed(lambda table: table.assign(prediction_label=1, prediction_score=0.6), parquet()),
    "04 integers": changed(lambda table: table.rename(columns={"lon": "lng"}), csv()),
    "05 CSV in capitals": csv("SHOTS.CSV"),
    "05 PARQUET in capitals": parquet("SHOTS.PARQUET"),
    "06 booleans in csv": labels(True, False, csv()),
    "06 booleans in parquet": changed(lambda table: table.astype({TARGET: bool}), parquet()),
    "08 semicolon": csv(sep=";"),
    "08 decimal comma": csv(sep=";", decimal=","),
    "12 float32": arrow(types(LEFT)),
    "13 by period": partitioned("period"),
    "13 by shot type": partitioned("shot_type"),
    # Text
    "tab": csv("shots.tsv", sep="\t"),
    "tab in txt": csv("shots.txt", sep="\t"),
    "pipe": csv(sep="|"),
    "spaces": csv(sep=" "),
    "quoted cells with a decimal comma": changed(
        lambda table: table.assign(
            lat=table["lat"].astype(str).str.replace(".", ","), lon=table["lon"].astype(str).str.replace(".", ",")
        ),
        csv(),
    ),
    "every cell quoted": csv(quoting=1),
    "single quotes": text(lambda given: "\n".join("'" + line.replace(",", "','") + "'" for line in given.splitlines())),
    "quotes and line ends in cells": changed(lambda table: table.assign(note='from "left",\nthen "right"'), csv()),
    "latin-1": changed(
        lambda table: table.assign(name="Nenê, Jokić".encode("latin-1", "ignore").decode("latin-1")),
        csv(encoding="latin-1"),
    ),
    "windows-1252": changed(lambda table: table.assign(note="“três” €"), csv(encoding="cp1252")),
    "utf-8 with BOM": csv(encoding="utf-8-sig"),
    "utf-16 with BOM": csv(encoding="utf-16"),
    "utf-16 without BOM": csv(encoding="utf-16-le"),
    "CRLF": csv(lineterminator="\r\n"),
    "CR": csv(lineterminator="\r"),
    "no line end at the end": text(lambda given: given.rstrip("\n")),
    "blank lines and comments first": text(lambda given: "# my shots\n\n# of 2000\n" + given),
    "a title line": text(lambda given: "Shots of the season 2000-01\n" + given),
    "Excel's sep line": text(lambda given: "sep=,\n" + given),
    "blank lines at the end": text(lambda given: given + "\n\n"),
    "a separator at the end of each line": text(lambda given: given.replace("\n", ",\n")),
    "spaces around names": text(lambda given: given.replace(",", " , ", 9)),
    "thousands": changed(
        lambda table: table.assign(**{SHOT_ID: [f"{number:,}" for number in table[SHOT_ID] + 1_000]}), csv()
    ),
    "spaces without a break": changed(lambda table: table.assign(lat=[f"{lat}\xa0" for lat in table["lat"]]), csv()),
    "gz": packed("shots.csv.gz", write_bytes(gzip.compress)),
    "gz in two members": packed(
        "shots.csv.gz", write_bytes(lambda content: gzip.compress(content[:300]) + gzip.compress(content[300:]))
    ),
    "zip of one file": packed("shots.zip", zipped),
    "json lines": json_lines,
    # Names
    "names in capitals": changed(renamed(str.upper), csv()),
    "names with spaces and dashes": changed(renamed(lambda name: NAMES.get(name, name)), csv()),
    "names with spaces in parquet": changed(renamed(lambda name: NAMES.get(name, name)), parquet()),
    "lon and lng that agree": changed(lambda table: table.assign(lng=table["lon"]), csv()),
    "unknown columns": changed(lambda table: table.assign(mood="good", score=1.5), csv()),
    "predictions of an earlier run": changed(lambda table: table.assign(prediction=1, model_version=None), csv()),
    # Labels
    "made and missed": labels("made", "Missed", csv()),
    "yes and no": labels("Yes", "no", parquet()),
    "sim and não": labels("Sim", "não", csv(encoding="latin-1")),
    "1.0 and 0.0": labels("1.0", "0.0", csv()),
    "texts 1 and 0": labels("1", "0", parquet()),
    # Types of Parquet and Arrow
    "float16 of small numbers": arrow(types(dict.fromkeys(("period", "playoffs", "shot_distance"), pa.float16()))),
    "decimals": arrow(types(DECIMALS)),
    "dictionaries": arrow(dictionaries),
    "large strings": arrow(types({"shot_type": pa.large_string(), "season": pa.large_string()})),
    "small integers": arrow(types(dict.fromkeys(EVERY_INTEGER, pa.uint8()))),
    "pandas' nullable types": changed(lambda table: table.convert_dtypes(), parquet()),
    "categories": changed(lambda table: table.astype({"shot_type": "category", "season": "category"}), parquet()),
    "numbers as texts in parquet": changed(lambda table: table.astype({"lat": str, "period": str}), parquet()),
    "playoffs as booleans": changed(lambda table: table.astype({"playoffs": bool}), parquet()),
    "zstd": parquet(compression="zstd"),
    "brotli": parquet(compression="brotli"),
    "gzip": parquet(compression="gzip"),
    "no compression": parquet(compression=None),
    "parquet named csv": parquet("shots.csv"),
    "feather": feathered,
    "arrow stream": stream,
    # Folders
    "by two columns": partitioned("period", "playoffs"),
    "parts in another order with other types": parts(other_part, ".parquet"),
    "parts in capitals": parts(lambda part, path: part.to_parquet(path, index=False), ".PARQUET"),
    "a folder of csv": parts(lambda part, path: part.to_csv(path, index=False), ".csv"),
    "a folder of feather": parts(
        lambda part, path: feather.write_feather(part.reset_index(drop=True), str(path)), ".feather"
    ),
    # Databases
    "sqlite file": sqlite("{folder}/shots.db"),
    "sqlite table": sqlite("{folder}/shots.db?table=shots"),
    "sqlite url": sqlite("sqlite:///{folder}/shots.db?table=shots"),
    "duckdb": duck,
}


# The commands, which read a location into shots: shot_id, the features and the label


def read_source(location: str, folder: Path) -> pd.DataFrame:
    sources.acquire(sources.validate_source(location), rows=100, seed=1, raw=folder / "raw")
    table = pd.concat([pd.read_parquet(folder / "raw" / name) for name in FILES])
    assert not [name for name in table.columns if name.startswith(("Unnamed", "__index")) or not name]
    return table.sort_values(SHOT_ID)


class Fixed:
    """A scorer of this process, which is a model and a client of a server at once."""

    url, threshold = "http://127.0.0.1:9", 0.5

    def score(self, values: Floats, *_: object, **__: object) -> Predictions:
        """P(made) is 0.25."""
        assert not problems_of(values)
        return Predictions(np.zeros(len(values), dtype=np.int64), np.full(len(values), 0.25), 1)

    def probe(self) -> None:
        """Is there."""

    def cancel(self) -> None:
        """Nothing waits."""


def read_table(location: str, folder: Path) -> pd.DataFrame:
    with local_table(validate_location(location)) as path:
        done = score_table(BatchJob(path, folder / "out.parquet", 0), Fixed())
    assert done.rows == ROWS
    return pd.read_parquet(folder / "out.parquet")


def read_client(location: str, folder: Path) -> pd.DataFrame:
    with local_table(validate_location(location)) as path:
        done = score_table(BatchJob(path, folder / "out.csv", is_resumable=True), Fixed())
    assert done.rows == ROWS
    return pd.read_csv(folder / "out.csv", encoding="utf-8")


def read_current(location: str, folder: Path) -> pd.DataFrame:
    del folder
    with local_table(validate_location(location)) as path:
        return read_sample(path, 1_000, default()).table


def read_ground_truth(location: str, folder: Path) -> pd.DataFrame:
    del folder
    return read_labels(validate_location(location))


def read_upload(location: str, folder: Path) -> pd.DataFrame:
    del folder
    path = Path(location)
    if not path.is_file():
        pytest.skip("an upload is one file")
    shots = read_shots(path.name, path.read_bytes())
    return shots.table.assign(**{TARGET: shots.labels, **shots.sent})


COMMANDS: dict[str, Callable[[str, Path], pd.DataFrame]] = {
    "source": read_source,
    "table": read_table,
    "client": read_client,
    "current": read_current,
    "labels": read_ground_truth,
    "upload": read_upload,
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("case", READ)
def test_every_command_reads_a_table_that_a_person_has(case: str, command: str, tmp_path: Path) -> None:
    given = plain()
    for name in ("given", "work"):
        (tmp_path / name).mkdir()
    location = str(READ[case](given, tmp_path / "given"))
    found = COMMANDS[command](location, tmp_path / "work")
    found = found.rename(columns={raw: own for own, raw in RAW_COLUMN_NAMES.items() if own not in found})
    numbers = found[[SHOT_ID, *FEATURES, TARGET]].astype("float64").sort_values(SHOT_ID).to_numpy()
    expected = given.rename(columns={"lon": "lng"})[[SHOT_ID, *FEATURES, TARGET]].astype("float64")
    if case == "thousands":
        expected[SHOT_ID] += 1_000
    if case == "playoffs as booleans":
        expected["playoffs"] = expected["playoffs"].astype(bool)
    np.testing.assert_array_equal(numbers, expected)
    assert not leftovers()


def leftovers() -> list[str]:
    """Temporary files that a command left."""
    folder = user_folder()
    assert folder is not None
    return [path.name for path in folder.glob("*-*")]


# What is no table of shots


class Refused(NamedTuple):
    """A file and words of the message about it."""

    name: str
    write: Callable[[Path], object]
    words: str


def content(of: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(of)


def excel(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/workbook.xml", "<workbook/>")


def open_document(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("content.xml", "<office:document-content/>")


def two_files(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("dev.csv", "prod.csv"):
            archive.writestr(name, plain().to_csv(index=False))


def bomb(path: Path) -> None:
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(plain().to_csv(index=False).encode())
        for _ in range(100):
            file.write(b"\n" * 1_000_000)


def chart(path: Path) -> None:
    columns = ["GRID_TYPE", "GAME_ID", "GAME_EVENT_ID", "PERIOD", "MINUTES_REMAINING", "SHOT_DISTANCE", "LOC_X"]
    row = ["Shot Chart Detail", "0021500001", "7", "1", "10", "18", "167"]
    lines = [[*columns, "LOC_Y", "SHOT_MADE_FLAG", "SHOT_TYPE"], [*row, "72", "1", "2PT Field Goal"]]
    path.write_text("\n".join(",".join(line) for line in lines) + "\n")


class Model:
    """An object whose pickle fails the test when it is read."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        """A call."""
        return (pytest.fail, ("the pickle was read",))


PAGE = b"<!DOCTYPE html>\n<html><head><title>dataset_kobe_dev.parquet</title></head></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:3a17\nsize 596053\n"

REFUSED: dict[str, Refused] = {
    "a Git LFS pointer": Refused(
        "shots.parquet", content(POINTER), "a Git LFS pointer, not the file itself. Download it"
    ),
    "an HTML page": Refused("shots.csv", content(PAGE), "an HTML page. Download the file itself"),
    "an Excel file": Refused("shots.xlsx", excel, "an Excel file. Save it as CSV"),
    "an OpenDocument sheet": Refused(
        "shots.ods", open_document, "an OpenDocument file, such as a spreadsheet. Save it"
    ),
    "an old Excel file": Refused(
        "shots.xls", content(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)), "an Excel file"
    ),
    "an Excel file named csv": Refused("shots.csv", excel, "an Excel file. Save it as CSV"),
    "a pickle": Refused("shots.pkl", lambda path: path.write_bytes(pickle.dumps(Model())), "a pickle, which runs code"),
    "an empty file": Refused("shots.csv", content(b""), "an empty file"),
    "blank lines only": Refused("shots.csv", content(b"\n\n \n"), "an empty file"),
    "a PDF document": Refused("shots.csv", content(b"%PDF-1.7\n"), "a PDF document"),
    "a JSON array": Refused("shots.json", content(b'[{"lat": 34}]'), "a JSON array. Save it as CSV"),
    "zeros": Refused("shots.csv", content(bytes(5_000)), "a binary file of an unknown format"),
    "a truncated parquet file": Refused("shots.parquet", content(b"PAR1 and no more"), "it cannot be read"),
    "a truncated gz file": Refused(
        "shots.csv.gz", content(gzip.compress(b"lat,lon\n" * 9)[:-9]), "damaged or encrypted"
    ),
    "a zip of two files": Refused("shots.zip", two_files, "a zip file of 2 files (dev.csv, prod.csv"),
    "a bomb": Refused("shots.csv.gz", bomb, "unpacks to more than 200 times its size"),
    "no header line": Refused("shots.csv", lambda path: plain().to_csv(path, index=False, header=False), "34.0143"),
    "lines of several lengths": Refused("shots.csv", content(b"shot_id,lat,lon\n1,2,3\n1,2\n"), "shots.csv"),
    "a row of CSV that is too long": Refused(
        "shots.csv", lambda path: long().to_csv(path, index=False), "expected rows of less than 1,048,576 bytes; found"
    ),
    "a row of JSON that is too long": Refused(
        "shots.json",
        lambda path: long().to_json(path, orient="records", lines=True),
        "expected rows of less than 1,048,576 bytes; found",
    ),
    "a shot chart": Refused("chart.csv", chart, "python -m data.nba_charts"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("case", REFUSED)
def test_every_command_names_what_is_no_table_of_shots(case: str, command: str, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    path = tmp_path / REFUSED[case].name
    REFUSED[case].write(path)
    with pytest.raises((KobeShotError, ValueError)) as refused:
        COMMANDS[command](str(path), tmp_path / "work")
    assert REFUSED[case].words in " ".join(str(refused.value).split())
    assert path.name in str(refused.value)
    assert not leftovers()


@pytest.mark.parametrize("form", ["%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%Y/%m/%d", "%Y%m%d", "%b %d, %Y", "%d %B %Y"])
def test_dates_that_can_only_mean_one_day_are_read_by_every_command(form: str, tmp_path: Path) -> None:
    days = pd.date_range("2000-10-20", periods=ROWS)
    plain().assign(game_date=days.strftime(form)).to_csv(tmp_path / "shots.csv", index=False)
    for command in ("source", "table", "client", "current", "upload"):
        found = COMMANDS[command](str(tmp_path / "shots.csv"), tmp_path).sort_values(SHOT_ID)
        assert found["game_date"].tolist() == days.strftime("%Y-%m-%d").tolist()


@pytest.mark.parametrize("command", ["source", "table", "client"])
def test_dates_that_can_mean_two_days_are_refused(command: str, tmp_path: Path) -> None:
    plain().assign(game_date="10/11/2000").to_csv(tmp_path / "shots.csv", index=False)
    with pytest.raises(KobeShotError, match="game_date: found '10/11/2000', expected a date such as 2013-10-29"):
        COMMANDS[command](str(tmp_path / "shots.csv"), tmp_path)


def test_two_longitudes_that_differ_are_named_with_their_row(tmp_path: Path) -> None:
    given = plain().assign(lng=lambda table: table["lon"])
    given.loc[3, "lng"] = -118.1
    given.to_csv(tmp_path / "shots.csv", index=False)
    for read_by in COMMANDS.values():
        with pytest.raises(KobeShotError, match=r"found both lng and lon, .* in row 3"):
            read_by(str(tmp_path / "shots.csv"), tmp_path)


def test_two_spellings_of_a_column_are_refused(tmp_path: Path) -> None:
    plain().assign(LAT=34.0).to_csv(tmp_path / "shots.csv", index=False)
    for read_by in COMMANDS.values():
        with pytest.raises(KobeShotError, match="lat"):
            read_by(str(tmp_path / "shots.csv"), tmp_path)


def chart_of(table: pd.DataFrame) -> pd.DataFrame:
    """The chart of some shots, with the names of stats.nba.com."""
    return pd.DataFrame(
        {
            "GRID_TYPE": "Shot Chart Detail",
            "GAME_ID": "0021500001",
            "GAME_EVENT_ID": table[SHOT_ID],
            "PERIOD": table["period"],
            "MINUTES_REMAINING": table["minutes_remaining"],
            "SHOT_DISTANCE": table["shot_distance"],
            "LOC_X": ((table["lon"] + 118.2698) * 1_000).round().astype(int),
            "LOC_Y": ((34.0443 - table["lat"]) * 1_000).round().astype(int),
            "SHOT_MADE_FLAG": table[TARGET],
            "SHOT_TYPE": table["shot_type"],
        }
    )


CHARTS: dict[str, Write] = {
    **{case: READ[case] for case in ("plain csv", "01 pandas' index in csv", "05 PARQUET in capitals", "08 semicolon")},
    **{
        case: READ[case]
        for case in ("tab in txt", "utf-16 with BOM", "a title line", "gz", "zip of one file", "json lines")
    },
    **{case: READ[case] for case in ("dictionaries", "pandas' nullable types", "feather", "parquet named csv")},
    "names with spaces": changed(renamed(lambda name: name.replace("_", " ").title()), csv()),
    "labels as words": changed(
        lambda table: table.assign(SHOT_MADE_FLAG=table["SHOT_MADE_FLAG"].map({1: "Made Shot", 0: "Missed Shot"})),
        csv(),
    ),
}


@pytest.mark.parametrize("case", CHARTS)
def test_a_shot_chart_of_any_format_is_converted(case: str, tmp_path: Path) -> None:
    given = plain()
    path = Path(CHARTS[case](chart_of(given), tmp_path))
    convert_charts(chart_files([path]), tmp_path / "out.parquet")
    found = pd.read_parquet(tmp_path / "out.parquet")
    assert (found[SHOT_ID] % 10_000).tolist() == given[SHOT_ID].tolist()
    for name in ("lat", "lon", "minutes_remaining", "period", "shot_distance", TARGET):
        np.testing.assert_array_equal(found[name].astype("float64"), given[name].astype("float64"))


@pytest.mark.parametrize("case", ["sqlite file", "sqlite table", "sqlite url", "duckdb"])
def test_the_command_converts_a_shot_chart_of_a_database(case: str, tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    given = plain()
    location = READ[case](chart_of(given), tmp_path / "given")
    run_chart(parse_args(ShotChartConfig, [str(location), "--out", str(tmp_path / "out.parquet")]))
    found = pd.read_parquet(tmp_path / "out.parquet").sort_values(SHOT_ID)
    assert (found[SHOT_ID] % 10_000).tolist() == given[SHOT_ID].tolist()
    np.testing.assert_array_equal(found["lat"], given["lat"])
    assert not leftovers()


@pytest.mark.parametrize("case", sorted(set(REFUSED) - {"a shot chart", "a JSON array"}))
def test_what_is_no_shot_chart_is_named(case: str, tmp_path: Path) -> None:
    path = tmp_path / REFUSED[case].name
    REFUSED[case].write(path)
    with pytest.raises((KobeShotError, ValueError), match=path.name):
        convert_charts(chart_files([path]), tmp_path / "out.parquet")
