"""The log of continuous training: every retraining decision, and the metrics that each is based on."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from data.errors import TableError
from monitor.store import tags
from monitor.store.model_store import ModelStore
from monitor.store.records import RetrainingDecision

RECORD = "decision.json"
"""Artifact of a decision: all that it is based on, as `monitor.retraining.policy.Decision.to_dict` makes it."""
FORMAT = 2
"""``format_version`` of the artifact. 0.1.0 wrote none; `upgrade` converts what it wrote."""


def record(store: ModelStore, run_id: str) -> dict[str, Any]:
    """All that a decision is based on.

    Raises
    ------
    TableError
        If the run does not hold it, or not whole.
    """
    path = store.artifact(run_id, RECORD)
    with contextlib.suppress(ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return upgrade(found)
    message = f"{RECORD} of run {run_id} cannot be read. The decision itself is in the tags of the run."
    raise TableError(message)


def upgrade(record: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the record of a decision or of a promotion test to the keys and values of today."""
    if record.get("format_version") == FORMAT:
        return dict(record)
    return dict(tags.current_record(record, tags.FORMER_DECISION_KEYS, tags.FORMER_DECISION_VALUES))


def last_trained(log: Sequence[RetrainingDecision]) -> RetrainingDecision | None:
    """The newest decision that a challenger was trained for."""
    return next((decision for decision in log if decision.trained), None)
