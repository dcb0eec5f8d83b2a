"""A Spark session for tables that one machine does not hold: checked first, started once, its errors in words.

PySpark is an extra of this project (``spark``), and is imported only where it is used.
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

LEAST_JAVA, MOST_JAVA = 17, 22
"""Spark 4.0 needs Java 17 or 21: https://spark.apache.org/docs/4.0.0/; from 23 on its Hadoop fails (HADOOP-19212)."""

_FLOORS = ("data", "serving", "monitor")
_MASTERS = re.compile(r"local(\[(\*|\d+)(,\d+)?\])?|spark://[^/\s]+|yarn|k8s://\S+")
_CONNECT_SECONDS = 10
_WORKERS_SECONDS = 60
_POLL_SECONDS = 0.2
_ROWS_PER_ARROW_BATCH = 100_000
_ANY_MASTER = "local[*]"
# What a table is read as, and so what is answered, is not the cluster's to say.
_DECISIVE = {
    "spark.sql.ansi.enabled": "true",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.caseSensitive": "true",
    "spark.sql.legacy.parquet.nanosAsLong": "true",
}
_JAVA_ENDS_SECONDS = 10
_MOST_CHARACTERS = 1_000
_PYTHON_ERROR = re.compile(r"(\w+\.)*\w*(Error|Exception|Interrupt|Exit)(: |$)")
_ADVICE = {
    "No space left on device": "the disk is full; free some space, or set SPARK_LOCAL_DIRS to a folder on another disk",
    "Java heap space": "Java had too little memory; set spark.driver.memory and spark.executor.memory higher, in "
    "conf/spark-defaults.conf or by PYSPARK_SUBMIT_ARGS",
    "Answer from Java side is empty": "its Java process ended, for want of memory or killed; run this again",
    "Connection refused": "its Java process, or a worker, is gone; run this again",
}
"""What to do, by what a stack trace holds."""


class SparkError(KobeShotError):
    """Spark cannot be started, or a job of it failed."""


def check_master(master: str) -> str:
    """Refuse what is no address of a Spark master.

    Raises
    ------
    ValueError
        Says what is expected.

    Examples
    --------
    >>> check_master("local[2]")
    'local[2]'
    """
    if not master or _MASTERS.fullmatch(master):
        return master
    message = (
        f"expected local, local[N], local[*], spark://HOST:PORT, yarn or k8s://…, or nothing for what Spark's own "
        f"configuration says; found {master!r}"
    )
    raise ValueError(message)


def session(master: str = "") -> "SparkSession":
    """The session of this process, started when it is first asked for and stopped when the process ends.

    Parameters
    ----------
    master : str
        See `check_master`; one of another master than before takes the place of the session before.

    Raises
    ------
    SparkError
        If PySpark or Java is missing, the master does not answer, or has no worker to give.
    """
    check_requirements(master)
    return _start(master)


def check_requirements(master: str = "") -> None:
    """Refuse what can be known to fail before anything is done; see `session`."""
    check_pyspark()
    check_java()
    _check_reachable(master)


def check_pyspark() -> None:
    """Refuse to go on without PySpark.

    Raises
    ------
    SparkError
        With the command that installs it.
    """
    if importlib.util.find_spec("pyspark") is None:
        message = (
            "engine=spark expects the package pyspark; it is not in this environment. Install it: make spark "
            f"(which is uv sync --frozen --extra spark), or {sys.executable} -m pip install pyspark==4.0.5."
        )
        raise SparkError(message)


def check_java() -> None:
    """Refuse to go on without a Java that Spark can use.

    Raises
    ------
    SparkError
        Says which was expected, what was found, and how to install it.
    """
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    where = f"JAVA_HOME={home}" if home else "PATH"
    advice = (
        f"Install Java {LEAST_JAVA} (Debian: apt install openjdk-17-jre-headless), and let JAVA_HOME name it where "
        "there are several."
    )
    if java is None or not os.access(java, os.X_OK):
        message = f"engine=spark expects Java {LEAST_JAVA} or 21; found none by {where}. {advice}"
        raise SparkError(message)
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    version = re.search(r'version "(?:1\.)?(\d+)', told.stderr)
    if version is None or not LEAST_JAVA <= int(version[1]) <= MOST_JAVA:
        found = (told.stderr or told.stdout).strip().splitlines()
        message = (
            f"engine=spark expects Java {LEAST_JAVA} or 21; found {found[0] if found else 'nothing'} at {java}. "
            f"{advice}"
        )
        raise SparkError(message)


@contextlib.contextmanager
def translate_errors() -> Iterator[None]:
    """Turn what Spark and Java say of a failed job into one `SparkError` in words."""
    from py4j.protocol import Py4JError  # noqa: PLC0415 an extra
    from pyspark.errors import PySparkException  # noqa: PLC0415 an extra

    try:
        yield
    except (PySparkException, Py4JError, ConnectionError) as error:
        message = f"Spark's job failed: {_in_words(_all_of(error))}"
        raise SparkError(message) from error


def collect_rows(table: "DataFrame") -> list[dict[str, Any]]:
    """What a table holds that is small, by column; see `translate_errors` for what it raises."""
    # PySpark leaves it to Python to close the socket that the rows come through.
    with translate_errors(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        return [row.asDict() for row in table.collect()]


def _check_reachable(master: str) -> None:
    parts = urlsplit(master)
    if parts.scheme != "spark":
        return
    for address in parts.netloc.split(","):
        host, _, port = address.rpartition(":")
        with contextlib.suppress(OSError, ValueError):
            socket.create_connection((host or address, int(port) if host else 7077), _CONNECT_SECONDS).close()
            return
    message = (
        f"No Spark master answers at {master}. Expected one that runs: check the address in its web page's title, or "
        "start it (docs/scale.md says how)."
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
    asked = SparkConf(loadDefaults=False)
    if master:
        asked.setMaster(master)
    with tempfile.TemporaryFile() as said:
        try:
            with _standard_error_to(said):
                # Only with Java there does Spark know what its own configuration says.
                SparkContext._ensure_initialized(conf=asked)  # noqa: SLF001 the only door
                conf = _configured(SparkConf(), master)
                if not master:
                    _check_reachable(conf.get("spark.master"))
                context = SparkContext(conf=conf)
        except SparkError:
            raise
        except Exception as error:  # Java, its gateway and Spark each fail in ways of their own
            said.seek(0)
            launcher = said.read().decode(errors="replace") if "JAVA_GATEWAY_EXITED" in str(error) else ""
            master = f"with master {master}" if master else "with the master of its own configuration"
            message = f"Spark cannot be started {master}: {_in_words(launcher.strip() or _all_of(error))}"
            raise SparkError(message) from error
    for name in ("py4j", "SQLQueryContextLogger", "DataFrameQueryContextLogger"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    context.setLogLevel("OFF")
    _stop_at_exit()
    _wait_for_workers(context)
    path = list(sys.path)
    context.addPyFile(_project())
    sys.path[:] = path
    info("Spark", f"{context.version} at {context.master}, {context.defaultParallelism} cores")
    return SparkSession(context)


def _running() -> "SparkContext | None":
    """What this process has started, by whichever door, if it still runs."""
    from py4j.protocol import Py4JError  # noqa: PLC0415 an extra
    from pyspark import SparkContext  # noqa: PLC0415 an extra

    context = SparkContext._active_spark_context  # noqa: SLF001 the only door
    if context is None:
        return None
    try:
        if not context._jsc.sc().isStopped():  # noqa: SLF001 the only door
            return context
        context.stop()
    except (OSError, Py4JError):
        _stop()
    return None


@functools.cache
def _stop_at_exit() -> None:
    atexit.register(_stop)


def _stop() -> None:
    """End Spark and its Java, however far gone they are."""
    from pyspark import SparkContext  # noqa: PLC0415 an extra

    context, gateway = SparkContext._active_spark_context, SparkContext._gateway  # noqa: SLF001 the only doors
    with warnings.catch_warnings(), contextlib.suppress(Exception):
        warnings.simplefilter("ignore")
        if context is not None:
            context.stop()
    SparkContext._active_spark_context = SparkContext._gateway = SparkContext._jvm = None  # noqa: SLF001 the only doors
    if gateway is None:
        return
    with contextlib.suppress(Exception):
        gateway.shutdown()
    if gateway.proc is not None:
        # Java ends when its standard input does.
        gateway.proc.stdin.close()
        try:
            gateway.proc.wait(_JAVA_ENDS_SECONDS)
        except subprocess.TimeoutExpired:
            gateway.proc.kill()
            gateway.proc.wait()


def _configured(conf: "SparkConf", master: str) -> "SparkConf":
    """What Spark's own configuration says, and this project's settings where it says nothing."""
    conf.set("spark.app.name", "kobe_shot")
    # Java's standard error goes nowhere, and so would the bar.
    conf.set("spark.ui.showConsoleProgress", "false")
    if master:
        conf.setMaster(master)
    conf.setIfMissing("spark.master", _ANY_MASTER)
    for name, value in _settings(conf.get("spark.master") or "").items():
        conf.setIfMissing(name, value)
    for name, value in _DECISIVE.items():
        conf.set(name, value)
    return conf


def _settings(master: str) -> dict[str, str]:
    here = master.startswith("local") or urlsplit(master).hostname in {"localhost", "127.0.0.1"}
    # Workers of another machine must reach the driver; which of its addresses they can is the cluster's to say.
    private = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"} if here else {}
    return private | {
        "spark.ui.enabled": "false",
        "spark.sql.warehouse.dir": f"file://{_folder()}/warehouse",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(_ROWS_PER_ARROW_BATCH),
        "spark.sql.parquet.compression.codec": "snappy",
        # Tasks of a few seconds: cores end together, and a worker that dies takes little with it.
        "spark.sql.files.maxPartitionBytes": "64m",
        "spark.sql.files.openCostInBytes": "1m",
    }


def _wait_for_workers(context: Any) -> None:  # noqa: ANN401 a SparkContext
    if not context.master.startswith("spark://"):
        return
    registered = context._jsc.sc()  # noqa: SLF001 the only door to what has registered
    deadline = time.monotonic() + _WORKERS_SECONDS
    while registered.getExecutorMemoryStatus().size() <= 1:
        if time.monotonic() > deadline:
            master = context.master
            context.stop()
            message = (
                f"The Spark master at {master} gave no worker within {_WORKERS_SECONDS} s. Expected a worker with a "
                "free core and enough memory: start one, or wait until other applications end."
            )
            raise SparkError(message)
        time.sleep(_POLL_SECONDS)


@functools.cache
def _folder() -> Path:
    """A folder of this process, which goes when it ends."""
    folder = Path(tempfile.mkdtemp(prefix="kobe_shot_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def _project() -> str:
    """The project's code as a zip file, for workers on other machines."""
    path = _folder() / "kobe_shot.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for floor in _FLOORS:
            for file in sorted((ROOT / floor).rglob("*.py")):
                archive.write(file, file.relative_to(ROOT))
    return str(path)


@contextlib.contextmanager
def _standard_error_to(file: IO[bytes]) -> Iterator[None]:
    """Keep what the launcher, and Java as long as it runs, write to standard error."""
    sys.stderr.flush()
    kept = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _all_of(error: Exception) -> str:
    """What an error of Spark says, with its causes where Java can still tell them."""
    from pyspark import SparkContext  # noqa: PLC0415 an extra

    origin = getattr(error, "_origin", None) or getattr(error, "java_exception", None)
    with contextlib.suppress(Exception):
        if origin is None:
            return str(error)
        return str(SparkContext._jvm.org.apache.spark.util.Utils.exceptionString(origin))  # noqa: SLF001 the only door
    return str(error)


def _in_words(text: str) -> str:
    """What a person can use of a Java stack trace: the innermost cause, and advice where there is some."""
    lines = [line.strip() for line in io.StringIO(text) if line.strip()]
    causes = [line.partition("Caused by: ")[2] for line in lines if line.startswith("Caused by: ")]
    python = [line for line in lines if _PYTHON_ERROR.match(line)] if "Traceback (most recent" in text else []
    cause = (python or causes or [lines[0] if lines else "it does not say why"])[-1][:_MOST_CHARACTERS]
    return next((f"{advice} ({cause})" for sign, advice in _ADVICE.items() if sign in text), cause)
