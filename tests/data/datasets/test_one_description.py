"""A column that changes in the description changes wherever the column is used."""

import json

import numpy as np
import pytest

from data.datasets import Dataset, default
from data.datasets.loader import find, parse
from data.validation import rejection_reason
from monitor.drift.detector import DriftDetector
from serving.inference_log.inference_log import tables
from serving.model.packaging import feature_constraints, signature
from serving.server import openapi
from tests.evaluations import population


@pytest.fixture(scope="module")
def changed() -> Dataset:
    """The dataset of the brief with another range of a feature, and one more feature."""
    text = find("kobe").read_text(encoding="utf-8")
    before = '[columns.period]\nrole = "feature"\nkind = "integer"\nminimum = 1\nmaximum = 10\n'
    assert before in text
    text = text.replace(before, before.replace("maximum = 10", "maximum = 7"))
    crowd = 'role = "feature"\nkind = "integer"\nminimum = 0\nunit = "thousands"\ndescription = "spectators"\n'
    extra = f"\n[columns.crowd]\n{crowd}"
    return parse((text + extra).encode(), "changed")


def test_a_row_is_validated_by_the_new_range(changed: Dataset) -> None:
    assert rejection_reason(changed.column("period"), 8.0) == "column period: found 8, expected an integer from 1 to 7"


def test_the_signature_and_the_served_ranges_have_the_columns_and_ranges_of_the_description(changed: Dataset) -> None:
    inputs = signature(0.5, changed).inputs
    assert inputs
    assert inputs.input_names() == list(changed.feature_names)
    assert "crowd" in changed.feature_names
    served = {each["name"]: each for each in feature_constraints(changed)}
    assert served["period"]["maximum"] == 7
    assert served["crowd"]["minimum"] == 0


def test_the_openapi_description_has_the_columns_and_ranges_of_the_description(changed: Dataset) -> None:
    text = json.dumps(openapi.description(changed))
    assert "an integer from 1 to 7" in text
    assert "spectators, in thousands" in text
    assert "an integer from 1 to 10" not in text


def test_the_inference_log_has_a_column_per_feature_of_the_description(changed: Dataset) -> None:
    log, _ = tables(changed.feature_names)
    assert "crowd" in log.columns


def test_drift_is_tested_for_each_feature_of_the_description(changed: Dataset) -> None:
    rows = population().head(300).assign(crowd=19.0)
    detector = DriftDetector(rows, np.zeros(len(rows), dtype=bool), changed, samples=20)
    assert {"period", "crowd"} <= set(detector.bins)


def test_a_copy_with_other_columns_finds_those_by_name() -> None:
    dataset = default()
    assert not dataset.column("period").categories
    columns = [
        each.model_copy(update={"categories": ("1", "2")}) if each.name == "period" else each
        for each in dataset.columns
    ]
    assert dataset.model_copy(update={"columns": tuple(columns)}).column("period").categories == ("1", "2")
