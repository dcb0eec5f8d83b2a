"""Entry point ``aprovar``: approve or reject a version that passed the gate and waits for the approval of a person."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from data.cli.config import run_command
from data.cli.console import info
from monitor.store import commands, tags
from monitor.store.model_store import current_store
from serving import registry
from steps.shared.command import StepConfig, at_once
from steps.shared.data_origin import origin_tags
from steps.shared.tracking import Tags, log_records, step_run
from steps.shared.validators import validate_reason, validate_version
from steps.shared.verification import verify_predictions
from steps.training.decision_outcome import record_approvals

RUN_NAME = "Aprovar"


class AprovarConfig(StepConfig):
    """Approve or reject a version that waits: it becomes champion and Production, or is archived."""

    version: Annotated[str, AfterValidator(validate_version)] = Field(
        default="", description="number of the version; empty is the one that waits"
    )
    decision: Literal["approve", "reject"] = Field(default="approve", description="what the person decides")
    reason: Annotated[str, AfterValidator(validate_reason)] = Field(
        default="decided at the command line",
        max_length=1_000,
        description="reason for the decision, kept with the version",
    )
    by: str = Field(
        default="", max_length=200, description="name of the person who decides; empty is the user of this process"
    )


@dataclass(frozen=True)
class ApprovalResult:
    """The champion before, the version that was decided on, and whether it is champion now."""

    before: str
    version: str
    approved: bool


def run(config: AprovarConfig) -> ApprovalResult:
    """Decide, in a run of its own.

    Raises
    ------
    RegistryError
        If no version waits, the named one does not, its predictions differ from those when it was registered, or it was
        compared with another champion than that of now. Champion and Production are unchanged then.
    """
    with step_run(RUN_NAME, config):
        registry.reconcile()
        before = registry.alias_state().champion or ""
        version = registry.number(registry.require_awaiting(config.version))
        log_records([origin_tags(registry.tags_of(version))])
        approves = config.decision == "approve"
        if approves:
            info("Predictions:", verify_predictions(version))
            registry.approve(version, config.reason, who=config.by.strip())
            note = "approved, and became champion and Production"
        else:
            registry.reject(version, config.reason, who=config.by.strip())
            note = "rejected by a person"
        record_approvals()
        _log(version, note)
        log_records([Tags({tags.CHAMPION: before, tags.MODEL_VERSION: version, "reason": config.reason})])
    if approves:
        info("Approved", f"version {version} of {registry.model()}; champion before: {before or 'none'}", style="bold")
    else:
        info("Rejected", f"version {version} of {registry.model()}; champion: {before or 'none'}", style="bold")
    if commands.at_hand():
        info("History:", f"{commands.make('history')}, or python -m monitor.retraining.history", style="")
    return ApprovalResult(before, version, approves)


def _log(version: str, note: str) -> None:
    """Log the decision on the run of the training too, where there is one."""
    store = current_store()
    found = store.version(version)
    if found and store.active_run(found.run_id):
        held = {tags.GATE: found.gate, tags.GATE_REASON: found.gate_reason, tags.PROMOTION_NOTE: note}
        store.set_tags(found.run_id, held)


if __name__ == "__main__":
    run_command(AprovarConfig, at_once(run))
