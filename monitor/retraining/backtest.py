"""Policy backtest: loss per batch of the retraining policy vs. never- and always-retrain."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import Field, model_validator

from monitor.store import tags
from monitor.store.records import Record

FORMAT: Final = 2
"""Format of the record. `upgrade` converts format 1, which 0.1.0 wrote; other formats are not supported."""
FILE = "policy_backtest.json"
"""Artifact of a backtest run."""
POLICY, NEVER, ALWAYS = "policy", "never", "always"
STRATEGIES = {POLICY: "retraining policy", NEVER: "never retrain", ALWAYS: "always retrain"}
ALARM, TRAINING, PROMOTION, REJECTION = "alarm", "training", "promotion", "rejection"
"""Kinds of events."""


_Strategy = Annotated[str, Field(pattern=f"^({'|'.join(STRATEGIES)})$")]


class Batch(Record):
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
    policy, never, always : float or None
        Mean log loss of the labeled rows by each strategy; None without labels.
    """

    number: int
    since: str
    until: str
    rows: int
    labeled: int
    version: str
    status: str
    policy: float | None
    never: float | None
    always: float | None


class Event(Record):
    """An event after a batch."""

    batch: int
    kind: Annotated[str, Field(pattern=f"^({ALARM}|{TRAINING}|{PROMOTION}|{REJECTION})$")]
    summary: str


class StrategyResult(Record):
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


class PolicyBacktest(Record):
    """Result of a policy backtest, and its record.

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

    format: Literal[2] = FORMAT
    source: str
    batch_size: int
    label_delay: int
    batches: tuple[Batch, ...]
    events: tuple[Event, ...]
    strategies: Annotated[dict[_Strategy, StrategyResult], Field(min_length=len(STRATEGIES))]

    @model_validator(mode="before")
    @classmethod
    def _of_any_release(cls, held: object) -> object:
        return upgrade(held) if isinstance(held, dict) else held


def upgrade(record: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a record of 0.1.0, format 1, to the current format; any other record is returned unchanged."""
    if record.get("format") != 1:
        return dict(record)
    upgraded = tags.current_record(record, tags.FORMER_BACKTEST_KEYS, tags.FORMER_BACKTEST_VALUES)
    return {**upgraded, "format": FORMAT}


def prequential(batches: Sequence[Batch], strategy: str) -> float:
    """Return the mean log loss over the labeled rows of all batches."""
    return running_mean([batch.model_dump() for batch in batches], strategy)[-1] or math.nan


def running_mean(batches: Sequence[Mapping[str, Any]], strategy: str) -> list[float | None]:
    """Return the prequential log loss up to each batch of a record; None before the first label."""
    rows = np.array([batch["labeled"] for batch in batches], dtype=float)
    sums = np.array([(batch[strategy] or 0.0) * batch["labeled"] for batch in batches])
    counted, total = np.cumsum(rows), np.cumsum(sums)
    return [float(loss / count) if count else None for loss, count in zip(total, counted, strict=True)]
