"""The errors that a person can mend."""

from data.masking import masked


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
