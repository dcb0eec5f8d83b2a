"""Screenshots for the docs of the app, MLflow's UI and the report: ``python -m tools.screenshots``.

Run it after the commands of the tutorial, while its server is running. The screenshots show the runs and models of this
folder. They need chromium and chromedriver on PATH.
"""

import io
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import requests
from mlflow import MlflowClient
from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from data.cli.config import CommandConfig, run_command
from data.cli.console import console, info
from data.errors import KobeShotError
from data.paths import ROOT
from monitor.reports.pipeline import screens
from serving import registry
from steps.relatorio import HTML
from steps.shared.tracking import EXPERIMENT

FOLDER = ROOT / "docs" / "images"
WIDTH = 1280
MAX_BYTES = 250_000
"""Maximum size of an image of the docs, bytes."""

_SECONDS = 60
_COLORS = (256, 128, 64)
_LINK = "[data-testid=stTopNavLink]"
_TAB = "[data-testid=stTab], button[role=tab], [data-testid=stButtonGroup] button"
_RENDERED = "[data-testid=stApp][data-test-script-state=notRunning]"
_PLOT = ".js-plotly-plot .main-svg"


class ScreenshotsConfig(CommandConfig):
    """Take the screenshots of the docs."""


class ScreenshotError(KobeShotError):
    """The screenshots cannot be taken on this machine."""


@dataclass(frozen=True)
class Page:
    """A page in a browser."""

    driver: webdriver.Chrome

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        """Wait for a condition.

        Raises
        ------
        PicturesError
            If the condition is not met in time.
        """
        wait = WebDriverWait(self.driver, _SECONDS, poll_frequency=0.1, ignored_exceptions=[WebDriverException])
        try:
            wait.until(lambda _: condition())
        except WebDriverException as error:
            message = f"waited {_SECONDS} s for {what} at {self.driver.current_url}"
            raise ScreenshotError(message) from error

    def shows(self, selector: str, text: str = "") -> bool:
        """Whether an element with a text exists."""
        return any(text in element.text for element in self.driver.find_elements(By.CSS_SELECTOR, selector))

    def wait_until_rendered(self, selector: str, text: str = "") -> None:
        """Wait until an element exists and Streamlit has rendered the page."""
        self.wait_for(lambda: self.shows(selector, text) and self.shows(_RENDERED), f"{selector} {text}")

    def click(self, selector: str, text: str = "") -> None:
        """Wait for an element with a text and click it."""

        def clicked() -> bool:
            for element in self.driver.find_elements(By.CSS_SELECTOR, selector):
                if text in element.text:
                    element.click()
                    return True
            return False

        self.wait_for(clicked, f"{text or selector} to be clicked")

    def wait_until_stable(self) -> None:
        """Wait until two screenshots in a row are equal."""
        screenshots = [b""]

        def is_stable() -> bool:
            screenshots.append(self.driver.get_screenshot_as_png())
            return screenshots[-1] == screenshots[-2]

        self.wait_for(is_stable, "the page to be stable")

    def screenshot(self, name: str, height: int) -> None:
        """Write a screenshot, with as many colors as fit the maximum size."""
        size = {"width": WIDTH, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.wait_until_stable()
        FOLDER.mkdir(parents=True, exist_ok=True)
        path = FOLDER / f"{name}.png"
        path.write_bytes(compress(self.driver.get_screenshot_as_png()))
        info("Took", f"{path.relative_to(ROOT)}, {path.stat().st_size / 1e3:.0f} kB")


def compress(png: bytes) -> bytes:
    """Compress an image to at most `MAX_BYTES` bytes.

    Raises
    ------
    PicturesError
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
    with ExitStack() as stack:
        page = Page(stack.enter_context(browser()))
        monitor = stack.enter_context(serving("streamlit", "run", "monitor/app.py", "--server.port"))
        ui = stack.enter_context(serving("mlflow", "ui", "--workers", "1", "--host", "127.0.0.1", "--port"))
        with console.status("taking screenshots"):
            _monitor_pages(page, monitor)
            _mlflow_pages(page, ui)
            _report_page(page)


def _monitor_pages(page: Page, url: str) -> None:
    page.driver.get(url)
    for name, link, tab, wanted, height in (
        ("monitor-overview", "Today", "", "[data-testid=stMetricValue]", 1000),
        ("monitor-shot-chart", "Court", "", "[data-testid=stDownloadButton]", 1000),
        ("monitor-drift", "Why", "Inputs", ".drift", 900),
        ("monitor-retraining", "Champions", "", _PLOT, 1000),
    ):
        page.click(_LINK, link)
        page.wait_until_rendered(f"{_LINK}[aria-current]", link)
        if tab:
            page.click(_TAB, tab)
        page.wait_until_rendered(wanted)
        page.screenshot(name, height)
    page.driver.get(f"{url}/?lang=pt")
    page.wait_until_rendered("[data-testid=stMetricValue]")
    page.screenshot("monitor-overview.pt-BR", 1000)


def _mlflow_pages(page: Page, url: str) -> None:
    client = MlflowClient()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        message = f"expected runs of experiment {EXPERIMENT} in {ROOT}; found none. Run: make main"
        raise ScreenshotError(message)
    number = experiment.experiment_id
    runs = client.search_runs([number])
    # A page of the same origin without scripts of the UI, which would overwrite the view.
    page.driver.get(f"{url}/health")
    for key, value in screens.mlflow_view(number, (run.info.run_id for run in runs)).items():
        page.driver.execute_script("localStorage.setItem(arguments[0], arguments[1])", key, value)
    page.driver.get(f"{url}/#/experiments/{number}/runs")
    page.wait_for(lambda: page.shows(".ag-row", "PreparacaoDados"), "runs")
    page.screenshot("mlflow-runs", 330 + 32 * len(runs))
    page.driver.get(f"{url}/#/models/{registry.model()}/versions/1")
    page.wait_for(lambda: page.shows("h3, h4, div[role=button]", "Description"), "version 1")
    page.screenshot("mlflow-version", 660)


def _report_page(page: Page) -> None:
    report = ROOT / HTML
    if not report.exists():
        message = f"expected the report at {report}; found no such file. Run: make main"
        raise ScreenshotError(message)
    page.driver.get(report.as_uri())
    heading = page.driver.find_element(By.XPATH, "//*[local-name()='svg']/preceding::h2[1]")
    page.driver.execute_script("arguments[0].scrollIntoView()", heading)
    page.screenshot("relatorio", 900)


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """Start a headless Chromium.

    Raises
    ------
    PicturesError
        If Chromium is not installed.
    """
    chromium, driver_path = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver_path):
        message = "expected chromium and chromedriver on PATH. On Debian: apt-get install chromium chromium-driver"
        raise ScreenshotError(message)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"):
        options.add_argument(argument)
    options.add_argument("--hide-scrollbars")
    driver = webdriver.Chrome(options=options, service=Service(driver_path))
    try:
        yield driver
    finally:
        driver.quit()


@contextmanager
def serving(*command: str) -> Iterator[str]:
    """Run a server of this folder, whose last argument is its port, until the block ends; yield its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    process = subprocess.Popen(
        [*command, str(port)],
        cwd=ROOT,
        env={**os.environ, "PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_ready(f"http://127.0.0.1:{port}", process, shlex.join(command))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]", command: str) -> None:
    deadline = time.monotonic() + _SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(requests.RequestException):
            requests.get(url, timeout=_SECONDS)
            return
        time.sleep(0.1)
    message = f"expected a response of {command} within {_SECONDS} s; found none"
    raise ScreenshotError(message)


if __name__ == "__main__":
    run_command(ScreenshotsConfig, run)
