from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from data.errors import SchemaError
from data.preparation import split
from data.preparation.split import Prefix, count_leading, hashes, stratified_split, thresholds

SEEDS = st.integers(0, 2**32 - 1)


@settings(deadline=None)
@given(missed=st.integers(2, 400), made=st.integers(2, 400), test_size=st.floats(0.01, 0.99), seed=SEEDS)
def test_classes_have_the_sizes_of_scikit_learn(missed: int, made: int, test_size: float, seed: int) -> None:
    labels = np.repeat([0, 1], [missed, made]).astype(np.int8)
    try:
        train, test = train_test_split(labels, test_size=test_size, random_state=seed, stratify=labels)
    except ValueError:
        with pytest.raises(SchemaError, match="too few to split"):
            split.test_rows_per_class({0: missed, 1: made}, test_size, seed)
        return
    assume(all(set(side) == {0, 1} for side in (train, test)))
    sizes = np.bincount(test, minlength=2)
    assert split.test_rows_per_class({0: missed, 1: made}, test_size, seed) == {0: sizes[0], 1: sizes[1]}
    places = stratified_split(labels, test_size, seed)
    assert [labels[side].tolist() for side in places] == [train.tolist(), test.tolist()]


@pytest.mark.parametrize("classes", [{0: 10, 1: 0}, {0: 1, 1: 10}, {0: 0, 1: 0}, {0: 1_000, 1: 2}])
def test_a_split_with_a_missing_class_is_rejected(classes: Mapping[int, int]) -> None:
    with pytest.raises(SchemaError, match="too few to split"):
        split.test_rows_per_class(classes, 0.05, 42)


@settings(max_examples=40, deadline=None)
@given(numbers=st.sets(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=300), seed=SEEDS, data=st.data())
def test_the_test_rows_of_a_class_have_the_smallest_hashes(numbers: set[int], seed: int, data: st.DataObject) -> None:
    found = hashes(np.array(sorted(numbers), dtype=np.int64), seed)
    assert len(set(found.tolist())) == len(numbers)
    n_test = data.draw(st.integers(1, len(numbers)))
    chunks = np.array_split(found, data.draw(st.integers(1, 4)))

    def count(prefixes: Mapping[int, Prefix]) -> dict[int, npt.NDArray[np.int64]]:
        return {
            label: np.sum([count_leading(chunk, prefix) for chunk in chunks], axis=0)
            for label, prefix in prefixes.items()
        }

    highest = thresholds({1: n_test}, count)[1]
    assert highest == int(np.sort(found)[n_test - 1])
