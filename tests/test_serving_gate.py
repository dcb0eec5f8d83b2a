import numpy as np
import numpy.typing as npt
import pytest

from monitor.metrics import log_loss_by_row
from serving.gate import better_than

ROWS, TRIALS = 4_000, 100


def losses(seed: int, skill: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Losses of a model and of the class prior on the same rows; skill 0 is a model that knows nothing."""
    generator = np.random.default_rng(seed)
    truth = np.clip(generator.normal(0.47, 0.09, ROWS), 0.05, 0.95)
    labels = (generator.random(ROWS) < truth).astype(float)
    knows = np.where(skill, truth, np.clip(generator.normal(0.47, 0.02, ROWS), 0.05, 0.95))
    return log_loss_by_row(labels, knows), log_loss_by_row(labels, np.full(ROWS, labels.mean()))


def share_passed(skill: float) -> float:
    verdicts = [better_than(*losses(seed, skill), reference_name="prior", seed=seed) for seed in range(TRIALS)]
    return sum(verdict.passed for verdict in verdicts) / TRIALS


def test_a_model_that_knows_nothing_does_not_pass() -> None:
    assert share_passed(0) <= 0.05


def test_a_model_that_knows_the_truth_passes() -> None:
    assert share_passed(1) >= 0.95


def test_an_equal_model_does_not_pass() -> None:
    loss, _ = losses(0, 1)
    assert not better_than(loss, loss, reference_name="itself", seed=0).passed


def test_the_verdict_says_both_losses_and_the_interval() -> None:
    verdict = better_than(*losses(0, 1), reference_name="the class prior", seed=0)
    assert f"{verdict.loss:.4f} against {verdict.reference_loss:.4f} of the class prior" in verdict.reason
    assert verdict.low < verdict.loss - verdict.reference_loss < verdict.high


@pytest.mark.parametrize(("loss", "reference"), [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, np.inf], [1.0, 1.0])])
def test_losses_that_cannot_be_compared_are_refused(loss: list[float], reference: list[float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        better_than(loss, reference, reference_name="prior", seed=0)
