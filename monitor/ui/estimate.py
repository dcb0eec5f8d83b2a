"""The estimate: metrics estimated without labels, and the actual ones once labels are there."""

import pandas as pd
import streamlit as st

from data.datasets import worded
from data.schema import PROBABILITY
from monitor.charts import monitoring
from monitor.health.evaluation import Evaluation
from monitor.metrics.names import metric_name
from monitor.ui import widgets
from monitor.ui.cache import ShownEvaluation
from monitor.ui.text import _, sentence


def show(shown: ShownEvaluation) -> None:
    """Render the section."""
    evaluation = shown.evaluation
    found = evaluation.estimate
    columns = st.columns(3)
    widgets.card(columns[0], _("Rows"), f"{found.rows:,}")
    widgets.card(columns[1], _("Rows in support"), f"{found.supported:,}")
    widgets.card(
        columns[2], _("Out-of-support rows"), f"{found.out_of_support:,}", f"{found.out_of_support / found.rows:.1%}",
        meaning=_(metric_name("out_of_support_rate").meaning),
    )  # fmt: skip
    if found.unavailable_reason:
        st.error(
            f"**{_('The estimate is withheld.')}** {widgets.plain(sentence(found.unavailable_reason))}.",
            icon=":material/block:",
        )
    if found.intervals:
        _show_estimate(evaluation, shown.key)
    _show_method(evaluation, shown.key)


def _show_estimate(evaluation: Evaluation, key: str) -> None:
    found, actual = evaluation.estimate, evaluation.actual_performance
    st.subheader(
        sentence(f"Estimate for the {found.supported:,} rows in support"),
        help=_("By CBPE, confidence-based performance estimation: from the calibrated probabilities, without labels."),
    )
    measured = actual.intervals() if actual else {}
    rows = pd.DataFrame(
        [
            {
                "metric": _(metric_name(name).label),
                "estimate": interval.value,
                "low": interval.low,
                "high": interval.high,
                "actual": measured[name].value if name in measured else float("nan"),
                "actual_low": measured[name].low if name in measured else float("nan"),
                "actual_high": measured[name].high if name in measured else float("nan"),
            }
            for name, interval in found.intervals.items()
        ]
    )
    left, right = st.columns([3, 2])
    widgets.base_figure(lambda: monitoring.interval_pair(rows, _("Estimated and actual")), "estimate", left, of=key)
    right.dataframe(
        rows[["metric", "estimate", "low", "high", "actual"]],
        hide_index=True,
        column_config={
            "metric": _("metric"),
            **{
                name: st.column_config.NumberColumn(_(name), format="%.4f")
                for name in ("estimate", "low", "high", "actual")
            },
        },
    )
    right.caption(
        sentence(f"With 95% confidence intervals. {actual.rows if actual else 0:,} of these rows have a label.")
    )


def _show_method(evaluation: Evaluation, key: str) -> None:
    with st.expander(_("Method and assumptions"), icon=":material/help:"):
        intercept, slope = evaluation.baseline.calibration.coefficients
        st.markdown(
            sentence(
                worded(
                    "The estimate is a confidence-based performance estimation (CBPE). If P(made) is calibrated, it "
                    "determines the expected metrics: of 100 shots with P(made) = 0.4, 40 are expected to be made. The "
                    f"calibration is fitted on the test set: logit(FG%) = {intercept:+.3f} {slope:+.3f} × "
                    "logit(P(made)).\n\n"
                    "The estimate is biased under concept drift, that is, when the same shots are made more or less "
                    "often "
                    "than before. Only labels can show that. Out of support, the calibration is unknown, so these "
                    "rows are "
                    "excluded."
                )
            )
        )
        samples = {
            "test": evaluation.baseline.table[PROBABILITY].to_numpy(),
            evaluation.name: evaluation.current[PROBABILITY].to_numpy(),
        }
        widgets.base_figure(
            lambda: monitoring.distributions(samples, worded("P(made)"), integer_bins=False, title=_("P(made)")),
            "probability",
            of=key,
        )
