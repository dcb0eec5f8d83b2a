import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from monitor.metrics import binary
from monitor.metrics.binary import (
    CALIBRATION_BINS,
    METRICS,
    ScoreCounts,
    StreamingCounts,
    compute_metrics,
    evaluate,
    log_loss_by_row,
    resample,
    sample_counts,
)

Floats = npt.NDArray[np.float64]
OF_SCIKIT_LEARN = ("log_loss", "brier", "roc_auc", "f1_score", "accuracy", "precision", "recall", "specificity")


def draw(rows: int = 500, seed: int = 0, *, decimals: int = 17) -> tuple[Floats, Floats]:
    generator = np.random.default_rng(seed)
    probability = generator.uniform(0.1, 0.9, rows).round(decimals)
    return (generator.random(rows) < probability).astype(float), probability


def of_scikit_learn(
    labels: Floats, probability: Floats, threshold: float = 0.5, weights: Floats | None = None
) -> dict[str, float]:
    predicted = probability >= threshold
    of_labels = {
        "f1_score": sklearn_metrics.f1_score(labels, predicted, sample_weight=weights),
        "accuracy": sklearn_metrics.accuracy_score(labels, predicted, sample_weight=weights),
        "precision": sklearn_metrics.precision_score(labels, predicted, sample_weight=weights),
        "recall": sklearn_metrics.recall_score(labels, predicted, sample_weight=weights),
        "specificity": sklearn_metrics.recall_score(labels, predicted, pos_label=0, sample_weight=weights),
    }
    return of_labels | {
        "log_loss": sklearn_metrics.log_loss(labels, probability, sample_weight=weights),
        "brier": sklearn_metrics.brier_score_loss(labels, probability, sample_weight=weights),
        "roc_auc": sklearn_metrics.roc_auc_score(labels, probability, sample_weight=weights),
    }


def selected(values: dict[str, float]) -> dict[str, float]:
    return {name: values[name] for name in OF_SCIKIT_LEARN}


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.7])
@pytest.mark.parametrize("decimals", [17, 1])
def test_metrics_are_those_of_scikit_learn_with_and_without_ties(decimals: int, threshold: float) -> None:
    labels, probability = draw(decimals=decimals)
    found = evaluate(labels, probability, threshold=threshold)
    assert set(found) == set(METRICS)
    assert selected(found) == pytest.approx(of_scikit_learn(labels, probability, threshold), abs=1e-12)


def test_fractional_counts_are_the_sample_weight_of_scikit_learn() -> None:
    generator = np.random.default_rng(3)
    probability = np.sort(generator.uniform(0.1, 0.9, 40))
    made, missed = generator.uniform(0, 2, (2, 40))
    found = compute_metrics(ScoreCounts(probability, made + missed, made[None], missed[None]))
    expected = of_scikit_learn(
        np.repeat([1.0, 0.0], 40), np.tile(probability, 2), weights=np.concatenate([made, missed])
    )
    assert selected({name: float(value[0]) for name, value in found.items()}) == pytest.approx(expected, abs=1e-12)


def test_each_sample_of_counts_has_metrics_of_its_own() -> None:
    probability = np.array([0.2, 0.6, 0.9])
    made, missed = np.array([[1.0, 2, 3], [3, 0, 1]]), np.array([[3.0, 1, 0], [2, 2, 1]])
    together = compute_metrics(ScoreCounts(probability, np.array([4.0, 3, 3]), made, missed))
    for place in range(2):
        cells = [(1, made[place]), (0, missed[place])]
        labels = np.concatenate([np.full(int(counts.sum()), label) for label, counts in cells])
        values = np.concatenate([np.repeat(probability, counts.astype(int)) for _, counts in cells])
        expected = of_scikit_learn(labels, values)
        assert selected({name: float(value[place]) for name, value in together.items()}) == pytest.approx(expected)


def test_calibration_error_is_that_of_a_plain_loop_over_ten_bins_of_equal_size() -> None:
    labels, probability = draw()
    order = np.argsort(probability)
    gaps = [
        abs(labels[rows].mean() - probability[rows].mean()) * len(rows)
        for rows in np.array_split(order, CALIBRATION_BINS)
    ]
    assert evaluate(labels, probability)["calibration_error"] == pytest.approx(sum(gaps) / len(labels), abs=1e-12)


def test_calibration_error_of_a_tree_of_three_leaves_is_that_of_its_leaves() -> None:
    labels = [1] * 10 + [0] * 30 + [1] * 15 + [0] * 15 + [1] * 25 + [0] * 5
    leaves = [0.2] * 40 + [0.6] * 30 + [0.8] * 30
    expected = 0.4 * abs(10 / 40 - 0.2) + 0.3 * abs(15 / 30 - 0.6) + 0.3 * abs(25 / 30 - 0.8)
    assert evaluate(labels, leaves)["calibration_error"] == pytest.approx(expected)


def test_the_skill_score_is_relative_to_the_loss_of_the_base_rate() -> None:
    labels, probability = draw()
    found, base_rate = evaluate(labels, probability), evaluate(labels, np.full(500, labels.mean()))
    assert found["log_loss_skill"] == pytest.approx(1 - found["log_loss"] / base_rate["log_loss"])
    assert found["brier_skill"] == pytest.approx(1 - found["brier"] / base_rate["brier"])
    assert base_rate["log_loss_skill"] == pytest.approx(0, abs=1e-12)
    assert base_rate["brier_skill"] == pytest.approx(0, abs=1e-12)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=50))
def test_every_metric_is_finite_for_every_probability(rows: list[tuple[bool, float]]) -> None:
    labels, probability = np.array(rows, dtype=float).T
    assert np.isfinite(list(evaluate(labels, probability).values())).all()


def test_the_threshold_is_the_probability_from_which_a_shot_is_predicted_made() -> None:
    assert evaluate([1, 0], [0.3, 0.2], threshold=0.3)["accuracy"] == 1
    assert evaluate([1, 0], [0.3, 0.2], threshold=0.31)["recall"] == 0


def test_f1_is_zero_when_no_row_is_predicted_made() -> None:
    assert evaluate([1, 0], [0.4, 0.3])["f1_score"] == 0


def test_specificity_is_the_share_of_missed_shots_that_are_predicted_missed() -> None:
    assert evaluate([0, 0, 0, 1], [0.5, 0.4, 0.3, 0.9])["specificity"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("label", [0, 1])
def test_metrics_of_both_classes_are_undefined_for_labels_of_one_class(label: int) -> None:
    assert set(METRICS) - set(evaluate([label] * 2, [0.4, 0.3])) == {"roc_auc", "log_loss_skill", "brier_skill"}
    assert np.isnan(METRICS["roc_auc"].compute([label] * 2, [0.4, 0.3]))


def test_a_metric_computed_alone_is_the_one_of_evaluate() -> None:
    labels, probability = draw()
    found = evaluate(labels, probability, threshold=0.3)
    for name, metric in METRICS.items():
        assert metric.compute(labels, probability, threshold=0.3) == found[name]


@pytest.mark.parametrize("decimals", [17, 2])
def test_bootstrap_samples_have_the_size_and_the_rate_of_the_sample(decimals: int) -> None:
    labels, probability = draw(decimals=decimals)
    tally = ScoreCounts.of(labels, probability)
    drawn = tally.resampled(400, np.random.default_rng(1))
    assert drawn.made.shape == (400, len(tally.probability))
    assert ((drawn.made + drawn.missed).sum(axis=1) == 500).all()
    assert not drawn.made[:, tally.made[0] == 0].any()
    rates = drawn.made.sum(axis=1) / 500
    assert rates.mean() == pytest.approx(labels.mean(), abs=0.005)
    assert rates.std() == pytest.approx(labels.std() / np.sqrt(500), rel=0.15)


@pytest.mark.parametrize(
    ("size", "rows"),
    [({}, 180), ({"rows": 100}, 100), ({"rows": 1}, 20), ({"groups": 3}, 60), ({"rows": 1, "groups": 3}, 60)],
)
def test_whole_games_are_drawn_in_the_given_number_or_so_many_as_hold_the_rows(size: dict[str, int], rows: int) -> None:
    labels, probability = draw(200, decimals=1)
    tally = ScoreCounts.of(labels, probability, groups=np.arange(200) // 20)
    drawn = tally.resampled(5, np.random.default_rng(2), **size)
    assert (drawn.made + drawn.missed).sum(axis=1).tolist() == [rows] * 5


@pytest.mark.parametrize("rows", [3, 50])
def test_few_and_many_rows_are_drawn_in_proportion_to_the_counts(rows: int) -> None:
    counts = np.array([10.0, 0, 30, 60])
    drawn = resample(counts, rows, 2_000, np.random.default_rng(2))
    assert (drawn.sum(axis=1) == rows).all()
    assert drawn.mean(axis=0) / rows == pytest.approx(counts / 100, abs=0.015)


@pytest.mark.parametrize(
    ("labels", "probability"),
    [([], []), ([1], [0.5, 0.5]), ([np.nan], [0.5]), ([2], [0.5]), ([1], [np.nan]), ([1], [1.1]), ([1], [-0.1])],
)
def test_wrong_input_is_an_error(labels: list[float], probability: list[float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        evaluate(labels, probability)


def test_the_log_loss_of_a_certain_error_is_finite() -> None:
    assert 30 < log_loss_by_row([1], [0.0])[0] < 40


def test_better_knows_the_direction_of_each_metric() -> None:
    assert METRICS["log_loss"].better(0.6, 0.7)
    assert METRICS["roc_auc"].better(0.7, 0.6)


# Rows in chunks


def built(pieces: list[tuple[Floats, Floats]]) -> StreamingCounts:
    builder = StreamingCounts()
    for labels, probability in pieces:
        builder.add(labels, probability)
    return builder


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=60),
    st.lists(st.integers(0, 60), max_size=5),
)
def test_metrics_of_chunks_are_those_of_all_rows(rows: list[tuple[bool, float]], cuts: list[int]) -> None:
    labels, probability = np.array(rows, dtype=float).T
    pieces = list(zip(np.split(labels, sorted(cuts)), np.split(probability, sorted(cuts)), strict=True))
    builder = built(pieces)
    assert builder.rows == len(rows)
    assert builder.evaluate(0.3) == evaluate(labels, probability, threshold=0.3)
    prior = np.full(len(rows), labels.mean())
    assert builder.base_rate_log_loss() == pytest.approx(evaluate(labels, prior)["log_loss"], abs=1e-12)


def test_chunks_are_merged_as_they_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "MAX_DISTINCT", 64)
    labels, probability = draw(2_000, decimals=1)
    builder = built([(labels[rows], probability[rows]) for rows in np.array_split(np.arange(2_000), 400)])
    assert builder._held <= 3 * 64  # noqa: SLF001
    assert builder.evaluate() == evaluate(labels, probability)


def test_metrics_of_binned_probabilities_differ_by_a_billionth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels, probability = draw(1_500_000)
    exact = evaluate(labels, probability)
    builder = built([(labels[:1_000_000], probability[:1_000_000]), (labels[1_000_000:], probability[1_000_000:])])
    assert len(builder.tally().probability) < binary.MAX_DISTINCT
    found = builder.evaluate()
    assert found.pop("calibration_error") == pytest.approx(exact.pop("calibration_error"), abs=1e-6)
    assert found == pytest.approx(exact, abs=5e-9)
    for name in ("accuracy", "f1_score", "precision", "recall", "specificity"):
        assert found[name] == exact[name]
    # With bins a thousand times as wide the difference shows, so the labels do not merely fit.
    monkeypatch.setattr(binary, "MAX_DISTINCT", 2**10)
    assert built([(labels, probability)]).evaluate()["brier"] != pytest.approx(exact["brier"], abs=5e-9)


def test_counts_of_values_and_rows_go_together() -> None:
    labels, probability = draw(300, decimals=2)
    builder = built([(labels[:100], probability[:100])])
    rest = ScoreCounts.of(labels[100:], probability[100:])
    builder.add_counted(rest.probability[::-1], rest.made[0][::-1], rest.missed[0][::-1])
    assert builder.evaluate() == evaluate(labels, probability)


def test_a_chunk_without_labeled_rows_changes_nothing() -> None:
    builder = built([(np.array([1.0, 0.0]), np.array([0.7, 0.2])), (np.array([]), np.array([]))])
    assert builder.evaluate() == evaluate([1, 0], [0.7, 0.2])


def test_no_labeled_rows_have_no_counts() -> None:
    with pytest.raises(ValueError, match="found none"):
        StreamingCounts().tally()


@pytest.mark.parametrize(("labels", "probability"), [([1], [0.5, 0.5]), ([2], [0.5]), ([1], [1.1])])
def test_a_wrong_chunk_is_an_error(labels: list[float], probability: list[float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        StreamingCounts().add(labels, probability)


@pytest.mark.parametrize("cells", [0, 1, 25_697, 100_000, 2_650_000, 10**8])
def test_samples_that_are_drawn_at_a_time_take_bounded_memory(cells: int) -> None:
    found = list(sample_counts(250, cells))
    assert sum(found) == 250
    assert all(1 <= count <= 100 for count in found)
    assert all(count == 1 or count * cells * 8 <= 32 << 20 for count in found)


def test_samples_of_the_public_files_are_drawn_a_hundred_at_a_time() -> None:
    assert list(sample_counts(250, 30_697)) == [100, 100, 50]
