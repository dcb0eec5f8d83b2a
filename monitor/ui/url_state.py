"""What a visitor has selected, in the URL of the page: a link shows another person the same.

A widget keeps its value under its key in the session and as a query parameter, without its default. A query
parameter that changes, because a link was followed, changes the widget.
"""

from collections.abc import Collection

import streamlit as st

_KEPT, _WRITTEN = "kept_{}", "written_{}"


def restore(key: str, options: Collection[str], default: str) -> None:
    """Give a widget its value before it is rendered: from the URL, else the last one, else the default.

    Parameters
    ----------
    key : str
        Widget key and query parameter.
    options : collection of str
        Other values are ignored.
    default : str
    """
    given = st.query_params.get(key)
    if given is not None and given != st.session_state.get(_WRITTEN.format(key)) and given in options:
        st.session_state[key] = given
    kept = st.session_state.get(key) or st.session_state.get(_KEPT.format(key), default)
    st.session_state[key] = kept if kept in options else default


def remember(key: str, default: str) -> str:
    """Put the value of a widget into the URL, and return it; call it after the widget is rendered."""
    value = str(st.session_state.get(key) or default)
    write(key, value, default)
    st.session_state[_KEPT.format(key)] = value
    return value


def write(key: str, value: str, default: str = "") -> None:
    """Put a value into the URL; not the default."""
    st.session_state[_WRITTEN.format(key)] = value
    if value == default:
        if key in st.query_params:
            del st.query_params[key]
    elif st.query_params.get(key) != value:
        st.query_params[key] = value


def read(key: str, default: str = "") -> str:
    """A value of the URL."""
    return str(st.query_params.get(key, default))
