"""How new rows differ from the training rows of a version: how the dataset divides them, and what differs most."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from data.datasets import Dataset, Rows
from monitor.health.cause import Sentence, times_threshold
from monitor.health.evaluation import Evaluation
from monitor.metrics.names import inner_name, unit_of

_TAIL = 0.05
_MOST = f"{1 - _TAIL:.0%}"


def ranges(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    """Where the training rows and the current rows are, for each feature but dates.

    Returns
    -------
    dict
        By feature: ``training`` and ``current``, each the 5% quantile, the mean and the 95% quantile of a number, or
        the share of rows with the value of a category, or with a true boolean; of a category also ``value``, the one
        whose share has changed most.
    """
    found: dict[str, dict[str, Any]] = {}
    for column in evaluation.dataset.features:
        before, after = (rows[column.name].dropna() for rows in (evaluation.baseline.training, evaluation.current))
        if before.empty or after.empty or column.kind == "date":
            continue
        if column.kind in {"category", "string"}:
            shares = pd.concat([_shares(before), _shares(after)], axis=1).fillna(0.0)
            value = shares.diff(axis=1).iloc[:, 1].abs().idxmax()
            own = shares.loc[value].tolist()
            found[column.name] = {"value": str(value), "training": own[:1], "current": own[1:]}
        else:
            of = _share if column.kind == "boolean" else _spread
            found[column.name] = {"training": of(before), "current": of(after)}
    return found


def difference(record: Mapping[str, Any], dataset: Dataset | None) -> list[Sentence]:
    """How the rows of a record differ from the training rows, in up to two sentences; none where nothing has drifted.

    Parameters
    ----------
    record : mapping
        As `monitor.health.record.to_dict` writes it.
    dataset : Dataset or None
        Its development and production; None where the rows, or the training, are not of one of them.
    """
    drift = record.get("drift") or {}
    if not drift.get("drifted"):
        return []
    divided = _division(dataset) if dataset else None
    return [each for each in (divided, _moved_most(drift)) if each]


def _division(dataset: Dataset) -> Sentence | None:
    development, production = dataset.development, dataset.production
    known, kinds = {"column": inner_name(production.column)}, [key for key, _value in production.constants]
    if {*kinds, *(key for key, _value in development.constants)} == {"values"} and (
        production.column == development.column
    ):
        return Sentence(
            "It was trained on shots with {column} {before}; these shots have {column} {after}.",
            {**known, "before": _joined(development), "after": _joined(production)},
        )
    if kinds == ["since"]:
        values = {**known, "since": _joined(production)}
        if not isinstance(production.since, str):
            return Sentence(
                "It was trained on shots with {column} below {since}; these shots have {since} or more.", values
            )
        return Sentence("It was trained on the shots before {column} {since}; these are the shots since then.", values)
    return None


def _moved_most(drift: Mapping[str, Any]) -> Sentence | None:
    known, times = drift.get("ranges") or {}, times_threshold(drift)
    moved = [name for name in drift["drifted"] if name in known]
    if not moved:
        return None
    name = max(moved, key=lambda each: times.get(each, 0.0))
    before, after = known[name]["training"], known[name]["current"]
    values = {"column": inner_name(name), "most": _MOST, "unit": unit_of(name)}
    if len(before) == 1:
        values |= {"before": f"{before[0]:.0%}", "after": f"{after[0]:.0%}", "value": known[name].get("value", "")}
        if values["value"]:
            return Sentence(
                "What differs most is the {column}: {value} is {before} of the training shots and {after} of these.",
                values,
            )
        return Sentence(
            "What differs most is {column}: true for {before} of the training shots and {after} of these.", values
        )
    if after[0] > before[2]:
        values |= _numbers(before[2], after[0])
        return Sentence(
            "What differs most is the {column}: at most {before} {unit} for {most} of the training shots, at least "
            "{after} {unit} for {most} of these.",
            values,
        )
    if after[2] < before[0]:
        values |= _numbers(before[0], after[2])
        return Sentence(
            "What differs most is the {column}: at least {before} {unit} for {most} of the training shots, at most "
            "{after} {unit} for {most} of these.",
            values,
        )
    values |= _numbers(before[1], after[1])
    return Sentence(
        "What differs most is the {column}: on average {before} {unit} for the training shots, {after} {unit} for "
        "these.",
        values,
    )


def _shares(values: "pd.Series[Any]") -> "pd.Series[Any]":
    return values.astype(str).value_counts(normalize=True)


def _share(values: "pd.Series[Any]") -> list[float]:
    return [float(values.astype(float).mean())]


def _spread(values: "pd.Series[Any]") -> list[float]:
    numbers = values.to_numpy(dtype=float)
    low, high = np.quantile(numbers, [_TAIL, 1 - _TAIL])
    return [float(low), float(numbers.mean()), float(high)]


def _numbers(before: float, after: float) -> dict[str, str]:
    """Two numbers with three significant digits, or as many more as make them differ."""
    texts = [""]
    for digits in range(3, 9):
        texts = [np.format_float_positional(value, digits, fractional=False, trim="-") for value in (before, after)]
        if texts[0] != texts[1]:
            break
    return dict(zip(("before", "after"), texts, strict=True))


def _joined(rows: Rows) -> str:
    return ", ".join(str(value) for _key, value in rows.constants)
