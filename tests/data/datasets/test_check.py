from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.datasets import default, load
from data.datasets.__main__ import DatasetsConfig, run
from data.datasets.check import examine, oddities
from data.errors import KobeShotError, SchemaError

ROWS = 600
TEXT = """
[dataset]
name = "orders"
positive = "returned"
negative = "kept"
[columns.order_id]
role = "id"
kind = "integer"
[columns.ordered_on]
role = "time"
kind = "date"
[columns.customer]
role = "group"
kind = "string"
[columns.price]
role = "feature"
kind = "float"
minimum = 0
[columns.channel]
role = "feature"
kind = "category"
categories = ["app", "store", "web"]
unseen = "reject"
[columns.refund]
role = "feature"
kind = "float"
nullable = true
[columns.returned]
role = "target"
kind = "category"
categories = ["no", "yes"]
"""


@pytest.fixture
def orders() -> pd.DataFrame:
    random = np.random.default_rng(1)
    returned = random.random(ROWS) < 0.4
    return pd.DataFrame(
        {
            "Order ID": np.arange(ROWS) + 1,
            "ordered_on": pd.date_range("2024-01-01", periods=ROWS).strftime("%Y-%m-%d"),
            "customer": [f"c{number // 3}" for number in range(ROWS)],
            "price": random.gamma(2, 30, ROWS).round(2),
            "channel": random.choice(["app", "web"], ROWS),
            "refund": np.where(returned, 10.0, 0.0),
            "returned": np.where(returned, "yes", "no"),
            "note": "x",
        }
    )


def described(folder: Path, text: str = TEXT) -> Path:
    path = folder / "orders.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_brief_has_nothing_odd() -> None:
    assert list(oddities(default())) == []


def test_a_table_is_counted_as_the_pipeline_prepares_it(orders: pd.DataFrame, tmp_path: Path) -> None:
    orders.to_csv(tmp_path / "orders.csv", index=False)
    dataset = load(described(tmp_path))
    result, odd = examine(dataset, tmp_path / "orders.csv", "orders.csv", tmp_path)
    assert result.rows["base_prod"] == 120
    assert result.rows["base_train"] + result.rows["base_test"] == 480
    assert any("columns.refund alone separates the labels" in line for line in odd)
    assert any("channel: no training row has 'store'" in line for line in odd)
    assert any("dropped: note" in line for line in odd)
    assert any("test.strategy is random" in line for line in oddities(dataset))


def test_a_test_of_a_few_rows_is_odd(orders: pd.DataFrame, tmp_path: Path) -> None:
    dataset = load(described(tmp_path))
    orders.head(50).to_csv(tmp_path / "orders.csv", index=False)
    _, odd = examine(dataset, tmp_path / "orders.csv", "orders.csv", tmp_path)
    assert any("metrics of so few rows are chance" in each for each in odd)


def test_a_table_that_violates_the_description_is_an_error(orders: pd.DataFrame, tmp_path: Path) -> None:
    dataset = load(described(tmp_path))
    orders.assign(channel=["fax", *orders["channel"][1:]]).to_csv(tmp_path / "orders.csv", index=False)
    with pytest.raises(SchemaError, match=r"row 0, column channel: found 'fax', expected one of 'app', 'store', 'web'"):
        examine(dataset, tmp_path / "orders.csv", "orders.csv", tmp_path)


def test_a_category_that_is_not_listed_is_valid_unless_the_description_rejects_it(
    orders: pd.DataFrame, tmp_path: Path
) -> None:
    dataset = load(described(tmp_path, TEXT.replace('unseen = "reject"', "")))
    orders.assign(channel=["fax", *orders["channel"][1:]]).to_csv(tmp_path / "orders.csv", index=False)
    result, _ = examine(dataset, tmp_path / "orders.csv", "orders.csv", tmp_path)
    assert sum(result.rejected.values()) == 0


def test_the_command_prints_rows_and_oddities(
    orders: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    orders.to_parquet(tmp_path / "orders.parquet")
    run(DatasetsConfig(action="check", files=[str(described(tmp_path)), str(tmp_path / "orders.parquet")]))
    printed = capsys.readouterr().out
    assert "Orders: 3 features, target returned (returned or kept), id order_id" in printed
    assert "production (0.2 of the rows by time): 120 rows" in printed
    assert "Odd: columns.refund alone separates the labels" in printed


def test_the_command_writes_a_proposal(
    orders: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    orders.to_csv(tmp_path / "orders.csv", index=False)
    run(DatasetsConfig(action="propose", files=[str(tmp_path / "orders.csv")]))
    path = described(tmp_path, capsys.readouterr().out)
    assert load(path).target.name == "returned"


def test_the_command_takes_one_table() -> None:
    with pytest.raises(ValueError, match=r"expected python -m data.datasets propose TABLE; found 2 files"):
        DatasetsConfig(action="propose", files=["a.csv", "b.csv"])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            ("yes", "no", "maybe"),
            r"expected yes or no in returned, or null; found 'maybe' in 200 of 600 rows.*categories",
        ),
        (("yes",), r"expected returned and kept rows; found 600 returned ones only\. Is returned the outcome\?"),
        (("no",), r"found 600 kept ones only"),
    ],
)
def test_a_target_that_has_not_two_values_is_an_error(
    orders: pd.DataFrame, tmp_path: Path, values: tuple[str, ...], expected: str
) -> None:
    orders.assign(returned=np.resize(values, ROWS)).to_csv(tmp_path / "orders.csv", index=False)
    with pytest.raises(KobeShotError, match=expected):
        examine(load(described(tmp_path)), tmp_path / "orders.csv", "orders.csv", tmp_path)


def test_a_missing_column_and_a_repeated_id_come_with_what_to_do(orders: pd.DataFrame, tmp_path: Path) -> None:
    dataset = load(described(tmp_path))
    orders.drop(columns="price").to_csv(tmp_path / "orders.csv", index=False)
    with pytest.raises(SchemaError, match=r"column price missing.*its name there as raw_name in the description"):
        examine(dataset, tmp_path / "orders.csv", "orders.csv", tmp_path)
    orders.assign(**{"Order ID": orders["Order ID"] // 2}).to_csv(tmp_path / "orders.csv", index=False)
    with pytest.raises(SchemaError, match=r"(?s)found twice or more.*give it the role group or pass_through"):
        examine(dataset, tmp_path / "orders.csv", "orders.csv", tmp_path)
