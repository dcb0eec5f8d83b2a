"""The Spark session of a process: requirements, start, configuration and readable errors.

PySpark is an optional dependency (extra ``spark``), so functions import it where they use it.
"""

import atexit
import contextlib
import functools
import importlib.util
import io
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from data.cli.console import info
from data.errors import KobeShotError
from data.paths import ROOT

if TYPE_CHECKING:
    from pyspark import SparkConf, SparkContext
    from pyspark.sql import DataFrame, SparkSession

MIN_JAVA, MAX_JAVA = 17, 22
"""Spark 4.0 needs Java 17 or 21: https://spark.apache.org/docs/4.0.0/; its Hadoop fails on Java 23 and later
(HADOOP-19212)."""

_LAYERS = ("data", "serving", "monitor")
_MASTERS = re.compile(r"local(\[(\*|\d+)(,\d+)?\])?|spark://[^/\s]+|yarn|k8s://\S+")
_CONNECT_SECONDS = 10
_WORKERS_SECONDS = 60
_POLL_SECONDS = 0.2
_ROWS_PER_ARROW_BATCH = 100_000
_DEFAULT_MASTER = "local[*]"
# These settings change how tables are read, and so the predictions: the cluster does not override them.
_FIXED_SETTINGS = {
    "spark.sql.ansi.enabled": "true",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.caseSensitive": "true",
    "spark.sql.legacy.parquet.nanosAsLong": "true",
}
_JAVA_EXIT_SECONDS = 10
_MAX_CHARACTERS = 1_000
_PYTHON_ERROR = re.compile(r"(\w+\.)*\w*(Error|Exception|Interrupt|Exit)(: |$)")
_ADVICE = {
    "No space left on device": "the disk is full; free some space, or set SPARK_LOCAL_DIRS to a folder on another disk",
    "Java heap space": "Java ran out of memory; set spark.driver.memory and spark.executor.memory higher, in "
    "conf/spark-defaults.conf or with PYSPARK_SUBMIT_ARGS",
    "from Java side is empty": "its Java process ended, out of memory or killed; run the command again",
    "Connection refused": "its Java process or a worker ended; run the command again",
}
"""Advice by the content of a stack trace."""


class SparkError(KobeShotError):
    """Spark cannot be started, or a job failed."""


def check_master(master: str) -> str:
    """Raise unless a string is a URL of a Spark master.

    Raises
    ------
    ValueError
        If it is not one.

    Examples
    --------
    >>> check_master("local[2]")
    'local[2]'
    """
    if not master or _MASTERS.fullmatch(master):
        return master
    message = (
        "expected local, local[N], local[*], spark://HOST:PORT, yarn or k8s://…, or empty for Spark's own "
        f"configuration; found {master!r}"
    )
    raise ValueError(message)


def session(master: str = "") -> "SparkSession":
    """Return the session of this process, which starts on first use and stops at exit.

    Parameters
    ----------
    master : str
        See `check_master`; a different master replaces the running session.

    Raises
    ------
    SparkError
        If PySpark or Java is missing, or the master does not respond or has no free worker.
    """
    check_requirements(master)
    return _start(master)


def check_requirements(master: str = "") -> None:
    """Check the requirements of `session` before any work; see there for exceptions."""
    check_pyspark()
    check_java()
    _check_reachable(master)


def check_pyspark() -> None:
    """Raise unless PySpark is installed.

    Raises
    ------
    SparkError
        States the command that installs it.
    """
    if importlib.util.find_spec("pyspark") is None:
        message = (
            "engine=spark expects the package pyspark; it is not installed. Install it: make spark "
            f"(which is uv sync --frozen --extra spark), or {sys.executable} -m pip install pyspark==4.0.5."
        )
        raise SparkError(message)


def check_java() -> None:
    """Raise unless a Java that Spark supports is installed.

    Raises
    ------
    SparkError
        States the supported and the found version, and the command that installs it.
    """
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    where = f"JAVA_HOME={home}" if home else "PATH"
    advice = (
        f"Install Java {MIN_JAVA} (Debian: apt install openjdk-17-jre-headless), and let JAVA_HOME name it where "
        "there are several."
    )
    if java is None or not os.access(java, os.X_OK):
        message = f"engine=spark expects Java {MIN_JAVA} or 21; found none by {where}. {advice}"
        raise SparkError(message)
    java_output = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    version = re.search(r'version "(?:1\.)?(\d+)', java_output.stderr)
    if version is None or not MIN_JAVA <= int(version[1]) <= MAX_JAVA:
        found = (java_output.stderr or java_output.stdout).strip().splitlines()
        message = (
            f"engine=spark expects Java {MIN_JAVA} or 21; found {found[0] if found else 'nothing'} at {java}. {advice}"
        )
        raise SparkError(message)


@contextlib.contextmanager
def translate_errors() -> Iterator[None]:
    """Translate exceptions of Spark and Java into a readable `SparkError`."""
    from py4j.protocol import Py4JError  # noqa: PLC0415 an extra
    from pyspark.errors import PySparkException  # noqa: PLC0415 an extra

    try:
        yield
    except (PySparkException, Py4JError, ConnectionError) as error:
        message = f"Spark job failed: {_summarize(_stack_trace(error))}"
        raise SparkError(message) from error


def collect_rows(table: "DataFrame") -> list[dict[str, Any]]:
    """Collect the rows of a small table as dicts; see `translate_errors` for exceptions."""
    # PySpark does not close the socket that transfers the rows.
    with translate_errors(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        return [row.asDict() for row in table.collect()]


def _check_reachable(master: str) -> None:
    parts = urlsplit(master)
    if parts.scheme != "spark":
        return
    for netloc in parts.netloc.split(","):
        host, _, port = netloc.rpartition(":")
        with contextlib.suppress(OSError, ValueError):
            socket.create_connection((host or netloc, int(port) if host else 7077), _CONNECT_SECONDS).close()
            return
    message = (
        f"No Spark master responds at {master}. Expected a running master: check the URL in the title of its web "
        "page, or start it (see docs/scale.md)."
    )
    raise SparkError(message)


def _start(master: str) -> "SparkSession":
    from pyspark import SparkConf, SparkContext  # noqa: PLC0415 an extra
    from pyspark.sql import SparkSession  # noqa: PLC0415 an extra

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    running = _running()
    if running is not None:
        if master in {"", running.master}:
            return SparkSession(running)
        SparkSession(running).stop()
    requested = SparkConf(loadDefaults=False)
    if master:
        requested.setMaster(master)
    with tempfile.TemporaryFile() as launcher_output:
        try:
            with _redirect_stderr(launcher_output):
                # Spark reads its own configuration only when Java runs.
                SparkContext._ensure_initialized(conf=requested)  # noqa: SLF001 no public API
                conf = _configured(SparkConf(), master)
                if not master:
                    _check_reachable(conf.get("spark.master"))
                context = SparkContext(conf=conf)
        except SparkError:
            raise
        except Exception as error:  # Java, its gateway and Spark raise different exceptions
            launcher_output.seek(0)
            launcher = launcher_output.read().decode(errors="replace") if "JAVA_GATEWAY_EXITED" in str(error) else ""
            master = f"with master {master}" if master else "with the master of its own configuration"
            message = f"Spark cannot be started {master}: {_summarize(launcher.strip() or _stack_trace(error))}"
            raise SparkError(message) from error
    for name in ("py4j", "SQLQueryContextLogger", "DataFrameQueryContextLogger"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger().addFilter(_is_not_of_py4j)
    context.setLogLevel("OFF")
    _stop_at_exit()
    _wait_for_workers(context)
    path = list(sys.path)
    context.addPyFile(_project())
    sys.path[:] = path
    info("Spark", f"{context.version} at {context.master}, {context.defaultParallelism} cores")
    return SparkSession(context)


def _is_not_of_py4j(record: logging.LogRecord) -> bool:
    """Hide the stack trace of a lost connection, which py4j gives to the root logger; `translate_errors` reports it."""
    return record.module != "java_gateway"


def _running() -> "SparkContext | None":
    """The Spark context of this process, if it is running."""
    from py4j.protocol import Py4JError  # noqa: PLC0415 an extra
    from pyspark import SparkContext  # noqa: PLC0415 an extra

    context = SparkContext._active_spark_context  # noqa: SLF001 no public API
    if context is None:
        return None
    try:
        if not context._jsc.sc().isStopped():  # noqa: SLF001 no public API
            return context
        context.stop()
    except (OSError, Py4JError):
        _stop()
    return None


@functools.cache
def _stop_at_exit() -> None:
    atexit.register(_stop)


def _stop() -> None:
    """Stop Spark and its Java process, also after a crash."""
    from pyspark import SparkContext  # noqa: PLC0415 an extra

    context, gateway = SparkContext._active_spark_context, SparkContext._gateway  # noqa: SLF001 no public API
    with warnings.catch_warnings(), contextlib.suppress(Exception):
        warnings.simplefilter("ignore")
        if context is not None:
            context.stop()
    SparkContext._active_spark_context = SparkContext._gateway = SparkContext._jvm = None  # noqa: SLF001 no public API
    if gateway is None:
        return
    with contextlib.suppress(Exception):
        gateway.shutdown()
    if gateway.proc is not None:
        # Java exits when its standard input closes.
        gateway.proc.stdin.close()
        try:
            gateway.proc.wait(_JAVA_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            gateway.proc.kill()
            gateway.proc.wait()


def _configured(conf: "SparkConf", master: str) -> "SparkConf":
    """Complete Spark's own configuration with this project's defaults."""
    conf.set("spark.app.name", "kobe_shot")
    # Java's standard error is discarded, and the progress bar with it.
    conf.set("spark.ui.showConsoleProgress", "false")
    if master:
        conf.setMaster(master)
    conf.setIfMissing("spark.master", _DEFAULT_MASTER)
    for name, value in _settings(conf.get("spark.master") or "").items():
        conf.setIfMissing(name, value)
    for name, value in _FIXED_SETTINGS.items():
        conf.set(name, value)
    return conf


def _settings(master: str) -> dict[str, str]:
    is_local = master.startswith("local") or urlsplit(master).hostname in {"localhost", "127.0.0.1"}
    # Workers on another machine must reach the driver; the cluster's configuration defines at which host.
    local_settings = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"} if is_local else {}
    return local_settings | {
        "spark.ui.enabled": "false",
        "spark.sql.warehouse.dir": f"file://{_folder()}/warehouse",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(_ROWS_PER_ARROW_BATCH),
        "spark.sql.parquet.compression.codec": "snappy",
        # Tasks of a few seconds: all cores finish together, and a crashed worker loses little work.
        "spark.sql.files.maxPartitionBytes": "64m",
        "spark.sql.files.openCostInBytes": "1m",
    }


def _wait_for_workers(context: Any) -> None:  # noqa: ANN401 a SparkContext
    if not context.master.startswith("spark://"):
        return
    registered = context._jsc.sc()  # noqa: SLF001 no public API
    deadline = time.monotonic() + _WORKERS_SECONDS
    while registered.getExecutorMemoryStatus().size() <= 1:
        if time.monotonic() > deadline:
            master = context.master
            context.stop()
            message = (
                f"The Spark master at {master} provided no worker within {_WORKERS_SECONDS} s. Expected a worker with "
                "a "
                "free core and enough memory: start one, or wait until other applications end."
            )
            raise SparkError(message)
        time.sleep(_POLL_SECONDS)


@functools.cache
def _folder() -> Path:
    """A folder of this process, removed at exit."""
    folder = Path(tempfile.mkdtemp(prefix="kobe_shot_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def _project() -> str:
    """The project's code as a zip file, for workers on other machines."""
    path = _folder() / "kobe_shot.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for layer in _LAYERS:
            for file in sorted((ROOT / layer).rglob("*.py")):
                archive.write(file, file.relative_to(ROOT))
    return str(path)


@contextlib.contextmanager
def _redirect_stderr(file: IO[bytes]) -> Iterator[None]:
    """Redirect standard error of the launcher, and of Java while it runs, to a file."""
    sys.stderr.flush()
    saved = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _stack_trace(error: Exception) -> str:
    """The stack trace of an exception of Spark, with its causes if Java is running."""
    from pyspark import SparkContext  # noqa: PLC0415 an extra

    origin = getattr(error, "_origin", None) or getattr(error, "java_exception", None)
    with contextlib.suppress(Exception):
        if origin is None:
            return str(error)
        return str(SparkContext._jvm.org.apache.spark.util.Utils.exceptionString(origin))  # noqa: SLF001 no public API
    return str(error)


def _summarize(text: str) -> str:
    """Summarize a Java stack trace by its innermost cause, with advice for known causes."""
    lines = [line.strip() for line in io.StringIO(text) if line.strip()]
    causes = [line.partition("Caused by: ")[2] for line in lines if line.startswith("Caused by: ")]
    python = [line for line in lines if _PYTHON_ERROR.match(line)] if "Traceback (most recent" in text else []
    cause = (python or causes or [lines[0] if lines else "no reason given"])[-1][:_MAX_CHARACTERS]
    return next((f"{advice} ({cause})" for sign, advice in _ADVICE.items() if sign in text), cause)
