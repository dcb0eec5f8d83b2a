"""Reads the inference log: how much a time window holds, and its rows, or a systematic sample of many rows.

Rows are those of the operation (`TRAFFIC`) unless others are requested. Time defines which row is newer, not when it
reached the log. A shot that was scored more than once (rows with one ``shot_id``) counts once: its newest row, with the
label that any of its requested rows has. Every function that reads rows raises `LogError` if the log cannot be read.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import sqlalchemy as sql

from data.datasets import current, for_dataset, log_file
from data.errors import KobeShotError
from data.schema import MODEL_VERSION
from data.storage.urls import sqlite_url
from serving.inference_log.described_log import LABEL, described_log, log_columns
from serving.inference_log.inference_log import TABLE, TRAFFIC, URL_VARIABLE, create_engine

# The golden ratio in 32 bits (D. Knuth, The Art of Computer Programming 3, 6.4).
_GOLDEN, _WHOLE = 2_654_435_769, 1 << 32


class LogError(KobeShotError):
    """There is no inference log, or it cannot be read."""


class NoLogError(LogError):
    """There is no inference log yet: nothing was scored since logging was enabled."""


class LogSummary(NamedTuple):
    """What a time window of the log holds.

    Attributes
    ----------
    rows, labeled : int
        Scored rows, and those whose true label is known.
    first, last : datetime or None
        When the oldest and the newest row of the whole log were scored, UTC.
    last_version : str
        Scoring version of the newest row of the whole log; empty where there is none.
    """

    rows: int
    labeled: int
    first: datetime | None
    last: datetime | None
    last_version: str


def log_url(given: str = "") -> str:
    """URL of the log: what is given, else ``KOBE_INFERENCE_LOG``, else the project's own file."""
    found = given or os.environ.get(URL_VARIABLE, "")
    return found if found not in {"", "off"} else sqlite_url(log_file())


def open_log(url: str) -> sql.Engine:
    """An engine for a log that is there.

    Raises
    ------
    NoLogError
        If nothing is there yet.
    LogError
        If the URL is invalid, or the log cannot be read.
    """
    try:
        # Pages open the log again and again: a pool would keep a connection of each time, until it is collected.
        engine: sql.Engine = create_engine(url, poolclass=sql.NullPool)
        if engine.dialect.name == "sqlite" and engine.url.database and not Path(engine.url.database).exists():
            serve = for_dataset("make serve")
            message = f"expected an inference log at {engine.url.database}; found no such file. Serve first: {serve}"
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
    except ValueError as error:
        # Its text repeats what SQLAlchemy takes for a port, which may be a password.
        message = "expected the SQLAlchemy URL of an inference log; found one that cannot be read: a port is a number"
        raise LogError(message) from error
    except (sql.exc.SQLAlchemyError, ImportError) as error:
        message = f"expected the SQLAlchemy URL of an inference log; {type(error).__name__}: {error}"
        raise LogError(message) from error
    return engine


def window(
    engine: sql.Engine,
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    origins: Collection[str] = (TRAFFIC,),
) -> LogSummary:
    """Count the rows of a time window.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        Of `open_log`.
    since, until : datetime or None
        First timestamp of the window, and the first one after it, UTC; None leaves that end open.
    origins : collection of str
        Of `serving.inference_log.inference_log.ORIGINS`: what is counted.
    """
    with _reading(engine) as connection:
        shots = _Shots(engine, origins, since, until)
        log = shots.log
        end = sql.select(log.c.time, log.c[MODEL_VERSION]).where(*shots.requested).limit(1)
        rows, named, different = connection.execute(shots.counts).one()
        labeled = connection.execute(sql.select(sql.func.count()).select_from(shots.labeled)).scalar_one()
        first = connection.execute(end.order_by(log.c.time, log.c.id)).first()
        last = connection.execute(end.order_by(log.c.time.desc(), log.c.id.desc())).first()
    return LogSummary(
        rows - named + different,
        labeled,
        first[0] if first else None,
        last[0] if last else None,
        last[1] if last else "",
    )


def versions(
    engine: sql.Engine,
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    origins: Collection[str] = (TRAFFIC,),
) -> dict[str, int]:
    """Count the rows of a time window by the version that scored them.

    Parameters
    ----------
    engine, since, until, origins
        See `window`.

    Returns
    -------
    dict of str to int
        Rows by the number of the version, most rows first; by an empty text for versions that are no number.
    """
    with _reading(engine) as connection:
        found = connection.execute(_Shots(engine, origins, since, until).counts_by_version).all()
    counted: Counter[str] = Counter()
    for version, rows in found:
        counted[version if version.isdecimal() else ""] += rows
    return dict(counted.most_common())


def read(  # noqa: PLR0913 a window is three of them
    engine: sql.Engine,
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    max_rows: int,
    origins: Collection[str] = (TRAFFIC,),
    version: str = "",
) -> pd.DataFrame:
    """Rows of a time window, in the order of their time.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        Of `open_log`.
    since, until, origins
        See `window`.
    max_rows : int
        Where the window holds more, about so many are read, as a systematic sample.
    version : str
        Number of the version whose rows are read; empty reads those of all.

    Returns
    -------
    pandas.DataFrame
        ``time`` (UTC), ``model_version`` (Int64, null where it is no number), the id (Int64), the features (float64
        or strings), ``prediction`` (int64), ``probability`` (float64) and the label (float64, null where unknown).
    """
    with _reading(engine) as connection:
        shots = _Shots(engine, origins, since, until, version)
        query = every = shots.select(*shots.counted)
        rows = connection.execute(sql.select(sql.func.count()).where(*shots.counted)).scalar_one()
        if rows > max_rows:
            # Multiples of the golden ratio, modulo one, are spread evenly and follow no rhythm that requests may have.
            query = query.where((shots.log.c.id * _GOLDEN) % _WHOLE < int(max_rows / rows * _WHOLE))
        return _table(connection.execute(query).all() or connection.execute(every.limit(max_rows)).all())


def read_labeled(  # noqa: PLR0913 as read
    engine: sql.Engine,
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    max_rows: int,
    origins: Collection[str] = (TRAFFIC,),
    version: str = "",
) -> pd.DataFrame:
    """The labeled rows of a time window, the newest where it holds more than `max_rows`, in the order of their time.

    Labels are scarce: of a systematic sample of rows of a large window only a few have one. See `read`.
    """
    with _reading(engine) as connection:
        shots = _Shots(engine, origins, since, until, version)
        return _table(connection.execute(shots.select(shots.log.c.id.in_(shots.newest_labeled(max_rows)))).all())


def read_latest(engine: sql.Engine, *, labeled: int, rows: int, version: str = "") -> pd.DataFrame:
    """The newest labeled rows and the newest rows of a version, in the order of their time; see `read`.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        Of `open_log`.
    labeled, rows : int
        How many of each.
    version : str
        Number of the version that scored the newest rows; empty for any. Labeled rows are of any version.
    """
    with _reading(engine) as connection:
        shots = _Shots(engine, (TRAFFIC,))
        scored = [shots.log.c[MODEL_VERSION] == version] if version else []
        wanted = (shots.newest_labeled(labeled), shots.newest(rows, *scored))
        selected = sql.or_(*(shots.log.c.id.in_(query) for query in wanted))
        return _table(connection.execute(shots.select(selected)).all())


class _Shots:
    """SQL of the shots of a window: of the requested rows, the newest of each shot.

    Attributes
    ----------
    log : sqlalchemy.Table
    requested : list of conditions
        Rows of the requested origins.
    counted : list of conditions
        Of them, those within the window that no newer one of the same shot replaces; where a version is requested, of
        those the ones that it scored.
    label : expression
        The label of a row, or that of another row of its shot that is of the requested origins: an uploaded
        table may number other shots alike.
    """

    def __init__(
        self,
        engine: sql.Engine,
        origins: Collection[str],
        since: datetime | None = None,
        until: datetime | None = None,
        version: str = "",
    ) -> None:
        self.log = described_log()
        self._origins = sorted(origins) if has_origin(engine) else None
        self._span, self._version = (since, until), version
        self.requested = self._of_origin(self.log)
        self.counted = self._counted()
        known = self.log.alias("known")
        other = (
            sql.select(known.c[LABEL])
            .where(known.c.shot_id == self.log.c.shot_id, known.c[LABEL].is_not(None))
            .where(*self._of_origin(known, by_id=True))
            .order_by(known.c.time.desc(), known.c.id.desc())
            .limit(1)
            .correlate(self.log)
            .scalar_subquery()
        )
        self.label = sql.func.coalesce(self.log.c[LABEL], other)

    def select(self, *conditions: sql.ColumnElement[bool]) -> sql.Select[Any]:
        """Rows with all that `read` gives, in the order of their time."""
        target = current().target.name
        columns = [
            self.label.label(name) if name == target else column.label(name)
            for name, column in log_columns(self.log).items()
        ]
        return sql.select(*columns).where(*conditions).order_by(self.log.c.time, self.log.c.id)

    def newest(self, rows: int, *conditions: sql.ColumnElement[bool]) -> sql.Select[Any]:
        """``id`` of the newest rows."""
        query = sql.select(self.log.c.id).where(*self.counted, *conditions)
        return query.order_by(self.log.c.time.desc(), self.log.c.id.desc()).limit(rows).subquery().select()

    def newest_labeled(self, rows: int) -> sql.Select[Any]:
        """``id`` of the newest rows with a label."""
        newest = self.labeled.c
        return sql.select(newest.id).order_by(newest.time.desc(), newest.id.desc()).limit(rows).subquery().select()

    @property
    def counts(self) -> sql.Select[int, int, int]:
        """How many rows the window has, how many of them name a shot, and how many shots they name."""
        shot = self.log.c.shot_id
        return sql.select(sql.func.count(), sql.func.count(shot), sql.func.count(shot.distinct())).where(
            *self._within(self.log)
        )

    @property
    def counts_by_version(self) -> sql.Select[str, int]:
        """The versions of the window and how many rows of each count."""
        version = self.log.c[MODEL_VERSION]
        return sql.select(version, sql.func.count()).where(*self.counted).group_by(version)

    @cached_property
    def labeled(self) -> sql.Subquery:
        """``id`` and ``time`` of the rows with a label; only rows of shots that have one are read."""
        own, same = self.log.alias("own"), self.log.alias("same")
        has_label = sql.select(own.c.id).where(own.c[LABEL].is_not(None), *self._within(own, by_id=True))
        shots = sql.select(own.c.shot_id).where(own.c[LABEL].is_not(None), *self._of_origin(own))
        shot_has_label = sql.select(same.c.id).where(same.c.shot_id.in_(shots))
        among = self.log.c.id.in_(sql.union(has_label, shot_has_label))
        return sql.select(self.log.c.id, self.log.c.time).where(among, *self._counted(by_id=True)).subquery()

    def _counted(self, *, by_id: bool = False) -> list[sql.ColumnElement[bool]]:
        newer = self.log.alias("newer")
        replaced = sql.exists().where(
            newer.c.shot_id == self.log.c.shot_id,
            sql.tuple_(newer.c.time, newer.c.id) > sql.tuple_(self.log.c.time, self.log.c.id),
            *self._within(newer, by_id=True),
        )
        scored = [self.log.c[MODEL_VERSION] == self._version] if self._version else []
        return [*self._within(self.log, by_id=by_id), *scored, ~replaced]

    def _within(self, log: sql.FromClause, *, by_id: bool = False) -> list[sql.ColumnElement[bool]]:
        since, until = self._span
        return [
            *self._of_origin(log, by_id=by_id),
            *([log.c.time >= since] if since else []),
            *([log.c.time < until] if until else []),
        ]

    def _of_origin(self, log: sql.FromClause, *, by_id: bool = False) -> list[sql.ColumnElement[bool]]:
        if self._origins is None:
            return []
        # SQLite would rather walk through all rows of an origin than look up the few that are known by another index.
        origin = sql.func.coalesce(log.c.origin, TRAFFIC) if by_id else log.c.origin
        return [origin.in_(self._origins)]


def _table(found: Sequence[Any]) -> pd.DataFrame:
    dataset = current()
    table = pd.DataFrame(found, columns=list(log_columns(described_log())))
    versions = pd.to_numeric(table[MODEL_VERSION].where(table[MODEL_VERSION].str.isdecimal())).astype("Int64")
    numbers = [*(feature.name for feature in dataset.numeric), "probability", dataset.target.name]
    kinds = {**dict.fromkeys(numbers, "float64"), "prediction": "int64", dataset.id.name: "Int64"}
    return table.astype({**kinds, "time": "datetime64[us]"}).assign(**{MODEL_VERSION: versions})


def has_origin(engine: sql.Engine) -> bool:
    """Whether a log has the origin of requests; one of 0.1.0 that no writer has opened since is all traffic."""
    return "origin" in {column["name"] for column in sql.inspect(engine).get_columns(TABLE)}


def now() -> datetime:
    """The current time as the log writes it: UTC, without a zone."""
    return datetime.now(UTC).replace(tzinfo=None)


@contextlib.contextmanager
def _reading(engine: sql.Engine) -> Iterator[sql.Connection]:
    try:
        with engine.connect() as connection:
            yield connection
    except sql.exc.SQLAlchemyError as error:
        message = f"the inference log at {_shown(engine)} cannot be read: {error}"
        raise LogError(message) from error


def _shown(engine: sql.Engine) -> str:
    """The URL of a log without what may be secret."""
    return engine.url.set(query={}).render_as_string()
