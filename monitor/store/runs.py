"""What MLflow knows of the operation: the champion, and the last run of a name."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from mlflow import MlflowClient

from data.preparation.manifest import TEST
from monitor.store.listings import MODEL_TAG
from serving import registry

APPLICATION, PREPARATION, TRAINING = "PipelineAplicacao", "PreparacaoDados", "Treinamento"
MONITORING = "Monitoramento"
SOURCE, REFERENCE, APPLICATION_RUN = "source", "reference", "application_run"
"""Tags of a monitoring: what it looked at (`OF_APPLICATION`, `OF_LOG`, table), beside what, and who had scored it."""
OF_APPLICATION, OF_LOG = "application", "log"
GIVEN_TABLE = "table"
"""Tag of an application of a table that was given to it: its path. One of the prod table has no such tag."""
ANSWERS = "answers"
"""Tag of an application: name of the table that it wrote."""
RECORD, REPORT = "monitoring.json", "report.html"
"""Artifacts of a monitoring: its outcomes and figures, and the same for people."""

_PAGE = 200


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
    card : str
        Its model card in short, in Markdown.
    """

    version: str
    model_id: str
    since: datetime | None
    reason: str
    synthetic: bool
    test_metrics: dict[str, float]
    card: str


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
        card=found.description or "",
    )


@dataclass(frozen=True)
class RunInfo:
    """A run of this project; `started` is in UTC."""

    run_id: str
    started: datetime
    status: str
    metrics: dict[str, float]
    tags: dict[str, str]

    @property
    def synthetic(self) -> bool:
        """Whether its shots were simulated."""
        return self.tags.get("synthetic") == "true"

    @property
    def is_of_model(self) -> bool:
        """Whether it is about the registered model that is worked on; one that does not say is about the default."""
        return self.tags.get(MODEL_TAG, registry.MODEL) == registry.model()


def last_run(name: str, condition: str = "attributes.status = 'FINISHED'") -> RunInfo | None:
    """The newest run of a name that meets a condition, or None.

    All experiments are searched; runs of other projects do not count, those about other registered models do.
    """
    return next(_runs(f"{_ours(name)} and {condition}", 1), None)


def last_application() -> RunInfo | None:
    """The last run that scored the prod table for the registered model, not a table that was given to it, or None."""
    found = _runs(f"{_ours(APPLICATION)} and attributes.status = 'FINISHED'", _PAGE)
    return next((run for run in found if run.is_of_model and GIVEN_TABLE not in run.tags), None)


def monitoring_runs(source: str, most: int = 200) -> list[RunInfo]:
    """Monitorings of the registered model, of a source beside ``base_test``, newest first.

    Those that came to a verdict have it as a tag, whatever their status: `fail_on` lets them fail for a scheduler.

    Parameters
    ----------
    source : str
        `OF_APPLICATION` or `OF_LOG`.
    most : int
        Older ones are left out.
    """
    of = f"tags.{SOURCE} = '{source}' and tags.{REFERENCE} = '{TEST}'"
    found = _runs(f"attributes.run_name = '{MONITORING}' and {of}", _PAGE)
    return list(islice((run for run in found if run.is_of_model), most))


def find_runs(name: str, condition: str, most: int) -> list[RunInfo]:
    """The runs of a name that meet a condition, newest first, whichever registered model they are about."""
    return list(islice(_runs(f"attributes.run_name = '{name}' and {condition}", most), most))


def _ours(name: str) -> str:
    return f"attributes.run_name = '{name}' and tags.data_source LIKE '%'"


def _runs(condition: str, at_once: int) -> Iterator[RunInfo]:
    """Runs that meet a condition, newest first; `at_once` are asked for at a time, as far as they are taken."""
    client, token = MlflowClient(), None
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    while True:
        page = client.search_runs(
            experiments, condition, max_results=at_once, order_by=["attributes.start_time DESC"], page_token=token
        )
        for run in page:
            data, started = run.data, datetime.fromtimestamp(run.info.start_time / 1000, UTC)
            yield RunInfo(run.info.run_id, started, run.info.status, dict(data.metrics), dict(data.tags))
        token = page.token
        if not token:
            return
