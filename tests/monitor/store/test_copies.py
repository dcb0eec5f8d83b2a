"""Copies of artifacts do not fill a small temporary folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from data.paths import ROOT
from data.storage.scratch import scratch
from monitor.store.copies import Copies
from tests.project import environment


def artifact(size: int) -> object:
    """Downloads so many bytes."""

    def download(path: str, folder: str) -> str:
        target = Path(folder, path)
        target.parent.mkdir(parents=True)
        target.write_bytes(b"x" * size)
        return str(target)

    return download


def fail(path: str, folder: str) -> str:
    Path(folder, "half").write_bytes(b"x")
    raise OSError(path)


def held(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_the_least_recently_used_copies_make_room(tmp_path: Path) -> None:
    copies = Copies(tmp_path, max_bytes=250)
    download = artifact(100)
    assert callable(download)
    first = copies.get("run", "tables/a", download)
    second = copies.get("run", "tables/b", download)
    assert copies.get("run", "tables/a", fail) == first
    third = copies.get("run", "tables/c", download)
    assert (first.exists(), second.exists(), third.exists()) == (True, False, True)
    assert held(tmp_path) == 200
    assert len(list(tmp_path.iterdir())) == 2
    assert copies.get("run", "tables/b", download).exists()


def test_the_last_copy_is_there_however_large(tmp_path: Path) -> None:
    copies = Copies(tmp_path, max_bytes=10)
    download = artifact(100)
    assert callable(download)
    copies.get("run", "a/b", download)
    assert copies.get("another", "a/b", download).exists()
    assert held(tmp_path) == 100


def test_a_download_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="tables/a"):
        Copies(tmp_path).get("run", "tables/a", fail)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next_and_what_a_living_one_holds_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left = "import os; from data.storage.scratch import scratch; s = scratch('copies'); s.__enter__(); os._exit(9)"
    subprocess.run([sys.executable, "-c", left], cwd=ROOT, env=environment() | {"TMPDIR": str(tmp_path)}, check=False)
    (base,) = tmp_path.iterdir()
    assert len(list(base.glob("copies-*"))) == 1
    with scratch("copies") as mine:
        assert list(base.glob("copies-*")) == [mine]
        with scratch("copies") as other:
            assert mine.exists()
            assert other.stat().st_mode & 0o777 == 0o700
    assert list(base.glob("copies-*")) == []
    assert (base.stat().st_mode & 0o777, base.stat().st_uid) == (0o700, os.getuid())


def test_a_folder_of_another_user_is_not_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / f"kobe_shot_{os.getuid()}").symlink_to(elsewhere)
    with scratch("copies") as mine:
        assert not mine.is_relative_to(elsewhere)
        assert list(elsewhere.iterdir()) == []
