"""Stage times and peak memory of ``main``, beside the same steps as project runs: ``make bench SOURCE=FOLDER``.

Each variant runs in a fresh copy of the tracked files, with an empty tracking store, one after the other.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from rich.table import Table

from bench.processes import Measured, copied, measured
from data.cli.console import console, info

_STEPS = ("aquisicao", "preparacao", "treinamento", "aplicacao", "monitoramento", "relatorio")
_RUN_NAMES = ("Aquisicao", "PreparacaoDados", "Treinamento", "PipelineAplicacao", "Monitoramento", "Relatorio")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", default="auto", help="source of the raw files, as of aquisicao")
    source = parser.parse_args().source
    source = str(Path(source).resolve()) if Path(source).exists() else source
    with tempfile.TemporaryDirectory() as folder:
        info("Measuring", "mlflow run . -e main")
        copy = copied(Path(folder) / "main")
        whole = _project_run(copy, "main", source)
        stages = _stage_seconds(copy)
        info("Measuring", "the steps as project runs")
        copy = copied(Path(folder) / "steps")
        apart = [_project_run(copy, step, source if step == "aquisicao" else "") for step in _STEPS]
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


def _project_run(folder: Path, step: str, source: str) -> Measured:
    parameters = ["-P", f"source={source}"] if source else []
    return measured(["mlflow", "run", ".", "--env-manager", "local", "-e", step, *parameters], folder)


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
