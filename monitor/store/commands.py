"""Commands as a person types them, for the registered model that this process works on."""

import shlex
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import mlflow
import yaml

from data import datasets
from data.datasets.loader import DEFAULT
from data.paths import ROOT
from data.storage.urls import sqlite_path
from serving import registry

_NOTHING = ("", "None")
"""What a parameter is kept as that was not given."""


def command(entry_point: str, values: Mapping[str, str] | None = None, model: str = "") -> str:
    """How an entry point is run: with the source, and the values that are not its defaults.

    Parameters
    ----------
    entry_point : str
    values : mapping of str to str, optional
        Parameters; those that the entry point does not take are ignored.
    model : str
        Registered model; empty is that of this process.

    Examples
    --------
    >>> command("retreino", {"mode": "dry_run", "limit": "0.15"})
    'mlflow run . -e retreino --env-manager local -P mode=dry_run'
    """
    words = ["mlflow", "run", ".", "-e", entry_point, "--env-manager", "local"]
    described = _described()
    if described != DEFAULT:
        words += ["-P", f"dataset={described}"]
    for name, default in _defaults(entry_point).items() if values else ():
        if values and name in values and name != "dataset" and (name == "source" or values[name] != default):
            words += ["-P", f"{name}={values[name]}"]
    return for_model(shlex.join(words), model)


def serve() -> str:
    """How the version in Production is served."""
    uri = shlex.quote(registry.uri(registry.PRODUCTION))
    return f"mlflow models serve -m {uri} --env-manager local"


def app() -> str:
    """How the app is opened."""
    return for_model("streamlit run monitor/app.py")


def make(target: str) -> str:
    """How a target of the Makefile is made."""
    return for_model(f"make {target}")


def at_hand() -> bool:
    """Whether commands in the folder of the project, such as those of its Makefile, are about the store in use.

    They are not where ``mlflow run URL`` was typed in another folder, which then holds the store, or fetched the
    project into a folder that is temporary.
    """
    store = sqlite_path(mlflow.get_tracking_uri())
    if store is not None:
        return store.resolve().parent == ROOT
    return not (ROOT.parent == Path(tempfile.gettempdir()) and ROOT.name.startswith(tempfile.gettempprefix()))


def runs_page() -> str:
    """How MLflow's own page of runs is opened on the store in use."""
    if at_hand():
        return make("ui")
    store = sqlite_path(mlflow.get_tracking_uri())
    return f"cd {shlex.quote(str(store.resolve().parent))} && mlflow ui" if store else "mlflow ui"


def for_model(line: str, model: str = "") -> str:
    """A command, with the registered model that it is about where that is not the default.

    Examples
    --------
    >>> for_model("make monitor", "guard_shot")
    'KOBE_SHOT_MODEL=guard_shot make monitor'
    """
    name = model or registry.model()
    described, variables = _described(), []
    if described != DEFAULT and "dataset=" not in line:
        variables.append(f"{datasets.VARIABLE}={shlex.quote(described)}")
    if name != datasets.current().registered_model:
        variables.append(f"{registry.MODEL_VARIABLE}={shlex.quote(name)}")
    return " ".join([*variables, line])


def given(params: Mapping[str, str]) -> dict[str, str]:
    """The parameters of a run that have a value, as they were given: ``mlflow run`` keeps them as it quotes them.

    Examples
    --------
    >>> given({"source": "'my shots.csv'", "endpoint": "''", "seed": "42"})
    {'source': 'my shots.csv', 'seed': '42'}
    """
    values = {name: unquoted(kept) for name, kept in params.items()}
    return {name: value for name, value in values.items() if value not in _NOTHING}


def unquoted(kept: str) -> str:
    """A parameter as it was given, from how a run keeps it."""
    try:
        words = shlex.split(kept)
    except ValueError:
        return kept
    return words[0] if len(words) == 1 and shlex.quote(words[0]) == kept else kept


def _described() -> str:
    """The dataset of this process as it is given in the folder of the project, where commands are typed."""
    name = datasets.current_name()
    path = Path(name)
    return str(path.relative_to(ROOT)) if path.is_absolute() and path.is_relative_to(ROOT) else name


@cache
def _defaults(entry_point: str) -> dict[str, str]:
    entry_points: dict[str, Any] = yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))["entry_points"]
    parameters = entry_points[entry_point].get("parameters", {})
    return {name: str(parameter["default"]) for name, parameter in parameters.items()}
