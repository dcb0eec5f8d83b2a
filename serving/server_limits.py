"""The limits of both servers: their names, values, units and environment variables, and nothing else.

MLflow runs a copy of this file with the served model, so it imports nothing of this project. Those of connections and
of bodies on their way are enforced by ``serving/server/bounded_http.py``; what a body may hold is checked where it is
read.
"""

import functools
import math
import os
from dataclasses import dataclass, field, fields
from typing import Any

PREFIX = "KOBE_LIMIT_"
"""An environment variable sets a limit: ``KOBE_LIMIT_BODY_BYTES=1000000``."""


def _limit(default: float, unit: str, meaning: str) -> Any:  # noqa: ANN401 as `dataclasses.field` itself
    return field(default=default, metadata={"unit": unit, "meaning": meaning})


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much a server takes; each is for one process, unless stated otherwise.

    Raises
    ------
    ValueError
        If a limit is not above 0, or a body may be longer than all bodies together.
    """

    body_bytes: int = _limit(32 << 20, "bytes", "a body")
    bytes_in_flight: int = _limit(
        128 << 20,
        "bytes",
        "bodies that arrive or are in work, and responses that clients have not read, over all workers of the "
        "production server; bodies of at most 32 KiB are not counted",
    )
    bodies_in_flight: int = _limit(32, "bodies", "bodies of more than 32 KiB that arrive or are in work, counted alike")
    body_seconds: float = _limit(55, "seconds", "until a body has arrived; MLflow responds with 504 after 60")
    head_bytes: int = _limit(32 << 10, "bytes", "request line and headers together")
    headers: int = _limit(100, "headers", "headers of a request")
    head_seconds: float = _limit(10, "seconds", "until request line and headers have arrived")
    idle_seconds: float = _limit(5, "seconds", "a connection without a request")
    response_seconds: float = _limit(30, "seconds", "a client that reads nothing of its response")
    connections: int = _limit(1000, "connections", "open connections; fewer where `ulimit -n` leaves no room for them")
    pipelined: int = _limit(16, "requests", "requests that are sent on a connection before the response to the first")
    rows: int = _limit(500_000, "rows", "rows of a request")
    columns: int = _limit(200, "columns", "columns of a table")
    json_bytes: int = _limit(8 << 20, "bytes", "a body of JSON")
    json_values: int = _limit(300_000, "values", "commas, brackets and braces of a body of JSON, wherever they are")
    csv_bytes: int = _limit(24 << 20, "bytes", "a body of CSV")
    csv_cells: int = _limit(1_000_000, "cells", "commas and ends of lines of a body of CSV, wherever they are")
    uncompressed_bytes: int = _limit(
        48 << 20, "bytes", "the columns of a Parquet file that are read, once they are uncompressed"
    )
    spool_bytes: int = _limit(
        1 << 30, "bytes", "rows on their way to the inference log, over all workers; above it rows are not logged"
    )
    log_bytes: int = _limit(4 << 30, "bytes", "the inference log with its indexes; above it rows wait in the spool")
    log_days: float = _limit(
        365, "days", "age at which `serving.inference_log.retention` removes rows from the inference log"
    )

    def __post_init__(self) -> None:
        """Check the numbers."""
        for limit in fields(self):
            if not getattr(self, limit.name) > 0:
                message = f"{limit.name}: expected a number above 0, found {getattr(self, limit.name)}"
                raise ValueError(message)
        if self.body_bytes > self.bytes_in_flight:
            message = (
                f"body_bytes: expected at most bytes_in_flight ({self.bytes_in_flight:,}), found {self.body_bytes:,}; "
                f"set {PREFIX}BYTES_IN_FLIGHT as well"
            )
            raise ValueError(message)


@functools.cache
def limits() -> Limits:
    """The limits of this process: the defaults, or those of the environment, which is read once.

    Raises
    ------
    ValueError
        If a variable that starts with ``KOBE_LIMIT_`` names no limit, or its value is no such number.
    """
    known = {PREFIX + limit.name.upper(): limit for limit in fields(Limits)}
    given = {name: value for name, value in os.environ.items() if name.startswith(PREFIX) and value}
    unknown = sorted(set(given) - set(known))
    if unknown:
        message = f"{unknown[0]}: no such limit; expected one of {', '.join(known)}"
        raise ValueError(message)
    return Limits(**{known[name].name: _number(name, value, known[name].type) for name, value in given.items()})


def _number(name: str, value: str, kind: object) -> Any:  # noqa: ANN401 int or float, by `kind`
    try:
        number = int(value) if kind is int else float(value)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        what = "an integer" if kind is int else "a number"
        message = f"{name}: expected {what} above 0, found {value[:40]!r}"
        raise ValueError(message)
    return number
