"""Fuzzing of both servers with invalid request bodies: ``python -m bench.fuzz`` (``make fuzz``), after ``make main``.

Valid bodies of JSON, CSV and Parquet are truncated and reordered, and their bytes, values, keys, footers and page
headers are changed. They are sent over persistent connections. The servers run one after the other. The exit code is 1
if a response is 500 or more, a response is missing, or memory keeps growing.
"""

import argparse
import http.client
import io
import json
import math
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from data.cli.console import info
from data.schema import FEATURES, SHOT_ID
from serving import registry
from serving.server.subprocesses import run_mlflow_server, run_production_server

JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
_SHOT = (33.9723, -118.1028, 10.0, 1.0, 0.0, 18.0)
_CONNECTIONS = 4
_TIMEOUT_SECONDS = 60
_SAMPLE_SECONDS = 0.2
_SETTLED_SHARE = 4
_MAX_GROWTH = 64_000_000
_ERROR = 500
_MEGABYTE = 1_000_000


class Fuzzer:
    """Mutates valid bodies: their bytes, their structure and their content type.

    Parameters
    ----------
    seed : int
    bodies : sequence of (str or bytes, str)
        Valid bodies with their content types.
    """

    def __init__(self, seed: int, bodies: Sequence[tuple[str | bytes, str]]) -> None:
        self._random = random.Random(seed)  # noqa: S311 not for secrets
        self._seeds = bodies

    def body(self) -> tuple[bytes, str | None]:
        """Generate a body and its content type."""
        text, kind = self._random.choice(self._seeds)
        data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        if kind == JSON and self._random.random() < 0.4:
            data = self._restructured(data)
        for _ in range(self._random.choice([0, 1, 1, 2, 8])):
            data = self._mutated(data)
        kinds: list[str | None] = [JSON, CSV, PARQUET, None, "text/plain", "application/json; charset=utf-16", ";"]
        return data, kind if self._random.random() < 0.9 else self._random.choice(kinds)

    def _mutated(self, data: bytes) -> bytes:
        at, r = self._random.randrange(len(data) + 1), self._random
        number = r.choice([b"-", b"1e308", b"null", b"NaN", b'"', b"[", b"9" * 400])
        name = r.choice([b"lng", b"LAT", b"", b"lat\x00", b"shot_id"])
        return r.choice(
            [
                data[:at],
                data[:at] + r.randbytes(r.randrange(1, 9)) + data[at:],
                data[:at] + r.randbytes(1) + data[at + 1 :],
                data[at:] + data[:at],
                data[:at] + data[at // 2 : at] + data[at:],
                data.replace(b"0", number),
                data.replace(b",", r.choice([b"", b";", b",,", b"\n"]), 1),
                data.replace(b"lat", name),
            ]
        )

    def _restructured(self, data: bytes) -> bytes:
        try:
            value = json.loads(data)
        except (ValueError, UnicodeDecodeError):
            return data
        for _ in range(self._random.randrange(1, 4)):
            value = self._swapped(value)
        return json.dumps(value).encode()

    def _swapped(self, value: Any) -> Any:  # noqa: ANN401
        r = self._random
        unusual: list[Any] = [
            None,
            True,
            -1,
            0.5,
            1e400,
            math.nan,
            "",
            "x",
            "\ud800",
            [],
            {},
            [[]],
            [None],
            {"a": 1},
            2**70,
            [value],
        ]
        if not isinstance(value, dict | list) or not value or r.random() < 0.15:
            return r.choice(unusual)
        if isinstance(value, list):
            at = r.randrange(len(value))
            return [*value[:at], self._swapped(value[at]), *value[at + r.choice([0, 1, 1]) :]]
        key = r.choice(list(value))
        name = key if r.random() < 0.8 else r.choice(["inputs", "params", "messages", "index", "data", "lat", ""])
        return {k: v for k, v in value.items() if k != key} | {name: self._swapped(value[key])}


def valid_bodies() -> list[tuple[str | bytes, str]]:
    """Create bodies of three shots in every format, and Parquet files with every codec and encoding."""
    rows = [list(_SHOT), [*_SHOT[:3], 2.0, *_SHOT[4:]], [34.0, *_SHOT[1:]]]
    named = [dict(zip(FEATURES, row, strict=True)) for row in rows]
    by_column = {name: [row[name] for row in named] for name in FEATURES}
    split = {"columns": list(FEATURES), "data": rows}
    bodies: list[tuple[str | bytes, str]] = [
        (json.dumps(body), JSON)
        for body in (
            {"dataframe_split": split},
            {"dataframe_split": split, "params": {"threshold": 0.4, "output": "label"}},
            {"dataframe_records": named},
            {"dataframe_records": [row | {SHOT_ID: 7, "team_name": "Lakers"} for row in named]},
            {"inputs": by_column},
            {"inputs": named},
            {"instances": named},
        )
    ]
    lines = [",".join(FEATURES), *(",".join(map(str, row)) for row in rows)]
    bodies += [("\n".join(lines), CSV), ("\n".join(f'{line},"a, ""b"""' for line in lines), CSV)]
    table = pa.table({name: np.array(cells) for name, cells in by_column.items()})
    wide = table.append_column(SHOT_ID, pa.array([1, 2, 3])).append_column("names", pa.array([["a"], None, []]))
    texts = pa.table({name: pa.array(map(str, cells)) for name, cells in by_column.items()})
    for codec in ("none", "snappy", "gzip", "brotli", "zstd", "lz4"):
        for kind, options in ((table, {"data_page_version": "2.0"}), (wide, {}), (texts, {"row_group_size": 2})):
            sink = io.BytesIO()
            pq.write_table(kind, sink, **{"compression": codec, **options})
            bodies.append((sink.getvalue(), PARQUET))
    return bodies


@dataclass
class FuzzResult:
    """Responses of a server, and its memory in bytes."""

    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    seconds: float = 0

    @property
    def growth(self) -> int:
        """Increase of memory from the first quarter of the bodies to the end."""
        part = max(1, len(self.memory) // _SETTLED_SHARE // 4)
        settled = self.memory[len(self.memory) // _SETTLED_SHARE :]
        return int(np.median(settled[-part:]) - np.median(settled[:part]))

    @property
    def passed(self) -> bool:
        """Whether there was no server error and memory did not grow."""
        return not self.failures and self.growth <= _MAX_GROWTH


def fuzz(url: str, count: int, seed: int) -> FuzzResult:
    """Send mutated bodies over several connections, and sample the memory of the servers that this process started.

    Parameters
    ----------
    url : str
        URL of the server, without ``/invocations``.
    count : int
        Number of bodies.
    seed : int
        Seed of the first connection; each connection has its own.
    """
    result, bodies, done = FuzzResult(), valid_bodies(), threading.Event()
    shares = [count // _CONNECTIONS + (place < count % _CONNECTIONS) for place in range(_CONNECTIONS)]
    clients = [
        threading.Thread(target=_send, args=(url, Fuzzer(seed + place, bodies), share, result))
        for place, share in enumerate(shares)
    ]
    result.memory.append(_resident())
    sampler = threading.Thread(target=_sample, args=(result, done))
    started = time.perf_counter()
    for thread in (*clients, sampler):
        thread.start()
    for thread in clients:
        thread.join()
    result.seconds = time.perf_counter() - started
    done.set()
    sampler.join()
    result.memory.append(_resident())
    return result


def _send(url: str, fuzzer: Fuzzer, count: int, result: FuzzResult) -> None:
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=_TIMEOUT_SECONDS)
    for _ in range(count):
        body, kind = fuzzer.body()
        try:
            connection.request("POST", "/invocations", body, {"Content-Type": kind} if kind else {})
            response = connection.getresponse()
            text = response.read()
            result.statuses[response.status] += 1
            if response.status >= _ERROR:
                result.failures.append(f"{response.status} {text[:200]!r} to {kind} {body[:2_000]!r}")
        except (OSError, http.client.HTTPException) as error:
            result.statuses[0] += 1
            result.failures.append(f"{error!r} to {kind} {body[:2_000]!r}")
            connection.close()
    connection.close()


def _sample(result: FuzzResult, done: threading.Event) -> None:
    while not done.wait(_SAMPLE_SECONDS):
        result.memory.append(_resident())


def _resident() -> int:
    """RSS of all descendants of this process, bytes."""
    size = 0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            size += process.memory_info().rss
    return size


def main() -> int:
    """Fuzz both servers, print the results and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bodies", type=int, default=200_000, help="number of bodies sent to each server")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32), help="seed of the bodies")
    options = parser.parse_args()
    uri = f"models:/{registry.model()}/{registry.number(registry.require_champion())}"
    servers: dict[str, AbstractContextManager[str]] = {
        "production server": run_production_server(workers=2),
        "MLflow scoring server": run_mlflow_server(uri),
    }
    passed = True
    for name, server in servers.items():
        with server as url:
            result = fuzz(url, options.bodies, options.seed)
        passed &= result.passed
        _print(name, options.seed, result)
    return 0 if passed else 1


def _print(name: str, seed: int, result: FuzzResult) -> None:
    count = result.statuses.total()
    statuses = ", ".join(f"{status} {number:,}" for status, number in sorted(result.statuses.items()))
    info(name, f"{count:,} bodies in {result.seconds:.0f} s ({count / result.seconds:.0f}/s), seed {seed}: {statuses}")
    first, last, peak = (size / _MEGABYTE for size in (result.memory[0], result.memory[-1], max(result.memory)))
    info(
        f"  {len(result.failures):,} responses of 500 or more, or none",
        f"RSS {first:.0f} MB before, {last:.0f} after, {peak:.0f} peak; "
        f"{result.growth / _MEGABYTE:+.0f} MB since the first quarter",
    )
    for failure in result.failures[:5]:
        info("  ", failure)


if __name__ == "__main__":
    sys.exit(main())
