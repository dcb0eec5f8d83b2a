"""All that is known of a batch of scored shots beside a reference, computed once and when it is first asked for."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.schema import FEATURES, IN_TRAINING, MODEL_VERSION, PREDICTION, PROBABILITY, TARGET
from monitor.drift.detector import DriftResult
from monitor.drift.sketches import TableSketch
from monitor.estimation.cbpe import Estimate, estimate_performance
from monitor.health.baseline import ReferenceData
from monitor.metrics.intervals import Performance, evaluate_with_intervals
from monitor.store.records import ModelVersion
from serving.client.probe import EndpointInfo

COLUMNS = (*FEATURES, TARGET, PREDICTION, PROBABILITY)
"""What a scored table holds; ``shot_made_flag`` may be null."""
IN_REFERENCE = "in_reference"
"""Column of a scored table: whether a row is one of those that the others are compared with."""


@dataclass(frozen=True)
class ServingState:
    """What is known of the operation at the moment of a look.

    Attributes
    ----------
    now : datetime
        UTC, with its zone.
    champion : ModelVersion or None
        The version that should be served.
    endpoint : str
        Address of the server; empty where none is looked after.
    served : Served or None
        What answered there; None if nothing did.
    """

    now: datetime
    champion: ModelVersion | None
    endpoint: str = ""
    served: EndpointInfo | None = None


@dataclass(frozen=True)
class Evaluation:
    """A batch of scored shots beside its baseline.

    Attributes
    ----------
    baseline : Baseline
    current : pandas.DataFrame
        ``COLUMNS``, all scored by the version of the baseline, and where they are known ``model_version``, ``time``
        (UTC, without a zone), ``learned`` and ``in_reference`` (bool).
    live : Live
    name : str
        What to call the batch.
    counts : Counts or None
        Of all rows of the batch, which drift is about; `current` may then be evenly spread ones of them, and so is
        everything else. None where drift is about `current`.
    left_out : mapping of str to int
        Rows of the batch that other versions scored, by version, empty for an unknown one; `current` holds none.
    labels : pandas.DataFrame or None
        All rows of the batch with a label, as `current` has them, where `current` is a sample that holds few of them:
        what labels say is about these, and everything else about `current`, in which they have no extra weight.
    """

    baseline: ReferenceData
    current: pd.DataFrame
    live: ServingState
    name: str = "the current rows"
    counts: TableSketch | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    labels: pd.DataFrame | None = None

    @property
    def version(self) -> str:
        """Number of the version that scored the rows; empty where nobody knows."""
        if self.baseline.version:
            return self.baseline.version
        return next(iter(self.versions), "") if len(self.versions) == 1 else ""

    @property
    def rows(self) -> int:
        """Rows of the batch, whether looked at one by one or only counted."""
        return self.counts.rows if self.counts else len(self.current)

    @property
    def is_sampled(self) -> bool:
        """Whether everything but drift is about evenly spread rows of the batch."""
        return self.rows > len(self.current)

    @cached_property
    def is_own(self) -> npt.NDArray[np.bool_]:
        """Which rows the version was trained on, or are rows of the reference, shape (n,)."""
        return _is_own(self.current)

    @property
    def own_share(self) -> float:
        """Share of such rows."""
        return float(self.is_own.mean()) if len(self.current) else 0.0

    @property
    def in_reference(self) -> int:
        """Labeled rows that are rows of the reference."""
        return int(_marked(self._with_label, IN_REFERENCE).sum())

    @property
    def in_training(self) -> int:
        """Labeled rows that the version was trained on, without those of the reference."""
        rows = self._with_label
        return int((_marked(rows, IN_TRAINING) & ~_marked(rows, IN_REFERENCE)).sum())

    @cached_property
    def labelled(self) -> pd.DataFrame:
        """The rows that have a label, and are not the model's own."""
        return self._with_label[~_is_own(self._with_label)]

    @cached_property
    def _with_label(self) -> pd.DataFrame:
        rows = self.current if self.labels is None else self.labels
        return rows[rows[TARGET].notna()]

    @cached_property
    def outside(self) -> npt.NDArray[np.bool_]:
        """Which rows lie outside the training support, shape (n,)."""
        return self.baseline.support.outside(self.current)

    @cached_property
    def performance(self) -> Performance:
        """What the labels say; ask `labelled` first whether there are any."""
        return evaluate_with_intervals(
            self.labelled[TARGET], self.labelled[PROBABILITY], threshold=self.baseline.threshold
        )

    @cached_property
    def drift(self) -> DriftResult:
        """How far the batch is from the reference."""
        if self.counts:
            return self.baseline.drift.compare_counts(self.counts)
        return self.baseline.drift.compare(self.current, self.outside)

    @cached_property
    def estimate(self) -> Estimate:
        """What the labels would say, if P(made) means what it meant on the reference."""
        return estimate_performance(
            self.baseline.calibration, self.current[PROBABILITY], self.outside, threshold=self.baseline.threshold
        )

    @cached_property
    def realised(self) -> Performance | None:
        """What the labels say of the rows inside the training support, beside the estimate; None without labels."""
        rows = self.labelled
        if not rows.empty:
            rows = rows[~self.baseline.support.outside(rows)]
        if rows.empty:
            return None
        return evaluate_with_intervals(rows[TARGET], rows[PROBABILITY], threshold=self.baseline.threshold)

    @cached_property
    def versions(self) -> dict[str, int]:
        """Rows by the version that scored them; empty where that is not known."""
        if MODEL_VERSION not in self.current:
            return {}
        return dict(Counter(str(version) for version in self.current[MODEL_VERSION].dropna()))


def _is_own(rows: pd.DataFrame) -> npt.NDArray[np.bool_]:
    return _marked(rows, IN_TRAINING) | _marked(rows, IN_REFERENCE)


def _marked(rows: pd.DataFrame, column: str) -> npt.NDArray[np.bool_]:
    return rows[column].to_numpy(dtype=bool) if column in rows else np.zeros(len(rows), dtype=bool)


def judged_version(counted: Mapping[str, int], champion: str) -> str:
    """The version whose rows are judged: the champion, or where it scored none, the one that scored most.

    Parameters
    ----------
    counted : mapping of str to int
        Rows by the version that scored them; empty for an unknown one.
    champion : str
        Number of the champion.

    Returns
    -------
    str
        Empty where no row says who scored it.

    Examples
    --------
    >>> judged_version({"1": 900, "2": 5}, "2"), judged_version({"1": 900, "3": 5}, "2"), judged_version({"": 9}, "2")
    ('2', '1', '')
    """
    known = {version: rows for version, rows in counted.items() if version}
    return champion if champion in known else max(known, key=known.__getitem__, default="")


class OfVersion(NamedTuple):
    """The rows of a scored table that one version scored.

    Attributes
    ----------
    version : str
    table : pandas.DataFrame
    left_out : dict of str to int
        How many rows others scored, by version, most rows first; empty for rows of which it is not known.
    """

    version: str
    table: pd.DataFrame
    left_out: dict[str, int]

    def of(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Those of other rows of the same source that this version scored."""
        known = rows[MODEL_VERSION] if MODEL_VERSION in rows else pd.Series(dtype="Int64")
        if not known.notna().any():
            return rows
        return rows[(known == int(self.version)).fillna(value=False)].reset_index(drop=True)


def of_version(table: pd.DataFrame, champion: str) -> OfVersion:
    """The rows that can be judged together: the champion's, or where it scored none, those of the busiest version.

    What one version answered is never compared with what another answers to the reference. Of a table that does not say
    who scored it all rows are taken for the champion's.

    Parameters
    ----------
    table : pandas.DataFrame
        With ``model_version`` where it is known.
    champion : str
        Number of the champion.
    """
    known = table[MODEL_VERSION] if MODEL_VERSION in table else pd.Series(dtype="Int64")
    counted = {str(version): rows for version, rows in known.value_counts().items()}
    if not counted:
        return OfVersion(champion, table, {})
    version = judged_version(counted, champion)
    left_out = {other: rows for other, rows in counted.items() if other != version}
    if unknown := int(known.isna().sum()):
        left_out[""] = unknown
    found = OfVersion(version, table, left_out)
    return found._replace(table=found.of(table)) if left_out else found
