import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from data.errors import KobeShotError
from data.paths import ROOT
from data.storage.files import atomic_write, sha256, write_text
from data.storage.locks import AlreadyRunningError, single_instance, writer_lock


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "table.txt"
    write_text("old", target)

    def fail() -> None:
        with atomic_write(target) as partial:
            partial.write_text("half")
            message = "disk full"
            raise OSError(message)

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["table.txt"]


@contextmanager
def writing_elsewhere(target: Path, what: str = "partial.write_text('half')") -> "Iterator[subprocess.Popen[str]]":
    """Another process that writes a file or a folder until its standard input ends."""
    code = (
        "import pathlib, sys\nfrom data.storage.files import atomic_write\n"
        f"with atomic_write(pathlib.Path({str(target)!r})) as partial:\n"
        f"    {what}\n    print('in', flush=True)\n    sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("what", ["partial.write_text('half')", "(partial / 'below').mkdir(parents=True)"])
def test_partial_files_of_a_killed_process_are_removed(tmp_path: Path, what: str) -> None:
    (tmp_path / "raw").mkdir()
    with writing_elsewhere(tmp_path / "raw" / "table.parquet", what):
        assert len(list((tmp_path / "raw").iterdir())) == 1
    with writer_lock(tmp_path):
        assert list((tmp_path / "raw").iterdir()) == []


def test_files_of_a_running_writer_are_not_removed(tmp_path: Path) -> None:
    target = tmp_path / "processed" / "predictions.csv"
    with writing_elsewhere(target) as process:
        with writer_lock(tmp_path):
            pass
        process.communicate()
        assert process.returncode == 0
    assert target.read_text() == "half"
    assert [path.name for path in target.parent.iterdir()] == ["predictions.csv"]


def test_unknown_hidden_folders_are_not_removed(tmp_path: Path) -> None:
    theirs = tmp_path / ".download.partial"
    theirs.mkdir()
    (theirs / "half").write_text("of another program")
    with writer_lock(tmp_path):
        assert (theirs / "half").exists()


def test_of_two_concurrent_writers_the_last_one_wins(tmp_path: Path) -> None:
    target = tmp_path / "table.txt"
    with writing_elsewhere(target) as process:
        with atomic_write(target) as partial:
            partial.write_text("whole")
        assert target.read_text() == "whole"
        process.communicate()
    assert target.read_text() == "half"
    assert [path.name for path in tmp_path.iterdir()] == ["table.txt"]


def test_many_writers_of_one_folder_leave_one_complete_table(tmp_path: Path) -> None:
    target = tmp_path / "table.parquet"

    def write(writer: int) -> None:
        for _ in range(20):
            with atomic_write(target) as partial:
                partial.mkdir()
                for part in range(3):
                    (partial / f"{part}.parquet").write_text(str(writer))

    with ThreadPoolExecutor(4) as writers:
        list(writers.map(write, range(4)))
    assert len({path.read_text() for path in target.iterdir()}) == 1
    assert len(list(target.iterdir())) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["table.parquet"]


def test_a_second_writer_waits_reports_it_and_times_out(tmp_path: Path) -> None:
    messages: list[str] = []

    def second() -> None:
        with writer_lock(tmp_path, limit_seconds=0.3, on_wait=messages.append):
            pytest.fail("two writers at once")

    with writer_lock(tmp_path), pytest.raises(KobeShotError, match="Already running: writing to"):
        second()
    assert len(messages) == 1


def test_a_killed_writer_releases_its_lock(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys\nfrom data.storage.locks import writer_lock\n"
        f"with writer_lock(pathlib.Path({str(tmp_path)!r})):\n    print('in', flush=True)\n    sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        process.kill()
    with writer_lock(tmp_path, limit_seconds=5):
        pass


def test_sha256_is_the_hash_of_the_bytes(tmp_path: Path) -> None:
    write_text("abc", tmp_path / "a")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# Single instance


@pytest.fixture
def key(tmp_path: Path) -> str:
    """A key that no other test uses."""
    return str(tmp_path)


def run_twice(what: str, key: str, other_what: str = "", other_key: str = "") -> None:
    with single_instance(what, key), single_instance(other_what or what, other_key or key):
        pass


def test_a_second_process_raises_at_once_and_names_the_first(key: str) -> None:
    with pytest.raises(
        AlreadyRunningError, match=rf"Already running: retreino, by process {os.getpid()} in .*since 20"
    ):
        run_twice("retreino", key)


def test_other_operations_and_other_keys_run_concurrently(key: str) -> None:
    run_twice("retreino", key, other_what="operacao")
    run_twice("retreino", key, other_key=f"{key} another")


def test_the_lock_is_released_on_success_and_on_failure(key: str) -> None:
    with single_instance("retreino", key):
        pass
    with pytest.raises(KeyError), single_instance("retreino", key):
        raise KeyError
    with single_instance("retreino", key):
        pass


def test_a_rejected_process_does_not_take_the_lock(key: str) -> None:
    with single_instance("retreino", key):
        for _ in range(2):
            with pytest.raises(AlreadyRunningError, match=f"process {os.getpid()} "):
                run_twice("retreino", key)


def test_locks_are_in_a_private_folder(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with single_instance("retreino", key):
        (lock,) = (path for path in tmp_path.rglob("*") if path.is_file())
        assert lock.parent.stat().st_mode & 0o777 == 0o700
        assert lock.stat().st_mode & 0o777 == 0o600


def test_a_lock_folder_of_another_user_is_rejected(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "kobe_shot").mkdir()
    (tmp_path / "kobe_shot" / "locks").symlink_to(elsewhere)
    with pytest.raises(KobeShotError, match="found a link"), single_instance("retreino", key):
        pytest.fail("the lock was taken")
    assert list(elsewhere.iterdir()) == []


@contextmanager
def held_elsewhere(key: str, folder: Path) -> "Iterator[subprocess.Popen[str]]":
    """Another process, in another folder, that holds the lock."""
    code = (
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom data.storage.locks import single_instance\n"
        f"with single_instance('retreino', {key!r}):\n    print('in', flush=True)\n    sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        yield process
        process.kill()


def test_the_lock_holds_across_folders_until_its_process_is_killed(key: str, tmp_path: Path) -> None:
    with (
        held_elsewhere(key, tmp_path) as process,
        pytest.raises(AlreadyRunningError, match=f"process {process.pid} in {tmp_path}"),
    ):
        run_twice("retreino", key)
    with single_instance("retreino", key), pytest.raises(AlreadyRunningError, match=f"process {os.getpid()} "):
        run_twice("retreino", key)
