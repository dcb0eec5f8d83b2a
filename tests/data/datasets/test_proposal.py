from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.datasets import Dataset, load
from data.datasets.proposal import propose
from data.errors import DatasetError

ROWS = 400


@pytest.fixture
def table() -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "Visit-ID": np.arange(ROWS),
            "patient_id": np.repeat(np.arange(ROWS // 4), 4),
            "visited on": pd.date_range("2020-01-01", periods=ROWS).strftime("%Y-%m-%d"),
            "age": random.integers(20, 80, ROWS),
            "weight": np.where(np.arange(ROWS) % 10, random.normal(70, 9, ROWS).round(1), np.nan),
            "smoker": random.choice(["yes", "no"], ROWS),
            "ward": random.choice(["north", "south", "west"], ROWS),
            "note": [f"note {number}" for number in range(ROWS)],
            "country": "BR",
            "outcome": random.choice(["ill", "well"], ROWS, p=[0.3, 0.7]),
        }
    )


def proposed(table: pd.DataFrame, folder: Path, target: str = "") -> tuple[Dataset, str]:
    table.to_csv(folder / "visits.csv", index=False)
    text = propose(folder / "visits.csv", "visits.csv", target)
    (folder / "visits.toml").write_text(text, encoding="utf-8")
    return load(folder / "visits.toml"), text


def test_a_proposal_is_a_valid_description(table: pd.DataFrame, tmp_path: Path) -> None:
    dataset, _ = proposed(table, tmp_path)
    assert dataset.name == "visits"
    assert {column.name: (column.role, column.kind) for column in dataset.columns} == {
        "visit_id": ("id", "integer"),
        "patient_id": ("group", "integer"),
        "visited_on": ("time", "date"),
        "age": ("feature", "integer"),
        "weight": ("feature", "float"),
        "smoker": ("feature", "boolean"),
        "ward": ("feature", "category"),
        "note": ("pass_through", "string"),
        "country": ("pass_through", "category"),
        "outcome": ("target", "category"),
    }
    assert dataset.target.categories == ("well", "ill")
    assert dataset.column("ward").categories == ("north", "south", "west")
    assert [column.name for column in dataset.columns if column.nullable] == ["weight"]
    assert dataset.test.strategy == "group"


def test_each_guess_has_its_reason(table: pd.DataFrame, tmp_path: Path) -> None:
    _, text = proposed(table, tmp_path)
    for reason in (
        "a name of ids, each on 4 rows",
        "dates in the order of the rows",
        "free text",
        "one value",
        "40 nulls",
    ):
        assert reason in text


def test_a_feature_that_separates_the_labels_is_odd(table: pd.DataFrame, tmp_path: Path) -> None:
    table["days_in_hospital"] = np.where(table["outcome"] == "ill", 5, 0) + table.index % 5
    _, text = proposed(table, tmp_path)
    assert "odd: it alone separates the labels" in text.split("[columns.days_in_hospital]")[1].split("[columns.")[0]


def test_the_target_can_be_named(table: pd.DataFrame, tmp_path: Path) -> None:
    dataset, _ = proposed(table, tmp_path, "Smoker")
    assert dataset.target.name == "smoker"
    with pytest.raises(DatasetError, match="two values; age has"):
        proposed(table, tmp_path, "age")
    with pytest.raises(DatasetError, match="found 'nothing', not one of Visit-ID"):
        proposed(table, tmp_path, "nothing")


def test_a_table_without_a_label_is_an_error(table: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="a column with two values"):
        proposed(table[["age", "note"]], tmp_path)


def test_unusual_names_become_names_for_requests(tmp_path: Path) -> None:
    table = pd.DataFrame({"1st ratio (%)": [0.5, 1.5] * 9, "reason": [1, 2, 3] * 6, "_x": [3, 4, 5] * 6})
    table["Klasse"] = [0, 1] * 9
    dataset, _ = proposed(table, tmp_path)
    assert [column.name for column in dataset.columns] == ["c_1st_ratio", "reason_2", "x", "klasse", "row_id"]
    assert dataset.column("c_1st_ratio").raw_name == "1st ratio (%)"


def test_ids_in_camel_case_and_numbers_of_the_rows_are_no_features(tmp_path: Path) -> None:
    numbers = np.arange(ROWS) + 1
    table = pd.DataFrame({"PassengerId": numbers[::-1], "n": numbers, "Pclass": numbers % 3, "Survived": numbers % 2})
    dataset, _ = proposed(table, tmp_path)
    roles = {column.name: column.role for column in dataset.columns}
    assert roles == {"passenger_id": "id", "n": "pass_through", "pclass": "feature", "survived": "target"}
    dataset, _ = proposed(table.drop(columns="PassengerId"), tmp_path)
    assert dataset.id.name == "n"


@pytest.mark.parametrize("unit", [1, 1_000])
def test_the_time_is_in_the_order_of_the_rows_as_a_date_or_as_a_number(tmp_path: Path, unit: int) -> None:
    born = pd.date_range("1950-01-01", periods=ROWS)[::-1].strftime("%Y-%m-%d")
    at = (1_704_067_200 + 4_000 * np.arange(ROWS)) * unit
    table = pd.DataFrame({"born": born, "created_at": at, "x": at % 7, "y": np.arange(ROWS) % 2})
    dataset, text = proposed(table, tmp_path)
    assert dataset.time is not None
    assert (dataset.time.name, dataset.time.kind) == ("created_at", "integer")
    assert "seconds since 1970, 2024-01-01 to 2024-01-19" in text
    assert dataset.column("born").role == "pass_through"


@pytest.mark.parametrize("form", ["%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y"])
def test_dates_in_another_order_are_dates(table: pd.DataFrame, tmp_path: Path, form: str) -> None:
    days = pd.to_datetime(table["visited on"]).dt.strftime(form)
    dataset, text = proposed(table.assign(**{"visited on": days}), tmp_path)
    assert dataset == proposed(table, tmp_path)[0]
    assert "dates, 2020-01-01 to" in text


def test_dates_that_may_mean_two_days_are_named_as_such_and_are_no_categories(
    table: pd.DataFrame, tmp_path: Path
) -> None:
    days = np.where(np.arange(ROWS) % 2, "10/12/2020", "01/02/2021")
    dataset, text = proposed(table.assign(day=days), tmp_path)
    assert dataset.column("day").role == "pass_through"
    assert "dates such as 01/02/2021, which may mean two days: write them as 2013-10-29" in text


@pytest.mark.parametrize(
    ("codes", "kind", "role"),
    [
        ([f"{number:08d}" for number in range(ROWS)], "string", "pass_through"),
        ([f"{number % 5:03d}" for number in range(ROWS)], "category", "feature"),
        ([f"9{number:020d}" for number in range(ROWS)], "string", "pass_through"),
    ],
)
def test_strings_of_digits_that_are_codes_are_no_numbers(
    table: pd.DataFrame, tmp_path: Path, codes: list[str], kind: str, role: str
) -> None:
    dataset, _ = proposed(table.assign(account=codes), tmp_path)
    assert (dataset.column("account").kind, dataset.column("account").role) == (kind, role)
    assert dataset.id.name == "visit_id"


def test_an_id_of_digits_with_zeros_before_them_is_an_id(table: pd.DataFrame, tmp_path: Path) -> None:
    codes = [f"{number:08d}" for number in range(ROWS)]
    dataset, _ = proposed(table.assign(**{"Visit-ID": codes}), tmp_path)
    assert dataset.id.name == "visit_id"


def test_two_columns_of_one_name_are_an_error(table: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="Age and age have the same name, apart from case"):
        proposed(table.assign(Age=table["age"])[["Age", *table]], tmp_path)
