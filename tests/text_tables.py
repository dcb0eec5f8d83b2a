"""The tables of text of a page, as `monitor.ui.widgets.text_table` writes them."""

from xml.etree import ElementTree as ET

import pandas as pd
from streamlit.testing.v1 import AppTest


def text_tables(shown: AppTest) -> list[pd.DataFrame]:
    """Each table of a page, from above; small print follows the rest of its cell after a bar."""
    return [_table(each.value) for each in shown.markdown if each.value.startswith("<table>")]


def _table(text: str) -> pd.DataFrame:
    root = ET.fromstring(text)  # noqa: S314 what the page wrote
    rows = [[" | ".join(cell.itertext()) for cell in row.iter("td")] for row in root.iter("tr")]
    return pd.DataFrame(rows[1:], columns=[cell.text for cell in root.iter("th")])
