import subprocess
import sys
from pathlib import Path

import pytest

from data.errors import KobeShotError
from data.files import ROOT, replacing, sha256, sole_writer, write_text


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "table.txt"
    write_text("old", target)

    def fail() -> None:
        with replacing(target) as partial:
            partial.write_text("half")
            message = "disk full"
            raise OSError(message)

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["table.txt"]


def test_what_a_killed_process_left_half_written_is_cleared(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / ".table.parquet.partial").write_text("half")
    (tmp_path / "raw" / ".stage.partial").mkdir()
    (tmp_path / "raw" / ".stage.partial" / ".table.partial").write_text("half")
    with sole_writer(tmp_path):
        assert list((tmp_path / "raw").iterdir()) == []


def test_a_second_writer_waits_says_so_and_gives_up_at_its_limit(tmp_path: Path) -> None:
    said: list[str] = []

    def second() -> None:
        with sole_writer(tmp_path, limit_seconds=0.3, on_wait=said.append):
            pytest.fail("two writers at once")

    with sole_writer(tmp_path), pytest.raises(KobeShotError, match="still writing"):
        second()
    assert len(said) == 1


def test_the_place_of_a_killed_writer_is_free(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys\nfrom data.files import sole_writer\n"
        f"with sole_writer(pathlib.Path({str(tmp_path)!r})):\n    print('in', flush=True)\n    sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        process.kill()
    with sole_writer(tmp_path, limit_seconds=5):
        pass


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    write_text("abc", tmp_path / "a")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
