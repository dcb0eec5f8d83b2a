"""Register, judge, promote, roll back, take back, resolve the champion.

The alias ``champion`` and the stage ``Production`` name the same version. The alias is the truth and moves first;
`reconcile` lets the stage follow where a kill came between the two.
"""

import contextlib
import getpass
import json
import os
import socket
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from data.errors import KobeShotError
from serving.gate import Verdict

MODEL = "kobe_shot"
CHAMPION, PREVIOUS_CHAMPION = "champion", "previous_champion"
PRODUCTION, ARCHIVED = "Production", "Archived"

_GATE, _GATE_REASON, _HISTORY, _TAKEN_BACK = "gate", "gate_reason", "promotions", "taken_back"
_PASSED, _REFUSED, _UNUSABLE = "passed", "refused", "taken back"


class RegistryError(KobeShotError):
    """The registry holds nothing to use, or a version may not be used."""


class StoreError(KobeShotError):
    """The tracking store or the registry does not do what was asked of it."""


@contextlib.contextmanager
def store_errors_told() -> Iterator[None]:
    """Say which store it was that failed.

    Raises
    ------
    StoreError
        In place of what MLflow or its database raises.
    """
    try:
        yield
    except (OSError, MlflowException, SQLAlchemyError) as error:
        message = f"{type(error).__name__}: {error} (tracking store {mlflow.get_tracking_uri()})"
        raise StoreError(message) from error


def register(model_uri: str, run_id: str, tags: Mapping[str, str], description: str) -> str:
    """Register a logged model as a new version of ``kobe_shot``; nothing is promoted.

    Parameters
    ----------
    model_uri : str
        ``models:/m-…`` of the logged model.
    run_id : str
        Run that trained it.
    tags : mapping of str to str
        Where the version comes from.
    description : str
        Why this model was chosen, in Markdown.

    Returns
    -------
    str
        Number of the version.
    """
    client = MlflowClient()
    if not client.search_registered_models(filter_string=f"name = '{MODEL}'"):
        client.create_registered_model(MODEL, description="P(made) of a shot of Kobe Bryant.")
    return number(
        client.create_model_version(MODEL, model_uri, run_id=run_id, tags=dict(tags), description=description)
    )


def judge(version: str, verdict: Verdict) -> None:
    """Write what the gate said on a version, whichever way it went; nothing is promoted."""
    client = MlflowClient()
    client.set_model_version_tag(MODEL, version, _GATE_REASON, verdict.reason)
    for name, value in verdict.figures().items():
        client.set_model_version_tag(MODEL, version, f"gate_{name}", f"{value:.6f}")
    client.set_model_version_tag(MODEL, version, _GATE, _PASSED if verdict.passed else _REFUSED)


def promote(version: str, why: str) -> None:
    """Make a version that passed the gate the champion, and Production.

    Parameters
    ----------
    version : str
        Number of a version that `judge` has written on.
    why : str
        Kept in the history of the version, with who, when and where.

    Raises
    ------
    RegistryError
        If the version has not passed the gate; champion and Production stay as they were.
    """
    client = MlflowClient()
    promoted = client.get_model_version(MODEL, version)
    if not _passed_gate(promoted):
        reason = promoted.tags.get(_GATE_REASON, "it was never judged")
        message = f"Version {version} of {MODEL} did not pass the gate and is not promoted: {reason}."
        raise RegistryError(message)
    previous = champion()
    entry = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "who": _user(),
        "where": _process(),
        "why": why,
        "instead_of": number(previous) if previous else None,
    }
    client.set_model_version_tag(MODEL, version, _HISTORY, json.dumps([*promotions(promoted), entry]))
    if previous and number(previous) != version:
        client.set_registered_model_alias(MODEL, PREVIOUS_CHAMPION, number(previous))
    client.set_registered_model_alias(MODEL, CHAMPION, version)
    reconcile()


def roll_back(reason: str) -> str:
    """Make the previous champion the champion, and Production, again; the one that goes becomes the previous champion.

    Parameters
    ----------
    reason : str
        Kept in the history of the version that comes back.

    Returns
    -------
    str
        Number of the version that is champion now.

    Raises
    ------
    RegistryError
        If there is no previous champion, or it may not be used; champion and Production stay as they were.
    """
    previous = _aliased(PREVIOUS_CHAMPION)
    if previous is None:
        message = f"{MODEL} has no previous champion to go back to: no champion has followed another yet."
        raise RegistryError(message)
    version, current = number(previous), champion()
    if current and number(current) == version:
        message = f"Version {version} of {MODEL} is the champion and the previous champion: there is no other to go to."
        raise RegistryError(message)
    promote(version, f"rolled back: {reason}")
    return version


def promotions(version: ModelVersion) -> list[dict[str, str | None]]:
    """When, by whom, where, why and instead of which version a version became champion, oldest first."""
    return list(json.loads(version.tags.get(_HISTORY, "[]")))


def number(version: ModelVersion) -> str:
    """The version's number; MLflow gives an int or a str, depending on the store."""
    return str(version.version)


def champion() -> ModelVersion | None:
    """The version that the alias ``champion`` names, with its tags, or None."""
    return _aliased(CHAMPION)


def require_champion() -> ModelVersion:
    """The champion.

    Raises
    ------
    RegistryError
        If there is none, or somebody gave the alias to a version that has not passed the gate.
    """
    version = champion()
    if version is None:
        message = f"{MODEL} has no champion yet: no version has passed the gate. Train one: mlflow run . -e treinamento"
        raise RegistryError(message)
    if not _passed_gate(version):
        message = f"The alias {CHAMPION} names version {number(version)}, which has not passed the gate. Train another."
        raise RegistryError(message)
    return version


@dataclass(frozen=True)
class Standing:
    """Which versions the aliases name, None where an alias is not set, and which are in Production."""

    champion: str | None
    previous_champion: str | None
    production: frozenset[str]


def standing() -> Standing:
    """What the aliases name, and what is in Production, now."""
    first, second = (_aliased(alias) for alias in (CHAMPION, PREVIOUS_CHAMPION))
    return Standing(
        number(first) if first else None,
        number(second) if second else None,
        frozenset(number(version) for version in _in_production()),
    )


@contextlib.contextmanager
def taken_back_on_failure() -> Iterator[None]:
    """Put champion and Production back when the block fails, if it was this process that moved them."""
    before = standing()
    try:
        yield
    except BaseException as error:
        now = champion()
        if now and number(now) != before.champion and _promoted_here(now):
            _restore(before, now, f"what followed its promotion failed: {type(error).__name__}: {error}")
        raise


def reconcile() -> None:
    """Let Production hold the champion alone; where there is none that passed the gate, nothing that has not."""
    version = champion()
    if version and _passed_gate(version):
        if {number(found) for found in _in_production()} != {number(version)}:
            _move(number(version), PRODUCTION)
        return
    for found in _in_production():
        if not _passed_gate(found):
            _move(number(found), ARCHIVED)


def _restore(before: Standing, undone: ModelVersion, reason: str) -> None:
    client = MlflowClient()
    # First the version loses its pass: whenever a kill comes from here on, `reconcile` takes it out of Production.
    client.set_model_version_tag(MODEL, number(undone), _GATE, _UNUSABLE)
    client.set_model_version_tag(MODEL, number(undone), _TAKEN_BACK, reason[:5000])
    for alias, version in ((CHAMPION, before.champion), (PREVIOUS_CHAMPION, before.previous_champion)):
        if version:
            client.set_registered_model_alias(MODEL, alias, version)
        else:
            client.delete_registered_model_alias(MODEL, alias)
    reconcile()
    for version in before.production - {number(found) for found in _in_production()}:
        _move(version, PRODUCTION)


def _in_production() -> list[ModelVersion]:
    versions = MlflowClient().search_model_versions(f"name = '{MODEL}'")
    return [version for version in versions if version.current_stage == PRODUCTION]


def _passed_gate(version: ModelVersion) -> bool:
    return bool(version.tags.get(_GATE) == _PASSED)


def _promoted_here(version: ModelVersion) -> bool:
    return bool(promotions(version)) and promotions(version)[-1].get("where") == _process()


def _process() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _aliased(alias: str) -> ModelVersion | None:
    try:
        return MlflowClient().get_model_version_by_alias(MODEL, alias)
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise


def _move(version: str, stage: str) -> None:
    # Stages are deprecated in favour of aliases; `mlflow models serve -m models:/kobe_shot/Production` needs one.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        MlflowClient().transition_model_version_stage(
            MODEL, version, stage, archive_existing_versions=stage == PRODUCTION
        )
