"""Retraining policy: triggers that recommend a new model, and preconditions that limit how often one is trained.

The policy is pure. It computes a decision from tables, metrics and the log of earlier decisions; `steps.retreino` acts
on it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from data.datasets import Dataset
from data.schema import IN_TRAINING
from monitor.health import checks
from monitor.health.checks import CHECKS
from monitor.health.evaluation import Evaluation
from monitor.health.status import CheckStatus, run_checks
from monitor.metrics import base_rate
from monitor.metrics.intervals import Performance, relative_degradation
from monitor.retraining.decision_log import FORMAT, last_trained
from monitor.retraining.promotion_test import MIN_ROWS_PER_CLASS
from monitor.store.records import FAILED, INTERRUPTED, NO_ACTION, PROMOTED, REJECTED, RETRAIN, RetrainingDecision
from monitor.store.tables import TIME

REACTIVE, PREDICTIVE, FORCED = "reactive", "predictive", "forced"
MIN_IN_WINDOW = checks.MIN_LABELED
MIN_LABELS = 2 * checks.MIN_LABELED
"""Labeled rows that a training needs: half to train on, half as the temporal hold-out."""
_MIN_BLOCK = 50
"""Labels that an origin before the temporal hold-out is compared on, at least."""

PREDICTIVE_CHECKS = ("K201", "K204", "K301")
"""Codes of the checks that are predictive triggers when they fail."""
_MIN_TREND_WINDOWS, _MAX_TREND_WINDOWS = 4, 12
_TREND_CONFIDENCE = 0.95
_F1_ROWS = 30
_MAX_TIMES_LABELS = 8


MAX_UNFINISHED_PER_DAY = 5
"""Failed or interrupted trainings within 24 hours after which no other training starts."""


@dataclass(frozen=True)
class RetrainingPolicy:
    """Parameters of the retraining policy.

    Attributes
    ----------
    window_size : int
        Labeled rows in a window.
    windows, min_breached_windows : int
        Retrain when at least `min_breached_windows` of the last `windows` windows breach, and the latest does.
    degradation_threshold : float
        Relative degradation of log loss or F1 against the champion's reference above which a window breaches.
    trend_horizon : int
        Windows ahead for which the log-loss trend is extrapolated.
    min_new_labels : int
        Labeled rows that no training has used; doubled after each challenger that is rejected against the same
        champion, up to eight times.
    cooldown : timedelta
        Minimum time between two trainings.
    max_trainings_per_day : int
        Maximum number of completed trainings within 24 hours; see also ``MAX_UNFINISHED_PER_DAY``.
    max_labels : int
        Maximum number of labels, the latest ones, that a training uses.
    holdout_size : float
        Share of these labels, the latest ones, that forms the temporal hold-out.
    recent_rows : int
        Number of rows, the latest that the champion scored, for the predictive triggers.
    """

    window_size: int = 200
    windows: int = 3
    min_breached_windows: int = 2
    degradation_threshold: float = 0.15
    trend_horizon: int = 3
    min_new_labels: int = 300
    cooldown: timedelta = timedelta(days=1)
    max_trainings_per_day: int = 2
    max_labels: int = 20_000
    holdout_size: float = 0.35
    recent_rows: int = 2_000


@dataclass(frozen=True)
class Window:
    """A window of consecutive labeled rows that the champion scored.

    Attributes
    ----------
    start, end : str
        Times of the first and last row, ISO 8601.
    rows : int
    log_loss, f1_score, skill : float or None
        Metrics of the champion; None where undefined. The skill score is relative to the base-rate baseline.
    breaches : tuple of str
        Their descriptions; empty where there are none.
    """

    start: str
    end: str
    rows: int
    log_loss: float
    f1_score: float | None
    skill: float | None
    breaches: tuple[str, ...]


@dataclass(frozen=True)
class Trigger:
    """A condition that recommends retraining.

    Attributes
    ----------
    name : str
    kind : str
        ``reactive`` or ``predictive``.
    fired : bool or None
        Whether the trigger fires; None where it cannot be evaluated.
    summary, details : str
    """

    name: str
    kind: str
    fired: bool | None
    summary: str
    details: str = ""


@dataclass(frozen=True)
class Precondition:
    """A condition that must be met before a model is trained."""

    name: str
    met: bool
    summary: str


@dataclass(frozen=True)
class LabelCounts:
    """Labels available at the time of a decision.

    Attributes
    ----------
    labels, new_labels : int
        Labeled rows, and those that no training has used.
    until : datetime or None
        Time of the latest labeled row.
    """

    labels: int
    new_labels: int
    until: datetime | None


@dataclass(frozen=True)
class Decision:
    """Whether to train a challenger, with the evidence behind the decision."""

    decision: str
    trigger: str
    reasons: tuple[str, ...]
    label_counts: LabelCounts
    triggers: tuple[Trigger, ...]
    preconditions: tuple[Precondition, ...]
    windows: tuple[Window, ...]

    @property
    def retrain(self) -> bool:
        """Whether to retrain."""
        return self.decision == RETRAIN

    def to_dict(self) -> dict[str, Any]:
        """Convert to a JSON-serializable dict."""
        found = {"format_version": FORMAT, **asdict(self)}
        until = self.label_counts.until
        found["label_counts"]["until"] = until.isoformat() if until else None
        return found


def decide(  # noqa: PLR0913 evidence and parameters
    evaluation: Evaluation | None,
    labels: pd.DataFrame,
    policy: RetrainingPolicy,
    *,
    dataset: Dataset,
    log: Sequence[RetrainingDecision],
    now: datetime,
    source: str = "",
    forced: bool = False,
) -> Decision:
    """Decide whether to retrain.

    Parameters
    ----------
    evaluation : Evaluation or None
        Evaluation of the rows that the champion scored, sorted by ``time``; None without such rows.
    labels : pandas.DataFrame
        All labeled rows, whichever version scored them, sorted by ``time``; ``in_training`` flags training rows of the
        champion.
    policy : RetrainingPolicy
    dataset : Dataset
        Description of the champion.
    log : sequence of RetrainingDecision
        Earlier decisions about the same registered model, latest first.
    now : datetime
        UTC, timezone-aware.
    source : str
        Source of the labels; see `monitor.retraining.RetrainingDecision`.
    forced : bool
        Retrain regardless of triggers and preconditions, if there are enough labels to train and test on.
    """
    label_counts = _label_counts(labels, [entry for entry in log if entry.source == source])
    windows = tuple(_windows(evaluation, policy)) if evaluation else ()
    triggers = _triggers(evaluation, windows, policy)
    split = _can_be_split(labels, policy, dataset.target.name)
    preconditions = (split, *_preconditions(label_counts, policy, log, now))
    fired = [trigger for trigger in triggers if trigger.fired]
    missing = [precondition for precondition in preconditions if not precondition.met]
    if forced:
        summary = "retraining is forced (mode=force)" if split.met else f"retraining is forced, but {split.summary}"
        decision = (RETRAIN, FORCED) if split.met else (NO_ACTION, "")
        return Decision(*decision, (summary,), label_counts, triggers, preconditions, windows)
    if not fired:
        reasons = (
            "no trigger fires",
            *(f"{trigger.name}: {trigger.summary}" for trigger in triggers),
        )
        return Decision(NO_ACTION, "", reasons, label_counts, triggers, preconditions, windows)
    evidence = tuple(f"{trigger.name}: {trigger.summary}" for trigger in fired)
    if missing:
        reasons = (*(f"precondition not met: {precondition.summary}" for precondition in missing), *evidence)
        return Decision(NO_ACTION, "", reasons, label_counts, triggers, preconditions, windows)
    return Decision(RETRAIN, fired[0].kind, evidence, label_counts, triggers, preconditions, windows)


def split_by_time(labels: pd.DataFrame, test_size: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split labels into training labels and a temporal hold-out; rows with equal times stay together.

    Parameters
    ----------
    labels : pandas.DataFrame
        Sorted by ``time``; training rows of the champion (``in_training``) are excluded from the hold-out.
    test_size : float
        Share of the hold-out.
    """
    if labels.empty:
        return labels, labels
    last_training_time = labels[TIME].iloc[max(0, round(len(labels) * (1 - test_size)) - 1)]
    is_later = labels[TIME] > last_training_time
    is_test = is_later & ~labels[IN_TRAINING] if IN_TRAINING in labels else is_later
    return labels[~is_later], labels[is_test]


class Origin(NamedTuple):
    """Labels that a model is trained on, and later ones on which it is compared with the champion."""

    train: pd.DataFrame
    test: pd.DataFrame


def rolling_origins(labels: pd.DataFrame, holdout_size: float, n_origins: int, target: str) -> list[Origin]:
    """Split labels as they arrived: each origin has labels to compare on, and all earlier ones to train on.

    The last origin is that of the challenger, with the temporal hold-out of `split_by_time`. The labels before it are
    divided into as many parts as there are origins: the first part, of at least ``MIN_LABELED`` labels, is only trained
    on, each other one is compared on. Training rows of the champion are compared on nowhere.

    Parameters
    ----------
    labels : pandas.DataFrame
        Sorted by ``time``.
    holdout_size : float
        Share of the temporal hold-out.
    n_origins : int
        Number of origins; there are fewer where a block would have less than 50 rows, or where the labels before a
        block are of one class.
    target : str
        Name of the label.

    Notes
    -----
    Evaluation on a rolling forecasting origin: Tashman, Out-of-sample tests of forecasting accuracy, International
    Journal of Forecasting 16 (2000).
    """
    older, holdout = split_by_time(labels, holdout_size)
    # Rows with an earlier time: those of one time stay together.
    times = older[TIME].to_numpy()
    before = np.searchsorted(times, times)
    is_compared = before >= max(checks.MIN_LABELED, len(older) // n_origins)
    if IN_TRAINING in older:
        is_compared &= ~older[IN_TRAINING].to_numpy(dtype=bool)
    blocks = min(n_origins - 1, int(is_compared.sum()) // _MIN_BLOCK)
    earlier = []
    for places in np.array_split(np.flatnonzero(is_compared), blocks) if blocks else []:
        train = older.head(before[places[0]])
        made = int(train[target].sum())
        if min(made, len(train) - made) >= MIN_ROWS_PER_CLASS:
            earlier.append(Origin(train, older.iloc[places]))
    return [*earlier, Origin(older, holdout)]


def _can_be_split(labels: pd.DataFrame, policy: RetrainingPolicy, target: str) -> Precondition:
    parts = split_by_time(labels.tail(policy.max_labels), policy.holdout_size)
    rarest = min(min(int(part[target].sum()), int((1 - part[target]).sum())) for part in parts)
    older, later = map(len, parts)
    summary = (
        f"{older:,} training labels and {later:,} hold-out labels, with {rarest:,} or more of each class; "
        f"{checks.MIN_LABELED} of each part and {MIN_ROWS_PER_CLASS} of each class are needed. The hold-out excludes "
        "training rows of the champion, and rows with equal times stay together"
    )
    enough = min(older, later) >= checks.MIN_LABELED and rarest >= MIN_ROWS_PER_CLASS
    return Precondition("Training and hold-out labels", enough, summary)


def _label_counts(labels: pd.DataFrame, log: Sequence[RetrainingDecision]) -> LabelCounts:
    before = last_trained(log)
    new = len(labels)
    if before and before.labels_until:
        # Delayed labels may be of rows that are older than the latest labeled row.
        later = int((labels[TIME] > before.labels_until.replace(tzinfo=None)).sum())
        new = max(later, len(labels) - before.labels)
    until = labels[TIME].iloc[-1].to_pydatetime() if len(labels) else None
    return LabelCounts(len(labels), new, until)


def _windows(evaluation: Evaluation, policy: RetrainingPolicy) -> list[Window]:
    rows = evaluation.labeled
    found: list[Window] = []
    for end in range(len(rows), 0, -policy.window_size):
        window = rows.iloc[max(0, end - policy.window_size) : end]
        whole = len(window) == policy.window_size or (not found and len(window) >= MIN_IN_WINDOW)
        if not whole or len(found) == max(_MAX_TREND_WINDOWS, policy.windows):
            break
        found.append(_window(window, evaluation, policy))
    return found[::-1]


def _window(rows: pd.DataFrame, evaluation: Evaluation, policy: RetrainingPolicy) -> Window:
    found = evaluation.baseline.evaluate(rows)
    reference = evaluation.baseline.performance
    breaches = []
    for name, change in (("log_loss", "log loss rose"), ("f1_score", "F1 fell")):
        if not _comparable(name, found, reference):
            continue
        loss = relative_degradation(found, reference, name)
        if loss.value > policy.degradation_threshold and loss.low > 0:
            before, after = reference.metrics[name], found.metrics[name]
            breaches.append(f"{change} by {loss.value:.0%}, from {before:.3f} to {after:.3f}")
    compared = base_rate.compare(found)
    if compared and compared.result is base_rate.Result.WORSE:
        breaches.append(compared.message)
    return Window(
        rows[TIME].iloc[0].isoformat(),
        rows[TIME].iloc[-1].isoformat(),
        len(rows),
        found.metrics["log_loss"],
        found.metrics.get("f1_score"),
        compared.skill.value if compared else None,
        tuple(breaches),
    )


def _comparable(name: str, found: Performance, reference: Performance) -> bool:
    if name not in found.metrics or not reference.metrics.get(name):
        return False
    return min(found.counts[name], reference.counts[name]) >= _F1_ROWS


def _triggers(
    evaluation: Evaluation | None, windows: Sequence[Window], policy: RetrainingPolicy
) -> tuple[Trigger, ...]:
    found = [_breached(windows, policy)]
    if evaluation is None:
        return (*found, Trigger("Drift", PREDICTIVE, None, "the champion has not scored any row yet"))
    found.append(_trend(windows, evaluation.baseline.performance.metrics["log_loss"], policy))
    predictive = [check for check in CHECKS if check.code in PREDICTIVE_CHECKS]
    latest = replace(evaluation, current=evaluation.current.tail(policy.recent_rows))
    for result in run_checks(latest, predictive).results:
        unknown = result.status in {CheckStatus.ERROR, CheckStatus.SKIPPED}
        fired = None if unknown else result.status == CheckStatus.FAILED
        found.append(Trigger(f"{result.code} {result.title}", PREDICTIVE, fired, result.message, result.details))
    return tuple(found)


def _breached(windows: Sequence[Window], policy: RetrainingPolicy) -> Trigger:
    name = "Labeled windows"
    last = windows[-policy.windows :]
    if len(last) < policy.min_breached_windows:
        summary = (
            f"{len(last)} windows of {policy.window_size:,} labeled rows are available; "
            f"{policy.min_breached_windows} are needed"
        )
        return Trigger(name, REACTIVE, None, summary)
    bad = [window for window in last if window.breaches]
    fired = len(bad) >= policy.min_breached_windows and bool(last[-1].breaches)
    summary = f"{len(bad)} of the latest {len(last)} windows breach a threshold"
    if bad:
        latest = "including the latest" if last[-1].breaches else "not the latest"
        summary += f", {latest}: {'; '.join(bad[-1].breaches)}"
    return Trigger(name, REACTIVE, fired, summary)


def _trend(windows: Sequence[Window], reference: float, policy: RetrainingPolicy) -> Trigger:
    """Extrapolate a linear fit of the windows' log losses, with its lower confidence bound."""
    name = "Trend of log loss"
    if len(windows) < _MIN_TREND_WINDOWS:
        summary = f"{len(windows)} windows; a trend needs {_MIN_TREND_WINDOWS}"
        return Trigger(name, PREDICTIVE, None, summary)
    places, losses = np.arange(len(windows), dtype=float), np.array([window.log_loss for window in windows])
    line = stats.linregress(places, losses)
    ahead = places[-1] + policy.trend_horizon
    expected = line.intercept + line.slope * ahead
    spread = losses - (line.intercept + line.slope * places)
    freedom = len(windows) - 2
    deviation = float(np.sqrt((spread**2).sum() / freedom))
    leverage = 1 / len(places) + (ahead - places.mean()) ** 2 / ((places - places.mean()) ** 2).sum()
    low = expected - stats.t.ppf(_TREND_CONFIDENCE, freedom) * deviation * float(np.sqrt(leverage))
    limit = reference * (1 + policy.degradation_threshold)
    summary = (
        f"the extrapolated log loss in {policy.trend_horizon} windows is {expected:.3f}, "
        f"lower {_TREND_CONFIDENCE:.0%} bound {low:.3f}; the threshold is {limit:.3f}"
    )
    return Trigger(name, PREDICTIVE, bool(line.slope > 0 and low >= limit), summary, f"{line.slope:+.4f} per window")


def _preconditions(
    label_counts: LabelCounts, policy: RetrainingPolicy, log: Sequence[RetrainingDecision], now: datetime
) -> tuple[Precondition, ...]:
    rejected = _rejections(log)
    needed = policy.min_new_labels * min(2**rejected, _MAX_TIMES_LABELS)
    after = f", doubled after each rejected challenger ({rejected} in a row)" if rejected else ""
    labels = Precondition(
        "New labels",
        label_counts.new_labels >= needed,
        f"{label_counts.new_labels:,} new labeled rows, {needed:,} needed{after}",
    )
    before = last_trained(log)
    # A decision with a later time comes from a manual backtest and does not start a cooldown.
    age = now - before.decided_at if before and before.decided_at <= now else None
    cool = Precondition(
        "Cooldown",
        age is None or age >= policy.cooldown,
        "no training yet"
        if age is None
        else f"the latest training was {_format_duration(age)} ago, "
        f"the cooldown is {_format_duration(policy.cooldown)}",
    )
    today = [decision for decision in log if timedelta(0) <= now - decision.decided_at < timedelta(days=1)]
    trained = sum(decision.trained for decision in today)
    # Unfinished trainings do not count towards the daily maximum; a separate maximum prevents endless retries.
    unfinished = sum(decision.outcome in {FAILED, INTERRUPTED} for decision in today)
    summary = f"{trained} trainings within 24 hours, at most {policy.max_trainings_per_day}"
    if unfinished:
        summary += f"; {unfinished} failed or interrupted, at most {MAX_UNFINISHED_PER_DAY}"
    daily = Precondition(
        "Trainings per day", trained < policy.max_trainings_per_day and unfinished < MAX_UNFINISHED_PER_DAY, summary
    )
    return labels, cool, daily


def _rejections(log: Sequence[RetrainingDecision]) -> int:
    """Count the consecutive challengers that were rejected against the same champion."""
    count = 0
    for decision in log:
        if decision.outcome == PROMOTED or decision.champion != log[0].champion:
            break
        count += decision.outcome == REJECTED and decision.mode == "auto"
    return count


def _format_duration(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    return f"{span.days:,} days" if span.days > 1 else f"{hours:.1f} hours"
