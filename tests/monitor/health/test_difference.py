"""How new rows differ from the training rows, in sentences."""

from typing import Any

import pandas as pd
import pytest

from data.datasets import Dataset, Rows, default
from monitor.health.baseline import ReferenceData
from monitor.health.difference import difference, ranges
from monitor.health.evaluation import Evaluation
from tests.evaluations import NO_CHAMPION
from tests.orders import DATASET, orders

AWAY = {"training": [0.0, 10.0, 21.0], "current": [23.0, 25.6, 28.0]}
NEARER = {"training": [0.0, 10.04, 21.0], "current": [0.0, 10.01, 20.0]}


def record(name: str, found: dict[str, Any]) -> dict[str, Any]:
    """A record with one drifted feature."""
    statistic = {"feature": name, "statistic": "psi", "value": 3.0, "threshold": 0.1}
    return {"drift": {"drifted": [name], "statistics": [statistic], "ranges": {name: found}}}


def texts(found: dict[str, Any], dataset: Dataset | None = None) -> list[str]:
    return [each.text() for each in difference(found, dataset)]


@pytest.mark.parametrize(
    ("name", "found", "expected"),
    [
        ("shot_distance", AWAY, "at most 21 feet for 95% of the training shots, at least 23 feet for 95% of these."),
        (
            "shot_distance",
            {"training": AWAY["current"], "current": AWAY["training"]},
            "at least 23 feet for 95% of the training shots, at most 21 feet for 95% of these.",
        ),
        ("shot_distance", NEARER, "on average 10.04 feet for the training shots, 10.01 feet for these."),
        ("playoffs", {"training": [0.15], "current": [0.0]}, "true for 15% of the training shots and 0% of these."),
        (
            "port",
            {"value": "Santos", "training": [0.5], "current": [0.1]},
            "the port: Santos is 50% of the training shots and 10% of these.",
        ),
    ],
)
def test_what_differs_most_is_shown_in_the_unit_of_the_feature(name: str, found: dict[str, Any], expected: str) -> None:
    (text,) = texts(record(name, found))
    assert text.startswith("What differs most is ")
    assert text.endswith(expected)


def test_the_feature_that_is_most_above_its_threshold_is_shown() -> None:
    found = record("shot_distance", AWAY)
    found["drift"]["drifted"].append("period")
    found["drift"]["ranges"]["period"] = {"training": [1.0, 2.0, 4.0], "current": [1.0, 3.0, 4.0]}
    found["drift"]["statistics"].append({"feature": "period", "statistic": "psi", "value": 9.0, "threshold": 0.1})
    assert "the period: on average 2 " in texts(found)[0]


def test_the_model_of_the_brief_was_trained_on_two_point_shots_and_gets_three_point_shots() -> None:
    expected = "It was trained on shots with shot type 2PT Field Goal; these shots have shot type 3PT Field Goal."
    assert texts(record("shot_distance", AWAY), default())[0] == expected


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        ("2013-14", "It was trained on the shots before season 2013-14; these are the shots since then."),
        (13, "It was trained on shots with season below 13; these shots have 13 or more."),
    ],
)
def test_rows_from_a_value_on_are_described_by_it(since: str | int, expected: str) -> None:
    rows = Rows(column="season", since=since)
    dataset = default().model_copy(update={"production": rows, "development": Rows()})
    assert texts(record("shot_distance", AWAY), dataset)[0] == expected


@pytest.mark.parametrize("drift", [None, {"drifted": [], "statistics": []}])
def test_nothing_is_shown_where_nothing_has_drifted(drift: dict[str, Any] | None) -> None:
    assert texts({"drift": drift}, default()) == []


def test_a_record_without_ranges_has_no_sentence_about_a_feature() -> None:
    found = record("shot_distance", AWAY)
    del found["drift"]["ranges"]
    assert texts(found) == []


def test_ranges_hold_numbers_and_shares_of_training_and_current_rows_and_no_dates() -> None:
    training, current = orders(400, seed=1), orders(200, seed=2)
    baseline = ReferenceData(training, orders(300, seed=3), DATASET)
    found = ranges(Evaluation(baseline, current.assign(price=current["price"] + 1_000), NO_CHAMPION))
    assert set(found) == {column.name for column in DATASET.features if column.kind != "date"}
    assert found["price"]["training"] == pytest.approx(
        [training["price"].quantile(0.05), training["price"].mean(), training["price"].quantile(0.95)]
    )
    assert found["price"]["current"][0] > found["price"]["training"][2]
    assert found["express"]["current"] == [pytest.approx(current["express"].astype(float).mean())]
    shares = pd.Series(current["channel"]).value_counts(normalize=True)
    assert found["channel"]["current"] == [pytest.approx(shares[found["channel"]["value"]])]
