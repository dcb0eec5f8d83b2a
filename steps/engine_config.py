"""Where the work of a step on large tables is done: in this process, or by Spark."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from data.spark import check_master
from steps.command import StepConfig

MOST_REJECTED = 1_000
"""Rows that may break the schema before a large job ends, unless told otherwise."""


class EngineConfig(StepConfig):
    """Parameters of a step that an engine does."""

    engine: Literal["local", "spark"] = Field(
        default="local", description="local streams through this process in bounded memory; spark distributes the work"
    )
    master: Annotated[str, AfterValidator(check_master)] = Field(
        default="",
        description="with engine=spark: local[*], spark://HOST:PORT, yarn or k8s://…; empty is what Spark's own "
        "configuration says, else local[*]",
    )

    @model_validator(mode="after")
    def check_engine(self) -> Self:
        """Refuse a master without Spark."""
        if self.master and self.engine != "spark":
            message = f"expected master with engine=spark only; found engine={self.engine}, master={self.master}"
            raise ValueError(message)
        return self
