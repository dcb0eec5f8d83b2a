"""What scored rows are compared with: the rows that a version was trained on, and a reference that it scored."""

from functools import cached_property

import pandas as pd

from data.preparation.manifest import TEST, TRAIN
from data.schema import PROBABILITY, TARGET
from monitor.drift.detector import DriftDetector
from monitor.drift.sketches import Sketcher
from monitor.drift.training_support import Support
from monitor.estimation.cbpe import Calibration
from monitor.metrics.binary import THRESHOLD
from monitor.metrics.intervals import Performance, evaluate_with_intervals
from monitor.store import tables
from monitor.store.model_store import ModelStore
from serving.batch.in_process import predict, threshold_of


class ReferenceData:
    """What current shots are compared with; costs a second or two once, and serves many batches.

    Parameters
    ----------
    training : pandas.DataFrame
        The features of the rows that the model has learned from.
    reference : pandas.DataFrame
        ``COLUMNS`` of labelled rows, with the P(made) of the version in question.
    threshold : float
        P(made) from which that version predicts that a shot is made.
    name : str
        What to call the reference.
    version : str
        Number of the version in question, where it is known.
    """

    def __init__(
        self,
        training: pd.DataFrame,
        reference: pd.DataFrame,
        *,
        threshold: float = THRESHOLD,
        name: str = "the reference",
        version: str = "",
    ) -> None:
        self.training, self.table, self.threshold, self.name = training, reference, threshold, name
        self.version = version

    @cached_property
    def support(self) -> Support:
        """Where the training shots are."""
        return Support.of(self.training)

    @cached_property
    def drift(self) -> DriftDetector:
        """What the features and P(made) are compared with."""
        return DriftDetector(self.table, self.support.outside(self.table))

    @cached_property
    def counting(self) -> Sketcher:
        """How a table is counted that is too large to hold, or that another engine holds."""
        return Sketcher(self.drift.cells, self.support)

    @cached_property
    def performance(self) -> Performance:
        """What the labels of the reference say."""
        return evaluate_with_intervals(self.table[TARGET], self.table[PROBABILITY], threshold=self.threshold)

    @cached_property
    def calibration(self) -> Calibration:
        """What P(made) means on the reference."""
        return Calibration.of(self.table[TARGET], self.table[PROBABILITY])


def baseline(store: ModelStore, version: str, reference: str = TEST) -> ReferenceData:
    """What rows that a version scored are compared with: rows that it was not trained on, scored by itself.

    Parameters
    ----------
    store : ModelStore
    version : str
        Number of the version whose answers are looked at.
    reference : str
        ``base_test`` or ``base_train``.

    Raises
    ------
    RegistryError, TableError, ScoredError
        If there is no such version, a table is missing, or the version cannot be loaded.
    """
    training, rows = (
        tables.identified(store, tables.read_scored(tables.prepared_table(store, name, version)), name, version)
        for name in (TRAIN, reference)
    )
    threshold = threshold_of(version)
    return ReferenceData(training, predict(rows, version), threshold=threshold, name=reference, version=version)
