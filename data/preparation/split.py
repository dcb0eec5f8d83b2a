"""Stratified random split into train and test: the same rows for a seed, on every engine and for any order of rows.

The test rows of each class are those with the smallest hashes of seed and ``shot_id``, as many as in scikit-learn's
stratified split.
"""

from bisect import bisect_left
from collections.abc import Mapping
from itertools import accumulate
from typing import TypeVar

import ibis
import ibis.expr.types as ir
import numpy as np
import numpy.typing as npt
from sklearn.utils import _approximate_mode, check_random_state

from data.acquisition.raw_tables import DEV_FILE
from data.engines.engine import Engine
from data.errors import EngineError, SchemaError
from data.preparation.contract import RAW_FILES_CHANGED
from data.schema import SHOT_ID, TARGET

Integers = TypeVar("Integers", npt.NDArray[np.int64], int, ir.IntegerColumn)

HASH, IS_TRAIN, IS_TEST = "_hash", "_is_train", "_is_test"

_ROUNDS = 6
_HALF = (1 << 32) - 1
_MULTIPLIER = 0x5BD1E995
"""An odd number below 2**31, of MurmurHash2: its product with 32 bits is a bigint."""
_SMALLEST, _GREATEST = -(2**63), 2**63 - 1
_MARGIN = 8
"""Standard deviations on each side of the expected hash of the last test row."""


def test_rows_per_class(classes: Mapping[int, int], test_size: float, seed: int) -> dict[int, int]:
    """Number of test rows per class, as in scikit-learn's stratified split.

    Parameters
    ----------
    classes : mapping of int to int
        Rows of each class, 0 and 1.
    test_size : float
        Share of test rows.
    seed : int
        Seed of the rounding.

    Raises
    ------
    SchemaError
        If a class has no row on a side.

    Examples
    --------
    >>> test_rows_per_class({0: 10_600, 1: 9_685}, 0.2, 42)
    {0: 2120, 1: 1937}
    """
    counts = np.array([classes.get(label, 0) for label in (0, 1)])
    rows = int(counts.sum())
    test_rows = int(np.ceil(test_size * rows))
    sizes = counts * 0
    if counts.min() > 1 and min(test_rows, rows - test_rows) > 1:
        stream = check_random_state(seed)
        train = _approximate_mode(counts, rows - test_rows, stream)
        sizes = _approximate_mode(counts - train, test_rows, stream)
    if sizes.min() < 1 or (counts - sizes).min() < 1:
        message = (
            f"{DEV_FILE} leaves {rows:,} rows with every feature and a label, {counts[1]:,} made: too few to split "
            f"with test_size {test_size:g}. Expected both classes on both sides."
        )
        raise SchemaError(message)
    return {label: int(size) for label, size in enumerate(sizes)}


def hashed(shot_ids: Integers, seed: int) -> Integers:
    """Hash of a seed and 64-bit integers: a bijection on them, in integer arithmetic that every engine has.

    It is a Feistel network on the two halves of an integer. No intermediate result exceeds 64 bits.

    Examples
    --------
    >>> hashed(np.array([1, 2]), 42).tolist()
    [6814566933421613761, -6269683291567802239]
    """
    left, right = _halves(shot_ids)
    for key in _keys(seed):
        left, right = right, _mixed(left, right, key)
    found: Integers = _joined(left, right)
    return found


def with_hash(shots: ir.Table, seed: int) -> ir.Table:
    """Add the column ``HASH``: `hashed` of ``shot_id``, a bigint."""
    left, right = _halves(shots[SHOT_ID])
    shots = shots.mutate(_left=left, _right=right)
    for key in _keys(seed):
        # A select of its own for each round: as one expression it would be repeated in itself.
        shots = shots.mutate(_left=shots["_right"], _right=_mixed(shots["_left"], shots["_right"], key))
    return shots.mutate(**{HASH: _joined(shots["_left"], shots["_right"])}).drop("_left", "_right")


def with_side(
    engine: Engine, shots: ir.Table, classes: Mapping[int, int], test_rows: Mapping[int, int], seed: int
) -> ir.Table:
    """Add the columns ``IS_TRAIN`` and ``IS_TEST``.

    Parameters
    ----------
    engine : data.engines.engine.Engine
    shots : ibis.Table
        The rows to split, with the bigint ``shot_id`` and the label.
    classes, test_rows : mapping of int to int
        Number of rows, and of test rows, of each class.
    seed : int
    """
    rows = with_hash(shots, seed)
    last = _last_hashes(engine, rows, classes, test_rows)
    of_class = ibis.cases(*((rows[TARGET] == label, hash_) for label, hash_ in last.items()))
    rows = rows.mutate(**{IS_TEST: rows[HASH] <= of_class})
    return rows.mutate(**{IS_TRAIN: ~rows[IS_TEST]})


def _halves(shot_ids: Integers) -> tuple[Integers, Integers]:
    return (shot_ids >> 32) & _HALF, shot_ids & _HALF


def _keys(seed: int) -> list[int]:
    return [int(key) for key in np.random.SeedSequence(seed).generate_state(_ROUNDS)]


def _mixed(left: Integers, right: Integers, key: int) -> Integers:
    return left ^ ((((right ^ key) * _MULTIPLIER) >> 16) & _HALF)


def _joined(left: Integers, right: Integers) -> Integers:
    return (left - (1 << 31)) * (1 << 32) + right


def _last_hashes(
    engine: Engine, rows: ir.Table, classes: Mapping[int, int], test_rows: Mapping[int, int]
) -> dict[int, int]:
    """The greatest hash of the test rows of each class: by its rank in the class.

    Only the hashes in a band around its expected value come to this process; those below it are counted.
    """
    bands = {label: _band(test_rows[label] / size, size) for label, size in classes.items()}
    low, high = (ibis.cases(*((rows[TARGET] == label, band[end]) for label, band in bands.items())) for end in (0, 1))
    near = rows.mutate(low=low, high=high)
    near = near.filter(near[HASH] <= near.high).mutate(near=ibis.greatest(near[HASH], near.low))
    counted = engine.rows(near.group_by(TARGET, "near").aggregate(rows=near.count()))
    last = {}
    for label in classes:
        of_class = sorted((row["near"], row["rows"]) for row in counted if row[TARGET] == label)
        ranks = list(accumulate(count for _, count in of_class))
        place = bisect_left(ranks, test_rows[label])
        # Hashes below the band are counted at its lower end.
        if place < len(ranks) and (place or of_class[0][0] == _SMALLEST):
            last[label] = of_class[place][0]
    return last if len(last) == len(classes) else _ranked(engine, rows, test_rows)


def _ranked(engine: Engine, rows: ir.Table, test_rows: Mapping[int, int]) -> dict[int, int]:
    """As `_last_hashes` for ids whose hashes are not uniform, which someone selected who knows the seed."""
    rank = ibis.row_number().over(group_by=rows[TARGET], order_by=rows[HASH]) + 1
    ranked = rows.select(TARGET, HASH, rank=rank)
    found = ranked.filter(
        ranked["rank"] == ibis.cases(*((ranked[TARGET] == label, k) for label, k in test_rows.items()))
    )
    last = {int(row[TARGET]): int(row[HASH]) for row in engine.rows(found)}
    if len(last) < len(test_rows):
        raise EngineError(RAW_FILES_CHANGED)
    return last


def _band(share: float, size: int) -> tuple[int, int]:
    """Where the hash of a quantile is expected, of uniform 64-bit hashes."""
    width = _MARGIN * np.sqrt(share * (1 - share) / size)
    low, high = (round((min(max(end, 0.0), 1.0) - 0.5) * 2**64) for end in (share - width, share + width))
    return low, min(high, _GREATEST)
