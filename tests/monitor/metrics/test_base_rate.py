"""Three results of a comparison with the base rate, from one interval."""

import numpy as np
import pytest

from monitor.metrics.base_rate import Comparison, Result, classify, compare, differs
from monitor.metrics.intervals import Interval, evaluate_with_intervals


def graded(rows: int, accuracy: float, away: float = 0.05) -> tuple[list[float], list[float]]:
    """Labels and P(made) of rows with this accuracy."""
    half = rows // 2
    hits = round(half * accuracy)
    labels = [1.0] * hits + [0.0] * (half - hits) + [0.0] * hits + [1.0] * (half - hits)
    return labels, [0.5 + away] * half + [0.5 - away] * half


@pytest.mark.parametrize(
    ("rows", "accuracy", "expected"),
    [
        (20_000, 0.60, Result.BETTER),
        (20_000, 0.45, Result.WORSE),
        (400, 0.53, Result.NOT_DISTINGUISHABLE),
        (400, 0.50, Result.NOT_DISTINGUISHABLE),
    ],
)
def test_the_result_follows_from_the_interval_of_the_skill_score(rows: int, accuracy: float, expected: Result) -> None:
    found = compare(evaluate_with_intervals(*graded(rows, accuracy)))
    assert found
    assert found.result is expected
    assert found.result is classify(found.skill.low, found.skill.high)
    assert found.message.startswith(f"{expected.phrase}: skill score ")
    assert f"{rows:,} labeled rows" in found.message


def test_a_positive_skill_score_alone_is_not_better() -> None:
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


def test_labels_of_one_class_have_no_result() -> None:
    assert compare(evaluate_with_intervals([1.0, 1.0, 1.0], [0.4, 0.5, 0.6])) is None


def test_the_message_has_the_interval_where_there_is_one() -> None:
    found = Comparison(Result.BETTER, Interval(0.05, 0.01, 0.09), 1_234)
    interval = "95% interval +1.0% to +9.0%, "
    assert found.message == f"better than the base rate: skill score +5.0% ({interval}1,234 labeled rows)"
    alone = Comparison(Result.NOT_DISTINGUISHABLE, Interval(0.05, float("nan"), float("nan")), 1)
    assert alone.message == "not distinguishable from the base rate: skill score +5.0% (1 labeled rows)"


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_samples_of_one_class_do_not_differ_in_their_base_rate(label: float) -> None:
    one = evaluate_with_intervals([label] * 50, [0.4] * 50, samples=5)
    other = evaluate_with_intervals([1.0 - label] * 50, [0.4] * 50, samples=5)
    assert not differs(one, one)
    assert differs(one, other)


def test_one_row_is_not_distinguishable_from_the_base_rate() -> None:
    assert classify(float("nan"), float("nan")) is Result.NOT_DISTINGUISHABLE


def test_an_interval_that_ends_at_zero_is_not_distinguishable_from_the_base_rate() -> None:
    assert {classify(0, 0.1), classify(-0.1, 0)} == {Result.NOT_DISTINGUISHABLE}
