"""Policy backtest: loss per batch of the retraining policy vs. never- and always-retrain."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor.store import tags

FORMAT = 2
"""Format of the record. `upgrade` converts format 1, which 0.1.0 wrote; other formats are not supported."""
FILE = "policy_backtest.json"
"""Artifact of a backtest run."""
POLICY, NEVER, ALWAYS = "policy", "never", "always"
STRATEGIES = {POLICY: "retraining policy", NEVER: "never retrain", ALWAYS: "always retrain"}
ALARM, TRAINING, PROMOTION, REJECTION = "alarm", "training", "promotion", "rejection"
"""Kinds of events."""


@dataclass(frozen=True)
class Batch:
    """One batch of shots.

    Attributes
    ----------
    number : int
        Counts from 1.
    since, until : str
        Dates of the earliest and latest shot.
    rows, labeled : int
    version : str
        Version of the policy's model that scored the batch.
    status : str
        Health status after the batch.
    losses : dict of str to ndarray of float64, shape (labeled,)
        Log loss of each labeled row by strategy.
    """

    number: int
    since: str
    until: str
    rows: int
    labeled: int
    version: str
    status: str
    losses: dict[str, npt.NDArray[np.float64]]

    def mean(self, strategy: str) -> float | None:
        """Return the log loss of the batch; None without labels."""
        return float(self.losses[strategy].mean()) if self.labeled else None


@dataclass(frozen=True)
class Event:
    """An event after a batch."""

    batch: int
    kind: str
    summary: str


@dataclass(frozen=True)
class StrategyResult:
    """Totals of a strategy.

    Attributes
    ----------
    log_loss : float
        Prequential log loss: over all labeled rows, each scored by the model that was champion at the time.
    trainings, promotions : int
        Counts after the initial model.
    """

    log_loss: float
    trainings: int
    promotions: int


@dataclass(frozen=True)
class PolicyBacktest:
    """Result of a policy backtest.

    Attributes
    ----------
    source : str
        Source of the shots.
    batch_size, label_delay : int
        Rows in a batch, and label delay in batches.
    batches : tuple of Batch
    events : tuple of Event
    strategies : dict of str to StrategyResult
    """

    source: str
    batch_size: int
    label_delay: int
    batches: tuple[Batch, ...]
    events: tuple[Event, ...]
    strategies: dict[str, StrategyResult]

    def to_dict(self) -> dict[str, Any]:
        """Convert to a JSON-serializable dict."""
        described = ("number", "since", "until", "rows", "labeled", "version", "status")
        return {
            "format": FORMAT,
            "source": self.source,
            "batch_size": self.batch_size,
            "label_delay": self.label_delay,
            "batches": [
                {name: getattr(batch, name) for name in described} | {name: batch.mean(name) for name in STRATEGIES}
                for batch in self.batches
            ],
            "events": [asdict(event) for event in self.events],
            "strategies": {name: asdict(strategy) for name, strategy in self.strategies.items()},
        }


def upgrade(record: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a record of 0.1.0, format 1, to the current format; any other record is returned unchanged."""
    if record.get("format") != 1:
        return dict(record)
    upgraded = tags.current_record(record, tags.FORMER_BACKTEST_KEYS, tags.FORMER_BACKTEST_VALUES)
    return {**upgraded, "format": FORMAT}


def prequential(batches: Sequence[Batch], strategy: str) -> float:
    """Return the mean log loss over the labeled rows of all batches.

    Examples
    --------
    >>> losses = {"policy": np.array([0.6, 0.7])}
    >>> round(prequential([Batch(1, "2000-01-01", "2000-01-02", 2, 2, "1", "healthy", losses)], "policy"), 3)
    0.65
    """
    return float(np.concatenate([batch.losses[strategy] for batch in batches]).mean())


def running_mean(batches: Sequence[Mapping[str, Any]], strategy: str) -> list[float | None]:
    """Return the prequential log loss up to each batch of a record; None before the first label."""
    rows = np.array([batch["labeled"] for batch in batches], dtype=float)
    sums = np.array([(batch[strategy] or 0.0) * batch["labeled"] for batch in batches])
    counted, total = np.cumsum(rows), np.cumsum(sums)
    return [float(loss / count) if count else None for loss, count in zip(total, counted, strict=True)]
