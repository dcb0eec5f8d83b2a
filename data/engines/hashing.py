"""A hash of ids in integer arithmetic, which every engine computes alike."""

from typing import TypeVar

import ibis.expr.types as ir
import numpy as np
import numpy.typing as npt

Integers = TypeVar("Integers", npt.NDArray[np.int64], int, ir.IntegerColumn)

HASH = "__hash"
"""The name of no column of a dataset starts with two underscores."""
_LEFT, _RIGHT = "__left", "__right"

_ROUNDS = 6
_HALF = (1 << 32) - 1
_MULTIPLIER = 0x5BD1E995
"""An odd number below 2**31, of MurmurHash2: its product with 32 bits is a bigint."""


def hashed(ids: Integers, seed: int) -> Integers:
    """Hash of a seed and 64-bit integers: a bijection on them, in integer arithmetic that every engine has.

    It is a Feistel network on the two halves of an integer. No intermediate result exceeds 64 bits.

    Examples
    --------
    >>> hashed(np.array([1, 2]), 42).tolist()
    [6814566933421613761, -6269683291567802239]
    """
    left, right = _halves(ids)
    for one, other in _keys(seed):
        left = _mixed(left, right, one)
        right = _mixed(right, left, other)
    found: Integers = _joined(left, right)
    return found


def with_hash(table: ir.Table, column: str, seed: int) -> ir.Table:
    """Add the column ``HASH``: `hashed` of a column of bigints."""
    columns = table.columns
    left, right = _halves(table[column])
    for one, other in _keys(seed):
        # A select of its own for each pair of rounds: as one expression they would be repeated in themselves.
        left = _mixed(left, right, one)
        table = table.mutate(**{_LEFT: left, _RIGHT: _mixed(right, left, other)})
        left, right = table[_LEFT], table[_RIGHT]
    return table.select(*columns, **{HASH: _joined(left, right)})


def _halves(ids: Integers) -> tuple[Integers, Integers]:
    return (ids >> 32) & _HALF, ids & _HALF


def _keys(seed: int) -> list[tuple[int, int]]:
    """The keys of pairs of rounds."""
    keys = list(map(int, np.random.SeedSequence(seed).generate_state(_ROUNDS)))
    return list(zip(keys[::2], keys[1::2], strict=True))


def _mixed(left: Integers, right: Integers, key: int) -> Integers:
    return left ^ ((((right ^ key) * _MULTIPLIER) >> 16) & _HALF)


def _joined(left: Integers, right: Integers) -> Integers:
    return (left - (1 << 31)) * (1 << 32) + right
