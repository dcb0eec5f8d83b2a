"""Whether it is time for a new model: signals that ask for one, and guards that keep the loop from thrashing.

Pure: it computes a decision from tables, figures and a log of earlier decisions; `steps.retreino` acts.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from data.schema import IN_TRAINING, PROBABILITY, TARGET
from monitor.health import checks
from monitor.health.checks import CHECKS
from monitor.health.evaluation import Evaluation
from monitor.health.status import CheckStatus, run_checks
from monitor.metrics import base_rate
from monitor.metrics.intervals import Performance, evaluate_with_intervals, relative_degradation
from monitor.retraining.decision_log import last_trained
from monitor.retraining.promotion_test import MIN_ROWS_PER_CLASS
from monitor.store.records import FAILED, INTERRUPTED, NO_ACTION, PROMOTED, REJECTED, RETRAIN, RetrainingDecision
from monitor.store.tables import TIME

REACTIVE, PREDICTIVE, FORCED = "reactive", "predictive", "forced"
MIN_IN_WINDOW = checks.MIN_LABELED
MIN_LABELS = 2 * checks.MIN_LABELED
"""Labelled rows without which nothing is trained: some to learn from, later ones to be tested on."""

_PREDICTIVE_CHECKS = ("K201", "K204", "K301")
_MIN_TREND_WINDOWS, _MAX_TREND_WINDOWS = 4, 12
_TREND_CONFIDENCE = 0.95
_F1_ROWS = 30
_MAX_TIMES_LABELS = 8


MAX_UNFINISHED_PER_DAY = 5
"""Trainings within 24 hours that failed, or were interrupted, after which no other is begun."""


@dataclass(frozen=True)
class RetrainingPolicy:
    """When to retrain.

    Attributes
    ----------
    window_size : int
        Labelled rows in a window.
    windows, violations : int
        Retrain when at least `min_breached_windows` of the last `windows` windows violate, and the latest does.
    degradation_threshold : float
        Relative rise of log loss, or fall of F1, against the champion's reference from which a window violates.
    horizon : int
        Windows ahead within which a trend that reaches the limit counts.
    min_new_labels : int
        Labelled rows that no training has learned from; twice as many after each challenger that the same champion
        has stood, up to eight times.
    cooldown : timedelta
        Time between two trainings.
    max_trainings_per_day : int
        Trainings within 24 hours that came to their end; see also ``MAX_UNFINISHED_PER_DAY``.
    max_labels : int
        Labels, the latest ones, that a training uses.
    holdout_size : float
        Share of them, the latest ones, that a challenger is tested on.
    recent_rows : int
        Rows, the latest ones that the champion scored, that predictive signals evaluation at.
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
    holdout_size: float = 0.5
    recent_rows: int = 2_000


@dataclass(frozen=True)
class Window:
    """A stretch of labelled rows that the champion has scored.

    Attributes
    ----------
    start, end : str
        Times of the oldest and newest row, ISO 8601.
    rows : int
    log_loss, f1_score, skill : float or None
        Of the champion; None where F1 is not defined. Skill is against the constant that fits the window best.
    violations : tuple of str
        In words; empty where the window is fine.
    """

    start: str
    end: str
    rows: int
    log_loss: float
    f1_score: float | None
    skill: float | None
    violations: tuple[str, ...]


@dataclass(frozen=True)
class Trigger:
    """Something that may ask for a new model.

    Attributes
    ----------
    name : str
    kind : str
        ``reactive`` or ``predictive``.
    fired : bool or None
        Whether it does; None where it cannot be told.
    words, figures : str
    """

    name: str
    kind: str
    fired: bool | None
    words: str
    figures: str = ""


@dataclass(frozen=True)
class Precondition:
    """Something that must hold before a model is trained."""

    name: str
    holds: bool
    words: str


@dataclass(frozen=True)
class LabelCounts:
    """What had arrived at the moment of a decision.

    Attributes
    ----------
    labels, new_labels : int
        Labelled rows, and those of them that no training has learned from.
    until : datetime or None
        Time of the newest.
    """

    labels: int
    new_labels: int
    until: datetime | None


@dataclass(frozen=True)
class Decision:
    """Whether to train a challenger, and all that it was decided by."""

    decision: str
    trigger: str
    reasons: tuple[str, ...]
    arrived: LabelCounts
    signals: tuple[Trigger, ...]
    guards: tuple[Precondition, ...]
    windows: tuple[Window, ...]

    @property
    def retrain(self) -> bool:
        """Whether to."""
        return self.decision == RETRAIN

    def record(self) -> dict[str, Any]:
        """As JSON takes it."""
        found = asdict(self)
        found["arrived"]["until"] = self.arrived.until.isoformat() if self.arrived.until else None
        return found


def decide(  # noqa: PLR0913 what is known, and what is asked
    evaluation: Evaluation | None,
    labels: pd.DataFrame,
    policy: RetrainingPolicy,
    *,
    log: Sequence[RetrainingDecision],
    now: datetime,
    source: str = "",
    forced: bool = False,
) -> Decision:
    """Decide.

    Parameters
    ----------
    evaluation : Look or None
        The rows that the champion has scored, in the order of their ``time``, beside its baseline; None if there are
        none.
    labels : pandas.DataFrame
        Every labelled row that has arrived, whoever scored it, in the order of ``time``; ``learned`` where the
        champion has learned from it.
    policy : Policy
    log : sequence of RetrainingDecision
        Earlier decisions about the same registered model, newest first.
    now : datetime
        UTC, with its zone.
    source : str
        Where the labels are; see `monitor.retraining.RetrainingDecision`.
    forced : bool
        Retrain whatever signals and guards say, if there are labels enough to learn from and to be tested on.
    """
    arrived = _arrived(labels, [entry for entry in log if entry.source == source])
    windows = tuple(_windows(evaluation, policy)) if evaluation else ()
    signals = _signals(evaluation, windows, policy)
    split = _can_be_split(labels, policy)
    guards = (split, *_guards(arrived, policy, log, now))
    asking = [signal for signal in signals if signal.fired]
    missing = [guard for guard in guards if not guard.holds]
    if forced:
        words = "it was asked for (mode=force)" if split.holds else f"it was asked for, but {split.words}"
        chosen = (RETRAIN, FORCED) if split.holds else (NO_ACTION, "")
        return Decision(*chosen, (words,), arrived, signals, guards, windows)
    if not asking:
        reasons = (
            "no rule of the loop asks for a new model",
            *(f"{signal.name}: {signal.words}" for signal in signals),
        )
        return Decision(NO_ACTION, "", reasons, arrived, signals, guards, windows)
    asked = tuple(f"{signal.name}: {signal.words}" for signal in asking)
    if missing:
        reasons = (*(f"not now: {guard.words}" for guard in missing), *asked)
        return Decision(NO_ACTION, "", reasons, arrived, signals, guards, windows)
    return Decision(RETRAIN, asking[0].kind, asked, arrived, signals, guards, windows)


def split_by_time(labels: pd.DataFrame, test_size: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Older labels to learn from, and later ones to be tested on; rows of one time stay together.

    Parameters
    ----------
    labels : pandas.DataFrame
        In the order of ``time``; rows that are ``learned`` are no test rows.
    test_size : float
        Share of the later ones.
    """
    if labels.empty:
        return labels, labels
    newest_learned = labels[TIME].iloc[max(0, round(len(labels) * (1 - test_size)) - 1)]
    is_later = labels[TIME] > newest_learned
    is_test = is_later & ~labels[IN_TRAINING] if IN_TRAINING in labels else is_later
    return labels[~is_later], labels[is_test]


def _can_be_split(labels: pd.DataFrame, policy: RetrainingPolicy) -> Precondition:
    parts = split_by_time(labels.tail(policy.max_labels), policy.holdout_size)
    rarest = min(min(int(part[TARGET].sum()), int((1 - part[TARGET]).sum())) for part in parts)
    older, later = map(len, parts)
    words = (
        f"{older:,} older labels to learn from and {later:,} later ones to be tested on, which the champion has not "
        f"learned from, with {rarest:,} or more of each result; {checks.MIN_LABELED} and {MIN_ROWS_PER_CLASS} are "
        "needed, and rows of one time stay together"
    )
    enough = min(older, later) >= checks.MIN_LABELED and rarest >= MIN_ROWS_PER_CLASS
    return Precondition("Older and later labels", enough, words)


def _arrived(labels: pd.DataFrame, log: Sequence[RetrainingDecision]) -> LabelCounts:
    before = last_trained(log)
    new = len(labels)
    if before and before.labels_until:
        # Labels also come late, for rows older than the newest labelled one.
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
    found = evaluate_with_intervals(rows[TARGET], rows[PROBABILITY], threshold=evaluation.baseline.threshold)
    reference = evaluation.baseline.performance
    violations = []
    for name, words in (("log_loss", "log loss rose"), ("f1_score", "F1 fell")):
        if not _comparable(name, found, reference):
            continue
        loss = relative_degradation(found, reference, name)
        if loss.value > policy.degradation_threshold and loss.low > 0:
            before, after = reference.metrics[name], found.metrics[name]
            violations.append(f"{words} by {loss.value:.0%}, from {before:.3f} to {after:.3f}")
    compared = base_rate.compare(found)
    if compared and compared.result is base_rate.Result.WORSE:
        violations.append(compared.message)
    return Window(
        rows[TIME].iloc[0].isoformat(),
        rows[TIME].iloc[-1].isoformat(),
        len(rows),
        found.metrics["log_loss"],
        found.metrics.get("f1_score"),
        compared.skill.value if compared else None,
        tuple(violations),
    )


def _comparable(name: str, found: Performance, reference: Performance) -> bool:
    if name not in found.metrics or not reference.metrics.get(name):
        return False
    return min(found.counts[name], reference.counts[name]) >= _F1_ROWS


def _signals(evaluation: Evaluation | None, windows: Sequence[Window], policy: RetrainingPolicy) -> tuple[Trigger, ...]:
    found = [_violated(windows, policy)]
    if evaluation is None:
        return (*found, Trigger("Drift", PREDICTIVE, None, "the champion has scored no row yet"))
    found.append(_trend(windows, evaluation.baseline.performance.metrics["log_loss"], policy))
    asked = [check for check in CHECKS if check.code in _PREDICTIVE_CHECKS]
    latest = replace(evaluation, current=evaluation.current.tail(policy.recent_rows))
    for result in run_checks(latest, asked).results:
        unknown = result.status in {CheckStatus.ERROR, CheckStatus.SKIPPED}
        fired = None if unknown else result.status == CheckStatus.FAILED
        found.append(Trigger(f"{result.code} {result.title}", PREDICTIVE, fired, result.message, result.details))
    return tuple(found)


def _violated(windows: Sequence[Window], policy: RetrainingPolicy) -> Trigger:
    name = "Labelled windows"
    last = windows[-policy.windows :]
    if len(last) < policy.min_breached_windows:
        words = (
            f"{len(last)} of the {policy.min_breached_windows} windows of {policy.window_size:,} labelled rows "
            "that the champion scored are there"
        )
        return Trigger(name, REACTIVE, None, words)
    bad = [window for window in last if window.violations]
    fired = len(bad) >= policy.min_breached_windows and bool(last[-1].violations)
    words = f"{len(bad)} of the last {len(last)} windows violate a limit"
    if bad:
        latest = "the latest does too" if last[-1].violations else "the latest does not"
        words += f", {latest}: {'; '.join(bad[-1].violations)}"
    return Trigger(name, REACTIVE, fired, words)


def _trend(windows: Sequence[Window], reference: float, policy: RetrainingPolicy) -> Trigger:
    """A straight line through the windows' log losses, and where its lower end will be."""
    name = "Trend of log loss"
    if len(windows) < _MIN_TREND_WINDOWS:
        words = f"{len(windows)} windows; a trend takes {_MIN_TREND_WINDOWS}"
        return Trigger(name, PREDICTIVE, None, words)
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
    words = (
        f"log loss is expected to be {expected:.3f} within {policy.trend_horizon} windows, at least {low:.3f} "
        f"({_TREND_CONFIDENCE:.0%}); the limit is {limit:.3f}"
    )
    return Trigger(name, PREDICTIVE, bool(line.slope > 0 and low >= limit), words, f"{line.slope:+.4f} a window")


def _guards(
    arrived: LabelCounts, policy: RetrainingPolicy, log: Sequence[RetrainingDecision], now: datetime
) -> tuple[Precondition, ...]:
    refused = _refusals(log)
    needed = policy.min_new_labels * min(2**refused, _MAX_TIMES_LABELS)
    after = f", more after each refused challenger ({refused} in a row)" if refused else ""
    labels = Precondition(
        "New labels",
        arrived.new_labels >= needed,
        f"{arrived.new_labels:,} labelled rows are new, {needed:,} are needed{after}",
    )
    before = last_trained(log)
    # A decision of a later moment comes from a replay by hand and says nothing of the time that has passed.
    age = now - before.decided_at if before and before.decided_at <= now else None
    cool = Precondition(
        "Cooldown",
        age is None or age >= policy.cooldown,
        "nothing has been trained yet"
        if age is None
        else f"the last training was {_told(age)} ago, {_told(policy.cooldown)} must pass",
    )
    today = [decision for decision in log if timedelta(0) <= now - decision.decided_at < timedelta(days=1)]
    trained = sum(decision.trained for decision in today)
    # A training that did not finish takes nothing from the day's trainings, and is not repeated without end either.
    unfinished = sum(decision.outcome in {FAILED, INTERRUPTED} for decision in today)
    words = f"{trained} trainings within 24 hours, at most {policy.max_trainings_per_day}"
    if unfinished:
        words += f"; {unfinished} that failed or were interrupted, at most {MAX_UNFINISHED_PER_DAY}"
    daily = Precondition(
        "Trainings a day", trained < policy.max_trainings_per_day and unfinished < MAX_UNFINISHED_PER_DAY, words
    )
    return labels, cool, daily


def _refusals(log: Sequence[RetrainingDecision]) -> int:
    """Challengers in a row that the same champion has stood."""
    count = 0
    for decision in log:
        if decision.outcome == PROMOTED or decision.champion != log[0].champion:
            break
        count += decision.outcome == REJECTED and decision.mode == "auto"
    return count


def _told(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    return f"{span.days:,} days" if span.days > 1 else f"{hours:.1f} hours"
