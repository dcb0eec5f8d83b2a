"""Reads the content of the report from the tracking store."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from data.datasets import current
from data.errors import KobeShotError
from data.preparation.manifest import FILTERED, TEST, TRAIN
from data.schema import PREDICTION, PROBABILITY
from monitor.charts import static, trust_court, trust_court_image
from monitor.charts.court_rows import on_court
from monitor.charts.png import png
from monitor.drift.training_support import Support
from monitor.health.record import RECORD_KEYS, upgrade
from monitor.metrics.binary import THRESHOLD
from monitor.reports.pipeline import artifacts, evidence, figures, plot_texts, screens
from monitor.reports.pipeline.facts import (
    ArtifactFacts,
    Chain,
    Cover,
    Exchange,
    PipelineFacts,
    Rollback,
    RunFacts,
    selected_candidate,
)
from monitor.reports.pipeline.lineage import read
from monitor.reports.pipeline.sources import RAW_DEV, Sources
from monitor.retraining import backtest, decision_log
from monitor.store import listings, records, tags
from monitor.store.model_store import ModelStore
from monitor.store.run_names import REPORT, RETRAINING
from serving import registry
from serving.batch.in_process import ScoredError, predict
from serving.model.packaging import predict_probability

_DOTS_PER_INCH = 130
_MAX_DECISIONS = 20
_SAMPLE = 10
"""Rows of the table of predictions that are shown."""
_SAVED_PLOTS = {
    "arremessos.png": ("preparation", "shot_map"),
    "distancia.png": ("preparation", "rate_by_distance"),
    "calibracao.png": ("selected", "calibration"),
    "roc.png": ("selected", "roc"),
    "producao.png": ("application", "prediction_map"),
    "operacao.png": ("operation", Path(backtest.FILE).stem),
}
"""Plots that runs hold, for where the tables are gone that the report draws from."""
_COURT, _DRIFT, _FEATURES, RESPLITS = "quadra.png", "drift.png", "atributos.png", "divisoes.png"
PLOT_FILES = frozenset(
    {
        *(*_SAVED_PLOTS, _COURT, _DRIFT, _FEATURES, RESPLITS, *screens.APP, screens.RUNS, screens.REGISTRY),
        *("ausentes.png", "histogramas.png", "zonas.png", "arvore.png", "importancia.png", "confusao.png"),
        *("mapa_selecionado.png", "mapa_outro.png"),
    }
)
"""All plots that a report may have; the step draws `RESPLITS` and takes the images of pages."""


@dataclass(frozen=True)
class ReportContent:
    """The facts of a report and its plots, as PNG by file name."""

    facts: PipelineFacts
    plots: dict[str, bytes]


@dataclass(frozen=True)
class Given:
    """What the step hands to the report.

    Attributes
    ----------
    cover : Cover
    sources : Sources
        Tables and models to draw.
    drawn : mapping of str to matplotlib.figure.Figure
        Additional plots, by file name.
    images : mapping of str to bytes
        Images of pages, as PNG by file name.
    exchange : Exchange or None
        A request to a server and its response.
    reproduction : str
        The command that trains the version again; empty where that of its ``main`` does.
    unknown : tuple of str
        Parameters of that command that are not known.
    """

    cover: Cover = field(default_factory=Cover)
    sources: Sources = field(default_factory=Sources)
    drawn: Mapping[str, Figure] = field(default_factory=dict)
    images: Mapping[str, bytes] = field(default_factory=dict)
    exchange: Exchange | None = None
    reproduction: str = ""
    unknown: tuple[str, ...] = ()


@registry.translate_store_errors()
def collect(store: ModelStore, chain: Chain, run_id: str, given: Given) -> ReportContent:
    """Read the content of the runs of a pipeline.

    Parameters
    ----------
    store : ModelStore
    chain : Chain
    run_id : str
        Run of the report, whose own metrics the report shows too.
    given : Given
    """
    own = read(store, run_id, REPORT)
    decisions = tuple(store.decisions(limit=_MAX_DECISIONS))
    retraining = read(store, decisions[0].run_id, RETRAINING) if decisions else RunFacts(RETRAINING)
    shown = {
        **_saved_plots(store, chain),
        **_new_plots(store, chain, given.sources),
        **{name: png(each, _DOTS_PER_INCH) for name, each in given.drawn.items()},
        **given.images,
    }
    facts = PipelineFacts(
        **vars(chain),
        written=datetime.now(UTC),
        experiment=store.experiment_of(run_id),
        model=registry.model(),
        own=own,
        artifacts=tuple(_artifacts(store, chain, retraining, own)),
        record=_monitoring_record(store, chain.monitoring),
        decisions=decisions,
        backtest=backtest.upgrade(_json(store, chain.operation, backtest.FILE) or {}),
        rollbacks=tuple(_rollbacks(store)),
        reproduction=given.reproduction,
        unknown=given.unknown,
        plots=frozenset(shown),
        cover=given.cover,
        exchange=given.exchange or _prediction(chain, given.sources),
        coefficients={
            name: found
            for name, model in given.sources.models.items()
            if (found := evidence.coefficients(model, given.sources.dataset or current()))
        },
        sample=tuple(_sample(given.sources)),
        decision=_decision(store, decisions[0].run_id) if decisions else None,
        retraining=retraining,
    )
    return ReportContent(facts, shown)


def example(sources: Sources) -> dict[str, Any] | None:
    """A row to request a prediction of: the first of the prod table; None without one."""
    predictions = sources.tables.get("predictions")
    if predictions is None or predictions.empty:
        return None
    first = predictions.iloc[0]
    return {
        feature.name: None
        if pd.isna(first[feature.name])
        else float(first[feature.name])
        if feature.is_numeric
        else str(first[feature.name])
        for feature in current().features
    }


def _prediction(chain: Chain, sources: Sources) -> Exchange | None:
    """What the applied version responds for the example, without a server."""
    shot = example(sources)
    if shot is None or not chain.applied:
        return None
    try:
        predicted = predict(pd.DataFrame([shot]), chain.applied.number).iloc[0]
    except ScoredError:
        return None
    response = {current().target.name: int(predicted[PREDICTION]), PROBABILITY: float(predicted[PROBABILITY])}
    return Exchange(json.dumps({"dataframe_records": [shot]}), json.dumps({"predictions": [response]}))


def _sample(sources: Sources) -> Iterator[dict[str, object]]:
    """The first rows of the table of predictions."""
    table = sources.tables.get("predictions")
    if table is None:
        return
    shown = [
        name
        for name in (current().id.name, *current().feature_names, current().target.name, PREDICTION, PROBABILITY)
        if name in table
    ]
    for row in table[shown].head(_SAMPLE).astype(object).to_dict("records"):
        yield {str(name): None if pd.isna(value) else value for name, value in row.items()}


def _decision(store: ModelStore, run_id: str) -> dict[str, Any] | None:
    """The record of a decision; None if it is missing or damaged."""
    with contextlib.suppress(KobeShotError):
        found = decision_log.record(store, run_id)
        return found if {"triggers", "preconditions"} <= set(found) else None
    return None


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


def _artifacts(store: ModelStore, chain: Chain, retraining: RunFacts, own: RunFacts) -> Iterator[ArtifactFacts]:
    before = (chain.acquisition, chain.preparation, chain.training, *chain.candidates)
    for run in before:
        yield from artifacts.of_run(store, run)
    for number in dict.fromkeys(filter(None, (chain.trained.number, chain.applied.number))):
        with contextlib.suppress(KobeShotError):
            yield from artifacts.of_version(number)
    for run in (chain.application, chain.monitoring, retraining, chain.operation, own):
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


def _new_plots(store: ModelStore, chain: Chain, sources: Sources) -> dict[str, bytes]:
    """Draw the plots of the data, of the models, and of the differences between training and production data."""
    found: dict[str, bytes] = {}

    def add(name: str, draw: Callable[[], Figure]) -> None:
        # A table of a person may lack what a plot shows.
        with contextlib.suppress(KobeShotError, KeyError, ValueError):
            found[name] = png(plot_texts.localize(draw()), _DOTS_PER_INCH)

    for name, draw in _plots(chain, sources).items():
        add(name, draw)
    if distances := _distances(chain.monitoring):
        add(_DRIFT, lambda: figures.drift(distances))
    if record := _json(store, chain.operation, backtest.FILE):
        add("operacao.png", lambda: static.policy_backtest(backtest.upgrade(record)))
    return found


def _plots(chain: Chain, sources: Sources) -> dict[str, Callable[[], Figure]]:
    """How each plot of tables and models is drawn, by file name."""
    tables, models, described = sources.tables, sources.models, sources.dataset or current()
    plots: dict[str, Callable[[], Figure]] = {}
    if RAW_DEV in tables:
        plots["ausentes.png"] = lambda: static.missing_values(tables[RAW_DEV], "Valores ausentes, desenvolvimento")
    if (filtered := tables.get(FILTERED)) is not None:
        plots |= {
            "arremessos.png": lambda: static.shot_map(filtered),
            "distancia.png": lambda: static.rate_by_distance(filtered),
            "histogramas.png": lambda: static.histograms(filtered),
            "zonas.png": lambda: static.rate_by_zone(filtered),
        }
    test, selected = tables.get(TEST), models.get(sources.selected)
    if test is not None and models:
        labels = test[current().target.name].to_numpy(dtype=float)
        made = {
            sources.labels[name]: predict_probability(model, test, sources.dataset) for name, model in models.items()
        }
        threshold = float(chain.trained.tags.get("threshold", THRESHOLD))
        plots |= {
            "roc.png": lambda: static.roc(labels, made, "Curva ROC no teste"),
            "confusao.png": lambda: static.confusion_matrices(labels, made, threshold),
        }
        for name, model in models.items():
            if figures.is_tree(model):
                plots["arvore.png"] = lambda model=model: figures.tree(model, described)  # type: ignore[misc]
            file = "mapa_selecionado.png" if name == sources.selected else "mapa_outro.png"
            title = f"P(cesta) no teste, {sources.labels[name]}"
            plots[file] = lambda name=name, title=title: static.prediction_map(  # type: ignore[misc]
                test, made[sources.labels[name]], title
            )
        if selected is not None:
            predicted = made[sources.labels[sources.selected]]
            plots |= {
                "calibracao.png": lambda: static.calibration(labels, predicted, "Calibração no teste"),
                "importancia.png": lambda: figures.importances(selected, test, described),
            }
    if (scored := tables.get("predictions")) is not None and PROBABILITY in scored:
        probability = scored[PROBABILITY].to_numpy(dtype=float)
        plots["producao.png"] = lambda: static.prediction_map(scored, probability, "P(cesta) na produção")
        plots[_COURT] = plots["producao.png"]
        if (train := tables.get(TRAIN)) is not None:
            plots[_COURT] = lambda: _trust_court(train, scored)
    samples = {"treino": tables.get(TRAIN), "teste": test, "produção": scored}
    if all(table is not None for table in samples.values()):
        known = {name: table for name, table in samples.items() if table is not None}
        plots[_FEATURES] = lambda: figures.distributions(known)
    return plots


def _trust_court(train: pd.DataFrame, scored: pd.DataFrame) -> Figure:
    """The trust court of the production shots."""
    outside = Support.of(train, current()).out_of_support(scored)
    found = trust_court.trust_court(on_court(scored, current()), outside)
    labeled = f"{found.labeled:,} com rótulo".replace(",", ".")
    return trust_court_image.image(found, "Onde se pode confiar em P(cesta)", f"Arremessos da produção, {labeled}")


def _distances(monitoring: RunFacts) -> list[dict[str, Any]]:
    """Collect the metrics of the report's drift table for `figures.drift`."""
    metrics = monitoring.metrics
    return [
        {"feature": feature, "statistic": name, "value": metrics[f"{name}_{feature}"], "threshold": threshold}
        for feature in current().feature_names
        for name in ("psi", "ks")
        if f"{name}_{feature}" in metrics and (threshold := metrics.get(f"{name}_{feature}_threshold"))
    ]


def _json(store: ModelStore, run: RunFacts, file: str) -> dict[str, Any] | None:
    if run:
        with contextlib.suppress(KobeShotError, ValueError, OSError):
            found = json.loads(store.artifact(run.run_id, file).read_text(encoding="utf-8"))
            return found if isinstance(found, dict) else None
    return None
