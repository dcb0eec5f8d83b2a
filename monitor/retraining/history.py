"""Print the champion history and the retraining decisions: ``python -m monitor.retraining.history``."""

from pydantic import Field
from rich.table import Table

from data.cli.config import CommandConfig, run_command
from data.cli.console import console, info
from data.datasets import for_dataset
from monitor.store import listings, records
from monitor.store.model_store import current_store
from serving import registry
from serving.registry import reachability
from serving.registry.store import plain_store


class HistoryConfig(CommandConfig):
    """Show the promotions and rollbacks of the registered model, and its retraining decisions, latest first."""

    limit: int = Field(default=20, ge=1, le=1_000, description="maximum number of promotions and of decisions to show")
    model: str = Field(default="", description="registered model; empty is kobe_shot, or $KOBE_SHOT_MODEL")


def run(config: HistoryConfig) -> None:
    """Print the history."""
    name = config.model or registry.model()
    reachability.require_reachable()
    with plain_store(), registry.use_model_name(name):
        promotions, log = (
            listings.promotions_table(current_store()).head(config.limit),
            current_store().decisions(limit=config.limit),
        )
        with registry.translate_store_errors():
            line, champion = registry.champion_history(), registry.alias_state().champion
            waiting = [registry.number(version) for version in registry.awaiting_approval()]
            registry.report_problems()
    if promotions.empty:
        info(f"{name}:", "no version has been promoted yet")
    else:
        table = Table("when (UTC)", "what", "version", "replaced", "user", "reason", title=f"{name}: champions")
        for entry in promotions.itertuples(index=False):
            table.add_row(
                f"{entry.when:%Y-%m-%d %H:%M:%S}",
                *(str(value) if value else "-" for value in (entry.kind, entry.version, entry.instead_of, entry.who)),
                str(entry.why),
            )
        console.print(table)
        before = line[:-1] if champion else line
        name_of_champion = f"version {champion}" if champion else "none"
        info("Champion:", f"{name_of_champion}; rollback target: {f'version {before[-1]}' if before else 'none'}")
    for version in waiting:
        info("Waiting:", f"version {version}, for approval: {registry.approval_command(version)}")
    if not log:
        info("Decisions:", f"none yet; make one with {for_dataset('mlflow run . -e retreino')}")
        return
    table = Table("decision", "time (UTC)", "action", "outcome", "version", "reason", title=f"{name}: decisions")
    for decision in log:
        what = f"{decision.decision} ({decision.trigger})" if decision.trigger else decision.decision
        acted = decision.outcome != records.NOTHING_TO_DO
        why = decision.outcome_reason if acted else "; ".join(decision.reasons[:2])
        table.add_row(
            str(decision.number),
            f"{decision.decided_at:%Y-%m-%d %H:%M}",
            what,
            decision.outcome,
            decision.challenger,
            why,
        )
    console.print(table)


if __name__ == "__main__":
    run_command(HistoryConfig, run)
