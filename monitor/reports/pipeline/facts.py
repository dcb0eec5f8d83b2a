"""What the report tells: plain values with where they come from, and what is missing with how to get it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from monitor.metrics import base_rate
from monitor.store import commands, run_names
from monitor.store import tags as store_tags
from monitor.store.records import RetrainingDecision

ACQUISITION, PREPARATION, TRAINING = "Aquisicao", run_names.PREPARATION, run_names.TRAINING
APPLICATION, MONITORING, REPORT, MAIN = run_names.BATCH_SCORING, run_names.MONITORING, "Relatorio", "main"
"""Names of the runs that are told of."""

_ENTRY_POINT = {
    ACQUISITION: "aquisicao",
    PREPARATION: "preparacao",
    TRAINING: "treinamento",
    APPLICATION: "aplicacao",
    MONITORING: "monitoramento",
    run_names.BACKTEST: "operacao",
    REPORT: "relatorio",
    MAIN: "main",
}
_SKILL_CODES = {
    base_rate.Result.BETTER: "skill_better",
    base_rate.Result.WORSE: "skill_worse",
    base_rate.Result.NOT_DISTINGUISHABLE: "skill_equal",
}


@dataclass(frozen=True)
class Missing:
    """What no run holds: what it is, which run or version should hold it, in words, and the command that makes it."""

    what: str
    holder: str
    command: str


Figure = float | Missing
Words = str | Missing


@dataclass(frozen=True)
class RunFacts:
    """A run as the report reads it; without `run_id` one that was not found.

    Attributes
    ----------
    step : str
        Name of the step, which says the command that makes such a run.
    run_id, name : str
    metrics : mapping of str to float
    params, tags : mapping of str to str
    inputs : mapping of str to str
        SHA-256 of each dataset that the run read or wrote, by its name.
    """

    step: str
    run_id: str = ""
    name: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether there is such a run."""
        return bool(self.run_id)

    @property
    def command(self) -> str:
        """What makes such a run."""
        return commands.command(_ENTRY_POINT[self.step])

    @property
    def absent(self) -> Missing:
        """The run itself, as something that is missing."""
        return Missing(f"a execução {self.step}", "", self.command)

    def lacks(self, what: str) -> Missing:
        """Something that this run should hold."""
        return Missing(what, f"da execução {self.name or self.step}", self.command)

    def metric(self, name: str) -> Figure:
        """A metric."""
        found = self.metrics.get(name)
        return self.lacks(f"métrica {name}") if found is None else found

    def param(self, name: str) -> Words:
        """A parameter."""
        found = self.params.get(name)
        return self.lacks(f"parâmetro {name}") if found is None else found

    def metrics_like(self, prefix: str) -> dict[str, float]:
        """The metrics whose names begin with a prefix, without it."""
        return {name.removeprefix(prefix): value for name, value in self.metrics.items() if name.startswith(prefix)}

    def tag(self, name: str) -> Words:
        """A tag."""
        return self.tags.get(name) or self.lacks(f"tag {name}")


@dataclass(frozen=True)
class VersionFacts:
    """A version of the registered model; without `number` none."""

    number: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether there is such a version."""
        return bool(self.number)

    def tag(self, name: str) -> Words:
        """A tag."""
        holder = f"da versão {self.number}" if self else "da versão registrada, que não foi encontrada"
        return self.tags.get(name) or Missing(f"tag {name}", holder, commands.command("treinamento"))

    @property
    def labels(self) -> float:
        """How many labels that had arrived it has learned from; not a number where that cannot be read."""
        found = self.tags.get(store_tags.TRAINING_LABELS, "0")
        return float(found) if found.isdecimal() else math.nan

    @property
    def learned_labels(self) -> bool:
        """Whether it comes from the loop: it learned from labels too, and later ones are its test rows."""
        return store_tags.TRAINING_LABELS in self.tags


@dataclass(frozen=True)
class Artefact:
    """A file, or a table in parts, that a run keeps.

    Attributes
    ----------
    run, path, composition : str
        Name of the run, path within it, and what it consists of, in words.
    size : int or None
        Bytes; None for a table that was too large for a copy and is not where it was written.
    sha256 : str
    columns : tuple of tuple of str
        Name and type of each column, of a table.
    """

    run: str
    path: str
    composition: str
    size: int | None
    sha256: str
    columns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class RollBack:
    """A champion that came back instead of another one, when and why."""

    when: datetime
    version: str
    instead_of: str
    why: str


@dataclass(frozen=True)
class PipelineFacts:
    """All that the report is written from; `again` trains the version again, without the parameters `unknown`."""

    written: datetime
    experiment: str
    model: str
    champion: VersionFacts
    trained: VersionFacts
    applied: VersionFacts
    main: RunFacts
    acquisition: RunFacts
    preparation: RunFacts
    training: RunFacts
    candidates: tuple[RunFacts, ...]
    application: RunFacts
    monitoring: RunFacts
    operation: RunFacts
    own: RunFacts
    artefacts: tuple[Artefact, ...]
    record: Mapping[str, Any] | None
    decisions: tuple[RetrainingDecision, ...]
    replay: Mapping[str, Any] | None
    roll_backs: tuple[RollBack, ...] = ()
    again: str = ""
    unknown: tuple[str, ...] = ()
    pictures: frozenset[str] = frozenset()

    @property
    def runs(self) -> tuple[RunFacts, ...]:
        """Every run, whether it was found or not, in the order of the pipeline."""
        return (
            *(self.main, self.acquisition, self.preparation, self.training, *self.candidates),
            *(self.application, self.monitoring, self.operation, self.own),
        )

    @property
    def synthetic(self) -> bool:
        """Whether any of the runs of the pipeline is about simulated shots."""
        return any(run.tags.get("synthetic") == "true" for run in self.runs if run.step != run_names.BACKTEST)

    @property
    def tuned(self) -> tuple[RunFacts, ...]:
        """The candidates without the class prior."""
        return tuple(run for run in self.candidates if run.tags.get("model_id") != "prior")

    @property
    def prior(self) -> RunFacts:
        """The class prior."""
        return next((run for run in self.candidates if run.tags.get("model_id") == "prior"), RunFacts(TRAINING))

    @property
    def chosen(self) -> RunFacts:
        """The candidate that the training chose."""
        chosen = self.training.tags.get("chosen_model") or self.trained.tags.get("model_id")
        return next((run for run in self.candidates if run.tags.get("model_id") == chosen), RunFacts(TRAINING))

    def table_of(self, run: RunFacts, name: str) -> Artefact | Missing:
        """A table that a run keeps, or that it left where it was written."""
        paths = {f"tables/{name}.parquet", f"{name}.parquet"}
        of_run = (each for each in self.artefacts if each.run == run.name and each.path in paths and each.columns)
        return next(of_run, run.lacks(f"tabela {name}"))


@dataclass(frozen=True)
class Reason:
    """Something that speaks for a model on other rows (`holds`), against it, or that nobody knows (None)."""

    holds: bool | None
    code: str
    figures: tuple[Figure, ...]

    @property
    def unknown(self) -> Figure:
        """What keeps it from being known: the first figure that is missing, else one that is not defined."""
        return next((figure for figure in self.figures if isinstance(figure, Missing)), math.nan)


@dataclass(frozen=True)
class ModelFit:
    """Whether a model fits other rows: ``yes``, ``no``, ``partly`` or ``unknown``, and why."""

    verdict: str
    reasons: tuple[Reason, ...]


def adherence(monitoring: RunFacts) -> ModelFit:
    """Whether the model fits what was scored, from the figures of a monitoring.

    It does not if it is worse than the base rate, or not better than a coin at telling made from missed. It does in
    part if rows lie outside what it has learned from, or if it cannot be distinguished from the base rate.

    Parameters
    ----------
    monitoring : RunFacts
        See `monitor.health.record.flatten_metrics`.
    """
    skill = [monitoring.metric(f"current_log_loss_skill{end}") for end in ("", "_low", "_high")]
    auc = [monitoring.metric(f"current_roc_auc{end}") for end in ("", "_low", "_high")]
    outside = [monitoring.metric(name) for name in ("out_of_support_rate", "out_of_support_threshold")]
    reasons = (_of_skill(skill), _of_auc(auc), _of_support(outside))
    codes = {reason.code for reason in reasons}
    if codes & {"skill_worse", "auc_chance", "auc_below"}:
        return ModelFit("no", reasons)
    if any(reason.holds is None for reason in reasons):
        return ModelFit("unknown", reasons)
    return ModelFit("yes" if all(reason.holds for reason in reasons) else "partly", reasons)


def _known(figures: list[Figure]) -> list[float] | None:
    found = [figure for figure in figures if not isinstance(figure, Missing) and not math.isnan(figure)]
    return found if len(found) == len(figures) else None


def _of_skill(figures: list[Figure]) -> Reason:
    if (known := _known(figures)) is None:
        return Reason(None, "skill_unknown", tuple(figures))
    _, low, high = known
    found = base_rate.classify(low, high)
    return Reason(found is base_rate.Result.BETTER, _SKILL_CODES[found], tuple(figures))


def _of_auc(figures: list[Figure]) -> Reason:
    if (known := _known(figures)) is None:
        return Reason(None, "auc_unknown", tuple(figures))
    _, low, high = known
    coin = 0.5
    code = "auc_above" if low > coin else "auc_below" if high < coin else "auc_chance"
    return Reason(low > coin, code, tuple(figures))


def _of_support(figures: list[Figure]) -> Reason:
    if (known := _known(figures)) is None:
        return Reason(None, "support_unknown", tuple(figures))
    outside, limit = known
    return Reason(outside <= limit, "support_inside" if outside <= limit else "support_outside", tuple(figures))
