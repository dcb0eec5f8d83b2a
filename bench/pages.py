"""Load times and reaction times of the monitor's pages: ``python -m bench.pages``.

Chromium opens the Streamlit app with inference logs of several sizes. *First element* is the time from the click on a
page's link, or from the first load of the app, until the first metric or plot. *Settled* is the time until Streamlit
has rendered the page. *Reaction* is the time from a click on a tab or a filter until the page is rendered again. Each
page is opened twice, the second time with a warm cache. *Server CPU* is what the Streamlit process takes for the second
opening and for the slowest reaction: the machine's other load changes it less than the times.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import numpy as np
import psutil
import requests
from pydantic import Field
from rich.table import Table
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from data.cli.config import CommandConfig, run_command
from data.cli.console import console, info
from data.errors import KobeShotError
from data.paths import ROOT
from data.schema import FEATURES
from data.simulation import synthetic
from serving import registry
from serving.inference_log import reader
from serving.inference_log.inference_log import create_engine, tables

_PAGES = ("Today", "Court", "Why", "Champions", "System")
_TABS = {
    "Court": ("Actual vs. predicted", "Field-goal percentage", "Shots", "Playground", "Trust court"),
    "Why": ("Labels", "Inputs", "Estimated performance", "Errors", "Checks"),
    "System": ("Runs", "Trends", "Traffic"),
}
_LINK = "[data-testid=stTopNavLink]"
_TAB = "button[role=tab], [data-testid=stTab], [data-testid=stButtonGroup] button"
_ELEMENT = ", ".join(
    f"[data-stale=false] {figure}"
    for figure in (
        *("[data-testid=stMetricValue]", ".js-plotly-plot .main-svg", "[data-testid=stDataFrame]"),
        # A component, and a table of text.
        *("[data-testid=stBidiComponentRegular]", "[data-testid=stMarkdownContainer] table"),
    )
)
_SETTLED = "[data-testid=stApp][data-test-script-state=notRunning]"
# Why has no figure of a data source that has not been monitored: the message is what it shows.
_MESSAGE = f"{_SETTLED} [data-stale=false] [data-testid=stAlert]"
_COLUMNS = (
    *("page", "first element, s", "settled, s", "again, s", "reaction, s"),
    *("again: server CPU, s", "reaction: server CPU, s"),
)
_LIMIT_SECONDS = 60
_ROWS_AT_ONCE = 50_000


class PagesConfig(CommandConfig):
    """Measure the pages of the monitor over inference logs of several sizes."""

    rows: tuple[int, ...] = Field(default=(6_000, 1_000_000), description="sizes of the inference log")


class PagesError(KobeShotError):
    """The pages cannot be measured here."""


def run(config: PagesConfig) -> None:
    """Measure each log size with its own Streamlit process."""
    version = registry.number(registry.require_champion())
    driver_path, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if not (driver_path and chromium):
        message = "expected chromium and chromedriver on PATH. On Debian: apt-get install chromium chromium-driver"
        raise PagesError(message)
    for rows in config.rows:
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "log.db"
            with console.status(f"writing a log of {rows:,} rows"):
                fill(log, rows, version)
            with _streamlit(log) as (url, server), _browser(chromium, driver_path) as driver:
                table = Table(*_COLUMNS, title=f"{rows:,} logged rows")
                _measure(driver, url, server, table, "prod")
                driver.find_element(By.XPATH, "//button[contains(., 'Inference log')]").click()
                _settle(driver)
                _measure(driver, url, server, table, "log")
                console.print(table)
    info("Goal:", "first element within 1 s, reaction within 0.5 s")


def fill(path: Path, rows: int, version: str) -> None:
    """Write a log of synthetic shots; a third of them has a label."""
    log, _ = tables(FEATURES)
    engine = create_engine(f"sqlite:///{path}")
    log.metadata.create_all(engine)
    names = ["time", "request_id", "row", "model_version", *FEATURES, "prediction", "probability", "shot_made_flag"]
    marks = ", ".join("?" * len(names))
    statement = f"insert into {log.name} ({', '.join(names)}) values ({marks})"  # noqa: S608 names of this project's schema
    stream, now = np.random.default_rng(0), reader.now()
    shots = synthetic.shots(min(rows, _ROWS_AT_ONCE), 0).rename(columns={"lon": "lng"})
    made = synthetic.true_probability(shots)
    values = shots[list(FEATURES)].astype(float).to_numpy().tolist()
    for start in range(0, rows, len(values)):
        count = min(len(values), rows - start)
        labels = np.where(stream.random(count) < 1 / 3, stream.random(count) < made[:count], -1).tolist()
        entries = [
            (
                str(now - timedelta(seconds=(rows - start - place) / 2)), f"r{start}", place, version, *values[place],
                int(made[place] >= 0.5), float(made[place]), None if labels[place] < 0 else int(labels[place]),  # noqa: PLR2004
            )
            for place in range(count)
        ]  # fmt: skip
        with engine.begin() as connection:
            connection.exec_driver_sql(statement, entries)


def _measure(driver: webdriver.Chrome, url: str, server: psutil.Process, table: Table, source: str) -> None:
    for page in _PAGES:
        if page == _PAGES[0] and source == "prod":
            started, before = time.perf_counter(), ""
            driver.get(url)
        else:
            before = _heading(driver)
            started = _click(driver, _LINK, page)
        first, settled = _wait_until_rendered(driver, started, before)
        _click(driver, _LINK, _PAGES[-1] if page != _PAGES[-1] else _PAGES[0])
        _settle(driver)
        before, used = _heading(driver), _cpu_seconds(server)
        started = _click(driver, _LINK, page)
        again, _ = _wait_until_rendered(driver, started, before)
        again_cpu = _cpu_seconds(server) - used
        reactions = []
        for tab in _TABS.get(page, ()):
            used = _cpu_seconds(server)
            started = _click(driver, _TAB, tab)
            reactions.append((_settle(driver) - started, _cpu_seconds(server) - used))
        slowest = [f"{max(each):.2f}" for each in zip(*reactions, strict=True)] or ["", ""]
        table.add_row(
            *(f"{page} ({source})", f"{first:.2f}", f"{settled:.2f}", f"{again:.2f}", slowest[0]),
            *(f"{again_cpu:.2f}", slowest[1]),
        )


def _cpu_seconds(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)


def _heading(driver: webdriver.Chrome) -> str:
    with suppress(WebDriverException):
        return str(driver.find_element(By.CSS_SELECTOR, "h1").text)
    return ""


def _wait_until_rendered(driver: webdriver.Chrome, started: float, before: str) -> tuple[float, float]:
    """Seconds until the page shows its own heading and a new element, and until it is rendered."""
    deadline = time.monotonic() + _LIMIT_SECONDS
    while _heading(driver) in {"", before} and time.monotonic() < deadline:
        time.sleep(0.01)
    _wait(driver, f"{_ELEMENT}, {_MESSAGE}")
    first = time.perf_counter() - started
    return first, _settle(driver) - started


def _settle(driver: webdriver.Chrome) -> float:
    # Streamlit reports that it is running only after a delay.
    time.sleep(0.1)
    return _wait(driver, _SETTLED)


def _wait(driver: webdriver.Chrome, selector: str) -> float:
    deadline = time.monotonic() + _LIMIT_SECONDS
    while time.monotonic() < deadline:
        with suppress(WebDriverException):
            if driver.find_elements(By.CSS_SELECTOR, selector):
                return time.perf_counter()
        time.sleep(0.01)
    message = f"waited {_LIMIT_SECONDS} s for {selector}"
    raise PagesError(message)


def _click(driver: webdriver.Chrome, selector: str, text: str) -> float:
    """Click on the element with a text, and return when; to find it takes time that a person does not wait for."""
    deadline = time.monotonic() + _LIMIT_SECONDS
    while time.monotonic() < deadline:
        with suppress(WebDriverException):
            for element in driver.find_elements(By.CSS_SELECTOR, selector):
                if text in element.text:
                    clicked = time.perf_counter()
                    element.click()
                    return clicked
        time.sleep(0.01)
    message = f"expected an element with {text!r} to click; found none"
    raise PagesError(message)


@contextmanager
def _streamlit(log: Path) -> Iterator[tuple[str, psutil.Process]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    process = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", "monitor/app.py", "--server.port", str(port)],
        cwd=ROOT,
        env={**os.environ, "KOBE_INFERENCE_LOG": f"sqlite:///{log}"},
        stdout=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + _LIMIT_SECONDS
        while time.monotonic() < deadline:
            with suppress(requests.RequestException):
                if requests.get(f"{url}/_stcore/health", timeout=1).ok:
                    break
            time.sleep(0.05)
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _browser(chromium: str, driver_path: str) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--window-size=1280,900",
    ):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service(driver_path))
    try:
        yield driver
    finally:
        driver.quit()


if __name__ == "__main__":
    run_command(PagesConfig, run)
