"""Reading of CSV text: separator, quotes and header line are recognized; cells stay strings.

DuckDB's sniffer recognizes the dialect from the start of the text, and Arrow reads the text in blocks: on a file of
385 MB it takes 1.5 s and 150 MB, DuckDB's reader 3.5 s and 1,250 MB.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv

from data.errors import TableError
from data.storage.column_names import is_known
from data.storage.content import BLOCK_BYTES, open_text

NULLS = ("", "#N/A", "N/A", "NA", "NULL", "NaN", "None", "<NA>", "n/a", "nan", "null", "-nan", "-NaN")
"""Cells that are missing values, as in pandas."""

MAX_ROW_BYTES = 1 << 20
"""Size of the blocks in which Arrow reads a text; no row is longer."""

_SEPARATORS = (",", ";", "\t", "|", " ")
_HEADER_LINES = 50


@dataclass(frozen=True)
class CsvText:
    """The dialect of a CSV text.

    Attributes
    ----------
    names : tuple of str
        Cells of the header line.
    separator, quote, escape : str
        One character each; empty for none.
    skipped : int
        Number of lines up to and with the header line.
    """

    names: tuple[str, ...]
    separator: str
    quote: str
    escape: str
    skipped: int


def inspect(path: Path) -> CsvText:
    """Recognize the dialect of a text: of its first 50 lines, the header is the one that names most known columns.

    Raises
    ------
    TableError
        If there is no header line, or it is longer than a block.
    """
    with open_text(path) as text:
        sample = text.read(BLOCK_BYTES)
    lines = sample if len(sample) < BLOCK_BYTES else sample[: max(sample.rfind(b"\n"), sample.rfind(b"\r")) + 1]
    if not lines:
        message = f"{path}: expected a header line of less than {BLOCK_BYTES:,} bytes; found a longer one."
        raise TableError(message)
    from data.storage.duckdb import sniff_csv  # noqa: PLC0415 a server that reads no CSV file does not load DuckDB

    found = sniff_csv(lines)
    dialects = dict.fromkeys([*([found] if found else []), *((separator, '"', "") for separator in _SEPARATORS)])
    headers = [header for dialect in dialects for header in _headers(lines.decode(), *dialect)]
    if not headers:
        message = f"{path}: expected a complete csv table; it cannot be read: found no header line."
        raise TableError(message)
    return max(headers, key=lambda header: (sum(map(is_known, header.names)), -header.skipped))


def _headers(lines: str, separator: str, quote: str, escape: str) -> Iterator[CsvText]:
    reader = csv.reader(
        io.StringIO(lines, newline=""), delimiter=separator, quotechar=quote or '"', escapechar=escape or None
    )
    try:
        for row in islice(reader, _HEADER_LINES):
            if any(cell.strip() for cell in row):
                names = tuple(cell.strip() for cell in row)
                yield CsvText(names, separator, quote or '"', escape, reader.line_num)
    except csv.Error:
        # Such as a cell that is too long.
        return


def batches(path: Path, text: CsvText, places: Sequence[int]) -> Iterator[pa.RecordBatch]:
    """Iterate over columns of a text as strings, by their place in the header line.

    Raises
    ------
    pyarrow.ArrowException
        If a line has more or fewer cells than the header line.
    """
    names = [str(place) for place in range(len(text.names))]
    wanted = [names[place] for place in places]
    convert = pa_csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        include_columns=wanted,
        strings_can_be_null=True,
        null_values=list(NULLS),
    )
    parse = pa_csv.ParseOptions(
        delimiter=text.separator,
        quote_char=text.quote,
        escape_char=text.escape or False,
        newlines_in_values=True,
    )
    read = pa_csv.ReadOptions(skip_rows=text.skipped, column_names=names, block_size=MAX_ROW_BYTES)
    # Closed explicitly: a reader thread that is active when the process ends aborts the process.
    with (
        open_text(path) as opened,
        pa_csv.open_csv(opened, read_options=read, parse_options=parse, convert_options=convert) as reader,
    ):
        yield from reader
