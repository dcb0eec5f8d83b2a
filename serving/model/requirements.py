"""Requirements of the served model: the packages that it imports, pinned as in the lock, and nothing else.

The installer resolves their dependencies, so that they install together with the packages of another server (such as
MLServer).
"""

import re

from packaging.requirements import Requirement
from sklearn.pipeline import Pipeline

from data.paths import ROOT

# MLflow's server; the libraries of the pipeline; the imports of the scoring model and its inference log (with the
# driver of PostgreSQL); uvicorn, whose protocol class is extended, with the event loop and the parser without which
# two workers respond ten times slower.
_SERVED = (
    "mlflow",
    *("numpy", "scipy", "scikit-learn", "skops"),
    *("orjson", "pandas", "pyarrow", "pyyaml"),
    *("sqlalchemy", "psycopg", "psycopg-binary"),
    *("uvicorn", "uvloop", "httptools"),
)
_LOCKED = ROOT / "requirements.txt"


def model_requirements(pipeline: Pipeline) -> list[str]:
    """Pinned requirements of the served model, as few as possible.

    Parameters
    ----------
    pipeline : sklearn.pipeline.Pipeline
        The served pipeline; its last step may need another library.
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
