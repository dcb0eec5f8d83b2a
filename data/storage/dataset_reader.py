"""The one reader of every table of rows, labels or scored rows that a person hands in, by the description of a dataset.

Names are matched (`data.storage.column_names`), numbers with a decimal comma or separated thousands are read as such,
labels in any usual spelling, dates as strings such as ``2013-10-29``, and float32 as the decimal number that it
stands for.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.datasets import Column, Dataset, current
from data.datasets.description import RESERVED, folded
from data.errors import TableError
from data.schema import PROBABILITY
from data.storage.column_names import canonical, twins, unique
from data.storage.dates import DateReader
from data.storage.tables import TableReader

_NO_LABEL = ("", "nan", "none", "null", "na", "n/a", "<na>", "unknown", "?", "-")
_BOOLEANS = {"true": "1", "t": "1", "yes": "1", "y": "1", "false": "0", "f": "0", "no": "0", "n": "0"}
_CHART = {"loc_x", "loc_y", "game_event_id"}
_MAX_EXAMPLES = 5
_ROWS_COMPARED = 131_072
_DIGITS_OF_FLOAT32 = 12
"""Length from which a number as a string may be a float32 that was converted to a double."""
_ADDED_BY_SCORING = {folded(name): name for name in RESERVED}
_PROBABILITY = Column(name="p", role="pass_through", kind="float", minimum=0, maximum=1)


class DatasetReader(TableReader):
    """A table that a person hands in.

    Parameters
    ----------
    path : pathlib.Path
        A file or folder; see `data.storage.locations.local_table` for tables elsewhere.
    columns : sequence of str, optional
        Columns to read; names that the table lacks are ignored.
    required : collection of str
        Columns that the table must have; the name in raw tables is as good as the name.
    dropped : collection of str
        Columns that are not read, because scoring adds its own.
    name : str
        Name of the table in messages; its path by default.
    dataset : Dataset, optional
        What the table is; by default the dataset of this process.

    Attributes
    ----------
    dataset : Dataset
    unreadable_labels : int
        Labels that are none of `Dataset.labels`, in the rows that were read last; they are null.

    Raises
    ------
    TableError
        If the table cannot be read, lacks a column, or has one twice.
    """

    def __init__(  # noqa: PLR0913 what is read, as what
        self,
        path: Path,
        columns: Sequence[str] | None = None,
        *,
        required: Collection[str] = (),
        dropped: Collection[str] = (),
        name: str = "",
        dataset: Dataset | None = None,
    ) -> None:
        self.dataset = dataset or current()
        self.unreadable_labels, self._unreadable = 0, dict[str, None]()
        self._dates = defaultdict[str, DateReader](DateReader)
        super().__init__(path, columns, name=name)
        self.schema = pa.schema([field for field in self.schema if field.name not in dropped])
        self._require(required)

    def _require(self, required: Collection[str]) -> None:
        missing = [name for name in required if not {name, self._raw_name(name)} & set(self.names)]
        duplicates = sorted(
            {name for part in self._parts for name in part.schema.names if part.schema.names.count(name) > 1}
        )
        problems = [f"missing: {', '.join(missing)}"] * bool(missing)
        problems += [f"duplicate: {', '.join(duplicates)}"] * bool(duplicates)
        if not problems:
            return
        either = [f"{name} or {self._raw_name(name)}" for name in required if name != self._raw_name(name)]
        note = f" ({', '.join(either)})" if either else ""
        wanted = f"expected the columns {', '.join(required)}{note}, each once"
        wanted = wanted if required else "expected each column once"
        found = ", ".join(self.names[:40]) or "no columns"
        hint = chart_hint(self.names, self.name, self.dataset) if missing else ""
        message = f"{self.name}: {wanted}; {'; '.join(problems)}. Found: {found}.{hint}"
        raise TableError(message)

    @property
    def warning(self) -> str:
        """How many labels of the rows that were read last could not be read; empty if all were."""
        if not self.unreadable_labels:
            return ""
        such_as = f", such as {next(iter(self._unreadable))}" if self._unreadable else ""
        return (
            f"{self.unreadable_labels:,} value(s) of {self.dataset.target.name} in {self.name} cannot be "
            f"read{such_as}; {self._expected_labels}. These rows have no label."
        )

    @property
    def _expected_labels(self) -> str:
        own = self.dataset.target.categories
        if own:
            return f"expected {own[1]} or {own[0]}"
        return (
            f"expected 1 or 0 (also true, yes, {self.dataset.positive}, sim; false, no, {self.dataset.negative}, não)"
        )

    def require_labels(self, rows: int, max_share: float) -> None:
        """Raise if too many labels of the rows that were read last could not be read: the target has other values.

        Raises
        ------
        TableError
            If it is a larger share of the rows.
        """
        if self.unreadable_labels <= max_share * rows:
            return
        target = self.dataset.target.name
        message = (
            f"{self.name}: {self._expected_labels} in {target}, or null; found {', '.join(self._unreadable)} in "
            f"{self.unreadable_labels:,} of {rows:,} rows. Name the two values in the description: "
            f"columns.{target} with kind = 'category' and categories = [the negative, the positive value]; or make "
            "more values two in the table."
        )
        raise TableError(message)

    @property
    def is_stored(self) -> bool:
        """Whether the columns of the table are those of Parquet files, by name and type."""
        return self.formats == {"parquet"} and all(
            place < len(part.stored)
            and (part.stored.names[place], part.stored.types[place]) == (name, part.schema.types[place])
            for part in self._parts
            for place, name in enumerate(part.schema.names)
            if name in self.schema.names
        )

    def respells(self) -> bool:
        """Whether the texts of a stored table, such as dates, are not spelled as this reader gives them."""
        texts = [field.name for field in self.schema if pa.types.is_string(field.type) and self._is_spelled(field.name)]
        readers = TableReader(self.path, texts), DatasetReader(self.path, texts, dataset=self.dataset)
        pairs = zip(*(reader.chunks(_ROWS_COMPARED) for reader in readers), strict=True)
        return bool(texts) and not all(stored.equals(read) for stored, read in pairs)

    def _is_spelled(self, name: str) -> bool:
        """Whether a text may be a date or a number in another spelling."""
        column = self._column_of(name)
        return column is not None and (column.kind == "date" or column.is_numeric)

    def _names(self, names: list[str]) -> list[str]:
        found = unique([canonical(name, self.dataset) for name in names], self.dataset)
        renamed: dict[str, str] = {}
        for column in self.dataset.columns:
            # In a scored table, scoring's own column has this name, and the dataset's has its name in prepared tables.
            if added := _ADDED_BY_SCORING.get(folded(column.raw_name)):
                renamed[column.raw_name] = added if column.name in found else column.name
        return [renamed.get(name, name) for name in found]

    def _type(self, name: str, found: pa.DataType) -> pa.DataType:
        found = super()._type(name, found)
        if pa.types.is_large_string(found) or pa.types.is_string_view(found):
            found = pa.string()
        if self._is_target(name):
            return pa.float64() if pa.types.is_floating(found) or pa.types.is_decimal(found) else pa.int64()
        column = self._column_of(name)
        kind = column.kind if column else ""
        if column and not column.is_numeric:
            return pa.string()
        if kind and (pa.types.is_floating(found) or pa.types.is_decimal(found) or pa.types.is_null(found)):
            return pa.float64()
        if kind and pa.types.is_boolean(found):
            return pa.int64()
        if kind and not pa.types.is_integer(found):
            return pa.string()
        return found

    def _converts(self, name: str) -> bool:
        return self._column_of(name) is not None

    def _converted(self, name: str, column: pa.Array, target: pa.DataType) -> pa.Array:
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if self._is_target(name):
            return self._labels(column).cast(target)
        described = self._column_of(name)
        kind = described.kind if described else ""
        if described and described.is_categorical and pa.types.is_floating(column.type):
            column = _integers_of(column)
        if pa.types.is_float16(column.type) or pa.types.is_float32(column.type):
            # The shortest decimal that a float32 stands for: -118.0198, not -118.01979827880859.
            column = column.cast(pa.float32()).cast(pa.string())
        if pa.types.is_decimal(column.type):
            # Arrow's cast to a double is not exact.
            column = column.cast(pa.string())
        if pa.types.is_timestamp(column.type) and target == pa.string():
            return pc.strftime(column, format="%Y-%m-%d")
        column = column.cast(target) if column.type != target else column
        if described and target == pa.string() and kind in {"float", "integer"}:
            column = _numbers(described, column)
        if kind == "date":
            column = self._dates[name].read(column)
        if kind == "boolean" and target == pa.string():
            column = _booleans(column, described.true_pattern if described else "")
        return _within_edges(described, column) if described and kind == "float" else column

    def _labels(self, column: pa.Array) -> pa.Array:
        labels, unreadable = read_labels(column, self.dataset)
        count = pc.sum(unreadable).as_py() or 0
        if count and len(self._unreadable) < _MAX_EXAMPLES:
            distinct = pc.unique(column.filter(unreadable)).slice(0, _MAX_EXAMPLES)
            self._unreadable |= dict.fromkeys(map(repr, distinct.to_pylist()))
        self.unreadable_labels += count
        return labels

    def _batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        self.unreadable_labels, start = 0, 0
        self._unreadable.clear()
        self._dates.clear()
        for batch in super()._batches(rows):
            self._check_twins(batch, start)
            start += len(batch)
            yield batch

    def _check_twins(self, batch: pa.RecordBatch, start: int) -> None:
        for names in twins(batch.schema.names, self.dataset):
            one, other = (batch.column(name).cast(pa.string()) for name in names)
            differ = pc.fill_null(pc.not_equal(one, other), False)
            row = pc.index(differ, True).as_py()
            if row >= 0:
                message = (
                    f"{self.name}: found both {names[0]} and {names[1]}, which name one column, with different values: "
                    f"{one[row]} and {other[row]} in row {start + row}. Remove one of them."
                )
                raise TableError(message)

    def _is_target(self, name: str) -> bool:
        return name in {self.dataset.target.name, self.dataset.target.raw_name}

    def _raw_name(self, name: str) -> str:
        column = self._column_of(name)
        return column.raw_name if column else name

    def _column_of(self, name: str) -> Column | None:
        if name in RESERVED:
            return _PROBABILITY if name == PROBABILITY else None
        return self.dataset.by_name.get(name)


def read_labels(column: pa.Array, dataset: Dataset | None = None) -> tuple[pa.Array, pa.Array]:
    """Read labels in any usual spelling.

    Parameters
    ----------
    column : pyarrow.Array
        Of any type.
    dataset : Dataset, optional
        Its words and values are read too; by default that of this process.

    Returns
    -------
    labels : pyarrow.Array of int64
        1, 0, or null.
    unreadable : pyarrow.Array of bool
        Whether a value is neither a label nor missing.

    Examples
    --------
    >>> labels, unreadable = read_labels(pa.array(["1.0", "Não", "made", None, "nan", "late"]))
    >>> labels.to_pylist(), unreadable.to_pylist().index(True)
    ([1, 0, 1, None, None, None], 5)
    """
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int64())
    dataset = dataset or current()
    is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    if is_number and not dataset.target.categories:
        numbers = column.cast(pa.float64())
        is_label = pc.fill_null(pc.or_(pc.equal(numbers, 0.0), pc.equal(numbers, 1.0)), False)
        labels = pc.if_else(is_label, numbers, pa.scalar(None, pa.float64())).cast(pa.int64())
        return labels, pc.and_not(pc.fill_null(pc.invert(pc.is_nan(numbers)), False), is_label)
    texts = pc.utf8_lower(pc.utf8_trim_whitespace(pc.fill_null(column.cast(pa.string()), "")))
    texts = pc.replace_substring_regex(texts, r"^\+?(-?\d+)[.,]0*$", r"\1")
    known = pc.index_in(texts, pa.array(dataset.labels))
    labels = pc.take(pa.array(dataset.labels.values(), pa.int64()), known)
    return labels, pc.and_(labels.is_null(), pc.invert(pc.is_in(texts, pa.array(_NO_LABEL))))


def chart_hint(names: Collection[str], table: str, dataset: Dataset | None = None) -> str:
    """What to do with a shot chart of stats.nba.com, where shots were expected; empty for other tables."""
    if (dataset or current()).court is None or not set(names) >= _CHART:
        return ""
    return (
        " It is a shot chart of stats.nba.com (ShotChartDetail). Convert it first: "
        f"python -m data.nba_charts {table} --out shots.parquet"
    )


def _integers_of(column: pa.Array) -> pa.Array:
    """Integers without a fraction, where a null made them floats: categories 1 and 2, not 1.0 and 2.0."""
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:
        return column


def _booleans(column: pa.Array, true_pattern: str = "") -> pa.Array:
    """Booleans as 1 and 0, where they are spelled in a usual way or by a pattern; others are rejected later.

    Examples
    --------
    >>> _booleans(pa.array(["LAL vs. POR", "LAL @ POR", "True", None]), " vs[.] ").to_pylist()
    ['1', '0', '1', None]
    """
    texts = pc.utf8_lower(pc.utf8_trim_whitespace(column))
    known = pc.index_in(texts, pa.array(_BOOLEANS))
    others = pc.if_else(pc.match_substring_regex(column, true_pattern), "1", "0") if true_pattern else texts
    return pc.coalesce(pc.take(pa.array(_BOOLEANS.values(), pa.string()), known), others)


def _numbers(described: Column, column: pa.Array) -> pa.Array:
    """Numbers as strings, with a decimal point and without separators of thousands."""
    column = pc.utf8_trim_whitespace(column)
    if not pc.any(pc.match_substring(column, ",")).as_py():
        return column
    is_id = described.kind == "integer" and described.maximum is None
    if is_id:
        grouped = pc.match_substring_regex(column, r"^[+-]?\d{1,3}(,\d{3})+$")
        column = pc.if_else(grouped, pc.replace_substring(column, ",", ""), column)
    return pc.replace_substring_regex(column, r"^([+-]?\d*),(\d+)$", r"\1.\2")


def _within_edges(described: Column, column: pa.Array) -> pa.Array:
    """A column in which values that only float32 puts outside of the range are its end."""
    limits = described.limits
    if pa.types.is_string(column.type) and (pc.max(pc.binary_length(column)).as_py() or 0) < _DIGITS_OF_FLOAT32:
        return column
    low, high = limits
    if low is None and high is None:
        return column
    if pa.types.is_floating(column.type):
        found = pc.min_max(column).as_py()
        is_low = low is not None and found["min"] is not None and found["min"] < low
        is_high = high is not None and found["max"] is not None and found["max"] > high
        if not is_low and not is_high:
            return column
    try:
        values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowException:
        # Rows with cells that are no numbers are rejected later.
        return column
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32)
    for end, sign in zip(limits, (-1, 1), strict=True):
        if end is None:
            continue
        near = (sign * values > sign * end) & (sign * rounded <= sign * np.float32(end))
        if near.any():
            column = pc.if_else(pa.array(near), pa.scalar(end).cast(column.type), column)
    return column
