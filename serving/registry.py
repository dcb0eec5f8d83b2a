"""Register, promote, resolve the champion.

The alias ``champion`` and the stage ``Production`` name the same version. The alias is the truth and moves first;
`reconcile` lets the stage follow where a kill came between the two.
"""

import getpass
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from data.errors import KobeShotError
from serving.gate import Verdict

MODEL = "kobe_shot"
CHAMPION, PREVIOUS_CHAMPION = "champion", "previous_champion"
PRODUCTION = "Production"

_GATE, _HISTORY = "gate", "promotions"
_PASSED, _REFUSED = "passed", "refused"


class RegistryError(KobeShotError):
    """The registry holds nothing to use, or a version may not be used."""


def register(model_uri: str, run_id: str, tags: Mapping[str, str], description: str) -> ModelVersion:
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
    """
    client = MlflowClient()
    if not client.search_registered_models(filter_string=f"name = '{MODEL}'"):
        client.create_registered_model(MODEL, description="P(made) of a shot of Kobe Bryant.")
    return client.create_model_version(MODEL, model_uri, run_id=run_id, tags=dict(tags), description=description)


def promote(version: str, verdict: Verdict) -> None:
    """Make a version that passed the gate the champion.

    Parameters
    ----------
    version : str
        Version of ``kobe_shot``.
    verdict : Verdict
        Of the gate; written on the version, whichever way it went.

    Raises
    ------
    RegistryError
        If the verdict is not a pass; champion and Production stay as they were.
    """
    client = MlflowClient()
    client.set_model_version_tag(MODEL, version, _GATE, _PASSED if verdict.passed else _REFUSED)
    client.set_model_version_tag(MODEL, version, "gate_reason", verdict.reason)
    if not verdict.passed:
        message = f"Version {version} of {MODEL} did not pass the gate and is not promoted: {verdict.reason}."
        raise RegistryError(message)
    previous = champion()
    _append_history(client, version, verdict, previous)
    if previous and number(previous) != version:
        client.set_registered_model_alias(MODEL, PREVIOUS_CHAMPION, number(previous))
    client.set_registered_model_alias(MODEL, CHAMPION, version)
    reconcile()


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
        If there is none.
    """
    version = champion()
    if version is None:
        message = f"{MODEL} has no champion yet: no version has passed the gate. Train one: mlflow run . -e treinamento"
        raise RegistryError(message)
    return version


@dataclass(frozen=True)
class Standing:
    """Which versions the aliases name; None where an alias is not set."""

    champion: str | None
    previous_champion: str | None


def standing() -> Standing:
    """What the aliases name now."""
    versions = [_aliased(alias) for alias in (CHAMPION, PREVIOUS_CHAMPION)]
    return Standing(*(number(version) if version else None for version in versions))


def restore(before: Standing, reason: str) -> None:
    """Put champion and Production back to what they were.

    Parameters
    ----------
    before : Standing
        What `standing` said then.
    reason : str
        Written on the version that loses its place.
    """
    if standing() == before:
        return
    client = MlflowClient()
    undone = champion()
    for alias, version in ((PREVIOUS_CHAMPION, before.previous_champion), (CHAMPION, before.champion)):
        if version:
            client.set_registered_model_alias(MODEL, alias, version)
        else:
            client.delete_registered_model_alias(MODEL, alias)
    if undone and number(undone) != before.champion:
        client.set_model_version_tag(MODEL, number(undone), "taken_back", reason)
        if before.champion is None:
            _move(number(undone), "Archived")
    reconcile()


def reconcile() -> None:
    """Let the stage ``Production`` follow the alias ``champion``, where they differ."""
    version = champion()
    if version and version.current_stage != PRODUCTION:
        _move(number(version), PRODUCTION)


def passed_gate(version: ModelVersion) -> bool:
    """Whether a version has passed the gate."""
    return bool(version.tags.get(_GATE) == _PASSED)


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


def _append_history(client: MlflowClient, version: str, verdict: Verdict, previous: ModelVersion | None) -> None:
    tags = client.get_model_version(MODEL, version).tags
    entry = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "who": getpass.getuser(),
        "why": verdict.reason,
        "figures": verdict.figures(),
        "instead_of": number(previous) if previous else None,
    }
    history = [*json.loads(tags.get(_HISTORY, "[]")), entry]
    client.set_model_version_tag(MODEL, version, _HISTORY, json.dumps(history))
