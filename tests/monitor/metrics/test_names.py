from dataclasses import replace
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
    assert readable("lat, lng and shot_distance: probability") == "latitude, longitude and shot distance: probability"


def test_columns_of_another_dataset_are_named_by_its_description(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "orders.toml").write_text(ORDERS)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "orders.toml"))
    assert [column_name(name) for name in ("order_id", "probability")] == ["Order", "P(returned)"]
    assert metric_name("ks_probability").label == "KS of P(returned)"
    assert readable("days_open has drifted") == "days open has drifted"


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("current_accuracy", "Accuracy, current"),
        ("accuracy_low", "Accuracy, 95% CI, low"),
        ("accuracy_high", "Accuracy, 95% CI, high"),
        ("test_accuracy_high", "Accuracy, test set, 95% CI, high"),
    ],
)
def test_an_end_of_an_interval_and_a_metric_of_a_sample_are_shown_as_the_metric_is(name: str, label: str) -> None:
    assert metric_name(name) == replace(metric_name("accuracy"), label=label)


def test_thresholds_and_p_values_of_a_drift_statistic_name_their_column() -> None:
    labels = [metric_name(name).label for name in ("ks_shot_distance_threshold", "psi_period_p_value")]
    assert labels == ["KS of shot distance, threshold", "PSI of period, p-value"]


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("log_loss", None, "not defined"),
        ("log_loss", float("nan"), "not defined"),
        ("log_loss", 0.67236, "0.6724"),
        ("accuracy", 0.5961, "59.6%"),
        ("rows", 30_697, "30,697"),
        ("seconds", 2.04, "2.0 s"),
    ],
)
def test_a_value_is_shown_with_the_digits_and_the_unit_of_its_metric(
    name: str, value: float | None, shown: str
) -> None:
    assert metric_name(name).format(value) == shown


def test_a_change_is_for_the_worse_by_the_direction_of_the_metric() -> None:
    worse = {
        ("log_loss", 0.01): True,
        ("log_loss", -0.01): False,
        ("roc_auc", -0.01): True,
        ("roc_auc", 0.01): False,
        ("roc_auc", 0): None,
        ("rows", 5): None,
    }
    assert {(name, change): metric_name(name).is_worse(change) for name, change in worse} == worse
