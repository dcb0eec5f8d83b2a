"""XXH64 of integers, as in Spark's SQL: ``xxhash64(seed, number)``; it selects the rows of a sketch's sample."""

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]

_SPARK_SEED = 42
_PRIME_1, _PRIME_2, _PRIME_3, _PRIME_4, _PRIME_5 = (
    np.uint64(prime)
    for prime in (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
)


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
