"""What the retraining policy will do next, and when, in sentences: from the record of a monitoring run and the log.

The policy itself decides on more than a record holds (windows of labels in order of time, their trend). This module
reports what can be known before: which checks will fire a trigger, and which preconditions delay a training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

from monitor.health.cause import Sentence
from monitor.health.checks import MIN_LABELED
from monitor.health.status import CheckStatus
from monitor.metrics.names import metric_name
from monitor.retraining import calendar, decision_log
from monitor.retraining.calendar import NextMonitoringRun
from monitor.retraining.policy import MIN_LABELS, PREDICTIVE_CHECKS, RetrainingPolicy
from monitor.store import records
from monitor.store.records import RetrainingDecision


class Runner(NamedTuple):
    """A candidate model on the same labeled rows as the version that was selected.

    Attributes
    ----------
    name : str
    log_loss, selected : float
        Log loss of the candidate and of the selected model.
    low, high : float
        95% confidence interval of the difference, candidate minus selected.
    rows : int
    """

    name: str
    log_loss: float
    selected: float
    low: float
    high: float
    rows: int


def outlook(  # noqa: PLR0911 one sentence each
    record: Mapping[str, Any] | None,
    log: Sequence[RetrainingDecision],
    policy: RetrainingPolicy,
    following: NextMonitoringRun,
    now: datetime,
) -> Sentence:
    """Describe what the policy will do at its next run.

    Parameters
    ----------
    record : mapping or None
        The latest record about the champion; None before the first monitoring run.
    log : sequence of RetrainingDecision
        Latest first.
    policy : RetrainingPolicy
    following : NextMonitoringRun
    now : datetime
        In UTC.
    """
    when = _when(following)
    if record is None:
        return Sentence("The next scheduled run is {when}; nothing is known yet.", {"when": when})
    if log and calendar.acted(log[0]) and log[0].outcome == records.PENDING:
        return Sentence("A challenger is in training (decision {number}).", {"number": str(log[0].number)})
    if log and (later := _after(record, log[0])):
        return later
    fired = [check for check in record["checks"] if check["code"] in PREDICTIVE_CHECKS and _is_failed(check)]
    degraded = any(check["code"] in {"K101", "K102", "K103"} and _is_failed(check) for check in record["checks"])
    if not fired and not degraded:
        return Sentence("The policy will do nothing: no trigger fires. It runs again {when}.", {"when": when})
    labels = int(record["current"]["labeled"])
    before = decision_log.last_trained(log)
    needed = max(policy.min_new_labels, MIN_LABELS)
    new = labels - before.labels if before else labels
    if labels < needed or (before is not None and new < needed):
        values = {"labels": f"{max(new, 0):,}", "needed": f"{needed:,}", "when": when}
        return Sentence("The policy will wait for labels: {labels} of {needed} are there. It runs {when}.", values)
    training = calendar.next_training(log, policy.cooldown)
    if training and training > now:
        values = {"labels": f"{labels:,}", "when": calendar.format_datetime(training)}
        return Sentence("The policy will train a challenger on {labels} labels, from {when} on: a cooldown.", values)
    return Sentence(
        "The policy will train a challenger at its next run, {when}: the older of {labels} labels are for its "
        "training, the newest for its test, and it is promoted only if it is better on those.",
        {"labels": f"{labels:,}", "when": when},
    )


def runner_up(candidates: Sequence[Runner]) -> Sentence | None:
    """Report whether another candidate of the same training would do better here; None without another one.

    Parameters
    ----------
    candidates : sequence of Runner
        The candidates that were not selected.
    """
    known = [each for each in candidates if each.rows >= MIN_LABELED]
    if not known:
        return None
    best = min(known, key=lambda each: each.log_loss)
    name = metric_name("log_loss")
    values = {"name": best.name, "other": name.format(best.log_loss), "own": name.format(best.selected)}
    if best.high < 0:
        return Sentence("The runner-up would do better here: {name}, log loss {other} against {own}.", values)
    if best.low > 0:
        return Sentence("The runner-up would do worse here: {name}, log loss {other} against {own}.", values)
    return Sentence("The runner-up would do about the same here: {name}, log loss {other} against {own}.", values)


_CAME = {
    records.AWAITING: Sentence(
        "The policy has trained version {version} since (decision {number}): it waits for the approval of a person."
    ),
    records.REJECTED: Sentence("The policy has trained version {version} since (decision {number}): it was rejected."),
    **dict.fromkeys(
        (records.FAILED, records.INTERRUPTED), Sentence("A training since then did not end (decision {number}).")
    ),
}
"""What came of a training, by its outcome."""


def _after(record: Mapping[str, Any], decision: RetrainingDecision) -> Sentence | None:
    """What came of a decision about this champion that is newer than the record; None where there is none."""
    if decision.decided_at < datetime.fromisoformat(record["time"]) or decision.champion != record.get("champion"):
        return None
    values = {"number": str(decision.number), "version": decision.challenger}
    if not calendar.acted(decision):
        if decision.decision == records.NO_ACTION:
            reason = decision.reasons[0] if decision.reasons else ""
            return Sentence(
                "The policy has decided since (decision {number}): no action, {reason}.", {**values, "reason": reason}
            )
        return None
    came = _CAME.get(decision.outcome)
    return replace(came, values=values) if came else None


def _is_failed(check: Mapping[str, str]) -> bool:
    return check["status"] == CheckStatus.FAILED


def _when(following: NextMonitoringRun) -> str:
    return calendar.format_date(max(following.due, following.today))
