import logging
from collections.abc import Callable

import pytest

from monitor.health.evaluation import Evaluation
from monitor.health.verdict import (
    Check,
    CheckResult,
    HealthReport,
    Severity,
    Status,
    Verdict,
    failed,
    not_applicable,
    passed,
    run_checks,
)
from tests.evaluations import batch, evaluation

FINE = passed("nothing is wrong", "1 of 1")
IDLE = not_applicable("no row has a label")
WARNING = failed(Severity.WARNING, "something has moved", "PSI 0.11")
RETRAIN = failed(Severity.RETRAIN, "everything has moved", "PSI 9")


def check(answer: CheckResult, code: str = "K999", title: str = "A check") -> Check:
    return Check(code, title, Severity.RETRAIN, lambda _look: answer)


def broken(code: str = "K998") -> Check:
    def ask(_look: Evaluation) -> CheckResult:
        message = "no such column"
        raise KeyError(message)

    return Check(code, "A broken check", Severity.WARNING, ask)


@pytest.fixture(scope="module")
def judged() -> Callable[..., HealthReport]:
    """What is said of a look by checks, given as answers or checks."""
    seen = evaluation(batch(3))
    return lambda *answers: run_checks(seen, [each if isinstance(each, Check) else check(each) for each in answers])


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        ([], Verdict.HEALTHY),
        ([FINE, FINE], Verdict.HEALTHY),
        ([FINE, IDLE], Verdict.HEALTHY),
        ([IDLE], Verdict.HEALTHY),
        ([FINE, WARNING, FINE], Verdict.WATCH),
        ([WARNING, WARNING], Verdict.WATCH),
        ([FINE, RETRAIN], Verdict.RETRAIN),
        ([WARNING, RETRAIN, IDLE], Verdict.RETRAIN),
        ([broken()], Verdict.WATCH),
        ([FINE, broken(), WARNING], Verdict.WATCH),
        ([broken(), RETRAIN], Verdict.RETRAIN),
    ],
)
def test_the_verdict_is_that_of_the_gravest_outcome(
    judged: Callable[..., HealthReport], answers: list[CheckResult | Check], verdict: Verdict
) -> None:
    assert judged(*answers).verdict == verdict


def test_a_check_that_raises_is_an_error_that_says_why_and_the_others_still_speak(
    judged: Callable[..., HealthReport], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        found = judged(FINE, broken("K103"), WARNING)
    assert [outcome.status for outcome in found.outcomes] == [Status.FINE, Status.ERROR, Status.FINDING]
    error = found.outcomes[1]
    assert error.is_alarm
    assert error.words == "could not be computed: KeyError: 'no such column'"
    assert error.severity is None
    assert found.reasons == [f"A broken check: {error.words}", "A check: something has moved"]
    assert "check K103" in caplog.text
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("error", [ValueError(""), MemoryError("no room"), AssertionError(), RecursionError("deep")])
def test_whatever_a_check_raises_is_never_healthy(judged: Callable[..., HealthReport], error: Exception) -> None:
    def ask(_look: Evaluation) -> CheckResult:
        raise error

    found = judged(FINE, Check("K997", "A broken check", Severity.WARNING, ask))
    assert found.verdict == Verdict.WATCH
    assert type(error).__name__ in found.reasons[0]


def test_an_interrupt_is_not_taken_for_an_error_of_a_check(judged: Callable[..., HealthReport]) -> None:
    def ask(_look: Evaluation) -> CheckResult:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judged(Check("K997", "An interrupted check", Severity.WARNING, ask))


def test_reasons_name_alarms_only_the_gravest_first_and_else_in_the_order_of_the_checks(
    judged: Callable[..., HealthReport],
) -> None:
    found = judged(
        FINE,
        check(WARNING, title="First"),
        broken(),
        check(RETRAIN, title="Second"),
        IDLE,
        check(WARNING, title="Third"),
        check(RETRAIN, title="Fourth"),
    )
    assert [reason.partition(":")[0] for reason in found.reasons] == [
        "Second",
        "Fourth",
        "First",
        "A broken check",
        "Third",
    ]
    assert found.reasons[0] == "Second: everything has moved"


def test_without_an_alarm_the_reason_tells_how_much_was_looked_at(judged: Callable[..., HealthReport]) -> None:
    assert judged(FINE, FINE).reasons == ["2 checks found nothing"]
    assert judged(FINE, IDLE, FINE, IDLE, FINE).reasons == ["3 checks found nothing; 2 had nothing to look at"]


def test_only_findings_and_errors_are_alarms(judged: Callable[..., HealthReport]) -> None:
    found = judged(FINE, IDLE, WARNING, RETRAIN, broken())
    assert [outcome.is_alarm for outcome in found.outcomes] == [False, False, True, True, True]
    assert len(found.alarms) == 3


def test_an_outcome_keeps_the_order_the_words_and_the_figures_of_its_check(judged: Callable[..., HealthReport]) -> None:
    found = judged(check(RETRAIN, "K201", "Feature drift"), check(IDLE, "K101", "Label metrics"), broken("K202"))
    assert [outcome.record() for outcome in found.outcomes] == [
        {
            "code": "K201",
            "title": "Feature drift",
            "status": "finding",
            "severity": "retrain",
            "words": "everything has moved",
            "figures": "PSI 9",
        },
        {
            "code": "K101",
            "title": "Label metrics",
            "status": "not applicable",
            "severity": "",
            "words": "no row has a label",
            "figures": "",
        },
        {
            "code": "K202",
            "title": "A broken check",
            "status": "error",
            "severity": "",
            "words": "could not be computed: KeyError: 'no such column'",
            "figures": "",
        },
    ]


@pytest.mark.parametrize(
    ("verdict", "as_bad_as"),
    [
        (Verdict.HEALTHY, {Verdict.HEALTHY}),
        (Verdict.WATCH, {Verdict.HEALTHY, Verdict.WATCH}),
        (Verdict.RETRAIN, {Verdict.HEALTHY, Verdict.WATCH, Verdict.RETRAIN}),
    ],
)
def test_a_verdict_is_at_least_as_bad_as_those_that_are_not_worse(verdict: Verdict, as_bad_as: set[Verdict]) -> None:
    assert {other for other in Verdict if verdict.is_at_least(other)} == as_bad_as
