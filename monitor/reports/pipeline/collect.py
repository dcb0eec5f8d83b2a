"""Reads the content of the report from the tracking store."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from data.errors import KobeShotError
from data.preparation.manifest import PREDICTIONS, TEST, TRAIN
from data.schema import FEATURES
from data.storage.tables import TableReader
from monitor.health.record import RECORD_KEYS, upgrade
from monitor.reports.pipeline import artifacts, figures
from monitor.reports.pipeline.facts import (
    REPORT,
    ArtifactFacts,
    Chain,
    PipelineFacts,
    Rollback,
    RunFacts,
    selected_candidate,
)
from monitor.reports.pipeline.lineage import read
from monitor.retraining import backtest
from monitor.store import listings, records, tags
from monitor.store.model_store import ModelStore
from serving import registry

_MAX_DECISIONS = 20
_PLOTTED_ROWS = 20_000
_SAVED_PLOTS = {
    "arremessos.png": ("preparation", "shot_map"),
    "distancia.png": ("preparation", "rate_by_distance"),
    "calibracao.png": ("selected", "calibration"),
    "roc.png": ("selected", "roc"),
    "producao.png": ("application", "prediction_map"),
    "operacao.png": ("operation", Path(backtest.FILE).stem),
}
_DRIFT, _FEATURES, RESPLITS = "drift.png", "atributos.png", "divisoes.png"
PLOT_FILES = frozenset({*_SAVED_PLOTS, _DRIFT, _FEATURES, RESPLITS})
"""All plots that a report may have; the step draws `RESPLITS` and passes it to `collect`."""


@dataclass(frozen=True)
class ReportContent:
    """The facts of a report and its plots, as PNG by file name."""

    facts: PipelineFacts
    plots: dict[str, bytes]


@registry.translate_store_errors()
def collect(
    store: ModelStore,
    chain: Chain,
    run_id: str,
    drawn: dict[str, Figure],
    reproduction: tuple[str, tuple[str, ...]] = ("", ()),
) -> ReportContent:
    """Read the content of the runs of a pipeline.

    Parameters
    ----------
    store : ModelStore
    chain : Chain
    run_id : str
        Run of the report, whose own metrics the report shows too.
    drawn : dict of str to matplotlib.figure.Figure
        Additional plots, by file name.
    reproduction : tuple of str and tuple of str
        The command that trains the version again, and the parameters that are not known.
    """
    own = read(store, run_id, REPORT)
    shown = {
        **_saved_plots(store, chain),
        **_new_plots(store, chain),
        **{name: figures.png(each) for name, each in drawn.items()},
    }
    facts = PipelineFacts(
        **vars(chain),
        written=datetime.now(UTC),
        experiment=store.experiment_of(run_id),
        model=registry.model(),
        own=own,
        artifacts=tuple(_artifacts(store, chain, own)),
        record=_monitoring_record(store, chain.monitoring),
        decisions=tuple(store.decisions(limit=_MAX_DECISIONS)),
        backtest=backtest.upgrade(_json(store, chain.operation, backtest.FILE) or {}),
        rollbacks=tuple(_rollbacks(store)),
        reproduction=reproduction[0],
        unknown=reproduction[1],
        plots=frozenset(shown),
    )
    return ReportContent(facts, shown)


def _monitoring_record(store: ModelStore, monitoring: RunFacts) -> dict[str, Any] | None:
    """Read the record of a monitoring run; None if it is missing or damaged."""
    if found := _json(store, monitoring, records.MONITORING_RECORD):
        with contextlib.suppress(KeyError, TypeError, AttributeError):
            record = upgrade(found)
            return record if set(record) >= RECORD_KEYS else None
    return None


def _rollbacks(store: ModelStore) -> Iterator[Rollback]:
    for row in listings.promotions_table(store).to_dict("records"):
        if row["kind"] == registry.ROLL_BACK:
            yield Rollback(row["when"], str(row["version"]), str(row["instead_of"] or ""), str(row["why"] or ""))


def _artifacts(store: ModelStore, chain: Chain, own: RunFacts) -> Iterator[ArtifactFacts]:
    before = (chain.acquisition, chain.preparation, chain.training, *chain.candidates)
    for run in before:
        yield from artifacts.of_run(store, run)
    for number in dict.fromkeys(filter(None, (chain.trained.number, chain.applied.number))):
        with contextlib.suppress(KobeShotError):
            yield from artifacts.of_version(number)
    for run in (chain.application, chain.monitoring, chain.operation, own):
        yield from artifacts.of_run(store, run)


def _saved_plots(store: ModelStore, chain: Chain) -> dict[str, bytes]:
    """Read the plots that runs hold."""
    holders = {
        "preparation": chain.preparation,
        "selected": selected_candidate(chain.training, chain.trained, chain.candidates),
        "application": chain.application,
        "operation": chain.operation,
    }
    found = {}
    for name, (holder, plot) in _SAVED_PLOTS.items():
        if run := holders[holder]:
            with contextlib.suppress(KobeShotError):
                found[name] = store.artifact(run.run_id, f"{tags.PLOTS}/{plot}.png").read_bytes()
    return found


def _new_plots(store: ModelStore, chain: Chain) -> dict[str, bytes]:
    """Draw the plots of the differences between the training and production data."""
    found = {}
    if distances := _distances(chain.monitoring):
        found[_DRIFT] = figures.png(figures.drift(distances))
    predictions = chain.application.tags.get(tags.PREDICTIONS, PREDICTIONS.name)
    tables = {
        "treino": (chain.preparation, f"{TRAIN}.parquet"),
        "teste": (chain.preparation, f"{TEST}.parquet"),
        "produção": (chain.application, predictions),
    }
    with contextlib.suppress(KobeShotError):
        samples = {
            label: TableReader(_table(store, run, file)).systematic_sample(_PLOTTED_ROWS)
            for label, (run, file) in tables.items()
            if run
        }
        if len(samples) == len(tables):
            found[_FEATURES] = figures.png(figures.distributions(samples))
    return found


def _distances(monitoring: RunFacts) -> list[dict[str, Any]]:
    """Collect the metrics of the report's drift table for `figures.drift`."""
    metrics = monitoring.metrics
    return [
        {"feature": feature, "statistic": name, "value": metrics[f"{name}_{feature}"], "threshold": threshold}
        for feature in FEATURES
        for name in ("psi", "ks")
        if f"{name}_{feature}" in metrics and (threshold := metrics.get(f"{name}_{feature}_threshold"))
    ]


def _table(store: ModelStore, run: RunFacts, file: str) -> Path:
    left = run.tags.get(tags.location_of(Path(file).stem))
    return Path(left) if left else store.artifact(run.run_id, f"tables/{file}")


def _json(store: ModelStore, run: RunFacts, file: str) -> dict[str, Any] | None:
    if run:
        with contextlib.suppress(KobeShotError, ValueError, OSError):
            found = json.loads(store.artifact(run.run_id, file).read_text(encoding="utf-8"))
            return found if isinstance(found, dict) else None
    return None
