from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.acquisition import duplicate_ids
from data.acquisition.duplicate_ids import DuplicateSummary, IdSet

INTEGERS = st.integers(-(2**63), 2**63 - 1)
PIECES = st.lists(st.lists(st.one_of(st.integers(0, 20), INTEGERS), max_size=30), max_size=6)


def fill(numbers: IdSet, chunks: Sequence[Sequence[int]]) -> None:
    for chunk in chunks:
        numbers.add(np.array(chunk, dtype=np.int64))


@pytest.mark.parametrize("in_memory", [0, 25, 1_000])
@settings(max_examples=40, deadline=None)
@given(chunks=PIECES, others=PIECES)
def test_duplicates_and_common_ids_are_found_with_any_memory(
    tmp_path_factory: pytest.TempPathFactory, in_memory: int, chunks: list[list[int]], others: list[list[int]]
) -> None:
    counts = Counter(number for chunk in chunks for number in chunk)
    duplicate = sorted(number for number, count in counts.items() if count > 1)
    intersection = sorted(counts.keys() & {number for chunk in others for number in chunk})
    folder = tmp_path_factory.mktemp("numbers")
    with pytest.MonkeyPatch.context() as patch, IdSet(folder) as ours, IdSet(folder) as theirs:
        patch.setattr(duplicate_ids, "MAX_IN_MEMORY", in_memory)
        patch.setattr(duplicate_ids, "_BITS", 2)
        fill(ours, chunks)
        fill(theirs, others)
        assert ours.duplicates() == DuplicateSummary(len(duplicate), tuple(duplicate[:5]))
        assert ours.intersection(theirs) == DuplicateSummary(len(intersection), tuple(intersection[:5]))
        assert theirs.intersection(ours) == ours.intersection(theirs)
        assert ours.duplicates() == DuplicateSummary(len(duplicate), tuple(duplicate[:5]))
    assert list(folder.iterdir()) == []


def test_ids_in_steps_are_partitioned_into_all_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicate_ids, "MAX_IN_MEMORY", 0)
    with IdSet(tmp_path) as numbers:
        numbers.add(np.arange(0, 256 * 100_000, 256))
        sizes = [path.stat().st_size for path in tmp_path.glob("*/[!.]*")]
        assert len(sizes) == 256
        assert max(sizes) < 2 * np.mean(sizes)
        assert not numbers.duplicates()
