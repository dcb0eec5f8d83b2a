"""What the pages share: what to look at, where the server is, and how a page says what it lacks."""

import os

import streamlit as st

ENDPOINT_VARIABLE = "KOBE_ENDPOINT"
"""Environment variable that holds the address of the scoring server that the pages ask first."""

_DEFAULT_ENDPOINT = "http://127.0.0.1:5001"
_ENDPOINT = "endpoint"


def endpoint() -> str:
    """Address of the scoring server, as the sidebar holds it."""
    return str(st.session_state.get(_ENDPOINT) or os.environ.get(ENDPOINT_VARIABLE) or _DEFAULT_ENDPOINT)


def need(what: str, command: str) -> None:
    """Say what a page needs and how to get it."""
    st.info(what, icon=":material/info:")
    st.code(command, language="sh")
