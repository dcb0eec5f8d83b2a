"""A replayed operation: the loss of each batch with the loop, without it, and with retraining after every batch."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FORMAT = 1
"""Of the record."""
FILE = "replay.json"
"""Artifact of the run of a replay."""
LOOP, NEVER, EVERY = "loop", "never", "every"
STRATEGIES = {LOOP: "with the loop", NEVER: "never retrained", EVERY: "retrained after every batch"}
ALARM, TRAINING, PROMOTION, REFUSAL = "alarm", "training", "promotion", "refusal"
"""Kinds of marks."""


@dataclass(frozen=True)
class Batch:
    """One batch of shots.

    Attributes
    ----------
    number : int
        From 1.
    since, until : str
        Days of the oldest and newest shot.
    rows, labelled : int
    version : str
        Version of the loop's model that scored it.
    verdict : str
        Of the monitor, after it.
    losses : dict of str to ndarray of float64, shape (labelled,)
        Log loss of each labelled row by strategy.
    """

    number: int
    since: str
    until: str
    rows: int
    labelled: int
    version: str
    verdict: str
    losses: dict[str, npt.NDArray[np.float64]]

    def mean(self, strategy: str) -> float | None:
        """Log loss of the batch, or None without labels."""
        return float(self.losses[strategy].mean()) if self.labelled else None


@dataclass(frozen=True)
class Event:
    """Something that happened after a batch."""

    batch: int
    kind: str
    words: str


@dataclass(frozen=True)
class StrategyResult:
    """What a strategy came to.

    Attributes
    ----------
    log_loss : float
        Prequential: over all labelled rows, each scored by the model of its time.
    trainings, promotions : int
        After the first model.
    """

    log_loss: float
    trainings: int
    promotions: int


@dataclass(frozen=True)
class Replay:
    """A whole replay.

    Attributes
    ----------
    source : str
        Where the shots come from.
    batch_size, label_delay : int
        Rows of a batch, and batches until its labels arrive.
    batches : tuple of Batch
    marks : tuple of Mark
    strategies : dict of str to Strategy
    """

    source: str
    batch_size: int
    label_delay: int
    batches: tuple[Batch, ...]
    marks: tuple[Event, ...]
    strategies: dict[str, StrategyResult]

    def record(self) -> dict[str, Any]:
        """As JSON takes it."""
        described = ("number", "since", "until", "rows", "labelled", "version", "verdict")
        return {
            "format": FORMAT,
            "source": self.source,
            "batch_size": self.batch_size,
            "label_delay": self.label_delay,
            "batches": [
                {name: getattr(batch, name) for name in described} | {name: batch.mean(name) for name in STRATEGIES}
                for batch in self.batches
            ],
            "marks": [asdict(mark) for mark in self.marks],
            "figures": {name: asdict(strategy) for name, strategy in self.strategies.items()},
        }


def prequential(batches: Sequence[Batch], strategy: str) -> float:
    """Mean log loss over the labelled rows of all batches.

    Examples
    --------
    >>> losses = {"loop": np.array([0.6, 0.7])}
    >>> round(prequential([Batch(1, "2000-01-01", "2000-01-02", 2, 2, "1", "healthy", losses)], "loop"), 3)
    0.65
    """
    return float(np.concatenate([batch.losses[strategy] for batch in batches]).mean())


def running_mean(batches: Sequence[Mapping[str, Any]], strategy: str) -> list[float | None]:
    """Prequential log loss up to each batch of a record; None before the first label."""
    rows = np.array([batch["labelled"] for batch in batches], dtype=float)
    sums = np.array([(batch[strategy] or 0.0) * batch["labelled"] for batch in batches])
    counted, total = np.cumsum(rows), np.cumsum(sums)
    return [float(loss / count) if count else None for loss, count in zip(total, counted, strict=True)]
