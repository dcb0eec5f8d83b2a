"""The log of the loop: what ``retreino`` decided, why, and what came of it, as its runs keep it."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from data.masking import masked
from monitor.store import runs
from monitor.store.runs import RunInfo
from monitor.store.tables import TableError, artifact
from serving import registry

RETRAINING, REPLAY = "Retreino", "Operacao"
"""Names of the runs of a decision and of a replayed operation."""
RECORD = "decision.json"
"""Artifact of a decision: every figure behind it, as `monitor.retraining.policy.Decision.record` makes it."""
MODEL, CREATED = "registered_model", "registered_model_created"
NUMBER, MOMENT = "decision_number", "moment"
DECISION, TRIGGER, MODE, REASONS = "decision", "trigger", "mode", "reasons"
OUTCOME, OUTCOME_REASON = "outcome", "outcome_reason"
CHAMPION, CHALLENGER = "champion", "model_version"
LABELS, NEW_LABELS, LABELS_UNTIL = "labels", "new_labels", "labels_until"
SOURCE = "source"
REPLAYED = "replay"
"""Tags of such a run."""

RETRAIN, WAIT = "retrain", "wait"
"""Values of ``decision``."""
PENDING, PROMOTED, REFUSED, INTERRUPTED, FAILED, NOTHING = (
    "pending",
    "promoted",
    "refused",
    "interrupted",
    "failed",
    "nothing to do",
)
"""Values of ``outcome``."""


@dataclass(frozen=True)
class DecisionRecord:
    """One entry of the log.

    Attributes
    ----------
    number : int
        From 1, without gap or double for a registered model.
    moment : datetime
        When it was decided, in UTC; in a replay the day that is replayed.
    decision : str
        ``retrain`` or ``wait``.
    trigger : str
        ``reactive``, ``predictive``, ``forced`` or empty.
    mode : str
        ``auto``, ``dry_run`` or ``force``.
    reasons : tuple of str
        In words, the weightiest first.
    outcome, outcome_reason : str
        ``pending``, ``promoted``, ``refused``, ``interrupted``, ``failed`` or ``nothing to do``, and why.
    champion, challenger : str
        Versions: who was champion, and who was trained (empty for none).
    labels, new_labels : int
        Labelled rows that had arrived, and those that no training had learned from before.
    labels_until : datetime or None
        Time of the newest of them.
    run_id, model : str
        The run, and the registered model it is about.
    source : str
        Where the labels were: application, log or a file. Times of different sources do not compare.
    """

    number: int
    moment: datetime
    decision: str
    trigger: str
    mode: str
    reasons: tuple[str, ...]
    outcome: str
    outcome_reason: str
    champion: str
    challenger: str
    labels: int
    new_labels: int
    labels_until: datetime | None
    run_id: str
    model: str
    source: str = ""

    @property
    def trained(self) -> bool:
        """Whether a challenger was trained and judged."""
        return self.outcome in {PROMOTED, REFUSED}


@registry.translate_store_errors()
def decisions(*, replay: str = "", most: int = 1_000) -> list[DecisionRecord]:
    """The decisions about the registered model that this process works on, newest first.

    Parameters
    ----------
    replay : str
        Run of a replay, whose decisions are wanted instead.
    most : int
        Older ones are left out.
    """
    if replay:
        about = f"tags.{REPLAYED} = '{replay}'"
    else:
        about = f"tags.{MODEL} = '{registry.model()}' and tags.{CREATED} = '{registry.created()}'"
    condition = f"tags.{NUMBER} LIKE '%' and {about}"
    found = [logged(run) for run in runs.find_runs(RETRAINING, condition, most)]
    return sorted(found, key=lambda decision: -decision.number)


def logged(run: RunInfo) -> DecisionRecord:
    """The entry that a run of ``retreino`` holds.

    Raises
    ------
    TableError
        If its tags are damaged.
    """
    try:
        return _entry(run, run.tags)
    except (KeyError, ValueError) as error:
        message = (
            f"The tags of decision {run.tags.get(NUMBER)} cannot be read ({type(error).__name__}: {error}). "
            f"Delete run {run.run_id}, named {RETRAINING}."
        )
        raise TableError(message) from error


def _entry(run: RunInfo, tags: Mapping[str, str]) -> DecisionRecord:
    until = tags.get(LABELS_UNTIL, "")
    return DecisionRecord(
        number=int(tags[NUMBER]),
        moment=datetime.fromisoformat(tags[MOMENT]),
        decision=tags[DECISION],
        trigger=tags.get(TRIGGER, ""),
        mode=tags.get(MODE, "auto"),
        reasons=tuple(filter(None, masked(tags.get(REASONS, "")).splitlines())),
        outcome=tags.get(OUTCOME, PENDING),
        outcome_reason=masked(tags.get(OUTCOME_REASON, "")),
        champion=tags.get(CHAMPION, ""),
        challenger=tags.get(CHALLENGER, ""),
        labels=int(tags.get(LABELS, 0)),
        new_labels=int(tags.get(NEW_LABELS, 0)),
        labels_until=datetime.fromisoformat(until) if until else None,
        run_id=run.run_id,
        model=tags[MODEL],
        source=tags.get(SOURCE, ""),
    )


def replays(most: int = 20) -> list[RunInfo]:
    """The finished replays of an operation, newest first."""
    return runs.find_runs(REPLAY, "attributes.status = 'FINISHED'", most)


def record(run_id: str) -> dict[str, Any]:
    """Every figure behind a decision.

    Raises
    ------
    TableError
        If the run does not hold it, or not whole.
    """
    path = artifact(run_id, RECORD)
    with contextlib.suppress(ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    message = f"{RECORD} of run {run_id} cannot be read. The decision stands in the tags of the run."
    raise TableError(message)


def last_trained(log: Sequence[DecisionRecord]) -> DecisionRecord | None:
    """The newest decision of which a challenger was trained."""
    return next((decision for decision in log if decision.trained), None)
