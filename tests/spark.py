"""Spark for tests: one small session per test process."""

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from data.spark.session import session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MASTER = "local[2]"

# Java's optimizing compiler takes longer than a short job, so tests and their commands use the fast compiler and do not
# verify Spark's classes.
os.environ.setdefault(
    "SPARK_SUBMIT_OPTS",
    "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto "
    "-XX:+UnlockDiagnosticVMOptions -XX:-BytecodeVerificationRemote",
)
# For a small table Spark compiles a query for longer than it runs. The commands compile, as they do for users.
_SMALL = {
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
}

needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="Java 17 is not installed; .ci/run installs it")


def small_session() -> "SparkSession":
    """Return the session of this process, configured for small tables."""
    spark = session(MASTER)
    for name, value in _SMALL.items():
        spark.conf.set(name, value)
    return spark
