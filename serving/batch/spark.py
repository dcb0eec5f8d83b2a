"""Score a table with Spark: the counterpart of `serving.batch.local` for tables that are too large for one machine.

PySpark is an extra of this project (``spark``), and is imported only where it is used.
"""

import contextlib
import logging
from collections.abc import Iterator
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import mlflow.pyfunc
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from data.cli.console import warn
from data.datasets import Column, Dataset
from data.engines.spark import SparkEngine
from data.rules import violations
from data.schema import IN_TRAINING, MODEL_VERSION, PREDICTION, PROBABILITY
from data.spark.session import translate_errors
from data.spark.tables import quote_identifier, read, stored_table, write_into
from data.storage.dataset_reader import DatasetReader
from data.storage.files import atomic_write, remove_path
from data.storage.tables import table_writer
from serving.batch.local import BatchJob, BatchResult, check_rejects, with_reasons
from serving.client.endpoint import ScoringError
from serving.shot_tables import ReasonCounts, features_of, open_shots, problems_of, time_problems_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

Floats = npt.NDArray[np.float64]

_RESULT, _POSITION, _WRONG, _KEY = "__result", "__position", "__wrong", "__in_training_"
_MAX_SHOWN = 10
_RELATIVE_ERROR, _SURELY_MORE = 0.01, 1.1
_NOISY = ("mlflow.pyfunc", "mlflow.utils.requirements_utils", "mlflow.models.flavor_backend_registry")


class TrainingLabels(NamedTuple):
    """The labels that a version was trained on.

    Attributes
    ----------
    rows : pandas.DataFrame
        Rows with these labels.
    columns : list of str
        Columns that identify a labeled row among them; empty if no row can be identified.
    """

    rows: pd.DataFrame
    columns: list[str]


class GroupedScores(NamedTuple):
    """Labeled rows by P(made), or by bin with the mean P(made) of the bin."""

    probability: Floats
    made: Floats
    missed: Floats


def score_table(  # noqa: PLR0913 what is done, with what, and how it is counted
    session: "SparkSession",
    batch: BatchJob,
    uri: str,
    version: int,
    *,
    most_distinct: int,
    in_training: TrainingLabels | None = None,
) -> tuple[BatchResult, GroupedScores]:
    """Score a table into a folder of Parquet parts, with the columns of `serving.batch.local.score_table`.

    Spark reads the rows twice, to validate and to score them, and the predictions once, to count them.

    Parameters
    ----------
    session : pyspark.sql.SparkSession
    batch : BatchJob
    uri : str
        URI of the model. The job distributes its files: workers need neither registry nor tracking store.
    version : int
        Number of the version.
    most_distinct : int
        Maximum number of distinct P(made) that are counted each; above it, so many bins are counted.
    in_training : TrainingLabels, optional
        Labels that the version was trained on. Their rows are marked in a column ``in_training`` and not counted.

    Returns
    -------
    BatchResult, GroupedScores

    Raises
    ------
    TableError
        If the table cannot be read.
    ScoringError
        If too many rows violate the schema. An existing output is unchanged.
    SparkError
        If a job fails.
    """
    reader = open_shots(batch.table, name=batch.name, dataset=batch.dataset)
    with stored_table(reader, batch.out.parent) as path:
        return _score(session, batch, reader, path, uri, version, most_distinct, in_training)


def _score(  # noqa: PLR0913, PLR0917 see `score_table`
    session: "SparkSession",
    batch: BatchJob,
    reader: DatasetReader,
    path: Path,
    uri: str,
    version: int,
    most_distinct: int,
    in_training: TrainingLabels | None,
) -> tuple[BatchResult, GroupedScores]:
    from pyspark.sql import functions  # noqa: PLC0415 an extra

    names, dataset = reader.schema.names, reader.dataset
    column_of = _stored_names(names, dataset)
    target = column_of.get(dataset.target.name, "")
    label = _double(target)
    is_unreadable = f"NOT coalesce({label} IN (0, 1), {label} IS NULL)" if target else "false"
    frame = _checked(session, read(session, path, position=_POSITION), column_of, dataset)
    with translate_errors():
        counts = [f"count_if({_WRONG}) AS rejected", f"count_if({is_unreadable}) AS unlabeled", "count(*) AS rows"]
        found = frame.selectExpr(*counts).collect()[0]
        if found["unlabeled"]:
            reader.unreadable_labels = found["unlabeled"]
            readable = f"CASE WHEN NOT {is_unreadable} THEN {quote_identifier(target)} END"
            frame = frame.withColumn(target, functions.expr(readable))
    warn(reader.warning)
    rejected = found["rejected"]
    bad = (
        _rejects(frame.where(_WRONG).drop(_WRONG), rejected, batch, dataset, all_rows=rejected == found["rows"])
        if rejected
        else None
    )
    good = frame.where(f"NOT {_WRONG}") if rejected else frame
    scored = _scored(session, good, uri, column_of, dataset)
    output = [
        *map(quote_identifier, names),
        f"{_RESULT}.{quote_identifier(dataset.target.name)} AS {PREDICTION}",
        f"{_RESULT}.{PROBABILITY} AS {PROBABILITY}",
        f"CAST({version} AS BIGINT) AS {MODEL_VERSION}",
    ]
    if in_training is not None:
        scored = _with_training_column(session, scored, in_training, column_of, dataset)
        output.append(IN_TRAINING)
    with atomic_write(batch.out) as partial:
        rows = write_into(scored.selectExpr(*output), partial)
        scored, counted = _count(session, partial, most_distinct, target, with_training=in_training is not None)
    if bad is None:
        remove_path(batch.rejects)
    else:
        with table_writer(batch.rejects, bad.schema) as writer:
            writer.write(bad)
    return BatchResult(rows, rejected, scored.made, scored.in_training, (version,)), counted


def _stored_names(names: list[str], dataset: Dataset) -> dict[str, str]:
    """The stored names of the columns that the description has: their own, or those in raw tables."""
    described = ((column.name, column.raw_name) for column in dataset.columns)
    return {name: name if name in names else raw_name for name, raw_name in described if {name, raw_name} & {*names}}


def _checked(session: "SparkSession", frame: "DataFrame", column_of: dict[str, str], dataset: Dataset) -> "DataFrame":
    """Mark the rows that violate the schema, as `problems_of` and `time_problems_of`, in a column ``_WRONG``."""
    time = dataset.time
    checked = [*dataset.features, *[time for time in [time] if time and time.kind == "date"]]
    own = {column.raw_name: column_of[column.name] for column in checked if column.name in column_of}
    engine = SparkEngine(session)
    table = engine.table(frame).rename(own)
    needed = [column.raw_name for column in dataset.features if not column.nullable]
    broken = [each for column, each in violations(table, dataset, needed).items() if column in checked]
    return engine.frame(table.mutate(**{_WRONG: reduce(or_, broken)}).rename({own[name]: name for name in own}))


def _double(name: str) -> str:
    return f"try_cast({quote_identifier(name)} AS DOUBLE)"


def _rejects(wrong: "DataFrame", rejected: int, batch: BatchJob, dataset: Dataset, *, all_rows: bool) -> pa.Table:
    """Rows that violate the schema with their reasons; an error if there are too many, or no others."""
    most = rejected if batch.max_rejected_rows is None else max(batch.max_rejected_rows, _MAX_SHOWN)
    with translate_errors():
        found = wrong.orderBy(_POSITION).limit(min(rejected, most)).toArrow()
    rows = found.drop_columns([_POSITION])
    values, problems = features_of(rows, dataset)
    reasons = {**time_problems_of(rows, dataset), **problems_of(values, dataset), **problems}
    rejects = with_reasons(rows, found.column(_POSITION), pa.array([reasons[row] for row in range(len(rows))]))
    check_rejects(rejected, batch, rejects, complete=True)
    if all_rows:
        counts = ReasonCounts()
        counts.add(reasons.values())
        raise ScoringError(counts.message(batch.name or batch.table))
    return rejects


def _scored(
    session: "SparkSession", good: "DataFrame", uri: str, column_of: dict[str, str], dataset: Dataset
) -> "DataFrame":
    from pyspark.sql import functions  # noqa: PLC0415 an extra

    result = f"{quote_identifier(dataset.target.name)} long, {PROBABILITY} double"
    with translate_errors(), _quiet():
        predict = mlflow.pyfunc.spark_udf(session, uri, result_type=result, env_manager="local")
        features = [functions.expr(_value(column_of[column.name], column)) for column in dataset.features]
        return good.withColumn(_RESULT, predict(*features))


def _value(name: str, column: Column) -> str:
    """SQL of a cell as the model takes it: a double or a string."""
    return _double(name) if column.is_numeric else f"CAST({quote_identifier(name)} AS STRING)"


def _with_training_column(
    session: "SparkSession",
    scored: "DataFrame",
    in_training: TrainingLabels,
    column_of: dict[str, str],
    dataset: Dataset,
) -> "DataFrame":
    from pyspark.sql import functions  # noqa: PLC0415 an extra

    if dataset.target.name not in column_of or not in_training.columns:
        return scored.withColumn(IN_TRAINING, functions.lit(False))
    keys = {name: f"{_KEY}{place}" for place, name in enumerate(in_training.columns)}
    texts = {column.name for column in dataset.columns if not column.is_numeric and column.role == "feature"}
    known = in_training.rows[in_training.columns]
    known = known.astype({name: "object" if name in texts else "float64" for name in known})
    known = known.drop_duplicates().rename(columns=keys)
    with translate_errors():
        seen = functions.broadcast(session.createDataFrame(known).withColumn(IN_TRAINING, functions.lit(True)))
        values = {
            key: f"CAST({quote_identifier(column_of[name])} AS STRING)"
            if name in texts
            else _double(column_of.get(name, name))
            for name, key in keys.items()
        }
        same = " AND ".join(f"{value} = {key}" for key, value in values.items())
        labeled = f"{quote_identifier(column_of[dataset.target.name])} IS NOT NULL"
        joined = scored.join(seen, functions.expr(f"{labeled} AND {same}"), "left")
        return joined.withColumn(IN_TRAINING, functions.expr(f"coalesce({IN_TRAINING}, false)"))


class _Totals(NamedTuple):
    made: int
    in_training: int


def _count(
    session: "SparkSession", folder: Path, most_distinct: int, target: str, *, with_training: bool
) -> tuple[_Totals, GroupedScores]:
    """Counts for the metrics. The size of what is collected does not depend on the number of rows."""
    predictions = read(session, folder)
    is_labeled = f"{quote_identifier(target)} IS NOT NULL" if target else "false"
    is_in_training = f"{IN_TRAINING} AND {is_labeled}" if with_training else "false"
    is_counted = f"{is_labeled} AND NOT {IN_TRAINING}" if with_training else is_labeled
    with translate_errors():
        row = predictions.selectExpr(
            f"coalesce(sum({PREDICTION}), 0) AS made",
            f"count_if({is_in_training}) AS in_training",
            f"approx_count_distinct(CASE WHEN {is_counted} THEN {PROBABILITY} END, {_RELATIVE_ERROR}) AS values",
        ).collect()[0]
        totals = _Totals(int(row["made"]), int(row["in_training"]))
        if not target:
            return totals, GroupedScores(np.empty(0), np.empty(0), np.empty(0))
        made = f"CAST({_double(target)} AS BIGINT)"
        counted = predictions.where(is_counted).selectExpr(PROBABILITY, f"{made} AS made")
        sums = ("count(*) AS rows", "sum(made) AS made", f"avg({PROBABILITY}) AS mean")
        if row["values"] <= most_distinct * _SURELY_MORE:
            found = _grouped(counted, PROBABILITY, sums, most_distinct + 1)
            if len(found) <= most_distinct:
                return totals, _counted(found, PROBABILITY)
        cell = f"least(CAST({PROBABILITY} * {most_distinct} AS BIGINT), {most_distinct - 1})"
        return totals, _counted(_grouped(counted, cell, sums, most_distinct), "mean")


def _grouped(counted: "DataFrame", by: str, sums: tuple[str, ...], most: int) -> pa.Table:
    from pyspark.sql import functions  # noqa: PLC0415 an extra

    groups = counted.groupBy(functions.expr(by).alias(PROBABILITY)).agg(*map(functions.expr, sums))
    return groups.limit(most).toArrow()


def _counted(found: pa.Table, by: str) -> GroupedScores:
    probability, rows, made = (found.column(name).to_numpy().astype(np.float64) for name in (by, "rows", "made"))
    return GroupedScores(probability, made, rows - made)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide MLflow's advice to rebuild the environment: workers have that of the driver (docs/scale.md)."""
    levels = {name: logging.getLogger(name).level for name in _NOISY}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
