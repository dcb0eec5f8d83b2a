"""Durations and peak memory of ``main`` and of its steps as project runs: ``make bench SOURCE=FOLDER``.

The variants run one after the other, each in a fresh copy of the tracked files with an empty tracking store.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from rich.table import Table

from bench.processes import CommandUsage, copy_project, measure_command
from data.cli.console import console, info

_STEPS = ("aquisicao", "preparacao", "treinamento", "aplicacao", "monitoramento", "relatorio")
_RUN_NAMES = ("Aquisicao", "PreparacaoDados", "Treinamento", "PipelineAplicacao", "Monitoramento", "Relatorio")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", default="auto", help="source of the raw files, as in aquisicao")
    source = parser.parse_args().source
    source = str(Path(source).resolve()) if Path(source).exists() else source
    with tempfile.TemporaryDirectory() as folder:
        info("Measuring", "mlflow run . -e main")
        copy = copy_project(Path(folder) / "main")
        total = _project_run(copy, "main", source)
        stages = _stage_seconds(copy)
        info("Measuring", "the steps as project runs")
        copy = copy_project(Path(folder) / "steps")
        separate = [_project_run(copy, step, source if step == "aquisicao" else "") for step in _STEPS]
    table = Table("", "main, s", "as project runs, s")
    for name, run_name, step_alone in zip(_STEPS, _RUN_NAMES, separate, strict=True):
        table.add_row(name, f"{stages[run_name]:.1f}", f"{step_alone.seconds:.1f}")
    table.add_row("mlflow run, imports, summary", f"{total.seconds - sum(stages.values()):.1f}", "included")
    table.add_row("whole", f"{total.seconds:.1f}", f"{sum(step.seconds for step in separate):.1f}", style="bold")
    table.add_row(
        "peak memory of all processes, MiB",
        f"{total.tree_mebibytes:.0f}",
        f"{max(s.tree_mebibytes for s in separate):.0f}",
    )
    table.add_row(
        "peak memory of the largest, MiB",
        f"{total.largest_mebibytes:.0f}",
        f"{max(s.largest_mebibytes for s in separate):.0f}",
    )
    console.print(table)


def _project_run(folder: Path, step: str, source: str) -> CommandUsage:
    parameters = ["-P", f"source={source}"] if source else []
    return measure_command(["mlflow", "run", ".", "--env-manager", "local", "-e", step, *parameters], folder)


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
