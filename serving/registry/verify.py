"""Whether the files of versions are those that were registered: ``python -m serving.registry.verify``.

A stock ``mlflow models serve`` loads whatever the artifact store holds. This command compares it beforehand, and in
CI, with what was registered.
"""

from typing import Annotated

from mlflow.exceptions import MlflowException
from pydantic import Field

from data.cli import console
from data.cli.config import CommandConfig, run_command
from data.cli.console import info
from serving import registry
from serving.model import model_files
from serving.model.manifest import FILES_SHA256, ModelFilesError, differences, digest_of
from serving.registry import RegistryError, reachability
from serving.registry.store import plain_store

_NUMBER = Annotated[str, Field(pattern=r"^[0-9]*$")]


class VerifyConfig(CommandConfig):
    """Compare the files of versions with the registry; exit code 1 if those of any differ, or are not recorded."""

    version: _NUMBER = Field(default="", description="number of the version; empty compares all of them")
    record: _NUMBER = Field(
        default="", description="number of a version without digest, whose files as they are now are recorded"
    )


def run(config: VerifyConfig) -> None:
    """Record, or compare.

    Raises
    ------
    RegistryError
        If there is no such version, or what is to be recorded is recorded already.
    ModelFilesError
        If a version is not what was registered.
    """
    registry.model()
    with plain_store(), registry.translate_store_errors():
        reachability.require_reachable()
        known = registry.versions()
        for number in filter(None, (config.version, config.record)):
            if number not in known:
                message = f"{registry.model()} has no version {number}; expected one of {', '.join(known) or 'none'}."
                raise RegistryError(message)
        if config.record:
            _record(config.record)
        failed = [number for number in ([config.version] if config.version else known) if not _compare(number)]
    if failed:
        message = (
            f"Not what was registered, or not known to be: version {', '.join(failed)} of {registry.model()}. This "
            "project loads none of them; a stock `mlflow models serve` would."
        )
        raise ModelFilesError(message)


def _record(number: str) -> None:
    _, files = model_files.found_in_store(registry.uri(number))
    console.error(
        f"Version {number}:",
        "its files as they are now are recorded as what was registered. Whether they were changed before is unknown: "
        "record them only if you are sure that they were not.",
    )
    model_files.record(registry.uri(number), files)
    for path, digest in files.items():
        info(" ", f"{digest}  {path}", style="")


def _compare(number: str) -> bool:
    """Compare the files of a version with the registered ones, print the result, and return whether they match."""
    try:
        tags, found = model_files.found_in_store(registry.uri(number))
        compiled = model_files.remove_compiled_in_store(registry.uri(number))
    except (ModelFilesError, MlflowException, OSError) as error:
        console.error(f"Version {number}: MISMATCH", f"({error})")
        return False
    if FILES_SHA256 not in tags:
        again = f"if its files are those that were registered: python -m serving.registry.verify --record {number}"
        console.error(f"Version {number}: NOT RECORDED", f"(tag {FILES_SHA256} is missing; {again})")
        return False
    if compiled:
        info(f"Version {number}:", f"removed what Python had compiled there, which is never registered: {compiled}")
    if problem := differences(tags, found):
        console.error(f"Version {number}: MISMATCH", f"({problem})")
        return False
    info(f"Version {number}: OK", f"({len(found)} files, SHA-256 {digest_of(found)})")
    return True


if __name__ == "__main__":
    run_command(VerifyConfig, run)
