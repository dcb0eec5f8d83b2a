"""What MLflow knows of the operation: the champion, and the last run of a name."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import mlflow
from mlflow import MlflowClient

from serving import registry

APPLICATION, PREPARATION = "PipelineAplicacao", "PreparacaoDados"


@dataclass(frozen=True)
class Champion:
    """The version that is served, as the registry describes it.

    Attributes
    ----------
    version : str
        Number of the version.
    model_id : str
        PyCaret's id of the model.
    since : datetime or None
        When it was last promoted, in UTC.
    reason : str
        What the gate said.
    synthetic : bool
        Whether it learned from simulated shots.
    test_metrics : dict of str to float
        On base_test.
    justification : str
        Why this model was chosen, in Markdown.
    """

    version: str
    model_id: str
    since: datetime | None
    reason: str
    synthetic: bool
    test_metrics: dict[str, float]
    justification: str


def champion() -> Champion | None:
    """The champion, or None where no version has passed the gate."""
    found = registry.champion()
    if found is None:
        return None
    tags = found.tags
    promotions = registry.promotions(found)
    return Champion(
        version=registry.number(found),
        model_id=tags.get("model_id", ""),
        since=datetime.fromisoformat(str(promotions[-1]["when"])) if promotions else None,
        reason=tags.get("gate_reason", ""),
        synthetic=tags.get("synthetic") == "true",
        test_metrics={
            name.removeprefix("test_"): float(value) for name, value in tags.items() if name.startswith("test_")
        },
        justification=found.description or "",
    )


@dataclass(frozen=True)
class FinishedRun:
    """A finished run of this project."""

    run_id: str
    metrics: dict[str, float]
    tags: dict[str, str]

    @property
    def synthetic(self) -> bool:
        """Whether its shots were simulated."""
        return self.tags.get("synthetic") == "true"


def last_run(name: str) -> FinishedRun | None:
    """The newest finished run of a name, in any experiment, or None; runs of other projects do not count."""
    client = MlflowClient()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(
        experiments,
        f"attributes.run_name = '{name}' and attributes.status = 'FINISHED' and tags.data_source LIKE '%'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return FinishedRun(found[0].info.run_id, found[0].data.metrics, found[0].data.tags) if found else None


def picture(run: FinishedRun, name: str) -> Path | None:
    """A picture of a run as a local file, or None where the run has none."""
    path = f"pictures/{name}.png"
    if not any(artifact.path == path for artifact in MlflowClient().list_artifacts(run.run_id, "pictures")):
        return None
    return Path(mlflow.artifacts.download_artifacts(run_id=run.run_id, artifact_path=path))
