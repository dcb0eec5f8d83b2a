"""The facts of a version's model card, from what its training knows."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from data.schema import FEATURES
from monitor.reports.model_card.card import Data, ModelCard
from monitor.reports.model_card.evaluation import evaluate_on_test
from monitor.store.labels import LABELS_LEARNED, LEARNED_UNTIL
from serving import registry
from steps.training.reproduction import reproduction
from steps.training.training_set import TrainingData
from steps.training.tuning import Candidate

_SHA256 = "sha256_"


@dataclass(frozen=True)
class Logged:
    """A model that is logged and not registered yet: its address, its run, and the tags of the version to be."""

    uri: str
    run_id: str
    tags: Mapping[str, str]


def card_of(  # noqa: PLR0913 a choice, what it was made from, and where it is
    chosen: Candidate,
    prior: Candidate,
    justification: str,
    *,
    lesson: TrainingData,
    training: Mapping[str, object],
    logged: Logged,
) -> ModelCard:
    """The card of a version to be, without its number.

    Parameters
    ----------
    chosen, prior : Candidate
        The model, and the class prior.
    justification : str
        Why it was chosen: a paragraph and a table, as Markdown.
    lesson : Lesson
    training : mapping of str to object
        The parameters of the training.
    logged : Logged
    """
    found = reproduction(logged.run_id, logged.tags, training)
    choice, _, candidates = justification.strip().partition("\n\n")
    example = lesson.train.head(1)
    return ModelCard(
        model=registry.model(),
        version="",
        uri=logged.uri,
        name=chosen.name,
        model_id=chosen.id,
        run_id=logged.run_id,
        data=_data(lesson, found.address, logged.tags),
        measured=evaluate_on_test(lesson.train, lesson.test, _made(chosen, lesson.test), _made(prior, lesson.test)),
        choice=choice,
        candidates=candidates,
        example={name: float(example[name].iloc[0]) for name in FEATURES},
        answer=float(_made(chosen, example)[0]),
        command=found.command,
        remarks=found.remarks,
    )


def _data(lesson: TrainingData, address: str, tags: Mapping[str, str]) -> Data:
    weighs = 1.0
    if lesson.weights is not None and lesson.compared_on is not None:
        weighs = float(lesson.weights[lesson.compared_on].mean())
    return Data(
        source=tags.get("data_source", "unknown"),
        address=address,
        synthetic=lesson.is_synthetic,
        labels=int(tags.get(LABELS_LEARNED, "0")),
        label_weight=weighs,
        labels_until=tags.get(LEARNED_UNTIL, ""),
        sha256={name.removeprefix(_SHA256): tags[name] for name in sorted(tags) if name.startswith(_SHA256)},
        commit=tags.get("git_commit", "unknown"),
        dirty=tags.get("git_dirty") != "false",
    )


def _made(candidate: Candidate, table: pd.DataFrame) -> npt.NDArray[np.float64]:
    return np.asarray(candidate.pipeline.predict_proba(table[list(FEATURES)].to_numpy(dtype=np.float64))[:, 1])
