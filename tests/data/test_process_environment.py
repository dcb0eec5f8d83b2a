"""Environment variables that the libraries read when they are loaded, and the order of the libraries."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


def _loaded(package: str, **environment: str) -> str:
    """What OpenMP prints when scikit-learn loads it after a package of the project."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    script = f"import {package}, os, sklearn.ensemble; print(os.environ['MLFLOW_DISABLE_TELEMETRY'])"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=_ROOT,
        env={**kept, "OMP_DISPLAY_ENV": "true", **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only GNU's OpenMP prints its settings in this form")
@pytest.mark.parametrize("package", ["steps", "monitor", "serving"])
def test_threads_of_openmp_sleep_while_they_wait(package: str) -> None:
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in _loaded(package)


@pytest.mark.skipif(sys.platform != "linux", reason="only GNU's OpenMP prints its settings in this form")
def test_a_wait_policy_of_the_user_is_kept() -> None:
    assert "OMP_WAIT_POLICY = 'ACTIVE'" in _loaded("steps", OMP_WAIT_POLICY="ACTIVE")


@pytest.mark.parametrize("package", ["steps", "monitor", "serving"])
def test_skops_finds_the_functions_of_scipy_before_it_searches_mlflow(package: str) -> None:
    script = f"import {package}, sys; print({{'scipy.special', 'mlflow'}}.intersection(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=_ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'scipy.special'}"


@pytest.mark.parametrize(
    "arguments",
    [
        [
            "-c",
            "import ibis, duckdb; from data.cli.config import freeze_imports as freeze; freeze(); duckdb.sql('FROM x')",
        ],
        ["-m", "data.datasets", "propose", "missing.csv"],
    ],
    ids=["a process with DuckDB", "a command"],
)
def test_the_end_of_a_process_prints_no_objects_of_duckdb_as_leaks(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=_ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr
    assert "leaked" not in done.stderr
