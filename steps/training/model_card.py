"""The content of a version's model card, from its training."""

from collections.abc import Mapping
from dataclasses import dataclass

from data.datasets import default
from data.schema import FEATURES
from monitor.reports.model_card.card import Data, ModelCard
from monitor.reports.model_card.evaluation import evaluate_on_test
from monitor.store import tags as store_tags
from serving import registry
from serving.model.packaging import predict_probability
from steps.training.reproduction import reproduction
from steps.training.training_set import TrainingData
from steps.training.tuning import Candidate

_SHA256 = "sha256_"


@dataclass(frozen=True)
class Logged:
    """A model that is logged and not registered yet: its URI, its run, and the tags of the future version."""

    uri: str
    run_id: str
    tags: Mapping[str, str]


def card_of(  # noqa: PLR0913 a choice, what it was made from, and where it is
    selected: Candidate,
    prior: Candidate,
    justification: str,
    *,
    training_data: TrainingData,
    training: Mapping[str, object],
    logged: Logged,
) -> ModelCard:
    """The card of a future version, without its number.

    Parameters
    ----------
    selected, prior : Candidate
        The model, and the base-rate baseline.
    justification : str
        Why it was selected: a paragraph and a table, as Markdown.
    training_data : TrainingData
    training : mapping of str to object
        The parameters of the training.
    logged : Logged
    """
    found = reproduction(logged.run_id, logged.tags, training)
    selection, _, candidates = justification.strip().partition("\n\n")
    example = training_data.train.head(1)
    return ModelCard(
        model=registry.model(),
        version="",
        uri=logged.uri,
        name=selected.name,
        model_id=selected.id,
        run_id=logged.run_id,
        data=_data(training_data, found.source_url, logged.tags),
        measured=evaluate_on_test(
            training_data.train,
            training_data.test,
            predict_probability(selected.pipeline, training_data.test),
            predict_probability(prior.pipeline, training_data.test),
            default(),
        ),
        selection=selection,
        candidates=candidates,
        example={name: float(example[name].iloc[0]) for name in FEATURES},
        prediction=float(predict_probability(selected.pipeline, example)[0]),
        command=found.command,
        remarks=found.remarks,
    )


def _data(training_data: TrainingData, source: str, tags: Mapping[str, str]) -> Data:
    label_weight = 1.0
    if training_data.weights is not None and training_data.compared_on is not None:
        label_weight = float(training_data.weights[training_data.compared_on].mean())
    return Data(
        source=tags.get(store_tags.DATA_SOURCE, store_tags.UNKNOWN),
        url=source,
        synthetic=training_data.is_synthetic,
        labels=int(tags.get(store_tags.TRAINING_LABELS, "0")),
        label_weight=label_weight,
        labels_until=tags.get(store_tags.LABELS_UNTIL, ""),
        sha256={name.removeprefix(_SHA256): tags[name] for name in sorted(tags) if name.startswith(_SHA256)},
        commit=tags.get(store_tags.GIT_COMMIT, store_tags.UNKNOWN),
        dirty=tags.get(store_tags.GIT_DIRTY) != "false",
    )
