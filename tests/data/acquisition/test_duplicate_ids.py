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


def filled(numbers: IdSet, pieces: Sequence[Sequence[int]]) -> None:
    for piece in pieces:
        numbers.add(np.array(piece, dtype=np.int64))


@pytest.mark.parametrize("held", [0, 25, 1_000])
@settings(max_examples=40, deadline=None)
@given(pieces=PIECES, others=PIECES)
def test_doubled_and_shared_numbers_are_found_however_few_are_held(
    tmp_path_factory: pytest.TempPathFactory, held: int, pieces: list[list[int]], others: list[list[int]]
) -> None:
    counts = Counter(number for piece in pieces for number in piece)
    doubled = sorted(number for number, count in counts.items() if count > 1)
    shared = sorted(counts.keys() & {number for piece in others for number in piece})
    folder = tmp_path_factory.mktemp("numbers")
    with pytest.MonkeyPatch.context() as patch, IdSet(folder) as ours, IdSet(folder) as theirs:
        patch.setattr(duplicate_ids, "MOST_HELD", held)
        patch.setattr(duplicate_ids, "_BITS", 2)
        filled(ours, pieces)
        filled(theirs, others)
        assert ours.doubled() == DuplicateSummary(len(doubled), tuple(doubled[:5]))
        assert ours.shared(theirs) == DuplicateSummary(len(shared), tuple(shared[:5]))
        assert theirs.shared(ours) == ours.shared(theirs)
        assert ours.doubled() == DuplicateSummary(len(doubled), tuple(doubled[:5]))
    assert list(folder.iterdir()) == []


def test_numbers_in_steps_are_dealt_out_to_all_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicate_ids, "MOST_HELD", 0)
    with IdSet(tmp_path) as numbers:
        numbers.add(np.arange(0, 256 * 100_000, 256))
        sizes = [path.stat().st_size for path in tmp_path.glob("*/[!.]*")]
        assert len(sizes) == 256
        assert max(sizes) < 2 * np.mean(sizes)
        assert not numbers.doubled()
