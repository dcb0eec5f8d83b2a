"""The monitor: ``streamlit run monitor/app.py``. Renders what MLflow and the inference log know; computes nothing."""

import sys
from pathlib import Path

import streamlit as st

# Streamlit puts this folder on the path, not the project's.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from monitor.screens import parts

_PAGES = (
    ("overview", "Overview", ":material/monitor_heart:"),
    ("court", "Court", ":material/sports_basketball:"),
    ("performance", "Performance", ":material/query_stats:"),
    ("drift", "Drift", ":material/moving:"),
    ("without_labels", "Without labels", ":material/help_center:"),
    ("simulator", "Simulator", ":material/play_circle:"),
    ("operation", "Operation", ":material/settings:"),
)


def main() -> None:
    """Draw the chosen page."""
    st.set_page_config(page_title="kobe_shot", page_icon="🏀", layout="wide")
    pages = [
        st.Page(f"screens/{name}.py", title=title, icon=icon, url_path=name, default=name == "overview")
        for name, title, icon in _PAGES
    ]
    page = st.navigation(pages)
    parts.sidebar()
    page.run()


if __name__ == "__main__":
    main()
