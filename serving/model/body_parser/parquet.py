"""Parse features and identifier of a Parquet file to doubles, after a check of footer, schema and page headers.

Other columns are not read, so their size does not matter. The page headers bound the cost of the columns that are
read, and the rows are counted during reading.
"""

import re
import struct
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from mlflow.exceptions import MlflowException

from .page_headers import check_metadata, page_headers
from .table import (
    MAX_TEXT,
    Features,
    Table,
    TextColumn,
    TooLargeError,
    WrongCellsError,
    others,
    refusal,
    split_ids,
)

if TYPE_CHECKING:
    from serving.server_limits import Limits

_MAGIC = b"PAR1"
_TAIL_BYTES = 8
_MAX_FOOTER_BYTES = 1 << 20
_MAX_ITEMS = 4_000
"""Maximum length of a list in the footer: columns, row groups, and nested groups, which Arrow keeps on its stack."""
_MAX_PAGES = 10_000
_MAX_TEXT_BYTES = 64
_MAX_BYTES_OF_CHARACTER = 4
_ROWS_AT_ONCE = 1 << 16
_DELTA_BYTE_ARRAY = 7
_TEXT, _FIXED = "BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"
_MAX_FIXED_BYTES = 32
# Arrow reads past the end of the columns of these writers.
_OLD_WRITER = re.compile(r"(?i)parquet-mr(?!.*\bversion ([2-9]|[1-9]\d|1\.([3-9]|[1-9]\d)))")


def read_parquet(body: bytes, features: Features, limits: "Limits") -> Table:
    """Parse the features, and the identifier if it exists, of a Parquet file.

    Raises
    ------
    TooLargeError
        If there are too many rows, columns or bytes.
    WrongCellsError
        If there are strings in place of numbers.
    mlflow.exceptions.MlflowException
        BAD_REQUEST or INVALID_PARAMETER_VALUE (HTTP 400) if it is not a Parquet file of the features.
    """
    try:
        return _read(body, features, limits)
    except (MlflowException, WrongCellsError):
        raise
    except Exception as error:
        # A damaged file may raise any error, and Arrow's message may contain paths of the server.
        message = f"The body could not be read as a Parquet file: {type(error).__name__}."
        raise refusal(message) from error


def _read(body: bytes, features: Features, limits: "Limits") -> Table:
    check_metadata(_footer(body))
    source = pa.BufferReader(body)
    file = pq.ParquetFile(
        source, thrift_string_size_limit=_MAX_FOOTER_BYTES, thrift_container_size_limit=_MAX_ITEMS, pre_buffer=False
    )
    metadata = file.metadata
    if metadata.num_columns > limits.columns:
        raise TooLargeError(limits.columns, "columns", metadata.num_columns)
    if metadata.num_rows > limits.rows:
        raise TooLargeError(limits.rows, "rows", metadata.num_rows)
    schema = file.schema_arrow
    index = (schema.pandas_metadata or {}).get("index_columns", [])
    names = [name for name in schema.names if name not in index]
    places = features.places(names)
    there = [number for number, place in enumerate(places) if place >= 0]
    wanted = [names[places[number]] for number in there]
    strings = {names[places[number]]: number for number in there if features.names[number] in features.texts}
    if features.identifier and features.identifier in names:
        wanted.append(features.identifier)
    leaves = _leaves(file, wanted, strings)
    of_strings = [
        name for name, leaf in zip(wanted, leaves, strict=True) if file.schema.column(leaf).physical_type == _TEXT
    ]
    _check_pages(body, metadata, leaves, limits, has_texts=bool(of_strings))
    if of_strings:
        # Without dictionaries Arrow copies a long string for every row that has it.
        file = pq.ParquetFile(source, metadata=metadata, read_dictionary=of_strings, pre_buffer=False)
    cells, texts = _cells(file, wanted, [features.names[number] for number in there], strings)
    if len(there) < len(places):
        # An optional column that is missing is null.
        every = np.full((len(cells), len(places) + cells.shape[1] - len(there)), np.nan)
        every[:, [*there, *range(len(places), every.shape[1])]] = cells
        cells = every
    values, ids = split_ids(cells, features)
    return Table(values, ids, others(names, places, features), None, texts)


def _footer(body: bytes) -> memoryview:
    """The metadata of a file, if its declared length is possible."""
    length = struct.unpack("<I", body[-_TAIL_BYTES : -len(_MAGIC)])[0] if len(body) >= _TAIL_BYTES else 0
    if body[-len(_MAGIC) :] != _MAGIC or not 0 < length <= len(body) - _TAIL_BYTES:
        message = "The body could not be read as a Parquet file: it does not end as one."
        raise refusal(message)
    if length > _MAX_FOOTER_BYTES:
        raise TooLargeError(_MAX_FOOTER_BYTES, "bytes in the footer of a Parquet file", length)
    return memoryview(body)[len(body) - _TAIL_BYTES - length : len(body) - _TAIL_BYTES]


def _leaves(file: pq.ParquetFile, wanted: Sequence[str], strings: Collection[str]) -> list[int]:
    """Find the columns with the wanted names; each must be a flat column of numbers or strings.

    The columns of `strings` may also hold dates, and dictionaries.

    Raises
    ------
    mlflow.exceptions.MlflowException
        BAD_REQUEST (HTTP 400) if one is anything else.
    """
    columns = [file.schema.column(place) for place in range(len(file.schema))]
    found = []
    for name in wanted:
        # Arrow treats a dot in a name as access to a nested column.
        places = [place for place, column in enumerate(columns) if f"{column.path}.".startswith(f"{name}.")]
        kind = file.schema_arrow.field(name).type
        is_flat = len(places) == 1 and columns[places[0]].path == name
        if not is_flat or not _is_readable(columns[places[0]], kind, may_be_date=name in strings):
            expected = "strings" if name in strings else "numbers"
            message = f"No row was scored. column {name}: expected {expected}, found {str(kind)[:100]}"
            raise refusal(message)
        found.append(places[0])
    return found


def _is_readable(column: pq.ColumnSchema, kind: pa.DataType, *, may_be_date: bool) -> bool:
    if column.max_repetition_level or column.max_definition_level > 1:
        return False
    if may_be_date:
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
            return True
    if column.physical_type == _TEXT:
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
    if column.physical_type == _FIXED and column.length > _MAX_FIXED_BYTES:
        return False
    tests = (pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_null)
    return any(is_kind(kind) for is_kind in tests)


def _check_pages(
    body: bytes, metadata: pq.FileMetaData, leaves: Sequence[int], limits: "Limits", *, has_texts: bool
) -> None:
    """Reject pages whose uncompressed size exceeds the limit.

    Raises
    ------
    TooLargeError
    ValueError
        If a page header is damaged.
    """
    chunks = [metadata.row_group(group).column(leaf) for group in range(metadata.num_row_groups) for leaf in leaves]
    if metadata.num_row_groups <= 1 and not has_texts and all(chunk.compression == "UNCOMPRESSED" for chunk in chunks):
        # No page is longer than the body.
        return
    if _OLD_WRITER.match(metadata.created_by or ""):
        message = "expected a Parquet file of a writer since 2013"
        raise refusal(message)
    size, pages, whole = 0, 0, memoryview(body)
    for chunk in chunks:
        for header in page_headers(_pages(whole, chunk)):
            size, pages = size + header.uncompressed_bytes, pages + 1
            if size > limits.uncompressed_bytes:
                raise TooLargeError(limits.uncompressed_bytes, "bytes in the columns of the features, uncompressed")
            if pages > _MAX_PAGES:
                raise TooLargeError(_MAX_PAGES, "pages in the columns of the features")
            if chunk.physical_type == _TEXT and header.encoding == _DELTA_BYTE_ARRAY:
                message = "No row was scored. Expected numbers; found texts with the encoding DELTA_BYTE_ARRAY"
                raise refusal(message)


def _pages(body: memoryview, chunk: pq.ColumnChunkMetaData) -> memoryview:
    """The byte range of a column chunk that Arrow reads; empty if it has no values."""
    if chunk.num_values <= 0:
        return body[:0]
    start = chunk.data_page_offset
    if chunk.has_dictionary_page and 0 < (chunk.dictionary_page_offset or 0) < start:
        start = chunk.dictionary_page_offset
    end = start + chunk.total_compressed_size
    if not 0 <= start <= end <= len(body):
        message = "a column lies outside the file"
        raise ValueError(message)
    return body[start:end]


def _cells(
    file: pq.ParquetFile, wanted: Sequence[str], features: Sequence[str], strings: Mapping[str, int]
) -> tuple[npt.NDArray[np.float64], dict[int, Sequence[str]]]:
    """The wanted columns as doubles, with exactly the number of rows that the footer declares.

    Those of `strings`, which maps them to the places of their features, hold places of strings, which are the second
    result.
    """
    rows = file.metadata.num_rows
    cells = np.empty((rows, len(wanted)))
    texts = {name: TextColumn() for name in strings}
    done = 0
    for batch in file.iter_batches(_ROWS_AT_ONCE, columns=list(wanted), use_threads=False):
        if done + len(batch) > rows:
            break
        wrong: list[tuple[int, str, object]] = []
        count = 0
        for place, name in enumerate(wanted):
            column = batch.column(name)
            if name in texts:
                cells[done : done + len(batch), place], bad = _places(column, texts[name])
                count += len(bad)
                wrong += [(done + row, features[place], _shown(column[row])) for row in bad[:10].tolist()]
                continue
            cells[done : done + len(batch), place] = numbers = _doubles(column)
            if pa.types.is_dictionary(column.type) and place < len(features):
                no_numbers = np.flatnonzero(np.isnan(numbers) & ~column.is_null().to_numpy(zero_copy_only=False))
                count += len(no_numbers)
                wrong += [(done + row, features[place], _text(column[row])) for row in no_numbers[:10].tolist()]
        if wrong:
            raise WrongCellsError(sorted(wrong, key=lambda cell: cell[0]), count)
        done += len(batch)
    else:
        if done == rows:
            return cells, {number: texts[name].found for name, number in strings.items()}
    message = f"The body could not be read as a Parquet file: its columns do not have the {rows:,} rows of its footer."
    raise refusal(message)


def _doubles(column: pa.Array) -> npt.NDArray[np.float64]:
    if pa.types.is_dictionary(column.type):
        texts = column.dictionary
        short = pc.if_else(pc.less_equal(pc.binary_length(texts), _MAX_TEXT_BYTES), texts, None)
        numbers = pd.to_numeric(short.to_pandas(), errors="coerce").to_numpy(dtype=np.float64)
        places = column.indices.fill_null(len(numbers)).to_numpy(zero_copy_only=False)
        found: npt.NDArray[np.float64] = np.append(numbers, np.nan)[places]
        return found
    doubles: npt.NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return doubles


def _places(column: pa.Array, texts: TextColumn) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
    """Places of the strings of a column, NaN where a cell is null, and the rows whose cells are no short strings."""
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        column = column.cast(pa.date32(), safe=False).cast(pa.string())
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    found = column.dictionary
    if pa.types.is_timestamp(found.type) or pa.types.is_date(found.type):
        found = found.cast(pa.date32(), safe=False).cast(pa.string())
    if pa.types.is_string(found.type) or pa.types.is_large_string(found.type) or pa.types.is_string_view(found.type):
        found = found.cast(pa.large_string())
        is_long = pc.greater(pc.binary_length(found), MAX_TEXT * _MAX_BYTES_OF_CHARACTER).to_numpy(zero_copy_only=False)
        found = pc.if_else(pa.array(~is_long), found, None)
    else:
        is_long = np.zeros(len(found), dtype=bool)
    numbers = [texts.place(cell) for cell in found.to_pylist()]
    places = np.array([np.nan if number is None else number for number in numbers] + [np.nan])
    is_bad = np.array([number is None for number in numbers] + [False]) | np.append(is_long, False)
    rows = column.indices.fill_null(len(found)).to_numpy(zero_copy_only=False)
    return places[rows], np.flatnonzero(is_bad[rows])


def _shown(cell: pa.Scalar) -> object:
    """A cell that is no short string, for a message."""
    is_text = isinstance(cell, pa.DictionaryScalar) and str(cell.type.value_type) in {"string", "large_string"}
    if is_text:
        return _text(cell)
    return str(cell)[:_MAX_TEXT_BYTES]


def _text(cell: pa.DictionaryScalar) -> str:
    value = cell.dictionary[cell.index.as_py()].as_buffer()
    return str(value.slice(0, min(value.size, _MAX_TEXT_BYTES)).to_pybytes(), errors="replace")
