"""Performance: metrics of the labeled rows, of the test set and of the data source."""

import numpy as np
import pandas as pd
import streamlit as st

from data.schema import FEATURES, MODEL_VERSION, PREDICTION, PROBABILITY, TARGET
from monitor.charts import layout, performance
from monitor.health.checks import MIN_LABELED
from monitor.health.evaluation import Evaluation
from monitor.metrics import base_rate
from monitor.metrics.binary import METRICS, evaluate, log_loss_by_row
from monitor.metrics.intervals import Performance, metrics_by_slice
from monitor.store.candidates import StoredCandidate
from monitor.store.model_store import current_store
from monitor.ui import cache, subject, widgets
from monitor.ui.cache import ShownEvaluation

_CARDS = {
    "log_loss": "{:.4f}",
    "log_loss_skill": "{:+.1%}",
    "roc_auc": "{:.3f}",
    "f1_score": "{:.3f}",
    "calibration_error": "{:.3f}",
}
_ROWS_SHOWN = 15
_PERCENT = ("rate", "mean_probability", "log_loss_skill")


def show() -> None:
    """Render the page."""
    st.title("Performance")
    with widgets.errors_shown():
        shown = cache.current()
        subject.show(shown.subject)
        if shown.evaluation.labeled.empty:
            kind = "new labeled row" if shown.subject.own else "labeled row"
            st.info(
                f"There is no {kind} yet, so this page shows the test set only. Add labels with "
                "`python -m serving.inference_log.ground_truth FILE`. Until then, see *Estimated performance*.",
                icon=":material/info:",
            )
        elif len(shown.evaluation.labeled) < MIN_LABELED:
            st.warning(
                f"There are only {len(shown.evaluation.labeled):,} new labeled rows. The checks of their metrics "
                f"require {MIN_LABELED}.",
                icon=":material/warning:",
            )
        _show_cards(shown)
    draw = {
        "Metrics": _show_metrics,
        "Curves and calibration": _show_curves,
        "Highest-loss predictions": _show_highest_loss,
        "Slices": _show_slices,
        "Candidate models": _show_candidates,
    }
    widgets.tabs(draw, shown, "performance_tab")


def _samples(shown: ShownEvaluation) -> dict[str, tuple[pd.DataFrame, Performance]]:
    """Labeled rows and their metrics, of the test set first."""
    evaluation = shown.evaluation
    samples = {"test": (evaluation.baseline.table, evaluation.baseline.performance)}
    if len(evaluation.labeled):
        samples[evaluation.name] = (evaluation.labeled, evaluation.performance)
    return samples


def _show_cards(shown: ShownEvaluation) -> None:
    samples = _samples(shown)
    reference = samples["test"][1].metrics
    current = samples.get(shown.evaluation.name, samples["test"])[1].metrics
    for column, (name, form) in zip(st.columns(len(_CARDS)), _CARDS.items(), strict=True):
        value = form.format(current[name]) if name in current else "not defined"
        note = f"test {form.format(reference[name])}" if name in reference and current is not reference else ""
        widgets.card(column, name, value, note, meaning=METRICS[name].meaning)
    for name, (_, measured) in samples.items():
        if compared := base_rate.compare(measured):
            st.caption(f"On {widgets.plain(name)}, version {shown.evaluation.version} is {compared.message}.")


def _show_metrics(shown: ShownEvaluation) -> None:
    samples = _samples(shown)
    rows = pd.DataFrame(
        [
            {"metric": name, "sample": sample, "value": interval.value, "low": interval.low, "high": interval.high}
            for sample, (_, measured) in samples.items()
            for name, interval in measured.intervals().items()
        ]
    )
    widgets.base_figure(performance.metric_intervals(rows, "Metrics with 95% confidence intervals"), "intervals")
    cells = [f"{row.value:.4f} ({row.low:.4f} to {row.high:.4f})" for row in rows.itertuples()]
    wide = rows.assign(cell=cells).pivot(index="metric", columns="sample", values="cell")  # noqa: PD010 each cell is unique
    wide = wide.loc[[name for name in METRICS if name in wide.index], list(samples)]
    wide.insert(0, "meaning", [METRICS[name].meaning for name in wide.index])
    st.dataframe(wide, height=38 + 35 * len(wide))


def _show_curves(shown: ShownEvaluation) -> None:
    samples, threshold = _samples(shown), shown.evaluation.baseline.threshold
    curves: layout.Curves = {
        name: (rows[TARGET].to_numpy(), rows[PROBABILITY].to_numpy()) for name, (rows, _) in samples.items()
    }
    columns = st.columns(3)
    widgets.base_figure(performance.roc(curves, "ROC"), "roc", columns[0])
    widgets.base_figure(performance.precision_recall(curves, "Precision-recall"), "precision_recall", columns[1])
    widgets.base_figure(performance.calibration(curves, "Calibration"), "calibration", columns[2])
    for place, (name, (rows, _)) in enumerate(samples.items()):
        labels, made = rows[TARGET].to_numpy(), rows[PROBABILITY].to_numpy()
        matrix = performance.confusion(labels, (made >= threshold).astype(float), f"Confusion matrix, {name}")
        widgets.base_figure(matrix, f"confusion_{name}", columns[place])
        histogram = performance.probability_histogram(made, labels, threshold, f"P(made) by true class, {name}")
        widgets.base_figure(histogram, f"histogram_{name}", columns[place])


def _show_highest_loss(shown: ShownEvaluation) -> None:
    rows = shown.evaluation.labeled if len(shown.evaluation.labeled) else shown.evaluation.baseline.table
    loss = log_loss_by_row(rows[TARGET], rows[PROBABILITY])
    worst = np.argsort(-loss, kind="stable")[:_ROWS_SHOWN]
    names = [name for name in ("shot_id", *FEATURES, TARGET, PREDICTION, PROBABILITY, MODEL_VERSION) if name in rows]
    st.markdown("The predictions with the highest log loss: confident and wrong.")
    st.dataframe(
        rows.iloc[worst][names].assign(**{"log loss": loss[worst]}),
        hide_index=True,
        column_config={
            PROBABILITY: st.column_config.ProgressColumn("P(made)", min_value=0, max_value=1, format="percent")
        },
    )


def _show_slices(shown: ShownEvaluation) -> None:
    rows = shown.evaluation.labeled if len(shown.evaluation.labeled) else shown.evaluation.baseline.table
    table = _sliced(rows, shown.evaluation.baseline.threshold)
    names = ("slice", "value", "rows", "rate", "mean_probability", "log_loss", "log_loss_low", "log_loss_high")
    more = ("log_loss_skill", "brier", "roc_auc", "f1_score", "accuracy", "calibration_error")
    st.dataframe(
        table[[name for name in (*names, *more) if name in table]],
        hide_index=True,
        height=38 + 35 * len(table),
        column_config={
            "rows": st.column_config.NumberColumn("labeled rows", format="localized"),
            **{name: st.column_config.NumberColumn(format="percent") for name in _PERCENT},
            **{name: st.column_config.NumberColumn(format="%.4f") for name in (*names[5:], *more[1:])},
        },
    )
    st.caption("Slices with fewer than 30 labeled rows have no metrics.")


@st.cache_data(max_entries=4, show_spinner=False)
def _sliced(rows: pd.DataFrame, threshold: float) -> pd.DataFrame:
    return metrics_by_slice(rows, threshold=threshold)


def _show_candidates(shown: ShownEvaluation) -> None:
    version = shown.evaluation.version
    found = cache.all_candidates(current_store(), version)
    if not found:
        widgets.show_prerequisite(
            f"The training run of version {version} holds no candidate models. Train again:",
            "mlflow run . -e treinamento",
        )
        return
    tables = {"test": shown.evaluation.baseline.table}
    if len(shown.evaluation.labeled):
        tables[shown.evaluation.name] = shown.evaluation.labeled
    for sample, rows in tables.items():
        st.subheader(f"{sample}, {len(rows):,} labeled rows")
        _compare(
            sample, rows, {_candidate_label(candidate, version): candidate for candidate in found}, shown.evaluation
        )


def _compare(sample: str, rows: pd.DataFrame, found: dict[str, StoredCandidate], evaluation: Evaluation) -> None:
    labels, threshold = rows[TARGET].to_numpy(), evaluation.baseline.threshold
    curves = {name: (labels, candidate.probability(rows)) for name, candidate in found.items()}
    table = pd.DataFrame(
        {name: evaluate(*curve, threshold=threshold) for name, curve in curves.items()}, index=list(METRICS)
    )
    st.dataframe(
        table.T.rename_axis("candidate"),
        column_config={name: st.column_config.NumberColumn(format="%.4f") for name in table.index},
    )
    columns = st.columns(2)
    widgets.base_figure(performance.roc(curves, "ROC"), f"roc_{sample}", columns[0])
    widgets.base_figure(
        performance.precision_recall(curves, "Precision-recall"), f"precision_recall_{sample}", columns[1]
    )
    for place, (name, (_, made)) in enumerate(curves.items()):
        matrix = performance.confusion(labels, (made >= threshold).astype(float), name)
        widgets.base_figure(matrix, f"confusion_{sample}_{name}", columns[place % 2])


def _candidate_label(candidate: StoredCandidate, version: str) -> str:
    return f"{candidate.name} (version {version})" if candidate.selected else candidate.name


if __name__ == "__main__":
    show()
