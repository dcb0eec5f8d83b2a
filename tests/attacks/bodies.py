"""Bodies that cost far more memory than their size."""

import io
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data.schema import FEATURES
from tests.project import shot

_ROW = [float(str(shot()[name])) for name in FEATURES]
HEADER = ",".join(FEATURES).encode()
CSV_ROW = ",".join(map(str, _ROW)).encode()


def columns(rows: int) -> dict[str, Any]:
    """Valid features, as many rows of them."""
    return {name: np.full(rows, value) for name, value in zip(FEATURES, _ROW, strict=True)}


def parquet(table: dict[str, Any], **options: Any) -> bytes:  # noqa: ANN401 of `pyarrow.parquet.write_table`
    """A table as a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(pa.table(table), sink, **{"compression": "zstd"} | options)
    return sink.getvalue()


def understated(rows: int) -> bytes:
    """A file whose footer declares a single row."""
    body = parquet(columns(rows), compression="snappy")
    output = b"\x16" + varint(2 * rows)  # i64 field, zigzag
    footer = len(body) - 8 - struct.unpack("<I", body[-8:-4])[0]
    metadata = body[footer:-8].replace(output, b"\x16\x02")
    return body[:footer] + metadata + struct.pack("<I", len(metadata)) + b"PAR1"


def nested_schema(depth: int) -> bytes:
    """A file of nothing but groups within groups."""

    def group(name: bytes, children: int) -> bytes:
        return b"\x35\x00\x18" + varint(len(name)) + name + b"\x15" + varint(2 * children) + b"\x00"

    leaf = b"\x15\x0a\x25\x00\x18\x01l\x00"
    elements = [b"\x48\x01s\x15\x02\x00", *[group(b"a", 1)] * depth, leaf]
    schema = b"\xfc" + varint(len(elements)) + b"".join(elements)
    metadata = b"\x15\x02\x19" + schema + b"\x16\x00\x19\x0c\x00"
    return b"PAR1" + metadata + struct.pack("<I", len(metadata)) + b"PAR1"


def lying_page(body: bytes, claimed: int) -> bytes:
    """The same file with the first page header's uncompressed size replaced by another."""
    file = pq.ParquetFile(io.BytesIO(body))
    chunk = file.metadata.row_group(0).column(0)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    assert body[start : start + 1] == b"\x15"  # page type
    assert body[start + 2 : start + 3] == b"\x15"  # uncompressed size
    end = start + 3
    while body[end] >= 0x80:
        end += 1
    number = varint(2 * claimed)
    width = end + 1 - start - 3
    padded = bytes(byte | 0x80 for byte in number[:-1]) + bytes([number[-1]])
    assert len(padded) >= width
    # The compressed size follows; what is longer takes bytes of the page, which is broken anyway.
    return body[: start + 3] + padded + body[start + 3 + len(padded) :]


def varint(number: int) -> bytes:
    """A number as Thrift's compact protocol and Parquet write it."""
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def split(rows: bytes, names: Sequence[str] = FEATURES) -> bytes:
    """A JSON body of ``dataframe_split`` with its rows as text."""
    listed = ",".join(f'"{name}"' for name in names).encode()
    return b'{"dataframe_split":{"columns":[%b],"data":[%b]}}' % (listed, rows)
