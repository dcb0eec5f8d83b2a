"""Exceptions that a user can fix."""

import errno
import os
from pathlib import Path
from typing import Self, TypeGuard

from data.masking import masked

_ADVICE = {
    errno.EACCES: "Give this user read and write permission, or name another file.",
    errno.EPERM: "Give this user read and write permission, or name another file.",
    errno.ENOENT: "Restore it, or name another file.",
    errno.ENOTDIR: "Name a file in a folder.",
    errno.EISDIR: "Name a file.",
    errno.ELOOP: "Name a file whose links end at a file.",
    errno.ENAMETOOLONG: "Use a shorter name.",
    errno.ENOSPC: "Free some space, and run the command again.",
    errno.EDQUOT: "Free some space, and run the command again.",
    errno.EFBIG: "Use a disk that allows larger files, or raise the file size limit (ulimit -f).",
    errno.EROFS: "Name a folder on a writable disk.",
    errno.EMFILE: "Raise the limit of open files (ulimit -n).",
    errno.ENFILE: "Raise the system's limit of open files.",
    errno.EIO: "Check the disk.",
}
"""Advice by error number."""


class KobeShotError(Exception):
    """An error that the user can fix. The message states what was expected, what was found and what to do.

    Steps print the message without a traceback and end with exit code 1. Secrets are masked in the message.
    """

    def __str__(self) -> str:
        """Return the message with its secrets masked."""
        return masked(super().__str__())


class DatasetError(KobeShotError):
    """The description of a dataset is missing or invalid."""


class SchemaError(KobeShotError):
    """A table violates the schema of its dataset."""


class SourceError(KobeShotError):
    """Raw files are missing or damaged, or cannot be downloaded."""


class TableError(KobeShotError):
    """A table, or another artifact, is missing or damaged, or a table cannot be written."""


class EngineError(KobeShotError):
    """An engine cannot be started, or a query failed."""


class StaleDataError(KobeShotError):
    """Files in ``data/processed`` are missing, or differ from what the last preparation wrote."""


class FileError(KobeShotError):
    """A file cannot be read or written. The message names the file and gives the system's reason."""

    @classmethod
    def of(cls, error: OSError, path: Path | None = None) -> Self:
        """Create the error from an ``OSError``, with the file's path if it is known, and advice.

        Examples
        --------
        >>> print(FileError.of(PermissionError(13, "Permission denied", "/srv/shots.csv")))
        /srv/shots.csv: Permission denied. Give this user read and write permission, or name another file.
        """
        named = [os.fsdecode(name) for name in (path or error.filename, error.filename2) if name is not None]
        reason = error.strerror or str(error) or type(error).__name__
        advice = _ADVICE.get(error.errno or 0, "Fix this, and run the command again.")
        return cls(f"{' to '.join(map(str, named)) or 'A file'}: {reason}. {advice}")


def is_of_file_system(error: BaseException) -> TypeGuard[OSError]:
    """Whether an error comes from the file system. Python's ``OSError`` includes errors of connections.

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
