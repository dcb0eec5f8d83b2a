import numpy as np
import numpy.typing as npt
import pytest

from data.simulation import synthetic
from monitor.estimation.cbpe import ESTIMATED, MIN_ROWS, Calibration, EstimateError, estimate_performance
from monitor.metrics.binary import evaluate

Floats = npt.NDArray[np.float64]
CERTAIN = Calibration(np.array([0.0, 1.0]), np.zeros((2, 2)))


@pytest.fixture(scope="module")
def truth() -> Floats:
    """True P(made) of simulated shots."""
    return synthetic.true_probability(synthetic.shots(20_000, seed=30))


def inside(probability: Floats) -> npt.NDArray[np.bool_]:
    return np.zeros(len(probability), dtype=bool)


def less(probability: Floats, log_odds: float) -> Floats:
    odds = probability / (1 - probability) * np.exp(-log_odds)
    lower: Floats = odds / (1 + odds)
    return lower


def test_expected_metrics_are_the_mean_of_simulated_ones(truth: Floats) -> None:
    probability = truth[:1_000]
    found = estimate_performance(CERTAIN, probability, inside(probability), threshold=0.4).intervals
    stream = np.random.default_rng(0)
    simulated = [evaluate(stream.random(1_000) < probability, probability, threshold=0.4) for _ in range(300)]
    for name in ESTIMATED:
        values = [each[name] for each in simulated]
        assert found[name].value == pytest.approx(np.mean(values), abs=float(4 * np.std(values) / np.sqrt(300)))
        assert (found[name].low, found[name].high) == pytest.approx(
            tuple(np.quantile(values, [0.025, 0.975])), abs=float(np.std(values))
        )


def test_intervals_cover_what_the_labels_show_where_probabilities_are_true(truth: Floats) -> None:
    stream = np.random.default_rng(1)
    covered = dict.fromkeys(ESTIMATED, 0)
    for trial in range(100):
        known, unknown = np.split(stream.choice(truth, 1_400, replace=False), [1_000])
        calibration = Calibration.of(stream.random(1_000) < known, known)
        found = estimate_performance(calibration, unknown, inside(unknown), samples=300, seed=trial).intervals
        realised = evaluate(stream.random(400) < unknown, unknown)
        for name in ESTIMATED:
            covered[name] += found[name].low <= realised[name] <= found[name].high
    assert all(88 <= count <= 100 for count in covered.values()), covered


def test_under_concept_drift_the_realised_log_loss_lies_outside_the_interval(truth: Floats) -> None:
    """Nothing in the features tells that the truth behind them has changed, so no estimate without labels can know."""
    stream = np.random.default_rng(2)
    known, unknown = truth[:4_000], truth[4_000:8_000]
    calibration = Calibration.of(stream.random(4_000) < known, known)
    found = estimate_performance(calibration, unknown, inside(unknown)).intervals["log_loss"]
    as_before = evaluate(stream.random(4_000) < unknown, unknown)["log_loss"]
    drifted = evaluate(stream.random(4_000) < 1 - less(unknown, 0.5), unknown)["log_loss"]
    assert found.low < as_before < found.high
    assert not found.low < drifted < found.high


def test_calibration_finds_what_was_done_to_the_log_odds(truth: Floats) -> None:
    stream = np.random.default_rng(3)
    made = stream.random(len(truth)) < truth
    odds = np.log(truth / (1 - truth))
    shrunk = 1 / (1 + np.exp(-(0.5 * odds + 0.4)))
    found = Calibration.of(made, shrunk)
    deviation = np.sqrt(np.diag(found.covariance))
    assert np.all(np.abs(found.coefficients - [-0.8, 2.0]) < 4 * deviation)
    assert np.abs(found.rate(shrunk) - truth).max() < 0.05


def test_the_covariance_is_how_the_coefficients_vary_from_reference_to_reference(truth: Floats) -> None:
    stream = np.random.default_rng(4)
    probability = truth[:1_000]
    fits = [Calibration.of(stream.random(1_000) < probability, probability) for _ in range(200)]
    seen = np.cov([fit.coefficients for fit in fits], rowvar=False)
    assert np.mean([fit.covariance for fit in fits], axis=0) == pytest.approx(seen, rel=0.3)


def test_an_overconfident_model_is_not_believed(truth: Floats) -> None:
    stream = np.random.default_rng(5)
    overconfident = 1 / (1 + np.exp(-3 * np.log(truth / (1 - truth))))
    known, unknown = overconfident[:6_000], overconfident[6_000:12_000]
    calibration = Calibration.of(stream.random(6_000) < truth[:6_000], known)
    realised = evaluate(stream.random(6_000) < truth[6_000:12_000], unknown)
    found = estimate_performance(calibration, unknown, inside(unknown)).intervals
    naive = estimate_performance(CERTAIN, unknown, inside(unknown)).intervals
    assert found["log_loss"].low < realised["log_loss"] < found["log_loss"].high
    assert naive["log_loss"].high < realised["log_loss"]


def test_a_small_reference_makes_wide_intervals(truth: Floats) -> None:
    stream = np.random.default_rng(6)
    unknown = truth[10_000:15_000]
    widths = []
    for rows in (200, 10_000):
        calibration = Calibration.of(stream.random(rows) < truth[:rows], truth[:rows])
        found = estimate_performance(calibration, unknown, inside(unknown)).intervals["log_loss"]
        widths.append(found.high - found.low)
    assert widths[0] > 2 * widths[1]


def test_rows_outside_the_support_are_left_out_and_said_to_be(truth: Floats) -> None:
    probability = np.concatenate([truth[:400], np.full(100, 0.99)])
    found = estimate_performance(CERTAIN, probability, np.arange(500) >= 400)
    assert (found.rows, found.supported, found.out_of_support) == (500, 400, 100)
    assert found.intervals == estimate_performance(CERTAIN, truth[:400], inside(truth[:400])).intervals
    assert "100 of 500 rows (20%) are out of support" in found.unavailable_reason


@pytest.mark.parametrize(("outside", "refused"), [(0, False), (25, False), (26, True)])
def test_a_few_rows_outside_do_not_void_the_estimate(truth: Floats, outside: int, *, refused: bool) -> None:
    found = estimate_performance(CERTAIN, truth[:500], np.arange(500) < outside)
    assert bool(found.unavailable_reason) == refused
    assert set(found.intervals) == set(ESTIMATED)


@pytest.mark.parametrize("supported", [0, MIN_ROWS - 1])
def test_too_few_supported_rows_give_no_figure(truth: Floats, supported: int) -> None:
    found = estimate_performance(CERTAIN, truth[:200], np.arange(200) >= supported)
    assert found.intervals == {}
    assert f"{supported} of 200 rows are in support; an estimate needs 30" in found.unavailable_reason


def test_as_many_supported_rows_as_are_needed_give_figures(truth: Floats) -> None:
    found = estimate_performance(CERTAIN, truth[:MIN_ROWS], inside(truth[:MIN_ROWS]))
    assert (set(found.intervals), found.unavailable_reason) == (set(ESTIMATED), "")


def test_a_constant_probability_has_its_level_mended() -> None:
    labels, constant = [1, 0, 0, 0] * 250, np.full(1_000, 0.5)
    calibration = Calibration.of(labels, constant)
    assert calibration.rate([0.5])[0] == pytest.approx(0.25)
    assert calibration.covariance[0, 0] == pytest.approx(1 / (1_000 * 0.25 * 0.75))
    found = estimate_performance(calibration, constant, inside(constant)).intervals
    assert found["accuracy"].value == pytest.approx(0.25)
    assert found["accuracy"].low < 0.25 < found["accuracy"].high
    assert found["roc_auc"].value == 0.5


def test_probabilities_of_zero_and_one_work() -> None:
    stream = np.random.default_rng(7)
    certain = np.repeat([0.0, 1.0], 500)
    labels = np.where(stream.random(1_000) < 0.1, 1 - certain, certain)
    found = estimate_performance(Calibration.of(labels, certain), certain, inside(certain)).intervals
    assert found["accuracy"].value == pytest.approx(0.9, abs=0.03)
    assert found["accuracy"].low < 0.9 < found["accuracy"].high
    assert all(np.isfinite([each.value, each.low, each.high]).all() for each in found.values())


def test_where_only_one_result_is_expected_there_is_no_interval_of_roc_auc() -> None:
    certain = np.ones(100)
    found = estimate_performance(CERTAIN, certain, inside(certain)).intervals
    assert np.isnan([found["roc_auc"].low, found["roc_auc"].high]).all()
    assert found["accuracy"].low == 1


def test_a_model_that_was_always_right_is_not_known_to_be_for_ever() -> None:
    calibration = Calibration.of([1, 0] * 50, [0.9, 0.1] * 50)
    probability = np.tile([0.9, 0.1], 50)
    found = estimate_performance(calibration, probability, inside(probability)).intervals["accuracy"]
    assert 0 <= found.low < 1
    assert found.high == 1


@pytest.mark.parametrize(("made", "missed"), [(100, 0), (0, 100), (4, 96), (96, 4)])
def test_a_reference_of_hardly_more_than_one_label_is_refused(made: int, missed: int) -> None:
    probability = np.linspace(0.1, 0.9, 100)
    with pytest.raises(EstimateError, match=f"found {made} made, {missed} missed"):
        Calibration.of([1] * made + [0] * missed, probability)


def test_the_same_seed_gives_the_same_interval(truth: Floats) -> None:
    first, second, other = (
        estimate_performance(CERTAIN, truth[:300], inside(truth[:300]), samples=150, seed=seed) for seed in (1, 1, 2)
    )
    assert first == second
    assert first != other
