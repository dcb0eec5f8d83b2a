import numpy as np
import numpy.typing as npt
import pytest

from monitor.metrics.binary import log_loss_by_row
from serving.registry import gate
from serving.registry.gate import MIN_SKILL, describe_constant, is_constant, paired_bootstrap

ROWS, TRIALS = 4_000, 100


def losses(seed: int, skill: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Losses of a model and of the base-rate baseline on the same rows; skill 0 ignores the features."""
    generator = np.random.default_rng(seed)
    probability = np.clip(generator.normal(0.47, 0.09, ROWS), 0.05, 0.95)
    labels = (generator.random(ROWS) < probability).astype(float)
    predicted = np.where(skill, probability, np.clip(generator.normal(0.47, 0.02, ROWS), 0.05, 0.95))
    return log_loss_by_row(labels, predicted), log_loss_by_row(labels, np.full(ROWS, labels.mean()))


def share_passed(skill: float) -> float:
    results = [gate.compare(*losses(seed, skill), reference_name="prior", seed=seed) for seed in range(TRIALS)]
    return sum(result.passed for result in results) / TRIALS


def test_a_model_without_skill_does_not_pass() -> None:
    assert share_passed(0) <= 0.05


def test_a_model_with_the_true_probabilities_passes() -> None:
    assert share_passed(1) >= 0.95


def test_a_significant_but_tiny_improvement_does_not_pass() -> None:
    _, reference = losses(0, 1)
    # As of a model with almost constant predictions: better in every row, by almost nothing.
    loss = reference * (1 - MIN_SKILL / 2)
    result = gate.compare(loss, reference, reference_name="the baseline", seed=0, min_improvement=MIN_SKILL)
    assert result.high < 0
    assert not result.passed
    assert result.reason.endswith("significantly better; improvement 0.10%, minimum 0.20%")
    enough = gate.compare(
        reference * (1 - 2 * MIN_SKILL), reference, reference_name="it", seed=0, min_improvement=MIN_SKILL
    )
    assert enough.passed


def test_a_model_with_the_true_probabilities_is_better_by_enough() -> None:
    for seed in range(20):
        assert gate.compare(*losses(seed, 1), reference_name="", seed=seed, min_improvement=MIN_SKILL).passed


@pytest.mark.parametrize(("spread", "constant"), [(0.0, True), (0.001, True), (0.02, False), (0.08, False)])
def test_predictions_that_hardly_differ_are_constant(spread: float, *, constant: bool) -> None:
    made = np.random.default_rng(0).normal(0.48127, spread, 1_000)
    assert is_constant(made) is constant
    assert f"P(made) is {made.min():.5f} to {made.max():.5f} for all 1,000 rows" in describe_constant(made)


def test_the_interval_of_very_many_rows_is_that_of_the_resampling(monkeypatch: pytest.MonkeyPatch) -> None:
    resampled = paired_bootstrap(*losses(0, 1), seed=0)
    monkeypatch.setattr(gate, "_MAX_RESAMPLED", ROWS - 1)
    found = paired_bootstrap(*losses(0, 1), seed=0)
    width = resampled.high - resampled.low
    assert found.low != resampled.low
    assert [found.low, found.high] == pytest.approx([resampled.low, resampled.high], abs=0.1 * width)


def test_an_equal_model_does_not_pass() -> None:
    loss, _ = losses(0, 1)
    assert not gate.compare(loss, loss, reference_name="itself", seed=0).passed


def test_the_reason_has_both_losses_and_the_interval() -> None:
    result = gate.compare(*losses(0, 1), reference_name="the baseline", seed=0)
    assert f"{result.loss:.4f} against {result.reference_loss:.4f} of the baseline" in result.reason
    assert result.low < result.loss - result.reference_loss < result.high


@pytest.mark.parametrize(
    ("loss", "reference"),
    [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, np.inf], [1.0, 1.0]), ([1.0, np.nan], [1.0, 1.0])],
)
def test_losses_that_cannot_be_compared_are_rejected(loss: list[float], reference: list[float]) -> None:
    for compare in (paired_bootstrap, lambda *sides, seed: gate.compare(*sides, reference_name="prior", seed=seed)):
        with pytest.raises(ValueError, match="expected"):
            compare(loss, reference, seed=0)


def test_a_comparison_has_the_mean_difference_and_its_interval() -> None:
    loss, reference = losses(0, 1)
    found = paired_bootstrap(loss, reference, seed=0)
    assert (found.rows, found.loss, found.reference_loss) == (ROWS, loss.mean(), reference.mean())
    assert found.value == pytest.approx((loss - reference).mean())
    assert found.low < found.value < found.high < 0
    # The ends are those of a normal distribution, as 4,000 rows make the mean one.
    deviation = (loss - reference).std() / np.sqrt(ROWS)
    assert found.low == pytest.approx(found.value - 1.96 * deviation, abs=0.2 * deviation)
    assert found.high == pytest.approx(found.value + 1.96 * deviation, abs=0.2 * deviation)


def test_better_and_worse_are_significant_and_opposites() -> None:
    loss, reference = losses(0, 1)
    better, worse = paired_bootstrap(loss, reference, seed=0), paired_bootstrap(reference, loss, seed=0)
    assert (better.better, better.worse) == (True, False)
    assert (worse.better, worse.worse) == (False, True)
    few = paired_bootstrap(loss[:20], reference[:20], seed=0)
    assert few.low < 0 < few.high
    assert (few.better, few.worse) == (False, False)


def test_equal_losses_are_neither_better_nor_worse() -> None:
    loss, _ = losses(0, 1)
    found = paired_bootstrap(loss, loss, seed=0)
    assert (found.value, found.low, found.high, found.better, found.worse) == (0, 0, 0, False, False)


def test_more_confidence_requires_more_evidence() -> None:
    loss, reference = (side[:300] for side in losses(3, 1))
    ends = [paired_bootstrap(loss, reference, seed=0, confidence=confidence) for confidence in (0.5, 0.9, 0.99)]
    assert [found.low for found in ends] == sorted((found.low for found in ends), reverse=True)
    assert [found.high for found in ends] == sorted(found.high for found in ends)
    assert len({found.value for found in ends}) == 1


def test_a_comparison_depends_on_the_seed_alone() -> None:
    loss, reference = losses(0, 1)
    assert paired_bootstrap(loss, reference, seed=3) == paired_bootstrap(loss, reference, seed=3)
    assert paired_bootstrap(loss, reference, seed=3) != paired_bootstrap(loss, reference, seed=4)


def test_rows_are_compared_in_pairs() -> None:
    loss, _ = losses(0, 1)
    reference = loss + np.random.default_rng(0).normal(0.01, 0.02, ROWS)
    shuffled = np.random.default_rng(0).permutation(reference)
    paired, unpaired = paired_bootstrap(loss, reference, seed=0), paired_bootstrap(loss, shuffled, seed=0)
    assert paired.high - paired.low < 0.5 * (unpaired.high - unpaired.low)


def test_the_result_has_the_numbers_of_the_comparison() -> None:
    loss, reference = losses(0, 1)
    result, found = (
        gate.compare(loss, reference, reference_name="prior", seed=0),
        paired_bootstrap(loss, reference, seed=0),
    )
    assert result.metrics() == {
        "loss": found.loss,
        "reference_loss": found.reference_loss,
        "low": found.low,
        "high": found.high,
    }


def test_copies_of_a_row_in_one_group_are_no_further_evidence() -> None:
    stream = np.random.default_rng(5)
    reference, difference = stream.uniform(0.5, 0.9, 40), stream.normal(-0.01, 0.04, 40)
    copies = np.repeat(np.arange(40), 25)
    loss, reference_loss = (reference + difference)[copies], reference[copies]
    by_row = paired_bootstrap(loss, reference_loss, seed=0)
    by_group = paired_bootstrap(loss, reference_loss, seed=0, groups=copies)
    once = paired_bootstrap(reference + difference, reference, seed=0)
    assert by_row.better
    assert not by_group.better
    assert by_group.value == pytest.approx(by_row.value)
    assert by_group.high - by_group.low == pytest.approx(once.high - once.low, rel=0.15)


def test_groups_of_one_row_give_the_interval_of_rows() -> None:
    loss, reference = losses(3, 1)
    by_row = paired_bootstrap(loss, reference, seed=0)
    by_group = paired_bootstrap(loss, reference, seed=0, groups=np.arange(ROWS))
    assert (by_group.low, by_group.high) == pytest.approx((by_row.low, by_row.high), abs=5e-4)


def test_a_single_group_is_never_significant() -> None:
    loss, reference = losses(3, 1)
    found = paired_bootstrap(loss, reference, seed=0, groups=np.zeros(ROWS))
    assert not found.better
    assert not found.worse
    assert np.isfinite([found.low, found.high]).all()
