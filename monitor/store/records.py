"""What MLflow holds about a registered model, as typed records: versions, runs and decisions."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Self

from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion as RegisteredVersion
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from data.masking import masked
from monitor.store import tags
from serving import registry

MAX_TAG_LENGTH = 5_000
"""MLflow keeps no more characters of a tag."""

NO_ACTION, RETRAIN = "no action", "retrain"
"""Values of ``decision``."""
PENDING, AWAITING, PROMOTED, REJECTED, INTERRUPTED, FAILED, NOTHING_TO_DO = (
    "pending",
    registry.AWAITING,
    "promoted",
    "rejected",
    "interrupted",
    "failed",
    "nothing to do",
)
"""Values of ``outcome``."""

MONITORING_RECORD, MONITORING_REPORT = "monitoring.json", "report.html"
"""Artifacts of a monitoring run: its results, and the same for people."""

_Masked = Annotated[str, BeforeValidator(masked)]
_Lines = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda held: tuple(filter(None, masked(held).splitlines())) if isinstance(held, str) else held),
    PlainSerializer(lambda lines: "\n".join(lines)[:MAX_TAG_LENGTH]),
]
_Time = Annotated[datetime, PlainSerializer(lambda time: time.isoformat(timespec="seconds"))]
_OptionalTime = Annotated[
    datetime | None,
    BeforeValidator(lambda held: held or None),
    PlainSerializer(lambda time: time.isoformat() if time else ""),
]
_Shortened = Annotated[_Masked, PlainSerializer(lambda text: text[:MAX_TAG_LENGTH])]


def _tag(name: str) -> Any:  # noqa: ANN401 as pydantic's own Field
    return Field(validation_alias=name, serialization_alias=name)


class Record(BaseModel):
    """Something that MLflow holds; it does not change once it is read."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class RunInfo(Record):
    """A run of this project.

    Attributes
    ----------
    run_id, name, status : str
        ``status`` is MLflow's, such as ``FINISHED``.
    started : datetime
        In UTC.
    ended : datetime or None
    parent : str
        Run that it is nested under; empty for none.
    metrics : dict of str to float
    params, tags : dict of str to str
        By the names of today; see `monitor.store.tags`.
    inputs : dict of str to str
        SHA-256 of each dataset that it read or wrote, by name.
    """

    run_id: str
    name: str = ""
    status: str = "FINISHED"
    started: datetime
    ended: datetime | None = None
    parent: str = ""
    metrics: dict[str, float] = {}
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    inputs: dict[str, str] = {}

    @classmethod
    def from_mlflow(cls, run: Run) -> Self:
        """Read a run.

        Raises
        ------
        ValidationError
            If a tag cannot be read.
        """
        info, held = run.info, tags.current_tags(run.data.tags)
        datasets = run.inputs.dataset_inputs if run.inputs else ()
        own = {
            "run_id": info.run_id,
            "name": str(info.run_name),
            "status": info.status,
            "started": _from_milliseconds(info.start_time),
            "ended": _from_milliseconds(info.end_time) if info.end_time else None,
            "parent": held.get(tags.PARENT, ""),
            "metrics": tags.current_metrics(run.data.metrics),
            "params": tags.current_params(run.data.params),
            "tags": held,
            "inputs": {each.dataset.name: tag.value for each in datasets for tag in each.tags if tag.key == "sha256"},
        }
        return cls.model_validate({**held, **own})

    @property
    def synthetic(self) -> bool:
        """Whether its shots are synthetic."""
        return is_synthetic(self.tags)

    @property
    def data_source(self) -> str:
        """Where its shots come from; empty where it failed before that was known."""
        return self.tags.get(tags.DATA_SOURCE, "")

    @property
    def model_version(self) -> str:
        """The version that it trained, scored with or evaluated; empty where it does not hold one."""
        return self.tags.get(tags.MODEL_VERSION) or self.tags.get(tags.TRAINED_VERSION, "")

    @property
    def model_id(self) -> str:
        """PyCaret's id of the model that it trained; empty for none."""
        return self.tags.get(tags.MODEL_ID, "")

    @property
    def registered_model(self) -> str:
        """The registered model that it is about; a run without the tag is about the default."""
        return self.tags.get(tags.REGISTERED_MODEL, registry.MODEL)


class BatchScoringRun(RunInfo):
    """A run of ``aplicacao``.

    Attributes
    ----------
    given_table : str
        Path of the table that it was given; empty for the prod table.
    predictions : str
        Name of the file that it wrote; empty in a run of 0.1.0, whose file has the name of today.
    """

    given_table: Annotated[str, _tag(tags.GIVEN_TABLE)] = ""
    predictions: Annotated[str, _tag(tags.PREDICTIONS)] = ""


class MonitoringRun(RunInfo):
    """A run of ``monitoramento``.

    Attributes
    ----------
    source : str
        ``application``, ``log`` or ``table``.
    reference, current : str
        Names of the reference data and of the current data.
    batch_scoring_run : str
        Run that scored the current data; empty where none did.
    health : str
        The status; empty where the run failed before there was one.
    reasons : tuple of str
    """

    source: Annotated[str, _tag(tags.SOURCE)] = ""
    reference: Annotated[str, _tag(tags.REFERENCE)] = ""
    current: Annotated[str, _tag(tags.CURRENT)] = ""
    batch_scoring_run: Annotated[str, _tag(tags.BATCH_SCORING_RUN)] = ""
    health: Annotated[str, _tag(tags.HEALTH)] = ""
    reasons: Annotated[_Lines, _tag(tags.REASONS)] = ()


class RetrainingDecision(Record):
    """A decision of ``retreino``.

    Attributes
    ----------
    number : int
        From 1, without gap or duplicate for a registered model.
    decided_at : datetime
        In UTC; in a policy backtest the day that the backtest is at.
    decision : str
        ``retrain`` or ``no action``.
    trigger : str
        ``reactive``, ``predictive``, ``forced`` or empty.
    mode : str
        ``auto``, ``dry_run`` or ``force``.
    reasons : tuple of str
        The most important first.
    outcome, outcome_reason : str
        ``pending``, ``awaiting approval``, ``promoted``, ``rejected``, ``interrupted``, ``failed`` or
        ``no action``, and why.
    champion, challenger : str
        Versions: the champion at that time, and the one that was trained (empty for none).
    labels, new_labels : int
        Labeled rows that had arrived, and those of them that no version had been trained on.
    labels_until : datetime or None
        Time of the newest of them.
    run_id, model, model_created : str
        The run, and the registered model that it is about, with the time of its creation.
    source : str
        Where the labels were: application, log or a file. Times of different sources do not compare.
    """

    number: Annotated[int, _tag(tags.NUMBER)]
    decided_at: Annotated[_Time, _tag(tags.DECIDED_AT)]
    decision: Annotated[str, _tag(tags.DECISION)]
    trigger: Annotated[str, _tag(tags.TRIGGER)] = ""
    mode: Annotated[str, _tag(tags.MODE)] = "auto"
    reasons: Annotated[_Lines, _tag(tags.REASONS)] = ()
    outcome: Annotated[str, _tag(tags.OUTCOME)] = PENDING
    outcome_reason: Annotated[_Shortened, _tag(tags.OUTCOME_REASON)] = ""
    champion: Annotated[str, _tag(tags.CHAMPION)] = ""
    challenger: Annotated[str, _tag(tags.MODEL_VERSION)] = ""
    labels: Annotated[int, _tag(tags.LABELS)] = 0
    new_labels: Annotated[int, _tag(tags.NEW_LABELS)] = 0
    labels_until: Annotated[_OptionalTime, _tag(tags.LABELS_UNTIL)] = None
    run_id: str = ""
    model: Annotated[str, _tag(tags.DECISION_MODEL)]
    model_created: Annotated[str, _tag(tags.DECISION_MODEL_CREATED)] = ""
    source: Annotated[str, _tag(tags.SOURCE)] = ""

    @classmethod
    def from_run(cls, run: RunInfo) -> Self:
        """The decision that a run of ``retreino`` holds.

        Raises
        ------
        ValidationError
            If its tags are damaged.
        """
        return cls.model_validate({**run.tags, "run_id": run.run_id})

    @property
    def trained(self) -> bool:
        """Whether a challenger was trained and judged by the gate."""
        return self.outcome in {AWAITING, PROMOTED, REJECTED}

    def to_tags(self) -> dict[str, str]:
        """The tags that its run holds."""
        held = self.model_dump(by_alias=True, exclude={"run_id"} | (set() if self.challenger else {"challenger"}))
        return {name: str(value) for name, value in held.items()}


class Promotion(Record):
    """A promotion or rollback of a version: when, by whom, where and why, and which champion it replaced."""

    when: datetime
    kind: str = registry.PROMOTION
    instead_of: str | None = None
    who: str = ""
    where: str = ""
    why: _Masked = ""


class ModelVersion(Record):
    """A version of the registered model.

    Attributes
    ----------
    version : str
        Its number.
    model_id : str
        PyCaret's id of the model.
    run_id : str
        Run of its training.
    stage : str
    aliases : tuple of str
        Sorted.
    created : datetime or None
        In UTC.
    promotions : tuple of Promotion
        Oldest first.
    gate, gate_reason : str
        Result of the promotion gate, and why; where the version was revoked, why it was.
    description : str
        Its model card in short, in Markdown.
    tags : dict of str to str
        By the names of today; see `monitor.store.tags`.
    """

    version: str
    model_id: Annotated[str, _tag(tags.MODEL_ID)] = ""
    run_id: str = ""
    stage: str = "None"
    aliases: tuple[str, ...] = ()
    created: datetime | None = None
    promotions: tuple[Promotion, ...] = ()
    gate: Annotated[str, _tag(tags.GATE)] = ""
    gate_reason: Annotated[_Masked, _tag(tags.GATE_REASON)] = ""
    data_source: Annotated[_Masked, _tag(tags.DATA_SOURCE)] = ""
    synthetic: bool = False
    description: str = ""
    tags: dict[str, str] = {}

    @classmethod
    def from_mlflow(cls, found: RegisteredVersion, aliases: Mapping[str, str] | None = None) -> Self:
        """Read a version.

        Parameters
        ----------
        found : mlflow.entities.model_registry.ModelVersion
        aliases : mapping of str to str, optional
            Number of the version that each alias names.
        """
        number, held = registry.number(found), tags.current_tags(found.tags)
        own = {
            "version": number,
            "run_id": found.run_id or "",
            "stage": found.current_stage or "None",
            "aliases": tuple(sorted(name for name, named in (aliases or {}).items() if str(named) == number)),
            "created": _from_milliseconds(found.creation_timestamp),
            "promotions": registry.promotions(found),
            "synthetic": is_synthetic(held),
            "description": found.description or "",
            "tags": held,
        }
        revoked = {tags.GATE_REASON: held[tags.REVOKED]} if tags.REVOKED in held else {}
        return cls.model_validate({**held, **revoked, **own})

    @property
    def passed_gate(self) -> bool:
        """Whether it has passed the gate and was not revoked since."""
        return self.gate == registry.PASSED

    @property
    def awaits_approval(self) -> bool:
        """Whether it waits for the approval of a person."""
        return self.gate == registry.AWAITING

    @property
    def promoted_at(self) -> datetime | None:
        """When it was promoted last, in UTC."""
        return self.promotions[-1].when if self.promotions else None

    @property
    def test_metrics(self) -> dict[str, float]:
        """Metrics on its test rows."""
        return tags.test_metrics(self.tags)

    @property
    def training_labels(self) -> int:
        """How many delayed labels it was trained on, which are the last of its training rows."""
        held = self.tags.get(tags.TRAINING_LABELS, "")
        return int(held) if tags.LABELS_UNTIL in self.tags and held.isdecimal() else 0

    @property
    def labels_until(self) -> datetime | None:
        """Time of the newest delayed label that it was trained on; None where it was trained on prepared rows only."""
        try:
            return datetime.fromisoformat(self.tags[tags.LABELS_UNTIL])
        except (KeyError, ValueError):
            return None

    @property
    def development_sha256(self) -> str:
        """SHA-256 of the dev rows that it was trained on."""
        return tags.development_sha256(self.tags)

    def sha256(self, name: str) -> str:
        """SHA-256 of a table that it was trained or tested on; empty where it is not known."""
        return self.tags.get(tags.sha256_of(name), "")


def is_synthetic(held: Mapping[str, str]) -> bool:
    """Whether the tags of a run or version mark its shots as synthetic."""
    return held.get(tags.SYNTHETIC) == "true"


def _from_milliseconds(time: int) -> datetime:
    return datetime.fromtimestamp(time / 1_000, UTC)
