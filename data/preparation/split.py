"""Stratified random split into train and test, reproducible by its seed on both engines.

Up to ``MAX_SHUFFLED`` rows the split is scikit-learn's ``train_test_split``, which needs all rows in memory. A larger
table, and a table on Spark, whose parts have no order, is split by a hash of seed and ``shot_id``: the rows of each
class with the smallest hashes are the test rows. Both methods give the same number of rows of each class on each side.

The hash is XXH64 as in Spark's SQL: ``xxhash64(seed, shot_id)``. It is a bijection on integers, so different shots have
different hashes. The k smallest hashes of a class are found without sorting, by counting 16 leading bits at a time.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import train_test_split
from sklearn.utils import _approximate_mode, check_random_state

from data.acquisition.raw_tables import DEV_FILE
from data.errors import SchemaError

Hashes = npt.NDArray[np.uint64]

MAX_SHUFFLED = 1_000_000
"""Maximum number of rows that the local engine shuffles."""
BITS = 16
"""Number of leading bits that are counted at a time."""

_SPARK_SEED = 42
_PRIME_1, _PRIME_2, _PRIME_3, _PRIME_4, _PRIME_5 = (
    np.uint64(prime)
    for prime in (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
)


class Prefix(NamedTuple):
    """Leading bits of hashes.

    Attributes
    ----------
    bits : int
        Number of bits, a multiple of ``BITS``; 0 for all hashes.
    value : int
        The bits as an integer.
    """

    bits: int
    value: int


CountLeading = Callable[[Mapping[int, Prefix]], Mapping[int, npt.NDArray[np.int64]]]
"""By class, counts the hashes with a prefix by the value of their next ``BITS`` bits."""


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


def stratified_split(labels: npt.NDArray[np.int8], test_size: float, seed: int) -> tuple[npt.NDArray[np.int64], ...]:
    """Indices of the train rows and of the test rows, in random order, as in ``train_test_split``.

    Parameters
    ----------
    labels : ndarray of int8, shape (n,)
        0 or 1.
    test_size : float
    seed : int

    Raises
    ------
    SchemaError
        If a class has no row on a side.
    """
    test_rows_per_class(dict(enumerate(np.bincount(labels, minlength=2).tolist())), test_size, seed)
    train, test = train_test_split(np.arange(len(labels)), test_size=test_size, random_state=seed, stratify=labels)
    return train, test


def hashes(shot_ids: npt.NDArray[np.int64], seed: int) -> Hashes:
    """``xxhash64(seed, shot_id)``.

    Parameters
    ----------
    shot_ids : ndarray of int64, shape (n,)
    seed : int

    Returns
    -------
    ndarray of uint64, shape (n,)
        Spark's bigint as an unsigned integer.

    Examples
    --------
    >>> hashes(np.array([1, 2]), 42).astype(np.int64).tolist()  # SELECT xxhash64(42L, 1L), xxhash64(42L, 2L)
    [6121821564664701034, -4498083873487985667]
    """
    start = _hash(np.array([seed], dtype=np.int64), np.array([_SPARK_SEED], dtype=np.uint64))
    return _hash(shot_ids.astype(np.int64, copy=False), start)


def thresholds(test_rows: Mapping[int, int], count: CountLeading) -> dict[int, int]:
    """Find the greatest hash of the test rows of each class.

    Parameters
    ----------
    test_rows : mapping of int to int
        Number of test rows of each class, from 1 to the size of the class.
    count : callable
        See `CountLeading`; called at most four times.

    Returns
    -------
    dict of int to int
        Greatest hash of the test rows by class.
    """
    prefixes = dict.fromkeys(test_rows, Prefix(0, 0))
    missing = dict(test_rows)
    for _ in range(0, 64, BITS):
        for label, counts in count(prefixes).items():
            up_to = np.cumsum(counts)
            place = int(np.searchsorted(up_to, missing[label]))
            missing[label] -= int(up_to[place] - counts[place])
            prefixes[label] = Prefix(prefixes[label].bits + BITS, (prefixes[label].value << BITS) | place)
    return {label: prefix.value for label, prefix in prefixes.items()}


def count_leading(found: Hashes, prefix: Prefix) -> npt.NDArray[np.int64]:
    """Count the hashes with a prefix by the value of their next bits, shape (65,536,)."""
    if prefix.bits:
        found = found[found >> np.uint64(64 - prefix.bits) == np.uint64(prefix.value)]
    bits = (found >> np.uint64(64 - prefix.bits - BITS)) & np.uint64((1 << BITS) - 1)
    return np.bincount(bits.astype(np.int64), minlength=1 << BITS)


def _hash(values: npt.NDArray[np.int64], seed: Hashes) -> Hashes:
    """XXH64 of eight bytes: https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md."""
    with np.errstate(over="ignore"):
        mixed = seed + _PRIME_5 + np.uint64(8)
        mixed = mixed ^ (_rotate_left(values.view(np.uint64) * _PRIME_2, 31) * _PRIME_1)
        mixed = _rotate_left(mixed, 27) * _PRIME_1 + _PRIME_4
        mixed = (mixed ^ (mixed >> np.uint64(33))) * _PRIME_2
        mixed = (mixed ^ (mixed >> np.uint64(29))) * _PRIME_3
        return mixed ^ (mixed >> np.uint64(32))


def _rotate_left(values: Hashes, bits: int) -> Hashes:
    return (values << np.uint64(bits)) | (values >> np.uint64(64 - bits))
