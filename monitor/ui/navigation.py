"""The navigation and the sidebar of every page."""

from contextlib import suppress
from pathlib import Path

import streamlit as st

from data.errors import KobeShotError
from monitor.store.model_store import current_store
from monitor.ui import cache, widgets
from serving import registry

_FOLDER = Path(__file__).parent
_PAGES = (
    ("overview", "Overview", ":material/monitor_heart:"),
    ("shot_chart", "Shot chart", ":material/sports_basketball:"),
    ("performance", "Performance", ":material/query_stats:"),
    ("drift", "Drift", ":material/moving:"),
    ("estimated_performance", "Estimated performance", ":material/online_prediction:"),
    ("retraining", "Retraining", ":material/autorenew:"),
    ("playground", "Playground", ":material/play_circle:"),
    ("runs_and_registry", "Runs and registry", ":material/inventory_2:"),
)


def show() -> None:
    """Render the selected page."""
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
    # A page itself shows that the store does not respond.
    with suppress(KobeShotError), registry.translate_store_errors():
        widgets.require_store()
        for problem in cache.alias_problems(current_store()):
            st.error(widgets.plain(problem), icon=":material/report:")
    page.run()


if __name__ == "__main__":
    show()
