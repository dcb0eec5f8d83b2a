"""Duration and peak memory of commands in a copy of the project."""

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.table import Table

from data.cli.console import console, error, info
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


@dataclass(frozen=True)
class Trial:
    """Duration and memory of an engine on a table.

    Attributes
    ----------
    rows : int
    seconds : float
        Seconds of the work, without the start of Python, imports and loading the model.
    command_seconds : float
        Seconds of the command, from its start to its exit.
    mebibytes : float
        Peak memory of all its processes, with shared pages counted once; for a cluster, with the workers and their
        executors.
    """

    rows: int
    seconds: float
    command_seconds: float
    mebibytes: float


def measure_in_turns(measures: Mapping[str, Callable[[], Trial]], rows: int, repeats: int) -> dict[str, Trial]:
    """Measure each in turns.

    Returns
    -------
    dict of str to Trial
        The fastest of each by name. One that fails is reported and excluded.
    """
    found: dict[str, Trial] = {}
    for _ in range(repeats):
        for name, measure in measures.items():
            info("Measuring", f"{name}, {rows:,} rows")
            try:
                trial = measure()
            except SystemExit as failure:
                error(f"{name}, {rows:,} rows:", failure)
                continue
            info("  ", f"{trial.rows / trial.seconds:,.0f} rows/s, {trial.mebibytes:,.0f} MiB", style="")
            found[name] = min(trial, found.get(name, trial), key=lambda each: each.seconds)
    return found


def print_trials(trials: Mapping[tuple[str, int], Trial]) -> None:
    """Print the trials of each engine by the number of rows."""
    table = Table("engine", "rows", "rows/s", "seconds", "whole command, s", "peak memory, MiB")
    names = dict.fromkeys(name for name, _ in trials)
    for name, size in sorted(trials, key=lambda each: (list(names).index(each[0]), each[1])):
        trial = trials[name, size]
        table.add_row(
            name, f"{size:,}", f"{size / trial.seconds:,.0f}", f"{trial.seconds:.2f}",
            f"{trial.command_seconds:.1f}", f"{trial.mebibytes:,.0f}",
        )  # fmt: skip
    console.print(table)


def copy_project(target: Path, source: Path = ROOT) -> Path:
    """Copy the tracked files of a checkout, by default of this project, to a folder."""
    tracked = subprocess.run(
        ["git", "-C", str(source), "ls-files", "-z"], capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, tracked.split("\0")):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)
    return target


def python_of(checkout: Path) -> str:
    """Path of the Python of a checkout: that of its ``.venv``, or else the one that runs this."""
    own = checkout / ".venv" / "bin" / "python"
    return str(own) if own.exists() else sys.executable


def measure_command(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    others: Callable[[], list[psutil.Process]] = list,
) -> CommandUsage:
    """Run a command and measure it.

    Parameters
    ----------
    command : sequence of str
    folder : pathlib.Path
        Working directory.
    environment : mapping of str to str, optional
        Environment variables; those of this process by default.
    others : callable
        Gives processes that the command does not start, whose memory counts too.

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
    sampler = threading.Thread(target=_sample, args=(process.pid, others, samples, done))
    sampler.start()
    output, errors = process.communicate()
    seconds = time.perf_counter() - started
    done.set()
    sampler.join()
    if process.returncode:
        message = f"{' '.join(command)} failed:\n{errors}"
        raise SystemExit(message)
    return CommandUsage(seconds, max(tree for tree, _ in samples), max(largest for _, largest in samples), output)


def _sample(
    parent: int,
    others: Callable[[], list[psutil.Process]],
    samples: list[tuple[float, float]],
    done: threading.Event,
) -> None:
    while not done.wait(_SAMPLE_SECONDS):
        tree, largest = 0.0, 0.0
        for process in (*process_tree(parent), *others()):
            try:
                tree += getattr(process.memory_full_info(), "pss", process.memory_info().rss) / _MEBIBYTE
                largest = max(largest, process.memory_info().rss / _MEBIBYTE)
            except psutil.Error:
                continue
        samples.append((tree, largest))


def process_tree(pid: int) -> list[psutil.Process]:
    """A process and its descendants; none where it has ended."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []
