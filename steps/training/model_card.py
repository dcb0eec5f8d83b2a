"""The content of a version's model card, from its training."""

import copy
import math
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata

import numpy as np
import pandas as pd
import skops.io
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, export_text

from data.datasets import Dataset
from monitor.charts import static
from monitor.metrics.binary import log_loss_by_row
from monitor.reports.model_card.card import SHUFFLES, Data, ModelCard, ModelFacts
from monitor.reports.model_card.evaluation import evaluate_on_test
from monitor.store import tags as store_tags
from serving import registry
from serving.model.compilation import COMPILED, DETAILS
from serving.model.packaging import predict_probability
from steps.shared.tracking import FigureRecord, git_user
from steps.training.reproduction import reproduction
from steps.training.training_set import TrainingData
from steps.training.tuning import Candidate

_SHA256 = "sha256_"
_MAX_IMPORTANCE_ROWS = 10_000
_CALIBRATION, _ROC = "card_calibration", "card_roc"
_PLOTS = {"Calibration on the test rows": _CALIBRATION, "ROC curve on the test rows": _ROC}


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
    example, dataset = training_data.train.head(1), training_data.dataset
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
            predict_probability(selected.pipeline, training_data.test, dataset),
            predict_probability(prior.pipeline, training_data.test, dataset),
            dataset,
        ),
        selection=selection,
        candidates=candidates,
        example={name: _plain(example[name].iloc[0]) for name in dataset.feature_names},
        prediction=float(predict_probability(selected.pipeline, example, dataset)[0]),
        command=found.command,
        remarks=found.remarks,
        dataset=dataset,
        hyperparameters=selected.hyperparameters,
        importance=permutation_importance(selected, training_data.test, int(str(training.get("session_id", 0)))),
        facts=_facts(selected, logged.tags),
    )


def permutation_importance(candidate: Candidate, test: pd.DataFrame, seed: int) -> dict[str, tuple[float, float]]:
    """How much the log loss rises when a feature is shuffled: mean and standard deviation by feature, largest first.

    Parameters
    ----------
    candidate : Candidate
    test : pandas.DataFrame
        At least one row; of many rows a sample is used.
    seed : int
        Of sample and shuffles.
    """
    stream = np.random.default_rng(seed)
    rows = test.sample(_MAX_IMPORTANCE_ROWS, random_state=seed) if len(test) > _MAX_IMPORTANCE_ROWS else test
    labels = rows[candidate.dataset.target.name]
    whole = float(log_loss_by_row(labels, candidate.probability(rows)).mean())
    found = {}
    for name in candidate.dataset.feature_names:
        rises = [
            float(log_loss_by_row(labels, candidate.probability(_shuffled(rows, name, stream))).mean()) - whole
            for _ in range(SHUFFLES)
        ]
        found[name] = (float(np.mean(rises)), float(np.std(rises)))
    return dict(sorted(found.items(), key=lambda each: -each[1][0]))


def _shuffled(rows: pd.DataFrame, name: str, stream: np.random.Generator) -> pd.DataFrame:
    return rows.assign(**{name: rows[name].to_numpy()[stream.permutation(len(rows))]})


def _plain(value: object) -> float | str | None:
    """A cell as JSON has it."""
    if value is None or isinstance(value, str):
        return value
    number = float(value)  # type: ignore[arg-type]
    return None if math.isnan(number) else number


def plots(selected: Candidate, training_data: TrainingData) -> Iterator[FigureRecord]:
    """The plots that the card shows, for the run of the training."""
    labels = training_data.test[selected.dataset.target.name].to_numpy(dtype=float)
    made = selected.probability(training_data.test)
    yield FigureRecord(_CALIBRATION, static.calibration(labels, made, f"Calibration of {selected.name}"))
    yield FigureRecord(_ROC, static.roc(labels, {selected.name: made}, f"ROC of {selected.name}"))


def _facts(selected: Candidate, tags: Mapping[str, str]) -> ModelFacts:
    pipeline = selected.pipeline
    packages = ("scikit-learn", "numpy", "pandas", "skops", "mlflow")
    return ModelFacts(
        owner=git_user(),
        written=f"{datetime.now(UTC):%Y-%m-%d}",
        steps=tuple(type(step).__name__ for _, step in pipeline.steps),
        rules=_rules(pipeline, selected.dataset),
        environment={"Python": platform.python_version(), **{name: metadata.version(name) for name in packages}},
        compiled=(
            f"{'its compiled form' if tags[COMPILED] == 'true' else 'the pipeline itself'}: {tags[DETAILS]}"
            if COMPILED in tags
            else ""
        ),
        size_bytes=len(skops.io.dumps(pipeline)),
        plots={name: f"{store_tags.PLOTS}/{file}.png" for name, file in _PLOTS.items()},
    )


def _rules(pipeline: Pipeline, dataset: Dataset) -> str:
    """The rules of a tree on standardized features, in the units of the features; empty for another model."""
    scaler, tree = pipeline[0], pipeline[-1]
    if not isinstance(tree, DecisionTreeClassifier) or not isinstance(scaler, StandardScaler):
        return ""
    drawn = copy.deepcopy(tree)
    splits = np.flatnonzero(drawn.tree_.feature >= 0)
    features = drawn.tree_.feature[splits]
    drawn.tree_.threshold[splits] = drawn.tree_.threshold[splits] * scaler.scale_[features] + scaler.mean_[features]
    names = list(dataset.feature_names) if drawn.n_features_in_ == len(dataset.feature_names) else None
    classes = [dataset.negative, dataset.positive]
    return str(export_text(drawn, feature_names=names, class_names=classes, max_depth=4)).rstrip()


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
