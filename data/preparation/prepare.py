"""Preparation of the raw tables on any engine: validate, filter, split, count and write."""

import json
from collections.abc import Sequence
from pathlib import Path

import ibis.expr.types as ir
import pandas as pd
import pyarrow as pa

from data.acquisition.raw_shots import RawShots, check_ids, check_violations, open_raw
from data.acquisition.raw_tables import RawTable, attributes
from data.cli.progress import ProgressCallback
from data.datasets import Column, Dataset, current
from data.engines.engine import Engine, Output
from data.errors import EngineError
from data.preparation.contract import RAW_FILES_CHANGED, REJECTS, PreparationParams, PreparationResult
from data.preparation.manifest import FILTERED, IDS, PROD, TABLES, TEST, TRAIN
from data.preparation.split import IS_TEST, IS_TRAIN, split
from data.storage.files import remove_path, translate_disk_full
from data.storage.staging import staging
from data.storage.tables import arrow_schema

_SIDES = {TRAIN: IS_TRAIN, TEST: IS_TEST}


def prepare(  # noqa: PLR0913, PLR0917 what is prepared, from where to where
    engine: Engine,
    raw: Path,
    out: Path,
    params: PreparationParams,
    on_progress: ProgressCallback = lambda _rows: None,
    dataset: Dataset | None = None,
) -> PreparationResult:
    """Validate, filter and split the raw tables.

    Parameters
    ----------
    engine : data.engines.engine.Engine
    raw : pathlib.Path
        Folder that contains the two raw tables.
    out : pathlib.Path
        Folder for the tables of `PreparationResult` and the non-empty tables of ``REJECTS``. They replace those of an
        earlier preparation; other files stay.
    params : PreparationParams
        Size and seed of the split, and maximum number of rejected rows.
    on_progress : callable
        Called with the number of processed rows, `progress_total` in total.
    dataset : Dataset, optional
        By default that of this process.

    Raises
    ------
    SourceError
        If a raw file is damaged, a raw table is empty, or both share an id.
    SchemaError
        If too many rows violate the schema, an id is duplicate in a table, or too few labeled dev rows are left
        for a split with both classes on both sides.
    EngineError
        If a query fails.
    DiskFullError
        If the disk is full. `out` is unchanged after any exception.
    """
    out.mkdir(parents=True, exist_ok=True)
    with translate_disk_full(out), staging(out, "preparation") as folder:
        result = _prepare(engine, raw, folder, params, on_progress, dataset or current())
        for name in (*TABLES, *IDS.values(), *REJECTS):
            staged = folder / f"{name}.parquet"
            remove_path(out / staged.name)
            if staged.exists():
                staged.replace(out / staged.name)
    return result


def progress_total(raw: Path, dataset: Dataset | None = None) -> int:
    """Total number of rows that `prepare` reports: each row counts twice, for validation and for writing."""
    described = dataset or current()
    return 2 * sum(RawTable(raw / name, dataset=described).rows for name in described.raw_tables)


def _prepare(  # noqa: PLR0913, PLR0917 see `prepare`
    engine: Engine,
    raw: Path,
    folder: Path,
    params: PreparationParams,
    on_progress: ProgressCallback,
    dataset: Dataset,
) -> PreparationResult:
    target, dev_file, prod_file = dataset.target.name, *dataset.raw_tables
    never_null = [column.name for column in dataset.features if not column.nullable]
    dev = open_raw(engine, RawTable(raw / dev_file, dataset=dataset), [*never_null, target])
    prod = open_raw(engine, RawTable(raw / prod_file, dataset=dataset), never_null)
    check_violations((dev, prod), params.max_rejected_rows)
    check_ids(dev, prod)
    on_progress(dev.rows + prod.rows)
    shots, test_rows = split(engine, dev.complete(), dataset, dev.labels, params)
    shots = shots.mutate(**{target: shots[target].cast("int64")})
    rows = {FILTERED: dev.counts["complete"], TEST: sum(test_rows.values()), PROD: prod.counts["complete"]}
    made = {FILTERED: dev.labels[1], TEST: test_rows[1], PROD: prod.labels[1]}
    for counts in (rows, made):
        counts[TRAIN] = counts[FILTERED] - counts[TEST]
    schema = _schema(raw / dev_file, [*dataset.features, dataset.target], dataset)
    groups = [column for column in [dataset.group] if column and column.name in shots.columns]
    ids = _schema(raw / dev_file, [dataset.id, *groups], dataset)
    outputs = [Output(FILTERED, schema, rows[FILTERED])]
    for side, mark in _SIDES.items():
        outputs += [Output(side, schema, rows[side], mark), Output(IDS[side], ids, rows[side], mark)]
    _write(dev, shots, outputs, folder, on_progress)
    scorable = prod.complete()
    columns = [column for column in dataset.kept if column.name in scorable.columns]
    of_prod = _schema(raw / prod_file, columns, dataset)
    _write(prod, scorable, [Output(PROD, of_prod, rows[PROD])], folder, on_progress)
    for table, name in zip((dev, prod), REJECTS, strict=True):
        if table.rejected:
            rejects = Output(name, table.rejects_schema, table.rejected)
            _write(table, table.rejects(), [rejects], folder)
    labeled = rows | {PROD: sum(prod.labels.values())}
    return PreparationResult(
        rows={name: rows[name] for name in TABLES},
        labeled={name: labeled[name] for name in TABLES},
        made={name: made[name] for name in TABLES},
        dropped={
            "dropped_dev_rows": dev.counts["incomplete"],
            "dropped_prod_rows": prod.counts["incomplete"],
            **{f"dropped_dev_missing_{name}": dev.counts[f"missing_{name}"] for name in (*never_null, target)},
            **{f"dropped_prod_missing_{name}": prod.counts[f"missing_{name}"] for name in never_null},
        },
        rejected={table.name: table.rejected for table in (dev, prod)},
    )


def _write(
    table: RawShots,
    query: ir.Table,
    outputs: Sequence[Output],
    folder: Path,
    on_progress: ProgressCallback = lambda _rows: None,
) -> None:
    """Write what becomes of a raw table."""
    done = 0

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        on_progress(rows)

    written = table.engine.write(query, outputs, folder, advance)
    on_progress(table.rows - done)
    for output in outputs:
        if written[output.name] != output.rows:
            message = (
                f"{output.name} has {written[output.name]:,} rows; expected {output.rows:,}, the count before. "
                f"{RAW_FILES_CHANGED}"
            )
            raise EngineError(message)


def _schema(raw: Path, columns: Sequence[Column], dataset: Dataset) -> pa.Schema:
    """The schema of a table as pandas writes it, with the synthetic mark of the raw table."""
    # pandas infers the type of a string column from its values.
    row = pd.DataFrame({column.name: [_example(column)] for column in columns})
    if dataset.id not in columns:
        row = row.astype({dataset.target.name: "int64"})
    row.attrs.update(json.loads(attributes(raw) or b"{}"))
    return arrow_schema(row)


def _example(column: Column) -> int | float | str:
    if column.role == "id" or (column.role in {"time", "group"} and column.kind in {"integer", "boolean"}):
        return 0
    return 0.0 if column.is_numeric or column.role == "target" else ""
