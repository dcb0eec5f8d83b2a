"""An in-memory stand-in for MLflow's client, for unit tests of what `monitor.store.ModelStore` reads."""

from collections.abc import Mapping
from itertools import count
from typing import Any, cast

from mlflow import MlflowClient, MlflowException
from mlflow.entities import Experiment, Param, Run, RunData, RunInfo, RunInputs, RunTag
from mlflow.entities.model_registry import ModelVersion, ModelVersionTag, RegisteredModel, RegisteredModelAlias
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from mlflow.store.entities import PagedList
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME
from mlflow.utils.search_utils import SearchModelVersionUtils, SearchUtils

from monitor.store.model_store import ModelStore
from serving import registry

_EXPERIMENT = Experiment("0", "tests", "", "active")


class FakeClient:
    """Runs and versions in memory, searched with MLflow's own filters."""

    def __init__(self) -> None:
        self.tracking_uri = f"memory:{id(self)}"
        self._runs: dict[str, Run] = {}
        self._versions: list[ModelVersion] = []
        self._aliases: dict[str, str] = {}
        self._clock = count(1_700_000_000_000, 1_000)

    # What a test sets up

    def add_run(
        self,
        name: str,
        tags: Mapping[str, str] | None = None,
        *,
        params: Mapping[str, str] | None = None,
        parent: str = "",
        status: str = "FINISHED",
    ) -> str:
        """Add a run that started after all others; its id."""
        run_id, started = f"{len(self._runs):032x}", next(self._clock)
        held = {MLFLOW_RUN_NAME: name, **(tags or {}), **({MLFLOW_PARENT_RUN_ID: parent} if parent else {})}
        info = RunInfo(
            run_id=run_id,
            experiment_id=_EXPERIMENT.experiment_id,
            user_id="",
            status=status,
            start_time=started,
            end_time=started + 500,
            lifecycle_stage="active",
            run_name=name,
        )
        data = RunData(
            [],
            [Param(key, value) for key, value in (params or {}).items()],
            [RunTag(key, value) for key, value in held.items()],
        )
        self._runs[run_id] = Run(info, data, RunInputs([]))
        return run_id

    def add_version(self, tags: Mapping[str, str] | None = None, *, alias: str = "", run_id: str = "") -> str:
        """Add a version of the registered model; its number."""
        number = str(len(self._versions) + 1)
        held = [ModelVersionTag(key, value) for key, value in (tags or {}).items()]
        self._versions.append(ModelVersion(registry.MODEL, number, next(self._clock), run_id=run_id, tags=held))
        if alias:
            self._aliases[alias] = number
        return number

    # What the store calls

    def search_experiments(self) -> list[Experiment]:
        """The one experiment."""
        return [_EXPERIMENT]

    def search_runs(
        self,
        experiment_ids: list[str],
        filter_string: str = "",
        *,
        max_results: int = 1_000,
        order_by: list[str] | None = None,
        page_token: str | None = None,
    ) -> PagedList[Run]:
        """Runs that meet a filter, by pages."""
        assert experiment_ids == [_EXPERIMENT.experiment_id]
        found = SearchUtils.sort(SearchUtils.filter(list(self._runs.values()), filter_string), order_by)
        page, token = SearchUtils.paginate(found, page_token, max_results)
        return PagedList(page, token)

    def get_run(self, run_id: str) -> Run:
        """A run by its id."""
        if run_id not in self._runs:
            message = f"Run '{run_id}' not found"
            raise MlflowException(message, RESOURCE_DOES_NOT_EXIST)
        return self._runs[run_id]

    def log_batch(self, run_id: str, *, tags: list[RunTag]) -> None:
        """Write tags of a run."""
        self._runs[run_id].data.tags.update({tag.key: tag.value for tag in tags})

    def search_registered_models(self, *, filter_string: str) -> list[RegisteredModel]:
        """The registered model, where it has a version and is the one that the filter names."""
        if not self._versions or filter_string != f"name = '{registry.MODEL}'":
            return []
        aliases = [RegisteredModelAlias(alias, number) for alias, number in self._aliases.items()]
        return [RegisteredModel(registry.MODEL, 1_700_000_000_000, aliases=aliases)]

    def search_model_versions(self, filter_string: str) -> list[ModelVersion]:
        """Versions that meet a filter."""
        return list(SearchModelVersionUtils.filter(self._versions, filter_string))


def fake_store(client: FakeClient, model_name: str = registry.MODEL) -> ModelStore:
    """A store of what a fake client holds."""
    return ModelStore(cast("MlflowClient", cast("Any", client)), model_name)
