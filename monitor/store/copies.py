"""Copies of what a tracking server holds: made once, no more than have room, gone when the process ends.

A monitor runs for months, and its temporary folder may be memory.
"""

import atexit
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import NamedTuple

from data.storage.scratch import scratch

MAX_BYTES = 512 * 2**20
"""Of all copies together; the one that was taken last may be larger."""


class _Kept(NamedTuple):
    folder: Path
    path: Path
    size: int


class Copies:
    """Copies of artifacts by run and path; the least recently used make room for new ones.

    Parameters
    ----------
    folder : pathlib.Path
        Where they are kept.
    max_bytes : int
        Of all together.
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, run_id: str, path: str, download: Callable[[str, str], str]) -> Path:
        """The copy of an artifact, downloaded unless it is there.

        Parameters
        ----------
        run_id, path : str
            Of the artifact.
        download : callable
            Takes the path and a folder that exists; gives where the artifact is in it.
        """
        key = run_id, path
        found = self._find(key)
        if found:
            return found
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        try:
            local = Path(download(path, str(folder)))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return self._keep(key, _Kept(folder, local, _size(folder)))

    def _find(self, key: tuple[str, str]) -> Path | None:
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or not kept.path.exists():
                return None
            self._kept.move_to_end(key)
            return kept.path

    def _keep(self, key: tuple[str, str], new: _Kept) -> Path:
        with self._lock:
            before = self._kept.get(key)
            if before and before.path.exists():
                # Another thread has done the same.
                shutil.rmtree(new.folder, ignore_errors=True)
                return before.path
            self._kept[key] = new
            self._kept.move_to_end(key)
            while len(self._kept) > 1 and sum(kept.size for kept in self._kept.values()) > self._max_bytes:
                _, oldest = self._kept.popitem(last=False)
                shutil.rmtree(oldest.folder, ignore_errors=True)
            return new.path


@cache
def copies() -> Copies:
    """The copies of this process, in a folder that only its user can enter and that goes with it."""
    stack = ExitStack()
    atexit.register(stack.close)
    return Copies(stack.enter_context(scratch("copies")))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
