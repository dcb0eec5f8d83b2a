"""One verdict from many small checks: whether the model can be trusted today, and if not, why.

A check looks at a `monitor.health.evaluation.Evaluation` and answers *fine*, *finding* or *not applicable* (with the
reason). One that raises is an *error*, and an error is an alarm: what could not be computed is never shown as healthy.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from monitor.health.evaluation import Evaluation

_log = logging.getLogger(__name__)


class Status(StrEnum):
    """What a check ended with."""

    FINE = "fine"
    FINDING = "finding"
    NOT_APPLICABLE = "not applicable"
    ERROR = "error"


class Severity(StrEnum):
    """What a finding asks for: attention, or a new model."""

    WARNING = "warning"
    RETRAIN = "retrain"


class Verdict(StrEnum):
    """The answer, from best to worst."""

    HEALTHY = "healthy"
    WATCH = "watch"
    RETRAIN = "retrain"

    def is_at_least(self, other: "Verdict") -> bool:
        """Whether it is as bad as another, or worse.

        Examples
        --------
        >>> Verdict.WATCH.is_at_least(Verdict.RETRAIN), Verdict.RETRAIN.is_at_least(Verdict.WATCH)
        (False, True)
        """
        order = list(Verdict)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True)
class CheckResult:
    """What a check says: its status, plain words, the figures behind them, and what a finding asks for."""

    status: Status
    words: str
    figures: str = ""
    severity: Severity | None = None


def passed(words: str, figures: str = "") -> CheckResult:
    """Nothing is wrong, and why that is known."""
    return CheckResult(Status.FINE, words, figures)


def failed(severity: Severity, words: str, figures: str = "") -> CheckResult:
    """Something is wrong."""
    return CheckResult(Status.FINDING, words, figures, severity)


def not_applicable(reason: str) -> CheckResult:
    """The check has nothing to look at."""
    return CheckResult(Status.NOT_APPLICABLE, reason)


@dataclass(frozen=True)
class Check:
    """A question to a look.

    Attributes
    ----------
    code : str
        Stable, for tags, metrics and the documentation; ``K1..`` need labels, ``K2..`` compare tables, ``K3..``
        estimate, ``K4..`` are about the operation.
    title : str
        What is looked at.
    severity : Severity
        The worst that it may ask for.
    ask : callable
        Look → Answer.
    """

    code: str
    title: str
    severity: Severity
    ask: Callable[[Evaluation], CheckResult]


@dataclass(frozen=True)
class Outcome:
    """A check and what it said."""

    code: str
    title: str
    status: Status
    severity: Severity | None
    words: str
    figures: str

    @property
    def is_alarm(self) -> bool:
        """Whether somebody should look: a finding, or a check that could not be made."""
        return self.status in {Status.FINDING, Status.ERROR}

    def record(self) -> dict[str, str]:
        """As texts, for files and tables."""
        return {
            "code": self.code,
            "title": self.title,
            "status": str(self.status),
            "severity": str(self.severity or ""),
            "words": self.words,
            "figures": self.figures,
        }


@dataclass(frozen=True)
class HealthReport:
    """What all checks said.

    Attributes
    ----------
    verdict : Verdict
    outcomes : tuple of Outcome
        In the order of the checks.
    """

    verdict: Verdict
    outcomes: tuple[Outcome, ...]

    @property
    def alarms(self) -> list[Outcome]:
        """Findings and errors, the gravest first."""
        found = [outcome for outcome in self.outcomes if outcome.is_alarm]
        return sorted(found, key=lambda outcome: outcome.severity != Severity.RETRAIN)

    @property
    def reasons(self) -> list[str]:
        """Why the verdict is what it is, in plain words; one line where all is well."""
        if self.alarms:
            return [f"{outcome.title}: {outcome.words}" for outcome in self.alarms]
        made = sum(outcome.status == Status.FINE for outcome in self.outcomes)
        idle = len(self.outcomes) - made
        return [f"{made} checks found nothing" + (f"; {idle} had nothing to look at" if idle else "")]


def run_checks(look: Evaluation, checks: Sequence[Check]) -> HealthReport:
    """Ask all checks, and judge.

    Returns
    -------
    Health
        *retrain* if a finding asks for it, *watch* if there is any other finding or an error, else *healthy*.
    """
    outcomes = tuple(_ask(check, look) for check in checks)
    if any(outcome.status == Status.FINDING and outcome.severity == Severity.RETRAIN for outcome in outcomes):
        return HealthReport(Verdict.RETRAIN, outcomes)
    alarmed = any(outcome.is_alarm for outcome in outcomes)
    return HealthReport(Verdict.WATCH if alarmed else Verdict.HEALTHY, outcomes)


def _ask(check: Check, look: Evaluation) -> Outcome:
    try:
        answer = check.ask(look)
    except Exception as error:  # noqa: BLE001 whatever fails is an alarm, and the other checks still speak
        _log.exception("check %s", check.code)
        answer = CheckResult(Status.ERROR, f"could not be computed: {type(error).__name__}: {error}")
    return Outcome(check.code, check.title, answer.status, answer.severity, answer.words, answer.figures)
