"""Parameters of batch scoring."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from data.preparation.manifest import PROD, predictions_path, prepared_path
from data.storage.locations import display_location
from data.storage.output_paths import paths_overlap
from serving.batch.local import rejects_of
from steps.shared.engine_config import RejectingConfig
from steps.shared.validators import validate_endpoint, validate_input_table, validate_output_table


class ScoringConfig(RejectingConfig):
    """How shots are scored."""

    endpoint: Annotated[str, AfterValidator(validate_endpoint)] = Field(
        default="",
        description="URL of a scoring server; empty starts mlflow models serve for the champion while it scores",
    )
    mode: Literal["rest", "batch"] = Field(
        default="rest",
        description="rest scores over HTTP; batch loads the champion into this process, for tables where HTTP is "
        "overhead; engine=spark loads it into Spark's workers",
    )

    @model_validator(mode="after")
    def check_way(self) -> Self:
        """Refuse an endpoint where no request is sent."""
        if self.endpoint and not self.over_rest:
            message = (
                f"expected endpoint with mode=rest and engine=local only, as no request is sent otherwise; found "
                f"endpoint={self.endpoint}, mode={self.mode}, engine={self.engine}. Omit endpoint to score with "
                "the champion, or omit mode and engine to score through that server"
            )
            raise ValueError(message)
        return self

    @property
    def over_rest(self) -> bool:
        """Whether a scoring server scores the rows."""
        return self.mode == "rest" and self.engine == "local"

    @property
    def is_large(self) -> bool:
        """Whether the job rejects a few invalid rows instead of failing."""
        return not self.over_rest


class BatchScoringConfig(ScoringConfig):
    """What is scored, and where the predictions are written."""

    table: Annotated[str, AfterValidator(validate_input_table)] = Field(
        default="",
        description="a file of rows in any format that is read, a folder of Parquet files, or a table of a database; "
        "with out as the path of the predictions; empty is "
        "data/processed/base_prod.parquet",
    )
    out: Annotated[str, AfterValidator(validate_output_table)] = Field(
        default="",
        description="rows with predictions, .parquet (a folder of parts if it is large, or of Spark) or .csv; "
        "empty, without table only, is data/processed/predictions_prod.parquet",
    )

    @model_validator(mode="after")
    def check_files(self) -> Self:
        """Refuse to overwrite the input, or prod's predictions with those of another table, or CSV of Spark."""
        if self.table and not self.out:
            found = display_location(self.table)
            message = f"expected out with table, e.g. --out scored.parquet; found table={found} and no out"
            raise ValueError(message)
        table, out = self.source.resolve(), self.target.resolve()
        if paths_overlap(table, out) or paths_overlap(table, rejects_of(out)):
            message = f"expected out and table to be different paths, neither within the other; found {table} and {out}"
            raise ValueError(message)
        if self.engine == "spark" and out.suffix.lower() == ".csv":
            message = f"expected Parquet for out with engine=spark; found {out.name}. Use engine=local"
            raise ValueError(message)
        return self

    @property
    def source(self) -> Path:
        """The table that is scored."""
        return Path(self.table) if self.table else prepared_path(PROD)

    @property
    def target(self) -> Path:
        """The table of predictions."""
        return Path(self.out) if self.out else predictions_path()
