"""Whole numbers that stand more than once, among any number of them, in bounded memory.

Up to ``MOST_HELD`` numbers stay in memory. More are dealt out to files by their bits, so that the same number always
goes to the same file, and each file is then looked at alone.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from data.storage.staging import staging

Ints = npt.NDArray[np.int64]

MOST_HELD = 2_000_000
"""Numbers up to which they stay in memory, 16 MB."""

_BITS = 8
_MOST_EXAMPLES = 5
# Odd and without a pattern, so that ids in steps of any size are dealt out evenly.
_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class DuplicateSummary:
    """Numbers that stand more often than they should.

    Attributes
    ----------
    count : int
        How many different ones.
    examples : tuple of int
        The smallest of them, in order.
    """

    count: int = 0
    examples: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.count)

    def __str__(self) -> str:
        """The examples in words."""
        return f"such as {', '.join(map(str, self.examples))}"


class IdSet:
    """A collection of whole numbers, as a context manager.

    Parameters
    ----------
    folder : pathlib.Path
        Where files go, eight bytes a number, if there are many; they are removed at the end.

    Examples
    --------
    >>> with IdSet(Path()) as some, IdSet(Path()) as others:
    ...     some.add(np.array([3, 1, 3]))
    ...     others.add(np.array([7, 1]))
    ...     some.doubled(), some.shared(others)
    (Found(count=1, examples=(3,)), Found(count=1, examples=(1,)))
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: list[Ints] = []
        self._count = 0
        self._files: list[Path] = []
        self._open = ExitStack()

    def __enter__(self) -> Self:
        """The collection."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the files."""
        self._open.close()

    def add(self, numbers: Ints) -> None:
        """Put numbers in.

        Raises
        ------
        OSError
            If a file cannot be written.
        """
        self._held.append(numbers.astype(np.int64, copy=False))
        self._count += len(numbers)
        if self._count > MOST_HELD:
            self._spill()

    def doubled(self) -> DuplicateSummary:
        """Those that stand more than once."""
        return _found(_repeated(piece) for piece in self._pieces(spilled=bool(self._files)))

    def shared(self, other: "IdSet") -> DuplicateSummary:
        """Those that stand in another collection too."""
        spilled = bool(self._files or other._files)  # noqa: SLF001 one of its own kind
        pairs = zip(self._pieces(spilled=spilled), other._pieces(spilled=spilled), strict=True)  # noqa: SLF001
        return _found(np.intersect1d(ours, theirs) for ours, theirs in pairs)

    def _spill(self) -> None:
        if not self._files:
            folder = self._open.enter_context(staging(self._folder, "numbers"))
            self._files = [folder / str(number) for number in range(1 << _BITS)]
        numbers = np.concatenate(self._held) if self._held else np.array([], dtype=np.int64)
        self._held, self._count = [], 0
        files = ((numbers.view(np.uint64) * _MIX) >> np.uint64(64 - _BITS)).astype(np.uint8)
        numbers = numbers[np.argsort(files, kind="stable")]
        ends = np.cumsum(np.bincount(files, minlength=1 << _BITS))
        for path, piece in zip(self._files, np.split(numbers, ends[:-1]), strict=True):
            with path.open("ab") as file:
                file.write(piece.tobytes())

    def _pieces(self, *, spilled: bool) -> Iterator[Ints]:
        """The numbers in pieces, equal ones in the same piece."""
        if not spilled:
            yield np.concatenate(self._held) if self._held else np.array([], dtype=np.int64)
            return
        if self._held or not self._files:
            self._spill()
        for path in self._files:
            yield np.fromfile(path, dtype=np.int64)


def _repeated(numbers: Ints) -> Ints:
    ordered = np.sort(numbers)
    repeated: Ints = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    return repeated


def _found(pieces: Iterator[Ints]) -> DuplicateSummary:
    count, examples = 0, np.array([], dtype=np.int64)
    for piece in pieces:
        count += len(piece)
        examples = np.sort(np.concatenate([examples, piece]))[:_MOST_EXAMPLES]
    return DuplicateSummary(count, tuple(examples.tolist()))
