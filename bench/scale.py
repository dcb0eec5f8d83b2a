"""Throughput and peak memory of ``aplicacao`` on tables of any size: ``make bench-scale``.

One champion is trained in a fresh copy of the project. Each engine then scores the same tables of synthetic shots with
the user's command, one at a time: read, validate, predict, write. The seconds are from the opening of the table to the
final output, as the step logs them; they exclude the start of Python, imports and the loading of the model. Plain
pandas reads the whole table, validates the ranges, predicts with the same model and writes.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from mlflow import MlflowClient
from rich.table import Table

from bench.cluster import Cluster, cluster
from bench.processes import copy_project, measure_command
from data.cli.console import console, info
from data.cli.progress import progress_bar
from data.schema import FEATURES, GAME_DATE, RAW_COLUMN_NAMES, SHOT_ID, TARGET, feature_column
from data.simulation import synthetic
from data.storage.files import atomic_write, remove_path
from serving.model import model_files

_MILLION = 1_000_000
_PART_BLOCKS = 16
_ENGINES = ("pandas", "batch", "local[1]", "local[2]", "cluster")
_COLUMNS = [SHOT_ID, GAME_DATE, *(RAW_COLUMN_NAMES.get(name, name) for name in FEATURES), TARGET]


@dataclass(frozen=True)
class Trial:
    """Duration and memory of an engine on a table.

    Attributes
    ----------
    rows : int
    seconds : float
        Seconds from the opening of the table to the final output.
    command_seconds : float
        Seconds of the command, from its start to its exit.
    mebibytes : float
        Peak memory of all its processes, with shared pages counted once; for a cluster, plus the peak of the workers
        and their executors.
    """

    rows: int
    seconds: float
    command_seconds: float
    mebibytes: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millions", default="1,10,50", help="sizes of the tables, in millions of rows")
    parser.add_argument("--engines", default=",".join(_ENGINES), help=f"some of {', '.join(_ENGINES)}")
    parser.add_argument("--models", default="lr,dt", help="candidate models of the training, as in treinamento")
    parser.add_argument("--source", default="auto", help="source of the raw files of the training, as in aquisicao")
    parser.add_argument("--folder", type=Path, help="folder that keeps the tables; by default a temporary folder")
    parser.add_argument("--pandas", nargs=3, metavar=("TABLE", "OUT", "MODEL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.pandas:
        score_with_pandas(Path(options.pandas[0]), Path(options.pandas[1]), options.pandas[2])
        return
    sizes = [round(float(size) * _MILLION) for size in options.millions.split(",")]
    engines = options.engines.split(",")
    if unknown := set(engines) - set(_ENGINES):
        parser.error(f"expected engines of {', '.join(_ENGINES)}; found {', '.join(sorted(unknown))}")
    source = str(Path(options.source).resolve()) if Path(options.source).exists() else options.source
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.folder or Path(scratch) / "tables").resolve()
        tables = create_tables(folder, sizes)
        project = copy_project(Path(scratch) / "project")
        info("Training", f"a champion of {options.models}")
        training = ["--source", source, "--models", options.models]
        measure_command([sys.executable, "-m", "steps.main", *training], project, _environment())
        found: dict[tuple[str, int], Trial] = {}
        for size in sizes:
            for engine in engines:
                info("Measuring", f"{engine}, {size:,} rows")
                trial = _measure(engine, tables[size], size, project, Path(scratch))
                if trial:
                    found[engine, size] = trial
                    info("  ", f"{trial.rows / trial.seconds:,.0f} rows/s, {trial.mebibytes:,.0f} MiB", style="")
    _print(found, engines, sizes)


def create_tables(folder: Path, sizes: Sequence[int]) -> dict[int, Path]:
    """Create tables of synthetic shots in the format of base_prod, each a folder of parts.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the tables; existing parts are reused.
    sizes : sequence of int
        Number of rows of each table.

    Returns
    -------
    dict of int to pathlib.Path
        The folder of each table by its size; the tables share parts as hard links.
    """
    parts = folder / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    rows = _PART_BLOCKS * synthetic.BLOCK_ROWS
    numbers = range(-(-max(sizes) // rows))
    with progress_bar("generating", len(numbers)) as advance, ProcessPoolExecutor() as pool:
        for _ in pool.map(_make_part, [parts / f"part-{number:05d}.parquet" for number in numbers], numbers):
            advance(1)
    tables = {}
    for size in sizes:
        tables[size] = folder / f"shots-{size}.parquet"
        shutil.rmtree(tables[size], ignore_errors=True)
        tables[size].mkdir()
        for number in range(-(-size // rows)):
            name = f"part-{number:05d}.parquet"
            remaining = size - number * rows
            if remaining >= rows:
                os.link(parts / name, tables[size] / name)
            else:
                pq.write_table(pq.read_table(parts / name).slice(0, remaining), tables[size] / name)
    return tables


def _make_part(path: Path, number: int) -> None:
    if path.exists():
        return
    first = number * _PART_BLOCKS
    pieces = [synthetic.block(1, first + place)[_COLUMNS] for place in range(_PART_BLOCKS)]
    table = pd.concat(pieces).rename(columns={raw: name for name, raw in RAW_COLUMN_NAMES.items()})
    doubles = dict.fromkeys([*FEATURES, TARGET], "float64")
    with atomic_write(path) as partial:
        pq.write_table(pa.Table.from_pandas(table.astype(doubles), preserve_index=False), partial)


def score_with_pandas(table: Path, out: Path, model: str) -> None:
    """Score a table without this project, and print the seconds as JSON."""
    loaded = model_files.load(model).unwrap_python_model()
    started = time.perf_counter()
    shots = pd.read_parquet(table)
    for name in FEATURES:
        column, values = feature_column(name), shots[name]
        wrong = ~values.between(column.minimum or 0, column.maximum or 0)
        if column.kind == "integer":
            wrong |= values % 1 != 0
        if wrong.any():
            message = f"{name}: {int(wrong.sum())} values out of range"
            raise SystemExit(message)
    probability = loaded.pipeline.predict_proba(shots[list(FEATURES)].to_numpy())[:, 1]
    made = (probability >= loaded.threshold).astype(np.int64)
    shots.assign(prediction=made, probability=probability, model_version=1).to_parquet(out, index=False)
    sys.stdout.write(json.dumps({"seconds": time.perf_counter() - started, "rows": len(shots)}) + "\n")


def _measure(engine: str, table: Path, rows: int, project: Path, scratch: Path) -> Trial | None:
    out = scratch / "out.parquet"
    remove_path(out)
    if engine == "pandas":
        needed = rows * 350
        if needed > psutil.virtual_memory().available:
            info("  ", f"skipped: it needs about {needed / 2**30:.0f} GiB of memory", style="yellow")
            return None
        return _measure_pandas(table, out, rows, project)
    command = [sys.executable, "-m", "steps.aplicacao", "--table", str(table), "--out", str(out)]
    if engine == "batch":
        return _measure_step([*command, "--mode", "batch"], rows, project)
    if engine != "cluster":
        return _measure_step([*command, "--engine", "spark", "--master", engine], rows, project)
    with cluster(Path(tempfile.mkdtemp(dir=scratch))) as found, _peak_of(found) as peak:
        trial = _measure_step([*command, "--engine", "spark", "--master", found.master], rows, project)
    return Trial(trial.rows, trial.seconds, trial.command_seconds, trial.mebibytes + peak[0])


def _measure_step(command: Sequence[str], rows: int, project: Path) -> Trial:
    usage = measure_command(command, project, _environment())
    client = MlflowClient(tracking_uri=f"sqlite:///{project / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    run = client.search_runs(experiments, "attributes.run_name = 'PipelineAplicacao'", max_results=1)[0]
    if run.data.metrics["rows_scored"] != rows:
        message = f"expected {rows:,} rows; found {run.data.metrics['rows_scored']:,.0f}"
        raise SystemExit(message)
    return Trial(rows, run.data.metrics["scoring_seconds"], usage.seconds, usage.tree_mebibytes)


def _measure_pandas(table: Path, out: Path, rows: int, project: Path) -> Trial:
    arguments = ["--pandas", str(table), str(out), "models:/kobe_shot@champion"]
    usage = measure_command([sys.executable, "-m", "bench.scale", *arguments], project, _environment())
    return Trial(rows, json.loads(usage.output)["seconds"], usage.seconds, usage.tree_mebibytes)


@contextmanager
def _peak_of(found: Cluster) -> Iterator[list[float]]:
    """Peak memory of the workers and their executors, MiB."""
    peak, done = [0.0], threading.Event()

    def sample() -> None:
        while not done.wait(0.2):
            total = 0.0
            for process in found.processes():
                try:
                    total += getattr(process.memory_full_info(), "pss", 0) / 2**20
                except psutil.Error:
                    continue
            peak[0] = max(peak[0], total)

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield peak
    finally:
        done.set()
        sampler.join()


def _environment() -> dict[str, str]:
    return os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}


def _print(found: dict[tuple[str, int], Trial], engines: Sequence[str], sizes: Sequence[int]) -> None:
    table = Table("engine", "rows", "rows/s", "seconds", "whole command, s", "peak memory, MiB")
    for engine in engines:
        for size in sizes:
            if trial := found.get((engine, size)):
                table.add_row(
                    engine, f"{size:,}", f"{size / trial.seconds:,.0f}", f"{trial.seconds:.1f}",
                    f"{trial.command_seconds:.1f}", f"{trial.mebibytes:,.0f}",
                )  # fmt: skip
    console.print(table)
    for size in sizes:
        _compare(found, ("batch", size), ("pandas", size), "local batch vs. plain pandas")
        _compare(found, ("local[2]", size), ("local[1]", size), "Spark local[2] vs. local[1]")
    for engine in engines:
        for small, large in pairwise(sizes):
            _compare(found, (engine, large), (engine, small), f"{engine}: 1 is linear")


def _compare(found: dict[tuple[str, int], Trial], first: tuple[str, int], second: tuple[str, int], name: str) -> None:
    if first in found and second in found:
        speeds = [trial.rows / trial.seconds for trial in (found[first], found[second])]
        info(f"{name}, {first[1]:,} rows:", f"{speeds[0] / speeds[1]:.2f} × the rows/s", style="")


if __name__ == "__main__":
    main()
