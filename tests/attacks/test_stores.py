"""Stores that are locked or damaged, and secrets in their URIs."""

import logging
import re
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from data.masking import mask_log_records, masked
from data.paths import ROOT
from serving import registry
from serving.registry import StoreError, reachability, sqlite_store
from serving.registry.relocation import relocate
from serving.registry.sqlite_store import wait_for_locks
from tests.project import environment, run, wait_until


@pytest.mark.usefixtures("store")
def test_a_locked_store_is_waited_for_with_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_store, "REPORTED_AFTER_SECONDS", 0.1)
    output = ""

    def is_reported() -> bool:
        nonlocal output
        output += capsys.readouterr().err
        return "Waiting:" in output

    wait_for_locks()
    with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        logged = threading.Event()

        def log() -> None:
            with mlflow.start_run():
                mlflow.log_metrics({"value": 1.0, "other": 2.0})
            logged.set()

        thread = threading.Thread(target=log)
        thread.start()
        wait_until(is_reported, "the message")
        assert not logged.is_set()
        other.execute("ROLLBACK")
        thread.join()
    assert logged.is_set()


@pytest.mark.usefixtures("store")
def test_a_lock_that_is_never_released_ends_the_wait_with_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_store, "REPORTED_AFTER_SECONDS", 0.1)
    monkeypatch.setattr(sqlite_store, "LOCK_WAIT_SECONDS", 0.5)
    wait_for_locks()
    with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="locked"), registry.translate_store_errors():
            mlflow.start_run()


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _overwrite(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[8_192 : len(content) // 2] = b"x" * (len(content) // 2 - 8_192)
    path.write_bytes(content)


def _write_text(path: Path) -> None:
    path.write_text("This is no database.\n" * 100)


def _write_zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("damage", [_empty, _cut, _overwrite, _write_text, _write_zeros])
def test_a_damaged_store_is_reported_and_not_changed(
    store: str, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    database = tmp_path / "mlflow.db"
    damage(database)
    before = database.read_bytes()
    with pytest.raises(StoreError, match="Restore it from a copy") as raised:
        reachability.require_reachable()
    assert store in str(raised.value)
    with pytest.raises(StoreError, match="Restore it from a copy"):
        relocate(database)
    assert database.read_bytes() == before


@pytest.mark.usefixtures("store")
def test_a_folder_in_place_of_a_store_is_reported(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").unlink()
    (tmp_path / "mlflow.db").mkdir()
    with pytest.raises(StoreError, match="found a folder"):
        reachability.require_reachable()


def test_a_sound_store_and_one_that_is_not_there_are_no_damage(empty_database: Path, tmp_path: Path) -> None:
    assert not sqlite_store.damage_of(empty_database)
    assert not sqlite_store.damage_of(tmp_path / "none.db")


SECRET = "zq7SECRETzq"  # noqa: S105 what must not be found


@pytest.mark.parametrize(
    "text",
    [
        f"https://h/x?api-key={SECRET}&a=1",
        f"https://h/x?auth={SECRET}",
        f"https://h/x?sig={SECRET}",
        f"https://h/x?X-Amz-Signature={SECRET}",
        f"https://h/#token={SECRET}",
        f"http%3A%2F%2Fu%3A{SECRET}%40h%2Fx",
        f"x%3Ftoken%3D{SECRET}%26a%3D1",
        f"{{'password': '{SECRET}', 'user': 'u'}}",
        f"/home/postgresql+psycopg:/u:{SECRET}@h/db",
    ],
)
def test_a_secret_is_masked_wherever_a_url_is_written(text: str) -> None:
    assert SECRET not in masked(text)


URLS = [
    f"postgresql+psycopg://u:{SECRET}@127.0.0.1:9/db",
    f"postgresql+psycopg://127.0.0.1:{SECRET}",
    f"nosuch://u:{SECRET}@h/x",
]
RUN_WITH_EACH = """
import os, runpy, sys
module, given, urls = sys.argv[1], sys.argv[2].split(), sys.argv[3:]
for url in urls:
    os.environ["MLFLOW_TRACKING_URI"] = url
    sys.argv[1:] = [*given, url] if given else []
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        print("ended with", ended.code)
"""


@pytest.mark.parametrize(
    "command",
    [
        "serving.inference_log.ground_truth none.csv --log",
        "steps.aquisicao --source",
        "serving.client none.csv --out o.csv --endpoint",
        "monitor.retraining.history",
    ],
)
def test_no_command_prints_a_password_of_a_url(command: str, tmp_path: Path, shots: pd.DataFrame) -> None:
    shots.head(3).to_csv(tmp_path / "none.csv", index=False)
    module, _, arguments = command.partition(" ")
    done = run(
        [sys.executable, "-c", RUN_WITH_EACH, module, arguments, *URLS],
        cwd=tmp_path,
        env=environment() | {"PGCONNECT_TIMEOUT": "1", "PYTHONPATH": str(ROOT)},
    )
    codes = re.findall(r"ended with (\d+)", done.stdout)
    assert len(codes) == len(URLS), done.stderr
    assert set(codes) <= {"1", "2"}
    assert SECRET not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_traceback_and_a_log_of_an_error_hold_no_password(caplog: pytest.LogCaptureFixture) -> None:
    program = (
        "from data.masking import mask_tracebacks; mask_tracebacks(); "
        "import threading; url = 'http://u:' + 'zq7SECRET' + 'zq@h'; "
        "t = threading.Thread(target=lambda: [][url]); t.start(); t.join(); raise ValueError(url)"
    )
    done = run([sys.executable, "-c", program], env=environment())
    assert "ValueError: http://u:***@h" in done.stderr
    assert SECRET not in done.stderr
    mask_log_records()
    try:
        raise ValueError(f"http://u:{SECRET}@h")  # noqa: EM102, TRY301 as a library raises it
    except ValueError:
        logging.getLogger("tests").exception("failed")
    assert "http://u:***@h" in caplog.text
    assert SECRET not in caplog.text
