"""The inference log: every scored row, in a table of any database that SQLAlchemy knows.

A server must not wait for a database. Its `InferenceLogWriter` appends each request to a file (the spool), which costs
microseconds and outlives a killed server; a process of its own, started with the lowest priority, moves what is in the
spool to the table, and goes on after the server has ended until the spool is empty. A request is in the table once:
the position reached in a file is committed together with its rows. The next process moves what a dead one left.

MLflow runs a copy of this file with the served model, so it imports nothing of this project, and SQLAlchemy only in
the process that writes.

Neither grows without end: what the spool and the table may hold is limited (`LogLimits`). A table at its limit takes no
rows, which wait in the spool; a spool at its limit, or on a full disk, loses rows, which are counted and logged.
`serving.inference_log.retention` makes room. All of it is of this user alone, whatever the umask.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import select
import shutil
import sqlite3
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import numpy as np
import numpy.typing as npt

URL_VARIABLE = "KOBE_INFERENCE_LOG"
"""Environment variable that holds the SQLAlchemy URL of the log; unset, empty or ``off``: nothing is logged."""
TABLE, PROGRESS = "inference", "inference_spool"
_OWN_COLUMNS = {
    *("id", "time", "request_id", "row", "model_version", "origin", "shot_id"),
    *("prediction", "probability", "shot_made_flag"),
}

ORIGIN_HEADER = "X-Request-Origin"
TRAFFIC, WHAT_IF, UPLOAD, PROBE = "traffic", "what_if", "upload", "probe"
ORIGINS = (TRAFFIC, WHAT_IF, UPLOAD, PROBE)
"""Where a request comes from, by its header: production traffic (the default), a person who tries one shot or a
table, or a probe of the server."""

_logger = logging.getLogger("kobe_shot.inference_log")
_as_json = json.JSONEncoder(check_circular=False).encode
_MAGIC = b"KIL1"
_HEADER = struct.Struct("<4sQ")
_REQUEST = struct.Struct("<dQHH?")
_SEGMENT_BYTES = 64 << 20
_SHORTEST_SEGMENT_BYTES = 64 << 10
_SEGMENTS = 256
_ROWS_AT_ONCE = 10_000
_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 5.0
_FEATURES, _STATUS, _NEW = "features.json", "status.json", ".new"
_CHECK_SECONDS = 1.0
_MEASURE_SECONDS, _MEASURE_BYTES = 0.2, 1 << 20
_STATUS_SECONDS = 5.0
_REPORTED_AGAIN_SECONDS = 60.0
_JOURNAL_BYTES, _LONGEST_JOURNAL_BYTES = 16 << 20, 64 << 20
_ROW_BYTES = 300
_MAKING_SECONDS = 60.0
_LOCKED_SECONDS = 30.0
_LOCKED_POLL_SECONDS = 0.01
_LOCK_NUMBER = 0x6B6F6265
_SQLITE = "sqlite:///"

DISK_FULL, SPOOL_FULL, LOG_FULL, WRITE_ERROR = "disk_full", "spool_full", "log_full", "write_error"
DROP_REASONS = (DISK_FULL, SPOOL_FULL, LOG_FULL, WRITE_ERROR)
"""Why rows are lost: the disk of the spool is full; the spool is, as the database does not take rows; it is, as the log
has reached its own limit; or the spool cannot be written for another reason."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class LogLimits(NamedTuple):
    """What a recorder may keep, of ``serving/server_limits.py``; 0 is no limit.

    Attributes
    ----------
    log_bytes : int
        Of the table with its indexes.
    spool_bytes : int
        Of the spool of all workers together, what has just been moved included.
    """

    log_bytes: int = 0
    spool_bytes: int = 0


class Status(NamedTuple):
    """How the log is.

    Attributes
    ----------
    log_bytes : int or None
        What the table and its indexes take, as the writer found it seconds ago; None before the first check. In
        PostgreSQL an estimate from the number of rows.
    file_bytes : int or None
        What the files of a SQLite log take on the disk, with what is free in them; None for another database.
    spool_bytes : int
        What the spool of all workers takes.
    oldest : float or None
        When the oldest row was scored, in seconds since 1970.
    """

    log_bytes: int | None
    file_bytes: int | None
    spool_bytes: int
    oldest: float | None


class FullError(RuntimeError):
    """The log, or its spool, has reached its limit: it takes no row."""


class Request(NamedTuple):
    """A scored request.

    Attributes
    ----------
    request_id, model_version : str
        At most 65,535 bytes each.
    values : ndarray of float64, shape (n, features)
        NaN where a value is null; of a string its place in `texts`.
    prediction : ndarray of int, shape (n,)
        The predicted label.
    probability : ndarray of float64, shape (n,)
        P(made).
    shot_id : ndarray of int64, shape (n,), or None
        What the client calls the shots, if it named them.
    time : float
        Seconds since 1970, UTC.
    origin : str
        One of `ORIGINS`.
    texts : mapping of int to sequence of str
        The strings of each feature of strings, by the place of the feature.
    """

    request_id: str
    model_version: str
    values: npt.NDArray[np.float64]
    prediction: npt.NDArray[np.integer[Any]]
    probability: npt.NDArray[np.float64]
    shot_id: npt.NDArray[np.int64] | None
    time: float
    origin: str = TRAFFIC
    texts: Mapping[int, Sequence[str]] = MappingProxyType({})


class InferenceLogWriter:
    """Appends scored requests to a spool that a process of its own moves to the database.

    Parameters
    ----------
    url : str
        SQLAlchemy URL of the database.
    features : sequence of str
        Names of the columns of the values.
    limits : LogLimits
    on_drop : callable, optional
        Called with a reason of `DROP_REASONS` and a number of rows when rows are lost.
    texts : collection of str
        Names of those that hold strings.

    Raises
    ------
    OSError
        If the spool cannot be kept; not where the disk is full: it is tried again then.

    Notes
    -----
    Threads may share a recorder; processes may not: make it after a fork.
    """

    def __init__(
        self,
        url: str,
        features: Sequence[str],
        *,
        limits: LogLimits = LogLimits(),  # noqa: B008 it cannot change
        on_drop: Callable[[str, int], None] | None = None,
        texts: Collection[str] = (),
    ) -> None:
        self._url, self._limits = url, limits
        # As 0.1.0 writes it where all are numbers.
        self._features = {name: "text" if name in texts else "number" for name in features} if texts else [*features]
        self._losses = _Losses(on_drop)
        self._lock = threading.Lock()
        self._segment_bytes = min(_SEGMENT_BYTES, _segment_bytes(limits))
        self._folder: Path | None = None
        self._spooled = self._unmeasured = 0
        self._checked = self._measured = time.monotonic()
        try:
            self._start()
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            self._unkept: OSError = error
        self._measure()

    def _start(self) -> None:
        spool = _private_folder(spool_dir(self._url))
        folder = spool / f"{time.time_ns()}-{os.getpid()}"
        # Under another name until it is held, so that no writer takes it for one that a dead process left.
        unheld = folder.with_suffix(_NEW)
        held = file = None
        try:
            unheld.mkdir(mode=0o700)
            _write_private(unheld / _FEATURES, json.dumps(self._features).encode())
            file = _new_segment(unheld, 1)
            held = _hold(unheld)
            unheld.rename(folder)
        except OSError:
            for descriptor in (file, held):
                if descriptor is not None:
                    os.close(descriptor)
            shutil.rmtree(unheld, ignore_errors=True)
            raise
        self._held, self._file, self._number, self._size = held, file, 1, 0
        self._folder = folder
        self._start_writer()

    def _start_writer(self) -> None:
        # Its own session: what ends this process, and all of its group, does not end the writer. It shares the lock of
        # the folder, so that the folder is held as long as either lives.
        self._writer = subprocess.Popen(
            [sys.executable, __file__, str(self._folder), str(self._limits.log_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={**os.environ, URL_VARIABLE: self._url},
            pass_fds=[] if self._held is None else [self._held],
            start_new_session=True,
        )

    def append(self, request: Request) -> None:
        """Append a request; without room its rows are lost and counted, and the response is not affected."""
        rows = len(request.values)
        if not rows:
            return
        parts = _packed(request)
        with self._lock:
            if time.monotonic() - self._checked > _CHECK_SECONDS:
                self._check()
            try:
                self._write(parts)
            except FullError as error:
                self._losses.add(rows, LOG_FULL if self._status_of_writer().get("log_full") else SPOOL_FULL, str(error))
            except OSError as error:
                self._losses.add(rows, DISK_FULL if error.errno in _NO_ROOM else WRITE_ERROR, str(error))
            else:
                self._losses.end()

    @property
    def dropped(self) -> Mapping[str, int]:
        """Rows that were lost, by reason."""
        return self._losses.rows

    def status(self) -> Status:
        """How large the log and the spool are."""
        spool, found, files = spool_dir(self._url), self._status_of_writer(), None
        if self._url.startswith(_SQLITE):
            files = sum(_size(path) for path in _files_of(spool.with_suffix("")))
        return Status(found.get("log_bytes"), files, _spool_bytes(spool), found.get("oldest"))

    def close(self, seconds: float = 60.0) -> str:
        """Let the writer empty the spool; where the rows are that it has not moved within `seconds`, or nothing."""
        with self._lock:
            self._check()
            if self._folder is None:
                return self._losses.report()
            os.close(self._file)
        try:
            code = self._end_writer(time.monotonic() + seconds)
        except subprocess.TimeoutExpired:
            left = f"the database is slow; what it has not taken yet is moved in the background from {self._folder}"
        else:
            left = (
                f"the database did not take all rows; they wait in {self._folder} for the next server" if code else ""
            )
        finally:
            if self._held is not None:
                os.close(self._held)
        return "; ".join(filter(None, (left, self._losses.report())))

    def _end_writer(self, deadline: float) -> int:
        """Let the writer finish; one that is killed before is replaced. Its exit code."""
        while True:
            if self._writer.stdin:
                self._writer.stdin.close()
            code = self._writer.wait(max(0.0, deadline - time.monotonic()))
            if code >= 0:
                return code
            self._start_writer()

    def _status_of_writer(self) -> dict[str, Any]:
        """The status that the writer has stored about the database; empty before its first check."""
        found: dict[str, Any] = {}
        if self._folder:
            with contextlib.suppress(OSError, ValueError):
                found = json.loads((self._folder / _STATUS).read_text(encoding="utf-8"))
        return found

    def _check(self) -> None:
        """Replace a writer that was killed; start the spool where a full disk prevented it."""
        self._checked = time.monotonic()
        self._measure()
        try:
            if self._folder is None:
                self._start()
            elif self._writer.poll() is not None:
                if self._writer.stdin:
                    self._writer.stdin.close()
                self._start_writer()
        except OSError as error:
            # Retried at the next check; the rows in the spool wait.
            self._unkept = error

    def _measure(self) -> None:
        self._measured, self._unmeasured = time.monotonic(), 0
        if self._limits.spool_bytes:
            self._spooled = _spool_bytes(spool_dir(self._url))

    def _require_room(self, length: int) -> None:
        limit = self._limits.spool_bytes
        if not limit or (self._spooled + length <= limit and self._unmeasured < _MEASURE_BYTES):
            return
        if self._unmeasured or time.monotonic() - self._measured > _MEASURE_SECONDS:
            self._measure()
        if self._spooled + length <= limit:
            return
        if self._size:
            # What has been moved of this file goes when it is not the last one any more.
            self._open()
        message = (
            f"the spool has reached its limit of {limit:,} bytes (KOBE_LIMIT_SPOOL_BYTES): the database does "
            "not take rows fast enough, or the log has reached its own limit. Make room: python -m "
            "serving.inference_log.retention"
        )
        raise FullError(message)

    def _write(self, parts: list[bytes]) -> None:
        if self._folder is None:
            raise self._unkept
        length = sum(map(len, parts))
        self._require_room(length)
        if self._size >= self._segment_bytes:
            self._open()
        try:
            written = os.writev(self._file, parts)
            if written < length:
                rest = memoryview(b"".join(parts))[written:]
                while rest:
                    rest = rest[os.write(self._file, rest) :]
        except OSError:
            try:
                os.ftruncate(self._file, self._size)
            except OSError:
                # Nothing can follow what is half written here.
                self._size = self._segment_bytes
            raise
        self._size += length
        self._spooled += length
        self._unmeasured += length

    def _open(self) -> None:
        """Start another file, or keep this one where there can be none."""
        assert self._folder is not None  # noqa: S101 only called when it is there
        file = _new_segment(self._folder, self._number + 1)
        os.close(self._file)
        self._file, self._number, self._size = file, self._number + 1, 0


class _Losses:
    """Lost rows: counted, and logged at the start and at the end of a loss."""

    def __init__(self, on_drop: Callable[[str, int], None] | None) -> None:
        self.rows = dict.fromkeys(DROP_REASONS, 0)
        self._on_drop = on_drop
        self._since = self._unsaid = 0.0
        self._now = 0
        self._is_reported = False

    def add(self, rows: int, reason: str, words: str) -> None:
        now = time.monotonic()
        self.rows[reason] += rows
        self._since = self._since or now
        self._now += rows
        # A loss that comes and goes is not logged every time.
        if not self._is_reported and now >= self._unsaid:
            self._is_reported, self._unsaid = True, now + _REPORTED_AGAIN_SECONDS
            _logger.warning(
                "rows are not logged: %s. They are counted (%s); responses are not affected.", words, reason
            )
        if self._on_drop:
            self._on_drop(reason, rows)

    def end(self) -> None:
        if self._is_reported:
            _logger.warning(
                "the inference log is written again after %.0f s, %s rows were lost", self._seconds(), f"{self._now:,}"
            )
            self._since, self._now, self._is_reported = 0.0, 0, False

    def report(self) -> str:
        return f"{self._now:,} rows were lost in the last {self._seconds():.0f} s" if self._now else ""

    def _seconds(self) -> float:
        return time.monotonic() - self._since


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


def recorder_from_environment(
    features: Sequence[str],
    limits: LogLimits,
    on_drop: Callable[[str, int], None] | None = None,
    *,
    texts: Collection[str] = (),
) -> InferenceLogWriter | None:
    """A recorder for the url in ``KOBE_INFERENCE_LOG``, or None where none is set.

    Raises
    ------
    ValueError
        If it cannot be a URL.
    OSError
        If the spool cannot be kept.
    """
    url = os.environ.get(URL_VARIABLE, "")
    if url in {"", "off"}:
        return None
    check_url(url)
    return InferenceLogWriter(url, features, limits=limits, on_drop=on_drop, texts=texts)


def spool_dir(url: str) -> Path:
    """Folder of the spool: next to a SQLite file, else in the user's state folder.

    Examples
    --------
    >>> spool_dir("sqlite:////tmp/log.db").as_posix()
    '/tmp/log.db.spool'
    >>> spool_dir("sqlite:////tmp/100%25 sure/log.db?timeout=5").as_posix()
    '/tmp/100% sure/log.db.spool'
    """
    if url.startswith(_SQLITE):
        # As SQLAlchemy reads it. This file also goes alone with a model: it imports nothing of the project.
        return Path(unquote(url.removeprefix(_SQLITE).partition("?")[0]) + ".spool").absolute()
    place = urlsplit(url)
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
    if request.origin != TRAFFIC or request.texts:
        # At the end, where 0.1.0 reads nothing: its writer may find this spool, and this one a spool of 0.1.0.
        body.append(request.origin.encode())
    if request.texts:
        body.append(b"\0" + _as_json(dict(request.texts)).encode())
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
    origin, _, strings = body[place:].partition(b"\0")
    texts = {int(place): found for place, found in json.loads(strings or b"{}").items()}
    return Request(
        request_id, version, values, prediction, probability, shot_id, when, origin.decode() or TRAFFIC, texts
    )


class _Spool:
    """A recorder's folder, as the process that empties it sees it."""

    def __init__(self, folder: Path, engine: Any, log_bytes: int = 0) -> None:  # noqa: ANN401 SQLAlchemy comes late
        self._folder, self._engine, self._limit = folder, engine, log_bytes
        # How far each file has been moved: the offset of a request, and how many of its rows.
        self._positions: dict[Path, tuple[int, int]] = {}

    def move(self) -> None:
        """Move all whole requests to the table; remove the files to which nothing is appended any more.

        Raises
        ------
        FullError
            If the log has reached its limit.
        """
        if not self._positions:
            features = json.loads((self._folder / _FEATURES).read_text(encoding="utf-8"))
            self._features: list[str] = list(features)
            texts = [name for name, kind in features.items() if kind == "text"] if isinstance(features, dict) else []
            self._table, self._progress = tables(self._features, texts)
        segments = sorted(self._folder.glob("*.spool"))
        for path in segments:
            if path not in self._positions:
                self._positions[path] = self._position(path)
            if path.stat().st_size > self._positions[path][0]:
                self._move(path)
            if path != segments[-1]:
                self._remove(path)

    def remove(self) -> None:
        """Remove the emptied spool of a recorder that has ended."""
        for path in sorted(self._folder.glob("*.spool")):
            self._remove(path)
        shutil.rmtree(self._folder)

    def _position(self, path: Path) -> tuple[int, int]:
        create_tables(self._engine, self._table)
        with self._engine.connect() as connection:
            query = self._progress.select().where(self._key(path))
            found = {row.segment: row.position for row in connection.execute(query)}
        return found.get(_segment(path), 0), found.get(_within(path), 0)

    def _move(self, path: Path) -> None:
        self._require_room()
        # Forgotten until the commit is known to have been one: the database holds the position that it reached.
        start = self._positions.pop(path)
        for rows, offset, done in _pieces(read_spool(path, start[0], len(self._features)), *start):
            self._require_room()
            with self._engine.begin() as connection:
                _insert(connection, self._table, rows)
                connection.execute(self._progress.delete().where(self._key(path)))
                reached = {_segment(path): offset, **({_within(path): done} if done else {})}
                moved = [{"segment": name, "position": position} for name, position in reached.items()]
                connection.execute(self._progress.insert(), moved)
            self._positions[path] = offset, done

    def _require_room(self) -> None:
        if self._limit and (taken := used_bytes(self._engine)) >= self._limit:
            message = (
                f"it takes {taken:,} bytes, and its limit is {self._limit:,} (KOBE_LIMIT_LOG_BYTES); make "
                "room: python -m serving.inference_log.retention"
            )
            raise FullError(message)
        shorten_journal(self._engine)

    def _remove(self, path: Path) -> None:
        path.unlink()
        with self._engine.begin() as connection:
            connection.execute(self._progress.delete().where(self._key(path)))

    def _key(self, path: Path) -> Any:  # noqa: ANN401
        return self._progress.c.segment.in_((_segment(path), _within(path)))


class _StatusFile:
    """Writes the status of the database into a file of the folder, for the server."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._at = folder, 0.0
        self._log_full = False

    def write(self, engine: Any, *, log_full: bool) -> None:  # noqa: ANN401
        now = time.monotonic()
        if now - self._at < _STATUS_SECONDS and log_full == self._log_full:
            return
        self._at, self._log_full = now, log_full
        # A full disk, or an unreachable database, must not stop the writer.
        with contextlib.suppress(Exception):
            found = {"log_bytes": used_bytes(engine), "oldest": oldest(engine), "log_full": log_full}
            partial = self._folder / f"{_STATUS}{_NEW}"
            partial.unlink(missing_ok=True)
            _write_private(partial, json.dumps(found).encode())
            partial.replace(self._folder / _STATUS)


def drain_spool(folder: Path, log_bytes: int) -> int:
    """Empty a spool until the recorder's process has ended and nothing is left; also what dead processes left.

    Parameters
    ----------
    folder : pathlib.Path
        Spool of the recorder whose process holds the other end of standard input.
    log_bytes : int
        Limit of the table; 0 for none.

    Returns
    -------
    int
        0, or 1 if the database could not be reached when the recorder ended: its spool stays, for the next writer.
    """
    spools: list[_Spool] = []
    status_file, engine = _StatusFile(folder), None
    failing_since = 0.0
    while True:
        ended = bool(select.select([sys.stdin], [], [], _POLL_SECONDS)[0])
        try:
            engine = engine or create_engine(os.environ[URL_VARIABLE])
            spools = spools or _spools(folder, engine, log_bytes)
            spools[0].move()
            for left in spools[1:]:
                _move_left(left)
            del spools[1:]
        except Exception as error:  # noqa: BLE001 whatever the database raises, rows wait until it takes them
            if not failing_since:
                _logger.warning("the database does not take rows (%s); they wait in %s", error, folder.parent)
            failing_since = failing_since or time.monotonic()
            if engine:
                status_file.write(engine, log_full=isinstance(error, FullError))
            if ended and time.monotonic() - failing_since > _PATIENCE_SECONDS:
                return 1
            time.sleep(_POLL_SECONDS)
            continue
        if failing_since:
            _logger.warning("the database takes rows again, after %.0f s", time.monotonic() - failing_since)
            failing_since = 0.0
        if ended:
            spools[0].remove()
            return 0
        status_file.write(engine, log_full=False)


def _spools(folder: Path, engine: Any, log_bytes: int) -> list[_Spool]:  # noqa: ANN401
    """The recorder's own spool, and those that no process holds; they are held from now on."""
    spools = [_Spool(folder, engine, log_bytes)]
    for path in sorted(folder.parent.iterdir()):
        # Another recorder may be just about to hold a new folder.
        in_the_making = path.suffix == _NEW and time.time() - path.stat().st_mtime < _MAKING_SECONDS
        if path != folder and path.is_dir() and not in_the_making and _hold(path) is not None:
            if path.suffix == _NEW or not (path / _FEATURES).exists():
                # Its process was killed before it held a row, or after the last one was moved.
                shutil.rmtree(path, ignore_errors=True)
            else:
                spools.append(_Spool(path, engine, log_bytes))
    return spools


def _move_left(left: _Spool) -> None:
    """Move what a dead process left; one that cannot be read stays for inspection and blocks no other."""
    try:
        left.move()
        left.remove()
    except (OSError, ValueError, KeyError, struct.error) as error:
        _logger.warning("what a dead process left cannot be read (%s: %s); it stays", type(error).__name__, error)


def check_url(url: str) -> None:
    """Refuse what cannot be a URL of a log.

    Raises
    ------
    ValueError
        If SQLAlchemy knows no such database, or its driver is not installed.
    """
    try:
        create_engine(url)
    except Exception as error:
        # The text of a ValueError repeats what SQLAlchemy takes for a port, which may be a password.
        problem = "a port is a number" if type(error) is ValueError else f"{type(error).__name__}: {error}"
        message = (
            f"{URL_VARIABLE}: expected a SQLAlchemy URL such as sqlite:///inference_log.db or "
            f"postgresql://user@host/database, or off; {problem}"
        )
        raise ValueError(message) from error


def create_engine(url: str, **options: Any) -> Any:  # noqa: ANN401 SQLAlchemy is imported only where it is needed
    """An engine for a URL, with SQLAlchemy's options; a connection to SQLite waits for others that write."""
    import sqlalchemy as sql  # noqa: PLC0415

    engine = sql.create_engine(url, **options)
    if engine.dialect.name == "sqlite":
        database = _database(engine)

        @sql.event.listens_for(engine, "do_connect")
        def protect(*_: object) -> None:
            if database is not None:
                keep_private(database)

        @sql.event.listens_for(engine, "connect")
        def configure(connection: Any, _record: object) -> None:  # noqa: ANN401
            # First of all: whatever follows may meet another process that writes.
            connection.execute(f"PRAGMA busy_timeout={_LOCKED_SECONDS * 1000:.0f}")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(f"PRAGMA journal_size_limit={_JOURNAL_BYTES}")

    return engine


def used_bytes(engine: Any) -> int:  # noqa: ANN401 SQLAlchemy is imported late
    """What the log takes in its database: of SQLite all pages that are not free.

    PostgreSQL does not report the free space within a table, so there it is the size of table and indexes, or 300 bytes
    per row, if that is less.
    """
    import sqlalchemy as sql  # noqa: PLC0415

    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            used = (
                "SELECT (page_count - freelist_count) * page_size "
                "FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
            )
            return int(connection.exec_driver_sql(used).scalar_one())
        if engine.dialect.name != "postgresql":
            return 0
        taken = sql.text(
            "SELECT pg_total_relation_size(relid), n_live_tup FROM pg_stat_user_tables WHERE relid = to_regclass(:name)"
        )
        row = connection.execute(taken, {"name": TABLE}).first()
        return min(int(row[0]), int(row[1]) * _ROW_BYTES) if row else 0


def oldest(engine: Any) -> float | None:  # noqa: ANN401
    """When the oldest row was scored, in seconds since 1970; None where there is none."""
    import sqlalchemy as sql  # noqa: PLC0415

    table, _ = tables(())
    with engine.connect() as connection:
        # By the index, which has the origin first.
        found = [
            connection.execute(sql.select(sql.func.min(table.c.time)).where(table.c.origin == origin)).scalar()
            for origin in ORIGINS
        ]
    return min((time.replace(tzinfo=UTC).timestamp() for time in found if time), default=None)


def shorten_journal(engine: Any) -> None:  # noqa: ANN401
    """Bring the write-ahead log of SQLite into its database where it has become long.

    Raises
    ------
    FullError
        If a reader prevents it.
    """
    database = _database(engine)
    if database is None or _size(journal := Path(f"{database}-wal")) <= _LONGEST_JOURNAL_BYTES:
        return
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()
    if _size(journal) > _LONGEST_JOURNAL_BYTES:
        message = f"{journal} has {_size(journal):,} bytes, and a reader prevents its checkpoint"
        raise FullError(message)


def column_of(feature: str) -> str:
    """Name of a feature's column in the log, which has columns of its own.

    Examples
    --------
    >>> column_of("lat"), column_of("time")
    ('lat', 'feature_time')
    """
    return f"feature_{feature}" if feature.lower() in _OWN_COLUMNS else feature


def tables(features: Sequence[str], texts: Collection[str] = ()) -> tuple[Any, Any]:
    """The table of scored rows, and the one with the position reached in each spool file.

    Parameters
    ----------
    features : sequence of str
        Names of the columns of the values.
    texts : collection of str
        Names of those that hold strings.

    Notes
    -----
    ``inference`` holds per row: ``id``, ``time`` (UTC), ``request_id``, ``row`` (place in the request),
    ``model_version``, ``origin`` (one of `ORIGINS`), ``shot_id`` (null unless the client gave it), the features (null
    where a version has no such feature, or allows null) by the names of `column_of`, ``prediction`` (the predicted
    label), ``probability`` (P(made)) and ``shot_made_flag`` (the ground truth, null until
    `serving.inference_log.ground_truth` writes it). Its indexes are for windows of time, for the rows of one shot and
    for labels.
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
        *(sql.Column(column_of(name), sql.Text() if name in texts else sql.Double()) for name in features),
        sql.Column("prediction", sql.SmallInteger, nullable=False),
        sql.Column("probability", sql.Double, nullable=False),
        sql.Column("shot_made_flag", sql.SmallInteger),
    )
    of_origin, labeled = (table.c.origin, table.c.time, table.c.id), table.c.shot_made_flag.is_not(None)
    for name, columns, where in (
        # With the shot, so that a window is counted without its rows.
        ("time", (*of_origin, table.c.shot_id), None),
        ("shot", (table.c.shot_id, table.c.time, table.c.id), table.c.shot_id.is_not(None)),
        ("label", of_origin, labeled),
    ):
        sql.Index(f"ix_{TABLE}_{name}", *columns, sqlite_where=where, postgresql_where=where)
    progress = sql.Table(
        PROGRESS,
        metadata,
        sql.Column("segment", sql.String(200), primary_key=True),
        sql.Column("position", sql.BigInteger, nullable=False),
    )
    return table, progress


def create_tables(engine: Any, table: Any) -> None:  # noqa: ANN401 SQLAlchemy is imported late
    """Make the tables of `tables` where they are not there, whoever else makes them at the same time.

    A log of 0.1.0 gets the column and the indexes that it lacks, and any log the features that a version adds.
    """
    import sqlalchemy as sql  # noqa: PLC0415
    from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable  # noqa: PLC0415

    with _alone(engine) as connection:
        for each in table.metadata.sorted_tables:
            connection.execute(CreateTable(each, if_not_exists=True))
        found = sql.inspect(connection)
        known = {column["name"] for column in found.get_columns(TABLE)}
        for each in table.columns:
            if each.name not in known:
                column = CreateColumn(each).compile(dialect=connection.dialect)
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
        # Where the file is new: so that `serving.inference_log.retention` can give back what it frees.
        connection.exec_driver_sql("PRAGMA auto_vacuum=INCREMENTAL")
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

    SQLite reports at once that the file is locked, whatever timeout the connection has: it would need to
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


def _pieces(
    requests: Iterator[tuple[Request, int]], offset: int, done: int
) -> Iterator[tuple[list[tuple[Any, ...]], int, int]]:
    """Rows for one transaction each, with the offset of the request that they reach into, and how many of its rows.

    A request may have more rows than a transaction is to have.
    """
    rows: list[tuple[Any, ...]] = []
    for request, end in requests:
        count = len(request.probability)
        while count - done > (room := _ROWS_AT_ONCE - len(rows)):
            rows.extend(_rows(request, done, done + room))
            done += room
            yield rows, offset, done
            rows = []
        rows.extend(_rows(request, done, count))
        offset, done = end, 0
        if len(rows) == _ROWS_AT_ONCE:
            yield rows, offset, done
            rows = []
    if rows:
        yield rows, offset, done


def _rows(request: Request, start: int, stop: int) -> Iterator[tuple[Any, ...]]:
    """Rows of the table, without ``id`` and ``shot_made_flag``."""
    count, part = stop - start, slice(start, stop)
    return zip(
        repeat(datetime.fromtimestamp(request.time, UTC).replace(tzinfo=None), count),
        repeat(request.request_id, count),
        range(start, stop),
        repeat(request.model_version, count),
        repeat(request.origin, count),
        repeat(None, count) if request.shot_id is None else request.shot_id[part].tolist(),
        *(_column(request, place, part) for place in range(request.values.shape[1])),
        request.prediction[part].tolist(),
        request.probability[part].tolist(),
        strict=True,
    )


def _column(request: Request, place: int, part: slice) -> list[Any]:
    """The values of a feature, None where one is null."""
    values = request.values[part, place]
    texts = request.texts.get(place)
    if texts is not None:
        return [None if np.isnan(value) else texts[int(value)] for value in values.tolist()]
    found: list[Any] = values.tolist()
    return [None if value != value else value for value in found] if np.isnan(values).any() else found  # noqa: PLR0124


def _insert(connection: Any, table: Any, rows: list[tuple[Any, ...]]) -> None:  # noqa: ANN401
    names = [column.name for column in table.columns if column.name not in {"id", "shot_made_flag"}]
    statement = table.insert().compile(dialect=connection.dialect, column_keys=names)
    if statement.positional:
        # Three times as fast as through SQLAlchemy, which would read every value.
        connection.exec_driver_sql(str(statement), rows)
    else:
        connection.execute(table.insert(), [dict(zip(names, row, strict=True)) for row in rows])


def _segment(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _within(path: Path) -> str:
    """Name of the entry with the number of rows that have been moved of a partly moved request."""
    return f"{_segment(path)}#rows"


def _segment_bytes(limits: LogLimits) -> int:
    """How long a file of the spool becomes: many are in what the spool may hold, as only whole files are removed."""
    if not limits.spool_bytes:
        return _SEGMENT_BYTES
    return min(_SEGMENT_BYTES, max(_SHORTEST_SEGMENT_BYTES, limits.spool_bytes // _SEGMENTS))


def _new_segment(folder: Path, number: int) -> int:
    how = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(folder / f"{number:06d}.spool", how, 0o600)


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _private_folder(path: Path) -> Path:
    """Make a folder that only this user can enter, or narrow one that is theirs.

    Raises
    ------
    PermissionError
        If another account has taken its name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    _narrow(path, 0o700)
    return path


def _database(engine: Any) -> Path | None:  # noqa: ANN401
    """The file of a SQLite database; None for another one, and for one in memory."""
    name = engine.url.database if engine.dialect.name == "sqlite" else ""
    return None if not name or name.startswith((":memory:", "file:")) else Path(name)


def keep_private(database: Path) -> None:
    """Make the file of a SQLite log where there is none, for this user alone; narrow one that is theirs.

    Never opens one that is there: to close it again would free the locks that this process holds on it.

    Raises
    ------
    PermissionError
        If it is a link of another account.
    """
    try:
        os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    except FileExistsError:
        for path in _files_of(database):
            with contextlib.suppress(FileNotFoundError):
                _narrow(path, 0o600, shared=True)


def _narrow(path: Path, mode: int, *, shared: bool = False) -> None:
    """Take from others what they may do with a file or folder of ours.

    Raises
    ------
    PermissionError
        If another account has put a link there, or what is there is another's, unless it may be `shared`.
    """
    user, link, found = os.geteuid(), path.lstat(), path.stat()
    is_foreign = stat.S_ISLNK(link.st_mode) and link.st_uid not in {user, 0}
    if is_foreign or (found.st_uid != user and not shared):
        message = (
            f"expected {path} to be of this account (number {user}); found another's. Remove it, or name another place "
            f"in {URL_VARIABLE} or XDG_STATE_HOME"
        )
        raise PermissionError(message)
    # What a URL names by mistake may be any folder of this machine: a file is only ever narrowed as a file.
    is_kind = stat.S_ISREG if shared else stat.S_ISDIR
    if found.st_uid == user and is_kind(found.st_mode) and stat.S_IMODE(found.st_mode) & 0o077:
        path.chmod(mode)


def _files_of(database: Path) -> tuple[Path, ...]:
    """The file of a SQLite database, and those that SQLite keeps next to it."""
    return database, Path(f"{database}-wal"), Path(f"{database}-shm")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _spool_bytes(spool: Path) -> int:
    """What the files of all recorders of a log take."""
    total = 0
    # What is moved meanwhile goes.
    with contextlib.suppress(OSError):
        for folder in os.scandir(spool):
            with contextlib.suppress(OSError):
                total += sum(file.stat().st_size for file in os.scandir(folder))
    return total


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


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    os.nice(19)
    if sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    raise SystemExit(drain_spool(Path(sys.argv[1]), int(sys.argv[2])))
