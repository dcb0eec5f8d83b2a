"""Load times and reaction times of the monitor's pages: ``python -m bench.pages``.

Chromium opens the Streamlit app with inference logs of several sizes. `bench/pages.js` measures inside the browser,
from the click, or from the start of the first load in a new browser, until a frame is painted. *First figure*: the
first plot, court or table of the page. *Rendered*: the last change of the page. *Again*: the first figure of a page
that is opened a second time. *Reaction*: from the click on a tab until the last change, of the slowest tab of the
page. *Server CPU*: what the Streamlit process takes; the machine's other load changes it less than the times.

For comparison the same is measured of an app of a heading and one figure, which is the least that Streamlit needs.
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
_COLUMNS = (
    *("page", "first figure, s", "rendered, s", "again, s", "reaction, s"),
    *("again: server CPU, s", "reaction: server CPU, s"),
)
_PROBE = Path(__file__).with_suffix(".js")
_SMALLEST = """
import plotly.graph_objects as go
import streamlit as st

st.title("One figure")
name = st.segmented_control("figure", ["A", "B"], default="A", required=True)
st.plotly_chart(go.Figure(go.Bar(x=["x", "y"], y=[1, 2] if name == "A" else [2, 1])), key=name)
"""
_QUIET_MILLISECONDS = 300
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
            table = Table(*_COLUMNS, title=f"{rows:,} logged rows")
            with _streamlit("monitor/app.py", log) as (url, server), _browser(chromium, driver_path) as driver:
                _measure(driver, url, server, table, "prod")
                _click(driver, _TAB, "Inference log")
                _wait_until_rendered(driver)
                _measure(driver, url, server, table, "log")
                console.print(table)
    with tempfile.TemporaryDirectory() as folder:
        script, table = Path(folder) / "smallest.py", Table(*_COLUMNS[:5], title="the least that Streamlit needs")
        script.write_text(_SMALLEST, encoding="utf-8")
        with _streamlit(str(script)) as (url, _), _browser(chromium, driver_path) as driver:
            driver.get(url)
            first, rendered = _wait_until_rendered(driver)
            _click(driver, _TAB, "B")
            _, reaction = _wait_until_rendered(driver)
            driver.get(url)
            again, _ = _wait_until_rendered(driver)
        table.add_row("heading and one figure", *(f"{each:.2f}" for each in (first, rendered, again, reaction)))
        console.print(table)
    info("Goal:", "first figure within 1 s, reaction within 0.5 s")


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
            driver.get(url)
        else:
            _click(driver, _LINK, page)
        first, rendered = _wait_until_rendered(driver)
        _click(driver, _LINK, _PAGES[-1] if page != _PAGES[-1] else _PAGES[0])
        _wait_until_rendered(driver)
        used = _cpu_seconds(server)
        _click(driver, _LINK, page)
        again, _ = _wait_until_rendered(driver)
        again_cpu = _cpu_seconds(server) - used
        reactions = []
        for tab in _TABS.get(page, ()):
            used = _cpu_seconds(server)
            _click(driver, _TAB, tab)
            reactions.append((_wait_until_rendered(driver)[1], _cpu_seconds(server) - used))
        slowest = [f"{max(each):.2f}" for each in zip(*reactions, strict=True)] or ["", ""]
        table.add_row(
            *(f"{page} ({source})", f"{first:.2f}", f"{rendered:.2f}", f"{again:.2f}", slowest[0]),
            *(f"{again_cpu:.2f}", slowest[1]),
        )


def _cpu_seconds(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)


def _wait_until_rendered(driver: webdriver.Chrome) -> tuple[float, float]:
    """Seconds from the click until the first figure of the page, and until its last change, are painted."""
    deadline = time.monotonic() + _LIMIT_SECONDS
    while time.monotonic() < deadline:
        # A tab has the heading of before, and its first figure is not noted.
        if driver.execute_script(f"return window.benchPages.settled({_QUIET_MILLISECONDS})"):
            first, last = driver.execute_script("return window.benchPages.times()")
            return (first or last) / 1000, last / 1000
        time.sleep(0.05)
    message = f"waited {_LIMIT_SECONDS} s for a page to be rendered"
    raise PagesError(message)


def _click(driver: webdriver.Chrome, selector: str, text: str) -> None:
    deadline = time.monotonic() + _LIMIT_SECONDS
    while time.monotonic() < deadline:
        with suppress(WebDriverException):
            for element in driver.find_elements(By.CSS_SELECTOR, selector):
                if text in element.text:
                    element.click()
                    return
        time.sleep(0.01)
    message = f"expected an element with {text!r} to click; found none"
    raise PagesError(message)


@contextmanager
def _streamlit(script: str, log: Path | None = None) -> Iterator[tuple[str, psutil.Process]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    process = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", script, "--server.port", str(port), "--logger.level", "error"],
        cwd=ROOT,
        env={**os.environ, **({"KOBE_INFERENCE_LOG": f"sqlite:///{log}"} if log else {})},
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
    driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _PROBE.read_text(encoding="utf-8")})
    try:
        yield driver
    finally:
        driver.quit()


if __name__ == "__main__":
    run_command(PagesConfig, run)
