"""Folders that the workers of a test run share: the first worker that needs one creates it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from data.storage.locks import hold_lock

_LONGEST_SECONDS = 1_800.0


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first worker creates; the others wait for it, and none may change it.

    If its creation fails, every test that needs it fails.
    """
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder, done, failed = (base / f"{name}{ending}" for ending in ("", ".done", ".failed"))
    with hold_lock(base / f"{name}.lock", f"the preparation of {name}", _LONGEST_SECONDS):
        if failed.exists():
            pytest.fail(f"{name} could not be created: {failed.read_text(encoding='utf-8')}")
        if not done.exists():
            folder.mkdir()
            try:
                make(folder)
            except BaseException as error:
                failed.write_text(str(error), encoding="utf-8")
                raise
            done.touch()
    return folder
