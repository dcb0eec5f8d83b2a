import logging
from collections.abc import Callable

import pytest

from monitor.health.evaluation import Evaluation
from monitor.health.status import (
    Check,
    CheckResult,
    CheckStatus,
    HealthReport,
    HealthStatus,
    failed,
    passed,
    run_checks,
    skipped,
    warning,
)
from tests.evaluations import batch, evaluation

PASSED = passed("nothing is wrong", "1 of 1")
SKIPPED = skipped("no row has a label")
WARNING = warning("something has drifted", "PSI 0.11")
FAILED = failed("everything has drifted", "PSI 9")


def check(result: CheckResult, code: str = "K999", title: str = "A check") -> Check:
    return Check(code, title, CheckStatus.FAILED, lambda _evaluation: result)


def broken(code: str = "K998") -> Check:
    def run(_evaluation: Evaluation) -> CheckResult:
        message = "no such column"
        raise KeyError(message)

    return Check(code, "A broken check", CheckStatus.WARNING, run)


@pytest.fixture(scope="module")
def report() -> Callable[..., HealthReport]:
    """Run checks, given as results or checks, on one evaluation."""
    evaluated = evaluation(batch(3))
    return lambda *results: run_checks(
        evaluated, [each if isinstance(each, Check) else check(each) for each in results]
    )


@pytest.mark.parametrize(
    ("results", "status"),
    [
        ([], HealthStatus.HEALTHY),
        ([PASSED, PASSED], HealthStatus.HEALTHY),
        ([PASSED, SKIPPED], HealthStatus.HEALTHY),
        ([SKIPPED], HealthStatus.HEALTHY),
        ([PASSED, WARNING, PASSED], HealthStatus.WARNING),
        ([WARNING, WARNING], HealthStatus.WARNING),
        ([PASSED, FAILED], HealthStatus.RETRAIN),
        ([WARNING, FAILED, SKIPPED], HealthStatus.RETRAIN),
        ([broken()], HealthStatus.WARNING),
        ([PASSED, broken(), WARNING], HealthStatus.WARNING),
        ([broken(), FAILED], HealthStatus.RETRAIN),
    ],
)
def test_the_health_status_follows_the_most_severe_result(
    report: Callable[..., HealthReport], results: list[CheckResult | Check], status: HealthStatus
) -> None:
    assert report(*results).status == status


def test_a_check_that_raises_is_an_error_with_its_reason_and_the_other_checks_run(
    report: Callable[..., HealthReport], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        found = report(PASSED, broken("K103"), WARNING)
    assert [result.status for result in found.results] == [CheckStatus.PASSED, CheckStatus.ERROR, CheckStatus.WARNING]
    error = found.results[1]
    assert error.is_alarm
    assert error.message == "could not be computed: KeyError: 'no such column'"
    assert found.reasons == [f"A broken check: {error.message}", "A check: something has drifted"]
    assert "check K103" in caplog.text
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("error", [ValueError(""), MemoryError("no room"), AssertionError(), RecursionError("deep")])
def test_a_check_that_raises_anything_is_never_healthy(report: Callable[..., HealthReport], error: Exception) -> None:
    def run(_evaluation: Evaluation) -> CheckResult:
        raise error

    found = report(PASSED, Check("K997", "A broken check", CheckStatus.WARNING, run))
    assert found.status == HealthStatus.WARNING
    assert type(error).__name__ in found.reasons[0]


def test_an_interrupt_is_not_an_error_of_a_check(report: Callable[..., HealthReport]) -> None:
    def run(_evaluation: Evaluation) -> CheckResult:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        report(Check("K997", "An interrupted check", CheckStatus.WARNING, run))


def test_reasons_name_alarms_only_with_failed_checks_first_and_otherwise_in_the_order_of_the_checks(
    report: Callable[..., HealthReport],
) -> None:
    found = report(
        PASSED,
        check(WARNING, title="First"),
        broken(),
        check(FAILED, title="Second"),
        SKIPPED,
        check(WARNING, title="Third"),
        check(FAILED, title="Fourth"),
    )
    assert [reason.partition(":")[0] for reason in found.reasons] == [
        "Second",
        "Fourth",
        "First",
        "A broken check",
        "Third",
    ]
    assert found.reasons[0] == "Second: everything has drifted"


def test_without_an_alarm_the_reason_counts_the_checks(report: Callable[..., HealthReport]) -> None:
    assert report(PASSED, PASSED).reasons == ["2 checks passed"]
    assert report(PASSED, SKIPPED, PASSED, SKIPPED, PASSED).reasons == ["3 checks passed; 2 were skipped"]


def test_only_warnings_failed_checks_and_errors_are_alarms(report: Callable[..., HealthReport]) -> None:
    found = report(PASSED, SKIPPED, WARNING, FAILED, broken())
    assert [result.is_alarm for result in found.results] == [False, False, True, True, True]
    assert len(found.alarms) == 3


def test_a_result_has_the_code_and_title_of_its_check_and_keeps_message_and_details(
    report: Callable[..., HealthReport],
) -> None:
    found = report(
        check(FAILED, "K201", "Feature drift"), check(SKIPPED, "K101", "Performance degradation"), broken("K202")
    )
    assert [result.to_dict() for result in found.results] == [
        {
            "code": "K201",
            "title": "Feature drift",
            "status": "failed",
            "message": "everything has drifted",
            "details": "PSI 9",
        },
        {
            "code": "K101",
            "title": "Performance degradation",
            "status": "skipped",
            "message": "no row has a label",
            "details": "",
        },
        {
            "code": "K202",
            "title": "A broken check",
            "status": "error",
            "message": "could not be computed: KeyError: 'no such column'",
            "details": "",
        },
    ]


@pytest.mark.parametrize(
    ("status", "at_least"),
    [
        (HealthStatus.HEALTHY, {HealthStatus.HEALTHY}),
        (HealthStatus.WARNING, {HealthStatus.HEALTHY, HealthStatus.WARNING}),
        (HealthStatus.RETRAIN, {HealthStatus.HEALTHY, HealthStatus.WARNING, HealthStatus.RETRAIN}),
    ],
)
def test_a_status_is_at_least_as_severe_as_the_statuses_below_it(
    status: HealthStatus, at_least: set[HealthStatus]
) -> None:
    assert {other for other in HealthStatus if status.is_at_least(other)} == at_least
