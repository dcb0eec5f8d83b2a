"""Preparation on one machine: streams the raw tables, in bounded memory for any size.

The first pass over the dev rows validates, filters and writes them. The split uses their labels, or above
`data.preparation.split.MAX_SHUFFLED` rows the hashes of their ``shot_id``, which are kept on disk. A second pass over
the filtered table writes train and test.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from data.acquisition.raw_tables import (
    CHUNK_ROWS,
    DEV_FILE,
    PROD_FILE,
    RawTable,
    RowValidator,
    attributes,
    to_integers,
    validate_disjoint,
)
from data.cli.progress import ProgressCallback
from data.preparation import split
from data.preparation.contract import REJECTS, PreparationParams, PreparationResult
from data.preparation.manifest import FILTERED, IDS, PROD, TEST, TRAIN
from data.schema import FEATURES, GAME_DATE, RAW_COLUMN_NAMES, REASON, SHOT_ID, TARGET, VALIDATED_COLUMNS
from data.storage.files import remove_path, translate_disk_full
from data.storage.staging import staging
from data.storage.tables import TableReader, TableWriter, arrow_schema, table_writer

_COLUMNS = [*FEATURES, TARGET]
_GROUP_ROWS = 262_144
_SPILLED = np.dtype([("shot_id", "<i8"), ("label", "i1")])


def prepare(
    raw: Path, out: Path, params: PreparationParams, on_progress: ProgressCallback = lambda _rows: None
) -> PreparationResult:
    """Validate, filter and split the raw tables.

    Parameters
    ----------
    raw : pathlib.Path
        Folder that contains the two raw tables.
    out : pathlib.Path
        Existing folder for the tables of `PreparationResult` and the non-empty tables of ``REJECTS``.
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
    DiskFullError
        If the disk is full. `out` is unchanged after any exception.
    """
    with (
        translate_disk_full(out),
        staging(out, "preparation") as folder,
        ExitStack() as stack,
    ):
        result = _Preparation(raw, folder, params, on_progress, stack).make()
        for path in sorted(folder.glob("*.parquet")):
            remove_path(out / path.name)
            path.replace(out / path.name)
    return result


def progress_total(raw: Path) -> int:
    """Total number of rows that `prepare` reports: dev rows count twice, for filtering and for the split."""
    return 2 * RawTable(raw / DEV_FILE).rows + RawTable(raw / PROD_FILE).rows


@dataclass
class _Counts:
    """Counts of the rows of one table, and of the rows that were dropped."""

    rows: int = 0
    labeled: int = 0
    made: int = 0
    dropped: int = 0
    missing: dict[str, int] = field(default_factory=dict)

    def select_complete(self, table: pd.DataFrame, needed: list[str]) -> "pd.Series[bool]":
        """Whether each row has all needed values; count the other rows by missing column."""
        known = table[needed].notna()
        for name in needed:
            self.missing[name] = self.missing.get(name, 0) + int((~known[name]).sum())
        complete = known.all(axis=1)
        self.dropped += int((~complete).sum())
        return complete

    def count(self, labels: "pd.Series[float] | pd.Series[int]") -> None:
        """Count the rows of the table."""
        self.rows += len(labels)
        self.labeled += int(labels.notna().sum())
        self.made += int(labels.sum())


class _RowGroupWriter:
    """Buffers chunks until they fill one row group of a Parquet file."""

    def __init__(self, writer: TableWriter, rows: int) -> None:
        self._writer, self._max_rows = writer, rows
        self._held: list[pa.Table] = []
        self._rows = 0

    def write(self, chunk: pa.Table) -> None:
        while self._rows + len(chunk) >= self._max_rows:
            capacity = self._max_rows - self._rows
            self._held.append(chunk.slice(0, capacity))
            chunk = chunk.slice(capacity)
            self.flush()
        if len(chunk):
            self._held.append(chunk)
            self._rows += len(chunk)

    def flush(self) -> None:
        if self._held:
            self._writer.write(pa.concat_tables(self._held).combine_chunks())
        self._held, self._rows = [], 0


class _Side(NamedTuple):
    """Rows of train or test, and their ``shot_id``."""

    rows: pa.Table
    shot_ids: npt.NDArray[np.int64]


class _Preparation:
    def __init__(
        self, raw: Path, folder: Path, params: PreparationParams, on_progress: ProgressCallback, stack: ExitStack
    ) -> None:
        self._raw, self._folder, self._params, self._on_progress = raw, folder, params, on_progress
        self._validators = [
            stack.enter_context(RowValidator(name, folder, max_rejected_rows=params.max_rejected_rows))
            for name in (DEV_FILE, PROD_FILE)
        ]
        self._spilled = folder / ".ids.partial"

    def make(self) -> PreparationResult:
        dev, prod = _Counts(), _Counts()
        self._filter(dev)
        self._validators[1].before = self._validators[0].rejected
        self._select_prod(prod)
        validate_disjoint(*self._validators)
        sides = self._split(dev)
        counts = {FILTERED: dev, **sides, PROD: prod}
        return PreparationResult(
            rows={name: each.rows for name, each in counts.items()},
            labeled={name: each.labeled for name, each in counts.items()},
            made={name: each.made for name, each in counts.items()},
            dropped={
                "dropped_dev_rows": dev.dropped,
                "dropped_prod_rows": prod.dropped,
                **{f"dropped_dev_missing_{name}": dev.missing[name] for name in _COLUMNS},
                **{f"dropped_prod_missing_{name}": prod.missing[name] for name in FEATURES},
            },
            rejected={name: validator.rejected for name, validator in zip(REJECTS, self._validators, strict=True)},
        )

    def _filter(self, counts: _Counts) -> None:
        """Write the filtered table, and the ``shot_id`` and label of each of its rows."""
        schema = self._schema(DEV_FILE, {**dict.fromkeys(FEATURES, "float64"), TARGET: "int64"})
        with self._row_group_writer(FILTERED, schema) as writer, self._spilled.open("wb") as spilled:
            for table in self._valid_rows(DEV_FILE, self._validators[0]):
                complete = counts.select_complete(table, _COLUMNS)
                kept = table[complete]
                labels = kept[TARGET].astype("int64")
                counts.count(labels)
                writer.write(_to_arrow(kept[_COLUMNS].assign(**{TARGET: labels}), schema))
                pairs = np.empty(len(kept), dtype=_SPILLED)
                pairs["shot_id"] = kept[SHOT_ID]
                pairs["label"] = labels
                spilled.write(pairs.tobytes())

    def _select_prod(self, counts: _Counts) -> None:
        date_columns = [GAME_DATE] if GAME_DATE in RawTable(self._raw / PROD_FILE).schema.names else []
        types = {SHOT_ID: "int64", **dict.fromkeys(date_columns, "object"), **dict.fromkeys(_COLUMNS, "float64")}
        schema = self._schema(PROD_FILE, types)
        with self._row_group_writer(PROD, schema) as writer:
            for table in self._valid_rows(PROD_FILE, self._validators[1]):
                kept = table[counts.select_complete(table, list(FEATURES))]
                counts.count(kept[TARGET])
                writer.write(_to_arrow(kept[list(types)], schema))

    def _valid_rows(self, file: str, validator: RowValidator) -> Iterator[pd.DataFrame]:
        """Iterate over the valid rows of a raw table, in chunks; invalid rows go to the table of rejects."""
        # Only the table of rejects needs the other columns.
        columns = None if self._params.max_rejected_rows else [*VALIDATED_COLUMNS, GAME_DATE]
        table = RawTable(self._raw / file, columns)
        schema = pa.schema([each for each in table.schema if each.name != REASON]).append(pa.field(REASON, pa.string()))
        used = [name for name in table.schema.names if name in {*VALIDATED_COLUMNS, GAME_DATE}]
        with ExitStack() as stack:
            rejects: TableWriter | None = None
            for chunk in table.iter_chunks():
                shots = pd.DataFrame(chunk.select(used).to_pandas())
                reasons = validator.validate_chunk(shots)
                if len(reasons):
                    places = reasons.index
                    shots = shots.drop(index=places)
                    if validator.allowed:
                        if rejects is None:
                            path = self._folder / f"{REJECTS[file]}.parquet"
                            rejects = stack.enter_context(table_writer(path, schema))
                        taken = chunk.take(places.to_numpy()).select(schema.names[:-1])
                        rejects.write(taken.append_column(schema.field(REASON), pa.array(reasons, pa.string())))
                yield _select(shots)
                self._on_progress(len(chunk))
            validator.finalize()

    def _split(self, dev: _Counts) -> dict[str, _Counts]:
        counts = {TRAIN: _Counts(), TEST: _Counts()}
        filtered = TableReader(self._folder / f"{FILTERED}.parquet")
        schema = self._schema(DEV_FILE, {**dict.fromkeys(FEATURES, "float64"), TARGET: "int64"})
        ids_schema = self._schema(DEV_FILE, {SHOT_ID: "int64"})
        with ExitStack() as stack:
            writers = {name: stack.enter_context(self._row_group_writer(name, schema)) for name in counts}
            id_writers = {name: stack.enter_context(self._row_group_writer(IDS[name], ids_schema)) for name in counts}
            for sides in self._sides(filtered, dev):
                for name, side in sides.items():
                    counts[name].count(side.rows.column(TARGET).to_pandas())
                    writers[name].write(side.rows)
                    id_writers[name].write(pa.table([side.shot_ids], schema=ids_schema))
        self._spilled.unlink()
        return counts

    def _sides(self, filtered: TableReader, dev: _Counts) -> Iterator[dict[str, _Side]]:
        """Iterate over the rows of train and test and their ``shot_id``, in chunks."""
        raw_rows = dev.rows + dev.dropped + self._validators[0].rejected
        if dev.rows <= split.MAX_SHUFFLED:
            table = pa.concat_tables([filtered.schema.empty_table(), *filtered.chunks(CHUNK_ROWS)]).combine_chunks()
            labels = table.column(TARGET).to_numpy().astype(np.int8)
            places = split.stratified_split(labels, self._params.test_size, self._params.seed)
            shot_ids = np.concatenate([np.empty(0, dtype=np.int64), *(pairs["shot_id"] for pairs in self._id_chunks())])
            sides = (_Side(table.take(side).combine_chunks(), shot_ids[side]) for side in places)
            yield dict(zip((TRAIN, TEST), sides, strict=True))
            self._on_progress(raw_rows)
            return
        classes = {0: dev.rows - dev.made, 1: dev.made}
        test_rows = split.test_rows_per_class(classes, self._params.test_size, self._params.seed)
        found = split.thresholds(test_rows, self._count_leading)
        thresholds = np.array([found[0], found[1]], dtype=np.uint64)
        for chunk, pairs in zip(filtered.chunks(CHUNK_ROWS), self._id_chunks(), strict=True):
            is_test = self._hashes(pairs) <= thresholds[pairs["label"]]
            masks = {TRAIN: ~is_test, TEST: is_test}
            yield {name: _Side(chunk.filter(pa.array(mask)), pairs["shot_id"][mask]) for name, mask in masks.items()}
            self._on_progress(len(chunk))
        self._on_progress(raw_rows - dev.rows)

    def _count_leading(self, prefixes: Mapping[int, split.Prefix]) -> dict[int, npt.NDArray[np.int64]]:
        counts = {label: np.zeros(1 << split.BITS, dtype=np.int64) for label in prefixes}
        for pairs in self._id_chunks():
            for label, prefix in prefixes.items():
                counts[label] += split.count_leading(self._hashes(pairs[pairs["label"] == label]), prefix)
        return counts

    def _hashes(self, pairs: npt.NDArray[np.void]) -> split.Hashes:
        return split.hashes(np.ascontiguousarray(pairs["shot_id"]), self._params.seed)

    def _id_chunks(self) -> Iterator[npt.NDArray[np.void]]:
        with self._spilled.open("rb") as file:
            while len(pairs := np.fromfile(file, dtype=_SPILLED, count=CHUNK_ROWS)):
                yield pairs

    @contextmanager
    def _row_group_writer(self, name: str, schema: pa.Schema) -> Iterator[_RowGroupWriter]:
        # A table that is shuffled is held in memory as a whole, and pandas writes it as one group.
        raw_rows = RawTable(self._raw / (PROD_FILE if name == PROD else DEV_FILE), [SHOT_ID]).rows
        rows = _GROUP_ROWS if raw_rows > split.MAX_SHUFFLED else max(raw_rows, 1)
        with table_writer(self._folder / f"{name}.parquet", schema) as writer:
            writer_ = _RowGroupWriter(writer, rows)
            yield writer_
            writer_.flush()

    def _schema(self, file: str, types: Mapping[str, str]) -> pa.Schema:
        """The schema of a table as pandas writes it, with the synthetic mark of the raw table."""
        # pandas infers the type of a string column from its values.
        row = pd.DataFrame({name: ["" if dtype == "object" else 0] for name, dtype in types.items()}).astype(
            dict(types)
        )
        row.attrs.update(json.loads(attributes(self._raw / file) or b"{}"))
        return arrow_schema(row)


def _select(raw: pd.DataFrame) -> pd.DataFrame:
    """Select and rename the columns that are used, of valid rows."""
    table = raw[[RAW_COLUMN_NAMES.get(name, name) for name in _COLUMNS]].astype("float64").set_axis(_COLUMNS, axis=1)
    dates = {GAME_DATE: _date_strings(raw[GAME_DATE])} if GAME_DATE in raw else {}
    return table.assign(**{SHOT_ID: to_integers(raw[SHOT_ID]), **dates})


def _date_strings(dates: "pd.Series[Any]") -> "pd.Series[Any]":
    """Convert dates to strings; of timestamps, the day in UTC."""
    if pd.api.types.is_datetime64_any_dtype(dates):
        dates = pd.to_datetime(dates, utc=True).dt.strftime("%Y-%m-%d")
    return dates.astype("string").astype(object)


def _to_arrow(table: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pandas(table, schema=schema, preserve_index=False)
