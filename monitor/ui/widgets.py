"""What the pages share: what to look at, where the server is, and how a page says what it lacks."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import plotly.graph_objects as go
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from data.errors import KobeShotError
from serving.client.endpoint import EndpointAddressError, base_url
from serving.registry import RegistryError, reachability, translate_store_errors

Shown = TypeVar("Shown")

ENDPOINT_VARIABLE = "KOBE_ENDPOINT"
"""Environment variable that holds the address of the scoring server that is monitored, and that the pages ask first."""

PROD, LOG = "prod, as last applied", "inference log"
"""What the pages can look at."""
WINDOWS = {
    "all": None,
    "30 days": timedelta(days=30),
    "7 days": timedelta(days=7),
    "24 hours": timedelta(days=1),
    "1 hour": timedelta(hours=1),
}
"""How far back the inference log is looked at."""

_REMEMBERED_SECONDS = 3.0
_DEFAULT_ENDPOINT = "http://127.0.0.1:5001"
_ENDPOINT, _TYPED, _SOURCE, _WINDOW = "endpoint", "endpoint_typed", "source", "window"


def sidebar() -> None:
    """Let a person choose what the pages look at in this browser, and which server they ask."""
    # A browser that changes pages quickly may send the field empty.
    st.session_state[_TYPED] = st.session_state.get(_TYPED) or endpoint()
    with st.sidebar:
        st.radio("Look at", [PROD, LOG], key=_SOURCE)
        if source() == LOG:
            st.selectbox("of the last", list(WINDOWS), key=_WINDOW)
        st.text_input(
            "Scoring server",
            key=_TYPED,
            help="The server that the pages ask in this browser; start one with `make serve`. What is stored for "
            f"everybody is about the configured one, {configured_endpoint()}.",
        )
        try:
            st.session_state[_ENDPOINT] = base_url(str(st.session_state[_TYPED]))
        except EndpointAddressError as error:
            st.error(
                f"No scoring server can be there: {plain(str(error))}.  \nThe pages go on asking {plain(endpoint())}.",
                icon=":material/link_off:",
            )


def source() -> str:
    """What to look at: `PROD` or `LOG`."""
    return str(st.session_state.get(_SOURCE, PROD))


def window() -> timedelta | None:
    """How far back the log is looked at; None for all of it."""
    return WINDOWS[str(st.session_state.get(_WINDOW, "all"))]


def endpoint() -> str:
    """Address of the scoring server that the pages ask in this browser: the one that was typed last and can be one."""
    return str(st.session_state.get(_ENDPOINT) or configured_endpoint())


def configured_endpoint() -> str:
    """Address of the scoring server that this app was started for, whatever a visitor types."""
    try:
        return base_url(os.environ.get(ENDPOINT_VARIABLE) or _DEFAULT_ENDPOINT)
    except EndpointAddressError as error:
        st.error(
            f"{ENDPOINT_VARIABLE} is no address of a scoring server: {plain(str(error))}", icon=":material/link_off:"
        )
        return _DEFAULT_ENDPOINT


def show_prerequisite(what: str, command: str) -> None:
    """Say what a page needs and how to get it."""
    st.info(what, icon=":material/info:")
    st.code(command, language="sh")


def card(column: DeltaGenerator, label: str, value: str, note: str = "", *, meaning: str = "") -> None:
    """A figure with its name, and a note below it."""
    column.metric(
        label, value, note or None, delta_color="off", delta_arrow="off", border=True, height="stretch",
        help=meaning or None,
    )  # fmt: skip


def base_figure(figure: go.Figure, key: str, where: DeltaGenerator | None = None) -> None:
    """A chart without buttons over it."""
    (where or st).plotly_chart(figure, key=key, config={"displayModeBar": False})


def tabs(draw: Mapping[str, Callable[[Shown], None]], shown: Shown, key: str) -> None:
    """Tabs by their names, of which only the open one is drawn."""
    of_all = st.tabs(list(draw), key=key, on_change="rerun")
    name, tab = next((pair for pair in zip(draw, of_all, strict=True) if pair[1].open), (next(iter(draw)), of_all[0]))
    with tab, format_values():
        draw[name](shown)


def plain(text: str) -> str:
    """A text whose signs Markdown does not read."""
    return text.translate({ord(sign): f"\\{sign}" for sign in "\\`*_{}[]<>#$|~"})


@contextmanager
def format_values() -> Iterator[None]:
    """Answer in words, and end the page, where what it needs is missing or broken."""
    try:
        with translate_store_errors():
            require_store()
            yield
    except RegistryError as error:
        show_prerequisite(f"There is nothing to look at yet. {error}", "make main")
        st.stop()
    except KobeShotError as error:
        st.error(str(error), icon=":material/error:")
        st.stop()


def require_store() -> None:
    """Return if the tracking store answers; what is found is believed for seconds, as a page asks often.

    Raises
    ------
    StoreError
        Within seconds, in words.
    """
    reachability.require_answer(remembered=_REMEMBERED_SECONDS)


def simulated() -> None:
    """Say that figures are about invented shots."""
    st.warning("These shots are **simulated**, not Kobe Bryant's: every figure is about invented data.", icon="⚠️")
