"""Report of a monitoring run as one HTML file without scripts, external images or network access."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from data.datasets import worded
from data.schema import PROBABILITY
from monitor.charts import palette, static
from monitor.charts.court_rows import has_place, on_court
from monitor.charts.drift_rows import drift_rows, sparkline
from monitor.charts.png import png
from monitor.charts.trust_court import trust_court
from monitor.charts.trust_court_image import image as court_image
from monitor.health.actions import action
from monitor.health.cause import cause, expected_and_actual
from monitor.health.evaluation import Evaluation
from monitor.health.status import CheckStatus
from monitor.health.subject import Subject
from monitor.metrics.binary import METRICS
from monitor.metrics.names import column_name, metric_name, readable
from monitor.store.records import MonitoringRun
from serving import registry

_TEMPLATE = Path(__file__).with_suffix(".html.jinja")
_DOTS_PER_INCH = 110
_RUNS_SHOWN = 10


def report(
    evaluation: Evaluation, record: dict[str, Any], *, synthetic: bool, history: Sequence[MonitoringRun] = ()
) -> str:
    """Render the report of a monitoring run.

    Parameters
    ----------
    evaluation : Evaluation
        The evaluated rows, for the plots.
    record : dict
        The result of `monitor.health.record.to_dict`.
    synthetic : bool
        Whether the shots are synthetic.
    history : sequence of MonitoringRun
        Earlier monitoring runs of the same data source, newest first.

    Returns
    -------
    str
        HTML; values are escaped by Jinja.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": _number, "readable": readable, "column": column_name, "metric": _metric}
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    why = cause(record)
    alarms = [check for check in record["checks"] if CheckStatus(check["status"]).is_alarm]
    return template.render(
        record=record,
        subject=Subject.of_record(record),
        cause=why,
        sentence=why.sentence.text(),
        expected=expected_and_actual(record),
        court=_court(evaluation, record, why.sentence.text()),
        drifted=_drifted(evaluation, record),
        todo=[(check, action(check["code"])) for check in alarms],
        history=[run for run in history if run.health][:_RUNS_SHOWN],
        model=registry.model(),
        words={each: worded(each, evaluation.dataset) for each in ("FG%", "P(made)", "shots")},
        meanings={name: worded(metric.meaning, evaluation.dataset) for name, metric in METRICS.items()},
        names={name: metric_name(name) for name in METRICS},
        colors=palette,
        synthetic=synthetic,
        plots=dict(_plots(evaluation)),
    )


def _court(evaluation: Evaluation, record: dict[str, Any], sentence: str) -> Markup | None:
    """The trust court as the cover; None where the rows have no place, or the support could not be computed."""
    if not has_place(evaluation.current, evaluation.dataset) or not record["drift"]:
        return None
    rows = on_court(evaluation.current, evaluation.dataset)
    target = evaluation.baseline.target
    rows = rows.assign(**{target: rows[target].where(~evaluation.is_own)})
    found = trust_court(rows, evaluation.out_of_support)
    title = f"{Subject.of_record(record).version_name.capitalize()}: {record['status']}"
    return _image(court_image(found, title, sentence), f"Trust court. {found.description}")


def _drifted(evaluation: Evaluation, record: dict[str, Any]) -> list[dict[str, Any]]:
    """The drifted features, worst first, with small distributions; empty where drift could not be computed."""
    if not record["drift"]:
        return []
    return [
        {
            "label": worded("P(made)", evaluation.dataset) if row.column == PROBABILITY else column_name(row.column),
            # The SVG holds numbers only.
            "image": Markup(sparkline(evaluation.baseline.table[row.column], evaluation.current[row.column])),  # noqa: S704
            "shift": "-" if row.shift != row.shift else f"{row.shift:.3g} {row.unit}".strip(),
            "sign": "+" if row.difference > 0 else "-",
            "times": f"{row.times:,.1f}",
            "drifted": row.drifted,
        }
        for row in drift_rows(evaluation)
    ]


def _metric(value: float | None, name: str) -> str:
    return metric_name(name).format(value)


def _plots(evaluation: Evaluation) -> list[tuple[str, Markup]]:
    # Matplotlib omits names that start with _ from a legend, and renders text between two $ as a formula.
    name, reference = (each.replace("$", r"\$") for each in (evaluation.name, evaluation.baseline.name))
    samples = {
        "train": evaluation.baseline.training,
        f"reference: {reference}": evaluation.baseline.table,
        f"current: {name}": evaluation.current,
    }
    columns = [*evaluation.dataset.feature_names, PROBABILITY]
    plots = [("Distributions", static.densities(samples, columns, evaluation.dataset))]
    labels, predicted = (
        evaluation.labeled[evaluation.baseline.target].to_numpy(),
        evaluation.labeled[PROBABILITY].to_numpy(),
    )
    if len(labels) and labels.min() < labels.max():
        title = f"{name}, {len(labels):,} labeled rows"
        plots += [
            ("Calibration", static.calibration(labels, predicted, title)),
            ("ROC", static.roc(labels, {name: predicted}, title)),
            ("Confusion", static.confusion_matrices(labels, {title: predicted}, evaluation.baseline.threshold)),
        ]
    return [(title, _image(figure, title)) for title, figure in plots]


def _image(figure: Figure, name: str) -> Markup:
    data = base64.b64encode(png(figure, _DOTS_PER_INCH)).decode()
    return Markup('<img alt="{}" src="data:image/png;base64,{}">').format(name, data)


def _number(value: float | None) -> str:
    if value is None:
        return "not defined"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"  # noqa: PLR2004 four decimals are for small numbers
