"""Prometheus' configuration, the alert rules and the dashboard of Grafana name metrics that the server has."""

import json
import re
import shutil
import subprocess

import pytest
import yaml

from data.paths import ROOT
from serving.server import metrics

FOLDER = ROOT / "deploy" / "monitoring"
SOURCE = (ROOT / "serving" / "server" / "metrics.py").read_text(encoding="utf-8")
LOG_GAUGES = set(re.findall(r'^            "(\w+)": \("', SOURCE, re.MULTILINE))


def known(name: str) -> bool:
    """Whether the server exports a metric; Prometheus adds ``_total`` and ``_bucket`` itself."""
    if name.startswith("kobe_inference_log_") and name.removeprefix("kobe_inference_log_") in LOG_GAUGES:
        return True
    return f'"{re.sub("_(total|bucket)$", "", name)}"' in SOURCE


def rules() -> list[dict[str, object]]:
    found = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))
    return [rule for group in found["groups"] for rule in group["rules"]]


def expressions() -> list[str]:
    dashboard = json.loads((FOLDER / "grafana" / "kobe_shot.json").read_text(encoding="utf-8"))
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return [*panels, *(str(rule["expr"]) for rule in rules())]


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_names_metrics_of_the_server_and_its_brackets_match(expression: str) -> None:
    assert metrics.__doc__
    names = re.findall(r"\bkobe_\w+", expression.replace('job="kobe_shot"', ""))
    assert all(map(known, names)), names
    assert names or "up{" in expression
    for left, right in ("()", "[]", "{}"):
        assert expression.count(left) == expression.count(right)


def test_every_alert_names_what_to_do() -> None:
    for rule in rules():
        assert re.fullmatch(r"Kobe\w+", str(rule["alert"]))
        assert set(rule["labels"]) == {"severity"}  # type: ignore[call-overload]
        assert set(rule["annotations"]) == {"summary", "action"}  # type: ignore[call-overload]


def test_prometheus_reads_the_rules_and_the_metrics_of_the_server() -> None:
    found = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    assert all((FOLDER / name).exists() for name in found["rule_files"])
    assert found["scrape_configs"][0]["metrics_path"] == "/metrics"


def test_panels_of_the_dashboard_do_not_overlap() -> None:
    panels = json.loads((FOLDER / "grafana" / "kobe_shot.json").read_text(encoding="utf-8"))["panels"]
    places: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not places & cells
        assert max(x for x, _ in cells) < 24
        places |= cells


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool, of Debian's package prometheus")
def test_promtool_takes_the_rules() -> None:
    subprocess.run(["promtool", "check", "rules", str(FOLDER / "alerts.yml")], check=True, capture_output=True)
    subprocess.run(["promtool", "check", "config", str(FOLDER / "prometheus.yml")], check=True, capture_output=True)
