"""An inference log, or a disk, that becomes full: responses are not affected, and lost rows are counted and logged."""

import os
import re
import shutil
import sqlite3
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import psutil
import pytest
import requests
from sklearn.pipeline import Pipeline
from sqlalchemy.exc import OperationalError

from data.schema import FEATURES
from serving.inference_log.inference_log import InferenceLogWriter, LogLimits, Request, create_engine, spool_dir
from tests.attacks.support import MEGABYTE, PARQUET, Server
from tests.project import Checkout, ProductionServer, records, run_production_server, shot, wait_until

NOBODY = 65_534


def request(name: str, rows: int = 1) -> Request:
    values = np.random.default_rng(1).normal(size=(rows, len(FEATURES)))
    return Request(name, "7", values, np.ones(rows, dtype=np.int64), np.linspace(0, 1, rows), None, time.time())


def url_in(folder: Path) -> str:
    return f"sqlite:///{folder / 'log.db'}"


def rows_in(folder: Path) -> int:
    if not (folder / "log.db").exists():
        return 0
    with closing(sqlite3.connect(folder / "log.db", timeout=30)) as log:
        if not log.execute("select 1 from sqlite_master where name = 'inference'").fetchone():
            return 0
        return int(log.execute("select count(*) from inference").fetchone()[0])


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def metrics(url: str) -> dict[str, float]:
    """The figures of the inference log at a server, by their names and reasons."""
    text = requests.get(f"{url}/metrics", timeout=30).text
    found = re.findall(r"^kobe_inference_log_(\w+?)(?:_total\{reason=\"(\w+)\"\})? ([0-9.e+]+)$", text, re.MULTILINE)
    return {reason or name: float(value) for name, reason, value in found}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take what is left of a disk; the file that holds it."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return filler


# One body


def writer_process() -> psutil.Process:
    """The process that writes the log of this one; it may be seen only a while after its start."""
    found: list[psutil.Process] = []

    def is_there() -> bool:
        found[:] = [child for child in psutil.Process().children() if "inference_log" in " ".join(child.cmdline())]
        return bool(found)

    wait_until(is_there, "the writer of the log")
    (writer,) = found
    return writer


def test_the_journal_and_the_writer_stay_small_whatever_one_request_holds(tmp_path: Path) -> None:
    rows = 500_000
    recorder = InferenceLogWriter(url_in(tmp_path), FEATURES)
    recorder.append(request("large", rows))
    writer = writer_process()
    journal = memory = 0

    def moved() -> bool:
        nonlocal journal, memory
        journal = max(journal, size(tmp_path / "log.db-wal"))
        memory = max(memory, writer.memory_info().rss)
        return rows_in(tmp_path) == rows

    wait_until(moved, "the rows to be moved")
    assert not recorder.close()
    # One transaction for the whole request took 58 MB of journal, and 340 MB of memory.
    assert journal < 20 * MEGABYTE
    assert memory < 200 * MEGABYTE
    with closing(sqlite3.connect(tmp_path / "log.db")) as log:
        assert log.execute('select count(distinct "row"), max("row") from inference').fetchone() == (rows, rows - 1)


def test_a_writer_that_is_killed_within_a_request_doubles_and_loses_no_row(tmp_path: Path) -> None:
    rows = 200_000
    recorder = InferenceLogWriter(url_in(tmp_path), FEATURES)
    writer = writer_process()
    recorder.append(request("large", rows))
    wait_until(lambda: 0 < rows_in(tmp_path) < rows, "the writer to be within the request")
    writer.kill()
    assert not recorder.close()
    with closing(sqlite3.connect(tmp_path / "log.db")) as log:
        found = log.execute('select count(*), count(distinct "row"), max("row") from inference').fetchone()
        assert found == (rows, rows, rows - 1)
        assert log.execute("select count(*) from inference_spool").fetchone() == (0,)


# Full spool and log


def test_a_spool_at_its_limit_loses_rows_that_are_counted_logged_once_and_logged_again_at_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dropped: list[tuple[str, int]] = []
    # A folder in its place keeps the database away.
    (tmp_path / "log.db").mkdir()
    limits = LogLimits(spool_bytes=MEGABYTE)
    recorder = InferenceLogWriter(url_in(tmp_path), FEATURES, limits=limits, on_drop=lambda *lost: dropped.append(lost))
    for number in range(400):
        recorder.append(request(str(number), 100))
        assert recorder.status().spool_bytes <= MEGABYTE
    lost = sum(rows for _, rows in dropped)
    assert {reason for reason, _ in dropped} == {"spool_full"}
    assert recorder.dropped["spool_full"] == lost > 20_000
    (tmp_path / "log.db").rmdir()
    wait_until(lambda: rows_in(tmp_path) == 40_000 - lost, "what was kept to be moved")

    def taken() -> bool:
        before = recorder.dropped["spool_full"]
        recorder.append(request("after"))
        return recorder.dropped["spool_full"] == before

    wait_until(taken, "the spool to take rows again")
    lost = recorder.dropped["spool_full"]
    assert not recorder.close()
    output = caplog.text
    assert output.count("rows are not logged") == 1
    assert "KOBE_LIMIT_SPOOL_BYTES" in output
    over = re.findall(r"the inference log is written again after \d+ s, ([\d,]+) rows were lost", output)
    assert over == [f"{lost:,}"]


def test_a_log_at_its_limit_takes_no_row_and_takes_those_that_wait_when_there_is_room(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    limits = LogLimits(log_bytes=4 * MEGABYTE, spool_bytes=MEGABYTE)
    recorder = InferenceLogWriter(url_in(tmp_path), FEATURES, limits=limits)
    output: list[str] = []

    def is_full() -> bool:
        recorder.append(request("many", 1_000))
        output.append(capfd.readouterr().err)
        return any("KOBE_LIMIT_LOG_BYTES" in text for text in output)

    wait_until(is_full, "the log to reach its limit")

    def is_lost() -> bool:
        recorder.append(request("too many", 1_000))
        return recorder.dropped["log_full"] > 0

    wait_until(is_lost, "the spool to reach its limit too")
    status = recorder.status()
    assert status.log_bytes is not None
    # It checks before every 10,000 rows.
    assert 4 * MEGABYTE <= status.log_bytes < 6 * MEGABYTE
    assert status.file_bytes is not None
    assert status.file_bytes < 14 * MEGABYTE
    assert status.spool_bytes <= MEGABYTE
    with closing(sqlite3.connect(tmp_path / "log.db", timeout=30)) as log:
        log.execute("delete from inference")
        log.commit()
    wait_until(lambda: rows_in(tmp_path) > 0, "what waited to be moved")
    assert "rows were lost" in recorder.close()


# A full disk


def test_rows_lost_on_a_full_disk_are_counted_and_the_end_of_it_is_logged(
    small_disk: Path, served_checkout: tuple[Checkout, Pipeline]
) -> None:
    with run_production_server(served_checkout[0], inference_log=url_in(small_disk)) as server:
        send_shot(server, 20)
        wait_until(lambda: rows_in(small_disk) == 20, "the rows to be logged")
        filler = fill(small_disk)
        lost = until_rows_are_lost(server)
        assert "rows are not logged: [Errno 28]" in server.output.read_text()
        figures = metrics(server.url)
        assert figures["disk_full"] == lost
        assert figures["spool_bytes"] > 0
        assert figures["max_spool_bytes"] == 1 << 30
        assert figures["max_bytes"] == 4 << 30
        filler.unlink()
        send_shot(server, 40)
        output = server.output.read_text()
        again = re.findall(r"written again after \d+ s, ([\d,]+) rows were lost", output)
        assert sum(int(rows.replace(",", "")) for rows in again) == lost
        wait_until(lambda: rows_in(small_disk) >= 60, "rows to be logged again")


def send_shot(server: ProductionServer, times: int) -> None:
    """Send requests of one row over connections of their own, which reach every worker."""
    for _ in range(times):
        assert requests.post(f"{server.url}/invocations", json=records(shot()), timeout=30).ok


def until_rows_are_lost(server: ProductionServer) -> int:
    """Send tables until each worker has logged that it lost rows; how many were lost."""
    table = records(*[shot()] * 500)

    def is_logged() -> bool:
        for _ in range(8):
            assert requests.post(f"{server.url}/invocations", json=table, timeout=30).ok
        return server.output.read_text().count("rows are not logged") >= len(server.workers())

    wait_until(is_logged, "rows to be lost")
    # The next figures are read after the last row was recorded.
    send_shot(server, 1)
    return int(metrics(server.url)["disk_full"])


def test_a_recorder_that_starts_on_a_full_disk_loses_rows_and_keeps_them_when_there_is_room(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filler = fill(small_disk)
    # Folders of this disk take no room: only a file does.
    recorder = InferenceLogWriter(url_in(small_disk), FEATURES)
    recorder.append(request("lost", 3))
    assert recorder.dropped["disk_full"] == 3
    filler.unlink()

    def is_kept() -> bool:
        before = recorder.dropped["disk_full"]
        recorder.append(request("kept"))
        return recorder.dropped["disk_full"] == before

    wait_until(is_kept, "the recorder to start")
    lost = recorder.dropped["disk_full"]
    assert not recorder.close()
    assert rows_in(small_disk) == 1
    assert f"{lost:,} rows were lost" in caplog.text


# Files of others


def test_the_log_its_journal_and_its_spool_are_this_accounts_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        recorder = InferenceLogWriter(url_in(tmp_path), FEATURES)
        recorder.append(request("a"))
        wait_until(lambda: rows_in(tmp_path) == 1, "the row to be moved")
        wait_until(lambda: list(tmp_path.rglob("status.json")), "the status of the writer")
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
        assert not recorder.close()
    finally:
        os.umask(before)
    assert {"log.db", "log.db-wal", "log.db-shm", "log.db.spool", "000001.spool", "features.json"} <= set(modes)
    assert {name: oct(mode) for name, mode in modes.items() if mode & 0o077} == {}


def test_a_log_and_a_spool_that_others_could_read_are_narrowed(tmp_path: Path) -> None:
    recorder = InferenceLogWriter(url_in(tmp_path), FEATURES)
    recorder.append(request("a"))
    assert not recorder.close()
    (tmp_path / "log.db").chmod(0o666)
    spool_dir(url_in(tmp_path)).chmod(0o777)
    recorder = InferenceLogWriter(url_in(tmp_path), FEATURES)
    recorder.append(request("b"))
    assert not recorder.close()
    assert rows_in(tmp_path) == 2
    for path in (tmp_path / "log.db", spool_dir(url_in(tmp_path))):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_a_folder_that_a_url_names_by_mistake_is_left_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "log.db"
    folder.mkdir(mode=0o755)
    mode = stat.S_IMODE(folder.stat().st_mode)
    with pytest.raises(OperationalError):
        create_engine(url_in(tmp_path)).connect()
    assert stat.S_IMODE(folder.stat().st_mode) == mode


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give a folder away")
def test_a_spool_that_another_account_has_made_is_rejected_with_a_message(tmp_path: Path) -> None:
    spool = spool_dir(url_in(tmp_path))
    spool.mkdir()
    shutil.chown(spool, NOBODY)
    with pytest.raises(PermissionError, match=r"to be of this account .* found another's\. Remove it, or name another"):
        InferenceLogWriter(url_in(tmp_path), FEATURES)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give a link away")
@pytest.mark.parametrize("what", ["log.db", "log.db.spool"])
def test_a_link_of_another_account_is_not_followed(
    tmp_path: Path, what: str, capfd: pytest.CaptureFixture[str]
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    target = victim / "precious"
    target.touch()
    link = tmp_path / what
    link.symlink_to(target if what == "log.db" else victim)
    os.lchown(link, NOBODY, NOBODY)
    if what == "log.db":
        recorder = InferenceLogWriter(url_in(tmp_path), FEATURES)
        recorder.append(request("a"))
        output: list[str] = []

        def is_refused() -> bool:
            output.append(capfd.readouterr().err)
            return any("found another's" in text for text in output)

        wait_until(is_refused, "the writer to refuse the link")
        link.unlink()
        assert not recorder.close()
    else:
        with pytest.raises(PermissionError, match="found another's"):
            InferenceLogWriter(url_in(tmp_path), FEATURES)
    assert list(victim.iterdir()) == [target]
    assert target.read_bytes() == b""


# At the servers


def test_metrics_show_how_large_the_log_is_and_what_it_may_take(production_server: Server) -> None:
    assert production_server.send(b"", PARQUET).status == 400
    production_server.wait_until_recovered()
    wait_until(lambda: "bytes" in metrics(production_server.url), "the first check of the writer")
    figures = metrics(production_server.url)
    assert {"file_bytes", "spool_bytes", "max_bytes", "max_spool_bytes", "max_days"} <= set(figures)
    assert {name: figures[name] for name in ("disk_full", "spool_full", "log_full", "write_error")} == {
        "disk_full": 0,
        "spool_full": 0,
        "log_full": 0,
        "write_error": 0,
    }
    assert figures["oldest_timestamp_seconds"] <= time.time()
