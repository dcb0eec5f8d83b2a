"""Reads the inference log: how much a time window holds, and its rows, or evenly spread ones where they are many."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import sqlalchemy as sql

from data.addresses import sqlite_address
from data.errors import KobeShotError
from data.files import INFERENCE_LOG
from data.schema import FEATURES, MODEL_VERSION, TARGET
from serving.inference_log import ADDRESS_VARIABLE, TABLE, connect, tables

_NAMES = ("time", MODEL_VERSION, "shot_id", *FEATURES, "prediction", "probability", TARGET)
# The golden ratio in 32 bits (D. Knuth, The Art of Computer Programming 3, 6.4).
_GOLDEN, _WHOLE = 2_654_435_769, 1 << 32


class LogError(KobeShotError):
    """There is no inference log, or it cannot be read."""


class NoLogError(LogError):
    """There is no inference log yet: nothing was scored since it was asked for."""


class Window(NamedTuple):
    """What a time window of the log holds.

    Attributes
    ----------
    rows, labelled : int
        Scored rows, and those whose true label is known.
    first, last : datetime or None
        When the first and the last row of the whole log were scored, UTC.
    last_version : str
        Version that scored the last row of the whole log; empty where there is none.
    """

    rows: int
    labelled: int
    first: datetime | None
    last: datetime | None
    last_version: str


def log_address(given: str = "") -> str:
    """Address of the log: what is given, else ``KOBE_INFERENCE_LOG``, else the project's own file."""
    found = given or os.environ.get(ADDRESS_VARIABLE, "")
    return found if found not in {"", "off"} else sqlite_address(INFERENCE_LOG)


def open_log(address: str) -> sql.Engine:
    """An engine for a log that is there.

    Raises
    ------
    NoLogError
        If nothing is there yet.
    LogError
        If the address is none, or the log cannot be read.
    """
    try:
        # Pages open the log again and again: a pool would keep a connection of each time, until it is collected.
        engine: sql.Engine = connect(address, poolclass=sql.NullPool)
        if engine.dialect.name == "sqlite" and engine.url.database and not Path(engine.url.database).exists():
            message = f"expected an inference log at {engine.url.database}; found no such file. Serve first: make serve"
            raise NoLogError(message)
        if not sql.inspect(engine).has_table(TABLE):
            message = (
                f"expected an inference log at {_shown(engine)}; found no table {TABLE} there yet. "
                "Score something: python -m serving.client TABLE --out TABLE"
            )
            raise NoLogError(message)
    except sql.exc.DatabaseError as error:
        message = f"expected an inference log at {_shown(engine)}; it cannot be read: {error.orig}"
        raise LogError(message) from error
    except (sql.exc.SQLAlchemyError, ImportError) as error:
        message = f"expected the SQLAlchemy address of an inference log; {type(error).__name__}: {error}"
        raise LogError(message) from error
    return engine


def window(engine: sql.Engine, since: datetime | None = None, until: datetime | None = None) -> Window:
    """Count the rows of a time window.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        Of `open_log`.
    since, until : datetime or None
        First moment of the window, and the first one after it, UTC; None leaves that end open.

    Raises
    ------
    LogError
        If the log cannot be read.
    """
    log, _ = tables(FEATURES)
    counted = sql.select(sql.func.count(), sql.func.count(log.c[TARGET])).where(*_within(log, since, until))
    end = sql.select(log.c.time, log.c[MODEL_VERSION]).limit(1)
    try:
        with engine.connect() as connection:
            rows, labelled = connection.execute(counted).one()
            first = connection.execute(end.order_by(log.c.id)).first()
            last = connection.execute(end.order_by(log.c.id.desc())).first()
    except sql.exc.SQLAlchemyError as error:
        raise _unreadable(engine, error) from error
    return Window(rows, labelled, first[0] if first else None, last[0] if last else None, last[1] if last else "")


def read(
    engine: sql.Engine, since: datetime | None = None, until: datetime | None = None, *, most_rows: int
) -> pd.DataFrame:
    """Rows of a time window, in the order in which they came into the log.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        Of `open_log`.
    since, until : datetime or None
        See `window`.
    most_rows : int
        Where the window holds more, about so many are read, spread evenly over it.

    Returns
    -------
    pandas.DataFrame
        ``time`` (UTC), ``model_version`` (Int64, null where it is no number), ``shot_id`` (Int64), the features
        (float64), ``prediction`` (int64), ``probability`` (float64) and ``shot_made_flag`` (float64, null where
        unknown).

    Raises
    ------
    LogError
        If the log cannot be read.
    """
    log, _ = tables(FEATURES)
    rows = window(engine, since, until).rows
    query = every = _columns(log).where(*_within(log, since, until)).order_by(log.c.id)
    if rows > most_rows:
        # Multiples of the golden ratio, modulo one, are spread evenly and follow no rhythm that requests may have.
        query = query.where((log.c.id * _GOLDEN) % _WHOLE < int(most_rows / rows * _WHOLE))
    try:
        with engine.connect() as connection:
            found = connection.execute(query).all() or connection.execute(every.limit(most_rows)).all()
    except sql.exc.SQLAlchemyError as error:
        raise _unreadable(engine, error) from error
    return _table(found)


def read_newest(engine: sql.Engine, *, labelled: int, rows: int) -> pd.DataFrame:
    """The newest labelled rows and the newest rows of all, in the order in which they came into the log.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        Of `open_log`.
    labelled, rows : int
        How many of each.

    Returns
    -------
    pandas.DataFrame
        See `read`.

    Raises
    ------
    LogError
        If the log cannot be read.
    """
    log, _ = tables(FEATURES)
    ids = sql.select(log.c.id).order_by(log.c.id.desc())
    wanted = (ids.where(log.c[TARGET].is_not(None)).limit(labelled), ids.limit(rows))
    chosen = sql.or_(*(log.c.id.in_(query.subquery().select()) for query in wanted))
    try:
        with engine.connect() as connection:
            return _table(connection.execute(_columns(log).where(chosen).order_by(log.c.id)).all())
    except sql.exc.SQLAlchemyError as error:
        raise _unreadable(engine, error) from error


def _columns(log: sql.Table) -> sql.Select[Any]:
    return sql.select(*(log.c[name] for name in _NAMES))


def _table(found: Sequence[Any]) -> pd.DataFrame:
    table = pd.DataFrame(found, columns=list(_NAMES))
    versions = pd.to_numeric(table[MODEL_VERSION].where(table[MODEL_VERSION].str.isdecimal())).astype("Int64")
    kinds = {**dict.fromkeys((*FEATURES, "probability", TARGET), "float64"), "prediction": "int64", "shot_id": "Int64"}
    return table.astype({**kinds, "time": "datetime64[us]"}).assign(**{MODEL_VERSION: versions})


def now() -> datetime:
    """The present moment as the log writes it: UTC, without a zone."""
    return datetime.now(UTC).replace(tzinfo=None)


def _within(log: sql.Table, since: datetime | None, until: datetime | None) -> list[sql.ColumnElement[bool]]:
    return [
        *([log.c.time >= since] if since else []),
        *([log.c.time < until] if until else []),
    ]


def _unreadable(engine: sql.Engine, error: Exception) -> LogError:
    return LogError(f"the inference log at {_shown(engine)} cannot be read: {error}")


def _shown(engine: sql.Engine) -> str:
    """The address of a log without what may be secret."""
    return engine.url.set(query={}).render_as_string()
