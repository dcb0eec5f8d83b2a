"""The errors that a person can mend."""

import errno
import os
from pathlib import Path
from typing import Self, TypeGuard

from data.masking import masked

_ADVICE = {
    errno.EACCES: "Let this user read and write it, or name another file.",
    errno.EPERM: "Let this user read and write it, or name another file.",
    errno.ENOENT: "Put it back, or name another file.",
    errno.ENOTDIR: "Name a file in a folder.",
    errno.EISDIR: "Name a file.",
    errno.ELOOP: "Name a file whose links end somewhere.",
    errno.ENAMETOOLONG: "Use a shorter name.",
    errno.ENOSPC: "Free some space, and run this again.",
    errno.EDQUOT: "Free some space, and run this again.",
    errno.EFBIG: "Choose a disk or a limit that allows larger files (ulimit -f).",
    errno.EROFS: "Choose a folder that can be written to.",
    errno.EMFILE: "Raise the limit of open files (ulimit -n).",
    errno.ENFILE: "Raise the system's limit of open files.",
    errno.EIO: "Look after the disk.",
}
"""What to do, by what the file system says."""


class KobeShotError(Exception):
    """Something the user can put right; the message says what was expected, what was found and what to do.

    Steps show the message without a traceback and end with exit code 1. Secrets in it are masked.
    """

    def __str__(self) -> str:
        """The message without the secrets that it holds."""
        return masked(super().__str__())


class SchemaError(KobeShotError):
    """A table does not fit the schema of ``data/schema.py``."""


class SourceError(KobeShotError):
    """Raw files are missing, damaged or cannot be fetched."""


class StaleDataError(KobeShotError):
    """Files in ``data/processed`` are missing or are not those that the last preparation wrote."""


class FileError(KobeShotError):
    """A file cannot be read or written; the message names it and repeats what the system says."""

    @classmethod
    def of(cls, error: OSError, path: Path | None = None) -> Self:
        """The error of the file system, with the file that it is about where one is known, and what to do.

        Examples
        --------
        >>> print(FileError.of(PermissionError(13, "Permission denied", "/srv/shots.csv")))
        /srv/shots.csv: the system says: Permission denied. Let this user read and write it, or name another file.
        """
        named = [os.fsdecode(name) for name in (path or error.filename, error.filename2) if name is not None]
        reason = error.strerror or str(error) or type(error).__name__
        advice = _ADVICE.get(error.errno or 0, "Put this right, and run this again.")
        return cls(f"{' → '.join(map(str, named)) or 'A file'}: the system says: {reason}. {advice}")


def is_of_file_system(error: BaseException) -> TypeGuard[OSError]:
    """Whether an error is the file system's, and not that of a connection, which Python counts among them.

    Examples
    --------
    >>> is_of_file_system(OSError(28, "No space left on device")), is_of_file_system(ConnectionRefusedError(111, ""))
    (True, False)
    """
    return (
        isinstance(error, OSError)
        and not isinstance(error, ConnectionError | TimeoutError)
        and (error.filename is not None or error.errno in _ADVICE)
    )
