"""SQLite files that hold a store: detect damage, and wait while another process has locked one."""

import os
import sqlite3
import struct
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sql

from data.cli import console

LOCK_WAIT_SECONDS = 60.0
"""How long a statement waits for another process that has locked the file."""

REPORTED_AFTER_SECONDS = 3.0
_BUSY_TIMEOUT = "PRAGMA busy_timeout"
_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
_LARGEST_PAGE = 65_536
_QUICKLY_CHECKED_BYTES = 32 * 2**20
_SETTLE_SECONDS = 2.0
_POLL_SECONDS = 0.1


class PatientCursor(sqlite3.Cursor):
    """A cursor whose statements wait for locks as those of `PatientConnection` do."""

    connection: "PatientConnection"

    def execute(self, statement: str, parameters: Any = (), /) -> Self:  # noqa: ANN401 as the base has it
        """Execute a statement."""
        if statement.startswith(_BUSY_TIMEOUT):
            # MLflow's 20 s would pass without a message.
            statement = f"{_BUSY_TIMEOUT} = {REPORTED_AFTER_SECONDS * 1_000:.0f}"
        self.connection.patiently(lambda: super(PatientCursor, self).execute(statement, parameters))
        return self

    def executemany(self, statement: str, parameters: Iterable[Any], /) -> Self:
        """Execute a statement for each row."""
        rows = list(parameters)
        self.connection.patiently(lambda: super(PatientCursor, self).executemany(statement, rows))
        return self


class PatientConnection(sqlite3.Connection):
    """A connection that waits for a lock of another process, with a message after a few seconds."""

    def cursor(self, factory: Any = PatientCursor) -> Any:  # noqa: ANN401 as the base has it
        """A cursor that waits for locks."""
        return super().cursor(factory)

    def execute(self, statement: str, parameters: Any = (), /) -> sqlite3.Cursor:  # noqa: ANN401 as the base has it
        """Execute a statement."""
        cursor: PatientCursor = self.cursor()
        return cursor.execute(statement, parameters)

    def commit(self) -> None:
        """Commit."""
        self.patiently(super().commit)

    def patiently(self, work: Callable[[], object]) -> None:
        """Run a statement that may find the file locked; it is retried as long as it has changed nothing.

        Raises
        ------
        sqlite3.OperationalError
            If the file is still locked after ``LOCK_WAIT_SECONDS``.
        """
        changes, deadline, reported = self.total_changes, time.monotonic() + LOCK_WAIT_SECONDS, False
        while True:
            try:
                work()
            except sqlite3.OperationalError as error:
                # Others of its kind, such as a snapshot that is too old, do not pass.
                is_lock = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY
                if not is_lock or self.total_changes != changes or time.monotonic() > deadline:
                    raise
                if not reported:
                    console.error(
                        "Waiting:",
                        "another process has locked the database of the store; this continues when the lock is free, "
                        f"and ends after {LOCK_WAIT_SECONDS:g} s.",
                    )
                    reported = True
            else:
                return


def wait_for_locks() -> None:
    """Make every connection that SQLAlchemy opens to a SQLite file in this process wait for locks.

    A connection with a timeout of its own does not change.
    """
    if not sql.event.contains(sql.Engine, "do_connect", _be_patient):
        sql.event.listen(sql.Engine, "do_connect", _be_patient)


def connect(database: Path) -> PatientConnection:
    """A connection that waits for locks, and opens and ends no transactions by itself."""
    return sqlite3.connect(database, timeout=REPORTED_AFTER_SECONDS, isolation_level=None, factory=PatientConnection)


def damage_of(database: Path) -> str:
    """Why a file is not the database of a store; empty for a sound one, and where there is none yet.

    MLflow would use an empty file as a new store, and retry for minutes to open a damaged one. The file is only read.
    """
    if not os.path.lexists(database):
        return ""
    if not database.is_file():
        return "a folder" if database.is_dir() else "not a regular file"
    try:
        problem = "" if _size_when_settled(database) else "an empty file (0 bytes)"
        return problem or _problem_of_header(database) or _problem_within(database)
    except sqlite3.Error as error:
        # Another process writes: it is sound.
        return "" if "locked" in str(error) else f"a damaged file ({error})"
    except OSError as error:
        return f"a file that cannot be read ({error.strerror})"


def _problem_within(database: Path) -> str:
    with closing(sqlite3.connect(database)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        if "experiments" in tables:
            connection.execute("SELECT * FROM experiments LIMIT 1").fetchall()
        if database.stat().st_size > _QUICKLY_CHECKED_BYTES:
            return ""
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    return "" if found == "ok" else f"a damaged file ({' '.join(str(found).split())})"


def _size_when_settled(database: Path) -> int:
    """Bytes of a file; another process may still write one that was made just now."""
    until = time.monotonic() + _SETTLE_SECONDS
    while True:
        found = database.stat()
        if found.st_size or time.time() - found.st_mtime > _SETTLE_SECONDS or time.monotonic() > until:
            return found.st_size
        time.sleep(_POLL_SECONDS)


def _problem_of_header(database: Path) -> str:
    """Why the header of a file is wrong; it counts the pages, unless the journal holds further ones."""
    with database.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if not header.startswith(_MAGIC) or len(header) < _HEADER_BYTES:
        return "a damaged file (without the header of a SQLite database)"
    page, changed, pages = struct.unpack(">H", header[16:18])[0], header[24:28], struct.unpack(">I", header[28:32])[0]
    expected = (page if page > 1 else _LARGEST_PAGE) * pages
    journals = (database.with_name(f"{database.name}{suffix}") for suffix in ("-wal", "-journal"))
    is_alone = not any(path.exists() and path.stat().st_size for path in journals)
    size = database.stat().st_size
    if changed == header[92:96] and is_alone and size < expected:
        return f"a truncated file ({size:,} of {expected:,} bytes)"
    return ""


def _be_patient(dialect: Any, _record: object, _arguments: object, parameters: dict[str, Any]) -> None:  # noqa: ANN401
    if dialect.name == "sqlite" and "timeout" not in parameters:
        parameters.setdefault("timeout", REPORTED_AFTER_SECONDS)
        parameters.setdefault("factory", PatientConnection)
