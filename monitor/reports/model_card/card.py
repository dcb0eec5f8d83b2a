"""The model card of a version (Mitchell et al., 2019): intended use, data, metrics, limitations.

It is rendered as Markdown: whole for a file, and shortened to the length that MLflow allows for the description of a
version.
"""

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import jinja2
import numpy as np
import yaml

from data.datasets import Column, Dataset, default, worded
from monitor.metrics.binary import CALIBRATION_BINS, METRICS, THRESHOLD
from monitor.metrics.intervals import Interval, Performance
from monitor.reports.model_card.evaluation import TestEvaluation
from serving import registry

FILE = "model_card.md"
"""Artifact of a training run: the whole card of its version."""
MAX_DESCRIPTION = 5_000
"""Maximum length of a description in MLflow's store (``SqlModelVersion.description``); only SQLite allows more."""

_TEMPLATE = Path(__file__).with_suffix(".md.jinja")
# Sections of a description, the most important first; the text keeps the order of the template.
_IMPORTANCE = (
    *("title", "metrics", "use", "limitations", "call", "reproduce", "selection", "data", "rollback", "features"),
    *("candidates", "calibration", "slices", "parameters", "overview", "ethics", "front"),
)
_COUNTS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine"}
_SPLITS = {
    "random": "in a random split stratified by class",
    "time": "the latest of them",
    "group": "in a random split that keeps all rows of one {group} on one side",
}
SHUFFLES = 5
"""Times that each feature is shuffled for its permutation importance."""
_SHORT_METRICS = ("log_loss", "brier", "roc_auc", "f1_score")
TREES = ("dt", "rf", "et", "gbc", "ada", "lightgbm", "hgbc")
LINEAR = ("lr", "svm", "ridge", "lda")
NEIGHBORS = "knn"
_HUGGING_FACE_METRICS = {"log_loss": "log_loss", "roc_auc": "roc_auc", "f1_score": "f1", "brier": "brier_score"}
_SOURCE_PATH = re.compile(r"'source=/[^']*'|source=/\S+")
_DATASET_PATH = re.compile(r"'dataset=/[^']*'|dataset=/\S+")


@dataclass(frozen=True)
class Data:
    """Data that a version was trained and tested on.

    Attributes
    ----------
    source, url : str
        Kind of the source of the raw files, and its URL or path, empty where it is not known.
    synthetic : bool
        Whether the shots are synthetic.
    labels : int
        Number of training rows that are delayed labels; the others are dev rows.
    label_weight : float
        Mean sample weight of these labels; that of a dev row is 1.
    labels_until : str
        Time of the most recent of these labels.
    sha256 : dict of str to str
        SHA-256 of the files of the tables, by name.
    commit : str
        Git commit, or ``unknown``.
    dirty : bool
        Whether files differed from the commit.
    """

    source: str
    url: str
    synthetic: bool
    labels: int
    label_weight: float
    labels_until: str
    sha256: dict[str, str]
    commit: str
    dirty: bool


@dataclass(frozen=True)
class ModelFacts:
    """What the model itself is; what is not known is empty, and is not in the card.

    Attributes
    ----------
    owner, written : str
        Who trained it, and the date.
    steps : tuple of str
        Names of the steps of the pipeline, in order.
    rules : str
        The rules of a tree, in the units of the features; empty for another model.
    environment : mapping of str to str
        Versions of Python and of the packages.
    size_bytes : int
        Size of the file of the pipeline.
    plots : mapping of str to str
        Paths of plots within the run, by their captions.
    compiled : str
        Which form of the pipeline scores a single row, and how it was verified or why there is only one.
    """

    owner: str = ""
    written: str = ""
    steps: tuple[str, ...] = ()
    rules: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    size_bytes: int = 0
    plots: Mapping[str, str] = field(default_factory=dict)
    compiled: str = ""


@dataclass(frozen=True)
class ModelCard:
    """Content of a model card.

    Attributes
    ----------
    model, version, uri : str
        Name of the registered model, number of the version (empty before it has one), and URI that MLflow loads.
    name, model_id : str
        Name of the selected model, and its PyCaret id.
    run_id : str
        Run of the training.
    data : Data
        Training and test data.
    measured : TestEvaluation
        Evaluation on the test rows.
    selection, candidates : str
        Why this model was selected, and the table of the candidate models, as Markdown.
    example : dict of str to float, str or None
        Features of a row.
    prediction : float
        P(made) of the example.
    command : str
        Command that trains the version again; empty where it is not known.
    remarks : tuple of str
        Remarks on the command.
    dataset : Dataset
        The description of the features, with their categories.
    hyperparameters : dict of str to object
        Of the selected model.
    importance : dict of str to tuple of float
        Mean and standard deviation of the permutation importance of each feature, the largest first.
    facts : ModelFacts
    """

    model: str
    version: str
    uri: str
    name: str
    model_id: str
    run_id: str
    data: Data
    measured: TestEvaluation
    selection: str
    candidates: str
    example: Mapping[str, float | str | None]
    prediction: float
    command: str
    remarks: tuple[str, ...]
    dataset: Dataset = field(default_factory=default)
    hyperparameters: Mapping[str, object] = field(default_factory=dict)
    importance: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    facts: ModelFacts = field(default_factory=ModelFacts)


def render(card: ModelCard) -> str:
    """Render the whole card as Markdown."""
    return _joined(sections(card, short=False).values())


def description(card: ModelCard) -> str:
    """Render the card as Markdown, in at most ``MAX_DESCRIPTION`` characters.

    Sections that do not fit are omitted whole, the least important first, and listed.
    """
    every = sections(card, short=True)
    kept: list[str] = []
    for name in _IMPORTANCE:
        if len(_shortened(card, every, [*kept, name])) <= MAX_DESCRIPTION:
            kept.append(name)
    return _shortened(card, every, kept)


def _shortened(card: ModelCard, every: Mapping[str, str], kept: list[str]) -> str:
    omitted = [name for name, text in every.items() if name not in kept and text]
    more = f" Sections omitted here because of the length limit: {', '.join(omitted)}." if omitted else ""
    pointer = f"The whole card is `{FILE}`, an artifact of run `{card.run_id}`.{more}"
    return _joined([*(text for name, text in every.items() if name in kept), pointer])


def _joined(texts: Iterable[str]) -> str:
    return "\n\n".join(filter(None, texts)) + "\n"


def sections(card: ModelCard, *, short: bool) -> dict[str, str]:
    """Render each section, in the order of the template; a section without content is empty."""
    template, measured = _template(), card.measured
    context = {
        "card": card,
        "data": card.data,
        "measured": measured,
        "short": short,
        "heading": "###" if short else "##",
        "body": shlex.quote(json.dumps({"dataframe_records": [card.example]})),
        "family": _family(card.model_id),
        "columns": {column.name: column for column in card.dataset.features},
        "count": _COUNTS.get(len(card.dataset.features), len(card.dataset.features)),
        "kinds": "numbers" if len(card.dataset.numeric) == len(card.dataset.features) else "mixed",
        "split": _SPLITS[card.dataset.test.strategy].format(group=card.dataset.group and card.dataset.group.name),
        "dataset": card.dataset,
        "is_shots": card.dataset.court is not None,
        "shuffles": SHUFFLES,
        "facts": card.facts,
        "front": _front_matter(card),
        "command": _portable(card.command),
        "is_portable": "source=FOLDER" not in _portable(card.command),
        "has_description": "dataset=DESCRIPTION" in _portable(card.command),
        "metrics": {name: METRICS[name] for name in (_SHORT_METRICS if short else METRICS)},
        "bins": CALIBRATION_BINS,
        "threshold": THRESHOLD,
        "slices": list(zip(measured.slices.to_dict("records"), measured.prior_slices.to_dict("records"), strict=True)),
        # `mlflow run` uses kobe_shot unless the environment names another model.
        "environment": "" if card.model == registry.MODEL else f"{registry.MODEL_VARIABLE}={shlex.quote(card.model)} ",
    }
    return {
        name: re.sub(r"\n{3,}", "\n\n", "".join(block(template.new_context(context)))).strip()
        for name, block in template.blocks.items()
    }


def _front_matter(card: ModelCard) -> str:
    """Metadata as Hugging Face reads it."""
    found = card.measured.model.metrics
    results = [
        {"type": kind, "value": round(found[name], 4)}
        for name, kind in _HUGGING_FACE_METRICS.items()
        if name in found and card.measured.model.counts.get(name, 1)
    ]
    metadata = {
        "license": "apache-2.0",
        "library_name": "sklearn",
        "pipeline_tag": "tabular-classification",
        "tags": [
            "tabular-classification",
            "sklearn",
            "skops",
            "mlflow",
            *(["basketball"] if card.dataset.court is not None else []),
        ],
        "metrics": list(_HUGGING_FACE_METRICS.values()),
        "model-index": [
            {
                "name": re.sub(r"[^\w.-]", "_", card.model),
                "results": [
                    {
                        "task": {"type": "tabular-classification"},
                        "dataset": {"type": "tabular", "name": "test rows"},
                        "metrics": results,
                    }
                ],
            }
        ],
    }
    return f"---\n{yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)}---"


def _portable(command: str) -> str:
    """A command without a path of the machine that trained the model."""
    return _DATASET_PATH.sub("dataset=DESCRIPTION", _SOURCE_PATH.sub("source=FOLDER", command))


def _family(model_id: str) -> str:
    if model_id in TREES:
        return "trees"
    if model_id in LINEAR:
        return "linear"
    return "neighbors" if model_id == NEIGHBORS else "other"


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(  # noqa: S701 what comes out is Markdown; `_plain` and `_code` escape for it
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "plain": _plain,
        "code": _code,
        "allowed": _allowed,
        "trained": _trained,
        "fenced": _fenced,
        "quoted": shlex.quote,
        "words": worded,
        "json": json.dumps,
        "share": "{:.1%}".format,
        "interval": _interval,
        "row_interval": _row_interval,
    }
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))


def _plain(text: object) -> str:
    """Escape a text for one line of Markdown, also within a table."""
    escaped = re.sub(r"([\\`*_\[\]#|~$])", r"\\\1", " ".join(str(text).split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;")


def _code(text: object) -> str:
    """Format a text as inline code, also within a table."""
    line = " ".join(str(text).split()).replace("|", r"\|")
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if "`" in line or not line else ""
    return f"{fence}{space}{line}{space}{fence}"


def _allowed(column: Column, short: bool) -> str:  # noqa: FBT001 a filter of a template
    low, high = column.limits
    if short and low is not None and high is not None:
        return f"{low:.8g} to {high:.8g}"
    return column.constraint_text + (", or null" if column.nullable else "")


def _trained(column: Column, measured: TestEvaluation) -> str:
    """What the training rows hold of a feature."""
    if column.name in measured.feature_ranges:
        low, high = measured.feature_ranges[column.name]
        return f"{low:.8g} to {high:.8g}"
    return f"{len(column.categories):,} categories" if column.categories else ""


def _fenced(text: str, language: str) -> str:
    """Format lines of code as a fence."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def _interval(found: Performance, metric: str) -> str:
    """Format a metric with its interval; a metric without a value is not defined."""
    if metric not in found.metrics or not found.counts.get(metric, 1):
        return "undefined"
    return _formatted(found.interval(metric))


def _row_interval(row: Mapping[str, float], metric: str) -> str:
    """Format a metric of a row of `monitor.metrics.intervals.metrics_by_slice`; log loss is always defined."""
    if np.isnan(row.get("log_loss", float("nan"))):
        return "not measured"
    value, low, high = (float(row.get(f"{metric}{end}", float("nan"))) for end in ("", "_low", "_high"))
    return _formatted(Interval(value, low, high))


def _formatted(found: Interval) -> str:
    if np.isnan(found.value):
        return "undefined"
    value, low, high = (f"{number:z.4f}" for number in (found.value, found.low, found.high))
    return value if np.isnan(found.low) else f"{value} ({low} to {high})"
