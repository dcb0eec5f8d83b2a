"""How metrics and columns are shown to people: one dictionary of labels, units, digits and directions.

Every page, chart, report and image shows a metric by its entry here. Names of runs and tables stay as they are.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

from data.datasets import current
from data.schema import PROBABILITY, TARGET, feature_column
from monitor.metrics.binary import METRICS

Direction = Literal["lower", "higher", "none"]


@dataclass(frozen=True)
class MetricName:
    """How a metric is shown.

    Attributes
    ----------
    label : str
    unit : str
        Empty where the metric is a plain number; ``%`` where it is shown as a percentage.
    digits : int
        After the decimal point, in that unit.
    direction : {"lower", "higher", "none"}
        Which values are better.
    meaning : str
        Short definition; empty where the label is one.
    """

    label: str
    unit: str = ""
    digits: int = 4
    direction: Direction = "none"
    meaning: str = ""

    def format(self, value: float | None, *, signed: bool = False) -> str:
        """A value with its unit; "not defined" where there is none.

        Examples
        --------
        >>> metric_name("log_loss_skill").format(-0.0223), metric_name("roc_auc").format(0.4863, signed=True)
        ('-2.2%', '+0.486')
        """
        if value is None or value != value:  # noqa: PLR0124 NaN
            return "not defined"
        sign = "+" if signed else ""
        scaled = value * 100 if self.unit == "%" else value
        text = f"{scaled:{sign},.{self.digits}f}"
        return f"{text}{self.unit}" if self.unit == "%" else f"{text} {self.unit}".strip()

    def is_worse(self, change: float) -> bool | None:
        """Whether a change is for the worse; None where no direction is better, or nothing changed."""
        if self.direction == "none" or not change:
            return None
        return change > 0 if self.direction == "lower" else change < 0


def _of(name: str, label: str, digits: int, unit: str = "") -> MetricName:
    metric = METRICS[name]
    return MetricName(label, unit, digits, "higher" if metric.greater_is_better else "lower", metric.meaning)


KNOWN = {
    "log_loss": _of("log_loss", "Log loss", 4),
    "brier": _of("brier", "Brier score", 4),
    "roc_auc": _of("roc_auc", "ROC AUC", 3),
    "f1_score": _of("f1_score", "F1 score", 3),
    "accuracy": _of("accuracy", "Accuracy", 1, "%"),
    "precision": _of("precision", "Precision", 1, "%"),
    "recall": _of("recall", "Recall", 1, "%"),
    "specificity": _of("specificity", "Specificity", 1, "%"),
    "calibration_error": _of("calibration_error", "Calibration error", 3),
    "log_loss_skill": _of("log_loss_skill", "Skill score (log loss)", 1, "%"),
    "brier_skill": _of("brier_skill", "Skill score (Brier)", 1, "%"),
    "average_precision": MetricName(
        "Average precision",
        "",
        3,
        "higher",
        "Area under the precision-recall curve; the chance level is the base rate.",
    ),
    "alarms": MetricName("Alerts", "", 0, "lower"),
    "rows": MetricName("Rows", "", 0),
    "rows_labeled": MetricName("Labeled rows", "", 0, "higher"),
    "rows_sampled": MetricName("Sampled rows", "", 0),
    "rate": MetricName("FG%", "%", 1, meaning="Share of the labeled shots that were made."),
    "mean_probability": MetricName(
        "Mean P(made)", "%", 1, meaning="Mean of P(made): the share of the shots that the model expects to be made."
    ),
    "drifted_features": MetricName(
        "Drifted features",
        "",
        0,
        "lower",
        "Features whose distribution differs from the reference by more than chance.",
    ),
    "out_of_support_rate": MetricName(
        "Out of support",
        "%",
        1,
        "lower",
        "Share of the rows that are unlike all training rows: the model extrapolates there.",
    ),
    "out_of_support_threshold": MetricName("Out-of-support threshold", "%", 1),
    "domain_classifier_roc_auc": MetricName(
        "Domain classifier, ROC AUC",
        "",
        3,
        "lower",
        "How well a classifier discriminates current rows from reference rows: 0.5 if they are alike, 1 if they have "
        "nothing in common.",
    ),
    "psi": MetricName(
        "PSI", "", 3, "lower", "Population stability index, a difference of two distributions; 0 if they are equal."
    ),
    "ks": MetricName(
        "Kolmogorov-Smirnov",
        "",
        3,
        "lower",
        "Largest difference of two cumulative distributions: 0 if they are equal, 1 if they have nothing in common.",
    ),
    "wasserstein": MetricName(
        "Wasserstein",
        "",
        3,
        "lower",
        "Mean distance by which values move from one distribution to the other, in the unit of the feature.",
    ),
    "js": MetricName(
        "Jensen-Shannon",
        "",
        3,
        "lower",
        "Distance of the shares of categories: 0 if they are equal, 1 if no category is in both.",
    ),
    "domain_classifier_roc_auc_threshold": MetricName("Domain classifier, ROC AUC threshold", "", 3),
    "seconds": MetricName("Duration", "s", 1, "lower"),
}
"""Metrics by name."""
MODEL_NAMES = {
    "lr": "logistic regression",
    "dt": "decision tree",
    "rf": "random forest",
    "et": "extra trees",
    "gbc": "gradient boosting",
    "hgbc": "histogram gradient boosting",
    "knn": "nearest neighbors",
    "nb": "naive Bayes",
    "lda": "linear discriminant analysis",
    "qda": "quadratic discriminant analysis",
    "ada": "AdaBoost",
    "prior": "base rate",
}
"""Models by the id that a version keeps; others are shown by their id."""
_SIDES = {"current_": "current", "reference_": "test set", "estimated_": "estimated", "test_": "test set"}
_ENDS = {"_low": "95% CI, low", "_high": "95% CI, high"}
_STATISTICS = {"ks": "KS", "psi": "PSI", "wasserstein": "Wasserstein", "mean_difference": "Mean difference"}
_COLUMNS = {
    "lat": "Latitude",
    "lng": "Longitude",
    "minutes_remaining": "Minutes remaining",
    "period": "Period",
    "playoffs": "Playoffs",
    "shot_distance": "Shot distance",
    TARGET: "Result",
    "prediction": "Prediction",
    "model_version": "Version",
    "season": "Season",
}


def metric_name(name: str) -> MetricName:
    """How a metric of a run or a table is shown, whichever prefix and suffix its name has.

    Examples
    --------
    >>> metric_name("log_loss").label, metric_name("current_roc_auc_low").label
    ('Log loss', 'ROC AUC, current, 95% CI, low')
    >>> metric_name("psi_shot_distance").label, metric_name("something_new").label
    ('PSI of shot distance', 'Something new')
    """
    if name in KNOWN:
        return KNOWN[name]
    for prefix, side in _SIDES.items():
        if name.startswith(prefix):
            inner = metric_name(name.removeprefix(prefix))
            label, comma, rest = inner.label.partition(", 95% CI")
            return MetricName(f"{label}, {side}{comma}{rest}", inner.unit, inner.digits, inner.direction, inner.meaning)
    for suffix, end in _ENDS.items():
        if name.endswith(suffix):
            inner = metric_name(name.removesuffix(suffix))
            return MetricName(f"{inner.label}, {end}", inner.unit, inner.digits, inner.direction, inner.meaning)
    for statistic, label in _STATISTICS.items():
        if name.startswith(f"{statistic}_"):
            column = name.removeprefix(f"{statistic}_")
            for suffix, word in (("_threshold", ", threshold"), ("_p_value", ", p-value")):
                if column.endswith(suffix):
                    return MetricName(f"{label} of {inner_name(column.removesuffix(suffix))}{word}")
            return MetricName(f"{label} of {inner_name(column)}")
    return MetricName(_readable(name))


def readable(text: str, translate: Callable[[str], str] = str) -> str:
    """A sentence with the labels of metrics and columns instead of their names in tables; columns are translated.

    Examples
    --------
    >>> readable("roc_auc is worse by 18%; shot_distance PSI 8.15")
    'ROC AUC is worse by 18%; shot distance PSI 8.15'
    """
    return _raw_names(current().feature_names).sub(lambda found: _within_sentence(found.group(), translate), text)


def column_name(name: str, *, unit: bool = False) -> str:
    """How a column is shown, with its unit if wanted.

    Examples
    --------
    >>> column_name("shot_distance", unit=True), column_name("defender_height")
    ('Shot distance (feet)', 'Defender height')
    """
    dataset = current()
    own = {dataset.id.name: _readable(dataset.row), PROBABILITY: f"P({dataset.positive})"}
    label = own.get(name) or _COLUMNS.get(name) or _readable(name)
    known = unit_of(name) if unit else ""
    return f"{label} ({known})" if known else label


def unit_of(name: str) -> str:
    """The unit of a column; empty where it has none, or where the column is not known."""
    try:
        return feature_column(name).unit
    except (KeyError, StopIteration, ValueError):
        return ""


def _readable(name: str) -> str:
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def inner_name(column: str) -> str:
    """The label of a column within a phrase; P(made) and abbreviations keep their capitals."""
    return _lowered(column_name(column))


def _within_sentence(name: str, translate: Callable[[str], str]) -> str:
    return _lowered(KNOWN[name].label if name in KNOWN else translate(column_name(name)))


def _lowered(label: str) -> str:
    return label if label[1:2].isupper() or label.startswith(("P(", "F1", "FG")) else label[:1].lower() + label[1:]


@cache
def _raw_names(features: tuple[str, ...]) -> re.Pattern[str]:
    """Matches the names of metrics and columns that are not the words of a sentence."""
    known = {name for name in (*KNOWN, *_COLUMNS, *features) if "_" in name or name in {"lat", "lng"}}
    return re.compile(r"\b(?:" + "|".join(map(re.escape, sorted(known, key=len, reverse=True))) + r")\b")
