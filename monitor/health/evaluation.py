"""Evaluation of a batch of scored shots against reference data; each result is computed once, on first access."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.datasets import Dataset
from data.groups import groups_of
from data.schema import IN_TRAINING, MODEL_VERSION, PREDICTION, PROBABILITY
from monitor.drift.detector import DriftResult
from monitor.drift.sketches import TableSketch
from monitor.estimation.cbpe import Estimate, estimate_performance
from monitor.health.baseline import ReferenceData
from monitor.metrics.intervals import Performance
from monitor.store.records import ModelVersion
from serving.client.probe import EndpointInfo

IN_REFERENCE = "in_reference"
"""Column of a scored table: whether a row is also a reference row."""


@dataclass(frozen=True)
class ServingState:
    """State of serving at the time of an evaluation.

    Attributes
    ----------
    as_of : datetime
        UTC, timezone-aware.
    champion : ModelVersion or None
        The version that should be served.
    endpoint : str
        URL of the server; empty where none is monitored.
    served : EndpointInfo or None
        Response of the endpoint; None if there was none.
    """

    as_of: datetime
    champion: ModelVersion | None
    endpoint: str = ""
    served: EndpointInfo | None = None


@dataclass(frozen=True)
class Evaluation:
    """A batch of scored shots with its reference data.

    Attributes
    ----------
    baseline : ReferenceData
    current : pandas.DataFrame
        Columns of a scored table (see `columns`), scored by the version of the reference data, and optionally
        ``model_version``, ``time`` (UTC, timezone-naive), ``in_training`` and ``in_reference`` (bool), and the groups
        of rows that are not independent.
    live : ServingState
    name : str
        Display name of the batch.
    sketch : TableSketch or None
        Sketch of all rows of the batch, for drift; `current` may then be a systematic sample, which everything else
        uses. None where drift uses `current`.
    excluded : mapping of str to int
        Rows of the batch that other versions scored, by version (empty if unknown); `current` excludes them.
    labels : pandas.DataFrame or None
        All labeled rows of the batch, with the columns of `current`, where `current` is a sample with few of them.
        Performance uses these rows; everything else uses `current`, where they have no extra weight.
    """

    baseline: ReferenceData
    current: pd.DataFrame
    live: ServingState
    name: str = "the current rows"
    sketch: TableSketch | None = None
    excluded: Mapping[str, int] = field(default_factory=dict)
    labels: pd.DataFrame | None = None

    @property
    def dataset(self) -> Dataset:
        """Description of the version that scored the rows."""
        return self.baseline.dataset

    @property
    def version(self) -> str:
        """Number of the version that scored the rows; empty where it is unknown."""
        if self.baseline.version:
            return self.baseline.version
        return next(iter(self.versions), "") if len(self.versions) == 1 else ""

    @property
    def rows(self) -> int:
        """Rows of the batch, whether held or sketched."""
        return self.sketch.rows if self.sketch else len(self.current)

    @property
    def is_sampled(self) -> bool:
        """Whether everything except drift uses a systematic sample of the batch."""
        return self.rows > len(self.current)

    @cached_property
    def is_own(self) -> npt.NDArray[np.bool_]:
        """Which rows are training or reference rows, shape (n,)."""
        return _is_own(self.current)

    @property
    def own_share(self) -> float:
        """Share of training and reference rows."""
        return float(self.is_own.mean()) if len(self.current) else 0.0

    @property
    def in_reference(self) -> int:
        """Number of labeled rows that are reference rows."""
        return int(_marked(self._with_label, IN_REFERENCE).sum())

    @property
    def in_training(self) -> int:
        """Number of labeled rows that are training rows and not reference rows."""
        rows = self._with_label
        return int((_marked(rows, IN_TRAINING) & ~_marked(rows, IN_REFERENCE)).sum())

    @cached_property
    def labeled(self) -> pd.DataFrame:
        """The labeled rows that are neither training nor reference rows."""
        return self._with_label[~_is_own(self._with_label)]

    @cached_property
    def _with_label(self) -> pd.DataFrame:
        rows = self.current if self.labels is None else self.labels
        return rows[rows[self.baseline.target].notna()]

    @cached_property
    def out_of_support(self) -> npt.NDArray[np.bool_]:
        """Which rows are out of support, shape (n,)."""
        return self.baseline.support.out_of_support(self.current)

    @cached_property
    def performance(self) -> Performance:
        """Performance on the labeled rows; requires a non-empty `labeled`."""
        return self.baseline.evaluate(self.labeled)

    @cached_property
    def drift(self) -> DriftResult:
        """Drift of the batch against the reference."""
        if self.sketch:
            return self.baseline.drift.compare_sketch(self.sketch)
        return self.baseline.drift.compare(self.current, self.out_of_support)

    @cached_property
    def estimate(self) -> Estimate:
        """Performance that is estimated without labels."""
        return estimate_performance(
            self.baseline.calibration,
            self.current[PROBABILITY],
            self.out_of_support,
            groups=groups_of(self.current, self.dataset),
            threshold=self.baseline.threshold,
        )

    @cached_property
    def actual_performance(self) -> Performance | None:
        """Actual performance on the supported labeled rows, to compare with the estimate; None without labels."""
        rows = self.labeled
        if not rows.empty:
            rows = rows[~self.baseline.support.out_of_support(rows)]
        if rows.empty:
            return None
        return self.baseline.evaluate(rows)

    @cached_property
    def versions(self) -> dict[str, int]:
        """Rows by the version that scored them; empty where it is unknown."""
        if MODEL_VERSION not in self.current:
            return {}
        return dict(Counter(str(version) for version in self.current[MODEL_VERSION].dropna()))


def columns(dataset: Dataset) -> tuple[str, ...]:
    """Columns of a scored table; the label may be null."""
    return (*dataset.feature_names, dataset.target.name, PREDICTION, PROBABILITY)


def _is_own(rows: pd.DataFrame) -> npt.NDArray[np.bool_]:
    return _marked(rows, IN_TRAINING) | _marked(rows, IN_REFERENCE)


def _marked(rows: pd.DataFrame, column: str) -> npt.NDArray[np.bool_]:
    return rows[column].to_numpy(dtype=bool) if column in rows else np.zeros(len(rows), dtype=bool)


def version_to_evaluate(row_counts: Mapping[str, int], champion: str) -> str:
    """Select the version to evaluate: the champion, or the version that scored most rows if the champion scored none.

    Parameters
    ----------
    row_counts : mapping of str to int
        Rows by the version that scored them; the key is empty for an unknown version.
    champion : str
        Number of the champion.

    Returns
    -------
    str
        Empty where no row names its version.

    Examples
    --------
    >>> version_to_evaluate({"1": 900, "2": 5}, "2"), version_to_evaluate({"1": 900, "3": 5}, "2")
    ('2', '1')
    """
    known = {version: rows for version, rows in row_counts.items() if version}
    return champion if champion in known else max(known, key=known.__getitem__, default="")


class VersionRows(NamedTuple):
    """Rows of a scored table by one version.

    Attributes
    ----------
    version : str
    table : pandas.DataFrame
    excluded : dict of str to int
        Rows that other versions scored, by version, most rows first; the key is empty for an unknown version.
    """

    version: str
    table: pd.DataFrame
    excluded: dict[str, int]

    def of(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Select the rows of another table of the same source that this version scored."""
        known = rows[MODEL_VERSION] if MODEL_VERSION in rows else pd.Series(dtype="Int64")
        if not known.notna().any():
            return rows
        return rows[(known == int(self.version)).fillna(value=False)].reset_index(drop=True)


def rows_of_version(table: pd.DataFrame, champion: str) -> VersionRows:
    """Select the rows of a single version: the champion, or the version with most rows if the champion scored none.

    Predictions of one version are never compared with reference predictions of another. If the table does not name the
    version, all rows count as the champion's.

    Parameters
    ----------
    table : pandas.DataFrame
        With ``model_version`` where it is known.
    champion : str
        Number of the champion.
    """
    known = table[MODEL_VERSION] if MODEL_VERSION in table else pd.Series(dtype="Int64")
    row_counts = {str(version): rows for version, rows in known.value_counts().items()}
    if not row_counts:
        return VersionRows(champion, table, {})
    version = version_to_evaluate(row_counts, champion)
    excluded = {other: rows for other, rows in row_counts.items() if other != version}
    if unknown := int(known.isna().sum()):
        excluded[""] = unknown
    found = VersionRows(version, table, excluded)
    return found._replace(table=found.of(table)) if excluded else found
