from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.model_selection import train_test_split

from data.engines.duckdb import duckdb_engine
from data.engines.engine import POSITION, Engine
from data.engines.hashing import HASH, hashed, with_hash
from data.engines.spark import SparkEngine
from data.errors import SchemaError
from data.preparation import split
from data.schema import SHOT_ID
from data.storage.tables import TableReader
from tests.spark import needs_java, small_session

SEEDS = st.integers(0, 2**32 - 1)
INTEGERS = st.integers(-(2**63), 2**63 - 1)
EXTREMES = np.array([0, 1, -1, 2**31, 2**32 - 1, 2**32, -(2**32), 2**63 - 1, -(2**63), 30_697], dtype=np.int64)
SIGNIFICANT = 1e-4


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


@pytest.mark.parametrize("classes", [{0: 10, 1: 0}, {0: 1, 1: 10}, {0: 0, 1: 0}, {0: 1_000, 1: 2}])
def test_a_split_with_a_missing_class_is_rejected(classes: Mapping[int, int]) -> None:
    with pytest.raises(SchemaError, match="too few to split"):
        split.test_rows_per_class(classes, 0.05, 42)


# The hash


def sides(seed: int, ids: npt.NDArray[np.int64], share: float = 0.2) -> npt.NDArray[np.bool_]:
    """Whether each id is among the smallest hashes."""
    hashes = hashed(ids, seed)
    found: npt.NDArray[np.bool_] = hashes <= np.quantile(hashes, share)
    return found


def bits(hashes: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """The bits of hashes, shape (n, 64)."""
    return np.unpackbits(hashes.view(np.uint8).reshape(-1, 8), axis=1, bitorder="little").astype(bool)


@settings(max_examples=40, deadline=None)
@given(numbers=st.sets(INTEGERS, min_size=1, max_size=300), seed=SEEDS)
def test_different_ids_have_different_hashes(numbers: set[int], seed: int) -> None:
    found = hashed(np.array(sorted(numbers), dtype=np.int64), seed)
    assert len(set(found.tolist())) == len(numbers)


@pytest.mark.parametrize("step", [1, 2, 100, 1 << 20, 1 << 32, (1 << 32) + 1])
@pytest.mark.parametrize("seed", [0, 1, 42])
def test_hashes_of_ids_in_steps_are_uniform(step: int, seed: int) -> None:
    ids = np.arange(100_000, dtype=np.int64) * step
    for shift in (0, 20, 32, 52):
        cells = np.bincount((hashed(ids, seed) >> shift) & 1023, minlength=1024)
        assert stats.chisquare(cells).pvalue > SIGNIFICANT
    leading = np.bincount((hashed(ids, seed) >> 54) + 512, minlength=1024)
    assert stats.chisquare(leading).pvalue > SIGNIFICANT


def test_each_bit_of_an_id_and_of_a_seed_changes_each_bit_of_the_hash_half_of_the_time() -> None:
    ids = np.random.default_rng(0).integers(-(2**63), 2**63, 20_000)
    before = bits(hashed(ids, 7))
    for bit in range(64):
        changed = (before ^ bits(hashed(ids ^ (np.int64(1) << bit), 7))).mean(axis=0)
        assert np.abs(changed - 0.5).max() < 0.02
    for bit in range(32):
        changed = (before ^ bits(hashed(ids, 7 ^ (1 << bit)))).mean(axis=0)
        assert np.abs(changed - 0.5).max() < 0.02


def test_consecutive_ids_and_consecutive_seeds_are_independent() -> None:
    ids = np.arange(1, 200_001)
    by_seed = np.array([sides(seed, ids) for seed in range(40, 50)])
    lagged = [np.corrcoef(each[:-lag], each[lag:])[0, 1] for each in by_seed for lag in (1, 2, 3, 7, 50)]
    across = np.corrcoef(by_seed)[np.triu_indices(len(by_seed), 1)]
    assert np.abs([*lagged, *across]).max() < 5 / np.sqrt(len(ids))


def test_no_intermediate_result_of_the_hash_overflows() -> None:
    # Python's integers do not, so equal results show that NumPy's did not either.
    assert hashed(EXTREMES, 5).tolist() == [hashed(int(number), 5) for number in EXTREMES]


def of_engine(engine: Engine, folder: Path, seed: int) -> list[int]:
    path = folder / "ids.parquet"
    pd.DataFrame({SHOT_ID: EXTREMES}).to_parquet(path)
    return [
        row[HASH] for row in engine.rows(with_hash(engine.read(TableReader(path)), "shot_id", seed).order_by(POSITION))
    ]


@pytest.mark.parametrize("seed", [0, 42, 2**32 - 1])
def test_duckdb_gives_the_hash_of_numpy(tmp_path: Path, seed: int) -> None:
    with duckdb_engine(tmp_path) as engine:
        assert of_engine(engine, tmp_path, seed) == hashed(EXTREMES, seed).tolist()


@needs_java
def test_spark_gives_the_hash_of_numpy(tmp_path: Path) -> None:
    assert of_engine(SparkEngine(small_session()), tmp_path, 42) == hashed(EXTREMES, 42).tolist()
