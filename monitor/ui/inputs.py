"""Inputs: how the current rows differ from the reference and training rows."""

from functools import partial

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from data.datasets import worded
from data.schema import PROBABILITY
from monitor.charts import court, monitoring, performance
from monitor.charts.court_rows import on_court
from monitor.charts.drift_rows import drift_rows as drift_rows_of
from monitor.drift.detector import ALPHA, LARGE_PSI, MODERATE_PSI
from monitor.health.checks import MAX_OWN
from monitor.health.evaluation import Evaluation
from monitor.metrics.names import column_name, metric_name
from monitor.ui import cache, drift_rows, widgets
from monitor.ui.cache import ShownEvaluation
from monitor.ui.text import _, sentence


def show(shown: ShownEvaluation) -> None:
    """Render the section."""
    _show_cards(shown.evaluation)
    draw = {
        "Drifted features": _show_rows,
        "Distributions": _show_distributions,
        "Statistics and thresholds": _show_statistics,
        "Domain classifier": _show_classifier,
        **({"Shot locations": _show_locations} if cache.has_court(shown.evaluation) else {}),
    }
    widgets.tabs(draw, shown, "drift_tab")


def _show_rows(shown: ShownEvaluation) -> None:
    evaluation = shown.evaluation
    drift_rows.show(evaluation, key="why_drift")
    rows = pd.DataFrame(drift_rows_of(evaluation))
    widgets.download_table(rows, "drift", "inputs_drift")


def _show_cards(evaluation: Evaluation) -> None:
    columns, found = st.columns(5), evaluation.drift
    drifted, is_evaluated = found.drifted_features, evaluation.own_share <= MAX_OWN
    if is_evaluated:
        note = sentence(f"false alarms: {ALPHA:.0%}")
        meaning = _("False alarms: the nominal share of batches without drift in which drift is detected.")
        widgets.card(columns[0], _("Drift"), _("detected") if found.alarm else _("not detected"), note, meaning=meaning)
    else:
        widgets.card(columns[0], _("Drift"), _("not evaluated"), _("rows are not new"))
    widgets.card(
        columns[1],
        _("Drifted features"),
        sentence(f"{len(drifted)} of {len(evaluation.dataset.features)}"),
        f"{len(drifted) / len(evaluation.dataset.features):.0%}",
        meaning=_(metric_name("drifted_features").meaning),
    )
    note = f"threshold {found.out_of_support_threshold:.1%}"
    widgets.card(
        columns[2], _("Out of support"), f"{found.out_of_support_rate:.1%}", note,
        meaning=_(metric_name("out_of_support_rate").meaning),
    )  # fmt: skip
    if found.classifier:
        note = f"threshold {found.classifier.threshold:.3f}"
        meaning = _(metric_name("domain_classifier_roc_auc").meaning)
        widgets.card(columns[3], _("Classifier AUC"), f"{found.classifier.auc:.3f}", note, meaning=meaning)
    else:
        widgets.card(columns[3], _("Classifier AUC"), _("too few rows"))
    difference = f"shift {found.mean_difference[PROBABILITY]:+.3f}"
    drift = "drifted" if found.has_drifted(PROBABILITY) else "not drifted"
    widgets.card(columns[4], _("P(made)"), drift if is_evaluated else _("not evaluated"), difference)


def _show_distributions(shown: ShownEvaluation) -> None:
    evaluation = shown.evaluation
    columns = [row.column for row in drift_rows_of(evaluation)]
    name = st.segmented_control(
        _("Column"), columns, default=columns[0], key="drift_column",
        format_func=lambda each: _(column_name(each)),
    )  # fmt: skip
    column = name or columns[0]
    samples = {
        label: table[column].to_numpy()
        for label, table in (
            ("train", evaluation.baseline.training),
            ("test", evaluation.baseline.table),
            (evaluation.name, evaluation.current),
        )
        if column in table
    }
    if column != PROBABILITY and not evaluation.dataset.column(column).is_numeric:
        _show_categories(evaluation, column)
        return
    known = None if column == PROBABILITY else evaluation.dataset.column(column)
    whole = known is not None and (known.kind in {"integer", "boolean"} or known.unit == "feet")
    unit = worded("P(made)") if column == PROBABILITY else _(column_name(column, unit=True))
    left, right = st.columns([3, 2])
    of = shown.key, column
    widgets.base_figure(
        lambda: monitoring.distributions(samples, unit, integer_bins=whole, title=_("Share of rows")),
        "distributions",
        left,
        of=of,
    )
    widgets.base_figure(lambda: monitoring.boxes(samples, unit, _("Quartiles")), "boxes", right, of=of)
    if column == PROBABILITY and len(evaluation.labeled):
        _show_by_class(shown)


def _show_categories(evaluation: Evaluation, column: str) -> None:
    shares = {
        label: table[column].value_counts(normalize=True)
        for label, table in (("test", evaluation.baseline.table), (evaluation.name, evaluation.current))
    }
    table = pd.DataFrame(shares).fillna(0.0).sort_values("test", ascending=False).rename_axis(_(column_name(column)))
    st.dataframe(table, column_config={name: st.column_config.NumberColumn(name, format="percent") for name in shares})


def _show_by_class(shown: ShownEvaluation) -> None:
    columns, evaluation = st.columns(2), shown.evaluation
    for place, (label, name) in enumerate(((1, "made"), (0, "missed"))):
        samples = {
            sample: rows.loc[rows[evaluation.baseline.target] == label, PROBABILITY].to_numpy()
            for sample, rows in (("test", evaluation.baseline.table), (evaluation.name, evaluation.labeled))
        }
        title = sentence(worded(f"P(made) of shots that were {name}"))
        draw = partial(monitoring.distributions, samples, worded("P(made)"), integer_bins=False, title=title)
        widgets.base_figure(draw, f"distributions_{name}", columns[place], of=shown.key)
    threshold = evaluation.baseline.threshold
    shares = {
        sample: float(np.mean(rows[PROBABILITY] >= threshold))
        for sample, rows in (("test", evaluation.baseline.table), (evaluation.name, evaluation.current))
    }
    described = ", ".join(f"{share:.1%} of {sample}" for sample, share in shares.items())
    st.caption(sentence(worded(f"Predicted made (P(made) of {threshold:g} or more)") + f": {described}."))


def _show_statistics(shown: ShownEvaluation) -> None:
    found = shown.evaluation.drift
    rows = pd.DataFrame(
        {
            "feature": [_(column_name(each.feature)) for each in found.statistics],
            "statistic": [metric_name(each.name).label for each in found.statistics],
            "value": [each.value for each in found.statistics],
            "threshold": [each.threshold for each in found.statistics],
            "unit": [each.unit for each in found.statistics],
            "p_value": [each.p_value for each in found.statistics],
            "drift": ["▲ above threshold" if each.drifted else "✓ below threshold" for each in found.statistics],
            "mean_difference": [found.mean_difference.get(each.feature, float("nan")) for each in found.statistics],
        }
    )
    used = [metric_name(name) for name in dict.fromkeys(each.name for each in found.statistics)]
    widgets.base_figure(lambda: monitoring.thresholds(rows, _("Ratio to the threshold")), "thresholds", of=shown.key)
    st.dataframe(
        rows,
        hide_index=True,
        height=38 + 35 * len(rows),
        column_config={
            "statistic": st.column_config.TextColumn(
                _("statistic"), help="  \n".join(f"{each.label}: {_(each.meaning)}" for each in used)
            ),
            **{
                name: st.column_config.NumberColumn(format="%.4g") for name in ("value", "threshold", "mean_difference")
            },
            "p_value": st.column_config.NumberColumn(
                _("p-value"), format="%.3f", help=_("Not corrected for multiple tests; the thresholds are.")
            ),
        },
    )
    st.caption(
        sentence(
            f"Null thresholds are estimated from the reference: {ALPHA:.0%} of batches of {found.rows:,} rows without "
            f"drift exceed any of them. A PSI from {MODERATE_PSI} is moderate, from {LARGE_PSI} large."
        )
    )


def _show_classifier(shown: ShownEvaluation) -> None:
    found = shown.evaluation.drift
    if found.classifier is None:
        st.info(_("The domain classifier requires 50 reference rows and 50 current rows."), icon=":material/info:")
        return
    left, right = st.columns([3, 2])
    curves = {"domain classifier": (found.classifier.is_current.astype(float), found.classifier.score)}
    axes = ("false-positive rate (reference rows classified as current), %", "true-positive rate, %")
    widgets.base_figure(
        lambda: performance.roc(curves, _("Current vs. reference rows"), axes=axes), "classifier", left, of=shown.key
    )
    right.markdown(
        sentence(
            "The domain classifier is a gradient boosting that discriminates current rows from reference rows, "
            "evaluated on rows that it was not trained on. Area under the ROC curve: "
            f"**{found.classifier.auc:.3f}**. The chance level is 0.5, the null threshold "
            f"{found.classifier.threshold:.3f}."
        )
    )


def _show_locations(shown: ShownEvaluation) -> None:
    left, right = st.columns(2)
    evaluation, of = shown.evaluation, shown.key

    def draw(rows: pd.DataFrame, title: str) -> go.Figure:
        return court.density_on_court(on_court(rows, evaluation.dataset), title)

    widgets.court_figure(lambda: draw(evaluation.baseline.training, _("Train")), "train", left, of=of)
    widgets.court_figure(lambda: draw(evaluation.current, evaluation.name), "current", right, of=of)
