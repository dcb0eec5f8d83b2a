"""Errors: where predictions lose most, grouped where the model predicts the same probability."""

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from data.datasets import Dataset, worded
from data.schema import MODEL_VERSION, PROBABILITY, TARGET
from monitor.charts import performance
from monitor.charts.court_rows import with_label
from monitor.metrics.binary import log_loss_by_row
from monitor.metrics.names import column_name
from monitor.metrics.rates import wilson
from monitor.ui import widgets
from monitor.ui.cache import ShownEvaluation
from monitor.ui.text import _

_ROWS_SHOWN, _GROUPS_SHOWN = 15, 20
_FEWEST = 20
"""Rows of a group, unless there are fewer."""
_SAME = 4
"""Digits to which probabilities are the same."""


def show(shown: ShownEvaluation) -> None:
    """Render the section."""
    evaluation = shown.evaluation
    labeled = evaluation.labeled if len(evaluation.labeled) else evaluation.baseline.table
    rows = with_label(labeled, evaluation.dataset)
    if not len(evaluation.labeled):
        st.info(_("There is no labeled row yet, so these are errors on the test set."), icon=":material/info:")
    groups = tied_groups(rows)
    st.subheader(_("Where the loss is"))
    grouped = (
        _("Rows with the same P(made) are one group: a tree predicts one probability per leaf.")
        if _has_ties(rows)
        else _("Rows with a similar P(made) are one group.")
    )
    lost = _(
        "A group loses more than it must when its FG% is not its P(made). Avoidable loss: rows times the gap, in total "
        "log loss."
    )
    st.caption(f"{grouped} {lost}")
    left, right = st.columns([1, 1])
    widgets.base_figure(
        lambda: performance.tied_groups(groups, _("P(made) against FG% by group")), "ties", left, of=shown.key
    )
    with right:
        st.dataframe(
            groups.head(_GROUPS_SHOWN),
            hide_index=True,
            height=38 + 35 * min(len(groups), 10),
            column_config=_group_columns(),
        )
    widgets.download_table(groups, "errors_by_probability", "errors_groups")
    st.subheader(_("Highest-loss predictions"))
    _show_worst(rows, evaluation.dataset)


def tied_groups(rows: pd.DataFrame) -> pd.DataFrame:
    """Group labeled rows by P(made), the group with the largest avoidable loss first.

    Returns
    -------
    pandas.DataFrame
        ``probability``, ``rows``, ``rate``, ``low``, ``high``, ``loss`` (mean log loss) and ``avoidable``: the log loss
        in total that the FG% of the group would save.
    """
    made, probability = rows[TARGET].to_numpy(dtype=float), rows[PROBABILITY].to_numpy(dtype=float)
    place = np.unique(np.round(probability, _SAME), return_inverse=True)[1]
    if not _has_ties(rows):
        bins = min(_GROUPS_SHOWN, max(1, len(rows) // _FEWEST))
        place = np.minimum((np.argsort(np.argsort(probability, kind="stable")) * bins) // max(len(rows), 1), bins - 1)
    count = np.bincount(place)
    kept = count > 0
    total = np.bincount(place, weights=made)
    loss = np.bincount(place, weights=log_loss_by_row(made, probability))
    mean = np.bincount(place, weights=probability)
    count, total, loss, mean = (each[kept] for each in (count, total, loss, mean))
    rate = total / count
    with np.errstate(divide="ignore", invalid="ignore"):
        best = -np.where(rate > 0, rate * np.log(rate), 0) - np.where(rate < 1, (1 - rate) * np.log(1 - rate), 0)
    low, high = wilson(total, count)
    found = pd.DataFrame(
        {
            "probability": mean / count, "rows": count, "rate": rate, "low": low, "high": high, "loss": loss / count,
            "avoidable": np.maximum(loss - best * count, 0),
        }
    )  # fmt: skip
    return found.sort_values("avoidable", ascending=False, ignore_index=True)


def _has_ties(rows: pd.DataFrame) -> bool:
    """Whether many rows share each P(made); else groups are bins of equal size."""
    return rows[PROBABILITY].round(_SAME).nunique() <= len(rows) / 10


def _group_columns() -> dict[str, Any]:
    percent = {
        name: st.column_config.NumberColumn(label, format="percent")
        for name, label in (
            ("probability", worded("P(made)")),
            ("rate", worded("FG%")),
            ("low", _("95% CI, low")),
            ("high", _("95% CI, high")),
        )
    }
    return percent | {
        "rows": st.column_config.NumberColumn(_("Rows"), format="localized"),
        "loss": st.column_config.NumberColumn(_("Log loss"), format="%.4f"),
        "avoidable": st.column_config.NumberColumn(_("Avoidable loss"), format="%.1f"),
    }


def _show_worst(rows: pd.DataFrame, dataset: Dataset) -> None:
    loss = log_loss_by_row(rows[TARGET], rows[PROBABILITY])
    worst = np.argsort(-loss, kind="stable")[:_ROWS_SHOWN]
    rows = rows.rename(columns={TARGET: dataset.target.name})
    predicted = (dataset.id.name, PROBABILITY, dataset.target.name)
    names = [name for name in (*predicted, *dataset.feature_names, MODEL_VERSION) if name in rows]
    st.caption(_("The predictions with the highest log loss: confident and wrong."))
    table = rows.iloc[worst][names]
    table.insert(len(predicted), "log_loss", loss[worst])
    columns: dict[str, Any] = {name: st.column_config.Column(_(column_name(name, unit=True))) for name in names}
    for column in dataset.features:
        if column.unit == "degrees":
            columns[column.name] = st.column_config.NumberColumn(_(column_name(column.name)), format="%.4f")
    columns["log_loss"] = st.column_config.NumberColumn(_("Log loss"), format="%.3f")
    columns[PROBABILITY] = st.column_config.ProgressColumn(_("P(made)"), min_value=0, max_value=1, format="percent")
    st.dataframe(table, hide_index=True, column_config=columns)
    widgets.download_table(table, "highest_loss", "errors_worst")
