"""The two raw tables: read a piece at a time, checked, split, and known for simulated where they are.

Each is a Parquet file or a folder of Parquet files, see `data.storage.tables`. None is ever held in memory as a whole.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data.acquisition.duplicate_ids import IdSet, Ints
from data.errors import FileError, SchemaError, SourceError
from data.schema import (
    COLUMN,
    RAW_COLUMN_NAMES,
    SHOT_ID,
    THREE_POINTS,
    TWO_POINTS,
    VALIDATED_COLUMNS,
    FailureSummary,
    check_columns,
    check_raw,
    failure_cases,
    raw_schema,
    reasons,
)
from data.simulation.synthetic import SIMULATION
from data.storage.files import parquet_files
from data.storage.regular_files import open_native, open_regular
from data.storage.tables import ATTRIBUTES, TableError, TableReader, TableWriter, arrow_schema, table_writer

DEV_FILE = "dataset_kobe_dev.parquet"
PROD_FILE = "dataset_kobe_prod.parquet"
FILES = (DEV_FILE, PROD_FILE)

CHUNK_ROWS = 131_072
"""Rows that are read and checked at a time."""
MOST_COUNTED = 1_000_000
"""Rows that break the schema up to which they are counted; the rest of the table is not looked at then."""

_POINTS = {DEV_FILE: TWO_POINTS, PROD_FILE: THREE_POINTS}
_PIECES_BETWEEN_RELEASES = 16
_INDEX = "__index_level_"

_TEXTS = "object"
_NUMBERS = {f"{kind}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64)}

Pieces = Callable[[Sequence[str]], Iterator[pd.DataFrame]]
"""The pieces of a table, each time anew, with certain columns as texts."""


class RawTable:
    """A raw table with the names of `data.schema`.

    Parameters
    ----------
    path : pathlib.Path
        A Parquet file, or a folder of Parquet files.
    columns : sequence of str, optional
        Names of ``COLUMNS``: only these are read, those of them that the table has.
    also_required : sequence of str
        See `check_columns`.

    Attributes
    ----------
    name : str
        What messages call it.
    rows : int
    schema : pyarrow.Schema
        Of what is read, in the order of the file.

    Raises
    ------
    SourceError
        If a file is not whole, or there are no rows.
    SchemaError
        If a column is missing, or is there twice.
    """

    def __init__(self, path: Path, columns: Sequence[str] | None = None, *, also_required: Sequence[str] = ()) -> None:
        self.name = path.name
        self._path = path
        with _told_of_table(path):
            whole = TableReader(path)
            names = [name for name in whole.schema.names if not name.startswith(_INDEX)]
            self.rows = whole.rows or 0
            raw_names = {name: raw for name, raw in RAW_COLUMN_NAMES.items() if raw not in names}
            if not self.rows or not names:
                message = f"{path.name} holds no rows; expected shots."
                raise SourceError(message)
            check_columns([raw_names.get(name, name) for name in names], path.name, also_required=also_required)
            wanted = [name for name in names if columns is None or raw_names.get(name, name) in columns]
            self._reader = TableReader(path, wanted)
        self._names = [raw_names.get(name, name) for name in self._reader.schema.names]
        self.schema = pa.schema(
            [field.with_name(name) for field, name in zip(self._reader.schema, self._names, strict=True)]
        )

    def pieces(self) -> Iterator[pa.Table]:
        """The table, ``CHUNK_ROWS`` rows at a time.

        Raises
        ------
        SourceError
            If a file is not whole.
        """
        with _told_of_table(self._path):
            for number, piece in enumerate(self._reader.chunks(CHUNK_ROWS), start=1):
                yield piece.rename_columns(self._names)
                if number % _PIECES_BETWEEN_RELEASES == 0:
                    # The system's allocator keeps the gaps that pieces leave, and there are ever more of them.
                    pa.default_memory_pool().release_unused()


class RowValidator:
    """The check of one table, a piece at a time; as a context manager.

    Parameters
    ----------
    name : str
        What to call the table in messages.
    folder : pathlib.Path
        Where ``shot_id`` are kept if there are many.
    also_required : sequence of str
        See `data.schema.raw_schema`.
    max_rejected_rows : int
        Rows that may break the schema, with those before.

    Attributes
    ----------
    before : int
        Rows of another table that broke it.
    rejected : int
        Rows of this one that did.
    shot_ids : Numbers
        Of the rows that did not.
    """

    def __init__(
        self, name: str, folder: Path, *, also_required: Sequence[str] = (), max_rejected_rows: int = 0
    ) -> None:
        self.before = 0
        self.shot_ids = IdSet(folder)
        self._name, self._also_required, self._most_rejected = name, also_required, max_rejected_rows
        self._schema = raw_schema(also_required=also_required, unique=False)
        self._findings = FailureSummary(name)
        self._rows = 0
        self._only: pd.DataFrame | None = None

    @property
    def rejected(self) -> int:
        """Rows that broke the schema."""
        return self._findings.rows

    @property
    def allowed(self) -> bool:
        """Whether no more rows broke the schema than may."""
        return not self.rejected or self.before + self.rejected <= self._most_rejected

    def __enter__(self) -> Self:
        """The check."""
        self.shot_ids.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove what was kept on disk."""
        self.shot_ids.__exit__(kind, error, trace)

    def look(self, piece: pd.DataFrame) -> "pd.Series[str]":
        """Look at the next piece.

        Parameters
        ----------
        piece : pandas.DataFrame, index 0 to n - 1
            With the columns of ``VALIDATED_COLUMNS`` that the table has.

        Returns
        -------
        pandas.Series of str
            Why rows break the schema, by row of the piece.

        Raises
        ------
        SchemaError
            If something is wrong that is not wrong with a row, or ``MOST_COUNTED`` rows break the schema.
        """
        found = failure_cases(piece[[name for name in VALIDATED_COLUMNS if name in piece]], self._schema, self._name)
        why = reasons(found)
        kept = piece if why.empty else piece.drop(index=why.index)
        self.shot_ids.add(whole_numbers(kept[SHOT_ID]))
        self._findings.add(found, self._rows)
        self._only = None if self._rows else piece
        self._rows += len(piece)
        if self.rejected > max(MOST_COUNTED, self._most_rejected):
            raise self._findings.error(max_rejected_rows=self._most_rejected, complete=False)
        return why

    def finish(self) -> None:
        """Say whether the table may be used.

        Raises
        ------
        SchemaError
            If too many rows break the schema, or a ``shot_id`` stands in two that do not.
        """
        doubled = self.shot_ids.doubled()
        if (doubled or not self.allowed) and self._only is not None and not self._most_rejected:
            # All of a table that is one piece can be told at once, with the rows of a shot_id that stands twice.
            check_raw(self._only, self._name, also_required=self._also_required)
        if not self.allowed:
            raise self._findings.error(max_rejected_rows=self._most_rejected)
        if doubled:
            message = (
                f"{self._name}: {doubled.count:,} shot_id found twice or more, {doubled}; expected each only once. "
                "Mend or remove them."
            )
            raise SchemaError(message)


def whole_numbers(column: "pd.Series[float]") -> Ints:
    """A checked column of integers, however they came."""
    return np.asarray(pd.to_numeric(column).astype("int64"))


def validate_pair(folder: Path) -> None:
    """Check both tables of a folder, and that no shot is in both: the model would learn from what it is measured on.

    Raises
    ------
    SourceError
        If a file is not whole, a table has no rows, or both share a ``shot_id``.
    SchemaError
        If a table breaks the schema.
    """
    with ExitStack() as stack:
        checks = [stack.enter_context(RowValidator(name, folder)) for name in FILES]
        for name, check in zip(FILES, checks, strict=True):
            for piece in RawTable(folder / name, VALIDATED_COLUMNS).pieces():
                check.look(piece.to_pandas())
            check.finish()
        validate_disjoint(*checks)


def validate_disjoint(dev: RowValidator, prod: RowValidator) -> None:
    """Refuse two tables that share a ``shot_id``.

    Raises
    ------
    SourceError
        Says how many, and some of them.
    """
    shared = dev.shot_ids.shared(prod.shot_ids)
    if shared:
        message = (
            f"{DEV_FILE} and {PROD_FILE} share {shared.count:,} shot_id ({shared}); expected none, "
            "or the model would learn from shots that it is measured on."
        )
        raise SourceError(message)


def split_table(path: Path, folder: Path) -> None:
    """Split one table, CSV or Parquet or a folder of Parquet files, by ``shot_type`` into the two raw tables.

    Raises
    ------
    SourceError, SchemaError
        If the table cannot be read, breaks the schema, or lacks one of the two kinds of shot.
    """
    if path.suffix.lower() == ".csv":
        split_by_shot_type(lambda texts: _csv_pieces(path, texts), path.name, folder)
    else:
        table, marks = RawTable(path, also_required=["shot_type"]), json.loads(attributes(path) or b"{}")
        split_by_shot_type(lambda _: (_marked(piece.to_pandas(), marks) for piece in table.pieces()), path.name, folder)


def split_by_shot_type(pieces: Pieces, name: str, folder: Path) -> None:
    """Split a table that comes in pieces, called `name` in messages, by ``shot_type``; see `split_table`."""
    kinds: dict[str, str] = {}
    labels: set[str] = set()
    with RowValidator(name, folder, also_required=["shot_type"]) as check:
        for piece in pieces([]):
            if not kinds:
                check_columns(list(piece.columns), name, also_required=["shot_type"])
            if check.look(piece).empty and not check.rejected:
                labels |= set(piece["shot_type"].unique())
                kinds = _joined(kinds, piece)
        check.finish()
    for points in _POINTS.values():
        if points not in labels:
            message = (
                f"{name} holds no rows with shot_type {points!r}; expected both {TWO_POINTS!r} and {THREE_POINTS!r}."
            )
            raise SourceError(message)
    texts = [column for column, kind in kinds.items() if kind == _TEXTS]
    write_split((_as_kinds(piece, kinds) for piece in pieces(texts)), folder)


def write_split(pieces: Iterator[pd.DataFrame], folder: Path) -> None:
    """Write pieces of one table, all with the same types, as the two raw tables.

    Parameters
    ----------
    pieces : iterator of pandas.DataFrame
        With ``shot_type``; what ``attrs`` of the first one say is kept in the files.
    folder : pathlib.Path
        Where they go.
    """
    writers: dict[str, TableWriter] = {}
    with ExitStack() as stack:
        schema = None
        for piece in pieces:
            if schema is None:
                schema = arrow_schema(piece)
                writers = {file: stack.enter_context(table_writer(folder / file, schema)) for file in FILES}
            for file, writer in writers.items():
                part = piece[piece["shot_type"] == _POINTS[file]]
                writer.write(pa.Table.from_pandas(part, schema=schema, preserve_index=False))


def attributes(path: Path) -> bytes:
    """What pandas keeps of ``DataFrame.attrs`` in a Parquet file, or the first of a folder; empty where it keeps none.

    Raises
    ------
    SourceError
        If the file is not whole.
    """
    file = next(iter(parquet_files(path)), path) if path.is_dir() else path
    with _told_of(file), open_native(file) as opened:
        metadata = pq.read_schema(opened).metadata or {}
    return bytes(metadata.get(ATTRIBUTES, b""))


def simulation(folder: Path) -> str | None:
    """Size and seed of the simulation that the files of a folder come from, or None where they are not simulated.

    The simulator marks its tables, and the mark travels inside Parquet files wherever they are copied to; a CSV file
    has no place for it.
    """
    for name in FILES:
        found = json.loads(attributes(folder / name) or b"{}")
        if SIMULATION in found:
            return str(found[SIMULATION])
    return None


def _joined(kinds: Mapping[str, str], piece: pd.DataFrame) -> dict[str, str]:
    """The pandas types of columns that hold this piece too: of several, wider numbers or else texts."""
    joined: dict[str, str] = {}
    for name in map(str, piece.columns):
        column = piece[name]
        if column.dtype == object and _is_number(name):
            column = pd.to_numeric(column)
        known = kinds.get(name, str(column.dtype))
        if known != str(column.dtype):
            numeric = known in _NUMBERS and str(column.dtype) in _NUMBERS
            known = str(np.result_type(known, str(column.dtype))) if numeric else _TEXTS
        joined[name] = known
    return joined


def _as_kinds(piece: pd.DataFrame, kinds: Mapping[str, str]) -> pd.DataFrame:
    """A piece with the types of its table, as Parquet wants them."""
    stored = piece.copy()
    for name, kind in kinds.items():
        column = stored[name]
        if column.dtype == object and _is_number(name):
            column = pd.to_numeric(column)
        if kind == _TEXTS:
            stored[name] = _as_texts(column)
        else:
            stored[name] = column if str(column.dtype) == kind else column.astype(pd.api.types.pandas_dtype(kind))
    return stored


def _is_number(name: str) -> bool:
    return name in COLUMN and COLUMN[name].kind != "text"


def _as_texts(column: "pd.Series[str]") -> "pd.Series[str]":
    if column.dtype == object and pd.api.types.infer_dtype(column, skipna=True) in {"string", "empty"}:
        return column
    return column.astype(str).where(column.notna(), None)


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    try:
        yield
    except FileError as error:
        raise SourceError(str(error)) from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise SourceError(_not_whole(path, error)) from error


@contextmanager
def _told_of_table(path: Path) -> Iterator[None]:
    try:
        yield
    except TableError as error:
        if path.is_dir() or error.__cause__ is None or isinstance(error.__cause__, FileError):
            raise SourceError(str(error)) from error
        raise SourceError(_not_whole(path, error.__cause__)) from error


def _not_whole(path: Path, error: BaseException) -> str:
    return f"{path.name} is not a whole Parquet file: it is truncated or of another format ({_first_line(error)})."


def _marked(piece: pd.DataFrame, marks: dict[str, str]) -> pd.DataFrame:
    piece.attrs.update(marks)
    return piece


def _csv_pieces(path: Path, texts: Sequence[str]) -> Iterator[pd.DataFrame]:
    kinds = dict.fromkeys(texts, str)
    try:
        with (
            open_regular(path) as text,
            pd.read_csv(text, low_memory=False, chunksize=CHUNK_ROWS, dtype=kinds) as reader,
        ):
            for piece in reader:
                yield _named_as_raw(piece.reset_index(drop=True))
    except FileError as error:
        raise SourceError(str(error)) from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError) as error:
        message = f"{path.name} is not a CSV file in UTF-8 with one header line ({_first_line(error)})."
        raise SourceError(message) from error


def _named_as_raw(table: pd.DataFrame) -> pd.DataFrame:
    return table.rename(columns={name: raw for name, raw in RAW_COLUMN_NAMES.items() if raw not in table.columns})


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
