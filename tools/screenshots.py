"""Screenshots for the docs of the app, MLflow's UI and the report: ``python -m tools.screenshots``.

Run it after the commands of the tutorial, while its server is running. The screenshots show the runs and models of this
folder. They need Chromium on PATH.
"""

import io
import json

from mlflow import MlflowClient
from PIL import Image

from data.cli.config import CommandConfig, run_command
from data.cli.console import console, info
from data.errors import KobeShotError
from data.paths import ROOT
from monitor.reports import chromium
from monitor.reports.pipeline import screens
from serving import registry
from steps.relatorio import HTML
from steps.shared.tracking import EXPERIMENT

FOLDER = ROOT / "docs" / "images"
WIDTH = 1280
MAX_BYTES = 250_000
"""Maximum size of an image of the docs, bytes."""

_COLORS = (256, 128, 64)
_RENDERED = "[data-testid=stApp][data-test-script-state=notRunning]"
_METRIC = "[data-testid=stMetricValue]"
_APP = (
    ("monitor-overview", "", _METRIC, 1000),
    ("monitor-shot-chart", "court", "[data-testid=stDownloadButton]", 1000),
    ("monitor-drift", "why?section=inputs", ".drift", 900),
    ("monitor-retraining", "champions", ".js-plotly-plot .main-svg", 1000),
    ("monitor-overview.pt-BR", "?lang=pt", _METRIC, 1000),
)
"""Image, path, an element that is waited for, and height, of each page of the app."""
_SECTION = "document.evaluate(\"//*[local-name()='svg']/preceding::h2[1]\", document, null, 9).singleNodeValue"
"""The section of the report with its first figure."""


class ScreenshotsConfig(CommandConfig):
    """Take the screenshots of the docs."""


class ScreenshotError(KobeShotError):
    """The screenshots cannot be taken on this machine."""


def compress(png: bytes) -> bytes:
    """Compress an image to at most `MAX_BYTES` bytes.

    Raises
    ------
    ScreenshotError
        If the image is larger with the fewest colors.
    """
    with Image.open(io.BytesIO(png)) as screenshot:
        for colors in _COLORS:
            written = io.BytesIO()
            screenshot.convert("RGB").quantize(colors, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
            size = written.tell()
            if size <= MAX_BYTES:
                return written.getvalue()
    message = f"expected an image of at most {MAX_BYTES:,} bytes; found {size:,}. Show less of the page."
    raise ScreenshotError(message)


def run(_: ScreenshotsConfig) -> None:
    """Take all screenshots."""
    with chromium.browser() as page, console.status("taking screenshots"):
        with screens.app() as url:
            for name, path, wanted, height in _APP:
                _open(page, f"{url}/{path}", f"{_element(_RENDERED)} && {_element(wanted)}")
                _take(page, name, height)
        with screens.mlflow_ui() as url:
            _mlflow_pages(page, url)
        _report_page(page)


def _mlflow_pages(page: chromium.Browser, url: str) -> None:
    client = MlflowClient()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        message = f"expected runs of experiment {EXPERIMENT} in {ROOT}; found none. Run: make main"
        raise ScreenshotError(message)
    number = experiment.experiment_id
    runs = client.search_runs([number])
    screens.set_mlflow_view(page, url, number, (run.info.run_id for run in runs))
    _open(page, f"{url}/#/experiments/{number}/runs", "document.querySelector('.ag-row')")
    _take(page, "mlflow-runs", 330 + 32 * len(runs))
    _open(page, f"{url}/#/models/{registry.model()}/versions/1", screens.VERSION_READY)
    _take(page, "mlflow-version", 660)


def _report_page(page: chromium.Browser) -> None:
    report = ROOT / HTML
    if not report.exists():
        message = f"expected the report at {report}; found no such file. Run: make main"
        raise ScreenshotError(message)
    _open(page, report.as_uri(), _SECTION)
    page.evaluate(f"{_SECTION}.scrollIntoView()")
    _take(page, "relatorio", 900)


def _open(page: chromium.Browser, url: str, ready: str) -> None:
    page.open(url, ready, width=WIDTH)
    if not page.evaluate(f"Boolean({ready})"):
        message = f"{url} was not complete in time: {ready}"
        raise ScreenshotError(message)


def _take(page: chromium.Browser, name: str, height: int) -> None:
    """Write a screenshot, with as many colors as fit the maximum size."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.png"
    path.write_bytes(compress(page.image(width=WIDTH, height=str(height))))
    info("Took", f"{path.relative_to(ROOT)}, {path.stat().st_size / 1e3:.0f} kB")


def _element(selector: str) -> str:
    return f"document.querySelector({json.dumps(selector)})"


if __name__ == "__main__":
    run_command(ScreenshotsConfig, run)
