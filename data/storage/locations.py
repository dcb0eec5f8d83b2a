"""Tables that are no local file: of a DuckDB or SQLite file, of any database of SQLAlchemy, or in a cloud store.

`local_table` copies such a table into a temporary Parquet table, in pieces, and removes it at the end. So one query
gives one state of the table, and every command reads it as it reads a file.
"""

import datetime as dt
import decimal
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

import pyarrow as pa
import pyarrow.csv as pa_csv
import sqlalchemy as sql

from data.errors import FileError, TableError
from data.masking import MASK, masked
from data.storage.content import content_of
from data.storage.files import translate_disk_full
from data.storage.scratch import scratch
from data.storage.tables import TableWriter, validate_table_path
from data.storage.urls import sqlite_path

PIECE_ROWS = 50_000
"""Rows of a database that are read at a time."""

_EXAMPLE = "postgresql://user@host/database?table=shots"
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
_FILE_TABLE = re.compile(r"(?P<path>.+)\?table=(?P<table>[^&]*)", re.DOTALL)
_UNSAFE, _NAME_SHOWN = re.compile(r"[^\w-]+"), 50
_COPY_BYTES, _BLOCK_BYTES = 1 << 20, 1 << 22


def is_url(location: str) -> bool:
    """Whether a location is a URL, or a table of a database file, and not a path.

    Examples
    --------
    >>> [is_url(text) for text in ("shots.db?table=shots", "sqlite:///shots.db?table=shots", "shots.csv")]
    [True, True, False]
    """
    return "://" in location or (_FILE_TABLE.fullmatch(location) is not None and not Path(location).exists())


def validate_location(location: str) -> str:
    """Raise unless a location is a path, a table of a database, or a file of a cloud store.

    Raises
    ------
    ValueError
        pydantic reports it as an invalid parameter. Secrets are masked.
    """
    try:
        if not is_url(location):
            validate_table_path(Path(location).expanduser())
            return location
    except (OSError, RuntimeError) as error:
        message = (
            f"expected a path, or the URL of a table such as {_EXAMPLE}; found {masked(location)[:100]!r} ({error})"
        )
        raise ValueError(message) from error
    scheme, separator, _ = location.partition("://")
    if not separator or scheme.lower() in _PACKAGES:
        return location
    try:
        url, table = _parsed(location)
        if url.drivername != "duckdb":
            url.get_dialect()
    except sql.exc.NoSuchModuleError as error:
        message = f"expected a path, or the URL of a table such as {_EXAMPLE}; found a URL of {scheme}://"
        raise ValueError(message) from error
    except (sql.exc.ArgumentError, ValueError) as error:
        message = f"expected the URL of a table such as {_EXAMPLE}; found {masked(location)!r}"
        raise ValueError(message) from error
    if not table:
        message = f"expected the name of a table at the end, such as {_EXAMPLE}; found {masked(location)!r}"
        raise ValueError(message)
    if _has_password(url) and "MLFLOW_RUN_ID" in os.environ:
        message = (
            "expected a URL without a password, because `mlflow run` logs its parameters; found one. Set the "
            "password in PGPASSWORD or ~/.pgpass, and delete the run"
        )
        raise ValueError(message)
    return location


@contextmanager
def local_table(location: str, *, max_bytes: int | None = None) -> Iterator[Path]:
    """Open a location as a local path: its own, or that of a temporary copy.

    Parameters
    ----------
    location : str
        See `validate_location`.
    max_bytes : int, optional
        Maximum size of a copy, bytes.

    Raises
    ------
    TableError
        If the table does not exist or cannot be read. Passwords are masked.
    DiskFullError
        If the copy does not fit on the disk of the temporary folder.
    """
    path = Path(location).expanduser()
    if not is_url(location) and not _is_database(path):
        yield path
        return
    scheme = location.partition("://")[0].lower()
    with scratch("tables") as folder:
        with translate_disk_full(folder):
            if scheme in _PACKAGES:
                copy = _downloaded(location, folder, _PACKAGES[scheme], max_bytes)
            else:
                copy = _copy(location, folder, max_bytes)
        yield copy


def _is_database(path: Path) -> bool:
    try:
        return path.is_file() and content_of(path) in {"sqlite", "duckdb"}
    except (TableError, FileError):
        # Whoever reads it reports that.
        return False


def display_location(location: str) -> str:
    """Format a location for messages and records, with its secrets masked.

    Examples
    --------
    >>> display_location("postgresql://kobe:secret@host/shots?table=shots")
    'postgresql://kobe:***@host/shots?table=shots'
    """
    return masked(location)


def _copy(location: str, folder: Path, max_bytes: int | None) -> Path:
    file, table = _database_file(location)
    target = folder / f"{_UNSAFE.sub('_', table)[:_NAME_SHOWN] or 'table'}.parquet"
    try:
        with ExitStack() as stack:
            if file is not None and _content(file) == "duckdb":
                schema, pieces = stack.enter_context(_duckdb_table(file, table, location))
            else:
                url = sql.URL.create("sqlite", database=str(file)) if file is not None else _parsed(location)[0]
                schema, pieces = stack.enter_context(_sql_table(url, table, location, file))
            target.mkdir()
            with TableWriter(target, schema, ".parquet") as writer:
                for piece in pieces:
                    writer.write(piece)
                    if max_bytes is not None and _size(writer.files) > max_bytes:
                        message = (
                            f"{masked(location)}: expected at most {max_bytes:,} bytes; found more. A larger source "
                            "needs a larger max_source_bytes."
                        )
                        raise TableError(message)
    except (sql.exc.SQLAlchemyError, sqlite3.Error, pa.ArrowException) as error:
        reason = masked(str(getattr(error, "orig", None) or error)).strip().splitlines()[0]
        message = f"{masked(location)} cannot be read: {reason}"
        raise TableError(message) from None
    except ModuleNotFoundError as error:
        message = (
            f"{masked(location)} cannot be read: its driver, the package {error.name}, is not installed. Install it."
        )
        raise TableError(message) from None
    return target


def _size(files: Sequence[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def _database_file(location: str) -> tuple[Path | None, str]:
    """The file and table of a database file, or no file and the table of another database."""
    if "://" not in location:
        found = _FILE_TABLE.fullmatch(location)
        return (
            (Path(found["path"]).expanduser(), unquote(found["table"])) if found else (Path(location).expanduser(), "")
        )
    url, table = _parsed(location)
    scheme = url.drivername.partition("+")[0]
    if scheme == "duckdb":
        return Path(url.database or ""), table
    return (sqlite_path(location) if scheme == "sqlite" else None), table


def _content(file: Path) -> str:
    if not file.exists():
        message = f"{file}: expected a DuckDB or SQLite file; found nothing."
        raise TableError(message)
    content = content_of(file)
    if content not in {"sqlite", "duckdb"}:
        message = f"{file}: expected a DuckDB or SQLite file; found another one. Give it without ?table=."
        raise TableError(message)
    return content


def _parsed(location: str) -> tuple[sql.URL, str]:
    """The URL of a database, without the parameter that names the table, and the table."""
    base, _, query = location.partition("?")
    options = parse_qsl(query, keep_blank_values=True)
    table = next((value for name, value in options if name == "table"), "")
    rest = urlencode([(name, value) for name, value in options if name != "table"], quote_via=quote)
    url = sql.make_url(f"{base}?{rest}" if rest else base)
    if url.drivername == "postgres":
        url = url.set(drivername="postgresql")
    return url, table


def _has_password(url: sql.URL) -> bool:
    return MASK in masked(url.render_as_string(hide_password=False))


def _selected(table: str, tables: Sequence[str], location: str) -> str:
    """The table of that name, or the only one."""
    if not table and len(tables) == 1:
        return tables[0]
    if table in tables:
        return table
    found = ", ".join(sorted(tables)[:20]) or "none"
    what = f"a table {table!r}" if table else "the name of a table at the end, such as ?table=shots"
    message = f"{masked(location)}: expected {what}; it contains the tables: {found}."
    raise TableError(message)


@contextmanager
def _duckdb_table(file: Path, table: str, location: str) -> Iterator[tuple[pa.Schema, Iterator[pa.Table]]]:
    import duckdb  # noqa: PLC0415 loaded where it is used

    from data.storage.duckdb import connection, quote_identifier  # noqa: PLC0415

    try:
        with connection(file) as opened:
            names = opened.execute("SELECT table_name FROM information_schema.tables").fetchall()
            name = _selected(table, [name for (name,) in names], location)
            reader = opened.table(quote_identifier(name)).to_arrow_reader(PIECE_ROWS)
            yield reader.schema, (pa.Table.from_batches([batch]) for batch in reader)
    except duckdb.Error as error:
        message = f"{masked(location)} cannot be read: {masked(str(error).splitlines()[0])}"
        raise TableError(message) from None


@contextmanager
def _sql_table(
    url: sql.URL, table: str, location: str, file: Path | None
) -> Iterator[tuple[pa.Schema, Iterator[pa.Table]]]:
    engine = _read_only(file) if file is not None else sql.create_engine(url, poolclass=sql.pool.NullPool)
    try:
        with engine.connect().execution_options(stream_results=True, max_row_buffer=PIECE_ROWS) as connection:
            inspector = sql.inspect(connection)
            schema_name, _, short = table.rpartition(".")
            tables = [*inspector.get_table_names(), *inspector.get_view_names()]
            if table not in tables and schema_name:
                tables = [
                    f"{schema_name}.{name}"
                    for name in (*inspector.get_table_names(schema_name), *inspector.get_view_names(schema_name))
                ]
                name = _selected(table, tables, location) and short
            else:
                schema_name, name = "", _selected(table, tables, location)
            found = sql.Table(name, sql.MetaData(), autoload_with=connection, schema=schema_name or None)
            schema = pa.schema([(column.name, _arrow_type(column.type)) for column in found.columns])
            query = sql.select(*(_as_stored(column) for column in found.columns))
            if (url.get_backend_name(), url.get_driver_name()) == ("postgresql", "psycopg"):
                with _postgres_batches(connection, query, schema) as batches:
                    yield schema, (pa.Table.from_batches([batch]) for batch in batches)
                return
            with connection.execute(query) as result:
                yield schema, (_piece(rows, schema, location) for rows in result.partitions(PIECE_ROWS))
    finally:
        engine.dispose()


@contextmanager
def _postgres_batches(
    connection: sql.Connection, query: "sql.Select[Any]", schema: pa.Schema
) -> Iterator[pa_csv.CSVStreamingReader]:
    """The rows of a query as CSV: Arrow reads it in a quarter of the time in which Python makes objects of them."""
    import psycopg  # noqa: PLC0415 loaded where it is used

    quoted = connection.dialect.identifier_preparer.quote_identifier
    # An empty string is quoted, a null is not.
    strings = ", ".join(quoted(field.name) for field in schema if field.type == pa.string())
    force_quote = f", FORCE_QUOTE ({strings})" if strings else ""
    statement = f"COPY ({query.compile(connection)}) TO STDOUT (FORMAT csv, HEADER{force_quote})"
    options = pa_csv.ConvertOptions(
        column_types=schema,
        null_values=[""],
        true_values=["t"],
        false_values=["f"],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    try:
        cursor = connection.connection.cursor()
        cursor.execute("SET datestyle = ISO; SET extra_float_digits = 3; SET client_encoding = UTF8")
        with cursor.copy(statement) as copy, pa.PythonFile(_Copied(copy), "r") as file:
            yield pa_csv.open_csv(
                file,
                pa_csv.ReadOptions(block_size=_BLOCK_BYTES),
                pa_csv.ParseOptions(newlines_in_values=True),
                options,
            )
    except psycopg.Error as error:
        raise sql.exc.SQLAlchemyError(str(error)) from error


class _Copied:
    """What a COPY of PostgreSQL sends, as a file."""

    closed = False

    def __init__(self, copy: Any) -> None:  # noqa: ANN401 psycopg.Copy, of any kind of row
        self._copy, self._rest = copy, b""

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        parts = [self._rest]
        found = len(self._rest)
        while found < size and (row := bytes(self._copy.read())):
            parts.append(row)
            found += len(row)
        whole = b"".join(parts)
        self._rest = whole[size:]
        return whole[:size]

    def close(self) -> None:
        """The connection is closed elsewhere."""
        self.closed = True


def _read_only(file: Path) -> sql.Engine:
    path = quote(str(file.resolve()))
    return sql.create_engine(
        "sqlite://", creator=lambda: sqlite3.connect(f"file:{path}?mode=ro", uri=True), poolclass=sql.pool.NullPool
    )


def _as_stored(column: "sql.Column[Any]") -> "sql.ColumnElement[Any]":
    """A column without the conversion of its values, which fails on a value of another type in SQLite."""
    return sql.type_coerce(column, sql.types.NullType()).label(column.name)


def _arrow_type(kind: "sql.types.TypeEngine[Any]") -> pa.DataType:
    if isinstance(kind, sql.types.Boolean):
        return pa.bool_()
    if isinstance(kind, sql.types.Integer):
        return pa.int64()
    return pa.float64() if isinstance(kind, sql.types.Numeric | sql.types.Float) else pa.string()


def _piece(rows: Sequence[sql.Row[Any]], schema: pa.Schema, location: str) -> pa.Table:
    columns = []
    for field, cells in zip(schema, zip(*rows, strict=True), strict=True):
        try:
            columns.append(_array(cells, field.type))
        except (pa.ArrowException, TypeError, ValueError) as error:
            message = (
                f"{masked(location)}, column {field.name}: expected values of its type ({field.type}); {masked(error)}"
            )
            raise TableError(message) from error
    return pa.table(columns, schema=schema)


def _array(cells: Sequence[Any], kind: pa.DataType) -> pa.Array:
    try:
        return _typed(cells, kind)
    except (pa.ArrowException, TypeError):
        return _typed(_CONVERSIONS[kind](cells), kind)


def _typed(cells: Sequence[Any], kind: pa.DataType) -> pa.Array:
    # Of an integer type Arrow would make 1 of 1.5; its cast refuses that.
    return pa.array(cells).cast(kind) if kind == pa.int64() else pa.array(cells, kind)


def _floats(cells: Sequence[Any]) -> list[float | None]:
    return [None if cell is None or cell == "" else float(cell) for cell in cells]


def _integers(cells: Sequence[Any]) -> list[Any]:
    return [None if cell == "" else cell for cell in cells]


def _booleans(cells: Sequence[Any]) -> list[bool | None]:
    return [None if cell is None else bool(cell) for cell in cells]


def _strings(cells: Sequence[Any]) -> list[str | None]:
    return [cell if cell is None or isinstance(cell, str) else _string(cell) for cell in cells]


def _string(cell: object) -> str:
    if isinstance(cell, dt.datetime):
        return cell.isoformat(sep=" ")
    if isinstance(cell, dt.date):
        return cell.isoformat()
    return str(float(cell)) if isinstance(cell, decimal.Decimal) else str(cell)


_CONVERSIONS: Mapping[pa.DataType, Any] = {
    pa.float64(): _floats,
    pa.int64(): _integers,
    pa.bool_(): _booleans,
    pa.string(): _strings,
}


def _downloaded(location: str, folder: Path, package: str, max_bytes: int | None) -> Path:
    """A file of a cloud store, if the package for it is installed."""
    if find_spec("fsspec") is None or find_spec(package) is None:
        message = (
            f"{masked(location)}: expected a package that reads this store; found none. Install it: "
            f"pip install fsspec {package}. Or download the file, and give its path."
        )
        raise TableError(message)
    import fsspec  # type: ignore[import-not-found, unused-ignore] # noqa: PLC0415 not a dependency of this project

    target = folder / Path(location.partition("?")[0]).name
    with fsspec.open(location, "rb") as source, target.open("wb") as copy:
        while block := source.read(_COPY_BYTES):
            copy.write(block)
            if max_bytes is not None and copy.tell() > max_bytes:
                message = f"{masked(location)}: expected at most {max_bytes:,} bytes; found more."
                raise TableError(message)
    return target
