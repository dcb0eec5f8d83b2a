"""Parameters of a training."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from data.datasets import Dataset
from steps.shared.command import StepConfig
from steps.training.pipelines import HGBC, OWN_MODELS
from steps.training.tuning import BEST, MAX_TUNING_ROWS, MODEL_NAMES

AUTO = "auto"
_AUTO_MODELS = "lr,dt"


def models_of(models: str, dataset: Dataset) -> str:
    """The ids that the parameter ``models`` names, for a dataset.

    Examples
    --------
    >>> from data.datasets import default
    >>> models_of("auto", default())
    'lr,dt'
    """
    if models != AUTO:
        return models
    has_more = any(not column.is_numeric or column.nullable for column in dataset.features)
    return f"{_AUTO_MODELS},{HGBC}" if has_more else _AUTO_MODELS


def validate_models(models: str) -> str:
    """Refuse unknown ids before any work.

    Raises
    ------
    ValueError
        Names the ids that are not known and those that are.
    """
    ids = [model_id.strip() for model_id in models.split(",")]
    known = [*MODEL_NAMES, *OWN_MODELS, BEST]
    if ids == [AUTO]:
        return AUTO
    unknown = [model_id for model_id in ids if model_id not in known]
    if unknown:
        found = ", ".join(map(repr, unknown))
        message = f"expected {AUTO}, or ids of classifiers, comma-separated ({', '.join(known)}); found {found}"
        raise ValueError(message)
    if len(set(ids)) < len(ids):
        message = f"expected each id once; found {models!r}"
        raise ValueError(message)
    return ",".join(ids)


class ApprovalConfig(StepConfig):
    """Whether a person approves promotions."""

    approval: Literal["described", "none", "person"] = Field(
        default="described",
        description="person: a version that passes the gate waits until a person approves it (entry point aprovar); "
        "none: it is promoted at once; described: as promotion.approval of the dataset's description",
    )

    @property
    def needs_approval(self) -> bool:
        """Whether a version that passes the gate waits for a person."""
        described = self.description.promotion.approval
        return (described if self.approval == "described" else self.approval) == "person"


class TrainingConfig(StepConfig):
    """How models are tuned and selected."""

    models: Annotated[str, AfterValidator(validate_models)] = Field(
        default=AUTO,
        description="PyCaret's ids of the models to tune, comma-separated, or hgbc (histogram gradient boosting); best "
        "adds the winner of compare_models; auto is lr,dt, and hgbc where a feature is a category or a date",
    )
    cv_folds: int = Field(default=5, ge=2, le=50, description="number of stratified folds of base_train")
    n_iter: int = Field(
        default=10, ge=1, le=1000, description="hyperparameter configurations of the random search, for each model"
    )
    max_tuning_rows: int = Field(
        default=MAX_TUNING_ROWS,
        ge=1_000,
        le=100_000_000,
        description="rows of the stratified sample that tunes and compares models; the settings are fitted on all rows",
    )
    session_id: int = Field(default=42, ge=0, lt=2**31, description="seed of folds, search and models")
    criterion: Literal["log_loss", "brier", "roc_auc", "f1_score", "accuracy", "precision", "recall"] = Field(
        default="log_loss", description="selection metric: tuning optimizes it, and the best model by it is selected"
    )
