import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sql

from data.schema import FEATURES
from serving.inference_log import retention
from serving.inference_log.inference_log import (
    InferenceLogWriter,
    LogLimits,
    Request,
    create_engine,
    tables,
    used_bytes,
)
from serving.inference_log.reader import LogError, now, open_log, read, read_labeled
from serving.inference_log.retention import RetentionConfig, remove
from tests.project import wait_until
from tests.serving.inference_log.test_inference_log import postgres  # noqa: F401 a fixture

DAY = 86_400.0
MEGABYTE = 1_000_000
EVERYTHING = 1 << 40


def url_in(folder: Path) -> str:
    return f"sqlite:///{folder / 'log.db'}"


def record(url: str, *requests: Request) -> None:
    recorder = InferenceLogWriter(url, FEATURES)
    for request in requests:
        recorder.append(request)
    assert not recorder.close()


def request(name: str, rows: int = 1, *, days: float = 0, first_shot: int | None = None) -> Request:
    """A request some days ago, of shots that are numbered from `first_shot` on."""
    values = np.random.default_rng(1).normal(size=(rows, len(FEATURES)))
    shots = None if first_shot is None else np.arange(first_shot, first_shot + rows)
    ones = np.ones(rows, dtype=np.int64)
    return Request(name, "7", values, ones, np.linspace(0, 1, rows), shots, time.time() - days * DAY)


def ago(days: float) -> datetime:
    return now() - timedelta(days=days)


def left(engine: sql.Engine) -> dict[str, int]:
    """Rows of the log by their request."""
    with engine.connect() as connection:
        query = "select request_id, count(*) from inference group by request_id order by request_id"
        return {name: rows for name, rows in connection.exec_driver_sql(query).all()}  # noqa: C416 rows are no pairs


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sql.Engine]:
    """An empty log in each database in turn."""
    url = url_in(tmp_path) if request.param == "sqlite" else str(request.getfixturevalue("postgres"))
    found = create_engine(url)
    with found.begin() as connection:
        connection.exec_driver_sql("drop table if exists inference")
        connection.exec_driver_sql("drop table if exists inference_spool")
    yield found
    found.dispose()


def url_of(engine: sql.Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


def test_rows_go_by_age_and_others_stay(engine: sql.Engine) -> None:
    old = request("old", 5_000, days=40)
    record(url_of(engine), old, request("tried", 3, days=41)._replace(origin="what_if"), request("new", 7, days=1))
    removed = remove(engine, before=ago(30), max_bytes=EVERYTHING)
    assert (removed.by_age, removed.by_size) == (5_003, 0)
    assert left(engine) == {"new": 7}
    assert remove(engine, before=ago(30), max_bytes=EVERYTHING).by_age == 0


def test_what_would_go_is_printed_and_stays(engine: sql.Engine) -> None:
    record(url_of(engine), request("old", 500, days=40), request("new", 7))
    removed = remove(engine, before=ago(30), max_bytes=EVERYTHING, dry_run=True)
    assert removed.by_age == 500
    assert left(engine) == {"new": 7, "old": 500}


def test_the_label_of_a_row_that_goes_is_given_to_the_rows_of_its_shot_that_stay(engine: sql.Engine) -> None:
    first, again = request("first", 3, days=50, first_shot=1), request("again", 3, days=40, first_shot=1)
    elsewhere = request("tried", 3, first_shot=1)._replace(origin="what_if")
    record(url_of(engine), first, again, request("newest", 2, days=1, first_shot=1), elsewhere)
    log = tables(FEATURES)[0]
    with engine.begin() as connection:
        connection.execute(log.update().where(log.c.request_id == "first", log.c.shot_id <= 2).values(shot_made_flag=0))
        # A newer label of the same shot.
        connection.execute(log.update().where(log.c.request_id == "again", log.c.shot_id == 2).values(shot_made_flag=1))
    before = read_labeled(engine, max_rows=10)
    removed = remove(engine, before=ago(30), max_bytes=EVERYTHING)
    assert removed.labels == 2
    after = read_labeled(engine, max_rows=10)
    assert after[["shot_id", "shot_made_flag"]].to_numpy().tolist() == [[1, 0], [2, 1]]
    assert before[["shot_id", "shot_made_flag"]].to_numpy().tolist() == [[1, 0], [2, 1]]
    # A table that a person tries may number other shots alike.
    assert read(engine, max_rows=10, origins=["what_if"])["shot_made_flag"].isna().all()


def test_the_oldest_rows_go_where_the_log_takes_more_than_it_may(engine: sql.Engine) -> None:
    requests = [request(f"{number:02d}", 1_000, days=30 - number) for number in range(20)]
    record(url_of(engine), *requests)
    wait_until(lambda: used_bytes(engine) > 2 * MEGABYTE, "the database to know what it takes")
    removed = remove(engine, before=None, max_bytes=2 * MEGABYTE)
    stayed = left(engine)
    assert removed.bytes_after <= 2 * MEGABYTE < removed.bytes_before
    assert 0 < len(stayed) < 20
    assert list(stayed) == [f"{number:02d}" for number in range(20 - len(stayed), 20)]
    # A request goes as a whole.
    assert set(stayed.values()) == {1_000}
    assert removed.by_size == 20_000 - sum(stayed.values())


def test_one_request_that_is_larger_than_the_log_may_be_goes(tmp_path: Path) -> None:
    record(url_in(tmp_path), request("attack", 30_000))
    engine = open_log(url_in(tmp_path))
    remove(engine, before=None, max_bytes=MEGABYTE)
    assert left(engine) == {}


def test_a_sqlite_file_gives_its_space_back(tmp_path: Path) -> None:
    record(url_in(tmp_path), request("old", 20_000, days=40), request("new", 10))
    before = (tmp_path / "log.db").stat().st_size
    remove(open_log(url_in(tmp_path)), before=ago(30), max_bytes=EVERYTHING)
    assert sum(path.stat().st_size for path in tmp_path.glob("log.db*") if path.is_file()) < before / 4


def test_a_log_of_0_1_0_loses_old_rows_and_gives_its_space_back_when_it_is_compacted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record(url_in(tmp_path), request("old", 20_000, days=40), request("new", 10))
    with closing(sqlite3.connect(tmp_path / "log.db")) as log:
        log.execute("drop index ix_inference_time")
        log.execute("drop index ix_inference_label")
        log.execute("alter table inference drop column origin")
        log.execute("pragma auto_vacuum = none")
        log.execute("vacuum")
    before = (tmp_path / "log.db").stat().st_size
    monkeypatch.setattr(sys, "argv", ["retention"])
    retention.run(RetentionConfig(log=url_in(tmp_path), keep_days=30))
    assert left(open_log(url_in(tmp_path))) == {"new": 10}
    assert (tmp_path / "log.db").stat().st_size == before
    retention.run(RetentionConfig(log=url_in(tmp_path), keep_days=30, compact=True))
    assert (tmp_path / "log.db").stat().st_size < before / 4
    assert "20,000 rows older than 30 days, 0 for a limit of 4,294,967,296 bytes" in capsys.readouterr().out


def test_rows_are_written_while_old_ones_are_removed(tmp_path: Path) -> None:
    record(url_in(tmp_path), request("old", 20_000, days=40))
    engine = open_log(url_in(tmp_path))
    recorder = InferenceLogWriter(url_in(tmp_path), FEATURES)
    removing = threading.Thread(target=lambda: remove(engine, before=ago(30), max_bytes=EVERYTHING))
    removing.start()
    meanwhile = 200
    for number in range(meanwhile):
        recorder.append(request(f"new-{number}"))
    removing.join()
    assert not recorder.close()
    assert sum(left(engine).values()) == meanwhile


def test_a_log_that_was_full_takes_rows_again(tmp_path: Path) -> None:
    recorder = InferenceLogWriter(
        url_in(tmp_path), FEATURES, limits=LogLimits(log_bytes=2 * MEGABYTE, spool_bytes=MEGABYTE)
    )

    def is_full() -> bool:
        recorder.append(request("old", 1_000, days=40))
        return recorder.dropped["log_full"] > 0

    wait_until(is_full, "the log to be full")
    engine = open_log(url_in(tmp_path))
    remove(engine, before=ago(30), max_bytes=EVERYTHING)

    def is_taken() -> bool:
        remove(engine, before=ago(30), max_bytes=EVERYTHING)
        recorder.append(request("new"))
        return "new" in left(engine)

    wait_until(is_taken, "rows to be taken again")
    assert "wait in" not in recorder.close()


def test_where_there_is_no_log_the_command_reports_it(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="found no such file"):
        retention.run(RetentionConfig(log=url_in(tmp_path)))
