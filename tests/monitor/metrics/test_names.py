from pathlib import Path

import pytest

from data.datasets import VARIABLE
from monitor.metrics.names import column_name, metric_name, readable

ORDERS = """
[dataset]
name = "orders"
positive = "returned"
row = "order"

[columns.order_id]
role = "id"
kind = "integer"

[columns.days_open]
role = "feature"
kind = "integer"

[columns.returned]
role = "target"
kind = "boolean"
"""


def test_columns_of_the_brief_have_their_labels() -> None:
    assert [column_name(name) for name in ("lat", "shot_id", "probability")] == ["Latitude", "Shot", "P(made)"]
    assert readable("lat and shot_distance: probability") == "latitude and shot distance: probability"


def test_columns_of_another_dataset_are_named_by_its_description(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "orders.toml").write_text(ORDERS)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "orders.toml"))
    assert [column_name(name) for name in ("order_id", "probability")] == ["Order", "P(returned)"]
    assert metric_name("ks_probability").label == "KS of P(returned)"
    assert readable("days_open has drifted") == "days open has drifted"
