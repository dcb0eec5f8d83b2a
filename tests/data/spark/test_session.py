import importlib.util
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from data.paths import ROOT
from data.spark.session import (
    SparkError,
    check_java,
    check_master,
    check_pyspark,
    collect_rows,
    session,
    translate_errors,
)
from tests.project import environment, run
from tests.spark import needs_java, small_session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MakeJava = Callable[[str], None]

_LIFE_OF_A_PROCESS = """
from pyspark import SparkContext
from data.spark.session import SparkError, collect_rows, session, translate_errors

def cores():
    return collect_rows(session().range(10, numPartitions=2).selectExpr("sum(id) AS sum"))[0]["sum"]

first = session()
assert first.sparkContext.master == "local[3]", first.sparkContext.master
assert first.sparkContext.getConf().get("spark.driver.host") == "127.0.0.1"
assert session() is not None and session().sparkContext is first.sparkContext
assert cores() == 45
second = session("local[1]")
assert second.sparkContext.master == "local[1]", second.sparkContext.master
assert cores() == 45
SparkContext._gateway.proc.kill()
SparkContext._gateway.proc.wait()
try:
    with translate_errors():
        second.range(10).count()
except SparkError as error:
    assert "run the command again" in str(error), error
else:
    raise AssertionError
assert session("local[1]").range(3).count() == 3
"""


@pytest.fixture
def spark() -> "SparkSession":
    return small_session()


@pytest.fixture
def fake_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeJava:
    """Sets JAVA_HOME to a fake java that prints a version text."""

    def make(text: str) -> None:
        java = tmp_path / "bin" / "java"
        java.parent.mkdir()
        java.write_text(f"#!/bin/sh\necho '{text}' >&2\n", encoding="utf-8")
        java.chmod(0o755)
        monkeypatch.setenv("JAVA_HOME", str(tmp_path))

    return make


@pytest.mark.parametrize(
    "master", ["", "local", "local[2]", "local[*]", "local[2,3]", "spark://host:7077", "yarn", "k8s://https://host"]
)
def test_urls_of_masters_are_accepted(master: str) -> None:
    assert check_master(master) == master


@pytest.mark.parametrize("master", ["lokal", "local[]", "local[x]", "spark://", "spark:host:7077", "http://host", " "])
def test_an_invalid_master_is_rejected(master: str) -> None:
    with pytest.raises(ValueError, match=r"expected local, local\[N\].*; found "):
        check_master(master)


def test_a_missing_pyspark_raises_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(SparkError, match=r"expects the package pyspark; it is not installed.*--extra spark"):
        check_pyspark()


def test_a_missing_java_raises_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SparkError, match=r"expects Java 17 or 21; found none by PATH.*apt install openjdk-17"):
        check_java()


def test_a_java_home_without_java_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(SparkError, match=f"found none by JAVA_HOME={tmp_path}"):
        check_java()


@pytest.mark.parametrize(
    "version", ['openjdk version "11.0.2" 2019-01-15', 'java version "1.8.0_392"', "Unrecognized option"]
)
def test_an_old_or_broken_java_raises_with_its_output(fake_java: MakeJava, version: str) -> None:
    fake_java(version)
    with pytest.raises(SparkError) as caught:
        check_java()
    assert f"expects Java 17 or 21; found {version}" in str(caught.value)


@pytest.mark.parametrize("version", ['openjdk version "17.0.15" 2025-04-15', 'openjdk version "21" 2023-09-19'])
def test_a_newer_java_is_accepted(fake_java: MakeJava, version: str) -> None:
    fake_java(version)
    check_java()


@needs_java
def test_an_unreachable_master_raises_and_the_running_session_stays(spark: "SparkSession") -> None:
    with pytest.raises(SparkError, match=r"No Spark master responds at spark://127.0.0.1:1"):
        session("spark://127.0.0.1:1")
    assert spark.range(3).count() == 3


@needs_java
@pytest.mark.usefixtures("spark")
@pytest.mark.parametrize(("file", "logged"), [("py4j/java_gateway.py", 0), ("steps/main.py", 1)])
def test_a_connection_to_java_that_is_lost_is_logged_without_a_stack_trace(
    caplog: pytest.LogCaptureFixture, file: str, logged: int
) -> None:
    exec(compile("logging.exception('Exception while sending command.')", file, "exec"), {"logging": logging})  # noqa: S102
    assert len(caplog.records) == logged


@pytest.mark.slow
@needs_java
def test_a_process_uses_the_configuration_and_restarts_without_output_to_standard_error(
    tmp_path: Path,
) -> None:
    (tmp_path / "spark-defaults.conf").write_text("spark.master local[3]\n", encoding="utf-8")
    done = run(
        [sys.executable, "-W", "error", "-c", _LIFE_OF_A_PROCESS],
        cwd=tmp_path,
        env=environment() | {"SPARK_CONF_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)},
    )
    assert done.stderr == ""
    assert done.returncode == 0
    assert [line.partition(" at ")[2] for line in done.stdout.splitlines()] == [
        "local[3], 3 cores",
        "local[1], 1 cores",
        "local[1], 1 cores",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["spark-defaults.conf"]


@needs_java
def test_an_invalid_setting_raises_without_a_stack_trace(tmp_path: Path) -> None:
    (tmp_path / "spark-defaults.conf").write_text("spark.driver.memory nothing\n", encoding="utf-8")
    done = run(
        [
            sys.executable,
            "-c",
            "from data.spark.session import session\ntry: session()\nexcept Exception as e: print(e)",
        ],
        env=environment() | {"SPARK_CONF_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)},
    )
    assert done.stderr == ""
    assert done.stdout.startswith("Spark cannot be started with the master of its own configuration: ")
    assert "nothing" in done.stdout
    assert len(done.stdout.splitlines()) == 1


@needs_java
def test_a_failed_query_raises_without_a_stack_trace(spark: "SparkSession") -> None:
    with pytest.raises(SparkError, match=r"^Spark job failed: .*DIVIDE_BY_ZERO") as caught:
        collect_rows(spark.range(3).selectExpr("1 DIV id AS whole"))
    assert "\tat " not in str(caught.value)


@needs_java
def test_an_exception_in_a_python_worker_keeps_its_message(spark: "SparkSession") -> None:
    from pyspark.sql.functions import udf  # noqa: PLC0415 an extra

    @udf("int")  # type: ignore[untyped-decorator, unused-ignore]
    def broken(value: int) -> int:
        message = f"no such shot: {value}"
        raise LookupError(message)

    with pytest.raises(SparkError, match=r"^Spark job failed: LookupError: no such shot: 0$"):
        collect_rows(spark.range(1).select(broken("id")))


@needs_java
@pytest.mark.parametrize(
    ("cause", "advice"),
    [
        ("java.io.IOException: No space left on device", "the disk is full; free some space, or set SPARK_LOCAL_DIRS"),
        ("java.lang.OutOfMemoryError: Java heap space", "set spark.driver.memory and spark.executor.memory higher"),
    ],
)
def test_a_known_error_raises_with_advice(cause: str, advice: str) -> None:
    from py4j.protocol import Py4JError  # noqa: PLC0415 an extra

    trace = f"An error occurred.\n: Job aborted\n\tat x.y(z.scala:1)\nCaused by: {cause}\n\tat java.base/a(b.java:1)\n"
    with pytest.raises(SparkError) as caught, translate_errors():
        raise Py4JError(trace)
    assert advice in str(caught.value)
    assert str(caught.value).endswith(f"({cause})")
