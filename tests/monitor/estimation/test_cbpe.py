import numpy as np
import numpy.typing as npt
import pytest

from data.simulation import synthetic
from monitor.estimation.cbpe import ESTIMATED, MIN_ROWS, Calibration, EstimateError, estimate_performance
from monitor.metrics.binary import evaluate

Floats = npt.NDArray[np.float64]
CERTAIN = Calibration(np.array([0.0, 1.0]), np.zeros((2, 2)))


@pytest.fixture(scope="module")
def true_probability() -> Floats:
    """True P(made) of synthetic shots."""
    return synthetic.true_probability(synthetic.shots(20_000, seed=30))


def none_out_of_support(probability: Floats) -> npt.NDArray[np.bool_]:
    return np.zeros(len(probability), dtype=bool)


def less(probability: Floats, log_odds: float) -> Floats:
    odds = probability / (1 - probability) * np.exp(-log_odds)
    lower: Floats = odds / (1 + odds)
    return lower


def test_estimated_metrics_are_the_mean_over_simulated_labels(true_probability: Floats) -> None:
    probability = true_probability[:1_000]
    found = estimate_performance(CERTAIN, probability, none_out_of_support(probability), threshold=0.4).intervals
    stream = np.random.default_rng(0)
    simulated = [evaluate(stream.random(1_000) < probability, probability, threshold=0.4) for _ in range(300)]
    for name in ESTIMATED:
        values = [each[name] for each in simulated]
        assert found[name].value == pytest.approx(np.mean(values), abs=float(4 * np.std(values) / np.sqrt(300)))
        assert (found[name].low, found[name].high) == pytest.approx(
            tuple(np.quantile(values, [0.025, 0.975])), abs=float(np.std(values))
        )


def test_intervals_of_calibrated_probabilities_cover_the_actual_metrics(true_probability: Floats) -> None:
    stream = np.random.default_rng(1)
    covered = dict.fromkeys(ESTIMATED, 0)
    for trial in range(100):
        known, unknown = np.split(stream.choice(true_probability, 1_400, replace=False), [1_000])
        calibration = Calibration.of(stream.random(1_000) < known, known)
        found = estimate_performance(
            calibration, unknown, none_out_of_support(unknown), samples=300, seed=trial
        ).intervals
        actual = evaluate(stream.random(400) < unknown, unknown)
        for name in ESTIMATED:
            covered[name] += found[name].low <= actual[name] <= found[name].high
    assert all(88 <= count <= 100 for count in covered.values()), covered


def test_under_concept_drift_the_actual_log_loss_is_outside_the_interval(true_probability: Floats) -> None:
    """Features alone do not show concept drift: an estimate without labels cannot detect it."""
    stream = np.random.default_rng(2)
    known, unknown = true_probability[:4_000], true_probability[4_000:8_000]
    calibration = Calibration.of(stream.random(4_000) < known, known)
    found = estimate_performance(calibration, unknown, none_out_of_support(unknown)).intervals["log_loss"]
    as_before = evaluate(stream.random(4_000) < unknown, unknown)["log_loss"]
    drifted = evaluate(stream.random(4_000) < 1 - less(unknown, 0.5), unknown)["log_loss"]
    assert found.low < as_before < found.high
    assert not found.low < drifted < found.high


def test_calibration_recovers_a_change_of_the_log_odds(true_probability: Floats) -> None:
    stream = np.random.default_rng(3)
    made = stream.random(len(true_probability)) < true_probability
    odds = np.log(true_probability / (1 - true_probability))
    shrunk = 1 / (1 + np.exp(-(0.5 * odds + 0.4)))
    found = Calibration.of(made, shrunk)
    deviation = np.sqrt(np.diag(found.covariance))
    assert np.all(np.abs(found.coefficients - [-0.8, 2.0]) < 4 * deviation)
    assert np.abs(found.rate(shrunk) - true_probability).max() < 0.05


def test_the_covariance_is_that_of_the_coefficients_over_references(true_probability: Floats) -> None:
    stream = np.random.default_rng(4)
    probability = true_probability[:1_000]
    fits = [Calibration.of(stream.random(1_000) < probability, probability) for _ in range(200)]
    seen = np.cov([fit.coefficients for fit in fits], rowvar=False)
    assert np.mean([fit.covariance for fit in fits], axis=0) == pytest.approx(seen, rel=0.3)


def test_the_estimate_of_an_overconfident_model_is_calibrated(true_probability: Floats) -> None:
    stream = np.random.default_rng(5)
    overconfident = 1 / (1 + np.exp(-3 * np.log(true_probability / (1 - true_probability))))
    known, unknown = overconfident[:6_000], overconfident[6_000:12_000]
    calibration = Calibration.of(stream.random(6_000) < true_probability[:6_000], known)
    actual = evaluate(stream.random(6_000) < true_probability[6_000:12_000], unknown)
    found = estimate_performance(calibration, unknown, none_out_of_support(unknown)).intervals
    naive = estimate_performance(CERTAIN, unknown, none_out_of_support(unknown)).intervals
    assert found["log_loss"].low < actual["log_loss"] < found["log_loss"].high
    assert naive["log_loss"].high < actual["log_loss"]


def test_a_small_reference_makes_wide_intervals(true_probability: Floats) -> None:
    stream = np.random.default_rng(6)
    unknown = true_probability[10_000:15_000]
    widths = []
    for rows in (200, 10_000):
        calibration = Calibration.of(stream.random(rows) < true_probability[:rows], true_probability[:rows])
        found = estimate_performance(calibration, unknown, none_out_of_support(unknown)).intervals["log_loss"]
        widths.append(found.high - found.low)
    assert widths[0] > 2 * widths[1]


def test_out_of_support_rows_are_excluded_with_a_reason(true_probability: Floats) -> None:
    probability = np.concatenate([true_probability[:400], np.full(100, 0.99)])
    found = estimate_performance(CERTAIN, probability, np.arange(500) >= 400)
    assert (found.rows, found.supported, found.out_of_support) == (500, 400, 100)
    assert (
        found.intervals
        == estimate_performance(CERTAIN, true_probability[:400], none_out_of_support(true_probability[:400])).intervals
    )
    assert "100 of 500 rows (20%) are out of support" in found.unavailable_reason


@pytest.mark.parametrize(("outside", "unavailable"), [(0, False), (25, False), (26, True)])
def test_a_few_out_of_support_rows_do_not_make_the_estimate_unavailable(
    true_probability: Floats, outside: int, *, unavailable: bool
) -> None:
    found = estimate_performance(CERTAIN, true_probability[:500], np.arange(500) < outside)
    assert bool(found.unavailable_reason) == unavailable
    assert set(found.intervals) == set(ESTIMATED)


@pytest.mark.parametrize("supported", [0, MIN_ROWS - 1])
def test_too_few_supported_rows_give_no_metric(true_probability: Floats, supported: int) -> None:
    found = estimate_performance(CERTAIN, true_probability[:200], np.arange(200) >= supported)
    assert found.intervals == {}
    assert f"{supported} of 200 rows are in support; an estimate needs 30" in found.unavailable_reason


def test_enough_supported_rows_give_metrics(true_probability: Floats) -> None:
    found = estimate_performance(CERTAIN, true_probability[:MIN_ROWS], none_out_of_support(true_probability[:MIN_ROWS]))
    assert (set(found.intervals), found.unavailable_reason) == (set(ESTIMATED), "")


def test_a_constant_probability_is_calibrated_to_the_positive_rate() -> None:
    labels, constant = [1, 0, 0, 0] * 250, np.full(1_000, 0.5)
    calibration = Calibration.of(labels, constant)
    assert calibration.rate([0.5])[0] == pytest.approx(0.25)
    assert calibration.covariance[0, 0] == pytest.approx(1 / (1_000 * 0.25 * 0.75))
    found = estimate_performance(calibration, constant, none_out_of_support(constant)).intervals
    assert found["accuracy"].value == pytest.approx(0.25)
    assert found["accuracy"].low < 0.25 < found["accuracy"].high
    assert found["roc_auc"].value == 0.5


def test_probabilities_of_zero_and_one_work() -> None:
    stream = np.random.default_rng(7)
    certain = np.repeat([0.0, 1.0], 500)
    labels = np.where(stream.random(1_000) < 0.1, 1 - certain, certain)
    found = estimate_performance(Calibration.of(labels, certain), certain, none_out_of_support(certain)).intervals
    assert found["accuracy"].value == pytest.approx(0.9, abs=0.03)
    assert found["accuracy"].low < 0.9 < found["accuracy"].high
    assert all(np.isfinite([each.value, each.low, each.high]).all() for each in found.values())


def test_predictions_of_one_class_have_no_interval_of_roc_auc() -> None:
    certain = np.ones(100)
    found = estimate_performance(CERTAIN, certain, none_out_of_support(certain)).intervals
    assert np.isnan([found["roc_auc"].low, found["roc_auc"].high]).all()
    assert found["accuracy"].low == 1


def test_a_model_without_errors_has_an_interval_of_accuracy_below_one() -> None:
    calibration = Calibration.of([1, 0] * 50, [0.9, 0.1] * 50)
    probability = np.tile([0.9, 0.1], 50)
    found = estimate_performance(calibration, probability, none_out_of_support(probability)).intervals["accuracy"]
    assert 0 <= found.low < 1
    assert found.high == 1


@pytest.mark.parametrize(("made", "missed"), [(100, 0), (0, 100), (4, 96), (96, 4)])
def test_a_reference_with_few_rows_of_a_class_is_an_error(made: int, missed: int) -> None:
    probability = np.linspace(0.1, 0.9, 100)
    with pytest.raises(EstimateError, match=f"found {made} made, {missed} missed"):
        Calibration.of([1] * made + [0] * missed, probability)


def test_the_same_seed_gives_the_same_interval(true_probability: Floats) -> None:
    first, second, other = (
        estimate_performance(
            CERTAIN, true_probability[:300], none_out_of_support(true_probability[:300]), samples=150, seed=seed
        )
        for seed in (1, 1, 2)
    )
    assert first == second
    assert first != other


# Groups


def games(count: int, seed: int, effect: float, true_probability: Floats) -> tuple[Floats, Floats, Floats]:
    """Labels whose log-odds have a random effect of their game, P(made) without it, and the games."""
    stream = np.random.default_rng(seed)
    game = np.repeat(np.arange(count), 16)
    probability = stream.choice(true_probability, len(game)).round(2)
    odds = np.log(probability / (1 - probability)) + effect * stream.normal(size=count)[game]
    return (stream.random(len(game)) < 1 / (1 + np.exp(-odds))).astype(float), probability, game.astype(float)


@pytest.mark.parametrize("effect", [0.0, 0.6])
def test_the_random_effect_of_a_group_is_estimated(effect: float, true_probability: Floats) -> None:
    labels, probability, game = games(2_000, 0, effect, true_probability)
    found = Calibration.of(labels, probability, game).group_covariance
    assert found[0, 0] ** 0.5 == pytest.approx(effect, abs=0.12)
    assert found[1, 1] < 0.2
    assert not Calibration.of(labels, probability).group_covariance.any()


def test_estimates_cover_where_the_shots_of_some_games_are_harder_to_predict() -> None:
    def drawn(count: int, seed: int) -> tuple[Floats, Floats, Floats]:
        stream = np.random.default_rng(seed)
        game = np.repeat(np.arange(count), 16)
        odds = stream.choice([-2.0, -1.0, 1.0, 2.0], len(game))
        slope = 1 + stream.choice([-0.9, 0.9], count)[game]
        labels = stream.random(len(game)) < 1 / (1 + np.exp(-slope * odds))
        return labels.astype(float), 1 / (1 + np.exp(-odds)), game.astype(float)

    found, covered = Calibration.of(*drawn(1_000, 0)), 0
    assert found.group_covariance[1, 1] > 0.2
    for trial in range(60):
        labels, probability, game = drawn(60, 1 + trial)
        estimated = estimate_performance(found, probability, none_out_of_support(probability), groups=game, samples=200)
        interval = estimated.intervals["log_loss"]
        covered += interval.low <= evaluate(labels, probability)["log_loss"] <= interval.high
    assert covered >= 54


def test_estimates_of_groups_cover_and_are_wider_than_those_of_rows(true_probability: Floats) -> None:
    known = games(500, 0, 0.8, true_probability)
    by_row, by_game = Calibration.of(*known[:2]), Calibration.of(*known)
    covered, wider = 0, []
    for trial in range(40):
        labels, probability, game = games(60, 1 + trial, 0.8, true_probability)
        actual = evaluate(labels, probability)["accuracy"]
        row, of_game = (
            estimate_performance(
                calibration, probability, none_out_of_support(probability), groups=groups, samples=200
            ).intervals["accuracy"]
            for calibration, groups in ((by_row, None), (by_game, game))
        )
        covered += of_game.low <= actual <= of_game.high
        wider.append((of_game.high - of_game.low) / (row.high - row.low))
    assert covered >= 35
    assert np.mean(wider) > 1.1
