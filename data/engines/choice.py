"""The choice of an engine by its name: ``local``, ``spark``, or the URL of an Ibis backend."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points, version
from pathlib import Path
from urllib.parse import urlsplit

import ibis

from data.engines.duckdb import DuckDBEngine, duckdb_engine
from data.engines.engine import Engine
from data.engines.ibis_backend import IbisEngine
from data.engines.spark import SparkEngine
from data.errors import EngineError
from data.spark.session import check_requirements, session

LOCAL, SPARK = "local", "spark"


def check_name(engine: str) -> str:
    """Raise unless a string names an engine.

    Raises
    ------
    ValueError
        If it does not. The message repeats no password.

    Examples
    --------
    >>> check_name("databricks://host/path")
    'databricks://host/path'
    """
    scheme, separator, _ = engine.partition("://")
    if scheme == SPARK and separator:
        message = (
            f"expected the URL of a Spark master as master; found engine={engine}. Use engine=spark, master={engine}"
        )
        raise ValueError(message)
    if engine in {LOCAL, SPARK}:
        return engine
    known = sorted(backend.name for backend in entry_points(group="ibis.backends"))
    if not separator or scheme not in known:
        message = (
            f"expected {LOCAL}, {SPARK}, or a URL that starts with one of {', '.join(known)} and ://; found {scheme!r}"
        )
        raise ValueError(message)
    if urlsplit(engine).password:
        message = (
            f"expected a URL of {scheme} without a password, which runs would store; found one. Set it as the "
            f"driver of {scheme} documents, for example in the environment"
        )
        raise ValueError(message)
    return engine


def check_engine(engine: str, master: str = "") -> None:
    """Check that an engine can be started, before any work.

    Raises
    ------
    SparkError
        If PySpark or Java is missing, or the master does not respond.
    EngineError
        If the driver of a backend is missing. The message states the command that installs it.
    """
    if engine == SPARK:
        check_requirements(master)
    elif engine != LOCAL:
        _backend(engine)


@contextmanager
def open_engine(engine: str, master: str, folder: Path) -> Iterator[Engine]:
    """Start an engine.

    Parameters
    ----------
    engine : str
        See `check_name`.
    master : str
        Of Spark, see `data.spark.session.check_master`.
    folder : pathlib.Path
        Existing folder for what does not fit into the memory of DuckDB.

    Raises
    ------
    SparkError, EngineError
        If it cannot be started.
    """
    if engine == LOCAL:
        with duckdb_engine(folder) as found:
            yield found
    elif engine == SPARK:
        yield SparkEngine(session(master))
    else:
        _backend(engine)
        try:
            connection = ibis.connect(engine)
        except ImportError as error:
            raise EngineError(_missing_driver(engine)) from error
        except Exception as error:  # drivers raise their own exceptions
            message = f"engine={engine} does not connect: {(str(error).splitlines() or [type(error).__name__])[0]}"
            raise EngineError(message) from error
        try:
            yield DuckDBEngine(connection, folder) if connection.name == "duckdb" else IbisEngine(connection)
        finally:
            connection.disconnect()


def _backend(engine: str) -> None:
    try:
        getattr(ibis, _scheme(engine))
    except ImportError as error:
        raise EngineError(_missing_driver(engine)) from error


def _missing_driver(engine: str) -> str:
    scheme = _scheme(engine)
    return (
        f"engine={scheme}://… expects the driver of {scheme}; it is not installed. Install it: python -m pip "
        f"install 'ibis-framework[{scheme}]=={version('ibis-framework')}'"
    )


def _scheme(engine: str) -> str:
    return engine.partition("://")[0]
