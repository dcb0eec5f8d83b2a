"""Bodies that are made to cost memory: each server keeps to its bound, serves others meanwhile, and recovers."""

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest

from data.paths import ROOT
from data.schema import FEATURES
from tests import fork_server
from tests.attacks.bodies import (
    CSV_ROW,
    HEADER,
    columns,
    lying_page,
    nested_schema,
    parquet,
    split,
    understated,
)
from tests.attacks.support import CSV, JSON, MEGABYTE, PARQUET, Server, Watched, some_slow
from tests.project import environment

MAX_GROWTH = 512 * MEGABYTE
"""Of all processes of a server together; docs/serving.md states it."""

ROW = json.dumps([33.9, -118.2, 1, 1, 0, 10]).encode()


def _text_in(name: str) -> dict[str, object]:
    """One row in which a column is a text of 200 MB."""
    return columns(1) | {name: pa.array(["x" * 200_000_000], pa.large_string())}


def _dictionary_of_long_texts(rows: int) -> dict[str, object]:
    """A feature that is a text of 60 kB in every row, which a file holds once."""
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, dtype=np.int32)), ["1" * 60_000])
    return columns(rows) | {"lat": texts}


PARQUETS: dict[str, Callable[[], bytes]] = {
    "a footer that understates its rows": lambda: understated(8_000_000),
    "one row with a list of 100 million": lambda: parquet(
        columns(1) | {"lat": pa.array([np.zeros(100_000_000, dtype=np.int8)], pa.list_(pa.int8()))}
    ),
    "a list next to the features": lambda: parquet(
        columns(1) | {"lat.x": pa.array([np.zeros(100_000_000, dtype=np.int8)], pa.list_(pa.int8()))}
    ),
    "one text of 200 MB": lambda: parquet(_text_in("lat")),
    "one text of 200 MB next to the features": lambda: parquet(_text_in("notes")),
    "one text of 200 MB as the number of a shot": lambda: parquet(_text_in("shot_id")),
    "80 more columns, 2 million rows": lambda: parquet(
        columns(2_000_000) | {f"c{number}": np.zeros(2_000_000, dtype=np.int8) for number in range(80)}
    ),
    "a dictionary of a long text": lambda: parquet(_dictionary_of_long_texts(400_000)),
    "long texts that share their start": lambda: parquet(
        columns(10_000) | {"lat": [f"{'1' * 20_000}{number}" for number in range(10_000)]},
        use_dictionary=False,
        column_encoding={"lat": "DELTA_BYTE_ARRAY"},
    ),
    "a footer of a million row groups": lambda: parquet(columns(6_000), row_group_size=1),
    "a schema that nests too deep for a stack": lambda: nested_schema(50_000),
    "a column that repeats as none can": lambda: parquet(columns(1)).replace(b"%\x02\x18\x03lng", b"%I\x18\x03lng"),
    "a page that declares 2 GB": lambda: lying_page(parquet(columns(100_000)), 2**31 - 1),
    "half a million rows, all wrong": lambda: parquet(
        columns(500_000) | {name: np.zeros(500_000) for name in FEATURES}
    ),
    "wide": lambda: parquet(columns(1) | {f"c{number}": [1] for number in range(5_000)}),
}

BOMBS = {codec: codec for codec in ("snappy", "gzip", "brotli", "zstd", "lz4")}

JSONS: dict[str, Callable[[], bytes]] = {
    "empty lists": lambda: split(b",".join([b"[]"] * 7_000_000)),
    "empty objects": lambda: b'{"inputs":[' + b",".join([b"{}"] * 7_000_000) + b"]}",
    "objects of one key": lambda: b'{"inputs":[' + b",".join([b'{"a":1}'] * 99_000) + b"]}",
    "keys that differ": lambda: b'{"inputs":{' + b",".join(b'"%07d":1' % n for n in range(198_000)) + b"}}",
    "records whose keys differ": lambda: (
        b'{"dataframe_records":[' + b",".join(b'{"%07d":1}' % n for n in range(99_000)) + b"]}"
    ),
    "records whose keys differ, and NaN": lambda: (
        b'{"dataframe_records":[' + b",".join(b'{"%07d":NaN}' % n for n in range(49_000)) + b"]}"
    ),
    "sparse records": lambda: (
        b'{"dataframe_records":[' + b",".join(b'{"c%d":1}' % (n % 190) for n in range(99_000)) + b"]}"
    ),
    "columns whose rows differ": lambda: (
        b'{"inputs":{'
        + b",".join(b'"c%d":{%b}' % (n, b",".join(b'"%d":1' % (n * 430 + m) for m in range(430))) for n in range(430))
        + b"}}"
    ),
    "rows with a long one": lambda: split(b"[%b],%b" % (b",".join([b"1"] * 100_000), b",".join([b"[1]"] * 45_000))),
    "one long text among short ones": lambda: (
        b'{"inputs":{"lat":["' + b"x" * 7_000_000 + b'",' + b",".join([b'"a"'] * 190_000) + b"]}}"
    ),
    "a text of 8 MB": lambda: split(b'["' + b"x" * 8_000_000 + b'",1,1,1,1,1]'),
    "a text that takes four times its bytes": lambda: split(
        ('["' + "x" * 8_000_000 + "\U00010101" + '",1,1,1,1,1]').encode()
    ),
    "the longest of numbers": lambda: split(b",".join([b"[%b,1,1,1,1,1]" % (b"9" * 4_000)] * 2_000)),
    "1e400": lambda: split(b",".join([b"[1e400,1,1,1,1,1]"] * 20_000)),
    "NaN": lambda: split(b",".join([b"[NaN,NaN,NaN,NaN,NaN,NaN]"] * 20_000)),
    "half nested, half not": lambda: split(b"[" * 900 + b"]" * 900),
    "deeper than a stack": lambda: b'{"inputs":' + b"[" * 190_000,
    "the same key again and again": lambda: b"{" + b",".join([b'"inputs":[1,2,3]'] * 49_000) + b"}",
    "190,000 columns": lambda: b'{"dataframe_split":{"columns":[' + b",".join([b'"c"'] * 190_000) + b'],"data":[]}}',
    "cells that are lists": lambda: split(b",".join([b"[[1,2],[3],[4],[5],[6],[7]]"] * 13_000)),
    "not JSON at all": lambda: b"{" * 8_000_000,
    "UTF-16": lambda: split(b",".join([ROW] * 20_000)).decode().encode("utf-16"),
    "rows that are all wrong": lambda: split(b",".join([b"[0,0,99,99,99,999]"] * 28_000)),
    "texts in every cell": lambda: split(b",".join([b'["a","b","c","d","e","f"]'] * 28_000)),
}

CSVS: dict[str, Callable[[], bytes]] = {
    "a line of a million columns": lambda: b",".join(b"c%d" % n for n in range(990_000)) + b"\n",
    "a second line of 900,000 cells": lambda: HEADER + b"\n" + b"1," * 900_000 + b"\n",
    "a header that goes on in quotes": lambda: HEADER + b',"' + b"\n,".join([b"x"] * 400_000),
    "one field of 20 MB": lambda: HEADER + b"\n" + b"x" * 20_000_000 + b",1,1,1,1,1\n",
    "a quote that never ends": lambda: HEADER + b"\n" + CSV_ROW + b'\n"' + CSV_ROW * 600_000,
    "commas only": lambda: b"," * 24_000_000,
    "ends of lines only": lambda: b"\n" * 24_000_000,
    "blank lines, then a header": lambda: b" \n" * 400_000 + HEADER,
    "cells within quotes within a line": lambda: HEADER + b"\n" + b'"\n",' * 450_000,
    "texts in every cell": lambda: HEADER + b"\n" + b"a,b,c,d,e,f\n" * 160_000,
    "199 columns of texts": lambda: (
        b",".join([HEADER, *(b"c%d" % n for n in range(190))])
        + b"\n"
        + b"".join(CSV_ROW + b"".join(b",%05d" % (n * m) for m in range(190)) + b"\n" for n in range(5_000))
    ),
    "zeros": lambda: b"\x00" * 20_000_000,
    "not UTF-8 at its end": lambda: HEADER + b"\n" + (CSV_ROW + b"\n") * 100_000 + b"\xff",
}


# One of each kind of cost is met in every run of the tests, the others in the long ones.
QUICK_PARQUETS = (
    "a footer that understates its rows",
    "a dictionary of a long text",
    "a footer of a million row groups",
    "a schema that nests too deep for a stack",
    "a page that declares 2 GB",
)
QUICK_JSONS = ("empty lists", "keys that differ", "sparse records", "a text of 8 MB", "deeper than a stack")
QUICK_CSVS = ("a line of a million columns", "a quote that never ends", "zeros")


def built(case: str) -> bytes:
    """A Parquet file of `PARQUETS`, made in a process of its own: some take gigabytes, which the tests would keep."""
    command = [sys.executable, "-m", "tests.attacks.test_bodies", case]
    with fork_server.start(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE) as process:
        body: bytes = process.communicate()[0]
    assert process.returncode == 0
    return body


def assert_bounded(server: Server, body: bytes, kind: str) -> None:
    """Three clients send it at the same time; it is refused, or served if it is small enough."""
    with Watched(server) as seen, ThreadPoolExecutor(3) as pool:
        responses = list(pool.map(lambda _: server.send(body, kind), range(3)))
    for response in responses:
        waits = response.status == 503 and "Retry-After" in response.headers
        assert response.is_harmless() or response.status == 200 or waits, response[:2]
    seen.assert_bounded(growth=MAX_GROWTH)


@pytest.mark.parametrize("case", some_slow(PARQUETS, QUICK_PARQUETS))
def test_a_parquet_file_costs_no_more_than_its_features(servers: tuple[Server, Server], case: str) -> None:
    body = built(case)
    assert len(body) < 32 << 20
    for server in servers:
        extra = case in {"one text of 200 MB next to the features", "a list next to the features"}
        if not extra and not (case.endswith("number of a shot") and server.name == "mlflow"):
            assert_bounded(server, body, PARQUET)
            continue
        with Watched(server) as seen:
            response = server.send(body, PARQUET)
        # What is not read costs nothing.
        assert response.status == (400 if case == "a list next to the features" else 200), response.text
        seen.assert_bounded(growth=100 * MEGABYTE)


@pytest.mark.parametrize("codec", some_slow(BOMBS, ("snappy",)))
def test_a_column_that_is_a_bomb_is_refused_whatever_its_codec(servers: tuple[Server, Server], codec: str) -> None:
    # Values that a dictionary does not make short: the pages themselves are what is compressed.
    rows = 6_000_000
    table = columns(rows) | {"lat": np.zeros(rows)}
    body = parquet(table, compression=codec, use_dictionary=False, column_encoding="PLAIN", data_page_size=1 << 30)
    if len(body) > 32 << 20:
        pytest.skip("this codec makes no bomb of it")
    footer = body.rindex(b"\x16" + _logged(rows))
    assert footer
    for server in servers:
        assert_bounded(server, body.replace(b"\x16" + _logged(rows), b"\x16" + _logged(400_000)), PARQUET)


def _logged(rows: int) -> bytes:
    """How a footer declares a number of rows, in four bytes."""
    number = 2 * rows
    parts = [number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14 & 0x7F | 0x80, number >> 21]
    return bytes(parts)


@pytest.mark.parametrize("case", some_slow(JSONS, QUICK_JSONS))
def test_json_costs_no_more_than_its_values(server: Server, case: str) -> None:
    assert_bounded(server, JSONS[case](), JSON)


@pytest.mark.parametrize("case", some_slow(CSVS, QUICK_CSVS))
def test_csv_costs_no_more_than_its_cells(server: Server, case: str) -> None:
    assert_bounded(server, CSVS[case](), CSV)


@pytest.mark.parametrize("case", ["parquet", "json", "csv"])
def test_the_longest_tables_that_are_taken_keep_to_the_bound(server: Server, case: str) -> None:
    bodies = {
        "parquet": (parquet(columns(500_000), compression="none", use_dictionary=False), PARQUET),
        "json": (split(b",".join([ROW] * 28_000)), JSON),
        "csv": (HEADER + b"\n" + (CSV_ROW + b"\n") * 160_000, CSV),
    }
    with Watched(server) as seen, ThreadPoolExecutor(3) as pool:
        responses = list(pool.map(lambda _: server.send(*bodies[case]).status, range(4)))
    assert set(responses) <= {200, 503}
    assert 200 in responses
    seen.assert_bounded(growth=MAX_GROWTH)


if __name__ == "__main__":
    sys.stdout.buffer.write(PARQUETS[sys.argv[1]]())
