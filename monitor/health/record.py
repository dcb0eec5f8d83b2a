"""The record of an evaluation and its checks as plain JSON, which runs hold and which the app and the reports show."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

from data.schema import PROBABILITY
from monitor.drift.detector import ALPHA, RateTest
from monitor.health.checks import ALL_CHECKS
from monitor.health.difference import ranges
from monitor.health.evaluation import Evaluation
from monitor.health.status import CheckStatus, HealthReport, HealthStatus
from monitor.metrics import base_rate
from monitor.metrics.binary import METRICS
from monitor.metrics.intervals import Interval, Performance, metrics_by_slice

FORMAT = 2
"""Format of the record. `upgrade` converts format 1, which 0.1.0 wrote; other formats are not supported."""
RECORD_KEYS = frozenset(
    {"time", "status", "reasons", "checks", "current", "reference", "champion", "metrics", "drift", "estimate"}
)
"""Keys that every record has."""

_STATUS_OF_0_1 = {"healthy": HealthStatus.HEALTHY, "watch": HealthStatus.WARNING, "retrain": HealthStatus.RETRAIN}
_CHECK_STATUS_OF_0_1 = {
    ("fine", ""): CheckStatus.PASSED,
    ("finding", "warning"): CheckStatus.WARNING,
    ("finding", "retrain"): CheckStatus.FAILED,
    ("not applicable", ""): CheckStatus.SKIPPED,
    ("error", ""): CheckStatus.ERROR,
}

_MAX_NAMED = 20
_NO_METRIC = re.compile(r"[^\w .:/-]")

T = TypeVar("T")


def to_dict(evaluation: Evaluation, health: HealthReport) -> dict[str, Any]:
    """Convert all results to JSON-serializable values.

    Returns
    -------
    dict
        ``status``, ``reasons``, ``checks``, ``current``, ``reference``, ``metrics``, ``slices``, ``drift`` and
        ``estimate``. A result that could not be computed is null; the check that needs it is an error with the reason.
        Where ``current`` has ``sampled``, ``rows`` and ``drift`` cover all rows, and everything else covers a
        systematic sample of that size.
    """
    return {
        "format": FORMAT,
        "time": evaluation.live.as_of.isoformat(timespec="seconds"),
        "status": str(health.status),
        "reasons": health.reasons,
        "checks": [result.to_dict() for result in health.results],
        "current": {
            "name": evaluation.name,
            "rows": evaluation.rows,
            **({"sampled": len(evaluation.current)} if evaluation.is_sampled else {}),
            "labeled": len(evaluation.labeled),
            "mean_probability": float(evaluation.labeled[PROBABILITY].mean()) if len(evaluation.labeled) else None,
            "in_reference": evaluation.in_reference,
            "in_training": evaluation.in_training,
            "own": int(evaluation.is_own.sum()),
        },
        "reference": {"name": evaluation.baseline.name, "rows": len(evaluation.baseline.table)},
        "threshold": evaluation.baseline.threshold,
        "version": evaluation.version,
        "versions": evaluation.versions,
        "excluded": dict(evaluation.excluded),
        "champion": evaluation.live.champion.version if evaluation.live.champion else None,
        "metrics": {
            "reference": _or_none(lambda: _performance(evaluation.baseline.performance)),
            "current": _or_none(lambda: _performance(evaluation.performance)) if len(evaluation.labeled) else None,
        },
        "slices": _or_none(lambda: _slices(evaluation)) if len(evaluation.labeled) else None,
        "drift": _or_none(lambda: _drift(evaluation)),
        "estimate": _or_none(lambda: _estimate(evaluation)),
    }


def upgrade(record: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a record of 0.1.0, format 1, to the current format; any other record is returned unchanged.

    Raises
    ------
    KeyError, TypeError, AttributeError
        If the record is damaged.
    """
    if record.get("format") != 1:
        return dict(record)
    upgraded = {key: value for key, value in record.items() if key not in {"verdict", "left_out"}}
    drift, estimate = record.get("drift"), record.get("estimate")
    return upgraded | {
        "format": FORMAT,
        "status": str(_STATUS_OF_0_1[record["verdict"]]),
        "checks": [_upgraded_check(check) for check in record["checks"]],
        "current": _renamed(record["current"], {"labelled": "labeled"}),
        "excluded": record.get("left_out") or {},
        "drift": _upgraded_drift(drift) if drift else None,
        "estimate": _renamed(estimate, {"refused": "unavailable_reason", "realised": "actual"}) if estimate else None,
    }


def flatten_metrics(record: Mapping[str, Any]) -> dict[str, float]:
    """Flatten the numbers of a record to MLflow metrics; MLflow takes no other characters in their names."""
    return {_NO_METRIC.sub("_", name): value for name, value in _flat(record)}


def _upgraded_check(check: Mapping[str, str]) -> dict[str, str]:
    titles = {known.code: known.title for known in ALL_CHECKS}
    return {
        "code": check["code"],
        "title": titles.get(check["code"], check["title"]),
        "status": str(_CHECK_STATUS_OF_0_1[check["status"], check["severity"]]),
        "message": check["words"],
        "details": check["figures"],
    }


def _upgraded_drift(drift: Mapping[str, Any]) -> dict[str, Any]:
    threshold = {"limit": "threshold"}
    names = {"outside": "out_of_support_rate", "outside_limit": "out_of_support_threshold"}
    return _renamed(drift, names) | {
        "statistics": [_renamed(statistic, threshold) for statistic in drift["statistics"]],
        "classifier": _renamed(drift["classifier"], threshold) if drift["classifier"] else None,
    }


def _renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in values.items()}


def _flat(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    yield "rows", float(record["current"]["rows"])
    if "sampled" in record["current"]:
        yield "rows_sampled", float(record["current"]["sampled"])
    yield "rows_labeled", float(record["current"]["labeled"])
    yield "alarms", float(sum(CheckStatus(check["status"]).is_alarm for check in record["checks"]))
    for side, performance in record["metrics"].items():
        if performance:
            yield f"{side}_rate", performance["rate"]
            for name, interval in performance["metrics"].items():
                yield from _flat_interval(f"{side}_{name}", interval)
    if record["drift"]:
        yield from _flat_drift(record["drift"])
    if record["estimate"]:
        for name, interval in record["estimate"]["metrics"].items():
            yield from _flat_interval(f"estimated_{name}", interval)


def _flat_drift(drift: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for row in drift["statistics"]:
        name = f"{row['statistic']}_{row['feature']}"
        yield from {
            name: row["value"],
            f"{name}_threshold": row["threshold"],
            f"{name}_p_value": row["p_value"],
        }.items()
    for name, value in drift["mean_difference"].items():
        yield f"mean_difference_{name}", value
    for kind, prefix in (("nulls", "null_rate"), ("unseen", "unknown_rate")):
        for test in drift.get(kind) or ():
            yield f"{prefix}_{test['feature']}", test["rate"]
            yield f"{prefix}_{test['feature']}_threshold", test["threshold"]
    yield "drifted_features", float(len(drift["drifted"]))
    for name in ("out_of_support_rate", "out_of_support_threshold"):
        yield name, drift[name]
    if drift["classifier"]:
        yield "domain_classifier_roc_auc", drift["classifier"]["auc"]
        yield "domain_classifier_roc_auc_threshold", drift["classifier"]["threshold"]


def _flat_interval(name: str, interval: Mapping[str, float | None]) -> Iterator[tuple[str, float]]:
    for end, value in (("", interval["value"]), ("_low", interval["low"]), ("_high", interval["high"])):
        if value is not None:
            yield f"{name}{end}", value


def _or_none(compute: Callable[[], T]) -> T | None:
    try:
        return compute()
    except Exception:  # noqa: BLE001 the check that needs it reports the error
        return None


def _performance(performance: Performance) -> dict[str, Any]:
    intervals, compared = performance.intervals(), base_rate.compare(performance)
    return {
        "rows": performance.rows,
        "rate": performance.rate,
        "base_rate": compared.message if compared else None,
        "metrics": {name: _interval(intervals[name]) for name in METRICS if name in intervals},
    }


def _slices(evaluation: Evaluation) -> list[dict[str, Any]]:
    table = metrics_by_slice(evaluation.labeled, evaluation.dataset, threshold=evaluation.baseline.threshold)
    return [{str(name): _plain(value) for name, value in row.items()} for row in table.to_dict("records")]


def _drift(evaluation: Evaluation) -> dict[str, Any]:
    drift = evaluation.drift
    classifier = drift.classifier
    return {
        "alpha": ALPHA,
        "drifted": drift.drifted_features,
        "statistics": [
            {
                "feature": statistic.feature,
                "statistic": statistic.name,
                "value": statistic.value,
                "threshold": statistic.threshold,
                "p_value": statistic.p_value,
                "unit": statistic.unit,
                "drifted": statistic.drifted,
                **({"expected": True} if statistic.is_expected else {}),
            }
            for statistic in drift.statistics
        ],
        "mean_difference": drift.mean_difference,
        "ranges": ranges(evaluation),
        "nulls": [_rate(test) for test in drift.nulls],
        "unseen": [
            _rate(test) | {"categories": dict(islice(test.categories.items(), _MAX_NAMED))} for test in drift.unseen
        ],
        "groups": {"current": drift.groups, "reference": drift.reference_groups} if drift.groups else None,
        "out_of_support_rate": drift.out_of_support_rate,
        "out_of_support_threshold": drift.out_of_support_threshold,
        "classifier": {"auc": classifier.auc, "threshold": classifier.threshold, "p_value": classifier.p_value}
        if classifier
        else None,
    }


def _rate(test: RateTest) -> dict[str, Any]:
    return {
        "feature": test.feature,
        "rows": test.rows,
        "rate": test.rate,
        "reference_rate": test.reference_rate,
        "threshold": test.threshold,
        "p_value": test.p_value,
        "drifted": test.drifted,
    }


def _estimate(evaluation: Evaluation) -> dict[str, Any]:
    estimate = evaluation.estimate
    actual = evaluation.actual_performance
    return {
        "rows": estimate.rows,
        "supported": estimate.supported,
        "unavailable_reason": estimate.unavailable_reason,
        "metrics": {name: _interval(interval) for name, interval in estimate.intervals.items()},
        "actual": _performance(actual) if actual else None,
    }


def _interval(interval: Interval) -> dict[str, float | None]:
    return {"value": _plain(interval.value), "low": _plain(interval.low), "high": _plain(interval.high)}


def _plain(value: Any) -> Any:  # noqa: ANN401 a cell of any type
    return None if isinstance(value, float) and math.isnan(value) else value
