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


def outlook(  # noqa: PLR0911, PLR0913 one sentence each
    record: Mapping[str, Any] | None,
    log: Sequence[RetrainingDecision],
    policy: RetrainingPolicy,
    following: NextMonitoringRun,
    now: datetime,
    *,
    has_times: bool = True,
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
    has_times : bool
        Whether the rows have times, by which the policy orders labels.
    """
    when = _when(following)
    if record is None:
        return Sentence(
            "Nothing is known about this version yet. The next check is scheduled for {when}, or evaluate it now.",
            {"when": when},
        )
    if log and calendar.acted(log[0]) and log[0].outcome == records.PENDING:
        return Sentence("A challenger is in training (decision {number}).", {"number": str(log[0].number)})
    if log and (later := _after(record, log[0])):
        return later
    fired = [check for check in record["checks"] if check["code"] in PREDICTIVE_CHECKS and _is_failed(check)]
    degraded = any(check["code"] in {"K101", "K102", "K103"} and _is_failed(check) for check in record["checks"])
    if not fired and not degraded:
        return Sentence(
            "There is nothing to do: no trigger of a retraining fires. The next check is scheduled for {when}.",
            {"when": when},
        )
    if not has_times:
        return Sentence(
            "The retraining policy orders labels by time, and these rows have no times. Train again by hand, or serve "
            "version {version} and add labels to its inference log.",
            {"version": str(record.get("champion") or "?")},
        )
    labels = int(record["current"]["labeled"])
    before = decision_log.last_trained(log)
    needed = max(policy.min_new_labels, MIN_LABELS)
    new = labels - before.labels if before else labels
    if labels < needed or (before is not None and new < needed):
        values = {"labels": f"{max(new, 0):,}", "needed": f"{needed:,}", "when": when}
        return Sentence(
            "Retraining waits for new labels: {labels} of {needed} are there. The next check is scheduled for {when}.",
            values,
        )
    training = calendar.next_training(log, policy.cooldown)
    if training and training > now:
        values = {"labels": f"{labels:,}", "when": calendar.format_datetime(training)}
        return Sentence(
            "Retraining on {labels} labels may start from {when} on, when the cooldown of the last training ends.",
            values,
        )
    return Sentence(
        "Retraining is scheduled for {when}: the scheduler starts it then, or a person now. It trains a challenger on "
        "the older of the {labels} labels and tests it on the newest. Version {version} is replaced only if the "
        "challenger is significantly better on those.",
        {"labels": f"{labels:,}", "when": when, "version": str(record.get("champion") or "?")},
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
        return Sentence(
            "{name}, trained at the same time and not selected, would do better here: log loss {other} instead of "
            "{own}. There is no need to switch: retraining trains it again too, and selects the better one.",
            values,
        )
    if best.low > 0:
        return Sentence(
            "{name}, trained at the same time and not selected, would do worse here: log loss {other} instead of "
            "{own}.",
            values,
        )
    return Sentence(
        "{name}, trained at the same time and not selected, would do about the same here: log loss {other} instead of "
        "{own}.",
        values,
    )


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
