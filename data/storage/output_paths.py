"""Validation of output paths before any work."""

import tempfile
from pathlib import Path

from data.errors import KobeShotError
from data.storage.files import display_path


def paths_overlap(first: Path, second: Path) -> bool:
    """Whether two paths are the same or one contains the other, after resolving links.

    Examples
    --------
    >>> paths_overlap(Path("shots"), Path("shots/part.parquet")), paths_overlap(Path("shots"), Path("shots.parquet"))
    (True, False)
    """
    one, other = first.resolve(), second.resolve()
    return one == other or one in other.parents or other in one.parents


def ensure_writable(out: Path) -> None:
    """Create the folder of an output file and check that it is writable.

    Raises
    ------
    KobeShotError
        If that fails.
    """
    folder = out.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        message = f"out={out}: expected a writable folder; {display_path(folder)} is not ({error.strerror})."
        raise KobeShotError(message) from error
