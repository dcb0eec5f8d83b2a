"""What the environment of the served model holds: a few packages, and the lock's pins of all that they need."""

import importlib.metadata
import re
from pathlib import Path

from packaging.requirements import Requirement
from sklearn.pipeline import Pipeline

from data.files import ROOT

# MLflow's server, what the scoring model and its inference log import (with PostgreSQL's driver), and the event loop
# and the parser without which two workers answer ten times slower.
_SERVED = (
    *("mlflow", "numpy", "orjson", "pandas", "pyarrow", "pyyaml", "scikit-learn", "skops"),
    *("sqlalchemy", "psycopg", "psycopg-binary"),
    *("uvloop", "httptools"),
)
_LOCKED = ROOT / "requirements.txt"


def served_packages(pipeline: Pipeline) -> list[str]:
    """Pinned requirements of the served model, as few as it needs.

    Parameters
    ----------
    pipeline : sklearn.pipeline.Pipeline
        What is served; its last step may need a library of its own.
    """
    library = type(pipeline[-1]).__module__.partition(".")[0]
    names = [*_SERVED, *(["lightgbm"] if library == "lightgbm" else [])]
    pins = _pins()
    return [pins[name].partition(";")[0].strip() for name in names]


def write_constraints(pipeline: Pipeline, path: Path) -> None:
    """Write the lock's pins of what `served_packages` needs, and of nothing else, as a constraints file."""
    pins = _pins()
    names = _closure([Requirement(package).name for package in served_packages(pipeline)])
    path.write_text("".join(f"{pins[name]}\n" for name in sorted(names & pins.keys())), encoding="utf-8")


def _pins() -> dict[str, str]:
    lines = [line for line in _LOCKED.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return {_normal(Requirement(line).name): line for line in lines}


def _closure(names: list[str]) -> set[str]:
    found: set[tuple[str, str]] = set()
    waiting = [(_normal(name), "") for name in names]
    while waiting:
        package = waiting.pop()
        if package in found:
            continue
        found.add(package)
        waiting.extend(_needs(*package))
    return {name for name, _ in found}


def _needs(name: str, extra: str) -> list[tuple[str, str]]:
    try:
        lines = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    wanted = [
        requirement
        for requirement in map(Requirement, lines)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra})
    ]
    return [(_normal(need.name), of_need) for need in wanted for of_need in ("", *need.extras)]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
