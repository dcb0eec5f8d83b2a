"""Sketches of tables of any size, and the drift that is computed from them."""

import dataclasses
import tracemalloc
from collections.abc import Sequence
from functools import reduce
from itertools import pairwise
from random import Random
from unittest import mock

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from data.datasets import default
from data.schema import FEATURES, PROBABILITY, SHOT_ID
from monitor.drift import detector, sketches
from monitor.drift.detector import DriftDetector, DriftResult
from monitor.drift.encoding import Encoding
from monitor.drift.sketches import MAX_SAMPLED, MAX_VALUES, Bins, Histogram, Sample, Sketcher, TableSketch, hashes
from monitor.drift.statistics import ReferenceColumn
from tests.evaluations import TRAINING_ROWS, population, reference_data

Floats = npt.NDArray[np.float64]
P_MADE = Encoding(default(), (PROBABILITY,))
NUMBERS = st.lists(st.floats(0, 1, allow_subnormal=False), min_size=1, max_size=40)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Scored shots that are not in the reference. A few are out of support."""
    fresh = population().tail(9_000).reset_index(drop=True)
    fresh.loc[fresh.index % 100 == 7, "lat"] = 33.2
    fresh.loc[fresh.index % 250 == 9, "period"] = 10
    return fresh.assign(**{SHOT_ID: np.arange(9_000) * 7 + 1})


@pytest.fixture(scope="module")
def reference() -> DriftDetector:
    return DriftDetector(
        reference_data().table, reference_data().support.out_of_support(reference_data().table), default(), samples=100
    )


@pytest.fixture(scope="module")
def sketcher(reference: DriftDetector) -> Sketcher:
    return Sketcher(reference.encoding, reference.bins, reference_data().support)


def same(one: Histogram, other: Histogram) -> bool:
    return (
        one.is_binned == other.is_binned
        and one.rows.tolist() == other.rows.tolist()
        and bool(np.allclose(one.values, other.values, rtol=1e-12, atol=1e-15))
    )


def identical(one: TableSketch, other: TableSketch) -> bool:
    return (
        (one.rows, one.out_of_support) == (other.rows, other.out_of_support)
        and all(same(one.columns[name], other.columns[name]) for name in one.columns)
        and one.sample.hashes.tolist() == other.sample.hashes.tolist()
        and one.sample.features.tolist() == other.sample.features.tolist()
    )


def cut(values: Sequence[float], cuts: Sequence[int]) -> list[Floats]:
    ends = sorted({0, len(values), *(place % (len(values) + 1) for place in cuts)})
    return [np.array(values[first:last]) for first, last in pairwise(ends)]


# Chunks and whole tables


@given(
    values=NUMBERS,
    marks=NUMBERS,
    cuts=st.lists(st.integers(0, 99), max_size=6),
    most=st.integers(1, 30),
    stream=st.randoms(use_true_random=False),
)
def test_neither_the_chunks_of_a_column_nor_the_order_of_merging_makes_a_difference(
    values: list[float],
    marks: list[float],
    cuts: list[int],
    most: int,
    stream: Random,
) -> None:
    with mock.patch.object(sketches, "MAX_VALUES", most), mock.patch.object(sketches, "N_BINS", 8):
        bins = Bins.of(PROBABILITY, np.unique(marks), P_MADE)
        whole = Histogram.of(np.array(values), bins)
        chunks = [Histogram.of(chunk, bins) for chunk in cut(values, cuts)]
        stream.shuffle(chunks)
        while len(chunks) > 1:
            chunks.append(chunks.pop(0).merge(chunks.pop(0)))
        assert same(chunks[0], whole)
        assert whole.is_binned == (len(set(values)) > most)
        assert whole.rows.sum() == len(values)
        assert np.all(np.diff(whole.values) > 0)
        assert whole.mean == pytest.approx(np.mean(values), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("rows", [1, 1_000, 4_001, 9_000])
def test_the_sketch_of_chunks_is_the_sketch_of_the_table(sketcher: Sketcher, table: pd.DataFrame, rows: int) -> None:
    batch = table.head(9_000 if rows > 1 else 200)
    chunks = [batch.iloc[first : first + rows] for first in range(0, len(batch), rows)]
    whole = sketcher.sketch(batch)
    assert identical(sketcher.sketch_all(chunks), whole)
    parts = [sketcher.sketch(chunk, chunk.index.to_numpy()) for chunk in chunks]
    assert identical(reduce(TableSketch.merge, parts[::-1]), whole)


def test_out_of_support_rows_do_not_depend_on_the_cached_locations(sketcher: Sketcher, table: pd.DataFrame) -> None:
    outside = reference_data().support.out_of_support(table)
    assert 100 < outside.sum() < 200
    for max_locations in (10, 3_000, 2**17):
        with mock.patch.object(sketches, "_MAX_LOCATIONS", max_locations):
            chunks = (table.iloc[first : first + 700] for first in range(0, 9_000, 700))
            assert sketcher.sketch_all(chunks).out_of_support == outside.sum()


def test_no_chunks_and_values_that_are_not_finite_are_an_error(sketcher: Sketcher, table: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="expected one or more chunks of a table; found none"):
        sketcher.sketch_all([])
    with pytest.raises(ValueError, match="row 1, column period: expected a finite number; found nan"):
        sketcher.sketch(table.head(2).assign(period=[1.0, np.nan]))
    with pytest.raises(ValueError, match=f"missing {PROBABILITY}"):
        sketcher.sketch(table.drop(columns=PROBABILITY))


# Bins


def test_many_distinct_values_are_held_in_a_bounded_number_of_bins() -> None:
    stream = np.random.default_rng(0)
    bins = Bins.of(PROBABILITY, np.round(np.linspace(0.2, 0.7, 4_000), 6), P_MADE)
    found = reduce(Histogram.merge, (Histogram.of(stream.random(100_000), bins) for _ in range(5)))
    assert found.is_binned
    assert found.rows.sum() == 500_000
    assert MAX_VALUES / 2 < len(found.values) <= 2 * len(bins.edges) + 1


def test_values_of_the_reference_and_ends_of_the_range_are_bins_of_their_own() -> None:
    marks = np.array([0.3, np.nextafter(0.3, 1), 0.5])
    bins = Bins.of(PROBABILITY, marks, P_MADE)
    values = np.array([0.0, 0.29999, 0.3, np.nextafter(0.3, 1), 0.300001, 0.300002, 0.5, 1.0])
    held, rows = bins.rebin(values, np.arange(1, 9))
    assert rows.tolist() == [1, 2, 3, 4, 11, 7, 8]
    assert held.tolist()[2:4] == marks.tolist()[:2]
    assert held[4] == pytest.approx((5 * 0.300001 + 6 * 0.300002) / 11, rel=1e-12)
    assert (held[0], held[-2], held[-1]) == (0, 0.5, 1)


@pytest.mark.parametrize("seed", range(3))
def test_distances_of_binned_probabilities_are_those_of_the_values(seed: int) -> None:
    stream = np.random.default_rng(seed)
    known = np.concatenate([stream.beta(8, 9, 3_000), np.repeat([0.41, 0.52], 500)])
    batch = np.concatenate([stream.beta(7.5, 9, 200_000), np.repeat([0.41, 0.52, 0.53], 20_000)])
    column = ReferenceColumn(PROBABILITY, known)
    exact = column.compare(batch)
    found = Histogram.of(batch, Bins.of(PROBABILITY, column.values, P_MADE))
    assert found.is_binned
    is_binned = column.compare(found.values, found.rows)
    assert is_binned["ks"] == pytest.approx(exact["ks"], abs=1e-12)
    assert is_binned["psi"] == pytest.approx(exact["psi"], abs=1e-12)
    assert is_binned["wasserstein"] == pytest.approx(exact["wasserstein"], abs=1e-7)
    assert found.mean == pytest.approx(batch.mean(), abs=1e-12)


# Distances of sketches


@given(known=st.lists(st.integers(0, 12), min_size=2, max_size=30), data=st.data())
@settings(max_examples=60)
def test_distances_of_values_with_counts_are_those_of_scipy(known: list[int], data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(-2, 15), min_size=1, max_size=15, unique=True))
    rows = data.draw(st.lists(st.integers(1, 1_000), min_size=len(values), max_size=len(values)))
    before, held, count = np.array(known, dtype=float), np.array(values, dtype=float), np.array(rows)
    column = ReferenceColumn("minutes_remaining", before)
    found = column.compare(held, count)
    every = np.repeat(held, count)
    assert found["ks"] == pytest.approx(stats.ks_2samp(every, before, method="asymp").statistic, abs=1e-12)
    weighted = stats.wasserstein_distance(held, before, count, np.ones(len(before)))
    assert found["wasserstein"] == pytest.approx(weighted, rel=1e-12, abs=1e-12)
    assert found == column.compare(every)


def test_the_drift_of_a_sketch_is_the_drift_of_the_table(
    reference: DriftDetector, sketcher: Sketcher, table: pd.DataFrame
) -> None:
    for batch in (table.head(40), table.head(3_000), table):
        outside = reference_data().support.out_of_support(batch)
        one, other = reference.compare(batch, outside), reference.compare_sketch(sketcher.sketch(batch))
        assert dataclasses.replace(one, classifier=None) == dataclasses.replace(other, classifier=None)
        if one.classifier and other.classifier:
            assert one.classifier.auc == pytest.approx(other.classifier.auc, abs=0.03)
            assert len(one.classifier.score) == len(other.classifier.score)


def test_a_sketch_without_rows_or_without_a_column_is_an_error(
    reference: DriftDetector, sketcher: Sketcher, table: pd.DataFrame
) -> None:
    found = sketcher.sketch(table.head(9))
    without = dataclasses.replace(found, columns={name: found.columns[name] for name in FEATURES})
    for wrong in (dataclasses.replace(found, rows=0), without):
        with pytest.raises(ValueError, match="expected one or more rows with lat"):
            reference.compare_sketch(wrong)


def times(found: TableSketch, factor: int) -> TableSketch:
    """The sketch of a table with so many copies of each row."""
    columns = {
        name: dataclasses.replace(counted, rows=counted.rows * factor) for name, counted in found.columns.items()
    }
    return TableSketch(found.rows * factor, columns, found.out_of_support * factor, found.sample)


def test_fifty_million_rows_need_no_more_memory_than_few(reference: DriftDetector, sketcher: Sketcher) -> None:
    few = sketcher.sketch(population().tail(5_000))
    peaks: list[float] = []
    compared: list[DriftResult] = []
    for factor in (1, 10_000):
        tracemalloc.start()
        compared.append(reference.compare_sketch(times(few, factor)))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert compared[1].rows == 50_000_000
    assert peaks[1] < 1.2 * peaks[0]
    assert [each.value for each in compared[1].statistics] == pytest.approx(
        [each.value for each in compared[0].statistics], rel=1e-3, abs=1e-4
    )
    assert all(
        large.threshold <= small.threshold
        for small, large in zip(*(found.statistics for found in compared), strict=True)
    )


@pytest.mark.parametrize(("out_of_support", "supported"), [(0, 3_000), (4, 4_053), (1_500, 1_500)])
def test_the_out_of_support_threshold_of_many_rows_is_that_of_the_beta_binomial(
    out_of_support: int, supported: int
) -> None:
    rows = 150_000
    exact = stats.betabinom(rows, out_of_support + 0.5, supported + 0.5)
    found = detector.OutOfSupportCount(rows, out_of_support + 0.5, supported + 0.5)
    threshold = exact.isf(0.005)
    assert found.threshold(0.005) == pytest.approx(threshold, rel=0.01)
    assert found.p_value(int(threshold)) == pytest.approx(exact.sf(threshold - 1), rel=0.02)
    assert found.p_value(0) == pytest.approx(1)
    assert found.p_value(rows + 1) == 0
    few = detector.OutOfSupportCount(900, out_of_support + 0.5, supported + 0.5)
    assert few.threshold(0.005) == stats.betabinom(900, out_of_support + 0.5, supported + 0.5).isf(0.005)


# Rows for the domain classifier


def test_the_sample_holds_the_rows_with_the_smallest_hashes_of_their_shots(
    sketcher: Sketcher, table: pd.DataFrame
) -> None:
    found = sketcher.sketch(table.sample(frac=1, random_state=3)).sample
    expected = np.argsort(hashes(table[SHOT_ID].to_numpy(), 0))[:MAX_SAMPLED]
    assert found.features.tolist() == table[list(FEATURES)].to_numpy()[expected].tolist()
    assert abs(expected.mean() / 4_500 - 1) < 0.05


def test_a_small_table_is_sampled_whole(sketcher: Sketcher, table: pd.DataFrame) -> None:
    few = table.head(300)
    assert sorted(sketcher.sketch(few).sample.features.tolist()) == sorted(few[list(FEATURES)].to_numpy().tolist())


@pytest.mark.parametrize("ids", [None, np.nan, "none"])
def test_rows_without_a_shot_id_are_identified_by_their_position(
    sketcher: Sketcher, table: pd.DataFrame, ids: object
) -> None:
    unknown = table.drop(columns=SHOT_ID)
    expected = sketcher.sketch(unknown)
    assert identical(sketcher.sketch(unknown.assign(**{SHOT_ID: ids})), expected)
    assert len(expected.sample.hashes) == MAX_SAMPLED
    halves = [sketcher.sketch(unknown.tail(4_500), 4_500), sketcher.sketch(unknown.head(4_500))]
    assert identical(reduce(TableSketch.merge, halves), expected)


def test_one_row_of_a_duplicate_shot_is_sampled_in_any_order(sketcher: Sketcher, table: pd.DataFrame) -> None:
    twice = pd.concat([table.head(80), table.head(80).assign(period=4.0)])
    found = sketcher.sketch(twice)
    assert len(found.sample.hashes) == 80
    assert identical(found, sketcher.sketch(twice.iloc[::-1]))
    assert found.rows == 160


def test_an_empty_sample_merges_into_the_other(sketcher: Sketcher, table: pd.DataFrame) -> None:
    found = sketcher.sketch(table.head(50)).sample
    nothing = Sample(np.empty(0, np.uint64), np.empty((0, len(FEATURES))))
    assert found.merge(nothing).hashes.tolist() == nothing.merge(found).hashes.tolist() == found.hashes.tolist()
    assert nothing.merge(nothing).features.shape == (0, len(FEATURES))


def test_the_domain_classifier_of_a_large_table_finds_a_change_of_the_joint_distribution(
    reference: DriftDetector, sketcher: Sketcher
) -> None:
    batch = population().iloc[TRAINING_ROWS + 3_000 :].assign(**{SHOT_ID: range(33_000)})
    mirrored = batch.assign(shot_distance=batch["shot_distance"].sample(frac=1, random_state=0).to_numpy())
    found = [reference.compare_sketch(sketcher.sketch(each)).classifier for each in (batch, mirrored)]
    assert [each is not None and each.drifted for each in found] == [False, True]
