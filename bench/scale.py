"""Throughput and peak memory of ``preparacao`` and ``aplicacao`` on tables of any size: ``make bench-scale``.

The preparation is measured as in `bench.preparation`. For the scoring, one champion is trained in a fresh copy of the
project. Each engine then scores the same tables of synthetic shots with the user's command, one at a time: read,
validate, predict, write. The seconds are from the opening of the table to the final output, as the step logs them; they
exclude the start of Python, imports and the loading of the model. Plain pandas reads the whole table, validates the
ranges, predicts with the same model and writes. Another checkout of this project (``--before``) trains a champion of
its own, and is measured in turns with this one. A measurement that fails is reported, and the others go on.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from mlflow import MlflowClient

from bench import preparation
from bench.cluster import cluster
from bench.processes import Trial, copy_project, measure_command, measure_in_turns, print_trials, python_of
from data.cli.console import info
from data.cli.progress import progress_bar
from data.paths import ROOT
from data.schema import FEATURES, GAME_DATE, RAW_COLUMN_NAMES, SHOT_ID, TARGET, feature_column
from data.simulation import synthetic
from data.storage.files import atomic_write, remove_path
from serving.model import model_files

_MILLION = 1_000_000
_PART_BLOCKS = 16
_ENGINES = ("pandas", "batch", "local[1]", "local[2]", "cluster")
_PANDAS_BYTES = 350
_COMPARED = (
    ("preparation, local", "preparation, before"),
    ("preparation, local", "preparation, pandas"),
    ("preparation, local", "preparation, duckdb"),
    ("scoring, batch", "scoring, before"),
    ("scoring, batch", "scoring, pandas"),
    ("scoring, local[2]", "scoring, local[1]"),
)
_COLUMNS = [SHOT_ID, GAME_DATE, *(RAW_COLUMN_NAMES.get(name, name) for name in FEATURES), TARGET]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millions", default="1,10,50", help="sizes of the tables, in millions of rows")
    parser.add_argument("--engines", default=",".join(_ENGINES), help=f"some of {', '.join(_ENGINES)}")
    parser.add_argument("--models", default="lr,dt", help="candidate models of the training, as in treinamento")
    parser.add_argument("--source", default="auto", help="source of the raw files of the training, as in aquisicao")
    parser.add_argument("--folder", type=Path, help="folder that keeps the tables; by default a temporary folder")
    parser.add_argument(
        "--preparation", default="pandas,duckdb,local", help=f"some of {', '.join(preparation.ENGINES)}, or empty"
    )
    parser.add_argument("--before", type=Path, help="another checkout, measured too, in its .venv if it has one")
    parser.add_argument("--repeats", type=int, default=1, help="measurements of each, up to 10 million rows")
    parser.add_argument("--pandas", nargs=3, metavar=("TABLE", "OUT", "MODEL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.pandas:
        score_with_pandas(Path(options.pandas[0]), Path(options.pandas[1]), options.pandas[2])
        return
    sizes = [round(float(size) * _MILLION) for size in options.millions.split(",")]
    engines, prepared = options.engines.split(","), list(filter(None, options.preparation.split(",")))
    if unknown := set(engines) - set(_ENGINES):
        parser.error(f"expected engines of {', '.join(_ENGINES)}; found {', '.join(sorted(unknown))}")
    before = options.before.resolve() if options.before else None
    source = str(Path(options.source).resolve()) if Path(options.source).exists() else options.source
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.folder or Path(scratch) / "tables").resolve()
        trials = preparation.measure_all(sizes, prepared, folder, options.repeats, before) if prepared else {}
        tables = create_tables(folder, sizes)
        training = ["--source", source, "--models", options.models]
        projects = {engine: (sys.executable, _trained(Path(scratch) / "project", ROOT, training)) for engine in engines}
        if before:
            project = _trained(Path(scratch) / "before", before, training)
            projects = {"before": (python_of(before), project), **projects}
        for rows in sizes:
            needed = rows * _PANDAS_BYTES
            measures = {
                f"scoring, {engine}": partial(_measure, engine, tables[rows], rows, *each, Path(scratch))
                for engine, each in projects.items()
            }
            if "pandas" in engines and needed > psutil.virtual_memory().available:
                del measures["scoring, pandas"]
                info("Skipped", f"pandas, {rows:,} rows: it needs about {needed / 2**30:.0f} GiB")
            found = measure_in_turns(measures, rows, options.repeats if rows <= preparation.MAX_REPEATED else 1)
            trials |= {(name, rows): trial for name, trial in found.items()}
    print_trials(trials)
    _print_ratios(trials, sizes)


def _trained(folder: Path, checkout: Path, training: Sequence[str]) -> Path:
    """A copy of a checkout with a champion."""
    if not folder.exists():
        info("Training", f"a champion of {checkout}")
        copy_project(folder, checkout)
        python = python_of(checkout)
        measure_command([python, "-m", "steps.main", *training], folder, _environment(python))
    return folder


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
        if column.kind != "float":
            wrong |= values % 1 != 0
        if wrong.any():
            message = f"{name}: {int(wrong.sum())} values out of range"
            raise SystemExit(message)
    probability = loaded.pipeline.predict_proba(shots[list(FEATURES)].to_numpy())[:, 1]
    made = (probability >= loaded.threshold).astype(np.int64)
    shots.assign(prediction=made, probability=probability, model_version=1).to_parquet(out, index=False)
    sys.stdout.write(json.dumps({"seconds": time.perf_counter() - started, "rows": len(shots)}) + "\n")


def _measure(engine: str, table: Path, rows: int, python: str, project: Path, scratch: Path) -> Trial:  # noqa: PLR0913, PLR0917 what is measured, on what
    out = scratch / "out.parquet"
    remove_path(out)
    if engine == "pandas":
        return _measure_pandas(table, out, rows, project)
    command = [python, "-m", "steps.aplicacao", "--table", str(table), "--out", str(out)]
    if engine in {"batch", "before"}:
        return _measure_step([*command, "--mode", "batch"], rows, project)
    if engine != "cluster":
        return _measure_step([*command, "--engine", "spark", "--master", engine], rows, project)
    with cluster(Path(tempfile.mkdtemp(dir=scratch))) as found:
        return _measure_step([*command, "--engine", "spark", "--master", found.master], rows, project, found.processes)


def _measure_step(
    command: Sequence[str], rows: int, project: Path, others: Callable[[], list[psutil.Process]] = list
) -> Trial:
    usage = measure_command(command, project, _environment(command[0]), others)
    client = MlflowClient(tracking_uri=f"sqlite:///{project / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    run = client.search_runs(experiments, "attributes.run_name = 'PipelineAplicacao'", max_results=1)[0]
    if run.data.metrics["rows_scored"] != rows:
        message = f"expected {rows:,} rows; found {run.data.metrics['rows_scored']:,.0f}"
        raise SystemExit(message)
    return Trial(rows, run.data.metrics["scoring_seconds"], usage.seconds, usage.tree_mebibytes)


def _measure_pandas(table: Path, out: Path, rows: int, project: Path) -> Trial:
    arguments = ["--pandas", str(table), str(out), "models:/kobe_shot@champion"]
    usage = measure_command([sys.executable, "-m", "bench.scale", *arguments], project, _environment(sys.executable))
    return Trial(rows, json.loads(usage.output)["seconds"], usage.seconds, usage.tree_mebibytes)


def _environment(python: str) -> dict[str, str]:
    """Environment variables with the commands of a Python's environment first."""
    return os.environ | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db",
        "PATH": f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}",
    }


def _print_ratios(trials: dict[tuple[str, int], Trial], sizes: Sequence[int]) -> None:
    for size in sizes:
        for one, other in _COMPARED:
            _compare(trials, (one, size), (other, size), f"{one} vs. {other}")
    for engine in dict.fromkeys(name for name, _ in trials):
        for small, large in pairwise(sizes):
            _compare(trials, (engine, large), (engine, small), f"{engine}: 1 is linear")


def _compare(found: dict[tuple[str, int], Trial], first: tuple[str, int], second: tuple[str, int], name: str) -> None:
    if first in found and second in found:
        speeds = [trial.rows / trial.seconds for trial in (found[first], found[second])]
        info(f"{name}, {first[1]:,} rows:", f"{speeds[0] / speeds[1]:.2f} × the rows/s", style="")


if __name__ == "__main__":
    main()
