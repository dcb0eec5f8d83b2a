"""Entry point ``main``: acquire, prepare, train, select, register, serve and apply, as nested runs of one run.

The steps run in this process. As project runs each would import MLflow anew: ``make bench`` measures both.
"""

from rich.table import Table

from data.console import console, say
from data.files import PROCESSED
from data.source import Provenance
from serving import registry
from serving.client import base_address
from serving.server import check_alive
from steps import aplicacao, aquisicao, preparacao, treinamento
from steps.aplicacao import AplicacaoConfig, Applied
from steps.aquisicao import AquisicaoConfig
from steps.command import Config, StepConfig, run_command
from steps.preparacao import PreparacaoConfig, Prepared
from steps.tracking import Metrics, Tags, step_run, write
from steps.treinamento import Trained, TreinamentoConfig

RUN_NAME = "main"


class MainConfig(AplicacaoConfig, TreinamentoConfig, PreparacaoConfig, AquisicaoConfig):
    """Run aquisicao, preparacao, treinamento and aplicacao, one after the other; the parameters are theirs."""


def run(config: MainConfig) -> None:
    """Run the chain; the first step that fails ends it and leaves champion and Production as they were."""
    with step_run(RUN_NAME, config) as active:
        if config.endpoint:
            check_alive(base_address(config.endpoint))
        before = registry.standing()
        provenance = aquisicao.run(_part(AquisicaoConfig, config))
        write([aquisicao.data_tags(provenance)])
        prepared = preparacao.run(_part(PreparacaoConfig, config))
        trained = treinamento.run(_part(TreinamentoConfig, config))
        try:
            applied = aplicacao.run(_part(AplicacaoConfig, config))
        except BaseException:
            registry.restore(before, f"main could not apply version {trained.version}, so it did not stay champion")
            raise
        write([Metrics({f"prod_{name}": value for name, value in applied.metrics.items()})])
        write([Metrics({f"test_{name}": value for name, value in trained.choice.metrics.items()})])
        write([Tags({"chosen_model": trained.choice.chosen.id, "model_version": trained.version})])
    if provenance.is_synthetic:
        aquisicao.announce(provenance)
    _show(provenance, prepared, trained, applied, active.info.run_id)


def _part(config_class: type[Config], config: StepConfig) -> Config:
    return config_class(**{name: getattr(config, name) for name in config_class.model_fields})


def _show(provenance: Provenance, prepared: Prepared, trained: Trained, applied: Applied, run_id: str) -> None:
    champion, filtered = registry.require_champion(), prepared.filtered
    test, prod = trained.choice.metrics, applied.metrics
    table = Table("", "", show_header=False, title="main: done", title_justify="left")
    table.add_row("data", f"{provenance.kind} ({provenance.address})")
    table.add_row(
        "rows",
        f"{len(filtered):,} × {filtered.shape[1]} filtered; {len(prepared.train):,} train, {len(prepared.test):,} test",
    )
    table.add_row("", f"{applied.rows:,} prod scored, {applied.labelled:,} of them labelled")
    table.add_row("chosen model", f"{trained.choice.chosen.name} ({trained.choice.chosen.id})")
    table.add_row("test", _figures(test))
    table.add_row("prod", _figures(prod) if prod else "no labelled rows")
    table.add_row("version", f"{registry.MODEL} version {trained.version}: {trained.note}")
    table.add_row("champion", f"version {champion.version}")
    table.add_row("tables", str(PROCESSED))
    table.add_row("run", run_id)
    console.print(table)
    say("Look at it:", "mlflow ui", style="")


def _figures(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {metrics[name]:.4f}" for name in ("log_loss", "f1_score", "roc_auc") if name in metrics)


if __name__ == "__main__":
    run_command(MainConfig, run)
