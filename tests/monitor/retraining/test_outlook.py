"""What the retraining policy does next, and what becomes of the runner-up, in sentences."""

from datetime import UTC, date, datetime
from typing import Any

import pytest

from monitor.retraining.calendar import Cadence, NextMonitoringRun
from monitor.retraining.outlook import Runner, outlook, runner_up
from monitor.retraining.policy import RetrainingPolicy

NOW = datetime(2026, 11, 28, 9, tzinfo=UTC)
WEEKLY = NextMonitoringRun(Cadence.WEEK, NOW.date(), NOW.date())


def record(status: str = "failed", labeled: int = 5_412) -> dict[str, Any]:
    return {
        "time": "2026-11-28T08:00:00+00:00",
        "checks": [{"code": "K201", "status": status}],
        "current": {"labeled": labeled},
        "champion": "1",
    }


def text(found: dict[str, Any] | None, *, has_times: bool = True) -> str:
    return outlook(found, [], RetrainingPolicy(), WEEKLY, NOW, has_times=has_times).text()


def test_a_retraining_shows_its_date_who_starts_it_and_which_version_it_may_replace() -> None:
    assert text(record()) == (
        "Retraining is scheduled for Saturday 5 December 2026: the scheduler starts it then, or a person now. It "
        "trains a challenger on the older of the 5,412 labels and tests it on the newest. Version 1 is replaced only "
        "if the challenger is significantly better on those."
    )
    assert WEEKLY.due == date(2026, 12, 5)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (record("passed"), "There is nothing to do"),
        (record(labeled=120), "Retraining waits for new labels: 120 of 300 are there."),
        (None, "Nothing is known about this version yet."),
    ],
)
def test_what_delays_a_retraining_is_shown(found: dict[str, Any] | None, expected: str) -> None:
    assert text(found).startswith(expected)


def test_no_retraining_on_rows_without_times_is_shown() -> None:
    assert text(record(), has_times=False).startswith("The retraining policy orders labels by time")
    assert text(record("passed"), has_times=False).startswith("There is nothing to do")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-0.03, -0.01, "would do better here: log loss 0.6297 instead of 0.6514. There is no need to switch"),
        (0.01, 0.03, "would do worse here: log loss 0.6297 instead of 0.6514."),
        (-0.01, 0.01, "would do about the same here: log loss 0.6297 instead of 0.6514."),
    ],
)
def test_the_runner_up_is_named_with_what_to_do_about_it(low: float, high: float, expected: str) -> None:
    found = runner_up([Runner("Logistic Regression", 0.6297, 0.6514, low, high, 5_412)])
    assert found is not None
    assert expected in found.text()
