import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sql

from data.paths import ROOT
from data.schema import FEATURES
from serving.inference_log import inference_log
from serving.inference_log.inference_log import (
    InferenceLogWriter,
    LogLimits,
    Request,
    checked_origin,
    create_engine,
    create_tables,
    read_spool,
    recorder_from_environment,
    spool_dir,
    tables,
)
from serving.inference_log.reader import open_log, read, read_labeled, read_latest, window
from tests import fork_server
from tests.project import Checkout, completed, environment, free_port, ok, records, run_mlflow_server, shot, wait_until

POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'log.db'}"


def request(name: str, rows: int = 3, *, shot_id: bool = False) -> Request:
    values = np.arange(6.0 * rows).reshape(rows, 6)
    ids = np.arange(rows) + 100 if shot_id else None
    return Request(name, "7", values, np.ones(rows, dtype=np.int64), np.linspace(0, 1, rows), ids, time.time())


def logged(url: str) -> pd.DataFrame:
    engine = create_engine(url)
    try:
        if not sql.inspect(engine).has_table("inference"):
            return pd.DataFrame(columns=["request_id"])
        return pd.read_sql("select * from inference order by id", engine)
    finally:
        engine.dispose()


@pytest.mark.parametrize("writers", [2, 8])
def test_writers_make_the_tables_of_a_new_log_at_once(tmp_path: Path, writers: int) -> None:
    for number in range(10):
        make_at_once([f"sqlite:///{tmp_path / f'{number}.db'}"] * writers)
        assert logged(f"sqlite:///{tmp_path / f'{number}.db'}").empty
        with closing(sqlite3.connect(tmp_path / f"{number}.db")) as made:
            assert made.execute("pragma journal_mode").fetchone() == ("wal",)


def make_at_once(urls: list[str]) -> None:
    together = Barrier(len(urls))

    def make(url: str) -> None:
        engine = create_engine(url)
        try:
            together.wait(timeout=30)
            create_tables(engine, tables(FEATURES)[0])
        finally:
            engine.dispose()

    with ThreadPoolExecutor(len(urls)) as writers:
        list(writers.map(make, urls))


def test_a_row_is_logged_with_its_time_request_version_features_and_response(url: str) -> None:
    recorder = InferenceLogWriter(url, FEATURES)
    before = pd.Timestamp.now("UTC").tz_localize(None)
    recorder.append(request("a", shot_id=True))
    recorder.append(request("b", rows=1))
    assert not recorder.close()
    found = logged(url)
    assert found["request_id"].tolist() == ["a", "a", "a", "b"]
    assert found["row"].tolist() == [0, 1, 2, 0]
    assert found["shot_id"].tolist()[:3] == [100, 101, 102]
    assert found["shot_id"].isna().tolist() == [False, False, False, True]
    np.testing.assert_array_equal(found[list(FEATURES)].to_numpy()[:3], np.arange(18.0).reshape(3, 6))
    assert found["probability"].tolist() == [0, 0.5, 1, 0]
    assert set(found["prediction"]) == {1}
    assert set(found["model_version"]) == {"7"}
    assert found["shot_made_flag"].isna().all()
    assert (pd.to_datetime(found["time"]) >= before - pd.Timedelta(seconds=1)).all()


def test_the_origin_of_a_request_is_logged(url: str) -> None:
    recorder = InferenceLogWriter(url, FEATURES)
    recorder.append(request("a", rows=1, shot_id=True)._replace(origin="what_if"))
    recorder.append(request("b", rows=2)._replace(origin="upload"))
    recorder.append(request("c", rows=1))
    assert not recorder.close()
    assert logged(url)["origin"].tolist() == ["what_if", "upload", "upload", "traffic"]


def test_a_spool_without_origins_is_moved_as_traffic(url: str, tmp_path: Path) -> None:
    traffic = request("a", shot_id=True)
    recorder = InferenceLogWriter(url, FEATURES)
    recorder.append(traffic)
    recorder.append(traffic._replace(origin="what_if"))
    shutil.copyfile(next(spool_dir(url).rglob("*.spool")), tmp_path / "both.spool")
    assert not recorder.close()
    (first, end), (second, _) = read_spool(tmp_path / "both.spool", 0, len(FEATURES))
    assert (first.origin, second.origin) == ("traffic", "what_if")
    rows = len(traffic.probability)
    # Header, fixed part, name, version; features, P(made), label and shot_id: 0.1.0 wrote the same bytes.
    assert end == 12 + 21 + 1 + 1 + rows * (8 * len(FEATURES) + 8 + 1 + 8)


@pytest.mark.parametrize(("text", "origin"), [("", "traffic"), ("What_If", "what_if"), (" upload ", "upload")])
def test_the_origin_is_what_the_header_shows(text: str, origin: str) -> None:
    assert checked_origin(text) == origin


def test_an_origin_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of traffic, what_if, upload, probe, or no such header"):
        checked_origin("whatif")


def test_two_recorders_write_at_once(url: str) -> None:
    recorders = [InferenceLogWriter(url, FEATURES) for _ in range(2)]
    for number in range(200):
        for place, recorder in enumerate(recorders):
            recorder.append(request(f"{place}-{number}"))
    assert [recorder.close() for recorder in recorders] == ["", ""]
    assert logged(url)["request_id"].value_counts().tolist() == [3] * 400


def test_a_killed_process_loses_nothing_that_it_had_recorded(url: str, tmp_path: Path) -> None:
    record_and_die(url, tmp_path, writer_crashes=False)
    wait_until(lambda: len(logged(url)) == 300, "the writer to finish what the killed process left")


def test_what_a_killed_process_and_its_writer_left_is_moved_once_by_the_next(url: str, tmp_path: Path) -> None:
    record_and_die(url, tmp_path, writer_crashes=True)
    recorder = InferenceLogWriter(url, FEATURES)
    wait_until(lambda: len(logged(url)) == 300, "what was left to be moved")
    recorder.append(request("after"))
    assert not recorder.close()
    assert logged(url)["request_id"].value_counts().tolist() == [3] * 101
    assert list(spool_dir(url).iterdir()) == []


def record_and_die(url: str, folder: Path, *, writer_crashes: bool) -> None:
    script = (
        "import os, signal, sys\n"
        "from serving.inference_log.inference_log import InferenceLogWriter\n"
        "from tests.serving.inference_log.test_inference_log import FEATURES, request\n"
        f"recorder = InferenceLogWriter({url!r}, FEATURES)\n"
        "for number in range(100): recorder.append(request(str(number)))\n"
        f"if {writer_crashes}: os.kill(recorder._writer.pid, signal.SIGKILL)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert fork_server.start_code(script, cwd=ROOT, env=environment()).wait() == -signal.SIGKILL
    del folder


def test_a_writer_that_is_killed_is_replaced_and_its_folder_is_not_taken_for_abandoned(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference_log, "_CHECK_SECONDS", 0.0)
    recorder = InferenceLogWriter(url, FEATURES)
    recorder.append(request("before"))
    os.kill(recorder._writer.pid, signal.SIGKILL)  # noqa: SLF001 what a person would do from outside
    recorder._writer.wait()  # noqa: SLF001
    other = InferenceLogWriter(url, FEATURES)
    other.append(request("other"))
    wait_until(lambda: len(logged(url)) >= 3, "the other recorder's rows")
    recorder.append(request("after"))
    assert not recorder.close()
    assert not other.close()
    assert sorted(logged(url)["request_id"]) == ["after"] * 3 + ["before"] * 3 + ["other"] * 3


def test_what_cannot_be_read_hinders_no_process(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    left = spool_dir(url) / "1-1"
    left.mkdir(parents=True)
    (left / "features.json").write_text("")
    never_made, in_the_making = spool_dir(url) / "2-2.new", spool_dir(url) / "3-3.new"
    never_made.mkdir()
    os.utime(never_made, (0, 0))
    in_the_making.mkdir()
    recorder = InferenceLogWriter(url, FEATURES)
    recorder.append(request("a"))
    assert not recorder.close()
    assert len(logged(url)) == 3
    assert "it stays" in capfd.readouterr().err
    assert {path.name for path in spool_dir(url).iterdir()} == {"1-1", in_the_making.name}


def test_a_commit_that_succeeded_and_logged_otherwise_doubles_no_row(url: str, tmp_path: Path) -> None:
    recorder = InferenceLogWriter(url, FEATURES)
    os.kill(recorder._writer.pid, signal.SIGSTOP)  # noqa: SLF001 this test writes itself
    recorder.append(request("a"))
    (folder,) = spool_dir(url).iterdir()
    copy = tmp_path / "copy" / folder.name
    shutil.copytree(folder, copy)
    engine = create_engine(f"sqlite:///{tmp_path / 'other.db'}")
    spool = inference_log._Spool(copy, engine)  # noqa: SLF001
    broken: list[str] = []

    @sql.event.listens_for(engine, "commit")
    def fail_after_commit(connection: sql.Connection) -> None:
        if not broken and connection.exec_driver_sql("select count(*) from inference").scalar():
            broken.append("once")
            connection.connection.commit()
            message = "the line was cut"
            raise ConnectionError(message)

    with pytest.raises(ConnectionError):
        spool.move()
    spool.move()
    assert len(logged(f"sqlite:///{tmp_path / 'other.db'}")) == 3
    engine.dispose()
    os.kill(recorder._writer.pid, signal.SIGCONT)  # noqa: SLF001
    assert not recorder.close()


def test_a_url_that_cannot_be_one_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("nonsense", "oracle://somewhere"):
        monkeypatch.setenv("KOBE_INFERENCE_LOG", wrong)
        with pytest.raises(ValueError, match="expected a SQLAlchemy URL"):
            recorder_from_environment(FEATURES, LogLimits())


def test_a_request_that_was_half_written_is_not_read(url: str, tmp_path: Path) -> None:
    path = tmp_path / "000001.spool"
    recorder = InferenceLogWriter(url, FEATURES)
    recorder.append(request("whole"))
    recorder.append(request("half"))
    shutil.copyfile(next(spool_dir(url).rglob("*.spool")), path)
    assert not recorder.close()
    os.truncate(path, path.stat().st_size - 1)
    assert [found.request_id for found, _ in read_spool(path, 0, len(FEATURES))] == ["whole"]


def test_a_database_that_is_away_costs_no_row_and_no_response(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "away"
    url = f"sqlite:///{folder / 'log.db'}"
    recorder = InferenceLogWriter(url, FEATURES)
    # The spool has made the folder; a folder where the file should be keeps the database away.
    (folder / "log.db").mkdir()
    recorder.append(request("early"))
    raised: list[str] = []

    def complained() -> bool:
        raised.append(capfd.readouterr().err)
        return any("rows wait" in text or "they wait in" in text for text in raised)

    wait_until(complained, "the writer to report it")
    (folder / "log.db").rmdir()
    recorder.append(request("late"))
    assert not recorder.close()
    assert set(logged(url)["request_id"]) == {"early", "late"}


def test_a_long_spool_is_cut_into_files_that_go_when_they_are_moved(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference_log, "_SEGMENT_BYTES", 2_000)
    recorder = InferenceLogWriter(url, FEATURES)
    for number in range(300):
        recorder.append(request(str(number)))
    wait_until(lambda: len(logged(url)) == 900, "the rows to be moved")
    wait_until(lambda: len(list(spool_dir(url).rglob("*.spool"))) == 1, "moved files to go")
    assert not recorder.close()


@pytest.mark.parametrize("value", ["", "off"])
def test_nothing_is_recorded_unless_requested_for(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("KOBE_INFERENCE_LOG", value)
    assert recorder_from_environment(FEATURES, LogLimits()) is None


def test_the_mlflow_server_logs_too_when_requested_for(
    served_checkout: tuple[Checkout, object], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import requests  # noqa: PLC0415 its name is taken here

    checkout, _ = served_checkout
    monkeypatch.setenv("KOBE_INFERENCE_LOG", url)
    with run_mlflow_server(checkout) as server_url:
        response = requests.post(f"{server_url}/invocations", json=records(shot(), shot(period=2)), timeout=30)
        assert requests.post(f"{server_url}/invocations", json=records(shot(lat=0)), timeout=30).status_code == 400
        wait_until(lambda: len(logged(url)) == 2, "the rows to be logged")
        tried = {"X-Request-Origin": "what_if"}
        requests.post(f"{server_url}/invocations", json=records(shot(period=3)), headers=tried, timeout=30)
        # This body goes MLflow's own way.
        frame = pd.DataFrame([shot(period=4)]).to_csv(index=False)
        csv = {"Content-Type": "text/csv", **tried}
        assert requests.post(f"{server_url}/invocations", frame, headers=csv, timeout=30).ok
        unknown = {"X-Request-Origin": "whatif"}
        refused = requests.post(f"{server_url}/invocations", json=records(shot()), headers=unknown, timeout=30)
        assert refused.status_code == 400
        assert "expected one of traffic, what_if" in refused.json()["message"]
        wait_until(lambda: len(logged(url)) == 4, "the rows to be logged")
    found = logged(url)
    assert found["origin"].tolist() == ["traffic", "traffic", "what_if", "what_if"]
    found = found.head(2)
    assert found["period"].tolist() == [1, 2]
    assert found["probability"].tolist() == [one["probability"] for one in response.json()["predictions"]]
    assert set(found["model_version"]) == {"1"}


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """URL of a database of Debian's PostgreSQL, started for the test."""
    if not POSTGRES:
        pytest.skip("PostgreSQL is not installed; .ci/run installs Debian's")
    user = "postgres" if os.getuid() == 0 else None
    # PostgreSQL refuses to run as root, and pytest's own folders can be entered by their owner only.
    data, port = Path(tempfile.mkdtemp(prefix="kobe_shot_postgres_")), free_port()
    if user:
        shutil.chown(data, user)
    initdb = [str(POSTGRES[-1]), "-D", str(data), "-A", "trust", "-U", "kobe"]
    subprocess.run(initdb, user=user, check=True, stdout=subprocess.DEVNULL, cwd="/")
    command = [str(POSTGRES[-1].with_name("postgres")), "-D", str(data), "-p", str(port), "-k", str(data)]
    server = subprocess.Popen([*command, "-h", "127.0.0.1"], user=user, stderr=subprocess.DEVNULL, cwd="/")
    url = f"postgresql://kobe@127.0.0.1:{port}/postgres"
    try:
        wait_until(lambda: takes_connections(url), "PostgreSQL to respond")
        yield url
    finally:
        # The fast shutdown, which does not wait for our pooled connections.
        server.send_signal(signal.SIGINT)
        completed(server)
        shutil.rmtree(data)


def takes_connections(url: str) -> bool:
    engine = create_engine(url)
    try:
        engine.connect().close()
    except sql.exc.OperationalError:
        return False
    finally:
        engine.dispose()
    return True


def test_writers_make_the_tables_of_a_new_log_in_postgresql_at_once(postgres: str) -> None:
    engine = create_engine(postgres)
    try:
        for _ in range(5):
            with engine.begin() as connection:
                connection.exec_driver_sql("drop table if exists inference, inference_spool")
            make_at_once([postgres] * 8)
            assert sorted(sql.inspect(engine).get_table_names()) == ["inference", "inference_spool"]
    finally:
        engine.dispose()


def test_a_log_of_postgresql_without_origins_and_indexes_gets_them_from_writers_that_start_at_once(
    postgres: str,
) -> None:
    engine = create_engine(postgres)
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql("drop table if exists inference, inference_spool")
        make_at_once([postgres])
        with engine.begin() as connection:
            for name in ("time", "shot", "label"):
                connection.exec_driver_sql(f"drop index ix_inference_{name}")
            connection.exec_driver_sql("alter table inference drop column origin")
        make_at_once([postgres] * 8)
        with engine.connect() as connection:
            assert connection.exec_driver_sql("select origin from inference").all() == []
        assert len(sql.inspect(engine).get_indexes("inference")) == 3
    finally:
        engine.dispose()


def test_postgresql_counts_a_shot_once_and_the_operation_only(postgres: str) -> None:
    engine = create_engine(postgres)
    with engine.begin() as connection:
        connection.exec_driver_sql("drop table if exists inference, inference_spool")
    engine.dispose()
    recorder = InferenceLogWriter(postgres, FEATURES)
    old = request("old", rows=3, shot_id=True)
    recorder.append(request("new", rows=2, shot_id=True))
    recorder.append(old._replace(time=old.time - 3600))
    recorder.append(request("tried", rows=4)._replace(origin="what_if"))
    assert not recorder.close()
    with (engine := open_log(postgres)).begin() as connection:
        connection.exec_driver_sql("update inference set shot_made_flag = 1 where request_id = 'old'")
    assert window(engine)[:2] == (3, 3)
    for found in (
        read(engine, max_rows=10),
        read_labeled(engine, max_rows=10),
        read_latest(engine, labeled=2, rows=3),
    ):
        assert found["shot_id"].tolist() == [102, 100, 101]
        assert found["shot_made_flag"].tolist() == [1, 1, 1]
    assert len(read(engine, max_rows=10, origins=("what_if",))) == 4


def test_postgresql_takes_the_log_and_the_labels(
    postgres: str, tmp_path: Path, served_checkout: tuple[Checkout, object]
) -> None:
    with (engine := create_engine(postgres)).begin() as connection:
        connection.exec_driver_sql("drop table if exists inference, inference_spool")
    engine.dispose()
    recorders = [InferenceLogWriter(postgres, FEATURES) for _ in range(2)]
    for recorder in recorders:
        recorder.append(request("a", rows=5, shot_id=True))
    assert [recorder.close() for recorder in recorders] == ["", ""]
    labels = pd.DataFrame({"shot_id": [100, 101, 999], "shot_made_flag": [1, 0, 1]})
    labels.to_csv(tmp_path / "labels.csv", index=False)
    command = ["python", "-m", "serving.inference_log.ground_truth", str(tmp_path / "labels.csv"), "--log", postgres]
    printed = ok(served_checkout[0].command(*command))
    assert "4 rows of the inference log" in printed
    assert "1 labels belong to no logged row" in printed
    found = logged(postgres)
    assert len(found) == 10
    assert found.loc[found["shot_id"] == 100, "shot_made_flag"].tolist() == [1, 1]


def test_the_url_is_no_argument_that_others_can_read(url: str) -> None:
    recorder = InferenceLogWriter(url, FEATURES)
    with open(f"/proc/{recorder._writer.pid}/cmdline", encoding="utf-8") as file:  # noqa: PTH123, SLF001
        assert "sqlite" not in file.read()
    assert not recorder.close()


def test_a_log_can_be_read_while_it_is_written(url: str, tmp_path: Path) -> None:
    recorder = InferenceLogWriter(url, FEATURES)
    recorder.append(request("a"))
    wait_until(lambda: len(logged(url)) == 3, "the rows to be logged")
    with closing(sqlite3.connect(tmp_path / "log.db")) as reader:
        reader.execute("BEGIN")
        assert reader.execute("select count(*) from inference").fetchone() == (3,)
        recorder.append(request("b"))
        wait_until(lambda: len(logged(url)) == 6, "rows to be logged next to a reader")
    assert not recorder.close()
