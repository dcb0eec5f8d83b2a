"""Drifted features as rows, worst first, and two distributions over the same bins as a small image."""

import base64
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from monitor.charts.palette import CURRENT, REFERENCE
from monitor.health.evaluation import Evaluation

Floats = npt.NDArray[np.float64]

_BINS, _MAX_DISTINCT = 36, 30
_WIDTH, _HEIGHT = 240, 44


class DriftRow(NamedTuple):
    """A column with its drift.

    Attributes
    ----------
    column : str
    times : float
        Largest ratio of a statistic to its threshold; above 1 it has drifted.
    shift : float
        Wasserstein distance, in the unit of the column.
    difference : float
        Difference of the means, current minus reference.
    drifted : bool
    unit : str
        Of the shift; empty for none.
    """

    column: str
    times: float
    shift: float
    difference: float
    drifted: bool
    unit: str


def drift_rows(evaluation: Evaluation) -> list[DriftRow]:
    """The columns of an evaluation, worst first."""
    found = evaluation.drift
    names = list(dict.fromkeys(each.feature for each in found.statistics))
    rows = []
    for name in names:
        own = [each for each in found.statistics if each.feature == name]
        distance = next((each for each in own if each.name == "wasserstein"), None)
        shift, unit = (float(distance.value), distance.unit) if distance else (float("nan"), "")
        difference = float(found.mean_difference.get(name, np.nan))
        rows.append(DriftRow(name, found.times_threshold(name), shift, difference, found.has_drifted(name), unit))
    return sorted(rows, key=lambda row: (not row.drifted, -row.times))


def sparkline(reference: "pd.Series[Any]", current: "pd.Series[Any]") -> str:
    """Two distributions over the same bins as an SVG: the reference is filled, the current one is a line.

    Parameters
    ----------
    reference, current : pandas.Series
        Numbers, or categories, which are bins of their own; missing values are excluded.
    """
    before, after = _numbers(reference, current)
    known = np.concatenate([before, after])
    if not known.size:
        return ""
    distinct = np.unique(known)
    if len(distinct) <= _MAX_DISTINCT:
        step = np.diff(distinct).min() if len(distinct) > 1 else 1.0
        edges = np.concatenate([distinct - step / 2, [distinct[-1] + step / 2]])
    else:
        edges = np.linspace(known.min(), known.max(), _BINS + 1)
    shares = [np.histogram(values, edges)[0] / max(len(values), 1) for values in (before, after)]
    top = max(float(share.max()) for share in shares) or 1.0
    x = (edges - edges[0]) / (edges[-1] - edges[0]) * _WIDTH
    paths = [_steps(x, share / top * (_HEIGHT - 3)) for share in shares]
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none">'
        f'<path d="{paths[0]}L{_WIDTH} {_HEIGHT}L0 {_HEIGHT}Z" fill="{REFERENCE}" fill-opacity=".45"/>'
        f'<path d="{paths[1]}" fill="none" stroke="{CURRENT}" stroke-width="2" '
        'vector-effect="non-scaling-stroke"/></svg>'
    )


def as_image(drawn: str, alt: str) -> str:
    """An SVG as an image element, where HTML is cleaned of SVG, as by Streamlit."""
    named = drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return f'<img alt="{alt}" src="data:image/svg+xml;base64,{base64.b64encode(named.encode()).decode()}">'


def _numbers(reference: "pd.Series[Any]", current: "pd.Series[Any]") -> tuple[Floats, Floats]:
    both = pd.concat([reference, current], ignore_index=True)
    if not pd.api.types.is_numeric_dtype(both):
        codes, _ = pd.factorize(both, sort=True)
        both = pd.Series(codes).where(codes >= 0)
    values = both.to_numpy(dtype=float, na_value=np.nan)
    before, after = values[: len(reference)], values[len(reference) :]
    return before[np.isfinite(before)], after[np.isfinite(after)]


def _steps(x: Floats, height: Floats) -> str:
    points = [f"0 {_HEIGHT}"]
    for left, right, value in zip(x[:-1], x[1:], height, strict=True):
        level = f"{_HEIGHT - value:.1f}"
        points += [f"{left:.1f} {level}", f"{right:.1f} {level}"]
    return f"M{'L'.join(points)}L{_WIDTH} {_HEIGHT}"
