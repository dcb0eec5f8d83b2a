"""Drifted features as rows, worst first: name, distributions of reference and current, shift, times the threshold."""

from collections.abc import Sequence

import streamlit as st

from monitor.charts.drift_rows import DriftRow, as_image, drift_rows, sparkline
from monitor.charts.palette import CURRENT, REFERENCE
from monitor.health.evaluation import Evaluation
from monitor.metrics.names import column_name
from monitor.ui.text import _, sentence


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
    cells = [(_("Feature"), ""), (legend, " legend"), (_("Shift"), ""), (_("Times the threshold"), "")]
    html = "".join(f'<div class="head{more}">{cell}</div>' for cell, more in cells)
    alt = _("distributions of reference and current rows")
    for row in rows:
        image = as_image(sparkline(evaluation.baseline.table[row.column], evaluation.current[row.column]), alt)
        mark = sentence(f"{'▲' if row.drifted else '✓'} {row.times:,.1f} ×")
        html += (
            f'<div class="name">{_(column_name(row.column))}</div><div>{image}</div>'
            f'<div class="number">{_shift(row)}</div>'
            f'<div class="number times">{mark} <span style="font-weight:400;opacity:.8">'
            f"{_('drifted') if row.drifted else _('not drifted')}</span></div>"
        )
    return f'<div class="drift">{html}</div>'


def _shift(row: DriftRow) -> str:
    if row.shift != row.shift:
        return "-"
    sign = "+" if row.difference > 0 else "-"
    return f"{sentence(f'{sign}{row.shift:.3g}')} {_(row.unit) if row.unit else ''}".strip()
