"""The monitor in Chromium, with a run of main and a production server."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from serving.inference_log import reader
from tests import fork_server
from tests.project import REAL, Checkout, end_group, environment, free_port, ok, run_production_server, wait_until

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
PAGES = ("Today", "Court", "Why", "Champions", "System")
FORMER = {
    "overview": "Today",
    "shot_chart": "Court",
    "performance": "Why",
    "drift": "Why",
    "estimated_performance": "Why",
    "retraining": "Champions",
    "playground": "Court",
    "runs_and_registry": "System",
}
AXE = Path(os.environ.get("AXE_CORE", "node_modules/axe-core/axe.min.js"))
RUN_AXE = (
    "const done = arguments[0];"
    "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']})"
    ".then((found) => done(found.violations));"
)
CHOICE = "[data-testid=stButtonGroup] button"

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs Debian's chromium and chromium-driver, which .ci/run installs"
)


class Monitor:
    """The app in a browser."""

    def __init__(self, driver: webdriver.Chrome, url: str, checkout: Checkout, server: str, log: str) -> None:
        self.driver, self.url, self.checkout, self.server, self.log = driver, url, checkout, server, log

    def find(self, selector: str) -> list[WebElement]:
        """Elements on the page."""
        return list(self.driver.find_elements(By.CSS_SELECTOR, selector))

    def text(self) -> str:
        """The text of the page."""
        for _ in range(50):
            with suppress(StaleElementReferenceException, WebDriverException):
                return str(self.driver.find_element(By.CSS_SELECTOR, "[data-testid=stMain]").text)
        return ""

    def wait_for(self, text: str) -> None:
        """Wait until the page shows a text."""
        wait_until(lambda: text in self.text(), f"{text!r} on the page; found {self.text()[:2000]!r}")

    def settled(self) -> None:
        """Wait until the page is rendered."""
        wait_until(lambda: self.find("[data-testid=stApp][data-test-script-state=notRunning]"), "the page to be drawn")

    def click(self, selector: str, text: str) -> None:
        """Wait for the element with a text, and click on it."""

        def clicked() -> bool:
            with suppress(WebDriverException):
                for element in self.find(selector):
                    if text in element.text:
                        element.click()
                        return True
            return False

        wait_until(clicked, f"{text!r} to be clicked")

    def open(self, page: str) -> None:
        """Open a page by its link."""
        self.click("[data-testid=stTopNavLink]", page)
        wait_until(
            lambda: any(
                page in link.text and link.get_attribute("aria-current")
                for link in self.find("[data-testid=stTopNavLink]")
            ),
            f"the page {page}",
        )
        self.settled()

    def in_court(self, selector: str) -> list[WebElement]:
        """Elements of the trust court, which has a document tree of its own."""
        with suppress(WebDriverException):
            for host in self.find(
                "[data-testid=stBidiComponent], [data-testid=stBidiComponentIsolated], .st-key-today_court *"
            ):
                with suppress(WebDriverException):
                    if found := host.shadow_root.find_elements(By.CSS_SELECTOR, selector):
                        return list(found)
        return []

    def playground(self) -> None:
        """Open the playground."""
        self.open("Court")
        self.click(CHOICE, "Playground")
        self.wait_for("scores every shot over REST")
        self.settled()

    def tab(self, name: str) -> None:
        """Open a tab."""
        self.click("[data-testid=stTab], button[role=tab]", name)
        self.settled()

    def problems(self) -> list[str]:
        """Exceptions on the page, and errors in the console of the browser."""
        entries = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        # Opened by its URL, Streamlit probes for its server below the path of the page first.
        severe = [entry["message"] for entry in entries if entry["level"] == "SEVERE"]
        logged = [message for message in severe if "/_stcore/" not in message]
        return [box.text for box in self.find("[data-testid=stException]")] + logged


@pytest.fixture(scope="module")
def monitor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitor]:
    fixture = "real_main" if REAL.is_dir() else "synthetic_main"
    checkout = request.getfixturevalue(fixture)[0].copy(tmp_path_factory.mktemp("monitored") / "copy")
    log = tmp_path_factory.mktemp("log") / "log.db"
    with run_production_server(checkout, workers=1, inference_log=f"sqlite:///{log}") as server:
        port = free_port()
        app = fork_server.start(
            [sys.executable, "-m", "streamlit", "run", "monitor/app.py", "--server.port", str(port)],
            cwd=checkout.folder,
            env=environment() | {"KOBE_ENDPOINT": server.url, "KOBE_INFERENCE_LOG": f"sqlite:///{log}"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until(lambda: _responds(url), "Streamlit to respond")
            with browser_at(tmp_path_factory.mktemp("downloads"), url) as driver:
                yield Monitor(driver, url, checkout, server.url, f"sqlite:///{log}")
        finally:
            end_group(app)


@contextmanager
def browser_at(downloads: Path, url: str) -> Iterator[webdriver.Chrome]:
    """Chromium with the page open; it is restarted once if it exits at startup, as on a machine with little memory."""
    driver = chromium(downloads)
    try:
        driver.get(url)
    except WebDriverException:
        driver.quit()
        driver = chromium(downloads)
        driver.get(url)
    try:
        yield driver
    finally:
        driver.quit()


def chromium(downloads: Path) -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in (
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
        *("--disable-dev-shm-usage", "--window-size=1280,900"),
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    return webdriver.Chrome(options=options, service=Service(str(DRIVER), env=dict(os.environ)))


def _responds(url: str) -> bool:
    with suppress(requests.RequestException):
        return requests.get(f"{url}/_stcore/health", timeout=2).ok
    return False


def test_every_page_opens_without_an_error(monitor: Monitor) -> None:
    for page in PAGES:
        monitor.open(page)
        wait_until(lambda: monitor.find("h1"), f"the heading of {page}")
        assert not monitor.problems(), page


def test_the_first_page_shows_status_cause_and_court(monitor: Monitor) -> None:
    monitor.open("Today")
    monitor.wait_for("Version 1")
    shown = monitor.text()
    assert "What happens next" in shown
    assert "of these shots lie outside anything that version 1 was trained on" in shown
    wait_until(lambda: monitor.in_court(".hex"), "the hexagons of the court")
    assert not monitor.problems()


def test_a_click_on_the_court_shows_the_spot_and_the_seasons_play(monitor: Monitor) -> None:
    monitor.open("Today")
    wait_until(lambda: monitor.in_court(".hex"), "the hexagons of the court")
    [plan] = monitor.in_court("svg.plan")
    plan.click()
    monitor.wait_for("This spot")
    if seasons := monitor.in_court("input[type=range]"):
        last = int(str(seasons[0].get_attribute("max")))
        seasons[0].send_keys(Keys.END)
        wait_until(lambda: "season=" in monitor.driver.current_url, "the season in the URL")
        assert int(str(seasons[0].get_attribute("value"))) == last
    assert not monitor.problems()


def test_the_url_shows_another_person_the_same(monitor: Monitor) -> None:
    monitor.driver.get(f"{monitor.url}/why?section=inputs&lang=pt")
    monitor.wait_for("Distribuições")
    monitor.settled()
    assert monitor.driver.title == "Por quê · kobe_shot"
    monitor.driver.get(monitor.url)
    monitor.wait_for("What happens next")


@pytest.mark.parametrize("former", FORMER)
def test_a_former_url_leads_to_its_page(former: str, monitor: Monitor) -> None:
    monitor.driver.get(f"{monitor.url}/{former}")
    wait_until(lambda: monitor.driver.title == f"{FORMER[former]} · kobe_shot", f"the page {FORMER[former]}")


def test_shots_are_filtered_and_colored(monitor: Monitor) -> None:
    monitor.open("Court")
    monitor.click(CHOICE, "Shots")
    monitor.settled()
    monitor.click(CHOICE, "P(made)")
    monitor.settled()
    table = monitor.checkout.table("predictions_prod")
    monitor.wait_for(f"{len(table):,} of {len(table):,} shots")
    box = monitor.driver.find_element(By.XPATH, "//*[@data-testid='stMultiSelect'][.//*[text()='Result']]//input")
    box.send_keys("made", Keys.ENTER)
    monitor.wait_for(f"{(table['shot_made_flag'] == 1).sum():,} of {len(table):,} shots")
    for view in ("Actual vs. predicted", "Field-goal percentage"):
        monitor.click(CHOICE, view)
        monitor.settled()
        wait_until(lambda: monitor.find(".js-plotly-plot"), "a chart")
    assert not monitor.problems()


@pytest.mark.parametrize(
    ("section", "tabs"),
    [
        ("Labels", ("Curves and calibration", "Slices", "Candidate models", "Metrics")),
        ("Inputs", ("Statistics and thresholds", "Domain classifier", "Shot locations", "Distributions")),
        ("Errors", ()),
    ],
)
def test_every_tab_is_drawn(section: str, tabs: tuple[str, ...], monitor: Monitor) -> None:
    monitor.open("Why")
    monitor.click(CHOICE, section)
    monitor.settled()
    for tab in tabs:
        monitor.tab(tab)
        wait_until(lambda: monitor.find(".js-plotly-plot, [data-testid=stDataFrame]"), f"{tab} to be drawn")
    assert not monitor.problems()


def test_a_shot_and_the_production_set_are_scored_over_rest(monitor: Monitor) -> None:
    monitor.playground()
    monitor.click("button", "Score")
    monitor.wait_for("P(made)")
    monitor.tab("A table of shots")
    monitor.click("button", "Score the production set")
    rows = len(monitor.checkout.table("base_prod"))
    monitor.wait_for(f"{rows:,}")
    assert not monitor.problems()


def test_the_inference_log_shows_traffic_and_no_requests_of_the_app(monitor: Monitor) -> None:
    monitor.playground()
    monitor.tab("A table of shots")
    monitor.click("button", "Score the production set")
    monitor.wait_for("Rows per second")
    monitor.open("Why")
    monitor.click(CHOICE, "Inputs")
    monitor.click(CHOICE, "Inference log")
    monitor.wait_for("log holds no row")
    table, out = (monitor.checkout.folder / name for name in ("data/processed/base_prod.parquet", "scored.parquet"))
    client = (sys.executable, "-m", "serving.client", str(table), "--out", str(out), "--endpoint", monitor.server)
    ok(monitor.checkout.command(*client))
    rows = len(monitor.checkout.table("base_prod"))
    engine = reader.open_log(monitor.log)
    wait_until(lambda: reader.window(engine).rows == rows, "the traffic to be logged")
    monitor.open("System")
    monitor.wait_for("Scoring requests")
    monitor.open("Why")
    monitor.click(CHOICE, "Inputs")
    monitor.wait_for("log:")
    monitor.settled()
    assert not monitor.problems()
    monitor.click(CHOICE, "Latest batch-scoring run")
    monitor.wait_for("the production set:")


def test_a_monitoring_run_that_the_page_starts_goes_on_when_the_page_is_closed(monitor: Monitor) -> None:
    def completed_runs() -> int:
        return sum(
            "health_status" in run.data.tags for run in monitor.checkout.runs() if run.info.run_name == "Monitoramento"
        )

    monitor.open("Today")
    before = completed_runs()
    monitor.click("button", "Re-run monitoring")
    monitor.wait_for("has been running")
    monitor.open("Court")
    wait_until(lambda: completed_runs() > before, "another monitoring run")
    monitor.open("Today")
    monitor.wait_for("ended with exit code 0")
    assert not monitor.problems()


def test_a_dry_run_is_started_and_its_decision_shown(monitor: Monitor) -> None:
    monitor.open("Champions")
    monitor.tab("Retrain and roll back")
    monitor.click("[data-testid=stRadio] label", "Dry run")
    monitor.click("button", "Start the dry run")
    monitor.wait_for("ended with exit code 0")
    monitor.wait_for("dry run")
    for tab in ("Calendar", "Policy backtest", "Decisions"):
        monitor.tab(tab)
    monitor.wait_for("Show a decision")
    assert not monitor.problems()


@pytest.mark.skipif(not AXE.is_file(), reason="needs axe.min.js of the npm package axe-core, whose path is $AXE_CORE")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_violates_wcag_a_or_aa(scheme: str, monitor: Monitor) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    monitor.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    monitor.driver.set_script_timeout(120)
    try:
        for page, *tab in (
            *(
                ("",),
                ("court",),
                ("court?view=playground",),
                ("why",),
                ("why?section=labels",),
                ("why?section=inputs",),
            ),
            *(("champions",), ("system", "Runs"), ("system", "Compare runs")),
        ):
            monitor.driver.get(f"{monitor.url}/{page}")
            wait_until(lambda: monitor.find("h1"), "the heading")
            for name in tab:
                monitor.tab(name)
            monitor.settled()
            monitor.driver.execute_script(AXE.read_text(encoding="utf-8"))
            found = monitor.driver.execute_async_script(RUN_AXE)
            assert [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in found] == [], (page, *tab)
    finally:
        monitor.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        monitor.driver.get(monitor.url)
