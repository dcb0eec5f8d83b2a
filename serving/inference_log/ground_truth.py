"""Write delayed labels into the inference log: ``python -m serving.inference_log.ground_truth FILE``."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import sqlalchemy as sql
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import CliPositionalArg

from data.cli.config import CommandConfig, run_command
from data.cli.console import info, warn
from data.datasets import current
from data.errors import KobeShotError, TableError
from data.storage.dataset_reader import DatasetReader, chart_hint
from data.storage.locations import display_location, local_table, validate_location
from serving.inference_log.described_log import LABEL, described_log, log_columns
from serving.inference_log.inference_log import ORIGINS, TRAFFIC, URL_VARIABLE
from serving.inference_log.reader import has_origin, log_url, open_log
from serving.shot_tables import numbers_of


def keys() -> tuple[tuple[str, ...], ...]:
    """Columns that identify logged rows, in the order in which they are tried, by the dataset of this process."""
    dataset = current()
    return ("request_id", "row"), ("request_id",), (dataset.id.name,), dataset.feature_names


"""Keys that match a label with a scored row, best first; ``request_id`` alone for requests of one row."""

_ROWS_AT_ONCE = 200_000
OF, NEW = "__of", "__new"
"""Parameters of an update, whose names are none of a column: a feature may be named ``label``."""
_LOG_ID, _PLACE = "__id", "__place"
"""The name of no column of a dataset starts with an underscore."""


class LabelError(KobeShotError):
    """The file holds no labels, or no key of the scored rows."""


class LabelJoinResult(NamedTuple):
    """What became of the labels.

    Attributes
    ----------
    key : tuple of str
        Columns by which rows were matched.
    labels : int
        Labels in the file.
    rows : int
        Rows of the log that now have one of them.
    unmatched : int
        Labels for which the log holds no row.
    ambiguous : int
        Labels excluded because the file has both 0 and 1 for the same key.
    """

    key: tuple[str, ...]
    labels: int
    rows: int
    unmatched: int
    ambiguous: int


class LabelsConfig(CommandConfig):
    """Write ground-truth labels into the inference log, by request_id (and row), by the id, or by all features."""

    file: Annotated[CliPositionalArg[str], BeforeValidator(str), AfterValidator(validate_location)] = Field(
        description="the label and request_id, the id or all features: a file of any format that is read, or "
        "a table of a database"
    )
    log: str = Field(
        default="", description=f"SQLAlchemy URL of the log; empty takes ${URL_VARIABLE}, else inference_log.db"
    )
    origin: Literal["traffic", "what_if", "upload", "probe", "all"] = Field(
        default="traffic", description="requests whose rows get labels: those of the operation (traffic), or others"
    )


def attach_labels(table: pd.DataFrame, engine: sql.Engine, *, origins: Collection[str] = (TRAFFIC,)) -> LabelJoinResult:
    """Write labels into the log; a label that is there already is overwritten.

    Parameters
    ----------
    table : pandas.DataFrame
        The label (0, 1 or null; null rows are excluded) and the columns of one of `keys`.
    engine : sqlalchemy.Engine
        Of the log.
    origins : collection of str
        Of `serving.inference_log.inference_log.ORIGINS`: rows of other requests get no label.

    Raises
    ------
    LabelError
        If the columns are not there, or a label is neither 0 nor 1.
    """
    key = _key(table)
    labels = _checked(table, key)
    target = current().target.name
    contradicted = int((labels.groupby(list(key))[target].transform("nunique") > 1).sum())
    usable = labels.drop_duplicates().drop_duplicates(list(key), keep=False).reset_index(drop=True)
    usable[_PLACE] = usable.index
    log = described_log()
    matched = np.zeros(len(usable), dtype=bool)
    rows = 0
    for logged in _logged(engine, log, key, origins):
        found = logged.merge(usable, on=list(key), how="inner")
        rows += len(found)
        matched[found[_PLACE]] = True
        # A transaction each: the log goes on being written meanwhile.
        _write(engine, log, found)
    return LabelJoinResult(key, len(labels), rows, int((~matched).sum()), contradicted)


def run(config: LabelsConfig) -> None:
    """Read a file of labels and write them into the log."""
    origins = ORIGINS if config.origin == "all" else (config.origin,)
    joined = attach_labels(read_labels(config.file), open_log(log_url(config.log)), origins=origins)
    info("Labels", f"{joined.labels:,} in {display_location(config.file)}, matched by {', '.join(joined.key)}")
    whose = "" if config.origin == "all" else f" (origin {config.origin})"
    info("Joined", f"{joined.rows:,} rows of the inference log have one of them{whose}")
    if joined.unmatched:
        info("Unmatched", f"{joined.unmatched:,} labels belong to no logged row{whose}", style="bold yellow")
    if joined.ambiguous:
        info("Excluded", f"{joined.ambiguous:,} labels contradict another of the same key", style="bold yellow")


def read_labels(location: str) -> pd.DataFrame:
    """Read a table of labels: 1, 0 or null, with the names of the model's features.

    Raises
    ------
    LabelError
        If the table cannot be read, none of its labels can, or a column is missing.
    """
    name = display_location(location)
    try:
        with local_table(location) as path:
            reader = DatasetReader(path, name=name)
            table = reader.whole()
    except TableError as error:
        raise LabelError(str(error)) from error
    warn(reader.warning)
    if reader.unreadable_labels and not table[current().target.name].notna().any():
        message = f"{name}: expected labels; found none that can be read. {reader.warning}"
        raise LabelError(message)
    table = table.rename(
        columns={column.raw_name: column.name for column in current().columns if column.name not in table}
    )
    try:
        _key(table)
    except LabelError as error:
        message = f"{name}: {error}{chart_hint(table.columns, name)}"
        raise LabelError(message) from error
    return table


def _key(table: pd.DataFrame) -> tuple[str, ...]:
    target = current().target.name
    for key in keys():
        if target in table and set(key) <= set(table.columns):
            return key
    ways = "; ".join(", ".join(key) for key in keys())
    message = f"expected {target} and the columns of one of: {ways}; found {', '.join(map(str, table.columns))}."
    raise LabelError(message)


def _checked(table: pd.DataFrame, key: Sequence[str]) -> pd.DataFrame:
    target = current().target.name
    labels = table.loc[table[target].notna(), [*key, target]]
    numbers = pd.to_numeric(labels[target], errors="coerce")
    wrong = ~numbers.isin([0, 1])
    if wrong.any():
        row, found = labels.index[wrong][0], labels[target][wrong].iloc[0]
        message = f"row {row}, column {target}: expected 0, 1 or null; found {found!r}"
        raise LabelError(message)
    return labels.assign(**{target: numbers.astype("int64"), **{name: _comparable(labels[name], key) for name in key}})


def _comparable(keys: "pd.Series[Any]", key: Sequence[str]) -> "pd.Series[Any]":
    """Keys as the log holds them: text for requests, numbers for all else."""
    described = None if _is_of_requests(key) else current().by_name.get(str(keys.name))
    if keys.name == "request_id" or (described is not None and not described.is_numeric):
        return keys.astype(str)
    column = pa.chunked_array([pa.array(keys, from_pandas=True)])
    numbers: pd.Series[Any] = pd.Series(numbers_of(column), keys.index)
    if described is None or described.role != "feature":
        with suppress(pa.ArrowException):
            # Ids are exact as integers only.
            numbers = pd.Series(column.cast(pa.int64()).to_numpy(), keys.index)
    if numbers.isna().any():
        row = keys.index[numbers.isna()][0]
        message = f"row {row}, column {keys.name}: expected a number; found {keys[row]!r}"
        raise LabelError(message)
    return numbers


def _is_of_requests(key: Sequence[str]) -> bool:
    """Whether a key is that of requests, and not of columns of the dataset, which may have these names too."""
    return key[0] == "request_id"


def _logged(
    engine: sql.Engine,
    log: Any,  # noqa: ANN401
    key: Sequence[str],
    origins: Collection[str],
) -> Iterator[pd.DataFrame]:
    """The log's keys, a piece at a time, in the order of ``id``."""
    of_origin = [log.c.origin.in_(sorted(origins))] if has_origin(engine) else []
    held = {"request_id": log.c.request_id, "row": log.c.row} if _is_of_requests(key) else log_columns(log)
    columns = [held[name].label(name) for name in key]
    query = sql.select(log.c.id.label(_LOG_ID), *columns).where(*(held[name].is_not(None) for name in key), *of_origin)
    query = query.order_by(log.c.id).limit(_ROWS_AT_ONCE)
    if tuple(key) == ("request_id",):
        alone = sql.select(log.c.request_id).group_by(log.c.request_id).having(sql.func.count() == 1)
        query = query.where(log.c.request_id.in_(alone))
    last = 0
    while True:
        with engine.connect() as connection:
            piece = pd.read_sql(query.where(log.c.id > last), connection)
        if piece.empty:
            return
        last = int(piece[_LOG_ID].iloc[-1])
        yield piece


def _write(engine: sql.Engine, log: Any, found: pd.DataFrame) -> None:  # noqa: ANN401
    if found.empty:
        return
    statement = log.update().where(log.c.id == sql.bindparam(OF)).values({LABEL: sql.bindparam(NEW)})
    pairs = zip(found[_LOG_ID].tolist(), found[current().target.name].tolist(), strict=True)
    with engine.begin() as connection:
        connection.execute(statement, [{OF: number, NEW: label} for number, label in pairs])


if __name__ == "__main__":
    run_command(LabelsConfig, run)
