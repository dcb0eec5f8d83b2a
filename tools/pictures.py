"""Take the pictures of the docs, of the real app, MLflow's UI and the report: ``python -m tools.pictures``.

After the tour's commands, and while its server runs: what is shown are the runs and models of this folder. Needs
chromium and chromedriver on PATH.
"""

import io
import json
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
from serving import registry
from steps.relatorio import HTML
from steps.shared.tracking import EXPERIMENT

FOLDER = ROOT / "docs" / "images"
WIDTH = 1280
LARGEST = 250_000
"""Bytes of a picture that a page of the docs can afford."""

_SECONDS = 60
_COLOURS = (256, 128, 64)
_LINK, _TAB = "[data-testid=stSidebarNavLink]", "[data-testid=stTab], button[role=tab]"
_DRAWN = "[data-testid=stApp][data-test-script-state=notRunning]"
_PLOT = ".js-plotly-plot .main-svg"
_COLUMNS = (
    ("attributes", "Duration"),
    ("attributes", "Models"),
    ("metrics", "test_log_loss"),
    ("metrics", "prod_log_loss"),
    ("tags", "verdict"),
)


class PicturesConfig(CommandConfig):
    """Take the pictures of the docs."""


class PicturesError(KobeShotError):
    """The pictures cannot be taken here."""


@dataclass(frozen=True)
class Page:
    """A page in a browser."""

    driver: webdriver.Chrome

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for something.

        Raises
        ------
        PicturesError
            If it does not come.
        """
        wait = WebDriverWait(self.driver, _SECONDS, poll_frequency=0.1, ignored_exceptions=[WebDriverException])
        try:
            wait.until(lambda _: condition())
        except WebDriverException as error:
            message = f"waited {_SECONDS} s for {what} at {self.driver.current_url}"
            raise PicturesError(message) from error

    def shows(self, selector: str, words: str = "") -> bool:
        """Whether an element is there that says something."""
        return any(words in element.text for element in self.driver.find_elements(By.CSS_SELECTOR, selector))

    def until_drawn(self, selector: str, words: str = "") -> None:
        """Wait until an element is there and Streamlit has drawn its page."""
        self.until(lambda: self.shows(selector, words) and self.shows(_DRAWN), f"{selector} {words}")

    def click(self, selector: str, words: str = "") -> None:
        """Click on the first element that says something, when it is there."""

        def clicked() -> bool:
            for element in self.driver.find_elements(By.CSS_SELECTOR, selector):
                if words in element.text:
                    element.click()
                    return True
            return False

        self.until(clicked, f"{words or selector} to be clicked")

    def at_rest(self) -> None:
        """Wait until two looks in a row see the same."""
        seen = [b""]

        def same() -> bool:
            seen.append(self.driver.get_screenshot_as_png())
            return seen[-1] == seen[-2]

        self.until(same, "the page to be at rest")

    def picture(self, name: str, height: int) -> None:
        """Write what is seen, in as many colours as fit."""
        size = {"width": WIDTH, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.at_rest()
        FOLDER.mkdir(parents=True, exist_ok=True)
        path = FOLDER / f"{name}.png"
        path.write_bytes(small(self.driver.get_screenshot_as_png()))
        info("Took", f"{path.relative_to(ROOT)}, {path.stat().st_size / 1e3:.0f} kB")


def small(png: bytes) -> bytes:
    """A picture of at most `LARGEST` bytes.

    Raises
    ------
    PicturesError
        If it is larger in the fewest colours.
    """
    with Image.open(io.BytesIO(png)) as picture:
        for colours in _COLOURS:
            written = io.BytesIO()
            picture.convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
            if written.tell() <= LARGEST:
                return written.getvalue()
    message = f"expected a picture of at most {LARGEST:,} bytes; found {written.tell():,}. Show less of the page."
    raise PicturesError(message)


def run(_: PicturesConfig) -> None:
    """Take all of them."""
    with ExitStack() as stack:
        page = Page(stack.enter_context(browser()))
        monitor = stack.enter_context(serving("streamlit", "run", "monitor/app.py", "--server.port"))
        ui = stack.enter_context(serving("mlflow", "ui", "--workers", "1", "--host", "127.0.0.1", "--port"))
        with console.status("taking pictures"):
            _of_the_monitor(page, monitor)
            _of_mlflow(page, ui)
            _of_the_report(page)


def _of_the_monitor(page: Page, address: str) -> None:
    page.driver.get(address)
    for name, link, tab, wanted, height in (
        ("monitor-overview", "Overview", "", "[data-testid=stMetricValue]", 1000),
        ("monitor-court", "Court", "Shots", _PLOT, 1200),
        ("monitor-drift", "Drift", "Statistics and limits", _PLOT, 900),
        ("monitor-loop", "Loop", "", _PLOT, 1000),
    ):
        page.click(_LINK, link)
        page.until_drawn(f"{_LINK}[aria-current]", link)
        if tab:
            page.click(_TAB, tab)
        page.until_drawn(wanted)
        page.picture(name, height)


def _of_mlflow(page: Page, address: str) -> None:
    client = MlflowClient()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        message = f"expected runs of experiment {EXPERIMENT} in {ROOT}; found none. Run: make main"
        raise PicturesError(message)
    number = experiment.experiment_id
    runs = client.search_runs([number])
    view = {
        "selectedColumns": [f"{kind}.`{column}`" for kind, column in _COLUMNS],
        "runsExpanded": {run.info.run_id: True for run in runs},
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
    }
    remembered = {
        "mlflow.workflowType_v1": json.dumps("machine_learning"),
        "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
        "mlflow.assistant.panelOpen_v1": "false",
        f'MLflowLocalStorage-1.1-ExperimentPage-["{number}"]-ReactComponentState': json.dumps(view),
    }
    # A page of the same address that runs no script of the UI, which would write its own view.
    page.driver.get(f"{address}/health")
    for key, value in remembered.items():
        page.driver.execute_script("localStorage.setItem(arguments[0], arguments[1])", key, value)
    page.driver.get(f"{address}/#/experiments/{number}/runs")
    page.until(lambda: page.shows(".ag-row", "PreparacaoDados"), "runs")
    page.picture("mlflow-runs", 330 + 32 * len(runs))
    page.driver.get(f"{address}/#/models/{registry.model()}/versions/1")
    page.until(lambda: page.shows("h3, h4, div[role=button]", "Description"), "version 1")
    page.picture("mlflow-version", 660)


def _of_the_report(page: Page) -> None:
    report = ROOT / HTML
    if not report.exists():
        message = f"expected the report at {report}; found no such file. Run: make main"
        raise PicturesError(message)
    page.driver.get(report.as_uri())
    heading = page.driver.find_element(By.XPATH, "//*[local-name()='svg']/preceding::h2[1]")
    page.driver.execute_script("arguments[0].scrollIntoView()", heading)
    page.picture("relatorio", 900)


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """A Chromium without a window.

    Raises
    ------
    PicturesError
        If it is not installed.
    """
    chromium, driver_path = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver_path):
        message = "expected chromium and chromedriver on PATH. On Debian: apt-get install chromium chromium-driver"
        raise PicturesError(message)
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
    """Run a server of this folder, whose last argument is its port, until the block ends; its address."""
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
        _until_it_answers(f"http://127.0.0.1:{port}", process, shlex.join(command))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _until_it_answers(address: str, process: "subprocess.Popen[bytes]", command: str) -> None:
    deadline = time.monotonic() + _SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(requests.RequestException):
            requests.get(address, timeout=_SECONDS)
            return
        time.sleep(0.1)
    message = f"expected {command} to answer within {_SECONDS} s; found no answer"
    raise PicturesError(message)


if __name__ == "__main__":
    run_command(PicturesConfig, run)
