"""Entry point ``reverter``: put an earlier champion back, and prove that it answers what it answered then."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

from data.cli.config import run_command
from data.cli.console import info
from monitor.store import commands
from serving import registry
from serving.batch.in_process import ANSWERS, ROUNDED_ANSWERS, ROUNDED_DECIMALS, prediction_hash
from serving.registry import reachability
from steps.shared.command import StepConfig
from steps.shared.tracking import Record, Tags, log_records, step_run

RUN_NAME = "Reverter"


def check_version(version: str) -> str:
    """Refuse what is no number.

    Raises
    ------
    ValueError
        Says what is expected.
    """
    if version and not version.isdecimal():
        message = f"expected the number of a version, or nothing for the one before the champion; found {version!r}"
        raise ValueError(message)
    return version


def check_reason(reason: str) -> str:
    """Refuse an empty reason.

    Raises
    ------
    ValueError
        Says what is expected.
    """
    if not reason.strip():
        message = "expected a reason in words, which is kept in the history of the version"
        raise ValueError(message)
    return reason.strip()


class ReverterConfig(StepConfig):
    """Make an earlier champion champion and Production again; what is served follows within seconds."""

    version: Annotated[str, AfterValidator(check_version)] = Field(
        default="", description="number of the version to put back; empty is the champion before this one"
    )
    reason: Annotated[str, AfterValidator(check_reason)] = Field(
        default="asked for at the command line", description="why, for the history"
    )


@dataclass(frozen=True)
class RollbackResult:
    """Who was champion, who is, and how its answers compare with those of its first day, in words."""

    before: str
    version: str
    answers: str


def run(config: ReverterConfig) -> RollbackResult:
    """Roll back, in a run of its own.

    Raises
    ------
    RegistryError
        If there is nothing to go back to, the version may not be used, it does not answer what it answered when it
        was registered, or another command has changed the champion meanwhile. Nothing is changed then.
    """
    with step_run(RUN_NAME, config):
        registry.reconcile()
        before = registry.standing().champion or ""
        target = registry.rollback_target(config.version)
        log_records(_origin(target))
        answers = _check_answers(target)
        version = registry.roll_back(config.reason, target, instead_of=before)
        reverted = RollbackResult(before, version, answers)
        log_records([Tags({"champion": reverted.before, "model_version": version, "reason": config.reason})])
    info(
        "Rolled back", f"{registry.model()} from version {reverted.before or 'none'} to version {version}", style="bold"
    )
    info("Answers:", answers)
    if commands.at_hand():
        info("History:", f"{commands.make('history')}, or python -m monitor.retraining.history", style="")
    return reverted


def _origin(version: str) -> Iterator[Record]:
    tags = registry.tags_of(version)
    yield Tags({name: tags.get(name, "unknown") for name in ("data_source", "synthetic")})


def _check_answers(version: str) -> str:
    """How the answers of a version compare with those of the day it was registered, in words."""
    tags, uri = registry.tags_of(version), f"models:/{registry.model()}/{version}"
    found = prediction_hash(uri)
    if ANSWERS not in tags:
        return "nobody wrote down what it answered when it was registered"
    if tags[ANSWERS] == found:
        return "to 512 shots they are, to the byte, those that it gave when it was registered"
    if tags.get(ROUNDED_ANSWERS) == prediction_hash(uri, ROUNDED_DECIMALS):
        return f"to 512 shots those of its first day to {ROUNDED_DECIMALS} decimals; this machine computes otherwise"
    message = (
        f"Version {version} of {registry.model()} does not answer what it answered when it was registered: "
        "its files or the libraries have changed. It was not put back; give another version."
    )
    raise registry.RegistryError(message)


def run_at_once(config: ReverterConfig) -> None:
    """Roll back without waiting for other steps: it writes nothing to ``data/``, and it is urgent."""
    with registry.translate_store_errors():
        reachability.require_answer()
        run(config)


if __name__ == "__main__":
    run_command(ReverterConfig, run_at_once)
