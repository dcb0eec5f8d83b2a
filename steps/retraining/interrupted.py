"""Outcomes of decisions whose process was killed."""

from monitor.store import tags as store_tags
from monitor.store.model_store import current_store
from monitor.store.records import INTERRUPTED, PENDING, PROMOTED, REJECTED, RetrainingDecision
from monitor.store.tags import OUTCOME, OUTCOME_REASON
from serving import registry
from steps.shared.tracking import at_work_elsewhere


def resolve_interrupted(own_run: str = "") -> None:
    """Log the outcome of decisions whose process was killed."""
    store = current_store()
    for entry in store.decisions():
        if entry.outcome == PENDING and entry.run_id != own_run and not at_work_elsewhere(entry.run_id):
            store.set_tags(entry.run_id, _outcome(entry))


def _outcome(entry: RetrainingDecision) -> dict[str, str]:
    found = current_store().version_of_decision(entry.run_id)
    if found is None:
        return {OUTCOME: INTERRUPTED, OUTCOME_REASON: "its process ended before a challenger was registered"}
    version = {store_tags.MODEL_VERSION: found.version}
    if registry.was_champion(found.version):
        return {**version, OUTCOME: PROMOTED, OUTCOME_REASON: found.gate_reason}
    if found.gate == registry.REJECTED:
        reason = found.gate_reason
        registry.archive(found.version, reason)
        return {**version, OUTCOME: REJECTED, OUTCOME_REASON: reason}
    reason = "its process ended before the challenger was promoted"
    registry.archive(found.version, reason)
    return {**version, OUTCOME: INTERRUPTED, OUTCOME_REASON: reason}
