"""A look and what the checks said of it as plain figures: for runs, files and the app, which shows what is logged."""

import math
from collections.abc import Iterator
from typing import Any

from monitor.drift.detector import ALPHA
from monitor.health.evaluation import Evaluation
from monitor.health.verdict import HealthReport
from monitor.metrics import base_rate
from monitor.metrics.binary import METRICS
from monitor.metrics.intervals import Interval, Performance, metrics_by_slice

FORMAT = 1
"""Of the record; one of another format is not read."""


RECORD_KEYS = frozenset(
    {"time", "verdict", "reasons", "checks", "current", "reference", "champion", "metrics", "drift", "estimate"}
)
"""What a reader of a record may count on."""


def to_dict(look: Evaluation, health: HealthReport) -> dict[str, Any]:
    """All that was found, as JSON takes it.

    Returns
    -------
    dict
        ``verdict``, ``reasons``, ``checks``, ``current``, ``reference``, ``metrics``, ``slices``, ``drift`` and
        ``estimate``. What could not be computed is null; the check that needed it is an error and says why. Where
        ``current`` has ``sampled``, ``rows`` and ``drift`` are of all rows, all else of so many evenly spread ones.
    """
    return {
        "format": FORMAT,
        "time": look.live.now.isoformat(timespec="seconds"),
        "verdict": str(health.verdict),
        "reasons": health.reasons,
        "checks": [outcome.record() for outcome in health.outcomes],
        "current": {
            "name": look.name,
            "rows": look.rows,
            **({"sampled": len(look.current)} if look.is_sampled else {}),
            "labelled": len(look.labelled),
            "in_reference": look.in_reference,
            "in_training": look.in_training,
            "own": int(look.is_own.sum()),
        },
        "reference": {"name": look.baseline.name, "rows": len(look.baseline.table)},
        "threshold": look.baseline.threshold,
        "version": look.version,
        "versions": look.versions,
        "left_out": dict(look.left_out),
        "champion": look.live.champion.version if look.live.champion else None,
        "metrics": {
            "reference": _known(lambda: _performance(look.baseline.performance)),
            "current": _known(lambda: _performance(look.performance)) if len(look.labelled) else None,
        },
        "slices": _known(lambda: _slices(look)) if len(look.labelled) else None,
        "drift": _known(lambda: _drift(look)),
        "estimate": _known(lambda: _estimate(look)),
    }


def flatten_metrics(found: dict[str, Any]) -> dict[str, float]:
    """Every figure of a record by a flat name, as MLflow keeps metrics."""
    return dict(_flat(found))


def _flat(found: dict[str, Any]) -> Iterator[tuple[str, float]]:
    yield "rows", float(found["current"]["rows"])
    if "sampled" in found["current"]:
        yield "rows_sampled", float(found["current"]["sampled"])
    yield "rows_labelled", float(found["current"]["labelled"])
    yield "alarms", float(sum(check["status"] in {"finding", "error"} for check in found["checks"]))
    for side, measured in found["metrics"].items():
        if measured:
            yield f"{side}_rate", measured["rate"]
            for name, interval in measured["metrics"].items():
                yield from _ends(f"{side}_{name}", interval)
    if found["drift"]:
        yield from _flat_drift(found["drift"])
    if found["estimate"]:
        for name, interval in found["estimate"]["metrics"].items():
            yield from _ends(f"estimated_{name}", interval)


def _flat_drift(found: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for row in found["statistics"]:
        name = f"{row['statistic']}_{row['feature']}"
        yield from {name: row["value"], f"{name}_limit": row["limit"], f"{name}_p_value": row["p_value"]}.items()
    for name, value in found["mean_difference"].items():
        yield f"mean_difference_{name}", value
    yield "drifted_features", float(len(found["drifted"]))
    for name in ("outside", "outside_limit"):
        yield name, found[name]
    if found["classifier"]:
        yield "domain_classifier_roc_auc", found["classifier"]["auc"]
        yield "domain_classifier_roc_auc_limit", found["classifier"]["limit"]


def _ends(name: str, interval: dict[str, float | None]) -> Iterator[tuple[str, float]]:
    for end, value in (("", interval["value"]), ("_low", interval["low"]), ("_high", interval["high"])):
        if value is not None:
            yield f"{name}{end}", value


def _known(compute: Any) -> Any:  # noqa: ANN401 whatever JSON takes
    try:
        return compute()
    except Exception:  # noqa: BLE001 the check that needs it has said why
        return None


def _performance(found: Performance) -> dict[str, Any]:
    intervals, compared = found.intervals(), base_rate.compare(found)
    return {
        "rows": found.rows,
        "rate": found.rate,
        "base_rate": compared.words if compared else None,
        "metrics": {name: _interval(intervals[name]) for name in METRICS if name in intervals},
    }


def _slices(look: Evaluation) -> list[dict[str, Any]]:
    table = metrics_by_slice(look.labelled, threshold=look.baseline.threshold)
    return [{str(name): _plain(value) for name, value in row.items()} for row in table.to_dict("records")]


def _drift(look: Evaluation) -> dict[str, Any]:
    found = look.drift
    told = found.classifier
    return {
        "alpha": ALPHA,
        "drifted": found.drifted_features,
        "statistics": [
            {
                "feature": each.feature,
                "statistic": each.name,
                "value": each.value,
                "limit": each.limit,
                "p_value": each.p_value,
                "unit": each.unit,
                "drifted": each.drifted,
            }
            for each in found.statistics
        ],
        "mean_difference": found.mean_difference,
        "outside": found.outside,
        "outside_limit": found.outside_limit,
        "classifier": {"auc": told.auc, "limit": told.limit, "p_value": told.p_value} if told else None,
    }


def _estimate(look: Evaluation) -> dict[str, Any]:
    found = look.estimate
    return {
        "rows": found.rows,
        "supported": found.supported,
        "refused": found.refused,
        "metrics": {name: _interval(interval) for name, interval in found.intervals.items()},
        "realised": _performance(look.realised) if look.realised else None,
    }


def _interval(interval: Interval) -> dict[str, float | None]:
    return {"value": _plain(interval.value), "low": _plain(interval.low), "high": _plain(interval.high)}


def _plain(value: Any) -> Any:  # noqa: ANN401
    return None if isinstance(value, float) and math.isnan(value) else value
