"""Entry point ``reverter``: put an earlier champion back, and prove that it answers what it answered then."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

from data.command import run_command
from data.console import say
from monitor.scored import ANSWERS, fingerprint
from serving import registry
from steps.command import StepConfig
from steps.tracking import Record, Tags, step_run, write

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
class Reverted:
    """Who was champion, who is, and whether its answers are known to be those of its first day."""

    before: str
    version: str
    identical: bool | None


def run(config: ReverterConfig) -> Reverted:
    """Roll back, in a run of its own.

    Raises
    ------
    RegistryError
        If there is nothing to go back to, the version may not be used, or it does not answer what it answered when it
        was registered. Champion and Production stay as they were.
    """
    with step_run(RUN_NAME, config):
        registry.reconcile()
        before = registry.champion()
        target = registry.roll_back_target(config.version)
        write(_origin(target))
        identical = _check_answers(target)
        version = registry.roll_back(config.reason, target)
        reverted = Reverted(registry.number(before) if before else "", version, identical)
        write([Tags({"champion": reverted.before, "model_version": version, "reason": config.reason})])
    say(
        "Rolled back", f"{registry.model()} from version {reverted.before or 'none'} to version {version}", style="bold"
    )
    if identical:
        say("Answers:", "to 512 shots they are, to the byte, those that it gave when it was registered")
    else:
        say("Answers:", "nobody wrote down what it answered when it was registered", style="bold yellow")
    say("History:", "make history, or python -m monitor.history", style="")
    return reverted


def _origin(version: str) -> Iterator[Record]:
    tags = registry.tags_of(version)
    yield Tags({name: tags.get(name, "unknown") for name in ("data_source", "synthetic")})


def _check_answers(version: str) -> bool | None:
    known = registry.tags_of(version).get(ANSWERS)
    found = fingerprint(f"models:/{registry.model()}/{version}")
    if known is None:
        return None
    if known != found:
        message = (
            f"Version {version} of {registry.model()} does not answer what it answered when it was registered: "
            "its files or the libraries have changed. It was not put back; give another version."
        )
        raise registry.RegistryError(message)
    return True


def run_at_once(config: ReverterConfig) -> None:
    """Roll back without waiting for other steps: it writes nothing to ``data/``, and it is urgent."""
    with registry.store_errors_told():
        run(config)


if __name__ == "__main__":
    run_command(ReverterConfig, run_at_once)
