"""The frame around every page: its navigation and the sidebar."""

from pathlib import Path

import mlflow
import streamlit as st

from data.errors import KobeShotError
from monitor.ui import cache, widgets
from serving import registry

_FOLDER = Path(__file__).parent
_PAGES = (
    ("overview", "Overview", ":material/monitor_heart:"),
    ("court", "Court", ":material/sports_basketball:"),
    ("performance", "Performance", ":material/query_stats:"),
    ("drift", "Drift", ":material/moving:"),
    ("without_labels", "Without labels", ":material/help_center:"),
    ("retraining", "Loop", ":material/autorenew:"),
    ("simulator", "Simulator", ":material/play_circle:"),
    ("operation", "Operation", ":material/settings:"),
)


def show() -> None:
    """Draw the chosen page."""
    st.set_page_config(page_title="kobe_shot", page_icon="🏀", layout="wide")
    pages = [
        st.Page(_FOLDER / f"{name}.py", title=title, icon=icon, url_path=name, default=name == "overview")
        for name, title, icon in _PAGES
    ]
    page = st.navigation(pages)
    try:
        registry.model()
    except KobeShotError as error:
        st.error(str(error))
        st.stop()
    widgets.sidebar()
    for problem in cache.alias_problems(mlflow.get_tracking_uri()):
        st.error(widgets.plain(problem), icon=":material/report:")
    page.run()


if __name__ == "__main__":
    show()
