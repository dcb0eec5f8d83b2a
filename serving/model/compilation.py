"""The compiled form of a pipeline, compared with the pipeline before a version is stored.

A version is served in compiled form only if there is one, and if its probabilities are those of the pipeline on rows
that are drawn for the purpose: at the thresholds of the trees and the doubles next to them, at the ends of the ranges,
with unseen categories and with nulls. Otherwise the pipeline itself is served, and the version has the reason.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn import config_context
from sklearn.pipeline import Pipeline

from serving.model.compiled_pipeline import CompiledPipeline, NotCompilableError

COMPILED, DETAILS = "compiled", "compiled_details"
"""Tags of a version, and keys in the metadata of its model: ``true`` or ``false``; how it was verified, or the reason.
"""
TOLERANCE = 1e-9
"""Largest difference of a probability."""

ROWS = 20_000
"""Rows on which both forms are compared; fewer of them for many trees."""

_MIN_ROWS, _ROWS_OF_TREES = 2_000, 1_000_000
_SAMPLES = 32
_SEED = 19
_SHARE_SPECIAL, _SHARE_WHOLE, _SHARE_NULL = 0.5, 0.5, 0.1


class Compilation(NamedTuple):
    """Whether a version is served in compiled form.

    Attributes
    ----------
    details : str
        How the form was verified, or why there is none.
    samples : dict or None
        Rows and their probabilities, with which a server verifies the form that it builds; None if there is none.
    """

    details: str
    samples: dict[str, list[Any]] | None

    @property
    def tags(self) -> dict[str, str]:
        """The tags that record it."""
        return {COMPILED: "false" if self.samples is None else "true", DETAILS: self.details}


def compile_verified(pipeline: Pipeline, inputs: Sequence[Mapping[str, Any]], rows: int = ROWS) -> Compilation:
    """Compile a pipeline, and compare its compiled form with it.

    Parameters
    ----------
    pipeline : sklearn.pipeline.Pipeline
        Fitted on an array of doubles.
    inputs : sequence of mapping
        Constraints of each column in order: ``name``; ``minimum``, ``maximum``, ``whole``, ``nullable`` where given.
    rows : int
        Rows to compare them on; fewer for many trees.
    """
    try:
        compiled = CompiledPipeline(pipeline, [column["name"] for column in inputs])
    except NotCompilableError as error:
        return Compilation(str(error), None)
    probes = probe_rows(compiled, inputs, rows)
    try:
        with config_context(assume_finite=True), warnings.catch_warnings():
            # An encoder may warn of unseen categories.
            warnings.simplefilter("ignore")
            expected = pipeline.predict_proba(probes)[:, 1]
        found = np.array([compiled(row) for row in probes.tolist()])
    except (ValueError, OverflowError) as error:
        return Compilation(f"the compiled form could not be verified: {error}", None)
    difference = float(np.abs(found - expected).max())
    # A NaN is not equal either.
    if not difference <= TOLERANCE:
        return Compilation(f"the compiled form differs by {difference:.3g} on {len(probes):,} rows", None)
    details = f"{', '.join(compiled.parts)}; largest difference {difference:.1g} on {len(probes):,} rows"
    return Compilation(details, {"rows": probes[:_SAMPLES].tolist(), "probability": expected[:_SAMPLES].tolist()})


def probe_rows(
    compiled: CompiledPipeline, inputs: Sequence[Mapping[str, Any]], rows: int = ROWS
) -> npt.NDArray[np.float64]:
    """Rows to compare both forms on, shape (n, columns); see `compile_verified`."""
    stream = np.random.default_rng(_SEED)
    count = max(min(rows, _MIN_ROWS), min(rows, _ROWS_OF_TREES // max(1, compiled.trees)))
    thresholds = compiled.thresholds
    return np.column_stack(
        [_values(thresholds.get(place, set()), column, count, stream) for place, column in enumerate(inputs)]
    )


def _values(
    thresholds: set[float], column: Mapping[str, Any], count: int, stream: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Uniform numbers of the range; in a part of the rows thresholds, ends, and the doubles next to them, or NaN."""
    low, high = _range(thresholds, column)
    special = np.array([*sorted(thresholds), low, high])
    close = np.concatenate([special, *(_next_to(special, steps) for steps in (-2, -1, 1, 2))])
    is_special = stream.random(count) < _SHARE_SPECIAL
    values = np.where(is_special, stream.choice(close, count), stream.uniform(low, high, count))
    if column.get("whole"):
        values = np.where(stream.random(count) < _SHARE_WHOLE, np.round(values), values)
    if column.get("nullable"):
        values = np.where(stream.random(count) < _SHARE_NULL, np.nan, values)
    return values


def _range(thresholds: set[float], column: Mapping[str, Any]) -> tuple[float, float]:
    """The range of a column; where it is open, as far as the thresholds and as much again."""
    known = [*thresholds, *(end for end in (column.get("minimum"), column.get("maximum")) if end is not None), 0.0, 1.0]
    low, high = min(known), max(known)
    width = high - low
    found = [
        low - width if column.get("minimum") is None else column["minimum"],
        high + width if column.get("maximum") is None else column["maximum"],
    ]
    return float(found[0]), float(max(found))


def _next_to(values: npt.NDArray[np.float64], steps: int) -> npt.NDArray[np.float64]:
    for _ in range(abs(steps)):
        values = np.nextafter(values, np.inf * steps)
    return values
