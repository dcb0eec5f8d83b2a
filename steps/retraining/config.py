"""Parameters of retraining: the policy, the training set, and the promotion test."""

from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, Self

import pandas as pd
from pydantic import AfterValidator, Field, model_validator

from data import datasets
from data.cli.durations import validate_duration
from data.storage.locations import display_location, is_url, validate_location
from monitor.retraining.policy import MIN_LABELS, RetrainingPolicy
from monitor.retraining.promotion_test import MAX_LOG_LOSS, MIN_IMPROVEMENT
from steps.shared.command import part
from steps.shared.current_data import APPLICATION, LOG
from steps.shared.validators import parse_timestamp, validate_log_url
from steps.training.config import ApprovalConfig, TrainingConfig
from steps.training.tuning import WITHOUT_WEIGHTS


def check_current(current: str) -> str:
    """Refuse anything but a known name or a table; a ValueError has what was expected."""
    if current in {APPLICATION, LOG}:
        return current
    try:
        return validate_location(current or "nothing")
    except ValueError as error:
        found = display_location(current)
        table = f"a .parquet or .csv table of scored {datasets.current().rows}"
        message = f"expected {APPLICATION}, {LOG}, or {table}; found {found!r}: {error}"
        raise ValueError(message) from error


def check_as_of(text: str) -> str:
    """Refuse anything but a timestamp, and one in the future; a ValueError has what was expected."""
    present = datetime.now(UTC).replace(tzinfo=None)
    timestamp = parse_timestamp(text, present)
    if timestamp and timestamp > present:
        message = f"expected a timestamp in the past; found {text!r}"
        raise ValueError(message)
    return text


class RetrainingConfig(TrainingConfig):
    """When to retrain, on which rows, and when to promote a challenger."""

    window_size: int = Field(default=200, ge=100, description="labeled rows in a window")
    windows: int = Field(default=3, ge=1, le=100, description="number of latest windows that are evaluated")
    min_breached_windows: int = Field(
        default=2, ge=1, le=100, description="how many of them must breach a threshold, including the latest"
    )
    degradation_threshold: float = Field(
        default=0.15,
        gt=0,
        lt=10,
        description="relative increase of log loss or decrease of F1 above which a window breaches",
    )
    trend_horizon: int = Field(
        default=3,
        ge=1,
        le=100,
        description="windows ahead in which an extrapolated trend must stay below the threshold",
    )
    min_new_labels: int = Field(
        default=300, ge=1, description="new labels that a training needs; doubled after each rejected challenger"
    )
    cooldown: Annotated[str, AfterValidator(validate_duration)] = Field(
        default="1d", description="minimum duration between two trainings, such as 12h or 7d"
    )
    max_trainings_per_day: int = Field(default=2, ge=1, description="trainings within 24 hours")
    recent_rows: int = Field(
        default=2_000, ge=100, description="number of latest scored rows that predictive triggers use"
    )
    max_labels: int = Field(default=20_000, ge=MIN_LABELS, description="number of latest labels that are used")
    holdout_size: float = Field(
        default=0.35, gt=0, lt=1, description="share of the labels, the latest ones, in the temporal hold-out"
    )
    n_origins: int = Field(
        default=4,
        ge=1,
        le=50,
        description="rolling origins: the labels before the hold-out are compared too, each block of them by a model "
        "that was trained on the labels before it; 1 compares on the temporal hold-out only",
    )
    weighting: Literal["balanced", "uniform"] = Field(
        default="balanced",
        description="balanced gives delayed labels the same total sample weight as the dev rows, each at most that of "
        "five; uniform weights all rows equally",
    )
    max_log_loss: float = Field(
        default=MAX_LOG_LOSS, gt=0, description="log loss above which nothing is promoted; the chance level is 0.6931"
    )
    min_improvement: float = Field(
        default=MIN_IMPROVEMENT,
        ge=0,
        lt=1,
        description="relative improvement of log loss over the champion that a challenger needs",
    )

    @model_validator(mode="after")
    def check_retraining(self) -> Self:
        """Refuse more breached windows than windows, and balanced weighting with models without sample weights."""
        if self.min_breached_windows > self.windows:
            found = self.min_breached_windows
            message = f"expected min_breached_windows of at most windows ({self.windows}); found {found}"
            raise ValueError(message)
        without_weights = [name for name in self.models.split(",") if name in WITHOUT_WEIGHTS]
        if self.weighting != "uniform" and without_weights:
            message = f"expected weighting=uniform with {', '.join(without_weights)}, which takes no sample weights"
            raise ValueError(message)
        return self

    @property
    def policy(self) -> RetrainingPolicy:
        """When to retrain."""
        found = {each.name: getattr(self, each.name) for each in fields(RetrainingPolicy)}
        return RetrainingPolicy(**found | {"cooldown": pd.Timedelta(self.cooldown).to_pytimedelta()})

    @property
    def training(self) -> TrainingConfig:
        """The parameters of the training."""
        return part(TrainingConfig, self)


class RetreinoConfig(RetrainingConfig, ApprovalConfig):
    """Decide whether to retrain; if so, train a challenger and promote it if it is better."""

    mode: Literal["auto", "dry_run", "force"] = Field(
        default="auto", description="auto decides and acts, dry_run only prints the decision, force retrains now"
    )
    current: Annotated[str, AfterValidator(check_current)] = Field(
        default=APPLICATION,
        description=f"scored rows with labels: {APPLICATION} (the latest table that aplicacao scored), "
        f"{LOG} (the inference log), or a table with game_date or time",
    )
    log: Annotated[str, AfterValidator(validate_log_url)] = Field(
        default="", description="SQLAlchemy URL of the log; empty takes $KOBE_INFERENCE_LOG, else inference_log.db"
    )
    as_of: Annotated[str, AfterValidator(check_as_of)] = Field(
        default="", description="timestamp of the decision in UTC, for a backtest; empty is now"
    )

    @property
    def source(self) -> str:
        """Source of the labels; times of different sources do not compare."""
        if self.current in {APPLICATION, LOG}:
            return self.current
        return display_location(self.current) if is_url(self.current) else str(Path(self.current).resolve())

    @model_validator(mode="after")
    def check_source(self) -> Self:
        """Refuse the URL of a log that is not read."""
        if self.log and self.current != LOG:
            message = f"expected log with current={LOG} only; found current={self.current}"
            raise ValueError(message)
        return self
