"""The two raw files as tables: read, checked, split, and known for simulated where they are."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data.errors import SourceError
from data.files import write_parquet
from data.schema import COLUMN, RAW_NAME, SHOT_ID, THREE_POINTS, TWO_POINTS, check_raw
from data.synthetic import SIMULATION

DEV_FILE = "dataset_kobe_dev.parquet"
PROD_FILE = "dataset_kobe_prod.parquet"
FILES = (DEV_FILE, PROD_FILE)

_POINTS = {DEV_FILE: TWO_POINTS, PROD_FILE: THREE_POINTS}
_MOST_IDS_SHOWN = 5


def read_checked(path: Path) -> pd.DataFrame:
    """Read a raw Parquet file and check it against the schema.

    Raises
    ------
    SourceError
        If the file is not whole, or has no rows.
    SchemaError
        If the table breaks the schema.
    """
    table = _named_as_raw(_read_parquet(path))
    if table.empty:
        message = f"{path.name} holds no rows; expected shots."
        raise SourceError(message)
    check_raw(table, path.name)
    return table


def check_pair(folder: Path) -> dict[str, pd.DataFrame]:
    """Check both files of a folder, and that no shot is in both: a prod shot among those to learn from would be a leak.

    Returns
    -------
    dict of str to pandas.DataFrame
        The tables by file name.

    Raises
    ------
    SourceError, SchemaError
        See `read_checked`; also if the files share a ``shot_id``.
    """
    tables = {name: read_checked(folder / name) for name in FILES}
    dev, prod = (set(pd.to_numeric(table[SHOT_ID]).astype("int64")) for table in tables.values())
    shared = sorted(dev & prod)
    if shared:
        examples = ", ".join(map(str, shared[:_MOST_IDS_SHOWN]))
        message = (
            f"{DEV_FILE} and {PROD_FILE} share {len(shared):,} shot_id (such as {examples}); expected none, "
            "or the model would learn from shots that it is measured on."
        )
        raise SourceError(message)
    return tables


def split_table(path: Path, folder: Path) -> None:
    """Split one CSV or Parquet table by ``shot_type`` into the two files.

    Raises
    ------
    SourceError, SchemaError
        If the table cannot be read, breaks the schema, or lacks one of the two kinds of shot.
    """
    table = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
    split(_named_as_raw(table), path.name, folder)


def split(table: pd.DataFrame, name: str, folder: Path) -> None:
    """Split a table, called `name` in messages, by ``shot_type`` into the two files; see `split_table`."""
    check_raw(table, name, also_required=["shot_type"])
    table = _storable(table)
    for file, points in _POINTS.items():
        part = table[table["shot_type"] == points]
        if part.empty:
            message = (
                f"{name} holds no rows with shot_type {points!r}; expected both {TWO_POINTS!r} and {THREE_POINTS!r}."
            )
            raise SourceError(message)
        write_parquet(part.reset_index(drop=True), folder / file)


def simulation(folder: Path) -> str | None:
    """Size and seed of the simulation that the files of a folder come from, or None where they are not simulated.

    The simulator marks its tables, and the mark travels inside Parquet files wherever they are copied to; a CSV file
    has no place for it.
    """
    for name in FILES:
        with _told_of(folder / name):
            metadata = pq.read_schema(folder / name).metadata or {}
        attributes = json.loads(metadata.get(b"PANDAS_ATTRS", b"{}"))
        if SIMULATION in attributes:
            return str(attributes[SIMULATION])
    return None


def _read_parquet(path: Path) -> pd.DataFrame:
    with _told_of(path):
        return pd.read_parquet(path)


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        message = (
            f"{path.name} is not a whole Parquet file: it is truncated or of another format ({_first_line(error)})."
        )
        raise SourceError(message) from error


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, low_memory=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError) as error:
        message = f"{path.name} is not a CSV file in UTF-8 with one header line ({_first_line(error)})."
        raise SourceError(message) from error


def _named_as_raw(table: pd.DataFrame) -> pd.DataFrame:
    return table.rename(columns={name: raw for name, raw in RAW_NAME.items() if raw not in table.columns})


def _storable(table: pd.DataFrame) -> pd.DataFrame:
    """The table with one type per column, as Parquet wants it: numbers where the schema says so, else texts."""
    table = table.copy()
    for name in table.select_dtypes("object").columns:
        column = COLUMN.get(name)
        if column and column.kind != "text":
            table[name] = pd.to_numeric(table[name])
        else:
            table[name] = table[name].astype(str).where(table[name].notna(), None)
    return table


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
