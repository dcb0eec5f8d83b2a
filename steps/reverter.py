"""Entry point ``reverter``: roll back to an earlier champion, and verify that its predictions have not changed."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

from data.cli.config import run_command
from data.cli.console import info
from monitor.store import commands, run_names, tags
from serving import registry
from steps.shared.command import StepConfig, at_once
from steps.shared.data_origin import origin_tags
from steps.shared.tracking import Tags, log_records, step_run
from steps.shared.validators import validate_reason, validate_version
from steps.shared.verification import verify_predictions

RUN_NAME = run_names.ROLLBACK


class ReverterConfig(StepConfig):
    """Roll back: an earlier version becomes champion and Production; servers reload within seconds."""

    version: Annotated[str, AfterValidator(validate_version)] = Field(
        default="", description="number of the version to restore; empty is the previous champion"
    )
    reason: Annotated[str, AfterValidator(validate_reason)] = Field(
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
        predictions = verify_predictions(target)
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


if __name__ == "__main__":
    run_command(ReverterConfig, at_once(run))
