"""DuckDB in this process: without network and extensions, with bounded memory, and with one file at most."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from data.storage.scratch import scratch

MEMORY_LIMIT = "1GB"
"""Memory of a connection; DuckDB spills more to the folder of temporary files."""

_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "memory_limit": MEMORY_LIMIT,
    "threads": 2,
}


@contextmanager
def connection(database: Path | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database read-only, or one in memory, that reads no other file."""
    with scratch("duckdb") as folder:
        options = _CONFIG | {"temp_directory": str(folder)}
        opened = duckdb.connect(
            str(database) if database else ":memory:", read_only=database is not None, config=options
        )
        try:
            opened.execute("SET enable_external_access = false")
            yield opened
        finally:
            opened.close()


def sniff_csv(lines: bytes) -> tuple[str, str, str] | None:
    """Recognize separator, quotation mark and escape character of CSV lines; None if that fails."""
    with scratch("dialect") as folder, tempfile.NamedTemporaryFile(dir=folder, suffix=".csv") as file:
        file.write(lines)
        file.flush()
        with duckdb.connect(config=_CONFIG | {"threads": 1}) as opened:
            opened.execute(f"SET allowed_paths = [{quote_literal(file.name)}]")
            opened.execute("SET enable_external_access = false")
            query = "SELECT Delimiter, Quote, Escape FROM sniff_csv(?, all_varchar = true)"
            try:
                found = opened.execute(query, [file.name]).fetchone()
            except duckdb.Error:
                return None
    separator, quote, escape = ("" if cell == "(empty)" else str(cell) for cell in found or ())
    return (separator, quote, "" if escape == quote else escape) if len(separator) == 1 else None


def quote_identifier(name: str) -> str:
    """Quote the name of a table or column for SQL.

    Examples
    --------
    >>> print(quote_identifier('my "best" shots'))
    "my ""best"" shots"
    """
    return '"' + name.replace('"', '""') + '"'


def quote_literal(text: str) -> str:
    """Quote a string for SQL, where a statement takes no parameters."""
    return "'" + text.replace("'", "''") + "'"
