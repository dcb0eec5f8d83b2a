"""Content of the report: values with their runs, and missing values with the commands that produce them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from data.datasets import processed_folder
from data.paths import ROOT
from data.preparation.manifest import PREDICTIONS
from monitor.metrics import base_rate
from monitor.retraining.backtest import FILE as BACKTEST_FILE
from monitor.store import commands, run_names
from monitor.store import tags as store_tags
from monitor.store.candidates import BASE_RATE
from monitor.store.records import RetrainingDecision, is_synthetic

_ENTRY_POINT = {
    run_names.ACQUISITION: "aquisicao",
    run_names.PREPARATION: "preparacao",
    run_names.TRAINING: "treinamento",
    run_names.BATCH_SCORING: "aplicacao",
    run_names.MONITORING: "monitoramento",
    run_names.RETRAINING: "retreino",
    run_names.BACKTEST: "operacao",
    run_names.REPORT: "relatorio",
    run_names.MAIN: "main",
}
_SKILL_CODES = {
    base_rate.Result.BETTER: "skill_better",
    base_rate.Result.WORSE: "skill_worse",
    base_rate.Result.NOT_DISTINGUISHABLE: "skill_equal",
}
_CHANCE_LEVEL = 0.5
"""ROC AUC of a model that does not discriminate."""


@dataclass(frozen=True)
class Missing:
    """A missing value: what it is, the run or version that should hold it, and the command that produces it."""

    what: str
    holder: str
    command: str


Number = float | Missing
Text = str | Missing


@dataclass(frozen=True)
class RunFacts:
    """A run of the pipeline; a run without `run_id` was not found.

    Attributes
    ----------
    step : str
        Name of the step, which determines the command that produces such a run.
    run_id, name : str
    metrics : mapping of str to float
    params, tags : mapping of str to str
    inputs : mapping of str to str
        SHA-256 of each dataset that the run read or wrote, by name.
    """

    step: str
    run_id: str = ""
    name: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether the run was found."""
        return bool(self.run_id)

    @property
    def command(self) -> str:
        """The command that produces such a run."""
        return commands.command(_ENTRY_POINT[self.step])

    @property
    def absent(self) -> Missing:
        """The run itself, as a missing value."""
        return Missing(f"a execução {self.step}", "", self.command)

    def missing(self, what: str) -> Missing:
        """A missing value that this run should hold."""
        return Missing(what, f"da execução {self.name or self.step}", self.command)

    def metric(self, name: str) -> Number:
        """A metric."""
        found = self.metrics.get(name)
        return self.missing(f"métrica {name}") if found is None else found

    def param(self, name: str) -> Text:
        """A parameter."""
        found = self.params.get(name)
        return self.missing(f"parâmetro {name}") if found is None else found

    def metrics_like(self, prefix: str) -> dict[str, float]:
        """The metrics whose names start with a prefix, by the rest of their names."""
        return {name.removeprefix(prefix): value for name, value in self.metrics.items() if name.startswith(prefix)}

    def tag(self, name: str) -> Text:
        """A tag."""
        return self.tags.get(name) or self.missing(f"tag {name}")


@dataclass(frozen=True)
class VersionFacts:
    """A version of the registered model; a version without `number` was not found."""

    number: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether the version was found."""
        return bool(self.number)

    def tag(self, name: str) -> Text:
        """A tag."""
        holder = f"da versão {self.number}" if self else "da versão registrada, que não foi encontrada"
        return self.tags.get(name) or Missing(f"tag {name}", holder, commands.command("treinamento"))

    @property
    def labels(self) -> float:
        """Number of delayed labels among its training rows; NaN if the tag is not a number."""
        found = self.tags.get(store_tags.TRAINING_LABELS, "0")
        return float(found) if found.isdecimal() else math.nan

    @property
    def trained_on_labels(self) -> bool:
        """Whether it comes from retraining: it was trained on delayed labels too, and tested on later ones."""
        return store_tags.TRAINING_LABELS in self.tags


@dataclass(frozen=True)
class ArtifactFacts:
    """A file, or a table in parts, that a run holds.

    Attributes
    ----------
    run, path, composition : str
        Name of the run, path within the run, and description of the content.
    size : int or None
        Bytes; None for a table that was too large for a copy and no longer exists.
    sha256 : str
    columns : tuple of tuple of str
        Name and type of each column of a table.
    purpose : str
        What the file is for.
    """

    run: str
    path: str
    composition: str
    size: int | None
    sha256: str
    columns: tuple[tuple[str, str], ...] = ()
    purpose: str = ""


@dataclass(frozen=True)
class Cover:
    """Who hands the report in, and the URL of the repository; what is not known is empty."""

    student: str = ""
    course: str = ""
    teacher: str = ""
    repository: str = ""


@dataclass(frozen=True)
class Exchange:
    """A request to the model and its response, as JSON; ``live`` if a server gave the response."""

    request: str
    response: str
    live: bool = False


@dataclass(frozen=True)
class Rollback:
    """A rollback: the restored version, the version that it replaced, the time and the reason."""

    when: datetime
    version: str
    instead_of: str
    why: str


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


@dataclass(frozen=True)
class PipelineFacts(Chain):
    """The whole content of the report; `reproduction` trains the version again, without the `unknown` parameters.

    `coefficients` are those of linear candidates by id, `sample` are rows of the table of predictions, `decision`
    is the record of the latest decision, and `retraining` the run that took it.
    """

    written: datetime
    experiment: str
    model: str
    own: RunFacts
    artifacts: tuple[ArtifactFacts, ...]
    record: Mapping[str, Any] | None
    decisions: tuple[RetrainingDecision, ...]
    backtest: Mapping[str, Any] | None
    rollbacks: tuple[Rollback, ...] = ()
    reproduction: str = ""
    unknown: tuple[str, ...] = ()
    plots: frozenset[str] = frozenset()
    cover: Cover = field(default_factory=Cover)
    exchange: Exchange | None = None
    coefficients: Mapping[str, tuple[tuple[str, float], ...]] = field(default_factory=dict)
    sample: tuple[Mapping[str, object], ...] = ()
    decision: Mapping[str, Any] | None = None
    retraining: RunFacts = field(default_factory=lambda: RunFacts(run_names.RETRAINING))

    @property
    def runs(self) -> tuple[RunFacts, ...]:
        """All runs in the order of the pipeline, including those that were not found."""
        return (
            *(self.main, self.acquisition, self.preparation, self.training, *self.candidates),
            *(self.application, self.monitoring, self.retraining, self.operation, self.own),
        )

    @property
    def synthetic(self) -> bool:
        """Whether a run of the pipeline used synthetic shots."""
        return any(is_synthetic(run.tags) for run in self.runs if run.step != run_names.BACKTEST)

    @property
    def tuned(self) -> tuple[RunFacts, ...]:
        """The candidates without the base-rate baseline."""
        return tuple(run for run in self.candidates if run.tags.get(store_tags.MODEL_ID) != BASE_RATE)

    @property
    def prior(self) -> RunFacts:
        """The base-rate baseline."""
        return next(
            (run for run in self.candidates if run.tags.get(store_tags.MODEL_ID) == BASE_RATE),
            RunFacts(run_names.TRAINING),
        )

    @property
    def selected(self) -> RunFacts:
        """The candidate that the training selected."""
        return selected_candidate(self.training, self.trained, self.candidates)

    @property
    def health(self) -> Text:
        """Status of the monitoring run."""
        return self.monitoring.tag(store_tags.HEALTH)

    @property
    def predictions_path(self) -> str:
        """Path of the predictions of the batch scoring, relative to the project."""
        folder = processed_folder().relative_to(ROOT).as_posix()
        return f"{folder}/{self.application.tags.get(store_tags.PREDICTIONS, PREDICTIONS.name)}"

    @property
    def rows_in_training(self) -> float:
        """Labeled prod rows that are training rows of the version that scored them."""
        return self.application.metrics.get("rows_in_training", 0.0)

    def promotions(self, scenario: str) -> Number:
        """Promotions of a scenario of the policy backtest."""
        found = ((self.backtest or {}).get("strategies") or {}).get(scenario)
        return float(found["promotions"]) if found else self.operation.missing(f"artefato {BACKTEST_FILE}")

    def find_table(self, run: RunFacts, name: str) -> ArtifactFacts | Missing:
        """Find a table of a run, among its artifacts or where the run wrote it."""
        paths = {f"tables/{name}.parquet", f"{name}.parquet"}
        of_run = (each for each in self.artifacts if each.run == run.name and each.path in paths and each.columns)
        return next(of_run, run.missing(f"tabela {name}"))


@dataclass(frozen=True)
class Reason:
    """Evidence for a model on other rows (`holds`), against it (not `holds`), or unknown evidence (None)."""

    holds: bool | None
    code: str
    numbers: tuple[Number, ...]

    @property
    def unknown(self) -> Number:
        """Why the evidence is unknown: the first missing number, else NaN."""
        return next((number for number in self.numbers if isinstance(number, Missing)), math.nan)


@dataclass(frozen=True)
class ModelFit:
    """Whether a model fits other rows: ``yes``, ``no``, ``partly`` or ``unknown``, with the reasons."""

    result: str
    reasons: tuple[Reason, ...]


def adherence(monitoring: RunFacts) -> ModelFit:
    """Determine whether the model fits the scored rows, from the metrics of a monitoring run.

    It does not fit if it is worse than the base-rate baseline, or if it does not discriminate better than chance. It
    fits partly if rows are out of support, or if it cannot be distinguished from the baseline.

    Parameters
    ----------
    monitoring : RunFacts
        See `monitor.health.record.flatten_metrics`.
    """
    skill = [monitoring.metric(f"current_log_loss_skill{end}") for end in ("", "_low", "_high")]
    auc = [monitoring.metric(f"current_roc_auc{end}") for end in ("", "_low", "_high")]
    out_of_support = [monitoring.metric(name) for name in ("out_of_support_rate", "out_of_support_threshold")]
    reasons = (_of_skill(skill), _of_auc(auc), _of_support(out_of_support))
    codes = {reason.code for reason in reasons}
    if codes & {"skill_worse", "auc_chance", "auc_below"}:
        return ModelFit("no", reasons)
    if any(reason.holds is None for reason in reasons):
        return ModelFit("unknown", reasons)
    return ModelFit("yes" if all(reason.holds for reason in reasons) else "partly", reasons)


def selected_candidate(training: RunFacts, trained: VersionFacts, candidates: tuple[RunFacts, ...]) -> RunFacts:
    """Find the candidate that a training selected; a run that was not found if there is none."""
    selected = training.tags.get(store_tags.SELECTED_MODEL) or trained.tags.get(store_tags.MODEL_ID)
    found = (run for run in candidates if run.tags.get(store_tags.MODEL_ID) == selected)
    return next(found, RunFacts(run_names.TRAINING))


def _known(numbers: list[Number]) -> list[float] | None:
    found = [number for number in numbers if not isinstance(number, Missing) and not math.isnan(number)]
    return found if len(found) == len(numbers) else None


def _of_skill(numbers: list[Number]) -> Reason:
    if (known := _known(numbers)) is None:
        return Reason(None, "skill_unknown", tuple(numbers))
    _, low, high = known
    found = base_rate.classify(low, high)
    return Reason(found is base_rate.Result.BETTER, _SKILL_CODES[found], tuple(numbers))


def _of_auc(numbers: list[Number]) -> Reason:
    if (known := _known(numbers)) is None:
        return Reason(None, "auc_unknown", tuple(numbers))
    _, low, high = known
    code = "auc_above" if low > _CHANCE_LEVEL else "auc_below" if high < _CHANCE_LEVEL else "auc_chance"
    return Reason(low > _CHANCE_LEVEL, code, tuple(numbers))


def _of_support(numbers: list[Number]) -> Reason:
    if (known := _known(numbers)) is None:
        return Reason(None, "support_unknown", tuple(numbers))
    rate, threshold = known
    return Reason(rate <= threshold, "support_inside" if rate <= threshold else "support_outside", tuple(numbers))
