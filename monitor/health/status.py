"""Health status of a model, from the results of many small checks.

A check takes a `monitor.health.evaluation.Evaluation` and returns *passed*, *warning*, *failed*, or *skipped* with the
reason. A check that raises gives an *error*, and an error is an alarm: the monitor never shows a result that it could
not compute as healthy.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from monitor.health.evaluation import Evaluation

_log = logging.getLogger(__name__)


class CheckStatus(StrEnum):
    """Status of a check: a warning needs attention, a failed check recommends retraining."""

    PASSED = "passed"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"
    ERROR = "error"

    @property
    def is_alarm(self) -> bool:
        """Whether a person should act: a warning, a failed check, or an error."""
        return self in {CheckStatus.WARNING, CheckStatus.FAILED, CheckStatus.ERROR}


class HealthStatus(StrEnum):
    """Status of a model, from best to worst."""

    HEALTHY = "healthy"
    WARNING = "warning"
    RETRAIN = "retraining recommended"

    def is_at_least(self, other: "HealthStatus") -> bool:
        """Whether the status is as severe as another, or more severe.

        Examples
        --------
        >>> HealthStatus.WARNING.is_at_least(HealthStatus.RETRAIN)
        False
        """
        order = list(HealthStatus)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True)
class CheckResult:
    """Result of a check.

    Attributes
    ----------
    status : CheckStatus
    message : str
        Summary in plain words.
    details : str
        The numbers behind the summary.
    code, title : str
        Code and title of the check; `run_checks` fills them in.
    """

    status: CheckStatus
    message: str
    details: str = ""
    code: str = ""
    title: str = ""

    @property
    def is_alarm(self) -> bool:
        """See `CheckStatus.is_alarm`."""
        return self.status.is_alarm

    def to_dict(self) -> dict[str, str]:
        """Convert to strings, for files and tables."""
        return {
            "code": self.code,
            "title": self.title,
            "status": str(self.status),
            "message": self.message,
            "details": self.details,
        }


def passed(message: str, details: str = "") -> CheckResult:
    """Return the result of a check that found no problem."""
    return CheckResult(CheckStatus.PASSED, message, details)


def warning(message: str, details: str = "") -> CheckResult:
    """Return the result of a check that found a problem for a person to inspect."""
    return CheckResult(CheckStatus.WARNING, message, details)


def failed(message: str, details: str = "") -> CheckResult:
    """Return the result of a check that recommends retraining."""
    return CheckResult(CheckStatus.FAILED, message, details)


def skipped(reason: str) -> CheckResult:
    """Return the result of a check that does not apply."""
    return CheckResult(CheckStatus.SKIPPED, reason)


@dataclass(frozen=True)
class Check:
    """A check of an evaluation.

    Attributes
    ----------
    code : str
        Stable, for tags, metrics and documentation. ``K1..`` checks use labels, ``K2..`` compare tables, ``K3..``
        estimate performance, ``K4..`` concern serving.
    title : str
        Display name.
    worst : CheckStatus
        The most severe status that the check returns, ``WARNING`` or ``FAILED``.
    run : callable
        Takes an Evaluation and returns a CheckResult.
    """

    code: str
    title: str
    worst: CheckStatus
    run: Callable[[Evaluation], CheckResult]


@dataclass(frozen=True)
class HealthReport:
    """Results of all checks.

    Attributes
    ----------
    status : HealthStatus
    results : tuple of CheckResult
        In the order of the checks.
    """

    status: HealthStatus
    results: tuple[CheckResult, ...]

    @property
    def alarms(self) -> list[CheckResult]:
        """Warnings, failed checks and errors; failed checks come first."""
        alarms = [result for result in self.results if result.is_alarm]
        return sorted(alarms, key=lambda result: result.status != CheckStatus.FAILED)

    @property
    def reasons(self) -> list[str]:
        """Reasons for the status, in plain words; one line if there is no alarm."""
        if self.alarms:
            return [f"{result.title}: {result.message}" for result in self.alarms]
        n_passed = sum(result.status == CheckStatus.PASSED for result in self.results)
        n_skipped = len(self.results) - n_passed
        return [f"{n_passed} checks passed" + (f"; {n_skipped} were skipped" if n_skipped else "")]


def run_checks(evaluation: Evaluation, checks: Sequence[Check]) -> HealthReport:
    """Run all checks and derive the health status.

    Returns
    -------
    HealthReport
        *retraining recommended* if any check failed, *warning* if there is any other alarm, else *healthy*.
    """
    results = tuple(_run(check, evaluation) for check in checks)
    if any(result.status == CheckStatus.FAILED for result in results):
        return HealthReport(HealthStatus.RETRAIN, results)
    alarm = any(result.is_alarm for result in results)
    return HealthReport(HealthStatus.WARNING if alarm else HealthStatus.HEALTHY, results)


def _run(check: Check, evaluation: Evaluation) -> CheckResult:
    try:
        result = check.run(evaluation)
    except Exception as error:  # noqa: BLE001 any failure is an alarm, and the other checks still run
        _log.exception("check %s", check.code)
        result = CheckResult(CheckStatus.ERROR, f"could not be computed: {type(error).__name__}: {error}")
    return replace(result, code=check.code, title=check.title)
