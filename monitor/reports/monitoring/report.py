"""A look as one HTML file that needs nothing else: no script, no picture beside it, no network."""

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


def report(look: Evaluation, found: dict[str, Any], *, synthetic: bool) -> str:
    """The report of a look.

    Parameters
    ----------
    look : Look
        For the pictures.
    found : dict
        Its `monitor.health.record.to_dict`.
    synthetic : bool
        Whether the shots are simulated.

    Returns
    -------
    str
        HTML; values are escaped by Jinja.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["figure"] = _figure
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    subject = Subject.of_record(found)
    return template.render(
        found=found, subject=subject, meanings=METRICS, synthetic=synthetic, pictures=dict(_pictures(look))
    )


def _pictures(look: Evaluation) -> list[tuple[str, Markup]]:
    # Matplotlib leaves names that begin with _ out of a legend, and reads what is between two $ as a formula.
    name, reference = (each.replace("$", r"\$") for each in (look.name, look.baseline.name))
    samples = {
        "train": look.baseline.training,
        f"reference: {reference}": look.baseline.table,
        f"current: {name}": look.current,
    }
    drawn = [("Where the rows are", static.densities(samples, [*FEATURES, PROBABILITY]))]
    labels, made = look.labeled[TARGET].to_numpy(), look.labeled[PROBABILITY].to_numpy()
    if len(labels) and labels.min() < labels.max():
        title = f"{name}, {len(labels):,} labelled rows"
        drawn += [
            ("Calibration", static.calibration(labels, made, title)),
            ("ROC", static.roc(labels, made, title)),
            ("Confusion", static.confusion_matrix(labels, (made >= look.baseline.threshold).astype(float), title)),
        ]
    return [(title, _image(figure, title)) for title, figure in drawn]


def _image(figure: Figure, name: str) -> Markup:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DOTS_PER_INCH)
    data = base64.b64encode(file.getvalue()).decode()
    return Markup('<img alt="{}" src="data:image/png;base64,{}">').format(name, data)


def _figure(value: float | None) -> str:
    if value is None:
        return "not defined"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"  # noqa: PLR2004 four decimals are for small figures
