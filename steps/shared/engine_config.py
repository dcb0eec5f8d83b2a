"""The engine of a step on large tables: this process, or Spark."""

from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from data.engines import choice
from data.engines.choice import LOCAL, SPARK
from data.spark.session import check_master
from steps.shared.command import StepConfig

MAX_REJECTED = 1_000
"""Default number of rows that may violate the schema before a large job fails."""

ENGINES = "local streams through this process in bounded memory; spark distributes the work"
"""Description of the engines that every step takes."""


def check_local_or_spark(engine: str) -> str:
    """Raise unless an engine is one of two."""
    if engine in {LOCAL, SPARK}:
        return engine
    message = f"expected {LOCAL} or {SPARK}; found {engine!r}"
    raise ValueError(message)


class EngineConfig(StepConfig):
    """Parameters of a step that an engine runs."""

    engine: Annotated[str, AfterValidator(check_local_or_spark)] = Field(default=LOCAL, description=ENGINES)
    master: Annotated[str, AfterValidator(check_master)] = Field(
        default="",
        description="with engine=spark: local[*], spark://HOST:PORT, yarn or k8s://…; empty takes Spark's own "
        "configuration, else local[*]",
    )

    @model_validator(mode="after")
    def check_engine(self) -> Self:
        """Refuse a master without Spark."""
        if self.master and self.engine != SPARK:
            message = f"expected master with engine=spark only; found engine={self.engine}, master={self.master}"
            raise ValueError(message)
        return self

    def check(self) -> None:
        """Refuse an engine that cannot be started, before anything is done.

        Raises
        ------
        SparkError
            If PySpark or Java is missing, or the master does not respond.
        EngineError
            If the driver of a backend is missing.
        """
        choice.check_engine(self.engine, self.master)


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
        return self.engine != LOCAL

    @property
    def rows_rejected_at_most(self) -> int:
        """Number of rows that may violate the schema."""
        if self.max_rejected_rows is not None:
            return self.max_rejected_rows
        return MAX_REJECTED if self.is_large else 0
