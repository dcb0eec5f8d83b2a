"""Outcomes of decisions whose process was killed."""

from monitor.store.model_store import current_store
from monitor.store.records import PENDING
from steps.shared.tracking import at_work_elsewhere
from steps.training.decision_outcome import outcome_of, record_approvals


def resolve_interrupted(own_run: str = "") -> None:
    """Log the outcome of decisions whose process was killed; a version that waits for approval goes on waiting."""
    store = current_store()
    for entry in store.decisions():
        if entry.outcome == PENDING and entry.run_id != own_run and not at_work_elsewhere(entry.run_id):
            store.set_tags(entry.run_id, outcome_of(entry))
    record_approvals()
