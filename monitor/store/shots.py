"""Shots for the court: with their season, which the prepared tables do not carry, from the raw files."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from data.datasets import current, for_dataset, raw_folder
from data.errors import TableError
from data.paths import RAW
from data.storage.files import parquet_files
from data.storage.tables import TableReader
from monitor.store import run_names
from monitor.store.model_store import ModelStore

SEASON = "season"
UNKNOWN = "unknown"
_MAX_SHOTS = 200_000
_CHUNK_ROWS = 131_072


def development_shots(store: ModelStore) -> pd.DataFrame:
    """The labeled dev shots that have every feature: the features, ``shot_made_flag``, ``shot_id``, ``season``.

    A large raw file is sampled.

    Raises
    ------
    TableError
        If neither ``data/raw`` nor a run holds the raw file.
    """
    raw = _raw(store, current().raw_tables[0])
    dataset = current()
    table = pd.DataFrame(
        {
            column.name: raw[column.raw_name].astype("float64" if column.is_numeric else "object")
            for column in (*dataset.features, dataset.target)
        }
    )
    table[dataset.id.name] = raw[dataset.id.raw_name].astype("Int64")
    table[SEASON] = _seasons(raw)
    needed = [column.name for column in (*dataset.features, dataset.target) if not column.nullable]
    return table.dropna(subset=needed).reset_index(drop=True)


def with_season(store: ModelStore, table: pd.DataFrame) -> pd.DataFrame:
    """A table with ``season`` (str), ``unknown`` where no raw file has the ``shot_id``.

    Raises
    ------
    TableError
        If a raw file is there but cannot be read.
    """
    identifier = current().id.name
    if identifier not in table:
        return table.assign(**{SEASON: UNKNOWN})
    seasons: pd.Series[Any] = pd.Series(UNKNOWN, index=table.index)
    for path in filter(None, (_find(store, file) for file in current().raw_tables)):
        seasons = table[identifier].map(_known(path, SEASON, table[identifier])).fillna(seasons)
    return table.assign(**{SEASON: seasons.astype(str)})


def game_dates(store: ModelStore, table: pd.DataFrame) -> "pd.Series[pd.Timestamp] | None":
    """The day of each shot's game by its ``shot_id``, NaT where no raw file has it; None where no shot has one.

    Raises
    ------
    TableError
        If a raw file is there but cannot be read.
    """
    identifier, day = current().id.name, current().time
    if identifier not in table or day is None or day.kind != "date":
        return None
    dates: pd.Series[Any] = pd.Series(index=table.index, dtype="datetime64[ns]")
    for path in filter(None, (_find(store, file) for file in current().raw_tables)):
        known = pd.to_datetime(_known(path, day.raw_name, table[identifier]), errors="coerce").astype("datetime64[ns]")
        dates = dates.combine_first(table[identifier].map(known))
    return dates if dates.notna().any() else None


def _known(path: Path, column: str, wanted: "pd.Series[int]") -> "pd.Series[Any]":
    """A column of the wanted shots by their ``shot_id``, those that a raw file of any size has; null without it."""
    found = [pd.Series(index=pd.Index([], dtype="int64"), dtype="object")]
    with _naming(path):
        key = current().id.raw_name
        for chunk in TableReader(path, [key, column]).chunks(_CHUNK_ROWS):
            raw = chunk.to_pandas().reindex(columns=[key, column])
            kept = raw[raw[key].isin(wanted)]
            found.append(kept[column].set_axis(kept[key]).astype(object))
    known = pd.concat(found)
    return known[~known.index.duplicated()]


def _seasons(raw: pd.DataFrame) -> "pd.Series[str]":
    if SEASON not in raw:
        return pd.Series(UNKNOWN, index=raw.index)
    return raw[SEASON].fillna(UNKNOWN).astype(str)


def _raw(store: ModelStore, file: str) -> pd.DataFrame:
    path = _find(store, file)
    if path is None:
        message = f"{file} is neither in data/raw nor in a run. Acquire it: {for_dataset('mlflow run . -e aquisicao')}"
        raise TableError(message)
    return _read(path, _changed(path))


def _find(store: ModelStore, file: str) -> Path | None:
    """A raw file, in its folder or in the run that acquired it last; None where it is gone."""
    local = raw_folder(root=RAW) / file
    if local.exists():
        return local
    run = store.last_run(run_names.ACQUISITION)
    if run is None:
        return None
    try:
        return store.artifact(run.run_id, f"raw/{file}")
    except TableError:
        return None


def _changed(path: Path) -> int:
    """When a table changed last; the newest part decides where it is in parts."""
    files = [path, *parquet_files(path)] if path.is_dir() else [path]
    return max(int(file.stat().st_mtime_ns) for file in files)


@lru_cache(maxsize=4)
def _read(path: Path, _when: int) -> pd.DataFrame:
    with _naming(path):
        return TableReader(path).systematic_sample(_MAX_SHOTS)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except TableError as error:
        message = f"{path.name} cannot be read: {error}. Acquire it again: {for_dataset('mlflow run . -e aquisicao')}"
        raise TableError(message) from error
