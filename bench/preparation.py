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
from collections.abc import Callable
from pathlib import Path

import duckdb
import pandas as pd
import psutil
from rich.table import Table
from sklearn.model_selection import train_test_split

from bench.processes import measure_command, python_of
from data.acquisition.raw_tables import DEV_FILE, FILES, PROD_FILE, write_split
from data.cli.console import console, info
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
_ENGINES = ("pandas", "duckdb", "local", "spark")
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
    parser.add_argument("--engines", default=",".join(_ENGINES), help=f"some of {', '.join(_ENGINES)}")
    parser.add_argument(
        "--before", type=Path, help="another checkout, whose local engine is measured too, in its .venv if it has one"
    )
    parser.add_argument("--folder", type=Path, help="folder that keeps the raw tables; by default a temporary folder")
    parser.add_argument("--repeats", type=int, default=1, help="measurements of each; the fastest is printed")
    parser.add_argument("--one", nargs=3, metavar=("ENGINE", "RAW", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        sys.stdout.write(json.dumps(_seconds(options.one[0], Path(options.one[1]), Path(options.one[2]))) + "\n")
        return
    engines = options.engines.split(",")
    if unknown := set(engines) - set(_ENGINES):
        parser.error(f"expected engines of {', '.join(_ENGINES)}; found {', '.join(sorted(unknown))}")
    commands = {engine: ([sys.executable, "-m", "bench.preparation", "--one", engine], ROOT) for engine in engines}
    if options.before:
        commands = {"before": ([python_of(options.before), "-c", _BEFORE], options.before), **commands}
    table = Table("engine", "rows", "rows/s", "seconds", "peak memory, MiB")
    with tempfile.TemporaryDirectory() as scratch:
        for size in options.millions.split(","):
            rows = round(float(size) * _MILLION)
            raw = _raw_tables((options.folder or Path(scratch)) / size, rows)
            for name, (command, folder) in commands.items():
                if name == "pandas" and rows * _PANDAS_BYTES > psutil.virtual_memory().available:
                    info("Skipped", f"pandas, {rows:,} rows: it needs about {rows * _PANDAS_BYTES / 2**30:.0f} GiB")
                    continue
                info("Measuring", f"{name}, {rows:,} rows")
                seconds, mebibytes = min(_measure(command, folder, raw) for _ in range(options.repeats))
                table.add_row(name, f"{rows:,}", f"{rows / seconds:,.0f}", f"{seconds:.2f}", f"{mebibytes:,.0f}")
    console.print(table)


def _raw_tables(folder: Path, rows: int) -> Path:
    if folder.exists():
        return folder
    folder.mkdir(parents=True)
    with progress_bar("simulating", rows) as advance:
        write_split(synthetic.marked(rows, 1, advance), folder)
    return folder


def _measure(command: list[str], folder: Path, raw: Path) -> tuple[float, float]:
    """Seconds, and peak memory in MiB."""
    with tempfile.TemporaryDirectory(dir=raw) as out:
        usage = measure_command([*command, str(raw), out], folder)
    return float(usage.output.splitlines()[-1]), usage.tree_mebibytes


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
    names = {name: RAW_COLUMN_NAMES.get(name, name) for name in FEATURES}
    tables = {file: pd.read_parquet(raw / file) for file in FILES}
    for table in tables.values():
        for column in COLUMN.values():
            if column.name in table and column.minimum is not None:
                values = table[column.name].dropna()
                if not values.between(column.minimum, column.maximum or 0).all():
                    message = f"{column.name}: values out of range"
                    raise SystemExit(message)
    if pd.concat([table[SHOT_ID] for table in tables.values()]).duplicated().any():
        message = "duplicate shot_id"
        raise SystemExit(message)
    dev = tables[DEV_FILE].dropna(subset=[*names.values(), TARGET])
    train, test = train_test_split(dev, test_size=0.2, random_state=42, stratify=dev[TARGET])
    columns = [*names.values(), TARGET]
    for name, part in (("data_filtered", dev), ("base_train", train), ("base_test", test)):
        part[columns].astype("float64").to_parquet(out / f"{name}.parquet", index=False)
        part[[SHOT_ID]].to_parquet(out / f"{name}_ids.parquet", index=False)
    prod = tables[PROD_FILE].dropna(subset=[*names.values()])
    prod[[SHOT_ID, GAME_DATE, *columns]].to_parquet(out / "base_prod.parquet", index=False)


def _prepare_with_duckdb(raw: Path, out: Path) -> None:
    names = [f'"{RAW_COLUMN_NAMES.get(name, name)}"' for name in FEATURES]
    dev, prod = (f"read_parquet('{raw / file}{'/*' * (raw / file).is_dir()}')" for file in FILES)
    with duckdb_config(out) as config, duckdb.connect(config=config) as opened:
        ranges = [
            f'"{column.name}" NOT BETWEEN {column.minimum} AND {column.maximum}'
            for column in COLUMN.values()
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
