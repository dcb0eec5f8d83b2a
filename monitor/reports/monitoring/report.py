"""Report of a monitoring run as one HTML file without scripts, external images or network access."""

import base64
import io
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from data.schema import FEATURES, PROBABILITY, TARGET
from monitor.charts import static
from monitor.health.evaluation import Evaluation
from monitor.health.subject import Subject
from monitor.metrics.binary import METRICS

_TEMPLATE = Path(__file__).with_suffix(".html.jinja")
_DOTS_PER_INCH = 110


def report(evaluation: Evaluation, record: dict[str, Any], *, synthetic: bool) -> str:
    """Render the report of a monitoring run.

    Parameters
    ----------
    evaluation : Evaluation
        The evaluated rows, for the plots.
    record : dict
        The result of `monitor.health.record.to_dict`.
    synthetic : bool
        Whether the shots are synthetic.

    Returns
    -------
    str
        HTML; values are escaped by Jinja.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = _number
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    subject = Subject.of_record(record)
    return template.render(
        record=record, subject=subject, meanings=METRICS, synthetic=synthetic, plots=dict(_plots(evaluation))
    )


def _plots(evaluation: Evaluation) -> list[tuple[str, Markup]]:
    # Matplotlib omits names that start with _ from a legend, and renders text between two $ as a formula.
    name, reference = (each.replace("$", r"\$") for each in (evaluation.name, evaluation.baseline.name))
    samples = {
        "train": evaluation.baseline.training,
        f"reference: {reference}": evaluation.baseline.table,
        f"current: {name}": evaluation.current,
    }
    plots = [("Distributions", static.densities(samples, [*FEATURES, PROBABILITY]))]
    labels, predicted = evaluation.labeled[TARGET].to_numpy(), evaluation.labeled[PROBABILITY].to_numpy()
    if len(labels) and labels.min() < labels.max():
        title = f"{name}, {len(labels):,} labeled rows"
        plots += [
            ("Calibration", static.calibration(labels, predicted, title)),
            ("ROC", static.roc(labels, predicted, title)),
            (
                "Confusion",
                static.confusion_matrix(labels, (predicted >= evaluation.baseline.threshold).astype(float), title),
            ),
        ]
    return [(title, _image(figure, title)) for title, figure in plots]


def _image(figure: Figure, name: str) -> Markup:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DOTS_PER_INCH)
    data = base64.b64encode(file.getvalue()).decode()
    return Markup('<img alt="{}" src="data:image/png;base64,{}">').format(name, data)


def _number(value: float | None) -> str:
    if value is None:
        return "not defined"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"  # noqa: PLR2004 four decimals are for small numbers
