"""Which runs belong together: those of one ``main``, or those that are joined by the bytes they read and wrote."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException

from data.acquisition.raw_tables import DEV_FILE
from data.errors import KobeShotError
from data.preparation.manifest import TRAIN
from monitor.reports.pipeline.facts import (
    ACQUISITION,
    APPLICATION,
    MAIN,
    MONITORING,
    PREPARATION,
    TRAINING,
    RunFacts,
    VersionFacts,
)
from monitor.retraining import decision_log
from monitor.store import commands
from monitor.store import runs as operation
from monitor.store.runs import RunInfo
from monitor.store.tables import DEVELOPMENT
from serving import registry

_PARENT = "mlflow.parentRunId"
_FINISHED = "attributes.status = 'FINISHED'"
_RAW = DEV_FILE.partition(".")[0]
_MOST = 200


class NoTrainingError(KobeShotError):
    """There is nothing to tell of."""


@dataclass(frozen=True)
class Chain:
    """The runs of a pipeline; one that was not found is an empty `RunFacts`."""

    main: RunFacts
    acquisition: RunFacts
    preparation: RunFacts
    training: RunFacts
    candidates: tuple[RunFacts, ...]
    application: RunFacts
    monitoring: RunFacts
    operation: RunFacts
    trained: VersionFacts
    applied: VersionFacts
    champion: VersionFacts


@registry.translate_store_errors()
def find_pipeline_runs(parent: str = "") -> Chain:
    """The runs to tell of.

    Parameters
    ----------
    parent : str
        The run of the ``main`` that is at work. Without it, the last application of the prod table and what it was made
        from: the other runs of its ``main`` where it is part of one, else those whose digests and tags agree.

    Raises
    ------
    NoTrainingError
        If nothing has been trained.
    """
    if parent:
        siblings = _children(parent)
        application = siblings.get(APPLICATION)
    else:
        last = operation.last_application()
        application = _run(last.run_id) if last else None
        parent = _parent_named_main(application)
        siblings = _children(parent) if parent else {}
    applied = _version(application.data.tags.get("model_version", "")) if application else VersionFacts()
    champion = registry.champion()
    crowned = _version(registry.number(champion)) if champion else VersionFacts()
    training = siblings.get(TRAINING) or _training(applied or crowned)
    if training and not application and not parent and (parent := _parent_named_main(training)):
        siblings = _children(parent)
    if training is None:
        message = (
            f"No finished run {TRAINING} of {registry.model()} was found in {mlflow.get_tracking_uri()}: there is "
            f"nothing to report. Run the pipeline first: {commands.command('main')}"
        )
        raise NoTrainingError(message)
    trained = _version(training.data.tags.get("model_version", "")) or _version_of(training.info.run_id)
    preparation = siblings.get(PREPARATION) or _preparation(training, trained)
    acquisition = siblings.get(ACQUISITION) or _acquisition(preparation, trained)
    return Chain(
        main=facts_of(_run(parent), MAIN) if parent else RunFacts(MAIN),
        acquisition=facts_of(acquisition, ACQUISITION),
        preparation=facts_of(preparation, PREPARATION),
        training=facts_of(training, TRAINING),
        candidates=_candidates(training),
        application=facts_of(application, APPLICATION),
        monitoring=facts_of(_monitoring(application), MONITORING),
        operation=facts_of(_replay(acquisition, training), decision_log.REPLAY),
        trained=trained,
        applied=applied,
        champion=crowned,
    )


def facts_of(run: Run | None, step: str) -> RunFacts:
    """A run as the report reads it."""
    if run is None:
        return RunFacts(step)
    inputs = {
        each.dataset.name: tag.value for each in run.inputs.dataset_inputs for tag in each.tags if tag.key == "sha256"
    }
    data = run.data
    return RunFacts(
        step, run.info.run_id, str(run.info.run_name), dict(data.metrics), dict(data.params), dict(data.tags), inputs
    )


@registry.translate_store_errors()
def read(run_id: str, step: str) -> RunFacts:
    """A run by its id."""
    return facts_of(_run(run_id), step)


def _run(run_id: str) -> Run:
    return MlflowClient().get_run(run_id)


def _newest(found: list[RunInfo]) -> Run | None:
    return _run(found[0].run_id) if found else None


def _within(parent: str, condition: str) -> list[Run]:
    """The runs within a run that meet a condition, oldest first."""
    client = MlflowClient()
    experiment = client.get_run(parent).info.experiment_id
    within = f"tags.`{_PARENT}` = '{parent}' and {condition}"
    return list(client.search_runs([experiment], within, order_by=["attributes.start_time ASC"], max_results=_MOST))


def _children(parent: str) -> Mapping[str, Run]:
    """The finished runs of the steps within a run, by name."""
    return {str(run.info.run_name): run for run in _within(parent, _FINISHED)}


def _parent_named_main(run: Run | None) -> str:
    parent = str(run.data.tags.get(_PARENT, "")) if run else ""
    return parent if parent and _run(parent).info.run_name == MAIN else ""


def _version(number: str) -> VersionFacts:
    tags = registry.tags_of(number) if number.isdecimal() else {}
    return VersionFacts(number, tags) if tags else VersionFacts()


def _version_of(run_id: str) -> VersionFacts:
    found = MlflowClient().search_model_versions(f"name = '{registry.model()}' and run_id = '{run_id}'")
    return _version(registry.number(found[0])) if found else VersionFacts()


def _training(version: VersionFacts) -> Run | None:
    """The training that a version came from, else the last one that was not for a decision of the loop."""
    if run_id := registry.run_of(version.number):
        with contextlib.suppress(MlflowException):
            made = _run(run_id)
            if made.info.lifecycle_stage == LifecycleStage.ACTIVE:
                return made
    for known in operation.find_runs(TRAINING, _FINISHED, _MOST):
        parent = known.tags.get(_PARENT)
        of_loop = parent is not None and _run(parent).info.run_name == decision_log.RETRAINING
        if known.is_of_model and not of_loop:
            return _run(known.run_id)
    return None


def _preparation(training: Run, version: VersionFacts) -> Run | None:
    digest = version.tags.get(DEVELOPMENT) or training.data.params.get(f"sha256_{TRAIN}", "")
    digest = digest or version.tags.get(f"sha256_{TRAIN}", "")
    return _of_digest(PREPARATION, f"params.sha256_{TRAIN}", digest)


def _acquisition(preparation: Run | None, version: VersionFacts) -> Run | None:
    digest = facts_of(preparation, PREPARATION).inputs.get(_RAW) or version.tags.get(f"sha256_{_RAW}", "")
    return _of_digest(ACQUISITION, f"tags.sha256_{_RAW}", digest)


def _of_digest(step: str, name: str, digest: str) -> Run | None:
    """The newest run of a step that holds a digest; one for the registered model goes before those for others."""
    found = operation.find_runs(step, f"{name} = '{digest}' and {_FINISHED}", _MOST) if digest.isalnum() else []
    return _newest([known for known in found if known.is_of_model] or found)


def _replay(acquisition: Run | None, training: Run) -> Run | None:
    """The last replay of the registered model that is about the same shots."""
    digest = f"sha256_{_RAW}"
    for known in decision_log.replays():
        acquired = _children(known.run_id).get(ACQUISITION)
        if acquired and acquisition:
            same = acquired.data.tags.get(digest) == acquisition.data.tags.get(digest)
        else:
            same = all(known.tags.get(name) == training.data.tags.get(name) for name in ("data_source", "synthetic"))
        if same and known.is_of_model:
            return _run(known.run_id)
    return None


def _monitoring(application: Run | None) -> Run | None:
    """The last look at what was scored, beside the test rows."""
    if application is None:
        return None
    looks = operation.monitoring_runs(operation.OF_APPLICATION)
    scored = application.info.run_id
    found = [look for look in looks if look.tags.get(operation.APPLICATION_RUN) == scored and "verdict" in look.tags]
    return _newest(found)


def _candidates(training: Run) -> tuple[RunFacts, ...]:
    found = _within(training.info.run_id, f"tags.model_id LIKE '%' and {_FINISHED}")
    return tuple(facts_of(run, TRAINING) for run in found)
