"""The navigation and the bar of every page: five pages, and the URLs of former pages, which lead to them."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import streamlit as st

from data.datasets import current
from data.errors import KobeShotError
from monitor.store.model_store import current_store
from monitor.ui import cache, text, url_state, widgets
from monitor.ui.text import _, sentence
from serving import registry

_FOLDER = Path(__file__).parent
TODAY = "today"
_PAGES = (
    (TODAY, "Today"),
    ("court", "Court"),
    ("why", "Why"),
    ("champions", "Champions"),
    ("system", "System"),
)


class _Former(NamedTuple):
    """Where a former page is today."""

    page: str
    selected: dict[str, str]


_FORMER = {
    "overview": _Former(TODAY, {}),
    "shot_chart": _Former("court", {}),
    "performance": _Former("why", {"section": "labels"}),
    "drift": _Former("why", {"section": "inputs"}),
    "estimated_performance": _Former("why", {"section": "estimate"}),
    "retraining": _Former("champions", {}),
    "playground": _Former("court", {"view": "playground"}),
    "runs_and_registry": _Former("system", {}),
}


def show() -> None:
    """Render the selected page."""
    try:
        name, has_court = registry.model(), current().court is not None
    except KobeShotError as error:
        st.error(str(error))
        st.stop()
    url_state.restore(text.LANGUAGE, text.LANGUAGES, text.ENGLISH)
    titles = dict(_PAGES) if has_court else {**dict(_PAGES), "court": "Playground"}
    pages = {
        # Without an icon: the browser would request it from the internet.
        path: st.Page(_FOLDER / f"{path}.py", title=_(title), url_path=path, default=path == TODAY)
        for path, title in titles.items()
    }
    st.session_state[widgets.PAGES] = pages
    former = [
        st.Page(_redirect(pages[to.page], to.selected), title=path, url_path=path, visibility="hidden")
        for path, to in _FORMER.items()
    ]
    page = st.navigation([*pages.values(), *former], position="top")
    # The browser's title names the page and the model.
    st.set_page_config(page_title=f"{page.title} · {name}", page_icon="🏀" if has_court else "📈", layout="wide")
    if page.url_path not in _FORMER:
        widgets.bar()
    # A page itself shows that the store does not respond.
    with suppress(KobeShotError), registry.translate_store_errors():
        widgets.require_store()
        for problem in cache.alias_problems(current_store()):
            st.error(widgets.plain(problem), icon=":material/report:")
    page.run()
    with suppress(KobeShotError):
        if age := cache.log_age():
            st.caption(sentence(f"The inference log was read {age:.0f} s ago; it is being read again."))


def _redirect(page: "st.Page", selected: dict[str, str]) -> Callable[[], None]:
    def redirect() -> None:
        st.switch_page(page, query_params={**st.query_params.to_dict(), **selected})

    return redirect


if __name__ == "__main__":
    show()
