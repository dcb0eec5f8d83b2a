"""Parameters and result of a preparation, the same for both engines."""

from dataclasses import dataclass, field

REJECTS = ("rejects_dev", "rejects_prod")
"""Names of the tables of rejected rows of both raw tables; they hold the raw columns and ``reason``."""
RAW_FILES_CHANGED = "The raw files changed during the run. Run the command again."


@dataclass(frozen=True)
class PreparationParams:
    """Parameters of a preparation.

    Attributes
    ----------
    test_size : float
        Share of the filtered rows in the test table.
    seed : int
        Seed of the split, see `data.preparation.split`.
    max_rejected_rows : int
        Maximum number of rows of both raw tables that violate the schema; they go to the tables of ``REJECTS``.
    """

    test_size: float = 0.2
    seed: int = 42
    max_rejected_rows: int = 0


@dataclass(frozen=True)
class PreparationResult:
    """Row counts of the tables of a preparation.

    ``data_filtered``, ``base_train`` and ``base_test`` hold the six features (float64) and ``shot_made_flag`` (int64);
    ``base_train_ids`` and ``base_test_ids`` hold the ``shot_id`` (int64) of the rows of the last two, in order;
    ``base_prod`` also holds ``shot_id``, and ``game_date`` (str) if the raw file has it; its ``shot_made_flag``
    (float64) is null where the label is unknown.

    Attributes
    ----------
    rows, labeled, made : dict of str to int
        Rows, labeled rows and made shots, by table.
    dropped : dict of str to int
        Dropped rows, by reason: ``dropped_dev_rows``, ``dropped_prod_rows`` and ``dropped_dev_missing_NAME``,
        ``dropped_prod_missing_NAME``.
    rejected : dict of str to int
        Rejected rows, by raw file.
    """

    rows: dict[str, int]
    labeled: dict[str, int]
    made: dict[str, int]
    dropped: dict[str, int]
    rejected: dict[str, int] = field(default_factory=dict)
