"""A table that holds no shots, from its description to a retrained model; and two more columns in the description."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.datasets import load
from data.datasets.proposal import propose
from tests.project import Checkout, copy_project, ok

ROWS = 1_500
FAST = ("--models", "lr", "--n_iter", "1", "--cv_folds", "2")

pytestmark = pytest.mark.slow


def orders() -> pd.DataFrame:
    """Orders with numbers, a boolean, categories, dates, nulls, and several orders of a customer."""
    random = np.random.default_rng(0)
    days = pd.to_timedelta(np.arange(ROWS) // 8, unit="D")
    table = pd.DataFrame(
        {
            "order_id": np.arange(ROWS) + 1,
            "ordered_on": (pd.Timestamp("2024-01-01") + days).strftime("%Y-%m-%d"),
            "customer_id": random.integers(0, ROWS // 6, ROWS),
            "price": random.gamma(2, 30, ROWS).round(2),
            "channel": random.choice(["web", "app", "store"], ROWS),
            "gift": random.choice([True, False], ROWS),
            "weight": np.where(random.random(ROWS) < 0.1, np.nan, random.normal(2, 0.5, ROWS).round(3)),
            "color": random.choice(["red", "green", "blue"], ROWS),
        }
    )
    score = -1 + 0.03 * (table["price"] - 60) + 1.5 * (table["channel"] == "web") + 1.5 * (table["color"] == "red")
    returned = random.random(ROWS) < 1 / (1 + np.exp(-score))
    return table.assign(returned=np.where(returned, "yes", "no"))


def without(text: str, *columns: str) -> str:
    """A description without some features: they pass through."""
    for column in columns:
        head, section = text.split(f"[columns.{column}]", 1)
        section = section.replace('role = "feature"', 'role = "pass_through"', 1).replace("nullable = true", "", 1)
        text = f"{head}[columns.{column}]{section}"
    return text


OF_SHOTS = re.compile(r"(?i)\b(shots?|court|basketball|made|missed|FG%|hoop|arremessos?|cestas?|quadra)\b")


def assert_every_page_is_of_orders(checkout: Checkout, description: Path) -> None:
    """Every page and section, in both languages, opens without an error and in the words of the dataset."""
    done = checkout.command(sys.executable, "-m", "tests.all_pages", KOBE_SHOT_DATASET=str(description))
    ok(done)
    pages = json.loads(done.stdout)
    assert len(pages) == 18
    for name, page in pages.items():
        assert page["exceptions"] == [], name
        assert page["texts"], name
        assert [text for text in page["texts"] if OF_SHOTS.search(text.replace("shot_made_flag", ""))] == [], name


def test_a_description_and_two_more_columns_go_through_every_entry_point(tmp_path: Path) -> None:
    checkout = copy_project(tmp_path / "project")
    table, description = checkout.folder / "orders.csv", checkout.folder / "orders.toml"
    orders().to_csv(table, index=False)
    proposed = propose(table, table.name)
    description.write_text(without(proposed, "weight", "color"), encoding="utf-8")
    assert load(description).feature_names == ("price", "channel", "gift")
    of_dataset = ("--dataset", str(description))

    printed = ok(checkout.step("main", *of_dataset, "--source", str(table), *FAST, "--n_resplits", "1"))
    assert "Decision: orders version 1: passed the gate" in printed
    assert "shot" not in printed.lower().replace("kobe_shot", "")
    assert (checkout.folder / "relatorio_orders" / "relatorio.html").is_file()
    folder = checkout.folder / "data" / "processed" / "orders"
    assert set(pd.read_parquet(folder / "base_train_ids.parquet")) == {"order_id", "customer_id"}

    description.write_text(proposed, encoding="utf-8")
    assert load(description).feature_names == ("price", "channel", "gift", "weight", "color")
    ok(checkout.step("aquisicao", *of_dataset, "--source", str(table)))
    ok(checkout.step("preparacao", *of_dataset))
    ok(checkout.step("treinamento", *of_dataset, *FAST))
    ok(checkout.step("aplicacao", *of_dataset, "--mode", "batch"))
    scored = pd.read_parquet(folder / "predictions_prod.parquet")
    assert scored["model_version"].unique().tolist() == [2]
    assert scored["weight"].isna().any()
    ok(checkout.step("monitoramento", *of_dataset))
    ok(checkout.step("retreino", *of_dataset, "--mode", "dry_run", *FAST))
    assert "Outcome:" in ok(checkout.step("retreino", *of_dataset, "--mode", "force", *FAST))
    assert_every_page_is_of_orders(checkout, description)
    ok(checkout.step("relatorio", *of_dataset, "--n_resplits", "0"))
    backtested = ok(checkout.step("operacao", *of_dataset, "--source", str(table), "--batch_size", "80", *FAST))
    assert "never retrain" in backtested
    assert not OF_SHOTS.search(backtested.replace("kobe_shot", ""))
    ok(checkout.step("reverter", *of_dataset, "--version", "1"))
    assert str(checkout.client().get_model_version_by_alias("orders", "champion").version) == "1"

    description.write_text(without(proposed, "gift"), encoding="utf-8")
    failed = checkout.step("treinamento", *of_dataset, *FAST)
    assert failed.returncode == 1
    assert "found tables with gift: the description has changed since. Run the preparation again" in failed.stderr
    ok(checkout.step("preparacao", *of_dataset))
    assert "rows that are test rows of both, with gift of champion version 1" in ok(
        checkout.step("treinamento", *of_dataset, *FAST)
    )
