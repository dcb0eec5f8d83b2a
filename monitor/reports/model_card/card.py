"""The model card of a version (Mitchell et al., 2019): what it is for, what it is worth, and where that ends.

The facts go in, Markdown comes out: whole for a file, and cut down to what MLflow takes as a version's description.
"""

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jinja2
import numpy as np

from data.schema import FEATURES, feature_column
from monitor.metrics.binary import CALIBRATION_BINS, METRICS, THRESHOLD
from monitor.metrics.intervals import Interval, Performance
from monitor.reports.model_card.evaluation import TestEvaluation
from serving import registry

FILE = "model_card.md"
"""Artifact of the run of a training: the whole card of its version."""
MOST_DESCRIPTION = 5_000
"""Characters that MLflow's store has room for (``SqlModelVersion.description``); SQLite alone takes more."""

_TEMPLATE = Path(__file__).with_suffix(".md.jinja")
# What a description says, the most important first; in the text they stand in the order of the template.
_IMPORTANCE = (
    *("title", "metrics", "use", "limits", "call", "reproduce", "choice", "data", "rollback", "features"),
    *("candidates", "calibration", "slices"),
)
_SHORT_METRICS = ("log_loss", "brier", "roc_auc", "f1_score")
TREES = ("dt", "rf", "et", "gbc", "ada", "lightgbm")
LINEAR = ("lr", "svm", "ridge", "lda")
NEIGHBOURS = "knn"


@dataclass(frozen=True)
class Data:
    """What a version learned from and was tested on.

    Attributes
    ----------
    source, address : str
        How the raw files came, and from where; the address is empty where that is not known.
    synthetic : bool
        Whether the shots are simulated.
    labels : int
        How many of the training rows are labels that arrived in operation; the others are dev rows.
    label_weight : float
        What each of them weighs, where a dev row weighs 1.
    labels_until : str
        Time of the newest of them.
    sha256 : dict of str to str
        Of the files behind the tables, by their names.
    commit : str
        Git's, or ``unknown``.
    dirty : bool
        Whether files differed from it.
    """

    source: str
    address: str
    synthetic: bool
    labels: int
    label_weight: float
    labels_until: str
    sha256: dict[str, str]
    commit: str
    dirty: bool


@dataclass(frozen=True)
class ModelCard:
    """All that a card says.

    Attributes
    ----------
    model, version, uri : str
        Name of the registered model, number of the version (empty before it has one), and what MLflow loads.
    name, model_id : str
        Of the chosen model, in words and PyCaret's id.
    run_id : str
        Of the training.
    data : Data
    measured : Measured
    choice, candidates : str
        Why this model was chosen, in words, and the table of those it was chosen from, as Markdown.
    example : dict of str to float
        The features of a shot.
    answer : float
        P(made) of it.
    command : str
        What trains it again; empty where that is not known.
    remarks : tuple of str
        What to know about the command.
    """

    model: str
    version: str
    uri: str
    name: str
    model_id: str
    run_id: str
    data: Data
    measured: TestEvaluation
    choice: str
    candidates: str
    example: dict[str, float]
    answer: float
    command: str
    remarks: tuple[str, ...]


def render(card: ModelCard) -> str:
    """The whole card, as Markdown."""
    return _joined(sections(card, short=False).values())


def description(card: ModelCard) -> str:
    """The card in at most ``MOST_DESCRIPTION`` characters, as Markdown.

    Sections that there is no room for are left out whole, the least important first, and named.
    """
    every = sections(card, short=True)
    kept: list[str] = []
    for name in _IMPORTANCE:
        if len(_shortened(card, every, [*kept, name])) <= MOST_DESCRIPTION:
            kept.append(name)
    return _shortened(card, every, kept)


def _shortened(card: ModelCard, every: Mapping[str, str], kept: list[str]) -> str:
    left_out = [name for name, text in every.items() if name not in kept and text]
    more = f" Left out here for want of room: {', '.join(left_out)}." if left_out else ""
    pointer = f"The whole card is `{FILE}`, an artifact of run `{card.run_id}`.{more}"
    return _joined([*(text for name, text in every.items() if name in kept), pointer])


def _joined(texts: Iterable[str]) -> str:
    return "\n\n".join(filter(None, texts)) + "\n"


def sections(card: ModelCard, *, short: bool) -> dict[str, str]:
    """The text of each section in the order of the template; empty where there is nothing to say."""
    template, measured = _template(), card.measured
    context = {
        "card": card,
        "data": card.data,
        "measured": measured,
        "short": short,
        "heading": "###" if short else "##",
        "body": shlex.quote(json.dumps({"dataframe_records": [card.example]})),
        "family": _family(card.model_id),
        "columns": {name: feature_column(name) for name in FEATURES},
        "metrics": {name: METRICS[name] for name in (_SHORT_METRICS if short else METRICS)},
        "bins": CALIBRATION_BINS,
        "threshold": THRESHOLD,
        "slices": list(zip(measured.slices.to_dict("records"), measured.prior_slices.to_dict("records"), strict=True)),
        # `mlflow run` works on kobe_shot unless the environment says otherwise.
        "environment": "" if card.model == registry.MODEL else f"{registry.MODEL_VARIABLE}={shlex.quote(card.model)} ",
    }
    return {
        name: re.sub(r"\n{3,}", "\n\n", "".join(block(template.new_context(context)))).strip()
        for name, block in template.blocks.items()
    }


def _family(model_id: str) -> str:
    if model_id in TREES:
        return "trees"
    if model_id in LINEAR:
        return "linear"
    return "neighbours" if model_id == NEIGHBOURS else "other"


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(  # noqa: S701 what comes out is Markdown; `_plain` and `_code` escape for it
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "plain": _plain,
        "code": _code,
        "fenced": _fenced,
        "quoted": shlex.quote,
        "json": json.dumps,
        "share": "{:.1%}".format,
        "interval": _interval,
        "row_interval": _row_interval,
    }
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))


def _plain(text: object) -> str:
    """A text on one line whose signs Markdown does not read, in a table neither."""
    escaped = re.sub(r"([\\`*_\[\]#|~$])", r"\\\1", " ".join(str(text).split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;")


def _code(text: object) -> str:
    """A text on one line as code, in a table too."""
    line = " ".join(str(text).split()).replace("|", r"\|")
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if "`" in line or not line else ""
    return f"{fence}{space}{line}{space}{fence}"


def _fenced(text: str, language: str) -> str:
    """Lines of code."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def _interval(found: Performance, metric: str) -> str:
    """A metric with its interval, or that it is not defined."""
    if metric not in found.metrics:
        return "not defined"
    return _told(found.interval(metric))


def _row_interval(row: Mapping[str, float], metric: str) -> str:
    """The same for a row of `monitor.metrics.intervals.metrics_by_slice`; log loss is always defined."""
    if np.isnan(row.get("log_loss", float("nan"))):
        return "not measured"
    value, low, high = (float(row.get(f"{metric}{end}", float("nan"))) for end in ("", "_low", "_high"))
    return _told(Interval(value, low, high))


def _told(found: Interval) -> str:
    if np.isnan(found.value):
        return "not defined"
    value, low, high = (f"{number:z.4f}" for number in (found.value, found.low, found.high))
    return value if np.isnan(found.low) else f"{value} ({low} to {high})"
