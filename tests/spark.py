"""Spark for tests: one small session for each process that runs tests."""

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from data.spark.session import session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MASTER = "local[2]"

# Java compiles a job of seconds for longer than the job takes: the quick compiler is enough, here and in commands.
os.environ.setdefault("SPARK_SUBMIT_OPTS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto")

needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="Java 17 is not installed; .ci/run installs it")


def small_session() -> "SparkSession":
    """The session of this process, for tables of few rows: started once, which takes seconds."""
    spark = session(MASTER)
    spark.conf.set("spark.sql.shuffle.partitions", "2")
    return spark
