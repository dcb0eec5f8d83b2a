"""Three answers of a model beside its base rate, read from one interval."""

import numpy as np
import pytest

from monitor.metrics.base_rate import Result, classify, compare
from monitor.metrics.intervals import evaluate_with_intervals


def graded(rows: int, right: float, away: float = 0.05) -> tuple[list[float], list[float]]:
    """Labels and P(made) of rows of which a share is on the right side of one half."""
    half = rows // 2
    hits = round(half * right)
    labels = [1.0] * hits + [0.0] * (half - hits) + [0.0] * hits + [1.0] * (half - hits)
    return labels, [0.5 + away] * half + [0.5 - away] * half


@pytest.mark.parametrize(
    ("rows", "right", "expected"),
    [
        (20_000, 0.60, Result.BETTER),
        (20_000, 0.45, Result.WORSE),
        (400, 0.53, Result.NOT_DISTINGUISHABLE),
        (400, 0.50, Result.NOT_DISTINGUISHABLE),
    ],
)
def test_the_answer_is_that_of_the_interval_of_the_skill(rows: int, right: float, expected: Result) -> None:
    found = compare(evaluate_with_intervals(*graded(rows, right)))
    assert found
    assert found.result is expected
    assert found.result is classify(found.skill.low, found.skill.high)
    assert found.message.startswith(f"{expected.phrase}: skill score ")
    assert f"{rows:,} labeled rows" in found.message


def test_a_positive_skill_alone_is_not_called_better() -> None:
    found = compare(evaluate_with_intervals(*graded(400, 0.53)))
    assert found
    assert found.skill.value > 0 > found.skill.low
    assert "better" not in found.message


def test_a_constant_near_the_rate_is_neither_better_nor_worse() -> None:
    labels = (np.arange(4_000) % 100 < 33).astype(float)
    for constant in (0.33, 0.335):
        found = compare(evaluate_with_intervals(labels, np.full(4_000, constant)))
        assert found
        assert found.result is Result.NOT_DISTINGUISHABLE


def test_there_is_no_answer_where_all_rows_have_the_same_label() -> None:
    assert compare(evaluate_with_intervals([1.0, 1.0, 1.0], [0.4, 0.5, 0.6])) is None


def test_one_row_is_too_few_for_an_answer() -> None:
    assert classify(float("nan"), float("nan")) is Result.NOT_DISTINGUISHABLE
