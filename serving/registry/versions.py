"""The versions of the registered model: their numbers, tags and aliases. Only `register` and `describe` write."""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from data import datasets
from serving.model.manifest import FILES, FILES_SHA256, RECORDED_FROM
from serving.registry.errors import RegistryError

MODEL = datasets.default().registered_model
"""Name of the registered model of the default dataset."""
MODEL_VARIABLE = "KOBE_SHOT_MODEL"
CHAMPION, PREVIOUS_CHAMPION, CHALLENGER = "champion", "previous_champion", "challenger"
PRODUCTION, ARCHIVED = "Production", "Archived"

GATE, GATE_REASON, REVOKED, ARCHIVE_REASON = "gate", "gate_reason", "revoked", "archive_reason"
"""Tags of a version: the result of the gate, and why it passed or failed, lost its result or was archived."""
PASSED, REJECTED, UNUSABLE, AWAITING = "passed", "rejected", "revoked", "awaiting approval"
"""Values of `GATE`."""

FORMER_TAGS = {
    REVOKED: "taken_back",
    "predictions_sha256": "answers_sha256",
    "predictions_rounded_sha256": "answers_rounded_sha256",
}
"""Tags of a version and the names that 0.1.0 gave them."""
_MAX_NAME_CHARACTERS = 200
# What MLflow rejects in a name, and what its URLs and searches would parse as something else.
_NAME = re.compile(rf"(?!\s)[^/:'?#%\x00-\x1f\x7f]{{1,{_MAX_NAME_CHARACTERS}}}(?<!\s)")


def model() -> str:
    """Name of the registered model of this process: that of its dataset, unless ``$KOBE_SHOT_MODEL`` names another.

    Raises
    ------
    RegistryError
        If no registered model can have this name.

    Examples
    --------
    >>> with use_model_name("another"):
    ...     model()
    'another'
    """
    name = os.environ.get(MODEL_VARIABLE) or datasets.current().registered_model
    if not _NAME.fullmatch(name) or set(name) == {"."}:
        message = (
            f"{MODEL_VARIABLE}: expected the name of a registered model, at most {_MAX_NAME_CHARACTERS} characters, "
            f"without / : ' ? # % and with no space at either end; found {name!r}. Nothing was done."
        )
        raise RegistryError(message)
    return name


@contextlib.contextmanager
def use_model_name(name: str) -> Iterator[None]:
    """Use another registered model until the block ends, in this process and in those that it starts."""
    before = os.environ.get(MODEL_VARIABLE)
    os.environ[MODEL_VARIABLE] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ[MODEL_VARIABLE]
        else:
            os.environ[MODEL_VARIABLE] = before


def register(model_uri: str, run_id: str, tags: Mapping[str, str], description: str) -> str:
    """Register a logged model as a new version of ``kobe_shot``. No version is promoted.

    Parameters
    ----------
    model_uri : str
        ``models:/m-…`` of the logged model.
    run_id : str
        Run that trained it.
    tags : mapping of str to str
        Where the version comes from. The SHA-256 of its files, which the logged model has, are added.
    description : str
        The version's description in Markdown, at most 5,000 characters.

    Returns
    -------
    str
        Number of the version.
    """
    client, model_id = MlflowClient(), model_uri.removeprefix("models:/")
    logged = client.get_logged_model(model_id).tags
    if not created():
        client.create_registered_model(model(), description=_description(datasets.current()))
    version = number(
        client.create_model_version(
            model(),
            model_uri,
            run_id=run_id,
            tags={**tags, **{name: logged[name] for name in (FILES, FILES_SHA256) if name in logged}},
            description=description,
            # A tracking server rejects a model of another run than the named one.
            model_id=model_id,
        )
    )
    if FILES_SHA256 in logged and RECORDED_FROM not in client.get_registered_model(model()).tags:
        client.set_registered_model_tag(model(), RECORDED_FROM, version)
    return version


def _description(dataset: datasets.Dataset) -> str:
    """What the models of a dataset predict."""
    if dataset == datasets.default():
        return "P(made) of a shot of Kobe Bryant."
    return f"P({dataset.positive}) of {dataset.rows}: {dataset.title}."


def describe(version: str, description: str) -> None:
    """Replace the description of a version."""
    MlflowClient().update_model_version(model(), version, description)


def uri(version: str) -> str:
    """URI of a version, or of the version in a stage, of the registered model of this process.

    Examples
    --------
    >>> uri("3")
    'models:/kobe_shot/3'
    """
    return f"models:/{model()}/{version}"


def number(version: ModelVersion) -> str:
    """The version's number; MLflow gives an int or a str, depending on the store."""
    return str(version.version)


def all_versions() -> list[ModelVersion]:
    """Every version, with its tags."""
    return list(MlflowClient().search_model_versions(f"name = '{model()}'"))


def versions() -> list[str]:
    """Numbers of all versions, oldest first."""
    return sorted((number(found) for found in all_versions()), key=int)


def created() -> str:
    """When the registered model was created, in milliseconds; empty where there is none.

    A registered model that was deleted and created again has another history.
    """
    found = MlflowClient().search_registered_models(filter_string=f"name = '{model()}'")
    return str(found[0].creation_timestamp) if found else ""


def tags_of(version: str) -> dict[str, str]:
    """Tags of a version; none where there is no such version."""
    return next((dict(found.tags) for found in all_versions() if number(found) == version), {})


def read_tag(tags: Mapping[str, str], name: str) -> str:
    """The value of a tag of a version, which 0.1.0 may have written by another name; empty where it has neither.

    Examples
    --------
    >>> read_tag({"revoked": "it could not be served"}, "revoked")
    'it could not be served'
    """
    return tags.get(name) or tags.get(FORMER_TAGS.get(name, name), "")


def run_of(version: str) -> str:
    """Id of the run that trained a version; empty where there is no such version."""
    return next((str(found.run_id) for found in all_versions() if number(found) == version), "")


def champion() -> ModelVersion | None:
    """The version that the alias ``champion`` names, with its tags, or None."""
    return aliased(CHAMPION)


@dataclass(frozen=True)
class AliasState:
    """The versions that the aliases name, None where an alias is not set, and those in Production."""

    champion: str | None
    previous_champion: str | None
    production: frozenset[str]


def alias_state() -> AliasState:
    """The versions that the aliases name and those in Production, now."""
    first, second = (aliased(alias) for alias in (CHAMPION, PREVIOUS_CHAMPION))
    return AliasState(
        number(first) if first else None,
        number(second) if second else None,
        frozenset(number(version) for version in in_production()),
    )


def aliased(alias: str) -> ModelVersion | None:
    """The version that an alias names, or None."""
    try:
        return MlflowClient().get_model_version_by_alias(model(), alias)
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        # A server with accounts denies to all but its admin what does not exist.
        if error.error_code == "PERMISSION_DENIED" and not created():
            return None
        raise


def in_production() -> list[ModelVersion]:
    """The versions in the stage ``Production``."""
    return [version for version in all_versions() if version.current_stage == PRODUCTION]


def awaiting_approval() -> list[ModelVersion]:
    """The versions that wait for the approval of a person, newest first."""
    found = [version for version in all_versions() if version.tags.get(GATE) == AWAITING]
    return sorted(found, key=lambda version: -int(number(version)))


def approval_command(version: str) -> str:
    """How a version that waits is approved."""
    return f"{datasets.for_dataset('mlflow run . -e aprovar')} -P version={version}"


def passed_gate(version: ModelVersion) -> bool:
    """Whether a version has passed the gate and was not revoked since."""
    return bool(version.tags.get(GATE) == PASSED)


def require_passed_gate(version: ModelVersion) -> None:
    """Return if a version has passed the gate.

    Raises
    ------
    RegistryError
        If it has not.
    """
    if not passed_gate(version):
        message = (
            f"Version {number(version)} of {model()} did not pass the gate and is not promoted: "
            f"{reason_not_passed(version)}."
        )
        raise RegistryError(message)


def reason_not_passed(version: ModelVersion) -> str:
    """Why a version may not be champion."""
    if version.tags.get(GATE) == AWAITING:
        return f"it waits for the approval of a person: {approval_command(number(version))}"
    revoked = read_tag(version.tags, REVOKED)
    return str(revoked or version.tags.get(GATE_REASON, "the gate has not evaluated it"))
