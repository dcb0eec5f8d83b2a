"""The cause of a status in one sentence, from the record of a monitoring run.

Many checks fail for one cause: a model that meets shots from where it was never trained fails nine of them. The most
fundamental cause is reported; the other checks follow from it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from data.datasets import worded
from monitor.health.checks import NEW_ROWS
from monitor.health.status import CheckStatus
from monitor.metrics.names import inner_name, metric_name, readable, unit_of

_ALARMS = {CheckStatus.WARNING, CheckStatus.FAILED, CheckStatus.ERROR}
_SECTION = {"K1": "labels", "K2": "inputs", "K3": "estimate", "K4": "serving"}


@dataclass(frozen=True)
class Sentence:
    """A sentence as a template and its values, so that it can be translated."""

    template: str
    values: Mapping[str, str] = field(default_factory=dict)

    def text(self, translate: Callable[[str], str] | None = None) -> str:
        """The sentence, with its template translated, and the values that have a translation.

        Without a translation it is in the words of the dataset of this process.
        """
        if translate is None:
            return worded(self.template).format(**self.values)
        return translate(self.template).format(**{name: translate(value) for name, value in self.values.items()})


@dataclass(frozen=True)
class Cause:
    """Why a model has its status.

    Attributes
    ----------
    sentence : Sentence
    code : str
        Code of the check that it comes from; empty where every check passed.
    follows : tuple of str
        Titles of the other alarms, which follow from it or are less severe.
    """

    sentence: Sentence
    code: str = ""
    follows: tuple[str, ...] = ()


def cause(record: Mapping[str, Any]) -> Cause:
    """Find the cause of the status of a record, as `monitor.health.record.to_dict` writes it.

    Parameters
    ----------
    record : mapping
    """
    alarms = {check["code"]: check for check in record["checks"] if CheckStatus(check["status"]) in _ALARMS}
    if not alarms:
        return Cause(_healthy(record))
    for code, sentence in _SENTENCES:
        if code in alarms and (found := sentence(record, alarms[code])):
            return Cause(found, code, tuple(check["title"] for other, check in alarms.items() if other != code))
    code, check = next(iter(alarms.items()))
    rest = tuple(check["title"] for other, check in alarms.items() if other != code)
    return Cause(_of_check(record, check), code, rest)


def section_of(code: str) -> str:
    """Where the evidence of a check is: labels, inputs, estimate or serving.

    Examples
    --------
    >>> section_of("K204"), section_of("K103")
    ('inputs', 'labels')
    """
    return _SECTION.get(code[:2], "labels")


def expected_and_actual(record: Mapping[str, Any]) -> tuple[float, float] | None:
    """Mean P(made) and FG% of the new labeled rows; None without them."""
    mean = record["current"].get("mean_probability")
    if mean is not None and record["metrics"]["current"]:
        return mean, record["metrics"]["current"]["rate"]
    every = record.get("slices") or []
    of = {name: [row for row in every if row["slice"] == name] for name in dict.fromkeys(row["slice"] for row in every)}
    labeled = record["current"]["labeled"]
    # The slices of one dimension hold every labeled row once.
    slices = next((own for own in of.values() if sum(row["rows"] for row in own) == labeled), [])
    rows = sum(row["rows"] for row in slices)
    if not rows:
        return None
    expected, actual = (sum(row["rows"] * row[name] for row in slices) / rows for name in ("mean_probability", "rate"))
    return expected, actual


def times_threshold(drift: Mapping[str, Any]) -> dict[str, float]:
    """The largest ratio of a statistic to its threshold by feature, as the check and the rows of drifted features."""
    times: dict[str, float] = {}
    for row in drift["statistics"]:
        if row["threshold"]:
            times[row["feature"]] = max(times.get(row["feature"], 0.0), row["value"] / row["threshold"])
    return times


def _error(_record: Mapping[str, Any], check: Mapping[str, str]) -> Sentence | None:
    if check["status"] != CheckStatus.ERROR:
        return None
    return Sentence("The check {title} could not be computed, so the status is not known.", {"title": check["title"]})


def _own_rows(record: Mapping[str, Any], _check: Mapping[str, str]) -> Sentence:
    current = record["current"]
    values = {"own": f"{current.get('own', 0):,}", "rows": f"{current.get('sampled', current['rows']):,}"}
    return Sentence(
        "{own} of these {rows} rows are not new: the version was trained or tested on them, so they prove nothing.",
        {**values, "version": _version(record)},
    )


def _out_of_support(record: Mapping[str, Any], check: Mapping[str, str]) -> Sentence | None:
    if not record.get("drift") or check["status"] != CheckStatus.FAILED:
        return None
    values = {"share": f"{record['drift']['out_of_support_rate']:.0%}", "version": _version(record)}
    found = expected_and_actual(record)
    if found is None:
        return Sentence(
            "{share} of these shots lie outside anything that version {version} was trained on, and no label shows "
            "yet how well it predicts there.",
            values,
        )
    values |= _percentages(found)
    if values["expected"] == values["actual"]:
        return Sentence(
            "{share} of these shots lie outside anything that version {version} was trained on; so far it is right "
            "there: it expects {expected}, and {actual} go in.",
            values,
        )
    if found[1] < found[0]:
        return Sentence(
            "{share} of these shots lie outside anything that version {version} was trained on; it expects "
            "{expected}, but only {actual} go in.",
            values,
        )
    return Sentence(
        "{share} of these shots lie outside anything that version {version} was trained on; it expects {expected}, "
        "but {actual} go in.",
        values,
    )


def _degraded(record: Mapping[str, Any], _check: Mapping[str, str]) -> Sentence | None:
    before, after = _losses(record)
    if before is None or after is None:
        return None
    drifted = (record.get("drift") or {}).get("drifted")
    found = expected_and_actual(record)
    if found and len(set(_percentages(found).values())) > 1:
        values = {"version": _version(record), **_percentages(found)}
        if drifted:
            return Sentence("The shots have changed: version {version} expects {expected}, but {actual} go in.", values)
        return Sentence(
            "The shots are like those of the training, but version {version} expects {expected}, and {actual} go in.",
            values,
        )
    values = {"version": _version(record), "before": before, "after": after}
    return Sentence("Version {version} predicts worse than on its test set: log loss {after}, was {before}.", values)


def _drifted(record: Mapping[str, Any], _check: Mapping[str, str]) -> Sentence | None:
    drift = record.get("drift") or {}
    rows = [
        row
        for row in drift.get("statistics") or []
        if row["statistic"] == "wasserstein" and row["feature"] in drift["drifted"]
    ]
    if not rows:
        return None
    times = times_threshold(drift)
    worst = max(rows, key=lambda row: times.get(row["feature"], 0.0))
    values = {
        "count": str(len(drift["drifted"])),
        "column": inner_name(worst["feature"]),
        "shift": f"{worst['value']:.3g} {worst['unit'] or unit_of(worst['feature'])}".strip(),
        "version": _version(record),
    }
    if record["current"]["labeled"] == 0:
        return Sentence(
            "{count} features have drifted, {column} most: by {shift}. No label shows yet whether version {version} "
            "still predicts well.",
            values,
        )
    return Sentence(
        "{count} features have drifted, {column} most: by {shift}. On the labels so far version {version} predicts as "
        "on its test set.",
        values,
    )


def _calibration(record: Mapping[str, Any], _check: Mapping[str, str]) -> Sentence | None:
    found = expected_and_actual(record)
    if found is None or len(set(_percentages(found).values())) == 1:
        return None
    values = {"version": _version(record), **_percentages(found)}
    return Sentence("Version {version} expects {expected}, but {actual} go in.", values)


def _estimated(record: Mapping[str, Any], check: Mapping[str, str]) -> Sentence | None:
    _title, colon, metrics = check["message"].partition("estimated without labels: ")
    if not colon:
        return None
    values = {"version": _version(record), "metrics": readable(metrics).rstrip(".")}
    return Sentence(
        "Version {version} is estimated, without labels, to be worse than on its test set: {metrics}.", values
    )


def _of_check(_record: Mapping[str, Any], check: Mapping[str, str]) -> Sentence:
    return Sentence("{title}: {message}.", {"title": check["title"], "message": readable(check["message"]).rstrip(".")})


def _healthy(record: Mapping[str, Any]) -> Sentence:
    before, after = _losses(record)
    values = {"version": _version(record)}
    if before is None or after is None:
        return Sentence("These shots look like the training shots of version {version}; no label is there yet.", values)
    values |= {"before": before, "after": after, "labeled": f"{record['current']['labeled']:,}"}
    return Sentence(
        "Version {version} predicts these shots as well as its test set: log loss {after}, test set {before}, on "
        "{labeled} labels.",
        values,
    )


def _losses(record: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Log loss on the reference and on the current rows, as shown; None where it is not known."""
    sides = (record["metrics"].get(side) or {} for side in ("reference", "current"))
    values = (side.get("metrics", {}).get("log_loss", {}).get("value") for side in sides)
    before, after = (None if value is None else metric_name("log_loss").format(value) for value in values)
    return before, after


def _percentages(found: tuple[float, float]) -> dict[str, str]:
    return {"expected": f"{found[0]:.0%}", "actual": f"{found[1]:.0%}"}


def _version(record: Mapping[str, Any]) -> str:
    return str(record.get("version") or record.get("champion") or "?")


_SENTENCES: tuple[tuple[str, Callable[[Mapping[str, Any], Mapping[str, str]], Sentence | None]], ...] = (
    (NEW_ROWS, _own_rows),
    ("K204", _error),
    ("K204", _out_of_support),
    *((code, sentence) for code in ("K101", "K102", "K103", "K104") for sentence in (_error, _degraded)),
    ("K301", _estimated),
    ("K201", _drifted),
    ("K105", _calibration),
    ("K202", _of_check),
    ("K203", _of_check),
    ("K204", _of_check),
    ("K402", _of_check),
    ("K403", _of_check),
    ("K404", _of_check),
    ("K106", _of_check),
    ("K107", _of_check),
    ("K401", _of_check),
)
"""Codes from the most fundamental cause to the least, and the sentence of each; the first that applies is reported."""
