"""Preparation of the raw tables on any engine: validate, filter, split, count and write."""

import json
from collections.abc import Sequence
from pathlib import Path

import ibis.expr.types as ir
import pandas as pd
import pyarrow as pa

from data.acquisition.raw_shots import RawShots, check_ids, check_violations, open_raw
from data.acquisition.raw_tables import DEV_FILE, PROD_FILE, RawTable, attributes
from data.cli.progress import ProgressCallback
from data.engines.engine import Engine, Output
from data.errors import EngineError
from data.preparation.contract import RAW_FILES_CHANGED, REJECTS, PreparationParams, PreparationResult
from data.preparation.manifest import FILTERED, IDS, PROD, TABLES, TEST, TRAIN
from data.preparation.split import IS_TEST, IS_TRAIN, test_rows_per_class, with_side
from data.schema import FEATURES, GAME_DATE, SHOT_ID, TARGET
from data.storage.files import remove_path, translate_disk_full
from data.storage.staging import staging
from data.storage.tables import arrow_schema

_COLUMNS = (*FEATURES, TARGET)
_SIDES = {TRAIN: IS_TRAIN, TEST: IS_TEST}


def prepare(
    engine: Engine,
    raw: Path,
    out: Path,
    params: PreparationParams,
    on_progress: ProgressCallback = lambda _rows: None,
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

    Raises
    ------
    SourceError
        If a raw file is damaged, a raw table is empty, or both share a ``shot_id``.
    SchemaError
        If too many rows violate the schema, a ``shot_id`` is duplicate in a table, or too few labeled dev rows are left
        for a split with both classes on both sides.
    EngineError
        If a query fails.
    DiskFullError
        If the disk is full. `out` is unchanged after any exception.
    """
    out.mkdir(parents=True, exist_ok=True)
    with translate_disk_full(out), staging(out, "preparation") as folder:
        result = _prepare(engine, raw, folder, params, on_progress)
        for name in (*TABLES, *IDS.values(), *REJECTS.values()):
            staged = folder / f"{name}.parquet"
            remove_path(out / staged.name)
            if staged.exists():
                staged.replace(out / staged.name)
    return result


def progress_total(raw: Path) -> int:
    """Total number of rows that `prepare` reports: each row counts twice, for validation and for writing."""
    return 2 * sum(RawTable(raw / name).rows for name in (DEV_FILE, PROD_FILE))


def _prepare(
    engine: Engine, raw: Path, folder: Path, params: PreparationParams, on_progress: ProgressCallback
) -> PreparationResult:
    dev = open_raw(engine, RawTable(raw / DEV_FILE), _COLUMNS)
    prod = open_raw(engine, RawTable(raw / PROD_FILE), FEATURES)
    check_violations((dev, prod), params.max_rejected_rows)
    check_ids(dev, prod)
    on_progress(dev.rows + prod.rows)
    test_rows = test_rows_per_class(dev.labels, params.test_size, params.seed)
    shots = with_side(engine, dev.complete(), dev.labels, test_rows, params.seed)
    shots = shots.mutate(**{TARGET: shots[TARGET].cast("int64")})
    rows = {FILTERED: dev.counts["complete"], TEST: sum(test_rows.values()), PROD: prod.counts["complete"]}
    made = {FILTERED: dev.labels[1], TEST: test_rows[1], PROD: prod.labels[1]}
    for counts in (rows, made):
        counts[TRAIN] = counts[FILTERED] - counts[TEST]
    schema, ids = _schema(raw / DEV_FILE, _COLUMNS), _schema(raw / DEV_FILE, [SHOT_ID])
    outputs = [Output(FILTERED, schema, rows[FILTERED])]
    for side, mark in _SIDES.items():
        outputs += [Output(side, schema, rows[side], mark), Output(IDS[side], ids, rows[side], mark)]
    _write(dev, shots, outputs, folder, on_progress)
    scorable = prod.complete()
    columns = [name for name in (SHOT_ID, GAME_DATE, *_COLUMNS) if name in scorable.columns]
    _write(prod, scorable, [Output(PROD, _schema(raw / PROD_FILE, columns), rows[PROD])], folder, on_progress)
    for table in (dev, prod):
        if table.rejected:
            rejects = Output(REJECTS[table.name], table.rejects_schema, table.rejected)
            _write(table, table.rejects(), [rejects], folder)
    labeled = rows | {PROD: sum(prod.labels.values())}
    return PreparationResult(
        rows={name: rows[name] for name in TABLES},
        labeled={name: labeled[name] for name in TABLES},
        made={name: made[name] for name in TABLES},
        dropped={
            "dropped_dev_rows": dev.counts["incomplete"],
            "dropped_prod_rows": prod.counts["incomplete"],
            **{f"dropped_dev_missing_{name}": dev.counts[f"missing_{name}"] for name in _COLUMNS},
            **{f"dropped_prod_missing_{name}": prod.counts[f"missing_{name}"] for name in FEATURES},
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


def _schema(raw: Path, columns: Sequence[str]) -> pa.Schema:
    """The schema of a table as pandas writes it, with the synthetic mark of the raw table."""
    # pandas infers the type of a string column from its values.
    row = pd.DataFrame({name: [""] if name == GAME_DATE else [0.0] for name in columns})
    integers = [SHOT_ID] if SHOT_ID in columns else [TARGET]
    row = row.astype(dict.fromkeys(integers, "int64"))
    row.attrs.update(json.loads(attributes(raw) or b"{}"))
    return arrow_schema(row)
