"""A step of the project that a page sets going."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import mlflow

from data.errors import KobeShotError
from data.files import ROOT

STEPS = ("treinamento", "aplicacao", "monitoramento", "retreino", "reverter")
"""The steps that a page may run."""


class JobError(KobeShotError):
    """Work that no page may set going."""


def run_step(name: str, arguments: Sequence[str] = (), *, on_line: Callable[[str], None]) -> int:
    """Run ``python -m steps.NAME`` in the project's folder, against the tracking store of this process.

    Parameters
    ----------
    name : str
        One of ``STEPS``.
    arguments : sequence of str
        Parameters of the step.
    on_line : callable
        Called with each line of its output as it comes. If it raises, as Streamlit does when a page is left, the step
        and whatever it has started are ended.

    Returns
    -------
    int
        Exit code: 0 done, anything else not.

    Raises
    ------
    JobError
        If a page may not run that step.
    """
    if name not in STEPS:
        message = f"Expected one of the steps {', '.join(STEPS)}; found {name!r}."
        raise JobError(message)
    guard = str(ROOT / "serving" / "guard.py")
    # The guard ends the step's whole group when its standard input closes, even where this process is killed.
    process = subprocess.Popen(
        [sys.executable, guard, sys.executable, "-m", f"steps.{name}", *arguments],
        cwd=ROOT,
        env=_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    with process:
        assert process.stdin is not None  # noqa: S101 both are pipes
        assert process.stdout is not None  # noqa: S101
        try:
            for line in process.stdout:
                on_line(line.rstrip())
        except BaseException:
            process.stdin.close()
            # Read to the end: a step that tidies up must not fail on a pipe that nobody reads.
            for _ in process.stdout:
                pass
            raise
        return process.wait()


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(),
        "MLFLOW_REGISTRY_URI": mlflow.get_registry_uri(),
        "PYTHONUNBUFFERED": "1",
    }
