"""What a preparation is told and what it says of its tables, whichever engine makes them."""

from dataclasses import dataclass, field

REJECTS = {"dataset_kobe_dev.parquet": "rejects_dev", "dataset_kobe_prod.parquet": "rejects_prod"}
"""Names of the tables of rows that break the schema, by raw file: its columns as they came, and ``reason``."""


@dataclass(frozen=True)
class PreparationParams:
    """What is asked of a preparation.

    Attributes
    ----------
    test_size : float
        Share of the filtered rows that is kept for the test.
    seed : int
        Of the split, see `data.preparation.split`.
    max_rejected_rows : int
        Rows that may break the schema, of both raw tables together; they go to the tables of ``REJECTS``.
    """

    test_size: float = 0.2
    seed: int = 42
    max_rejected_rows: int = 0


@dataclass(frozen=True)
class PreparationResult:
    """The tables of a preparation, counted.

    ``data_filtered``, ``base_train`` and ``base_test`` hold the six features (float64) and ``shot_made_flag`` (int64);
    beside the last two, ``base_train_ids`` and ``base_test_ids`` hold the ``shot_id`` (int64) of their rows, in order;
    ``base_prod`` holds ``shot_id`` first, and ``game_date`` (str), which orders its rows in time, where the raw file
    has it; its ``shot_made_flag`` (float64) is null where the label is unknown.

    Attributes
    ----------
    rows, labelled, made : dict of str to int
        Rows, those with a label and those that were made, by table.
    dropped : dict of str to int
        Rows that were left out, by reason: ``dropped_dev_rows``, ``dropped_prod_rows`` and
        ``dropped_dev_missing_NAME``, ``dropped_prod_missing_NAME``.
    rejected : dict of str to int
        Rows that broke the schema, by raw file.
    """

    rows: dict[str, int]
    labelled: dict[str, int]
    made: dict[str, int]
    dropped: dict[str, int]
    rejected: dict[str, int] = field(default_factory=dict)
