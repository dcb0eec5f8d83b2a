"""DuckDB in this process: its resources, from environment variables, and databases that read one file at most."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import duckdb
from pydantic import Field, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from data.errors import EngineError
from data.storage.scratch import scratch
from data.storage.staging import clear_leftovers, staging

PREFIX = "KOBE_DUCKDB_"

NO_PROGRESS_BAR = "SET enable_progress_bar = false"
"""Statement for a new connection, which otherwise prints a progress bar of its own for a query of more than 2 s."""


def _cores() -> int:
    # macOS has no affinity of processes.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


Config = dict[str, str | bool | int | float | list[str]]


class DuckDBSettings(BaseSettings):
    """Resources of DuckDB, from environment variables that start with ``PREFIX``; no result depends on them."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, env_ignore_empty=True)

    memory_limit: Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)? ?[KMGT]i?B$")] = "1GB"
    threads: int = Field(default_factory=_cores, ge=1)
    temporary_folder: Path | None = None


def duckdb_settings() -> DuckDBSettings:
    """Read the settings.

    Raises
    ------
    EngineError
        If one is invalid.
    """
    try:
        settings = DuckDBSettings()
    except ValidationError as error:
        found = error.errors()[0]
        name = PREFIX + str(found["loc"][0]).upper()
        text = "expected a size such as 1GB" if found["type"] == "string_pattern_mismatch" else found["msg"]
        message = f"{name}: {text.replace('Input should be', 'expected')}; found {found['input']!r}"
        raise EngineError(message) from error
    if settings.temporary_folder and not settings.temporary_folder.is_dir():
        message = f"{PREFIX}TEMPORARY_FOLDER: expected an existing folder; found {settings.temporary_folder}"
        raise EngineError(message)
    return settings


@contextmanager
def duckdb_config(folder: Path | None = None) -> Iterator[Config]:
    """Configuration of a connection that installs nothing, with a folder for what does not fit into memory.

    Parameters
    ----------
    folder : pathlib.Path, optional
        Existing folder, unless the settings name one; by default that of temporary files. What does not fit goes to a
        hidden folder in it, which is removed at the end, or after a crash by the next command.
    """
    settings = duckdb_settings()
    folder = settings.temporary_folder or folder
    if settings.temporary_folder:
        clear_leftovers(settings.temporary_folder)
    with staging(folder, "duckdb") if folder else scratch("duckdb") as spilled:
        yield {
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "allow_community_extensions": False,
            "memory_limit": settings.memory_limit,
            "threads": settings.threads,
            "temp_directory": str(spilled),
        }


@contextmanager
def connection(database: Path | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database read-only, or one in memory, that reads no other file."""
    with duckdb_config() as config:
        opened = duckdb.connect(
            str(database) if database else ":memory:", read_only=database is not None, config=config
        )
        try:
            opened.execute(NO_PROGRESS_BAR)
            opened.execute("SET enable_external_access = false")
            yield opened
        finally:
            opened.close()


@lru_cache(maxsize=4)
def sniff_csv(lines: bytes) -> tuple[str, str, str] | None:
    """Recognize separator, quotation mark and escape character of CSV lines; None if that fails.

    A command opens a file several times, for its header, its rows and its messages: the lines are the same.
    """
    with (
        scratch("dialect") as folder,
        tempfile.NamedTemporaryFile(dir=folder, suffix=".csv") as file,
        duckdb_config() as config,
    ):
        file.write(lines)
        file.flush()
        with duckdb.connect(config=config | {"threads": 1}) as opened:
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
