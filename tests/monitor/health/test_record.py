"""The record of an evaluation, as JSON and as flat metrics, and the report that shows it."""

import base64
import json
import math
import re
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from data.datasets import Dataset, default
from data.schema import MODEL_VERSION, PROBABILITY, TARGET
from monitor.health import record as recording
from monitor.health.baseline import ReferenceData
from monitor.health.checks import CHECKS
from monitor.health.evaluation import Evaluation, ServingState
from monitor.health.record import flatten_metrics, to_dict
from monitor.health.status import CheckStatus, HealthReport, run_checks
from monitor.metrics.binary import METRICS
from monitor.metrics.names import metric_name, readable
from monitor.reports.monitoring.report import report
from serving.client.probe import EndpointInfo
from tests.evaluations import CHAMPION, NOW, batch, evaluation, population, reference_data

LIVE = ServingState(
    NOW,
    CHAMPION,
    "http://127.0.0.1:5001",
    EndpointInfo("http://127.0.0.1:5001", "7", None, "3.17.2", inference_log=True),
)
HOSTILE = ['<script>alert(1)</script> "><img src=x onerror=alert(1)> {{ 7 * 7 }}', "_x $\\frac{$ and $\\oops$"]
MLFLOW_NAME = re.compile(r"[\w]+")

TABLES: dict[str, Callable[[], pd.DataFrame]] = {
    "labeled": lambda: batch(400).assign(**{MODEL_VERSION: pd.array([7] * 400, dtype="Int64")}),
    "one row": lambda: batch(1),
    "one unlabeled row": lambda: batch(1).assign(**{TARGET: np.nan}),
    "two rows of two kinds": lambda: batch(2).assign(**{TARGET: [0.0, 1.0]}),
    "unlabeled": lambda: batch(60).assign(**{TARGET: np.nan}),
    "all made": lambda: batch(60).assign(**{TARGET: 1.0}),
    "a constant P(made)": lambda: batch(60).assign(**{PROBABILITY: 0.45}),
    "an unavailable estimate": lambda: batch(60).assign(period=10.0),
    "an estimate that is unavailable in part": lambda: pd.concat([batch(60), batch(9).assign(period=10.0)]),
}


class Page(HTMLParser):
    """A page as a browser parses it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Handle an opening tag."""
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Handle a closing tag, which closes the innermost one."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Handle text between tags."""
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        """The visible text, in one line."""
        return " ".join(" ".join(self.words).split())

    @property
    def images(self) -> list[bytes]:
        """Bytes of the embedded images."""
        return [base64.b64decode(value.partition(",")[2]) for name, value in self.attributes if name == "src"]


def evaluated(
    table: pd.DataFrame, *, against: ReferenceData | None = None, name: str = "prod"
) -> tuple[Evaluation, HealthReport]:
    seen = evaluation(table, LIVE, against=against, name=name)
    return seen, run_checks(seen, CHECKS)


@cache
def kind(name: str) -> tuple[Evaluation, HealthReport]:
    """Evaluation and health of a table of ``TABLES``."""
    return evaluated(TABLES[name]())


@pytest.fixture(scope="module")
def labeled() -> tuple[Evaluation, HealthReport]:
    return kind("labeled")


@pytest.fixture(scope="module")
def page(labeled: tuple[Evaluation, HealthReport]) -> str:
    return report(labeled[0], to_dict(*labeled), synthetic=True)


def finite(found: Any) -> bool:  # noqa: ANN401 whatever JSON takes
    if isinstance(found, dict):
        return all(isinstance(name, str) for name in found) and all(map(finite, found.values()))
    if isinstance(found, list):
        return all(map(finite, found))
    return not isinstance(found, float) or math.isfinite(found)


@pytest.mark.parametrize("name", TABLES)
def test_a_record_is_json_without_nan_and_is_read_as_it_was_written(name: str) -> None:
    found = to_dict(*kind(name))
    text = json.dumps(found, allow_nan=False)
    assert json.loads(text) == found
    assert finite(found)


@pytest.mark.parametrize("name", TABLES)
def test_metrics_are_flat_and_finite_with_names_that_mlflow_accepts(name: str) -> None:
    table = kind(name)[0].current
    found = flatten_metrics(to_dict(*kind(name)))
    assert all(MLFLOW_NAME.fullmatch(metric) for metric in found)
    assert all(isinstance(value, float) and math.isfinite(value) for value in found.values())
    assert (found["rows"], found["rows_labeled"]) == (len(table), table[TARGET].notna().sum())


@pytest.mark.parametrize("name", TABLES)
def test_the_report_of_any_table_is_self_contained(name: str) -> None:
    seen, health = kind(name)
    text = report(seen, to_dict(seen, health), synthetic=False)
    shown = Page(text)
    assert shown.open == []
    assert not {"script", "link", "iframe", "object", "base"} & set(shown.tags)
    assert not re.search(r"https?:|url\(|@import|srcset", text.replace(LIVE.endpoint, ""))
    assert not any(name.startswith("on") or name == "href" for name, _ in shown.attributes)
    assert all(value.startswith("data:image/png;base64,") for name, value in shown.attributes if name == "src")
    assert shown.images
    assert all(image.startswith(b"\x89PNG\r\n") for image in shown.images)
    assert "SIMULATED" not in text
    assert not re.search(r"\bnan\b|None|Undefined", shown.text)
    for result in health.results:
        assert result.code in shown.text
        assert " ".join(readable(result.message).split()) in shown.text


def test_a_record_holds_the_status_both_tables_and_the_scoring_version(
    labeled: tuple[Evaluation, HealthReport],
) -> None:
    found = to_dict(*labeled)
    assert found["status"] == str(labeled[1].status)
    assert found["reasons"] == labeled[1].reasons
    assert [check["code"] for check in found["checks"]] == [check.code for check in CHECKS]
    assert found["time"] == "2026-11-22T12:00:00+00:00"
    assert found["current"] == {
        "name": "prod",
        "rows": 400,
        "labeled": 400,
        "in_reference": 0,
        "in_training": 0,
        "own": 0,
        "mean_probability": pytest.approx(labeled[0].labeled[PROBABILITY].mean()),
    }
    assert found["reference"] == {"name": "base_test", "rows": 3_000}
    assert (found["version"], found["versions"], found["excluded"]) == ("7", {"7": 400}, {})
    assert found["champion"] == "7"
    assert found["threshold"] == 0.5


def test_the_values_of_a_record_are_those_of_the_evaluation(labeled: tuple[Evaluation, HealthReport]) -> None:
    seen, found = labeled[0], to_dict(*labeled)
    for side, measured in (("reference", reference_data().performance), ("current", seen.performance)):
        assert list(found["metrics"][side]["metrics"]) == list(METRICS)
        for name, interval in measured.intervals().items():
            expected = {"value": interval.value, "low": interval.low, "high": interval.high}
            assert found["metrics"][side]["metrics"][name] == expected
        assert (found["metrics"][side]["rows"], found["metrics"][side]["rate"]) == (measured.rows, measured.rate)
    assert [
        (row["feature"], row["statistic"], row["value"], row["threshold"]) for row in found["drift"]["statistics"]
    ] == [(each.feature, each.name, each.value, each.threshold) for each in seen.drift.statistics]
    assert found["drift"]["classifier"]["auc"] == seen.drift.classifier.auc  # type: ignore[union-attr]
    assert found["drift"]["out_of_support_rate"] == seen.drift.out_of_support_rate
    assert found["estimate"]["metrics"]["accuracy"]["value"] == seen.estimate.intervals["accuracy"].value
    assert found["estimate"]["actual"]["metrics"]["accuracy"]["value"] == seen.actual_performance.metrics["accuracy"]  # type: ignore[union-attr]
    assert {row["slice"] for row in found["slices"]} == {"distance", "period", "playoffs", "zone"}


def test_metrics_are_the_values_of_the_record_with_their_intervals_and_thresholds(
    labeled: tuple[Evaluation, HealthReport],
) -> None:
    found = to_dict(*labeled)
    flat = flatten_metrics(found)
    for side, prefix in (("reference", "reference"), ("current", "current")):
        for name, interval in found["metrics"][side]["metrics"].items():
            ends = [flat[f"{prefix}_{name}{end}"] for end in ("", "_low", "_high")]
            assert ends == [interval["value"], interval["low"], interval["high"]]
    for row in found["drift"]["statistics"]:
        name = f"{row['statistic']}_{row['feature']}"
        ends = [flat[f"{name}{end}"] for end in ("", "_threshold", "_p_value")]
        assert ends == [row["value"], row["threshold"], row["p_value"]]
    assert flat["mean_difference_lat"] == found["drift"]["mean_difference"]["lat"]
    assert flat["domain_classifier_roc_auc"] == found["drift"]["classifier"]["auc"]
    assert flat["estimated_log_loss_low"] == found["estimate"]["metrics"]["log_loss"]["low"]
    assert flat["alarms"] == len(labeled[1].alarms)
    assert flat["drifted_features"] == len(found["drift"]["drifted"])


def test_unknown_values_are_no_metrics_and_not_zero() -> None:
    flat = flatten_metrics(to_dict(*kind("one unlabeled row")))
    assert not any(name.startswith(("current_", "estimated_", "domain_classifier")) for name in flat)
    one = flatten_metrics(to_dict(*kind("one row")))
    assert "current_log_loss" in one
    assert "current_log_loss_low" not in one
    assert "current_roc_auc" not in one


def test_a_result_that_fails_is_null_and_an_error_and_the_others_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        message = "no court"
        raise RuntimeError(message)

    monkeypatch.setattr("monitor.drift.detector.DriftDetector.compare", fail)
    monkeypatch.setattr(recording, "metrics_by_slice", fail)
    seen, health = evaluated(batch(60))
    found = to_dict(seen, health)
    assert (found["drift"], found["slices"]) == (None, None)
    assert found["metrics"]["current"] is not None
    errors = {check["code"] for check in found["checks"] if check["status"] == CheckStatus.ERROR}
    assert errors == {"K201", "K202", "K203", "K204"}
    assert flatten_metrics(found)["alarms"] >= 4
    assert not any(name.startswith("psi_") for name in flatten_metrics(found))
    text = Page(report(seen, found, synthetic=False)).text
    assert "Drift could not be computed; the checks show the reason." in text
    assert "could not be computed: RuntimeError: no court" in text


def test_a_reference_that_cannot_be_evaluated_is_null_and_an_alarm() -> None:
    table = population().iloc[4_000:4_100].assign(**{TARGET: 2.0})
    seen, health = evaluated(
        batch(60), against=ReferenceData(population().head(500), table, default(), name="base_test")
    )
    found = to_dict(seen, health)
    assert found["metrics"]["reference"] is None
    assert found["estimate"] is None
    assert found["status"] != "healthy"
    assert (
        "The estimate could not be computed; the checks show the reason."
        in Page(report(seen, found, synthetic=False)).text
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_escaped_in_a_report(name: str) -> None:
    reference = ReferenceData(reference_data().training, reference_data().table, default(), name=name)
    seen, health = evaluated(batch(60), against=reference, name=name)
    shown = Page(report(seen, to_dict(seen, health), synthetic=False))
    assert "script" not in shown.tags
    assert not any(attribute.startswith("on") for attribute, _ in shown.attributes)
    assert shown.text.count(name) >= 4
    assert len(shown.images) == 5


def test_messages_of_checks_are_escaped(labeled: tuple[Evaluation, HealthReport]) -> None:
    found = to_dict(*labeled)
    found["checks"][0]["message"] = found["reasons"][0] = "<b onclick=x>worse</b>"
    shown = Page(report(labeled[0], found, synthetic=False))
    assert shown.text.count("<b onclick=x>worse</b>") == 2


def test_a_report_of_synthetic_shots_names_them_so(labeled: tuple[Evaluation, HealthReport], page: str) -> None:
    assert "These shots are SIMULATED, not Kobe Bryant's." in Page(page).text
    assert "SIMULATED" not in report(labeled[0], to_dict(*labeled), synthetic=False)


def test_a_report_shows_the_status_the_metrics_and_the_scoring_version(
    labeled: tuple[Evaluation, HealthReport], page: str
) -> None:
    shown = Page(page)
    assert f"<title>kobe_shot: {labeled[1].status}</title>" in page
    for sentence in (
        *labeled[1].reasons,
        "Version 7 on prod: 400 rows, 400 of them labeled; compared with base_test, scored by the same version.",
        "base_test has 3,000 rows.",
        "Champion: version 7.",
    ):
        assert " ".join(sentence.split()) in shown.text
    for name, interval in labeled[0].performance.intervals().items():
        shown_as = metric_name(name)
        value, low, high = (shown_as.format(end) for end in (interval.value, interval.low, interval.high))
        assert shown_as.label in shown.text
        assert f"{value} {low} to {high}" in shown.text
    assert "too few rows" in shown.text
    assert "mid-court" not in shown.text


def test_a_report_has_five_images_and_one_without_labels_of_both_classes_has_two(page: str) -> None:
    assert len(Page(page).images) == 5
    alts = [value for name, value in Page(page).attributes if name == "alt"]
    assert alts[0].startswith("Trust court. 400 shots, ")
    assert alts[1:] == ["Distributions", "Calibration", "ROC", "Confusion"]
    for name in ("unlabeled", "all made"):
        seen, health = kind(name)
        assert len(Page(report(seen, to_dict(seen, health), synthetic=False)).images) == 2


def test_a_report_shows_why_an_estimate_is_unavailable_above_the_estimate_of_the_supported_rows() -> None:
    seen, health = kind("an estimate that is unavailable in part")
    text = Page(report(seen, to_dict(seen, health), synthetic=False)).text
    assert f"No estimate for the whole table: {seen.estimate.unavailable_reason}." in text
    assert f"For the {seen.estimate.supported} rows inside the training support:" in text
    seen, health = kind("an unavailable estimate")
    assert "an estimate needs 30" in Page(report(seen, to_dict(seen, health), synthetic=False)).text


def test_a_batch_with_the_name_of_the_reference_is_drawn_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[dict[str, pd.DataFrame]] = []

    def draw(samples: dict[str, pd.DataFrame], _columns: list[str], _dataset: Dataset) -> Figure:
        drawn.append(samples)
        return Figure()

    monkeypatch.setattr("monitor.charts.static.densities", draw)
    for name in ("base_test", "train"):
        seen, health = evaluated(batch(60), name=name)
        report(seen, to_dict(seen, health), synthetic=False)
        assert [len(table) for table in drawn.pop().values()] == [4_000, 3_000, 60]


OF_0_1: dict[str, Any] = {
    "format": 1,
    "time": "2026-11-22T12:00:00+00:00",
    "verdict": "watch",
    "reasons": ["Coverage: 51 of 100 rows have no label (51.0%)"],
    "checks": [
        {"code": "K101", "title": "A former title", "status": "fine", "severity": "", "words": "w", "figures": "f"},
        {
            "code": "K106",
            "title": "Another former title",
            "status": "finding",
            "severity": "warning",
            "words": "w",
            "figures": "",
        },
        {
            "code": "K201",
            "title": "Feature drift",
            "status": "finding",
            "severity": "retrain",
            "words": "w",
            "figures": "",
        },
        {"code": "K301", "title": "X", "status": "not applicable", "severity": "", "words": "w", "figures": ""},
        {"code": "K999", "title": "Gone", "status": "error", "severity": "", "words": "w", "figures": ""},
    ],
    "current": {"name": "prod", "rows": 100, "labelled": 49},
    "reference": {"name": "base_test", "rows": 3_000},
    "left_out": {"1": 5},
    "champion": "7",
    "metrics": {"reference": None, "current": None},
    "drift": {
        "alpha": 0.05,
        "drifted": [],
        "statistics": [{"feature": "lat", "statistic": "ks", "value": 0.1, "limit": 0.2, "p_value": 0.5}],
        "mean_difference": {"lat": 0.0},
        "outside": 0.01,
        "outside_limit": 0.02,
        "classifier": {"auc": 0.5, "limit": 0.55, "p_value": 0.4},
    },
    "estimate": {"rows": 100, "supported": 99, "refused": "few", "metrics": {}, "realised": None},
}


def test_a_record_of_0_1_0_is_read_by_the_keys_of_today() -> None:
    found = recording.upgrade(OF_0_1)
    assert set(found) >= recording.RECORD_KEYS
    assert (found["format"], found["status"], found["excluded"]) == (recording.FORMAT, "warning", {"1": 5})
    assert [check["status"] for check in found["checks"]] == ["passed", "warning", "failed", "skipped", "error"]
    assert [check["title"] for check in found["checks"]][:2] == ["Performance degradation", "Label coverage"]
    assert found["checks"][0]["message"] == "w"
    assert found["checks"][0]["details"] == "f"
    assert found["current"]["labeled"] == 49
    assert found["drift"]["statistics"][0]["threshold"] == 0.2
    assert found["drift"]["classifier"]["threshold"] == 0.55
    assert found["estimate"]["unavailable_reason"] == "few"
    flat = flatten_metrics(found)
    assert (flat["out_of_support_rate"], flat["out_of_support_threshold"], flat["alarms"]) == (0.01, 0.02, 3)


def test_a_current_record_is_not_changed(labeled: tuple[Evaluation, HealthReport]) -> None:
    found = to_dict(*labeled)
    assert recording.upgrade(found) == found
