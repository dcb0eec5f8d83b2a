"""Duration and peak memory of commands in a copy of the project."""

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from data.paths import ROOT

_SAMPLE_SECONDS = 0.1
_MEBIBYTE = 2**20


@dataclass(frozen=True)
class CommandUsage:
    """Wall time and peak memory of a command and its descendants.

    Attributes
    ----------
    seconds : float
        From start to exit.
    tree_mebibytes : float
        Highest sum over the process tree, pages shared between processes counted once (PSS); RSS if the system does not
        report PSS.
    largest_mebibytes : float
        Highest resident size of a single process.
    output : str
        Standard output of the command.
    """

    seconds: float
    tree_mebibytes: float
    largest_mebibytes: float
    output: str


def copy_project(target: Path) -> Path:
    """Copy the tracked files of this project to a folder."""
    tracked = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, tracked.split("\0")):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target / name)
    return target


def python_of(checkout: Path) -> str:
    """Path of the Python of a checkout: that of its ``.venv``, or else the one that runs this."""
    own = checkout / ".venv" / "bin" / "python"
    return str(own) if own.exists() else sys.executable


def measure_command(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> CommandUsage:
    """Run a command and measure it.

    Parameters
    ----------
    command : sequence of str
    folder : pathlib.Path
        Working directory.
    environment : mapping of str to str, optional
        Environment variables; those of this process by default.

    Raises
    ------
    SystemExit
        If the command fails, with its standard error.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        list(command), cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    samples = [(0.0, 0.0)]
    done = threading.Event()
    sampler = threading.Thread(target=_sample, args=(psutil.Process(process.pid), samples, done))
    sampler.start()
    output, errors = process.communicate()
    seconds = time.perf_counter() - started
    done.set()
    sampler.join()
    if process.returncode:
        message = f"{' '.join(command)} failed:\n{errors}"
        raise SystemExit(message)
    return CommandUsage(seconds, max(tree for tree, _ in samples), max(largest for _, largest in samples), output)


def _sample(parent: psutil.Process, samples: list[tuple[float, float]], done: threading.Event) -> None:
    while not done.wait(_SAMPLE_SECONDS):
        tree, largest = 0.0, 0.0
        for process in _process_tree(parent):
            try:
                tree += getattr(process.memory_full_info(), "pss", process.memory_info().rss) / _MEBIBYTE
                largest = max(largest, process.memory_info().rss / _MEBIBYTE)
            except psutil.Error:
                continue
        samples.append((tree, largest))


def _process_tree(parent: psutil.Process) -> list[psutil.Process]:
    try:
        return [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []
