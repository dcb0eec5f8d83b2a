"""Entry point ``main``: acquire, prepare, train, select, register, score, monitor, decide and report, as nested runs.

The steps run in this process. As project runs each would import MLflow anew: ``make bench`` measures both.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated

from pydantic import AfterValidator, Field
from rich.table import Table

from data.acquisition.provenance import Provenance
from data.cli.console import brief, console, info, suppress_output
from data.datasets import current, processed_folder
from data.engines.choice import LOCAL
from data.errors import KobeShotError
from data.preparation.contract import PreparationResult
from data.preparation.manifest import FILTERED, TEST, TRAIN, prepared_path
from data.storage.files import display_path
from data.storage.tables import TableReader
from monitor.store import commands, run_names, tags
from serving import registry
from serving.server.subprocesses import check_alive
from steps import aplicacao, aquisicao, monitoramento, preparacao, relatorio, retreino, treinamento
from steps.aquisicao import AquisicaoConfig
from steps.monitoramento import MonitoramentoConfig, MonitoringResult
from steps.preparacao import PreparacaoConfig
from steps.relatorio import RelatorioConfig, ReportResult
from steps.retraining.config import RetreinoConfig
from steps.scoring.config import BatchScoringConfig, ScoringConfig
from steps.scoring.scoring import UNKNOWN_VERSION, BatchScoringResult
from steps.shared.command import part, run_command
from steps.shared.data_origin import data_tags, print_provenance
from steps.shared.engine_config import ENGINES, check_local_or_spark
from steps.shared.tracking import Metrics, Record, Tags, log_records, step_run
from steps.training.selection import cross_validated
from steps.treinamento import TrainingResult, TreinamentoConfig

RUN_NAME = run_names.MAIN

_SHOWN = ("log_loss", "roc_auc", "f1_score")


class MainConfig(RelatorioConfig, ScoringConfig, TreinamentoConfig, PreparacaoConfig, AquisicaoConfig):
    """Run aquisicao, preparacao, treinamento, aplicacao, monitoramento and retreino (a dry run), and relatorio."""

    engine: Annotated[str, AfterValidator(check_local_or_spark)] = Field(default=LOCAL, description=ENGINES)

    def check(self) -> None:
        """Refuse an engine that cannot be started and a folder that cannot be written to; see `check_out`."""
        super().check()
        self.check_out()


def run(config: MainConfig) -> None:
    """Run the pipeline; print progress and a summary.

    If a step fails before the new champion has scored prod, champion and Production do not change. Monitoring
    and the report come after: if one of them fails, the run fails and the promotion remains.
    """
    config.check()
    with step_run(RUN_NAME, config) as active, brief():
        if config.endpoint:
            check_alive(config.endpoint)
        provenance = aquisicao.run(part(AquisicaoConfig, config))
        log_records([data_tags(provenance)])
        prepared = preparacao.run(part(PreparacaoConfig, config))
        with registry.rollback_on_failure():
            trained = treinamento.run(part(TreinamentoConfig, config))
            if registry.champion() is None and not config.endpoint:
                raise registry.RegistryError(_without_champion(config, trained))
            applied = aplicacao.run(BatchScoringConfig(**part(ScoringConfig, config).model_dump()))
            log_records(_records(trained, applied))
        with _promotion_kept(trained):
            info("Monitoring", f"{applied.rows:,} scored rows")
            monitoring = MonitoramentoConfig(
                dataset=config.dataset, endpoint=config.endpoint, engine=config.engine, master=config.master
            )
            with suppress_output():
                monitored = monitoramento.run(monitoring)
            log_records([Tags({tags.HEALTH: str(monitored.health.status)})])
            _decide(config.dataset)
            written = relatorio.run(part(RelatorioConfig, config))
    if provenance.is_synthetic:
        print_provenance(provenance)
    _show(config, provenance, prepared, trained, applied, monitored, written, active.info.run_id)


def _without_champion(config: MainConfig, trained: TrainingResult) -> str:
    if registry.awaiting_approval():
        then = "; ".join(map(commands.command, ("aplicacao", "monitoramento", "relatorio")))
        return f"There is no champion to score with: version {trained.version} {trained.note}. Then: {then}"
    return (
        f"There is no champion to score with: version {trained.version} was {trained.note}. Give more "
        f"{config.description.rows} or better features, or score with a server: endpoint=URL."
    )


def _decide(dataset: str) -> None:
    """Log a decision of the retraining policy, as a dry run; a table without times has none."""
    if current().time is None:
        why = f"{current().name} has no column of role 'time'; the inference log has times: -P current=log"
        info("Not decided:", f"whether to retrain ({why})")
        return
    try:
        with suppress_output():
            decided = retreino.run(RetreinoConfig(mode="dry_run", dataset=dataset))
    except KobeShotError as error:
        info("Not decided:", f"whether to retrain ({error})", style="bold yellow")
        return
    info("Policy:", f"{decided.decision.decision} (dry run)")


@contextmanager
def _promotion_kept(trained: TrainingResult) -> Iterator[None]:
    """Print what remains true where a step after the promotion fails."""
    champion = registry.champion()
    try:
        yield
    except Exception:
        now = f"version {registry.number(champion)} is champion" if champion else "there is no champion"
        info(
            "Not undone:",
            f"version {trained.version} was registered before this failed ({trained.note}); {now}. Remaining steps: "
            f"{commands.command('monitoramento')}; {commands.command('relatorio')}",
            style="bold yellow",
        )
        raise


def _records(trained: TrainingResult, applied: BatchScoringResult) -> Iterator[Record]:
    yield Metrics({f"test_{name}": value for name, value in trained.selection.metrics.items()})
    yield Metrics({f"prod_{name}": value for name, value in applied.metrics.items()})
    yield Tags({tags.SELECTED_MODEL: trained.selection.selected.id, tags.TRAINED_VERSION: trained.version})
    yield Tags({tags.SCORING_VERSION: applied.version or UNKNOWN_VERSION})


def _show(  # noqa: PLR0913, PLR0917 what each step ended with
    config: MainConfig,
    provenance: Provenance,
    prepared: PreparationResult,
    trained: TrainingResult,
    applied: BatchScoringResult,
    monitored: MonitoringResult,
    written: ReportResult,
    run_id: str,
) -> None:
    champion, columns = registry.champion(), len(TableReader(prepared_path(FILTERED)).schema)
    source = provenance.location
    console.print(_results(trained, applied, config.criterion))
    info("Data:", f"{provenance.kind} ({source})", style="")
    rows = ", ".join(f"{prepared.rows[name]:,} {word}" for name, word in ((TRAIN, "train"), (TEST, "test")))
    info("Rows:", f"{prepared.rows[FILTERED]:,} × {columns} filtered: {rows}", style="")
    info("     ", f"{applied.rows:,} prod scored by {_scorer(applied)}, {applied.labeled:,} of them labeled", style="")
    info(
        "Selected:",
        f"{trained.selection.selected.name} ({trained.selection.selected.id}), by cross-validated {config.criterion}",
    )
    info("Decision:", f"{registry.model()} version {trained.version}: {trained.note}")
    info("Champion:", f"version {champion.version}" if champion else "none")
    others = len(monitored.health.reasons) - 1
    more = f" (and {others} more: report.html of run {monitoramento.RUN_NAME})" if others else ""
    info("Status:", f"{monitored.health.status}: {monitored.health.reasons[0]}{more}")
    info("Tables:", processed_folder(), style="")
    info(
        "Report:",
        f"{display_path(written.html)}, {display_path(written.markdown)}, also artifacts of run {run_id}",
        style="",
    )
    info("Next:", _next())


def _results(trained: TrainingResult, applied: BatchScoringResult, criterion: str) -> Table:
    """Metrics of the candidates on test and of the scoring version on prod, with the base-rate baseline."""
    selection, prod = trained.selection, applied.metrics
    table = Table(
        "model",
        f"cross-validated\n{criterion}",
        *(f"{rows}\n{name}" for rows in ("test", "prod") for name in _SHOWN),
        title="main: done",
        title_justify="left",
    )
    is_new = applied.version == trained.version
    for candidate in selection.candidates:
        name, on_prod = candidate.name, {}
        if candidate.id == selection.prior.id:
            name = "Base-rate baseline"
            on_prod = {"log_loss": prod["base_rate_log_loss"], "roc_auc": 0.5} if prod else {}
        elif candidate is selection.selected:
            name, on_prod = f"{name} (selected)", prod if is_new else {}
        values = cross_validated(candidate, criterion)
        table.add_row(name, values, *_cells(selection.test_metrics[candidate.id]), *_cells(on_prod))
    if not is_new:
        table.add_row(f"{_scorer(applied)}, which scored prod", "", *_cells({}), *_cells(prod))
    return table


def _scorer(applied: BatchScoringResult) -> str:
    return f"version {applied.version}" if applied.version else "the model of the endpoint"


def _cells(metrics: Mapping[str, float]) -> list[str]:
    return [f"{metrics[name]:.4f}" if name in metrics else "-" for name in _SHOWN]


def _next() -> str:
    if commands.at_hand():
        targets = {"monitor": "the app", "serve": "the endpoint", "ui": "runs and versions"}
        return "; ".join(f"{commands.make(target)} ({what})" for target, what in targets.items())
    return f"{commands.runs_page()} (runs, versions and the report); {commands.serve()} (the endpoint)"


if __name__ == "__main__":
    run_command(MainConfig, run)
