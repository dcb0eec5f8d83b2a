"""Outcomes of retraining decisions, as the registry shows them."""

from monitor.store import tags
from monitor.store.model_store import current_store
from monitor.store.records import AWAITING, INTERRUPTED, PROMOTED, REJECTED, RetrainingDecision
from monitor.store.tags import OUTCOME, OUTCOME_REASON
from serving import registry


def record_approvals() -> None:
    """Log the outcome of decisions whose challenger waited for approval and no longer does."""
    store = current_store()
    for entry in store.decisions():
        if entry.outcome == AWAITING and (found := outcome_of(entry))[OUTCOME] != AWAITING:
            store.set_tags(entry.run_id, found)


def outcome_of(entry: RetrainingDecision) -> dict[str, str]:
    """The outcome of a decision whose process has ended, as tags; a challenger that was not promoted is archived."""
    found = current_store().version_of_decision(entry.run_id)
    if found is None and entry.outcome == AWAITING:
        return {OUTCOME: INTERRUPTED, OUTCOME_REASON: f"version {entry.challenger} was deleted before a person decided"}
    if found is None:
        return {OUTCOME: INTERRUPTED, OUTCOME_REASON: "its process ended before a challenger was registered"}
    version = {tags.MODEL_VERSION: found.version}
    if registry.was_champion(found.version):
        return {**version, OUTCOME: PROMOTED, OUTCOME_REASON: found.promotions[0].why or found.gate_reason}
    if found.awaits_approval:
        return {**version, OUTCOME: AWAITING, OUTCOME_REASON: found.gate_reason}
    if found.gate == registry.REJECTED:
        reason = found.gate_reason
        registry.archive(found.version, reason)
        return {**version, OUTCOME: REJECTED, OUTCOME_REASON: reason}
    reason = "its process ended before the challenger was promoted"
    registry.archive(found.version, reason)
    return {**version, OUTCOME: INTERRUPTED, OUTCOME_REASON: reason}
