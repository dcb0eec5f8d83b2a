"""Drift and training support of columns of any kind, and of rows that have groups."""

from functools import reduce

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon

from data.datasets import Dataset
from data.schema import PROBABILITY
from monitor.drift.detector import DriftDetector, DriftResult
from monitor.drift.domain_classifier import Side, fit_domain_classifier
from monitor.drift.encoding import Encoding
from monitor.drift.sketches import MAX_GROUPS, DistinctCount, Sketcher, TableSketch
from monitor.drift.spark import pack, unpack
from monitor.drift.statistics import ReferenceCategories
from monitor.drift.training_support import Support
from tests.orders import DATASET, orders

NAMES = (*DATASET.feature_names, PROBABILITY)


def alone(table: pd.DataFrame) -> pd.DataFrame:
    """Orders without their customers: independent rows."""
    return table.drop(columns="customer")


@pytest.fixture(scope="module")
def support() -> Support:
    return Support.of(orders(3_000, seed=1), DATASET)


@pytest.fixture(scope="module")
def detector(support: Support) -> DriftDetector:
    rows = alone(orders(1_500, seed=2))
    return DriftDetector(rows, support.out_of_support(rows), DATASET, known=support.categories, samples=200)


def compared(detector: DriftDetector, support: Support, table: pd.DataFrame) -> DriftResult:
    return detector.compare(table, support.out_of_support(table))


# Statistics by kind


def test_a_batch_without_drift_raises_no_alarm(detector: DriftDetector, support: Support) -> None:
    found = compared(detector, support, alone(orders(600, seed=3)))
    assert not found.alarm
    assert {name: set(found.of_column(name)) for name in ("price", "express", "channel", "coupon")} == {
        "price": {"ks", "psi", "wasserstein"},
        "express": {"ks", "psi", "wasserstein"},
        "channel": {"js", "psi"},
        "coupon": {"js", "psi"},
    }


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("channel", lambda table: table["channel"].where(np.arange(len(table)) % 3 > 0, "phone")),
        ("coupon", lambda table: table["coupon"].where(np.arange(len(table)) % 3 > 0, "vip")),
        ("express", lambda table: 1 - table["express"]),
        ("rating", lambda table: table["rating"] - 1),
    ],
    ids=["channel", "coupon", "express", "rating"],
)
def test_a_shifted_column_of_any_kind_raises_the_alarm_of_that_column_and_of_no_other(
    detector: DriftDetector, support: Support, column: str, change: "pd.Series[float]"
) -> None:
    batch = alone(orders(600, seed=3))
    found = compared(detector, support, batch.assign(**{column: change}))
    assert found.drifted_features == [column]
    assert found.alarm


def test_the_distance_of_categories_is_that_of_jensen_and_shannon(detector: DriftDetector, support: Support) -> None:
    batch, reference = alone(orders(600, seed=3)), orders(1_500, seed=2)
    found = compared(detector, support, batch).of_column("channel")["js"]
    shares = [table["channel"].value_counts(normalize=True).sort_index() for table in (batch, reference)]
    assert found.value == pytest.approx(jensenshannon(*shares, base=2))


def test_rare_categories_are_pooled_together_with_unknown_ones() -> None:
    reference = np.repeat([0.0, 1, 2, 3, 4], [600, 390, 4, 3, 3])
    column = ReferenceCategories("channel", reference)
    same = column.compare(np.array([0.0, 1, 2]), np.array([600, 390, 10]))
    unknown = column.compare(np.array([0.0, 1, 9]), np.array([600, 390, 10]))
    assert same == unknown == pytest.approx({"js": 0, "psi": 0}, abs=1e-12)


def test_the_fast_distances_of_drawn_categories_are_those_of_a_batch() -> None:
    stream = np.random.default_rng(0)
    codes = np.where(stream.random(300) < 0.1, np.nan, stream.integers(0, 4, 300))
    column, drawn = ReferenceCategories("channel", codes), stream.integers(0, 3, 300).astype(float)
    fast = column.distances(column.count_draws(drawn[None]), column.count_draws(np.ones((1, 300))))
    batch = np.repeat(codes, drawn.astype(int))
    assert {name: found[0] for name, found in fast.items()} == pytest.approx(column.compare(batch[~np.isnan(batch)]))


def test_a_date_moves_on_without_an_alarm_and_the_result_has_the_shift(
    detector: DriftDetector, support: Support
) -> None:
    later = alone(orders(600, seed=3, since="2026-07-01"))
    found = compared(detector, support, later)
    moved = found.moved_dates[0]
    assert (moved.feature, moved.unit, moved.is_expected) == ("ordered_on", "days", True)
    assert moved.value == pytest.approx(181, abs=5)
    assert not found.has_drifted("ordered_on")
    assert not found.alarm


def test_a_date_does_not_change_the_thresholds_of_the_other_columns() -> None:
    rows, nowhere = alone(orders(300, seed=2)), np.zeros(300, dtype=bool)
    written = DATASET.model_dump()
    undated = Dataset.model_validate(
        written | {"columns": [each for each in written["columns"] if each["kind"] != "date"]}
    )
    thresholds = [
        {(each.feature, each.name): each.threshold for each in found.statistics if each.feature != "ordered_on"}
        for found in (
            DriftDetector(rows, nowhere, dataset, samples=200).compare(rows[:100], nowhere[:100])
            for dataset in (DATASET, undated)
        )
    ]
    assert thresholds[0] == thresholds[1]


# Nulls and unknown categories


def test_unknown_categories_are_counted_and_named(detector: DriftDetector, support: Support) -> None:
    batch = alone(orders(600, seed=3))
    names = np.where(np.arange(600) < 20, "app", np.where(np.arange(600) < 25, "fax", batch["channel"]))
    found = compared(detector, support, batch.assign(channel=names))
    test = {each.feature: each for each in found.unseen}["channel"]
    assert (test.rows, dict(test.categories)) == (25, {"app": 20, "fax": 5})
    assert test.drifted
    assert found.alarm
    assert not {each.feature: each for each in found.unseen}["coupon"].drifted


@pytest.mark.parametrize(("nulls", "alarm"), [(0, False), (150, True), (600, True)])
def test_more_nulls_than_in_the_reference_raise_an_alarm(
    detector: DriftDetector, support: Support, nulls: int, *, alarm: bool
) -> None:
    batch = alone(orders(600, seed=3))
    table = batch.assign(coupon=batch["coupon"].where(np.arange(600) >= nulls, None))
    test = {each.feature: each for each in compared(detector, support, table).nulls}["coupon"]
    assert test.rows == table["coupon"].isna().sum()
    assert test.drifted == alarm
    assert test.reference_rate == pytest.approx(0.1, abs=0.03)


def test_rates_are_tested_with_the_beta_binomial_distribution_of_the_reference_rate(
    detector: DriftDetector, support: Support
) -> None:
    reference, batch = alone(orders(1_500, seed=2)), alone(orders(600, seed=3))
    table = batch.assign(channel=batch["channel"].where(np.arange(600) >= 3, "app"))
    found = compared(detector, support, table)
    assert [each.feature for each in found.nulls] == ["coupon", "rating"]
    assert [each.feature for each in found.unseen] == ["channel", "coupon"]
    expected = [(table[name].isna(), reference[name].isna()) for name in ("coupon", "rating")]
    nowhere = pd.Series(np.zeros(1_500, dtype=bool))
    expected += [(pd.Series(np.arange(600) < 3), nowhere), (pd.Series(np.zeros(600, dtype=bool)), nowhere)]
    for test, (current, known) in zip((*found.nulls, *found.unseen), expected, strict=True):
        null = stats.betabinom(600, known.sum() + 0.5, (~known).sum() + 0.5)
        assert (test.rows, test.rate, test.reference_rate) == (current.sum(), current.mean(), known.mean())
        assert test.threshold == null.isf(0.005 / 4) / 600
        assert test.p_value == pytest.approx(null.sf(current.sum() - 1))
    assert [dict(each.categories) for each in (*found.nulls, *found.unseen)] == [{}, {}, {"app": 3}, {}]
    marked, known_rate = support.out_of_support(table), support.out_of_support(reference)
    null = stats.betabinom(600, known_rate.sum() + 0.5, (~known_rate).sum() + 0.5)
    assert found.out_of_support_rate == marked.mean()
    assert found.out_of_support_threshold == null.isf(0.005) / 600
    assert found.out_of_support_p_value == pytest.approx(null.sf(marked.sum() - 1))


def test_a_null_in_a_column_without_nulls_is_an_error(detector: DriftDetector, support: Support) -> None:
    batch = alone(orders(60, seed=3))
    batch.loc[7, "channel"] = None
    with pytest.raises(ValueError, match="row 7, column channel: expected a category; found None"):
        compared(detector, support, batch)


# Support of the training rows


@pytest.mark.parametrize(
    ("column", "value", "out"),
    [
        ("channel", "web", False),
        ("channel", "app", True),
        ("coupon", None, False),
        ("express", 1.0, False),
        ("items", 9.0, True),
        ("price", 5_000.0, True),
        ("ordered_on", "2031-01-01", False),
    ],
)
def test_a_row_is_in_support_if_training_rows_have_its_values(
    support: Support, column: str, value: float | str | None, *, out: bool
) -> None:
    row = orders(200, seed=4).query("10 < price < 60").head(1)
    assert not support.out_of_support(row).any()
    assert support.out_of_support(row.assign(**{column: [value]})).all() == out


def test_a_category_and_a_null_need_ten_training_rows() -> None:
    training = orders(2_000, seed=1).assign(coupon="none")
    for rows, supported in ((9, False), (10, True)):
        rare = training.assign(
            channel=np.where(np.arange(2_000) < rows, "fax", training["channel"]),
            coupon=training["coupon"].where(np.arange(2_000) >= rows, None),
        )
        support = Support.of(rare, DATASET)
        row = training.tail(1)
        assert support.out_of_support(row.assign(channel="fax")).all() != supported
        assert support.out_of_support(row.assign(coupon=None)).all() != supported


def test_almost_all_training_rows_of_any_kind_are_in_support(support: Support) -> None:
    assert support.out_of_support(orders(3_000, seed=1)).mean() <= 0.003


# Groups


def test_thresholds_by_group_are_wider_where_rows_of_a_group_are_alike() -> None:
    table = orders(3_000, seed=5, per_customer=20)
    nowhere = np.zeros(3_000, dtype=bool)
    batch = orders(400, seed=6, per_customer=20)
    by_group = DriftDetector(table, nowhere, DATASET, samples=200).compare(batch, nowhere[:400])
    by_row = DriftDetector(alone(table), nowhere, DATASET, samples=200).compare(batch, nowhere[:400])
    assert (by_group.groups, by_group.reference_groups, by_row.groups) == (20, 150, None)
    wider = {
        name: by_group.of_column(name)["psi"].threshold / by_row.of_column(name)["psi"].threshold
        for name in ("channel", "coupon")
    }
    assert wider["channel"] > 4
    assert wider["coupon"] == pytest.approx(1, abs=0.6)
    above_chance = [found.classifier.threshold - 0.5 for found in (by_group, by_row) if found.classifier]
    assert above_chance[0] > 2 * above_chance[1]


def test_batches_of_whole_groups_seldom_raise_an_alarm() -> None:
    table = orders(3_000, seed=5, per_customer=20)
    nowhere = np.zeros(3_000, dtype=bool)
    detectors = [DriftDetector(each, nowhere, DATASET, samples=100) for each in (table, alone(table))]
    batches = [orders(400, seed=100 + trial, per_customer=20) for trial in range(8)]
    by_group, by_row = (
        sum(any(each.drifted for each in detector.compare(batch, nowhere[:400]).statistics) for batch in batches)
        for detector in detectors
    )
    assert by_group <= 2
    assert by_row >= 6


def test_a_batch_with_some_rows_of_each_group_has_thresholds_of_its_own() -> None:
    table = orders(3_000, seed=5, per_customer=20)
    detector = DriftDetector(table, np.zeros(3_000, dtype=bool), DATASET, samples=200)
    one_each = orders(8_000, seed=6, per_customer=20).iloc[::20]
    whole = orders(400, seed=6, per_customer=20)
    thresholds = [
        detector.compare(batch, np.zeros(400, dtype=bool)).of_column("channel")["psi"].threshold
        for batch in (one_each, whole)
    ]
    assert thresholds[0] < thresholds[1] / 2


def test_a_rate_by_group_has_the_threshold_of_fewer_rows() -> None:
    table = orders(3_000, seed=5, per_customer=20)
    marked = (np.arange(3_000) // 20) % 50 == 0
    detectors = [DriftDetector(each, marked, DATASET, samples=20) for each in (table, alone(table))]
    batch, nowhere = orders(400, seed=6, per_customer=20), np.zeros(400, dtype=bool)
    by_group, by_row = (each.compare(batch, nowhere).out_of_support_threshold for each in detectors)
    assert by_group > 2 * by_row


def test_the_domain_classifier_is_not_misled_by_groups() -> None:
    stream = np.random.default_rng(0)

    def side(groups: int, first: int) -> Side:
        group = np.repeat(np.arange(groups), 20)
        features = np.column_stack([stream.normal(size=groups)[group], stream.normal(size=len(group))])
        return Side(features, (group + first).astype(np.uint64))

    found, misled = [], []
    for trial in range(5):
        one, other = side(40, 0), side(20, 100)
        found.append(fit_domain_classifier(one, other, 0.005, seed=trial))
        misled.append(fit_domain_classifier(Side(one.features), Side(other.features), 0.005, seed=trial))
    assert sum(each is not None and each.drifted for each in found) <= 1
    assert sum(each is not None and each.drifted for each in misled) >= 4


@pytest.mark.parametrize("groups", [4, 5])
def test_the_domain_classifier_needs_five_groups_on_either_side(groups: int) -> None:
    features = np.random.default_rng(0).random((200, 2))
    few = Side(features, (np.arange(200) % groups).astype(np.uint64))
    many = Side(features, np.arange(200, dtype=np.uint64))
    assert (fit_domain_classifier(few, many, 0.05) is not None) == (groups >= 5)


# Sketches


def sketched(detector: DriftDetector, support: Support, table: pd.DataFrame, size: int) -> TableSketch:
    sketcher = Sketcher(detector.encoding, detector.bins, support)
    chunks = [table.iloc[start : start + size] for start in range(0, len(table), size)]
    return reduce(TableSketch.merge, (sketcher.sketch(chunk) for chunk in reversed(chunks)))


@pytest.mark.parametrize("size", [90, 5_000])
def test_drift_of_any_kind_from_merged_sketches_is_that_of_the_table(size: int, support: Support) -> None:
    reference = orders(1_500, seed=2, per_customer=5)
    detector = DriftDetector(
        reference, support.out_of_support(reference), DATASET, known=support.categories, samples=100
    )
    table = orders(900, seed=3, per_customer=9, since="2026-05-01")
    table.loc[::30, "channel"] = "app"
    whole = detector.compare(table, support.out_of_support(table))
    sketch = sketched(detector, support, table, size)
    found = detector.compare_sketch(unpack(pack(sketch), detector.bins))
    assert found.statistics == whole.statistics
    assert (found.nulls, found.unseen, found.groups) == (whole.nulls, whole.unseen, whole.groups)
    assert found.out_of_support_rate == whole.out_of_support_rate
    assert found.classifier is not None
    assert whole.classifier is not None
    assert found.classifier.threshold == pytest.approx(whole.classifier.threshold, abs=0.05)


def test_many_groups_are_counted_within_one_percent() -> None:
    stream = np.random.default_rng(0)
    hashes = [stream.integers(0, 2**64, 60_000, dtype=np.uint64) for _ in range(5)]
    found = reduce(DistinctCount.merge, (DistinctCount.of(np.repeat(each, 2)) for each in hashes))
    assert len(found.hashes) == MAX_GROUPS
    assert found.value == pytest.approx(300_000, rel=0.01)


def test_categories_have_the_numbers_of_the_training_rows() -> None:
    table = pd.DataFrame({name: orders(6)[name] for name in NAMES}).assign(channel=list("aabbbz"))
    encoding = Encoding.of(DATASET, table, {"channel": ("b", "a"), "coupon": ("none",)})
    codes: npt.NDArray[np.float64] = encoding.encode(table)[:, NAMES.index("channel")]
    assert codes.tolist() == [1, 1, 0, 0, 0, 2]
    assert encoding.unseen(table)["channel"] == {"z": 1}
