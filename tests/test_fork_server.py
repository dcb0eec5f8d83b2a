"""A forked command ends as one that an interpreter runs."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import fork_server
from tests.project import environment

ENDINGS = {
    "of itself": "print('end')",
    "with a code": "import sys; sys.exit(3)",
    "with words": "import sys; sys.exit('words')",
    "with an exception": "raise ValueError('no')",
    # A signal would be ignored where the tests run in the background of a shell.
    "interrupted": "raise KeyboardInterrupt",
    "after its threads and what it registered": (
        "import atexit, threading; atexit.register(print, 'last'); gate = threading.Event()\n"
        "threading.Thread(target=lambda: (gate.wait(), print('thread'))).start(); print('main'); gate.set()"
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_fork_ends_as_an_interpreter_does(tmp_path: Path, ending: str) -> None:
    (tmp_path / "ending.py").write_text(ENDINGS[ending], encoding="utf-8")
    ended = []
    for start in (fork_server.start, fork_server.start_interpreter):
        command = [sys.executable, "-m", "ending"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = start(command, cwd=tmp_path, env=environment(), text=True, **pipes)
        output, errors = process.communicate(timeout=60)
        ended.append((process.returncode, output, errors.splitlines()[-1:]))
    assert ended[0] == ended[1]


def test_forked_code_imports_from_its_folder_and_reads_its_input(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("import sys; word = sys.stdin.read()", encoding="utf-8")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = fork_server.start_code(
        "import own; print(own.word); raise SystemExit(3)", cwd=tmp_path, env=environment(), text=True, **pipes
    )
    assert (*process.communicate("a word", timeout=60), process.returncode) == ("a word\n", None, 3)
