"""Everything that the report tells, read from the tracking store."""

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
from monitor.reports.pipeline.facts import REPORT, Artefact, PipelineFacts, RollBack, RunFacts
from monitor.reports.pipeline.lineage import Chain, read
from monitor.retraining import backtest
from monitor.store import listings, records, tags
from monitor.store.model_store import ModelStore
from serving import registry

_MOST_DECISIONS = 20
_DRAWN_ROWS = 20_000
_KEPT = {
    "arremessos.png": ("preparation", "shot_map"),
    "distancia.png": ("preparation", "rate_by_distance"),
    "calibracao.png": ("chosen", "calibration"),
    "roc.png": ("chosen", "roc"),
    "producao.png": ("application", "prediction_map"),
    "operacao.png": ("operation", "replay"),
}
_DRIFT, _FEATURES, SPREAD = "drift.png", "atributos.png", "divisoes.png"
PICTURE_FILES = frozenset({*_KEPT, _DRIFT, _FEATURES, SPREAD})
"""Every picture that a report may have; `SPREAD` is what a caller of `collect` draws."""


@dataclass(frozen=True)
class Gathered:
    """The facts, and the pictures that go with them: PNG by the name of its file."""

    facts: PipelineFacts
    pictures: dict[str, bytes]


@registry.translate_store_errors()
def collect(
    store: ModelStore,
    chain: Chain,
    run_id: str,
    drawn: dict[str, Figure],
    reproduction: tuple[str, tuple[str, ...]] = ("", ()),
) -> Gathered:
    """Read what the runs of a chain hold.

    Parameters
    ----------
    store : ModelStore
    chain : Chain
    run_id : str
        Of the report, whose own figures are told too.
    drawn : dict of str to matplotlib.figure.Figure
        Pictures that the caller has drawn, by the name of their file.
    reproduction : tuple of str and tuple of str
        The command that trains the version again, and the parameters that it lacks.
    """
    own = read(store, run_id, REPORT)
    found = _json(store, chain.monitoring, records.MONITORING_RECORD)
    found = upgrade(found) if found else None
    record = found if found and set(found) >= RECORD_KEYS else None
    shown = {**_kept(store, chain), **_drawn(store, chain), **{name: figures.png(each) for name, each in drawn.items()}}
    facts = PipelineFacts(
        written=datetime.now(UTC),
        experiment=store.experiment_of(run_id),
        model=registry.model(),
        champion=chain.champion,
        trained=chain.trained,
        applied=chain.applied,
        main=chain.main,
        acquisition=chain.acquisition,
        preparation=chain.preparation,
        training=chain.training,
        candidates=chain.candidates,
        application=chain.application,
        monitoring=chain.monitoring,
        operation=chain.operation,
        own=own,
        artefacts=tuple(_artefacts(store, chain, own)),
        record=record,
        decisions=tuple(store.decisions(limit=_MOST_DECISIONS)),
        replay=_json(store, chain.operation, backtest.FILE),
        roll_backs=tuple(_roll_backs(store)),
        again=reproduction[0],
        unknown=reproduction[1],
        pictures=frozenset(shown),
    )
    return Gathered(facts, shown)


def _roll_backs(store: ModelStore) -> Iterator[RollBack]:
    for row in listings.promotions_table(store).to_dict("records"):
        if row["kind"] == registry.ROLL_BACK:
            yield RollBack(row["when"], str(row["version"]), str(row["instead_of"] or ""), str(row["why"] or ""))


def _artefacts(store: ModelStore, chain: Chain, own: RunFacts) -> Iterator[Artefact]:
    before = (chain.acquisition, chain.preparation, chain.training, *chain.candidates)
    for run in before:
        yield from artifacts.of_run(store, run)
    for number in dict.fromkeys(filter(None, (chain.trained.number, chain.applied.number))):
        with contextlib.suppress(KobeShotError):
            yield from artifacts.of_version(number)
    for run in (chain.application, chain.monitoring, chain.operation, own):
        yield from artifacts.of_run(store, run)


def _kept(store: ModelStore, chain: Chain) -> dict[str, bytes]:
    """Pictures that runs keep."""
    chosen = chain.training.tags.get(tags.SELECTED_MODEL) or chain.trained.tags.get(tags.MODEL_ID)
    best = next((run for run in chain.candidates if run.tags.get(tags.MODEL_ID) == chosen), None)
    holders = {
        "preparation": chain.preparation,
        "chosen": best,
        "application": chain.application,
        "operation": chain.operation,
    }
    found = {}
    for name, (holder, picture) in _KEPT.items():
        if run := holders[holder]:
            with contextlib.suppress(KobeShotError):
                found[name] = store.artifact(run.run_id, f"pictures/{picture}.png").read_bytes()
    return found


def _drawn(store: ModelStore, chain: Chain) -> dict[str, bytes]:
    """Pictures of what changed between the two bases."""
    found = {}
    if distances := _distances(chain.monitoring):
        found[_DRIFT] = figures.png(figures.drift(distances))
    answers = chain.application.tags.get(tags.PREDICTIONS, PREDICTIONS.name)
    tables = {
        "treino": (chain.preparation, f"{TRAIN}.parquet"),
        "teste": (chain.preparation, f"{TEST}.parquet"),
        "produção": (chain.application, answers),
    }
    with contextlib.suppress(KobeShotError):
        samples = {
            words: TableReader(_table(store, run, file)).systematic_sample(_DRAWN_ROWS)
            for words, (run, file) in tables.items()
            if run
        }
        if len(samples) == len(tables):
            found[_FEATURES] = figures.png(figures.distributions(samples))
    return found


def _distances(monitoring: RunFacts) -> list[dict[str, Any]]:
    """The metrics that the report's table shows, as `drawing.drift` takes them."""
    metrics = monitoring.metrics
    return [
        {"feature": feature, "statistic": name, "value": metrics[f"{name}_{feature}"], "limit": limit}
        for feature in FEATURES
        for name in ("psi", "ks")
        if f"{name}_{feature}" in metrics and (limit := metrics.get(f"{name}_{feature}_threshold"))
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
