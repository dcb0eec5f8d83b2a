"""Duplicates among any number of integers, in bounded memory.

Up to ``MAX_IN_MEMORY`` integers stay in memory. More are partitioned into files by a hash, so equal integers are in the
same file. Each file is then searched alone.
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

MAX_IN_MEMORY = 2_000_000
"""Maximum number of integers in memory, 16 MB."""

_BITS = 8
_MAX_EXAMPLES = 5
# An odd multiplier without a pattern, so that ids in steps of any size are partitioned evenly.
_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class DuplicateSummary:
    """Ids that are duplicates.

    Attributes
    ----------
    count : int
        Number of distinct ids.
    examples : tuple of int
        The smallest ids, sorted.
    """

    count: int = 0
    examples: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.count)

    def __str__(self) -> str:
        """List the examples."""
        return f"such as {', '.join(map(str, self.examples))}"


class IdSet:
    """A collection of integers, as a context manager.

    Parameters
    ----------
    folder : pathlib.Path
        Folder for temporary files, eight bytes per integer; they are removed at the end.

    Examples
    --------
    >>> with IdSet(Path()) as some, IdSet(Path()) as others:
    ...     some.add(np.array([3, 1, 3]))
    ...     others.add(np.array([7, 1]))
    ...     some.duplicates(), some.intersection(others)
    (DuplicateSummary(count=1, examples=(3,)), DuplicateSummary(count=1, examples=(1,)))
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
        """Add integers.

        Raises
        ------
        OSError
            If a file cannot be written.
        """
        self._held.append(numbers.astype(np.int64, copy=False))
        self._count += len(numbers)
        if self._count > MAX_IN_MEMORY:
            self._spill()

    def duplicates(self) -> DuplicateSummary:
        """Find integers that were added more than once."""
        return _summarize(_duplicates_in(chunk) for chunk in self._chunks(spilled=bool(self._files)))

    def intersection(self, other: "IdSet") -> DuplicateSummary:
        """Find integers that are in another collection too."""
        spilled = bool(self._files or other._files)  # noqa: SLF001 the same class
        pairs = zip(self._chunks(spilled=spilled), other._chunks(spilled=spilled), strict=True)  # noqa: SLF001
        return _summarize(np.intersect1d(ours, theirs) for ours, theirs in pairs)

    def _spill(self) -> None:
        if not self._files:
            folder = self._open.enter_context(staging(self._folder, "numbers"))
            self._files = [folder / str(number) for number in range(1 << _BITS)]
        numbers = np.concatenate(self._held) if self._held else np.array([], dtype=np.int64)
        self._held, self._count = [], 0
        files = ((numbers.view(np.uint64) * _MIX) >> np.uint64(64 - _BITS)).astype(np.uint8)
        numbers = numbers[np.argsort(files, kind="stable")]
        ends = np.cumsum(np.bincount(files, minlength=1 << _BITS))
        for path, chunk in zip(self._files, np.split(numbers, ends[:-1]), strict=True):
            with path.open("ab") as file:
                file.write(chunk.tobytes())

    def _chunks(self, *, spilled: bool) -> Iterator[Ints]:
        """Iterate over chunks of the integers; equal integers are in the same chunk."""
        if not spilled:
            yield np.concatenate(self._held) if self._held else np.array([], dtype=np.int64)
            return
        if self._held or not self._files:
            self._spill()
        for path in self._files:
            yield np.fromfile(path, dtype=np.int64)


def _duplicates_in(numbers: Ints) -> Ints:
    ordered = np.sort(numbers)
    found: Ints = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    return found


def _summarize(chunks: Iterator[Ints]) -> DuplicateSummary:
    count, examples = 0, np.array([], dtype=np.int64)
    for chunk in chunks:
        count += len(chunk)
        examples = np.sort(np.concatenate([examples, chunk]))[:_MAX_EXAMPLES]
    return DuplicateSummary(count, tuple(examples.tolist()))
