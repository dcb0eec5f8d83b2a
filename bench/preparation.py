"""Throughput and peak memory of the preparation on tables of any size: ``make bench-preparation``.

Each engine prepares the same synthetic raw tables in a process of its own: read, validate, filter, split, count, write.
The seconds exclude the start of Python and imports. Plain pandas reads both raw tables, checks ranges and duplicates,
splits with scikit-learn and writes. Plain DuckDB does the same in SQL, in the memory that the local engine may use, but
its rows have no order. Another checkout of this project (``--before``) is measured in the same run.
"""

import argparse
import atexit
import gc
import importlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import duckdb
import pandas as pd
import psutil
from sklearn.model_selection import train_test_split

from bench.processes import Trial, measure_command, measure_in_turns, print_trials, python_of
from data.acquisition.raw_tables import DEV_FILE, FILES, PROD_FILE, write_split
from data.cli.console import info
from data.cli.progress import progress_bar
from data.engines.choice import open_engine
from data.paths import ROOT
from data.preparation.contract import PreparationParams
from data.preparation.prepare import prepare
from data.schema import COLUMN, FEATURES, GAME_DATE, RAW_COLUMN_NAMES, SHOT_ID, TARGET
from data.simulation import synthetic
from data.storage.duckdb import duckdb_config

_MILLION = 1_000_000
_PANDAS_BYTES = 900
ENGINES = ("pandas", "duckdb", "local", "spark")
"""Engines of the preparation."""
MAX_REPEATED = 10_000_000
"""Number of rows up to which measurements are repeated."""
_BEFORE = """
import json, sys, time
from pathlib import Path
from data.preparation.contract import PreparationParams
raw, out = map(Path, sys.argv[1:])
try:
    from data.preparation.local import prepare
    started = time.perf_counter()
    prepare(raw, out, PreparationParams())
except ImportError:
    from data.engines.choice import open_engine
    from data.preparation.prepare import prepare
    started = time.perf_counter()
    with open_engine("local", "", out) as engine:
        prepare(engine, raw, out, PreparationParams())
print(json.dumps(time.perf_counter() - started))
"""
"""Preparation by the local engine of a checkout, also one before the engines."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millions", default="1,10", help="sizes of both raw tables together, in millions of rows")
    parser.add_argument("--engines", default=",".join(ENGINES), help=f"some of {', '.join(ENGINES)}")
    parser.add_argument(
        "--before", type=Path, help="another checkout, whose local engine is measured too, in its .venv if it has one"
    )
    parser.add_argument("--folder", type=Path, help="folder that keeps the raw tables; by default a temporary folder")
    parser.add_argument(
        "--repeats", type=int, default=1, help="measurements of each, up to 10 million rows; the fastest counts"
    )
    parser.add_argument("--one", nargs=3, metavar=("ENGINE", "RAW", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        sys.stdout.write(json.dumps(_seconds(options.one[0], Path(options.one[1]), Path(options.one[2]))) + "\n")
        return
    sizes = [round(float(size) * _MILLION) for size in options.millions.split(",")]
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        print_trials(
            measure_all(
                sizes, options.engines.split(","), folder, options.repeats, options.before and options.before.resolve()
            )
        )


def measure_all(
    sizes: Sequence[int], engines: Sequence[str], folder: Path, repeats: int, before: Path | None
) -> dict[tuple[str, int], Trial]:
    """Measure the preparation by engines.

    Parameters
    ----------
    sizes : sequence of int
        Rows of both raw tables together.
    engines : sequence of str
        Some of ``ENGINES``.
    folder : pathlib.Path
        Folder that keeps the raw tables.
    repeats : int
        Measurements of each, in turns, up to ``MAX_REPEATED`` rows; the fastest counts.
    before : pathlib.Path, optional
        Another checkout, whose local engine is measured too.
    """
    if unknown := set(engines) - set(ENGINES):
        message = f"expected engines of {', '.join(ENGINES)}; found {', '.join(sorted(unknown))}"
        raise SystemExit(message)
    commands = {engine: ([sys.executable, "-m", "bench.preparation", "--one", engine], ROOT) for engine in engines}
    if before:
        commands = {"before": ([python_of(before), "-c", _BEFORE], before), **commands}
    found: dict[tuple[str, int], Trial] = {}
    for rows in sizes:
        raw = _raw_tables(folder / f"raw-{rows}", rows)
        measures = {f"preparation, {name}": partial(_measure, *each, raw, rows) for name, each in commands.items()}
        if "pandas" in commands and rows * _PANDAS_BYTES > psutil.virtual_memory().available:
            del measures["preparation, pandas"]
            info("Skipped", f"pandas, {rows:,} rows: it needs about {rows * _PANDAS_BYTES / 2**30:.0f} GiB")
        trials = measure_in_turns(measures, rows, repeats if rows <= MAX_REPEATED else 1)
        found |= {(name, rows): trial for name, trial in trials.items()}
    return found


def _raw_tables(folder: Path, rows: int) -> Path:
    if folder.exists():
        return folder
    folder.mkdir(parents=True)
    with progress_bar("simulating", rows) as advance:
        write_split(synthetic.marked(rows, 1, advance), folder)
    return folder


def _measure(command: list[str], folder: Path, raw: Path, rows: int) -> Trial:
    with tempfile.TemporaryDirectory(dir=raw) as out:
        usage = measure_command([*command, str(raw), out], folder)
    return Trial(rows, float(usage.output.splitlines()[-1]), usage.seconds, usage.tree_mebibytes)


def _seconds(engine: str, raw: Path, out: Path) -> float:
    def run() -> None:
        with open_engine(engine, "", out) as opened:
            prepare(opened, raw, out, PreparationParams())

    importlib.import_module("ibis.backends.duckdb")
    gc.freeze()  # as every command does
    atexit.register(gc.unfreeze)
    plain = {"pandas": _prepare_with_pandas, "duckdb": _prepare_with_duckdb}
    return _timed(lambda: plain[engine](raw, out) if engine in plain else run())


def _timed(run: Callable[[], None]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _prepare_with_pandas(raw: Path, out: Path) -> None:
    names = [RAW_COLUMN_NAMES.get(name, name) for name in FEATURES]
    tables = {file: pd.read_parquet(raw / file) for file in FILES}
    for table in tables.values():
        for name, column in COLUMN.items():
            if name in table and column.minimum is not None:
                values = table[name].dropna()
                if not values.between(column.minimum, column.maximum or 0).all():
                    message = f"{name}: values out of range"
                    raise SystemExit(message)
    if pd.concat([table[SHOT_ID] for table in tables.values()]).duplicated().any():
        message = "duplicate shot_id"
        raise SystemExit(message)
    dev = tables[DEV_FILE].dropna(subset=[*names, TARGET])
    train, test = train_test_split(dev, test_size=0.2, random_state=42, stratify=dev[TARGET])
    columns = [*names, TARGET]
    for name, part in (("data_filtered", dev), ("base_train", train), ("base_test", test)):
        part[columns].astype("float64").to_parquet(out / f"{name}.parquet", index=False)
        part[[SHOT_ID]].to_parquet(out / f"{name}_ids.parquet", index=False)
    prod = tables[PROD_FILE].dropna(subset=[*names])
    prod[[SHOT_ID, GAME_DATE, *columns]].to_parquet(out / "base_prod.parquet", index=False)


def _prepare_with_duckdb(raw: Path, out: Path) -> None:
    names = [f'"{RAW_COLUMN_NAMES.get(name, name)}"' for name in FEATURES]
    dev, prod = (f"read_parquet('{raw / file}{'/*' * (raw / file).is_dir()}')" for file in FILES)
    with duckdb_config(out) as config, duckdb.connect(config=config) as opened:
        ranges = [
            f'"{name}" NOT BETWEEN {column.minimum} AND {column.maximum}'
            for name, column in COLUMN.items()
            if column.minimum is not None and column.maximum is not None
        ]
        for table in (dev, prod):
            if opened.execute(f"SELECT count(*) FROM {table} WHERE {' OR '.join(ranges)}").fetchone() != (0,):
                message = "values out of range"
                raise SystemExit(message)
        ids = f"SELECT {SHOT_ID} FROM {dev} UNION ALL SELECT {SHOT_ID} FROM {prod}"
        if opened.execute(f"SELECT count(*) = count(DISTINCT {SHOT_ID}) FROM ({ids})").fetchone() != (True,):
            message = "duplicate shot_id"
            raise SystemExit(message)
        complete = " AND ".join(f"{name} IS NOT NULL" for name in names)
        columns = ", ".join(f"{name}::DOUBLE AS {name}" for name in [*names, TARGET])
        opened.execute(
            f"CREATE TEMP TABLE dev AS SELECT {SHOT_ID}, {columns}, row_number() OVER (PARTITION BY {TARGET} ORDER BY "
            f"hash({SHOT_ID}, 42)) <= 0.2 * count(*) OVER (PARTITION BY {TARGET}) AS is_test "
            f"FROM {dev} WHERE {complete} AND {TARGET} IS NOT NULL"
        )
        sides = {"data_filtered": "true", "base_train": "NOT is_test", "base_test": "is_test"}
        queries = {
            **{name: f"SELECT * EXCLUDE ({SHOT_ID}, is_test) FROM dev WHERE {side}" for name, side in sides.items()},
            **{f"{name}_ids": f"SELECT {SHOT_ID} FROM dev WHERE {side}" for name, side in sides.items()},
            "base_prod": f"SELECT {SHOT_ID}, {GAME_DATE}, {columns} FROM {prod} WHERE {complete}",
        }
        for name, query in queries.items():
            opened.execute(f"COPY ({query}) TO '{out / name}.parquet' (FORMAT parquet)")


if __name__ == "__main__":
    main()
