import sqlite3
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sql

from data.paths import INFERENCE_LOG
from data.schema import FEATURES
from serving.inference_log.inference_log import ORIGINS, create_engine, create_tables, tables
from serving.inference_log.reader import (
    LogError,
    log_url,
    now,
    open_log,
    read,
    read_labeled,
    read_latest,
    versions,
    window,
)

START = datetime(2026, 1, 1)  # noqa: DTZ001 the log holds UTC without a zone
ROWS = 100


def row(number: int) -> dict[str, object]:
    """A row a minute; every fourth is labeled, odd ones name no shot."""
    return {
        "time": START + timedelta(minutes=number),
        "request_id": f"request {number}",
        "row": 0,
        "model_version": str(1 + number // 60),
        "shot_id": None if number % 2 else 7_000 + number,
        **{name: number + place / 10 for place, name in enumerate(FEATURES)},
        "prediction": number % 2,
        "probability": number / ROWS,
        "shot_made_flag": number % 3 % 2 if number % 4 == 0 else None,
    }


def make(path: Path, rows: list[dict[str, object]]) -> str:
    """Write a log; its url."""
    url = f"sqlite:///{path}"
    engine: sql.Engine = create_engine(url)
    log, _ = tables(FEATURES)
    log.metadata.create_all(engine)
    if rows:
        with engine.begin() as connection:
            connection.execute(log.insert(), rows)
    engine.dispose()
    return url


@pytest.fixture
def engine(tmp_path: Path) -> sql.Engine:
    """A log of a hundred rows."""
    return open_log(make(tmp_path / "log.db", [row(number) for number in range(ROWS)]))


def minute(number: float) -> datetime:
    return START + timedelta(minutes=number)


def test_a_window_without_ends_holds_the_whole_log(engine: sql.Engine) -> None:
    assert window(engine) == (100, 25, minute(0), minute(99), "2")


@pytest.mark.parametrize(
    ("since", "until", "rows", "labeled"),
    [
        (minute(40), None, 60, 15),
        (None, minute(40), 40, 10),
        (minute(10), minute(13), 3, 1),
        (minute(12), minute(12), 0, 0),
        (minute(98.5), minute(1_000), 1, 0),
        (minute(-5), minute(0), 0, 0),
        (minute(200), None, 0, 0),
    ],
)
def test_a_window_holds_its_first_time_and_not_its_last(
    engine: sql.Engine, since: datetime | None, until: datetime | None, rows: int, labeled: int
) -> None:
    found = window(engine, since, until)
    assert (found.rows, found.labeled) == (rows, labeled)
    assert (found.first, found.last, found.last_version) == (minute(0), minute(99), "2")
    table = read(engine, since, until, max_rows=1_000)
    assert (len(table), table["shot_made_flag"].notna().sum()) == (rows, labeled)


def test_rows_are_read_with_their_values_in_order(engine: sql.Engine) -> None:
    table = read(engine, minute(59), minute(61), max_rows=10)
    assert table["time"].tolist() == [pd.Timestamp(minute(59)), pd.Timestamp(minute(60))]
    assert table["model_version"].tolist() == [1, 2]
    assert table["shot_id"].tolist() == [pd.NA, 7_060]
    assert table[list(FEATURES)].iloc[1].tolist() == pytest.approx([60, 60.1, 60.2, 60.3, 60.4, 60.5])
    assert table["prediction"].tolist() == [1, 0]
    assert table["probability"].tolist() == [0.59, 0.6]
    assert table["shot_made_flag"].isna().tolist() == [True, False]


@pytest.mark.parametrize("max_rows", [100, 99, 50, 34, 10])
def test_of_more_rows_than_are_wanted_systematic_sample_ones_are_read(engine: sql.Engine, max_rows: int) -> None:
    table = read(engine, max_rows=max_rows)
    assert abs(len(table) - max_rows) <= 1
    # No gap is more than twice what even steps would leave.
    assert table["time"].diff().max() <= pd.Timedelta(minutes=2 * 100 / max_rows)


def test_rows_are_sampled_among_those_of_the_version_that_is_requested(tmp_path: Path) -> None:
    rows = [row(number) | {"model_version": "2" if number % 50 == 0 else "1"} for number in range(1_000)]
    log = open_log(make(tmp_path / "log.db", rows))
    table = read(log, max_rows=20, version="2")
    assert table["model_version"].tolist() == [2] * 20
    assert abs(len(read(log, max_rows=10, version="2")) - 10) <= 1
    assert len(read_labeled(log, max_rows=1_000, version="2")) == 10
    assert read(log, max_rows=20, version="3").empty


def test_rows_are_counted_by_the_version_that_scored_them_and_a_shot_by_its_newest(tmp_path: Path) -> None:
    rows = [
        row(0) | {"shot_id": 1, "model_version": "1"},
        row(1) | {"shot_id": 1, "model_version": "2"},
        row(2) | {"shot_id": 2, "model_version": "1"},
        row(3) | {"model_version": "2"},
        row(4) | {"shot_id": None, "model_version": "models:/m-1"},
        row(5) | {"shot_id": None, "model_version": "local"},
    ]
    log = open_log(make(tmp_path / "log.db", rows))
    assert versions(log) == {"2": 2, "": 2, "1": 1}
    assert sum(versions(log).values()) == window(log).rows
    assert versions(log, minute(10)) == {}


def test_systematic_sample_rows_follow_no_rhythm_of_the_requests(engine: sql.Engine) -> None:
    for period in (2, 3, 4, 5, 10):
        places = read(engine, max_rows=50)["time"].dt.minute % period
        assert places.value_counts().reindex(range(period)).min() >= 50 / period - 3


def test_systematic_sample_rows_span_the_window_they_were_requested_for(engine: sql.Engine) -> None:
    table = read(engine, minute(20), minute(80), max_rows=6)
    assert 5 <= len(table) <= 7
    assert table["time"].between(minute(20), minute(80)).all()
    assert table["time"].max() - table["time"].min() > pd.Timedelta(minutes=35)


KINDS = {
    "time": "datetime64[us]",
    "model_version": "Int64",
    "shot_id": "Int64",
    **dict.fromkeys(FEATURES, "float64"),
    "prediction": "int64",
    "probability": "float64",
    "shot_made_flag": "float64",
}


@pytest.mark.parametrize(
    ("labeled", "rows", "expected"),
    [
        (3, 5, [88, 92, 95, 96, 97, 98, 99]),
        (1, 1, [96, 99]),
        (25, 1, [*range(0, 100, 4), 99]),
        (1_000, 1_000, list(range(100))),
        (1, 4, [96, 97, 98, 99]),
    ],
)
def test_the_newest_labels_and_the_newest_rows_of_all_are_read_in_order(
    engine: sql.Engine, labeled: int, rows: int, expected: list[int]
) -> None:
    found = read_latest(engine, labeled=labeled, rows=rows)
    assert found["time"].tolist() == [pd.Timestamp(minute(number)) for number in expected]
    pd.testing.assert_frame_equal(found, read(engine, max_rows=1_000).iloc[expected].reset_index(drop=True))


def test_after_a_rollback_the_newest_rows_are_those_of_the_version_that_is_requested(tmp_path: Path) -> None:
    rows = [row(number) | {"model_version": "1" if number < 3 else "2", "shot_made_flag": None} for number in range(9)]
    log = open_log(make(tmp_path / "log.db", rows))
    assert minutes(read_latest(log, labeled=5, rows=2, version="1")) == [1, 2]
    assert minutes(read_latest(log, labeled=5, rows=2)) == [7, 8]


def test_the_newest_rows_of_an_empty_log_are_none_with_the_same_columns(tmp_path: Path) -> None:
    found = read_latest(open_log(make(tmp_path / "empty.db", [])), labeled=5, rows=5)
    assert found.empty
    assert list(found)[:3] == ["time", "model_version", "shot_id"]


def test_columns_and_their_types_are_those_that_are_documented(engine: sql.Engine) -> None:
    for since in (None, minute(99), minute(500)):
        assert read(engine, since, max_rows=10).dtypes.astype(str).to_dict() == KINDS


def test_an_empty_log_has_no_rows_and_the_same_columns(tmp_path: Path) -> None:
    engine = open_log(make(tmp_path / "empty.db", []))
    assert window(engine) == (0, 0, None, None, "")
    table = read(engine, max_rows=10)
    assert table.empty
    assert table.dtypes.astype(str).to_dict() == KINDS


# What counts


def minutes(table: pd.DataFrame) -> list[int]:
    return [int((time - START) / timedelta(minutes=1)) for time in table["time"]]


def test_time_names_the_rows_are_the_newest_and_not_when_they_came_into_the_log(tmp_path: Path) -> None:
    drained_late = [row(number) for number in (5, 3, 4, 0, 1, 2)]
    engine = open_log(make(tmp_path / "log.db", drained_late))
    assert window(engine)[2:] == (minute(0), minute(5), "1")
    assert minutes(read(engine, max_rows=10)) == [0, 1, 2, 3, 4, 5]
    assert minutes(read_latest(engine, labeled=1, rows=2)) == [4, 5]
    assert minutes(read_latest(engine, labeled=2, rows=1)) == [0, 4, 5]


def test_a_shot_that_was_scored_twice_counts_once_with_its_newest_score_and_a_label_of_either(tmp_path: Path) -> None:
    rows = [
        row(0) | {"shot_id": 1, "shot_made_flag": 1},
        row(1) | {"shot_id": 2},
        row(7) | {"shot_id": 1},
        row(5) | {"shot_id": 1, "shot_made_flag": None},
        *[row(6) | {"shot_id": None}] * 2,
    ]
    engine = open_log(make(tmp_path / "log.db", rows))
    assert window(engine)[:2] == (4, 1)
    found = read(engine, max_rows=10)
    assert minutes(found) == [1, 6, 6, 7]
    assert found["shot_made_flag"].tolist() == pytest.approx([float("nan")] * 3 + [1], nan_ok=True)
    assert minutes(read_labeled(engine, max_rows=10)) == [7]
    assert minutes(read_latest(engine, labeled=1, rows=0)) == [7]


def test_of_a_shot_the_newest_row_of_the_window_counts(tmp_path: Path) -> None:
    rows = [row(number) | {"shot_id": 1, "shot_made_flag": None} for number in (0, 5, 9)]
    engine = open_log(make(tmp_path / "log.db", rows))
    assert minutes(read(engine, None, minute(9), max_rows=10)) == [5]
    assert window(engine, minute(1), minute(6)).rows == 1


def test_only_the_operation_counts_unless_others_are_requested_for(tmp_path: Path) -> None:
    rows = [row(0), row(4) | {"origin": "what_if"}, row(8) | {"origin": "upload", "shot_id": 7_000}]
    with_origin = [{"origin": "traffic", **one} for one in rows]
    engine = open_log(make(tmp_path / "log.db", with_origin))
    assert window(engine) == (1, 1, minute(0), minute(0), "1")
    assert minutes(read(engine, max_rows=10)) == [0]
    assert minutes(read_labeled(engine, max_rows=10)) == [0]
    assert minutes(read_latest(engine, labeled=5, rows=5)) == [0]
    assert minutes(read(engine, max_rows=10, origins=("what_if",))) == [4]
    assert minutes(read(engine, max_rows=10, origins=ORIGINS)) == [4, 8]
    assert window(engine, origins=ORIGINS).rows == 2


def test_every_label_of_a_window_is_read_however_few_of_its_rows_are(engine: sql.Engine) -> None:
    found = read_labeled(engine, minute(20), minute(80), max_rows=100)
    assert minutes(found) == list(range(20, 80, 4))
    pd.testing.assert_frame_equal(found, read(engine, max_rows=100).iloc[20:80:4].reset_index(drop=True))
    assert minutes(read_labeled(engine, max_rows=3)) == [88, 92, 96]


# Logs of 0.1.0, and large ones

OLD_TABLE = (
    "create table inference (id integer primary key, time datetime not null, request_id varchar(200) not null, "
    "row integer not null, model_version varchar(100) not null, shot_id bigint, "
    + ", ".join(f"{name} double not null" for name in FEATURES)
    + ", prediction smallint not null, probability double not null, shot_made_flag smallint)"
)


def old_log(path: Path) -> str:
    url = f"sqlite:///{path}"
    engine: sql.Engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(OLD_TABLE)
        connection.execute(tables(FEATURES)[0].insert(), [row(number) for number in range(ROWS)])
    engine.dispose()
    return url


def test_a_log_without_origins_is_read_as_traffic(tmp_path: Path) -> None:
    engine = open_log(old_log(tmp_path / "log.db"))
    assert window(engine) == (100, 25, minute(0), minute(99), "2")
    assert len(read(engine, max_rows=1_000)) == 100
    assert len(read_labeled(engine, max_rows=1_000)) == 25


def test_a_log_without_origins_and_indexes_gets_them_from_its_next_writer(tmp_path: Path) -> None:
    url = old_log(tmp_path / "log.db")
    engine: sql.Engine = create_engine(url)
    for _ in range(2):
        create_tables(engine, tables(FEATURES)[0])
    found = sql.inspect(engine)
    assert {index["name"] for index in found.get_indexes("inference")} == {
        "ix_inference_time",
        "ix_inference_shot",
        "ix_inference_label",
    }
    with engine.connect() as connection:
        assert connection.exec_driver_sql("select distinct origin from inference").all() == [("traffic",)]
    engine.dispose()
    assert window(open_log(url)) == (100, 25, minute(0), minute(99), "2")


def test_no_window_is_a_scan_of_the_whole_log(engine: sql.Engine) -> None:
    plans: list[str] = []

    @sql.event.listens_for(engine, "before_cursor_execute")
    def explain(
        connection: sql.Connection, _cursor: object, statement: str, parameters: tuple[object, ...], *_: object
    ) -> None:
        if statement.startswith("SELECT"):
            cursor = connection.connection.cursor()
            plans.extend(step[3] for step in cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters))

    window(engine, minute(20), minute(80))
    read(engine, minute(20), minute(80), max_rows=10)
    read_labeled(engine, minute(20), minute(80), max_rows=10)
    read_latest(engine, labeled=5, rows=5)
    assert any("ix_inference_time" in step for step in plans)
    assert any("ix_inference_label" in step for step in plans)
    assert any("ix_inference_shot" in step for step in plans)
    assert not [step for step in plans if step.startswith("SCAN inference") and "INDEX" not in step]


@pytest.mark.parametrize(
    ("text", "number"),
    [("3", 3), ("", None), ("unknown", None), ("models:/m-1", None), ("1.5", None), ("inf", None), ("nan", None)],
)
def test_a_version_that_is_no_number_is_null(tmp_path: Path, text: str, number: int | None) -> None:
    rows = [row(0) | {"model_version": "12"}, row(1) | {"model_version": text}]
    engine = open_log(make(tmp_path / "log.db", rows))
    expected = pd.Series([12, number], dtype="Int64", name="model_version")
    pd.testing.assert_series_equal(read(engine, max_rows=10)["model_version"], expected)
    assert window(engine).last_version == text


def test_a_file_that_is_absent_is_reported_and_not_made(tmp_path: Path) -> None:
    path = tmp_path / "absent.db"
    with pytest.raises(LogError, match="found no such file"):
        open_log(f"sqlite:///{path}")
    assert not path.exists()


def test_a_database_without_the_table_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "foreign.db"
    with sqlite3.connect(path) as connection:
        connection.execute("create table songs (name text)")
    connection.close()
    with pytest.raises(LogError, match="found no table inference there yet"):
        open_log(f"sqlite:///{path}")


def test_a_table_of_the_same_name_with_other_columns_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "foreign.db"
    with sqlite3.connect(path) as connection:
        connection.execute("create table inference (name text)")
    connection.close()
    engine = open_log(f"sqlite:///{path}")
    with pytest.raises(LogError, match=r"foreign\.db cannot be read"):
        window(engine)
    with pytest.raises(LogError, match=r"foreign\.db cannot be read"):
        read(engine, max_rows=10)


@pytest.mark.parametrize("content", [b"this is no database" * 99, b"SQLite format 3\0" + b"\xff" * 5_000])
def test_a_file_that_is_no_database_is_reported(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "corrupt.db"
    path.write_bytes(content)
    with pytest.raises(LogError, match="cannot be read: file is not a database"):
        open_log(f"sqlite:///{path}")


def test_a_log_that_breaks_after_it_was_opened_is_reported(engine: sql.Engine) -> None:
    engine.dispose()
    for path in Path(str(engine.url.database)).parent.glob("log.db*"):
        path.write_bytes(b"\xff" * 9_000)
    with pytest.raises(LogError, match="cannot be read"):
        window(engine)
    with pytest.raises(LogError, match="cannot be read"):
        read(engine, max_rows=10)


@pytest.mark.parametrize("url", ["", "nonsense", "nosuch://host/name", "sqlite:////", "oracle://host/name"])
def test_an_invalid_url_is_reported(url: str) -> None:
    with pytest.raises(LogError, match="expected"):
        open_log(url)


def test_the_url_is_what_is_given_else_the_variables_else_the_projects_own_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KOBE_INFERENCE_LOG", "sqlite:///theirs.db")
    assert log_url("sqlite:///mine.db") == "sqlite:///mine.db"
    assert log_url() == "sqlite:///theirs.db"
    for value in ("", "off"):
        monkeypatch.setenv("KOBE_INFERENCE_LOG", value)
        assert log_url() == f"sqlite:///{INFERENCE_LOG}"


def test_now_is_the_time_as_the_log_writes_it() -> None:
    assert now().tzinfo is None
    assert now() >= datetime.fromtimestamp(0)  # noqa: DTZ006
