"""Old rows leave the inference log: ``python -m serving.inference_log.retention``.

Rows go by age, and then, the oldest first, by what the log takes. They go in pieces, each a short transaction of its
own, so whoever writes goes on. What is known of a shot stays: the label of a row that goes is given to the rows of its
shot that stay. A run that is killed has removed some of the rows, and the next one goes on.
"""

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Annotated, Any, NamedTuple

import sqlalchemy as sql
from pydantic import Field

from data.cli.config import CommandConfig, run_command
from data.cli.console import info
from data.storage.locks import single_instance
from serving.inference_log.described_log import ID, LABEL, described_log
from serving.inference_log.ground_truth import NEW, OF
from serving.inference_log.inference_log import URL_VARIABLE, used_bytes
from serving.inference_log.reader import LogError, has_origin, log_url, now, open_log
from serving.server_limits import PREFIX, limits

_ROWS_AT_ONCE = 2_000
_PAGES_AT_ONCE = 500
_INCREMENTAL = 2
_PAUSE_SECONDS = 0.02
_ROOM = 0.9
_ROUNDS = 5
_WAIT_SECONDS = 60.0


class RetentionConfig(CommandConfig):
    """Remove old rows from the inference log: by age, and the oldest where the log takes more than it may."""

    keep_days: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description=f"rows that are older go; empty takes ${PREFIX}LOG_DAYS, else 365"
    )
    max_bytes: Annotated[int, Field(gt=0)] | None = Field(
        default=None,
        description="where the log takes more, the oldest rows go until it takes 90% of it; empty takes "
        f"${PREFIX}LOG_BYTES, else 4 GiB",
    )
    log: str = Field(
        default="", description=f"SQLAlchemy URL of the log; empty takes ${URL_VARIABLE}, else inference_log.db"
    )
    compact: bool = Field(
        default=False,
        description="also rewrite the whole table (VACUUM, in PostgreSQL VACUUM FULL), which keeps the writer waiting "
        "and needs as much room again; for a SQLite file that 0.1.0 has made, and for PostgreSQL",
    )
    dry_run: bool = Field(default=False, description="only print what would be removed")


class Removed(NamedTuple):
    """What was removed, or would be.

    Attributes
    ----------
    by_age, by_size : int
        Rows.
    labels : int
        Rows that stay and got the label of a row of their shot that went.
    bytes_before, bytes_after : int
        What the log takes.
    """

    by_age: int
    by_size: int
    labels: int
    bytes_before: int
    bytes_after: int


def remove(engine: sql.Engine, *, before: datetime | None, max_bytes: int, dry_run: bool = False) -> Removed:
    """Remove rows that were scored before a time, and the oldest where the log takes more than it may.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        Of `serving.inference_log.reader.open_log`.
    before : datetime or None
        UTC; None removes nothing by age.
    max_bytes : int
        What the log may take.
    dry_run : bool
        Only count.

    Raises
    ------
    LogError
        If the log cannot be read or written.
    """
    try:
        log = _Log(engine)
        taken = used_bytes(engine)
        by_age = log.count(before) if before else 0
        if dry_run:
            rows = log.count()
            left = int(taken * (1 - by_age / rows)) if rows else taken
            by_size = int((rows - by_age) * (1 - _ROOM * max_bytes / left)) if left > max_bytes else 0
            return Removed(by_age, by_size, 0, taken, taken)
        by_age, labels = log.remove(before) if before else (0, 0)
        by_size = 0
        for _ in range(_ROUNDS):
            # In PostgreSQL the number of rows, which this goes by, is known when the table has been vacuumed.
            log.give_back()
            left = used_bytes(engine)
            cut = log.oldest_kept(_ROOM * max_bytes / left) if left > max_bytes else None
            if cut is None:
                break
            gone, carried = log.remove(cut)
            by_size, labels = by_size + gone, labels + carried
        return Removed(by_age, by_size, labels, taken, used_bytes(engine))
    except sql.exc.SQLAlchemyError as error:
        message = f"old rows cannot be removed from the inference log: {error}"
        raise LogError(message) from error


class _Log:
    """The table, as this command changes it."""

    def __init__(self, engine: sql.Engine) -> None:
        self._engine = engine
        self._log: Any = described_log()
        self._has_origin = has_origin(engine)

    def count(self, before: datetime | None = None) -> int:
        """How many rows were scored before a time, or at all."""
        query = sql.select(sql.func.count()).select_from(self._log)
        with self._engine.connect() as connection:
            return int(connection.execute(query.where(self._log.c.time < before) if before else query).scalar_one())

    def oldest_kept(self, share: float) -> datetime | None:
        """Before which time rows must go so that about a share of them stays; None where there is none.

        Rows come nearly in the order of their time, so that they are counted in that of their number. All rows of a
        request have one time: it goes as a whole.
        """
        rows = self.count()
        place = min(rows - 1, int(rows * (1 - share)) + 1)
        if place < 0:
            return None
        query = sql.select(self._log.c.time).order_by(self._log.c.id).offset(place).limit(1)
        with self._engine.connect() as connection:
            cut: datetime = connection.execute(query).scalar_one()
            first: datetime = connection.execute(sql.select(sql.func.min(self._log.c.time))).scalar_one()
        return max(cut, first + timedelta(microseconds=1))

    def remove(self, before: datetime) -> tuple[int, int]:
        """Remove the rows that were scored before a time; how many, and how many labels were handed on."""
        removed = labels = 0
        for origin in self._origins():
            while True:
                with self._engine.begin() as connection:
                    gone, carried = self._remove_piece(connection, before, origin)
                removed, labels = removed + gone, labels + carried
                if gone < _ROWS_AT_ONCE:
                    break
                # Whoever waits to write comes in between.
                time.sleep(_PAUSE_SECONDS)
        return removed, labels

    def _origins(self) -> Iterator[str | None]:
        if not self._has_origin:
            yield None
            return
        with self._engine.connect() as connection:
            yield from connection.execute(sql.select(self._log.c.origin).distinct()).scalars().all()

    def _remove_piece(self, connection: sql.Connection, before: datetime, origin: str | None) -> tuple[int, int]:
        log = self._log
        # The newest first: of two labels of a shot, the newer one is handed on.
        query = sql.select(log.c.id, log.c[ID], log.c[LABEL]).where(log.c.time < before, *self._of(origin))
        rows = connection.execute(query.order_by(log.c.time.desc(), log.c.id.desc()).limit(_ROWS_AT_ONCE)).all()
        if not rows:
            return 0, 0
        known: dict[int, int] = {}
        for _, shot, label in rows:
            if shot is not None and label is not None:
                known.setdefault(shot, label)
        carried = 0
        if known:
            statement = (
                log.update()
                .where(log.c[ID] == sql.bindparam(OF), log.c[LABEL].is_(None), *self._of(origin))
                .where(log.c.time >= before)
                .values({LABEL: sql.bindparam(NEW)})
            )
            changes = [{OF: shot, NEW: label} for shot, label in known.items()]
            carried = max(0, connection.execute(statement, changes).rowcount)
        connection.execute(log.delete().where(log.c.id.in_([row.id for row in rows])))
        return len(rows), carried

    def _of(self, origin: str | None) -> list[Any]:
        return [] if origin is None else [self._log.c.origin == origin]

    def give_back(self) -> None:
        """Give back what has become free, in pieces where that can be done while others write.

        A SQLite file that 0.1.0 has made keeps its size, and what is free in it is used again; PostgreSQL
        uses it again too.
        """
        if self._engine.dialect.name == "postgresql":
            self._alone("VACUUM (ANALYZE) inference")
        if self._engine.dialect.name != "sqlite":
            return
        incremental, free = self._alone("PRAGMA auto_vacuum") == _INCREMENTAL, self._alone("PRAGMA freelist_count")
        while incremental and free:
            with self._engine.connect() as connection:
                # Executed like any other it frees one page only: the driver does not run it to its end.
                driver: Any = connection.connection.driver_connection
                driver.executescript(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE})")
            time.sleep(_PAUSE_SECONDS)
            before, free = free, self._alone("PRAGMA freelist_count")
            if free >= before:
                break
        self._alone("PRAGMA wal_checkpoint(TRUNCATE)")

    def compact(self) -> None:
        """Rewrite the table; no process can write meanwhile."""
        if self._engine.dialect.name == "postgresql":
            self._alone("VACUUM FULL inference")
        if self._engine.dialect.name == "sqlite":
            with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("PRAGMA auto_vacuum=INCREMENTAL")
                connection.exec_driver_sql("VACUUM")
            self._alone("PRAGMA wal_checkpoint(TRUNCATE)")

    def _alone(self, statement: str) -> int:
        """Run a statement in no transaction; the first number of its result, or 0."""
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            result = connection.exec_driver_sql(statement)
            rows = result.all() if result.returns_rows else []
        return int(rows[0][0]) if rows else 0


def run(config: RetentionConfig) -> None:
    """Remove old rows, and print the result.

    Raises
    ------
    LogError
        If there is no log, or it cannot be read or written.
    AlreadyRunningError
        If another process is at it for a minute.
    """
    url = log_url(config.log)
    engine = open_log(url)
    most = limits()
    days, max_bytes = config.keep_days or most.log_days, config.max_bytes or most.log_bytes
    try:
        before = now() - timedelta(days=days)
    except OverflowError:
        before = None
    with single_instance("removing old rows from the inference log", url, wait_seconds=_WAIT_SECONDS):
        removed = remove(engine, before=before, max_bytes=max_bytes, dry_run=config.dry_run)
        if config.compact and not config.dry_run:
            _Log(engine).compact()
    verb = "Would remove" if config.dry_run else "Removed"
    by_size = f"{removed.by_size:,} for a limit of {max_bytes:,} bytes"
    info(verb, f"{removed.by_age:,} rows older than {days:g} days, {by_size}")
    if removed.labels:
        info("Labels", f"{removed.labels:,} rows that stay have the label of a row of their shot that went")
    if not config.dry_run:
        info("The log", f"takes {removed.bytes_after:,} bytes; before it took {removed.bytes_before:,}")


if __name__ == "__main__":
    run_command(RetentionConfig, run)
