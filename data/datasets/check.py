"""What is odd about a description, on its own and with the table that it describes."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from data.acquisition.raw_tables import RawTable
from data.acquisition.selection import part_texts
from data.acquisition.source_table import convert_table, split_table
from data.datasets.description import ROW_ID, Dataset
from data.datasets.proposal import is_id_name, separation
from data.engines.duckdb import duckdb_engine
from data.preparation.contract import PreparationParams, PreparationResult
from data.preparation.manifest import FILTERED, PROD, TEST, TRAIN
from data.preparation.prepare import prepare
from data.storage.staging import staging
from data.storage.tables import TableReader

SAMPLE_ROWS = 100_000
"""Rows of a table that features are checked on."""

_MIN_TEST = 30
_MAX_DROPPED, _MAX_UNKNOWN, _MAX_UNLABELED = 0.05, 0.01, 0.5


def oddities(dataset: Dataset) -> Iterator[str]:
    """What is allowed in a description, and is often a mistake."""
    if dataset.group is not None and dataset.test.strategy == "random":
        yield (
            f"test.strategy is random, and rows of one {dataset.group.name} may be alike: train and test share them. "
            "The test is too optimistic. Expected strategy = 'group'"
        )
    if not dataset.production.is_given and not dataset.development.is_given and not dataset.development.table:
        yield f"neither [production] nor [development] selects rows: production is {part_texts(dataset)[1]}"
    for feature in dataset.features:
        if is_id_name(feature.name):
            yield f"columns.{feature.name} is a feature with a name of ids: an id has no meaning for new rows"
    if dataset.time is None:
        yield "no column has the role 'time': retraining and the backtest need it to know which labels are new"


def describe_preparation(dataset: Dataset, result: PreparationResult) -> Iterator[str]:
    """Count the rows of a prepared table."""
    parts = dict(zip((FILTERED, PROD), part_texts(dataset), strict=True))
    for name, words in ((FILTERED, "development"), (TRAIN, "train"), (TEST, "test"), (PROD, "production")):
        labeled, positive = result.labeled[name], result.made[name]
        rate = f", {positive / labeled:.1%} {dataset.positive}" if labeled else ""
        text = f" ({parts[name]})" if name in parts else ""
        yield f"{words}{text}: {result.rows[name]:,} {dataset.rows}, {labeled:,} of them labeled{rate}"


def examine(dataset: Dataset, table: Path, name: str, folder: Path) -> tuple[PreparationResult, list[str]]:
    """Acquire and prepare a table in a temporary folder, as the pipeline does.

    Parameters
    ----------
    dataset : Dataset
    table : pathlib.Path
        A table, or a folder that holds both raw tables.
    name : str
        Name of the table in messages.
    folder : pathlib.Path
        Existing folder, for the temporary one.

    Returns
    -------
    result : PreparationResult
    odd : list of str
        What is odd about the table.

    Raises
    ------
    SourceError, SchemaError
        If the table cannot be read, or does not fit the description.
    """
    with staging(folder, "check") as stage:
        raw = stage / "raw"
        raw.mkdir()
        if table.is_dir() and all((table / each).is_file() for each in dataset.raw_tables):
            rows = 0
            for each in dataset.raw_tables:
                (raw / each).write_bytes((table / each).read_bytes())
                rows += convert_table(raw / each, each, dataset, rows)
        else:
            split_table(table, raw, name, dataset)
        with duckdb_engine(stage) as engine:
            result = prepare(engine, raw, stage / "prepared", PreparationParams(), dataset=dataset)
        samples = {
            each: TableReader(stage / "prepared" / f"{each}.parquet").systematic_sample(SAMPLE_ROWS)
            for each in (TRAIN, PROD)
        }
        known = {column for each in dataset.columns for column in (each.name, each.raw_name)}
        raw_names = RawTable(raw / dataset.raw_tables[0], dataset=dataset).schema.names
        others = [column for column in raw_names if column not in known]
    odd = [*_of_rows(dataset, result), *_of_features(dataset, samples[TRAIN], samples[PROD])]
    if others:
        odd.append(f"columns that the description does not name are dropped: {', '.join(others)}")
    return result, odd


def _of_rows(dataset: Dataset, result: PreparationResult) -> Iterator[str]:
    kept = result.rows[FILTERED]
    for column in dataset.features:
        dropped = result.dropped.get(f"dropped_dev_missing_{column.name}", 0)
        if dropped > _MAX_DROPPED * (kept + dropped):
            yield (
                f"columns.{column.name} is null in {dropped:,} rows of development, which are dropped; "
                "nullable = true keeps them"
            )
    unlabeled = result.rows[PROD] - result.labeled[PROD]
    if unlabeled > _MAX_UNLABELED * result.rows[PROD]:
        yield f"{unlabeled:,} of {result.rows[PROD]:,} rows of production have no label: few metrics can be computed"
    if result.rows[TEST] < _MIN_TEST:
        yield (
            f"test has {result.rows[TEST]:,} rows: metrics of so few rows are chance, and so is the quality gate; give "
            "more rows, or a larger test_size"
        )
    if dataset.id.name == ROW_ID:
        yield "no column has the role 'id': rows are numbered, so delayed labels must name those numbers"


def _of_features(dataset: Dataset, train: pd.DataFrame, production: pd.DataFrame) -> Iterator[str]:
    positive = train[dataset.target.name].astype(float)
    for column in dataset.features:
        cells = train[column.name]
        if cells.nunique(dropna=False) < 2:  # noqa: PLR2004 a constant
            yield f"columns.{column.name} has one value in all training rows"
        if area := separation(cells, positive, column.kind):
            yield (
                f"columns.{column.name} alone separates the labels (ROC AUC {area:.3f}): is it known only when the "
                "label is? Then its role is pass_through"
            )
        if column.is_categorical:
            held = production[column.name].dropna()
            unknown = held[~held.isin(cells.unique())]
            if len(unknown) > _MAX_UNKNOWN * len(production):
                yield (
                    f"columns.{column.name} has values in production that no training row has, such as "
                    f"{unknown.iloc[0]!r}, in {len(unknown):,} of {len(production):,} rows"
                )
            absent = [category for category in column.categories if category not in set(cells)]
            if absent:
                yield f"columns.{column.name}: no training row has {', '.join(map(repr, absent[:5]))}"
