"""Pages of a dataset without a court, run by Streamlit."""

import re
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from data.datasets import VARIABLE
from data.paths import ROOT
from data.preparation import manifest
from monitor.ui import cache, scoring, text
from monitor.ui.text import read
from tests.project import PAGE_SECONDS

ORDERS = """
[dataset]
name = "orders"
registered_model = "orders"
positive = "exported"
negative = "domestic"
row = "order"
rows = "orders"
rate = "quota"

[production]
share = 0.2

[columns.number]
role = "id"
kind = "integer"

[columns.weight]
role = "feature"
kind = "float"
minimum = 0
nullable = true

[columns.port]
role = "feature"
kind = "category"

[columns.day]
role = "feature"
kind = "date"

[columns.is_fragile]
role = "feature"
kind = "boolean"

[columns.exported]
role = "target"
kind = "boolean"
"""
OF_SHOTS = re.compile(r"(?i)\b(shots?|court|kobe_shot|basketball|made|missed|FG%|go(?:es)? in|hoop)\b")


@pytest.fixture
def orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Prepared test rows of a dataset that is the one of this process."""
    cache.clear()
    (tmp_path / "orders.toml").write_text(ORDERS)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "orders.toml"))
    monkeypatch.setattr(manifest, "PROCESSED", tmp_path)
    rows = pd.DataFrame(
        {
            "weight": [2.5, None],
            "port": ["Santos", None],
            "day": ["2026-01-31", "2026-02-01"],
            "is_fragile": [1.0, 0.0],
            "exported": [1.0, 0.0],
        }
    )
    path = manifest.prepared_path(manifest.TEST)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(path, index=False)
    return rows


def page() -> AppTest:
    return AppTest.from_file(str(ROOT / "monitor" / "ui" / "court.py"), default_timeout=PAGE_SECONDS).run()


@pytest.mark.usefixtures("orders")
def test_a_form_has_a_field_of_its_kind_for_each_feature_and_starts_with_a_test_row() -> None:
    shown = page()
    assert not shown.exception
    assert [title.value for title in shown.title] == ["Playground"]
    assert [(field.label, field.value) for field in shown.number_input] == [("Weight", 2.5)]
    assert [(field.label, field.value) for field in shown.selectbox] == [("Port", "Santos"), ("Is fragile", 1)]
    assert [(field.label, field.value) for field in shown.date_input] == [("Day", date(2026, 1, 31))]
    assert not shown.error


@pytest.mark.usefixtures("orders")
def test_a_page_without_a_court_is_in_the_words_of_the_dataset() -> None:
    shown = page()
    texts = [element.value for kind in ("title", "caption", "markdown") for element in getattr(shown, kind)]
    assert "**No order has been scored yet.** Fill in the form and press *Score*." in texts
    assert [found for each in texts for found in OF_SHOTS.findall(each)] == []


@pytest.mark.usefixtures("orders")
def test_a_value_is_checked_by_the_description() -> None:
    row: dict[str, scoring.Value] = {"weight": None, "port": "Rio", "day": "2026-01-31", "is_fragile": 2.0}
    assert scoring.problems_of_shot(row) == {"is_fragile": "found 2, expected true or false"}
    assert scoring.problems_of_shot({"weight": -1.0}) == {"weight": "found -1, expected a float of at least 0"}


@pytest.mark.usefixtures("orders")
def test_every_message_has_the_words_of_the_dataset() -> None:
    messages = read(Path(text.__file__).parent / "locale" / "pt_BR" / "LC_MESSAGES" / "monitor.po")
    of_a_court = re.compile("(?i)court|hexagon|zone|feet|distance|farther|locations|from here")
    found = [text._(message) for message in messages if not of_a_court.search(message)]
    assert [each for each in found if OF_SHOTS.search(each)] == []


def test_nulls_of_a_pandas_column_of_strings_are_sent_as_nulls(orders: pd.DataFrame) -> None:
    from serving.client.endpoint import _parquet  # noqa: PLC0415 what is sent

    values = orders[["weight", "port", "day", "is_fragile"]].to_numpy(dtype=object, na_value=float("nan"))
    assert _parquet(values, None)


@pytest.mark.usefixtures("orders", "store")
def test_the_command_for_what_is_missing_is_about_the_dataset() -> None:
    shown = AppTest.from_file(str(ROOT / "monitor" / "ui" / "champions.py"), default_timeout=PAGE_SECONDS).run()
    assert not shown.exception
    assert shown.code[0].value.startswith("KOBE_SHOT_DATASET=")
