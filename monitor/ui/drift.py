"""Drift: how far the shots in operation are from those that the model knows."""

import numpy as np
import pandas as pd
import streamlit as st

from data.schema import FEATURES, PROBABILITY, TARGET, feature_column
from monitor.charts import court, monitoring, performance
from monitor.drift.detector import ALPHA, LARGE_PSI, MODERATE_PSI, unit_of
from monitor.health.checks import MOST_OWN
from monitor.health.evaluation import Evaluation
from monitor.ui import cache, subject, widgets

_NAMES = {"ks": "Kolmogorov-Smirnov", "psi": "PSI", "wasserstein": "Wasserstein"}


def show() -> None:
    """Draw the page."""
    st.title("Drift")
    with widgets.format_values():
        shown = cache.current()
        subject.show(shown.subject)
        _show_cards(shown.look)
    draw = {
        "Densities": _show_densities,
        "Statistics and limits": _show_statistics,
        "Reference or current?": _show_classifier,
        "On the court": _show_court,
    }
    widgets.tabs(draw, shown.look, "drift_tab")


def _show_cards(look: Evaluation) -> None:
    columns, found = st.columns(5), look.drift
    drifted, is_judged = found.drifted_features, look.own_share <= MOST_OWN
    if is_judged:
        widgets.card(columns[0], "Drift", "found" if found.alarm else "none", f"{ALPHA:.0%} by chance")
    else:
        widgets.card(columns[0], "Drift", "not judged", "known rows")
    widgets.card(
        columns[1], "Features moved", f"{len(drifted)} of {len(FEATURES)}", f"{len(drifted) / len(FEATURES):.0%}"
    )
    limit = f"chance {found.outside_limit:.1%}"
    widgets.card(columns[2], "Out of support", f"{found.outside:.1%}", limit)
    if found.classifier:
        limit = f"chance {found.classifier.limit:.3f}"
        widgets.card(columns[3], "Classifier, ROC AUC", f"{found.classifier.auc:.3f}", limit)
    else:
        widgets.card(columns[3], "Classifier", "too few rows")
    difference = f"{found.mean_difference[PROBABILITY]:+.3f} on average"
    moved = "moved" if found.has_drifted(PROBABILITY) else "as before"
    widgets.card(columns[4], "P(made)", moved if is_judged else "not judged", difference)


def _show_densities(look: Evaluation) -> None:
    name = st.segmented_control("Column", [*FEATURES, PROBABILITY], default="shot_distance", key="drift_column")
    column = name or "shot_distance"
    samples = {
        label: table[column].to_numpy()
        for label, table in (
            ("train", look.baseline.training),
            ("test", look.baseline.table),
            (look.name, look.current),
        )
        if column in table
    }
    whole = column != PROBABILITY and (
        feature_column(column).kind == "integer" or feature_column(column).unit == "feet"
    )
    unit = "P(made)" if column == PROBABILITY else f"{column}, {unit_of(column)}" if unit_of(column) else column
    left, right = st.columns([3, 2])
    widgets.base_figure(monitoring.densities(samples, unit, whole=whole, title="Share of rows"), "densities", left)
    widgets.base_figure(monitoring.boxes(samples, unit, "Quartiles"), "boxes", right)
    if column == PROBABILITY and len(look.labelled):
        _show_by_class(look)


def _show_by_class(look: Evaluation) -> None:
    columns = st.columns(2)
    for place, (label, name) in enumerate(((1, "made"), (0, "missed"))):
        samples = {
            sample: rows.loc[rows[TARGET] == label, PROBABILITY].to_numpy()
            for sample, rows in (("test", look.baseline.table), (look.name, look.labelled))
        }
        figure = monitoring.densities(samples, "P(made)", whole=False, title=f"P(made) of shots that were {name}")
        widgets.base_figure(figure, f"densities_{name}", columns[place])
    threshold = look.baseline.threshold
    shares = {
        sample: float(np.mean(rows[PROBABILITY] >= threshold))
        for sample, rows in (("test", look.baseline.table), (look.name, look.current))
    }
    told = ", ".join(f"{share:.1%} of {sample}" for sample, share in shares.items())
    st.caption(f"Predicted made (P(made) of {threshold:g} or more): {told}.")


def _show_statistics(look: Evaluation) -> None:
    found = look.drift
    rows = pd.DataFrame(
        {
            "feature": [each.feature for each in found.statistics],
            "statistic": [_NAMES[each.name] for each in found.statistics],
            "value": [each.value for each in found.statistics],
            "limit": [each.limit for each in found.statistics],
            "unit": [each.unit for each in found.statistics],
            "p_value": [each.p_value for each in found.statistics],
            "drift": ["▲ beyond" if each.drifted else "✓ within" for each in found.statistics],
            "mean_difference": [found.mean_difference[each.feature] for each in found.statistics],
        }
    )
    widgets.base_figure(monitoring.limits(rows, "Share of the limit"), "limits")
    st.dataframe(
        rows,
        hide_index=True,
        height=38 + 35 * len(rows),
        column_config={
            **{name: st.column_config.NumberColumn(format="%.4g") for name in ("value", "limit", "mean_difference")},
            "p_value": st.column_config.NumberColumn("p-value", format="%.3f", help="Not corrected; the limit is."),
        },
    )
    st.caption(
        f"Limits come from the reference: of batches of {found.rows:,} rows without drift, {ALPHA:.0%} pass any "
        f"limit. A PSI from {MODERATE_PSI} is called moderate, from {LARGE_PSI} large."
    )


def _show_classifier(look: Evaluation) -> None:
    found = look.drift
    if found.classifier is None:
        st.info("To teach a classifier takes 50 rows on either side.", icon=":material/info:")
        return
    left, right = st.columns([3, 2])
    curves = {"reference or current?": (found.classifier.is_current.astype(float), found.classifier.score)}
    axes = ("reference rows taken for current, %", "current rows taken for current, %")
    figure = performance.roc(curves, "A classifier that tells current from reference rows", axes=axes)
    widgets.base_figure(figure, "classifier", left)
    right.markdown(
        f"Boosted trees were taught to tell current rows from reference rows, and asked about rows they had not seen. "
        f"Area under the ROC curve: **{found.classifier.auc:.3f}**; 0.5 is guessing, and chance alone stays below "
        f"{found.classifier.limit:.3f}."
    )


def _show_court(look: Evaluation) -> None:
    left, right = st.columns(2)
    widgets.base_figure(court.density_on_court(look.baseline.training, "Train"), "train", left)
    widgets.base_figure(court.density_on_court(look.current, look.name), "current", right)


if __name__ == "__main__":
    show()
