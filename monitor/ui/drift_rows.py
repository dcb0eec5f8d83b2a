"""Drifted features as rows, worst first: name, distributions of reference and current, shift, times the threshold."""

import base64
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import streamlit as st

from data.schema import PROBABILITY
from monitor.charts.palette import CURRENT, REFERENCE
from monitor.health.evaluation import Evaluation
from monitor.metrics.names import column_name, unit_of
from monitor.ui.text import _

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
    """

    column: str
    times: float
    shift: float
    difference: float
    drifted: bool


def drift_rows(evaluation: Evaluation) -> list[DriftRow]:
    """The columns of an evaluation, worst first."""
    found = evaluation.drift
    names = list(dict.fromkeys(each.feature for each in found.statistics))
    rows = []
    for name in names:
        own = [each for each in found.statistics if each.feature == name]
        times = max((each.value / each.threshold for each in own if each.threshold), default=0.0)
        shift = next((each.value for each in own if each.name == "wasserstein"), float("nan"))
        rows.append(
            DriftRow(
                name,
                float(times),
                float(shift),
                float(found.mean_difference.get(name, np.nan)),
                found.has_drifted(name),
            )
        )
    return sorted(rows, key=lambda row: (not row.drifted, -row.times))


def show(evaluation: Evaluation, *, key: str, limit: int = 0) -> None:
    """Show the rows, all of them or the worst.

    Parameters
    ----------
    evaluation : Evaluation
    key : str
        Unique on the page.
    limit : int
        0 for all.
    """
    rows = drift_rows(evaluation)
    with st.container(key=key):
        st.html(_table(evaluation, rows[:limit] if limit else rows))


def _table(evaluation: Evaluation, rows: Sequence[DriftRow]) -> str:
    legend = (
        f'<span style="color:{REFERENCE}">■</span> {_("reference")} &nbsp; '
        f'<span style="color:{CURRENT}">■</span> {_("current")}'
    )
    cells = [_("Feature"), legend, _("Shift"), _("Times the threshold")]
    html = "".join(f'<div class="head">{cell}</div>' for cell in cells)
    for row in rows:
        before, after = (
            table[row.column].to_numpy(dtype=float) for table in (evaluation.baseline.table, evaluation.current)
        )
        mark = f"▲ {row.times:,.1f}×" if row.drifted else f"✓ {row.times:,.1f}×"
        html += (
            f'<div class="name">{_(column_name(row.column))}</div><div>{sparkline(before, after)}</div>'
            f'<div class="number">{_shift(row)}</div>'
            f'<div class="number times">{mark} <span style="font-weight:400;opacity:.8">'
            f"{_('drifted') if row.drifted else _('not drifted')}</span></div>"
        )
    return f'<div class="drift">{html}</div>'


def _shift(row: DriftRow) -> str:
    unit = "" if row.column == PROBABILITY else unit_of(row.column)
    sign = "+" if row.difference > 0 else "-"
    return f"{sign}{row.shift:.3g} {_(unit) if unit else ''}".strip()


def sparkline(reference: npt.NDArray[np.float64], current: npt.NDArray[np.float64]) -> str:
    """Two distributions over the same bins as a small image: the reference is filled, the current one is a line."""
    known = np.concatenate([reference[np.isfinite(reference)], current[np.isfinite(current)]])
    if not known.size:
        return ""
    distinct = np.unique(known)
    if len(distinct) <= _MAX_DISTINCT:
        step = np.diff(distinct).min() if len(distinct) > 1 else 1.0
        edges = np.concatenate([distinct - step / 2, [distinct[-1] + step / 2]])
    else:
        edges = np.linspace(known.min(), known.max(), _BINS + 1)
    shares = [np.histogram(values, edges)[0] / max(len(values), 1) for values in (reference, current)]
    top = max(float(share.max()) for share in shares) or 1.0
    x = (edges - edges[0]) / (edges[-1] - edges[0]) * _WIDTH
    paths = [_steps(x, share / top * (_HEIGHT - 3)) for share in shares]
    drawn = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none">'
        f'<path d="{paths[0]}L{_WIDTH} {_HEIGHT}L0 {_HEIGHT}Z" fill="{REFERENCE}" fill-opacity=".45"/>'
        f'<path d="{paths[1]}" fill="none" stroke="{CURRENT}" stroke-width="2" '
        'vector-effect="non-scaling-stroke"/></svg>'
    )
    # Streamlit removes an SVG from HTML, but not an image.
    encoded = base64.b64encode(drawn.encode()).decode()
    return f'<img alt="{_("distributions of reference and current rows")}" src="data:image/svg+xml;base64,{encoded}">'


def _steps(x: npt.NDArray[np.float64], height: npt.NDArray[np.float64]) -> str:
    points = [f"0 {_HEIGHT}"]
    for left, right, value in zip(x[:-1], x[1:], height, strict=True):
        level = f"{_HEIGHT - value:.1f}"
        points += [f"{left:.1f} {level}", f"{right:.1f} {level}"]
    return f"M{'L'.join(points)}L{_WIDTH} {_HEIGHT}"
