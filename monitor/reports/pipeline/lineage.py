"""Finds the runs of one pipeline: those of one ``main``, or runs that are linked by the SHA-256 of their datasets."""

from collections.abc import Mapping, Sequence

from data.datasets import current
from data.errors import KobeShotError
from data.preparation.manifest import TRAIN
from monitor.reports.pipeline.facts import Chain, RunFacts, VersionFacts
from monitor.store import commands, tags
from monitor.store.model_store import FINISHED, OF_BATCH_SCORING, ModelStore
from monitor.store.records import ModelVersion, RunInfo
from monitor.store.run_names import (
    ACQUISITION,
    BACKTEST,
    BATCH_SCORING,
    MAIN,
    MONITORING,
    PREPARATION,
    RETRAINING,
    TRAINING,
)
from serving import registry


def _raw() -> str:
    """Name of the raw table of development."""
    return current().raw_tables[0].partition(".")[0]


class NoTrainingError(KobeShotError):
    """There is nothing to report, as nothing has been trained."""


@registry.translate_store_errors()
def find_pipeline_runs(store: ModelStore, parent: str = "") -> Chain:
    """The runs that the report is about.

    Parameters
    ----------
    store : ModelStore
    parent : str
        The run of the ``main`` that is at work. Without it, the last batch scoring of the prod table and what it was
        made from: the other runs of its ``main`` where it is part of one, else those whose digests and tags agree.

    Raises
    ------
    NoTrainingError
        If nothing has been trained.
    """
    if parent:
        siblings = _children(store, parent)
        application = siblings.get(BATCH_SCORING)
    else:
        application = store.last_batch_scoring_run()
        parent = _parent_named_main(store, application)
        siblings = _children(store, parent) if parent else {}
    applied = _facts_of_version(store.version(application.model_version) if application else None)
    champion = _facts_of_version(store.champion())
    training = siblings.get(TRAINING) or _training(store, applied or champion)
    if training and not application and not parent and (parent := _parent_named_main(store, training)):
        siblings = _children(store, parent)
    if training is None:
        message = (
            f"No finished run {TRAINING} of {store.model_name} was found in {store.uri}: there is nothing to report. "
            f"Run the pipeline first: {commands.command('main')}"
        )
        raise NoTrainingError(message)
    trained = _facts_of_version(store.version(training.model_version) or store.version_of(training.run_id))
    preparation = siblings.get(PREPARATION) or _preparation(store, training, trained)
    acquisition = siblings.get(ACQUISITION) or _acquisition(store, preparation, trained)
    return Chain(
        main=facts_of(store.run(parent), MAIN) if parent else RunFacts(MAIN),
        acquisition=facts_of(acquisition, ACQUISITION),
        preparation=facts_of(preparation, PREPARATION),
        training=facts_of(training, TRAINING),
        candidates=tuple(facts_of(run, TRAINING) for run in store.candidate_runs(training.run_id)),
        application=facts_of(application, BATCH_SCORING),
        monitoring=facts_of(_monitoring(store, application), MONITORING),
        operation=facts_of(_backtest(store, acquisition, training), BACKTEST),
        trained=trained,
        applied=applied,
        champion=champion,
    )


def facts_of(run: RunInfo | None, step: str) -> RunFacts:
    """A run as the report reads it."""
    if run is None:
        return RunFacts(step)
    return RunFacts(step, run.run_id, run.name, run.metrics, run.params, run.tags, run.inputs)


@registry.translate_store_errors()
def read(store: ModelStore, run_id: str, step: str) -> RunFacts:
    """A run by its id."""
    return facts_of(store.run(run_id), step)


def _children(store: ModelStore, parent: str) -> Mapping[str, RunInfo]:
    """The finished runs of the steps within a run, by name."""
    return {run.name: run for run in store.runs_within(parent)}


def _parent_named_main(store: ModelStore, run: RunInfo | None) -> str:
    return run.parent if run and run.parent and store.run(run.parent).name == MAIN else ""


def _facts_of_version(version: ModelVersion | None) -> VersionFacts:
    return VersionFacts(version.version, version.tags) if version and version.tags else VersionFacts()


def _training(store: ModelStore, version: VersionFacts) -> RunInfo | None:
    """The training that a version came from, else the last one that no retraining decision started."""
    found = store.version(version.number)
    if found and found.run_id and (made := store.active_run(found.run_id)):
        return made
    for run in store.find_runs(TRAINING):
        of_decision = bool(run.parent) and store.run(run.parent).name == RETRAINING
        if store.is_about_model(run) and not of_decision:
            return run
    return None


def _preparation(store: ModelStore, training: RunInfo, version: VersionFacts) -> RunInfo | None:
    name = tags.sha256_of(TRAIN)
    digest = tags.development_sha256(version.tags) or training.params.get(name, "")
    return _of_digest(store, PREPARATION, f"params.{name}", digest)


def _acquisition(store: ModelStore, preparation: RunInfo | None, version: VersionFacts) -> RunInfo | None:
    name = tags.sha256_of(_raw())
    digest = (preparation.inputs.get(_raw()) if preparation else "") or version.tags.get(name, "")
    return _of_digest(store, ACQUISITION, f"tags.{name}", digest)


def _of_digest(store: ModelStore, step: str, name: str, digest: str) -> RunInfo | None:
    """The newest run of a step that holds a digest; one for the registered model goes before those for others."""
    found = store.find_runs(step, f"{name} = '{digest}' and {FINISHED}") if digest.isalnum() else []
    return _newest([run for run in found if store.is_about_model(run)] or found)


def _newest(found: Sequence[RunInfo]) -> RunInfo | None:
    return found[0] if found else None


def _backtest(store: ModelStore, acquisition: RunInfo | None, training: RunInfo) -> RunInfo | None:
    """The last policy backtest of the registered model that is about the same shots."""
    digest = tags.sha256_of(_raw())
    for run in store.backtests():
        acquired = _children(store, run.run_id).get(ACQUISITION)
        if acquired and acquisition:
            same = acquired.tags.get(digest) == acquisition.tags.get(digest)
        else:
            same = all(run.tags.get(name) == training.tags.get(name) for name in tags.ORIGIN)
        if same and store.is_about_model(run):
            return run
    return None


def _monitoring(store: ModelStore, application: RunInfo | None) -> RunInfo | None:
    """The last monitoring run that compares what was scored with the test rows."""
    if application is None:
        return None
    found = store.monitoring_runs(OF_BATCH_SCORING)
    return _newest([run for run in found if run.batch_scoring_run == application.run_id and run.health])
