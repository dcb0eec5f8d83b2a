"""Entry point ``reverter``: roll back to an earlier champion, and verify that its predictions have not changed."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

from data import datasets
from data.cli.config import run_command
from data.cli.console import info
from monitor.store import commands, run_names, tags
from serving import registry
from serving.batch.in_process import (
    PREDICTIONS_SHA256,
    ROUNDED_DECIMALS,
    ROUNDED_PREDICTIONS_SHA256,
    prediction_hash,
)
from serving.registry import reachability
from steps.shared.command import StepConfig
from steps.shared.data_origin import origin_tags
from steps.shared.tracking import Tags, log_records, step_run

RUN_NAME = run_names.ROLLBACK


def check_version(version: str) -> str:
    """Refuse anything but a number; a ValueError has what was expected."""
    if version and not version.isdecimal():
        message = f"expected the number of a version, or nothing for the previous champion; found {version!r}"
        raise ValueError(message)
    return version


def check_reason(reason: str) -> str:
    """Refuse an empty reason; a ValueError has what was expected."""
    if not reason.strip():
        message = "expected a reason, which the history of the version keeps"
        raise ValueError(message)
    return reason.strip()


class ReverterConfig(StepConfig):
    """Roll back: an earlier version becomes champion and Production; servers reload within seconds."""

    version: Annotated[str, AfterValidator(check_version)] = Field(
        default="", description="number of the version to restore; empty is the previous champion"
    )
    reason: Annotated[str, AfterValidator(check_reason)] = Field(
        default="requested at the command line", description="reason for the rollback, kept in the history"
    )


@dataclass(frozen=True)
class RollbackResult:
    """The previous and the restored champion, and how its predictions compare with those at registration."""

    before: str
    version: str
    predictions: str


def run(config: ReverterConfig) -> RollbackResult:
    """Roll back, in a run of its own.

    Raises
    ------
    RegistryError
        If there is nothing to restore, the version may not be used, its predictions differ from those when it
        was registered, or another command has changed the champion meanwhile. Nothing is changed then.
    """
    with step_run(RUN_NAME, config):
        registry.reconcile()
        before = registry.alias_state().champion or ""
        target = registry.rollback_target(config.version)
        log_records([origin_tags(registry.tags_of(target))])
        predictions = _verify_predictions(target)
        version = registry.roll_back(config.reason, target, instead_of=before)
        reverted = RollbackResult(before, version, predictions)
        log_records([Tags({tags.CHAMPION: reverted.before, tags.MODEL_VERSION: version, "reason": config.reason})])
    info(
        "Rolled back", f"{registry.model()} from version {reverted.before or 'none'} to version {version}", style="bold"
    )
    info("Predictions:", predictions)
    if commands.at_hand():
        info("History:", f"{commands.make('history')}, or python -m monitor.retraining.history", style="")
    return reverted


def _verify_predictions(version: str) -> str:
    """How the predictions of a version compare with those when it was registered."""
    tags, uri = registry.tags_of(version), registry.uri(version)
    found = prediction_hash(uri)
    recorded = registry.read_tag(tags, PREDICTIONS_SHA256)
    if not recorded:
        return "the version has no hash of its predictions at registration"
    registered = datasets.current().rows
    if recorded == found:
        return f"bit-identical on 512 {registered} to those at registration"
    if registry.read_tag(tags, ROUNDED_PREDICTIONS_SHA256) == prediction_hash(uri, ROUNDED_DECIMALS):
        return f"equal on 512 {registered} to those at registration, to {ROUNDED_DECIMALS} decimals (another machine)"
    message = (
        f"The predictions of version {version} of {registry.model()} differ from those at its registration: "
        "its files or the libraries have changed. Nothing was rolled back; give another version."
    )
    raise registry.RegistryError(message)


def run_at_once(config: ReverterConfig) -> None:
    """Roll back without waiting for other steps: a rollback writes nothing to ``data/``, and is urgent."""
    with datasets.use(config.dataset), registry.translate_store_errors():
        reachability.require_reachable()
        run(config)


if __name__ == "__main__":
    run_command(ReverterConfig, run_at_once)
