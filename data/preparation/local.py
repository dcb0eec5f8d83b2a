"""Preparation on one machine: the raw tables stream through it, in bounded memory whatever their size.

Dev rows are checked, selected and written in one pass; their split is decided on labels, or beyond
`data.preparation.split.MOST_SHUFFLED` rows on hashes of their ``shot_id``, both of which are kept on disk; a second
pass over the filtered table deals its rows out to train and test.
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
    validate_disjoint,
    whole_numbers,
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
    raw: Path, out: Path, plan: PreparationParams, on_progress: ProgressCallback = lambda _rows: None
) -> PreparationResult:
    """Check, select, drop and split.

    Parameters
    ----------
    raw : pathlib.Path
        Folder of the two raw tables.
    out : pathlib.Path
        Folder that is there, for the tables of `PreparationResult` and those of ``REJECTS`` that have rows.
    plan : Plan
        Size and seed of the split, and how many rows may break the schema.
    on_progress : callable
        Called with rows that are done, `work` in all.

    Raises
    ------
    SourceError
        If a raw file is not whole, a raw table is empty, or both share a ``shot_id``.
    SchemaError
        If more rows break the schema than may, a ``shot_id`` stands twice in a table, or too few labelled dev rows are
        left to be split with both results on both sides.
    DiskFullError
        If there is no room. Whatever is raised, nothing is left behind in `out`.
    """
    with (
        translate_disk_full(out),
        staging(out, "preparation") as folder,
        ExitStack() as stack,
    ):
        prepared = _Preparation(raw, folder, plan, on_progress, stack).make()
        for path in sorted(folder.glob("*.parquet")):
            remove_path(out / path.name)
            path.replace(out / path.name)
    return prepared


def work(raw: Path) -> int:
    """Rows that `prepare` reports as done in all: dev rows twice, as they are written and as they are split."""
    return 2 * RawTable(raw / DEV_FILE).rows + RawTable(raw / PROD_FILE).rows


@dataclass
class _Counts:
    """Rows of one table, and of those that were left out on the way to it."""

    rows: int = 0
    labelled: int = 0
    made: int = 0
    dropped: int = 0
    missing: dict[str, int] = field(default_factory=dict)

    def left_out(self, table: pd.DataFrame, needed: list[str]) -> "pd.Series[bool]":
        """Whether each row has all that is needed; the others are counted by what they miss."""
        known = table[needed].notna()
        for name in needed:
            self.missing[name] = self.missing.get(name, 0) + int((~known[name]).sum())
        whole = known.all(axis=1)
        self.dropped += int((~whole).sum())
        return whole

    def count(self, labels: "pd.Series[float] | pd.Series[int]") -> None:
        """Count rows that are kept."""
        self.rows += len(labels)
        self.labelled += int(labels.notna().sum())
        self.made += int(labels.sum())


class _Grouped:
    """Gathers pieces until they are as many rows as go into one row group of a Parquet file."""

    def __init__(self, writer: TableWriter, rows: int) -> None:
        self._writer, self._most = writer, rows
        self._held: list[pa.Table] = []
        self._rows = 0

    def write(self, piece: pa.Table) -> None:
        while self._rows + len(piece) >= self._most:
            room = self._most - self._rows
            self._held.append(piece.slice(0, room))
            piece = piece.slice(room)
            self.flush()
        if len(piece):
            self._held.append(piece)
            self._rows += len(piece)

    def flush(self) -> None:
        if self._held:
            self._writer.write(pa.concat_tables(self._held).combine_chunks())
        self._held, self._rows = [], 0


class _Side(NamedTuple):
    """Rows of train or of test, and their ``shot_id``."""

    rows: pa.Table
    shot_ids: npt.NDArray[np.int64]


class _Preparation:
    def __init__(
        self, raw: Path, folder: Path, plan: PreparationParams, on_progress: ProgressCallback, stack: ExitStack
    ) -> None:
        self._raw, self._folder, self._plan, self._on_progress = raw, folder, plan, on_progress
        self._checks = [
            stack.enter_context(RowValidator(name, folder, max_rejected_rows=plan.max_rejected_rows))
            for name in (DEV_FILE, PROD_FILE)
        ]
        self._spilled = folder / ".ids.partial"

    def make(self) -> PreparationResult:
        dev, prod = _Counts(), _Counts()
        self._filter(dev)
        self._checks[1].before = self._checks[0].rejected
        self._select_prod(prod)
        validate_disjoint(*self._checks)
        sides = self._split(dev)
        counts = {FILTERED: dev, **sides, PROD: prod}
        return PreparationResult(
            rows={name: each.rows for name, each in counts.items()},
            labelled={name: each.labelled for name, each in counts.items()},
            made={name: each.made for name, each in counts.items()},
            dropped={
                "dropped_dev_rows": dev.dropped,
                "dropped_prod_rows": prod.dropped,
                **{f"dropped_dev_missing_{name}": dev.missing[name] for name in _COLUMNS},
                **{f"dropped_prod_missing_{name}": prod.missing[name] for name in FEATURES},
            },
            rejected={name: check.rejected for name, check in zip(REJECTS, self._checks, strict=True)},
        )

    def _filter(self, counts: _Counts) -> None:
        """Write the filtered table, and the ``shot_id`` and label of each of its rows."""
        schema = self._schema(DEV_FILE, {**dict.fromkeys(FEATURES, "float64"), TARGET: "int64"})
        with self._writing(FILTERED, schema) as writer, self._spilled.open("wb") as spilled:
            for table in self._kept(DEV_FILE, self._checks[0]):
                whole = counts.left_out(table, _COLUMNS)
                kept = table[whole]
                labels = kept[TARGET].astype("int64")
                counts.count(labels)
                writer.write(_arrow(kept[_COLUMNS].assign(**{TARGET: labels}), schema))
                pairs = np.empty(len(kept), dtype=_SPILLED)
                pairs["shot_id"] = kept[SHOT_ID]
                pairs["label"] = labels
                spilled.write(pairs.tobytes())

    def _select_prod(self, counts: _Counts) -> None:
        dated = [GAME_DATE] if GAME_DATE in RawTable(self._raw / PROD_FILE).schema.names else []
        kinds = {SHOT_ID: "int64", **dict.fromkeys(dated, "object"), **dict.fromkeys(_COLUMNS, "float64")}
        schema = self._schema(PROD_FILE, kinds)
        with self._writing(PROD, schema) as writer:
            for table in self._kept(PROD_FILE, self._checks[1]):
                kept = table[counts.left_out(table, list(FEATURES))]
                counts.count(kept[TARGET])
                writer.write(_arrow(kept[list(kinds)], schema))

    def _kept(self, file: str, check: RowValidator) -> Iterator[pd.DataFrame]:
        """The rows of a raw table that fit the schema, a piece at a time; the others go to its table of rejects."""
        # Only a table of rejects has the other columns.
        columns = None if self._plan.max_rejected_rows else [*VALIDATED_COLUMNS, GAME_DATE]
        table = RawTable(self._raw / file, columns)
        schema = pa.schema([each for each in table.schema if each.name != REASON]).append(pa.field(REASON, pa.string()))
        used = [name for name in table.schema.names if name in {*VALIDATED_COLUMNS, GAME_DATE}]
        with ExitStack() as stack:
            rejects: TableWriter | None = None
            for piece in table.pieces():
                shots = pd.DataFrame(piece.select(used).to_pandas())
                why = check.look(shots)
                if len(why):
                    places = why.index
                    shots = shots.drop(index=places)
                    if check.allowed:
                        if rejects is None:
                            path = self._folder / f"{REJECTS[file]}.parquet"
                            rejects = stack.enter_context(table_writer(path, schema))
                        taken = piece.take(places.to_numpy()).select(schema.names[:-1])
                        rejects.write(taken.append_column(schema.field(REASON), pa.array(why, pa.string())))
                yield _select(shots)
                self._on_progress(len(piece))
            check.finish()

    def _split(self, dev: _Counts) -> dict[str, _Counts]:
        counts = {TRAIN: _Counts(), TEST: _Counts()}
        filtered = TableReader(self._folder / f"{FILTERED}.parquet")
        schema = self._schema(DEV_FILE, {**dict.fromkeys(FEATURES, "float64"), TARGET: "int64"})
        ids_schema = self._schema(DEV_FILE, {SHOT_ID: "int64"})
        with ExitStack() as stack:
            writers = {name: stack.enter_context(self._writing(name, schema)) for name in counts}
            id_writers = {name: stack.enter_context(self._writing(IDS[name], ids_schema)) for name in counts}
            for sides in self._sides(filtered, dev):
                for name, side in sides.items():
                    counts[name].count(side.rows.column(TARGET).to_pandas())
                    writers[name].write(side.rows)
                    id_writers[name].write(pa.table([side.shot_ids], schema=ids_schema))
        self._spilled.unlink()
        return counts

    def _sides(self, filtered: TableReader, dev: _Counts) -> Iterator[dict[str, _Side]]:
        """The rows of train and test and their ``shot_id``, a piece at a time."""
        raw_rows = dev.rows + dev.dropped + self._checks[0].rejected
        if dev.rows <= split.MOST_SHUFFLED:
            table = pa.concat_tables([filtered.schema.empty_table(), *filtered.chunks(CHUNK_ROWS)]).combine_chunks()
            labels = table.column(TARGET).to_numpy().astype(np.int8)
            places = split.stratified_split(labels, self._plan.test_size, self._plan.seed)
            shot_ids = np.concatenate([np.empty(0, dtype=np.int64), *(pairs["shot_id"] for pairs in self._pairs())])
            sides = (_Side(table.take(side).combine_chunks(), shot_ids[side]) for side in places)
            yield dict(zip((TRAIN, TEST), sides, strict=True))
            self._on_progress(raw_rows)
            return
        classes = {0: dev.rows - dev.made, 1: dev.made}
        test_rows = split.test_rows_per_class(classes, self._plan.test_size, self._plan.seed)
        found = split.thresholds(test_rows, self._count_leading)
        highest = np.array([found[0], found[1]], dtype=np.uint64)
        for piece, pairs in zip(filtered.chunks(CHUNK_ROWS), self._pairs(), strict=True):
            is_test = self._hashes(pairs) <= highest[pairs["label"]]
            masks = {TRAIN: ~is_test, TEST: is_test}
            yield {name: _Side(piece.filter(pa.array(mask)), pairs["shot_id"][mask]) for name, mask in masks.items()}
            self._on_progress(len(piece))
        self._on_progress(raw_rows - dev.rows)

    def _count_leading(self, prefixes: Mapping[int, split.Prefix]) -> dict[int, npt.NDArray[np.int64]]:
        counts = {label: np.zeros(1 << split.BITS, dtype=np.int64) for label in prefixes}
        for pairs in self._pairs():
            for label, prefix in prefixes.items():
                counts[label] += split.count_leading(self._hashes(pairs[pairs["label"] == label]), prefix)
        return counts

    def _hashes(self, pairs: npt.NDArray[np.void]) -> split.Hashes:
        return split.hashes(np.ascontiguousarray(pairs["shot_id"]), self._plan.seed)

    def _pairs(self) -> Iterator[npt.NDArray[np.void]]:
        with self._spilled.open("rb") as file:
            while len(pairs := np.fromfile(file, dtype=_SPILLED, count=CHUNK_ROWS)):
                yield pairs

    @contextmanager
    def _writing(self, name: str, schema: pa.Schema) -> Iterator[_Grouped]:
        # A table that is shuffled is held as a whole anyway, and pandas writes it as one group.
        raw_rows = RawTable(self._raw / (PROD_FILE if name == PROD else DEV_FILE), [SHOT_ID]).rows
        rows = _GROUP_ROWS if raw_rows > split.MOST_SHUFFLED else max(raw_rows, 1)
        with table_writer(self._folder / f"{name}.parquet", schema) as writer:
            grouped = _Grouped(writer, rows)
            yield grouped
            grouped.flush()

    def _schema(self, file: str, kinds: Mapping[str, str]) -> pa.Schema:
        """The schema of a table as pandas would write it, with the mark of simulated shots if the raw table has it."""
        # Of texts pandas knows the kind only where there is one.
        row = pd.DataFrame({name: ["" if kind == "object" else 0] for name, kind in kinds.items()}).astype(dict(kinds))
        row.attrs.update(json.loads(attributes(self._raw / file) or b"{}"))
        return arrow_schema(row)


def _select(raw: pd.DataFrame) -> pd.DataFrame:
    """The columns that are used, of rows that fit the schema."""
    table = raw[[RAW_COLUMN_NAMES.get(name, name) for name in _COLUMNS]].astype("float64").set_axis(_COLUMNS, axis=1)
    dates = {GAME_DATE: _days(raw[GAME_DATE])} if GAME_DATE in raw else {}
    return table.assign(**{SHOT_ID: whole_numbers(raw[SHOT_ID]), **dates})


def _days(dates: "pd.Series[Any]") -> "pd.Series[Any]":
    """Days as texts; of moments, the day in UTC."""
    if pd.api.types.is_datetime64_any_dtype(dates):
        dates = pd.to_datetime(dates, utc=True).dt.strftime("%Y-%m-%d")
    return dates.astype("string").astype(object)


def _arrow(table: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pandas(table, schema=schema, preserve_index=False)
