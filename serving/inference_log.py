"""The inference log: every scored row, in a table of any database that SQLAlchemy knows.

A server must not wait for a database. Its `Recorder` appends each request to a file (the spool), which costs
microseconds and outlives a killed server; a process of its own, started with the lowest priority, moves what is in the
spool to the table, and goes on after the server has ended until the spool is empty. A request is in the table once:
how far a file has been moved is committed together with its rows. What a dead process left is moved by the next one.

MLflow runs a copy of this file beside the served model, so it imports nothing of this project, and SQLAlchemy only in
the process that writes.
"""

import fcntl
import hashlib
import json
import os
import select
import shutil
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import numpy as np
import numpy.typing as npt

ADDRESS_VARIABLE = "KOBE_INFERENCE_LOG"
"""Environment variable that holds the SQLAlchemy address of the log; unset, empty or ``off``: nothing is logged."""
TABLE, PROGRESS = "inference", "inference_spool"

ORIGIN_HEADER = "X-Request-Origin"
TRAFFIC, WHAT_IF, UPLOAD, PROBE = "traffic", "what_if", "upload", "probe"
ORIGINS = (TRAFFIC, WHAT_IF, UPLOAD, PROBE)
"""Where a request comes from, as its header says: the operation, which is meant where nothing is said; a person who
tries one shot, or a table; a check of the server."""

_MAGIC = b"KIL1"
_HEADER = struct.Struct("<4sQ")
_REQUEST = struct.Struct("<dQHH?")
_SEGMENT_BYTES = 64 << 20
_ROWS_AT_ONCE = 50_000
_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 5.0
_FEATURES, _NEW = "features.json", ".new"
_LOOK_SECONDS = 1.0
_MAKING_SECONDS = 60.0
_LOCKED_SECONDS = 30.0
_LOCKED_POLL_SECONDS = 0.01
_LOCK_NUMBER = 0x6B6F6265
_SQLITE = "sqlite:///"


class Request(NamedTuple):
    """A scored request.

    Attributes
    ----------
    request_id, model_version : str
        At most 65,535 bytes each.
    values : ndarray of float64, shape (n, features)
    prediction : ndarray of int, shape (n,)
        The label that was answered.
    probability : ndarray of float64, shape (n,)
        P(made).
    shot_id : ndarray of int64, shape (n,), or None
        What the caller calls the shots, if it said so.
    time : float
        Seconds since 1970, UTC.
    origin : str
        One of `ORIGINS`.
    """

    request_id: str
    model_version: str
    values: npt.NDArray[np.float64]
    prediction: npt.NDArray[np.integer[Any]]
    probability: npt.NDArray[np.float64]
    shot_id: npt.NDArray[np.int64] | None
    time: float
    origin: str = TRAFFIC


class Recorder:
    """Appends scored requests to a spool that a process of its own moves to the database.

    Parameters
    ----------
    address : str
        SQLAlchemy address of the database.
    features : sequence of str
        Names of the columns of the values.

    Notes
    -----
    Threads may share a recorder; processes may not: make it after a fork.
    """

    def __init__(self, address: str, features: Sequence[str]) -> None:
        self.failures = 0
        self._lock = threading.Lock()
        self._folder = spool_of(address) / f"{time.time_ns()}-{os.getpid()}"
        # Under another name until it is held, so that no writer takes it for one that a dead process left.
        unheld = self._folder.with_suffix(_NEW)
        unheld.mkdir(parents=True)
        (unheld / _FEATURES).write_text(json.dumps(list(features)), encoding="utf-8")
        self._held = _hold(unheld)
        unheld.rename(self._folder)
        self._address = address
        self._number = 0
        self._open()
        self._start_writer()

    def _start_writer(self) -> None:
        # Its own session: what ends this process, and all of its group, does not end the writer. It shares the lock of
        # the folder, so that the folder is held as long as either lives.
        self._writer = subprocess.Popen(
            [sys.executable, __file__, str(self._folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={**os.environ, ADDRESS_VARIABLE: self._address},
            pass_fds=[] if self._held is None else [self._held],
            start_new_session=True,
        )
        self._looked = time.monotonic()

    def record(self, request: Request) -> None:
        """Append a request; a full disk costs its rows, counted in ``failures``, and never the answer."""
        rows = len(request.values)
        if not rows:
            return
        parts = _packed(request)
        with self._lock:
            try:
                self._append(parts)
                if time.monotonic() - self._looked > _LOOK_SECONDS:
                    self._look()
            except OSError as error:
                self.failures += rows
                if self.failures == rows:
                    _complain(f"rows are not logged: {error}")

    def close(self, seconds: float = 60.0) -> str:
        """Let the writer empty the spool; where the rows are that it has not moved within `seconds`, or nothing."""
        with self._lock:
            self._look()
            os.close(self._file)
        if self._writer.stdin:
            self._writer.stdin.close()
        try:
            code = self._writer.wait(seconds)
        except subprocess.TimeoutExpired:
            return f"the database is slow; what it has not taken yet is moved in the background from {self._folder}"
        finally:
            if self._held is not None:
                os.close(self._held)
        return f"the database did not take all rows; they wait in {self._folder} for the next server" if code else ""

    def _look(self) -> None:
        """Replace a writer that somebody has killed."""
        self._looked = time.monotonic()
        if self._writer.poll() is not None:
            if self._writer.stdin:
                self._writer.stdin.close()
            self._start_writer()

    def _append(self, parts: list[bytes]) -> None:
        if self._size >= _SEGMENT_BYTES:
            os.close(self._file)
            self._open()
        length = sum(map(len, parts))
        try:
            written = os.writev(self._file, parts)
            if written < length:
                rest = memoryview(b"".join(parts))[written:]
                while rest:
                    rest = rest[os.write(self._file, rest) :]
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += length

    def _open(self) -> None:
        self._number += 1
        path = self._folder / f"{self._number:06d}.spool"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = 0


def checked_origin(text: str) -> str:
    """The origin that a request names; `TRAFFIC` where it names none.

    Raises
    ------
    ValueError
        If it is not one of `ORIGINS`: taken for traffic, it would be monitored and trained on.
    """
    origin = text.strip().lower() or TRAFFIC
    if origin not in ORIGINS:
        message = f"{ORIGIN_HEADER}: expected one of {', '.join(ORIGINS)}, or no such header; found {text[:40]!r}"
        raise ValueError(message)
    return origin


def recorder_from_environment(features: Sequence[str]) -> Recorder | None:
    """A recorder for the address in ``KOBE_INFERENCE_LOG``, or None where none is set.

    Raises
    ------
    ValueError
        If it cannot be an address.
    OSError
        If the spool cannot be kept.
    """
    address = os.environ.get(ADDRESS_VARIABLE, "")
    if address in {"", "off"}:
        return None
    check_address(address)
    return Recorder(address, features)


def spool_of(address: str) -> Path:
    """Folder of the spool: beside a SQLite file, else in the user's state folder.

    Examples
    --------
    >>> spool_of("sqlite:////tmp/log.db").as_posix()
    '/tmp/log.db.spool'
    >>> spool_of("sqlite:////tmp/100%25 sure/log.db?timeout=5").as_posix()
    '/tmp/100% sure/log.db.spool'
    """
    if address.startswith(_SQLITE):
        # As SQLAlchemy reads it. This file also goes alone with a model: it imports nothing of the project.
        return Path(unquote(address.removeprefix(_SQLITE).partition("?")[0]) + ".spool").absolute()
    place = urlsplit(address)
    name = f"{place.scheme}:{place.hostname}:{place.port}{place.path}"
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return state / "kobe_shot" / hashlib.sha256(name.encode()).hexdigest()[:16]


def read_spool(path: Path, offset: int, features: int) -> Iterator[tuple[Request, int]]:
    """Whole requests of a spool file from an offset on, each with the offset behind it.

    A request that is still being written, or was when its server was killed, is not given.
    """
    with path.open("rb") as file:
        file.seek(offset)
        while len(header := file.read(_HEADER.size)) == _HEADER.size:
            magic, length = _HEADER.unpack(header)
            body = file.read(length) if magic == _MAGIC else b""
            if not body or len(body) < length:
                return
            offset += _HEADER.size + length
            yield _unpacked(body, features), offset


def _packed(request: Request) -> list[bytes]:
    ids, version = request.request_id.encode(), request.model_version.encode()
    has_shot_id = request.shot_id is not None
    body = [
        _REQUEST.pack(request.time, len(request.values), len(ids), len(version), has_shot_id) + ids + version,
        request.values.tobytes(),
        request.probability.tobytes(),
        request.prediction.astype(np.uint8).tobytes(),
    ]
    if request.shot_id is not None:
        body.append(request.shot_id.tobytes())
    if request.origin != TRAFFIC:
        # At the end, where 0.1.0 looks at nothing: its writer may find this spool, and this one a spool of 0.1.0.
        body.append(request.origin.encode())
    return [_HEADER.pack(_MAGIC, sum(map(len, body))), *body]


def _unpacked(body: bytes, features: int) -> Request:
    when, rows, length, version_length, has_shot_id = _REQUEST.unpack_from(body)
    place = _REQUEST.size

    def take(size: int) -> bytes:
        nonlocal place
        place += size
        return body[place - size : place]

    request_id, version = take(length).decode(), take(version_length).decode()
    values = np.frombuffer(take(8 * rows * features)).reshape(rows, features)
    probability = np.frombuffer(take(8 * rows))
    prediction = np.frombuffer(take(rows), dtype=np.uint8)
    shot_id = np.frombuffer(take(8 * rows), dtype=np.int64) if has_shot_id else None
    return Request(
        request_id, version, values, prediction, probability, shot_id, when, body[place:].decode() or TRAFFIC
    )


class _Spool:
    """A recorder's folder, as the process that empties it sees it."""

    def __init__(self, folder: Path, engine: Any) -> None:  # noqa: ANN401 SQLAlchemy is imported only where it is used
        self._folder, self._engine = folder, engine
        self._positions: dict[Path, int] = {}

    def move(self) -> None:
        """Move all whole requests to the table; remove the files to which nothing is appended any more."""
        if not self._positions:
            self._features: list[str] = json.loads((self._folder / _FEATURES).read_text(encoding="utf-8"))
            self._table, self._progress = tables(self._features)
        segments = sorted(self._folder.glob("*.spool"))
        for path in segments:
            if path not in self._positions:
                self._positions[path] = self._position(path)
            if path.stat().st_size > self._positions[path]:
                self._move(path)
            if path != segments[-1]:
                self._remove(path)

    def remove(self) -> None:
        """Remove the emptied spool of a recorder that has ended."""
        for path in sorted(self._folder.glob("*.spool")):
            self._remove(path)
        shutil.rmtree(self._folder)

    def _position(self, path: Path) -> int:
        make_tables(self._engine, self._table)
        with self._engine.connect() as connection:
            query = self._progress.select().where(self._key(path))
            row = connection.execute(query).first()
        return row.position if row else 0

    def _move(self, path: Path) -> None:
        # Forgotten until the commit is known to have been one: the database says how far it came.
        for rows, end in _batches(read_spool(path, self._positions.pop(path), len(self._features))):
            with self._engine.begin() as connection:
                _insert(connection, self._table, rows)
                connection.execute(self._progress.delete().where(self._key(path)))
                connection.execute(self._progress.insert(), {"segment": _segment(path), "position": end})
            self._positions[path] = end

    def _remove(self, path: Path) -> None:
        path.unlink()
        with self._engine.begin() as connection:
            connection.execute(self._progress.delete().where(self._key(path)))

    def _key(self, path: Path) -> Any:  # noqa: ANN401
        return self._progress.c.segment == _segment(path)


def write(folder: Path) -> int:
    """Empty a spool until the recorder's process has ended and nothing is left; also what dead processes left.

    Parameters
    ----------
    folder : pathlib.Path
        Spool of the recorder whose process holds the other end of standard input.

    Returns
    -------
    int
        0, or 1 if the database could not be reached when the recorder ended: its spool stays, for the next writer.
    """
    spools: list[_Spool] = []
    failing_since = 0.0
    while True:
        ended = bool(select.select([sys.stdin], [], [], _POLL_SECONDS)[0])
        try:
            if not spools:
                spools = _spools(folder, connect(os.environ[ADDRESS_VARIABLE]))
            spools[0].move()
            for left in spools[1:]:
                _move_left(left)
            del spools[1:]
        except Exception as error:  # noqa: BLE001 whatever the database raises, rows wait until it takes them
            if not failing_since:
                _complain(f"the database does not take rows ({error}); they wait in {folder.parent}")
            failing_since = failing_since or time.monotonic()
            if ended and time.monotonic() - failing_since > _PATIENCE_SECONDS:
                return 1
            time.sleep(_POLL_SECONDS)
            continue
        if failing_since:
            _complain("the database takes rows again")
            failing_since = 0.0
        if ended:
            spools[0].remove()
            return 0


def _spools(folder: Path, engine: Any) -> list[_Spool]:  # noqa: ANN401
    """The recorder's own spool, and those that no process holds; they are held from now on."""
    spools = [_Spool(folder, engine)]
    for path in sorted(folder.parent.iterdir()):
        # Another recorder may be just about to hold a new folder.
        in_the_making = path.suffix == _NEW and time.time() - path.stat().st_mtime < _MAKING_SECONDS
        if path != folder and path.is_dir() and not in_the_making and _hold(path) is not None:
            if path.suffix == _NEW or not (path / _FEATURES).exists():
                # Its process was killed before it held a row, or after the last one was moved.
                shutil.rmtree(path, ignore_errors=True)
            else:
                spools.append(_Spool(path, engine))
    return spools


def _move_left(left: _Spool) -> None:
    """Move what a dead process left; one that cannot be read stays for a person and hinders nobody."""
    try:
        left.move()
        left.remove()
    except (OSError, ValueError, KeyError, struct.error) as error:
        _complain(f"what a dead process left cannot be read ({type(error).__name__}: {error}); it stays")


def check_address(address: str) -> None:
    """Refuse what cannot be an address of a log.

    Raises
    ------
    ValueError
        If SQLAlchemy knows no such database, or its driver is not installed.
    """
    try:
        connect(address)
    except Exception as error:
        message = (
            f"{ADDRESS_VARIABLE}: expected a SQLAlchemy address such as sqlite:///inference_log.db or "
            f"postgresql://user@host/database, or off; {type(error).__name__}: {error}"
        )
        raise ValueError(message) from error


def connect(address: str, **options: Any) -> Any:  # noqa: ANN401 SQLAlchemy is imported only where it is needed
    """An engine for an address, with SQLAlchemy's options; a connection to SQLite waits for others that write."""
    import sqlalchemy as sql  # noqa: PLC0415

    engine = sql.create_engine(address, **options)
    if engine.dialect.name == "sqlite":

        @sql.event.listens_for(engine, "connect")
        def configure(connection: Any, _record: object) -> None:  # noqa: ANN401
            # First of all: whatever follows may meet another process that writes.
            connection.execute(f"PRAGMA busy_timeout={_LOCKED_SECONDS * 1000:.0f}")
            connection.execute("PRAGMA synchronous=NORMAL")

    return engine


def tables(features: Sequence[str]) -> tuple[Any, Any]:
    """The table of scored rows, and the one that says how far each spool file has been moved.

    ``inference`` holds per row: ``id``, ``time`` (UTC), ``request_id``, ``row`` (place in the request),
    ``model_version``, ``origin`` (one of `ORIGINS`), ``shot_id`` (null unless the caller gave it), the features,
    ``prediction`` (the label that was answered), ``probability`` (P(made)) and ``shot_made_flag`` (the true label, null
    until `serving.labels` writes it). Its indexes are for windows of time, for the rows of one shot and for labels.
    """
    import sqlalchemy as sql  # noqa: PLC0415

    metadata = sql.MetaData()
    table = sql.Table(
        TABLE,
        metadata,
        sql.Column("id", sql.BigInteger().with_variant(sql.Integer, "sqlite"), primary_key=True),
        sql.Column("time", sql.DateTime(), nullable=False),
        sql.Column("request_id", sql.String(200), nullable=False),
        sql.Column("row", sql.Integer, nullable=False),
        sql.Column("model_version", sql.String(100), nullable=False),
        sql.Column("origin", sql.String(20), nullable=False, server_default=TRAFFIC),
        sql.Column("shot_id", sql.BigInteger),
        *(sql.Column(name, sql.Double, nullable=False) for name in features),
        sql.Column("prediction", sql.SmallInteger, nullable=False),
        sql.Column("probability", sql.Double, nullable=False),
        sql.Column("shot_made_flag", sql.SmallInteger),
    )
    of_origin, labelled = (table.c.origin, table.c.time, table.c.id), table.c.shot_made_flag.is_not(None)
    for name, columns, where in (
        # With the shot, so that a window is counted without its rows.
        ("time", (*of_origin, table.c.shot_id), None),
        ("shot", (table.c.shot_id, table.c.time, table.c.id), table.c.shot_id.is_not(None)),
        ("label", of_origin, labelled),
    ):
        sql.Index(f"ix_{TABLE}_{name}", *columns, sqlite_where=where, postgresql_where=where)
    progress = sql.Table(
        PROGRESS,
        metadata,
        sql.Column("segment", sql.String(200), primary_key=True),
        sql.Column("position", sql.BigInteger, nullable=False),
    )
    return table, progress


def make_tables(engine: Any, table: Any) -> None:  # noqa: ANN401 SQLAlchemy is imported late
    """Make the tables of `tables` where they are not there, whoever else makes them at this moment.

    A log of 0.1.0 gets the column and the indexes that it lacks.
    """
    import sqlalchemy as sql  # noqa: PLC0415
    from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable  # noqa: PLC0415

    with _alone(engine) as connection:
        for each in table.metadata.sorted_tables:
            connection.execute(CreateTable(each, if_not_exists=True))
        found = sql.inspect(connection)
        if table.c.origin.name not in {column["name"] for column in found.get_columns(TABLE)}:
            column = CreateColumn(table.c.origin).compile(dialect=connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {TABLE} ADD COLUMN {column}")
        there = {index["name"] for index in found.get_indexes(TABLE)}
        for index in table.indexes:
            if index.name not in there:
                connection.execute(CreateIndex(index))


@contextmanager
def _alone(engine: Any) -> Iterator[Any]:  # noqa: ANN401
    """A transaction in which no other process makes or changes the tables.

    ``if not exists`` is no such promise: two transactions that make one table both find it missing, and one of them
    fails, on SQLite and on PostgreSQL.
    """
    if engine.dialect.name != "sqlite":
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK_NUMBER})")
            yield connection
        return
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        _let_one_write_while_others_read(connection.connection)
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.exec_driver_sql("ROLLBACK")
            raise
        connection.exec_driver_sql("COMMIT")


def _let_one_write_while_others_read(connection: Any) -> None:  # noqa: ANN401
    """Switch a SQLite file, for good, to the journal that allows it.

    SQLite answers at once that the file is locked, however long the connection is willing to wait: it would need to
    turn a shared lock into the exclusive one, and two that wait for each other would wait for ever.
    """
    deadline = time.monotonic() + _LOCKED_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_LOCKED_POLL_SECONDS)
        else:
            return


def _batches(requests: Iterator[tuple[Request, int]]) -> Iterator[tuple[list[tuple[Any, ...]], int]]:
    rows: list[tuple[Any, ...]] = []
    end = 0
    for request, end in requests:
        rows.extend(_rows(request))
        if len(rows) >= _ROWS_AT_ONCE:
            yield rows, end
            rows = []
    if rows:
        yield rows, end


def _rows(request: Request) -> Iterator[tuple[Any, ...]]:
    """Rows of the table, without ``id`` and ``shot_made_flag``."""
    count = len(request.probability)
    return zip(
        repeat(datetime.fromtimestamp(request.time, UTC).replace(tzinfo=None), count),
        repeat(request.request_id, count),
        range(count),
        repeat(request.model_version, count),
        repeat(request.origin, count),
        repeat(None, count) if request.shot_id is None else request.shot_id.tolist(),
        *request.values.T.tolist(),
        request.prediction.tolist(),
        request.probability.tolist(),
        strict=True,
    )


def _insert(connection: Any, table: Any, rows: list[tuple[Any, ...]]) -> None:  # noqa: ANN401
    names = [column.name for column in table.columns if column.name not in {"id", "shot_made_flag"}]
    statement = table.insert().compile(dialect=connection.dialect, column_keys=names)
    if statement.positional:
        # Three times as fast as through SQLAlchemy, which would look at every value.
        connection.exec_driver_sql(str(statement), rows)
    else:
        connection.execute(table.insert(), [dict(zip(names, row, strict=True)) for row in rows])


def _segment(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _hold(folder: Path) -> int | None:
    """Lock a folder as long as the descriptor is open, here or in a child; None if another process does."""
    try:
        held = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(held)
        return None
    return held


def _complain(text: str) -> None:
    sys.stderr.write(f"inference log: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    os.nice(19)
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    raise SystemExit(write(Path(sys.argv[1])))
