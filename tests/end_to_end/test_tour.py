"""The tour, word by word, in a fresh copy of the project.

Each block of commands is run, and what the block of text under it shows has to be printed. Compared are lines without
MLflow's messages, which start with a date. In a line, the number of a run, a time, seconds, rows/s, the project's
folder and the width of a table may differ; integers are equal, and floats to the fourth decimal. ``…``
stands for any lines. A command of another terminal runs in the background, and has to respond at its port.
A block with a placeholder URL is not run, for a copy has none.
"""

import difflib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import requests

from data.paths import ROOT
from tests.pages import Block, Page
from tests.project import completed, copy_project, environment, free_port, wait_until
from tests.shell_commands import outside_make

TOUR = Page(ROOT / "docs" / "tour.md")
FOLDER, NAME = "/home/ana/kobe_shot", "ana"
"""Where, and by whom, the tour was made."""

_ELSEWHERE = re.compile(r"In (a second|another) terminal:$")
_ELLIPSIS = "…"
_MESSAGE = re.compile(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d ")
_DIFFERENT = (
    (r"\b[0-9a-f]{32}\b", "RUN"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?", "TIME"),
    (r"[\d.,]+ s\b", "SECONDS"),
    (r"[\d,]+( rows)?/s", "SPEED"),
    (r"[ ─━]+", " "),
)
_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?")
_DECIMALS = 4


class Walk:
    """A reader who runs the commands of the tour."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {port: str(free_port()) for port in re.findall(r"PORT=(\d+)", TOUR.text)}
        self.servers: list[tuple[str, subprocess.Popen[bytes], Path]] = []

    def with_ports(self, text: str) -> str:
        """The text for ports that are free here."""
        for port, free in self.ports.items():
            text = re.sub(rf"\b{port}\b", free, text)
        return text

    def start(self, script: str) -> Path:
        """Run a server; where it prints."""
        script = self.with_ports(script)
        output = self.folder.parent / f"{len(self.servers)}.txt"
        with output.open("wb") as printed:
            process = subprocess.Popen(
                ["sh", "-c", script],
                cwd=self.folder,
                env=self._environment(),
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        url = f"http://127.0.0.1:{re.findall(r'PORT=([0-9]+)', script)[0]}"
        self.servers.append((url, process, output))
        return output

    def run(self, script: str) -> str:
        """Run commands to their end; what they print."""
        done = subprocess.run(
            ["sh", "-e", "-c", self.with_ports(script)],
            cwd=self.folder,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}"
        return done.stdout

    def end(self) -> None:
        """Type Ctrl-C in every terminal."""
        for _, process, _ in self.servers:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
        for _, process, _ in self.servers:
            try:
                completed(process)
            except TimeoutError:
                os.killpg(process.pid, signal.SIGKILL)

    def _environment(self) -> dict[str, str]:
        # One worker of MLflow's UI, and no runners of its jobs, are enough for one reader on a machine that also tests.
        few = {"MLFLOW_WORKERS": "1", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        return outside_make(environment()) | {"LOGNAME": NAME} | few


@pytest.mark.slow
def test_who_follows_the_tour_word_by_word_gets_what_it_shows(tmp_path: Path) -> None:
    walk = Walk(copy_with_environment(tmp_path / "kobe_shot"))
    try:
        for block, shown in steps():
            if "REPOSITORY_URL" in block.text:
                continue
            if _ELSEWHERE.search(block.before):
                output = walk.start(block.text)
                if shown:
                    wait_until(partial(is_printed, shown, output, walk), f"{block.text} to print: {shown}")
            elif block.text.startswith("curl"):
                # A server reloads the champion within seconds.
                wait_until(partial(is_returned, shown, block.text, walk), f"{block.text} to return: {shown}")
            else:
                assert_shown(shown, walk.run(block.text), walk)
        for url, _, output in walk.servers:
            wait_until(partial(responds, url), f"a response at {url}: {output.read_text()}")
    finally:
        walk.end()


def copy_with_environment(folder: Path) -> Path:
    """A copy of the project, as if ``make env`` had been run in it."""
    folder.mkdir()
    copy_project(folder)
    (folder / ".venv").mkdir()
    for part in Path(sys.prefix).iterdir():
        if not part.name.startswith(".ready"):
            (folder / ".venv" / part.name).symlink_to(part)
    (folder / ".venv" / ".ready").touch()
    return folder


def steps() -> Iterator[tuple[Block, str]]:
    """Each block of commands, and what is shown under it."""
    blocks = [block for block in TOUR.blocks if block.language in {"sh", "text"}]
    for block, below in zip(blocks, [*blocks[1:], blocks[0]], strict=True):
        if block.language == "sh":
            yield block, below.text if below.language == "text" and not below.before else ""


def responds(url: str) -> bool:
    """Whether a server responds there, with whatever status."""
    with suppress(requests.RequestException):
        requests.get(url, timeout=5)
        return True
    return False


def is_printed(shown: str, output: Path, walk: Walk) -> bool:
    """Whether a server has printed what the tour shows."""
    return is_shown(shown, output.read_text(), walk)


def is_returned(shown: str, script: str, walk: Walk) -> bool:
    """Whether commands print what the tour shows."""
    return is_shown(shown, walk.run(script), walk)


def assert_shown(shown: str, printed: str, walk: Walk) -> None:
    """Fail with the difference unless what the tour shows was printed."""
    if not is_shown(shown, printed, walk):
        difference = difflib.unified_diff(
            shown.splitlines(), lines_of(printed, walk), "the tour", "printed", lineterm=""
        )
        pytest.fail("\n".join(difference))


def is_shown(shown: str, printed: str, walk: Walk) -> bool:
    """Whether the parts of a block were printed, in their order."""
    found, place = lines_of(printed, walk), 0
    for part in re.split(rf"^{_ELLIPSIS}$", shown, flags=re.MULTILINE):
        wanted = [line for line in walk.with_ports(part).splitlines() if line.strip()]
        starts = range(place, len(found) - len(wanted) + 1)
        place = next((at for at in starts if all(map(alike, wanted, found[at:]))), -1) + len(wanted)
        if place < len(wanted):
            return False
    return True


def lines_of(printed: str, walk: Walk) -> list[str]:
    """What was printed, without MLflow's messages."""
    lines = printed.replace(str(walk.folder), FOLDER).splitlines()
    return [line for line in lines if line.strip() and not _MESSAGE.match(line)]


def alike(shown: str, printed: str) -> bool:
    """Whether two lines are equal, but for what differs by machine."""
    for pattern, name in _DIFFERENT:
        shown, printed = re.sub(pattern, name, shown).strip(), re.sub(pattern, name, printed).strip()
    numbers = zip(_NUMBER.findall(shown), _NUMBER.findall(printed), strict=False)
    return _NUMBER.sub("#", shown) == _NUMBER.sub("#", printed) and all(close(*pair) for pair in numbers)


def close(shown: str, printed: str) -> bool:
    """Whether two numbers are equal, or differ by one in the last of their decimals, or in the fourth."""
    decimals = len(shown.partition(".")[2])
    if not decimals:
        return shown == printed
    difference = float(shown.replace(",", "")) - float(printed.replace(",", ""))
    return abs(difference) < 1.5 * 0.1 ** min(decimals, _DECIMALS)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("a log loss of 0.6749", "a log loss of 0.6750"),
        ("│ run │ 165df8efa2bb4186aa48a3271bafb208   │", "│ run │ 00000000000000000000000000000000 │"),
        ("6,380 in 0.1 s, 70,977 rows/s", "6,380 in 12.5 s, 512 rows/s"),
        ("2026-11-22 19:32:09 promoted", "2027-01-01 00:00:00 promoted"),
    ],
)
def test_what_is_different_on_each_machine_is_no_difference(shown: str, printed: str) -> None:
    assert alike(shown, printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("a log loss of 0.6749", "a log loss of 0.6752"),
        ("6,380 rows", "6,381 rows"),
        ("version 1", "version 2"),
        ("2007-03-13 to 2008-01-12", "2007-03-13 to 2008-01-13"),
        ("promoted", "refused"),
    ],
)
def test_another_figure_or_word_is_a_difference(shown: str, printed: str) -> None:
    assert not alike(shown, printed)


def test_every_block_of_output_follows_commands_and_is_compared() -> None:
    compared = [shown for _, shown in steps() if shown]
    assert compared == [block.text for block in TOUR.blocks if block.language == "text"]
