"""Widgets that all pages share: the sidebar, cards, tabs, and the messages for what is missing."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import plotly.graph_objects as go
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from data.errors import KobeShotError
from serving.client.endpoint import EndpointURLError, base_url
from serving.registry import RegistryError, reachability, translate_store_errors

Content = TypeVar("Content")

ENDPOINT_VARIABLE = "KOBE_ENDPOINT"
"""Environment variable with the URL of the monitored scoring server, which the pages use by default."""

BATCH, LOG = "Latest batch-scoring run", "Inference log"
"""The data sources of the pages."""
WINDOWS = {
    "all": None,
    "30 days": timedelta(days=30),
    "7 days": timedelta(days=7),
    "24 hours": timedelta(days=1),
    "1 hour": timedelta(hours=1),
}
"""The time windows of the inference log."""

_CACHED_SECONDS = 3.0
_DEFAULT_ENDPOINT = "http://127.0.0.1:5001"
_ENDPOINT, _TYPED, _SOURCE, _WINDOW = "endpoint", "endpoint_typed", "source", "window"


def sidebar() -> None:
    """Let this visitor select the data source of the pages and the scoring server that they use."""
    # A browser that switches pages quickly may send an empty field.
    st.session_state[_TYPED] = st.session_state.get(_TYPED) or endpoint()
    with st.sidebar:
        st.radio("Data source", [BATCH, LOG], key=_SOURCE)
        if source() == LOG:
            st.selectbox("Time window", list(WINDOWS), key=_WINDOW)
        st.text_input(
            "Scoring server",
            key=_TYPED,
            help="URL of the scoring server that the pages use in this browser. Start one with `make serve`. "
            f"Monitoring runs always check the configured server, {configured_endpoint()}.",
        )
        try:
            st.session_state[_ENDPOINT] = base_url(str(st.session_state[_TYPED]))
        except EndpointURLError as error:
            st.error(
                f"This is not the URL of a scoring server: {plain(str(error))}.  \nThe pages keep using "
                f"{plain(endpoint())}.",
                icon=":material/link_off:",
            )


def source() -> str:
    """The selected data source: `BATCH` or `LOG`."""
    return str(st.session_state.get(_SOURCE, BATCH))


def window() -> timedelta | None:
    """The selected time window of the inference log, or None for the whole log."""
    return WINDOWS[str(st.session_state.get(_WINDOW, "all"))]


def endpoint() -> str:
    """URL of the scoring server that the pages use in this browser: the last valid one that was typed."""
    return str(st.session_state.get(_ENDPOINT) or configured_endpoint())


def configured_endpoint() -> str:
    """URL of the scoring server that the app was started with, whatever a visitor types."""
    try:
        return base_url(os.environ.get(ENDPOINT_VARIABLE) or _DEFAULT_ENDPOINT)
    except EndpointURLError as error:
        st.error(
            f"{ENDPOINT_VARIABLE} is not the URL of a scoring server: {plain(str(error))}", icon=":material/link_off:"
        )
        return _DEFAULT_ENDPOINT


def show_prerequisite(what: str, command: str) -> None:
    """Show what a page requires, and the command that creates it."""
    st.info(what, icon=":material/info:")
    st.code(command, language="sh")


def card(column: DeltaGenerator, label: str, value: str, note: str = "", *, meaning: str = "") -> None:
    """A value with its label, and a note below it."""
    column.metric(
        label, value, note or None, delta_color="off", delta_arrow="off", border=True, height="stretch",
        help=meaning or None,
    )  # fmt: skip


def base_figure(figure: go.Figure, key: str, where: DeltaGenerator | None = None) -> None:
    """A chart without the toolbar of plotly."""
    (where or st).plotly_chart(figure, key=key, config={"displayModeBar": False})


def tabs(draw: Mapping[str, Callable[[Content], None]], content: Content, key: str) -> None:
    """Tabs by name; only the open tab is rendered."""
    all_tabs = st.tabs(list(draw), key=key, on_change="rerun")
    name, tab = next(
        (pair for pair in zip(draw, all_tabs, strict=True) if pair[1].open), (next(iter(draw)), all_tabs[0])
    )
    with tab, errors_shown():
        draw[name](content)


def plain(text: str) -> str:
    """Escape the characters that Markdown interprets."""
    return text.translate({ord(sign): f"\\{sign}" for sign in "\\`*_{}[]<>#$|~"})


@contextmanager
def errors_shown() -> Iterator[None]:
    """Show an error message, and stop the page, if what the page requires is missing or damaged."""
    try:
        with translate_store_errors():
            require_store()
            yield
    except RegistryError as error:
        show_prerequisite(f"There is nothing to show yet. {error}", "make main")
        st.stop()
    except KobeShotError as error:
        st.error(str(error), icon=":material/error:")
        st.stop()


def require_store() -> None:
    """Return if the tracking store responds; the result is cached for seconds.

    Raises
    ------
    StoreError
        If the store does not respond within seconds.
    """
    reachability.require_reachable(remembered=_CACHED_SECONDS)


def synthetic_warning() -> None:
    """Warn that the shots are synthetic."""
    st.warning("These shots are **synthetic**, not Kobe Bryant's: no result describes real shots.", icon="⚠️")
