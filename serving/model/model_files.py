"""The only access to the files of a model: a private copy that is compared with the registry before it is loaded.

MLflow loads code, configuration and environment of a model from its folder without a check. An account that can write
to that folder could run any code in the server, the monitor and the retraining. So this module copies the files to a
folder that only this user can enter. It compares the copy with the SHA-256 that the registry recorded when the version
was registered. Only the copy is loaded.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import mlflow.pyfunc
import yaml
from mlflow import MlflowClient
from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.store.artifact.utils.models import get_model_name_and_version

from data.cli import console
from data.storage.scratch import scratch
from serving.model.manifest import (
    FILES_SHA256,
    META,
    RECORDED_FROM,
    ModelFilesError,
    copy_files,
    differences,
    digest_of,
    manifest_of,
    remove_compiled,
    tags_of,
)
from serving.model.scoring_model import unnamed_types

_STORED = "*.skops"


class _Model(NamedTuple):
    """A registered version, or a logged model that is not registered yet."""

    words: str
    name: str | None
    version: str
    tags: Mapping[str, str]
    location: str


@contextmanager
def private_copy(uri: str) -> Iterator[Path]:
    """Copy the files of a model to a folder of this process, compare them with the registry, and remove them after use.

    Parameters
    ----------
    uri : str
        ``models:/NAME/VERSION``, or ``models:/m-…`` of a logged model.

    Raises
    ------
    ModelFilesError
        See `fetch`.
    """
    with scratch("model") as folder:
        yield fetch(uri, folder)


def load(uri: str) -> Any:  # noqa: ANN401 MLflow publishes no types
    """Load a model with ``mlflow.pyfunc.load_model`` from the files that were registered.

    Raises
    ------
    ModelFilesError
        See `fetch`; no code of the model was run.
    """
    with private_copy(uri) as folder:
        return mlflow.pyfunc.load_model(str(folder))


def fetch(uri: str, folder: Path) -> Path:
    """Copy the files of a model into a folder that only this user can enter, and compare them with the registry.

    Parameters
    ----------
    uri : str
        See `private_copy`.
    folder : pathlib.Path
        The files are copied to a new folder in it.

    Returns
    -------
    pathlib.Path
        That new folder, from which the model can be loaded.

    Raises
    ------
    ModelFilesError
        If a file is missing, changed, a link or not registered, or the registry does not record the files. The
        files of a version of a former release are recorded, without a comparison, when it is first loaded.
    """
    model = _find(uri)
    if FILES_SHA256 not in model.tags and not _is_of_a_former_release(model):
        raise ModelFilesError(_without_digest(model))
    found, there = "", {}
    try:
        files = _copy(model, folder)
        there = manifest_of(files)
    except ModelFilesError as error:
        found = str(error)
    if not found and FILES_SHA256 in model.tags:
        found = differences(model.tags, there)
    elif not found:
        _record(model, there)
        _announce(model, there)
    if found:
        message = (
            f"The files of {model.words} are not those that were registered ({found.rstrip('.')}). None of them was "
            "run. Restore the files from a copy; or train and register another version (mlflow run . -e treinamento); "
            "or roll back to an earlier one (mlflow run . -e reverter -P version=NUMBER). Find out who can write to "
            "the artifact store."
        )
        raise ModelFilesError(message)
    _check_types(files, model)
    return files


def found_in_store(uri: str) -> tuple[Mapping[str, str], dict[str, str]]:
    """Tags of a model, and the current SHA-256 of each of its files. Nothing is compared or run.

    Raises
    ------
    ModelFilesError
        If there are no files, or one is a link.
    """
    model = _find(uri)
    with scratch("model") as folder:
        return model.tags, manifest_of(_copy(model, folder))


def remove_compiled_in_store(uri: str) -> list[str]:
    """Remove compiled Python files from the store of a model, which a stock MLflow server would run.

    Raises
    ------
    OSError
        If one cannot be removed.
    """
    repository = get_artifact_repository(_find(uri).location)
    return remove_compiled(Path(repository.artifact_dir)) if isinstance(repository, LocalArtifactRepository) else []


def _find(uri: str) -> _Model:
    client = MlflowClient()
    name, *version = get_model_name_and_version(client, uri)
    if not version:
        logged = client.get_logged_model(name)
        return _Model(f"the logged model {name}", None, "", logged.tags, logged.artifact_location)
    number = str(version[0])
    tags = client.get_model_version(name, number).tags
    location = client.get_model_version_download_uri(name, number)
    return _Model(f"version {number} of {name}", name, number, tags, location)


def _copy(model: _Model, folder: Path) -> Path:
    files = folder / "model"
    files.mkdir(mode=0o700)
    repository = get_artifact_repository(model.location)
    if isinstance(repository, LocalArtifactRepository):
        copy_files(Path(repository.artifact_dir), files)
    else:
        MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
        repository.download_artifacts("", str(files))
    # MLflow writes this file when a version is downloaded. A file with this name in the store is ignored.
    meta = {"model_name": model.name, "model_version": model.version}
    (files / META).unlink(missing_ok=True)
    if model.name:
        (files / META).write_text(yaml.safe_dump(meta), encoding="utf-8")
    return files


def _is_of_a_former_release(model: _Model) -> bool:
    """Whether a release that recorded no files registered it; a later version without a record has lost its tag."""
    if not model.name:
        return False
    first = MlflowClient().get_registered_model(model.name).tags.get(RECORDED_FROM)
    return first is None or int(model.version) < int(first)


def record(uri: str, files: Mapping[str, str]) -> None:
    """Record the SHA-256 of each file of a version without a record. From then on only these files are loaded.

    Raises
    ------
    ModelFilesError
        If its files are already recorded, or the account in use cannot record them.
    """
    _record(_find(uri), files)


def _record(model: _Model, files: Mapping[str, str]) -> None:
    if FILES_SHA256 in model.tags:
        message = f"The files of {model.words} are recorded already ({FILES_SHA256}); the record is not changed."
        raise ModelFilesError(message)
    try:
        for name, value in tags_of(files).items():
            MlflowClient().set_model_version_tag(model.name, model.version, name, value)
    except MlflowException as error:
        message = f"{_without_digest(model)} (It could not be recorded here: {error.message})"
        raise ModelFilesError(message) from error


def _announce(model: _Model, files: Mapping[str, str]) -> None:
    console.error(
        f"{model.words[0].upper()}{model.words[1:]}:",
        "it was registered by a release that recorded no SHA-256 of its files. The current files are recorded, and "
        f"from now on only they are loaded ({len(files)} files, SHA-256 {digest_of(files)}). If they may have "
        "been changed before, train and register another version.",
    )


def _check_types(files: Path, model: _Model) -> None:
    """Reject types that this project does not list, even if the code of the model trusts them."""
    for path in files.rglob(_STORED):
        try:
            unnamed = unnamed_types(path.read_bytes())
        except ValueError as error:
            message = f"{path.relative_to(files)} of {model.words}: {error}. No code of it was run."
            raise ModelFilesError(message) from error
        if unnamed:
            message = (
                f"{path.relative_to(files)} of {model.words} holds {', '.join(unnamed)}; expected the types that "
                "serving/model/scoring_model.py lists. No code of it was run. Train and register another version."
            )
            raise ModelFilesError(message)


def _without_digest(model: _Model) -> str:
    what = f"The registry does not record the files of {model.words} (tag {FILES_SHA256}): "
    if not model.name:
        return f"{what}expected a model that serving.model.packaging logged. No code of it was run. Train again."
    return (
        f"{what}another tool registered it, or the tag was deleted. No code of it was run. "
        f"If its files are those that were registered, record them once: "
        f"python -m serving.registry.verify --record {model.version}"
    )
