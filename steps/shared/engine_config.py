"""The engine of a step on large tables: this process, or Spark."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from data.spark import session
from data.spark.session import check_master
from steps.shared.command import StepConfig

MAX_REJECTED = 1_000
"""Default number of rows that may violate the schema before a large job fails."""


class EngineConfig(StepConfig):
    """Parameters of a step that an engine runs."""

    engine: Literal["local", "spark"] = Field(
        default="local", description="local streams through this process in bounded memory; spark distributes the work"
    )
    master: Annotated[str, AfterValidator(check_master)] = Field(
        default="",
        description="with engine=spark: local[*], spark://HOST:PORT, yarn or k8s://…; empty takes Spark's own "
        "configuration, else local[*]",
    )

    @model_validator(mode="after")
    def check_engine(self) -> Self:
        """Refuse a master without Spark."""
        if self.master and self.engine != "spark":
            message = f"expected master with engine=spark only; found engine={self.engine}, master={self.master}"
            raise ValueError(message)
        return self

    def check(self) -> None:
        """Refuse an engine that cannot be started, before anything is done.

        Raises
        ------
        SparkError
            If PySpark or Java is missing, or the master does not respond.
        """
        if self.engine == "spark":
            session.check_requirements(self.master)


class RejectingConfig(EngineConfig):
    """Parameters of a step that continues without the rows that violate the schema."""

    max_rejected_rows: Annotated[int | None, BeforeValidator(lambda value: None if value == "" else value)] = Field(
        default=None,
        ge=0,
        description="rows that may violate the schema; they go to a rejects table with the reason. Empty: "
        f"{MAX_REJECTED:,} for a large job (engine=spark, mode=batch), else 0",
    )

    @property
    def is_large(self) -> bool:
        """Whether the job rejects a few invalid rows instead of failing."""
        return self.engine == "spark"

    @property
    def rows_rejected_at_most(self) -> int:
        """Number of rows that may violate the schema."""
        if self.max_rejected_rows is not None:
            return self.max_rejected_rows
        return MAX_REJECTED if self.is_large else 0
