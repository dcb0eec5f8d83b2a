"""Entry point ``aplicacao``: score the prod table, or another one, over REST, in this process or with Spark."""

from steps.scoring.config import BatchScoringConfig
from steps.scoring.scoring import BatchScoringResult, score
from steps.shared.command import run_command


class AplicacaoConfig(BatchScoringConfig):
    """Score data/processed/base_prod.parquet, or another table, with the champion; compare with the known labels."""


def run(config: BatchScoringConfig) -> BatchScoringResult:
    """Score the table, in a run of its own."""
    return score(config)


if __name__ == "__main__":
    run_command(AplicacaoConfig, run)
