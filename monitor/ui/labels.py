"""Labels: metrics of the labeled rows, of the test set and of the data source."""

from collections.abc import Hashable
from functools import partial

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from data.datasets import Dataset, worded
from data.schema import PROBABILITY, TARGET
from monitor.charts import layout, performance
from monitor.charts.court_rows import with_label
from monitor.health.checks import MIN_LABELED
from monitor.health.evaluation import Evaluation
from monitor.metrics import base_rate
from monitor.metrics.binary import METRICS, evaluate
from monitor.metrics.intervals import Interval, Performance, metrics_by_slice
from monitor.metrics.names import MetricName, metric_name
from monitor.store.candidates import StoredCandidate
from monitor.store.model_store import current_store
from monitor.ui import cache, widgets
from monitor.ui.cache import ShownEvaluation
from monitor.ui.text import _, sentence

_CARDS = ("log_loss", "log_loss_skill", "roc_auc", "f1_score", "calibration_error")
_CONTROL = ("recall", "specificity", "precision", "accuracy")
_PERCENT = ("rate", "mean_probability", "log_loss_skill")


def show(shown: ShownEvaluation) -> None:
    """Render the section."""
    if shown.evaluation.labeled.empty:
        kind = "new labeled row" if shown.subject.own else "labeled row"
        st.info(
            sentence(
                f"There is no {kind} yet, so this page shows the test set only. Add labels with "
                "`python -m serving.inference_log.ground_truth FILE`. Until then, see *Estimated performance*."
            ),
            icon=":material/info:",
        )
    elif len(shown.evaluation.labeled) < MIN_LABELED:
        st.warning(
            sentence(
                f"There are only {len(shown.evaluation.labeled):,} new labeled rows. The checks of their metrics "
                f"require {MIN_LABELED}."
            ),
            icon=":material/warning:",
        )
    _show_cards(shown)
    draw = {
        "Metrics": _show_metrics,
        "Curves and calibration": _show_curves,
        "Slices": _show_slices,
        "Recall, specificity and precision": _show_control,
        "Candidate models": _show_candidates,
    }
    widgets.tabs(draw, shown, "performance_tab")


def _samples(shown: ShownEvaluation) -> dict[str, tuple[pd.DataFrame, Performance]]:
    """Labeled rows and their metrics, of the test set first."""
    evaluation = shown.evaluation
    samples = {"test": (with_label(evaluation.baseline.table, evaluation.dataset), evaluation.baseline.performance)}
    if len(evaluation.labeled):
        samples[evaluation.name] = (with_label(evaluation.labeled, evaluation.dataset), evaluation.performance)
    return samples


def _show_cards(shown: ShownEvaluation) -> None:
    samples = _samples(shown)
    reference = samples["test"][1]
    current = samples.get(shown.evaluation.name, samples["test"])[1]
    incomparable = _incomparable(reference, current)
    for column, name in zip(st.columns(len(_CARDS)), _CARDS, strict=True):
        before = None if current is reference or name in incomparable else reference.metrics.get(name)
        widgets.metric_card(column, name, current.metrics.get(name), before, compared_with=_("from test"))
    if incomparable:
        st.caption(
            sentence(
                f"The base rate is {reference.rate:.1%} in the test set and {current.rate:.1%} here, which changes log "
                "loss, Brier score and accuracy by itself: compare the skill scores."
            )
        )
    for name, (_rows, measured) in samples.items():
        if compared := base_rate.compare(measured):
            st.caption(sentence(f"On {widgets.plain(name)}, version {shown.evaluation.version} is {compared.message}."))


def _incomparable(reference: Performance, current: Performance) -> frozenset[str]:
    """The metrics that do not compare because the base rates of the samples differ."""
    return base_rate.OF_BASE_RATE if base_rate.differs(reference, current) else frozenset()


def _show_metrics(shown: ShownEvaluation) -> None:
    samples = _samples(shown)
    rows = pd.DataFrame(
        [
            {"metric": name, "sample": sample, "value": interval.value, "low": interval.low, "high": interval.high}
            for sample, (_rows, measured) in samples.items()
            for name, interval in measured.intervals().items()
        ]
    )
    shown_rows = rows.assign(metric=[_(metric_name(name).label) for name in rows["metric"]])
    widgets.base_figure(
        lambda: performance.metric_intervals(shown_rows, _("Metrics with 95% confidence intervals")),
        "intervals",
        of=shown.key,
    )
    _show_comparison(samples, list(METRICS), "metrics")


def _show_comparison(samples: dict[str, tuple[pd.DataFrame, Performance]], names: list[str], key: str) -> None:
    """Show metrics of each sample with intervals, and the change, as a table that can be downloaded."""
    intervals = {sample: measured.intervals() for sample, (_rows, measured) in samples.items()}
    performances = [measured for _rows, measured in samples.values()]
    incomparable = _incomparable(performances[0], performances[-1])
    table = []
    for name in names:
        metric = metric_name(name)
        cells = {
            _(sample): sentence(f"{metric.format(own[name].value)} ({_('to').join(_ends(metric, own[name]))})")
            if name in own
            else "-"
            for sample, own in intervals.items()
        }
        if set(cells.values()) == {"-"}:
            continue
        values = [own[name].value for own in intervals.values() if name in own]
        change = values[-1] - values[0] if len(values) > 1 else 0.0
        worse = None if name in incomparable else metric.is_worse(change)
        arrow = "" if worse is None else f"{'▲' if change > 0 else '▼'} {_('worse') if worse else _('better')}"
        changed = {}
        if len(intervals) > 1:
            text = sentence(f"{widgets.format_change(metric, change)} {arrow}".strip())
            changed[_("change")] = text if len(values) > 1 else "-"
        table.append({_("metric"): _(metric.label), **cells, **changed, _("meaning"): _(metric.meaning)})
    widgets.text_table(table, key)
    widgets.download_table(pd.DataFrame(table), key, f"labels_{key}")


def _ends(metric: MetricName, interval: Interval) -> tuple[str, str]:
    return f"{metric.format(interval.low)} ", f" {metric.format(interval.high)}"


def _show_control(shown: ShownEvaluation) -> None:
    """Show the labeled rows of the operation as the control sample of the course: against the test set."""
    samples = _samples(shown)
    st.caption(
        _(
            "The labeled rows of the data source are a control sample. The model is validated again when a metric is "
            "10% worse than on the test set: recall is the sensitivity."
        )
    )
    _show_comparison(samples, list(_CONTROL), "control_sample")
    if len(samples) < 2:  # noqa: PLR2004 the test set and the control sample
        return
    threshold = shown.evaluation.baseline.threshold
    columns = st.columns(len(samples))
    for column, (name, (rows, _measured)) in zip(columns, samples.items(), strict=True):
        widgets.base_figure(partial(_confusion, rows, threshold, name), f"control_{name}", column, of=shown.key)


def _confusion(rows: pd.DataFrame, threshold: float, title: str) -> go.Figure:
    made = rows[PROBABILITY].to_numpy()
    return performance.confusion(rows[TARGET].to_numpy(), (made >= threshold).astype(float), title)


def _show_curves(shown: ShownEvaluation) -> None:
    samples, threshold = _samples(shown), shown.evaluation.baseline.threshold
    curves: layout.Curves = {
        name: (rows[TARGET].to_numpy(), rows[PROBABILITY].to_numpy()) for name, (rows, _measured) in samples.items()
    }
    columns, of = st.columns(3), shown.key
    widgets.base_figure(lambda: performance.roc(curves, "ROC"), "roc", columns[0], of=of)
    widgets.base_figure(
        lambda: performance.precision_recall(curves, _("Precision-recall")), "precision_recall", columns[1], of=of
    )
    widgets.base_figure(lambda: performance.calibration(curves, _("Calibration")), "calibration", columns[2], of=of)
    for place, (name, (rows, _measured)) in enumerate(samples.items()):
        title = sentence(f"Confusion matrix, {name}")
        widgets.base_figure(partial(_confusion, rows, threshold, title), f"confusion_{name}", columns[place], of=of)
        labels, made = curves[name]
        title = sentence(f"{worded('P(made)')} by true class, {name}")
        histogram = partial(performance.probability_histogram, made, labels, threshold, title)
        widgets.base_figure(histogram, f"histogram_{name}", columns[place], of=of)


def _show_slices(shown: ShownEvaluation) -> None:
    evaluation = shown.evaluation
    is_new = len(evaluation.labeled) > 0
    threshold, dataset = evaluation.baseline.threshold, evaluation.dataset
    test = cache.identity(current_store()), evaluation.version
    reference = _sliced(test, evaluation.baseline.table, threshold, dataset)
    table = _sliced(shown.key, evaluation.labeled, threshold, dataset) if is_new else reference
    name = st.selectbox(
        _("Metric"), ["log_loss", "log_loss_skill", "roc_auc", "calibration_error"],
        format_func=lambda each: _(metric_name(each).label), key="slices_metric", width=260,
    )  # fmt: skip
    whole = evaluation.baseline.performance.metrics.get(str(name))
    widgets.base_figure(
        lambda: performance.forest(
            table, str(name), _(metric_name(str(name)).label), reference=reference if is_new else None, whole=whole
        ),
        "forest",
        of=(shown.key, name),
    )
    names = ("slice", "value", "rows", "rate", "mean_probability", "log_loss", "log_loss_low", "log_loss_high")
    more = ("log_loss_skill", "brier", "roc_auc", "f1_score", "accuracy", "calibration_error")
    kept = table[[each for each in (*names, *more) if each in table]]
    with st.expander(_("All slices as a table"), icon=":material/table_rows:"):
        st.dataframe(
            kept,
            hide_index=True,
            height=38 + 35 * len(table),
            column_config={
                **{
                    each: st.column_config.NumberColumn(
                        _(metric_name(each).label), help=_(metric_name(each).meaning), format="%.4f"
                    )
                    for each in (*names[5:], *more[1:])
                },
                **{
                    each: st.column_config.NumberColumn(
                        _(metric_name(each).label), help=_(metric_name(each).meaning), format="percent"
                    )
                    for each in _PERCENT
                },
                "slice": _("Slice"),
                "value": _("Value"),
                "rows": st.column_config.NumberColumn(_("Labeled rows"), format="localized"),
            },
        )
    widgets.download_table(kept, "slices", "labels_slices")
    st.caption(_("Slices with fewer than 30 labeled rows have no metrics."))


@st.cache_data(max_entries=8, show_spinner=False)
def _sliced(of: Hashable, _rows: pd.DataFrame, threshold: float, _dataset: Dataset) -> pd.DataFrame:
    del of
    return metrics_by_slice(_rows, _dataset, threshold=threshold)


def _show_candidates(shown: ShownEvaluation) -> None:
    version = shown.evaluation.version
    found = cache.all_candidates(current_store(), version)
    if not found:
        widgets.show_prerequisite(
            sentence(f"The training run of version {version} holds no candidate models. Train again:"),
            "mlflow run . -e treinamento",
        )
        return
    tables = {"test": shown.evaluation.baseline.table}
    if len(shown.evaluation.labeled):
        tables[shown.evaluation.name] = shown.evaluation.labeled
    for sample, rows in tables.items():
        st.subheader(sentence(f"{sample}, {len(rows):,} labeled rows"))
        _compare(sample, rows, {_candidate_label(candidate, version): candidate for candidate in found}, shown)


def _compare(sample: str, rows: pd.DataFrame, found: dict[str, StoredCandidate], shown: ShownEvaluation) -> None:
    threshold, of = shown.evaluation.baseline.threshold, shown.key
    curves, table = _of_candidates(of, sample, rows, found, shown.evaluation)
    st.dataframe(
        table.T.rename_axis("candidate"),
        column_config={
            name: st.column_config.NumberColumn(
                _(metric_name(name).label), help=_(metric_name(name).meaning), format="%.4f"
            )
            for name in table.index
        },
    )
    columns = st.columns(2)
    widgets.base_figure(lambda: performance.roc(curves, "ROC"), f"roc_{sample}", columns[0], of=of)
    widgets.base_figure(
        lambda: performance.precision_recall(curves, _("Precision-recall")),
        f"precision_recall_{sample}",
        columns[1],
        of=of,
    )
    for place, (name, (labels, made)) in enumerate(curves.items()):
        matrix = partial(performance.confusion, labels, (made >= threshold).astype(float), name)
        widgets.base_figure(matrix, f"confusion_{sample}_{name}", columns[place % 2], of=of)


@st.cache_resource(max_entries=8, show_spinner=False)
def _of_candidates(
    key: str, sample: str, _rows: pd.DataFrame, _found: dict[str, StoredCandidate], _evaluation: Evaluation
) -> tuple[layout.Curves, pd.DataFrame]:
    """Labels and P(made) of each candidate, and a table of their metrics."""
    del key, sample
    labels, threshold = _rows[_evaluation.baseline.target].to_numpy(), _evaluation.baseline.threshold
    curves = {name: (labels, candidate.probability(_rows)) for name, candidate in _found.items()}
    metrics = {name: evaluate(*curve, threshold=threshold) for name, curve in curves.items()}
    return curves, pd.DataFrame(metrics, index=list(METRICS))


def _candidate_label(candidate: StoredCandidate, version: str) -> str:
    return f"{candidate.name} (version {version})" if candidate.selected else candidate.name
