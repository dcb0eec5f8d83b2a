"""A Spark session for tables that one machine does not hold: checked first, started once, its errors in words.

PySpark is an extra of this project (``spark``), and is imported only where it is used.
"""

import atexit
import contextlib
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
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from data.console import say
from data.errors import KobeShotError
from data.files import ROOT

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

LEAST_JAVA = 17
"""Spark 4.0 needs Java 17 or 21: https://spark.apache.org/docs/4.0.0/."""

_FLOORS = ("data", "serving", "monitor")
_MASTERS = re.compile(r"local(\[(\*|\d+)(,\d+)?\])?|spark://[^/\s]+|yarn|k8s://\S+")
_CONNECT_SECONDS = 10
_WORKERS_SECONDS = 60
_POLL_SECONDS = 0.2
_ROWS_PER_ARROW_BATCH = 100_000
_ANY_MASTER = "local[*]"


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
    check_pyspark()
    check_java()
    _check_reachable(master)
    return _start(master)


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
            "(which is uv sync --frozen --extra spark)."
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
    if java is None or not Path(java).is_file():
        message = f"engine=spark expects Java {LEAST_JAVA} or later; found none by {where}. {advice}"
        raise SparkError(message)
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    version = re.search(r'version "(?:1\.)?(\d+)', told.stderr)
    if version is None or int(version[1]) < LEAST_JAVA:
        found = (told.stderr or told.stdout).strip().splitlines()
        message = (
            f"engine=spark expects Java {LEAST_JAVA} or later; found {found[0] if found else 'nothing'} at {java}. "
            f"{advice}"
        )
        raise SparkError(message)


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Turn what Spark and Java say of a failed job into one `SparkError` in words."""
    from py4j.protocol import Py4JError, Py4JJavaError  # noqa: PLC0415 an extra
    from pyspark.errors import PySparkException  # noqa: PLC0415 an extra

    try:
        yield
    except (PySparkException, Py4JJavaError, Py4JError) as error:
        raise SparkError(_in_words(str(error))) from error


def rows_of(table: "DataFrame") -> list[dict[str, Any]]:
    """What a table holds that is small, by column; see `told` for what it raises."""
    with told():
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
    active = SparkSession.getActiveSession()
    if active is not None:
        wanted = master or active.sparkContext.master
        if active.sparkContext.master == wanted and not active.sparkContext._jsc.sc().isStopped():  # noqa: SLF001
            return active
        active.stop()
    conf = SparkConf()
    if master:
        conf.setMaster(master)
    conf.setIfMissing("spark.master", _ANY_MASTER)
    for name, value in _settings(conf.get("spark.master") or "").items():
        conf.setIfMissing(name, value)
    try:
        with _silent():
            context = SparkContext(conf=conf)
    except Exception as error:  # Java, its gateway and Spark each fail in ways of their own
        message = f"Spark cannot be started with master {conf.get('spark.master')}: {_in_words(str(error))}"
        raise SparkError(message) from error
    context.setLogLevel("OFF")
    for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    atexit.register(context.stop)
    context.addPyFile(_project())
    _wait_for_workers(context)
    started = SparkSession(context)
    say("Spark", f"{context.version} at {context.master}, {context.defaultParallelism} cores")
    return started


def _settings(master: str) -> dict[str, str]:
    here = master.startswith("local") or urlsplit(master).hostname in {"localhost", "127.0.0.1"}
    # Workers of another machine must reach the driver; which of its addresses they can is the cluster's to say.
    private = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"} if here else {}
    return private | {
        "spark.app.name": "kobe_shot",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": str(sys.stderr.isatty()).lower(),
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(_ROWS_PER_ARROW_BATCH),
        "spark.sql.parquet.compression.codec": "snappy",
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


def _project() -> str:
    """The project's code as a zip file, for workers on other machines."""
    folder = tempfile.mkdtemp(prefix="kobe_shot_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder) / "kobe_shot.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for floor in _FLOORS:
            for file in sorted((ROOT / floor).rglob("*.py")):
                archive.write(file, file.relative_to(ROOT))
    return str(path)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep what the launcher writes to standard error before its log level can be set, unless it fails."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        except BaseException:
            said.seek(0)
            os.write(kept, said.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _in_words(text: str) -> str:
    """What a person can use of a Java stack trace: the innermost cause, and advice where there is some."""
    lines = [line.strip() for line in io.StringIO(text)]
    causes = [line.partition("Caused by: ")[2] for line in lines if line.startswith("Caused by: ")]
    python = [line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception): ", line)]
    cause = (causes or python or [next((line for line in lines if line), text)])[-1]
    if "No space left on device" in text:
        return (
            f"The disk is full ({cause}). Free some space, or set SPARK_LOCAL_DIRS to another disk; nothing was kept."
        )
    return f"Spark's job failed: {cause[:1_000]}"
