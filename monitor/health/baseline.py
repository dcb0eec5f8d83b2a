"""Reference data of a model version: its training rows, and reference rows that it scored."""

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
    """Training and reference rows of a model version; computed once, in a second or two, and used for many batches.

    Parameters
    ----------
    training : pandas.DataFrame
        The features of the training rows.
    reference : pandas.DataFrame
        ``COLUMNS`` of labeled rows, with P(made) predicted by the version.
    threshold : float
        Decision threshold of the version.
    name : str
        Display name of the reference.
    version : str
        Number of the version; empty where it is unknown.
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
        """The training support."""
        return Support.of(self.training)

    @cached_property
    def drift(self) -> DriftDetector:
        """Drift detector for the features and P(made)."""
        return DriftDetector(self.table, self.support.out_of_support(self.table))

    @cached_property
    def sketcher(self) -> Sketcher:
        """Sketcher for tables that do not fit in memory, or that another engine holds."""
        return Sketcher(self.drift.bins, self.support)

    @cached_property
    def performance(self) -> Performance:
        """Performance on the reference rows."""
        return evaluate_with_intervals(self.table[TARGET], self.table[PROBABILITY], threshold=self.threshold)

    @cached_property
    def calibration(self) -> Calibration:
        """Calibration of P(made) on the reference rows."""
        return Calibration.of(self.table[TARGET], self.table[PROBABILITY])


def baseline(store: ModelStore, version: str, reference: str = TEST) -> ReferenceData:
    """Load the reference data of a version, with reference rows scored by the same version.

    Parameters
    ----------
    store : ModelStore
    version : str
        Number of the version.
    reference : str
        ``base_test`` or ``base_train``.

    Raises
    ------
    RegistryError, TableError, ScoredError
        If the version does not exist, a table is missing, or the version cannot be loaded.
    """
    training, rows = (
        tables.identified(store, tables.read_scored(tables.prepared_table(store, name, version)), name, version)
        for name in (TRAIN, reference)
    )
    threshold = threshold_of(version)
    return ReferenceData(training, predict(rows, version), threshold=threshold, name=reference, version=version)
