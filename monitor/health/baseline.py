"""Reference data of a model version: its training rows, and reference rows that it scored."""

from functools import cached_property

import numpy as np
import pandas as pd

from data.datasets import Dataset
from data.groups import groups_of
from data.preparation.manifest import TEST, TRAIN
from data.schema import PROBABILITY
from monitor.drift.detector import DriftDetector
from monitor.drift.sketches import Sketcher
from monitor.drift.training_support import Support
from monitor.estimation.cbpe import Calibration
from monitor.metrics.binary import THRESHOLD
from monitor.metrics.intervals import Performance, evaluate_with_intervals
from monitor.scored_tables import read_scored
from monitor.store import tables
from monitor.store.model_store import ModelStore
from serving.batch.in_process import dataset_of, predict, threshold_of

MAX_REFERENCE_ROWS = 100_000
"""Reference rows that the current rows are compared with: of more, a systematic sample.

The standard error of a log loss of so many rows is about 0.001, and that of a rate at most 0.0016. The thresholds of
the drift tests are drawn from the sample, and so allow for its size.
"""


class ReferenceData:
    """Training and reference rows of a model version; computed once, in a second or two, and used for many batches.

    Parameters
    ----------
    training : pandas.DataFrame
        The features of the training rows.
    reference : pandas.DataFrame
        The columns of `monitor.health.evaluation.columns` of labeled rows, with P(made) predicted by the version, and
        the groups of rows that are not independent.
    dataset : Dataset
        The description that the version was trained with.
    threshold : float
        Decision threshold of the version.
    name : str
        Display name of the reference.
    version : str
        Number of the version; empty where it is unknown.
    known : pandas.DataFrame, optional
        All reference rows with their features and ids, where `reference` is a sample of them.

    Attributes
    ----------
    training, table, known : pandas.DataFrame
        Training rows, the reference rows that are compared with, and all reference rows.
    """

    def __init__(  # noqa: PLR0913 the last four have defaults
        self,
        training: pd.DataFrame,
        reference: pd.DataFrame,
        dataset: Dataset,
        *,
        threshold: float = THRESHOLD,
        name: str = "the reference",
        version: str = "",
        known: pd.DataFrame | None = None,
    ) -> None:
        self.training, self.table, self.threshold, self.name = training, reference, threshold, name
        self.dataset, self.version = dataset, version
        self.known = reference if known is None else known

    @cached_property
    def support(self) -> Support:
        """The training support."""
        return Support.of(self.training, self.dataset)

    @cached_property
    def drift(self) -> DriftDetector:
        """Drift detector for the features and P(made)."""
        out_of_support = self.support.out_of_support(self.table)
        return DriftDetector(self.table, out_of_support, self.dataset, known=self.support.categories)

    @cached_property
    def sketcher(self) -> Sketcher:
        """Sketcher for tables that do not fit in memory, or that another engine holds."""
        return Sketcher(self.drift.encoding, self.drift.bins, self.support)

    @cached_property
    def performance(self) -> Performance:
        """Performance on the reference rows."""
        return self.evaluate(self.table)

    @cached_property
    def calibration(self) -> Calibration:
        """Calibration of P(made) on the reference rows."""
        return Calibration.of(self.table[self.target], self.table[PROBABILITY], groups_of(self.table, self.dataset))

    @property
    def target(self) -> str:
        """Name of the label."""
        return self.dataset.target.name

    def evaluate(self, rows: pd.DataFrame) -> Performance:
        """Compute the metrics of labeled rows that the version scored, with intervals by rows or by groups."""
        return evaluate_with_intervals(
            rows[self.target],
            rows[PROBABILITY],
            groups=groups_of(rows, self.dataset),
            threshold=self.threshold,
        )


def baseline(store: ModelStore, version: str, reference: str = TEST) -> ReferenceData:
    """Load the reference data of a version, with at most ``MAX_REFERENCE_ROWS`` rows scored by the same version.

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
    files = {name: tables.prepared_table(store, name, version) for name in {TRAIN, reference}}
    dataset = dataset_of(version)
    training, rows = (
        tables.identified(store, read_scored(files[name], dataset), name, version) for name in (TRAIN, reference)
    )
    return ReferenceData(
        training,
        predict(_systematic_sample(rows), version),
        dataset,
        threshold=threshold_of(version),
        name=reference,
        version=version,
        known=rows,
    )


def _systematic_sample(rows: pd.DataFrame) -> pd.DataFrame:
    if len(rows) <= MAX_REFERENCE_ROWS:
        return rows
    return rows.iloc[np.arange(MAX_REFERENCE_ROWS) * len(rows) // MAX_REFERENCE_ROWS].reset_index(drop=True)
