"""The parameters of the loop: when to retrain, on what, and what a challenger has to show."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, Self

import pandas as pd
from pydantic import AfterValidator, Field, model_validator

from data.cli.durations import validate_duration
from monitor.retraining.policy import FEWEST_LABELS, RetrainingPolicy
from monitor.retraining.promotion_test import MIN_IMPROVEMENT, MOST_LOG_LOSS
from steps.monitoramento import APPLICATION, LOG, check_log, parse_timestamp
from steps.shared.command import part
from steps.training.tuning import WITHOUT_WEIGHTS
from steps.treinamento import TreinamentoConfig


def check_current(current: str) -> str:
    """Refuse what is neither a name nor a table.

    Raises
    ------
    ValueError
        Says what is expected.
    """
    if current in {APPLICATION, LOG} or Path(current).suffix in {".parquet", ".csv"}:
        return current
    message = f"expected {APPLICATION}, {LOG}, or a .parquet or .csv table of scored shots; found {current!r}"
    raise ValueError(message)


def check_now(text: str) -> str:
    """Refuse what is not a moment, and one that is still to come.

    Raises
    ------
    ValueError
        Says what is expected.
    """
    present = datetime.now(UTC).replace(tzinfo=None)
    moment = parse_timestamp(text, present)
    if moment and moment > present:
        message = f"expected a moment that has passed; found {text!r}"
        raise ValueError(message)
    return text


class RetrainingConfig(TreinamentoConfig):
    """When to retrain, on what, and what a challenger has to show."""

    window_size: int = Field(default=200, ge=100, description="labelled rows in a window")
    windows: int = Field(default=3, ge=1, le=100, description="number of latest windows that are looked at")
    min_breached_windows: int = Field(
        default=2, ge=1, le=100, description="how many of them must violate a limit, the latest among them"
    )
    limit: float = Field(
        default=0.15, gt=0, lt=10, description="relative rise of log loss or fall of F1 from which a window violates"
    )
    trend_horizon: int = Field(
        default=3, ge=1, le=100, description="windows ahead within which a trend may reach the limit"
    )
    min_new_labels: int = Field(
        default=300, ge=1, description="labels that no training has seen; doubled after each refused challenger"
    )
    cooldown: Annotated[str, AfterValidator(validate_duration)] = Field(
        default="1d", description="span of time between two trainings, such as 12h or 7d"
    )
    max_trainings_per_day: int = Field(default=2, ge=1, description="trainings within 24 hours")
    recent_rows: int = Field(
        default=2_000, ge=100, description="scored rows, the latest ones, that predictive signals look at"
    )
    max_labels: int = Field(default=20_000, ge=FEWEST_LABELS, description="labels, the latest ones, that are used")
    holdout_size: float = Field(
        default=0.5, gt=0, lt=1, description="share of the labels, the latest ones, that is kept for the comparison"
    )
    weighting: Literal["balanced", "uniform"] = Field(
        default="balanced",
        description="balanced lets labels that arrived weigh together as much as the dev rows, each at most as five of "
        "them, uniform all rows alike",
    )
    max_log_loss: float = Field(
        default=MOST_LOG_LOSS, gt=0, description="log loss in nats above which nothing is promoted; a coin has 0.6931"
    )
    min_improvement: float = Field(
        default=MIN_IMPROVEMENT,
        ge=0,
        lt=1,
        description="share of the champion's log loss by which a challenger must be better",
    )

    @model_validator(mode="after")
    def check_loop(self) -> Self:
        """Refuse more violations than windows, and models that cannot weigh rows that are to be weighed."""
        if self.min_breached_windows > self.windows:
            found = self.min_breached_windows
            message = f"expected min_breached_windows of at most windows ({self.windows}); found {found}"
            raise ValueError(message)
        unweighable = [name for name in self.models.split(",") if name in WITHOUT_WEIGHTS]
        if self.weighting != "uniform" and unweighable:
            message = f"expected weighting=uniform with {', '.join(unweighable)}, which cannot weigh rows"
            raise ValueError(message)
        return self

    @property
    def policy(self) -> RetrainingPolicy:
        """When to retrain."""
        return RetrainingPolicy(
            self.window_size,
            self.windows,
            self.min_breached_windows,
            self.limit,
            self.trend_horizon,
            self.min_new_labels,
            pd.Timedelta(self.cooldown).to_pytimedelta(),
            self.max_trainings_per_day,
            self.max_labels,
            self.holdout_size,
            self.recent_rows,
        )

    @property
    def training(self) -> TreinamentoConfig:
        """The part that is treinamento's."""
        return part(TreinamentoConfig, self)


class RetreinoConfig(RetrainingConfig):
    """Decide whether it is time for a new model; if it is, train a challenger and promote it if it is better."""

    mode: Literal["auto", "dry_run", "force"] = Field(
        default="auto", description="auto decides and acts, dry_run only says what it would do, force retrains now"
    )
    current: Annotated[str, AfterValidator(check_current)] = Field(
        default=APPLICATION,
        description=f"where scored shots and their labels are: {APPLICATION} (the last table that aplicacao scored), "
        f"{LOG} (the inference log), or a .parquet or .csv table with game_date or time",
    )
    log: Annotated[str, AfterValidator(check_log)] = Field(
        default="", description="SQLAlchemy address of the log; empty takes $KOBE_INFERENCE_LOG, else inference_log.db"
    )
    now: Annotated[str, AfterValidator(check_now)] = Field(
        default="", description="moment of the decision in UTC, for a replay; empty is now"
    )

    @property
    def source(self) -> str:
        """Where the labels are; times of different places do not compare."""
        return self.current if self.current in {APPLICATION, LOG} else str(Path(self.current).resolve())

    @model_validator(mode="after")
    def check_source(self) -> Self:
        """Refuse the address of a log that is not read."""
        if self.log and self.current != LOG:
            message = f"expected log with current={LOG} only; found current={self.current}"
            raise ValueError(message)
        return self
