"""Places that a command is about to write to: looked at before any work is done."""

import tempfile
from pathlib import Path

from data.errors import KobeShotError
from data.storage.files import display_path


def paths_overlap(first: Path, second: Path) -> bool:
    """Whether two paths are the same, or one lies within the other, links followed.

    Examples
    --------
    >>> paths_overlap(Path("shots"), Path("shots/part.parquet")), paths_overlap(Path("shots"), Path("shots.parquet"))
    (True, False)
    """
    one, other = first.resolve(), second.resolve()
    return one == other or one in other.parents or other in one.parents


def ensure_writable(out: Path) -> None:
    """Make the folder of a file that is to be written, and try to write there.

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
        message = (
            f"out={out}: expected a folder that can be written to; {display_path(folder)} cannot ({error.strerror})."
        )
        raise KobeShotError(message) from error
