"""What is raised when a run does not hold what the monitor needs."""

from data.errors import KobeShotError


class TableError(KobeShotError):
    """A table or another artifact that the monitor needs is missing or damaged."""
