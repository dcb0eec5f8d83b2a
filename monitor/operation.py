"""What MLflow knows of the operation: the champion, and the last run of a name."""

from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow import MlflowClient

from data.prepared import TEST
from serving import registry

APPLICATION, PREPARATION, TRAINING = "PipelineAplicacao", "PreparacaoDados", "Treinamento"
MONITORING = "Monitoramento"
SOURCE, REFERENCE, APPLICATION_RUN = "source", "reference", "application_run"
"""Tags of a monitoring: what it looked at (`OF_APPLICATION`, `OF_LOG`, table), beside what, and who had scored it."""
OF_APPLICATION, OF_LOG = "application", "log"
OF_GIVEN_TABLE = "table"
"""``data_source`` of an application of a table that was given to it."""
ANSWERS = "answers"
"""Tag of an application: name of the table that it wrote."""
RECORD, REPORT = "monitoring.json", "report.html"
"""Artifacts of a monitoring: its outcomes and figures, and the same for people."""


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
class KnownRun:
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


def last_run(name: str, condition: str = "attributes.status = 'FINISHED'") -> KnownRun | None:
    """The newest run of a name that meets a condition, or None.

    All experiments are searched; runs of other projects do not count.
    """
    found = _runs(f"attributes.run_name = '{name}' and tags.data_source LIKE '%' and {condition}", most=1)
    return found[0] if found else None


def last_application() -> KnownRun | None:
    """The last run that scored the prod table, not a table that was given to it, or None."""
    return last_run(APPLICATION, f"attributes.status = 'FINISHED' and tags.data_source != '{OF_GIVEN_TABLE}'")


def looks(source: str, most: int = 200) -> list[KnownRun]:
    """Monitorings of a source beside ``base_test``, newest first.

    Those that came to a verdict have it as a tag, whatever their status: `fail_on` lets them fail for a scheduler.

    Parameters
    ----------
    source : str
        `OF_APPLICATION` or `OF_LOG`.
    most : int
        Older ones are left out.
    """
    of = f"tags.{SOURCE} = '{source}' and tags.{REFERENCE} = '{TEST}'"
    return runs_named(MONITORING, of, most)


def runs_named(name: str, condition: str, most: int) -> list[KnownRun]:
    """The runs of a name that meet a condition, newest first."""
    return _runs(f"attributes.run_name = '{name}' and {condition}", most)


def _runs(condition: str, most: int) -> list[KnownRun]:
    client = MlflowClient()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(experiments, condition, order_by=["attributes.start_time DESC"], max_results=most)
    return [
        KnownRun(
            run.info.run_id, _moment(run.info.start_time), run.info.status, dict(run.data.metrics), dict(run.data.tags)
        )
        for run in found
    ]


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
