"""Traffic from the metrics of the production server."""

from datetime import UTC, datetime, timedelta

import pytest

from monitor.ui import traffic
from monitor.ui.traffic import Scrape
from tests.project import ProductionServer, free_port

NOW = datetime(2026, 11, 27, 8, tzinfo=UTC)


def scraped(seconds: float, requests: float, slow: float = 0.0) -> Scrape:
    buckets = {0.01: requests - slow, 0.1: requests, float("inf"): requests}
    counts = {("/invocations", "200"): requests, ("/invocations", "400"): slow, ("/ping", "200"): 99.0}
    return Scrape(NOW + timedelta(seconds=seconds), counts, {"1": requests * 2}, buckets)


def test_rates_are_differences_per_second_and_a_restart_counts_from_zero() -> None:
    table = traffic.rates([scraped(0, 100), scraped(10, 150, slow=5), scraped(20, 20)])
    assert table["requests"].tolist() == [5.5, 2.0]
    assert table["rows"].tolist() == [10.0, 4.0]
    assert table["errors_4xx"].tolist() == [0.5, 0.0]
    assert table["p99"].iloc[0] > table["p50"].iloc[0] > 0


def test_a_quantile_without_requests_is_none() -> None:
    assert traffic.quantile({}, 0.5) is None
    assert traffic.quantile({0.1: 0.0, float("inf"): 0.0}, 0.5) is None


@pytest.mark.parametrize("text", ["<html>not metrics</html> {", "kobe_requests_total{path="])
def test_another_text_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 of the library
        traffic.parse(text, NOW)


def test_the_production_server_is_read_and_a_port_without_server_is_none(production_server: ProductionServer) -> None:
    found = traffic.scrape(production_server.url)
    assert found is not None
    assert found.gauges["kobe_open_connections"] >= 1
    assert traffic.scrape(f"http://127.0.0.1:{free_port()}") is None
