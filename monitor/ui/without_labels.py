"""Without labels: what the metrics must be if P(made) still means what it meant, and what they turned out to be."""

import pandas as pd
import streamlit as st

from data.schema import PROBABILITY
from monitor.charts import monitoring
from monitor.health.evaluation import Evaluation
from monitor.ui import cache, subject, widgets


def show() -> None:
    """Draw the page."""
    st.title("Without labels")
    with widgets.format_values():
        shown = cache.current()
        subject.show(shown.subject)
        look = shown.look
        found = look.estimate
        columns = st.columns(3)
        widgets.card(columns[0], "Rows", f"{found.rows:,}")
        widgets.card(columns[1], "Inside the training support", f"{found.supported:,}")
        widgets.card(columns[2], "Outside", f"{found.outside:,}", f"{found.outside / found.rows:.1%}")
        if found.refused:
            st.error(f"**Nothing is promised of this table.** {found.refused}.", icon=":material/block:")
        if found.intervals:
            _show_estimate(look)
        _show_meaning(look)


def _show_estimate(look: Evaluation) -> None:
    found, realised = look.estimate, look.realised
    st.subheader(f"Expected of the {found.supported:,} rows inside the training support")
    seen = realised.intervals() if realised else {}
    rows = pd.DataFrame(
        [
            {
                "metric": name,
                "estimate": interval.value,
                "low": interval.low,
                "high": interval.high,
                "realised": seen[name].value if name in seen else float("nan"),
                "realised_low": seen[name].low if name in seen else float("nan"),
                "realised_high": seen[name].high if name in seen else float("nan"),
            }
            for name, interval in found.intervals.items()
        ]
    )
    left, right = st.columns([3, 2])
    widgets.base_figure(monitoring.interval_pair(rows, "Expected and realised"), "estimate", left)
    right.dataframe(
        rows[["metric", "estimate", "low", "high", "realised"]],
        hide_index=True,
        column_config={
            name: st.column_config.NumberColumn(format="%.4f") for name in ("estimate", "low", "high", "realised")
        },
    )
    labelled = f"{realised.rows:,} of these rows have a label" if realised else "none of these rows has a label yet"
    right.caption(f"95 % intervals; {labelled}.")


def _show_meaning(look: Evaluation) -> None:
    with st.expander("How this is known, and when it is wrong", icon=":material/help:"):
        intercept, slope = look.baseline.calibration.coefficients
        st.markdown(
            "If P(made) is calibrated, the metrics follow from it alone: of a hundred shots of P(made) 0.4, forty go "
            "in (confidence-based performance estimation). What P(made) means is learned from the test rows: "
            f"log-odds of the rate = {intercept:+.3f} {slope:+.3f} × log-odds of P(made). \n\n"
            "It is wrong when the same shots go in more or less often than they did (concept drift), which nothing but "
            "labels can show, and outside the training support, where nobody knows what P(made) means."
        )
        samples = {"test": look.baseline.table[PROBABILITY].to_numpy(), look.name: look.current[PROBABILITY].to_numpy()}
        widgets.base_figure(monitoring.densities(samples, "P(made)", whole=False, title="P(made)"), "probability")


if __name__ == "__main__":
    show()
