"""What the environment of the served model holds: what it imports, pinned as in the lock, and nothing else.

What those packages need in turn is left to the installer, so that another server's packages (such as MLServer's) fit
next to them.
"""

import re

from packaging.requirements import Requirement
from sklearn.pipeline import Pipeline

from data.paths import ROOT

# MLflow's server; what predictions are computed with; what the scoring model and its inference log import (with
# PostgreSQL's driver); the server, whose protocol is limited, and the event loop and the parser without which two
# workers respond ten times slower.
_SERVED = (
    "mlflow",
    *("numpy", "scipy", "scikit-learn", "skops"),
    *("orjson", "pandas", "pyarrow", "pyyaml"),
    *("sqlalchemy", "psycopg", "psycopg-binary"),
    *("uvicorn", "uvloop", "httptools"),
)
_LOCKED = ROOT / "requirements.txt"


def model_requirements(pipeline: Pipeline) -> list[str]:
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


def _pins() -> dict[str, str]:
    lines = [line.removesuffix(" \\") for line in _LOCKED.read_text(encoding="utf-8").splitlines()]
    pins = [line for line in lines if line and not line.startswith(("#", " "))]
    return {_normal(Requirement(pin).name): pin for pin in pins}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
