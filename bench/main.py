"""Stage times and peak memory of ``main``, beside the same steps as project runs: ``make bench SOURCE=FOLDER``.

Each variant runs in a fresh copy of the tracked files, with an empty tracking store, one after the other.
"""

import argparse
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from mlflow import MlflowClient
from mlflow.entities import Run
from rich.table import Table

from data.console import console, say
from data.files import ROOT

_STEPS = ("aquisicao", "preparacao", "treinamento", "aplicacao", "monitoramento")
_RUN_NAMES = ("Aquisicao", "PreparacaoDados", "Treinamento", "PipelineAplicacao", "Monitoramento")
_SAMPLE_SECONDS = 0.1
_MEBIBYTE = 2**20


@dataclass(frozen=True)
class Measured:
    """Wall time and peak memory of a command and all its children.

    Attributes
    ----------
    seconds : float
        From start to exit.
    tree_mebibytes : float
        Highest sum over the process tree, pages shared between processes counted once (PSS); RSS where the system
        does not tell PSS.
    largest_mebibytes : float
        Highest resident size of a single process.
    """

    seconds: float
    tree_mebibytes: float
    largest_mebibytes: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", default="auto", help="source of the raw files, as of aquisicao")
    source = parser.parse_args().source
    source = str(Path(source).resolve()) if Path(source).exists() else source
    with tempfile.TemporaryDirectory() as folder:
        say("Measuring", "mlflow run . -e main")
        copy = _copy(Path(folder) / "main")
        whole = _measure(copy, ["main", "-P", f"source={source}"])
        stages = _stage_seconds(copy)
        say("Measuring", "the steps as project runs")
        copy = _copy(Path(folder) / "steps")
        apart = [
            _measure(copy, [step, *(["-P", f"source={source}"] if step == "aquisicao" else [])]) for step in _STEPS
        ]
    table = Table("", "main, s", "as project runs, s")
    for name, run_name, alone in zip(_STEPS, _RUN_NAMES, apart, strict=True):
        table.add_row(name, f"{stages[run_name]:.1f}", f"{alone.seconds:.1f}")
    table.add_row("mlflow run, imports, summary", f"{whole.seconds - sum(stages.values()):.1f}", "in the above")
    table.add_row("whole", f"{whole.seconds:.1f}", f"{sum(step.seconds for step in apart):.1f}", style="bold")
    table.add_row(
        "peak memory of all processes, MiB",
        f"{whole.tree_mebibytes:.0f}",
        f"{max(s.tree_mebibytes for s in apart):.0f}",
    )
    table.add_row(
        "peak memory of the largest, MiB",
        f"{whole.largest_mebibytes:.0f}",
        f"{max(s.largest_mebibytes for s in apart):.0f}",
    )
    console.print(table)


def _copy(target: Path) -> Path:
    tracked = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, tracked.split("\0")):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target / name)
    return target


def _measure(folder: Path, arguments: Sequence[str]) -> Measured:
    started = time.perf_counter()
    command = ["mlflow", "run", ".", "--env-manager", "local", "-e", *arguments]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    samples = [(0.0, 0.0)]
    done = threading.Event()
    sampler = threading.Thread(target=_sample, args=(psutil.Process(process.pid), samples, done))
    sampler.start()
    _, errors = process.communicate()
    seconds = time.perf_counter() - started
    done.set()
    sampler.join()
    if process.returncode:
        message = f"{' '.join(command)} failed:\n{errors}"
        raise SystemExit(message)
    return Measured(seconds, max(tree for tree, _ in samples), max(largest for _, largest in samples))


def _sample(parent: psutil.Process, samples: list[tuple[float, float]], done: threading.Event) -> None:
    while not done.wait(_SAMPLE_SECONDS):
        tree, largest = 0.0, 0.0
        for process in _family(parent):
            try:
                tree += getattr(process.memory_full_info(), "pss", process.memory_info().rss) / _MEBIBYTE
                largest = max(largest, process.memory_info().rss / _MEBIBYTE)
            except psutil.Error:
                continue
        samples.append((tree, largest))


def _family(parent: psutil.Process) -> list[psutil.Process]:
    try:
        return [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []


def _stage_seconds(folder: Path) -> dict[str, float]:
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs: Sequence[Run] = client.search_runs(experiments)
    return {
        str(run.info.run_name): (run.info.end_time - run.info.start_time) / 1000
        for run in runs
        if run.info.run_name in _RUN_NAMES
    }


if __name__ == "__main__":
    main()
