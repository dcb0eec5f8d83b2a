"""Entry point ``main``: acquire, prepare, train, select, register, serve, apply, look and report, as nested runs.

The steps run in this process. As project runs each would import MLflow anew: ``make bench`` measures both.
"""

from collections.abc import Iterator

from rich.table import Table

from data.console import console, say
from data.files import PROCESSED, shown
from data.preparation import Prepared
from data.prepared import FILTERED, TEST, TRAIN, prepared_path
from data.provenance import Provenance
from data.tables import TableReader
from serving import registry
from serving.mlflow_server import check_alive
from steps import aplicacao, aquisicao, monitoramento, preparacao, relatorio, treinamento
from steps.aplicacao import AplicacaoConfig, Applied, ScoringConfig
from steps.aquisicao import AquisicaoConfig
from steps.command import part, run_command
from steps.monitoramento import MonitoramentoConfig, Monitored
from steps.preparacao import PreparacaoConfig
from steps.relatorio import RelatorioConfig, Written
from steps.tracking import Metrics, Record, Tags, step_run, write
from steps.treinamento import Trained, TreinamentoConfig

RUN_NAME = "main"


class MainConfig(RelatorioConfig, ScoringConfig, TreinamentoConfig, PreparacaoConfig, AquisicaoConfig):
    """Run aquisicao, preparacao, treinamento, aplicacao, monitoramento (with its defaults) and relatorio."""

    def check(self) -> None:
        """Refuse an engine that cannot be started and a folder that cannot be written to; see `check_out`."""
        super().check()
        self.check_out()


def run(config: MainConfig) -> None:
    """Run the chain; the first step that fails ends it and leaves champion and Production as they were."""
    config.check()
    with step_run(RUN_NAME, config) as active:
        if config.endpoint:
            check_alive(config.endpoint)
        provenance = aquisicao.run(part(AquisicaoConfig, config))
        write([aquisicao.data_tags(provenance)])
        prepared = preparacao.run(part(PreparacaoConfig, config))
        with registry.taken_back_on_failure():
            trained = treinamento.run(part(TreinamentoConfig, config))
            if registry.champion() is None and not config.endpoint:
                message = f"There is no champion to apply: version {trained.version} was {trained.note}."
                raise registry.RegistryError(message)
            applied = aplicacao.run(AplicacaoConfig(**part(ScoringConfig, config).model_dump()))
            write(_records(trained, applied))
        looked = MonitoramentoConfig(endpoint=config.endpoint, engine=config.engine, master=config.master)
        monitored = monitoramento.run(looked)
        write([Tags({"verdict": str(monitored.health.verdict)})])
        written = relatorio.run(part(RelatorioConfig, config))
    if provenance.is_synthetic:
        aquisicao.announce(provenance)
    _show(provenance, prepared, trained, applied, monitored, written, active.info.run_id)


def _records(trained: Trained, applied: Applied) -> Iterator[Record]:
    yield Metrics({f"test_{name}": value for name, value in trained.choice.metrics.items()})
    yield Metrics({f"prod_{name}": value for name, value in applied.metrics.items()})
    yield Tags({"chosen_model": trained.choice.chosen.id, "trained_version": trained.version})
    yield Tags({"applied_version": applied.version or aplicacao.UNKNOWN_VERSION})


def _show(  # noqa: PLR0913, PLR0917 what each step ended with
    provenance: Provenance,
    prepared: Prepared,
    trained: Trained,
    applied: Applied,
    monitored: Monitored,
    written: Written,
    run_id: str,
) -> None:
    champion, columns = registry.champion(), len(TableReader(prepared_path(FILTERED)).schema)
    test, prod = trained.choice.metrics, applied.metrics
    table = Table("", "", show_header=False, title="main: done", title_justify="left")
    table.add_row("data", f"{provenance.kind} ({provenance.address})")
    table.add_row(
        "rows",
        f"{prepared.rows[FILTERED]:,} × {columns} filtered; {prepared.rows[TRAIN]:,} train, "
        f"{prepared.rows[TEST]:,} test",
    )
    table.add_row("", f"{applied.rows:,} prod scored, {applied.labelled:,} of them labelled")
    table.add_row("chosen model", f"{trained.choice.chosen.name} ({trained.choice.chosen.id})")
    table.add_row("test", _figures(test))
    by = f"version {applied.version}" if applied.version else "the model behind the endpoint"
    table.add_row("prod", f"{_figures(prod) if prod else 'no labelled rows'} (by {by})")
    table.add_row("version", f"{registry.model()} version {trained.version}: {trained.note}")
    table.add_row("champion", f"version {champion.version}" if champion else "none")
    table.add_row("verdict", f"{monitored.health.verdict}: {monitored.health.reasons[0]}")
    table.add_row("tables", str(PROCESSED))
    table.add_row("report", f"{shown(written.html)}, {shown(written.markdown)}")
    table.add_row("run", run_id)
    console.print(table)
    say("Look at it:", "make monitor, or streamlit run monitor/app.py; mlflow ui", style="")


def _figures(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {metrics[name]:.4f}" for name in ("log_loss", "f1_score", "roc_auc") if name in metrics)


if __name__ == "__main__":
    run_command(MainConfig, run)
