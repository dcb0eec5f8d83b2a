"""Locks that another account holds, or replaces with a link: rejected, and no file is written through the link."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pytest

from data.errors import KobeShotError
from data.paths import ROOT
from data.storage.locks import AlreadyRunningError, hold_lock, private_folder, single_instance, writer_lock
from serving.registry.store import plain_store

NOBODY = 65_534
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may act as another account")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state folder of this test, which another account may enter."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to(tempfile.gettempdir()) and folder != Path(tempfile.gettempdir()):
            folder.chmod(0o755)
    return tmp_path


def as_no_process(code: str, *arguments: Path) -> "subprocess.CompletedProcess[str]":
    """Run some Python as another account; as the system's Python, which that one can read."""
    return subprocess.run(
        ["setpriv", f"--reuid={NOBODY}", "--clear-groups", "/usr/bin/python3", "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )


@contextmanager
def another_holder(path: Path) -> Iterator[int]:
    """Another process of this account that holds a lock; its number."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom pathlib import Path\nfrom data.storage.locks "
        f"import hold_lock\n"
        f"with hold_lock(Path({str(path)!r}), 'a test', 0):\n    print('in', flush=True)\n    sys.stdin.read()"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        yield process.pid
        process.kill()


@as_root
def test_another_account_can_neither_open_nor_hold_a_lock(state: Path) -> None:
    take = "import fcntl, os, sys\nfcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    with single_instance("retreino", "key"), writer_lock(state):
        pass
    locks = [*private_folder().iterdir(), state / ".lock"]
    assert len(locks) == 2
    # Another account comes as far as a file that everybody may read.
    (state / "readable").touch(mode=0o644)
    assert not as_no_process(take, state / "readable").returncode
    for lock in locks:
        tried = as_no_process(take, lock)
        assert tried.returncode, lock
        assert "PermissionError" in tried.stderr, tried.stderr


@as_root
def test_a_lock_that_another_account_has_made_is_rejected_with_a_message(state: Path) -> None:
    (state / ".lock").touch(mode=0o666)
    shutil.chown(state / ".lock", NOBODY)
    with (state / ".lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with (
            pytest.raises(
                KobeShotError, match=r"found another account's \(owner 65534\)\. Remove it, and run the command again"
            ),
            writer_lock(state, limit_seconds=0),
        ):
            pytest.fail("the lock was taken")


@as_root
def test_a_folder_of_locks_that_another_account_has_made_is_rejected_with_a_message(state: Path) -> None:
    (state / "kobe_shot").mkdir(mode=0o777)
    shutil.chown(state / "kobe_shot", NOBODY)
    with pytest.raises(KobeShotError, match="found another account's"), single_instance("retreino", "key"):
        pytest.fail("the lock was taken")


@pytest.mark.parametrize("mode", [0o644, 0o666])
def test_the_tracking_store_is_this_accounts_alone(tmp_path: Path, empty_database: Path, mode: int) -> None:
    database = Path(shutil.copy(empty_database, tmp_path / "mlflow.db"))
    database.chmod(mode)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{database}")
    try:
        with plain_store():
            assert database.stat().st_mode & 0o777 == 0o600
    finally:
        mlflow.set_tracking_uri(before)


@pytest.mark.parametrize("dangling", [False, True])
def test_nothing_is_written_through_a_link_in_place_of_a_lock(state: Path, *, dangling: bool) -> None:
    precious = state / "precious"
    if not dangling:
        precious.write_text("precious")
    for lock in (state / ".lock", state / "schedule.lock"):
        lock.symlink_to(precious)
    with pytest.raises(KobeShotError, match="found a link"), writer_lock(state, limit_seconds=0):
        pytest.fail("the lock was taken")
    with pytest.raises(KobeShotError, match="found a link"), hold_lock(state / "schedule.lock", "a test", 0):
        pytest.fail("the lock was taken")
    assert precious.exists() != dangling
    assert dangling or precious.read_text() == "precious"


@pytest.mark.parametrize("kind", ["fifo", "folder"])
def test_what_is_no_file_in_place_of_a_lock_is_refused_at_once(state: Path, kind: str) -> None:
    (os.mkfifo if kind == "fifo" else os.mkdir)(state / ".lock")
    with pytest.raises(KobeShotError, match="to be a file of this account"), writer_lock(state, limit_seconds=0):
        pytest.fail("the lock was taken")


def test_locks_that_others_could_open_are_narrowed_whatever_the_umask(state: Path) -> None:
    (state / ".lock").touch()
    (state / ".lock").chmod(0o666)
    (state / "kobe_shot" / "locks").mkdir(parents=True)
    (state / "kobe_shot" / "locks").chmod(0o777)
    before = os.umask(0)
    try:
        with writer_lock(state), single_instance("retreino", "key"):
            found = {path: path.stat().st_mode & 0o777 for path in state.rglob("*lock*")}
    finally:
        os.umask(before)
    assert {oct(mode) for path, mode in found.items() if path.is_file()} == {"0o600"}
    assert {oct(mode) for path, mode in found.items() if path.is_dir()} == {"0o700"}


def test_the_end_of_a_wait_reports_who_holds_the_lock_and_the_remedy(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOBE_LOCK_WAIT_SECONDS", "0.1")
    with another_holder(state / "one.lock") as holder:
        words = (
            rf"process {holder} in .*, after a wait of 0\.1 s\. "
            ".*Wait until it ends, or stop it, and run the command again"
        )
        with pytest.raises(AlreadyRunningError, match=words), hold_lock(state / "one.lock", "a test", 600):
            pytest.fail("the lock was taken")


@pytest.mark.parametrize("wrong", ["soon", "-1", "nan", "inf"])
def test_a_wait_that_is_no_number_of_seconds_is_refused(
    state: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.setenv("KOBE_LOCK_WAIT_SECONDS", wrong)
    with pytest.raises(KobeShotError, match="expected a number of seconds"), hold_lock(state / "one.lock", "a test", 0):
        pytest.fail("the lock was taken")


def test_where_no_state_folder_can_be_made_the_one_of_the_session_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "runtime").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    assert private_folder() == tmp_path / "runtime" / "kobe_shot" / "locks"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    with pytest.raises(KobeShotError, match="Set XDG_STATE_HOME to a folder that you own"):
        private_folder()
