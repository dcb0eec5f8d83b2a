"""Parameters of a training."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from steps.shared.command import StepConfig
from steps.training.tuning import BEST, MODEL_NAMES


def validate_models(models: str) -> str:
    """Refuse unknown ids before any work.

    Raises
    ------
    ValueError
        Names the ids that are not known and those that are.
    """
    ids = [model_id.strip() for model_id in models.split(",")]
    known = [*MODEL_NAMES, BEST]
    unknown = [model_id for model_id in ids if model_id not in known]
    if unknown:
        found = ", ".join(map(repr, unknown))
        message = f"expected ids of PyCaret's classifiers, comma-separated ({', '.join(known)}); found {found}"
        raise ValueError(message)
    if len(set(ids)) < len(ids):
        message = f"expected each id once; found {models!r}"
        raise ValueError(message)
    return ",".join(ids)


class TrainingConfig(StepConfig):
    """How models are tuned and selected."""

    models: Annotated[str, AfterValidator(validate_models)] = Field(
        default="lr,dt",
        description="PyCaret's ids of the models to tune, comma-separated; best adds the winner of compare_models",
    )
    cv_folds: int = Field(default=5, ge=2, le=50, description="number of stratified folds of base_train")
    n_iter: int = Field(
        default=10, ge=1, le=1000, description="hyperparameter configurations of the random search, for each model"
    )
    session_id: int = Field(default=42, ge=0, lt=2**31, description="seed of folds, search and models")
    criterion: Literal["log_loss", "brier", "roc_auc", "f1_score", "accuracy", "precision", "recall"] = Field(
        default="log_loss", description="selection metric: tuning optimizes it, and the best model by it is selected"
    )
