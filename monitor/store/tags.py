"""Names of the tags that runs and versions hold, with the names and values that 0.1.0 gave to tags, metrics and params.

The records of `monitor.store.records` read tags by these names, and steps write them. Tags that `serving.registry`
alone writes and reads have their names there.
"""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from data.schema import FEATURES, PROBABILITY

T = TypeVar("T")

DATA_SOURCE, SYNTHETIC = "data_source", "synthetic"
ORIGIN = (DATA_SOURCE, SYNTHETIC)
"""Where the shots of a run or version come from: ``public``, a folder and so on, and whether they are synthetic."""
UNKNOWN = "unknown"
"""Value of a tag whose value is not known."""
MODEL_ID, MODEL_VERSION = "model_id", "model_version"
"""PyCaret's id of a model, and the number of the version that a run trained, scored with or evaluated."""
GATE, GATE_REASON = "gate", "gate_reason"
GIT_COMMIT, GIT_DIRTY = "git_commit", "git_dirty"
PARENT = MLFLOW_PARENT_RUN_ID

REGISTERED_MODEL = "kobe_shot.registered_model"
"""Tag of a run: the registered model that it is about."""
LAUNCHER_OF = "kobe_shot.launcher_of"
"""Tag of a run that a person named: the name of the step whose run it holds."""
WORKSPACE, PROCESS = "kobe_shot.workspace", "kobe_shot.process"
"""Tags of a run: host and folder, and id of the process, that it runs in."""

DATASET = "dataset"
"""Tag of a version: the name of the description that it was trained with."""
LEARNING_CURVE = "learning_curve"
"""Prefix of the metric of a candidate whose steps are numbers of rows."""
CANDIDATE_SHA256 = "sha256_candidate"
"""Tag of the run of a candidate: SHA-256 of its pipeline. A run of 0.1.0 has none."""
SELECTED_MODEL, SELECTION_METRIC = "chosen_model", "criterion"
PROMOTION_NOTE, COMPARISON_NOTE = "promotion_note", "comparison_note"
"""Tags of a training."""

TRAINED_VERSION, SCORING_VERSION = "trained_version", "applied_version"
"""Tags of a ``main``."""

GIVEN_TABLE, PREDICTIONS = "table", "predictions"
"""Tags of a batch-scoring run: path of the table that it was given (none for the prod table), and the file it wrote."""

SOURCE, REFERENCE, CURRENT = "source", "reference", "current"
BATCH_SCORING_RUN = "batch_scoring_run"
HEALTH, REASONS = "health_status", "reasons"
"""Tags of a monitoring run: its data source, the reference data, the name of the current data, the run that scored
them, and the status with its reasons."""

DECISION_MODEL, DECISION_MODEL_CREATED = "registered_model", "registered_model_created"
NUMBER, DECIDED_AT = "decision_number", "decided_at"
DECISION, TRIGGER, MODE = "decision", "trigger", "mode"
OUTCOME, OUTCOME_REASON = "outcome", "outcome_reason"
CHAMPION = "champion"
LABELS, NEW_LABELS, LABELS_UNTIL = "labels", "new_labels", "labels_until"
BACKTEST = "backtest"
"""Tags of a decision, `BACKTEST` that of one within a policy backtest: the run of the backtest."""

TRAINING_LABELS = "training_labels"
RETRAINING_RUN = "retraining_run"
DEVELOPMENT_SHA256, FORMER_DEVELOPMENT_SHA256 = "sha256_development_rows", "sha256_development"
"""Tags of a version that was trained on labels too, as `LABELS_UNTIL` is: how many, the run of the decision, and the
SHA-256 of the dev rows in its training rows."""
REVOKED = "revoked"
"""Tag of a version that lost its gate result after it was promoted: why."""

PLOTS = "plots"
"""Folder of the plots among the artifacts of a run."""

SPLITS_NOT_MEASURED = "split_sensitivity"
"""Tag of a report: why it does not hold the metrics of other splits."""

LOCATION = "table_"
"""Prefix of `location_of`."""
_TEST_METRIC = "test_"

FORMER_TAGS = {
    "answers": PREDICTIONS,
    "application_run": BATCH_SCORING_RUN,
    "labels_learned": TRAINING_LABELS,
    "learned_until": LABELS_UNTIL,
    "moment": DECIDED_AT,
    "replay": BACKTEST,
    "split_study": SPLITS_NOT_MEASURED,
    "taken_back": REVOKED,
    "verdict": HEALTH,
}
FORMER_VALUES: dict[str, dict[str, str]] = {
    DATA_SOURCE: {"address": "url"},
    DECISION: {"wait": "no action"},
    HEALTH: {"watch": "warning", "retrain": "retraining recommended"},
    GATE: {"refused": "rejected"},
    OUTCOME: {"refused": "rejected"},
}
FORMER_METRICS = {
    "class_prior_log_loss": "base_rate_log_loss",
    "outside": "out_of_support_rate",
    "outside_limit": "out_of_support_threshold",
    "domain_classifier_roc_auc_limit": "domain_classifier_roc_auc_threshold",
    **{
        f"{statistic}_{column}_limit": f"{statistic}_{column}_threshold"
        for statistic in ("ks", "psi", "wasserstein")
        for column in (*FEATURES, PROBABILITY)
    },
    "requests_lost": "requests_failed",
    "rows_base_prod_unlabelled": "rows_base_prod_unlabeled",
    "rows_labelled": "rows_labeled",
    "rows_learned": "rows_in_training",
    "rows_unlabelled": "rows_unlabeled",
}
_FORMER_RESPLIT, _RESPLIT = "spread_", "resplit_"
_BACKTEST_METRICS = ("log_loss", "batch_log_loss", "trainings")
FORMER_PARAMS = {
    "batch_rows": "batch_size",
    "horizon": "trend_horizon",
    "label_test_size": "holdout_size",
    "label_window": "max_labels",
    "limit": "degradation_threshold",
    "least_gain": "min_improvement",
    "look_rows": "recent_rows",
    "minimum_new_labels": "min_new_labels",
    "most_log_loss": "max_log_loss",
    "most_per_day": "max_trainings_per_day",
    "most_rejected": "max_rejected_rows",
    "most_rows": "max_rows",
    "now": "as_of",
    "split_seeds": "n_resplits",
    "start": "initial_model",
    "violations": "min_breached_windows",
    "window_rows": "window_size",
}
"""Names and values of 0.1.0 and what they are today."""
FORMER_PATHS = {PLOTS: "pictures", "policy_backtest": "replay", "promotion_test": "challenge"}
"""Parts of the paths of artifacts and what they were in 0.1.0."""
FORMER_DECISION_KEYS = {
    "arrived": "label_counts",
    "challenge": "promotion_test",
    "comparisons": "criteria",
    "figures": "details",
    "guards": "preconditions",
    "holds": "met",
    "signals": "triggers",
    "verdict": "result",
    "violations": "breaches",
    "words": "summary",
}
FORMER_BACKTEST_KEYS = {
    "every": "always",
    "figures": "strategies",
    "labelled": "labeled",
    "loop": "policy",
    "marks": "events",
    "verdict": "status",
    "words": "summary",
}
"""Keys of the records of decisions, with their promotion tests, and of policy backtests."""
FORMER_DECISION_VALUES = {DECISION: FORMER_VALUES[DECISION]}
FORMER_BACKTEST_VALUES = {"kind": {"refusal": "rejection"}, "status": FORMER_VALUES[HEALTH]}
"""Values of these keys."""


def sha256_of(name: str) -> str:
    """Tag or parameter with the SHA-256 of a table.

    Examples
    --------
    >>> sha256_of("base_train")
    'sha256_base_train'
    """
    return f"sha256_{name}"


def location_of(name: str) -> str:
    """Tag with the path of a table that a run left where it was written, as it is too large for a copy."""
    return f"{LOCATION}{name}"


def former_names(name: str) -> tuple[str, ...]:
    """A tag's name and those that it had before, for a search.

    Examples
    --------
    >>> former_names("model_id")
    ('model_id',)
    """
    return (name, *(former for former, today in FORMER_TAGS.items() if today == name))


def former_path(path: str) -> str:
    """Path that 0.1.0 gave to an artifact of a run.

    Examples
    --------
    >>> former_path("report.html")
    'report.html'
    """
    return re.sub(r"\w+", lambda part: FORMER_PATHS.get(part.group(), part.group()), path)


def current_tags(held: Mapping[str, str]) -> dict[str, str]:
    """The tags of a run or version by the names and values of today, whichever version of the project wrote them.

    Examples
    --------
    >>> current_tags({"model_id": "lr"})
    {'model_id': 'lr'}
    """
    found = _renamed(held, FORMER_TAGS)
    return {name: FORMER_VALUES.get(name, {}).get(value, value) for name, value in found.items()}


def current_record(
    held: Any,  # noqa: ANN401 a value of JSON
    keys: Mapping[str, str],
    values: Mapping[str, Mapping[str, str]],
) -> Any:  # noqa: ANN401
    """A record that was read from JSON, by the keys and values of today.

    Examples
    --------
    >>> current_record({"batches": [{"former": "1"}]}, {"former": "number"}, {})
    {'batches': [{'number': '1'}]}
    """
    if isinstance(held, list):
        return [current_record(each, keys, values) for each in held]
    if not isinstance(held, dict):
        return held
    return {
        name: values.get(name, {}).get(value, value) if isinstance(value, str) else current_record(value, keys, values)
        for name, value in _renamed(held, keys).items()
    }


def current_metrics(held: Mapping[str, float]) -> dict[str, float]:
    """The metrics of a run by the names of today."""
    backtest = {
        name: f"{metric}_{FORMER_BACKTEST_KEYS[strategy]}"
        for name in held
        for metric, _, strategy in [name.rpartition("_")]
        if metric in _BACKTEST_METRICS and strategy in FORMER_BACKTEST_KEYS
    }
    resplit = {name: _RESPLIT + name.removeprefix(_FORMER_RESPLIT) for name in held if name.startswith(_FORMER_RESPLIT)}
    return _renamed(held, FORMER_METRICS | backtest | resplit)


def current_params(held: Mapping[str, str]) -> dict[str, str]:
    """The parameters of a run by the names of today."""
    return _renamed(held, FORMER_PARAMS)


def test_metrics(held: Mapping[str, str]) -> dict[str, float]:
    """The metrics on the test rows that a version holds as tags."""
    return {
        name.removeprefix(_TEST_METRIC): float(value) for name, value in held.items() if name.startswith(_TEST_METRIC)
    }


def _renamed(held: Mapping[str, T], names: Mapping[str, str]) -> dict[str, T]:
    # A name of today goes before a former one, where both are there.
    former = {names[name]: value for name, value in held.items() if name in names}
    return former | {name: value for name, value in held.items() if name not in names}


def development_sha256(tags: Mapping[str, str]) -> str:
    """SHA-256 of the dev rows that a version was trained on, of its tags; empty where it is not known.

    The former name of the tag is also that of the raw table ``development.parquet``, which labels do not change.

    Examples
    --------
    >>> development_sha256({"sha256_development": "raw", "sha256_base_train": "rows"})
    'rows'
    >>> development_sha256({"sha256_development": "rows", "sha256_base_train": "all", "labels_until": "2026-01-01"})
    'rows'
    """
    former = tags.get(FORMER_DEVELOPMENT_SHA256, "") if LABELS_UNTIL in tags else ""
    return tags.get(DEVELOPMENT_SHA256) or former or tags.get(sha256_of("base_train"), "")
