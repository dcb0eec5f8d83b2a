"""The one place that reads runs, versions and artifacts from MLflow for the monitor and the steps."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TypeVar

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, RunTag
from mlflow.entities.model_registry import RegisteredModel
from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from pydantic import ValidationError

from data.errors import TableError
from data.preparation.manifest import TEST
from monitor.store import run_names, tags
from monitor.store.copies import copies
from monitor.store.records import (
    BatchScoringRun,
    ModelVersion,
    MonitoringRun,
    RetrainingDecision,
    RunInfo,
)
from serving import registry

OF_BATCH_SCORING, OF_LOG = "application", "log"
"""Data sources of a monitoring run: the last table that ``aplicacao`` scored, and the inference log."""
FINISHED = "attributes.status = 'FINISHED'"
NEWEST_FIRST, OLDEST_FIRST = "attributes.start_time DESC", "attributes.start_time ASC"

_PAGE = 200
_MAX_RUNS = 1_000

R = TypeVar("R", bound=RunInfo)


class ModelStore:
    """What MLflow holds about a registered model, as records of `monitor.store.records`.

    Parameters
    ----------
    client : mlflow.MlflowClient
        Or whatever does the same, such as the fake of the unit tests.
    model_name : str
        The registered model.
    """

    def __init__(self, client: MlflowClient, model_name: str) -> None:
        self._client = client
        self.model_name = model_name

    @property
    def uri(self) -> str:
        """URI of the tracking store."""
        return str(self._client.tracking_uri)

    def __eq__(self, other: object) -> bool:
        """Whether both are about the same registered model of the same tracking store."""
        return isinstance(other, ModelStore) and (self.uri, self.model_name) == (other.uri, other.model_name)

    def __hash__(self) -> int:
        """For caches of what was read from it."""
        return hash((self.uri, self.model_name))

    # Versions

    def champion(self) -> ModelVersion | None:
        """The version that the alias ``champion`` names, or None."""
        found = self._registered_model()
        named = str(found.aliases.get(registry.CHAMPION, "")) if found else ""
        return self.version(named) if named else None

    def require_champion(self) -> ModelVersion:
        """The champion.

        Raises
        ------
        RegistryError
            If there is none, or the alias names a version that has not passed the gate; see
            `serving.registry.require_champion`.
        """
        return ModelVersion.from_mlflow(registry.require_champion(), self.aliases())

    def usable_champion(self) -> ModelVersion | None:
        """The champion; None where there is none or the alias names a version that has not passed the gate."""
        found = self.champion()
        return found if found and found.passed_gate else None

    def version(self, number: str) -> ModelVersion | None:
        """A version by its number, or None where there is none."""
        return next((version for version in self.versions() if version.version == number), None)

    def version_of(self, run_id: str) -> ModelVersion | None:
        """The version that a training run registered, or None."""
        return next((version for version in self.versions() if version.run_id == run_id), None)

    def version_of_decision(self, run_id: str) -> ModelVersion | None:
        """The newest version that a retraining decision trained, or None."""
        return next((each for each in self.versions() if each.tags.get(tags.RETRAINING_RUN) == run_id), None)

    def versions(self) -> list[ModelVersion]:
        """All versions, newest first."""
        aliases = self.aliases()
        found = self._client.search_model_versions(f"name = '{self.model_name}'")
        versions = [ModelVersion.from_mlflow(version, aliases) for version in found]
        return sorted(versions, key=lambda version: -int(version.version))

    def aliases(self) -> dict[str, str]:
        """Number of the version that each alias names."""
        found = self._registered_model()
        return {name: str(number) for name, number in found.aliases.items()} if found else {}

    def created(self) -> str:
        """When the registered model was created, in milliseconds; empty where there is none.

        One that was deleted and created again has another history.
        """
        found = self._registered_model()
        return str(found.creation_timestamp) if found else ""

    def delete_model(self) -> None:
        """Delete the registered model with all its versions, where there is one."""
        if self._registered_model():
            self._client.delete_registered_model(self.model_name)

    def _registered_model(self) -> RegisteredModel | None:
        found = self._client.search_registered_models(filter_string=f"name = '{self.model_name}'")
        return found[0] if found else None

    # Runs

    def run(self, run_id: str) -> RunInfo:
        """A run by its id.

        Raises
        ------
        MlflowException
            If there is none.
        """
        return RunInfo.from_mlflow(self._client.get_run(run_id))

    def active_run(self, run_id: str) -> RunInfo | None:
        """A run by its id; None where there is none or it was deleted."""
        with contextlib.suppress(MlflowException):
            found = self._client.get_run(run_id)
            if found.info.lifecycle_stage == LifecycleStage.ACTIVE:
                return RunInfo.from_mlflow(found)
        return None

    def experiment_of(self, run_id: str) -> str:
        """Name of the experiment of a run."""
        return str(self._client.get_experiment(self._client.get_run(run_id).info.experiment_id).name)

    def find_runs(self, name: str, condition: str = FINISHED, limit: int = _MAX_RUNS) -> list[RunInfo]:
        """The runs of a name that meet a condition, newest first, whichever registered model they are about."""
        return list(islice(self._search(RunInfo, f"{_named(name)} and {condition}", limit), limit))

    def last_run(self, name: str, condition: str = FINISHED) -> RunInfo | None:
        """The newest run of a name that meets a condition, or None.

        Runs of other projects are ignored, those about other registered models are not.
        """
        return next(iter(self.find_runs(name, f"tags.{tags.DATA_SOURCE} LIKE '%' and {condition}", 1)), None)

    def runs_within(self, run_id: str, condition: str = FINISHED) -> list[RunInfo]:
        """The runs nested under a run that meet a condition, oldest first."""
        within = f"tags.`{tags.PARENT}` = '{run_id}' and {condition}"
        return list(islice(self._search(RunInfo, within, order=OLDEST_FIRST), _PAGE))

    def search_runs(self, condition: str, limit: int) -> list[RunInfo]:
        """The runs that meet a condition, newest first, at most ``limit``."""
        return list(islice(self._search(RunInfo, condition, limit), limit))

    def candidate_runs(self, training: str) -> list[RunInfo]:
        """The finished runs of the candidates of a training, oldest first."""
        return self.runs_within(training, f"tags.{tags.MODEL_ID} LIKE '%' and {FINISHED}")

    def last_batch_scoring_run(self) -> BatchScoringRun | None:
        """The last finished run that scored the prod table for the registered model, or None."""
        ours = f"{_named(run_names.BATCH_SCORING)} and tags.{tags.DATA_SOURCE} LIKE '%' and {FINISHED}"
        found = self._search(BatchScoringRun, ours)
        return next((run for run in found if self.is_about_model(run) and not run.given_table), None)

    def batch_scoring_run(self, run_id: str) -> BatchScoringRun:
        """A batch-scoring run by its id.

        Raises
        ------
        MlflowException
            If there is none.
        """
        return BatchScoringRun.from_mlflow(self._client.get_run(run_id))

    def monitoring_runs(self, source: str, limit: int = 200) -> list[MonitoringRun]:
        """Monitoring runs of the registered model that compare a data source with ``base_test``, newest first.

        Parameters
        ----------
        source : str
            `OF_BATCH_SCORING` or `OF_LOG`.
        limit : int
            Older ones are ignored.

        Returns
        -------
        list of MonitoringRun
            Also those that failed. One whose ``fail_on`` let it end with an exit code has a status all the same.
        """
        of = f"tags.{tags.SOURCE} = '{source}' and tags.{tags.REFERENCE} = '{TEST}'"
        found = self._search(MonitoringRun, f"{_named(run_names.MONITORING)} and {of}")
        return list(islice(filter(self.is_about_model, found), limit))

    def is_about_model(self, run: RunInfo) -> bool:
        """Whether a run is about the registered model."""
        return run.registered_model == self.model_name

    @registry.translate_store_errors()
    def decisions(self, *, backtest: str = "", limit: int = _MAX_RUNS) -> list[RetrainingDecision]:
        """The retraining decisions about the registered model, newest first.

        Parameters
        ----------
        backtest : str
            Run of a policy backtest, whose decisions are returned instead.
        limit : int
            Older ones are ignored.

        Raises
        ------
        TableError
            If the tags of one are damaged.
        """
        if backtest:
            about = [f"tags.{name} = '{backtest}'" for name in tags.former_names(tags.BACKTEST)]
        else:
            created = self.created()
            about = [
                f"tags.{tags.DECISION_MODEL} = '{self.model_name}' and tags.{tags.DECISION_MODEL_CREATED} = '{created}'"
            ]
        found = [
            _decision(run)
            for each in about
            for run in self.find_runs(run_names.RETRAINING, f"tags.{tags.NUMBER} LIKE '%' and {each}", limit)
        ]
        return sorted(found, key=lambda decision: -decision.number)

    def backtests(self, limit: int = 20) -> list[RunInfo]:
        """The finished policy backtests, newest first."""
        return self.find_runs(run_names.BACKTEST, FINISHED, limit)

    def set_tags(self, run_id: str, values: Mapping[str, str]) -> None:
        """Write tags of a run, all at once."""
        self._client.log_batch(run_id, tags=[RunTag(name, value) for name, value in values.items()])

    def _search(
        self, record: type[R], condition: str, page_size: int = _PAGE, order: str = NEWEST_FIRST
    ) -> Iterator[R]:
        """Runs of all experiments that meet a condition, requested by pages as far as they are taken."""
        experiments = [experiment.experiment_id for experiment in self._client.search_experiments()]
        token = None
        while True:
            page = self._client.search_runs(
                experiments, condition, max_results=min(page_size, _MAX_RUNS), order_by=[order], page_token=token
            )
            yield from map(record.from_mlflow, page)
            token = page.token
            if not token:
                return

    # Artifacts

    def artifact(self, run_id: str, path: str) -> Path:
        """An artifact of a run as a local file; one of 0.1.0 may have another path.

        Raises
        ------
        TableError
            If the run does not hold it any more.
        """
        try:
            return self._local(run_id, path)
        except TableError:
            former = tags.former_path(path)
            if former != path:
                with contextlib.suppress(TableError):
                    return self._local(run_id, former)
            raise

    def _local(self, run_id: str, path: str) -> Path:
        MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
        try:
            root = self._client.get_run(run_id).info.artifact_uri
            # `mlflow.artifacts` copies what a run holds to a new folder each time, also where it is a local file.
            repository = get_artifact_repository(root)
            if isinstance(repository, LocalArtifactRepository):
                local = Path(repository.download_artifacts(path))
            else:
                local = copies().get(run_id, path, repository.download_artifacts)
        except (MlflowException, OSError) as error:
            message = f"run {run_id} does not hold {path} ({type(error).__name__}: {error}). Run its step again."
            raise TableError(message) from error
        if not local.exists():
            message = f"run {run_id} does not hold {path} below {root}. Run its step again."
            raise TableError(message)
        return local

    @registry.translate_store_errors()
    def artifacts(self, run_id: str) -> list[str]:
        """Paths of the files of a run, sorted."""
        return sorted(self._files(run_id, None))

    @registry.translate_store_errors()
    def download(self, run_id: str, path: str) -> bytes:
        """The bytes of one file of a run."""
        MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
        with tempfile.TemporaryDirectory() as folder:
            return Path(self._client.download_artifacts(run_id, path, folder)).read_bytes()

    def _files(self, run_id: str, folder: str | None) -> Iterator[str]:
        for entry in self._client.list_artifacts(run_id, folder):
            if entry.is_dir:
                yield from self._files(run_id, entry.path)
            else:
                yield entry.path


@registry.translate_store_errors()
def current_store() -> ModelStore:
    """The store of the registered model that this process works on."""
    return ModelStore(MlflowClient(), registry.model())


def _named(name: str) -> str:
    return f"attributes.run_name = '{name}'"


def _decision(run: RunInfo) -> RetrainingDecision:
    try:
        return RetrainingDecision.from_run(run)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"]))
        message = (
            f"The tags of decision {run.tags.get(tags.NUMBER)} cannot be read ({where}: {problem['msg']}, found "
            f"{problem['input']!r}). Delete run {run.run_id}, named {run.name}."
        )
        raise TableError(message) from error
