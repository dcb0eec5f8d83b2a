import dataclasses
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from data.datasets import default
from data.schema import FEATURES, PROBABILITY
from data.simulation import synthetic
from monitor.drift import detector, domain_classifier
from monitor.drift.detector import DriftDetector, DriftResult, Statistic
from monitor.drift.domain_classifier import Side, fit_domain_classifier
from monitor.drift.statistics import DriftThresholds, ReferenceColumn

Floats = npt.NDArray[np.float64]
SMALL = 40


@pytest.fixture(scope="module")
def scored(shots: pd.DataFrame) -> pd.DataFrame:
    table = shots.rename(columns={"lon": "lng"})
    return table[list(FEATURES)].astype(float).assign(probability=synthetic.true_probability(table))


@pytest.fixture(scope="module")
def reference(scored: pd.DataFrame) -> DriftDetector:
    rows = scored.head(1_000)
    return DriftDetector(rows, nowhere(rows), default(), samples=300)


def nowhere(table: pd.DataFrame) -> npt.NDArray[np.bool_]:
    return np.zeros(len(table), dtype=bool)


def statistic(found: DriftResult, feature: str, name: str) -> Statistic:
    return found.statistic(feature, name)


def fresh(scored: pd.DataFrame, rows: int, seed: int = 0) -> pd.DataFrame:
    """Rows that are not in the reference."""
    return scored.iloc[1_000:].sample(rows, random_state=seed)


def test_ks_and_wasserstein_are_those_of_scipy(scored: pd.DataFrame, reference: DriftDetector) -> None:
    batch = fresh(scored, 300)
    found = reference.compare(batch, nowhere(batch))
    for name in (*FEATURES, PROBABILITY):
        before, after = scored.head(1_000)[name], batch[name]
        assert statistic(found, name, "ks").value == pytest.approx(stats.ks_2samp(after, before).statistic)
        expected = stats.wasserstein_distance(after, before)
        assert statistic(found, name, "wasserstein").value == pytest.approx(expected)
        assert found.mean_difference[name] == pytest.approx(after.mean() - before.mean())


@given(
    values=st.lists(st.integers(0, 9), min_size=2, max_size=60), drawn=st.lists(st.integers(0), min_size=1, max_size=30)
)
def test_the_fast_distances_of_the_draws_are_those_of_a_batch(values: list[int], drawn: list[int]) -> None:
    known = np.array(values, dtype=float)
    column = ReferenceColumn("period", known)
    batch = known[np.array([number % len(known) for number in drawn])]
    counted = np.array([[np.sum(batch == value) for value in np.unique(known)]], dtype=float)
    fast = {name: float(value[0]) for name, value in column.distances(counted, column.counts[None]).items()}
    assert fast == pytest.approx(column.compare(batch), abs=1e-9)


def test_how_often_rows_were_drawn_is_counted_by_their_value() -> None:
    column = ReferenceColumn("period", np.array([3.0, 1, 3, 2]))
    assert column.count_draws(np.array([[1.0, 2, 4, 8]])).tolist() == [[2, 8, 5]]


def test_psi_is_that_of_ten_bins_of_the_reference_with_half_a_row_added_to_each() -> None:
    stream = np.random.default_rng(0)
    before, after = stream.random(1_000), stream.random(300) ** 2
    edges = np.quantile(before, np.arange(0.1, 1, 0.1), method="higher")
    counts = [np.bincount(np.digitize(values, edges), minlength=10) + 0.5 for values in (after, before)]
    current, known = (count / count.sum() for count in counts)
    expected = np.sum((current - known) * np.log(current / known))
    assert ReferenceColumn("lat", before).compare(after)["psi"] == pytest.approx(expected)


def test_the_bins_of_psi_are_fixed_by_the_reference(reference: DriftDetector, scored: pd.DataFrame) -> None:
    batch = fresh(scored, 100)
    far = pd.concat([batch, batch.tail(1).assign(shot_distance=90.0)])
    near = pd.concat([batch, batch.tail(1).assign(shot_distance=60.0)])
    values = [
        statistic(reference.compare(table, nowhere(table)), "shot_distance", "psi").value for table in (far, near)
    ]
    assert values[0] == values[1]


def test_a_batch_that_is_the_reference_raises_no_alarm(scored: pd.DataFrame, reference: DriftDetector) -> None:
    batch = scored.head(1_000)
    found = reference.compare(batch, nowhere(batch))
    assert not found.alarm
    assert all(each.value == 0 for each in found.statistics if each.name != "psi")
    assert all(each.value == pytest.approx(0, abs=1e-12) for each in found.statistics)
    assert set(found.mean_difference.values()) == {0}


@pytest.mark.parametrize(
    ("feature", "change"),
    [("period", 1.0), ("shot_distance", 4.0), ("minutes_remaining", -2.0), ("lat", -0.1), (PROBABILITY, 0.1)],
)
def test_a_shifted_column_raises_the_alarm_of_that_column_and_of_no_other(
    scored: pd.DataFrame, reference: DriftDetector, feature: str, change: float
) -> None:
    batch = fresh(scored, 200)
    assert not reference.compare(batch, nowhere(batch)).alarm
    shifted = batch.assign(**{feature: batch[feature] + change})
    found = reference.compare(shifted, nowhere(shifted))
    assert found.alarm
    assert [name for name in (*FEATURES, PROBABILITY) if found.has_drifted(name)] == [feature]
    assert found.drifted_features == [feature] * (feature in FEATURES)
    assert found.mean_difference[feature] == pytest.approx(change, abs=abs(change) / 2)


def test_a_change_of_the_joint_distribution_alone_is_found_by_the_domain_classifier(
    scored: pd.DataFrame, reference: DriftDetector
) -> None:
    batch = fresh(scored, 800)
    mirrored = batch.assign(shot_distance=batch["shot_distance"].sample(frac=1, random_state=0).to_numpy())
    found = reference.compare(mirrored, nowhere(mirrored))
    assert found.drifted_features == []
    assert found.classifier is not None
    assert found.classifier.drifted
    assert found.classifier.p_value < 0.001
    assert found.alarm


def test_significantly_more_out_of_support_rows_raise_the_alarm(scored: pd.DataFrame, reference: DriftDetector) -> None:
    batch = fresh(scored, 100)
    for count, expected in ((0, False), (1, False), (5, True)):
        found = reference.compare(batch, np.arange(100) < count)
        assert (found.out_of_support_rate, found.is_out_of_support, found.alarm) == (count / 100, expected, expected)
        assert (found.out_of_support_p_value <= 0.005) == expected


def test_a_batch_may_have_the_out_of_support_rate_of_the_reference(scored: pd.DataFrame) -> None:
    rows, batch = scored.head(300), fresh(scored, 40)
    known = DriftDetector(rows, np.arange(300) < 60, default(), samples=50)
    assert not known.compare(batch, np.arange(40) < 10).is_out_of_support
    assert known.compare(batch, np.arange(40) < 20).is_out_of_support


def test_thresholds_shrink_as_batches_grow(scored: pd.DataFrame, reference: DriftDetector) -> None:
    batches = (fresh(scored, rows) for rows in (10, 100, 1_000))
    found = [reference.compare(batch, nowhere(batch)) for batch in batches]
    for first, second in pairwise(found):
        for small, large in zip(first.statistics, second.statistics, strict=True):
            assert large.threshold < small.threshold or small.threshold == large.threshold == 0


def test_a_large_batch_does_not_make_up_for_a_small_reference(scored: pd.DataFrame) -> None:
    batch = fresh(scored, 4_000)
    thresholds = [
        statistic(
            DriftDetector(rows, nowhere(rows), default(), samples=100).compare(batch, nowhere(batch)), "lng", "ks"
        ).threshold
        for rows in (scored.head(100), scored.head(1_000))
    ]
    assert thresholds[0] > 2 * thresholds[1]


def test_thresholds_of_a_size_are_drawn_once(
    scored: pd.DataFrame, reference: DriftDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = fresh(scored, 33)
    before = reference.compare(batch, nowhere(batch))
    monkeypatch.setattr(detector, "resample", None)
    assert reference.compare(batch, nowhere(batch)) == before


def test_the_same_seed_gives_the_same_thresholds_and_another_gives_others(scored: pd.DataFrame) -> None:
    rows, batch = scored.head(200), fresh(scored, SMALL)
    first, second, other = (
        DriftDetector(rows, nowhere(rows), default(), samples=50, seed=seed).compare(batch, nowhere(batch))
        for seed in (1, 1, 2)
    )
    assert first == second
    assert first != other


def test_a_share_of_alpha_of_draws_without_drift_exceeds_any_threshold() -> None:
    stream = np.random.default_rng(1)
    common = stream.random(4_000)
    drawn = {("a", "ks"): common, ("a", "psi"): common**2 * 9, ("b", "ks"): stream.random(4_000)}
    drawn[("b", "wasserstein")] = stream.exponential(5, 4_000)
    thresholds = DriftThresholds(drawn, 0.1)
    exceeded = np.any([values > thresholds.threshold[key] for key, values in drawn.items()], axis=0)
    assert exceeded.mean() == pytest.approx(0.1, abs=0.001)
    assert min(np.mean(values > thresholds.threshold[key]) for key, values in drawn.items()) > 0


def test_p_values_count_the_draws_that_are_as_far_away_and_the_batch_itself() -> None:
    thresholds = DriftThresholds({("a", "ks"): np.array([3.0, 1.0, 2.0, 2.0])}, 0.1)
    assert [thresholds.p_value(("a", "ks"), value) for value in (0, 2, 2.5, 4)] == [1, 0.8, 0.4, 0.2]


def test_only_p_values_of_drifted_columns_are_small(scored: pd.DataFrame, reference: DriftDetector) -> None:
    batch = fresh(scored, 200).assign(period=7.0)
    found = reference.compare(batch, nowhere(batch))
    assert statistic(found, "period", "ks").p_value < 0.01
    assert statistic(found, "lng", "ks").p_value > 0.05


def test_a_batch_of_one_row_works(scored: pd.DataFrame, reference: DriftDetector) -> None:
    batch = fresh(scored, 1)
    found = reference.compare(batch, nowhere(batch))
    assert (found.rows, found.reference_rows, found.classifier, found.alarm) == (1, 1_000, None, False)
    assert np.isfinite([each.threshold for each in found.statistics]).all()


def test_without_probabilities_only_features_are_compared(scored: pd.DataFrame) -> None:
    rows, batch = scored.head(100).drop(columns=PROBABILITY), fresh(scored, SMALL)
    found = DriftDetector(rows, nowhere(rows), default(), samples=20).compare(batch, nowhere(batch))
    assert {each.feature for each in found.statistics} == set(FEATURES)


def test_constant_columns_raise_an_alarm_when_they_change_and_only_then(scored: pd.DataFrame) -> None:
    rows, batch = scored.head(100).assign(playoffs=0.0), fresh(scored, SMALL).assign(playoffs=0.0)
    known = DriftDetector(rows, nowhere(rows), default(), samples=50)
    assert not known.compare(batch, nowhere(batch)).has_drifted("playoffs")
    assert known.compare(batch.assign(playoffs=1.0), nowhere(batch)).drifted_features == ["playoffs"]


def test_a_reference_of_one_shot_repeated_works(scored: pd.DataFrame) -> None:
    rows = pd.concat([scored.head(1)] * 60)
    known = DriftDetector(rows, nowhere(rows), default(), samples=20)
    assert not known.compare(rows, nowhere(rows)).alarm
    other = fresh(scored, SMALL)
    assert known.compare(other, nowhere(other)).alarm


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_with_row_and_column(
    scored: pd.DataFrame, reference: DriftDetector, value: float
) -> None:
    batch = fresh(scored, 3).reset_index(drop=True)
    batch.loc[2, "period"] = value
    with pytest.raises(ValueError, match="row 2, column period: expected a finite number; found"):
        reference.compare(batch, nowhere(batch))
    with pytest.raises(ValueError, match="row 2, column period"):
        DriftDetector(batch, nowhere(batch), default())
    with pytest.raises(ValueError, match="row 1, column probability"):
        DriftDetector(scored.head(2).assign(**{PROBABILITY: [0.5, value]}), nowhere(scored.head(2)), default())


@pytest.mark.parametrize("column", ["lng", PROBABILITY])
def test_a_missing_column_is_refused(scored: pd.DataFrame, reference: DriftDetector, column: str) -> None:
    batch = fresh(scored, 3).drop(columns=column)
    with pytest.raises(ValueError, match=f"missing {column}"):
        reference.compare(batch, nowhere(batch))


def test_no_rows_are_refused(scored: pd.DataFrame, reference: DriftDetector) -> None:
    with pytest.raises(ValueError, match="expected one or more current rows; found none"):
        reference.compare(scored.head(0), nowhere(scored.head(0)))


@pytest.mark.parametrize("rows", [0, 1])
def test_a_reference_of_less_than_two_rows_is_refused(scored: pd.DataFrame, rows: int) -> None:
    with pytest.raises(ValueError, match=f"expected two or more rows in the reference; found {rows}"):
        DriftDetector(scored.head(rows), nowhere(scored.head(rows)), default())


@pytest.mark.parametrize(("rows", "fitted"), [(49, False), (50, True)])
def test_the_classifier_needs_fifty_rows_on_either_side(rows: int, *, fitted: bool) -> None:
    stream = np.random.default_rng(0)
    few, many = stream.random((rows, 2)), stream.random((200, 2))
    assert (fit_domain_classifier(Side(few), Side(many), 0.05) is not None) == fitted
    assert (fit_domain_classifier(Side(many), Side(few), 0.05) is not None) == fitted


def test_the_classifier_separates_different_samples_and_its_scores_have_its_roc_auc(scored: pd.DataFrame) -> None:
    rows = scored[list(FEATURES)].to_numpy()
    far = rows[:, 5] > np.median(rows[:, 5])
    found = fit_domain_classifier(Side(rows[~far][:300]), Side(rows[far][:300]), 0.05)
    assert found is not None
    assert found.auc > 0.99
    assert found.drifted
    assert found.is_current.tolist() == [0] * 300 + [1] * 300
    assert roc_auc_score(found.is_current, found.score) == pytest.approx(found.auc, abs=0.01)


def test_the_classifier_rarely_discriminates_samples_of_one_distribution() -> None:
    stream = np.random.default_rng(4)
    found = [
        fit_domain_classifier(Side(stream.random((150, 3))), Side(stream.random((60, 3))), 0.005, seed=trial)
        for trial in range(60)
    ]
    alarms = sum(each is not None and each.drifted for each in found)
    assert alarms <= 2
    assert np.mean([each.auc for each in found if each is not None]) == pytest.approx(0.5, abs=0.02)


def test_the_variance_of_the_roc_auc_is_that_of_shuffled_scores_with_ties() -> None:
    stream = np.random.default_rng(5)
    score = stream.integers(0, 4, 60).astype(float)
    label = np.repeat([0, 1], [40, 20])
    areas = [roc_auc_score(stream.permutation(label), score) for _ in range(1_000)]
    assert domain_classifier._mann_whitney_variance(score, label) == pytest.approx(np.var(areas), rel=0.15)  # noqa: SLF001


def test_drift_of_the_domain_classifier_alone_is_an_alarm(scored: pd.DataFrame, reference: DriftDetector) -> None:
    batch = fresh(scored, 200)
    found = reference.compare(batch, nowhere(batch))
    assert found.classifier is not None
    sure = dataclasses.replace(found, classifier=dataclasses.replace(found.classifier, auc=0.9))
    assert (found.alarm, sure.alarm) == (False, True)


def test_batches_without_drift_raise_alarms_at_the_nominal_false_positive_rate(scored: pd.DataFrame) -> None:
    stream = np.random.default_rng(6)
    alarms = 0
    for trial in range(200):
        drawn = scored.sample(200 + SMALL, random_state=stream)
        rows, batch = drawn.head(200), drawn.tail(SMALL)
        known = DriftDetector(rows, nowhere(rows), default(), samples=200, seed=trial)
        alarms += known.compare(batch, nowhere(batch)).alarm
    assert 0.4 * detector.ALPHA < alarms / 200 < 1.7 * detector.ALPHA
